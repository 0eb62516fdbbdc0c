//! One-line stories, and a model that random operations are compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command::generic;
use crate::command::testing::{Families, START_MS, TestShard, shown_bulk, stories};
use crate::data::entry::SHARED_LEN_MIN;

const FAMILIES: Families = &[ROWS, generic::ROWS];

stories!(FAMILIES: check, effects);

#[test]
fn set_and_get() {
    check("GET k | SET k v | GET k | SET k 12 | GET k", "nil | OK | v | OK | 12");
    check("SET k v PX 10 | +10ms | GET k | +1ms | GET k", "OK | v | nil");
    check("SET k v EX 10 | SET k w | TTL k", "OK | OK | :-1");
    check("SET k v EX 10 | SET k w KEEPTTL | TTL k", "OK | OK | :10");
    check("SET k v PX 10 | +11ms | SET k w KEEPTTL | TTL k", "OK | OK | :-1");
    check("SET k v EXAT 1010 | PTTL k | SET k v PXAT 1000020 | PTTL k", "OK | :10000 | OK | :20");
}

#[test]
fn set_with_a_time_in_the_past_deletes() {
    check("SET k v PXAT 1000000 | SET k v | SET k w EXAT 1 GET | EXISTS k", "OK | OK | v | :0");
    check("SET k v PXAT 1 XX | SET k v | SET k w PXAT 1 NX | GET k", "nil | OK | nil | v");
}

#[test]
fn set_under_conditions() {
    check("SET k v XX | SET k v NX | SET k w NX | SET k x XX | GET k", "nil | OK | nil | OK | x");
    check("SET k v PX 10 | +11ms | SET k w XX | SET k w NX", "OK | nil | OK");
    check("SET k 5 IFEQ 5 | SET k 5 | SET k 6 IFEQ 5 | SET k 7 IFEQ 5 | GET k", "nil | OK | OK | nil | 6");
    check("SET k v GET | SET k w GET | SET k x NX GET | GET k", "nil | v | w | w");
    check("SET k v XX GET | SET k v IFEQ v GET | GET k", "nil | nil | nil");
    check("SET k v | SET k w IFEQ v GET | SET k x IFEQ v GET | GET k", "OK | v | w | w");
}

#[test]
fn set_refuses_options_that_contradict() {
    for options in [
        "NX XX",
        "XX NX",
        "IFEQ v NX",
        "NX IFEQ v",
        "IFEQ v IFEQ v",
        "IFEQ",
        "EX",
        "EX 1 PX 1",
        "EX 1 KEEPTTL",
        "KEEPTTL PXAT 1",
        "PERSIST",
        "FOO",
        "GET FOO",
        "\"\"",
    ] {
        check(&format!("SET k v {options} | GET k"), "ERR syntax error | nil");
    }
    check("SET k v NX nx EX 1 EX 2 GET GET KEEPTTL", "ERR syntax error");
    check("SET k v NX nx EX 1 ex 2 GET GET | TTL k", "nil | :2");
}

