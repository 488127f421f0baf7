//! What the protocols of this crate need of the operating system, and nothing more.
//!
//! Each platform gives the same names. `linux` is for real futexes and robust lists, `macos` for Mach semaphores, also
//! over a model of the Mach kernel (feature `simulated-mach`). `model` is the model checker's; it gives only what the
//! protocols use. Both models are in `models/`, outside of what the gem ships.
//!
//! | name                                       | contract                                                           |
//! |--------------------------------------------|--------------------------------------------------------------------|
//! | `Thread`                                   | the calling thread as an owner of locks: a `Kernel`, `Copy`, not `Send` |
//! | `Thread::introduce`                        | asks the system who the calling thread is                          |
//! | `Thread::pid`                              | its process                                                        |
//! | `Thread::is_here`                          | false in children of that process                                  |
//! | `Thread::may_hold_more`                    | whether it holds fewer than `MAX_HELD` locks                       |
//! | `Thread::held`                             | the `Entry` of every lock it holds, newest first, and maybe others |
//! | `Thread::disown`                           | makes a lock in a file, which others have written to, not held     |
//! | `Memo`, `Thread::memo`, `Thread::recall`   | a `Thread` as a thread-local keeps it; `None` if it was a parent's |
//! | `Thread::NOBODY`                           | the memo of a thread that has not been introduced                  |
//! | `Entry`                                    | what a word adds to itself while it is held; all zeroes is valid   |
//! | `WORD_FROM_NEXT`                           | where an entry is from its futex word                              |
//! | `OWNER`, `OWNER_DIED`, `WAITERS`           | the bits of a futex word                                           |
//! | `MAX_HELD`                                 | the most locks of one thread                                       |
//! | `process_of`                               | the process of a living thread, by the number in lock words        |
//! | `register_atfork`                          | to be called before the first fork; may be called again            |
//! | `fork_depth`                               | differs between a process and those it was forked from             |
//! | `forked`                                   | called in a forked child, with the epoch that begins in it         |
//! | `prepare_to_share`                         | to be called before there is anonymous memory that processes share |
//! | `attach_os`, `detach_os`, `SLOT_TAIL`      | what a slot of shared memory needs besides its memory              |
//! | `epoch_of_bare`                            | the fork epoch of a slot without that, as those in files are       |
//! | `is_accessible`                            | whether this process can use what was made in that fork epoch      |
//! | `OUT_OF_REACH`                             | for users: why it cannot                                           |
//!
//! Two counters tell processes apart. The fork epoch (`fork_epoch`) steps in parent and child: a slot made in an earlier
//! epoch may be known to another process. The fork depth steps in the child alone: what was noted at another depth is
//! the parent's.
//!
//! Common to the platforms that are real: `current` remembers the calling thread, `StandIn` is a thread that owns locks
//! for others, a `guardian` one that does so for the process, and `map` and `unmap` are for pages that forked children share.

#[cfg(all(target_os = "linux", not(loom), not(feature = "simulated-mach")))]
mod linux;
#[cfg(all(target_os = "linux", not(loom), not(feature = "simulated-mach")))]
pub use linux::*;
#[cfg(not(loom))]
mod current;
#[cfg(not(loom))]
pub mod fork_epoch;
#[cfg(not(loom))]
pub(crate) mod fork_lock;
#[cfg(not(loom))]
pub use fork_lock::ProcessLocal;
#[cfg(not(loom))]
pub mod guardian;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
pub use mapping::{map, unmap};
#[cfg(not(loom))]
mod stand_in;
#[cfg(not(loom))]
pub use stand_in::StandIn;

#[cfg(all(not(loom), any(target_os = "macos", feature = "simulated-mach")))]
mod macos;
#[cfg(all(not(loom), any(target_os = "macos", feature = "simulated-mach")))]
pub use macos::*;

#[cfg(loom)]
#[path = "../../models/loom.rs"]
mod model;
#[cfg(loom)]
pub use model::*;

/// Why a `wait` came back. None of these says that the word has any particular value now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A `wake` chose this thread, or the word did not have the expected value.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal was handled by this thread.
    Interrupted,
}
