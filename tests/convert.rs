//! `peristyle convert`: the same data as an RDB file, as an append-only directory, as lines of JSON, and back.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Server, command, eventually, free_port};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("peristyle-convert-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn start(&self, arguments: &[&str]) -> Server {
        let dir = self.0.to_str().expect("made of ASCII");
        let own = ["--dir", dir, "--enable-debug-command", "yes", "--save", ""];
        let port = free_port();
        let server = Server::run_without_greeting(port, command(port, 2, &[&own, arguments].concat()));
        let mut redis = server.redis();
        eventually("it is loaded", || redis::cmd("PING").query::<String>(&mut redis).is_ok());
        server
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn convert(from: &Path, to: &Path) -> Output {
    let binary = env!("CARGO_BIN_EXE_peristyle");
    Command::new(binary).arg("convert").args([from, to]).output().expect("run the converter")
}

fn converts(from: &Path, to: &Path) -> String {
    let output = convert(from, to);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a text")
}

fn fails(from: &Path, to: &Path) -> String {
    let output = convert(from, to);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("a text")
}

fn call(redis: &mut redis::Connection, words: &[&[u8]]) -> redis::Value {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query(redis).unwrap_or_else(|error| panic!("{}: {error}", words.concat().escape_ascii()))
}

fn digest(server: &Server) -> String {
    redis::cmd("DEBUG").arg("DIGEST").query(&mut server.redis()).expect("DEBUG DIGEST")
}

