use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::*;
use crate::codec::aof::write::{self, Standing};
use crate::codec::aof::{Header, Policy, TransactionId};
use crate::command::KeyRow;
use crate::command::testing::TestShard;
use crate::engine::table::FAMILIES;
use crate::persist::aof::open::{Place, open};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("peristyle-load-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("aof")).expect("a new directory");
        Directory(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> &Directory {
        fs::write(self.0.join("aof").join(name), bytes).expect("a new file");
        self
    }

    fn place(&self) -> Place {
        let (directory, append_file, boot) = ("aof".to_owned(), "a".to_owned(), "b".to_owned());
        Place { server_directory: self.0.clone(), directory, append_file, truncates: true, boot }
    }

    fn load(&self, shards: usize) -> Result<Vec<TestShard>, String> {
        let plan = Arc::new(open(&self.place())?.unwrap_or_default());
        load(&plan, shards)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(plan: &Arc<Plan>, shards: usize) -> Result<Vec<TestShard>, String> {
    let deal = Deal::new(shards);
    let mut all: Vec<(TestShard, AofLoader)> = (0..shards)
        .map(|id| {
            let mut shard = TestShard::new(FAMILIES);
            (shard.ctx.shard, shard.ctx.slots) = (id, SlotMap::contiguous(shards));
            shard.ctx.commands = find;
            let loader = AofLoader::new(plan.clone(), &deal, SlotMap::contiguous(shards), &shard.ctx);
            (shard, loader)
        })
        .collect();
    loop {
        let mut is_done = true;
        for (shard, loader) in &mut all {
            is_done &= loader.slice(&mut shard.ctx, 100).map_err(|error| error.to_string())? == Slice::Done;
        }
        if is_done {
            return Ok(all.into_iter().map(|(shard, _)| shard).collect());
        }
    }
}

/// As the registry does, which is of a higher level.
fn find(words: &[&[u8]]) -> Found {
    let is_named = |row: &&KeyRow| words[0].eq_ignore_ascii_case(row.spec.name.as_bytes());
    let row = FAMILIES.iter().copied().flatten().find(is_named);
    row.map_or(Found::Unknown, |row| Found::Key(row, &row.spec, 0))
}

/// All keys with their values, by database, wherever they are.
fn contents(shards: Vec<TestShard>) -> Vec<String> {
    let mut all = Vec::new();
    for mut shard in shards {
        let slots = shard.ctx.slots.clone();
        for db in 0..shard.ctx.keyspace.databases() {
            let keys: Vec<Vec<u8>> = shard.ctx.keyspace.db(db).iter().map(|entry| entry.key().to_vec()).collect();
            shard.ctx.db = db;
            for key in keys {
                assert_eq!(slots.shard_of(&key), shard.ctx.shard, "a key of another shard's");
                let key = String::from_utf8(key).expect("text");
                all.push(format!("{db} {key} {}", shard.run(&format!("GET {key}"))));
            }
        }
    }
    all.sort();
    all
}

fn commands(lines: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.split(" | ") {
        write::command(&mut bytes, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    bytes
}

fn segment(generation: u64, shard: Option<ShardId>, shards: usize, groups: &[&[u8]]) -> Vec<u8> {
    let header =
        Header { generation, shard, shards, prefixes: 0, start: 1, boot: "b".to_owned(), round: 0, position: 0 };
    let (mut bytes, mut position) = (header.to_string().into_bytes(), 0);
    // Generations of a shard follow each other: here each has one group of the same length.
    for group in groups {
        let mut group = group.to_vec();
        let standing = Standing { position, durable: 0, policy: Policy::EverySecond, round: None };
        position = write::end_group(&mut group, standing);
        bytes.extend_from_slice(&group);
    }
    bytes
}

const KEYS: &str = "SELECT 0 | SET a 1 | SET b 1 | SET c 1 | SELECT 3 | SET d 1 | SELECT 0 | INCR a | APPEND b x";
const KEPT: [&str; 4] = ["0 a 2", "0 b 1x", "0 c 1", "3 d 1"];

#[test]
fn what_redis_wrote_loads_into_any_number_of_shards() {
    for shards in [1, 2, 4] {
        let directory = Directory::new();
        let several = [commands(KEYS), commands("MULTI | RENAME c e | MSET f 1 g 1 | EXEC | MULTI | SET x 1")].concat();
        directory.write("a.manifest", b"file base seq 1 type b\nfile one seq 1 type i\nfile two seq 2 type i\n");
        directory.write("base", &commands("SET a 5 | SET gone 1 | FLUSHALL")).write("one", b"").write("two", &several);
        let expected = ["0 a 2", "0 b 1x", "0 e 1", "0 f 1", "0 g 1", "3 d 1"];
        assert_eq!(contents(directory.load(shards).expect("it loads")), expected, "{shards}");
        // The transaction that did not end is gone from the file, too.
        let left = fs::read(directory.0.join("aof/two")).expect("it is there");
        assert!(left.ends_with(b"EXEC\r\n"));
    }
}

#[test]
fn commands_on_keys_of_several_shards_find_what_was_before_them_and_what_follows_finds_theirs() {
    let several = "SET a 1 | MSET b 2 c 3 d 4 e 5 | DEL e a | SET x 1 | RENAME x y | INCR y | SELECT 3 | SET b 7 | COPY b z DB 0 | \
                   SELECT 0 | APPEND z 8 | UNLINK c nothing | SORT list BY w_* STORE sorted | SET last 1";
    let expected = ["0 b 2", "0 d 4", "0 last 1", "0 y 2", "0 z 78", "3 b 7"];
    for shards in [1, 2, 3, 4] {
        let directory = Directory::new();
        directory.write("a.manifest", b"file base seq 1 type b\nfile one seq 1 type i\nfile two seq 2 type i\n");
        // Some have no such command: each shard reads all of it, and takes its own.
        let (before, after) = several.split_at(several.find("RENAME").expect("it is there"));
        directory.write("base", &commands("SET b 9 | SET gone 1 | FLUSHDB"));
        directory.write("one", &commands(before.trim_end_matches(" | "))).write("two", &commands(after));
        assert_eq!(contents(directory.load(shards).expect("it loads")), expected, "{shards}");
    }
}

#[test]
fn segments_of_any_number_of_shards_load_into_any_number() {
    let slots = SlotMap::contiguous(4);
    let of_shard = |shard: ShardId, lines: &str| {
        let mine = |line: &&str| {
            line.starts_with("SELECT") || { slots.shard_of(line.split(' ').nth(1).expect("a key").as_bytes()) == shard }
        };
        commands(&lines.split(" | ").filter(mine).collect::<Vec<_>>().join(" | "))
    };
    for shards in [1, 2, 4] {
        let directory = Directory::new();
        let mut manifest = String::new();
        let mut add = |name: String, bytes: Vec<u8>| {
            let seq = manifest.lines().count() + 1;
            manifest += &format!("file {name} seq {seq} type i\n");
            directory.write(&name, &bytes);
        };
        for shard in 0..4 {
            add(format!("old{shard}"), segment(1, Some(shard), 4, &[&of_shard(shard, "SELECT 0 | SET a 9 | SET z 9")]));
        }
        add("flush".to_owned(), segment(2, None, 4, &[&commands("SELECT 0 | FLUSHALL")]));
        for shard in 0..4 {
            // Another start, as its log begins anew.
            let text = segment(3, Some(shard), 4, &[&of_shard(shard, KEYS)]);
            let text = String::from_utf8(text).expect("text").replace("start=1", "start=2");
            add(format!("new{shard}"), text.into_bytes());
        }
        directory.write("a.manifest", manifest.as_bytes());
        assert_eq!(contents(directory.load(shards).expect("it loads")), KEPT, "{shards}");
    }
}

#[test]
fn segments_that_were_dealt_out_by_other_prefixes_are_dealt_out_anew() {
    let directory = Directory::new();
    let text = segment(1, Some(0), 4, &[&commands(KEYS)]);
    let text = String::from_utf8(text).expect("text").replace("prefixes=0", "prefixes=7");
    directory.write("a.manifest", b"file one seq 1 type i\n").write("one", text.as_bytes());
    assert_eq!(contents(directory.load(4).expect("it loads")), KEPT);
}

#[test]
fn what_time_did_not_do_then_it_does_not_do_now() {
    let directory = Directory::new();
    directory.write("a.manifest", b"file one seq 1 type i\n");
    // As long as the log is being loaded, nothing has expired.
    directory
        .write("one", &commands("RPUSH k a | PEXPIREAT k 1000 | RPUSH k b | SET t 1 PXAT 1000 | INCR t | PERSIST t"));
    let mut shards = directory.load(1).expect("it loads");
    assert_eq!(shards[0].run("GET t | EXISTS k | RPUSH k c"), "2 | :0 | :1");
}

#[test]
fn a_part_that_was_not_decided_is_not_there() {
    let directory = Directory::new();
    let id = |counter| TransactionId { start: 1, coordinator: 0, counter };
    let mut group = commands("SELECT 0 | SET a 1");
    for (counter, line) in [(1, "SET b 1"), (2, "SET c 1")] {
        write::part(&mut group, id(counter), 1);
        group.extend_from_slice(&commands(line));
    }
    let mut decision = Vec::new();
    write::decided(&mut decision, id(2), 1);
    let torn = segment(1, Some(0), 1, &[&group, &decision, &commands("SET d 1")]);
    directory.write("a.manifest", b"file one seq 1 type i\n").write("one", &torn[..torn.len() - 3]);
    for _ in 0..2 {
        assert_eq!(contents(directory.load(1).expect("it loads")), ["0 a 1", "0 c 1"]);
    }
    let plan = open(&directory.place()).expect("it is whole").expect("it is there");
    assert_eq!((plan.generation, plan.start), (1, 1));
}

#[test]
fn an_old_file_moves_into_the_directory() {
    let directory = Directory::new();
    fs::remove_dir(directory.0.join("aof")).expect("it is empty");
    fs::write(directory.0.join("a"), commands(KEYS)).expect("a new file");
    for shards in [1, 4] {
        assert_eq!(contents(directory.load(shards).expect("it loads")), KEPT);
        let manifest = fs::read_to_string(directory.0.join("aof/a.manifest")).expect("it is there");
        assert_eq!(manifest, "file a seq 1 type b\n");
    }
    // It was interrupted between the two steps.
    fs::rename(directory.0.join("aof/a"), directory.0.join("a")).expect("it is there");
    assert_eq!(contents(directory.load(1).expect("it loads")), KEPT);
}

#[test]
fn what_cannot_be_loaded_is_told_as_redis_does() {
    let error = |name: &str, bytes: &[u8]| {
        let directory = Directory::new();
        directory.write("a.manifest", b"file one seq 1 type i\n").write(name, bytes);
        let error = directory.load(2).err().expect("it does not load");
        error.split(". ").next().unwrap_or_default().to_owned()
    };
    let format = "Bad file format reading the append only file one: make a backup of your AOF file, then use peristyle \
                  check --fix <filename.manifest>";
    assert_eq!(error("one", &[commands("SET a 1"), b"!!!".to_vec()].concat()), format);
    assert_eq!(error("other", b""), "The append log file one doesn't exist: No such file or directory");
    let unknown = "unknown command 'bla', with args beginning with: 'foo'  reading the append only file one";
    assert_eq!(error("one", &commands("SET a 1 | bla foo")), unknown);
    assert_eq!(error("a.manifest", b"file one seq 1\n"), "Invalid AOF manifest file format");
    let directory = Directory::new();
    directory.write("a.manifest", b"file one seq 1 type i\n").write("one", &commands("SET a 1")[..20]);
    let place = Place { truncates: false, ..directory.place() };
    let error = open(&place).expect_err("nothing may be cut");
    assert!(error.starts_with("Unexpected end of file reading the append only file one. You can: 1)"), "{error}");
}

#[test]
fn what_redis_has_written_behind_a_segment_is_loaded() {
    let of_shard = segment(1, Some(0), 2, &[&commands("SELECT 0 | SET b 1 | SET c 1")]);
    let record = segment(2, None, 2, &[&commands("SELECT 0 | SET b 1 | SET c 1")]);
    let appended = commands("SELECT 0 | MSET a 1 b 2 | RENAME a d");
    for shards in [1, 2, 4] {
        for bytes in [[&of_shard[..], b"#closed\r\n", &appended].concat(), [&record[..], &appended].concat()] {
            let directory = Directory::new();
            let torn = [&bytes[..], &appended[..50]].concat();
            directory.write("a.manifest", b"file one seq 1 type i\n").write("one", &torn);
            for _ in 0..2 {
                assert_eq!(contents(directory.load(shards).expect("it loads")), ["0 b 2", "0 c 1", "0 d 1"]);
            }
        }
        // Without its end the log was being written: what is behind the last group is no group.
        let directory = Directory::new();
        let bytes = [&segment(1, Some(0), 1, &[&commands("SELECT 0 | SET b 1")])[..], &appended].concat();
        directory.write("a.manifest", b"file one seq 1 type i\n").write("one", &bytes);
        assert_eq!(contents(directory.load(shards).expect("it loads")), ["0 b 1"]);
    }
}

#[test]
fn a_torn_file_of_redis_may_have_segments_behind_it_of_which_nothing_came() {
    let directory = Directory::new();
    directory.write("a.manifest", b"file one seq 1 type i\nfile two seq 2 type i\n");
    directory.write("one", &commands("SET a 1 | SET b 1")[..40]).write("two", &segment(1, Some(0), 1, &[b""]));
    assert_eq!(contents(directory.load(1).expect("it loads")), ["0 a 1"]);
}
