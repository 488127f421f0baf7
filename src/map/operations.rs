//! Reading and changing entries: what the other files are put together to.

use super::Refusal;
use super::entry::{Head, Key, Value, WORD};
use super::index::Found;
use super::layout::{CELLS, Cell, Shard};
use super::room::{NEW, PROVEN, add, now, subtract};
use super::segments::log_of;
use super::shared::{Critical, Map, Patience};
use super::slot::{Bucket, Chain};
use crate::kernel::Kernel;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// An entry that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub class: u8,
    pub form: u8,
    pub key: Vec<u8>,
    pub tag: u16,
    pub value: Vec<u8>,
}

/// See `Map::stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub stores: u64,
    pub evictions: u64,
    pub expirations: u64,
    pub entries: u64,
    /// Bytes of keys and values, and what each entry takes beside them.
    pub used: u64,
    /// Bytes for more of these.
    pub free: u64,
}

/// The tag of a value that does not fit; no value has it.
pub const TOO_LONG: u16 = u16::MAX;

fn sum<'a>(words: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    words.fold(0, |sum, word| sum.wrapping_add(word.load(Relaxed)))
}

/// A word, read by one load.
const WORD_LENGTH: usize = WORD as usize;

impl Map {
    /// Reads the value of a key into `room`, and returns its tag. Takes no lock, and waits for nobody.
    #[inline]
    pub fn get<K: Kernel>(&self, kernel: &K, key: &Key, room: &mut Vec<u8>) -> Option<u16> {
        let tag = self.peek(key, room).map(|(tag, _)| tag);
        let cell = self.cell(kernel.id());
        let count = if tag.is_some() { &cell.hits } else { &cell.misses };
        count.fetch_add(1, Relaxed);
        tag
    }

    /// The same for a short value: its tag and length, or as much as `room` has if it does not fit, and `TOO_LONG`. What
    /// does not fit is not counted.
    #[inline]
    pub fn get_short<K: Kernel>(
        &self,
        kernel: &K,
        key: &Key,
        room: &mut [MaybeUninit<u8>],
    ) -> Option<(u16, usize)> {
        let found = self.peek_short(key, room);
        if !matches!(found, Some((TOO_LONG, _))) {
            let cell = self.cell(kernel.id());
            let count = if found.is_some() { &cell.hits } else { &cell.misses };
            count.fetch_add(1, Relaxed);
        }
        found
    }

    #[inline]
    fn peek_short(&self, key: &Key, room: &mut [MaybeUninit<u8>]) -> Option<(u16, usize)> {
        loop {
            let (found, chain) = self.look_up(key)?;
            let length = found.head.value as usize;
            if length > room.len() {
                return Some((TOO_LONG, 0));
            }
            let expiry = self.expiry_at(found.place, &found.head);
            let place = self.on(found.place, found.head.value_at());
            let read = match place {
                Some(place) if length == WORD_LENGTH && place.offset % 8 == 0 => {
                    self.word_at(place).map(|word| {
                        room[..WORD_LENGTH]
                            .copy_from_slice(&word.load(Relaxed).to_ne_bytes().map(MaybeUninit::new));
                    })
                }
                // SAFETY: there is room for so many.
                Some(place) => unsafe { self.read(place, length, room.as_mut_ptr().cast()) },
                None => None,
            };
            if let Some(expiry) = self.validate(&found, chain, expiry, read) {
                return expiry.map(|_| (found.head.tag, length));
            }
        }
    }

    /// The same, uncounted. Returns the instant of its expiry too, or 0.
    #[inline]
    pub fn peek(&self, key: &Key, room: &mut Vec<u8>) -> Option<(u16, u64)> {
        loop {
            let (found, chain) = self.look_up(key)?;
            let expiry = self.expiry_at(found.place, &found.head);
            let read = self.read_value(&found, room);
            if let Some(expiry) = self.validate(&found, chain, expiry, read) {
                return expiry.map(|expiry| (found.head.tag, expiry));
            }
        }
    }

    /// The expiry of the entry of which `read` has copied the value, if there was one and it has not expired. `None` if
    /// another entry has taken its place meanwhile: to be read again.
    #[inline(always)]
    fn validate(
        &self,
        found: &Found,
        chain: Chain,
        expiry: Option<u64>,
        read: Option<()>,
    ) -> Option<Option<u64>> {
        if !found.slot.still_leads(found.lead) || !chain.is_unchanged() {
            return None;
        }
        let live = expiry.filter(|&expiry| read.is_some() && (expiry == 0 || expiry > now()));
        if self.evicts && live.is_some() {
            found.slot.appreciate(found.lead);
        }
        Some(live)
    }

