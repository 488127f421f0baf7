//! Linux: shared futexes, the kernel's robust list, anonymous shared mappings.
//!
//! The robust list is what makes a lock survive its holder. The kernel keeps, for each native thread, the head of a
//! list of lock words; when the thread dies, by whatever cause, it marks those that name the thread
//! (`FUTEX_OWNER_DIED`) and wakes one waiter each. `list_op_pending` does the same for one word more: the one that an
//! operation in progress is about. See get_robust_list(2) and "The robust futex ABI" in the kernel's documentation.
//!
//! The C library owns the list and uses it for robust pthread mutexes. We add our entries to it, in the form both
//! glibc and musl give theirs: a `next` pointer that the list runs through, and right before it a `prev` pointer.

use super::Wake;
use super::current::CURRENT;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::word::{Word, aux, futex_word, pack};
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, compiler_fence};
use std::time::Duration;

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "process_shared needs a 64-bit system: 32-bit C libraries keep the robust list in another form"
);

/// Bits of a lock word, as the kernel defines them.
pub const OWNER: u32 = 0x3fff_ffff; // FUTEX_TID_MASK
pub const OWNER_DIED: u32 = 0x4000_0000;
pub const WAITERS: u32 = 0x8000_0000;

/// More entries than this in one thread's list and the kernel would not reach them all (ROBUST_LIST_LIMIT is 2048).
pub const MAX_HELD: u32 = 2000;

/// Distance from an entry's `next` to its lock word: the C library chose it, for all entries of a thread.
pub const WORD_FROM_NEXT: isize = if cfg!(target_env = "musl") { -28 } else { -32 };

/// What a lock adds to itself to be an entry of the robust list. Written by its holder only; addresses in it mean
/// something in the holder's process alone.
#[repr(C)]
pub struct Entry {
    prev: Cell<*mut *mut libc::c_void>,
    next: Cell<*mut libc::c_void>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry { prev: Cell::new(ptr::null_mut()), next: Cell::new(ptr::null_mut()) }
    }
}

impl Entry {
    fn address(&self) -> *mut libc::c_void {
        self.next.as_ptr().cast()
    }
}

#[repr(C)]
struct Head {
    list: *mut libc::c_void,
    futex_offset: libc::c_long,
    list_op_pending: *mut libc::c_void,
}

/// The calling native thread, as the owner of locks. Two registers: in three it would be copied through memory.
#[derive(Clone, Copy)]
pub struct Thread {
    /// Its number, and its process's in the upper half.
    name: u64,
    books: NonNull<Books>,
}

/// What a native thread has to keep of what it holds. Reached by address: each look-up of a thread-local is a call.
struct Books {
    head: Cell<Option<NonNull<Head>>>,
    held: Cell<u32>,
}

thread_local! {
    static BOOKS: Books = const { Books { head: Cell::new(None), held: Cell::new(0) } };
}

impl Thread {
    /// The calling thread, as the kernel knows it.
    pub(super) fn introduce() -> Result<Self> {
        register_atfork();
        let head = robust_head()?;
        // SAFETY: neither call has a precondition.
        let (id, pid) = unsafe { (libc::syscall(libc::SYS_gettid) as u32, libc::getpid() as u32) };
        BOOKS.with(|books| {
            books.head.set(Some(head));
            Ok(Thread { name: pack(id, pid), books: NonNull::from(books) })
        })
    }

    /// The list head of the native thread that this runs on, if it is another than the one that owns what it takes.
    fn stood_in_for(&self) -> Option<NonNull<Head>> {
        BOOKS.with(|books| {
            let own = books.head.get().or_else(|| robust_head().ok());
            books.head.set(own);
            own.filter(|own| *own != self.head())
        })
    }

    /// The process this thread belongs to.
    #[inline]
    pub fn pid(&self) -> u32 {
        aux(self.name)
    }

    #[inline]
    fn books(&self) -> &Books {
        // SAFETY: this thread's own, or its stand-in's, which have no destructor and live as long as the native thread.
        unsafe { self.books.as_ref() }
    }

    #[inline]
    fn head(&self) -> NonNull<Head> {
        // SAFETY: `introduce` has written it, and nobody takes it away.
        unsafe { self.books().head.get().unwrap_unchecked() }
    }

