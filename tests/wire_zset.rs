//! Sorted set commands through the public client library, on keys of all shards.

mod common;

use common::with_shards;
use redis::{Commands, Connection, RedisResult, Value, cmd};

/// Enough keys that every shard has some.
fn keys(prefix: &str) -> Vec<String> {
    (0..20).map(|n| format!("{prefix}:{n}")).collect()
}

fn error_of<T: std::fmt::Debug>(result: RedisResult<T>) -> String {
    let error = result.expect_err("this must fail");
    format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default())
}

/// The same for both protocols, on one, two and four shards.
fn with_clients(test: impl Fn(&mut Connection)) {
    with_shards(|server| {
        for mut client in [server.redis(), server.redis3()] {
            test(&mut client);
            let () = cmd("FLUSHALL").query(&mut client).unwrap();
        }
    });
}

fn pairs(members: &[(&str, f64)]) -> Vec<(String, f64)> {
    members.iter().map(|&(member, score)| (member.to_owned(), score)).collect()
}

#[test]
fn members_are_kept_in_order() {
    with_clients(|client| {
        for key in keys("order") {
            let added: i64 = client.zadd_multiple(&key, &[(3.0, "c"), (1.0, "a"), (2.5, "b")]).unwrap();
            assert_eq!(added, 3);
            assert_eq!(client.zrange::<_, Vec<String>>(&key, 0, -1).unwrap(), ["a", "b", "c"]);
            let scored: Vec<(String, f64)> = client.zrevrange_withscores(&key, 0, 1).unwrap();
            assert_eq!(scored, pairs(&[("c", 3.0), ("b", 2.5)]));
            assert_eq!(client.zscore::<_, _, f64>(&key, "b").unwrap(), 2.5);
            assert_eq!(client.zincr::<_, _, _, f64>(&key, "b", -2).unwrap(), 0.5);
            assert_eq!(client.zrank::<_, _, i64>(&key, "b").unwrap(), 0);
            assert_eq!(client.zpopmax::<_, Vec<(String, f64)>>(&key, 2).unwrap(), pairs(&[("c", 3.0), ("a", 1.0)]));
            assert_eq!(client.zrem::<_, _, i64>(&key, "b").unwrap(), 1);
            assert!(!client.exists::<_, bool>(&key).unwrap());
        }
    });
}

/// Large enough for several levels of the tree, with every command that finds by order.
#[test]
fn a_large_set_is_searched() {
    const LEN: usize = 5000;
    with_clients(|client| {
        for chunk in (0..LEN).collect::<Vec<_>>().chunks(500) {
            // In an order that is neither ascending nor descending.
            let members: Vec<(f64, String)> =
                chunk.iter().map(|n| n * 2417 % LEN).map(|n| (n as f64, format!("{n:05}"))).collect();
            let () = client.zadd_multiple("large", &members).unwrap();
        }
        let encoding: String = cmd("OBJECT").arg("ENCODING").arg("large").query(client).unwrap();
        assert_eq!(encoding, "skiplist");
        assert_eq!(client.zcard::<_, usize>("large").unwrap(), LEN);
        for n in (0..LEN).step_by(499) {
            assert_eq!(client.zrank::<_, _, usize>("large", format!("{n:05}")).unwrap(), n);
            assert_eq!(client.zrange::<_, Vec<String>>("large", n as isize, n as isize).unwrap(), [format!("{n:05}")]);
            assert_eq!(client.zcount::<_, _, _, usize>("large", format!("({n}"), "+inf").unwrap(), LEN - n - 1);
        }
        assert_eq!(client.zrembyscore::<_, _, _, usize>("large", 1000, "(4000").unwrap(), 3000);
        assert_eq!(client.zremrangebyrank::<_, usize>("large", 0, 999).unwrap(), 1000);
        assert_eq!(client.zrange::<_, Vec<String>>("large", 0, 0).unwrap(), ["04000"]);
        let mut walked: Vec<(String, f64)> = client.zscan("large").unwrap().map(Result::unwrap).collect();
        walked.sort_by(|a, b| a.0.cmp(&b.0));
        walked.dedup();
        assert_eq!(walked, (4000..LEN).map(|n| (format!("{n:05}"), n as f64)).collect::<Vec<_>>());
    });
}

#[test]
fn sets_on_several_shards_are_combined() {
    with_clients(|client| {
        for (n, key) in keys("combined").iter().enumerate() {
            let () = client.zadd(key, "all", 1).unwrap();
            let () = client.zadd(key, n, n).unwrap();
        }
        let sources = keys("combined");
        assert_eq!(client.zunionstore::<_, _, usize>("union", &sources).unwrap(), 21);
        assert_eq!(client.zscore::<_, _, f64>("union", "all").unwrap(), 20.0);
        assert_eq!(client.zinterstore::<_, _, usize>("common", &sources).unwrap(), 1);
        assert_eq!(client.zrange::<_, Vec<String>>("common", 0, -1).unwrap(), ["all"]);
        let () = client.sadd("plain", &["all", "3"]).unwrap();
        let union: Vec<String> = cmd("ZUNION").arg(2).arg("plain").arg("common").query(client).unwrap();
        assert_eq!(union, ["3", "all"]);
        let left: i64 = cmd("ZDIFFSTORE").arg("left").arg(2).arg("union").arg("plain").query(client).unwrap();
        assert_eq!(left, 19);
        let stored: i64 = cmd("ZRANGESTORE").arg("first").arg("left").arg(0).arg(4).query(client).unwrap();
        assert_eq!(stored, 5);
        let popped: (String, Vec<(String, f64)>) =
            cmd("ZMPOP").arg(3).arg("none").arg("first").arg("left").arg("MIN").query(client).unwrap();
        assert_eq!(popped, ("first".to_owned(), pairs(&[("0", 0.0)])));
        assert_eq!(client.zcard::<_, usize>("first").unwrap(), 4);
        let none: i64 = cmd("ZINTERSTORE").arg("union").arg(2).arg("none").arg("left").query(client).unwrap();
        assert_eq!((none, client.exists::<_, bool>("union").unwrap()), (0, false));
    });
}

#[test]
fn a_set_moves_as_a_payload() {
    with_clients(|client| {
        for len in [3, 300] {
            let members: Vec<(f64, String)> = (0..len).map(|n| (f64::from(n) / 4.0, format!("m{n}"))).collect();
            let () = client.zadd_multiple("source", &members).unwrap();
            let payload: Vec<u8> = cmd("DUMP").arg("source").query(client).unwrap();
            for key in keys("target") {
                let () = cmd("RESTORE").arg(&key).arg(0).arg(&payload).arg("REPLACE").query(client).unwrap();
                assert_eq!(client.zcard::<_, i32>(&key).unwrap(), len);
                assert_eq!(client.zscore::<_, _, f64>(&key, "m2").unwrap(), 0.5);
            }
        }
    });
}

#[test]
fn what_is_no_sorted_set_is_refused() {
    with_clients(|client| {
        let () = client.set("text", "v").unwrap();
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(error_of(client.zadd::<_, _, _, Value>("text", "m", 1)), wrong);
        assert_eq!(error_of(client.zcard::<_, Value>("text")), wrong);
        let () = client.zadd("zset", "m", f64::INFINITY).unwrap();
        assert_eq!(error_of(client.zunionstore::<_, _, Value>("target", &["zset", "text"])), wrong);
        let nan = client.zincr::<_, _, _, Value>("zset", "m", f64::NEG_INFINITY);
        assert_eq!(error_of(nan), "ERR resulting score is not a number (NaN)");
    });
}