    /// Copies the value that was found; whether it is whole has to be seen afterwards.
    #[inline]
    fn read_value(&self, found: &Found, room: &mut Vec<u8>) -> Option<()> {
        let (place, length) = (self.on(found.place, found.head.value_at())?, found.head.value as usize);
        self.read_into(place, length, room)
    }

    #[inline]
    fn read_into(&self, place: super::blocks::Place, length: usize, room: &mut Vec<u8>) -> Option<()> {
        room.clear();
        if length == WORD_LENGTH && place.offset % 8 == 0 {
            room.extend_from_slice(&self.word_at(place)?.load(Relaxed).to_ne_bytes());
            return Some(());
        }
        if length > self.layout.blocks as usize * self.layout.block as usize {
            return None;
        }
        room.try_reserve(length).ok()?;
        // SAFETY: there is room for so many, which are written then.
        unsafe {
            self.read(place, length, room.as_mut_ptr())?;
            room.set_len(length);
        }
        Some(())
    }

    /// How many parts `visit` goes through.
    pub fn parts(&self) -> u64 {
        u64::from(self.shards()) * u64::from(self.layout.buckets)
    }

    /// The entries of one part. An entry that is there while all parts are visited is seen once. Takes no lock.
    pub fn visit(&self, part: u64, with_values: bool) -> Vec<Entry> {
        let (shard, index) = (part / u64::from(self.layout.buckets), part % u64::from(self.layout.buckets));
        if shard >= u64::from(self.shards()) {
            return Vec::new();
        }
        let first = self.nth_bucket(shard as u32, index as u32);
        loop {
            let chain = Chain::of(first);
            let all = self.entries_of(first, chain, with_values);
            if chain.is_unchanged() {
                return all;
            }
        }
    }

    /// The entries that the slots of a chain lead to.
    fn entries_of(&self, first: &Bucket, chain: Chain, with_values: bool) -> Vec<Entry> {
        let mut all = Vec::new();
        for slot in self.chain(first).flat_map(|bucket| &bucket.slots) {
            loop {
                let lead = slot.look();
                let Some(location) = lead.location() else { break };
                let place = self.place(location);
                let entry = self.head_at(place).and_then(|head| {
                    // The lengths may be of something else, whatever it is.
                    let is_there = slot.still_leads(lead) && chain.is_unchanged();
                    let found = is_there.then_some(Found { slot, lead, place, head })?;
                    self.read_entry(&found, with_values)
                });
                if !slot.still_leads(lead) {
                    continue;
                }
                all.extend(entry.flatten());
                break;
            }
        }
        all
    }

    /// `Some(None)` if it has expired.
    fn read_entry(&self, found: &Found, with_value: bool) -> Option<Option<Entry>> {
        let (place, head) = (found.place, found.head);
        let expiry = self.expiry_at(place, &head)?;
        if expiry != 0 && expiry <= now() {
            return Some(None);
        }
        let mut entry = Entry { class: head.class, form: head.form, tag: head.tag, ..Entry::default() };
        self.read_into(self.on(place, head.key_at())?, head.key as usize, &mut entry.key)?;
        if with_value {
            self.read_value(found, &mut entry.value)?;
        }
        Some(Some(entry))
    }

