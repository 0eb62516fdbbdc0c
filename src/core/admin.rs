//! Commands without keys, and those that are refused.
//!
//! What its own connection alone can tell of (PING, SELECT, MULTI, DISCARD, UNWATCH) is no barrier: it runs at once, and plain
//! commands before and behind it may pass each other.

use std::collections::BTreeSet;

use super::pubsub::not_while_subscribed;
use super::{Core, Fate};
use crate::admin::ctx::{AdminCtx, AdminFn, Outcome, Then};
use crate::admin::slowlog::redacted;
use crate::base::ids::{CommandId, ConnKey, ShardId};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{DENYOOM, NO_AUTH, NO_MULTI, PUSH_REPLY, SUBSCRIBED, Spec};
use crate::dispatch::registry::{Command, Run};
use crate::engine::mesh::Mesh;
use crate::engine::msg::Message;
use crate::engine::script;
use crate::engine::shard::OUT_OF_MEMORY;
use crate::resp::reply::Reply;
use crate::session::{Pause, Session};

impl Core {
    /// Commands without keys, and those that are refused.
    pub(super) fn dispatch_other<M: Mesh>(
        &mut self,
        conn: ConnKey,
        found: Option<&'static Command>,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let Some(command) = found else {
            return self.reject(conn, None, &Error::unknown_command(words));
        };
        let mut spec = command.spec;
        let mut id = command.id;
        if !spec.subcommands.is_empty() && words.len() > 1 {
            let Some(subcommand) = spec.subcommand(words[1]) else {
                return self.reject(conn, Some(id), &Error::unknown_subcommand(words[1], spec.name));
            };
            spec = subcommand;
            id = self.registry.subcommand_id(subcommand.name);
        }
        if !spec.arity.allows(words.len()) {
            return self.reject(conn, Some(id), &Error::arity(spec.name));
        }
        if !self.sessions.at(conn).is_authenticated() && !spec.flags.has(NO_AUTH) {
            return self.reject(conn, Some(id), &Error::Text("NOAUTH Authentication required."));
        }
        if self.lacks_memory(conn, spec) {
            return self.reject(conn, Some(id), &OUT_OF_MEMORY);
        }
        if self.sessions.at(conn).is_restricted() && !spec.flags.has(SUBSCRIBED) {
            return self.reject(conn, Some(id), &not_while_subscribed(spec));
        }
        if self.restricted
            && let Err(error) = self.may_run(spec, words)
        {
            return self.reject(conn, Some(id), &error);
        }
        if self.sessions.at(conn).queue().is_some() && !is_run_in_multi(spec) {
            if spec.flags.has(NO_MULTI) {
                return self.reject(conn, Some(id), &Error::Text("ERR Command not allowed inside a transaction"));
            }
            return self.queue(conn, spec, words);
        }
        if spec.flags.has(PUSH_REPLY) && !self.room {
            // Homes hear of subscriptions before anything that these cause.
            return Fate::NotYet(Pause::Mailbox);
        }
        match command.run {
            Run::Admin(run) => self.run_admin(conn, run, spec, id, words, mesh),
            // What refused it a moment ago, another shard's loading or a save that failed, is over.
            Run::Key(_) => Fate::NotYet(Pause::Turn),
        }
    }

    /// Whether a command cannot run, or be queued, for want of memory. Commands on the keys of one shard are not asked
    /// here, but where they run.
    pub(super) fn lacks_memory(&mut self, conn: ConnKey, spec: &Spec) -> bool {
        if !self.shard.memory.is_set() || !self.may_take_memory(conn, spec) {
            return false;
        }
        let lacks = self.shard.is_out_of_memory();
        self.tell_of_evicted();
        lacks
    }

    fn may_take_memory(&self, conn: ConnKey, spec: &Spec) -> bool {
        if spec.flags.has(DENYOOM) {
            return true;
        }
        let queue = self.sessions.get(conn).and_then(Session::queue);
        spec.name == "exec" && queue.is_some_and(|queue| queue.takes_memory)
    }

    #[cold]
    pub(super) fn reject(&mut self, conn: ConnKey, id: Option<CommandId>, error: &Error) -> Fate {
        self.shard.commands.rejected(id, error.code());
        let mut text = error.text().to_vec();
        if id.is_some_and(|id| self.registry.names()[usize::from(id)] == "exec") {
            let reason = text.strip_prefix(b"ERR ").unwrap_or(&text);
            text = [b"EXECABORT Transaction discarded because of: ", reason].concat();
            self.end_transaction(conn);
        } else if let Some(queue) = self.sessions.at(conn).queue_mut() {
            queue.failed = true;
        }
        let session = self.sessions.at(conn);
        let (discard, protocol) = (session.take_reply_mode(), session.protocol);
        if !discard {
            Reply::new(self.sessions.reply_buffer(conn), protocol).error(&text);
        }
        Fate::Taken
    }

    /// A command between MULTI and EXEC.
    pub(super) fn queue(&mut self, conn: ConnKey, spec: &Spec, words: &[&[u8]]) -> Fate {
        let flags = script::flags_of(&mut self.shard.ctx, spec, words);
        let session = self.sessions.at(conn);
        let queue = session.queue_mut().expect("the caller knows that it is in MULTI");
        queue.takes_memory |= flags.has(DENYOOM);
        queue.push(words);
        if !session.take_reply_mode() {
            self.sessions.reply_buffer(conn).extend_from_slice(b"+QUEUED\r\n");
        }
        Fate::Taken
    }

    /// Ends MULTI, if the client is in it, and forgets what it watches.
    pub(super) fn end_transaction(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (_, watched) = session.end_transaction();
        self.unwatch(conn, &watched);
    }

    /// Tells the shards of these keys that the client no longer watches any.
    fn unwatch(&mut self, conn: ConnKey, watched: &[(usize, Vec<u8>)]) {
        let shards: BTreeSet<ShardId> = watched.iter().map(|(_, key)| self.slots.shard_of(key)).collect();
        for shard in shards {
            self.tell(shard, Message::Unwatch(conn));
        }
    }

    pub(super) fn run_admin<M: Mesh>(
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
        if let Ok(Outcome::Everywhere(_) | Outcome::Cut(_) | Outcome::Exec | Outcome::Watch) = result {
            self.scratch = scratch;
            // Nothing has happened yet: it is a barrier, and can come back.
            if !self.sessions.at(conn).pipeline.is_empty() {
                return Fate::NotYet(Pause::Barrier);
            }
            return match result {
                Ok(Outcome::Everywhere(everywhere)) => self.start_everywhere(conn, spec, id, everywhere, false, mesh),
                Ok(Outcome::Cut(everywhere)) => self.start_everywhere(conn, spec, id, everywhere, true, mesh),
                Ok(Outcome::Exec) => self.start_exec(conn, spec, id, mesh),
                _ => self.start_watch(conn, spec, id, words, mesh),
            };
        }
        match result {
            Ok(Outcome::EndTransaction) => self.end_transaction(conn),
            Ok(Outcome::Unwatch) => self.forget_watched(conn),
            _ => {}
        }
        if let Ok(Outcome::Publish(kind)) = result {
            self.scratch = scratch;
            return self.publish_command(conn, kind, spec, id, words);
        }
        if let Err(error) = &result {
            reply.truncate(0);
            reply.error(&error.text());
            self.shard.commands.failed(id, error.code());
        }
        let elapsed = self.shard.ran(id);
        if self.shard.ctx.timing.is_slow(elapsed) {
            self.was_slow(conn, spec, elapsed, words);
        }
        self.refresh_observing();
        self.send_invalidations();
        let discard = self.sessions.at(conn).leave_command() && !spec.flags.has(PUSH_REPLY);
        if !discard && !scratch.is_empty() {
            self.sessions.reply_buffer(conn).extend_from_slice(&scratch);
        }
        self.scratch = scratch;
        self.spread_news(mesh);
        if matches!(result, Ok(Outcome::Shutdown)) {
            self.stop_requested = true;
        }
        if self.sessions.at(conn).is_closing() { Fate::Closed } else { Fate::Taken }
    }

    fn forget_watched(&mut self, conn: ConnKey) {
        let Some(transaction) = &mut self.sessions.at(conn).transaction else { return };
        let watched = transaction.take_watched();
        self.unwatch(conn, &watched);
    }

    pub(super) fn admin(&mut self, conn: ConnKey) -> AdminCtx<'_> {
        AdminCtx {
            now: self.shard.ctx.now,
            shard: &mut self.shard,
            sessions: &mut self.sessions,
            log: &mut self.log,
            server: &self.server,
            id: self.id,
            slots: &self.slots,
            conn,
            specs: self.registry.specs(),
            names: self.registry.names(),
            rate: self.rates.now(),
            deny_blocking: false,
            then: Then::Reply,
        }
    }

    #[cold]
    pub(super) fn was_slow(&mut self, conn: ConnKey, spec: &Spec, elapsed: u64, words: &[&[u8]]) {
        self.shard.was_slow(spec, elapsed, &redacted(spec, words));
        self.take_notes(conn);
    }
}

/// What does not wait for EXEC.
pub(super) fn is_run_in_multi(spec: &Spec) -> bool {
    matches!(spec.name, "exec" | "discard" | "quit" | "reset")
}
