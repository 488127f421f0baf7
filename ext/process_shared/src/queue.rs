//! `ProcessShared::Queue`: its methods, and its data, which `SizedQueue` shares. How items are taken is in
//! `queue_taking.rs`, and `pop` with a block in `queue_block.rs`.

use magnus::rb_sys::AsRawValue;
use magnus::scan_args::{get_kwargs, scan_args};
use magnus::{ExceptionClass, RArray, RHash, RModule, RString, Ruby, TryConvert, Value, method, prelude::*};
use process_shared_core::queue::{Critical, Pushed, Refusal, Short};
use process_shared_core::{Outcome, Queue, Thread};
use rb_sys::{VALUE, rb_eThreadError};
use std::cell::Cell;
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::classes::Known;
use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::path::{self, Given};
use crate::queue_items::{Batch, Bytes, Item, keep_alive, load, load_plain};
use crate::queue_taking::{self, Wanted};
use crate::raw_methods::{MethodN, NIL, answer, arguments, define, raising, ruby, value};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, nogvl, queue_block, thread, trap_context};

#[derive(Default)]
pub struct QueueData {
    pub shared: Shared<Queue>,
    is_sized: AtomicBool,
}

impl Data for QueueData {
    data_type!(QueueData, c"ProcessShared::Queue");

    fn extra_size(&self) -> usize {
        self.shared.get().map_or(0, Queue::length)
    }
}

impl Object for QueueData {
    type Core = Queue;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Queue> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        if self.is_sized.load(Relaxed) { "ProcessShared::SizedQueue" } else { "ProcessShared::Queue" }
    }

    fn describe(&self, queue: &Queue) -> String {
        let items = match queue.items().size_at_a_glance() {
            1 => "1 item".to_owned(),
            size => format!("{size} items"),
        };
        let closed = if queue.items().is_closed() { ", closed" } else { "" };
        match queue.waiters() {
            0 => format!("{items}{closed}"),
            waiters => format!("{items}, {waiters} waiting{closed}"),
        }
    }
}

/// `ClosedQueueError`.
static CLOSED: Known<ExceptionClass> = Known::unknown();

/// The exception for a refusal.
pub fn refused(ruby: &Ruby, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Full | Refusal::Empty => {
            // SAFETY: Ruby has set it when it started, and keeps it.
            match ExceptionClass::try_convert(value(unsafe { rb_eThreadError })) {
                Ok(class) => Error::new(class, refusal.to_string()),
                Err(error) => error.into(),
            }
        }
        Refusal::Closed => Error::new(ruby.get_inner(&CLOSED), "queue closed"),
        Refusal::TooLarge => Error::new(ruby.exception_index_error(), refusal.to_string()),
        Refusal::TooMany | Refusal::NotHeld | Refusal::NeedsMember | Refusal::Corrupt => {
            errors::ownership(ruby, refusal.to_string())
        }
    }
}

/// Calls `action` with the queue's lock, which may take some time if a process was stopped while it held it: then
/// `action` runs without the GVL.
pub fn locked<T>(
    ruby: &Ruby,
    queue: &Queue,
    mut action: impl FnMut(&Critical<Thread>) -> T,
) -> Result<T, Error> {
    let current = thread::current(ruby)?;
    if let Some(critical) = queue.items().try_enter(&current) {
        return Ok(action(&critical));
    }
    let result = Cell::new(None);
    let enter = |thread: &Thread| match queue.items().enter(thread, None) {
        Ok(critical) => {
            result.set(Some(action(&critical)));
            Outcome::Acquired
        }
        Err(outcome) => outcome,
    };
    nogvl::block(ruby, [None, None], || Ok(()), enter, |_, _| true)?;
    result.take().ok_or_else(|| refused(ruby, Refusal::NotHeld))
}

/// Runs `action` without the GVL, or with it if an interrupt is due: it must not be left out.
pub fn without_gvl<T>(mut action: impl FnMut() -> T) -> T {
    nogvl::without_gvl(&mut action).unwrap_or_else(action)
}

/// `non_block = false, timeout: nil`, behind `count` other arguments.
pub struct Waiting {
    pub non_block: bool,
    pub timeout: Timeout,
}

