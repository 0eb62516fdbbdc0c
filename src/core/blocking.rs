//! Clients of this core that wait for data: how they began, and how each ends: served by a shard, out of time, told to
//! stop (CLIENT UNBLOCK), or gone. Whoever turns the client's ticket first decides; see `engine::block`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::jobs::{Start, Work};
use super::{Core, Fate};
use crate::base::ids::{CommandId, ConnKey, ShardId};
use crate::base::ticket::Ticket;
use crate::command::KeyRow;
use crate::engine::block::Waiter;
use crate::engine::gather::Job;
use crate::engine::mesh::Mesh;
use crate::engine::msg::Message;
use crate::engine::shard::OUT_OF_MEMORY;
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Close, Pause, Unblock, Waits};

/// Clients whose commands may wait, or do.
#[derive(Default)]
pub(super) struct Blocking {
    clients: HashMap<ConnKey, Client>,
    /// When who runs out of time, on the monotonic clock.
    deadlines: BTreeSet<(u64, u32, u32)>,
}

struct Client {
    ticket: Arc<Ticket>,
    row: &'static KeyRow,
    id: CommandId,
    db: usize,
    protocol: Protocol,
    words: Vec<Vec<u8>>,
    /// The shard of all keys, if it is one.
    home: Option<ShardId>,
    discard: bool,
    /// What it reads is tracked.
    tracks: bool,
    /// Since it waits: until when, where, and what it gets when it has waited in vain.
    waiting: Option<Waiting>,
}

struct Waiting {
    until_ns: Option<u64>,
    shards: Vec<ShardId>,
    reply: Vec<u8>,
}

impl Blocking {
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

impl Core {
    /// A command that waits if it finds nothing. It is a barrier.
    pub(super) fn start_blocking<M: Mesh>(
        &mut self,
        conn: ConnKey,
        row: &'static KeyRow,
        id: CommandId,
        words: &[&[u8]],
        home: Option<ShardId>,
        mesh: &mut M,
    ) -> Fate {
        let session = self.sessions.at(conn);
        if !session.pipeline.is_empty() {
            return Fate::NotYet(Pause::Barrier);
        }
        if self.lacks_memory(conn, &row.spec) {
            return self.reject(conn, Some(id), &OUT_OF_MEMORY);
        }
        let session = self.sessions.at(conn);
        let client = Client {
            ticket: Arc::default(),
            row,
            id,
            db: session.db,
            protocol: session.protocol,
            words: words.iter().map(|word| word.to_vec()).collect(),
            home,
            discard: false,
            tracks: session.tracks(),
            waiting: None,
        };
        let work = Work::Keys(Box::new(self.blocking_job(conn, &client)));
        self.blocking.clients.insert(conn, client);
        self.run_job(conn, &row.spec, id, work, Start::Locked, mesh)
    }

    fn blocking_job(&self, conn: ConnKey, client: &Client) -> Job {
        let Client { row, db, protocol, ref words, home, ref ticket, tracks, .. } = *client;
        let waiter = Waiter { shard: self.id, conn, ticket: ticket.clone(), tracks };
        Job::new(row, db, protocol, words.clone()).waiting(waiter, home)
    }

    /// The job of a client found nothing, and it waits at these shards.
    pub(super) fn wait(
        &mut self,
        conn: ConnKey,
        timeout_ms: Option<i64>,
        reply: Vec<u8>,
        shards: Vec<ShardId>,
        discard: bool,
    ) {
        let now_ns = self.shard.ctx.now.mono_ns;
        let Some(client) = self.blocking.clients.get_mut(&conn) else {
            // It went away in the meantime; its ticket is turned.
            return self.leave(conn, &shards);
        };
        client.discard = discard;
        let until_ns = match &client.waiting {
            // It was woken in vain: the time runs on.
            Some(waiting) => waiting.until_ns,
            None => timeout_ms.map(|timeout| now_ns.saturating_add((timeout as u64).saturating_mul(1_000_000))),
        };
        client.waiting = Some(Waiting { until_ns, shards, reply });
        let words = (client.row.spec.name == "waitaof").then(|| client.words.clone());
        if let Some(until_ns) = until_ns {
            self.blocking.deadlines.insert((until_ns, conn.index, conn.generation));
        }
        let ticket = client.ticket.clone();
        if let Some(words) = words {
            self.await_disk(conn, &words);
        }
        let session = self.sessions.at(conn);
        session.pause = Some(Pause::Blocked);
        session.waits = Some(Waits { ticket, is_timed: until_ns.is_some() });
        if session.ended {
            // Nobody is there any more.
            self.sessions.close(conn, Close::Now);
        }
        // The reply may be long in coming.
        self.release_pushes(conn);
    }

    /// A command that could have waited did not have to.
    pub(super) fn forget_blocking(&mut self, conn: ConnKey) {
        if let Some(client) = self.blocking.clients.remove(&conn) {
            self.forget_waiting(conn, client);
        }
    }

    fn forget_waiting(&mut self, conn: ConnKey, client: Client) {
        let Some(Waiting { until_ns, shards, .. }) = client.waiting else { return };
        if let Some(until_ns) = until_ns {
            self.blocking.deadlines.remove(&(until_ns, conn.index, conn.generation));
        }
        self.leave(conn, &shards);
    }

