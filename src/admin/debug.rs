//! DEBUG: what tests of clients and of the server use.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::write_help;
use crate::base::number::{parse_f64, parse_i64};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::config::rewrite::Missing;
use crate::config::value::parse_bytes;
use crate::data::collection::Collection;
use crate::data::digest::{self, Digest};
use crate::data::dump;
use crate::data::entry::{EntryRef, Kind, Value, ValueRef};
use crate::keyspace::access;
use crate::resp::reply::Reply;
use crate::sys::signal;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: debug as AdminFn,
    spec: Spec {
        name: "debug",
        arity: AtLeast(2),
        flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(PROTECTED),
        since: "1.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds commands for tests of the server.",
        system: true,
        ..SERVER
    },
}];

fn debug(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let is_local = ctx.session().peer.is_local();
    if !ctx.shard.ctx.config.enable_debug_command.allows(is_local) {
        return Err(NOT_ALLOWED);
    }
    match (args.get(1).to_ascii_lowercase().as_slice(), args.from(2)) {
        (b"dict-resizing", [_]) => return Ok(Everywhere::outcome(set_shrinking, args, ok)),
        (b"aof-flush-sleep", [microseconds]) => {
            let pause = parse_i64(microseconds).and_then(|microseconds| u64::try_from(microseconds).ok());
            ctx.server.aof.set_write_pause_us(pause.ok_or(Error::NotAnInteger)?);
            reply.ok();
        }
        (b"client-enforce-reply-list", [_]) => return Ok(Everywhere::outcome(count_whole_buffers, args, ok)),
        (b"config-rewrite-force-all", []) => super::config::rewrite(ctx, Missing::All, reply)?,
        (b"digest", []) => return Ok(Everywhere::outcome(digests_here, args, write_digest)),
        (b"digest-value", keys) => {
            let mut words = vec![ctx.session().db.to_string().into_bytes()];
            words.extend(keys.iter().map(|key| key.to_vec()));
            return Ok(Outcome::Everywhere(Everywhere { part: value_digests_here, words, merge: write_value_digests }));
        }
        (b"error", [text]) => reply.error(text),
        (b"help", []) => write_help("DEBUG", HELP, reply),
        (b"htstats", [db, ..]) if args.len() <= 4 => {
            let db = parse_i64(db).ok_or(Error::NotAnInteger)?;
            let databases = ctx.shard.ctx.keyspace.databases();
            if !usize::try_from(db).is_ok_and(|db| db < databases) {
                return Err(Error::Text("ERR Out of range database"));
            }
            return Ok(Everywhere::outcome(table_here, args, write_table));
        }
        (b"htstats-key" | b"listpack", [key, ..]) => {
            let words = vec![args.get(1).to_ascii_lowercase(), key.to_vec(), ctx.session().db.to_string().into_bytes()];
            return Ok(Outcome::Everywhere(Everywhere { part: encoding_here, words, merge: write_encoding }));
        }
        (b"log", [message]) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(message));
            reply.ok();
        }
        (b"object", [key] | [key, _]) => {
            let words = vec![key.to_vec(), ctx.session().db.to_string().into_bytes()];
            return Ok(Outcome::Everywhere(Everywhere { part: object_here, words, merge: write_object }));
        }
        (b"pause-cron", [_]) => return Ok(Everywhere::outcome(pause_cron, args, ok)),
        (b"panic", []) => panic!("called by DEBUG PANIC"),
        (b"populate", [count, options @ ..]) if options.len() <= 2 => {
            let size = options.get(1).copied().unwrap_or(b"0");
            if [*count, size].iter().any(|number| parse_i64(number).is_none_or(|number| number < 0)) {
                return Err(Error::Text("ERR value is out of range, must be positive"));
            }
            let mut words: Vec<Vec<u8>> = args.words().iter().map(|word| word.to_vec()).collect();
            words[1] = ctx.session().db.to_string().into_bytes();
            return Ok(Outcome::Everywhere(Everywhere { part: populate_here, words, merge: ok }));
        }
        (b"protocol", [kind]) => write_example(kind, reply)?,
        (b"quicklist-packed-threshold", [size]) => {
            const WANTED: Error = Error::Text("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
            let bytes = parse_bytes(size).filter(|&bytes| bytes <= PACKED_THRESHOLD_MAX).ok_or(WANTED)?;
            let words = vec![bytes.to_string().into_bytes()];
            return Ok(Outcome::Everywhere(Everywhere { part: set_packed_threshold, words, merge: ok }));
        }
        // Buffers are of a pool, and a client has none that could be resized, whether that is allowed or not.
        (b"replybuffer", [what, b"0" | b"1"]) if what.eq_ignore_ascii_case(b"resizing") => reply.ok(),
        (b"sdslen", [key]) => {
            let words = vec![key.to_vec(), ctx.session().db.to_string().into_bytes()];
            return Ok(Outcome::Everywhere(Everywhere { part: text_here, words, merge: write_text }));
        }
        (b"loadaof", []) => return super::persistence::load_log(args),
        (b"reload", _) => return super::persistence::reload(ctx, args),
        (b"segfault", []) => signal::crash(),
        (b"set-active-expire", [_]) => return Ok(Everywhere::outcome(set_active_expire, args, ok)),
        (b"set-disable-deny-scripts", [allows]) => {
            ctx.server.scripts.set_allows_all(*allows != b"0");
            reply.ok();
        }
        (b"set-skip-checksum-validation", [_]) => return Ok(Everywhere::outcome(set_skips_checksums, args, ok)),
        (b"sleep", [_]) => return Ok(Everywhere::outcome(sleep, args, ok)),
        _ => {
            return Err(Error::subcommand_syntax("DEBUG", args.get(1)));
        }
    }
    Ok(Outcome::Done)
}

