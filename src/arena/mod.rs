//! Where synchronisation objects live: slots of shared memory, each in a home.
//!
//! A home (`home`) is a mapping with slots and a table of participants. Only the process that made a home hands out its
//! slots, and which of them are in use is private to that process (`bookkeeping`). So there is no shared bookkeeping that a
//! crash could leave half done.

mod bookkeeping;
mod holder;
mod home;

use crate::atomic::Ordering::*;
use crate::error::Result;
use crate::file::{self, File};
use crate::participants::Seat;
use crate::platform;
use crate::platform::fork_epoch::{fork_epoch, step_fork_epoch};
use crate::platform::fork_lock::ForkLock;
use crate::spin::SpinBudget;
use crate::word::Word;
use bookkeeping::Bookkeeping;
use home::{Home, IN_FILE, Layout};
use std::cell::UnsafeCell;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Once};

pub use holder::{Holder, Holding, Reading, Readings};
#[cfg(test)]
pub use home::layout;
pub use home::{PARTICIPANTS, random};

/// Bytes of shared memory for one object; the last `platform::SLOT_TAIL` are the system's, unless the slot is a
/// whole one or in a file.
pub const SLOT: usize = 128;

/// Tables of participants that the object in a slot can have.
const SEATS: u32 = 4;

/// A slot in use by this process. Dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    address: NonNull<u8>,
    /// When it was handed out: see `Home::epoch`.
    epoch: u32,
    /// What this process has learned of waiting for what is in the slot.
    pub spin: SpinBudget,
    home: Arc<Home>,
}

// SAFETY: a slot is shared memory by design; what is in it is atomic.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// A slot whose last handle is gone, but whose memory is needed until `release` has run.
pub struct Deferred {
    pub slot: Slot,
    /// Whether the calling thread can, or nobody needs to, do what is left.
    pub is_due: fn(&Slot, &platform::Thread) -> bool,
    pub release: fn(&Slot, &platform::Thread),
}

/// Guarded by `LOCK`.
struct Guarded(UnsafeCell<Bookkeeping>);

// SAFETY: only `with_bookkeeping` and the fork handlers reach the inside, one thread at a time.
unsafe impl Sync for Guarded {}

static BOOKKEEPING: Guarded = Guarded(UnsafeCell::new(Bookkeeping::new()));
static LOCK: ForkLock = ForkLock::new();

fn enter() {
    if let Some(is_whole) = LOCK.enter() {
        // SAFETY: the lock keeps all other threads out.
        unsafe { &mut *BOOKKEEPING.0.get() }.inherit(is_whole);
    }
}

fn exit() {
    LOCK.exit();
}

fn with_bookkeeping<T>(action: impl FnOnce(&mut Bookkeeping) -> T) -> T {
    enter();
    // SAFETY: the lock keeps all other threads out, and `action` never comes back here.
    let result = action(unsafe { &mut *BOOKKEEPING.0.get() });
    exit();
    result
}

