//! Which boot of the machine this is, and which PID namespace this process is in: thread numbers in a file mean something
//! only within both.
//!
//! Both are asked for once. Several threads may do so at a time, and get the same answer: there is no lock that a fork
//! could copy. A process stays in its namespace for life, but its children can be born in another.

use super::header::BOOT_BYTES;
use super::system;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub boot: [u8; BOOT_BYTES],
    pub namespace: u64,
}

static KNOWN: AtomicBool = AtomicBool::new(false);
static BOOT: [AtomicU64; BOOT_BYTES / 8] = [const { AtomicU64::new(0) }; BOOT_BYTES / 8];
static NAMESPACE: AtomicU64 = AtomicU64::new(0);

impl Machine {
    /// Where this process is.
    ///
    /// # Errors
    /// `System` where /proc does not tell.
    pub fn current() -> Result<Machine> {
        if !KNOWN.load(Acquire) {
            let machine = Self::ask()?;
            for (bytes, word) in machine.boot.chunks_exact(8).zip(&BOOT) {
                word.store(
                    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
                    Relaxed,
                );
            }
            NAMESPACE.store(machine.namespace, Relaxed);
            KNOWN.store(true, Release); // pairs with the load above
            return Ok(machine);
        }
        let mut boot = [0; BOOT_BYTES];
        for (bytes, word) in boot.chunks_exact_mut(8).zip(&BOOT) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Ok(Machine { boot, namespace: NAMESPACE.load(Relaxed) })
    }

    fn ask() -> Result<Machine> {
        let namespace =
            system::pid_namespace().map_err(|error| Error::io("look at /proc/self/ns/pid", &error))?;
        let text = system::boot_id().map_err(|error| Error::io("read the machine's boot id", &error))?;
        let text = text.trim().as_bytes();
        if text.is_empty() || text.len() > BOOT_BYTES {
            return Err(Error::System { attempt: "read the machine's boot id", errno: libc::ENOTSUP });
        }
        let mut boot = [0; BOOT_BYTES];
        boot[..text.len()].copy_from_slice(text);
        Ok(Machine { boot, namespace })
    }
}

/// In a forked child: it may be elsewhere.
pub fn forget() {
    KNOWN.store(false, Relaxed);
}
