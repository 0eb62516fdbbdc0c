//! Writing the append-only file: what stands in it when a reply leaves, how it is rewritten, and switched on and off.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use common::{Server, command, eventually, free_port};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("peristyle-aof-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn start(&self, shards: usize, arguments: &[&str]) -> Server {
        let own = ["--dir", self.0.to_str().expect("made of ASCII"), "--save", ""];
        let port = free_port();
        Server::run(port, command(port, shards, &[&own, arguments].concat()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("appendonlydir").join(name)
    }

    fn manifest(&self) -> String {
        std::fs::read_to_string(self.file("appendonly.aof.manifest")).unwrap_or_default()
    }

    /// What stands in all segments, in the order of the manifest.
    fn segments(&self) -> String {
        let manifest = self.manifest();
        let names = manifest.lines().filter(|line| line.ends_with(" i")).filter_map(|line| line.split(' ').nth(1));
        let read = |name| std::fs::read(self.file(name)).expect("a file of the manifest");
        names.map(|name| String::from_utf8_lossy(&read(name)).into_owned()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn call(redis: &mut redis::Connection, line: &str) -> Result<redis::Value, String> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a name"));
    for word in words {
        command.arg(word);
    }
    command.query(redis).map_err(|error: redis::RedisError| error.detail().unwrap_or_default().to_owned())
}

fn rewrite_ended(server: &Server) {
    eventually("the rewrite ends", || {
        server.info("aof_rewrite_in_progress") == 0 && server.info("aof_rewrite_scheduled") == 0
    });
}

#[test]
fn what_was_answered_is_in_the_file() {
    for (shards, policy) in [(1, "always"), (1, "no"), (4, "always"), (4, "everysec")] {
        let directory = Directory::new();
        let server = directory.start(shards, &["--appendonly", "yes", "--appendfsync", policy]);
        let mut redis = server.redis();
        for number in 0..20 {
            call(&mut redis, &format!("SET key:{number} value:{number}")).expect("SET");
            assert!(directory.segments().contains(&format!("\r\nvalue:{number}\r\n")), "{shards} shards, {policy}");
        }
        call(&mut redis, "MSET a first b second c third").expect("MSET");
        let text = directory.segments();
        assert!(["first", "second", "third"].iter().all(|word| text.contains(word)));
        assert_eq!(text.contains("#decided "), shards > 1);
    }
}

#[test]
fn a_flush_stands_between_generations() {
    let directory = Directory::new();
    let server = directory.start(4, &["--appendonly", "yes"]);
    let mut redis = server.redis();
    for line in ["SET a 1", "SET b 2", "SET c 3", "FLUSHALL", "SET a 4", "SWAPDB 0 9999"] {
        let _ = call(&mut redis, line);
    }
    let text = directory.segments();
    let flush = text.find("FLUSHALL").expect("its record");
    assert!(text.find("\r\n$1\r\n3\r\n").expect("what was before") < flush);
    assert!(text.find("\r\n$1\r\n4\r\n").expect("what was behind") > flush);
    assert_eq!(text.matches("shard=- ").count(), 1, "what is refused leaves no record");
}

#[test]
fn a_rewrite_leaves_what_is_needed() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards, &["--appendonly", "yes"]);
        let mut redis = server.redis();
        for number in 0..100 {
            call(&mut redis, &format!("SET key:{number} before")).expect("SET");
        }
        call(&mut redis, "BGREWRITEAOF").expect("BGREWRITEAOF");
        rewrite_ended(&server);
        assert!(directory.manifest().starts_with("file appendonly.aof.2.base.rdb seq 2 type b\n"));
        assert!(!directory.segments().contains("before") && !directory.file("appendonly.aof.1.base.rdb").exists());
        call(&mut redis, "SET key:1 behind").expect("SET");
        assert!(directory.segments().contains("behind"));
        call(&mut redis, "CONFIG SET aof-use-rdb-preamble no").expect("CONFIG");
        call(&mut redis, "BGREWRITEAOF").expect("BGREWRITEAOF");
        rewrite_ended(&server);
        let base = std::fs::read(directory.file("appendonly.aof.3.base.aof")).expect("the base");
        let base = String::from_utf8_lossy(&base);
        assert_eq!((base.matches("before").count(), base.matches("behind").count()), (99, 1));
    }
}

#[test]
fn it_is_switched_on_and_off() {
    for shards in [1, 4] {
        let directory = Directory::new();
        let server = directory.start(shards, &[]);
        let mut redis = server.redis();
        call(&mut redis, "SET key before").expect("SET");
        call(&mut redis, "CONFIG SET appendonly yes").expect("CONFIG");
        rewrite_ended(&server);
        call(&mut redis, "SET other behind").expect("SET");
        assert!(directory.segments().contains("behind") && server.info("aof_enabled") == 1);
        call(&mut redis, "CONFIG SET appendonly no").expect("CONFIG");
        call(&mut redis, "SET other unseen").expect("SET");
        assert!(!directory.segments().contains("unseen") && server.info("aof_enabled") == 0);
        call(&mut redis, "CONFIG SET appendonly yes").expect("CONFIG");
        rewrite_ended(&server);
        call(&mut redis, "SET other again").expect("SET");
        assert!(directory.segments().contains("again"));
    }
}

#[test]
fn waitaof_waits_for_the_disk() {
    let directory = Directory::new();
    let server = directory.start(4, &["--appendonly", "yes"]);
    let mut redis = server.redis();
    call(&mut redis, "SET key value").expect("SET");
    let acknowledged = call(&mut redis, "WAITAOF 1 0 0").expect("WAITAOF");
    assert_eq!(redis::from_redis_value::<(i64, i64)>(acknowledged).expect("two numbers"), (1, 0));
    assert!(directory.segments().contains(" round 1\r\n"));
    call(&mut redis, "CONFIG SET appendonly no").expect("CONFIG");
    let refused = "WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(call(&mut redis, "WAITAOF 1 0 0"), Err(refused.to_owned()));
}

#[test]
fn a_clean_end_is_a_round() {
    let directory = Directory::new();
    let mut server = directory.start(4, &["--appendonly", "yes", "--appendfsync", "no"]);
    let mut redis = server.redis();
    for number in 0..20 {
        call(&mut redis, &format!("SET key:{number} value")).expect("SET");
    }
    server.signal("-TERM");
    server.wait(std::time::Duration::from_secs(10));
    assert_eq!(directory.segments().matches(" round 1\r\n").count(), 4);
}
