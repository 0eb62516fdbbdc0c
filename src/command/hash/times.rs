//! Commands on the times at which fields of a hash expire: those of Redis 7.4, and HGETEX, HSETEX, HGETDEL of 8.0.
//!
//! Written after Redis's documentation. All take their fields as `FIELDS numfields field ...`. A field that is given a
//! time that has passed is removed at once. Effects name times as such: HPEXPIREAT, or HDEL for what is gone.

use super::super::KeyFn;
use super::super::args::{Args, number_of};
use super::super::ctx::ShardCtx;
use super::super::error::{Error, Result};
use super::super::events::Class;
use super::super::spec::*;
use super::super::string::NEW_EXPIRY;
use super::{HASH, change, change_or_create, record_time, reply_value};
use crate::base::number::parse_i64;
use crate::data::hash::{FIELD_TIME_MS_MAX, FieldTime, Hash};
use crate::resp::reply::Reply;

/// What the rows that read have in common, and those that write.
const READING: Spec = Spec {
    arity: AtLeast(5),
    flags: READONLY.and(FAST),
    keys: &[key_at(1, RO.and(ACCESS))],
    since: "7.4.0",
    complexity: "O(N) where N is the number of fields given.",
    args: &[key("key"), FIELDS],
    ..HASH
};
const WRITING: Spec = Spec { flags: WRITE.and(FAST), keys: &[key_at(1, RW.and(UPDATE))], ..READING };
const EXPIRING: Spec = Spec { arity: AtLeast(6), flags: WRITE.and(DENYOOM).and(FAST), ..WRITING };

const FIELDS: Arg = block("fields", &[integer("numfields"), string("field").multiple()]).after("FIELDS");
const CONDITION: Arg = one_of("condition", &[token("NX"), token("XX"), token("GT"), token("LT")]).optional();

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: hexpire,
        spec: Spec {
            name: "hexpire",
            summary: "Lets fields expire after some seconds.",
            args: &[key("key"), integer("seconds"), CONDITION, FIELDS],
            ..EXPIRING
        },
    },
    Row {
        run: hexpireat,
        spec: Spec {
            name: "hexpireat",
            summary: "Lets fields expire at a time given in seconds.",
            args: &[key("key"), unix_time("unix-time-seconds"), CONDITION, FIELDS],
            ..EXPIRING
        },
    },
    Row {
        run: hexpiretime,
        spec: Spec { name: "hexpiretime", summary: "Returns the time at which fields expire, in seconds.", ..READING },
    },
    Row {
        run: hgetdel,
        spec: Spec {
            name: "hgetdel",
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "8.0.0",
            summary: "Reads the values of fields and removes the fields.",
            ..WRITING
        },
    },
    Row {
        run: hgetex,
        spec: Spec {
            name: "hgetex",
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE)).notes("RW and UPDATE because it changes the TTL")],
            since: "8.0.0",
            summary: "Reads the values of fields and sets or removes the time at which they expire.",
            args: &[key("key"), NEW_EXPIRY, FIELDS],
            ..WRITING
        },
    },
    Row {
        run: hpersist,
        spec: Spec { name: "hpersist", summary: "Lets fields live forever that would expire.", ..WRITING },
    },
    Row {
        run: hpexpire,
        spec: Spec {
            name: "hpexpire",
            summary: "Lets fields expire after some milliseconds.",
            args: &[key("key"), integer("milliseconds"), CONDITION, FIELDS],
            ..EXPIRING
        },
    },
    Row {
        run: hpexpireat,
        spec: Spec {
            name: "hpexpireat",
            summary: "Lets fields expire at a time given in milliseconds.",
            args: &[key("key"), unix_time("unix-time-milliseconds"), CONDITION, FIELDS],
            ..EXPIRING
        },
    },
    Row {
        run: hpexpiretime,
        spec: Spec {
            name: "hpexpiretime",
            summary: "Returns the time at which fields expire, in milliseconds.",
            ..READING
        },
    },
    Row {
        run: hpttl,
        spec: Spec {
            name: "hpttl",
            summary: "Returns how many milliseconds fields have left to live.",
            tips: &["nondeterministic_output"],
            ..READING
        },
    },
    Row {
        run: hsetex,
        spec: Spec {
            name: "hsetex",
            since: "8.0.0",
            summary: "Stores the values of fields with a time at which they expire, under optional conditions.",
            args: &[
                key("key"),
                one_of("condition", &[token("FNX"), token("FXX")]).optional(),
                one_of(
                    "expiration",
                    &[
                        integer("seconds").after("EX"),
                        integer("milliseconds").after("PX"),
                        unix_time("unix-time-seconds").after("EXAT"),
                        unix_time("unix-time-milliseconds").after("PXAT"),
                        token("KEEPTTL"),
                    ],
                )
                .optional(),
                block("fields", &[integer("numfields"), block("data", &[string("field"), string("value")]).multiple()])
                    .after("FIELDS"),
            ],
            ..EXPIRING
        },
    },
    Row {
        run: httl,
        spec: Spec {
            name: "httl",
            summary: "Returns how many seconds fields have left to live.",
            tips: &["nondeterministic_output"],
            ..READING
        },
    },
];