const NOT_ALLOWED: Error = Error::Text(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
     connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

fn ok(_ctx: &mut AdminCtx, _words: &[Vec<u8>], _parts: Vec<Part>, reply: &mut Reply) -> Result {
    reply.ok();
    Ok(())
}

fn set_active_expire(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    ctx.shard.ctx.active_expire.enabled = parse_i64(&words[2]) == Some(1);
    Box::new(())
}

fn count_whole_buffers(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    ctx.shard.counts_whole_buffers = parse_i64(&words[2]).is_some_and(|number| number != 0);
    Box::new(())
}

fn set_skips_checksums(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    ctx.shard.ctx.skips_checksums = parse_i64(&words[2]).is_some_and(|number| number != 0);
    Box::new(())
}

fn set_shrinking(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let keyspace = &mut ctx.shard.ctx.keyspace;
    let shrinks = parse_i64(&words[2]).is_some_and(|number| number != 0);
    (0..keyspace.databases()).for_each(|db| keyspace.db_mut(db).set_shrinking(shrinks));
    Box::new(())
}

/// A little below 4 GiB, as in Redis.
const PACKED_THRESHOLD_MAX: u64 = (1 << 32) - (1 << 20);

fn set_packed_threshold(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    ctx.shard.ctx.packed_threshold = parse_i64(&words[0]).expect("written by `debug`") as usize;
    Box::new(())
}

/// What DEBUG SDSLEN says of a key, if it is here: an error if it holds no text. Key and a short value share a block.
fn text_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let ctx = &mut ctx.shard.ctx;
    ctx.db = parse_i64(&words[1]).expect("written by `debug`") as usize;
    let text: Option<Result<String>> = ctx.peek(&words[0]).map(|entry| match entry.value() {
        ValueRef::Text(text) if entry.kind() != Kind::StringInt => Ok(format!(
            "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{}, val_sds_avail:{}, val_zmalloc: {}",
            entry.key().len(),
            entry.allocated(),
            text.len(),
            entry.text_slack(),
            entry.usable_bytes(0) - entry.allocated(),
        )),
        _ => Err(Error::Text("ERR Not an sds encoded string.")),
    });
    Box::new(text)
}

fn write_text(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let text = downcast::<Option<Result<String>>>(parts).flatten().next().ok_or(Error::NoSuchKey)??;
    reply.simple(&text);
    Ok(())
}

fn pause_cron(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    ctx.shard.cron_paused = parse_i64(&words[2]).is_some_and(|word| word != 0);
    Box::new(())
}

/// Stops the shard, and with it all of its clients: that is what it is for.
fn sleep(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let seconds = parse_f64(&words[2]).filter(|seconds| seconds.is_finite()).unwrap_or(0.0);
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds.max(0.0)));
    // What follows in the same turn, in the same transaction even, is later by that.
    ctx.shard.ctx.now = ctx.shard.ctx.now.plus_ms((seconds.max(0.0) * 1000.0) as u64);
    Box::new(())
}

