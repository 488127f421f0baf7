//! A semaphore whose permits belong to the processes that took them, and come back when such a process ends.
//!
//! Each process that holds permits is a participant, and its entry has how many. The entry is held by a thread that lives
//! as long as the process (`platform::guardian`): so the kernel says when the process has ended, in whatever way.
//!
//! Nothing is ever given back for a dead process, so nothing can be given back twice, or not at all: what is free is the
//! limit less what the living hold. `free` is that difference as it was last counted, or fewer.
//!
//! | lock            | meaning                                                                                   |
//! |-----------------|-------------------------------------------------------------------------------------------|
//! | free            | `free` is right but for the dead, who are counted as if they lived                        |
//! | held            | a thread changes `free`, or an entry's number: fewer are free meanwhile, never more       |
//! | left by the dead| the next holder counts                                                                    |
//!
//! Those who wait stand in line, and the head of the line sleeps at the gate:
//!
//! | gate               | other half    | meaning                                                                  |
//! |--------------------|---------------|--------------------------------------------------------------------------|
//! | WAITERS            | 0             | nobody wants what is not there                                           |
//! | WAITERS            | CLAIMED, want | the head of the line wants so many, and is awake or being woken          |
//! | AVAILABLE, WAITERS | CLAIMED, want | the same, and it is asleep or about to be                                |
//!
//! The gate changes under the lock only. Its owner bits are always 0. To a plain semaphore, whose word stands at the same
//! place, it says that no permit is free and somebody waits. So what is quick about a plain one never touches a robust
//! one, and need not ask which kind it is.
//!
//! Invariants:
//! - The head of the line arms the gate in the critical section in which it found too few, and sleeps on the gate's word
//!   and on the entry of each process that held some then. A permit that is given, and each death, changes one of them.
//! - Whoever holds permits and was not there then has woken the head: nobody is overlooked.
//! - A wake-up cannot be lost with the head, whose line is handed on to the next, which looks first. Nor can it be lost
//!   with the thread that gives it, which has the gate pending from before its change until after the wake-up.

use crate::atomic::{AtomicU32, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::participants::{OWES, Party, State, Ticket, status};
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::time::Duration;

const IDLE: u32 = WAITERS;
const ARMED: u32 = WAITERS | OWNER_DIED; // as in a plain semaphore, the kernel gives this bit no meaning here
const CLAIMED: u32 = 1 << 31;

/// The state of a holder. What it owes is collected by whoever counts, and by nobody else.
const HOLDS: State = OWES | 1;
const NOT_FOR_OTHERS: u64 = u64::MAX;

/// How long a call that does not wait for permits waits for the lock, which is held for less than a microsecond.
const PATIENCE: Duration = Duration::from_millis(10);

/// What keeps a call from doing its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The process holds so many permits, which is fewer than it would give.
    NotHeld(u32),
    /// The lock was not to be had: its holder does not run.
    Busy,
    /// The table of participants is full.
    Full,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RobustSemaphore>() == crate::arena::SLOT);

/// `start` makes one.
#[derive(Default)]
#[repr(C)]
pub struct RobustSemaphore {
    gate: Word,
    lock: Lock,
    line: Lock,
    limit: AtomicU32,
    free: AtomicU32,
}

/// A process's entry, as a handle remembers it.
#[derive(Debug, Default)]
pub struct Memory {
    ticket: std::cell::Cell<Option<Ticket>>,
}

// SAFETY: it is used by threads that hold the semaphore's lock, one at a time, but for `forget`, which is for the last.
unsafe impl Sync for Memory {}

/// A semaphore, and those who hold permits of it.
#[derive(Clone, Copy)]
pub struct Robust<'a> {
    pub semaphore: &'a RobustSemaphore,
    pub holders: Party<'a>,
    pub memory: &'a Memory,
}

/// The lock, taken.
struct Critical<'a, K: Kernel> {
    robust: Robust<'a>,
    kernel: &'a K,
}

impl RobustSemaphore {
    /// Sets the permits of a semaphore that nobody else knows yet, or that no process uses and whose holders are forgotten.
    pub fn start(&self, limit: i32) {
        self.lock.recover();
        self.lock.make_consistent();
        self.line.recover();
        self.line.make_consistent();
        self.gate.recover(pack(IDLE, 0));
        self.limit.store(limit as u32, Relaxed);
        self.free.store(limit as u32, Relaxed);
    }

    /// The most that can be held.
    pub fn limit(&self) -> i32 {
        self.limit.load(Relaxed) as i32
    }

    /// Words for the ranges of the participants: of holders, of waiters.
    pub fn ranges(&self) -> [&crate::atomic::AtomicU64; 2] {
        [self.lock.spare(), self.gate.spare()]
    }

