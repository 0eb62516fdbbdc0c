//! A listpack: a sequence of short strings and integers in one block of bytes, walked from either end.
//!
//! ```text
//! total bytes (4, little endian) | elements (2, little endian; 65535: count them) | element ... | 0xff
//! element: encoding and data | length of these, readable backwards (1 to 5 bytes)
//! ```
//!
//! The format is Redis's (antirez, "Listpack specification"), so that DUMP payloads and RDB files hold the block as it
//! is. What looks like an integer is stored as one: `push(b"12")` and `push_integer(12)` are the same.
//!
//! A place in it is a byte offset (`At`), valid until the next change. Nothing here panics on a block that came from
//! outside: it enters through [`Listpack::from_bytes`], which walks all of it once.

use super::size_class::allocation_size;
use crate::base::number::parse_i64;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// In the count field: more than it can say.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Bytes of encoding and data that an element may take: what five backward digits of seven bits can say, and what a
/// block's length can.
const ELEMENT_BYTES_MAX: usize = u32::MAX as usize / 2;
/// Longest text that can be an integer.
const INTEGER_LEN_MAX: usize = 20;

/// Where an element begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(u32);

/// An element as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    Int(i64),
    Text(&'a [u8]),
}

/// Room for the digits of an integer, see [`Element::text`].
pub type Digits = itoa::Buffer;

