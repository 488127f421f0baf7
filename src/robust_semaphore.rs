//! A semaphore whose permits belong to the processes that took them, and come back when such a process ends.
//!
//! Each process that holds permits is a participant, and its entry has how many. The entry is held by a thread that lives
//! as long as the process (`platform::guardian`): so the kernel says when the process has ended, in whatever way.
//!
//! Nothing is ever given back for a dead process, so nothing can be given back twice, or not at all: what is free is the
//! limit less what the living hold. `free` is that difference as it was last counted, or fewer.
//!
//! # Kept permits
//! A process that gives a permit back keeps it in its entry while nobody waits, and takes it from there the next time: each
//! is one step, without the lock. A kept permit is as free as the others. Whoever finds too few free collects what all
//! processes keep, under the lock. An entry's two numbers, of permits held and kept, are one word: to give or take a kept one
//! does not change their sum, so `free` stays right whoever counts, or dies, meanwhile.
//!
//! Permits are kept only while the gate is quiet: nobody waits, and no more are held than the limit is. Whoever makes it
//! another than that looks at the entries afterwards, and whoever has kept one looks at the gate afterwards, and gives it
//! back under the lock if the gate is not quiet. A SeqCst fence between the two steps of each makes one of them see the other.
//!
//! # The lock and the gate
//! | lock            | meaning                                                                                   |
//! |-----------------|-------------------------------------------------------------------------------------------|
//! | free            | `free` is right but for the dead, who are counted as if they lived                        |
//! | held            | a thread changes `free`, or an entry's number: fewer are free meanwhile, never more       |
//! | left by the dead| the next holder counts                                                                    |
//!
//! Those who wait stand in line (`turn`). The first takes the lock of the line, is its head, and sleeps at the gate:
//!
//! | gate               | other half         | meaning                                                             |
//! |--------------------|--------------------|---------------------------------------------------------------------|
//! | WAITERS            | 0                  | quiet: nobody wants what is not there                               |
//! | any                | BUSY, EXCEEDED, any| more are held than the limit is, or a limit is being set            |
//! | WAITERS            | BUSY, want         | the head of the line wants so many, and is awake or being woken     |
//! | AVAILABLE, WAITERS | BUSY, want         | the same, and it is asleep or about to be                           |
//!
//! The gate changes under the lock only. Its owner bits are always 0. To a plain semaphore, whose word stands at the same
//! place, it says that somebody waits, and that no permit is free: its other half is 0, or negative, as BUSY is the sign.
//! So what is quick about a plain one never touches a robust one, and need not ask which kind it is.
//!
//! Invariants:
//! - The head of the line arms the gate in the critical section in which it found too few, and sleeps on the gate's word
//!   and on the entry of each process that held some then. A permit that is given, and each death, changes one of them.
//! - Whoever holds permits and was not there then has woken the head: nobody is overlooked.
//! - A wake-up cannot be lost with the head, whose line is handed on to the next, which looks first. Nor can it be lost
//!   with the thread that gives it, which has the gate pending from before its change until after the wake-up.

use crate::atomic::{AtomicU32, Ordering::*, fence};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::participants::{OWES, Party, State, Ticket, status};
use crate::platform::Wake;
use crate::turn::Place;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::time::Duration;

const IDLE: u32 = WAITERS;
const ARMED: u32 = WAITERS | OWNER_DIED; // as in a plain semaphore, the kernel gives this bit no meaning here
const BUSY: u32 = 1 << 31;
const EXCEEDED: u32 = 1 << 30;

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

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("gate", offset_of!(RobustSemaphore, gate)),
        ("lock", offset_of!(RobustSemaphore, lock)),
        ("line", offset_of!(RobustSemaphore, line)),
        ("limit", offset_of!(RobustSemaphore, limit)),
        ("free", offset_of!(RobustSemaphore, free)),
        ("idle", IDLE as usize),
        ("armed", ARMED as usize),
        ("busy", BUSY as usize),
        ("exceeded", EXCEEDED as usize),
    ]
}

