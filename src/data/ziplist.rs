//! The ziplist, in which older servers wrote small collections: read here, and never written.
//!
//! ```text
//! total bytes (4) | offset of the last element (4) | elements (2; 65535: count them) | element ... | 0xff
//! element: length of the one before (1, or 0xfe and 4) | encoding | data
//! ```
//!
//! Lengths of strings are big endian, all else is little endian. A block comes from outside: [`elements`] believes
//! none of what it says of itself.

use super::listpack::Element;

const HEADER_BYTES: usize = 10;
const END: u8 = 0xff;
/// In the count field: more than it can say.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// First byte of a length of five bytes.
const LONG_PREVIOUS: u8 = 0xfe;

// First bytes of the encodings of integers.
const INT_16: u8 = 0xc0;
const INT_32: u8 = 0xd0;
const INT_64: u8 = 0xe0;
const INT_24: u8 = 0xf0;
const INT_8: u8 = 0xfe;
/// The smallest numbers are in the first byte: 0 is this one, and 12 the last.
const SMALL_0: u8 = 0xf1;
const SMALL_12: u8 = 0xfd;

/// All elements, first to last; `None` unless the block is whole and well formed to the last byte.
pub fn elements(block: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut reader = Reader { rest: block };
    let total = u32::from_le_bytes(reader.array()?);
    let last_at = u32::from_le_bytes(reader.array()?);
    let stated = u16::from_le_bytes(reader.array()?);
    if total as usize != block.len() {
        return None;
    }
    reader.rest = reader.rest.strip_suffix(&[END])?;
    let mut elements = Vec::new();
    let (mut at, mut previous_bytes) = (HEADER_BYTES, 0);
    while !reader.rest.is_empty() {
        let before = reader.rest.len();
        if reader.previous()? as usize != previous_bytes {
            return None;
        }
        elements.push(reader.element()?);
        at += previous_bytes;
        previous_bytes = before - reader.rest.len();
    }
    let counted = stated == COUNT_UNKNOWN || usize::from(stated) == elements.len();
    (counted && last_at as usize == at).then_some(elements)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// The length of the element before. A short one may stand in the long form.
    fn previous(&mut self) -> Option<u32> {
        match self.array()? {
            [END] => None,
            [LONG_PREVIOUS] => self.array().map(u32::from_le_bytes),
            [short] => Some(u32::from(short)),
        }
    }

    fn element(&mut self) -> Option<Element<'a>> {
        let [first] = self.array()?;
        let n = match first {
            0..0x40 => return self.text(usize::from(first)),
            0x40..0x80 => {
                let [second] = self.array()?;
                return self.text(usize::from(first & 0x3f) << 8 | usize::from(second));
            }
            0x80..INT_16 => {
                let len = u32::from_be_bytes(self.array()?);
                return self.text(len as usize);
            }
            INT_8 => self.integer::<1>()?,
            INT_16 => self.integer::<2>()?,
            INT_24 => self.integer::<3>()?,
            INT_32 => self.integer::<4>()?,
            INT_64 => self.integer::<8>()?,
            SMALL_0..=SMALL_12 => i64::from(first - SMALL_0),
            _ => return None,
        };
        Some(Element::Int(n))
    }

    fn text(&mut self, len: usize) -> Option<Element<'a>> {
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        // What a listpack would hold: a text that looks like an integer is equal to one.
        Some(Element::of(text))
    }

    fn integer<const N: usize>(&mut self) -> Option<i64> {
        let mut bytes = [0; 8];
        bytes[8 - N..].copy_from_slice(&self.array::<N>()?);
        Some(i64::from_le_bytes(bytes) >> (64 - 8 * N))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block of these encoded elements, each without its length of the one before.
    fn block(encoded: &[&[u8]]) -> Vec<u8> {
        let (mut body, mut last_at, mut previous) = (Vec::new(), HEADER_BYTES, 0);
        for element in encoded {
            last_at = HEADER_BYTES + body.len();
            match previous {
                0..0xfe => body.push(previous as u8),
                _ => {
                    body.push(LONG_PREVIOUS);
                    body.extend_from_slice(&(previous as u32).to_le_bytes());
                }
            }
            body.extend_from_slice(element);
            previous = HEADER_BYTES + body.len() - last_at;
        }
        let total = (HEADER_BYTES + body.len() + 1) as u32;
        let count = encoded.len().min(usize::from(COUNT_UNKNOWN)) as u16;
        let header = [&total.to_le_bytes()[..], &(last_at as u32).to_le_bytes(), &count.to_le_bytes()].concat();
        [&header[..], &body, &[END]].concat()
    }

    /// The example of "Redis RDB dump file format": "2", "5", and one string more.
    #[test]
    fn reads_a_block_byte_by_byte() {
        let bytes = b"\x15\0\0\0\x0e\0\0\0\x03\0\x00\xf3\x02\xf6\x02\x04abcd\xff";
        let expected = [Element::Int(2), Element::Int(5), Element::Text(b"abcd")];
        assert_eq!(elements(bytes).as_deref(), Some(&expected[..]));
        assert_eq!(elements(b"\x0b\0\0\0\x0a\0\0\0\0\0\xff").as_deref(), Some(&[][..]));
    }

    #[test]
    fn every_encoding() {
        let middle = [&[0x41, 0x2c][..], &[b'm'; 300]].concat();
        let long = [&[0x80, 0, 0, 0x50, 0][..], &[b'l'; 0x5000]].concat();
        let encoded: [&[u8]; 13] = [
            b"\xf1",
            b"\xfd",
            b"\xfe\x80",
            b"\xc0\xff\x7f",
            b"\xf0\xff\xff\xff",
            b"\xd0\0\0\0\x80",
            b"\xe0\0\0\0\0\0\0\0\x80",
            b"\0",
            b"\x03abc",
            &middle,
            &long,
            b"\x0212",
            b"\x03007",
        ];
        let expected = [
            Element::Int(0),
            Element::Int(12),
            Element::Int(-128),
            Element::Int(0x7fff),
            Element::Int(-1),
            Element::Int(i64::from(i32::MIN)),
            Element::Int(i64::MIN),
            Element::Text(b""),
            Element::Text(b"abc"),
            Element::Text(&[b'm'; 300]),
            Element::Text(&[b'l'; 0x5000]),
            Element::Int(12),
            Element::Text(b"007"),
        ];
        assert_eq!(elements(&block(&encoded)).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn a_short_length_may_stand_in_the_long_form() {
        let bytes = b"\x13\0\0\0\x0c\0\0\0\x02\0\0\xf1\xfe\x02\0\0\0\xf2\xff";
        assert_eq!(elements(bytes).as_deref(), Some(&[Element::Int(0), Element::Int(1)][..]));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = block(&[b"\xf1", b"\x03abc", b"\xfe\x80"]);
        for at in [0, 4, 8, 10, 12, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(elements(&bad), None, "byte {at}");
        }
        for cut in 0..good.len() {
            assert_eq!(elements(&good[..cut]), None, "{cut} bytes");
        }
        for encoded in [&b"\xff"[..], b"\xc1", b"\x04abc", b"\x80\xff\xff\xff\xff", b"\xe0\0"] {
            assert_eq!(elements(&block(&[encoded])), None, "{encoded:?}");
        }
    }

    proptest! {
        #[test]
        fn any_block_is_safe(body: Vec<u8>, at: usize, to: u8) {
            let _ = elements(&body);
            let mut bytes = block(&[b"\xf1", b"\x03abc", b"\xfe\x80", b"\x0212"]);
            let len = bytes.len();
            bytes[at % len] = to;
            let _ = elements(&bytes);
        }
    }
}
