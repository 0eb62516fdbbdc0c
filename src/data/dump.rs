//! The payload of DUMP and RESTORE: one value of any type as an RDB file holds it, version and checksum behind it.
//!
//! Each type saves and loads itself; here is only which type byte belongs to which.

use std::borrow::Cow;

use super::collection::{Collection, CollectionType, Env};
use super::entry::{EntryRef, ValueRef};
use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::stream::Stream;
use super::zset::Zset;
pub use crate::codec::rdb::DumpError;
use crate::codec::rdb::{self, Form, Leniency, Output, Reader, rdb_type};
use crate::config::value::RdbVersionCheck;

/// What a payload holds.
#[derive(Debug)]
pub enum Restored<'a> {
    Text(Cow<'a, [u8]>),
    Collection(Collection),
}

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoValue {
    Malformed,
    /// A collection without elements, which no key can hold: some servers wrote such files.
    Empty,
}

/// The payload of an entry's value.
pub fn dump(entry: EntryRef<'_>) -> Vec<u8> {
    let mut payload = Output::new(Form::Payload);
    payload.push(type_of(entry, Form::Payload));
    save(entry, &mut payload);
    rdb::seal(&mut payload);
    payload.bytes
}

/// The same as every Redis reads it that reads our files: for effects.
pub fn dump_for_files(entry: EntryRef<'_>) -> Vec<u8> {
    let form = Form::File { compresses: false };
    let mut payload = Output::new(form);
    payload.push(type_of(entry, form));
    save(entry, &mut payload);
    rdb::seal_for_files(&mut payload);
    payload.bytes
}

/// The type byte of an entry's value in this form.
pub fn type_of(entry: EntryRef<'_>, form: Form) -> u8 {
    match entry.value() {
        ValueRef::Text(_) => rdb_type::STRING,
        ValueRef::Collection(collection) => collection.rdb_type(form),
    }
}

/// Appends an entry's value, without its type byte.
pub fn save(entry: EntryRef<'_>, out: &mut Output) {
    match entry.value() {
        ValueRef::Text(text) => rdb::write_string(text.bytes(&mut itoa::Buffer::new()), out),
        ValueRef::Collection(collection) => collection.save(out),
    }
}

/// The value of a payload.
pub fn restore<'a>(payload: &'a [u8], env: &mut Env<'_>) -> Result<Restored<'a>, DumpError> {
    restore_with(payload, false, env)
}

/// The same; `skips_checksum`: what stands at the end does not matter.
pub fn restore_with<'a>(payload: &'a [u8], skips_checksum: bool, env: &mut Env<'_>) -> Result<Restored<'a>, DumpError> {
    let takes_newer = env.config.rdb_version_check == RdbVersionCheck::Relaxed;
    let mut reader = Reader::new(rdb::unseal(payload, Leniency { takes_newer, skips_checksum })?);
    let rdb_type = reader.byte().ok_or(DumpError::Format("A payload without a value."))?;
    match load(rdb_type, &mut reader, env) {
        Ok(restored) if reader.is_at_end() => Ok(restored),
        Ok(_) | Err(NoValue::Empty | NoValue::Malformed) => Err(DumpError::Format(rdb::flaw(rdb_type, &reader))),
    }
}

