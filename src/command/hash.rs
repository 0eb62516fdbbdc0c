//! Commands on hashes.
//!
//! A hash is a listpack or a table, and its fields may have times of their own ([`Hash`]); handlers see neither. What
//! has expired is gone by the time a handler looks a key up, but for fields of a large table of which there were too many
//! to remove at once: reads pass these over, and `change` removes those it is told of, with an effect of their own.

pub mod times;

use super::KeyFn;
use super::args::Args;
use super::ctx::ShardCtx;
use super::draws::{self, Draws};
use super::error::{Error, Result};
use super::events::Class;
use super::scan::{Scanned, scan_collection};
use super::spec::*;
use crate::base::long_double::LongDouble;
use crate::base::number::parse_i64;
use crate::base::rng::Rng;
use crate::data::collection::Env;
use crate::data::hash::{FieldTime, Hash, Pair};
use crate::data::listpack::{Digits, Element};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const HASH: Spec = Spec { group: Group::Hash, categories: category::HASH, shape: OneShard, ..Spec::DEFAULT };

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: hdel,
        spec: Spec {
            name: "hdel",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(DELETE))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields given.",
            summary: "Removes fields from a hash, and the key with the last of them.",
            args: &[key("key"), string("field").multiple()],
            history: &[("2.4.0", "Accepts multiple `field` arguments.")],
            ..HASH
        },
    },
    Row {
        run: hexists,
        spec: Spec {
            name: "hexists",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Tells whether a hash has a field.",
            args: &[key("key"), string("field")],
            ..HASH
        },
    },
    Row {
        run: hget,
        spec: Spec {
            name: "hget",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Reads the value of a field.",
            args: &[key("key"), string("field")],
            ..HASH
        },
    },
    Row {
        run: hgetall,
        spec: Spec {
            name: "hgetall",
            arity: Exactly(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields of the hash.",
            summary: "Reads all fields of a hash, with their values.",
            args: &[key("key")],
            tips: &["nondeterministic_output_order"],
            ..HASH
        },
    },
    Row {
        run: hincrby,
        spec: Spec {
            name: "hincrby",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Adds a number to an integer value of a field; a missing field counts as 0.",
            args: &[key("key"), string("field"), integer("increment")],
            ..HASH
        },
    },
    Row {
        run: hincrbyfloat,
        spec: Spec {
            name: "hincrbyfloat",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Adds a floating point number to the value of a field; a missing field counts as 0.",
            args: &[key("key"), string("field"), double("increment")],
            ..HASH
        },
    },
    Row {
        run: hkeys,
        spec: Spec {
            name: "hkeys",
            arity: Exactly(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields of the hash.",
            summary: "Lists the fields of a hash.",
            args: &[key("key")],
            tips: &["nondeterministic_output_order"],
            ..HASH
        },
    },
    Row {
        run: hlen,
        spec: Spec {
            name: "hlen",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Counts the fields of a hash.",
            args: &[key("key")],
            ..HASH
        },
    },
    Row {
        run: hmget,
        spec: Spec {
            name: "hmget",
            arity: AtLeast(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields given.",
            summary: "Reads the values of several fields.",
            args: &[key("key"), string("field").multiple()],
            ..HASH
        },
    },
    Row {
        run: hmset,
        spec: Spec {
            name: "hmset",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields given.",
            summary: "Stores the values of several fields.",
            args: &[key("key"), block("data", &[string("field"), string("value")]).multiple()],
            deprecated: Some(Deprecated { since: "4.0.0", replaced_by: "`HSET` with multiple field-value pairs" }),
            ..HASH
        },
    },
    Row {
        run: hrandfield,
        spec: Spec {
            name: "hrandfield",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.2.0",
            complexity: "O(N) where N is the number of fields returned.",
            summary: "Picks fields of a hash at random.",
            args: &[key("key"), block("options", &[integer("count"), token("WITHVALUES").optional()]).optional()],
            tips: &["nondeterministic_output"],
            ..HASH
        },
    },
    Row {
        run: hscan,
        spec: Spec {
            name: "hscan",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.0",
            complexity: "O(1) for each call, O(N) for a walk to the end, where N is the number of fields of the hash.",
            summary: "Walks through the fields of a hash, some at a time, by means of a cursor.",
            args: &[
                key("key"),
                integer("cursor"),
                pattern("pattern").after("MATCH").optional(),
                integer("count").after("COUNT").optional(),
                token("NOVALUES").optional(),
            ],
            tips: &["nondeterministic_output"],
            ..HASH
        },
    },
    Row {
        run: hset,
        spec: Spec {
            name: "hset",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields given.",
            summary: "Stores the values of fields, and counts the fields that are new.",
            args: &[key("key"), block("data", &[string("field"), string("value")]).multiple()],
            history: &[("4.0.0", "Accepts multiple `field` and `value` arguments.")],
            ..HASH
        },
    },
    Row {
        run: hsetnx,
        spec: Spec {
            name: "hsetnx",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Stores the value of a field only if the hash does not have it.",
            args: &[key("key"), string("field"), string("value")],
            ..HASH
        },
    },
    Row {
        run: hstrlen,
        spec: Spec {
            name: "hstrlen",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Returns how many bytes the value of a field has.",
            args: &[key("key"), string("field")],
            ..HASH
        },
    },
    Row {
        run: hvals,
        spec: Spec {
            name: "hvals",
            arity: Exactly(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields of the hash.",
            summary: "Lists the values of a hash.",
            args: &[key("key")],
            tips: &["nondeterministic_output_order"],
            ..HASH
        },
    },
];

/// HSET key field value [field value ...]
fn hset(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let added = store_pairs(ctx, args, "hset")?;
    reply.integer(added);
    Ok(())
}

/// HMSET key field value [field value ...]
fn hmset(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    store_pairs(ctx, args, "hmset")?;
    reply.ok();
    Ok(())
}

/// Stores all pairs, and counts the fields that are new.
fn store_pairs(ctx: &mut ShardCtx, args: &Args, command: &str) -> Result<i64> {
    if args.len() % 2 == 1 {
        return Err(Error::arity(command));
    }
    let (key, pairs) = (args.get(1), args.from(2));
    let added = change_or_create(ctx, key, pairs.iter().step_by(2), |hash, env| {
        hash.make_room(pairs, env);
        let is_new = |pair: &[&[u8]]| hash.set(pair[0], pair[1], FieldTime::Clear, env);
        pairs.chunks_exact(2).map(is_new).filter(|&is_new| is_new).count()
    })?;
    ctx.effect(args.words());
    ctx.notify(Class::HASH, "hset", key);
    Ok(added as i64)
}

/// HSETNX key field value
fn hsetnx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, field, now_ms) = (args.get(1), args.get(2), ctx.expiry_ms());
    let absent = ctx.write_as::<Hash>(key)?.is_none_or(|hash| hash.get(field, now_ms).is_none());
    if absent {
        change_or_create(ctx, key, [field].iter(), |hash, env| {
            hash.set(field, args.get(3), FieldTime::Clear, env);
        })?;
        ctx.effect(args.words());
        ctx.notify(Class::HASH, "hset", key);
    }
    reply.integer(i64::from(absent));
    Ok(())
}

/// HGET key field
fn hget(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    let value = ctx.read_as::<Hash>(args.get(1))?.and_then(|hash| hash.get(args.get(2), now_ms));
    reply_value(value, reply);
    Ok(())
}

/// HMGET key field [field ...]
fn hmget(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    let hash = ctx.read_as::<Hash>(args.get(1))?;
    let fields = args.from(2);
    reply.array(fields.len());
    fields.iter().for_each(|field| reply_value(hash.and_then(|hash| hash.get(field, now_ms)), reply));
    Ok(())
}

/// HGETALL key
fn hgetall(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    let Some(hash) = ctx.read_as::<Hash>(args.get(1))? else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.live_len(now_ms));
    for (field, value) in hash.iter(now_ms) {
        reply_element(field, reply);
        reply_element(value, reply);
    }
    Ok(())
}

