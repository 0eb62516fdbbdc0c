//! Sorted sets of both forms against a list that is sorted anew after each change.

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::dump;
use crate::data::entry::{Entry, Value};

const SMALL_MAX: u64 = 8;

fn with_env<R>(run: impl FnOnce(&mut Env<'_>) -> R) -> R {
    let config = Config { zset_max_listpack_entries: SMALL_MAX, zset_max_listpack_value: 10, ..Config::default() };
    let mut rng = Rng::new(1);
    run(&mut Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 })
}

#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let rank = self.0.iter().position(|(_, other)| other == member)?;
        Some(self.0.remove(rank).0)
    }

    fn add(&mut self, member: &[u8], score: f64) -> Added {
        let old = self.remove(member);
        self.0.push((score, member.to_vec()));
        self.0.sort_by(|a, b| a.partial_cmp(b).unwrap());
        match old {
            None => Added::New,
            Some(old) if old == score => Added::Same,
            Some(_) => Added::Changed,
        }
    }
}

fn contents(zset: &Zset) -> Vec<(f64, Vec<u8>)> {
    zset.iter().map(|(member, score)| (score, member.to_vec())).collect()
}

fn assert_equal(zset: &Zset, model: &Model) {
    assert_eq!(contents(zset), model.0);
    assert_eq!(zset.len(), model.0.len());
    let mut back: Vec<_> = zset.iter().rev().map(|(member, score)| (score, member.to_vec())).collect();
    back.reverse();
    assert_eq!(back, model.0);
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(zset.rank(member), Some((rank, *score)));
    }
    if let Form::Large(ordered) = &zset.form {
        ordered.assert_consistent();
    }
    assert!(zset.usable_bytes(5) <= 4 * zset.usable_bytes(0));
}

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u8>, f64),
    Remove(Vec<u8>),
    RemoveRanks(usize, usize),
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..300_u32).prop_map(|n| n.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..4),
        Just(b"a long member".to_vec()),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    let special = [f64::INFINITY, f64::NEG_INFINITY, 1e300, -5e-324, 0.1, 4_611_686_018_427_388_928.0, 1e19];
    prop_oneof![
        3 => (-5..5_i32).prop_map(f64::from),
        1 => any::<f64>().prop_filter("a number", |score| !score.is_nan()),
        1 => proptest::sample::select(special.to_vec()),
    ]
}

fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (member(), score()).prop_map(|(member, score)| Step::Add(member, score)),
        2 => member().prop_map(Step::Remove),
        1 => (any::<usize>(), 0..6_usize).prop_map(|(rank, count)| Step::RemoveRanks(rank, count)),
    ];
    proptest::collection::vec(step, 0..len)
}

