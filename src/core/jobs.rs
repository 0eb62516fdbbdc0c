//! Jobs at their coordinator, and their steps at the shards: locks, rounds, outcomes, the reply.
//!
//! A job asks all of its shards for locks at once. If one refuses, it gives up what the others granted and asks again,
//! shard by shard in ascending order, waiting its turn at each. What to do then, round after round, is the job's own
//! affair (`engine::gather`); this module carries its steps there and back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Core, Fate};
use crate::admin::ctx::{self, Everywhere, PartFn};
use crate::base::ids::{CommandId, ConnKey, JobKey, ShardId};
use crate::command::KeyRow;
use crate::command::error;
use crate::command::spec::Spec;
use crate::engine::gather::{self, Job, Next, Part};
use crate::engine::lock::TxId;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Lock, Message, Step, StepOutcome, StepReply, StepRequest};
use crate::engine::shard::Waiting;
use crate::resp::reply::{Protocol, Reply};
use crate::session::Pause;

/// A job at its coordinator: whose, what, and the outcomes of its round so far.
pub(super) struct Running {
    generation: u32,
    phase: Phase,
    /// The shards that hold locks for it.
    held: Vec<ShardId>,
    conn: ConnKey,
    protocol: Protocol,
    spec: &'static Spec,
    id: CommandId,
    /// By the shard's clock.
    started: u64,
    discard: bool,
    work: Work,
    outcomes: Vec<Option<StepOutcome>>,
    missing: usize,
}

/// How far a job is with its locks.
pub(super) enum Phase {
    /// All shards were asked at once, and may refuse. The steps of an admin command ask for nothing.
    Opening,
    /// Some refused: now each is asked when the one before has granted, in ascending order, and lets it wait. So no two
    /// jobs wait for each other.
    InOrder { left: VecDeque<Part>, outcomes: Vec<StepOutcome> },
    /// The locks are held, or were given up with the last round.
    Running,
}

pub(super) enum Work {
    Keys(Box<Job>),
    Admin(Everywhere),
}

/// How a job begins.
pub(super) enum Start {
    Locked(Vec<Part>),
    Unlocked(gather::Round),
}

/// A part of an admin command on its way to another shard.
#[derive(Debug)]
pub(super) struct AdminStep {
    part: PartFn,
    words: Arc<[Vec<u8>]>,
    conn: ConnKey,
}

impl Core {
    /// What another shard, or this one, wants done for a job: now, or when its locks are granted.
    pub(super) fn take_step(&mut self, from: ShardId, request: StepRequest) {
        let StepRequest { job, ordinal, lock, step, releases, answered } = request;
        let transaction = TxId { shard: from, job };
        let request = |step| StepRequest { job, ordinal, lock: Lock::Held, step, releases, answered };
        match lock {
            Lock::Held => self.run_request(from, request(step)),
            Lock::Try(set) => match self.shard.locks.try_acquire(transaction, set) {
                true => self.run_request(from, request(step)),
                false => self.answer(from, job, ordinal, StepOutcome::Refused),
            },
            Lock::Wait(set) => {
                let granted =
                    self.shard.locks.acquire_or_wait(transaction, set, Waiting::Step(from, Box::new(request(step))));
                if let Some(Waiting::Step(from, request)) = granted {
                    self.run_request(from, *request);
                }
            }
        }
    }

    /// Runs a step that has its locks.
    pub(super) fn run_request(&mut self, from: ShardId, request: StepRequest) {
        let StepRequest { job, ordinal, step, releases, answered, .. } = request;
        let outcome = self.run_step(step);
        if answered {
            self.answer(from, job, ordinal, outcome);
        }
        if releases {
            self.release(TxId { shard: from, job });
        }
    }

    pub(super) fn answer(&mut self, to: ShardId, job: JobKey, ordinal: u32, outcome: StepOutcome) {
        self.tell(to, Message::StepDone(Box::new(StepReply { job, ordinal, outcome })));
    }

    /// Ends a job's hold on this shard; what waited behind it goes on, before anything else does.
    pub(super) fn release(&mut self, transaction: TxId) {
        let mut ready = Vec::new();
        self.shard.locks.release(transaction, &mut ready);
        self.granted.extend(ready);
    }

