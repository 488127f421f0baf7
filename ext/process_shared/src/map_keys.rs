//! The keys of a map: Ruby objects as bytes, so that those are equal which `eql?` has for equal.
//!
//! A key's class is its kind, as `queue_items` has it, and for a String or Symbol with more than ASCII the number of its
//! encoding: with ASCII alone the encoding does not matter. Its form is the encoding, for whoever reads the key. An
//! Array of such keys is written key by key; Marshal would write the same String twice as one, and two equal ones as two.

use magnus::{RArray, RString, Ruby, prelude::*};
use process_shared_core::map::{Key, LONGEST_KEY, Map};
use rb_sys::VALUE;
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::{RUBY_T_ARRAY, RUBY_T_STRING};

use crate::errors::{self, Error};
use crate::queue_items::{Bytes, ENCODING, FLOAT, Item, STRING, SYMBOL, load};
use crate::raw_methods::{raising, value};
use magnus::rb_sys::AsRawValue;

/// The kind of an Array.
const ARRAY: u8 = 8;
/// Where a class has the number of an encoding, from 1.
const CLASS_ENCODING: u32 = 4;
/// Before each key of an Array: class, form, length.
const HEAD: usize = 6;
/// Arrays in Arrays, so deep; the rest is Marshal's.
const DEPTH: usize = 16;

/// A key that lies here.
pub struct OwnedKey {
    class: u8,
    form: u8,
    bytes: Vec<u8>,
}

impl OwnedKey {
    /// The key of `object`. Marshal may run any code.
    ///
    /// # Errors
    /// What Marshal raises; `ArgumentError` if it is too long.
    pub fn of(ruby: &Ruby, object: VALUE) -> Result<OwnedKey, Error> {
        let key = match Self::simple(ruby, object, DEPTH)? {
            Some(key) => key,
            None => Self::copied(&Item::of(object)?),
        };
        if key.bytes.len() > LONGEST_KEY {
            let text = format!("a key takes at most {LONGEST_KEY} bytes, not {}", key.bytes.len());
            return Err(Error::new(ruby.exception_arg_error(), text));
        }
        Ok(key)
    }

    /// As `map` has it.
    pub fn of_map<'a>(&'a self, map: &Map) -> Key<'a> {
        map.key(self.class, self.form, &self.bytes)
    }

    fn copied(item: &Item) -> OwnedKey {
        // SAFETY: copied at once; the item is on the stack.
        let (class, form, bytes) = unsafe { parts(item) };
        let mut bytes = bytes.to_vec();
        if u32::from(class) == FLOAT && bytes == (-0.0_f64).to_ne_bytes() {
            bytes = 0.0_f64.to_ne_bytes().to_vec();
        }
        OwnedKey { class, form, bytes }
    }

    /// The key, if it can do without Marshal.
    fn simple(ruby: &Ruby, object: VALUE, depth: usize) -> Result<Option<OwnedKey>, Error> {
        if let Some(item) = Item::plain(object) {
            return Ok(Some(Self::copied(&item)));
        }
        // SAFETY: any object.
        if unsafe { RB_TYPE_P(object, RUBY_T_STRING) } {
            // SAFETY: a String, of whatever class; what they raise is caught.
            let string = raising(|| unsafe {
                let string = rb_sys::rb_str_new(RSTRING_PTR(object), RSTRING_LEN(object) as _);
                rb_sys::rb_enc_copy(string, object);
                string
            })?;
            return Ok(Item::plain(string).map(|item| Self::copied(&item)));
        }
        // SAFETY: any object.
        if depth == 0 || !unsafe { RB_TYPE_P(object, RUBY_T_ARRAY) } {
            return Ok(None);
        }
        let Some(array) = RArray::from_value(value(object)) else { return Ok(None) };
        if array.class().as_raw() != ruby.class_array().as_raw() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for element in array {
            let Some(key) = Self::simple(ruby, element.as_raw(), depth - 1)? else { return Ok(None) };
            // Equal keys have equal bytes: so no form where it does not matter.
            let form = if key.class >> CLASS_ENCODING == 0 && key.class != ARRAY { 0 } else { key.form };
            bytes.extend_from_slice(&[key.class, form]);
            bytes.extend_from_slice(&(key.bytes.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(&key.bytes);
        }
        Ok(Some(OwnedKey { class: ARRAY, form: 0, bytes }))
    }
}

/// Calls `act` with the key of `object`, if that needs no copy.
#[inline]
pub fn with_plain<T>(map: &Map, object: VALUE, act: impl FnOnce(&Key) -> T) -> Option<T> {
    let item = Item::plain(object).filter(|item| item.tag != FLOAT)?;
    // SAFETY: the item is on the stack, and `act` runs no Ruby code.
    let (class, form, bytes) = unsafe { parts(&item) };
    let key = (bytes.len() <= LONGEST_KEY).then(|| map.key(class, form, bytes))?;
    let result = act(&key);
    std::hint::black_box(&item);
    Some(result)
}

/// # Safety
/// As for `Item::bytes`.
#[inline]
unsafe fn parts(item: &Item) -> (u8, u8, &[u8]) {
    let (kind, form) = (item.tag as u8, (item.tag >> ENCODING) as u8);
    // SAFETY: the caller's promise.
    let bytes = unsafe { item.bytes() };
    let has_text = item.tag as u8 as u32 == STRING || item.tag as u8 as u32 == SYMBOL;
    let class = if has_text && !bytes.is_ascii() { kind | (form + 1) << CLASS_ENCODING } else { kind };
    (class, form, bytes)
}

/// The object that a key's bytes are.
///
/// # Errors
/// What Marshal raises; `ProcessError` if these are no such bytes.
pub fn load_key(ruby: &Ruby, class: u8, form: u8, bytes: &[u8]) -> Result<VALUE, Error> {
    load_nested(ruby, (class, form), bytes, DEPTH)
}

fn load_nested(ruby: &Ruby, (class, form): (u8, u8), bytes: &[u8], depth: usize) -> Result<VALUE, Error> {
    let kind = class & ((1 << CLASS_ENCODING) - 1);
    if kind != ARRAY {
        let object = load(ruby, u32::from(kind) | u32::from(form) << ENCODING, Bytes::Here(bytes))?;
        if let Some(string) = RString::from_value(value(object)) {
            string.freeze();
        }
        return Ok(object);
    }
    let broken = || errors::ownership(ruby, "the map's memory has been overwritten".to_owned());
    let array = ruby.ary_new();
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_at_checked(HEAD) {
        let length = u32::from_ne_bytes(head[2..].try_into().map_err(|_| broken())?) as usize;
        let (element, next) = behind.split_at_checked(length).ok_or_else(broken)?;
        // Text without an encoding of its own is read as UTF-8, which all ASCII is.
        let form = match u32::from(head[0]) {
            // SAFETY: always there.
            STRING | SYMBOL => unsafe { rb_sys::rb_utf8_encindex() as u8 },
            _ => head[1],
        };
        let depth = depth.checked_sub(1).ok_or_else(broken)?;
        array.push(value(load_nested(ruby, (head[0], form), element, depth)?))?;
        rest = next;
    }
    array.freeze();
    Ok(array.as_raw())
}
