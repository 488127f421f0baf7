//! A lock that many readers hold at a time, or one writer.

use super::mutex::{make_room, owner_pid_of};
use super::{SharedObject, count, counted, drop_when_due, is_me, release_dropped, waiters_of};
use crate::arena::{Holder, Slot};
use crate::atomic::Ordering::*;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::participants::{Participant, Party, Seat, Seen, Ticket, number_of, state_of, status};
use crate::platform::Thread;
use crate::read_write_lock::{Found, IDLE, READING, ReadWriteLock as Protocol};
use crate::spin::PAUSE;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const READS: u32 = 1;

/// Places where a handle remembers the entries of threads.
const PLACES: usize = 8;

/// Many readers, or one writer. How often a thread reads, and in which of its fibers, is the binding's business: the entry
/// of a thread has two words for that, which nobody else writes.
#[derive(Debug)]
pub struct ReadWriteLock {
    slot: ManuallyDrop<Slot>,
    /// The number of a thread, and the index of its entry in the other half.
    places: [AtomicU64; PLACES],
}

/// The entry of the calling thread. In a file the two words may be changed by others.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    entry: &'a Participant,
    ticket: Ticket,
}

impl Reader<'_> {
    /// How often the thread reads now.
    #[inline]
    pub fn levels(&self) -> u64 {
        self.entry.data().load(Relaxed)
    }

    #[inline]
    pub fn set_levels(&self, levels: u64) {
        self.entry.data().store(levels, Relaxed);
    }

    /// A word for the binding: the fiber that reads.
    #[inline]
    pub fn fiber(&self) -> u64 {
        self.entry.more_data().load(Relaxed)
    }

    #[inline]
    pub fn set_fiber(&self, fiber: u64) {
        self.entry.more_data().store(fiber, Relaxed);
    }

    /// Whether it keeps writers out.
    fn reads(&self) -> bool {
        state_of(self.entry.status()) == READING
    }
}