/// The state of the gate.
const fn gate(word: u32, want: u32, is_exceeded: bool) -> u64 {
    let other = if is_exceeded { EXCEEDED | want } else { want };
    pack(word, if other == 0 { 0 } else { BUSY | other })
}

/// A process's entry, as a handle remembers it: 0, or its index and one, below its number.
#[derive(Debug, Default)]
pub struct Memory(std::sync::atomic::AtomicU64);

/// Bits for the index, of a table of at most 32,768 entries.
const INDEX_BITS: u32 = 16;

impl Memory {
    fn ticket(&self) -> Option<Ticket> {
        let known = self.0.load(Relaxed);
        let index = (known & ((1 << INDEX_BITS) - 1)).checked_sub(1)?;
        Some(Ticket::at(index as usize, known >> INDEX_BITS))
    }

    fn set(&self, ticket: Option<Ticket>) {
        let known = ticket.map(|ticket| ticket.number() << INDEX_BITS | (ticket.index() as u64 + 1));
        self.0.store(known.unwrap_or(0), Relaxed);
    }
}

/// The permits of an entry, and a tag that is unlike that of its last owners: a thread that goes on for a moment after its
/// process has lost the entry changes nothing of the next owner's. What other objects have in that word has no such tag.
#[derive(Clone, Copy)]
struct Permits {
    held: u32,
    kept: u16,
    tag: u16,
}

const TAGS: u64 = u16::MAX as u64 - 1;

impl Permits {
    fn none(ticket: Ticket) -> Self {
        Permits { held: 0, kept: 0, tag: (ticket.number() % TAGS) as u16 + 1 }
    }

    fn of(data: u64) -> Self {
        Permits { held: data as u32, kept: (data >> 32) as u16, tag: (data >> 48) as u16 }
    }

    fn data(self) -> u64 {
        u64::from(self.tag) << 48 | u64::from(self.kept) << 32 | u64::from(self.held)
    }

    fn keep_one(self) -> Option<Self> {
        Some(Permits { held: self.held.checked_sub(1)?, kept: self.kept.checked_add(1)?, ..self })
    }

    fn take_kept(self) -> Option<Self> {
        Some(Permits { held: self.held.checked_add(1)?, kept: self.kept.checked_sub(1)?, ..self })
    }

    fn less(self, count: u32) -> Option<Self> {
        Some(Permits { held: self.held.checked_sub(count)?, ..self })
    }

