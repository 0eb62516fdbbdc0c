//! Replication, as a server answers that is a primary, has no replica and takes none.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use crate::base::number;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[
    Row {
        run: refuse as AdminFn,
        spec: Spec {
            name: "psync",
            arity: AtLeast(3),
            flags: ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI),
            since: "2.8.0",
            summary: "Asks for the replication stream; replicas use it.",
            args: &[string("replicationid"), integer("offset")],
            ..SERVER
        },
    },
    Row {
        run: refuse,
        spec: Spec {
            name: "replconf",
            arity: AtLeast(1),
            flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(ALLOW_BUSY),
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Tells a primary about its replica; replicas use it.",
            system: true,
            ..SERVER
        },
    },
    Row {
        run: replicaof,
        spec: Spec {
            name: "replicaof",
            arity: Exactly(3),
            flags: ADMIN.and(NOSCRIPT).and(STALE).and(NO_ASYNC_LOADING),
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Makes this server a replica of another, or a primary again.",
            args: &[one_of(
                "args",
                &[
                    block("host-port", &[string("host"), integer("port")]),
                    block("no-one", &[token("NO"), token("ONE")]),
                ],
            )],
            ..SERVER
        },
    },
    Row {
        run: role,
        spec: Spec {
            name: "role",
            arity: Exactly(1),
            flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST),
            categories: category::ADMIN.and(category::DANGEROUS),
            since: "2.8.12",
            complexity: "O(1)",
            summary: "Returns the role of this server in replication.",
            ..SERVER
        },
    },
    Row {
        run: replicaof,
        spec: Spec {
            name: "slaveof",
            arity: Exactly(3),
            flags: ADMIN.and(NOSCRIPT).and(STALE).and(NO_ASYNC_LOADING),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Makes this server a replica of another, or a primary again.",
            args: &[one_of(
                "args",
                &[
                    block("host-port", &[string("host"), integer("port")]),
                    block("no-one", &[token("NO"), token("ONE")]),
                ],
            )],
            deprecated: Some(Deprecated { since: "5.0.0", replaced_by: "`REPLICAOF`" }),
            ..SERVER
        },
    },
    Row {
        run: refuse,
        spec: Spec {
            name: "sync",
            arity: Exactly(1),
            flags: ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI),
            since: "1.0.0",
            summary: "Asks for a full copy and the replication stream; old replicas use it.",
            ..SERVER
        },
    },
];

const NO_REPLICATION: Error = Error::Text("ERR This version of the server does not replicate");

fn refuse(_ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Err(NO_REPLICATION)
}

/// NO ONE asks for what is the case already.
fn replicaof(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    if args.is(1, "NO") && args.is(2, "ONE") {
        reply.ok();
        return Ok(Outcome::Done);
    }
    match number::parse_i64(args.get(2)) {
        Some(0..=65535) => Err(NO_REPLICATION),
        _ => Err(Error::Text("ERR Invalid master port")),
    }
}

fn role(_ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    reply.array(3);
    reply.bulk(b"master");
    // The replication offset: no stream has begun.
    reply.integer(0);
    reply.array(0);
    Ok(Outcome::Done)
}
