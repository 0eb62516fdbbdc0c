//! The keyspace table: entries by key, in extendible hashing with small segments.
//!
//! ```text
//! hash    24 bits: prefix                   | 13 bits: fingerprint | 27 bits unused
//! lookup  directory word (2^depth of them) -> bucket (64 bytes, 9 places) -> entry
//! ```
//!
//! - A *segment* holds the hashes of one prefix, up to some hundred entries. It grows in steps of a quarter by moving
//!   places, and splits in two when it is large; nothing else ever moves, so that no insertion takes longer than a split
//!   (tens of microseconds). It shrinks and merges with its buddy the same way, down to nothing.
//! - A *bucket* is a cache line: nine tags, nine pointers of 48 bits. The five bits that a pointer leaves and the tag are
//!   the *fingerprint*; it chooses the home bucket, monotonically, whatever the number of buckets. So both resizing a
//!   segment and scanning in a fixed order need no look at the entries.
//! - The order of the table is that of (prefix, fingerprint). SCAN walks it; its cursor survives any resize, see `scan`.
//! - Expiries have a small index in each segment, see `expiries.rs`; snapshots a state, see `SnapshotState`.
//!
//! Linear hashing was ruled out: it cannot be walked in an order that survives splits without walking overflow chains
//! too, and it grows one huge array. `benches/dict.rs` compares with hashbrown.
//!
//! The table knows neither commands nor the clock, and never reads randomness: time and random numbers are handed in.
#![allow(unsafe_code)]

mod bucket;
mod directory;
mod expiries;
mod segment;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use ahash::RandomState;

use super::entry::{Entry, EntryRef};
use bucket::{Fingerprint, Slot};
use directory::{Directory, end_of, hash_of};
use expiries::{TICK_NEVER, Tick};
use segment::{PREFIX_BITS, PREFIX_END, Place, Segment, SnapshotState};

/// The expiry index counts in units of 128 ms: a key is collected that much after its time at most (and is invisible
/// from its time on), and 32 bits last for 17 years. What expires later is collected on access only.
const TICK_MS_LOG2: u32 = 7;
/// How many entries are asked for ahead of their removal, so that the misses overlap.
const REMOVE_BATCH: usize = 16;
/// An expiry slice looks at this many segments for each entry that it may collect.
const SEGMENTS_PER_EXPIRED: usize = 4;
/// SCAN looks at this many buckets for each element that was asked for, as Redis does.
const SCAN_BUCKETS_PER_ELEMENT: usize = 10;
/// The directory may be this much deeper than an even distribution of hashes would make it.
const EXTRA_DEPTH: u32 = 4;
/// A segment never holds fewer entries on average than this when depth is limited by the number of keys.
const SEGMENT_LEN_LOG2: u32 = 9;

/// One database of one shard.
pub struct Dict {
    directory: Directory,
    len: usize,
    hasher: RandomState,
    expiry: ExpiryState,
    snapshot: Snapshot,
    /// Where `clear_slice` goes on.
    clear_prefix: u32,
    not_sync: PhantomData<*mut Entry>,
}

// SAFETY: the table owns its segments and entries, and entries are Send. It is not Sync, as access bits are cells.
unsafe impl Send for Dict {}

struct ExpiryState {
    /// Tick zero.
    base_ms: i64,
    len: usize,
    usable_bytes: usize,
    /// Sum of all ticks, for the average.
    tick_sum: u64,
    /// No key is due earlier. Lowered by insertions, raised at the end of a pass over all segments.
    tick_min: Tick,
    /// Where the pass goes on, and the earliest tick that it leaves behind.
    pass_prefix: u32,
    pass_tick_min: Tick,
    /// Something due was not admitted, so that another pass at once would be in vain.
    pass_refused: bool,
}

#[derive(Clone, Copy)]
struct Snapshot {
    number: u64,
    running: bool,
}

