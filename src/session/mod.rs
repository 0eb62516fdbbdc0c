//! Level 6: one client: its protocol state, what it sent and was not run yet, the order of its replies, its output.
//!
//! A session is plain state that `core` and the admin commands work on; it knows neither sockets nor shards. It shares
//! slot and generation with the driver's connection.

pub mod memory;
pub mod output;
pub mod pipeline;
pub mod tracking;
pub mod transaction;

use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use crate::base::ids::{CommandId, ConnKey};
use crate::base::limits::TRANSACTIONS_KEPT_MAX;
use crate::base::metrics::Traffic;
use crate::base::ticket::Ticket;
use crate::resp::parse::Partial;
use crate::resp::reply::Protocol;
use memory::Accounts;
use output::{Output, OutputPool};
use pipeline::Pipeline;
use tracking::Tracking;
use transaction::{Queue, Transaction};

/// Where a client's socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp { remote: SocketAddr, local: SocketAddr },
    Unix,
}

impl Peer {
    /// As logs and CLIENT LIST show it; a unix socket's path stands for its clients.
    pub fn address(&self, unix_socket: &str) -> String {
        match self {
            Peer::Tcp { remote, .. } => remote.to_string(),
            Peer::Unix => format!("{unix_socket}:0"),
        }
    }

    /// Over the loopback interface or a unix socket?
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Unix => true,
            Peer::Tcp { remote, .. } => remote.ip().to_canonical().is_loopback(),
        }
    }
}

/// Why a session takes no further commands now. Its input stays as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// A command that is a barrier waits for the replies of those before it.
    Barrier,
    /// A job that spans shards runs; its reply completes it.
    Job,
    /// It waits for data (BLPOP).
    Blocked,
    /// A mailbox is full: this connection's commands wait here, in order.
    Mailbox,
    /// CLIENT PAUSE holds its next command.
    Client,
    /// Other shards make room first, and tell it of the keys that go.
    Room,
    /// It has had its share of this turn.
    Turn,
}

/// A client that waits for data.
#[derive(Debug)]
pub struct Waits {
    pub ticket: Arc<Ticket>,
    /// Not for ever.
    pub is_timed: bool,
}

/// What CLIENT UNBLOCK tells a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    Timeout,
    Error,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// When all replies so far have left (QUIT, a protocol error).
    AfterReplies,
    /// At once: killed, over its limits, or gone.
    Now,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command's reply is dropped, then replies are on.
    SkipNext,
    /// That next command runs.
    Skip,
}

#[derive(Debug)]
pub struct Session {
    pub key: ConnKey,
    /// CLIENT ID: unique for the life of the process.
    pub id: u64,
    pub descriptor: i32,
    pub peer: Peer,
    pub created_ms: i64,
    pub last_active_ms: i64,

    pub protocol: Protocol,
    pub db: usize,
    authenticated: bool,
    /// It has been: it is somebody who knew the password.
    was_authenticated: bool,
    /// Commands run as they come: it is logged in, and neither in MULTI nor a subscriber
    /// that speaks RESP2.
    direct: bool,
    pub transaction: Option<Box<Transaction>>,
    /// It listens to some channel or pattern.
    subscribed: bool,
    pub reply_mode: ReplyMode,
    pub no_evict: bool,
    pub no_touch: bool,
    tracking: Option<Box<Tracking>>,
    /// What the next command reads is tracked.
    tracks: bool,
    /// MONITOR; listed in `Sessions::monitors`.
    pub monitors: bool,
    /// CLIENT CAPA redirect.
    pub redirect_capable: bool,
    pub names: Option<Box<Names>>,

    /// A command that is still arriving.
    pub partial: Option<Box<Partial>>,
    /// Bytes behind a pause.
    pub input: Vec<u8>,
    pub pause: Option<Pause>,
    /// While it waits for data.
    pub waits: Option<Waits>,
    pub close: Option<Close>,
    /// The client has finished sending.
    pub ended: bool,

