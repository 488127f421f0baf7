//! A lock that many readers hold at a time, or one writer.
//!
//! A reader is a participant, whose entry it keeps from one time to the next: IDLE or READING. To read, it writes READING into
//! its entry, and then looks whether the gate is free. A writer closes the gate, and then looks for entries that say READING.
//! Each does the two with a SeqCst fence in between, so one of them sees the other (Dekker). Readers do not write to a word
//! that another thread writes to.
//!
//! Two locks order all others:
//! - `turn` is held by the writer, or by the upgrader, which reads and can become the writer.
//! - `gate` is held by whoever writes, or waits for the readers to end, so no new one comes in; and for a moment by each
//!   reader that has found it taken. Readers queue there with the writer.
//!
//! | gate                     | writing | meaning                                                            |
//! |--------------------------|---------|--------------------------------------------------------------------|
//! | 0                        | 0       | readers come in                                                    |
//! | WAITERS                  | 0       | a thread that waits at the gate is being woken; readers queue      |
//! | held                     | 0       | a writer waits for the readers to end, or a reader comes in        |
//! | held                     | 1       | its holder writes                                                  |
//! | left by a dead holder    | 0       | nothing was written: as if free                                    |
//! | left by a dead holder    | 1       | a writer has died: abandoned, until a writer has ended its work    |
//!
//! A writer that waits for a reader sleeps on the lock of the reader's entry, and has set WAITERS there. The reader sees the
//! flag when it has ended, and wakes the sleeper; if it dies, the kernel does. It wakes, clears the flag, and wakes again,
//! because a writer may have fallen asleep in between. If it dies between these steps, the writer looks again by itself.
//! Where sleepers cannot sleep on entries (macOS), the writer sleeps at the gate, where readers that end wake it, and looks
//! every few milliseconds.
//!
//! A holder of `turn` takes the gate, and never the other way round. A reader that wants `turn` must not wait for it: its
//! holder may wait for that reader.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::participants::{Participant, Party, Seen, State, Ticket, status};
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER, WAITERS, aux, futex_word, pack};
use std::time::Duration;

/// The states of a reader's entry.
pub const IDLE: State = 1;
pub const READING: State = 2;

/// How long a writer sleeps at a time where a reader that ends may wake it before it sleeps.
const NAP: Duration = Duration::from_millis(20);

/// All zeroes is free.
#[derive(Default)]
#[repr(C)]
pub struct ReadWriteLock {
    turn: Lock,
    gate: Lock,
    writing: AtomicU32,
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("turn", offset_of!(ReadWriteLock, turn)),
        ("gate", offset_of!(ReadWriteLock, gate)),
        ("writing", offset_of!(ReadWriteLock, writing)),
    ]
}

/// What a thread that has become the writer, or passes the gate, finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    InOrder,
    /// A writer has died, and nobody has repaired what it has left.
    Abandoned,
}

impl ReadWriteLock {
    /// Puts the lock in order when no process uses it, and the table is empty.
    pub fn recover(&self) {
        self.turn.word().recover(0);
        self.gate.recover();
        if !self.gate.is_abandoned() {
            self.writing.store(0, Relaxed);
        }
    }

    /// Held by the writer or the upgrader.
    pub fn turn(&self) -> &Lock {
        &self.turn
    }

    pub fn gate(&self) -> &Lock {
        &self.gate
    }

    /// Words for the use of the lock's owner object.
    pub fn spares(&self) -> [&AtomicU64; 2] {
        [self.turn.spare(), self.gate.spare()]
    }

    /// Begins to read, if no writer is there or waits at the gate. `entry` is the calling thread's, and IDLE.
    #[inline]
    pub fn try_read<K: Kernel>(&self, kernel: &K, entry: &Participant, number: u64) -> bool {
        entry.set_status(status(number, READING));
        fence(SeqCst);
        if self.gate.is_untouched() {
            return true;
        }
        self.end_read(kernel, entry, number);
        false
    }

