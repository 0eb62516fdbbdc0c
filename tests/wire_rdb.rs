//! Saving to dump.rdb and loading it: what is kept, when it is refused, and what clients see meanwhile.

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Server, call, command, eventually, free_port};

const SOON: Duration = Duration::from_secs(10);

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("peristyle-rdb-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn start(&self, shards: usize, arguments: &[&str]) -> Server {
        let dir = self.0.to_str().expect("made of ASCII");
        let own = ["--dir", dir, "--enable-debug-command", "yes", "--enable-protected-configs", "yes"];
        let arguments = [&own, arguments].concat();
        let port = free_port();
        // Until it is loaded, PING is refused.
        let server = Server::run_without_greeting(port, command(port, shards, &arguments));
        let mut redis = server.redis();
        eventually("the file is loaded", || redis::cmd("PING").query::<String>(&mut redis).is_ok());
        server
    }

    fn dump(&self) -> PathBuf {
        self.0.join("dump.rdb")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fill(redis: &mut redis::Connection) {
    for line in [
        "SET text hello",
        "SET soon v PX 3000000",
        "RPUSH list a b c",
        "SADD set a b",
        "HSET hash f v",
        "ZADD zset 1 a",
        "XADD stream 1-1 f v",
        "DEBUG POPULATE 20000",
        "SELECT 3",
        "SET other v",
        "SELECT 0",
    ] {
        call(redis, line).expect(line);
    }
}

/// A save in the background has ended; whether it succeeded.
fn background_save_ended(redis: &mut redis::Connection) -> bool {
    let mut info = String::new();
    eventually("the save ends", || {
        info = call(redis, "INFO persistence").expect("INFO");
        info.contains("rdb_bgsave_in_progress:0")
    });
    info.contains("rdb_last_bgsave_status:ok")
}

#[test]
fn what_is_saved_is_there_after_a_restart_with_any_number_of_shards() {
    for (shards, then) in [(1, 4), (4, 1), (4, 2)] {
        for save in ["SAVE", "BGSAVE"] {
            let directory = Directory::new();
            let server = directory.start(shards, &[]);
            let mut redis = server.redis();
            fill(&mut redis);
            let digest = call(&mut redis, "DEBUG DIGEST").unwrap();
            call(&mut redis, save).unwrap();
            assert!(background_save_ended(&mut redis));
            assert_eq!(directory.files(), ["dump.rdb"]);
            drop(server);
            let server = directory.start(then, &[]);
            assert_eq!(call(&mut server.redis(), "DEBUG DIGEST").unwrap(), digest, "{save} {shards} {then}");
            assert!(server.info("rdb_last_load_keys_loaded") == 20_008);
        }
    }
}

fn load_library(redis: &mut redis::Connection, name: &str) {
    let code = format!("#!lua name={name}\nredis.register_function('{name}_name', function() return '{name}' end)");
    redis::cmd("FUNCTION").arg("LOAD").arg(code).query::<String>(redis).expect("FUNCTION LOAD");
}

#[test]
fn libraries_are_saved_and_loaded() {
    for (shards, then) in [(1, 4), (4, 1)] {
        let directory = Directory::new();
        let server = directory.start(shards, &[]);
        let mut redis = server.redis();
        load_library(&mut redis, "one");
        load_library(&mut redis, "two");
        call(&mut redis, "SAVE").unwrap();
        drop(server);
        let server = directory.start(then, &[]);
        let mut redis = server.redis();
        for name in ["one", "two"] {
            // From several connections: so that other shards than the first have to find it.
            for _ in 0..4 {
                assert_eq!(call(&mut server.redis(), &format!("FCALL {name}_name 0")).unwrap(), name);
            }
        }
        // What is loaded again replaces what was there, but where it is to stay.
        load_library(&mut redis, "three");
        assert!(call(&mut redis, "DEBUG RELOAD NOSAVE NOFLUSH").is_err());
        assert_eq!(call(&mut redis, "DEBUG RELOAD NOSAVE NOFLUSH MERGE").unwrap(), "OK");
        assert_eq!(call(&mut redis, "FCALL three_name 0").unwrap(), "three");
        assert_eq!(call(&mut redis, "DEBUG RELOAD NOSAVE").unwrap(), "OK");
        assert!(call(&mut redis, "FCALL three_name 0").is_err());
        assert_eq!(call(&mut redis, "FCALL one_name 0").unwrap(), "one");
        assert_eq!(call(&mut redis, "DEBUG RELOAD").unwrap(), "OK");
        assert_eq!(call(&mut redis, "FCALL two_name 0").unwrap(), "two");
    }
}

/// One client writes 1, 2, 3 … into keys of all shards in turn: in a file of one moment the values are those of some
/// moment between two writes.
#[test]
fn a_save_in_the_background_is_of_one_moment_on_all_shards() {
    const KEYS: usize = 50;
    let directory = Directory::new();
    let server = directory.start(4, &[]);
    call(&mut server.redis(), "DEBUG POPULATE 100000").unwrap();
    for round in 0..4 {
        let mut saver = server.redis();
        let (stop, written) = (&AtomicU32::new(0), &[AtomicU32::new(0), AtomicU32::new(0)]);
        std::thread::scope(|scope| {
            for (writer, written) in written.iter().enumerate() {
                let mut redis = server.redis();
                scope.spawn(move || {
                    for n in 1.. {
                        let key = format!("key:{}", writer * KEYS + n % KEYS);
                        let _: () = redis::cmd("SET").arg(key).arg(n).query(&mut redis).expect("SET");
                        written.store(n as u32, Relaxed);
                        if stop.load(Relaxed) > 0 {
                            return;
                        }
                    }
                });
            }
            // Nothing is left of the round before.
            let all_new = || written.iter().all(|written| written.load(Relaxed) > 2 * KEYS as u32);
            eventually("all keys are written", all_new);
            call(&mut saver, "BGSAVE").unwrap();
            assert!(background_save_ended(&mut saver));
            std::thread::sleep(Duration::from_millis(20));
            stop.store(1, Relaxed);
        });
        let loaded = directory.start(1 + round % 3, &[]);
        let mut redis = loaded.redis();
        for writer in 0..2 {
            let mut value = |n: usize| -> usize {
                let key = format!("key:{}", writer * KEYS + n % KEYS);
                redis::cmd("GET").arg(key).query::<String>(&mut redis).expect("GET").parse().unwrap_or(0)
            };
            let last = (0..KEYS).map(&mut value).max().unwrap();
            for n in last + 1 - KEYS.min(last)..=last {
                assert_eq!(value(n), n, "round {round}: the file has {last}, and not what was written before it");
            }
        }
    }
}

/// Overwrites keys of DEBUG POPULATE, in turn, from 50 connections, until it is told to stop; the longest write.
fn overwrite(server: &Server, keys: usize, size: usize, stop: &AtomicU32) -> Duration {
    const WRITERS: usize = 50;
    let value = "w".repeat(size);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (mut redis, value) = (server.redis(), &value);
                scope.spawn(move || {
                    let mut longest = Duration::ZERO;
                    for n in (writer..).step_by(WRITERS) {
                        if stop.load(Relaxed) > 0 {
                            break;
                        }
                        let started = Instant::now();
                        let key = format!("key:{}", n % keys);
                        let _: () = redis::cmd("SET").arg(key).arg(value).query(&mut redis).expect("SET");
                        longest = longest.max(started.elapsed());
                    }
                    longest
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("it writes")).max().expect("there are some")
    })
}

