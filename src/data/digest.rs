//! DEBUG DIGEST: a hash of what keys hold, equal for equal data whatever the encodings, the order of insertion and the
//! number of shards, and equal to Redis's.
//!
//! Two operations make it. *Adding* xors in the SHA-1 of something: order does not matter. *Mixing* adds, and then
//! replaces the digest by its own SHA-1: order does. Elements of a list are mixed, members of a set added.

use std::fmt;

use sha1::{Digest as _, Sha1};

use super::collection::Collection;
use super::dict::Dict;
use super::entry::{EntryRef, ValueRef};
use super::list::End;
use super::listpack::{Digits, Element};
use super::stream::StreamId;
use crate::base::number::format_shortest;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

/// Of all tables: by database, the digests of its parts.
pub fn of_tables<P: Iterator<Item = Digest>>(databases: impl Iterator<Item = P>) -> Digest {
    let mut digest = Digest::default();
    for (database, parts) in databases.enumerate() {
        let mut parts = parts.peekable();
        if parts.peek().is_some() {
            digest.mix(&(database as u32).to_be_bytes());
            parts.for_each(|part| digest.xor(part.0));
        }
    }
    digest
}

/// Of the keys of one table, if there are any; to be added to those of other tables.
pub fn of_table(table: &Dict) -> Option<Digest> {
    let mut digest = Digest::default();
    for entry in table.iter() {
        let mut of_entry = Digest::default();
        of_entry.mix(entry.key());
        digest.add(&of_entry.with_value(entry).0);
    }
    (!table.is_empty()).then_some(digest)
}

impl Digest {
    /// With an entry's value and whether it expires; its key does not count.
    pub fn with_value(mut self, entry: EntryRef<'_>) -> Digest {
        self.mix(&type_number(entry).to_be_bytes());
        match entry.value() {
            ValueRef::Text(text) => self.mix(text.bytes(&mut itoa::Buffer::new())),
            ValueRef::Collection(collection) => self.mix_collection(collection),
        }
        if entry.expire_at_ms().is_some() {
            self.add(b"!!expire!!");
        }
        self
    }

    fn mix_collection(&mut self, collection: &Collection) {
        match collection {
            Collection::List(list) => list.walk(End::Head, 0, |element| {
                self.mix_element(element);
                true
            }),
            Collection::Set(set) => set.members().for_each(|member| self.add(member.text(&mut Digits::new()))),
            Collection::Zset(zset) => {
                let mut text = Vec::new();
                for (member, score) in zset.iter() {
                    let mut of_member = Digest::default();
                    of_member.mix_element(member);
                    text.clear();
                    format_shortest(score, &mut text);
                    of_member.mix(&text);
                    self.add(&of_member.0);
                }
            }
            Collection::Hash(hash) => {
                for (field, value) in hash.iter(i64::MIN) {
                    let mut of_field = Digest::default();
                    of_field.mix_element(field);
                    of_field.mix_element(value);
                    let expires = hash.has_times() && {
                        let time = hash.field_time(field.text(&mut Digits::new()), i64::MIN);
                        time.flatten().is_some()
                    };
                    if expires {
                        of_field.add(b"!!hexpire!!");
                    }
                    self.add(&of_field.0);
                }
            }
            Collection::Stream(stream) => {
                for entry in stream.log().range(StreamId::default(), StreamId::MAX) {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.pairs() {
                        self.mix_element(field);
                        self.mix_element(value);
                    }
                }
            }
        }
    }

    fn mix_element(&mut self, element: Element<'_>) {
        self.mix(element.text(&mut Digits::new()));
    }

    fn add(&mut self, bytes: &[u8]) {
        self.xor(Sha1::digest(bytes).into());
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    fn xor(&mut self, other: [u8; 20]) {
        self.0.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Redis's number of a type.
fn type_number(entry: EntryRef<'_>) -> u32 {
    match entry.value() {
        ValueRef::Text(_) => 0,
        ValueRef::Collection(Collection::List(_)) => 1,
        ValueRef::Collection(Collection::Set(_)) => 2,
        ValueRef::Collection(Collection::Zset(_)) => 3,
        ValueRef::Collection(Collection::Hash(_)) => 4,
        ValueRef::Collection(Collection::Stream(_)) => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entry::{Entry, Value};

    /// Recorded from valkey-server 8.0.1: SET a 1, SET b 2 EX 100000, in database 3 SET c 3.
    #[test]
    fn equals_a_recorded_digest() {
        let table = |entries: &[(&str, &str, Option<i64>)]| {
            let mut table = Dict::new([1, 2, 3, 4], 0);
            for (key, value, at_ms) in entries {
                let entry = Entry::new(key.as_bytes(), Value::Text(value.as_bytes()), *at_ms, 0);
                table.insert(table.hash(key.as_bytes()), entry);
            }
            of_table(&table)
        };
        let first = [table(&[("a", "1", None)]), table(&[("b", "2", Some(100))])];
        let databases = [first.to_vec(), vec![None], vec![None], vec![None, table(&[("c", "3", None)])]];
        let digest = of_tables(databases.iter().map(|parts| parts.iter().copied().flatten()));
        assert_eq!(digest.to_string(), "71a41ed32ba9e7d0ee03d3e87c3ae9ca679cdfe2");
        assert_eq!(of_tables([std::iter::empty()].into_iter()).to_string(), "0".repeat(40));
    }
}
