//! The payload of DUMP and RESTORE: one value as an RDB file holds it, RDB version and CRC64 behind it.
//!
//! ```text
//! type (1) | value | RDB version (2, little endian) | CRC64 of all before (8, little endian)
//! ```
//!
//! A string is a length and its bytes, or one of the special forms that the length's first byte announces: an integer
//! of one, two or four bytes, or LZF. Strings are written uncompressed, which every reader takes. It does not know
//! entries.

use std::borrow::Cow;

use crate::base::crc::crc64;
use crate::base::lzf;
use crate::base::number::parse_i64;

/// The version written, and the newest one read.
const RDB_VERSION: u16 = 11;
const FOOTER_LEN: usize = 2 + 8;

const TYPE_STRING: u8 = 0;

/// The first two bits of a length.
const LEN_6_BITS: u8 = 0;
const LEN_14_BITS: u8 = 1;
const SPECIAL: u8 = 3;
/// Lengths beyond 14 bits, by their whole first byte.
const LEN_32_BITS: u8 = 0x80;
const LEN_64_BITS: u8 = 0x81;

/// Special forms of strings: the other six bits.
const INT_8: u8 = 0;
const INT_16: u8 = 1;
const INT_32: u8 = 2;
const LZF: u8 = 3;

/// A text longer than this is not tried as an integer.
const INTEGER_LEN_MAX: usize = 11;

/// Why a payload was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// Written by a newer version, or damaged.
    VersionOrChecksum,
    /// Whole, but not a value.
    Format,
}

/// The payload of a string.
pub fn dump_string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16 + FOOTER_LEN);
    out.push(TYPE_STRING);
    write_string(text, &mut out);
    out.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let checksum = crc64(0, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The string of a payload.
pub fn restore_string(payload: &[u8]) -> Result<Cow<'_, [u8]>, DumpError> {
    let mut body = Reader { rest: checked_body(payload)? };
    match body.byte() {
        Some(TYPE_STRING) => body.string().ok_or(DumpError::Format),
        _ => Err(DumpError::Format),
    }
}

/// The payload without its footer, if that is right.
fn checked_body(payload: &[u8]) -> Result<&[u8], DumpError> {
    let (signed, checksum) = payload.split_last_chunk::<8>().ok_or(DumpError::VersionOrChecksum)?;
    let (body, version) = signed.split_last_chunk::<2>().ok_or(DumpError::VersionOrChecksum)?;
    let intact = u16::from_le_bytes(*version) <= RDB_VERSION && u64::from_le_bytes(*checksum) == crc64(0, signed);
    if intact { Ok(body) } else { Err(DumpError::VersionOrChecksum) }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let integer = Some(text).filter(|text| text.len() <= INTEGER_LEN_MAX).and_then(parse_i64);
    if let Some(n) = integer.and_then(|n| i32::try_from(n).ok()) {
        return write_integer(n, out);
    }
    write_len(text.len() as u64, out);
    out.extend_from_slice(text);
}

