//! What the kernel knows of processes and threads, from /proc.

use super::faults::Step;
use crate::platform::mach::Start;

/// A process, told from all others.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Owner {
    pub pid: u32,
    pub start: u64,
}

impl Owner {
    /// Never dies, as launchd.
    pub const KERNEL: Owner = Owner { pid: 0, start: 0 };
    pub const NOBODY: Owner = Owner { pid: u32::MAX, start: 0 };

    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let Start::At(start) = start_of(pid) else { return Owner { pid, start: 0 } };
        Owner { pid, start }
    }

    pub fn is_alive(self) -> bool {
        self == Owner::KERNEL || start_of(self.pid) == Start::At(self.start)
    }
}

pub(super) fn start_of(pid: u32) -> Start {
    let _step = Step::begin();
    match stat(pid) {
        Some(stat) if !matches!(stat.state, 'Z' | 'X') => Start::At(stat.start),
        _ => Start::Gone,
    }
}

pub(super) fn current_thread() -> u64 {
    let _step = Step::begin();
    // SAFETY: no precondition.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
    stat(std::process::id()).map_or(0, |stat| stat.image << 32) | thread
}

pub(super) fn has_thread(pid: u32, thread: u64) -> bool {
    let _step = Step::begin();
    stat(pid).is_some_and(|stat| stat.image << 32 == thread & !0xffff_ffff)
        && std::path::Path::new(&format!("/proc/{pid}/task/{}", thread as u32)).exists()
}

struct Stat {
    state: char,
    start: u64,
    /// Where the program's stack begins: another after an exec.
    image: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    let image = fields.nth(5)?.parse::<u64>().ok()? >> 4;
    Some(Stat { state, start, image })
}