    pub(super) fn run_granted(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Step(from, request) => self.run_request(from, *request),
            Waiting::Run(from, mut batch) => {
                self.shard.run_granted(&mut batch);
                self.tell(from, Message::Ran(batch));
            }
        }
    }

    /// A command whose keys lie on several shards. It is a barrier.
    pub(super) fn start_job<M: Mesh>(
        &mut self,
        conn: ConnKey,
        row: &'static KeyRow,
        id: CommandId,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let session = self.sessions.at(conn);
        if !session.pipeline.is_empty() {
            return Fate::NotYet(Pause::Barrier);
        }
        let words = words.iter().map(|word| word.to_vec()).collect();
        let mut job = Job::new(row, session.db, session.protocol, words);
        let parts = job.open(self.dbsize, &self.slots);
        self.run_job(conn, &row.spec, id, Work::Keys(Box::new(job)), Start::Locked(parts), mesh)
    }

    pub(super) fn start_everywhere<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        everywhere: Everywhere,
        mesh: &mut M,
    ) -> Fate {
        let words: Arc<[Vec<u8>]> = everywhere.words.clone().into();
        let step = || Step::Admin(Box::new(AdminStep { part: everywhere.part, words: words.clone(), conn }));
        let round = (0..self.server.shards).map(|shard| (shard, step())).collect();
        self.run_job(conn, spec, id, Work::Admin(everywhere), Start::Unlocked(round), mesh)
    }

    pub(super) fn run_job<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        work: Work,
        start: Start,
        mesh: &mut M,
    ) -> Fate {
        self.next_job = self.next_job.wrapping_add(1);
        let session = self.sessions.at(conn);
        let discard = session.start_command(id);
        let protocol = session.protocol;
        let running = Running {
            generation: self.next_job,
            phase: Phase::Opening,
            held: Vec::new(),
            conn,
            protocol,
            spec,
            id,
            started: self.shard.ticks(),
            discard,
            work,
            outcomes: Vec::new(),
            missing: 0,
        };
        let key = JobKey { index: self.jobs.insert(running) as u32, generation: self.next_job };
        // Before the first step may complete it.
        self.sessions.at(conn).pause = Some(Pause::Job);
        match start {
            Start::Locked(parts) => self.ask_all(key, parts),
            Start::Unlocked(round) => self.send_round(key, round, false),
        }
        self.settle(mesh);
        let session = self.sessions.at(conn);
        if session.is_closing() {
            Fate::Closed
        } else if session.pause == Some(Pause::Job) {
            Fate::TakenThenPause(Pause::Job)
        } else {
            Fate::Taken
        }
    }

    /// Asks all shards of a job for their locks at once.
    pub(super) fn ask_all(&mut self, key: JobKey, parts: Vec<Part>) {
        if let [_] = parts[..] {
            // It waits there holding nothing.
            return self.ask_in_order(key, parts.into());
        }
        let job = &mut self.jobs[key.index as usize];
        job.missing = parts.len();
        job.outcomes = parts.iter().map(|_| None).collect();
        job.held = parts.iter().map(|part| part.shard).collect();
        for (ordinal, Part { shard, locks, step }) in parts.into_iter().enumerate() {
            self.send_step(key, shard, ordinal, Lock::Try(locks), step, false, true);
        }
    }

    /// Asks the first shard, then, when it has granted, the next.
    pub(super) fn ask_in_order(&mut self, key: JobKey, mut left: VecDeque<Part>) {
        let Part { shard, locks, step } = left.pop_front().expect("a job has a shard");
        let job = &mut self.jobs[key.index as usize];
        job.missing = 1;
        job.outcomes = vec![None];
        job.held.push(shard);
        match &mut job.phase {
            Phase::InOrder { left: after, .. } => *after = left,
            phase => *phase = Phase::InOrder { left, outcomes: Vec::new() },
        }
        self.send_step(key, shard, 0, Lock::Wait(locks), step, false, true);
    }

    /// Sends the steps of a round; with the last, the job's locks end.
    pub(super) fn send_round(&mut self, key: JobKey, round: gather::Round, last: bool) {
        let job = &mut self.jobs[key.index as usize];
        job.missing = round.len();
        job.outcomes = round.iter().map(|_| None).collect();
        job.phase = Phase::Running;
        for (ordinal, (shard, step)) in round.into_iter().enumerate() {
            let releases = last && self.lets_go(key, shard);
            self.send_step(key, shard, ordinal, Lock::Held, step, releases, true);
        }
        if last {
            self.release_all(key);
        }
    }

    /// Sends steps whose outcomes the reply does not depend on; the job's locks end.
    pub(super) fn send_unanswered(&mut self, key: JobKey, round: gather::Round) {
        for (shard, step) in round {
            let releases = self.lets_go(key, shard);
            self.send_step(key, shard, 0, Lock::Held, step, releases, false);
        }
        self.release_all(key);
    }

    /// The job's locks at the shard are given up. (A shard has one step of a round.)
    pub(super) fn lets_go(&mut self, key: JobKey, shard: ShardId) -> bool {
        let held = &mut self.jobs[key.index as usize].held;
        let at = held.iter().position(|holder| *holder == shard);
        at.map(|at| held.swap_remove(at)).is_some()
    }

    pub(super) fn release_all(&mut self, key: JobKey) {
        for shard in std::mem::take(&mut self.jobs[key.index as usize].held) {
            self.send_step(key, shard, 0, Lock::Held, Step::Nothing, true, false);
        }
    }

    #[allow(clippy::too_many_arguments)] // The fields of a message.
    pub(super) fn send_step(
        &mut self,
        job: JobKey,
        shard: ShardId,
        ordinal: usize,
        lock: Lock,
        step: Step,
        releases: bool,
        answered: bool,
    ) {
        let request = StepRequest { job, ordinal: ordinal as u32, lock, step, releases, answered };
        self.tell(shard, Message::Step(Box::new(request)));
    }

    pub(super) fn run_step(&mut self, step: Step) -> StepOutcome {
        match step {
            Step::Admin(step) => {
                let AdminStep { part, words, conn } = *step.downcast::<AdminStep>().expect("made by start_everywhere");
                StepOutcome::Admin(part(&mut self.admin(conn), &words))
            }
            step => self.shard.run_step(step),
        }
    }

    pub(super) fn step_done(&mut self, key: JobKey, ordinal: usize, outcome: StepOutcome) {
        let job = &mut self.jobs[key.index as usize];
        assert!(job.generation == key.generation, "an outcome belongs to a job that waits for it");
        assert!(job.outcomes[ordinal].replace(outcome).is_none(), "a step has one outcome");
        job.missing -= 1;
        if job.missing == 0 {
            self.round_done(key);
        }
    }

    pub(super) fn round_done(&mut self, key: JobKey) {
        let job = &mut self.jobs[key.index as usize];
        let mut outcomes: Vec<StepOutcome> = std::mem::take(&mut job.outcomes).into_iter().flatten().collect();
        let Work::Keys(work) = &mut job.work else { return self.merge_parts(key, outcomes) };
        match &mut job.phase {
            Phase::Opening if outcomes.iter().any(|outcome| matches!(outcome, StepOutcome::Refused)) => {
                // Whoever granted lets go again; who refused holds nothing.
                let mut granted = outcomes.iter().map(|outcome| !matches!(outcome, StepOutcome::Refused));
                job.held.retain(|_| granted.next().expect("an outcome a shard"));
                let parts = work.open(self.dbsize, &self.slots);
                self.shard.locks.stats.fallbacks += 1;
                self.release_all(key);
                return self.ask_in_order(key, parts.into());
            }
            Phase::InOrder { left, outcomes: so_far } => {
                so_far.append(&mut outcomes);
                if !left.is_empty() {
                    let left = std::mem::take(left);
                    return self.ask_in_order(key, left);
                }
                outcomes = std::mem::take(so_far);
            }
            Phase::Opening => self.shard.locks.stats.single_hop += 1,
            Phase::Running => {}
        }
        job.phase = Phase::Running;
        let ctx = &mut self.shard.ctx;
        match work.advance(outcomes, &self.slots, || ctx.scratch()) {
            Next::Round(round) => self.send_round(key, round, false),
            Next::Last { round, reply: None } => self.send_round(key, round, true),
            Next::Last { round, reply: Some(reply) } => {
                self.send_unanswered(key, round);
                self.finish_job(key, &reply);
            }
            Next::Reply(reply) => {
                self.release_all(key);
                self.finish_job(key, &reply);
            }
        }
    }

    pub(super) fn merge_parts(&mut self, key: JobKey, outcomes: Vec<StepOutcome>) {
        let part = |outcome| match outcome {
            StepOutcome::Admin(part) => part,
            other => panic!("an admin step ends with a part, not {other:?}"),
        };
        let parts: Vec<ctx::Part> = outcomes.into_iter().map(part).collect();
        let job = &self.jobs[key.index as usize];
        let Work::Admin(everywhere) = &job.work else { unreachable!("checked by the caller") };
        let (merge, words) = (everywhere.merge, everywhere.words.clone());
        let (conn, protocol) = (job.conn, job.protocol);
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, protocol);
        if self.sessions.get(conn).is_some()
            && let Err(error) = merge(&mut self.admin(conn), &words, parts, &mut reply)
        {
            reply.truncate(0);
            reply.error(&error.text());
        }
        self.finish_job(key, &bytes);
    }

    /// A job took as long as its client waited for it, other shards' work included.
    pub(super) fn count_job(&mut self, job: &Running, reply: &[u8]) {
        if let Some(error) = reply.strip_prefix(b"-") {
            self.shard.commands.failed(job.id, error::code_of(error));
        }
        let elapsed = self.shard.ticks() - job.started;
        self.shard.commands.ran(job.id, elapsed);
        if self.shard.is_slow(elapsed) {
            let words = match &job.work {
                Work::Keys(job) => job.words(),
                Work::Admin(everywhere) => &everywhere.words,
            };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.was_slow(job.conn, job.spec, elapsed, &words);
        }
    }

    pub(super) fn finish_job(&mut self, key: JobKey, reply: &[u8]) {
        let job = self.jobs.remove(key.index as usize);
        self.count_job(&job, reply);
        let Some(session) = self.sessions.get_mut(job.conn) else { return };
        session.pause = None;
        // There may be input behind it.
        self.resumed.push(job.conn);
        if !job.discard {
            self.sessions.reply_buffer(job.conn).extend_from_slice(reply);
        }
    }
}
