//! A segment: the entries whose hashes begin with one prefix, in buckets of its own.
//!
//! Header and buckets are one allocation that fills a size class of the allocator, hence four sizes per doubling. A
//! bucket that is full displaces entries to the next ones, around the end. Growing and shrinking move places only, by
//! the fingerprints kept in the buckets; splitting alone looks at the entries.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::super::entry::{Entry, EntryRef};
use super::super::size_class::allocation_size;
use super::bucket::{Bucket, Fingerprint, PLACES, Slot, prefetch};
use super::expiries::{Expiries, TICK_NEVER, Tick};
use super::snapshot::SnapshotState;
use crate::base::bytes;

/// A prefix is kept left-aligned in this many bits, so that it keeps its place in the order when segments split.
pub(super) const PREFIX_BITS: u32 = 24;
pub(super) const PREFIX_END: u32 = 1 << PREFIX_BITS;

const LINE_BYTES: usize = 64;
/// A segment shrinks when it holds less than this share of what it may hold, of 8.
const SHRINK_BELOW: u32 = 3;
/// One in so many places may have lost a displaced entry before the filters are made anew.
const STALE_SHARE: u32 = 16;
/// Places are counted in u16. Only hashes that agree in nearly all bits could bring a segment there.
const BUCKETS_MAX: usize = u16::MAX as usize / PLACES;

/// Every segment draws from its prefix how large it becomes before it splits, evenly over a doubling, and how full its
/// buckets before it grows. So segments neither grow nor split in step: latency and memory per key stay even while the
/// number of keys grows.
const SPLIT_AT: [u32; 8] = [768, 838, 913, 996, 1086, 1184, 1292, 1409];
/// Of 64: the fullest that buckets of the first draw become. The last draw adds 7.
const LOAD_MAX: usize = 52;

#[repr(C, align(64))]
pub(super) struct Segment {
    pub(super) expiries: Expiries,
    pub(super) snapshot: SnapshotState,
    /// The first bits of all hashes here.
    pub(super) prefix: u32,
    len: u32,
    /// At this length the segment grows or splits before the next insertion.
    grow_at: u32,
    /// How many displaced entries are gone that the buckets' filters still contain.
    stale: u32,
    /// How many bits of the prefix count.
    pub(super) depth: u8,
    buckets: [Bucket],
}

/// Where an entry is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    bucket: u32,
    place: u32,
}

impl Place {
    fn number(self) -> u16 {
        (self.bucket as usize * PLACES + self.place as usize) as u16
    }

    fn from_number(number: u16) -> Place {
        let number = usize::from(number);
        Place { bucket: (number / PLACES) as u32, place: (number % PLACES) as u32 }
    }
}

/// Moves entries to a segment that none has left yet, so that those of a bucket have its first places. How many they are
/// is counted beside it: to look for a free place among tags that were stored a moment ago takes as long as all the rest.
struct Filler<'s> {
    segment: &'s mut Segment,
    filled: Vec<u8>,
}

impl Filler<'_> {
    fn new(segment: &mut Segment) -> Filler<'_> {
        let filled = segment.buckets.iter().map(|bucket| bucket.occupied().count() as u8).collect();
        Filler { segment, filled }
    }

    #[inline]
    fn put(&mut self, slot: Slot, tick: Option<Tick>) {
        let fingerprint = slot.fingerprint();
        let mut index = fingerprint.home(self.filled.len());
        for _ in 0..self.filled.len() {
            let (bucket, filled) = (&mut self.segment.buckets[index], &mut self.filled[index]);
            if usize::from(*filled) < PLACES {
                let at = Place { bucket: index as u32, place: u32::from(*filled) };
                bucket.put(at.place as usize, slot);
                *filled += 1;
                self.segment.len += 1;
                if let Some(tick) = tick {
                    self.segment.add_expiry(at, tick);
                }
                return;
            }
            bucket.pass(fingerprint);
            index = self.segment.next(index);
        }
        unreachable!("the segment was made for as many");
    }
}

