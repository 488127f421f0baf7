//! The kernel's robust list, which makes a lock survive its holder.
//!
//! The kernel knows, for each native thread, the head of a list of lock words. When the thread dies, by whatever cause,
//! the kernel marks the words that name the thread (`FUTEX_OWNER_DIED`), and wakes one waiter of each.
//! `list_op_pending` has it do the same for one word more: the word of an operation in progress. See
//! get_robust_list(2) and "The robust futex ABI" in the kernel's documentation.
//!
//! The C library owns the list, for robust pthread mutexes. Our entries have the form that both glibc and musl give
//! theirs: a `next` pointer that the list runs through, and right before it a `prev` pointer.
//!
//! An entry may be in a file, where anybody who can write the file can change both. So an entry in a file that is not alone
//! on the list is found from the head, which is private, and its `prev` is not used; neither is that of an entry that has
//! stood beside one, unless it is the first. A `Tally` says whether there may be such.

use crate::arena::{self, Place};
use crate::error::{Error, Result};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, Ordering, compiler_fence};

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "process_shared needs a 64-bit system: 32-bit C libraries keep the robust list in another form"
);

/// The most locks of one thread. The kernel follows `ROBUST_LIST_LIMIT` entries, the C library's among them.
pub const MAX_HELD: u32 = 2000;
const ROBUST_LIST_LIMIT: u32 = 2048;

/// Distance from an entry's `next` to its lock word: the C library chose it, for all entries of a thread.
pub const WORD_FROM_NEXT: isize = if cfg!(target_env = "musl") { -28 } else { -32 };

/// An address of the list: of some entry's `next`, or of the head. Bit 0 marks a priority-inheritance mutex, and is not
/// part of the address.
pub type Link = *mut libc::c_void;

/// What a lock adds to itself to be an entry of the list. Only its holder writes to it, and the addresses in it mean
/// something in the holder's process alone.
#[repr(C)]
pub struct Entry {
    prev: Cell<*mut Link>,
    next: Cell<Link>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry { prev: Cell::new(ptr::null_mut()), next: Cell::new(ptr::null_mut()) }
    }
}

impl Entry {
    pub fn address(&self) -> Link {
        self.next.as_ptr().cast()
    }
}

/// `struct robust_list_head`, in the C library's memory of a thread. It lives as long as its thread. Only that thread
/// and, at its death, the kernel touch it.
#[repr(C)]
#[derive(Debug)]
pub struct Head {
    list: Link,
    futex_offset: libc::c_long,
    list_op_pending: Link,
}

/// Writes `list_op_pending`.
///
/// # Safety
/// `head` is that of the calling thread, or of one that lives and leaves it to the caller.
#[inline]
pub unsafe fn set_pending(head: *mut Head, address: Link) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller's promise.
    unsafe { ptr::write_volatile(&raw mut (*head).list_op_pending, address) };
    compiler_fence(Ordering::SeqCst);
}

/// What a thread knows of its list.
#[derive(Debug)]
pub struct Tally {
    /// How many locks are on it; or more, where others have written to a file.
    pub held: Cell<u32>,
    /// Whether a lock in a file has had neighbours. Spoiled, it may have cut off those behind it: they count as held, and
    /// their links may lead to where the file was mapped.
    wary: Cell<bool>,
}

impl Tally {
    pub const fn new() -> Self {
        Tally { held: Cell::new(0), wary: Cell::new(false) }
    }

    pub fn clear(&self) {
        self.held.set(0);
        self.wary.set(false);
    }

    #[inline(always)]
    fn add(&self, count: i32) {
        self.held.set(self.held.get().wrapping_add_signed(count));
    }
}

#[inline(always)]
fn may_be_in_file(entry: &Entry) -> bool {
    arena::may_be_in_file(entry.address().addr())
}

/// Makes `entry` the first of the list.
///
/// # Safety
/// As for `set_pending`; `tally` is the same thread's. `entry` is on no other list, and stays mapped until it is removed.
#[inline(always)]
pub unsafe fn push(head: *mut Head, entry: &Entry, tally: &Tally) {
    // SAFETY: the list is well formed: each entry on it is mapped, and has its `prev` right before its `next`.
    unsafe {
        let first = strip((*head).list);
        if first != head.cast() && (may_be_in_file(entry) || arena::may_be_in_file(first.addr())) {
            return push_beside_file(head, entry, tally);
        }
        put_first(head, entry);
    }
    tally.add(1);
}