impl<'a> Element<'a> {
    /// As a listpack would store this text.
    pub fn of(text: &'a [u8]) -> Element<'a> {
        match Some(text).filter(|text| text.len() <= INTEGER_LEN_MAX).and_then(parse_i64) {
            Some(n) => Element::Int(n),
            None => Element::Text(text),
        }
    }

    /// As a client sees it.
    pub fn text<'b>(self, digits: &'b mut Digits) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Element::Int(n) => digits.format(n).as_bytes(),
            Element::Text(text) => text,
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut Digits::new()).to_vec()
    }

    /// The length of the text.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.text(&mut Digits::new()).len()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    bytes: Vec<u8>,
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl Listpack {
    pub fn new() -> Listpack {
        let mut bytes = Vec::with_capacity(allocation_size(HEADER_BYTES + 1));
        bytes.extend_from_slice(&[HEADER_BYTES as u8 + 1, 0, 0, 0, 0, 0, END]);
        Listpack { bytes }
    }

    /// Takes a block over; `None` unless it is whole and well formed to the last byte. O(n).
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Listpack> {
        let header: [u8; HEADER_BYTES] = *bytes.first_chunk()?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if total as usize != bytes.len() || bytes.len() <= HEADER_BYTES || bytes.last() != Some(&END) {
            return None;
        }
        let (mut at, mut count) = (HEADER_BYTES, 0usize);
        let end = bytes.len() - 1;
        while at < end {
            let size = checked_size(bytes.get(at..end)?)?;
            let back = back_len(size);
            let written = bytes.get(at + size..at + size + back).filter(|_| at + size + back <= end)?;
            let mut expected = [0; 5];
            write_back(size, &mut expected);
            if written != &expected[..back] {
                return None;
            }
            at += size + back;
            count += 1;
        }
        let stated = u16::from_le_bytes([header[4], header[5]]);
        let right = stated == COUNT_UNKNOWN || usize::from(stated) == count;
        right.then_some(Listpack { bytes })
    }

    /// Takes over a block that was a listpack's before: nothing is checked.
    pub(super) fn from_own_bytes(bytes: Vec<u8>) -> Listpack {
        debug_assert!(Listpack::from_bytes(bytes.clone()).is_some(), "a listpack's own bytes");
        Listpack { bytes }
    }

    /// The block, as RDB files and DUMP payloads hold it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements. O(1) below 65535, else O(n).
    pub fn len(&self) -> usize {
        match self.stated_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES + 1
    }

    /// What the block takes of the allocator.
    pub fn usable_bytes(&self) -> usize {
        allocation_size(self.bytes.capacity())
    }

    pub fn first(&self) -> Option<At> {
        self.here(HEADER_BYTES)
    }

    pub fn last(&self) -> Option<At> {
        self.before(self.bytes.len() - 1)
    }

    pub fn next(&self, at: At) -> Option<At> {
        self.here(at.0 as usize + self.whole_size(at))
    }

    pub fn previous(&self, at: At) -> Option<At> {
        self.before(at.0 as usize)
    }

    /// The element at an index, from the end if it is negative: -1 is the last. O(n), from the nearer end.
    pub fn at_index(&self, index: i64) -> Option<At> {
        let len = self.stated_count();
        let (forward, steps) = match index {
            0.. if len != COUNT_UNKNOWN && index >= i64::from(len) => return None,
            0.. if len != COUNT_UNKNOWN && index > i64::from(len) / 2 => (false, i64::from(len) - 1 - index),
            0.. => (true, index),
            _ if len != COUNT_UNKNOWN && index < -i64::from(len) => return None,
            _ if len != COUNT_UNKNOWN && -index > i64::from(len) / 2 => (true, i64::from(len) + index),
            _ => (false, -(index + 1)),
        };
        let mut at = if forward { self.first()? } else { self.last()? };
        for _ in 0..steps {
            at = if forward { self.next(at)? } else { self.previous(at)? };
        }
        Some(at)
    }

    pub fn get(&self, at: At) -> Element<'_> {
        decode(&self.bytes[at.0 as usize..])
    }

    /// All elements, first to last.
    pub fn iter(&self) -> Iter<'_> {
        Iter { listpack: self, at: self.first() }
    }

    /// All elements from `at` on, each with its place.
    pub fn walk(&self, from: Option<At>) -> impl Iterator<Item = (At, Element<'_>)> {
        std::iter::successors(from, |&at| self.next(at)).map(|at| (at, self.get(at)))
    }

    /// The first element equal to `text` among every `stride`-th, beginning at `from`. O(n).
    pub fn find(&self, from: Option<At>, text: &[u8], stride: usize) -> Option<At> {
        let wanted = Element::of(text);
        let mut at = from?;
        loop {
            if self.get(at) == wanted {
                return Some(at);
            }
            for _ in 0..stride {
                at = self.next(at)?;
            }
        }
    }

    pub fn push(&mut self, text: &[u8]) {
        self.splice(self.bytes.len() - 1, 0, 0, Some(Element::of(text)));
    }

    pub fn push_integer(&mut self, n: i64) {
        self.splice(self.bytes.len() - 1, 0, 0, Some(Element::Int(n)));
    }

    /// Pushes several elements in one step.
    pub fn push_all(&mut self, elements: &[Element<'_>]) {
        let added: usize = elements.iter().map(|&element| whole_size_of(element)).sum();
        let mut place = self.bytes.len() - 1;
        self.grow(self.bytes.len() + added);
        for &element in elements {
            place += write(element, &mut self.bytes[place..]);
        }
        self.bytes[place] = END;
        self.write_header(0, elements.len());
    }

    pub fn push_front(&mut self, text: &[u8]) {
        self.splice(HEADER_BYTES, 0, 0, Some(Element::of(text)));
    }

    /// Inserts before `at`; the new element is at `at` afterwards.
    pub fn insert_before(&mut self, at: At, text: &[u8]) {
        self.splice(at.0 as usize, 0, 0, Some(Element::of(text)));
    }

    /// Inserts behind `at`; where the new element is.
    pub fn insert_after(&mut self, at: At, text: &[u8]) -> At {
        let place = at.0 as usize + self.whole_size(at);
        self.splice(place, 0, 0, Some(Element::of(text)));
        At(place as u32)
    }

    /// Replaces the element at `at`, where the new one is afterwards.
    pub fn replace(&mut self, at: At, text: &[u8]) {
        self.splice(at.0 as usize, self.whole_size(at), 1, Some(Element::of(text)));
    }

    pub fn replace_integer(&mut self, at: At, n: i64) {
        self.splice(at.0 as usize, self.whole_size(at), 1, Some(Element::Int(n)));
    }

    /// Removes an element; where the next one is now.
    pub fn remove(&mut self, at: At) -> Option<At> {
        self.remove_some(at, 1)
    }

    /// Removes up to `count` elements from `at` on; where the next one is now.
    pub fn remove_some(&mut self, at: At, count: usize) -> Option<At> {
        let (mut end, mut removed) = (at.0 as usize, 0);
        while removed < count && self.bytes[end] != END {
            end += self.whole_size(At(end as u32));
            removed += 1;
        }
        self.splice(at.0 as usize, end - at.0 as usize, removed, None);
        self.here(at.0 as usize)
    }

    /// The bytes that an element of this text adds.
    pub fn size_of_element(text: &[u8]) -> usize {
        whole_size_of(Element::of(text))
    }

    /// Gives back memory beyond what the block needs.
    pub fn shrink_to_fit(&mut self) {
        let wanted = allocation_size(self.bytes.len());
        if allocation_size(self.bytes.capacity()) > wanted {
            self.bytes.shrink_to(wanted);
        }
    }

    fn stated_count(&self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    fn here(&self, place: usize) -> Option<At> {
        (self.bytes[place] != END).then_some(At(place as u32))
    }

    fn before(&self, place: usize) -> Option<At> {
        if place == HEADER_BYTES {
            return None;
        }
        let (size, back) = read_back(&self.bytes[..place]);
        Some(At((place - back - size) as u32))
    }

    /// Encoding, data and backward length.
    fn whole_size(&self, at: At) -> usize {
        let size = size_at(&self.bytes[at.0 as usize..]);
        size + back_len(size)
    }

    /// Puts `element`, or nothing, in the place of `removed_bytes` from `place` on, which are `removed` elements.
    fn splice(&mut self, place: usize, removed_bytes: usize, removed: usize, element: Option<Element<'_>>) {
        let whole = element.map_or(0, whole_size_of);
        if whole == removed_bytes {
            // A counter that counts on, mostly: all else stays where it is.
            if let Some(element) = element {
                write(element, &mut self.bytes[place..]);
            }
            return self.write_header(removed, usize::from(element.is_some()));
        }
        let (old, new) = (self.bytes.len(), self.bytes.len() - removed_bytes + whole);
        if new > old {
            self.grow(new);
        }
        self.bytes.copy_within(place + removed_bytes..old, place + whole);
        self.bytes.truncate(new);
        if let Some(element) = element {
            write(element, &mut self.bytes[place..]);
        }
        if new < old {
            self.shrink_to_fit();
        }
        self.write_header(removed, usize::from(element.is_some()));
    }

    /// Makes the block so many bytes long; what they are and the header is the caller's affair.
    fn grow(&mut self, len: usize) {
        assert!(len <= ELEMENT_BYTES_MAX, "the owner of a listpack bounds its size");
        if len > self.bytes.capacity() {
            // Exactly a size class: what RDB and memory figures see is what is used.
            self.bytes.reserve_exact(allocation_size(len) - self.bytes.len());
        }
        self.bytes.resize(len, 0);
    }

    /// The block's length as it is, and how many elements it has after so many were removed and added.
    fn write_header(&mut self, removed: usize, added: usize) {
        let len = self.bytes.len();
        self.bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
        let count = match self.stated_count() {
            COUNT_UNKNOWN if len == HEADER_BYTES + 1 => 0,
            COUNT_UNKNOWN => COUNT_UNKNOWN,
            count => u16::try_from(usize::from(count) - removed + added).unwrap_or(COUNT_UNKNOWN),
        };
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }
}

pub struct Iter<'a> {
    listpack: &'a Listpack,
    at: Option<At>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let at = self.at?;
        self.at = self.listpack.next(at);
        Some(self.listpack.get(at))
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Listpack {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Listpack {
        let mut listpack = Listpack::new();
        texts.into_iter().for_each(|text| listpack.push(text.as_ref()));
        listpack
    }
}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |element: Element<'_>| element.to_vec().escape_ascii().to_string();
        f.debug_list().entries(self.iter().map(show)).finish()
    }
}

