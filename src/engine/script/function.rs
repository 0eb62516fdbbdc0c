//! FUNCTION: libraries, which are the same on all shards.
//!
//! A change happens to this shard's libraries first and is then told to all, if nobody was faster; otherwise it is tried
//! again on what is there now. The others follow at their next call of a function.

use super::host::LoadHost;
use super::{SCRIPTING, busy_error, kill, write_help};
use crate::base::glob;
use crate::codec::rdb::{self, DumpError, Form, Leniency, Output, Reader, opcode};
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;
use crate::script::library::{Function, FunctionVm, Library};
use crate::script::store::BusyCall;

const LOAD_FLAGS: Flags = WRITE.and(DENYOOM).and(NOSCRIPT);
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub const ROWS: &[KeyRow] = &[Row {
    run: function,
    spec: Spec {
        name: "function",
        arity: AtLeast(2),
        categories: Categories::NONE,
        since: "7.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about function libraries.",
        subcommands: SUBCOMMANDS,
        ..SCRIPTING
    },
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "function|delete",
        arity: Exactly(3),
        flags: WRITE.and(NOSCRIPT),
        complexity: "O(1)",
        summary: "Deletes a library.",
        args: &[string("library-name")],
        tips: ALL_SHARDS,
        ..SUBCOMMAND
    },
    Spec {
        name: "function|dump",
        arity: Exactly(2),
        flags: NOSCRIPT,
        complexity: "O(N) where N is the number of functions.",
        summary: "Writes all libraries into a payload.",
        ..SUBCOMMAND
    },
    Spec {
        name: "function|flush",
        arity: AtLeast(2),
        flags: WRITE.and(NOSCRIPT),
        complexity: "O(N) where N is the number of functions deleted.",
        summary: "Deletes all libraries.",
        args: &[one_of("flush-type", &[token("ASYNC"), token("SYNC")]).optional()],
        tips: ALL_SHARDS,
        ..SUBCOMMAND
    },
    Spec {
        name: "function|help",
        arity: Exactly(2),
        flags: LOADING.and(STALE),
        complexity: "O(1)",
        summary: "Explains the subcommands.",
        ..SUBCOMMAND
    },
    Spec {
        name: "function|kill",
        arity: Exactly(2),
        flags: NOSCRIPT.and(ALLOW_BUSY),
        complexity: "O(1)",
        summary: "Ends the function that runs too long.",
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        ..SUBCOMMAND
    },
    Spec {
        name: "function|list",
        arity: AtLeast(2),
        flags: NOSCRIPT,
        complexity: "O(N) where N is the number of functions.",
        summary: "Describes the libraries.",
        args: &[string("library-name-pattern").after("LIBRARYNAME").optional(), token("WITHCODE").optional()],
        tips: &["nondeterministic_output_order"],
        ..SUBCOMMAND
    },
    Spec {
        name: "function|load",
        arity: AtLeast(3),
        flags: LOAD_FLAGS,
        complexity: "O(1), compiling aside.",
        summary: "Adds a library.",
        args: &[token("REPLACE").optional(), string("function-code")],
        tips: ALL_SHARDS,
        ..SUBCOMMAND
    },
    Spec {
        name: "function|restore",
        arity: AtLeast(3),
        flags: LOAD_FLAGS,
        complexity: "O(N) where N is the number of functions in the payload.",
        summary: "Adds the libraries of a payload.",
        args: &[
            string("serialized-value"),
            one_of("policy", &[token("FLUSH"), token("APPEND"), token("REPLACE")]).optional(),
        ],
        tips: ALL_SHARDS,
        ..SUBCOMMAND
    },
    Spec {
        name: "function|stats",
        arity: Exactly(2),
        flags: NOSCRIPT.and(ALLOW_BUSY),
        complexity: "O(1)",
        summary: "Tells which function runs, and how many there are.",
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..SUBCOMMAND
    },
];

const SUBCOMMAND: Spec = Spec { since: "7.0.0", ..SCRIPTING };