/// # Safety
/// As for `push`.
#[inline(always)]
unsafe fn put_first(head: *mut Head, entry: &Entry) {
    // SAFETY: as in `push`.
    unsafe {
        let first = (*head).list;
        entry.next.set(first);
        entry.prev.set(&raw mut (*head).list);
        let neighbour = strip(first);
        if neighbour != head.cast() {
            neighbour.cast::<Link>().sub(1).write(entry.address());
        }
        compiler_fence(Ordering::SeqCst);
        ptr::write_volatile(&raw mut (*head).list, entry.address());
    }
}

/// # Safety
/// As for `push`.
#[cold]
unsafe fn push_beside_file(head: *mut Head, entry: &Entry, tally: &Tally) {
    tally.wary.set(true);
    // SAFETY: the caller's promise. One in a file is there already if others have written there since it was taken.
    unsafe {
        let is_in_file = arena::with_places(|place| place(entry.address().addr()) == Place::File);
        let is_there = is_in_file && remove_checked(head, entry);
        put_first(head, entry);
        tally.add(i32::from(!is_there));
    }
}

/// Takes `entry` off the list.
///
/// # Safety
/// As for `push`. `entry` is on that list, or in a file.
#[inline(always)]
pub unsafe fn remove(head: *mut Head, entry: &Entry, tally: &Tally) {
    let (prev, next) = (entry.prev.get(), entry.next.get());
    // SAFETY: as in `push`; `prev` is the address of the link that leads to this entry.
    unsafe {
        let is_first = (*head).list == entry.address();
        if is_first && strip(next) == head.cast() {
            compiler_fence(Ordering::SeqCst);
            ptr::write_volatile(&raw mut (*head).list, head.cast());
        } else if may_be_in_file(entry) || tally.wary.get() && !is_first {
            return remove_beside_file(head, entry, tally);
        } else {
            let neighbour = strip(next);
            if neighbour != head.cast() {
                neighbour.cast::<Link>().sub(1).write(prev.cast());
            }
            compiler_fence(Ordering::SeqCst);
            ptr::write_volatile(prev, next);
        }
    }
    tally.add(-1);
}

/// # Safety
/// As for `remove`.
#[cold]
unsafe fn remove_beside_file(head: *mut Head, entry: &Entry, tally: &Tally) {
    // SAFETY: the caller's promise.
    let is_there = unsafe { remove_checked(head, entry) };
    if may_be_in_file(entry) {
        // If it is not there it may never have been: others can write a thread's number into a file.
        tally.add(-i32::from(is_there));
        return;
    }
    tally.add(-1);
    let (mut ours, mut in_files) = (0, false);
    arena::with_places(|place| {
        // SAFETY: as above.
        unsafe {
            walk(head, place, |_, at, _| {
                ours += u32::from(place(at.addr()) != Place::Elsewhere);
                in_files |= place(at.addr()) == Place::File;
                true
            });
        }
    });
    // All that is held is there, and none of it in a file.
    if !in_files && ours == tally.held.get() {
        tally.wary.set(false);
    }
}

/// The same, if it is there, believing no link in a file, and none behind one; tells whether it was. If others have written to the file of an
/// entry, the entries behind it are lost: the kernel does not reach them any more, and waiters for their locks find out by
/// looking.
///
/// # Safety
/// As for `remove`, but `entry` may have been lost.
unsafe fn remove_checked(head: *mut Head, entry: &Entry) -> bool {
    let own = entry.address();
    arena::with_places(|place| {
        // SAFETY: as for `walk`; what is behind `entry` is the end, or is an entry too.
        unsafe {
            let mut found = None;
            walk(head, place, |link, at, is_trusted| {
                found = (at == own).then_some((link, is_trusted));
                found.is_none()
            });
            let Some((before, is_trusted)) = found else { return false };
            let mut next = entry.next.get();
            let neighbour = strip(next);
            if neighbour != head.cast() {
                let is_link = is_trusted && place(own.addr()) != Place::File
                    || is_entry(place, neighbour) && *neighbour.cast::<Link>().sub(1) == own;
                if is_link {
                    neighbour.cast::<Link>().sub(1).write(before.cast());
                } else {
                    next = head.cast();
                }
            }
            compiler_fence(Ordering::SeqCst);
            ptr::write_volatile(before, next);
            true
        }
    })
}

/// Whether an entry can be there, so that its links can be read: somewhere in a home.
fn is_entry(place: &dyn Fn(usize) -> Place, link: Link) -> bool {
    let address = link.addr();
    address % align_of::<Link>() == 0
        && place(address) != Place::Elsewhere
        && place(address.wrapping_sub(size_of::<Link>())) == place(address)
}