fn object_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let ctx = &mut ctx.shard.ctx;
    ctx.db = parse_i64(&words[1]).expect("written by `debug`") as usize;
    let now = ctx.now;
    // One whose time has passed is shown as long as it is there.
    let (table, hash) = (ctx.keyspace.db(ctx.db), ctx.keyspace.hash(&words[0]));
    let text: Option<String> = table.get(hash, &words[0]).map(|entry| {
        let payload = dump::dump(entry);
        // Without the type in front, version and checksum behind.
        let serialized = payload.len() - 1 - 10;
        let idle = access::idle_s(entry.access(), now);
        format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{serialized} lru:{} lru_seconds_idle:{idle}",
            entry.key().as_ptr(),
            entry.kind().encoding_name(),
            entry.access(),
        ) + &shown_nodes(entry)
    });
    Box::new(text)
}

/// What DEBUG OBJECT adds for a list of several nodes.
fn shown_nodes(entry: EntryRef<'_>) -> String {
    let ValueRef::Collection(Collection::List(list)) = entry.value() else { return String::new() };
    let Some(quicklist) = list.quicklist() else { return String::new() };
    let nodes = quicklist.nodes();
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
        quicklist.len() as f64 / nodes.max(1) as f64,
        quicklist.fill().0,
        u8::from(quicklist.depth() > 0),
        quicklist.unpacked_bytes(),
    )
}

fn write_object(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let text = downcast::<Option<String>>(parts).flatten().next().ok_or(Error::NoSuchKey)?;
    reply.simple(&text);
    Ok(())
}

/// The digests of the shard's databases: of those that hold a key.
fn digests_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    let keyspace = &ctx.shard.ctx.keyspace;
    let digests: Vec<Option<Digest>> = (0..keyspace.databases()).map(|db| digest::of_table(keyspace.db(db))).collect();
    Box::new(digests)
}

/// A key counts the same wherever it lies.
fn write_digest(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let parts: Vec<Vec<Option<Digest>>> = downcast(parts).collect();
    let databases = parts.iter().map(Vec::len).max().unwrap_or(0);
    let digest = digest::of_tables((0..databases).map(|db| parts.iter().filter_map(move |part| part[db])));
    reply.simple(&digest.to_string());
    Ok(())
}

/// For each of the keys, its value's digest, if it is here.
fn value_digests_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let ctx = &mut ctx.shard.ctx;
    ctx.db = parse_i64(&words[0]).expect("written by `debug`") as usize;
    let digests: Vec<Option<Digest>> =
        words[1..].iter().map(|key| ctx.peek(key).map(|entry| Digest::default().with_value(entry))).collect();
    Box::new(digests)
}

/// A key that does not exist has a digest, too.
fn write_value_digests(_ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let parts: Vec<Vec<Option<Digest>>> = downcast(parts).collect();
    reply.array(words.len() - 1);
    for key in 0..words.len() - 1 {
        let digest = parts.iter().find_map(|part| part[key]).unwrap_or_default();
        reply.simple(&digest.to_string());
    }
    Ok(())
}

/// Places and keys of the shard's table, and how many of these have an expiry.
fn table_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let db = parse_i64(&words[2]).expect("`debug` looked at it") as usize;
    let table = ctx.shard.ctx.keyspace.db(db);
    Box::new((table.places(), table.len()))
}

/// All shards' tables as one. They grow bucket by bucket: there is never a second table to move into, and what expires
/// has no table of its own.
fn write_table(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let tables = downcast::<(usize, usize)>(parts);
    let (places, keys) = tables.fold((0, 0), |sum, table| (sum.0 + table.0, sum.1 + table.1));
    let table = if keys == 0 { String::new() } else { shown_table(places, keys) };
    reply.verbatim(b"txt", format!("[Dictionary HT]\n{table}[Expires HT]\n").as_bytes());
    Ok(())
}

fn shown_table(places: usize, elements: usize) -> String {
    format!("Hash table 0 stats (main hash table):\n table size: {places}\n number of elements: {elements}\n")
}

/// What DEBUG HTSTATS-KEY and DEBUG LISTPACK say of a key, if it is here.
fn encoding_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let ctx = &mut ctx.shard.ctx;
    ctx.db = parse_i64(&words[2]).expect("written by `debug`") as usize;
    let about: Option<About> = ctx.peek(&words[1]).map(|entry| match entry.value() {
        ValueRef::Collection(collection) if words[0] == b"listpack" => About {
            listpack_bytes: (entry.kind().encoding_name() == "listpack").then(|| collection.usable_bytes(0)),
            table: None,
        },
        ValueRef::Collection(collection) => {
            About { listpack_bytes: None, table: collection.table().map(|table| (table.places(), table.len())) }
        }
        ValueRef::Text(_) => About { listpack_bytes: None, table: None },
    });
    Box::new(about)
}

