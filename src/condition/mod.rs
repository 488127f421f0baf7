//! A condition variable that loses no signal and keeps none, whoever dies.
//!
//! Waits are entries of a table (`waits`); a signal grants the oldest living one, a broadcast ends all. The waiters that
//! a broadcast woke owe nobody anything, and are woken all at once. A signal is for one waiter: the granted waiter has
//! to be woken, and if it dies before it has its mutex again, the signal belongs to the next. For that there is the
//! baton, after Andrews' "passing the baton": a robust word that the granted waiters take, one after the other, and
//! hold until they have their mutex. All waiters sleep on it. So when the holder of the baton dies, the kernel wakes one
//! of them, and that waiter attends to the rest.
//!
//! | baton's word     | meaning                                                                                    |
//! |------------------|--------------------------------------------------------------------------------------------|
//! | IDLE + round     | nobody is granted, nor about to be; a waiter's death concerns nobody                       |
//! | owner bits 0     | somebody may be granted and is waking up, or somebody polls; a death wakes another waiter  |
//! | `id`, WAITERS    | that thread is on its way into or out of a wait, or about to grant; it will release it     |
//!
//! Rules:
//! - The holder of the baton does what is due before it goes on: it passes on what the dead left, and wakes the oldest
//!   granted waiter. It leaves the word IDLE only if nothing is due and nobody is about to give a signal.
//! - A thread that grants looks at the word afterwards; a thread that releases the baton looks at the waits afterwards
//!   (with a SeqCst fence between), so one of them sees the other. A thread that grants without the baton has announced
//!   its signal before it looked at the word, so the word is not IDLE when it dies.
//! - A thread that broadcasts wakes the waiters it has ended, and so does every thread that releases the baton while any
//!   of them has its entry. If all of these threads die, the kernel wakes one waiter, and a waiter that finds the word
//!   without an owner wakes the others.
//! - The kernel notices the death of a thread only if the thread has this word pending or holds the baton. A granted
//!   thread that does neither (between `begin_wait` and `sleep`; with another mutex than the holder's) is watched: a
//!   sleeper, if there is one, polls until that thread moves on.
//! - A waiter also polls if it falls asleep while the holder of the baton wants another mutex, because a grant between
//!   its look and its sleep does not change the word then.
//!
//! There is no other polling, but for `Kernel::RECHECK`.
//!
//! Waking a waiter for nothing does no harm: all decisions are taken from the table.

#[doc(hidden)] // for the model checker
pub mod waits;

use crate::atomic::{AtomicU64, Ordering::*, fence};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::participants::{Party, Seat, Ticket};
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::time::Duration;
use waits::{Outstanding, Waits, class};

/// In the owner bits, but no thread's number: those stay below 2**22.
pub const IDLE: u32 = 0x2000_0000;

/// The other half of the state says what the holder of the baton is on its way to: a mutex's name, or one of these.
const NO_MUTEX: u32 = 0; // it releases the baton at once
const UNNAMED: u32 = u32::MAX; // a mutex without a name

/// The time between two looks of a waiter that polls: at first, and at most.
const FIRST_POLL: Duration = Duration::from_micros(100);
const LAST_POLL: Duration = Duration::from_millis(10);

/// How often a granted waiter looks whether an older one goes first.
const DEFERRED_LOOKS: u32 = 100;

/// The baton. All zeroes is a condition nobody waits for.
#[derive(Default)]
#[repr(transparent)]
pub struct Baton(Word);

/// A condition: its baton, and the waits in the table.
#[derive(Clone, Copy)]
pub struct Condition<'a> {
    word: &'a Word,
    waits: Waits<'a>,
}

/// A wait in progress: the calling thread's, from `begin_wait` to `finish_wait`, `cancel_wait` or `try_cancel_wait`.
#[derive(Debug)]
pub struct Wait {
    ticket: Ticket,
    target_mutex: u32,
    has_baton: bool,
    /// Ended by a broadcast, and without an entry.
    is_broadcast: bool,
}

