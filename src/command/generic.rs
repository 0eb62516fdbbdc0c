//! Commands on keys whatever they hold: deleting, renaming, copying, expiry, how a value is stored, DUMP and RESTORE.

#[cfg(test)]
mod tests;

use super::KeyRow;
use super::args::Args;
use super::ctx::{Expiry, ShardCtx};
use super::error::{self, Error, Result};
use super::events::Class;
use super::spec::*;
use crate::base::crc::key_slot;
use crate::data::dump::{self, DumpError, Restored};
use crate::data::entry::Value;
use crate::keyspace::access;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const GENERIC: Spec = Spec { group: Group::Generic, categories: category::KEYSPACE, shape: OneShard, ..Spec::DEFAULT };

pub const ROWS: &[KeyRow] = &[
    Row {
        run: copy,
        spec: Spec {
            name: "copy",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RO.and(ACCESS)), key_at(2, OW.and(UPDATE))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(N) where N is the number of elements of a collection; O(1) for strings.",
            summary: "Copies the value and expiry of one key to another.",
            args: &[
                key("source"),
                key("destination").key_spec(1),
                integer("destination-db").after("DB").optional(),
                token("REPLACE").optional(),
            ],
            ..GENERIC
        },
    },
    Row {
        run: del,
        spec: Spec {
            name: "del",
            arity: AtLeast(2),
            flags: WRITE,
            keys: &[keys_from(1, RM.and(DELETE))],
            shape: PerKey(SumInteger),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys, plus O(M) for each collection of M elements.",
            summary: "Deletes keys and returns how many existed.",
            args: &[key("key").multiple()],
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..GENERIC
        },
    },
    Row {
        run: dump,
        spec: Spec {
            name: "dump",
            arity: Exactly(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.6.0",
            complexity: "O(1) to find the key, then O(N*M) where N is the number of elements \
                and M their average size.",
            summary: "Returns the value of a key in a serialized form that RESTORE takes.",
            args: &[key("key")],
            tips: &["nondeterministic_output"],
            ..GENERIC
        },
    },
    Row {
        run: exists,
        spec: Spec {
            name: "exists",
            arity: AtLeast(2),
            flags: READONLY.and(FAST),
            keys: &[keys_from(1, RO)],
            shape: PerKey(SumInteger),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys.",
            summary: "Counts how many of the given keys exist; a key given twice counts twice.",
            args: &[key("key").multiple()],
            history: &[("3.0.3", "Accepts multiple `key` arguments.")],
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..GENERIC
        },
    },
    Row {
        run: expire,
        spec: Spec {
            name: "expire",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Sets how many seconds a key has left to live.",
            args: &[
                key("key"),
                integer("seconds"),
                one_of("condition", &[token("NX"), token("XX"), token("GT"), token("LT")]).since("7.0.0").optional(),
            ],
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..GENERIC
        },
    },
    Row {
        run: expireat,
        spec: Spec {
            name: "expireat",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Sets the Unix time, in seconds, at which a key expires.",
            args: &[
                key("key"),
                unix_time("unix-time-seconds"),
                one_of("condition", &[token("NX"), token("XX"), token("GT"), token("LT")]).since("7.0.0").optional(),
            ],
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..GENERIC
        },
    },
    Row {
        run: expiretime,
        spec: Spec {
            name: "expiretime",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "7.0.0",
            complexity: "O(1)",
            summary: "Returns the Unix time, in seconds, at which a key expires.",
            args: &[key("key")],
            ..GENERIC
        },
    },
    Row {
        run: move_key,
        spec: Spec {
            name: "move",
            arity: Exactly(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Takes a key to another database.",
            args: &[key("key"), integer("db")],
            ..GENERIC
        },
    },
    Row {
        run: object,
        spec: Spec {
            name: "object",
            arity: AtLeast(2),
            categories: Categories::NONE,
            shape: Here,
            since: "2.2.3",
            complexity: "Depends on the subcommand.",
            summary: "Holds the commands that look into how a value is stored.",
            subcommands: &[
                Spec {
                    name: "object|encoding",
                    arity: Exactly(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO)],
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Names the internal encoding of a value.",
                    args: &[key("key")],
                    tips: &["nondeterministic_output"],
                    ..GENERIC
                },
                Spec {
                    name: "object|freq",
                    arity: Exactly(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO)],
                    since: "4.0.0",
                    complexity: "O(1)",
                    summary: "Returns the logarithmic access counter of a key, under an LFU policy.",
                    args: &[key("key")],
                    tips: &["nondeterministic_output"],
                    ..GENERIC
                },
                Spec {
                    name: "object|help",
                    arity: Exactly(2),
                    flags: LOADING.and(STALE),
                    shape: Here,
                    since: "6.2.0",
                    complexity: "O(1)",
                    summary: "Explains the subcommands.",
                    ..GENERIC
                },
                Spec {
                    name: "object|idletime",
                    arity: Exactly(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO)],
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Returns the seconds since the last access to a key.",
                    args: &[key("key")],
                    tips: &["nondeterministic_output"],
                    ..GENERIC
                },
                Spec {
                    name: "object|refcount",
                    arity: Exactly(3),
                    flags: READONLY,
                    keys: &[key_at(2, RO)],
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Returns the reference count of a value.",
                    args: &[key("key")],
                    tips: &["nondeterministic_output"],
                    ..GENERIC
                },
            ],
            ..GENERIC
        },
    },
    Row {
        run: persist,
        spec: Spec {
            name: "persist",
            arity: Exactly(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Removes the expiry of a key.",
            args: &[key("key")],
            ..GENERIC
        },
    },
    Row {
        run: pexpire,
        spec: Spec {
            name: "pexpire",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Sets how many milliseconds a key has left to live.",
            args: &[
                key("key"),
                integer("milliseconds"),
                one_of("condition", &[token("NX"), token("XX"), token("GT"), token("LT")]).since("7.0.0").optional(),
            ],
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..GENERIC
        },
    },
    Row {
        run: pexpireat,
        spec: Spec {
            name: "pexpireat",
            arity: AtLeast(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Sets the Unix time, in milliseconds, at which a key expires.",
            args: &[
                key("key"),
                unix_time("unix-time-milliseconds"),
                one_of("condition", &[token("NX"), token("XX"), token("GT"), token("LT")]).since("7.0.0").optional(),
            ],
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..GENERIC
        },
    },
    Row {
        run: pexpiretime,
        spec: Spec {
            name: "pexpiretime",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "7.0.0",
            complexity: "O(1)",
            summary: "Returns the Unix time, in milliseconds, at which a key expires.",
            args: &[key("key")],
            ..GENERIC
        },
    },
    Row {
        run: pttl,
        spec: Spec {
            name: "pttl",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Returns how many milliseconds a key has left to live.",
            args: &[key("key")],
            history: &[("2.8.0", "Added the -2 reply.")],
            tips: &["nondeterministic_output"],
            ..GENERIC
        },
    },
    Row {
        run: rename,
        spec: Spec {
            name: "rename",
            arity: Exactly(3),
            flags: WRITE,
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, OW.and(UPDATE))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Gives a key a new name, replacing a key that already has it.",
            args: &[key("key"), key("newkey").key_spec(1)],
            ..GENERIC
        },
    },
    Row {
        run: renamenx,
        spec: Spec {
            name: "renamenx",
            arity: Exactly(3),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, OW.and(INSERT))],
            shape: Gather,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Gives a key a new name, but only if no key has it.",
            args: &[key("key"), key("newkey").key_spec(1)],
            history: &[(
                "3.2.0",
                "The command no longer returns an error when source and destination names are the same.",
            )],
            ..GENERIC
        },
    },
    Row {
        run: restore,
        spec: Spec {
            name: "restore",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM),
            categories: category::KEYSPACE.and(category::DANGEROUS),
            keys: &[key_at(1, OW.and(UPDATE))],
            since: "2.6.0",
            complexity: "O(1) to create the key, then O(N*M) where N is the number of elements \
                and M their average size; O(N*M*log(N)) for sorted sets.",
            summary: "Creates a key from the serialized form that DUMP returned.",
            args: &[
                key("key"),
                integer("ttl"),
                string("serialized-value"),
                token("REPLACE").since("3.0.0").optional(),
                token("ABSTTL").since("5.0.0").optional(),
                integer("seconds").after("IDLETIME").since("5.0.0").optional(),
                integer("frequency").after("FREQ").since("5.0.0").optional(),
            ],
            history: &[
                ("3.0.0", "Added the `REPLACE` modifier."),
                ("5.0.0", "Added the `ABSTTL` modifier."),
                ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
            ],
            ..GENERIC
        },
    },
    Row {
        run: touch,
        spec: Spec {
            name: "touch",
            arity: AtLeast(2),
            flags: READONLY.and(FAST),
            keys: &[keys_from(1, RO)],
            shape: PerKey(SumInteger),
            since: "3.2.1",
            complexity: "O(N) where N is the number of keys.",
            summary: "Counts how many of the given keys exist, and marks these as just used.",
            args: &[key("key").multiple()],
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..GENERIC
        },
    },
    Row {
        run: ttl,
        spec: Spec {
            name: "ttl",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns how many seconds a key has left to live.",
            args: &[key("key")],
            history: &[("2.8.0", "Added the -2 reply.")],
            tips: &["nondeterministic_output"],
            ..GENERIC
        },
    },
    Row {
        run: type_of,
        spec: Spec {
            name: "type",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Names the type of the value at a key.",
            args: &[key("key")],
            ..GENERIC
        },
    },
    Row {
        run: unlink,
        spec: Spec {
            name: "unlink",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[keys_from(1, RM.and(DELETE))],
            shape: PerKey(SumInteger),
            since: "4.0.0",
            complexity: "O(N) where N is the number of keys; freeing M elements costs O(M) elsewhere.",
            summary: "Deletes keys, and frees their memory in the background.",
            args: &[key("key").multiple()],
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..GENERIC
        },
    },
];

