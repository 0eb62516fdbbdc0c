//! Random operations compared with a `BTreeSet`, encodings, chances, and what RDB files hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::dump::{Restored, dump, restore};

type Model = BTreeSet<Vec<u8>>;

fn small() -> Config {
    Config { set_max_intset_entries: 6, set_max_listpack_entries: 4, set_max_listpack_value: 8, ..Config::default() }
}

fn with_env<R>(config: &Config, run: impl FnOnce(&mut Env<'_>) -> R) -> R {
    run(&mut Env { config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut Rng::new(7), packed_threshold: 0 })
}

/// As SADD makes it.
fn set_of<T: AsRef<[u8]>>(members: impl IntoIterator<Item = T>, env: &Env<'_>) -> Set {
    let mut set = Set::empty();
    for member in members {
        set.expect(member.as_ref(), 1, env);
        set.add(Element::Text(member.as_ref()), env);
    }
    set
}

fn contents(set: &Set) -> Model {
    let listed: Vec<Vec<u8>> = set.members().map(Element::to_vec).collect();
    let distinct: Model = listed.iter().cloned().collect();
    assert_eq!((listed.len(), listed.len()), (distinct.len(), set.len()), "each member once");
    distinct
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (-10..10i64).prop_map(|n| n.to_string().into_bytes()),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        "[a-c]{0,2}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..12),
        Just(b"007".to_vec()),
    ]
}

fn model(len_max: usize) -> impl Strategy<Value = Model> {
    let integers = prop::collection::btree_set((-30..30i64).prop_map(|n| n.to_string().into_bytes()), 0..len_max);
    prop_oneof![prop::collection::btree_set(member(), 0..len_max), integers]
}

