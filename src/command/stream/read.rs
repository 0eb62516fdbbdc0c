//! XLEN, XRANGE, XREVRANGE, XREAD, XREADGROUP.

use super::effects::Effects;
use super::parse;
use super::reply;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result, quoted};
use crate::command::keys::keys_of_xread;
use crate::command::wait::{Wait, timeout_milliseconds};
use crate::data::stream::{ConsumerNumber, ENTRIES_READ_UNKNOWN, Group, Log, Pending, Stream, StreamId};
use crate::resp::reply::Reply;

/// XLEN key
pub fn xlen(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let len = ctx.read_as::<Stream>(args.get(1))?.map_or(0, |stream| stream.log().len());
    reply.integer(len as i64);
    Ok(())
}

/// XRANGE key start end \[COUNT count]
pub fn xrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    range(ctx, args, args.get(2), args.get(3), false, reply)
}

/// XREVRANGE key end start \[COUNT count]
pub fn xrevrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    range(ctx, args, args.get(3), args.get(2), true, reply)
}

fn range(ctx: &mut ShardCtx, args: &Args, start: &[u8], end: &[u8], is_back: bool, reply: &mut Reply) -> Result {
    let (start, end) = (parse::start(start)?, parse::end(end)?);
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if at + 1 == args.len() || !args.is(at, "COUNT") {
            return Err(Error::Syntax);
        }
        count = Some(args.integer(at + 1)?.max(0) as usize);
        at += 2;
    }
    let Some(stream) = ctx.read_as::<Stream>(args.get(1))? else {
        reply.array(0);
        return Ok(());
    };
    let log = stream.log();
    match count {
        Some(0) => reply.null_array(),
        _ if start > end => reply.array(0),
        _ if is_back => reply::entries(log.range_back(start, end), count.unwrap_or(0), reply),
        _ => reply::entries(log.range(start, end), count.unwrap_or(0), reply),
    }
    Ok(())
}

/// What XREAD and XREADGROUP are asked for.
struct Reading<'a> {
    /// 0: no limit.
    count: usize,
    /// BLOCK: how long.
    block: Option<Option<i64>>,
    no_ack: bool,
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    keys: &'a [&'a [u8]],
    ids: &'a [&'a [u8]],
}

/// From where on one stream is read.
#[derive(Clone, Copy)]
enum From {
    After(StreamId),
    /// What the group has not read yet.
    New,
}

/// XREAD \[COUNT count] \[BLOCK milliseconds] STREAMS key ... id ...
pub fn xread(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let reading = parse_reading(args, false, ctx.now_ms())?;
    let mut from = Vec::new();
    for (&key, &text) in reading.keys.iter().zip(reading.ids) {
        let log = ctx.read_as::<Stream>(key)?.map(Stream::log);
        from.push(match text {
            b"$" => log.map_or(StreamId::ZERO, Log::last_id),
            // The last entry, unless it has been deleted.
            b"+" => log.map_or(Ok(StreamId::ZERO), |log| log.last_id().previous().ok_or(NO_LAST_ID))?,
            b">" => {
                let text = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
                            <consumer> option.";
                return Err(Error::Text(text));
            }
            _ => parse::id(text, 0)?,
        });
    }
    let mut served = Served::new(reply);
    for (&key, &after) in reading.keys.iter().zip(&from) {
        let Some(stream) = ctx.read_as::<Stream>(key)? else { continue };
        let log = stream.log();
        let Some(start) = after.next().filter(|_| log.last_live_id() > after) else { continue };
        served.stream(key, |reply| reply::entries(log.range(start, StreamId::MAX), reading.count, reply));
    }
    if let Some(timeout_ms) = reading.block.filter(|_| served.is_empty()) {
        // `$` and `+` are what they are now.
        let first = args.len() - reading.ids.len();
        let mut words: Vec<Vec<u8>> = args.words()[..first].iter().map(|word| word.to_vec()).collect();
        words.extend(from.iter().map(|id| id.to_string().into_bytes()));
        let is_ready = has_entries_behind;
        ctx.waiting = Some(Wait { timeout_ms, is_ready, minds_removal: false, words: Some(words) });
    }
    served.finish(reply);
    Ok(())
}

/// XREAD has something to answer: entries behind the ID that belongs to the key.
fn has_entries_behind(ctx: &mut ShardCtx, words: &[&[u8]], key: &[u8]) -> bool {
    let Some(id) = id_of(words, key).and_then(|id| parse::id(id, 0).ok()) else { return false };
    ctx.peek_as::<Stream>(key).is_some_and(|stream| stream.log().last_live_id() > id)
}

