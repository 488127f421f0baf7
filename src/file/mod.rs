//! Objects with a path: a file that processes which are not related share, mapped into memory.
//!
//! Invariants:
//! - A file appears under its path complete, or not at all.
//! - A `File` is mapped in full, and holds a shared lock on its description for as long as it lives. A process that gets
//!   this lock exclusively is therefore alone, and puts what the dead have left in order before anybody else comes in.
//! - A process has at most one `File` for one file, whichever paths and threads opened it, before or after a fork.
//!
//! Bytes in the file are never trusted: they are checked, and what they say is never used as an address or a size. What
//! comes behind the header is the caller's. DESIGN.md tells the protocol.

mod check;
mod create;
mod header;
mod machine;
mod mapping;
mod open;
mod place;
mod presence;
mod registry;
mod space;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

pub use check::Shape;
pub use header::{HEADER, LAYOUT_VERSION};
pub use registry::register_atfork;

use crate::error::{Error, Result};
use mapping::Mapping;
use place::{Id, Place};
use registry::Opening;
use std::fs;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

/// What a caller does with the bytes of its object: `start` and `recover` get a pointer to them, and their number.
pub type Bytes = NonNull<[u8]>;

/// How often the file may be deleted, or made by others, while one call of `open` looks at it.
const TRIES: usize = 1000;

/// A file that this process shares with others, mapped in full.
#[derive(Debug)]
pub struct File {
    mapping: Mapping,
    /// Closed by the registry, so that no fork comes in between.
    descriptor: ManuallyDrop<fs::File>,
    id: Id,
    class: String,
    details: String,
    path: PathBuf,
}

/// Opens the object at `path`, or makes it with `mode` (exactly, whatever the umask).
///
/// `start` fills the bytes of a new object, which are zero, before anybody can see them. `recover` puts what dead
/// processes left in order; it runs while no other process has the file open. Neither may open a file itself, and both
/// may run again: a process that is killed in them leaves the file to the next one. If this process has the file open
/// already, the result is that one object, and neither runs.
///
/// # Errors
/// - `Invalid`: another class or shape is there; `path` or `mode` cannot be.
/// - `Incompatible`: another layout, or no object of this library.
/// - `Refused`: the file cannot be trusted, or not be shared here.
/// - `System`: ENOSPC, EDQUOT, EFBIG when there is no room for a new one; ENOENT when its directory does not exist;
///   EACCES; EINTR when a signal was handled while another process was opening the same file, or while room was taken:
///   call again.
pub fn open(
    path: &Path,
    mode: u32,
    shape: &Shape,
    start: impl Fn(Bytes) -> Result<()>,
    recover: impl Fn(Bytes) -> Result<()>,
) -> Result<Arc<File>> {
    register_atfork();
    shape.check()?;
    check::mode(mode)?;
    let place = Place::new(path)?;
    for _ in 0..TRIES {
        let file = match place.look()? {
            Some(status) => open::existing(&place, &status, mode, shape, &start, &recover)?,
            None => create::new(&place, mode, shape, &start)?,
        };
        if let Some(file) = file {
            return Ok(file);
        }
    }
    Err(Error::System {
        attempt: "open a file that others keep deleting and making again",
        errno: libc::EBUSY,
    })
}

impl File {
    /// The bytes of the object: `Shape::size` of them, page-aligned unless pages are larger than 4 KB. Other processes
    /// write them at any time; they fault with SIGBUS if somebody shortens the file.
    pub fn bytes(&self) -> Bytes {
        self.mapping.bytes()
    }

    /// Device and inode: no other file has the same.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// The path it was first opened by in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor (close-on-exec). A copy of it keeps the file in use, as this does.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Enters the file into the registry, and lets other openers in. From here on it is open.
    fn register(place: &Place, opening: Opening, mapping: Mapping, id: Id, shape: &Shape) -> Arc<File> {
        opening.finish(|descriptor| File {
            mapping,
            descriptor,
            id,
            class: shape.class.into(),
            details: shape.details.into(),
            path: place.path().into(),
        })
    }

    /// This file, if it is what the caller expects.
    fn expect(self: Arc<Self>, shape: &Shape) -> Result<Arc<Self>> {
        shape.compare(&self.path, &self.class, &self.details)?;
        Ok(self)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        registry::close(self);
    }
}
