//! One-line stories.

use crate::base::quoting;
use crate::command::set::ROWS;
use crate::command::testing::{Families, TestShard, shown_bulk, stories};
use crate::command::{generic, string};

const FAMILIES: Families = &[ROWS, generic::ROWS, string::ROWS];

stories!(FAMILIES: check, effects);

const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn members_come_and_go() {
    check("SADD k 1 2 2 | SADD k 2 3 | SCARD k | SMEMBERS k", ":2 | :1 | :3 | [1 2 3]");
    check("SADD k b a | SMEMBERS k | SISMEMBER k a | SISMEMBER k c", ":2 | [b a] | :1 | :0");
    check("SMISMEMBER k a b | SADD k a | SMISMEMBER k a b a", "[:0 :0] | :1 | [:1 :0 :1]");
    check("SADD k a b | SREM k a c | SREM k a | SREM k b | EXISTS k", ":2 | :1 | :0 | :1 | :0");
    check("SCARD k | SMEMBERS k | SISMEMBER k a | SREM k a", ":0 | [] | :0 | :0");
    check("SADD k a | PEXPIRE k 5 | SADD k b | PTTL k | +6ms | SCARD k", ":1 | :1 | :1 | :5 | :0");
}

#[test]
fn other_types_are_refused() {
    for command in [
        "SADD k a",
        "SREM k a",
        "SISMEMBER k a",
        "SMISMEMBER k a",
        "SCARD k",
        "SMEMBERS k",
        "SPOP k",
        "SPOP k 1",
        "SRANDMEMBER k",
        "SRANDMEMBER k 1",
        "SINTER k",
        "SINTER none k",
        "SINTERCARD 1 k",
        "SINTERSTORE d k",
        "SUNION none k",
        "SUNIONSTORE d k",
        "SDIFF none k",
        "SDIFFSTORE d k",
        "SSCAN k 0",
        "SMOVE k d a",
    ] {
        check(&format!("SET k v | {command} | GET k"), &format!("OK | {WRONGTYPE} | v"));
    }
    check("SADD s a | SET k v | SMOVE s k b | SMOVE none k b", &format!(":1 | OK | {WRONGTYPE} | :0"));
    check("SADD k a | GET k", &format!(":1 | {WRONGTYPE}"));
}

#[test]
fn encodings_are_told() {
    check("SADD k 1 | OBJECT ENCODING k | SADD k a | OBJECT ENCODING k", ":1 | intset | :1 | listpack");
    let long = "x".repeat(65);
    check(&format!("SADD k {long} | OBJECT ENCODING k | SREM k {long} | EXISTS k"), ":1 | hashtable | :1 | :0");
}

#[test]
fn smove_moves() {
    check("SADD a 1 2 | SMOVE a b 1 | SMEMBERS a | SMEMBERS b", ":2 | :1 | [2] | [1]");
    check("SADD a 1 | SADD b 1 | SMOVE a b 1 | EXISTS a | SMEMBERS b", ":1 | :1 | :1 | :0 | [1]");
    check("SADD a 1 | SMOVE a a 1 | SMOVE a a 2 | SMOVE a b 2 | EXISTS b", ":1 | :1 | :0 | :0 | :0");
    effects("SADD a 1 2 | SMOVE a b 1", "SREM a 1 | SADD b 1");
    effects("SADD a 1 2 | SADD b 1 | SMOVE a b 1", "SREM a 1");
    effects("SADD a 1 2 | SMOVE a a 1", "");
}

#[test]
fn algebra_over_keys() {
    let sets = "SADD a 1 2 3 x | SADD b 2 3 4 x | SADD c 3 | ";
    let made = ":4 | :4 | :1 | ";
    let on_sets = |script: &str, replies: &str| check(&format!("{sets}{script}"), &format!("{made}{replies}"));
    on_sets("SINTER a b | SINTER a b c | SINTER a none | SINTER a a", "[2 3 x] | [3] | [] | [1 2 3 x]");
    on_sets("SINTERCARD 2 a b | SINTERCARD 2 a b LIMIT 2 | SINTERCARD 2 a b LIMIT 0", ":3 | :2 | :3");
    on_sets("SINTERCARD 2 a b LIMIT 2 limit 1 | SINTERCARD 2 a none", ":1 | :0");
    on_sets("SUNION c b a | SUNION none c", "[2 3 4 x 1] | [3]");
    on_sets("SDIFF a b | SDIFF a none c | SDIFF none a | SDIFF a a", "[1] | [1 2 x] | [] | []");
    on_sets("SINTERSTORE d a b c | SMEMBERS d | OBJECT ENCODING d", ":1 | [3] | intset");
    on_sets("SUNIONSTORE a a c | SMEMBERS a", ":4 | [1 2 3 x]");
    on_sets("SDIFFSTORE a a b | SMEMBERS a | SDIFFSTORE a a a | EXISTS a", ":1 | [1] | :0 | :0");
    on_sets("SET d v | PEXPIRE d 9 | SUNIONSTORE d c | TTL d | TYPE d", "OK | :1 | :1 | :-1 | set");
    on_sets("SET d v | SINTERSTORE d c none | EXISTS d", "OK | :0 | :0");
}

