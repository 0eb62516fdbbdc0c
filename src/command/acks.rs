//! WAIT and WAITAOF: waiting until writes have arrived elsewhere. There is no replica to arrive at, so what is asked for
//! beyond nothing is waited for in vain; who waits for the append-only file is answered by the core, which knows how much
//! of it is on disk.

use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use super::spec::*;
use super::wait::timeout_milliseconds;
use super::{KeyFn, KeyRow};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const GENERIC: Spec = Spec {
    group: Group::Generic,
    categories: category::CONNECTION,
    flags: BLOCKING,
    shape: Here,
    waits: Some(always),
    complexity: "O(1)",
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    ..Spec::DEFAULT
};

pub const ROWS: &[KeyRow] = &[
    Row {
        run: wait as KeyFn,
        spec: Spec {
            name: "wait",
            arity: Exactly(3),
            since: "3.0.0",
            summary: "Waits until so many replicas have this connection's writes.",
            args: &[integer("numreplicas"), integer("timeout")],
            ..GENERIC
        },
    },
    Row {
        run: waitaof,
        spec: Spec {
            name: "waitaof",
            arity: Exactly(4),
            since: "7.2.0",
            summary: "Waits until this connection's writes are in the append-only files of this server and of so many replicas.",
            args: &[integer("numlocal"), integer("numreplicas"), integer("timeout")],
            ..GENERIC
        },
    },
];

/// Nobody acknowledges anything.
fn never(_ctx: &mut ShardCtx, _words: &[&[u8]], _key: &[u8]) -> bool {
    false
}

/// WAIT numreplicas timeout
fn wait(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let replicas = args.integer(1)?;
    let timeout_ms = timeout_milliseconds(args.get(2), ctx.now_ms())?;
    reply.integer(0);
    if replicas > 0 {
        ctx.wait(timeout_ms, never);
    }
    Ok(())
}

/// WAITAOF numlocal numreplicas timeout
fn waitaof(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let local = args.integer(1)?;
    if !(0..=1).contains(&local) {
        return Err(Error::Text("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = args.elements(2)?;
    let timeout_ms = timeout_milliseconds(args.get(3), ctx.now_ms())?;
    if local > 0 && !ctx.config.appendonly {
        return Err(Error::Text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    reply.array(2);
    reply.integer(0);
    reply.integer(0);
    if local > 0 || replicas > 0 {
        ctx.wait(timeout_ms, never);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn rows_are_consistent() {
        ROWS.iter().for_each(|row| assert_consistent(&row.spec));
    }

    #[test]
    fn nothing_has_arrived_anywhere() {
        check(&[ROWS], "WAIT 0 100 | WAIT -1 0 | WAIT 2 100", ":0 | :0 | :0");
        check(&[ROWS], "WAITAOF 0 0 0 | WAITAOF 0 2 100", "[:0 :0] | [:0 :0]");
        check(&[ROWS], "WAIT x 1 | WAIT 1 -1", "ERR value is not an integer or out of range | ERR timeout is negative");
        check(&[ROWS], "WAITAOF 2 0 0", "ERR value is out of range, value must between 0 and 1");
        check(&[ROWS], "WAITAOF 0 -1 0", "ERR value is out of range, must be positive");
        check(&[ROWS], "WAITAOF 1 0 0", "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    }
}
