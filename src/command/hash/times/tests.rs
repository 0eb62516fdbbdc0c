//! One-line stories of fields that expire, told for both forms of a hash.

use proptest::prelude::*;

use crate::command::testing::{Families, TestShard, check_effects, stories};
use crate::command::{generic, hash, string};

const FAMILIES: Families = &[hash::ROWS, super::ROWS, generic::ROWS, string::ROWS];
const PAD: &str = "HSET h pad 0000000000000000000000000000000000000000000000000000000000000000x | ";

stories!(FAMILIES: check);

/// The same on a listpack and on a table, both with another field beside.
#[track_caller]
fn check_both(script: &str, replies: &str) {
    check(&format!("HSET h pad 0 | {script}"), &format!(":1 | {replies}"));
    check(&format!("{PAD}{script}"), &format!(":1 | {replies}"));
}

#[track_caller]
fn effects(script: &str, recorded: &str) {
    check_effects(FAMILIES, &format!("HSET h pad 0 | {script}"), recorded);
    check_effects(FAMILIES, &format!("{PAD}{script}"), recorded);
}

#[test]
fn a_field_lives_through_the_millisecond_of_its_time() {
    check_both(
        "HSET h a 1 b 2 | HPEXPIRE h 10 FIELDS 2 a x | +10ms | HGET h a | +1ms | HGET h a | HLEN h | HMGET h a b",
        ":2 | [:1 :-2] | 1 | nil | :2 | [nil 2]",
    );
    check_both(
        "HSET h a 1 | HEXPIRE h 10 FIELDS 1 a | +10001ms | HEXISTS h a | HSTRLEN h a | HKEYS h | HSCAN h 0 NOVALUES",
        ":1 | [:1] | :0 | :0 | [pad] | [0 [pad]]",
    );
}

#[test]
fn times_are_told_in_four_ways() {
    check_both(
        "HSET h a 1 b 2 | HPEXPIRE h 1500 FIELDS 1 a | HTTL h FIELDS 3 a b c | HPTTL h FIELDS 1 a | \
         HEXPIRETIME h FIELDS 1 a | HPEXPIRETIME h FIELDS 2 a b",
        ":2 | [:1] | [:2 :-1 :-2] | [:1500] | [:1002] | [:1001500 :-1]",
    );
    check("HTTL none FIELDS 2 a b | HPERSIST none FIELDS 1 a | HEXPIRE none 1 FIELDS 1 a", "[:-2 :-2] | [:-2] | [:-2]");
    check_both(
        "HSET h a 1 | HEXPIREAT h 2000 FIELDS 1 a | HPTTL h FIELDS 1 a | HPEXPIREAT h 1000500 FIELDS 1 a | HPTTL h FIELDS 1 a",
        ":1 | [:1] | [:1000000] | [:1] | [:500]",
    );
}

#[test]
fn a_time_that_has_passed_removes() {
    check_both(
        "HSET h a 1 b 2 | HEXPIRE h 0 FIELDS 2 a a | HPEXPIREAT h 1000000 FIELDS 1 b | HLEN h",
        ":2 | [:2 :-2] | [:2] | :1",
    );
    check("HSET h a 1 | HEXPIREAT h 1 FIELDS 1 a | EXISTS h", ":1 | [:2] | :0");
    effects("HSET h a 1 b 2 | HEXPIRE h 0 FIELDS 3 a x b", "HDEL h a b");
}

#[test]
fn conditions() {
    check_both(
        "HSET h a 1 b 2 | HPEXPIRE h 100 FIELDS 1 a | HPEXPIRE h 50 NX FIELDS 2 a b | HPEXPIRE h 60 XX FIELDS 2 a x",
        ":2 | [:1] | [:0 :1] | [:1 :-2]",
    );
    check_both(
        "HSET h a 1 b 2 | HPEXPIRE h 100 FIELDS 1 a | HPEXPIRE h 100 GT FIELDS 2 a b | HPEXPIRE h 101 GT FIELDS 1 a | \
         HPEXPIRE h 101 LT FIELDS 2 a b | HPEXPIRE h 10 lt fields 1 a",
        ":2 | [:1] | [:0 :0] | [:1] | [:0 :1] | [:1]",
    );
}

