//! `with_read_lock`, `with_write_lock` and `with_upgradable_lock`: the lock is given back however the block ends.

use magnus::{Ruby, Value, method};
use process_shared_core::Thread;
use rb_sys::VALUE;

use super::{ReadWriteLockData, acquire_read_lock, acquire_write_lock};
use crate::errors::Error;
use crate::raw_methods::{self, NIL, slow};
use crate::thread;
use crate::typed_data::of;

/// Raises ArgumentError, as concurrent-ruby does, if the running method was called without a block.
///
/// # Safety
/// Called within a method; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn require_block() {
    // SAFETY: the caller's promise.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eArgError, c"no block given".as_ptr());
        }
    }
}

/// A block with the lock held.
struct Section {
    object: VALUE,
    /// The thread that began it.
    thread: Option<Thread>,
    end: fn(&Ruby, Value) -> Result<(), Error>,
}

/// # Safety
/// As `synchronize::run`.
unsafe fn run(object: VALUE, end: fn(&Ruby, Value) -> Result<(), Error>) -> VALUE {
    let section = Section { object, thread: thread::known(), end };
    let argument = &raw const section as VALUE;
    // SAFETY: `section` outlives the call, which runs `end_of` before anything leaves this frame.
    unsafe { rb_sys::rb_ensure(Some(rb_sys::rb_yield), rb_sys::Qundef as VALUE, Some(end_of), argument) }
}

/// A child that was forked in the block holds nothing, and gives nothing back. A handle that was closed in it may have done so.
unsafe extern "C" fn end_of(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let section = unsafe { &*(section as *const Section) };
    if !section.thread.is_some_and(|thread| thread.is_here()) {
        return NIL;
    }
    raw_methods::answer(|| {
        let object = raw_methods::value(section.object);
        let ended = (section.end)(&raw_methods::ruby(), object);
        if of::<ReadWriteLockData>(object).shared.is_closed() { Ok(NIL) } else { ended.map(|()| NIL) }
    })
}

pub(super) unsafe extern "C" fn with_read_lock(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        require_block();
        acquire_read_lock(object);
        run(object, |ruby, object| {
            let data = of::<ReadWriteLockData>(object);
            if let (Some(lock), Some(thread)) = (data.shared.usable(), thread::known())
                && data.end_read_fast(lock, &thread)
            {
                return Ok(());
            }
            data.end_read(ruby)
        })
    }
}

pub(super) unsafe extern "C" fn with_write_lock(object: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe {
        require_block();
        slow(object, method!(acquire_write_lock, 0));
        run(object, |ruby, object| of::<ReadWriteLockData>(object).end_write(ruby))
    }
}

pub(super) unsafe extern "C" fn with_upgradable_lock(object: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe {
        require_block();
        slow(object, method!(acquire_turn, 0));
        run(object, |ruby, object| of::<ReadWriteLockData>(object).end_turn(ruby))
    }
}

fn acquire_turn(ruby: &Ruby, object: Value) -> Result<(), Error> {
    of::<ReadWriteLockData>(object).acquire_turn(ruby, object)
}
