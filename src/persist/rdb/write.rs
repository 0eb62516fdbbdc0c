//! The pieces of an RDB file, as Redis 7.0 loads it: a header, chunks of entries, and the end.
//!
//! The version stands in the header, and whether an entry needs a newer one than `RDB_VERSION_OF_FILES` shows only when
//! all are written: so a header is made for either, of equal length, and checksums are combined.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::MAGIC;
use crate::base::clock::Now;
use crate::base::crc::{crc64, crc64_combine};
use crate::codec::aof;
use crate::codec::rdb::{
    self, Form, Output, RDB_VERSION_OF_FIELD_TIMES, RDB_VERSION_OF_FILES, Reader, SHARED_LEN_MIN, Shared, opcode,
    rdb_type, write_len, write_lzf, write_shared, write_string,
};
use crate::command::ctx::with_value_words;
use crate::config::Config;
use crate::data::collection::SaveElement;
use crate::data::dump;
use crate::data::entry::{EntryRef, TextRef, ValueRef};
use crate::keyspace::access;

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

/// Entries of one database, to stand anywhere behind the header. Long strings are kept beside its other bytes, shared with
/// the keyspace where they can be.
pub struct Chunk {
    output: Output,
    /// What stands in front of the output of a large collection: a vector of all of it would be copied as it grows.
    pieces: Vec<Output>,
    pieces_bytes: usize,
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

    fn of(mut output: Output, as_commands: bool) -> Chunk {
        output.shares = true;
        Chunk { output, pieces: Vec::new(), pieces_bytes: 0, keys: 0, has_field_times: false, as_commands }
    }

    /// From now on strings are for who writes the chunk to compress, or not: it takes longer than all else that a shard
    /// does for a key, and a command that saves before it changes would wait for it.
    pub fn leave_compression(&mut self, leaves: bool) {
        self.output.leaves_compression = leaves;
    }

    pub fn push(&mut self, entry: EntryRef<'_>, usage: Usage, config: &Config) {
        let out = &mut self.output;
        if self.as_commands {
            with_value_words(entry.key(), entry, |words| aof::write::command(&mut out.bytes, words));
            self.keys += 1;
            return;
        }
        self.push_head(entry, usage, config);
        self.keys += 1;
        let out = &mut self.output;
        match entry.value() {
            ValueRef::Text(TextRef::Shared(text)) => write_shared(&Arc::new(text.clone()), out),
            ValueRef::Text(TextRef::Bytes(text)) if text.len() >= SHARED_LEN_MIN => {
                write_shared(&Arc::new(text.to_vec()), out);
            }
            ValueRef::Text(_) | ValueRef::Collection(_) => dump::save(entry, out),
        }
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
            let mut next = Output::new(self.output.form);
            next.leaves_compression = self.output.leaves_compression;
            next.reserve(self.output.len());
            let piece = std::mem::replace(&mut self.output, next);
            debug_assert!(piece.shared.is_empty(), "elements of tables are copied");
            self.pieces_bytes += piece.len() + size_of_val(&*piece.uncompressed);
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
        let notes = size_of_val(&*self.output.uncompressed);
        self.output.bytes.capacity() + notes + self.pieces_bytes + self.output.shared_bytes
    }

    /// How much was pushed.
    pub fn bytes(&self) -> usize {
        self.output.bytes.len() + self.pieces_bytes + self.output.shared_bytes
    }

    /// What the file gets of it, piece by piece.
    pub fn write(&self, trials: &mut Trials, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for piece in &self.pieces {
            write_piece(piece, 0..piece.len(), trials, &mut write)?;
        }
        let mut from = 0;
        for Shared { at, text, is_compressed } in &self.output.shared {
            write_piece(&self.output, from..*at, trials, &mut write)?;
            from = *at;
            let text = (**text).as_ref();
            if *is_compressed {
                write(text)?;
                continue;
            }
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
        write_piece(&self.output, from..self.output.len(), trials, &mut write)
    }
}

/// A part of an output, in which the strings that are noted may be compressed.
fn write_piece(
    output: &Output,
    range: Range<usize>,
    trials: &mut Trials,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let behind = |place: usize| output.uncompressed.partition_point(|&at| (at as usize) < place);
    let (mut from, mut changed) = (range.start, Vec::new());
    for &at in &output.uncompressed[behind(range.start)..behind(range.end)] {
        if !trials.go_on() {
            continue;
        }
        let mut reader = Reader::new(&output[at as usize..range.end]);
        let text = reader.string().expect("`write_string` has written it");
        if let Some(compressed) = trials.compress(&text) {
            changed.extend_from_slice(&output[from..at as usize]);
            write_lzf(&compressed, text.len(), &mut changed);
            from = range.end - reader.len_left();
        }
        if changed.len() >= PIECE_BYTES {
            write(&changed)?;
            changed.clear();
        }
    }
    if !changed.is_empty() {
        write(&changed)?;
    }
    if from < range.end { write(&output[from..range.end]) } else { Ok(()) }
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