/// HKEYS key
fn hkeys(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    list_column(ctx, args, reply, |(field, _)| field)
}

/// HVALS key
fn hvals(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    list_column(ctx, args, reply, |(_, value)| value)
}

fn list_column(
    ctx: &mut ShardCtx,
    args: &Args,
    reply: &mut Reply,
    column: for<'a> fn(Pair<'a>) -> Element<'a>,
) -> Result {
    let now_ms = ctx.expiry_ms();
    let Some(hash) = ctx.read_as::<Hash>(args.get(1))? else {
        reply.array(0);
        return Ok(());
    };
    reply.array(hash.live_len(now_ms));
    hash.iter(now_ms).for_each(|pair| reply_element(column(pair), reply));
    Ok(())
}

/// HDEL key field [field ...]
fn hdel(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, fields) = (args.get(1), args.from(2));
    let removed = change(ctx, key, fields.iter(), |hash, _| fields.iter().filter(|field| hash.remove(field)).count())?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        ctx.effect(args.words());
        ctx.notify(Class::HASH, "hdel", key);
        ctx.notify_if_gone(key);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// HLEN key
fn hlen(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let len = ctx.read_as::<Hash>(args.get(1))?.map_or(0, Hash::len);
    reply.integer(len as i64);
    Ok(())
}

