//! What Marshal writes of a String that is nothing but a String: known beforehand, so that a large one is
//! copied only once. `Head::of` leaves everything else to Marshal.

use std::ffi::CStr;

use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN};
use rb_sys::ruby_value_type::RUBY_T_STRING;
use rb_sys::{RBasic, VALUE};

/// What Marshal writes around the bytes of a String that is nothing but a String.
pub struct Head {
    before: [u8; 10],
    used: usize,
    pub after: &'static [u8],
}

/// Strings of fewer bytes are left to Marshal; above, copying them only once is worth a path of its own.
const LARGE: usize = 4096;

impl Head {
    /// None for everything that Marshal has to look at itself.
    pub fn of(object: VALUE) -> Option<Head> {
        // SAFETY: any object; the rest is asked once it is known to be a String, which has a class and a
        // length.
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

    /// What stands before the bytes of the String.
    pub fn before(&self) -> &[u8] {
        &self.before[..self.used]
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
