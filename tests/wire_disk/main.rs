//! Disks that fail under a real server: what clients are told, what is kept, and how it mends by itself.

#[path = "../common/mod.rs"]
mod common;
mod faults;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Server, call, command, eventually, free_port};
use faults::{Call, Faults};

const MISCONF_OF_SAVES: &str = "MISCONF Redis is configured to save RDB snapshots";
const MISCONF_OF_LOG: &str = "MISCONF Errors writing to the AOF file";

/// A server whose disk can be broken, with its directory.
struct Broken {
    server: Server,
    faults: Faults,
    directory: PathBuf,
}

impl Broken {
    fn start(shards: usize, arguments: &[&str]) -> Broken {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("peristyle-disk-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        let (server, faults) = Broken::run(&directory, shards, arguments);
        Broken { server, faults, directory }
    }

    fn run(directory: &std::path::Path, shards: usize, arguments: &[&str]) -> (Server, Faults) {
        let own = ["--dir", directory.to_str().expect("made of ASCII"), "--enable-protected-configs", "yes"];
        let arguments = [&own[..], &["--enable-debug-command", "yes"], arguments].concat();
        let port = free_port();
        let mut command = command(port, shards, &arguments);
        let faults = Faults::over(&mut command, directory);
        let server = Server::run_without_greeting(port, command);
        let mut redis = server.redis();
        eventually("it is loaded", || redis::cmd("PING").query::<String>(&mut redis).is_ok());
        (server, faults)
    }

    /// Kills the server and starts it anew.
    fn restart(&mut self, shards: usize, arguments: &[&str]) {
        self.server.signal("-KILL");
        self.server.wait(Duration::from_secs(10));
        (self.server, self.faults) = Broken::run(&self.directory, shards, arguments);
    }

    fn call(&self, line: &str) -> Result<String, String> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.server.port)).expect("a valid URL");
        let mut redis = client.get_connection_with_timeout(REPLY_LIMIT).map_err(|error| error.to_string())?;
        redis.set_read_timeout(Some(REPLY_LIMIT)).expect("a TCP socket");
        call(&mut redis, line)
    }

    /// A save in the background; whether it succeeded.
    fn saves(&self) -> bool {
        self.call("BGSAVE").expect("BGSAVE");
        eventually("the save ends", || self.server.info("rdb_bgsave_in_progress") == 0);
        self.told("rdb_last_bgsave_status:ok")
    }

    fn told(&self, line: &str) -> bool {
        self.call("INFO persistence").is_ok_and(|info| info.contains(line))
    }

    fn digest(&self) -> String {
        self.call("DEBUG DIGEST").expect("DEBUG DIGEST")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).expect("the directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        // Before it writes once more.
        self.server.signal("-KILL");
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Nobody waits longer for a reply, but who wants to know when it comes: some come when the disk is well again.
const REPLY_LIMIT: Duration = Duration::from_secs(2);

#[test]
fn a_save_fails_with_its_disk_and_succeeds_with_it() {
    for shards in [1, 4] {
        let broken = Broken::start(shards, &["--save", "3600 1"]);
        broken.call("DEBUG POPULATE 20000 key 100").unwrap();
        assert!(broken.saves());
        let before = std::fs::read(broken.directory.join("dump.rdb")).unwrap();
        broken.call("SET a b").unwrap();
        let digest = broken.digest();
        for (call, errno) in [
            (Call::Write, libc::ENOSPC),
            (Call::Write, libc::EIO),
            (Call::Sync, libc::EIO),
            (Call::Rename, libc::EIO),
            (Call::Create, libc::EROFS),
            (Call::Create, libc::EACCES),
        ] {
            broken.faults.set(&[(call, errno)]);
            let failed = broken.faults.failed();
            assert!(!broken.saves(), "{call:?} {errno}");
            assert!(broken.faults.failed() > failed, "{call:?}: nobody asked");
            for write in ["SET a c", "PING", "MSET a c b c"] {
                let refused = broken.call(write).unwrap_err();
                assert!(refused.contains("MISCONF"), "{write}: {refused}");
            }
            assert!(broken.call("SET a c").unwrap_err().starts_with(MISCONF_OF_SAVES));
            let refused = broken.call("EVAL return(redis.call('SET',KEYS[1],'c')) 1 a").unwrap_err();
            assert!(refused.starts_with(MISCONF_OF_SAVES), "{refused}");
            assert_eq!(broken.call("EVAL return(redis.call('GET',KEYS[1])) 1 a").unwrap(), "b");
            assert!(broken.call("SAVE").is_err());
            assert_eq!(broken.call("GET a").unwrap(), "b");
            assert_eq!(broken.digest(), digest, "{call:?} {errno}: memory is as it was");
            assert_eq!(broken.files(), ["dump.rdb"], "{call:?} {errno}");
            assert_eq!(std::fs::read(broken.directory.join("dump.rdb")).unwrap(), before, "the old file stays");
            broken.faults.set(&[]);
            assert!(broken.saves(), "{call:?} {errno}: mended");
            broken.call("SET a b").unwrap();
            std::fs::write(broken.directory.join("dump.rdb"), &before).unwrap();
        }
    }
}

#[test]
fn save_rules_mend_a_save_by_themselves() {
    let broken = Broken::start(2, &["--save", "1 1"]);
    broken.faults.set(&[(Call::Write, libc::ENOSPC)]);
    broken.call("SET a b").unwrap();
    eventually("the save has failed", || broken.told("rdb_last_bgsave_status:err"));
    assert!(broken.call("SET a c").unwrap_err().starts_with(MISCONF_OF_SAVES));
    broken.faults.set(&[]);
    eventually("writes are taken again", || broken.call("SET a c").is_ok());
    assert!(broken.told("rdb_last_bgsave_status:ok"));
}

#[test]
fn a_directory_that_vanishes_is_told_of_and_replaced() {
    for shards in [1, 4] {
        let mut broken = Broken::start(shards, &["--save", "3600 1"]);
        broken.call("SET a b").unwrap();
        std::fs::remove_dir_all(&broken.directory).unwrap();
        assert!(!broken.saves());
        assert!(broken.call("SET a c").unwrap_err().starts_with(MISCONF_OF_SAVES));
        assert_eq!(broken.call("GET a").unwrap(), "b");
        let other = broken.directory.with_extension("other");
        std::fs::create_dir(&other).unwrap();
        broken.directory = other;
        broken.call(&format!("CONFIG SET dir {}", broken.directory.display())).unwrap();
        assert!(broken.saves());
        broken.call("SET a d").unwrap();
        assert!(broken.saves());
        broken.restart(shards, &["--save", ""]);
        assert_eq!(broken.call("GET a").unwrap(), "d");
    }
}

/// What is broken while clients write to the log, and what they were told, they find after a restart.
fn log_fails(policy: &str, faults: &[(Call, i32)]) {
    let arguments = ["--appendonly", "yes", "--appendfsync", policy, "--save", ""];
    let mut broken = Broken::start(1, &arguments);
    for n in 0..100 {
        broken.call(&format!("SET key:{n} before")).unwrap();
    }
    // They come before the first reply is held back.
    let clients: Vec<_> = (0..20).map(|_| broken.server.redis()).collect();
    broken.faults.set(faults);
    // Each is answered in the end, if only when all is well again: whatever was written, or that nothing was.
    let outcomes: Vec<(usize, Result<String, String>, Duration)> = std::thread::scope(|scope| {
        let write = |(n, mut redis): (usize, redis::Connection)| {
            scope.spawn(move || {
                let started = Instant::now();
                (n, call(&mut redis, &format!("SET key:{n} during")), started.elapsed())
            })
        };
        let first: Vec<_> = clients.into_iter().enumerate().map(write).collect();
        eventually("something fails", || broken.faults.failed() > 0);
        std::thread::sleep(Duration::from_millis(1500));
        broken.faults.set(&[]);
        first.into_iter().map(|one| one.join().expect("it writes")).collect()
    });
    assert!(broken.faults.failed() > 0, "{policy}: nobody asked");
    eventually("writes are taken again", || broken.call("SET after mended").is_ok());
    eventually("it says so", || broken.told("aof_last_write_status:ok"));
    let digest = broken.digest();
    for (n, outcome, waited) in &outcomes {
        let now = broken.call(&format!("GET key:{n}")).unwrap();
        match outcome {
            Ok(_) => assert_eq!(now, "during", "{policy}: key {n}"),
            Err(error) => {
                assert!(error.starts_with(MISCONF_OF_LOG), "{policy}: {error}");
                assert_eq!(now, "before", "{policy}: key {n}");
            }
        }
        assert!(policy != "always" || outcome.is_err() || *waited > Duration::from_millis(500), "{waited:?}");
    }
    broken.restart(1, &arguments);
    assert_eq!(broken.digest(), digest, "{policy}");
}

#[test]
fn a_full_disk_stops_writes_to_the_log_until_there_is_room() {
    for policy in ["always", "everysec", "no"] {
        log_fails(policy, &[(Call::Write, libc::ENOSPC)]);
    }
}

#[test]
fn a_write_of_the_log_that_fails_is_done_again() {
    for policy in ["always", "everysec"] {
        log_fails(policy, &[(Call::Write, libc::EIO)]);
    }
}

#[test]
fn nothing_is_acknowledged_that_an_fsync_did_not_cover() {
    log_fails("always", &[(Call::Sync, libc::EIO)]);
}

#[test]
fn a_failing_fsync_of_everysec_stops_writes() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
    let mut broken = Broken::start(1, &arguments);
    broken.call("SET a b").unwrap();
    broken.faults.set(&[(Call::Sync, libc::EIO)]);
    // Its reply may wait for the disk.
    let _ = broken.call("SET b b");
    eventually("writes are refused", || {
        broken.call("SET a b").is_err_and(|refused| refused.starts_with(MISCONF_OF_LOG))
    });
    assert_eq!(broken.call("GET a").unwrap(), "b");
    broken.faults.set(&[]);
    eventually("writes are taken again", || broken.call("SET a c").is_ok());
    broken.restart(1, &arguments);
    assert_eq!(broken.call("GET a").unwrap(), "c");
}

