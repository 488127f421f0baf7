//! `ProcessShared::Map`: the methods that the others, in `lib/process_shared/map.rb`, are made of; and its data, which
//! `Cache` shares. Keys are in `map_keys.rs`, how a map is changed in `map_changes.rs`.

use magnus::rb_sys::AsRawValue;
use magnus::scan_args::{get_kwargs, scan_args};
use magnus::{
    ExceptionClass, Integer, RArray, RClass, RHash, RModule, RString, Ruby, Value, method, prelude::*,
};
use process_shared_core::map::{Found, Key, Patience, Value as MapValue};
use process_shared_core::{Map, Thread};
use rb_sys::VALUE;
use rb_sys::macros::FIXNUM_P;
use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::path::Path;

use crate::classes::{self, Known};
use crate::errors::{self, Error};
use crate::map_changes::{SMALL, change, instant, patiently};
use crate::map_computing;
use crate::map_keys::{OwnedKey, load_key, with_plain};
use crate::object::{self, Object, Shared};
use crate::path;
use crate::queue_items::{Bytes, FIXNUM, FLOAT, Item, load, load_plain};
use crate::raw_methods::{
    Method1, Method2, MethodN, NIL, answer, arguments, define, define_private, ruby, value,
};
use crate::typed_data::{self, Data, of};
use crate::{data_type, thread};

/// `ProcessShared::FullError`.
pub static FULL_ERROR: Known<ExceptionClass> = Known::unknown();

#[derive(Default)]
pub struct MapData {
    pub shared: Shared<Map>,
}

impl Drop for MapData {
    fn drop(&mut self) {
        if let Some(map) = self.shared.get() {
            map_computing::map_goes(map);
        }
    }
}

impl Data for MapData {
    data_type!(MapData, c"ProcessShared::Map");

    fn extra_size(&self) -> usize {
        self.shared.get().map_or(0, Map::length)
    }
}

impl Object for MapData {
    type Core = Map;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Map> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        match self.shared.get() {
            Some(map) if map.entries().evicts() => "ProcessShared::Cache",
            _ => "ProcessShared::Map",
        }
    }

    fn describe(&self, map: &Map) -> String {
        let (stats, bytes) = (map.entries().stats(), map.entries().bytes());
        let entries = match stats.entries {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        let [hits, misses] = [stats.hits, stats.misses].map(u128::from);
        let percent = (hits * 100).checked_div(hits + misses);
        let hits = percent.map_or_else(String::new, |percent| format!(", {percent} % hits"));
        let waiting = match map.waiters() {
            0 => String::new(),
            waiters => format!(", {waiters} waiting"),
        };
        format!("{entries}, {} of {bytes} bytes{hits}{waiting}", stats.used)
    }
}

thread_local! {
    /// Room for the bytes of a value, between two calls.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `act` with room for the bytes of a value.
#[inline]
fn with_room<T>(act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut room = ROOM.take();
    let result = act(&mut room);
    if room.capacity() <= SMALL {
        ROOM.set(room);
    }
    result
}

/// `new(bytes, path: nil, mode: 0600)`.
fn initialize_as(ruby: &Ruby, object: Value, args: &[Value], evicts: bool) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 1..=1)?;
    let bytes = given.positional[0];
    let Some(integer) = Integer::from_value(bytes) else {
        return Err(errors::wrong_type(ruby, bytes, "an Integer"));
    };
    let bytes = integer
        .to_u64()
        .map_err(|_| Error::new(ruby.exception_arg_error(), format!("a map cannot have {integer} bytes")))?;
    let class = if evicts { "Cache" } else { "Map" };
    let open = |path: &Path, mode| Map::in_file(path, mode, class, bytes, evicts);
    let data = of::<MapData>(object);
    data.initialize(ruby, object, given.location.as_ref(), || Map::new(bytes, evicts), open)
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    initialize_as(ruby, object, args, false)
}

