//! Commands on strings, all but LCS.
//!
//! A string is an integer, bytes in its entry, or a large buffer taken over from the network; handlers see the
//! difference only through [`TextRef`] and hand new values over as [`Value`]. Plain GET and SET come first in their
//! paths, look the key up once, and allocate nothing for a key that exists.

use std::ops::Range;

use super::KeyFn;
use super::args::Args;
use super::ctx::{Expiry, ShardCtx};
use super::error::{Error, Result};
use super::events::Class;
use super::lcs::lcs;
use super::spec::*;
use crate::base::long_double::LongDouble;
use crate::base::number;
use crate::data::entry::{TextRef, Value};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const STRING: Spec = Spec { group: Group::String, categories: category::STRING, shape: OneShard, ..Spec::DEFAULT };

/// What GETEX and HGETEX make of the time at which something expires.
pub(super) const NEW_EXPIRY: Arg = one_of(
    "expiration",
    &[
        integer("seconds").after("EX"),
        integer("milliseconds").after("PX"),
        unix_time("unix-time-seconds").after("EXAT"),
        unix_time("unix-time-milliseconds").after("PXAT"),
        token("PERSIST"),
    ],
)
.optional();

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: append,
        spec: Spec {
            name: "append",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.0.0",
            complexity: "O(1) amortized: room is reserved for further appends.",
            summary: "Adds a string to the end of a value, or creates the key with it.",
            args: &[key("key"), string("value")],
            ..STRING
        },
    },
    Row {
        run: decr,
        spec: Spec {
            name: "decr",
            arity: Exactly(2),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Subtracts one from an integer value; a missing key counts as 0.",
            args: &[key("key")],
            ..STRING
        },
    },
    Row {
        run: decrby,
        spec: Spec {
            name: "decrby",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Subtracts a number from an integer value; a missing key counts as 0.",
            args: &[key("key"), integer("decrement")],
            ..STRING
        },
    },
    Row {
        run: get,
        spec: Spec {
            name: "get",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Reads the string at a key.",
            args: &[key("key")],
            ..STRING
        },
    },
    Row {
        run: getdel,
        spec: Spec {
            name: "getdel",
            arity: Exactly(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Reads the string at a key and deletes the key.",
            args: &[key("key")],
            ..STRING
        },
    },
    Row {
        run: getex,
        spec: Spec {
            name: "getex",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE)).notes("RW and UPDATE because it changes the TTL")],
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Reads the string at a key and sets or removes the key's expiry.",
            args: &[key("key"), NEW_EXPIRY],
            ..STRING
        },
    },
    Row {
        run: getrange,
        spec: Spec {
            name: "getrange",
            arity: Exactly(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.4.0",
            complexity: "O(N) where N is the number of bytes returned; near O(1) for short strings.",
            summary: "Reads the bytes of a value between two offsets.",
            args: &[key("key"), integer("start"), integer("end")],
            ..STRING
        },
    },
    Row {
        run: getset,
        spec: Spec {
            name: "getset",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Stores a string and returns the one it replaces.",
            args: &[key("key"), string("value")],
            deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
            ..STRING
        },
    },
    Row {
        run: incr,
        spec: Spec {
            name: "incr",
            arity: Exactly(2),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Adds one to an integer value; a missing key counts as 0.",
            args: &[key("key")],
            ..STRING
        },
    },
    Row {
        run: incrby,
        spec: Spec {
            name: "incrby",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Adds a number to an integer value; a missing key counts as 0.",
            args: &[key("key"), integer("increment")],
            ..STRING
        },
    },
    Row {
        run: incrbyfloat,
        spec: Spec {
            name: "incrbyfloat",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Adds a floating point number to a value; a missing key counts as 0.",
            args: &[key("key"), double("increment")],
            ..STRING
        },
    },
    Row {
        run: lcs,
        spec: Spec {
            name: "lcs",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS)).through(1)],
            shape: Gather,
            since: "7.0.0",
            complexity: "O(N*M) where N and M are the lengths of the two strings.",
            summary: "Compares two strings by their longest common subsequence.",
            args: &[
                key("key1"),
                key("key2"),
                token("LEN").optional(),
                token("IDX").optional(),
                integer("min-match-len").after("MINMATCHLEN").optional(),
                token("WITHMATCHLEN").optional(),
            ],
            ..STRING
        },
    },
    Row {
        run: mget,
        spec: Spec {
            name: "mget",
            arity: AtLeast(2),
            flags: READONLY.and(FAST),
            keys: &[keys_from(1, RO.and(ACCESS))],
            shape: PerKey(ArrayInKeyOrder),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys.",
            summary: "Reads the strings at several keys in one step.",
            args: &[key("key").multiple()],
            tips: &["request_policy:multi_shard"],
            ..STRING
        },
    },
    Row {
        run: mset,
        spec: Spec {
            name: "mset",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE)).every_second()],
            shape: PerKey(AllOk),
            since: "1.0.1",
            complexity: "O(N) where N is the number of keys.",
            summary: "Stores strings at several keys in one step.",
            args: &[block("data", &[key("key"), string("value")]).multiple()],
            tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
            ..STRING
        },
    },
    Row {
        run: msetnx,
        spec: Spec {
            name: "msetnx",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(INSERT)).every_second()],
            shape: Gather,
            since: "1.0.1",
            complexity: "O(N) where N is the number of keys.",
            summary: "Stores strings at several keys, but only if none of the keys exists.",
            args: &[block("data", &[key("key"), string("value")]).multiple()],
            ..STRING
        },
    },
    Row {
        run: psetex,
        spec: Spec {
            name: "psetex",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Stores a string together with an expiry in milliseconds.",
            args: &[key("key"), integer("milliseconds"), string("value")],
            deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `PX` argument" }),
            ..STRING
        },
    },
    Row {
        run: set,
        spec: Spec {
            name: "set",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE).and(VARIABLE_FLAGS))
                .notes("RW and ACCESS due to the optional `GET` argument")],
            extract: Some(keys_of_set),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Stores a string at a key, replacing whatever was there, under optional \
                conditions and with an optional expiry.",
            args: &[
                key("key"),
                string("value"),
                one_of(
                    "condition",
                    &[token("NX"), token("XX"), string("comparison-value").after("IFEQ").since("8.1.0")],
                )
                .since("2.6.12")
                .optional(),
                token("GET").since("6.2.0").optional(),
                one_of(
                    "expiration",
                    &[
                        integer("seconds").after("EX").since("2.6.12"),
                        integer("milliseconds").after("PX").since("2.6.12"),
                        unix_time("unix-time-seconds").after("EXAT").since("6.2.0"),
                        unix_time("unix-time-milliseconds").after("PXAT").since("6.2.0"),
                        token("KEEPTTL").since("6.0.0"),
                    ],
                )
                .optional(),
            ],
            history: &[
                ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
                ("6.0.0", "Added the `KEEPTTL` option."),
                ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
                ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
                ("8.1.0", "Added the `IFEQ` option."),
            ],
            ..STRING
        },
    },
    Row {
        run: setex,
        spec: Spec {
            name: "setex",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE))],
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Stores a string together with an expiry in seconds.",
            args: &[key("key"), integer("seconds"), string("value")],
            deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `EX` argument" }),
            ..STRING
        },
    },
    Row {
        run: setnx,
        spec: Spec {
            name: "setnx",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, OW.and(INSERT))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Stores a string only if the key does not exist.",
            args: &[key("key"), string("value")],
            deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `NX` argument" }),
            ..STRING
        },
    },
    Row {
        run: setrange,
        spec: Spec {
            name: "setrange",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.2.0",
            complexity: "O(N) where N is the number of bytes written, plus the length of the \
                value if it has to move.",
            summary: "Overwrites part of a value from an offset on, padding with zero bytes where needed.",
            args: &[key("key"), integer("offset"), string("value")],
            ..STRING
        },
    },
    Row {
        run: strlen,
        spec: Spec {
            name: "strlen",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Returns how many bytes a value has.",
            args: &[key("key")],
            ..STRING
        },
    },
    Row {
        run: getrange,
        spec: Spec {
            name: "substr",
            arity: Exactly(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of bytes returned; near O(1) for short strings.",
            summary: "Reads the bytes of a value between two offsets.",
            args: &[key("key"), integer("start"), integer("end")],
            deprecated: Some(Deprecated { since: "2.0.0", replaced_by: "`GETRANGE`" }),
            ..STRING
        },
    },
];

