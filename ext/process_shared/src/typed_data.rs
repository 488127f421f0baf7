//! Rust structs inside Ruby objects, for the classes whose methods must cost next to nothing.
//!
//! `allocate` makes an object around `T::default()`, which stands for "not initialized yet"; every method has to
//! refuse that state. The structs hold atomics and write-once cells only, so they may be used from several Ractors.

use magnus::{Value, rb_sys::AsRawValue};
use rb_sys::stable_api::{StableApiDefinition, get_default as api};
use rb_sys::{VALUE, rb_check_typeddata, rb_data_type_t, rb_data_typed_object_wrap};
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_void};

/// `rb_data_type_t`, which Ruby never writes to.
pub struct DataType(UnsafeCell<rb_data_type_t>);

// SAFETY: nothing changes it but `spare`, when the process is about to end and has one thread left.
unsafe impl Sync for DataType {}

/// A struct that lives in a Ruby object. `data_type!` writes its `TYPE`.
pub trait Data: Default + Sync + 'static {
    fn data_type() -> &'static DataType;

    /// Whether several Ractors may use a frozen object at once.
    const SHAREABLE: bool = true;

    /// Marks the Ruby objects that the struct refers to, pinned.
    fn mark(&self) {}

    /// Bytes outside the object and the struct.
    fn extra_size(&self) -> usize {
        0
    }
}

/// The `data_type` of a `Data`, with its name for error messages. A function, because in Rust 1.85 no constant may refer
/// to a static that has a cell in it.
#[macro_export]
macro_rules! data_type {
    ($data:ty, $name:literal) => {
        #[inline(always)]
        fn data_type() -> &'static $crate::typed_data::DataType {
            static TYPE: $crate::typed_data::DataType = $crate::typed_data::DataType::of::<$data>($name);
            &TYPE
        }
    };
}

impl DataType {
    /// The type for `T`, with a name for error messages.
    pub const fn of<T: Data>(name: &'static CStr) -> Self {
        // SAFETY: plain C data, for which all zeroes says "nothing here".
        let mut data_type: rb_data_type_t = unsafe { std::mem::zeroed() };
        data_type.wrap_struct_name = name.as_ptr();
        data_type.function.dmark = Some(mark::<T>);
        data_type.function.dfree = Some(free::<T>);
        data_type.function.dsize = Some(size::<T>);
        data_type.flags = (rb_sys::rbimpl_typeddata_flags::RUBY_TYPED_FREE_IMMEDIATELY as u32
            | rb_sys::rbimpl_typeddata_flags::RUBY_TYPED_WB_PROTECTED as u32)
            as VALUE;
        if T::SHAREABLE {
            data_type.flags |= rb_sys::rbimpl_typeddata_flags::RUBY_TYPED_FROZEN_SHAREABLE as u32 as VALUE;
        }
        DataType(UnsafeCell::new(data_type))
    }

    const fn as_ptr(&self) -> *const rb_data_type_t {
        self.0.get()
    }

    /// Makes Ruby skip the objects of this type when the process ends: they have nothing to free, and they pass for a kind
    /// of `parent`, which Ruby does not even write to then. In a forked process each write would copy a page.
    pub fn spare(&self, parent: *const rb_data_type_t) {
        // SAFETY: as for `Sync`; both fields may be empty or set in any type. No method of a Thread::Mutex can be called
        // on these objects, whose class is another.
        unsafe {
            (*self.0.get()).function.dfree = None;
            (*self.0.get()).parent = parent;
        }
    }
}

unsafe extern "C" fn mark<T: Data>(data: *mut c_void) {
    // SAFETY: Ruby passes what `allocate` wrapped.
    unsafe { &*data.cast::<T>() }.mark();
}

unsafe extern "C" fn free<T: Data>(data: *mut c_void) {
    // SAFETY: what `allocate` leaked, and Ruby is done with it.
    drop(unsafe { Box::from_raw(data.cast::<T>()) });
}

unsafe extern "C" fn size<T: Data>(data: *const c_void) -> rb_sys::size_t {
    // SAFETY: as in `mark`.
    (size_of::<T>() + unsafe { &*data.cast::<T>() }.extra_size()) as rb_sys::size_t
}

/// The allocation function for a class of such objects.
pub unsafe extern "C" fn allocate<T: Data>(class: VALUE) -> VALUE {
    // SAFETY: Ruby passes a class.
    unsafe { wrap(class, T::default()) }
}

/// A new object of `class` around `data`.
///
/// # Safety
/// The class is one whose objects hold such data.
pub unsafe fn wrap<T: Data>(class: VALUE, data: T) -> VALUE {
    let data = Box::into_raw(Box::new(data));
    // SAFETY: `data` is what the functions of `T::data_type()` expect.
    unsafe { rb_data_typed_object_wrap(class, data.cast(), T::data_type().as_ptr()) }
}

/// `object`'s struct. For functions bound with `method!`, which have nothing to drop yet.
pub fn of<'a, T: Data>(object: Value) -> &'a T {
    // SAFETY: called first thing in a method, whose receiver stays alive while it runs.
    unsafe { get(object.as_raw()) }
}

/// The struct in the receiver of a method. Raises (by a jump) `TypeError` if it has none of this type.
///
/// # Safety
/// `object` is of a class whose objects hold such data, or of a subclass. No frame between here and Ruby has anything to
/// drop; the result is used only while `object` is alive.
#[inline]
pub unsafe fn get<'a, T: Data>(object: VALUE) -> &'a T {
    // SAFETY: a checked object holds what `allocate` put there. The first check spares nearly all calls the second,
    // which knows subtypes too and is a call into Ruby.
    unsafe {
        let data = if has_type(object, T::data_type().as_ptr()) {
            api().rtypeddata_get_data(object)
        } else {
            rb_check_typeddata(object, T::data_type().as_ptr())
        };
        &*data.cast::<T>()
    }
}

/// Whether the receiver of a method holds data of just this type. Its class does not tell: `Marshal.load` can turn a T_DATA
/// object into one of another T_DATA class, if a program defines `_load_data` (type 'C', r_object_for in marshal.c).
///
/// # Safety
/// `object` is T_DATA. An untyped one has a function of C code in this field, which equals no type.
#[inline(always)]
pub unsafe fn has_type(object: VALUE, data_type: *const rb_data_type_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::eq(api().rtypeddata_type(object), data_type) }
}

/// The struct in `object`, if it has one of this type.
pub fn find<'a, T: Data>(object: VALUE) -> Option<&'a T> {
    // SAFETY: any VALUE may be asked for its type; a yes means it holds what `allocate` put there.
    unsafe {
        let special =
            rb_sys::SPECIAL_CONST_P(object) || rb_sys::RB_BUILTIN_TYPE(object) != rb_sys::RUBY_T_DATA;
        (!special && rb_sys::rb_typeddata_is_kind_of(object, T::data_type().as_ptr()) != 0)
            .then(|| get(object))
    }
}
