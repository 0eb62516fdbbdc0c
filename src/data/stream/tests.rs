//! The log and its groups against simple models, payloads recorded from valkey-server, and payloads that are none.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::node::Node;
use super::*;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::listpack::Listpack;

type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Op {
    Add { step: u64, fields: usize, same: bool },
    Delete(usize),
    Trim { len: usize, approximately: bool, limit: u64 },
    TrimBelow { index: usize, approximately: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let add = (0..3u64, 1..4usize, any::<bool>()).prop_map(|(step, fields, same)| Op::Add { step, fields, same });
    let trim = (0..300usize, any::<bool>(), prop_oneof![Just(0u64), 1..40u64])
        .prop_map(|(len, approximately, limit)| Op::Trim { len, approximately, limit });
    let below = (0..300usize, any::<bool>()).prop_map(|(index, approximately)| Op::TrimBelow { index, approximately });
    let op = prop_oneof![20 => add, 6 => (0..400usize).prop_map(Op::Delete), 1 => trim, 1 => below];
    proptest::collection::vec(op, 1..300)
}

fn contents<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<(StreamId, Vec<Vec<u8>>)> {
    let words = |entry: &Entry<'_>| entry.pairs().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect();
    entries.map(|entry| (entry.id, words(&entry))).collect()
}

fn saved(stream: &Stream) -> Vec<u8> {
    let mut bytes = Output::new(Form::Payload);
    stream.save(&mut bytes);
    bytes.bytes
}

fn loaded(of: u8, bytes: &[u8]) -> Option<Stream> {
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut env = Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 };
    let mut reader = Reader::new(bytes);
    Stream::load(of, &mut reader, &mut env).filter(|_| reader.is_at_end())
}

/// What a trim must leave; approximate ones may leave more.
fn apply(log: &mut Log, model: &mut Model, op: &Op, config: &Config) {
    match *op {
        Op::Add { step, fields, same } => {
            let last = log.last_id();
            let wanted = if step == 0 { NewId::Now } else { NewId::At(last.ms + step - 1) };
            let id = log.new_id(wanted, 1000).expect("far from the end");
            let name = |n: usize| if same { format!("field{n}") } else { format!("{}", n * 1000 + id.seq as usize) };
            let words: Vec<Vec<u8>> =
                (0..fields).flat_map(|n| [name(n).into_bytes(), vec![b'v'; (id.seq % 9) as usize * n]]).collect();
            log.append(id, &words.iter().map(Vec::as_slice).collect::<Vec<_>>(), config);
            model.insert(id, words);
        }
        Op::Delete(index) => {
            let id = model.keys().nth(index).copied().unwrap_or(StreamId::new(7, 7));
            assert_eq!(log.delete(id), model.remove(&id).is_some());
        }
        Op::Trim { len, approximately, limit } => {
            let trim = Trim { to: TrimTo::Len(len as u64), approximately, limit };
            trimmed(log, model, trim, model.len().saturating_sub(len));
        }
        Op::TrimBelow { index, approximately } => {
            let id = model.keys().nth(index).copied().unwrap_or(StreamId::MAX);
            let below = model.range(..id).count();
            trimmed(log, model, Trim { to: TrimTo::MinId(id), approximately, limit: 0 }, below);
        }
    }
}

