//! A mutex: a slot with a lock in it, and a condition to sleep on while holding the lock.

use super::condition_variable::condition_at;
use super::{SharedObject, count, counted, drop_when_due, is_me, release_dropped, waiters_of};
use crate::arena::{self, Holder, Slot};
use crate::atomic::Ordering::Relaxed;
use crate::condition::{Baton, Condition};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::file::File;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::participants::Party;
use crate::platform::{Entry, MAX_HELD, Thread, process_of};
use crate::spin::LONG_PAUSE;
use crate::word::{Word, aux, futex_word, pack};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;

impl Holder {
    /// As `Mutex::note_holder`. Returns another thread that was noted, if there was one.
    #[inline(always)]
    pub fn note(&self, thread: &Thread) -> Option<u64> {
        let (before, name) = (self.thread.load(Relaxed), name_of(thread));
        self.thread.store(name, Relaxed);
        (before != 0 && before != name).then_some(before)
    }

    /// As `Mutex::forget_holder`.
    #[inline(always)]
    pub fn forget(&self) {
        self.thread.store(0, Relaxed);
    }
}

/// A lock with an owner, handed on when the owner dies, and a condition to sleep on while holding it.
#[derive(Debug)]
pub struct Mutex(ManuallyDrop<Slot>);

/// How often to look for the holder while the mutex goes from one thread to the next. There may be no holder: where C code
/// has replaced a thread by another program, the word may still name that thread.
const LOOKS: u32 = 1000;

#[cold]
pub(super) fn make_room(thread: &Thread) -> Result<()> {
    release_dropped(thread);
    if thread.may_hold_more() {
        return Ok(());
    }
    Err(Error::Ownership(format!(
        "this thread holds {MAX_HELD} locks, the most that can be released if it dies; unlock some first"
    )))
}

