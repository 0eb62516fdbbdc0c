//! One shard: runs commands on its keys and keeps count of them.
//!
//! It knows neither connections nor the order of their replies: it is handed a command and a buffer, and leaves an
//! encoded reply in it. Batches run in two passes, so that the table's lines are on their way while the first
//! commands still run (design, section 4).

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::block::{BlockTable, Blocked, Waiter};
use super::busy::Busy;
use super::evict::Room;
use super::lease::Lease;
use super::lock::{LockSet, LockTable, TxId};
use super::memory::MemoryLimit;
use super::msg::{DbKey, ExecCommand, Message, RunBatch, RunItem, SHARED, Step, StepOutcome, StepRequest};
use super::pause::ClientPause;
use super::pubsub::PubSub;
use super::tracking::{Tracker, TrackingTable};
use super::watch::{WatchTable, Watched, Watcher};
use crate::base::ids::{CommandId, ConnKey, ShardId};
use crate::base::limits::BATCH_COMMANDS_MAX;
use crate::base::metrics::{CommandStats, Turns};
use crate::base::slowlog::SlowLog;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::{KeyStats, ShardCtx};
use crate::command::effect::Change;
use crate::command::error::{Error, Result};
use crate::command::events::Event;
use crate::command::keys::{ACCESS, keys_of};
use crate::command::spec::{DENYOOM, Group, READONLY, Spec};
use crate::command::wait::Wait;
use crate::config::Config;
use crate::data::dict::Dict;
use crate::data::entry::ValueRef;
use crate::keyspace::evict::Pool;
use crate::resp::reply::{Protocol, Reply};

pub const OUT_OF_MEMORY: Error = Error::Text("OOM command not allowed when used memory > 'maxmemory'.");

/// What waits for locks.
#[derive(Debug)]
pub enum Waiting {
    /// A step of a job of this coordinator's.
    Step(ShardId, Box<StepRequest>),
    /// One command of a connection of this shard's.
    Run(ShardId, Box<RunBatch>),
}

pub struct Shard {
    pub ctx: ShardCtx,
    pub locks: LockTable<Waiting>,
    pub watching: WatchTable,
    pub blocked: BlockTable,
    /// What serving clients that waited has for other shards, or for this one.
    pub outbox: Vec<(ShardId, Message)>,
    pub tracking: TrackingTable,
    /// Whose job the step that runs belongs to, and whether what it reads is tracked.
    pub caller: Option<(Tracker, bool)>,
    pub commands: CommandStats,
    /// Nanoseconds that pass, for the time that commands take.
    ticks: fn() -> u64,
    /// When the command before ended, hence this one began: one reading of the clock a command.
    pub(super) ended: u64,
    /// Of this shard's clients.
    pub slowlog: SlowLog,
    pub pubsub: PubSub,
    /// CLIENT PAUSE.
    pub pause: ClientPause,
    /// DEBUG PAUSE-CRON: nothing happens by the clock alone.
    pub cron_paused: bool,
    /// DEBUG CLIENT-ENFORCE-REPLY-LIST: the buffer that a client's first reply goes to counts as its output, all of it.
    pub counts_whole_buffers: bool,
    pub turns: Turns,
    pub memory: MemoryLimit,
    /// Keys that may make room.
    pub(super) pool: Pool,
    /// A script that runs too long.
    pub(super) busy: Option<Box<Busy>>,
    /// Of scripts that may touch any key.
    pub lease: Lease,
}

impl Shard {
    pub fn new(ctx: ShardCtx, commands: usize, ticks: fn() -> u64) -> Shard {
        let config = ctx.config.clone();
        let pubsub = PubSub::new(ctx.shard, ctx.keyspace.seeds());
        let tracking = TrackingTable::new(ctx.keyspace.seeds());
        let mut shard = Shard {
            ctx,
            locks: LockTable::default(),
            watching: WatchTable::default(),
            blocked: BlockTable::default(),
            outbox: Vec::new(),
            tracking,
            caller: None,
            commands: CommandStats::new(commands),
            ticks,
            ended: 0,
            slowlog: SlowLog::default(),
            pubsub,
            pause: ClientPause::default(),
            cron_paused: false,
            counts_whole_buffers: false,
            turns: Turns::default(),
            memory: MemoryLimit::default(),
            pool: Pool::default(),
            busy: None,
            lease: Lease::default(),
        };
        shard.ctx.scripts.observe(ticks, commands);
        shard.configure(config);
        shard
    }