impl ReadWriteLock {
    /// A free lock.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Ok(ReadWriteLock { slot: ManuallyDrop::new(Slot::new()?), places: Default::default() })
    }

    /// The lock in the file at `path`, of `class`: opened, or made with `mode`. If its last writer is gone without having ended,
    /// it is abandoned.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str) -> Result<Self> {
        if let Some(thread) = Thread::known() {
            release_dropped(&thread); // this very lock may be among them
        }
        // SAFETY: the slot of such a lock, which is mapped as long as this runs.
        let recover = |slot: NonNull<u8>| unsafe { slot.cast::<Protocol>().as_ref() }.recover();
        let slot = Slot::in_file(path, mode, class, "", |_| {}, recover)?;
        Ok(ReadWriteLock { slot: ManuallyDrop::new(slot), places: Default::default() })
    }

    /// What this process knows of its holders; for a lock in a file.
    #[inline]
    pub fn holder(&self) -> Option<&Holder> {
        self.slot.holder()
    }

    /// Whether this process has other handles of it.
    pub fn has_other_handles(&self) -> bool {
        self.slot.has_others()
    }

    #[inline]
    fn lock(&self) -> &Protocol {
        lock_of(&self.slot)
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.slot, self.lock().spares()[0])
    }

    fn readers(&self) -> Party<'_> {
        readers_of(&self.slot)
    }

    /// The entry of the calling thread, if it is remembered.
    #[inline]
    pub fn known_reader(&self, thread: &Thread) -> Option<Reader<'_>> {
        let place = self.places[thread.id() as usize % PLACES].load(Relaxed);
        if place >> 32 != u64::from(thread.id()) {
            return None;
        }
        let seat = self.slot.seat(READS);
        reader_at(seat, place as u32 as usize, thread)
    }

    /// The entry of the calling thread.
    pub fn reader(&self, thread: &Thread) -> Option<Reader<'_>> {
        self.known_reader(thread).or_else(|| {
            let seen = self.readers().iter().find(|seen| is_me(thread, seen.entry.lock().owner()))?;
            let reader = reader_at(self.slot.seat(READS), seen.ticket().index(), thread)?;
            self.remember(thread, reader);
            Some(reader)
        })
    }

    fn remember(&self, thread: &Thread, reader: Reader<'_>) {
        let place = u64::from(thread.id()) << 32 | reader.ticket.index() as u64;
        self.places[thread.id() as usize % PLACES].store(place, Relaxed);
    }

    /// The same; makes one if there is none. `None` if the table is full.
    ///
    /// # Errors
    /// As `check_room`.
    pub fn reader_or_new(&self, thread: &Thread) -> Result<Option<Reader<'_>>> {
        if let Some(reader) = self.reader(thread) {
            return Ok(Some(reader));
        }
        self.check_room(thread)?;
        let Some(ticket) = self.readers().join(thread, IDLE, 0) else { return Ok(None) };
        let reader = Reader { entry: self.readers().table().entry(ticket), ticket };
        self.remember(thread, reader);
        Ok(Some(reader))
    }

    /// To be called before the calling thread takes anything.
    ///
    /// # Errors
    /// `Ownership` if it holds as many locks as the kernel can hand on when it dies.
    #[inline]
    pub fn check_room(&self, thread: &Thread) -> Result<()> {
        if thread.may_hold_more() { Ok(()) } else { make_room(thread) }
    }

    /// Begins to read if that is possible at once, without a look at what the dead have left.
    #[inline]
    pub fn try_read(&self, thread: &Thread, reader: Reader<'_>) -> bool {
        self.lock().try_read(thread, reader.entry, reader.ticket.number())
    }

    /// The same within a few microseconds.
    pub fn try_read_soon(&self, thread: &Thread, reader: Reader<'_>) -> bool {
        self.slot.spin.run(PAUSE, || self.try_read(thread, reader))
    }

    /// Begins to read beside itself: the calling thread writes.
    pub fn read_as_writer(&self, reader: Reader<'_>) {
        reader.entry.set_status(status(reader.ticket.number(), READING));
    }

    /// Ends to read. The entry is kept for the next time, unless the thread keeps many, or it is in a file, which would make
    /// the other locks of the thread slower.
    #[inline]
    pub fn end_read(&self, thread: &Thread, reader: Reader<'_>) {
        self.lock().end_read(thread, reader.entry, reader.ticket.number());
        if !thread.may_keep_more() || self.slot.holder().is_some() {
            self.leave(thread, reader.ticket);
        }
    }

    #[inline(never)]
    fn leave(&self, thread: &Thread, ticket: Ticket) {
        self.readers().leave(thread, ticket);
    }

    /// Takes the gate if it is free. `read_and_open` or `open` has to follow.
    pub fn try_close(&self, thread: &Thread) -> bool {
        self.lock().gate().reap_if_owner_dead::<Thread>();
        let taken = self.lock().gate().try_lock(thread);
        if taken {
            self.lock().gate().record_owner(thread);
            self.slot.count_listed(thread, 1);
        }
        taken
    }

    /// Takes the gate as soon as it is free.
    pub fn close(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        let outcome = counted(self.waiting(), thread, || self.lock().close(thread, deadline));
        self.slot.count_listed(thread, i32::from(outcome == Outcome::Acquired));
        outcome
    }

    /// See `Protocol::found`.
    pub fn found(&self) -> Found {
        self.lock().found()
    }

    /// See `Protocol::open`.
    pub fn open(&self, thread: &Thread, found: Found) {
        self.lock().open(thread, found);
        self.slot.count_listed(thread, -1);
    }

    /// See `Protocol::read_and_open`.
    pub fn read_and_open(&self, thread: &Thread, reader: Reader<'_>, found: Found) {
        self.lock().read_and_open(thread, reader.entry, reader.ticket.number(), found);
        self.slot.count_listed(thread, -1);
    }

    fn own(&self, thread: &Thread) -> Option<Ticket> {
        self.reader(thread).filter(Reader::reads).map(|reader| reader.ticket)
    }

    /// Becomes the writer if that is possible at once. `takes_turn`: the calling thread is not the upgrader.
    pub fn try_write(&self, thread: &Thread, takes_turn: bool) -> bool {
        if takes_turn && !self.try_take_turn(thread) {
            return false;
        }
        self.lock().gate().reap_if_owner_dead::<Thread>();
        let own = self.own(thread);
        let taken = self.lock().try_begin_write(thread, self.readers(), own);
        if taken {
            self.slot.count_listed(thread, 1);
        } else if takes_turn {
            self.end_turn(thread);
        }
        taken
    }

    /// Becomes the writer as soon as that is possible. A thread that reads does not wait for its turn: `Interrupted` then,
    /// at once.
    pub fn write(&self, thread: &Thread, takes_turn: bool, deadline: Option<Deadline>) -> Outcome {
        let own = self.own(thread);
        counted(self.waiting(), thread, || {
            if takes_turn {
                let outcome = self.lock().take_turn(thread, deadline);
                if outcome != Outcome::Acquired {
                    return outcome;
                }
                self.slot.count_listed(thread, 1);
            }
            let outcome = self.lock().begin_write(thread, self.readers(), own, deadline);
            if outcome == Outcome::Acquired {
                self.slot.count_listed(thread, 1);
            } else if takes_turn {
                self.end_turn(thread);
            }
            outcome
        })
    }

    /// See `Protocol::watch`.
    pub fn watch(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.lock().watch(thread, self.readers(), deadline))
    }

    /// See `Protocol::end_write`.
    pub fn end_write(&self, thread: &Thread, in_order: bool) {
        self.lock().end_write(thread, in_order);
        self.slot.count_listed(thread, -1);
    }

    /// The writer, the calling thread, has repaired what a dead one had left.
    pub fn repaired(&self) {
        self.lock().repaired();
        self.lock().go_on_writing();
    }

    pub fn is_gate_free(&self) -> bool {
        self.lock().gate().reap_if_owner_dead::<Thread>();
        !self.lock().gate().is_locked()
    }

    /// Waits until the gate may be free, and leaves it to others: `Acquired` then.
    pub fn wait_until_gate_is_free(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.lock().gate().wait_until_free(thread, deadline))
    }

    pub fn try_take_turn(&self, thread: &Thread) -> bool {
        let taken = self.lock().try_take_turn(thread);
        self.slot.count_listed(thread, i32::from(taken));
        taken
    }

    pub fn take_turn(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        let outcome = counted(self.waiting(), thread, || self.lock().take_turn(thread, deadline));
        self.slot.count_listed(thread, i32::from(outcome == Outcome::Acquired));
        outcome
    }

    pub fn end_turn(&self, thread: &Thread) {
        self.lock().end_turn(thread);
        self.slot.count_listed(thread, -1);
    }

    /// Whether the calling thread holds the gate.
    #[inline]
    pub fn is_gate_held_by(&self, thread: &Thread) -> bool {
        is_me(thread, self.lock().gate().owner())
    }

    /// Whether the calling thread is the writer or the upgrader.
    #[inline]
    pub fn is_turn_of(&self, thread: &Thread) -> bool {
        is_me(thread, self.lock().turn().owner())
    }

    /// Whether somebody writes.
    pub fn is_written(&self) -> bool {
        self.lock().is_written::<Thread>()
    }

    /// Whether a writer has died, and nobody has repaired what it has left.
    pub fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned::<Thread>()
    }

    /// The process of the writer.
    pub fn owner_pid(&self) -> Option<u32> {
        if self.is_written() { owner_pid_of(self.lock().gate()) } else { None }
    }

    /// The processes of those that read, each once.
    pub fn reader_pids(&self) -> Vec<u32> {
        let reading = self.readers().iter().filter(|seen| seen.state() == READING);
        let pid_of = |seen: Seen<'_>| {
            let lock = seen.entry.lock();
            lock.reap_if_owner_dead::<Thread>();
            let pid = lock.pid(lock.owner());
            (seen.is_live() && seen.entry.status() == seen.status()).then_some(pid)
        };
        let mut pids: Vec<u32> = reading.filter_map(pid_of).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// How many threads wait.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }

    /// Calls `see` with the word `fiber` of each thread of this process that reads.
    pub fn each_fiber(&self, mut see: impl FnMut(u64)) {
        for seen in self.readers().of_process(std::process::id()) {
            if seen.entry.data().load(Relaxed) > 0 {
                see(seen.entry.more_data().load(Relaxed));
            } else {
                seen.entry.more_data().store(0, Relaxed);
            }
        }
    }
}

