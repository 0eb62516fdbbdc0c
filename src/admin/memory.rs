//! MEMORY: where it goes, of one key or of all.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::info::{self, MemoryFigures, Totals};
use super::write_help;
use crate::base::number::{format_double, parse_i64};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::generic::memory_usage;
use crate::command::spec::*;
use crate::resp::reply::Reply;
use crate::sys::memory as system;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: memory as AdminFn,
    spec: Spec {
        name: "memory",
        arity: AtLeast(2),
        since: "4.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about memory.",
        subcommands: &[
            Spec {
                name: "memory|doctor",
                arity: Exactly(2),
                since: "4.0.0",
                complexity: "O(1)",
                summary: "Describes problems with memory, in plain words.",
                tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "memory|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "4.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "memory|malloc-stats",
                arity: Exactly(2),
                since: "4.0.0",
                complexity: "Depends on how much memory is in use; may be slow.",
                summary: "Returns the allocator's own report.",
                tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "memory|purge",
                arity: Exactly(2),
                since: "4.0.0",
                complexity: "Depends on how much memory is in use; may be slow.",
                summary: "Asks the allocator to give free memory back.",
                tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "memory|stats",
                arity: Exactly(2),
                since: "4.0.0",
                complexity: "O(1)",
                summary: "Returns where memory goes, in figures.",
                tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "memory|usage",
                arity: AtLeast(3),
                flags: READONLY,
                keys: &[key_at(2, RO)],
                shape: OneShard,
                since: "4.0.0",
                complexity: "O(N) where N is the number of elements sampled.",
                summary: "Estimates the memory of a key and its value.",
                args: &[key("key"), integer("count").after("SAMPLES").optional()],
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

fn memory(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"usage" => return usage(ctx, args),
        b"stats" => return Ok(Everywhere::outcome(info::figures, args, stats)),
        b"doctor" => return Ok(Everywhere::outcome(info::figures, args, doctor)),
        b"purge" => {
            return Ok(Everywhere::outcome(purge, args, |_, _, _, reply| {
                reply.ok();
                Ok(())
            }));
        }
        b"malloc-stats" => reply.verbatim(b"txt", system::allocator_report().as_bytes()),
        _ => write_help("MEMORY", HELP, reply),
    }
    Ok(Outcome::Done)
}

/// Elements whose average stands for all of a large collection, as in Redis.
const SAMPLES_DEFAULT: i64 = 5;

/// MEMORY USAGE key [SAMPLES count]
fn usage(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    let samples = match args.from(3) {
        [] => SAMPLES_DEFAULT,
        [samples, count] if samples.eq_ignore_ascii_case(b"SAMPLES") => match parse_i64(count) {
            None => return Err(Error::NotAnInteger),
            Some(count) if count < 0 => return Err(Error::Syntax),
            Some(count) => count,
        },
        _ => return Err(Error::Syntax),
    };
    // The shard that has the key need not be the client's.
    let numbers = [ctx.session().db as i64, samples];
    let numbers = numbers.map(|number| number.to_string().into_bytes());
    let words = std::iter::once(args.get(2).to_vec()).chain(numbers).collect();
    Ok(Outcome::Everywhere(Everywhere { part: usage_here, words, merge: write_usage }))
}

fn usage_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    if ctx.slots.shard_of(&words[0]) != ctx.id {
        return Box::new(None::<usize>);
    }
    let number = |index: usize| parse_i64(&words[index]).expect("written by `usage`") as usize;
    ctx.shard.ctx.db = number(1);
    Box::new(memory_usage(&mut ctx.shard.ctx, &words[0], number(2)))
}

fn write_usage(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    match downcast::<Option<usize>>(parts).flatten().next() {
        Some(bytes) => reply.integer(bytes as i64),
        None => reply.null(),
    }
    Ok(())
}

fn purge(_ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    system::purge();
    Box::new(())
}

enum Figure {
    Count(u64),
    Difference(i64),
    Ratio(f64),
}

fn stats(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    use Figure::{Count, Difference, Ratio};
    let totals = Totals::new(ctx, downcast(parts).collect());
    let (memory, keys) = (&totals.memory, totals.keys_count());
    let (used, committed) = (memory.used, memory.allocator.committed);
    let ratio = |a: u64, b: u64| Ratio(if b == 0 { 0.0 } else { a as f64 / b as f64 });
    let percent = |a: u64, b: u64| Ratio(if b == 0 { 0.0 } else { 100.0 * a as f64 / b as f64 });
    let difference = |a: u64, b: u64| Difference(a as i64 - b as i64);
    let head = [
        ("peak.allocated", Count(memory.peak)),
        ("total.allocated", Count(used)),
        ("startup.allocated", Count(memory.startup)),
        ("replication.backlog", Count(0)),
        ("clients.slaves", Count(0)),
        ("clients.normal", Count(memory.clients)),
        ("cluster.links", Count(0)),
        ("aof.buffer", Count(0)),
        ("lua.caches", Count(0)),
        ("functions.caches", Count(0)),
    ];
    let tail = [
        ("overhead.total", Count(memory.overhead())),
        ("keys.count", Count(keys)),
        ("keys.bytes-per-key", Count(memory.since_startup().checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", Count(memory.dataset())),
        ("dataset.percentage", percent(memory.dataset(), memory.since_startup())),
        ("peak.percentage", percent(used, memory.peak)),
        ("allocator.allocated", Count(used)),
        ("allocator.active", Count(committed)),
        ("allocator-fragmentation.ratio", ratio(committed, used)),
        ("allocator-fragmentation.bytes", difference(committed, used)),
        ("fragmentation", ratio(memory.resident, used)),
        ("fragmentation.bytes", difference(memory.resident, used)),
    ];
    let tables = totals.tables();
    reply.map(head.len() + tables.len() + tail.len());
    head.iter().for_each(|(name, figure)| write_figure(name, figure, reply));
    for (db, bytes) in tables {
        reply.bulk(format!("db.{db}").as_bytes());
        reply.map(1);
        write_figure("overhead.hashtable.main", &Count(bytes), reply);
    }
    tail.iter().for_each(|(name, figure)| write_figure(name, figure, reply));
    Ok(())
}

fn write_figure(name: &str, figure: &Figure, reply: &mut Reply) {
    reply.bulk(name.as_bytes());
    match figure {
        Figure::Count(count) => reply.integer(*count as i64),
        Figure::Difference(difference) => reply.integer(*difference),
        Figure::Ratio(ratio) => {
            let mut text = Vec::new();
            format_double(*ratio, &mut text);
            reply.double_text(&text);
        }
    }
}

fn doctor(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let totals = Totals::new(ctx, downcast(parts).collect());
    reply.verbatim(b"txt", diagnosis(&totals.memory, ctx.server.clients() as u64).as_bytes());
    Ok(())
}

/// With less than this there is nothing to judge by.
const JUDGED_BYTES_MIN: u64 = 5 << 20;
/// Buffers a client has on average without being remarkable.
const CLIENT_BYTES_MAX: u64 = 200 << 10;

fn diagnosis(memory: &MemoryFigures, clients: u64) -> String {
    if memory.used < JUDGED_BYTES_MIN {
        return "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in \
                these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and \
                I will be back to our programming as soon as I finished rebooting.\n"
            .to_owned();
    }
    let over = |part: u64, percent: u64, whole: u64| part.saturating_mul(100) > whole.saturating_mul(percent);
    let findings: Vec<&str> = [
        (
            over(memory.peak, 150, memory.used),
            " * Peak memory: more than one and a half times of what is in use now was in use once. The allocator may \
             hold the difference; MEMORY PURGE asks it to give back what it can.\n",
        ),
        (
            over(memory.resident, 140, memory.used),
            " * High total RSS: the process takes more than 1.4 times the memory that is allocated. If it is not due \
             to an earlier peak, many sizes of values in turn leave gaps.\n",
        ),
        (
            memory.clients.checked_div(clients).unwrap_or(0) > CLIENT_BYTES_MAX,
            " * Big client buffers: clients have more than 200K of buffers on average. CLIENT LIST shows who does not \
             read replies, or sends much at a time.\n",
        ),
    ]
    .into_iter()
    .filter_map(|(applies, finding)| applies.then_some(finding))
    .collect();
    if findings.is_empty() {
        return "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this \
                base.\n"
            .to_owned();
    }
    format!(
        "Sam, I detected a few issues in this instance memory implants:\n\n{}\nI'm here to keep you safe, Sam. I want to \
         help you.\n",
        findings.join("\n")
    )
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(used: u64, peak: u64, resident: u64, clients: u64, expected: &[&str]) {
        let memory =
            MemoryFigures { used, resident, peak, startup: 0, clients, tables: 0, allocator: Default::default() };
        let text = diagnosis(&memory, 1);
        let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(" * ")?.split(':').next()).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn the_doctor_names_what_is_out_of_proportion() {
        check(1 << 20, 1 << 30, 1 << 30, 1 << 30, &[]);
        check(100 << 20, 100 << 20, 110 << 20, 0, &[]);
        check(100 << 20, 151 << 20, 110 << 20, 0, &["Peak memory"]);
        check(100 << 20, 100 << 20, 141 << 20, 1 << 20, &["High total RSS", "Big client buffers"]);
    }
}
