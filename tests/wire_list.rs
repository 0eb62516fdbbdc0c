//! List commands through the public client library, on keys of all shards.

mod common;

use common::with_shards;
use redis::{Commands, Connection, Direction, LposOptions, RedisResult, Value, cmd};

/// Enough keys that every shard has some.
fn keys(prefix: &str) -> Vec<String> {
    (0..30).map(|n| format!("{prefix}:{n}")).collect()
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

fn encoding(client: &mut Connection, key: &str) -> String {
    cmd("OBJECT").arg("ENCODING").arg(key).query(client).unwrap()
}

fn all(client: &mut Connection, key: &str) -> Vec<String> {
    client.lrange(key, 0, -1).unwrap()
}

#[test]
fn what_is_pushed_is_popped() {
    with_clients(|client| {
        for key in keys("push") {
            assert_eq!(client.rpush::<_, _, usize>(&key, &["b", "c"]), Ok(2));
            assert_eq!(client.lpush::<_, _, usize>(&key, "a"), Ok(3));
            assert_eq!(all(client, &key), ["a", "b", "c"]);
            assert_eq!(client.lindex::<_, Option<String>>(&key, -1), Ok(Some("c".to_owned())));
            assert_eq!(client.lpop::<_, Option<String>>(&key, None), Ok(Some("a".to_owned())));
            let both = std::num::NonZeroUsize::new(2);
            assert_eq!(client.rpop::<_, Vec<String>>(&key, both), Ok(vec!["c".to_owned(), "b".to_owned()]));
            assert_eq!(client.exists::<_, bool>(&key), Ok(false));
            assert_eq!(client.lpop::<_, Value>(&key, None), Ok(Value::Nil));
            assert_eq!(client.lpush_exists::<_, _, usize>(&key, "a"), Ok(0));
        }
        let wrong: RedisResult<usize> = client.set::<_, _, ()>("text", "x").and_then(|()| client.llen("text"));
        assert_eq!(wrong.unwrap_err().code(), Some("WRONGTYPE"));
    });
}

#[test]
fn a_long_list_changes_at_both_ends_and_inside() {
    with_clients(|client| {
        let mut model: Vec<String> = (0..5_000).map(|n| format!("element {n}")).collect();
        for chunk in model.chunks(1_000) {
            let _: usize = client.rpush("long", chunk).unwrap();
        }
        assert_eq!(encoding(client, "long"), "quicklist");
        for index in [0, 1, 2_499, 4_999] {
            assert_eq!(client.lindex::<_, String>("long", index).unwrap(), model[index as usize]);
            let () = client.lset("long", index, "new").unwrap();
            model[index as usize] = "new".to_owned();
        }
        let found: Vec<usize> = client.lpos("long", "new", LposOptions::default().count(0)).unwrap();
        assert_eq!(found, [0, 1, 2_499, 4_999]);
        assert_eq!(client.linsert_before::<_, _, _, i64>("long", "element 3000", "x").unwrap(), 5_001);
        model.insert(3_000, "x".to_owned());
        assert_eq!(client.lrem::<_, _, usize>("long", -1, "new"), Ok(1));
        model.pop();
        assert_eq!(all(client, "long"), model);
        let () = client.ltrim("long", 2_990, 3_009).unwrap();
        assert_eq!(all(client, "long"), model[2_990..3_010]);
        let () = client.ltrim("long", 0, 0).unwrap();
        assert_eq!(encoding(client, "long"), "listpack");
    });
}

#[test]
fn elements_move_between_shards() {
    with_clients(|client| {
        let (from, to) = (keys("from"), keys("to"));
        for (source, destination) in from.iter().zip(&to) {
            let _: usize = client.rpush(source, &["a", "b", "c"]).unwrap();
            let moved: Value = client.lmove(source, destination, Direction::Left, Direction::Right).unwrap();
            assert_eq!(moved, Value::BulkString(b"a".to_vec()));
            assert_eq!(client.rpoplpush::<_, _, String>(source, destination).unwrap(), "c");
            assert_eq!(
                (all(client, source), all(client, destination)),
                (vec!["b".into()], vec!["c".into(), "a".into()])
            );
            assert_eq!(client.rpoplpush::<_, _, String>(source, destination).unwrap(), "b");
            assert_eq!(client.exists::<_, bool>(source), Ok(false));
            assert_eq!(client.rpoplpush::<_, _, Value>(source, destination).unwrap(), Value::Nil);
        }
        let popped: Option<(String, Vec<String>)> = client.lmpop(30, &to, Direction::Right, 2).unwrap();
        assert_eq!(popped, Some((to[0].clone(), vec!["a".to_owned(), "c".to_owned()])));
        assert_eq!(client.lmpop::<_, Value>(30, &from, Direction::Left, 1).unwrap(), Value::Nil);
    });
}

#[test]
fn payloads_keep_nodes_and_elements() {
    with_clients(|client| {
        for (size, depth) in [("-2", "0"), ("-1", "1"), ("3", "2")] {
            let () = cmd("CONFIG").arg("SET").arg("list-max-listpack-size").arg(size).query(client).unwrap();
            let () = cmd("CONFIG").arg("SET").arg("list-compress-depth").arg(depth).query(client).unwrap();
            let elements: Vec<String> = (0..400).map(|n| format!("{n}").repeat(1 + n % 40)).collect();
            let _: usize = client.rpush("kept", &elements).unwrap();
            let _: usize = client.rpush("kept", "z".repeat(100_000)).unwrap();
            let payload: Vec<u8> = cmd("DUMP").arg("kept").query(client).unwrap();
            let () = cmd("RESTORE").arg("copy").arg(0).arg(&payload).query(client).unwrap();
            let copied = all(client, "copy");
            assert!(copied == all(client, "kept"), "{size} {depth}");
            assert_eq!(copied.len(), 401);
            assert_eq!(cmd("DUMP").arg("copy").query::<Vec<u8>>(client).unwrap(), payload);
            assert_eq!(client.del::<_, usize>(&["kept", "copy"]), Ok(2));
        }
        let () = cmd("CONFIG").arg("SET").arg("list-max-listpack-size").arg("-2").query(client).unwrap();
        let () = cmd("CONFIG").arg("SET").arg("list-compress-depth").arg("0").query(client).unwrap();
    });
}
