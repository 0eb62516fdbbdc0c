//! A bucket: one cache line with nine places for entries.

use std::ptr::{self, NonNull};

use super::super::entry::EntryRef;

pub(super) const PLACES: usize = 9;
/// Entries are aligned to 16 bytes and user space ends at 2^47, so a pointer takes 43 bits.
const POINTER_SHIFT: u32 = 4;
const POINTER_BITS: u32 = 43;
const ADDRESS_BITS: u32 = 47;

/// Thirteen bits of the hash, of their own: not those that choose the segment. They choose the home bucket, and are
/// kept with each entry, eight as its tag and five beside its pointer, so that an entry can be moved within a segment
/// without touching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint(u16);

impl Fingerprint {
    pub(super) const BITS: u32 = 13;
    /// One more than the largest.
    pub(super) const END: u16 = 1 << Fingerprint::BITS;
    const SHIFT: u32 = 27;

    pub(super) fn of(hash: u64) -> Fingerprint {
        let bits = (hash >> Fingerprint::SHIFT) as u16 & (Fingerprint::END - 1);
        // Tag zero marks a free place.
        Fingerprint(bits | u16::from(bits as u8 == 0))
    }

    /// Monotone in the fingerprint: a segment is in order of fingerprints whatever its size, which is what a scan
    /// relies on.
    #[inline]
    pub(super) fn home(self, buckets: usize) -> usize {
        (usize::from(self.0) * buckets) >> Fingerprint::BITS
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    fn tag(self) -> u8 {
        self.0 as u8
    }

    fn high(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// By the lowest bits, which differ among the fingerprints of one home.
    #[inline]
    fn passed_bit(self) -> u8 {
        1 << (self.0 & 7)
    }
}

/// What an occupied place holds: the fingerprint, and an owned entry.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    tag: u8,
    /// The other bits of the fingerprint, and the entry's address: as many as six bytes hold.
    packed: u64,
}

impl Slot {
    pub(super) fn new(fingerprint: Fingerprint, pointer: NonNull<u8>) -> Slot {
        let address = pointer.as_ptr().expose_provenance() as u64;
        assert!(address >> ADDRESS_BITS == 0 && address.trailing_zeros() >= POINTER_SHIFT, "unforeseen address");
        let packed = address >> POINTER_SHIFT | u64::from(fingerprint.high()) << POINTER_BITS;
        Slot { tag: fingerprint.tag(), packed }
    }

    #[inline]
    pub(super) fn fingerprint(self) -> Fingerprint {
        Fingerprint(((self.packed >> POINTER_BITS) as u16) << 8 | u16::from(self.tag))
    }

    /// Null at a free place.
    #[inline]
    fn address(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(((self.packed & ((1 << POINTER_BITS) - 1)) << POINTER_SHIFT) as usize)
    }
}

/// Entries whose home is here go to later buckets when this one is full. `passed` is a filter of the fingerprints that
/// did, so that a lookup rarely looks further in vain. It cannot forget; the segment sees to that.
#[repr(C, align(64))]
pub(super) struct Bucket {
    tags: [u8; PLACES],
    passed: u8,
    pointers: [[u8; 6]; PLACES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The places whose tag is that of the fingerprint.
    #[inline]
    pub(super) fn candidates(&self, fingerprint: Fingerprint) -> Places {
        self.places_with(fingerprint.tag())
    }

    pub(super) fn occupied(&self) -> Places {
        Places(!self.free().0 & ((1 << PLACES) - 1))
    }

    pub(super) fn free(&self) -> Places {
        self.places_with(0)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn places_with(&self, tag: u8) -> Places {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
        // SAFETY: SSE2 belongs to x86_64, and a bucket has 64 bytes.
        let equal = unsafe {
            let line = _mm_loadu_si128(ptr::from_ref(self).cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(tag as i8)))
        };
        Places(equal as u32 & ((1 << PLACES) - 1))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn places_with(&self, tag: u8) -> Places {
        let bits = self.tags.iter().enumerate().map(|(place, &other)| u32::from(other == tag) << place);
        Places(bits.sum())
    }

    /// Whether an entry with this fingerprint may be in a later bucket.
    #[inline]
    pub(super) fn was_passed_by(&self, fingerprint: Fingerprint) -> bool {
        self.passed & fingerprint.passed_bit() != 0
    }

    /// Whether any entry may have gone on to a later bucket.
    pub(super) fn was_passed(&self) -> bool {
        self.passed != 0
    }

    pub(super) fn pass(&mut self, fingerprint: Fingerprint) {
        self.passed |= fingerprint.passed_bit();
    }

    #[inline]
    pub(super) fn slot(&self, place: usize) -> Slot {
        let [a, b, c, d, e, f] = self.pointers[place];
        let packed = u64::from(u32::from_le_bytes([a, b, c, d])) | u64::from(u16::from_le_bytes([e, f])) << 32;
        Slot { tag: self.tags[place], packed }
    }

    #[inline]
    pub(super) fn fingerprint(&self, place: usize) -> Fingerprint {
        self.slot(place).fingerprint()
    }

    /// Where the entry is, or null at a free place.
    #[inline]
    pub(super) fn address(&self, place: usize) -> *mut u8 {
        self.slot(place).address()
    }

    /// The entry at an occupied place.
    #[inline]
    pub(super) fn pointer(&self, place: usize) -> NonNull<u8> {
        NonNull::new(self.address(place)).expect("the place is occupied")
    }

    /// The entry at an occupied place; the table owns it for as long as the bucket is borrowed.
    #[inline]
    pub(super) fn entry(&self, place: usize) -> EntryRef<'_> {
        debug_assert!(self.tags[place] != 0);
        // SAFETY: every slot was made from a pointer that came from Entry::into_raw, and whoever modifies or frees the
        // entry holds the bucket mutably.
        unsafe { EntryRef::from_raw(self.pointer(place)) }
    }

    #[inline]
    pub(super) fn put(&mut self, place: usize, slot: Slot) {
        self.tags[place] = slot.tag;
        let [a, b, c, d, e, f, ..] = slot.packed.to_le_bytes();
        self.pointers[place] = [a, b, c, d, e, f];
    }

    /// Gives an occupied place free and the entry away.
    pub(super) fn clear(&mut self, place: usize) -> NonNull<u8> {
        let pointer = self.pointer(place);
        self.put(place, Slot { tag: 0, packed: 0 });
        pointer
    }
}

/// A set of places in a bucket, iterated in ascending order.
#[derive(Clone, Copy)]
pub(super) struct Places(u32);

impl Places {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first, or the last of a bucket if there is none.
    #[inline]
    pub(super) fn first_or_last(self) -> usize {
        (self.0 | 1 << (PLACES - 1)).trailing_zeros() as usize
    }

    pub(super) fn contains(self, place: usize) -> bool {
        self.0 >> place & 1 != 0
    }
}

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let place = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(place)
    }
}

/// Asks for the cache line of `pointer`, which may point anywhere.
#[inline]
pub(super) fn prefetch<T: ?Sized>(pointer: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint, and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(pointer.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pointer;
}