/// No thread may be halfway through the bookkeeping while the process is copied. (A fork that runs no handlers does not
/// wait for that: the child finds the lock as its parent had it, and `enter` sees to it.)
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
        // SAFETY: `prepare` entered in the thread that this one is a copy of.
        unsafe { &mut *BOOKKEEPING.0.get() }.inherit(true);
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
        Self::handed_out(|books| books.hand_out(false))
    }

    /// A slot of zeroes, all of which the object may use.
    ///
    /// # Errors
    /// As `new`.
    pub fn whole() -> Result<Self> {
        Self::handed_out(|books| books.hand_out(platform::SLOT_TAIL != 0))
    }

    /// A slot of zeroes with a table of its own for so many participants, and `behind` bytes of zeroes.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_table(participants: usize, behind: usize) -> Result<Self> {
        let layout = Layout { participants, slots: 1, behind, is_bare: false };
        Self::handed_out(|books| books.hand_out_alone(layout))
    }

    fn handed_out(hand_out: impl FnOnce(&mut Bookkeeping) -> Result<Slot>) -> Result<Self> {
        register_atfork();
        platform::prepare_to_share()?;
        let slot = with_bookkeeping(hand_out)?;
        if !slot.home.is_bare() {
            // SAFETY: the slot is mapped, and nobody else has it.
            unsafe { platform::attach_os(slot.address) }?;
        }
        Ok(slot)
    }

    /// The bytes that `with_table` or `in_file_with_table` has made.
    pub fn behind(&self) -> NonNull<u8> {
        self.home.behind()
    }

    /// What keeps them mapped.
    pub fn keep(&self) -> Arc<impl Send + Sync + 'static> {
        self.home.clone()
    }

    fn at_index(home: Arc<Home>, index: u32) -> Self {
        let (address, epoch) = (home.slot(index as usize), home.epoch());
        Slot { address, epoch, spin: SpinBudget::default(), home }
    }

    /// The slot in the file at `path`, which is opened, or made with `mode`. `class` and `details` are as in `file::Shape`.
    /// `start` makes the object in a slot of zeroes, and `recover` puts in order what processes that are gone have left there.
    ///
    /// # Errors
    /// As `file::open`.
    pub fn in_file(
        path: &Path,
        mode: u32,
        class: &str,
        details: &str,
        start: impl Fn(NonNull<u8>),
        recover: impl Fn(NonNull<u8>),
    ) -> Result<Self> {
        Self::in_file_laid_out(path, mode, (class, details), IN_FILE, start, recover)
    }

    /// The same for what `with_table` has made room for.
    ///
    /// # Errors
    /// As `in_file`.
    pub fn in_file_with_table(
        path: &Path,
        mode: u32,
        shape: (&str, &str),
        (participants, behind): (usize, usize),
        start: impl Fn(NonNull<u8>),
        recover: impl Fn(NonNull<u8>),
    ) -> Result<Self> {
        let layout = Layout { participants, slots: 1, behind, is_bare: true };
        Self::in_file_laid_out(path, mode, shape, layout, start, recover)
    }

    fn in_file_laid_out(
        path: &Path,
        mode: u32,
        (class, details): (&str, &str),
        layout: Layout,
        start: impl Fn(NonNull<u8>),
        recover: impl Fn(NonNull<u8>),
    ) -> Result<Self> {
        let shape = file::Shape { class, details, size: layout.bytes() };
        let start = |bytes: file::Bytes| {
            start(layout.slot_in(bytes.cast()));
            Ok(())
        };
        let recover = |bytes: file::Bytes| {
            recover(layout.slot_in(bytes.cast()));
            Ok(())
        };
        Self::in_file_of(path, mode, &shape, layout, start, recover)
    }

    /// The same for an object that has `size` bytes beside its slot, see `beside`, which is all that `start` and `recover` get.
    /// `details` are as in `Shape`.
    ///
    /// # Errors
    /// As `in_file`, and what `start` and `recover` say.
    pub fn in_file_with(
        path: &Path,
        mode: u32,
        (class, details): (&str, &str),
        size: usize,
        start: impl Fn(NonNull<u8>) -> Result<()>,
        recover: impl Fn(NonNull<u8>) -> Result<()>,
    ) -> Result<Self> {
        let shape = file::Shape { class, details, size: home::MORE_AT.saturating_add(size) };
        // SAFETY: inside the bytes of a file of this shape.
        let beside = |bytes: file::Bytes| unsafe { bytes.cast::<u8>().add(home::MORE_AT) };
        let start = |bytes: file::Bytes| start(beside(bytes));
        let recover = |bytes: file::Bytes| {
            // SAFETY: a slot is a word that counts those that wait, and no other process has the file open.
            unsafe { IN_FILE.slot_in(bytes.cast()).cast::<Word>().as_ref() }.recover(0);
            recover(beside(bytes))
        };
        Self::in_file_of(path, mode, &shape, IN_FILE, start, recover)
    }

    fn in_file_of(
        path: &Path,
        mode: u32,
        shape: &file::Shape,
        layout: Layout,
        start: impl Fn(file::Bytes) -> Result<()>,
        recover: impl Fn(file::Bytes) -> Result<()>,
    ) -> Result<Self> {
        register_atfork();
        let recover = |bytes: file::Bytes| {
            // SAFETY: the bytes of a file of this shape, which no other process has open.
            unsafe { layout.clear_table(bytes.cast()) };
            recover(bytes)
        };
        let file = file::open(path, mode, shape, start, recover)?;
        // What is not needed is dropped outside: a file takes the lock of the registry to close.
        let (slot, spare) = with_bookkeeping(|books| books.hand_out_in_file(file, layout));
        drop(spare);
        Ok(slot)
    }

    /// The file that the slot is in.
    pub fn file(&self) -> Option<&File> {
        self.home.file().map(Arc::as_ref)
    }

    /// The memory beside the slot of an object that was opened by `in_file_with`.
    pub fn beside(&self) -> Option<NonNull<u8>> {
        // SAFETY: inside the bytes of the file, which are mapped as long as this.
        self.file().map(|file| unsafe { file.bytes().cast::<u8>().add(home::MORE_AT) })
    }

    /// See `Holder`; for a slot in a file.
    #[inline]
    pub fn holder(&self) -> Option<&Holder> {
        self.home.file().map(|_| self.home.holder())
    }

    /// For a slot in a file: the calling thread has so many more words of it on its list, beside entries of the table. Without
    /// this, the memory of a word that others have written to could go while the word is on a list.
    #[inline]
    pub fn count_listed(&self, thread: &platform::Thread, change: i32) {
        if let Some(holder) = self.holder() {
            holder.words.add(thread.pid(), change);
        }
    }

    /// Never unmaps the home of this slot.
    pub fn keep_for_good(&self) {
        std::mem::forget(self.home.clone());
    }

    /// Whether this process has other handles of the same slot.
    pub fn has_others(&self) -> bool {
        self.home.file().is_some() && with_bookkeeping(|books| books.has_others(self))
    }

    /// Gives the slot back if this process has other handles of it, which can be only if it is in a file. Else returns it.
    pub fn give_back_if_not_last(self) -> Option<Slot> {
        if self.home.file().is_none() {
            return Some(self);
        }
        let this = std::mem::ManuallyDrop::new(self);
        let gone = with_bookkeeping(|books| books.leave_to_others(&this));
        let slot = std::mem::ManuallyDrop::into_inner(this);
        if !gone {
            return Some(slot);
        }
        slot.forget_handle();
        None
    }

    /// Drops what a handle has, whose place in the bookkeeping is gone.
    fn forget_handle(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and its `Drop` does not run.
        unsafe { std::ptr::drop_in_place(&raw mut this.home) };
    }

    /// Whether this process can use what was made in the slot. Not so where a fork loses what it needs of the system.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        platform::is_accessible(self.epoch)
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

    /// Where those stand who take part in the object of this slot as `role`, which is below 4.
    #[inline]
    pub fn seat(&self, role: u32) -> Seat<'_> {
        debug_assert!(role < SEATS);
        let tally = self.holder().map(|holder| &holder.entries);
        Seat { table: self.home.table(), key: self.index() * SEATS + role, tally }
    }

    /// Where it is in this process.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Its place in the home.
    fn index(&self) -> u32 {
        self.home.index_of(self.address)
    }

    /// See `Home::name`.
    pub fn name(&self) -> u32 {
        self.home.name(self.index())
    }

    /// Keeps the slot until its owner can do what is left to do; see `take_deferred`.
    pub fn defer(self, is_due: fn(&Slot, &platform::Thread) -> bool, release: fn(&Slot, &platform::Thread)) {
        with_bookkeeping(|books| books.defer(Deferred { slot: self, is_due, release }));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.home.is_bare() && self.is_accessible() {
            let is_sole = || with_bookkeeping(|books| books.is_sole(self));
            // SAFETY: the slot is mapped, and this was its only handle here.
            unsafe { platform::detach_os(self.address, is_sole) };
        }
        // What it returns is dropped outside, since that needs the bookkeeping again.
        drop(with_bookkeeping(|books| books.take_back(self)));
    }
}

