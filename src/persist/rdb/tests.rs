use std::io::{self, Read};

use proptest::prelude::*;

use super::read::{Item, RdbReader, Versions, What, module_name};
use super::write::{Chunk, Header, Sum, Trials, Usage};
use crate::base::clock::Now;
use crate::base::crc::crc64;
use crate::base::rng::Rng;
use crate::codec::rdb::Form;
use crate::command::testing::{START_MS, TestShard};
use crate::config::Config;
use crate::data::digest::{self, Digest};
use crate::data::entry::{Entry, Value};
use crate::engine::table::FAMILIES;
use crate::keyspace::slots::SlotMap;
use crate::persist::load::{Duplicates, LoadError, Loaded, Loader};

const FORMS: [Form; 2] = [Form::File { compresses: false }, Form::File { compresses: true }];

const LIBRARY: &[u8] = b"#!lua name=one\nredis.register_function('f', function() end)";

fn header(form: Form) -> Header {
    let (functions, sizes) = (vec![LIBRARY[..].into()], vec![(3, 1), (0, 0), (1, 0)]);
    Header { redis_version: "7.2.4", unix_s: 1000, used_memory: 1 << 20, sizes, functions, form, is_aof_base: false }
}

/// The shard's databases as a file.
fn file(shard: &TestShard, form: Form, usage: Usage) -> Vec<u8> {
    let mut sum = Sum::default();
    let (mut body, mut has_field_times) = (Vec::new(), false);
    for db in 0..shard.ctx.keyspace.databases() {
        let mut chunk = Chunk::new(db, form);
        chunk.leave_compression(true);
        shard.ctx.keyspace.db(db).iter().for_each(|entry| chunk.push(entry, usage, &shard.ctx.config));
        has_field_times |= chunk.has_field_times;
        let written = chunk.write(&mut Trials::default(), |bytes| {
            sum.add(bytes);
            body.extend_from_slice(bytes);
            Ok(())
        });
        written.expect("memory takes everything");
    }
    let header = header(form).write(has_field_times);
    let end = sum.end(&header, true);
    [header, body, end.to_vec()].concat()
}

fn load(file: impl Read) -> Result<(TestShard, Loaded), LoadError> {
    let mut shard = TestShard::new(FAMILIES);
    let slots = SlotMap::contiguous(1);
    let mut loader = Loader::new(file, 0, 0, slots, Duplicates::Refused, &shard.ctx)?;
    while !loader.slice(&mut shard.ctx, 100)? {}
    Ok((shard, loader.loaded))
}

fn digest(shard: &TestShard) -> Digest {
    let keyspace = &shard.ctx.keyspace;
    digest::of_tables((0..keyspace.databases()).map(|db| digest::of_table(keyspace.db(db)).into_iter()))
}

/// Hands out as little at a time as a slow disk might.
struct Trickle<'a>(&'a [u8], Rng);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (1 + self.1.below(50) as usize).min(self.0.len()).min(buffer.len());
        let (now, rest) = self.0.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.0 = rest;
        Ok(len)
    }
}

/// All types, in the encodings of few and of many elements.
const EVERYTHING: &str = "SET int 12 | SET -129 -70000 | SET text hello PX 5000 | SET empty '' | \
    RPUSH list a 1 b | SADD intset 1 2 70000 | SADD set a 1 c | HSET hash f v n 1 | ZADD zset 1 a 2.5 b -inf c inf d | \
    HSET timed f v g w h x | HPEXPIRE timed 900 FIELDS 1 g | XADD stream 1-1 f v | XADD stream 2-1 f v g w | \
    XADD stream 3-0 a b | XDEL stream 2-1 | XGROUP CREATE stream group 0 | \
    XREADGROUP GROUP group me COUNT 1 STREAMS stream > | XGROUP CREATECONSUMER stream group idle | PFADD hll a b c";

