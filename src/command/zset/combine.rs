//! Union, intersection and difference of sorted sets, and of plain sets, whose members all have the score 1.
//!
//! The order of checks is Redis's: how many keys, what they hold, then the options. A result is made as a list of
//! members, borrowed from the inputs where they hold them as text, and only then answered, counted or stored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;

use ahash::RandomState;

use super::super::args::{Args, number_of};
use super::super::ctx::ShardCtx;
use super::super::error::{Error, Result};
use super::super::events::Class;
use super::MemberWriter;
use crate::base::crc::key_slot;
use crate::base::number::parse_f64;
use crate::data::collection::{Collection, Env};
use crate::data::entry::{Entry, EntryRef, Value, ValueRef};
use crate::data::listpack::Element;
use crate::data::set::Set;
use crate::data::zset::{Zset, sort_members};
use crate::keyspace::{Keyspace, access};
use crate::resp::reply::Reply;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores that a member has in several inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities that cancel out.
            Aggregate::Sum => number_or_zero(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input, as it lies in the keyspace.
#[derive(Clone, Copy)]
enum Input<'a> {
    Missing,
    Zset(&'a Zset),
    Set(&'a Set),
}

impl<'a> Input<'a> {
    fn of(entry: EntryRef<'a>) -> Result<Input<'a>> {
        match entry.value() {
            ValueRef::Collection(Collection::Zset(zset)) => Ok(Input::Zset(zset)),
            ValueRef::Collection(Collection::Set(set)) => Ok(Input::Set(set)),
            _ => Err(Error::WrongType),
        }
    }

    fn len(self) -> usize {
        match self {
            Input::Missing => 0,
            Input::Zset(zset) => zset.len(),
            Input::Set(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Input::Missing => None,
            Input::Zset(zset) => zset.score(member),
            Input::Set(set) => set.contains(Element::of(member)).then_some(1.0),
        }
    }

    fn members(self) -> impl Iterator<Item = Member<'a>> {
        let (zset, set) = match self {
            Input::Missing => (None, None),
            Input::Zset(zset) => (Some(zset), None),
            Input::Set(set) => (None, Some(set)),
        };
        let of_set = set.into_iter().flat_map(Set::members).map(|member| (text_of(member), 1.0));
        let of_zset = zset.into_iter().flat_map(Zset::iter).map(|(member, score)| (text_of(member), score));
        of_zset.chain(of_set)
    }
}

type Member<'a> = (Cow<'a, [u8]>, f64);

fn text_of(element: Element<'_>) -> Cow<'_, [u8]> {
    match element {
        Element::Text(text) => Cow::Borrowed(text),
        Element::Int(_) => Cow::Owned(element.to_vec()),
    }
}

/// The keys behind a number that counts them, looked up and seen to hold sets; and where the options begin.
fn parse_keys<'a>(ctx: &mut ShardCtx, args: &Args<'a>, at: usize, name: &str) -> Result<(&'a [&'a [u8]], usize)> {
    let count = args.integer(at)?;
    if count < 1 {
        return Err(Error::dynamic(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let words = args.from(at + 1);
    let keys = usize::try_from(count).ok().and_then(|count| words.get(..count)).ok_or(Error::Syntax)?;
    for key in keys {
        if let Some(entry) = ctx.read(key) {
            Input::of(entry)?;
        }
    }
    Ok((keys, at + 1 + keys.len()))
}

struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// ZINTERCARD: 0 for all.
    limit: usize,
}

/// Which options a command has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    /// WEIGHTS, AGGREGATE and WITHSCORES; of them, a difference takes the last only.
    Read,
    /// The same, without WITHSCORES.
    Store,
    /// LIMIT
    Count,
}

impl Options {
    fn parse(args: &Args, from: usize, keys: usize, operation: Operation, syntax: Syntax) -> Result<Options> {
        let mut options = Options { weights: vec![1.0; keys], aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let combines = operation != Operation::Difference && syntax != Syntax::Count;
        let mut index = from;
        while index < args.len() {
            let left = args.len() - index;
            match args.get(index).to_ascii_uppercase().as_slice() {
                b"WEIGHTS" if combines && left > keys => {
                    for (weight, text) in options.weights.iter_mut().zip(args.from(index + 1)) {
                        *weight = parse_f64(text).ok_or(Error::Text("ERR weight value is not a float"))?;
                    }
                    index += 1 + keys;
                }
                b"AGGREGATE" if combines && left >= 2 => {
                    options.aggregate = match args.get(index + 1).to_ascii_uppercase().as_slice() {
                        b"SUM" => Aggregate::Sum,
                        b"MIN" => Aggregate::Min,
                        b"MAX" => Aggregate::Max,
                        _ => return Err(Error::Syntax),
                    };
                    index += 2;
                }
                b"WITHSCORES" if syntax == Syntax::Read => {
                    options.with_scores = true;
                    index += 1;
                }
                b"LIMIT" if syntax == Syntax::Count && left >= 2 => {
                    options.limit = number_of(args.get(index + 1), 0, "ERR LIMIT can't be negative")?;
                    index += 2;
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }
}

/// The inputs of keys that were looked up just now.
fn inputs<'a>(keyspace: &'a Keyspace, db: usize, keys: &[&[u8]]) -> Vec<Input<'a>> {
    let input = |key: &&[u8]| match keyspace.db(db).get(keyspace.hash(key), key) {
        Some(entry) => Input::of(entry).expect("the type was looked at"),
        None => Input::Missing,
    };
    keys.iter().map(input).collect()
}

/// The members of the result, in no order. Redis takes the smaller inputs first, which decides how sums are rounded.
fn combine<'a>(operation: Operation, inputs: &[Input<'a>], options: &Options) -> Vec<Member<'a>> {
    let mut inputs: Vec<(Input<'a>, f64)> = inputs.iter().copied().zip(options.weights.iter().copied()).collect();
    if operation != Operation::Difference {
        inputs.sort_by_key(|(input, _)| input.len());
    }
    let (&(first, weight), others) = inputs.split_first().expect("one key at least");
    match operation {
        Operation::Union => union(&inputs, options.aggregate),
        Operation::Intersection => {
            let in_all = |(member, score): Member<'a>| {
                let mut sum = number_or_zero(weight * score);
                for (other, weight) in others {
                    sum = options.aggregate.of(sum, weight * other.score(&member)?);
                }
                Some((member, sum))
            };
            first.members().filter_map(in_all).collect()
        }
        Operation::Difference => {
            let in_none = |member: &Member<'a>| others.iter().all(|(other, _)| other.score(&member.0).is_none());
            first.members().filter(in_none).collect()
        }
    }
}

fn union<'a>(inputs: &[(Input<'a>, f64)], aggregate: Aggregate) -> Vec<Member<'a>> {
    // The order of the map is never seen; fixed seeds save drawing some.
    let mut scores: HashMap<Cow<'a, [u8]>, f64, RandomState> =
        HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
    for (input, weight) in inputs {
        for (member, score) in input.members() {
            let score = number_or_zero(weight * score);
            match scores.entry(member) {
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(score);
                }
                hash_map::Entry::Occupied(mut occupied) => *occupied.get_mut() = aggregate.of(*occupied.get(), score),
            }
        }
    }
    scores.into_iter().collect()
}

/// ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
pub(super) fn zunion(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Operation::Union, "zunion")
}

/// ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
pub(super) fn zinter(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Operation::Intersection, "zinter")
}

/// ZDIFF numkeys key [key ...] [WITHSCORES]
pub(super) fn zdiff(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read(ctx, args, reply, Operation::Difference, "zdiff")
}

fn read(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, operation: Operation, name: &str) -> Result {
    let (keys, options_at) = parse_keys(ctx, args, 1, name)?;
    let options = Options::parse(args, options_at, keys.len(), operation, Syntax::Read)?;
    let mut members = combine(operation, &inputs(&ctx.keyspace, ctx.db, keys), &options);
    sort_members(&mut members);
    let mut writer = MemberWriter::begin(members.len(), options.with_scores, reply);
    members.iter().for_each(|(member, score)| writer.write(Element::Text(member), *score, reply));
    Ok(())
}

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]
pub(super) fn zintercard(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (keys, options_at) = parse_keys(ctx, args, 1, "zintercard")?;
    let options = Options::parse(args, options_at, keys.len(), Operation::Intersection, Syntax::Count)?;
    let mut inputs = inputs(&ctx.keyspace, ctx.db, keys);
    inputs.sort_by_key(|input| input.len());
    let (first, others) = inputs.split_first().expect("one key at least");
    let in_all = |(member, _): &Member<'_>| others.iter().all(|other| other.score(member).is_some());
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    reply.integer(first.members().filter(in_all).take(limit).count() as i64);
    Ok(())
}

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX]
pub(super) fn zunionstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read_and_store(ctx, args, reply, Operation::Union, "zunionstore")
}

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX]
pub(super) fn zinterstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read_and_store(ctx, args, reply, Operation::Intersection, "zinterstore")
}

