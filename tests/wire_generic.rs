//! Commands on keys of any type and on the whole keyspace, through the public client library.

mod common;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Server, with_shards};
use redis::{Commands, Connection, RedisResult, ScanOptions, cmd};

const KEYS: usize = 3000;

fn fill(client: &mut Connection) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..KEYS).map(|n| format!("key:{n}")).collect();
    for chunk in names.iter().collect::<Vec<_>>().chunks(500) {
        let () = client.mset(&chunk.iter().map(|name| (name, 1)).collect::<Vec<_>>()).unwrap();
    }
    names
}

#[test]
fn scan_finds_every_key_of_all_shards() {
    with_shards(|server| {
        let mut client = server.redis();
        let names = fill(&mut client);
        for count in [1, 10, 1000] {
            let options = ScanOptions::default().with_count(count);
            let found: BTreeSet<String> = client.scan_options(options).unwrap().map(Result::unwrap).collect();
            assert_eq!(found, names);
        }
        let found: BTreeSet<String> = client.scan_match("key:12?").unwrap().map(Result::unwrap).collect();
        assert_eq!(found, (120..130).map(|n| format!("key:{n}")).collect());
        let typed = cmd("SCAN")
            .arg(0)
            .arg("COUNT")
            .arg(10_000)
            .arg("TYPE")
            .arg("list")
            .query::<(String, Vec<String>)>(&mut client);
        assert_eq!(typed.unwrap().1, Vec::<String>::new());
    });
}

#[test]
fn scan_finds_what_stays_while_others_come_and_go() {
    with_shards(|server| {
        let (mut client, mut writer) = (server.redis(), server.redis());
        let stay = fill(&mut client);
        let (mut found, mut cursor, mut round) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let (next, page): (String, Vec<String>) =
                cmd("SCAN").arg(&cursor).arg("COUNT").arg(50).query(&mut client).unwrap();
            found.extend(page);
            cursor = next;
            if cursor == "0" {
                break;
            }
            let new: Vec<(String, usize)> = (0..200).map(|n| (format!("new:{round}:{n}"), n)).collect();
            let () = writer.mset(&new).unwrap();
            if round % 2 == 1 {
                let gone: Vec<String> = (0..200).map(|n| format!("new:{}:{n}", round - 1)).collect();
                let _: usize = writer.del(gone).unwrap();
            }
            round += 1;
            // What comes while it runs may lengthen it, not make it endless.
            assert!(round < 5000, "the scan does not end");
        }
        assert!(found.is_superset(&stay), "missing: {:?}", stay.difference(&found).take(5).collect::<Vec<_>>());
    });
}

#[test]
fn the_whole_keyspace() {
    with_shards(|server| {
        let mut client = server.redis();
        let names = fill(&mut client);
        assert_eq!(cmd("DBSIZE").query::<usize>(&mut client).unwrap(), KEYS);
        assert_eq!(client.keys::<_, BTreeSet<String>>("*").unwrap(), names);
        assert!(names.contains(&cmd("RANDOMKEY").query::<String>(&mut client).unwrap()));
        let () = cmd("SWAPDB").arg(0).arg(3).query(&mut client).unwrap();
        assert_eq!(cmd("DBSIZE").query::<usize>(&mut client).unwrap(), 0);
        assert_eq!(client.get::<_, Option<i64>>("key:1"), Ok(None));
        let () = cmd("SELECT").arg(3).query(&mut client).unwrap();
        assert_eq!(client.get::<_, Option<i64>>("key:1"), Ok(Some(1)));
        let () = cmd("FLUSHDB").arg("ASYNC").query(&mut client).unwrap();
        assert_eq!(cmd("DBSIZE").query::<usize>(&mut client).unwrap(), 0);
        fill(&mut client);
        let () = cmd("FLUSHALL").query(&mut client).unwrap();
        assert_eq!(cmd("DBSIZE").query::<usize>(&mut client).unwrap(), 0);
        assert_eq!(cmd("RANDOMKEY").query::<Option<String>>(&mut client), Ok(None));
    });
}

