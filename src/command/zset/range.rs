//! Ranges of ranks, scores and members: reading, storing, counting and removing them.
//!
//! Whatever a range is given by, it is a range of ranks once the sorted set is known.

use std::borrow::Cow;
use std::ops::Range;

use super::super::args::Args;
use super::super::ctx::ShardCtx;
use super::super::error::{Error, Result};
use super::super::events::Class;
use super::combine::store;
use super::{MemberWriter, record};
use crate::base::number::{parse_f64, parse_i64};
use crate::data::entry::Kind;
use crate::data::zset::{MemberBound, ScoreBound, Zset};
use crate::resp::reply::Reply;

/// What a range is given by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// Lowest first, or highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// A range as a client gives it.
#[derive(Clone, Copy)]
enum Bounds<'a> {
    /// Negative ones count from the end.
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Members(MemberBound<'a>, MemberBound<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>> {
        match by {
            By::Rank => {
                let rank = |text| parse_i64(text).ok_or(Error::NotAnInteger);
                Ok(Bounds::Ranks(rank(min)?, rank(max)?))
            }
            By::Score => {
                let bounds = score_bound(min).zip(score_bound(max));
                let (min, max) = bounds.ok_or(Error::Text("ERR min or max is not a float"))?;
                Ok(Bounds::Scores(min, max))
            }
            By::Member => {
                let bounds = member_bound(min).zip(member_bound(max));
                let (min, max) = bounds.ok_or(Error::Text("ERR min or max not valid string range item"))?;
                Ok(Bounds::Members(min, max))
            }
        }
    }

    /// The range in a sorted set; given ranks count from the end that comes first.
    fn ranks(&self, zset: &Zset, order: Order) -> Range<usize> {
        match *self {
            Bounds::Ranks(start, stop) => {
                let len = zset.len() as i64;
                let from_end = |rank: i64| if rank < 0 { rank + len } else { rank };
                let start = from_end(start).max(0);
                let end = from_end(stop).saturating_add(1).min(len);
                if start >= end {
                    return 0..0;
                }
                match order {
                    Order::Ascending => start as usize..end as usize,
                    Order::Descending => (len - end) as usize..(len - start) as usize,
                }
            }
            Bounds::Scores(min, max) => zset.ranks_of_scores(min, max),
            Bounds::Members(min, max) => zset.ranks_of_members(min, max),
        }
    }
}

/// `1.5`, `(1.5`, `-inf`
fn score_bound(text: &[u8]) -> Option<ScoreBound> {
    let (excluded, number) = match text {
        [b'(', number @ ..] => (true, number),
        number => (false, number),
    };
    Some(ScoreBound { score: loose_double(number)?, excluded })
}

/// As C's `strtod` reads a number whose end is a zero byte, where Redis does not look at its length: leading space and
/// nothing at all are taken, and what is too large is infinite.
fn loose_double(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let text = &text[text.iter().take_while(|byte| is_space(byte)).count()..];
    if text.is_empty() {
        return Some(0.0);
    }
    parse_f64(text).or_else(|| {
        let is_decimal = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        if text.iter().all(is_decimal) { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
    })
}

/// `-`, `+`, `[member`, `(member`
fn member_bound(text: &[u8]) -> Option<MemberBound<'_>> {
    match text {
        // A zero byte ends the text for Redis.
        [b'-'] | [b'-', 0, ..] => Some(MemberBound::Lowest),
        [b'+'] | [b'+', 0, ..] => Some(MemberBound::Highest),
        [b'[', member @ ..] => Some(MemberBound::Included(member)),
        [b'(', member @ ..] => Some(MemberBound::Excluded(member)),
        _ => None,
    }
}

/// What a command of the ZRANGE kind asks for.
struct Query<'a> {
    bounds: Bounds<'a>,
    order: Order,
    offset: i64,
    /// Negative: all.
    count: i64,
    with_scores: bool,
}

