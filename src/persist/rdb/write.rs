//! The pieces of an RDB file, as Redis 7.0 loads it: a header, chunks of entries, and the end.
//!
//! The version stands in the header, and whether an entry needs a newer one than `RDB_VERSION_OF_FILES` shows only when
//! all are written: so a header is made for either, of equal length, and checksums are combined.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::MAGIC;
use crate::base::clock::Now;
use crate::base::crc::{crc64, crc64_combine};
use crate::codec::aof;
use crate::codec::rdb::{
    self, COMPRESSED_LEN_MIN, Form, Output, RDB_VERSION_OF_FIELD_TIMES, RDB_VERSION_OF_FILES, Reader, opcode, rdb_type,
    write_len, write_lzf, write_string,
};
use crate::command::ctx::with_value_words;
use crate::config::Config;
use crate::data::collection::SaveElement;
use crate::data::dump;
use crate::data::entry::{EntryRef, TextRef, ValueRef};
use crate::keyspace::access;

/// A string of this length is kept beside the other bytes of its chunk, and shared with the keyspace if it can be.
const LONG_TEXT_LEN_MIN: usize = 1024;
/// Elements of a large collection are put together in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// A longer one is not compressed, which would take as much memory again.
const COMPRESSED_LEN_MAX: usize = 16 * 1024 * 1024;

/// What a file says of itself before its first key.
#[derive(Clone, Debug)]
pub struct Header {
    /// The Redis whose behaviour the server has.
    pub redis_version: &'static str,
    pub unix_s: i64,
    pub used_memory: u64,
    /// By database: keys, and those with an expiry; a hint to readers. Empty databases may be left out.
    pub sizes: Vec<(u64, u64)>,
    /// The sources of all libraries.
    pub functions: Vec<Arc<[u8]>>,
    pub form: Form,
    /// The file is the base of an append-only file.
    pub is_aof_base: bool,
}

impl Header {
    /// The header of a file in which fields of hashes expire, or not. Both are of the same length.
    pub fn write(&self, has_field_times: bool) -> Vec<u8> {
        let version = if has_field_times { RDB_VERSION_OF_FIELD_TIMES } else { RDB_VERSION_OF_FILES };
        let mut out = Output::new(self.form);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(format!("{version:04}").as_bytes());
        let aux = [
            ("redis-ver", self.redis_version.to_owned()),
            ("redis-bits", usize::BITS.to_string()),
            ("ctime", self.unix_s.to_string()),
            ("used-mem", self.used_memory.to_string()),
            ("aof-base", u8::from(self.is_aof_base).to_string()),
        ];
        for (name, value) in aux {
            out.push(opcode::AUX);
            write_string(name.as_bytes(), &mut out);
            write_string(value.as_bytes(), &mut out);
        }
        for source in &self.functions {
            out.push(opcode::FUNCTION2);
            write_string(source, &mut out);
        }
        for (db, &(keys, expires)) in self.sizes.iter().enumerate().filter(|(_, sizes)| sizes.0 > 0) {
            out.push(opcode::SELECTDB);
            write_len(db as u64, &mut out);
            out.push(opcode::RESIZEDB);
            write_len(keys, &mut out);
            write_len(expires, &mut out);
        }
        out.bytes
    }
}

/// Entries of one database, to stand anywhere behind the header.
#[derive(Debug)]
pub struct Chunk {
    output: Output,
    /// What stands in front of the output of a large collection: a vector of all of it would be copied as it grows.
    pieces: Vec<Vec<u8>>,
    pieces_bytes: usize,
    /// Where in the output strings stand that may be compressed. Whoever writes the chunk does that: it takes longer than
    /// all else that a shard does for a key, and a command that saves before it changes would wait for it.
    short_texts: Vec<u32>,
    /// Long ones, and where in the output each belongs.
    texts: Vec<(usize, Bytes)>,
    text_bytes: usize,
    pub keys: u64,
    /// Some hash has fields that expire.
    pub has_field_times: bool,
    /// The entries are written as commands: `aof-use-rdb-preamble no`.
    as_commands: bool,
}

/// What is kept of a key's last use, by the eviction policy.
#[derive(Clone, Copy, Debug)]
pub enum Usage {
    None,
    Idle(Now),
    Frequency(Now),
}

