//! Jobs at their coordinator, and their steps at the shards: locks, rounds, outcomes, the reply.
//!
//! A job asks all of its shards for locks at once, and waits its turn at each: all shards take such requests in the same
//! order. What to do then, round after round, is the job's own affair (`engine::gather`); this module carries its steps
//! there and back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::log::Logging;
use super::pubsub::{published_kind, receivers_reply};
use super::scripts::CLIENT_HAS_LEFT;
use super::{Core, Fate};
use crate::admin::ctx::{self, Everywhere, Outcome, PartFn, Then};
use crate::admin::{connection, persistence};
use crate::base::clock::Now;
use crate::base::ids::{CommandId, ConnKey, JobKey, ShardId};
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::effect::PartBegin;
use crate::command::error::{self, Error};
use crate::command::spec::{Group, READONLY, Spec};
use crate::dispatch::registry::Run;
use crate::engine::gather::{self, Job, Next, Part};
use crate::engine::lock::{Mode, TxId};
use crate::engine::mesh::Mesh;
use crate::engine::msg::{ExecCommand, Lock, Message, Step, StepOutcome, StepReply, StepRequest};
use crate::engine::multi::{Exec, ExecNext, Queued, Watch};
use crate::engine::script::calling::Calling;
use crate::engine::script::{self, job::ScriptJob};
use crate::engine::shard::{OUT_OF_MEMORY, Waiting};
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Pause, Sessions};

/// A job at its coordinator: whose, what, and the outcomes of its round so far.
pub(super) struct Running {
    generation: u32,
    phase: Phase,
    /// A command on all shards inside an EXEC.
    inner: Option<Everywhere>,
    /// When it began, by the shard's clock, and its words as they were queued.
    inner_call: (u64, Vec<Vec<u8>>),
    /// The protocol in which a script is answered by a command without keys that it calls.
    pub(super) called_in: Option<Protocol>,
    /// The shards that hold locks for it.
    held: Vec<ShardId>,
    pub(super) conn: ConnKey,
    /// What it reads is tracked.
    tracks: bool,
    protocol: Protocol,
    pub(super) spec: &'static Spec,
    id: CommandId,
    /// By the shard's clock.
    started: u64,
    discard: bool,
    pub(super) work: Work,
    outcomes: Vec<Option<StepOutcome>>,
    missing: usize,
    pub(super) logging: Logging,
}

impl Running {
    /// HELLO inside an EXEC changes it for what follows.
    fn protocol_now(&self, sessions: &Sessions) -> Protocol {
        sessions.get(self.conn).map_or(self.protocol, |session| session.protocol)
    }

    /// That of the command without keys that it runs.
    fn protocol_called(&self, sessions: &Sessions) -> Protocol {
        self.called_in.unwrap_or_else(|| self.protocol_now(sessions))
    }
}

/// How far a job is with its locks.
pub(super) enum Phase {
    /// All shards were asked for locks. The steps of an admin command ask for nothing.
    Opening,
    /// The locks are held, or were given up with the last round.
    Running,
}

pub(super) enum Work {
    Keys(Box<Job>),
    Exec(Box<Exec>),
    Watch(Box<Watch>),
    Script(Box<ScriptJob>),
    Admin(Everywhere),
    /// The lease's locks, and the command with keys that the script which has it calls elsewhere.
    Lease(Option<Calling>),
    /// A command without keys that a script calls, which has this lease of another shard's.
    Called(ShardId, JobKey),
}

/// How a job begins.
pub(super) enum Start {
    Locked,
    Unlocked(gather::Round),
}

impl Work {
    /// The first round, with its locks; asked for again when they were refused.
    fn open(&mut self, dbsize: &'static KeyRow, slots: &SlotMap, protocol: Protocol) -> Vec<Part> {
        match self {
            Work::Keys(job) => job.open(dbsize, slots),
            Work::Exec(exec) => exec.open(slots, protocol),
            Work::Watch(watch) => watch.open(),
            Work::Admin(_) => between_transactions(slots),
            Work::Script(script) => script.open(slots),
            Work::Lease(_) | Work::Called(..) => unreachable!("they are no client's"),
        }
    }

