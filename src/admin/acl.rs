//! ACL, as far as there is one: the user `default`, who may do everything and whose password is `requirepass`.

use sha2::{Digest, Sha256};

use super::connection::DEFAULT_USER;
use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::write_help;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: acl as AdminFn,
    spec: Spec {
        name: "acl",
        arity: AtLeast(2),
        since: "6.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about users and what they may do.",
        subcommands: &[
            Spec {
                name: "acl|cat",
                arity: AtLeast(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Lists the categories, or the commands of one.",
                args: &[string("category").optional()],
                ..SERVER
            },
            Spec {
                name: "acl|deluser",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1) amortized, for a typical user.",
                summary: "Deletes users and closes their connections.",
                args: &[string("username").multiple()],
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "acl|getuser",
                arity: Exactly(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of rules.",
                summary: "Returns the rules of a user.",
                args: &[string("username")],
                history: &[
                    ("6.2.0", "Added Pub/Sub channel patterns."),
                    (
                        "7.0.0",
                        "Added selectors and changed the format of key and channel patterns \
                             from a list to their rule representation.",
                    ),
                ],
                ..SERVER
            },
            Spec {
                name: "acl|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "acl|list",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of users.",
                summary: "Lists the users as lines of an ACL file.",
                ..SERVER
            },
            Spec {
                name: "acl|load",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of users.",
                summary: "Replaces the users by those in the ACL file.",
                ..SERVER
            },
            Spec {
                name: "acl|save",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of users.",
                summary: "Writes the users to the ACL file.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "acl|setuser",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of rules given.",
                summary: "Creates a user, or changes its rules.",
                args: &[string("username"), string("rule").optional().multiple()],
                history: &[
                    ("6.2.0", "Added Pub/Sub channel patterns."),
                    ("7.0.0", "Added selectors and key based permissions."),
                ],
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "acl|users",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(N) where N is the number of users.",
                summary: "Lists the names of the users.",
                ..SERVER
            },
            Spec {
                name: "acl|whoami",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Returns the user this connection is logged in as.",
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

const NO_ACL_FILE: Error = Error::Text(
    "ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command \
     and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users in the \
     configuration.",
);

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "GETUSER <username>",
    "    Get the user's details.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];

fn acl(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"cat" => cat(ctx, args, reply)?,
        b"deluser" => deluser(args, reply)?,
        b"getuser" if args.get(2) == DEFAULT_USER => getuser(ctx, reply),
        b"getuser" => reply.null(),
        b"help" => write_help("ACL", HELP, reply),
        b"list" => list(ctx, reply),
        b"load" | b"save" => return Err(NO_ACL_FILE),
        b"setuser" => return Err(Error::Text("ERR This version of the server has no user but 'default'")),
        b"users" => {
            reply.array(1);
            reply.bulk(DEFAULT_USER);
        }
        b"whoami" => reply.bulk(DEFAULT_USER),
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(Outcome::Done)
}

fn cat(ctx: &AdminCtx, args: &Args, reply: &mut Reply) -> Result {
    let name = match args.from(2) {
        [] => {
            reply.array(Categories::NAMES.len());
            Categories::NAMES.iter().for_each(|name| reply.bulk(name.as_bytes()));
            return Ok(());
        }
        [name] => name,
        _ => return Err(Error::arity("acl|cat")),
    };
    let Some(category) = Categories::by_name(name) else {
        return Err(Error::dynamic(format!("ERR Unknown category '{}'", String::from_utf8_lossy(name))));
    };
    let all = ctx.specs.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    let members: Vec<&Spec> = all.filter(|spec| spec.all_categories().has(category)).collect();
    reply.array(members.len());
    members.iter().for_each(|spec| reply.bulk(spec.name.as_bytes()));
    Ok(())
}

fn deluser(args: &Args, reply: &mut Reply) -> Result {
    if args.from(2).contains(&DEFAULT_USER) {
        return Err(Error::Text("ERR The 'default' user cannot be removed"));
    }
    reply.integer(0);
    Ok(())
}

fn getuser(ctx: &AdminCtx, reply: &mut Reply) {
    let hash = password_hash(ctx);
    let flags: &[&str] =
        if hash.is_some() { &["on", "sanitize-payload"] } else { &["on", "nopass", "sanitize-payload"] };
    reply.map(6);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(hash.iter().len());
    hash.iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    for (field, rules) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        reply.bulk(field.as_bytes());
        reply.bulk(rules.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.array(0);
}

fn list(ctx: &AdminCtx, reply: &mut Reply) {
    let rules = match password_hash(ctx) {
        Some(hash) => format!("user default on sanitize-payload #{hash} ~* &* +@all"),
        None => "user default on nopass sanitize-payload ~* &* +@all".to_string(),
    };
    reply.array(1);
    reply.bulk(rules.as_bytes());
}

/// SHA-256 of `requirepass` in hexadecimal; none if no password is needed.
fn password_hash(ctx: &AdminCtx) -> Option<String> {
    let password = &ctx.shard.ctx.config.requirepass;
    let hash = |password| Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect();
    (!password.is_empty()).then(|| hash(password))
}