/// What `expire_slice` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireSlice {
    pub expired: usize,
    /// There may be more that is due.
    pub more: bool,
}

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
            snapshot: Snapshot { number: 0, running: false },
            clear_prefix: 0,
            not_sync: PhantomData,
        }
    }

    /// Takes the contents, and leaves an empty table with the same hash: for FLUSHDB ASYNC and walks that must finish.
    pub fn take(&mut self) -> Dict {
        let mut empty = Dict::with_hasher(self.hasher.clone(), self.expiry.base_ms);
        empty.snapshot = self.snapshot;
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
        let segment = self.directory.segment(hash)?;
        segment.find(Fingerprint::of(hash), key).map(|at| segment.entry(at))
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
        let at = self.directory.segment(hash)?.find(Fingerprint::of(hash), key)?;
        Some(OccupiedMut::new(self, hash, at))
    }

    /// For commands that write the key whether it exists or not.
    #[inline]
    pub fn lookup(&mut self, hash: u64, key: &[u8]) -> Lookup<'_> {
        let at = self.directory.segment(hash).and_then(|segment| segment.find(Fingerprint::of(hash), key));
        match at {
            Some(at) => Lookup::Occupied(OccupiedMut::new(self, hash, at)),
            None => Lookup::Vacant(VacantMut { dict: self, hash }),
        }
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        debug_assert_eq!(hash, self.hash(entry.key()), "hash of another key");
        debug_assert!(self.get(hash, entry.key()).is_none(), "the key exists");
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

    /// Visits about `count` entries from `cursor` on, and returns the next cursor: zero, where a scan begins, at its end.
    ///
    /// Whatever happens to the table between the calls, an entry that stays in it is visited at least once: the order is
    /// fixed, and a cursor is a place in it. A segment that has split meanwhile may be visited from its left half again,
    /// one that has merged begins anew; only those entries may come twice. A cursor fits into 42 bits.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(EntryRef<'a>)) -> u64 {
        let mut cursor = ScanCursor::unpack(cursor);
        let (mut visited, mut buckets) = (0, 0);
        while let Some(segment) = self.directory.segment(hash_of(cursor.prefix)) {
            if segment.depth < cursor.depth {
                cursor.fingerprint = 0;
            }
            let first = segment.home_of(cursor.fingerprint);
            for home in first..segment.buckets() {
                if visited >= count || buckets >= count.saturating_mul(SCAN_BUCKETS_PER_ELEMENT) {
                    return ScanCursor { depth: segment.depth, prefix: segment.prefix, ..cursor }.pack();
                }
                segment.prefetch_entries(home + 1);
                visited += segment.visit_home(home, cursor.fingerprint..Fingerprint::END, &mut visit);
                buckets += 1;
                cursor.fingerprint = segment.home_end(home);
            }
            cursor = ScanCursor { depth: 0, prefix: end_of(segment), fingerprint: 0 };
            if cursor.prefix == PREFIX_END {
                break;
            }
        }
        0
    }

    /// A random entry; all are about equally likely. `random` returns uniform 64-bit numbers.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<EntryRef<'_>> {
        let segment = self.random_segment(random(), |segment| segment.len() > 0)?;
        loop {
            let at = segment.place_at(below(random(), segment.places_total()));
            if segment.is_occupied(at) {
                return Some(segment.entry(at));
            }
        }
    }

    /// A random entry among those that have an expiry.
    pub fn random_expiring(&self, mut random: impl FnMut() -> u64) -> Option<EntryRef<'_>> {
        if self.expiry.len == 0 {
            return None;
        }
        let segment = self.random_segment(random(), |segment| segment.expiries.len() > 0)?;
        let at = segment.expiry_place(below(random(), segment.expiries.len()));
        Some(segment.entry(at))
    }

    /// Up to `count` entries that lie together at a random place, for an eviction that compares samples.
    pub fn sample<'a>(&'a self, count: usize, mut random: impl FnMut() -> u64, mut visit: impl FnMut(EntryRef<'a>)) {
        let Some(segment) = self.random_segment(random(), |segment| segment.len() > 0) else { return };
        let (from, total) = (below(random(), segment.places_total()), segment.places_total());
        let numbers = (0..total).map(|offset| (from + offset) % total);
        let places = numbers.map(|number| segment.place_at(number)).filter(|&at| segment.is_occupied(at));
        places.take(count).for_each(|at| visit(segment.entry(at)));
    }

    /// The segment of a random hash, or the next one that suits.
    fn random_segment(&self, hash: u64, suits: impl Fn(&Segment) -> bool) -> Option<&Segment> {
        let mut segment = self.directory.segment(hash)?;
        let start = segment.prefix;
        while !suits(segment) {
            segment = self.directory.segment(hash_of(end_of(segment) % PREFIX_END))?;
            if segment.prefix == start {
                return None;
            }
        }
        Some(segment)
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

    /// Removes keys whose time is before `now_ms`: up to `entries_max` of those that `admit` lets go.
    ///
    /// The index names them; no other entry is touched. Call again at once if there is more, else not before
    /// `next_expire_ms`. What is not admitted stays due.
    pub fn expire_slice(
        &mut self,
        now_ms: i64,
        entries_max: usize,
        mut admit: impl FnMut(EntryRef<'_>) -> bool,
        mut on_expired: impl FnMut(Entry),
    ) -> ExpireSlice {
        let mut slice = ExpireSlice { expired: 0, more: false };
        let Some(now) = self.expiry.now(now_ms) else { return slice };
        if self.expiry.tick_min > now {
            return slice;
        }
        for _ in 0..=entries_max * SEGMENTS_PER_EXPIRED {
            let hash = hash_of(self.expiry.pass_prefix);
            let Some(segment) = self.directory.segment(hash) else { return slice };
            if segment.expiries.tick_min() <= now {
                let complete = self.expire_segment(hash, now, entries_max, &mut slice, &mut admit, &mut on_expired);
                if !complete {
                    slice.more = true;
                    return slice;
                }
            }
            // The segment may have been merged or freed.
            let Some(segment) = self.directory.segment(hash) else { return slice };
            self.expiry.pass_tick_min = self.expiry.pass_tick_min.min(segment.expiries.tick_min());
            self.expiry.pass_prefix = end_of(segment);
            if self.expiry.pass_prefix == PREFIX_END {
                slice.more = self.expiry.end_pass() <= now && !std::mem::take(&mut self.expiry.pass_refused);
                return slice;
            }
        }
        slice.more = true;
        slice
    }

    /// Collects what is due in one segment; false if `entries_max` came first.
    fn expire_segment(
        &mut self,
        hash: u64,
        now: Tick,
        entries_max: usize,
        slice: &mut ExpireSlice,
        admit: &mut impl FnMut(EntryRef<'_>) -> bool,
        on_expired: &mut impl FnMut(Entry),
    ) -> bool {
        let Some(segment) = self.directory.segment(hash) else { return true };
        let mut end = segment.expiries.len();
        loop {
            let Some(segment) = self.directory.segment(hash) else { return true };
            let mut batch = [None; REMOVE_BATCH];
            let mut batch_len = 0;
            while batch_len < REMOVE_BATCH.min(entries_max - slice.expired) {
                let Some(index) = segment.expiries.due_before(end, now) else {
                    end = 0;
                    break;
                };
                end = index;
                let at = segment.expiry_place(index);
                segment.prefetch_place(at);
                batch[batch_len] = Some(at);
                batch_len += 1;
            }
            let batch = batch.into_iter().flatten();
            for at in batch.clone() {
                bucket::prefetch(segment.entry_pointer(at).as_ptr());
            }
            // Records behind `end` are not due or were seen; removing from the back never moves an unseen one.
            for at in batch {
                let segment = self.directory.segment(hash).expect("nothing merges before after_removal");
                if admit(segment.entry(at)) {
                    on_expired(self.take_at(hash, at));
                    slice.expired += 1;
                } else {
                    self.expiry.pass_refused = true;
                }
            }
            let exhausted = slice.expired == entries_max;
            if end == 0 || exhausted {
                if let Some(segment) = self.directory.segment_mut(hash) {
                    segment.expiries.recompute_tick_min();
                }
                self.after_removal(hash);
                return !exhausted;
            }
        }
    }

    /// No active expiry has anything to do before this time; nothing at all if no key has an expiry.
    pub fn next_expire_ms(&self) -> Option<i64> {
        (self.expiry.len > 0 && self.expiry.tick_min < TICK_NEVER).then(|| self.expiry.due_ms(self.expiry.tick_min))
    }

    /// The average of what is left to live of the keys that have an expiry, for INFO.
    pub fn average_ttl_ms(&self, now_ms: i64) -> i64 {
        let Some(average) = self.expiry.tick_sum.checked_div(self.expiry.len as u64) else { return 0 };
        (self.expiry.base_ms + ((average as i64) << TICK_MS_LOG2) - now_ms).max(0)
    }

    /// Begins a snapshot: from now on all that is in the table counts as not saved. Numbers ascend.
    pub fn begin_snapshot(&mut self, number: u64) {
        assert!(number > self.snapshot.number, "numbers of snapshots ascend");
        self.snapshot = Snapshot { number, running: true };
    }

    /// Ends a snapshot, complete or not.
    pub fn end_snapshot(&mut self) {
        self.snapshot.running = false;
    }

    /// Whether a key may be written without saving first what the running snapshot has to contain.
    #[inline]
    pub fn is_saved(&self, hash: u64) -> bool {
        let Snapshot { number, running } = self.snapshot;
        let group = SnapshotState::group(Fingerprint::of(hash));
        !running || self.directory.segment(hash).is_none_or(|segment| segment.snapshot.is_saved(group, number))
    }

    /// Visits the entries that are saved together with a key, and marks them as saved. Those that are so already are not
    /// visited.
    pub fn save_group(&mut self, hash: u64, mut visit: impl FnMut(EntryRef<'_>)) {
        if self.is_saved(hash) {
            return;
        }
        let number = self.snapshot.number;
        let group = SnapshotState::group(Fingerprint::of(hash));
        let range = SnapshotState::group_range(group);
        let segment = self.directory.segment_mut(hash).expect("what is not saved is in a segment");
        for home in segment.home_of(range.start)..=segment.home_of(range.end - 1) {
            segment.visit_home(home, range.clone(), &mut visit);
        }
        segment.snapshot.mark_saved(group, number);
    }

    /// Makes room in the segment of a hash, or makes the first one.
    #[cold]
    fn make_room(&mut self, hash: u64) -> &mut Segment {
        if self.directory.is_empty() {
            let state = SnapshotState::all_saved(self.snapshot.number);
            self.directory.start(Segment::new(0, 0, 0, state));
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
        if segment.should_shrink() || segment.should_refresh() {
            self.shrink(hash);
        }
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
        let mixes = self.snapshot.running && segment.snapshot != buddy.snapshot;
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
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        if let expire_at_ms @ Some(_) = segment.entry(at).expire_at_ms() {
            self.update_expiry(hash, at, expire_at_ms, None);
        }
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        self.len -= 1;
        segment.take(at)
    }

    /// Brings the expiry index from one time of an entry to another.
    fn update_expiry(&mut self, hash: u64, at: Place, from_ms: Option<i64>, to_ms: Option<i64>) {
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        let expiry = &mut self.expiry;
        let usable_before = segment.expiries.usable_bytes();
        let removed = match (from_ms, to_ms) {
            (None, None) => return,
            (None, Some(to_ms)) => {
                segment.add_expiry(at, expiry.tick(to_ms));
                None
            }
            (Some(_), Some(to_ms)) => Some(segment.set_expiry(at, expiry.tick(to_ms))),
            (Some(_), None) => Some(segment.remove_expiry(at)),
        };
        expiry.usable_bytes = expiry.usable_bytes + segment.expiries.usable_bytes() - usable_before;
        if let Some(tick) = removed {
            expiry.len -= 1;
            expiry.tick_sum -= u64::from(tick);
        }
        if let Some(to_ms) = to_ms {
            let tick = expiry.tick(to_ms);
            expiry.len += 1;
            expiry.tick_sum += u64::from(tick);
            expiry.tick_min = expiry.tick_min.min(tick);
            // The pass may be past this segment.
            expiry.pass_tick_min = expiry.pass_tick_min.min(tick);
        }
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
            }
        }
        assert_eq!(len, self.len, "length");
        assert!(self.len > 0 || self.directory.is_empty(), "an empty table has no memory");
        assert_eq!(expiry.len, self.expiry.len, "expiries");
        assert_eq!(expiry.usable_bytes, self.expiry.usable_bytes, "memory of the expiry index");
        assert_eq!(expiry.tick_sum, self.expiry.tick_sum, "sum of ticks");
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

/// A uniform number below `end`, from a uniform 64-bit number.
fn below(random: u64, end: usize) -> usize {
    ((u128::from(random) * end as u128) >> 64) as usize
}

impl ExpiryState {
    fn new(base_ms: i64) -> ExpiryState {
        ExpiryState {
            base_ms,
            len: 0,
            usable_bytes: 0,
            tick_sum: 0,
            tick_min: TICK_NEVER,
            pass_prefix: 0,
            pass_tick_min: TICK_NEVER,
            pass_refused: false,
        }
    }

    /// Rounded up, so that what is due by its tick is due.
    fn tick(&self, at_ms: i64) -> Tick {
        let after_base_ms = at_ms.saturating_sub(self.base_ms).max(0) as u64;
        after_base_ms.div_ceil(1 << TICK_MS_LOG2).min(u64::from(TICK_NEVER)) as Tick
    }

    /// The last tick that is due. As in Redis a key lives through the millisecond of its expiry.
    fn now(&self, now_ms: i64) -> Option<Tick> {
        let after_base_ms = now_ms.checked_sub(self.base_ms)?.checked_sub(1).filter(|&ms| ms >= 0)?;
        Some((after_base_ms as u64 >> TICK_MS_LOG2).min(u64::from(TICK_NEVER - 1)) as Tick)
    }

    fn due_ms(&self, tick: Tick) -> i64 {
        self.base_ms + (i64::from(tick) << TICK_MS_LOG2) + 1
    }

    /// All segments were visited since the pass began; returns the earliest tick that is left.
    fn end_pass(&mut self) -> Tick {
        self.tick_min = std::mem::replace(&mut self.pass_tick_min, TICK_NEVER);
        self.pass_prefix = 0;
        self.tick_min
    }
}

/// A place in the table's order: the fingerprints from `fingerprint` on of the segment with this prefix, and all that
/// follows. `depth` is the segment's, to recognise that it has merged.
#[derive(Clone, Copy)]
struct ScanCursor {
    depth: u8,
    prefix: u32,
    fingerprint: u16,
}

impl ScanCursor {
    fn pack(self) -> u64 {
        let high = u64::from(self.depth) << PREFIX_BITS | u64::from(self.prefix);
        high << Fingerprint::BITS | u64::from(self.fingerprint)
    }

    /// Clients may send any number; all are taken for some cursor.
    fn unpack(cursor: u64) -> ScanCursor {
        let high = cursor >> Fingerprint::BITS;
        ScanCursor {
            depth: (high >> PREFIX_BITS) as u8 & 0x1f,
            prefix: high as u32 & (PREFIX_END - 1),
            fingerprint: cursor as u16 & (Fingerprint::END - 1),
        }
    }
}

impl VacantMut<'_> {
    pub fn insert(self, entry: Entry) {
        self.dict.insert(self.hash, entry);
    }
}

impl<'a> OccupiedMut<'a> {
    #[inline]
    fn new(dict: &'a mut Dict, hash: u64, at: Place) -> OccupiedMut<'a> {
        let segment = dict.directory.segment(hash).expect("the place is occupied");
        // SAFETY: the table is borrowed for as long as the handle lives, which never drops the entry, and gives it back
        // whenever it may have moved.
        let entry = ManuallyDrop::new(unsafe { Entry::from_raw(segment.entry_pointer(at)) });
        OccupiedMut { dict, hash, at, entry }
    }

    /// Lets `change` modify the entry, all but its key. Table and expiry index follow.
    #[inline]
    pub fn update<R>(&mut self, change: impl FnOnce(&mut Entry) -> R) -> R {
        /// Writes back even if `change` panics: the entry may have moved by then.
        struct WriteBack<'b, 'a> {
            slot: &'b mut OccupiedMut<'a>,
            expire_at_ms: Option<i64>,
        }
        impl Drop for WriteBack<'_, '_> {
            #[inline]
            fn drop(&mut self) {
                self.slot.write_back(self.expire_at_ms);
            }
        }
        let expire_at_ms = self.entry.expire_at_ms();
        let guard = WriteBack { slot: self, expire_at_ms };
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
    fn write_back(&mut self, expire_at_ms_before: Option<i64>) {
        debug_assert_eq!(self.dict.hash(self.entry.key()), self.hash, "the key of an entry in the table changed");
        let segment = self.dict.directory.segment_mut(self.hash).expect("the place is occupied");
        segment.set_entry_pointer(self.at, self.entry.as_raw());
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