#[test]
fn times_that_are_none() {
    for (time, error) in [
        ("x", "ERR value is not an integer or out of range"),
        ("1.5", "ERR value is not an integer or out of range"),
        ("0", "ERR invalid expire time in 'set' command"),
        ("-1", "ERR invalid expire time in 'set' command"),
        ("9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("9223372036854775", "ERR invalid expire time in 'set' command"),
    ] {
        check(&format!("SET k v EX {time} | GET k"), &format!("{error} | nil"));
    }
    check("SETEX k 0 v", "ERR invalid expire time in 'setex' command");
    check("PSETEX k 9223372036854775807 v", "ERR invalid expire time in 'psetex' command");
    check("GETEX k EX 0 | SET k v | GETEX k EX 0", "nil | OK | ERR invalid expire time in 'getex' command");
}

#[test]
fn older_forms_of_set() {
    check("SETNX k v | SETNX k w | GET k", ":1 | :0 | v");
    check("SETEX k 10 v | TTL k | PSETEX k 20 w | PTTL k | GET k", "OK | :10 | OK | :20 | w");
    check("GETSET k v | EXPIRE k 10 | GETSET k w | TTL k", "nil | :1 | v | :-1");
}

#[test]
fn getex_changes_the_expiry() {
    check("SET k v | GETEX k | TTL k | GETEX k EX 10 | TTL k", "OK | v | :-1 | v | :10");
    check("SET k v EX 10 | GETEX k PERSIST | TTL k", "OK | v | :-1");
    check("SET k v | GETEX k PXAT 1 | EXISTS k", "OK | v | :0");
    check(
        "SET k v | GETEX k KEEPTTL | GETEX k NX | GETEX k EX | GETEX k PERSIST EX 1",
        "OK | ERR syntax error | ERR syntax error | ERR syntax error | ERR syntax error",
    );
}

#[test]
fn getdel_deletes() {
    check("GETDEL k | SET k v | GETDEL k | EXISTS k", "nil | OK | v | :0");
}

#[test]
fn several_keys() {
    check("MSET a 1 b x | MGET a b c", "OK | [1 x nil]");
    check("MSET a 1 b", "ERR wrong number of arguments for 'mset' command");
    check("MSETNX a 1 b | MGET a b", "ERR wrong number of arguments for 'msetnx' command | [nil nil]");
    check("MSETNX a 1 a 2 b 3 | MSETNX c 1 b 4 | MGET a b c", ":1 | :0 | [2 3 nil]");
}

#[test]
fn counters() {
    check("INCR k | INCRBY k 10 | DECR k | DECRBY k -5 | GET k", ":1 | :11 | :10 | :15 | 15");
    check(
        "SET k 9223372036854775806 | INCR k | INCR k | GET k",
        "OK | :9223372036854775807 | ERR increment or decrement would overflow | 9223372036854775807",
    );
    check("DECRBY k -9223372036854775808", "ERR decrement would overflow");
    check(
        "SET k v | INCR k | SET k \" 1\" | INCR k | SET k \"\" | INCR k",
        "OK | ERR value is not an integer or out of range | OK | ERR value is not an integer or out of range | OK | ERR value is not an integer or out of range",
    );
    check("SET k 1 PX 10 | INCR k | PTTL k | +11ms | INCR k | PTTL k", "OK | :2 | :10 | :1 | :-1");
    check("APPEND k 1 | APPEND k 2 | INCR k | OBJECT ENCODING k", ":1 | :2 | :13 | int");
}

#[test]
fn floating_point_counters() {
    check("INCRBYFLOAT k 10.5 | INCRBYFLOAT k 0.1 | INCRBYFLOAT k -5.6e0", "10.5 | 10.6 | 5");
    check("SET k 3 EX 10 | INCRBYFLOAT k 1 | OBJECT ENCODING k | TTL k", "OK | 4 | embstr | :10");
    check(
        "INCRBYFLOAT k x | SET k y | INCRBYFLOAT k 1",
        "ERR value is not a valid float | OK | ERR value is not a valid float",
    );
    check("SET k 1e4932 | INCRBYFLOAT k 1e4932", "OK | ERR increment would produce NaN or Infinity");
}

#[test]
fn parts_of_strings() {
    check(
        "SET k hello | GETRANGE k 1 3 | GETRANGE k -3 -2 | GETRANGE k 0 -1 | SUBSTR k 3 99",
        "OK | ell | ll | hello | lo",
    );
    check(
        "SET k hello | GETRANGE k 3 1 | GETRANGE k -1 -3 | GETRANGE k 5 9 | GETRANGE x 0 -1",
        "OK | \"\" | \"\" | \"\" | \"\"",
    );
    check(
        "SET k hello | GETRANGE k -99 -98 | GETRANGE k -99 0 | GETRANGE k 0 9223372036854775807 | GETRANGE k -9223372036854775808 1",
        "OK | h | h | hello | he",
    );
    check("SET k 12345 | GETRANGE k 1 2 | STRLEN k | STRLEN x", "OK | 23 | :5 | :0");
    check("SETRANGE k 2 xy | GET k | SETRANGE k 1 abcdef | GET k", ":4 | \"\\x00\\x00xy\" | :7 | \"\\x00abcdef\"");
    check("SETRANGE k 5 \"\" | EXISTS k | SET k abc | SETRANGE k 5 \"\"", ":0 | :0 | OK | :3");
    check(
        "SETRANGE k -1 x | SETRANGE k x x",
        "ERR offset is out of range | ERR value is not an integer or out of range",
    );
    check("SET k 1234 EX 10 | SETRANGE k 1 x | GET k | TTL k", "OK | :4 | 1x34 | :10");
}

#[test]
fn appending() {
    check("APPEND k 12 | OBJECT ENCODING k | APPEND k a | OBJECT ENCODING k | GET k", ":2 | int | :3 | raw | 12a");
    check("SET k v PX 10 | APPEND k w | +11ms | APPEND k x | GET k", "OK | :2 | :1 | x");
}

#[test]
fn strings_stay_below_the_largest_bulk() {
    const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    check("SETRANGE k 536870912 x | EXISTS k", &format!("{TOO_LONG} | :0"));
    check("SET k v | SETRANGE k 9223372036854775807 x | GET k", &format!("OK | {TOO_LONG} | v"));
    let mut shard = TestShard::new(FAMILIES);
    let mut config = (*shard.ctx.config).clone();
    config.proto_max_bulk_len = 4;
    shard.ctx.config = config.into();
    assert_eq!(
        shard.run("SET k abc | APPEND k d | APPEND k e | APPEND k \"\" | GET k"),
        format!("OK | :4 | {TOO_LONG} | :4 | abcd")
    );
}

#[test]
fn large_values_are_taken_over() {
    let mut shard = TestShard::new(FAMILIES);
    let large = Bytes::from(vec![b'x'; SHARED_LEN_MIN]);
    let shared = [(2, large.clone())];
    shard.run_args(&Args::with_shared(&[b"SET", b"k", &large], &shared));
    match shard.ctx.peek(b"k").expect("k is set").text() {
        TextRef::Shared(held) => assert_eq!(held.as_ptr(), large.as_ptr()),
        other => panic!("copied: {other:?}"),
    }
    let length = SHARED_LEN_MIN as i64;
    assert_eq!(shard.run("APPEND k y | STRLEN k | GETRANGE k -2 -1"), format!(":{0} | :{0} | xy", length + 1));
    assert_eq!(large.len(), SHARED_LEN_MIN, "the buffer is the sender's too");
}

#[test]
fn an_empty_key_does_not_lend_its_hash_to_the_word_behind_it() {
    let mut shard = TestShard::new(FAMILIES);
    let bytes = b"k";
    let (empty, key) = bytes.split_at(0);
    let hash = shard.ctx.keyspace.hash(empty);
    shard.ctx.remember_hash(empty, hash);
    shard.command(&[b"MSET", empty, b"1", key, b"2"]);
    shard.ctx.forget_hash();
    assert_eq!(shard.run("MGET \"\" k"), "[1 2]");
}

#[test]
fn effects_need_no_clock() {
    effects("SET k v", "SET k v");
    effects("SET k v EX 10", "SET k v PXAT 1010000");
    effects("SET k v EXAT 2000 NX GET", "SET k v PXAT 2000000");
    effects("SET k v pxat 2000000", "SET k v pxat 2000000");
    effects("SET k v KEEPTTL", "SET k v KEEPTTL");
    effects("SET k v | SET k v EXAT 1", "DEL k");
    effects("SET k v EXAT 1", "");
    effects("SETEX k 10 v", "SET k v PXAT 1010000");
    effects("PSETEX k 10 v", "SET k v PXAT 1000010");
    effects("SETNX k v", "SET k v");
    effects("GETSET k v", "SET k v");
    effects("MSET a 1 b 2", "SET a 1 | SET b 2");
    effects("MSETNX a 1 b 2", "SET a 1 | SET b 2");
    effects("SET k v | GETDEL k", "DEL k");
    effects("SET k v | GETEX k EX 10", "PEXPIREAT k 1010000");
    effects("SET k v | GETEX k EXAT 999", "DEL k");
    effects("SET k v EX 9 | GETEX k PERSIST", "PERSIST k");
    effects("INCRBYFLOAT k 1.50", "SET k 1.5 KEEPTTL");
    effects("DECRBY k 3", "DECRBY k 3");
    effects("APPEND k v", "APPEND k v");
    effects("SETRANGE k 2 v", "SETRANGE k 2 v");
    effects("SET k v PX 10 | +11ms | INCR k", "DEL k | INCR k");
    effects("SET k v PX 10 | +11ms | SET k w KEEPTTL", "DEL k | SET k w KEEPTTL");
}

#[test]
fn what_changes_nothing_has_no_effect() {
    for script in [
        "GET k",
        "GETDEL k",
        "SET k v XX",
        "SET k v IFEQ v",
        "SET k v | SET k w NX",
        "SET k v | SETNX k w",
        "SET k v | MSETNX j v k w",
        "SETRANGE k 5 \"\"",
        "GETEX k EX 10",
        "SET k v | GETEX k",
        "SET k v | GETEX k PERSIST",
        "SET k v | INCR k",
        "MSET a 1 b",
        "SETEX k 0 v",
    ] {
        effects(script, "");
    }
}

#[test]
fn reads_count_as_hits_or_misses() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v | GET k | GET x | MGET k x y | STRLEN k | APPEND k w | SETNX k w | INCR x");
    assert_eq!((shard.ctx.stats.hits, shard.ctx.stats.misses), (3, 3));
}