fn initialize_cache(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    initialize_as(ruby, object, args, true)
}

/// Reads the value of a key: the object, if it is there.
fn read(ruby: &Ruby, object: VALUE, key: VALUE) -> Result<Option<VALUE>, Error> {
    let map = of::<MapData>(value(object)).open(ruby)?.entries();
    let thread = thread::current(ruby)?;
    with_room(|room| {
        let tag = match with_plain(map, key, |key| map.get(&thread, key, room)) {
            Some(tag) => tag,
            None => map.get(&thread, &OwnedKey::of(ruby, key)?.of_map(map), room),
        };
        tag.map(|tag| load(ruby, tag.into(), Bytes::Here(room))).transpose()
    })
}

/// The value of a plain key, if it is short and plain too, or `other` if there is none. Nothing here has to be dropped, and
/// nothing raises but for a lack of memory.
#[inline]
fn read_at_once(this: VALUE, key: VALUE, other: VALUE) -> Option<VALUE> {
    // SAFETY: a method's receiver.
    let map = unsafe { typed_data::get::<MapData>(this) }.shared.usable()?.entries();
    let thread = thread::known()?;
    let mut room = [MaybeUninit::uninit(); SHORT];
    match with_plain(map, key, |key| map.get_short(&thread, key, &mut room))? {
        Some((tag, length)) => {
            // SAFETY: so many bytes have been written.
            let bytes = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), length) };
            load_plain(tag.into(), bytes)
        }
        None => Some(other),
    }
}

unsafe extern "C" fn get(this: VALUE, key: VALUE) -> VALUE {
    match read_at_once(this, key, NIL) {
        Some(found) => found,
        None => answer(|| Ok(read(&ruby(), this, key)?.unwrap_or(NIL))),
    }
}

/// `read_or(key, other)`: the value, or `other` if there is none.
unsafe extern "C" fn read_or(this: VALUE, key: VALUE, other: VALUE) -> VALUE {
    match read_at_once(this, key, other) {
        Some(found) => found,
        None => answer(|| Ok(read(&ruby(), this, key)?.unwrap_or(other))),
    }
}

/// `peek_or(key, other)`: the same, which counts as neither a hit nor a miss.
unsafe extern "C" fn peek_or(this: VALUE, key: VALUE, other: VALUE) -> VALUE {
    answer(|| {
        let ruby = ruby();
        let map = of::<MapData>(value(this)).open(&ruby)?.entries();
        let key = OwnedKey::of(&ruby, key)?;
        with_room(|room| match map.peek(&key.of_map(map), room) {
            Some((tag, _)) => load(&ruby, tag.into(), Bytes::Here(room)),
            None => Ok(other),
        })
    })
}

fn is_key(ruby: &Ruby, object: Value, key: Value) -> Result<bool, Error> {
    let map = of::<MapData>(object).open(ruby)?.entries();
    let key = OwnedKey::of(ruby, key.as_raw())?;
    Ok(with_room(|room| map.peek(&key.of_map(map), room)).is_some())
}

/// Seconds until an entry expires, or nil.
fn expires_in(ruby: &Ruby, object: Value, key: Value) -> Result<Option<f64>, Error> {
    let map = of::<MapData>(object).open(ruby)?.entries();
    let key = OwnedKey::of(ruby, key.as_raw())?;
    let found = with_room(|room| map.peek(&key.of_map(map), room));
    let left = |expiry: u64| expiry.saturating_sub(process_shared_core::map::now()) as f64 / 1e9;
    Ok(found.filter(|(_, expiry)| *expiry != 0).map(|(_, expiry)| left(expiry)))
}

unsafe extern "C" fn put(this: VALUE, key: VALUE, item: VALUE) -> VALUE {
    answer(|| {
        let ruby = ruby();
        match try_put(&ruby, this, key, item)? {
            true => {}
            false => store_item(&ruby, this, key, item, 0)?,
        }
        Ok(item)
    })
}