/// DEL key [key ...]
fn del(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    delete_all(ctx, args, b"DEL", reply)
}

/// UNLINK key [key ...]. A string is freed as fast as it could be queued; Redis, too, queues only large collections.
fn unlink(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    delete_all(ctx, args, b"UNLINK", reply)
}

fn delete_all(ctx: &mut ShardCtx, args: &Args, name: &[u8], reply: &mut Reply) -> Result {
    let mut deleted = 0;
    for key in args.from(1) {
        if ctx.delete(key) {
            ctx.effect(&[name, key]);
            ctx.notify(Class::GENERIC, "del", key);
            deleted += 1;
        }
    }
    reply.integer(deleted);
    Ok(())
}

/// EXISTS key [key ...]
fn exists(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let existing = args.from(1).iter().filter(|key| ctx.inspect(key).is_some()).count();
    reply.integer(existing as i64);
    Ok(())
}

/// TOUCH key [key ...]: a use even from a client that asked for NO-TOUCH.
fn touch(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let no_touch = std::mem::replace(&mut ctx.no_touch, false);
    let existing = args.from(1).iter().filter(|key| ctx.read(key).is_some()).count();
    ctx.no_touch = no_touch;
    reply.integer(existing as i64);
    Ok(())
}

/// TYPE key
fn type_of(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply.simple(ctx.inspect(args.get(1)).map_or("none", |entry| entry.kind().type_name()));
    Ok(())
}

