//! A script over several shards, or with keys that it does not declare.
//!
//! It opens with the locks: of its declared keys, if `script::analysis` has seen that there are no others, or of all
//! shards. Then it runs on this shard, in a coroutine with a stack and a Lua state of its own: wherever it calls a command
//! (inside `pcall`, `gsub`, `sort` or a Lua coroutine), it stops there, the command runs where its keys are, like one
//! inside an EXEC, and the script goes on with the reply. So every call finds what all calls before it left, and nobody
//! else comes between.

use super::host::{Script, SpreadHost};
use super::{NO_STACK, declared_keys, keys_and_arguments, note_busy, take};
use crate::base::clock::Now;
use crate::base::ids::{CommandId, ShardId};
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::Error;
use crate::command::keys::keys_of;
use crate::command::keyspace::cursor_shard;
use crate::command::spec::{READONLY, Shape, Spec};
use crate::command::timing::Timing;
use crate::engine::gather::{Job, Next, Part, Round};
use crate::engine::lock::{LockSet, Mode};
use crate::engine::msg::{ExecCommand, Step, StepOutcome};
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::{Protocol, Reply};
use crate::script::coroutine::{self, Asks, Coroutine};
use crate::script::vm::End;

/// A command that a script calls.
pub struct Call {
    pub row: &'static KeyRow,
    pub spec: &'static Spec,
    pub id: CommandId,
    pub db: usize,
    pub words: Vec<Vec<u8>>,
    pub protocol: Protocol,
}

/// Why a script has stopped.
pub enum Asked {
    Call(Call),
    /// A command that no shard's keys know of.
    Keyless {
        words: Vec<Vec<u8>>,
        protocol: Protocol,
    },
    /// It has run for long: others have their turn.
    Pause,
}

/// What goes in: the reply to the last call, or nothing behind a pause.
pub type Answers = Asks<Vec<u8>, Asked>;
type Running = Coroutine<Vec<u8>, Asked, Finished>;

struct Finished {
    script: Script,
    reply: Vec<u8>,
    refused: Vec<(CommandId, Error)>,
    calls: u64,
    timing: Timing,
    end: End,
}

pub struct ScriptJob {
    row: &'static KeyRow,
    db: usize,
    protocol: Protocol,
    words: Vec<Vec<u8>>,
    /// It may touch any key.
    global: bool,
    running: Option<Running>,
    /// When it began: to the commands that it calls it is always then.
    now: Now,
    /// Its reply is the error of a command that it called.
    is_error_counted: bool,
    inner: Inner,
}

/// The call that the script waits for.
enum Inner {
    None,
    /// On one shard.
    Plain(Counted),
    /// Over several.
    Spread(Box<Job>, Counted),
    /// It has its reply; what it left is being stored.
    Storing(Vec<u8>, Counted),
    /// There is none: the script pauses.
    Paused,
}

/// What a call counts as, and when it began.
#[derive(Clone, Copy)]
struct Counted {
    id: CommandId,
    from_ns: u64,
}

impl ScriptJob {
    pub fn new(row: &'static KeyRow, db: usize, protocol: Protocol, words: Vec<Vec<u8>>, global: bool) -> ScriptJob {
        ScriptJob {
            row,
            db,
            protocol,
            words,
            global,
            running: None,
            now: Now::default(),
            is_error_counted: false,
            inner: Inner::None,
        }
    }

    /// Inside an EXEC, which locks all shards for it.
    pub fn of_exec(command: ExecCommand, protocol: Protocol) -> ScriptJob {
        let ExecCommand { row, db, words, .. } = command;
        ScriptJob::new(row, db, protocol, words, true)
    }

    /// The error that it ended with, was one of a command's, and counted there.
    pub fn is_error_counted(&self) -> bool {
        self.is_error_counted
    }

    pub fn words(&self) -> &[Vec<u8>] {
        &self.words
    }

    /// What to lock where, by ascending shard.
    pub fn open(&mut self, slots: &SlotMap) -> Vec<Part> {
        if !self.global {
            return Job::new(self.row, self.db, self.protocol, self.words.clone()).locks(slots);
        }
        let mode = if self.row.spec.flags.has(READONLY) { Mode::Shared } else { Mode::Exclusive };
        (0..slots.shards()).map(|shard| Part { shard, locks: LockSet::whole(mode), step: Step::Nothing }).collect()
    }

    /// The outcomes of the last round, in its order: the locks, or a call's.
    pub fn advance(
        &mut self,
        outcomes: Vec<StepOutcome>,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        ctx: &mut ShardCtx,
    ) -> Next {
        match std::mem::replace(&mut self.inner, Inner::None) {
            Inner::None => self.start(slots, dbsize, ctx),
            Inner::Plain(counted) => {
                let reply = outcomes.into_iter().find_map(|outcome| match outcome {
                    // A script waits for nothing.
                    StepOutcome::Reply(reply) | StepOutcome::Waits { reply, .. } => Some(reply),
                    _ => None,
                });
                self.answer(reply.expect("a command is answered with a reply"), counted, slots, dbsize, ctx)
            }
            Inner::Spread(mut job, counted) => {
                let next = job.advance(outcomes, slots, || ctx.scratch());
                match next {
                    Next::Round(round) | Next::Last { round, reply: None } => {
                        self.inner = Inner::Spread(job, counted);
                        Next::Round(round)
                    }
                    Next::Last { round, reply: Some(reply) } => {
                        self.inner = Inner::Storing(reply, counted);
                        Next::Round(round)
                    }
                    Next::Reply(reply) => self.answer(reply, counted, slots, dbsize, ctx),
                    Next::Wait { .. } | Next::Keyless { .. } | Next::Pause => {
                        unreachable!("nobody waits inside a script")
                    }
                }
            }
            Inner::Storing(reply, counted) => self.answer(reply, counted, slots, dbsize, ctx),
            Inner::Paused => self.go_on(Vec::new(), slots, dbsize, ctx),
        }
    }

