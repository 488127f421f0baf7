//! The types the ffi gem knows, by name: how many bytes each takes, and which accessor reads it.
//!
//! The names work without the ffi gem. Where it is loaded, its own types (`FFI::Type`, `FFI::Enum`, a Struct
//! class, what `FFI.typedef` named) are understood too: they are looked up through `FFI.find_type`.

use std::ffi::{c_long, c_void};

use magnus::rb_sys::AsRawValue;
use magnus::{ExceptionClass, RClass, RModule, RString, Ruby, Symbol, Value, prelude::*};

use crate::errors::{self, Error};

/// What one element in memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Long,
    ULong,
    Float32,
    Float64,
    Bool,
    Pointer,
    /// A type only the ffi gem can read: `:string`, `:long_double`, structs, enums.
    Foreign,
}

impl Element {
    /// Its name, the same for all aliases and on all machines; None for `Foreign`.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Element::Int8 => "int8",
            Element::UInt8 => "uint8",
            Element::Int16 => "int16",
            Element::UInt16 => "uint16",
            Element::Int32 => "int32",
            Element::UInt32 => "uint32",
            Element::Int64 => "int64",
            Element::UInt64 => "uint64",
            Element::Long if size_of::<c_long>() == 8 => "int64",
            Element::Long => "int32",
            Element::ULong if size_of::<c_long>() == 8 => "uint64",
            Element::ULong => "uint32",
            Element::Float32 => "float32",
            Element::Float64 => "float64",
            Element::Bool => "bool",
            Element::Pointer => "pointer",
            Element::Foreign => return None,
        })
    }

    /// Its size in bytes; None for `Foreign`, where the type has to be asked.
    pub fn size(self) -> Option<usize> {
        Some(match self {
            Element::Int8 | Element::UInt8 | Element::Bool => 1,
            Element::Int16 | Element::UInt16 => 2,
            Element::Int32 | Element::UInt32 | Element::Float32 => 4,
            Element::Int64 | Element::UInt64 | Element::Float64 => 8,
            Element::Long | Element::ULong => size_of::<c_long>(),
            Element::Pointer => size_of::<*const c_void>(),
            Element::Foreign => return None,
        })
    }
}

/// Which `Element` a type of C is on the platform this was compiled for.
trait Native {
    const ELEMENT: Element;
}

macro_rules! native {
    ($($native:ty => $element:ident),*) => {$(
        impl Native for $native {
            const ELEMENT: Element = Element::$element;
        }
    )*};
}

native!(i8 => Int8, u8 => UInt8, i16 => Int16, u16 => UInt16, i32 => Int32, u32 => UInt32);

// 64 bits are a `long` where that has 64, as in ffi's tables.
#[cfg(target_pointer_width = "64")]
native!(i64 => Long, u64 => ULong, isize => Long, usize => ULong);
#[cfg(not(target_pointer_width = "64"))]
native!(i64 => Int64, u64 => UInt64, isize => Int32, usize => UInt32);

fn of<T: Native>() -> Element {
    T::ELEMENT
}

/// The element a name stands for.
fn named(name: &str) -> Option<Element> {
    Some(match name {
        "int8" | "char" | "schar" => Element::Int8,
        "uint8" | "uchar" | "u_char" => Element::UInt8,
        "int16" | "short" => Element::Int16,
        "uint16" | "ushort" | "u_short" => Element::UInt16,
        "int32" | "int" => Element::Int32,
        "uint32" | "uint" | "u_int" => Element::UInt32,
        "int64" | "long_long" => Element::Int64,
        "uint64" | "ulong_long" | "u_int64_t" => Element::UInt64,
        "long" => Element::Long,
        "ulong" | "u_long" => Element::ULong,
        "float" | "float32" => Element::Float32,
        "double" | "float64" => Element::Float64,
        "bool" => Element::Bool,
        "pointer" | "buffer_in" | "buffer_out" | "buffer_inout" | "caddr_t" => Element::Pointer,
        "int8_t" => Element::Int8,
        "uint8_t" | "u_int8_t" => Element::UInt8,
        "int16_t" => Element::Int16,
        "uint16_t" | "u_int16_t" => Element::UInt16,
        "int32_t" => Element::Int32,
        "uint32_t" | "u_int32_t" => Element::UInt32,
        "int64_t" => of::<i64>(),
        "uint64_t" => of::<u64>(),
        "size_t" => of::<libc::size_t>(),
        "ssize_t" => of::<libc::ssize_t>(),
        "ptrdiff_t" | "intptr_t" => of::<libc::intptr_t>(),
        "uintptr_t" => of::<libc::uintptr_t>(),
        "intmax_t" => of::<libc::intmax_t>(),
        "uintmax_t" => of::<libc::uintmax_t>(),
        "off_t" => of::<libc::off_t>(),
        "pid_t" => of::<libc::pid_t>(),
        "uid_t" => of::<libc::uid_t>(),
        "gid_t" => of::<libc::gid_t>(),
        "id_t" => of::<libc::id_t>(),
        "time_t" => of::<libc::time_t>(),
        "clock_t" => of::<libc::clock_t>(),
        "clockid_t" => of::<libc::clockid_t>(),
        "suseconds_t" => of::<libc::suseconds_t>(),
        "mode_t" => of::<libc::mode_t>(),
        "dev_t" => of::<libc::dev_t>(),
        "ino_t" => of::<libc::ino_t>(),
        "nlink_t" => of::<libc::nlink_t>(),
        "blksize_t" => of::<libc::blksize_t>(),
        "blkcnt_t" => of::<libc::blkcnt_t>(),
        "fsblkcnt_t" => of::<libc::fsblkcnt_t>(),
        "fsfilcnt_t" => of::<libc::fsfilcnt_t>(),
        "rlim_t" => of::<libc::rlim_t>(),
        "socklen_t" => of::<libc::socklen_t>(),
        "sa_family_t" => of::<libc::sa_family_t>(),
        "in_addr_t" => of::<libc::in_addr_t>(),
        "in_port_t" => of::<libc::in_port_t>(),
        "key_t" => of::<libc::key_t>(),
        "wchar_t" => of::<libc::wchar_t>(),
        "quad_t" => of::<i64>(),
        "u_quad_t" => of::<u64>(),
        "string" | "long_double" | "strptr" | "void" | "varargs" => Element::Foreign,
        _ => return None,
    })
}

