//! Why a queue does not do what it is asked for.

use std::fmt;

/// Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room, or as many items as there may be.
    Full,
    /// Nothing to take.
    Empty,
    /// `close` was called, and for a taker: the queue is empty.
    Closed,
    /// The item is larger than the queue.
    TooLarge,
    /// As many items are in flight as can be told apart, or as many processes have some.
    TooMany,
    /// The item is not in flight, or not for this process: finished, put back, or handed on.
    NotHeld,
    /// The item is large: taking it needs a member.
    NeedsMember,
    /// The memory does not hold what a queue's does.
    Corrupt,
}

pub use Refusal::Corrupt;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Full => "queue full",
            Refusal::Empty => "queue empty",
            Refusal::Closed => "queue closed",
            Refusal::TooLarge => "the item is larger than the queue",
            Refusal::TooMany => "too many items in flight",
            Refusal::NotHeld => "the item is not in flight in this process",
            Refusal::NeedsMember => "a large item is taken by a member only",
            Refusal::Corrupt => "the queue's memory has been overwritten",
        })
    }
}

impl std::error::Error for Refusal {}
