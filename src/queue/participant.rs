//! This process's membership in a queue, and the thread that keeps it.

use super::Queue;
use super::refusal::Refusal;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::lock::Outcome;
use crate::platform::{StandIn, Thread};

/// A membership. In a child forked later it is nobody's: `is_here` is false, and the child joins by itself.
pub struct Participant {
    keeper: StandIn,
    member: u32,
}

impl Participant {
    /// Makes this process a member of `queue`, until `leave` or its end.
    ///
    /// # Errors
    /// `System` if there is no thread to be had; inside, `TooMany` if no more processes can take part.
    pub fn join(queue: &Queue, thread: &Thread) -> Result<std::result::Result<Self, Refusal>> {
        let keeper = StandIn::start()?;
        let member = queue.enter_anyway(thread).join(&keeper.thread(), thread.pid());
        Ok(member.map(|member| Participant { keeper, member }))
    }

    /// The member's number, for `take`.
    pub fn member(&self) -> u32 {
        self.member
    }

    /// Whether it is this process's.
    pub fn is_here(&self) -> bool {
        self.keeper.is_here()
    }

    /// Ends the membership. What this process has in flight comes back.
    ///
    /// # Errors
    /// `NotHeld` in a forked child, or if the queue's lock did not come free before `deadline`.
    pub fn leave(self, queue: &Queue, deadline: Option<Deadline>) -> std::result::Result<(), Refusal> {
        if !self.is_here() {
            return Err(Refusal::NotHeld);
        }
        let keeper = self.keeper.thread(); // a finalizer has no other
        loop {
            match queue.enter(&keeper, deadline) {
                Ok(critical) => return critical.leave(&keeper, self.member),
                Err(Outcome::Interrupted) => {}
                Err(_) => return Err(Refusal::NotHeld),
            }
        }
    }
}
