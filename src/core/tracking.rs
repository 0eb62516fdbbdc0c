//! Carries what clients with copies of keys have to be told: from the shard of the key to that of the client, and to
//! where the client has it redirected (`engine::tracking` has the rules).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Core;
use crate::admin::tracking::CHANNEL;
use crate::base::ids::{ConnKey, ShardId};
use crate::base::limits::TRACKED_KEYS_EVICTED_MAX;
use crate::engine::msg::Message;
use crate::engine::tracking::{Invalidation, Kind, Post};
use crate::resp::reply::{Protocol, Reply};
use crate::session::Sessions;
use crate::sys::memory;

/// Keys that a client is to forget: these, or all.
type Keys = Option<Arc<[Vec<u8>]>>;

impl Core {
    /// Sends on what commands, time and limits have left to be told.
    #[inline]
    pub(super) fn send_invalidations(&mut self) {
        if self.shard.tracking.is_on() || self.tracked_keys > 0 {
            self.limit_tracked_keys();
            self.send_tracking_news();
        }
    }

    #[cold]
    fn send_tracking_news(&mut self) {
        if !self.shard.tracking.has_news() {
            return;
        }
        for conn in self.shard.tracking.take_retracted() {
            self.post_to_others(conn);
        }
        let mut by_shard: BTreeMap<ShardId, Vec<Invalidation>> = BTreeMap::new();
        for (shard, invalidation) in self.shard.tracking.take_outbox() {
            by_shard.entry(shard).or_default().push(invalidation);
        }
        // To itself too: replies of jobs may be on the same way, and come first.
        for (shard, told) in by_shard {
            self.tell(shard, Message::Tracking(Box::new(Post::Invalidate(told))));
        }
        if self.shard.tracking.take_flushed() {
            self.tell(self.id, Message::Tracking(Box::new(Post::Flushed)));
        }
        self.shard.observe();
    }

    /// The other shards need not tell this client any more.
    fn post_to_others(&mut self, conn: ConnKey) {
        let others = (0..self.server.shards).filter(|&shard| shard != self.id);
        self.outgoing.extend(others.map(|shard| (shard, Message::Tracking(Box::new(Post::Forget(conn))))));
    }

    pub(super) fn tracking_message(&mut self, from: ShardId, post: Post) {
        match post {
            Post::Invalidate(told) => {
                let before = memory::used_by_thread();
                told.into_iter().for_each(|invalidation| self.invalidate(invalidation));
                self.shard.memory.add_leaving(memory::used_by_thread() - before);
            }
            Post::Flushed => {
                let tracking = self.sessions.iter().filter(|session| session.tracking().is_some());
                for conn in tracking.map(|session| session.key).collect::<Vec<_>>() {
                    self.push_invalidation(conn, None);
                }
            }
            Post::Redirected { to, of, keys } => {
                if !push(&mut self.sessions, to, true, &keys) {
                    self.outgoing.push((from, Message::Tracking(Box::new(Post::RedirectionBroken(of)))));
                }
            }
            Post::RedirectionBroken(conn) => self.redirection_broken(conn),
            Post::Forget(conn) => {
                self.shard.tracking.forget((from, conn));
                self.shard.observe();
            }
        }
    }

    /// A client of this shard's is to forget keys, if it still wants to be told.
    fn invalidate(&mut self, invalidation: Invalidation) {
        let Invalidation { conn, keys, kind } = invalidation;
        let Some(tracking) = self.sessions.get(conn).and_then(|session| session.tracking()) else { return };
        let is_wanted = match kind {
            Kind::Read => tracking.broadcast.is_none(),
            Kind::ReadAndChanged => tracking.broadcast.is_none() && !tracking.noloop,
            Kind::Broadcast => tracking.broadcast.is_some(),
        };
        if is_wanted {
            self.push_invalidation(conn, Some(keys));
        }
    }

    /// Tells a client of this shard's, or the one that it has named instead.
    fn push_invalidation(&mut self, conn: ConnKey, keys: Keys) {
        let Some(tracking) = self.sessions.get(conn).and_then(|session| session.tracking()) else { return };
        match tracking.redirect {
            None => {
                push(&mut self.sessions, conn, false, &keys);
            }
            Some(redirect) if redirect.shard == self.id => {
                if !push(&mut self.sessions, redirect.conn, true, &keys) {
                    self.redirection_broken(conn);
                }
            }
            Some(redirect) => {
                let post = Post::Redirected { to: redirect.conn, of: conn, keys };
                self.outgoing.push((redirect.shard, Message::Tracking(Box::new(post))));
            }
        }
    }

    /// The client to which this one's messages are redirected has gone.
    fn redirection_broken(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(redirect) = session.tracking().and_then(|tracking| tracking.redirect) else { return };
        session.change_tracking(|tracking| tracking.is_broken = true);
        if let Some((output, protocol @ Protocol::Resp3)) = self.sessions.push_buffer(conn) {
            let mut reply = Reply::new(output, protocol);
            reply.push(2);
            reply.bulk(b"tracking-redir-broken");
            reply.integer(redirect.id as i64);
        }
    }

    /// The connection is gone.
    pub(super) fn end_tracking(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let Some(tracking) = session.set_tracking(None) {
            self.shard.tracking.clients -= 1;
            if tracking.broadcast.is_some() {
                self.shard.tracking.retract((self.id, conn));
            }
            self.shard.observe();
            self.send_tracking_news();
        }
    }

    /// Holds the tables of all shards to `tracking-table-max-keys` together. A shard that finds them too large gives up
    /// keys of its own; each is first taken off the common count, so that no two shards give up one for the same reason.
    fn limit_tracked_keys(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let count = &self.server.tracked_keys;
        let keys = self.shard.tracking.len() as u64;
        if keys != self.tracked_keys {
            count.fetch_add(keys.wrapping_sub(self.tracked_keys), Relaxed);
            self.tracked_keys = keys;
        }
        let max = self.shard.ctx.config.tracking_table_max_keys;
        let is_one_too_many = |count: u64| (max > 0 && count > max).then(|| count - 1);
        for _ in 0..TRACKED_KEYS_EVICTED_MAX {
            if self.tracked_keys == 0 || count.fetch_update(Relaxed, Relaxed, is_one_too_many).is_err() {
                break;
            }
            self.tracked_keys -= 1;
            self.shard.tracking.evict(self.shard.ctx.rng.next_u64());
        }
    }
}

/// Writes one message. False if the client has gone. One that speaks RESP2 can only be told what is redirected to it,
/// and only while it is subscribed; so it is left in the dark, as by Redis.
fn push(sessions: &mut Sessions, conn: ConnKey, redirected: bool, keys: &Keys) -> bool {
    let Some(session) = sessions.get(conn).filter(|session| !session.is_closing()) else { return false };
    if session.protocol == Protocol::Resp2 && !(redirected && session.is_subscribed()) {
        return true;
    }
    let Some((output, protocol)) = sessions.push_buffer(conn) else { return false };
    let mut reply = Reply::new(output, protocol);
    if protocol == Protocol::Resp3 {
        reply.push(2);
        reply.bulk(b"invalidate");
    } else {
        reply.array(3);
        reply.bulk(b"message");
        reply.bulk(CHANNEL);
    }
    match keys {
        None => reply.null(),
        Some(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
    }
    true
}
