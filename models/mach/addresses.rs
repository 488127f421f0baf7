//! Sleeping at an address, which macOS can since 14.4: a futex.

use super::faults::Step;
use crate::platform::mach::{Code, Result};
use std::ffi::CStr;
use std::time::Duration;

/// Where it is set, this is a macOS before that.
const OLD: &CStr = c"MACH_BEFORE_14_4";

fn is_missing() -> bool {
    // SAFETY: a C string; nobody changes the environment meanwhile.
    unsafe { !libc::getenv(OLD.as_ptr()).is_null() }
}

/// # Safety
/// `address` is that of a word, which stays mapped.
pub(super) unsafe fn wait(address: *const u32, expected: u32, time: Duration) -> Result<()> {
    if is_missing() {
        return Err(Code::NOT_SUPPORTED);
    }
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: the caller's promise; a valid time.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAIT, expected, &raw const time) };
    if result == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Ok(()),
        Some(libc::EINTR) => Err(Code::ABORTED),
        _ => Err(Code::OPERATION_TIMED_OUT),
    }
}

pub(super) fn wake(address: *const u32, all: bool) -> bool {
    let _step = Step::begin();
    let count = if all { i32::MAX } else { 1 };
    // SAFETY: a wake uses the address as a key only.
    !is_missing() && unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, count) } > 0
}
