//! The block that computes a key's value: while it runs, whoever wants to compute the same key waits.

use magnus::{Ruby, Value};
use process_shared_core::Thread;
use process_shared_core::map::Claim;
use process_shared_core::platform::fork_depth;
use rb_sys::VALUE;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use crate::errors::{self, Error};
use crate::map::MapData;
use crate::map_changes::patiently;
use crate::map_keys::OwnedKey;
use crate::object::Object;
use crate::raw_methods::{answer, require_block, ruby, value};
use crate::timeout::Timeout;
use crate::typed_data::{self, of};
use crate::{fiber_scheduler, nogvl, thread, trap_context};

/// Which fibers of this process compute by which mark.
#[derive(Default)]
pub struct Computing(Mutex<Vec<(usize, usize, u32)>>);

impl Computing {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<(usize, usize, u32)>) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, _, depth)| *depth == fork_depth());
        act(&mut all)
    }

    fn begin(&self, mark: usize, fiber: VALUE) {
        self.with(|all| all.push((mark, fiber as usize, fork_depth())));
    }

    fn end(&self, mark: usize) {
        self.with(|all| all.retain(|(other, ..)| *other != mark));
    }

    fn is_by(&self, mark: usize, fiber: VALUE) -> bool {
        self.with(|all| all.iter().any(|(other, by, _)| (*other, *by) == (mark, fiber as usize)))
    }
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
    // SAFETY: on a Ruby thread.
    let fiber = unsafe { rb_sys::rb_fiber_current() };
    loop {
        let hash = key.of_map(data.open(ruby)?.entries()).hash;
        match patiently(ruby, object, 0, |map, thread, patience| map.claim(thread, hash, patience))? {
            Claim::Ours(mark) => {
                data.computing.begin(mark, fiber);
                return Ok(Section { object: this, mark, fork_depth: fork_depth(), fiber });
            }
            Claim::Already(mark)
                if data.computing.is_by(mark, fiber) || !fiber_scheduler::is_non_blocking() =>
            {
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
    data.computing.end(section.mark);
    std::hint::black_box(section.fiber);
    if let (Some(map), Ok(thread)) = (data.shared.reached(), thread::current(&ruby())) {
        map.entries().release(&thread, section.mark);
    }
}