    /// How many locks this thread holds.
    #[inline]
    fn held_count(&self) -> &Cell<u32> {
        &self.books().held
    }

    /// False where the kernel might not reach one more lock when this thread dies.
    #[inline]
    pub fn may_hold_more(&self) -> bool {
        self.held_count().get() < MAX_HELD
    }

    #[inline]
    fn set_pending(&self, address: *mut libc::c_void) {
        set_pending_of(self.head(), address);
    }

    /// The entries on this thread's list, newest first, those of the C library's own mutexes among them.
    pub fn held(&self) -> Vec<NonNull<Entry>> {
        let mut entries = Vec::new();
        // SAFETY: as in `robust_push`.
        unsafe {
            let head = self.head().as_ptr();
            let mut link = strip((*head).list);
            while link != head.cast() {
                entries.extend(NonNull::new(link.cast::<*mut libc::c_void>().sub(1).cast::<Entry>()));
                link = strip(*link.cast::<*mut libc::c_void>());
            }
        }
        entries
    }
}

static FORK_DEPTH: AtomicU32 = AtomicU32::new(0);

/// How many forks this process is away from the one that loaded this code.
#[inline]
pub fn fork_depth() -> u32 {
    FORK_DEPTH.load(Ordering::Relaxed)
}

/// Has a forked child forget who its parent's thread was.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    extern "C" fn forget() {
        if let Some(head) = CURRENT.take().map(|thread| thread.head()) {
            // SAFETY: this thread's own list head. What it leads to is the parent's: glibc has seen to that
            // already, musl has not, and would write into the parent's locks.
            unsafe {
                ptr::write_volatile(&raw mut (*head.as_ptr()).list, head.as_ptr().cast());
                ptr::write_volatile(&raw mut (*head.as_ptr()).list_op_pending, ptr::null_mut());
            }
        }
        BOOKS.with(|books| books.held.set(0));
        FORK_DEPTH.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: `forget` touches only this thread's own memory, which is fine in a forked child.
    AT_FORK.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forget));
    });
}

/// `head` is this thread's own list head, or that of its stand-in.
#[inline]
fn set_pending_of(head: NonNull<Head>, address: *mut libc::c_void) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: it lives as long as its thread; only this thread and, at its death, the kernel touch it.
    unsafe { ptr::write_volatile(&raw mut (*head.as_ptr()).list_op_pending, address) };
    compiler_fence(Ordering::SeqCst);
}

fn strip(link: *mut libc::c_void) -> *mut libc::c_void {
    link.map_addr(|address| address & !1)
}

/// The calling thread's list head. musl registers it with the thread's first robust mutex, so take one if need be.
fn robust_head() -> Result<NonNull<Head>> {
    for attempt in 0..2 {
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
                return Ok(head);
            }
            Some(_) if attempt == 1 => break,
            _ => use_robust_mutex_once(),
        }
    }
    Err(Error::System { attempt: "robust list of an unknown C library", errno: libc::ENOSYS })
}

fn use_robust_mutex_once() {
    // SAFETY: attribute and mutex are initialised before use, used by this thread alone, and destroyed.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutex_init(&mut mutex, &attributes);
        libc::pthread_mutex_lock(&mut mutex);
        libc::pthread_mutex_unlock(&mut mutex);
        libc::pthread_mutex_destroy(&mut mutex);
        libc::pthread_mutexattr_destroy(&mut attributes);
    }
}

impl Kernel for Thread {
    #[inline]
    fn id(&self) -> u32 {
        futex_word(self.name)
    }

    #[inline]
    fn set_pending(&self, word: &Word) {
        self.set_pending(word.entry().address());
    }

    #[inline]
    fn clear_pending(&self) {
        self.set_pending(ptr::null_mut());
    }

    #[inline]
    fn robust_push(&self, word: &Word) {
        let (entry, head) = (word.entry(), self.head().as_ptr());
        // SAFETY: the list is this thread's own and well formed: each entry is mapped while it is held, and has its
        // `prev` right before its `next`. Bit 0 of a link marks a priority-inheritance mutex and is not address.
        unsafe {
            let first = (*head).list;
            entry.next.set(first);
            entry.prev.set((&raw mut (*head).list).cast());
            let neighbour = strip(first);
            if neighbour != head.cast() {
                neighbour.cast::<*mut libc::c_void>().sub(1).write(entry.address());
            }
            compiler_fence(Ordering::SeqCst);
            ptr::write_volatile(&raw mut (*head).list, entry.address());
        }
        self.held_count().set(self.held_count().get() + 1);
    }

