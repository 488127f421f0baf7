//! What `synchronize` of Mutex and Monitor does once the lock is held: runs the block, and gives the lock back however
//! the block ends.
//!
//! The end of a block runs in the fiber that began it. So it remembers that fiber instead of asking for it again; which
//! thread this is it does ask, because the block may have forked.

use rb_sys::VALUE;

use crate::mutex::{self, MutexData};
use crate::thread;

struct Section<'a> {
    object: VALUE,
    data: &'a MutexData,
    fiber: usize,
}

/// Calls the block of the running method, with one level of `object`'s lock held, and gives that level back. Returns what
/// the block returned.
///
/// # Safety
/// `data` is that of `object`, whose lock the calling fiber holds. Nothing in this frame or those up to Ruby needs to be
/// dropped: exceptions jump over them.
#[inline]
pub unsafe fn run(object: VALUE, data: &MutexData) -> VALUE {
    let section = Section { object, data, fiber: data.fiber() };
    // SAFETY: called within a method; `section` outlives the call, which runs `end` before anything leaves this frame.
    unsafe {
        rb_sys::rb_ensure(Some(yield_nothing), rb_sys::Qnil as VALUE, Some(end), &raw const section as VALUE)
    }
}

/// Calls the block of the running method.
pub unsafe extern "C" fn yield_nothing(_: VALUE) -> VALUE {
    // SAFETY: called within a method that has a block, or else it raises.
    unsafe { rb_sys::rb_yield_values2(0, std::ptr::null()) }
}

unsafe extern "C" fn end(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let Section { object, data, fiber } = unsafe { &*(section as *const Section<'_>) };
    if let (Some(mutex), Some(thread)) = (data.reached(), thread::known()) {
        if data.is_owned_by(mutex, &thread, *fiber) {
            data.step_out(mutex, &thread);
            return rb_sys::Qnil as VALUE;
        }
    }
    // SAFETY: a method's receiver.
    unsafe { mutex::leave_slowly(*object) }
}
