//! A cyclic barrier: so many threads wait for each other, again and again.
//!
//! A party that waits is a participant of the barrier, in state WAITING, or AWAY while it runs code of the user's (the
//! action, a signal handler, other fibers). Both say that it owes: what a dead party leaves stays in the table until
//! somebody has seen that it is dead. An entry's detail is the epoch in which the party arrived.
//!
//! The half of the word's state that the kernel does not know has the epoch, the phase and the count of parties. The end
//! of an epoch takes several steps. The phase says what is left to do, and whoever comes by does it:
//!
//! | phase     | count        | meaning                                                                        |
//! |-----------|--------------|--------------------------------------------------------------------------------|
//! | OPEN      | below all    | so many have arrived                                                           |
//! | OPEN      | all          | the last party runs the action                                                 |
//! | PASSING   | any          | the entries of the epoch are being marked PASSED; OPEN of the next epoch follows |
//! | BREAKING  | any          | they are being marked TURNED_AWAY; BROKEN follows                              |
//! | RESETTING | any          | the same; OPEN of the next epoch follows                                       |
//! | BROKEN    | 0            | nobody can wait until `reset`                                                  |
//!
//! The futex word is as an event's: 0; WAITERS, and ODD in an odd epoch, while threads may be asleep; ODD alone
//! (WAKING) in a phase that ends an epoch whose sleepers may not have been woken.
//!
//! To arrive is to join the table, and then to be counted in the same epoch, by one compare-and-exchange. A party that is
//! not counted leaves the table and begins again, whatever its entry has been marked.
//!
//! Whoever ends an epoch, and every sleeper, has the word pending. If one of them dies, the kernel wakes a sleeper. It
//! finds a phase that it goes on with, or an entry of the dead, which breaks the barrier. A death that comes between a
//! sleeper's look at the entries and its sleep wakes nobody: so the first sleep is short, as are all while a party is
//! AWAY, which has nothing pending.
//!
//! Memory order: a party that has passed sees what came before each other party's arrival (AcqRel).

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::participants::{OWES, Party, Seen, State, Ticket, number_of, state_of, status};
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::time::Duration;

pub const WAITING: State = 1 | OWES;
pub const AWAY: State = 2 | OWES;
const PASSED: State = 3;
const TURNED_AWAY: State = 4;

const ODD: u32 = OWNER_DIED; // the kernel gives this bit no meaning in a word that names nobody
const WAKING: u32 = ODD;

const OPEN: u32 = 0;
const PASSING: u32 = 1;
const BREAKING: u32 = 2;
const RESETTING: u32 = 3;
const BROKEN: u32 = 4;

/// The most parties.
pub const MAX: u32 = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 15;
const EPOCH_BITS: u32 = 14;

/// How long a sleeper relies on being told of a death of which it may not be.
const NAP: Duration = Duration::from_millis(10);
/// The same of one of which it is, on a kernel that names no time.
const LONG_NAP: Duration = Duration::from_millis(100);

/// The barrier's half of a state, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    count: u32,
    phase: u32,
    epoch: u32,
}

impl Stage {
    fn of(state: u64) -> Self {
        let half = aux(state);
        let phase = (half >> COUNT_BITS & 7).min(BROKEN); // in a file there may be any
        Stage { count: half & MAX, phase, epoch: half >> (u32::BITS - EPOCH_BITS) }
    }

    fn bits(self) -> u32 {
        self.count | self.phase << COUNT_BITS | self.epoch << (u32::BITS - EPOCH_BITS)
    }

    fn is_ending(self) -> bool {
        matches!(self.phase, PASSING | BREAKING | RESETTING)
    }

    /// What follows an ending phase.
    fn settled(self) -> Self {
        let phase = if self.phase == BREAKING { BROKEN } else { OPEN };
        Stage { count: 0, phase, epoch: self.epoch.wrapping_add(1) }
    }
}

/// What `arrive` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Others are awaited.
    Waiting(Ticket),
    /// All have arrived, and the calling thread is the last one, which runs the action.
    Last(Ticket),
    /// All have arrived, and may go on.
    Passed,
    /// The barrier is broken.
    Refused,
    /// All have arrived, and the action runs.
    Busy,
    /// The table of participants has no room.
    NoRoom,
}

/// Made by `start`.
#[derive(Default)]
#[repr(C)]
pub struct Barrier {
    word: Word,
    parties: AtomicU32,
    /// The last number in the table when the barrier was made: entries up to it are those of an older object.
    made_after: AtomicU64,
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("word", offset_of!(Barrier, word)),
        ("parties", offset_of!(Barrier, parties)),
        ("made after", offset_of!(Barrier, made_after)),
        ("bits", (COUNT_BITS * 100 + EPOCH_BITS) as usize),
    ]
}

