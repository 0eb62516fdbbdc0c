//! Commands on sets.
//!
//! What a set is made of is known to `data::set`; here is which members a command adds, removes or compares, and what is
//! replied and recorded. Commands over several sets see all of them at once: where their keys lie on several shards,
//! they run on copies.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use super::KeyRow;
use super::args::{Args, number_of};
use super::ctx::ShardCtx;
use super::draws::Draws;
use super::error::{Error, Result};
use super::events::Class;
use super::scan::{Scanned, scan_collection};
use super::spec::*;
use crate::base::crc::key_slot;
use crate::data::collection::CollectionType;
use crate::data::entry::{Entry, Value};
use crate::data::listpack::{Digits, Element};
use crate::data::set::{Set, algebra};
use crate::keyspace::access;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SET: Spec = Spec { group: Group::Set, categories: category::SET, shape: OneShard, ..Spec::DEFAULT };

pub const ROWS: &[KeyRow] = &[
    Row {
        run: sadd,
        spec: Spec {
            name: "sadd",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "1.0.0",
            complexity: "O(1) for each member.",
            summary: "Adds members to a set; a missing key is created.",
            args: &[key("key"), string("member").multiple()],
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..SET
        },
    },
    Row {
        run: scard,
        spec: Spec {
            name: "scard",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Counts the members of a set.",
            args: &[key("key")],
            ..SET
        },
    },
    Row {
        run: sdiff,
        spec: Spec {
            name: "sdiff",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[keys_from(1, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members of all sets together.",
            summary: "Returns the members of the first set that are in none of the others.",
            args: &[key("key").multiple()],
            tips: &["nondeterministic_output_order"],
            ..SET
        },
    },
    Row {
        run: sdiffstore,
        spec: Spec {
            name: "sdiffstore",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_from(2, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members of all sets together.",
            summary: "Stores at a key the members of the first set that are in none of the others.",
            args: &[key("destination"), key("key").key_spec(1).multiple()],
            ..SET
        },
    },
    Row {
        run: sinter,
        spec: Spec {
            name: "sinter",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[keys_from(1, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N*M) at worst, where N is the size of the smallest set and M the number of sets.",
            summary: "Returns the members that all sets have in common.",
            args: &[key("key").multiple()],
            tips: &["nondeterministic_output_order"],
            ..SET
        },
    },
    Row {
        run: sintercard,
        spec: Spec {
            name: "sintercard",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[keys_counted_at(1, RO.and(ACCESS))],
            shape: Gather,
            since: "7.0.0",
            complexity: "O(N*M) at worst, where N is the size of the smallest set and M the number of sets.",
            summary: "Counts the members that all sets have in common, up to a limit.",
            args: &[integer("numkeys"), key("key").multiple(), integer("limit").after("LIMIT").optional()],
            ..SET
        },
    },
    Row {
        run: sinterstore,
        spec: Spec {
            name: "sinterstore",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_from(2, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N*M) at worst, where N is the size of the smallest set and M the number of sets.",
            summary: "Stores at a key the members that all sets have in common.",
            args: &[key("destination"), key("key").key_spec(1).multiple()],
            ..SET
        },
    },
    Row {
        run: sismember,
        spec: Spec {
            name: "sismember",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Tells whether a set has a member.",
            args: &[key("key"), string("member")],
            ..SET
        },
    },
    Row {
        run: smembers,
        spec: Spec {
            name: "smembers",
            arity: Exactly(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(N) where N is the size of the set.",
            summary: "Returns all members of a set.",
            args: &[key("key")],
            tips: &["nondeterministic_output_order"],
            ..SET
        },
    },
    Row {
        run: smismember,
        spec: Spec {
            name: "smismember",
            arity: AtLeast(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.2.0",
            complexity: "O(N) where N is the number of members asked for.",
            summary: "Tells of several members whether a set has them.",
            args: &[key("key"), string("member").multiple()],
            ..SET
        },
    },
    Row {
        run: smove,
        spec: Spec {
            name: "smove",
            arity: Exactly(4),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, RW.and(INSERT))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Moves a member from one set to another.",
            args: &[key("source"), key("destination").key_spec(1), string("member")],
            ..SET
        },
    },
    Row {
        run: spop,
        spec: Spec {
            name: "spop",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "1.0.0",
            complexity: "O(1) for each member removed.",
            summary: "Removes random members from a set and returns them.",
            args: &[key("key"), integer("count").since("3.2.0").optional()],
            history: &[("3.2.0", "Added the `count` argument.")],
            tips: &["nondeterministic_output"],
            ..SET
        },
    },
    Row {
        run: srandmember,
        spec: Spec {
            name: "srandmember",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(N) where N is the absolute value of the count, and at most the size of the set more.",
            summary: "Returns random members of a set.",
            args: &[key("key"), integer("count").since("2.6.0").optional()],
            history: &[("2.6.0", "Added the optional `count` argument.")],
            tips: &["nondeterministic_output"],
            ..SET
        },
    },
    Row {
        run: srem,
        spec: Spec {
            name: "srem",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(DELETE))],
            since: "1.0.0",
            complexity: "O(1) for each member.",
            summary: "Removes members from a set; a set left empty is deleted.",
            args: &[key("key"), string("member").multiple()],
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..SET
        },
    },
    Row {
        run: sscan,
        spec: Spec {
            name: "sscan",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.0",
            complexity: "O(1) a call, O(N) for the whole walk over N members.",
            summary: "Walks over the members of a set, a few at a time.",
            args: &[
                key("key"),
                integer("cursor"),
                pattern("pattern").after("MATCH").optional(),
                integer("count").after("COUNT").optional(),
            ],
            tips: &["nondeterministic_output"],
            ..SET
        },
    },
    Row {
        run: sunion,
        spec: Spec {
            name: "sunion",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[keys_from(1, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members of all sets together.",
            summary: "Returns the members of all sets.",
            args: &[key("key").multiple()],
            tips: &["nondeterministic_output_order"],
            ..SET
        },
    },
    Row {
        run: sunionstore,
        spec: Spec {
            name: "sunionstore",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)), keys_from(2, RO.and(ACCESS))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members of all sets together.",
            summary: "Stores at a key the members of all sets.",
            args: &[key("destination"), key("key").key_spec(1).multiple()],
            ..SET
        },
    },
];

/// SREM in place of SPOP names at most so many members, as Redis's does.
const SREM_MEMBERS_MAX: usize = 1024;

/// SADD key member [member ...]
fn sadd(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let members = args.from(2);
    let added = ctx.change_or_create(args.get(1), |set: &mut Set, env| {
        set.expect(members[0], members.len(), env);
        members.iter().filter(|member| set.add(Element::Text(member), env)).count()
    })?;
    if added > 0 {
        record(ctx, added, args.words());
        ctx.notify(Class::SET, "sadd", args.get(1));
    }
    reply.integer(added as i64);
    Ok(())
}

/// SREM key member [member ...]
fn srem(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let members = args.from(2);
    let removed = ctx.change(args.get(1), |set: &mut Set, _| {
        members.iter().filter(|member| set.remove(Element::Text(member))).count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        record(ctx, removed, args.words());
        ctx.notify(Class::SET, "srem", args.get(1));
        ctx.notify_if_gone(args.get(1));
    }
    reply.integer(removed as i64);
    Ok(())
}

/// SMOVE source destination member
fn smove(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (from, to, text) = (args.get(1), args.get(2), args.get(3));
    let member = Element::Text(text);
    let Some(source) = ctx.write_as::<Set>(from)? else {
        reply.integer(0);
        return Ok(());
    };
    let is_member = source.contains(member);
    ctx.write_as::<Set>(to)?;
    if is_member && from != to {
        ctx.change(from, |set: &mut Set, _| set.remove(member))?;
        ctx.effect(&[b"SREM", from, text]);
        ctx.notify(Class::SET, "srem", from);
        ctx.notify_if_gone(from);
        let is_new = ctx.change_or_create(to, |set: &mut Set, env| {
            set.expect(text, 1, env);
            set.add(member, env)
        })?;
        if is_new {
            ctx.effect(&[b"SADD", to, text]);
            ctx.notify(Class::SET, "sadd", to);
        }
    }
    reply.integer(i64::from(is_member));
    Ok(())
}

/// SISMEMBER key member
fn sismember(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let set = ctx.read_as::<Set>(args.get(1))?;
    reply.integer(i64::from(set.is_some_and(|set| set.contains(Element::Text(args.get(2))))));
    Ok(())
}

/// SMISMEMBER key member [member ...]
fn smismember(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let set = ctx.read_as::<Set>(args.get(1))?;
    reply.array(args.from(2).len());
    for member in args.from(2) {
        reply.integer(i64::from(set.is_some_and(|set| set.contains(Element::Text(member)))));
    }
    Ok(())
}

/// SCARD key
fn scard(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply.integer(ctx.read_as::<Set>(args.get(1))?.map_or(0, Set::len) as i64);
    Ok(())
}

/// SMEMBERS key
fn smembers(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match ctx.read_as::<Set>(args.get(1))? {
        Some(set) => reply_members(set, reply),
        None => reply.set(0),
    }
    Ok(())
}

/// SPOP key [count]
fn spop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let count = match args.from(2) {
        [] => None,
        [_] => Some(args.elements(2)?),
        _ => return Err(Error::Syntax),
    };
    let Some(set) = ctx.write_as::<Set>(key)? else {
        if count.is_some() {
            reply.set(0)
        } else {
            reply.null()
        }
        return Ok(());
    };
    let len = set.len();
    match count {
        Some(count) if count >= len => {
            reply_members(set, reply);
            ctx.delete(key);
            let word: &[u8] = if ctx.config.lazyfree_lazy_server_del { b"UNLINK" } else { b"DEL" };
            record(ctx, len, &[word, key]);
            ctx.notify(Class::SET, "spop", key);
            ctx.notify(Class::GENERIC, "del", key);
        }
        Some(0) => reply.set(0),
        Some(count) => {
            reply.set(count);
            pop(ctx, key, count, reply)?;
        }
        None => pop(ctx, key, 1, reply)?,
    }
    Ok(())
}

/// Removes so many random members of a set that has them, replies each, and records which.
fn pop(ctx: &mut ShardCtx, key: &[u8], count: usize, reply: &mut Reply) -> Result {
    let recording = ctx.journal.is_recording();
    let mut popped: Vec<Vec<u8>> = Vec::new();
    ctx.change(key, |set: &mut Set, env| {
        set.pop(count, env.rng, |member| {
            reply_member(member, reply);
            if recording {
                popped.push(member.to_vec());
            }
        });
    })?;
    ctx.journal.dirty += count as u64;
    for members in popped.chunks(SREM_MEMBERS_MAX) {
        let words: Vec<&[u8]> = [b"SREM", key].into_iter().chain(members.iter().map(Vec::as_slice)).collect();
        ctx.journal.uncounted(ctx.db, &words);
    }
    ctx.notify(Class::SET, "spop", key);
    ctx.notify_if_gone(key);
    Ok(())
}

/// SRANDMEMBER key [count]
fn srandmember(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let count = match args.from(2) {
        [] => None,
        [_] => Some(args.signed_count(2)?),
        _ => return Err(Error::Syntax),
    };
    let draws = count.and_then(|count| Draws::of(count, ctx, reply));
    let (sets, env) = ctx.read_all_as::<Set>(&[args.get(1)])?;
    match (sets[0], count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(set), None) => reply_member(set.random(env.rng).expect("a set at a key is not empty"), reply),
        (Some(set), Some(count @ 0..)) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(set.len());
            reply.array(count);
            set.draw_distinct(count, env.rng, |member| reply_member(member, reply));
        }
        (Some(set), Some(_)) => {
            let draws = draws.expect("a negative count is one of draws")?;
            reply.array(draws.count() as usize);
            set.draw(draws.count(), env.rng, |member| {
                reply_member(member, reply);
                draws.go_on(reply)
            });
        }
    }
    Ok(())
}

/// SINTER key [key ...]
fn sinter(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (sets, _) = ctx.read_all_as::<Set>(args.from(1))?;
    let (mut encoded, mut count) = (Vec::new(), 0);
    let mut members = Reply::new(&mut encoded, reply.protocol());
    algebra::intersect(&mut all_or_none(sets), |member| {
        reply_member(member, &mut members);
        count += 1;
        ControlFlow::Continue(())
    });
    reply.set(count);
    reply.raw(&encoded);
    Ok(())
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
fn sintercard(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let numkeys = number_of(args.get(1), 1, "ERR numkeys should be greater than 0")?;
    let options = numkeys.checked_add(2).filter(|&options| options <= args.len()).ok_or(TOO_MANY_KEYS)?;
    let mut limit = 0;
    for index in (options..args.len()).step_by(2) {
        if !args.is(index, "LIMIT") || index + 1 == args.len() {
            return Err(Error::Syntax);
        }
        limit = number_of(args.get(index + 1), 0, "ERR LIMIT can't be negative")?;
    }
    let (sets, _) = ctx.read_all_as::<Set>(&args.words()[2..options])?;
    let mut count = 0;
    algebra::intersect(&mut all_or_none(sets), |_| {
        count += 1;
        if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    reply.integer(count as i64);
    Ok(())
}

const TOO_MANY_KEYS: Error = Error::Text("ERR Number of keys can't be greater than number of args");

/// SINTERSTORE destination key [key ...]
fn sinterstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (sets, env) = ctx.read_all_as::<Set>(args.from(2))?;
    let common = algebra::intersection(&mut all_or_none(sets), &env);
    store(ctx, args, common, "sinterstore", reply);
    Ok(())
}

/// SUNION key [key ...]
fn sunion(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply_members(&union(ctx, args.from(1))?, reply);
    Ok(())
}

/// SUNIONSTORE destination key [key ...]
fn sunionstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let all = union(ctx, args.from(2))?;
    store(ctx, args, all, "sunionstore", reply);
    Ok(())
}

/// SDIFF key [key ...]
fn sdiff(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply_members(&difference(ctx, args.from(1))?, reply);
    Ok(())
}

/// SDIFFSTORE destination key [key ...]
fn sdiffstore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let left = difference(ctx, args.from(2))?;
    store(ctx, args, left, "sdiffstore", reply);
    Ok(())
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
fn sscan(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    scan_collection(ctx, args, reply, Scanned::Set, |set: &Set, cursor, options, found| {
        set.scan(cursor, options.count, |member| {
            let mut digits = Digits::new();
            let text = member.text(&mut digits);
            if options.pattern.matches(text) {
                found.push(text);
            }
        })
    })
}

/// The sets of an intersection; none if a key is missing, as that is an empty set.
fn all_or_none(sets: Vec<Option<&Set>>) -> Vec<&Set> {
    sets.into_iter().collect::<Option<_>>().unwrap_or_default()
}

fn union(ctx: &mut ShardCtx, keys: &[&[u8]]) -> Result<Set> {
    let (sets, env) = ctx.read_all_as::<Set>(keys)?;
    let sets: Vec<&Set> = sets.into_iter().flatten().collect();
    Ok(algebra::union(&sets, &env))
}

fn difference(ctx: &mut ShardCtx, keys: &[&[u8]]) -> Result<Set> {
    let (sets, env) = ctx.read_all_as::<Set>(keys)?;
    let mut others: Vec<&Set> = sets[1..].iter().copied().flatten().collect();
    Ok(sets[0].map_or_else(Set::empty, |first| algebra::difference(first, &mut others, &env)))
}

/// Makes the destination hold a set, whatever it held, and replies its size. An empty set is no key.
fn store(ctx: &mut ShardCtx, args: &Args, set: Set, event: &'static str, reply: &mut Reply) {
    let (key, len) = (args.get(1), set.len());
    let existed = ctx.delete(key);
    if len > 0 {
        let entry = Entry::new(key, Value::Collection(set.into()), None, access::initial(ctx.now, &ctx.config));
        let put = if existed { ShardCtx::put_again } else { ShardCtx::put_entry };
        // An effect over several slots could not follow all of them to another shard.
        if args.from(2).iter().all(|source| key_slot(source) == key_slot(key)) {
            put(ctx, key, entry);
            ctx.effect(args.words());
        } else {
            ctx.value_effect(key, entry.as_ref());
            put(ctx, key, entry);
        }
        ctx.notify(Class::SET, event, key);
    } else if existed {
        ctx.effect(&[b"DEL", key]);
        ctx.notify(Class::GENERIC, "del", key);
    }
    reply.integer(len as i64);
}

/// Records an effect that Redis counts as so many changes.
fn record(ctx: &mut ShardCtx, changes: usize, words: &[&[u8]]) {
    ctx.journal.dirty += changes as u64;
    ctx.journal.uncounted(ctx.db, words);
}

fn reply_members(set: &Set, reply: &mut Reply) {
    reply.set(set.len());
    set.members().for_each(|member| reply_member(member, reply));
}

fn reply_member(member: Element<'_>, reply: &mut Reply) {
    match member {
        Element::Int(n) => reply.bulk_integer(n),
        Element::Text(text) => reply.bulk(text),
    }
}