    /// The first round is all there is to do.
    pub(super) fn ends_with_opening(&self) -> bool {
        match self {
            Work::Keys(job) => job.ends_with_opening(),
            Work::Admin(_) | Work::Script(_) | Work::Lease(_) | Work::Called(..) => false,
            Work::Exec(exec) => exec.is_at_once(),
            Work::Watch(_) => true,
        }
    }
}

/// A part of an admin command on its way to another shard.
#[derive(Debug)]
pub(super) struct AdminStep {
    part: PartFn,
    words: Arc<[Vec<u8>]>,
    conn: ConnKey,
}

/// The parts of an admin command, one for each shard.
fn everywhere_round(shards: usize, conn: ConnKey, everywhere: &Everywhere) -> gather::Round {
    let words: Arc<[Vec<u8>]> = everywhere.words.clone().into();
    let step = || Step::Admin(Box::new(AdminStep { part: everywhere.part, words: words.clone(), conn }));
    (0..shards).map(|shard| (shard, step())).collect()
}

/// Everything, to look at it, on all shards.
fn between_transactions(slots: &SlotMap) -> Vec<Part> {
    gather::whole_shards(slots, Mode::Shared, || Step::Nothing)
}

impl Core {
    /// What another shard, or this one, wants done for a job: now, or when its locks are granted.
    pub(super) fn take_step(&mut self, from: ShardId, request: StepRequest) {
        let StepRequest { job, ordinal, lock, step, releases, answered, conn, tracks, transaction: number } = request;
        let transaction = TxId { shard: from, job };
        let request = |step| StepRequest {
            job,
            ordinal,
            lock: Lock::Held,
            step,
            releases,
            answered,
            conn,
            tracks,
            transaction: number,
        };
        match lock {
            // The script that is in the middle of its work must not see what the step does.
            Lock::Held
                if self.shard.is_busy() && !matches!(step, Step::Admin(_)) && !self.is_called_by_script(from, job) =>
            {
                self.shard.hold_back(from, request(step));
            }
            Lock::Held => self.run_request(from, request(step)),
            Lock::Acquire(set) => {
                self.shard.hold_for_locks(&set);
                let granted = self.shard.locks.acquire(transaction, set, Waiting::Step(from, Box::new(request(step))));
                if let Some(Waiting::Step(from, request)) = granted {
                    self.run_request(from, *request);
                }
            }
        }
    }

    /// Runs a step that has its locks.
    pub(super) fn run_request(&mut self, from: ShardId, request: StepRequest) {
        let StepRequest { job, ordinal, mut step, releases, answered, conn, tracks, transaction: number, .. } = request;
        self.shard.caller = Some(((from, conn), tracks));
        let request = StepRequest {
            job,
            ordinal,
            lock: Lock::Held,
            step: Step::Nothing,
            releases,
            answered,
            conn,
            tracks,
            transaction: number,
        };
        if matches!(step, Step::Lease) {
            self.lend(TxId { shard: from, job });
        }
        let part = self.begin_part(number);
        let now = self.shard.ctx.now;
        let time = self.time_of(TxId { shard: from, job }, &mut step);
        self.shard.ctx.now = time;
        let outcome = self.run_step(step);
        // DEBUG SLEEP has moved it on, for those who come behind the transaction.
        if self.shard.ctx.now == time {
            self.shard.ctx.now = now;
        }
        match outcome {
            Some(outcome) => self.end_request(from, request, outcome, part),
            None => {
                self.paused_part = part;
                self.shard.suspend_step(from, request);
                self.became_busy();
            }
        }
    }

    /// When a step runs: to a transaction, and to each script under a lease, time stands still.
    fn time_of(&mut self, transaction: TxId, step: &mut Step) -> Now {
        let now = self.shard.ctx.now;
        let begins_anew = self.is_lent_to(transaction);
        match step {
            Step::Lease | Step::Admin(_) => now,
            Step::Run { script: Some(time), .. } => {
                *time = self.shard.locks.time_of(transaction, *time, begins_anew);
                *time
            }
            _ => self.shard.locks.time_of(transaction, now, false),
        }
    }