/// What a command answers for each field.
const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const CONDITION_FAILED: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// HEXPIRE key seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]
fn hexpire(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    set_times(ctx, args, reply, Clock { command: "hexpire", unit_ms: 1000, from_ms: ctx.now_ms() })
}

/// HPEXPIRE key milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]
fn hpexpire(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    set_times(ctx, args, reply, Clock { command: "hpexpire", unit_ms: 1, from_ms: ctx.now_ms() })
}

/// HEXPIREAT key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]
fn hexpireat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    set_times(ctx, args, reply, Clock { command: "hexpireat", unit_ms: 1000, from_ms: 0 })
}

/// HPEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]
fn hpexpireat(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    set_times(ctx, args, reply, Clock { command: "hpexpireat", unit_ms: 1, from_ms: 0 })
}

/// How a command gives a time.
#[derive(Clone, Copy)]
struct Clock {
    command: &'static str,
    unit_ms: i64,
    from_ms: i64,
}

impl Clock {
    fn time_ms(self, text: &[u8]) -> Result<i64> {
        let time = parse_i64(text).ok_or(Error::NotAnInteger)?;
        if time < 0 {
            return Err(Error::Text("ERR invalid expire time, must be >= 0"));
        }
        let at_ms = time.checked_mul(self.unit_ms).and_then(|time_ms| time_ms.checked_add(self.from_ms));
        at_ms.filter(|&at_ms| at_ms <= FIELD_TIME_MS_MAX).ok_or_else(|| Error::invalid_expire(self.command))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfNone,
    IfAny,
    IfGreater,
    IfLess,
}

impl Condition {
    fn named(word: &[u8]) -> Option<Condition> {
        const NAMES: [(&str, Condition); 4] = [
            ("NX", Condition::IfNone),
            ("XX", Condition::IfAny),
            ("GT", Condition::IfGreater),
            ("LT", Condition::IfLess),
        ];
        NAMES.into_iter().find(|(name, _)| is(word, name)).map(|(_, condition)| condition)
    }

    /// A field without a time lives forever: no time is greater.
    fn allows(self, current: Option<i64>, at_ms: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::IfNone => current.is_none(),
            Condition::IfAny => current.is_some(),
            Condition::IfGreater => current.is_some_and(|current| at_ms > current),
            Condition::IfLess => current.is_none_or(|current| at_ms < current),
        }
    }
}

fn set_times(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, clock: Clock) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    ctx.write_as::<Hash>(key)?;
    let at_ms = clock.time_ms(args.get(2))?;
    let condition = Condition::named(args.get(3));
    let words = args.from(if condition.is_some() { 4 } else { 3 });
    let fields = fields_of(words, "ERR Parameter `numFields` should be greater than 0")?;
    let condition = condition.unwrap_or(Condition::Always);
    let mut answers = vec![NO_FIELD; fields.len()];
    change(ctx, key, fields.iter(), |hash, _| {
        for (field, answer) in fields.iter().zip(&mut answers) {
            *answer = match hash.field_time(field, now_ms) {
                None => NO_FIELD,
                Some(current) if !condition.allows(current, at_ms) => CONDITION_FAILED,
                Some(_) => give_time(hash, field, at_ms, now_ms),
            };
        }
    })?;
    record_given(ctx, key, at_ms, fields, &answers);
    reply_all(&answers, reply)
}

/// Gives a field that exists a time, which removes it if that has passed.
fn give_time(hash: &mut Hash, field: &[u8], at_ms: i64, now_ms: i64) -> i64 {
    if at_ms <= now_ms {
        hash.remove(field);
        return DELETED;
    }
    hash.set_field_time(field, Some(at_ms));
    DONE
}

/// Records what became of fields that were given a time: all were removed, or none.
fn record_given(ctx: &mut ShardCtx, key: &[u8], at_ms: i64, fields: &[&[u8]], answers: &[i64]) {
    let of = |wanted: i64| -> Vec<&[u8]> {
        let matching = fields.iter().zip(answers).filter(|(_, answer)| **answer == wanted);
        matching.map(|(field, _)| *field).collect()
    };
    let (given, deleted) = (of(DONE), of(DELETED));
    if !given.is_empty() {
        record_time(ctx, key, at_ms, &given);
        ctx.notify(Class::HASH, "hexpire", key);
    }
    record_removed(ctx, key, &deleted);
}

