//! The gate: nothing leaves a shard before its log has what it tells of.
//!
//! A turn's effects are one group, written at its end; messages and replies leave behind that write (and behind the sync,
//! under `appendfsync always`). So whoever has heard of something, client or shard, has heard of what a crash does not
//! take back.
//!
//! If the disk does not take a group, those wait until it does whose replies are in a turn that has added to it, and so does what it has
//! for other shards; writes are refused meanwhile (MISCONF), so that little can follow. Under `always` everybody waits.
//!
//! If the disk cannot sync what it took, that may be lost, whatever later syncs say: until a rewrite has saved what is in
//! memory, writes are refused, and those wait whose replies tell of what was written last.

use super::Core;
use super::jobs::Work;
use crate::base::ids::{ConnKey, JobKey, ShardId};
use crate::base::limits::LOG_RETRY_NS;
use crate::codec::aof::{Policy, TransactionId};
use crate::command::effect::PartBegin;
use crate::command::spec::{Shape, WRITE};
use crate::engine::gather::Round;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Message, Step};
use crate::persist::aof::log::{Log, Terms};

/// What the log wants of a job.
#[derive(Default)]
pub(super) struct Logging {
    /// The transaction's number at this shard, if it is one that may change several; otherwise 0.
    pub transaction: u64,
    /// Parts that shards have logged.
    pub parts: u64,
    /// The reply, which waits for the last round.
    pub owed: Option<Vec<u8>>,
}

/// A client of WAITAOF.
pub(super) struct Ack {
    conn: ConnKey,
    /// To where the logs of all shards are to be on disk.
    positions: Vec<u64>,
    /// It waits for nothing else.
    ends: bool,
}

impl Core {
    /// The log begins when all that there was is loaded.
    #[inline]
    pub(super) fn follow_log(&mut self) {
        if self.log.is_none() && self.server.aof.is_on() {
            self.open_log();
        }
    }

    #[cold]
    fn open_log(&mut self) {
        if self.loader.is_some() {
            return;
        }
        self.shard.ctx.journal.log(true);
        let mut log = Log::new(self.server.aof.clone(), self.id);
        log.begin();
        self.log = Some(Box::new(log));
    }

    /// Hands what is for other shards to the mesh, unless it may tell of what the log does not have yet.
    ///
    /// What leaves together, the commands of clients and their requests for locks, tells of nothing; but what was told
    /// before comes before it (a client gave up its watched keys, and watches others). So then the log is written.
    pub(super) fn publish<M: Mesh>(&mut self, mesh: &mut M) {
        if !self.outgoing.is_empty() && self.shard.ctx.journal.is_unlogged() {
            if self.together.is_empty() {
                return;
            }
            self.write_log();
        }
        self.publish_logged(mesh);
    }

    fn publish_logged<M: Mesh>(&mut self, mesh: &mut M) {
        let is_gated = !self.outgoing.is_empty() && self.shard.ctx.journal.is_unlogged();
        if is_gated || !self.delayed.is_empty() {
            if !self.together.is_empty() {
                self.delayed.push(std::mem::take(&mut self.together));
            }
            if is_gated {
                return;
            }
        }
        // Commands have been promised room, and this shard's own follow at once: they go first.
        let are_commands = matches!(self.together[..], [(_, Message::Run(_)), ..]) && self.delayed.is_empty();
        if !self.outgoing.is_empty() && !are_commands {
            mesh.publish(&mut Vec::new(), &mut self.outgoing);
        }
        for mut together in std::mem::take(&mut self.delayed) {
            mesh.publish(&mut together, &mut self.outgoing);
        }
        if !self.together.is_empty() {
            mesh.publish(&mut self.together, &mut self.outgoing);
        }
        self.room = mesh.has_room();
    }

    /// The turn is over: writes what it did, and lets its messages go. False: no reply may leave yet.
    pub fn end_turn<M: Mesh>(&mut self, mesh: &mut M) -> bool {
        let leaves = if self.log.is_some() {
            self.write_log() && !self.awaits_round()
        } else {
            self.held.is_empty() || self.leave_log()
        };
        if !self.outgoing.is_empty() || !self.delayed.is_empty() {
            self.publish_logged(mesh);
        }
        leaves
    }

    /// While shards log what they do, what changes several of them takes locks: it is decided when all have logged it.
    pub(super) fn may_hop(&self, writes: bool) -> bool {
        self.log.is_none() || !writes
    }

