//! Watching the server work, and making it wait: MONITOR and CLIENT PAUSE, over all shards.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Server, eventually, request, with_shards};
use redis::{Commands, cmd};

/// The command of a monitor's next line, without the time in front; its database and words.
fn shown(monitor: &mut Client) -> String {
    let line = monitor.line();
    let (time, rest) = line.split_once(" [").unwrap_or_else(|| panic!("no line of MONITOR: {line}"));
    let (seconds, microseconds) = time[1..].split_once('.').expect("seconds and microseconds");
    assert!(seconds.parse::<u64>().unwrap() > 1_600_000_000 && microseconds.len() == 6, "{line}");
    let (db, rest) = rest.split_once(' ').expect("a database");
    let (address, words) = rest.split_once("] ").expect("an address");
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    format!("{db} {words}")
}

fn monitor(server: &Server) -> Client {
    let mut monitor = server.client();
    monitor.check("MONITOR\r\n", "+OK\r\n");
    monitor
}

#[test]
fn monitors_see_what_the_clients_of_all_shards_do_in_its_order() {
    with_shards(|server| {
        let mut monitors = [monitor(server), monitor(server), monitor(server)];
        let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
        // Whoever sends has seen the reply to what was sent before it.
        for n in 0..60 {
            clients[n % 6].check(request(&["set", &format!("key:{n}"), "v"]), "+OK\r\n");
        }
        for monitor in &mut monitors {
            for n in 0..60 {
                assert_eq!(shown(monitor), format!("0 \"set\" \"key:{n}\" \"v\""));
            }
        }
    });
}

#[test]
fn monitors_see_what_valkey_shows() {
    with_shards(|server| {
        let mut monitor = monitor(server);
        let mut client = server.client();
        // Unknown, with too few words, and for administrators: none of these is shown.
        client.send("nonsense 1\r\nget\r\nclient list extra words\r\nconfig get port\r\n");
        client.send("mget a b c d e f\r\nselect 5\r\nincr n\r\nlpush n x\r\nauth secret\r\nclient id\r\n");
        client.send(request(&["hello", "3", "AUTH", "user", "secret"]));
        client.send(request(&["echo", "a \"b\"\r\n\u{e9}\0"]));
        for expected in [
            r#"0 "mget" "a" "b" "c" "d" "e" "f""#,
            r#"5 "select" "5""#,
            r#"5 "incr" "n""#,
            r#"5 "lpush" "n" "x""#,
            r#"5 "auth" "(redacted)""#,
            r#"5 "client" "id""#,
            r#"5 "hello" "3" "AUTH" "(redacted)" "(redacted)""#,
            r#"5 "echo" "a \"b\"\r\n\xc3\xa9\x00""#,
        ] {
            assert_eq!(shown(&mut monitor), expected);
        }
        let mut admin = server.redis();
        let list: String = cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        assert!(list.lines().any(|line| line.contains(" flags=O ") && line.contains(" cmd=monitor ")), "{list}");
    });
}

#[test]
fn monitors_see_transactions_as_they_run() {
    with_shards(|server| {
        let mut monitor = monitor(server);
        let mut client = server.client();
        client.send("multi\r\nset a 1\r\nselect 3\r\nset b 2\r\nmonitor\r\nexec\r\nmulti\r\nset\r\nexec\r\n");
        client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n+OK\r\n+OK\r\n");
        client.expect("-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n");
        for expected in [
            r#"0 "multi""#,
            r#"0 "set" "a" "1""#,
            r#"3 "select" "3""#,
            r#"3 "set" "b" "2""#,
            r#"3 "exec""#,
            r#"3 "multi""#,
            r#"3 "exec""#,
        ] {
            assert_eq!(shown(&mut monitor), expected);
        }
    });
}

#[test]
fn a_paused_transaction_that_writes_waits() {
    with_shards(|server| {
        let (mut admin, mut writer, mut reader) = (server.redis(), server.client(), server.client());
        writer.check("MULTI\r\nSET k v\r\n", "+OK\r\n+QUEUED\r\n");
        reader.check("MULTI\r\nGET k\r\n", "+OK\r\n+QUEUED\r\n");
        let () = cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query(&mut admin).unwrap();
        writer.send("EXEC\r\n");
        eventually("the writer waits", || server.info("blocked_clients") == 1);
        reader.check("EXEC\r\n", "*1\r\n$-1\r\n");
        let () = cmd("CLIENT").arg("UNPAUSE").query(&mut admin).unwrap();
        writer.expect("*1\r\n+OK\r\n");
    });
}

/// The words of the slow log's entries, the newest first, but for those of the commands that look at it.
fn slow(client: &mut redis::Connection) -> Vec<String> {
    type Entry = (u64, u64, u64, Vec<String>, String, String);
    let entries: Vec<Entry> = cmd("SLOWLOG").arg("GET").arg(-1).query(client).expect("SLOWLOG GET");
    let words = entries.into_iter().map(|entry| format!("{} {}", entry.5, entry.3.join(" ")));
    words.filter(|words| words.starts_with("slow ")).collect()
}