impl Waiting {
    /// # Errors
    /// ArgumentError for both at once.
    pub fn new(ruby: &Ruby, non_block: Option<Value>, timeout: Option<Value>) -> Result<Self, Error> {
        let non_block = non_block.is_some_and(Value::to_bool);
        let timeout = match timeout.filter(|timeout| !timeout.is_nil()) {
            None => Timeout::Never,
            Some(_) if non_block => {
                let text = "can't set a timeout if non_block is enabled";
                return Err(Error::new(ruby.exception_arg_error(), text));
            }
            Some(seconds) => Timeout::parse_try(ruby, seconds)?,
        };
        Ok(Waiting { non_block, timeout })
    }
}

/// Adds an item that lies in a String or on the stack. False if `timeout` passed.
fn push_item(
    ruby: &Ruby,
    object: Value,
    item: &Item,
    Waiting { non_block, timeout }: Waiting,
) -> Result<bool, Error> {
    let data = of::<QueueData>(object);
    let queue = data.open(ruby)?;
    // SAFETY: made by `Item::of`, and kept alive by the callers.
    let bytes = unsafe { item.bytes() };
    refuse_too_large(ruby, queue, bytes.len())?;
    match locked(ruby, queue, |critical| critical.push(item.tag, bytes))? {
        Ok(Pushed::Done) => {
            fetch_memory(queue, &thread::current(ruby)?);
            return Ok(true);
        }
        Ok(Pushed::Reserved(reservation)) => {
            let thread = thread::current(ruby)?;
            let mut reservation = Some(reservation);
            let complete = || match reservation.take() {
                Some(reservation) => queue.items().complete(&thread, reservation, bytes),
                None => Err(Refusal::NotHeld),
            };
            return without_gvl(complete).map(|()| true).map_err(|refusal| refused(ruby, refusal));
        }
        Err(Refusal::Full) if !non_block => {}
        Err(refusal) => return Err(refused(ruby, refusal)),
    }
    if timeout.has_passed() {
        return Ok(false);
    }
    trap_context::refuse(ruby)?;
    if fiber_scheduler::is_non_blocking() {
        let (tag, string) = (ruby.into_value(item.tag), value(item.string()?));
        let pushed = fiber_scheduler::call_elsewhere(ruby, object, "push_bytes", [tag, string], timeout)?;
        return Ok(pushed.to_bool());
    }
    await_room(ruby, object, item.tag, bytes, timeout)
}

fn refuse_too_large(ruby: &Ruby, queue: &Queue, length: usize) -> Result<(), Error> {
    let most = queue.items().bytes();
    if length as u64 <= most { Ok(()) } else { Err(too_large(ruby, length, most)) }
}

fn too_large(ruby: &Ruby, length: usize, most: u64) -> Error {
    let text = format!("the item takes {length} bytes, and the queue has {most}: make it with more bytes");
    Error::new(ruby.exception_index_error(), text)
}

/// Adds an item as soon as there is room.
fn await_room(ruby: &Ruby, object: Value, tag: u32, bytes: &[u8], timeout: Timeout) -> Result<bool, Error> {
    let data = of::<QueueData>(object);
    let queue = data.open(ruby)?;
    let refusal = Cell::new(None);
    let wait = |thread: &Thread| match queue.push(thread, tag, bytes, timeout.deadline()) {
        Ok(()) => Outcome::Acquired,
        Err(Err(outcome)) => outcome,
        Err(Ok(reason)) => {
            refusal.set(Some(reason));
            Outcome::Acquired
        }
    };
    // What has been added stays, also if an interrupt is due: it is looked at when the method has returned.
    let pushed = nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, |_, _| true)?;
    refusal.take().map_or(Ok(pushed), |reason| Err(refused(ruby, reason)))
}

/// For the helper threads of `fiber_scheduler.rb`: adds an item as soon as there is room. Whether there was within the time.
fn push_bytes(ruby: &Ruby, object: Value, tag: u32, string: RString, timeout: Value) -> Result<bool, Error> {
    let timeout = Timeout::parse_try(ruby, timeout)?;
    let string = RString::new_frozen(string);
    // SAFETY: nobody changes it; kept alive below.
    let bytes = unsafe { string.as_slice() };
    let pushed = await_room(ruby, object, tag, bytes, timeout);
    keep_alive(string.as_value());
    pushed
}