    fn free(&self) -> i32 {
        self.free.load(Relaxed) as i32
    }

    /// How many the head of the line wants.
    fn wanted(&self) -> u32 {
        aux(self.gate.state.load(Relaxed)) & !CLAIMED
    }

    fn is_armed(&self) -> bool {
        futex_word(self.gate.state.load(Relaxed)) == ARMED
    }
}

impl<'a> Robust<'a> {
    #[inline]
    fn try_enter<K: Kernel>(self, kernel: &'a K) -> Option<Critical<'a, K>> {
        let lock = &self.semaphore.lock;
        lock.try_lock(kernel).then(|| self.entered(kernel))
    }

    #[inline]
    fn entered<K: Kernel>(self, kernel: &'a K) -> Critical<'a, K> {
        let critical = Critical { robust: self, kernel };
        if self.semaphore.lock.is_abandoned() {
            critical.count();
            self.semaphore.lock.make_consistent();
        }
        critical
    }

    fn enter<K: Kernel>(self, kernel: &'a K, deadline: Option<Deadline>) -> Result<Critical<'a, K>, Outcome> {
        if let Some(critical) = self.try_enter(kernel) {
            return Ok(critical);
        }
        match self.semaphore.lock.lock(kernel, deadline) {
            Outcome::Acquired => Ok(self.entered(kernel)),
            outcome => Err(outcome),
        }
    }

    #[inline]
    fn enter_soon<K: Kernel>(self, kernel: &'a K) -> Result<Critical<'a, K>, Refusal> {
        match self.try_enter(kernel) {
            Some(critical) => Ok(critical),
            None => self.enter_contended(kernel),
        }
    }

    /// Runs `action` with the lock taken. (Not by a destructor: a thread that dies in the middle, in a model, runs those.)
    ///
    /// # Errors
    /// `Busy`.
    #[inline]
    fn within<K: Kernel, T>(
        self,
        kernel: &'a K,
        action: impl FnOnce(&Critical<'a, K>) -> T,
    ) -> Result<T, Refusal> {
        let critical = self.enter_soon(kernel)?;
        let result = action(&critical);
        critical.leave();
        Ok(result)
    }

    #[cold]
    fn enter_contended<K: Kernel>(self, kernel: &'a K) -> Result<Critical<'a, K>, Refusal> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match self.enter(kernel, deadline) {
                Ok(critical) => return Ok(critical),
                Err(Outcome::Interrupted) => {}
                Err(_) => return Err(Refusal::Busy),
            }
        }
    }

    /// Takes `count` permits for this process if so many are free, and nobody in line goes before. `join` has to make a
    /// thread that lives as long as the process a holder, if this one is none yet.
    ///
    /// # Errors
    /// `Busy`, or `Full`.
    pub fn try_acquire<K: Kernel>(
        self,
        kernel: &'a K,
        count: u32,
        join: impl FnOnce(Party<'a>, State) -> Option<Ticket>,
    ) -> Result<bool, Refusal> {
        self.within(kernel, |critical| {
            if critical.may_overtake(count) { critical.take(count, join) } else { Ok(false) }
        })?
    }

    /// The same, waiting for them; unless `take`, leaves them to others once they are there.
    ///
    /// # Errors
    /// `Full`.
    #[cold]
    pub fn acquire<K: Kernel>(
        self,
        kernel: &'a K,
        count: u32,
        deadline: Option<Deadline>,
        take: bool,
        mut join: impl FnMut(Party<'a>, State) -> Option<Ticket>,
    ) -> Result<Outcome, Refusal> {
        let line = &self.semaphore.line;
        if !line.try_lock(kernel) {
            match line.lock(kernel, deadline) {
                Outcome::Acquired => {}
                outcome => return Ok(outcome),
            }
        }
        if line.is_abandoned() {
            line.make_consistent(); // there is nothing to repair: a look is the first that happens
        }
        let outcome = loop {
            let critical = match self.enter(kernel, deadline) {
                Ok(critical) => critical,
                Err(outcome) => break Ok(outcome),
            };
            critical.set_gate(IDLE, count);
            let found = if take { critical.take(count, &mut join) } else { Ok(critical.has(count)) };
            if found != Ok(false) {
                critical.set_gate(IDLE, 0);
                critical.leave();
                break found.map(|_| Outcome::Acquired);
            }
            critical.set_gate(ARMED, count);
            let watched = critical.others();
            critical.leave();
            match self.sleep(kernel, watched, deadline) {
                Wake::Woken => continue,
                Wake::TimedOut => self.end_claim(kernel),
                Wake::Interrupted => {
                    self.end_claim(kernel);
                    break Ok(Outcome::Interrupted);
                }
            }
            break Ok(Outcome::TimedOut);
        };
        line.unlock(kernel);
        outcome
    }

    /// The head of the line gives up. (If it cannot say so, others find that the line is not held.)
    fn end_claim<K: Kernel>(self, kernel: &'a K) {
        let _ = self.within(kernel, |critical| critical.set_gate(IDLE, 0));
    }

    /// Sleeps until the gate or one of those `watched` changes. `None`: one of them has changed already.
    fn sleep<K: Kernel>(
        self,
        kernel: &K,
        watched: Option<Vec<(&Word, u32)>>,
        deadline: Option<Deadline>,
    ) -> Wake {
        let Some(watched) = watched else { return Wake::Woken };
        kernel.wait_for_any_or_recheck(&self.semaphore.gate, ARMED, watched.into_iter(), deadline)
    }

    /// Gives back `count` permits that this process holds.
    ///
    /// # Errors
    /// `NotHeld` or `Busy`; nothing was changed.
    pub fn release<K: Kernel>(self, kernel: &'a K, count: u32) -> Result<(), Refusal> {
        self.within(kernel, |critical| {
            let Some(ticket) = critical.own() else { return Err(Refusal::NotHeld(0)) };
            let held = self.held(ticket);
            if held < count {
                return Err(Refusal::NotHeld(held));
            }
            critical.change(|| {
                self.holders.table().entry(ticket).data().store((held - count).into(), Relaxed);
                self.semaphore.free.store((self.semaphore.free() + count as i32) as u32, Relaxed);
            });
            Ok(())
        })?
    }

    /// Takes all permits that are free, and returns how many.
    ///
    /// # Errors
    /// `Busy`, or `Full`.
    pub fn drain<K: Kernel>(
        self,
        kernel: &'a K,
        join: impl FnOnce(Party<'a>, State) -> Option<Ticket>,
    ) -> Result<u32, Refusal> {
        self.within(kernel, |critical| {
            critical.count();
            let free = self.semaphore.free().max(0) as u32;
            if free == 0 || !critical.may_overtake(free) {
                return Ok(0);
            }
            critical.take(free, join).map(|_| free)
        })?
    }

    /// Changes the limit to what `limit` makes of it, if it makes something.
    ///
    /// # Errors
    /// `Busy`. Inside: nothing was changed.
    pub fn resize<K: Kernel>(
        self,
        kernel: &'a K,
        limit: impl FnOnce(i32) -> Option<i32>,
    ) -> Result<Option<()>, Refusal> {
        self.within(kernel, |critical| {
            let limit = limit(self.semaphore.limit())?;
            critical.change(|| {
                self.semaphore.limit.store(limit as u32, Relaxed);
                critical.count();
            });
            Some(())
        })
    }

    /// The permits that are free; less than 0 if more are held than the limit is now. If the lock is not to be had, what was
    /// counted last.
    pub fn value<K: Kernel>(self, kernel: &'a K) -> i32 {
        let _ = self.within(kernel, |critical| critical.count());
        self.semaphore.free()
    }

    /// The permits that were free when they were counted last.
    pub fn last_value(self) -> i32 {
        self.semaphore.free()
    }

    /// Whether it may be worth to try.
    pub fn may_have(self, count: u32) -> bool {
        self.semaphore.free() >= count as i32
    }

    /// The processes that hold permits, and how many.
    ///
    /// # Errors
    /// `Busy`.
    pub fn holders<K: Kernel>(self, kernel: &'a K) -> Result<Vec<(u32, u32)>, Refusal> {
        self.within(kernel, |critical| {
            critical.count();
            let live = self.holders.iter().filter(|seen| seen.is_live());
            let held = live.map(|seen| (self.pid(seen.ticket()), self.held(seen.ticket())));
            held.filter(|(_, held)| *held > 0).collect()
        })
    }

    fn pid(self, ticket: Ticket) -> u32 {
        let lock = self.holders.table().entry(ticket).lock();
        lock.pid(lock.owner())
    }

    fn held(self, ticket: Ticket) -> u32 {
        self.holders.table().entry(ticket).data().load(Relaxed) as u32
    }

    fn is_of(self, ticket: Ticket, pid: u32) -> bool {
        let entry = self.holders.table().entry(ticket);
        entry.status() == status(ticket.number(), HOLDS) && entry.lock().is_live() && self.pid(ticket) == pid
    }

    /// The entry of process `pid`, if a handle remembers it: for a handle that goes, and what it holds with it.
    pub fn forget(self, pid: u32) -> Option<Ticket> {
        self.memory.ticket.take().filter(|&ticket| self.is_of(ticket, pid))
    }
}

impl<'a, K: Kernel> Critical<'a, K> {
    #[inline]
    fn leave(self) {
        self.robust.semaphore.lock.unlock(self.kernel);
    }

    /// Counts what is free, and collects what the dead held.
    fn count(&self) {
        let Robust { semaphore, holders, .. } = self.robust;
        let mut held = 0;
        for seen in holders.iter() {
            if self.robust.pid(seen.ticket()) != self.kernel.pid() {
                seen.entry.lock().reap_if_owner_dead::<K>();
            }
            if seen.is_live() {
                held += i64::from(self.robust.held(seen.ticket()));
            } else if seen.is_orphan() {
                let _ = seen.entry.change(seen.status(), 0);
            }
        }
        let free = i64::from(semaphore.limit()) - held;
        semaphore.free.store(free.max(i32::MIN.into()) as i32 as u32, Relaxed);
    }

    fn has(&self, count: u32) -> bool {
        let free = || i64::from(self.robust.semaphore.free());
        if free() < i64::from(count) {
            self.count();
        }
        free() >= i64::from(count)
    }

    /// Whether a thread that is not in line may take `count`: those who want several go one after the other, and nobody
    /// takes what the head of the line waits for, if that is several.
    #[inline]
    fn may_overtake(&self, count: u32) -> bool {
        let semaphore = self.robust.semaphore;
        if !semaphore.line.is_locked() {
            return true;
        }
        semaphore.line.reap_if_owner_dead::<K>();
        !semaphore.line.is_locked() || count == 1 && semaphore.wanted() <= 1
    }

    /// Takes `count` permits for this process.
    fn take(
        &self,
        count: u32,
        join: impl FnOnce(Party<'a>, State) -> Option<Ticket>,
    ) -> Result<bool, Refusal> {
        let Robust { semaphore, holders, memory } = self.robust;
        if !self.has(count) {
            return Ok(false);
        }
        let ticket = match self.own() {
            Some(ticket) => ticket,
            None => {
                let ticket = join(holders, HOLDS).ok_or(Refusal::Full)?;
                holders.table().entry(ticket).more_data().store(NOT_FOR_OTHERS, Relaxed);
                memory.ticket.set(Some(ticket));
                ticket
            }
        };
        // In this order: whoever dies in between leaves fewer free than there are, and the next one counts.
        semaphore.free.store((semaphore.free() - count as i32) as u32, Relaxed);
        holders.table().entry(ticket).data().store((self.robust.held(ticket) + count).into(), Release);
        if semaphore.is_armed() {
            self.wake_head(); // it does not know of this holder
        }
        Ok(true)
    }

    /// The entry of this process.
    #[inline]
    fn own(&self) -> Option<Ticket> {
        let (robust, pid) = (self.robust, self.kernel.pid());
        let remembered = robust.memory.ticket.get().filter(|&ticket| robust.is_of(ticket, pid));
        remembered.or_else(|| {
            let found =
                robust.holders.iter().map(|seen| seen.ticket()).find(|&ticket| robust.is_of(ticket, pid));
            robust.memory.ticket.set(found);
            found
        })
    }

    /// The entries of other processes that hold permits, with the value of each word while that process lives. `None` if
    /// one of them has died meanwhile.
    fn others(&self) -> Option<Vec<(&'a Word, u32)>> {
        let (robust, pid) = (self.robust, self.kernel.pid());
        let holders = robust.holders.iter().filter(|seen| robust.held(seen.ticket()) > 0);
        let others = holders.filter(|seen| robust.pid(seen.ticket()) != pid);
        others.map(|seen| seen.entry.lock().watch().map(|value| (seen.entry.lock().word(), value))).collect()
    }

    fn set_gate(&self, word: u32, want: u32) {
        let half = if want == 0 { 0 } else { CLAIMED | want };
        self.robust.semaphore.gate.state.store(pack(word, half), Relaxed);
    }

    /// Makes a change that may give the head of the line what it wants.
    #[inline]
    fn change(&self, commit: impl FnOnce()) {
        let semaphore = self.robust.semaphore;
        if !semaphore.is_armed() {
            return commit();
        }
        let want = semaphore.wanted();
        self.kernel.set_pending(&semaphore.gate);
        // Before the change: a head that has looked and is not asleep yet must find another value, whenever we die.
        self.set_gate(IDLE, want);
        commit();
        if i64::from(semaphore.free()) >= i64::from(want) {
            self.kernel.wake(&semaphore.gate, 1, ANY_CLASS);
        } else {
            self.set_gate(ARMED, want);
        }
        self.kernel.clear_pending();
    }

    fn wake_head(&self) {
        let gate = &self.robust.semaphore.gate;
        self.kernel.set_pending(gate);
        self.set_gate(IDLE, self.robust.semaphore.wanted());
        self.kernel.wake(gate, 1, ANY_CLASS);
        self.kernel.clear_pending();
    }
}
