//! A script's calls on one shard: what it may call, and the call itself, on the shard's own keyspace.

use std::sync::Arc;

use super::calling::{Call, place_of};
use super::job::{Answers, Asked};
use crate::base::clock::Now;
use crate::base::ids::CommandId;
use crate::base::metrics::CommandStats;
use crate::command::args::Args;
use crate::command::ctx::{FindCommand, Found, ShardCtx};
use crate::command::error::{Error, Result};
use crate::command::keys::keys_of;
use crate::command::spec::{DENYOOM, Group, MAY_REPLICATE, NOSCRIPT, READONLY, Shape, Spec, WRITE};
use crate::command::timing::Timing;
use crate::engine::shard::OUT_OF_MEMORY;
use crate::resp::reply::{Protocol, Reply};
use crate::script::coroutine::Lent;
use crate::script::host::{Host, Interrupt, LogLevel, Replication};
use crate::script::library::{FunctionId, FunctionVm};
use crate::script::shard::AskedCommand;
use crate::script::store::Store;
use crate::script::vm::{Called, End, EvalVm, Prepared, ScriptId};

const KILLED_SCRIPT: &str = "Script killed by user with SCRIPT KILL...";
const KILLED_FUNCTION: &str = "Script killed by user with FUNCTION KILL...";
const LOAD_TIMEOUT: &str = "FUNCTION LOAD timeout";
const LOAD_MS_MAX: u64 = 500;

/// What is known of a script when it starts.
#[derive(Clone)]
pub struct Started {
    /// Writes are refused.
    pub only_reads: bool,
    pub is_function: bool,
    /// There is no memory, and it did not say that it needs none: its first command that may take some is refused.
    pub lacks_memory: bool,
    /// Why its first command that writes is refused.
    pub write_refusal: Option<Error>,
}

/// A script or function, with the state that it runs in.
pub enum Script {
    Eval(Box<EvalVm>, ScriptId),
    Function(Box<FunctionVm>, FunctionId),
}

impl Script {
    pub fn is_function(&self) -> bool {
        matches!(self, Script::Function(..))
    }

    pub fn prepare(&mut self, words: (&[&[u8]], &[&[u8]])) -> Prepared {
        match self {
            Script::Eval(vm, id) => vm.prepare(*id, words),
            Script::Function(vm, id) => vm.prepare(id, words),
        }
    }

    pub fn call(&mut self, prepared: Prepared, host: &mut dyn Host) -> Called {
        match self {
            Script::Eval(vm, _) => vm.call(prepared, host),
            Script::Function(vm, _) => vm.call(prepared, host),
        }
    }

    pub fn finish(&mut self, called: Called, reply: &mut Reply) -> End {
        match self {
            Script::Eval(vm, id) => vm.finish(*id, called, reply),
            Script::Function(vm, id) => vm.finish(id, called, reply),
        }
    }

    /// The state goes back.
    pub fn give(self, ctx: &mut ShardCtx) {
        match self {
            Script::Eval(vm, _) => ctx.scripts.give_eval(vm),
            Script::Function(vm, _) => ctx.scripts.give_functions(vm),
        }
    }
}

/// How long a script has run, and whether somebody wants it to end.
pub struct Watched {
    started: Started,
    store: Arc<Store>,
    clock: fn() -> u64,
    busy_after_ms: u64,
    wrote: bool,
    /// When the first interrupt came: short scripts never ask for the time.
    since_ns: Option<u64>,
    is_busy: bool,
}

impl Watched {
    pub fn new(ctx: &ShardCtx, started: Started) -> Watched {
        Watched {
            started,
            store: ctx.scripts.store.clone(),
            clock: ctx.scripts.clock(),
            busy_after_ms: ctx.config.busy_reply_threshold,
            wrote: false,
            since_ns: None,
            is_busy: false,
        }
    }

