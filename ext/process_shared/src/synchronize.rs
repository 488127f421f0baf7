//! What `synchronize` does once the lock or permit is taken: runs the block, and gives back what was taken however the
//! block ends.
//!
//! The end of a block runs in the fiber that began it, and so in the thread, unless the block has forked: then it runs in
//! the child too, which took nothing. So the beginning is remembered, with the process it belongs to.

use rb_sys::VALUE;
use std::cell::Cell;

use crate::raw_methods::NIL;
use crate::typed_data::Data;

/// The data of a class with `synchronize`.
pub trait Synchronize: Data {
    /// What the end of a block has to know of its beginning.
    type Begun: Copy;

    /// The beginning, with the lock or permit just taken.
    fn begin(&self) -> Self::Begun;

    /// Whether this is the process that took it, and not a child that was forked in the block.
    fn is_here(begun: Self::Begun) -> bool;

    /// Gives back what was taken, in the process that took it. False if that is a case for `end_slow`.
    fn end(&self, begun: Self::Begun) -> bool;

    /// Gives it back, or raises.
    ///
    /// # Safety
    /// No frame between here and Ruby has anything to drop.
    unsafe fn end_slow(object: VALUE, begun: Self::Begun) -> VALUE;

    /// The end in a child that was forked in the block. False if falling out of the block is an error there, which `end_slow`
    /// raises.
    fn end_in_child(&self, begun: Self::Begun) -> bool;
}

struct Section<'a, T: Synchronize> {
    object: VALUE,
    data: &'a T,
    begun: T::Begun,
    /// The block has ended in a child that was forked in it, and falling out of it is an error there.
    is_error_in_child: Cell<bool>,
}

/// Calls the block of the running method, with what `data` stands for taken at `begun`, and gives that back. Returns what
/// the block returned.
///
/// # Safety
/// `data` is that of `object`. Nothing in this frame or those up to Ruby needs to be dropped: exceptions jump over them.
#[inline(always)]
pub unsafe fn run<T: Synchronize>(object: VALUE, data: &T, begun: T::Begun) -> VALUE {
    let section = Section { object, data, begun, is_error_in_child: Cell::new(false) };
    let argument = &raw const section as VALUE;
    // SAFETY: `section` outlives the call, which runs `end` before anything leaves this frame. With Qundef, `rb_yield`
    // passes the block no argument.
    let result = unsafe {
        rb_sys::rb_ensure(Some(rb_sys::rb_yield), rb_sys::Qundef as VALUE, Some(end::<T>), argument)
    };
    // An exception, a `throw` or the like does not come here, so no error of ours takes its place.
    if section.is_error_in_child.get() {
        // SAFETY: nothing to drop here.
        unsafe { T::end_slow(object, begun) };
    }
    result
}

unsafe extern "C" fn end<T: Synchronize>(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let section = unsafe { &*(section as *const Section<'_, T>) };
    if !T::is_here(section.begun) {
        section.is_error_in_child.set(!section.data.end_in_child(section.begun));
        return NIL;
    }
    if section.data.end(section.begun) {
        return NIL;
    }
    // SAFETY: nothing to drop here.
    unsafe { T::end_slow(section.object, section.begun) }
}
