//! One-line stories; and whole sets of effects, replayed.

use proptest::prelude::*;

use super::ROWS;
use crate::command::generic;
use crate::command::spec::assert_consistent;
use crate::command::string;
use crate::command::testing::{Families, TestShard, check_effects, stories};

const FAMILIES: Families = &[ROWS, generic::ROWS, string::ROWS];

stories!(FAMILIES: check, check_last);

const THREE: &str = "XADD k 1-1 a 1 | XADD k 1-2 a 2 | XADD k 2-0 a 3 b 4";
const READ: &str = "XADD k 1-1 a 1 | XADD k 1-2 a 2 | XADD k 2-0 a 3 b 4 | XGROUP CREATE k g 0 | \
                    XREADGROUP GROUP g c COUNT 2 STREAMS k >";

#[test]
fn declarations_are_consistent() {
    ROWS.iter().for_each(|row| assert_consistent(&row.spec));
}

#[test]
fn xadd_gives_ids_that_ascend() {
    check("XADD k * a 1 | XADD k * a 1 | +1ms | XADD k * a 1", "1000000-0 | 1000000-1 | 1000001-0");
    check("XADD k 5 a 1 | XADD k 5-* a 1 | XADD k 7-* a 1 | XADD k 0-* a 1 | XADD j 0-* a 1", {
        "5-0 | 5-1 | 7-0 | ERR The ID specified in XADD is equal or smaller than the target stream top item | 0-1"
    });
    check("XADD k 2000000-7 a 1 | XADD k * a 1 | XLEN k", "2000000-7 | 2000000-8 | :2");
    check("XADD k 18446744073709551615-18446744073709551615 a 1 | XADD k * a 1", {
        "18446744073709551615-18446744073709551615 | \
         ERR The stream has exhausted the last possible ID, unable to add more items"
    });
}

#[test]
fn xadd_refuses_before_it_creates() {
    check("XADD k 0-0 a 1 | EXISTS k", "ERR The ID specified in XADD must be greater than 0-0 | :0");
    check("XADD k NOMKSTREAM * a 1 | EXISTS k", "nil | :0");
    check("XADD k 1 a | XADD k 1 a 1 b | XADD k MAXLEN 1 2", {
        "ERR wrong number of arguments for 'xadd' command | ERR wrong number of arguments for 'xadd' command | \
         ERR wrong number of arguments for 'xadd' command"
    });
    check("XADD k x a 1 | SET k v | XADD k 1 a 1", {
        "ERR Invalid stream ID specified as stream command argument | OK | \
         WRONGTYPE Operation against a key holding the wrong kind of value"
    });
}

#[test]
fn options_of_trimming() {
    for (options, error) in [
        ("MAXLEN 1 MINID 1", "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"),
        ("MAXLEN -1", "ERR The MAXLEN argument must be >= 0."),
        ("MAXLEN ~ 1 LIMIT -1", "ERR The LIMIT argument must be >= 0."),
        ("MAXLEN 1 LIMIT 1", "ERR syntax error, LIMIT cannot be used without the special ~ option"),
        ("LIMIT 1", "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"),
        ("MINID x", "ERR Invalid stream ID specified as stream command argument"),
    ] {
        check(&format!("XTRIM k {options} | EXISTS k"), &format!("{error} | :0"));
        check(&format!("XADD k {options} * a 1 | EXISTS k"), &format!("{error} | :0"));
    }
    check("XTRIM k MAXLEN 1 FOO 1 | XTRIM k FOO 1", "ERR syntax error | ERR syntax error");
    check("XTRIM k MAXLEN 1 | XTRIM k LIMIT 0", ":0 | ERR syntax error, XTRIM must be called with a trimming strategy");
}

#[test]
fn trimming() {
    check_last(&format!("{THREE} | XTRIM k MAXLEN 1 | XRANGE k - +"), "[[2-0 [a 3 b 4]]]");
    check_last(&format!("{THREE} | XTRIM k MAXLEN ~ 1"), ":0");
    check_last(&format!("{THREE} | XTRIM k MAXLEN ~ 0"), ":3");
    check_last(&format!("{THREE} | XTRIM k MINID 1-2"), ":1");
    check_last(&format!("{THREE} | XADD k MAXLEN 2 3 c 5 | XRANGE k - +"), "[[2-0 [a 3 b 4]] [3-0 [c 5]]]");
    check_last(&format!("{THREE} | XTRIM k MAXLEN 0 | EXISTS k"), ":1");
}

