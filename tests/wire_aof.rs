//! Loading the append-only file: after a restart, after a kill, into another number of shards, and what Redis has written.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use common::{Server, command, eventually, free_port, request};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("peristyle-aof-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn arguments(&self) -> [&str; 6] {
        let dir = self.0.to_str().expect("made of ASCII");
        ["--dir", dir, "--appendonly", "yes", "--enable-debug-command", "yes"]
    }

    fn start(&self, shards: usize) -> Server {
        let port = free_port();
        let server = Server::run_without_greeting(port, command(port, shards, &self.arguments()));
        let mut redis = server.redis();
        eventually("the file is loaded", || redis::cmd("PING").query::<String>(&mut redis).is_ok());
        server
    }

    fn append_only(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join("appendonlydir");
        fs::create_dir_all(&path).expect("a new directory");
        fs::write(path.join(name), bytes).expect("a new file");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn call(redis: &mut redis::Connection, line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a name"));
    words.for_each(|word| _ = command.arg(word));
    match command.query(redis) {
        Ok(redis::Value::Nil) => "nil".to_owned(),
        Ok(redis::Value::Okay) => "OK".to_owned(),
        Ok(value) => redis::from_redis_value(value).unwrap_or_default(),
        Err(error) => format!("{} {}", error.code().unwrap_or(""), error.detail().unwrap_or("")),
    }
}

fn fill(redis: &mut redis::Connection) {
    for number in 0..300 {
        call(redis, &format!("SET key:{number} {number}"));
        call(redis, &format!("RPUSH list:{} {number}", number % 7));
    }
    for line in [
        "MSET a 1 b 2 c 3 d 4",
        "RENAME a e",
        "SELECT 3",
        "HSET hash f v g w",
        "SWAPDB 3 4",
        "SELECT 0",
        "FLUSHDB",
        "MSET a 1 b 2 c 3 d 4",
        "EVAL return#(redis.call('SET',KEYS[1],1).ok..redis.call('INCR',KEYS[2])) 2 x y",
        "SPOP nothing",
        "SADD set a b c d",
        "SPOP set 2",
        "XADD stream 5-1 f v",
        "SET far v PX 3000000",
    ] {
        call(redis, line);
    }
    let library = "#!lua name=one\nredis.register_function('f', function() return 'f' end)";
    redis::cmd("FUNCTION").arg("LOAD").arg(library).query::<String>(redis).expect("FUNCTION LOAD");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_with_any_number_of_shards() {
    for (shards, then) in [(1, 4), (4, 4), (4, 1), (4, 2)] {
        let directory = Directory::new();
        let server = directory.start(shards);
        let mut redis = server.redis();
        fill(&mut redis);
        let digest = call(&mut redis, "DEBUG DIGEST");
        // Kills it.
        drop(server);
        for _ in 0..2 {
            let server = directory.start(then);
            let mut redis = server.redis();
            assert_eq!(call(&mut redis, "DEBUG DIGEST"), digest, "{shards} {then}");
            assert_eq!(call(&mut redis, "FCALL f 0"), "f");
            call(&mut redis, "SHUTDOWN");
        }
    }
}

/// Of each script, a part is where its declared key is, and some are elsewhere; one empties all in the middle.
#[test]
fn what_scripts_did_on_shards_that_they_did_not_name_is_there_after_a_kill() {
    let directory = Directory::new();
    let script = "for n = 1, #ARGV do redis.call('SET', KEYS[1], ARGV[n]) redis.call('RPUSH', ARGV[n], KEYS[1]) end
        if ARGV[1] == 'flush' then redis.call('FLUSHALL') redis.call('SELECT', 2) end
        redis.call('INCR', KEYS[1] .. ':' .. ARGV[1]) return redis.call('INCR', 'all')";
    let digest = {
        let server = directory.start(4);
        let mut redis = server.redis();
        for number in 0..60 {
            let key = format!("key:{number}");
            let other = if number == 30 { "flush".to_owned() } else { format!("other:{number}") };
            let mut command = redis::cmd("EVAL");
            let _: i64 = command.arg(script).arg(1).arg(key).arg(other).arg("x").arg("y").query(&mut redis).unwrap();
        }
        assert_eq!(call(&mut redis, "LLEN x"), "29");
        assert_eq!(server.info("scripts_leased"), 60);
        call(&mut redis, "DEBUG DIGEST")
    };
    for shards in [4, 1, 3] {
        let server = directory.start(shards);
        assert_eq!(call(&mut server.redis(), "DEBUG DIGEST"), digest, "{shards}");
    }
}

#[test]
fn debug_loadaof_loads_what_was_written() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards);
        let mut redis = server.redis();
        fill(&mut redis);
        let digest = call(&mut redis, "DEBUG DIGEST");
        assert_eq!(call(&mut redis, "DEBUG LOADAOF"), "OK");
        assert_eq!(call(&mut redis, "DEBUG DIGEST"), digest);
        assert_eq!(call(&mut redis, "FCALL f 0"), "f");
    }
}

