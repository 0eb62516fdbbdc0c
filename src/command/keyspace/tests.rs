//! One-line stories, and walks over several shards while keys come and go.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{FLUSHED_AT_ONCE_MAX, ROWS, cursor_shard, parse_cursor};
use crate::command::testing::{Families, TestShard, check_effects, stories};
use crate::command::{generic, string};
use crate::keyspace::slots::SlotMap;
use crate::resp::skip;

const FAMILIES: Families = &[ROWS, generic::ROWS, string::ROWS];

stories!(FAMILIES: check);

#[test]
fn dbsize_counts_what_is_in_memory() {
    check("DBSIZE | SET a 1 | SET b 2 | DBSIZE | PEXPIRE a 5 | +6ms | DBSIZE", ":0 | OK | OK | :2 | :1 | :2");
}

#[test]
fn keys_lists_what_matches_and_lives() {
    check("KEYS *", "[]");
    check("SET abc 1 | SET b 2 | KEYS a* | KEYS [b-z] | KEYS x", "OK | OK | [abc] | [b] | []");
    check("SET a 1 | PEXPIRE a 5 | +6ms | KEYS * | DBSIZE", "OK | :1 | [] | :1");
}

#[test]
fn randomkey_never_draws_an_expired_key() {
    check("RANDOMKEY | SET a 1 | RANDOMKEY", "nil | OK | a");
    check("SET a 1 | SET b 1 | SET c 1 | PEXPIRE a 5 | PEXPIRE c 5 | +6ms | RANDOMKEY", "OK | OK | OK | :1 | :1 | b");
    check("SET a 1 | PEXPIRE a 5 | +6ms | RANDOMKEY | DBSIZE", "OK | :1 | nil | :0");
}

#[test]
fn flushing_empties_one_database_or_all() {
    for how in ["", " SYNC", " async"] {
        let mut shard = TestShard::new(FAMILIES);
        shard.run("SET a 1 | SET b 1");
        shard.ctx.db = 1;
        assert_eq!(shard.run(&format!("SET c 1 | FLUSHDB{how} | DBSIZE")), "OK | OK | :0");
        shard.ctx.db = 0;
        assert_eq!(shard.run(&format!("DBSIZE | FLUSHALL{how} | DBSIZE | SET a 2 | GET a")), ":2 | OK | :0 | OK | 2");
        while shard.ctx.lazyfree.slice(1) {}
        assert_eq!(shard.ctx.lazyfree.freed, if how == " SYNC" { 0 } else { 3 }, "FLUSHALL{how}");
    }
    check("FLUSHALL FOO | FLUSHDB SYNC ASYNC", "ERR syntax error | ERR syntax error");
    check_effects(FAMILIES, "SET a 1 | FLUSHALL ASYNC", "FLUSHALL ASYNC");
}

#[test]
fn lazyfree_lazy_user_flush_makes_flushing_asynchronous() {
    let mut shard = TestShard::new(FAMILIES);
    let mut pending = |lazily, keys: usize| {
        std::sync::Arc::make_mut(&mut shard.ctx.config).lazyfree_lazy_user_flush = lazily;
        (0..keys).for_each(|n| drop(shard.run(&format!("SET {n} 1"))));
        shard.run("FLUSHALL");
        let pending = shard.ctx.lazyfree.pending();
        while shard.ctx.lazyfree.slice(FLUSHED_AT_ONCE_MAX) {}
        pending
    };
    assert_eq!([pending(true, 1), pending(false, FLUSHED_AT_ONCE_MAX + 100)], [0, 0]);
    // A slice ends between two buckets.
    assert!((1..=100).contains(&pending(true, FLUSHED_AT_ONCE_MAX + 100)));
}

#[test]
fn changes_are_counted_as_redis_counts_them() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET a 1 | SET b 1 | SET c 1 | PEXPIRE c 5 | +6ms | EXISTS c");
    assert_eq!(shard.ctx.journal.dirty, 4, "three sets and an expiry");
    shard.run("FLUSHALL | FLUSHALL");
    assert_eq!(shard.ctx.journal.dirty, 6, "two keys flushed");
}

#[test]
fn swapdb_exchanges() {
    check("SET a 1 | SWAPDB 0 9 | DBSIZE | SWAPDB 9 0 | GET a | SWAPDB 0 0 | GET a", "OK | OK | :0 | OK | 1 | OK | 1");
    check("SWAPDB x 0", "ERR invalid first DB index");
    check("SWAPDB 0 2147483648", "ERR invalid second DB index");
    check("SWAPDB 0 16 | SWAPDB -1 0", "ERR DB index is out of range | ERR DB index is out of range");
    check_effects(FAMILIES, "SWAPDB 0 1", "SWAPDB 0 1");
}