#[test]
fn ranges() {
    check_last(&format!("{THREE} | XRANGE k - + COUNT 2"), "[[1-1 [a 1]] [1-2 [a 2]]]");
    check_last(&format!("{THREE} | XRANGE k 1 1"), "[[1-1 [a 1]] [1-2 [a 2]]]");
    check_last(&format!("{THREE} | XRANGE k (1-1 (2-0"), "[[1-2 [a 2]]]");
    check_last(&format!("{THREE} | XREVRANGE k + - COUNT 1"), "[[2-0 [a 3 b 4]]]");
    check_last(&format!("{THREE} | XREVRANGE k 1 1"), "[[1-2 [a 2]] [1-1 [a 1]]]");
    check_last(&format!("{THREE} | XRANGE k + -"), "[]");
    check("XRANGE k - + | XRANGE k - + COUNT 0 | XRANGE k - + COUNT | XRANGE k x + | XLEN k", {
        "[] | [] | ERR syntax error | ERR Invalid stream ID specified as stream command argument | :0"
    });
    check_last(&format!("{THREE} | XRANGE k - + COUNT 0"), "nil");
    check_last(&format!("{THREE} | XDEL k 1-2 9-9 | XRANGE k 1-2 2"), "[[2-0 [a 3 b 4]]]");
}

#[test]
fn xread() {
    check_last(&format!("{THREE} | XREAD COUNT 1 STREAMS k j 1-1 0"), "[[k [[1-2 [a 2]]]]]");
    check_last(&format!("{THREE} | XREAD STREAMS k $"), "nil");
    check_last(&format!("{THREE} | XREAD STREAMS k +"), "[[k [[2-0 [a 3 b 4]]]]]");
    check_last(&format!("{THREE} | XREAD BLOCK 0 COUNT 1 STREAMS k 0"), "[[k [[1-1 [a 1]]]]]");
    // It waits, which is its session's affair.
    check("XREAD STREAMS k 0 | XREAD BLOCK 10 STREAMS k 0", "nil | nil");
    for (words, error) in [
        ("STREAMS k", "ERR wrong number of arguments for 'xread' command"),
        (
            "STREAMS k j 0",
            "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
        ),
        ("COUNT 1 FOO", "ERR syntax error"),
        ("COUNT 1 COUNT 1", "ERR syntax error"),
        ("COUNT x STREAMS k 0", "ERR value is not an integer or out of range"),
        ("BLOCK x STREAMS k 0", "ERR timeout is not an integer or out of range"),
        ("BLOCK -1 STREAMS k 0", "ERR timeout is negative"),
        ("BLOCK 9223372036854775807 STREAMS k 0", "ERR timeout is out of range"),
        ("NOACK STREAMS k 0", "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead."),
        ("GROUP g c STREAMS k 0", "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead."),
    ] {
        check(&format!("XREAD {words}"), error);
    }
}

#[test]
fn groups_come_and_go() {
    check("XGROUP CREATE k g $ MKSTREAM | XGROUP CREATE k g $ | XGROUP DESTROY k g | XGROUP DESTROY k g | EXISTS k", {
        "OK | BUSYGROUP Consumer Group name already exists | :1 | :0 | :1"
    });
    check("XGROUP CREATE k g x MKSTREAM | EXISTS k | XGROUP CREATE k g 0 ENTRIESREAD -2", {
        "ERR Invalid stream ID specified as stream command argument | :0 | \
         ERR value for ENTRIESREAD must be positive or -1"
    });
    check("XGROUP CREATE k g 0 FOO | XGROUP FOO k g", {
        "ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP. | \
         ERR unknown subcommand or wrong number of arguments for 'FOO'. Try XGROUP HELP."
    });
    check("XGROUP CREATE k g 0 MKSTREAM | XGROUP CREATECONSUMER k g c | XGROUP CREATECONSUMER k g c", "OK | :1 | :0");
    check_last(&format!("{READ} | XGROUP DELCONSUMER k g c"), ":2");
    check("XADD k 1 a 1 | XGROUP CREATECONSUMER k g c", "1-0 | NOGROUP No such consumer group 'g' for key name 'k'");
    check_last(
        &format!("{READ} | XGROUP SETID k g 0 | XREADGROUP GROUP g d COUNT 1 STREAMS k >"),
        "[[k [[1-1 [a 1]]]]]",
    );
}