#[test]
fn sintercard_refuses() {
    for (arguments, error) in [
        ("0 a", "ERR numkeys should be greater than 0"),
        ("-1 a", "ERR numkeys should be greater than 0"),
        ("x a", "ERR numkeys should be greater than 0"),
        ("2 a", "ERR Number of keys can't be greater than number of args"),
        ("9223372036854775807 a", "ERR Number of keys can't be greater than number of args"),
        ("1 a LIMIT", "ERR syntax error"),
        ("1 a b", "ERR syntax error"),
        ("1 a b 1", "ERR syntax error"),
        ("1 a LIMIT -1", "ERR LIMIT can't be negative"),
        ("1 a LIMIT x", "ERR LIMIT can't be negative"),
        ("1 s LIMIT x", "ERR LIMIT can't be negative"),
    ] {
        check(&format!("SET s v | SINTERCARD {arguments}"), &format!("OK | {error}"));
    }
}

#[test]
fn random_members() {
    check("SRANDMEMBER k | SRANDMEMBER k 1 | SRANDMEMBER k -1", "nil | [] | []");
    check(
        "SADD k a | SRANDMEMBER k | SRANDMEMBER k 5 | SRANDMEMBER k -3 | SRANDMEMBER k 0",
        ":1 | a | [a] | [a a a] | []",
    );
    let between = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    check("SRANDMEMBER k -9223372036854775808", between);
    check("SRANDMEMBER k x | SRANDMEMBER k 1 2", "ERR value is not an integer or out of range | ERR syntax error");
    check("SADD k a | SRANDMEMBER k -9223372036854775807", ":1 | ERR value is out of range");
    check("SADD k a | SRANDMEMBER k 9223372036854775807", ":1 | [a]");
}

#[test]
fn spop_removes() {
    check("SPOP k | SPOP k 1 | SADD k a | SPOP k | EXISTS k", "nil | [] | :1 | a | :0");
    check("SADD k a b | SPOP k 0 | SPOP k 9 | EXISTS k", ":2 | [] | [a b] | :0");
    let negative = "ERR value is out of range, must be positive";
    check("SPOP k -1 | SPOP k x | SPOP k 1 2", &format!("{negative} | {negative} | ERR syntax error"));
}

#[test]
fn spop_is_recorded_as_what_it_removed() {
    effects("SADD k a | SPOP k", "SREM k a");
    effects("SADD k a b | SPOP k 2", "DEL k");
    effects("SADD k a b | SPOP k 0", "");
    effects("SPOP k 5", "");
    let mut shard = TestShard::new(FAMILIES);
    let members: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    shard.run(&format!("SADD k {}", members.join(" ")));
    let dirty = shard.ctx.journal.dirty;
    shard.ctx.journal.record();
    shard.run("SPOP k 2500");
    assert_eq!(shard.ctx.journal.dirty - dirty, 2500);
    let recorded = shard.ctx.journal.take();
    let lengths: Vec<usize> = recorded.iter().map(|effect| effect.words.len()).collect();
    assert_eq!(lengths, [1026, 1026, 454], "in bounded chunks");
    let mut replica = TestShard::new(FAMILIES);
    replica.run(&format!("SADD k {}", members.join(" ")));
    replica.replay(&recorded);
    let order = |text: String| text.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let list = |shard: &mut TestShard| order(shard.run("SMEMBERS k").trim_matches(['[', ']']).to_owned());
    assert_eq!(list(&mut shard), list(&mut replica));
}