#[test]
fn arguments_are_checked() {
    for (script, error) in [
        ("HEXPIRE h x FIELDS 1 a", "value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 a", "invalid expire time, must be >= 0"),
        ("HEXPIRE h 9223372036854775 FIELDS 1 a", "invalid expire time in 'hexpire' command"),
        ("HPEXPIREAT h 70368744177664 FIELDS 1 a", "invalid expire time in 'hpexpireat' command"),
        ("HEXPIRE h 1 FOO FIELDS 1 a", "Mandatory argument FIELDS is missing or not at the right position"),
        ("HEXPIRE h 1 FIELDS 0 a", "Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h 1 FIELDS 2 a", "The `numfields` parameter must match the number of arguments"),
        ("HEXPIRE h 1 NX FIELDS 1", "The `numfields` parameter must match the number of arguments"),
        ("HTTL h FOO 1 a", "Mandatory argument FIELDS is missing or not at the right position"),
        ("HTTL h FIELDS 0 a", "Number of fields must be a positive integer"),
        ("HTTL h FIELDS 1 a b", "The `numfields` parameter must match the number of arguments"),
        ("HPERSIST h FIELDS x a", "Number of fields must be a positive integer"),
        ("HGETDEL h FIELDS 2 a", "The `numfields` parameter must match the number of arguments"),
        ("HGETEX h EX 1 PERSIST FIELDS 1 a", "Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified"),
        ("HGETEX h KEEPTTL FIELDS 1 a", "unknown argument: KEEPTTL"),
        ("HGETEX h EX x FIELDS 1 a", "value is not an integer or out of range"),
        ("HGETEX h FIELDS 1 a b", "The `numfields` parameter must match the number of arguments"),
        ("HGETEX h PERSIST EX", "wrong number of arguments for 'hgetex' command"),
        ("HGETEX h EX 1 EX 2", "Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified"),
        ("HGETEX h EX 1 PX", "unknown argument: PX"),
        ("HSETEX h FNX FXX FIELDS 1 a 1", "Only one of FXX or FNX arguments can be specified"),
        ("HSETEX h EX 1 KEEPTTL FIELDS 1 a 1", "Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"),
        ("HSETEX h FIELDS 2 a 1 b", "The `numfields` parameter must match the number of arguments"),
        ("HSETEX h FIELDS 0 a 1 b", "Number of fields must be a positive integer"),
        ("HSETEX h EX -1 FIELDS 1 a 1", "invalid expire time, must be >= 0"),
        ("HSETEX h EX 1 FNX FNX FNX", "Only one of FXX or FNX arguments can be specified"),
    ] {
        check(script, &format!("ERR {error}"));
    }
    const WRONG: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for command in [
        "HEXPIRE s x FIELDS 1 a",
        "HTTL s FOO 1 a",
        "HPERSIST s FIELDS 1 a",
        "HGETDEL s FIELDS 1 a",
        "HGETEX s FIELDS 1 a",
        "HSETEX s FIELDS 1 a 1",
    ] {
        check(&format!("SET s v | {command}"), &format!("OK | {WRONG}"));
    }
}

#[test]
fn what_replaces_a_field_clears_its_time_and_what_changes_it_does_not() {
    check_both("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HSET h a 2 | HTTL h FIELDS 1 a", ":1 | [:1] | :0 | [:-1]");
    check_both(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HINCRBY h a 2 | HINCRBYFLOAT h a 0.5 | HPTTL h FIELDS 1 a",
        ":1 | [:1] | :3 | 3.5 | [:9]",
    );
    check_both(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | +10ms | HINCRBY h a 2 | HTTL h FIELDS 1 a",
        ":1 | [:1] | :2 | [:-1]",
    );
    check_both(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | +10ms | HSETNX h a 2 | HTTL h FIELDS 1 a",
        ":1 | [:1] | :1 | [:-1]",
    );
    check_both(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HPERSIST h FIELDS 3 a pad x | +10ms | HGET h a",
        ":1 | [:1] | [:1 :-1 :-2] | 1",
    );
    check_both(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HDEL h a | HSET h a 2 | HTTL h FIELDS 1 a",
        ":1 | [:1] | :1 | :1 | [:-1]",
    );
}

