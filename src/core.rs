//! Level 8: one core of the server: a shard, the sessions of its connections, and the jobs they started.
//!
//! A stepper without I/O. A driver (`runtime`, or the simulator) calls, in each turn:
//!
//! 1. `connect`, `disconnect` for what happened to sockets;
//! 2. `message` for what other shards sent, in the order of stamps;
//! 3. `turn` with the bytes that arrived: requests are parsed, run or sent on, and answered;
//! 4. `tick` now and then;
//!
//! and then sends what sessions have in their output. Commands of all connections go through one [`Batch`]: parsed
//! first, with their table lines on the way to the cache; then those for other shards are published; then the shard's
//! own run (design, section 4: two passes, causal order). A command that is not plain access to keys of one shard is
//! a barrier in its own connection: it waits for the replies before it, and what follows waits for its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use crate::admin::ctx::{AdminCtx, AdminFn, Everywhere, Outcome, Part, PartFn, Server};
use crate::admin::slowlog::redacted;
use crate::base::clock::Now;
use crate::base::ids::{CommandId, ConnKey, JobKey, Sequence, ShardId};
use crate::base::limits::{
    BACKGROUND_SLICE_NS, BACKGROUND_STEP_KEYS, BATCH_COMMANDS_MAX, OUTPUT_CHUNK_BYTES, PAUSED_INPUT_BYTES_MAX,
    TURN_COMMANDS_MAX, TURN_OUTPUT_BYTES_MAX,
};
use crate::base::metrics::Rates;
use crate::base::slowlog::{SlowCommand, SlowEntry};
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::{self, Error};
use crate::command::keys::keys_of;
use crate::command::spec::{NO_AUTH, Shape, Spec};
use crate::command::{KeyRow, keyspace};
use crate::config::value::PipelineOrder;
use crate::dispatch::registry::{Command, KeyPlan, Registry, Run};
use crate::engine::gather::{self, Job, Next};
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Message, RunBatch, RunItem, Step, StepOutcome, StepReply, StepRequest};
use crate::engine::route::SlotMap;
use crate::engine::shard::Shard;
use crate::resp::parse::{self, Parsed, Partial, ProtocolError, RequestLimits};
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Close, Pause, Peer, Session, Sessions};

/// Bytes that arrived on a connection.
pub struct Input<'t> {
    pub conn: ConnKey,
    pub bytes: &'t [u8],
}

pub struct Core {
    pub id: ShardId,
    pub shard: Shard,
    pub sessions: Sessions,
    pub server: Arc<Server>,
    slots: SlotMap,
    registry: &'static Registry,
    dbsize: &'static KeyRow,
    jobs: Slab<Running>,
    next_job: u32,
    /// Commands for other shards, by shard, being collected.
    departing: Vec<Option<Box<RunBatch>>>,
    /// Batches that came back, for the next use.
    #[allow(clippy::vec_box)] // The box itself travels.
    idle_batches: Vec<Box<RunBatch>>,
    outgoing: Vec<(ShardId, Message)>,
    /// Sessions whose pause is over: their input is to be looked at.
    resumed: Vec<ConnKey>,
    /// Sessions that wait for room in a mailbox.
    starved: Vec<ConnKey>,
    /// Memory of the last turn's batch.
    spare: Batch<'static>,
    scratch: Vec<u8>,
    /// Every mailbox has a free place: commands may leave.
    room: bool,
    /// Counts waves of inputs, each of which has at most one of a connection.
    wave: u32,
    pub stop_requested: bool,
    /// Keys may be due, or tables wait to be freed.
    background: bool,
    rates: Rates,
}

/// A job at its coordinator: whose, what, and the outcomes of its round so far.
struct Running {
    generation: u32,
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

enum Work {
    Keys(Box<Job>),
    Admin(Everywhere),
}

/// A part of an admin command on its way to another shard.
#[derive(Debug)]
struct AdminStep {
    part: PartFn,
    words: Arc<[Vec<u8>]>,
    conn: ConnKey,
}

/// Commands that are parsed and not run yet.
#[derive(Default)]
struct Batch<'t> {
    words: Vec<&'t [u8]>,
    own: Vec<Own<'t>>,
    /// Commands of other shards since the last flush.
    departing: usize,
}

/// A command on keys of this shard.
struct Own<'t> {
    conn: ConnKey,
    row: &'static KeyRow,
    id: CommandId,
    db: usize,
    hash: u64,
    first_word: u32,
    words: u32,
    protocol: Protocol,
    no_touch: bool,
    /// Its place among replies, where earlier commands of the connection are not answered yet.
    sequence: Option<Sequence>,
    discard: bool,
    shared: &'t [(usize, Bytes)],
}