fn trimmed(log: &mut Log, model: &mut Model, trim: Trim, expected: usize) {
    let removed = log.trim(trim) as usize;
    assert!(removed <= expected, "{trim:?}");
    assert!(trim.limit == 0 || removed as u64 <= trim.limit, "{trim:?}");
    assert!(removed == expected || trim.approximately || trim.limit > 0, "{trim:?}");
    (0..removed).for_each(|_| {
        model.pop_first();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn does_what_a_map_does(ops in ops(), node_entries in 0..20u64, node_bytes in 0..500u64) {
        let config = Config { stream_node_max_entries: node_entries, stream_node_max_bytes: node_bytes, ..Config::default() };
        let (mut stream, mut model) = (Stream::empty(), Model::new());
        for op in &ops {
            apply(stream.log_mut(), &mut model, op, &config);
            let log = stream.log();
            prop_assert_eq!(log.len() as usize, model.len());
            prop_assert_eq!(log.first_id(), model.keys().next().copied().unwrap_or_default());
            prop_assert_eq!(log.last_live_id(), model.keys().next_back().copied().unwrap_or_default());
        }
        let log = stream.log();
        let all: Vec<_> = model.clone().into_iter().collect();
        prop_assert_eq!(contents(log.range(StreamId::ZERO, StreamId::MAX)), all.clone());
        let mut back = contents(log.range_back(StreamId::ZERO, StreamId::MAX));
        back.reverse();
        prop_assert_eq!(back, all.clone());
        for (at, (start, _)) in all.iter().enumerate() {
            let (end, _) = &all[(at + 5).min(all.len() - 1)];
            let part = &all[at..(at + 6).min(all.len())];
            prop_assert_eq!(contents(log.range(*start, *end)), part);
            prop_assert_eq!(log.range_back(*start, *end).count(), part.len());
            prop_assert!(log.get(*start).is_some());
        }
        let bytes = saved(&stream);
        let again = loaded(rdb_type::STREAM_LISTPACKS_3, &bytes).expect("what was saved is loaded");
        prop_assert_eq!(saved(&again), bytes);
        prop_assert!(stream.usable_bytes(0) >= size_of::<Parts>());
    }

    #[test]
    fn pending_entries_belong_to_one_consumer(
        steps in proptest::collection::vec((0..5u8, 0..4u8, 0..30u64), 0..200),
    ) {
        let mut group = Group::new(StreamId::ZERO, 0);
        let mut model: BTreeMap<u64, u8> = BTreeMap::new();
        for (what, name, seq) in steps {
            let id = StreamId::new(1, seq);
            match what {
                0..=2 => {
                    let number = group.consumer_number(&[name]).unwrap_or_else(|| group.create_consumer(&[name], 5));
                    group.set_pending(id, Pending { consumer: number, delivered_at_ms: 1, deliveries: 1 });
                    model.insert(seq, name);
                }
                3 => prop_assert_eq!(group.remove_pending(id).is_some(), model.remove(&seq).is_some()),
                _ => {
                    let was = model.len();
                    model.retain(|_, of| *of != name);
                    prop_assert_eq!(group.delete_consumer(&[name]).map_or(0, |gone| gone.pending().len()), was - model.len());
                }
            }
            let owner = |pending: &Pending| group.consumer(pending.consumer).name()[0];
            let found: BTreeMap<u64, u8> = group.pending().iter().map(|(id, pending)| (id.seq, owner(pending))).collect();
            prop_assert_eq!(&found, &model);
            let by_consumer: usize = group.consumers().map(|consumer| consumer.pending().len()).sum();
            prop_assert_eq!(by_consumer, model.len());
        }
        let mut stream = Stream::empty();
        stream.groups_mut().insert(Box::from(&b"g"[..]), group);
        let bytes = saved(&stream);
        let mut again = loaded(rdb_type::STREAM_LISTPACKS_3, &bytes).expect("what was saved is loaded");
        prop_assert_eq!(saved(&again), bytes);
        let mut slices = 0;
        while !again.free_slice(3) {
            slices += 1;
            prop_assert!(slices < 1000);
        }
    }

    #[test]
    fn damaged_payloads_are_safe(at in any::<prop::sample::Index>(), byte: u8, of in 0..3usize) {
        let mut bytes = saved(&example());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let of = [rdb_type::STREAM_LISTPACKS, rdb_type::STREAM_LISTPACKS_2, rdb_type::STREAM_LISTPACKS_3][of];
        if let Some(mut stream) = loaded(of, &bytes) {
            let log = stream.log();
            let forward = contents(log.range(StreamId::ZERO, StreamId::MAX)).len();
            prop_assert_eq!(contents(log.range_back(StreamId::ZERO, StreamId::MAX)).len(), forward);
            prop_assert_eq!(forward as u64, log.len());
            if let Some(id) = log.new_id(NewId::Now, 1) {
                stream.log_mut().append(id, &[b"f", b"v"], &Config::default());
            }
            stream.log_mut().trim(Trim { to: TrimTo::Len(1), approximately: false, limit: 0 });
            let all: Vec<StreamId> = stream.log().range(StreamId::ZERO, StreamId::MAX).map(|entry| entry.id).collect();
            all.into_iter().for_each(|id| assert!(stream.log_mut().delete(id)));
        }
    }
}

fn example() -> Stream {
    let config = Config { stream_node_max_entries: 3, ..Config::default() };
    let mut stream = Stream::empty();
    let log = stream.log_mut();
    for seq in 1..6 {
        log.append(StreamId::new(5, seq), &[b"field", b"value", b"12", b"-300"], &config);
    }
    log.append(StreamId::new(300, 0), &[b"other", b"value"], &config);
    assert!(log.delete(StreamId::new(5, 1)) && log.delete(StreamId::new(5, 5)));
    let mut group = Group::new(StreamId::new(5, 2), 2);
    let number = group.create_consumer(b"consumer", 77);
    group.set_pending(StreamId::new(5, 2), Pending { consumer: number, delivered_at_ms: 70, deliveries: 3 });
    group.create_consumer(b"1", 78);
    stream.groups_mut().insert(Box::from(&b"group"[..]), group);
    stream
}

/// What valkey-server 8.0.1 dumps, without type byte and footer, after: XADD s 1-1 a 1 b text, XADD s 1-2 a 300 b -5,
/// XADD s 2-0 c 70000, XDEL s 1-2, XGROUP CREATE s g 0, XREADGROUP GROUP g 12 COUNT 1 STREAMS s >.
const OF_VALKEY: &[u8] = b"\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01@FF\x00\x00\x00\x19\x00\
    \x02\x01\x01\x01\x02\x01\x81a\x02\x81b\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x84text\x05\x05\x01\x03\x01\x00\x01\x01\x01\xc1,\x02\xdf\xfb\x02\x05\x01\
    \x00\x01\x01\x01\xdf\xff\x02\x01\x01\x81c\x02\xf2p\x11\x01\x04\x06\x01\xff\x02\x02\x00\x01\x01\x01\x02\x03\x01\x01g\x01\x01\x81\xff\xff\xff\xff\xff\xff\
    \xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01Y\t\x92\xfe\xa1\x01\x00\x00\x01\x01\xc0\x0cY\t\x92\xfe\xa1\x01\x00\x00\
    Y\t\x92\xfe\xa1\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01";
/// Where in it what the second form lacks is, and what the first lacks besides.
const ACTIVE_AT: std::ops::Range<usize> = 149..157;
const ENTRIES_READ: std::ops::Range<usize> = 103..112;
const COUNTERS: std::ops::Range<usize> = 93..98;

/// The example without some bytes.
fn without(ranges: &[std::ops::Range<usize>]) -> Vec<u8> {
    let kept = |(at, byte): (usize, &u8)| (!ranges.iter().any(|range| range.contains(&at))).then_some(*byte);
    OF_VALKEY.iter().enumerate().filter_map(kept).collect()
}

#[test]
fn is_saved_as_by_valkey() {
    let (id, time) = (StreamId::new, 1_795_272_345_945);
    let mut stream = Stream::empty();
    let log = stream.log_mut();
    log.append(id(1, 1), &[b"a", b"1", b"b", b"text"], &Config::default());
    log.append(id(1, 2), &[b"a", b"300", b"b", b"-5"], &Config::default());
    log.append(id(2, 0), &[b"c", b"70000"], &Config::default());
    assert!(log.delete(id(1, 2)));
    let mut group = Group::new(id(1, 1), ENTRIES_READ_UNKNOWN);
    let number = group.create_consumer(b"12", time);
    group.set_pending(id(1, 1), Pending { consumer: number, delivered_at_ms: time, deliveries: 1 });
    group.consumer_mut(number).active_at_ms = time;
    stream.groups_mut().insert(Box::from(&b"g"[..]), group);
    assert_eq!(saved(&stream).escape_ascii().to_string(), OF_VALKEY.escape_ascii().to_string());
    let loaded = loaded(rdb_type::STREAM_LISTPACKS_3, OF_VALKEY).expect("valkey's payload is loaded");
    assert_eq!(saved(&loaded), OF_VALKEY);
}

#[test]
fn older_forms_are_loaded() {
    // As redis-server 7.0 dumps it: when a consumer was active is taken for when it was seen.
    let second = loaded(rdb_type::STREAM_LISTPACKS_2, &without(&[ACTIVE_AT])).expect("the second form");
    assert_eq!(saved(&second), OF_VALKEY);
    // Before 7.0 nothing was counted.
    let first = without(&[ACTIVE_AT, ENTRIES_READ, COUNTERS]);
    let first = loaded(rdb_type::STREAM_LISTPACKS, &first).expect("the first form");
    let log = first.log();
    let counted = (log.len(), log.entries_added(), log.first_id(), log.max_deleted_id());
    assert_eq!(counted, (2, 2, StreamId::new(1, 1), StreamId::ZERO));
    assert_eq!(first.groups()[&b"g"[..]].entries_read, 1);
}

#[test]
fn ids_follow_each_other() {
    let id = StreamId::new;
    assert_eq!(id(1, 2).next(), Some(id(1, 3)));
    assert_eq!(id(1, u64::MAX).next(), Some(id(2, 0)));
    assert_eq!(StreamId::MAX.next(), None);
    assert_eq!(id(1, 0).previous(), Some(id(0, u64::MAX)));
    assert_eq!(StreamId::ZERO.previous(), None);
    assert_eq!(StreamId::from_bytes(id(7, u64::MAX).to_bytes()), id(7, u64::MAX));
    assert_eq!(id(12, 3).to_string(), "12-3");
}

#[test]
fn new_ids_never_go_back() {
    let mut log = Log::default();
    assert_eq!(log.new_id(NewId::At(0), 5), Some(StreamId::new(0, 1)));
    assert_eq!(log.new_id(NewId::Exactly(StreamId::ZERO), 5), None);
    log.set_last_id(StreamId::new(9, u64::MAX), None, None);
    assert_eq!(log.new_id(NewId::Now, 5), Some(StreamId::new(10, 0)));
    assert_eq!(log.new_id(NewId::At(9), 5), None);
    assert_eq!(log.new_id(NewId::At(8), 5), None);
    log.set_last_id(StreamId::MAX, None, None);
    assert_eq!(log.new_id(NewId::Now, 5), None);
}

#[test]
fn radix_nodes_are_counted_as_redis_makes_them() {
    let config = Config { stream_node_max_entries: 1, ..Config::default() };
    let count = |ids: &[(u64, u64)]| {
        let mut log = Log::default();
        ids.iter().for_each(|&(ms, seq)| log.append(StreamId::new(ms, seq), &[b"f", b"v"], &config));
        log.radix_nodes()
    };
    // Measured with valkey-server 8.0.1.
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[(1, 1)]), 2);
    assert_eq!(count(&[(1, 1), (1, 2)]), 4);
    assert_eq!(count(&[(1, 1), (2, 1)]), 6);
    assert_eq!(count(&[(1, 1), (1, 2), (2, 1)]), 8);
}