const HELP: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return general information on all the libraries:",
    "    * Library name",
    "    * The engine used to run the Library",
    "    * Functions list",
    "    * Library code (if WITHCODE is given)",
    "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
    "STATS",
    "    Return information about the current function running:",
    "    * Function name",
    "    * Command used to run the function",
    "    * Duration in MS that the function is running",
    "    If no function is running, return nil",
    "    In addition, returns a list of available engines.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "    When called without the optional mode argument, the behavior is determined by the",
    "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the libraries.",
    "    * SYNC: Synchronously flush the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
    "    control how to handle existing libraries (default APPEND):",
    "    * FLUSH: delete all existing libraries.",
    "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
    "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
    "      libraries with the new libraries (notice that even on this option there is a chance of failure",
    "      in case of functions name collision with another library).",
];

/// The shard's libraries, up to date. `spread`: for a call that will run beside others.
pub fn take_vm(ctx: &mut ShardCtx, spread: bool) -> Box<FunctionVm> {
    let mut host = load_host(ctx);
    ctx.scripts.take_functions(spread, &mut host)
}

fn load_host(ctx: &ShardCtx) -> LoadHost {
    LoadHost { ticks: ctx.scripts.clock(), since_ns: None }
}

/// Changes the libraries of all shards, or none.
fn change<R>(ctx: &mut ShardCtx, change: impl Fn(&mut FunctionVm, &mut LoadHost) -> Result<R>) -> Result<R> {
    loop {
        let mut vm = take_vm(ctx, false);
        let result = change(&mut vm, &mut load_host(ctx));
        let done = match &result {
            Ok(_) => ctx.scripts.publish_libraries(&vm),
            Err(_) => {
                ctx.scripts.distrust_libraries();
                true
            }
        };
        ctx.scripts.give_functions(vm);
        if done {
            return result;
        }
    }
}

/// The library that a file holds; the text of the error if it does not load.
pub fn load_from_file(ctx: &mut ShardCtx, code: &[u8], replaces: bool) -> std::result::Result<(), Vec<u8>> {
    change(ctx, |vm, host| vm.load(code, replaces, host).map_err(Error::dynamic))
        .map(|_| ())
        .map_err(|error| error.text().to_vec())
}

/// No library is left, on any shard.
pub fn forget_all(ctx: &mut ShardCtx) {
    let emptied = change(ctx, |vm, _| {
        *vm = FunctionVm::default();
        Ok(())
    });
    emptied.expect("nothing keeps libraries from going");
}

fn function(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"delete" => {
            change(ctx, |vm, _| match vm.delete(args.get(2)) {
                true => Ok(()),
                false => Err(Error::Text("ERR Library not found")),
            })?;
            reply.ok();
        }
        b"dump" => dump(ctx, reply),
        b"flush" => {
            check_flush(args)?;
            forget_all(ctx);
            reply.ok();
        }
        b"help" => write_help("FUNCTION", HELP, reply),
        b"kill" => return kill(ctx, true, reply),
        b"list" => return list(ctx, args, reply),
        b"load" => return load(ctx, args, reply),
        b"restore" => {
            restore(ctx, args)?;
            reply.ok();
        }
        b"stats" => stats(ctx, reply)?,
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    if matches!(args.get(1).to_ascii_lowercase().as_slice(), b"delete" | b"flush" | b"restore") {
        ctx.journal.effect(ctx.db, args.words());
    }
    Ok(())
}

fn load(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = &args.from(2)[..args.len() - 3];
    for option in options {
        if !option.eq_ignore_ascii_case(b"REPLACE") {
            return Err(Error::dynamic([b"ERR Unknown option given: ", *option].concat()));
        }
    }
    let code = args.get(args.len() - 1);
    let name = change(ctx, |vm, host| vm.load(code, !options.is_empty(), host).map_err(Error::dynamic))?;
    ctx.journal.effect(ctx.db, args.words());
    reply.bulk(&name);
    Ok(())
}

fn check_flush(args: &Args) -> Result {
    match args.len() {
        2 => Ok(()),
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => Ok(()),
        3 => Err(Error::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
        _ => Err(Error::Text("ERR unknown subcommand or wrong number of arguments for 'flush'. Try FUNCTION HELP.")),
    }
}

fn dump(ctx: &mut ShardCtx, reply: &mut Reply) {
    let mut payload = Output::new(Form::File { compresses: ctx.config.rdbcompression });
    for code in ctx.scripts.store.libraries().1.values() {
        payload.push(opcode::FUNCTION2);
        rdb::write_string(code, &mut payload);
    }
    rdb::seal(&mut payload);
    reply.bulk(&payload);
}

/// What happens to libraries that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Flush,
    Append,
    Replace,
}

