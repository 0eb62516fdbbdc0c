//! maxmemory: what is refused, and what is removed, when there is no more of it.

mod common;

use std::io::Write;

use common::{Client, Server, eventually, request, with_shards};

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

fn set(client: &mut Client, directive: &str, value: &str) {
    client.check(request(&["CONFIG", "SET", directive, value]), "+OK\r\n");
}

/// Keys on different shards, and on one.
const WRITES: &[&str] = &[
    "set a 1",
    "set b 1",
    "append c x",
    "mset a 1 b 2 c 3 d 4 e 5",
    "mset {t}a 1 {t}b 2",
    "lpush l x",
    "hset h f v",
    "sunionstore d a b c",
    "blmove l m left left 0",
    "xgroup create s g $ mkstream",
    "sort a store b",
];

#[test]
fn commands_that_take_memory_are_refused_beyond_the_limit() {
    with_shards(|server| {
        let mut client = server.client();
        client.check("set kept v\r\n", "+OK\r\n");
        set(&mut client, "maxmemory", "1");
        for write in WRITES {
            client.check(format!("{write}\r\n"), OOM);
        }
        client.check("get kept\r\n", "$1\r\nv\r\n");
        client.check("mget kept b\r\n", "*2\r\n$1\r\nv\r\n$-1\r\n");
        client.check("expire kept 100\r\n", ":1\r\n");
        client.check(
            "xgroup destroy kept g\r\n",
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        );
        client.check("del kept a b c\r\n", ":1\r\n");
        client.check("lpop l\r\n", "$-1\r\n");
        // Replies keep their order, and none is lost.
        let pipeline = "get x\r\nset x 1\r\nmset x 1 y 2 z 3\r\nget y\r\nset y 2\r\nping\r\n";
        client.check(pipeline, format!("$-1\r\n{OOM}{OOM}$-1\r\n{OOM}+PONG\r\n"));
        set(&mut client, "maxmemory", "0");
        client.check("mset x 1 y 2 z 3\r\nset x 2\r\n", "+OK\r\n+OK\r\n");
        assert_eq!(server.info("evicted_keys"), 0);
    });
}

#[test]
fn refusals_are_counted_as_such() {
    let server = Server::start(4);
    let mut client = server.client();
    set(&mut client, "maxmemory", "1");
    client.check("set a 1\r\nset b 1\r\nset c 1\r\nmset a 1 b 1 c 1\r\n", OOM.repeat(4));
    let stats: String = redis::cmd("INFO").arg("commandstats").arg("errorstats").query(&mut server.redis()).unwrap();
    assert!(stats.contains("errorstat_OOM:count=4\r\n"), "{stats}");
    assert!(stats.contains("cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=3,failed_calls=0"), "{stats}");
    assert!(
        stats.contains("cmdstat_mset:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"),
        "{stats}"
    );
}