#[test]
fn writers_wait_for_a_file_that_does_not_keep_up_and_readers_do_not() {
    const KEYS: usize = 20_000;
    const BUFFER_BYTES: i64 = 1 << 20;
    for shards in [1, 4] {
        let directory = Directory::new();
        // Four seconds for all keys of 1000 bytes.
        let slow =
            ["--rdb-key-save-delay", "200", "--snapshot-buffer-max", "1mb", "--save", "", "--rdbcompression", "no"];
        let server = directory.start(shards, &slow);
        let mut redis = server.redis();
        call(&mut redis, &format!("DEBUG POPULATE {KEYS} key 1000")).unwrap();
        // Those that have expired are gone for all, though some stay for the snapshot.
        for n in 0..100 {
            call(&mut redis, &format!("SET expires:{n} v PX 2500")).unwrap();
        }
        let digest = call(&mut redis, "DEBUG DIGEST").unwrap();
        let (stop, largest, longest_read) = (&AtomicU32::new(0), &mut 0, &mut Duration::default());
        std::thread::scope(|scope| {
            call(&mut redis, "BGSAVE").unwrap();
            let writers = scope.spawn(|| overwrite(&server, KEYS, 1000, stop));
            let (mut reader, mut read) = (server.redis(), 0);
            while server.info("rdb_bgsave_in_progress") == 1 {
                *largest = server.info("snapshot_buffer_bytes").max(*largest);
                // Not those that somebody waits to write: see what is said of readers in the README.
                let started = Instant::now();
                assert_eq!(call(&mut reader, &format!("GET other:{read}")).unwrap(), "nil");
                *longest_read = started.elapsed().max(*longest_read);
                let expired = call(&mut reader, &format!("GET expires:{}", read % 100)).unwrap();
                assert!(started.elapsed() < SOON && ["v", "nil"].contains(&expired.as_str()));
                read += 1;
            }
            stop.store(1, Relaxed);
            let longest_write = writers.join().expect("they write");
            assert!(longest_write > *longest_read, "{longest_write:?} {longest_read:?}");
            assert!(read > 10, "{read} reads");
        });
        assert!(server.info("snapshot_keys_held") > 0, "nobody had to wait");
        // What was admitted overdraws: a command of each writer, with the keys that are saved together with its own.
        assert!(*largest > BUFFER_BYTES / 2 && *largest < 5 * BUFFER_BYTES, "{largest} bytes");
        assert!(call(&mut redis, "INFO persistence").unwrap().contains("rdb_last_bgsave_status:ok"));
        assert_eq!(server.info("snapshot_holds_keys") + server.info("snapshot_buffer_bytes"), 0);
        let lines = "EXISTS expires:1|SET key:1 new|GET key:1".split('|');
        assert_eq!(lines.map(|line| call(&mut redis, line).unwrap()).collect::<Vec<_>>(), ["0", "OK", "new"]);
        // The file has what there was when it began, but for what has expired since.
        call(&mut redis, "DEBUG RELOAD NOSAVE").unwrap();
        for n in 0..100 {
            call(&mut redis, &format!("SET expires:{n} v PX 2500")).unwrap();
        }
        assert_eq!(call(&mut redis, "DEBUG DIGEST").unwrap(), digest);
    }
}