    pub pipeline: Pipeline,
    pub output: Output,
    /// Pushes that came while a job ran for it: they may not overtake its reply.
    #[allow(clippy::box_collection)] // Hardly any connection has some.
    pub held_pushes: Option<Box<Vec<u8>>>,
    /// Of the names that it has subscribed to.
    subscription_bytes: usize,
    /// Its part of the shard's sum (`memory`).
    counted_bytes: usize,
    /// Of these, what it gives back, as it was evicted.
    leaving_bytes: usize,
    /// Listed in `Sessions::dirty`.
    dirty: bool,
    /// The last wave of inputs it had a part in (`core`).
    pub wave: u32,
    /// Since when the output is over its soft limit.
    pub over_soft_limit_since_ms: Option<i64>,

    pub last_command: Option<CommandId>,
    pub commands: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// What a client said of itself; most say nothing.
#[derive(Debug, Default)]
pub struct Names {
    pub name: Vec<u8>,
    pub library_name: Vec<u8>,
    pub library_version: Vec<u8>,
}

impl Names {
    fn bytes(&self) -> usize {
        size_of::<Names>() + self.name.capacity() + self.library_name.capacity() + self.library_version.capacity()
    }
}

impl Session {
    fn new(key: ConnKey, id: u64, descriptor: i32, peer: Peer, now_ms: i64, authenticated: bool) -> Session {
        Session {
            key,
            id,
            descriptor,
            peer,
            created_ms: now_ms,
            last_active_ms: now_ms,
            protocol: Protocol::default(),
            db: 0,
            authenticated,
            was_authenticated: authenticated,
            direct: authenticated,
            transaction: None,
            subscribed: false,
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            tracking: None,
            tracks: false,
            monitors: false,
            redirect_capable: false,
            names: None,
            partial: None,
            input: Vec::new(),
            pause: None,
            waits: None,
            close: None,
            ended: false,
            pipeline: Pipeline::default(),
            output: Output::default(),
            held_pushes: None,
            subscription_bytes: 0,
            counted_bytes: 0,
            leaving_bytes: 0,
            dirty: false,
            wave: 0,
            over_soft_limit_since_ms: None,
            last_command: None,
            commands: 0,
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// It has never been authenticated.
    pub fn is_unknown(&self) -> bool {
        !self.was_authenticated
    }

    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
        self.was_authenticated |= authenticated;
        self.update_direct();
    }

    /// Commands run as they come; else something else may be to be done with them, or to be refused.
    #[inline]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    fn update_direct(&mut self) {
        self.direct = self.authenticated && self.queue().is_none() && !self.is_restricted();
    }

    /// What was queued since MULTI, if it is in one.
    pub fn queue(&self) -> Option<&Queue> {
        self.transaction.as_ref()?.queue()
    }

    pub fn queue_mut(&mut self) -> Option<&mut Queue> {
        self.transaction.as_mut()?.queue_mut()
    }

    /// MULTI.
    pub fn begin_transaction(&mut self) {
        self.transaction.get_or_insert_default().begin();
        self.update_direct();
    }

    /// Ends MULTI and forgets watched keys: both, as they were.
    pub fn end_transaction(&mut self) -> (Option<Queue>, Vec<(usize, Vec<u8>)>) {
        let Some(mut transaction) = self.transaction.take() else { return (None, Vec::new()) };
        self.update_direct();
        (transaction.take_queue(), transaction.take_watched())
    }

    /// CLIENT TRACKING, while it is on.
    pub fn tracking(&self) -> Option<&Tracking> {
        self.tracking.as_deref()
    }

    #[inline]
    pub fn tracks(&self) -> bool {
        self.tracks
    }

