//! Client-side caching: clients are told of what happens to the keys that they may hold, over all shards.

mod common;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{Client, Server, eventually, request, with_shards};
use redis::{Commands, cmd};

/// A client that speaks RESP3.
fn resp3(server: &Server) -> Client {
    let mut client = server.client();
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
    client
}

fn invalidate(keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    format!(">2\r\n$10\r\ninvalidate\r\n*{}\r\n{keys}", keys.matches('$').count())
}

fn id_of(client: &mut Client) -> String {
    client.send("CLIENT ID\r\n");
    client.line()[1..].to_owned()
}

/// The client has been told nothing: the reply is the next that it reads.
fn expect_silence(client: &mut Client) {
    client.check("ECHO quiet\r\n", "$5\r\nquiet\r\n");
}

#[test]
fn who_has_read_a_key_is_told_of_its_first_change() {
    with_shards(|server| {
        let mut writer = server.redis();
        let mut readers: Vec<Client> = (0..6).map(|_| resp3(server)).collect();
        for reader in &mut readers {
            reader.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
        }
        for n in 0..8 {
            let key = format!("key:{n}");
            let () = writer.set(&key, 1).unwrap();
            for reader in &mut readers {
                reader.check(request(&["GET", &key]), "$1\r\n1\r\n");
            }
            let () = writer.incr(&key, 1).unwrap();
            let () = writer.incr(&key, 1).unwrap();
            for reader in &mut readers {
                reader.expect(invalidate(&[&key]));
                expect_silence(reader);
            }
        }
        assert_eq!(server.info("tracking_total_keys"), 0);
        assert_eq!(server.info("tracking_clients"), 6);
    });
}