/// HEXISTS key field
fn hexists(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    let exists = ctx.read_as::<Hash>(args.get(1))?.is_some_and(|hash| hash.get(args.get(2), now_ms).is_some());
    reply.integer(i64::from(exists));
    Ok(())
}

/// HSTRLEN key field
fn hstrlen(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    let value = ctx.read_as::<Hash>(args.get(1))?.and_then(|hash| hash.get(args.get(2), now_ms));
    reply.integer(value.map_or(0, Element::len) as i64);
    Ok(())
}

/// HINCRBY key field increment
fn hincrby(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, field, now_ms) = (args.get(1), args.get(2), ctx.expiry_ms());
    let by = args.integer(3)?;
    let value = ctx.write_as::<Hash>(key)?.and_then(|hash| hash.get(field, now_ms));
    let value = match value {
        None => 0,
        Some(Element::Int(n)) => n,
        Some(Element::Text(text)) => parse_i64(text).ok_or(Error::Text("ERR hash value is not an integer"))?,
    };
    let sum = value.checked_add(by).ok_or(Error::Overflow)?;
    change_or_create(ctx, key, [field].iter(), |hash, env| {
        hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), FieldTime::Keep, env);
    })?;
    ctx.effect(args.words());
    ctx.notify(Class::HASH, "hincrby", key);
    reply.integer(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment
fn hincrbyfloat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, field, now_ms) = (args.get(1), args.get(2), ctx.expiry_ms());
    let by = LongDouble::parse(args.get(3)).ok_or(Error::NotAFloat)?;
    if !by.is_finite() {
        return Err(Error::Text("ERR value is NaN or Infinity"));
    }
    let hash = ctx.write_as::<Hash>(key)?;
    let has_time = hash.and_then(|hash| hash.field_time(field, now_ms)).flatten().is_some();
    let value = match hash.and_then(|hash| hash.get(field, now_ms)) {
        None => LongDouble::ZERO,
        Some(text) => {
            let value = LongDouble::parse(text.text(&mut Digits::new()));
            value.ok_or(Error::Text("ERR hash value is not a float"))?
        }
    };
    let sum = value.checked_add(by).ok_or(Error::Text("ERR increment would produce NaN or Infinity"))?.to_text();
    change_or_create(ctx, key, [field].iter(), |hash, env| {
        hash.set(field, sum.as_bytes(), FieldTime::Keep, env);
    })?;
    // Another machine may add other long doubles, or print them differently.
    let pair = [field, sum.as_bytes()];
    if has_time {
        times::record_stored_keeping_time(ctx, key, &pair);
    } else {
        ctx.effect(&[&[b"HSET".as_slice(), key], &pair[..]].concat());
    }
    ctx.notify(Class::HASH, "hincrbyfloat", key);
    reply.bulk(sum.as_bytes());
    Ok(())
}

