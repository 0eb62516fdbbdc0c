//! Commands on sorted sets: their rows, and what reads single members; the rest is in files by topic.

mod add;
pub mod blocking;
mod combine;
mod pop;
mod range;
#[cfg(test)]
mod tests;

pub(super) use add::zadd;
pub(super) use combine::store_at;

use super::KeyRow;
use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use super::scan::{Scanned, scan_collection};
use super::spec::*;
use crate::base::number::format_double;
use crate::data::entry::Kind;
use crate::data::listpack::{Digits, Element};
use crate::data::zset::Zset;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const ZSET: Spec = Spec { group: Group::SortedSet, categories: category::SORTEDSET, shape: OneShard, ..Spec::DEFAULT };

const WEIGHTS: Arg = integer("weight").after("WEIGHTS").optional().multiple();
const AGGREGATE: Arg = one_of("aggregate", &[token("SUM"), token("MIN"), token("MAX")]).after("AGGREGATE").optional();

pub const ROWS: &[KeyRow] = &[
    Row {
        run: add::zadd,
        spec: Spec {
            name: "zadd",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "1.2.0",
            complexity: "O(log(N)) for each member, where N is the size of the sorted set.",
            summary: "Adds members with scores to a sorted set, or gives members new scores.",
            args: &[
                key("key"),
                one_of("condition", &[token("NX"), token("XX")]).since("3.0.2").optional(),
                one_of("comparison", &[token("GT"), token("LT")]).since("6.2.0").optional(),
                token("CH").named("change").since("3.0.2").optional(),
                token("INCR").named("increment").since("3.0.2").optional(),
                block("data", &[double("score"), string("member")]).multiple(),
            ],
            history: &[
                ("2.4.0", "Accepts multiple elements."),
                ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
                ("6.2.0", "Added the `GT` and `LT` options."),
            ],
            ..ZSET
        },
    },
    Row {
        run: zcard,
        spec: Spec {
            name: "zcard",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Counts the members of a sorted set.",
            args: &[key("key")],
            ..ZSET
        },
    },
    Row {
        run: range::zcount,
        spec: Spec {
            name: "zcount",
            arity: Exactly(4),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(log(N)) where N is the size of the sorted set.",
            summary: "Counts the members with scores in a range.",
            args: &[key("key"), double("min"), double("max")],
            ..ZSET
        },
    },
    Row {
        run: combine::zdiff,
        spec: Spec {
            name: "zdiff",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[keys_counted_at(1, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(L + M*log(M)) where L is the number of members of all inputs and M that of the result.",
            summary: "Returns the members of the first sorted set that are in none of the others.",
            args: &[integer("numkeys"), key("key").multiple(), token("WITHSCORES").optional()],
            ..ZSET
        },
    },
    Row {
        run: combine::zdiffstore,
        spec: Spec {
            name: "zdiffstore",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_counted_at(2, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(L + M*log(M)) where L is the number of members of all inputs and M that of the result.",
            summary: "Stores the members of the first sorted set that are in none of the others.",
            args: &[key("destination"), integer("numkeys"), key("key").key_spec(1).multiple()],
            ..ZSET
        },
    },
    Row {
        run: add::zincrby,
        spec: Spec {
            name: "zincrby",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.2.0",
            complexity: "O(log(N)) where N is the size of the sorted set.",
            summary: "Adds to the score of a member, which begins at 0.",
            args: &[key("key"), integer("increment"), string("member")],
            ..ZSET
        },
    },
    Row {
        run: combine::zinter,
        spec: Spec {
            name: "zinter",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[keys_counted_at(1, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(N*K + M*log(M)) where N is the size of the smallest of K inputs and M that of the result.",
            summary: "Returns the members that all of the sorted sets have.",
            args: &[integer("numkeys"), key("key").multiple(), WEIGHTS, AGGREGATE, token("WITHSCORES").optional()],
            ..ZSET
        },
    },
    Row {
        run: combine::zintercard,
        spec: Spec {
            name: "zintercard",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[keys_counted_at(1, RO.and(ACCESS))],
            shape: Gather,
            since: "7.0.0",
            complexity: "O(N*K) where N is the size of the smallest of K inputs.",
            summary: "Counts the members that all of the sorted sets have.",
            args: &[integer("numkeys"), key("key").multiple(), integer("limit").after("LIMIT").optional()],
            ..ZSET
        },
    },
    Row {
        run: combine::zinterstore,
        spec: Spec {
            name: "zinterstore",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_counted_at(2, RO.and(ACCESS))],
            shape: Gather,
            since: "2.0.0",
            complexity: "O(N*K + M*log(M)) where N is the size of the smallest of K inputs and M that of the result.",
            summary: "Stores the members that all of the sorted sets have.",
            args: &[key("destination"), integer("numkeys"), key("key").key_spec(1).multiple(), WEIGHTS, AGGREGATE],
            ..ZSET
        },
    },
    Row {
        run: range::zlexcount,
        spec: Spec {
            name: "zlexcount",
            arity: Exactly(4),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.9",
            complexity: "O(log(N)) where N is the size of the sorted set.",
            summary: "Counts the members in a lexicographical range.",
            args: &[key("key"), string("min"), string("max")],
            ..ZSET
        },
    },
    Row {
        run: pop::zmpop,
        spec: Spec {
            name: "zmpop",
            arity: AtLeast(4),
            flags: WRITE,
            keys: &[keys_counted_at(1, RW.and(ACCESS).and(DELETE))],
            shape: FirstOf,
            since: "7.0.0",
            complexity: "O(K + M*log(N)) where K is the number of keys, M of members popped and N the size of the sorted set.",
            summary: "Removes and returns the lowest or highest members of the first sorted set that is not empty.",
            args: &[
                integer("numkeys"),
                key("key").multiple(),
                one_of("where", &[token("MIN"), token("MAX")]),
                integer("count").after("COUNT").optional(),
            ],
            ..ZSET
        },
    },
    Row {
        run: zmscore,
        spec: Spec {
            name: "zmscore",
            arity: AtLeast(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.2.0",
            complexity: "O(N) where N is the number of members asked for.",
            summary: "Returns the scores of several members.",
            args: &[key("key"), string("member").multiple()],
            ..ZSET
        },
    },
    Row {
        run: pop::zpopmax,
        spec: Spec {
            name: "zpopmax",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "5.0.0",
            complexity: "O(M*log(N)) where M is the number of members popped and N the size of the sorted set.",
            summary: "Removes and returns the members with the highest scores.",
            args: &[key("key"), integer("count").optional()],
            ..ZSET
        },
    },
    Row {
        run: pop::zpopmin,
        spec: Spec {
            name: "zpopmin",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "5.0.0",
            complexity: "O(M*log(N)) where M is the number of members popped and N the size of the sorted set.",
            summary: "Removes and returns the members with the lowest scores.",
            args: &[key("key"), integer("count").optional()],
            ..ZSET
        },
    },
    Row {
        run: pop::zrandmember,
        spec: Spec {
            name: "zrandmember",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.2.0",
            complexity: "O(M*log(N)) where M is the number of members returned and N the size of the sorted set.",
            summary: "Returns random members of a sorted set.",
            args: &[key("key"), block("options", &[integer("count"), token("WITHSCORES").optional()]).optional()],
            tips: &["nondeterministic_output"],
            ..ZSET
        },
    },
    Row {
        run: range::zrange,
        spec: Spec {
            name: "zrange",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.2.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a range of ranks, scores or names.",
            args: &[
                key("key"),
                string("start"),
                string("stop"),
                one_of("sortby", &[token("BYSCORE"), token("BYLEX")]).since("6.2.0").optional(),
                token("REV").since("6.2.0").optional(),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").since("6.2.0").optional(),
                token("WITHSCORES").optional(),
            ],
            history: &[("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.")],
            ..ZSET
        },
    },
    Row {
        run: range::zrangebylex,
        spec: Spec {
            name: "zrangebylex",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.9",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a lexicographical range.",
            args: &[
                key("key"),
                string("min"),
                string("max"),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional(),
            ],
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYLEX` argument" }),
            ..ZSET
        },
    },
    Row {
        run: range::zrangebyscore,
        spec: Spec {
            name: "zrangebyscore",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.5",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a range of scores.",
            args: &[
                key("key"),
                double("min"),
                double("max"),
                token("WITHSCORES").since("2.0.0").optional(),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional(),
            ],
            history: &[("2.0.0", "Added the `WITHSCORES` modifier.")],
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYSCORE` argument" }),
            ..ZSET
        },
    },
    Row {
        run: range::zrangestore,
        spec: Spec {
            name: "zrangestore",
            arity: AtLeast(5),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), key_at(2, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members stored.",
            summary: "Stores the members in a range of ranks, scores or names.",
            args: &[
                key("dst"),
                key("src").key_spec(1),
                string("min"),
                string("max"),
                one_of("sortby", &[token("BYSCORE"), token("BYLEX")]).optional(),
                token("REV").optional(),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional(),
            ],
            ..ZSET
        },
    },
    Row {
        run: zrank,
        spec: Spec {
            name: "zrank",
            arity: AtLeast(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(log(N)) where N is the size of the sorted set.",
            summary: "Returns how many members are below a member.",
            args: &[key("key"), string("member"), token("WITHSCORE").optional()],
            history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
            ..ZSET
        },
    },
    Row {
        run: add::zrem,
        spec: Spec {
            name: "zrem",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(DELETE))],
            since: "1.2.0",
            complexity: "O(M*log(N)) where M is the number of members removed and N the size of the sorted set.",
            summary: "Removes members from a sorted set.",
            args: &[key("key"), string("member").multiple()],
            history: &[("2.4.0", "Accepts multiple elements.")],
            ..ZSET
        },
    },
    Row {
        run: range::zremrangebylex,
        spec: Spec {
            name: "zremrangebylex",
            arity: Exactly(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "2.8.9",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members removed.",
            summary: "Removes the members in a lexicographical range.",
            args: &[key("key"), string("min"), string("max")],
            ..ZSET
        },
    },
    Row {
        run: range::zremrangebyrank,
        spec: Spec {
            name: "zremrangebyrank",
            arity: Exactly(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "2.0.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members removed.",
            summary: "Removes the members in a range of ranks.",
            args: &[key("key"), integer("start"), integer("stop")],
            ..ZSET
        },
    },
    Row {
        run: range::zremrangebyscore,
        spec: Spec {
            name: "zremrangebyscore",
            arity: Exactly(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "1.2.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members removed.",
            summary: "Removes the members in a range of scores.",
            args: &[key("key"), double("min"), double("max")],
            ..ZSET
        },
    },
    Row {
        run: range::zrevrange,
        spec: Spec {
            name: "zrevrange",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.2.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a range of ranks that count from the highest.",
            args: &[key("key"), integer("start"), integer("stop"), token("WITHSCORES").optional()],
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `REV` argument" }),
            ..ZSET
        },
    },
    Row {
        run: range::zrevrangebylex,
        spec: Spec {
            name: "zrevrangebylex",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.9",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a lexicographical range, in reverse order.",
            args: &[
                key("key"),
                string("max"),
                string("min"),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional(),
            ],
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
            }),
            ..ZSET
        },
    },
    Row {
        run: range::zrevrangebyscore,
        spec: Spec {
            name: "zrevrangebyscore",
            arity: AtLeast(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.2.0",
            complexity: "O(log(N) + M) where N is the size of the sorted set and M the number of members returned.",
            summary: "Returns the members in a range of scores, highest first.",
            args: &[
                key("key"),
                double("max"),
                double("min"),
                token("WITHSCORES").optional(),
                block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional(),
            ],
            history: &[("2.1.6", "`min` and `max` can be exclusive.")],
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
            }),
            ..ZSET
        },
    },
    Row {
        run: zrevrank,
        spec: Spec {
            name: "zrevrank",
            arity: AtLeast(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(log(N)) where N is the size of the sorted set.",
            summary: "Returns how many members are above a member.",
            args: &[key("key"), string("member"), token("WITHSCORE").optional()],
            history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
            ..ZSET
        },
    },
    Row {
        run: zscan,
        spec: Spec {
            name: "zscan",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.0",
            complexity: "O(1) for a call, O(N) for a whole walk over N members.",
            summary: "Walks over members and scores, some at a call.",
            args: &[
                key("key"),
                integer("cursor"),
                pattern("pattern").after("MATCH").optional(),
                integer("count").after("COUNT").optional(),
                token("NOSCORES").optional(),
            ],
            history: &[("8.0.0", "Added noscores option.")],
            tips: &["nondeterministic_output"],
            ..ZSET
        },
    },
    Row {
        run: zscore,
        spec: Spec {
            name: "zscore",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Returns the score of a member.",
            args: &[key("key"), string("member")],
            ..ZSET
        },
    },
    Row {
        run: combine::zunion,
        spec: Spec {
            name: "zunion",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[keys_counted_at(1, RO.and(ACCESS))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(N + M*log(M)) where N is the number of members of all inputs and M that of the result.",
            summary: "Returns the members that any of the sorted sets has.",
            args: &[integer("numkeys"), key("key").multiple(), WEIGHTS, AGGREGATE, token("WITHSCORES").optional()],
            ..ZSET
        },
    },
    Row {
        run: combine::zunionstore,
        spec: Spec {
            name: "zunionstore",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_counted_at(2, RO.and(ACCESS))],
            shape: Gather,
            since: "2.0.0",
            complexity: "O(N + M*log(M)) where N is the number of members of all inputs and M that of the result.",
            summary: "Stores the members that any of the sorted sets has.",
            args: &[key("destination"), integer("numkeys"), key("key").key_spec(1).multiple(), WEIGHTS, AGGREGATE],
            ..ZSET
        },
    },
];

/// A score as replies and effects spell it.
fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    format_double(score, &mut text);
    text
}

fn reply_score(reply: &mut Reply, score: f64) {
    reply.double_text(&score_text(score));
}

/// Records an effect that Redis counts as so many changes.
fn record(ctx: &mut ShardCtx, changes: usize, words: &[&[u8]]) {
    ctx.journal.dirty += changes as u64;
    ctx.journal.uncounted(ctx.db, words);
}

/// Writes members in a row, with scores or without.
struct MemberWriter {
    with_scores: bool,
    /// Each member and its score in an array of their own.
    in_pairs: bool,
    digits: Digits,
    score: Vec<u8>,
}

impl MemberWriter {
    /// Begins an array of so many members: in RESP3 scores stand beside their members, in RESP2 behind them.
    fn begin(members: usize, with_scores: bool, reply: &mut Reply) -> MemberWriter {
        let in_pairs = with_scores && reply.is_resp3();
        MemberWriter::begin_as(members, with_scores, in_pairs, reply)
    }

    fn begin_as(members: usize, with_scores: bool, in_pairs: bool, reply: &mut Reply) -> MemberWriter {
        reply.array(if with_scores && !in_pairs { 2 * members } else { members });
        MemberWriter { with_scores, in_pairs, digits: Digits::new(), score: Vec::new() }
    }

    fn write(&mut self, member: Element<'_>, score: f64, reply: &mut Reply) {
        if self.in_pairs {
            reply.array(2);
        }
        reply.bulk(member.text(&mut self.digits));
        if self.with_scores {
            self.score.clear();
            format_double(score, &mut self.score);
            reply.double_text(&self.score);
        }
    }
}

/// ZCARD key
fn zcard(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    reply.integer(zset.map_or(0, Zset::len) as i64);
    Ok(())
}

/// ZSCORE key member
fn zscore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    match zset.and_then(|zset| zset.score(args.get(2))) {
        Some(score) => reply_score(reply, score),
        None => reply.null(),
    }
    Ok(())
}

/// ZMSCORE key member [member ...]
fn zmscore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply_score(reply, score),
            None => reply.null(),
        }
    }
    Ok(())
}