fn restore(ctx: &mut ShardCtx, args: &Args) -> Result {
    let policy = match args.from(3) {
        [] => Policy::Append,
        [word] if word.eq_ignore_ascii_case(b"FLUSH") => Policy::Flush,
        [word] if word.eq_ignore_ascii_case(b"APPEND") => Policy::Append,
        [word] if word.eq_ignore_ascii_case(b"REPLACE") => Policy::Replace,
        [_] => {
            return Err(Error::Text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => {
            return Err(Error::Text(
                "ERR unknown subcommand or wrong number of arguments for 'restore'. Try FUNCTION HELP.",
            ));
        }
    };
    let damaged = Error::Text("ERR DUMP payload version or checksum are wrong");
    let leniency = Leniency { skips_checksum: ctx.skips_checksums, ..Leniency::default() };
    let content = rdb::unseal(args.get(2), leniency).map_err(|error| match error {
        DumpError::VersionOrChecksum | DumpError::Format(_) => damaged,
    })?;
    let mut reader = Reader::new(content);
    let mut codes = Vec::new();
    while !reader.is_at_end() {
        if reader.byte() != Some(opcode::FUNCTION2) {
            return Err(Error::Text("ERR given type is not a function"));
        }
        codes.push(reader.string().ok_or(Error::Text("ERR Failed loading library data"))?);
    }
    change(ctx, |vm, host| {
        if policy == Policy::Flush {
            *vm = FunctionVm::default();
        }
        for code in &codes {
            host.since_ns = None;
            vm.load(code, policy == Policy::Replace, host).map_err(|text| Error::dynamic(restore_error(&text)))?;
        }
        Ok(())
    })
}

/// Two libraries of one name are told of in other words here.
fn restore_error(text: &[u8]) -> Vec<u8> {
    match text.strip_prefix(b"ERR Library '").and_then(|rest| rest.strip_suffix(b"' already exists")) {
        Some(name) => [b"ERR Library ", name, b" already exists"].concat(),
        None => text.to_vec(),
    }
}

fn list(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (mut pattern, mut with_code) = (None, false);
    let mut options = args.from(2);
    while let [option, rest @ ..] = options {
        options = match option.to_ascii_lowercase().as_slice() {
            b"withcode" if !with_code => {
                with_code = true;
                rest
            }
            b"libraryname" if pattern.is_none() => {
                let Some((given, rest)) = rest.split_first() else {
                    return Err(Error::Text("ERR library name argument was not given"));
                };
                pattern = Some(*given);
                rest
            }
            _ => return Err(Error::dynamic([b"ERR Unknown argument ", *option].concat())),
        };
    }
    let vm = take_vm(ctx, false);
    let matches = |(name, _): &(&Vec<u8>, &Library)| pattern.is_none_or(|pattern| glob::matches(pattern, name, true));
    let libraries: Vec<(&Vec<u8>, &Library)> = vm.libraries().iter().filter(matches).collect();
    reply.array(libraries.len());
    for (name, library) in libraries {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(name);
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        library.functions.iter().for_each(|function| describe(function, reply));
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    ctx.scripts.give_functions(vm);
    Ok(())
}

fn describe(function: &Function, reply: &mut Reply) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(&function.name);
    reply.bulk(b"description");
    match &function.description {
        Some(description) => reply.bulk(description),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    reply.set(function.flags.names().count());
    function.flags.names().for_each(|name| reply.simple(name));
}

fn stats(ctx: &mut ShardCtx, reply: &mut Reply) -> Result {
    let busy = &ctx.scripts.store.busy;
    if busy.is_on() && !busy.is_function() {
        return Err(busy_error(busy));
    }
    let call = busy.call();
    let vm = take_vm(ctx, false);
    reply.map(2);
    reply.bulk(b"running_script");
    match call {
        None => reply.null(),
        Some(BusyCall { words, since_ns }) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&words[1]);
            reply.bulk(b"command");
            reply.array(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.integer((ctx.scripts.ticks().saturating_sub(since_ns) / 1_000_000) as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(vm.libraries().len() as i64);
    reply.bulk(b"functions_count");
    reply.integer(vm.functions() as i64);
    ctx.scripts.give_functions(vm);
    Ok(())
}
