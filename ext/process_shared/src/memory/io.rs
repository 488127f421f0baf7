//! The core of `ProcessShared::SharedMemoryIO`: `read` and `write` at a position in memory. All else is Ruby
//! (lib/process_shared/shared_memory_io.rb). Native because a piece of 4 KB is copied faster than Ruby calls
//! a method.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use magnus::rb_sys::AsRawValue;
use magnus::{Ruby, Value, method, prelude::*};
use rb_sys::VALUE;
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN};
use rb_sys::ruby_value_type::RUBY_T_STRING;

use super::arguments::{check_type, index};
use super::bytes;
use super::cursor::Cursor;
use super::number::integer;
use crate::classes;
use crate::errors::{self, Error};
use crate::raw_methods::{Method0, Method1, MethodN, NIL, answer, arguments, define, module, raising, ruby};
use crate::typed_data;

unsafe extern "C" fn initialize(this: VALUE, memory: VALUE) -> VALUE {
    // SAFETY: `this` is a SharedMemoryIO (rule 3 of raw_methods.rs), and `answer` owns nothing; so below.
    answer(|| unsafe {
        let cursor: &Cursor = typed_data::get(this);
        if cursor.is_attached() {
            return Err(errors::already_initialized(&ruby(), "ProcessShared::SharedMemoryIO"));
        }
        cursor.attach(this, memory).map(|()| NIL)
    })
}

unsafe extern "C" fn initialize_copy(_this: VALUE, _original: VALUE) -> VALUE {
    answer(|| {
        Err(Error::new(
            ruby().exception_type_error(),
            "can't copy SharedMemoryIO: make another one over the same memory (mem)",
        ))
    })
}

/// `reopen(memory = the same)`
unsafe extern "C" fn reopen(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let cursor = Cursor::of(this)?;
        let memory = arguments(argc, argv, 0, 1)?.first().copied().unwrap_or(cursor.memory());
        cursor.attach(this, memory)?;
        Ok(this)
    })
}

unsafe extern "C" fn memory(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { Ok(Cursor::of(this)?.open()?.memory()) })
}

unsafe extern "C" fn size(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { Ok(integer(Cursor::of(this)?.open()?.size.load(Relaxed))) })
}

unsafe extern "C" fn position(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { Ok(integer(Cursor::of(this)?.open()?.position.load(Relaxed))) })
}

unsafe extern "C" fn set_position(this: VALUE, offset: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let cursor = Cursor::of(this)?.open()?.unfrozen(this)?;
        let wanted = index(offset)?;
        if wanted < 0 {
            return Err(errors::system(&ruby(), "negative position", libc::EINVAL));
        }
        cursor.position.store(wanted, Relaxed);
        Ok(offset)
    })
}

/// `read(length = nil, buffer = nil)`
unsafe extern "C" fn read(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let given = arguments(argc, argv, 0, 2)?;
        let cursor = Cursor::of(this)?.readable(this)?;
        let buffer = given.get(1).copied().filter(|&buffer| buffer != NIL);
        if let Some(buffer) = buffer {
            check_type(buffer, RUBY_T_STRING)?;
            raising(|| rb_sys::rb_str_modify(buffer))?; // a frozen one is refused before anything is read
        }
        let wanted = match given.first() {
            None | Some(&NIL) => None,
            Some(&length) => Some(index(length)?),
        };
        if wanted.is_some_and(|length| length < 0) {
            let text = format!("negative length {} given", wanted.unwrap_or(0));
            return Err(Error::new(ruby().exception_arg_error(), text));
        }
        let left = cursor.left();
        if left == 0 && wanted.is_some_and(|length| length > 0) {
            if let Some(buffer) = buffer {
                raising(|| rb_sys::rb_str_resize(buffer, 0))?;
            }
            return Ok(NIL);
        }
        let text = match wanted.unwrap_or(left).min(left) {
            0 => rb_sys::rb_str_new(std::ptr::null(), 0),
            length => cursor.take(length)?,
        };
        match buffer {
            None => Ok(text),
            Some(buffer) => raising(|| rb_sys::rb_str_replace(buffer, text)),
        }
    })
}

