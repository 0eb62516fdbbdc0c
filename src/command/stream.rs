//! Commands on streams: their declarations; what they do is in files by topic.
//!
//! A stream is a log and groups of consumers that read it (`data/stream.rs`). `stream/write.rs` changes the log,
//! `read.rs` reads it, alone or for a group, `group.rs` and `pending.rs` keep account of what groups have read, `info.rs`
//! tells. Reading for a group is a write; its effects are in `effects.rs`. Nothing waits here: a read that would have to
//! is refused.

mod effects;
mod group;
mod info;
mod parse;
mod pending;
mod read;
mod reply;
#[cfg(test)]
mod tests;
mod write;

use super::KeyRow;
use super::spec::*;
use group::{xack, xgroup};
use info::xinfo;
use pending::{xautoclaim, xclaim, xpending};
use read::{xlen, xrange, xread, xreadgroup, xrevrange};
use write::{xadd, xdel, xsetid, xtrim};

/// What the rows of this family have in common.
const STREAM: Spec = Spec { group: Group::Stream, categories: category::STREAM, shape: OneShard, ..Spec::DEFAULT };

const COUNT: Arg = integer("count").after("COUNT").optional();
const BLOCK: Arg = integer("milliseconds").after("BLOCK").optional();
const STREAMS: Arg = block("streams", &[key("key").multiple(), string("id").multiple()]).after("STREAMS");