#[test]
fn a_group_delivers_each_entry_once() {
    check_last(READ, "[[k [[1-1 [a 1]] [1-2 [a 2]]]]]");
    check_last(&format!("{READ} | XREADGROUP GROUP g d STREAMS k >"), "[[k [[2-0 [a 3 b 4]]]]]");
    check_last(&format!("{READ} | XREADGROUP GROUP g d STREAMS k 0"), "[[k []]]");
    check_last(&format!("{READ} | XDEL k 1-1 | XREADGROUP GROUP g c STREAMS k 0"), "[[k [[1-1 nil] [1-2 [a 2]]]]]");
    check_last(&format!("{READ} | XREADGROUP GROUP g d NOACK STREAMS k > | XPENDING k g"), "[:2 1-1 1-2 [[c 2]]]");
    check("XREADGROUP GROUP g c STREAMS k > | XREADGROUP STREAMS k > k > k >", {
        "NOGROUP No such key 'k' or consumer group 'g' in XREADGROUP with GROUP option | \
         ERR Missing GROUP option for XREADGROUP"
    });
    let blocked = "XADD k 1 a 1 | XGROUP CREATE k g $ | XREADGROUP GROUP g c BLOCK 0 STREAMS k > | XINFO CONSUMERS k g";
    check(blocked, "1-0 | OK | nil | [[name c pending :0 idle :0 inactive :-1]]");
}

#[test]
fn pending_entries_are_listed_and_acknowledged() {
    check_last(&format!("{READ} | +5ms | XPENDING k g - + 10"), "[[1-1 c :5 :1] [1-2 c :5 :1]]");
    check_last(&format!("{READ} | +5ms | XPENDING k g IDLE 6 - + 10"), "[]");
    check_last(&format!("{READ} | XPENDING k g (1-1 + 10 c"), "[[1-2 c :0 :1]]");
    check_last(&format!("{READ} | XPENDING k g - + 10 d"), "[]");
    check_last(&format!("{READ} | XACK k g 1-1 1-1 9-9 | XPENDING k g"), "[:1 1-2 1-2 [[c 1]]]");
    check_last(&format!("{READ} | XACK k g 1-1 1-2 | XPENDING k g"), "[:0 nil nil nil]");
    check_last(&format!("{READ} | XACK k g 1-1 x | XPENDING k g"), "[:2 1-1 1-2 [[c 2]]]");
    check("XACK k g 1 | XPENDING k g | XPENDING k g - +", {
        ":0 | NOGROUP No such key 'k' or consumer group 'g' | ERR syntax error"
    });
}

#[test]
fn pending_entries_change_hands() {
    check_last(&format!("{READ} | XCLAIM k g d 0 1-1 2-0"), "[[1-1 [a 1]]]");
    check_last(
        &format!("{READ} | XCLAIM k g d 0 1-1 2-0 FORCE JUSTID | XPENDING k g - + 9 d"),
        "[[1-1 d :0 :1] [2-0 d :0 :1]]",
    );
    check_last(&format!("{READ} | XCLAIM k g d 1 1-1 | XPENDING k g"), "[:2 1-1 1-2 [[c 2]]]");
    check_last(&format!("{READ} | XCLAIM k g d 0 1-1 IDLE 7 RETRYCOUNT 9 | XPENDING k g - + 9 d"), "[[1-1 d :7 :9]]");
    check_last(&format!("{READ} | XDEL k 1-1 | XCLAIM k g d 0 1-1 | XPENDING k g"), "[:1 1-2 1-2 [[c 1]]]");
    check_last(&format!("{READ} | XAUTOCLAIM k g d 0 - COUNT 1"), "[1-2 [[1-1 [a 1]]] []]");
    check_last(&format!("{READ} | XDEL k 1-1 | XAUTOCLAIM k g d 0 0 JUSTID"), "[0-0 [1-2] [1-1]]");
    check_last(&format!("{READ} | XAUTOCLAIM k g d 1 0"), "[0-0 [] []]");
    for (words, error) in [
        ("XCLAIM k g d x 1-1", "ERR Invalid min-idle-time argument for XCLAIM"),
        ("XCLAIM k g d 0 1-1 FOO", "ERR Unrecognized XCLAIM option 'FOO'"),
        ("XCLAIM k g d 0 1-1 TIME x", "ERR Invalid TIME option argument for XCLAIM"),
        ("XCLAIM k h d 0 1-1", "NOGROUP No such key 'k' or consumer group 'h'"),
        ("XAUTOCLAIM k g d 0 0 COUNT 0", "ERR COUNT must be > 0"),
        ("XAUTOCLAIM k g d x 0", "ERR Invalid min-idle-time argument for XAUTOCLAIM"),
        ("XAUTOCLAIM k g d 0 0 COUNT", "ERR syntax error"),
    ] {
        check_last(&format!("{READ} | {words}"), error);
    }
}

