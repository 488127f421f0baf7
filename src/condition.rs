//! A condition variable that loses no signal and keeps none, whoever dies.
//!
//! Waits stand in the `WaiterTable`; a signal grants the oldest living one, a broadcast calls all. The called owe nobody
//! anything, since nobody is left whom the broadcast could go to instead: they are woken all at once. A signal is for
//! one, so what remains is to wake the granted, and to notice when one dies between being granted and having its mutex again, because then the signal
//! belongs to the next. For that there is the baton: a word which the granted take, one after the other, and hold
//! until they have their mutex. All waiters sleep on it. So the kernel, when the holder of the baton dies, wakes one
//! of them, and that one sees to the rest.
//!
//! | baton's word     | meaning                                                                                    |
//! |------------------|--------------------------------------------------------------------------------------------|
//! | IDLE + round     | nobody is granted, nor about to be; a waiter's death concerns nobody                       |
//! | owner bits 0     | somebody may be granted, and is waking up, or somebody watches; a death wakes another      |
//! | `id`, WAITERS    | that thread is on its way into or out of a wait, or about to grant; it will `put_down`     |
//!
//! Rules:
//! - Who holds the baton does, before it goes on its own way, whatever is due: passes on what the dead left, wakes the
//!   oldest of the granted. It leaves the word IDLE only if nothing is due and nobody is about to give a signal.
//! - Who grants, looks at the word afterwards; who puts the baton down, looks at the roster afterwards (with a SeqCst
//!   fence between), so one of them sees the other. Who grants without the baton has said so in the roster before it
//!   looked at the word, so the word is not IDLE when it dies.
//! - Who calls, wakes the called, and so does everybody who puts the baton down while any of them is on the table. If
//!   all of these die, the kernel wakes one, and who finds the word without an owner sees to the others.
//! - Only a thread that has announced this word or holds the baton is noticed by the kernel when it dies. A granted one
//!   that is neither (between `enter` and `sleep`; with another mutex than the holder's) is watched: one that sleeps,
//!   if anybody does, looks again and again, until that thread moves on.
//! - Who falls asleep while another holds the baton and is on its way to another mutex, looks again and again likewise:
//!   a grant that comes between its look and its sleep does not change the word.
//!
//! There is no other polling.
//!
//! Waking somebody for nothing does no harm: all decisions are taken from the table.