/// Stores a small plain value under a plain key, if that can be done at once.
#[inline]
fn try_put(ruby: &Ruby, this: VALUE, key: VALUE, item: VALUE) -> Result<bool, Error> {
    let map = of::<MapData>(value(this)).open(ruby)?.entries();
    let (Some(item), Some(thread)) = (Item::plain(item), thread::known()) else { return Ok(false) };
    // SAFETY: no Ruby code runs before the end of this function.
    let bytes = unsafe { item.bytes() };
    if bytes.len() > SMALL {
        return Ok(false);
    }
    let new = MapValue { tag: item.tag as u16, bytes, expiry: 0 };
    let stored = with_plain(map, key, |key| {
        map.change(&thread, key, Patience::Hasty, |shard| shard.put(key, &new)).is_ok()
    });
    Ok(stored == Some(true)) // all refusals are seen to by those who try again
}

fn store_item(ruby: &Ruby, this: VALUE, key: VALUE, item: VALUE, expiry: u64) -> Result<(), Error> {
    let map = of::<MapData>(value(this)).open(ruby)?.entries();
    let (key, item) = (OwnedKey::of(ruby, key)?, Item::of(item)?);
    // SAFETY: made by `Item::of`, and kept alive below.
    let bytes = unsafe { item.bytes() };
    let (key, new) = (key.of_map(map), MapValue { tag: item.tag as u16, bytes, expiry });
    let stored = change(ruby, value(this), &key, bytes.len(), |shard| shard.put(&key, &new));
    std::hint::black_box(&item);
    stored
}

/// `store(key, value, expires_in: nil)`
fn store(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let args = scan_args::<(Value, Value), (), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["expires_in"])?;
    let expiry = instant(ruby, keywords.optional.0)?;
    let (key, item) = args.required;
    store_item(ruby, object.as_raw(), key.as_raw(), item.as_raw(), expiry)?;
    Ok(item)
}

/// Whether `exchange` does what it is called for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Absent,
    Present,
    /// If the value is the one given.
    Same,
}

/// The value that must be there for `When::Same`.
enum Expected {
    Value(Item),
    /// As `peek_stored` has it. Marshal may write another value for the object that it has loaded.
    Stored(u16, Vec<u8>),
}

impl Expected {
    fn of(object: Value) -> Result<Expected, Error> {
        Item::of(object.as_raw()).map(Expected::Value)
    }

    /// # Safety
    /// As for `Item::bytes`.
    unsafe fn parts(&self) -> (u16, &[u8]) {
        match self {
            // SAFETY: the caller's promise.
            Expected::Value(item) => (item.tag as u16, unsafe { item.bytes() }),
            Expected::Stored(tag, bytes) => (*tag, bytes),
        }
    }
}

