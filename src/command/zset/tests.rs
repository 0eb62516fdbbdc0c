//! One-line stories; what the structures do by themselves is tested in `data::zset`.

use super::*;
use crate::command::testing::{Families, TestShard, stories};
use crate::command::{generic, set, string};

const FAMILIES: Families = &[ROWS, generic::ROWS, set::ROWS, string::ROWS];

stories!(FAMILIES: check, effects);

#[test]
fn rows_are_consistent() {
    ROWS.iter().for_each(|row| assert_consistent(&row.spec));
}

#[test]
fn members_are_added_and_read() {
    check("ZADD k 1 a 2 b 3 c | ZCARD k | ZSCORE k b | ZSCORE k x | ZMSCORE k a x", ":3 | :3 | 2 | nil | [1 nil]");
    check("ZADD k 1 a | ZADD k 2 a | ZADD k CH 3 a 4 b | ZSCORE k a", ":1 | :0 | :2 | 3");
    check(
        "ZADD k 1.5 a -0.25 b inf c -inf d 1e20 e 3.0 f | ZMSCORE k a b c d e f",
        ":6 | [1.5 -0.25 inf -inf 1e+20 3]",
    );
    check("ZCARD k | ZMSCORE k a b | ZRANK k a | ZRANK k a WITHSCORE", ":0 | [nil nil] | nil | nil");
    check("ZADD k 1 a 2 b | ZRANK k b | ZREVRANK k b | ZRANK k b WITHSCORE", ":2 | :1 | :0 | [:1 2]");
    check("ZRANK k a FOO", "ERR syntax error");
    check("ZRANK k a WITHSCORE x", "ERR wrong number of arguments for 'zrank' command");
    check("OBJECT ENCODING k | ZADD k 1 a | OBJECT ENCODING k | TYPE k", "nil | :1 | listpack | zset");
}

#[test]
fn members_are_added_under_conditions() {
    check("ZADD k XX 1 a | EXISTS k | ZADD k NX 1 a | ZADD k NX 2 a | ZSCORE k a", ":0 | :0 | :1 | :0 | 1");
    check("ZADD k 5 a | ZADD k GT CH 4 a 6 b | ZADD k GT CH 6 a | ZSCORE k a", ":1 | :1 | :1 | 6");
    check("ZADD k 5 a | ZADD k LT CH 6 a | ZADD k XX LT CH 4 a 1 b | ZMSCORE k a b", ":1 | :0 | :1 | [4 nil]");
    check("ZADD k INCR 2 a | ZADD k INCR 1.5 a | ZADD k NX INCR 1 a | ZADD k XX INCR 1 b", "2 | 3.5 | nil | nil");
    check("ZADD k GT INCR 5 a | ZADD k GT INCR -1 a | ZSCORE k a", "5 | nil | 5");
    check("ZINCRBY k 2 a | ZINCRBY k -3.5 a", "2 | -1.5");
}

#[test]
fn zadd_refuses() {
    check("ZADD k 1 a 2", "ERR syntax error");
    check("ZADD k NX CH", "ERR syntax error");
    check("ZADD k XX NX 1 a", "ERR XX and NX options at the same time are not compatible");
    for options in ["NX GT", "LT NX", "GT LT"] {
        let error = "ERR GT, LT, and/or NX options at the same time are not compatible";
        check(&format!("ZADD k {options} 1 a"), error);
    }
    check("ZADD k INCR 1 a 2 b", "ERR INCR option supports a single increment-element pair");
    for score in ["x", "nan", "\"\"", "\" 1\""] {
        check(&format!("ZADD k 1 a {score} b | EXISTS k"), "ERR value is not a valid float | :0");
    }
    let nan = "ERR resulting score is not a number (NaN)";
    check("ZADD k inf a | ZADD k INCR -inf a | ZINCRBY k -inf a | ZSCORE k a", &format!(":1 | {nan} | {nan} | inf"));
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for command in
        ["ZADD k 1 a", "ZADD k XX 1 a", "ZCARD k", "ZRANGE k 0 -1", "ZUNION 2 x k", "ZPOPMIN k 0", "ZREM k a"]
    {
        check(&format!("SET k v | {command}"), &format!("OK | {wrong_type}"));
    }
}

