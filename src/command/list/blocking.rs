//! List commands that wait for an element: BLMOVE, BLMPOP, BLPOP, BRPOP, BRPOPLPUSH.

use super::{KeysEndCount, LIST, end_of, move_element, pop_one, pop_some_of_first};
use crate::command::KeyFn;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::Result;
use crate::command::spec::*;
use crate::command::wait::timeout_seconds;
use crate::data::list::{End, List};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const BLOCKING_LIST: Spec = Spec { waits: Some(always), ..LIST };

const WHEREFROM: Arg = one_of("wherefrom", &[token("LEFT"), token("RIGHT")]);
const WHERETO: Arg = one_of("whereto", &[token("LEFT"), token("RIGHT")]);
const DOUBLE_TIMEOUT: (&str, &str) = ("6.0.0", "`timeout` is interpreted as a double instead of an integer.");

/// BLPOP and BRPOP.
const POP: Spec = Spec {
    arity: AtLeast(3),
    flags: WRITE.and(BLOCKING),
    keys: &[keys_from(1, RW.and(ACCESS).and(DELETE)).through(-2)],
    shape: FirstOf,
    since: "2.0.0",
    complexity: "O(N) where N is the number of keys.",
    args: &[key("key").multiple(), double("timeout")],
    history: &[DOUBLE_TIMEOUT],
    ..BLOCKING_LIST
};

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: blmove,
        spec: Spec {
            name: "blmove",
            arity: Exactly(6),
            flags: WRITE.and(DENYOOM).and(BLOCKING),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, RW.and(INSERT))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Moves an element from an end of one list to an end of another, and returns it; waits for one.",
            args: &[key("source"), key("destination").key_spec(1), WHEREFROM, WHERETO, double("timeout")],
            ..BLOCKING_LIST
        },
    },
    Row {
        run: blmpop,
        spec: Spec {
            name: "blmpop",
            arity: AtLeast(5),
            flags: WRITE.and(BLOCKING),
            keys: &[keys_counted_at(2, RW.and(ACCESS).and(DELETE))],
            shape: FirstOf,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of keys and M is the number of elements returned.",
            summary: "Removes elements from an end of the first list that has any, and returns them; waits for them.",
            args: &[
                double("timeout"),
                integer("numkeys"),
                key("key").multiple(),
                one_of("where", &[token("LEFT"), token("RIGHT")]),
                integer("count").after("COUNT").optional(),
            ],
            ..BLOCKING_LIST
        },
    },
    Row {
        run: blpop,
        spec: Spec {
            name: "blpop",
            summary: "Removes the first element of the first list that has any, and returns it; waits for one.",
            ..POP
        },
    },
    Row {
        run: brpop,
        spec: Spec {
            name: "brpop",
            summary: "Removes the last element of the first list that has any, and returns it; waits for one.",
            ..POP
        },
    },
    Row {
        run: brpoplpush,
        spec: Spec {
            name: "brpoplpush",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM).and(BLOCKING),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, RW.and(INSERT))],
            shape: Gather,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Moves the last element of one list to the head of another, and returns it; waits for one.",
            args: &[key("source"), key("destination").key_spec(1), double("timeout")],
            history: &[DOUBLE_TIMEOUT],
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
            }),
            ..BLOCKING_LIST
        },
    },
];

/// Something can be popped from the key.
fn has_list(ctx: &mut ShardCtx, _words: &[&[u8]], key: &[u8]) -> bool {
    ctx.holds::<List>(key)
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout
fn blmove(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = (end_of(args.get(3))?, end_of(args.get(4))?);
    move_or_wait(ctx, args, from, to, args.get(5), reply)
}

/// BRPOPLPUSH source destination timeout
fn brpoplpush(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    move_or_wait(ctx, args, End::Tail, End::Head, args.get(3), reply)
}

fn move_or_wait(ctx: &mut ShardCtx, args: &Args, from: End, to: End, timeout: &[u8], reply: &mut Reply) -> Result {
    let timeout_ms = timeout_seconds(timeout, ctx.now_ms())?;
    if !move_element(ctx, (args.get(1), from), (args.get(2), to), reply)? {
        reply.null();
        ctx.wait(timeout_ms, has_list);
    }
    Ok(())
}

/// BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]
fn blmpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let timeout_ms = timeout_seconds(args.get(1), ctx.now_ms())?;
    let several = KeysEndCount::parse(args.from(2))?;
    if !pop_some_of_first(ctx, several.keys, several.end, several.count, reply)? {
        reply.null_array();
        ctx.wait(timeout_ms, has_list);
    }
    Ok(())
}

/// BLPOP key [key ...] timeout
fn blpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop_or_wait(ctx, args, End::Head, reply)
}

/// BRPOP key [key ...] timeout
fn brpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop_or_wait(ctx, args, End::Tail, reply)
}

fn pop_or_wait(ctx: &mut ShardCtx, args: &Args, end: End, reply: &mut Reply) -> Result {
    let last = args.len() - 1;
    let timeout_ms = timeout_seconds(args.get(last), ctx.now_ms())?;
    let position = reply.position();
    for key in &args.words()[1..last] {
        reply.array(2);
        reply.bulk(key);
        if pop_one(ctx, key, end, reply)? {
            return Ok(());
        }
        reply.truncate(position);
    }
    reply.null_array();
    ctx.wait(timeout_ms, has_list);
    Ok(())
}