    /// The locks are there.
    fn start(&mut self, slots: &SlotMap, dbsize: &'static KeyRow, ctx: &mut ShardCtx) -> Next {
        ctx.db = self.db;
        self.now = ctx.now;
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        let taken = match take(ctx, &Args::new(&words), true, !self.global) {
            Ok(taken) => taken,
            Err(error) => {
                Reply::new(&mut bytes, self.protocol).error(&error.text());
                return Next::Reply(bytes);
            }
        };
        let started = taken.started(ctx);
        let mut host = SpreadHost::new(ctx, started, (!self.global).then(|| declared_keys(&words)));
        let (words, protocol) = (self.words.clone(), self.protocol);
        let mut script = taken.script;
        let running = Coroutine::new(&mut ctx.scripts.stacks, move |answers: &Answers| {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let mut reply = Vec::new();
            let mut lent = host.answered_by(answers);
            // An error is counted by its reply.
            let prepared = script.prepare(keys_and_arguments(&Args::new(&words)));
            let called = script.call(prepared, &mut lent);
            let end = script.finish(called, &mut Reply::new(&mut reply, protocol));
            let SpreadHost { refused, calls, timing, .. } = host;
            Finished { script, reply, refused, calls, timing, end }
        });
        let Some(running) = running else {
            Reply::new(&mut bytes, self.protocol).error(&NO_STACK.text());
            return Next::Reply(bytes);
        };
        self.running = Some(running);
        self.go_on(Vec::new(), slots, dbsize, ctx)
    }

    /// The command that the core has run.
    pub fn keyless_done(
        &mut self,
        reply: Vec<u8>,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        ctx: &mut ShardCtx,
    ) -> Next {
        self.go_on(reply, slots, dbsize, ctx)
    }

    /// The script's call has its reply.
    fn answer(
        &mut self,
        reply: Vec<u8>,
        counted: Counted,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        ctx: &mut ShardCtx,
    ) -> Next {
        let elapsed = ctx.scripts.ticks() - counted.from_ns;
        let code = reply.strip_prefix(b"-").map(crate::command::error::code_of);
        super::host::count_id(ctx, |stats| {
            stats.ran(counted.id, elapsed);
            if let Some(code) = code {
                stats.failed(counted.id, code);
            }
        });
        self.go_on(reply, slots, dbsize, ctx)
    }

    /// Lets the script run up to its next call, or its end.
    fn go_on(&mut self, answer: Vec<u8>, slots: &SlotMap, dbsize: &'static KeyRow, ctx: &mut ShardCtx) -> Next {
        let running = self.running.as_mut().expect("a script is started once, and ends once");
        match running.resume(answer, &mut ctx.scripts.stacks) {
            coroutine::Step::Asks(Asked::Call(call)) => Next::Round(self.call(call, slots, dbsize, ctx)),
            coroutine::Step::Asks(Asked::Keyless { words, protocol }) => Next::Keyless { words, protocol },
            coroutine::Step::Asks(Asked::Pause) => {
                self.inner = Inner::Paused;
                if ctx.scripts.store.busy.call().is_none() {
                    let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
                    note_busy(ctx, &words);
                }
                Next::Pause
            }
            coroutine::Step::Ended(Finished { script, reply, refused, calls, mut timing, end }) => {
                self.running = None;
                timing.called(calls);
                ctx.timing.absorb(timing);
                refused.into_iter().for_each(|(id, error)| super::host::count_refused(ctx, id, &error));
                self.is_error_counted = matches!(end, End::Failed(info) if info.is_counted);
                script.give(ctx);
                Next::Reply(reply)
            }
        }
    }

    fn call(&mut self, call: Call, slots: &SlotMap, dbsize: &'static KeyRow, ctx: &mut ShardCtx) -> Round {
        let Call { row, spec, id, db, words, protocol } = call;
        let counted = Counted { id, from_ns: ctx.scripts.ticks() };
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        ctx.scripts.note_call(db, &slices);
        match place_of(spec, &slices, slots, ctx.shard) {
            Some(shard) => {
                self.inner = Inner::Plain(counted);
                vec![(shard, Step::Run { row, db, words, protocol, waiter: None, script: Some(self.now) })]
            }
            None => {
                let mut job = Box::new(Job::new(row, db, protocol, words));
                let round = job.first_round(dbsize, slots);
                self.inner = Inner::Spread(job, counted);
                round
            }
        }
    }
}

/// The shard that runs a command alone, if one does.
fn place_of(spec: &Spec, words: &[&[u8]], slots: &SlotMap, own: ShardId) -> Option<ShardId> {
    match spec.shape {
        Shape::EveryShard(_) => return None,
        Shape::ByCursor => return Some(cursor_shard(words[1]).filter(|&at| at < slots.shards()).unwrap_or(own)),
        Shape::Here | Shape::OneShard | Shape::PerKey(_) | Shape::Gather | Shape::FirstOf => {}
    }
    if spec.reaches.is_some_and(|reaches| reaches(words)) {
        return None;
    }
    let keys = keys_of(spec, words);
    let mut shards = keys.iter().map(|key| slots.shard_of(words[key.index as usize]));
    let Some(first) = shards.next() else { return Some(own) };
    shards.all(|shard| shard == first).then_some(first)
}