/// `write(*objects)`
unsafe extern "C" fn write(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let given = arguments(argc, argv, 0, usize::MAX)?;
        let cursor = Cursor::of(this)?.writable(this)?;
        let text = match given {
            [one] if RB_TYPE_P(*one, RUBY_T_STRING) => *one,
            [one] => raising(|| rb_sys::rb_obj_as_string(*one))?,
            several => joined(several)?,
        };
        let length = RSTRING_LEN(text) as i64;
        if length == 0 {
            return Ok(integer(0));
        }
        cursor.give(text, length)?;
        Ok(integer(length))
    })
}

/// The bytes of all objects, as Strings, in one.
fn joined(objects: &[VALUE]) -> Result<VALUE, Error> {
    // SAFETY: any objects; what they raise is caught. `text` is guarded: rb_str_cat gets only the address of
    // its bytes, and may collect garbage before it copies them.
    raising(|| unsafe {
        let all = rb_sys::rb_str_buf_new(0);
        for &object in objects {
            let text = rb_sys::rb_obj_as_string(object);
            rb_sys::rb_str_cat(all, rb_sys::macros::RSTRING_PTR(text), RSTRING_LEN(text) as _);
            bytes::guard(text);
        }
        all
    })
}

fn flag(this: Value, pick: fn(&Cursor) -> &AtomicBool) -> Result<bool, Error> {
    cursor(this).map(|cursor| pick(cursor).load(Relaxed))
}

fn cursor<'a>(this: Value) -> Result<&'a Cursor, Error> {
    let cursor = typed_data::find::<Cursor>(this.as_raw()).filter(|cursor| cursor.is_attached());
    cursor.ok_or_else(|| errors::not_initialized(&ruby(), "ProcessShared::SharedMemoryIO"))
}

fn closed_read(this: Value) -> Result<bool, Error> {
    flag(this, |cursor| &cursor.read_closed)
}

fn closed_write(this: Value) -> Result<bool, Error> {
    flag(this, |cursor| &cursor.write_closed)
}

fn closed(this: Value) -> Result<bool, Error> {
    cursor(this).map(Cursor::is_closed)
}

fn close(this: Value) -> Result<(), Error> {
    let cursor = cursor(this)?;
    cursor.read_closed.store(true, Relaxed);
    cursor.write_closed.store(true, Relaxed);
    Ok(())
}

fn close_read(this: Value) -> Result<(), Error> {
    cursor(this)?.read_closed.store(true, Relaxed);
    Ok(())
}

fn close_write(this: Value) -> Result<(), Error> {
    cursor(this)?.write_closed.store(true, Relaxed);
    Ok(())
}

fn check_readable(this: Value) -> Result<(), Error> {
    cursor(this)?.readable(this.as_raw()).map(|_| ())
}

fn check_writable(this: Value) -> Result<(), Error> {
    cursor(this)?.writable(this.as_raw()).map(|_| ())
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let class = classes::define(module(ruby), "SharedMemoryIO", ruby.class_object())?;
    // SAFETY: it allocates what every method of the class expects, a Cursor.
    raising(|| unsafe {
        rb_sys::rb_define_alloc_func(class.as_raw(), Some(typed_data::allocate::<Cursor>))
    })?;
    // Ruby makes methods of these two names private by itself.
    define(class, "initialize", initialize as Method1)?;
    define(class, "initialize_copy", initialize_copy as Method1)?;
    define(class, "reopen", reopen as MethodN)?;
    define(class, "mem", memory as Method0)?;
    define(class, "size", size as Method0)?;
    define(class, "pos", position as Method0)?;
    define(class, "pos=", set_position as Method1)?;
    define(class, "read", read as MethodN)?;
    define(class, "write", write as MethodN)?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("close_read", method!(close_read, 0))?;
    class.define_method("close_write", method!(close_write, 0))?;
    class.define_method("closed?", method!(closed, 0))?;
    class.define_method("closed_read?", method!(closed_read, 0))?;
    class.define_method("closed_write?", method!(closed_write, 0))?;
    class.define_private_method("check_readable", method!(check_readable, 0))?;
    Ok(class.define_private_method("check_writable", method!(check_writable, 0))?)
}