impl SharedObject for ReadWriteLock {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.slot.is_accessible()
    }
}

/// The entry at `index`, if it is the calling thread's for the object of `seat`.
#[inline]
fn reader_at<'a>(seat: Seat<'a>, index: usize, thread: &Thread) -> Option<Reader<'a>> {
    let ticket = Ticket::at(index % seat.table.capacity(), 0);
    let entry = seat.table.entry(ticket);
    let now = entry.status();
    let is_own =
        is_me(thread, entry.lock().owner()) && entry.is_for(seat) && matches!(state_of(now), IDLE | READING);
    is_own.then(|| Reader { entry, ticket: Ticket::at(ticket.index(), number_of(now)) })
}

#[inline]
fn lock_of(slot: &Slot) -> &Protocol {
    // SAFETY: the caller's slot is such a lock's. All zeroes is a free one.
    unsafe { slot.at(0) }
}

fn readers_of(slot: &Slot) -> Party<'_> {
    Party::new(slot.seat(READS), lock_of(slot).spares()[1])
}

/// What threads of this process hold only they can give back. The slot stays until they have.
impl Drop for ReadWriteLock {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };
        let Some(slot) = slot.give_back_if_not_last() else { return };
        if slot.is_accessible() && holders_of(&slot).next().is_some() {
            drop_when_due(slot, is_due, release);
        }
    }
}

