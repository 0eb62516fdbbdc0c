//! Random operations against a map, at thresholds that make every form and every conversion happen.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::codec::rdb::{Form, Output, rdb_type};
use crate::config::Config;

const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// A hash with what it needs around it.
struct Bench {
    hash: Hash,
    config: Config,
    rng: Rng,
    now_ms: i64,
}

impl Bench {
    fn new(entries_max: u64) -> Bench {
        let config = Config { hash_max_listpack_entries: entries_max, ..Config::default() };
        Bench { hash: Hash::empty(), config, rng: Rng::new(1), now_ms: 1_000_000 }
    }

    fn with<R>(&mut self, change: impl FnOnce(&mut Hash, &mut Env<'_>) -> R) -> R {
        let mut env =
            Env { config: &self.config, seeds: SEEDS, now_ms: self.now_ms, rng: &mut self.rng, packed_threshold: 0 };
        change(&mut self.hash, &mut env)
    }

    fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.with(|hash, env| hash.set(field, value, FieldTime::Clear, env))
    }

    fn saved(&self) -> (u8, Vec<u8>) {
        let mut body = Output::new(Form::Payload);
        self.hash.save(&mut body);
        (self.hash.rdb_type(Form::Payload), body.bytes)
    }

    fn loaded(&mut self, rdb_type: u8, body: &[u8]) -> Option<Hash> {
        let mut reader = Reader::new(body);
        self.with(|_, env| Hash::load(rdb_type, &mut reader, env)).filter(|_| reader.is_at_end())
    }

    fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        contents(&self.hash, self.now_ms)
    }
}

fn contents(hash: &Hash, now_ms: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    hash.iter(now_ms).map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Set(Vec<u8>, Vec<u8>, bool),
    Remove(Vec<u8>),
    Time(Vec<u8>, Option<i64>),
    Wait(i64),
    Reap(usize),
    Reload,
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..12u8).prop_map(|n| n.to_string().into_bytes()),
        (0..12u8).prop_map(|n| vec![b'f', n]),
        (0..300u16).prop_map(|n| format!("field:{n}").into_bytes()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 60..70),
        Just(vec![b'x'; 2000]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (field(), value(), any::<bool>()).prop_map(|(field, value, keep)| Op::Set(field, value, keep)),
        2 => field().prop_map(Op::Remove),
        3 => (field(), prop::option::weighted(0.8, 0..500i64)).prop_map(|(field, time)| Op::Time(field, time)),
        2 => (0..300i64).prop_map(Op::Wait),
        1 => (1..5usize).prop_map(Op::Reap),
        1 => Just(Op::Reload),
    ]
}