fn record_removed(ctx: &mut ShardCtx, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() {
        ctx.effect(&[&[b"HDEL".as_slice(), key], fields].concat());
        ctx.notify(Class::HASH, "hdel", key);
        ctx.notify_if_gone(key);
    }
}

fn record_persisted(ctx: &mut ShardCtx, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() {
        let mut digits = itoa::Buffer::new();
        let count = digits.format(fields.len()).as_bytes();
        ctx.effect(&[&[b"HPERSIST".as_slice(), key, b"FIELDS", count], fields].concat());
        ctx.notify(Class::HASH, "hpersist", key);
    }
}

/// HTTL key FIELDS numfields field [field ...]
fn httl(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.now_ms();
    show_times(ctx, args, reply, |at_ms| rounded_up_s(at_ms - now_ms))
}

/// HPTTL key FIELDS numfields field [field ...]
fn hpttl(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let now_ms = ctx.now_ms();
    show_times(ctx, args, reply, |at_ms| at_ms - now_ms)
}

/// HEXPIRETIME key FIELDS numfields field [field ...]
fn hexpiretime(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    show_times(ctx, args, reply, rounded_up_s)
}

/// HPEXPIRETIME key FIELDS numfields field [field ...]
fn hpexpiretime(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    show_times(ctx, args, reply, |at_ms| at_ms)
}

/// Unlike TTL, which rounds to the nearest second.
fn rounded_up_s(ms: i64) -> i64 {
    (ms + 999) / 1000
}

const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

fn show_times(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply, form: impl Fn(i64) -> i64) -> Result {
    let now_ms = ctx.expiry_ms();
    let hash = ctx.read_as::<Hash>(args.get(1))?;
    let fields = fields_of(args.from(2), NOT_POSITIVE)?;
    reply.array(fields.len());
    for field in fields {
        reply.integer(match hash.and_then(|hash| hash.field_time(field, now_ms)) {
            None => NO_FIELD,
            Some(None) => NO_TIME,
            Some(Some(at_ms)) => form(at_ms),
        });
    }
    Ok(())
}

/// HPERSIST key FIELDS numfields field [field ...]
fn hpersist(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    ctx.write_as::<Hash>(key)?;
    let fields = fields_of(args.from(2), NOT_POSITIVE)?;
    let mut answers = vec![NO_FIELD; fields.len()];
    let mut persisted = Vec::new();
    change(ctx, key, fields.iter(), |hash, _| {
        for (field, answer) in fields.iter().zip(&mut answers) {
            *answer = match hash.field_time(field, now_ms) {
                None => NO_FIELD,
                Some(None) => NO_TIME,
                Some(Some(_)) => {
                    hash.set_field_time(field, None);
                    persisted.push(*field);
                    DONE
                }
            };
        }
    })?;
    record_persisted(ctx, key, &persisted);
    reply_all(&answers, reply)
}

/// HGETDEL key FIELDS numfields field [field ...]
fn hgetdel(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    ctx.write_as::<Hash>(key)?;
    let fields = fields_of(args.from(2), NOT_POSITIVE)?;
    reply.array(fields.len());
    let removed = change(ctx, key, fields.iter(), |hash, _| {
        let mut removed = Vec::new();
        for field in fields {
            reply_value(hash.get(field, now_ms), reply);
            if hash.remove(field) {
                removed.push(*field);
            }
        }
        removed
    })?;
    match removed {
        Some(removed) => record_removed(ctx, key, &removed),
        None => fields.iter().for_each(|_| reply.null()),
    }
    Ok(())
}

/// HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
/// FIELDS numfields field [field ...]
fn hgetex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    let options = Options::parse(args.from(2), ctx.now_ms(), OptionsOf::Hgetex)?;
    let fields = options.fields;
    ctx.write_as::<Hash>(key)?;
    if options.time == Time::Unsaid {
        let hash = ctx.read_as::<Hash>(key)?;
        reply.array(fields.len());
        fields.iter().for_each(|field| reply_value(hash.and_then(|hash| hash.get(field, now_ms)), reply));
        return Ok(());
    }
    reply.array(fields.len());
    let mut answers = vec![NO_FIELD; fields.len()];
    let found = change(ctx, key, fields.iter(), |hash, _| {
        for (field, answer) in fields.iter().zip(&mut answers) {
            reply_value(hash.get(field, now_ms), reply);
            *answer = match (options.time, hash.field_time(field, now_ms)) {
                (_, None) => NO_FIELD,
                (Time::At(at_ms), Some(_)) => give_time(hash, field, at_ms, now_ms),
                (_, Some(None)) => NO_TIME,
                (_, Some(Some(_))) => {
                    hash.set_field_time(field, None);
                    DONE
                }
            };
        }
    })?;
    if found.is_none() {
        fields.iter().for_each(|_| reply.null());
    }
    if let Time::At(at_ms) = options.time {
        record_given(ctx, key, at_ms, fields, &answers);
    } else {
        let persisted = fields.iter().zip(&answers).filter(|(_, answer)| **answer == DONE).map(|(field, _)| *field);
        record_persisted(ctx, key, &persisted.collect::<Vec<_>>());
    }
    Ok(())
}

/// HSETEX key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
/// KEEPTTL] FIELDS numfields field value [field value ...]
fn hsetex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, now_ms) = (args.get(1), ctx.expiry_ms());
    let options = Options::parse(args.from(2), ctx.now_ms(), OptionsOf::Hsetex)?;
    let pairs = options.fields;
    let hash = ctx.write_as::<Hash>(key)?;
    let exists = |field: &[u8]| hash.is_some_and(|hash| hash.get(field, now_ms).is_some());
    let mut fields = pairs.iter().step_by(2);
    let stores = match options.when {
        When::Always => true,
        When::NoneExists => !fields.any(|field| exists(field)),
        When::AllExist => fields.all(|field| exists(field)),
    };
    if !stores {
        reply.integer(0);
        return Ok(());
    }
    match options.time {
        Time::At(at_ms) if at_ms <= now_ms => {
            let mut removed = Vec::new();
            change(ctx, key, pairs.iter().step_by(2), |hash, _| {
                removed.extend(pairs.iter().step_by(2).copied().filter(|field| hash.remove(field)));
            })?;
            record_removed(ctx, key, &removed);
        }
        time => {
            let kept = if time == Time::Keep { FieldTime::Keep } else { FieldTime::Clear };
            change_or_create(ctx, key, pairs.iter().step_by(2), |hash, env| {
                hash.make_room(pairs, env);
                for pair in pairs.chunks_exact(2) {
                    hash.set(pair[0], pair[1], kept, env);
                    if let Time::At(at_ms) = time {
                        hash.set_field_time(pair[0], Some(at_ms));
                    }
                }
            })?;
            record_stored(ctx, key, time, pairs);
            ctx.notify(Class::HASH, "hset", key);
            if let Time::At(_) = time {
                ctx.notify(Class::HASH, "hexpire", key);
            }
        }
    }
    reply.integer(1);
    Ok(())
}

/// Records that pairs were stored: values and times in one effect, lest one of them is lost.
fn record_stored(ctx: &mut ShardCtx, key: &[u8], time: Time, pairs: &[&[u8]]) {
    let (mut at_digits, mut count_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let count = count_digits.format(pairs.len() / 2).as_bytes();
    let mut words: Vec<&[u8]> = Vec::with_capacity(pairs.len() + 6);
    match time {
        Time::At(at_ms) => {
            words.extend([b"HSETEX", key, b"PXAT", at_digits.format(at_ms).as_bytes(), b"FIELDS", count])
        }
        Time::Keep => words.extend([b"HSETEX", key, b"KEEPTTL", b"FIELDS", count]),
        Time::Persist | Time::Unsaid => words.extend([b"HSET", key]),
    }
    words.extend(pairs);
    ctx.effect(&words);
}

/// Records a value that replaced another, whose time it kept.
pub(super) fn record_stored_keeping_time(ctx: &mut ShardCtx, key: &[u8], pair: &[&[u8]]) {
    record_stored(ctx, key, Time::Keep, pair);
}

/// What stands behind the key of HGETEX and HSETEX.
struct Options<'a, 'w> {
    when: When,
    time: Time,
    /// Of HSETEX with their values.
    fields: &'w [&'a [u8]],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    NoneExists,
    AllExist,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Unsaid,
    At(i64),
    Keep,
    Persist,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OptionsOf {
    Hgetex,
    Hsetex,
}

impl<'a, 'w> Options<'a, 'w> {
    fn parse(mut words: &'w [&'a [u8]], now_ms: i64, command: OptionsOf) -> Result<Options<'a, 'w>> {
        let mut options = Options { when: When::Always, time: Time::Unsaid, fields: &[] };
        while let [word, rest @ ..] = words {
            if is(word, "FIELDS") {
                if !options.fields.is_empty() {
                    return Err(Error::Text("ERR FIELDS keyword specified multiple times"));
                }
                words = options.take_fields(rest, command)?;
            } else if let Some(when) = When::named(word).filter(|_| command == OptionsOf::Hsetex) {
                if options.when != When::Always {
                    return Err(Error::Text("ERR Only one of FXX or FNX arguments can be specified"));
                }
                (options.when, words) = (when, rest);
            } else {
                let (time, rest) = Time::parse(word, rest, now_ms, command)?;
                if options.time != Time::Unsaid {
                    return Err(Error::Text(command.one_time_only()));
                }
                (options.time, words) = (time, rest);
            }
        }
        if options.fields.is_empty() {
            return Err(Error::Text(MISSING_FIELDS));
        }
        Ok(options)
    }

    /// Takes number and fields, and returns what is left.
    fn take_fields(&mut self, words: &'w [&'a [u8]], command: OptionsOf) -> Result<&'w [&'a [u8]]> {
        let Some((count, words)) = words.split_first() else { return Err(Error::Text(MISSING_FIELDS)) };
        let count = number_of(count, 1, NOT_POSITIVE)?;
        let each = if command == OptionsOf::Hsetex { 2 } else { 1 };
        let fields = count.checked_mul(each).and_then(|count| words.split_at_checked(count));
        let (fields, rest) = fields.ok_or(Error::Text(WRONG_NUMBER))?;
        self.fields = fields;
        // What follows is more options; a field too many is none of them.
        if rest.first().is_some_and(|word| !command.knows(word)) {
            return Err(Error::Text(WRONG_NUMBER));
        }
        Ok(rest)
    }
}

