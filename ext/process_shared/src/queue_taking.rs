//! Taking items: at once, by waiting, several at once.
//!
//! A waiter takes its item for a time, without the GVL, and for good once it has the GVL back and no interrupt is due. If
//! one is due, or the process dies meanwhile, the item is where it was.

use magnus::rb_sys::AsRawValue;
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
use crate::queue_items::{Bytes, load, load_immediate, load_plain};
use crate::raw_methods::{raising, value};
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

/// An item in flight, and the process that has it.
#[derive(Clone, Copy)]
pub struct InFlight {
    pub taken: Taken,
    fork_depth: u32,
}

impl InFlight {
    /// An item that this process has taken.
    pub fn new(taken: Taken) -> Self {
        InFlight { taken, fork_depth: fork_depth() }
    }

    /// The item, if this process has it. A child that was forked since has not.
    #[inline]
    pub fn held(&self) -> Option<&Taken> {
        (self.fork_depth == fork_depth()).then_some(&self.taken)
    }
}

/// An item that was taken, and its bytes.
pub struct Found {
    tag: u32,
    small: Vec<u8>,
    /// The String with the bytes of a large item.
    large: Option<VALUE>,
    /// `None` if it was taken for good.
    pub in_flight: Option<InFlight>,
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
        Found { tag, small, large: None, in_flight: taken.map(InFlight::new) }
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
        let taken = self.in_flight.map(|item| item.taken).filter(|taken| taken.is_large);
        let Some(taken) = taken else { return Ok(self) };
        match read_large(ruby, queue, &taken) {
            Ok(string) => {
                self.large = Some(string);
                Ok(self)
            }
            Err(error) => put_back(ruby, queue, &taken).and(Err(error)),
        }
    }

    /// Makes it taken for good.
    ///
    /// # Errors
    /// `ProcessError` if it was handed on.
    pub fn finish(mut self, ruby: &Ruby, data: &QueueData) -> Result<Self, Error> {
        let item = self.in_flight.take();
        if let (Some(taken), Some(queue)) = (item.as_ref().and_then(InFlight::held), data.shared.reached()) {
            finish(ruby, queue, taken)?;
        }
        Ok(self)
    }
}

/// The bytes of a large item in flight, as a String that nobody else knows.
fn read_large(ruby: &Ruby, queue: &Queue, taken: &Taken) -> Result<VALUE, Error> {
    // SAFETY: what they raise is caught. Nobody finds a hidden String, so nobody changes it.
    let string = raising(|| unsafe {
        let string = rb_sys::rb_obj_hide(rb_sys::rb_str_new(std::ptr::null(), taken.length as _));
        rb_sys::rb_str_modify(string);
        string
    })?;
    // SAFETY: the String has so many bytes, which stay where they are: it is no embedded one, and on this stack.
    let read = without_gvl(|| unsafe { queue.items().read(taken, RSTRING_PTR(string).cast_mut().cast()) });
    // SAFETY: hidden above.
    unsafe { rb_sys::rb_obj_reveal(string, rb_sys::rb_cString) };
    read.map_err(|refusal| refused(ruby, refusal))?;
    Ok(string)
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
    let Some(critical) = queue.items().try_enter(&thread) else { return false };
    critical.pop_short(short) || (!queue.items().should_trim() && critical.pop_wide(short))
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

/// How many items are taken under the queue's lock at once, and how many words.
const AT_ONCE: usize = 256;
const WORDS_AT_ONCE: usize = 4096;

/// Several items in flight. Their bytes lie one after the other.
#[derive(Default)]
struct Haul {
    items: Vec<Hauled>,
    bytes: Vec<u8>,
}

struct Hauled {
    item: InFlight,
    /// Where the bytes of a small one end.
    end: usize,
    /// The String with the bytes of a large one.
    large: Option<VALUE>,
}

impl Haul {
    fn bytes(&self, index: usize) -> Bytes<'_> {
        let start = index.checked_sub(1).map_or(0, |before| self.items[before].end);
        self.items[index]
            .large
            .map_or(Bytes::Here(&self.bytes[start..self.items[index].end]), Bytes::InString)
    }

    /// Takes up to `max` items more that are there.
    fn take(&mut self, critical: &Critical<Thread>, member: u32, max: usize) {
        let mut end = self.bytes.len();
        for _ in 0..max {
            // The call that takes one item raises what is wrong with it.
            let Ok(taken) = critical.take(member, &mut self.bytes) else { break };
            end = self.bytes.len();
            self.items.push(Hauled { item: InFlight::new(taken), end, large: None });
        }
        self.bytes.truncate(end);
    }
}