/// RENAME key newkey
fn rename(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = (args.get(1), args.get(2));
    if ctx.lookup_write(from).is_none() {
        return Err(Error::NoSuchKey);
    }
    if from != to {
        ctx.delete(to);
        move_entry(ctx, b"RENAME", from, to);
    }
    reply.ok();
    Ok(())
}

/// RENAMENX key newkey
fn renamenx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = (args.get(1), args.get(2));
    if ctx.lookup_write(from).is_none() {
        return Err(Error::NoSuchKey);
    }
    let renamed = from != to && ctx.lookup_write(to).is_none();
    if renamed {
        move_entry(ctx, b"RENAMENX", from, to);
    }
    reply.integer(i64::from(renamed));
    Ok(())
}

/// Gives an entry a new key, which does not exist.
fn move_entry(ctx: &mut ShardCtx, name: &[u8], from: &[u8], to: &[u8]) {
    let entry = ctx.take(from).expect("the key was looked up");
    // An effect over two slots could not follow one of them to another shard.
    if key_slot(from) == key_slot(to) {
        ctx.effect(&[name, from, to]);
        ctx.put_entry(to, entry);
    } else {
        ctx.effect(&[b"DEL", from]);
        ctx.insert_entry(to, entry);
    }
    ctx.notify(Class::GENERIC, "rename_from", from);
    ctx.notify(Class::GENERIC, "rename_to", to);
}

