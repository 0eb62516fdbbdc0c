//! XPENDING, XCLAIM, XAUTOCLAIM: entries that were delivered and not acknowledged, and how they change hands.

use super::effects::Effects;
use super::group::no_key_or_group;
use super::parse;
use super::read::consumer;
use super::reply;
use crate::base::number::parse_i64;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result, quoted};
use crate::data::stream::{ConsumerNumber, Group, Log, Pending, Stream, StreamId};
use crate::resp::reply::Reply;

/// What XPENDING lists, if it does not only count.
struct Listing<'a> {
    idle_ms_min: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

fn parse_listing<'a>(args: &Args<'a>) -> Result<Option<Listing<'a>>> {
    if args.len() == 3 {
        return Ok(None);
    }
    if !(6..=9).contains(&args.len()) {
        return Err(Error::Syntax);
    }
    let (mut idle_ms_min, mut at) = (0, 3);
    if args.is(3, "IDLE") {
        idle_ms_min = args.integer(4)?;
        if args.len() < 8 {
            return Err(Error::Syntax);
        }
        at = 5;
    }
    let count = args.integer(at + 2)?.max(0) as usize;
    let (start, end) = (parse::start(args.get(at))?, parse::end(args.get(at + 1))?);
    let consumer = args.from(at + 3).first().copied();
    Ok(Some(Listing { idle_ms_min, start, end, count, consumer }))
}

/// XPENDING key group \[\[IDLE milliseconds] start end count \[consumer]]
pub fn xpending(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name) = (args.get(1), args.get(2));
    let listing = parse_listing(args)?;
    let now_ms = ctx.now_ms();
    let group = ctx.read_as::<Stream>(key)?.and_then(|stream| stream.group(name));
    let group = group.ok_or_else(|| no_key_or_group(key, name))?;
    match listing {
        Some(listing) => list(group, &listing, now_ms, reply),
        None => summarize(group, reply),
    }
    Ok(())
}

fn summarize(group: &Group, reply: &mut Reply) {
    let pending = group.pending();
    reply.array(4);
    reply.integer(pending.len() as i64);
    let (Some((&first, _)), Some((&last, _))) = (pending.first_key_value(), pending.last_key_value()) else {
        reply.null();
        reply.null();
        return reply.null_array();
    };
    reply::id(first, reply);
    reply::id(last, reply);
    let consumers: Vec<_> = group.consumers().filter(|consumer| !consumer.pending().is_empty()).collect();
    reply.array(consumers.len());
    for consumer in consumers {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending().len() as i64);
    }
}

fn list(group: &Group, listing: &Listing<'_>, now_ms: i64, reply: &mut Reply) {
    let &Listing { idle_ms_min, start, end, count, consumer } = listing;
    let idle_enough =
        |pending: &Pending| idle_ms_min == 0 || now_ms.wrapping_sub(pending.delivered_at_ms) >= idle_ms_min;
    let found: Vec<(StreamId, Pending)> = match consumer.map(|name| group.consumer_number(name)) {
        _ if start > end => Vec::new(),
        Some(None) => Vec::new(),
        Some(Some(number)) => {
            let ids = group.consumer(number).pending().range(start..=end);
            let pending = ids.map(|id| (*id, group.pending()[id]));
            pending.filter(|(_, pending)| idle_enough(pending)).take(count).collect()
        }
        None => {
            let pending = group.pending_from(start).take_while(|(id, _)| **id <= end);
            pending
                .map(|(id, pending)| (*id, *pending))
                .filter(|(_, pending)| idle_enough(pending))
                .take(count)
                .collect()
        }
    };
    reply.array(found.len());
    for (id, pending) in found {
        reply.array(4);
        reply::id(id, reply);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.integer(now_ms.wrapping_sub(pending.delivered_at_ms).max(0));
        reply.integer(pending.deliveries as i64);
    }
}

/// The group at a key, or NOGROUP.
fn require_group(ctx: &mut ShardCtx, key: &[u8], name: &[u8]) -> Result<()> {
    let group = ctx.read_as::<Stream>(key)?.and_then(|stream| stream.group(name));
    group.map(|_| ()).ok_or_else(|| no_key_or_group(key, name))
}

