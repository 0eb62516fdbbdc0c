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
//!
//! What an allocation has beyond the block is room to grow at one end: behind the block, or before it once something was
//! added or removed there, so that neither a push nor a pop moves the other elements. Where room goes from one end to
//! the other, all of it does.

use super::size_class::{allocation_size, arc_size};
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

pub struct Listpack {
    /// The block, up to the end, and the room before it. Where there is none, the vector begins with the block's total,
    /// which is its own length; else with how much room there is, which is less.
    held: Vec<u8>,
}

/// Room before the block that is less than this cannot be noted.
const ROOM_BEFORE_MIN: usize = 4;

impl AsRef<[u8]> for Listpack {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Clone for Listpack {
    fn clone(&self) -> Listpack {
        Listpack { held: self.bytes().to_vec() }
    }
}

impl PartialEq for Listpack {
    fn eq(&self, other: &Listpack) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Listpack {}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl Listpack {
    /// What one takes behind an `Arc`, but for its block.
    pub const SHARED_USABLE_BYTES: usize = arc_size(size_of::<Listpack>());

    pub fn new() -> Listpack {
        let mut held = Vec::with_capacity(allocation_size(HEADER_BYTES + 1));
        held.extend_from_slice(&[HEADER_BYTES as u8 + 1, 0, 0, 0, 0, 0, END]);
        Listpack { held }
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
        right.then_some(Listpack { held: bytes })
    }

    /// Takes over a block that was a listpack's before: nothing is checked.
    pub(super) fn from_own_bytes(bytes: Vec<u8>) -> Listpack {
        debug_assert!(Listpack::from_bytes(bytes.clone()).is_some(), "a listpack's own bytes");
        Listpack { held: bytes }
    }

    /// The block, as RDB files and DUMP payloads hold it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.held[self.room_before()..]
    }

