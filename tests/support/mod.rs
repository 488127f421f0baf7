//! Forked processes for tests: always reaped, watched for hanging, and known to be asleep before a test goes on.
#![allow(dead_code, clippy::panic)] // each test uses some of it

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long an expected event may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The system calls of a nap.
const NAPS: [libc::c_long; 2] = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];

/// A forked child, killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    pub pid: libc::pid_t,
    reaped: bool,
}

/// fork(2), with the hand-over on macOS. A child ends with the thread of its parent.
pub fn split() -> libc::pid_t {
    process_shared_core::init(); // done before any fork, whichever thread is first
    #[cfg(feature = "simulated-mach")]
    let (handover, parent) = (handover::ready(), std::process::id() as libc::pid_t);
    // SAFETY: the callers see to it that the child leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error()); // a signal to -1 would reach everybody
    #[cfg(feature = "simulated-mach")]
    match (handover, pid) {
        (Some(handover), 0) => {
            if let Err(code) = handover.receive() {
                // SAFETY: ends this process at once.
                unsafe {
                    assert!(libc::getppid() != parent, "{code:?} from a parent that lives");
                    libc::_exit(0)
                }
            }
        }
        (Some(handover), pid) => handover.serve(Some(pid as u32)),
        (None, _) => {}
    }
    if pid == 0 {
        // SAFETY: no precondition.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    pid
}

/// Runs `life` in a forked child, which ends with the status it returns: 101 if it panics.
pub fn fork(life: impl FnOnce() -> i32) -> Child {
    match split() {
        0 => {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life)).unwrap_or(101);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(status) }
        }
        pid => Child { pid, reaped: false },
    }
}

/// Runs each of `lives` in a thread of its own, and returns when all have ended. A panic ends the process. For forked
/// children, where `std::thread` could wait for ever: for a lock of the standard library that a thread of the parent held
/// at the fork.
pub fn in_threads<F: FnOnce() + Send>(lives: impl IntoIterator<Item = F>) {
    extern "C" fn live<F: FnOnce()>(life: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: made below for this thread alone.
        let life = unsafe { Box::from_raw(life.cast::<F>()) };
        life();
        std::ptr::null_mut()
    }
    let start = |life: F| {
        let life = Box::into_raw(Box::new(life)).cast();
        // SAFETY: the attributes are initialized, and zeroes are as good as what pthread_create overwrites. The thread has its
        // argument to itself, and is joined while what it borrows is there.
        unsafe {
            let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
            let mut thread: libc::pthread_t = std::mem::zeroed();
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setstacksize(&raw mut attributes, 2 << 20);
            assert_eq!(libc::pthread_create(&raw mut thread, &raw const attributes, live::<F>, life), 0);
            thread
        }
    };
    let threads: Vec<libc::pthread_t> = lives.into_iter().map(start).collect();
    for thread in threads {
        // SAFETY: started above, and joined once.
        assert_eq!(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) }, 0);
    }
}

/// Runs both, each in a thread of its own.
pub fn beside(life: impl FnOnce() + Send, work: impl FnOnce() + Send) {
    in_threads([Box::new(life) as Box<dyn FnOnce() + Send>, Box::new(work)]);
}

impl Child {
    /// Waits for it to end, and returns the status it exited with, or the negative number of the signal that killed it.
    pub fn reap(mut self) -> i32 {
        let mut status = 0;
        // SAFETY: a child of this process that has not been reaped.
        until("a child ends", || unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid);
        self.reaped = true;
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(state(self.pid), 'Z' | 'X')
    }

    pub fn kill(self) {
        between_calls(|| {
            self.signal(libc::SIGKILL);
            assert_eq!(self.reap(), -libc::SIGKILL);
        });
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a child of this process that has not been reaped.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Returns once it sleeps in a futex.
    pub fn until_asleep(&self) {
        until("a child sleeps", || is_asleep(self.pid));
    }

    /// Returns once it sleeps in a futex, or takes a nap, as those in a line do over the model of Mach.
    pub fn until_asleep_in_line(&self) {
        until("a child sleeps in line", || is_asleep(self.pid) || sleeps_in(self.pid, &NAPS));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            between_calls(|| {
                self.signal(libc::SIGKILL);
                // SAFETY: as above.
                unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
            });
        }
    }
}

