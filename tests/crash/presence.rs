//! Members.

use crate::me;
use crate::support::fork;
use process_shared_core::Presence;

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    presence: Presence,
}

impl Scene {
    fn new() -> Self {
        Scene { presence: Presence::new(2, 100).unwrap() }
    }

    fn enter(&self) {
        self.presence.enter(&me(), Some(b"a name of some length")).unwrap();
    }

    fn leave(&self) {
        assert!(self.presence.leave(&me(), None));
    }

    /// Nobody is here, and as many can enter as into a new one.
    fn assert_works(&self) {
        assert_eq!((self.presence.size(), self.presence.all()), (0, vec![]));
        self.enter();
        let child = fork(|| {
            self.enter();
            i32::from(self.presence.all().len() != 2)
        });
        assert_eq!(child.reap(), 0);
        self.leave();
    }
}

crash_tests! {
    enter => Operation {
        operation: Scene::enter,
        at_the_point: |scene| {
            let seen = scene.presence.all();
            assert!(seen.iter().all(|member| member.name.as_deref() == Some(b"a name of some length")));
        },
        check: Scene::assert_works,
        ..Operation::on(Scene::new)
    },

    leave => Operation {
        prepare: Scene::enter,
        operation: Scene::leave,
        check: Scene::assert_works,
        ..Operation::on(Scene::new)
    },
}
