//! Which threads are here.

use super::{SharedObject, drop_when_due, is_me, release_dropped};
use crate::arena::Slot;
use crate::atomic::{AtomicU64, Ordering::*};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::memory::Region;
use crate::participants::{Party, Ticket};
use crate::platform::Thread;
use crate::presence::Members;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most members.
pub const MAX_SLOTS: usize = 32_768;
/// The most bytes of a member's memory.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest name, in bytes.
pub const MAX_NAME: usize = WORDS * size_of::<u64>();

/// The name is kept in words, so that it can be read while it is written.
const WORDS: usize = 14;
const LINE: usize = 64;
const NO_NAME: u64 = u64::MAX;

/// The only role.
const MEMBERS: u32 = 0;

/// What a member says of itself. Its memory follows, at the next multiple of 64 bytes.
#[repr(C, align(64))]
struct Record {
    /// Nanoseconds since 1970.
    since: AtomicU64,
    /// In bytes, or NO_NAME.
    name_length: AtomicU64,
    name: [AtomicU64; WORDS],
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("since", offset_of!(Record, since)),
        ("name_length", offset_of!(Record, name_length)),
        ("name", offset_of!(Record, name)),
        ("stride", stride(1)),
    ]
}

const _: () = assert!(size_of::<Record>() == 2 * LINE);

/// A member, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub pid: u32,
    /// The number of its thread.
    pub tid: u32,
    pub name: Option<Vec<u8>>,
    /// When it entered, counted from 1970.
    pub since: Duration,
    ticket: Ticket,
}

/// Why a thread could not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Full,
    /// The calling thread is a member.
    Member,
    /// It holds as many locks as the kernel can hand on when it dies.
    HoldsTooMany,
}

/// Which threads are here, each with some memory.
#[derive(Debug)]
pub struct Presence {
    slot: ManuallyDrop<Slot>,
    bytes: usize,
}

impl Presence {
    /// For at most `slots` members, from 1 to `MAX_SLOTS`, with `bytes` of memory each, of which there are at most `MAX_BYTES`.
    ///
    /// # Errors
    /// `Invalid` for other numbers; `System` if there is no memory for it.
    pub fn new(slots: usize, bytes: usize) -> Result<Self> {
        check(slots, bytes)?;
        let slot = Slot::with_table(slots, slots * stride(bytes))?;
        Ok(Presence { slot: ManuallyDrop::new(slot), bytes })
    }