/// ZDIFFSTORE destination numkeys key [key ...]
pub(super) fn zdiffstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    read_and_store(ctx, args, reply, Operation::Difference, "zdiffstore")
}

/// The command's name is its event's, too.
fn read_and_store(
    ctx: &mut ShardCtx,
    args: &Args,
    reply: &mut Reply,
    operation: Operation,
    name: &'static str,
) -> Result {
    let (keys, options_at) = parse_keys(ctx, args, 2, name)?;
    let options = Options::parse(args, options_at, keys.len(), operation, Syntax::Store)?;
    let mut members = combine(operation, &inputs(&ctx.keyspace, ctx.db, keys), &options);
    sort_members(&mut members);
    let (seeds, packed_threshold) = (ctx.keyspace.seeds(), ctx.packed_threshold);
    let env = Env { config: &ctx.config, seeds, now_ms: ctx.now.unix_ms, rng: &mut ctx.rng, packed_threshold };
    let result = Zset::of_members(&members, &env);
    store(ctx, args, keys, result, name, reply);
    Ok(())
}

/// Makes a key hold a result, or nothing if that is empty.
pub(super) fn store(
    ctx: &mut ShardCtx,
    args: &Args,
    sources: &[&[u8]],
    result: Zset,
    event: &'static str,
    reply: &mut Reply,
) {
    store_at(ctx, args, args.get(1), sources, result, event, reply);
}

/// The same for a command whose target is any of its arguments.
pub(in crate::command) fn store_at(
    ctx: &mut ShardCtx,
    args: &Args,
    key: &[u8],
    sources: &[&[u8]],
    result: Zset,
    event: &'static str,
    reply: &mut Reply,
) {
    let len = result.len();
    let existed = ctx.delete(key);
    if len > 0 {
        let entry = Entry::new(key, Value::Collection(result.into()), None, access::initial(ctx.now, &ctx.config));
        let put = if existed { ShardCtx::put_again } else { ShardCtx::put_entry };
        // An effect over several slots could not follow all of them to another shard.
        if sources.iter().all(|source| key_slot(source) == key_slot(key)) {
            put(ctx, key, entry);
            ctx.effect(args.words());
        } else {
            ctx.value_effect(key, entry.as_ref());
            put(ctx, key, entry);
        }
        ctx.notify(Class::ZSET, event, key);
    } else if existed {
        ctx.effect(&[b"DEL", key]);
        ctx.notify(Class::GENERIC, "del", key);
    }
    reply.integer(len as i64);
}
