//! Commands that somebody looks at before they run: while clients monitor the server, or are paused, or have said by
//! CLIENT CACHING what is to become of the next; and those of clients with copies of keys, while others make room.
//!
//! While nobody does, a command costs one branch on a flag of the shard. Every command is shown where its client is, as
//! it is taken, and its line is published before the turn's replies leave. So a monitor, whose shard reads its mailboxes
//! in the order of stamps, sees what a client sent after it had seen a reply behind the command that was replied to.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::admin::is_run_in_multi;
use super::requests::{Batch, Words};
use super::{Core, Fate};
use crate::admin::connection::selected_db;
use crate::admin::monitor::{Shown, write_line};
use crate::admin::slowlog::redacted;
use crate::base::ids::ConnKey;
use crate::command::args::Args;
use crate::command::spec::{ADMIN, ALLOW_BUSY, Group, NO_AUTH, SKIP_MONITOR, Spec};
use crate::engine::mesh::Mesh;
use crate::engine::msg::Message;
use crate::engine::script::{self, busy_error};
use crate::session::{Pause, ReplyMode, Session};

/// What a core keeps for those who look.
#[derive(Default)]
pub(super) struct Observing {
    /// Commands are looked at before they are taken.
    pub is_on: bool,
    /// A client of this or of another shard monitors.
    monitored: bool,
    /// A script runs for too long, here or on another shard.
    busy: bool,
    /// Lines that no monitor has been sent yet.
    lines: Vec<u8>,
    /// Sessions that wait for the end of a pause, or for room, in the order in which they came to it.
    postponed: Vec<ConnKey>,
}

impl Core {
    /// Looks anew whether somebody looks: at the beginning of a turn, and when a command may have changed it.
    #[inline]
    pub(super) fn refresh_observing(&mut self) {
        self.shard.ctx.scripts.notes_reads = self.server.tracking_used.load(Relaxed);
        let monitored = self.server.is_monitored();
        if monitored != self.observing.monitored {
            self.shard.ctx.scripts.show(monitored);
        }
        self.observing.monitored = monitored;
        self.observing.busy = self.server.scripts.busy.is_on();
        self.observing.is_on = self.observing.monitored
            || self.observing.busy
            || self.shard.pause.paused().is_some()
            || self.asking.is_waiting()
            || !self.sessions.caching.is_empty();
    }

    /// Decides what becomes of the command whose words end the batch's.
    #[inline]
    pub(super) fn admit<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        first: usize,
        shared: &'t [(usize, Bytes)],
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> Fate {
        if self.observing.is_on {
            return self.admit_observed(conn, first, shared, batch, mesh);
        }
        self.dispatch(conn, first, shared, batch, mesh)
    }

    #[cold]
    fn admit_observed<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        first: usize,
        shared: &'t [(usize, Bytes)],
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> Fate {
        let words: Words = batch.words[first..].iter().copied().collect();
        // What is refused at once neither waits nor is shown.
        let Some(spec) = self.admitted(conn, &words) else {
            let fate = self.dispatch(conn, first, shared, batch, mesh);
            self.end_caching(conn);
            return fate;
        };
        if self.observing.busy {
            if !self.sessions.at(conn).pipeline.is_empty() {
                // One of its commands is the script that runs too long, or waits for it.
                batch.words.truncate(first);
                return Fate::NotYet(Pause::Barrier);
            }
            if !spec.flags.has(ALLOW_BUSY) {
                batch.words.truncate(first);
                self.flush(batch, mesh);
                let id = self.registry.find(words[0]).and_then(|command| self.registry.called(command, &words));
                return self.reject(conn, id.map(|(_, id)| id), &busy_error(&self.server.scripts.busy));
            }
        }
        if self.asking.is_waiting() && self.sessions.at(conn).tracking().is_some() {
            batch.words.truncate(first);
            return Fate::NotYet(Pause::Room);
        }
        let transaction = self.transaction_of(conn, spec);
        let is_held = self.pause_holds(spec, &words)
            || transaction.iter().any(|queued| {
                let queued = slices(queued);
                self.called(&queued).is_some_and(|spec| self.pause_holds(spec, &queued))
            });
        let session = self.sessions.at(conn);
        if is_held && !session.monitors {
            batch.words.truncate(first);
            return Fate::NotYet(Pause::Client);
        }
        let is_queued = session.queue().is_some() && !is_run_in_multi(spec);
        let mut db = session.db;
        let fate = self.dispatch(conn, first, shared, batch, mesh);
        if matches!(fate, Fate::NotYet(_)) || is_queued {
            return fate;
        }
        if !spec.name.starts_with("client|") {
            self.end_caching(conn);
        }
        for queued in &transaction {
            let queued = slices(queued);
            let Some(spec) = self.called(&queued) else { continue };
            if spec.name == "select" {
                db = selected_db(&Args::new(&queued), self.shard.ctx.config.databases as usize).unwrap_or(db);
            }
            self.show(conn, db, spec, &queued);
        }
        if spec.name != "exec" {
            db = self.sessions.get(conn).map_or(db, |session| session.db);
        }
        self.show(conn, db, spec, &words);
        fate
    }

