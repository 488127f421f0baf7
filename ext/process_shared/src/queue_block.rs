//! `pop` with a block: the item is in flight until the block ends, and what becomes of it depends on how that happens.
//!
//! | the block ends by                              | the item  |
//! |------------------------------------------------|-----------|
//! | its value, `next`, `break`, `return`           | is done   |
//! | an exception, `throw`, `Thread#kill`           | goes back |
//! | a fork, in the child                           | stays the parent's |

use magnus::Ruby;
use process_shared_core::queue::Short;
use rb_sys::VALUE;
use std::cell::Cell;
use std::ffi::c_int;

use crate::errors::Error;
use crate::queue::{QueueData, taking};
use crate::queue_items::{Bytes, load, load_immediate};
use crate::queue_taking::{InFlight, Wanted, fetch, finish, put_back, trim, try_finish, try_take_short};
use crate::raw_methods::{NIL, answer, arguments, ruby, value};
use crate::typed_data::{self, of};

/// Ruby's numbers for `break` and `return`, which `rb_protect` says.
const TAG_RETURN: c_int = 1;
const TAG_BREAK: c_int = 2;

/// An item in flight, and its object.
#[derive(Clone, Copy)]
struct Section {
    object: VALUE,
    item: InFlight,
}

/// Calls the running method's block with the first item.
///
/// # Safety
/// Called as a method; nothing in the frames up to Ruby needs to be dropped: exceptions jump over them.
pub unsafe fn run(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: the receiver of the running method; nothing to drop yet.
    let data = unsafe { typed_data::get::<QueueData>(this) };
    let mut section = if argc == 0 { begin_short(data, this) } else { None };
    if section.is_none() {
        answer(|| {
            // SAFETY: Ruby passes `argc` arguments.
            let args = unsafe { arguments(argc, argv, 0, usize::MAX)? };
            section = begin(&ruby(), this, args)?;
            Ok(NIL)
        });
    }
    let Some(section) = section else { return NIL };
    let mut state = 0;
    // SAFETY: `call` gets the section, which outlives the call.
    let result = unsafe { rb_sys::rb_protect(Some(call), (&raw const section) as VALUE, &mut state) };
    if state == 0 {
        match data.shared.reached().zip(section.item.held()) {
            Some((queue, taken)) if !try_finish(queue, taken) => {}
            Some((queue, _)) if queue.items().should_trim() => {
                return answer(|| trim(&ruby(), queue).map(|()| result));
            }
            _ => return result,
        }
        return answer(|| end(&ruby(), this, &section, true).map(|()| result));
    }
    // An exception is on its way: nothing may take its place, and nothing here runs Ruby code.
    let _ = end(&ruby(), this, &section, matches!(state, TAG_RETURN | TAG_BREAK));
    // SAFETY: the jump that `rb_protect` has caught.
    unsafe { rb_sys::rb_jump_tag(state) }
}

/// Takes the first item, if it is short and that can be done at once. A function of its own: the room for the item is not
/// to be on the stack while the block runs.
#[inline(never)]
fn begin_short(data: &QueueData, this: VALUE) -> Option<Section> {
    let mut short = Short::new();
    let item = InFlight::new(try_take_short(data, &mut short)?);
    if let Some(object) = load_immediate(short.tag, short.bytes()) {
        return Some(Section { object, item });
    }
    let section = Cell::new(None);
    answer(|| {
        let object = load(&ruby(), short.tag, Bytes::Here(short.bytes()));
        section.set(Some(loaded(&ruby(), this, item, object)?));
        Ok(NIL)
    });
    section.get()
}

fn begin(ruby: &Ruby, this: VALUE, args: &[VALUE]) -> Result<Option<Section>, Error> {
    let (object, data) = (value(this), of::<QueueData>(value(this)));
    let waiting = taking(ruby, object, args)?;
    let Some(found) = fetch(ruby, object, data, waiting, Wanted::InFlight)? else { return Ok(None) };
    let Some(item) = found.in_flight else { return Ok(None) };
    loaded(ruby, this, item, found.load(ruby)).map(Some)
}

/// The section of an item in flight; if that cannot be loaded, it goes back.
fn loaded(ruby: &Ruby, this: VALUE, item: InFlight, object: Result<VALUE, Error>) -> Result<Section, Error> {
    let section = |object| Section { object, item };
    object.map(section).inspect_err(|_| {
        let _ = end(ruby, this, &section(NIL), false);
    })
}

unsafe extern "C" fn call(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let section = unsafe { &*(section as *const Section) };
    // SAFETY: within a method with a block.
    unsafe {
        let given = [section.object, rb_sys::rb_uint2inum(section.item.taken.deliveries as _)];
        rb_sys::rb_yield_values2(2, given.as_ptr())
    }
}

fn end(ruby: &Ruby, this: VALUE, section: &Section, is_done: bool) -> Result<(), Error> {
    let Some(taken) = section.item.held() else { return Ok(()) };
    // SAFETY: the receiver of the running method; nothing to drop yet.
    let Some(queue) = (unsafe { typed_data::get::<QueueData>(this) }).shared.reached() else { return Ok(()) };
    if is_done { finish(ruby, queue, taken) } else { put_back(ruby, queue, taken) }
}