#[test]
fn transactions_and_scripts_wait_for_the_file_as_well_and_stay_whole() {
    const KEYS: usize = 4000;
    for shards in [1, 4] {
        let directory = Directory::new();
        let slow =
            ["--rdb-key-save-delay", "500", "--snapshot-buffer-max", "200kb", "--save", "", "--rdbcompression", "no"];
        let server = directory.start(shards, &slow);
        let mut redis = server.redis();
        call(&mut redis, &format!("DEBUG POPULATE {KEYS} key 1000")).unwrap();
        call(&mut redis, "BGSAVE").unwrap();
        let stop = &AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| overwrite(&server, KEYS, 1000, stop));
            let mut writer = server.redis();
            for n in 1.. {
                let keys = [format!("key:{}", n % KEYS), format!("key:{}", (n + KEYS / 2) % KEYS)];
                let mut both = redis::pipe();
                both.atomic();
                for key in &keys {
                    both.cmd("SETRANGE").arg(key).arg(5000).arg(n);
                }
                let lengths: Vec<usize> = both.query(&mut writer).expect("EXEC");
                assert_eq!(lengths, [5000 + n.to_string().len(); 2]);
                let script = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[2])";
                let mut eval = redis::cmd("EVAL");
                let read: String =
                    eval.arg(script).arg(2).arg(&keys[0]).arg(&keys[1]).arg(n).query(&mut writer).expect("EVAL");
                assert!(read.len() == 1000 || read.ends_with(&n.to_string()), "{read}");
                if server.info("rdb_bgsave_in_progress") == 0 {
                    break;
                }
            }
            stop.store(1, Relaxed);
        });
        assert!(server.info("snapshot_keys_held") > 0, "nobody had to wait");
        assert!(call(&mut redis, "INFO persistence").unwrap().contains("rdb_last_bgsave_status:ok"));
        call(&mut redis, "DEBUG RELOAD NOSAVE").unwrap();
        for n in 0..KEYS {
            let text = call(&mut redis, &format!("GET key:{n}")).unwrap();
            assert!(text.starts_with("value:") && text.len() == 1000, "newer than the file: {text}");
        }
    }
}

