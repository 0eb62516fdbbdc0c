//! The pieces that RDB files and the payloads of DUMP are made of: types, lengths, strings, and a payload's footer.
//!
//! ```text
//! payload of DUMP: type (1) | value | RDB version (2, little endian) | CRC64 of all before (8, little endian)
//! ```
//!
//! A string is a length and its bytes, or one of the special forms that the length's first byte announces: an integer
//! of one, two or four bytes, or LZF. Every reader takes all of them. What values are made of is known to `data`: each type saves and loads itself.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::base::crc::crc64;
use crate::base::lzf;
use crate::base::number::parse_i64;

/// The version of payloads, but for hashes with times of fields; and theirs, which is the newest one read.
pub const RDB_VERSION: u16 = 11;
pub const RDB_VERSION_OF_FIELD_TIMES: u16 = 12;
/// The version of files without such hashes: what Redis 7.0 loads, so that a backup is of use everywhere.
pub const RDB_VERSION_OF_FILES: u16 = 10;

/// The first byte of a value: what it is and how it is laid out. Names are Redis's.
pub mod rdb_type {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_LISTPACKS: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_LISTPACKS_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_LISTPACKS_3: u8 = 21;
    pub const HASH_METADATA: u8 = 24;
    pub const HASH_LISTPACK_EX: u8 = 25;
}

/// What stands in a file where a value's type could: something else. Names are Redis's.
pub mod opcode {
    /// Of cluster mode: slot, keys, keys with an expiry.
    pub const SLOT_INFO: u8 = 244;
    /// The source of a library.
    pub const FUNCTION2: u8 = 245;
    /// Written by release candidates of Redis 7 only.
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZEDB: u8 = 251;
    pub const EXPIRETIME_MS: u8 = 252;
    pub const EXPIRETIME: u8 = 253;
    pub const SELECTDB: u8 = 254;
    pub const EOF: u8 = 255;
}

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
pub const LZF: u8 = 3;

/// A text longer than this is not tried as an integer.
const INTEGER_LEN_MAX: usize = 11;

/// Shorter strings are not worth an attempt at compressing them; the gain must be this large, too.
/// To share a shorter string takes more than to copy it.
pub const SHARED_LEN_MIN: usize = 1024;
const COMPRESSED_LEN_MIN: usize = 21;
const COMPRESSED_GAIN_MIN: usize = 4;

/// What values are written for, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// DUMP's payload: the newest layouts; only what is compressed in memory is written so.
    Payload,
    /// A file: the layouts of `RDB_VERSION_OF_FILES`, compressed if `rdbcompression` says so.
    File { compresses: bool },
}

/// Bytes being written, in a form.
pub struct Output {
    pub bytes: Vec<u8>,
    pub form: Form,
    /// Strings are not compressed here: it is only noted where those stand that may be.
    pub leaves_compression: bool,
    pub uncompressed: Vec<u32>,
    /// Long strings are not copied, if they can be shared with who goes on using them: they stand between the bytes.
    pub shares: bool,
    pub shared: Vec<Shared>,
    pub shared_bytes: usize,
}

/// A string that its owner goes on using, and copies if it changes it.
pub type SharedText = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A string that an output shares.
pub struct Shared {
    /// Where in the bytes it belongs.
    pub at: usize,
    pub text: SharedText,
    /// It is in its compressed form, and has its head in front of it already.
    pub is_compressed: bool,
}

impl Output {
    pub fn new(form: Form) -> Output {
        Output {
            bytes: Vec::new(),
            form,
            leaves_compression: false,
            uncompressed: Vec::new(),
            shares: false,
            shared: Vec::new(),
            shared_bytes: 0,
        }
    }

    fn share(&mut self, text: SharedText, is_compressed: bool) {
        self.shared_bytes += (*text).as_ref().len();
        self.shared.push(Shared { at: self.len(), text, is_compressed });
    }
}

