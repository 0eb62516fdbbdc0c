//! One-line stories. What the forms of a hash have in common is told for both.

use super::*;
use crate::command::generic;
use crate::command::testing::{Families, TestShard, shown_bulk, stories};

const FAMILIES: Families = &[ROWS, generic::ROWS, crate::command::string::ROWS];
/// Makes `h` a table that holds nothing but `pad`.
const TABLE: &str = "HSET h pad 0000000000000000000000000000000000000000000000000000000000000000x | ";

stories!(FAMILIES: check, effects);

/// The same on a hash that is a listpack and on one that is a table, both with another field beside.
#[track_caller]
fn check_both(script: &str, replies: &str) {
    check(&format!("HSET h pad 0 | {script}"), &format!(":1 | {replies}"));
    check(&format!("{TABLE}{script}"), &format!(":1 | {replies}"));
}

#[test]
fn fields_are_set_and_read() {
    check("HSET h a 1 b 2 | HGET h a | HGET h c | HGET none a", ":2 | 1 | nil | nil");
    check_both("HSET h a 1 b 2 | HSET h a 3 c 4 | HMGET h a b c d", ":2 | :1 | [3 2 4 nil]");
    check_both("HSET h a 1 a 2 | HGET h a | HLEN h", ":1 | 2 | :2");
    check_both("HMSET h a 1 b 007 | HGET h b | HSTRLEN h b | HSTRLEN h x", "OK | 007 | :3 | :0");
    check_both("HSET h \"\" \"\" | HGET h \"\" | HEXISTS h \"\"", ":1 | \"\" | :1");
    check_both("HSETNX h a 1 | HSETNX h a 2 | HGET h a", ":1 | :0 | 1");
    check("HGETALL none | HKEYS none | HVALS none | HLEN none | HSTRLEN none f", "[] | [] | [] | :0 | :0");
    check("HSET h a 1 b 2 | HGETALL h | HKEYS h | HVALS h", ":2 | [a 1 b 2] | [a b] | [1 2]");
}

#[test]
fn the_last_field_takes_the_key_along() {
    check_both("HDEL h a | HDEL h pad x pad | EXISTS h | HDEL h pad", ":0 | :1 | :0 | :0");
    effects("HSET h a 1 b 2 | HDEL h a x b", "HDEL h a x b");
    effects("HSET h a 1 | HDEL h x", "");
}

#[test]
fn counters_count() {
    check_both("HINCRBY h n 5 | HINCRBY h n -7 | HGET h n | HSTRLEN h n", ":5 | :-2 | -2 | :2");
    check_both("HSET h n 9223372036854775807 | HINCRBY h n 1", ":1 | ERR increment or decrement would overflow");
    check_both("HSET h n \" 1\" | HINCRBY h n 1", ":1 | ERR hash value is not an integer");
    check(
        "HINCRBY h n x | SET s 1 | HINCRBY s n x",
        "ERR value is not an integer or out of range | OK | ERR value is not an integer or out of range",
    );
    check_both("HINCRBYFLOAT h n 1.5 | HINCRBYFLOAT h n 0.1", "1.5 | 1.6");
    check_both("HSET h n 5.0e3 | HINCRBYFLOAT h n 2", ":1 | 5002");
    check(
        "HINCRBYFLOAT h n nan | HINCRBYFLOAT h n inf",
        "ERR value is not a valid float | ERR value is NaN or Infinity",
    );
    check_both(
        "HSET h n x i inf | HINCRBYFLOAT h n 1 | HINCRBYFLOAT h i 1",
        ":2 | ERR hash value is not a float | ERR increment would produce NaN or Infinity",
    );
    effects("HSET h n 1 | HINCRBYFLOAT h n 0.5", "HSET h n 1.5");
    effects("HSET h n 1 | HINCRBY h n 2", "HINCRBY h n 2");
}

#[test]
fn other_types_are_refused_after_the_arguments_were_read() {
    const WRONG: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for command in [
        "HSET s a 1",
        "HMSET s a 1",
        "HSETNX s a 1",
        "HGET s a",
        "HMGET s a",
        "HGETALL s",
        "HKEYS s",
        "HVALS s",
        "HDEL s a",
        "HLEN s",
        "HEXISTS s a",
        "HSTRLEN s a",
        "HINCRBY s a 1",
        "HINCRBYFLOAT s a 1",
        "HRANDFIELD s",
        "HRANDFIELD s 1",
        "HSCAN s 0 FOO",
    ] {
        check(&format!("SET s v | {command}"), &format!("OK | {WRONG}"));
    }
    check("SET s v | HSET s a 1 b", "OK | ERR wrong number of arguments for 'hset' command");
    check("SET s v | HMSET s a 1 b", "OK | ERR wrong number of arguments for 'hmset' command");
    check("SET s v | HSCAN s x", "OK | ERR invalid cursor");
}

