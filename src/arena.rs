//! Where synchronisation objects live: slots of anonymous pages that forked children share. No descriptor, no name.
//!
//! A chunk of pages holds the roster of those who wait for what is in its slots, and the slots. Which slots are in use
//! is private to the process that mapped the chunk: only it hands out slots there, so there is no shared bookkeeping
//! that a crash could leave half done.
//!
//! Rules: a slot handed out before a fork is never handed out again, by either side, since the other may still use it.
//! (Of a fork that ran no handlers only the child knows. There the parent may hand out again what it drops itself.)
//! A process unmaps a chunk once all slots it knew of there are dropped. What is needed beyond its last handle
//! can be kept.

use crate::atomic::{AtomicU32, Ordering::*};
use crate::error::Result;
use crate::platform::fork_epoch::{fork_epoch, step_fork_epoch};
use crate::platform::{self, fork_depth};
use crate::spin::SpinBudget;
use crate::waiter_table::WaiterTable;
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Once;

/// Bytes of shared memory for one object.
pub const SLOT: usize = 128;
/// Slots in the first chunk that a process maps, and in all others: few mappings, since each makes forks slower, and
/// little address space where few objects are made.
const FIRST: usize = 4096;
const OTHERS: usize = 65536;
/// Where the slots of a chunk begin.
const START: usize = size_of::<WaiterTable>().next_multiple_of(SLOT);

/// A slot in use by this process, and the way back to the chunk it is in. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    address: NonNull<u8>,
    chunk: NonNull<u8>,
    fork_epoch: u32,
    /// What this process has learned of waiting for what is in the slot.
    pub spin: SpinBudget,
}

// SAFETY: a slot is shared memory by design; what is in it is atomic.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// What this process knows of a chunk.
struct Chunk {
    address: NonNull<u8>,
    slots: usize,
    /// This process mapped it, and may hand out its slots.
    own: bool,
    /// Slots from here on were never handed out.
    fresh: usize,
    /// Slots handed out and given back between the same two forks.
    free: Vec<u16>,
    /// Slots this process has handles of.
    live: usize,
}

/// What this process knows of the arena.
struct Book {
    /// In the order of their addresses.
    chunks: Vec<Chunk>,
    /// Those that have a slot to hand out.
    open: Vec<NonNull<u8>>,
    /// Slots whose last handle is gone, but whose memory is needed still.
    kept: Vec<Slot>,
}

/// The book of this process, guarded by `LOCK`.
struct Guarded(UnsafeCell<Book>);

// SAFETY: only `with_book` reaches the inside, one thread at a time.
unsafe impl Sync for Guarded {}

static BOOK: Guarded = Guarded(UnsafeCell::new(Book::EMPTY));
/// Twice the fork depth of the process that the book belongs to, and one more while a thread of it is in the book.
static LOCK: AtomicU32 = AtomicU32::new(0);

fn enter() {
    let depth = fork_depth();
    loop {
        let lock = LOCK.load(Relaxed);
        let free = lock & 1 == 0;
        let inherited = lock >> 1 != depth;
        if (free || inherited) && LOCK.compare_exchange(lock, depth << 1 | 1, Acquire, Relaxed).is_ok() {
            if inherited {
                // SAFETY: the lock keeps all other threads out.
                unsafe { &mut *BOOK.0.get() }.inherit(free);
            }
            return;
        }
        std::thread::yield_now();
    }
}

fn exit() {
    LOCK.store(fork_depth() << 1, Release);
}

fn with_book<T>(action: impl FnOnce(&mut Book) -> T) -> T {
    enter();
    // SAFETY: the lock keeps all other threads out, and `action` never comes back here.
    let result = action(unsafe { &mut *BOOK.0.get() });
    exit();
    result
}

