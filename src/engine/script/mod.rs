//! EVAL, FCALL and their kin: scripts as commands on keys of one shard.
//!
//! To the shard a script is a command like any other: it runs to its end with nothing in between. What it calls, it calls
//! through [`host::ShardHost`], which looks the command up and runs it on the same keyspace. Scripts that are known, and
//! libraries, are the same on all shards (`script::store`); each shard compiles for itself.

pub mod calling;
pub mod function;
pub mod host;
pub mod job;

use std::any::Any;

use crate::base::clock::Now;
use crate::base::ids::CommandId;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::{Found, ShardCtx};
use crate::command::error::{Error, Result, code_of};
use crate::command::keys::{keys_of_eval, keys_of_eval_ro};
use crate::command::spec::*;
use crate::engine::shard::OUT_OF_MEMORY;
use crate::resp::reply::Reply;
use crate::script::analysis::{declares_all_keys, function_declares_all_keys};
use crate::script::coroutine::{Lending, Lent, Stacks};
use crate::script::header;
use crate::script::host::ScriptFlags;
use crate::script::library::{FunctionId, FunctionVm};
use crate::script::shard::{parse_digest, script_of_body, script_of_digest};
use crate::script::store::{Busy, BusyCall};
use crate::script::vm::{Called, End, ErrorInfo};
pub use host::NOT_FROM_SCRIPT;
use host::{Reach, Script, ShardHost, Started, Watched};

const ANY: KeyFlags = RW.and(ACCESS).and(UPDATE);
const READ: KeyFlags = RO.and(ACCESS);

const NOTE: &str = "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE";
const NOTE_RO: &str = "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS";

/// What the rows of this family have in common.
pub(super) const SCRIPTING: Spec =
    Spec { group: Group::Scripting, categories: category::SCRIPTING, shape: Shape::Here, ..Spec::DEFAULT };

const RUNS: Spec = Spec {
    arity: AtLeast(3),
    flags: NOSCRIPT.and(STALE).and(SKIP_MONITOR).and(NO_MANDATORY_KEYS).and(MAY_REPLICATE),
    keys: &[keys_counted_at(2, ANY)],
    extract: Some(keys_of_eval),
    shape: OneShard,
    complexity: "Depends on the script.",
    ..SCRIPTING
};

const RUNS_RO: Spec = Spec {
    flags: READONLY.and(NOSCRIPT).and(STALE).and(SKIP_MONITOR).and(NO_MANDATORY_KEYS),
    keys: &[keys_counted_at(2, READ)],
    extract: Some(keys_of_eval_ro),
    since: "7.0.0",
    ..RUNS
};

const SCRIPT_ARGS: &[Arg] = &[string("script"), KEY_COUNT, KEYS, ARGS];
const SHA_ARGS: &[Arg] = &[string("sha1"), KEY_COUNT, KEYS, ARGS];
const FUNCTION_ARGS: &[Arg] = &[string("function"), KEY_COUNT, KEYS, ARGS];
const KEY_COUNT: Arg = integer("numkeys");
const KEYS: Arg = key("key").optional().multiple();
const ARGS: Arg = string("arg").optional().multiple();

const COUNTED: &[KeySpec] = &[KeySpec { notes: NOTE, ..keys_counted_at(2, ANY) }];
const COUNTED_RO: &[KeySpec] = &[KeySpec { notes: NOTE_RO, ..keys_counted_at(2, READ) }];