    /// Does a pause hold this command?
    fn pause_holds(&mut self, spec: &Spec, words: &[&[u8]]) -> bool {
        self.shard.pause.paused().is_some()
            && self.shard.pause.holds(script::flags_of(&mut self.shard.ctx, spec, words))
    }

    /// CLIENT CACHING was for the command, or the transaction, that is now on its way.
    fn end_caching(&mut self, conn: ConnKey) {
        let is_over = self.sessions.get(conn).is_none_or(|session| session.queue().is_none());
        if is_over && self.sessions.caching.contains(&conn) {
            self.sessions.caching.retain(|&other| other != conn);
            if let Some(session) = self.sessions.get_mut(conn) {
                session.change_tracking(|tracking| tracking.caching = false);
            }
        }
    }

    /// The command that these words call, if the client may call it.
    fn admitted(&self, conn: ConnKey, words: &[&[u8]]) -> Option<&'static Spec> {
        let spec = self.called(words)?;
        let authenticated = self.sessions.get(conn).is_some_and(Session::is_authenticated);
        (authenticated || spec.flags.has(NO_AUTH)).then_some(spec)
    }

    /// The command that these words call.
    pub(super) fn called(&self, words: &[&[u8]]) -> Option<&'static Spec> {
        Some(self.registry.called(self.registry.find(words[0])?, words)?.0)
    }

    /// What EXEC is going to run; nothing for other commands.
    fn transaction_of(&self, conn: ConnKey, spec: &Spec) -> Vec<Vec<Vec<u8>>> {
        let queue = self.sessions.get(conn).filter(|_| spec.name == "exec").and_then(Session::queue);
        let Some(queue) = queue.filter(|queue| !queue.failed) else { return Vec::new() };
        let words: Vec<&[u8]> = queue.words().collect();
        queue.commands(&words).map(|words| words.iter().map(|word| word.to_vec()).collect()).collect()
    }

    /// Shows a command of a client to all monitors.
    fn show(&mut self, conn: ConnKey, db: usize, spec: &Spec, words: &[&[u8]]) {
        // Scripts are not shown where Redis shows commands, but before what they call.
        let is_skipped = spec.flags.has(SKIP_MONITOR) && spec.group != Group::Scripting;
        if !self.observing.monitored || spec.flags.has(ADMIN) || is_skipped {
            return;
        }
        let Some(session) = self.sessions.get(conn) else { return };
        let shown = Shown { unix_us: self.shard.ctx.now.unix_us(), db, by: Some(session.peer) };
        write_line(&shown, &self.shard.ctx.config.unixsocket, &redacted(spec, words), &mut self.observing.lines);
    }

    /// Sends what was shown since the last time to the monitors of all shards.
    #[inline]
    pub(super) fn publish_shown<M: Mesh>(&mut self, mesh: &mut M) {
        if self.observing.monitored {
            self.show_calls();
        }
        if !self.observing.lines.is_empty() {
            self.publish_lines(mesh);
        }
    }

    /// Shows what scripts called.
    #[cold]
    fn show_calls(&mut self) {
        let ctx = &mut self.shard.ctx;
        for (db, words) in ctx.scripts.take_shown() {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let shown = Shown { unix_us: ctx.now.unix_us(), db, by: None };
            write_line(&shown, &ctx.config.unixsocket, &words, &mut self.observing.lines);
        }
    }

    #[cold]
    fn publish_lines<M: Mesh>(&mut self, mesh: &mut M) {
        let lines: Arc<[u8]> = std::mem::take(&mut self.observing.lines).into();
        for shard in 0..self.server.shards {
            if shard != self.id && self.server.monitors[shard].load(Relaxed) > 0 {
                self.outgoing.push((shard, Message::Shown(lines.clone())));
            }
        }
        self.publish(mesh);
        self.receive_shown(&lines);
    }

    /// Lines for the monitors of this shard.
    pub(super) fn receive_shown(&mut self, lines: &[u8]) {
        for index in 0..self.sessions.monitors.len() {
            let conn = self.sessions.monitors[index];
            let session = self.sessions.at(conn);
            if session.reply_mode != ReplyMode::Off && !session.is_closing() {
                self.sessions.reply_buffer(conn).extend_from_slice(lines);
            }
        }
    }

    /// The session waits for the end of the pause, or for room.
    pub(super) fn postpone(&mut self, conn: ConnKey) {
        self.observing.postponed.push(conn);
    }

    /// Lets those who waited go on, if the pause is over.
    pub(super) fn resume_postponed(&mut self) {
        let now = self.shard.ctx.now;
        if self.shard.pause.end_if_due(now) {
            self.shard.ctx.expiry_paused = false;
        }
        self.refresh_observing();
        if self.shard.pause.paused().is_none() && !self.asking.is_waiting() {
            self.resumed.append(&mut self.observing.postponed);
        }
    }

    /// A client has gone: it may have been a monitor.
    pub(super) fn count_monitors(&self) {
        self.server.set_monitors(self.id, self.sessions.monitors.len());
    }
}

fn slices(words: &[Vec<u8>]) -> Words<'_> {
    words.iter().map(Vec::as_slice).collect()
}