/// ZRANK key member [WITHSCORE]
fn zrank(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    rank(ctx, args, reply, "zrank", |rank, _| rank)
}

/// ZREVRANK key member [WITHSCORE]
fn zrevrank(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    rank(ctx, args, reply, "zrevrank", |rank, len| len - 1 - rank)
}

fn rank(
    ctx: &mut ShardCtx,
    args: &Args,
    reply: &mut Reply,
    name: &str,
    counted: impl Fn(usize, usize) -> usize,
) -> Result {
    let with_score = match args.from(3) {
        [] => false,
        [_] if args.is(3, "WITHSCORE") => true,
        [_] => return Err(Error::Syntax),
        _ => return Err(Error::arity(name)),
    };
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    match zset.and_then(|zset| zset.rank(args.get(2)).map(|(rank, score)| (counted(rank, zset.len()), score))) {
        Some((rank, score)) if with_score => {
            reply.array(2);
            reply.integer(rank as i64);
            reply_score(reply, score);
        }
        Some((rank, _)) => reply.integer(rank as i64),
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(())
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]
fn zscan(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    scan_collection::<Zset>(ctx, args, reply, Scanned::Zset, |zset, cursor, options, found| {
        let mut digits = Digits::new();
        zset.scan(cursor, options.count, |member, score| {
            let member = member.text(&mut digits);
            if options.pattern.matches(member) {
                found.push(member);
                if !options.no_scores {
                    let is_small = zset.kind() == Kind::ZsetListpack;
                    found.push(&if is_small { score_text(score) } else { long_score_text(score) });
                }
            }
        })
    })
}

/// A score as C's `%.17g` spells it: so ZSCAN, and nothing else, answers those of a skiplist.
fn long_score_text(score: f64) -> Vec<u8> {
    const DIGITS: i32 = 17;
    if !score.is_finite() || score == 0.0 {
        return score_text(score);
    }
    let scientific = format!("{score:.*e}", DIGITS as usize - 1);
    let (digits, exponent) = scientific.split_once('e').expect("the form asked for");
    let exponent: i32 = exponent.parse().expect("the form asked for");
    let trimmed = |digits: &str| digits.trim_end_matches('0').trim_end_matches('.').to_owned();
    let text = if (-4..DIGITS).contains(&exponent) {
        let fixed = format!("{score:.*}", (DIGITS - 1 - exponent) as usize);
        if fixed.contains('.') { trimmed(&fixed) } else { fixed }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
    };
    text.into_bytes()
}