unsafe extern "C" fn push(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: Ruby passes `argc` arguments. Nothing to drop in this frame.
    unsafe {
        if argc == 1 && try_push(typed_data::get(this), *argv) {
            return this;
        }
    }
    answer(|| {
        // SAFETY: as above.
        let args = unsafe { arguments(argc, argv, 0, usize::MAX)? };
        let args: Vec<Value> = args.iter().map(|arg| value(*arg)).collect();
        push_slow(&ruby(), value(this), &args)
    })
}

/// Adds a small plain object if that can be done at once.
#[inline]
fn try_push(data: &QueueData, object: VALUE) -> bool {
    let (Some(queue), Some(thread)) = (data.shared.usable(), thread::known()) else { return false };
    let Some(item) = Item::plain(object) else { return false };
    // SAFETY: no Ruby code runs before the end of this function.
    let bytes = unsafe { item.bytes() };
    if bytes.len() > queue.items().largest_small() {
        return false;
    }
    let Some(critical) = queue.items().try_enter(&thread) else { return false };
    if critical.push_short(item.tag, bytes) {
        return true;
    }
    let is_pushed = matches!(critical.push(item.tag, bytes), Ok(Pushed::Done));
    drop(critical);
    fetch_memory(queue, &thread);
    is_pushed
}

/// After a push: sees to it that the next ones find memory.
#[inline]
fn fetch_memory(queue: &Queue, thread: &Thread) {
    if queue.items().should_fetch() {
        queue.items().fetch(thread);
    }
}

fn push_slow(ruby: &Ruby, object: Value, args: &[Value]) -> Result<VALUE, Error> {
    of::<QueueData>(object).check(ruby)?;
    let args = scan_args::<(Value,), (Option<Value>,), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["timeout"])?;
    let waiting = Waiting::new(ruby, args.optional.0, keywords.optional.0)?;
    let item = Item::of(args.required.0.as_raw())?;
    let pushed = push_item(ruby, object, &item, waiting);
    std::hint::black_box(&item);
    Ok(if pushed? { object.as_raw() } else { NIL })
}

/// Adds all, in one critical section if there is room for them.
fn concat(ruby: &Ruby, object: Value, array: Value) -> Result<Value, Error> {
    let data = of::<QueueData>(object);
    data.check(ruby)?;
    // SAFETY: any object; what it raises is caught. A copy, because Marshal may run code that changes the Array.
    let array = raising(|| unsafe {
        let ary = rb_sys::rb_convert_type(
            array.as_raw(),
            rb_sys::ruby_value_type::RUBY_T_ARRAY as c_int,
            c"Array".as_ptr(),
            c"to_ary".as_ptr(),
        );
        rb_sys::rb_ary_dup(ary)
    })?;
    push_all(ruby, object, RArray::try_convert(value(array))?)?;
    Ok(object)
}

/// Writes the elements of `array` as items. Marshal may run any code, so nobody else may have the array.
fn in_bytes(array: RArray) -> Result<Batch, Error> {
    let mut batch = Batch::with_capacity(array.len());
    for index in 0..array.len() {
        // SAFETY: an Array, and any index.
        let each = unsafe { rb_sys::rb_ary_entry(array.as_raw(), index as _) };
        match Item::plain(each) {
            // SAFETY: copied at once.
            Some(item) => batch.add(item.tag, unsafe { item.bytes() }),
            None => {
                let item = Item::of(each)?;
                // SAFETY: as above.
                batch.add(item.tag, unsafe { item.bytes() });
            }
        }
    }
    Ok(batch)
}