const SAME_OBJECT: Error = Error::Text("ERR source and destination objects are the same");
pub(super) const DB_OUT_OF_RANGE: Error = Error::Text("ERR DB index is out of range");

/// COPY source destination [DB destination-db] [REPLACE]
fn copy(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = CopyOptions::parse(args, ctx.db, ctx.keyspace.databases())?;
    let (from, to, from_db) = (args.get(1), args.get(2), ctx.db);
    if options.db == from_db && from == to {
        return Err(SAME_OBJECT);
    }
    let Some(entry) = ctx.read(from).map(|entry| entry.copy_as(to)) else {
        reply.integer(0);
        return Ok(());
    };
    ctx.db = options.db;
    let exists = ctx.lookup_write(to).is_some();
    if exists && !options.replace {
        ctx.db = from_db;
        reply.integer(0);
        return Ok(());
    }
    ctx.delete(to);
    if key_slot(from) == key_slot(to) {
        entry.set_access(access::initial(ctx.now, &ctx.config));
        ctx.put_entry(to, entry);
        if options.db != from_db {
            ctx.changed(to);
        }
        ctx.db = from_db;
        ctx.effect(args.words());
    } else {
        ctx.insert_entry(to, entry);
        ctx.db = from_db;
    }
    ctx.events.note(Class::GENERIC, options.db, "copy_to", to);
    reply.integer(1);
    Ok(())
}

struct CopyOptions {
    db: usize,
    replace: bool,
}