fn run(zset: &mut Zset, model: &mut Model, steps: &[Step], env: &mut Env<'_>) {
    for step in steps {
        match step {
            Step::Add(member, score) => assert_eq!(zset.add(member, *score, env), model.add(member, *score)),
            Step::Remove(member) => assert_eq!(zset.remove(member), model.remove(member)),
            Step::RemoveRanks(rank, count) => {
                let start = rank % (model.0.len() + 1);
                let end = model.0.len().min(start + count);
                model.0.drain(start..end);
                zset.remove_ranks(start..end);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn equals_a_sorted_list(
        steps in prop_oneof![steps(20), steps(600)],
        bounds in proptest::collection::vec((score(), any::<bool>(), score(), any::<bool>()), 10),
        members in proptest::collection::vec((member(), member()), 10),
    ) {
        with_env(|env| {
            let (mut zset, mut model) = (Zset::default(), Model::default());
            run(&mut zset, &mut model, &steps, env);
            assert_equal(&zset, &model);
            for (min, min_excluded, max, max_excluded) in bounds {
                let (min, max) = (ScoreBound { score: min, excluded: min_excluded }, ScoreBound { score: max, excluded: max_excluded });
                let above = |score: f64| if min.excluded { score > min.score } else { score >= min.score };
                let below = |score: f64| if max.excluded { score < max.score } else { score <= max.score };
                let wanted: Vec<_> = model.0.iter().filter(|(score, _)| above(*score) && below(*score)).cloned().collect();
                let found = zset.range(zset.ranks_of_scores(min, max));
                assert_eq!(found.map(|(member, score)| (score, member.to_vec())).collect::<Vec<_>>(), wanted);
            }
            let mut level = Zset::default();
            for (_, member) in &model.0 {
                level.add(member, 1.0, env);
            }
            for (min, max) in &members {
                let wanted = model.0.iter().filter(|(_, member)| member >= min && member < max).count();
                assert_eq!(level.ranks_of_members(MemberBound::Included(min), MemberBound::Excluded(max)).len(), wanted);
                let wanted = model.0.iter().filter(|(_, member)| member > min).count();
                assert_eq!(level.ranks_of_members(MemberBound::Excluded(min), MemberBound::Highest).len(), wanted);
                let wanted = model.0.iter().filter(|(_, member)| member <= max).count();
                assert_eq!(level.ranks_of_members(MemberBound::Lowest, MemberBound::Included(max)).len(), wanted);
            }
            assert!(level.ranks_of_members(MemberBound::Highest, MemberBound::Lowest).is_empty());
        });
    }

    #[test]
    fn a_copy_is_independent(before in steps(300), after in steps(300)) {
        with_env(|env| {
            let (mut zset, mut model) = (Zset::default(), Model::default());
            run(&mut zset, &mut model, &before, env);
            let mut copy = zset.clone();
            let mut copied = Model(model.0.clone());
            run(&mut zset, &mut model, &after, env);
            assert_equal(&copy, &copied);
            drop(zset);
            run(&mut copy, &mut copied, &after, env);
            assert_equal(&copy, &copied);
        });
    }

    #[test]
    fn is_restored_from_its_payload(steps in prop_oneof![steps(20), steps(300)]) {
        with_env(|env| {
            let (mut zset, mut model) = (Zset::default(), Model::default());
            run(&mut zset, &mut model, &steps, env);
            if zset.is_empty() {
                return;
            }
            let entry = Entry::new(b"key", Value::Collection(zset.clone().into()), None, 0);
            let payload = dump::dump(entry.as_ref());
            let restored = match dump::restore(&payload, env) {
                Ok(dump::Restored::Collection(Collection::Zset(restored))) => restored,
                other => panic!("{other:?}"),
            };
            assert_equal(&restored, &model);
        });
    }

    #[test]
    fn a_damaged_payload_is_refused_or_sound(
        steps in prop_oneof![steps(12), steps(60)],
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        with_env(|env| {
            let (mut zset, mut model) = (Zset::default(), Model::default());
            run(&mut zset, &mut model, &steps, env);
            let mut body = rdb::Output::new(rdb::Form::Payload);
            zset.save(&mut body);
            for (at, byte) in damage {
                let at = at % body.len();
                body[at] = byte;
            }
            if let Some(mut loaded) = Zset::load(zset.rdb_type(rdb::Form::Payload), &mut Reader::new(&body), env) {
                let mut model = Model(contents(&loaded));
                assert_equal(&loaded, &model);
                run(&mut loaded, &mut model, &steps, env);
                assert_equal(&loaded, &model);
            }
        });
    }

    #[test]
    fn any_payload_is_safe(of in proptest::sample::select(vec![3, 5, 12, 17_u8]), count in 0..5_u8, body: Vec<u8>) {
        with_env(|env| {
            let body = [&[count], &body[..]].concat();
            let _ = Zset::load(of, &mut Reader::new(&body), env);
        });
    }
}

fn load_listpack(elements: &[&str]) -> Option<Zset> {
    let listpack: Listpack = elements.iter().collect();
    let mut body = rdb::Output::new(rdb::Form::Payload);
    rdb::write_string(listpack.bytes(), &mut body);
    with_env(|env| Zset::load(rdb_type::ZSET_LISTPACK, &mut Reader::new(&body), env))
}

#[test]
fn a_listpack_that_is_no_sorted_set_is_refused() {
    assert!(load_listpack(&["a", "1", "b", "1.5", "c", "inf"]).is_some());
    for elements in [
        &["a"][..],
        &["a", "x"],
        &["a", "nan"],
        &["a", "1", "b"],
        &["b", "1", "a", "1"],
        &["a", "2", "b", "1"],
        &["a", "1", "a", "2"],
        &["a", "1", "a", "1"],
    ] {
        assert!(load_listpack(elements).is_none(), "{elements:?}");
    }
}

#[test]
fn an_integer_left_as_text_is_found() {
    let listpack = b"\x0e\0\0\0\x02\0\x8212\x03\x815\x02\xff";
    let mut body = rdb::Output::new(rdb::Form::Payload);
    rdb::write_string(listpack, &mut body);
    let zset = with_env(|env| Zset::load(rdb_type::ZSET_LISTPACK, &mut Reader::new(&body), env)).unwrap();
    assert_eq!(zset.rank(b"12"), Some((0, 5.0)));
}

#[test]
fn scores_of_the_oldest_form_are_read() {
    let body = b"\x03\x01a\x031.5\x01b\xfe\x01c\xff";
    let zset = with_env(|env| Zset::load(rdb_type::ZSET, &mut Reader::new(body), env)).unwrap();
    let wanted = [(f64::NEG_INFINITY, b"c".to_vec()), (1.5, b"a".to_vec()), (f64::INFINITY, b"b".to_vec())];
    assert_eq!(contents(&zset), wanted);
    for body in [&b"\x01\x01a\xfd"[..], b"\x01\x01a\x01x", b"\x02\x01a\x011\x01a\x012"] {
        assert!(with_env(|env| Zset::load(rdb_type::ZSET, &mut Reader::new(body), env)).is_none());
    }
}

#[test]
fn converts_where_the_thresholds_are_passed() {
    with_env(|env| {
        let mut zset = Zset::default();
        for n in 0..SMALL_MAX {
            zset.add(n.to_string().as_bytes(), n as f64, env);
        }
        assert_eq!(zset.kind(), Kind::ZsetListpack);
        zset.add(b"one more", 1.0, env);
        assert_eq!(zset.kind(), Kind::ZsetSkiplist);
        zset.remove_ranks(1..zset.len());
        assert_eq!(zset.kind(), Kind::ZsetSkiplist);

        let mut zset = Zset::default();
        zset.add(b"ten bytes.", 1.0, env);
        assert_eq!(zset.kind(), Kind::ZsetListpack);
        zset.add(b"more than ten", 1.0, env);
        assert_eq!(zset.kind(), Kind::ZsetSkiplist);
    });
}

#[test]
fn is_freed_in_slices() {
    with_env(|env| {
        for slice in [1, 10, 100_000] {
            let mut zset = Zset::default();
            for n in 0..1000 {
                zset.add(format!("{n}").as_bytes(), f64::from(n % 17), env);
            }
            let mut slices = 0;
            while !zset.free_slice(slice) {
                slices += 1;
            }
            assert!(slices >= 1000 / slice / 2 && slices <= 2 * 1000 / slice + 2, "{slices} slices of {slice}");
        }
    });
}

/// The memory that the README promises for a sorted set.
#[test]
fn a_member_of_sixteen_bytes_takes_little_memory() {
    with_env(|env| {
        let (mut zset, mut rng, len) = (Zset::default(), Rng::new(1), 200_000);
        for _ in 0..len {
            let member = [rng.next_u64().to_le_bytes(), rng.next_u64().to_le_bytes()].concat();
            zset.add(&member, rng.unit(), env);
        }
        let each = zset.usable_bytes(0) / len;
        assert!(each <= 75, "{each} bytes");
        let estimated = zset.usable_bytes(5) / len;
        assert!(estimated.abs_diff(each) <= each / 10, "{estimated} of {each} bytes");
    });
}