fn push_all(ruby: &Ruby, object: Value, array: RArray) -> Result<(), Error> {
    let data = of::<QueueData>(object);
    let items = in_bytes(array)?;
    let queue = data.open(ruby)?;
    let items = items.all();
    items.iter().try_for_each(|(_, bytes)| refuse_too_large(ruby, queue, bytes.len()))?;
    let mut rest = items.as_slice();
    while let Some((tag, bytes)) = rest.first() {
        let queue = data.open(ruby)?;
        let done = match locked(ruby, queue, |critical| critical.push_all(rest))? {
            Ok(done) => done,
            Err(Refusal::Full) => 0,
            Err(refusal) => return Err(refused(ruby, refusal)),
        };
        fetch_memory(queue, &thread::current(ruby)?);
        rest = &rest[done..];
        if done == 0 {
            let item = Item::copied(*tag, bytes)?;
            push_item(ruby, object, &item, Waiting { non_block: false, timeout: Timeout::Never })?;
            std::hint::black_box(&item);
            rest = &rest[1..];
        }
    }
    Ok(())
}

unsafe extern "C" fn pop(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: called as a method; nothing to drop in this frame.
    unsafe {
        if rb_sys::rb_block_given_p() != 0 {
            return queue_block::run(argc, argv, this);
        }
        let mut short = Short::new();
        if argc == 0 && queue_taking::try_pop_short(typed_data::get(this), &mut short) {
            return load_plain(short.tag, short.bytes())
                .unwrap_or_else(|| answer(|| load(&ruby(), short.tag, Bytes::Here(short.bytes()))));
        }
    }
    answer(|| {
        // SAFETY: Ruby passes `argc` arguments.
        let args = unsafe { arguments(argc, argv, 0, usize::MAX)? };
        let (ruby, object) = (ruby(), value(this));
        let data = of::<QueueData>(object);
        let waiting = taking(&ruby, object, args)?;
        match queue_taking::fetch(&ruby, object, data, waiting, Wanted::ForGood)? {
            Some(found) => found.finish(&ruby, data)?.load(&ruby),
            None => Ok(NIL),
        }
    })
}

/// The arguments of `pop`.
pub fn taking(ruby: &Ruby, object: Value, args: &[VALUE]) -> Result<Waiting, Error> {
    of::<QueueData>(object).check(ruby)?;
    if args.is_empty() {
        return Ok(Waiting { non_block: false, timeout: Timeout::Never });
    }
    let args: Vec<Value> = args.iter().map(|arg| value(*arg)).collect();
    let args = scan_args::<(), (Option<Value>,), (), (), _, ()>(&args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["timeout"])?;
    Waiting::new(ruby, args.optional.0, keywords.optional.0)
}

/// `pop_all(max = nil, timeout: nil)`.
fn pop_all(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let data = of::<QueueData>(object);
    data.check(ruby)?;
    let args = scan_args::<(), (Option<Value>,), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["timeout"])?;
    let max = match args.optional.0.filter(|max| !max.is_nil()) {
        None => usize::MAX,
        Some(max) => usize::try_from(i64::try_convert(max)?)
            .ok()
            .filter(|max| *max > 0)
            .ok_or_else(|| Error::new(ruby.exception_arg_error(), "the number of items must be positive"))?,
    };
    let waiting = Waiting::new(ruby, None, keywords.optional.0)?;
    queue_taking::take_many(ruby, object, data, waiting, max)
}

fn close(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let queue = of::<QueueData>(object).open(ruby)?;
    locked(ruby, queue, |critical| critical.close())?;
    Ok(object)
}

fn is_closed(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    Ok(of::<QueueData>(object).open(ruby)?.items().is_closed())
}

fn clear(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let queue = of::<QueueData>(object).open(ruby)?;
    let thread = thread::current(ruby)?;
    without_gvl(|| queue.items().clear(&thread)).map_err(|refusal| refused(ruby, refusal))?;
    Ok(object)
}

fn size(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    let queue = of::<QueueData>(object).open(ruby)?;
    let size = locked(ruby, queue, |critical| critical.reap().map(|()| critical.size()))?;
    size.map_err(|refusal| refused(ruby, refusal))
}

fn is_empty(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    size(ruby, object).map(|size| size == 0)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<QueueData>(object).open(ruby).map(Queue::waiters)
}