#[test]
fn keys_move_between_names_shards_and_databases() {
    with_shards(|server| {
        let mut client = server.redis();
        for n in 0..50 {
            let (from, to) = (format!("from:{n}"), format!("to:{n}"));
            let () = client.set_ex(&from, n, 100).unwrap();
            let () = client.rename(&from, &to).unwrap();
            assert_eq!(client.get::<_, Option<usize>>(&from), Ok(None));
            assert_eq!(client.get::<_, Option<usize>>(&to), Ok(Some(n)));
            assert!(client.ttl::<_, i64>(&to).unwrap() >= 99, "the expiry moves too");
            let mut copy = |words: &[&str]| cmd("COPY").arg(&to).arg(&from).arg(words).query::<i64>(&mut client);
            assert_eq!(copy(&[]), Ok(1));
            assert_eq!(copy(&[]), Ok(0));
            assert_eq!(copy(&["DB", "2", "REPLACE"]), Ok(1));
            assert!(!client.rename_nx::<_, _, bool>(&from, &to).unwrap());
            assert_eq!(cmd("MOVE").arg(&from).arg(2).query::<i64>(&mut client).unwrap(), 0);
            assert_eq!(cmd("MOVE").arg(&from).arg(4).query::<i64>(&mut client).unwrap(), 1);
            assert_eq!(client.exists::<_, usize>(&[&from, &to]), Ok(1));
        }
        let missing: RedisResult<()> = client.rename("absent", "other");
        assert_eq!(missing.unwrap_err().detail(), Some("no such key"));
    });
}

#[test]
fn keys_expire_and_persist() {
    with_shards(|server| {
        let mut client = server.redis();
        for n in 0..50 {
            let key = format!("expire:{n}");
            assert!(!client.expire::<_, bool>(&key, 100).unwrap());
            let () = client.set(&key, n).unwrap();
            assert!(client.expire::<_, bool>(&key, 100).unwrap());
            assert!((99..=100).contains(&client.ttl::<_, i64>(&key).unwrap()));
            assert!(client.persist::<_, bool>(&key).unwrap());
            assert_eq!(client.ttl::<_, i64>(&key).unwrap(), -1);
            assert!(client.pexpire::<_, bool>(&key, 1).unwrap());
        }
        common::eventually("all have expired", || cmd("DBSIZE").query(&mut client) == Ok(0));
        let () = client.set("past", 1).unwrap();
        assert!(client.expire_at::<_, bool>("past", 1).unwrap());
        assert_eq!(client.exists::<_, bool>("past"), Ok(false));
    });
}

#[test]
fn counting_and_deleting_over_shards() {
    with_shards(|server| {
        let mut client = server.redis();
        let names: Vec<String> = fill(&mut client).into_iter().collect();
        assert_eq!(client.exists::<_, usize>(&names[..100]), Ok(100));
        assert_eq!(client.exists::<_, usize>(&[&names[0], &names[0], &"absent".to_owned()]), Ok(2));
        assert_eq!(cmd("TOUCH").arg(&names[..100]).query::<usize>(&mut client), Ok(100));
        assert_eq!(client.unlink::<_, usize>(&names[..1000]), Ok(1000));
        assert_eq!(client.del::<_, usize>(&names), Ok(KEYS - 1000));
        assert_eq!(client.key_type::<_, String>("key:1").unwrap(), "none");
    });
}

#[test]
fn values_are_dumped_and_restored() {
    let server = Server::start(2);
    let mut client = server.redis();
    for (key, value) in [("dump:1", "12345".to_owned()), ("dump:2", "text".to_owned()), ("dump:3", "x".repeat(10_000))]
    {
        let () = client.set(key, &value).unwrap();
        let payload: Vec<u8> = cmd("DUMP").arg(key).query(&mut client).unwrap();
        let restored = format!("restored:{key}");
        let () = cmd("RESTORE").arg(&restored).arg(0).arg(&payload).query(&mut client).unwrap();
        assert_eq!(client.get::<_, String>(&restored).unwrap(), value);
        let twice: RedisResult<()> = cmd("RESTORE").arg(&restored).arg(0).arg(&payload).query(&mut client);
        assert_eq!(twice.unwrap_err().code(), Some("BUSYKEY"));
    }
}

/// Patterns name keys on all shards, more of them than one round fetches.
#[test]
fn sort_reaches_keys_wherever_they_lie() {
    with_shards(|server| {
        let mut client = server.redis();
        let numbers: Vec<usize> = (0..KEYS).collect();
        let () = client.rpush("numbers", &numbers).unwrap();
        let weights: Vec<(String, usize)> = numbers.iter().map(|n| (format!("weight:{n}"), KEYS - n)).collect();
        let () = client.mset(&weights).unwrap();
        for n in 0..10 {
            let () = client.hset(format!("object:{n}"), "name", format!("name {n}")).unwrap();
        }
        let backwards: Vec<usize> = numbers.iter().rev().copied().collect();
        let sort = |words: &str| {
            let mut command = cmd("SORT");
            words.split(' ').for_each(|word| {
                command.arg(word);
            });
            command
        };
        let sorted: Vec<usize> = sort("numbers BY weight:*").query(&mut client).unwrap();
        assert_eq!(sorted, backwards);
        let last = sort("numbers BY weight:* DESC LIMIT 1 2 GET # GET object:*->name GET weight:*");
        let last: Vec<String> = last.query(&mut client).unwrap();
        assert_eq!(last, ["1", "name 1", "2999", "2", "name 2", "2998"]);
        for destination in ["sorted", "numbers"] {
            let command = format!("numbers BY weight:* STORE {destination}");
            assert_eq!(sort(&command).query::<usize>(&mut client).unwrap(), KEYS);
            assert_eq!(client.lrange::<_, Vec<usize>>(destination, 0, -1).unwrap(), backwards);
        }
    });
}