/// Puts or removes (without `new`) an entry under a condition. Whether it did, and what was there before.
fn exchange(
    ruby: &Ruby,
    object: Value,
    key: Value,
    new: Option<Value>,
    expires_in: Option<Value>,
    (when, expected): (When, Option<Expected>),
    wants_old: bool,
) -> Result<(bool, Option<VALUE>), Error> {
    let map = of::<MapData>(object).open(ruby)?.entries();
    let expiry = instant(ruby, expires_in)?;
    let key = OwnedKey::of(ruby, key.as_raw())?;
    let item = new.map(|new| Item::of(new.as_raw())).transpose()?;
    // SAFETY: made by `Item::of`, and kept alive below.
    let (bytes, expected_parts) = unsafe {
        (item.as_ref().map(|item| item.bytes()), expected.as_ref().map(|expected| expected.parts()))
    };
    let tag = item.as_ref().map_or(0, |item| item.tag as u16);
    let new = bytes.map(|bytes| MapValue { tag, bytes, expiry });
    let key = key.of_map(map);
    let mut old = Vec::new();
    let length = bytes.map_or(0, <[u8]>::len);
    let done = change(ruby, object, &key, length, |shard| {
        let found = shard.current(&key);
        let old_tag = match &found {
            Some(found) if wants_old => Some(shard.read(found, &mut old)?),
            found => found.as_ref().map(|_| 0),
        };
        let applies = match (when, &found, expected_parts) {
            (When::Always, ..) => true,
            (When::Absent, found, _) => found.is_none(),
            (When::Present, found, _) => found.is_some(),
            (When::Same, Some(found), Some((tag, bytes))) => shard.is(found, tag, bytes),
            (When::Same, ..) => false,
        };
        match (&new, &found) {
            _ if !applies => {}
            (Some(new), _) => shard.put(&key, new)?,
            (None, Some(found)) => shard.remove(found)?,
            (None, None) => {}
        }
        Ok((applies, old_tag))
    });
    std::hint::black_box((&item, &expected));
    let (applied, old_tag) = done?;
    let old =
        old_tag.filter(|_| wants_old).map(|tag| load(ruby, tag.into(), Bytes::Here(&old))).transpose()?;
    Ok((applied, old))
}

/// `key, value, expires_in: nil`
fn pair(args: &[Value]) -> Result<(Value, Value, Option<Value>), Error> {
    let args = scan_args::<(Value, Value), (), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["expires_in"])?;
    Ok((args.required.0, args.required.1, keywords.optional.0))
}

fn old_or_nil((_, old): (bool, Option<VALUE>)) -> Value {
    value(old.unwrap_or(NIL))
}

fn put_if_absent(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let (key, new, expires_in) = pair(args)?;
    exchange(ruby, object, key, Some(new), expires_in, (When::Absent, None), true).map(old_or_nil)
}

fn replace_if_exists(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let (key, new, expires_in) = pair(args)?;
    exchange(ruby, object, key, Some(new), expires_in, (When::Present, None), true).map(old_or_nil)
}

fn get_and_set(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let (key, new, expires_in) = pair(args)?;
    exchange(ruby, object, key, Some(new), expires_in, (When::Always, None), true).map(old_or_nil)
}

fn replace_pair(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let args = scan_args::<(Value, Value, Value), (), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["expires_in"])?;
    let (key, old, new) = args.required;
    let when = (When::Same, Some(Expected::of(old)?));
    exchange(ruby, object, key, Some(new), keywords.optional.0, when, false).map(|(applied, _)| applied)
}

/// `peek_stored(key)`: the value of a key and what the map has stored for it, which is for `exchange_stored`; or nil.
fn peek_stored(ruby: &Ruby, object: Value, key: Value) -> Result<Option<RArray>, Error> {
    let map = of::<MapData>(object).open(ruby)?.entries();
    let key = OwnedKey::of(ruby, key.as_raw())?;
    with_room(|room| {
        let Some((tag, _)) = map.peek(&key.of_map(map), room) else { return Ok(None) };
        let item = value(load(ruby, tag.into(), Bytes::Here(room))?);
        let stored = ruby.str_from_slice(&tag.to_ne_bytes());
        stored.cat(&room[..]);
        Ok(Some(ruby.ary_new_from_values(&[item, stored.as_value()])))
    })
}

/// `exchange_stored(key, stored, new, expires_in)`: puts `new` in place of what `peek_stored` found, or removes that if
/// `new` is nil. Whether it was still there.
fn exchange_stored(
    ruby: &Ruby,
    object: Value,
    key: Value,
    stored: RString,
    new: Value,
    expires_in: Value,
) -> Result<bool, Error> {
    // SAFETY: copied at once.
    let Some((tag, bytes)) = unsafe { stored.as_slice() }.split_first_chunk() else { return Ok(false) };
    let expected = Expected::Stored(u16::from_ne_bytes(*tag), bytes.to_vec());
    let new = Some(new).filter(|new| !new.is_nil());
    exchange(ruby, object, key, new, Some(expires_in), (When::Same, Some(expected)), false)
        .map(|(applied, _)| applied)
}

