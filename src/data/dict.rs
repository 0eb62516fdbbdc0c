//! The keyspace table: entries by key, in extendible hashing with small segments.
//!
//! ```text
//! hash    24 bits: prefix                   | 13 bits: fingerprint | 27 bits unused
//! lookup  directory word (2^depth of them) -> bucket (64 bytes, 9 places) -> entry
//! ```
//!
//! - A *segment* holds the hashes of one prefix, up to about 1400 entries. It grows in steps of a quarter by moving
//!   places, and splits in two when it is large; nothing else ever moves. The longest insertion while a table grows to
//!   ten million keys is a split of some 80 µs, or one of the rare doublings of the directory, 0.2 ms there
//!   (`cargo bench --bench dict -- report`). A segment shrinks and merges with its buddy the same way, down to nothing.
//! - A *bucket* is a cache line: nine tags, nine pointers of 48 bits. The five bits that a pointer leaves and the tag are
//!   the *fingerprint*; it chooses the home bucket, monotonically, whatever the number of buckets. So both resizing a
//!   segment and scanning in a fixed order need no look at the entries.
//! - The order of the table is that of (prefix, fingerprint). SCAN walks it; its cursor survives any resize, see `scan`.
//! - Expiries have a small index in each segment, see `expiries.rs`; snapshots a state, see `snapshot.rs`.
//!
//! Linear hashing was ruled out: it cannot be walked in an order that survives splits without walking overflow chains
//! too, and it grows one huge array. `benches/dict.rs` compares with hashbrown.
//!
//! The table knows neither commands nor the clock, and never reads randomness: time and random numbers are handed in.
#![allow(unsafe_code)]

mod bucket;
mod directory;
mod expire;
mod expiries;
mod scan;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use ahash::RandomState;

use super::entry::{Entry, EntryRef};
use bucket::{Fingerprint, Slot};
use directory::{Directory, end_of, hash_of};
pub use expire::ExpireSlice;
use expire::ExpiryState;
use segment::{PREFIX_BITS, PREFIX_END, Place, Segment};
pub use snapshot::{Cause, SaveFn};
use snapshot::{Snapshot, SnapshotState};

/// How many entries are asked for ahead of their removal, so that the misses overlap.
const REMOVE_BATCH: usize = 16;
/// The directory may be this much deeper than an even distribution of hashes would make it.
const EXTRA_DEPTH: u32 = 4;
/// A segment never holds fewer entries on average than this when depth is limited by the number of keys.
const SEGMENT_LEN_LOG2: u32 = 9;
/// Of keys that are foretold, a segment has room for its part and one in so many more: hashes are not quite even.
const RESERVED_SLACK: usize = 16;

/// One database of one shard.
pub struct Dict {
    directory: Directory,
    len: usize,
    hasher: RandomState,
    expiry: ExpiryState,
    snapshot: Snapshot,
    /// Where `clear_slice` goes on.
    clear_prefix: u32,
    /// It gives no memory back before it is empty.
    keeps_places: bool,
    not_sync: PhantomData<*mut Entry>,
}

// SAFETY: the table owns its segments and entries, and entries are Send. It is not Sync, as access bits are cells.
unsafe impl Send for Dict {}

/// Where an entry is, for as long as the table is not changed: a lookup's result that borrows nothing.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    hash: u64,
    at: Place,
}

/// The result of a lookup that wants to write.
pub enum Lookup<'a> {
    Occupied(OccupiedMut<'a>),
    Vacant(VacantMut<'a>),
}

/// Room for the entry of a key that is not in the table.
pub struct VacantMut<'a> {
    dict: &'a mut Dict,
    hash: u64,
}

/// An entry in the table, to be read, changed or removed without another lookup.
pub struct OccupiedMut<'a> {
    dict: &'a mut Dict,
    hash: u64,
    at: Place,
    entry: ManuallyDrop<Entry>,
}

