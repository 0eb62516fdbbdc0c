//! Bitmaps and HyperLogLogs through the public client library, on keys of all shards.

mod common;

use common::with_shards;
use redis::{Commands, Connection, RedisResult, Value, cmd};

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
fn bits_of_many_keys() {
    with_clients(|client| {
        for n in 0..50 {
            let key = format!("bits:{n}");
            assert_eq!(client.setbit(&key, n, true), Ok(false));
            assert_eq!(client.getbit(&key, n), Ok(true));
            assert_eq!(client.bitcount::<_, usize>(&key), Ok(1));
            assert_eq!(cmd("BITPOS").arg(&key).arg(1).query::<usize>(client), Ok(n));
            let fields: Vec<Option<i64>> = cmd("BITFIELD")
                .arg(&key)
                .arg(&["SET", "i8", "#9", "-5", "OVERFLOW", "FAIL", "INCRBY", "i8", "#9", "-124", "GET", "u8", "#9"])
                .query(client)
                .unwrap();
            assert_eq!(fields, [Some(0), None, Some(251)]);
        }
    });
}

#[test]
fn strings_of_several_shards_are_combined() {
    with_clients(|client| {
        let sources: Vec<String> = (0..20).map(|n| format!("source:{n}")).collect();
        for (n, source) in sources.iter().enumerate() {
            let mut text = vec![0xff_u8; 40_000];
            text[n] = 0;
            let () = client.set(source, text).unwrap();
        }
        for target in 0..10 {
            let target = format!("target:{target}");
            assert_eq!(client.bit_and::<_, _, usize>(&target, &sources), Ok(40_000));
            assert_eq!(client.bitcount::<_, usize>(&target), Ok((40_000 - 20) * 8));
            assert_eq!(client.bit_not::<_, _, usize>(&target, &target), Ok(40_000));
            assert_eq!(client.bitcount::<_, usize>(&target), Ok(20 * 8));
            assert_eq!(client.bit_or::<_, _, usize>(&target, &["none:1", "none:2", "none:3"]), Ok(0));
            assert_eq!(client.exists::<_, bool>(&target), Ok(false));
        }
    });
}

#[test]
fn hyperloglogs_of_several_shards_are_united() {
    with_clients(|client| {
        let keys: Vec<String> = (0..10).map(|n| format!("hll:{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            let elements: Vec<usize> = (n * 500..n * 500 + 1000).collect();
            assert_eq!(client.pfadd::<_, _, bool>(key, elements), Ok(true));
            let count: f64 = client.pfcount(key).unwrap();
            assert!((count - 1000.0).abs() < 50.0, "{count}");
        }
        let count: f64 = client.pfcount(&keys).unwrap();
        assert!((count - 5500.0).abs() < 200.0, "{count}");
        for target in 0..5 {
            let target = format!("united:{target}");
            let () = client.pfmerge(&target, &keys).unwrap();
            assert_eq!(client.pfcount::<_, f64>(&target), Ok(count));
        }
        let () = client.set("string", "value").unwrap();
        let refused: RedisResult<Value> = client.pfcount(&["hll:1", "hll:2", "string"]);
        assert_eq!(refused.expect_err("no HyperLogLog").code(), Some("WRONGTYPE"));
        assert_eq!(cmd("PFSELFTEST").query(client), Ok(Value::Okay));
    });
}
