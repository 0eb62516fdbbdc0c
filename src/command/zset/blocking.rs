//! Sorted set commands that wait for a member: BZMPOP, BZPOPMAX, BZPOPMIN.

use super::ZSET;
use super::pop::{End, pop_one_of_first, pop_some_of_first};
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::Result;
use crate::command::spec::*;
use crate::command::wait::timeout_seconds;
use crate::data::zset::Zset;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const BLOCKING_ZSET: Spec = Spec { waits: Some(always), shape: FirstOf, ..ZSET };

/// BZPOPMIN and BZPOPMAX.
const POP: Spec = Spec {
    arity: AtLeast(3),
    flags: WRITE.and(FAST).and(BLOCKING),
    keys: &[keys_from(1, RW.and(ACCESS).and(DELETE)).through(-2)],
    since: "5.0.0",
    complexity: "O(log(N)) where N is the size of the sorted set.",
    args: &[key("key").multiple(), double("timeout")],
    history: &[("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
    ..BLOCKING_ZSET
};

pub const ROWS: &[KeyRow] = &[
    Row {
        run: bzmpop,
        spec: Spec {
            name: "bzmpop",
            arity: AtLeast(5),
            flags: WRITE.and(BLOCKING),
            keys: &[keys_counted_at(2, RW.and(ACCESS).and(DELETE))],
            since: "7.0.0",
            complexity: "O(K + M*log(N)) where K is the number of keys, M of members popped and N the size of the sorted set.",
            summary: "Removes and returns the lowest or highest members of the first sorted set that has any; waits for them.",
            args: &[
                double("timeout"),
                integer("numkeys"),
                key("key").multiple(),
                one_of("where", &[token("MIN"), token("MAX")]),
                integer("count").after("COUNT").optional(),
            ],
            ..BLOCKING_ZSET
        },
    },
    Row {
        run: bzpopmax,
        spec: Spec {
            name: "bzpopmax",
            summary: "Removes and returns the highest member of the first sorted set that has any; waits for one.",
            ..POP
        },
    },
    Row {
        run: bzpopmin,
        spec: Spec {
            name: "bzpopmin",
            summary: "Removes and returns the lowest member of the first sorted set that has any; waits for one.",
            ..POP
        },
    },
];

/// Something can be popped from the key.
fn has_zset(ctx: &mut ShardCtx, _words: &[&[u8]], key: &[u8]) -> bool {
    ctx.holds::<Zset>(key)
}

/// BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]
fn bzmpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let timeout_ms = timeout_seconds(args.get(1), ctx.now_ms())?;
    if !pop_some_of_first(ctx, args.from(2), reply)? {
        reply.null_array();
        ctx.wait(timeout_ms, has_zset);
    }
    Ok(())
}

/// BZPOPMAX key [key ...] timeout
fn bzpopmax(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop_or_wait(ctx, args, End::Highest, reply)
}

/// BZPOPMIN key [key ...] timeout
fn bzpopmin(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop_or_wait(ctx, args, End::Lowest, reply)
}

fn pop_or_wait(ctx: &mut ShardCtx, args: &Args, end: End, reply: &mut Reply) -> Result {
    let last = args.len() - 1;
    let timeout_ms = timeout_seconds(args.get(last), ctx.now_ms())?;
    if !pop_one_of_first(ctx, &args.words()[1..last], end, reply)? {
        reply.null_array();
        ctx.wait(timeout_ms, has_zset);
    }
    Ok(())
}
