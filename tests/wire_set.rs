//! Set commands through the public client library, on keys of all shards.

mod common;

use std::collections::BTreeSet;

use common::{Server, with_shards};
use redis::{Commands, Connection, RedisResult, Value, cmd};

type Members = BTreeSet<String>;

/// Enough keys that every shard has some.
fn keys(prefix: &str) -> Vec<String> {
    (0..40).map(|n| format!("{prefix}:{n}")).collect()
}

fn members(texts: &[&str]) -> Members {
    texts.iter().map(|text| (*text).to_owned()).collect()
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

#[test]
fn members_come_and_go() {
    with_clients(|client| {
        for key in keys("set") {
            assert_eq!(client.sadd::<_, _, usize>(&key, &["a", "b", "1"]).unwrap(), 3);
            assert_eq!(client.sadd::<_, _, usize>(&key, &["a", "c"]).unwrap(), 1);
            assert_eq!(client.smembers::<_, Members>(&key).unwrap(), members(&["1", "a", "b", "c"]));
            assert_eq!(client.smismember::<_, _, Vec<bool>>(&key, &["c", "d"]).unwrap(), [true, false]);
            assert_eq!(client.srem::<_, _, usize>(&key, &["a", "d"]).unwrap(), 1);
            let drawn: String = client.srandmember(&key).unwrap();
            assert!(client.sismember::<_, _, bool>(&key, &drawn).unwrap());
            let popped: Members = cmd("SPOP").arg(&key).arg(2).query(client).unwrap();
            assert_eq!((popped.len(), client.scard::<_, usize>(&key).unwrap()), (2, 1));
            let last: Option<String> = client.spop(&key).unwrap();
            assert!(last.is_some_and(|last| !popped.contains(&last)));
            assert!(!client.exists::<_, bool>(&key).unwrap());
        }
    });
}

#[test]
fn algebra_over_shards() {
    with_clients(|client| {
        let keys = keys("algebra");
        for (n, key) in keys.iter().enumerate() {
            let () = client.sadd(key, &["all", &format!("own{n}"), &format!("third{}", n % 3)]).unwrap();
        }
        assert_eq!(client.sinter::<_, Members>(&keys).unwrap(), members(&["all"]));
        assert_eq!(client.sunion::<_, Members>(&keys).unwrap().len(), 1 + 3 + keys.len());
        assert_eq!(client.sdiff::<_, Members>(&keys).unwrap(), members(&["own0"]));
        let thirds: Vec<&String> = keys.iter().step_by(3).collect();
        assert_eq!(client.sinter::<_, Members>(&thirds).unwrap(), members(&["all", "third0"]));
        let count: usize =
            cmd("SINTERCARD").arg(2).arg(&keys[0]).arg(&keys[3]).arg("LIMIT").arg(1).query(client).unwrap();
        assert_eq!(count, 1);
        for (n, target) in self::keys("result").iter().enumerate() {
            let () = client.set(target, "in the way").unwrap();
            assert_eq!(client.sunionstore::<_, _, usize>(target, &keys[..n + 1]).unwrap(), n + 2 + (n + 1).min(3));
            assert_eq!(client.sinterstore::<_, _, usize>(target, &keys).unwrap(), 1);
            assert_eq!(client.smembers::<_, Members>(target).unwrap(), members(&["all"]));
            let sources: Vec<&String> = [target].into_iter().chain(&keys).collect();
            assert_eq!(client.sdiffstore::<_, _, usize>(target, &sources).unwrap(), 0);
            assert!(!client.exists::<_, bool>(target).unwrap());
        }
    });
}

#[test]
fn members_move_between_shards() {
    with_clients(|client| {
        let keys = keys("move");
        let () = client.sadd(&keys[0], &["moved", "kept"]).unwrap();
        for pair in keys.windows(2) {
            assert!(client.smove::<_, _, _, bool>(&pair[0], &pair[1], "moved").unwrap());
            assert!(!client.smove::<_, _, _, bool>(&pair[0], &pair[1], "moved").unwrap());
        }
        assert_eq!(client.smembers::<_, Members>(&keys[0]).unwrap(), members(&["kept"]));
        assert_eq!(client.smembers::<_, Members>(keys.last().unwrap()).unwrap(), members(&["moved"]));
        assert_eq!(cmd("DBSIZE").query::<usize>(client).unwrap(), 2);
        let () = client.set("text", "v").unwrap();
        let refused: RedisResult<bool> = client.smove(keys.last().unwrap(), "text", "moved");
        assert_eq!(refused.unwrap_err().code(), Some("WRONGTYPE"));
    });
}

#[test]
fn a_scan_finds_what_stays() {
    with_clients(|client| {
        let count = 3000;
        let all: Members = (0..count).map(|n| format!("member:{n}")).collect();
        let () = client.sadd("scanned", &all).unwrap();
        let (mut found, mut cursor, mut calls) = (Members::new(), 0u64, 0);
        loop {
            let (next, page): (u64, Vec<String>) =
                cmd("SSCAN").arg("scanned").arg(cursor).arg("MATCH").arg("*[02468]").query(client).unwrap();
            found.extend(page);
            let () = client.srem("scanned", format!("member:{}", 2 * calls + 1)).unwrap();
            calls += 1;
            if next == 0 {
                break;
            }
            cursor = next;
        }
        assert_eq!((found.len(), calls > 50), (count / 2, true));
    });
}

/// Recorded from redis-server 7.0, which has no listpacks of members, and from valkey-server 8.0.1; what we write is
/// restored by both.
#[test]
fn payloads_go_round() {
    with_clients(|client| {
        for (payload, expected) in PAYLOADS {
            let () = cmd("RESTORE").arg("r").arg(0).arg(*payload).arg("REPLACE").query(client).unwrap();
            assert_eq!(client.smembers::<_, Members>("r").unwrap(), members(expected));
            let dumped: Vec<u8> = cmd("DUMP").arg("r").query(client).unwrap();
            let () = cmd("RESTORE").arg("r").arg(0).arg(dumped).arg("REPLACE").query(client).unwrap();
            assert_eq!(client.smembers::<_, Members>("r").unwrap(), members(expected));
        }
    });
}

/// One connection's pipeline over shards: sets are replied as such in RESP3.
#[test]
fn sets_have_a_type_of_their_own() {
    let server = Server::start(2);
    let mut client = server.redis3();
    let () = client.sadd("k", "a").unwrap();
    for command in ["SMEMBERS", "SINTER", "SUNION", "SDIFF"] {
        let reply: Value = cmd(command).arg("k").query(&mut client).unwrap();
        assert_eq!(reply, Value::Set(vec![Value::BulkString(b"a".to_vec())]), "{command}");
    }
    let reply: Value = cmd("SRANDMEMBER").arg("k").arg(1).query(&mut client).unwrap();
    assert_eq!(reply, Value::Array(vec![Value::BulkString(b"a".to_vec())]));
    let reply: Value = cmd("SPOP").arg("k").arg(1).query(&mut client).unwrap();
    assert_eq!(reply, Value::Set(vec![Value::BulkString(b"a".to_vec())]));
}

const PAYLOADS: &[(&[u8], &[&str])] = &[
    (b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00\x0a\x00\xa5\x02\\\xe2mnM\x1b", &["1", "2", "3"]),
    (b"\x0b\x18\x08\x00\x00\x00\x02\x00\x00\x00\x00\xe6\x8e\xe7\xfd\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x0a\x00r%\x90\x06y\x92@\xf1", &["1", "-9000000000"]),
    (b"\x02\x03\x01b\xc0\x11\x01a\x0a\x004\x90\xd7\xb6\xbbR&7", &["a", "b", "17"]),
    (b"\x02\x02\xc3\x09@A\x01xx\xe04\x00\x01xx\x01y\x0a\x00\xcd\xe45O\xa0\x80t\x9e", &["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "y"]),
    (b"\x02\x04\xc0\x05\x08member:1\x08member:3\x08member:2\x0a\x00\x1f<\xe0\xe0dY\xe5\xb8", &["member:1", "member:2", "member:3", "5"]),
    (b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00\x0b\x00\xcc\xdd\xe1\x91\x90\xf1\xa4\x92", &["1", "2", "3"]),
    (b"\x0b\x18\x08\x00\x00\x00\x02\x00\x00\x00\x00\xe6\x8e\xe7\xfd\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x0b\x00\x1b\xfa-u\x84\x0d\xa9x", &["1", "-9000000000"]),
    (b"\x14\x0f\x0f\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x11\x01\xff\x0b\x00s\xdf\x0a\x12\x9b\xb5\xa8I", &["a", "b", "17"]),
    (b"\x02\x02\xc3\x09@A\x01xx\xe04\x00\x01xx\x01y\x0b\x00\xa4;\x88<]\x1f\x9d\x17", &["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "y"]),
    (b"\x14\xc3\x1e'\x0f'\x00\x00\x00\x04\x00\x88member:1\x09\xc0\x09\x002\xe0\x00\x09\x043\x09\x05\x01\xff\x0b\x00\xcbZ>\xbc\xab\xec\xc3\x95", &["member:1", "member:2", "member:3", "5"]),
];
