//! What a caller expects of a file, and which files are refused before anything in them is looked at.

use super::place::Status;
use super::system;
use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// What an object is: openers that disagree about any of this are refused.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The name of the class, as users know it. At most 32 bytes.
    pub class: &'a str,
    /// What else must be the same, in words for error messages: "robust", "int32, 100 elements". At most 128 bytes.
    pub details: &'a str,
    /// Bytes of the object, the header not counted.
    pub size: usize,
}

pub const CLASS_BYTES: usize = 32;
pub const DETAILS_BYTES: usize = 128;

impl Shape<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.class.len() > CLASS_BYTES || self.details.len() > DETAILS_BYTES {
            return Err(Error::Invalid(format!("{self} is too long a description of an object")));
        }
        let total = self.size.checked_add(super::HEADER).filter(|total| isize::try_from(*total).is_ok());
        if self.size == 0 || total.is_none() {
            return Err(Error::Invalid(format!("an object of {} bytes cannot be", self.size)));
        }
        Ok(())
    }

    /// Whether the object at `path` is one of this class and these details.
    pub(super) fn compare(&self, path: &Path, class: &str, details: &str) -> Result<()> {
        if self.class == class && self.details == details {
            return Ok(());
        }
        let there = Shape { class, details, size: 0 };
        Err(Error::Invalid(format!(
            "{} is a {there}, not a {self}: open it as what it is, use another path, or delete the file if no process uses it",
            path.display()
        )))
    }
}

impl std::fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.class.escape_debug())?;
        if !self.details.is_empty() {
            write!(f, " ({})", self.details.escape_debug())?;
        }
        Ok(())
    }
}

/// Permissions that a new file can be made with.
pub fn mode(mode: u32) -> Result<()> {
    if mode & !0o777 == 0 && mode & 0o600 == 0o600 {
        return Ok(());
    }
    let text = format!("mode 0{mode:o} cannot be: it must be within 0777, and let the owner read and write");
    Err(Error::Invalid(text))
}

/// Refuses what is no file, or a file that others could have prepared or can change.
pub fn status(path: &Path, status: &Status, mode: u32) -> Result<()> {
    let path = path.display();
    if let Some(kind) = status.other_than_file() {
        let text = format!("{path} is a {kind}, and an object needs a regular file: use another path");
        return Err(Error::Refused(text));
    }
    // SAFETY: no precondition.
    let user = unsafe { libc::geteuid() };
    if status.owner != user && status.owner != 0 {
        let owner = status.owner;
        return Err(Error::Refused(format!(
            "{path} belongs to user {owner}, and this process runs as user {user}: only files of its own user or of \
             root are trusted. Run as user {owner}, or use another path"
        )));
    }
    let extra = status.mode & 0o022 & !mode;
    if extra != 0 {
        let those = match extra {
            0o020 => "its group",
            0o002 => "everybody",
            _ => "its group and everybody",
        };
        return Err(Error::Refused(format!(
            "{path} (mode 0{:o}) can be written by {those}, which mode 0{mode:o} does not allow: chmod it, or give \
             the mode it has",
            status.mode & 0o7777
        )));
    }
    Ok(())
}

/// Refuses file systems that do not share memory, or locks, between all that can open a file there.
pub fn file_system(path: &Path, file: &fs::File) -> Result<()> {
    let name = system::unshareable(file).map_err(|error| Error::io("look at a file system", &error))?;
    match name {
        None => Ok(()),
        Some(name) => Err(Error::Refused(format!(
            "{} is on {name}, which does not share memory and locks reliably between the processes that use it: use \
             a local file system, such as /dev/shm, /run or /tmp",
            path.display()
        ))),
    }
}