fn everything() -> TestShard {
    let mut shard = TestShard::new(FAMILIES);
    shard.run(EVERYTHING);
    shard.ctx.db = 9;
    let words = |start: &[&str], per_element: usize| {
        let mut words: Vec<Vec<u8>> = start.iter().map(|word| word.as_bytes().to_vec()).collect();
        for n in 0..600 {
            words.extend((0..per_element).map(|part| format!("{n:.*}", part).into_bytes()));
        }
        words
    };
    for start in [&["RPUSH", "quicklist"][..], &["SADD", "intset"], &["HSET", "table"], &["ZADD", "skiplist"]] {
        shard.command(&words(start, if matches!(start[0], "HSET" | "ZADD") { 2 } else { 1 }));
    }
    let members: Vec<Vec<u8>> = (0..600).map(|n| format!("member {n} {n}").into_bytes()).collect();
    shard.command(&[vec![b"SADD".to_vec(), b"hashtable".to_vec()], members].concat());
    shard
        .run("HSET timed-table a b | SET long xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    let words = words(&["HSET", "timed-table"], 2);
    shard.command(&words);
    shard.run("HPEXPIREAT timed-table 2000000 FIELDS 2 5 a | PEXPIREAT timed-table 3000000");
    shard
}

#[test]
fn what_was_written_is_read() {
    let shard = everything();
    for (n, form) in FORMS.into_iter().enumerate() {
        let file = file(&shard, form, Usage::None);
        let (loaded, counts) = load(Trickle(&file, Rng::new(n as u64))).expect("our own file");
        assert_eq!(digest(&loaded), digest(&shard));
        assert_eq!(counts, Loaded { keys: shard.ctx.keyspace.len() as u64, expired: 0, empty: 0 });
        let mut loaded = loaded;
        loaded.ctx.db = 0;
        assert_eq!(loaded.run("HPEXPIRETIME timed FIELDS 2 f g | PEXPIRETIME text"), "[:-1 :1000900] | :1005000");
        assert_eq!(
            loaded.run("OBJECT ENCODING set | OBJECT ENCODING list | OBJECT ENCODING timed"),
            "listpack | listpack | listpackex"
        );
        assert_eq!(loaded.run("XINFO GROUPS stream").matches("group").count(), 1);
    }
}

#[test]
fn the_version_is_as_old_as_it_can_be() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v | XADD s 1-1 a b | SADD set a");
    let version = |shard: &TestShard| file(shard, FORMS[1], Usage::None)[..9].to_vec();
    assert_eq!(version(&shard), b"REDIS0010");
    shard.run("HSET h f v | HPEXPIRE h 100 FIELDS 1 f");
    assert_eq!(version(&shard), b"REDIS0012");
}

#[test]
fn long_strings_are_compressed_where_that_is_wanted() {
    let mut shard = TestShard::new(FAMILIES);
    shard.command(&[&b"SET"[..], b"k", &[b'x'; 1000]]);
    let [plain, compressed] = FORMS.map(|form| file(&shard, form, Usage::None).len());
    assert!(plain > 1000 && compressed < 300, "{plain} and {compressed} bytes");
}

#[test]
fn the_use_of_keys_is_kept() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v | +5000ms");
    let written = file(&shard, FORMS[0], Usage::Idle(shard.ctx.now));
    let (mut loaded, _) = load(&written[..]).expect("our own file");
    assert_eq!(loaded.run("OBJECT IDLETIME k"), ":5");
    let mut config = (*shard.ctx.config).clone();
    config.maxmemory_policy = crate::config::value::Policy::AllKeysLfu;
    shard.ctx.config = config.into();
    shard.run("SET j v | OBJECT FREQ j");
    let written = file(&shard, FORMS[0], Usage::Frequency(shard.ctx.now));
    let frequencies = items(&written).into_iter().filter_map(|(frequency, _)| frequency).collect::<Vec<_>>();
    assert!(frequencies.contains(&5), "{frequencies:?}");
}