impl Segment {
    /// An empty segment with room for `len` entries and one more.
    pub(super) fn new(prefix: u32, depth: u8, len: usize, snapshot: SnapshotState) -> Box<Segment> {
        let load_max = LOAD_MAX + draw(prefix, depth);
        let buckets = buckets_for(len + 1, load_max);
        assert!(buckets <= BUCKETS_MAX, "thousands of keys with the same hash");
        let layout = Layout::from_size_align((1 + buckets) * LINE_BYTES, LINE_BYTES).expect("at most 480 KiB");
        // SAFETY: the layout is not empty.
        let Some(lines) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let segment = Segment::pointer(lines.as_ptr(), buckets);
        // SAFETY: the memory is ours, large and aligned enough; a bucket of zeros is a valid, empty bucket, and all
        // other fields are written here. The layout is the one that Box computes from the type and its length.
        unsafe {
            (&raw mut (*segment).expiries).write(Expiries::new());
            (&raw mut (*segment).snapshot).write(snapshot);
            (*segment).prefix = prefix;
            (*segment).depth = depth;
            (*segment).grow_at = capacity(buckets, load_max) as u32;
            let segment = Box::from_raw(segment);
            assert!(size_of_val(&*segment) == layout.size(), "header and buckets are whole lines");
            segment
        }
    }

    /// A pointer to a segment from that to its first byte and the number of its buckets.
    #[inline]
    pub(super) fn pointer(first_byte: *mut u8, buckets: usize) -> *mut Segment {
        ptr::slice_from_raw_parts_mut(first_byte.cast::<Bucket>(), buckets) as *mut Segment
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The segment's own allocation, without its expiries.
    pub(super) fn allocated(&self) -> usize {
        allocation_size(size_of_val(self))
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.grow_at
    }

    /// So large that it should split rather than grow.
    pub(super) fn should_split(&self) -> bool {
        self.len >= split_at(self.prefix, self.depth)
    }

    pub(super) fn should_shrink(&self) -> bool {
        self.len == 0 || self.buckets() > 1 && self.len < self.grow_at * SHRINK_BELOW / 8
    }

    /// Whether the filters are so stale that the segment should be rebuilt.
    pub(super) fn should_refresh(&self) -> bool {
        self.stale > self.grow_at / STALE_SHARE
    }

    /// An empty segment for the same hashes, with room for `len` entries and one more.
    pub(super) fn successor(&self, len: usize) -> Box<Segment> {
        Segment::new(self.prefix, self.depth, len, self.snapshot)
    }

    /// An empty segment of the same size for the same hashes.
    pub(super) fn twin(&self) -> Box<Segment> {
        self.successor(self.grow_at as usize - 1)
    }

    /// Whether this and its buddy would be small enough as one segment, with a margin before that one splits again.
    pub(super) fn may_merge_with(&self, buddy: &Segment) -> bool {
        self.len + buddy.len <= split_at(self.prefix & buddy.prefix, self.depth - 1) / 2
    }

    #[inline]
    pub(super) fn prefetch_home(&self, fingerprint: Fingerprint) {
        prefetch(&self.buckets[fingerprint.home(self.buckets.len())]);
    }

    /// Asks for what a lookup of this fingerprint looks at after the home bucket: the first candidate there, else the
    /// next bucket. One request and no branch, as a second candidate is rare and a mispredicted branch would wait for
    /// the bucket.
    #[inline]
    pub(super) fn prefetch_candidate(&self, fingerprint: Fingerprint) {
        let home = fingerprint.home(self.buckets.len());
        let bucket = &self.buckets[home];
        let next: *const u8 = (&raw const *bucket).wrapping_add(1).cast();
        let candidates = bucket.candidates(fingerprint);
        let entry = bucket.address(candidates.first_or_last()).cast_const();
        let line = if candidates.is_empty() { next } else { entry };
        prefetch(line);
        // Key and small value of an entry often reach into the line behind.
        prefetch(line.wrapping_add(LINE_BYTES));
    }

    #[inline]
    pub(super) fn find(&self, fingerprint: Fingerprint, key: &[u8]) -> Option<Place> {
        self.find_entry(fingerprint, key).map(|(at, _)| at)
    }

    /// Where a key is, and its entry.
    #[inline]
    pub(super) fn find_entry(&self, fingerprint: Fingerprint, key: &[u8]) -> Option<(Place, EntryRef<'_>)> {
        let mut index = fingerprint.home(self.buckets.len());
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[index];
            for place in bucket.candidates(fingerprint) {
                if bucket.fingerprint(place) == fingerprint {
                    let entry = bucket.entry(place);
                    if bytes::equal(entry.key(), key) {
                        return Some((Place { bucket: index as u32, place: place as u32 }, entry));
                    }
                }
            }
            if !bucket.was_passed_by(fingerprint) {
                return None;
            }
            index = self.next(index);
        }
        None
    }

