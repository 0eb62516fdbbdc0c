//! Visiting part of a table: SCAN's cursor, random entries, samples.

use super::super::entry::EntryRef;
use super::Dict;
use super::bucket::Fingerprint;
use super::directory::{end_of, hash_of};
use super::segment::{PREFIX_BITS, PREFIX_END, Segment};

/// SCAN looks at this many buckets for each element that was asked for, as Redis does.
const SCAN_BUCKETS_PER_ELEMENT: usize = 10;

impl Dict {
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
}

/// A uniform number below `end`, from a uniform 64-bit number.
pub(super) fn below(random: u64, end: usize) -> usize {
    ((u128::from(random) * end as u128) >> 64) as usize
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