/// How large the types are that no accessor of ours reads.
fn foreign_size(name: &str) -> Option<usize> {
    Some(match name {
        "string" | "strptr" => size_of::<*const c_void>(),
        "void" | "varargs" => 1,
        // Rust has no such type; these are what the C compilers of our platforms say.
        "long_double" if cfg!(target_arch = "x86") => 12,
        "long_double" if cfg!(all(target_os = "macos", target_arch = "aarch64")) => 8,
        "long_double" => 16,
        _ => return None,
    })
}

/// A type as an accessor needs it. None: nobody knows it.
///
/// # Errors
/// Exceptions that come while ffi is asked.
pub fn element(ruby: &Ruby, given: Value) -> Result<Option<(Element, usize)>, Error> {
    if let Some(symbol) = Symbol::from_value(given) {
        let Ok(name) = symbol.name() else { return Ok(None) };
        if let Some(element) = named(&name) {
            return Ok(element.size().or_else(|| foreign_size(&name)).map(|size| (element, size)));
        }
    }
    let Some(ffi) = ffi(ruby)? else { return Ok(None) };
    errors::understood(ruby, foreign(ffi, given))
}

/// What ffi knows of a type.
fn foreign(ffi: RModule, given: Value) -> Result<(Element, usize), Error> {
    if let Some(class) = RClass::from_value(given) {
        if class.is_inherited(ffi.const_get::<_, RClass>("Struct")?) {
            return Ok((Element::Foreign, class.funcall("size", ())?));
        }
    }
    let found: Value = ffi.funcall("find_type", (given,))?;
    let size = found.funcall("size", ())?;
    Ok((builtin(ffi, found)?.unwrap_or(Element::Foreign), size))
}

/// Which of ffi's own constants (`FFI::Type::INT32` ...) a type is.
fn builtin(ffi: RModule, found: Value) -> Result<Option<Element>, Error> {
    const CONSTANTS: [(&str, Element); 14] = [
        ("INT8", Element::Int8),
        ("UINT8", Element::UInt8),
        ("INT16", Element::Int16),
        ("UINT16", Element::UInt16),
        ("INT32", Element::Int32),
        ("UINT32", Element::UInt32),
        ("INT64", Element::Int64),
        ("UINT64", Element::UInt64),
        ("LONG", Element::Long),
        ("ULONG", Element::ULong),
        ("FLOAT32", Element::Float32),
        ("FLOAT64", Element::Float64),
        ("BOOL", Element::Bool),
        ("POINTER", Element::Pointer),
    ];
    let types: RClass = ffi.const_get("Type")?;
    for (name, element) in CONSTANTS {
        // The same object: no Ruby code decides.
        if types.const_get::<_, Value>(name)?.as_raw() == found.as_raw() {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// The `FFI` module, once the gem is loaded. It is never loaded from here.
///
/// # Errors
/// Exceptions that come meanwhile.
pub fn ffi(ruby: &Ruby) -> Result<Option<RModule>, Error> {
    let object = ruby.class_object();
    let loaded = object.funcall("const_defined?", ("FFI", false))?
        && object.funcall::<_, _, Value>("autoload?", ("FFI",))?.is_nil();
    if !loaded {
        return Ok(None);
    }
    let Some(ffi) = RModule::from_value(object.const_get("FFI")?) else { return Ok(None) };
    let complete: bool = ffi.funcall("const_defined?", ("Pointer", false))?;
    Ok(complete.then_some(ffi))
}

/// For the message about a type that nobody knows.
const KNOWN: &str = "known are :int8 :uint8 :int16 :uint16 :int32 :uint32 :int64 :uint64 :float32 :float64 :bool \
                     :pointer, C's :char :uchar :short :ushort :int :uint :long :ulong :long_long :ulong_long :float \
                     :double, the system's :size_t :ssize_t :off_t :pid_t :time_t and the like, and what the ffi gem \
                     knows where it is loaded";

/// The `TypeError` for a type that nobody knows, worded as ffi does.
pub fn unknown(ruby: &Ruby, given: Value) -> Error {
    refused(ruby.exception_type_error(), "unable to resolve", given, "inspect")
}

/// An error that says of a type what is the matter with it; `shown` as this method does if it is no Symbol.
pub fn refused(class: ExceptionClass, what: &str, given: Value, shown: &str) -> Error {
    let shown = if Symbol::from_value(given).is_some() { "to_s" } else { shown };
    let name = given.funcall::<_, _, RString>(shown, ());
    let name = match errors::understood(&Ruby::get_with(class), name) {
        // SAFETY: copied before anything else can touch the String.
        Ok(Some(name)) => unsafe { String::from_utf8_lossy(name.as_slice()).into_owned() },
        Ok(None) => errors::class_name(given),
        Err(error) => return error,
    };
    Error::new(class, format!("{what} type '{name}'; {KNOWN}"))
}
