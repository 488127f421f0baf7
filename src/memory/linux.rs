//! Anonymous shared memory on Linux: a memfd. It is no file in /dev/shm, so the size of that does not matter, and it
//! leaves nothing behind. It is sealed against any change of size: without that, a process that truncated the
//! descriptor would kill the others with SIGBUS.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Error, Result};

const NAME: &CStr = c"process_shared";

/// Not in every version of the libc crate: the memory can never be executed. Linux 6.3; some systems insist on it.
const MFD_NOEXEC_SEAL: libc::c_uint = 0x0008;

/// Bytes reserved by one call, so that a signal repeats little work and a shortage is seen in time.
const STEP: libc::off_t = 64 << 20;

/// A descriptor (close-on-exec) of `length` zero bytes that nobody else can name.
pub fn anonymous(length: libc::off_t) -> Result<OwnedFd> {
    let fd = memfd(MFD_NOEXEC_SEAL).or_else(|_| memfd(0))?;
    // SAFETY: a plain system call on a descriptor that we own.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } != 0 {
        return Err(Error::last_os("size shared memory"));
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a plain system call on a descriptor that we own.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(Error::last_os("seal shared memory"));
    }
    Ok(fd)
}

/// Takes all `length` bytes from the system now.
///
/// The kernel would rather kill a process than fail here, so each step first looks whether there is enough left.
pub fn reserve(fd: &OwnedFd, length: libc::off_t) -> Result<()> {
    let mut done = 0;
    while done < length {
        if available().is_some_and(|bytes| bytes < (length - done) as u64) {
            return Err(Error::System { attempt: "reserve shared memory", errno: libc::ENOMEM });
        }
        let step = STEP.min(length - done);
        // SAFETY: a plain system call on a descriptor that we own.
        let failed = unsafe { libc::fallocate(fd.as_raw_fd(), 0, done, step) } != 0;
        match failed.then(|| Error::last_os("reserve shared memory")) {
            None => done += step,
            Some(Error::System { errno: libc::EINTR, .. }) => {}
            Some(error) => return Err(error),
        }
    }
    Ok(())
}

fn memfd(more: libc::c_uint) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | more;
    // SAFETY: NAME is a C string; the result is checked before use.
    let fd: RawFd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::last_os("create shared memory"));
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many bytes the system, and the control group of this process, could still give. None where nothing tells.
fn available() -> Option<u64> {
    [machine(), group()].into_iter().flatten().min()
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    };
    Some(field("MemAvailable:")?.saturating_add(field("SwapFree:").unwrap_or(0)))
}

/// What the limits of the control groups (version 2) above this process leave, without what they could reclaim.
fn group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut least = None;
    loop {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok()?.trim().parse().ok()
        };
        if let (Some(max), Some(used)) = (number("memory.max"), number("memory.current")) {
            let cached = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.stat")).ok();
            let cached = cached.as_deref().and_then(inactive_file).unwrap_or(0);
            let left = max.saturating_sub(used.saturating_sub(cached));
            least = Some(least.map_or(left, |other: u64| other.min(left)));
        }
        match path.rfind('/') {
            Some(cut) if !path[cut..].is_empty() && path.len() > 1 => path = &path[..cut],
            _ => return least,
        }
    }
}

fn inactive_file(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()
}
