//! Numbers and flags that processes change in one step each: a word of shared memory, in a slot of its own or anywhere.
//!
//! | word          | of an `AtomicFixnum`              | of an `AtomicBoolean` |
//! |---------------|-----------------------------------|-----------------------|
//! | 0             | 0                                 | false                 |
//! | anything else | the number, signed, of 64 bits    | true                  |
//!
//! There is no state in between, so a process can die anywhere. Each change is one compare-and-exchange. The processor's
//! addition would not do: it goes round at the ends of the range, and a look at the number beforehand does not help, since
//! another process may store a number near an end in between. Where nobody else is at the word, both instructions take the
//! same time.
//!
//! Memory order: a number or flag that is read sees what came before the change that made it.

use super::SharedObject;
use crate::arena::Slot;
use crate::error::{Error, Result};
use std::any::Any;
use std::fmt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::*};

/// The result would not be a signed number of 64 bits; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// What keeps a word mapped.
enum Home {
    Slot(Slot),
    /// Memory of somebody else's.
    #[allow(dead_code)] // it is there to be dropped
    Memory(Box<dyn Any + Send + Sync>),
}

/// A signed number of 64 bits.
pub struct AtomicFixnum {
    word: NonNull<AtomicI64>,
    home: Home,
}

// SAFETY: the word is an atomic in shared memory, which `home` keeps mapped.
unsafe impl Send for AtomicFixnum {}
// SAFETY: as above.
unsafe impl Sync for AtomicFixnum {}

impl fmt::Debug for AtomicFixnum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtomicFixnum({})", self.value())
    }
}

impl AtomicFixnum {
    /// A number in a slot of its own.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(value: i64) -> Result<Self> {
        let number = Self::in_slot(Slot::new()?);
        number.set(value);
        Ok(number)
    }

    /// The number in the file at `path`, of `class`: opened, as it is, or made with `mode` and `value`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, value: i64) -> Result<Self> {
        // SAFETY: the slot of a number, which is mapped as long as this runs.
        let start = |slot: NonNull<u8>| unsafe { slot.cast::<AtomicI64>().as_ref() }.store(value, Relaxed);
        Slot::in_file(path, mode, class, "", start, |_| {}).map(Self::in_slot)
    }

    fn in_slot(slot: Slot) -> Self {
        // SAFETY: this slot is that of an AtomicFixnum. All zeroes is the number 0.
        let word = NonNull::from(unsafe { slot.at::<AtomicI64>(0) });
        AtomicFixnum { word, home: Home::Slot(slot) }
    }

    /// The number in the 8 bytes at `address`, which are mapped as long as `memory` lives.
    ///
    /// # Safety
    /// That is so, and other processes may change them at any time.
    ///
    /// # Errors
    /// `Invalid` if the address is no multiple of 8.
    pub unsafe fn at(address: NonNull<u8>, memory: impl Any + Send + Sync) -> Result<Self> {
        let word = address.cast::<AtomicI64>();
        if !word.is_aligned() {
            return Err(Error::Invalid(
                "an atomic number needs an offset that is a multiple of 8".to_owned(),
            ));
        }
        Ok(AtomicFixnum { word, home: Home::Memory(Box::new(memory)) })
    }

    #[inline]
    fn word(&self) -> &AtomicI64 {
        // SAFETY: aligned, and mapped as long as `home` lives; every other access here is atomic.
        unsafe { self.word.as_ref() }
    }

    /// Whether it is in memory of somebody else's.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.home, Home::Memory(_))
    }

    #[inline]
    pub fn value(&self) -> i64 {
        self.word().load(Acquire)
    }

    #[inline]
    pub fn set(&self, value: i64) {
        self.word().store(value, Release);
    }

    /// Adds `delta`, and returns the sum.
    ///
    /// # Errors
    /// `OutOfRange`.
    #[inline]
    pub fn add(&self, delta: i64) -> std::result::Result<i64, OutOfRange> {
        self.change(|value| value.checked_add(delta))
    }

    /// Subtracts `delta`, and returns the difference.
    ///
    /// # Errors
    /// `OutOfRange`.
    #[inline]
    pub fn subtract(&self, delta: i64) -> std::result::Result<i64, OutOfRange> {
        self.change(|value| value.checked_sub(delta))
    }

    #[inline(always)]
    fn change(&self, next: impl Fn(i64) -> Option<i64>) -> std::result::Result<i64, OutOfRange> {
        let mut value = self.word().load(Relaxed);
        loop {
            let next = next(value).ok_or(OutOfRange)?;
            match self.word().compare_exchange(value, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(next),
                Err(now) => value = now,
            }
        }
    }

    /// Makes it `update` if it is `expect`, and tells whether it was.
    #[inline]
    pub fn compare_and_set(&self, expect: i64, update: i64) -> bool {
        self.word().compare_exchange(expect, update, AcqRel, Acquire).is_ok()
    }
}

impl SharedObject for AtomicFixnum {
    #[inline]
    fn is_accessible(&self) -> bool {
        match &self.home {
            Home::Slot(slot) => slot.is_accessible(),
            Home::Memory(_) => true,
        }
    }
}

/// True or false.
#[derive(Debug)]
pub struct AtomicBoolean(Slot);

impl AtomicBoolean {
    /// A flag.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(value: bool) -> Result<Self> {
        let flag = AtomicBoolean(Slot::new()?);
        flag.make(value);
        Ok(flag)
    }

    /// The flag in the file at `path`, of `class`: opened, as it is, or made with `mode` and `value`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, value: bool) -> Result<Self> {
        let value = u64::from(value);
        // SAFETY: the slot of a flag, which is mapped as long as this runs.
        let start = |slot: NonNull<u8>| unsafe { slot.cast::<AtomicU64>().as_ref() }.store(value, Relaxed);
        Slot::in_file(path, mode, class, "", start, |_| {}).map(AtomicBoolean)
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: this slot is that of an AtomicBoolean. All zeroes is false.
        unsafe { self.0.at(0) }
    }

    #[inline]
    pub fn value(&self) -> bool {
        self.word().load(Acquire) != 0
    }

    /// Makes it `value`, and tells whether it was not.
    #[inline]
    pub fn make(&self, value: bool) -> bool {
        (self.word().swap(u64::from(value), AcqRel) != 0) != value
    }
}

impl SharedObject for AtomicBoolean {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}
