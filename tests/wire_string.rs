//! String commands through the public client library, on keys of all shards.

mod common;

use common::{Server, with_shards};
use redis::{Commands, Connection, RedisResult, SetExpiry, SetOptions, Value, cmd};

/// Enough keys that every shard has some.
fn keys(prefix: &str) -> Vec<String> {
    (0..100).map(|n| format!("{prefix}:{n}")).collect()
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

#[test]
fn what_is_set_is_read() {
    with_clients(|client| {
        for key in keys("set") {
            assert_eq!(client.get::<_, Option<String>>(&key), Ok(None));
            let () = client.set(&key, &key).unwrap();
            assert_eq!(client.get::<_, String>(&key).unwrap(), key);
        }
        let () = client.set("", b"\0\r\n\xff".as_slice()).unwrap();
        assert_eq!(client.get::<_, Vec<u8>>("").unwrap(), b"\0\r\n\xff");
    });
}

#[test]
fn set_has_conditions_and_expiries() {
    with_clients(|client| {
        for key in keys("options") {
            let absent = || SetOptions::default().conditional_set(redis::ExistenceCheck::NX);
            let present = || SetOptions::default().conditional_set(redis::ExistenceCheck::XX).get(true);
            assert_eq!(client.set_options::<_, _, Value>(&key, 1, present()).unwrap(), Value::Nil);
            assert_eq!(client.set_options::<_, _, Value>(&key, 1, absent()).unwrap(), Value::Okay);
            assert_eq!(client.set_options::<_, _, Value>(&key, 2, absent()).unwrap(), Value::Nil);
            assert_eq!(client.set_options::<_, _, i64>(&key, 3, present()).unwrap(), 1);
            let limited = SetOptions::default().with_expiration(SetExpiry::EX(100));
            let () = client.set_options(&key, 4, limited).unwrap();
            assert!((99..=100).contains(&client.ttl::<_, i64>(&key).unwrap()));
            let () = client.set_options(&key, 5, SetOptions::default().with_expiration(SetExpiry::KEEPTTL)).unwrap();
            assert!((99..=100).contains(&client.ttl::<_, i64>(&key).unwrap()));
            let () = client.set(&key, 6).unwrap();
            assert_eq!(client.ttl::<_, i64>(&key).unwrap(), -1);
        }
        let invalid: RedisResult<()> = cmd("SET").arg("k").arg("v").arg("EX").arg(0).query(client);
        assert_eq!(error_of(invalid), "ERR invalid expire time in 'set' command");
        let unknown: RedisResult<()> = cmd("SET").arg("k").arg("v").arg("NX").arg("XX").query(client);
        assert_eq!(error_of(unknown), "ERR syntax error");
    });
}

#[test]
fn counters_count() {
    with_clients(|client| {
        for key in keys("counter") {
            assert_eq!(client.incr::<_, _, i64>(&key, 1).unwrap(), 1);
            assert_eq!(client.incr::<_, _, i64>(&key, 41).unwrap(), 42);
            assert_eq!(client.decr::<_, _, i64>(&key, 50).unwrap(), -8);
            assert_eq!(client.incr::<_, _, String>(&key, 0.5).unwrap(), "-7.5");
            assert_eq!(error_of(client.incr::<_, _, i64>(&key, 1)), "ERR value is not an integer or out of range");
            let () = client.set(&key, i64::MAX).unwrap();
            assert_eq!(error_of(client.incr::<_, _, i64>(&key, 1)), "ERR increment or decrement would overflow");
        }
    });
}

#[test]
fn parts_of_strings() {
    with_clients(|client| {
        for key in keys("part") {
            assert_eq!(client.append::<_, _, usize>(&key, "Hello").unwrap(), 5);
            assert_eq!(client.append::<_, _, usize>(&key, " World").unwrap(), 11);
            assert_eq!(client.strlen::<_, usize>(&key).unwrap(), 11);
            assert_eq!(client.getrange::<_, String>(&key, -5, -1).unwrap(), "World");
            assert_eq!(client.setrange::<_, _, usize>(&key, 6, "There").unwrap(), 11);
            assert_eq!(client.getset::<_, _, String>(&key, "new").unwrap(), "Hello There");
            assert_eq!(client.get_del::<_, String>(&key).unwrap(), "new");
            assert_eq!(client.exists::<_, bool>(&key), Ok(false));
        }
    });
}

#[test]
fn many_keys_at_once_lie_on_many_shards() {
    with_clients(|client| {
        let keys = keys("many");
        let pairs: Vec<(&String, usize)> = keys.iter().zip(0..).collect();
        let () = client.mset(&pairs).unwrap();
        let mut asked = keys.clone();
        asked.insert(50, "absent".to_owned());
        let values: Vec<Option<usize>> = client.mget(&asked).unwrap();
        let expected: Vec<Option<usize>> = (0..50).map(Some).chain([None]).chain((50..100).map(Some)).collect();
        assert_eq!(values, expected);
        // One of them is there: nothing is set.
        assert_eq!(client.mset_nx::<_, _, bool>(&[("new:1", 1), ("many:7", 2), ("new:2", 3)]), Ok(false));
        assert_eq!(client.exists::<_, usize>(&["new:1", "new:2"]), Ok(0));
        assert_eq!(client.mset_nx::<_, _, bool>(&[("new:1", 1), ("new:2", 3)]), Ok(true));
        assert_eq!(client.del::<_, usize>(&keys), Ok(100));
        assert_eq!(client.mget::<_, Vec<Option<usize>>>(&keys).unwrap(), vec![None; 100]);
    });
}

#[test]
fn a_common_subsequence_of_keys_on_two_shards() {
    with_clients(|client| {
        for n in 0..20 {
            let (first, second) = (format!("lcs:{n}"), format!("lcs:other:{n}"));
            let () = client.mset(&[(&first, "ohmytext"), (&second, "mynewtext")]).unwrap();
            assert_eq!(cmd("LCS").arg(&first).arg(&second).query::<String>(client).unwrap(), "mytext");
            assert_eq!(cmd("LCS").arg(&first).arg(&second).arg("LEN").query::<i64>(client).unwrap(), 6);
        }
    });
}

#[test]
fn large_values_through_a_client() {
    with_clients(|client| {
        for (index, mib) in [1, 8, 64].into_iter().enumerate() {
            let value: Vec<u8> = (0..mib << 20).map(|at: usize| (at % 253) as u8).collect();
            let key = format!("large:{index}");
            let () = client.set(&key, &value).unwrap();
            assert!(client.get::<_, Vec<u8>>(&key).unwrap() == value, "{mib} MiB came back differently");
            assert_eq!(client.getrange::<_, Vec<u8>>(&key, -3, -1).unwrap(), value[value.len() - 3..]);
        }
    });
}

#[test]
fn a_client_s_pipeline_over_all_shards() {
    with_clients(|client| {
        let mut pipe = redis::pipe();
        for n in 0..5000 {
            pipe.set(format!("pipe:{n}"), n).ignore();
            pipe.get(format!("pipe:{}", n / 2));
        }
        let values: Vec<usize> = pipe.query(client).unwrap();
        assert_eq!(values, (0..5000).map(|n| n / 2).collect::<Vec<_>>());
    });
}

#[test]
fn expiry_is_seen_by_all_commands() {
    let server = Server::start(2);
    let mut client = server.redis();
    for key in keys("gone") {
        let () = client.pset_ex(&key, "v", 20).unwrap();
        let () = client.set_ex(format!("stays:{key}"), "v", 100).unwrap();
        let later = cmd("EXPIRE").arg(format!("stays:{key}")).arg(200).arg("GT").query(&mut client);
        assert_eq!(later, Ok(1));
    }
    std::thread::sleep(std::time::Duration::from_millis(40));
    assert_eq!(client.exists::<_, usize>(keys("gone")), Ok(0));
    assert_eq!(client.mget::<_, Vec<Option<String>>>(keys("gone")).unwrap(), vec![None; 100]);
    let remaining: Vec<String> = client.keys("*gone*").unwrap();
    assert_eq!(remaining.len(), 100);
}