/// The state of a process as ps shows it; X when it is gone.
pub fn state(pid: libc::pid_t) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('X')
}

/// Whether a process sleeps in a futex call, or takes a nap, as those do that cannot sleep at an address.
pub fn is_asleep(pid: libc::pid_t) -> bool {
    let naps = std::env::var_os("MACH_BEFORE_14_4").is_some() && sleeps_in(pid, &NAPS);
    naps || sleeps_in(pid, &[libc::SYS_futex, libc::SYS_futex_waitv])
}

/// Whether a process sleeps in one of these system calls.
fn sleeps_in(pid: libc::pid_t, calls: &[libc::c_long]) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(" ").next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| calls.contains(&number)) && state(pid) == 'S'
}

/// Returns once all threads of this process but the calling one sleep in a futex.
pub fn until_other_threads_sleep() {
    // SAFETY: no precondition.
    let me = unsafe { libc::gettid() };
    let others: Vec<libc::pid_t> = std::fs::read_dir("/proc/self/task")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&thread| thread != me)
        .collect();
    until("the other threads sleep", || others.iter().all(|&thread| is_asleep(thread)));
}

/// Returns once `condition` holds.
#[track_caller]
pub fn until(what: impl Debug, condition: impl FnMut() -> bool) {
    assert!(comes_true(PATIENCE, condition), "{what:?} within {PATIENCE:?}");
}

/// Whether `condition` holds before `limit` has passed.
pub fn comes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_micros(20);
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
    true
}

/// Zeroed memory that forked children share, for counts and flags. Never given back. All of it is in one mapping: thousands
/// would make each fork slow.
pub fn shared<T: Sync>() -> &'static T {
    const ALL: usize = 64 << 20;
    const LINE: usize = 64;
    static START: AtomicUsize = AtomicUsize::new(0);
    if START.load(SeqCst) == 0 {
        let start = process_shared_core::platform::map(ALL).expect("shared memory").as_ptr() as usize;
        let _ = START.compare_exchange(0, start, SeqCst, SeqCst); // another thread may have been quicker
    }
    let start = START.load(SeqCst);
    // SAFETY: the first word counts what is used, in the process and all its children; fresh zeroes are valid.
    let used = unsafe { &*(start as *const AtomicUsize) };
    let offset = LINE + used.fetch_add(size_of::<T>().next_multiple_of(LINE), SeqCst);
    assert!(align_of::<T>() <= LINE && offset + size_of::<T>() <= ALL, "no shared memory is left");
    // SAFETY: fresh zeroes; used for atomics only, for which they are valid.
    unsafe { &*((start + offset) as *const T) }
}

/// Kills this process.
pub fn die() -> ! {
    // SAFETY: ends this process.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// Does `action`, a kill, while no process is inside a call of the model: a real kernel's call is one step.
#[cfg(feature = "simulated-mach")]
pub use process_shared_core::platform::simulated::between_calls;
#[cfg(not(feature = "simulated-mach"))]
pub fn between_calls<T>(action: impl FnOnce() -> T) -> T {
    action()
}

/// The hand-over of a fork on macOS, and over the model of it.
#[cfg(feature = "simulated-mach")]
pub mod handover {
    pub use process_shared_core::platform::handover::{Handover, Unprepared, prepare};

    /// Prepares a fork, as soon as no other thread is about to fork. None if there is nothing to hand over.
    pub fn ready() -> Option<Handover> {
        loop {
            match prepare() {
                Ok(handover) => return handover,
                Err(Unprepared::Busy) => std::thread::yield_now(),
                Err(Unprepared::Failed(code)) => panic!("{code:?}"),
            }
        }
    }
}
