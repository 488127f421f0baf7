//! Linux: shared futexes (`futex`), the kernel's robust list (`robust_list`), and private pages that the kernel empties
//! in every child (`records`, `forks`).

mod forks;
mod futex;
mod liveness;
mod namespace;
mod records;
mod robust_list;

pub use forks::{fork_depth, is_accessible, register_atfork};
pub use robust_list::{Entry, MAX_HELD, WORD_FROM_NEXT};

use super::Wake;
use super::current::CURRENT;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::word::{ANY_CLASS, Word, aux, futex_word, pack};
use records::Record;
use robust_list::{Head, Link};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Bits of a futex word, as the kernel defines them.
pub const OWNER: u32 = 0x3fff_ffff; // FUTEX_TID_MASK
pub const OWNER_DIED: u32 = 0x4000_0000;
pub const WAITERS: u32 = 0x8000_0000;

pub const OUT_OF_REACH: &str = "it was made in another PID namespace, where thread numbers mean other threads; make it in this \
     one, after the fork that entered it";

/// With so many words on its list a thread keeps none that it does not need now: locks have to be found there, and the
/// entries of participants are for all threads.
const MAX_KEPT: u32 = 16;

/// The calling native thread, as the owner of locks. Kept to two words, so that it is passed in registers.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its number, and its process's in the other half.
    name: u64,
    record: &'static Record,
}

/// In a child the record has lost its name, so the child's thread is not known. The name is kept in the thread-local too:
/// a lock operation then starts with it, and the record is looked at meanwhile.
pub type Memo = Thread;

impl Thread {
    pub(super) const NOBODY: Memo = Thread { name: 1, record: records::NOBODY };

    #[inline]
    pub(super) fn memo(self) -> Memo {
        self
    }

    #[inline]
    pub(super) fn recall(memo: Memo) -> Option<Self> {
        memo.is_here().then_some(memo)
    }

    /// The calling thread, as the kernel knows it.
    pub(super) fn introduce() -> Result<Self> {
        register_atfork();
        // A thread whose thread-locals are gone already keeps its record for good.
        OWN.try_with(Own::introduce).unwrap_or_else(|_| ManuallyDrop::new(Own::new()).introduce())
    }

    /// The process this thread belongs to.
    #[inline]
    pub fn pid(&self) -> u32 {
        aux(self.name)
    }

    /// False in a child of the process that the thread belongs to.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.record.name.get() == self.name
    }

    /// Whether it may keep on its list what it does not need now.
    #[inline]
    pub fn may_keep_more(&self) -> bool {
        self.record.tally.held.get() < MAX_KEPT
    }

    #[inline]
    fn head(&self) -> *mut Head {
        self.record.head.get()
    }

    /// False where the kernel might not reach one more lock when this thread dies.
    #[inline]
    pub fn may_hold_more(&self) -> bool {
        self.record.tally.held.get() < MAX_HELD
    }

    #[inline]
    fn set_pending(&self, address: Link) {
        // SAFETY: this thread's own, or its stand-in's.
        unsafe { robust_list::set_pending(self.head(), address) }
    }

    /// Takes `word` off this thread's list, if it is there although the word does not name this thread any more: others have
    /// written to the file that it is in.
    #[cold]
    pub fn disown(&self, word: &Word) {
        let entry = NonNull::from(word.entry());
        if self.held().contains(&entry) {
            self.set_pending(word.entry().address());
            self.robust_remove(word);
            self.clear_pending();
        }
    }

    /// The entries on this thread's list, newest first, those of the C library's own mutexes among them.
    pub fn held(&self) -> Vec<NonNull<Entry>> {
        // SAFETY: this thread's own, or its stand-in's.
        unsafe { robust_list::entries(self.head()) }
    }
}

impl Kernel for Thread {
    const RECHECK: Option<Duration> = Some(Duration::from_millis(450));

    #[inline]
    fn id(&self) -> u32 {
        futex_word(self.name)
    }

    #[inline]
    fn pid(&self) -> u32 {
        aux(self.name)
    }

    #[inline]
    fn set_pending(&self, word: &Word) {
        self.set_pending(word.entry().address());
    }

    #[inline]
    fn clear_pending(&self) {
        self.set_pending(ptr::null_mut());
    }

    #[inline(always)]
    fn robust_push(&self, word: &Word) {
        // SAFETY: this thread's own list, or its stand-in's. A word is mapped while it is held.
        unsafe { robust_list::push(self.head(), word.entry(), &self.record.tally) };
    }

    #[inline(always)]
    fn robust_remove(&self, word: &Word) {
        // SAFETY: as above; this thread holds the word.
        unsafe { robust_list::remove(self.head(), word.entry(), &self.record.tally) };
    }