proptest! {
    // Each case compares everything after every step.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_like_a_map(ops in prop::collection::vec(op(), 1..120), entries_max in prop_oneof![Just(3u64), Just(40), Just(512)]) {
        let mut bench = Bench::new(entries_max);
        let mut model = BTreeMap::<Vec<u8>, (Vec<u8>, Option<i64>)>::new();
        for op in ops {
            let now_ms = bench.now_ms;
            model.retain(|_, (_, time)| time.is_none_or(|at_ms| at_ms >= now_ms));
            match op {
                Op::Set(field, value, keep) => {
                    let time = if keep { FieldTime::Keep } else { FieldTime::Clear };
                    let is_new = bench.with(|hash, env| {
                        hash.remove_expired([field.as_slice()].into_iter(), env.now_ms);
                        hash.set(&field, &value, time, env)
                    });
                    let kept = model.get(&field).and_then(|(_, time)| *time).filter(|_| keep);
                    prop_assert_eq!(is_new, model.insert(field, (value, kept)).is_none());
                }
                Op::Remove(field) => {
                    bench.with(|hash, env| hash.remove_expired([field.as_slice()].into_iter(), env.now_ms));
                    prop_assert_eq!(bench.hash.remove(&field), model.remove(&field).is_some());
                }
                Op::Time(field, after_ms) => {
                    let time = after_ms.map(|after_ms| now_ms + after_ms);
                    if let Some((_, held)) = model.get_mut(&field) {
                        *held = time;
                        bench.hash.set_field_time(&field, time);
                    }
                }
                Op::Wait(ms) => bench.now_ms += ms,
                Op::Reap(max) => {
                    for field in bench.hash.reap(max, now_ms) {
                        prop_assert!(!model.contains_key(&field), "reaped alive");
                    }
                }
                Op::Reload => {
                    let (rdb_type, body) = bench.saved();
                    let loaded = bench.loaded(rdb_type, &body).expect("what was saved is loaded");
                    prop_assert_eq!(contents(&loaded, now_ms), bench.contents());
                    bench.hash = loaded;
                }
            }
            let now_ms = bench.now_ms;
            model.retain(|_, (_, time)| time.is_none_or(|at_ms| at_ms >= now_ms));
            let expected = model.iter().map(|(field, (value, _))| (field.clone(), value.clone())).collect();
            prop_assert_eq!(bench.contents(), expected);
            prop_assert_eq!(bench.hash.live_len(now_ms), model.len());
            for (field, (value, time)) in &model {
                prop_assert_eq!(bench.hash.get(field, now_ms).map(Element::to_vec), Some(value.clone()));
                prop_assert_eq!(bench.hash.field_time(field, now_ms), Some(*time));
            }
            let mut scanned = BTreeMap::new();
            let mut cursor = 0;
            loop {
                cursor = bench.hash.scan(cursor, 3, now_ms, |(field, value)| {
                    scanned.insert(field.to_vec(), value.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(scanned, bench.contents());
            let random = bench.hash.random(now_ms, &mut bench.rng).map(|(field, _)| field.to_vec());
            prop_assert!(random.map_or(model.is_empty(), |field| model.contains_key(&field)));
            for count in [0, 1, 3, 1000] {
                let drawn: Vec<Vec<u8>> =
                    bench.hash.distinct(count, now_ms, &mut bench.rng).iter().map(|(field, _)| field.to_vec()).collect();
                prop_assert_eq!(drawn.len(), count.min(model.len()));
                prop_assert!(drawn.iter().all(|field| model.contains_key(field)));
                prop_assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
            }
        }
        // Whatever was reaped or not: in the end nothing that has expired stays.
        bench.now_ms += 10_000;
        while bench.hash.next_expire_ms().is_some_and(|at_ms| at_ms < bench.now_ms) {
            bench.hash.reap(2, bench.now_ms);
        }
        prop_assert_eq!(bench.hash.len(), model.values().filter(|(_, time)| time.is_none()).count());
    }
}

proptest! {
    #[test]
    fn what_comes_from_outside_is_safe(
        bodies in prop::collection::vec((field(), value()), 0..6), at: usize, to: u8, timed: bool, table: bool,
    ) {
        let mut bench = Bench::new(if table { 0 } else { 512 });
        for (field, value) in &bodies {
            bench.set(field, value);
            if timed {
                bench.hash.set_field_time(field, Some(bench.now_ms + 5));
            }
        }
        let (rdb_type, mut body) = bench.saved();
        if !body.is_empty() {
            let len = body.len();
            body[at % len] = to;
        }
        use rdb_type::*;
        for rdb_type in [rdb_type, HASH, HASH_ZIPMAP, HASH_ZIPLIST, HASH_LISTPACK, HASH_METADATA, HASH_LISTPACK_EX] {
            if let Some(mut hash) = bench.loaded(rdb_type, &body) {
                let _ = (contents(&hash, 0), hash.reap(10, i64::MAX));
                let mut again = Output::new(Form::Payload);
                hash.save(&mut again);
            }
        }
    }
}

/// Behind a length of their own, as a string of an RDB file.
fn string(block: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    crate::codec::rdb::write_len(block.len() as u64, &mut body);
    body.extend_from_slice(block);
    body
}

#[test]
fn reads_what_older_servers_wrote() {
    let mut bench = Bench::new(512);
    let expected: BTreeMap<Vec<u8>, Vec<u8>> =
        [(b"foo".to_vec(), b"bar".to_vec()), (b"hello".to_vec(), b"12".to_vec())].into();
    let zipmap = string(b"\x02\x03foo\x03\x00bar\x05hello\x02\x0112?\xff");
    let ziplist = string(b"\x1e\0\0\0\x1b\0\0\0\x04\0\x00\x03foo\x05\x03bar\x05\x05hello\x07\xfd\xff");
    let ziplist_hash = bench.loaded(rdb_type::HASH_ZIPLIST, &ziplist).unwrap();
    assert_eq!(contents(&ziplist_hash, 0), expected);
    let zipmap_hash = bench.loaded(rdb_type::HASH_ZIPMAP, &zipmap).unwrap();
    assert_eq!(contents(&zipmap_hash, 0), expected);
    for bad in [
        &b"\x01\x03foo\x03\x00bar\x05hello\x02\x0112?\xff"[..],
        b"\x01\x03foo\xff",
        b"\x01\x03foo\x03\x09bar\xff",
        b"\x02\x01a\x01\x00b\x01a\x01\x00b\xff",
        b"",
    ] {
        assert!(bench.loaded(rdb_type::HASH_ZIPMAP, &string(bad)).is_none(), "{}", bad.escape_ascii());
    }
}

#[test]
fn duplicates_and_half_rows_are_refused() {
    let mut bench = Bench::new(512);
    for fields in [&["a", "1", "a", "2"][..], &["a", "1", "b"], &["7", "1", "7", "2"]] {
        let block = string(fields.iter().map(|field| field.as_bytes()).collect::<Listpack>().bytes());
        assert!(bench.loaded(rdb_type::HASH_LISTPACK, &block).is_none(), "{fields:?}");
    }
    assert!(bench.loaded(rdb_type::HASH, b"\x02\x01a\x01b\x01a\x01c").is_none());
    for time in ["-1", "x", "70368744177664"] {
        let block = string(["a", "1", time].iter().map(|word| word.as_bytes()).collect::<Listpack>().bytes());
        assert!(bench.loaded(rdb_type::HASH_LISTPACK_EX, &[&[0; 8], &block[..]].concat()).is_none(), "{time}");
    }
}

#[test]
fn takes_the_form_that_redis_takes() {
    let mut bench = Bench::new(2);
    bench.set(b"a", &[b'x'; 64]);
    bench.set(b"b", b"1");
    assert_eq!(bench.hash.kind(), Kind::HashListpack);
    bench.set(b"c", b"1");
    assert_eq!(bench.hash.kind(), Kind::HashHashtable);
    let mut bench = Bench::new(2);
    bench.set(&[b'x'; 65], b"1");
    assert_eq!(bench.hash.kind(), Kind::HashHashtable);
    let mut bench = Bench::new(2);
    bench.set(b"a", b"1");
    bench.hash.set_field_time(b"a", Some(5_000_000));
    assert_eq!(bench.hash.kind(), Kind::HashListpackTimed);
    bench.set(b"a", b"2");
    assert_eq!((bench.hash.kind(), bench.hash.has_times()), (Kind::HashListpackTimed, false));
    bench.hash.set_field_time(b"a", Some(5_000_000));
    bench.set(b"b", &[b'x'; 65]);
    assert_eq!(bench.hash.kind(), Kind::HashHashtableTimed);
    assert_eq!(bench.hash.field_time(b"a", 0), Some(Some(5_000_000)));
}

/// The budget of a million small fields, at a tenth of that.
#[test]
fn a_field_of_a_large_hash_takes_little() {
    const FIELDS: usize = 100_000;
    let mut bench = Bench::new(512);
    for n in 0..FIELDS {
        let text = format!("{n:016}");
        bench.set(text.as_bytes(), text.as_bytes());
    }
    let bytes = bench.hash.usable_bytes(0) as f64 / FIELDS as f64;
    assert!(bytes <= 62.0, "{bytes} bytes a field");
    let sampled = bench.hash.usable_bytes(100) as f64 / FIELDS as f64;
    assert!((sampled - bytes).abs() < 1.0, "{sampled} bytes a field by a sample");
    let mut slices = 1;
    while !bench.hash.free_slice(1000) {
        slices += 1;
    }
    assert_eq!(slices, FIELDS / 1000);
}

#[test]
fn many_fields_due_at_once_are_reaped_in_slices() {
    let mut bench = Bench::new(512);
    for n in 0..2000 {
        let field = n.to_string();
        bench.set(field.as_bytes(), b"v");
        if n % 2 == 0 {
            bench.hash.set_field_time(field.as_bytes(), Some(bench.now_ms + 10));
        }
    }
    assert_eq!(bench.hash.kind(), Kind::HashHashtableTimed);
    bench.now_ms += 1000;
    let mut calls = 0;
    while bench.hash.next_expire_ms().is_some_and(|at_ms| at_ms < bench.now_ms) {
        assert!(bench.hash.reap(100, bench.now_ms).len() <= 100);
        calls += 1;
    }
    assert_eq!((bench.hash.len(), bench.hash.kind()), (1000, Kind::HashHashtable));
    assert!((10..=12).contains(&calls), "{calls} calls");
}
