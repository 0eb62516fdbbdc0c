//! XINFO: what a stream, its groups and their consumers are like.

use super::group::no_group_of_key;
use super::reply;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result};
use crate::data::stream::{Consumer, Group, Stream, StreamId};
use crate::resp::reply::Reply;

/// Elements of each list that FULL shows.
const FULL_COUNT: usize = 10;

/// XINFO subcommand \[key ...]
pub fn xinfo(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(1, "HELP") {
        reply.array(HELP.len());
        HELP.iter().for_each(|line| reply.simple(line));
        return Ok(());
    }
    let now_ms = ctx.now_ms();
    let key = *args.from(2).first().ok_or_else(|| Error::subcommand_syntax("XINFO", args.get(1)))?;
    let stream = ctx.read_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    match (args.get(1).to_ascii_uppercase().as_slice(), args.from(3)) {
        (b"CONSUMERS", &[name]) => {
            let group = stream.group(name).ok_or_else(|| no_group_of_key(key, name))?;
            consumers(group, now_ms, reply);
        }
        (b"GROUPS", []) => groups(stream, reply),
        (b"STREAM", []) => {
            reply.map(10);
            common(stream, reply);
            short(stream, reply);
        }
        (b"STREAM", options @ ([_] | [_, _, _])) if options[0].eq_ignore_ascii_case(b"FULL") => {
            let mut count = FULL_COUNT;
            if options.len() == 3 {
                if !options[1].eq_ignore_ascii_case(b"COUNT") {
                    return Err(Error::subcommand_syntax("XINFO", args.get(1)));
                }
                count = usize::try_from(args.integer(5)?).unwrap_or(FULL_COUNT);
            }
            reply.map(9);
            common(stream, reply);
            full(stream, count, reply);
        }
        _ => return Err(Error::subcommand_syntax("XINFO", args.get(1))),
    }
    Ok(())
}

fn consumers(group: &Group, now_ms: i64, reply: &mut Reply) {
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk(b"idle");
        reply.integer(now_ms.wrapping_sub(consumer.seen_at_ms).max(0));
        reply.bulk(b"inactive");
        match consumer.active_at_ms {
            never @ -1 => reply.integer(never),
            at => reply.integer(now_ms.wrapping_sub(at).max(0)),
        }
    }
}

fn groups(stream: &Stream, reply: &mut Reply) {
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumer_count() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending().len() as i64);
        progress(stream, group, reply);
    }
}

/// How far a group has come: three pairs.
fn progress(stream: &Stream, group: &Group, reply: &mut Reply) {
    reply.bulk(b"last-delivered-id");
    reply::id(group.last_id, reply);
    reply.bulk(b"entries-read");
    reply::entries_read(group, reply);
    reply.bulk(b"lag");
    reply::lag(stream.log(), group, reply);
}

/// What STREAM shows in both forms: seven pairs.
fn common(stream: &Stream, reply: &mut Reply) {
    let log = stream.log();
    let numbers = [
        ("length", log.len()),
        ("radix-tree-keys", log.nodes() as u64),
        ("radix-tree-nodes", log.radix_nodes() as u64),
    ];
    for (name, n) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(n as i64);
    }
    reply.bulk(b"last-generated-id");
    reply::id(log.last_id(), reply);
    reply.bulk(b"max-deleted-entry-id");
    reply::id(log.max_deleted_id(), reply);
    reply.bulk(b"entries-added");
    reply.integer(log.entries_added() as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply::id(log.first_id(), reply);
}

fn short(stream: &Stream, reply: &mut Reply) {
    let log = stream.log();
    reply.bulk(b"groups");
    reply.integer(stream.groups().len() as i64);
    let ends = [
        ("first-entry", log.range(StreamId::ZERO, StreamId::MAX).next()),
        ("last-entry", log.range_back(StreamId::ZERO, StreamId::MAX).next()),
    ];
    for (name, entry) in ends {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply::entry(&entry, reply),
            None => reply.null(),
        }
    }
}

fn full(stream: &Stream, count: usize, reply: &mut Reply) {
    let limit = if count == 0 { usize::MAX } else { count };
    reply.bulk(b"entries");
    reply::entries(stream.log().range(StreamId::ZERO, StreamId::MAX), count, reply);
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        progress(stream, group, reply);
        reply.bulk(b"pel-count");
        reply.integer(group.pending().len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(limit));
        for (&id, pending) in group.pending().iter().take(limit) {
            reply.array(4);
            reply::id(id, reply);
            reply.bulk(group.consumer(pending.consumer).name());
            reply.integer(pending.delivered_at_ms);
            reply.integer(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        group.consumers().for_each(|consumer| full_consumer(group, consumer, limit, reply));
    }
}

fn full_consumer(group: &Group, consumer: &Consumer, limit: usize, reply: &mut Reply) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    for (name, at_ms) in [("seen-time", consumer.seen_at_ms), ("active-time", consumer.active_at_ms)] {
        reply.bulk(name.as_bytes());
        reply.integer(at_ms);
    }
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending().len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().len().min(limit));
    for id in consumer.pending().iter().take(limit) {
        let pending = &group.pending()[id];
        reply.array(3);
        reply::id(*id, reply);
        reply.integer(pending.delivered_at_ms);
        reply.integer(pending.deliveries as i64);
    }
}

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Print this help.",
];
