//! The atomic types of the protocols: the processor's, or those of the model checker (`--cfg loom`).

#[cfg(loom)]
pub use crate::platform::{AtomicU32, AtomicU64};
#[cfg(loom)]
pub use loom::sync::atomic::{Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
