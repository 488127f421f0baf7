//! What the classes of shared objects have in common: an object is a handle of this process, and is not initialized, open
//! or closed. Here are the methods that all have (`close`, `closed?`, `inspect`, `to_s`, and that they cannot be copied),
//! and the answers for a handle that cannot be used.
//!
//! A new class implements `Object` for its data, which holds a `Shared`, and calls `define_class` in its `init`.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue};
use process_shared_core::{Error as CoreError, SharedObject};
use rb_sys::VALUE;

use crate::close_wakeups;
use crate::errors::{self, Error};
use crate::path::{self, Location};
use crate::raw_methods::{self, Method0, NIL, answer, boolean, ruby, value};
use crate::typed_data::{self, Data};

/// The core's handle of a thing that processes share: set once, closed at most once.
pub struct Shared<T> {
    state: AtomicU8,
    /// For the class's own use: which of the classes with such data the object is of.
    pub kind: AtomicU8,
    core: UnsafeCell<MaybeUninit<T>>,
}

const EMPTY: u8 = 0; // not initialized
const FILLING: u8 = 1; // being initialized
const OPEN: u8 = 2;
const CLOSED: u8 = 3;

// SAFETY: `core` is written once, before OPEN is stored, and only read after OPEN or CLOSED has been seen.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared {
            state: AtomicU8::new(EMPTY),
            kind: AtomicU8::new(0),
            core: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() >= OPEN {
            // SAFETY: it was written, see `Sync`, and nobody else is here.
            unsafe { self.core.get_mut().assume_init_drop() };
        }
    }
}

impl<T: SharedObject> Shared<T> {
    /// Sets the handle; false if there is one already.
    #[inline]
    pub fn set(&self, core: T) -> bool {
        let first = self.state.compare_exchange(EMPTY, FILLING, Relaxed, Relaxed).is_ok();
        if first {
            // SAFETY: only one caller gets here, and nobody reads before OPEN.
            unsafe { (*self.core.get()).write(core) };
            self.state.store(OPEN, Release);
        }
        first
    }

    /// The handle, once there is one, also if it is closed or out of reach.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: OPEN and CLOSED follow the write.
        (self.state.load(Acquire) >= OPEN).then(|| unsafe { (*self.core.get()).assume_init_ref() })
    }

    /// The handle, if this process can use it, also if it is closed: for a holder that gives something back.
    #[inline]
    pub fn reached(&self) -> Option<&T> {
        self.get().filter(|core| core.is_accessible())
    }

    /// The handle, if it is open and this process can use it.
    #[inline]
    pub fn usable(&self) -> Option<&T> {
        // SAFETY: OPEN follows the write.
        let open =
            (self.state.load(Acquire) == OPEN).then(|| unsafe { (*self.core.get()).assume_init_ref() });
        open.filter(|core| core.is_accessible())
    }

    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state.load(Relaxed) == CLOSED
    }

    fn close(&self) {
        let _ = self.state.compare_exchange(OPEN, CLOSED, Relaxed, Relaxed);
    }
}

/// The data of a class of shared objects.
pub trait Object: Data {
    type Core: SharedObject;

    /// Whether an object can have a path.
    const TAKES_PATH: bool = false;

    fn shared(&self) -> &Shared<Self::Core>;

    /// The name of the class, for messages.
    fn class_name(&self) -> &'static str;

    /// The state of an open object, for `inspect`.
    fn describe(&self, core: &Self::Core) -> String;

    /// What `close` does first, with the handle still open.
    fn before_close(&self, _: &Ruby) -> Result<(), Error> {
        Ok(())
    }

    /// Ends `initialize` of `object`: makes the thing with `make`, or opens it where it is with `open`, which gets the path and
    /// the mode.
    fn initialize(
        &self,
        ruby: &Ruby,
        object: Value,
        location: Option<&Location>,
        make: impl FnOnce() -> Result<Self::Core, CoreError>,
        open: impl Fn(&Path, u32) -> Result<Self::Core, CoreError>,
    ) -> Result<(), Error> {
        refuse_block(ruby, object)?;
        self.initialize_with_block(ruby, object, location, make, open)
    }

    /// The same for a class whose `new` takes a block.
    fn initialize_with_block(
        &self,
        ruby: &Ruby,
        object: Value,
        location: Option<&Location>,
        make: impl FnOnce() -> Result<Self::Core, CoreError>,
        open: impl Fn(&Path, u32) -> Result<Self::Core, CoreError>,
    ) -> Result<(), Error> {
        let Some(location) = location else { return self.initialized(ruby, make()) };
        if self.shared().get().is_some() {
            return Err(errors::already_initialized(ruby, self.class_name()));
        }
        let core = location.open(ruby, open)?;
        path::remember(object, Some(location))?;
        self.initialized(ruby, Ok(core))
    }

