//! Which boot of the machine this is, and which PID namespace this process is in: thread numbers in a file mean something
//! only within both.

use super::header::BOOT_BYTES;
use super::system;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub boot: [u8; BOOT_BYTES],
    pub namespace: u64,
}

impl Machine {
    /// Where this process is now: a forked child can be in another namespace.
    pub fn current() -> Result<Machine> {
        let namespace =
            system::pid_namespace().map_err(|error| Error::io("look at /proc/self/ns/pid", &error))?;
        Ok(Machine { boot: boot()?, namespace })
    }
}

/// The boot, read once. Several threads may do so at once, and read the same: there is no lock that a fork could copy.
fn boot() -> Result<[u8; BOOT_BYTES]> {
    static KNOWN: AtomicBool = AtomicBool::new(false);
    static BOOT: [AtomicU64; BOOT_BYTES / 8] = [const { AtomicU64::new(0) }; BOOT_BYTES / 8];
    let mut boot = [0; BOOT_BYTES];
    if KNOWN.load(Acquire) {
        for (bytes, word) in boot.chunks_exact_mut(8).zip(&BOOT) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        return Ok(boot);
    }
    let text = system::boot_id().map_err(|error| Error::io("read the machine's boot id", &error))?;
    let text = text.trim().as_bytes();
    if text.is_empty() || text.len() > BOOT_BYTES {
        return Err(Error::System { attempt: "read the machine's boot id", errno: libc::ENOTSUP });
    }
    boot[..text.len()].copy_from_slice(text);
    for (bytes, word) in boot.chunks_exact(8).zip(&BOOT) {
        let mut number = [0; 8];
        number.copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(number), Relaxed);
    }
    KNOWN.store(true, Release); // pairs with the load above
    Ok(boot)
}