impl Mutex {
    /// A free mutex.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Slot::new().map(|slot| Mutex(ManuallyDrop::new(slot)))
    }

    /// The mutex in the file at `path`, of `class`; opened, or made with `mode`. If its last holder is gone without an unlock,
    /// it is abandoned.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str) -> Result<Self> {
        if let Some(thread) = Thread::known() {
            release_dropped(&thread); // this very mutex may be among them
        }
        let recover = |slot: NonNull<u8>| {
            // SAFETY: the slot of a mutex, which is mapped.
            unsafe {
                slot.cast::<Lock>().as_ref().recover();
                slot.add(size_of::<Lock>()).cast::<Baton>().as_ref().recover();
            }
        };
        let slot = Slot::in_file(path, mode, class, "", |_| {}, recover)?;
        Ok(Mutex(ManuallyDrop::new(slot)))
    }

    /// The file it is in.
    pub fn file(&self) -> Option<&File> {
        self.0.file()
    }

    /// What this process knows of its holder; for a mutex in a file.
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder()
    }

    /// Whether this process has other handles of it.
    pub fn has_other_handles(&self) -> bool {
        self.0.has_others()
    }

    #[inline]
    fn inner(&self) -> &Lock {
        lock_of(&self.0)
    }

    /// The lock, after finding out whether its owner is dead, where the kernel did not tell.
    #[inline]
    fn reaped(&self) -> &Lock {
        self.inner().reap_if_owner_dead::<Thread>();
        self.inner()
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.0, self.inner().spare())
    }

    /// Takes the mutex if it is free. For a caller that sleeps if it is not: a sleeper learns of deaths that the system
    /// does not tell of.
    ///
    /// # Errors
    /// `Ownership` if the calling thread holds as many as the kernel can hand on when it dies.
    #[inline(always)]
    pub fn try_lock(&self, thread: &Thread) -> Result<bool> {
        if !thread.may_hold_more() {
            make_room(thread)?;
        }
        Ok(self.try_lock_at_once(thread)
            || !Thread::TELLS_OF_DEATHS && {
                self.inner().reap_if_owner_dead::<Thread>();
                self.try_lock_at_once(thread)
            })
    }

    /// Takes the mutex if it is free and the calling thread may hold one more. A caller that gets false asks `try_lock`,
    /// which makes room and finds dead owners.
    #[inline(always)]
    pub fn try_lock_at_once(&self, thread: &Thread) -> bool {
        let taken = thread.may_hold_more() && self.inner().try_lock(thread);
        if taken {
            self.inner().record_owner(thread);
        }
        taken
    }

    /// Takes the mutex if it is free, or if its owner is found to be dead. For a caller that does not sleep.
    ///
    /// # Errors
    /// As `try_lock`.
    pub fn try_lock_or_reap(&self, thread: &Thread) -> Result<bool> {
        if self.try_lock(thread)? {
            return Ok(true);
        }
        self.inner().reap_if_owner_dead::<Thread>();
        self.try_lock(thread)
    }

    /// For a mutex in a file: the calling thread has taken it, and does not drop it before `forget_holder`, whatever the file
    /// says meanwhile. Without this, a handle that is dropped while it is held may leave a lock on the thread's list whose
    /// memory is gone, if others write to the file.
    pub fn note_holder(&self, thread: &Thread) {
        if let Some(before) = self.0.holder().and_then(|holder| holder.note(thread)) {
            self.keep_if_listed_by(before);
        }
    }

    /// Follows `Holder::note`, which has found another thread there. Keeps the file mapped for good if that thread of this
    /// process has the lock on its list too: others have written into the file that it is free, and that thread would go on
    /// through unmapped memory.
    #[cold]
    pub fn keep_if_listed_by(&self, name: u64) {
        let (thread, pid) = (futex_word(name), aux(name));
        if pid == std::process::id() && process_of(thread) == Some(pid) {
            self.0.keep_for_good();
        }
    }

    /// The calling thread is about to release it.
    pub fn forget_holder(&self) {
        if let Some(holder) = self.0.holder() {
            holder.forget();
        }
    }

    /// Takes the mutex if that becomes possible within a few microseconds. To be called after `try_lock` said no; needs no
    /// other thread of this process to go on meanwhile.
    pub fn try_lock_soon(&self, thread: &Thread) -> bool {
        let lock = self.inner();
        let held_here = lock.pid(lock.owner()) == thread.pid();
        let taken = !held_here && self.0.spin.run(LONG_PAUSE, || lock.try_lock(thread));
        if taken {
            self.inner().record_owner(thread);
        }
        taken
    }

    /// Takes the mutex as soon as it is free. To be called after `try_lock` said no.
    pub fn lock(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        let outcome = counted(self.waiting(), thread, || self.inner().lock(thread, deadline));
        if outcome == Outcome::Acquired {
            self.inner().record_owner(thread);
        }
        outcome
    }

    /// Waits until the mutex may be free, and leaves it to others: `Acquired` then.
    pub fn wait_until_free(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.inner().wait_until_free(thread, deadline))
    }

    /// Releases the mutex, which the calling thread holds.
    #[inline(always)]
    pub fn unlock(&self, thread: &Thread) {
        self.inner().unlock(thread);
    }

    /// Releases it as if this thread had died holding it.
    pub fn release_as_dead(&self, thread: &Thread) {
        self.inner().release_as_dead(thread);
    }

    #[inline]
    pub fn is_locked(&self) -> bool {
        self.reaped().is_locked()
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub fn is_held_by(&self, thread: &Thread) -> bool {
        is_me(thread, self.inner().owner())
    }

    /// `is_abandoned` for the holder, which need not ask whether the owner is alive.
    #[inline]
    pub fn is_inconsistent(&self) -> bool {
        self.inner().is_abandoned()
    }

    /// Whether its last holder died, and nobody has unlocked it since.
    pub fn is_abandoned(&self) -> bool {
        self.reaped().is_abandoned()
    }

    /// The process of its holder, if there is one.
    pub fn owner_pid(&self) -> Option<u32> {
        owner_pid_of(self.inner())
    }

    /// How many threads wait to take it.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }

    /// A name for `Condition::begin_wait`: the same in all processes, and very nearly always unlike that of any other
    /// mutex. Never 0.
    pub fn name(&self) -> u32 {
        self.0.name()
    }

    /// The condition that comes with the mutex.
    pub fn condition(&self) -> Condition<'_> {
        condition_of(&self.0)
    }
}

impl SharedObject for Mutex {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}

/// The lock in a mutex's slot.
#[inline]
fn lock_of(slot: &Slot) -> &Lock {
    // SAFETY: the caller's slot is a mutex's: the lock is at 0. All zeroes is a free lock.
    unsafe { slot.at(0) }
}