/// APPEND key value
fn append(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, tail) = (args.get(1), args.get(2));
    let limit = ctx.config.proto_max_bulk_len;
    let length = match ctx.string_mut(key)? {
        Some(mut held) => {
            let length = checked_length(held.as_ref().text().len(), tail.len(), limit)?;
            held.update(|entry| entry.append(tail));
            length
        }
        None => {
            ctx.set(key, value_of(args, 2), Expiry::Never);
            tail.len()
        }
    };
    ctx.effect(args.words());
    ctx.notify(Class::STRING, "append", key);
    reply.integer(length as i64);
    Ok(())
}

/// DECR key
fn decr(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    increment(ctx, args, -1, reply)
}

/// DECRBY key decrement
fn decrby(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let decrement = args.integer(2)?;
    let by = decrement.checked_neg().ok_or(Error::Text("ERR decrement would overflow"))?;
    increment(ctx, args, by, reply)
}

/// GET key
fn get(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply_value(ctx.read_string(args.get(1))?, reply);
    Ok(())
}

/// GETDEL key
fn getdel(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let held = ctx.read_string(key)?;
    reply_value(held, reply);
    if held.is_some() {
        ctx.delete(key);
        ctx.effect(&[b"DEL", key]);
        ctx.notify(Class::GENERIC, "del", key);
    }
    Ok(())
}

/// GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
fn getex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let options = Options::parse(args.from(2), OptionsOf::Getex)?;
    let now_ms = ctx.now_ms();
    let Some(held) = ctx.read_string(key)? else {
        reply.null();
        return Ok(());
    };
    // Redis looks at the time only when there is a key for it.
    let expire_at_ms = options.expire_at_ms(now_ms, "getex")?;
    reply_value(Some(held), reply);
    match (options.ttl, expire_at_ms) {
        (_, Some(at_ms)) if at_ms <= ctx.expiry_ms() => delete_as_expired(ctx, key),
        (_, Some(at_ms)) => {
            ctx.set_expire(key, Some(at_ms));
            ctx.effect(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at_ms).as_bytes()]);
            ctx.notify(Class::GENERIC, "expire", key);
        }
        (Some(Ttl { kind: TtlKind::Persist, .. }), None) => {
            if ctx.peek(key).is_some_and(|entry| entry.expire_at_ms().is_some()) {
                ctx.set_expire(key, None);
                ctx.effect(&[b"PERSIST", key]);
                ctx.notify(Class::GENERIC, "persist", key);
            }
        }
        (_, None) => {}
    }
    Ok(())
}

/// GETRANGE key start end, and SUBSTR
fn getrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    let mut digits = itoa::Buffer::new();
    let text = match ctx.read_string(args.get(1))? {
        Some(value) => value.bytes(&mut digits),
        None => b"",
    };
    reply.bulk(&text[range_of(start, end, text.len())]);
    Ok(())
}

/// GETSET key value
fn getset(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    reply_value(ctx.read_string(key)?, reply);
    store(ctx, key, args, 2);
    Ok(())
}

/// INCR key
fn incr(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    increment(ctx, args, 1, reply)
}

/// INCRBY key increment
fn incrby(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let by = args.integer(2)?;
    increment(ctx, args, by, reply)
}

/// INCRBYFLOAT key increment
fn incrbyfloat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let increment = |held: &[u8]| {
        let held = LongDouble::parse(held).ok_or(Error::NotAFloat)?;
        let by = LongDouble::parse(args.get(2)).ok_or(Error::NotAFloat)?;
        let sum = held.checked_add(by).ok_or(Error::Text("ERR increment would produce NaN or Infinity"))?;
        Ok(sum.to_text())
    };
    let sum = match ctx.string_mut(key)? {
        Some(mut held) => {
            let sum = increment(held.as_ref().text().bytes(&mut itoa::Buffer::new()))?;
            held.update(|entry| entry.set_value(Value::Plain(sum.as_bytes())));
            sum
        }
        None => {
            let sum = increment(b"0")?;
            ctx.set(key, Value::Plain(sum.as_bytes()), Expiry::Never);
            sum
        }
    };
    ctx.effect(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    ctx.notify(Class::STRING, "incrbyfloat", key);
    reply.bulk(sum.as_bytes());
    Ok(())
}

/// MGET key [key ...]: null too for what is no string.
fn mget(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let keys = args.from(1);
    reply.array(keys.len());
    for key in keys {
        reply_value(ctx.read_string(key).unwrap_or(None), reply);
    }
    Ok(())
}

