//! What `synchronize` of Mutex and Monitor does once the lock is held: runs the block, and gives the lock back however
//! the block ends.
//!
//! The end of a block runs in the fiber that began it, and so in the thread, unless the block has forked. So it remembers
//! both instead of asking for them again.

use rb_sys::VALUE;

use process_shared_core::{Thread, platform::fork_depth};

use crate::mutex::{self, MutexData};
use crate::thread;

struct Section<'a> {
    object: VALUE,
    data: &'a MutexData,
    fiber: usize,
    thread: Option<Thread>,
    /// Of the process that `thread` belongs to.
    fork_depth: u32,
}

/// Calls the block of the running method, with one level of `object`'s lock held, and gives that level back. Returns what
/// the block returned.
///
/// # Safety
/// `data` is that of `object`, whose lock the calling fiber holds. Nothing in this frame or those up to Ruby needs to be
/// dropped: exceptions jump over them.
#[inline]
pub unsafe fn run(object: VALUE, data: &MutexData) -> VALUE {
    let (thread, fork_depth) = (thread::known(), fork_depth());
    let section = Section { object, data, fiber: data.fiber(), thread, fork_depth };
    // SAFETY: `section` outlives the call, which runs `end` before anything leaves this frame.
    unsafe { yield_and(end, &raw const section as VALUE) }
}

/// Calls the block of the running method, and then `end` with `argument`, however the block ends.
///
/// # Safety
/// Called within a method that has a block; exceptions may jump over the frames up to Ruby.
#[inline(always)]
pub unsafe fn yield_and(end: unsafe extern "C" fn(VALUE) -> VALUE, argument: VALUE) -> VALUE {
    // SAFETY: the caller's promise. With Qundef, `rb_yield` passes the block no argument.
    unsafe { rb_sys::rb_ensure(Some(rb_sys::rb_yield), rb_sys::Qundef as VALUE, Some(end), argument) }
}

unsafe extern "C" fn end(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let Section { object, data, fiber, thread, fork_depth: before } =
        unsafe { &*(section as *const Section<'_>) };
    let thread = if fork_depth() == *before { *thread } else { thread::known() };
    if let (Some(mutex), Some(thread)) = (data.reached(), thread) {
        if data.is_owned_by(mutex, &thread, *fiber) {
            data.step_out(mutex, &thread);
            return rb_sys::Qnil as VALUE;
        }
    }
    // SAFETY: a method's receiver.
    unsafe { mutex::leave_slowly(*object) }
}
