//! Scripts that run for longer than `busy-reply-threshold`: what other clients are told, how the script is ended, and that
//! nothing comes between its commands.

mod common;

use std::time::Duration;

use common::{Client, Server, eventually, request, with_shards};

const BUSY_SCRIPT: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
const BUSY_FUNCTION: &str =
    "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n";

fn words(line: &str) -> Vec<u8> {
    request(&line.split(' ').collect::<Vec<&str>>())
}

fn ask(client: &mut Client, line: &str) -> String {
    client.send(words(line));
    client.line()
}

/// A client, while threshold and scripts are set up.
fn prepared(server: &Server) -> Client {
    let mut client = server.client();
    client.check(words("CONFIG SET busy-reply-threshold 10"), "+OK\r\n");
    client
}

/// The server is busy for this client.
fn await_busy_for(client: &mut Client) {
    eventually("the server is busy", || ask(client, "PING").starts_with("-BUSY"));
}

/// The server is busy for every client, on whatever shard.
fn await_busy(server: &Server, client: &mut Client) {
    await_busy_for(client);
    // The other shards see it in their next turn.
    let mut others: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for other in &mut others {
        eventually("all shards are busy", || ask(other, "GET k").starts_with("-BUSY"));
    }
}

/// Ways to spin for ever, over keys of one shard, of several, and of any.
fn spinning() -> Vec<Vec<u8>> {
    let spin = "while true do end";
    let catch = "while true do pcall(function() while true do end end) end";
    let read = "redis.call('GET', 'undeclared') while true do end";
    let sort =
        "local t = {} for n = 1, 100 do t[n] = n end while true do table.sort(t, function(a, b) return a > b end) end";
    let mut ways = vec![request(&["EVAL", read, "0"])];
    for body in [spin, catch, sort] {
        ways.push(request(&["EVAL", body, "0"]));
        ways.push(request(&["EVAL", body, "1", "k"]));
        ways.push(request(&["EVAL", body, "4", "a", "b", "c", "d"]));
    }
    ways
}

