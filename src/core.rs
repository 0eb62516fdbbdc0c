//! Level 8: one core of the server: a shard, the sessions of its connections, and the jobs they started.
//!
//! A stepper without I/O. A driver (`runtime`, or the simulator) calls, in each turn:
//!
//! 1. `connect`, `disconnect` for what happened to sockets;
//! 2. `message` for what other shards sent, in the order of stamps;
//! 3. `turn` with the bytes that arrived: requests are parsed, run or sent on, and answered;
//! 4. `tick` now and then;
//! 5. `end_turn`: what the turn changed is written to the append-only file;
//!
//! and then sends what sessions have in their output, if it may leave. Commands of all connections go through one [`Batch`]: parsed
//! first, with their table lines on the way to the cache; then those for other shards are published; then the shard's
//! own run (design, section 4: two passes, causal order). A command that is not plain access to keys of one shard is
//! a barrier in its own connection: it waits for the replies before it, and what follows waits for its own. Transactions
//! in one hop are none (`hops`): they leave with the commands around them.

mod admin;
mod blocking;
mod clients;
mod evict;
mod hops;
mod jobs;
mod lease;
mod log;
mod observe;
mod persistence;
mod pubsub;
mod requests;
mod scripts;
mod tracking;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use slab::Slab;

use self::blocking::Blocking;
use self::evict::Asking;
use self::hops::Hops;
use self::jobs::Running;
use self::lease::Lent;
use self::log::Ack;
use self::observe::Observing;
use self::requests::Batch;
use crate::admin::ctx::{Everywhere, Server};
use crate::base::clock::Now;
use crate::base::ids::{ConnKey, JobKey, ShardId};
use crate::base::limits::{
    BACKGROUND_SHARE_DIVISOR, BACKGROUND_SLICE_NS, BACKGROUND_SLICE_NS_MIN, BACKGROUND_STEP_KEYS,
    PAUSED_INPUT_BYTES_MAX, UNAUTHENTICATED_OUTPUT_BYTES_MAX,
};
use crate::base::metrics::Rates;
use crate::command::KeyRow;
use crate::command::ctx::ShardCtx;
use crate::command::effect::PartBegin;
use crate::dispatch::registry::{Recent, Registry};
use crate::engine::gather::Round;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Message, RunBatch};
use crate::engine::pubsub::publication::Encoded;
use crate::engine::shard::{Shard, Waiting};
use crate::keyspace::slots::SlotMap;
use crate::persist::aof::log::Log;
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
    recent: Recent,
    dbsize: &'static KeyRow,
    jobs: Slab<Running>,
    hops: Hops,
    next_job: u32,
    /// Commands for other shards, by shard, being collected.
    departing: Vec<Option<Box<RunBatch>>>,
    /// Batches that came back, for the next use.
    #[allow(clippy::vec_box)] // The box itself travels.
    idle_batches: Vec<Box<RunBatch>>,
    outgoing: Vec<(ShardId, Message)>,
    /// The same, to leave with one stamp and in the order of stamps: one for each shard, this one included.
    together: Vec<(ShardId, Message)>,
    /// What this shard has for itself.
    own_messages: VecDeque<Message>,
    blocking: Blocking,
    /// What has been granted its locks and not run yet.
    granted: VecDeque<Waiting>,
    /// Jobs of scripts that have run for too long: they go on in the next turn.
    paused_scripts: Vec<JobKey>,
    /// Sessions whose pause is over: their input is to be looked at.
    resumed: Vec<ConnKey>,
    /// Sessions that wait for room in a mailbox.
    starved: Vec<ConnKey>,
    /// Memory of the last turn's batch.
    spare: Batch<'static>,
    scratch: Vec<u8>,
    /// The message that is being delivered.
    encoded: Encoded,
    /// Every mailbox has a free place: commands may leave.
    room: bool,
    /// Counts waves of inputs, each of which has at most one of a connection.
    wave: u32,
    pub stop_requested: bool,
    /// Keys may be due, or tables wait to be freed.
    background: bool,
    /// How long this turn has served clients.
    served_ns: u64,
    /// Keys have to go that could not go in the last turn.
    evicting: bool,
    asking: Asking,
    /// A snapshot waits for the file to keep up.
    waits_for_file: bool,
    /// Since when keys are held for the snapshot.
    holds_since_ns: Option<u64>,
    /// The file that there was at the start, until it is loaded.
    loader: Option<persistence::Loading>,
    /// What the server does by itself on all shards, to be started in the next turn.
    chores: Vec<Everywhere>,
    /// The databases are saved for the last time: what runs now would be lost.
    stopped: bool,
    /// Persistence may keep some commands from running.
    restricted: bool,
    /// What the shard does is written here, while the append-only file is on.
    pub log: Option<Box<Log>>,
    /// Clients whose replies tell of what could not be written yet.
    held: HashSet<ConnKey>,
    /// Nobody is told anything before a round of the append-only file is over.
    awaits_round: bool,
    /// How much there was to be written when they began to wait.
    held_bytes: usize,
    /// When the log was last tried in vain, on the monotonic clock.
    log_tried_ns: u64,
    /// Rounds that are to be logged before they are sent, and could not be.
    unlogged: Vec<(JobKey, Round, bool)>,
    /// What left together, behind messages that must not leave yet.
    delayed: Vec<Vec<(ShardId, Message)>>,
    /// Where the step began that a script pauses in.
    paused_part: Option<PartBegin>,
    /// The lease of another shard's for which this one is locked.
    lent: Option<Lent>,
    /// Clients that wait for the disk.
    acks: Vec<Ack>,
    rates: Rates,
    /// Connections with more output than the soft limit allows for long.
    over_soft_limit: Vec<ConnKey>,
    observing: Observing,
    /// Keys in the tracking table when the process was last told.
    tracked_keys: u64,
}