/// XREADGROUP has something to answer: new entries, or an error, as there is no such group any more.
fn has_news(ctx: &mut ShardCtx, words: &[&[u8]], key: &[u8]) -> bool {
    let args = Args::new(words);
    let Ok(Reading { group: Some((name, _)), .. }) = parse_reading(&args, true, ctx.now_ms()) else { return true };
    let Some(stream) = ctx.peek_as::<Stream>(key) else { return true };
    stream.group(name).is_none_or(|group| stream.log().last_live_id() > group.last_id)
}

/// The ID that belongs to a key in the words of XREAD.
fn id_of<'a>(words: &[&'a [u8]], key: &[u8]) -> Option<&'a [u8]> {
    let keys = keys_of_xread(words);
    let index = keys.iter().map(|key| key.index as usize).find(|&index| words[index] == key)?;
    words.get(index + keys.len()).copied()
}

/// Whether XREAD or XREADGROUP is asked to wait.
pub fn has_block(words: &[&[u8]]) -> bool {
    let is = |word: &&&[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
    words.iter().take_while(|word| !is(word, b"STREAMS")).any(|word| is(&word, b"BLOCK"))
}

/// XREADGROUP GROUP group consumer \[COUNT count] \[BLOCK milliseconds] \[NOACK] STREAMS key ... id ...
pub fn xreadgroup(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let reading = parse_reading(args, true, ctx.now_ms())?;
    let Some((group_name, consumer_name)) = reading.group else {
        return Err(Error::Text("ERR Missing GROUP option for XREADGROUP"));
    };
    let mut from = Vec::new();
    let mut is_served = false;
    for (&key, &text) in reading.keys.iter().zip(reading.ids) {
        let stream = ctx.read_as::<Stream>(key)?;
        let Some((log, group)) = stream.and_then(|stream| Some((stream.log(), stream.group(group_name)?))) else {
            return Err(no_group_to_read(key, group_name));
        };
        let of_key = match text {
            b"$" | b"+" => return Err(meaningless(text)),
            b">" => From::New,
            _ => match parse::id(text, 0)? {
                StreamId::MAX => From::New,
                id => From::After(id),
            },
        };
        is_served |= matches!(of_key, From::After(_)) || log.last_live_id() > group.last_id;
        from.push(of_key);
    }
    if let Some(timeout_ms) = reading.block.filter(|_| !is_served) {
        ctx.waiting = Some(Wait { timeout_ms, is_ready: has_news, minds_removal: true, words: None });
    }
    let now_ms = ctx.now_ms();
    let mut served = Served::new(reply);
    for (&key, from) in reading.keys.iter().zip(from) {
        let mut effects = Effects::new(ctx, key, group_name);
        ctx.change::<Stream, _>(key, |stream, _| {
            let (log, group) = stream.log_and_group(group_name).expect("the group was looked up");
            let consumer = consumer(group, consumer_name, now_ms, &mut effects);
            match from {
                From::After(after) => {
                    let start = after.next().unwrap_or_default();
                    served.stream(key, |reply| {
                        history(log, group, consumer, start, reading.count, now_ms, &mut effects, reply);
                    });
                    effects.dirty += 1;
                }
                From::New if log.last_live_id() > group.last_id => {
                    served.stream(key, |reply| {
                        deliver(log, group, consumer, reading.count, reading.no_ack, now_ms, &mut effects, reply);
                    });
                    effects.dirty += 1;
                }
                From::New => {}
            }
        })?;
        effects.record(ctx);
    }
    served.finish(reply);
    Ok(())
}

fn no_group_to_read(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (quoted(key), quoted(group));
    let parts = [b"NOGROUP No such key '", key, b"' or consumer group '", group, b"' in XREADGROUP with GROUP option"];
    Error::dynamic(parts.concat())
}

fn meaningless(id: &[u8]) -> Error {
    let id = String::from_utf8_lossy(id);
    Error::dynamic(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}

const NO_LAST_ID: Error = Error::Text("ERR the stream last element ID is 0-0");

fn parse_reading<'a>(args: &Args<'a>, is_group: bool, now_ms: i64) -> Result<Reading<'a>> {
    let mut reading = Reading { count: 0, block: None, no_ack: false, group: None, keys: &[], ids: &[] };
    let mut at = 1;
    loop {
        if at == args.len() {
            return Err(Error::Syntax);
        }
        let more = args.len() - at - 1;
        if more >= 1 && args.is(at, "BLOCK") {
            reading.block = Some(timeout_milliseconds(args.get(at + 1), now_ms)?);
            at += 2;
        } else if more >= 1 && args.is(at, "COUNT") {
            reading.count = args.integer(at + 1)?.max(0) as usize;
            at += 2;
        } else if more >= 1 && args.is(at, "STREAMS") {
            break;
        } else if more >= 2 && args.is(at, "GROUP") {
            if !is_group {
                let text = "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.";
                return Err(Error::Text(text));
            }
            reading.group = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if args.is(at, "NOACK") {
            if !is_group {
                let text = "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.";
                return Err(Error::Text(text));
            }
            reading.no_ack = true;
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    let words = args.from(at + 1);
    if !words.len().is_multiple_of(2) {
        return Err(Error::Text(if is_group {
            "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
        } else {
            "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."
        }));
    }
    (reading.keys, reading.ids) = words.split_at(words.len() / 2);
    Ok(reading)
}

/// The streams that had something, of unknown number until all have been looked at.
struct Served {
    body: Vec<u8>,
    protocol: crate::resp::reply::Protocol,
    streams: usize,
}

impl Served {
    fn new(reply: &Reply) -> Served {
        Served { body: Vec::new(), protocol: reply.protocol(), streams: 0 }
    }

    fn stream(&mut self, key: &[u8], entries: impl FnOnce(&mut Reply)) {
        let mut reply = Reply::new(&mut self.body, self.protocol);
        if !reply.is_resp3() {
            reply.array(2);
        }
        reply.bulk(key);
        entries(&mut reply);
        self.streams += 1;
    }

    fn is_empty(&self) -> bool {
        self.streams == 0
    }

    fn finish(self, reply: &mut Reply) {
        match self.streams {
            0 => reply.null_array(),
            streams if reply.is_resp3() => reply.map(streams),
            streams => reply.array(streams),
        }
        reply.raw(&self.body);
    }
}

/// The consumer of this name, made if there is none; it is seen now.
pub fn consumer(group: &mut Group, name: &[u8], now_ms: i64, effects: &mut Effects<'_>) -> ConsumerNumber {
    let number = group.consumer_number(name).unwrap_or_else(|| {
        effects.consumer_created(name);
        group.create_consumer(name, now_ms)
    });
    group.consumer_mut(number).seen_at_ms = now_ms;
    number
}

/// Hands what is new to the group to a consumer.
#[allow(clippy::too_many_arguments)]
fn deliver(
    log: &Log,
    group: &mut Group,
    consumer: ConsumerNumber,
    count: usize,
    no_ack: bool,
    now_ms: i64,
    effects: &mut Effects<'_>,
    reply: &mut Reply,
) {
    let Some(start) = group.last_id.next() else { return reply.array(0) };
    let limit = if count == 0 { usize::MAX } else { count };
    let entries: Vec<_> = log.range(start, StreamId::MAX).take(limit).collect();
    reply.array(entries.len());
    for entry in &entries {
        let id = entry.id;
        // The counter goes on unless entries may have gone between the group's position and here.
        let is_whole = group.last_id >= log.first_id() && !log.has_tombstones(group.last_id, StreamId::MAX);
        if is_whole && group.entries_read != ENTRIES_READ_UNKNOWN {
            group.entries_read = group.entries_read.wrapping_add(1);
        } else if log.entries_added() > 0 {
            group.entries_read = log.entries_added_until(id);
        }
        group.last_id = id;
        reply::entry(entry, reply);
        if no_ack {
            continue;
        }
        // It may be pending already, as XGROUP SETID goes back; that counts as a first delivery, too.
        let pending = Pending { consumer, delivered_at_ms: now_ms, deliveries: 1 };
        group.set_pending(id, pending);
        group.consumer_mut(consumer).active_at_ms = now_ms;
        effects.pending(group, id, &pending);
    }
    effects.position(group);
}

/// What is pending for a consumer, from `start` on. Each is delivered once more.
#[allow(clippy::too_many_arguments)]
fn history(
    log: &Log,
    group: &mut Group,
    consumer: ConsumerNumber,
    start: StreamId,
    count: usize,
    now_ms: i64,
    effects: &mut Effects<'_>,
    reply: &mut Reply,
) {
    let limit = if count == 0 { usize::MAX } else { count };
    let ids: Vec<StreamId> = group.consumer(consumer).pending().range(start..).take(limit).copied().collect();
    reply.array(ids.len());
    for id in ids {
        let Some(entry) = log.get(id) else {
            reply.array(2);
            reply::id(id, reply);
            reply.null_array();
            continue;
        };
        reply::entry(&entry, reply);
        let old = group.pending()[&id];
        let pending = Pending { delivered_at_ms: now_ms, deliveries: old.deliveries.wrapping_add(1), ..old };
        group.set_pending(id, pending);
        effects.pending(group, id, &pending);
    }
}
