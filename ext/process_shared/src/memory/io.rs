//! The core of `ProcessShared::SharedMemoryIO`: a position in memory, and `read` and `write` there. All else is Ruby
//! (lib/process_shared/shared_memory_io.rb). Native because a piece of 4 KB is copied faster than Ruby calls a method.
//!
//! The memory may be anything with `size`, `get_bytes` and `put_bytes`; a Pointer of ours is used without calling it.
//!
//! A frozen IO refuses to read, write and move, as a frozen File does. Ractors cannot share one.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};

use magnus::rb_sys::AsRawValue;
use magnus::{Integer, Ruby, Value, method, prelude::*};
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN};
use rb_sys::ruby_value_type::RUBY_T_STRING;
use rb_sys::{VALUE, rb_gc_writebarrier};

use super::accessors::check_type;
use super::bytes;
use super::handle::{Handle, frozen, frozen_error};
use super::number::{index, integer};
use crate::classes;
use crate::errors::{self, Error};
use crate::raw_methods::{
    Method0, Method1, MethodN, NIL, answer, arguments, define, module, raising, ruby, value,
};
use crate::typed_data::{self, Data, DataType};

/// Where an IO stands. `memory` is 0 until `initialize`.
#[derive(Default)]
struct Cursor {
    memory: AtomicUsize,
    size: AtomicI64,
    position: AtomicI64,
    read_closed: AtomicBool,
    write_closed: AtomicBool,
}

impl Data for Cursor {
    const TYPE: &'static DataType = {
        static TYPE: DataType = DataType::of::<Cursor>(c"ProcessShared::SharedMemoryIO");
        &TYPE
    };

    const SHAREABLE: bool = false;

    fn mark(&self) {
        let memory = self.memory.load(Relaxed);
        if memory != 0 {
            // SAFETY: a live object, which this one refers to.
            unsafe { rb_sys::rb_gc_mark(memory as VALUE) };
        }
    }
}

impl Cursor {
    /// # Safety
    /// `this` is a SharedMemoryIO, and no frame up to Ruby owns anything.
    #[inline(always)]
    unsafe fn of<'a>(this: VALUE) -> Result<&'a Cursor, Error> {
        // SAFETY: as the caller promises.
        let cursor: &Cursor = unsafe { typed_data::get(this) };
        match cursor.memory.load(Relaxed) {
            0 => Err(errors::not_initialized(&ruby(), "ProcessShared::SharedMemoryIO")),
            _ => Ok(cursor),
        }
    }

    fn is_closed(&self) -> bool {
        self.read_closed.load(Relaxed) && self.write_closed.load(Relaxed)
    }

    /// Refuses an IO that is closed for both.
    fn open(&self) -> Result<&Self, Error> {
        match self.is_closed() {
            false => Ok(self),
            true => Err(errors::to_ruby(
                &ruby(),
                process_shared_core::Error::Closed("ProcessShared::SharedMemoryIO"),
            )),
        }
    }

    /// Why an IO that is closed for one of both cannot be used.
    #[cold]
    fn closed_for(&self, what: &'static str) -> Error {
        self.open().err().unwrap_or_else(|| Error::new(ruby().exception_io_error(), what))
    }

    /// Refuses an IO that is frozen.
    #[inline(always)]
    fn unfrozen(&self, this: VALUE) -> Result<&Self, Error> {
        // SAFETY: `this` is the heap object that holds this cursor.
        match unsafe { frozen(this) } {
            false => Ok(self),
            true => Err(frozen_error(this)),
        }
    }

    #[inline(always)]
    fn readable(&self, this: VALUE) -> Result<&Self, Error> {
        match self.read_closed.load(Relaxed) {
            false => self.unfrozen(this),
            true => Err(self.closed_for("not opened for reading")),
        }
    }

    #[inline(always)]
    fn writable(&self, this: VALUE) -> Result<&Self, Error> {
        match self.write_closed.load(Relaxed) {
            false => self.unfrozen(this),
            true => Err(self.closed_for("not opened for writing")),
        }
    }

    fn memory(&self) -> VALUE {
        self.memory.load(Relaxed) as VALUE
    }

    fn left(&self) -> i64 {
        self.size.load(Relaxed).saturating_sub(self.position.load(Relaxed)).max(0)
    }

    fn attach(&self, this: VALUE, memory: VALUE) -> Result<(), Error> {
        let size = match Handle::inside(memory) {
            Some(handle) => handle.check()?.size as i64,
            None => {
                if !value(memory).respond_to("get_bytes", false)? {
                    return Err(errors::wrong_type(&ruby(), value(memory), "a Pointer"));
                }
                let size: Integer = value(memory).funcall("size", ())?;
                size.to_i64()?
            }
        };
        self.unfrozen(this)?; // last, as the memory was asked for its size
        self.memory.store(memory as usize, Relaxed);
        self.size.store(size, Relaxed);
        self.position.store(0, Relaxed);
        self.read_closed.store(false, Relaxed);
        self.write_closed.store(false, Relaxed);
        // SAFETY: both are live objects, and `this` now refers to `memory`.
        unsafe { rb_gc_writebarrier(this, memory) };
        Ok(())
    }

    /// Copies `length` bytes from the position, and steps over them.
    ///
    /// # Safety
    /// No frame up to Ruby owns anything.
    unsafe fn take(&self, length: i64) -> Result<VALUE, Error> {
        let (memory, position) = (self.memory(), self.position.load(Relaxed));
        let text = match Handle::inside(memory) {
            // SAFETY: it is a Pointer; and as the caller promises.
            Some(_) => unsafe { bytes::get(memory, position, length) }?,
            None => value(memory).funcall::<_, _, Value>("get_bytes", (position, length))?.as_raw(),
        };
        self.position.store(position.saturating_add(length), Relaxed);
        Ok(text)
    }
}

unsafe extern "C" fn initialize(this: VALUE, memory: VALUE) -> VALUE {
    // SAFETY: `this` is a SharedMemoryIO (rule 3 of bind.rs), and `answer` owns nothing; so below.
    answer(|| unsafe {
        let cursor: &Cursor = typed_data::get(this);
        if cursor.memory.load(Relaxed) != 0 {
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
        let (memory, position) = (cursor.memory(), cursor.position.load(Relaxed));
        match Handle::inside(memory) {
            Some(_) => bytes::put(memory, position, text, 0, None, 0)?,
            None => {
                value(memory).funcall::<_, _, Value>("put_bytes", (position, value(text), 0, length))?;
            }
        }
        cursor.position.store(position.saturating_add(length), Relaxed);
        Ok(integer(length))
    })
}

/// The bytes of all objects, as Strings, in one.
fn joined(objects: &[VALUE]) -> Result<VALUE, Error> {
    // SAFETY: any objects; what they raise is caught. `text` is guarded: rb_str_cat gets only the address of its bytes,
    // and may collect garbage before it copies them.
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
    let cursor = typed_data::find::<Cursor>(this.as_raw()).filter(|cursor| cursor.memory.load(Relaxed) != 0);
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