/// What a look at the parties has found.
struct Look {
    any_dead: bool,
    any_away: bool,
}

impl Barrier {
    /// Sets how many `parties` a barrier has that nobody else knows yet. `newest` is the last number of the table.
    pub fn start(&self, parties: u32, newest: u64) {
        self.parties.store(parties, Relaxed);
        self.made_after.store(newest, Relaxed);
    }

    /// Puts the barrier in order when no process uses it, and the table is empty: as a new one.
    pub fn recover(&self) {
        self.word.recover(0);
        self.made_after.store(0, Relaxed);
    }

    pub fn parties(&self) -> u32 {
        self.parties.load(Relaxed).clamp(1, MAX)
    }

    /// A word for the use of the barrier's owner object.
    pub fn spare(&self) -> &AtomicU64 {
        self.word.spare()
    }

    fn load(&self) -> (u64, Stage) {
        let state = self.word.state.load(Acquire);
        (state, Stage::of(state))
    }

    /// Makes the calling thread one of those that wait. `has_action`: the last one has something to do before they pass. What
    /// follows for one that is `Waiting` is `wait`, `wait_elsewhere` or `give_up`; the barrier stays pending until then.
    pub fn arrive<K: Kernel>(&self, kernel: &K, party: Party<'_>, has_action: bool) -> Arrival {
        loop {
            let (_, stage) = self.load();
            let (epoch, others) = (stage.epoch, self.parties().saturating_sub(1));
            if stage.phase == BROKEN {
                return Arrival::Refused;
            }
            if !K::TELLS_OF_DEATHS && stage.count >= others {
                self.reap::<K>(party); // a dead party is not one that has arrived
            }
            if stage.is_ending() || stage.count >= others && self.look(party, epoch).any_dead {
                self.end(kernel, party, epoch, BREAKING, None);
                continue;
            }
            if stage.count > others {
                return Arrival::Busy;
            }
            let is_last = stage.count == others;
            if is_last && !has_action {
                if self.end(kernel, party, epoch, PASSING, Some(others)) {
                    return Arrival::Passed;
                }
                continue;
            }
            let Some(ticket) = party.join(kernel, WAITING, epoch) else { return Arrival::NoRoom };
            party.table().entry(ticket).data().store(u64::MAX, Relaxed); // owed for as long as it takes
            kernel.set_pending(&self.word);
            if !self.count_in(epoch, is_last) {
                kernel.clear_pending();
                party.leave(kernel, ticket);
                continue;
            }
            if is_last {
                self.wait_elsewhere(kernel, party, ticket);
                return Arrival::Last(ticket);
            }
            return Arrival::Waiting(ticket);
        }
    }