    /// The same for what has no path.
    fn initialized(&self, ruby: &Ruby, core: Result<Self::Core, CoreError>) -> Result<(), Error> {
        let core = core.map_err(|error| errors::to_ruby(ruby, error))?;
        if self.shared().set(core) {
            Ok(())
        } else {
            Err(errors::already_initialized(ruby, self.class_name()))
        }
    }

    /// The shared thing, unless this handle cannot be used.
    fn open(&self, ruby: &Ruby) -> Result<&Self::Core, Error> {
        let reached = || self.shared().get().map(SharedObject::is_accessible);
        self.shared().usable().ok_or_else(|| errors::unusable(ruby, self.class_name(), reached()))
    }

    /// Refuses a handle that cannot be used.
    fn check(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby).map(|_| ())
    }

    /// Refuses a handle that is not initialized.
    fn check_initialized(&self, ruby: &Ruby) -> Result<(), Error> {
        match self.shared().get() {
            Some(_) => Ok(()),
            None => Err(errors::not_initialized(ruby, self.class_name())),
        }
    }
}

unsafe extern "C" fn close<T: Object>(this: VALUE) -> VALUE {
    answer(|| {
        let (object, ruby) = (value(this), ruby());
        let data = typed_data::of::<T>(object);
        data.check_initialized(&ruby)?;
        data.before_close(&ruby)?;
        data.shared().close();
        close_wakeups::wake(object);
        Ok(NIL)
    })
}

unsafe extern "C" fn is_closed<T: Object>(this: VALUE) -> VALUE {
    answer(|| {
        let (data, ruby) = (typed_data::of::<T>(value(this)), ruby());
        data.check_initialized(&ruby)?;
        Ok(boolean(data.shared().is_closed()))
    })
}

/// Where it is.
unsafe extern "C" fn path_of<T: Object>(this: VALUE) -> VALUE {
    answer(|| {
        typed_data::of::<T>(value(this)).check(&ruby())?;
        Ok(path::of(value(this))?.as_raw())
    })
}

unsafe extern "C" fn inspect<T: Object>(this: VALUE) -> VALUE {
    answer(|| {
        let data = typed_data::of::<T>(value(this));
        let state = match (data.shared().get(), data.shared().usable()) {
            (None, _) => "not initialized".to_owned(),
            (_, Some(core)) => data.describe(core),
            _ if data.shared().is_closed() => "closed".to_owned(),
            _ => "out of reach".to_owned(),
        };
        Ok(ruby().str_new(&format!("#<{} {state}>", errors::class_name(value(this)))).as_raw())
    })
}

/// Refuses `dup` and `clone`: the object is the shared thing.
fn initialize_copy(ruby: &Ruby, object: Value, _: Value) -> Result<(), Error> {
    let class = errors::class_name(object);
    let text = format!(
        "can't copy {class}: the object is what is shared; make it before the fork, and the child has it"
    );
    Err(Error::new(ruby.exception_type_error(), text))
}

/// Refuses a block given to `new`: the caller means `open`. A subclass may have an `initialize` of its own that takes one.
///
/// # Errors
/// `ArgumentError`.
pub fn refuse_block(ruby: &Ruby, object: Value) -> Result<(), Error> {
    // SAFETY: called within a method.
    if unsafe { rb_sys::rb_block_given_p() } == 0 {
        return Ok(());
    }
    let initialize: Value = object.funcall("method", (ruby.to_symbol("initialize"),))?;
    let owner: RClass = initialize.funcall("owner", ())?;
    // SAFETY: the name is copied at once.
    if !unsafe { owner.name() }.starts_with("ProcessShared::") {
        return Ok(());
    }
    let class = errors::class_name(object);
    Err(Error::new(ruby.exception_arg_error(), format!("{class}.new takes no block: {class}.open does")))
}

/// Defines a class of shared objects in `ProcessShared`.
pub fn define_class<T: Object>(module: RModule, name: &str, superclass: RClass) -> Result<RClass, Error> {
    define_class_with::<T>(module, name, superclass, ["close", "closed?"])
}

/// The same for a class with other names for `close` and `closed?`.
pub fn define_class_with<T: Object>(
    module: RModule,
    name: &str,
    superclass: RClass,
    [end, has_ended]: [&str; 2],
) -> Result<RClass, Error> {
    let class = crate::classes::define(module, name, superclass)?;
    // SAFETY: `allocate` makes objects of this class, around a `T`.
    unsafe { rb_sys::rb_define_alloc_func(class.as_raw(), Some(typed_data::allocate::<T>)) };
    if superclass.as_raw() != ruby().class_object().as_raw() {
        return Ok(class); // inherits the rest
    }
    class.define_private_method("initialize_copy", method!(initialize_copy, 1))?;
    raw_methods::define(class, end, close::<T> as Method0)?;
    raw_methods::define(class, has_ended, is_closed::<T> as Method0)?;
    if T::TAKES_PATH {
        raw_methods::define(class, "path", path_of::<T> as Method0)?;
    }
    raw_methods::define(class, "inspect", inspect::<T> as Method0)?;
    raw_methods::define(class, "to_s", inspect::<T> as Method0)?;
    Ok(class)
}