#[test]
fn the_last_field_takes_the_key_along() {
    check(
        "HSET h a 1 b 2 | HPEXPIRE h 9 FIELDS 2 a b | +10ms | EXISTS h | TYPE h | HLEN h",
        ":2 | [:1 :1] | :0 | none | :0",
    );
    check(
        "HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | EXPIRE h 100 | +10ms | HSET h b 1 | TTL h",
        ":1 | [:1] | :1 | :1 | :-1",
    );
}

#[test]
fn encodings() {
    check(
        "HSET h a 1 | HEXPIRE h 9 FIELDS 1 a | OBJECT ENCODING h | HPERSIST h FIELDS 1 a | OBJECT ENCODING h",
        ":1 | [:1] | listpackex | [:1] | listpackex",
    );
    check(&format!("{PAD}HEXPIRE h 9 FIELDS 1 pad | OBJECT ENCODING h"), ":1 | [:1] | hashtable");
    check("HSET h a 1 | HEXPIRE h 9 FIELDS 1 x | OBJECT ENCODING h", ":1 | [:-2] | listpack");
}

#[test]
fn getting_with_times() {
    check_both(
        "HSET h a 1 b 2 | HGETEX h PX 50 FIELDS 2 a x | HPTTL h FIELDS 2 a b | HGETEX h FIELDS 1 a | HGETEX h PERSIST FIELDS 1 a | HTTL h FIELDS 1 a",
        ":2 | [1 nil] | [:50 :-1] | [1] | [1] | [:-1]",
    );
    check_both("HSET h a 1 | HGETEX h FIELDS 1 a EXAT 1 | HLEN h", ":1 | [1] | :1");
    check_both("HSET h a 1 | HGETDEL h FIELDS 3 a x a | HLEN h", ":1 | [1 nil nil] | :1");
    check(
        "HGETEX none EX 1 FIELDS 2 a b | HGETDEL none FIELDS 1 a | HSET h a 1 | HGETDEL h FIELDS 1 a | EXISTS h",
        "[nil nil] | [nil] | :1 | [1] | :0",
    );
}

#[test]
fn setting_with_times() {
    check_both(
        "HSETEX h PX 50 FIELDS 2 a 1 b 2 | HPTTL h FIELDS 2 a b | HSETEX h KEEPTTL FIELDS 1 a 3 | HSETEX h FIELDS 1 b 4 | HPTTL h FIELDS 2 a b",
        ":1 | [:50 :50] | :1 | :1 | [:50 :-1]",
    );
    check_both(
        "HSETEX h FXX FIELDS 2 pad 1 a 1 | HSETEX h FNX FIELDS 2 pad 1 a 1 | HSETEX h FNX FIELDS 1 a 1 | HSETEX h FXX FIELDS 2 a 2 pad 2 | HLEN h",
        ":0 | :0 | :1 | :1 | :2",
    );
    check("HSETEX h FXX FIELDS 1 a 1 | HSETEX h EXAT 1 FIELDS 1 a 1 | EXISTS h", ":0 | :1 | :0");
    check_both("HSETEX h EXAT 1 FIELDS 1 a 1 FNX | HLEN h", ":1 | :1");
}

#[test]
fn recorded_effects() {
    effects("HSET h a 1 | HEXPIRE h 9 FIELDS 2 a x", "HPEXPIREAT h 1009000 FIELDS 1 a");
    effects("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HPERSIST h FIELDS 2 a x", "HPERSIST h FIELDS 1 a");
    effects("HPERSIST h FIELDS 2 a pad", "");
    effects("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | +10ms | HGET h a", "HDEL h a");
    effects("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | +10ms | HSET h a 2", "HDEL h a | HSET h a 2");
    effects("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HINCRBYFLOAT h a 1", "HSETEX h KEEPTTL FIELDS 1 a 2");
    effects("HSET h a 1 | HGETEX h EX 1 FIELDS 2 a x", "HPEXPIREAT h 1001000 FIELDS 1 a");
    effects("HSET h a 1 | HGETEX h FIELDS 1 a", "");
    effects("HSET h a 1 | HGETEX h PXAT 1 FIELDS 2 a x", "HDEL h a");
    effects("HSET h a 1 | HPEXPIRE h 9 FIELDS 1 a | HGETEX h PERSIST FIELDS 2 a pad", "HPERSIST h FIELDS 1 a");
    effects("HSET h a 1 | HGETDEL h FIELDS 2 a x", "HDEL h a");
    effects("HSETEX h EX 1 FIELDS 1 a 1", "HSETEX h PXAT 1001000 FIELDS 1 a 1");
    effects("HSETEX h FIELDS 1 a 1", "HSET h a 1");
    effects("HSETEX h EXAT 1 FIELDS 2 a 1 pad 1", "HDEL h pad");
}