#[test]
fn debug_loadaof_loads_what_is_there_though_nothing_is_written_now() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards);
        let mut redis = server.redis();
        assert_eq!(call(&mut redis, "SET k before"), "OK");
        assert_eq!(call(&mut redis, "CONFIG SET appendonly no"), "OK");
        assert_eq!(call(&mut redis, "SET k behind"), "OK");
        assert_eq!(call(&mut redis, "DEBUG LOADAOF"), "OK");
        assert_eq!(call(&mut redis, "GET k"), "before");
        call(&mut redis, "BGREWRITEAOF");
        eventually("the file is rewritten", || server.info("aof_rewrite_in_progress") == 0);
        assert_eq!(call(&mut redis, "DEBUG LOADAOF"), "OK");
        assert_eq!(call(&mut redis, "GET k"), "before");
    }
}

/// Before Redis 5 scripts were logged as they were called.
#[test]
fn what_stands_behind_a_slow_script_runs_when_it_has_ended() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let script = "redis.call('SET', KEYS[1], 'by the script') for i = 1, 300000 do redis.call('PING') end \
                      redis.call('APPEND', KEYS[1], ', to its end')";
        let eval = request(&["EVAL", script, "1", "k"]);
        let log = [request(&["SELECT", "0"]), eval, request(&["APPEND", "k", ", and then"])].concat();
        directory.append_only("appendonly.aof.1.incr.aof", &log);
        directory.append_only("appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        let port = free_port();
        let arguments = [&directory.arguments()[..], &["--busy-reply-threshold", "1"]].concat();
        let server = Server::run_without_greeting(port, command(port, shards, &arguments));
        let mut redis = server.redis();
        eventually("the file is loaded", || redis::cmd("PING").query::<String>(&mut redis).is_ok());
        assert_eq!(call(&mut redis, "GET k"), "by the script, to its end, and then");
    }
}

#[test]
fn a_log_that_calls_what_there_is_not_is_refused_with_its_name() {
    for (words, said) in [
        (&["CLUSTER", "slots-xxx"][..], "unknown subcommand 'slots-xxx'. Try CLUSTER HELP."),
        (&["CLUSTER", "SLOTS", "x"], "wrong number of arguments for 'cluster|slots' command"),
        (&["CLUSTER"], "wrong number of arguments for 'cluster' command"),
        (&["BLA"], "unknown command 'BLA'"),
    ] {
        let directory = Directory::new();
        directory.append_only("appendonly.aof.1.incr.aof", &request(words));
        directory.append_only("appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        let output = command(free_port(), 1, &directory.arguments()).stdout(Stdio::piped()).output().expect("it runs");
        let log = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), log.matches(said).count()), (Some(1), 1), "{log}");
    }
}

const REDIS_WROTE: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$5\r\nMULTI\r\n\
*3\r\n$6\r\nRENAME\r\n$1\r\na\r\n$1\r\nb\r\n*5\r\n$4\r\nMSET\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nd\r\n$1\r\n4\r\n*1\r\n$4\r\nEXEC\r\n";

#[test]
fn what_redis_wrote_is_loaded_and_written_on() {
    for shards in [1, 4] {
        let directory = Directory::new();
        directory.append_only("appendonly.aof.1.incr.aof", &[REDIS_WROTE, b"*3\r\n$3\r\nSET\r\n$1\r\n"].concat());
        directory.append_only("appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
        for number in 1..4 {
            let server = directory.start(shards);
            let mut redis = server.redis();
            assert_eq!(call(&mut redis, "DBSIZE"), if number == 1 { "3" } else { "4" });
            assert_eq!([call(&mut redis, "GET b"), call(&mut redis, "GET d")], ["1", "4"]);
            assert_eq!(call(&mut redis, "INCR n"), number.to_string());
        }
    }
}

#[test]
fn what_is_damaged_keeps_the_server_from_starting() {
    let directory = Directory::new();
    directory.append_only("appendonly.aof.1.incr.aof", &[REDIS_WROTE, b"!!!"].concat());
    directory.append_only("appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
    let output = command(free_port(), 2, &directory.arguments()).stdout(Stdio::piped()).output().expect("it runs");
    let log = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(log.contains("Bad file format reading the append only file appendonly.aof.1.incr.aof"), "{log}");
}
