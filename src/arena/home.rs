//! Where slots are: a mapping of shared memory with a table of participants and some slots. Processes may have the same
//! home at different addresses.
//!
//! ```text
//! | identity (64 bytes) | table: its header (64), entries of 64 bytes | slots of 128 bytes | more, for one object |
//! ```
//!
//! The pages are anonymous, and then they hold the objects of this process and its children; or they are those of a file,
//! which hold one object, for all processes that have the file open.
//!
//! The identity is a number that is the same in all processes. Slots have names that are made of it, since their
//! addresses mean nothing to another process, and may mean something else there. Anonymous pages begin with it: it is
//! random. A file's is made of device and inode, which no other file has, be it a copy.

use super::{Holder, SLOT, with_bookkeeping};
use crate::error::{Error, Result};
use crate::file::File;
use crate::participants::Table;
use crate::platform::{self, fork_epoch::fork_epoch};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Threads that can take part at a time in the objects of a home of this process's own.
pub const PARTICIPANTS: usize = 32_768;

/// The home in a file: with the header it takes less than 64 KB.
pub const IN_FILE: Layout = Layout { participants: 800, slots: 1, behind: 0, is_bare: true };

const _: () = assert!(IN_FILE.bytes() + crate::file::HEADER <= 64 << 10);

/// Bytes before the table.
const IDENTITY: usize = 64;

/// What a home has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub participants: usize,
    pub slots: usize,
    /// Bytes behind the slots.
    pub behind: usize,
    /// Whether its slots have nothing of the system's: all their bytes are the object's.
    pub is_bare: bool,
}

impl Layout {
    const fn first_slot(self) -> usize {
        (IDENTITY + Table::bytes(self.participants)).next_multiple_of(SLOT)
    }

    const fn end_of_slots(self) -> usize {
        self.first_slot() + self.slots * SLOT
    }

    pub const fn bytes(self) -> usize {
        self.end_of_slots() + self.behind
    }

    /// The address of the slot in the bytes of a file.
    pub fn slot_in(self, bytes: NonNull<u8>) -> NonNull<u8> {
        bytes.map_addr(|address| address.saturating_add(self.first_slot()))
    }

    /// Puts the home in the bytes of a file in order, which nobody uses: nobody takes part in anything there.
    ///
    /// # Safety
    /// They are mapped, as many as `bytes`, and no other thread has them.
    pub unsafe fn clear_table(self, bytes: NonNull<u8>) {
        // SAFETY: inside the bytes; zeroes are an empty table.
        unsafe { bytes.add(IDENTITY).write_bytes(0, Table::bytes(self.participants)) };
    }
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    vec![
        ("table", IDENTITY),
        ("entries", IN_FILE.participants),
        ("slot", IN_FILE.first_slot()),
        ("slot size", SLOT),
        ("condition of a mutex", size_of::<crate::word::Word>()),
        ("home", IN_FILE.bytes()),
    ]
}

/// A home that this process has mapped. Dropping it unmaps it.
#[derive(Debug)]
pub struct Home {
    address: NonNull<u8>,
    layout: Layout,
    identity: u64,
    /// What the pages belong to, if they are not anonymous.
    file: Option<Arc<File>>,
    /// Of the lock in a file.
    holder: Holder,
}

// SAFETY: it is an address of shared memory, and numbers that do not change.
unsafe impl Send for Home {}
// SAFETY: as above.
unsafe impl Sync for Home {}

impl Home {
    /// Anonymous pages, which forked children share: no descriptor, no name.
    ///
    /// # Errors
    /// `System` if the system has no pages left to map, or no random number.
    pub fn anonymous(layout: Layout) -> Result<Self> {
        let identity = random()?;
        let address = platform::map(layout.bytes())?;
        // SAFETY: fresh pages, which begin with the identity.
        unsafe { address.cast::<AtomicU64>().as_ref() }.store(identity, Relaxed);
        Ok(Home { address, layout, identity, file: None, holder: Holder::default() })
    }

