//! What a queue carries: Ruby objects as bytes and a tag that says what the bytes are.
//!
//! | kind     | bytes                                                          |
//! |----------|----------------------------------------------------------------|
//! | `NIL` .. | none                                                           |
//! | `FIXNUM` | 8, the number                                                  |
//! | `FLOAT`  | 8                                                              |
//! | `SYMBOL` | the name; the tag has its encoding                             |
//! | `STRING` | the bytes; the tag has its encoding                            |
//! | `OBJECT` | what Marshal writes                                            |
//!
//! A String with a class, variables, or an encoding of its own is left to Marshal: numbers of encodings other than the
//! first three may differ between processes.

use magnus::rb_sys::AsRawValue;
use magnus::{Ruby, Value};
use rb_sys::macros::{
    ENCODING_GET, FIXNUM_P, NIL_P, RB_FLOAT_TYPE_P, RB_SYMBOL_P, RB_TYPE_P, RSTRING_LEN, RSTRING_PTR,
};
use rb_sys::ruby_encoding_consts::RUBY_ENCODING_SHIFT;
use rb_sys::ruby_value_type::{RUBY_T_BIGNUM, RUBY_T_STRING};
use rb_sys::{RBasic, VALUE};
use std::slice;

use crate::errors::{self, Error};
use crate::raw_methods::{NIL as RUBY_NIL, raising};

const NIL: u32 = 0;
const TRUE: u32 = 1;
const FALSE: u32 = 2;
pub const FIXNUM: u32 = 3;
pub const FLOAT: u32 = 4;
pub const SYMBOL: u32 = 5;
pub const STRING: u32 = 6;
const OBJECT: u32 = 7;

/// Where a tag has the number of the encoding.
pub const ENCODING: u32 = 8;

/// An object as bytes.
pub struct Item {
    pub tag: u32,
    word: [u8; 8],
    /// How many bytes of `word`, if there is no String.
    used: usize,
    /// The String that has the bytes, or 0.
    string: VALUE,
}

impl Item {
    fn of_word(tag: u32, word: [u8; 8], used: usize) -> Self {
        Item { tag, word, used, string: 0 }
    }

    fn of_string(tag: u32, string: VALUE) -> Self {
        Item { tag, word: [0; 8], used: 0, string }
    }

    /// `object`, if no Ruby code has to run for it.
    #[inline]
    pub fn plain(object: VALUE) -> Option<Item> {
        let none = [0; 8];
        if FIXNUM_P(object) {
            // A tagged number, shifted by one.
            let number = (object as i64) >> 1;
            return Some(Self::of_word(FIXNUM, number.to_ne_bytes(), 8));
        }
        if NIL_P(object) {
            return Some(Self::of_word(NIL, none, 0));
        }
        if object == rb_sys::Qtrue as VALUE {
            return Some(Self::of_word(TRUE, none, 0));
        }
        if object == rb_sys::Qfalse as VALUE {
            return Some(Self::of_word(FALSE, none, 0));
        }
        // SAFETY: each question is asked of an object of the kind that the one before it has found.
        unsafe {
            if RB_FLOAT_TYPE_P(object) {
                return Some(Self::of_word(FLOAT, rb_sys::rb_float_value(object).to_ne_bytes(), 8));
            }
            if RB_SYMBOL_P(object) {
                let name = rb_sys::rb_sym2str(object);
                return encoding(name).map(|tag| Self::of_string(SYMBOL | tag, name));
            }
            let is_plain = RB_TYPE_P(object, RUBY_T_STRING)
                && (*(object as *const RBasic)).klass == rb_sys::rb_cString
                && rb_sys::rb_ivar_count(object) == 0;
            if is_plain { encoding(object).map(|tag| Self::of_string(STRING | tag, object)) } else { None }
        }
    }

    /// `object`, by Marshal if need be, which may run any code. A String's bytes stay as they are now.
    ///
    /// # Errors
    /// What Marshal raises.
    pub fn of(object: VALUE) -> Result<Item, Error> {
        if let Some(item) = Self::plain(object) {
            return item.kept();
        }
        if let Some(number) = long_integer(object) {
            return Ok(Self::of_word(FIXNUM, number.to_ne_bytes(), 8));
        }
        // SAFETY: any object; what it raises is caught.
        raising(|| unsafe { rb_sys::rb_marshal_dump(object, RUBY_NIL) })
            .map(|text| Self::of_string(OBJECT, text))
    }