#[test]
fn who_compresses_makes_no_difference() {
    let mut shard = everything();
    for len in [20, 21, 22, 256, 257, 1023, 1024, 5000] {
        shard.run(&format!("SET even{len} {} | SET odd{len} {:0>len$}", "x".repeat(len), "abc"));
    }
    let written = |leaves_compression: bool| {
        let (mut chunk, mut bytes) = (Chunk::new(0, FORMS[1]), Vec::new());
        chunk.leave_compression(leaves_compression);
        let push = |entry| chunk.push(entry, Usage::None, &shard.ctx.config);
        shard.ctx.keyspace.db(0).iter().for_each(push);
        let kept = chunk.write(&mut Trials::default(), |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        kept.expect("memory takes everything");
        bytes
    };
    assert_eq!(written(true), written(false));
}

#[test]
fn strings_that_do_not_become_shorter_are_tried_now_and_then() {
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut trials = Trials::default();
    let mut len_of = |value: &mut dyn FnMut() -> Vec<u8>| {
        let (mut chunk, mut len) = (Chunk::new(0, FORMS[1]), 0);
        chunk.leave_compression(true);
        for _ in 0..200 {
            let entry = Entry::new(b"k", Value::Text(&value()), None, 0);
            chunk.push(entry.as_ref(), Usage::None, &config);
        }
        let written = chunk.write(&mut trials, |piece| {
            len += piece.len();
            Ok(())
        });
        written.expect("memory takes everything");
        (len, trials.are_in_vain())
    };
    let mut random = || (0..100).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>();
    let (len, in_vain) = len_of(&mut random);
    assert!(len > 200 * 100 && in_vain);
    // The first of the even ones that is tried brings the others back.
    let (len, in_vain) = len_of(&mut || b"x".repeat(100));
    assert!((200 * 10..200 * 25).contains(&len) && !in_vain, "{len}");
}

/// Of the entries: frequency and key.
fn items(file: &[u8]) -> Vec<(Option<u8>, Vec<u8>)> {
    let mut reader = RdbReader::new(file, true, Versions::Known).expect("a header");
    let mut items = Vec::new();
    loop {
        match reader.next_item().expect("a whole file") {
            Item::Entry(record) => items.push((record.frequency, record.key.to_vec())),
            Item::End(_) => return items,
            _ => {}
        }
    }
}

#[test]
fn what_has_expired_stays_out() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET gone v PX 10 | SET here v PX 10000");
    let file = file(&shard, FORMS[0], Usage::None);
    let mut late = TestShard::new(FAMILIES);
    late.ctx.now = Now { unix_ms: START_MS + 11, mono_ns: 0 };
    let mut loader =
        Loader::new(&file[..], file.len() as u64, 0, SlotMap::contiguous(1), Duplicates::Refused, &late.ctx).unwrap();
    assert!(loader.slice(&mut late.ctx, u64::MAX / 2).unwrap());
    assert_eq!((loader.loaded.keys, loader.loaded.expired), (1, 1));
}

#[test]
fn each_shard_takes_its_own() {
    let shard = everything();
    let file = file(&shard, FORMS[1], Usage::None);
    let slots = SlotMap::contiguous(4);
    let mut parts = Vec::new();
    for id in 0..4 {
        let mut part = TestShard::new(FAMILIES);
        let mut loader =
            Loader::new(&file[..], file.len() as u64, id, slots.clone(), Duplicates::Refused, &part.ctx).unwrap();
        while !loader.slice(&mut part.ctx, 1000).unwrap() {}
        let keyspace = &part.ctx.keyspace;
        assert!((0..16).all(|db| keyspace.db(db).iter().all(|entry| slots.shard_of(entry.key()) == id)));
        parts.push((0..16).map(|db| digest::of_table(keyspace.db(db))).collect::<Vec<_>>());
    }
    let all = digest::of_tables((0..16).map(|db| parts.iter().filter_map(move |part: &Vec<Option<Digest>>| part[db])));
    assert_eq!(all, digest(&shard));
}

#[test]
fn a_key_that_is_there_is_refused_or_replaced() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v");
    let file = file(&shard, FORMS[0], Usage::None);
    shard.run("SET k other | SET more v");
    for (duplicates, replies) in [(Duplicates::Refused, "other | v"), (Duplicates::Replaced, "v | v")] {
        let mut loader =
            Loader::new(&file[..], file.len() as u64, 0, SlotMap::contiguous(1), duplicates, &shard.ctx).unwrap();
        let outcome = loader.slice(&mut shard.ctx, 1000);
        assert_eq!(matches!(outcome, Err(LoadError::Duplicate { .. })), duplicates == Duplicates::Refused);
        assert_eq!(shard.run("GET k | GET more"), replies);
    }
}

