//! A stretch of memory that processes share: zeroes, for every process forked later; the bytes of a file, for all that
//! open its path; what a descriptor from elsewhere leads to; or a part of what something else has mapped.
//!
//! Invariant: from its making until its drop, `start .. start + size` is mapped, readable and writable. No process can
//! shrink memory that has no name (Linux seals it), so an access inside those bounds never faults. A process that may
//! write to a file can shrink it: then an access faults (SIGBUS). Other processes may write at any time, and readers get
//! whatever bytes are there.
//!
//! Memory without a file ends with the last process that maps it. This module does not know about Ruby, element types or
//! closing; `span` is the one place where an offset becomes an address.

#[cfg(target_os = "linux")]
mod available;
mod descriptor;
mod file_size;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

use std::any::Any;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use descriptor::Descriptor;

use crate::file::{self, File};
use crate::{Error, Result};

/// One shared mapping, and the descriptor it was made from. Unmapped on drop, in this process only.
pub struct Region {
    start: NonNull<u8>,
    size: usize,
    behind: Behind,
}

/// What the memory belongs to.
enum Behind {
    /// Memory without a name, or what a descriptor from elsewhere leads to.
    Descriptor(Descriptor),
    /// A file, behind its header: other handles of this process may have it too.
    File(Arc<File>),
    /// A part of what something else has mapped, and keeps so.
    Other { _keep: Arc<dyn Any + Send + Sync> },
}

// SAFETY: `start` and `size` never change, the mapping lives as long as the Region, and the descriptor is
// Sync. Races on the mapped bytes exist between processes anyway; accessors read and write them through raw
// pointers only.
unsafe impl Send for Region {}
// SAFETY: as above; no method hands out a reference to the bytes.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `size` zero bytes. They are taken from the system as they are touched, or by `reserve`.
    ///
    /// Errors: `Invalid` for a size of 0 or beyond what one address can hold; `System` with ENOMEM or ENOSPC
    /// when the system cannot map it, with EMFILE or ENFILE when out of descriptors.
    pub fn new(size: usize) -> Result<Region> {
        if size == 0 {
            return Err(Error::Invalid("shared memory needs a size of at least 1 byte".into()));
        }
        let length = libc::off_t::try_from(size)
            .ok()
            .filter(|_| isize::try_from(size).is_ok())
            .ok_or_else(|| Error::Invalid(format!("{size} bytes are more than an address can hold")))?;
        let fd = platform::anonymous(length)?;
        let raw = fd.as_raw_fd();
        let descriptor = Descriptor::new(fd)?;
        let start = map(raw, size)?;
        Ok(Region { start, size, behind: Behind::Descriptor(descriptor) })
    }

    /// The `size` bytes of the file at `path`, which is opened as it was left, or made of zeroes with `mode`. `class` and
    /// `details` have to be those that it was made with.
    ///
    /// # Errors
    /// As `file::open`.
    pub fn in_file(path: &Path, mode: u32, class: &str, details: &str, size: usize) -> Result<Region> {
        let shape = file::Shape { class, details, size };
        let file = file::open(path, mode, &shape, |_| Ok(()), |_| Ok(()))?;
        Ok(Region { start: file.bytes().cast(), size, behind: Behind::File(file) })
    }

    /// All the bytes behind a copy of `fd`, whoever made it. Memory that can be sealed is sealed against shrinking, since that
    /// would kill those who use it.
    ///
    /// # Errors
    /// `Invalid` if it is no memory and no regular file, or holds no bytes; `System` with EBADF for no descriptor, EACCES
    /// for one that cannot be written, EMFILE when out of descriptors, ENOMEM.
    pub fn of_descriptor(fd: RawFd) -> Result<Region> {
        let (descriptor, size) = Descriptor::copy_of(fd)?;
        let number =
            descriptor.number().ok_or(Error::System { attempt: "map shared memory", errno: libc::EBADF })?;
        platform::seal(number);
        let start = map(number, size)?;
        Ok(Region { start, size, behind: Behind::Descriptor(descriptor) })
    }

    /// A part of what `keep` has mapped.
    ///
    /// # Safety
    /// `start .. start + size` is mapped, readable and writable, for as long as `keep` lives.
    pub unsafe fn within(keep: Arc<impl Send + Sync + 'static>, start: NonNull<u8>, size: usize) -> Region {
        Region { start, size, behind: Behind::Other { _keep: keep } }
    }

    /// Takes the memory from the system, from byte `done` on, and returns how far it came: a signal ends it
    /// early. A gigabyte takes some tenths of a second. To be called before anybody else has the memory.
    ///
    /// # Errors
    /// `System` with ENOMEM or ENOSPC if there is not enough; what was taken stays.
    pub fn reserve(&self, done: usize) -> Result<usize> {
        let fd = self.fd().ok_or(Error::System { attempt: "reserve shared memory", errno: libc::EBADF })?;
        platform::reserve(fd, self.start, done, self.size)
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number of the descriptor behind the memory (close-on-exec), while it is open.
    pub fn fd(&self) -> Option<RawFd> {
        match &self.behind {
            Behind::Descriptor(descriptor) => descriptor.number(),
            Behind::File(file) => Some(file.descriptor().as_raw_fd()),
            Behind::Other { .. } => None,
        }
    }

    /// Another descriptor of the memory, which belongs to the caller; see `Descriptor::copy`.
    pub fn copy_fd(&self) -> Result<OwnedFd> {
        match &self.behind {
            Behind::Descriptor(descriptor) => descriptor.copy(),
            Behind::File(file) => file
                .descriptor()
                .try_clone_to_owned()
                .map_err(|error| Error::io("copy the descriptor of shared memory", &error)),
            Behind::Other { .. } => {
                Err(Error::System { attempt: "copy the descriptor of shared memory", errno: libc::EBADF })
            }
        }
    }

    /// Closes the descriptor, once; the memory stays mapped. That of a file stays open as long as the memory is mapped.
    pub fn close_fd(&self) {
        if let Behind::Descriptor(descriptor) = &self.behind {
            descriptor.close();
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Behind::Descriptor(_) = self.behind {
            // SAFETY: exactly the mapping that was made for this; nobody can hold the Region any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
        }
    }
}

/// Checks that `length` bytes from `offset` lie inside `size` bytes, and gives the offset back as an index. A
/// zero length at the very end lies inside.
#[inline(always)]
pub fn span(offset: i64, length: i64, size: usize) -> Result<usize> {
    // Both as unsigned: a negative one becomes larger than any size, which is at most `isize::MAX`.
    let (start, wanted, size) = (offset as u64, length as u64, size as u64);
    if start <= size && wanted <= size - start {
        Ok(start as usize)
    } else {
        Err(outside(offset, length, size as usize))
    }
}

#[cold]
fn outside(offset: i64, length: i64, size: usize) -> Error {
    Error::OutOfBounds { offset, length, size }
}

/// Takes the memory of an allocation that is about to be written from end to end from the system at once,
/// which costs less than a fault for each page. Where it cannot be had so, the faults come.
pub fn populate(start: *mut u8, length: usize) {
    platform::populate(start, length);
}

fn map(fd: RawFd, size: usize) -> Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address the system chooses touches no memory of ours; the result is
    // checked.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(Error::last_os("map shared memory"));
    }
    NonNull::new(start.cast()).ok_or_else(|| Error::last_os("map shared memory"))
}