#[test]
fn commands_of_transactions_and_those_that_waited_are_in_the_slow_log_of_their_clients() {
    with_shards(|server| {
        let (mut admin, mut client) = (server.redis(), server.client());
        client.check("CLIENT SETNAME slow\r\n", "+OK\r\n");
        let () = cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(0).query(&mut admin).unwrap();
        client.check(
            "MULTI\r\nSET a 1\r\nSET b 1\r\nCONFIG SET requirepass \"\"\r\nEXEC\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n",
        );
        client.expect("*3\r\n+OK\r\n+OK\r\n+OK\r\n");
        let mut logged = slow(&mut admin);
        logged.sort();
        assert_eq!(logged, ["slow CONFIG SET requirepass (redacted)", "slow MULTI", "slow SET a 1", "slow SET b 1"]);
        let () = cmd("SLOWLOG").arg("RESET").query(&mut admin).unwrap();
        client.send("BLPOP list 0\r\n");
        eventually("it waits", || server.info("blocked_clients") == 1);
        assert!(slow(&mut admin).is_empty());
        let () = admin.rpush("list", "x").unwrap();
        client.expect("*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
        assert_eq!(slow(&mut admin), ["slow BLPOP list 0"]);
    });
}

/// The `tot-cmds` of a client's own line.
fn commands_of(client: &mut Client) -> u64 {
    client.send("CLIENT INFO\r\n");
    client.line();
    let info = client.line();
    let count = info.split(" tot-cmds=").nth(1).unwrap_or_else(|| panic!("no count: {info}"));
    count.trim().parse().unwrap()
}

#[test]
fn what_scripts_call_is_counted_and_logged_for_their_clients() {
    // Without keys, with one key, with keys on several shards, with one that it does not declare, and by the core.
    let scripts: &[(&[&str], &[&str])] = &[
        (&["EVAL", "return redis.call('ping')", "0"], &["ping"]),
        (&["EVAL", "return redis.call('set', KEYS[1], 1)", "1", "a"], &["set a 1"]),
        (
            &[
                "EVAL",
                "for _, k in ipairs(KEYS) do redis.call('set', k, 1) end return redis.status_reply('OK')",
                "3",
                "a",
                "b",
                "c",
            ],
            &["set a 1", "set b 1", "set c 1"],
        ),
        (
            &["EVAL", "redis.call('echo', 'x') return redis.call('set', 'und' .. 'eclared', 1)", "0"],
            &["echo x", "set undeclared 1"],
        ),
        (&["EVAL", "return redis.call('publish', 'channel', 'x')", "0"], &["publish channel x"]),
    ];
    with_shards(|server| {
        let (mut admin, mut client) = (server.redis(), server.client());
        client.check("CLIENT SETNAME slow\r\n", "+OK\r\n");
        let () = cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(0).query(&mut admin).unwrap();
        for (script, called) in scripts {
            let () = cmd("SLOWLOG").arg("RESET").query(&mut admin).unwrap();
            let before = commands_of(&mut client);
            client.send(request(script));
            let reply = client.line();
            assert!(reply.starts_with(['+', ':']), "{script:?}: {reply}");
            // With the script itself, and CLIENT INFO.
            assert_eq!(commands_of(&mut client), before + called.len() as u64 + 2, "{script:?}");
            let mut expected: Vec<String> = called.iter().map(|words| format!("slow {words}")).collect();
            expected.push(format!("slow {}", script.join(" ")));
            let mut logged = slow(&mut admin);
            logged.retain(|words| words != "slow CLIENT INFO");
            logged.reverse();
            assert_eq!(logged, expected);
        }
    });
}

#[test]
fn a_reset_ends_monitoring() {
    with_shards(|server| {
        let mut monitor = monitor(server);
        monitor.send("RESET\r\n");
        monitor.expect("+RESET\r\n");
        // Shown behind the command itself, if it still were a monitor.
        server.client().check("SET k v\r\n", "+OK\r\n");
        monitor.check("PING\r\n", "+PONG\r\n");
    });
}

#[test]
fn paused_writes_wait_for_the_end_of_the_pause() {
    with_shards(|server| {
        let mut admin = server.redis();
        let () = admin.set("k", 1).unwrap();
        let () = cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query(&mut admin).unwrap();
        let mut writers: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for (n, writer) in writers.iter_mut().enumerate() {
            // What stands before a write runs; what stands behind it waits with it.
            writer.send(format!("GET k\r\nSET key:{n} v\r\nGET key:{n}\r\n"));
            writer.expect("$1\r\n1\r\n");
        }
        server.client().check("EXISTS nokey nokey2\r\n", ":0\r\n");
        eventually("eight wait", || server.info("blocked_clients") == 8);
        assert_eq!(admin.exists("key:0"), Ok(false));
        let list: String = cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        assert_eq!(list.matches(" flags=b ").count(), 8);
        // Mistakes are told at once.
        server.client().check("SET k\r\n", "-ERR wrong number of arguments for 'set' command\r\n");
        let () = cmd("CLIENT").arg("UNPAUSE").query(&mut admin).unwrap();
        for writer in &mut writers {
            writer.expect("+OK\r\n$1\r\nv\r\n");
        }
        assert_eq!(server.info("blocked_clients"), 0);
    });
}

#[test]
fn who_waits_for_replicas_waits_in_vain() {
    with_shards(|server| {
        let (mut admin, mut client) = (server.redis(), server.client());
        client.check("SET k v\r\nWAIT 0 0\r\nWAITAOF 0 0 0\r\n", "+OK\r\n:0\r\n*2\r\n:0\r\n:0\r\n");
        let start = Instant::now();
        client.check("WAIT 1 120\r\nWAITAOF 0 1 120\r\n", ":0\r\n*2\r\n:0\r\n:0\r\n");
        assert!(start.elapsed() >= Duration::from_millis(240));
        client.check("MULTI\r\nWAIT 1 0\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n:0\r\n");
        client.send("CLIENT ID\r\nWAIT 1 0\r\nPING\r\n");
        let id = client.line()[1..].to_owned();
        eventually("it waits", || server.info("blocked_clients") == 1);
        assert_eq!(cmd("CLIENT").arg("UNBLOCK").arg(&id).query(&mut admin), Ok(1));
        client.expect(":0\r\n+PONG\r\n");
    });
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    with_shards(|server| {
        let mut admin = server.redis();
        let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
        let start = Instant::now();
        let () = cmd("CLIENT").arg("PAUSE").arg(300).query(&mut admin).unwrap();
        let () = cmd("SET").arg("k").arg("v").query(&mut admin).unwrap();
        for other in &mut others {
            other.check("PING\r\n", "+PONG\r\n");
        }
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
        assert!(elapsed < Duration::from_millis(1500), "{elapsed:?}");
    });
}

#[test]
fn nothing_expires_while_clients_are_paused() {
    with_shards(|server| {
        let mut client = server.redis();
        for n in 0..20 {
            let () = cmd("SET").arg(format!("key:{n}")).arg("v").arg("PX").arg(1000).query(&mut client).unwrap();
        }
        let () = cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query(&mut client).unwrap();
        eventually("all are gone for readers", || {
            let values: Vec<Option<String>> =
                client.mget((0..20).map(|n| format!("key:{n}")).collect::<Vec<_>>()).unwrap();
            values.iter().all(Option::is_none)
        });
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(cmd("DBSIZE").query(&mut client), Ok(20));
        assert_eq!(server.info("expired_keys"), 0);
        // All have expired, so one of them is as good as another.
        assert!(cmd("RANDOMKEY").query::<String>(&mut client).unwrap().starts_with("key:"));
        let () = cmd("CLIENT").arg("UNPAUSE").query(&mut client).unwrap();
        eventually("they are removed", || cmd("DBSIZE").query(&mut client) == Ok(0));
        assert_eq!(server.info("expired_keys"), 20);
    });
}

#[test]
fn monitors_see_scripts_and_what_they_call() {
    with_shards(|server| {
        let mut monitor = server.client();
        monitor.check("MONITOR\r\n", "+OK\r\n");
        let mut client = server.redis();
        for key in ["a", "b", "c"] {
            let () =
                redis::cmd("EVAL").arg("redis.call('set', KEYS[1], 1)").arg(1).arg(key).query(&mut client).unwrap();
            let lines: Vec<String> =
                std::iter::repeat_with(|| monitor.line()).filter(|line| !line.contains("CLIENT")).take(2).collect();
            assert!(lines[0].contains("\"EVAL\""), "{lines:?}");
            assert!(lines[1].contains(&format!("lua] \"set\" \"{key}\" \"1\"")), "{lines:?}");
        }
    });
}

/// Readers of some shards stayed paused when the next pause came as the first ended.
#[test]
fn a_pause_that_follows_a_stricter_one_is_not_as_strict() {
    with_shards(|server| {
        let mut admin = server.client();
        let mut readers: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for _ in 0..30 {
            admin.check("CLIENT PAUSE 20 ALL\r\n", "+OK\r\n");
            readers.iter_mut().for_each(|reader| reader.send("GET k\r\n"));
            readers[0].expect("$-1\r\n");
            admin.check("CLIENT PAUSE 60000 WRITE\r\n", "+OK\r\n");
            readers[1..].iter_mut().for_each(|reader| reader.expect("$-1\r\n"));
            admin.check("CLIENT UNPAUSE\r\n", "+OK\r\n");
        }
    });
}