    /// Ends to read.
    #[inline]
    pub fn end_read<K: Kernel>(&self, kernel: &K, entry: &Participant, number: u64) {
        entry.set_status(status(number, IDLE));
        fence(SeqCst);
        if !K::TELLS_OF_DEATHS {
            if self.gate.is_locked() {
                kernel.wake(self.gate.word(), i32::MAX, ANY_CLASS);
            }
        } else if futex_word(entry.lock().word().state().load(Relaxed)) & WAITERS != 0 {
            wake_watchers(kernel, entry);
        }
    }

    /// Begins to read as the holder of the gate, and opens it. What a dead writer has left stays so if it was `found`.
    pub fn read_and_open<K: Kernel>(&self, kernel: &K, entry: &Participant, number: u64, found: Found) {
        entry.set_status(status(number, READING));
        self.open(kernel, found);
    }

    /// Takes the gate as soon as it is free, to pass it, or to keep it.
    pub fn close<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        take(&self.gate, kernel, deadline)
    }

    /// The holder of the gate finds out what it has taken over.
    pub fn found(&self) -> Found {
        if !self.gate.is_abandoned() {
            return Found::InOrder;
        }
        if self.writing.load(Acquire) != 0 {
            return Found::Abandoned;
        }
        self.gate.make_consistent();
        Found::InOrder
    }

    /// The writer goes on after `repaired`.
    pub fn go_on_writing(&self) {
        self.writing.store(1, Release);
    }

    /// Opens the gate for a holder that has not written. What a dead writer has left stays so if it was `found`.
    pub fn open<K: Kernel>(&self, kernel: &K, found: Found) {
        match found {
            Found::InOrder => self.gate.unlock(kernel),
            Found::Abandoned => self.gate.release_as_dead(kernel),
        }
    }

    /// What a dead writer had left is in order: said by the holder of the gate.
    pub fn repaired(&self) {
        self.writing.store(0, Release);
        self.gate.make_consistent();
    }

    /// Becomes the writer as the holder of `turn`: closes the gate, and waits for the readers to end, but for `own`, the
    /// caller's entry.
    pub fn begin_write<K: Kernel>(
        &self,
        kernel: &K,
        readers: Party<'_>,
        own: Option<Ticket>,
        deadline: Option<Deadline>,
    ) -> Outcome {
        let mut outcome = self.close(kernel, deadline);
        if outcome != Outcome::Acquired {
            return outcome;
        }
        let found = self.found();
        outcome = self.drain(kernel, readers, own, deadline);
        if outcome == Outcome::Acquired {
            self.writing.store(1, Release);
        } else {
            self.open(kernel, found);
        }
        outcome
    }

    /// The same if that is possible at once.
    pub fn try_begin_write<K: Kernel>(&self, kernel: &K, readers: Party<'_>, own: Option<Ticket>) -> bool {
        if !self.gate.try_lock(kernel) {
            return false;
        }
        self.gate.record_owner(kernel);
        let found = self.found();
        fence(SeqCst);
        let mut others = readers.iter().filter(|seen| seen.state() == READING && own != Some(seen.ticket()));
        let reads = |seen: Seen<'_>| {
            seen.entry.lock().reap_if_owner_dead::<K>();
            seen.is_live() && seen.entry.status() == seen.status()
        };
        if others.any(reads) {
            self.open(kernel, found);
            return false;
        }
        self.writing.store(1, Release);
        true
    }

    /// The writer opens the gate. With what it has done, the data is in order; or not, if it ends like one that dies.
    pub fn end_write<K: Kernel>(&self, kernel: &K, in_order: bool) {
        if in_order {
            self.writing.store(0, Release);
            self.gate.unlock(kernel);
        } else {
            self.gate.release_as_dead(kernel);
        }
    }

    /// Waits until a thread could become the writer, and leaves it to others.
    pub fn watch<K: Kernel>(&self, kernel: &K, readers: Party<'_>, deadline: Option<Deadline>) -> Outcome {
        let mut outcome = self.take_turn(kernel, deadline);
        if outcome != Outcome::Acquired {
            return outcome;
        }
        outcome = self.close(kernel, deadline);
        if outcome == Outcome::Acquired {
            let found = self.found();
            outcome = self.drain(kernel, readers, None, deadline);
            self.open(kernel, found);
        }
        self.end_turn(kernel);
        outcome
    }

    /// Waits until no entry but `own` says READING. The calling thread holds the gate.
    fn drain<K: Kernel>(
        &self,
        kernel: &K,
        readers: Party<'_>,
        own: Option<Ticket>,
        deadline: Option<Deadline>,
    ) -> Outcome {
        fence(SeqCst);
        for seen in readers.iter().filter(|seen| seen.state() == READING && own != Some(seen.ticket())) {
            let lock = seen.entry.lock();
            loop {
                lock.reap_if_owner_dead::<K>();
                let state = lock.word().state().load(Acquire);
                let held = futex_word(state);
                let expected = held | WAITERS;
                let reads = || lock.is_live() && seen.entry.status() == seen.status();
                if held & OWNER == 0 || !reads() {
                    break;
                }
                let outcome = if !K::TELLS_OF_DEATHS {
                    let gate = futex_word(self.gate.word().state().load(Relaxed));
                    let until = Deadline::soonest(deadline, NAP);
                    match kernel.wait(self.gate.word(), gate, until, ANY_CLASS) {
                        Wake::TimedOut if until != deadline => Wake::Woken,
                        wake => wake,
                    }
                } else {
                    let flagged = pack(expected, aux(state));
                    if held != expected
                        && lock.word().state().compare_exchange(state, flagged, Relaxed, Relaxed).is_err()
                    {
                        continue;
                    }
                    fence(SeqCst);
                    if !reads() {
                        break;
                    }
                    kernel.wait_or_recheck(lock.word(), expected, deadline, ANY_CLASS)
                };
                match outcome {
                    Wake::Woken => {}
                    _ if !reads() => break,
                    Wake::TimedOut => return Outcome::TimedOut,
                    Wake::Interrupted => return Outcome::Interrupted,
                }
            }
        }
        fence(Acquire); // what the readers did comes before what the writer does
        Outcome::Acquired
    }

    /// Takes `turn` as soon as it is free.
    pub fn take_turn<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        let outcome = take(&self.turn, kernel, deadline);
        if outcome == Outcome::Acquired {
            self.turn.make_consistent(); // a dead holder says nothing here: the gate does
        }
        outcome
    }

    /// The same if that is possible at once.
    pub fn try_take_turn<K: Kernel>(&self, kernel: &K) -> bool {
        self.turn.reap_if_owner_dead::<K>();
        let taken = self.turn.try_lock(kernel);
        if taken {
            self.turn.record_owner(kernel);
            self.turn.make_consistent();
        }
        taken
    }

    /// Gives `turn` back.
    pub fn end_turn<K: Kernel>(&self, kernel: &K) {
        self.turn.unlock(kernel);
    }

    /// Whether a writer that lives is in.
    pub fn is_written<K: Kernel>(&self) -> bool {
        self.gate.reap_if_owner_dead::<K>();
        self.writing.load(Acquire) != 0 && self.gate.is_locked()
    }

    /// Whether a writer has died, and nobody has repaired what it has left.
    pub fn is_abandoned<K: Kernel>(&self) -> bool {
        self.gate.reap_if_owner_dead::<K>();
        self.gate.is_abandoned() && self.writing.load(Acquire) != 0
    }
}

fn take<K: Kernel>(lock: &Lock, kernel: &K, deadline: Option<Deadline>) -> Outcome {
    let outcome = if lock.try_lock(kernel) { Outcome::Acquired } else { lock.lock(kernel, deadline) };
    if outcome == Outcome::Acquired {
        lock.record_owner(kernel);
    }
    outcome
}

/// Wakes the writer that sleeps on an entry.
#[cold]
fn wake_watchers<K: Kernel>(kernel: &K, entry: &Participant) {
    let word = entry.lock().word();
    kernel.wake(word, i32::MAX, ANY_CLASS);
    word.state().fetch_and(pack(!WAITERS, u32::MAX), Relaxed);
    kernel.wake(word, i32::MAX, ANY_CLASS);
}
