//! Kills a child after k instructions of an operation, for one k after the other.
//!
//! The first run single-steps the operation from its first instruction to its last and notes where each is. A run for k
//! then goes straight to the k-th (a breakpoint there, passed as often as the trace passes it before), and the child is
//! killed before it executes it. Where there is no way to set a breakpoint it single-steps again.
//!
//! Over the model of the Mach kernel, steps inside a call of it do not count: a real kernel's call is one.

use crate::support::{PATIENCE, between_calls, is_asleep, split};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// One operation of a child: what it does before the steps count, and the steps.
pub struct Victim<'a> {
    pub prepare: &'a dyn Fn(),
    pub operation: &'a dyn Fn(),
    /// Called when the child stands before its first step.
    pub ready: &'a dyn Fn(libc::pid_t),
    /// Called when the child has fallen asleep, with how often it had before: it must make it wake up.
    pub asleep: &'a dyn Fn(usize),
}

/// Which point a run is for, and what the trace says of it.
pub struct Run<'a> {
    /// The step before which the child is killed; `None` to note the trace, and let the child live.
    point: Option<usize>,
    trace: &'a RefCell<Vec<u64>>,
}

/// How far apart points are by default, and how many of them are tried at most.
const SPREAD: usize = 23;
const MOST: usize = if cfg!(feature = "simulated-mach") { 25 } else { usize::MAX };

/// Runs `scenario` once for the trace, then for each `stride`-th point, beginning with the first, and for the last.
/// Returns how many there are, and were tried.
pub fn each_point(stride: Option<usize>, scenario: impl Fn(&Run)) -> (usize, usize) {
    let trace = RefCell::new(Vec::new());
    scenario(&Run { point: None, trace: &trace });
    let count = trace.borrow().len();
    let stride = stride.unwrap_or_else(|| SPREAD.max(count / MOST));
    let mut tried = 0;
    for point in (0..count).filter(|point| point % stride == 0 || point + 1 == count) {
        scenario(&Run { point: Some(point), trace: &trace });
        tried += 1;
    }
    (count, tried)
}

impl Run<'_> {
    /// The point, for messages.
    pub fn point(&self) -> Option<usize> {
        self.point
    }

    /// Forks the victim and kills it at this run's point.
    pub fn kill(&self, victim: &Victim) {
        self.kill_after(victim, || {});
    }

    /// The same, after a last call of `before`.
    pub fn kill_after(&self, victim: &Victim, before: impl FnOnce()) {
        let pid = match split() {
            0 => live(victim),
            pid => pid,
        };
        let mut child = Traced { pid, victim, naps: 0 };
        let mut stopped = child.wait();
        assert!(stopped == Stop::Between, "{stopped:?} at the start");
        // SAFETY: the child is stopped, and this thread traces it.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0_usize, libc::PTRACE_O_EXITKILL as usize) };
        (victim.ready)(pid);
        match self.point {
            None => {
                let mut trace = Vec::new();
                while stopped != Stop::Between || trace.is_empty() {
                    trace.push(child.place());
                    stopped = child.step();
                }
                *self.trace.borrow_mut() = trace;
            }
            Some(point) => child.go_to(&self.trace.borrow()[..=point]),
        }
        before();
        // SAFETY: a child of ours, not reaped yet.
        between_calls(|| unsafe {
            libc::kill(pid, libc::SIGKILL);
            let mut status = 0;
            while libc::waitpid(pid, &mut status, 0) == pid && libc::WIFSTOPPED(status) {}
        });
    }
}

fn live(victim: &Victim) -> ! {
    // SAFETY: this process asks to be traced by its parent, stops before and after the operation, and ends.
    unsafe {
        let pid = libc::getpid();
        (victim.prepare)();
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0_usize, 0_usize);
        libc::kill(pid, libc::SIGSTOP);
        (victim.operation)();
        libc::kill(pid, libc::SIGSTOP);
        libc::_exit(0)
    }
}

/// A request of ptrace(2), which the C libraries declare differently.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// Before or after the operation.
    Between,
    /// After a step, or at a breakpoint.
    Step,
}

struct Traced<'a> {
    pid: libc::pid_t,
    victim: &'a Victim<'a>,
    naps: usize,
}