/// Which options a command has: what it leaves open, it takes.
struct Syntax {
    by: Option<By>,
    order: Option<Order>,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// The range at `at`, and the options behind it.
    fn parse(args: &Args<'a>, at: usize, syntax: Syntax) -> Result<Query<'a>> {
        let Syntax { mut by, mut order, with_scores: takes_scores } = syntax;
        let (mut offset, mut count, mut with_scores) = (0, -1, false);
        let mut index = at + 2;
        while index < args.len() {
            match args.get(index).to_ascii_uppercase().as_slice() {
                b"WITHSCORES" if takes_scores => with_scores = true,
                b"LIMIT" if index + 2 < args.len() => {
                    offset = args.integer(index + 1)?;
                    count = args.integer(index + 2)?;
                    index += 2;
                }
                b"REV" if order.is_none() => order = Some(Order::Descending),
                b"BYLEX" if by.is_none() => by = Some(By::Member),
                b"BYSCORE" if by.is_none() => by = Some(By::Score),
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        let (by, order) = (by.unwrap_or(By::Rank), order.unwrap_or(Order::Ascending));
        // Redis, too, knows that there was a LIMIT by its count only.
        if count != -1 && by == By::Rank {
            return Err(Error::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Member {
            return Err(Error::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (first, second) = (args.get(at), args.get(at + 1));
        let upper_first = order == Order::Descending && by != By::Rank;
        let (min, max) = if upper_first { (second, first) } else { (first, second) };
        if by == By::Rank {
            offset = 0;
        }
        Ok(Query { bounds: Bounds::parse(by, min, max)?, order, offset, count, with_scores })
    }

    fn ranks(&self, zset: &Zset) -> Range<usize> {
        let ranks = self.bounds.ranks(zset, self.order);
        let left = match usize::try_from(self.offset) {
            Ok(offset) => ranks.len().saturating_sub(offset),
            // In a skiplist, and only there, a negative offset counts from the end: oddly so, but as clients see it.
            Err(_) if zset.kind() == Kind::ZsetSkiplist => {
                usize::try_from(self.offset.unsigned_abs()).ok().filter(|&left| left <= ranks.len()).unwrap_or(0)
            }
            Err(_) => 0,
        };
        let count = usize::try_from(self.count).map_or(left, |count| count.min(left));
        match self.order {
            Order::Ascending => {
                let start = ranks.end - left;
                start..start + count
            }
            Order::Descending => {
                let end = ranks.start + left;
                end - count..end
            }
        }
    }
}

/// ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub(super) fn zrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: None, order: None, with_scores: true })
}

/// ZREVRANGE key start stop [WITHSCORES]
pub(super) fn zrevrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: Some(By::Rank), order: Some(Order::Descending), with_scores: true })
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
pub(super) fn zrangebyscore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: Some(By::Score), order: Some(Order::Ascending), with_scores: true })
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
pub(super) fn zrevrangebyscore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: Some(By::Score), order: Some(Order::Descending), with_scores: true })
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
pub(super) fn zrangebylex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: Some(By::Member), order: Some(Order::Ascending), with_scores: true })
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
pub(super) fn zrevrangebylex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Syntax { by: Some(By::Member), order: Some(Order::Descending), with_scores: true })
}

fn read(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, syntax: Syntax) -> Result {
    let query = Query::parse(args, 2, syntax)?;
    let Some(zset) = ctx.read_as::<Zset>(args.get(1))? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    let mut writer = MemberWriter::begin(ranks.len(), query.with_scores, reply);
    let members = zset.range(ranks);
    match query.order {
        Order::Ascending => members.for_each(|(member, score)| writer.write(member, score, reply)),
        Order::Descending => members.rev().for_each(|(member, score)| writer.write(member, score, reply)),
    }
    Ok(())
}

/// ZRANGESTORE dst src min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]
pub(super) fn zrangestore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let query = Query::parse(args, 3, Syntax { by: None, order: None, with_scores: false })?;
    let source = args.get(2);
    let members: Vec<(Cow<'_, [u8]>, f64)> = match ctx.read_as::<Zset>(source)? {
        Some(zset) => zset.range(query.ranks(zset)).map(|(member, score)| (member.to_vec().into(), score)).collect(),
        None => Vec::new(),
    };
    let result = Zset::of_members(&members, &ctx.env());
    store(ctx, args, &[source], result, "zrangestore", reply);
    Ok(())
}

/// ZCOUNT key min max
pub(super) fn zcount(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    count(ctx, args, reply, By::Score)
}

/// ZLEXCOUNT key min max
pub(super) fn zlexcount(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    count(ctx, args, reply, By::Member)
}

fn count(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, by: By) -> Result {
    let bounds = Bounds::parse(by, args.get(2), args.get(3))?;
    let zset = ctx.read_as::<Zset>(args.get(1))?;
    reply.integer(zset.map_or(0, |zset| bounds.ranks(zset, Order::Ascending).len()) as i64);
    Ok(())
}

/// ZREMRANGEBYRANK key start stop
pub(super) fn zremrangebyrank(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    remove(ctx, args, reply, By::Rank, "zremrangebyrank")
}

/// ZREMRANGEBYSCORE key min max
pub(super) fn zremrangebyscore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    remove(ctx, args, reply, By::Score, "zremrangebyscore")
}

/// ZREMRANGEBYLEX key min max
pub(super) fn zremrangebylex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    remove(ctx, args, reply, By::Member, "zremrangebylex")
}

fn remove(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, by: By, event: &'static str) -> Result {
    let bounds = Bounds::parse(by, args.get(2), args.get(3))?;
    let removed = ctx.change::<Zset, _>(args.get(1), |zset, _| {
        let ranks = bounds.ranks(zset, Order::Ascending);
        zset.remove_ranks(ranks.clone());
        ranks.len()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        record(ctx, removed, args.words());
        ctx.notify(Class::ZSET, event, args.get(1));
        ctx.notify_if_gone(args.get(1));
    }
    reply.integer(removed as i64);
    Ok(())
}