pub const ROWS: &[KeyRow] = &[
    Row {
        run: xack,
        spec: Spec {
            name: "xack",
            arity: AtLeast(4),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "5.0.0",
            complexity: "O(1) for each ID.",
            summary: "Marks entries as processed, so that they are not pending for the group any more.",
            args: &[key("key"), string("group"), string("id").multiple()],
            ..STREAM
        },
    },
    Row {
        run: xadd,
        spec: Spec {
            name: "xadd",
            arity: AtLeast(5),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[
                key_at(1, RW.and(UPDATE)).notes("UPDATE instead of INSERT because of the optional trimming feature")
            ],
            since: "5.0.0",
            complexity: "O(1), and O(N) where N is the number of entries that are trimmed.",
            summary: "Appends an entry to a stream, creating the key if needed, and may trim the stream.",
            args: &[
                key("key"),
                token("NOMKSTREAM").since("6.2.0").optional(),
                block(
                    "trim",
                    &[
                        one_of("strategy", &[token("MAXLEN"), token("MINID").since("6.2.0")]),
                        one_of("operator", &[token("=").named("equal"), token("~").named("approximately")]).optional(),
                        string("threshold"),
                        integer("count").after("LIMIT").since("6.2.0").optional(),
                    ],
                )
                .optional(),
                one_of("id-selector", &[token("*").named("auto-id"), string("id")]),
                block("data", &[string("field"), string("value")]).multiple(),
            ],
            history: &[
                ("6.2.0", "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option."),
                ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
            ],
            tips: &["nondeterministic_output"],
            ..STREAM
        },
    },
    Row {
        run: xautoclaim,
        spec: Spec {
            name: "xautoclaim",
            arity: AtLeast(6),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(DELETE))],
            since: "6.2.0",
            complexity: "O(1) for a small COUNT.",
            summary: "Takes over pending entries that have been idle for some time, as if they had been delivered to this consumer.",
            args: &[
                key("key"),
                string("group"),
                string("consumer"),
                string("min-idle-time"),
                string("start"),
                COUNT,
                token("JUSTID").optional(),
            ],
            history: &[(
                "7.0.0",
                "Added an element to the reply array, containing deleted entries the command cleared from the PEL",
            )],
            tips: &["nondeterministic_output"],
            ..STREAM
        },
    },
    Row {
        run: xclaim,
        spec: Spec {
            name: "xclaim",
            arity: AtLeast(6),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "5.0.0",
            complexity: "O(log N) for each ID where N is the number of entries pending for the group.",
            summary: "Takes over certain pending entries, as if they had been delivered to this consumer.",
            args: &[
                key("key"),
                string("group"),
                string("consumer"),
                string("min-idle-time"),
                string("id").multiple(),
                integer("ms").after("IDLE").optional(),
                unix_time("unix-time-milliseconds").after("TIME").optional(),
                integer("count").after("RETRYCOUNT").optional(),
                token("FORCE").optional(),
                token("JUSTID").optional(),
                string("lastid").after("LASTID").optional(),
            ],
            tips: &["nondeterministic_output"],
            ..STREAM
        },
    },
    Row {
        run: xdel,
        spec: Spec {
            name: "xdel",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(DELETE))],
            since: "5.0.0",
            complexity: "O(1) for each ID, however long the stream is.",
            summary: "Deletes entries from a stream and counts those that were there.",
            args: &[key("key"), string("id").multiple()],
            ..STREAM
        },
    },
    Row {
        run: xgroup,
        spec: Spec {
            name: "xgroup",
            arity: AtLeast(2),
            categories: Categories::NONE,
            shape: Here,
            since: "5.0.0",
            complexity: "Depends on the subcommand.",
            summary: "Holds the commands that manage consumer groups.",
            subcommands: &[
                Spec {
                    name: "xgroup|create",
                    arity: AtLeast(5),
                    flags: WRITE.and(DENYOOM),
                    keys: &[key_at(2, RW.and(INSERT))],
                    since: "5.0.0",
                    complexity: "O(1)",
                    summary: "Makes a consumer group.",
                    args: &[
                        key("key"),
                        string("group"),
                        one_of("id-selector", &[string("id"), token("$").named("new-id")]),
                        token("MKSTREAM").optional(),
                        integer("entriesread").after("ENTRIESREAD").display("entries-read").optional(),
                    ],
                    history: &[("7.0.0", "Added the `entries_read` named argument.")],
                    ..STREAM
                },
                Spec {
                    name: "xgroup|delconsumer",
                    arity: Exactly(5),
                    flags: WRITE,
                    keys: &[key_at(2, RW.and(DELETE))],
                    since: "5.0.0",
                    complexity: "O(N) where N is the number of entries pending for the consumer.",
                    summary: "Removes a consumer from its group, with all that is pending for it.",
                    args: &[key("key"), string("group"), string("consumer")],
                    ..STREAM
                },
                Spec {
                    name: "xgroup|createconsumer",
                    arity: Exactly(5),
                    flags: WRITE.and(DENYOOM),
                    keys: &[key_at(2, RW.and(INSERT))],
                    since: "6.2.0",
                    complexity: "O(1)",
                    summary: "Makes a consumer in a group.",
                    args: &[key("key"), string("group"), string("consumer")],
                    ..STREAM
                },
                Spec {
                    name: "xgroup|help",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    shape: Here,
                    since: "5.0.0",
                    complexity: "O(1)",
                    summary: "Explains the subcommands.",
                    ..STREAM
                },
                Spec {
                    name: "xgroup|setid",
                    arity: AtLeast(5),
                    flags: WRITE,
                    keys: &[key_at(2, RW.and(UPDATE))],
                    since: "5.0.0",
                    complexity: "O(1)",
                    summary: "Sets how far a group has come.",
                    args: &[
                        key("key"),
                        string("group"),
                        one_of("id-selector", &[string("id"), token("$").named("new-id")]),
                        integer("entriesread").after("ENTRIESREAD").display("entries-read").optional(),
                    ],
                    history: &[("7.0.0", "Added the optional `entries_read` argument.")],
                    ..STREAM
                },
                Spec {
                    name: "xgroup|destroy",
                    arity: Exactly(4),
                    flags: WRITE,
                    keys: &[key_at(2, RW.and(DELETE))],
                    since: "5.0.0",
                    complexity: "O(N) where N is the number of entries pending for the group.",
                    summary: "Removes a consumer group.",
                    args: &[key("key"), string("group")],
                    ..STREAM
                },
            ],
            ..STREAM
        },
    },
    Row {
        run: xinfo,
        spec: Spec {
            name: "xinfo",
            arity: AtLeast(2),
            categories: Categories::NONE,
            shape: Here,
            since: "5.0.0",
            complexity: "Depends on the subcommand.",
            summary: "Holds the commands that describe streams.",
            subcommands: &[
                Spec {
                    name: "xinfo|groups",
                    arity: Exactly(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO.and(ACCESS))],
                    since: "5.0.0",
                    complexity: "O(N) where N is the number of groups.",
                    summary: "Lists the consumer groups of a stream.",
                    args: &[key("key")],
                    history: &[("7.0.0", "Added the `entries-read` and `lag` fields")],
                    ..STREAM
                },
                Spec {
                    name: "xinfo|consumers",
                    arity: Exactly(4),
                    flags: READONLY,
                    keys: &[key_at(2, RO.and(ACCESS))],
                    since: "5.0.0",
                    complexity: "O(N) where N is the number of consumers.",
                    summary: "Lists the consumers of a group.",
                    args: &[key("key"), string("group")],
                    history: &[("7.2.0", "Added the `inactive` field, and changed the meaning of `idle`.")],
                    tips: &["nondeterministic_output"],
                    ..STREAM
                },
                Spec {
                    name: "xinfo|help",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    shape: Here,
                    since: "5.0.0",
                    complexity: "O(1)",
                    summary: "Explains the subcommands.",
                    ..STREAM
                },
                Spec {
                    name: "xinfo|stream",
                    arity: AtLeast(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO.and(ACCESS))],
                    since: "5.0.0",
                    complexity: "O(N) where N is the number of nodes of the stream, a hundredth of its entries or so.",
                    summary: "Describes a stream.",
                    args: &[key("key"), block("full-block", &[token("FULL"), COUNT]).optional()],
                    history: &[
                        ("6.0.0", "Added the `FULL` modifier."),
                        (
                            "7.0.0",
                            "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag` fields",
                        ),
                        ("7.2.0", "Added the `active-time` field, and changed the meaning of `seen-time`."),
                    ],
                    ..STREAM
                },
            ],
            ..STREAM
        },
    },
    Row {
        run: xlen,
        spec: Spec {
            name: "xlen",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Counts the entries of a stream.",
            args: &[key("key")],
            ..STREAM
        },
    },
    Row {
        run: xpending,
        spec: Spec {
            name: "xpending",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "5.0.0",
            complexity: "O(N) where N is the number of entries returned, or looked at with IDLE; the summary takes O(M) where M is the number of consumers.",
            summary: "Counts or lists the entries that were delivered to a group but not acknowledged.",
            args: &[
                key("key"),
                string("group"),
                block(
                    "filters",
                    &[
                        integer("min-idle-time").after("IDLE").since("6.2.0").optional(),
                        string("start"),
                        string("end"),
                        integer("count"),
                        string("consumer").optional(),
                    ],
                )
                .optional(),
            ],
            history: &[("6.2.0", "Added the `IDLE` option and exclusive range intervals.")],
            tips: &["nondeterministic_output"],
            ..STREAM
        },
    },
    Row {
        run: xrange,
        spec: Spec {
            name: "xrange",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "5.0.0",
            complexity: "O(N) where N is the number of entries returned.",
            summary: "Reads the entries of a stream between two IDs.",
            args: &[key("key"), string("start"), string("end"), COUNT],
            history: &[("6.2.0", "Added exclusive ranges.")],
            ..STREAM
        },
    },
    Row {
        run: xread,
        spec: Spec {
            name: "xread",
            arity: AtLeast(4),
            flags: READONLY.and(BLOCKING),
            keys: &[key_after("STREAMS", 1, RO.and(ACCESS)).first_half()],
            extract: Some(keys_of_xread),
            waits: Some(read::has_block),
            shape: Gather,
            since: "5.0.0",
            summary: "Reads entries of several streams behind given IDs, and may wait for them.",
            args: &[COUNT, BLOCK, STREAMS],
            ..STREAM
        },
    },
    Row {
        run: xreadgroup,
        spec: Spec {
            name: "xreadgroup",
            arity: AtLeast(7),
            flags: WRITE.and(BLOCKING),
            keys: &[key_after("STREAMS", 4, RO.and(ACCESS)).first_half()],
            extract: Some(keys_of_xreadgroup),
            waits: Some(read::has_block),
            shape: Gather,
            since: "5.0.0",
            complexity: "O(N) where N is the number of entries returned.",
            summary: "Reads entries of several streams as a consumer of a group, new ones or those pending for it, and may wait for them.",
            args: &[
                block("group-block", &[string("group"), string("consumer")]).after("GROUP"),
                COUNT,
                BLOCK,
                token("NOACK").optional(),
                STREAMS,
            ],
            ..STREAM
        },
    },
    Row {
        run: xrevrange,
        spec: Spec {
            name: "xrevrange",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "5.0.0",
            complexity: "O(N) where N is the number of entries returned.",
            summary: "Reads the entries of a stream between two IDs, the last one first.",
            args: &[key("key"), string("end"), string("start"), COUNT],
            history: &[("6.2.0", "Added exclusive ranges.")],
            ..STREAM
        },
    },
    Row {
        run: xsetid,
        spec: Spec {
            name: "xsetid",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Sets the ID and the counters that a stream goes on from.",
            args: &[
                key("key"),
                string("last-id"),
                integer("entries-added").after("ENTRIESADDED").since("7.0.0").optional(),
                string("max-deleted-id").after("MAXDELETEDID").since("7.0.0").optional(),
            ],
            history: &[("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments.")],
            ..STREAM
        },
    },
    Row {
        run: xtrim,
        spec: Spec {
            name: "xtrim",
            arity: AtLeast(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "5.0.0",
            complexity: "O(N) where N is the number of entries removed; most go by the node.",
            summary: "Removes entries from the beginning of a stream.",
            args: &[
                key("key"),
                block(
                    "trim",
                    &[
                        one_of("strategy", &[token("MAXLEN"), token("MINID").since("6.2.0")]),
                        one_of("operator", &[token("=").named("equal"), token("~").named("approximately")]).optional(),
                        string("threshold"),
                        integer("count").after("LIMIT").since("6.2.0").optional(),
                    ],
                ),
            ],
            history: &[("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option.")],
            tips: &["nondeterministic_output"],
            ..STREAM
        },
    },
];

/// Declared as read only, as Redis declares them, but a group's account of them is written.
fn keys_of_xreadgroup(words: &[&[u8]]) -> KeyRefs {
    let mut keys = keys_of_xread(words);
    keys.iter_mut().for_each(|key| key.flags = RW.and(ACCESS).and(UPDATE));
    keys
}
