//! What the protocols of this crate need of the operating system, and nothing more.
//!
//! Each platform gives the same names:
//! - `Thread`: the calling thread as an owner of locks, and the way to tell the kernel what it holds and what it is
//!   in the middle of, so that its death is noticed;
//! - `wait` and `wake` on a 32-bit word of shared memory;
//! - `attach_os` and `detach_os`: what a slot of shared memory needs besides its memory, and `is_accessible`: whether a process has it;
//! - `map` and `unmap` of zero-filled pages that forked children share.

#[cfg(all(target_os = "linux", not(loom), not(feature = "simulated-mach")))]
mod linux;
#[cfg(all(target_os = "linux", not(loom), not(feature = "simulated-mach")))]
pub use linux::*;
#[cfg(not(loom))]
mod current;
#[cfg(not(loom))]
mod stand_in;
#[cfg(not(loom))]
pub use stand_in::StandIn;

#[cfg(all(not(loom), any(target_os = "macos", feature = "simulated-mach")))]
mod macos;
#[cfg(all(not(loom), any(target_os = "macos", feature = "simulated-mach")))]
pub use macos::*;

#[cfg(loom)]
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
