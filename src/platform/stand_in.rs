//! A native thread that does nothing but live. It owns locks in place of a thread of the program that moves between
//! native threads, because the kernel knows owners, and notices their death, by native threads alone.
//!
//! One thread of the program at a time uses its `Thread`, on whatever native thread it runs. The stand-in lives until
//! the `StandIn` is dropped, or the process ends. Forked children do not have it: `is_here` tells.
//!
//! When the process is killed, the stand-in and the thread it stands for die some microseconds apart.

use super::{Thread, fork_depth};
use crate::error::{Error, Result};
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of stack. The C library refuses the first where the program's thread-local variables fill it.
const STACKS: [usize; 2] = [256 << 10, 2 << 20];

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

// SAFETY: one thread of the program at a time uses the `Thread`, and may do so on any native thread.
unsafe impl Send for StandIn {}

/// The stand-in's ends of two channels: it introduces itself by one, and lives until the other is closed.
struct Life {
    introduce: Sender<Result<Parcel>>,
    ended: Receiver<()>,
}

impl StandIn {
    /// Starts a stand-in.
    ///
    /// # Errors
    /// `System` if the system has no thread left.
    pub fn start() -> Result<Self> {
        let (introduce, introduced) = channel();
        let (end, ended) = channel();
        let failed = |errno| Error::System { attempt: "a thread to own locks", errno };
        without_signals(|| start(Life { introduce, ended })).map_err(failed)?;
        let Parcel(thread) = introduced.recv().map_err(|_| failed(libc::EAGAIN))??;
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

/// Starts a native thread. `std::thread::spawn` would not do: its threads take a lock of the standard library, and another
/// thread of the parent may have held that lock at the fork that made this process.
///
/// # Errors
/// The errno of pthread_create(3).
fn start(life: Life) -> std::result::Result<(), c_int> {
    let argument = Box::into_raw(Box::new(life));
    let mut errno = libc::EINVAL;
    for stack in STACKS {
        // SAFETY: the attributes are initialized before they are used, and destroyed once. If a thread is started, it owns the
        // argument.
        errno = unsafe {
            let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
            let mut thread: libc::pthread_t = std::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
            let mut errno = libc::pthread_attr_setstacksize(&raw mut attributes, stack);
            if errno == 0 {
                errno = libc::pthread_create(&raw mut thread, &raw const attributes, live, argument.cast());
            }
            libc::pthread_attr_destroy(&raw mut attributes);
            errno
        };
        match errno {
            0 => return Ok(()),
            libc::EINVAL => {}
            _ => break,
        }
    }
    // SAFETY: no thread was started, so the argument is still this function's.
    drop(unsafe { Box::from_raw(argument) });
    Err(errno)
}

/// The life of a stand-in.
extern "C" fn live(argument: *mut c_void) -> *mut c_void {
    let name = c"owner of locks";
    // SAFETY: names the calling thread.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), name.as_ptr())
    };
    // SAFETY: as above.
    #[cfg(target_os = "macos")]
    unsafe {
        libc::pthread_setname_np(name.as_ptr())
    };
    // SAFETY: `start` made it for this thread alone.
    let life = unsafe { Box::from_raw(argument.cast::<Life>()) };
    let _ = life.introduce.send(Thread::current().map(Parcel));
    let _ = life.ended.recv(); // an error, once the other half is dropped
    ptr::null_mut()
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