impl CopyOptions {
    fn parse(args: &Args, db: usize, databases: usize) -> Result<CopyOptions> {
        let mut options = CopyOptions { db, replace: false };
        let mut index = 3;
        while index < args.len() {
            if args.is(index, "REPLACE") {
                options.replace = true;
                index += 1;
            } else if args.is(index, "DB") && index + 1 < args.len() {
                options.db = database(args, index + 1, databases)?;
                index += 2;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }
}

/// The database of a command's destination key: `db`, but for COPY's option. It may not exist, which COPY will say.
pub fn copy_target_db(spec: &Spec, args: &Args, db: usize) -> usize {
    if spec.name != "copy" {
        return db;
    }
    CopyOptions::parse(args, db, usize::MAX).map_or(db, |options| options.db)
}

/// MOVE key db
fn move_key(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, from_db) = (args.get(1), ctx.db);
    let to_db = database(args, 2, ctx.keyspace.databases())?;
    if to_db == from_db {
        return Err(SAME_OBJECT);
    }
    let mut moves = ctx.lookup_write(key).is_some();
    if moves {
        ctx.db = to_db;
        moves = ctx.lookup_write(key).is_none();
        ctx.db = from_db;
    }
    if moves {
        let entry = ctx.take(key).expect("the key was looked up");
        ctx.db = to_db;
        ctx.put_entry(key, entry);
        ctx.changed(key);
        ctx.db = from_db;
        ctx.effect(args.words());
        ctx.notify(Class::GENERIC, "move_from", key);
        ctx.events.note(Class::GENERIC, to_db, "move_to", key);
    }
    reply.integer(i64::from(moves));
    Ok(())
}

/// The argument as the number of a database.
fn database(args: &Args, index: usize, databases: usize) -> Result<usize> {
    let number = args.integer(index)?;
    if i32::try_from(number).is_err() {
        return Err(Error::Text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    usize::try_from(number).ok().filter(|&db| db < databases).ok_or(DB_OUT_OF_RANGE)
}

/// How one of the EXPIRE commands gives the time.
struct Deadline {
    unit_ms: i64,
    from_now: bool,
    overflow: &'static str,
}

/// EXPIRE key seconds [NX|XX|GT|LT]
fn expire(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let overflow = "ERR invalid expire time in 'expire' command";
    set_expiry(ctx, args, reply, Deadline { unit_ms: 1000, from_now: true, overflow })
}

/// PEXPIRE key milliseconds [NX|XX|GT|LT]
fn pexpire(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let overflow = "ERR invalid expire time in 'pexpire' command";
    set_expiry(ctx, args, reply, Deadline { unit_ms: 1, from_now: true, overflow })
}

/// EXPIREAT key unix-time-seconds [NX|XX|GT|LT]
fn expireat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let overflow = "ERR invalid expire time in 'expireat' command";
    set_expiry(ctx, args, reply, Deadline { unit_ms: 1000, from_now: false, overflow })
}

/// PEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT]
fn pexpireat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let overflow = "ERR invalid expire time in 'pexpireat' command";
    set_expiry(ctx, args, reply, Deadline { unit_ms: 1, from_now: false, overflow })
}

fn set_expiry(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, deadline: Deadline) -> Result {
    let conditions = ExpireConditions::parse(args)?;
    let base_ms = if deadline.from_now { ctx.now_ms() } else { 0 };
    let after_ms = args.integer(2)?.checked_mul(deadline.unit_ms);
    let at_ms = after_ms.and_then(|ms| ms.checked_add(base_ms)).ok_or(Error::Text(deadline.overflow))?;
    let key = args.get(1);
    let Some(entry) = ctx.lookup_write(key) else {
        reply.integer(0);
        return Ok(());
    };
    if !conditions.allow(entry.expire_at_ms(), at_ms) {
        reply.integer(0);
        return Ok(());
    }
    if at_ms <= ctx.expiry_ms() {
        ctx.delete(key);
        ctx.effect(&[ctx.expired_word(), key]);
        ctx.notify(Class::EXPIRED, "expired", key);
    } else {
        ctx.set_expire(key, Some(at_ms));
        ctx.effect(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at_ms).as_bytes()]);
        ctx.notify(Class::GENERIC, "expire", key);
    }
    reply.integer(1);
    Ok(())
}

/// NX, XX, GT, LT. XX may stand beside GT or LT.
#[derive(Default)]
struct ExpireConditions {
    if_none: bool,
    if_any: bool,
    if_greater: bool,
    if_less: bool,
}