    #[inline]
    fn robust_remove(&self, word: &Word) {
        let (entry, head) = (word.entry(), self.head().as_ptr());
        let (prev, next) = (entry.prev.get(), entry.next.get());
        // SAFETY: as in `robust_push`; `prev` is the address of the link that leads to this entry.
        unsafe {
            let neighbour = strip(next);
            if neighbour != head.cast() {
                neighbour.cast::<*mut libc::c_void>().sub(1).write(prev.cast());
            }
            compiler_fence(Ordering::SeqCst);
            ptr::write_volatile(prev, next);
        }
        self.held_count().set(self.held_count().get() - 1);
    }

    fn wait(&self, word: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
        let until = if passes_wake_ups_on() { deadline } else { Deadline::soonest(deadline, RECHECK) };
        let time = until.map(Deadline::as_timespec);
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // The one that sleeps may be another than the one that announced the word. Either may be the first to die.
        let sleeper = self.stood_in_for();
        if let Some(sleeper) = sleeper {
            set_pending_of(sleeper, word.entry().address());
        }
        // SAFETY: the word is mapped as long as `word` is borrowed; a bitset wait takes an absolute time on the
        // monotonic clock, or null for ever.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.futex(),
                libc::FUTEX_WAIT_BITSET,
                expected,
                time,
                ptr::null::<u32>(),
                class,
            )
        };
        let error = std::io::Error::last_os_error();
        if let Some(sleeper) = sleeper {
            set_pending_of(sleeper, ptr::null_mut());
        }
        if result == 0 {
            return Wake::Woken;
        }
        match error.raw_os_error() {
            Some(libc::ETIMEDOUT) if deadline.is_none_or(|deadline| !deadline.has_passed()) => Wake::Woken,
            Some(libc::ETIMEDOUT) => Wake::TimedOut,
            Some(libc::EINTR) => Wake::Interrupted,
            _ => Wake::Woken,
        }
    }

    fn wake(&self, word: &Word, count: i32, classes: u32) -> usize {
        // SAFETY: a wake only uses the address as a key.
        let woken = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.futex(),
                libc::FUTEX_WAKE_BITSET,
                count,
                ptr::null::<libc::timespec>(),
                ptr::null::<u32>(),
                classes,
            )
        };
        usize::try_from(woken).unwrap_or(0)
    }
}

/// How long a sleeper relies on a kernel that may let a wake-up die with the thread that got it.
const RECHECK: Duration = Duration::from_secs(1);

/// Whether the kernel passes a wake-up on where the announced word names nobody but has flags: since Linux 6.2.
fn passes_wake_ups_on() -> bool {
    static PASSES_ON: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 2;
    let known = PASSES_ON.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return known == 1;
    }
    // SAFETY: `uname` fills the struct in, with strings that end.
    let release = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    PASSES_ON.store(u8::from(version >= (6, 2)), Ordering::Relaxed);
    version >= (6, 2)
}

/// `size` bytes of zeroes that forked children share, given memory only as they are touched. No descriptor, no name.
pub fn map(size: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping disturbs nothing.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(Error::last_os("mmap of shared pages for locks"));
    }
    NonNull::new(address.cast()).ok_or(Error::System { attempt: "mmap", errno: libc::ENOMEM })
}

/// Gives back what `map` gave.
///
/// # Safety
/// Nothing in this process uses those bytes any more.
pub unsafe fn unmap(address: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(address.as_ptr().cast(), size) };
}

/// A slot needs nothing but its memory.
///
/// # Safety
/// None is needed here.
pub unsafe fn attach_os(_slot: NonNull<u8>) -> Result<()> {
    Ok(())
}

/// Undoes `attach_os`.
///
/// # Safety
/// None is needed here.
pub unsafe fn detach_os(_slot: NonNull<u8>, _sole: impl FnOnce() -> bool) {}

/// A fork keeps everything.
pub fn forked(_forks: u32) {}

/// A fork keeps everything.
#[inline]
pub fn is_accessible(_born: u32) -> bool {
    true
}

/// The process that the thread with this number belongs to, if it is alive.
pub fn process_of(thread: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
