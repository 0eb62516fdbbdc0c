//! MODULE: there are none, and none can be loaded.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::write_help;
use crate::command::args::Args;
use crate::command::error::Result;
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: module as AdminFn,
    spec: Spec {
        name: "module",
        arity: AtLeast(2),
        since: "4.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about modules.",
        subcommands: &[
            Spec {
                name: "module|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "module|list",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT),
                since: "4.0.0",
                complexity: "O(N) where N is the number of modules.",
                summary: "Lists the modules that are loaded.",
                tips: &["nondeterministic_output_order"],
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

const HELP: &[&str] = &["LIST", "    Return a list of loaded modules."];

fn module(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    if args.is(1, "HELP") {
        write_help("MODULE", HELP, reply);
    } else {
        reply.array(0);
    }
    Ok(Outcome::Done)
}