    /// Whether others are to have their turn: it has run for too long.
    fn is_busy(&mut self) -> bool {
        let busy = &self.store.busy;
        if !self.is_busy && self.busy_after_ms > 0 {
            let now = (self.clock)();
            let elapsed = (now - *self.since_ns.get_or_insert(now)) / 1_000_000;
            if elapsed >= self.busy_after_ms {
                self.is_busy = true;
                busy.begin(self.started.is_function);
                tracing::warn!(
                    "Slow script detected: still in execution after {elapsed} milliseconds. You can try killing the \
                     script using the {} command.",
                    if self.started.is_function { "FUNCTION KILL" } else { "SCRIPT KILL" }
                );
            }
        }
        if self.is_busy && self.wrote {
            busy.set_wrote();
        }
        self.is_busy
    }

    /// Why the script must not call this command.
    fn refusal(&self, spec: &Spec) -> Option<Error> {
        let (flags, started) = (spec.flags, &self.started);
        if flags.has(NOSCRIPT) && (spec.group == Group::Scripting || !self.store.allows_all()) {
            return Some(NOT_FROM_SCRIPT);
        }
        // What may be replicated counts as a write: so scripts that only read need not wait for the end of CLIENT PAUSE.
        if started.only_reads && (flags.has(WRITE) || flags.has(MAY_REPLICATE)) {
            return Some(Error::Text("ERR Write commands are not allowed from read-only scripts."));
        }
        // Not in the middle of its work.
        if self.wrote {
            return None;
        }
        let refusal = started.write_refusal.clone().filter(|_| flags.has(WRITE));
        refusal.or((started.lacks_memory && flags.has(DENYOOM)).then_some(OUT_OF_MEMORY))
    }

    /// Whether it goes on, being busy.
    fn verdict(&self) -> Interrupt {
        if self.wrote || !self.store.busy.is_killed() {
            return Interrupt::Continue;
        }
        Interrupt::Kill(if self.started.is_function { KILLED_FUNCTION } else { KILLED_SCRIPT })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_busy {
            self.store.busy.end();
        }
    }
}

/// What a script may touch.
pub enum Reach {
    /// Anything: all is on this shard.
    Shard,
    /// These keys.
    Declared(Vec<Vec<u8>>),
    /// Anything: other shards are locked for this one (`engine::lease`), and asked.
    Leased,
}

/// A shard, lent to a script, slice by slice once that takes long.
pub struct ShardHost<'a, 'b> {
    lent: &'a mut Lent<'b, ShardCtx>,
    watched: Watched,
    reach: Reach,
    /// The script's database: SELECT in a script is its own affair.
    db: usize,
}

impl<'a, 'b> ShardHost<'a, 'b> {
    pub fn new(lent: &'a mut Lent<'b, ShardCtx>, watched: Watched, reach: Reach) -> ShardHost<'a, 'b> {
        let db = lent.get().db;
        ShardHost { lent, watched, reach, db }
    }

    /// Pauses while the core runs a command, here or elsewhere. It counts it.
    fn ask_core(&mut self, words: &[&[u8]], reply: &mut Reply) {
        let words = words.iter().map(|word| word.to_vec()).collect();
        let (db, ctx) = (self.db, self.lent.get());
        let now = ctx.now;
        ctx.scripts.asked = Some(AskedCommand { words, db, now, protocol: reply.protocol() });
        self.lent.pause();
        let scripts = &mut self.lent.get().scripts;
        scripts.calls += 1;
        reply.raw(&std::mem::take(&mut scripts.answer));
    }