    /// The pages of a file, which has at least `layout.bytes()` behind its header.
    pub fn in_file(file: Arc<File>, layout: Layout) -> Self {
        debug_assert!(file.bytes().len() >= layout.bytes());
        let (device, inode) = file.id();
        Home {
            address: file.bytes().cast(),
            layout,
            identity: device.rotate_left(32) ^ inode,
            file: Some(file),
            holder: Holder::default(),
        }
    }

    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The addresses of this home in this process: those of the whole object, if it is in a file.
    pub fn span(&self) -> (usize, usize) {
        let size = self.file.as_ref().map_or(self.layout.bytes(), |file| file.bytes().len());
        (self.address.addr().get(), size)
    }

    /// Whether its slots have nothing of the system's.
    pub fn is_bare(&self) -> bool {
        self.layout.is_bare
    }

    /// The fork epoch of a slot that is handed out now.
    pub fn epoch(&self) -> u32 {
        if self.is_bare() { platform::epoch_of_bare(fork_epoch()) } else { fork_epoch() }
    }

    /// The addresses of the slots that have something of the system's.
    pub fn attached(&self) -> Range<usize> {
        let start = self.slot(0).addr().get();
        let end = if self.is_bare() { start } else { start + self.layout.slots * SLOT };
        start..end
    }

    pub fn slots(&self) -> usize {
        self.layout.slots
    }

    pub fn table(&self) -> Table<'_> {
        // SAFETY: the table is at this place of the mapping, which lives as long as `self`; a page is aligned to 64.
        unsafe { Table::at(self.address.add(IDENTITY), self.layout.participants) }
    }

    /// The address of a slot, which is below `slots`.
    pub fn slot(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.layout.slots);
        // SAFETY: inside the mapping.
        unsafe { self.address.add(self.layout.first_slot() + index * SLOT) }
    }

    /// The address of what is behind the slots.
    pub fn behind(&self) -> NonNull<u8> {
        // SAFETY: inside the mapping, or at its end.
        unsafe { self.address.add(self.layout.end_of_slots()) }
    }

    /// The index of the slot at an address.
    pub fn index_of(&self, slot: NonNull<u8>) -> u32 {
        ((slot.addr().get() - self.address.addr().get() - self.layout.first_slot()) / SLOT) as u32
    }

    /// A number for a slot that is the same in all processes, and very nearly always unlike that of any other slot of
    /// any home. Neither the lowest nor the highest.
    pub fn name(&self, index: u32) -> u32 {
        let mixed = (self.identity ^ u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 32) as u32).clamp(1, u32::MAX - 1)
    }
}

/// A file of which threads have words on their lists stays mapped for good: a wait was left in the middle, or others have
/// written into the file, so that nobody could find whose the words are.
impl Drop for Home {
    fn drop(&mut self) {
        if self.file.is_some() && self.holder.is_listed(std::process::id()) {
            return std::mem::forget(self.file.take());
        }
        with_bookkeeping(|books| books.forget_home(self.address.addr().get()));
        if self.file.is_none() {
            // SAFETY: no handle of this process points into it any more: each keeps the home.
            unsafe { platform::unmap(self.address, self.layout.bytes()) };
        }
    }
}

/// Where in the bytes of a file the memory begins that an object has beside its slot: at a page, where pages have 4 KB.
pub const MORE_AT: usize = IN_FILE.bytes().next_multiple_of(4096);

/// A random number.
///
/// # Errors
/// `System` if the system has none.
pub fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let (start, length) = (bytes.as_mut_ptr().cast::<libc::c_void>(), bytes.len());
    // The libc crate has no getentropy(3) of musl's.
    // SAFETY: eight bytes to write to.
    #[cfg(target_os = "linux")]
    let is_filled = unsafe { libc::syscall(libc::SYS_getrandom, start, length, 0) } == 8;
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    let is_filled = unsafe { libc::getentropy(start, length) } == 0;
    if is_filled { Ok(u64::from_ne_bytes(bytes)) } else { Err(Error::last_os("a random number")) }
}
