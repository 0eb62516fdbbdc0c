//! Lists against a vector, and payloads that other servers wrote.

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::dump;
use crate::data::entry::{Entry, Value};

#[derive(Clone, Debug)]
enum Op {
    Push(End, Vec<Vec<u8>>),
    Pop(End, usize),
    Trim(usize, usize),
    Set(i64, Vec<u8>),
    Insert(Vec<u8>, bool, Vec<u8>),
    Remove(End, Vec<u8>, usize),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..40i64).prop_map(|n| n.to_string().into_bytes()),
        4 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..30),
        4 => (0..5usize).prop_map(|n| vec![b'a' + n as u8; 60 + n]),
        1 => Just(vec![b'x'; 4_000]),
        1 => Just(vec![b'y'; 5_000]),
        1 => Just(vec![b'z'; 9_000]),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Head), Just(End::Tail)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (end(), prop::collection::vec(text(), 1..8)).prop_map(|(end, texts)| Op::Push(end, texts)),
        1 => (end(), 0..5usize).prop_map(|(end, count)| Op::Pop(end, count)),
        1 => (0..3usize, 0..40usize).prop_map(|(skip, count)| Op::Trim(skip, count)),
        3 => (-60..60i64, text()).prop_map(|(index, text)| Op::Set(index, text)),
        3 => (text(), any::<bool>(), text()).prop_map(|(pivot, after, text)| Op::Insert(pivot, after, text)),
        2 => (end(), text(), 1..4usize).prop_map(|(end, text, count)| Op::Remove(end, text, count)),
    ]
}

fn config(fill: i32, depth: u32) -> Config {
    Config { list_max_listpack_size: fill, list_compress_depth: depth, ..Config::default() }
}

fn with_env<R>(config: &Config, packed_threshold: usize, act: impl FnOnce(&mut Env<'_>) -> R) -> R {
    let mut rng = Rng::new(1);
    act(&mut Env { config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold })
}

fn contents(list: &List) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    list.walk(End::Head, 0, |element| {
        found.push(element.to_vec());
        true
    });
    found
}

fn slices(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

fn apply(op: &Op, list: &mut List, model: &mut Vec<Vec<u8>>, env: &Env<'_>) {
    match op {
        Op::Push(end, texts) => {
            list.push(*end, &slices(texts), env);
            match end {
                End::Head => texts.iter().for_each(|text| model.insert(0, text.clone())),
                End::Tail => model.extend_from_slice(texts),
            }
        }
        Op::Pop(end, count) => {
            let mut popped = Vec::new();
            list.pop(*end, *count, env, |element| popped.push(element.to_vec()));
            let count = (*count).min(model.len());
            let expected: Vec<Vec<u8>> = match end {
                End::Head => model.drain(..count).collect(),
                End::Tail => model.drain(model.len() - count..).rev().collect(),
            };
            assert_eq!(popped, expected);
        }
        Op::Trim(skip, count) => {
            let kept: Vec<Vec<u8>> = model.iter().skip(*skip).take(*count).cloned().collect();
            assert_eq!(list.trim(*skip, *count, env), model.len() - kept.len());
            *model = kept;
        }
        Op::Set(index, text) => {
            let at = if *index < 0 { model.len() as i64 + index } else { *index };
            let place = usize::try_from(at).ok().filter(|&at| at < model.len());
            assert_eq!(list.set(*index, text, env), place.is_some());
            if let Some(place) = place {
                model[place] = text.clone();
            }
        }
        Op::Insert(pivot, after, text) => {
            let place = model.iter().position(|held| held == pivot);
            assert_eq!(list.insert(pivot, *after, text, env), place.is_some());
            if let Some(place) = place {
                model.insert(place + usize::from(*after), text.clone());
            }
        }
        Op::Remove(end, text, count) => {
            let mut places: Vec<usize> = (0..model.len()).filter(|&at| model[at] == *text).collect();
            if *end == End::Tail {
                places.reverse();
            }
            places.truncate(*count);
            assert_eq!(list.remove_equal(*end, text, *count, env), places.len());
            places.sort_unstable_by(|one, other| other.cmp(one));
            for place in places {
                model.remove(place);
            }
        }
    }
}

fn reloaded(list: &List, env: &mut Env<'_>) -> Option<List> {
    let mut saved = Output::new(Form::Payload);
    list.save(&mut saved);
    let mut reader = Reader::new(&saved);
    List::load(list.rdb_type(Form::Payload), &mut reader, env).filter(|_| reader.is_at_end())
}

proptest! {
    // Each case compares all elements after each step.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn behaves_like_a_vector(
        fill in prop_oneof![Just(-1), Just(-2), 0..6i32],
        depth in 0..4u32,
        packed_threshold in prop_oneof![2 => Just(0usize), 1 => Just(1usize), 1 => Just(20usize)],
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let config = config(fill, depth);
        let (mut list, mut model) = (List::empty(), Vec::new());
        for (step, op) in ops.iter().enumerate() {
            // Tests of a server switch the threshold off and on: nodes of both kinds stay.
            let packed_threshold = if step % 4 == 3 { 0 } else { packed_threshold };
            with_env(&config, packed_threshold, |env| apply(op, &mut list, &mut model, env));
            prop_assert_eq!(contents(&list), model.clone(), "{:?}", op);
            prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
            if let Some(quicklist) = list.quicklist() {
                quicklist.check();
            }
        }
        for skip in 0..model.len() {
            let (mut ahead, mut back) = (None, None);
            list.walk_some(End::Head, skip, 1, |element| ahead = Some(element.to_vec()));
            list.walk_some(End::Tail, skip, 1, |element| back = Some(element.to_vec()));
            prop_assert_eq!((ahead.as_ref(), back.as_ref()), (model.get(skip), model.iter().rev().nth(skip)));
        }
        let copy = with_env(&config, packed_threshold, |env| reloaded(&list, env)).expect("what was saved is whole");
        prop_assert_eq!(contents(&copy), model);
        let mut freed = list;
        while !freed.free_slice(2) {}
    }

    #[test]
    fn damaged_payloads_are_refused_or_hold(
        texts in prop::collection::vec(text(), 1..30), kind in 0..4usize, at: usize, to: u8, cut: usize,
    ) {
        let config = config(3, 1);
        let types = [rdb_type::LIST, rdb_type::LIST_ZIPLIST, rdb_type::LIST_QUICKLIST, rdb_type::LIST_QUICKLIST_2];
        let list = with_env(&config, 20, |env| {
            let mut list = List::empty();
            list.push(End::Tail, &slices(&texts), env);
            list
        });
        let mut saved = Output::new(Form::Payload);
        list.save(&mut saved);
        let len = saved.len();
        saved[at % len] = to;
        for bytes in [&saved[..], &saved[..cut % len]] {
            let loaded = with_env(&config, 0, |env| List::load(types[kind], &mut Reader::new(bytes), env));
            if let Some(mut list) = loaded {
                prop_assert_eq!(contents(&list).len(), list.len());
                with_env(&config, 0, |env| list.push(End::Head, &[b"more"], env));
            }
        }
    }
}