    /// Runs what the words call, unless the script must not.
    fn run(&mut self, words: &[&[u8]], reply: &mut Reply) -> Result {
        let ctx = self.lent.get();
        let (spec, id, row) = match ctx.find_command(words) {
            Found::Unknown | Found::UnknownSubcommand(_) => {
                return Err(Error::Text("ERR Unknown command called from script"));
            }
            Found::WrongArity(_) => return Err(Error::Text("ERR Wrong number of args calling command from script")),
            Found::Key(row, spec, id) => (spec, id, Some(row)),
            Found::Other(spec, id) => (spec, id, None),
        };
        if let Some(error) = self.watched.refusal(spec) {
            // The error is counted by the caller.
            count_id(ctx, |stats| stats.counts[usize::from(id)].rejected += 1);
            return Err(error);
        }
        if let Reach::Declared(declared) = &self.reach
            && !declares(declared, spec, words)
        {
            tracing::error!("A script touches keys that it was not seen to touch: {}", spec.name);
            return Err(UNDECLARED);
        }
        self.watched.wrote |= spec.flags.has(WRITE);
        let may_stray = row.is_some() && matches!(self.reach, Reach::Leased);
        if may_stray && place_of(spec, words, &ctx.slots, ctx.shard) != Some(ctx.shard) {
            self.ask_core(words, reply);
            return Ok(());
        }
        ctx.scripts.note_call(self.db, words);
        ctx.db = self.db;
        let args = Args::new(words);
        let from = ctx.scripts.ticks();
        let result = match row {
            Some(row) => {
                ctx.in_script = true;
                let result = (row.run)(ctx, &args, reply);
                ctx.in_script = false;
                result
            }
            None => match run_without_keys(spec, &args, ctx.now, ctx.keyspace.databases(), &mut self.db, reply) {
                Some(result) => result,
                None if matches!(self.reach, Reach::Declared(_)) => {
                    tracing::error!("A script calls a command that it was not seen to call: {}", spec.name);
                    return Err(NOT_FROM_SCRIPT);
                }
                None => {
                    self.ask_core(words, reply);
                    return Ok(());
                }
            },
        };
        // What found nothing does not wait for it.
        ctx.waiting = None;
        if ctx.scripts.notes_reads && spec.flags.has(READONLY) {
            keys_of(spec, words).iter().for_each(|key| ctx.scripts.note_read(words[key.index as usize]));
        }
        let elapsed = ctx.scripts.ticks() - from;
        ctx.scripts.calls += 1;
        if ctx.timing.is_slow(elapsed) {
            ctx.timing.was_slow(spec, elapsed, ctx.now.unix_s(), words);
        }
        let failed = result.is_err();
        count_id(ctx, |stats| {
            stats.ran(id, elapsed);
            stats.counts[usize::from(id)].failed += u64::from(failed);
        });
        result
    }
}

/// Commands without keys belong to connections; of these a script has some in a form of its own.
const OWN_FORMS: &[&str] = &["ping", "echo", "time", "select", "wait", "waitaof"];

/// Whether it takes more than a shard and its keys to run a command without keys.
pub fn needs_core(spec: &Spec) -> bool {
    !OWN_FORMS.contains(&spec.name)
}

/// `None`: the core has to run it.
fn run_without_keys(
    spec: &Spec,
    args: &Args,
    now: Now,
    databases: usize,
    db: &mut usize,
    reply: &mut Reply,
) -> Option<Result> {
    if needs_core(spec) {
        return None;
    }
    Some(run_own_form(spec, args, now, databases, db, reply))
}

fn run_own_form(spec: &Spec, args: &Args, now: Now, databases: usize, db: &mut usize, reply: &mut Reply) -> Result {
    match spec.name {
        "ping" if args.len() == 1 => reply.simple("PONG"),
        "ping" | "echo" => reply.bulk(args.get(args.len() - 1)),
        "time" => {
            let now = now.unix_us();
            reply.array(2);
            reply.bulk_integer(now / 1_000_000);
            reply.bulk_integer(now % 1_000_000);
        }
        "select" => {
            let selected = args.integer(1)?;
            if selected < 0 || selected as usize >= databases {
                return Err(Error::Text("ERR DB index is out of range"));
            }
            *db = selected as usize;
            reply.ok();
        }
        // There are no replicas, and a script waits for nobody.
        "wait" => reply.integer(0),
        "waitaof" if args.get(1) == b"0" => {
            reply.array(2);
            reply.integer(0);
            reply.integer(0);
        }
        _ => return Err(NOT_FROM_SCRIPT),
    }
    Ok(())
}

