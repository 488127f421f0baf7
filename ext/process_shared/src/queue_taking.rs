//! Taking items: at once, by waiting, several at once.
//!
//! A waiter takes its item for a time, without the GVL, and for good once it has the GVL back and no interrupt is due. If
//! one is due, or the process dies meanwhile, the item is where it was.

use magnus::{RArray, Ruby, Value, prelude::*};
use process_shared_core::platform::fork_depth;
use process_shared_core::queue::{Critical, Refusal, Short, Taken};
use process_shared_core::{Outcome, Queue, Thread};
use rb_sys::VALUE;
use rb_sys::macros::RSTRING_PTR;
use std::cell::{Cell, RefCell};

use crate::errors::{self, Error};
use crate::object::Object;
use crate::queue::{QueueData, Waiting, locked, refused, without_gvl};
use crate::queue_items::{Bytes, load};
use crate::raw_methods::raising;
use crate::{fiber_scheduler, nogvl, thread, trap_context};

thread_local! {
    /// Room for the bytes of an item, between two calls.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than this is not kept.
const KEPT: usize = 4096;

/// What is to become of the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    ForGood,
    /// Until a block ends.
    InFlight,
}

/// An item that was taken, and its bytes.
pub struct Found {
    tag: u32,
    small: Vec<u8>,
    /// The String with the bytes of a large item.
    large: Option<VALUE>,
    /// It is in flight, for the process of this fork depth.
    pub taken: Option<Taken>,
    fork_depth: u32,
}

impl Drop for Found {
    fn drop(&mut self) {
        if self.small.capacity() <= KEPT {
            self.small.clear();
            ROOM.set(std::mem::take(&mut self.small));
        }
    }
}

impl Found {
    fn new(tag: u32, small: Vec<u8>, taken: Option<Taken>) -> Self {
        Found { tag, small, large: None, taken, fork_depth: fork_depth() }
    }

    /// What this process has in flight: nothing in a child that was forked since.
    fn held(&self) -> Option<Taken> {
        self.taken.filter(|_| self.fork_depth == fork_depth())
    }

    /// The object.
    ///
    /// # Errors
    /// What Marshal raises.
    pub fn load(&self, ruby: &Ruby) -> Result<VALUE, Error> {
        load(ruby, self.tag, self.large.map_or(Bytes::Here(&self.small), Bytes::InString))
    }

    /// Reads the bytes of a large item. If that fails it goes back.
    fn read(mut self, ruby: &Ruby, queue: &Queue) -> Result<Self, Error> {
        match (self.read_large(ruby, queue), self.taken) {
            (Err(error), Some(taken)) => put_back(ruby, queue, &taken).and(Err(error)),
            (read, _) => read.map(|()| self),
        }
    }

    /// Reads the bytes of a large item.
    fn read_large(&mut self, ruby: &Ruby, queue: &Queue) -> Result<(), Error> {
        let Some(taken) = self.taken.filter(|taken| taken.is_large) else { return Ok(()) };
        // SAFETY: what they raise is caught. Nobody finds a hidden String, so nobody changes it.
        let string = raising(|| unsafe {
            let string = rb_sys::rb_obj_hide(rb_sys::rb_str_new(std::ptr::null(), taken.length as _));
            rb_sys::rb_str_modify(string);
            string
        })?;
        // SAFETY: the String has so many bytes, which stay where they are: it is no embedded one, and on this stack.
        let read =
            without_gvl(|| unsafe { queue.items().read(&taken, RSTRING_PTR(string).cast_mut().cast()) });
        // SAFETY: hidden above.
        unsafe { rb_sys::rb_obj_reveal(string, rb_sys::rb_cString) };
        read.map_err(|refusal| refused(ruby, refusal))?;
        self.large = Some(string);
        Ok(())
    }

