//! The files that this process has open, and the descriptors of those that threads of it are opening.
//!
//! A forked child inherits all descriptors and mappings, and with them the locks of their descriptions. It goes on using
//! the files that are open. It closes and unmaps those that another thread was opening, or closing: or else it would hold
//! the door shut, or pass for a user, for its whole life. Both keep a description open, so both are seen to.
//!
//! A child whose fork ran no handlers does so when it first opens or closes a file.
//!
//! The book's lock is held for single system calls that do not wait, and over each fork.

use super::mapping::Mapping;
use super::place::Id;
use super::{File, machine, presence};
use crate::error::Result;
use crate::platform;
use crate::platform::fork_lock::ForkLock;
use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::fs;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Once, Weak};

struct Book {
    open: BTreeMap<Id, Entry>,
    opening: Vec<Hold>,
}

/// What keeps a description open.
#[derive(Clone, Copy)]
struct Hold {
    descriptor: RawFd,
    mapping: Option<Mapping>,
}

struct Entry {
    hold: Hold,
    file: Weak<File>,
}

impl Hold {
    /// Lets go of it.
    ///
    /// # Safety
    /// Both are this process's, and nothing in it uses them any more.
    unsafe fn end(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(mapping) = self.mapping {
                mapping.unmap();
            }
            libc::close(self.descriptor);
        }
    }
}

/// The book of this process, guarded by `LOCK`.
struct Guarded(UnsafeCell<Book>);

// SAFETY: only `with_book` and the child's fork handler reach the inside, one thread at a time.
unsafe impl Sync for Guarded {}

static BOOK: Guarded = Guarded(UnsafeCell::new(Book { open: BTreeMap::new(), opening: Vec::new() }));
static LOCK: ForkLock = ForkLock::new();
/// How many forks this process has begun.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The first to come here in a child whose fork ran no handlers finds the lock as its parent had it.
fn enter() {
    if let Some(is_whole) = LOCK.enter() {
        // SAFETY: the lock keeps all other threads out.
        unsafe { &mut *BOOK.0.get() }.inherit(is_whole);
    }
}

fn exit() {
    LOCK.exit();
}

/// `action` drops no `File`: that would come here again.
fn with_book<T>(action: impl FnOnce(&mut Book) -> T) -> T {
    enter();
    // SAFETY: the lock keeps all other threads out, and `action` does not come back here.
    let result = action(unsafe { &mut *BOOK.0.get() });
    exit();
    result
}