#[test]
fn effects_are_recorded_once_a_change() {
    effects("SADD k a b", "SADD k a b");
    effects("SADD k a | SADD k a", "");
    effects("SADD k a b | SREM k a c", "SREM k a c");
    effects("SADD k a | SREM k c", "");
    effects("SADD {k}a 1 | SUNIONSTORE {k}d {k}a", "SUNIONSTORE {k}d {k}a");
    effects("SET d v | SINTERSTORE d none", "DEL d");
    effects("SINTERSTORE d none", "");
}

#[test]
fn a_result_from_other_slots_is_recorded_whole() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SADD a 1 2 | SADD b 2 3 | SET d v");
    shard.ctx.journal.record();
    shard.run("SUNIONSTORE d a b");
    let mut replica = TestShard::new(FAMILIES);
    replica.run("SET d v");
    replica.replay(&shard.ctx.journal.take());
    assert_eq!(replica.run("SMEMBERS d"), "[1 2 3]");
}

#[test]
fn sscan_walks() {
    check("SSCAN k 0 | SSCAN k 0 FOO | SSCAN k x FOO", "[0 []] | [0 []] | ERR invalid cursor");
    check("SADD k a ab b | SSCAN k 0 | SSCAN k 0 MATCH a*", ":3 | [0 [a ab b]] | [0 [a ab]]");
    check("SADD k 1 2 10 | SSCAN k 99 MATCH 1* COUNT 1", ":3 | [0 [1 10]]");
    for (options, error) in [
        ("FOO", "ERR syntax error"),
        ("MATCH", "ERR syntax error"),
        ("COUNT 0", "ERR syntax error"),
        ("COUNT x", "ERR value is not an integer or out of range"),
        ("TYPE set", "ERR syntax error"),
        ("NOVALUES", "ERR NOVALUES option can only be used in HSCAN"),
        ("NOSCORES", "ERR NOSCORES option can only be used in ZSCAN"),
    ] {
        check(&format!("SADD k a | SSCAN k 0 {options}"), &format!(":1 | {error}"));
    }
}

/// Recorded from valkey-server 8.0.1.
const DUMPED: &[(&str, &str)] = &[
    (
        "1 2 3",
        r#"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00\x0b\x00\xcc\xdd\xe1\x91\x90\xf1\xa4\x92"#,
    ),
    ("-5 70000", r#"\x0b\x10\x04\x00\x00\x00\x02\x00\x00\x00\xfb\xff\xff\xffp\x11\x01\x00\x0b\x005SQ\t\xda2\xc9\xd7"#),
    (
        "1 9000000000",
        r#"\x0b\x18\x08\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x1aq\x18\x02\x00\x00\x00\x0b\x00\xd0\xe9\x1f\x9b?\xb0}\xde"#,
    ),
    ("a b", r#"\x14\r\r\x00\x00\x00\x02\x00\x81a\x02\x81b\x02\xff\x0b\x00\n\xec\n\xb4I\xa3\xd6T"#),
    (
        "a 1 -4096 zz",
        r#"\x14\x13\x13\x00\x00\x00\x04\x00\x81a\x02\x01\x01\xd0\x00\x02\x82zz\x03\xff\x0b\x00.\xbbg\xfa]x\xc2\x02"#,
    ),
];

/// The same, compressed: we write these as they are.
const COMPRESSED: &[(&str, &str)] = &[
    (
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        r#"\x02\x01\xc3\t@A\x01xx\xe04\x00\x01xx\x0b\x00f\xdb\xdb\xf6\x1b\xc0F\x0c"#,
    ),
    (
        "12345678901234567890",
        r#"\x14\xc3\x18\x1d\x10\x1d\x00\x00\x00\x01\x00\x941234567890\xe0\x01\t\x01\x15\xff\x0b\x00\xb8\xe8\x92\xfcxBO9"#,
    ),
];

#[test]
fn dumps_equal_redis() {
    for (members, payload) in DUMPED {
        let replies = format!(":{} | {}", members.split(' ').count(), shown_dump(payload));
        check(&format!("SADD k {members} | DUMP k"), &replies);
    }
}

#[test]
fn restores_what_redis_dumped() {
    for (members, payload) in DUMPED.iter().chain(COMPRESSED) {
        check(
            &format!("SADD k {members} | RESTORE r 0 \"{payload}\" | SDIFF k r | SDIFF r k"),
            &format!(":{} | OK | [] | []", members.split(' ').count()),
        );
    }
}

/// A payload as the replies of a test show it.
fn shown_dump(payload: &str) -> String {
    let words = quoting::split(format!("\"{payload}\"").as_bytes()).expect("quotes are closed");
    shown_bulk(&words[0])
}