/// Every type in every encoding, with expiries, texts that are not UTF-8, several databases and a library.
fn fill(server: &Server) {
    let redis = &mut server.redis();
    let line = |redis: &mut redis::Connection, text: &str| {
        call(redis, &text.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    };
    for text in [
        "SET int 12",
        "SET embstr hello",
        "SET expires v PXAT 4000000000000",
        "RPUSH packed a 1 b",
        "SADD intset 3 1 2",
        "SADD listpack a b 3",
        "HSET small f v g 1",
        "HSET timed f v g w h x",
        "HPEXPIREAT timed 4000000000000 FIELDS 1 g",
        "ZADD zsmall 1.5 a -inf b inf c 0.1 d",
        "XADD stream 1-1 f v",
        "XADD stream 1-2 f w",
        "XADD stream 2-0 g x h y",
        "XDEL stream 1-2",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group alice COUNT 1 STREAMS stream >",
        "XADD emptied 1-1 f v",
        "XDEL emptied 1-1",
        "PFADD hll a b c",
        "SETBIT bits 100 1",
        "GEOADD places 13.361389 38.115556 Palermo",
        "PEXPIREAT packed 4000000000001",
        "SELECT 7",
        "SET other db",
    ] {
        line(redis, text);
    }
    line(redis, "SELECT 0");
    let long = "x".repeat(20_000);
    line(redis, &format!("SET raw {long}"));
    line(redis, &format!("SET large {}", long.repeat(20)));
    call(redis, &[b"SET", b"not\xff\x00UTF-8\r\n", b"\x80\x81"]);
    call(redis, &[b"HSET", b"binary", b"\xfe", b"\xfd"]);
    call(redis, &[b"SET", b"", b""]);
    for n in 0..700 {
        line(redis, &format!("RPUSH quicklist {n}{}", "e".repeat(40)));
        line(redis, &format!("SADD table member:{n}"));
        line(redis, &format!("HSET large-hash field:{n} {n}"));
        line(redis, &format!("ZADD skiplist {} member:{n}", f64::from(n) / 7.0));
        line(redis, &format!("XADD long {n}-1 field {n}"));
    }
    line(redis, "HPEXPIREAT large-hash 4000000000000 FIELDS 2 field:1 field:2");
    line(redis, "PEXPIREAT skiplist 4000000000002");
    call(
        redis,
        &[b"FUNCTION", b"LOAD", b"#!lua name=lib\nredis.register_function('f', function() return 'from lib' end)"],
    );
}

/// What DEBUG DIGEST does not see.
fn details(server: &Server) -> Vec<redis::Value> {
    let redis = &mut server.redis();
    let asked: &[&[&[u8]]] = &[
        &[b"XINFO", b"STREAM", b"emptied"],
        &[b"XPENDING", b"stream", b"group"],
        &[b"XINFO", b"GROUPS", b"stream"],
        &[b"PEXPIRETIME", b"packed"],
        &[b"PEXPIRETIME", b"skiplist"],
        &[b"HPEXPIRETIME", b"timed", b"FIELDS", b"2", b"f", b"g"],
        &[b"HPEXPIRETIME", b"large-hash", b"FIELDS", b"2", b"field:1", b"field:3"],
        &[b"FCALL", b"f", b"0"],
        &[b"OBJECT", b"ENCODING", b"intset"],
        &[b"OBJECT", b"ENCODING", b"skiplist"],
        &[b"OBJECT", b"ENCODING", b"packed"],
        &[b"OBJECT", b"ENCODING", b"timed"],
        &[b"ZSCORE", b"skiplist", b"member:699"],
    ];
    let mut details: Vec<_> = asked.iter().map(|words| call(redis, words)).collect();
    // How many nodes a stream has is nobody's business: those that are emptied are not in the lines.
    if let redis::Value::Array(of_stream) = &mut details[0] {
        let nodes =
            |value: &redis::Value| matches!(value, redis::Value::BulkString(name) if name.starts_with(b"radix"));
        while let Some(at) = of_stream.iter().position(nodes) {
            of_stream.drain(at..at + 2);
        }
    }
    details
}

#[test]
fn any_form_becomes_any_other() {
    let directory = Directory::new("any");
    let server = directory.start(&["--appendonly", "yes"]);
    fill(&server);
    let (told, known) = (digest(&server), details(&server));
    redis::cmd("SAVE").exec(&mut server.redis()).expect("SAVE");
    let _ = redis::cmd("SHUTDOWN").query::<()>(&mut server.redis());
    drop(server);
    let path = |name: &str| directory.path(name);
    let counted = "25 keys and 1 libraries\n";
    for (from, to) in [
        ("dump.rdb", "of-rdb.jsonl"),
        ("of-rdb.jsonl", "of-json.rdb"),
        ("appendonlydir", "of-log.rdb"),
        ("of-log.rdb", "dir-of-rdb"),
        ("appendonlydir", "of-log.jsonl"),
        ("of-log.jsonl", "dir-of-json"),
        ("dir-of-json", "dir-of-dir"),
        ("dir-of-dir", "last.rdb"),
        ("last.rdb", "last.jsonl"),
    ] {
        assert_eq!(converts(&path(from), &path(to)), counted, "{from} to {to}");
    }
    for rdb in ["of-json.rdb", "of-log.rdb", "last.rdb"] {
        let server = directory.start(&["--dbfilename", rdb]);
        assert_eq!((digest(&server), details(&server)), (told.clone(), known.clone()), "{rdb}");
    }
    for log in ["dir-of-rdb", "dir-of-json", "dir-of-dir"] {
        let server = directory.start(&["--appendonly", "yes", "--appenddirname", log]);
        assert_eq!((digest(&server), details(&server)), (told.clone(), known.clone()), "{log}");
    }
    let lines = |name: &str| {
        let text = std::fs::read_to_string(path(name)).expect("lines");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // Elements of tables come in the order of the table.
    let plain = |name: &str| -> Vec<String> {
        let is_table =
            |line: &String| ["table", "large-hash"].iter().any(|key| line.contains(&format!("\"key\":\"{key}\"")));
        lines(name).into_iter().filter(|line| !is_table(line)).collect()
    };
    assert_eq!(converts(&path("of-json.rdb"), &path("again.jsonl")), counted);
    assert_eq!(plain("of-rdb.jsonl").len(), 24);
    for (first, again) in plain("of-rdb.jsonl").iter().zip(&plain("again.jsonl")) {
        assert!(first == again, "{} became {}", &first[..first.len().min(500)], &again[..again.len().min(500)]);
    }
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let directory = Directory::new("bad");
    let path = |name: &str| directory.path(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).expect("a file");
    let file = b"REDIS0010\xfe\x00\x00\x01k\x01v\x00\x01j\x05value\xff\0\0\0\0\0\0\0\0";
    write("good.rdb", file);
    assert_eq!(converts(&path("good.rdb"), &path("good.jsonl")), "2 keys and 0 libraries\n");
    write("short.rdb", &file[..file.len() - 12]);
    write("value.rdb", b"REDIS0010\x0b\x01k\x03abc\xff\0\0\0\0\0\0\0\0");
    write("none.txt", b"something else");
    let line = r#"{"db":0,"key":"k","type":"string","value":"v"}"#;
    write("line.jsonl", format!("{line}\n\n{{\"db\":0}}\n").as_bytes());
    std::fs::create_dir(path("empty")).expect("a directory");
    std::fs::create_dir(path("log")).expect("a directory");
    write("log/appendonly.aof.manifest", b"file appendonly.aof.1.incr.aof seq 1 type i\n");
    write("log/appendonly.aof.1.incr.aof", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*3\r\n$3\r\nSE");
    for (from, to, told) in [
        ("short.rdb", "to.jsonl", "short.rdb: Unexpected EOF reading RDB file (at offset 20)"),
        ("value.rdb", "to.jsonl", "value.rdb: a malformed value, key 'k' (at offset 12)"),
        ("none.txt", "to.rdb", "is neither an RDB file nor an append-only directory nor lines of JSON"),
        ("line.jsonl", "to.rdb", "line.jsonl, line 3: `key` is missing"),
        ("line.jsonl", "to", "line.jsonl, line 3: `key` is missing"),
        ("empty", "to.rdb", "there is no manifest in"),
        ("log", "to.rdb", "Unexpected end of file reading the append only file appendonly.aof.1.incr.aof"),
        ("missing", "to.rdb", "missing: No such file or directory"),
        ("good.rdb", "good.jsonl", "good.jsonl is there already"),
        ("good.rdb", "log", "log is there already"),
        ("good.rdb", "to.txt", "to.txt ends neither with .rdb nor with .jsonl"),
        ("good.rdb", "nowhere/to.rdb", "No such file or directory"),
    ] {
        let error = fails(&path(from), &path(to));
        assert!(error.starts_with("Error ") && error.contains(told), "{from} to {to}: {error}");
        assert!(to.starts_with("good") || to == "log" || !path(to).exists(), "{from} to {to}");
    }
    let log = std::fs::read(path("log/appendonly.aof.1.incr.aof")).expect("it is as it was");
    assert!(log.ends_with(b"SE"));
    let left: Vec<_> = std::fs::read_dir(&directory.0).expect("the directory").filter_map(Result::ok).collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("temp")), "{left:?}");
}