// First bytes of the encodings; the smaller numbers and lengths are in the first byte itself.
const INT_13: u8 = 0xc0;
const TEXT_6: u8 = 0x80;
const TEXT_12: u8 = 0xe0;
const TEXT_32: u8 = 0xf0;
const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;

/// Bytes of encoding and data.
fn encoded_size(element: Element<'_>) -> usize {
    match element {
        Element::Int(0..=127) => 1,
        Element::Int(-4096..=4095) => 2,
        Element::Int(-0x8000..=0x7fff) => 3,
        Element::Int(-0x80_0000..=0x7f_ffff) => 4,
        Element::Int(-0x8000_0000..=0x7fff_ffff) => 5,
        Element::Int(_) => 9,
        Element::Text(text) if text.len() < 64 => 1 + text.len(),
        Element::Text(text) if text.len() < 4096 => 2 + text.len(),
        Element::Text(text) => 5 + text.len(),
    }
}

/// Encoding, data and backward length.
fn whole_size_of(element: Element<'_>) -> usize {
    let size = encoded_size(element);
    size + back_len(size)
}

/// Writes all of an element to the beginning of a place that is large enough; how many bytes that took.
fn write(element: Element<'_>, out: &mut [u8]) -> usize {
    let size = encoded_size(element);
    let whole = size + back_len(size);
    encode(element, &mut out[..size]);
    write_back(size, &mut out[size..whole]);
    whole
}