#[test]
fn a_rewrite_that_failed_with_its_disk_leaves_no_refusal_behind() {
    for shards in [1, 4] {
        for call in [(Call::Create, libc::EROFS), (Call::Rename, libc::EIO), (Call::Write, libc::ENOSPC)] {
            let arguments = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
            let mut broken = Broken::start(shards, &arguments);
            broken.call("MSET a b c d").unwrap();
            broken.faults.set(&[call]);
            let _ = broken.call("BGREWRITEAOF");
            eventually("something fails", || broken.faults.failed() > 0);
            broken.faults.set(&[]);
            eventually("writes are taken again", || broken.call("SET a c").is_ok());
            eventually("it says so", || broken.told("aof_last_write_status:ok"));
            broken.restart(shards, &arguments);
            assert_eq!(broken.call("GET a").unwrap(), "c", "{shards} shards, {call:?}");
        }
    }
}

#[test]
fn a_log_whose_directory_has_vanished_begins_anew_in_another() {
    for shards in [1, 4] {
        let mut broken = Broken::start(shards, &["--appendonly", "yes", "--save", ""]);
        broken.call("SET a b").unwrap();
        std::fs::remove_dir_all(&broken.directory).unwrap();
        let other = broken.directory.with_extension("other");
        std::fs::create_dir(&other).unwrap();
        broken.directory = other;
        broken.call(&format!("CONFIG SET dir {}", broken.directory.display())).unwrap();
        broken.call("CONFIG SET appendonly no").unwrap();
        broken.call("CONFIG SET appendonly yes").unwrap();
        eventually("there is a base", || {
            broken.told("aof_rewrite_in_progress:0")
                && broken.told("aof_last_bgrewrite_status:ok")
                && broken.told("aof_rewrite_scheduled:0")
        });
        broken.call("SET a c").unwrap();
        broken.restart(shards, &["--appendonly", "yes", "--save", ""]);
        assert_eq!(broken.call("GET a").unwrap(), "c", "{shards} shards");
    }
}