/// Keys with text and expiry: what string commands do, said as simply as possible.
#[derive(Default)]
struct Model {
    keys: BTreeMap<u8, (String, Option<i64>)>,
    now_ms: i64,
}

#[derive(Clone, Debug)]
enum Op {
    Set(u8, String),
    SetPx(u8, String, i64),
    SetKeepTtl(u8, String),
    SetNx(u8, String),
    Append(u8, String),
    SetRange(u8, usize, String),
    IncrBy(u8, i64),
    GetEx(u8, i64),
    GetExPersist(u8),
    GetDel(u8),
    GetRange(u8, i64, i64),
    Pause(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..4_u8;
    let text = || prop_oneof!["[0-9]{1,3}", "[a-c]{0,60}"];
    prop_oneof![
        (key(), text()).prop_map(|(key, text)| Op::Set(key, text)),
        (key(), text(), 1..40_i64).prop_map(|(key, text, ttl_ms)| Op::SetPx(key, text, ttl_ms)),
        (key(), text()).prop_map(|(key, text)| Op::SetKeepTtl(key, text)),
        (key(), text()).prop_map(|(key, text)| Op::SetNx(key, text)),
        (key(), text()).prop_map(|(key, text)| Op::Append(key, text)),
        (key(), 0..80_usize, text()).prop_map(|(key, offset, text)| Op::SetRange(key, offset, text)),
        (key(), prop_oneof![-9..9_i64, Just(i64::MAX)]).prop_map(|(key, by)| Op::IncrBy(key, by)),
        (key(), 1..40_i64).prop_map(|(key, ttl_ms)| Op::GetEx(key, ttl_ms)),
        key().prop_map(Op::GetExPersist),
        key().prop_map(Op::GetDel),
        (key(), -9..9_i64, -9..9_i64).prop_map(|(key, start, end)| Op::GetRange(key, start, end)),
        (0..30_i64).prop_map(Op::Pause),
    ]
}

impl Model {
    /// The script of an operation, and its reply.
    fn apply(&mut self, op: &Op) -> (String, String) {
        match op {
            Op::Set(key, text) => {
                self.keys.insert(*key, (text.clone(), None));
                (format!("SET {key} \"{text}\""), "OK".into())
            }
            Op::SetPx(key, text, ttl_ms) => {
                self.keys.insert(*key, (text.clone(), Some(self.now_ms + ttl_ms)));
                (format!("SET {key} \"{text}\" PX {ttl_ms}"), "OK".into())
            }
            Op::SetKeepTtl(key, text) => {
                self.keys.entry(*key).or_default().0.clone_from(text);
                (format!("SET {key} \"{text}\" KEEPTTL"), "OK".into())
            }
            Op::SetNx(key, text) => {
                let absent = !self.keys.contains_key(key);
                self.keys.entry(*key).or_insert_with(|| (text.clone(), None));
                (format!("SETNX {key} \"{text}\""), format!(":{}", u8::from(absent)))
            }
            Op::Append(key, text) => {
                let held = &mut self.keys.entry(*key).or_default().0;
                held.push_str(text);
                (format!("APPEND {key} \"{text}\""), format!(":{}", held.len()))
            }
            Op::SetRange(key, offset, text) => {
                let mut held = self.text(*key).into_bytes();
                if !text.is_empty() {
                    held.resize(held.len().max(offset + text.len()), 0);
                    held[*offset..offset + text.len()].copy_from_slice(text.as_bytes());
                    self.keys.entry(*key).or_default().0 = String::from_utf8(held.clone()).unwrap();
                }
                (format!("SETRANGE {key} {offset} \"{text}\""), format!(":{}", held.len()))
            }
            Op::IncrBy(key, by) => {
                let held = self.keys.get(key).map_or("0", |(text, _)| text);
                let canonical = held.parse::<i64>().ok().filter(|n| n.to_string() == held);
                let reply = match canonical.map(|n| n.checked_add(*by)) {
                    None => "ERR value is not an integer or out of range".into(),
                    Some(None) => "ERR increment or decrement would overflow".into(),
                    Some(Some(sum)) => {
                        self.keys.entry(*key).or_default().0 = sum.to_string();
                        format!(":{sum}")
                    }
                };
                (format!("INCRBY {key} {by}"), reply)
            }
            Op::GetEx(key, ttl_ms) => {
                let now_ms = self.now_ms;
                self.keys.entry(*key).and_modify(|held| held.1 = Some(now_ms + ttl_ms));
                (format!("GETEX {key} PX {ttl_ms}"), self.reply(*key))
            }
            Op::GetExPersist(key) => {
                self.keys.entry(*key).and_modify(|held| held.1 = None);
                (format!("GETEX {key} PERSIST"), self.reply(*key))
            }
            Op::GetDel(key) => {
                let reply = self.reply(*key);
                self.keys.remove(key);
                (format!("GETDEL {key}"), reply)
            }
            Op::GetRange(key, start, end) => {
                let held = self.text(*key);
                let length = held.len() as i64;
                let resolved = |offset: i64| if offset < 0 { (offset + length).max(0) } else { offset };
                // Redis's exception: with both before the front, the wrong way round is nothing, the right way the
                // first byte.
                let nothing = *start < 0 && *end < 0 && start > end;
                let inside = |&at: &i64| !nothing && resolved(*start) <= at && at <= resolved(*end);
                let bytes: Vec<u8> = (0..length).filter(inside).map(|at| held.as_bytes()[at as usize]).collect();
                (format!("GETRANGE {key} {start} {end}"), shown_bulk(&bytes))
            }
            Op::Pause(ms) => {
                self.now_ms += ms;
                self.keys.retain(|_, (_, expire_at_ms)| expire_at_ms.is_none_or(|at_ms| at_ms >= self.now_ms));
                (format!("+{ms}ms"), String::new())
            }
        }
    }