impl Usage {
    pub fn of(config: &Config, now: Now) -> Usage {
        match config.maxmemory_policy {
            policy if policy.is_lfu() => Usage::Frequency(now),
            policy if policy.is_lru() => Usage::Idle(now),
            _ => Usage::None,
        }
    }
}

impl Chunk {
    pub fn new(db: usize, form: Form) -> Chunk {
        let mut output = Output::new(form);
        output.push(opcode::SELECTDB);
        write_len(db as u64, &mut output);
        Chunk::of(output, false)
    }

    /// A chunk of commands.
    pub fn of_commands(db: usize, form: Form) -> Chunk {
        let mut output = Output::new(form);
        aof::write::select(&mut output.bytes, db);
        Chunk::of(output, true)
    }

    fn of(output: Output, as_commands: bool) -> Chunk {
        Chunk {
            output,
            pieces: Vec::new(),
            pieces_bytes: 0,
            short_texts: Vec::new(),
            texts: Vec::new(),
            text_bytes: 0,
            keys: 0,
            has_field_times: false,
            as_commands,
        }
    }

    /// `leaves_compression`: short strings are for who writes the chunk to compress, as it keeps up.
    pub fn push(&mut self, entry: EntryRef<'_>, usage: Usage, config: &Config, leaves_compression: bool) {
        let out = &mut self.output;
        if self.as_commands {
            with_value_words(entry.key(), entry, |words| aof::write::command(&mut out.bytes, words));
            self.keys += 1;
            return;
        }
        self.push_head(entry, usage, config);
        self.keys += 1;
        let out = &mut self.output;
        let text = match entry.value() {
            ValueRef::Text(TextRef::Shared(text)) => text.clone(),
            ValueRef::Text(TextRef::Bytes(text)) if text.len() >= LONG_TEXT_LEN_MIN => Bytes::copy_from_slice(text),
            ValueRef::Text(TextRef::Bytes(text))
                if leaves_compression
                    && text.len() >= COMPRESSED_LEN_MIN
                    && out.form == (Form::File { compresses: true }) =>
            {
                self.short_texts.push(u32::try_from(out.len()).expect("a chunk is sent before it is so long"));
                write_len(text.len() as u64, out);
                return out.extend_from_slice(text);
            }
            ValueRef::Text(_) | ValueRef::Collection(_) => return dump::save(entry, out),
        };
        self.text_bytes += text.len();
        self.texts.push((out.len(), text));
    }

    /// Begins a collection with a table, whose elements are to follow before anything else; how.
    pub fn push_collection(&mut self, entry: EntryRef<'_>, usage: Usage, config: &Config) -> SaveElement {
        let ValueRef::Collection(collection) = entry.value() else { unreachable!("a collection has elements") };
        self.push_head(entry, usage, config);
        collection.save_head(&mut self.output)
    }

