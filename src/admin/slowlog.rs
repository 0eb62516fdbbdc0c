//! SLOWLOG: commands that took long, of the clients of all shards.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::write_help;
use crate::base::number::parse_i64;
use crate::base::slowlog::SlowEntry;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::config::Directive;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: slowlog as AdminFn,
    spec: Spec {
        name: "slowlog",
        arity: AtLeast(2),
        since: "2.2.12",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about the log of slow commands.",
        subcommands: &[
            Spec {
                name: "slowlog|get",
                arity: AtLeast(2),
                flags: ADMIN.and(LOADING).and(STALE),
                since: "2.2.12",
                complexity: "O(N) where N is the number of entries returned.",
                summary: "Returns the latest entries of the slow log.",
                args: &[integer("count").optional()],
                history: &[("4.0.0", "Added client IP address, port and name to the reply.")],
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                ..SERVER
            },
            Spec {
                name: "slowlog|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "slowlog|len",
                arity: Exactly(2),
                flags: ADMIN.and(LOADING).and(STALE),
                since: "2.2.12",
                complexity: "O(1)",
                summary: "Counts the entries of the slow log.",
                tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
                ..SERVER
            },
            Spec {
                name: "slowlog|reset",
                arity: Exactly(2),
                flags: ADMIN.and(LOADING).and(STALE),
                since: "2.2.12",
                complexity: "O(N) where N is the number of entries.",
                summary: "Clears the slow log.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

/// What SLOWLOG GET shows unless it is told otherwise.
const SHOWN: usize = 10;

fn slowlog(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"get" => {
            count_wanted(args.words())?;
            Ok(Everywhere::outcome(entries, args, get))
        }
        b"len" => Ok(Everywhere::outcome(entries, args, |ctx, _, parts, reply| {
            reply.integer(merge(ctx, parts).len() as i64);
            Ok(())
        })),
        b"reset" => Ok(Everywhere::outcome(reset, args, |_, _, _, reply| {
            reply.ok();
            Ok(())
        })),
        _ => {
            write_help("SLOWLOG", HELP, reply);
            Ok(Outcome::Done)
        }
    }
}

/// The count of SLOWLOG GET [count]; -1 is all.
fn count_wanted(words: &[impl AsRef<[u8]>]) -> Result<usize> {
    match words {
        [_, _] => Ok(SHOWN),
        [_, _, count] => match parse_i64(count.as_ref()) {
            Some(-1) => Ok(usize::MAX),
            Some(count) => {
                usize::try_from(count).map_err(|_| Error::Text("ERR count should be greater than or equal to -1"))
            }
            None => Err(Error::NotAnInteger),
        },
        _ => Err(Error::arity("slowlog|get")),
    }
}

fn entries(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    Box::new(ctx.shard.slowlog.iter().cloned().collect::<Vec<SlowEntry>>())
}

fn reset(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    ctx.shard.slowlog.clear();
    Box::new(())
}

/// The entries of all shards, the newest first, no more than the log may have.
fn merge(ctx: &AdminCtx, parts: Vec<Part>) -> Vec<SlowEntry> {
    let mut entries: Vec<SlowEntry> = downcast::<Vec<SlowEntry>>(parts).flatten().collect();
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
    entries.truncate(ctx.shard.ctx.config.slowlog_max_len as usize);
    entries
}

fn get(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut entries = merge(ctx, parts);
    entries.truncate(count_wanted(words)?);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_s);
        reply.integer(entry.command.microseconds as i64);
        reply.array(entry.command.words.len());
        entry.command.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.client_address.as_bytes());
        reply.bulk(&entry.client_name);
    }
    Ok(())
}

/// A command without the secrets that nobody should find in the log.
pub fn redacted<'a>(spec: &Spec, words: &[&'a [u8]]) -> Vec<&'a [u8]> {
    const REDACTED: &[u8] = b"(redacted)";
    let mut shown = words.to_vec();
    match spec.name {
        "auth" => shown[1..].fill(REDACTED),
        "hello" => {
            let auth = words.iter().position(|word| word.eq_ignore_ascii_case(b"auth")).unwrap_or(words.len());
            shown.iter_mut().skip(auth + 1).take(2).for_each(|word| *word = REDACTED);
        }
        "config|set" => {
            for pair in shown[2..].chunks_exact_mut(2) {
                if Directive::find(pair[0]).is_some_and(Directive::is_secret) {
                    pair[1] = REDACTED;
                }
            }
        }
        _ => {}
    }
    shown
}

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_get_into_the_log() {
        let check = |name: &'static str, line: &str, expected: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let shown = redacted(&Spec { name, ..Spec::DEFAULT }, &words);
            assert_eq!(String::from_utf8_lossy(&shown.join(&b' ')), expected);
        };
        check("auth", "auth u p", "auth (redacted) (redacted)");
        check("hello", "hello 3 AUTH u p setname x", "hello 3 AUTH (redacted) (redacted) setname x");
        check("config|set", "config set hz 5 requirepass p", "config set hz 5 requirepass (redacted)");
        check("ping", "ping auth", "ping auth");
    }
}
