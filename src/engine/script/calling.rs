//! A command that a script calls, on its way to where its keys are, and back with its reply.

use crate::base::clock::Now;
use crate::base::ids::{CommandId, ShardId};
use crate::command::KeyRow;
use crate::command::ctx::ShardCtx;
use crate::command::keys::shard_of_keys;
use crate::command::keyspace::cursor_shard;
use crate::command::spec::{Shape, Spec};
use crate::engine::gather::{Job, Next, Round};
use crate::engine::msg::{Step, StepOutcome};
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::Protocol;

/// A command that a script calls.
pub struct Call {
    pub row: &'static KeyRow,
    pub spec: &'static Spec,
    pub id: CommandId,
    pub db: usize,
    pub words: Vec<Vec<u8>>,
    pub protocol: Protocol,
}

/// A call under way.
pub struct Calling {
    stage: Stage,
    id: CommandId,
    /// When it began, by the shard's clock.
    from_ns: u64,
}

enum Stage {
    /// It runs on one shard.
    Plain,
    /// Over several.
    Spread(Box<Job>),
    /// It has its reply; what it left is being stored.
    Storing(Vec<u8>),
}

/// How a call goes on.
pub enum Progress {
    Round(Round),
    Replied(Vec<u8>),
}

impl Calling {
    /// The first round. `now`: when the script began, which is the time to all that it calls.
    pub fn begin(
        call: Call,
        now: Now,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        ctx: &mut ShardCtx,
    ) -> (Calling, Round) {
        let Call { row, spec, id, db, words, protocol } = call;
        let from_ns = ctx.scripts.ticks();
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        ctx.scripts.note_call(db, &slices);
        let (stage, round) = match place_of(spec, &slices, slots, ctx.shard) {
            Some(shard) => {
                let step = Step::Run { row, db, words, protocol, waiter: None, script: Some(now) };
                (Stage::Plain, vec![(shard, step)])
            }
            None => {
                let mut job = Box::new(Job::new(row, db, protocol, words));
                let round = job.first_round(dbsize, slots);
                (Stage::Spread(job), round)
            }
        };
        (Calling { stage, id, from_ns }, round)
    }

    /// The outcomes of the last round, in its order.
    pub fn advance(&mut self, outcomes: Vec<StepOutcome>, slots: &SlotMap, ctx: &mut ShardCtx) -> Progress {
        let reply = match &mut self.stage {
            Stage::Plain => {
                let reply = outcomes.into_iter().find_map(|outcome| match outcome {
                    // A script waits for nothing.
                    StepOutcome::Reply(reply) | StepOutcome::Waits { reply, .. } => Some(reply),
                    _ => None,
                });
                reply.expect("a command is answered with a reply")
            }
            Stage::Spread(job) => match job.advance(outcomes, slots, || ctx.scratch()) {
                Next::Round(round) | Next::Last { round, reply: None } => return Progress::Round(round),
                Next::Last { round, reply: Some(reply) } => {
                    self.stage = Stage::Storing(reply);
                    return Progress::Round(round);
                }
                Next::Reply(reply) => reply,
                Next::Wait { .. } | Next::Keyless { .. } | Next::Pause => {
                    unreachable!("nobody waits inside a script")
                }
            },
            Stage::Storing(reply) => std::mem::take(reply),
        };
        self.count(&reply, ctx);
        Progress::Replied(reply)
    }

    fn count(&self, reply: &[u8], ctx: &mut ShardCtx) {
        let elapsed = ctx.scripts.ticks() - self.from_ns;
        let code = reply.strip_prefix(b"-").map(crate::command::error::code_of);
        super::host::count_id(ctx, |stats| {
            stats.ran(self.id, elapsed);
            if let Some(code) = code {
                stats.failed(self.id, code);
            }
        });
    }
}

/// The shard that runs a command alone, if one does.
pub fn place_of(spec: &Spec, words: &[&[u8]], slots: &SlotMap, own: ShardId) -> Option<ShardId> {
    match spec.shape {
        Shape::EveryShard(_) => return None,
        Shape::ByCursor => return Some(cursor_shard(words[1]).filter(|&at| at < slots.shards()).unwrap_or(own)),
        Shape::Here | Shape::OneShard | Shape::PerKey(_) | Shape::Gather | Shape::FirstOf => {}
    }
    if spec.reaches.is_some_and(|reaches| reaches(words)) {
        return None;
    }
    shard_of_keys(spec, words, slots, Some(own))
}