    fn collected(self) -> Option<Self> {
        (self.kept > 0).then_some(Permits { kept: 0, ..self })
    }
}

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
        aux(self.gate.state.load(Relaxed)) & !(BUSY | EXCEEDED)
    }

    fn is_exceeded(&self) -> bool {
        aux(self.gate.state.load(Relaxed)) & EXCEEDED != 0
    }

    /// Whether permits may be kept.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.gate.state.load(Relaxed) == pack(IDLE, 0)
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

    /// Takes a permit that this process has kept.
    #[inline]
    pub fn take_kept(self, pid: u32) -> bool {
        self.semaphore.is_quiet()
            && self.remembered(pid).is_some_and(|ticket| self.update(ticket, Permits::take_kept).is_ok())
    }

    /// Gives a permit back that this process holds, and keeps it. False if that is not possible, and nothing was changed.
    #[inline]
    pub fn keep(self, pid: u32) -> bool {
        if !self.semaphore.is_quiet() {
            return false;
        }
        let Some(ticket) = self.remembered(pid) else { return false };
        if self.update(ticket, Permits::keep_one).is_err() {
            return false;
        }
        fence(SeqCst);
        self.semaphore.is_quiet() || self.is_collected(ticket)
    }

    /// Undoes `keep`, unless the permit has been collected.
    #[cold]
    fn is_collected(self, ticket: Ticket) -> bool {
        self.update(ticket, Permits::take_kept).is_err()
    }

    /// The entry of this process, if a handle remembers it.
    #[inline]
    fn remembered(self, pid: u32) -> Option<Ticket> {
        self.memory.ticket().filter(|&ticket| self.is_of(ticket, pid))
    }

    /// Changes the permits of an entry as `change` says, if it does. Returns what they were.
    #[inline]
    fn update(self, ticket: Ticket, change: impl Fn(Permits) -> Option<Permits>) -> Result<Permits, Permits> {
        let data = self.holders.table().entry(ticket).data();
        let mut now = data.load(Relaxed);
        loop {
            let before = Permits::of(now);
            if before.tag != Permits::none(ticket).tag {
                return Err(Permits::none(ticket)); // not its owner's any more
            }
            let Some(after) = change(before) else { return Err(before) };
            match data.compare_exchange(now, after.data(), AcqRel, Relaxed) {
                Ok(_) => return Ok(before),
                Err(then) => now = then,
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

    /// The same, waiting for them at `place`, the thread's among those who wait; unless `take`, leaves them to others once
    /// they are there.
    ///
    /// # Errors
    /// `Full`.
    #[cold]
    pub fn acquire<K: Kernel>(
        self,
        kernel: &'a K,
        place: Place<'a>,
        count: u32,
        deadline: Option<Deadline>,
        take: bool,
        mut join: impl FnMut(Party<'a>, State) -> Option<Ticket>,
    ) -> Result<Outcome, Refusal> {
        match place.await_turn(kernel, deadline) {
            Outcome::Acquired => {}
            outcome => return Ok(outcome),
        }
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
            fence(SeqCst);
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
            let mut released = Ok(());
            critical.change(|| match self.update(ticket, |now| now.less(count)) {
                Ok(_) => critical.set_free(self.semaphore.free() + count as i32),
                Err(now) => released = Err(Refusal::NotHeld(now.held)),
            });
            released
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
                critical.exceed(); // or else permits that come back meanwhile could be kept, and taken again
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
        let free = i64::from(self.semaphore.free());
        let kept =
            || self.holders.iter().map(|seen| i64::from(self.permits(seen.ticket()).kept)).sum::<i64>();
        free >= i64::from(count) || free + kept() >= i64::from(count)
    }

    /// The processes that hold permits, and how many.
    ///
    /// # Errors
    /// `Busy`.
    pub fn holders<K: Kernel>(self, kernel: &'a K) -> Result<Vec<(u32, u32)>, Refusal> {
        self.within(kernel, |critical| {
            critical.count();
            let live = self.holders.iter().filter(|seen| seen.is_live());
            let held = live.map(|seen| (self.pid(seen.ticket()), self.permits(seen.ticket()).held));
            held.filter(|(_, held)| *held > 0).collect()
        })
    }

    fn pid(self, ticket: Ticket) -> u32 {
        let lock = self.holders.table().entry(ticket).lock();
        lock.pid(lock.owner())
    }

    fn permits(self, ticket: Ticket) -> Permits {
        let permits = Permits::of(self.holders.table().entry(ticket).data().load(Relaxed));
        let none = Permits::none(ticket);
        if permits.tag == none.tag { permits } else { none }
    }

    #[inline]
    fn is_of(self, ticket: Ticket, pid: u32) -> bool {
        let entry = self.holders.table().entry(ticket);
        entry.status() == status(ticket.number(), HOLDS) && entry.lock().is_live() && self.pid(ticket) == pid
    }

    /// The entry of process `pid`, if a handle remembers it: for a handle that goes, and what it holds with it.
    pub fn forget(self, pid: u32) -> Option<Ticket> {
        let ticket = self.memory.ticket().filter(|&ticket| self.is_of(ticket, pid));
        self.memory.set(None);
        ticket
    }
}

impl<'a, K: Kernel> Critical<'a, K> {
    #[inline]
    fn leave(self) {
        self.robust.semaphore.lock.unlock(self.kernel);
    }

    /// Counts what is free, and collects what the dead held and what the living keep.
    fn count(&self) {
        let Robust { semaphore, holders, .. } = self.robust;
        let mut held = 0;
        for seen in holders.iter() {
            if self.robust.pid(seen.ticket()) != self.kernel.pid() {
                seen.entry.lock().reap_if_owner_dead::<K>();
            }
            if seen.is_live() {
                let (Ok(before) | Err(before)) = self.robust.update(seen.ticket(), Permits::collected);
                held += i64::from(before.held);
            } else if seen.is_orphan() {
                let _ = seen.entry.change(seen.status(), 0);
            }
        }
        let free = i64::from(semaphore.limit()) - held;
        self.set_free(free.max(i32::MIN.into()) as i32);
    }

    /// Sets what is free, and whether more is held than the limit is.
    fn set_free(&self, free: i32) {
        let semaphore = self.robust.semaphore;
        semaphore.free.store(free as u32, Relaxed);
        if semaphore.is_exceeded() != (free < 0) {
            self.set_exceeded(free < 0);
        }
    }

    /// From here to the next `set_free`, no permit is kept.
    fn exceed(&self) {
        self.set_exceeded(true);
        fence(SeqCst);
    }

    fn set_exceeded(&self, is_exceeded: bool) {
        let semaphore = self.robust.semaphore;
        let word = futex_word(semaphore.gate.state.load(Relaxed));
        semaphore.gate.state.store(gate(word, semaphore.wanted(), is_exceeded), Relaxed);
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

    /// Nobody stands in line: makes the gate quiet that a dead head has left.
    fn end_claim_of_dead(&self) {
        if !self.robust.semaphore.line.is_locked() && self.robust.semaphore.wanted() > 0 {
            self.set_gate(IDLE, 0);
        }
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
                let entry = holders.table().entry(ticket);
                entry.more_data().store(NOT_FOR_OTHERS, Relaxed);
                entry.data().store(Permits::none(ticket).data(), Relaxed);
                memory.set(Some(ticket));
                ticket
            }
        };
        // In this order: whoever dies in between leaves fewer free than there are, and the next one counts.
        semaphore.free.store((semaphore.free() - count as i32) as u32, Relaxed);
        holders.table().entry(ticket).data().fetch_add(count.into(), AcqRel);
        self.end_claim_of_dead();
        if semaphore.is_armed() {
            self.wake_head(); // it does not know of this holder
        }
        Ok(true)
    }

    /// The entry of this process.
    #[inline]
    fn own(&self) -> Option<Ticket> {
        let (robust, pid) = (self.robust, self.kernel.pid());
        let remembered = robust.memory.ticket().filter(|&ticket| robust.is_of(ticket, pid));
        remembered.or_else(|| {
            let found =
                robust.holders.iter().map(|seen| seen.ticket()).find(|&ticket| robust.is_of(ticket, pid));
            robust.memory.set(found);
            found
        })
    }

    /// The entries of other processes that hold permits, with the value of each word while that process lives. `None` if
    /// one of them has died meanwhile, or if somebody keeps a permit.
    fn others(&self) -> Option<Vec<(&'a Word, u32)>> {
        let (robust, pid) = (self.robust, self.kernel.pid());
        let mut others = Vec::new();
        for seen in robust.holders.iter() {
            let Permits { held, kept, .. } = robust.permits(seen.ticket());
            if kept > 0 {
                return None;
            }
            if held > 0 && robust.pid(seen.ticket()) != pid {
                others.push((seen.entry.lock().word(), seen.entry.lock().watch()?));
            }
        }
        Some(others)
    }

    fn set_gate(&self, word: u32, want: u32) {
        let semaphore = self.robust.semaphore;
        semaphore.gate.state.store(gate(word, want, semaphore.is_exceeded()), Relaxed);
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