impl Dict {
    /// An empty table; it allocates nothing. The hash of a key depends on `seeds` alone. `now_ms` is where the expiry
    /// index begins to count.
    pub fn new(seeds: [u64; 4], now_ms: i64) -> Dict {
        Dict::with_hasher(RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]), now_ms)
    }

    fn with_hasher(hasher: RandomState, now_ms: i64) -> Dict {
        Dict {
            directory: Directory::new(),
            len: 0,
            hasher,
            expiry: ExpiryState::new(now_ms),
            snapshot: Snapshot::idle(0),
            clear_prefix: 0,
            keeps_places: false,
            not_sync: PhantomData,
        }
    }

    /// Takes the contents, and leaves an empty table with the same hash: for FLUSHDB ASYNC and walks that must finish.
    pub fn take(&mut self) -> Dict {
        let mut empty = Dict::with_hasher(self.hasher.clone(), self.expiry.base_ms);
        // What comes in from now on is newer than the snapshot, which goes on in the detached table.
        empty.snapshot = Snapshot::idle(self.snapshot.number);
        empty.keeps_places = self.keeps_places;
        std::mem::replace(self, empty)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many keys have an expiry.
    pub fn expires_len(&self) -> usize {
        self.expiry.len
    }

    /// What the table itself takes: directory, segments, expiry index; not the entries.
    pub fn usable_bytes(&self) -> usize {
        self.directory.usable_bytes() + self.expiry.usable_bytes
    }

    /// Places for entries in its buckets.
    pub fn places(&self) -> usize {
        self.directory.segments().map(|segment| segment.buckets() * bucket::PLACES).sum()
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash_with(&self.hasher, key)
    }

    /// Pass one of two: asks for the bucket of a key.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if let Some(segment) = self.directory.segment(hash) {
            segment.prefetch_home(Fingerprint::of(hash));
        }
    }

    /// Asks for the entry of a key, a while after `prefetch_bucket`.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if let Some(segment) = self.directory.segment(hash) {
            segment.prefetch_candidate(Fingerprint::of(hash));
        }
    }

    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<EntryRef<'_>> {
        self.directory.segment(hash)?.find_entry(Fingerprint::of(hash), key).map(|(_, entry)| entry)
    }

    /// Where the entry of a key is.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Position> {
        self.directory.segment(hash)?.find(Fingerprint::of(hash), key).map(|at| Position { hash, at })
    }

    /// The entry at a position that `find` returned since the table last changed. Panics, or is some other entry, if
    /// the table did change.
    #[inline]
    pub fn at(&self, position: Position) -> EntryRef<'_> {
        self.directory.segment(position.hash).expect("the table has not changed").entry(position.at)
    }

    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<OccupiedMut<'_>> {
        let (at, pointer) = self.find_raw(hash, key)?;
        Some(OccupiedMut::new(self, hash, at, pointer))
    }

    /// For commands that write the key whether it exists or not.
    #[inline]
    pub fn lookup(&mut self, hash: u64, key: &[u8]) -> Lookup<'_> {
        match self.find_raw(hash, key) {
            Some((at, pointer)) => Lookup::Occupied(OccupiedMut::new(self, hash, at, pointer)),
            None => Lookup::Vacant(VacantMut { dict: self, hash }),
        }
    }

    #[inline]
    fn find_raw(&self, hash: u64, key: &[u8]) -> Option<(Place, NonNull<u8>)> {
        let found = self.directory.segment(hash)?.find_entry(Fingerprint::of(hash), key);
        found.map(|(at, entry)| (at, entry.as_raw()))
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        debug_assert_eq!(hash, self.hash(entry.key()), "hash of another key");
        debug_assert!(self.get(hash, entry.key()).is_none(), "the key exists");
        self.before_change(hash);
        let mut entry = entry;
        snapshot::finish_elements(&mut entry);
        let expire_at_ms = entry.expire_at_ms();
        let segment = match self.directory.segment_mut(hash) {
            Some(segment) if !segment.is_full() => segment,
            _ => self.make_room(hash),
        };
        let at = segment.put(Slot::new(Fingerprint::of(hash), entry.into_raw()));
        self.len += 1;
        if expire_at_ms.is_some() {
            self.update_expiry(hash, at, None, expire_at_ms);
        }
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        self.get_mut(hash, key).map(OccupiedMut::remove)
    }

    /// Visits all entries, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.directory.segments().flat_map(|segment| segment.places().map(|at| segment.entry(at)))
    }

    /// Frees up to `entries_max` entries; true when none is left. Nothing else is to be done with the table meanwhile.
    pub fn clear_slice(&mut self, entries_max: usize) -> bool {
        let mut budget = entries_max;
        while budget > 0 && self.len > 0 {
            let hash = hash_of(self.clear_prefix);
            let segment = self.directory.segment_mut(hash).expect("a table that is not empty has a directory");
            let batch: Vec<Place> = segment.places().take(budget.min(REMOVE_BATCH)).collect();
            let end = end_of(segment) % PREFIX_END;
            for &at in &batch {
                bucket::prefetch(segment.entry_pointer(at).as_ptr());
            }
            for &at in &batch {
                drop(self.take_at(hash, at));
            }
            budget -= batch.len().max(1);
            let emptied = self.directory.segment(hash).is_some_and(|segment| segment.len() == 0);
            self.after_removal(hash);
            if emptied {
                self.clear_prefix = end;
            }
        }
        self.len == 0
    }

    /// Makes room in a table that has none for so many keys that are to come: it neither grows nor splits on the way.
    /// What was not needed goes back by `give_back`.
    pub fn reserve(&mut self, keys: usize) {
        if !self.directory.is_empty() {
            return;
        }
        let Some(depth) = (keys >> SEGMENT_LEN_LOG2).checked_ilog2().map(|depth| depth.min(PREFIX_BITS)) else {
            return;
        };
        let len = keys >> depth;
        self.start(depth as u8, len + len / RESERVED_SLACK);
    }

    /// Makes the first segments, each with room for `len` entries.
    fn start(&mut self, depth: u8, len: usize) {
        let state = SnapshotState::all_saved(self.snapshot.number);
        self.directory.start_with(depth, |prefix| Segment::new(prefix, depth, len, state));
    }

    /// Gives memory back that is kept for keys that are not there.
    pub fn give_back(&mut self) {
        let prefixes: Vec<u32> = self.directory.segments().map(|segment| segment.prefix).collect();
        for prefix in prefixes {
            // Of those that were merged on the way, the first stands for all; in a table of no keys, for it.
            if self.directory.is_empty() {
                return;
            }
            self.after_removal(hash_of(prefix));
        }
    }

    /// Makes room in the segment of a hash, or makes the first one.
    #[cold]
    fn make_room(&mut self, hash: u64) -> &mut Segment {
        if self.directory.is_empty() {
            self.start(0, 0);
        }
        let depth_max = (self.len >> SEGMENT_LEN_LOG2).checked_ilog2().unwrap_or(0) + EXTRA_DEPTH;
        let depth_max = depth_max.min(PREFIX_BITS) as u8;
        while let Some(segment) = self.directory.segment_mut(hash).filter(|segment| segment.is_full()) {
            self.expiry.usable_bytes -= segment.expiries.usable_bytes();
            if segment.should_split() && segment.depth < depth_max {
                let hasher = &self.hasher;
                let halves = segment.split(|key| hash_with(hasher, key));
                self.expiry.usable_bytes += halves.iter().map(|half| half.expiries.usable_bytes()).sum::<usize>();
                self.directory.replace_by_halves(halves);
            } else {
                let mut grown = segment.successor(segment.len());
                grown.absorb(&mut [segment]);
                self.expiry.usable_bytes += grown.expiries.usable_bytes();
                self.directory.replace(grown);
            }
        }
        self.directory.segment_mut(hash).expect("there is a segment now")
    }

    /// Gives memory back where a segment has become small.
    fn after_removal(&mut self, hash: u64) {
        if self.len == 0 {
            debug_assert!(self.expiry.len == 0 && self.expiry.usable_bytes == 0);
            self.directory.clear();
            self.expiry = ExpiryState::new(self.expiry.base_ms);
            self.clear_prefix = 0;
            return;
        }
        let segment = self.directory.segment(hash).expect("the table is not empty");
        if (segment.should_shrink() || segment.should_refresh()) && !self.keeps_places {
            self.shrink(hash);
        }
    }

    /// Whether the table gives memory back as entries go, as it does unless a test wants it not to. What it has kept
    /// until then, it gives back at once.
    pub fn set_shrinking(&mut self, shrinks: bool) {
        self.keeps_places = !shrinks;
        self.give_back();
    }

    /// Merges, shrinks or rebuilds the segment of a hash.
    #[cold]
    fn shrink(&mut self, hash: u64) {
        while self.merge(hash) {}
        let segment = self.directory.segment_mut(hash).expect("the table is not empty");
        let mut successor = if segment.should_shrink() {
            // Some room to grow, lest the next insertion undoes it.
            segment.successor(segment.len() * 5 / 4)
        } else {
            segment.twin()
        };
        if successor.buckets() < segment.buckets() || segment.should_refresh() {
            self.expiry.usable_bytes -= segment.expiries.usable_bytes();
            successor.absorb(&mut [segment]);
            self.expiry.usable_bytes += successor.expiries.usable_bytes();
            self.directory.replace(successor);
        }
    }

    /// Merges the segment of a hash with its buddy, if both are small, and the running snapshot has come equally far in
    /// both: what is saved and what is not must not mix.
    fn merge(&mut self, hash: u64) -> bool {
        let Some(segment) = self.directory.segment(hash).filter(|segment| segment.depth > 0) else { return false };
        let (prefix, depth) = (segment.prefix, segment.depth);
        let bit = PREFIX_END >> depth;
        let buddy = self.directory.segment(hash_of(prefix ^ bit)).expect("the directory is complete");
        let mixes = self.snapshot.is_running() && segment.snapshot != buddy.snapshot;
        if buddy.depth != depth || mixes || !segment.may_merge_with(buddy) {
            return false;
        }
        // Without a running snapshot the state is of no account: the next one has a higher number.
        let mut merged = Segment::new(prefix & !bit, depth - 1, segment.len() + buddy.len(), segment.snapshot);
        for prefix in [prefix & !bit, prefix | bit] {
            let half = self.directory.segment_mut(hash_of(prefix)).expect("the directory is complete");
            self.expiry.usable_bytes -= half.expiries.usable_bytes();
            merged.absorb(&mut [half]);
        }
        self.expiry.usable_bytes += merged.expiries.usable_bytes();
        self.directory.replace(merged);
        true
    }

    /// Takes an entry out. `after_removal` has to follow.
    fn take_at(&mut self, hash: u64, at: Place) -> Entry {
        if self.snapshot.is_running() {
            let segment = self.directory.segment(hash).expect("an occupied place");
            self.save_before_change(hash, segment.fingerprint(at));
        }
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        if let expire_at_ms @ Some(_) = segment.entry(at).expire_at_ms() {
            self.update_expiry(hash, at, expire_at_ms, None);
        }
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        self.len -= 1;
        segment.take(at)
    }

    /// Panics if anything that the table keeps contradicts its entries. For tests and the simulation: it visits all.
    pub fn assert_consistent(&self) {
        self.directory.assert_consistent();
        let mut expiry = ExpiryState::new(self.expiry.base_ms);
        let mut len = 0;
        for segment in self.directory.segments() {
            segment.assert_consistent(&|key| self.hash(key), &|at_ms| expiry.tick(at_ms));
            len += segment.len();
            expiry.len += segment.expiries.len();
            expiry.usable_bytes += segment.expiries.usable_bytes();
            for index in 0..segment.expiries.len() {
                expiry.tick_sum += u64::from(segment.expiries.tick(index));
                assert!(self.expiry.tick_min <= segment.expiries.tick(index), "earliest tick of all");
                let passed = end_of(segment) <= self.expiry.pass_prefix;
                assert!(!passed || self.expiry.pass_tick_min <= segment.expiries.tick(index), "earliest tick passed");
            }
        }
        assert_eq!(len, self.len, "length");
        assert!(self.len > 0 || self.directory.is_empty(), "an empty table has no memory");
        assert_eq!(expiry.len, self.expiry.len, "expiries");
        assert_eq!(expiry.usable_bytes, self.expiry.usable_bytes, "memory of the expiry index");
        assert_eq!(expiry.tick_sum, self.expiry.tick_sum, "sum of ticks");
    }
}