#[test]
fn members_are_removed() {
    check("ZADD k 1 a 2 b | ZREM k a x a | ZREM k b | EXISTS k | ZREM k b", ":2 | :1 | :1 | :0 | :0");
    let five = "ZADD k 1 a 2 b 3 c 4 d 5 e";
    check(&format!("{five} | ZREMRANGEBYRANK k 1 -3 | ZRANGE k 0 -1"), ":5 | :2 | [a d e]");
    check(&format!("{five} | ZREMRANGEBYSCORE k (1 3 | ZRANGE k 0 -1"), ":5 | :2 | [a d e]");
    check(&format!("{five} | ZREMRANGEBYSCORE k -inf +inf | EXISTS k"), ":5 | :5 | :0");
    check("ZADD k 0 a 0 b 0 c | ZREMRANGEBYLEX k (a [c | ZRANGE k 0 -1", ":3 | :2 | [a]");
    check("ZREMRANGEBYRANK k 0 -1 | ZREMRANGEBYRANK k a b", ":0 | ERR value is not an integer or out of range");
}

#[test]
fn ranges_of_ranks() {
    let three = "ZADD k 1 a 2 b 3 c";
    check(
        &format!("{three} | ZRANGE k 0 -1 | ZRANGE k 1 1 | ZRANGE k -2 10 | ZRANGE k 2 1"),
        ":3 | [a b c] | [b] | [b c] | []",
    );
    check(&format!("{three} | ZRANGE k 0 1 REV WITHSCORES | ZREVRANGE k 1 -1"), ":3 | [c 3 b 2] | [b a]");
    check(&format!("{three} | ZRANGE k 5 9 | ZRANGE k -9 -8 | ZRANGE x 0 -1"), ":3 | [] | [] | []");
    check("ZRANGE k a 1", "ERR value is not an integer or out of range");
    let limit = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    check("ZRANGE k 0 1 LIMIT 0 1 | ZRANGE k 0 1 LIMIT 0 -1", &format!("{limit} | []"));
    check("ZREVRANGE k 0 1 REV | ZRANGE k 0 1 BYSCORE BYLEX", "ERR syntax error | ERR syntax error");
}

#[test]
fn ranges_of_scores() {
    let four = "ZADD k 1 a 2 b 3 c inf d";
    check(&format!("{four} | ZRANGEBYSCORE k 2 +inf | ZRANGEBYSCORE k (1 (3 WITHSCORES"), ":4 | [b c d] | [b 2]");
    check(&format!("{four} | ZREVRANGEBYSCORE k 3 -inf LIMIT 1 1 | ZRANGE k inf (1 BYSCORE REV"), ":4 | [b] | [d c b]");
    check(&format!("{four} | ZRANGEBYSCORE k 3 1 | ZRANGEBYSCORE k (2 2 | ZCOUNT k (1 inf"), ":4 | [] | [] | :3");
    check(&format!("{four} | ZRANGEBYSCORE k 0 9 LIMIT 1 -1 | ZRANGEBYSCORE k 0 9 LIMIT 5 1"), ":4 | [b c] | []");
    check(&format!("{four} | ZRANGEBYSCORE k \"\" \" 2\" | ZRANGEBYSCORE k 1 1e999"), ":4 | [a b] | [a b c d]");
    let error = "ERR min or max is not a float";
    check("ZCOUNT k x 1 | ZRANGEBYSCORE k (nan 1 | ZCOUNT k \"1 \" 2", &format!("{error} | {error} | {error}"));
}

#[test]
fn ranges_of_members() {
    let four = "ZADD k 0 a 0 b 0 bb 0 c";
    check(
        &format!("{four} | ZRANGEBYLEX k - + | ZRANGEBYLEX k [b (c | ZREVRANGEBYLEX k + [bb"),
        ":4 | [a b bb c] | [b bb] | [c bb]",
    );
    check(&format!("{four} | ZRANGE k (b + BYLEX LIMIT 1 5 | ZRANGE k + - BYLEX REV LIMIT 0 1"), ":4 | [c] | [c]");
    check(&format!("{four} | ZLEXCOUNT k - (b | ZLEXCOUNT k + - | ZLEXCOUNT k [ (zz"), ":4 | :1 | :0 | :4");
    let error = "ERR min or max not valid string range item";
    check("ZLEXCOUNT k a b | ZRANGEBYLEX k ++ [b", &format!("{error} | {error}"));
    let scores = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
    check("ZRANGEBYLEX k - + WITHSCORES", scores);
}