    /// A step has run: what follows from it.
    pub(super) fn end_request(
        &mut self,
        from: ShardId,
        request: StepRequest,
        outcome: StepOutcome,
        part: Option<PartBegin>,
    ) {
        let StepRequest { job, ordinal, releases, answered, conn, transaction: number, .. } = request;
        let logged = self.end_part(part, from, number);
        self.shard.end_step();
        if self.shard.ctx.timing.has_notes() {
            let notes = self.shard.ctx.timing.take_notes();
            self.tell(from, Message::Notes(conn, notes));
        }
        if answered {
            self.answer(from, job, ordinal, outcome, logged);
        }
        let transaction = TxId { shard: from, job };
        if !self.shard.locks.holds(transaction) {
            self.shard.after_commands();
        } else if releases {
            // Who waited for what the transaction brought comes before those who wait for its locks.
            self.shard.serve_behind(transaction);
            self.release(transaction);
        }
        self.send_aftermath();
    }

    /// Tells clients that have been served, or woken, so.
    pub(super) fn send_served(&mut self) {
        for (shard, message) in std::mem::take(&mut self.shard.outbox) {
            self.tell(shard, message);
        }
    }

    pub(super) fn answer(&mut self, to: ShardId, job: JobKey, ordinal: u32, outcome: StepOutcome, logged: bool) {
        self.tell(to, Message::StepDone(Box::new(StepReply { job, ordinal, outcome, logged })));
    }

    /// Ends a job's hold on this shard; what waited behind it goes on, before anything else does.
    pub(super) fn release(&mut self, transaction: TxId) {
        self.lease_ended(transaction);
        let mut ready = Vec::new();
        self.shard.locks.release(transaction, &mut ready);
        self.granted.extend(ready);
    }

    pub(super) fn run_granted(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Step(from, request) => self.run_request(from, *request),
            Waiting::Run(from, mut batch) => {
                self.shard.run_granted(from, &mut batch);
                let mut ready = Vec::new();
                self.shard.locks.command_over(&mut ready);
                self.granted.extend(ready);
                self.batch_ran(from, batch);
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
        if self.lacks_memory(conn, row.spec.called(words)) {
            return self.reject(conn, Some(id), &OUT_OF_MEMORY);
        }
        let session = self.sessions.at(conn);
        let (db, protocol) = (session.db, session.protocol);
        let owned: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        if row.spec.group == Group::Scripting {
            self.shard.look_at_memory();
            let global = script::may_touch_others(&mut self.shard.ctx, &row.spec, words).unwrap_or(true);
            let job = ScriptJob::new(row, db, protocol, owned, global);
            return self.run_job(conn, &row.spec, id, Work::Script(Box::new(job)), Start::Locked, mesh);
        }
        let job = Job::new(row, db, protocol, owned);
        self.run_job(conn, &row.spec, id, Work::Keys(Box::new(job)), Start::Locked, mesh)
    }

    /// WATCH.
    pub(super) fn start_watch<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let session = self.sessions.at(conn);
        let db = session.db;
        let transaction = session.transaction.get_or_insert_default();
        let new = words[1..].iter().filter(|key| transaction.watch(db, key));
        let keys = new.map(|key| (self.slots.shard_of(key), key.to_vec())).collect();
        let watch = Watch { watcher: (self.id, conn), db, keys };
        self.run_job(conn, spec, id, Work::Watch(Box::new(watch)), Start::Locked, mesh)
    }