/// Writes encoding and data into a place of their size.
fn encode(element: Element<'_>, out: &mut [u8]) {
    let size = out.len();
    match element {
        Element::Int(n) => match size {
            1 => out[0] = n as u8,
            2 => {
                let bits = n as u16 & 0x1fff;
                out.copy_from_slice(&[INT_13 | (bits >> 8) as u8, bits as u8]);
            }
            _ => {
                out[0] = match size {
                    3 => INT_16,
                    4 => INT_24,
                    5 => INT_32,
                    _ => INT_64,
                };
                out[1..].copy_from_slice(&n.to_le_bytes()[..size - 1]);
            }
        },
        Element::Text(text) => {
            let (head, body) = out.split_at_mut(size - text.len());
            match head {
                [first] => *first = TEXT_6 | text.len() as u8,
                [first, second] => {
                    *first = TEXT_12 | (text.len() >> 8) as u8;
                    *second = text.len() as u8;
                }
                _ => {
                    head[0] = TEXT_32;
                    head[1..].copy_from_slice(&(text.len() as u32).to_le_bytes());
                }
            }
            body.copy_from_slice(text);
        }
    }
}

fn decode(bytes: &[u8]) -> Element<'_> {
    let sign_extended = |bytes: &[u8]| {
        let mut wide = [if bytes[bytes.len() - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Element::Int(i64::from_le_bytes(wide))
    };
    let first = bytes[0];
    match first {
        0..TEXT_6 => Element::Int(i64::from(first)),
        TEXT_6..INT_13 => Element::Text(&bytes[1..][..usize::from(first & 0x3f)]),
        INT_13..TEXT_12 => {
            let bits = u16::from(first & 0x1f) << 8 | u16::from(bytes[1]);
            // The sign is the thirteenth bit.
            Element::Int(i64::from((bits << 3) as i16 >> 3))
        }
        TEXT_12..TEXT_32 => Element::Text(&bytes[2..][..usize::from(first & 0x0f) << 8 | usize::from(bytes[1])]),
        TEXT_32 => Element::Text(&bytes[5..][..text_32_len(bytes)]),
        INT_16 => sign_extended(&bytes[1..3]),
        INT_24 => sign_extended(&bytes[1..4]),
        INT_32 => sign_extended(&bytes[1..5]),
        INT_64 => sign_extended(&bytes[1..9]),
        _ => unreachable!("a listpack is checked when it enters"),
    }
}

fn text_32_len(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize
}

/// Bytes of encoding and data of the element that begins here.
fn size_at(bytes: &[u8]) -> usize {
    let first = bytes[0];
    match first {
        0..TEXT_6 => 1,
        TEXT_6..INT_13 => 1 + usize::from(first & 0x3f),
        INT_13..TEXT_12 => 2,
        TEXT_12..TEXT_32 => 2 + (usize::from(first & 0x0f) << 8 | usize::from(bytes[1])),
        TEXT_32 => 5 + text_32_len(bytes),
        INT_16 => 3,
        INT_24 => 4,
        INT_32 => 5,
        INT_64 => 9,
        _ => unreachable!("a listpack is checked when it enters"),
    }
}

/// The same for bytes from outside; `None` if they are no element.
fn checked_size(bytes: &[u8]) -> Option<usize> {
    let head = match *bytes.first()? {
        TEXT_12..TEXT_32 => 2,
        TEXT_32 => 5,
        0xf5.. => return None,
        _ => 1,
    };
    if bytes.len() < head {
        return None;
    }
    Some(size_at(bytes)).filter(|&size| size <= bytes.len())
}

/// Bytes that the backward length takes.
fn back_len(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// Seven bits a byte, the most significant first; all bytes but the first say that more stand before them.
fn write_back(size: usize, out: &mut [u8]) {
    let len = back_len(size);
    for (index, byte) in out[..len].iter_mut().enumerate() {
        let digit = (size >> (7 * (len - 1 - index))) as u8 & 0x7f;
        *byte = if index == 0 { digit } else { digit | 0x80 };
    }
}

/// The length that ends here, and how many bytes say it.
fn read_back(bytes: &[u8]) -> (usize, usize) {
    let (mut size, mut len) = (0, 0);
    for &byte in bytes.iter().rev().take(5) {
        size |= usize::from(byte & 0x7f) << (7 * len);
        len += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (size, len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            (-5000..5000i64).prop_map(|n| n.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..80),
            Just(vec![b'x'; 4095]),
            Just(vec![b'y'; 17_000]),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        PushAll(Vec<Vec<u8>>),
        PushFront(Vec<u8>),
        Insert(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        Remove(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            text().prop_map(Op::Push),
            prop::collection::vec(text(), 0..5).prop_map(Op::PushAll),
            text().prop_map(Op::PushFront),
            (any::<usize>(), text()).prop_map(|(at, text)| Op::Insert(at, text)),
            (any::<usize>(), text()).prop_map(|(at, text)| Op::Replace(at, text)),
            (any::<usize>(), 0..4usize).prop_map(|(at, count)| Op::Remove(at, count)),
        ]
    }

    fn contents(listpack: &Listpack) -> Vec<Vec<u8>> {
        listpack.iter().map(Element::to_vec).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(ops in prop::collection::vec(op(), 1..60)) {
            let (mut listpack, mut model) = (Listpack::new(), Vec::<Vec<u8>>::new());
            for op in ops {
                match op {
                    Op::Push(text) => {
                        listpack.push(&text);
                        model.push(text);
                    }
                    Op::PushAll(texts) => {
                        let elements: Vec<_> = texts.iter().map(|text| Element::of(text)).collect();
                        listpack.push_all(&elements);
                        model.extend(texts);
                    }
                    Op::PushFront(text) => {
                        listpack.push_front(&text);
                        model.insert(0, text);
                    }
                    Op::Insert(at, text) if !model.is_empty() => {
                        let at = at % model.len();
                        listpack.insert_before(listpack.at_index(at as i64).unwrap(), &text);
                        model.insert(at, text);
                    }
                    Op::Replace(at, text) if !model.is_empty() => {
                        let at = at % model.len();
                        listpack.replace(listpack.at_index(at as i64 - model.len() as i64).unwrap(), &text);
                        model[at] = text;
                    }
                    Op::Remove(at, count) if !model.is_empty() => {
                        let at = at % model.len();
                        listpack.remove_some(listpack.at_index(at as i64).unwrap(), count);
                        model.drain(at..model.len().min(at + count));
                    }
                    _ => {}
                }
                prop_assert_eq!(contents(&listpack), model.clone());
                prop_assert_eq!(listpack.len(), model.len());
                let mut backward: Vec<Vec<u8>> = std::iter::successors(listpack.last(), |&at| listpack.previous(at))
                    .map(|at| listpack.get(at).to_vec())
                    .collect();
                backward.reverse();
                prop_assert_eq!(backward, model.clone());
                for (index, text) in model.iter().enumerate() {
                    let first = model.iter().position(|other| other == text).unwrap();
                    let found = listpack.find(listpack.first(), text, 1);
                    prop_assert_eq!(found, listpack.at_index(first as i64));
                    prop_assert!(listpack.at_index(index as i64 - model.len() as i64).is_some());
                }
                prop_assert!(Listpack::from_bytes(listpack.bytes().to_vec()).is_some());
            }
        }

        #[test]
        fn damaged_blocks_are_refused_or_can_be_walked(
            texts in prop::collection::vec(text(), 0..6), at: usize, to: u8, cut: usize,
        ) {
            let mut bytes = texts.iter().collect::<Listpack>().bytes().to_vec();
            let len = bytes.len();
            bytes[at % len] = to;
            for bytes in [bytes.clone(), bytes[..cut % len].to_vec()] {
                if let Some(listpack) = Listpack::from_bytes(bytes) {
                    let forward = contents(&listpack).len();
                    prop_assert_eq!(std::iter::successors(listpack.last(), |&at| listpack.previous(at)).count(), forward);
                }
            }
        }
    }

    #[test]
    fn more_elements_than_the_header_can_count() {
        let mut listpack: Listpack = (0..65_540).map(|n| n.to_string()).collect();
        assert_eq!(listpack.len(), 65_540);
        assert_eq!(listpack.get(listpack.at_index(-1).unwrap()), Element::Int(65_539));
        let rest = listpack.remove_some(listpack.first().unwrap(), 65_537).unwrap();
        assert_eq!((listpack.len(), listpack.get(rest)), (3, Element::Int(65_537)));
    }

    #[test]
    fn integers_take_as_little_as_in_redis() {
        for (n, size) in [(127, 2), (128, 3), (-4096, 3), (-4097, 4), (40_000, 5), (-9_000_000, 6), (i64::MIN, 10)] {
            assert_eq!(Listpack::size_of_element(n.to_string().as_bytes()), size, "{n}");
        }
    }
}
