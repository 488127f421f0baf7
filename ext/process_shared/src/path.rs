//! `path:` and `mode:`, which `new` of all classes takes: one place for what they mean.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::scan_args::get_kwargs;
use magnus::{RClass, RHash, RString, Ruby, Value, prelude::*};
use process_shared_core::{Error as CoreError, Result as CoreResult};

use crate::errors::{self, Error};
use crate::raw_methods::raising;
use crate::{interrupts, nogvl};

/// Where an object is, beside in the memory of this process.
pub struct Location {
    path: PathBuf,
    mode: u32,
    /// As the user sees it, frozen.
    shown: Value,
}

/// The arguments of `new`.
pub struct Given<'a> {
    pub positional: &'a [Value],
    /// The keywords that only this class takes.
    pub extra: [Option<Value>; 2],
    pub location: Option<Location>,
}

/// Takes apart what `new` was given. `extra` are the keywords of the class's own, two at most.
///
/// # Errors
/// `ArgumentError` for other keywords; what a path or mode cannot be.
pub fn given<'a>(ruby: &Ruby, args: &'a [Value], extra: &[&'static str]) -> Result<Given<'a>, Error> {
    // SAFETY: called within a method.
    let has_keywords = unsafe { rb_sys::rb_keyword_given_p() } != 0;
    let Some((last, positional)) = args.split_last().filter(|_| has_keywords) else {
        return Ok(Given { positional: args, extra: [None; 2], location: None });
    };
    let (path, mode, extra) = keywords(RHash::try_convert(*last)?, extra)?;
    let location = match path.filter(|path| !path.is_nil()) {
        Some(path) => Some(Location::new(ruby, path, mode)?),
        None => None,
    };
    Ok(Given { positional, extra, location })
}

type Keyword = Option<Value>;

fn keywords(given: RHash, extra: &[&'static str]) -> Result<(Keyword, Keyword, [Keyword; 2]), Error> {
    Ok(match *extra {
        [] => {
            type Found = (Keyword, Keyword);
            let (path, mode) = get_kwargs::<_, (), Found, ()>(given, &[], &["path", "mode"])?.optional;
            (path, mode, [None; 2])
        }
        [one] => {
            type Found = (Keyword, Keyword, Keyword);
            let names = ["path", "mode", one];
            let (path, mode, one) = get_kwargs::<_, (), Found, ()>(given, &[], &names)?.optional;
            (path, mode, [one, None])
        }
        [one, two, ..] => {
            type Found = (Keyword, Keyword, Keyword, Keyword);
            let names = ["path", "mode", one, two];
            let (path, mode, one, two) = get_kwargs::<_, (), Found, ()>(given, &[], &names)?.optional;
            (path, mode, [one, two])
        }
    })
}

impl Location {
    /// A path that the working directory does not change any more.
    fn new(ruby: &Ruby, path: Value, mode: Option<Value>) -> Result<Self, Error> {
        let file: RClass = ruby.class_object().const_get("File")?;
        let path: RString = file.funcall("path", (path,))?;
        if path.is_empty() {
            return Err(Error::new(ruby.exception_arg_error(), "path: is empty"));
        }
        let mode = match mode.filter(|mode| !mode.is_nil()) {
            Some(mode) => magnus::Integer::try_convert(mode)?.to_u32()?,
            None => 0o600,
        };
        let absolute: RString = file.funcall("absolute_path", (path,))?;
        // SAFETY: both are copied, or compared, at once.
        let (bytes, is_directory) =
            unsafe { (absolute.as_slice().to_vec(), path.as_slice().ends_with(b"/")) };
        if is_directory {
            let text = format!("path: {} is that of a directory", path.inspect());
            return Err(Error::new(ruby.exception_arg_error(), text));
        }
        absolute.freeze();
        Ok(Location { path: PathBuf::from(OsStr::from_bytes(&bytes)), mode, shown: absolute.as_value() })
    }

    /// Opens an object with `open`, which gets the path and the mode. Other threads run meanwhile, and exceptions end it.
    /// Garbage may hold the descriptors that are missing, as it may for memory.
    pub fn open<T>(&self, ruby: &Ruby, open: impl Fn(&Path, u32) -> CoreResult<T>) -> Result<T, Error> {
        let mut has_collected = false;
        loop {
            interrupts::check(ruby)?;
            match nogvl::without_gvl(|| open(&self.path, self.mode)) {
                Some(Ok(opened)) => return Ok(opened),
                None | Some(Err(CoreError::System { errno: libc::EINTR, .. })) => {}
                Some(Err(CoreError::System { errno: libc::EMFILE | libc::ENFILE, .. })) if !has_collected => {
                    has_collected = true;
                    ruby.gc_start();
                }
                Some(Err(CoreError::System { attempt, errno })) => {
                    let text = format!("{attempt}: {}", self.path.display());
                    return Err(errors::system(ruby, &text, errno));
                }
                Some(Err(error)) => return Err(errors::to_ruby(ruby, error)),
            }
        }
    }
}

/// The instance variable, which Ruby code cannot see.
const PATH: &std::ffi::CStr = c"path";

/// Remembers where `object` is.
pub fn remember(object: Value, location: Option<&Location>) -> Result<(), Error> {
    let Some(location) = location else { return Ok(()) };
    let (object, shown) = (object.as_raw(), location.shown.as_raw());
    // SAFETY: sets a hidden variable of an object that is not frozen; else it raises.
    raising(|| unsafe { rb_sys::rb_iv_set(object, PATH.as_ptr(), shown) })?;
    Ok(())
}

/// Where `object` is: a String, or nil.
pub fn of(object: Value) -> Result<Value, Error> {
    let object = object.as_raw();
    // SAFETY: reads a variable of an object.
    raising(|| unsafe { Value::from_raw(rb_sys::rb_iv_get(object, PATH.as_ptr())) })
}