    /// The same in the file at `path`, of `class`: opened, or made with `mode`. If nobody had it open, it has no members.
    ///
    /// # Errors
    /// As `new` and `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, slots: usize, bytes: usize) -> Result<Self> {
        check(slots, bytes)?;
        if let Some(thread) = Thread::known() {
            release_dropped(&thread); // this very one may be among them
        }
        // SAFETY: the slot has the range of the members alone, and is mapped as long as this runs.
        let recover = |slot: NonNull<u8>| unsafe { slot.cast::<AtomicU64>().as_ref() }.store(0, Relaxed);
        let details = format!("{slots} slots of {bytes} bytes");
        let room = (slots, slots * stride(bytes));
        let slot = Slot::in_file_with_table(path, mode, (class, &details), room, |_| {}, recover)?;
        Ok(Presence { slot: ManuallyDrop::new(slot), bytes })
    }

    fn members(&self) -> Members<'_> {
        members_of(&self.slot)
    }

    /// How many members there can be.
    pub fn slots(&self) -> usize {
        self.members().0.table().capacity()
    }

    /// The bytes of shared memory that it has; the system gives those that are used.
    pub fn memory_size(&self) -> usize {
        self.slots() * stride(self.bytes)
    }

    fn record_at(&self, ticket: Ticket) -> NonNull<Record> {
        let offset = ticket.index() * stride(self.bytes);
        // SAFETY: there are as many records as entries, so it is inside the mapping.
        unsafe { self.slot.behind().add(offset).cast() }
    }

    fn record(&self, ticket: Ticket) -> &Record {
        // SAFETY: a record is atomics, for which any bytes are valid, and mapped as long as the slot.
        unsafe { self.record_at(ticket).as_ref() }
    }

    /// Makes the calling thread a member, whose memory is zeroes.
    ///
    /// # Errors
    /// See `Refusal`. A name that is too long is cut.
    pub fn enter(&self, thread: &Thread, name: Option<&[u8]>) -> std::result::Result<Member, Refusal> {
        if self.members().of_thread(thread.id()).is_some() {
            return Err(Refusal::Member);
        }
        if !thread.may_hold_more() {
            return Err(Refusal::HoldsTooMany);
        }
        let name = name.map(|name| &name[..name.len().min(MAX_NAME)]);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ticket =
            self.members().enter(thread, |ticket| self.write(ticket, name, since)).ok_or(Refusal::Full)?;
        let (pid, tid) = (thread.pid(), thread.id());
        Ok(Member { pid, tid, name: name.map(<[u8]>::to_vec), since, ticket })
    }

    fn write(&self, ticket: Ticket, name: Option<&[u8]>, since: Duration) {
        let record = self.record(ticket);
        record.since.store(since.as_nanos() as u64, Relaxed);
        record.name_length.store(name.map_or(NO_NAME, |name| name.len() as u64), Relaxed);
        let chunks = name.unwrap_or_default().chunks(size_of::<u64>());
        for (word, chunk) in record.name.iter().zip(chunks) {
            let mut bytes = [0; size_of::<u64>()];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
        // SAFETY: the calling thread's own while it enters; views that others may have of it go through raw pointers.
        unsafe { self.record_at(ticket).add(1).cast::<u8>().write_bytes(0, self.bytes) };
    }

    /// Ends the membership of the calling thread: of any number, or of that one. False if it is none.
    pub fn leave(&self, thread: &Thread, member: Option<&Member>) -> bool {
        let ticket = self.members().of_thread(thread.id());
        let ticket = ticket.filter(|ticket| member.is_none_or(|member| member.ticket == *ticket));
        ticket.inspect(|ticket| leave(&self.slot, thread, *ticket)).is_some()
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.members().count::<Thread>()
    }

    /// All members, in the order in which they entered.
    pub fn all(&self) -> Vec<Member> {
        let mut members = self.members().each::<Thread, _>(|seen| {
            let (record, tid) = (self.record(seen.ticket()), seen.entry.lock().owner());
            let length = record.name_length.load(Relaxed);
            let name = (length != NO_NAME).then(|| {
                let words = record.name.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes());
                words.take((length as usize).min(MAX_NAME)).collect()
            });
            let since = Duration::from_nanos(record.since.load(Relaxed));
            Member { pid: seen.entry.lock().pid(tid), tid, name, since, ticket: seen.ticket() }
        });
        members.sort_unstable_by_key(|member| member.ticket.number());
        members
    }

    /// The memory of a member, which may be another's by now.
    pub fn memory(&self, member: &Member) -> Region {
        // SAFETY: inside the mapping, which lives as long as its home.
        unsafe {
            let start = self.record_at(member.ticket).add(1).cast();
            Region::within(self.slot.keep(), start, self.bytes)
        }
    }
}

impl SharedObject for Presence {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.slot.is_accessible()
    }
}

fn check(slots: usize, bytes: usize) -> Result<()> {
    if (1..=MAX_SLOTS).contains(&slots) && bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "there can be 1 to {MAX_SLOTS} slots with 0 to {MAX_BYTES} bytes each, not {slots} with {bytes}"
    )))
}

/// From one record to the next.
const fn stride(bytes: usize) -> usize {
    size_of::<Record>() + bytes.next_multiple_of(LINE)
}

fn range_of(slot: &Slot) -> &AtomicU64 {
    // SAFETY: this slot has the range of its members alone. All zeroes is an empty one.
    unsafe { slot.at(0) }
}

fn members_of(slot: &Slot) -> Members<'_> {
    Members(Party::new(slot.seat(MEMBERS), range_of(slot)))
}

fn leave(slot: &Slot, thread: &Thread, ticket: Ticket) {
    members_of(slot).leave(thread, ticket);
}

/// Only a thread itself can give its entry back. The slot stays until all threads of this process that are members have.
impl Drop for Presence {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };
        let Some(slot) = slot.give_back_if_not_last() else { return };
        if slot.is_accessible() && members_of(&slot).0.of_process(std::process::id()).next().is_some() {
            drop_when_due(slot, is_due, release);
        }
    }
}

/// Nobody has an entry, or the calling thread can give one back.
fn is_due(slot: &Slot, thread: &Thread) -> bool {
    let mut members = members_of(slot).0.of_process(std::process::id()).peekable();
    !slot.is_accessible()
        || members.peek().is_none()
        || members.any(|seen| is_me(thread, seen.entry.lock().owner()))
}

/// Members stay in a file that has been opened again since: a new handle is there for it.
fn release(slot: &Slot, thread: &Thread) {
    if !slot.is_accessible() || slot.has_others() {
        return;
    }
    if let Some(ticket) = members_of(slot).of_thread(thread.id()) {
        leave(slot, thread, ticket);
    }
}
