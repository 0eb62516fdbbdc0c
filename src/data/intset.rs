//! An intset: distinct integers in ascending order, in one block, each as wide as the widest needs.
//!
//! ```text
//! as RDB files hold it: width of one (4, little endian: 2, 4 or 8 bytes) | how many (4, little endian) | integers
//! ```
//!
//! In memory the header is two fields beside the integers. A wider integer widens all; removing it narrows none, as in
//! Redis, so that DUMP payloads are equal. Nothing here panics on a block that came from outside: it enters through
//! [`Intset::from_bytes`], which looks at all of it once.

use super::size_class::allocation_size;

const HEADER_BYTES: usize = 8;
const WIDTH_MIN: u8 = 2;

#[derive(Clone, PartialEq, Eq)]
pub struct Intset {
    /// The integers, little endian.
    bytes: Vec<u8>,
    width: u8,
}

impl Default for Intset {
    fn default() -> Intset {
        Intset::new()
    }
}

impl Intset {
    /// An empty one; it allocates nothing.
    pub fn new() -> Intset {
        Intset { bytes: Vec::new(), width: WIDTH_MIN }
    }

    /// Takes a block as RDB files hold it; `None` unless it is whole, in order, and without duplicates. O(n).
    pub fn from_bytes(block: &[u8]) -> Option<Intset> {
        let (header, bytes) = block.split_first_chunk::<HEADER_BYTES>()?;
        let [a, b, c, d, counts @ ..] = *header;
        let width = u8::try_from(u32::from_le_bytes([a, b, c, d])).ok().filter(|width| matches!(width, 2 | 4 | 8))?;
        let count = u32::from_le_bytes(counts) as usize;
        if count.checked_mul(usize::from(width))? != bytes.len() {
            return None;
        }
        let intset = Intset { bytes: fitted(bytes), width };
        intset.iter().is_sorted_by(|a, b| a < b).then_some(intset)
    }

    /// Appends the block as RDB files hold it.
    pub fn write_block(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER_BYTES + self.bytes.len());
        out.extend_from_slice(&u32::from(self.width).to_le_bytes());
        let count = u32::try_from(self.len()).expect("a set becomes a table long before");
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / usize::from(self.width)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What the integers take of the allocator.
    pub fn usable_bytes(&self) -> usize {
        if self.bytes.capacity() == 0 { 0 } else { allocation_size(self.bytes.capacity()) }
    }

    /// The integer at an index, which must be below the length.
    pub fn get(&self, index: usize) -> i64 {
        let width = usize::from(self.width);
        read(&self.bytes[index * width..][..width])
    }

    pub fn first(&self) -> Option<i64> {
        (!self.is_empty()).then(|| self.get(0))
    }

    pub fn last(&self) -> Option<i64> {
        (!self.is_empty()).then(|| self.get(self.len() - 1))
    }

    /// All integers, ascending.
    pub fn iter(&self) -> Iter<'_> {
        Iter { chunks: self.bytes.chunks_exact(usize::from(self.width)) }
    }

    pub fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    /// Whether it was new.
    pub fn insert(&mut self, n: i64) -> bool {
        let Err(index) = self.search(n) else { return false };
        if width_of(n) > self.width {
            self.widen(width_of(n));
        }
        let width = usize::from(self.width);
        let (at, len) = (index * width, self.bytes.len());
        if len + width > self.bytes.capacity() {
            // Exactly a size class: what memory figures see is what is used.
            self.bytes.reserve_exact(allocation_size(len + width) - len);
        }
        self.bytes.resize(len + width, 0);
        self.bytes.copy_within(at..len, at + width);
        self.bytes[at..at + width].copy_from_slice(&n.to_le_bytes()[..width]);
        true
    }

    /// Whether it was there.
    pub fn remove(&mut self, n: i64) -> bool {
        let Ok(index) = self.search(n) else { return false };
        let width = usize::from(self.width);
        self.bytes.copy_within((index + 1) * width.., index * width);
        self.bytes.truncate(self.bytes.len() - width);
        self.shrink_to_fit();
        true
    }

    /// Keeps those for which `keep` holds; it is asked in ascending order.
    pub fn retain(&mut self, mut keep: impl FnMut(i64) -> bool) {
        let width = usize::from(self.width);
        let mut kept = 0;
        for at in (0..self.bytes.len()).step_by(width) {
            if keep(read(&self.bytes[at..at + width])) {
                self.bytes.copy_within(at..at + width, kept);
                kept += width;
            }
        }
        self.bytes.truncate(kept);
        self.shrink_to_fit();
    }

    /// Where an integer is, or where it would be.
    fn search(&self, n: i64) -> Result<usize, usize> {
        // Ascending insertion, and what is out of range altogether.
        match self.last() {
            None => return Err(0),
            Some(last) if n > last => return Err(self.len()),
            _ => {}
        }
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.get(middle).cmp(&n) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    #[cold]
    fn widen(&mut self, width: u8) {
        let mut wide = Vec::with_capacity(allocation_size((self.len() + 1) * usize::from(width)));
        for n in self.iter() {
            wide.extend_from_slice(&n.to_le_bytes()[..usize::from(width)]);
        }
        *self = Intset { bytes: wide, width };
    }

    /// Gives back memory beyond what the integers need.
    fn shrink_to_fit(&mut self) {
        let wanted = allocation_size(self.bytes.len());
        if self.bytes.capacity() > 0 && allocation_size(self.bytes.capacity()) > wanted {
            self.bytes.shrink_to(wanted);
        }
    }
}

