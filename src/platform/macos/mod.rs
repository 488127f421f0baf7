//! macOS: Mach semaphores, a registry of threads, port rights handed to every forked child.
//!
//! There are no futexes that processes share in all versions, and no robust list. So:
//! - Each object has a Mach semaphore to sleep on (`sleep_queue`). A process needs a right to it (`port_names`). A fork
//!   does not copy rights; the `handover` does. Processes that are not related have no way to hand over a right: for an
//!   object in a file they sleep on its word (`address_wait`), and so do all for a word in no slot with a semaphore.
//! - A thread's number leads to its process and start (`thread_registry`). A sleeper wakes at growing intervals, up to
//!   `LONGEST`, and looks at the word and whether the thread that the word names is alive. If the thread is dead, the
//!   sleeper does what Linux does at once: it marks the word and goes on as if woken. A wake-up lost with a dead thread
//!   is recovered by the same polling, so `set_pending` and `clear_pending` have nothing to do.
//!
//! The kernel's calls are a trait (`mach`), so all of this runs on Linux too, over a model of them (`simulated`).

mod address_wait;
mod fork_preparation;
pub mod handover;
pub mod mach;
mod port_names;
#[cfg(target_os = "macos")]
mod real;
#[cfg(not(target_os = "macos"))]
#[path = "../../../models/mach/mod.rs"]
pub mod simulated;
mod sleep_queue;
mod thread_registry;

use super::current::CURRENT;
use super::{Wake, map, unmap};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::word::{ANY_CLASS, Word, aux, futex_word, pack};
use sleep_queue::SleepQueue;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;
use thread_registry::{Identity, Registration};

/// Bits of a lock word, the same as on Linux.
pub const OWNER: u32 = 0x3fff_ffff;
pub const OWNER_DIED: u32 = 0x4000_0000;
pub const WAITERS: u32 = 0x8000_0000;

/// As on Linux, so that what works here works there.
pub const MAX_HELD: u32 = 2000;

/// As on Linux.
const MAX_KEPT: u32 = 16;

/// The word is the first half of its state.
pub const WORD_FROM_NEXT: isize = -32;

/// The longest time that a thread sleeps without looking at the word.
pub const LONGEST: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_millis(1);

/// Who holds the word: see `thread_registry`.
#[derive(Default)]
#[repr(C)]
pub struct Entry {
    process: AtomicU64,
    thread: AtomicU64,
}

impl Entry {
    /// The caller holds the word.
    #[inline]
    fn write(&self, holder: Identity) {
        if self.thread.load(Relaxed) != holder.thread || self.process.load(Relaxed) != holder.process {
            self.thread.store(0, Relaxed);
            self.process.store(holder.process, Release); // pairs with the load in `read`, which then sees the 0, or later
            self.thread.store(holder.thread, Release);
        }
    }

    /// The last holder that has written here. Its thread is 0 if another one is just writing.
    fn read(&self) -> Identity {
        let thread = self.thread.load(Acquire);
        let process = self.process.load(Acquire);
        let is_whole = self.thread.load(Relaxed) == thread;
        Identity { process, thread: if is_whole { thread } else { 0 } }
    }
}

/// The calling native thread, as the owner of locks.
#[derive(Clone, Copy)]
pub struct Thread {
    identity: Identity,
    id: u32,
    pid: u32,
    held: NonNull<Held>,
}

/// What a thread holds, newest last.
type Held = RefCell<Vec<NonNull<Entry>>>;

/// The calling thread's place in the registry, given back when the thread ends.
struct Registered(Cell<Option<Registration>>);

thread_local! {
    static REGISTERED: Registered = const { Registered(Cell::new(None)) };
    static HELD: Held = const { RefCell::new(Vec::new()) };
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(registration) = self.0.take() {
            thread_registry::unregister(registration);
        }
    }
}

pub type Memo = Option<Thread>;

pub const OUT_OF_REACH: &str = "this process has no Mach ports for it, because it was made before a fork by C code: only fork, \
     Process.fork, Process.daemon and IO.popen(\"-\") pass them on, while their parent lives; make it after that fork";

impl Thread {
    pub(in crate::platform) const NOBODY: Memo = None;

    #[inline]
    pub(in crate::platform) fn memo(self) -> Memo {
        Some(self)
    }

    #[inline]
    pub(in crate::platform) fn recall(memo: Memo) -> Option<Self> {
        memo
    }

    /// False in a child of the process that the thread belongs to.
    #[inline]
    pub fn is_here(&self) -> bool {
        Self::known().is_some_and(|known| known.id == self.id)
    }