/// Takes up to `max` of the items that there are, as soon as there is one, as an Array; nil as `fetch`. All are in flight
/// until all are objects; if that fails, all go back.
pub fn take_many(
    ruby: &Ruby,
    object: Value,
    data: &QueueData,
    waiting: Waiting,
    max: usize,
) -> Result<Value, Error> {
    if let Some(array) = take_words(ruby, data, max)? {
        return Ok(array.as_value());
    }
    let Some(mut first) = fetch(ruby, object, data, waiting, Wanted::InFlight)? else {
        return Ok(ruby.qnil().as_value());
    };
    let large = ruby.ary_new(); // the collector does not look into `haul`
    let mut haul = Haul { items: Vec::new(), bytes: std::mem::take(&mut first.small) };
    let end = haul.bytes.len();
    haul.items.extend(first.in_flight.map(|item| Hauled { item, end, large: first.large }));
    let objects = first
        .large
        .map_or(Ok(()), |string| Ok(large.push(value(string))?))
        .and_then(|()| take_rest(ruby, data, &mut haul, max, large))
        .and_then(|()| load_all(ruby, &haul));
    std::hint::black_box(&large);
    let ended = end_all(ruby, data, &haul, objects.is_ok());
    let array = objects?;
    ended?;
    Ok(array.as_value())
}

/// The items that this process has are done, or go back.
fn end_all(ruby: &Ruby, data: &QueueData, haul: &Haul, is_done: bool) -> Result<(), Error> {
    let Some(queue) = data.shared.reached() else { return Ok(()) };
    let held: Vec<&Taken> = haul.items.iter().filter_map(|hauled| hauled.item.held()).collect();
    let end = |critical: &Critical<Thread>| {
        held.iter()
            .try_for_each(|taken| if is_done { critical.finish(taken) } else { critical.put_back(taken) })
    };
    anyway(queue, &thread::current(ruby)?, end).map_err(|refusal| refused(ruby, refusal))?;
    trim(ruby, queue)
}

/// Takes the items that there are, or the first `max`, for good, if there are few and no object has to be made for any of them:
/// then nothing can go wrong with them. `None` if not, and nothing has been taken.
fn take_words(ruby: &Ruby, data: &QueueData, max: usize) -> Result<Option<RArray>, Error> {
    let queue = data.open(ruby)?;
    let count = queue.items().size_at_a_glance().min(max);
    if count == 0 || count > WORDS_AT_ONCE {
        return Ok(None);
    }
    let (array, mut words) = (ruby.ary_new_capa(count), Vec::with_capacity(count));
    let are_taken = locked(ruby, queue, |critical| {
        critical.pop_words(count.min(critical.size()), |tag, bytes| {
            load_immediate(tag, bytes).map(|word| words.push(word)).is_some()
        })
    })?;
    if !are_taken || words.is_empty() {
        return Ok(None);
    }
    // SAFETY: values that are no objects, for which the Array has room.
    raising(|| unsafe { rb_sys::rb_ary_cat(array.as_raw(), words.as_ptr(), words.len() as _) })?;
    trim(ruby, queue)?;
    Ok(Some(array))
}

fn take_rest(ruby: &Ruby, data: &QueueData, haul: &mut Haul, max: usize, large: RArray) -> Result<(), Error> {
    let queue = data.open(ruby)?;
    // No more than there are now: others may add items as fast as this takes them.
    let there = locked(ruby, queue, |critical| critical.size())?;
    let mut left = there.min(max - 1);
    while left > 0 {
        let before = haul.items.len();
        as_member(ruby, queue, |critical, member| haul.take(critical, member, left.min(AT_ONCE)))?;
        // All are in flight: those that cannot be read go back with the others.
        for hauled in haul.items[before..].iter_mut().filter(|hauled| hauled.item.taken.is_large) {
            let string = read_large(ruby, queue, &hauled.item.taken)?;
            hauled.large = Some(string);
            large.push(value(string))?;
        }
        match haul.items.len() - before {
            0 => break,
            taken => left -= taken,
        }
    }
    Ok(())
}

fn load_all(ruby: &Ruby, haul: &Haul) -> Result<RArray, Error> {
    let (array, count) = (ruby.ary_new_capa(haul.items.len()), haul.items.len());
    let mut index = 0;
    while index < count {
        // SAFETY: plain objects for an Array of our own; what this raises is caught.
        raising(|| unsafe {
            while index < count {
                let Bytes::Here(bytes) = haul.bytes(index) else { break };
                let Some(object) = load_plain(haul.items[index].item.taken.tag, bytes) else { break };
                rb_sys::rb_ary_push(array.as_raw(), object);
                index += 1;
            }
        })?;
        if let Some(hauled) = haul.items.get(index) {
            array.push(value(load(ruby, hauled.item.taken.tag, haul.bytes(index))?))?;
            index += 1;
        }
    }
    Ok(array)
}