    /// Runs `action` with the lock of the key's shard. It may run several times, if room has to be made elsewhere: until it
    /// has put something it changes nothing.
    ///
    /// # Errors
    /// What `action` says; `Busy` if `Hasty`: the caller has to be `Patient`; `Interrupted`: again.
    #[inline]
    pub fn change<K: Kernel, T>(
        &self,
        kernel: &K,
        key: &Key,
        patience: Patience,
        mut action: impl FnMut(&Critical<K>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let shard = self.shard_of(key.hash);
        // Others may take the room that is made.
        for _ in 0..=self.layout.blocks {
            let result = action(&self.enter(kernel, shard, patience)?);
            let Err(Refusal::Short(count)) = result else { return result };
            if patience == Patience::Hasty {
                return Err(Refusal::Busy);
            }
            if !self.make_room(kernel, shard, count, patience)? {
                break;
            }
        }
        Err(Refusal::Full)
    }

    /// Calls `action` with the lock of each shard in turn.
    fn each_shard<K: Kernel>(
        &self,
        kernel: &K,
        patience: Patience,
        mut action: impl FnMut(&Critical<K>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        (0..self.shards()).try_for_each(|shard| action(&self.enter(kernel, shard, patience)?))
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// `Busy`, `Interrupted`: some are left.
    pub fn clear<K: Kernel>(&self, kernel: &K, patience: Patience) -> Result<(), Refusal> {
        self.each_shard(kernel, patience, |critical| {
            for found in critical.all() {
                critical.drop_entry(&found)?;
            }
            for log in [NEW, PROVEN] {
                for segment in critical.segments(log) {
                    critical.free_segment(segment)?;
                }
            }
            critical.shorten_all_chains()?;
            critical.release_blocks()
        })
    }

    /// Drops what has expired, and says how many entries there are.
    ///
    /// # Errors
    /// `Busy`, `Interrupted`.
    pub fn count<K: Kernel>(&self, kernel: &K, patience: Patience) -> Result<u64, Refusal> {
        let mut count = 0;
        for index in 0..self.shards() {
            // A shard in which nothing can have expired is not locked.
            let Shard { expiry, lock, .. } = self.shard(index);
            let expiry = expiry.load(Relaxed);
            if !K::TELLS_OF_DEATHS {
                lock.reap_if_owner_dead::<K>();
            }
            if expiry != 0 && expiry <= now() || lock.is_abandoned() {
                self.enter(kernel, index, patience)?.sweep()?;
            }
            count = u64::wrapping_add(count, self.shard(index).count.load(Relaxed));
        }
        Ok(count)
    }

    /// What has happened so far, and how full it is.
    pub fn stats(&self) -> Stats {
        let cells =
            |word: fn(&Cell) -> &AtomicU64| sum((0..CELLS as u32).map(|index| word(self.cell(index))));
        let shards =
            |word: fn(&Shard) -> &AtomicU64| sum((0..self.shards()).map(|index| word(self.shard(index))));
        let used = shards(|shard| &shard.live);
        Stats {
            hits: cells(|cell| &cell.hits),
            misses: cells(|cell| &cell.misses),
            stores: shards(|shard| &shard.stores),
            evictions: shards(|shard| &shard.evictions),
            expirations: shards(|shard| &shard.expirations),
            entries: shards(|shard| &shard.count),
            used,
            free: self.layout.room().saturating_sub(used),
        }
    }

    /// The largest value of an entry with a key of that length.
    fn refuse_too_large(&self, head: &Head) -> Result<(), Refusal> {
        if head.size() > self.layout.room() { Err(Refusal::TooLarge) } else { Ok(()) }
    }
}

impl<'m, K: Kernel> Critical<'m, K> {
    /// The entry of a key; `None` also if it has expired.
    #[inline]
    pub fn current(&self, key: &Key) -> Option<Found<'m>> {
        let found = self.find(key)?;
        let expiry = self.expiry(&found);
        (expiry == 0 || expiry > now()).then_some(found)
    }

    /// When the entry expires, or 0.
    #[inline]
    pub fn expiry(&self, found: &Found) -> u64 {
        self.map.expiry_at(found.place, &found.head).unwrap_or(0)
    }

    /// Reads the value into `room`.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn read(&self, found: &Found, room: &mut Vec<u8>) -> Result<u16, Refusal> {
        self.map.read_value(found, room).ok_or(Refusal::Corrupt)?;
        Ok(found.head.tag)
    }

    /// Whether the value is this one.
    pub fn is(&self, found: &Found, tag: u16, bytes: &[u8]) -> bool {
        let there = || self.map.on(found.place, found.head.value_at());
        found.head.tag == tag
            && found.head.value == bytes.len() as u64
            && there().and_then(|place| self.map.has(place, bytes)) == Some(true)
    }

    /// Gives the key this value, in one step.
    ///
    /// # Errors
    /// `TooLarge`; `Full`: then nothing has changed. `Short`, which `Map::change` sees to.
    pub fn put(&self, key: &Key, value: &Value) -> Result<(), Refusal> {
        let head = Head::of(key, value).ok_or(Refusal::TooLarge)?;
        self.map.refuse_too_large(&head)?;
        let size = head.size();
        let before = self.find(key);
        let log = self.log_for(key, before.as_ref())?;
        // Making room may drop or move any entry, this key's too.
        loop {
            let blocks = self.blocks_needed(log, size)?;
            let bucket = match before {
                None if self.empty_slot(head.hash).is_none() => self.blocks_for_bucket(),
                _ => 0,
            };
            if self.own_free().1 >= blocks + bucket {
                break;
            }
            self.ensure_blocks(blocks + bucket)?;
        }
        let before = self.find(key);
        let slot = match before {
            Some(found) => found.slot,
            None => match self.empty_slot(head.hash) {
                Some(slot) => slot,
                None => self.add_bucket(head.hash)?,
            },
        };
        let room = self.room(log, size)?;
        self.fill(room.place, &head, key, value)?;
        self.include(room, size, value.expiry)?;
        let worth = before.map_or(0, |found| found.slot.look().worth());
        slot.lead_to(self.map.location(room.place), key.hash, worth);
        let shard = self.shard();
        add(&shard.live, size);
        add(&shard.stores, 1);
        match before {
            Some(found) => self.forget(&found),
            None => {
                add(&shard.count, 1);
                Ok(())
            }
        }
    }

    fn log_for(&self, key: &Key, before: Option<&Found>) -> Result<usize, Refusal> {
        if let Some(found) = before {
            let (_, block) = self.map.segment_of(found.place.block)?;
            return Ok(log_of(block));
        }
        Ok(if self.was_dropped(key.hash as u32) { PROVEN } else { NEW })
    }

    fn fill(
        &self,
        place: super::blocks::Place,
        head: &Head,
        key: &Key,
        value: &Value,
    ) -> Result<(), Refusal> {
        let at = |distance| self.map.on(place, distance).ok_or(Refusal::Corrupt);
        let word = |distance| self.map.word_at(at(distance)?).ok_or(Refusal::Corrupt);
        for (index, half) in head.pack().into_iter().enumerate() {
            word(index as u64 * 8)?.store(half, Relaxed);
        }
        if head.expires {
            word(super::entry::HEAD)?.store(value.expiry, Relaxed);
        }
        self.map.write(at(head.key_at())?, key.bytes)?;
        self.map.write(at(head.value_at())?, value.bytes)
    }

    /// The index does not lead to this entry any more.
    fn forget(&self, found: &Found) -> Result<(), Refusal> {
        let size = found.head.size();
        subtract(&self.shard().live, size);
        subtract(&self.map.segment_of(found.place.block)?.1.live, size);
        self.free_if_empty(found.place).map(|_| ())
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn remove(&self, found: &Found) -> Result<(), Refusal> {
        self.drop_entry(found)?;
        self.free_if_empty(found.place).map(|_| ())
    }

    /// Changes a value of 8 bytes, if `change` has a new one: by one store.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn change_word(
        &self,
        found: &Found,
        change: impl FnOnce(u64) -> Option<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let place = self.map.on(found.place, found.head.value_at()).ok_or(Refusal::Corrupt)?;
        if found.head.value != WORD {
            return Ok(None);
        }
        let word: &AtomicU64 = self.map.word_at(place).ok_or(Refusal::Corrupt)?;
        let changed = change(word.load(Relaxed));
        if let Some(value) = changed {
            word.store(value, Relaxed);
            found.slot.step();
            add(&self.shard().stores, 1);
            if self.map.evicts {
                found.slot.appreciate(found.slot.look());
            }
        }
        Ok(changed)
    }

    /// Has an entry expire at that instant, or never if that is 0.
    ///
    /// # Errors
    /// As `put`.
    pub fn set_expiry(&self, key: &Key, found: &Found, expiry: u64) -> Result<(), Refusal> {
        if expiry == 0 && !found.head.expires {
            return Ok(());
        }
        if !found.head.expires || expiry == 0 {
            let mut bytes = Vec::new();
            let tag = self.read(found, &mut bytes)?;
            return self.put(key, &Value { tag, bytes: &bytes, expiry });
        }
        let place = self.map.on(found.place, super::entry::HEAD).ok_or(Refusal::Corrupt)?;
        self.note_expiry(self.map.segment_of(found.place.block)?.1, expiry);
        self.map.word_at(place).ok_or(Refusal::Corrupt)?.store(expiry, Relaxed);
        found.slot.step();
        Ok(())
    }
}