/// MSET key value [key value ...]
fn mset(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    require_pairs(args, "mset")?;
    store_pairs(ctx, args);
    reply.ok();
    Ok(())
}

/// MSETNX key value [key value ...]
fn msetnx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    require_pairs(args, "msetnx")?;
    let any_exists = args.from(1).iter().step_by(2).any(|key| ctx.lookup_write(key).is_some());
    if !any_exists {
        store_pairs(ctx, args);
    }
    reply.integer(i64::from(!any_exists));
    Ok(())
}

/// PSETEX key milliseconds value
fn psetex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    store_expiring(ctx, args, TtlKind::Px, "psetex")?;
    reply.ok();
    Ok(())
}

/// SET key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL]
fn set(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    if args.len() == 3 {
        store(ctx, key, args, 2);
        reply.ok();
        return Ok(());
    }
    let options = Options::parse(args.from(3), OptionsOf::Set)?;
    let expire_at_ms = options.expire_at_ms(ctx.now_ms(), "set")?;
    if options.get {
        reply_value(ctx.read_string(key)?, reply);
    }
    let stores = match options.when {
        When::Always => true,
        When::IfAbsent => ctx.lookup_write(key).is_none(),
        When::IfPresent => ctx.lookup_write(key).is_some(),
        When::IfEqual(text) => ctx.write_string(key)?.is_some_and(|held| held.bytes(&mut itoa::Buffer::new()) == text),
    };
    if stores {
        store_with(ctx, args, options.ttl, expire_at_ms);
    }
    match (options.get, stores) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

/// SETEX key seconds value
fn setex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    store_expiring(ctx, args, TtlKind::Ex, "setex")?;
    reply.ok();
    Ok(())
}

/// SETNX key value
fn setnx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let absent = ctx.lookup_write(key).is_none();
    if absent {
        store(ctx, key, args, 2);
    }
    reply.integer(i64::from(absent));
    Ok(())
}

/// SETRANGE key offset value
fn setrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, patch) = (args.get(1), args.get(3));
    let offset = args.integer(2)?;
    let offset = usize::try_from(offset).map_err(|_| Error::Text("ERR offset is out of range"))?;
    let limit = ctx.config.proto_max_bulk_len;
    let length = match ctx.string_mut(key)? {
        Some(held) if patch.is_empty() => return reply_length(held.as_ref().text().len(), reply),
        None if patch.is_empty() => return reply_length(0, reply),
        Some(mut held) => {
            let end = checked_length(offset, patch.len(), limit)?;
            held.update(|entry| entry.set_range(offset, patch));
            end.max(held.as_ref().text().len())
        }
        None => {
            let end = checked_length(offset, patch.len(), limit)?;
            ctx.set(key, Value::Raw(b""), Expiry::Never);
            ctx.set_range(key, offset, patch);
            end
        }
    };
    ctx.effect(args.words());
    ctx.notify(Class::STRING, "setrange", key);
    reply_length(length, reply)
}

/// STRLEN key
fn strlen(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let length = ctx.read_string(args.get(1))?.map_or(0, |value| value.len());
    reply_length(length, reply)
}

fn reply_length(length: usize, reply: &mut Reply) -> Result {
    reply.integer(length as i64);
    Ok(())
}

fn reply_value(value: Option<TextRef<'_>>, reply: &mut Reply) {
    match value {
        Some(TextRef::Int(n)) => reply.bulk_integer(n),
        Some(TextRef::Bytes(bytes)) => reply.bulk(bytes),
        Some(TextRef::Shared(bytes)) => reply.bulk(bytes),
        None => reply.null(),
    }
}

/// The argument at `index` as a value; a large one is taken over, not copied.
fn value_of<'a>(args: &Args<'a>, index: usize) -> Value<'a> {
    match args.shared(index) {
        Some(bytes) => Value::Shared(bytes.clone()),
        None => Value::Text(args.get(index)),
    }
}

fn store(ctx: &mut ShardCtx, key: &[u8], args: &Args, value: usize) {
    ctx.set(key, value_of(args, value), Expiry::Never);
    ctx.effect(&[b"SET", key, args.get(value)]);
    ctx.notify(Class::STRING, "set", key);
}

fn store_pairs(ctx: &mut ShardCtx, args: &Args) {
    for index in (1..args.len()).step_by(2) {
        store(ctx, args.get(index), args, index + 1);
    }
}

