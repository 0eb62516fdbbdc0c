//! Taking members from the ends, and drawing random ones.

use std::collections::HashSet;

use super::super::args::{Args, number_of};
use super::super::ctx::ShardCtx;
use super::super::draws::{self, Draws};
use super::super::error::{Error, Result};
use super::super::events::Class;
use super::{MemberWriter, record, reply_score};
use crate::base::rng::Rng;
use crate::data::listpack::Element;
use crate::data::zset::Zset;
use crate::resp::reply::Reply;

/// Which end members are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Lowest,
    Highest,
}

/// ZPOPMIN key [count]
pub(super) fn zpopmin(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop(ctx, args, reply, End::Lowest)
}

/// ZPOPMAX key [count]
pub(super) fn zpopmax(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop(ctx, args, reply, End::Highest)
}

fn pop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, end: End) -> Result {
    let (count, has_count) = match args.from(2) {
        [] => (1, false),
        [_] => (args.elements(2)?, true),
        _ => return Err(Error::Syntax),
    };
    let popped = take(ctx, args.get(1), end, count)?.unwrap_or_default();
    // Without a count there is one member at most: no need to say which score is whose.
    let in_pairs = has_count && reply.is_resp3() && !popped.is_empty();
    write(&popped, MemberWriter::begin_as(popped.len(), true, in_pairs, reply), reply);
    Ok(())
}

/// ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]
pub(super) fn zmpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if !pop_some_of_first(ctx, args.from(1), reply)? {
        reply.null_array();
    }
    Ok(())
}

/// Pops members of the first sorted set there is, and replies with its key and them; whether there was any. The words
/// are those behind ZMPOP.
pub(super) fn pop_some_of_first(ctx: &mut ShardCtx, words: &[&[u8]], reply: &mut Reply) -> Result<bool> {
    let keys = number_of(words[0], 1, "ERR numkeys should be greater than 0")?;
    let end_at = keys.checked_add(1).filter(|&at| at < words.len()).ok_or(Error::Syntax)?;
    let end = match words[end_at].to_ascii_uppercase().as_slice() {
        b"MIN" => End::Lowest,
        b"MAX" => End::Highest,
        _ => return Err(Error::Syntax),
    };
    let count = match &words[end_at + 1..] {
        [] => 1,
        [option, count, rest @ ..] if option.eq_ignore_ascii_case(b"COUNT") => {
            let count = number_of(count, 1, "ERR count should be greater than 0")?;
            if !rest.is_empty() {
                return Err(Error::Syntax);
            }
            count
        }
        _ => return Err(Error::Syntax),
    };
    for &key in &words[1..end_at] {
        if let Some(popped) = take(ctx, key, end, count)? {
            reply.array(2);
            reply.bulk(key);
            write(&popped, MemberWriter::begin_as(popped.len(), true, true, reply), reply);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Pops a member of the first sorted set there is, and replies with its key, it and its score; whether there was any.
pub(super) fn pop_one_of_first(ctx: &mut ShardCtx, keys: &[&[u8]], end: End, reply: &mut Reply) -> Result<bool> {
    for &key in keys {
        if let Some(popped) = take(ctx, key, end, 1)? {
            reply.array(3);
            reply.bulk(key);
            for (member, score) in &popped {
                reply.bulk(member);
                reply_score(reply, *score);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

type Popped = Vec<(Vec<u8>, f64)>;

/// Removes members from an end; `None` if there is no such key.
fn take(ctx: &mut ShardCtx, key: &[u8], end: End, count: usize) -> Result<Option<Popped>> {
    let popped = ctx.change::<Zset, Popped>(key, |zset, _| {
        let (len, count) = (zset.len(), count.min(zset.len()));
        let owned = |(member, score): (Element<'_>, f64)| (member.to_vec(), score);
        let (ranks, popped) = match end {
            End::Lowest => (0..count, zset.range(0..count).map(owned).collect()),
            End::Highest => (len - count..len, zset.range(len - count..len).rev().map(owned).collect()),
        };
        zset.remove_ranks(ranks);
        popped
    })?;
    if let Some(popped) = popped.as_ref().filter(|popped| !popped.is_empty()) {
        let name: &[u8] = if end == End::Lowest { b"ZPOPMIN" } else { b"ZPOPMAX" };
        record(ctx, popped.len(), &[name, key, itoa::Buffer::new().format(popped.len()).as_bytes()]);
        ctx.notify(Class::ZSET, if end == End::Lowest { "zpopmin" } else { "zpopmax" }, key);
        ctx.notify_if_gone(key);
    }
    Ok(popped)
}

fn write(popped: &Popped, mut writer: MemberWriter, reply: &mut Reply) {
    popped.iter().for_each(|(member, score)| writer.write(Element::Text(member), *score, reply));
}

/// ZRANDMEMBER key [count [WITHSCORES]]
pub(super) fn zrandmember(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if args.len() == 2 {
        let draw = ctx.rng.next_u64();
        match ctx.read_as::<Zset>(args.get(1))? {
            Some(zset) => {
                let rank = below(draw, zset.len());
                let (member, _) = zset.range(rank..rank + 1).next().expect("a rank below the length");
                reply.bulk(&member.to_vec());
            }
            None => reply.null(),
        }
        return Ok(());
    }
    let count = args.signed_count(2)?;
    let with_scores = match args.from(3) {
        [] => false,
        [_] if args.is(3, "WITHSCORES") => true,
        _ => return Err(Error::Syntax),
    };
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(draws::TOO_MANY);
    }
    let draws = Draws::of(count, ctx, reply);
    let mut rng = Rng::new(ctx.rng.next_u64());
    let Some(zset) = ctx.read_as::<Zset>(args.get(1))?.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(());
    };
    if let Some(draws) = draws {
        let draws = draws?;
        let mut writer = MemberWriter::begin(draws.count() as usize, with_scores, reply);
        for _ in 0..draws.count() {
            let rank = rng.below(zset.len() as u64) as usize;
            zset.range(rank..rank + 1).for_each(|(member, score)| writer.write(member, score, reply));
            if draws.go_on(reply).is_break() {
                break;
            }
        }
        return Ok(());
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(zset.len());
    let mut writer = MemberWriter::begin(count, with_scores, reply);
    if count == zset.len() {
        // From the highest, as Redis walks what it returns whole.
        zset.iter().rev().for_each(|(member, score)| writer.write(member, score, reply));
    } else if count > zset.len() / 3 {
        // Each member with the chance of what is wanted among what is left.
        let mut wanted = count;
        for (rank, (member, score)) in zset.iter().enumerate() {
            if rng.below((zset.len() - rank) as u64) < wanted as u64 {
                writer.write(member, score, reply);
                wanted -= 1;
            }
        }
    } else {
        let mut drawn = HashSet::with_capacity(count);
        while drawn.len() < count {
            let rank = rng.below(zset.len() as u64) as usize;
            if drawn.insert(rank) {
                zset.range(rank..rank + 1).for_each(|(member, score)| writer.write(member, score, reply));
            }
        }
    }
    Ok(())
}

/// A uniform number below `end`, from a uniform 64-bit number.
fn below(random: u64, end: usize) -> usize {
    ((u128::from(random) * end as u128) >> 64) as usize
}