/// What becomes of a parsed command.
#[derive(Clone, Copy)]
enum Fate {
    /// Taken; the next may follow.
    Taken,
    /// Taken; the next waits.
    TakenThenPause(Pause),
    /// A message on its way to this home of its channel; the next waits, unless it goes the same way.
    Published(ShardId),
    /// It waits itself.
    NotYet(Pause),
    /// The connection ends; nothing further is read.
    Closed,
}

impl Core {
    pub fn new(id: ShardId, mut ctx: ShardCtx, server: Arc<Server>, ticks: fn() -> u64) -> Core {
        let registry = Registry::get();
        ctx.commands = Registry::find_for_script;
        ctx.scripts.store = server.scripts.clone();
        let mut shard = Shard::new(ctx, registry.names().len(), ticks);
        let slots = shard.ctx.slots.clone();
        shard.memory.parts.share(server.evictions.clone(), id);
        shard.ctx.journal.is_shared = server.shards > 1;
        Core {
            id,
            shard,
            sessions: Sessions::default(),
            slots,
            registry,
            recent: Recent::default(),
            dbsize: registry.key_row("dbsize").0,
            jobs: Slab::new(),
            hops: Hops::default(),
            next_job: 0,
            departing: (0..server.shards).map(|_| None).collect(),
            idle_batches: Vec::new(),
            outgoing: Vec::new(),
            together: Vec::new(),
            own_messages: VecDeque::new(),
            blocking: Blocking::default(),
            granted: VecDeque::new(),
            paused_scripts: Vec::new(),
            resumed: Vec::new(),
            starved: Vec::new(),
            spare: Batch::default(),
            scratch: Vec::new(),
            encoded: Encoded::default(),
            room: true,
            wave: 0,
            stop_requested: false,
            background: false,
            served_ns: 0,
            evicting: false,
            asking: Asking::default(),
            waits_for_file: false,
            holds_since_ns: None,
            loader: None,
            chores: Vec::new(),
            stopped: false,
            restricted: false,
            log: None,
            held: HashSet::new(),
            awaits_round: false,
            held_bytes: 0,
            log_tried_ns: 0,
            unlogged: Vec::new(),
            delayed: Vec::new(),
            paused_part: None,
            lent: None,
            acks: Vec::new(),
            rates: Rates::default(),
            over_soft_limit: Vec::new(),
            observing: Observing::default(),
            tracked_keys: 0,
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
        self.end_transaction(conn);
        self.disconnect_blocked(conn);
        self.unsubscribe_all(conn);
        self.end_tracking(conn);
        self.sessions.remove(conn);
        self.count_monitors();
    }

    /// The client sends no more. What it sent is still answered.
    pub fn input_ended(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.ended = true;
        if session.pause == Some(Pause::Blocked) {
            // As Redis does: who has gone waits for nothing.
            session.close = Some(Close::Now);
        }
        self.sessions.mark_dirty(conn);
    }

    /// Ends a connection whose client does not read: client-output-buffer-limit.
    pub fn check_output_limits(&mut self, conn: ConnKey) {
        let now_ms = self.shard.ctx.now_ms();
        let limits = &self.shard.ctx.config.client_output_buffer_limit;
        let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.is_cut_off()) else { return };
        let limit = if session.is_subscribed() { limits.pubsub } else { limits.normal };
        let bytes = session.output.bytes() as u64;
        let over_soft = limit.soft_bytes > 0 && bytes > limit.soft_bytes;
        let since = if over_soft { session.over_soft_limit_since_ms.or(Some(now_ms)) } else { None };
        if since.is_some() && session.over_soft_limit_since_ms.is_none() {
            self.over_soft_limit.push(conn);
        }
        session.over_soft_limit_since_ms = since;
        let counts_whole = self.shard.counts_whole_buffers && bytes > 0;
        let beyond = if counts_whole { session.output.allocated_bytes() } else { session.output.bytes_beyond_first() };
        let is_unknown = session.is_unknown() && beyond > UNAUTHENTICATED_OUTPUT_BYTES_MAX;
        let over_hard = limit.hard_bytes > 0 && bytes > limit.hard_bytes || is_unknown;
        if over_hard || since.is_some_and(|since| now_ms / 1000 - since / 1000 > limit.soft_seconds) {
            tracing::warn!("Client id={} closed for overcoming of output buffer limits.", session.id);
            session.close = Some(Close::Now);
            self.sessions.traffic.output_limit_disconnections += 1;
        } else if session.ended && session.is_idle() && session.close.is_none() {
            session.close = Some(Close::AfterReplies);
        }
        if self.sessions.keeps_accounts() {
            self.sessions.account(conn);
        }
    }