pub const ROWS: &[KeyRow] = &[
    Row {
        run: eval,
        spec: Spec {
            name: "eval",
            keys: COUNTED,
            since: "2.6.0",
            summary: "Runs a script.",
            args: SCRIPT_ARGS,
            ..RUNS
        },
    },
    Row {
        run: evalsha,
        spec: Spec {
            name: "evalsha",
            since: "2.6.0",
            summary: "Runs a script that is known by its SHA1.",
            args: SHA_ARGS,
            ..RUNS
        },
    },
    Row {
        run: eval,
        spec: Spec {
            name: "eval_ro",
            keys: COUNTED_RO,
            summary: "Runs a script that only reads.",
            args: SCRIPT_ARGS,
            ..RUNS_RO
        },
    },
    Row {
        run: evalsha,
        spec: Spec {
            name: "evalsha_ro",
            summary: "Runs a script that is known by its SHA1 and only reads.",
            args: SHA_ARGS,
            ..RUNS_RO
        },
    },
    Row {
        run: fcall,
        spec: Spec {
            name: "fcall",
            keys: COUNTED,
            since: "7.0.0",
            summary: "Calls a function of a library.",
            args: FUNCTION_ARGS,
            complexity: "Depends on the function.",
            ..RUNS
        },
    },
    Row {
        run: fcall,
        spec: Spec {
            name: "fcall_ro",
            keys: COUNTED_RO,
            summary: "Calls a function of a library that only reads.",
            args: FUNCTION_ARGS,
            complexity: "Depends on the function.",
            ..RUNS_RO
        },
    },
    Row { run: script, spec: SCRIPT },
];

const SCRIPT: Spec = Spec {
    name: "script",
    arity: AtLeast(2),
    categories: Categories::NONE,
    since: "2.6.0",
    complexity: "Depends on the subcommand.",
    summary: "Holds the commands about known scripts.",
    subcommands: &[
        Spec {
            name: "script|debug",
            arity: Exactly(3),
            flags: NOSCRIPT,
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Would switch the debugger of scripts on; there is none.",
            args: &[one_of("mode", &[token("YES"), token("SYNC"), token("NO")])],
            ..SCRIPTING
        },
        Spec {
            name: "script|exists",
            arity: AtLeast(3),
            flags: NOSCRIPT,
            since: "2.6.0",
            complexity: "O(N) with N being the number of scripts asked for.",
            summary: "Tells which scripts are known.",
            args: &[string("sha1").multiple()],
            tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
            ..SCRIPTING
        },
        Spec {
            name: "script|flush",
            arity: AtLeast(2),
            flags: NOSCRIPT,
            since: "2.6.0",
            complexity: "O(N) with N being the number of known scripts.",
            summary: "Forgets all scripts.",
            args: &[one_of("flush-type", &[token("ASYNC"), token("SYNC")]).since("6.2.0").optional()],
            history: &[("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers.")],
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..SCRIPTING
        },
        Spec {
            name: "script|help",
            arity: Exactly(2),
            flags: LOADING.and(STALE),
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Explains the subcommands.",
            ..SCRIPTING
        },
        Spec {
            name: "script|kill",
            arity: Exactly(2),
            flags: NOSCRIPT.and(ALLOW_BUSY),
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Ends the script that runs too long.",
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            ..SCRIPTING
        },
        Spec {
            name: "script|load",
            arity: Exactly(3),
            flags: NOSCRIPT.and(STALE),
            since: "2.6.0",
            complexity: "O(N) with N being the length of the script.",
            summary: "Makes a script known without running it.",
            args: &[string("script")],
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..SCRIPTING
        },
        Spec {
            name: "script|show",
            arity: Exactly(3),
            flags: NOSCRIPT,
            since: "8.0.0",
            complexity: "O(1).",
            summary: "Shows the text of a known script.",
            args: &[string("sha1")],
            ..SCRIPTING
        },
    ],
    ..SCRIPTING
};

const HELP: &[&str] = &[
    "DEBUG (YES|SYNC|NO)",
    "    Set the debug mode for subsequent scripts executed.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Very dangerous on replicas.",
    "    When called without the optional mode argument, the behavior is determined",
    "     by the lazyfree-lazy-user-flush configuration directive. Valid modes are:",
    "    * ASYNC: Asynchronously flush the scripts cache.",
    "    * SYNC: Synchronously flush the scripts cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "SHOW <sha1>",
    "    Show a script from the scripts cache.",
];

pub(super) const NO_STACK: Error = Error::Text("ERR no memory for the stack of a script");
const NO_SCRIPT: Error = Error::Text("NOSCRIPT No matching script.");

