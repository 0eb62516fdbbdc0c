//! SUBSCRIBE and its kin, PUBLISH and SPUBLISH, PUBSUB.
//!
//! Subscriptions are the connection's shard's own business, and take effect at once; publications are the core's to
//! carry; PUBSUB asks all shards.

use std::collections::BTreeSet;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::{subcommand_syntax, write_help};
use crate::base::glob;
use crate::command::args::Args;
use crate::command::error::Result;
use crate::command::spec::*;
use crate::engine::pubsub::{Kind, Name};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const PUBSUB_FAMILY: Spec = Spec { group: Group::Pubsub, flags: PUBSUB.and(LOADING).and(STALE), ..Spec::DEFAULT };

const SUBSCRIBE: Flags = PUBSUB.and(NOSCRIPT).and(LOADING).and(STALE).and(PUSH_REPLY).and(SUBSCRIBED);

pub const ROWS: &[AdminRow] = &[
    Row {
        run: subscribe as AdminFn,
        spec: Spec {
            name: "subscribe",
            arity: AtLeast(2),
            flags: SUBSCRIBE,
            since: "2.0.0",
            complexity: "O(N) where N is the number of channels to subscribe to.",
            summary: "Lets this connection hear what is published to channels.",
            args: &[string("channel").multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: unsubscribe,
        spec: Spec {
            name: "unsubscribe",
            arity: AtLeast(1),
            flags: SUBSCRIBE,
            since: "2.0.0",
            complexity: "O(N) where N is the number of channels to unsubscribe.",
            summary: "Ends subscriptions to channels: to those named, or to all.",
            args: &[string("channel").optional().multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: psubscribe,
        spec: Spec {
            name: "psubscribe",
            arity: AtLeast(2),
            flags: SUBSCRIBE,
            since: "2.0.0",
            complexity: "O(N) where N is the number of patterns to subscribe to.",
            summary: "Lets this connection hear what is published to channels whose names match patterns.",
            args: &[pattern("pattern").multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: punsubscribe,
        spec: Spec {
            name: "punsubscribe",
            arity: AtLeast(1),
            flags: SUBSCRIBE,
            since: "2.0.0",
            complexity: "O(N) where N is the number of patterns to unsubscribe.",
            summary: "Ends subscriptions by patterns: by those named, or by all.",
            args: &[pattern("pattern").optional().multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: ssubscribe,
        spec: Spec {
            name: "ssubscribe",
            arity: AtLeast(2),
            flags: SUBSCRIBE,
            keys: &[keys_from(1, NOT_KEY)],
            since: "7.0.0",
            complexity: "O(N) where N is the number of shard channels to subscribe to.",
            summary: "Lets this connection hear what is published to shard channels.",
            args: &[string("shardchannel").multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: sunsubscribe,
        spec: Spec {
            name: "sunsubscribe",
            arity: AtLeast(1),
            flags: SUBSCRIBE,
            keys: &[keys_from(1, NOT_KEY)],
            since: "7.0.0",
            complexity: "O(N) where N is the number of shard channels to unsubscribe.",
            summary: "Ends subscriptions to shard channels: to those named, or to all.",
            args: &[string("shardchannel").optional().multiple()],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: publish,
        spec: Spec {
            name: "publish",
            arity: Exactly(3),
            flags: PUBSUB.and(LOADING).and(STALE).and(FAST).and(MAY_REPLICATE),
            since: "2.0.0",
            complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total \
                         number of subscribed patterns (by any client).",
            summary: "Sends a message to all who listen to a channel; returns how many these are.",
            args: &[string("channel"), string("message")],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: spublish,
        spec: Spec {
            name: "spublish",
            arity: Exactly(3),
            flags: PUBSUB.and(LOADING).and(STALE).and(FAST).and(MAY_REPLICATE),
            keys: &[key_at(1, NOT_KEY)],
            since: "7.0.0",
            complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            summary: "Sends a message to all who listen to a shard channel; returns how many these are.",
            args: &[string("shardchannel"), string("message")],
            ..PUBSUB_FAMILY
        },
    },
    Row {
        run: pubsub,
        spec: Spec {
            name: "pubsub",
            arity: AtLeast(2),
            flags: Flags::NONE,
            since: "2.8.0",
            complexity: "Depends on subcommand.",
            summary: "Holds the commands that tell of subscriptions.",
            subcommands: &[
                Spec {
                    name: "pubsub|channels",
                    arity: AtLeast(2),
                    since: "2.8.0",
                    complexity: "O(N) where N is the number of active channels, and assuming constant time pattern \
                                 matching (relatively short channels and patterns)",
                    summary: "Returns the channels that somebody listens to.",
                    args: &[pattern("pattern").optional()],
                    ..PUBSUB_FAMILY
                },
                Spec {
                    name: "pubsub|help",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    since: "6.2.0",
                    complexity: "O(1)",
                    summary: "Explains the subcommands.",
                    ..PUBSUB_FAMILY
                },
                Spec {
                    name: "pubsub|numpat",
                    arity: Exactly(2),
                    since: "2.8.0",
                    complexity: "O(1)",
                    summary: "Returns how many different patterns somebody listens by.",
                    ..PUBSUB_FAMILY
                },
                Spec {
                    name: "pubsub|numsub",
                    arity: AtLeast(2),
                    since: "2.8.0",
                    complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
                    summary: "Returns how many connections listen to each of the channels.",
                    args: &[string("channel").optional().multiple()],
                    ..PUBSUB_FAMILY
                },
                Spec {
                    name: "pubsub|shardchannels",
                    arity: AtLeast(2),
                    since: "7.0.0",
                    complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern \
                                 matching (relatively short shard channels).",
                    summary: "Returns the shard channels that somebody listens to.",
                    args: &[pattern("pattern").optional()],
                    ..PUBSUB_FAMILY
                },
                Spec {
                    name: "pubsub|shardnumsub",
                    arity: AtLeast(2),
                    since: "7.0.0",
                    complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
                    summary: "Returns how many connections listen to each of the shard channels.",
                    args: &[string("shardchannel").optional().multiple()],
                    ..PUBSUB_FAMILY
                },
            ],
            ..PUBSUB_FAMILY
        },
    },
];

const HELP: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
];

fn subscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    begin(ctx, Kind::Channel, "subscribe", args, reply)
}

fn psubscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    begin(ctx, Kind::Pattern, "psubscribe", args, reply)
}

fn ssubscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    begin(ctx, Kind::ShardChannel, "ssubscribe", args, reply)
}

fn unsubscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    end(ctx, Kind::Channel, "unsubscribe", args, reply)
}

fn punsubscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    end(ctx, Kind::Pattern, "punsubscribe", args, reply)
}

fn sunsubscribe(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    end(ctx, Kind::ShardChannel, "sunsubscribe", args, reply)
}

fn begin(ctx: &mut AdminCtx, kind: Kind, verb: &str, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    for name in args.from(1) {
        if ctx.shard.pubsub.subscribe(ctx.conn, kind, name, ctx.slots) {
            ctx.session().count_subscription(true, name.len());
        }
        confirm(ctx, kind, verb, Some(name), reply);
    }
    ctx.session().set_subscribed(true);
    Ok(Outcome::Done)
}

fn end(ctx: &mut AdminCtx, kind: Kind, verb: &str, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let named = args.from(1);
    let all: Vec<Name>;
    let all_names: Vec<&[u8]>;
    let names = if named.is_empty() {
        all = ctx.shard.pubsub.names(ctx.conn, kind);
        all_names = all.iter().map(|name| &**name).collect();
        &all_names
    } else {
        named
    };
    for name in names {
        if ctx.shard.pubsub.unsubscribe(ctx.conn, kind, name, ctx.slots) {
            ctx.session().count_subscription(false, name.len());
        }
        confirm(ctx, kind, verb, Some(name), reply);
    }
    if names.is_empty() {
        confirm(ctx, kind, verb, None, reply);
    }
    let is_subscribed = ctx.shard.pubsub.counts(ctx.conn) != [0; 3];
    ctx.session().set_subscribed(is_subscribed);
    Ok(Outcome::Done)
}

/// One for each name. Shard channels are counted apart.
fn confirm(ctx: &AdminCtx, kind: Kind, verb: &str, name: Option<&[u8]>, reply: &mut Reply) {
    let [channels, patterns, shard_channels] = ctx.shard.pubsub.counts(ctx.conn);
    reply.push(3);
    reply.bulk(verb.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(if kind == Kind::ShardChannel { shard_channels } else { channels + patterns } as i64);
}

fn publish(_ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Ok(Outcome::Publish(Kind::Channel))
}

fn spublish(_ctx: &mut AdminCtx, _args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Ok(Outcome::Publish(Kind::ShardChannel))
}

fn pubsub(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"help" => write_help("PUBSUB", HELP, reply),
        b"channels" | b"shardchannels" if args.len() > 3 => return Err(subcommand_syntax(args)),
        b"channels" | b"shardchannels" | b"numpat" => return Ok(Everywhere::outcome(names_here, args, write_names)),
        b"numsub" | b"shardnumsub" => return Ok(Everywhere::outcome(subscribers_here, args, write_subscribers)),
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(Outcome::Done)
}

/// What kind of names a subcommand is about.
fn kind_of(subcommand: &[u8]) -> Kind {
    match subcommand.to_ascii_lowercase().as_slice() {
        b"shardchannels" | b"shardnumsub" => Kind::ShardChannel,
        b"numpat" => Kind::Pattern,
        _ => Kind::Channel,
    }
}

fn names_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let is_meant = |name: &&Name| words.get(2).is_none_or(|pattern| glob::matches(pattern, name, false));
    Box::new(ctx.shard.pubsub.active(kind_of(&words[1])).filter(is_meant).cloned().collect::<Vec<_>>())
}

fn write_names(_ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let names: BTreeSet<Name> = downcast::<Vec<Name>>(parts).flatten().collect();
    if kind_of(&words[1]) == Kind::Pattern {
        reply.integer(names.len() as i64);
        return Ok(());
    }
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn subscribers_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let kind = kind_of(&words[1]);
    let count = |name: &Vec<u8>| ctx.shard.pubsub.subscribers(kind, name).len();
    Box::new(words[2..].iter().map(count).collect::<Vec<_>>())
}

fn write_subscribers(_ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut counts = vec![0; words.len() - 2];
    for part in downcast::<Vec<usize>>(parts) {
        counts.iter_mut().zip(part).for_each(|(count, here)| *count += here);
    }
    // Flat in RESP3 too.
    reply.array(2 * counts.len());
    for (name, count) in words[2..].iter().zip(counts) {
        reply.bulk(name);
        reply.integer(count as i64);
    }
    Ok(())
}
