//! Whole objects in memory, by Marshal: `put_object get_object write_object read_object`.
//!
//! Writing dumps to a String first: an object that does not fit changes nothing. A large plain String is
//! written without that, as its dump is known beforehand.
//!
//! Reading copies nothing. `Marshal.load` gets a String whose bytes *are* the shared memory, from the object
//! to the end of the window, and stops behind the object. That String is hidden (Ruby code cannot find it,
//! not even through ObjectSpace; Marshal hands out copies of its parts only), and it is emptied before we
//! return. Code that Marshal runs (`marshal_load`, `_load`) may close the memory, never come back or come
//! back twice (`callcc`): the handle is pinned, so it stays mapped for as long as the String can be used.
//! Other processes may write meanwhile: Marshal reads each byte once and trusts no length.

use std::ptr;

use magnus::RClass;
use rb_sys::VALUE;
use rb_sys::macros::{RSTRING_LEN, RSTRING_PTR};

use super::arguments::index;
use super::marshal_string::Head;
use super::number::integer;
use super::this::{This, This0, This1, This2, define};
use crate::errors::Error;
use crate::raw_methods::{NIL, answer, raising, ruby};

/// The dump may run any code, so all checks come after it; then nothing runs.
fn dump(this: This, offset: i64, object: VALUE) -> Result<VALUE, Error> {
    this.check()?;
    if let Some(head) = Head::of(object) {
        return put_string(this, offset, object, &head);
    }
    // SAFETY: any object; what it raises is caught.
    let text = raising(|| unsafe { rb_sys::rb_marshal_dump(object, NIL) })?;
    this.check_writable()?;
    // SAFETY: Marshal gave a String.
    let length = unsafe { RSTRING_LEN(text) } as i64;
    let address = room(this, offset, length)?;
    // SAFETY: `room` has checked the range. Nobody else has the String: its memory can be had back at once.
    unsafe {
        ptr::copy_nonoverlapping(RSTRING_PTR(text).cast::<u8>(), address, length as usize);
        rb_sys::rb_str_resize(text, 0);
    }
    Ok(integer(length))
}

/// The address of `length` bytes at `offset` for an object; the error says how much it needs and how much
/// there is.
fn room(this: This, offset: i64, length: i64) -> Result<*mut u8, Error> {
    this.bytes(offset, length).map_err(|error| {
        let Ok(window) = this.check() else { return error };
        let left = (window.size as i64).saturating_sub(offset);
        if !(0..length).contains(&left) {
            return error;
        }
        let text = format!(
            "Memory access offset={offset} size={length} is out of bounds: the object takes {length} bytes, \
             and there are {left}"
        );
        Error::new(ruby().exception_index_error(), text)
    })
}

/// Writes the String `object`, which has this head.
fn put_string(this: This, offset: i64, object: VALUE, head: &Head) -> Result<VALUE, Error> {
    this.check_writable()?;
    // SAFETY: a Head is only of a String.
    let (before, length) = (head.before(), unsafe { RSTRING_LEN(object) } as usize);
    let all = before.len() + length + head.after.len();
    let start = room(this, offset, all as i64)?;
    // SAFETY: `room` has checked the whole range.
    unsafe {
        ptr::copy_nonoverlapping(before.as_ptr(), start, before.len());
        ptr::copy_nonoverlapping(RSTRING_PTR(object).cast(), start.add(before.len()), length);
        ptr::copy_nonoverlapping(head.after.as_ptr(), start.add(before.len() + length), head.after.len());
    }
    Ok(integer(all as u64))
}

/// Marshal's first bytes are its version, which is never 0.0.
fn refuse_zeroes(address: *const u8, offset: i64, length: i64) -> Result<(), Error> {
    // SAFETY: `bytes` has checked `length` bytes at `address`.
    if length < 2 || unsafe { [address.read_volatile(), address.add(1).read_volatile()] } != [0, 0] {
        return Ok(());
    }
    let text = format!("no object at offset {offset}: nothing has been written there");
    Err(Error::new(ruby().exception_type_error(), text))
}

fn load(this: This, offset: i64) -> Result<VALUE, Error> {
    let size = this.check()?.size as i64;
    let length = if (0..=size).contains(&offset) { size - offset } else { 1 };
    let address = this.bytes(offset, length)?; // refuses what lies outside
    refuse_zeroes(address, offset, length)?;
    // SAFETY: the String points to checked bytes, which stay mapped until it is empty. Emptying it touches
    // none of them: it becomes one with a place of its own. No frame up to Ruby owns anything.
    unsafe {
        let window = rb_sys::rb_obj_hide(rb_sys::rb_str_new_static(address.cast(), length as _));
        if length > 0 {
            this.pin();
        }
        let object = raising(|| rb_sys::rb_marshal_load(window));
        // Marshal may come back more than once; only the first time the String is as it was made.
        if RSTRING_LEN(window) > 0 {
            rb_sys::rb_str_resize(window, 0);
            this.unpin();
        }
        object
    }
}

extern "C" fn put_object(this: This, offset: VALUE, object: VALUE) -> VALUE {
    answer(|| dump(this, index(offset)?, object))
}

extern "C" fn write_object(this: This, object: VALUE) -> VALUE {
    answer(|| dump(this, 0, object))
}

extern "C" fn get_object(this: This, offset: VALUE) -> VALUE {
    answer(|| load(this, index(offset)?))
}

extern "C" fn read_object(this: This) -> VALUE {
    answer(|| load(this, 0))
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "put_object", put_object as This2)?;
    define(class, "write_object", write_object as This1)?;
    define(class, "get_object", get_object as This1)?;
    define(class, "read_object", read_object as This0)
}