/// Prepares for forks. To be called once before other threads use this: a fork in the middle of the first call would
/// leave the child without.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    extern "C" fn prepare() {
        enter();
        FORKS.fetch_add(1, Relaxed);
    }
    extern "C" fn child() {
        // SAFETY: `prepare` entered the book in the thread that this one is a copy of.
        unsafe { &mut *BOOK.0.get() }.inherit(true);
        exit();
    }
    extern "C" fn parent() {
        exit();
    }
    AT_FORK.call_once(|| {
        platform::register_atfork(); // in a child its handler comes first
        // SAFETY: the handlers call nothing that is not allowed after fork.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

impl Book {
    /// In a forked child: only what was open, and still used, is its own. A book that a thread of the parent was in the
    /// middle of is not `whole`: then it is forgotten, and the files stay open.
    fn inherit(&mut self, whole: bool) {
        machine::forget();
        if !whole {
            std::mem::forget(std::mem::replace(self, Book { open: BTreeMap::new(), opening: Vec::new() }));
            return;
        }
        self.opening.drain(..).for_each(Self::disown);
        self.open.retain(|_, entry| {
            let is_used = entry.file.strong_count() > 0;
            if !is_used {
                Self::disown(entry.hold);
            }
            is_used
        });
    }

    fn disown(hold: Hold) {
        // SAFETY: the child's copies, which no thread of the child knows of.
        unsafe { hold.end() };
    }

    /// The entry of a descriptor that is being opened.
    fn opening(&mut self, descriptor: RawFd) -> Option<usize> {
        self.opening.iter().position(|hold| hold.descriptor == descriptor)
    }

    /// The same, taken out.
    fn take(&mut self, descriptor: RawFd) -> Option<Hold> {
        self.opening(descriptor).map(|position| self.opening.swap_remove(position))
    }
}

/// The file `id`, if this process has it open.
pub fn find(id: Id) -> Option<Arc<File>> {
    with_book(|book| book.open.get(&id)?.file.upgrade())
}

/// The last handle of `file` is gone.
pub(super) fn close(file: &mut File) {
    // Others may have closed the descriptor, as some programs do with all they find when they become daemons.
    let is_ours = file.descriptor.metadata().is_ok_and(|status| (status.dev(), status.ino()) == file.id);
    with_book(|book| {
        if book.open.get(&file.id).is_some_and(|entry| ptr::eq(entry.file.as_ptr(), file)) {
            book.open.remove(&file.id);
        }
        // SAFETY: mapped as long as `file` lives, which ends here, as does the descriptor's use.
        unsafe {
            file.mapping.keep_from_children();
            if is_ours {
                ManuallyDrop::drop(&mut file.descriptor);
            }
        }
    });
    // SAFETY: as above. Outside, since much memory takes long.
    unsafe { file.mapping.unmap() };
}

/// A file that a thread is about to lock, or has locked, to open it. A child that is forked meanwhile closes its copy.
/// Dropped, it is closed.
pub struct Opening(ManuallyDrop<fs::File>);

impl Opening {
    /// Opens with `open`, which says no if there is nothing to open. It is called again if the process was forked
    /// meanwhile: that child has a copy that it does not know of, which is harmless only while there is no lock.
    pub fn new<T>(open: impl Fn() -> Result<Option<(fs::File, T)>>) -> Result<Option<(Opening, T)>> {
        loop {
            let forks = FORKS.load(Acquire);
            let Some((file, more)) = open()? else { return Ok(None) };
            let is_known = with_book(|book| {
                let is_first = FORKS.load(Relaxed) == forks;
                if is_first {
                    book.opening.push(Hold { descriptor: file.as_raw_fd(), mapping: None });
                }
                is_first
            });
            if is_known {
                return Ok(Some((Opening(ManuallyDrop::new(file)), more)));
            }
        }
    }

    /// Maps the file, once, with `size` bytes behind the header. It is mapped as long as `self`.
    pub fn map(&self, size: usize) -> Result<Mapping> {
        with_book(|book| {
            let mapping = Mapping::new(&self.0, size)?;
            if let Some(position) = book.opening(self.0.as_raw_fd()) {
                book.opening[position].mapping = Some(mapping);
            }
            Ok(mapping)
        })
    }

    /// The file is open: makes it known to this process and to others, in one step as far as forks are concerned.
    pub fn finish(self, file: impl FnOnce(ManuallyDrop<fs::File>) -> File) -> Arc<File> {
        let this = ManuallyDrop::new(self);
        let descriptor = this.0.as_raw_fd();
        // SAFETY: `this` is not used or dropped any more, so the descriptor has one owner.
        let opened = unsafe { fs::File::from_raw_fd(descriptor) };
        let file = Arc::new(file(ManuallyDrop::new(opened)));
        let weak = Arc::downgrade(&file);
        let replaced = with_book(|book| {
            let hold = book.take(descriptor)?;
            presence::leave_door(&file.descriptor);
            book.open.insert(file.id, Entry { hold, file: weak })
        });
        drop(replaced);
        file
    }
}

impl Deref for Opening {
    type Target = fs::File;

    fn deref(&self) -> &fs::File {
        &self.0
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        with_book(|book| {
            if let Some(hold) = book.take(self.0.as_raw_fd()) {
                // SAFETY: this thread's, which is done with them.
                unsafe { hold.end() };
            }
        });
    }
}
