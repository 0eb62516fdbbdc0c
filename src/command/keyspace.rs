//! Commands on the whole keyspace: each shard answers for its part, and `engine/gather.rs` merges the answers.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::KeyRow;
use super::args::Args;
use super::ctx::ShardCtx;
use super::effect::Change;
use super::error::{Error, Result};
use super::generic::DB_OUT_OF_RANGE;
use super::scan::{Found, INVALID_CURSOR, Pattern, ScanOptions, Scanned, parse_cursor, reply_page};
use super::spec::*;
use crate::base::ids::ShardId;
use crate::base::limits::FLUSHED_AT_ONCE_MAX;
use crate::data::entry::EntryRef;
use crate::resp::reply::Reply;

/// What the rows of the two families have in common.
const GENERIC: Spec = Spec { group: Group::Generic, categories: category::KEYSPACE, ..Spec::DEFAULT };
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[KeyRow] = &[
    Row {
        run: dbsize,
        spec: Spec {
            name: "dbsize",
            arity: Exactly(1),
            flags: READONLY.and(FAST),
            categories: category::KEYSPACE,
            shape: EveryShard(SumInteger),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Counts the keys in the database.",
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            ..SERVER
        },
    },
    Row {
        run: flushall,
        spec: Spec {
            name: "flushall",
            arity: AtLeast(1),
            flags: WRITE,
            categories: category::KEYSPACE.and(category::DANGEROUS),
            shape: EveryShard(AllOk),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys.",
            summary: "Deletes all keys of all databases.",
            args: &[one_of("flush-type", &[token("ASYNC").since("4.0.0"), token("SYNC").since("6.2.0")]).optional()],
            history: &[
                ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
                ("6.2.0", "Added the `SYNC` flushing mode modifier."),
            ],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..SERVER
        },
    },
    Row {
        run: flushdb,
        spec: Spec {
            name: "flushdb",
            arity: AtLeast(1),
            flags: WRITE,
            categories: category::KEYSPACE.and(category::DANGEROUS),
            shape: EveryShard(AllOk),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys.",
            summary: "Deletes all keys of the database.",
            args: &[one_of("flush-type", &[token("ASYNC").since("4.0.0"), token("SYNC").since("6.2.0")]).optional()],
            history: &[
                ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
                ("6.2.0", "Added the `SYNC` flushing mode modifier."),
            ],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..SERVER
        },
    },
    Row {
        run: keys,
        spec: Spec {
            name: "keys",
            arity: Exactly(2),
            flags: READONLY,
            categories: category::KEYSPACE.and(category::DANGEROUS),
            shape: EveryShard(ArrayConcatenated),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys in the database.",
            summary: "Lists the names of all keys that match a pattern.",
            args: &[pattern("pattern")],
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            ..GENERIC
        },
    },
    Row {
        run: randomkey,
        spec: Spec {
            name: "randomkey",
            arity: Exactly(1),
            flags: READONLY,
            shape: EveryShard(OneByWeight),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the name of a random key.",
            tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
            ..GENERIC
        },
    },
    Row {
        run: scan,
        spec: Spec {
            name: "scan",
            arity: AtLeast(2),
            flags: READONLY,
            shape: ByCursor,
            since: "2.8.0",
            complexity: "O(1) a call, O(N) for the whole walk over N keys.",
            summary: "Walks over the names of keys, a few at a time.",
            args: &[
                integer("cursor"),
                pattern("pattern").after("MATCH").optional(),
                integer("count").after("COUNT").optional(),
                string("type").after("TYPE").since("6.0.0").optional(),
            ],
            history: &[("6.0.0", "Added the `TYPE` subcommand.")],
            tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
            ..GENERIC
        },
    },
    Row {
        run: swapdb,
        spec: Spec {
            name: "swapdb",
            arity: Exactly(3),
            flags: WRITE.and(FAST),
            categories: category::KEYSPACE.and(category::DANGEROUS),
            shape: EveryShard(AllOk),
            since: "4.0.0",
            complexity: "O(N) where N is the number of clients that watch or wait for keys in either.",
            summary: "Exchanges the contents of two databases.",
            args: &[integer("index1"), integer("index2")],
            ..SERVER
        },
    },
];

/// DBSIZE: with keys that have expired but were not met since, as in Redis.
fn dbsize(ctx: &mut ShardCtx, _args: &Args, reply: &mut Reply) -> Result {
    reply.integer(ctx.keyspace.db(ctx.db).len() as i64);
    Ok(())
}

/// FLUSHDB [ASYNC|SYNC]
fn flushdb(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    flush(ctx, args, ctx.db..ctx.db + 1, reply)
}

/// FLUSHALL [ASYNC|SYNC]
fn flushall(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    flush(ctx, args, 0..ctx.keyspace.databases(), reply)?;
    ctx.journal.flushed = true;
    Ok(())
}

