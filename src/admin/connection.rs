//! Commands about the client's own connection.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::{Arity::AtLeast, *};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const CONNECTION: Spec =
    Spec { group: Group::Connection, categories: category::CONNECTION, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: ping as AdminFn,
    spec: Spec {
        name: "ping",
        arity: AtLeast(1),
        flags: FAST,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Answers PONG, or the message.",
        args: &[string("message").optional()],
        ..CONNECTION
    },
}];

fn ping(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.get(1)),
        _ => return Err(Error::arity("ping")),
    }
    Ok(Outcome::Done)
}