fn delete(ruby: &Ruby, object: Value, key: Value) -> Result<Value, Error> {
    exchange(ruby, object, key, None, None, (When::Present, None), true).map(old_or_nil)
}

fn delete_pair(ruby: &Ruby, object: Value, key: Value, old: Value) -> Result<bool, Error> {
    let when = (When::Same, Some(Expected::of(old)?));
    exchange(ruby, object, key, None, None, when, false).map(|(applied, _)| applied)
}

/// `touch(key, expires_in: nil)`
fn touch(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let args = scan_args::<(Value,), (), (), (), _, ()>(args)?;
    let keywords = get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["expires_in"])?;
    let expiry = instant(ruby, keywords.optional.0)?;
    let map = of::<MapData>(object).open(ruby)?.entries();
    let key = OwnedKey::of(ruby, args.required.0.as_raw())?;
    let key = key.of_map(map);
    change(ruby, object, &key, 0, |shard| match shard.current(&key) {
        Some(found) => shard.set_expiry(&key, &found, expiry).map(|()| true),
        None => Ok(false),
    })
}

/// What `increment` counts with.
#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn of(ruby: &Ruby, number: Value) -> Result<Number, Error> {
        if let Some(integer) = Integer::from_value(number) {
            return Ok(Number::Integer(integer.to_i64()?));
        }
        match magnus::Float::from_value(number) {
            Some(float) => Ok(Number::Float(float.to_f64())),
            None => Err(errors::wrong_type(ruby, number, "an Integer or Float")),
        }
    }

    fn of_word(tag: u32, word: u64) -> Option<Number> {
        match tag {
            FIXNUM => Some(Number::Integer(word as i64)),
            FLOAT => Some(Number::Float(f64::from_bits(word))),
            _ => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Integer(number) => number as f64,
            Number::Float(number) => number,
        }
    }

    /// `None` beyond 64 bits.
    fn plus(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Integer(one), Number::Integer(other)) => one.checked_add(other).map(Number::Integer),
            _ => Some(Number::Float(self.float() + other.float())),
        }
    }

    fn negated(self) -> Option<Number> {
        match self {
            Number::Integer(number) => number.checked_neg().map(Number::Integer),
            Number::Float(number) => Some(Number::Float(-number)),
        }
    }

    fn word(self) -> (u32, u64) {
        match self {
            Number::Integer(number) => (FIXNUM, number as u64),
            Number::Float(number) => (FLOAT, number.to_bits()),
        }
    }

    fn to_ruby(self, ruby: &Ruby) -> VALUE {
        match self {
            Number::Integer(number) => ruby.into_value(number).as_raw(),
            Number::Float(number) => ruby.into_value(number).as_raw(),
        }
    }
}

/// What an increment came to.
enum Counted {
    Now(Number),
    NoNumber,
    TooLarge,
}

/// Adds in one step to the number of a key.
fn count(
    shard: &process_shared_core::map::Critical<Thread>,
    key: &Key,
    by: Number,
    initial: Number,
    expiry: u64,
) -> Result<Counted, process_shared_core::map::Refusal> {
    let put = |number: Number, expiry| {
        let (tag, word) = number.word();
        shard.put(key, &MapValue { tag: tag as u16, bytes: &word.to_ne_bytes(), expiry })?;
        Ok(Counted::Now(number))
    };
    let Some(found) = shard.current(key) else {
        return match initial.plus(by) {
            Some(sum) => put(sum, expiry),
            None => Ok(Counted::TooLarge),
        };
    };
    let mut counted = Counted::NoNumber;
    let tag = tag_of(&found);
    shard.change_word(&found, |word| {
        let before = Number::of_word(tag, word)?;
        counted = before.plus(by).map_or(Counted::TooLarge, Counted::Now);
        match counted {
            Counted::Now(sum) if sum.word().0 == tag => Some(sum.word().1),
            _ => None,
        }
    })?;
    match counted {
        Counted::Now(sum) if sum.word().0 != tag => put(sum, shard.expiry(&found)),
        counted => Ok(counted),
    }
}

