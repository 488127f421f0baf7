//! Locks and memory shared between forked processes. No Ruby in it: the binding is `ext/process_shared`.

pub mod error;

pub use error::{Error, Result};