    /// Makes it taken for good.
    ///
    /// # Errors
    /// `ProcessError` if it was handed on.
    pub fn finish(mut self, ruby: &Ruby, data: &QueueData) -> Result<Self, Error> {
        if let (Some(taken), Some(queue)) = (self.held(), data.shared.reached()) {
            finish(ruby, queue, &taken)?;
        }
        self.taken = None;
        Ok(self)
    }
}

/// The item in flight is done.
pub fn finish(ruby: &Ruby, queue: &Queue, taken: &Taken) -> Result<(), Error> {
    let thread = thread::current(ruby)?;
    if let Some(critical) = queue.items().try_enter(&thread) {
        critical.finish(taken).map_err(|refusal| refused(ruby, refusal))?;
    } else {
        without_gvl(|| queue.items().finish(&thread, taken)).map_err(|refusal| refused(ruby, refusal))?;
    }
    trim(ruby, queue)
}

/// The item in flight goes back.
pub fn put_back(ruby: &Ruby, queue: &Queue, taken: &Taken) -> Result<(), Error> {
    let thread = thread::current(ruby)?;
    without_gvl(|| queue.items().put_back(&thread, taken)).map_err(|refusal| refused(ruby, refusal))
}

/// Gives memory back to the system if much of it is free.
pub fn trim(ruby: &Ruby, queue: &Queue) -> Result<(), Error> {
    if !queue.items().should_trim() {
        return Ok(());
    }
    let thread = thread::current(ruby)?;
    without_gvl(|| queue.items().trim(&thread)).map_err(|refusal| refused(ruby, refusal))
}

/// Takes the first item for good, if it is short and that can be done at once.
#[inline]
pub fn try_pop_short(data: &QueueData, short: &mut Short) -> bool {
    let (Some(queue), Some(thread)) = (data.shared.usable(), thread::known()) else { return false };
    queue.items().try_enter(&thread).is_some_and(|critical| critical.pop_short(short))
}

/// Takes the first item for a time, if it is short and that can be done at once.
#[inline]
pub fn try_take_short(data: &QueueData, short: &mut Short) -> Option<Taken> {
    let (queue, thread) = (data.shared.usable()?, thread::known()?);
    let member = queue.known_member()?;
    queue.items().try_enter(&thread)?.take_short(member, short)
}

/// The item in flight is done, if that can be said at once.
#[inline]
pub fn try_finish(queue: &Queue, taken: &Taken) -> bool {
    let Some(thread) = thread::known() else { return false };
    let Some(critical) = queue.items().try_enter(&thread) else { return false };
    critical.finish(taken).is_ok()
}

/// Takes the first item for good, if that can be done at once.
#[inline]
pub fn try_pop(data: &QueueData) -> Option<Found> {
    let (queue, thread) = (data.shared.usable()?, thread::known()?);
    if queue.items().should_trim() {
        return None;
    }
    let critical = queue.items().try_enter(&thread)?;
    let mut room = ROOM.take();
    match critical.pop(&mut room) {
        Ok(popped) => {
            drop(critical);
            Some(Found::new(popped.tag, room, None))
        }
        Err(_) => {
            ROOM.set(room);
            None
        }
    }
}

/// This process's number among the members.
fn member(ruby: &Ruby, queue: &Queue) -> Result<u32, Error> {
    if let Some(member) = queue.known_member() {
        return Ok(member);
    }
    let thread = thread::current(ruby)?;
    let joined = without_gvl(|| queue.member(&thread));
    let member = joined.map_err(|error| errors::to_ruby(ruby, error))?;
    member.map_err(|refusal| refused(ruby, refusal))
}