#[test]
fn a_save_for_which_writers_have_waited_too_long_fails_and_lets_them_go() {
    let directory = Directory::new();
    // More than a minute for each chunk.
    let stuck = ["--rdb-key-save-delay", "1000000", "--snapshot-buffer-max", "300kb", "--save", "3600 1"];
    let stuck = [&stuck[..], &["--rdbcompression", "no"]].concat();
    let server = directory.start(2, &stuck);
    let mut redis = server.redis();
    call(&mut redis, "DEBUG POPULATE 5000 key 1000").unwrap();
    call(&mut redis, "CONFIG SET stop-writes-on-bgsave-error no").unwrap();
    call(&mut redis, "BGSAVE").unwrap();
    let stop = &AtomicU32::new(0);
    std::thread::scope(|scope| {
        let writers = scope.spawn(|| overwrite(&server, 5000, 1000, stop));
        let deadline = Instant::now() + SOON;
        let mut is_held = false;
        while !is_held && Instant::now() < deadline {
            is_held = server.info("snapshot_holds_keys") == 1;
        }
        let has_saved = background_save_ended(&mut redis);
        stop.store(1, Relaxed);
        assert!(is_held && !has_saved);
        let longest = writers.join().expect("they write");
        assert!(longest > Duration::from_secs(5) && longest < Duration::from_secs(60), "{longest:?}");
    });
    assert_eq!(server.info("snapshot_holds_keys"), 0);
    call(&mut redis, "CONFIG SET stop-writes-on-bgsave-error yes").unwrap();
    assert!(call(&mut redis, "SET a b").unwrap_err().starts_with("MISCONF"));
    assert!(directory.files().is_empty(), "{:?}", directory.files());
}

#[test]
fn long_strings_are_in_the_file_as_they_were_and_take_no_memory_for_it() {
    const VALUES: usize = 40;
    const LEN: usize = 4_000_000;
    for (compression, shards) in [("no", 1), ("yes", 2)] {
        let directory = Directory::new();
        let arguments = ["--save", "", "--rdbcompression", compression, "--snapshot-buffer-max", "5%"];
        let server = directory.start(shards, &arguments);
        let mut redis = server.redis();
        let text: Vec<u8> = (0..LEN as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        for n in 0..VALUES {
            let key = format!("key:{n}");
            let _: () = redis::cmd("SET").arg(&key).arg(&text[n..]).query(&mut redis).expect("SET");
            if n % 2 == 0 {
                // It is one that can grow, from now on.
                let _: usize = redis::cmd("APPEND").arg(&key).arg("tail").query(&mut redis).expect("APPEND");
            }
        }
        let digest = call(&mut redis, "DEBUG DIGEST").unwrap();
        let before = server.resident_bytes();
        call(&mut redis, "BGSAVE").unwrap();
        let mut peak = 0;
        while server.info("rdb_bgsave_in_progress") == 1 {
            peak = server.resident_bytes().max(peak);
        }
        assert!(call(&mut redis, "INFO persistence").unwrap().contains("rdb_last_bgsave_status:ok"));
        assert!(peak < before + 10 * LEN, "{before} {peak}");
        for n in (0..VALUES).step_by(3) {
            call(&mut redis, &format!("APPEND key:{n} changed")).unwrap();
        }
        call(&mut redis, "DEBUG RELOAD NOSAVE").unwrap();
        assert_eq!(call(&mut redis, "DEBUG DIGEST").unwrap(), digest);
    }
}

#[test]
fn a_file_that_is_no_good_keeps_the_server_from_starting() {
    let directory = Directory::new();
    let server = directory.start(2, &[]);
    call(&mut server.redis(), "DEBUG POPULATE 2000").unwrap();
    call(&mut server.redis(), "SAVE").unwrap();
    drop(server);
    let whole = std::fs::read(directory.dump()).unwrap();
    let mut wrong_sum = whole.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    for (file, told) in [
        (b"nothing of the sort".as_slice(), "Wrong signature trying to load DB from file"),
        (&whole[..whole.len() / 2], "Short read or OOM loading DB. Unrecoverable error, aborting now."),
        (&wrong_sum, "RDB CRC error"),
        (b"REDIS0099", "Can't handle RDB format version 99"),
    ] {
        std::fs::write(directory.dump(), file).unwrap();
        let mut command = command(free_port(), 2, &["--dir", directory.0.to_str().unwrap()]);
        let output = command.stdout(Stdio::piped()).output().expect("start the server's binary");
        let log = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(told) && log.contains("Fatal error loading the DB, check server logs. Exiting."), "{log}");
    }
}