    /// An item of bytes that were items before.
    ///
    /// # Errors
    /// `NoMemoryError`.
    pub fn copied(tag: u32, bytes: &[u8]) -> Result<Item, Error> {
        // SAFETY: copies the bytes; what it raises is caught.
        let string = raising(|| unsafe { rb_sys::rb_str_new(bytes.as_ptr().cast(), bytes.len() as _) })?;
        Ok(Self::of_string(tag, string))
    }

    /// The same with bytes that nobody changes.
    fn kept(self) -> Result<Item, Error> {
        if self.string == 0 {
            return Ok(self);
        }
        // SAFETY: a String; what it raises is caught.
        let string = raising(|| unsafe { rb_sys::rb_str_new_frozen(self.string) })?;
        Ok(Item { string, ..self })
    }

    /// The bytes.
    ///
    /// # Safety
    /// The item stays on the stack. Unless it was `kept`, no Ruby code runs, and the lock is not released, meanwhile.
    #[inline]
    pub unsafe fn bytes(&self) -> &[u8] {
        match self.string {
            0 => &self.word[..self.used],
            // SAFETY: a String's bytes; the caller's promise.
            string => unsafe {
                slice::from_raw_parts(RSTRING_PTR(string).cast(), RSTRING_LEN(string) as usize)
            },
        }
    }

    /// The bytes as a String.
    ///
    /// # Errors
    /// `NoMemoryError`.
    pub fn string(&self) -> Result<VALUE, Error> {
        if self.string != 0 {
            return Ok(self.string);
        }
        // SAFETY: copies the bytes.
        raising(|| unsafe { rb_sys::rb_str_new(self.word.as_ptr().cast(), self.used as _) })
    }
}

/// Tags and bytes of several items, one after the other.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The tag of each, and where its bytes end.
    items: Vec<(u32, usize)>,
}

impl Batch {
    /// Room for so many, if they are short.
    pub fn with_capacity(count: usize) -> Self {
        Batch { bytes: Vec::with_capacity(count * 8), items: Vec::with_capacity(count) }
    }

    pub fn add(&mut self, tag: u32, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.items.push((tag, self.bytes.len()));
    }

    pub fn all(&self) -> Vec<(u32, &[u8])> {
        let mut start = 0;
        let item = |(tag, end): &(u32, usize)| (*tag, &self.bytes[std::mem::replace(&mut start, *end)..*end]);
        self.items.iter().map(item).collect()
    }
}

/// The value of an Integer that is an object, if 64 bits have room for it.
fn long_integer(object: VALUE) -> Option<i64> {
    let mut number = 0_i64;
    let format = rb_sys::INTEGER_PACK_LSWORD_FIRST
        | rb_sys::INTEGER_PACK_NATIVE_BYTE_ORDER
        | rb_sys::INTEGER_PACK_2COMP;
    // SAFETY: any object; then an Integer, and room for a word of eight bytes.
    let sign = unsafe {
        if !RB_TYPE_P(object, RUBY_T_BIGNUM) {
            return None;
        }
        rb_sys::rb_integer_pack(object, (&raw mut number).cast(), 1, 8, 0, format as _)
    };
    // The sign is also told where a bit too many has been cut off.
    (sign == number.signum() as i32).then_some(number)
}

/// The tag's part for the encoding of a String, if all processes know it by the same number.
unsafe fn encoding(string: VALUE) -> Option<u32> {
    // SAFETY: the caller's String has an encoding; these three are always there.
    unsafe {
        let index = ENCODING_GET(string);
        let same = index == rb_sys::rb_utf8_encindex()
            || index == rb_sys::rb_ascii8bit_encindex()
            || index == rb_sys::rb_usascii_encindex();
        same.then_some((index as u32) << ENCODING)
    }
}

/// The bytes of an item that came out.
#[derive(Clone, Copy)]
pub enum Bytes<'a> {
    Here(&'a [u8]),
    /// A String that nobody else knows.
    InString(VALUE),
}