    /// Counts a party that has joined the table in `epoch`, as the last one or not. False if that is not possible any more.
    fn count_in(&self, epoch: u32, last: bool) -> bool {
        loop {
            let (state, stage) = self.load();
            let is_last = stage.count + 1 == self.parties();
            if stage.phase != OPEN || stage.epoch != epoch || stage.count >= self.parties() || is_last != last
            {
                return false;
            }
            let next = pack(futex_word(state), Stage { count: stage.count + 1, ..stage }.bits());
            if self.word.state.compare_exchange(state, next, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Ends `epoch` by `phase` if it is open and, where `count` is given, so many have arrived. Brings whatever end an epoch
    /// has come to to an end. True if this call has ended it.
    fn end<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        epoch: u32,
        phase: u32,
        count: Option<u32>,
    ) -> bool {
        kernel.set_pending(&self.word);
        let ended = self.end_pending(kernel, party, epoch, phase, count);
        kernel.clear_pending();
        ended
    }

    fn end_pending<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        epoch: u32,
        phase: u32,
        count: Option<u32>,
    ) -> bool {
        loop {
            let (state, stage) = self.load();
            if stage.is_ending() {
                self.settle(kernel, party, state);
                return false;
            }
            if stage.phase != OPEN || stage.epoch != epoch || count.is_some_and(|count| count != stage.count)
            {
                return false;
            }
            let word = if futex_word(state) == 0 { 0 } else { WAKING };
            let next = pack(word, Stage { phase, ..stage }.bits());
            if self.word.state.compare_exchange(state, next, AcqRel, Relaxed).is_ok() {
                self.settle(kernel, party, next);
                return true;
            }
        }
    }

    /// Finishes the ending phase `state`: tells each party, wakes the sleepers, and opens the next epoch. The caller has the
    /// word pending.
    fn settle<K: Kernel>(&self, kernel: &K, party: Party<'_>, state: u64) {
        let stage = Stage::of(state);
        let mark = if stage.phase == PASSING { PASSED } else { TURNED_AWAY };
        for seen in self.members(party).filter(|seen| seen.entry.detail() == stage.epoch) {
            let (number, mut now) = (seen.number(), seen.status());
            while number_of(now) == number && matches!(state_of(now), WAITING | AWAY) {
                match seen.entry.change(now, status(number, mark)) {
                    Ok(_) => break,
                    Err(then) => now = then,
                }
            }
        }
        if futex_word(state) == WAKING {
            kernel.wake(&self.word, i32::MAX, ANY_CLASS);
        }
        let _ = self.word.state.compare_exchange(state, pack(0, stage.settled().bits()), AcqRel, Relaxed);
    }

    /// The entries of those who have not been told how their epoch ended.
    fn members<'a>(&self, party: Party<'a>) -> impl Iterator<Item = Seen<'a>> {
        let made_after = self.made_after.load(Relaxed);
        party.iter().filter(move |seen| matches!(seen.state(), WAITING | AWAY) && seen.number() > made_after)
    }

    /// Looks how the parties of `epoch` are. What the dead have left in earlier ones is cleared away.
    fn look(&self, party: Party<'_>, epoch: u32) -> Look {
        let mut look = Look { any_dead: false, any_away: false };
        for seen in self.members(party) {
            let is_current = seen.entry.detail() == epoch;
            if !seen.is_orphan() {
                look.any_away |= is_current && seen.state() == AWAY;
            } else if is_current {
                look.any_dead = true;
            } else if self.load().1.epoch == epoch {
                let _ = seen.entry.change(seen.status(), 0);
            }
        }
        look
    }

    /// Breaks the barrier if a party has died. Knows of deaths that the kernel did not tell of.
    fn mourn<K: Kernel>(&self, kernel: &K, party: Party<'_>) -> Stage {
        loop {
            let (_, stage) = self.load();
            if !stage.is_ending() {
                if stage.phase == BROKEN || stage.count == 0 {
                    return stage;
                }
                self.reap::<K>(party);
                if !self.look(party, stage.epoch).any_dead {
                    let now = self.load().1;
                    if now.phase == stage.phase && now.epoch == stage.epoch {
                        return now;
                    }
                    continue; // the epoch may have ended before the look, and its dead with it
                }
            }
            self.end(kernel, party, stage.epoch, BREAKING, None);
        }
    }

    fn reap<K: Kernel>(&self, party: Party<'_>) {
        self.members(party).for_each(|seen| seen.entry.lock().reap_if_owner_dead::<K>());
    }

    /// Whether the party, the caller's own, has been told how its epoch ended: true if all have passed.
    pub fn verdict(&self, party: Party<'_>, ticket: Ticket) -> Option<bool> {
        let now = party.table().entry(ticket).status();
        let is_own = number_of(now) == ticket.number();
        (!is_own || !matches!(state_of(now), WAITING | AWAY)).then(|| is_own && state_of(now) == PASSED)
    }

    /// Sleeps until there is a verdict: `Acquired` then. Breaks the barrier when `deadline` passes before all have arrived.
    #[cold]
    pub fn wait<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        ticket: Ticket,
        deadline: Option<Deadline>,
    ) -> Outcome {
        let entry = party.table().entry(ticket);
        kernel.set_pending(&self.word);
        let _ = entry.change(status(ticket.number(), AWAY), status(ticket.number(), WAITING));
        let outcome = self.sleep(kernel, party, entry.detail(), deadline, Some(ticket));
        match outcome {
            Outcome::Interrupted => self.wait_elsewhere(kernel, party, ticket),
            _ => kernel.clear_pending(),
        }
        outcome
    }

    /// Says that the calling thread, a party that waits, has nothing pending from now on. One sleeper is woken to know.
    pub fn wait_elsewhere<K: Kernel>(&self, kernel: &K, party: Party<'_>, ticket: Ticket) {
        let entry = party.table().entry(ticket);
        let went = entry.change(status(ticket.number(), WAITING), status(ticket.number(), AWAY)).is_ok();
        if went && futex_word(self.word.state.load(Acquire)) & WAITERS != 0 {
            kernel.wake(&self.word, 1, ANY_CLASS);
        }
        kernel.clear_pending();
    }

    /// Pending: sleeps until `epoch` is over; as the party `member`, or as none.
    fn sleep<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        epoch: u32,
        mut deadline: Option<Deadline>,
        member: Option<Ticket>,
    ) -> Outcome {
        let asleep = if epoch & 1 == 0 { WAITERS } else { WAITERS | ODD };
        let mut is_first = true;
        loop {
            let (state, stage) = self.load();
            if stage.is_ending() {
                self.settle(kernel, party, state);
                continue;
            }
            let is_told = member.is_some_and(|ticket| self.verdict(party, ticket).is_some());
            if is_told || stage.epoch != epoch || stage.phase != OPEN {
                return Outcome::Acquired;
            }
            if futex_word(state) != asleep
                && self
                    .word
                    .state
                    .compare_exchange(state, pack(asleep, stage.bits()), Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            let look = self.look(party, epoch);
            if look.any_dead {
                self.end_pending(kernel, party, epoch, BREAKING, None);
                continue;
            }
            if member.is_some() && stage.count >= self.parties() {
                deadline = None; // all have come in time
            }
            let nap = if is_first || look.any_away { NAP } else { K::RECHECK.unwrap_or(LONG_NAP) };
            let until = Deadline::soonest(deadline, nap);
            is_first = false;
            match kernel.wait(&self.word, asleep, until, ANY_CLASS) {
                Wake::Woken => {}
                Wake::TimedOut if until != deadline => self.reap::<K>(party),
                Wake::TimedOut if member.is_none() => return Outcome::TimedOut,
                Wake::TimedOut => {
                    self.end_pending(kernel, party, epoch, BREAKING, None);
                }
                Wake::Interrupted => return Outcome::Interrupted,
            }
        }
    }

    /// The epoch of a thread that has found all to have arrived, if they are there still.
    pub fn busy_epoch(&self) -> Option<u32> {
        let (_, stage) = self.load();
        (stage.phase == OPEN && stage.count >= self.parties()).then_some(stage.epoch)
    }

    /// Whether `epoch` is over.
    pub fn is_past(&self, epoch: u32) -> bool {
        let (_, stage) = self.load();
        stage.phase != OPEN || stage.epoch != epoch
    }

    /// Sleeps until `epoch` is over, for a thread that is no party of it.
    #[cold]
    pub fn watch<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        epoch: u32,
        deadline: Option<Deadline>,
    ) -> Outcome {
        kernel.set_pending(&self.word);
        let outcome = self.sleep(kernel, party, epoch, deadline, None);
        kernel.clear_pending();
        outcome
    }

    /// The action has run: all may go on. False if the barrier was broken or reset meanwhile.
    pub fn pass<K: Kernel>(&self, kernel: &K, party: Party<'_>, ticket: Ticket) -> bool {
        self.conclude(kernel, party, ticket, PASSING, Some(self.parties()))
    }

    /// The party does not wait any longer: that breaks the barrier. True if all had passed already.
    pub fn give_up<K: Kernel>(&self, kernel: &K, party: Party<'_>, ticket: Ticket) -> bool {
        self.conclude(kernel, party, ticket, BREAKING, None)
    }

    fn conclude<K: Kernel>(
        &self,
        kernel: &K,
        party: Party<'_>,
        ticket: Ticket,
        phase: u32,
        count: Option<u32>,
    ) -> bool {
        if self.verdict(party, ticket).is_none() {
            self.end(kernel, party, party.table().entry(ticket).detail(), phase, count);
        }
        self.leave(kernel, party, ticket)
    }

    /// Ends the participation of the calling thread, which has its verdict, and returns that.
    pub fn leave<K: Kernel>(&self, kernel: &K, party: Party<'_>, ticket: Ticket) -> bool {
        let passed = self.verdict(party, ticket) == Some(true);
        party.leave(kernel, ticket);
        passed
    }

    /// Turns away those who wait, and makes the barrier as good as new.
    pub fn reset<K: Kernel>(&self, kernel: &K, party: Party<'_>) {
        loop {
            let (state, stage) = self.load();
            let open = pack(0, Stage { phase: OPEN, ..stage }.bits());
            let done = match stage.phase {
                BROKEN => self.word.state.compare_exchange(state, open, AcqRel, Relaxed).is_ok(),
                _ => self.end(kernel, party, stage.epoch, RESETTING, None),
            };
            if done {
                return;
            }
        }
    }

    /// Whether nobody can wait until `reset`.
    pub fn is_broken<K: Kernel>(&self, kernel: &K, party: Party<'_>) -> bool {
        self.mourn(kernel, party).phase == BROKEN
    }

    /// How many parties have arrived and wait for the others.
    pub fn number_waiting<K: Kernel>(&self, kernel: &K, party: Party<'_>) -> u32 {
        self.mourn(kernel, party).count
    }

    /// How many have arrived, dead ones among them, if their epoch is not about to end.
    pub fn arrived(&self) -> Option<u32> {
        let (_, stage) = self.load();
        (stage.phase == OPEN).then_some(stage.count)
    }
}