/// No thread may be halfway through the book while the process is copied. (A fork that runs no handlers does not wait
/// for that: the child finds the lock as its parent had it, and `enter` sees to it.)
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    extern "C" fn prepare() {
        enter();
        step_fork_epoch();
    }
    extern "C" fn parent() {
        exit();
    }
    extern "C" fn child() {
        // SAFETY: `prepare` entered the book in the thread that this one is a copy of.
        unsafe { &mut *BOOK.0.get() }.inherit(true);
        exit();
        platform::forked(fork_epoch());
    }
    AT_FORK.call_once(|| {
        platform::register_atfork(); // in a child its handler comes first
        // SAFETY: the handlers call nothing that is not allowed after fork.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

impl Slot {
    /// A slot of zeroes.
    ///
    /// # Errors
    /// `System` if the system has no pages left to map.
    pub fn new() -> Result<Self> {
        register_atfork();
        let slot = with_book(Book::hand_out)?;
        // SAFETY: the slot is mapped, and nobody else has it.
        unsafe { platform::attach_os(slot.address) }?;
        Ok(slot)
    }

    /// Whether this process can use what was made in the slot. Not so where a fork loses what it needs of the system.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        platform::is_accessible(self.fork_epoch)
    }

    /// The slot as a `T`, for which all zeroes must be a valid value.
    ///
    /// # Safety
    /// Every use of this slot, in every process, is as a `T` at the same offset, or as one whose zeroes are valid.
    pub unsafe fn at<T: Sync>(&self, offset: usize) -> &T {
        debug_assert!(offset + size_of::<T>() <= SLOT);
        // SAFETY: inside the slot, which is mapped as long as `self`; the caller vouches for the type.
        unsafe { self.address.add(offset).cast().as_ref() }
    }

    /// Who waits for what in this slot's chunk.
    pub fn table(&self) -> &WaiterTable {
        // SAFETY: a chunk begins with it; all zeroes is an empty table.
        unsafe { self.chunk.cast().as_ref() }
    }

    /// This slot's number in its chunk, for the table.
    pub fn index(&self) -> u32 {
        ((self.address.addr().get() - self.chunk.addr().get() - START) / SLOT) as u32
    }

    /// A number that tells this slot from those of other chunks too; neither the lowest nor the highest.
    pub fn name(&self) -> u32 {
        ((self.address.addr().get() / SLOT) as u32).clamp(1, u32::MAX - 1)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_accessible() {
            // SAFETY: the slot is mapped, and this was its only handle here.
            unsafe { platform::detach_os(self.address, || with_book(|book| book.is_sole(self))) };
        }
        with_book(|book| book.take_back(self));
    }
}

impl Book {
    const EMPTY: Self = Book { chunks: Vec::new(), open: Vec::new(), kept: Vec::new() };

    /// The position of the chunk that starts at `address`, or of the first one behind it.
    fn find(&self, address: NonNull<u8>) -> std::result::Result<usize, usize> {
        self.chunks.binary_search_by_key(&address, |chunk| chunk.address)
    }

    /// The chunk to hand out slots of, mapped if there is none.
    fn open(&mut self) -> Result<&mut Chunk> {
        let position = match self.open.last() {
            Some(&address) => self.find(address).unwrap_or_else(|position| position),
            None => {
                let slots = if self.chunks.iter().any(|chunk| chunk.own) { OTHERS } else { FIRST };
                let address = platform::map(Chunk::bytes(slots))?;
                let position = self.find(address).unwrap_or_else(|position| position);
                let chunk = Chunk { address, slots, own: true, fresh: 0, free: Vec::new(), live: 0 };
                self.chunks.insert(position, chunk);
                self.open.push(address);
                position
            }
        };
        Ok(&mut self.chunks[position])
    }

    fn hand_out(&mut self) -> Result<Slot> {
        let chunk = self.open()?;
        let slot = chunk.hand_out();
        if !chunk.has_room() {
            self.open.pop();
        }
        Ok(slot)
    }

    /// Whether no other process can know of `slot`.
    fn is_sole(&self, slot: &Slot) -> bool {
        slot.fork_epoch == fork_epoch()
            && self.find(slot.chunk).is_ok_and(|position| self.chunks[position].own)
    }

    fn take_back(&mut self, slot: &Slot) {
        let Ok(position) = self.find(slot.chunk) else { return };
        let chunk = &mut self.chunks[position];
        chunk.live -= 1;
        if chunk.own && slot.fork_epoch == fork_epoch() {
            if !chunk.has_room() {
                self.open.push(slot.chunk);
            }
            chunk.free.push(slot.index() as u16);
        }
        if chunk.live == 0 {
            self.open.retain(|&address| address != slot.chunk);
            self.chunks.remove(position).unmap();
        }
    }

    /// In a forked child: its parent hands out what is left here. A book that a thread of the parent was in the middle
    /// of is not `whole`: then what it knows is forgotten, and the chunks stay mapped.
    fn inherit(&mut self, whole: bool) {
        if whole {
            self.chunks.iter_mut().for_each(|chunk| chunk.own = false);
            self.open.clear();
        } else {
            std::mem::forget(std::mem::replace(self, Book::EMPTY));
        }
    }
}

impl Chunk {
    fn bytes(slots: usize) -> usize {
        START + slots * SLOT
    }

    fn has_room(&self) -> bool {
        self.fresh < self.slots || !self.free.is_empty()
    }

    /// The caller forgets the chunk.
    fn unmap(&self) {
        // SAFETY: no handle of this process points into it any more.
        unsafe { platform::unmap(self.address, Self::bytes(self.slots)) };
    }

    /// A slot of zeroes. There is room.
    fn hand_out(&mut self) -> Slot {
        self.live += 1;
        let used = self.free.pop();
        let index = used.map_or(self.fresh, usize::from);
        // SAFETY: the index is below `slots`, so the address is inside the chunk.
        let address = unsafe { self.address.add(START + index * SLOT) };
        if used.is_some() {
            // SAFETY: the slot is mapped, and nobody else has it.
            unsafe { address.write_bytes(0, SLOT) };
        } else {
            self.fresh += 1; // zero as it was mapped
        }
        Slot { address, chunk: self.address, fork_epoch: fork_epoch(), spin: SpinBudget::default() }
    }
}

/// Holds on to a slot until `take_deferred` asks for it.
pub fn keep(slot: Slot) {
    with_book(|book| book.kept.push(slot));
}

/// The kept slots that `is_due`.
pub fn take_deferred(mut is_due: impl FnMut(&Slot) -> bool) -> Vec<Slot> {
    with_book(|book| {
        let (due, kept) = std::mem::take(&mut book.kept).into_iter().partition(|slot| is_due(slot));
        book.kept = kept;
        due
    })
}

/// Whether `address` is in a chunk of this process.
pub fn contains(address: usize) -> bool {
    with_book(|book| {
        let behind = book.chunks.partition_point(|chunk| chunk.address.addr().get() <= address);
        let chunk = behind.checked_sub(1).map(|position| &book.chunks[position]);
        chunk.is_some_and(|chunk| address - chunk.address.addr().get() < Chunk::bytes(chunk.slots))
    })
}