fn in_flight(ruby: &Ruby, object: Value) -> Result<RHash, Error> {
    let queue = of::<QueueData>(object).open(ruby)?;
    let counts = locked(ruby, queue, |critical| critical.in_flight())?;
    let hash = ruby.hash_new();
    for (pid, count) in counts.map_err(|refusal| refused(ruby, refusal))? {
        hash.aset(pid, count)?;
    }
    Ok(hash)
}

/// Waits until there is an item, and takes none. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of::<QueueData>(object);
    let (queue, timeout) = (data.open(ruby)?, Timeout::parse_try(ruby, timeout)?);
    let wait = |thread: &Thread| match queue.watch(thread, timeout.deadline()) {
        Err(Err(outcome)) => outcome,
        Ok(()) | Err(Ok(_)) => Outcome::Acquired,
    };
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

/// `new(items = nil, bytes: 64 << 20, path: nil, mode: 0600)`.
fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &["bytes"])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let items = match given.positional.first() {
        // SAFETY: any object; what it raises is caught.
        Some(items) => raising(|| unsafe {
            let array = rb_sys::ruby_value_type::RUBY_T_ARRAY as c_int;
            rb_sys::rb_convert_type(items.as_raw(), array, c"Array".as_ptr(), c"to_a".as_ptr())
        })?,
        None => ruby.ary_new().as_raw(),
    };
    let items = RArray::try_convert(value(items))?;
    // Where there is a path, what the queue begins with is made with it.
    let begins_with = if given.location.is_some() { in_bytes(items)? } else { Batch::default() };
    begin(ruby, object, &given, 0, &begins_with.all())?;
    if given.location.is_none() { push_all(ruby, object, items) } else { Ok(()) }
}

/// Makes or opens the queue. A new one has at most `max` items if that is not 0; one in a file begins with `items`.
pub fn begin(
    ruby: &Ruby,
    object: Value,
    given: &Given,
    max: u64,
    items: &[(u32, &[u8])],
) -> Result<(), Error> {
    let bytes = match given.extra[0] {
        None => 64 << 20,
        Some(bytes) => {
            let bytes = magnus::Integer::try_convert(bytes)?;
            bytes.to_u64().map_err(|_| {
                Error::new(ruby.exception_arg_error(), format!("a queue cannot have {bytes} bytes"))
            })?
        }
    };
    if let Some((_, item)) = items.iter().find(|(_, item)| item.len() as u64 > bytes) {
        return Err(too_large(ruby, item.len(), bytes));
    }
    let data = of::<QueueData>(object);
    let is_sized = max != 0;
    let class = if is_sized { "SizedQueue" } else { "Queue" };
    data.is_sized.store(is_sized, Relaxed);
    let open = |path: &Path, mode| Queue::in_file(path, mode, class, bytes, max, items);
    data.initialize(ruby, object, given.location.as_ref(), || Queue::new(bytes, max), open)?;
    // SAFETY: an object of ours, whose data is for all Ractors. They may share it as it is: core's queues cannot be frozen.
    unsafe { (*(object.as_raw() as *mut rb_sys::RBasic)).flags |= SHAREABLE };
    Ok(())
}

/// `RUBY_FL_SHAREABLE`.
const SHAREABLE: VALUE = rb_sys::ruby_fl_type::RUBY_FL_SHAREABLE as VALUE;

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    CLOSED.set(ruby, ruby.class_object().const_get("ClosedQueueError")?)?;
    let superclass = ruby.class_object();
    let class =
        object::define_class_with::<QueueData>(module, "Queue", superclass, ["release", "released?"])?;
    for name in ["push", "<<", "enq"] {
        define(class, name, push as MethodN)?;
    }
    for name in ["pop", "shift", "deq"] {
        define(class, name, pop as MethodN)?;
    }
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("concat", method!(concat, 1))?;
    class.define_method("pop_all", method!(pop_all, -1))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("clear", method!(clear, 0))?;
    class.define_method("size", method!(size, 0))?;
    class.define_method("length", method!(size, 0))?;
    class.define_method("empty?", method!(is_empty, 0))?;
    class.define_method("num_waiting", method!(waiters, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_method("in_flight", method!(in_flight, 0))?;
    class.define_private_method("watch", method!(watch, 1))?;
    Ok(class.define_private_method("push_bytes", method!(push_bytes, 3))?)
}