type KeysAndArguments<'a> = (&'a [&'a [u8]], &'a [&'a [u8]]);

/// The keys and the other arguments behind `numkeys`.
fn split<'a>(args: &Args<'a>, count: i64) -> Result<KeysAndArguments<'a>> {
    if count > args.len() as i64 - 3 {
        return Err(Error::Text("ERR Number of keys can't be greater than number of args"));
    }
    if count < 0 {
        return Err(Error::Text("ERR Number of keys can't be negative"));
    }
    Ok(args.from(3).split_at(count as usize))
}

/// EVAL script numkeys [key ...] [arg ...], and EVAL_RO
fn eval(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    run(ctx, args, reply)
}

/// EVALSHA sha1 numkeys [key ...] [arg ...], and EVALSHA_RO
fn evalsha(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    run(ctx, args, reply)
}

/// FCALL function numkeys [key ...] [arg ...], and FCALL_RO
fn fcall(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    run(ctx, args, reply)
}

/// A script on its own stack. It works on the shard until it has run for too long; then it pauses now and then.
type Slices = Lending<ShardCtx, (Script, Called)>;

/// A script that pauses: see [`ShardCtx::suspended`].
struct Suspended {
    slices: Slices,
    id: CommandId,
    /// Its time stands still: of the commands that it calls, all see the same.
    now: Now,
}

fn run(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let is_leased = std::mem::take(&mut ctx.scripts.is_leased);
    let is_confined = ctx.slots.shards() > 1 && !is_leased;
    let taken = take(ctx, args, false, is_confined)?;
    let watched = Watched::new(ctx, taken.started(ctx));
    let mut script = taken.script;
    let reach = match is_confined {
        true => Reach::Declared(declared_keys(args.words())),
        false if is_leased => Reach::Leased,
        false => Reach::Shard,
    };
    let prepared = script.prepare(keys_and_arguments(args));
    ctx.scripts.begin_reads();
    let client_db = ctx.db;
    ctx.journal.begin_script();
    let slices = Lending::new(&mut ctx.scripts.stacks, move |lent: &mut Lent<'_, ShardCtx>| {
        let mut host = ShardHost::new(lent, watched, reach);
        let called = script.call(prepared, &mut host);
        (script, called)
    });
    let mut slices = slices.ok_or(NO_STACK)?;
    let ended = slices.go_on(ctx, stacks_of);
    ctx.db = client_db;
    let Some(ended) = ended else {
        let (id, now) = (id_of(ctx, args.words()), ctx.now);
        if ctx.scripts.asked.is_none() {
            note_busy(ctx, args.words());
        }
        ctx.suspended = Some(Box::new(Suspended { slices, id, now }));
        return Ok(());
    };
    if let Some(info) = end(ctx, ended, reply) {
        count_failure(ctx, id_of(ctx, args.words()), &info);
    }
    Ok(())
}

/// Lets a script that pauses go on; what comes back pauses again. Otherwise it has ended, and replied.
pub fn go_on(ctx: &mut ShardCtx, suspended: Box<dyn Any + Send>, reply: &mut Reply) -> Option<Box<dyn Any + Send>> {
    let mut suspended = suspended.downcast::<Suspended>().expect("what is suspended is a script");
    let now = std::mem::replace(&mut ctx.now, suspended.now);
    let ended = suspended.slices.go_on(ctx, stacks_of);
    ctx.now = now;
    let Some(ended) = ended else { return Some(suspended) };
    if let Some(info) = end(ctx, ended, reply) {
        count_failure(ctx, suspended.id, &info);
    }
    None
}

fn stacks_of(ctx: &mut ShardCtx) -> &mut Stacks {
    &mut ctx.scripts.stacks
}

/// The script's call is over: the reply, and the error that it may be.
fn end(ctx: &mut ShardCtx, (mut script, called): (Script, Called), reply: &mut Reply) -> Option<ErrorInfo> {
    let end = script.finish(called, reply);
    script.give(ctx);
    let calls = std::mem::take(&mut ctx.scripts.calls);
    ctx.timing.called(calls);
    match end {
        End::Done => None,
        End::Failed(info) => Some(info),
    }
}

