//! One-line stories, replies as valkey-server gives them.

use crate::command::generic::{ROWS, copy_target_db, memory_usage};
use crate::command::testing::{Families, START_MS, TestShard, stories};
use crate::command::{args::Args, string};
use crate::config::value::Policy;

const FAMILIES: Families = &[ROWS, string::ROWS];

stories!(FAMILIES: check, effects);

/// Runs a script in each of the databases named, and compares the replies of all.
#[track_caller]
fn check_dbs(scripts: &[(usize, &str, &str)]) {
    let mut shard = TestShard::new(FAMILIES);
    for &(db, script, replies) in scripts {
        shard.ctx.db = db;
        assert_eq!(shard.run(script), replies, "{script} in database {db}");
    }
}

#[test]
fn deleting_counts_what_existed() {
    check("SET a 1 | SET b 2 | EXISTS a b a c | DEL a c a | UNLINK a b | EXISTS a b", "OK | OK | :3 | :1 | :1 | :0");
    effects("SET a 1 | SET b 2 | DEL a c b", "DEL a | DEL b");
    effects("SET a 1 | UNLINK a", "UNLINK a");
}

#[test]
fn type_names_what_a_key_holds() {
    check("TYPE k | SET k v | TYPE k", "none | OK | string");
}

#[test]
fn rename_replaces_and_keeps_the_expiry() {
    check("RENAME a b | RENAME a a | RENAMENX a b", "ERR no such key | ERR no such key | ERR no such key");
    check(
        "SET a 1 | SET b 2 | EXPIRE a 10 | RENAME a b | GET b | TTL b | EXISTS a",
        "OK | OK | :1 | OK | 1 | :10 | :0",
    );
    check("SET a 1 | SET b 2 | RENAMENX a b | RENAMENX a a | RENAMENX a c | GET c", "OK | OK | :0 | :0 | :1 | 1");
    check("SET a 1 | RENAME a a | GET a", "OK | OK | 1");
    check("SET a 1 | SET b 2 | PEXPIRE b 5 | +6ms | RENAMENX a b", "OK | OK | :1 | :1");
}

#[test]
fn a_rename_over_two_slots_is_recorded_key_by_key() {
    effects("SET {t}a 1 | RENAME {t}a {t}b", "RENAME {t}a {t}b");
    effects("SET a 1 | RENAME a b", "DEL a | SET b 1");
    effects("SET a 1 | PEXPIREAT a 1000500 | RENAMENX a b", "DEL a | SET b 1 PXAT 1000500");
    effects("SET a 1 | RENAME a a", "");
}

#[test]
fn copy_leaves_the_source() {
    check("COPY a b | SET a 1 | COPY a b | GET b | COPY a b | COPY a b REPLACE", ":0 | OK | :1 | 1 | :0 | :1");
    check("SET a 1 | EXPIRE a 10 | COPY a b | SET a 2 | GET b | TTL b", "OK | :1 | :1 | OK | 1 | :10");
    effects("SET {t}a 1 | COPY {t}a {t}b DB 1 REPLACE", "COPY {t}a {t}b DB 1 REPLACE");
    effects("SET a 1 | COPY a b", "SET b 1");
    effects("SET a 1 | SET b 2 | COPY a b", "");
}

#[test]
fn copy_and_move_reach_other_databases() {
    check_dbs(&[
        (0, "SET a 1 | COPY a a DB 1 | COPY a b DB 2 DB 1", "OK | :1 | :1"),
        (1, "GET a | GET b | MOVE a 0 | MOVE b 0 | EXISTS a b | MOVE c 0", "1 | 1 | :0 | :1 | :1 | :0"),
        (0, "GET b | EXPIRE b 10 | MOVE b 15", "1 | :1 | :1"),
        (15, "TTL b", ":10"),
    ]);
}

#[test]
fn copy_and_move_refuse_what_cannot_be_meant() {
    let same = "ERR source and destination objects are the same";
    check("COPY a a", same);
    check("COPY a a DB 0", same);
    check("MOVE a 0", same);
    for (database, error) in [
        ("x", "ERR value is not an integer or out of range"),
        ("2147483648", "ERR value is out of range, value must between -2147483648 and 2147483647"),
        ("-1", "ERR DB index is out of range"),
        ("16", "ERR DB index is out of range"),
    ] {
        check(&format!("COPY a b DB {database} | MOVE a {database}"), &format!("{error} | {error}"));
    }
    check("COPY a b DB", "ERR syntax error");
    check("COPY a b REPLACE FOO", "ERR syntax error");
}

