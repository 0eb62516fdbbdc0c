//! An RDB file as a sequence of items, read through a buffer that holds one item whole.
//!
//! A value is delimited here, by what its type byte says, and decoded elsewhere: whoever wants only some of the keys, or
//! none of the values, pays for no more. The buffer grows with the bytes that arrive, never with a length that a file
//! merely states.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use super::{HEADER_LEN, MAGIC, MAGIC_OF_VALKEY, VERSION_MAX, VERSION_WITH_CHECKSUM};
use crate::base::crc::crc64;
use crate::codec::rdb::{LZF, Len, Reader, len_bytes, opcode, rdb_type, special_bytes};

/// How much is asked for at once.
const READ_BYTES: usize = 256 * 1024;

/// What a file holds, in its order.
#[derive(Debug)]
pub enum Item<'a> {
    Aux(Cow<'a, [u8]>, Cow<'a, [u8]>),
    SelectDb(u64),
    ResizeDb {
        db: u64,
        keys: u64,
        expires: u64,
    },
    SlotInfo,
    /// The source of a library of functions.
    Function(Cow<'a, [u8]>),
    /// What a module keeps beside the keys; its name.
    ModuleAux(String),
    Entry(Record<'a>),
    /// The end, and the checksum was right.
    End(Checksum),
}

/// Which versions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Known,
    /// Newer ones, too, as far as they hold nothing new: `rdb-version-check relaxed`.
    Any,
}

/// What is known of a file's integrity at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Right,
    /// The writer left it out, or the reader did not compute it, or the version has none.
    Unchecked,
}

/// A key and its value, as they stand in the file.
#[derive(Debug)]
pub struct Record<'a> {
    pub db: u64,
    pub expire_at_ms: Option<i64>,
    pub idle_s: Option<u64>,
    pub frequency: Option<u8>,
    pub rdb_type: u8,
    pub key: Cow<'a, [u8]>,
    /// Without the type byte.
    pub value: &'a [u8],
    /// Where the value begins in the file.
    pub offset: u64,
}

/// What a reader was at when it ended, in the words of redis-check-rdb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Start,
    Type,
    Expire,
    Key,
    Value,
    Checksum,
    Length,
    Aux,
    ModuleAux,
    Function,
}

impl Doing {
    pub fn name(self) -> &'static str {
        match self {
            Doing::Start => "start",
            Doing::Type => "read-type",
            Doing::Expire => "read-expire",
            Doing::Key => "read-key",
            Doing::Value => "read-object-value",
            Doing::Checksum => "check-sum",
            Doing::Length => "read-len",
            Doing::Aux => "read-aux",
            Doing::ModuleAux => "read-module-aux",
            Doing::Function => "read-function",
        }
    }
}

/// Why reading ended early, and where.
#[derive(Debug)]
pub struct RdbError {
    pub offset: u64,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Io(io::Error),
    /// The file ends where more should follow.
    Truncated,
    Signature([u8; HEADER_LEN]),
    Version(u16),
    UnknownType(u8),
    /// The kind of module data that cannot be passed over.
    OldModule,
    OldFunction,
    Malformed(&'static str),
    Checksum {
        expected: u64,
        computed: u64,
    },
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at offset {})", self.what, self.offset)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Io(error) => write!(f, "{error}"),
            What::Truncated => write!(f, "Unexpected EOF reading RDB file"),
            What::Signature(found) => {
                write!(f, "Wrong signature trying to load DB from file: {}", found.escape_ascii())
            }
            What::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            What::UnknownType(of) => write!(f, "Unknown RDB encoding type {of}"),
            What::OldModule => write!(f, "The RDB file contains module data of before Redis 4.0, which can't be read"),
            What::OldFunction => write!(f, "Pre-release function format not supported."),
            What::Malformed(what) => write!(f, "{what}"),
            What::Checksum { expected, computed } => {
                write!(f, "Wrong RDB checksum expected: ({expected:x}) but got ({computed:x}). Aborting now.")
            }
        }
    }
}

impl std::error::Error for RdbError {}

pub struct RdbReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// The file's offset of the buffer's first byte.
    base: u64,
    /// In the buffer: where the current item begins, and how far it was read.
    start: usize,
    at: usize,
    /// Of the bytes before `base`.
    crc: u64,
    computes_crc: bool,
    version: u16,
    db: u64,
    doing: Doing,
    /// The type of the value that is being read, and where in the item its key begins.
    value: Option<(u8, usize)>,
    ended: bool,
}

type Result<T, E = RdbError> = std::result::Result<T, E>;

