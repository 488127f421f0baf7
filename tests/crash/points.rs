//! The points of an operation: the steps from its first instruction to its last, in the order of a first run.

use crate::tracer::{Victim, kill_at, trace};
use std::cell::RefCell;
use std::collections::HashMap;

/// How far apart the points tried are where a row does not say, and how many of them are tried at most.
pub const SPREAD: usize = 53;
const MOST: usize = if cfg!(feature = "simulated-mach") { 25 } else { usize::MAX };

/// How many rounds of a loop are tried: those that clear a table are all alike, and a breakpoint stops in each.
const ROUNDS: usize = 100;

/// One run of an operation.
pub struct Run<'a> {
    /// The step before which the child is killed. `None`: the first run, which notes the trace and goes to the end.
    point: Option<usize>,
    trace: &'a RefCell<Vec<u64>>,
}

impl Run<'_> {
    /// Forks the victim and kills it at this run's point.
    pub fn kill(&self, victim: &Victim) {
        match self.point {
            None => *self.trace.borrow_mut() = trace(victim),
            Some(point) => kill_at(victim, &self.trace.borrow()[..=point]),
        }
    }
}

/// Does `scenario` for the trace, then for each n-th point, from the first on, and for the last; n is `CRASH_STRIDE`, or
/// else `spread`. Prints how many points there are and how many were tried.
pub fn each_point(name: &str, spread: usize, scenario: impl Fn(&Run)) {
    let trace = RefCell::new(Vec::new());
    let run = |point| {
        let context = Context(name, point);
        scenario(&Run { point, trace: &trace });
        std::mem::forget(context);
    };
    run(None);
    let points = in_first_rounds(&trace.borrow());
    let count = points.len();
    let stride = std::env::var("CRASH_STRIDE").ok().and_then(|stride| stride.parse().ok());
    let stride = stride.unwrap_or_else(|| spread.max(count / MOST));
    let tried = points.iter().enumerate().filter(|(number, _)| number % stride == 0 || number + 1 == count);
    println!("{name}: killed at {} of {count} points", tried.map(|(_, point)| run(Some(*point))).count());
}

/// The points of a trace that are not in a later round of a loop than `ROUNDS`.
fn in_first_rounds(trace: &[u64]) -> Vec<usize> {
    let mut passes = HashMap::new();
    let is_early = |place: &u64| {
        let passes = passes.entry(*place).or_insert(0);
        *passes += 1;
        *passes <= ROUNDS
    };
    let early: Vec<bool> = trace.iter().map(is_early).collect();
    (0..trace.len()).filter(|point| early[*point]).collect()
}

/// Says where it was when a scenario panics.
struct Context<'a>(&'a str, Option<usize>);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        eprintln!("{}: failed at point {:?}", self.0, self.1);
    }
}
