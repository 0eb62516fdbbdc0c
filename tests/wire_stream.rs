//! Stream commands through the public client library, on keys of all shards.

mod common;

use common::with_shards;
use redis::{Commands, Connection, RedisResult, Value, cmd};

fn with_clients(test: impl Fn(&mut Connection)) {
    with_shards(|server| {
        for mut client in [server.redis(), server.redis3()] {
            test(&mut client);
            let () = cmd("FLUSHALL").query(&mut client).unwrap();
        }
    });
}

fn words<T: redis::FromRedisValue>(client: &mut Connection, command: &str) -> RedisResult<T> {
    let mut words = command.split(' ');
    let mut command = cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(client)
}

type Entries = Vec<(String, Vec<String>)>;

#[test]
fn entries_are_added_and_read() {
    with_clients(|client| {
        for n in 0..30 {
            for seq in 1..=250 {
                let id: String = words(client, &format!("XADD s:{n} 5-{seq} field {seq}")).unwrap();
                assert_eq!(id, format!("5-{seq}"));
            }
            assert_eq!(words::<usize>(client, &format!("XLEN s:{n}")), Ok(250));
            let two: Entries = words(client, &format!("XRANGE s:{n} 5-200 + COUNT 2")).unwrap();
            let expected = [200, 201].map(|seq| (format!("5-{seq}"), vec!["field".to_owned(), seq.to_string()]));
            assert_eq!(two, expected);
            let last: Entries = words(client, &format!("XREVRANGE s:{n} + - COUNT 1")).unwrap();
            assert_eq!(last[0].0, "5-250");
            assert_eq!(words::<usize>(client, &format!("XTRIM s:{n} MAXLEN 10")), Ok(240));
            assert_eq!(words::<usize>(client, &format!("XDEL s:{n} 5-250 5-1")), Ok(1));
        }
    });
}

#[test]
fn several_streams_are_read_at_once() {
    with_clients(|client| {
        let keys: Vec<String> = (0..20).map(|n| format!("many:{n}")).collect();
        for key in &keys {
            let _: String = words(client, &format!("XADD {key} 1-1 f {key}")).unwrap();
        }
        let ids = vec!["0"; keys.len()].join(" ");
        let read: Vec<(String, Entries)> = words(client, &format!("XREAD STREAMS {} {ids}", keys.join(" "))).unwrap();
        let mut names: Vec<&String> = read.iter().map(|(key, _)| key).collect();
        names.sort_by_key(|name| keys.iter().position(|key| key == *name));
        assert_eq!(names, keys.iter().collect::<Vec<_>>());
        assert!(read.iter().all(|(key, entries)| entries[0].1 == ["f", key]));
        let ends = vec!["$"; keys.len()].join(" ");
        let nothing: Value = words(client, &format!("XREAD STREAMS {} {ends}", keys.join(" "))).unwrap();
        assert_eq!(nothing, Value::Nil);
    });
}

#[test]
fn a_group_reads_streams_of_all_shards() {
    with_clients(|client| {
        let keys: Vec<String> = (0..10).map(|n| format!("group:{n}")).collect();
        for key in &keys {
            let _: String = words(client, &format!("XADD {key} 1-1 f v")).unwrap();
            let () = words(client, &format!("XGROUP CREATE {key} g 0")).unwrap();
        }
        let read = |client: &mut Connection, id: &str| -> Value {
            let ids = vec![id; keys.len()].join(" ");
            words(client, &format!("XREADGROUP GROUP g c STREAMS {} {ids}", keys.join(" "))).unwrap()
        };
        assert_ne!(read(client, ">"), Value::Nil);
        // What was delivered is remembered where the streams live.
        assert_eq!(read(client, ">"), Value::Nil);
        assert_ne!(read(client, "0"), Value::Nil);
        for key in &keys {
            let pending: Vec<(String, String, u64, u64)> = words(client, &format!("XPENDING {key} g - + 10")).unwrap();
            let [(id, consumer, _, deliveries)] = &pending[..] else { panic!("one entry is pending, not {pending:?}") };
            assert_eq!((id.as_str(), consumer.as_str(), *deliveries), ("1-1", "c", 2));
            assert_eq!(words::<usize>(client, &format!("XACK {key} g 1-1")), Ok(1));
        }
    });
}

#[test]
fn streams_are_dumped_copied_and_dropped() {
    with_clients(|client| {
        for n in 0..10 {
            for seq in 1..=300 {
                let _: String = words(client, &format!("XADD from:{n} 7-{seq} f {seq}")).unwrap();
            }
            let () = words(client, &format!("XGROUP CREATE from:{n} g 0")).unwrap();
            let _: Value = words(client, &format!("XREADGROUP GROUP g c COUNT 5 STREAMS from:{n} >")).unwrap();
            let payload: Vec<u8> = words(client, &format!("DUMP from:{n}")).unwrap();
            let () = cmd("RESTORE").arg(format!("to:{n}")).arg(0).arg(&payload).query(client).unwrap();
            assert!(words::<bool>(client, &format!("COPY from:{n} copy:{n}")).unwrap());
            let full =
                |client: &mut Connection, key: &str| words::<Value>(client, &format!("XINFO STREAM {key}:{n} FULL"));
            let original = full(client, "from").unwrap();
            assert_eq!(full(client, "to").unwrap(), original);
            assert_eq!(full(client, "copy").unwrap(), original);
            assert_eq!(client.unlink::<_, usize>(&[format!("from:{n}"), format!("to:{n}")]), Ok(2));
            assert_eq!(words::<String>(client, &format!("OBJECT ENCODING copy:{n}")).unwrap(), "stream");
        }
    });
}

#[test]
fn only_who_finds_nothing_waits() {
    with_clients(|client| {
        assert_eq!(words::<Value>(client, "XREAD BLOCK 10 STREAMS nothing 0").unwrap(), Value::Nil);
        let _: String = words(client, "XADD something 1-1 f v").unwrap();
        assert_ne!(words::<Value>(client, "XREAD BLOCK 10 STREAMS something 0").unwrap(), Value::Nil);
    });
}