/// The value that follows a type byte.
pub fn load<'a>(rdb_type: u8, reader: &mut Reader<'a>, env: &mut Env<'_>) -> Result<Restored<'a>, NoValue> {
    use rdb_type::*;
    fn typed<T: CollectionType>(loaded: Option<T>) -> Result<Restored<'static>, NoValue> {
        let value = loaded.ok_or(NoValue::Malformed)?;
        if value.is_empty() && !T::LIVES_EMPTY { Err(NoValue::Empty) } else { Ok(Restored::Collection(value.into())) }
    }
    match rdb_type {
        STRING => reader.string().map(Restored::Text).ok_or(NoValue::Malformed),
        of @ (LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2) => typed(List::load(of, reader, env)),
        of @ (SET | SET_INTSET | SET_LISTPACK) => typed(Set::load(of, reader, env)),
        of @ (ZSET | ZSET_2 | ZSET_ZIPLIST | ZSET_LISTPACK) => typed(Zset::load(of, reader, env)),
        of @ (HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK | HASH_METADATA | HASH_LISTPACK_EX) => {
            typed(Hash::load(of, reader, env))
        }
        of @ (STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3) => typed(Stream::load(of, reader, env)),
        _ => Err(NoValue::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::crc::crc64;
    use crate::base::rng::Rng;
    use crate::config::Config;
    use crate::data::entry::{Entry, Value};

    /// Recorded from valkey-server 8.0.1's DUMP.
    const OF_1: &[u8] = b"\x00\xc0\x01\x0b\x00O\xa7Z\xc5,\x9e\xf8u";
    const FOOTER_LEN: usize = 10;

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut payload = body.to_vec();
        rdb::seal(&mut payload);
        payload
    }

    fn dump_text(text: &[u8]) -> Vec<u8> {
        dump(Entry::new(b"key", Value::Text(text), None, 0).as_ref())
    }

    fn restore_text(payload: &[u8]) -> Result<Vec<u8>, DumpError> {
        let (config, mut rng) = (Config::default(), Rng::new(1));
        let mut env = Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 };
        restore(payload, &mut env).map(|restored| match restored {
            Restored::Text(text) => text.into_owned(),
            Restored::Collection(_) => panic!("the payload of a string"),
        })
    }

    #[test]
    fn equals_a_recorded_payload() {
        assert_eq!(dump_text(b"1"), OF_1);
        assert_eq!(restore_text(OF_1).as_deref(), Ok(&b"1"[..]));
    }

    #[test]
    fn integers_take_as_few_bytes_as_they_need() {
        for (text, len) in [("-128", 2), ("128", 3), ("-32768", 3), ("32768", 5), ("-2147483648", 5)] {
            assert_eq!(dump_text(text.as_bytes()).len(), 1 + len + FOOTER_LEN, "{text}");
        }
        for text in ["2147483648", "007", "+1", ""] {
            assert_eq!(dump_text(text.as_bytes()).len(), 1 + 1 + text.len() + FOOTER_LEN, "{text}");
        }
    }

    #[test]
    fn reads_lzf() {
        let body = b"\x00\xc3\x05\x14\x00a\xe0\x0a\x00";
        assert_eq!(restore_text(&sealed(body)).as_deref(), Ok(&b"aaaaaaaaaaaaaaaaaaaa"[..]));
    }

    #[test]
    fn tells_damage_from_what_is_no_value() {
        for cut in 0..OF_1.len() {
            assert_eq!(restore_text(&OF_1[..cut]), Err(DumpError::VersionOrChecksum), "{cut} bytes");
        }
        let newer = [b"\x00\xc0\x01", &(rdb::RDB_VERSION_OF_FIELD_TIMES + 1).to_le_bytes()[..]].concat();
        let newer = [&newer[..], &crc64(0, &newer).to_le_bytes()].concat();
        assert_eq!(restore_text(&newer), Err(DumpError::VersionOrChecksum));
        for body in [&b""[..], b"\x00", b"\x07\x01a", b"\x00\xc4", b"\x00\x05abcd", b"\x00\x82", b"\x00\xc3\xc0\x01"] {
            assert!(matches!(restore_text(&sealed(body)), Err(DumpError::Format(_))), "{body:?}");
        }
        let endless = [&b"\x00\x81"[..], &u64::MAX.to_be_bytes()].concat();
        assert!(matches!(restore_text(&sealed(&endless)), Err(DumpError::Format(_))));
    }

    proptest! {
        #[test]
        fn restores_what_was_dumped(text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            proptest::collection::vec(any::<u8>(), 16_300..16_500),
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        ]) {
            prop_assert_eq!(restore_text(&dump_text(&text)), Ok(text));
        }

        #[test]
        fn any_body_is_safe(body: Vec<u8>) {
            let (config, mut rng) = (Config::default(), Rng::new(1));
            let mut env = Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 };
            let _ = restore(&sealed(&body), &mut env);
        }
    }
}