/// The numbers of the threads of this process that hold something of the lock.
fn holders_of(slot: &Slot) -> impl Iterator<Item = u32> {
    let pid = std::process::id();
    let of_locks =
        [lock_of(slot).turn(), lock_of(slot).gate()].map(|lock| (lock.owner(), lock.pid(lock.owner())));
    let of_locks =
        of_locks.into_iter().filter(move |(owner, of)| *owner != 0 && *of == pid).map(|(owner, _)| owner);
    of_locks.chain(readers_of(slot).of_process(pid).map(|seen| seen.entry.lock().owner()))
}

/// Nobody holds anything, or the calling thread can give something back.
fn is_due(slot: &Slot, thread: &Thread) -> bool {
    let mut holders = holders_of(slot).peekable();
    !slot.is_accessible() || holders.peek().is_none() || holders.any(|holder| is_me(thread, holder))
}

/// A lock in a file that has been opened again since is not to be released: a new handle is there for it.
fn release(slot: &Slot, thread: &Thread) {
    if !slot.is_accessible() || slot.has_others() {
        return;
    }
    let (lock, readers) = (lock_of(slot), readers_of(slot));
    if is_me(thread, lock.gate().owner()) {
        lock.gate().release_as_dead(thread);
        slot.count_listed(thread, -1);
    }
    if is_me(thread, lock.turn().owner()) {
        lock.end_turn(thread);
        slot.count_listed(thread, -1);
    }
    for seen in readers.of_process(std::process::id()).filter(|seen| is_me(thread, seen.entry.lock().owner()))
    {
        readers.leave(thread, seen.ticket());
    }
}