#[test]
fn a_script_that_runs_too_long_can_be_killed() {
    with_shards(|server| {
        let mut other = prepared(server);
        for script in spinning() {
            let mut client = server.client();
            // What the client sends behind it waits for it.
            client.send([script, words("SET k v"), words("GET k")].concat());
            await_busy(server, &mut other);
            other.check(words("GET k"), BUSY_SCRIPT);
            other.check(words("SHUTDOWN"), BUSY_SCRIPT);
            other.check(words("FUNCTION KILL"), BUSY_SCRIPT);
            other.check(words("FUNCTION STATS"), BUSY_SCRIPT);
            other.check(words("NOSUCH"), "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
            other.check([words("MULTI"), words("GET k")].concat(), format!("+OK\r\n{BUSY_SCRIPT}"));
            let aborted = BUSY_SCRIPT.replace("-", "-EXECABORT Transaction discarded because of: ");
            other.check(words("EXEC"), aborted);
            other.check(words("SCRIPT KILL"), "+OK\r\n");
            let killed = client.line();
            assert!(killed.contains("Script killed by user with SCRIPT KILL"), "{killed}");
            client.expect("+OK\r\n$1\r\nv\r\n");
            other.check([words("PING"), words("GET k")].concat(), "+PONG\r\n$1\r\nv\r\n");
            other.check(words("SCRIPT KILL"), "-NOTBUSY No scripts in execution right now.\r\n");
        }
    });
}

#[test]
fn a_function_that_runs_too_long_can_be_killed() {
    with_shards(|server| {
        let mut other = prepared(server);
        let library = "#!lua name=l\nredis.register_function('spin', function() while true do end end)";
        other.check(request(&["FUNCTION", "LOAD", library]), "$1\r\nl\r\n");
        let mut client = server.client();
        client.send(words("FCALL spin 1 k"));
        await_busy(server, &mut other);
        other.check(words("GET k"), BUSY_FUNCTION);
        other.check(words("SCRIPT KILL"), BUSY_FUNCTION);
        other.check(
            words("FUNCTION STATS"),
            "*4\r\n$14\r\nrunning_script\r\n*6\r\n$4\r\nname\r\n$4\r\nspin\r\n$7\r\ncommand\r\n*4\r\n$5\r\nFCALL\r\n$4\r\n\
             spin\r\n$1\r\n1\r\n$1\r\nk\r\n$11\r\nduration_ms\r\n",
        );
        assert!(other.line().starts_with(':'));
        other.expect(
            "$7\r\nengines\r\n*2\r\n$3\r\nLUA\r\n*4\r\n$15\r\nlibraries_count\r\n:1\r\n$15\r\nfunctions_count\r\n:1\r\n",
        );
        other.check(words("FUNCTION KILL"), "+OK\r\n");
        assert!(client.line().contains("killed by user with FUNCTION KILL"));
        client.check(words("PING"), "+PONG\r\n");
    });
}

/// Runs for a while after its first write, and is never done half.
const SLOW_WRITER: &str = "redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], 'job')
    local n = 0 for i = 1, 60000000 do n = n + 1 end
    redis.call('INCR', KEYS[1]) return redis.call('TIME')";

#[test]
fn a_script_that_has_written_runs_to_its_end() {
    with_shards(|server| {
        prepared(server);
        // On one shard, and over several.
        for (at, keys) in [["{t}n", "{t}list"], ["n", "list"]].into_iter().enumerate() {
            let [number, list] = keys;
            let mut waits = server.client();
            waits.send(request(&["BLPOP", list, "0"]));
            eventually("a client waits", || server.info("blocked_clients") == 1);
            let mut other = server.client();
            let mut client = server.client();
            let script = request(&["EVAL", SLOW_WRITER, "2", number, list]);
            // In a transaction others of its commands come before and behind.
            let sent = match at {
                0 => [words("MULTI"), words("SET {t}x 1"), script, words("INCR {t}x"), words("EXEC")].concat(),
                _ => script,
            };
            client.send(sent);
            await_busy(server, &mut other);
            let unkillable = ask(&mut other, "SCRIPT KILL");
            assert!(
                unkillable.starts_with("-UNKILLABLE Sorry the script already executed write commands"),
                "{unkillable}"
            );
            // To be answered behind the script, with what it has left.
            eventually("the script ends", || !ask(&mut other, "PING").starts_with("-BUSY"));
            other.check(request(&["GET", number]), "$1\r\n2\r\n");
            let time = "*2\r\n$10\r\n";
            match at {
                0 => client.expect(format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n{time}")),
                _ => client.expect(time),
            }
            waits.expect(format!("*2\r\n${}\r\n{list}\r\n$3\r\njob\r\n", list.len()));
        }
    });
}

#[test]
fn nothing_expires_while_a_script_pauses() {
    let server = Server::start(1);
    let mut other = prepared(&server);
    other.check(words("SET k v PX 150"), "+OK\r\n");
    let mut client = server.client();
    let script = "local n = 0 for i = 1, 100000000 do n = n + 1 end return redis.call('GET', 'k')";
    client.send(request(&["EVAL", script, "0"]));
    await_busy(&server, &mut other);
    client.expect("$1\r\nv\r\n");
    std::thread::sleep(Duration::from_millis(150));
    other.check(words("GET k"), "$-1\r\n");
}

#[test]
fn a_busy_server_can_be_shut_down() {
    for shards in [1, 4] {
        let mut server = Server::start(shards);
        let mut other = prepared(&server);
        let mut client = server.client();
        client.send(request(&["EVAL", "redis.call('SET', KEYS[1], 1) while true do end", "1", "k"]));
        await_busy(&server, &mut other);
        other.check(words("SHUTDOWN SAVE"), BUSY_SCRIPT);
        other.send(words("SHUTDOWN NOSAVE"));
        assert!(server.wait(Duration::from_secs(10)).success());
    }
}

#[test]
fn what_a_script_publishes_comes_though_its_client_has_left() {
    with_shards(|server| {
        let mut other = prepared(server);
        let mut listener = server.client();
        listener.check(words("SUBSCRIBE news"), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
        let body = "local from = os.clock() while os.clock() - from < 1 do end
            redis.pcall('INFO') redis.call('PUBLISH', 'news', 'late')";
        for keys in [&["0"][..], &["1", "k"], &["4", "a", "b", "c", "d"]] {
            let mut client = server.client();
            client.send(request(&[&["EVAL", body], keys].concat()));
            await_busy_for(&mut other);
            drop(client);
            listener.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nlate\r\n");
            eventually("the script is over", || ask(&mut other, "PING") == "+PONG");
        }
    });
}