    /// Counts by command, those that scripts called included.
    pub fn command_stats(&self) -> CommandStats {
        let mut stats = self.commands.clone();
        if let Some(called) = &self.ctx.scripts.commands {
            stats.merge(called);
        }
        stats
    }

    /// From now on this configuration counts.
    pub fn configure(&mut self, config: Arc<Config>) {
        self.ctx.timing.configure(&config);
        if self.commands.tracks_latency && !config.latency_tracking {
            self.commands.forget_latencies();
        }
        self.commands.tracks_latency = config.latency_tracking;
        self.ctx.events.configure(&config);
        self.memory.configure(&config);
        self.ctx.is_out_of_memory = false;
        self.ctx.config = config;
        if self.memory.is_set() {
            self.tell_evictable();
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stat(&mut self) {
        self.turns = Turns::default();
        self.commands.reset();
        if let Some(called) = &mut self.ctx.scripts.commands {
            called.reset();
        }
        self.ctx.scripts.evicted = 0;
        self.ctx.stats = KeyStats::default();
        self.ctx.active_expire.reset_stat();
        self.ctx.lazyfree.reset_stat();
        self.memory.reset_stat();
    }

    /// The clock by which commands and slices are timed, in nanoseconds.
    pub fn ticks(&self) -> u64 {
        (self.ticks)()
    }

    /// From now on time counts for the next command.
    pub fn start_clock(&mut self) {
        self.ended = self.ticks();
    }

    /// First pass: the hash of the command's first key, and its bucket on the way to the cache.
    #[inline]
    pub fn prefetch(&self, db: usize, key: &[u8]) -> u64 {
        let hash = self.ctx.keyspace.hash(key);
        self.ctx.keyspace.db(db).prefetch_bucket(hash);
        hash
    }

    /// Between the passes: the entries of commands on their way to the cache, each by its database and its key's hash.
    #[inline]
    pub fn prefetch_entries(&self, keys: impl Iterator<Item = (usize, u64)>) {
        let mut before = None;
        for key in keys.filter(|&key| before.replace(key) != Some(key)) {
            self.ctx.keyspace.db(key.0).prefetch_entry(key.1);
        }
    }

    /// Behind that: the elements that commands are about, where their keys hold collections with tables.
    /// (Measured with a set of 600,000: a fifth of what SADD takes outside the kernel went into waiting for its bucket.)
    #[inline]
    pub fn prefetch_elements<'w>(&self, commands: impl Iterator<Item = (Group, usize, u64, &'w [&'w [u8]])>) {
        let mut elements: SmallVec<[(&Dict, u64); BATCH_COMMANDS_MAX]> = SmallVec::new();
        // Commands on one collection often follow each other.
        let mut before = (None, None);
        for (group, db, hash, words) in commands {
            let element = match (group, words) {
                (Group::Hash, &[_, _, field, ..]) => field,
                (Group::Set | Group::SortedSet, &[_, _, .., member]) => member,
                _ => continue,
            };
            if before.0 != Some((db, hash)) {
                before = (Some((db, hash)), self.table_at(db, hash, words[1]));
            }
            if let Some(table) = before.1 {
                let hash = table.hash(element);
                table.prefetch_bucket(hash);
                elements.push((table, hash));
            }
        }
        for (table, hash) in elements {
            table.prefetch_entry(hash);
        }
    }

    /// The table of the collection at a key.
    fn table_at(&self, db: usize, hash: u64, key: &[u8]) -> Option<&Dict> {
        match self.ctx.keyspace.db(db).get(hash, key)?.value() {
            ValueRef::Collection(collection) => collection.table(),
            ValueRef::Text(_) => None,
        }
    }

    /// Runs one command and appends its reply.
    #[inline]
    pub fn execute(
        &mut self,
        row: &KeyRow,
        id: CommandId,
        db: usize,
        args: &Args,
        protocol: Protocol,
        output: &mut Vec<u8>,
    ) {
        if self.memory.is_set()
            && let Err(error) = self.afford(row.spec.called(args.words()))
        {
            self.commands.rejected(Some(id), error.code());
            return Reply::new(output, protocol).error(&error.text());
        }
        self.execute_admitted(row, id, db, args, protocol, output);
    }

    /// The same for a command of a transaction: whether there is memory was asked before its first.
    #[inline]
    fn execute_admitted(
        &mut self,
        row: &KeyRow,
        id: CommandId,
        db: usize,
        args: &Args,
        protocol: Protocol,
        output: &mut Vec<u8>,
    ) {
        if let Err(error) = self.run(row, db, args, protocol, output) {
            self.failed(id, &error);
        }
        if self.has_suspended() {
            return;
        }
        let elapsed = self.ran(id);
        if self.ctx.timing.is_slow(elapsed) {
            self.was_slow(&row.spec, elapsed, args.words());
        }
    }

    /// Runs a command, and appends its reply, without counting it: it may be part of another one.
    #[inline]
    fn run(&mut self, row: &KeyRow, db: usize, args: &Args, protocol: Protocol, output: &mut Vec<u8>) -> Result {
        self.ctx.db = db;
        self.ctx.only_reads = row.spec.flags.has(READONLY);
        let mut reply = Reply::new(output, protocol);
        let from = reply.position();
        (row.run)(&mut self.ctx, args, &mut reply).inspect_err(|error| {
            reply.truncate(from);
            reply.error(&error.text());
        })
    }

    /// Whether there is memory for a command that may take some.
    #[cold]
    fn afford(&mut self, spec: &Spec) -> Result {
        if spec.group == Group::Scripting {
            self.look_at_memory();
        }
        if spec.flags.has(DENYOOM) && self.is_out_of_memory() { Err(OUT_OF_MEMORY) } else { Ok(()) }
    }

    /// What scripts that begin now find.
    pub fn look_at_memory(&mut self) {
        self.ctx.is_out_of_memory = self.memory.is_set() && self.is_out_of_memory();
    }

    /// More memory is in use than `maxmemory` allows, and nothing can be removed.
    pub fn is_out_of_memory(&mut self) -> bool {
        self.make_room_at_once() == Room::Lacking
    }

    /// Counts a command that ran since the one before; how long it took, in nanoseconds.
    #[inline]
    pub fn ran(&mut self, id: CommandId) -> u64 {
        let now = self.ticks();
        let elapsed = now - self.ended;
        self.ended = now;
        self.commands.ran(id, elapsed);
        elapsed
    }

    #[cold]
    fn failed(&mut self, id: CommandId, error: &Error) {
        self.commands.failed(id, error.code());
    }

    /// Takes note of a slow command.
    #[cold]
    pub fn was_slow(&mut self, spec: &Spec, nanoseconds: u64, words: &[&[u8]]) {
        self.ctx.timing.was_slow(spec, nanoseconds, self.ctx.now.unix_s(), words);
    }

    /// A command left something to be done behind its reply: there is something to note, or to hear of.
    #[inline]
    pub fn has_aftermath(&self) -> bool {
        self.ctx.timing.has_notes() | !self.ctx.events.is_empty()
    }

    /// Queues a command behind the locks it needs.
    pub fn defer(&mut self, from: ShardId, item: RunItem, words: &[&[u8]], shared: &[(usize, Bytes)]) {
        let set = LockSet::of_command(&item.row.spec, words);
        let mut batch = Box::<RunBatch>::default();
        batch.push(item, words, shared);
        self.locks.wait(set, Waiting::Run(from, batch));
    }

    /// Runs the commands of another shard's connections; their replies are left in the batch. What has to wait for a lock
    /// is marked there, and comes back in a batch of its own.
    pub fn run_batch(&mut self, from: ShardId, batch: &mut RunBatch) {
        if self.lease.is_under_way() && batch.items.iter().any(|item| item.is_linked) {
            self.lease.link();
        }
        self.run_items(from, batch, self.is_guarded(), false);
    }

    /// What these commands need is free. Their words come first among `words`.
    #[cold]
    fn admits_items(&mut self, items: &[RunItem], mut words: &[&[u8]]) -> bool {
        items.iter().all(|item| {
            let (of_item, rest) = words.split_at(item.arguments as usize);
            words = rest;
            self.hold_for_command(&item.row.spec, of_item);
            self.locks.admits_command(&item.row.spec, of_item)
        })
    }

    /// Runs a command that is a part of a transaction, or of which this is a part. Whether there is memory was asked before.
    fn execute_part(&mut self, item: &RunItem, args: &Args, output: &mut Vec<u8>) {
        let db = usize::from(item.db);
        if item.is_queued {
            self.execute_admitted(item.row, item.id, db, args, item.protocol, output);
            // Nobody waits inside a transaction.
            self.ctx.waiting = None;
        } else {
            self.run(item.row, db, args, item.protocol, output).expect("a part of a command cannot fail");
            self.start_clock();
        }
    }

    /// Runs what was deferred.
    pub fn run_granted(&mut self, from: ShardId, batch: &mut RunBatch) {
        self.run_items(from, batch, false, false);
    }

    /// Runs a script that has waited for the lease.
    pub fn run_leased(&mut self, from: ShardId, batch: &mut RunBatch) {
        self.run_items(from, batch, false, true);
    }

    /// Whether a script that needs the lease may run now. If so, it is to run next.
    pub fn admits_leased(&mut self) -> bool {
        let may_run = self.lease.is_usable() && self.locks.is_empty();
        if may_run {
            self.lend_lease();
        }
        may_run
    }

    /// The script that runs next has the lease.
    fn lend_lease(&mut self) {
        self.ctx.scripts.is_leased = true;
        self.lease.used();
    }

    /// Queues a script that needs the lease.
    pub fn defer_for_lease(&mut self, from: ShardId, item: RunItem, words: &[&[u8]], shared: &[(usize, Bytes)]) {
        let mut batch = Box::<RunBatch>::default();
        batch.push(item, words, shared);
        self.lease.wait((from, batch));
    }

    /// `guarded`: locks are held, and commands that conflict wait for them on behalf of this shard; or clients wait for keys.
    /// `has_lease`: it is a script that has waited for it.
    fn run_items(&mut self, from: ShardId, batch: &mut RunBatch, mut guarded: bool, has_lease: bool) {
        let RunBatch { items, bytes, lengths, shared, replies, reply_ends, notes } = batch;
        let mut words: Vec<&[u8]> = Vec::with_capacity(lengths.len());
        let (mut at, mut next_shared) = (0, 0);
        for &length in lengths.iter() {
            if length == SHARED {
                words.push(&shared[next_shared]);
                next_shared += 1;
            } else {
                words.push(&bytes[at..at + length as usize]);
                at += length as usize;
            }
        }
        let mut hashes = Vec::with_capacity(items.len());
        let mut first = 0;
        for item in items.iter() {
            let key = words.get(first + 1).filter(|_| item.arguments > 1);
            hashes.push(key.map_or(0, |key| self.prefetch(usize::from(item.db), key)));
            first += item.arguments as usize;
        }
        self.prefetch_entries(items.iter().zip(&hashes).map(|(item, &hash)| (usize::from(item.db), hash)));
        let mut first = 0;
        self.prefetch_elements(items.iter().zip(&hashes).map(|(item, &hash)| {
            let words = &words[first..][..item.arguments as usize];
            first += words.len();
            (item.row.spec.group, usize::from(item.db), hash, words)
        }));
        let (mut first, mut first_shared) = (0, 0);
        self.memory.refresh();
        self.start_clock();
        let mut index = 0;
        while index < items.len() {
            // Where its part of a transaction ends; most commands are none.
            let end = index + 1 + items[index].followers as usize;
            let mut waiting = None;
            let lacks_lease = items[index].leased && !has_lease && !self.admits_leased();
            if has_lease {
                self.lend_lease();
            } else if !lacks_lease
                && guarded
                && !self.locks.is_empty()
                && !self.admits_items(&items[index..end], &words[first..])
            {
                waiting = Some((LockSet::default(), Box::<RunBatch>::default()));
            }
            for index in index..end {
                let (item, hash) = (&mut items[index], hashes[index]);
                let range = first..first + item.arguments as usize;
                first = range.end;
                let own: Vec<(usize, Bytes)> = lengths[range.clone()]
                    .iter()
                    .enumerate()
                    .filter(|&(_, &length)| length == SHARED)
                    .map(|(index, _)| {
                        first_shared += 1;
                        (index, shared[first_shared - 1].clone())
                    })
                    .collect();
                let words = &words[range];
                if lacks_lease {
                    // A script is no part of a transaction in one hop.
                    self.defer_for_lease(from, item.clone(), words, &own);
                    item.deferred = true;
                    reply_ends.push(replies.len());
                    continue;
                }
                if let Some((set, later)) = &mut waiting {
                    set.merge(&LockSet::of_command(&item.row.spec, words));
                    later.push(item.clone(), words, &own);
                    item.deferred = true;
                    reply_ends.push(replies.len());
                    continue;
                }
                if let Some(key) = words.get(1) {
                    self.ctx.remember_hash(key, hash);
                }
                self.ctx.no_touch = item.no_touch;
                let args = Args::with_shared(words, &own);
                let db = usize::from(item.db);
                match item.hop {
                    None => self.execute(item.row, item.id, db, &args, item.protocol, replies),
                    Some(_) => self.execute_part(item, &args, replies),
                }
                reply_ends.push(replies.len());
                if self.has_suspended() {
                    // It is no part of a transaction.
                    self.suspend_command(from, item.clone(), words, &own);
                    item.deferred = true;
                    guarded = true;
                    continue;
                }
                if item.tracks | self.tracking.is_on() {
                    self.track((from, item.session), item.tracks, &item.row.spec, words);
                }
                if self.ctx.timing.has_notes() {
                    let mut taken = self.ctx.timing.take_notes();
                    notes.extend(taken.drain(..).map(|note| (index, note)));
                    self.ctx.timing.give_notes(taken);
                }
            }
            if let Some((set, later)) = waiting {
                self.locks.wait(set, Waiting::Run(from, later));
            } else if guarded {
                self.after_commands();
            }
            index = end;
        }
        self.ctx.no_touch = false;
        self.ctx.forget_hash();
        self.after_commands();
    }

    /// Commands have run, or keys have expired: those whom it concerns learn of it.
    #[inline]
    pub fn after_commands(&mut self) {
        if self.ctx.journal.is_recording() {
            self.note_changes();
            if self.blocked.has_ready() {
                self.serve(None);
            }
        }
    }

    /// A step has run on behalf of `caller`. Those who wait for what it has brought are not served before its locks end.
    pub fn end_step(&mut self) {
        if self.ctx.journal.is_recording() {
            self.note_changes();
        }
        self.caller = None;
    }

    /// Something has to be looked at after every single command: locks are held, or clients wait.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        !self.locks.is_empty() || !self.blocked.is_empty()
    }

    /// A command of this client's has run: tells of what it has changed, and notes what it has read if that is tracked.
    #[cold]
    pub fn track(&mut self, client: Tracker, tracks: bool, spec: &Spec, words: &[&[u8]]) {
        self.note_changes_by(Some(client));
        let called = words.get(1).and_then(|name| spec.subcommand(name)).unwrap_or(spec);
        if tracks && spec.group == Group::Scripting {
            // What counts is what it called.
            for key in self.ctx.scripts.take_reads() {
                self.tracking.remember(&key, client);
            }
            self.observe();
        } else if tracks && called.flags.has(READONLY) {
            for key in &keys_of(spec, words) {
                self.tracking.remember(words[key.index as usize], client);
            }
            self.observe();
        }
    }

    /// What a job wants of this shard's keys. Admin steps belong to a higher level and are not seen here.
    /// `None`: it contains a script that goes on in later turns.
    pub fn run_step(&mut self, step: Step) -> Option<StepOutcome> {
        self.ctx.only_reads = false;
        Some(match step {
            Step::Nothing | Step::Lease => StepOutcome::Done,
            Step::Run { row, db, words, protocol, waiter, script } => {
                let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let mut reply = Vec::new();
                let now = self.ctx.now;
                if let Some(now) = script {
                    self.ctx.in_script = true;
                    self.ctx.now = now;
                }
                // An error is in the reply; the job counts it.
                let _ = self.run(row, db, &Args::new(&slices), protocol, &mut reply);
                self.ctx.in_script = false;
                self.ctx.now = now;
                if let Some((caller, true)) = self.caller {
                    self.track(caller, true, &row.spec, &slices);
                }
                let Some(wait) = self.ctx.waiting.take() else { return Some(StepOutcome::Reply(reply)) };
                if let Some(waiter) = waiter {
                    let accessed = keys_of(&row.spec, &slices).into_iter().filter(|key| key.flags.has(ACCESS));
                    let keys = accessed.map(|key| slices[key.index as usize].to_vec()).collect();
                    let Wait { is_ready, minds_removal, .. } = wait;
                    let words = wait.words.clone().unwrap_or(words);
                    let is_woken = false;
                    self.block(Blocked { waiter, row, db, words, keys, protocol, is_ready, minds_removal, is_woken });
                }
                StepOutcome::Waits { reply, wait }
            }
            Step::Probe { db, keys } => {
                self.ctx.db = db;
                StepOutcome::Present(keys.iter().map(|key| self.ctx.peek(key).is_some()).collect())
            }
            Step::Block(blocked) => {
                self.block(*blocked);
                StepOutcome::Done
            }
            Step::Fetch { keys } => {
                if let Some((caller, true)) = self.caller {
                    keys.iter().for_each(|of| self.tracking.remember(&of.key, caller));
                    self.observe();
                }
                StepOutcome::Entries(
                    self.ctx.now,
                    keys.iter()
                        .map(|DbKey { db, key }| {
                            // COPY may name a database that does not exist.
                            if *db >= self.ctx.keyspace.databases() {
                                return None;
                            }
                            self.ctx.db = *db;
                            self.ctx.copy_entry(key)
                        })
                        .collect(),
                )
            }
            Step::Store { changes, events } => {
                // What this means to the keys, the command has told where it ran.
                let wanted = self.ctx.events.mute();
                for (DbKey { db, key }, entry) in changes {
                    self.ctx.db = db;
                    self.ctx.store_entry(&key, entry);
                }
                self.ctx.events.unmute(wanted);
                for (DbKey { db, key }, name) in &events {
                    self.ctx.events.push(Event { db: *db, name, key });
                }
                StepOutcome::Done
            }
            Step::Watch { watcher, db, keys } => {
                self.watch(watcher, db, keys);
                StepOutcome::Done
            }
            Step::Check { watcher } => match self.has_changed(watcher) {
                true => StepOutcome::Dirty,
                false => StepOutcome::Done,
            },
            Step::Exec { watcher, commands, protocol } => {
                if let Some(watcher) = watcher {
                    let dirty = self.has_changed(watcher);
                    self.unwatch(watcher);
                    if dirty {
                        return Some(StepOutcome::Dirty);
                    }
                }
                if self.memory.is_set() && commands.iter().any(|command| command.row.spec.group == Group::Scripting) {
                    self.look_at_memory();
                }
                self.start_clock();
                return self.run_exec(commands.into(), Vec::new(), protocol);
            }
            Step::Admin(_) => unreachable!("the core runs admin steps itself"),
        })
    }

    /// One command of an EXEC. Its script may pause.
    pub(super) fn run_queued(&mut self, command: &ExecCommand, protocol: Protocol) -> Vec<u8> {
        let ExecCommand { row, id, db, words } = command;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut reply = Vec::new();
        self.execute_admitted(row, *id, *db, &Args::new(&words), protocol, &mut reply);
        self.ctx.waiting = None;
        if !self.has_suspended() {
            self.track_queued(row, &words);
        }
        reply
    }

    pub(super) fn track_queued(&mut self, row: &KeyRow, words: &[&[u8]]) {
        match self.caller {
            Some((caller, tracks)) if tracks || self.tracking.is_on() => self.track(caller, tracks, &row.spec, words),
            _ => self.note_changes(),
        }
    }

    fn watch(&mut self, watcher: Watcher, db: usize, keys: Vec<Vec<u8>>) {
        self.ctx.db = db;
        let existed: Vec<bool> = keys.iter().map(|key| self.ctx.peek(key).is_some()).collect();
        // What has changed until now, or turned out to have expired, concerns those who watch already.
        self.note_changes();
        for (key, existed) in keys.into_iter().zip(existed) {
            self.watching.watch(watcher, Watched { db, key, existed });
        }
        self.observe();
    }

    /// Whether a key that the client watches has changed since.
    fn has_changed(&mut self, watcher: Watcher) -> bool {
        let watched = self.watching.watched(watcher).iter().filter(|watched| watched.existed);
        for Watched { db, key, .. } in watched.cloned().collect::<Vec<Watched>>() {
            // One whose time has passed is removed now, which is a change. (What SWAPDB brought in place of nothing, and
            // whose time has passed, is none.)
            self.ctx.db = db;
            self.ctx.peek(&key);
        }
        self.note_changes();
        self.watching.is_dirty(watcher)
    }

    /// Forgets what a client watches.
    pub fn unwatch(&mut self, watcher: Watcher) {
        self.watching.forget(watcher);
        self.observe();
    }

    /// Somebody wants to know which keys change.
    pub fn observe(&mut self) {
        let is_tracking = self.tracking.refresh();
        self.ctx.journal.observe(is_tracking || !self.watching.is_empty() || !self.blocked.is_empty());
    }

    /// A client waits for keys here.
    fn block(&mut self, blocked: Blocked) {
        self.note_changes();
        self.blocked.insert(blocked);
        self.observe();
    }

    /// A client no longer waits here.
    pub fn unblock(&mut self, shard: ShardId, conn: ConnKey) {
        self.blocked.remove(shard, conn);
        self.observe();
        self.serve(None);
    }

    /// A transaction is about to release its locks: serves those who waited for what it brought.
    pub fn serve_behind(&mut self, transaction: TxId) {
        if self.ctx.journal.is_recording() {
            self.note_changes();
            self.serve(Some(transaction));
        }
    }

    /// Runs the commands of clients who wait for keys that have changed, in the order in which they came. `holder` is a
    /// transaction that is about to release its locks: what it brought is served as if it had released them.
    fn serve(&mut self, holder: Option<TxId>) {
        let mut postponed = Vec::new();
        while self.blocked.has_ready() {
            for (db, key) in self.blocked.take_ready() {
                if !self.serve_key(db, &key, holder) {
                    postponed.push((db, key));
                }
            }
        }
        for (db, key) in postponed {
            self.blocked.postpone(db, key);
        }
    }

    /// False: a client's command needs what is locked.
    fn serve_key(&mut self, db: usize, key: &[u8], holder: Option<TxId>) -> bool {
        let mut place = None;
        loop {
            self.ctx.db = db;
            let gone = self.ctx.peek(key).is_none();
            let Some((at, blocked)) = self.blocked.behind(db, key, place, gone) else { return true };
            place = Some(at);
            let words: Vec<&[u8]> = blocked.words.iter().map(Vec::as_slice).collect();
            if !(blocked.is_ready)(&mut self.ctx, &words, key) {
                continue;
            }
            if !self.locks.admits_command_beside(holder, &blocked.row.spec, &words) {
                return false;
            }
            let Waiter { shard, conn, tracks, .. } = blocked.waiter;
            if blocked.is_woken {
                self.outbox.push((shard, Message::Wake(conn)));
                self.blocked.wake(at);
                return true;
            }
            if !blocked.waiter.ticket.decide() {
                // It is leaving.
                continue;
            }
            let Blocked { row, words, protocol, .. } = blocked.clone();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.blocked.remove(shard, conn);
            let mut reply = Vec::new();
            // An error is in the reply; the client's own shard counts it.
            let _ = self.run(row, db, &Args::new(&words), protocol, &mut reply);
            assert!(self.ctx.waiting.take().is_none(), "{} was ready to be served", row.spec.name);
            self.outbox.push((shard, Message::Served { conn, reply }));
            self.track((shard, conn), tracks, &row.spec, &words);
            self.observe();
        }
    }

    /// Tells of what has changed since the last call to all whom it concerns.
    pub(super) fn note_changes(&mut self) {
        self.note_changes_by(self.caller.map(|(caller, _)| caller));
    }

    /// The same of what a client has changed.
    fn note_changes_by(&mut self, by: Option<Tracker>) {
        let expired = self.ctx.journal.take_expired();
        for change in self.ctx.journal.take_changes() {
            if self.tracking.is_on() {
                let is_expired = matches!(&change, Change::Key { key, .. } if expired.contains(key));
                self.tracking.changed(&change, if is_expired { None } else { by });
            }
            let ctx = &mut self.ctx;
            self.blocked.changed(&change);
            self.watching.changed(&change, |db, key| {
                let keyspace = &ctx.keyspace;
                keyspace.db(db).get(keyspace.hash(key), key).is_some_and(|entry| !ctx.is_expired(entry))
            });
        }
    }
}