#[test]
fn reads_of_several_keys_and_in_transactions_are_tracked() {
    with_shards(|server| {
        let (mut writer, mut reader) = (server.redis(), resp3(server));
        reader.check("CLIENT TRACKING ON\r\nMGET a b c d\r\n", "+OK\r\n*4\r\n_\r\n_\r\n_\r\n_\r\n");
        reader.check("SUNION s t u v\r\n", "~0\r\n");
        reader.check("MULTI\r\nEXISTS x\r\nGET y\r\nSET z 1\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        reader.expect("*3\r\n:0\r\n_\r\n+OK\r\n");
        assert_eq!(server.info("tracking_total_keys"), 10);
        for key in ["a", "b", "c", "d", "x", "y"] {
            let () = writer.set(key, 1).unwrap();
            reader.expect(invalidate(&[key]));
        }
        for key in ["s", "t", "u", "v"] {
            let () = writer.sadd(key, 1).unwrap();
            reader.expect(invalidate(&[key]));
        }
        let () = writer.set("z", 2).unwrap();
        expect_silence(&mut reader);
    });
}

#[test]
fn a_clients_own_change_is_told_behind_its_reply_unless_it_asked_for_noloop() {
    with_shards(|server| {
        let mut client = resp3(server);
        client.check("CLIENT TRACKING ON\r\nHSET h f v\r\nHGET h f\r\n", "+OK\r\n:1\r\n$1\r\nv\r\n");
        client.check("HDEL h f\r\n", format!(":1\r\n{}", invalidate(&["h"])));
        client.check("MGET a b c\r\n", "*3\r\n_\r\n_\r\n_\r\n");
        client.send("MULTI\r\nSET a 1\r\nSET b 1\r\nEXEC\r\n");
        client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n");
        let (first, second) = (client.line(), ());
        assert_eq!((first.as_str(), second), (">2", ()));
        // In either order: the keys may lie on different shards.
        let mut told = vec![key_of_push(&mut client)];
        assert_eq!(client.line(), ">2");
        told.push(key_of_push(&mut client));
        told.sort();
        assert_eq!(told, ["a", "b"]);
        client.check("CLIENT TRACKING ON NOLOOP\r\nGET a\r\nSET a 2\r\n", "+OK\r\n$1\r\n1\r\n+OK\r\n");
        expect_silence(&mut client);
    });
}

/// The rest of a push about one key, whose first line has been read.
fn key_of_push(client: &mut Client) -> String {
    client.expect("$10\r\ninvalidate\r\n*1\r\n");
    client.line();
    client.line()
}

#[test]
fn who_waited_is_told_of_its_own_change_behind_its_reply() {
    with_shards(|server| {
        for n in 0..8 {
            let (source, target) = (format!("source:{{{n}}}"), format!("target:{{{n}}}"));
            let (mut writer, mut client) = (server.redis(), resp3(server));
            let () = writer.rpush(&target, "a").unwrap();
            client.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
            client.check(request(&["LRANGE", &target, "0", "-1"]), "*1\r\n$1\r\na\r\n");
            client.send(request(&["BLMOVE", &source, &target, "LEFT", "LEFT", "0"]));
            eventually("it waits", || server.info("blocked_clients") == 1);
            let () = writer.rpush(&source, "b").unwrap();
            client.expect(format!("$1\r\nb\r\n{}", invalidate(&[&target])));
        }
    });
}

#[test]
fn keys_that_expire_are_told() {
    with_shards(|server| {
        let (mut writer, mut reader) = (server.redis(), resp3(server));
        reader.check("CLIENT TRACKING ON NOLOOP\r\n", "+OK\r\n");
        for n in 0..4 {
            let key = format!("key:{n}");
            let () = cmd("SET").arg(&key).arg(1).arg("PX").arg(400).query(&mut writer).unwrap();
            reader.check(request(&["EXISTS", &key]), ":1\r\n");
            reader.expect(invalidate(&[&key]));
        }
    });
}

#[test]
fn a_flush_is_told_once_to_all_who_track() {
    with_shards(|server| {
        let mut writer = server.redis();
        let mut readers: Vec<Client> = (0..6).map(|_| resp3(server)).collect();
        for (n, reader) in readers.iter_mut().enumerate() {
            reader.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
            reader.check(request(&["GET", &format!("key:{n}")]), "_\r\n");
        }
        for flush in ["FLUSHALL", "FLUSHDB"] {
            let () = cmd(flush).query(&mut writer).unwrap();
            for reader in &mut readers {
                reader.expect(">2\r\n$10\r\ninvalidate\r\n_\r\n");
                expect_silence(reader);
            }
        }
        assert_eq!(server.info("tracking_total_keys"), 0);
        readers[0].check("FLUSHALL\r\n", "+OK\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n");
    });
}

#[test]
fn broadcasting_tells_of_all_keys_that_begin_as_asked_for() {
    with_shards(|server| {
        let (mut writer, mut all, mut some) = (server.redis(), resp3(server), resp3(server));
        all.check("CLIENT TRACKING ON BCAST\r\n", "+OK\r\n");
        some.check("CLIENT TRACKING ON BCAST NOLOOP PREFIX a: PREFIX b:\r\n", "+OK\r\n");
        assert_eq!(server.info("tracking_total_prefixes"), 3);
        let () = cmd("MSET").arg("a:{t}1").arg(1).arg("c:{t}").arg(1).arg("a:{t}2").arg(1).query(&mut writer).unwrap();
        all.expect(invalidate(&["a:{t}1", "c:{t}", "a:{t}2"]));
        some.expect(invalidate(&["a:{t}1", "a:{t}2"]));
        some.check("SET b:1 x\r\n", "+OK\r\n");
        all.expect(invalidate(&["b:1"]));
        expect_silence(&mut some);
        some.check("CLIENT TRACKING OFF\r\nCLIENT TRACKING ON BCAST PREFIX c:\r\n", "+OK\r\n+OK\r\n");
        let () = writer.set("a:1", 1).unwrap();
        let () = writer.set("c:1", 1).unwrap();
        all.expect(invalidate(&["a:1"]) + &invalidate(&["c:1"]));
        some.expect(invalidate(&["c:1"]));
        drop((all, some));
        eventually("those who have gone are forgotten", || server.info("tracking_total_prefixes") == 0);
        assert_eq!(server.info("tracking_clients"), 0);
    });
}

#[test]
fn opting_in_and_out_is_for_the_next_command() {
    with_shards(|server| {
        let (mut writer, mut reader) = (server.redis(), resp3(server));
        reader.check(
            "CLIENT TRACKING ON OPTIN\r\nGET a\r\nCLIENT CACHING YES\r\nGET b\r\nGET c\r\n",
            "+OK\r\n_\r\n+OK\r\n_\r\n_\r\n",
        );
        reader.check(
            "CLIENT CACHING YES\r\nMULTI\r\nGET d\r\nGET e\r\nEXEC\r\n",
            "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n_\r\n_\r\n",
        );
        for key in ["a", "b", "c", "d", "e"] {
            let () = writer.set(key, 1).unwrap();
        }
        let mut told: Vec<String> = (0..3)
            .map(|_| {
                assert_eq!(reader.line(), ">2");
                key_of_push(&mut reader)
            })
            .collect();
        told.sort();
        assert_eq!(told, ["b", "d", "e"]);
        expect_silence(&mut reader);
        reader.check("CLIENT TRACKING OFF\r\nCLIENT TRACKING ON OPTOUT\r\n", "+OK\r\n+OK\r\n");
        reader.check("CLIENT CACHING NO\r\nGET a\r\nGET b\r\n", "+OK\r\n$1\r\n1\r\n$1\r\n1\r\n");
        let () = writer.set("a", 2).unwrap();
        let () = writer.set("b", 2).unwrap();
        reader.expect(invalidate(&["b"]));
        expect_silence(&mut reader);
    });
}

#[test]
fn messages_are_redirected_to_a_subscriber_that_speaks_resp2() {
    with_shards(|server| {
        for _ in 0..4 {
            let (mut writer, mut reader, mut listener) = (server.redis(), resp3(server), server.client());
            let id = id_of(&mut listener);
            let channel = "__redis__:invalidate";
            listener.check(
                request(&["SUBSCRIBE", channel]),
                "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n",
            );
            reader.check(
                request(&["CLIENT", "TRACKING", "ON", "REDIRECT", "999999"]),
                "-ERR The client ID you want redirect to does not exist\r\n",
            );
            reader.check(request(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id]), "+OK\r\n");
            reader.check("CLIENT GETREDIR\r\n", format!(":{id}\r\n"));
            let () = writer.set("k", 1).unwrap();
            reader.check("GET k\r\n", "$1\r\n1\r\n");
            let () = writer.set("k", 2).unwrap();
            listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n");
            let () = cmd("FLUSHALL").query(&mut writer).unwrap();
            listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n");
            expect_silence(&mut reader);
            reader.check("GET k\r\n", "_\r\n");
            listener.check("QUIT\r\n", "+OK\r\n");
            listener.expect_close();
            let () = writer.set("k", 3).unwrap();
            reader.expect(format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n"));
            reader.check("CLIENT TRACKINGINFO\r\n", format!("%3\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$15\r\nbroken_redirect\r\n$8\r\nredirect\r\n:{id}\r\n$8\r\nprefixes\r\n*0\r\n"));
        }
    });
}

#[test]
fn the_tables_of_all_shards_are_held_to_the_limit_together() {
    with_shards(|server| {
        let (mut writer, mut reader) = (server.redis(), resp3(server));
        reader.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
        for n in 0..100 {
            reader.check(request(&["GET", &format!("key:{n}")]), "_\r\n");
        }
        let () = cmd("CONFIG").arg("SET").arg("tracking-table-max-keys").arg(3).query(&mut writer).unwrap();
        for _ in 0..97 {
            assert_eq!(reader.line(), ">2");
            key_of_push(&mut reader);
        }
        expect_silence(&mut reader);
        assert_eq!(server.info("tracking_total_keys"), 3);
        reader.send("GET other\r\n");
        assert_eq!(reader.line(), "_");
        assert_eq!(reader.line(), ">2");
        key_of_push(&mut reader);
        assert_eq!(server.info("tracking_total_keys"), 3);
    });
}

/// A client that keeps what it reads until it is told, as a library does: it reads in pipelines while others write, and
/// takes in replies and messages in the order in which they come.
struct Cache {
    client: Client,
    copies: HashMap<String, String>,
    asked: std::collections::VecDeque<String>,
}

impl Cache {
    fn take_one(&mut self) {
        match self.client.line() {
            line if line == ">2" => {
                let key = key_of_push(&mut self.client);
                self.copies.remove(&key);
            }
            line => {
                let value = if line == "_" { String::new() } else { self.client.line() };
                let key = self.asked.pop_front().expect("a reply to what was asked");
                self.copies.insert(key, value);
            }
        }
    }

    fn ask(&mut self, key: &str) {
        self.client.send(request(&["GET", key]));
        self.asked.push_back(key.to_owned());
    }
}

#[test]
fn no_copy_is_stale_when_all_is_quiet() {
    with_shards(|server| {
        const KEYS: usize = 24;
        let done = AtomicBool::new(false);
        let rounds = |random: &mut u64| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*random >> 33) as usize % KEYS
        };
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let (done, rounds) = (&done, &rounds);
                scope.spawn(move || {
                    let (mut writer, mut random, mut value) = (server.client(), seed, 0);
                    while !done.load(Relaxed) {
                        value += 1;
                        let mut batch = Vec::new();
                        for _ in 0..5 {
                            let key = format!("key:{}", rounds(&mut random));
                            batch.extend(request(&["SET", &key, &format!("{seed}-{value}")]));
                        }
                        writer.check(batch, "+OK\r\n".repeat(5));
                    }
                });
            }
            let mut caches: Vec<Cache> = (0..4)
                .map(|_| {
                    let mut client = resp3(server);
                    client.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
                    Cache { client, copies: HashMap::new(), asked: Default::default() }
                })
                .collect();
            let mut random = 99;
            for _ in 0..400 {
                for cache in &mut caches {
                    for _ in 0..6 {
                        cache.ask(&format!("key:{}", rounds(&mut random)));
                    }
                }
                for cache in &mut caches {
                    while !cache.asked.is_empty() {
                        cache.take_one();
                    }
                }
            }
            done.store(true, Relaxed);
            // Whatever is on its way has come when a client that sends afterwards has its reply, or is about to.
            std::thread::sleep(Duration::from_millis(200));
            let mut admin = server.redis();
            for cache in &mut caches {
                cache.client.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a TCP socket");
                let mut first = [0];
                loop {
                    match cache.client.stream.peek(&mut first) {
                        Ok(read) if read > 0 => cache.take_one(),
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                        other => panic!("the connection is open: {other:?}"),
                    }
                }
                for (key, copy) in &cache.copies {
                    let value: Option<String> = admin.get(key).unwrap();
                    assert_eq!(&value.unwrap_or_default(), copy, "{key}");
                }
            }
        });
    });
}