/// Nobody asks for the hashes: the active cycle alone finds them.
#[test]
fn the_active_cycle_finds_what_is_due() {
    let mut shard = TestShard::new(FAMILIES);
    for n in 0..50 {
        shard.run(&format!("HSET small{n} a 1 b 2 | HPEXPIRE small{n} 100 FIELDS 1 a | HSET gone{n} a 1 | HPEXPIRE gone{n} 100 FIELDS 1 a"));
        shard.run(&format!("HSET kept{n} a 1 | HPEXPIRE kept{n} 100000 FIELDS 1 a"));
    }
    for n in 0..3000 {
        shard.run(&format!(
            "HSET large f{n} 1 | HPEXPIRE large {} FIELDS 1 f{n}",
            if n % 3 == 0 { 100_000 } else { 100 }
        ));
    }
    assert_eq!(shard.ctx.keyspace.hashes_noted(0), 151);
    shard.ctx.journal.record();
    shard.ctx.now = shard.ctx.now.plus_ms(500);
    let mut slices = 0;
    while shard.ctx.expire_slice(shard.ctx.now, 100).more {
        slices += 1;
        assert!(slices < 100, "it ends");
    }
    assert_eq!(shard.ctx.keyspace.db(0).len(), 101);
    assert_eq!(shard.ctx.keyspace.hashes_noted(0), 51);
    let removed: usize = shard.ctx.journal.take().iter().map(|effect| effect.words.len() - 2).sum();
    assert_eq!(removed, 50 + 50 + 2000);
    assert_eq!(shard.run("HLEN large | HLEN small7 | EXISTS gone7 kept7"), ":1000 | :1 | :1");
    assert!(slices >= 20, "{slices} slices");
}

/// What leaves a database leaves its notes, too.
#[test]
fn notes_follow_the_keys() {
    let mut shard =
        TestShard::new(&[hash::ROWS, super::ROWS, generic::ROWS, string::ROWS, crate::command::keyspace::ROWS]);
    let noted = |shard: &TestShard| [0, 1].map(|db| shard.ctx.keyspace.hashes_noted(db));
    shard.run("HSET h a 1 | HEXPIRE h 10 FIELDS 1 a | COPY h i | RENAME h j");
    assert_eq!(noted(&shard), [2, 0]);
    shard.run("MOVE i 1");
    assert_eq!(noted(&shard), [1, 1]);
    shard.run("SET j v");
    assert_eq!(noted(&shard), [0, 1]);
    shard.run("SWAPDB 0 1");
    assert_eq!(noted(&shard), [1, 0]);
    shard.run("HPERSIST i FIELDS 1 a");
    assert_eq!(noted(&shard), [0, 0]);
    shard.run("HEXPIRE i 10 FIELDS 1 a | FLUSHALL");
    assert_eq!(noted(&shard), [0, 0]);
    shard.run("HSET h a 1 | HEXPIRE h 10 FIELDS 1 a | HDEL h a | HSET i a 1 | HEXPIRE i 10 FIELDS 1 a | EXPIRE i 5 | +5001ms | GET i");
    assert_eq!(noted(&shard), [0, 0]);
    shard.run("HSET h a 1 | HEXPIRE h 10 FIELDS 1 a | +10001ms | TYPE h");
    assert_eq!(noted(&shard), [0, 0]);
}

#[test]
fn dumps_keep_times() {
    for pad in ["HSET h b 2", &PAD[..PAD.len() - 3]] {
        let mut shard = TestShard::new(FAMILIES);
        shard.run(&format!("{pad} | HSET h a 1 c 3 | HPEXPIRE h 90 FIELDS 1 c | HPEXPIRE h 40 FIELDS 1 a"));
        let entry = shard.ctx.copy_entry(b"h").unwrap();
        let payload = crate::data::dump::dump(entry.as_ref());
        shard.command(&[&b"RESTORE"[..], b"r", b"0", &payload]);
        assert_eq!(
            shard.run("HPTTL r FIELDS 2 a c | HMGET r a c | HLEN r | +60ms | HMGET r a c"),
            "[:40 :90] | [1 3] | :3 | [nil 3]"
        );
    }
}

