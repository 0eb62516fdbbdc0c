//! A string as an array of bits: the most significant bit of its first byte is bit 0.
//!
//! Counting, searching and combining go through whole words, so that the compiler makes vector code of them. A field is
//! an integer of 1 to 64 bits that begins at any bit, its most significant bit first. Bytes beyond the end of a string
//! read as zeros; nothing here makes a string longer. Ranges are of bits, and lie inside the string.

use std::ops::Range;

/// Bytes of each source that are combined before the next block is looked at: all sources' blocks fit into the cache.
const BLOCK_BYTES: usize = 16 * 1024;
const WORD_BYTES: usize = size_of::<u64>();

/// How many bits of the range are set.
pub fn count(bytes: &[u8], range: Range<usize>) -> usize {
    let Some(Parts { head, middle, tail }) = Parts::of(bytes, range) else { return 0 };
    let ends = head.count_ones() + tail.count_ones();
    let mut words = middle.chunks_exact(WORD_BYTES);
    let middle: u64 = words.by_ref().map(|word| u64::from(native(word).count_ones())).sum();
    let rest: u32 = words.remainder().iter().map(|byte| byte.count_ones()).sum();
    middle as usize + (ends + rest) as usize
}

/// The first bit of the range that is `bit`.
pub fn find(bytes: &[u8], bit: bool, range: Range<usize>) -> Option<usize> {
    let (start, end) = (range.start, range.end);
    let Parts { middle, .. } = Parts::of(bytes, range)?;
    let other_byte: u8 = if bit { 0 } else { 0xff };
    let first_of = |candidates: u8, at: usize| {
        let found = at * 8 + candidates.leading_zeros() as usize;
        (candidates != 0 && found < end).then_some(found)
    };
    let head = (bytes[start / 8] ^ other_byte) & (0xff >> (start % 8));
    if head != 0 {
        return first_of(head, start / 8);
    }
    let other_word = u64::from_ne_bytes([other_byte; WORD_BYTES]);
    let words = middle.chunks_exact(WORD_BYTES).take_while(|word| native(word) == other_word).count();
    let rest_at = start / 8 + 1 + words * WORD_BYTES;
    let rest = bytes.get(rest_at..end.div_ceil(8))?;
    let at = rest.iter().position(|&byte| byte != other_byte)?;
    first_of(rest[at] ^ other_byte, rest_at + at)
}

/// A range of bits as bytes: its first and last byte without the bits outside of it, and what lies between.
struct Parts<'a> {
    head: u8,
    middle: &'a [u8],
    tail: u8,
}

impl Parts<'_> {
    fn of(bytes: &[u8], range: Range<usize>) -> Option<Parts<'_>> {
        if range.is_empty() {
            return None;
        }
        let (first, last) = (range.start / 8, (range.end - 1) / 8);
        let from_start = 0xff >> (range.start % 8);
        let to_end = 0xff << (7 - (range.end - 1) % 8);
        Some(if first == last {
            Parts { head: bytes[first] & from_start & to_end, middle: &[], tail: 0 }
        } else {
            Parts { head: bytes[first] & from_start, middle: &bytes[first + 1..last], tail: bytes[last] & to_end }
        })
    }
}

fn native(word: &[u8]) -> u64 {
    u64::from_ne_bytes(word.try_into().expect("a chunk has the length of a word"))
}

/// What BITOP does with each bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    And,
    Or,
    Xor,
    /// Of the first source; there is no other.
    Not,
}