#[test]
fn a_range_is_stored() {
    let three = "ZADD k 1 a 2 b 3 c";
    check(&format!("{three} | ZRANGESTORE d k 1 -1 | ZRANGE d 0 -1 WITHSCORES"), ":3 | :2 | [b 2 c 3]");
    check(&format!("{three} | ZRANGESTORE k k 3 2 BYSCORE REV LIMIT 1 1 | ZRANGE k 0 -1"), ":3 | :1 | [b]");
    check(
        &format!("{three} | SET d v | ZRANGESTORE d k 5 9 | EXISTS d | ZRANGESTORE d x 0 1"),
        ":3 | OK | :0 | :0 | :0",
    );
    check("ZRANGESTORE d k 0 1 WITHSCORES", "ERR syntax error");
}

#[test]
fn members_are_popped() {
    let three = "ZADD k 1 a 2 b 3 c";
    check(&format!("{three} | ZPOPMIN k | ZPOPMAX k 5 | EXISTS k | ZPOPMIN k"), ":3 | [a 1] | [c 3 b 2] | :0 | []");
    check(&format!("{three} | ZPOPMIN k 0 | ZPOPMIN k -1"), ":3 | [] | ERR value is out of range, must be positive");
    check(
        &format!("{three} | ZMPOP 2 x k MAX | ZMPOP 1 k MIN COUNT 9 | ZMPOP 1 k MIN"),
        ":3 | [k [[c 3]]] | [k [[a 1] [b 2]]] | nil",
    );
    check("ZMPOP 0 k MIN", "ERR numkeys should be greater than 0");
    check("ZMPOP 1 k MIN COUNT 0", "ERR count should be greater than 0");
    for words in ["1 k FOO", "2 k MIN", "1 k MIN COUNT", "1 k MIN COUNT 1 COUNT 1", "9223372036854775807 k MIN"] {
        check(&format!("ZMPOP {words}"), "ERR syntax error");
    }
}

#[test]
fn random_members() {
    check("ZRANDMEMBER k | ZRANDMEMBER k 2 | ZADD k 1 a | ZRANDMEMBER k | ZRANDMEMBER k 0", "nil | [] | :1 | a | []");
    check("ZADD k 1 a | ZRANDMEMBER k -3 | ZRANDMEMBER k 3 WITHSCORES", ":1 | [a a a] | [a 1]");
    let range = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    check("ZRANDMEMBER k -9223372036854775808", range);
    check("ZRANDMEMBER k 9223372036854775807 WITHSCORES", "ERR value is out of range");
    check("ZRANDMEMBER k 1 FOO", "ERR syntax error");

    let mut shard = TestShard::new(FAMILIES);
    for n in 0..300 {
        shard.run(&format!("ZADD k {n} m{n}"));
    }
    for count in [1, 5, 99, 150, 299, 300] {
        let reply = shard.run(&format!("ZRANDMEMBER k {count}"));
        let mut members: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        members.sort_unstable();
        members.dedup();
        assert_eq!(members.len(), count);
    }
}

#[test]
fn sorted_sets_are_combined() {
    let two = "ZADD a 1 x 2 y | ZADD b 10 y 20 z";
    let both = |command: &str, reply: &str| check(&format!("{two} | {command}"), &format!(":2 | :2 | {reply}"));
    both("ZUNION 2 a b WITHSCORES", "[x 1 y 12 z 20]");
    both("ZUNION 2 a b WEIGHTS 2 -1 WITHSCORES", "[z -20 y -6 x 2]");
    both("ZUNION 2 a b AGGREGATE MAX WITHSCORES", "[x 1 y 10 z 20]");
    both("ZINTER 2 a b AGGREGATE MIN WITHSCORES", "[y 2]");
    both("ZINTER 3 a b c", "[]");
    both("ZDIFF 2 a b WITHSCORES", "[x 1]");
    both("ZDIFF 1 c", "[]");
    both("ZINTERCARD 2 a a | ZINTERCARD 2 a a LIMIT 1", ":2 | :1");
    both("ZUNIONSTORE d 2 a b | ZRANGE d 0 -1 WITHSCORES", ":3 | [x 1 y 12 z 20]");
    both("ZINTERSTORE a 2 a b WEIGHTS 1 0.5 | ZRANGE a 0 -1 WITHSCORES", ":1 | [y 7]");
    both("ZDIFFSTORE a 2 a a | EXISTS a", ":0 | :0");
    check("ZADD a inf x | ZADD b -inf x | ZUNION 2 a b WITHSCORES", ":1 | :1 | [x 0]");
    check("ZADD a inf x | ZUNION 1 a WEIGHTS 0 WITHSCORES", ":1 | [x 0]");
}