    fn text(&self, key: u8) -> String {
        self.keys.get(&key).map_or_else(String::new, |(text, _)| text.clone())
    }

    fn reply(&self, key: u8) -> String {
        self.keys.get(&key).map_or_else(|| "nil".into(), |(text, _)| shown_bulk(text.as_bytes()))
    }

    fn state(&self) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> {
        let keys = self.keys.iter();
        keys.map(|(key, (text, at_ms))| (key.to_string().into(), (text.clone().into(), *at_ms))).collect()
    }
}

/// All keys that have not expired at `now_ms`, with text and expiry.
fn state(shard: &TestShard, now_ms: i64) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> {
    let live = shard.ctx.keyspace.db(0).iter().filter(|entry| entry.expire_at_ms().is_none_or(|at_ms| at_ms >= now_ms));
    live.map(|entry| {
        let text = entry.text().bytes(&mut itoa::Buffer::new()).to_vec();
        (entry.key().to_vec(), (text, entry.expire_at_ms()))
    })
    .collect()
}

proptest! {
    #[test]
    fn replies_and_replayed_effects_agree_with_a_model(ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model { now_ms: START_MS, ..Model::default() };
        let mut shard = TestShard::new(FAMILIES);
        shard.ctx.journal.record();
        for op in &ops {
            let (script, reply) = model.apply(op);
            prop_assert_eq!(shard.run(&script), reply, "{}", script);
        }
        prop_assert_eq!(state(&shard, model.now_ms), model.state());
        let mut replica = TestShard::new(FAMILIES);
        replica.replay(&shard.ctx.journal.take());
        prop_assert_eq!(state(&replica, model.now_ms), model.state());
    }
}