impl Batch<'_> {
    /// The same memory, empty, for a turn with other borrows. (Collecting an empty vector keeps its allocation.)
    fn recycled<'t>(mut self) -> Batch<'t> {
        self.words.clear();
        self.own.clear();
        Batch {
            words: self.words.into_iter().map(|_| unreachable!("cleared")).collect(),
            own: self.own.into_iter().map(|_| unreachable!("cleared")).collect(),
            departing: 0,
        }
    }
}

/// Requests of one connection that this turn looks at: a command that arrived in pieces, then plain bytes.
struct Unit<'t> {
    conn: ConnKey,
    /// Index in `Held::partials`.
    partial: Option<usize>,
    bytes: UnitBytes<'t>,
}

/// As many units as connections usually bring in a turn stay on the stack.
type Units<'t> = SmallVec<[Unit<'t>; 32]>;

enum UnitBytes<'t> {
    Received(&'t [u8]),
    /// Index in `Held::inputs`.
    Kept(usize),
}

/// Requests that sessions had held, moved out so that the batch can borrow from them during the turn.
#[derive(Default)]
struct Held {
    partials: Vec<HeldPartial>,
    inputs: Vec<Vec<u8>>,
}

struct HeldPartial {
    partial: Box<Partial>,
    shared: Vec<(usize, Bytes)>,
}

impl Held {
    fn keep_partial(&mut self, partial: Box<Partial>) -> usize {
        let shared = partial.shared().map(|(index, bytes)| (index, bytes.clone())).collect();
        self.partials.push(HeldPartial { partial, shared });
        self.partials.len() - 1
    }
}

/// What becomes of a parsed command.
#[derive(Clone, Copy)]
enum Fate {
    /// Taken; the next may follow.
    Taken,
    /// Taken; the next waits.
    TakenThenPause(Pause),
    /// It waits itself.
    NotYet(Pause),
    /// The connection ends; nothing further is read.
    Closed,
}

/// A parsed command on its slow way: its words, out of the batch.
type Words<'t> = SmallVec<[&'t [u8]; 8]>;

impl Core {
    pub fn new(id: ShardId, ctx: ShardCtx, server: Arc<Server>, ticks: fn() -> u64) -> Core {
        let registry = Registry::get();
        Core {
            id,
            shard: Shard::new(ctx, registry.names().len(), ticks),
            sessions: Sessions::default(),
            slots: SlotMap::contiguous(server.shards),
            registry,
            dbsize: registry.key_row("dbsize").0,
            jobs: Slab::new(),
            next_job: 0,
            departing: (0..server.shards).map(|_| None).collect(),
            idle_batches: Vec::new(),
            outgoing: Vec::new(),
            resumed: Vec::new(),
            starved: Vec::new(),
            spare: Batch::default(),
            scratch: Vec::new(),
            room: true,
            wave: 0,
            stop_requested: false,
            background: false,
            rates: Rates::default(),
            server,
        }
    }

    /// A new connection of this core's.
    pub fn connect(&mut self, descriptor: i32, peer: Peer) -> ConnKey {
        let id = self.server.next_client_id.fetch_add(1, Relaxed);
        let authenticated = self.shard.ctx.config.requirepass.is_empty();
        self.sessions.insert(id, descriptor, peer, self.shard.ctx.now_ms(), authenticated)
    }

    /// The connection is gone. What it started on other shards goes on; the replies find nobody.
    pub fn disconnect(&mut self, conn: ConnKey) {
        self.sessions.remove(conn);
    }

    /// The client sends no more. What it sent is still answered.
    pub fn input_ended(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.ended = true;
        self.sessions.mark_dirty(conn);
    }