/// SET as its options say, whose conditions hold.
fn store_with(ctx: &mut ShardCtx, args: &Args, ttl: Option<Ttl>, expire_at_ms: Option<i64>) {
    let (key, text) = (args.get(1), args.get(2));
    match (ttl, expire_at_ms) {
        (_, Some(at_ms)) if at_ms <= ctx.expiry_ms() => delete_as_expired(ctx, key),
        (Some(ttl), Some(at_ms)) => {
            ctx.set(key, value_of(args, 2), Expiry::At(at_ms));
            // Replicas see the option as the client spelled it, as they do from Redis.
            let option = if ttl.kind == TtlKind::Pxat { ttl.word } else { b"PXAT" };
            ctx.effect(&[b"SET", key, text, option, itoa::Buffer::new().format(at_ms).as_bytes()]);
            ctx.notify(Class::STRING, "set", key);
            ctx.notify(Class::GENERIC, "expire", key);
        }
        (Some(ttl), None) => {
            ctx.set(key, value_of(args, 2), Expiry::Keep);
            ctx.effect(&[b"SET", key, text, ttl.word]);
            ctx.notify(Class::STRING, "set", key);
        }
        (None, _) => store(ctx, key, args, 2),
    }
}

/// What becomes of a key that is given a time in the past.
fn delete_as_expired(ctx: &mut ShardCtx, key: &[u8]) {
    if ctx.delete(key) {
        ctx.effect(&[ctx.expired_word(), key]);
        ctx.notify(Class::GENERIC, "del", key);
    }
}

/// SETEX and PSETEX: key, time, value.
fn store_expiring(ctx: &mut ShardCtx, args: &Args, kind: TtlKind, command: &str) -> Result {
    let at_ms = kind.expire_at_ms(args.get(2), ctx.now_ms(), command)?;
    let key = args.get(1);
    ctx.set(key, value_of(args, 3), Expiry::At(at_ms));
    ctx.effect(&[b"SET", key, args.get(3), b"PXAT", itoa::Buffer::new().format(at_ms).as_bytes()]);
    ctx.notify(Class::STRING, "set", key);
    ctx.notify(Class::GENERIC, "expire", key);
    Ok(())
}

fn increment(ctx: &mut ShardCtx, args: &Args, by: i64, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let sum = match ctx.string_mut(key)? {
        Some(mut held) => {
            let sum = integer_of(held.as_ref().text())?.checked_add(by).ok_or(Error::Overflow)?;
            held.update(|entry| entry.set_value(Value::Int(sum)));
            sum
        }
        None => {
            ctx.set(key, Value::Int(by), Expiry::Never);
            by
        }
    };
    ctx.effect(args.words());
    ctx.notify(Class::STRING, "incrby", key);
    reply.integer(sum);
    Ok(())
}

fn integer_of(value: TextRef) -> Result<i64> {
    match value {
        TextRef::Int(n) => Ok(n),
        TextRef::Bytes(text) => number::parse_i64(text).ok_or(Error::NotAnInteger),
        TextRef::Shared(_) => Err(Error::NotAnInteger),
    }
}

fn require_pairs(args: &Args, command: &str) -> Result {
    if args.len() % 2 == 1 { Ok(()) } else { Err(Error::arity(command)) }
}

/// The length of a string of `length` bytes with `more` behind them, unless that is longer than a string may be.
fn checked_length(length: usize, more: usize, limit: u64) -> Result<usize> {
    match length.checked_add(more) {
        Some(total) if total as u64 <= limit => Ok(total),
        _ => Err(Error::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)")),
    }
}

/// The bytes from `start` to `end`, both included; negative offsets count from the end of the string.
fn range_of(start: i64, end: i64, length: usize) -> Range<usize> {
    let length = length as i64;
    let from_front = |offset: i64| if offset < 0 { (length + offset).max(0) } else { offset };
    let reversed = start < 0 && end < 0 && start > end;
    let (start, end) = (from_front(start), from_front(end).min(length - 1));
    if reversed || start > end { 0..0 } else { start as usize..end as usize + 1 }
}

/// What stands behind the value of SET, or behind the key of GETEX.
struct Options<'a> {
    when: When<'a>,
    get: bool,
    ttl: Option<Ttl<'a>>,
}

enum When<'a> {
    Always,
    IfAbsent,
    IfPresent,
    IfEqual(&'a [u8]),
}