struct About {
    listpack_bytes: Option<usize>,
    /// Places and elements of its table.
    table: Option<(usize, usize)>,
}

fn write_encoding(_ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let about = downcast::<Option<About>>(parts).flatten().next().ok_or(Error::NoSuchKey)?;
    if words[0] == b"listpack" {
        let bytes = about.listpack_bytes.ok_or(Error::Text("ERR Not a listpack encoded object."))?;
        tracing::warn!("DEBUG LISTPACK: {} takes {bytes} bytes", words[1].escape_ascii());
        reply.simple("Listpack structure printed on stdout");
        return Ok(());
    }
    let (places, elements) = about
        .table
        .ok_or(Error::Text("ERR The value stored at the specified key is not represented using an hash table"))?;
    reply.verbatim(b"txt", shown_table(places, elements).as_bytes());
    Ok(())
}

/// The shard's part of the keys, but for those that exist.
fn populate_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let number = |index: usize| words.get(index).and_then(|word| parse_i64(word)).unwrap_or(0);
    let prefix = words.get(3).map_or(&b"key"[..], Vec::as_slice);
    let size = usize::try_from(number(4)).unwrap_or(0);
    let (shard, slots, id) = (&mut *ctx.shard, ctx.slots, ctx.id);
    shard.ctx.db = number(1) as usize;
    for n in 0..number(2) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        let key = [prefix, b":", digits].concat();
        if slots.shard_of(&key) != id || shard.ctx.peek(&key).is_some() {
            continue;
        }
        let mut value = [b"value:", digits].concat();
        if size > 0 {
            value.resize(size, 0);
        }
        shard.ctx.put_value(&key, Value::Text(&value));
    }
    Box::new(())
}

/// DEBUG PROTOCOL type: one reply of each kind, for tests of clients.
fn write_example(kind: &[u8], reply: &mut Reply) -> Result {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text(b"3.141"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            // An attribute belongs to the reply behind it, and RESP2 has none.
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if !reply.is_resp3() => return Err(Error::Text("ERR RESP2 is not supported by this command")),
        b"push" => {
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim(b"txt", b"This is a verbatim\nstring"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(Error::Text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

const HELP: &[&str] = &[
    "AOF-FLUSH-SLEEP <microseconds>",
    "    Wait so long before each write to the AOF.",
    "CLIENT-ENFORCE-REPLY-LIST <0|1>",
    "    Count the whole buffer of a client's first reply as its output.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE, but with a line for every directive.",
    "DICT-RESIZING <0|1>",
    "    Enable or disable the shrinking of the main dict. (It grows in any case.)",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a RESP protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate error replies.",
    "LOADAOF",
    "    Flush the AOF buffers on disk and reload the AOF in memory.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "HTSTATS <dbid> [full]",
    "    Return hash table statistics of the specified database.",
    "HTSTATS-KEY <key> [full]",
    "    Like HTSTATS but for the hash table stored at <key>'s value.",
    "LISTPACK <key>",
    "    Show low level info about the listpack encoding of <key>.",
    "OBJECT <key> [fast]",
    "    Show low level info about `key` and associated value.",
    "PAUSE-CRON <0|1>",
    "    Stop periodic cron job processing.",
    "PANIC",
    "    Crash the server simulating a panic.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix. These are not propagated to",
    "    replicas.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Sets the threshold for elements to be inserted as plain vs packed nodes",
    "    Allows values up to 4GB. 0 restores the default.",
    "SDSLEN <key>",
    "    Show low level string info representing `key` and value.",
    "RELOAD [option ...]",
    "    Save the RDB on disk and reload it back to memory. Valid <option> values:",
    "    * MERGE: conflicting keys will be loaded from RDB.",
    "    * NOFLUSH: the existing database will not be removed before load, but",
    "      conflicting keys will generate an exception and kill the server.",
    "    * NOSAVE: the database will be loaded from an existing RDB file.",
    "    Examples:",
    "    * DEBUG RELOAD: verify that the server is able to persist, flush and reload",
    "      the database.",
    "    * DEBUG RELOAD NOSAVE: replace the current database with the contents of an",
    "      existing RDB file.",
    "    * DEBUG RELOAD NOSAVE NOFLUSH MERGE: add the contents of an existing RDB",
    "      file to the database.",
    "REPLYBUFFER RESIZING <0|1>",
    "    Whether buffers of replies may be resized: here none ever is.",
    "SEGFAULT",
    "    Crash the server as a bad pointer would.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the behavior). Setting it to 1 reenables back the",
    "    default.",
    "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    "    Take RDB files and RESTORE payloads whatever their checksum is.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];
