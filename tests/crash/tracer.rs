//! Kills a child before a step of an operation, by ptrace.
//!
//! A first run single-steps the operation from its first instruction to its last and notes where each is: the trace. To
//! kill the child before the k-th step, it runs to a breakpoint there, which it passes as often as the trace does before.
//! Where there is no way to set a breakpoint it single-steps again.
//!
//! An instruction that repeats itself, as one that copies a string does, is two steps: its first round, and the rest.
//!
//! Over the model of the Mach kernel, a call of it is one step, as a real kernel's call is.

use crate::support::{PATIENCE, between_calls, is_asleep, split, until_other_threads_sleep};
use std::time::{Duration, Instant};

/// One operation of a child, and what others do meanwhile.
pub struct Victim<'a> {
    /// What the child does before the steps count.
    pub prepare: &'a dyn Fn(),
    pub operation: &'a dyn Fn(),
    /// Called when the child stands before its first step.
    pub ready: &'a dyn Fn(),
    /// Called when the child has fallen asleep, with how often it had before: it must make it wake up.
    pub asleep: &'a dyn Fn(usize),
    /// Called when the child stands at the point.
    pub at_the_point: &'a dyn Fn(),
}

/// Runs the whole operation, and kills the child after it. Returns the trace.
pub fn trace(victim: &Victim) -> Vec<u64> {
    let mut child = Traced::start(victim);
    let mut trace = vec![child.place()];
    while child.step() != Stop::Between {
        let place = child.place();
        if !trace.ends_with(&[place, place]) {
            trace.push(place);
        }
    }
    child.end();
    trace
}

/// Kills the child before the last step of `trace`.
pub fn kill_at(victim: &Victim, trace: &[u64]) {
    let mut child = Traced::start(victim);
    child.go_to(trace);
    child.end();
}

fn live(victim: &Victim) -> ! {
    // SAFETY: this process asks to be traced by its parent, stops before and after the operation, and ends.
    unsafe {
        let pid = libc::getpid();
        (victim.prepare)();
        until_other_threads_sleep(); // nobody traces them: a breakpoint on their way would end the process
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

impl<'a> Traced<'a> {
    /// Forks the child, which then stands before its first step.
    fn start(victim: &'a Victim<'a>) -> Self {
        let pid = match split() {
            0 => live(victim),
            pid => pid,
        };
        let mut child = Traced { pid, victim, naps: 0 };
        let stop = child.wait();
        assert!(stop == Stop::Between, "{stop:?} at the start");
        // SAFETY: the child is stopped, and this thread traces it.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0_usize, libc::PTRACE_O_EXITKILL as usize) };
        (victim.ready)();
        child
    }

    /// Kills and reaps the child.
    fn end(self) {
        (self.victim.at_the_point)();
        // SAFETY: a child of ours, not reaped yet.
        between_calls(|| unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            let mut status = 0;
            while libc::waitpid(self.pid, &mut status, 0) == self.pid && libc::WIFSTOPPED(status) {}
        });
    }

    /// Waits until the child stops; sees to it that it does not sleep for ever.
    fn wait(&mut self) -> Stop {
        let (start, mut status, mut pause) = (Instant::now(), 0, 0);
        loop {
            // SAFETY: a child of ours, not reaped yet.
            if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "the child does not stop");
            // A step takes some microseconds, and no longer: a victim that naps for some milliseconds must come to its nap.
            pause += 1;
            if pause <= 200 {
                std::thread::yield_now();
                continue;
            }
            if is_asleep(self.pid) {
                (self.victim.asleep)(self.naps);
                self.naps += 1;
            }
            std::thread::sleep(Duration::from_micros(50));
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
        let Some(&place) = trace.last() else { return };
        let is_there = |pair: &&[u64]| pair[0] != place && pair[1] == place;
        let mut passes = trace.windows(2).filter(is_there).count();
        while passes > 0 {
            if self.leave(place) == Stop::Between || self.run_to(place) == Stop::Between {
                return; // it went another way, to the end
            }
            // What a call does on the way is no pass.
            if !self.is_inside_a_call() {
                passes -= 1;
            }
        }
        if trace.ends_with(&[place, place]) {
            self.step();
        }
    }

    /// Lets the child go on behind the instruction at `place`, if it is there.
    fn leave(&mut self, place: u64) -> Stop {
        while self.place() == place {
            if self.resume(libc::PTRACE_SINGLESTEP) == Stop::Between {
                return Stop::Between;
            }
        }
        Stop::Step
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
