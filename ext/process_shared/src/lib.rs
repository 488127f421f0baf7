//! The Ruby binding of `process_shared_core`: one file per Ruby class, each with its `init`.

mod errors;

use magnus::{Error, Ruby};

#[magnus::init(name = "process_shared")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    // SAFETY: no precondition; it marks the methods defined from here on as callable from any Ractor.
    unsafe { rb_sys::rb_ext_ractor_safe(true) };
    errors::init(ruby);
    Ok(())
}
