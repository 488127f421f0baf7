//! The end of the process. Ruby frees every object that still lives; ours need not be: the kernel takes all memory back,
//! and hands on the locks that are held, much faster. A process forked with many locks would spend its last milliseconds
//! on them.
//!
//! Ruby skips its own mutexes when it frees what lives at the end. So the last thing before that is to make our types pass
//! for a kind of Thread::Mutex. Ruby runs the finalizers that are left right before it frees, after `at_exit` and other
//! threads: a finalizer does it.

use rb_sys::VALUE;
use rb_sys::stable_api::{StableApiDefinition, get_default as api};
use std::sync::OnceLock;

use crate::typed_data::DataType;

static TYPES: OnceLock<&'static [fn() -> &'static DataType]> = OnceLock::new();

/// Leaves the objects of `types` to the system when the process ends.
pub fn init(types: &'static [fn() -> &'static DataType]) {
    unsafe extern "C" fn spare(_: VALUE, mutex: VALUE, _: i32, _: *const VALUE, _: VALUE) -> VALUE {
        // SAFETY: a Thread::Mutex, which is typed data.
        let parent = unsafe { api().rtypeddata_type(mutex) };
        TYPES.get().into_iter().copied().flatten().for_each(|data_type| data_type().spare(parent));
        rb_sys::Qnil as VALUE
    }
    if TYPES.set(types).is_ok() {
        // SAFETY: `spare` has the signature of a block; the mutex is kept for ever.
        unsafe {
            let mutex = rb_sys::rb_mutex_new();
            rb_sys::rb_gc_register_mark_object(mutex);
            rb_sys::rb_define_finalizer(mutex, rb_sys::rb_proc_new(Some(spare), mutex));
        }
    }
}