/// HRANDFIELD key [count [WITHVALUES]]
fn hrandfield(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    let mut rng = Rng::new(ctx.rng.next_u64());
    if args.len() == 2 {
        let drawn = ctx.read_as::<Hash>(key)?.and_then(|hash| hash.random(now_ms, &mut rng));
        reply_value(drawn.map(|(field, _)| field), reply);
        return Ok(());
    }
    let count = args.signed_count(2)?;
    let with_values = args.len() > 3;
    if args.len() > 4 || (with_values && !args.is(3, "WITHVALUES")) {
        return Err(Error::Syntax);
    }
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(draws::TOO_MANY);
    }
    let draws = Draws::of(count, ctx, reply);
    let Some(hash) = ctx.read_as::<Hash>(key)? else {
        reply.array(0);
        return Ok(());
    };
    let nested = with_values && reply.is_resp3();
    let head = |reply: &mut Reply, pairs: usize| reply.array(if with_values && !nested { 2 * pairs } else { pairs });
    let write = |reply: &mut Reply, (field, value): Pair<'_>| {
        if nested {
            reply.array(2);
        }
        reply_element(field, reply);
        if with_values {
            reply_element(value, reply);
        }
    };
    let Some(draws) = draws else {
        let drawn = hash.distinct(usize::try_from(count).unwrap_or(usize::MAX), now_ms, &mut rng);
        head(reply, drawn.len());
        drawn.into_iter().for_each(|pair| write(reply, pair));
        return Ok(());
    };
    let draws = draws?;
    if hash.random(now_ms, &mut rng).is_none() {
        head(reply, 0);
        return Ok(());
    }
    head(reply, draws.count() as usize);
    for _ in 0..draws.count() {
        write(reply, hash.random(now_ms, &mut rng).expect("some field has not expired"));
        if draws.go_on(reply).is_break() {
            break;
        }
    }
    Ok(())
}

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
fn hscan(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.expiry_ms();
    scan_collection::<Hash>(ctx, args, reply, Scanned::Hash, |hash, cursor, options, found| {
        hash.scan(cursor, options.count, now_ms, |(field, value)| {
            let (mut digits, mut value_digits) = (Digits::new(), Digits::new());
            let field = field.text(&mut digits);
            if options.pattern.matches(field) {
                found.push(field);
                if !options.no_values {
                    found.push(value.text(&mut value_digits));
                }
            }
        })
    })
}

/// Lets `change` modify the hash at a key, when those of the fields that have expired are gone: a field that is written
/// again begins anew. `None` if there is no such key.
fn change<'a, R>(
    ctx: &mut ShardCtx,
    key: &[u8],
    fields: impl Iterator<Item = &'a &'a [u8]>,
    change: impl FnOnce(&mut Hash, &mut Env<'_>) -> R,
) -> Result<Option<R>> {
    let result = ctx.change::<Hash, _>(key, |hash, env| {
        let expired = hash.remove_expired(fields.copied(), env.now_ms);
        (expired, change(hash, env))
    })?;
    Ok(result.map(|(expired, result)| {
        record_expired(ctx, key, &expired);
        result
    }))
}

/// The same, beginning with an empty hash if there is no such key.
fn change_or_create<'a, R>(
    ctx: &mut ShardCtx,
    key: &[u8],
    fields: impl Iterator<Item = &'a &'a [u8]>,
    change: impl FnOnce(&mut Hash, &mut Env<'_>) -> R,
) -> Result<R> {
    let (expired, result) = ctx.change_or_create::<Hash, _>(key, |hash, env| {
        let expired = hash.remove_expired(fields.copied(), env.now_ms);
        (expired, change(hash, env))
    })?;
    record_expired(ctx, key, &expired);
    Ok(result)
}

fn record_expired(ctx: &mut ShardCtx, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() {
        let words = [&[b"HDEL".as_slice(), key], fields].concat();
        ctx.journal.uncounted(ctx.db, &words);
        ctx.notify(Class::HASH, "hexpired", key);
    }
}

/// Records that fields expire at a time.
fn record_time(ctx: &mut ShardCtx, key: &[u8], at_ms: i64, fields: &[&[u8]]) {
    let (mut at_digits, mut count_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let at = at_digits.format(at_ms).as_bytes();
    let count = count_digits.format(fields.len()).as_bytes();
    let words = [&[b"HPEXPIREAT".as_slice(), key, at, b"FIELDS", count], fields].concat();
    ctx.effect(&words);
}

fn reply_value(value: Option<Element<'_>>, reply: &mut Reply) {
    match value {
        Some(value) => reply_element(value, reply),
        None => reply.null(),
    }
}

fn reply_element(element: Element<'_>, reply: &mut Reply) {
    match element {
        Element::Int(n) => reply.bulk_integer(n),
        Element::Text(text) => reply.bulk(text),
    }
}

#[cfg(test)]
mod tests;