/// What the public suite's tests of lists and tables turn on and off.
#[test]
fn debug_sets_what_tests_of_encodings_need() {
    let server = Server::start_with(2, &["--enable-debug-command", "yes"]);
    let mut client = server.redis();
    let mut debug =
        |words: &[&str]| cmd("DEBUG").arg(words).query::<String>(&mut client).map_err(|error| error.to_string());
    for (size, wanted) in [("1b", true), ("4293918720", true), ("4293918721", false), ("x", false), ("-5", false)] {
        let reply = debug(&["QUICKLIST-PACKED-THRESHOLD", size]);
        assert_eq!(reply.is_ok(), wanted, "{size}: {reply:?}");
    }
    assert_eq!(debug(&["QUICKLIST-PACKED-THRESHOLD", "1b"]).unwrap(), "OK");
    assert!(debug(&["SDSLEN", "text"]).unwrap_err().contains("no such key"));
    let () = client.rpush("list", &["x".repeat(9000).as_str(), "a", "b"]).unwrap();
    // Else the two small ones would share a node.
    let about: String = cmd("DEBUG").arg("OBJECT").arg("list").query(&mut client).unwrap();
    assert!(about.contains("ql_nodes:3"), "{about}");
    let () = client.set("text", "hello").unwrap();
    let () = client.append("text", "world").unwrap();
    let about: String = cmd("DEBUG").arg("SDSLEN").arg("text").query(&mut client).unwrap();
    assert!(about.starts_with("key_sds_len:4, key_sds_avail:0, key_zmalloc: "), "{about}");
    assert!(about.contains("val_sds_len:10, val_sds_avail:"), "{about}");
    for key in ["list", "number"] {
        let () = client.incr("number", 1).unwrap();
        let error = cmd("DEBUG").arg("SDSLEN").arg(key).query::<String>(&mut client).unwrap_err().to_string();
        assert!(error.contains("Not an sds encoded string."), "{error}");
    }
    let () = cmd("DEBUG").arg("QUICKLIST-PACKED-THRESHOLD").arg("0").query(&mut client).unwrap();
    let places = |client: &mut redis::Connection| {
        let stats: String = cmd("DEBUG").arg("HTSTATS").arg(0).query(client).unwrap();
        let size = stats.split(" table size: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        size.parse::<usize>().unwrap()
    };
    let () = cmd("DEBUG").arg("POPULATE").arg(10_000).query(&mut client).unwrap();
    let full = places(&mut client);
    let () = cmd("DEBUG").arg("DICT-RESIZING").arg(0).query(&mut client).unwrap();
    let keys: Vec<String> = (10..10_000).map(|n| format!("key:{n}")).collect();
    let () = client.del(keys).unwrap();
    assert_eq!(places(&mut client), full);
    let () = cmd("DEBUG").arg("DICT-RESIZING").arg(1).query(&mut client).unwrap();
    assert!(places(&mut client) < full / 10);
}

/// The digest knows neither shards nor the order in which keys came.
#[test]
fn digests_are_equal_on_any_number_of_shards() {
    let digests = [1, 2, 4].map(|shards| {
        let server = Server::start_with(shards, &["--enable-debug-command", "yes"]);
        let mut client = server.redis();
        fill(&mut client);
        let values = cmd("DEBUG").arg("DIGEST-VALUE").arg("key:1").arg("key:2").arg("nokey").query(&mut client);
        let values: Vec<String> = values.unwrap();
        assert_eq!((&values[0], &values[2]), (&values[1], &"0".repeat(40)));
        cmd("DEBUG").arg("DIGEST").query::<String>(&mut client).unwrap()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// A client that computes a moment ahead of its own clock must not see more than that left: our milliseconds change with
/// the system's.
#[test]
fn the_clock_is_not_behind_the_systems() {
    let server = Server::start_with(1, &["--hz", "500"]);
    let mut client = server.redis();
    let () = client.set("key", "value").unwrap();
    for _ in 0..2000 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at_ms = now.as_millis() as i64 + 10_000;
        let () = client.pexpire_at("key", at_ms).unwrap();
        let left_ms: i64 = client.pttl("key").unwrap();
        assert!(left_ms <= 10_000, "{left_ms} ms are left of 10,000");
    }
}