/// The process of the holder of a lock, if there is one.
pub(super) fn owner_pid_of(lock: &Lock) -> Option<u32> {
    for _ in 0..LOOKS {
        lock.reap_if_owner_dead::<Thread>();
        let owner = lock.owner();
        if owner == 0 {
            break;
        }
        // The holder records its process right after it takes the lock; until then the system knows.
        let pid = Some(lock.pid(owner)).filter(|&pid| pid != 0).or_else(|| process_of(owner));
        if pid.is_some() && lock.owner() == owner {
            return pid;
        }
    }
    None
}

/// The condition in a mutex's slot: it follows the lock.
fn condition_of(slot: &Slot) -> Condition<'_> {
    condition_at(slot, size_of::<Lock>())
}

/// The locks of ours that a thread has on its list.
fn locks_of(entries: Vec<NonNull<Entry>>) -> impl DoubleEndedIterator<Item = NonNull<Lock>> {
    let ours = entries.into_iter().filter(|entry| arena::contains(entry.addr().get()));
    // SAFETY: an entry in the arena that a thread has on its list is the end of a `Lock` it holds.
    ours.map(|entry| unsafe { entry.byte_sub(Word::ENTRY) }.cast())
}

/// Releases all mutexes that the calling thread holds, as if it had died. For a thread that ends while its native
/// thread lives on.
pub fn release_held_as_dead(thread: &Thread) {
    release_dropped(thread);
    for lock in locks_of(thread.held()) {
        arena::set_holder(lock.addr().get(), 0);
        // SAFETY: a thread's list has what is mapped.
        unsafe { lock.as_ref() }.release_as_dead(thread);
        arena::unlist(lock.addr().get(), thread);
    }
}

/// Makes `heir` the holder of all mutexes that the calling thread, `holder`, holds. `heir` belongs to a `StandIn` of this
/// process, or is the calling thread where `holder` does.
pub fn transfer_held(holder: &Thread, heir: &Thread) {
    release_dropped(holder);
    for lock in locks_of(holder.held()).rev() {
        // SAFETY: a thread's list has what is mapped.
        unsafe { lock.as_ref() }.transfer(holder, heir);
        arena::set_holder(lock.addr().get(), name_of(heir));
    }
}

/// A mutex that is dropped while a thread of this process holds it is released for that thread, which alone can take it
/// off its list: at once if that is the calling thread, else by `release_dropped`. Its memory stays until then. The same
/// holds for waits for its condition.
impl Drop for Mutex {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.0) };
        let Some(slot) = slot.give_back_if_not_last() else { return };
        if slot.is_accessible() && is_in_use(&slot) {
            drop_when_due(slot, is_due, release);
        }
    }
}

/// Whether a thread of this process holds the mutex in `slot`, or is in the middle of a wait for its condition.
fn is_in_use(slot: &Slot) -> bool {
    owner_pid_of(lock_of(slot)).is_some_and(|pid| pid == std::process::id())
        || listed_by(slot) != 0
        || condition_of(slot).has_waits_of(std::process::id)
}

/// The number of the thread of this process that has the lock in a file on its list, or 0, whatever the file says.
fn listed_by(slot: &Slot) -> u32 {
    let thread = slot.holder().map_or(0, |holder| holder.thread.load(Relaxed));
    if thread != 0 && aux(thread) == std::process::id() { futex_word(thread) } else { 0 }
}

/// The number of a thread and its process, as `Holder` has it.
#[inline]
fn name_of(thread: &Thread) -> u64 {
    pack(thread.id(), thread.pid())
}

fn is_due(slot: &Slot, thread: &Thread) -> bool {
    let lock = lock_of(slot);
    let owner = lock.owner();
    let held_by_others = owner != 0 && !is_me(thread, owner) && lock.pid(owner) == std::process::id();
    let listed_by_others = ![0, thread.id()].contains(&listed_by(slot));
    !slot.is_accessible()
        || !held_by_others && !listed_by_others && !condition_of(slot).has_waits_of_others(thread)
}

/// A mutex in a file that has been opened again since is not to be released: a new handle is there for it.
fn release(slot: &Slot, thread: &Thread) {
    if !slot.is_accessible() || slot.has_others() {
        return;
    }
    if is_me(thread, lock_of(slot).owner()) {
        lock_of(slot).release_as_dead(thread);
    } else if listed_by(slot) == thread.id() {
        thread.disown(lock_of(slot).word());
    }
    if let Some(holder) = slot.holder() {
        holder.thread.store(0, Relaxed);
    }
    condition_of(slot).cancel_lost_waits(thread);
}
