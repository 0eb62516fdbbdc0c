//! The directory: 2^depth words, each a segment. The first bits of a hash are the index, so that the directory is in
//! the order of hashes, and a segment whose prefix is shorter than the directory's depth stands in several words.
//!
//! A word packs the segment's address with the number of its buckets: from here a lookup goes straight to the bucket.
//! Every segment of more than `SPLIT_AT` entries has split, so there is about one word for 400 to 800 keys: 0.02 bytes a
//! key, 128 KiB at 10 M keys and 2 MiB at 100 M. Doubling it, the one step that is not incremental, copies half of that.

use std::marker::PhantomData;
use std::ptr;

use super::super::size_class::allocation_size;
use super::bucket::prefetch;
use super::segment::{PREFIX_BITS, PREFIX_END, Segment};

const ADDRESS_BITS: u32 = 48;

/// Owns the segment behind it, together with the other words that are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn own(segment: Box<Segment>) -> Word {
        let buckets = segment.buckets() as u64;
        let address = Box::into_raw(segment).cast::<u8>().expose_provenance() as u64;
        assert!(address >> ADDRESS_BITS == 0, "unforeseen address");
        Word(buckets << ADDRESS_BITS | address)
    }

    #[inline]
    fn segment(self) -> *mut Segment {
        let address = self.0 & ((1 << ADDRESS_BITS) - 1);
        Segment::pointer(ptr::with_exposed_provenance_mut(address as usize), (self.0 >> ADDRESS_BITS) as usize)
    }

    /// # Safety
    /// No other word may be equal any more.
    unsafe fn disown(self) -> Box<Segment> {
        // SAFETY: the pointer came from Box::into_raw in `own`.
        unsafe { Box::from_raw(self.segment()) }
    }
}

pub(super) struct Directory {
    words: Vec<Word>,
    depth: u8,
    segments_by_depth: [u32; PREFIX_BITS as usize + 1],
    segment_bytes: usize,
    owns: PhantomData<*mut Segment>,
}