impl<R: Read> RdbReader<R> {
    /// Reads the header. Without `computes_crc` the checksum at the end is passed over.
    pub fn new(input: R, computes_crc: bool, versions: Versions) -> Result<RdbReader<R>> {
        let mut reader = RdbReader {
            input,
            buffer: Vec::new(),
            base: 0,
            start: 0,
            at: 0,
            crc: 0,
            computes_crc,
            version: 0,
            db: 0,
            doing: Doing::Start,
            value: None,
            ended: false,
        };
        let header: [u8; HEADER_LEN] = reader.array()?;
        let digits = header.strip_prefix(MAGIC).or_else(|| header.strip_prefix(MAGIC_OF_VALKEY));
        let digits = digits.ok_or(RdbError { offset: 0, what: What::Signature(header) })?;
        let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let is_known = (1..=VERSION_MAX).contains(&version);
        if !is_known && (version == 0 || versions == Versions::Known) {
            return Err(RdbError { offset: MAGIC.len() as u64, what: What::Version(version) });
        }
        reader.version = version;
        Ok(reader)
    }

    pub fn version(&self) -> u16 {
        self.version
    }

    /// How far the file was read.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// What it is at, or was when it failed.
    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Type and key of the value that it is at, or was when it failed.
    pub fn value(&self) -> Option<(u8, Cow<'_, [u8]>)> {
        let (rdb_type, key) = self.value?;
        Some((rdb_type, self.string_at(key).ok()?))
    }