pub struct Iter<'a> {
    chunks: std::slice::ChunksExact<'a, u8>,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.chunks.next().map(read)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl FromIterator<i64> for Intset {
    fn from_iter<I: IntoIterator<Item = i64>>(integers: I) -> Intset {
        let mut intset = Intset::new();
        for n in integers {
            intset.insert(n);
        }
        intset
    }
}

impl std::fmt::Debug for Intset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A copy in an allocation of its size class.
fn fitted(bytes: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(if bytes.is_empty() { 0 } else { allocation_size(bytes.len()) });
    copy.extend_from_slice(bytes);
    copy
}

fn width_of(n: i64) -> u8 {
    match n {
        -0x8000..=0x7fff => 2,
        -0x8000_0000..=0x7fff_ffff => 4,
        _ => 8,
    }
}

/// The integer of 2, 4 or 8 bytes.
#[inline]
fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("the width of an intset is 2, 4 or 8"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn integer() -> impl Strategy<Value = i64> {
        prop_oneof![-20..20i64, -40_000..40_000i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    fn block(intset: &Intset) -> Vec<u8> {
        let mut block = Vec::new();
        intset.write_block(&mut block);
        block
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((0..3u8, integer()), 1..200), modulus in 2..5i64) {
            let (mut intset, mut model) = (Intset::new(), BTreeSet::new());
            for (op, n) in ops {
                match op {
                    0 | 1 => prop_assert_eq!(intset.insert(n), model.insert(n)),
                    _ => prop_assert_eq!(intset.remove(n), model.remove(&n)),
                }
                prop_assert_eq!(intset.contains(n), model.contains(&n));
                prop_assert_eq!(intset.len(), model.len());
                prop_assert!(intset.iter().eq(model.iter().copied()));
                prop_assert_eq!((intset.first(), intset.last()), (model.first().copied(), model.last().copied()));
                prop_assert!(intset.bytes.capacity() <= allocation_size(intset.bytes.len()));
                prop_assert_eq!(Intset::from_bytes(&block(&intset)), Some(intset.clone()));
            }
            intset.retain(|n| n % modulus == 0);
            model.retain(|n| n % modulus == 0);
            prop_assert!(intset.iter().eq(model.iter().copied()));
        }

        #[test]
        fn any_block_is_safe(mut bytes: Vec<u8>, width in 0..9u8, count in 0..9u8) {
            let _ = Intset::from_bytes(&bytes);
            bytes.splice(..0, [width, 0, 0, 0, count, 0, 0, 0]);
            bytes.truncate(HEADER_BYTES + usize::from(width) * usize::from(count));
            if let Some(mut intset) = Intset::from_bytes(&bytes) {
                prop_assert_eq!(block(&intset), bytes);
                intset.insert(i64::MAX);
                prop_assert!(intset.contains(i64::MAX));
            }
        }
    }

    #[test]
    fn widths_are_those_of_redis() {
        for (n, width) in [(-32_768, 2), (32_767, 2), (32_768, 4), (-32_769, 4), (1 << 31, 8), (-(1 << 31) - 1, 8)] {
            assert_eq!(block(&[n].into_iter().collect()).len(), HEADER_BYTES + width, "{n}");
        }
        let mut intset: Intset = [1, 1 << 40].into_iter().collect();
        intset.remove(1 << 40);
        assert_eq!(block(&intset), b"\x08\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0", "it stays wide");
    }

    #[test]
    fn blocks_out_of_order_are_refused() {
        let with = |integers: &[u8]| [&[2, 0, 0, 0, 2, 0, 0, 0], integers].concat();
        assert!(Intset::from_bytes(&with(&[1, 0, 2, 0])).is_some());
        for integers in [&[2, 0, 1, 0][..], &[1, 0, 1, 0], &[1, 0], &[1, 0, 2, 0, 3, 0]] {
            assert_eq!(Intset::from_bytes(&with(integers)), None, "{integers:?}");
        }
    }
}
