//! The memory of a file: the header, and the bytes of the object behind it.

use super::header::{HEADER, Header};
use crate::error::{Error, Result};
use std::fs;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

#[cfg(target_os = "macos")]
unsafe extern "C" {
    fn minherit(start: *mut libc::c_void, size: libc::size_t, inheritance: libc::c_int) -> libc::c_int;
}

/// A file, mapped in full: `HEADER` bytes and those of the object. As long as it is mapped somewhere, its description is
/// open, with the locks on it: so the registry maps and unmaps.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: addresses; what is there is shared between processes anyway, and reached through raw pointers only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file of `HEADER + size` bytes.
    pub fn new(file: &fs::File, size: usize) -> Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (length, fd) = (HEADER + size, file.as_raw_fd());
        // SAFETY: a new mapping at an address that the system chooses; the result is checked.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os("map the file of a shared object"));
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Mapping { start, size }),
            None => Err(Error::System { attempt: "map the file of a shared object", errno: libc::ENOMEM }),
        }
    }

    pub fn header(&self) -> NonNull<Header> {
        self.start.cast()
    }

    pub fn bytes(&self) -> NonNull<[u8]> {
        // SAFETY: the mapping is `HEADER + size` bytes long.
        NonNull::slice_from_raw_parts(unsafe { self.start.add(HEADER) }, self.size)
    }

    /// Makes the bytes of the object zero.
    ///
    /// # Safety
    /// It is mapped.
    pub unsafe fn clear(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.bytes().cast::<u8>().write_bytes(0, self.size) };
    }

    /// A child that is forked from here on does not have it.
    ///
    /// # Safety
    /// It is mapped, and no child needs it.
    pub unsafe fn keep_from_children(self) {
        let (start, size) = (self.start.as_ptr().cast(), HEADER + self.size);
        // SAFETY: the caller's promise.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::madvise(start, size, libc::MADV_DONTFORK);
            #[cfg(target_os = "macos")]
            minherit(start, size, libc::VM_INHERIT_NONE);
        }
    }

    /// # Safety
    /// It is mapped, in this process, and nothing there uses it any more.
    pub unsafe fn unmap(self) {
        // SAFETY: exactly the mapping made in `new`, and the caller's promise.
        unsafe { libc::munmap(self.start.as_ptr().cast(), HEADER + self.size) };
    }
}
