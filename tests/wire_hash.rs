//! Hash commands through the public client library, on keys of all shards.

mod common;

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use common::with_shards;
use redis::{Commands, Connection, Value, cmd};

/// Enough keys that every shard has some.
fn keys(prefix: &str) -> Vec<String> {
    (0..40).map(|n| format!("{prefix}:{n}")).collect()
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
fn small_and_large_hashes_hold_what_was_set() {
    with_clients(|client| {
        for (index, key) in keys("hash").iter().enumerate() {
            let fields: Vec<(String, i64)> = (0..index as i64 * 30).map(|n| (format!("f{n}"), n)).collect();
            for chunk in fields.chunks(100) {
                let () = client.hset_multiple(key, chunk).unwrap();
            }
            assert_eq!(client.hlen::<_, usize>(key).unwrap(), fields.len());
            assert_eq!(client.hgetall::<_, HashMap<String, i64>>(key).unwrap(), fields.iter().cloned().collect());
            assert_eq!(client.hget::<_, _, Option<i64>>(key, "none").unwrap(), None);
            for (field, value) in fields.iter().take(3) {
                assert_eq!(client.hget::<_, _, i64>(key, field).unwrap(), *value);
                assert_eq!(client.hincr::<_, _, _, i64>(key, field, 10).unwrap(), value + 10);
                assert_eq!(client.hdel::<_, _, i64>(key, field).unwrap(), 1);
            }
            let scanned: HashSet<String> =
                client.hscan::<_, (String, i64)>(key).unwrap().map(|pair| pair.unwrap().0).collect();
            assert_eq!(scanned.len(), fields.len().saturating_sub(3));
        }
    });
}

#[test]
fn hashes_move_copy_and_dump() {
    with_clients(|client| {
        for key in keys("move") {
            let () = client.hset_multiple(&key, &[("a", "1"), ("b", "007"), ("c", "")]).unwrap();
            let (copy, moved, restored) = (format!("{key}:copy"), format!("{key}:moved"), format!("{key}:restored"));
            let () = cmd("COPY").arg(&key).arg(&copy).query(client).unwrap();
            let () = client.rename(&key, &moved).unwrap();
            let payload: Vec<u8> = cmd("DUMP").arg(&moved).query(client).unwrap();
            let () = cmd("RESTORE").arg(&restored).arg(0).arg(payload).query(client).unwrap();
            for key in [copy, moved, restored] {
                let held: Vec<String> = client.hmget(&key, &["a", "b", "c"]).unwrap();
                assert_eq!(held, ["1", "007", ""]);
            }
            assert!(!client.exists::<_, bool>(&key).unwrap());
        }
    });
}

#[test]
fn shapes_of_replies() {
    with_shards(|server| {
        let (mut client, mut client3) = (server.redis(), server.redis3());
        let () = client.hset("h", "f", "v").unwrap();
        let bulk = |text: &str| Value::BulkString(text.into());
        let ask = |client: &mut Connection, command: &str| -> Value {
            let mut words = command.split(' ');
            let mut request = cmd(words.next().unwrap());
            words.for_each(|word| {
                request.arg(word);
            });
            request.query(client).unwrap()
        };
        let flat = Value::Array(vec![bulk("f"), bulk("v")]);
        assert_eq!(ask(&mut client, "HGETALL h"), flat);
        assert_eq!(ask(&mut client3, "HGETALL h"), Value::Map(vec![(bulk("f"), bulk("v"))]));
        assert_eq!(ask(&mut client3, "HGETALL none"), Value::Map(vec![]));
        assert_eq!(ask(&mut client, "HRANDFIELD h 1 WITHVALUES"), flat);
        assert_eq!(ask(&mut client3, "HRANDFIELD h 1 WITHVALUES"), Value::Array(vec![flat.clone()]));
        assert_eq!(ask(&mut client3, "HRANDFIELD none 1 WITHVALUES"), Value::Array(vec![]));
        assert_eq!(ask(&mut client3, "HSCAN h 0"), Value::Array(vec![bulk("0"), flat]));
        assert_eq!(ask(&mut client3, "HGET h none"), Value::Nil);
    });
}

/// On all shards: nobody asks for the hashes, and yet they go.
#[test]
fn fields_expire_by_themselves() {
    with_shards(|server| {
        let mut client = server.redis();
        let (short, kept) = (keys("short"), keys("kept"));
        for key in short.iter().chain(&kept) {
            let () = client.hset_multiple(key, &[("a", 1), ("b", 2)]).unwrap();
            let ms = if key.starts_with("short") { 50 } else { 500_000 };
            let set: Vec<i64> =
                cmd("HPEXPIRE").arg(key).arg(ms).arg("FIELDS").arg(3).arg(&["a", "b", "c"]).query(&mut client).unwrap();
            assert_eq!(set, [1, 1, -2]);
        }
        let start = Instant::now();
        while cmd("DBSIZE").query::<usize>(&mut client).unwrap() != kept.len() {
            assert!(start.elapsed() < Duration::from_secs(10), "the hashes stay");
            thread::sleep(Duration::from_millis(20));
        }
        for key in &kept {
            let copy = format!("{key}:copy");
            let () = cmd("COPY").arg(key).arg(&copy).query(&mut client).unwrap();
            let left: Vec<i64> = cmd("HTTL").arg(&copy).arg("FIELDS").arg(1).arg("a").query(&mut client).unwrap();
            assert!((450..=500).contains(&left[0]), "{left:?}");
        }
    });
}
