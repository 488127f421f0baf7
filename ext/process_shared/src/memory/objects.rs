//! Whole objects in memory, by Marshal: `put_object get_object write_object read_object`.
//!
//! Writing dumps to a String first: an object that does not fit changes nothing.
//!
//! Reading copies nothing. `Marshal.load` gets a String whose bytes *are* the shared memory, from the object to the end
//! of the window, and stops behind the object. That String is hidden (Ruby code cannot find it, not even through
//! ObjectSpace; Marshal hands out copies of its parts only), and it is emptied before we return. Code that Marshal runs
//! (`marshal_load`, `_load`) may close the memory or never come back: a pin keeps it mapped for as long as the String
//! is on a stack. Other processes may write meanwhile: Marshal reads each byte once and trusts no length.

use std::hint::black_box;
use std::ptr;

use magnus::{Error, RClass};
use rb_sys::VALUE;
use rb_sys::macros::{RSTRING_LEN, RSTRING_PTR};

use super::handle::Handle;
use super::number::{index, integer};
use crate::bind::{Method0, Method1, Method2, NIL, answer, define, raising};

/// # Safety
/// `this` is a Pointer.
unsafe fn dump(this: VALUE, offset: i64, object: VALUE) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises. The dump may run any code, so all checks come after it; then nothing runs.
    unsafe {
        let handle = Handle::of(this);
        handle.check()?;
        let text = raising(|| rb_sys::rb_marshal_dump(object, NIL))?;
        handle.check_writable(this)?;
        let length = RSTRING_LEN(text) as i64;
        let address = handle.bytes(offset, length)?;
        ptr::copy_nonoverlapping(RSTRING_PTR(text).cast::<u8>(), address, length as usize);
        // Nobody else has the String: its memory can be had back now.
        raising(|| rb_sys::rb_str_resize(text, 0))?;
        Ok(integer(length))
    }
}

/// # Safety
/// `this` is a Pointer.
unsafe fn load(this: VALUE, offset: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises. The String points to checked bytes, which `pin` keeps mapped until it is empty.
    unsafe {
        let handle = Handle::of(this);
        let size = handle.check()?.size as i64;
        let length = size.saturating_sub(offset);
        let address = handle.bytes(offset, length)?;
        let pin = handle.pin(this)?;
        let window = raising(|| rb_sys::rb_obj_hide(rb_sys::rb_str_new_static(address.cast(), length as _)))?;
        let object = raising(|| rb_sys::rb_marshal_load(window));
        let emptied = raising(|| rb_sys::rb_str_resize(window, 0));
        black_box(pin);
        emptied.and(object)
    }
}

unsafe extern "C" fn put_object(this: VALUE, offset: VALUE, object: VALUE) -> VALUE {
    // SAFETY: `this` is a Pointer (rule 3 of bind.rs); so below.
    answer(|| unsafe { dump(this, index(offset)?, object) })
}

unsafe extern "C" fn write_object(this: VALUE, object: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { dump(this, 0, object) })
}

unsafe extern "C" fn get_object(this: VALUE, offset: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { load(this, index(offset)?) })
}

unsafe extern "C" fn read_object(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { load(this, 0) })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "put_object", put_object as Method2)?;
    define(class, "write_object", write_object as Method1)?;
    define(class, "get_object", get_object as Method1)?;
    define(class, "read_object", read_object as Method0)
}
