//! Transactions through real connections, with keys on all shards.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::{Client, with_shards};
use redis::{Commands, cmd};

/// Sends commands, one a line, and compares the replies, with `|` for the ends of lines.
#[track_caller]
fn check(client: &mut Client, commands: &str, replies: &str) {
    client.check(commands.replace(" / ", "\r\n") + "\r\n", replies.replace('|', "\r\n"));
}

#[test]
fn queued_commands_run_at_exec_wherever_their_keys_are() {
    with_shards(|server| {
        let mut client = server.client();
        check(&mut client, "MULTI / SET a 1 / MSET b 2 c 3 d 4", "+OK|+QUEUED|+QUEUED|");
        check(&mut server.client(), "EXISTS a b c d", ":0|");
        check(&mut client, "MGET a b c d / RENAME a e / DBSIZE / PING", "+QUEUED|+QUEUED|+QUEUED|+QUEUED|");
        check(&mut client, "EXEC", "*6|+OK|+OK|*4|$1|1|$1|2|$1|3|$1|4|+OK|:4|+PONG|");
        check(&mut client, "MGET a e", "*2|$-1|$1|1|");
        check(&mut client, "MULTI / SELECT 3 / SET a 3 / EXEC / GET a", "+OK|+QUEUED|+QUEUED|*2|+OK|+OK|$1|3|");
    });
}

#[test]
fn a_pipeline_of_transactions_is_answered_in_order() {
    with_shards(|server| {
        let mut client = server.client();
        let (mut commands, mut replies) = (Vec::new(), String::new());
        for round in 0..50 {
            commands.push(format!("MSET a {round} b {round} c {round} d {round} / GET a / GET d / MGET d a d"));
            let value = format!("${}|{round}|", round.to_string().len());
            replies += &format!("+OK|{value}{value}*3|{value}{value}{value}");
            commands.push("MULTI / INCR a / INCR b / GET nothing / EXEC / GET a / EXISTS a b a / DEL b nothing".into());
            let next = round + 1;
            replies += &format!("+OK|+QUEUED|+QUEUED|+QUEUED|*3|:{next}|:{next}|$-1|");
            replies += &format!("${}|{next}|:3|:1|", next.to_string().len());
            commands.push("MULTI / LPUSH a 1 / APPEND b x / EXEC / MULTI / EXEC".into());
            replies +=
                "+OK|+QUEUED|+QUEUED|*2|-WRONGTYPE Operation against a key holding the wrong kind of value|:1|+OK|*0|";
        }
        check(&mut client, &commands.join(" / "), &replies);
        check(&mut client, "CLIENT REPLY SKIP / MSET a 1 b 2 / MGET a b", "*2|$1|1|$1|2|");
        check(&mut client, "MULTI / SET a 3 / SET b 4", "+OK|+QUEUED|+QUEUED|");
        check(&mut client, "EXEC / MGET a b", "*2|+OK|+OK|*2|$1|3|$1|4|");
    });
}

#[test]
fn what_is_wrong_when_it_is_queued_ends_the_transaction() {
    with_shards(|server| {
        let mut client = server.client();
        let aborted = "-EXECABORT Transaction discarded because of previous errors.|";
        let arity = "-ERR wrong number of arguments for 'set' command|";
        check(&mut client, "MULTI / SET a 1 / SET a / EXEC / EXISTS a", &format!("+OK|+QUEUED|{arity}{aborted}:0|"));
        let inside = "-ERR Command not allowed inside a transaction|";
        check(&mut client, "MULTI / WATCH a / EXEC", &format!("+OK|{inside}{aborted}"));
        check(&mut client, "MULTI / MULTI / EXEC", &format!("+OK|{inside}{aborted}"));
        let exec = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command|";
        check(&mut client, "MULTI / EXEC x / EXEC", &format!("+OK|{exec}-ERR EXEC without MULTI|"));
        check(&mut client, "MULTI / SET a 1 / DISCARD / DISCARD", "+OK|+QUEUED|+OK|-ERR DISCARD without MULTI|");
    });
}