/// FUNCTION STATS tells what keeps clients waiting.
pub(super) fn note_busy(ctx: &ShardCtx, words: &[&[u8]]) {
    let words = words.iter().map(|word| word.to_vec()).collect();
    let since_ns = ctx.scripts.ticks().saturating_sub(ctx.config.busy_reply_threshold * 1_000_000);
    ctx.scripts.store.busy.set_call(BusyCall { words, since_ns });
}

/// A script that may start, out of the shard's hands for as long as it runs.
pub(super) struct Taken {
    pub script: Script,
    /// Writes are refused.
    only_reads: bool,
    allow_oom: bool,
}

impl Taken {
    pub fn started(&self, ctx: &ShardCtx) -> Started {
        Started {
            only_reads: self.only_reads,
            is_function: self.script.is_function(),
            lacks_memory: ctx.is_out_of_memory && !self.allow_oom,
            write_refusal: ctx.write_refusal.clone(),
        }
    }
}

/// What a script does to data, as far as it has said so; otherwise what its command may do.
pub fn flags_of(ctx: &mut ShardCtx, spec: &Spec, words: &[&[u8]]) -> Flags {
    if spec.group != Group::Scripting {
        return spec.flags;
    }
    let known = match spec.name {
        "eval" | "eval_ro" => header::of_script(words[1]).ok().map(|(flags, _)| flags),
        "evalsha" | "evalsha_ro" => {
            let stored = parse_digest(words[1]).and_then(|digest| ctx.scripts.store.script(&digest));
            stored.and_then(|script| header::of_script(&script.body).ok().map(|(flags, _)| flags))
        }
        "fcall" | "fcall_ro" => {
            let vm = function::take_vm(ctx, false);
            let flags = vm.find(words[1]).map(|id| vm.function(id).flags);
            ctx.scripts.give_functions(vm);
            flags
        }
        _ => None,
    };
    match known {
        None | Some(ScriptFlags { compatible: true, .. }) => spec.flags,
        Some(ScriptFlags { no_writes: true, .. }) => READONLY,
        Some(ScriptFlags { allow_oom: true, .. }) => WRITE,
        Some(_) => WRITE.and(DENYOOM),
    }
}

/// Finds, and compiles if need be, what EVAL, EVALSHA or FCALL is to run. `spread`: it will run beside others of this shard.
/// `is_confined`: only on the keys that it declares.
pub(super) fn take(ctx: &mut ShardCtx, args: &Args, spread: bool, is_confined: bool) -> Result<Taken> {
    let name = args.get(0).to_ascii_lowercase();
    let (script, flags) = match name.as_slice() {
        b"fcall" | b"fcall_ro" => take_function(ctx, args, spread, is_confined)?,
        _ => take_script(ctx, args, name.starts_with(b"evalsha"), spread)?,
    };
    let only_reads = name.ends_with(b"_ro");
    if only_reads && !flags.no_writes && !flags.compatible {
        script.give(ctx);
        return Err(Error::Text("ERR Can not execute a script with write flag using *_ro command."));
    }
    // Without a header it is its commands that need memory.
    if ctx.is_out_of_memory && !flags.compatible && !flags.allow_oom && !flags.no_writes {
        script.give(ctx);
        return Err(OUT_OF_MEMORY);
    }
    Ok(Taken { script, only_reads: only_reads || flags.no_writes, allow_oom: flags.allow_oom })
}