    /// The calling thread, with its place in the registry. A native thread that is forgotten keeps its place for as long
    /// as it lives, since a fiber of it may still be in the middle of an operation.
    pub(in crate::platform) fn introduce() -> Result<Self> {
        register_atfork();
        let pid = std::process::id();
        let registration = match REGISTERED.try_with(|registered| registered.0.get()) {
            Ok(Some(known)) => known,
            Ok(None) | Err(_) => thread_registry::register(pid)?,
        };
        let _ = REGISTERED.try_with(|registered| registered.0.set(Some(registration)));
        let held = HELD
            .try_with(|held| NonNull::from(held))
            .map_err(|_| Error::System { attempt: "a lock while a thread ends", errno: libc::EAGAIN })?;
        let identity = registration.identity;
        Ok(Thread { identity, id: identity.number(), pid, held })
    }

    #[inline]
    fn held_list(&self) -> &Held {
        // SAFETY: the list of a native thread that lives: this one, or a stand-in, which leaves its list alone.
        unsafe { self.held.as_ref() }
    }

    /// The process this thread belongs to.
    #[inline]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// False if it holds `MAX_HELD` locks.
    #[inline]
    pub fn may_hold_more(&self) -> bool {
        self.held_list().borrow().len() < MAX_HELD as usize
    }

    /// As on Linux.
    #[inline]
    pub fn may_keep_more(&self) -> bool {
        self.held_list().borrow().len() < MAX_KEPT as usize
    }

    /// What this thread holds.
    pub fn held(&self) -> Vec<NonNull<Entry>> {
        self.held_list().borrow().clone()
    }

    /// Takes `word` off what this thread holds, although the word does not name it any more: others have written to the
    /// file that it is in.
    pub fn disown(&self, word: &Word) {
        self.robust_remove(word);
    }
}

impl Kernel for Thread {
    const TELLS_OF_DEATHS: bool = false;
    const RECHECK: Option<Duration> = Some(Duration::from_millis(450));
    const WAKES_BY_CLASS: bool = false;

    #[inline]
    fn id(&self) -> u32 {
        self.id
    }

    #[inline]
    fn pid(&self) -> u32 {
        self.pid
    }

    #[inline]
    fn set_pending(&self, _: &Word) {}

    #[inline]
    fn clear_pending(&self) {}

    #[inline]
    fn robust_push(&self, word: &Word) {
        word.entry().write(self.identity);
        self.held_list().borrow_mut().push(word.entry().into());
    }

    #[inline]
    fn robust_remove(&self, word: &Word) {
        let entry = word.entry().into();
        let mut held = self.held_list().borrow_mut();
        if let Some(position) = held.iter().rposition(|&other| other == entry) {
            held.swap_remove(position);
        }
    }

    fn wait(&self, at: &Word, expected: u32, deadline: Option<Deadline>, _class: u32) -> Wake {
        if address_wait::is_for(at) {
            return address_wait::wait(at, expected, deadline);
        }
        let (queue, which) = SleepQueue::of(at);
        let mut backoff = PollBackoff::new();
        queue.begin_sleep(which);
        let (wake, signalled) = loop {
            if futex_word(at.state.load(Acquire)) != expected {
                break (Wake::Woken, false);
            }
            let left = deadline.map(Deadline::remaining);
            if left.is_some_and(|left| left.is_zero()) {
                break (last_look(at, expected), false);
            }
            match queue.sleep(backoff.next(left)) {
                SleepEnd::Signalled => break (Wake::Woken, true),
                SleepEnd::Interrupted => break (Wake::Interrupted, false),
                SleepEnd::Over => look(at),
            }
        };
        if queue.end_sleep(which, signalled) { Wake::Woken } else { wake }
    }

    fn nap(&self, time: Duration) -> Wake {
        if pause(time) { Wake::Woken } else { Wake::Interrupted }
    }

    fn wake(&self, at: &Word, count: i32, classes: u32) -> usize {
        // Neither can choose by class, so all are woken and look for themselves.
        let count = if classes == ANY_CLASS { count as u32 } else { u32::MAX };
        if address_wait::is_for(at) {
            return address_wait::wake(at, count);
        }
        let (queue, which) = SleepQueue::of(at);
        queue.wake(which, count)
    }

    fn reap_if_owner_dead(at: &Word) {
        let state = at.state.load(Acquire);
        let owner = futex_word(state) & OWNER;
        let mine = CURRENT.get().is_some_and(|thread| thread.id == owner);
        if owner == 0 || mine {
            return;
        }
        let holder = at.entry().read();
        if thread_registry::is_alive(owner, holder, at.futex().addr(), state) || at.entry().read() != holder {
            return;
        }
        let marked = pack(futex_word(state) & WAITERS | OWNER_DIED, aux(state));
        // A failure means that the word has changed, or another thread has marked it.
        let _ = at.state.compare_exchange(state, marked, AcqRel, Relaxed);
    }
}