    #[inline]
    fn room_before(&self) -> usize {
        let noted = self.held.first_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes) as usize);
        if noted == self.held.len() { 0 } else { noted }
    }

    /// Number of elements. O(1) below 65535, else O(n).
    pub fn len(&self) -> usize {
        match self.stated_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().len() == HEADER_BYTES + 1
    }

    /// What the block takes of the allocator.
    pub fn usable_bytes(&self) -> usize {
        allocation_size(self.held.capacity())
    }

    pub fn first(&self) -> Option<At> {
        here(self.bytes(), HEADER_BYTES)
    }

    pub fn last(&self) -> Option<At> {
        let bytes = self.bytes();
        before(bytes, bytes.len() - 1)
    }

    pub fn next(&self, at: At) -> Option<At> {
        next(self.bytes(), at)
    }

    pub fn previous(&self, at: At) -> Option<At> {
        before(self.bytes(), at.0 as usize)
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
        let bytes = self.bytes();
        let mut at = if forward { self.first()? } else { self.last()? };
        for _ in 0..steps {
            at = if forward { next(bytes, at)? } else { before(bytes, at.0 as usize)? };
        }
        Some(at)
    }

    pub fn get(&self, at: At) -> Element<'_> {
        decode(&self.bytes()[at.0 as usize..])
    }

    /// All elements, first to last.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: self.bytes(), at: self.first() }
    }

    /// All elements from `at` on, each with its place.
    pub fn walk(&self, from: Option<At>) -> impl Iterator<Item = (At, Element<'_>)> {
        std::iter::successors(from, |&at| self.next(at)).map(|at| (at, self.get(at)))
    }

    /// The first element equal to `text` among every `stride`-th, beginning at `from`. O(n).
    pub fn find(&self, from: Option<At>, text: &[u8], stride: usize) -> Option<At> {
        let (wanted, bytes) = (Element::of(text), self.bytes());
        let mut at = from?;
        loop {
            if decode(&bytes[at.0 as usize..]) == wanted {
                return Some(at);
            }
            for _ in 0..stride {
                at = next(bytes, at)?;
            }
        }
    }

    pub fn push(&mut self, text: &[u8]) {
        self.splice(self.bytes().len() - 1, 0, 0, Some(Element::of(text)));
    }

    pub fn push_integer(&mut self, n: i64) {
        self.splice(self.bytes().len() - 1, 0, 0, Some(Element::Int(n)));
    }

    /// Pushes several elements in one step.
    pub fn push_all(&mut self, elements: &[Element<'_>]) {
        let added: usize = elements.iter().map(|&element| whole_size_of(element)).sum();
        let (count, length) = (self.stated_count(), self.bytes().len());
        let room = self.lengthen(added);
        let mut place = room + length - 1;
        for &element in elements {
            place += write(element, &mut self.held[place..]);
        }
        self.held[place] = END;
        self.write_header(room, count, 0, elements.len());
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
        let place = at.0 as usize + whole_size(self.bytes(), at);
        self.splice(place, 0, 0, Some(Element::of(text)));
        At(place as u32)
    }

    /// Replaces the element at `at`, where the new one is afterwards.
    pub fn replace(&mut self, at: At, text: &[u8]) {
        self.splice(at.0 as usize, whole_size(self.bytes(), at), 1, Some(Element::of(text)));
    }

    pub fn replace_integer(&mut self, at: At, n: i64) {
        self.splice(at.0 as usize, whole_size(self.bytes(), at), 1, Some(Element::Int(n)));
    }

    /// Removes an element; where the next one is now.
    pub fn remove(&mut self, at: At) -> Option<At> {
        self.remove_some(at, 1)
    }

    /// Removes up to `count` elements from `at` on; where the next one is now.
    pub fn remove_some(&mut self, at: At, count: usize) -> Option<At> {
        let bytes = self.bytes();
        let (mut end, mut removed) = (at.0 as usize, 0);
        while removed < count && bytes[end] != END {
            end += whole_size(bytes, At(end as u32));
            removed += 1;
        }
        self.splice(at.0 as usize, end - at.0 as usize, removed, None);
        here(self.bytes(), at.0 as usize)
    }

    /// The bytes that an element of this text adds.
    pub fn size_of_element(text: &[u8]) -> usize {
        whole_size_of(Element::of(text))
    }

    /// Gives back memory beyond what the block needs.
    pub fn shrink_to_fit(&mut self) {
        let wanted = allocation_size(self.bytes().len());
        if allocation_size(self.held.capacity()) > wanted {
            self.put_room_behind();
            self.held.shrink_to(wanted);
        }
    }

    fn stated_count(&self) -> u16 {
        let bytes = self.bytes();
        u16::from_le_bytes([bytes[4], bytes[5]])
    }

    /// Puts `element`, or nothing, in the place of `removed_bytes` from `place` on, which are `removed` elements.
    fn splice(&mut self, place: usize, removed_bytes: usize, removed: usize, element: Option<Element<'_>>) {
        let whole = element.map_or(0, whole_size_of);
        let (count, length) = (self.stated_count(), self.bytes().len());
        let room = if whole == removed_bytes {
            // A counter that counts on, mostly: all else stays where it is.
            self.room_before()
        } else if place == HEADER_BYTES && whole > removed_bytes {
            self.lengthen_before(whole - removed_bytes)
        } else if place == HEADER_BYTES {
            self.shorten_before(removed_bytes - whole)
        } else if whole > removed_bytes {
            let room = self.lengthen(whole - removed_bytes);
            self.held.copy_within(room + place + removed_bytes..room + length, room + place + whole);
            room
        } else {
            self.shorten(place, removed_bytes - whole)
        };
        if let Some(element) = element {
            write(element, &mut self.held[room + place..]);
        }
        self.write_header(room, count, removed, usize::from(element.is_some()));
        if whole < removed_bytes {
            self.shrink_to_fit();
        }
    }

    // These four change the length of the block, and tell how much room is before it then. Its header is not right again
    // before the caller writes it.

    /// So much longer, at the end.
    fn lengthen(&mut self, more: usize) -> usize {
        if self.held.len() + more > self.held.capacity() {
            self.put_room_behind();
            self.reserve(more);
        }
        let room = self.room_before();
        self.held.resize(self.held.len() + more, 0);
        room
    }

    /// So much longer, before the first element.
    fn lengthen_before(&mut self, more: usize) -> usize {
        let room = self.room_before();
        let suffices = room == more || room >= more + ROOM_BEFORE_MIN;
        (if suffices { room } else { self.put_room_before(more) }) - more
    }

    /// So much shorter, from `place` on.
    fn shorten(&mut self, place: usize, less: usize) -> usize {
        let room = self.room_before();
        self.held.copy_within(room + place + less.., room + place);
        self.held.truncate(self.held.len() - less);
        room
    }

    /// So much shorter, from the first element on.
    fn shorten_before(&mut self, less: usize) -> usize {
        match self.room_before() + less {
            0..ROOM_BEFORE_MIN => self.shorten(HEADER_BYTES, less),
            room => room,
        }
    }

    fn put_room_behind(&mut self) {
        let room = self.room_before();
        if room > 0 {
            self.held.copy_within(room.., 0);
            self.held.truncate(self.held.len() - room);
        }
    }

    /// Puts all room before the block, at least `more`: how much it is. It is not noted yet.
    #[cold]
    fn put_room_before(&mut self, more: usize) -> usize {
        let length = self.bytes().len();
        if length + more > self.held.capacity() {
            self.put_room_behind();
            self.reserve(more);
        }
        let (from, room) = (self.room_before(), self.held.capacity() - length);
        // Of what could not be noted, nothing may be left.
        let room = if room - more < ROOM_BEFORE_MIN { more } else { room };
        self.held.resize(self.held.len().max(room + length), 0);
        self.held.copy_within(from..from + length, room);
        self.held.truncate(room + length);
        room
    }

    /// Allocates so much more, for a block without room before it.
    fn reserve(&mut self, more: usize) {
        let len = self.held.len() + more;
        assert!(len <= ELEMENT_BYTES_MAX, "the owner of a listpack bounds its size");
        // Exactly a size class: what RDB and memory figures see is what is used.
        self.held.reserve_exact(allocation_size(len) - self.held.len());
    }

    /// Writes what stands before the elements of a block with so much room before it, that had so many elements before
    /// some were removed and added.
    #[inline]
    fn write_header(&mut self, room: usize, count: u16, removed: usize, added: usize) {
        if room > 0 {
            self.held[..ROOM_BEFORE_MIN].copy_from_slice(&(room as u32).to_le_bytes());
        }
        let block = &mut self.held[room..];
        let length = block.len();
        let count = match count {
            COUNT_UNKNOWN if length == HEADER_BYTES + 1 => 0,
            COUNT_UNKNOWN => COUNT_UNKNOWN,
            count => u16::try_from(usize::from(count) - removed + added).unwrap_or(COUNT_UNKNOWN),
        };
        block[..4].copy_from_slice(&(length as u32).to_le_bytes());
        block[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
    }
}

pub struct Iter<'a> {
    bytes: &'a [u8],
    at: Option<At>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let at = self.at?;
        self.at = next(self.bytes, at);
        Some(decode(&self.bytes[at.0 as usize..]))
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

fn here(bytes: &[u8], place: usize) -> Option<At> {
    (bytes[place] != END).then_some(At(place as u32))
}

fn next(bytes: &[u8], at: At) -> Option<At> {
    here(bytes, at.0 as usize + whole_size(bytes, at))
}

/// The element that ends where another begins, or the end is.
fn before(bytes: &[u8], place: usize) -> Option<At> {
    if place == HEADER_BYTES {
        return None;
    }
    let (size, back) = read_back(&bytes[..place]);
    Some(At((place - back - size) as u32))
}

/// Encoding, data and backward length.
fn whole_size(bytes: &[u8], at: At) -> usize {
    let size = size_at(&bytes[at.0 as usize..]);
    size + back_len(size)
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
            (0..3usize).prop_map(|count| Op::Remove(0, count)),
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

    /// Every push to the head of a list moved all that was in its first node, every pop from there likewise.
    #[test]
    fn a_block_takes_as_much_memory_whichever_end_it_grows_and_shrinks_at() {
        let (mut first, mut last) = (Listpack::new(), Listpack::new());
        let sizes = |first: &Listpack, last: &Listpack| (first.usable_bytes(), last.usable_bytes());
        for n in 0..700_u32 {
            let text = vec![b'x'; n as usize % 40];
            first.push_front(&text);
            last.push(&text);
            let (at_front, at_back) = sizes(&first, &last);
            assert!(at_front == at_back, "{at_front} and {at_back} bytes for {n} elements");
        }
        while let (Some(head), Some(tail)) = (first.first(), last.last()) {
            first.remove(head);
            last.remove(tail);
            let (at_front, at_back) = sizes(&first, &last);
            assert!(at_front == at_back, "{at_front} and {at_back} bytes for {} elements", first.len());
        }
    }

    #[test]
    fn integers_take_as_little_as_in_redis() {
        for (n, size) in [(127, 2), (128, 3), (-4096, 3), (-4097, 4), (40_000, 5), (-9_000_000, 6), (i64::MIN, 10)] {
            assert_eq!(Listpack::size_of_element(n.to_string().as_bytes()), size, "{n}");
        }
    }
}