    #[inline]
    pub(super) fn entry(&self, at: Place) -> EntryRef<'_> {
        self.buckets[at.bucket as usize].entry(at.place as usize)
    }

    pub(super) fn entry_pointer(&self, at: Place) -> NonNull<u8> {
        self.buckets[at.bucket as usize].pointer(at.place as usize)
    }

    pub(super) fn fingerprint(&self, at: Place) -> Fingerprint {
        self.buckets[at.bucket as usize].fingerprint(at.place as usize)
    }

    /// The entry at `at` has moved to another allocation.
    pub(super) fn set_entry_pointer(&mut self, at: Place, pointer: NonNull<u8>) {
        let slot = Slot::new(self.fingerprint(at), pointer);
        self.buckets[at.bucket as usize].put(at.place as usize, slot);
    }

    /// Takes an entry. The segment must have room.
    #[inline]
    pub(super) fn put(&mut self, slot: Slot) -> Place {
        let fingerprint = slot.fingerprint();
        let mut index = fingerprint.home(self.buckets.len());
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[index];
            if let Some(place) = bucket.free().next() {
                bucket.put(place, slot);
                self.len += 1;
                return Place { bucket: index as u32, place: place as u32 };
            }
            bucket.pass(fingerprint);
            index = self.next(index);
        }
        unreachable!("the segment grows before it is full");
    }

    /// Gives an entry away; its expiry must be gone from the index.
    pub(super) fn take(&mut self, at: Place) -> Entry {
        let home = self.fingerprint(at).home(self.buckets.len());
        self.stale += u32::from(home != at.bucket as usize);
        let pointer = self.buckets[at.bucket as usize].clear(at.place as usize);
        self.len -= 1;
        // SAFETY: the pointer came from Entry::into_raw, and has just left the table.
        unsafe { Entry::from_raw(pointer) }
    }

    pub(super) fn add_expiry(&mut self, at: Place, tick: Tick) {
        self.expiries.push(at.number(), tick);
    }

    /// Changes the expiry of an entry in the index, and returns the former.
    pub(super) fn set_expiry(&mut self, at: Place, tick: Tick) -> Tick {
        let index = self.expiries.index_of(at.number()).expect("an entry with an expiry is in the index");
        let former = self.expiries.tick(index);
        self.expiries.set_tick(index, tick);
        former
    }

    /// Removes the expiry of an entry from the index, and returns it.
    pub(super) fn remove_expiry(&mut self, at: Place) -> Tick {
        let index = self.expiries.index_of(at.number()).expect("an entry with an expiry is in the index");
        let former = self.expiries.tick(index);
        self.expiries.swap_remove(index);
        former
    }

    /// The place of record `index` of the expiries.
    pub(super) fn expiry_place(&self, index: usize) -> Place {
        Place::from_number(self.expiries.place(index))
    }

    pub(super) fn prefetch_place(&self, at: Place) {
        prefetch(&self.buckets[at.bucket as usize]);
    }

    /// Visits the entries that are at home in bucket `home`, wherever they are, with fingerprints in `range`.
    pub(super) fn visit_home<'a>(
        &'a self,
        home: usize,
        range: Range<u16>,
        mut visit: impl FnMut(EntryRef<'a>),
    ) -> usize {
        let mut visited = 0;
        self.walk_home(home, range, |bucket, place| {
            visit(bucket.entry(place));
            visited += 1;
        });
        visited
    }

    /// The same, and they may be changed, but for their key and their place in memory.
    pub(super) fn visit_home_mut(&mut self, home: usize, range: Range<u16>, mut visit: impl FnMut(&mut Entry)) {
        self.walk_home(home, range, |bucket, place| {
            let pointer = bucket.pointer(place);
            // SAFETY: the pointer came from Entry::into_raw; the table is borrowed mutably, so nobody else looks at the
            // entry, and it is not dropped here.
            let mut entry = ManuallyDrop::new(unsafe { Entry::from_raw(pointer) });
            visit(&mut entry);
            assert!(ManuallyDrop::into_inner(entry).into_raw() == pointer, "the entry has moved");
        });
    }

    /// The occupied places of entries that are at home in bucket `home`, with fingerprints in `range`.
    #[inline]
    fn walk_home<'a>(&'a self, home: usize, range: Range<u16>, mut visit: impl FnMut(&'a Bucket, usize)) {
        let mut index = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[index];
            for place in bucket.occupied() {
                let fingerprint = bucket.fingerprint(place);
                if range.contains(&fingerprint.bits()) && fingerprint.home(self.buckets.len()) == home {
                    visit(bucket, place);
                }
            }
            if !bucket.was_passed() {
                break;
            }
            index = self.next(index);
        }
    }

    /// The bucket at which fingerprint bits `from` are at home.
    pub(super) fn home_of(&self, from: u16) -> usize {
        (usize::from(from) * self.buckets.len()) >> Fingerprint::BITS
    }

    /// The first fingerprint bits at home in a bucket after `home`.
    pub(super) fn home_end(&self, home: usize) -> u16 {
        ((home + 1) << Fingerprint::BITS).div_ceil(self.buckets.len()) as u16
    }

    pub(super) fn prefetch_entries(&self, bucket: usize) {
        if let Some(bucket) = self.buckets.get(bucket) {
            for place in bucket.occupied() {
                prefetch(bucket.pointer(place).as_ptr());
            }
        }
    }

    /// All occupied places.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let bucket_places = |(index, bucket): (usize, &Bucket)| {
            bucket.occupied().map(move |place| Place { bucket: index as u32, place: place as u32 })
        };
        self.buckets.iter().enumerate().flat_map(bucket_places)
    }

    pub(super) fn is_occupied(&self, at: Place) -> bool {
        self.buckets[at.bucket as usize].occupied().contains(at.place as usize)
    }

    /// The place with this number, of `places_total`.
    pub(super) fn place_at(&self, number: usize) -> Place {
        Place::from_number(number as u16)
    }

    pub(super) fn places_total(&self) -> usize {
        self.buckets.len() * PLACES
    }

    /// Takes over all entries of `sources`, which are emptied.
    pub(super) fn absorb(&mut self, sources: &mut [&mut Segment]) {
        self.expiries.reserve(sources.iter().map(|source| source.expiries.len()).sum());
        let mut filler = Filler::new(self);
        for source in sources {
            source.drain(|slot, tick, _| filler.put(slot, tick));
        }
    }

    /// Moves all entries to two new segments, by the bit after the prefix.
    pub(super) fn split(&mut self, hash: impl Fn(&[u8]) -> u64) -> [Box<Segment>; 2] {
        const AHEAD: usize = 2;
        let bit = u64::BITS - 1 - u32::from(self.depth);
        let mut sides = Vec::with_capacity(self.buckets.len());
        let mut right_len = 0;
        for ahead in 0..AHEAD {
            self.prefetch_entries(ahead);
        }
        for (index, bucket) in self.buckets.iter().enumerate() {
            self.prefetch_entries(index + AHEAD);
            let mut side = 0u16;
            for place in bucket.occupied() {
                side |= ((hash(bucket.entry(place).key()) >> bit & 1) as u16) << place;
            }
            right_len += side.count_ones() as usize;
            sides.push(side);
        }
        let depth = self.depth + 1;
        let right_prefix = self.prefix | PREFIX_END >> depth;
        let mut halves = [
            Segment::new(self.prefix, depth, self.len() - right_len, self.snapshot),
            Segment::new(right_prefix, depth, right_len, self.snapshot),
        ];
        let mut fillers = halves.each_mut().map(|half| Filler::new(half));
        self.drain(|slot, tick, from| {
            let right = sides[from.bucket as usize] >> from.place & 1;
            fillers[usize::from(right)].put(slot, tick);
        });
        halves
    }

    /// Gives all entries and their expiries away. The buckets are left as they were: the segment is to be freed.
    fn drain(&mut self, mut receive: impl FnMut(Slot, Option<Tick>, Place)) {
        let ticks = self.ticks_by_place();
        for (index, bucket) in self.buckets.iter().enumerate() {
            for place in bucket.occupied() {
                let at = Place { bucket: index as u32, place: place as u32 };
                let tick = ticks.get(usize::from(at.number())).copied().flatten();
                receive(bucket.slot(place), tick, at);
            }
        }
        self.len = 0;
        self.expiries = Expiries::new();
    }

    /// The index of expiries the other way round; empty if there is none.
    fn ticks_by_place(&self) -> Vec<Option<Tick>> {
        if self.expiries.len() == 0 {
            return Vec::new();
        }
        let mut ticks = vec![None; self.places_total()];
        for index in 0..self.expiries.len() {
            ticks[usize::from(self.expiries.place(index))] = Some(self.expiries.tick(index));
        }
        ticks
    }

    #[inline]
    fn next(&self, index: usize) -> usize {
        if index + 1 == self.buckets.len() { 0 } else { index + 1 }
    }

    /// How many buckets a lookup of an absent key looks at.
    #[cfg(test)]
    pub(super) fn probe_len(&self, fingerprint: Fingerprint) -> usize {
        let home = fingerprint.home(self.buckets.len());
        let probed = (0..self.buckets.len()).map(|offset| &self.buckets[(home + offset) % self.buckets.len()]);
        1 + probed.take_while(|bucket| bucket.was_passed_by(fingerprint)).count()
    }

    /// Panics if anything that the segment keeps contradicts its entries.
    pub(super) fn assert_consistent(&self, hash: &impl Fn(&[u8]) -> u64, tick: &impl Fn(i64) -> Tick) {
        let mut expiries = 0;
        let ticks = self.ticks_by_place();
        for at in self.places() {
            let entry = self.entry(at);
            let hash = hash(entry.key());
            assert_eq!(self.fingerprint(at), Fingerprint::of(hash), "fingerprint");
            assert_eq!(
                (hash >> 40) as u32 >> (PREFIX_BITS - u32::from(self.depth)),
                self.prefix >> (PREFIX_BITS - u32::from(self.depth)),
                "prefix"
            );
            assert_eq!(self.find(Fingerprint::of(hash), entry.key()), Some(at), "found where it is");
            let indexed = ticks.get(usize::from(at.number())).copied().flatten();
            assert_eq!(indexed, entry.expire_at_ms().map(tick), "expiry index");
            expiries += usize::from(indexed.is_some());
        }
        assert_eq!(self.places().count(), self.len(), "length");
        assert_eq!(self.expiries.len(), expiries, "expiries");
        for index in 0..self.expiries.len() {
            assert!(self.expiries.tick(index) >= self.expiries.tick_min(), "earliest tick");
        }
        assert!(self.expiries.len() > 0 || self.expiries.tick_min() == TICK_NEVER);
        assert!(self.len <= self.grow_at, "load");
        assert!(!self.should_refresh(), "filters");
    }
}

/// How many entries a segment holds before it grows.
fn capacity(buckets: usize, load_max: usize) -> usize {
    buckets * PLACES * load_max / 64
}

/// The buckets of the smallest segment that may hold `len` entries.
fn buckets_for(len: usize, load_max: usize) -> usize {
    let buckets = (len * 64).div_ceil(PLACES * load_max);
    allocation_size((1 + buckets) * LINE_BYTES) / LINE_BYTES - 1
}

fn split_at(prefix: u32, depth: u8) -> u32 {
    SPLIT_AT[draw(prefix, depth)]
}

/// A number below eight, evenly spread over neighbouring prefixes (Fibonacci hashing).
fn draw(prefix: u32, depth: u8) -> usize {
    ((prefix ^ u32::from(depth)).wrapping_mul(0x9e37_79b9) >> 29) as usize
}