impl Clone for Dict {
    /// Copies of all entries, in a table with the same hash. O(n).
    fn clone(&self) -> Dict {
        let mut copy = Dict::with_hasher(self.hasher.clone(), self.expiry.base_ms);
        for entry in self.iter() {
            copy.insert(copy.hash(entry.key()), entry.copy_as(entry.key()));
        }
        copy
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        while !self.clear_slice(usize::MAX) {}
    }
}

#[inline]
fn hash_with(hasher: &RandomState, key: &[u8]) -> u64 {
    // Not `hash_one`, which hashes the length of a slice once more.
    let mut state = hasher.build_hasher();
    state.write(key);
    state.finish()
}

impl VacantMut<'_> {
    pub fn insert(self, entry: Entry) {
        self.dict.insert(self.hash, entry);
    }
}

impl<'a> OccupiedMut<'a> {
    #[inline]
    fn new(dict: &'a mut Dict, hash: u64, at: Place, pointer: NonNull<u8>) -> OccupiedMut<'a> {
        debug_assert_eq!(dict.directory.segment(hash).map(|segment| segment.entry_pointer(at)), Some(pointer));
        // SAFETY: the table is borrowed for as long as the handle lives, which never drops the entry, and gives it back
        // whenever it has moved.
        let entry = ManuallyDrop::new(unsafe { Entry::from_raw(pointer) });
        OccupiedMut { dict, hash, at, entry }
    }

    /// Lets `change` modify the entry, all but its key. Table and expiry index follow.
    #[inline]
    pub fn update<R>(&mut self, change: impl FnOnce(&mut Entry) -> R) -> R {
        /// Writes back even if `change` panics: the entry may have moved by then.
        struct WriteBack<'b, 'a> {
            slot: &'b mut OccupiedMut<'a>,
            pointer: NonNull<u8>,
            expire_at_ms: Option<i64>,
        }
        impl Drop for WriteBack<'_, '_> {
            #[inline]
            fn drop(&mut self) {
                self.slot.write_back(self.pointer, self.expire_at_ms);
            }
        }
        self.dict.before_change(self.hash);
        let expire_at_ms = self.entry.expire_at_ms();
        let pointer = self.entry.as_raw();
        let guard = WriteBack { slot: self, pointer, expire_at_ms };
        change(&mut guard.slot.entry)
    }

    /// Takes the entry out of the table.
    pub fn remove(self) -> Entry {
        let OccupiedMut { dict, hash, at, .. } = self;
        let entry = dict.take_at(hash, at);
        dict.after_removal(hash);
        entry
    }

    #[inline]
    fn write_back(&mut self, pointer_before: NonNull<u8>, expire_at_ms_before: Option<i64>) {
        debug_assert_eq!(self.dict.hash(self.entry.key()), self.hash, "the key of an entry in the table changed");
        if self.entry.as_raw() != pointer_before {
            let segment = self.dict.directory.segment_mut(self.hash).expect("the place is occupied");
            segment.set_entry_pointer(self.at, self.entry.as_raw());
        }
        let expire_at_ms = self.entry.expire_at_ms();
        if expire_at_ms != expire_at_ms_before {
            self.dict.update_expiry(self.hash, self.at, expire_at_ms_before, expire_at_ms);
        }
    }
}

impl Deref for OccupiedMut<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}