    fn wait(&self, word: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
        // The native thread that sleeps may be another than the stand-in that has the word pending. Either may be the
        // first to die.
        let own = OWN.try_with(Own::head).ok().and_then(Result::ok);
        let sleeper = own.map(NonNull::as_ptr).filter(|own| *own != self.head());
        let set_pending = |address| {
            if let Some(sleeper) = sleeper {
                // SAFETY: the calling native thread's own.
                unsafe { robust_list::set_pending(sleeper, address) };
            }
        };
        set_pending(word.entry().address());
        // SAFETY: the word is mapped as long as `word` is borrowed.
        let wake = unsafe { futex::wait(word.futex(), expected, deadline, class) };
        set_pending(ptr::null_mut());
        wake
    }

    fn wait_for_any(&self, words: &[(&Word, u32)], deadline: Option<Deadline>) -> Option<Wake> {
        let words: Vec<_> = words.iter().map(|(word, expected)| (word.futex(), *expected)).collect();
        // SAFETY: the words are mapped as long as `words` is borrowed.
        unsafe { futex::wait_for_any(&words, deadline) }
    }

    fn wake(&self, word: &Word, count: i32, classes: u32) -> usize {
        futex::wake(word.futex(), count, classes)
    }

    fn reap_if_owner_dead(word: &Word) {
        if liveness::mark_if_owner_gone(word) {
            futex::wake(word.futex(), 1, ANY_CLASS);
        }
    }
}

/// What a native thread has by itself, also while a stand-in owns locks for it.
struct Own {
    /// The process that the rest belongs to.
    fork_depth: Cell<u32>,
    head: Cell<Option<NonNull<Head>>>,
    record: Cell<Option<&'static Record>>,
}

thread_local! {
    static OWN: Own = const { Own::new() };
}

impl Own {
    const fn new() -> Self {
        Own { fork_depth: Cell::new(0), head: Cell::new(None), record: Cell::new(None) }
    }

    fn introduce(&self) -> Result<Thread> {
        let head = self.head()?;
        let record = match self.record.get() {
            Some(record) => record,
            None => records::claim()?,
        };
        self.record.set(Some(record));
        // SAFETY: neither call has a precondition.
        let (id, pid) = unsafe { (libc::syscall(libc::SYS_gettid) as u32, libc::getpid() as u32) };
        record.head.set(head.as_ptr());
        // SAFETY: the calling thread's own.
        record.tally.held.set(unsafe { robust_list::entries(head.as_ptr()) }.len() as u32);
        record.name.set(pack(id, pid));
        Ok(Thread { name: pack(id, pid), record })
    }

    /// The head of this native thread's robust list.
    fn head(&self) -> Result<NonNull<Head>> {
        let depth = fork_depth();
        if self.fork_depth.replace(depth) != depth {
            self.leave_parent();
        }
        let head = self.head.get().map_or_else(robust_list::head, Ok)?;
        self.head.set(Some(head));
        Ok(head)
    }

    /// In a child: what is noted here is the parent's.
    fn leave_parent(&self) {
        self.record.set(None);
        if let Some(head) = self.head.take() {
            // SAFETY: the calling thread's own.
            unsafe { robust_list::clear(head.as_ptr()) };
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Without a name it is the parent's.
        if let Some(record) = self.record.take().filter(|record| record.name.get() != 0) {
            // At a thread's end musl walks the robust list too, and takes each entry for a mutex of its own: it clears
            // WAITERS with the owner, and wakes at most one thread of this process. So nothing may be left on the list.
            #[cfg(target_env = "musl")]
            crate::objects::release_held_as_dead(&Thread { name: record.name.get(), record });
            CURRENT.set(Thread::NOBODY);
            records::release(record);
        }
    }
}

/// In a child, called by its fork handler.
fn leave_parent() {
    CURRENT.set(Thread::NOBODY);
    let _ = OWN.try_with(Own::leave_parent); // else this thread ends, and uses no locks any more
}

/// Nothing is needed.
///
/// # Errors
/// None.
pub fn prepare_to_share() -> Result<()> {
    Ok(())
}

/// A slot needs nothing but its memory.
pub const SLOT_TAIL: usize = 0;

/// A slot needs nothing but its memory.
///
/// # Safety
/// None is needed here.
pub unsafe fn attach_os(_slot: NonNull<u8>) -> Result<()> {
    Ok(())
}

/// Undoes `attach_os`.
///
/// # Safety
/// None is needed here.
pub unsafe fn detach_os(_slot: NonNull<u8>, _sole: impl FnOnce() -> bool) {}

/// That of other slots: an object in a file is for the PID namespace in which it was opened.
pub fn epoch_of_bare(now: u32) -> u32 {
    now
}

/// `forks` has seen to it.
pub fn forked(_epoch: u32) {}

/// The process that the thread with this number belongs to, if it is alive. `None` too where /proc is missing, or
/// numbers threads as another PID namespace does.
pub fn process_of(thread: u32) -> Option<u32> {
    let itself = std::fs::read_link("/proc/self").ok()?;
    if itself.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
