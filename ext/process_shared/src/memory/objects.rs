//! Whole objects in memory, by Marshal: `put_object get_object write_object read_object`.
//!
//! Writing dumps to a String first: an object that does not fit changes nothing. A large plain String is written
//! without that, as its dump is known beforehand.
//!
//! Reading copies nothing. `Marshal.load` gets a String whose bytes *are* the shared memory, from the object to the end
//! of the window, and stops behind the object. That String is hidden (Ruby code cannot find it, not even through
//! ObjectSpace; Marshal hands out copies of its parts only), and it is emptied before we return. Code that Marshal runs
//! (`marshal_load`, `_load`) may close the memory, never come back or come back twice (`callcc`): the handle is pinned, so
//! it stays mapped for as long as the String can be used. Other processes may write meanwhile: Marshal reads each byte once
//! and trusts no length.

use std::ffi::CStr;
use std::ptr;

use magnus::RClass;
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::RUBY_T_STRING;
use rb_sys::{RBasic, VALUE};

use super::handle::Handle;
use super::number::{index, integer};
use crate::errors::Error;
use crate::raw_methods::{Method0, Method1, Method2, NIL, answer, define, raising, ruby};

/// # Safety
/// `this` is a Pointer.
unsafe fn dump(this: VALUE, offset: i64, object: VALUE) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises. The dump may run any code, so all checks come after it; then nothing runs.
    unsafe {
        let handle = Handle::of(this);
        handle.check()?;
        if let Some(head) = Head::of(object) {
            return put_string(this, offset, object, &head);
        }
        let text = raising(|| rb_sys::rb_marshal_dump(object, NIL))?;
        handle.check_writable(this)?;
        let length = RSTRING_LEN(text) as i64;
        let address = room(handle, offset, length)?;
        ptr::copy_nonoverlapping(RSTRING_PTR(text).cast::<u8>(), address, length as usize);
        // Nobody else has the String: its memory can be had back now.
        rb_sys::rb_str_resize(text, 0);
        Ok(integer(length))
    }
}

/// The address of `length` bytes at `offset` for an object; the error says how much it needs and how much there is.
fn room(handle: &Handle, offset: i64, length: i64) -> Result<*mut u8, Error> {
    handle.bytes(offset, length).map_err(|error| {
        let Ok(window) = handle.check() else { return error };
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

/// What Marshal writes around the bytes of a String that is nothing but a String.
struct Head {
    before: [u8; 10],
    used: usize,
    after: &'static [u8],
}

/// Strings of fewer bytes are left to Marshal; above, copying them only once is worth a path of its own.
const LARGE: usize = 4096;

impl Head {
    /// None for everything that Marshal has to look at itself.
    fn of(object: VALUE) -> Option<Head> {
        // SAFETY: any object; the rest is asked once it is known to be a String, which has a class and a length.
        let plain = unsafe {
            RB_TYPE_P(object, RUBY_T_STRING)
                && RSTRING_LEN(object) as usize >= LARGE
                && (*(object as *const RBasic)).klass == rb_sys::rb_cString
                && rb_sys::rb_ivar_count(object) == 0
        };
        if !plain || customized(object) {
            return None;
        }
        // SAFETY: it is a String.
        let length = unsafe { RSTRING_LEN(object) } as usize;
        // SAFETY: a String has an encoding; these three always exist.
        let (own, binary, utf8, ascii) = unsafe {
            let own = rb_sys::rb_enc_get_index(object);
            let (binary, utf8) = (rb_sys::rb_ascii8bit_encindex(), rb_sys::rb_utf8_encindex());
            (own, binary, utf8, rb_sys::rb_usascii_encindex())
        };
        let (start, after): (&[u8], &[u8]) = match own {
            own if own == binary => (b"\x04\x08\"", b""),
            own if own == utf8 => (b"\x04\x08I\"", b"\x06:\x06ET"),
            own if own == ascii => (b"\x04\x08I\"", b"\x06:\x06EF"),
            _ => return None,
        };
        // The length: how many bytes it takes, then those, the lowest first. Marshal knows no more than 4.
        let digits = u32::try_from(length).ok().filter(|&length| length < 1 << 30)?.to_le_bytes();
        let count = digits.iter().rposition(|&digit| digit != 0)? + 1;
        let mut head = Head { before: [0; 10], used: start.len() + 1 + count, after };
        head.before[..start.len()].copy_from_slice(start);
        head.before[start.len()] = count as u8;
        head.before[start.len() + 1..head.used].copy_from_slice(&digits[..count]);
        Some(head)
    }
}

/// True where somebody taught String to dump itself.
fn customized(object: VALUE) -> bool {
    // SAFETY: names of methods; looking them up on a plain String runs no Ruby code.
    unsafe {
        let method =
            |name: &CStr| rb_sys::rb_obj_respond_to(object, rb_sys::rb_intern(name.as_ptr()), 1) != 0;
        method(c"marshal_dump") || method(c"_dump")
    }
}

/// # Safety
/// `this` is a Pointer and `object` a String.
unsafe fn put_string(this: VALUE, offset: i64, object: VALUE, head: &Head) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises; `bytes` has checked the whole range.
    unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let (before, length) = (&head.before[..head.used], RSTRING_LEN(object) as usize);
        let all = before.len() + length + head.after.len();
        let start = room(handle, offset, all as i64)?;
        ptr::copy_nonoverlapping(before.as_ptr(), start, before.len());
        ptr::copy_nonoverlapping(RSTRING_PTR(object).cast(), start.add(before.len()), length);
        ptr::copy_nonoverlapping(head.after.as_ptr(), start.add(before.len() + length), head.after.len());
        Ok(integer(all as u64))
    }
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

/// # Safety
/// `this` is a Pointer, and no frame up to Ruby owns anything.
unsafe fn load(this: VALUE, offset: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises. The String points to checked bytes, which stay mapped until it is empty.
    // Emptying it touches none of them: it becomes one with a place of its own.
    unsafe {
        let handle = Handle::of(this);
        let size = handle.check()?.size as i64;
        let length = if (0..=size).contains(&offset) { size - offset } else { 1 };
        let address = handle.bytes(offset, length)?; // refuses what lies outside
        refuse_zeroes(address, offset, length)?;
        let window = rb_sys::rb_obj_hide(rb_sys::rb_str_new_static(address.cast(), length as _));
        if length > 0 {
            handle.pin();
        }
        let object = raising(|| rb_sys::rb_marshal_load(window));
        // Only who comes back first finds it as it was made.
        if RSTRING_LEN(window) > 0 {
            rb_sys::rb_str_resize(window, 0);
            handle.unpin(this);
        }
        object
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