    pub fn push_element(&mut self, save: &SaveElement, element: EntryRef<'_>) {
        save(element, &mut self.output);
        if self.output.len() >= PIECE_BYTES {
            let next = Vec::with_capacity(self.output.len());
            let piece = std::mem::replace(&mut self.output.bytes, next);
            self.pieces_bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    /// The key, and what stands in front of it.
    fn push_head(&mut self, entry: EntryRef<'_>, usage: Usage, config: &Config) {
        let out = &mut self.output;
        if let Some(at_ms) = entry.expire_at_ms() {
            out.push(opcode::EXPIRETIME_MS);
            out.extend_from_slice(&at_ms.to_le_bytes());
        }
        match usage {
            Usage::None => {}
            Usage::Idle(now) => {
                out.push(opcode::IDLE);
                write_len(u64::from(access::idle_s(entry.access(), now)), out);
            }
            Usage::Frequency(now) => {
                out.push(opcode::FREQ);
                out.push(access::decayed(entry.access(), now, config));
            }
        }
        let rdb_type = dump::type_of(entry, out.form);
        self.has_field_times |= matches!(rdb_type, rdb_type::HASH_METADATA | rdb_type::HASH_LISTPACK_EX);
        out.push(rdb_type);
        write_string(entry.key(), out);
    }

    /// It will be about so long.
    pub fn reserve(&mut self, bytes: usize) {
        self.output.reserve(bytes);
    }

    /// How much memory it takes, roughly: what is shared with the keyspace, and may be replaced there, included.
    pub fn held_bytes(&self) -> usize {
        self.output.bytes.capacity() + self.pieces_bytes + size_of_val(&*self.short_texts) + self.text_bytes
    }

    /// How much was pushed.
    pub fn bytes(&self) -> usize {
        self.output.bytes.len() + self.pieces_bytes + self.text_bytes
    }

    /// What the file gets of it, piece by piece.
    pub fn write(&self, trials: &mut Trials, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| write(piece))?;
        let (mut from, mut short) = (0, &*self.short_texts);
        for (at, text) in &self.texts {
            let before = short.partition_point(|&short| (short as usize) < *at);
            self.write_piece(from..*at, &short[..before], trials, &mut write)?;
            (from, short) = (*at, &short[before..]);
            let compresses = self.output.form == Form::File { compresses: true } && text.len() <= COMPRESSED_LEN_MAX;
            let mut head = Vec::new();
            if compresses
                && trials.go_on()
                && let Some(compressed) = trials.compress(text)
            {
                write_lzf(&compressed, text.len(), &mut head);
                write(&head)?;
            } else {
                write_len(text.len() as u64, &mut head);
                write(&head)?;
                write(text)?;
            }
        }
        self.write_piece(from..self.output.len(), short, trials, &mut write)
    }

    /// A part of the output, in which the strings at `short` may be compressed.
    fn write_piece(
        &self,
        range: Range<usize>,
        short: &[u32],
        trials: &mut Trials,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut from, mut changed) = (range.start, Vec::new());
        for at in short.iter().map(|&at| at as usize) {
            if !trials.go_on() {
                continue;
            }
            let mut reader = Reader::new(&self.output[at..range.end]);
            let text = reader.string().expect("`push` has written it");
            if let Some(compressed) = trials.compress(&text) {
                changed.extend_from_slice(&self.output[from..at]);
                write_lzf(&compressed, text.len(), &mut changed);
                from = range.end - reader.len_left();
            }
        }
        if !changed.is_empty() {
            write(&changed)?;
        }
        if from < range.end { write(&self.output[from..range.end]) } else { Ok(()) }
    }
}

/// Whether to compress strings is worth the time, as far as those before tell: to find out that random bytes do not become
/// shorter costs more than all else that is done to save them.
#[derive(Debug, Default)]
pub struct Trials {
    /// Since a string became shorter.
    failures: usize,
    passed_over: usize,
}

impl Trials {
    /// After so many failures ...
    const FAILURES_MAX: usize = 64;
    /// ... one string in so many is tried, until it becomes shorter.
    const TRIED_SHARE: usize = 16;
    /// A failure with so many bytes counts twice.
    const FAILURE_BYTES: usize = 16 * 1024;

    /// Most strings are not tried.
    pub fn are_in_vain(&self) -> bool {
        self.failures >= Trials::FAILURES_MAX
    }

    /// The next string is to be tried.
    fn go_on(&mut self) -> bool {
        let tries = !self.are_in_vain() || self.passed_over + 1 >= Trials::TRIED_SHARE;
        self.passed_over = if tries { 0 } else { self.passed_over + 1 };
        tries
    }

    /// A string in its compressed form, if that is shorter.
    fn compress(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let compressed = rdb::compressed(text);
        self.failures = if compressed.is_some() { 0 } else { self.failures + 1 + text.len() / Trials::FAILURE_BYTES };
        compressed
    }
}

/// Checksum and length of what was written so far, for the end of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    crc: u64,
    pub len: u64,
}

impl Sum {
    pub fn add(&mut self, bytes: &[u8]) {
        self.crc = crc64(self.crc, bytes);
        self.len += bytes.len() as u64;
    }

    /// The end of a file of this header, behind what was summed up; without a checksum it is zero.
    pub fn end(self, header: &[u8], has_checksum: bool) -> [u8; 9] {
        let mut end = [0; 9];
        end[0] = opcode::EOF;
        if has_checksum {
            let crc = crc64_combine(crc64(0, header), self.crc, self.len);
            end[1..].copy_from_slice(&crc64(crc, &[opcode::EOF]).to_le_bytes());
        }
        end
    }
}
