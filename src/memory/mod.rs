//! A stretch of zero-filled memory shared with every process forked later.
//!
//! Invariant: from `Region::new` until its drop, `start .. start + size` is mapped, readable and writable,
//! and no process can shrink what lies behind it (Linux seals it), so an access inside those bounds never
//! faults. What other processes write meanwhile is not the business of this file: readers get whatever bytes
//! are there.
//!
//! The memory has no name, here or in any file system: it ends with the last process that maps it. It does
//! not know about Ruby, element types or closing; `span` is the one place where an offset becomes an address.

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

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use descriptor::Descriptor;

use crate::{Error, Result};

/// One shared mapping, and the descriptor it was made from. Unmapped on drop, in this process only.
pub struct Region {
    start: NonNull<u8>,
    size: usize,
    descriptor: Descriptor,
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
        Ok(Region { start, size, descriptor })
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
        self.descriptor.number()
    }

    /// Another descriptor of the memory, which belongs to the caller; see `Descriptor::copy`.
    pub fn copy_fd(&self) -> Result<OwnedFd> {
        self.descriptor.copy()
    }

    /// Closes the descriptor, once; the memory stays mapped.
    pub fn close_fd(&self) {
        self.descriptor.close();
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; nobody can hold the Region any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
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