impl Traced<'_> {
    /// Waits until the child stops; sees to it that it does not sleep for ever.
    fn wait(&mut self) -> Stop {
        let (start, mut status, mut pause) = (Instant::now(), 0, 0);
        loop {
            // SAFETY: a child of ours, not reaped yet.
            if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "the child does not stop");
            pause += 1;
            if pause > 20 {
                if is_asleep(self.pid) {
                    (self.victim.asleep)(self.naps);
                    self.naps += 1;
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        assert!(libc::WIFSTOPPED(status), "the child ended with status {status:#x}");
        match libc::WSTOPSIG(status) {
            libc::SIGSTOP => Stop::Between,
            libc::SIGTRAP => Stop::Step,
            signal => panic!("the child got signal {signal}"),
        }
    }

    fn resume(&mut self, request: Request) -> Stop {
        // SAFETY: the child is stopped, and this thread traces it.
        unsafe { libc::ptrace(request, self.pid, 0_usize, 0_usize) };
        self.wait()
    }

    /// One step; a call of the model's is one.
    fn step(&mut self) -> Stop {
        let stop = self.resume(libc::PTRACE_SINGLESTEP);
        if stop == Stop::Step { self.leave_call() } else { stop }
    }

    #[cfg(not(feature = "simulated-mach"))]
    fn is_inside_a_call(&self) -> bool {
        false
    }

    #[cfg(not(feature = "simulated-mach"))]
    fn leave_call(&mut self) -> Stop {
        Stop::Step
    }

    #[cfg(feature = "simulated-mach")]
    fn is_inside_a_call(&self) -> bool {
        let place = process_shared_core::platform::simulated::calls_begun();
        // SAFETY: the child is stopped, this thread traces it, and it has its own copy of the count.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, place, 0_usize) };
        word as u32 != 0
    }

    #[cfg(feature = "simulated-mach")]
    fn leave_call(&mut self) -> Stop {
        let end = process_shared_core::platform::simulated::call_ends as *const () as u64;
        while self.is_inside_a_call() {
            if self.run_to(end) == Stop::Between {
                return Stop::Between;
            }
        }
        Stop::Step
    }
}

#[cfg(target_arch = "x86_64")]
impl Traced<'_> {
    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: the child is stopped, and this thread traces it; all zeroes is a valid value to be overwritten.
        unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0_usize, &raw mut registers);
            registers
        }
    }

    /// Where the child is.
    fn place(&self) -> u64 {
        self.registers().rip
    }

    /// Lets the child go on to `place`, or to the end if it does not come by.
    fn run_to(&mut self, place: u64) -> Stop {
        if self.place() == place && self.resume(libc::PTRACE_SINGLESTEP) == Stop::Between {
            return Stop::Between;
        }
        // SAFETY: as in `registers`; the child's text is its own copy.
        let text = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, place, 0_usize) };
        let pid = self.pid;
        let write = |text: libc::c_long| {
            // SAFETY: as above.
            unsafe { libc::ptrace(libc::PTRACE_POKETEXT, pid, place, text) };
        };
        write(text & !0xff | 0xcc);
        let stop = self.resume(libc::PTRACE_CONT);
        write(text);
        if stop == Stop::Step {
            let mut registers = self.registers();
            registers.rip = place;
            // SAFETY: as above.
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0_usize, &raw const registers) };
        }
        stop
    }

    /// Lets the child go on to the last of `trace`, whose first is where it is.
    fn go_to(&mut self, trace: &[u64]) {
        let Some((&place, before)) = trace.split_last() else { return };
        let mut passes = before.iter().skip(1).filter(|&&there| there == place).count();
        if before.is_empty() {
            return;
        }
        loop {
            if self.run_to(place) == Stop::Between {
                return; // it went another way, to the end
            }
            // What a call does on the way is no pass.
            if !self.is_inside_a_call() {
                if passes == 0 {
                    return;
                }
                passes -= 1;
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Traced<'_> {
    fn place(&self) -> u64 {
        0
    }

    #[cfg(feature = "simulated-mach")]
    fn run_to(&mut self, _: u64) -> Stop {
        self.resume(libc::PTRACE_SINGLESTEP)
    }

    /// Lets the child go as many steps as `trace` has after its first.
    fn go_to(&mut self, trace: &[u64]) {
        for _ in 1..trace.len() {
            if self.step() == Stop::Between {
                return;
            }
        }
    }
}
