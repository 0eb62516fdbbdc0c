//! XGROUP and XACK: consumer groups and consumers come and go.

use super::parse;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result, quoted};
use crate::command::events::Class;
use crate::data::collection::CollectionType;
use crate::data::entry::Value;
use crate::data::stream::{ENTRIES_READ_UNKNOWN, Group, Stream, StreamId};
use crate::resp::reply::Reply;

/// `NOGROUP No such consumer group 'group' for key name 'key'`
pub fn no_group_of_key(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (quoted(key), quoted(group));
    Error::dynamic([b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"].concat())
}

/// `NOGROUP No such key 'key' or consumer group 'group'`
pub fn no_key_or_group(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (quoted(key), quoted(group));
    Error::dynamic([b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"].concat())
}

/// Options of CREATE and SETID.
struct Options {
    make_stream: bool,
    entries_read: i64,
}

fn parse_options(args: &Args, may_make: bool) -> Result<Options> {
    let mut options = Options { make_stream: false, entries_read: ENTRIES_READ_UNKNOWN };
    let mut at = 5;
    while at < args.len() {
        if may_make && args.is(at, "MKSTREAM") {
            options.make_stream = true;
            at += 1;
        } else if at + 1 < args.len() && args.is(at, "ENTRIESREAD") {
            options.entries_read = args.integer(at + 1)?;
            if options.entries_read < 0 && options.entries_read != ENTRIES_READ_UNKNOWN {
                return Err(Error::Text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            at += 2;
        } else {
            return Err(Error::subcommand_syntax("XGROUP", args.get(1)));
        }
    }
    Ok(options)
}

const NO_KEY: Error = Error::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
     to create an empty stream automatically.",
);

/// XGROUP subcommand key group ...
pub fn xgroup(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match args.get(1).to_ascii_uppercase().as_slice() {
        b"CREATE" => create(ctx, args, reply),
        b"SETID" => set_id(ctx, args, reply),
        b"DESTROY" => destroy(ctx, args, reply),
        b"CREATECONSUMER" => create_consumer(ctx, args, reply),
        b"DELCONSUMER" => delete_consumer(ctx, args, reply),
        b"HELP" => {
            reply.array(HELP.len());
            HELP.iter().for_each(|line| reply.simple(line));
            Ok(())
        }
        _ => Err(Error::subcommand_syntax("XGROUP", args.get(1))),
    }
}

/// XGROUP CREATE key group id | $ \[MKSTREAM] \[ENTRIESREAD count]
fn create(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name, id) = (args.get(2), args.get(3), args.get(4));
    let options = parse_options(args, true)?;
    let stream = ctx.write_as::<Stream>(key)?;
    if stream.is_none() && !options.make_stream {
        return Err(NO_KEY);
    }
    // The words left: MKSTREAM and ENTRIESREAD once each.
    if args.len() > 8 {
        return Err(Error::subcommand_syntax("XGROUP", args.get(1)));
    }
    let last_id = stream.map_or(StreamId::ZERO, |stream| stream.log().last_id());
    let is_there = stream.is_some_and(|stream| stream.group(name).is_some());
    let id = if id == b"$" { last_id } else { parse::id(id, 0)? };
    if is_there {
        return Err(Error::Text("BUSYGROUP Consumer Group name already exists"));
    }
    let group = Group::new(id, options.entries_read);
    let exists = ctx.change::<Stream, _>(key, |stream, _| {
        stream.groups_mut().insert(name.into(), group.clone());
    })?;
    if exists.is_none() {
        let mut stream = Stream::empty();
        stream.groups_mut().insert(name.into(), group);
        ctx.put_value(key, Value::Collection(stream.into()));
    }
    ctx.effect(args.words());
    ctx.notify(Class::STREAM, "xgroup-create", key);
    reply.ok();
    Ok(())
}

/// A key and a group that must both exist.
fn require_group(ctx: &mut ShardCtx, key: &[u8], name: &[u8]) -> Result<()> {
    let stream = ctx.write_as::<Stream>(key)?.ok_or(NO_KEY)?;
    stream.group(name).map(|_| ()).ok_or_else(|| no_group_of_key(key, name))
}

/// XGROUP SETID key group id | $ \[ENTRIESREAD count]
fn set_id(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name, id) = (args.get(2), args.get(3), args.get(4));
    let options = parse_options(args, false)?;
    require_group(ctx, key, name)?;
    if args.len() != 5 && args.len() != 7 {
        return Err(Error::subcommand_syntax("XGROUP", args.get(1)));
    }
    let id = if id == b"$" { None } else { Some(parse::id_or_end(id, 0)?) };
    ctx.change::<Stream, _>(key, |stream, _| {
        let (log, group) = stream.log_and_group(name).expect("the group was looked up");
        group.last_id = id.unwrap_or(log.last_id());
        group.entries_read = options.entries_read;
    })?;
    ctx.effect(args.words());
    ctx.notify(Class::STREAM, "xgroup-setid", key);
    reply.ok();
    Ok(())
}

/// XGROUP DESTROY key group
fn destroy(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name) = (args.get(2), args.get(3));
    let destroyed = ctx.change::<Stream, _>(key, |stream, _| stream.groups_mut().remove(name).is_some())?;
    let destroyed = destroyed.ok_or(NO_KEY)?;
    if destroyed {
        ctx.effect(args.words());
        ctx.notify(Class::STREAM, "xgroup-destroy", key);
    }
    reply.integer(i64::from(destroyed));
    Ok(())
}

/// XGROUP CREATECONSUMER key group consumer
fn create_consumer(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name, consumer) = (args.get(2), args.get(3), args.get(4));
    require_group(ctx, key, name)?;
    let now_ms = ctx.now_ms();
    let created = ctx.change::<Stream, _>(key, |stream, _| {
        let (_, group) = stream.log_and_group(name).expect("the group was looked up");
        let is_new = group.consumer_number(consumer).is_none();
        if is_new {
            group.create_consumer(consumer, now_ms);
        }
        is_new
    })?;
    let created = created == Some(true);
    if created {
        ctx.effect(args.words());
        ctx.notify(Class::STREAM, "xgroup-createconsumer", key);
    }
    reply.integer(i64::from(created));
    Ok(())
}

/// XGROUP DELCONSUMER key group consumer
fn delete_consumer(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name, consumer) = (args.get(2), args.get(3), args.get(4));
    require_group(ctx, key, name)?;
    let deleted = ctx.change::<Stream, _>(key, |stream, _| {
        let (_, group) = stream.log_and_group(name).expect("the group was looked up");
        group.delete_consumer(consumer)
    })?;
    match deleted.flatten() {
        Some(deleted) => {
            ctx.effect(args.words());
            ctx.notify(Class::STREAM, "xgroup-delconsumer", key);
            reply.integer(deleted.pending().len() as i64);
        }
        None => reply.integer(0),
    }
    Ok(())
}

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Print this help.",
];

/// XACK key group id \[id ...]
pub fn xack(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, name) = (args.get(1), args.get(2));
    if ctx.read_as::<Stream>(key)?.and_then(|stream| stream.group(name)).is_none() {
        reply.integer(0);
        return Ok(());
    }
    let ids = args.from(3).iter().map(|text| parse::id(text, 0)).collect::<Result<Vec<StreamId>>>()?;
    let acknowledged = ctx.change::<Stream, _>(key, |stream, _| {
        let (_, group) = stream.log_and_group(name).expect("the group was looked up");
        ids.iter().filter(|&&id| group.remove_pending(id).is_some()).count() as u64
    })?;
    let acknowledged = acknowledged.unwrap_or(0);
    if acknowledged > 0 {
        ctx.effect(args.words());
        ctx.journal.dirty += acknowledged - 1;
    }
    reply.integer(acknowledged as i64);
    Ok(())
}
