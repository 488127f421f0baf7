//! The descriptor behind shared memory. Its number is lent to the user (`SharedMemory#fd`), who may close it
//! by mistake; then the system gives the number to whatever is opened next. So the descriptor is closed, or
//! copied, only where the number still leads to the memory.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::{Error, Result};

/// No descriptor: it was closed.
const CLOSED: RawFd = -1;

/// What a descriptor leads to. The size cannot change; on macOS, whose shared memory has neither device nor
/// number, it is all there is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct File {
    device: libc::dev_t,
    number: libc::ino_t,
    size: libc::off_t,
    kind: libc::mode_t,
}

impl File {
    fn behind(fd: RawFd) -> Result<File> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat fills `status` in if it succeeds, and refuses a number that is no descriptor.
        let status = unsafe {
            if libc::fstat(fd, status.as_mut_ptr()) != 0 {
                return Err(Error::last_os("look at shared memory"));
            }
            status.assume_init()
        };
        Ok(File {
            device: status.st_dev,
            number: status.st_ino,
            size: status.st_size,
            kind: status.st_mode & libc::S_IFMT,
        })
    }
}

pub struct Descriptor {
    fd: AtomicI32,
    file: File,
}

impl Descriptor {
    pub fn new(fd: OwnedFd) -> Result<Descriptor> {
        let file = File::behind(fd.as_raw_fd())?;
        Ok(Descriptor { fd: AtomicI32::new(fd.into_raw_fd()), file })
    }

    /// A copy of `fd` (close-on-exec), and how many bytes are behind it.
    ///
    /// # Errors
    /// `Invalid` if that is no regular file, which memory is too, or none; `System` as `copy`.
    pub fn copy_of(fd: RawFd) -> Result<(Descriptor, usize)> {
        // SAFETY: a plain system call, which refuses what is no descriptor; the result is one that nothing else owns.
        let copy = match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) } {
            -1 => return Err(Error::last_os("copy the descriptor of shared memory")),
            // SAFETY: as above.
            copy => unsafe { OwnedFd::from_raw_fd(copy) },
        };
        let descriptor = Descriptor::new(copy)?;
        let file = descriptor.file;
        let is_file = file.kind == libc::S_IFREG || cfg!(target_os = "macos") && file.kind == 0;
        match usize::try_from(file.size) {
            Ok(size) if is_file && size > 0 => Ok((descriptor, size)),
            _ if is_file => Err(Error::Invalid(format!("there are no bytes behind descriptor {fd}"))),
            _ => Err(Error::Invalid(format!("descriptor {fd} is that of no memory and no regular file"))),
        }
    }

    /// Its number, while it is open.
    pub fn number(&self) -> Option<RawFd> {
        Some(self.fd.load(Ordering::Relaxed)).filter(|&fd| fd != CLOSED)
    }

    /// Another descriptor of the memory (close-on-exec), which belongs to the caller.
    ///
    /// # Errors
    /// `System` with EBADF if somebody else closed ours, with EMFILE when out of descriptors.
    pub fn copy(&self) -> Result<OwnedFd> {
        let closed = Error::System { attempt: "copy the descriptor of shared memory", errno: libc::EBADF };
        let fd = self.number().filter(|&fd| self.leads_here(fd)).ok_or(closed)?;
        // SAFETY: a plain system call; the result is a fresh descriptor that nothing else owns.
        match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) } {
            -1 => Err(Error::last_os("copy the descriptor of shared memory")),
            // SAFETY: as above.
            copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
        }
    }

    /// Closes it, once.
    pub fn close(&self) {
        let fd = self.fd.swap(CLOSED, Ordering::Relaxed);
        if fd != CLOSED && self.leads_here(fd) {
            // SAFETY: it is the one that `new` took over, and the swap gave it to this call alone.
            unsafe { libc::close(fd) };
        }
    }

    fn leads_here(&self, fd: RawFd) -> bool {
        File::behind(fd) == Ok(self.file)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.close();
    }
}
