//! Commands that wait for data, through real connections, with keys on all shards.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Server, eventually, with_shards};

/// Keys that lie on all shards.
const KEYS: &str = "a b c d e f g h";

fn text(replies: &str) -> String {
    replies.replace('|', "\r\n")
}

/// A client that waits from now on.
fn waiting(server: &Server, command: &str) -> Client {
    let before = server.info("blocked_clients");
    let mut client = server.client();
    client.send(format!("{command}\r\n"));
    eventually("the client waits", || server.info("blocked_clients") == before + 1);
    client
}

#[test]
fn data_on_any_shard_ends_the_wait() {
    with_shards(|server| {
        let mut other = server.client();
        for key in KEYS.split(' ') {
            let mut client = waiting(server, &format!("BLPOP {KEYS} 0"));
            other.check(format!("RPUSH {key} 1 2\r\n"), ":2\r\n");
            client.expect(text(&format!("*2|$1|{key}|$1|1|")));
            other.check(format!("LRANGE {key} 0 -1\r\nDEL {key}\r\n"), text("*1|$1|2|:1|"));
            let mut client = waiting(server, &format!("BZMPOP 0 8 {KEYS} MAX COUNT 2"));
            other.check(format!("ZADD {key} 1 x 2 y 3 z\r\nDEL {key}\r\n"), text(":3|:1|"));
            client.expect(text(&format!("*2|$1|{key}|*2|*2|$1|z|$1|3|*2|$1|y|$1|2|")));
        }
        assert_eq!(server.info("total_blocking_keys"), 0);
    });
}

#[test]
fn who_came_first_is_served_first() {
    with_shards(|server| {
        let mut clients: Vec<Client> = (0..6).map(|_| waiting(server, &format!("BLPOP {KEYS} 0"))).collect();
        let mut other = server.client();
        for (index, client) in clients.iter_mut().enumerate() {
            match index {
                0 => other.check("RPUSH c 0 1 2\r\n", ":3\r\n"),
                3 => other.check("RPUSH f 3 4 5\r\n", ":3\r\n"),
                _ => {}
            }
            let key = if index < 3 { "c" } else { "f" };
            client.expect(text(&format!("*2|$1|{key}|$1|{index}|")));
        }
    });
}

#[test]
fn a_move_to_another_shard_happens_once_and_in_order() {
    with_shards(|server| {
        let targets: Vec<&str> = KEYS.split(' ').collect();
        let mut clients: Vec<Client> =
            targets.iter().map(|target| waiting(server, &format!("BLMOVE source {target} LEFT RIGHT 0"))).collect();
        let mut other = server.client();
        other.check("RPUSH source 0 1 2 3 4 5 6 7 8\r\n", ":9\r\n");
        for (index, client) in clients.iter_mut().enumerate() {
            client.expect(text(&format!("$1|{index}|")));
            other.check(format!("LRANGE {} 0 -1\r\n", targets[index]), text(&format!("*1|$1|{index}|")));
        }
        other.check("LRANGE source 0 -1\r\n", text("*1|$1|8|"));
    });
}

#[test]
fn who_has_waited_in_vain_is_told_in_time() {
    with_shards(|server| {
        let mut client = server.client();
        for (command, reply) in [
            ("BLPOP a b c 0.05", "*-1|"),
            ("BLMOVE a b LEFT LEFT 0.05", "$-1|"),
            ("XREAD BLOCK 50 STREAMS a b $ $", "*-1|"),
        ] {
            let start = Instant::now();
            client.check(format!("{command}\r\n"), text(reply));
            let elapsed = start.elapsed();
            assert!(elapsed >= Duration::from_millis(50), "{command}: after {elapsed:?}");
        }
        assert_eq!(server.info("clients_in_timeout_table"), 0);
        client.check("RPUSH a 1\r\nLLEN a\r\n", ":1\r\n:1\r\n");
    });
}

#[test]
fn streams_are_waited_for_on_all_shards() {
    with_shards(|server| {
        let mut other = server.client();
        let mut client = waiting(server, "XREAD BLOCK 0 STREAMS a b c d $ $ $ $");
        other.check("XADD c 5-1 f v\r\n", text("$3|5-1|"));
        client.expect(text("*1|*2|$1|c|*1|*2|$3|5-1|*2|$1|f|$1|v|"));
        other.check("XGROUP CREATE c g $\r\nXGROUP CREATE d g $ MKSTREAM\r\n", "+OK\r\n+OK\r\n");
        let mut client = waiting(server, "XREADGROUP GROUP g me BLOCK 0 STREAMS c d > >");
        other.check("DEL d\r\n", ":1\r\n");
        assert!(client.line().starts_with("-NOGROUP"));
    });
}

#[test]
fn inside_a_transaction_nobody_waits_and_its_end_serves_who_does() {
    with_shards(|server| {
        let mut other = server.client();
        other.check("MULTI\r\nBLPOP a b c 0\r\nEXEC\r\n", text("+OK|+QUEUED|*1|*-1|"));
        let mut client = waiting(server, &format!("BLPOP {KEYS} 0"));
        let commands = "MULTI\r\nRPUSH a 1\r\nDEL a\r\nRPUSH b 2\r\nEXEC\r\n";
        other.check(commands, text("+OK|+QUEUED|+QUEUED|+QUEUED|*3|:1|:1|:1|"));
        client.expect(text("*2|$1|b|$1|2|"));
    });
}

/// DEBUG SLEEP takes time, for those who come behind its transaction.
#[test]
fn what_has_expired_when_its_transaction_ends_serves_nobody() {
    for shards in [1, 2, 4] {
        let server = Server::start_with(shards, &["--enable-debug-command", "yes"]);
        let mut other = server.client();
        let mut client = waiting(&server, "BLPOP a b 0");
        let commands = "MULTI\r\nRPUSH a 1\r\nPEXPIRE a 20\r\nDEBUG SLEEP 0.05\r\nEXEC\r\n";
        other.check(commands, text("+OK|+QUEUED|+QUEUED|+QUEUED|*3|:1|:1|+OK|"));
        other.check("RPUSH b 2\r\n", ":1\r\n");
        client.expect(text("*2|$1|b|$1|2|"));
    }
}

#[test]
fn a_wait_can_be_ended_from_elsewhere() {
    with_shards(|server| {
        let mut other = server.client();
        for (how, reply) in [("TIMEOUT", "*-1|"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK|")] {
            let mut client = server.client();
            client.send("CLIENT ID\r\n");
            let id = client.line()[1..].to_string();
            client.send(format!("BLPOP {KEYS} 0\r\n"));
            eventually("the client waits", || server.info("blocked_clients") == 1);
            other.check(format!("CLIENT UNBLOCK {id} {how}\r\n"), ":1\r\n");
            client.expect(text(reply));
            other.check(format!("CLIENT UNBLOCK {id}\r\n"), ":0\r\n");
        }
    });
}

#[test]
fn who_has_left_takes_nothing() {
    with_shards(|server| {
        drop(waiting(server, &format!("BLPOP {KEYS} 0")));
        eventually("nobody waits", || server.info("blocked_clients") == 0);
        let mut finished = waiting(server, &format!("BLPOP {KEYS} 0"));
        finished.finish_sending();
        eventually("nobody waits", || server.info("blocked_clients") == 0);
        server.client().check("RPUSH a 1\r\nLLEN a\r\n", ":1\r\n:1\r\n");
    });
}
