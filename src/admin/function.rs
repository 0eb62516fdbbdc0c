//! FUNCTION: there are no libraries, and none can be loaded. Tools that prepare a server flush and list them all the
//! same.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::{subcommand_syntax, write_help};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SCRIPTING: Spec =
    Spec { group: Group::Scripting, categories: category::SCRIPTING, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: function as AdminFn,
    spec: Spec {
        name: "function",
        arity: AtLeast(2),
        categories: Categories::NONE,
        since: "7.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about function libraries.",
        subcommands: &[
            Spec {
                name: "function|flush",
                arity: AtLeast(2),
                flags: WRITE.and(NOSCRIPT),
                since: "7.0.0",
                complexity: "O(N) where N is the number of functions deleted.",
                summary: "Deletes all libraries.",
                args: &[one_of("flush-type", &[token("ASYNC"), token("SYNC")]).optional()],
                tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
                ..SCRIPTING
            },
            Spec {
                name: "function|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "7.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SCRIPTING
            },
            Spec {
                name: "function|list",
                arity: AtLeast(2),
                flags: NOSCRIPT,
                since: "7.0.0",
                complexity: "O(N) where N is the number of functions.",
                summary: "Describes the libraries.",
                args: &[string("library-name-pattern").after("LIBRARYNAME").optional(), token("WITHCODE").optional()],
                tips: &["nondeterministic_output_order"],
                ..SCRIPTING
            },
        ],
        ..SCRIPTING
    },
}];

const HELP: &[&str] = &[
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
];

fn function(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"flush" => {
            check_flush(args)?;
            reply.ok();
        }
        b"help" => write_help("FUNCTION", HELP, reply),
        b"list" => {
            check_list(args)?;
            reply.array(0);
        }
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(Outcome::Done)
}

fn check_flush(args: &Args) -> Result {
    match args.len() {
        2 => Ok(()),
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => Ok(()),
        3 => Err(Error::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
        _ => Err(subcommand_syntax(args)),
    }
}

fn check_list(args: &Args) -> Result {
    let mut options = args.from(2);
    while let [option, rest @ ..] = options {
        options = match option.to_ascii_lowercase().as_slice() {
            b"withcode" => rest,
            b"libraryname" if rest.is_empty() => {
                return Err(Error::Text("ERR library name argument was not given"));
            }
            b"libraryname" => &rest[1..],
            _ => return Err(Error::dynamic([b"ERR Unknown argument ", *option].concat())),
        };
    }
    Ok(())
}