/// Takes the first item if there is one.
fn take_now(ruby: &Ruby, queue: &Queue, wanted: Wanted) -> Result<Result<Found, Refusal>, Error> {
    trim(ruby, queue)?;
    if wanted == Wanted::ForGood {
        let mut room = ROOM.take();
        match locked(ruby, queue, |critical| critical.pop(&mut room))? {
            Ok(popped) => return Ok(Ok(Found::new(popped.tag, room, None))),
            Err(Refusal::NeedsMember) => {}
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let mut room = ROOM.take();
    let taken = as_member(ruby, queue, |critical, member| critical.take(member, &mut room))?;
    Ok(taken.map(|taken| Found::new(taken.tag, room, Some(taken))))
}

/// Calls `action` with the queue's lock, and this process's number: the wait for the lock may end in a child, which a signal
/// handler has forked, and which is another member.
fn as_member<T>(
    ruby: &Ruby,
    queue: &Queue,
    mut action: impl FnMut(&Critical<Thread>, u32) -> T,
) -> Result<T, Error> {
    loop {
        member(ruby, queue)?;
        let act = |critical: &Critical<Thread>| Some(action(critical, queue.known_member()?));
        if let Some(result) = locked(ruby, queue, act)? {
            return Ok(result);
        }
    }
}

/// Takes the first item as soon as there is one. `None` if the time has passed, or the queue is closed and empty.
///
/// # Errors
/// `ThreadError` if it must not wait and the queue is empty, or in a signal handler.
pub fn fetch(
    ruby: &Ruby,
    object: Value,
    data: &QueueData,
    Waiting { non_block, timeout }: Waiting,
    wanted: Wanted,
) -> Result<Option<Found>, Error> {
    let queue = data.open(ruby)?;
    match take_now(ruby, queue, wanted)? {
        Ok(found) => return found.read(ruby, queue).map(Some),
        Err(Refusal::Empty | Refusal::Closed) if non_block => return Err(refused(ruby, Refusal::Empty)),
        Err(Refusal::Closed) => return Ok(None),
        Err(Refusal::Empty) => {}
        Err(refusal) => return Err(refused(ruby, refusal)),
    }
    if timeout.has_passed() {
        return Ok(None);
    }
    trap_context::refuse(ruby)?;
    let found = if fiber_scheduler::is_non_blocking() {
        let mut found = None;
        fiber_scheduler::wait_until(ruby, object, timeout, || {
            found = match take_now(ruby, data.open(ruby)?, wanted)? {
                Ok(taken) => Some(taken),
                Err(Refusal::Empty) => return Ok(false),
                Err(Refusal::Closed) => None,
                Err(refusal) => return Err(refused(ruby, refusal)),
            };
            Ok(true)
        })?;
        found
    } else {
        await_item(ruby, object, data, queue, timeout)?
    };
    found.map(|found| found.read(ruby, queue)).transpose()
}

/// Waits for an item, which is in flight then.
fn await_item(
    ruby: &Ruby,
    object: Value,
    data: &QueueData,
    queue: &Queue,
    timeout: crate::timeout::Timeout,
) -> Result<Option<Found>, Error> {
    let room = RefCell::new(Vec::new());
    let outcome = Cell::new(None);
    let wait = |thread: &Thread| {
        let taken = match queue.take(thread, &mut room.borrow_mut(), timeout.deadline()) {
            Ok(Err(Err(outcome))) => return outcome,
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(Ok(refusal))) => Err(Ok(refusal)),
            Err(error) => Err(Err(error)),
        };
        outcome.set(Some(taken));
        Outcome::Acquired
    };
    let settle = |thread: &Thread, keep: bool| match outcome.take() {
        Some(Ok(taken)) if !keep => {
            give_back(queue, thread, &taken);
            room.borrow_mut().clear();
            false
        }
        other => {
            outcome.set(other);
            keep
        }
    };
    let acquired = nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, settle)?;
    match outcome.take().filter(|_| acquired) {
        None | Some(Err(Ok(Refusal::Closed))) => Ok(None),
        Some(Ok(taken)) => match data.check(ruby) {
            Ok(()) => Ok(Some(Found::new(taken.tag, room.take(), Some(taken)))),
            Err(error) => {
                give_back(queue, &thread::current(ruby)?, &taken);
                Err(error)
            }
        },
        Some(Err(Ok(refusal))) => Err(refused(ruby, refusal)),
        Some(Err(Err(error))) => Err(errors::to_ruby(ruby, error)),
    }
}

