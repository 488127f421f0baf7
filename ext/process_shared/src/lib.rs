//! The Ruby binding of `process_shared_core`: one file per Ruby class, each with its `init`.

mod bind;
mod condition_variable;
mod data;
mod errors;
#[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
mod exec;
#[cfg(any(target_os = "macos", feature = "simulated-mach"))]
mod handover;
mod interrupts;
#[cfg(any(target_os = "macos", feature = "simulated-mach"))]
mod mach;
mod memory;
mod monitor;
#[cfg_attr(not(target_os = "linux"), path = "immovable.rs")]
mod movable;
mod mutex;
mod nogvl;
mod scheduled;
mod section;
mod semaphore;
mod semaphore_mutex;
mod thread;
mod timeout;
mod waiting;

use data::Data;
use magnus::Ruby;

use crate::errors::Error;

static TYPES: [&data::DataType; 4] = [
    mutex::MutexData::TYPE,
    semaphore::SemaphoreData::TYPE,
    semaphore_mutex::SemaphoreMutexData::TYPE,
    condition_variable::ConditionVariableData::TYPE,
];

#[magnus::init(name = "process_shared")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    // SAFETY: no precondition; it marks the methods defined from here on as callable from any Ractor.
    unsafe { rb_sys::rb_ext_ractor_safe(true) };
    process_shared_core::init();
    errors::init(ruby);
    let module = ruby.get_inner(&errors::MODULE);
    thread::init(module)?;
    #[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
    exec::init(module)?;
    nogvl::init(module)?;
    let mutex = mutex::init(ruby, module)?;
    monitor::init(ruby, module, mutex)?;
    semaphore::init(ruby, module)?;
    semaphore_mutex::init(ruby, module)?;
    condition_variable::init(ruby, module)?;
    data::leave_to_system(&TYPES);
    #[cfg(any(target_os = "macos", feature = "simulated-mach"))]
    {
        handover::init(ruby, module)?;
        mach::init(ruby, module)?;
    }
    memory::init(ruby)
}