fn command() -> impl Strategy<Value = String> {
    let field = || prop_oneof![(0..6u8).prop_map(|n| format!("f{n}")), (0..200u8).prop_map(|n| format!("g{n}"))];
    let ms = || 0..400u16;
    let condition = prop_oneof![Just(""), Just("NX "), Just("XX "), Just("GT "), Just("LT ")];
    let time = || prop_oneof![ms().prop_map(|ms| format!("PX {ms} ")), Just("".to_owned()), Just("EXAT 1 ".to_owned())];
    prop_oneof![
        4 => (field(), field()).prop_map(|(a, b)| format!("HSET h {a} 1 {b} 2")),
        1 => field().prop_map(|a| format!("HSET h {a} {}", "x".repeat(70))),
        2 => (field(), field()).prop_map(|(a, b)| format!("HDEL h {a} {b}")),
        2 => field().prop_map(|a| format!("HINCRBY h {a} 3")),
        2 => field().prop_map(|a| format!("HINCRBYFLOAT h {a} 0.5")),
        1 => field().prop_map(|a| format!("HSETNX h {a} 7")),
        4 => (ms(), condition, field(), field()).prop_map(|(ms, when, a, b)| format!("HPEXPIRE h {ms} {when}FIELDS 2 {a} {b}")),
        1 => field().prop_map(|a| format!("HPERSIST h FIELDS 1 {a}")),
        1 => field().prop_map(|a| format!("HGETDEL h FIELDS 1 {a}")),
        2 => (time(), field()).prop_map(|(time, a)| format!("HGETEX h {time}FIELDS 1 {a}")),
        1 => field().prop_map(|a| format!("HGETEX h PERSIST FIELDS 1 {a}")),
        2 => (time(), field(), field()).prop_map(|(time, a, b)| format!("HSETEX h {time}FIELDS 2 {a} 1 {b} 2")),
        1 => (field(), field()).prop_map(|(a, b)| format!("HSETEX h FXX KEEPTTL FIELDS 2 {a} 1 {b} 2")),
        3 => ms().prop_map(|ms| format!("+{ms}ms")),
        1 => Just("HGETALL h".to_owned()),
        1 => Just("EXPIRE h 100".to_owned()),
        1 => Just("COPY h i REPLACE".to_owned()),
        1 => Just("RENAME h i".to_owned()),
    ]
}

fn state(shard: &mut TestShard) -> Vec<String> {
    ["h", "i"]
        .map(|key| {
            let fields = shard.run(&format!("HKEYS {key}"));
            let mut fields: Vec<&str> =
                fields.trim_matches(['[', ']']).split(' ').filter(|field| !field.is_empty()).collect();
            fields.sort();
            let told = fields.iter().map(|a| shard.run(&format!("HGET {key} {a} | HPEXPIRETIME {key} FIELDS 1 {a}")));
            format!("{fields:?} {:?} {}", told.collect::<Vec<_>>(), shard.run(&format!("PTTL {key} | TYPE {key}")))
        })
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Effects look at no clock: applied while nothing has expired, they give the same hashes.
    #[test]
    fn effects_rebuild_the_hashes(commands in prop::collection::vec(command(), 1..150), entries_max in prop_oneof![Just(2u64), Just(512)]) {
        let (mut shard, mut replica) = (TestShard::new(FAMILIES), TestShard::new(FAMILIES));
        for shard in [&mut shard, &mut replica] {
            let config = crate::config::Config { hash_max_listpack_entries: entries_max, ..(*shard.ctx.config).clone() };
            shard.ctx.config = std::sync::Arc::new(config);
        }
        shard.ctx.journal.record();
        for command in commands {
            shard.run(&command);
            if command.starts_with('+') {
                shard.ctx.expire_slice(shard.ctx.now, 3);
            }
        }
        replica.replay(&shard.ctx.journal.take());
        replica.ctx.now = shard.ctx.now;
        let expected = state(&mut shard);
        prop_assert_eq!(state(&mut replica), expected);
        shard.ctx.now = shard.ctx.now.plus_ms(1000);
        for _ in 0..1000 {
            shard.ctx.expire_slice(shard.ctx.now, 10);
        }
        prop_assert_eq!(shard.ctx.keyspace.hashes_noted(0), 0);
    }
}