impl When {
    fn named(word: &[u8]) -> Option<When> {
        if is(word, "FNX") {
            Some(When::NoneExists)
        } else if is(word, "FXX") {
            Some(When::AllExist)
        } else {
            None
        }
    }
}

impl Time {
    fn parse<'a, 'w>(
        word: &[u8],
        rest: &'w [&'a [u8]],
        now_ms: i64,
        command: OptionsOf,
    ) -> Result<(Time, &'w [&'a [u8]])> {
        const FORMS: [(&str, i64, bool); 4] =
            [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)];
        if let (Some((_, unit_ms, from_now)), [time, rest @ ..]) = (FORMS.iter().find(|form| is(word, form.0)), rest) {
            let from_ms = if *from_now { now_ms } else { 0 };
            let clock = Clock { command: command.name(), unit_ms: *unit_ms, from_ms };
            return Ok((Time::At(clock.time_ms(time)?), rest));
        }
        match command {
            OptionsOf::Hgetex if is(word, "PERSIST") => Ok((Time::Persist, rest)),
            OptionsOf::Hsetex if is(word, "KEEPTTL") => Ok((Time::Keep, rest)),
            _ => Err(Error::dynamic([b"ERR unknown argument: ", word].concat())),
        }
    }
}

impl OptionsOf {
    fn name(self) -> &'static str {
        if self == OptionsOf::Hgetex { "hgetex" } else { "hsetex" }
    }

    fn knows(self, word: &[u8]) -> bool {
        const BOTH: [&str; 5] = ["FIELDS", "EX", "PX", "EXAT", "PXAT"];
        let own: &[&str] = if self == OptionsOf::Hgetex { &["PERSIST"] } else { &["KEEPTTL", "FNX", "FXX"] };
        BOTH.iter().chain(own).any(|name| is(word, name))
    }

    fn one_time_only(self) -> &'static str {
        match self {
            OptionsOf::Hgetex => "ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified",
            OptionsOf::Hsetex => "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
        }
    }
}

const MISSING_FIELDS: &str = "ERR Mandatory argument FIELDS is missing or not at the right position";
const WRONG_NUMBER: &str = "ERR The `numfields` parameter must match the number of arguments";

/// The fields of `FIELDS numfields field ...`, which ends the command.
fn fields_of<'a, 'w>(words: &'w [&'a [u8]], not_positive: &'static str) -> Result<&'w [&'a [u8]]> {
    let [word, count, fields @ ..] = words else { return Err(Error::Text(MISSING_FIELDS)) };
    if !is(word, "FIELDS") {
        return Err(Error::Text(MISSING_FIELDS));
    }
    let count = number_of(count, 1, not_positive)?;
    if count == fields.len() { Ok(fields) } else { Err(Error::Text(WRONG_NUMBER)) }
}

fn reply_all(answers: &[i64], reply: &mut Reply) -> Result {
    reply.array(answers.len());
    answers.iter().for_each(|&answer| reply.integer(answer));
    Ok(())
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests;