    fn write_log(&mut self) -> bool {
        let log = self.log.as_mut().expect("the caller looked");
        let ctx = &mut self.shard.ctx;
        let group = ctx.journal.log.as_mut().expect("there is one with the log");
        if !group.is_ready() {
            // A cut may have written what could not be written before.
            let now_ns = ctx.now.mono_ns;
            if now_ns.saturating_sub(self.log_tried_ns) >= LOG_RETRY_NS && log.mend() {
                self.log_tried_ns = now_ns;
            }
            if !self.held.is_empty() && !self.server.aof.rounds.has_failed() {
                self.release_held();
            }
            return true;
        }
        let saves = ctx.config.no_appendfsync_on_rewrite && self.server.persistence.is_saving();
        let terms = Terms::of(&ctx.config, ctx.now, saves);
        let (was_failing, bytes) = (log.is_failing, group.bytes.len());
        if was_failing && ctx.now.mono_ns.saturating_sub(self.log_tried_ns) < LOG_RETRY_NS {
            return terms.policy != Policy::Always && self.hold_replies(bytes);
        }
        if log.commit(group, terms).is_ok() {
            if self.server.aof.rounds.has_failed() {
                self.hold_for_base();
            } else {
                self.release_held();
            }
            return true;
        }
        self.log_tried_ns = ctx.now.mono_ns;
        if terms.policy == Policy::Always {
            return false;
        }
        self.hold_replies(bytes)
    }

    /// The group grows while the disk does not take it: replies of the same turn may tell of that. Others may leave.
    fn hold_replies(&mut self, bytes: usize) -> bool {
        if bytes != std::mem::replace(&mut self.held_bytes, bytes) {
            self.hold_dirty();
        }
        true
    }

    fn hold_dirty(&mut self) {
        while let Some(conn) = self.sessions.next_dirty() {
            self.held.insert(conn);
        }
    }

    /// What could not be synced, or stands behind that, is safe when a rewrite has saved it.
    #[cold]
    fn hold_for_base(&mut self) {
        self.held_bytes = 0;
        self.hold_dirty();
    }

    /// The disk does not keep up: nobody is told anything, lest a power loss take more than was promised. The log itself,
    /// and what shards have for each other, goes on: the round that is waited for needs it.
    #[inline]
    fn awaits_round(&mut self) -> bool {
        let now_ns = self.shard.ctx.now.mono_ns;
        let awaits_round = self.server.aof.lags(now_ns) && self.syncs_in_rounds();
        if self.awaits_round && !awaits_round && self.server.aof.rounds.has_failed() {
            self.hold_for_base();
        }
        self.awaits_round = awaits_round;
        awaits_round
    }

    #[cold]
    fn syncs_in_rounds(&self) -> bool {
        let ctx = &self.shard.ctx;
        let saves = ctx.config.no_appendfsync_on_rewrite && self.server.persistence.is_saving();
        let waits = Terms::of(&ctx.config, ctx.now, saves).policy == Policy::EverySecond;
        if waits {
            self.server.aof.rounds.tell_delay();
        }
        waits
    }

    /// The log was switched off while it could not be written.
    #[cold]
    fn leave_log(&mut self) -> bool {
        self.release_held();
        true
    }

    fn release_held(&mut self) {
        self.held_bytes = 0;
        for conn in self.held.drain() {
            if self.sessions.get(conn).is_some() {
                self.sessions.mark_dirty(conn);
            }
        }
    }

    /// The client's replies tell of what could not be written yet.
    #[inline]
    pub fn is_held(&self, conn: ConnKey) -> bool {
        !self.held.is_empty() && self.held.contains(&conn)
    }

    pub(super) fn is_log_failing(&self) -> bool {
        self.shard.ctx.journal.is_unlogged()
    }

    /// A client has called WAITAOF: it may wait for what has been written until now to be on disk.
    pub(super) fn await_disk(&mut self, conn: ConnKey, words: &[Vec<u8>]) {
        let [_, local, replicas, _] = words else { return };
        if self.log.is_none() || local == b"0" {
            return;
        }
        let mut positions = self.server.aof.positions();
        // What this turn did is written at its end, and then the log goes further.
        positions[self.id] += u64::from(self.shard.ctx.journal.is_unlogged());
        self.acks.push(Ack { conn, positions, ends: replicas == b"0" });
    }

    /// Answers those whose writes are on disk by now.
    pub(super) fn run_acks(&mut self) {
        let aof = self.server.aof.clone();
        let (done, left) =
            std::mem::take(&mut self.acks).into_iter().partition(|ack: &Ack| aof.has_synced(&ack.positions));
        self.acks = left;
        for Ack { conn, ends, .. } in done {
            self.synced(conn, b"*2\r\n:1\r\n:0\r\n", ends);
        }
    }

    /// The shard has stopped: its log ends with the round that ends all logs.
    pub fn close_log(&mut self) {
        let Some(mut log) = self.log.take() else { return };
        let ctx = &mut self.shard.ctx;
        let group = ctx.journal.log.as_mut().expect("there is one with the log");
        let round = Some(log.aof().rounds.last());
        if let Err(error) = log.close(group, Terms { round, ..Terms::of(&ctx.config, ctx.now, false) }) {
            tracing::warn!("Error writing the end of the AOF file: {error}");
        }
        ctx.journal.log(false);
    }

    /// Numbers a job that may leave parts on several shards. One that is done with in one step is whole in one group.
    pub(super) fn number_transaction(&mut self, key: JobKey) {
        let Some(log) = self.log.as_mut().filter(|_| self.server.shards > 1) else { return };
        let job = &mut self.jobs[key.index as usize];
        let writes = match &job.work {
            Work::Keys(_) => job.spec.flags.has(WRITE),
            Work::Exec(_) | Work::Script(_) => true,
            // The lease's commands get a number with the first.
            Work::Watch(_) | Work::Admin(_) | Work::Lease(_) | Work::Called(..) => false,
        };
        if writes && !job.work.ends_with_opening() {
            job.logging.transaction = log.next_transaction().counter;
        }
    }

