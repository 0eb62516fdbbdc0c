//! Transactions in one hop at their coordinator: cut into parts for the batches that leave, and answered when all parts
//! have come back (`engine::hop` says why that takes no lock).
//!
//! They are no barriers: a pipeline of them leaves in one message a shard. Only a command of the coordinator's own shard
//! waits for those before it in its connection, as it would run at once, and they in their turn. Scripts on one shard are
//! like them.

use slab::Slab;
use smallvec::SmallVec;

use super::requests::Batch;
use super::{Core, Fate};
use crate::base::ids::{CommandId, ConnKey, Sequence, ShardId};
use crate::command::KeyRow;
use crate::command::keys::keys_of;
use crate::command::spec::{Group, Shape, Spec, WRITE};
use crate::config::value::PipelineOrder;
use crate::dispatch::registry::Run;
use crate::engine::hop::{Hop, HopKey};
use crate::engine::msg::{RunBatch, RunItem};
use crate::resp::reply::Protocol;
use crate::session::{Pause, Session};

/// All of a coordinator's that are under way.
#[derive(Default)]
pub(super) struct Hops {
    running: Slab<Box<Hopping>>,
    /// For the next ones.
    #[allow(clippy::vec_box)] // The box itself is used again.
    idle: Vec<Box<Hopping>>,
}

#[derive(Default)]
struct Hopping {
    hop: Hop,
    client: Option<Client>,
    /// The words of a command, one after the other, for the slow log.
    bytes: Vec<u8>,
    lengths: Vec<u32>,
}

/// Whose it is, and what.
#[derive(Clone, Copy)]
struct Client {
    conn: ConnKey,
    sequence: Sequence,
    protocol: Protocol,
    spec: &'static Spec,
    id: CommandId,
    /// By the shard's clock.
    started: u64,
}

impl Hops {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Half of what lies idle is given up.
    pub(super) fn trim(&mut self) {
        self.idle.truncate(self.idle.len() / 2);
        if self.running.is_empty() {
            self.running.shrink_to_fit();
        }
    }
}

impl Core {
    /// A command on keys of several shards, if it can go in one hop.
    #[inline(never)] // Out of the way of those on one shard.
    pub(super) fn hop_by_key(
        &mut self,
        conn: ConnKey,
        row: &'static KeyRow,
        id: CommandId,
        first: usize,
        shared: &[(usize, bytes::Bytes)],
        batch: &mut Batch<'_>,
    ) -> Option<Fate> {
        let Shape::PerKey(merge) = row.spec.shape else { return None };
        if !self.may_hop(row.spec.flags.has(WRITE)) {
            return None;
        }
        let keys = keys_of(&row.spec, &batch.words[first..]);
        let from = keys[0].index as usize;
        let count = batch.words.len() - first;
        let width = keys.get(1).map_or(count - from, |key| key.index as usize - from);
        // One that is refused for its number of words has to be seen whole; and no part may be refused.
        if !(count - from).is_multiple_of(width) || self.lacks_memory(conn, &row.spec) {
            return None;
        }
        if let Some(fate) = self.may_not_leave(conn) {
            batch.words.truncate(first);
            return Some(fate);
        }
        let mut hopping = self.hops.idle.pop().unwrap_or_default();
        if !hopping.hop.begin_command(merge) {
            return None;
        }
        let words = &batch.words[first..];
        if self.shard.ctx.timing.notes_slow() {
            hopping.lengths.extend(words.iter().map(|word| word.len() as u32));
            words.iter().for_each(|word| hopping.bytes.extend_from_slice(word));
        }
        let key = HopKey(self.hops.running.vacant_key() as u32);
        let session = self.sessions.at(conn);
        let item = part_of(session, row, id, key);
        for of_key in words[from..].chunks(width).enumerate() {
            let (index, words_of_key) = (from + of_key.0 * width, of_key.1);
            let shard = self.slots.shard_of(words_of_key[0]);
            let part = departing(&mut self.departing, &mut self.idle_batches, shard);
            let is_first = part.items.last().is_none_or(|item| item.hop != Some(key));
            if is_first {
                part.push(item.clone(), &words[..from], &[]);
            }
            part.extend_last(words_of_key, shared, index);
            hopping.hop.place(shard, is_first);
        }
        batch.words.truncate(first);
        Some(self.depart_in_one_hop(conn, &row.spec, id, hopping, batch))
    }