/// The sources combined bit by bit; as long as the longest, with shorter ones continued by zeros.
pub fn combine(operation: Operation, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    let mut result = Vec::with_capacity(len);
    result.extend_from_slice(first);
    result.resize(len, 0);
    for (index, block) in result.chunks_mut(BLOCK_BYTES).enumerate() {
        let at = index * BLOCK_BYTES;
        for source in others {
            let source = &source[at.min(source.len())..(at + block.len()).min(source.len())];
            let (common, beyond) = block.split_at_mut(source.len());
            let pairs = common.iter_mut().zip(source);
            match operation {
                Operation::And => {
                    pairs.for_each(|(to, from)| *to &= from);
                    beyond.fill(0);
                }
                Operation::Or => pairs.for_each(|(to, from)| *to |= from),
                Operation::Xor => pairs.for_each(|(to, from)| *to ^= from),
                Operation::Not => unreachable!("has one source"),
            }
        }
        if operation == Operation::Not {
            block.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
    result
}

/// Is the bit set?
pub fn get(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets or clears a bit inside the string; what it was.
pub fn set(bytes: &mut [u8], offset: usize, bit: bool) -> bool {
    let byte = &mut bytes[offset / 8];
    let was = *byte & mask(offset) != 0;
    *byte = if bit { *byte | mask(offset) } else { *byte & !mask(offset) };
    was
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

/// The integers that a field holds: `i1` to `i64`, `u1` to `u63`. All of them fit into an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    signed: bool,
    bits: u32,
}

/// What becomes of a value that its field cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits are kept.
    Wrap,
    /// The nearest value that the field can hold takes its place.
    Saturate,
    Fail,
}

impl FieldType {
    pub fn new(signed: bool, bits: u32) -> Option<FieldType> {
        let bits_max = if signed { 64 } else { 63 };
        (1..=bits_max).contains(&bits).then_some(FieldType { signed, bits })
    }

    pub fn bits(self) -> usize {
        self.bits as usize
    }

    pub fn is_signed(self) -> bool {
        self.signed
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        (1 << (self.bits - u32::from(self.signed))) - 1
    }

    /// Is a value so small that 64 bits cannot hold its distance from the largest? Nothing is for a field of 64 bits.
    pub fn is_far_below(self, value: i64) -> bool {
        self.bits < i64::BITS && i64::try_from(self.max() - i128::from(value)).is_err()
    }

    /// The value that the field takes on when it is to hold this one.
    pub fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let fitting = (self.min()..=self.max()).contains(&value);
        let value = match overflow {
            _ if fitting => value,
            Overflow::Fail => return None,
            Overflow::Saturate => value.clamp(self.min(), self.max()),
            Overflow::Wrap => return Some(self.interpret(value as u64)),
        };
        Some(value as i64)
    }

    /// The field's lowest bits as a value.
    fn interpret(self, bits: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { ((bits << unused) as i64) >> unused } else { ((bits << unused) >> unused) as i64 }
    }

    pub fn get(self, bytes: &[u8], offset: usize) -> i64 {
        self.interpret((window(bytes, offset) >> self.shift(offset)) as u64)
    }

    /// Stores a value that `fit` returned. The string reaches to the end of the field.
    pub fn set(self, bytes: &mut [u8], offset: usize, value: i64) {
        let mask = (u128::MAX >> (u128::BITS - self.bits)) << self.shift(offset);
        let value = (u128::from(value as u64) << self.shift(offset)) & mask;
        let changed = window(bytes, offset) & !mask | value;
        let touched = (offset % 8 + self.bits()).div_ceil(8);
        bytes[offset / 8..][..touched].copy_from_slice(&changed.to_be_bytes()[..touched]);
    }

    /// How far the field's last bit is from the end of its window.
    fn shift(self, offset: usize) -> u32 {
        u128::BITS - self.bits - (offset % 8) as u32
    }
}

/// The sixteen bytes from the one on that has the bit at `offset`.
fn window(bytes: &[u8], offset: usize) -> u128 {
    let mut window = [0; size_of::<u128>()];
    let rest = bytes.get(offset / 8..).unwrap_or_default();
    let len = rest.len().min(window.len());
    window[..len].copy_from_slice(&rest[..len]);
    u128::from_be_bytes(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bits_of(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() * 8).map(|offset| get(bytes, offset)).collect()
    }

    /// Bytes with long runs of equal bits.
    fn runs() -> impl Strategy<Value = Vec<u8>> {
        vec((prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..40_usize), 0..8)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, count)| std::iter::repeat_n(byte, count)).collect())
    }

    #[test]
    fn fields_have_limits() {
        assert_eq!(FieldType::new(true, 65), None);
        assert_eq!(FieldType::new(false, 64), None);
        assert_eq!(FieldType::new(true, 0), None);
        let byte = FieldType::new(false, 8).unwrap();
        assert_eq!(byte.fit(256, Overflow::Wrap), Some(0));
        assert_eq!(byte.fit(-1, Overflow::Wrap), Some(255));
        assert_eq!(byte.fit(-1, Overflow::Saturate), Some(0));
        assert_eq!(byte.fit(256, Overflow::Saturate), Some(255));
        assert_eq!(byte.fit(256, Overflow::Fail), None);
        let long = FieldType::new(true, 64).unwrap();
        assert_eq!(long.fit(i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(long.fit(i128::from(i64::MIN) * 2, Overflow::Saturate), Some(i64::MIN));
    }

    proptest! {
        #[test]
        fn counts_and_finds_bit_by_bit(bytes in runs(), ends: (prop::sample::Index, prop::sample::Index)) {
            let bits = bits_of(&bytes);
            let (a, b) = (ends.0.index(bits.len() + 1), ends.1.index(bits.len() + 1));
            let range = a.min(b)..a.max(b);
            prop_assert_eq!(count(&bytes, range.clone()), bits[range.clone()].iter().filter(|&&bit| bit).count());
            for bit in [false, true] {
                let expected = range.clone().find(|&offset| bits[offset] == bit);
                prop_assert_eq!(find(&bytes, bit, range.clone()), expected);
            }
        }

        #[test]
        fn combines_bit_by_bit(sources in vec(vec(any::<u8>(), 0..40), 1..5), long in 0..3_usize) {
            let mut sources = sources;
            if long == 0 {
                let repeated = sources[0].repeat(2 * BLOCK_BYTES / 20);
                sources[0] = repeated;
            }
            let sources: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = sources.iter().map(|source| source.len()).max().unwrap();
            let at = |source: &[u8], index: usize| source.get(index).copied().unwrap_or(0);
            let folded = |fold: fn(u8, u8) -> u8| -> Vec<u8> {
                (0..len).map(|index| sources.iter().map(|source| at(source, index)).reduce(fold).unwrap()).collect()
            };
            prop_assert_eq!(combine(Operation::And, &sources), folded(|a, b| a & b));
            prop_assert_eq!(combine(Operation::Or, &sources), folded(|a, b| a | b));
            prop_assert_eq!(combine(Operation::Xor, &sources), folded(|a, b| a ^ b));
            let inverted: Vec<u8> = sources[0].iter().map(|byte| !byte).collect();
            prop_assert_eq!(combine(Operation::Not, &sources[..1]), inverted);
        }

        #[test]
        fn fields_are_their_bits(bytes in vec(any::<u8>(), 0..24), offset in 0..220_usize, signed: bool, bits in 1..=64_u32) {
            let Some(field) = FieldType::new(signed, bits) else { return Ok(()) };
            let mut expected = (offset..offset + field.bits()).fold(0_u64, |sum, at| sum << 1 | u64::from(get(&bytes, at)));
            if signed && bits < 64 && expected >> (bits - 1) == 1 {
                expected |= u64::MAX << bits;
            }
            prop_assert_eq!(field.get(&bytes, offset), expected as i64);
        }

        #[test]
        fn fields_hold_what_is_put_there(bytes in vec(any::<u8>(), 32), offset in 0..190_usize, signed: bool, bits in 1..=64_u32, value: i64) {
            let Some(field) = FieldType::new(signed, bits) else { return Ok(()) };
            let value = field.fit(i128::from(value), Overflow::Wrap).unwrap();
            let mut changed = bytes.clone();
            field.set(&mut changed, offset, value);
            prop_assert_eq!(field.get(&changed, offset), value);
            let outside = |offset_of: &usize| !(offset..offset + field.bits()).contains(offset_of);
            for at in (0..bytes.len() * 8).filter(outside) {
                prop_assert_eq!(get(&bytes, at), get(&changed, at));
            }
            prop_assert_eq!(field.fit(i128::from(value), Overflow::Fail), Some(value));
        }
    }
}
