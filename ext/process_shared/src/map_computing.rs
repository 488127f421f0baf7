//! The block that computes a key's value: while it runs, whoever wants to compute the same key waits.

use magnus::{Ruby, Value};
use process_shared_core::kernel::Kernel;
use process_shared_core::map::Claim;
use process_shared_core::platform::{ProcessLocal, fork_depth};
use process_shared_core::{Map, Thread};
use rb_sys::VALUE;
use std::ffi::c_int;

use crate::errors::{self, Error};
use crate::map::MapData;
use crate::map_changes::patiently;
use crate::map_keys::OwnedKey;
use crate::object::Object;
use crate::raw_methods::{answer, require_block, ruby, value};
use crate::timeout::Timeout;
use crate::typed_data::{self, of};
use crate::{fiber_scheduler, nogvl, thread, trap_context};

/// A value that a fiber of this process computes.
#[derive(Clone, Copy)]
struct Computation {
    map: *const Map,
    mark: usize,
    fiber: VALUE,
    /// The thread that holds the mark, by its number.
    thread: u32,
}

// SAFETY: the map is looked at under the lock of the list, and taken off the list before it goes.
unsafe impl Send for Computation {}

/// The values that this process computes. A closure passed to `with` calls no Ruby function.
static ALL: ProcessLocal<Vec<Computation>> = ProcessLocal::new(Vec::new());

fn is_by(map: &Map, mark: usize, fiber: VALUE) -> bool {
    ALL.with(|all| all.iter().any(|each| (each.map, each.mark, each.fiber) == (&raw const *map, mark, fiber)))
}

/// A fiber that nobody resumes never ends its block. The marks that `thread` holds for such fibers are free when it ends: its
/// native thread lives on, maybe as another thread.
pub fn thread_ended(thread: &Thread) {
    ALL.with(|all| {
        all.retain(|each| {
            let is_its = each.thread == thread.id();
            if is_its {
                // SAFETY: see `Computation`.
                unsafe { &*each.map }.entries().release(thread, each.mark);
            }
            !is_its
        });
    });
}

/// Forgets a map that goes.
pub fn map_goes(map: &Map) {
    ALL.with(|all| all.retain(|each| !std::ptr::eq(each.map, map)));
}

struct Section {
    object: VALUE,
    mark: usize,
    fork_depth: u32,
    /// Pins the fiber while it is noted.
    fiber: VALUE,
}

/// `computing(key) { }`: calls the block as the only one that computes that key.
pub unsafe extern "C" fn computing(this: VALUE, key: VALUE) -> VALUE {
    // SAFETY: nothing to drop yet.
    unsafe { require_block() };
    let mut section = None;
    let begun = answer(|| {
        section = Some(begin(&ruby(), this, key)?);
        Ok(rb_sys::Qtrue as VALUE)
    });
    let Some(section) = section else { return begun };
    let mut state: c_int = 0;
    // SAFETY: with Qundef, `rb_yield` passes the block no argument. Jumps are caught, and go on below.
    let result = unsafe { rb_sys::rb_protect(Some(rb_sys::rb_yield), rb_sys::Qundef as VALUE, &mut state) };
    end(&section);
    if state != 0 {
        // SAFETY: the jump that `rb_protect` has caught; nothing to drop.
        unsafe { rb_sys::rb_jump_tag(state) }
    }
    result
}

fn begin(ruby: &Ruby, this: VALUE, key: VALUE) -> Result<Section, Error> {
    let object = value(this);
    let data = of::<MapData>(object);
    let key = OwnedKey::of(ruby, key)?;
    let fiber = thread::current_fiber() as VALUE;
    loop {
        let map = data.open(ruby)?;
        let hash = key.of_map(map.entries()).hash;
        match patiently(ruby, object, 0, |map, thread, patience| map.claim(thread, hash, patience))? {
            Claim::Ours(mark) => {
                let (thread, fork_depth) = (thread::current(ruby)?.id(), fork_depth());
                ALL.with(|all| all.push(Computation { map, mark, fiber, thread }));
                return Ok(Section { object: this, mark, fork_depth, fiber });
            }
            Claim::Already(mark) if is_by(map, mark, fiber) || !fiber_scheduler::is_non_blocking() => {
                let text = "deadlock; this thread is computing the value of this key already";
                return Err(errors::ownership(ruby, text.to_owned()));
            }
            Claim::Already(mark) | Claim::Others(mark) => await_release(ruby, object, mark)?,
        }
    }
}

/// Waits until nobody computes by that mark.
fn await_release(ruby: &Ruby, object: Value, mark: usize) -> Result<(), Error> {
    let data = of::<MapData>(object);
    trap_context::refuse(ruby)?;
    if fiber_scheduler::is_non_blocking() {
        let mark = ruby.into_value(mark);
        let nothing = ruby.into_value(0);
        fiber_scheduler::call_elsewhere(ruby, object, "watch_mark", [mark, nothing], Timeout::Never)?;
        return Ok(());
    }
    let map = data.open(ruby)?;
    let wait = |thread: &Thread| map.await_release(thread, mark, None);
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep).map(|_| ())
}

/// Waits until nobody computes by that mark. For the helper threads of `fiber_scheduler.rb`.
pub fn watch_mark(ruby: &Ruby, object: Value, mark: usize, _: Value, _: Value) -> Result<bool, Error> {
    let data = of::<MapData>(object);
    let map = data.open(ruby)?;
    let wait = |thread: &Thread| map.await_release(thread, mark, None);
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

/// In the process that began it, and whatever became of the handle.
fn end(section: &Section) {
    if section.fork_depth != fork_depth() {
        return;
    }
    // SAFETY: the receiver of the running method; nothing to drop.
    let data = unsafe { typed_data::get::<MapData>(section.object) };
    std::hint::black_box(section.fiber);
    let Some(map) = data.shared.reached() else { return };
    ALL.with(|all| all.retain(|each| !std::ptr::eq(each.map, map) || each.mark != section.mark));
    if let Ok(thread) = thread::current(&ruby()) {
        map.entries().release(&thread, section.mark);
    }
}