fn integer(text: &[u8], error: &'static str) -> Result<i64> {
    parse_i64(text).ok_or(Error::Text(error))
}

/// How XCLAIM and XAUTOCLAIM hand an entry over.
struct Claim {
    consumer: ConsumerNumber,
    /// The entry must have been delivered so long ago.
    idle_ms_min: i64,
    delivered_at_ms: i64,
    /// Instead of counting.
    deliveries: Option<u64>,
    just_id: bool,
}

impl Claim {
    fn is_idle_enough(&self, pending: &Pending, now_ms: i64) -> bool {
        self.idle_ms_min == 0 || now_ms.wrapping_sub(pending.delivered_at_ms) >= self.idle_ms_min
    }

    /// Changes an entry's owner and replies with it.
    #[allow(clippy::too_many_arguments)]
    fn take(
        &self,
        log: &Log,
        group: &mut Group,
        id: StreamId,
        old_deliveries: u64,
        now_ms: i64,
        effects: &mut Effects<'_>,
        reply: &mut Reply,
    ) {
        let counted = if self.just_id { old_deliveries } else { old_deliveries.wrapping_add(1) };
        let deliveries = self.deliveries.unwrap_or(counted);
        let pending = Pending { consumer: self.consumer, delivered_at_ms: self.delivered_at_ms, deliveries };
        group.set_pending(id, pending);
        group.consumer_mut(self.consumer).active_at_ms = now_ms;
        effects.pending(group, id, &pending);
        effects.dirty += 1;
        match log.get(id).filter(|_| !self.just_id) {
            Some(entry) => reply::entry(&entry, reply),
            None => reply::id(id, reply),
        }
    }
}

/// The entry is gone, so it is pending no more.
fn drop_pending(group: &mut Group, id: StreamId, effects: &mut Effects<'_>) -> bool {
    let Some(pending) = group.pending().get(&id).copied() else { return false };
    effects.pending(group, id, &pending);
    effects.dirty += 1;
    group.remove_pending(id);
    true
}