/// Calls `see` with each link of the list that leads to an entry, with that entry, and whether no link up to there is in
/// a file, until it says no. A link in a file is followed if it leads to a home, as is every link behind it: another
/// process may have put there what leads to an entry that is on no list, or on another thread's. None of them is followed
/// to the C library's mutexes.
///
/// # Safety
/// As for `set_pending`.
unsafe fn walk(
    head: *mut Head,
    place: &dyn Fn(usize) -> Place,
    mut see: impl FnMut(*mut Link, Link, bool) -> bool,
) {
    // SAFETY: the head is the caller's; every other link that is read is in a home, or was reached through links alone
    // that only this process and those it trusts write.
    unsafe {
        let mut link = &raw mut (*head).list;
        let mut is_trusted = true;
        for _ in 0..=ROBUST_LIST_LIMIT {
            let next = strip(ptr::read_volatile(link));
            is_trusted &= place(link.addr()) != Place::File;
            if next == head.cast() || !(is_trusted || is_entry(place, next)) || !see(link, next, is_trusted) {
                return;
            }
            link = next.cast();
        }
    }
}

/// The entries of the list, newest first, those of the C library's own mutexes among them.
///
/// # Safety
/// As for `set_pending`.
pub unsafe fn entries(head: *mut Head) -> Vec<NonNull<Entry>> {
    let mut entries = Vec::new();
    arena::with_places(|place| {
        // SAFETY: the caller's promise.
        unsafe {
            walk(head, place, |_, link, _| {
                entries.extend(NonNull::new(link.cast::<Link>().sub(1).cast::<Entry>()));
                true
            });
        }
    });
    entries
}

/// Forgets all entries, in a child whose parent's they are. glibc's `fork` has done it already. musl's has not, and the
/// next entry would be written into the parent's.
///
/// # Safety
/// As for `set_pending`.
pub unsafe fn clear(head: *mut Head) {
    // SAFETY: the caller's promise.
    unsafe {
        ptr::write_volatile(&raw mut (*head).list, head.cast());
        set_pending(head, ptr::null_mut());
    }
}

/// The head of the calling thread's list, as the kernel knows it.
///
/// # Errors
/// `System` if the C library has none, or one of another form.
pub fn head() -> Result<NonNull<Head>> {
    for register in [lock_shared_robust_mutex, register_again, || {}] {
        let mut head: *mut Head = ptr::null_mut();
        let mut size: libc::size_t = 0;
        // SAFETY: both out-pointers are valid; 0 means the calling thread.
        let failed =
            unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) } != 0;
        if failed {
            return Err(Error::last_os("get_robust_list"));
        }
        match NonNull::new(head) {
            // SAFETY: the kernel returned the head that the C library registered for this thread.
            Some(head) if unsafe { head.as_ref() }.futex_offset == WORD_FROM_NEXT as libc::c_long => {
                FROM_SELF.store((head.addr().get() as isize).wrapping_sub(this_thread()), Ordering::Relaxed);
                return Ok(head);
            }
            _ => register(),
        }
    }
    Err(Error::System { attempt: "robust list of an unknown C library", errno: libc::ENOSYS })
}

/// musl registers a thread's list when the thread first locks a mutex that is robust and shared between processes.
fn lock_shared_robust_mutex() {
    // SAFETY: attribute and mutex are initialised before use, used by this thread alone, and destroyed.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutex_init(&mut mutex, &attributes);
        libc::pthread_mutex_lock(&mut mutex);
        libc::pthread_mutex_unlock(&mut mutex);
        libc::pthread_mutex_destroy(&mut mutex);
        libc::pthread_mutexattr_destroy(&mut attributes);
    }
}

/// How far a thread's head is from what pthread_self(3) says, the same for all threads; 0 until one head is known.
static FROM_SELF: AtomicIsize = AtomicIsize::new(0);

/// The kernel forgets a head when a process is forked. After a bare `clone` call no C library registers it again.
fn register_again() {
    let from_self = FROM_SELF.load(Ordering::Relaxed);
    if from_self == 0 {
        return;
    }
    let head = ptr::with_exposed_provenance_mut::<Head>(this_thread().wrapping_add(from_self) as usize);
    // SAFETY: the head is at the same place of every thread's descriptor, which is the C library's and stays mapped. No
    // entry on it is this process's: it would have had to register the head first.
    unsafe {
        clear(head);
        libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>());
    }
}

/// The address of the C library's descriptor of the calling thread.
fn this_thread() -> isize {
    // SAFETY: no precondition.
    unsafe { libc::pthread_self() as isize }
}

fn strip(link: Link) -> Link {
    link.map_addr(|address| address & !1)
}
