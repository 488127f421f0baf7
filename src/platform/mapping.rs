//! Pages that forked children share.

use crate::error::{Error, Result};
use std::ptr::{self, NonNull};

/// `size` bytes of zeroes that forked children share. They take memory only as they are touched, and have neither a
/// descriptor nor a name.
///
/// # Errors
/// `System` if the system has no address space or memory for them.
pub fn map(size: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping disturbs nothing.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANON | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(Error::last_os("mmap of shared pages for locks"));
    }
    NonNull::new(address.cast()).ok_or(Error::System { attempt: "mmap", errno: libc::ENOMEM })
}

/// Gives back what `map` gave.
///
/// # Safety
/// Nothing in this process uses those bytes any more.
pub unsafe fn unmap(address: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(address.as_ptr().cast(), size) };
}