#[test]
fn malformed_nodes_are_refused() {
    let node = |texts: &[&str]| {
        let listpack: Listpack = texts.iter().collect();
        Node::from_listpack(listpack, StreamId::new(1, 1)).is_some()
    };
    assert!(node(&["1", "0", "1", "f", "0", "2", "0", "0", "v", "4"]));
    assert!(node(&["1", "0", "1", "f", "0", "0", "0", "0", "1", "g", "v", "6"]));
    for wrong in [
        &[][..],
        &["0", "0", "0", "0"],
        &["2", "0", "1", "f", "0", "2", "0", "0", "v", "4"],
        &["1", "1", "1", "f", "0", "2", "0", "0", "v", "4"],
        &["1", "0", "2", "f", "0", "2", "0", "0", "v", "4"],
        &["1", "0", "1", "f", "1", "2", "0", "0", "v", "4"],
        &["1", "0", "1", "f", "0", "4", "0", "0", "v", "4"],
        &["1", "0", "1", "f", "0", "2", "x", "0", "v", "4"],
        &["1", "0", "1", "f", "0", "2", "-1", "0", "v", "4"],
        &["1", "0", "1", "f", "0", "2", "0", "0", "v", "5"],
        &["1", "0", "1", "f", "0", "2", "0", "0", "v"],
        &["2", "0", "1", "f", "0", "2", "0", "0", "v", "4", "2", "0", "0", "v", "4"],
    ] {
        assert!(!node(wrong), "{wrong:?}");
    }
}