const UNDECLARED: Error = Error::Text("ERR Script attempted to access a key that it did not declare");
pub const NOT_FROM_SCRIPT: Error = Error::Text("ERR This Redis command is not allowed from script");

/// All keys of a command are among these.
fn declares(declared: &[Vec<u8>], spec: &Spec, words: &[&[u8]]) -> bool {
    let is_known = |key: &[u8]| declared.iter().any(|known| known == key);
    let whole = matches!(spec.shape, Shape::EveryShard(_) | Shape::ByCursor);
    !whole && keys_of(spec, words).iter().all(|key| is_known(words[key.index as usize]))
}

impl Host for ShardHost<'_, '_> {
    fn call(&mut self, words: &[&[u8]], protocol: Protocol, reply: &mut Vec<u8>) {
        let mut reply = Reply::new(reply, protocol);
        if let Err(error) = self.run(words, &mut reply) {
            reply.truncate(0);
            reply.error(&error.text());
            let code = error.code();
            count_id(self.lent.get(), |stats| *stats.errors.entry(code).or_default() += 1);
        }
    }

    fn may_run(&mut self, words: &[&[u8]]) -> Option<bool> {
        // There is one user, who may do everything.
        match self.lent.get().find_command(words) {
            Found::Unknown | Found::UnknownSubcommand(_) | Found::WrongArity(_) => None,
            Found::Key(..) | Found::Other(..) => Some(true),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }

    fn set_replication(&mut self, _: Replication) {
        // Effects are recorded for those who take them; scripts cannot keep theirs from one of them alone.
    }

    fn interrupt(&mut self) -> Interrupt {
        if !self.watched.is_busy() {
            return Interrupt::Continue;
        }
        self.lent.pause();
        self.watched.verdict()
    }
}

/// What a script over several shards is lent: every call of a command with keys leaves the coroutine.
pub struct SpreadHost {
    watched: Watched,
    commands: FindCommand,
    now: Now,
    databases: usize,
    db: usize,
    /// `None`: any.
    declared: Option<Vec<Vec<u8>>>,
    /// What it must not call: to be counted when it is over.
    pub refused: Vec<(CommandId, Error)>,
    /// How many commands it has called, and how slow they were: the same.
    pub calls: u64,
    pub timing: Timing,
}

impl SpreadHost {
    pub fn new(ctx: &ShardCtx, started: Started, declared: Option<Vec<Vec<u8>>>) -> SpreadHost {
        SpreadHost {
            watched: Watched::new(ctx, started),
            commands: ctx.commands,
            now: ctx.now,
            databases: ctx.keyspace.databases(),
            db: ctx.db,
            declared,
            refused: Vec::new(),
            calls: 0,
            timing: ctx.timing.beside(),
        }
    }

    fn called(&mut self, spec: &Spec, from_ns: u64, words: &[&[u8]]) {
        self.calls += 1;
        let elapsed = (self.watched.clock)() - from_ns;
        if self.timing.is_slow(elapsed) {
            self.timing.was_slow(spec, elapsed, self.now.unix_s(), words);
        }
    }

    pub fn answered_by<'a>(&'a mut self, answers: &'a Answers) -> Answered<'a> {
        Answered { host: self, answers }
    }
}

pub struct Answered<'a> {
    host: &'a mut SpreadHost,
    answers: &'a Answers,
}

