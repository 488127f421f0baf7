//! Making a file. It is complete before it gets its name, and its maker has it open before anybody else can.
//!
//! Where the file system can make a file without a name (`O_TMPFILE`), nothing is left of one whose maker was killed.
//! Elsewhere it has a temporary name in the same directory, always the same one for a path, and its maker holds its
//! door: a file with that name whose door is free was left by a maker that died, and the next maker removes it.

use super::check::Shape;
use super::header::{Draft, HEADER};
use super::machine::Machine;
use super::mapping::Mapping;
use super::place::{Id, Place, Status};
use super::registry::Opening;
use super::{Bytes, File, check, presence, space, system};
use crate::error::{Error, Result};
use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

/// Makes the file. None if the path leads to something by now, or to nothing again: look once more.
pub fn new(
    place: &Place,
    mode: u32,
    shape: &Shape,
    start: &impl Fn(Bytes) -> Result<()>,
) -> Result<Option<Arc<File>>> {
    let directory = place.directory()?;
    let unnamed = Opening::new(|| match system::unnamed(&directory) {
        Ok(file) => prepared(place, file).map(Some),
        Err(error) if system::has_no_unnamed_files(&error) => Ok(None),
        Err(error) => Err(Error::io("make the file of a shared object", &error)),
    })?;
    let Some((opening, id)) = unnamed else { return named(place, &directory, mode, shape, start) };
    presence::enter_door(&opening)?;
    let mapping = fill(&opening, mode, shape, start)?;
    match system::link(&opening, &directory, place.name()) {
        Ok(()) => publish(place, opening, mapping, id, shape),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        // Not allowed here, or something that the other way will say.
        Err(_) => named(place, &directory, mode, shape, start),
    }
}

fn named(
    place: &Place,
    directory: &fs::File,
    mode: u32,
    shape: &Shape,
    start: &impl Fn(Bytes) -> Result<()>,
) -> Result<Option<Arc<File>>> {
    let name = temporary_name(place.name());
    let made = Opening::new(|| match open_at(directory, &name, libc::O_CREAT | libc::O_EXCL) {
        Ok(file) => prepared(place, file).map(Some),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(Error::io("make the file of a shared object", &error)),
    })?;
    let Some((opening, id)) = made else { return remove_stale(directory, &name).map(|()| None) };
    // From here on it is not stale; but somebody may have seen it so.
    if !presence::try_door(&opening)? || !has_name(directory, &name, id)? {
        return Ok(None);
    }
    let temporary = Temporary { directory, name: &name };
    let mapping = fill(&opening, mode, shape, start)?;
    match system::rename_new(directory, &name, place.name()) {
        Ok(()) => {
            std::mem::forget(temporary);
            publish(place, opening, mapping, id, shape)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(Error::io("name the file of a shared object", &error)),
    }
}

/// A new file, and which it is, if its file system will do.
fn prepared(place: &Place, file: fs::File) -> Result<(fs::File, Id)> {
    check::file_system(place.path(), &file)?;
    let id = Status::of(&file)?.id;
    Ok((file, id))
}

/// Makes the file complete.
fn fill(
    opening: &Opening,
    mode: u32,
    shape: &Shape,
    start: &impl Fn(Bytes) -> Result<()>,
) -> Result<Mapping> {
    presence::arrive(opening)?;
    system::drop_access_list(opening);
    opening
        .set_permissions(Permissions::from_mode(mode))
        .map_err(|error| Error::io("set the mode of a shared object's file", &error))?;
    space::take(opening, (HEADER + shape.size) as u64)?;
    let mapping = opening.map(shape.size)?;
    start(mapping.bytes())?;
    // SAFETY: mapped as long as `opening`.
    unsafe { Draft::new(mapping.header()) }.complete(shape, &Machine::current()?);
    // Without this the name could survive a power failure, and the header not.
    opening.sync_data().map_err(|error| Error::io("write the file of a shared object", &error))?;
    Ok(mapping)
}

/// The file has its name; but its directory may have lost its own, or somebody has deleted the file already.
fn publish(
    place: &Place,
    opening: Opening,
    mapping: Mapping,
    id: Id,
    shape: &Shape,
) -> Result<Option<Arc<File>>> {
    if !place.leads_to(id)? {
        return Ok(None);
    }
    Ok(Some(File::register(place, opening, mapping, id, shape)))
}

/// Removes a temporary file if its maker is dead; waits until it is done if it lives.
fn remove_stale(directory: &fs::File, name: &CStr) -> Result<()> {
    let opened = Opening::new(|| match open_at(directory, name, libc::O_NONBLOCK | libc::O_NOCTTY) {
        Ok(file) => {
            let id = Status::of(&file)?.id;
            Ok(Some((file, id)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open what another maker of a shared object has left", &error)),
    })?;
    let Some((opening, id)) = opened else { return Ok(()) };
    presence::enter_door(&opening)?;
    if has_name(directory, name, id)? {
        drop(Temporary { directory, name });
    }
    Ok(())
}

/// A temporary name, removed on drop, while its file's door is held.
struct Temporary<'a> {
    directory: &'a fs::File,
    name: &'a CStr,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // SAFETY: a C string, and a descriptor that is open.
        unsafe { libc::unlinkat(self.directory.as_raw_fd(), self.name.as_ptr(), 0) };
    }
}

/// The temporary name for `name`: as short for a long one. Names that share one only wait for each other.
fn temporary_name(name: &CStr) -> CString {
    let hash = name.to_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    CString::new(format!(".process_shared.{hash:016x}")).unwrap_or_default()
}

fn open_at(directory: &fs::File, name: &CStr, more: libc::c_int) -> io::Result<fs::File> {
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC | more;
    let owner_only: libc::c_uint = 0o600;
    // SAFETY: a C string, and a descriptor that is open; the result is checked.
    let fd = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, owner_only) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { fs::File::from_raw_fd(fd) })
}

/// Whether `name` in `directory` is the file `id` now.
fn has_name(directory: &fs::File, name: &CStr, id: Id) -> Result<bool> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    let fd = directory.as_raw_fd();
    // SAFETY: a C string, a descriptor that is open, and room for the answer.
    let failed =
        unsafe { libc::fstatat(fd, name.as_ptr(), status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) } != 0;
    if failed {
        return match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::NotFound => Ok(false),
            error => Err(Error::io("look for a shared object", &error)),
        };
    }
    // SAFETY: filled in by the call, which succeeded.
    let status = unsafe { status.assume_init() };
    #[allow(clippy::unnecessary_cast)] // macOS has fewer bits
    let device = status.st_dev as u64;
    Ok((device, status.st_ino) == id)
}