#[test]
fn clients_are_told_to_wait_while_the_file_is_loaded() {
    for shards in [1, 2] {
        let directory = Directory::new();
        let server = directory.start(shards, &[]);
        call(&mut server.redis(), "DEBUG POPULATE 3000").unwrap();
        call(&mut server.redis(), "SAVE").unwrap();
        drop(server);
        let port = free_port();
        let dir = directory.0.to_str().unwrap();
        let slow = ["--dir", dir, "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"];
        let server = Server::run_without_greeting(port, command(port, shards, &slow));
        let mut redis = server.redis();
        for line in ["GET key:1", "SET a b", "PING"] {
            assert_eq!(
                call(&mut redis, line),
                Err("LOADING Redis is loading the dataset in memory".to_owned()),
                "{line}"
            );
        }
        let info = call(&mut redis, "INFO persistence").unwrap();
        assert!(info.contains("\r\nloading:1\r\n") && info.contains("loading_loaded_perc:"), "{info}");
        eventually("the file is loaded", || call(&mut redis, "GET key:1").is_ok());
        assert!(!call(&mut redis, "INFO persistence").unwrap().contains("loading_loaded_perc:"));
    }
}

#[test]
fn a_save_that_fails_stops_writes_until_one_succeeds() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards, &["--save", "3600 1"]);
        let mut redis = server.redis();
        call(&mut redis, "SET a b").unwrap();
        // Not even root can put a file into the place of a directory that is not empty.
        std::fs::create_dir_all(directory.dump().join("x")).unwrap();
        call(&mut redis, "BGSAVE").unwrap();
        assert!(!background_save_ended(&mut redis));
        let refused = call(&mut redis, "SET a c").unwrap_err();
        assert!(refused.starts_with("MISCONF Redis is configured to save RDB snapshots"), "{refused}");
        assert_eq!(call(&mut redis, "GET a").as_deref(), Ok("b"));
        assert!(directory.files() == ["dump.rdb"], "{:?}", directory.files());
        call(&mut redis, "CONFIG SET stop-writes-on-bgsave-error no").unwrap();
        call(&mut redis, "SET a c").unwrap();
        call(&mut redis, "CONFIG SET stop-writes-on-bgsave-error yes").unwrap();
        assert!(call(&mut redis, "SAVE").is_err());
        std::fs::remove_dir_all(directory.dump()).unwrap();
        call(&mut redis, "BGSAVE").unwrap();
        assert!(background_save_ended(&mut redis));
        call(&mut redis, "SET a d").unwrap();
    }
}