impl Deref for Output {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Why a payload was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// Written by a newer version, or damaged.
    VersionOrChecksum,
    /// Whole, but not a value: why, for the log.
    Format(&'static str),
}

/// What Redis's log says of a value of this type that cannot be read.
pub fn flaw(rdb_type: u8, reader: &Reader<'_>) -> &'static str {
    use rdb_type::*;
    reader.complaint.unwrap_or(match rdb_type {
        HASH_ZIPMAP => "Zipmap integrity check failed.",
        LIST_ZIPLIST => "List ziplist integrity check failed.",
        SET_INTSET => "Intset integrity check failed.",
        SET_LISTPACK => "Set listpack integrity check failed.",
        ZSET_ZIPLIST => "Zset ziplist integrity check failed.",
        ZSET_LISTPACK => "Zset listpack integrity check failed.",
        HASH_ZIPLIST => "Hash ziplist integrity check failed.",
        HASH_LISTPACK | HASH_LISTPACK_EX => "Hash listpack integrity check failed.",
        LIST_QUICKLIST => "Ziplist integrity check failed.",
        LIST_QUICKLIST_2 => "Listpack integrity check failed.",
        STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3 => "Stream listpack integrity check failed.",
        _ => "Value integrity check failed.",
    })
}

/// Puts version and checksum behind the type and value of a payload.
pub fn seal(payload: &mut Vec<u8>) {
    seal_as(payload, RDB_VERSION);
}

/// The same of a payload in the layouts of files.
pub fn seal_for_files(payload: &mut Vec<u8>) {
    seal_as(payload, RDB_VERSION_OF_FILES);
}

fn seal_as(payload: &mut Vec<u8>, version: u16) {
    let version = match payload.first() {
        Some(&(rdb_type::HASH_METADATA | rdb_type::HASH_LISTPACK_EX)) => RDB_VERSION_OF_FIELD_TIMES,
        _ => version,
    };
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64(0, payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
}

/// What of a payload's footer does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// `rdb-version-check relaxed`
    pub takes_newer: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION
    pub skips_checksum: bool,
}

/// The payload without its footer, if that is right.
pub fn unseal(payload: &[u8], leniency: Leniency) -> Result<&[u8], DumpError> {
    let (signed, checksum) = payload.split_last_chunk::<8>().ok_or(DumpError::VersionOrChecksum)?;
    let (body, version) = signed.split_last_chunk::<2>().ok_or(DumpError::VersionOrChecksum)?;
    let known = leniency.takes_newer || u16::from_le_bytes(*version) <= RDB_VERSION_OF_FIELD_TIMES;
    let intact = leniency.skips_checksum || u64::from_le_bytes(*checksum) == crc64(0, signed);
    if known && intact { Ok(body) } else { Err(DumpError::VersionOrChecksum) }
}

/// A string: as an integer if it is one, or compressed if the form wants that and it helps.
pub fn write_string(text: &[u8], out: &mut Output) {
    let integer = Some(text).filter(|text| text.len() <= INTEGER_LEN_MAX).and_then(parse_i64);
    if let Some(n) = integer.and_then(|n| i32::try_from(n).ok()) {
        return write_integer(n, out);
    }
    if out.form == (Form::File { compresses: true }) && text.len() >= COMPRESSED_LEN_MIN {
        match u32::try_from(out.len()) {
            Ok(at) if out.leaves_compression => out.uncompressed.push(at),
            _ => {
                if let Some(compressed) = compressed(text) {
                    return write_lzf(&compressed, text.len(), out);
                }
            }
        }
    }
    write_len(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// The string in a compressed form, if that helps.
pub fn compressed(text: &[u8]) -> Option<Vec<u8>> {
    (text.len() >= COMPRESSED_LEN_MIN).then(|| lzf::compress(text, text.len() - COMPRESSED_GAIN_MIN))?
}

/// The same of a string that can be shared.
pub fn write_shared<T: AsRef<[u8]> + Send + Sync + 'static>(text: &Arc<T>, out: &mut Output) {
    let bytes = (**text).as_ref();
    if out.shares && bytes.len() >= SHARED_LEN_MIN { out.share(text.clone(), false) } else { write_string(bytes, out) }
}

/// A string of `len` bytes that was compressed before.
pub fn write_lzf(compressed: &[u8], len: usize, out: &mut Vec<u8>) {
    write_lzf_head(compressed.len(), len, out);
    out.extend_from_slice(compressed);
}

/// The same of one that can be shared.
pub fn write_shared_lzf<T: AsRef<[u8]> + Send + Sync + 'static>(compressed: &Arc<T>, len: usize, out: &mut Output) {
    let bytes = (**compressed).as_ref();
    if out.shares && bytes.len() >= SHARED_LEN_MIN {
        write_lzf_head(bytes.len(), len, out);
        out.share(compressed.clone(), true);
    } else {
        write_lzf(bytes, len, out);
    }
}

fn write_lzf_head(compressed_len: usize, len: usize, out: &mut Vec<u8>) {
    out.push(SPECIAL << 6 | LZF);
    write_len(compressed_len as u64, out);
    write_len(len as u64, out);
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

pub fn write_len(len: u64, out: &mut Vec<u8>) {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    Plain(u64),
    Special(u8),
}

/// How many bytes the length takes that begins with this one; `None`: there is no such length.
pub fn len_bytes(first: u8) -> Option<usize> {
    match first >> 6 {
        LEN_6_BITS | SPECIAL => Some(1),
        LEN_14_BITS => Some(2),
        _ if first == LEN_32_BITS => Some(5),
        _ if first == LEN_64_BITS => Some(9),
        _ => None,
    }
}

/// How many bytes a special form of a string takes, but for LZF, whose lengths follow.
pub fn special_bytes(form: u8) -> Option<u64> {
    match form {
        INT_8 => Some(1),
        INT_16 => Some(2),
        INT_32 => Some(4),
        _ => None,
    }
}

/// Reads what an RDB file holds; every answer is `None` where the bytes end or are not what they should be.
pub struct Reader<'a> {
    rest: &'a [u8],
    /// What is wrong with the value, where its type knows better than [`flaw`].
    pub complaint: Option<&'static str>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, complaint: None }
    }

    /// Everything has been read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes have not been read.
    pub fn len_left(&self) -> usize {
        self.rest.len()
    }

    /// A length that counts things of at least `size_min` bytes each: more than there are bytes for is an error, so
    /// that a forged one allocates nothing.
    pub fn count(&mut self, size_min: usize) -> Option<usize> {
        let count = usize::try_from(self.plain_len()?).ok()?;
        (count.checked_mul(size_min)? <= self.rest.len()).then_some(count)
    }

    /// A double in eight bytes.
    pub fn double(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }

    pub fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn len(&mut self) -> Option<Len> {
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

    pub fn plain_len(&mut self) -> Option<u64> {
        match self.len()? {
            Len::Plain(len) => Some(len),
            Len::Special(_) => None,
        }
    }

    pub fn string(&mut self) -> Option<Cow<'a, [u8]>> {
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

    #[test]
    fn lengths_take_as_few_bytes_as_they_need() {
        for (len, bytes) in [(0x3f, 1), (0x40, 2), (0x3fff, 2), (0x4000, 5), (0xffff_ffff, 5), (1 << 32, 9)] {
            let mut out = Vec::new();
            write_len(len, &mut out);
            assert_eq!((out.len(), Reader::new(&out).plain_len()), (bytes, Some(len)));
        }
    }

    #[test]
    fn a_forged_count_is_refused() {
        let mut out = Vec::new();
        write_len(1 << 40, &mut out);
        out.extend_from_slice(&[0; 100]);
        assert_eq!(Reader::new(&out).count(1), None);
    }
}