    pub(super) fn transaction_id(&self, coordinator: ShardId, counter: u64) -> TransactionId {
        TransactionId { start: self.server.aof.start(), coordinator, counter }
    }

    /// A step begins: what it does is in one group, and, if the transaction has a number, a part of it.
    #[inline]
    pub(super) fn begin_part(&mut self, number: u64) -> Option<PartBegin> {
        if self.log.is_some() { self.shard.ctx.journal.begin_step(number != 0) } else { None }
    }

    #[inline]
    pub(super) fn end_part(&mut self, part: Option<PartBegin>, coordinator: ShardId, number: u64) -> bool {
        let Some(part) = part else { return false };
        let id = (number != 0).then(|| self.transaction_id(coordinator, number));
        self.shard.ctx.journal.end_step(part, id)
    }

    /// All that the job does is logged: it has happened.
    pub(super) fn decide(&mut self, key: JobKey) {
        let logging = &mut self.jobs[key.index as usize].logging;
        let parts = std::mem::take(&mut logging.parts);
        if parts == 0 {
            return;
        }
        let id = TransactionId { start: self.server.aof.start(), coordinator: self.id, counter: logging.transaction };
        if let Some(group) = &mut self.shard.ctx.journal.log {
            group.decide(id, parts);
        }
    }

    /// A round that changes the whole keyspace is logged before it is sent, and stands between two generations: every
    /// shard is locked. The round comes back, unless it could not be logged; then it waits.
    pub(super) fn log_whole(&mut self, key: JobKey, round: Round, last: bool) -> Option<Round> {
        let Some(log) = self.log.as_mut().filter(|_| self.server.shards > 1) else { return Some(round) };
        let databases = self.shard.ctx.keyspace.databases();
        let Some((db, words)) = round.first().and_then(|(_, step)| whole_record(step, databases)) else {
            return Some(round);
        };
        let job = &mut self.jobs[key.index as usize];
        // One that is a command by itself needs no decision.
        let number = if matches!(job.work, Work::Keys(_)) { 0 } else { job.logging.transaction };
        let id = TransactionId { start: self.server.aof.start(), coordinator: self.id, counter: number };
        let ctx = &mut self.shard.ctx;
        let group = ctx.journal.log.as_mut().expect("there is one with the log");
        let terms = Terms::of(&ctx.config, ctx.now, false);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        match log.commit(group, terms).and_then(|()| log.write_whole(db, &words, (number > 0).then_some(id), terms)) {
            Ok(()) => {
                job.logging.parts += u64::from(number > 0);
                if self.server.aof.rounds.has_failed() {
                    self.held.insert(job.conn);
                }
                Some(round)
            }
            Err(_) => {
                self.unlogged.push((key, round, last));
                None
            }
        }
    }

    /// Tries once more to log rounds that wait for it.
    pub(super) fn retry_unlogged(&mut self) {
        for (key, round, last) in std::mem::take(&mut self.unlogged) {
            self.send_round(key, round, last);
        }
    }

    /// A step that changes the whole keyspace begins another generation here.
    #[inline]
    pub(super) fn switch_log(&mut self, step: &Step) {
        if self.log.is_some() && self.server.shards > 1 && is_whole(step) {
            self.begin_generation();
        }
    }

    #[cold]
    fn begin_generation(&mut self) {
        let Some(log) = &mut self.log else { return };
        let ctx = &mut self.shard.ctx;
        let group = ctx.journal.log.as_mut().expect("there is one with the log");
        if log.commit(group, Terms::of(&ctx.config, ctx.now, false)).is_err() {
            // The shard has been locked since its last turn was written: this can be no more than keys that expired since,
            // which expire when they are loaded, too.
            group.bytes.clear();
        }
        log.switch(group);
    }
}

/// Whether a step is a shard's part of a command that changes the whole keyspace.
pub(super) fn is_whole(step: &Step) -> bool {
    matches!(step, Step::Run { row, .. } if matches!(row.spec.shape, Shape::EveryShard(_)) && row.spec.flags.has(WRITE))
}

/// The record of such a step, and its database; none if the command will be refused.
fn whole_record(step: &Step, databases: usize) -> Option<(usize, Vec<Vec<u8>>)> {
    let Step::Run { row, db, words, .. } = step else { return None };
    let index = |word: &Vec<u8>| -> Option<usize> { std::str::from_utf8(word).ok()?.parse().ok() };
    let is_valid = match (row.spec.name, &words[1..]) {
        _ if !is_whole(step) => false,
        ("swapdb", [a, b]) => [a, b].into_iter().all(|word| index(word).is_some_and(|index| index < databases)),
        (_, []) => true,
        (_, [how]) => how.eq_ignore_ascii_case(b"ASYNC") || how.eq_ignore_ascii_case(b"SYNC"),
        _ => false,
    };
    is_valid.then(|| (*db, words.clone()))
}
