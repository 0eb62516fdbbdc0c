//! DEBUG: what tests of clients and of the server use.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::write_help;
use crate::base::number::{parse_f64, parse_i64};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::data::dump;
use crate::keyspace::access;
use crate::resp::reply::Reply;

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
        (b"error", [text]) => reply.error(text),
        (b"help", []) => write_help("DEBUG", HELP, reply),
        (b"log", [message]) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(message));
            reply.ok();
        }
        (b"object", [key] | [key, _]) => {
            let words = vec![key.to_vec(), ctx.session().db.to_string().into_bytes()];
            return Ok(Outcome::Everywhere(Everywhere { part: object_here, words, merge: write_object }));
        }
        (b"panic", []) => panic!("called by DEBUG PANIC"),
        (b"protocol", [kind]) => write_example(kind, reply)?,
        (b"set-active-expire", [_]) => return Ok(Everywhere::outcome(set_active_expire, args, ok)),
        (b"sleep", [_]) => return Ok(Everywhere::outcome(sleep, args, ok)),
        _ => {
            let text = format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                String::from_utf8_lossy(&args.get(1)[..args.get(1).len().min(128)])
            );
            return Err(Error::dynamic(text));
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

/// Stops the shard, and with it all of its clients: that is what it is for.
fn sleep(_ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let seconds = parse_f64(&words[2]).filter(|seconds| seconds.is_finite()).unwrap_or(0.0);
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds.max(0.0)));
    Box::new(())
}

fn object_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let ctx = &mut ctx.shard.ctx;
    ctx.db = parse_i64(&words[1]).expect("written by `debug`") as usize;
    let now = ctx.now;
    let text: Option<String> = ctx.peek(&words[0]).map(|entry| {
        let payload = dump::dump(entry);
        // Without the type in front, version and checksum behind.
        let serialized = payload.len() - 1 - 10;
        let idle = access::idle_s(entry.access(), now);
        format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{serialized} lru:{} lru_seconds_idle:{idle}",
            entry.key().as_ptr(),
            entry.kind().encoding_name(),
            entry.access(),
        )
    });
    Box::new(text)
}

fn write_object(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let text = downcast::<Option<String>>(parts).flatten().next().ok_or(Error::NoSuchKey)?;
    reply.simple(&text);
    Ok(())
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
    "ERROR <string>",
    "    Return a RESP protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate error replies.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key> [fast]",
    "    Show low level info about `key` and associated value.",
    "PANIC",
    "    Crash the server simulating a panic.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the behavior). Setting it to 1 reenables back the",
    "    default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];
