//! The Ruby binding of `process_shared_core`: one file per Ruby class, each with its `init`.
//!
//! A new class of shared objects is a file like `condition_variable.rs`, which implements `object::Object`, and a line in
//! `classes!`. A lock to wait for conditions with also implements `lock::Lock`, and stands in `LOCKS`.

mod acquire;
mod classes;
mod close_wakeups;
mod condition_wait;
mod errors;
#[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
mod exec;
mod fiber_scheduler;
#[cfg(any(target_os = "macos", feature = "simulated-mach"))]
mod handover;
mod interrupts;
mod leave_to_system;
mod lock;
#[cfg(any(target_os = "macos", feature = "simulated-mach"))]
mod mach;
mod map_changes;
mod map_computing;
mod map_keys;
mod memory;
mod migrating_thread;
mod nogvl;
mod object;
mod owner;
mod path;
mod permits;
mod queue_block;
mod queue_items;
mod queue_taking;
mod ractor;
mod raw_methods;
mod repair;
mod synchronize;
mod thread;
mod timeout;
mod trap_context;
mod typed_data;
mod wakeup;

use magnus::{RModule, Ruby};

use crate::errors::Error;
use crate::typed_data::{Data, DataType};

/// Declares the file of each class, lists the types of their data, and defines `init_classes`, which calls their `init`.
macro_rules! classes {
    ($($(#[$condition:meta])* $file:ident: $data:path,)*) => {
        $($(#[$condition])* mod $file;)*

        static TYPES: &[fn() -> &'static DataType] = &[$($(#[$condition])* { <$data>::data_type }),*];

        fn init_classes(ruby: &Ruby, module: RModule) -> Result<(), Error> {
            $($(#[$condition])* $file::init(ruby, module)?;)*
            Ok(())
        }
    };
}

// The classes of shared objects and their data, each after its superclass.
classes! {
    mutex: mutex::MutexData,
    monitor: mutex::MutexData,
    semaphore: semaphore::SemaphoreData,
    binary_semaphore: semaphore::SemaphoreData,
    semaphore_mutex: semaphore_mutex::SemaphoreMutexData,
    condition_variable: condition_variable::ConditionVariableData,
    event: event::EventData,
    atomic_fixnum: atomic_fixnum::AtomicFixnumData,
    atomic_boolean: atomic_boolean::AtomicBooleanData,
    count_down_latch: count_down_latch::CountDownLatchData,
    cyclic_barrier: cyclic_barrier::CyclicBarrierData,
    presence: presence::PresenceData,
    rate_limiter: rate_limiter::RateLimiterData,
    read_write_lock: read_write_lock::ReadWriteLockData,
    queue: queue::QueueData,
    sized_queue: queue::QueueData,
    map: map::MapData,
    cache: map::MapData,
}

/// The locks that ConditionVariable#wait knows.
static LOCKS: [lock::Find; 2] =
    [lock::of::<mutex::MutexData>, lock::of::<semaphore_mutex::SemaphoreMutexData>];

#[magnus::init(name = "process_shared")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    // SAFETY: no precondition; it marks the methods defined from here on as callable from any Ractor.
    unsafe { rb_sys::rb_ext_ractor_safe(true) };
    process_shared_core::init();
    errors::init(ruby)?;
    let module = ruby.get_inner(&errors::MODULE);
    ractor::init();
    thread::init(module)?;
    #[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
    exec::init(module)?;
    wakeup::init(module)?;
    trap_context::init();
    owner::init();
    init_classes(ruby, module)?;
    lock::init(&LOCKS);
    leave_to_system::init(TYPES);
    #[cfg(any(target_os = "macos", feature = "simulated-mach"))]
    {
        handover::init(ruby, module)?;
        mach::init(ruby, module)?;
    }
    memory::init(ruby)
}
