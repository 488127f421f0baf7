//! Regions as their users meet them: bounds, sizes nobody can have, and bytes that cross a fork.

use std::os::fd::AsRawFd;

use process_shared_core::Error;
use process_shared_core::memory::{Region, span};

fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child runs only `body`, which allocates nothing that a lock of another thread could guard,
    // and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        let status = if body() { 0 } else { 1 };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
}

fn errno(result: Result<Region, Error>) -> Option<i32> {
    match result {
        Err(Error::System { errno, .. }) => Some(errno),
        _ => None,
    }
}

fn reserved(size: usize) -> Result<Region, Error> {
    let region = Region::new(size)?;
    let mut done = 0;
    while done < size {
        done = region.reserve(done)?;
    }
    Ok(region)
}

#[test]
fn starts_zeroed_and_carries_bytes_both_ways() {
    let region = Region::new(1 << 20).unwrap();
    let last = region.start().wrapping_add(region.size() - 1);
    // SAFETY: inside the region.
    assert_eq!(unsafe { (region.start().read(), last.read()) }, (0, 0));
    // SAFETY: inside the region.
    unsafe { region.start().write(1) };
    in_child(|| {
        // SAFETY: inside the region, which the child inherited.
        unsafe {
            last.write(2);
            region.start().read() == 1
        }
    });
    // SAFETY: inside the region.
    assert_eq!(unsafe { last.read() }, 2);
}

#[test]
fn a_child_that_unmaps_leaves_the_parent_alone() {
    let region = Some(Region::new(4096).unwrap());
    let start = region.as_ref().map(Region::start).unwrap();
    let mut held = region;
    in_child(|| {
        drop(held.take());
        true
    });
    // SAFETY: still mapped here.
    assert_eq!(unsafe { start.read() }, 0);
}

#[test]
fn refuses_sizes_that_cannot_be() {
    assert!(matches!(Region::new(0), Err(Error::Invalid(_))));
    assert!(matches!(Region::new(usize::MAX), Err(Error::Invalid(_))));
    assert!(matches!(Region::new(isize::MAX as usize + 1), Err(Error::Invalid(_))));
    assert_eq!(errno(Region::new(1 << 60)), Some(libc::ENOMEM));
}

#[test]
fn reserves_or_says_that_it_cannot() {
    let region = reserved(5 << 20).unwrap();
    // SAFETY: inside the region.
    assert_eq!(unsafe { region.start().add((5 << 20) - 1).read() }, 0);
    let refused = errno(reserved(1 << 46));
    assert!(matches!(refused, Some(libc::ENOMEM | libc::ENOSPC)), "{refused:?}");
}

#[test]
fn a_large_region_costs_nothing_until_it_is_touched() {
    let region = Region::new(1 << 36).unwrap();
    // SAFETY: inside the region.
    assert_eq!(unsafe { region.start().add((1 << 36) - 1).read() }, 0);
}

#[test]
fn the_descriptor_is_close_on_exec_and_closes_once() {
    let region = Region::new(1).unwrap();
    let fd = region.fd().unwrap();
    // SAFETY: plain system calls on an open descriptor.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) } & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    region.close_fd();
    assert_eq!(region.fd(), None);
    region.close_fd();
    // SAFETY: still mapped without its descriptor.
    assert_eq!(unsafe { region.start().read() }, 0);
}

#[test]
fn a_descriptor_that_somebody_else_closed_is_not_closed_again() {
    in_child(|| {
        let (first, second) = (Region::new(4096), Region::new(4096));
        let (Ok(first), Ok(second)) = (first, second) else { return false };
        let fd = first.fd().unwrap_or(-1);
        // SAFETY: plain system calls, in a process of its own.
        unsafe {
            libc::close(fd);
            let unknown = first.copy_fd().is_err();
            // The number now leads to memory of the same size.
            let other = libc::dup2(second.fd().unwrap_or(-1), fd) == fd;
            let refused = first.copy_fd().is_err();
            first.close_fd();
            drop(first);
            unknown && other && refused && libc::fcntl(fd, libc::F_GETFD) == 0
        }
    });
}

#[test]
fn a_copy_of_the_descriptor_is_close_on_exec_and_leads_to_the_same_bytes() {
    let region = Region::new(1).unwrap();
    let copy = region.copy_fd().unwrap();
    region.close_fd();
    let byte = [7u8];
    // SAFETY: plain system calls on an open descriptor; inside the region.
    unsafe {
        assert_eq!(libc::fcntl(copy.as_raw_fd(), libc::F_GETFD), libc::FD_CLOEXEC);
        assert_eq!(libc::pwrite(copy.as_raw_fd(), byte.as_ptr().cast(), 1, 0), 1);
        assert_eq!(region.start().read_volatile(), 7);
    }
    assert!(region.copy_fd().is_err());
}

#[test]
fn nobody_can_shrink_it_under_the_others() {
    let region = Region::new(1 << 16).unwrap();
    // SAFETY: a plain system call on an open descriptor.
    assert_ne!(unsafe { libc::ftruncate(region.fd().unwrap(), 1) }, 0);
    // SAFETY: inside the region.
    assert_eq!(unsafe { region.start().add((1 << 16) - 1).read() }, 0);
}

#[test]
fn spans_lie_inside_or_are_refused() {
    let inside = [(0, 0), (0, 16), (16, 0), (15, 1), (8, 8)];
    for (offset, length) in inside {
        assert_eq!(span(offset, length, 16), Ok(offset as usize));
    }
    let outside =
        [(-1, 1), (0, -1), (0, 17), (16, 1), (17, 0), (i64::MAX, i64::MAX), (i64::MIN, 1), (1, i64::MIN)];
    for (offset, length) in outside {
        assert_eq!(span(offset, length, 16), Err(Error::OutOfBounds { offset, length, size: 16 }));
    }
}

/// In a child, since limits and signals are the whole process's.
#[test]
#[cfg(target_os = "linux")]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SIGNALS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    fn too_large() -> bool {
        matches!(errno(Region::new(1 << 20)), Some(libc::EFBIG))
    }
    fn limit(bytes: u64) {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    }
    let before = reserved(1 << 20).unwrap();
    in_child(move || {
        limit(4096);
        // SAFETY: plain system calls; `count` only counts.
        unsafe {
            let default = too_large() && before.reserve(0) == Ok(1 << 20);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let ignored = too_large() && Region::new(4096).is_ok();
            libc::signal(libc::SIGXFSZ, count as *const () as libc::sighandler_t);
            let handled = too_large() && SIGNALS.load(Ordering::Relaxed) == 0;
            // One that was blocked and pending before stays, and comes once it may.
            let mut signal = std::mem::zeroed();
            libc::sigemptyset(&raw mut signal);
            libc::sigaddset(&raw mut signal, libc::SIGXFSZ);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signal, std::ptr::null_mut());
            libc::raise(libc::SIGXFSZ);
            let kept = too_large() && SIGNALS.load(Ordering::Relaxed) == 0;
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signal, std::ptr::null_mut());
            let came = SIGNALS.load(Ordering::Relaxed) == 1;
            // And none is blocked afterwards.
            libc::raise(libc::SIGXFSZ);
            default && ignored && handled && kept && came && SIGNALS.load(Ordering::Relaxed) == 2
        }
    });
}