#[derive(Clone, Copy)]
struct Ttl<'a> {
    kind: TtlKind,
    /// The option as the client wrote it, and the time behind it, if it takes one.
    word: &'a [u8],
    time: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TtlKind {
    Ex,
    Px,
    Exat,
    Pxat,
    KeepTtl,
    Persist,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OptionsOf {
    Set,
    Getex,
}

impl<'a> Options<'a> {
    /// As in Redis an option may be repeated, the last one counting; only IFEQ may not, and no two may contradict.
    fn parse(mut words: &[&'a [u8]], command: OptionsOf) -> Result<Options<'a>> {
        let mut options = Options { when: When::Always, get: false, ttl: None };
        while let [word, rest @ ..] = words {
            words = match options.condition(word, rest, command).or_else(|| options.ttl(word, rest, command)) {
                Some(rest) => rest,
                None => return Err(Error::Syntax),
            };
        }
        Ok(options)
    }

    /// Takes the word if it is a condition or GET, and returns what is left.
    fn condition<'w>(&mut self, word: &'a [u8], rest: &'w [&'a [u8]], command: OptionsOf) -> Option<&'w [&'a [u8]]> {
        if command != OptionsOf::Set {
            return None;
        }
        match (&self.when, rest) {
            (When::Always | When::IfAbsent, _) if is(word, "NX") => self.when = When::IfAbsent,
            (When::Always | When::IfPresent, _) if is(word, "XX") => self.when = When::IfPresent,
            (When::Always, [text, rest @ ..]) if is(word, "IFEQ") => {
                self.when = When::IfEqual(text);
                return Some(rest);
            }
            _ if is(word, "GET") => self.get = true,
            _ => return None,
        }
        Some(rest)
    }

    fn ttl<'w>(&mut self, word: &'a [u8], rest: &'w [&'a [u8]], command: OptionsOf) -> Option<&'w [&'a [u8]]> {
        let kind = TtlKind::named(word, command)?;
        if self.ttl.is_some_and(|before| before.kind != kind) {
            return None;
        }
        let (time, rest) = match rest {
            _ if !kind.has_time() => (&b""[..], rest),
            [time, rest @ ..] => (*time, rest),
            [] => return None,
        };
        self.ttl = Some(Ttl { kind, word, time });
        Some(rest)
    }

    fn expire_at_ms(&self, now_ms: i64, command: &str) -> Result<Option<i64>> {
        match self.ttl {
            Some(ttl) if ttl.kind.has_time() => ttl.kind.expire_at_ms(ttl.time, now_ms, command).map(Some),
            _ => Ok(None),
        }
    }
}

impl TtlKind {
    fn named(word: &[u8], command: OptionsOf) -> Option<TtlKind> {
        const NAMES: [(&str, TtlKind); 6] = [
            ("EX", TtlKind::Ex),
            ("PX", TtlKind::Px),
            ("EXAT", TtlKind::Exat),
            ("PXAT", TtlKind::Pxat),
            ("KEEPTTL", TtlKind::KeepTtl),
            ("PERSIST", TtlKind::Persist),
        ];
        let (_, kind) = NAMES.into_iter().find(|(name, _)| is(word, name))?;
        let foreign = match command {
            OptionsOf::Set => TtlKind::Persist,
            OptionsOf::Getex => TtlKind::KeepTtl,
        };
        (kind != foreign).then_some(kind)
    }

    fn has_time(self) -> bool {
        !matches!(self, TtlKind::KeepTtl | TtlKind::Persist)
    }

    fn is_absolute(self) -> bool {
        matches!(self, TtlKind::Exat | TtlKind::Pxat)
    }

    /// The Unix time in milliseconds that `time` stands for.
    fn expire_at_ms(self, time: &[u8], now_ms: i64, command: &str) -> Result<i64> {
        let time = number::parse_i64(time).ok_or(Error::NotAnInteger)?;
        let unit_ms = if matches!(self, TtlKind::Ex | TtlKind::Exat) { 1000 } else { 1 };
        let from_ms = if self.is_absolute() { 0 } else { now_ms };
        let at_ms = time.checked_mul(unit_ms).and_then(|time_ms| time_ms.checked_add(from_ms));
        at_ms.filter(|_| time > 0).ok_or_else(|| Error::invalid_expire(command))
    }
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests;