/// Gives back an item that nobody has seen.
fn give_back(queue: &Queue, thread: &Thread, taken: &Taken) {
    let _ = anyway(queue, thread, |critical| critical.give_back(taken)); // the queue's memory is overwritten if it fails
}

/// Calls `action` with the queue's lock. No interrupt keeps it from that.
fn anyway<T>(queue: &Queue, thread: &Thread, action: impl Fn(&Critical<Thread>) -> T) -> T {
    without_gvl(|| {
        loop {
            if let Ok(critical) = queue.items().enter(thread, None) {
                return action(&critical);
            }
        }
    })
}

/// How many items are taken under the queue's lock at once.
const AT_ONCE: usize = 256;

/// Takes up to `max` of the items that there are, as soon as there is one, as an Array; nil as `fetch`. All are in flight
/// until all are objects; if that fails, all go back.
pub fn take_many(
    ruby: &Ruby,
    object: Value,
    data: &QueueData,
    waiting: Waiting,
    max: usize,
) -> Result<Value, Error> {
    let Some(first) = fetch(ruby, object, data, waiting, Wanted::InFlight)? else {
        return Ok(ruby.qnil().as_value());
    };
    let large = ruby.ary_new(); // the collector does not look into `all`
    let mut all = vec![first];
    let objects = keep_large(large, &all)
        .and_then(|()| take_rest(ruby, data, &mut all, max, large))
        .and_then(|()| load_all(ruby, &all));
    std::hint::black_box(&large);
    let ended = end_all(ruby, data, &all, objects.is_ok());
    let array = objects?;
    ended?;
    Ok(array.as_value())
}

/// What this process has in flight is done, or goes back.
fn end_all(ruby: &Ruby, data: &QueueData, all: &[Found], is_done: bool) -> Result<(), Error> {
    let Some(queue) = data.shared.reached() else { return Ok(()) };
    let held: Vec<Taken> = all.iter().filter_map(Found::held).collect();
    let end = |critical: &Critical<Thread>| {
        held.iter()
            .try_for_each(|taken| if is_done { critical.finish(taken) } else { critical.put_back(taken) })
    };
    anyway(queue, &thread::current(ruby)?, end).map_err(|refusal| refused(ruby, refusal))?;
    trim(ruby, queue)
}

fn keep_large(array: RArray, found: &[Found]) -> Result<(), Error> {
    let large = found.iter().filter_map(|found| found.large);
    Ok(large.map(crate::raw_methods::value).try_for_each(|string| array.push(string))?)
}

fn take_rest(
    ruby: &Ruby,
    data: &QueueData,
    all: &mut Vec<Found>,
    max: usize,
    large: RArray,
) -> Result<(), Error> {
    let queue = data.open(ruby)?;
    // No more than there are now: others may add items as fast as this takes them.
    let there = locked(ruby, queue, |critical| critical.size())?;
    let mut left = there.min(max - 1);
    while left > 0 {
        let found = as_member(ruby, queue, |critical, member| {
            let mut found = Vec::new();
            while found.len() < left.min(AT_ONCE) {
                let mut bytes = Vec::new();
                match critical.take(member, &mut bytes) {
                    Ok(taken) => found.push(Found::new(taken.tag, bytes, Some(taken))),
                    Err(_) => break, // what there is to say is said to those that take one
                }
            }
            found
        })?;
        if found.is_empty() {
            break;
        }
        left -= found.len();
        // All are in flight: those that cannot be read go back with the others.
        let before = all.len();
        all.extend(found);
        for found in &mut all[before..] {
            found.read_large(ruby, queue)?;
            keep_large(large, std::slice::from_ref(found))?;
        }
    }
    Ok(())
}

fn load_all(ruby: &Ruby, all: &[Found]) -> Result<RArray, Error> {
    let array = ruby.ary_new_capa(all.len());
    for found in all {
        array.push(crate::raw_methods::value(found.load(ruby)?))?;
    }
    Ok(array)
}