use crate::atomic::{Ordering::*, fence};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::waiter_table::{Outstanding, Place, WaiterTable};
use crate::word::{ANY_CLASS, OWNER, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::time::Duration;

/// In the owner bits, but no thread's number: those stay below 2**22.
const IDLE: u32 = 0x2000_0000;

/// What the holder of the baton is on its way to is in the other half of the state: a mutex's name, or one of these.
const NO_MUTEX: u32 = 0; // it puts the baton down at once
const UNNAMED: u32 = u32::MAX; // a mutex without a name

/// How long the first and the last looks of one who watches are apart.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LAST_LOOK: Duration = Duration::from_millis(10);

/// How often one who was granted looks whether an older one goes first.
const DEFERRED_LOOKS: u32 = 100;

/// All zeroes is a condition nobody waits for. The word's note is the round, written by the holder of the baton.
#[derive(Default)]
#[repr(transparent)]
pub struct Condition(Word);

/// A wait in progress: the calling thread's, from `enter` to `finish`, `expire` or `leave`.
#[derive(Debug)]
pub struct Wait {
    place: Place,
    object: u32,
    mutex: u32,
    baton: bool,
    /// Ended by a broadcast, and off the table.
    called: bool,
}

fn is_held(word: u32) -> bool {
    word & OWNER != 0 && word & IDLE == 0
}

/// Whether one who wants `mutex` must not wait for the holder of the baton, on its way to `errand`: who has that mutex
/// may be waiting for ours.
fn is_elsewhere(mutex: u32, errand: u32) -> bool {
    errand != NO_MUTEX && (mutex == UNNAMED || mutex != errand)
}

impl Condition {
    /// Begins a wait, before the caller gives its mutex back. `object` names this condition in the roster; `mutex` the
    /// mutex, 0 one that has no name. `None` if the roster is full.
    pub fn enter<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32, mutex: u32) -> Option<Wait> {
        let mutex = if mutex == 0 { UNNAMED } else { mutex };
        let place = table.enter(kernel, object, mutex)?;
        kernel.set_pending(&self.0);
        let baton = self.take(kernel, table, object, mutex);
        kernel.clear_pending();
        Some(Wait { place, object, mutex, baton, called: false })
    }

    /// Sleeps until the wait is granted: `Acquired`. After the two other outcomes the wait goes on: call again, or
    /// `expire` or `leave`.
    pub fn sleep<K: Kernel>(
        &self,
        kernel: &K,
        table: &WaiterTable,
        wait: &mut Wait,
        deadline: Option<Deadline>,
    ) -> Outcome {
        kernel.set_pending(&self.0);
        if wait.baton && table.is_granted(wait.place) {
            self.let_go_elsewhere(kernel, table, wait.object, wait.mutex);
            kernel.clear_pending();
            return Outcome::Acquired;
        }
        if std::mem::take(&mut wait.baton) {
            self.put_down(kernel, table, wait.object, true);
        }
        let mut look = FIRST_LOOK;
        let mut deferred = (0, 0);
        let mut outcome = loop {
            let state = self.0.state.load(Acquire);
            let now = futex_word(state);
            if table.is_called(wait.place) {
                break Outcome::Acquired;
            }
            let granted = table.is_granted(wait.place);
            if granted && !is_held(now) {
                // Where a wake reaches others too, let those go first that came first, unless one does not go. Not asleep
                // on the word, because that could take a wake-up from them.
                let first = if K::WAKES_BY_CLASS { None } else { table.first_granted(wait.object) };
                if let Some(first) = first.filter(|&first| first < wait.place.ticket()) {
                    deferred = if deferred.0 == first { (first, deferred.1 + 1) } else { (first, 0) };
                    if deferred.1 < DEFERRED_LOOKS {
                        std::thread::sleep(FIRST_LOOK);
                        continue;
                    }
                }
                wait.baton = self.take(kernel, table, wait.object, wait.mutex);
                if wait.baton {
                    self.let_go_elsewhere(kernel, table, wait.object, wait.mutex);
                    break Outcome::Acquired;
                }
                continue;
            }
            if granted && is_elsewhere(wait.mutex, aux(state)) {
                break Outcome::Acquired;
            }
            let mut until = if granted { None } else { deadline };
            if now & OWNER == 0 {
                if self.take(kernel, table, wait.object, NO_MUTEX) {
                    self.put_down(kernel, table, wait.object, true);
                }
                let ended = table.is_granted(wait.place) || table.is_called(wait.place);
                if ended || futex_word(self.0.state.load(Acquire)) != now {
                    continue;
                }
            }
            // Who ends our wait without the baton cannot change the word, and may do so before we sleep on it.
            if now & OWNER == 0 || is_held(now) && is_elsewhere(wait.mutex, aux(state)) {
                until = Deadline::after(look).filter(|soon| deadline.is_none_or(|end| *soon < end)).or(until);
                look = LAST_LOOK.min(look * 2);
            }
            match kernel.wait(&self.0, now, until, wait.place.class()) {
                Wake::Woken => {}
                Wake::TimedOut if until != deadline => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        if table.is_called(wait.place) {
            outcome = Outcome::Acquired;
            wait.called = true;
        }
        // We may have been the one who watched, or was woken to see to something.
        if !wait.baton && futex_word(self.0.state.load(Acquire)) & OWNER == 0 {
            if !wait.called {
                kernel.wake(&self.0, 1, ANY_CLASS);
            } else if self.take(kernel, table, wait.object, NO_MUTEX) {
                self.put_down(kernel, table, wait.object, false);
            }
        }
        kernel.clear_pending();
        if wait.called {
            table.leave(kernel, wait.place); // nobody needs to know of it any more
        }
        outcome
    }

    /// To be called before the waiter does anything else than `sleep`, such as run a signal handler.
    pub fn rest<K: Kernel>(&self, kernel: &K, table: &WaiterTable, wait: &mut Wait) {
        if std::mem::take(&mut wait.baton) {
            kernel.set_pending(&self.0);
            self.put_down(kernel, table, wait.object, false);
            kernel.clear_pending();
        }
    }

    /// Ends a wait whose `sleep` said `Acquired`; the caller has its mutex again.
    pub fn finish<K: Kernel>(&self, kernel: &K, table: &WaiterTable, mut wait: Wait) {
        if !wait.called {
            table.leave(kernel, wait.place);
        }
        self.rest(kernel, table, &mut wait);
    }

    /// Ends a wait whose deadline passed. Gives it back if it has been granted meanwhile: then `sleep` again, shortly.
    pub fn expire<K: Kernel>(&self, kernel: &K, table: &WaiterTable, wait: Wait) -> Option<Wait> {
        if table.withdraw(wait.place) {
            self.finish(kernel, table, wait);
            return None;
        }
        Some(wait)
    }

    /// Ends a wait that has to stop for another reason. If it was granted, its signal goes to the next.
    pub fn leave<K: Kernel>(&self, kernel: &K, table: &WaiterTable, wait: Wait) {
        if wait.called || table.withdraw(wait.place) || table.is_called(wait.place) {
            self.finish(kernel, table, wait);
            return;
        }
        table.forsake(kernel, wait.place);
        kernel.set_pending(&self.0);
        if wait.baton || self.take(kernel, table, wait.object, NO_MUTEX) {
            self.put_down(kernel, table, wait.object, false);
        }
        kernel.clear_pending();
    }

    /// Wakes the oldest of the waits that are there now. Without one, nothing happens.
    pub fn signal<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32) {
        self.grant(kernel, table, object, || table.grant_oldest(object));
    }

    /// Wakes all waits that are there now.
    pub fn broadcast<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32) {
        self.grant(kernel, table, object, || table.call_all(object));
    }

    fn grant<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32, grant: impl FnOnce()) {
        table.reap_if_owner_dead::<K>(object);
        if !table.has_waiting(object) {
            return;
        }
        kernel.set_pending(&self.0);
        let mut baton = self.take(kernel, table, object, NO_MUTEX);
        let mut mark = None;
        if !baton {
            mark = table.announce_signal(kernel, object);
            kernel.set_pending(&self.0);
            baton = self.take(kernel, table, object, NO_MUTEX);
        }
        grant();
        if let Some(mark) = mark {
            table.retire(mark); // before the last look: nothing has to wait for us any more
        }
        if baton || self.take(kernel, table, object, NO_MUTEX) {
            self.put_down(kernel, table, object, false);
        } else {
            self.rouse(kernel, table, object);
            let errand = aux(self.0.state.load(Acquire));
            self.let_go_elsewhere(kernel, table, object, errand);
        }
        if let Some(mark) = mark {
            table.leave(kernel, mark);
        }
        kernel.clear_pending();
    }

    /// Announced: wakes the granted that must not wait for the holder of the baton, on its way to `errand`.
    fn let_go_elsewhere<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32, errand: u32) {
        let classes = table.granted(object, |mutex| is_elsewhere(mutex, errand));
        if classes != 0 {
            kernel.wake(&self.0, i32::MAX, classes);
        }
    }

    /// Announced: wakes those whom a broadcast has called.
    fn rouse<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32) {
        let classes = table.called(object);
        if classes != 0 {
            kernel.wake(&self.0, i32::MAX, classes);
        }
    }

    /// Announced: takes the baton if nobody holds it. If not, its holder will see all that the caller did before.
    fn take<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32, mutex: u32) -> bool {
        fence(SeqCst);
        let mut state = self.0.state.load(Relaxed);
        while !is_held(futex_word(state)) {
            let held = pack(kernel.id() | WAITERS, mutex);
            match self.0.state.compare_exchange(state, held, AcqRel, Relaxed) {
                Ok(_) => {
                    kernel.robust_push(&self.0);
                    if futex_word(state) & OWNER_DIED != 0 {
                        table.relay(object); // one it began must end before the wait it went to does
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Announced, with the baton, which is put down: hands on what the dead left, and wakes the oldest granted wait. If
    /// that one is not asleep, somebody has to watch: the caller, if it says so.
    fn put_down<K: Kernel>(&self, kernel: &K, table: &WaiterTable, object: u32, watching: bool) {
        loop {
            self.0.state.store(pack(kernel.id() | WAITERS, NO_MUTEX), Relaxed);
            table.reap_if_owner_dead::<K>(object);
            table.relay(object);
            let round = (self.0.note.load(Relaxed) as u32 + 1) & (IDLE - 1);
            self.0.note.store(round.into(), Relaxed);
            kernel.robust_remove(&self.0);
            self.0.state.store(pack(0, round), Release);
            self.rouse(kernel, table, object);
            let mut last = 0;
            loop {
                match table.outstanding(object, last) {
                    Outstanding::Nothing if last == 0 => {
                        let idle = pack(IDLE | round, round);
                        let _ = self.0.state.compare_exchange(pack(0, round), idle, AcqRel, Relaxed);
                        return;
                    }
                    Outstanding::Granted(place) => {
                        if kernel.wake(&self.0, i32::MAX, place.class()) > 0 {
                            return;
                        }
                        last = place.ticket();
                    }
                    Outstanding::Orphan => break,
                    Outstanding::Signal if last == 0 => return,
                    Outstanding::Nothing | Outstanding::Signal => {
                        if !watching {
                            kernel.wake(&self.0, 1, ANY_CLASS);
                        }
                        return;
                    }
                }
            }
            if !self.take(kernel, table, object, NO_MUTEX) {
                return;
            }
        }
    }
}
