//! Locks and memory shared between forked processes. No Ruby in it: the binding is `ext/process_shared`.
//!
//! `word`, `lock`, `semaphore`, `robust_semaphore`, `event`, `latch`, `barrier`, `limiter`, `participants`, `condition`,
//! `queue` and `map` are the protocols, over a `Kernel` that is passed in; `platform` is the real one; `arena` is where
//! shared objects live; `objects` puts them together. `memory` stands alone: shared bytes. DESIGN.md tells the whole story.

#[cfg(not(loom))]
pub mod arena;
mod atomic;
pub mod barrier;
pub mod condition;
pub mod deadline;
pub mod error;
pub mod event;
#[cfg(not(loom))]
pub mod file;
pub mod kernel;
pub mod latch;
pub mod limiter;
pub mod lock;
pub mod map;
#[cfg(not(loom))]
pub mod memory;
#[cfg(not(loom))]
pub mod objects;
pub mod participants;
pub mod platform;
pub mod presence;
pub mod queue;
pub mod read_write_lock;
#[cfg(not(loom))]
mod redo;
pub mod robust_semaphore;
pub mod semaphore;
#[cfg(not(loom))]
mod spin;
pub mod turn;
pub mod word;

pub use condition::Condition;
pub use deadline::Deadline;
pub use error::{Error, Result};
pub use lock::Outcome;
#[cfg(not(loom))]
pub use objects::*;
pub use participants::Ticket;
#[cfg(not(loom))]
pub use platform::Thread;

/// Prepares for forks. To be called once before other threads use this crate: a fork in the middle of the first call
/// would leave the child without.
#[cfg(not(loom))]
pub fn init() {
    arena::register_atfork();
    file::register_atfork();
}