    /// Whether CLIENT CACHING waits for the command that it is about.
    pub fn is_caching(&self) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.caching)
    }

    /// Lets `change` modify what is tracked.
    pub fn change_tracking(&mut self, change: impl FnOnce(&mut Tracking)) {
        if let Some(tracking) = &mut self.tracking {
            change(tracking);
            self.tracks = tracking.tracks_next();
        }
    }

    /// Turns tracking on, with this instead of what was on before, or off; what was on.
    pub fn set_tracking(&mut self, tracking: Option<Tracking>) -> Option<Box<Tracking>> {
        self.tracks = tracking.as_ref().is_some_and(Tracking::tracks_next);
        std::mem::replace(&mut self.tracking, tracking.map(Box::new))
    }

    #[inline]
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// A subscriber that speaks RESP2 may call little else.
    pub fn is_restricted(&self) -> bool {
        self.subscribed && self.protocol == Protocol::Resp2
    }

    pub fn set_subscribed(&mut self, subscribed: bool) {
        self.subscribed = subscribed;
        if !subscribed {
            self.subscription_bytes = 0;
        }
        self.update_direct();
    }

    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.update_direct();
    }

    pub fn names_mut(&mut self) -> &mut Names {
        self.names.get_or_insert_default()
    }

    /// Bytes of requests that are held: what client-query-buffer-limit counts.
    pub fn query_bytes(&self) -> usize {
        self.input.capacity() + self.partial.as_ref().map_or(0, |partial| partial.buffered_bytes())
    }

    /// Nothing that it sent is left to be run or answered.
    pub fn is_idle(&self) -> bool {
        let waits = self.partial.as_ref().is_some_and(|partial| partial.is_complete());
        self.pause.is_none() && self.input.is_empty() && self.pipeline.is_empty() && !waits
    }

    /// All replies so far are with the kernel.
    pub fn is_answered(&self) -> bool {
        self.pipeline.is_empty() && self.output.is_drained()
    }

    /// Counts a command; whether its reply is to be dropped.
    #[inline]
    pub fn start_command(&mut self, id: CommandId) -> bool {
        self.commands += 1;
        self.last_command = Some(id);
        self.reply_mode != ReplyMode::On && self.take_reply_mode()
    }

    /// Names a command that may change what becomes of replies, before it runs; `leave_command` follows.
    pub fn enter_command(&mut self, id: CommandId) {
        self.last_command = Some(id);
        if self.reply_mode == ReplyMode::SkipNext {
            self.reply_mode = ReplyMode::Skip;
        }
    }

    /// Counts the command that was entered; whether its reply is to be dropped.
    pub fn leave_command(&mut self) -> bool {
        self.commands += 1;
        // CLIENT REPLY SKIP is for the command behind it.
        self.reply_mode == ReplyMode::SkipNext || self.take_reply_mode()
    }

    /// Whether the reply of the next command is to be dropped (CLIENT REPLY).
    pub fn take_reply_mode(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext | ReplyMode::Skip => {
                self.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// No further command of it is run.
    pub fn is_closing(&self) -> bool {
        self.close.is_some()
    }

    /// It waits for data, or for leave to begin a command: what INFO calls a blocked client.
    pub fn is_blocked(&self) -> bool {
        matches!(self.pause, Some(Pause::Blocked | Pause::Client))
    }

    /// Nor is one run that was taken already: nobody would read the reply.
    #[inline]
    pub fn is_cut_off(&self) -> bool {
        self.close == Some(Close::Now)
    }
}

/// Room for so many sessions is kept whether they come or not.
const SLOTS_KEPT_MAX: usize = 64;

/// All sessions of a shard.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Slab<Session>,
    next_generation: u32,
    pub pool: OutputPool,
    pub traffic: Traffic,
    /// Transactions that have ended, for the next ones.
    #[allow(clippy::vec_box)] // The box itself is used again.
    transactions: Vec<Box<Transaction>>,
    /// Clients that see every command.
    pub monitors: Vec<ConnKey>,
    /// Clients whose CLIENT CACHING waits for the command that it is about.
    pub caching: Vec<ConnKey>,
    /// Sessions with something to send or to end, each once.
    dirty: Vec<u32>,
    /// Clients whose wait CLIENT UNBLOCK has ended.
    unblocked: Vec<(ConnKey, Unblock)>,
    accounts: Accounts,
    leaving_bytes: usize,
}

