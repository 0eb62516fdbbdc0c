//! XADD, XDEL, XTRIM, XSETID: what changes the log of a stream.

use super::parse;
use super::reply;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result};
use crate::command::events::Class;
use crate::config::Config;
use crate::data::collection::{CollectionType, Env};
use crate::data::entry::Value;
use crate::data::stream::{Log, NewId, Stream, StreamId, Trim, TrimTo};
use crate::resp::reply::Reply;

/// Entries that `~` trims at most unless told.
const LIMIT_DEFAULT_MAX: u64 = 1_000_000;
/// The same where nodes are not limited.
const LIMIT_WITHOUT_NODES: u64 = 10_000;

/// What stands before the fields of XADD, or behind the key of XTRIM.
#[derive(Default)]
struct Options {
    trim: Option<Trim>,
    no_create: bool,
    id: Option<NewId>,
    /// The word with the ID.
    id_at: usize,
}

fn parse_options(args: &Args, is_add: bool, config: &Config) -> Result<Options> {
    let mut options = Options::default();
    let (mut to, mut limit, mut approximately) = (None, None, false);
    let mut at = 2;
    while at < args.len() {
        let has_more = at + 1 < args.len();
        if is_add && args.get(at) == b"*" {
            options.id = Some(NewId::Now);
            break;
        } else if has_more && (args.is(at, "MAXLEN") || args.is(at, "MINID")) {
            if to.is_some() {
                let text = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
                return Err(Error::Text(text));
            }
            let is_len = args.is(at, "MAXLEN");
            at += 1;
            let operator = args.get(at);
            approximately = false;
            if (operator == b"~" || operator == b"=") && at + 1 < args.len() {
                approximately = operator == b"~";
                at += 1;
            }
            to = Some(if is_len {
                let len = u64::try_from(args.integer(at)?);
                TrimTo::Len(len.map_err(|_| Error::Text("ERR The MAXLEN argument must be >= 0."))?)
            } else {
                TrimTo::MinId(parse::id(args.get(at), 0)?)
            });
        } else if has_more && args.is(at, "LIMIT") {
            at += 1;
            let entries = u64::try_from(args.integer(at)?);
            limit = Some(entries.map_err(|_| Error::Text("ERR The LIMIT argument must be >= 0."))?);
        } else if is_add && args.is(at, "NOMKSTREAM") {
            options.no_create = true;
        } else if is_add {
            options.id = Some(parse::new_id(args.get(at))?);
            break;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    options.id_at = at;
    if to.is_none() {
        if limit.is_some_and(|limit| limit > 0) {
            let text = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
            return Err(Error::Text(text));
        }
        if !is_add {
            return Err(Error::Text("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
    }
    if limit.is_some() && !approximately {
        return Err(Error::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
    }
    let limit =
        limit.unwrap_or_else(|| match (approximately, 100 * config.stream_node_max_entries.min(LIMIT_DEFAULT_MAX)) {
            (false, _) => 0,
            (true, 0) => LIMIT_WITHOUT_NODES,
            (true, entries) => entries.min(LIMIT_DEFAULT_MAX),
        });
    options.trim = to.map(|to| Trim { to, approximately, limit });
    Ok(options)
}

/// XADD key \[NOMKSTREAM] \[MAXLEN | MINID \[= | ~] threshold \[LIMIT count]] * | id field value ...
pub fn xadd(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let options = parse_options(args, true, &ctx.config)?;
    let words = args.from(options.id_at + 1);
    let wanted = options.id.filter(|_| !words.is_empty() && words.len().is_multiple_of(2));
    let Some(wanted) = wanted else { return Err(Error::arity("xadd")) };
    if wanted == NewId::Exactly(StreamId::ZERO) {
        return Err(Error::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let now_ms = ctx.now_ms();
    let adding = |stream: &mut Stream, env: &mut Env<'_>| add(stream, (wanted, now_ms), words, options.trim, env);
    let changed = ctx.change::<Stream, _>(key, adding)?;
    let added = match changed {
        Some(added) => added?,
        None if options.no_create => {
            reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::empty();
            let added = adding(&mut stream, &mut ctx.env())?;
            ctx.put_value(key, Value::Collection(stream.into()));
            added
        }
    };
    if ctx.journal.is_recording() {
        let id = added.id.to_string();
        let done = options.trim.map(|trim| trim_words(trim, &added.left));
        let trim = done.iter().flatten().map(Vec::as_slice);
        let words: Vec<&[u8]> =
            [b"XADD", key].into_iter().chain(trim).chain([id.as_bytes()]).chain(words.iter().copied()).collect();
        ctx.effect(&words);
    } else {
        ctx.effect(&[]);
    }
    ctx.notify(Class::STREAM, "xadd", key);
    if added.trimmed {
        ctx.notify(Class::STREAM, "xtrim", key);
    }
    reply::id(added.id, reply);
    Ok(())
}

struct Added {
    id: StreamId,
    trimmed: bool,
    left: Left,
}

/// What a trim has left.
struct Left {
    len: u64,
    /// Larger than all where there is no entry.
    first_id: StreamId,
}

impl Left {
    fn of(log: &Log) -> Left {
        Left { len: log.len(), first_id: if log.is_empty() { StreamId::MAX } else { log.first_id() } }
    }
}

/// Adds an entry and trims; an error changes nothing.
fn add(
    stream: &mut Stream,
    (wanted, now_ms): (NewId, i64),
    words: &[&[u8]],
    trim: Option<Trim>,
    env: &mut Env<'_>,
) -> Result<Added> {
    let log = stream.log_mut();
    if log.last_id() == StreamId::MAX {
        let text = "ERR The stream has exhausted the last possible ID, unable to add more items";
        return Err(Error::Text(text));
    }
    let Some(id) = log.new_id(wanted, now_ms) else {
        let text = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
        return Err(Error::Text(text));
    };
    if !Log::is_storable(words) {
        return Err(Error::Text("ERR Elements are too large to be stored"));
    }
    log.append(id, words, env.config);
    let trimmed = trim.is_some_and(|trim| log.trim(trim) > 0);
    Ok(Added { id, trimmed, left: Left::of(log) })
}

/// The exact trim that does again what was done.
fn trim_words(trim: Trim, left: &Left) -> [Vec<u8>; 3] {
    let (name, threshold) = match trim.to {
        TrimTo::Len(len) => ("MAXLEN", if trim.approximately { left.len } else { len }.to_string()),
        TrimTo::MinId(id) => ("MINID", if trim.approximately { left.first_id } else { id }.to_string()),
    };
    [name.into(), "=".into(), threshold.into()]
}

/// XTRIM key MAXLEN | MINID \[= | ~] threshold \[LIMIT count]
pub fn xtrim(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let options = parse_options(args, false, &ctx.config)?;
    let Some(trim) = options.trim else { return Err(Error::Syntax) };
    let trimmed = ctx.change::<Stream, _>(key, |stream, _| (stream.log_mut().trim(trim), Left::of(stream.log())))?;
    let Some((removed, left)) = trimmed else {
        reply.integer(0);
        return Ok(());
    };
    if removed > 0 {
        let [name, operator, threshold] = trim_words(trim, &left);
        ctx.effect(&[b"XTRIM", key, &name, &operator, &threshold]);
        ctx.journal.dirty += removed - 1;
        ctx.notify(Class::STREAM, "xtrim", key);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// XDEL key id \[id ...]
pub fn xdel(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    if ctx.write_as::<Stream>(key)?.is_none() {
        reply.integer(0);
        return Ok(());
    }
    let ids = args.from(2).iter().map(|text| parse::id(text, 0)).collect::<Result<Vec<StreamId>>>()?;
    let deleted =
        ctx.change::<Stream, _>(key, |stream, _| ids.iter().filter(|&&id| stream.log_mut().delete(id)).count() as u64)?;
    let deleted = deleted.unwrap_or(0);
    if deleted > 0 {
        ctx.effect(args.words());
        ctx.journal.dirty += deleted - 1;
        ctx.notify(Class::STREAM, "xdel", key);
    }
    reply.integer(deleted as i64);
    Ok(())
}

/// XSETID key last-id \[ENTRIESADDED count] \[MAXDELETEDID id]
pub fn xsetid(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let last_id = parse::id(args.get(2), 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::ZERO);
    let mut at = 3;
    while at < args.len() {
        if at + 1 < args.len() && args.is(at, "ENTRIESADDED") {
            let count = u64::try_from(args.integer(at + 1)?);
            entries_added = Some(count.map_err(|_| Error::Text("ERR entries_added must be positive"))?);
        } else if at + 1 < args.len() && args.is(at, "MAXDELETEDID") {
            max_deleted_id = parse::id(args.get(at + 1), 0)?;
            if last_id < max_deleted_id {
                let text = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
                return Err(Error::Text(text));
            }
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    let log = ctx.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?.log();
    if last_id < log.max_deleted_id() {
        let text = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
        return Err(Error::Text(text));
    }
    if !log.is_empty() {
        if last_id < log.last_live_id() {
            let text = "ERR The ID specified in XSETID is smaller than the target stream top item";
            return Err(Error::Text(text));
        }
        if entries_added.is_some_and(|added| log.len() > added) {
            let text = "ERR The entries_added specified in XSETID is smaller than the target stream length";
            return Err(Error::Text(text));
        }
    }
    let max_deleted_id = Some(max_deleted_id).filter(|&id| id != StreamId::ZERO);
    ctx.change::<Stream, _>(key, |stream, _| stream.log_mut().set_last_id(last_id, entries_added, max_deleted_id))?;
    ctx.effect(args.words());
    ctx.notify(Class::STREAM, "xsetid", key);
    reply.ok();
    Ok(())
}