impl Bytes<'_> {
    /// # Safety
    /// Within `raising`.
    unsafe fn string(self) -> VALUE {
        match self {
            // SAFETY: copies the bytes.
            Bytes::Here(bytes) => unsafe { rb_sys::rb_str_new(bytes.as_ptr().cast(), bytes.len() as _) },
            Bytes::InString(string) => string,
        }
    }

    fn word(self) -> Option<[u8; 8]> {
        match self {
            Bytes::Here(bytes) => bytes.try_into().ok(),
            Bytes::InString(_) => None,
        }
    }
}

/// The object that the bytes are. Marshal may run any code.
///
/// # Errors
/// What Marshal raises; `ProcessError` if these are no such bytes.
pub fn load(ruby: &Ruby, tag: u32, bytes: Bytes) -> Result<VALUE, Error> {
    let broken = || errors::ownership(ruby, "the queue's memory has been overwritten".to_owned());
    let index = (tag >> ENCODING) as i32;
    match tag & ((1 << ENCODING) - 1) {
        NIL => Ok(RUBY_NIL),
        TRUE => Ok(rb_sys::Qtrue as VALUE),
        FALSE => Ok(rb_sys::Qfalse as VALUE),
        FIXNUM => {
            let number = i64::from_ne_bytes(bytes.word().ok_or_else(broken)?);
            // SAFETY: a number that was a fixnum, or is an Integer now.
            raising(|| unsafe { rb_sys::rb_ll2inum(number) })
        }
        FLOAT => {
            let number = f64::from_ne_bytes(bytes.word().ok_or_else(broken)?);
            // SAFETY: what it raises is caught.
            raising(|| unsafe { rb_sys::rb_float_new(number) })
        }
        kind @ (SYMBOL | STRING) => {
            // SAFETY: always there.
            let known = unsafe {
                [rb_sys::rb_utf8_encindex(), rb_sys::rb_ascii8bit_encindex(), rb_sys::rb_usascii_encindex()]
            };
            if !known.contains(&index) {
                return Err(broken());
            }
            // SAFETY: a String of our own; what they raise is caught.
            raising(|| unsafe {
                let string = bytes.string();
                rb_sys::rb_enc_associate_index(string, index);
                if kind == STRING { string } else { rb_sys::rb_str_intern(string) }
            })
        }
        // SAFETY: a String of our own; what Marshal raises is caught. Marshal itself does not keep the String alive.
        OBJECT => raising(|| unsafe {
            let string = bytes.string();
            let object = rb_sys::rb_marshal_load(string);
            std::hint::black_box(&string);
            object
        }),
        _ => Err(broken()),
    }
}

/// `value`, kept alive until here: its bytes were in use.
pub fn keep_alive(value: Value) {
    std::hint::black_box(value.as_raw());
}

/// The same for the kinds that nothing but a lack of memory can go wrong with; `None` for all else.
#[inline]
pub fn load_plain(tag: u32, bytes: &[u8]) -> Option<VALUE> {
    // SAFETY: Ruby's functions for a String, a number and the encodings that are always there.
    unsafe {
        let kind = tag & ((1 << ENCODING) - 1);
        if kind == STRING {
            let index = (tag >> ENCODING) as i32;
            if index != rb_sys::rb_utf8_encindex() && index != rb_sys::rb_ascii8bit_encindex() {
                return None;
            }
            // A fresh String is binary; of what `rb_enc_associate_index` does, it needs only this.
            let string = rb_sys::rb_str_new(bytes.as_ptr().cast(), bytes.len() as _);
            (*(string as *mut RBasic)).flags |= (index as VALUE) << RUBY_ENCODING_SHIFT as VALUE;
            return Some(string);
        }
        match kind {
            FIXNUM => Some(rb_sys::rb_ll2inum(i64::from_ne_bytes(bytes.try_into().ok()?))),
            _ => load_immediate(tag, bytes),
        }
    }
}

/// The same for the kinds that nothing can go wrong with: no object is made.
#[inline]
pub fn load_immediate(tag: u32, bytes: &[u8]) -> Option<VALUE> {
    match tag {
        FIXNUM => {
            // A tagged number, shifted by one: `None` if it is too large for that.
            let number = i64::from_ne_bytes(bytes.try_into().ok()?);
            number.checked_mul(2).map(|shifted| (shifted | 1) as VALUE)
        }
        NIL => Some(RUBY_NIL),
        TRUE => Some(rb_sys::Qtrue as VALUE),
        FALSE => Some(rb_sys::Qfalse as VALUE),
        _ => None,
    }
}
