//! One entry: the participation of a thread in an object.

use super::Seat;
use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use crate::lock::Lock;

/// The state of an entry, in its status: 0 is none, the protocol of the object defines the others.
pub type State = u8;

/// In a state: if the participant dies, something remains to be handed on to another one of the object.
pub const OWES: State = 0x80;

/// The state is in the low bits of a status, the number above.
const NUMBER_SHIFT: u32 = State::BITS;

pub const fn status(number: u64, state: State) -> u64 {
    number << NUMBER_SHIFT | state as u64
}

pub const fn number_of(status: u64) -> u64 {
    status >> NUMBER_SHIFT
}

pub const fn state_of(status: u64) -> State {
    status as State
}

/// One participant.
#[derive(Default)]
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))] // one cache line: neighbours do not slow each other down
pub struct Participant {
    pub(super) lock: Lock,
    pub(super) object: AtomicU32,
    /// For the protocol's own use, as `data` and the lock's spare word are.
    pub(super) detail: AtomicU32,
    pub(super) status: AtomicU64,
    pub(super) data: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Participant>() == 64);

impl Participant {
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    pub fn status(&self) -> u64 {
        self.status.load(Acquire)
    }

    /// Sets the status: for the participant itself, where nobody else changes it.
    #[inline]
    pub fn set_status(&self, status: u64) {
        self.status.store(status, Release);
    }

    /// Changes the status if it is `from`.
    pub fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        self.status.compare_exchange(from, to, AcqRel, Acquire)
    }

    /// Whether it is one of the participants at `seat`, if it is anybody's.
    #[inline]
    pub fn is_for(&self, seat: Seat<'_>) -> bool {
        self.object.load(Relaxed) == seat.key
    }

    pub fn detail(&self) -> u32 {
        self.detail.load(Relaxed)
    }

    /// A word for the protocol's own use, 0 when the participant joins.
    pub fn data(&self) -> &AtomicU64 {
        &self.data
    }

    /// Another one.
    pub fn more_data(&self) -> &AtomicU64 {
        self.lock.spare()
    }

    /// Whether it was left by a dead participant that had something to hand on.
    pub(super) fn is_orphan(&self, status: u64) -> bool {
        state_of(status) & OWES != 0 && self.lock.is_abandoned()
    }

    /// Makes the calling thread the owner of the entry, if the entry is free. Its status is 0 then.
    pub(super) fn claim<K: Kernel>(&self, kernel: &K) -> bool {
        if self.lock.is_locked() || self.is_orphan(self.status()) || !self.lock.try_lock(kernel) {
            return false;
        }
        if kernel.pid() != 0 {
            self.lock.record_owner(kernel);
        }
        if self.lock.is_abandoned() {
            // The entry may have become an orphan between the two looks, if somebody still saw its thread alive.
            let now = self.status();
            if self.is_orphan(now) || self.change(now, 0).is_err() {
                self.lock.release_as_dead(kernel);
                return false;
            }
            self.lock.make_consistent(); // only now: the entry is live from here on
        }
        true
    }
}

/// A participation: its number, and the entry it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) index: usize,
    pub(super) number: u64,
}

impl Ticket {
    /// The participation that `Seen::ticket` told of.
    pub fn at(index: usize, number: u64) -> Self {
        Ticket { index, number }
    }

    pub fn number(self) -> u64 {
        self.number
    }

    /// The place of the entry in its table.
    pub fn index(self) -> usize {
        self.index
    }
}

/// An entry as it was when it was looked at.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub entry: &'a Participant,
    pub(super) index: usize,
    pub(super) status: u64,
}

impl Seen<'_> {
    pub fn number(&self) -> u64 {
        number_of(self.status)
    }

    pub fn state(&self) -> State {
        state_of(self.status)
    }

    pub fn status(&self) -> u64 {
        self.status
    }

    pub fn ticket(&self) -> Ticket {
        Ticket { index: self.index, number: self.number() }
    }

    /// Whether the participant is alive, and takes part still. In this order: whoever makes a dead one's entry live again has
    /// changed its status before.
    pub fn is_live(&self) -> bool {
        self.entry.lock.is_live() && number_of(self.entry.status()) == self.number()
    }

    pub fn is_orphan(&self) -> bool {
        self.entry.is_orphan(self.status)
    }
}