fn error_of(file: &[u8]) -> What {
    match load(file) {
        Err(LoadError::File(error)) => error.what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} loads", file.escape_ascii()),
    }
}

#[test]
fn a_file_that_is_cut_short_or_changed_is_refused() {
    let file = file(&everything(), FORMS[1], Usage::None);
    for cut in (0..400).chain((400..file.len()).step_by(file.len() / 50)) {
        assert!(matches!(error_of(&file[..cut]), What::Truncated), "{cut} bytes");
    }
    let mut wrong = file.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(error_of(&wrong), What::Checksum { .. }));
    let off = [&file[..file.len() - 8], &[0; 8]].concat();
    assert!(load(&off[..]).is_ok(), "a checksum of zero is none");
    assert!(matches!(error_of(b"RESP 0011xxx"), What::Signature(_)));
    for version in ["0000", "0013", "00a1"] {
        let text = format!("REDIS{version}");
        assert!(matches!(error_of(text.as_bytes()), What::Version(_)), "{version}");
    }
    assert!(matches!(error_of(b"REDIS0011\x16\x01k\x00"), What::UnknownType(0x16)));
    assert!(matches!(error_of(b"REDIS0011\x06\x01k\x00"), What::OldModule));
    assert!(matches!(load(&b"REDIS0011\xfe\x10"[..]), Err(LoadError::Databases(16))));
    let error = load(&b"REDIS0011\x0b\x01k\x03abc"[..]).err().unwrap();
    assert_eq!(error.to_string(), "Internal error in RDB reading offset 12, key 'k' -> Intset integrity check failed.");
}

#[test]
fn newer_versions_are_read_only_if_that_is_wanted() {
    for file in [&b"VALKEY987\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0"[..], b"REDIS0987\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0"] {
        assert!(matches!(error_of(file), What::Version(987)));
        let mut reader = RdbReader::new(file, true, Versions::Any).expect("any version");
        assert!(matches!(reader.next_item(), Ok(Item::Entry(record)) if *record.key == *b"k"));
    }
}

#[test]
fn older_files_have_no_checksum_and_times_in_seconds() {
    let (mut shard, loaded) = load(&b"REDIS0003\xfe\x00\xfd\xff\xff\xff\x7f\x00\x01k\x01v\xff"[..]).expect("version 3");
    assert_eq!(loaded.keys, 1);
    assert_eq!(shard.run("GET k | EXPIRETIME k"), "v | :2147483647");
}

#[test]
fn module_data_is_passed_over() {
    // A name, and one field of each kind.
    let mut file = b"REDIS0011\xf7\x81".to_vec();
    file.extend_from_slice(&(1u64 << 58 | 2).to_be_bytes());
    file.extend_from_slice(b"\x02\x01\x05\x03abc\x03\0\0\0\0\x04\0\0\0\0\0\0\0\0\x01\x07\x00\x00\x01k\x01v\xff");
    let crc = crc64(0, &file);
    file.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(load(&file[..]).expect("a whole file").1.keys, 1);
    assert_eq!(module_name(1 << 58 | 2), "BAAAAAAAA");
}

#[test]
fn empty_collections_are_left_out() {
    let (_, loaded) = load(&b"REDIS0004\x02\x01s\x00\x01\x01l\x00\x03\x01z\x00\x04\x01h\x00\xff"[..]).expect("whole");
    assert_eq!(loaded, Loaded { keys: 0, expired: 0, empty: 4 });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is in a file, it is loaded or refused.
    #[test]
    fn any_file_is_safe(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut file = file(&everything(), FORMS[1], Usage::None);
        for (at, byte) in damage {
            let at = 9 + at.index(file.len() - 9);
            file[at] = byte;
        }
        let len = file.len();
        // The checksum would hide what is behind it.
        file[len - 8..].fill(0);
        let _ = load(&file[..]);
    }

    #[test]
    fn any_bytes_are_safe(body: Vec<u8>) {
        let _ = load(&[b"REDIS0011", &body[..]].concat()[..]);
    }
}