    /// Ends a connection whose client does not read: client-output-buffer-limit.
    pub fn check_output_limits(&mut self, conn: ConnKey) {
        let now_ms = self.shard.ctx.now_ms();
        let limit = self.shard.ctx.config.client_output_buffer_limit.normal;
        let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.is_cut_off()) else { return };
        let bytes = session.output.bytes() as u64;
        let over_soft = limit.soft_bytes > 0 && bytes > limit.soft_bytes;
        let since = if over_soft { session.over_soft_limit_since_ms.or(Some(now_ms)) } else { None };
        session.over_soft_limit_since_ms = since;
        let over_hard = limit.hard_bytes > 0 && bytes > limit.hard_bytes;
        if over_hard || since.is_some_and(|since| now_ms - since > limit.soft_seconds * 1000) {
            tracing::warn!("Client id={} closed for overcoming of output buffer limits.", session.id);
            session.close = Some(Close::Now);
            self.sessions.traffic.output_limit_disconnections += 1;
        } else if session.ended && session.is_idle() && session.close.is_none() {
            session.close = Some(Close::AfterReplies);
        }
    }

    /// Ends a connection whose argument is longer than client-query-buffer-limit. What is read of it at once, or waits
    /// behind a pause, is bounded far below the least limit there can be.
    fn check_query_limit(&mut self, conn: ConnKey, arriving_bytes: usize) {
        if arriving_bytes as u64 > self.shard.ctx.config.client_query_buffer_limit {
            let id = self.sessions.at(conn).id;
            tracing::warn!("Closing client that reached max query buffer length: id={id}");
            self.sessions.close(conn, Close::Now);
            self.sessions.traffic.query_limit_disconnections += 1;
        }
    }

    /// Background work and everything that happens by the clock; until when nothing more has to.
    pub fn tick(&mut self) -> Duration {
        let config = self.shard.ctx.config.clone();
        let now_ms = self.shard.ctx.now_ms();
        if config.timeout > 0 {
            let idle: Vec<ConnKey> = self
                .sessions
                .iter()
                .filter(|session| {
                    session.pause.is_none() && now_ms - session.last_active_ms > config.timeout as i64 * 1000
                })
                .map(|session| session.key)
                .collect();
            for conn in idle {
                self.sessions.close(conn, Close::Now);
            }
        }
        self.sessions.trim();
        self.idle_batches.truncate(self.idle_batches.len() / 2);
        self.rates.sample(self.shard.ctx.now.mono_ns, self.shard.commands.total, &self.sessions.traffic);
        self.background = true;
        Duration::from_millis(1000 / config.hz.max(1) as u64)
    }

    /// There is work that waits for no event: do not sleep.
    pub fn has_work(&self) -> bool {
        !self.resumed.is_empty() || self.background
    }

    /// A slice of what nobody waits for: active expiry and lazy freeing. Called once a turn while there is some.
    pub fn run_background(&mut self) {
        if !self.background {
            return;
        }
        let start = self.shard.ticks();
        loop {
            let ctx = &mut self.shard.ctx;
            let expiring = ctx.expire_slice(BACKGROUND_STEP_KEYS).more;
            let freeing = ctx.lazyfree.slice(BACKGROUND_STEP_KEYS);
            self.background = expiring || freeing;
            let elapsed = self.shard.ticks() - start;
            if !self.background || elapsed >= BACKGROUND_SLICE_NS {
                self.shard.ctx.active_expire.end_turn(elapsed, expiring);
                return;
            }
        }
    }

    /// Connections wait for room in a mailbox.
    pub fn is_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Nothing is on its way to other shards or back, and no client waits for a reply.
    pub fn is_at_rest(&self) -> bool {
        self.jobs.is_empty()
            && self.outgoing.is_empty()
            && self.departing.iter().all(Option::is_none)
            && self.sessions.iter().all(|session| session.is_idle() && session.is_answered())
    }

    /// The connection should not be read until its input is run: enough of it is held.
    pub fn is_choked(&self, conn: ConnKey) -> bool {
        let choked = |session: &Session| session.pause.is_some() && session.input.len() > PAUSED_INPUT_BYTES_MAX;
        self.sessions.get(conn).is_some_and(choked)
    }

    pub fn set_now(&mut self, now: Now) {
        self.shard.ctx.now = now;
    }

    /// A message of another shard, in the order of stamps.
    pub fn message<M: Mesh>(&mut self, from: ShardId, message: Message, mesh: &mut M) {
        match message {
            Message::Run(mut batch) => {
                self.shard.run_batch(&mut batch);
                self.outgoing.push((from, Message::Ran(batch)));
            }
            Message::Ran(batch) => self.batch_done(batch),
            Message::Step(request) => {
                let StepRequest { job, ordinal, step } = *request;
                let outcome = self.run_step(step);
                self.outgoing.push((from, Message::StepDone(Box::new(StepReply { job, ordinal, outcome }))));
            }
            Message::StepDone(reply) => self.step_done(reply.job, reply.ordinal as usize, reply.outcome, mesh),
            Message::Adopt(_) => unreachable!("sockets are the driver's"),
        }
        mesh.publish(&mut self.outgoing);
    }

    /// Parses, routes and runs what arrived, and what waited.
    pub fn turn<M: Mesh>(&mut self, inputs: &[Input<'_>], mesh: &mut M) {
        self.shard.start_clock();
        self.room = mesh.has_room();
        if self.room {
            self.resumed.append(&mut self.starved);
        }
        // A connection that received twice has its second part looked at when the first is done with.
        let mut later = self.wave(inputs.iter(), mesh);
        while !later.is_empty() {
            later = self.wave(later.into_iter(), mesh);
        }
    }

    fn wave<'t, M: Mesh>(&mut self, inputs: impl Iterator<Item = &'t Input<'t>>, mesh: &mut M) -> Vec<&'t Input<'t>> {
        self.wave = self.wave.wrapping_add(1);
        let (mut held, mut units, mut later) = (Held::default(), Units::new(), Vec::new());
        for input in inputs {
            match self.sessions.get_mut(input.conn) {
                Some(session) if session.is_closing() => {}
                Some(session) if session.wave == self.wave => later.push(input),
                Some(session) => {
                    session.wave = self.wave;
                    self.receive(input, &mut held, &mut units);
                }
                None => {}
            }
        }
        for conn in std::mem::take(&mut self.resumed) {
            self.resume(conn, &mut held, &mut units);
        }
        let mut unrun = Vec::new();
        let mut batch = std::mem::take(&mut self.spare).recycled();
        for unit in &units {
            if !self.run_unit(unit, &held, &mut batch, mesh) {
                unrun.extend(unit.partial.map(|index| (unit.conn, index)));
            }
        }
        self.flush(&mut batch, mesh);
        self.spare = batch.recycled();
        drop(units);
        // Back to front, so that the indexes hold.
        for (conn, index) in unrun.into_iter().rev() {
            let HeldPartial { partial, .. } = held.partials.swap_remove(index);
            if let Some(session) = self.sessions.get_mut(conn) {
                session.partial = Some(partial);
            }
        }
        later
    }

    /// Makes received bytes a unit of the turn, or keeps them behind what waits already.
    fn receive<'t>(&mut self, input: &Input<'t>, held: &mut Held, units: &mut Units<'t>) {
        let now_ms = self.shard.ctx.now_ms();
        let limits = self.limits_of(input.conn);
        let session = self.sessions.at(input.conn);
        session.last_active_ms = now_ms;
        session.received_bytes += input.bytes.len() as u64;
        self.sessions.traffic.reads += 1;
        self.sessions.traffic.received_bytes += input.bytes.len() as u64;
        let session = self.sessions.at(input.conn);
        if session.pause.is_some() || !session.input.is_empty() {
            session.input.extend_from_slice(input.bytes);
            return;
        }
        let (mut bytes, mut whole) = (input.bytes, None);
        if let Some(mut partial) = session.partial.take() {
            match partial.feed(bytes, limits) {
                Ok((_, false)) => {
                    let arriving = partial.arriving_bytes();
                    session.partial = Some(partial);
                    return self.check_query_limit(input.conn, arriving);
                }
                Ok((taken, true)) => {
                    bytes = &bytes[taken..];
                    whole = Some(held.keep_partial(partial));
                }
                Err(error) => return self.protocol_error(input.conn, error),
            }
        }
        units.push(Unit { conn: input.conn, partial: whole, bytes: UnitBytes::Received(bytes) });
    }

    fn resume(&mut self, conn: ConnKey, held: &mut Held, units: &mut Units<'_>) {
        let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.is_closing()) else { return };
        if matches!(session.pause, Some(Pause::Barrier | Pause::Job)) {
            // It was resumed, went on, and waits again: for something else that will resume it.
            return;
        }
        session.pause = None;
        let whole = session.partial.take_if(|partial| partial.is_complete()).map(|partial| held.keep_partial(partial));
        let input = std::mem::take(&mut session.input);
        if whole.is_some() || !input.is_empty() {
            held.inputs.push(input);
            units.push(Unit { conn, partial: whole, bytes: UnitBytes::Kept(held.inputs.len() - 1) });
        }
        if self.sessions.at(conn).ended {
            // What it sent last may bring no reply, and this be the last look at it.
            self.sessions.mark_dirty(conn);
        }
    }

    fn limits_of(&self, conn: ConnKey) -> RequestLimits {
        let authenticated = self.sessions.get(conn).is_some_and(|session| session.authenticated);
        RequestLimits { bulk_bytes_max: self.shard.ctx.config.proto_max_bulk_len as i64, authenticated }
    }

    /// Parses and dispatches the commands of a unit; the rest of its bytes goes back to the session. False: so must
    /// the command that arrived in pieces.
    fn run_unit<'t, M: Mesh>(&mut self, unit: &Unit<'t>, held: &'t Held, batch: &mut Batch<'t>, mesh: &mut M) -> bool {
        let conn = unit.conn;
        let mut bytes: &'t [u8] = match unit.bytes {
            UnitBytes::Received(bytes) => bytes,
            UnitBytes::Kept(index) => &held.inputs[index],
        };
        if let Some(index) = unit.partial {
            let HeldPartial { partial, shared } = &held.partials[index];
            let first = batch.words.len();
            batch.words.extend(partial.args());
            if batch.words.len() > first {
                match self.dispatch(conn, first, shared, batch, mesh) {
                    Fate::Taken => {}
                    Fate::TakenThenPause(pause) => {
                        self.keep(conn, bytes, pause);
                        return true;
                    }
                    Fate::NotYet(pause) => {
                        self.keep(conn, bytes, pause);
                        return false;
                    }
                    Fate::Closed => return true,
                }
            }
        }
        let mut commands = 0;
        let output_max = self.sessions.at(conn).output.bytes() + TURN_OUTPUT_BYTES_MAX;
        while !bytes.is_empty() {
            let session = self.sessions.at(conn);
            if session.is_closing() {
                break;
            }
            if commands == TURN_COMMANDS_MAX || session.output.bytes() > output_max {
                self.keep(conn, bytes, Pause::Turn);
                break;
            }
            commands += 1;
            if batch.own.len() + batch.departing >= BATCH_COMMANDS_MAX {
                self.flush(batch, mesh);
            }
            let first = batch.words.len();
            match parse::parse(bytes, self.limits_of(conn), &mut batch.words) {
                Ok(Parsed::Command(taken)) => {
                    let rest = &bytes[taken..];
                    if batch.words.len() == first {
                        bytes = rest;
                        continue;
                    }
                    match self.dispatch(conn, first, &[], batch, mesh) {
                        Fate::Taken => bytes = rest,
                        Fate::TakenThenPause(pause) => {
                            self.keep(conn, rest, pause);
                            break;
                        }
                        Fate::NotYet(pause) => {
                            self.keep(conn, bytes, pause);
                            break;
                        }
                        Fate::Closed => break,
                    }
                }
                Ok(Parsed::Incomplete) => {
                    self.keep_partial(conn, bytes, batch, mesh);
                    break;
                }
                Err(error) => {
                    self.flush(batch, mesh);
                    self.protocol_error(conn, error);
                    break;
                }
            }
        }
        true
    }

    /// The bytes wait in the session.
    fn keep(&mut self, conn: ConnKey, rest: &[u8], pause: Pause) {
        let session = self.sessions.at(conn);
        debug_assert!(session.input.is_empty(), "what waited was taken first");
        session.input = rest.to_vec();
        session.pause = Some(pause);
        match pause {
            Pause::Turn => self.resumed.push(conn),
            Pause::Mailbox => self.starved.push(conn),
            // Their ends resume it; it may have come already.
            Pause::Barrier => self.resume_behind_barrier(conn),
            Pause::Job => {}
        }
    }

    /// The bytes are the beginning of a command (or one that only `Partial` reads, which may be whole).
    fn keep_partial<'t, M: Mesh>(&mut self, conn: ConnKey, bytes: &'t [u8], batch: &mut Batch<'t>, mesh: &mut M) {
        let mut partial = Box::<Partial>::default();
        match partial.feed(bytes, self.limits_of(conn)) {
            Ok((taken, true)) => {
                let session = self.sessions.at(conn);
                session.partial = Some(partial);
                session.input = bytes[taken..].to_vec();
                self.resumed.push(conn);
            }
            Ok((_, false)) => self.sessions.at(conn).partial = Some(partial),
            Err(error) => {
                self.flush(batch, mesh);
                self.protocol_error(conn, error);
            }
        }
    }

    #[cold]
    fn protocol_error(&mut self, conn: ConnKey, error: ProtocolError) {
        let text = error.text();
        self.shard.commands.rejected(None, "ERR".to_string());
        Reply::new(self.sessions.reply_buffer(conn), Protocol::Resp2).error(text.as_bytes());
        self.sessions.close(conn, Close::AfterReplies);
    }

    /// Decides what becomes of the command whose words end the batch's.
    #[inline]
    fn dispatch<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        first: usize,
        shared: &'t [(usize, Bytes)],
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> Fate {
        let words = &batch.words[first..];
        let authenticated = self.sessions.at(conn).authenticated;
        let found = self.registry.find(words[0]);
        let called = found.filter(|_| authenticated).and_then(|command| self.registry.called(command, words));
        let (command, row, (spec, id)) = match (found, called) {
            (Some(command @ Command { run: Run::Key(row), .. }), Some(called)) => (command, *row, called),
            _ => {
                let words: Words = batch.words.drain(first..).collect();
                self.flush(batch, mesh);
                return self.dispatch_other(conn, found, &words, mesh);
            }
        };
        let shard = match command.keys {
            _ if self.server.shards == 1 => Some(0),
            KeyPlan::First => Some(self.slots.shard_of(words[1])),
            KeyPlan::Several => self.one_shard_of(spec, words),
            KeyPlan::None => match spec.shape {
                // A subcommand: only containers have no key of their own.
                Shape::OneShard => self.one_shard_of(spec, words),
                Shape::ByCursor => {
                    Some(keyspace::cursor_shard(words[1]).filter(|&at| at < self.server.shards).unwrap_or(self.id))
                }
                Shape::EveryShard(_) => None,
                _ => Some(self.id),
            },
        };
        match shard {
            Some(shard) if shard == self.id => {
                let session = self.sessions.at(conn);
                let hash = if command.keys == KeyPlan::None { 0 } else { self.shard.prefetch(session.db, words[1]) };
                let discard = session.start_command(id);
                let sequence = (!session.pipeline.is_empty()).then(|| session.pipeline.push_waiting(discard));
                batch.own.push(Own {
                    conn,
                    row,
                    id,
                    db: session.db,
                    hash,
                    first_word: first as u32,
                    words: words.len() as u32,
                    protocol: session.protocol,
                    no_touch: session.no_touch,
                    sequence,
                    discard,
                    shared,
                });
                Fate::Taken
            }
            Some(shard) => {
                let fate = self.depart(conn, shard, row, id, &batch.words[first..], shared);
                if !matches!(fate, Fate::NotYet(_)) {
                    batch.departing += 1;
                }
                batch.words.truncate(first);
                fate
            }
            None => {
                let words: Words = batch.words.drain(first..).collect();
                self.flush(batch, mesh);
                self.start_job(conn, row, id, &words, mesh)
            }
        }
    }

    /// The shard on which all keys of a command lie.
    fn one_shard_of(&self, spec: &Spec, words: &[&[u8]]) -> Option<ShardId> {
        if spec.reaches.is_some_and(|reaches| reaches(words)) {
            return None;
        }
        let keys = keys_of(spec, words);
        let mut shards = keys.iter().map(|key| self.slots.shard_of(words[key.index as usize]));
        // A command whose keys cannot be found has an error to report, anywhere.
        let Some(first) = shards.next() else { return Some(self.id) };
        shards.all(|shard| shard == first).then_some(first)
    }

    /// A command on keys of another shard joins the batch for it.
    fn depart(
        &mut self,
        conn: ConnKey,
        shard: ShardId,
        row: &'static KeyRow,
        id: CommandId,
        words: &[&[u8]],
        shared: &[(usize, Bytes)],
    ) -> Fate {
        if !self.room {
            return Fate::NotYet(Pause::Mailbox);
        }
        let session = self.sessions.at(conn);
        if session.pipeline.is_full() {
            return Fate::NotYet(Pause::Barrier);
        }
        let discard = session.start_command(id);
        let item = RunItem {
            session: conn,
            sequence: session.pipeline.push_waiting(discard),
            row,
            id,
            db: session.db as u16,
            arguments: words.len() as u32,
            protocol: session.protocol,
            no_touch: session.no_touch,
        };
        let idle = &mut self.idle_batches;
        self.departing[shard].get_or_insert_with(|| idle.pop().unwrap_or_default()).push(item, words, shared);
        if self.shard.ctx.config.pipeline_order == PipelineOrder::Strict {
            Fate::TakenThenPause(Pause::Barrier)
        } else {
            Fate::Taken
        }
    }

    /// Publishes what is for other shards, then runs the shard's own.
    fn flush<M: Mesh>(&mut self, batch: &mut Batch<'_>, mesh: &mut M) {
        if batch.departing > 0 {
            for (shard, departing) in self.departing.iter_mut().enumerate() {
                self.outgoing.extend(departing.take().map(|batch| (shard, Message::Run(batch))));
            }
            mesh.publish(&mut self.outgoing);
            self.room = mesh.has_room();
            batch.departing = 0;
        }
        for own in &batch.own {
            self.shard.prefetch_entry(own.db, own.hash);
        }
        self.shard.start_clock();
        for own in &batch.own {
            if self.sessions.at(own.conn).is_cut_off() {
                continue;
            }
            let first = own.first_word as usize;
            let words = &batch.words[first..first + own.words as usize];
            if let Some(key) = words.get(1) {
                self.shard.ctx.remember_hash(key, own.hash);
            }
            self.shard.ctx.no_touch = own.no_touch;
            let args = Args::with_shared(words, own.shared);
            match own.sequence {
                None => {
                    let output = self.sessions.direct_buffer(own.conn);
                    let from = output.len();
                    self.shard.execute(own.row, own.id, own.db, &args, own.protocol, output);
                    if own.discard {
                        output.truncate(from);
                    }
                    if output.len() >= OUTPUT_CHUNK_BYTES {
                        self.check_output_limits(own.conn);
                    }
                }
                Some(sequence) => {
                    self.scratch.clear();
                    self.shard.execute(own.row, own.id, own.db, &args, own.protocol, &mut self.scratch);
                    self.sessions.complete(own.conn, sequence, &self.scratch);
                }
            }
            if self.shard.has_slow() {
                self.log_slow(own.conn);
            }
        }
        self.shard.ctx.forget_hash();
        batch.own.clear();
        batch.words.clear();
    }

    /// Slow commands of a client of this shard, that ran here, go to the log.
    #[cold]
    fn log_slow(&mut self, conn: ConnKey) {
        for command in self.shard.take_slow() {
            self.log_slow_command(conn, command);
        }
    }

    fn log_slow_command(&mut self, conn: ConnKey, command: SlowCommand) {
        let client = self.sessions.get(conn);
        let config = &self.shard.ctx.config;
        let entry = SlowEntry {
            id: self.server.next_slowlog_id.fetch_add(1, Relaxed),
            unix_s: self.shard.ctx.now.unix_s(),
            command,
            client_address: client.map(|session| session.peer.address(&config.unixsocket)).unwrap_or_default(),
            client_name: client.and_then(|session| Some(session.names.as_ref()?.name.clone())).unwrap_or_default(),
        };
        let length_max = config.slowlog_max_len as usize;
        self.shard.slowlog.push(entry, length_max);
    }

    fn batch_done(&mut self, mut batch: Box<RunBatch>) {
        for (index, command) in std::mem::take(&mut batch.slow) {
            self.log_slow_command(batch.items[index].session, command);
        }
        let mut from = 0;
        for (item, &end) in batch.items.iter().zip(&batch.reply_ends) {
            self.sessions.complete(item.session, item.sequence, &batch.replies[from..end]);
            from = end;
        }
        for index in 0..batch.items.len() {
            self.resume_behind_barrier(batch.items[index].session);
        }
        batch.clear();
        self.idle_batches.push(batch);
    }

    fn resume_behind_barrier(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.pause == Some(Pause::Barrier) && session.pipeline.is_empty() {
            self.resumed.push(conn);
            // Once; a second reply of the same batch finds it resumed.
            session.pause = Some(Pause::Turn);
        }
    }

    /// Commands without keys, and those that are refused.
    fn dispatch_other<M: Mesh>(
        &mut self,
        conn: ConnKey,
        found: Option<&'static Command>,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let Some(command) = found else {
            return self.reject(conn, None, &unknown_command(words));
        };
        let mut spec = command.spec;
        let mut id = command.id;
        if !spec.subcommands.is_empty() && words.len() > 1 {
            let Some(subcommand) = spec.subcommand(words[1]) else {
                let text = format!(
                    "ERR unknown subcommand '{}'. Try {} HELP.",
                    String::from_utf8_lossy(&words[1][..words[1].len().min(128)]),
                    spec.name.to_uppercase()
                );
                return self.reject(conn, Some(id), &Error::dynamic(text));
            };
            spec = subcommand;
            id = self.registry.subcommand_id(subcommand.name);
        }
        if !spec.arity.allows(words.len()) {
            return self.reject(conn, Some(id), &Error::arity(spec.name));
        }
        if !self.sessions.at(conn).authenticated && !spec.flags.has(NO_AUTH) {
            return self.reject(conn, Some(id), &Error::Text("NOAUTH Authentication required."));
        }
        match command.run {
            Run::Admin(run) => self.run_admin(conn, run, spec, id, words, mesh),
            Run::Key(_) => unreachable!("a command on keys that nothing refuses was taken before"),
        }
    }

    #[cold]
    fn reject(&mut self, conn: ConnKey, id: Option<CommandId>, error: &Error) -> Fate {
        self.shard.commands.rejected(id, error.code());
        let session = self.sessions.at(conn);
        let (discard, protocol) = (session.take_reply_mode(), session.protocol);
        if !discard {
            Reply::new(self.sessions.reply_buffer(conn), protocol).error(&error.text());
        }
        Fate::Taken
    }

    fn run_admin<M: Mesh>(
        &mut self,
        conn: ConnKey,
        run: AdminFn,
        spec: &'static Spec,
        id: CommandId,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let session = self.sessions.at(conn);
        session.enter_command(id);
        let protocol = session.protocol;
        let mut reply = Reply::new(&mut scratch, protocol);
        self.shard.start_clock();
        let result = run(&mut self.admin(conn), &Args::new(words), &mut reply);
        if let Ok(Outcome::Everywhere(everywhere)) = result {
            self.scratch = scratch;
            // Nothing has happened yet: it is a barrier, and can come back.
            if !self.sessions.at(conn).pipeline.is_empty() {
                return Fate::NotYet(Pause::Barrier);
            }
            return self.start_everywhere(conn, spec, id, everywhere, mesh);
        }
        if let Err(error) = &result {
            reply.truncate(0);
            reply.error(&error.text());
            self.shard.commands.failed(id, error.code());
        }
        let elapsed = self.shard.ran(id);
        if self.shard.is_slow(elapsed) {
            self.was_slow(conn, spec, elapsed, words);
        }
        let discard = self.sessions.at(conn).leave_command();
        if !discard && !scratch.is_empty() {
            self.sessions.reply_buffer(conn).extend_from_slice(&scratch);
        }
        self.scratch = scratch;
        if matches!(result, Ok(Outcome::Shutdown)) {
            self.stop_requested = true;
        }
        if self.sessions.at(conn).is_closing() { Fate::Closed } else { Fate::Taken }
    }

    fn admin(&mut self, conn: ConnKey) -> AdminCtx<'_> {
        AdminCtx {
            now: self.shard.ctx.now,
            shard: &mut self.shard,
            sessions: &mut self.sessions,
            server: &self.server,
            id: self.id,
            slots: &self.slots,
            conn,
            specs: self.registry.specs(),
            names: self.registry.names(),
            rate: self.rates.now(),
        }
    }

    #[cold]
    fn was_slow(&mut self, conn: ConnKey, spec: &Spec, elapsed: u64, words: &[&[u8]]) {
        self.shard.was_slow(spec, elapsed, &redacted(spec, words));
        self.log_slow(conn);
    }

    /// A command whose keys lie on several shards. It is a barrier.
    fn start_job<M: Mesh>(
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
        let (job, round) = Job::start(row, self.dbsize, session.db, session.protocol, words, &self.slots);
        self.run_job(conn, &row.spec, id, Work::Keys(Box::new(job)), round, mesh)
    }

    fn start_everywhere<M: Mesh>(
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
        self.run_job(conn, spec, id, Work::Admin(everywhere), round, mesh)
    }

    fn run_job<M: Mesh>(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        work: Work,
        round: gather::Round,
        mesh: &mut M,
    ) -> Fate {
        self.next_job = self.next_job.wrapping_add(1);
        let session = self.sessions.at(conn);
        let discard = session.start_command(id);
        let protocol = session.protocol;
        let running = Running {
            generation: self.next_job,
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
        self.send_round(key, round, mesh);
        let session = self.sessions.at(conn);
        if session.is_closing() {
            Fate::Closed
        } else if session.pause == Some(Pause::Job) {
            Fate::TakenThenPause(Pause::Job)
        } else {
            Fate::Taken
        }
    }

    fn send_round<M: Mesh>(&mut self, key: JobKey, round: gather::Round, mesh: &mut M) {
        let job = &mut self.jobs[key.index as usize];
        job.missing = round.len();
        job.outcomes = round.iter().map(|_| None).collect();
        let mut own = Vec::new();
        for (ordinal, (shard, step)) in round.into_iter().enumerate() {
            if shard == self.id {
                own.push((ordinal, step));
            } else {
                let request = StepRequest { job: key, ordinal: ordinal as u32, step };
                self.outgoing.push((shard, Message::Step(Box::new(request))));
            }
        }
        // The others work at the same time, and find all that this shard has done before.
        mesh.publish(&mut self.outgoing);
        // A step may have taken the last place, and other connections' commands follow in this turn.
        self.room = mesh.has_room();
        for (ordinal, step) in own {
            let outcome = self.run_step(step);
            self.step_done(key, ordinal, outcome, mesh);
        }
    }

    fn run_step(&mut self, step: Step) -> StepOutcome {
        match step {
            Step::Admin(step) => {
                let AdminStep { part, words, conn } = *step.downcast::<AdminStep>().expect("made by start_everywhere");
                StepOutcome::Admin(part(&mut self.admin(conn), &words))
            }
            step => self.shard.run_step(step),
        }
    }

    fn step_done<M: Mesh>(&mut self, key: JobKey, ordinal: usize, outcome: StepOutcome, mesh: &mut M) {
        let job = &mut self.jobs[key.index as usize];
        assert!(job.generation == key.generation, "an outcome belongs to a job that waits for it");
        assert!(job.outcomes[ordinal].replace(outcome).is_none(), "a step has one outcome");
        job.missing -= 1;
        if job.missing > 0 {
            return;
        }
        let outcomes = std::mem::take(&mut job.outcomes).into_iter().flatten().collect();
        if let Work::Keys(work) = &mut job.work {
            let ctx = &mut self.shard.ctx;
            match work.advance(outcomes, &self.slots, || ctx.scratch()) {
                Next::Round(round) => self.send_round(key, round, mesh),
                Next::Reply(reply) => self.finish_job(key, &reply),
            }
            return;
        }
        self.merge_parts(key, outcomes);
    }

    fn merge_parts(&mut self, key: JobKey, outcomes: Vec<StepOutcome>) {
        let part = |outcome| match outcome {
            StepOutcome::Admin(part) => part,
            other => panic!("an admin step ends with a part, not {other:?}"),
        };
        let parts: Vec<Part> = outcomes.into_iter().map(part).collect();
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
    fn count_job(&mut self, job: &Running, reply: &[u8]) {
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

    fn finish_job(&mut self, key: JobKey, reply: &[u8]) {
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

/// As Redis words it: the name and the first arguments, 128 bytes of each.
fn unknown_command(words: &[&[u8]]) -> Error {
    let name = &words[0][..words[0].len().min(128)];
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(name);
    text.extend_from_slice(b"', with args beginning with: ");
    let from = text.len();
    for word in &words[1..] {
        let room = 128usize.saturating_sub(text.len() - from);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(&word[..word.len().min(room)]);
        text.extend_from_slice(b"' ");
    }
    Error::dynamic(text)
}