#[test]
fn a_transaction_takes_nothing_in_beyond_the_limit() {
    with_shards(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        client.check("multi\r\nset a 1\r\n", "+OK\r\n+QUEUED\r\n");
        set(&mut other, "maxmemory", "1");
        client.check("get a\r\nset b 2\r\n", format!("+QUEUED\r\n{OOM}"));
        set(&mut other, "maxmemory", "0");
        client.check(
            "set b 1\r\nexec\r\n",
            "+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        );
        client.check("mget a b\r\n", "*2\r\n$-1\r\n$-1\r\n");

        client.check("multi\r\nset a 1\r\nget a\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        set(&mut other, "maxmemory", "1");
        let reason = OOM.strip_prefix('-').unwrap();
        client.check("exec\r\n", format!("-EXECABORT Transaction discarded because of: {reason}"));
        set(&mut other, "maxmemory", "0");
        // What has begun is not torn apart.
        client.check(
            "multi\r\nset a 1\r\nconfig set maxmemory 1\r\nset a 2\r\n",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n",
        );
        client.check("exec\r\nget a\r\ndel a\r\n", "*3\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n2\r\n:1\r\n");
        // It is over.
        client.check("get a\r\nexec\r\n", "$-1\r\n-ERR EXEC without MULTI\r\n");

        client.check("multi\r\nset a 1\r\ndiscard\r\n", format!("+OK\r\n{OOM}+OK\r\n"));
        set(&mut other, "maxmemory", "0");
        client.check("multi\r\nget a\r\nping\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        set(&mut other, "maxmemory", "1");
        client.check("exec\r\n", "*2\r\n$-1\r\n+PONG\r\n");
    });
}

#[test]
fn a_share_of_the_memory_is_a_limit_in_bytes() {
    let server = Server::start_with(1, &["--maxmemory", "50%"]);
    let mut client = server.client();
    client.check("config get maxmemory\r\n", "*2\r\n$9\r\nmaxmemory\r\n$3\r\n50%\r\n");
    let limit = server.info("maxmemory");
    assert!(limit > 0 && limit <= server.info("total_system_memory") / 2, "{limit}");
    set(&mut client, "maxmemory", "100%");
    assert!((server.info("maxmemory") - 2 * limit).abs() <= 200);
    client.check("set a 1\r\n", "+OK\r\n");
}

const KEYS: usize = 4000;

/// Sets keys of 1 KB in pipelines; how many were refused.
fn fill(client: &mut Client, prefix: &str, expires: bool) -> usize {
    let value = "v".repeat(1000);
    let mut refused = 0;
    for first in (0..KEYS).step_by(100) {
        for n in first..first + 100 {
            let key = format!("{prefix}{n}");
            let mut words = vec!["SET", &key, &value];
            words.extend_from_slice(if expires { &["EX", "1000"] } else { &[] });
            client.send(request(&words));
        }
        for _ in 0..100 {
            let line = client.line();
            assert!(line == "+OK" || line == OOM.trim_end(), "{line}");
            refused += usize::from(line != "+OK");
        }
    }
    refused
}

/// From now on there is room for about half of the keys of a `fill`; the limit.
fn limit(server: &Server, client: &mut Client, policy: &str) -> i64 {
    let limit = server.info("used_memory") + 2 * 1024 * 1024;
    set(client, "maxmemory-policy", policy);
    set(client, "maxmemory", &limit.to_string());
    limit
}

fn keys(server: &Server) -> usize {
    redis::cmd("DBSIZE").query(&mut server.redis()).unwrap()
}

/// Keys of a `fill` that are still there.
fn left(server: &Server, prefix: &str) -> usize {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("{prefix}{n}")).collect();
    redis::cmd("EXISTS").arg(keys).query(&mut server.redis()).unwrap()
}

fn check_limit(server: &Server, limit: i64) {
    // INFO itself takes some memory, and what several shards do at once a little more for a moment.
    let allowed = limit + limit / 100 + 128 * 1024;
    eventually("within the limit", || server.info("used_memory") <= allowed);
}

#[test]
fn every_policy_keeps_memory_within_the_limit() {
    with_shards(|server| {
        let mut client = server.client();
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            let limit = limit(server, &mut client, policy);
            assert_eq!(fill(&mut client, "a", false), 0, "{policy}");
            check_limit(server, limit);
            // In this order, for to ask takes memory, too.
            let (left, evicted) = (keys(server), server.info("evicted_keys") as usize);
            assert!(left > KEYS / 5 && (KEYS..KEYS + 100).contains(&(left + evicted)), "{policy}: {left} {evicted}");
            client.check("flushall sync\r\nconfig resetstat\r\n", "+OK\r\n+OK\r\n");
        }
        for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
            set(&mut client, "maxmemory", "0");
            fill(&mut client, "kept", false);
            let limit = limit(server, &mut client, policy);
            assert_eq!(fill(&mut client, "a", true), 0, "{policy}");
            check_limit(server, limit);
            assert_eq!(left(server, "kept"), KEYS, "{policy}");
            assert!(server.info("evicted_keys") > KEYS as i64 / 4, "{policy}");
            // When none is left that may go, writes are refused.
            assert!(fill(&mut client, "b", false) > KEYS / 4, "{policy}");
            assert_eq!((left(server, "kept"), left(server, "a")), (KEYS, 0), "{policy}");
            client.check("flushall sync\r\nconfig resetstat\r\n", "+OK\r\n+OK\r\n");
        }
    });
}

#[test]
fn what_is_used_often_stays() {
    with_shards(|server| {
        let mut client = server.client();
        limit(server, &mut client, "allkeys-lfu");
        for n in 0..200 {
            let key = format!("hot{n}");
            client.check(request(&["SET", &key, "v"]), "+OK\r\n");
            client.check(request(&["GET", &key]).repeat(50), "$1\r\nv\r\n".repeat(50));
        }
        fill(&mut client, "a", false);
        fill(&mut client, "b", false);
        assert!(server.info("evicted_keys") > KEYS as i64);
        let hot = left(server, "hot");
        assert!(hot >= 195, "{hot} of 200");
    });
}

#[test]
fn a_shard_without_keys_gets_its_room_when_another_has_taken_it_all() {
    let server = Server::start(4);
    let mut client = server.client();
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        limit(&server, &mut client, policy);
        assert_eq!(fill(&mut client, "{a}", false), 0, "{policy}");
        assert!(server.info("evicted_keys") > 0, "{policy}");
        // Idle times are whole seconds.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let value = "v".repeat(1000);
        for n in 0..300 {
            client.check(request(&["SET", &format!("{{b}}{n}"), &value]), "+OK\r\n");
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        let left = left(&server, "{b}");
        assert!(left > 200, "{policy}: {left} of 300");
        client.check("flushall\r\nconfig resetstat\r\n", "+OK\r\n+OK\r\n");
    }
}

#[test]
fn a_lower_limit_is_kept_without_any_command() {
    with_shards(|server| {
        let mut client = server.client();
        let before = server.info("used_memory");
        fill(&mut client, "a", false);
        set(&mut client, "maxmemory-policy", "allkeys-random");
        let limit = before + 1024 * 1024;
        set(&mut client, "maxmemory", &limit.to_string());
        check_limit(server, limit);
        assert!(keys(server) > 100);
    });
}

