//! Hashes as RDB files and the payloads of DUMP hold them.
//!
//! Written as Valkey 8 does, a listpack as it is and a table pair by pair; with times as Redis 7.4 does, so that older
//! servers are given what they can read unless a field has a time:
//!
//! ```text
//! HASH_METADATA     earliest time (8) | fields (length) | time - earliest + 1, or 0 (length); field; value | ...
//! HASH_LISTPACK_EX  earliest time (8) | listpack of field, value, time or 0; ascending by time, those without last
//! ```
//!
//! Read are also the forms that older servers wrote.

use std::collections::HashSet;

use super::super::collection::{CollectionType, Env, SaveElement};
use super::super::dict::Dict;
use super::super::listpack::{Element, Listpack};
use super::super::ziplist;
use super::{FIELD_TIME_MS_MAX, FieldTime, Hash, LISTPACK_BYTES_MAX, NEVER, Repr, Table, Timed, pair_of, push};
use crate::codec::rdb::{self, Output, Reader, rdb_type as types};

/// Bytes that a field and its value take at least, each its length.
const PAIR_BYTES_MIN: usize = 2;

pub(super) fn rdb_type(hash: &Hash) -> u8 {
    match &hash.repr {
        Repr::Pairs(_) => types::HASH_LISTPACK,
        Repr::Timed(_) if hash.has_times() => types::HASH_LISTPACK_EX,
        Repr::Timed(_) => types::HASH_LISTPACK,
        Repr::Table(_) if hash.has_times() => types::HASH_METADATA,
        Repr::Table(_) => types::HASH,
    }
}

pub(super) fn save(hash: &Hash, out: &mut Output) {
    let has_times = hash.has_times();
    let earliest_ms = hash.rows().filter_map(|(_, _, time)| time).min().unwrap_or(0);
    match &hash.repr {
        Repr::Pairs(listpack) => rdb::write_string(listpack.bytes(), out),
        Repr::Timed(_) => {
            if has_times {
                out.extend_from_slice(&earliest_ms.to_le_bytes());
            }
            let mut rows: Vec<_> = hash.rows().collect();
            rows.sort_by_key(|&(_, _, time)| time.unwrap_or(NEVER));
            let mut listpack = Listpack::new();
            for (field, value, time) in rows {
                push(&mut listpack, field);
                push(&mut listpack, value);
                if has_times {
                    listpack.push_integer(time.unwrap_or(0));
                }
            }
            rdb::write_string(listpack.bytes(), out);
        }
        Repr::Table(table) => {
            let save_row = save_head(hash, earliest_ms, out);
            table.dict.iter().for_each(|entry| save_row(entry, out));
        }
    }
}

/// What stands in front of the rows of a large one, and how they follow. Times are counted from `earliest_ms`.
pub(super) fn save_head(hash: &Hash, earliest_ms: i64, out: &mut Output) -> SaveElement {
    let has_times = hash.has_times();
    if has_times {
        out.extend_from_slice(&earliest_ms.to_le_bytes());
    }
    rdb::write_len(hash.table().expect("a large one").len() as u64, out);
    Box::new(move |entry, out| {
        if has_times {
            let after = |at_ms: i64| u64::try_from(at_ms - earliest_ms).expect("no time is earlier") + 1;
            rdb::write_len(entry.expire_at_ms().map_or(0, after), out);
        }
        let (field, value) = pair_of(entry);
        rdb::write_string(field.text(&mut Default::default()), out);
        rdb::write_string(value.text(&mut Default::default()), out);
    })
}