#[test]
fn a_key_that_made_room_for_a_command_is_told_of_before_its_reply() {
    let server = Server::start(1);
    let mut client = resp3(&server);
    client.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
    client.check("SET small x EX 10000\r\n", "+OK\r\n");
    client.check("GET small\r\n", "$1\r\nx\r\n");
    client.check("CONFIG SET maxmemory-policy volatile-random\r\n", "+OK\r\n");
    let limit = server.info("used_memory") + 100_000;
    client.check(format!("CONFIG SET maxmemory {limit}\r\n"), "+OK\r\n");
    client.send("SETBIT big 8000000 0\r\n");
    client.expect(":0\r\n");
    client.send("GETBIT big 0\r\n");
    client.expect(invalidate(&["small"]));
    client.expect(":0\r\n");
}

#[test]
fn who_has_a_copy_of_a_key_that_makes_room_learns_it_before_the_reply_to_the_next_command() {
    with_shards(|server| {
        let (mut admin, mut client) = (server.redis(), resp3(server));
        let mut set = |name: &str, value: &str| {
            let () = cmd("CONFIG").arg("SET").arg(name).arg(value).query(&mut admin).unwrap();
        };
        set("maxmemory-policy", "volatile-random");
        // The client, the key that goes and the command each lie on any shard.
        for n in 0..60 {
            let (volatile, large) = (format!("volatile:{n}"), format!("large:{n}"));
            // Of this section alone: to collect all of them takes memory of its own.
            let memory: String = cmd("INFO").arg("memory").query(&mut server.redis()).unwrap();
            let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
            let used: u64 = used.trim().parse().unwrap();
            set("maxmemory", &(used + 100 * 1024).to_string());
            client.check("CLIENT TRACKING ON\r\n", "+OK\r\n");
            client.check(request(&["SETEX", &volatile, "1000", "x"]), "+OK\r\n");
            client.check(request(&["GET", &volatile]), "$1\r\nx\r\n");
            client.check(request(&["SETBIT", &large, "1600000", "0"]), ":0\r\n");
            client.send(request(&["GETBIT", &large, "0"]));
            client.expect(invalidate(&[&volatile]));
            client.expect(":0\r\n");
            set("maxmemory", "0");
            client.check("CLIENT TRACKING OFF\r\n", "+OK\r\n");
            client.check(request(&["DEL", &large]), ":1\r\n");
            eventually("it is freed", || server.info("lazyfree_pending_objects") == 0);
        }
    });
}