/// What a waiter does next.
enum Step {
    /// Its wait is over.
    Done,
    LookAgain,
    /// It sleeps while the word is as it saw it; to be granted, or because it is, and others come first.
    Sleep {
        seen: u32,
        granted: bool,
        poll: bool,
    },
}

/// How a waiter has waited so far.
struct Patience {
    poll: Duration,
    /// The older wait it let go first, and how often.
    deferred: (u64, u32),
}

fn is_held(word: u32) -> bool {
    word & OWNER != 0 && word & IDLE == 0
}

/// Whether a waiter that wants `mutex` must not wait for the holder of the baton, on its way to `target`: the owner of
/// that mutex may be waiting for ours.
fn wants_other_mutex(mutex: u32, target: u32) -> bool {
    target != NO_MUTEX && (mutex == UNNAMED || mutex != target)
}

impl Baton {
    /// The condition, whose waits are at `seat`.
    pub fn at<'a>(&'a self, seat: Seat<'a>) -> Condition<'a> {
        Condition { word: &self.0, waits: Waits(Party::new(seat, self.range())) }
    }

    /// Puts the baton in order when no process uses it: nobody waits.
    pub fn recover(&self) {
        self.0.recover(0);
    }

    /// The range of the waits.
    pub fn range(&self) -> &AtomicU64 {
        &self.0.spare
    }
}