#[test]
fn scan_filters() {
    check("SCAN 0", "[0 []]");
    check("SET ab 1 | SCAN 0 MATCH a* TYPE string | SCAN 0 MATCH b*", "OK | [0 [ab]] | [0 []]");
    check("SET a 1 | SCAN 0 TYPE STRING | SCAN 0 type zset", "OK | [0 [a]] | [0 []]");
    let expiring = "SET a 1 PX 5 | SET b 2 | +6ms | ";
    check(&format!("{expiring}SCAN 0 | DBSIZE"), "OK | OK | [0 [b]] | :1");
    check(&format!("{expiring}SCAN 0 MATCH b TYPE string | DBSIZE"), "OK | OK | [0 [b]] | :2");
    check(&format!("{expiring}SCAN 0 TYPE set | DBSIZE"), "OK | OK | [0 []] | :2");
    check_effects(FAMILIES, &format!("{expiring}SCAN 0"), "DEL a");
}

#[test]
fn scan_refuses() {
    for (arguments, error) in [
        ("x COUNT x", "ERR invalid cursor"),
        ("0 COUNT 0", "ERR syntax error"),
        ("0 COUNT -5", "ERR syntax error"),
        ("0 COUNT x", "ERR value is not an integer or out of range"),
        ("0 COUNT", "ERR syntax error"),
        ("0 FOO bar", "ERR syntax error"),
        ("0 COUNT 1 novalues", "ERR NOVALUES option can only be used in HSCAN"),
        ("0 TYPE foo", "ERR unknown type name 'foo'"),
    ] {
        check(&format!("SCAN {arguments}"), error);
    }
}

#[test]
fn cursors_are_read_as_redis_reads_them() {
    for (text, cursor) in [
        ("0", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        (" \t+05", Some(5)),
        ("-5", None),
        ("-05", Some(5u64.wrapping_neg())),
        ("", None),
        ("-", None),
        ("5 ", None),
        ("0x5", None),
    ] {
        assert_eq!(parse_cursor(text.as_bytes()), cursor, "{text:?}");
    }
    assert_eq!(cursor_shard(b"4398046511104"), Some(1));
    assert_eq!(cursor_shard(b"x"), None);
}

/// Shards as the core drives them: a cursor says which one answers.
struct Shards(Vec<TestShard>);

impl Shards {
    fn new(count: usize) -> Shards {
        let shard = |at| {
            let mut shard = TestShard::new(FAMILIES);
            (shard.ctx.shard, shard.ctx.slots) = (at, SlotMap::contiguous(count));
            shard
        };
        Shards((0..count).map(shard).collect())
    }

    fn run(&mut self, name: &str, key: u32) {
        let shard = key as usize % self.0.len();
        let key = key.to_string();
        let words = [name.as_bytes(), key.as_bytes(), b"v"];
        self.0[shard].command(&words[..if name == "SET" { 3 } else { 2 }]);
    }

    /// One call: the keys found, and the next cursor.
    fn scan(&mut self, cursor: &str, count: usize) -> (String, Vec<u32>) {
        let shard = cursor_shard(cursor.as_bytes()).filter(|&shard| shard < self.0.len()).unwrap_or(0);
        let reply = self.0[shard].command(&["SCAN", cursor, "COUNT", &count.to_string()]);
        let parts: Vec<&[u8]> = skip::elements(&reply).expect("an array").collect();
        let bulk = |encoded: &[u8]| {
            let text = std::str::from_utf8(encoded).expect("digits").split("\r\n").nth(1).expect("a bulk string");
            text.to_owned()
        };
        let keys = skip::elements(parts[1]).expect("an array");
        (bulk(parts[0]), keys.map(|key| bulk(key).parse().expect("a number")).collect())
    }
}

#[test]
fn a_cursor_of_no_shard_is_at_its_end() {
    let mut shards = Shards::new(2);
    shards.run("SET", 0);
    assert_eq!(shards.scan(&(5u64 << 42).to_string(), 10), ("0".to_owned(), vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes meanwhile: a key that was there from the first call to the last is found.
    #[test]
    fn scan_finds_all_that_stays(
        count in 1usize..6,
        kept in proptest::collection::btree_set(0u32..3000, 0..400),
        changes in proptest::collection::vec((any::<bool>(), 0u32..3000), 0..3000),
        page in 1usize..40,
        changes_a_call in 0usize..200,
    ) {
        let mut shards = Shards::new(count);
        kept.iter().for_each(|&key| shards.run("SET", key));
        let mut changes = changes.into_iter().filter(|(_, key)| !kept.contains(key));
        let mut found = BTreeSet::new();
        let (mut cursor, mut calls) = ("0".to_owned(), 0);
        loop {
            let (next, keys) = shards.scan(&cursor, page);
            found.extend(keys);
            calls += 1;
            prop_assert!(calls < 10_000, "the walk ends");
            if next == "0" {
                break;
            }
            cursor = next;
            for (set, key) in changes.by_ref().take(changes_a_call) {
                shards.run(if set { "SET" } else { "DEL" }, key);
            }
        }
        prop_assert!(kept.is_subset(&found), "missed {:?}", kept.difference(&found).collect::<Vec<_>>());
    }
}