impl ExpireConditions {
    fn parse(args: &Args) -> Result<ExpireConditions> {
        let mut parsed = ExpireConditions::default();
        for word in args.from(3) {
            let condition = match word.to_ascii_uppercase().as_slice() {
                b"NX" => &mut parsed.if_none,
                b"XX" => &mut parsed.if_any,
                b"GT" => &mut parsed.if_greater,
                b"LT" => &mut parsed.if_less,
                _ => return Err(Error::Dynamic([b"ERR Unsupported option ", error::quoted(word)].concat().into())),
            };
            *condition = true;
        }
        if parsed.if_none && (parsed.if_any || parsed.if_greater || parsed.if_less) {
            return Err(Error::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if parsed.if_greater && parsed.if_less {
            return Err(Error::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(parsed)
    }

    /// A key without an expiry lives forever: no time is greater.
    fn allow(&self, current: Option<i64>, at_ms: i64) -> bool {
        (!self.if_none || current.is_none())
            && (!self.if_any || current.is_some())
            && (!self.if_greater || current.is_some_and(|current| at_ms > current))
            && (!self.if_less || current.is_none_or(|current| at_ms < current))
    }
}

/// PERSIST key
fn persist(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let persists = ctx.lookup_write(key).is_some_and(|entry| entry.expire_at_ms().is_some());
    if persists {
        ctx.set_expire(key, None);
        ctx.effect(&[b"PERSIST", key]);
        ctx.notify(Class::GENERIC, "persist", key);
    }
    reply.integer(i64::from(persists));
    Ok(())
}

/// TTL key
fn ttl(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.now_ms();
    reply_expiry(ctx, args, reply, |at_ms| rounded_s((at_ms - now_ms).max(0)))
}

/// PTTL key
fn pttl(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.now_ms();
    reply_expiry(ctx, args, reply, |at_ms| (at_ms - now_ms).max(0))
}

/// EXPIRETIME key
fn expiretime(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply_expiry(ctx, args, reply, rounded_s)
}

/// PEXPIRETIME key
fn pexpiretime(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    reply_expiry(ctx, args, reply, |at_ms| at_ms)
}

/// -2: no such key; -1: it never expires.
fn reply_expiry(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, form: impl Fn(i64) -> i64) -> Result {
    reply.integer(match ctx.inspect(args.get(1)) {
        None => -2,
        Some(entry) => entry.expire_at_ms().map_or(-1, form),
    });
    Ok(())
}

/// To the nearest second.
fn rounded_s(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

/// OBJECT subcommand key
fn object(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(1, "HELP") {
        reply.array(OBJECT_HELP.len());
        OBJECT_HELP.iter().for_each(|line| reply.simple(line));
        return Ok(());
    }
    let Some(entry) = args.from(2).first().and_then(|key| ctx.inspect_quietly(key)) else {
        reply.null();
        return Ok(());
    };
    let (kind, access) = (entry.kind(), entry.access());
    let is_lfu = ctx.config.maxmemory_policy.is_lfu();
    match args.get(1).to_ascii_uppercase().as_slice() {
        b"ENCODING" => reply.bulk(kind.encoding_name().as_bytes()),
        // Values are never shared between keys.
        b"REFCOUNT" => reply.integer(1),
        b"IDLETIME" if is_lfu => return Err(NOT_LRU),
        b"IDLETIME" => reply.integer(i64::from(access::idle_s(access, ctx.now))),
        b"FREQ" if !is_lfu => return Err(NOT_LFU),
        b"FREQ" => reply.integer(i64::from(access::decayed(access, ctx.now, &ctx.config))),
        _ => return Err(Error::Syntax),
    }
    Ok(())
}

const NOT_LRU: Error = Error::Text(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies \
     at runtime LRU and LFU data will take some time to adjust.",
);
const NOT_LFU: Error = Error::Text(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Print this help.",
];

/// What a key costs, MEMORY USAGE: its entry and the place of that in the table.
pub fn memory_usage(ctx: &mut ShardCtx, key: &[u8], samples: usize) -> Option<usize> {
    /// A bucket of the table is a cache line of 64 bytes with nine places, eight of them in use in the long run.
    const PLACE_BYTES: usize = 8;
    ctx.peek(key).map(|entry| entry.usable_bytes(samples) + PLACE_BYTES)
}

/// DUMP key
fn dump(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match ctx.read(args.get(1)) {
        Some(entry) => reply.bulk(&dump::dump(entry)),
        None => reply.null(),
    }
    Ok(())
}

/// RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
fn restore(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = RestoreOptions::parse(args)?;
    let key = args.get(1);
    if !options.replace && ctx.lookup_write(key).is_some() {
        return Err(Error::Text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = args.integer(2)?;
    if ttl_ms < 0 {
        return Err(Error::Text("ERR Invalid TTL value, must be >= 0"));
    }
    let skips_checksum = ctx.skips_checksums;
    let restored = dump::restore_with(args.get(3), skips_checksum, &mut ctx.env()).map_err(|error| match error {
        DumpError::VersionOrChecksum => Error::Text("ERR DUMP payload version or checksum are wrong"),
        DumpError::Format(flaw) => {
            tracing::info!("RESTORE: {flaw}");
            Error::Text("ERR Bad data format")
        }
    })?;
    let base_ms = if options.absolute_ttl { 0 } else { ctx.now_ms() };
    let expire_at_ms = (ttl_ms > 0).then(|| base_ms.saturating_add(ttl_ms));
    if expire_at_ms.is_some_and(|at_ms| at_ms <= ctx.expiry_ms()) {
        if ctx.delete(key) {
            let word: &[u8] = if ctx.config.lazyfree_lazy_server_del { b"UNLINK" } else { b"DEL" };
            ctx.effect(&[word, key]);
            ctx.notify(Class::GENERIC, "del", key);
        }
        reply.ok();
        return Ok(());
    }
    let value = match restored {
        Restored::Text(ref text) => Value::Text(text),
        Restored::Collection(collection) => Value::Collection(collection),
    };
    ctx.set(key, value, expire_at_ms.map_or(Expiry::Never, Expiry::At));
    if let Some(access) = options.access(ctx) {
        ctx.peek(key).expect("the key was set").set_access(access);
    }
    let mut words = args.words().to_vec();
    let mut digits = itoa::Buffer::new();
    if let Some(at_ms) = expire_at_ms.filter(|_| !options.absolute_ttl) {
        words[2] = digits.format(at_ms).as_bytes();
        words.push(b"ABSTTL");
    }
    ctx.effect(&words);
    ctx.notify(Class::GENERIC, "restore", key);
    reply.ok();
    Ok(())
}

struct RestoreOptions {
    replace: bool,
    absolute_ttl: bool,
    usage: Option<Usage>,
}

/// How recently or often the key was used where it comes from.
enum Usage {
    IdleS(i64),
    Frequency(u8),
}

impl RestoreOptions {
    fn parse(args: &Args) -> Result<RestoreOptions> {
        let mut options = RestoreOptions { replace: false, absolute_ttl: false, usage: None };
        let mut index = 4;
        while index < args.len() {
            let has_value = index + 1 < args.len();
            match (args.get(index).to_ascii_uppercase().as_slice(), &options.usage) {
                (b"REPLACE", _) => options.replace = true,
                (b"ABSTTL", _) => options.absolute_ttl = true,
                (b"IDLETIME", None | Some(Usage::IdleS(_))) if has_value => {
                    index += 1;
                    let idle_s = args.integer(index)?;
                    if idle_s < 0 {
                        return Err(Error::Text("ERR Invalid IDLETIME value, must be >= 0"));
                    }
                    options.usage = Some(Usage::IdleS(idle_s));
                }
                (b"FREQ", None | Some(Usage::Frequency(_))) if has_value => {
                    index += 1;
                    let frequency = u8::try_from(args.integer(index)?);
                    let out_of_range = Error::Text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    options.usage = Some(Usage::Frequency(frequency.map_err(|_| out_of_range)?));
                }
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        Ok(options)
    }

    /// The access bits to restore; what the present policy does not count is ignored.
    fn access(&self, ctx: &ShardCtx) -> Option<u32> {
        match self.usage {
            Some(Usage::Frequency(frequency)) if ctx.config.maxmemory_policy.is_lfu() => {
                Some(access::of_frequency(frequency, ctx.now))
            }
            Some(Usage::IdleS(idle_s)) if !ctx.config.maxmemory_policy.is_lfu() => {
                Some(access::of_idle(idle_s, ctx.now))
            }
            _ => None,
        }
    }
}