#[test]
fn only_copy_has_a_target_database() {
    let target = |line: &str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let row = ROWS.iter().find(|row| row.spec.is_named(words[0])).expect("a row");
        copy_target_db(&row.spec, &Args::new(&words), 3)
    };
    assert_eq!(target("copy a b"), 3);
    assert_eq!(target("copy a b replace db 7"), 7);
    assert_eq!(target("copy a b db 7 foo"), 3);
    assert_eq!(target("rename db 7"), 3);
}

#[test]
fn a_key_lives_through_the_millisecond_of_its_expiry() {
    check("SET k v | PEXPIRE k 10 | +10ms | GET k | PTTL k | +1ms | GET k", "OK | :1 | v | :0 | nil");
    effects("SET k v | PEXPIRE k 10 | +11ms | EXISTS k", "DEL k");
}

#[test]
fn times_are_told_in_four_ways() {
    check("TTL k | PTTL k | EXPIRETIME k | PEXPIRETIME k", ":-2 | :-2 | :-2 | :-2");
    check("SET k v | TTL k | PTTL k | EXPIRETIME k | PEXPIRETIME k", "OK | :-1 | :-1 | :-1 | :-1");
    let asked = "TTL k | PTTL k | EXPIRETIME k | PEXPIRETIME k";
    check(&format!("SET k v | EXPIRE k 10 | {asked}"), "OK | :1 | :10 | :10000 | :1010 | :1010000");
    check(&format!("SET k v | PEXPIRE k 1499 | {asked}"), "OK | :1 | :1 | :1499 | :1001 | :1001499");
    check(&format!("SET k v | EXPIREAT k 1002 | {asked}"), "OK | :1 | :2 | :2000 | :1002 | :1002000");
    check(&format!("SET k v | PEXPIREAT k 1001500 | {asked}"), "OK | :1 | :2 | :1500 | :1002 | :1001500");
    check("SET k v | PEXPIREAT k 9223372036854775807 | EXPIRETIME k", "OK | :1 | :9223372036854776");
}

#[test]
fn expire_is_recorded_as_a_time() {
    effects("SET k v | EXPIRE k 10", "PEXPIREAT k 1010000");
    effects("SET k v | EXPIREAT k 1002 NX", "PEXPIREAT k 1002000");
    effects("SET k v | EXPIRE k 10 XX", "");
    effects("EXPIRE k 10", "");
    effects("SET k v | EXPIRE k 10 | PERSIST k", "PERSIST k");
}

#[test]
fn an_expiry_in_the_past_deletes() {
    check("SET k v | EXPIRE k 0 | EXISTS k | SET k v | PEXPIREAT k 1 | EXISTS k", "OK | :1 | :0 | OK | :1 | :0");
    check("SET k v | EXPIRE k -9223372036854775 | EXISTS k", "OK | :1 | :0");
    effects("SET k v | EXPIRE k -1", "DEL k");
    let mut shard = TestShard::new(FAMILIES);
    std::sync::Arc::make_mut(&mut shard.ctx.config).lazyfree_lazy_expire = true;
    shard.run("SET k v");
    shard.ctx.journal.record();
    shard.run("EXPIRE k -1");
    assert_eq!(shard.ctx.journal.take()[0].words, [b"UNLINK", &b"k"[..]]);
}

#[test]
fn expire_under_conditions() {
    check("SET k v | EXPIRE k 10 XX | EXPIRE k 10 GT | EXPIRE k 10 LT | TTL k", "OK | :0 | :0 | :1 | :10");
    check("SET k v | EXPIRE k 10 NX | EXPIRE k 20 NX | TTL k", "OK | :1 | :0 | :10");
    check("SET k v | EXPIRE k 10 | EXPIRE k 10 GT | EXPIRE k 20 GT | TTL k", "OK | :1 | :0 | :1 | :20");
    check("SET k v | EXPIRE k 10 | EXPIRE k 10 LT | EXPIRE k 5 xx lt | TTL k", "OK | :1 | :0 | :1 | :5");
    check("SET k v | EXPIRE k -1 GT | EXPIRE k -1 LT | EXISTS k", "OK | :0 | :1 | :0");
}

