//! ZADD and ZINCRBY, whose difference is one option, and ZREM.

use smallvec::SmallVec;

use super::super::args::Args;
use super::super::ctx::ShardCtx;
use super::super::error::{Error, Result};
use super::super::events::Class;
use super::{record, reply_score, score_text};
use crate::base::number::parse_f64;
use crate::data::zset::{Added, Zset};
use crate::resp::reply::Reply;

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]
pub(in crate::command) fn zadd(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    add(ctx, args, reply, AddOptions::default())
}

/// ZINCRBY key increment member
pub(super) fn zincrby(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    add(ctx, args, reply, AddOptions { increment: true, ..AddOptions::default() })
}

#[derive(Clone, Copy, Default)]
struct AddOptions {
    if_absent: bool,
    if_present: bool,
    if_greater: bool,
    if_less: bool,
    /// The reply counts members that changed, too.
    count_changed: bool,
    increment: bool,
}

impl AddOptions {
    /// Reads options up to the first word that is none; returns where that is.
    fn read(&mut self, args: &Args, from: usize) -> usize {
        let mut index = from;
        while index < args.len() {
            let option = match args.get(index).to_ascii_uppercase().as_slice() {
                b"NX" => &mut self.if_absent,
                b"XX" => &mut self.if_present,
                b"GT" => &mut self.if_greater,
                b"LT" => &mut self.if_less,
                b"CH" => &mut self.count_changed,
                b"INCR" => &mut self.increment,
                _ => break,
            };
            *option = true;
            index += 1;
        }
        index
    }

    fn check(&self, pairs: usize) -> Result {
        if self.if_absent && self.if_present {
            return Err(Error::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if (self.if_greater && (self.if_absent || self.if_less)) || (self.if_less && self.if_absent) {
            return Err(Error::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && pairs > 1 {
            return Err(Error::Text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// Does the score that a member has matter?
    fn look_at_current(&self) -> bool {
        self.if_absent || self.if_present || self.if_greater || self.if_less || self.increment
    }

    /// The score that a member is to have from now on; `None`: the options forbid.
    fn resolve(&self, current: Option<f64>, given: f64) -> Result<Option<f64>> {
        let Some(current) = current else { return Ok(Some(given).filter(|_| !self.if_present)) };
        if self.if_absent {
            return Ok(None);
        }
        let wanted = if self.increment { current + given } else { given };
        if wanted.is_nan() {
            return Err(Error::Text("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.if_less && wanted >= current) || (self.if_greater && wanted <= current);
        Ok(Some(wanted).filter(|_| !refused))
    }
}

/// What became of all pairs.
#[derive(Default)]
struct Outcome<'a> {
    added: i64,
    changed: i64,
    /// The last pair's score, unless the options forbade.
    score: Option<f64>,
    /// Which pairs had an effect, as they were given.
    effective: SmallVec<[(&'a [u8], &'a [u8]); 4]>,
}

fn add(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, options: AddOptions) -> Result {
    let mut options = options;
    let from = options.read(args, 2);
    let (pairs, rest) = args.from(from).as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(Error::Syntax);
    }
    options.check(pairs.len())?;
    let scores: Result<SmallVec<[f64; 8]>> =
        pairs.iter().map(|[score, _]| parse_f64(score).ok_or(Error::NotAFloat)).collect();
    let scores = scores?;

    let key = args.get(1);
    if options.if_present && ctx.write_as::<Zset>(key)?.is_none() {
        reply_to_add(reply, &options, &Outcome::default());
        return Ok(());
    }
    let value_len_max = pairs.iter().map(|[_, member]| member.len()).max().unwrap_or(0);
    let outcome = ctx.change_or_create::<Zset, Result<Outcome<'_>>>(key, |zset, env| {
        let mut outcome = Outcome::default();
        zset.expect(pairs.len(), value_len_max, env);
        for ([text, member], &given) in pairs.iter().zip(&scores) {
            // Only an increment can fail, and that has a single pair.
            let current = if options.look_at_current() { zset.score(member) } else { None };
            outcome.score = options.resolve(current, given)?;
            let Some(score) = outcome.score else { continue };
            match zset.add(member, score, env) {
                Added::New => outcome.added += 1,
                Added::Changed => outcome.changed += 1,
                Added::Same => continue,
            }
            outcome.effective.push((text, member));
        }
        Ok(outcome)
    })??;
    if !outcome.effective.is_empty() {
        let text = outcome.score.filter(|_| options.increment).map(score_text);
        let mut words: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(&[b"ZADD", key]);
        outcome.effective.iter().for_each(|(score, member)| words.extend([*score, *member]));
        if let Some(text) = &text {
            words[2] = text;
        }
        record(ctx, outcome.effective.len(), &words);
        ctx.notify(Class::ZSET, if options.increment { "zincr" } else { "zadd" }, key);
    }
    reply_to_add(reply, &options, &outcome);
    Ok(())
}

fn reply_to_add(reply: &mut Reply, options: &AddOptions, outcome: &Outcome<'_>) {
    match outcome.score {
        Some(score) if options.increment => reply_score(reply, score),
        None if options.increment => reply.null(),
        _ => reply.integer(outcome.added + if options.count_changed { outcome.changed } else { 0 }),
    }
}

/// ZREM key member [member ...]
pub(super) fn zrem(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let removed = ctx.change::<Zset, _>(key, |zset, _| {
        let members = args.from(2).iter().copied();
        members.filter(|member| zset.remove(member).is_some()).collect::<SmallVec<[&[u8]; 8]>>()
    })?;
    let removed = removed.unwrap_or_default();
    if !removed.is_empty() {
        let mut words: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(&[b"ZREM", key]);
        words.extend_from_slice(&removed);
        record(ctx, removed.len(), &words);
        ctx.notify(Class::ZSET, "zrem", key);
        ctx.notify_if_gone(key);
    }
    reply.integer(removed.len() as i64);
    Ok(())
}