#[test]
fn what_was_acknowledged_before_a_shutdown_that_saves_is_there_after_it() {
    for (shards, signal) in [(1, false), (4, false), (4, true)] {
        let directory = Directory::new();
        let mut server = directory.start(shards, &["--save", "3600 1"]);
        call(&mut server.redis(), "DEBUG POPULATE 50000").unwrap();
        let mut last = server.redis();
        let clients: Vec<_> = (0..8).map(|_| server.redis()).collect();
        let acknowledged: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(id, mut redis)| {
                    scope.spawn(move || {
                        let set =
                            |n: &u64| redis::cmd("SET").arg(format!("w{id}")).arg(*n).query::<()>(&mut redis).is_ok();
                        (1..).take_while(set).last().unwrap_or(0)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(200));
            if signal {
                server.signal("-TERM");
            } else {
                let _ = redis::cmd("SHUTDOWN").query::<()>(&mut last);
            }
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(server.wait(SOON).code(), Some(0));
        assert_eq!(directory.files(), ["dump.rdb"]);
        let server = directory.start(2, &[]);
        let mut redis = server.redis();
        for (id, acknowledged) in acknowledged.into_iter().enumerate() {
            let kept: u64 = call(&mut redis, &format!("GET w{id}")).unwrap().parse().unwrap();
            assert!(kept >= acknowledged && acknowledged > 0, "{kept} of {acknowledged} with {shards} shards");
        }
    }
}

#[test]
fn a_shutdown_that_cannot_save_does_not_happen() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.0.join("other.rdb").join("x")).unwrap();
    for shards in [1, 4] {
        let mut server = directory.start(shards, &["--save", "3600 1"]);
        let mut redis = server.redis();
        call(&mut redis, "CONFIG SET dbfilename other.rdb").unwrap();
        assert_eq!(call(&mut redis, "SHUTDOWN").unwrap_err(), "ERR Errors trying to SHUTDOWN. Check logs.");
        server.signal("-TERM");
        std::thread::sleep(Duration::from_millis(300));
        call(&mut redis, "SET a b").expect("the server is there");
        let _ = redis::cmd("SHUTDOWN").arg("FORCE").query::<()>(&mut redis);
        assert_eq!(server.wait(SOON).code(), Some(0));
    }
}

#[test]
fn a_shutdown_without_saving_leaves_no_file_even_of_a_save_under_way() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let mut server = directory.start(shards, &["--rdb-key-save-delay", "1000"]);
        let mut redis = server.redis();
        call(&mut redis, "DEBUG POPULATE 20000").unwrap();
        call(&mut redis, "BGSAVE").unwrap();
        eventually("the temporary file is there", || !directory.files().is_empty());
        assert_eq!(call(&mut redis, "BGSAVE").unwrap_err(), "ERR Background save already in progress");
        assert_eq!(call(&mut redis, "SAVE").unwrap_err(), "ERR Background save already in progress");
        let _ = redis::cmd("SHUTDOWN").arg("NOSAVE").query::<()>(&mut redis);
        assert_eq!(server.wait(SOON).code(), Some(0));
        assert!(directory.files().is_empty(), "{:?}", directory.files());
    }
}

#[test]
fn save_rules_are_kept_by_the_server_itself() {
    let directory = Directory::new();
    let server = directory.start(4, &["--save", "1 3"]);
    let mut redis = server.redis();
    call(&mut redis, "SET a 1").unwrap();
    call(&mut redis, "SET b 1").unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!exists(&directory.dump()), "two changes are too few");
    assert_eq!(server.info("rdb_changes_since_last_save"), 2);
    call(&mut redis, "SET c 1").unwrap();
    eventually("the rule is met", || exists(&directory.dump()));
    eventually("the changes are counted anew", || server.info("rdb_changes_since_last_save") == 0);
    // What was flushed in a transaction does not come back either.
    server.client().check("multi\r\nflushall\r\nexec\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    eventually("the empty databases are saved", || {
        server.info("rdb_saves") >= 2 && server.info("rdb_bgsave_in_progress") == 0
    });
    let other = directory.start(1, &[]);
    assert_eq!(call(&mut other.redis(), "DBSIZE").as_deref(), Ok("0"));
}

#[test]
fn under_save_rules_flushall_answers_when_the_file_has_no_keys() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards, &["--save", "3600 1"]);
        let mut redis = server.redis();
        for key in ["a", "b", "c"] {
            call(&mut redis, &format!("SET {key} 1")).unwrap();
        }
        call(&mut redis, "SAVE").unwrap();
        call(&mut redis, "SET d 1").unwrap();
        let mut client = server.client();
        client.check("flushall\r\nset e 1\r\nget e\r\n", "+OK\r\n+OK\r\n$1\r\n1\r\n");
        assert_eq!([server.info("rdb_saves"), server.info("rdb_changes_since_last_save")], [2, 1]);
        let other = directory.start(1, &[]);
        assert_eq!(call(&mut other.redis(), "DBSIZE").as_deref(), Ok("0"));
        client.check("flushdb\r\nflushall sync\r\nconfig set save ''\r\nflushall\r\n", "+OK\r\n".repeat(4));
        assert_eq!(server.info("rdb_saves"), 3, "only where all is flushed, and there are rules");
        let calls: String = call(&mut redis, "INFO COMMANDSTATS").unwrap();
        assert!(calls.contains("cmdstat_flushall:calls=3,"), "{calls}");
    }
}