pub(super) fn load(rdb_type: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Hash> {
    match rdb_type {
        types::HASH => load_pairs(reader, env),
        types::HASH_ZIPMAP => load_zipmap(&reader.string()?, env),
        types::HASH_ZIPLIST => {
            let block = reader.string()?;
            load_listpack(ziplist::elements(&block)?.into_iter(), 2, env)
        }
        types::HASH_LISTPACK => {
            let listpack = Listpack::from_bytes(reader.string()?.into_owned())?;
            reader.complaint = Some("Hash listpack with dup elements, or an odd number of them.");
            load_listpack(listpack.iter(), 2, env)
        }
        types::HASH_METADATA => load_with_times(reader, env),
        types::HASH_LISTPACK_EX => {
            let _earliest_ms = i64::from_le_bytes(reader.array()?);
            let listpack = Listpack::from_bytes(reader.string()?.into_owned())?;
            load_listpack(listpack.iter(), 3, env)
        }
        _ => None,
    }
}

fn load_pairs(reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Hash> {
    let count = reader.count(PAIR_BYTES_MIN)?;
    let mut hash = start(count, env);
    for _ in 0..count {
        let (field, value) = (reader.string()?, reader.string()?);
        if !hash.set(&field, &value, FieldTime::Clear, env) {
            return None;
        }
    }
    Some(hash)
}

fn load_with_times(reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Hash> {
    let earliest_ms = i64::from_le_bytes(reader.array()?);
    let count = reader.count(1 + PAIR_BYTES_MIN)?;
    let mut hash = start(count, env);
    for _ in 0..count {
        let time = match reader.plain_len()? {
            0 => None,
            after => Some(checked_time(i64::try_from(after - 1).ok()?.checked_add(earliest_ms)?)?),
        };
        let (field, value) = (reader.string()?, reader.string()?);
        if !hash.set(&field, &value, FieldTime::Clear, env) {
            return None;
        }
        hash.set_field_time(&field, time);
    }
    Some(hash)
}

/// An empty hash in the form that so many fields will need.
fn start(count: usize, env: &Env<'_>) -> Hash {
    if count as u64 > env.config.hash_max_listpack_entries {
        let dict = Dict::new(env.seeds, env.now_ms);
        return Hash { repr: Repr::Table(Box::new(Table { dict, earliest_ms: NEVER })) };
    }
    Hash::empty()
}

/// Rows of two or three columns; a listpack of our own is made of them, in which texts have but one form.
fn load_listpack<'a>(elements: impl Iterator<Item = Element<'a>>, columns: usize, env: &mut Env<'_>) -> Option<Hash> {
    let (mut listpack, mut seen, mut earliest_ms) = (Listpack::new(), HashSet::new(), NEVER);
    let mut elements = elements.peekable();
    while elements.peek().is_some() {
        let (field, value) = (canonical(elements.next()?), canonical(elements.next()?));
        if !seen.insert(field.to_vec()) {
            return None;
        }
        // A compressed block may be of any size; no server writes a listpack so large.
        if listpack.bytes().len() + field.len() + value.len() > LISTPACK_BYTES_MAX {
            return None;
        }
        push(&mut listpack, field);
        push(&mut listpack, value);
        if columns == 3 {
            let time = match elements.next()? {
                Element::Int(0) => 0,
                Element::Int(at_ms) => checked_time(at_ms)?,
                Element::Text(_) => return None,
            };
            earliest_ms = earliest_ms.min(if time == 0 { NEVER } else { time });
            listpack.push_integer(time);
        }
    }
    listpack.shrink_to_fit();
    let repr = match columns {
        2 => Repr::Pairs(listpack),
        _ => Repr::Timed(Box::new(Timed { listpack, earliest_ms })),
    };
    let mut hash = Hash { repr };
    if hash.len() as u64 > env.config.hash_max_listpack_entries {
        hash.become_table(env);
    }
    Some(hash)
}

fn checked_time(at_ms: i64) -> Option<i64> {
    (1..=FIELD_TIME_MS_MAX).contains(&at_ms).then_some(at_ms)
}

fn canonical(element: Element<'_>) -> Element<'_> {
    match element {
        Element::Text(text) => Element::of(text),
        n => n,
    }
}

/// A zipmap: its length, then field and value in turn, each behind its length, and 0xff. A value has a number of free
/// bytes in front, which follow it.
fn load_zipmap(block: &[u8], env: &mut Env<'_>) -> Option<Hash> {
    const END: u8 = 0xff;
    const LONG: u8 = 0xfe;
    fn len(reader: &mut Reader<'_>) -> Option<u64> {
        match reader.byte()? {
            END => None,
            LONG => reader.array().map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            short => Some(u64::from(short)),
        }
    }
    let (&stated, body) = block.split_first()?;
    let mut reader = Reader::new(body.strip_suffix(&[END])?);
    let mut hash = Hash::empty();
    while !reader.is_at_end() {
        let field_len = len(&mut reader)?;
        let field = reader.bytes(field_len)?;
        let value_len = len(&mut reader)?;
        let free = reader.byte()?;
        let value = reader.bytes(value_len)?;
        reader.bytes(u64::from(free))?;
        if !hash.set(field, value, FieldTime::Clear, env) {
            return None;
        }
    }
    (stated >= LONG || usize::from(stated) == hash.len()).then_some(hash)
}