#[test]
fn expire_refuses() {
    let incompatible = "ERR NX and XX, GT or LT options at the same time are not compatible";
    check("EXPIRE k 1 NX XX | EXPIRE k 1 GT NX", &format!("{incompatible} | {incompatible}"));
    check("EXPIRE k 1 GT LT", "ERR GT and LT options at the same time are not compatible");
    check("EXPIRE k x Foo", "ERR Unsupported option Foo");
    check("EXPIRE k x NX", "ERR value is not an integer or out of range");
    for (command, time) in [
        ("EXPIRE", "9223372036854775"),
        ("EXPIRE", "-9223372036854776"),
        ("PEXPIRE", "9223372036854775807"),
        ("EXPIREAT", "9223372036854776"),
    ] {
        let error = format!("ERR invalid expire time in '{}' command", command.to_lowercase());
        check(&format!("{command} k {time}"), &error);
    }
    check("SET k v | PEXPIREAT k 9223372036854775807 | PTTL k", "OK | :1 | :9223372036853775807");
}

#[test]
fn persist_says_whether_there_was_an_expiry() {
    check("PERSIST k | SET k v | PERSIST k | EXPIRE k 9 | PERSIST k | TTL k", ":0 | OK | :0 | :1 | :1 | :-1");
}

#[test]
fn only_touch_counts_as_a_use() {
    check("SET k v | +5000ms | EXISTS k | TTL k | TYPE k | OBJECT IDLETIME k", "OK | :1 | :-1 | string | :5");
    check("SET k v | +5000ms | TOUCH k x k | OBJECT IDLETIME k", "OK | :2 | :0");
    let mut shard = TestShard::new(FAMILIES);
    shard.ctx.no_touch = true;
    assert_eq!(shard.run("SET k v | +5000ms | GET k | OBJECT IDLETIME k"), "OK | v | :5");
    assert_eq!(shard.run("TOUCH k | OBJECT IDLETIME k"), ":1 | :0");
}

#[test]
fn looking_at_a_key_counts_hits_and_misses() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v | EXISTS k x | TTL k | TYPE x | EXPIRE k 10 | DEL x");
    assert_eq!((shard.ctx.stats.hits, shard.ctx.stats.misses), (2, 2));
}

#[test]
fn object_looks_into_a_value() {
    check("OBJECT ENCODING k | OBJECT FREQ k | OBJECT IDLETIME k | OBJECT REFCOUNT k", "nil | nil | nil | nil");
    check("SET k 12 | OBJECT ENCODING k | SET k abc | object encoding k", "OK | int | OK | embstr");
    check("SET k v | OBJECT REFCOUNT k", "OK | :1");
    let not_lfu = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                   switching between policies at runtime LRU and LFU data will take some time to adjust.";
    check("SET k v | OBJECT FREQ k", &format!("OK | {not_lfu}"));
}

#[test]
fn object_under_an_lfu_policy() {
    let mut shard = TestShard::new(FAMILIES);
    std::sync::Arc::make_mut(&mut shard.ctx.config).maxmemory_policy = Policy::AllKeysLfu;
    assert_eq!(shard.run("SET k v | OBJECT FREQ k | +60000ms | OBJECT FREQ k"), "OK | :5 | :4");
    let not_lru = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                   between policies at runtime LRU and LFU data will take some time to adjust.";
    assert_eq!(shard.run("OBJECT IDLETIME k"), not_lru);
}

#[test]
fn memory_usage_is_of_the_whole_key() {
    let mut shard = TestShard::new(FAMILIES);
    shard.run("SET k v");
    assert_eq!(memory_usage(&mut shard.ctx, b"x", 5), None);
    // Eight bytes of entry, eight of place.
    assert_eq!(memory_usage(&mut shard.ctx, b"k", 5), Some(16));
    shard.command(&[&b"SET"[..], b"k", &[b'x'; 100_000]]);
    assert!((100_000..140_000).contains(&memory_usage(&mut shard.ctx, b"k", 5).expect("the key exists")));
}