impl Sessions {
    pub fn insert(&mut self, id: u64, descriptor: i32, peer: Peer, now_ms: i64, authenticated: bool) -> ConnKey {
        self.next_generation = (self.next_generation + 1) & 0xff_ffff;
        let slot = self.slots.vacant_entry();
        let key = ConnKey { index: slot.key() as u32, generation: self.next_generation };
        slot.insert(Session::new(key, id, descriptor, peer, now_ms, authenticated));
        key
    }

    pub fn remove(&mut self, key: ConnKey) {
        if self.get(key).is_some() {
            self.count(key, 0);
            let mut session = self.slots.remove(key.index as usize);
            self.leaving_bytes -= session.leaving_bytes;
            session.output.clear(&mut self.pool);
            self.monitors.retain(|&monitor| monitor != key);
            self.caching.retain(|&client| client != key);
        }
    }

    /// Makes a client a monitor, or no longer.
    pub fn set_monitoring(&mut self, key: ConnKey, monitors: bool) {
        self.at(key).monitors = monitors;
        self.monitors.retain(|&monitor| monitor != key);
        if monitors {
            self.monitors.push(key);
        }
    }

    /// Gives back what a crowd that has left took. Indexes of those who stay do not change.
    pub fn trim(&mut self) {
        self.pool.trim();
        if self.slots.capacity() > SLOTS_KEPT_MAX && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to_fit();
        }
    }

    /// Every index is below this.
    pub fn index_end(&self) -> usize {
        self.slots.capacity()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().map(|(_, session)| session)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().map(|(_, session)| session)
    }

    /// The session, unless the slot has another user by now.
    #[inline]
    pub fn get(&self, key: ConnKey) -> Option<&Session> {
        self.slots.get(key.index as usize).filter(|session| session.key == key)
    }

    #[inline]
    pub fn get_mut(&mut self, key: ConnKey) -> Option<&mut Session> {
        self.slots.get_mut(key.index as usize).filter(|session| session.key == key)
    }

    /// A session that the caller knows to live. Panics otherwise.
    #[inline]
    pub fn at(&mut self, key: ConnKey) -> &mut Session {
        let session = &mut self.slots[key.index as usize];
        assert!(session.key == key, "the session is gone");
        session
    }

    /// Where the next reply of a session goes, in the order of its commands.
    pub fn reply_buffer(&mut self, key: ConnKey) -> &mut Vec<u8> {
        if self.at(key).pipeline.is_empty() { self.direct_buffer(key) } else { self.at(key).pipeline.ready_buffer() }
    }

    /// The output itself: for the reply of a command that no earlier one's reply is missing for.
    #[inline]
    pub fn direct_buffer(&mut self, key: ConnKey) -> &mut Vec<u8> {
        let session = &mut self.slots[key.index as usize];
        debug_assert_eq!(session.key, key);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(key.index);
        }
        session.output.writer(&mut self.pool)
    }

    /// Where a push goes, and in which form: behind the replies to all that the client has sent and this shard has taken.
    /// `None` if nobody will read it.
    #[inline]
    pub fn push_buffer(&mut self, key: ConnKey) -> Option<(&mut Vec<u8>, Protocol)> {
        let session = self.slots.get_mut(key.index as usize).filter(|session| session.key == key)?;
        let protocol = session.protocol;
        if session.is_cut_off() {
            return None;
        }
        if session.pause == Some(Pause::Job) {
            return Some((&mut **session.held_pushes.get_or_insert_default(), protocol));
        }
        if !session.pipeline.is_empty() {
            return Some((session.pipeline.ready_buffer(), protocol));
        }
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(key.index);
        }
        Some((session.output.writer(&mut self.pool), protocol))
    }

    /// For a client that is about to begin one: memory of a transaction that has ended.
    pub fn lend_transaction(&mut self, key: ConnKey) {
        let session = &mut self.slots[key.index as usize];
        if session.transaction.is_none() {
            session.transaction = self.transactions.pop();
        }
    }

    /// Ends MULTI for an EXEC that took the queue, of a client that watches nothing.
    pub fn end_exec(&mut self, key: ConnKey, queue: Queue) {
        let session = &mut self.slots[key.index as usize];
        let transaction = session.transaction.take();
        session.update_direct();
        if let Some(mut transaction) = transaction.filter(|_| self.transactions.len() < TRANSACTIONS_KEPT_MAX) {
            transaction.reuse(queue);
            self.transactions.push(transaction);
        }
    }

    /// The reply of a command that was answered elsewhere. Nobody waits for it any more if the client is gone.
    pub fn complete(&mut self, key: ConnKey, sequence: crate::base::ids::Sequence, reply: &[u8]) {
        if self.get(key).is_none_or(Session::is_cut_off) {
            return;
        }
        self.mark_dirty(key);
        let session = &mut self.slots[key.index as usize];
        session.pipeline.complete(sequence, reply, session.output.writer(&mut self.pool));
    }

    pub fn mark_dirty(&mut self, key: ConnKey) {
        let session = &mut self.slots[key.index as usize];
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(key.index);
        }
    }

    /// Ends a client's wait for data: whether it waited, and nobody else has ended that.
    pub fn unblock(&mut self, key: ConnKey, how: Unblock) -> bool {
        let decided =
            self.get(key).is_some_and(|session| session.waits.as_ref().is_some_and(|waits| waits.ticket.decide()));
        if decided {
            self.unblocked.push((key, how));
        }
        decided
    }

    /// What `unblock` has left to be done.
    pub fn take_unblocked(&mut self) -> Vec<(ConnKey, Unblock)> {
        std::mem::take(&mut self.unblocked)
    }

    /// Asks for the end of a connection.
    pub fn close(&mut self, key: ConnKey, how: Close) {
        if let Some(session) = self.get_mut(key) {
            if session.close != Some(Close::Now) {
                session.close = Some(how);
            }
            if how == Close::Now {
                self.count(key, 0);
            }
            self.mark_dirty(key);
        }
    }

    /// The next session with something to send or to end.
    pub fn next_dirty(&mut self) -> Option<ConnKey> {
        loop {
            let index = self.dirty.pop()?;
            if let Some(session) = self.slots.get_mut(index as usize).filter(|session| session.dirty) {
                session.dirty = false;
                return Some(session.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs commands that set the mode, or leave it; tells of each whether its reply is dropped.
    fn dropped(modes: &[Option<ReplyMode>]) -> Vec<bool> {
        let mut sessions = Sessions::default();
        let key = sessions.insert(1, 0, Peer::Unix, 0, true);
        let session = sessions.at(key);
        let run = |mode: &Option<ReplyMode>| {
            session.enter_command(0);
            session.reply_mode = mode.unwrap_or(session.reply_mode);
            session.leave_command()
        };
        modes.iter().map(run).collect()
    }

    #[test]
    fn a_crowd_that_has_left_takes_no_memory() {
        let mut sessions = Sessions::default();
        let insert = |sessions: &mut Sessions| sessions.insert(1, 3, Peer::Unix, 0, true);
        let first = insert(&mut sessions);
        let crowd: Vec<ConnKey> = (0..1000).map(|_| insert(&mut sessions)).collect();
        sessions.trim();
        assert!(sessions.index_end() > 1000, "they are still there");
        crowd.into_iter().for_each(|key| sessions.remove(key));
        sessions.trim();
        assert!(sessions.index_end() <= SLOTS_KEPT_MAX);
        assert_eq!(sessions.at(first).key, first);
        assert_eq!(insert(&mut sessions).index, 1, "freed places are used again");
    }

    #[test]
    fn client_reply_says_whose_reply_is_dropped() {
        use ReplyMode::{Off, On, SkipNext};
        assert_eq!(dropped(&[None, Some(SkipNext), None, None]), [false, true, true, false]);
        assert_eq!(dropped(&[Some(SkipNext), Some(On), None]), [true, false, false]);
        assert_eq!(dropped(&[Some(SkipNext), Some(SkipNext), None, None]), [true, true, true, false]);
        assert_eq!(dropped(&[Some(Off), None, Some(On), None]), [true, true, false, false]);
    }
}