    fn leave(&mut self, conn: ConnKey, shards: &[ShardId]) {
        for &shard in shards {
            self.tell(shard, Message::Unblock(conn));
        }
    }

    /// A shard has served a client.
    pub(super) fn served(&mut self, conn: ConnKey, reply: &[u8]) {
        if self.blocking.clients.contains_key(&conn) {
            self.end_wait(conn, reply);
        }
    }

    /// What a client of WAITAOF waits for is on disk; it may wait for replicas, too.
    pub(super) fn synced(&mut self, conn: ConnKey, reply: &[u8], ends: bool) {
        let Some(client) = self.blocking.clients.get_mut(&conn) else { return };
        if !ends {
            if let Some(waiting) = &mut client.waiting {
                waiting.reply = reply.to_vec();
            }
        } else if client.ticket.decide() {
            self.end_wait(conn, reply);
        }
    }

    /// A client's wait is over: its ticket is turned, and this is its reply.
    fn end_wait(&mut self, conn: ConnKey, reply: &[u8]) {
        let Some(client) = self.blocking.clients.remove(&conn) else { return };
        if let Some(error) = reply.strip_prefix(b"-") {
            let code = crate::command::error::code_of(error);
            // Others have ended it before it could do anything.
            if error.starts_with(b"UNBLOCKED") {
                self.shard.commands.rejected(Some(client.id), code);
            } else {
                self.shard.commands.failed(client.id, code);
            }
        }
        // The time that it waited is nobody's work.
        self.shard.commands.ran(client.id, 0);
        if self.shard.ctx.timing.is_slow(0) {
            let words: Vec<&[u8]> = client.words.iter().map(Vec::as_slice).collect();
            self.was_slow(conn, &client.row.spec, 0, &words);
        }
        let discard = client.discard;
        self.forget_waiting(conn, client);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.pause = None;
        session.waits = None;
        self.resumed.push(conn);
        if !discard {
            self.sessions.reply_buffer(conn).extend_from_slice(reply);
        }
        self.release_pushes(conn);
    }

    /// There may be something for a client, which takes more than one shard to get: its command runs again.
    pub(super) fn wake(&mut self, conn: ConnKey) {
        let Some(client) = self.blocking.clients.get_mut(&conn) else { return };
        if client.waiting.is_none() || !client.ticket.decide() {
            return;
        }
        client.ticket = Arc::default();
        let discard = client.discard;
        if let Some(session) = self.sessions.get_mut(conn) {
            session.pause = Some(Pause::Job);
            session.waits = None;
        }
        let (spec, id) = (&client.row.spec, client.id);
        let job = self.blocking_job(conn, &self.blocking.clients[&conn]);
        self.begin_job(conn, spec, id, Work::Keys(Box::new(job)), Start::Locked, discard);
    }

    /// Ends the wait of those whose time is over. Called once a turn.
    pub(super) fn run_deadlines(&mut self) {
        let now_ns = self.shard.ctx.now.mono_ns;
        while let Some(&(until_ns, index, generation)) = self.blocking.deadlines.first() {
            if until_ns > now_ns {
                break;
            }
            self.blocking.deadlines.pop_first();
            let conn = ConnKey { index, generation };
            // One that has been woken runs again; should that be in vain, its deadline is looked at once more.
            let waits = self.sessions.get(conn).and_then(|session| session.waits.as_ref());
            if waits.is_some_and(|waits| waits.ticket.decide()) {
                self.give_up(conn, None);
            }
        }
    }

    /// Ends a client's wait, its ticket being turned: with the reply of who waited in vain, or an error.
    fn give_up(&mut self, conn: ConnKey, error: Option<&[u8]>) {
        let Some(client) = self.blocking.clients.get(&conn) else { return };
        let Some(waiting) = &client.waiting else { return };
        let mut reply = waiting.reply.clone();
        if let Some(error) = error {
            reply.clear();
            Reply::new(&mut reply, client.protocol).error(error);
        }
        self.end_wait(conn, &reply);
    }

    /// Ends the waits that CLIENT UNBLOCK has decided.
    pub(super) fn run_unblocks(&mut self) {
        for (conn, how) in self.sessions.take_unblocked() {
            match how {
                Unblock::Timeout => self.give_up(conn, None),
                Unblock::Error => self.give_up(conn, Some(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")),
            }
        }
    }

    /// The client is gone.
    pub(super) fn disconnect_blocked(&mut self, conn: ConnKey) {
        if let Some(client) = self.blocking.clients.remove(&conn) {
            client.ticket.decide();
            self.forget_waiting(conn, client);
        }
    }

    /// A client of that shard no longer waits here.
    pub(super) fn unblock(&mut self, shard: ShardId, conn: ConnKey) {
        self.shard.unblock(shard, conn);
        self.send_served();
        self.send_invalidations();
    }

    /// When the next client runs out of time, on the monotonic clock.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.blocking.deadlines.first().map(|(until_ns, ..)| *until_ns)
    }
}