fn take_script(ctx: &mut ShardCtx, args: &Args, by_digest: bool, spread: bool) -> Result<(Script, ScriptFlags)> {
    let digest = if by_digest { Some(parse_digest(args.get(1)).ok_or(NO_SCRIPT)?) } else { None };
    split(args, args.integer(2)?)?;
    let mut vm = ctx.scripts.take_eval(spread);
    let found = match digest {
        Some(digest) => script_of_digest(&mut ctx.scripts, &mut vm, &digest).ok_or(NO_SCRIPT),
        None => script_of_body(&mut ctx.scripts, &mut vm, args.get(1), false).map_err(Error::dynamic),
    };
    match found {
        Ok(id) => {
            let flags = vm.flags(id);
            Ok((Script::Eval(vm, id), flags))
        }
        Err(error) => {
            ctx.scripts.give_eval(vm);
            Err(error)
        }
    }
}

fn take_function(ctx: &mut ShardCtx, args: &Args, spread: bool, is_confined: bool) -> Result<(Script, ScriptFlags)> {
    let mut vm = function::take_vm(ctx, spread);
    let Some(id) = vm.find(args.get(1)).cloned() else {
        ctx.scripts.give_functions(vm);
        return Err(Error::Text("ERR Function not found"));
    };
    // It was another one when its locks were chosen.
    if is_confined && function_touches_others(ctx, &mut vm, &id) {
        ctx.scripts.give_functions(vm);
        return Err(Error::Text("ERR Function was replaced while it was being called"));
    }
    let words = args.integer(2).map_err(|_| Error::Text("ERR Bad number of keys provided"));
    match words.and_then(|count| split(args, count)) {
        Ok(_) => {
            let flags = vm.function(&id).flags;
            Ok((Script::Function(vm, id), flags))
        }
        Err(error) => {
            ctx.scripts.give_functions(vm);
            Err(error)
        }
    }
}

/// What a script that was taken is called with.
pub(super) fn keys_and_arguments<'a>(args: &Args<'a>) -> KeysAndArguments<'a> {
    args.integer(2).and_then(|count| split(args, count)).expect("looked at when it was taken")
}

/// The keys that a script was called with.
pub(super) fn declared_keys(words: &[&[u8]]) -> Vec<Vec<u8>> {
    keys_of_eval(words).iter().map(|key| words[key.index as usize].to_vec()).collect()
}

/// May a script touch keys that its words do not name? `None`: it is not known, and its command says so.
pub fn may_touch_others(ctx: &mut ShardCtx, spec: &Spec, words: &[&[u8]]) -> Option<bool> {
    match spec.name {
        "eval" | "eval_ro" => {
            if let Some(known) = ctx.scripts.touches_others(words[1]) {
                return Some(known);
            }
            Some(analyze(ctx, words[1], words[1]))
        }
        "evalsha" | "evalsha_ro" => {
            if let Some(known) = ctx.scripts.touches_others(words[1]) {
                return Some(known);
            }
            let body = parse_digest(words[1]).and_then(|digest| ctx.scripts.store.script(&digest))?.body;
            Some(analyze(ctx, words[1], &body))
        }
        _ => {
            let mut vm = function::take_vm(ctx, false);
            let known = vm.find(words[1]).cloned().map(|id| function_touches_others(ctx, &mut vm, &id));
            ctx.scripts.give_functions(vm);
            known
        }
    }
}

fn function_touches_others(ctx: &ShardCtx, vm: &mut FunctionVm, id: &FunctionId) -> bool {
    vm.touches_others(id, |library, name| {
        let places = |command: &[u8], words: Option<usize>| key_places(ctx, command, words);
        !function_declares_all_keys(library, name, &places)
    })
}

fn analyze(ctx: &mut ShardCtx, name: &[u8], body: &[u8]) -> bool {
    let places = |command: &[u8], words: Option<usize>| key_places(ctx, command, words);
    let others = !declares_all_keys(body, &places);
    ctx.scripts.remember_touches_others(name, others);
    others
}

