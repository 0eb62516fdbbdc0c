//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH. Here is what they do to the session; the core takes a transaction to
//! its shards.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::{Arity::AtLeast, *};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const TRANSACTIONS: Spec = Spec {
    group: Group::Transactions,
    categories: category::TRANSACTION,
    flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(ALLOW_BUSY),
    arity: Exactly(1),
    ..Spec::DEFAULT
};

pub const ROWS: &[AdminRow] = &[
    Row {
        run: multi as AdminFn,
        spec: Spec {
            name: "multi",
            flags: TRANSACTIONS.flags.and(NO_MULTI),
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Begins a transaction: commands are queued from now on.",
            ..TRANSACTIONS
        },
    },
    Row {
        run: exec,
        spec: Spec {
            name: "exec",
            flags: NOSCRIPT.and(LOADING).and(STALE).and(SKIP_SLOWLOG),
            since: "1.2.0",
            complexity: "That of the queued commands.",
            summary: "Runs the queued commands as one.",
            ..TRANSACTIONS
        },
    },
    Row {
        run: discard,
        spec: Spec {
            name: "discard",
            since: "2.0.0",
            complexity: "O(N), when N is the number of queued commands.",
            summary: "Ends a transaction without running it.",
            ..TRANSACTIONS
        },
    },
    Row {
        run: watch,
        spec: Spec {
            name: "watch",
            arity: AtLeast(2),
            flags: TRANSACTIONS.flags.and(NO_MULTI),
            keys: &[keys_from(1, RO)],
            since: "2.2.0",
            complexity: "O(1) for every key.",
            summary: "Makes the next transaction depend on keys staying as they are.",
            args: &[key("key").multiple()],
            ..TRANSACTIONS
        },
    },
    Row {
        run: unwatch,
        spec: Spec {
            name: "unwatch",
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Forgets the watched keys.",
            ..TRANSACTIONS
        },
    },
];

fn multi(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    ctx.session().begin_transaction();
    reply.ok();
    Ok(Outcome::Done)
}

fn exec(ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    match ctx.session().queue() {
        None => Err(Error::Text("ERR EXEC without MULTI")),
        Some(_) => Ok(Outcome::Exec),
    }
}

fn discard(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    if ctx.session().queue().is_none() {
        return Err(Error::Text("ERR DISCARD without MULTI"));
    }
    reply.ok();
    Ok(Outcome::EndTransaction)
}

fn watch(_ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Ok(Outcome::Watch)
}

/// UNWATCH: inside MULTI it has no effect, as EXEC forgets the keys anyway.
fn unwatch(_ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    reply.ok();
    Ok(Outcome::Unwatch)
}