    /// An EXEC, if all of its commands can go in one hop.
    pub(super) fn hop_exec(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        batch: &mut Batch<'_>,
    ) -> Option<Fate> {
        let session = self.sessions.at(conn);
        let is_first = session.pipeline.is_empty();
        let transaction = session.transaction.as_mut()?;
        if self.server.shards == 1 || self.log.is_some() || !transaction.watched().is_empty() {
            return None;
        }
        let queue = transaction.take_queue()?;
        let mut places: SmallVec<[(&'static KeyRow, CommandId, ShardId); 8]> = SmallVec::new();
        let words: SmallVec<[&[u8]; 32]> = queue.words().collect();
        for words in queue.commands(&words) {
            let command =
                self.registry.find_after(&mut self.recent, words[0]).expect("it was found when it was queued");
            let called = self.registry.called(command, words);
            let (Run::Key(row), Some((called, id))) = (command.run, called) else { break };
            // It may pause, and what follows it has to wait.
            if called.group == Group::Scripting {
                break;
            }
            let Some(shard) = self.place_of(command, called, words) else { break };
            places.push((row, id, shard));
        }
        let goes = places.len() == queue.len() && !places.is_empty();
        let is_at_home = is_first && places.iter().all(|(.., shard)| *shard == self.id);
        let waits = if goes && !is_at_home { self.may_not_leave(conn) } else { None };
        let session = self.sessions.at(conn);
        if !goes || is_at_home || waits.is_some() {
            drop(words);
            session.transaction.get_or_insert_default().put_queue(queue);
            return waits;
        }
        let mut hopping = self.hops.idle.pop().unwrap_or_default();
        hopping.hop.begin_exec();
        let key = HopKey(self.hops.running.vacant_key() as u32);
        for (words, (row, id, shard)) in queue.commands(&words).zip(places) {
            let part = departing(&mut self.departing, &mut self.idle_batches, shard);
            let head = part.items.iter().rposition(|item| item.hop != Some(key)).map_or(0, |other| other + 1);
            let is_first = head == part.items.len();
            let item = RunItem { is_queued: true, ..part_of(session, row, id, key) };
            part.push(item, words, &[]);
            part.items[head].followers = (part.items.len() - 1 - head) as u32;
            hopping.hop.place(shard, is_first);
        }
        drop(words);
        self.sessions.end_exec(conn, queue);
        Some(self.depart_in_one_hop(conn, spec, id, hopping, batch))
    }

    /// Commands may not leave for other shards now: what the connection waits for.
    fn may_not_leave(&mut self, conn: ConnKey) -> Option<Fate> {
        if !self.room {
            return Some(Fate::NotYet(Pause::Mailbox));
        }
        let pipeline = &self.sessions.at(conn).pipeline;
        (pipeline.is_full() || pipeline.has_leased()).then_some(Fate::NotYet(Pause::Barrier))
    }

    fn depart_in_one_hop(
        &mut self,
        conn: ConnKey,
        spec: &'static Spec,
        id: CommandId,
        mut hopping: Box<Hopping>,
        batch: &mut Batch<'_>,
    ) -> Fate {
        let started = self.shard.ticks();
        let session = self.sessions.at(conn);
        let discard = session.start_command(id);
        let sequence = session.pipeline.push_hop(discard);
        let protocol = session.protocol;
        hopping.client = Some(Client { conn, sequence, protocol, spec, id, started });
        self.hops.running.insert(hopping);
        batch.departing += 1;
        match self.shard.ctx.config.pipeline_order {
            PipelineOrder::Strict => Fate::TakenThenPause(Pause::Barrier),
            PipelineOrder::Causal => Fate::Taken,
        }
    }

    /// A shard has run its part.
    pub(super) fn part_done<'r>(&mut self, from: ShardId, key: HopKey, replies: impl Iterator<Item = &'r [u8]>) {
        let index = key.0 as usize;
        if !self.hops.running[index].hop.take(from, replies) {
            return;
        }
        let mut hopping = self.hops.running.remove(index);
        let client = hopping.client.take().expect("it has left");
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        hopping.hop.write(client.protocol, &mut reply);
        self.shard.locks.stats.single_hop += 1;
        self.count_hop(&client, &hopping);
        self.sessions.complete(client.conn, client.sequence, &reply);
        self.resume_behind_barrier(client.conn);
        self.scratch = reply;
        hopping.hop.trim();
        hopping.lengths.clear();
        hopping.bytes.clear();
        hopping.bytes.shrink_to(16 * 1024);
        self.hops.idle.push(hopping);
    }

    /// It took as long as its client waited for it, other shards' work included.
    fn count_hop(&mut self, client: &Client, hopping: &Hopping) {
        let elapsed = self.shard.ticks() - client.started;
        self.shard.commands.ran(client.id, elapsed);
        if !self.shard.ctx.timing.is_slow(elapsed) {
            return;
        }
        let mut rest = hopping.bytes.as_slice();
        let mut words = Vec::with_capacity(hopping.lengths.len().max(1));
        for &length in &hopping.lengths {
            let (word, behind) = rest.split_at(length as usize);
            words.push(word);
            rest = behind;
        }
        if words.is_empty() {
            words.push(client.spec.name.as_bytes());
        }
        self.was_slow(client.conn, client.spec, elapsed, &words);
    }
}

/// The batch that collects what is for a shard.
#[allow(clippy::vec_box)] // The box itself travels.
pub(super) fn departing<'b>(
    departing: &'b mut [Option<Box<RunBatch>>],
    idle: &mut Vec<Box<RunBatch>>,
    shard: ShardId,
) -> &'b mut RunBatch {
    departing[shard].get_or_insert_with(|| idle.pop().unwrap_or_default())
}

/// A command that is a part of a transaction in one hop, or of which this is a part.
fn part_of(session: &Session, row: &'static KeyRow, id: CommandId, hop: HopKey) -> RunItem {
    RunItem { is_linked: true, hop: Some(hop), ..item_of(session, row, id) }
}

/// A command of this connection, before it has its place.
pub(super) fn item_of(session: &Session, row: &'static KeyRow, id: CommandId) -> RunItem {
    RunItem {
        session: session.key,
        sequence: 0,
        row,
        id,
        db: session.db as u16,
        arguments: 0,
        protocol: session.protocol,
        no_touch: session.no_touch,
        tracks: session.tracks(),
        deferred: false,
        is_linked: false,
        leased: false,
        hop: None,
        is_queued: false,
        followers: 0,
    }
}