/// Where the keys of a command stand, if that is always the same and there are no others.
fn key_places(ctx: &ShardCtx, command: &[u8], words: Option<usize>) -> Option<Vec<usize>> {
    // Enough words for any arity; what a wrong number leads to is an error and no key.
    let probe: Vec<&[u8]> = std::iter::once(command).chain(std::iter::repeat_n(&b"0"[..], 8)).collect();
    let found = (1..=probe.len()).find_map(|count| match ctx.find_command(&probe[..count]) {
        Found::Key(_, spec, _) => Some(Some(spec)),
        // The core runs some for scripts that run where their clients are, and these hold all keys.
        Found::Other(spec, _) => Some((!host::needs_core(spec)).then_some(spec)),
        Found::Unknown | Found::UnknownSubcommand(_) | Found::WrongArity(_) => None,
    });
    let spec = found??;
    let range = KeyRange::of(spec.keys);
    // Where keys stand still, a command that extracts them itself (SET, BITFIELD) has more to say of them, not others.
    let plain = matches!(spec.shape, Shape::Here | OneShard | PerKey(_) | Gather)
        && !range.movable
        && spec.reaches.is_none()
        && spec.subcommands.is_empty();
    if !plain {
        return None;
    }
    if range.first == 0 {
        return Some(Vec::new());
    }
    let words = words.unwrap_or(range.first as usize + 1) as i64;
    let last = if range.last < 0 { words + range.last } else { range.last };
    Some((range.first..=last).step_by(range.step.max(1) as usize).map(|place| place as usize).collect())
}

/// An error of a script counts as one of the command; but what a command inside was counted for is not counted twice.
fn count_failure(ctx: &mut ShardCtx, id: CommandId, info: &ErrorInfo) {
    host::count_id(ctx, |stats| match info.is_counted {
        true => stats.counts[usize::from(id)].failed += 1,
        false => stats.failed_by_script(id, code_of(&info.text)),
    });
}

fn id_of(ctx: &ShardCtx, words: &[&[u8]]) -> CommandId {
    match ctx.find_command(words) {
        Found::Key(_, _, id) | Found::Other(_, id) => id,
        Found::Unknown | Found::UnknownSubcommand(_) | Found::WrongArity(_) => {
            unreachable!("it was called by these words")
        }
    }
}

fn script(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"load" => {
            let mut vm = ctx.scripts.take_eval(false);
            let loaded = script_of_body(&mut ctx.scripts, &mut vm, args.get(2), true).map(|script| vm.name(script));
            ctx.scripts.give_eval(vm);
            reply.bulk(&loaded.map_err(Error::dynamic)?);
        }
        b"exists" => {
            reply.array(args.len() - 2);
            for name in args.from(2) {
                let known = parse_digest(name).is_some_and(|digest| ctx.scripts.store.script(&digest).is_some());
                reply.integer(i64::from(known));
            }
        }
        b"show" => {
            let script = parse_digest(args.get(2)).and_then(|digest| ctx.scripts.store.script(&digest));
            reply.bulk(&script.ok_or(NO_SCRIPT)?.body);
        }
        b"flush" => {
            if args.len() > 3 || (args.len() == 3 && !args.is(2, "SYNC") && !args.is(2, "ASYNC")) {
                return Err(Error::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
            }
            ctx.scripts.store.flush_scripts();
            reply.ok();
        }
        b"kill" => kill(ctx, false, reply)?,
        b"debug" => return Err(Error::Text("ERR There is no debugger of scripts in this server")),
        b"help" => write_help("SCRIPT", HELP, reply),
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(())
}

/// What clients are told while a script runs too long.
pub fn busy_error(busy: &Busy) -> Error {
    Error::Text(match busy.is_function() {
        false => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        true => "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
    })
}

/// SCRIPT KILL and FUNCTION KILL.
fn kill(ctx: &mut ShardCtx, function: bool, reply: &mut Reply) -> Result {
    let busy = &ctx.scripts.store.busy;
    if !busy.is_on() {
        return Err(Error::Text("NOTBUSY No scripts in execution right now."));
    }
    if busy.wrote() {
        return Err(Error::Text(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ));
    }
    if busy.is_function() != function {
        return Err(busy_error(busy));
    }
    busy.kill();
    reply.ok();
    Ok(())
}

/// The reply to `COMMAND HELP`; `lines` describe the other subcommands.
fn write_help(command: &str, lines: &[&str], reply: &mut Reply) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