    /// EXEC.
    pub(super) fn start_exec<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        mesh: &mut M,
    ) -> Fate {
        let session = self.sessions.at(conn);
        if session.queue().is_some_and(|queue| queue.failed) {
            self.end_transaction(conn);
            let error = Error::Text("EXECABORT Transaction discarded because of previous errors.");
            self.shard.commands.ran(id, 0);
            self.shard.commands.failed(id, error.code());
            let session = self.sessions.at(conn);
            let (discard, protocol) = (session.leave_command(), session.protocol);
            if !discard {
                Reply::new(self.sessions.reply_buffer(conn), protocol).error(&error.text());
            }
            return Fate::Taken;
        }
        let mut db = session.db;
        let (queue, watched) = session.end_transaction();
        let queue = queue.unwrap_or_default();
        let words: Vec<&[u8]> = queue.words().collect();
        let commands =
            queue.commands(&words).map(|words| self.queued(words.iter().map(|word| word.to_vec()).collect(), &mut db));
        let commands = commands.collect();
        let watched = watched.into_iter().map(|(_, key)| (self.slots.shard_of(&key), key)).collect();
        self.shard.look_at_memory();
        let exec = Exec::new((self.id, conn), watched, commands);
        self.run_job(conn, spec, id, Work::Exec(Box::new(exec)), Start::Locked, mesh)
    }

    /// A queued command as EXEC takes it; `db` is the database that it runs in, and the one behind it.
    fn queued(&mut self, words: Vec<Vec<u8>>, db: &mut usize) -> Queued {
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let command = self.registry.find(slices[0]).expect("it was found when it was queued");
        let called = self.registry.called(command, &slices);
        let (Run::Key(row), Some((spec, id))) = (command.run, called) else {
            if command.spec.name == "select" {
                let databases = self.shard.ctx.config.databases as usize;
                *db = connection::selected_db(&Args::new(&slices), databases).unwrap_or(*db);
            }
            return Queued::Keyless { words };
        };
        let shard = self.place_of(command, spec, &slices);
        Queued::Key { command: ExecCommand { row, id, db: *db, words }, shard }
    }

    pub(super) fn start_everywhere<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        everywhere: Everywhere,
        is_cut: bool,
        mesh: &mut M,
    ) -> Fate {
        // On one shard nobody comes between anyway.
        let start = match is_cut && self.server.shards > 1 {
            true => Start::Locked,
            false => Start::Unlocked(everywhere_round(self.server.shards, conn, &everywhere)),
        };
        self.run_job(conn, spec, id, Work::Admin(everywhere), start, mesh)
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
        let discard = self.sessions.at(conn).start_command(id);
        self.sessions.at(conn).pause = Some(Pause::Job);
        self.begin_job(conn, spec, id, work, start, discard);
        self.settle(mesh);
        let session = self.sessions.at(conn);
        match session.pause {
            _ if session.is_closing() => Fate::Closed,
            Some(pause @ (Pause::Job | Pause::Blocked)) => Fate::TakenThenPause(pause),
            _ => Fate::Taken,
        }
    }

    /// Starts a job of a client that has been paused for it.
    pub(super) fn begin_job(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        work: Work,
        start: Start,
        discard: bool,
    ) {
        self.next_job = self.next_job.wrapping_add(1);
        let session = self.sessions.at(conn);
        let protocol = session.protocol;
        let tracks = session.tracks() && (spec.flags.has(READONLY) || matches!(work, Work::Exec(_) | Work::Script(_)));
        let running = Running {
            generation: self.next_job,
            phase: Phase::Opening,
            held: Vec::new(),
            inner: None,
            inner_call: (0, Vec::new()),
            called_in: None,
            conn,
            tracks,
            protocol,
            spec,
            id,
            started: self.shard.ticks(),
            discard,
            work,
            outcomes: Vec::new(),
            missing: 0,
            logging: Logging::default(),
        };
        let key = JobKey { index: self.jobs.insert(running) as u32, generation: self.next_job };
        match start {
            Start::Locked => {
                let parts = self.jobs[key.index as usize].work.open(self.dbsize, &self.slots, protocol);
                self.number_transaction(key);
                self.ask_all(key, parts);
            }
            Start::Unlocked(round) => self.send_round(key, round, false),
        }
    }

    /// Asks all shards of a job for their locks at once.
    pub(super) fn ask_all(&mut self, key: JobKey, parts: Vec<Part>) {
        let alone = self.server.shards == 1 && !self.shard.locks.is_holding();
        let ends = self.jobs[key.index as usize].work.ends_with_opening();
        match &parts[..] {
            [] => return self.round_done(key),
            // Nobody is there who could come between.
            [part] if ends && (alone || part.shard == self.id && self.shard.locks.is_empty()) => {
                let round = parts.into_iter().map(|part| (part.shard, part.step)).collect();
                return self.send_round(key, round, false);
            }
            // It holds nothing elsewhere.
            [_] if ends => {}
            [_] => self.jobs[key.index as usize].held = vec![parts[0].shard],
            _ => {
                self.jobs[key.index as usize].held = parts.iter().map(|part| part.shard).collect();
                self.shard.locks.stats.locked += 1;
            }
        }
        let job = &mut self.jobs[key.index as usize];
        job.missing = parts.len();
        job.outcomes = parts.iter().map(|_| None).collect();
        let releases = job.held.is_empty();
        let is_alone = parts.len() == 1;
        for (ordinal, Part { shard, locks, step }) in parts.into_iter().enumerate() {
            let request = self.step_request(key, ordinal, Lock::Acquire(locks), step, releases, true);
            if is_alone {
                self.tell(shard, Message::Step(request));
            } else {
                self.together.push((shard, Message::Step(request)));
            }
        }
    }

    /// Sends the steps of a round; with the last, the job's locks end.
    pub(super) fn send_round(&mut self, key: JobKey, round: gather::Round, last: bool) {
        let Some(round) = self.log_whole(key, round, last) else { return };
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
        let request = self.step_request(job, ordinal, lock, step, releases, answered);
        self.tell(shard, Message::Step(request));
    }

    fn step_request(
        &self,
        job: JobKey,
        ordinal: usize,
        lock: Lock,
        step: Step,
        releases: bool,
        answered: bool,
    ) -> Box<StepRequest> {
        let Running { conn, tracks, logging: Logging { transaction, .. }, .. } = self.jobs[job.index as usize];
        let ordinal = ordinal as u32;
        Box::new(StepRequest { job, ordinal, lock, step, releases, answered, conn, tracks, transaction })
    }

    fn run_step(&mut self, step: Step) -> Option<StepOutcome> {
        match step {
            Step::Admin(step) => {
                let AdminStep { part, words, conn } = *step.downcast::<AdminStep>().expect("made by start_everywhere");
                // A pause whose time is over is none that the next one has to be as strict as.
                self.resume_postponed();
                let outcome = StepOutcome::Admin(part(&mut self.admin(conn), &words));
                self.run_unblocks();
                self.resume_postponed();
                self.stopped = self.server.stopping.load(Relaxed);
                Some(outcome)
            }
            step => {
                self.switch_log(&step);
                self.shard.run_step(step)
            }
        }
    }

    pub(super) fn step_done(&mut self, key: JobKey, ordinal: usize, outcome: StepOutcome, logged: bool) {
        let job = &mut self.jobs[key.index as usize];
        job.logging.parts += u64::from(logged);
        assert!(job.generation == key.generation, "an outcome belongs to a job that waits for it");
        assert!(job.outcomes[ordinal].replace(outcome).is_none(), "a step has one outcome");
        job.missing -= 1;
        if job.missing == 0 {
            self.round_done(key);
        }
    }

    pub(super) fn round_done(&mut self, key: JobKey) {
        if let Some(reply) = self.jobs[key.index as usize].logging.owed.take() {
            return self.conclude(key, &reply);
        }
        let job = &mut self.jobs[key.index as usize];
        let outcomes: Vec<StepOutcome> = std::mem::take(&mut job.outcomes).into_iter().flatten().collect();
        let has_run = matches!(job.phase, Phase::Running);
        if has_run && matches!(job.work, Work::Admin(_)) || job.inner.is_some() {
            return self.merge_parts(key, outcomes);
        }
        if matches!(job.work, Work::Lease(_)) {
            return self.lease_round_done(key, outcomes);
        }
        if let [StepOutcome::Published(receivers)] = outcomes[..] {
            let next = self.keyless_done(key, receivers_reply(receivers).to_vec());
            return self.go_on(key, next);
        }
        job.phase = Phase::Running;
        let protocol = job.protocol_now(&self.sessions);
        let ctx = &mut self.shard.ctx;
        let next = match &mut job.work {
            Work::Keys(work) => ExecNext::Job(work.advance(outcomes, &self.slots, || ctx.scratch())),
            Work::Exec(exec) => exec.advance(outcomes, &self.slots, self.dbsize, protocol, ctx),
            Work::Watch(_) => ExecNext::Job(Next::Reply(b"+OK\r\n".to_vec())),
            Work::Admin(everywhere) => {
                let round = everywhere_round(self.server.shards, job.conn, everywhere);
                ExecNext::Job(Next::Last { round, reply: None })
            }
            Work::Script(script) => ExecNext::Job(script.advance(outcomes, &self.slots, self.dbsize, ctx)),
            Work::Lease(_) | Work::Called(..) => unreachable!("they have no rounds of this kind"),
        };
        self.go_on(key, next);
    }

    pub(super) fn go_on(&mut self, key: JobKey, mut next: ExecNext) {
        // Of what its script has called.
        self.take_notes(self.jobs[key.index as usize].conn);
        let next = loop {
            let (words, protocol) = match next {
                ExecNext::Keyless(words) => (words, None),
                ExecNext::Job(Next::Keyless { words, protocol }) => (words, Some(protocol)),
                ExecNext::Job(next) => break next,
            };
            self.jobs[key.index as usize].called_in = protocol;
            let Some(reply) = self.run_keyless(key, &words) else { return };
            next = self.keyless_done(key, reply);
        };
        match next {
            Next::Keyless { .. } => unreachable!("such commands have run"),
            Next::Round(round) => self.send_round(key, round, false),
            // The locks stay until it is decided.
            Next::Last { round, reply } if self.jobs[key.index as usize].logging.transaction != 0 => {
                self.jobs[key.index as usize].logging.owed = reply;
                self.send_round(key, round, false);
            }
            Next::Last { round, reply: None } => self.send_round(key, round, true),
            Next::Pause => {
                self.paused_scripts.push(key);
                self.became_busy();
            }
            Next::Last { round, reply: Some(reply) } => {
                self.send_unanswered(key, round);
                self.finish_job(key, &reply);
            }
            Next::Reply(reply) => self.conclude(key, &reply),
            Next::Wait { round, shards, timeout_ms, reply } => {
                self.decide(key);
                let conn = self.jobs[key.index as usize].conn;
                if self.sessions.get(conn).is_some() {
                    self.send_unanswered(key, round);
                } else {
                    self.release_all(key);
                }
                let Running { discard, .. } = self.jobs.remove(key.index as usize);
                self.wait(conn, timeout_ms, reply, shards, discard);
            }
        }
    }

    /// All has happened: the locks end.
    fn conclude(&mut self, key: JobKey, reply: &[u8]) {
        if let Work::Called(shard, lease) = self.jobs[key.index as usize].work {
            self.jobs.remove(key.index as usize);
            return self.answer(shard, lease, 0, StepOutcome::Reply(reply.to_vec()), false);
        }
        self.decide(key);
        self.release_all(key);
        self.finish_job(key, reply);
    }

    /// A command without keys inside an EXEC or a script: its reply, if it has one already.
    pub(super) fn run_keyless(&mut self, key: JobKey, words: &[Vec<u8>]) -> Option<Vec<u8>> {
        let conn = self.jobs[key.index as usize].conn;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let command = self.registry.find(words[0]).expect("it was found when it was queued");
        let Run::Admin(run) = command.run else { unreachable!("it has no keys") };
        if self.sessions.get(conn).is_none() {
            return match published_kind(command.spec) {
                Some(kind) => self.publish_in_job(key, kind, words[1], words[2]),
                None => Some(CLIENT_HAS_LEFT.to_vec()),
            };
        }
        let mut bytes = Vec::new();
        let id = self.registry.called(command, &words).map_or(command.id, |(_, id)| id);
        let protocol = self.jobs[key.index as usize].protocol_called(&self.sessions);
        let mut reply = Reply::new(&mut bytes, protocol);
        self.shard.start_clock();
        let mut ctx = self.admin(conn);
        ctx.deny_blocking = true;
        let result = run(&mut ctx, &Args::new(&words), &mut reply);
        if let Err(error) = &result {
            reply.truncate(0);
            reply.error(&error.text());
            self.shard.commands.failed(id, error.code());
        }
        let elapsed = self.shard.ran(id);
        if let Ok(Outcome::Everywhere(everywhere) | Outcome::Cut(everywhere)) = result {
            let queued = words.iter().map(|word| word.to_vec()).collect();
            self.jobs[key.index as usize].inner_call = (self.shard.ticks(), queued);
            let round = everywhere_round(self.server.shards, conn, &everywhere);
            self.jobs[key.index as usize].inner = Some(everywhere);
            self.send_round(key, round, false);
            return None;
        }
        if self.shard.ctx.timing.is_slow(elapsed) {
            self.was_slow(conn, self.called(&words).unwrap_or(command.spec), elapsed, &words);
        }
        if let Ok(Outcome::Publish(kind)) = result {
            return self.publish_in_job(key, kind, words[1], words[2]);
        }
        self.collect_news();
        Some(bytes)
    }

    /// The job's next step is not sent as one.
    pub(super) fn await_step(&mut self, key: JobKey) {
        let job = &mut self.jobs[key.index as usize];
        job.missing = 1;
        job.outcomes = vec![None];
    }

    fn keyless_done(&mut self, key: JobKey, reply: Vec<u8>) -> ExecNext {
        let job = &mut self.jobs[key.index as usize];
        let protocol = job.protocol_now(&self.sessions);
        job.called_in = None;
        let ctx = &mut self.shard.ctx;
        match &mut job.work {
            Work::Exec(exec) => exec.keyless_done(reply, &self.slots, self.dbsize, protocol, ctx),
            Work::Script(script) => ExecNext::Job(script.keyless_done(reply, &self.slots, self.dbsize, ctx)),
            Work::Called(..) => ExecNext::Job(Next::Reply(reply)),
            Work::Keys(_) | Work::Watch(_) | Work::Admin(_) | Work::Lease(_) => {
                unreachable!("only an EXEC or a script runs them")
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
        let everywhere = match (&job.inner, &job.work) {
            (Some(everywhere), _) | (None, Work::Admin(everywhere)) => everywhere,
            _ => unreachable!("checked by the caller"),
        };
        let (merge, words) = (everywhere.merge, everywhere.words.clone());
        let conn = job.conn;
        let protocol = job.protocol_called(&self.sessions);
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, protocol);
        if self.sessions.get(conn).is_some() || conn == ConnKey::NOBODY {
            let mut ctx = self.admin(conn);
            if let Err(error) = merge(&mut ctx, &words, parts, &mut reply) {
                reply.truncate(0);
                reply.error(&error.text());
            }
            match std::mem::take(&mut ctx.then) {
                Then::Reply => {}
                Then::Everywhere(everywhere) => return self.go_on_everywhere(key, everywhere),
                Then::Shutdown => self.stop_requested = true,
            }
        } else {
            bytes.extend_from_slice(CLIENT_HAS_LEFT);
        }
        let job = &mut self.jobs[key.index as usize];
        match job.inner.take() {
            Some(_) => {
                let (started, words) = std::mem::take(&mut job.inner_call);
                let elapsed = self.shard.ticks() - started;
                if self.shard.ctx.timing.is_slow(elapsed) {
                    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    let spec = self.called(&words).expect("it was found when it was queued");
                    self.was_slow(conn, spec, elapsed, &words);
                }
                let next = self.keyless_done(key, bytes);
                self.go_on(key, next);
            }
            None => self.finish_job(key, &bytes),
        }
    }

    /// Further parts of an admin command.
    fn go_on_everywhere(&mut self, key: JobKey, everywhere: Everywhere) {
        let job = &mut self.jobs[key.index as usize];
        let round = everywhere_round(self.server.shards, job.conn, &everywhere);
        match &mut job.inner {
            Some(inner) => *inner = everywhere,
            None => job.work = Work::Admin(everywhere),
        }
        self.send_round(key, round, false);
    }

    /// A job that no client asked for, or whose client waits for another one.
    pub(super) fn own_job(&mut self, conn: ConnKey, work: Work) -> JobKey {
        self.next_job = self.next_job.wrapping_add(1);
        let generation = self.next_job;
        let command = self.registry.find(b"bgsave").expect("it is in the table");
        let running = Running {
            generation,
            phase: Phase::Opening,
            held: Vec::new(),
            inner: None,
            inner_call: (0, Vec::new()),
            called_in: None,
            conn,
            tracks: false,
            protocol: Protocol::Resp2,
            spec: command.spec,
            id: command.id,
            started: self.shard.ticks(),
            discard: true,
            work,
            outcomes: Vec::new(),
            missing: 0,
            logging: Logging::default(),
        };
        JobKey { index: self.jobs.insert(running) as u32, generation }
    }

    /// Starts what no client asked for.
    pub(super) fn start_own_job<M: Mesh>(&mut self, everywhere: Everywhere, mesh: &mut M) {
        let key = self.own_job(ConnKey::NOBODY, Work::Admin(everywhere));
        match &self.jobs[key.index as usize].work {
            Work::Admin(everywhere) if self.server.shards == 1 => {
                let round = everywhere_round(1, ConnKey::NOBODY, everywhere);
                self.send_round(key, round, false);
            }
            _ => self.ask_all(key, between_transactions(&self.slots)),
        }
        self.settle(mesh);
    }

    /// A job took as long as its client waited for it, other shards' work included.
    pub(super) fn count_job(&mut self, job: &Running, reply: &[u8]) {
        if let Some(error) = reply.strip_prefix(b"-") {
            match &job.work {
                Work::Script(script) if script.is_error_counted() => {
                    self.shard.commands.counts[usize::from(job.id)].failed += 1;
                }
                _ => self.shard.commands.failed(job.id, error::code_of(error)),
            }
        }
        let elapsed = self.shard.ticks() - job.started;
        self.shard.commands.ran(job.id, elapsed);
        if self.shard.ctx.timing.is_slow(elapsed) {
            let words = match &job.work {
                Work::Keys(job) => job.words(),
                Work::Script(script) => script.words(),
                Work::Admin(everywhere) => &everywhere.words,
                Work::Exec(_) | Work::Watch(_) | Work::Lease(_) | Work::Called(..) => &[],
            };
            let mut words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            if words.is_empty() {
                words.push(job.spec.name.as_bytes());
            }
            self.was_slow(job.conn, job.spec, elapsed, &words);
        }
    }

    /// A command that has happened, and is answered when a file is saved: it goes on as a job that saves.
    fn goes_on_saving(&mut self, key: JobKey, reply: &[u8]) -> bool {
        let Running { work: Work::Keys(job), spec, .. } = &self.jobs[key.index as usize] else { return false };
        if reply != b"+OK\r\n" || !self.is_saved_behind(spec) {
            return false;
        }
        let words = job.words().to_vec();
        let Some(everywhere) = persistence::save_behind(&self.admin(ConnKey::NOBODY), words) else { return false };
        let shards = self.server.shards;
        let conn = self.jobs[key.index as usize].conn;
        let round = everywhere_round(shards, conn, &everywhere);
        let job = &mut self.jobs[key.index as usize];
        (job.work, job.phase, job.logging) = (Work::Admin(everywhere), Phase::Opening, Logging::default());
        assert!(job.held.is_empty(), "a job that has ended holds no lock");
        if shards == 1 {
            self.send_round(key, round, false);
        } else {
            self.ask_all(key, between_transactions(&self.slots));
        }
        true
    }

    pub(super) fn finish_job(&mut self, key: JobKey, reply: &[u8]) {
        if self.goes_on_saving(key, reply) {
            return;
        }
        let job = self.jobs.remove(key.index as usize);
        if job.conn != ConnKey::NOBODY {
            self.count_job(&job, reply);
        }
        self.forget_blocking(job.conn);
        let unwatched = match &job.work {
            Work::Exec(exec) => exec.watched_shards(),
            // Its client went away meanwhile: the shards may have heard of that first.
            Work::Watch(watch) if self.sessions.get(job.conn).is_none() => watch.shards(),
            Work::Watch(_) | Work::Keys(_) | Work::Script(_) | Work::Admin(_) => BTreeSet::new(),
            Work::Lease(_) | Work::Called(..) => unreachable!("they answer no client"),
        };
        for shard in unwatched {
            self.tell(shard, Message::Unwatch(job.conn));
        }
        let Some(session) = self.sessions.get_mut(job.conn) else { return };
        session.pause = None;
        // There may be input behind it.
        self.resumed.push(job.conn);
        if !job.discard {
            self.sessions.reply_buffer(job.conn).extend_from_slice(reply);
        }
        self.release_pushes(job.conn);
    }
}
