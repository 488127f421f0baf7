//! Threads that Ruby moves between native threads: those of Ractors other than the main one, and with
//! `RUBY_MN_THREADS=1` all but the main thread (Ruby 3.3 and newer). The kernel knows the holder of a lock by its native
//! thread, so such a thread gets a native thread of its own that holds locks for it: a `StandIn`.
//!
//! Binding the thread to its native thread is no alternative: Ruby 3.3 cannot, and with Ruby 3.4
//! (`rb_thread_lock_native_thread`) no native thread is left to run other Ractors once eight have done it.
//!
//! Where there are no stand-ins (macOS, which knows threads by numbers of its own), every thread counts as its native
//! thread.

use magnus::Ruby;
use process_shared_core::{Thread, platform::StandIn};
use rb_sys::VALUE;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::errors::Error;
use crate::raw_methods::{find, raising};
use crate::{errors, ractor, thread};

/// What Ruby keeps for each of its threads, since Ruby 3.3.
struct Storage {
    key: c_int,
    get: unsafe extern "C" fn(VALUE, c_int) -> *mut c_void,
    set: unsafe extern "C" fn(VALUE, c_int, *mut c_void),
}

static STORAGE: OnceLock<Option<Storage>> = OnceLock::new();
/// The main thread of the main Ractor, which never moves; 0 in a child that another thread forked, whose main thread may.
static MAIN: AtomicUsize = AtomicUsize::new(0);
static ALL_MOVE: AtomicBool = AtomicBool::new(false);
static IN_USE: AtomicBool = AtomicBool::new(false);

fn storage() -> Option<&'static Storage> {
    STORAGE.get().and_then(Option::as_ref)
}

/// To be called in the main Ractor, on the main thread.
pub fn init() {
    let create = find(c"rb_internal_thread_specific_key_create");
    let (get, set) = (find(c"rb_internal_thread_specific_get"), find(c"rb_internal_thread_specific_set"));
    let storage = match (create, get, set) {
        _ if !cfg!(target_os = "linux") => None,
        // SAFETY: if Ruby has these functions, they have these signatures; a lack of keys raises, and is caught.
        (Some(create), Some(get), Some(set)) => unsafe {
            let create = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(create);
            raising(|| create()).ok().map(|key| Storage {
                key,
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(VALUE, c_int) -> *mut c_void>(
                    get,
                ),
                set: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(VALUE, c_int, *mut c_void)>(set),
            })
        },
        _ => None,
    };
    if storage.is_some() {
        let all = std::env::var("RUBY_MN_THREADS")
            .is_ok_and(|value| value.trim().parse().is_ok_and(|n: i32| n > 0));
        ALL_MOVE.store(all, Relaxed);
        // SAFETY: on a Ruby thread.
        MAIN.store(unsafe { rb_sys::rb_thread_current() } as usize, Relaxed);
    }
    let _ = STORAGE.set(storage);
}

/// Whether the calling thread may move.
fn moves() -> bool {
    !ractor::is_main() || ALL_MOVE.load(Relaxed) && !is_bound()
}

/// Whether the calling thread, of the main Ractor, is the one that never moves.
fn is_bound() -> bool {
    // SAFETY: called on a Ruby thread with the GVL.
    let (main, current) =
        unsafe { (rb_sys::rb_thread_main() as usize, rb_sys::rb_thread_current() as usize) };
    if MAIN.load(Relaxed) != main {
        MAIN.store(0, Relaxed); // its number may be given to another thread
    }
    MAIN.load(Relaxed) == current
}

/// The stand-in of `thread`, unless it was left behind by a fork.
fn stand_in(thread: VALUE) -> Option<&'static StandIn> {
    let storage = storage()?;
    // SAFETY: `thread` is a thread; what is stored there is what `introduce` stored, until `ended` frees it.
    unsafe { (storage.get)(thread, storage.key).cast::<StandIn>().as_ref() }
        .filter(|stand_in| stand_in.is_here())
}

/// The calling thread as an owner of locks, if it has a stand-in.
#[cold]
pub fn known() -> Option<Thread> {
    // SAFETY: called on a Ruby thread with the GVL.
    IN_USE.load(Relaxed).then(|| stand_in(unsafe { rb_sys::rb_thread_current() }).map(StandIn::thread))?
}

/// The same, with a new stand-in if need be. `None` if the thread does not move.
pub fn introduce(ruby: &Ruby) -> Result<Option<Thread>, Error> {
    let Some(storage) = storage().filter(|_| moves()) else { return Ok(None) };
    let stand_in = Box::new(StandIn::start().map_err(|error| errors::to_ruby(ruby, error))?);
    let thread = stand_in.thread();
    // SAFETY: on a Ruby thread; `ended` frees it. One that a fork left behind is leaked.
    unsafe { (storage.set)(rb_sys::rb_thread_current(), storage.key, Box::into_raw(stand_in).cast()) };
    IN_USE.store(true, Relaxed);
    Ok(Some(thread))
}

/// Releases what the stand-in of `thread`, which ends, still holds, and ends the stand-in too.
pub fn ended(thread: VALUE) {
    let Some(storage) = storage().filter(|_| IN_USE.load(Relaxed)) else { return };
    // SAFETY: as in `stand_in`; nobody else uses it, since its thread is here.
    unsafe {
        let stored = (storage.get)(thread, storage.key).cast::<StandIn>();
        if !stored.is_null() {
            (storage.set)(thread, storage.key, std::ptr::null_mut());
            let stand_in = Box::from_raw(stored);
            if stand_in.is_here() {
                thread::release_held(&stand_in.thread());
            }
        }
    }
}
