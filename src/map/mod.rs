//! A map of keys and values, of bytes, between processes. Readers take no lock, and wait for nobody.
//!
//! | file          | idea                                                                              |
//! |---------------|-----------------------------------------------------------------------------------|
//! | `layout`      | where everything is in the memory                                                 |
//! | `entry`       | a key and its value as bytes                                                      |
//! | `slot`        | the word that leads to an entry: how entries are published, and read without lock |
//! | `index`       | the slots of a key                                                                |
//! | `buckets`     | the buckets that did not fit into the index: where they are, and when they go     |
//! | `blocks`      | the memory of all entries: uniform blocks, linked                                 |
//! | `segments`    | stretches of the logs that entries are added to                                   |
//! | `room`        | what expires, what is moved, what is dropped                                      |
//! | `computing`   | values that are computed once                                                     |
//! | `operations`  | reading and changing entries                                                      |
//!
//! Keys are spread over shards by their hash. Each shard has a lock for its writers, a part of the index and logs of its
//! own; only free blocks are common to all. Whoever finds a lock left by a dead holder makes the writes that had been
//! decided on, and counts again.
//!
//! What the memory holds is not trusted: see `layout`.

#[cfg(not(loom))]
mod blocks;
#[cfg(not(loom))]
mod buckets;
#[cfg(not(loom))]
mod computing;
#[cfg(not(loom))]
mod entry;
#[cfg(not(loom))]
mod index;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod operations;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod segments;
#[cfg(not(loom))]
mod shared;
pub mod slot;

#[cfg(test)]
pub use layout::layout;
#[cfg(not(loom))]
pub use {
    computing::Claim,
    entry::{Key, LONGEST_KEY, Value},
    index::Found,
    operations::{Entry, Stats},
    room::now,
    shared::{Critical, Map, Patience},
};

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room.
    Full,
    /// It would not even fit into an empty map.
    TooLarge,
    /// A lock is held, or there is much to do: to be done with patience.
    Busy,
    /// A signal was handled: to be done again.
    Interrupted,
    /// This shard cannot have so many blocks more. Only inside.
    Short(u32),
    /// The memory has been overwritten by somebody else.
    Corrupt,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refusal::Full | Refusal::Short(_) => {
                "no room is left: delete entries, or make it with more bytes"
            }
            Refusal::TooLarge => "the entry is larger than all the memory: make it with more bytes",
            Refusal::Busy => "another process holds a lock",
            Refusal::Interrupted => "interrupted",
            Refusal::Corrupt => "the memory has been overwritten",
        })
    }
}