fn write_integer(n: i32, out: &mut Vec<u8>) {
    if let Ok(n) = i8::try_from(n) {
        out.push(SPECIAL << 6 | INT_8);
        out.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i16::try_from(n) {
        out.push(SPECIAL << 6 | INT_16);
        out.extend_from_slice(&n.to_le_bytes());
    } else {
        out.push(SPECIAL << 6 | INT_32);
        out.extend_from_slice(&n.to_le_bytes());
    }
}

fn write_len(len: u64, out: &mut Vec<u8>) {
    match len {
        0..0x40 => out.push(LEN_6_BITS << 6 | len as u8),
        0x40..0x4000 => out.extend_from_slice(&(u16::from(LEN_14_BITS) << 14 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(LEN_32_BITS);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(LEN_64_BITS);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// A length, or the special form that stands in its place.
enum Len {
    Plain(u64),
    Special(u8),
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn len(&mut self) -> Option<Len> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Some(match first >> 6 {
            LEN_6_BITS => Len::Plain(u64::from(low)),
            LEN_14_BITS => Len::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            SPECIAL => Len::Special(low),
            _ => match first {
                LEN_32_BITS => Len::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                LEN_64_BITS => Len::Plain(u64::from_be_bytes(self.array()?)),
                _ => return None,
            },
        })
    }

    fn plain_len(&mut self) -> Option<u64> {
        match self.len()? {
            Len::Plain(len) => Some(len),
            Len::Special(_) => None,
        }
    }

    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let integer = match self.len()? {
            Len::Plain(len) => return self.bytes(len).map(Cow::Borrowed),
            Len::Special(LZF) => {
                let compressed_len = self.plain_len()?;
                let len = usize::try_from(self.plain_len()?).ok()?;
                return lzf::decompress(self.bytes(compressed_len)?, len).map(Cow::Owned);
            }
            Len::Special(INT_8) => i32::from(i8::from_le_bytes(self.array()?)),
            Len::Special(INT_16) => i32::from(i16::from_le_bytes(self.array()?)),
            Len::Special(INT_32) => i32::from_le_bytes(self.array()?),
            Len::Special(_) => return None,
        };
        Some(Cow::Owned(itoa::Buffer::new().format(integer).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Recorded from valkey-server 8.0.1's DUMP.
    const OF_1: &[u8] = b"\x00\xc0\x01\x0b\x00O\xa7Z\xc5,\x9e\xf8u";

    fn with_footer(body: &[u8]) -> Vec<u8> {
        let signed = [body, &RDB_VERSION.to_le_bytes()].concat();
        let checksum = crc64(0, &signed);
        [&signed[..], &checksum.to_le_bytes()].concat()
    }

    #[test]
    fn equals_a_recorded_payload() {
        assert_eq!(dump_string(b"1"), OF_1);
        assert_eq!(restore_string(OF_1).as_deref(), Ok(&b"1"[..]));
    }

    #[test]
    fn integers_take_as_few_bytes_as_they_need() {
        for (text, len) in [("-128", 2), ("128", 3), ("-32768", 3), ("32768", 5), ("-2147483648", 5)] {
            assert_eq!(dump_string(text.as_bytes()).len(), 1 + len + FOOTER_LEN, "{text}");
        }
        for text in ["2147483648", "007", "+1", ""] {
            assert_eq!(dump_string(text.as_bytes()).len(), 1 + 1 + text.len() + FOOTER_LEN, "{text}");
        }
    }

    #[test]
    fn reads_lzf() {
        let body = b"\x00\xc3\x05\x14\x00a\xe0\x0a\x00";
        assert_eq!(restore_string(&with_footer(body)).as_deref(), Ok(&b"aaaaaaaaaaaaaaaaaaaa"[..]));
    }

    #[test]
    fn tells_damage_from_what_is_no_value() {
        for cut in 0..OF_1.len() {
            assert_eq!(restore_string(&OF_1[..cut]), Err(DumpError::VersionOrChecksum), "{cut} bytes");
        }
        let newer = [b"\x00\xc0\x01", &(RDB_VERSION + 1).to_le_bytes()[..]].concat();
        let newer = [&newer[..], &crc64(0, &newer).to_le_bytes()].concat();
        assert_eq!(restore_string(&newer), Err(DumpError::VersionOrChecksum));
        for body in [&b""[..], b"\x00", b"\x07\x01a", b"\x00\xc4", b"\x00\x05abcd", b"\x00\x82", b"\x00\xc3\xc0\x01"] {
            assert_eq!(restore_string(&with_footer(body)), Err(DumpError::Format), "{body:?}");
        }
        let endless = [&b"\x00\x81"[..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(restore_string(&with_footer(&endless)), Err(DumpError::Format));
    }

    proptest! {
        #[test]
        fn restores_what_was_dumped(text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            proptest::collection::vec(any::<u8>(), 16_300..16_500),
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        ]) {
            let payload = dump_string(&text);
            let restored = restore_string(&payload).expect("our own payload");
            prop_assert_eq!(restored.as_ref(), &text[..]);
        }

        #[test]
        fn any_body_is_safe(body: Vec<u8>) {
            let _ = restore_string(&with_footer(&body));
        }
    }
}
