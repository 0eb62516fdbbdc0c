//! maxmemory: what is refused, and what is removed, when there is no more of it.

mod common;

use common::{Client, Server, request, with_shards};

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
        // Not even what takes no memory when it runs: to be queued does.
        client.check("get a\r\n", OOM);
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
