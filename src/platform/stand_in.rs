//! A native thread that does nothing but live, and owns locks in place of a thread of the program that moves between
//! native threads: the kernel knows owners, and tells of their death, by native threads alone.
//!
//! Its `Thread` is used by one thread of the program at a time, on whatever native thread that runs. It lives until the
//! `StandIn` is dropped, or the process ends. It is not there in forked children: `is_here` tells.
//!
//! When the process is killed, stand-in and the thread it stands for die one after the other, some microseconds apart.

use super::{Thread, fork_depth};
use crate::error::{Error, Result};
use std::mem::ManuallyDrop;
use std::sync::mpsc::{Sender, channel};

const STACK: usize = 64 * 1024;

/// A `Thread` on its way to another native thread.
struct Parcel(Thread);
// SAFETY: the thread it was taken from outlives whoever uses it, and does nothing with its own `Thread`.
unsafe impl Send for Parcel {}

/// See above.
pub struct StandIn {
    thread: Thread,
    born: u32,
    end: ManuallyDrop<Sender<()>>,
}

impl StandIn {
    /// Starts one.
    ///
    /// # Errors
    /// `System` if there is no thread to be had.
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
        Ok(StandIn { thread, born: fork_depth(), end: ManuallyDrop::new(end) })
    }

    /// The owner of locks. Not to be used where `is_here` is false.
    pub fn thread(&self) -> Thread {
        self.thread
    }

    /// False in a child forked since it was started.
    pub fn is_here(&self) -> bool {
        self.born == fork_depth()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: dropped once, here. In a child nobody is at the other end, and its state may be a torn copy.
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