#[test]
fn evicted_keys_are_told_and_fail_transactions_that_watch_them() {
    with_shards(|server| {
        let (mut client, mut subscriber) = (server.client(), server.client());
        set(&mut client, "notify-keyspace-events", "Ee");
        subscriber.check(
            "subscribe __keyevent@0__:evicted\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$22\r\n__keyevent@0__:evicted\r\n:1\r\n",
        );
        client.check("setex gone 100 v\r\nset stays v\r\nwatch gone\r\n", "+OK\r\n+OK\r\n+OK\r\n");
        let mut other = server.client();
        set(&mut other, "maxmemory-policy", "volatile-ttl");
        set(&mut other, "maxmemory", "1");
        eventually("evicted", || server.info("evicted_keys") == 1);
        subscriber.expect("*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:evicted\r\n$4\r\ngone\r\n");
        client.check("multi\r\n", "+OK\r\n");
        set(&mut other, "maxmemory", "0");
        client.check("get stays\r\nexec\r\n", "+QUEUED\r\n*-1\r\n");
        client.check("mget gone stays\r\n", "*2\r\n$-1\r\n$1\r\nv\r\n");
    });
}

#[test]
fn clients_that_take_too_much_are_closed_the_largest_first() {
    let server = Server::start(1);
    let mut control = server.client();
    control.check("CLIENT NO-EVICT ON\r\n", "+OK\r\n");
    control.check("CONFIG SET maxmemory-clients 2mb\r\n", "+OK\r\n");
    let mut small = server.client();
    small.check("PING\r\n", "+PONG\r\n");
    let mut large = server.client();
    large.check("MULTI\r\n", "+OK\r\n");
    let value = "x".repeat(300_000);
    for _ in 0..3 {
        large.check(request(&["SET", "key", &value]), "+QUEUED\r\n");
    }
    for _ in 0..6 {
        // Nobody reads the last ones.
        let _ = large.stream.write_all(&request(&["SET", "key", &value]));
    }
    large.read_to_close();
    small.check("PING\r\n", "+PONG\r\n");
    assert_eq!(server.info("evicted_clients"), 1);
    // A share of maxmemory, of which there is none: no limit.
    control.check("CONFIG SET maxmemory-clients 1%\r\n", "+OK\r\n");
    small.check("MULTI\r\n", "+OK\r\n");
    for _ in 0..6 {
        small.check(request(&["SET", "key", &value]), "+QUEUED\r\n");
    }
    control.check("CONFIG SET maxmemory 100mb\r\n", "+OK\r\n");
    small.expect_close();
}

/// All that clients send in the meantime is run in one turn.
fn in_one_turn(server: &Server, send: impl FnOnce()) {
    let mut holder = server.client();
    holder.send("debug sleep 0.5\r\n");
    std::thread::sleep(std::time::Duration::from_millis(100));
    send();
    holder.expect("+OK\r\n");
}

#[test]
fn clients_that_take_too_much_go_before_any_key() {
    let server = Server::start_with(1, &["--enable-debug-command", "yes", "--maxmemory-policy", "allkeys-lru"]);
    let mut control = server.client();
    control.check("client no-evict on\r\n", "+OK\r\n");
    set(&mut control, "maxmemory-clients", "3mb");
    let value = "x".repeat(100_000);
    for key in 0..10 {
        control.check(request(&["SET", &key.to_string(), &value]), "+OK\r\n");
    }
    set(&mut control, "maxmemory", &(server.info("used_memory") + 5_000_000).to_string());
    let mut readers: Vec<Client> = (0..20).map(|_| server.client()).collect();
    in_one_turn(&server, || readers.iter_mut().for_each(|reader| reader.send("mget 1 2 3 4 5\r\n")));
    eventually("evicted", || server.info("evicted_clients") > 0);
    assert_eq!((server.info("evicted_keys"), keys(&server)), (0, 10));
}

#[test]
fn what_clients_are_told_of_evicted_keys_evicts_no_others() {
    with_shards(|server| {
        let mut control = server.client();
        set(&mut control, "maxmemory-policy", "allkeys-lru");
        let names: Vec<String> = (0..300).map(|n| format!("{n}{}", "x".repeat(1000))).collect();
        names.iter().for_each(|name| control.check(request(&["SET", name, "v"]), "+OK\r\n"));
        let mut trackers: Vec<Client> = (0..10).map(|_| server.client()).collect();
        for tracker in &mut trackers {
            tracker.send("hello 3\r\nclient tracking on\r\n");
            while tracker.line() != "+OK" {}
            names.iter().for_each(|name| tracker.check(request(&["GET", name]), "$1\r\nv\r\n"));
        }
        let limit = server.info("used_memory") - 100_000;
        set(&mut control, "maxmemory", &limit.to_string());
        eventually("evicted", || server.info("evicted_keys") >= 10);
        let left = keys(server);
        // Each gives back its name twice: its own, and that of what was noted of who has read it. (Several shards do not know
        // how much the others are about to give back.)
        let shards = server.info("shards");
        assert!(left > if shards == 1 { 225 } else { 150 }, "{left}");
        trackers.iter_mut().for_each(|tracker| tracker.expect(">2\r\n$10\r\ninvalidate\r\n"));
    });
}