fn tag_of(found: &Found) -> u32 {
    found.head.tag.into()
}

fn counted(ruby: &Ruby, counted: Counted) -> Result<VALUE, Error> {
    match counted {
        Counted::Now(number) => Ok(number.to_ruby(ruby)),
        Counted::NoNumber => Err(Error::new(ruby.exception_type_error(), "the value is no Integer or Float")),
        Counted::TooLarge => {
            Err(Error::new(ruby.exception_range_error(), "the number would be beyond 64 bits"))
        }
    }
}

/// `key, by = 1, initial: 0, expires_in: nil`
fn increment_by(argc: c_int, argv: *const VALUE, this: VALUE, is_down: bool) -> Result<VALUE, Error> {
    // SAFETY: Ruby passes `argc` arguments.
    let args = unsafe { arguments(argc, argv, 0, usize::MAX)? };
    let ruby = ruby();
    let map = of::<MapData>(value(this)).open(&ruby)?.entries();
    let one = Number::Integer(if is_down { -1 } else { 1 });
    let plain = match args {
        [key] => Some((*key, one)),
        [key, by] if FIXNUM_P(*by) && !is_down => Some((*key, Number::Integer((*by as i64) >> 1))),
        _ => None,
    };
    if let (Some((key, by)), Some(thread)) = (plain, thread::known()) {
        let at_once = with_plain(map, key, |key| {
            map.change(&thread, key, Patience::Hasty, |shard| count(shard, key, by, Number::Integer(0), 0))
        });
        if let Some(Ok(done)) = at_once {
            return counted(&ruby, done);
        }
    }
    let args: Vec<Value> = args.iter().map(|arg| value(*arg)).collect();
    let args = scan_args::<(Value,), (Option<Value>,), (), (), _, ()>(&args)?;
    type Optional = (Option<Value>, Option<Value>);
    let keywords = get_kwargs::<_, (), Optional, ()>(args.keywords, &[], &["initial", "expires_in"])?;
    let number = |number: Option<Value>, other| number.map_or(Ok(other), |number| Number::of(&ruby, number));
    let by = number(args.optional.0, Number::Integer(1))?;
    let by = if is_down { by.negated() } else { Some(by) };
    let Some(by) = by else { return counted(&ruby, Counted::TooLarge) };
    let initial = number(keywords.optional.0, Number::Integer(0))?;
    let expiry = instant(&ruby, keywords.optional.1)?;
    let key = OwnedKey::of(&ruby, args.required.0.as_raw())?;
    let key = key.of_map(map);
    let done = change(&ruby, value(this), &key, 0, |shard| count(shard, &key, by, initial, expiry))?;
    counted(&ruby, done)
}

unsafe extern "C" fn increment(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    answer(|| increment_by(argc, argv, this, false))
}

unsafe extern "C" fn decrement(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    answer(|| increment_by(argc, argv, this, true))
}

fn size(ruby: &Ruby, object: Value) -> Result<u64, Error> {
    patiently(ruby, object, 0, |map, thread, patience| map.count(thread, patience))
}

fn clear(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    // It takes a while: never with the GVL.
    patiently(ruby, object, usize::MAX, |map, thread, patience| map.clear(thread, patience))?;
    Ok(object)
}

fn stats(ruby: &Ruby, object: Value) -> Result<RHash, Error> {
    let stats = of::<MapData>(object).open(ruby)?.entries().stats();
    let hash = ruby.hash_new();
    for (name, number) in [
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("stores", stats.stores),
        ("evictions", stats.evictions),
        ("expirations", stats.expirations),
        ("entries", stats.entries),
        ("bytes_used", stats.used),
        ("bytes_free", stats.free),
    ] {
        hash.aset(ruby.to_symbol(name), number)?;
    }
    Ok(hash)
}

