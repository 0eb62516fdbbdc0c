//! What SORT answers and stores, a line each.

use super::*;
use crate::command::testing::{Families, TestShard, stories};
use crate::command::{generic, hash, list, set, string, zset};

const FAMILIES: Families = &[ROWS, generic::ROWS, list::ROWS, set::ROWS, hash::ROWS, zset::ROWS, string::ROWS];

stories!(FAMILIES: check_last);

#[test]
fn sorts_by_number_or_by_text() {
    check_last("RPUSH l 10 9 1.5 -2 | SORT l", "[-2 1.5 9 10]");
    check_last("RPUSH l 10 9 1.5 -2 | SORT l DESC", "[10 9 1.5 -2]");
    check_last("RPUSH l 10 9 1.5 -2 | SORT l ALPHA", "[-2 1.5 10 9]");
    check_last("SADD s c a b | SORT s ALPHA DESC", "[c b a]");
    check_last("ZADD z 1 b 2 a | SORT z ALPHA ASC", "[a b]");
    check_last("RPUSH l 1.0 1 01 | SORT l", "[01 1 1.0]");
    check_last("RPUSH l \" 7\" \"\" 0x5 -inf | SORT l", "[-inf \"\" 0x5 \" 7\"]");
    check_last("SORT nokey", "[]");
}

#[test]
fn limits() {
    let limited = |limit: &str, last: &str| check_last(&format!("RPUSH l 3 1 2 | SORT l LIMIT {limit}"), last);
    limited("0 2", "[1 2]");
    limited("1 -1", "[2 3]");
    limited("-5 1", "[1]");
    limited("1 9223372036854775807", "[2 3]");
    limited("3 1", "[]");
    limited("0 0", "[]");
}

#[test]
fn weighs_by_keys_and_fields() {
    let keys = "RPUSH l 1 2 3 | MSET w1 30 w2 10 w3 20 | HSET h1 f 3 g x | HSET h2 f 1 | HSET h3 f 2 g y";
    check_last(&format!("{keys} | SORT l BY w*"), "[2 3 1]");
    check_last(&format!("{keys} | SORT l BY h*->f DESC"), "[1 3 2]");
    check_last(
        &format!("{keys} | SORT l BY w* GET # GET h*->g GET w* GET nokey"),
        "[2 nil 10 nil 3 y 20 nil 1 x 30 nil]",
    );
    check_last(&format!("{keys} | DEL w2 | SORT l BY w*"), "[2 3 1]");
    check_last(&format!("{keys} | DEL w2 | SORT l BY w* ALPHA"), "[2 3 1]");
    check_last(&format!("{keys} | SORT l BY w* LIMIT 1 1 GET w*"), "[20]");
    // A key of another type weighs nothing, an arrow without a field belongs to the key.
    check_last(&format!("{keys} | SORT l BY h* DESC"), "[3 2 1]");
    check_last(&format!("{keys} | SET w1-> 5 | SORT l BY w*-> DESC"), "[1 3 2]");
}

#[test]
fn a_constant_keeps_the_order() {
    check_last("RPUSH l 3 1 2 | SORT l BY nosort", "[3 1 2]");
    check_last("RPUSH l 3 1 2 | SORT l BY nosort DESC LIMIT 0 2", "[2 1]");
    check_last("RPUSH l 3 1 x | SORT l BY nosort LIMIT 1 9", "[1 x]");
    check_last("ZADD z 2 b 1 c 3 a | SORT z BY nosort DESC", "[a b c]");
    check_last("SADD s c a b | SORT s BY nosort STORE d | LRANGE d 0 -1", "[a b c]");
}

#[test]
fn stores_a_list() {
    check_last("RPUSH l 3 1 2 | SET d x | SORT l STORE d | LRANGE d 0 -1", "[1 2 3]");
    check_last("RPUSH l 3 1 2 | EXPIRE l 10 | SORT l STORE l | LRANGE l 0 -1 | TTL l", ":-1");
    check_last("RPUSH l 3 1 2 | SORT l GET nokey GET # STORE d | LRANGE d 0 -1", "[\"\" 1 \"\" 2 \"\" 3]");
    check_last("SET d x | SORT nokey STORE d | EXISTS d", ":0");
    check_last("RPUSH l 3 1 2 | SORT l STORE d | OBJECT ENCODING d", "listpack");
}

#[test]
fn records_the_list_or_its_end() {
    let effects = |script: &str| {
        let mut shard = TestShard::new(FAMILIES);
        let (before, last) = script.rsplit_once(" | ").unwrap_or(("", script));
        shard.run(before);
        shard.ctx.journal.record();
        shard.run(last);
        let recorded = shard.ctx.journal.take();
        let words = recorded.iter().map(|effect| String::from_utf8_lossy(&effect.words[0]).into_owned());
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(effects("RPUSH l 1 | SORT l STORE d"), "RESTORE");
    assert_eq!(effects("SET d 1 | SORT l STORE d"), "DEL");
    assert_eq!(effects("SORT l STORE d"), "");
    assert_eq!(effects("RPUSH l 1 | SORT l"), "");
}

#[test]
fn refuses() {
    const NOT_A_NUMBER: &str = "-ERR One or more scores can't be converted into double";
    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let refused = |script: &str, error: &str| check_last(script, error.trim_start_matches('-'));
    for words in ["SORT l x", "SORT l BY", "SORT l LIMIT 1", "SORT l STORE", "SORT_RO l STORE d", "SORT l GET"] {
        refused(words, "-ERR syntax error");
    }
    refused("SORT l LIMIT x 1", "-ERR value is not an integer or out of range");
    refused("SET s x | SORT s", WRONG_TYPE);
    refused("HSET h f v | SORT h", WRONG_TYPE);
    refused("SET s x | SORT s x", "-ERR syntax error");
    refused("RPUSH l a | SORT l", NOT_A_NUMBER);
    refused("RPUSH l nan | SORT l", NOT_A_NUMBER);
    refused("RPUSH l 1 | SET w1 x | SORT l BY w*", NOT_A_NUMBER);
    refused("RPUSH l 1e400 | SORT l LIMIT 0 0", NOT_A_NUMBER);
}