#[test]
fn flushall_ends_a_save_and_flushdb_does_not() {
    for shards in [1, 4] {
        for (flush, is_saved) in [("FLUSHALL", false), ("FLUSHDB", true), ("FLUSHDB ASYNC", true), ("SWAPDB 0 1", true)]
        {
            let directory = Directory::new();
            let server = directory.start(shards, &["--rdb-key-save-delay", "50"]);
            let mut redis = server.redis();
            call(&mut redis, "DEBUG POPULATE 10000").unwrap();
            let digest = call(&mut redis, "DEBUG DIGEST").unwrap();
            call(&mut redis, "BGSAVE").unwrap();
            call(&mut redis, flush).unwrap();
            call(&mut redis, "SET key:1 new").unwrap();
            assert!(background_save_ended(&mut redis), "what is ended on purpose is no error");
            assert_eq!(exists(&directory.dump()), is_saved, "{flush}");
            if is_saved {
                let other = directory.start(2, &[]);
                assert_eq!(call(&mut other.redis(), "DEBUG DIGEST").unwrap(), digest, "{flush}");
            }
        }
    }
}

#[test]
fn debug_reload_goes_to_the_file_and_back() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards, &[]);
        let mut redis = server.redis();
        fill(&mut redis);
        let digest = call(&mut redis, "DEBUG DIGEST").unwrap();
        call(&mut redis, "DEBUG RELOAD").unwrap();
        assert_eq!(call(&mut redis, "DEBUG DIGEST").unwrap(), digest);
        call(&mut redis, "SET text other").unwrap();
        call(&mut redis, "SET more v").unwrap();
        call(&mut redis, "DEBUG RELOAD NOSAVE NOFLUSH MERGE").unwrap();
        assert_eq!(call(&mut redis, "GET text").as_deref(), Ok("hello"));
        assert_eq!(call(&mut redis, "GET more").as_deref(), Ok("v"));
        assert!(call(&mut redis, "DEBUG RELOAD NOSAVE NOFLUSH").is_err());
        call(&mut redis, "DEBUG RELOAD NOSAVE").unwrap();
        assert_eq!(call(&mut redis, "DEBUG DIGEST").unwrap(), digest);
    }
}

#[test]
fn checksums_are_passed_over_where_tests_want_that() {
    let directory = Directory::new();
    let server = directory.start(2, &[]);
    let mut redis = server.redis();
    let () = redis::cmd("SET").arg("k").arg("v").query(&mut redis).expect("SET");
    let mut payload: Vec<u8> = redis::cmd("DUMP").arg("k").query(&mut redis).expect("DUMP");
    *payload.last_mut().expect("a checksum") ^= 1;
    let mut restore = |payload: &[u8]| {
        let mut command = redis::cmd("RESTORE");
        command.arg("k").arg(0).arg(payload).arg("REPLACE");
        command.query::<()>(&mut redis).map_err(|error| error.detail().unwrap_or_default().to_owned())
    };
    assert_eq!(restore(&payload), Err("DUMP payload version or checksum are wrong".to_owned()));
    let skip = "DEBUG SET-SKIP-CHECKSUM-VALIDATION";
    assert_eq!(call(&mut server.redis(), &format!("{skip} 1")), Ok("OK".to_owned()));
    assert_eq!(restore(&payload), Ok(()));
    // A list of one plain node without a byte.
    assert_eq!(restore(b"\x12\x01\x01\x00\x0a\x00--------"), Err("Bad data format".to_owned()));
    assert_eq!(call(&mut server.redis(), &format!("{skip} 0")), Ok("OK".to_owned()));
    assert!(restore(&payload).is_err());
}

fn exists(path: &Path) -> bool {
    path.exists()
}