impl Condition<'_> {
    /// Begins a wait, before the caller releases its mutex: the one that is named `mutex`, or that has no name if that is
    /// 0.
    ///
    /// # Errors
    /// `Ownership` if as many threads wait as the table has room for.
    pub fn begin_wait<K: Kernel>(self, kernel: &K, mutex: u32) -> Result<Wait> {
        let target_mutex = if mutex == 0 { UNNAMED } else { mutex };
        let Some(ticket) = self.waits.join(kernel, target_mutex) else {
            let limit = self.waits.0.table().capacity();
            return Err(Error::Ownership(format!("too many waiting threads (limit {limit})")));
        };
        kernel.set_pending(self.word);
        let has_baton = self.take_baton(kernel, target_mutex);
        kernel.clear_pending();
        Ok(Wait { ticket, target_mutex, has_baton, is_broadcast: false })
    }

    /// Sleeps until the wait is granted or broadcast to: `Acquired`. After the two other outcomes the wait goes on: call
    /// again, or `try_cancel_wait` or `cancel_wait`.
    pub fn sleep<K: Kernel>(self, kernel: &K, wait: &mut Wait, deadline: Option<Deadline>) -> Outcome {
        kernel.set_pending(self.word);
        if wait.has_baton && self.waits.is_granted(wait.ticket) {
            self.wake_other_mutex_waiters(kernel, wait.target_mutex);
            kernel.clear_pending();
            return Outcome::Acquired;
        }
        if std::mem::take(&mut wait.has_baton) {
            self.put_down(kernel, true);
        }
        let mut patience = Patience { poll: FIRST_POLL, deferred: (0, 0) };
        let mut outcome = loop {
            match self.next_step(kernel, wait, &mut patience) {
                Step::Done => break Outcome::Acquired,
                Step::LookAgain => {}
                Step::Sleep { seen, granted, poll } => {
                    let deadline = if granted { None } else { deadline };
                    match self.sleep_once(kernel, wait, seen, deadline, poll.then_some(&mut patience)) {
                        Wake::Woken => {}
                        Wake::TimedOut => break Outcome::TimedOut,
                        Wake::Interrupted => break Outcome::Interrupted,
                    }
                }
            }
        };
        if self.waits.is_broadcast(wait.ticket) {
            outcome = Outcome::Acquired;
            wait.is_broadcast = true;
        }
        self.hand_over_watch(kernel, wait);
        kernel.clear_pending();
        if wait.is_broadcast {
            self.waits.0.leave(kernel, wait.ticket); // nobody needs to know of it any more
        }
        outcome
    }

    fn next_step<K: Kernel>(self, kernel: &K, wait: &mut Wait, patience: &mut Patience) -> Step {
        let state = self.word.state.load(Acquire);
        let (seen, target) = (futex_word(state), aux(state));
        if self.waits.is_broadcast(wait.ticket) {
            return Step::Done;
        }
        let granted = self.waits.is_granted(wait.ticket);
        if granted && !is_held(seen) {
            if self.defers_to_an_older::<K>(wait, patience) {
                return Step::LookAgain;
            }
            wait.has_baton = self.take_baton(kernel, wait.target_mutex);
            if !wait.has_baton {
                return Step::LookAgain;
            }
            self.wake_other_mutex_waiters(kernel, wait.target_mutex);
            return Step::Done;
        }
        if granted && wants_other_mutex(wait.target_mutex, target) {
            return Step::Done;
        }
        let is_free = seen & OWNER == 0;
        if is_free {
            if self.take_baton(kernel, NO_MUTEX) {
                self.put_down(kernel, true);
            }
            let is_over = self.waits.is_granted(wait.ticket) || self.waits.is_broadcast(wait.ticket);
            if is_over || futex_word(self.word.state.load(Acquire)) != seen {
                return Step::LookAgain;
            }
        }
        // A thread that ends our wait without the baton cannot change the word, and may do so before we sleep on it.
        let poll = is_free || is_held(seen) && wants_other_mutex(wait.target_mutex, target);
        Step::Sleep { seen, granted, poll }
    }

    /// Where a wake reaches others too, lets those go first that came first, unless one does not go. Not asleep on the word,
    /// because that could take a wake-up from them.
    fn defers_to_an_older<K: Kernel>(self, wait: &Wait, patience: &mut Patience) -> bool {
        let first = if K::WAKES_BY_CLASS { None } else { self.waits.first_granted() };
        let Some(first) = first.filter(|&first| first < wait.ticket.number()) else { return false };
        let looks = if patience.deferred.0 == first { patience.deferred.1 + 1 } else { 0 };
        patience.deferred = (first, looks);
        let defers = looks < DEFERRED_LOOKS;
        if defers {
            std::thread::sleep(FIRST_POLL);
        }
        defers
    }

    /// Sleeps until it is woken, or the deadline, or a look is due.
    fn sleep_once<K: Kernel>(
        self,
        kernel: &K,
        wait: &Wait,
        seen: u32,
        deadline: Option<Deadline>,
        poll: Option<&mut Patience>,
    ) -> Wake {
        let poll = poll.map(|patience| {
            let poll = patience.poll;
            patience.poll = LAST_POLL.min(poll * 2);
            poll
        });
        let until = match poll.or(K::RECHECK) {
            Some(time) => Deadline::soonest(deadline, time),
            None => deadline,
        };
        match kernel.wait(self.word, seen, until, class(wait.ticket.number())) {
            Wake::TimedOut if until != deadline => {
                // A poll is too soon to look: the waiters that a broadcast has woken poll while they run one by one.
                if K::RECHECK.is_some() && poll.is_none_or(|time| time == LAST_POLL) {
                    if is_held(futex_word(self.word.state.load(Acquire))) {
                        K::reap_if_owner_dead(self.word);
                    }
                    self.waits.reap::<K>(false);
                }
                Wake::Woken
            }
            wake => wake,
        }
    }

    /// A waiter that leaves may have been the one that polls, or was woken to see to something: another has to go on.
    fn hand_over_watch<K: Kernel>(self, kernel: &K, wait: &Wait) {
        if wait.has_baton || futex_word(self.word.state.load(Acquire)) & OWNER != 0 {
            return;
        }
        if !wait.is_broadcast {
            kernel.wake(self.word, 1, ANY_CLASS);
        } else if self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        }
    }

    /// To be called before the waiter does anything else than `sleep`, such as run a signal handler.
    pub fn release_baton<K: Kernel>(self, kernel: &K, wait: &mut Wait) {
        if std::mem::take(&mut wait.has_baton) {
            kernel.set_pending(self.word);
            self.put_down(kernel, false);
            kernel.clear_pending();
        }
    }

    /// Ends a wait whose `sleep` said `Acquired`; the caller has its mutex again.
    pub fn finish_wait<K: Kernel>(self, kernel: &K, mut wait: Wait) {
        if !wait.is_broadcast {
            self.waits.0.leave(kernel, wait.ticket);
        }
        self.release_baton(kernel, &mut wait);
    }

    /// Ends a wait whose deadline passed. Returns it if it has been granted meanwhile: then `sleep` again, shortly.
    pub fn try_cancel_wait<K: Kernel>(self, kernel: &K, wait: Wait) -> Option<Wait> {
        if self.waits.withdraw(wait.ticket) {
            self.finish_wait(kernel, wait);
            return None;
        }
        Some(wait)
    }

    /// Ends a wait that has to stop for another reason. If it was granted, its signal goes to the next.
    pub fn cancel_wait<K: Kernel>(self, kernel: &K, wait: Wait) {
        if wait.is_broadcast || self.waits.withdraw(wait.ticket) || self.waits.is_broadcast(wait.ticket) {
            self.finish_wait(kernel, wait);
            return;
        }
        self.waits.0.release_as_dead(kernel, wait.ticket);
        kernel.set_pending(self.word);
        if wait.has_baton || self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        }
        kernel.clear_pending();
    }

    /// Cancels the waits that the calling thread has begun and will never end, since what ran them is no more.
    pub fn cancel_lost_waits<K: Kernel>(self, kernel: &K) {
        for seen in self.waits.of_thread(kernel.id()) {
            let (ticket, is_broadcast) = (seen.ticket(), false);
            let has_baton = futex_word(self.word.state.load(Relaxed)) & OWNER == kernel.id();
            self.cancel_wait(kernel, Wait { ticket, target_mutex: UNNAMED, has_baton, is_broadcast });
        }
    }

    /// Whether a thread of the process `pid`, which is a system call to ask for, is in the middle of a wait.
    pub fn has_waits_of(self, pid: impl FnOnce() -> u32) -> bool {
        !self.waits.0.is_empty() && self.waits.any_of_process(pid(), 0)
    }

    /// Whether another thread of the calling thread's process is.
    pub fn has_waits_of_others<K: Kernel>(self, kernel: &K) -> bool {
        self.waits.any_of_process(kernel.pid(), kernel.id())
    }

    /// Wakes the oldest of the waits that are there now. Without one, nothing happens.
    pub fn signal<K: Kernel>(self, kernel: &K) {
        self.grant(kernel, || self.waits.grant_oldest::<K>());
    }

    /// Wakes all waits that are there now.
    pub fn broadcast<K: Kernel>(self, kernel: &K) {
        self.grant(kernel, || self.waits.broadcast());
    }

    fn grant<K: Kernel>(self, kernel: &K, grant: impl FnOnce()) {
        if self.waits.0.is_empty() {
            return;
        }
        if !K::TELLS_OF_DEATHS {
            self.waits.reap::<K>(true);
        }
        if !self.waits.any_waiting() {
            self.waits.0.forget_range();
            return;
        }
        kernel.set_pending(self.word);
        let mut has_baton = self.take_baton(kernel, NO_MUTEX);
        let mut mark = None;
        if !has_baton {
            mark = self.waits.announce_signal(kernel);
            kernel.set_pending(self.word);
            has_baton = self.take_baton(kernel, NO_MUTEX);
        }
        grant();
        if let Some(mark) = mark {
            self.waits.0.retire(mark); // before the last look: nothing has to wait for us any more
        }
        if has_baton || self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        } else {
            self.wake_broadcast(kernel);
            let target = aux(self.word.state.load(Acquire));
            self.wake_other_mutex_waiters(kernel, target);
        }
        if let Some(mark) = mark {
            self.waits.0.leave(kernel, mark);
        }
        kernel.clear_pending();
    }

    /// Pending: wakes the granted waiters that must not wait for the holder of the baton, on its way to `target`.
    fn wake_other_mutex_waiters<K: Kernel>(self, kernel: &K, target: u32) {
        let classes = self.waits.granted_classes(|mutex| wants_other_mutex(mutex, target));
        if classes != 0 {
            kernel.wake(self.word, i32::MAX, classes);
        }
    }

    /// Pending: wakes the waiters that a broadcast has ended. Returns whether somebody is about to give a signal.
    fn wake_broadcast<K: Kernel>(self, kernel: &K) -> bool {
        let (classes, signal) = self.waits.broadcast_classes();
        if classes != 0 {
            kernel.wake(self.word, i32::MAX, classes);
        }
        signal
    }

    /// Pending: takes the baton if nobody holds it. If not, its holder will see all that the caller did before.
    fn take_baton<K: Kernel>(self, kernel: &K, mutex: u32) -> bool {
        fence(SeqCst);
        let mut state = self.word.state.load(Relaxed);
        while !is_held(futex_word(state)) {
            if K::RECHECK.is_some() && futex_word(state) & OWNER_DIED != 0 {
                self.word.note.store(0, Relaxed); // the dead holder's, whose number may be ours by now
            }
            let held = pack(kernel.id() | WAITERS, mutex);
            match self.word.state.compare_exchange(state, held, AcqRel, Relaxed) {
                Ok(_) => {
                    kernel.robust_push(self.word);
                    if K::RECHECK.is_some() {
                        self.word.note.store(pack(kernel.id(), kernel.pid()), Relaxed);
                    }
                    if futex_word(state) & OWNER_DIED != 0 {
                        self.waits.relay(); // a transfer it began must end before the wait it went to does
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Pending, with the baton, which is released: hands on what the dead left, and wakes the oldest granted waiter. If
    /// that waiter is not asleep, somebody has to poll: the caller, if it says so.
    fn put_down<K: Kernel>(self, kernel: &K, polling: bool) {
        // Each round but the first follows a death.
        for _ in 0..=self.waits.0.table().capacity() {
            self.word.state.store(pack(kernel.id() | WAITERS, NO_MUTEX), Relaxed);
            if !K::TELLS_OF_DEATHS {
                self.waits.reap::<K>(true);
            }
            self.waits.relay();
            let round = self.waits.0.next_version() & (IDLE - 1);
            if K::RECHECK.is_some() {
                self.word.note.store(0, Relaxed);
            }
            kernel.robust_remove(self.word);
            self.word.state.store(pack(0, round), Release);
            let signal = self.wake_broadcast(kernel);
            if !self.wake_oldest_granted(kernel, round, signal, polling) || !self.take_baton(kernel, NO_MUTEX)
            {
                return;
            }
        }
        kernel.robust_remove(self.word);
        self.word.state.store(pack(0, 0), Release);
    }

    /// Pending, after the baton was released for `round`. True if a death has to be seen to first.
    fn wake_oldest_granted<K: Kernel>(self, kernel: &K, round: u32, signal: bool, polling: bool) -> bool {
        let mut last = 0;
        loop {
            match self.waits.outstanding(signal, last) {
                Outstanding::Nothing if last == 0 => {
                    let idle = pack(IDLE | round, round);
                    let _ = self.word.state.compare_exchange(pack(0, round), idle, AcqRel, Relaxed);
                    return false;
                }
                Outstanding::Granted(ticket) => {
                    if kernel.wake(self.word, i32::MAX, class(ticket.number())) > 0 {
                        return false;
                    }
                    last = ticket.number();
                }
                Outstanding::Orphan => return true,
                Outstanding::Signal if last == 0 => return false,
                Outstanding::Nothing | Outstanding::Signal => {
                    if !polling {
                        kernel.wake(self.word, 1, ANY_CLASS);
                    }
                    return false;
                }
            }
        }
    }

    /// How many threads wait.
    pub fn waiters(self) -> usize {
        self.waits.count::<crate::platform::Thread>()
    }

    /// How many signals are on their way to a thread that has not ended its wait yet.
    pub fn granted(self) -> usize {
        self.waits.granted_count()
    }

    /// How many waits a broadcast has ended whose threads have not woken up yet.
    pub fn woken_by_broadcast(self) -> usize {
        self.waits.broadcast_count()
    }
}