#[test]
fn xsetid() {
    check(
        "XSETID k 1 | XADD k 5 a 1 | XSETID k 4 | XSETID k 6 ENTRIESADDED 0 | XSETID k 6 ENTRIESADDED 9 MAXDELETEDID 5",
        {
            "ERR no such key | 5-0 | ERR The ID specified in XSETID is smaller than the target stream top item | \
         ERR The entries_added specified in XSETID is smaller than the target stream length | OK"
        },
    );
    check_last("XADD k 5 a 1 | XDEL k 5 | XSETID k 4", {
        "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
    });
}

#[test]
fn xinfo() {
    check_last(&format!("{THREE} | XDEL k 1-1 | XINFO STREAM k"), {
        "[length :2 radix-tree-keys :1 radix-tree-nodes :2 last-generated-id 2-0 max-deleted-entry-id 1-1 \
         entries-added :3 recorded-first-entry-id 1-2 groups :0 first-entry [1-2 [a 2]] last-entry [2-0 [a 3 b 4]]]"
    });
    check_last(&format!("{READ} | XINFO GROUPS k"), {
        "[[name g consumers :1 pending :2 last-delivered-id 1-2 entries-read :2 lag :1]]"
    });
    check_last(&format!("{READ} | +3ms | XINFO CONSUMERS k g"), "[[name c pending :2 idle :3 inactive :3]]");
    check_last("XADD k 1 a 1 | XGROUP CREATE k g 0 | XREADGROUP GROUP g c STREAMS k > | XINFO STREAM k FULL", {
        "[length :1 radix-tree-keys :1 radix-tree-nodes :2 last-generated-id 1-0 max-deleted-entry-id 0-0 \
         entries-added :1 recorded-first-entry-id 1-0 entries [[1-0 [a 1]]] groups [[name g last-delivered-id 1-0 \
         entries-read :1 lag :0 pel-count :1 pending [[1-0 c :1000000 :1]] consumers [[name c seen-time :1000000 \
         active-time :1000000 pel-count :1 pending [[1-0 :1000000 :1]]]]]]]"
    });
    check("XINFO STREAM k | XADD k 1 a 1 | XINFO STREAM k FOO | XINFO CONSUMERS k g", {
        "ERR no such key | 1-0 | ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP. | \
         NOGROUP No such consumer group 'g' for key name 'k'"
    });
}

#[test]
fn effects_name_what_was_chosen() {
    let effects = |script: &str, effects: &str| check_effects(FAMILIES, script, effects);
    effects("XADD k * a 1", "XADD k 1000000-0 a 1");
    effects(&format!("{THREE} | XADD k NOMKSTREAM MAXLEN ~ 1 LIMIT 5 3-* a 1"), "XADD k MAXLEN = 4 3-0 a 1");
    effects(&format!("{THREE} | XADD k MINID 2 3-0 a 1"), "XADD k MINID = 2-0 3-0 a 1");
    effects(&format!("{THREE} | XTRIM k MAXLEN ~ 0"), "XTRIM k MAXLEN = 0");
    effects(&format!("{THREE} | XTRIM k MAXLEN 5"), "");
    effects(&format!("{THREE} | XDEL k 7"), "");
    effects(&format!("{READ} | XREADGROUP GROUP g d STREAMS k >"), {
        "XGROUP CREATECONSUMER k g d | XCLAIM k g d 0 2-0 TIME 1000000 RETRYCOUNT 1 FORCE JUSTID LASTID 2-0 | \
         XGROUP SETID k g 2-0 ENTRIESREAD 3"
    });
    effects(&format!("{READ} | XREADGROUP GROUP g c NOACK STREAMS k >"), "XGROUP SETID k g 2-0 ENTRIESREAD 3");
    effects(&format!("{READ} | XREADGROUP GROUP g c COUNT 1 STREAMS k 0"), {
        "XCLAIM k g c 0 1-1 TIME 1000000 RETRYCOUNT 2 FORCE JUSTID LASTID 1-2"
    });
    effects(&format!("{READ} | XCLAIM k g c 0 9-9 LASTID 2-0"), "XGROUP SETID k g 2-0 ENTRIESREAD 2");
    effects(&format!("{READ} | XAUTOCLAIM k g c 0 0 COUNT 1"), {
        "XCLAIM k g c 0 1-1 TIME 1000000 RETRYCOUNT 2 FORCE JUSTID LASTID 1-2"
    });
    effects(&format!("{READ} | XACK k g 5"), "");
}