/// The deferred slots that are due for `thread`, the calling one.
pub fn take_deferred(thread: &platform::Thread) -> Vec<Deferred> {
    with_bookkeeping(|books| books.take_deferred(|one| (one.is_due)(&one.slot, thread)))
}

/// Whether `address` is in a home of this process.
pub fn contains(address: usize) -> bool {
    with_bookkeeping(|books| books.place(address) != Place::Elsewhere)
}

/// Whether `address` is in a slot that has what `platform::attach_os` gives.
pub fn is_attached(address: usize) -> bool {
    with_bookkeeping(|books| books.is_attached(address))
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An anonymous home.
    Anonymous,
    /// A home in a file: the bytes there may be any.
    File,
    /// No home of this process.
    Elsewhere,
}

/// All homes in files that this process, or one it was forked from, has ever had are between these addresses.
static FILES_BEGIN: AtomicUsize = AtomicUsize::new(usize::MAX);
static FILES_END: AtomicUsize = AtomicUsize::new(0);

/// No if there is no home in a file at `address`. It costs two loads; see `with_places` for an exact answer.
#[inline]
pub fn may_be_in_file(address: usize) -> bool {
    address >= FILES_BEGIN.load(Relaxed) && address < FILES_END.load(Relaxed)
}

/// The lock at `address` has another holder now, `thread`, or none if that is 0: notes it where the lock is in a file.
pub fn set_holder(address: usize, thread: u64) {
    with_bookkeeping(|books| {
        if let Some(holder) = books.holder_at(address) {
            holder.thread.store(thread, Relaxed);
        }
    });
}

/// The calling thread has taken the word at `address` off its list.
pub fn unlist(address: usize, thread: &platform::Thread) {
    with_bookkeeping(|books| {
        if let Some(tally) = books.tally_at(address) {
            tally.add(thread.pid(), -1);
        }
    });
}

/// Calls `see` with the holder of each file that this process has open. It must do nothing with an object of this crate.
pub fn each_holder(see: impl FnMut(&Holder)) {
    with_bookkeeping(|books| books.holders().for_each(see));
}

/// Calls `action` with what tells where an address is. Meanwhile, no home goes away.
pub fn with_places<T>(action: impl FnOnce(&dyn Fn(usize) -> Place) -> T) -> T {
    with_bookkeeping(|books| action(&|address| books.place(address)))
}
