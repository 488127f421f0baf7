//! A queue of items of bytes between processes: first in, first out, and no item is lost with a process that dies.
//!
//! | file          | idea                                                                              |
//! |---------------|-----------------------------------------------------------------------------------|
//! | `layout`      | where everything is in the memory                                                 |
//! | `words`       | the words that change in one store                                                |
//! | `blocks`      | the memory of all items: uniform blocks, linked                                   |
//! | `cursor`      | bytes from block to block                                                         |
//! | `log`         | the items nobody has taken                                                        |
//! | `writers`     | large items on their way in                                                       |
//! | `in_flight`   | items taken for a time, and those that came back                                  |
//! | `gather`      | small ones of them moved together                                                 |
//! | `members`     | the processes that have some, and their death; `participant`: this process's      |
//! | `robust`      | a word whose holder's death is seen                                               |
//! | `gate`        | where takers and pushers wait                                                     |
//! | `trim`        | memory from the system, and back to it                                            |
//! | `operations`  | push, pop, take: what the others are put together to                              |
//! | `short`       | the same for short items, which most are                                          |
//!
//! One lock guards the queue; `Critical` is its holder. Whoever finds it left by a dead holder makes the writes that one had
//! decided on, and everything is in order: an operation that was not decided on has changed nothing.
//!
//! | state     | push      | take from an empty queue |
//! |-----------|-----------|--------------------------|
//! | open      | if room   | `Empty`                  |
//! | closed    | `Closed`  | `Closed`                 |
//!
//! Invariants:
//! - An item is in the log, in flight for one living or dead member, or among those that came back: in one of them.
//! - Payloads of large items are copied without the lock, all else is short.
//! - What the memory holds is not trusted: see `layout`.

pub mod gate;

#[cfg(not(loom))]
mod blocks;
#[cfg(not(loom))]
mod cursor;
#[cfg(not(loom))]
mod gather;
#[cfg(not(loom))]
mod in_flight;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod log;
#[cfg(not(loom))]
mod members;
#[cfg(not(loom))]
mod operations;
#[cfg(not(loom))]
mod participant;
#[cfg(not(loom))]
mod refusal;
#[cfg(not(loom))]
mod robust;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod short;
#[cfg(not(loom))]
mod trim;
#[cfg(not(loom))]
mod words;
#[cfg(not(loom))]
mod writers;

#[cfg(all(test, not(loom)))]
pub use layout::layout;
#[cfg(not(loom))]
pub use {
    in_flight::Taken,
    operations::{Popped, Pushed},
    participant::Participant,
    refusal::Refusal,
    shared::{Critical, Queue},
    short::Short,
    writers::Reservation,
};
