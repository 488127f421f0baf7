//! A row of an object's table: an operation, and what the survivors of its death do and check.

use crate::me;
use crate::points::{Run, SPREAD, each_point};
use crate::tracer::Victim;

/// All functions get the scene. The victim is a forked child, so it shares the scene's objects and has a copy of the rest.
pub struct Operation<S> {
    /// Makes the scene, anew for each point.
    pub set_up: fn() -> S,
    /// In the victim, before its steps count.
    pub prepare: fn(&S),
    /// In the victim: it is killed at each instruction of this.
    pub operation: fn(&S),
    /// Called when the victim is about to take its first step.
    pub ready: fn(&S),
    /// Called each time the victim has fallen asleep, with the number of times before: must make it wake up.
    pub asleep: fn(&S, usize),
    /// Called when the victim has come to the point, before it is killed.
    pub at_the_point: fn(&S),
    /// Called when the victim is dead.
    pub check: fn(&S),
    /// How far apart the points are that are tried by default.
    pub spread: usize,
}

impl<S> Operation<S> {
    /// A row that is empty but for its scene, and whose victim never sleeps.
    pub fn on(set_up: fn() -> S) -> Self {
        Operation {
            set_up,
            prepare: |_| {},
            operation: |_| {},
            ready: |_| {},
            asleep: |_, _| panic!("the victim sleeps"),
            at_the_point: |_| {},
            check: |_| {},
            spread: SPREAD,
        }
    }

    pub fn kill_at_each_point(&self, name: &str) {
        each_point(name, self.spread, |run: &Run| {
            let scene = (self.set_up)();
            run.kill(&Victim {
                prepare: &|| {
                    me(); // so that becoming known to the kernel is no step of the operation
                    (self.prepare)(&scene);
                },
                operation: &|| (self.operation)(&scene),
                ready: &|| (self.ready)(&scene),
                asleep: &|naps| (self.asleep)(&scene, naps),
                at_the_point: &|| (self.at_the_point)(&scene),
            });
            (self.check)(&scene);
        });
    }
}

/// An object's table: makes a test of each row.
macro_rules! crash_tests {
    ($($(#[$doc:meta])* $name:ident => $operation:expr,)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            $operation.kill_at_each_point(concat!(module_path!(), "::", stringify!($name)));
        }
    )*};
}