#[test]
fn encodings_follow_the_thresholds() {
    let long = "x".repeat(65);
    check("HSET h a 1 | OBJECT ENCODING h", ":1 | listpack");
    check(&format!("HSET h a 1 | HSETNX h a {long} | OBJECT ENCODING h"), ":1 | :0 | listpack");
    check(
        &format!("HSET h a {long} | OBJECT ENCODING h | HSET h a 1 | OBJECT ENCODING h"),
        ":1 | hashtable | :0 | hashtable",
    );
    check(&format!("HSET h {long} 1 | OBJECT ENCODING h"), ":1 | hashtable");
    let mut shard = TestShard::new(FAMILIES);
    for n in 0..512 {
        shard.run(&format!("HSET h f{n} {n}"));
    }
    assert_eq!(
        shard.run("OBJECT ENCODING h | HSET h f0 x | HINCRBY h g 1 | OBJECT ENCODING h | HLEN h"),
        "listpack | :0 | :1 | hashtable | :513"
    );
    assert_eq!(shard.run("HGET h f0 | HGET h f511"), "x | 511");
}

#[test]
fn random_fields() {
    check("HRANDFIELD none | HRANDFIELD none 1 | HRANDFIELD none -5 WITHVALUES", "nil | [] | []");
    check(
        "HSET h a 1 | HRANDFIELD h | HRANDFIELD h 5 | HRANDFIELD h 0 | HRANDFIELD h -3",
        ":1 | a | [a] | [] | [a a a]",
    );
    check("HSET h a 1 | HRANDFIELD h 5 WITHVALUES | HRANDFIELD h -2 withvalues", ":1 | [a 1] | [a 1 a 1]");
    check(
        "HRANDFIELD h x FOO | HRANDFIELD h 1 FOO | HRANDFIELD h 1 WITHVALUES x",
        "ERR value is not an integer or out of range | ERR syntax error | ERR syntax error",
    );
    check(
        "HRANDFIELD h -9223372036854775807 WITHVALUES | HSET h a 1 | HRANDFIELD h -9223372036854775807",
        "ERR value is out of range | :1 | ERR value is out of range",
    );
    check(
        "HRANDFIELD h -9223372036854775808 FOO",
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
}

#[test]
fn scanning() {
    check("HSCAN none 0 COUNT x | HSCAN none x", "[0 []] | ERR invalid cursor");
    check(
        "HSET h a 1 b 2 | HSCAN h 0 | HSCAN h 0 NOVALUES | HSCAN h 7 MATCH b*",
        ":2 | [0 [a 1 b 2]] | [0 [a b]] | [0 [b 2]]",
    );
    check(
        "HSET h a 1 | HSCAN h 0 COUNT 0 | HSCAN h 0 COUNT | HSCAN h 0 COUNT x | HSCAN h 0 NOSCORES | HSCAN h 0 TYPE hash",
        ":1 | ERR syntax error | ERR syntax error | ERR value is not an integer or out of range | \
         ERR NOSCORES option can only be used in ZSCAN | ERR syntax error",
    );
    let mut shard = TestShard::new(FAMILIES);
    for n in 0..2000 {
        shard.run(&format!("HSET h f{n} {n}"));
    }
    let (mut cursor, mut pairs) = ("0".to_owned(), 0);
    loop {
        let reply = shard.run(&format!("HSCAN h {cursor} COUNT 50"));
        let (next, found) = reply[1..].split_once(' ').unwrap();
        cursor = next.to_owned();
        pairs += found.split(' ').filter(|word| word.trim_matches(['[', ']']).starts_with('f')).count();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(pairs, 2000);
}

/// Recorded from valkey-server 8.0.1.
#[rustfmt::skip]
const DUMPS: &[(&str, &[u8])] = &[
    ("HSET h a 1", b"\x10\x0c\x0c\x00\x00\x00\x02\x00\x81a\x02\x01\x01\xff\x0b\x00\xedy.\x9bW\x88\x0dR"),
    ("HSET h a x", b"\x10\x0d\x0d\x00\x00\x00\x02\x00\x81a\x02\x81x\x02\xff\x0b\x00JF\xfb\x95\x81\x9c\xd6\x81"),
    ("HSET h a -70000", b"\x10\x0f\x0f\x00\x00\x00\x02\x00\x81a\x02\xf2\x90\xee\xfe\x04\xff\x0b\x006\xb4\xa0\xe1\xfc3\x1b\xd6"),
    ("HSET h a 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_+", b"\x04\x01\x01a@A0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_+\x0b\x00\x16+\x96&\x5cF=\x88"),
    ("HSET h 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_+ 300", b"\x04\x01@A0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_+\xc1,\x01\x0b\x00\x83w\xd2\xeb%\x10\x88/"),
];

#[test]
fn dumps_are_those_of_valkey() {
    for (script, payload) in DUMPS {
        let mut shard = TestShard::new(FAMILIES);
        assert_eq!(shard.run(&format!("{script} | DUMP h")), format!(":1 | {}", shown_bulk(payload)), "{script}");
        shard.command(&[b"RESTORE", &b"r"[..], b"0", payload]);
        assert_eq!(shard.run("DEL h | RENAME r h | DUMP h"), format!(":1 | OK | {}", shown_bulk(payload)), "{script}");
    }
}