fn flush(ctx: &mut ShardCtx, args: &Args, databases: Range<usize>, reply: &mut Reply) -> Result {
    let in_background = match args.from(1) {
        [] => ctx.config.lazyfree_lazy_user_flush,
        [_] if args.is(1, "ASYNC") => true,
        [_] if args.is(1, "SYNC") => false,
        _ => return Err(Error::Syntax),
    };
    if databases.len() == ctx.keyspace.databases() && !ctx.snapshot_outlives_flush {
        // As in Redis: a save that is under way would only bring back what nobody wants.
        ctx.keyspace.abort_snapshot();
    }
    for db in databases {
        let [table, noted] = ctx.keyspace.take(db);
        // Redis counts each key as a change, and the flush itself as none.
        ctx.journal.dirty += table.len() as u64;
        ctx.journal.changed(Change::Flushed { db });
        if in_background {
            ctx.lazyfree.push(table);
            ctx.lazyfree.push(noted);
        }
    }
    if in_background {
        ctx.lazyfree.slice(FLUSHED_AT_ONCE_MAX);
    }
    ctx.journal.whole(ctx.db, args.words());
    reply.ok();
    Ok(())
}

/// SWAPDB index1 index2
fn swapdb(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let index = |argument, error| {
        let index = args.integer(argument).ok().and_then(|index| i32::try_from(index).ok());
        index.ok_or(Error::Text(error)).map(usize::try_from)
    };
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    let (Ok(a), Ok(b)) = (a, b) else { return Err(DB_OUT_OF_RANGE) };
    if a.max(b) >= ctx.keyspace.databases() {
        return Err(DB_OUT_OF_RANGE);
    }
    ctx.keyspace.swap(a, b);
    ctx.journal.changed(Change::Swapped { a, b });
    ctx.journal.dirty += 1;
    ctx.journal.whole(ctx.db, args.words());
    reply.ok();
    Ok(())
}

/// KEYS pattern
fn keys(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let pattern = Pattern::new(args.get(1));
    let mut found = Vec::new();
    // A scan, not an iteration: it asks for entries ahead of their turn.
    ctx.keyspace.db(ctx.db).scan(0, usize::MAX, |entry| {
        if pattern.matches(entry.key()) && !ctx.is_expired(entry) {
            found.push(entry.key());
        }
    });
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// How often RANDOMKEY looks for a key that has not expired, where expired ones stay.
const PAUSED_DRAWS: u32 = 100;

/// RANDOMKEY: an expired key that is drawn is removed, so the search ends. While clients are paused it is not, and of
/// keys that may all have expired some expired one is the answer.
fn randomkey(ctx: &mut ShardCtx, _args: &Args, reply: &mut Reply) -> Result {
    for draw in 1.. {
        let Some(entry) = ctx.keyspace.db(ctx.db).random(|| ctx.rng.next_u64()) else {
            reply.null();
            return Ok(());
        };
        let db = ctx.keyspace.db(ctx.db);
        let is_last_draw = ctx.expiry_paused && draw == PAUSED_DRAWS && db.expires_len() == db.len();
        if !ctx.is_expired(entry) || is_last_draw {
            reply.bulk(entry.key());
            return Ok(());
        }
        let key = entry.key().to_vec();
        ctx.delete(&key);
    }
    Ok(())
}

/// Bits of the table's own cursor; above them, ten for the shard.
const TABLE_CURSOR_BITS: u32 = 42;
const SHARD_MASK: u64 = (1 << 10) - 1;

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
///
/// The walk goes through the shards one after the other. A cursor that none of them gave out is at its end. What has
/// expired among the keys asked for is removed on the way, as in Redis.
fn scan(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let cursor = parse_cursor(args.get(1)).ok_or(INVALID_CURSOR)?;
    let options = ScanOptions::parse(args, 2, Scanned::Keyspace)?;
    let admits = |entry: EntryRef<'_>| {
        options.type_name.is_none_or(|name| entry.kind().type_name() == name) && options.pattern.matches(entry.key())
    };
    let (mut found, mut expired) = (Found::default(), Vec::new());
    let mut next = 0;
    if shard_of(cursor) == ctx.shard {
        let table_cursor = cursor & ((1 << TABLE_CURSOR_BITS) - 1);
        next = ctx.keyspace.db(ctx.db).scan(table_cursor, options.count, |entry| {
            if admits(entry) && ctx.is_expired(entry) {
                expired.push(entry.key().to_vec());
            } else if admits(entry) {
                found.push(entry.key());
            }
        });
        for key in expired {
            // Whoever looks an expired key up removes it.
            assert!(ctx.peek(&key).is_none(), "it has expired");
        }
        let shard = if next == 0 { ctx.shard + 1 } else { ctx.shard };
        next = if shard == ctx.slots.shards() { 0 } else { (shard as u64) << TABLE_CURSOR_BITS | next };
    }
    reply_page(reply, next, &found);
    Ok(())
}

/// Which shard continues a walk; `None` if this is no cursor.
pub fn cursor_shard(cursor: &[u8]) -> Option<ShardId> {
    parse_cursor(cursor).map(shard_of)
}

fn shard_of(cursor: u64) -> ShardId {
    (cursor >> TABLE_CURSOR_BITS & SHARD_MASK) as ShardId
}