    /// The next item. Nothing may be asked for after the end or an error.
    pub fn next_item(&mut self) -> Result<Item<'_>> {
        assert!(!self.ended, "the end was told");
        self.start = self.at;
        (self.doing, self.value) = (Doing::Type, None);
        let (mut expire_at_ms, mut idle_s, mut frequency) = (None, None, None);
        loop {
            match self.byte()? {
                opcode::EXPIRETIME_MS => {
                    self.doing = Doing::Expire;
                    expire_at_ms = Some(i64::from_le_bytes(self.array()?));
                }
                opcode::EXPIRETIME => {
                    expire_at_ms = Some(i64::from(i32::from_le_bytes(self.array()?)).saturating_mul(1000));
                }
                opcode::IDLE => idle_s = Some(self.plain_len()?),
                opcode::FREQ => frequency = Some(self.byte()?),
                opcode::SELECTDB => {
                    self.doing = Doing::Length;
                    self.db = self.plain_len()?;
                    return Ok(Item::SelectDb(self.db));
                }
                opcode::RESIZEDB => {
                    self.doing = Doing::Length;
                    let (keys, expires) = (self.plain_len()?, self.plain_len()?);
                    return Ok(Item::ResizeDb { db: self.db, keys, expires });
                }
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.plain_len()?;
                    }
                    return Ok(Item::SlotInfo);
                }
                opcode::AUX => {
                    self.doing = Doing::Aux;
                    let name = self.skip_string()?;
                    let value = self.skip_string()?;
                    return Ok(Item::Aux(self.string_at(name)?, self.string_at(value)?));
                }
                opcode::FUNCTION2 => {
                    self.doing = Doing::Function;
                    let source = self.skip_string()?;
                    return Ok(Item::Function(self.string_at(source)?));
                }
                opcode::FUNCTION_PRE_GA => return Err(self.error(What::OldFunction)),
                opcode::MODULE_AUX => {
                    self.doing = Doing::ModuleAux;
                    let id = self.plain_len()?;
                    self.skip_module_value()?;
                    return Ok(Item::ModuleAux(module_name(id)));
                }
                opcode::EOF => return self.end().map(Item::End),
                rdb_type => {
                    if rdb_type == rdb_type::STRING
                        && let Some([key, value]) = two_short_strings(&self.buffer[self.at..])
                    {
                        let from = self.at;
                        (self.doing, self.value) = (Doing::Value, Some((rdb_type, from - self.start)));
                        self.at += value.end;
                        let (text, rest) = self.buffer[from..self.at].split_at(key.end);
                        let (key, offset) = (Cow::Borrowed(&text[key]), self.base + (from + text.len()) as u64);
                        let db = self.db;
                        let record = Record { db, expire_at_ms, idle_s, frequency, rdb_type, key, value: rest, offset };
                        return Ok(Item::Entry(record));
                    }
                    self.doing = Doing::Key;
                    let key = self.skip_string()?;
                    (self.doing, self.value) = (Doing::Value, Some((rdb_type, key)));
                    // Reading on may move the item in the buffer, hence relative to its start.
                    let from = self.at - self.start;
                    self.skip_value(rdb_type)?;
                    let from = self.start + from;
                    let (value, offset) = (&self.buffer[from..self.at], self.base + from as u64);
                    let (db, key) = (self.db, self.string_at(key)?);
                    let record = Record { db, expire_at_ms, idle_s, frequency, rdb_type, key, value, offset };
                    return Ok(Item::Entry(record));
                }
            }
        }
    }

    fn end(&mut self) -> Result<Checksum> {
        (self.ended, self.doing) = (true, Doing::Checksum);
        if self.version < VERSION_WITH_CHECKSUM {
            return Ok(Checksum::Unchecked);
        }
        let computed = crc64(self.crc, &self.buffer[..self.at]);
        let expected = u64::from_le_bytes(self.array()?);
        if expected == 0 || !self.computes_crc {
            return Ok(Checksum::Unchecked);
        }
        if expected != computed {
            return Err(self.error(What::Checksum { expected, computed }));
        }
        Ok(Checksum::Right)
    }

    fn error(&self, what: What) -> RdbError {
        RdbError { offset: self.offset(), what }
    }

    /// Makes sure that `bytes` more are in the buffer, and passes over them; where they begin.
    fn pass(&mut self, bytes: u64) -> Result<usize> {
        let room = (self.buffer.len() - self.at) as u64;
        if room < bytes {
            self.fill(bytes)?;
        }
        let from = self.at;
        self.at += bytes as usize;
        Ok(from)
    }

    #[cold]
    fn fill(&mut self, bytes: u64) -> Result<()> {
        if self.start > 0 {
            if self.computes_crc {
                self.crc = crc64(self.crc, &self.buffer[..self.start]);
            }
            self.buffer.drain(..self.start);
            self.base += self.start as u64;
            self.at -= self.start;
            self.start = 0;
            // What a large value took goes back.
            self.buffer.shrink_to(4 * READ_BYTES);
        }
        while ((self.buffer.len() - self.at) as u64) < bytes {
            let filled = self.buffer.len();
            self.buffer.resize(filled + READ_BYTES, 0);
            let read = self.input.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + read.as_ref().map_or(0, |&read| read));
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => return Err(self.error(What::Truncated)),
                Ok(_) => {}
                Err(error) => return Err(self.error(What::Io(error))),
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let from = self.pass(N as u64)?;
        Ok(*self.buffer[from..].first_chunk().expect("it was passed over"))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn len(&mut self) -> Result<Len> {
        let first = self.byte()?;
        let Some(bytes) = len_bytes(first) else { return Err(self.error(What::Malformed("Unknown length encoding"))) };
        let from = self.pass(bytes as u64 - 1)? - 1;
        Ok(Reader::new(&self.buffer[from..self.at]).len().expect("a length and all of its bytes"))
    }

    fn plain_len(&mut self) -> Result<u64> {
        match self.len()? {
            Len::Plain(len) => Ok(len),
            Len::Special(_) => Err(self.error(What::Malformed("A string encoding in the place of a length"))),
        }
    }

    /// Passes over a string; where in the item it begins.
    fn skip_string(&mut self) -> Result<usize> {
        let from = self.at - self.start;
        let bytes = match self.len()? {
            Len::Plain(len) => len,
            Len::Special(LZF) => {
                let compressed = self.plain_len()?;
                self.plain_len()?;
                compressed
            }
            Len::Special(form) => {
                special_bytes(form).ok_or_else(|| self.error(What::Malformed("Unknown RDB string encoding type")))?
            }
        };
        self.pass(bytes)?;
        Ok(from)
    }

    fn string_at(&self, at: usize) -> Result<Cow<'_, [u8]>> {
        let string = Reader::new(&self.buffer[self.start + at..self.at]).string();
        string.ok_or_else(|| self.error(What::Malformed("Invalid LZF compressed string")))
    }

    /// Passes over `count` times something of at least a byte, so that a forged count ends with the file.
    fn repeat(&mut self, count: u64, mut skip: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        (0..count).try_for_each(|_| skip(self))
    }

    fn skip_strings(&mut self, count: u64) -> Result<()> {
        self.repeat(count, |this| this.skip_string().map(drop))
    }

    fn skip_lens(&mut self, count: u64) -> Result<()> {
        self.repeat(count, |this| this.plain_len().map(drop))
    }

    fn skip_value(&mut self, of: u8) -> Result<()> {
        use rdb_type::*;
        const DOUBLE_BYTES: u64 = 8;
        match of {
            STRING | HASH_ZIPMAP | LIST_ZIPLIST | SET_INTSET | ZSET_ZIPLIST | HASH_ZIPLIST | HASH_LISTPACK
            | ZSET_LISTPACK | SET_LISTPACK => self.skip_string().map(drop),
            LIST | SET | LIST_QUICKLIST => {
                let count = self.plain_len()?;
                self.skip_strings(count)
            }
            LIST_QUICKLIST_2 => {
                let count = self.plain_len()?;
                self.repeat(count, |this| {
                    this.plain_len()?;
                    this.skip_string().map(drop)
                })
            }
            HASH => {
                let count = self.plain_len()?;
                self.repeat(count, |this| this.skip_strings(2))
            }
            ZSET => {
                let count = self.plain_len()?;
                self.repeat(count, |this| {
                    this.skip_string()?;
                    // The length of the score's text; the last three stand for infinities and not a number.
                    let len = this.byte()?;
                    this.pass(if len >= 253 { 0 } else { u64::from(len) }).map(drop)
                })
            }
            ZSET_2 => {
                let count = self.plain_len()?;
                self.repeat(count, |this| {
                    this.skip_string()?;
                    this.pass(DOUBLE_BYTES).map(drop)
                })
            }
            HASH_METADATA => {
                self.pass(8)?;
                let count = self.plain_len()?;
                self.repeat(count, |this| {
                    this.plain_len()?;
                    this.skip_strings(2)
                })
            }
            HASH_LISTPACK_EX => {
                self.pass(8)?;
                self.skip_string().map(drop)
            }
            STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3 => self.skip_stream(of),
            MODULE => Err(self.error(What::OldModule)),
            MODULE_2 => {
                self.plain_len()?;
                self.skip_module_value()
            }
            unknown => Err(self.error(What::UnknownType(unknown))),
        }
    }

    fn skip_stream(&mut self, of: u8) -> Result<()> {
        const ID_BYTES: u64 = 16;
        const TIME_BYTES: u64 = 8;
        let has_counters = of != rdb_type::STREAM_LISTPACKS;
        let times = if of == rdb_type::STREAM_LISTPACKS_3 { 2 } else { 1 };
        let nodes = self.plain_len()?;
        self.repeat(nodes, |this| this.skip_strings(2))?;
        self.skip_lens(if has_counters { 8 } else { 3 })?;
        let groups = self.plain_len()?;
        self.repeat(groups, |this| {
            this.skip_string()?;
            this.skip_lens(if has_counters { 3 } else { 2 })?;
            let pending = this.plain_len()?;
            this.repeat(pending, |this| {
                this.pass(ID_BYTES + TIME_BYTES)?;
                this.skip_lens(1)
            })?;
            let consumers = this.plain_len()?;
            this.repeat(consumers, |this| {
                this.skip_string()?;
                this.pass(times * TIME_BYTES)?;
                let pending = this.plain_len()?;
                this.repeat(pending, |this| this.pass(ID_BYTES).map(drop))
            })
        })
    }

    /// The fields that a module wrote, each behind its kind, up to the one that ends them.
    fn skip_module_value(&mut self) -> Result<()> {
        loop {
            match self.plain_len()? {
                0 => return Ok(()),
                // Numbers, signed and not.
                1 | 2 => self.skip_lens(1)?,
                // Of single and double precision.
                3 => drop(self.pass(4)?),
                4 => drop(self.pass(8)?),
                5 => drop(self.skip_string()?),
                _ => return Err(self.error(What::Malformed("Unknown kind of module data"))),
            }
        }
    }
}

/// A key and a plain string as most are, one behind the other: lengths of one or two bytes, and all is there. (A shard does
/// little else for the keys of others: loading 5 M keys took each of two shards 1.23 s of CPU by parts, 0.87 s so.)
#[inline]
fn two_short_strings(bytes: &[u8]) -> Option<[Range<usize>; 2]> {
    let key = short_string(bytes, 0)?;
    let value = short_string(bytes, key.end)?;
    Some([key, value])
}

#[inline]
fn short_string(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let first = usize::from(*bytes.get(at)?);
    let (len, from) = match first >> 6 {
        0 => (first, at + 1),
        1 => ((first & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?), at + 2),
        _ => return None,
    };
    (from + len <= bytes.len()).then(|| from..from + len)
}

/// A module's name, nine characters of six bits each above ten bits for its version.
pub fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|n| char::from(CHARACTERS[(id >> (58 - 6 * n) & 0x3f) as usize])).collect()
}
