//! One-line stories of each command.

use super::*;
use crate::command::testing::{Families, TestShard, stories};
use crate::command::{bits, generic, string};

const FAMILIES: Families = &[ROWS, string::ROWS, generic::ROWS, bits::ROWS];

stories!(FAMILIES: check, effects);

#[test]
fn elements_are_counted_once() {
    check("PFADD k a b c | PFADD k a b c | PFCOUNT k | PFADD k d a | PFCOUNT k", ":1 | :0 | :3 | :1 | :4");
    check("PFADD k | PFADD k | PFCOUNT k | PFCOUNT none | TYPE k | STRLEN k", ":1 | :0 | :0 | :0 | string | :18");
    check("PFADD k a | PFADD l b a | PFCOUNT k l none", ":1 | :1 | :2");
}

#[test]
fn a_dense_value_counts_on() {
    check(
        "PFADD k a b | PFDEBUG TODENSE k | PFDEBUG TODENSE k | PFDEBUG ENCODING k | PFADD k a b | PFADD k b c | PFCOUNT k",
        ":1 | :1 | :0 | dense | :0 | :1 | :3",
    );
    check(
        "PFADD k a | EXPIRE k 10 | PFADD k b | TTL k | PFDEBUG TODENSE k | PFADD k c | TTL k",
        ":1 | :1 | :1 | :10 | :1 | :1 | :10",
    );
}

#[test]
fn many_elements_make_a_value_dense() {
    let mut shard = TestShard::new(FAMILIES);
    for n in 0..5000 {
        shard.run(&format!("PFADD k {n}"));
    }
    assert_eq!(shard.run("PFDEBUG ENCODING k | STRLEN k"), "dense | :12304");
    let count: f64 = shard.run("PFCOUNT k").trim_start_matches(':').parse().unwrap();
    assert!((count - 5000.0).abs() < 150.0);
}

#[test]
fn the_estimate_is_kept_in_the_value() {
    let header = r#"GETRANGE k 8 15"#;
    check(
        &format!("PFADD k a | {header} | PFCOUNT k | {header}"),
        r#":1 | "\x00\x00\x00\x00\x00\x00\x00\x80" | :1 | "\x01\x00\x00\x00\x00\x00\x00\x00""#,
    );
    check(
        r#"PFADD k a | SETRANGE k 8 "\x07\x01\x00\x00\x00\x00\x00\x00" | PFCOUNT k | PFADD k b | PFCOUNT k"#,
        ":1 | :21 | :263 | :1 | :2",
    );
}

#[test]
fn values_are_united() {
    check("PFADD a x y | PFADD b y z | PFMERGE c a b none | PFCOUNT c | PFCOUNT a", ":1 | :1 | OK | :3 | :2");
    check("PFADD a x y | PFADD b y z | PFMERGE a b | PFCOUNT a | PFDEBUG ENCODING a", ":1 | :1 | OK | :3 | sparse");
    check(
        "PFADD a x | PFADD b y | PFDEBUG TODENSE b | PFMERGE a b | PFDEBUG ENCODING a | PFCOUNT a",
        ":1 | :1 | :1 | OK | dense | :2",
    );
    check(
        "PFMERGE c | PFCOUNT c | PFADD c x | EXPIRE c 10 | PFMERGE c | TTL c | PFCOUNT c",
        "OK | :0 | :1 | :1 | OK | :10 | :1",
    );
}

#[test]
fn what_a_value_is_made_of() {
    check("PFADD k foo | PFDEBUG DECODE k", ":1 | \"Z:7348 v:5,1 Z:9035\"");
    check("PFADD k | PFDEBUG DECODE k | PFDEBUG encoding k", ":1 | \"Z:16384\" | sparse");
    check("PFADD k | PFDEBUG TODENSE k | PFDEBUG DECODE k", ":1 | :1 | ERR HLL encoding is not sparse");
    check(
        "PFDEBUG FOO k | PFADD k | PFDEBUG FOO k",
        "ERR The specified key does not exist | :1 | ERR Unknown PFDEBUG subcommand 'FOO'",
    );
    check("PFDEBUG SIMD off | PFDEBUG simd ON | PFDEBUG SIMD k", "disabled | enabled | ERR Argument must be ON or OFF");
    check("PFADD k | PFDEBUG ENCODING k | PFSELFTEST", ":1 | sparse | OK");
    let mut shard = TestShard::new(FAMILIES);
    let registers = shard.run("PFADD k foo | PFDEBUG GETREG k").split_once('[').unwrap().1.replace(']', "");
    let set: Vec<usize> =
        registers.split(' ').enumerate().filter(|(_, value)| *value != ":0").map(|(at, _)| at).collect();
    assert_eq!(set, [7348]);
    assert_eq!(shard.run("PFDEBUG ENCODING k"), "dense");
}

#[test]
fn strings_that_are_none() {
    const NOT: &str = "WRONGTYPE Key is not a valid HyperLogLog string value.";
    for value in [
        "x",
        "12",
        "HYLL",
        r#""HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00""#,
        r#""HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00""#,
    ] {
        check(
            &format!("SET k {value} | PFADD k a | PFCOUNT k | PFCOUNT k l | PFMERGE l k | PFDEBUG GETREG k"),
            &format!("OK{}", format!(" | {NOT}").repeat(5)),
        );
    }
}

#[test]
fn values_that_were_tampered_with() {
    const CORRUPT: &str = "INVALIDOBJ Corrupted HLL object detected";
    check(
        "PFADD k a b c | APPEND k hello | PFCOUNT k | PFCOUNT k l | PFMERGE l k",
        &format!(":1 | :32 | {CORRUPT} | {CORRUPT} | {CORRUPT}"),
    );
    check(
        "PFADD k a b c | SETRANGE k 16 \"\\x00\\x00\" | PFDEBUG GETREG k | PFDEBUG ENCODING k",
        &format!(":1 | :27 | {CORRUPT} | sparse"),
    );
}

#[test]
fn what_is_recorded() {
    effects("PFADD k a", "PFADD k a");
    effects("PFADD k a | PFADD k a", "");
    effects("PFADD k a | PFCOUNT k", "PFCOUNT k");
    effects("PFADD k a | PFCOUNT k | PFCOUNT k", "");
    effects("PFADD k a | PFCOUNT k l", "");
    effects("PFADD k | PFDEBUG GETREG k", "PFDEBUG GETREG k");
    let mut shard = TestShard::new(FAMILIES);
    shard.run("PFADD a x | PFADD b y");
    shard.ctx.journal.record();
    shard.run("PFMERGE b a");
    let recorded = shard.ctx.journal.take();
    assert_eq!(recorded[0].words[..2], [b"SET".to_vec(), b"b".to_vec()]);
    let mut replica = TestShard::new(FAMILIES);
    replica.replay(
        &recorded[..1]
            .iter()
            .map(|effect| crate::command::effect::Effect { db: 0, words: effect.words[..3].to_vec() })
            .collect::<Vec<_>>(),
    );
    assert_eq!(replica.run("PFCOUNT b"), ":2");
}
