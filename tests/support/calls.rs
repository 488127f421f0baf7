//! Kills a child at one of its system calls: before the call is done, or right after.

use crate::support::split;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Killed where it was to be.
    Killed,
    /// It had fewer calls than that.
    Done,
}

/// Runs `operation` in a child, which is killed at the `stop`-th beginning or end of a call, from 0.
pub fn kill_at(stop: usize, operation: impl FnOnce()) -> End {
    let pid = split();
    if pid == 0 {
        // SAFETY: this process asks to be traced by its parent, stops before and after the operation, and ends.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0_usize, 0_usize);
            libc::kill(libc::getpid(), libc::SIGSTOP);
            operation();
            libc::kill(libc::getpid(), libc::SIGSTOP);
            libc::_exit(0);
        }
    }
    assert_eq!(wait(pid), libc::SIGSTOP);
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
    // SAFETY: the child is stopped, and this thread traces it.
    unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0_usize, options as usize) };
    let mut left = stop;
    let end = loop {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0_usize, 0_usize) };
        match wait(pid) {
            libc::SIGSTOP => break End::Done,
            signal if signal != libc::SIGTRAP | 0x80 => panic!("the child got signal {signal}"),
            _ if left == 0 => break End::Killed,
            _ => left -= 1,
        }
    };
    // SAFETY: a child of ours, not reaped yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let mut status = 0;
        while libc::waitpid(pid, &mut status, 0) == pid && libc::WIFSTOPPED(status) {}
    }
    end
}

/// Waits until the child stops; returns the signal that it stopped for.
fn wait(pid: libc::pid_t) -> libc::c_int {
    let mut status = 0;
    // SAFETY: a child of ours, not reaped yet.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFSTOPPED(status), "the child ended with status {status:#x}");
    libc::WSTOPSIG(status)
}