impl Answered<'_> {
    fn run(&mut self, words: &[&[u8]], reply: &mut Reply) -> Result {
        let host = &mut *self.host;
        let from_ns = (host.watched.clock)();
        let (row, spec, id) = match (host.commands)(words) {
            Found::Unknown | Found::UnknownSubcommand(_) => {
                return Err(Error::Text("ERR Unknown command called from script"));
            }
            Found::WrongArity(_) => return Err(Error::Text("ERR Wrong number of args calling command from script")),
            Found::Other(spec, id) => {
                if let Some(error) = host.watched.refusal(spec) {
                    host.refused.push((id, error.clone()));
                    return Err(error);
                }
                let args = Args::new(words);
                if let Some(result) = run_without_keys(spec, &args, host.now, host.databases, &mut host.db, reply) {
                    host.called(spec, from_ns, words);
                    return result;
                }
                // The core sees how long it takes.
                host.calls += 1;
                let words = words.iter().map(|word| word.to_vec()).collect();
                reply.raw(&self.answers.suspend(Asked::Keyless { words, protocol: reply.protocol() }));
                return Ok(());
            }
            Found::Key(row, spec, id) => (row, spec, id),
        };
        if let Some(error) = host.watched.refusal(spec) {
            host.refused.push((id, error.clone()));
            return Err(error);
        }
        if let Some(declared) = &host.declared
            && !declares(declared, spec, words)
        {
            tracing::error!("A script touches keys that it was not seen to touch: {}", spec.name);
            return Err(UNDECLARED);
        }
        host.watched.wrote |= spec.flags.has(WRITE);
        let owned = words.iter().map(|word| word.to_vec()).collect();
        let call = Call { row, spec, id, db: host.db, words: owned, protocol: reply.protocol() };
        reply.raw(&self.answers.suspend(Asked::Call(call)));
        host.called(spec, from_ns, words);
        Ok(())
    }
}

impl Host for Answered<'_> {
    fn call(&mut self, words: &[&[u8]], protocol: Protocol, reply: &mut Vec<u8>) {
        let mut reply = Reply::new(reply, protocol);
        if let Err(error) = self.run(words, &mut reply) {
            reply.truncate(0);
            reply.error(&error.text());
        }
    }

    fn may_run(&mut self, words: &[&[u8]]) -> Option<bool> {
        match (self.host.commands)(words) {
            Found::Unknown | Found::UnknownSubcommand(_) | Found::WrongArity(_) => None,
            Found::Key(..) | Found::Other(..) => Some(true),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }

    fn set_replication(&mut self, _: Replication) {
        // As on one shard.
    }

    fn interrupt(&mut self) -> Interrupt {
        if !self.host.watched.is_busy() {
            return Interrupt::Continue;
        }
        self.answers.suspend(Asked::Pause);
        self.host.watched.verdict()
    }
}

pub fn write_log(level: LogLevel, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        LogLevel::Debug => tracing::trace!("{text}"),
        LogLevel::Verbose => tracing::debug!("{text}"),
        LogLevel::Notice => tracing::info!("{text}"),
        LogLevel::Warning => tracing::warn!("{text}"),
    }
}

/// What a library sees while it is loaded: nobody to call, and little time.
pub struct LoadHost {
    pub ticks: fn() -> u64,
    pub since_ns: Option<u64>,
}

impl Host for LoadHost {
    fn call(&mut self, _: &[&[u8]], _: Protocol, reply: &mut Vec<u8>) {
        reply.extend_from_slice(b"-ERR This Redis command is not allowed from script\r\n");
    }

    fn may_run(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }

    fn set_replication(&mut self, _: Replication) {}

    fn interrupt(&mut self) -> Interrupt {
        let now = (self.ticks)();
        let since = *self.since_ns.get_or_insert(now);
        if now - since > LOAD_MS_MAX * 1_000_000 { Interrupt::Kill(LOAD_TIMEOUT) } else { Interrupt::Continue }
    }
}

/// The counts of commands that scripts call.
pub fn count_id(ctx: &mut ShardCtx, count: impl FnOnce(&mut CommandStats)) {
    let tracks_latency = ctx.config.latency_tracking;
    if let Some(stats) = &mut ctx.scripts.commands {
        stats.tracks_latency = tracks_latency;
        count(stats);
    }
}

/// Counts a command that a script must not call.
pub fn count_refused(ctx: &mut ShardCtx, id: CommandId, error: &Error) {
    count_id(ctx, |stats| stats.rejected(Some(id), error.code()));
}