#[test]
fn changes_are_counted_as_in_redis() {
    for (command, dirty) in [
        ("XADD k MAXLEN 1 9 a 1", 1),
        ("XTRIM k MAXLEN 1", 2),
        ("XDEL k 1-1 1-2 7", 2),
        ("XACK k g 1-1 1-2", 2),
        ("XREADGROUP GROUP g c STREAMS k >", 1),
        ("XREADGROUP GROUP g d STREAMS k >", 2),
        ("XREADGROUP GROUP g c STREAMS k 0", 1),
        ("XCLAIM k g d 0 1-1 1-2", 3),
        ("XAUTOCLAIM k g d 1 0", 1),
    ] {
        let mut shard = TestShard::new(FAMILIES);
        shard.run(READ);
        let before = shard.ctx.journal.dirty;
        shard.run(command);
        assert_eq!(shard.ctx.journal.dirty - before, dirty, "{command}");
    }
}

fn command() -> impl Strategy<Value = String> {
    let id = || (0..4u64, 0..4u64).prop_map(|(ms, seq)| format!("{ms}-{seq}"));
    let group = || prop_oneof![Just("g"), Just("h")];
    let consumer = || prop_oneof![Just("c"), Just("d")];
    let trim = prop_oneof![
        4 => Just(String::new()),
        1 => (0..6u32).prop_map(|len| format!("MAXLEN ~ {len} LIMIT 3")),
        1 => (0..6u32).prop_map(|len| format!("MAXLEN {len}")),
        1 => id().prop_map(|id| format!("MINID ~ {id}")),
    ];
    prop_oneof![
        6 => (trim, prop_oneof![id(), Just("*".to_owned()), Just("3-*".to_owned())])
            .prop_map(|(trim, id)| format!("XADD k {trim} {id} a 1 b 2")),
        2 => id().prop_map(|id| format!("XDEL k {id}")),
        1 => id().prop_map(|id| format!("XSETID k {id} ENTRIESADDED 100")),
        2 => (group(), id()).prop_map(|(group, id)| format!("XGROUP CREATE k {group} {id} MKSTREAM")),
        1 => (group(), id()).prop_map(|(group, id)| format!("XGROUP SETID k {group} {id}")),
        1 => (group(), consumer()).prop_map(|(group, consumer)| format!("XGROUP DELCONSUMER k {group} {consumer}")),
        4 => (group(), consumer(), prop_oneof![Just(">".to_owned()), id()], 0..4u32).prop_map(
            |(group, consumer, id, count)| format!("XREADGROUP GROUP {group} {consumer} COUNT {count} STREAMS k {id}")
        ),
        1 => (group(), id()).prop_map(|(group, id)| format!("XACK k {group} {id}")),
        2 => (group(), consumer(), id(), id())
            .prop_map(|(group, consumer, id, other)| format!("XCLAIM k {group} {consumer} 0 {id} {other} FORCE")),
        2 => (group(), consumer(), id())
            .prop_map(|(group, consumer, id)| format!("XAUTOCLAIM k {group} {consumer} 0 {id} COUNT 2")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replayed_effects_give_the_same_stream(commands in proptest::collection::vec(command(), 1..60)) {
        let mut shard = TestShard::new(FAMILIES);
        shard.ctx.journal.record();
        commands.iter().for_each(|command| {
            shard.run(command);
        });
        let mut replica = TestShard::new(FAMILIES);
        replica.replay(&shard.ctx.journal.take());
        prop_assert_eq!(replica.run("XINFO STREAM k FULL COUNT 0"), shard.run("XINFO STREAM k FULL COUNT 0"));
    }
}