#[test]
fn becomes_a_quicklist_before_it_is_too_large_and_a_listpack_at_half_the_size() {
    let config = config(4, 0);
    let mut list = List::empty();
    with_env(&config, 0, |env| {
        list.push(End::Tail, &[b"1", b"2", b"3", b"4"], env);
        assert_eq!(list.kind(), Kind::ListListpack);
        list.push(End::Tail, &[b"5"], env);
        assert_eq!(list.kind(), Kind::ListQuicklist);
        list.pop(End::Tail, 1, env, |_| ());
        list.pop(End::Tail, 1, env, |_| ());
        assert_eq!((list.len(), list.kind()), (3, Kind::ListQuicklist));
        list.pop(End::Tail, 1, env, |_| ());
        assert_eq!((list.len(), list.kind()), (2, Kind::ListListpack));
    });
}

#[test]
fn a_million_small_elements_take_little_more_than_their_bytes() {
    let config = Config::default();
    let mut list = List::empty();
    let mut rng = Rng::new(7);
    for _ in 0..100_000 {
        let text = [rng.next_u64().to_le_bytes(), rng.next_u64().to_le_bytes()].concat();
        with_env(&config, 0, |env| list.push(End::Tail, &[&text], env));
    }
    let per_element = list.usable_bytes(0) as f64 / 100_000.0;
    assert!(per_element < 18.3, "{per_element} bytes for 16");
    let sampled = list.usable_bytes(5) as f64 / list.usable_bytes(0) as f64;
    assert!((0.98..1.02).contains(&sampled), "{sampled}");
}

/// Payloads that valkey-server 8.0.1 wrote: without `rdbcompression`, and with nodes that it compressed in memory.
const OF_A_LISTPACK: &[u8] = b"\x12\x01\x02\x10\x10\x00\x00\x00\x03\x00\x81a\x02\x0c\x01\x82bc\x03\xff\x0b\x00";

#[test]
fn a_small_list_is_saved_as_others_save_it() {
    let config = Config::default();
    let mut list = List::empty();
    with_env(&config, 0, |env| list.push(End::Tail, &[b"a", b"12", b"bc"], env));
    let payload = dump::dump(Entry::new(b"key", Value::Collection(list.into()), None, 0).as_ref());
    assert_eq!(payload[..OF_A_LISTPACK.len()], *OF_A_LISTPACK);
}

#[test]
fn older_layouts_are_read() {
    let list = b"\x03\x01a\xc0\x0c\x02bc";
    let ziplist = b"\x14\x14\x00\x00\x00\x0f\x00\x00\x00\x03\x00\x00\x01a\x03\xfd\x02\x02bc\xff";
    let of_ziplists = [&b"\x01"[..], ziplist].concat();
    let config = Config::default();
    for (kind, bytes) in
        [(rdb_type::LIST, &list[..]), (rdb_type::LIST_ZIPLIST, ziplist), (rdb_type::LIST_QUICKLIST, &of_ziplists)]
    {
        let loaded = with_env(&config, 0, |env| List::load(kind, &mut Reader::new(bytes), env));
        let loaded = loaded.unwrap_or_else(|| panic!("type {kind} is read"));
        assert_eq!(
            (contents(&loaded), loaded.kind()),
            (vec![b"a".to_vec(), b"12".to_vec(), b"bc".to_vec()], Kind::ListListpack)
        );
    }
}
