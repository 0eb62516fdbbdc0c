//! A script over several shards, or with keys that it does not declare.
//!
//! It opens with the locks: of its declared keys, if `script::analysis` has seen that there are no others, or of all
//! shards. Then it runs on this shard, in a coroutine with a stack and a Lua state of its own: wherever it calls a command
//! (inside `pcall`, `gsub`, `sort` or a Lua coroutine), it stops there, the command runs where its keys are, like one
//! inside an EXEC, and the script goes on with the reply. So every call finds what all calls before it left, and nobody
//! else comes between.

use super::calling::{Call, Calling, Progress};
use super::host::{Script, SpreadHost};
use super::{NO_STACK, declared_keys, keys_and_arguments, note_busy, take};
use crate::base::clock::Now;
use crate::base::ids::CommandId;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::Error;
use crate::command::spec::READONLY;
use crate::command::timing::Timing;
use crate::engine::gather::{Job, Next, Part, whole_shards};
use crate::engine::lock::Mode;
use crate::engine::msg::{ExecCommand, Step, StepOutcome};
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::{Protocol, Reply};
use crate::script::coroutine::{self, Asks, Coroutine};
use crate::script::vm::End;

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
    waits: Waits,
}

/// What the script waits for.
enum Waits {
    ForLocks,
    For(Calling),
    /// For its next turn.
    ToGoOn,
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
            waits: Waits::ForLocks,
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
        whole_shards(slots, mode, || Step::Nothing)
    }

    /// The outcomes of the last round, in its order: the locks, or a call's.
    pub fn advance(
        &mut self,
        outcomes: Vec<StepOutcome>,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        ctx: &mut ShardCtx,
    ) -> Next {
        let answer = match &mut self.waits {
            Waits::ForLocks => return self.start(slots, dbsize, ctx),
            Waits::ToGoOn => Vec::new(),
            Waits::For(calling) => match calling.advance(outcomes, slots, ctx) {
                Progress::Round(round) => return Next::Round(round),
                Progress::Replied(reply) => reply,
            },
        };
        self.go_on(answer, slots, dbsize, ctx)
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

    /// Lets the script run up to its next call, or its end.
    fn go_on(&mut self, answer: Vec<u8>, slots: &SlotMap, dbsize: &'static KeyRow, ctx: &mut ShardCtx) -> Next {
        let running = self.running.as_mut().expect("a script is started once, and ends once");
        match running.resume(answer, &mut ctx.scripts.stacks) {
            coroutine::Step::Asks(Asked::Call(call)) => {
                let (calling, round) = Calling::begin(call, self.now, slots, dbsize, ctx);
                self.waits = Waits::For(calling);
                Next::Round(round)
            }
            coroutine::Step::Asks(Asked::Keyless { words, protocol }) => Next::Keyless { words, protocol },
            coroutine::Step::Asks(Asked::Pause) => {
                self.waits = Waits::ToGoOn;
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
}