fn bytes(ruby: &Ruby, object: Value) -> Result<u64, Error> {
    of::<MapData>(object).open(ruby).map(|map| map.entries().bytes())
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<MapData>(object).open(ruby).map(Map::waiters)
}

/// Values up to here are read without an allocation but Ruby's.
const SHORT: usize = 256;

/// How many entries `some` collects before it returns.
const AT_ONCE: usize = 256;
/// How many parts it looks at before it returns.
const PARTS: u64 = 10_000;

/// `some(part, with_values)`: keys, and values if they are wanted, from `part` on: [the next part or nil, keys, values].
fn some(ruby: &Ruby, object: Value, begin: u64, with_values: bool) -> Result<RArray, Error> {
    let map = of::<MapData>(object).open(ruby)?.entries();
    let (keys, values) = (ruby.ary_new(), ruby.ary_new());
    let end = map.parts().min(begin.saturating_add(PARTS));
    let mut part = begin;
    while part < end && keys.len() < AT_ONCE {
        for entry in map.visit(part, with_values) {
            keys.push(value(load_key(ruby, entry.class, entry.form, &entry.key)?))?;
            if with_values {
                values.push(value(load(ruby, entry.tag.into(), Bytes::Here(&entry.value))?))?;
            }
        }
        part += 1;
    }
    let next = (part < map.parts()).then_some(part);
    Ok(ruby.ary_new_from_values(&[ruby.into_value(next), keys.as_value(), values.as_value()]))
}

/// Refuses a handle that cannot be used.
fn check(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<MapData>(object).check(ruby).map(|()| true)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let process_error = ruby.get_inner(&errors::PROCESS_ERROR);
    FULL_ERROR.set(ruby, classes::define_error(module, "FullError", process_error)?)?;
    let class = object::define_class::<MapData>(module, "Map", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    define(class, "[]", get as Method1)?;
    define(class, "get", get as Method1)?;
    define(class, "[]=", put as Method2)?;
    define(class, "increment", increment as MethodN)?;
    define(class, "decrement", decrement as MethodN)?;
    define_private(class, "read_or", read_or as Method2)?;
    define_private(class, "peek_or", peek_or as Method2)?;
    class.define_private_method("peek_stored", method!(peek_stored, 1))?;
    class.define_private_method("exchange_stored", method!(exchange_stored, 4))?;
    define_private(class, "computing", map_computing::computing as Method1)?;
    class.define_method("store", method!(store, -1))?;
    class.define_method("key?", method!(is_key, 1))?;
    class.define_method("expires_in", method!(expires_in, 1))?;
    class.define_method("put_if_absent", method!(put_if_absent, -1))?;
    class.define_method("replace_if_exists", method!(replace_if_exists, -1))?;
    class.define_method("get_and_set", method!(get_and_set, -1))?;
    class.define_method("replace_pair", method!(replace_pair, -1))?;
    class.define_method("delete", method!(delete, 1))?;
    class.define_method("delete_pair", method!(delete_pair, 2))?;
    class.define_method("touch", method!(touch, -1))?;
    class.define_method("size", method!(size, 0))?;
    class.define_method("clear", method!(clear, 0))?;
    class.define_method("stats", method!(stats, 0))?;
    class.define_method("bytes", method!(bytes, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_private_method("some", method!(some, 2))?;
    class.define_private_method("check", method!(check, 0))?;
    Ok(class.define_private_method("watch_mark", method!(map_computing::watch_mark, 3))?)
}

pub fn init_cache(class: RClass) -> Result<(), Error> {
    Ok(class.define_method("initialize", method!(initialize_cache, -1))?)
}
