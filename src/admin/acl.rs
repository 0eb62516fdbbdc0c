//! ACL, as far as there is one: the user `default`, who may do everything and whose password is `requirepass`.

use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::command::by_words;
use super::connection::DEFAULT_USER;
use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::{subcommand_syntax, write_help};
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
                name: "acl|dryrun",
                arity: AtLeast(4),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "7.0.0",
                complexity: "O(1)",
                summary: "Tells whether a user could run a command, without running it.",
                args: &[string("username"), string("command"), string("arg").optional().multiple()],
                ..SERVER
            },
            Spec {
                name: "acl|genpass",
                arity: AtLeast(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Returns a random password.",
                args: &[integer("bits").optional()],
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
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
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
        b"dryrun" => dryrun(ctx, args, reply)?,
        b"genpass" => genpass(args, reply)?,
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
        _ => return Err(subcommand_syntax(args)),
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

/// The only user may run every command that there is.
fn dryrun(ctx: &AdminCtx, args: &Args, reply: &mut Reply) -> Result {
    let named =
        |kind: &str, name: &[u8]| Error::dynamic([b"ERR ", kind.as_bytes(), b" '", name, b"' not found"].concat());
    if args.get(2) != DEFAULT_USER {
        return Err(named("User", args.get(2)));
    }
    let words = args.from(3);
    let spec = by_words(ctx.specs, words).ok_or_else(|| named("Command", words[0]))?;
    if !spec.arity.allows(words.len()) {
        return Err(Error::arity(spec.name));
    }
    reply.ok();
    Ok(())
}

/// A password from the system's source of randomness, four bits a digit.
fn genpass(args: &Args, reply: &mut Reply) -> Result {
    let bits = match args.len() {
        2 => 256,
        3 => args.integer(2)?,
        _ => return Err(subcommand_syntax(args)),
    };
    let digits = match bits {
        1..=4096 => (bits as usize).div_ceil(4),
        _ => {
            return Err(Error::Text(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
                 4096",
            ));
        }
    };
    let mut random = vec![0; digits.div_ceil(2)];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| Error::dynamic(format!("ERR read /dev/urandom: {error}")))?;
    reply.bulk(&hexadecimal(&random).as_bytes()[..digits]);
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    (!password.is_empty()).then(|| hexadecimal(&Sha256::digest(password)))
}