    /// Ends those that have been over the soft limit for too long, though nothing more is written to them.
    fn check_soft_limits(&mut self) {
        for conn in std::mem::take(&mut self.over_soft_limit) {
            self.check_output_limits(conn);
            let Some(session) = self.sessions.get(conn) else { continue };
            if session.is_cut_off() {
                self.sessions.mark_dirty(conn);
            } else if session.over_soft_limit_since_ms.is_some() {
                self.over_soft_limit.push(conn);
            }
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
        let until_next = Duration::from_millis(1000 / config.hz.max(1) as u64);
        self.give_up_asking();
        self.resume_postponed();
        if self.shard.cron_paused {
            return until_next;
        }
        let now_ms = self.shard.ctx.now_ms();
        if config.timeout > 0 {
            let idle: Vec<ConnKey> = self
                .sessions
                .iter()
                .filter(|session| {
                    let is_idle = session.pause.is_none() && !session.is_subscribed();
                    is_idle && now_ms - session.last_active_ms > config.timeout as i64 * 1000
                })
                .map(|session| session.key)
                .collect();
            for conn in idle {
                self.sessions.close(conn, Close::Now);
            }
        }
        self.check_soft_limits();
        self.sessions.trim();
        self.send_invalidations();
        self.idle_batches.truncate(self.idle_batches.len() / 2);
        self.hops.trim();
        self.shard.ctx.scripts.follow_flush();
        let shard = &self.shard;
        self.rates.sample(shard.ctx.now.mono_ns, shard.commands.total, &self.sessions.traffic, &shard.turns);
        self.tick_lease();
        self.background = true;
        self.shard.look_for_cold_keys();
        self.tick_persistence();
        until_next
    }

    /// Commands that have run here.
    pub fn commands_total(&self) -> u64 {
        self.shard.commands.total
    }

    pub fn tick_took(&mut self, nanoseconds: u64) {
        self.shard.turns.tick_ns += nanoseconds;
    }

    /// A turn that began at `began` by the shard's clock, whose commands had run at `ran`, is over; what it left in the log
    /// took `log_ns`.
    pub fn record_turn(&mut self, began: u64, ran: u64, log_ns: u64, commands_before: u64) {
        let (total, commands) = (self.shard.ticks().saturating_sub(began), self.shard.commands.total);
        let commands = commands.saturating_sub(commands_before);
        self.shard.turns.record(total, ran.saturating_sub(began), log_ns, commands);
    }

    /// There is work that waits for no event: do not sleep.
    pub fn has_work(&self) -> bool {
        // A client that left or gave up its transaction has something to say to other shards, which the next turn sends.
        !self.resumed.is_empty()
            || self.background
            || self.evicting
            || (!self.outgoing.is_empty() || !self.together.is_empty()) && !self.is_log_failing()
            || !self.own_messages.is_empty()
            || self.asking.has_askers()
            || self.loader.is_some() && !self.waits_for_file
            || !self.chores.is_empty()
            || !self.paused_scripts.is_empty()
            || self.shard.is_busy() && !self.shard.lease.is_calling()
    }

    /// There is work that will go on without an event, though not at once.
    pub fn may_only_nap(&self) -> bool {
        self.waits_for_file || self.is_log_failing() || self.awaits_round
    }

    /// There is something for `run_background`.
    pub fn has_background(&self) -> bool {
        self.loader.is_some() || self.background || self.waits_for_file
    }

    /// A slice of what nobody waits for: loading, active expiry, lazy freeing, saving. Called once a turn while there is
    /// some. `is_wanted`: somebody has come; it ends then, as soon as it has had its part.
    pub fn run_background(&mut self, mut is_wanted: impl FnMut() -> bool) {
        if self.loader.is_some() {
            return self.load_slice();
        }
        if !self.has_background() {
            return;
        }
        let start = self.shard.ticks();
        let is_busy = self.shard.is_busy();
        let part_ns = (self.served_ns / BACKGROUND_SHARE_DIVISOR).clamp(BACKGROUND_SLICE_NS_MIN, BACKGROUND_SLICE_NS);
        // Commands that save before they change have done the walk's part of this turn.
        let walks = self.shard.ctx.keyspace.take_saved_ahead() < BACKGROUND_STEP_KEYS;
        // Nothing is locked or let go meanwhile.
        let until = self.shard.locks.expires_until(self.shard.ctx.now);
        loop {
            let ctx = &mut self.shard.ctx;
            // To a script that pauses, nothing expires.
            let expiring = !is_busy && ctx.expire_slice(until, BACKGROUND_STEP_KEYS).more;
            let freeing = ctx.lazyfree.slice(BACKGROUND_STEP_KEYS);
            let saving = walks && self.save_slice();
            let more = expiring || freeing || saving;
            self.background = more || !walks;
            self.send_events();
            let elapsed = self.shard.ticks() - start;
            if !more || elapsed >= BACKGROUND_SLICE_NS || elapsed >= part_ns && is_wanted() {
                self.shard.after_commands();
                self.send_served();
                self.send_events();
                self.send_invalidations();
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
        // A lease that nobody uses is as good as none.
        self.jobs.len() == usize::from(self.shard.lease.is_kept())
            && self.shard.lease.is_at_rest()
            && self.hops.is_empty()
            && (self.shard.locks.is_empty() || self.lent.is_some() && self.shard.locks.waiting() == 0)
            && self.blocking.is_empty()
            && self.shard.blocked.is_empty()
            && self.shard.watching.is_empty()
            && self.outgoing.is_empty()
            && self.together.is_empty()
            && self.departing.iter().all(Option::is_none)
            && self.sessions.iter().all(|session| session.is_idle() && session.is_answered())
    }

    /// The connection should not be read until its input is run: enough of it is held.
    pub fn is_choked(&self, conn: ConnKey) -> bool {
        let choked = |session: &Session| session.pause.is_some() && session.input.len() > PAUSED_INPUT_BYTES_MAX;
        self.sessions.get(conn).is_some_and(choked)
    }

    /// A turn begins: before any message, as what these run may be shown, or tracked, too.
    pub fn set_now(&mut self, now: Now) {
        self.shard.ctx.now = now;
        self.hold_for_snapshot();
        self.refresh_observing();
    }

    /// A message of another shard, in the order of stamps.
    pub fn message<M: Mesh>(&mut self, from: ShardId, message: Message, mesh: &mut M) {
        self.follow_log();
        match message {
            // Nothing runs behind the last save; who asks is told nothing.
            Message::Run(_) | Message::Step(_) | Message::Unwatch(_) if self.stopped => {}
            // What follows from it leaves with all else of the turn.
            Message::PubSub(post) => return self.pubsub_message(from, post),
            message => self.receive_message(from, message),
        }
        self.settle(mesh);
    }

    /// What another shard, or this one, has told.
    fn receive_message(&mut self, from: ShardId, message: Message) {
        match message {
            Message::Run(batch) => self.run_batch(from, batch),
            Message::Ran(batch) => self.batch_done(from, batch),
            Message::Step(request) => self.take_step(from, *request),
            Message::StepDone(reply) => {
                self.step_done(reply.job, reply.ordinal as usize, reply.outcome, reply.logged);
            }
            Message::Unwatch(conn) => self.shard.unwatch((from, conn)),
            Message::Served { conn, reply } => self.served(conn, &reply),
            Message::Wake(conn) => self.wake(conn),
            Message::Unblock(conn) => self.unblock(from, conn),
            Message::PubSub(post) => self.pubsub_message(from, post),
            Message::Tracking(post) => self.tracking_message(from, *post),
            Message::Notes(conn, notes) => notes.into_iter().for_each(|note| self.note(conn, note)),
            Message::Shown(lines) => self.receive_shown(&lines),
            Message::Recall { job, waits } => self.shard.lease.recall(job, waits, self.shard.ctx.now.mono_ns),
            Message::ScriptCalls { job, conn, words, protocol } => {
                self.called_by_script(from, job, conn, words, protocol)
            }
            Message::MakeRoom(number) => self.asked_for_room(from, number),
            Message::RoomMade(number) => self.room_made(number),
            Message::Adopt(_) => unreachable!("sockets are the driver's"),
        }
    }

    /// Sends what is for other shards, and does what the shard has told itself, until nothing is left of either. The
    /// others work at the same time, and find all that this shard had done before.
    fn settle<M: Mesh>(&mut self, mesh: &mut M) {
        loop {
            if self.shard.ctx.scripts.asked.is_some() {
                self.go_on_with_script();
                continue;
            }
            if self.serve_lease() {
                continue;
            }
            if !self.shard.is_busy()
                && let Some(waiting) = self.granted.pop_front()
            {
                if !self.stopped {
                    self.run_granted(waiting);
                }
                continue;
            }
            if !self.outgoing.is_empty() || !self.together.is_empty() {
                // A step may take the last place, and other connections' commands follow in this turn.
                self.publish(mesh);
            }
            match self.own_messages.pop_front() {
                Some(message) => self.receive_message(self.id, message),
                None => return self.publish_shown(mesh),
            }
        }
    }

    /// To another shard, or to this one.
    fn tell(&mut self, shard: ShardId, message: Message) {
        if shard == self.id {
            self.own_messages.push_back(message);
        } else {
            self.outgoing.push((shard, message));
        }
    }

    /// Runs commands of another shard's connections, but for those that have to wait for a lock.
    fn run_batch(&mut self, from: ShardId, mut batch: Box<RunBatch>) {
        self.shard.run_batch(from, &mut batch);
        self.batch_ran(from, batch);
    }

    fn batch_ran(&mut self, from: ShardId, batch: Box<RunBatch>) {
        if self.shard.is_busy() {
            self.became_busy();
        }
        self.tell(from, Message::Ran(batch));
        self.send_aftermath();
    }

    /// What commands have brought to others than who sent them: behind the replies that make it known.
    fn send_aftermath(&mut self) {
        self.send_served();
        self.send_invalidations();
        self.send_events();
    }
}