#[test]
fn members_of_plain_sets_have_the_score_one() {
    let two = "SADD s 1 2 x | ZADD z 5 2 7 y";
    let both = |command: &str, reply: &str| check(&format!("{two} | {command}"), &format!(":3 | :2 | {reply}"));
    both("ZUNION 2 s z WITHSCORES", "[1 1 x 1 2 6 y 7]");
    both("ZINTER 2 z s WEIGHTS 1 10 WITHSCORES", "[2 15]");
    both("ZDIFF 2 s z WITHSCORES", "[1 1 x 1]");
    both("ZDIFF 2 z s | ZINTERCARD 2 z s", "[y] | :1");
    both("ZUNIONSTORE s 1 s | TYPE s", ":3 | zset");
}

#[test]
fn combining_refuses() {
    check("ZUNION 0 a", "ERR at least 1 input key is needed for 'zunion' command");
    check("ZINTERSTORE d x a", "ERR value is not an integer or out of range");
    for command in [
        "ZUNION 2 a",
        "ZUNION 1 a WEIGHTS",
        "ZUNION 1 a AGGREGATE AVG",
        "ZDIFF 1 a WEIGHTS 1",
        "ZUNIONSTORE d 1 a WITHSCORES",
        "ZINTERCARD 1 a WITHSCORES",
        "ZINTER 1 a LIMIT 1",
    ] {
        check(command, "ERR syntax error");
    }
    check("ZUNION 1 a WEIGHTS x", "ERR weight value is not a float");
    check("ZINTERCARD 1 a LIMIT -1", "ERR LIMIT can't be negative");
}

#[test]
fn zscan_walks() {
    check(
        "ZSCAN k 0 | ZADD k 1 a 2.5 b | ZSCAN k 0 | ZSCAN k 0 MATCH b",
        "[0 []] | :2 | [0 [a 1 b 2.5]] | [0 [b 2.5]]",
    );
    check(
        "ZADD k 1 a | ZSCAN k 0 NOSCORES | ZSCAN k 0 NOVALUES",
        ":1 | [0 [a]] | ERR NOVALUES option can only be used in HSCAN",
    );
    check("ZSCAN k x", "ERR invalid cursor");
    for (score, text) in [(0.1, "0.10000000000000001"), (1e-7, "9.9999999999999995e-08"), (3.0, "3"), (1e17, "1e+17")] {
        assert_eq!(String::from_utf8_lossy(&long_score_text(score)), text);
        assert_eq!(String::from_utf8_lossy(&long_score_text(-score)), format!("-{text}"));
    }
    assert_eq!(long_score_text(f64::INFINITY), b"inf");
    assert_eq!(long_score_text(12_345_678_901_234_567.0), b"12345678901234568");
}

#[test]
fn encodings_change_as_in_redis() {
    let long = "m".repeat(65);
    check(&format!("ZADD k 1 {long} | OBJECT ENCODING k"), ":1 | skiplist");
    check(&format!("ZADD k 1 a | ZADD k XX 1 {long} | OBJECT ENCODING k"), ":1 | :0 | skiplist");
    let pairs: String = (0..129).map(|n| format!(" {n} a")).collect();
    check(&format!("ZADD k{pairs} | ZCARD k | OBJECT ENCODING k"), ":1 | :1 | skiplist");
    let many: String = (0..129).map(|n| format!(" {n} m{n}")).collect();
    check(&format!("ZADD k{many} | ZRANGESTORE d k 0 127 | OBJECT ENCODING d"), ":129 | :128 | listpack");
    check(&format!("ZADD k{many} | ZUNIONSTORE d 1 k | OBJECT ENCODING d"), ":129 | :129 | skiplist");
    check(&format!("ZADD k{many} | ZRANGEBYSCORE k 0 2 LIMIT -1 -1"), ":129 | [m2]");
}

#[test]
fn effects_are_deterministic() {
    effects("ZADD k 1 a 2.50 b", "ZADD k 1 a 2.50 b");
    effects("ZADD k 1 a | ZADD k XX CH 1 a 2 b", "");
    effects("ZADD k 5 a 5 b | ZADD k GT 6 a 4 b 1 c", "ZADD k 6 a 1 c");
    effects("ZADD k 0.1 a | ZINCRBY k 0.2 a", "ZADD k 0.30000000000000004 a");
    effects("ZADD k 1 a | ZADD k INCR 0 a", "");
    effects("ZADD k 1 a 2 b | ZREM k x a y", "ZREM k a");
    effects("ZADD k 1 a 2 b | ZPOPMAX k 5", "ZPOPMAX k 2");
    effects("ZADD k 1 a 2 b | ZMPOP 2 x k MIN", "ZPOPMIN k 1");
    effects("ZADD k 1 a 2 b | ZREMRANGEBYSCORE k 5 6", "");
    effects("ZADD k 1 a 2 b | ZREMRANGEBYSCORE k 1 1", "ZREMRANGEBYSCORE k 1 1");
    effects("ZADD {k}s 1 a | ZUNIONSTORE k 1 {k}s", "ZUNIONSTORE k 1 {k}s");
    effects("ZADD {k}s 1 a | ZRANGESTORE k {k}s 0 -1", "ZRANGESTORE k {k}s 0 -1");
    effects("SET d v | ZUNIONSTORE d 1 k", "DEL d");
    effects("ZUNIONSTORE d 1 k", "");
}