/// XCLAIM key group consumer min-idle-time id ... \[IDLE ms | TIME unix-ms] \[RETRYCOUNT count] \[FORCE] \[JUSTID]
/// \[LASTID id]
pub fn xclaim(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name, consumer_name) = (args.get(1), args.get(2), args.get(3));
    require_group(ctx, key, name)?;
    let now_ms = ctx.now_ms();
    let idle_ms_min = integer(args.get(4), "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    let ids: Vec<StreamId> = args.from(5).iter().map_while(|text| parse::id(text, 0).ok()).collect();
    let (mut time, mut deliveries, mut force, mut just_id, mut last_id) = (None, -1, false, false, StreamId::ZERO);
    let mut at = 5 + ids.len();
    while at < args.len() {
        let has_more = at + 1 < args.len();
        if args.is(at, "FORCE") {
            force = true;
        } else if args.is(at, "JUSTID") {
            just_id = true;
        } else if has_more && args.is(at, "IDLE") {
            at += 1;
            let idle_ms = integer(args.get(at), "ERR Invalid IDLE option argument for XCLAIM")?;
            time = Some(now_ms.wrapping_sub(idle_ms));
        } else if has_more && args.is(at, "TIME") {
            at += 1;
            time = Some(integer(args.get(at), "ERR Invalid TIME option argument for XCLAIM")?);
        } else if has_more && args.is(at, "RETRYCOUNT") {
            at += 1;
            deliveries = integer(args.get(at), "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
        } else if has_more && args.is(at, "LASTID") {
            at += 1;
            last_id = parse::id(args.get(at), 0)?;
        } else {
            let option = quoted(args.get(at));
            return Err(Error::dynamic([b"ERR Unrecognized XCLAIM option '", option, b"'"].concat()));
        }
        at += 1;
    }
    // A time to come, or none at all, is a client's arithmetic gone wrong.
    let delivered_at_ms = time.filter(|time| (0..=now_ms).contains(time)).unwrap_or(now_ms);
    let deliveries = u64::try_from(deliveries).ok();

    let mut effects = Effects::new(ctx, key, name);
    let mut body = Vec::new();
    let mut claimed = 0;
    ctx.change::<Stream, _>(key, |stream, _| {
        let mut reply = Reply::new(&mut body, reply.protocol());
        let (log, group) = stream.log_and_group(name).expect("the group was looked up");
        let moves = last_id > group.last_id;
        if moves {
            group.last_id = last_id;
        }
        let consumer = consumer(group, consumer_name, now_ms, &mut effects);
        let claim = Claim { consumer, idle_ms_min, delivered_at_ms, deliveries, just_id };
        let dirty = effects.dirty;
        for &id in &ids {
            if log.get(id).is_none() {
                drop_pending(group, id, &mut effects);
                continue;
            }
            let old_deliveries = match group.pending().get(&id) {
                Some(pending) if !claim.is_idle_enough(pending, now_ms) => continue,
                Some(pending) => pending.deliveries,
                None if force => 1,
                None => continue,
            };
            claim.take(log, group, id, old_deliveries, now_ms, &mut effects, &mut reply);
            claimed += 1;
        }
        // Every claim says how far the group has come.
        if moves && effects.dirty == dirty {
            effects.position(group);
            effects.dirty += 1;
        }
    })?;
    effects.record(ctx);
    reply.array(claimed);
    reply.raw(&body);
    Ok(())
}

/// Entries that XAUTOCLAIM looks at for each that it may claim.
const ATTEMPTS_PER_ENTRY: i64 = 10;
const AUTOCLAIM_COUNT: i64 = 100;

/// XAUTOCLAIM key group consumer min-idle-time start \[COUNT count] \[JUSTID]
pub fn xautoclaim(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    const COUNT_MAX: i64 = i64::MAX / size_of::<StreamId>() as i64;
    let (key, name, consumer_name) = (args.get(1), args.get(2), args.get(3));
    // Looked at first, and told last.
    let group = require_group(ctx, key, name);
    let idle_ms_min = integer(args.get(4), "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = parse::start(args.get(5))?;
    let (mut count, mut just_id) = (AUTOCLAIM_COUNT, false);
    let mut at = 6;
    while at < args.len() {
        if at + 1 < args.len() && args.is(at, "COUNT") {
            at += 1;
            let wanted = parse_i64(args.get(at)).filter(|count| (1..=COUNT_MAX).contains(count));
            count = wanted.ok_or(Error::Text("ERR COUNT must be > 0"))?;
        } else if args.is(at, "JUSTID") {
            just_id = true;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    group?;

    let now_ms = ctx.now_ms();
    let mut effects = Effects::new(ctx, key, name);
    let mut body = Vec::new();
    let (mut claimed, mut deleted, mut next) = (0, Vec::new(), Some(start));
    ctx.change::<Stream, _>(key, |stream, _| {
        let mut reply = Reply::new(&mut body, reply.protocol());
        let (log, group) = stream.log_and_group(name).expect("the group was looked up");
        let consumer = consumer(group, consumer_name, now_ms, &mut effects);
        let claim = Claim { consumer, idle_ms_min, delivered_at_ms: now_ms, deliveries: None, just_id };
        let mut attempts = count * ATTEMPTS_PER_ENTRY;
        let found =
            |group: &Group, from: StreamId| group.pending_from(from).next().map(|(&id, &pending)| (id, pending));
        while attempts > 0 && count > 0 {
            let Some((id, pending)) = next.and_then(|from| found(group, from)) else { break };
            next = id.next();
            attempts -= 1;
            if log.get(id).is_none() {
                drop_pending(group, id, &mut effects);
                deleted.push(id);
                count -= 1;
            } else if claim.is_idle_enough(&pending, now_ms) {
                claim.take(log, group, id, pending.deliveries, now_ms, &mut effects, &mut reply);
                claimed += 1;
                count -= 1;
            }
        }
        next = next.and_then(|from| found(group, from)).map(|(id, _)| id);
    })?;
    effects.record(ctx);
    reply.array(3);
    reply::id(next.unwrap_or(StreamId::ZERO), reply);
    reply.array(claimed);
    reply.raw(&body);
    reply.array(deleted.len());
    deleted.into_iter().for_each(|id| reply::id(id, reply));
    Ok(())
}