proptest! {
    #[test]
    fn behaves_like_a_set(ops in prop::collection::vec((0..6u8, member()), 1..120), is_small: bool) {
        let config = if is_small { small() } else { Config::default() };
        with_env(&config, |env| {
            let (mut set, mut model) = (Set::empty(), Model::new());
            for (op, text) in ops {
                let member = Element::Text(&text);
                match op {
                    0..3 => prop_assert_eq!(set.add(member, env), model.insert(text.clone())),
                    3 => prop_assert_eq!(set.remove(member), model.remove(&text)),
                    4 => prop_assert_eq!(set.remove(Element::of(&text)), model.remove(&text)),
                    _ => {
                        let mut popped = Vec::new();
                        set.pop(text.len(), env.rng, |member| popped.push(member.to_vec()));
                        prop_assert_eq!(popped.len(), text.len().min(model.len()));
                        popped.iter().for_each(|member| assert!(model.remove(member), "a member was popped"));
                    }
                }
                prop_assert_eq!(set.contains(member), model.contains(&text));
                prop_assert_eq!(set.contains(Element::of(&text)), model.contains(&text));
                prop_assert_eq!(contents(&set), model.clone());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!(set.random(env.rng).is_none_or(|member| model.contains(&member.to_vec())));
            }
            Ok(())
        })?;
    }

    #[test]
    fn algebra_is_that_of_sets(models in prop::collection::vec(model(60), 1..5), is_small: bool, limit in 1..9usize) {
        let config = if is_small { small() } else { Config::default() };
        with_env(&config, |env| {
            let sets: Vec<Set> = models.iter().map(|model| set_of(model, env)).collect();
            let all = || sets.iter().collect::<Vec<_>>();
            let common = models[1..].iter().fold(models[0].clone(), |common, model| &common & model);
            prop_assert_eq!(&contents(&algebra::intersection(&mut all(), env)), &common);
            let united = models[1..].iter().fold(models[0].clone(), |united, model| &united | model);
            prop_assert_eq!(contents(&algebra::union(&all(), env)), united);
            let left = models[1..].iter().fold(models[0].clone(), |left, model| &left - model);
            prop_assert_eq!(contents(&algebra::difference(&sets[0], &mut all()[1..], env)), left);
            let mut found = 0;
            algebra::intersect(&mut all(), |_| {
                found += 1;
                if found == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            prop_assert_eq!(found, common.len().min(limit));
            prop_assert_eq!(contents(&algebra::difference(&sets[0], &mut [&sets[0]], env)), Model::new());
            Ok(())
        })?;
    }

    #[test]
    fn draws_are_members(model in model(40), count in 0..50usize, is_small: bool) {
        let config = if is_small { small() } else { Config::default() };
        with_env(&config, |env| {
            let set = set_of(&model, env);
            let mut drawn = Vec::new();
            set.draw_distinct(count.min(set.len()), env.rng, |member| drawn.push(member.to_vec()));
            let distinct: Model = drawn.iter().cloned().collect();
            prop_assert_eq!((drawn.len(), distinct.len()), (count.min(model.len()), count.min(model.len())));
            prop_assert!(distinct.is_subset(&model));
            let mut drawn = 0;
            set.draw(if set.is_empty() { 0 } else { count as u64 }, env.rng, |member| {
                assert!(model.contains(&member.to_vec()));
                drawn += 1;
                ControlFlow::Continue(())
            });
            prop_assert!(set.is_empty() || drawn == count);
            Ok(())
        })?;
    }

    #[test]
    fn restores_what_was_dumped(model in model(60), is_small: bool) {
        prop_assume!(!model.is_empty());
        let config = if is_small { small() } else { Config::default() };
        with_env(&config, |env| {
            let set = set_of(&model, env);
            let kind = set.kind();
            let payload = dump(Entry::new(b"key", Value::Collection(set.into()), None, 0).as_ref());
            let Ok(Restored::Collection(Collection::Set(again))) = restore(&payload, env) else {
                panic!("our own payload")
            };
            prop_assert_eq!(contents(&again), model);
            // A table is written member by member: one that was small once more begins small.
            prop_assert!(again.kind() == kind || kind == Kind::SetHashtable);
            Ok(())
        })?;
    }

    #[test]
    fn any_body_is_safe(of in prop_oneof![Just(2u8), Just(11), Just(20)], body: Vec<u8>) {
        with_env(&small(), |env| {
            for body in [body.clone(), [&[body.len() as u8][..], &body].concat()] {
                if let Some(mut set) = Set::load(of, &mut Reader::new(&body), env) {
                    contents(&set);
                    set.add(Element::Text(b"new"), env);
                    assert!(set.contains(Element::Text(b"new")));
                }
            }
        });
    }
}

#[test]
fn malformed_blocks_are_refused() {
    let listpack = |texts: &[&str]| texts.iter().collect::<Listpack>().bytes().to_vec();
    let string = |block: &[u8]| [&[block.len() as u8][..], block].concat();
    let with =
        |of, body: &[u8]| with_env(&small(), |env| Set::load(of, &mut Reader::new(body), env).map(|set| set.kind()));
    assert_eq!(with(rdb_type::SET_LISTPACK, &string(&listpack(&["a", "1"]))), Some(Kind::SetListpack));
    let many = &["a", "b", "c", "d", "e"];
    assert_eq!(with(rdb_type::SET_LISTPACK, &string(&listpack(many))), Some(Kind::SetHashtable));
    assert_eq!(with(rdb_type::SET_LISTPACK, &string(&listpack(&["a", "1", "a"]))), None, "twice the same");
    assert_eq!(with(rdb_type::SET_LISTPACK, &string(&listpack(&["a", "b", "c", "d", "a"]))), None, "in a table, too");
    let as_text = b"\x0b\x00\x00\x00\x01\x00\x82\x31\x32\x03\xff".to_vec();
    let as_text = [&[as_text.len() as u8][..], &as_text].concat();
    let odd = with_env(&small(), |env| Set::load(rdb_type::SET_LISTPACK, &mut Reader::new(&as_text), env));
    assert!(odd.expect("a text that could be an integer").contains(Element::Int(12)));
    assert_eq!(with(rdb_type::SET, b"\x02\x01a\x01a"), None, "twice the same");
    assert_eq!(with(rdb_type::SET, b"\x02\x01a"), None, "one is missing");
    let seven: Intset = (0..7).collect();
    let mut block = Vec::new();
    seven.write_block(&mut block);
    assert_eq!(with(rdb_type::SET_INTSET, &string(&block)), Some(Kind::SetHashtable));
}

/// Encodings as valkey-server 8.0.1 answers, with limits of 6 integers, 4 members, 8 bytes.
#[test]
fn encodings_change_where_they_do_in_redis() {
    use Kind::{SetHashtable as Table, SetIntset as Ints, SetListpack as Pack};
    let cases: &[(&[&str], Kind)] = &[
        (&["1 2 3 4 5 6"], Ints),
        (&["1 2 3 4 5 6 7"], Table),
        (&["1 2 3", "4 5 6 7 8"], Table),
        (&["1 2 3", "1 1 1 1 1 1 1"], Table),
        (&["a", "a a a a a"], Table),
        (&["a b", "1 2"], Pack),
        (&["1 2 3", "a"], Pack),
        (&["1 2 3 4", "a"], Table),
        (&["1 2 3 4 5", "a"], Table),
        (&["1 2 123456789", "a"], Table),
        (&["12345678 a"], Pack),
        (&["123456789"], Ints),
        (&["abcdefghi"], Table),
        (&["1 2 3 4 a"], Table),
        (&["a 1 2 3 4"], Table),
    ];
    for (commands, kind) in cases {
        with_env(&small(), |env| {
            let mut set = Set::empty();
            for command in *commands {
                let members: Vec<&str> = command.split(' ').collect();
                set.expect(members[0].as_bytes(), members.len(), env);
                for member in members {
                    set.add(Element::Text(member.as_bytes()), env);
                }
            }
            assert_eq!(set.kind(), *kind, "{commands:?}");
        });
    }
}

#[test]
fn results_begin_small() {
    with_env(&small(), |env| {
        let set = |text: &str| set_of(text.split(' '), env);
        let (letters, others) = (set("a b c d e"), set("a b x y z"));
        let (integers, mixed) = (set("1 2 3 4 5 6 7"), set("1 2 3 a b c d"));
        let kind = |sets: &mut [&Set]| algebra::intersection(sets, env).kind();
        assert_eq!(kind(&mut [&letters, &others]), Kind::SetListpack);
        assert_eq!(kind(&mut [&integers, &mixed]), Kind::SetIntset);
        assert_eq!(kind(&mut [&letters, &letters]), Kind::SetHashtable);
        assert_eq!(algebra::difference(&letters, &mut [&others], env).kind(), Kind::SetListpack);
        assert_eq!(algebra::difference(&integers, &mut [&mixed], env).kind(), Kind::SetIntset);
        // By removal from a copy, which keeps the encoding that it needed.
        let (one, two) = (set("a"), set("b"));
        assert_eq!(algebra::difference(&letters, &mut [&one, &two], env).kind(), Kind::SetListpack);
        assert_eq!(algebra::difference(&letters, &mut [&one, &one], env).kind(), Kind::SetListpack);
        let wide = set("a b c d e f g h i");
        let (most, few) = (set("a b"), set("c d e"));
        assert_eq!(algebra::difference(&wide, &mut [&most, &few, &one, &two], env).kind(), Kind::SetHashtable);
    });
}

/// Every member with the same chance, whatever the encoding and the way of drawing: chi-square beyond its 99.99 %
/// quantile would be a bias.
#[test]
fn draws_are_fair() {
    type Way<'a> = &'a mut dyn FnMut(&mut Env<'_>, &mut dyn FnMut(Element<'_>));
    const MEMBERS: usize = 50;
    const DRAWS: usize = 20_000;
    /// Of chi-square with 49 degrees of freedom.
    const QUANTILE: f64 = 98.7;
    let names: [fn(usize) -> String; 3] = [
        |n| n.to_string(),
        |n| format!("m{n}"),
        // Too long for a listpack.
        |n| format!("{n:070}"),
    ];
    for (name, kind) in names.into_iter().zip([Kind::SetIntset, Kind::SetListpack, Kind::SetHashtable]) {
        with_env(&Config::default(), |env| {
            let set = set_of((0..MEMBERS).map(name), env);
            assert_eq!(set.kind(), kind);
            let ways: [Way<'_>; 5] = [
                &mut |env, found| found(set.random(env.rng).unwrap()),
                &mut |env, found| {
                    set.draw(10, env.rng, |member| {
                        found(member);
                        ControlFlow::Continue(())
                    })
                },
                &mut |env, found| set.draw_distinct(10, env.rng, found),
                &mut |env, found| set.draw_distinct(30, env.rng, found),
                &mut |env, found| set.clone().pop(3, env.rng, found),
            ];
            for (index, way) in ways.into_iter().enumerate() {
                let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
                let mut drawn = 0;
                while drawn < DRAWS {
                    way(env, &mut |member| {
                        *counts.entry(member.to_vec()).or_default() += 1;
                        drawn += 1;
                    });
                }
                let expected = drawn as f64 / MEMBERS as f64;
                let square = |&count: &usize| (count as f64 - expected).powi(2) / expected;
                assert_eq!(counts.len(), MEMBERS);
                let chi_square: f64 = counts.values().map(square).sum();
                assert!(chi_square < QUANTILE, "{kind:?}, way {index}: {chi_square}");
            }
        });
    }
}

#[test]
fn a_large_set_is_frugal_and_ends_in_slices() {
    const MEMBERS: usize = 100_000;
    with_env(&Config::default(), |env| {
        let mut set = Set::new_table(env);
        let mut rng = Rng::new(3);
        for _ in 0..MEMBERS {
            let member = [rng.next_u64().to_le_bytes(), rng.next_u64().to_le_bytes()].concat();
            assert!(set.add(Element::Text(&member), env));
        }
        let each = set.usable_bytes(0) as f64 / MEMBERS as f64;
        assert!(each <= 43.0, "{each} bytes a member of 16 bytes");
        let sampled = set.usable_bytes(10) as f64 / MEMBERS as f64;
        assert!((each - sampled).abs() < 1.0, "a sample says {sampled}");
        assert_eq!(set.free_effort(), MEMBERS);
        let mut slices = 1;
        while !set.free_slice(1000) {
            slices += 1;
        }
        assert!(slices >= MEMBERS / 1000 && set.is_empty());
    });
}

#[test]
fn a_scan_finds_all() {
    with_env(&Config::default(), |env| {
        let set = set_of((0..2000).map(|n| n.to_string()), env);
        assert_eq!(set.kind(), Kind::SetHashtable);
        let (mut found, mut cursor, mut calls) = (Model::new(), 0, 0);
        loop {
            cursor = set.scan(cursor, 10, |member| {
                found.insert(member.to_vec());
            });
            calls += 1;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!((found.len(), calls > 50), (2000, true));
    });
}