/// The payload of DUMP for the string "1" and what follows it, as valkey-server 8.0.1 writes it.
const DUMPED_1: &str = r#""\x00\xc0\x01\x0b\x00O\xa7Z\xc5,\x9e\xf8u""#;

#[test]
fn dump_and_restore() {
    check("DUMP k | SET k 1 | DUMP k", &format!("nil | OK | {DUMPED_1}"));
    check(&format!("RESTORE k 0 {DUMPED_1} | GET k | OBJECT ENCODING k | TTL k"), "OK | 1 | int | :-1");
    check(&format!("RESTORE k 1500 {DUMPED_1} | PTTL k"), "OK | :1500");
    check(&format!("RESTORE k 1001000 {DUMPED_1} ABSTTL | PTTL k"), "OK | :1000");
    check(&format!("RESTORE k 0 {DUMPED_1} IDLETIME 500 | OBJECT IDLETIME k"), "OK | :500");
    check(&format!("RESTORE k 0 {DUMPED_1} FREQ 9 | OBJECT IDLETIME k"), "OK | :0");
}

#[test]
fn restore_replaces_only_if_told_to() {
    let busy = "BUSYKEY Target key name already exists.";
    check(&format!("SET k v | RESTORE k 0 {DUMPED_1} | GET k"), &format!("OK | {busy} | v"));
    check(&format!("SET k v | EXPIRE k 9 | RESTORE k 0 {DUMPED_1} REPLACE | GET k | TTL k"), "OK | :1 | OK | 1 | :-1");
    check(&format!("SET k v | RESTORE k 1 {DUMPED_1} ABSTTL REPLACE | EXISTS k"), "OK | OK | :0");
}

#[test]
fn restore_is_recorded_with_a_time() {
    let mut shard = TestShard::new(FAMILIES);
    shard.ctx.journal.record();
    shard.run(&format!("RESTORE k 10 {DUMPED_1}"));
    let words = &shard.ctx.journal.take()[0].words;
    assert_eq!((&words[2], words.last()), (&b"1000010".to_vec(), Some(&b"ABSTTL".to_vec())));
    effects(&format!("SET k v | RESTORE k 1 {DUMPED_1} ABSTTL REPLACE"), "DEL k");
    effects(&format!("RESTORE k 1 {DUMPED_1} ABSTTL"), "");
}

#[test]
fn restore_refuses() {
    for (arguments, error) in [
        ("0 x", "ERR DUMP payload version or checksum are wrong"),
        ("x x", "ERR value is not an integer or out of range"),
        ("-1 x", "ERR Invalid TTL value, must be >= 0"),
        ("0 x IDLETIME -1", "ERR Invalid IDLETIME value, must be >= 0"),
        ("0 x FREQ 256", "ERR Invalid FREQ value, must be >= 0 and <= 255"),
        ("0 x FREQ x", "ERR value is not an integer or out of range"),
        ("0 x FREQ 1 IDLETIME 1", "ERR syntax error"),
        ("0 x FREQ", "ERR syntax error"),
        ("0 x FOO", "ERR syntax error"),
    ] {
        check(&format!("RESTORE k {arguments}"), error);
    }
}

#[test]
fn effects_replayed_give_the_same_keys() {
    let mut primary = TestShard::new(FAMILIES);
    primary.ctx.journal.record();
    primary.run(&format!(
        "SET a 1 | SET {{a}}b 2 | EXPIRE a 100 | RENAME a {{a}}c | COPY {{a}}c {{a}}d | COPY {{a}}c e | SET f 1 | \
         PEXPIRE f 10 | +20ms | EXISTS f | SET g 1 | MOVE g 1 | RESTORE h 5000 {DUMPED_1} | PERSIST h | SET i 1 | \
         RENAME i j"
    ));
    let mut replica = TestShard::new(FAMILIES);
    replica.replay(&primary.ctx.journal.take());
    for db in [0, 1] {
        let contents = |shard: &TestShard| {
            let entries = shard.ctx.keyspace.db(db).iter();
            let mut all: Vec<_> = entries.map(|entry| (entry.key().to_vec(), entry.expire_at_ms())).collect();
            all.sort();
            all
        };
        assert_eq!(contents(&primary), contents(&replica), "database {db}");
    }
    assert!(primary.ctx.now_ms() > START_MS);
}
