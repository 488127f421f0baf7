//! A native thread that does nothing but live. It owns locks in place of a thread of the program that moves between
//! native threads, because the kernel knows owners, and notices their death, by native threads alone.
//!
//! One thread of the program at a time uses its `Thread`, on whatever native thread it runs. The stand-in lives until
//! the `StandIn` is dropped, or the process ends. Forked children do not have it: `is_here` tells.
//!
//! When the process is killed, the stand-in and the thread it stands for die some microseconds apart.

use super::{Thread, fork_depth};
use crate::error::{Error, Result};
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Sender, channel};

const STACK: usize = 64 * 1024;

/// A `Thread` on its way to another native thread.
struct Parcel(Thread);
// SAFETY: the stand-in outlives those who use its `Thread`, and does not use it itself.
unsafe impl Send for Parcel {}

/// See above.
pub struct StandIn {
    thread: Thread,
    /// Of the process that started it.
    fork_depth: u32,
    /// The stand-in ends when this is dropped.
    end: ManuallyDrop<Sender<()>>,
}

impl StandIn {
    /// Starts a stand-in.
    ///
    /// # Errors
    /// `System` if the system has no thread left.
    pub fn start() -> Result<Self> {
        let (introduce, introduced) = channel();
        let (end, ended) = channel::<()>();
        let body = move || {
            let _ = introduce.send(Thread::current().map(Parcel));
            let _ = ended.recv(); // an error, once the other half is dropped
        };
        let builder = std::thread::Builder::new().name("owner of locks".to_owned()).stack_size(STACK);
        without_signals(|| builder.spawn(body)).map_err(|error| Error::System {
            attempt: "a thread to own locks",
            errno: error.raw_os_error().unwrap_or(libc::EAGAIN),
        })?;
        let Parcel(thread) = introduced
            .recv()
            .map_err(|_| Error::System { attempt: "a thread to own locks", errno: libc::EAGAIN })??;
        Ok(StandIn { thread, fork_depth: fork_depth(), end: ManuallyDrop::new(end) })
    }

    /// The owner of locks. Only to be used where `is_here` is true.
    pub fn thread(&self) -> Thread {
        self.thread
    }

    /// False in a child of the process that started it.
    pub fn is_here(&self) -> bool {
        self.fork_depth == fork_depth()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: dropped once, here. (In a child there is no thread to end, and the channel may be a torn copy.)
            unsafe { ManuallyDrop::drop(&mut self.end) };
        }
    }
}

/// Runs `action` with all signals blocked, so that a thread it starts handles none.
fn without_signals<T>(action: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are this frame's, and filled in before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = action();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}