#[test]
fn a_result_from_another_slot_is_replayed_whole() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("ZADD a 1 x 2 y | ZADD b 3 z | ZADD c 0 w");
    shard.ctx.journal.record();
    shard.run("ZUNIONSTORE c 2 a b");
    let recorded = shard.ctx.journal.take();
    let mut replica = TestShard::new(FAMILIES);
    replica.run("ZADD c 0 w");
    replica.replay(&recorded);
    assert_eq!(replica.run("ZRANGE c 0 -1 WITHSCORES"), "[x 1 y 2 z 3]");
}

/// Recorded from valkey-server 8.0.1 and redis-server 7.0: what they dump is read, and dumped again as the first does.
#[test]
fn payloads_are_those_of_redis() {
    const SMALL: &str =
        r"\x11\x11\x11\x00\x00\x00\x04\x00\x81a\x02\x01\x01\x81b\x02\x02\x01\xff\x0b\x00\xd3\xd8OWTMf\xdc";
    const SMALL_OF_7_0: &str =
        r"\x11\x11\x11\x00\x00\x00\x04\x00\x81a\x02\x01\x01\x81b\x02\x02\x01\xff\x0a\x00\xba\x07\xf2$\xa9\xd2\x8fU";
    const COMPRESSED: &str = r"\x11\xc3@M@s\x11s\x00\x00\x00\x10\x00\x88member:0\x09\x00\x01\xc0\x0b\x061\x09\x830.5\x04\xc0\x0e\x022\x09\x01\xe0\x00\x1a\x033\x09\x831\xe0\x02\x1a\x024\x09\x02\xe0\x00\x1a\x035\x09\x832\xe0\x02\x1a\x026\x09\x03\xe0\x00\x1a\x037\x09\x833 \x1a\x00\xff\x0b\x00\x9b\x9c\x9eS\xb68\x12\x8f";
    const LARGE: &str = r"\x05\x03\x01b\x00\x00\x00\x00\x00\x00\x00@\x01a\x00\x00\x00\x00\x00\x00\xf8?\xc0\x0c\x00\x00\x00\x00\x00\x00\xf0\xff\x0b\x00\xcci\x1a\xd6\xed3\xe0\xbe";
    const LARGE_OF_7_0: &str = r"\x05\x03\x01b\x00\x00\x00\x00\x00\x00\x00@\x01a\x00\x00\x00\x00\x00\x00\xf8?\xc0\x0c\x00\x00\x00\x00\x00\x00\xf0\xff\x0a\x00\xa5\xb6\xa7\xa5\x10\xac\x097";

    check("ZADD k 1 a 2 b | DUMP k", &format!(":2 | \"{SMALL}\""));
    for payload in [SMALL, SMALL_OF_7_0] {
        let script = format!("RESTORE k 0 \"{payload}\" | ZRANGE k 0 -1 WITHSCORES | OBJECT ENCODING k | DUMP k");
        check(&script, &format!("OK | [a 1 b 2] | listpack | \"{SMALL}\""));
    }
    for payload in [LARGE, LARGE_OF_7_0] {
        let script = format!("RESTORE k 0 \"{payload}\" | ZRANGE k 0 -1 WITHSCORES | OBJECT ENCODING k");
        check(&script, "OK | [12 -inf a 1.5 b 2] | listpack");
    }
    let script = format!("RESTORE k 0 \"{COMPRESSED}\" | ZRANGE k -2 -1 WITHSCORES | ZCARD k");
    check(&script, "OK | [\"member:6\" 3 \"member:7\" 3.5] | :8");

    let mut shard = TestShard::new(FAMILIES);
    std::sync::Arc::make_mut(&mut shard.ctx.config).zset_max_listpack_entries = 1;
    assert_eq!(shard.run("ZADD k 1.5 a -inf 12 2 b | DUMP k"), format!(":3 | \"{LARGE}\""));
}