impl Directory {
    pub(super) fn new() -> Directory {
        Directory {
            words: Vec::new(),
            depth: 0,
            segments_by_depth: [0; PREFIX_BITS as usize + 1],
            segment_bytes: 0,
            owns: PhantomData,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The segment of a hash, or of a left-aligned prefix followed by anything.
    #[inline]
    pub(super) fn segment(&self, hash: u64) -> Option<&Segment> {
        // SAFETY: the words own their segments, which are borrowed with the directory.
        self.words.get(self.index(hash)).map(|word| unsafe { &*word.segment() })
    }

    #[inline]
    pub(super) fn segment_mut(&mut self, hash: u64) -> Option<&mut Segment> {
        // SAFETY: as above, and the directory is borrowed mutably, so there is no other reference to any segment.
        self.words.get(self.index(hash)).map(|word| unsafe { &mut *word.segment() })
    }

    /// Asks for the header of a segment some words behind a hash, for a walk that looks at headers only.
    pub(super) fn prefetch_header_behind(&self, hash: u64) {
        const AHEAD: usize = 8;
        if let Some(word) = self.words.get(self.index(hash) + AHEAD) {
            prefetch(word.segment().cast::<u8>());
        }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        let mut prefix = 0;
        std::iter::from_fn(move || {
            let segment = self.segment(hash_of(prefix)).filter(|_| prefix < PREFIX_END)?;
            prefix = end_of(segment);
            Some(segment)
        })
    }

    /// Adds 2^depth segments at once, the first ones, each made for its prefix.
    pub(super) fn start_with(&mut self, depth: u8, segment_of: impl Fn(u32) -> Box<Segment>) {
        assert!(self.is_empty());
        self.depth = depth;
        self.words.reserve_exact(1 << depth);
        for index in 0..1 << depth {
            let segment = segment_of(index * (PREFIX_END >> depth));
            assert!(segment.depth == depth);
            self.count(&segment);
            self.words.push(Word::own(segment));
        }
    }

    /// Puts `segment` where now stands another with the same prefix, or two buddies of one bit more, and returns those.
    /// The directory shrinks when no segment needs its last bit.
    pub(super) fn replace(&mut self, segment: Box<Segment>) -> Vec<Box<Segment>> {
        let range = self.range(&segment);
        self.count(&segment);
        let new = Word::own(segment);
        let mut owned: Vec<Word> = self.words[range.clone()].to_vec();
        owned.dedup();
        self.words[range].fill(new);
        // SAFETY: all words of the range are overwritten, and a segment stands in no other, as prefixes are disjoint.
        let replaced: Vec<_> = owned.into_iter().map(|word| unsafe { word.disown() }).collect();
        for old in &replaced {
            self.uncount(old);
        }
        while self.depth > 0 && self.segments_by_depth[usize::from(self.depth)] == 0 {
            self.words = self.words.iter().step_by(2).copied().collect();
            self.depth -= 1;
        }
        replaced
    }

    /// Puts two buddies in the place of a segment with one bit less, and returns that. Doubles the directory if needed.
    pub(super) fn replace_by_halves(&mut self, halves: [Box<Segment>; 2]) -> Box<Segment> {
        let [left, right] = halves;
        if left.depth > self.depth {
            let mut words = vec![Word(0); 2 * self.words.len()];
            for (pair, &word) in words.chunks_exact_mut(2).zip(&self.words) {
                pair.fill(word);
            }
            self.words = words;
            self.depth += 1;
        }
        let (left_range, right_range) = (self.range(&left), self.range(&right));
        let old = self.words[left_range.start];
        self.count(&left);
        self.count(&right);
        self.words[left_range].fill(Word::own(left));
        self.words[right_range].fill(Word::own(right));
        // SAFETY: the halves' words are all that the segment stood in, and are overwritten.
        let old = unsafe { old.disown() };
        self.uncount(&old);
        old
    }

    /// Frees all segments.
    pub(super) fn clear(&mut self) {
        let mut words = std::mem::take(self).words_owned();
        words.dedup();
        for word in words {
            // SAFETY: each segment once, as equal words are adjacent; no directory holds them any more.
            drop(unsafe { word.disown() });
        }
    }

    fn words_owned(mut self) -> Vec<Word> {
        std::mem::take(&mut self.words)
    }

    /// What directory and segments occupy, without expiries.
    pub(super) fn usable_bytes(&self) -> usize {
        let words = if self.words.is_empty() { 0 } else { allocation_size(size_of_val(&*self.words)) };
        words + self.segment_bytes
    }

    #[cfg(test)]
    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        // Two shifts, as one by 64 would not give zero.
        (hash >> 1 >> (u64::BITS - 1 - u32::from(self.depth))) as usize
    }

    fn range(&self, segment: &Segment) -> std::ops::Range<usize> {
        let from = self.index(hash_of(segment.prefix));
        from..from + (1 << (self.depth - segment.depth))
    }

    fn count(&mut self, segment: &Segment) {
        self.segments_by_depth[usize::from(segment.depth)] += 1;
        self.segment_bytes += segment.allocated();
    }

    fn uncount(&mut self, segment: &Segment) {
        self.segments_by_depth[usize::from(segment.depth)] -= 1;
        self.segment_bytes -= segment.allocated();
    }

    pub(super) fn assert_consistent(&self) {
        assert!(self.words.is_empty() || self.words.len() == 1 << self.depth);
        let mut counts = [0; PREFIX_BITS as usize + 1];
        let mut prefix = 0;
        for segment in self.segments() {
            assert_eq!(segment.prefix, prefix, "segments are in order and without gaps");
            let range = self.range(segment);
            assert!(self.words[range.clone()].iter().all(|&word| word == self.words[range.start]));
            counts[usize::from(segment.depth)] += 1;
            prefix = end_of(segment);
        }
        assert_eq!(counts, self.segments_by_depth);
        assert!(self.depth == 0 || counts[usize::from(self.depth)] > 0, "the last bit is needed");
        assert_eq!(self.segment_bytes, self.segments().map(Segment::allocated).sum::<usize>());
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.words.is_empty() {
            self.clear();
        }
    }
}

/// The first hash with this left-aligned prefix.
#[inline]
pub(super) fn hash_of(prefix: u32) -> u64 {
    u64::from(prefix) << (u64::BITS - PREFIX_BITS)
}

/// The prefix after all those of a segment.
pub(super) fn end_of(segment: &Segment) -> u32 {
    segment.prefix + (PREFIX_END >> segment.depth)
}