/// After a sleep: finds out whether the thread that a word names is dead.
fn look(at: &Word) {
    if thread_registry::is_number(futex_word(at.state.load(Relaxed)) & OWNER) {
        Thread::reap_if_owner_dead(at);
    }
}

/// At the deadline of a wait, which may have been too short for a look: finds out whether the word's thread is dead.
fn last_look(at: &Word, expected: u32) -> Wake {
    look(at);
    if futex_word(at.state.load(Acquire)) == expected { Wake::TimedOut } else { Wake::Woken }
}

/// How one sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SleepEnd {
    Signalled,
    /// A Unix signal was handled.
    Interrupted,
    /// Its time is over.
    Over,
}

/// Sleeps that double from `SHORTEST` to `LONGEST`.
struct PollBackoff(Duration);

impl PollBackoff {
    fn new() -> Self {
        PollBackoff(SHORTEST)
    }

    /// How long to sleep next, at most for `limit`.
    fn next(&mut self, limit: Option<Duration>) -> Duration {
        let time = limit.map_or(self.0, |limit| limit.min(self.0));
        self.0 = (self.0 * 2).min(LONGEST);
        time
    }
}

/// Does nothing for a while. False if a signal was handled.
fn pause(time: Duration) -> bool {
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: a valid time; the rest of it is not asked for.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) == 0 }
}

static FORK_DEPTH: AtomicU32 = AtomicU32::new(1);

/// How many forks this process is away from the one that loaded this code.
#[inline]
pub fn fork_depth() -> u32 {
    FORK_DEPTH.load(Relaxed)
}

/// Has a forked child forget its parent's thread, and keeps `port_names` consistent.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    extern "C" fn forget() {
        CURRENT.set(None);
        let _ = HELD.try_with(|held| held.borrow_mut().clear());
        let _ = REGISTERED.try_with(|registered| registered.0.set(None)); // it is the parent's
        FORK_DEPTH.fetch_add(1, Relaxed);
    }
    // SAFETY: `forget` touches only thread-local cells of the one thread there is.
    AT_FORK.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forget));
    });
    port_names::register_atfork();
}

/// The process that the thread with this number belongs to, if it is alive.
pub fn process_of(thread: u32) -> Option<u32> {
    thread_registry::process_of(thread)
}

/// To be called before there is anything that other processes could share.
///
/// # Errors
/// `System` if there is no memory.
pub fn prepare_to_share() -> Result<()> {
    thread_registry::open()
}

/// How many bytes at the end of a slot `attach_os` needs.
pub const SLOT_TAIL: usize = size_of::<SleepQueue>();

/// Gives a new slot what it needs of the system.
///
/// # Errors
/// `System` if the system has no more.
///
/// # Safety
/// `slot` is the address of a slot of the arena that nobody else has.
pub unsafe fn attach_os(slot: NonNull<u8>) -> Result<()> {
    let semaphore = port_names::create_semaphore()?;
    // SAFETY: the caller's promise; the end of a slot is its sleep queue.
    unsafe { slot.add(sleep_queue::OFFSET).cast::<SleepQueue>().as_ref() }
        .semaphore
        .store(semaphore, Relaxed);
    Ok(())
}

/// Takes back what `attach_os` gave, in this process. `sole`: nobody else can have it.
///
/// # Safety
/// `slot` is the address of a slot of the arena, which this process will not use any more.
pub unsafe fn detach_os(slot: NonNull<u8>, sole: impl FnOnce() -> bool) {
    // SAFETY: the caller's promise; the end of a slot is its sleep queue.
    let name = unsafe { slot.add(sleep_queue::OFFSET).cast::<SleepQueue>().as_ref() }.semaphore.load(Relaxed);
    if name != mach::NULL {
        port_names::release(port_names::Right { name, sole: sole() });
    }
}

/// In a child, first thing: no object that was made at a smaller fork depth is accessible until it is handed over.
pub fn forked(fork_depth: u32) {
    port_names::make_older_inaccessible(fork_depth);
    fork_preparation::forget();
}

/// The fork epoch of a slot that `attach_os` has given nothing, so that no fork can lose anything of it: later than
/// those of all others.
pub fn epoch_of_bare(now: u32) -> u32 {
    now | 1 << 31
}

/// Whether this process can use what was made at fork depth `made_at`.
#[inline]
pub fn is_accessible(made_at: u32) -> bool {
    port_names::is_accessible(made_at)
}