#[test]
fn what_is_wrong_when_it_runs_leaves_the_rest_alone() {
    with_shards(|server| {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
        check(
            &mut server.client(),
            "MULTI / SET a x / LPUSH a y / SET b z / EXEC",
            &format!("+OK|+QUEUED|+QUEUED|+QUEUED|*3|+OK|{wrong}+OK|"),
        );
    });
}

#[test]
fn a_watched_key_that_changes_makes_exec_do_nothing() {
    with_shards(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        for change in ["SET b 1", "RENAME c b", "FLUSHALL", "SWAPDB 0 1", "COPY c b REPLACE", "PEXPIRE b 1"] {
            check(&mut other, "FLUSHALL / SET b 0 / SET c 0", "+OK|+OK|+OK|");
            check(&mut client, "WATCH a b / MULTI / SET a 1", "+OK|+OK|+QUEUED|");
            other.send(format!("{change}\r\n"));
            other.line();
            std::thread::sleep(std::time::Duration::from_millis(3));
            check(&mut client, "EXEC", "*-1|");
            check(&mut client, "MULTI / PING / EXEC", "+OK|+QUEUED|*1|+PONG|");
        }
        check(&mut client, "WATCH a / UNWATCH", "+OK|+OK|");
        check(&mut other, "SET a 1", "+OK|");
        check(&mut client, "MULTI / PING / EXEC", "+OK|+QUEUED|*1|+PONG|");
        assert_eq!(server.info("total_watched_keys"), 0);
    });
}

#[test]
fn what_had_expired_when_it_began_to_be_watched_does_not_change() {
    with_shards(|server| {
        let (mut client, mut other) = (server.client(), server.client());
        // So many that hardly all are removed before.
        let keys: Vec<String> = (0..20).map(|number| format!("{{a}}{number}")).collect();
        let sets: Vec<String> = keys.iter().map(|key| format!("SET {key} v PX 1")).collect();
        check(&mut client, &sets.join(" / "), &"+OK|".repeat(keys.len()));
        std::thread::sleep(std::time::Duration::from_millis(5));
        // Somebody wants to know of changes on that shard.
        check(&mut other, "WATCH {a}other", "+OK|");
        check(&mut client, &format!("WATCH {} / MULTI / PING / EXEC", keys.join(" ")), "+OK|+OK|+QUEUED|*1|+PONG|");
    });
}

#[test]
fn a_client_that_leaves_watches_nothing_any_more() {
    with_shards(|server| {
        check(&mut server.client(), "WATCH a b c d", "+OK|");
        common::eventually("nobody watches", || server.info("total_watched_keys") == 0);
    });
}

/// Money is moved between accounts on all shards: whoever looks sees none missing.
#[test]
fn readers_see_transactions_whole() {
    const ACCOUNTS: usize = 8;
    const ROUNDS: usize = 300;
    let names: Vec<String> = (0..ACCOUNTS).map(|account| format!("account:{account}")).collect();
    with_shards(|server| {
        let mut client = server.redis();
        let balances: Vec<(&String, i64)> = names.iter().map(|name| (name, 100)).collect();
        let () = client.mset(&balances).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let movers: Vec<_> = (0..3)
                .map(|mover| {
                    let (mut client, names) = (server.redis(), &names);
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let (from, to) = (&names[(round + mover) % ACCOUNTS], &names[(round * 3 + 1) % ACCOUNTS]);
                            let () = redis::pipe().atomic().decr(from, 1).incr(to, 1).query(&mut client).unwrap();
                        }
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let mut client = server.redis();
                while !done.load(Relaxed) {
                    let balances: Vec<i64> = cmd("MGET").arg(&names).query(&mut client).unwrap();
                    assert_eq!(balances.iter().sum::<i64>(), 100 * ACCOUNTS as i64);
                }
            });
            movers.into_iter().for_each(|mover| mover.join().expect("a mover fails only with its assertion"));
            done.store(true, Relaxed);
            reader.join().expect("a reader fails only with its assertion");
        });
    });
}
