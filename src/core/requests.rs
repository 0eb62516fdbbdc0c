//! From received bytes to commands that run here, leave for another shard, or become a job; and the way back of replies.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use smallvec::SmallVec;

use super::admin::is_run_in_multi;
use super::{Core, Fate, Input, hops};
use crate::base::bytes::equal;
use crate::base::ids::{CommandId, ConnKey, Sequence, ShardId};
use crate::base::limits::{
    BATCH_COMMANDS_MAX, BATCH_WORDS_KEPT_MAX, OUTPUT_CHUNK_BYTES, PROTOCOL_DUMP_BYTES, TURN_COMMANDS_MAX,
    TURN_OUTPUT_BYTES_MAX,
};
use crate::base::slowlog::{Note, SlowCommand, SlowEntry};
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::keys::shard_of_keys;
use crate::command::keyspace;
use crate::command::spec::{ALLOW_BUSY, Group, NO_MULTI, READONLY, Shape, Spec, WRITE};
use crate::config::value::PipelineOrder;
use crate::dispatch::registry::{Command, KeyPlan, Run};
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Message, RunBatch, RunItem};
use crate::engine::script::{self, busy_error};
use crate::resp::parse::{self, Parsed, Partial, ProtocolError, RequestLimits};
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Close, Pause, Session};

/// Commands that are parsed and not run yet.
#[derive(Default)]
pub(super) struct Batch<'t> {
    pub(super) words: Vec<&'t [u8]>,
    own: Vec<Own<'t>>,
    /// Commands of other shards, or of several, since the last flush.
    pub(super) departing: usize,
}

/// A command on keys of this shard.
pub(super) struct Own<'t> {
    conn: ConnKey,
    row: &'static KeyRow,
    id: CommandId,
    db: usize,
    /// Of the word behind the command's name; 0 if that is no key.
    hash: u64,
    first_word: u32,
    words: u32,
    protocol: Protocol,
    no_touch: bool,
    tracks: bool,
    /// Its place among replies, where earlier commands of the connection are not answered yet, or it may have to wait itself.
    sequence: Option<Sequence>,
    /// See `RunItem::leased`.
    leased: bool,
    discard: bool,
    shared: &'t [(usize, Bytes)],
}

impl<'t> Own<'t> {
    /// The session's next command, whose reply goes to the output at once.
    #[inline]
    fn start(
        session: &mut Session,
        row: &'static KeyRow,
        id: CommandId,
        first: usize,
        words: usize,
        shared: &'t [(usize, Bytes)],
    ) -> Own<'t> {
        let discard = session.start_command(id);
        Own {
            conn: session.key,
            row,
            id,
            db: session.db,
            hash: 0,
            first_word: first as u32,
            words: words as u32,
            protocol: session.protocol,
            no_touch: session.no_touch,
            tracks: session.tracks(),
            sequence: None,
            leased: false,
            discard,
            shared,
        }
    }

    #[inline]
    fn words<'b>(&self, batch: &'b Batch<'t>) -> &'b [&'t [u8]] {
        &batch.words[self.first_word as usize..][..self.words as usize]
    }

    /// The same, to be run later.
    fn item(&self, sequence: Sequence) -> RunItem {
        RunItem {
            session: self.conn,
            sequence,
            row: self.row,
            id: self.id,
            db: self.db as u16,
            arguments: self.words,
            protocol: self.protocol,
            no_touch: self.no_touch,
            tracks: self.tracks,
            deferred: false,
            is_linked: false,
            leased: self.leased,
            hop: None,
            is_queued: false,
            followers: 0,
        }
    }
}

impl Batch<'_> {
    /// The same memory, empty, for a turn with other borrows. (Collecting an empty vector keeps its allocation.)
    fn recycled<'t>(mut self) -> Batch<'t> {
        self.words.clear();
        self.own.clear();
        if self.words.capacity() > BATCH_WORDS_KEPT_MAX {
            self.words = Vec::new();
        }
        Batch {
            words: self.words.into_iter().map(|_| unreachable!("cleared")).collect(),
            own: self.own.into_iter().map(|_| unreachable!("cleared")).collect(),
            departing: 0,
        }
    }
}

/// Requests of one connection that this turn looks at: a command that arrived in pieces, then plain bytes.
pub(super) struct Unit<'t> {
    conn: ConnKey,
    /// Index in `Held::partials`.
    partial: Option<usize>,
    bytes: UnitBytes<'t>,
}

/// As many units as connections usually bring in a turn stay on the stack.
pub(super) type Units<'t> = SmallVec<[Unit<'t>; 32]>;

pub(super) enum UnitBytes<'t> {
    Received(&'t [u8]),
    /// Index in `Held::inputs`.
    Kept(usize),
}

/// Requests that sessions had held, moved out so that the batch can borrow from them during the turn.
#[derive(Default)]
pub(super) struct Held {
    partials: Vec<HeldPartial>,
    inputs: Vec<Vec<u8>>,
}

pub(super) struct HeldPartial {
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

/// A parsed command on its slow way: its words, out of the batch.
pub(super) type Words<'t> = SmallVec<[&'t [u8]; 8]>;

impl Core {
    /// Parses, routes and runs what arrived, and what waited.
    pub fn turn<M: Mesh>(&mut self, inputs: &[Input<'_>], mesh: &mut M) {
        let began = self.shard.ticks();
        self.serve(inputs, mesh);
        self.served_ns = self.shard.ticks() - began;
    }

    fn serve<M: Mesh>(&mut self, inputs: &[Input<'_>], mesh: &mut M) {
        if !self.stopped {
            self.make_room();
        }
        // What came of the mail, of connections that have ended and of background work; and who has copies of what made
        // room learns it before the replies of this turn.
        self.settle(mesh);
        self.shard.memory.parts.told_of_evicted();
        if self.stopped {
            return;
        }
        self.restricted = self.server.persistence.restricts() || self.server.aof.is_failing();
        if self.restricted || self.shard.ctx.write_refusal.is_some() {
            self.shard.ctx.write_refusal = self.write_refusal();
        }
        self.follow_log();
        self.refresh_client_limit();
        self.start_chores(mesh);
        self.go_on_with_scripts(mesh);
        self.shard.start_clock();
        self.refresh_observing();
        self.room = mesh.has_room();
        if self.room {
            self.resumed.append(&mut self.starved);
        }
        self.run_deadlines();
        if !self.acks.is_empty() {
            self.run_acks();
        }
        // A connection that received twice has its second part looked at when the first is done with.
        let mut later = self.wave(inputs.iter(), mesh);
        while !later.is_empty() {
            later = self.wave(later.into_iter(), mesh);
        }
        // The other shards begin to make room before a client can send what it does next.
        self.make_room();
        self.settle(mesh);
        self.shard.memory.parts.told_of_evicted();
    }

    pub(super) fn wave<'t, M: Mesh>(
        &mut self,
        inputs: impl Iterator<Item = &'t Input<'t>>,
        mesh: &mut M,
    ) -> Vec<&'t Input<'t>> {
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
    pub(super) fn receive<'t>(&mut self, input: &Input<'t>, held: &mut Held, units: &mut Units<'t>) {
        let now_ms = self.shard.ctx.now_ms();
        let limits = self.limits_of(input.conn);
        if self.sessions.keeps_accounts() {
            self.sessions.mark_dirty(input.conn);
        }
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
                Err(error) => return self.protocol_error(input.conn, error, bytes),
            }
        }
        units.push(Unit { conn: input.conn, partial: whole, bytes: UnitBytes::Received(bytes) });
    }

    pub(super) fn resume(&mut self, conn: ConnKey, held: &mut Held, units: &mut Units<'_>) {
        let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.is_closing()) else { return };
        if matches!(session.pause, Some(Pause::Barrier | Pause::Job | Pause::Blocked)) {
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

    pub(super) fn limits_of(&self, conn: ConnKey) -> RequestLimits {
        self.request_limits(self.sessions.get(conn).is_some_and(Session::is_authenticated))
    }

    fn request_limits(&self, authenticated: bool) -> RequestLimits {
        RequestLimits { bulk_bytes_max: self.shard.ctx.config.proto_max_bulk_len as i64, authenticated }
    }

    /// Parses and dispatches the commands of a unit; the rest of its bytes goes back to the session. False: so must
    /// the command that arrived in pieces.
    pub(super) fn run_unit<'t, M: Mesh>(
        &mut self,
        unit: &Unit<'t>,
        held: &'t Held,
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> bool {
        if self.stopped {
            return true;
        }
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
                match self.admit(conn, first, shared, batch, mesh) {
                    Fate::Taken => {}
                    Fate::TakenThenPause(pause) => {
                        self.keep(conn, bytes, pause);
                        return true;
                    }
                    Fate::Published(_) => {
                        self.settle(mesh);
                        self.keep(conn, bytes, Pause::Barrier);
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
            let authenticated = session.is_authenticated();
            if commands == TURN_COMMANDS_MAX || session.output.bytes() > output_max {
                self.keep(conn, bytes, Pause::Turn);
                break;
            }
            commands += 1;
            if batch.own.len() + batch.departing >= BATCH_COMMANDS_MAX {
                self.flush(batch, mesh);
            }
            let first = batch.words.len();
            match parse::parse(bytes, self.request_limits(authenticated), &mut batch.words) {
                Ok(Parsed::Command(taken)) => {
                    let rest = &bytes[taken..];
                    if batch.words.len() == first {
                        bytes = rest;
                        continue;
                    }
                    match self.admit(conn, first, &[], batch, mesh) {
                        Fate::Taken => bytes = rest,
                        Fate::Published(home) if self.is_published_to(home, conn, rest, batch) => bytes = rest,
                        Fate::Published(_) => {
                            self.settle(mesh);
                            self.keep(conn, rest, Pause::Barrier);
                            break;
                        }
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
                    self.protocol_error(conn, error, bytes);
                    break;
                }
            }
        }
        true
    }

    /// The bytes wait in the session.
    pub(super) fn keep(&mut self, conn: ConnKey, rest: &[u8], pause: Pause) {
        let session = self.sessions.at(conn);
        debug_assert!(session.input.is_empty(), "what waited was taken first");
        session.input = rest.to_vec();
        session.pause = Some(pause);
        match pause {
            Pause::Turn => self.resumed.push(conn),
            Pause::Mailbox => self.starved.push(conn),
            // Their ends resume it; it may have come already.
            Pause::Barrier => self.resume_behind_barrier(conn),
            Pause::Job | Pause::Blocked => {}
            Pause::Client | Pause::Room => self.postpone(conn),
        }
    }

    /// The bytes are the beginning of a command (or one that only `Partial` reads, which may be whole).
    pub(super) fn keep_partial<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        bytes: &'t [u8],
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) {
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
                self.protocol_error(conn, error, bytes);
            }
        }
    }

    #[cold]
    pub(super) fn protocol_error(&mut self, conn: ConnKey, error: ProtocolError, bytes: &[u8]) {
        let text = error.text();
        let shown = if self.shard.ctx.config.hide_user_data_from_log {
            "*redacted*".to_owned()
        } else {
            format!("'{}'", bytes[..bytes.len().min(PROTOCOL_DUMP_BYTES)].escape_ascii())
        };
        let reason = text.strip_prefix("ERR Protocol error: ").unwrap_or(&text);
        let id = self.sessions.at(conn).id;
        tracing::debug!("Protocol error ({reason}) from client: id={id}. Query buffer: {shown}");
        self.shard.commands.rejected(None, "ERR".to_string());
        Reply::new(self.sessions.reply_buffer(conn), Protocol::Resp2).error(text.as_bytes());
        self.sessions.close(conn, Close::AfterReplies);
    }

    /// Decides what becomes of the command whose words end the batch's.
    #[inline]
    pub(super) fn dispatch<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        first: usize,
        shared: &'t [(usize, Bytes)],
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> Fate {
        let words = &batch.words[first..];
        let found = self.registry.find_after(&mut self.recent, words[0]);
        let session = self.sessions.at(conn);
        let called = found.filter(|_| session.is_direct()).and_then(|command| self.registry.called(command, words));
        if let (Some(&Command { run: Run::Key(row), keys: KeyPlan::First, .. }), Some((_, id))) = (found, called)
            && session.pipeline.is_empty()
            && !self.restricted
            && self.shard.locks.is_empty()
            && (self.server.shards == 1 || self.slots.shard_of(words[1]) == self.id)
        {
            // As nearly all do: it runs at once, and its reply is the next.
            let own = Own::start(session, row, id, first, words.len(), shared);
            let hash = match batch.own.last() {
                // Commands on one key often follow each other.
                Some(before) if before.hash != 0 && before.db == own.db && equal(before.words(batch)[1], words[1]) => {
                    before.hash
                }
                _ => self.shard.prefetch(own.db, words[1]),
            };
            batch.own.push(Own { hash, ..own });
            return Fate::Taken;
        }
        self.dispatch_any(conn, first, shared, (found, called), batch, mesh)
    }

    /// The same for what may have to wait, to leave, or to become a job.
    #[inline(never)]
    fn dispatch_any<'t, M: Mesh>(
        &mut self,
        conn: ConnKey,
        first: usize,
        shared: &'t [(usize, Bytes)],
        (found, called): (Option<&'static Command>, Option<(&'static Spec, CommandId)>),
        batch: &mut Batch<'t>,
        mesh: &mut M,
    ) -> Fate {
        let words = &batch.words[first..];
        let (command, row, (spec, id)) = match (found, called) {
            (Some(command @ Command { run: Run::Key(row), .. }), Some(called))
                if !self.restricted || self.may_run(called.0, words).is_ok() =>
            {
                (command, *row, called)
            }
            _ => {
                if let Some(fate) = self.transact(conn, found, first, batch, mesh) {
                    return fate;
                }
                let words: Words = batch.words.drain(first..).collect();
                self.flush(batch, mesh);
                return self.dispatch_other(conn, found, &words, mesh);
            }
        };
        if command.keys != KeyPlan::First && spec.waits.is_some_and(|waits| waits(words)) {
            let home = self.place_of(command, spec, words);
            let words: Words = batch.words.drain(first..).collect();
            self.flush(batch, mesh);
            return self.start_blocking(conn, row, id, &words, home, mesh);
        }
        let place = match command.keys {
            KeyPlan::None if self.is_saved_behind(spec) => None,
            _ => self.place_of(command, spec, words),
        };
        let anchor = if place.is_none() { self.anchor_of(conn, spec, &batch.words[first..]) } else { None };
        let (shard, leased) = (place.or(anchor), anchor.is_some());
        let pipeline = &self.sessions.at(conn).pipeline;
        if pipeline.has_leased() && !anchor.is_some_and(|shard| pipeline.is_all_at(shard)) {
            batch.words.truncate(first);
            return Fate::NotYet(Pause::Barrier);
        }
        // A script comes behind all that was sent before it: where that is under way, it leaves for its own shard in a message,
        // whose stamp puts it in its place.
        let is_script = spec.group == Group::Scripting;
        let departs = is_script && pipeline.has_departed();
        match shard {
            Some(shard) if shard == self.id && !departs => {
                let session = self.sessions.at(conn);
                if session.pipeline.has_hop() {
                    batch.words.truncate(first);
                    return Fate::NotYet(Pause::Barrier);
                }
                let hash = if command.keys == KeyPlan::None { 0 } else { self.shard.prefetch(session.db, words[1]) };
                let own = Own::start(session, row, id, first, words.len(), shared);
                let may_wait = !self.shard.locks.is_empty();
                // A script may pause, and be answered later.
                let in_order = may_wait || is_script || !session.pipeline.is_empty();
                if in_order && self.shard.lease.is_under_way() && !session.pipeline.is_all_at(self.id) {
                    self.shard.lease.link();
                }
                let sequence = match leased {
                    true => Some(session.pipeline.push_script(own.discard, self.id, leased, false)),
                    false => in_order.then(|| session.pipeline.push_waiting(own.discard, self.id)),
                };
                batch.own.push(Own { hash, sequence, leased, ..own });
                if (may_wait || leased) && self.shard.ctx.config.pipeline_order == PipelineOrder::Strict {
                    self.flush(batch, mesh);
                    if !self.sessions.at(conn).pipeline.is_empty() {
                        return Fate::TakenThenPause(Pause::Barrier);
                    }
                }
                Fate::Taken
            }
            Some(shard) => {
                let fate = self.depart(conn, (shard, leased), row, id, &batch.words[first..], shared);
                if !matches!(fate, Fate::NotYet(_)) {
                    batch.departing += 1;
                }
                batch.words.truncate(first);
                fate
            }
            None => {
                if let Some(fate) = self.hop_by_key(conn, row, id, first, shared, batch) {
                    return fate;
                }
                let words: Words = batch.words.drain(first..).collect();
                self.flush(batch, mesh);
                self.start_job(conn, row, id, &words, mesh)
            }
        }
    }

    /// MULTI, the commands behind it, and their EXEC, where that goes in one hop: none of them touches what is collected
    /// to leave, so that a pipeline of transactions leaves together.
    #[inline(never)] // Out of the way of commands that run at once.
    fn transact<M: Mesh>(
        &mut self,
        conn: ConnKey,
        found: Option<&'static Command>,
        first: usize,
        batch: &mut Batch<'_>,
        mesh: &mut M,
    ) -> Option<Fate> {
        let command = found?;
        let spec = command.spec;
        let session = self.sessions.at(conn);
        let is_plain = session.is_authenticated() && !session.is_restricted() && !self.restricted;
        if !is_plain || self.shard.memory.is_set() || !spec.arity.allows(batch.words.len() - first) {
            return None;
        }
        let Some(queue) = self.sessions.at(conn).queue() else {
            return if spec.name == "multi" { self.begin_transaction(conn, command, first, batch, mesh) } else { None };
        };
        let fate = match spec.name {
            "exec" if !queue.failed => self.hop_exec(conn, spec, command.id, batch)?,
            _ if is_run_in_multi(spec) || spec.flags.has(NO_MULTI) || !spec.subcommands.is_empty() => return None,
            _ => self.queue(conn, spec, &batch.words[first..]),
        };
        batch.words.truncate(first);
        Some(fate)
    }

    fn begin_transaction<M: Mesh>(
        &mut self,
        conn: ConnKey,
        command: &Command,
        first: usize,
        batch: &mut Batch<'_>,
        mesh: &mut M,
    ) -> Option<Fate> {
        let Run::Admin(run) = command.run else { return None };
        let words: Words = batch.words.drain(first..).collect();
        if batch.own.last().is_some_and(|own| own.conn == conn) {
            // Their replies come first.
            self.flush(batch, mesh);
        }
        self.sessions.lend_transaction(conn);
        Some(self.run_admin(conn, run, command.spec, command.id, &words, mesh))
    }

    /// The shard that runs a command, if it is one.
    #[inline]
    pub(super) fn place_of(&mut self, command: &Command, spec: &Spec, words: &[&[u8]]) -> Option<ShardId> {
        match command.keys {
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
                // What changes libraries stands in one log, and so has one order.
                _ if spec.group == Group::Scripting && spec.flags.has(WRITE) => Some(0),
                _ => Some(self.id),
            },
        }
    }

    /// The shard on which all keys of a command lie.
    pub(super) fn one_shard_of(&mut self, spec: &Spec, words: &[&[u8]]) -> Option<ShardId> {
        if spec.reaches.is_some_and(|reaches| reaches(words)) {
            return None;
        }
        if spec.group == Group::Scripting && script::may_touch_others(&mut self.shard.ctx, spec, words).unwrap_or(true)
        {
            return None;
        }
        // A command whose keys cannot be found has an error to report, anywhere.
        shard_of_keys(spec, words, &self.slots, Some(self.id))
    }

    /// The shard of the keys that a script declares, if it is one: there it runs, though it may touch others, under the
    /// shard's lease (`engine::lease`).
    #[cold]
    fn anchor_of(&mut self, conn: ConnKey, spec: &Spec, words: &[&[u8]]) -> Option<ShardId> {
        let runs_script = spec.group == Group::Scripting && !spec.keys.is_empty() && !spec.flags.has(READONLY);
        // What it reads on other shards, these track for clients of its own.
        if !runs_script || self.sessions.at(conn).tracks() {
            return None;
        }
        shard_of_keys(spec, words, &self.slots, None)
    }

    /// A command on keys of another shard joins the batch for it. What comes behind a script does not overtake it.
    pub(super) fn depart(
        &mut self,
        conn: ConnKey,
        (shard, leased): (ShardId, bool),
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
        let is_linked = !session.pipeline.is_all_at(shard);
        let sequence = match row.spec.group {
            Group::Scripting => session.pipeline.push_script(discard, shard, leased, true),
            _ => session.pipeline.push_departing(discard, shard),
        };
        let item = RunItem { sequence, is_linked, leased, ..hops::item_of(session, row, id) };
        hops::departing(&mut self.departing, &mut self.idle_batches, shard).push(item, words, shared);
        if self.shard.ctx.config.pipeline_order == PipelineOrder::Strict {
            Fate::TakenThenPause(Pause::Barrier)
        } else {
            Fate::Taken
        }
    }

    /// Publishes what is for other shards, then runs the shard's own.
    pub(super) fn flush<M: Mesh>(&mut self, batch: &mut Batch<'_>, mesh: &mut M) {
        self.publish_shown(mesh);
        if batch.departing == 0 && batch.own.is_empty() {
            // What commands without keys have brought is told all the same.
            return self.send_invalidations();
        }
        if batch.departing > 0 {
            for (shard, departing) in self.departing.iter_mut().enumerate() {
                self.together.extend(departing.take().map(|batch| (shard, Message::Run(batch))));
            }
            self.publish(mesh);
            batch.departing = 0;
        }
        self.shard.prefetch_entries(batch.own.iter().map(|own| (own.db, own.hash)));
        let elements = batch.own.iter().map(|own| (own.row.spec.group, own.db, own.hash, own.words(batch)));
        self.shard.prefetch_elements(elements);
        self.shard.memory.refresh();
        self.shard.start_clock();
        let mut locked = !self.shard.locks.is_empty();
        let guarded = self.shard.is_guarded();
        let mut queue = std::mem::take(&mut batch.own);
        for at in 0..queue.len() {
            let own = &queue[at];
            if self.sessions.at(own.conn).is_cut_off() {
                continue;
            }
            let words = own.words(batch);
            if own.leased {
                // What is locked here, it waits for there.
                if !self.shard.admits_leased() {
                    let sequence = own.sequence.expect("a script's reply has its place");
                    self.shard.defer_for_lease(self.id, own.item(sequence), words, own.shared);
                    continue;
                }
            } else if locked && self.put_off(own, batch) {
                continue;
            }
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
                    if self.shard.has_suspended() {
                        self.shard.suspend_command(self.id, own.item(sequence), words, own.shared);
                        while self.shard.ctx.scripts.asked.is_some() {
                            self.go_on_with_script();
                        }
                        self.became_busy();
                        locked = !self.shard.locks.is_empty();
                        self.seat(&mut queue[at + 1..]);
                        continue;
                    }
                    self.sessions.complete(own.conn, sequence, &self.scratch);
                    if own.leased {
                        // What follows it in its connection may have come in the same turn, and wait for it.
                        self.resume_behind_barrier(own.conn);
                    }
                }
            }
            if own.tracks | self.shard.tracking.is_on() {
                self.shard.track((self.id, own.conn), own.tracks, &own.row.spec, words);
            }
            if guarded {
                self.shard.after_commands();
            }
            if self.shard.has_aftermath() {
                self.take_notes(own.conn);
                self.send_events();
            }
        }
        self.shard.ctx.forget_hash();
        self.shard.after_commands();
        self.send_served();
        self.send_events();
        queue.clear();
        batch.own = queue;
        batch.words.clear();
        self.send_invalidations();
        self.settle(mesh);
    }

    /// A script waits for what it calls elsewhere: the commands behind it wait for it, and so have places among the replies.
    #[cold]
    fn seat(&mut self, queue: &mut [Own<'_>]) {
        if self.server.scripts.busy.is_on() {
            return;
        }
        // From the last to the first: each comes before those of its connection that have a place.
        for own in queue.iter_mut().rev().filter(|own| own.sequence.is_none()) {
            own.sequence = Some(self.sessions.at(own.conn).pipeline.push_first(own.discard, self.id));
        }
    }

    /// Whether a command of this shard's has to wait for a lock; then it does, and its reply keeps its place. Or for a
    /// script that runs too long, which it is told.
    #[cold]
    pub(super) fn put_off(&mut self, own: &Own<'_>, batch: &Batch<'_>) -> bool {
        let words = own.words(batch);
        self.shard.hold_for_command(&own.row.spec, words);
        if self.shard.locks.admits_command(&own.row.spec, words) {
            return false;
        }
        if own.row.spec.called(words).flags.has(ALLOW_BUSY) {
            return false;
        }
        match own.sequence {
            Some(sequence) => self.shard.defer(self.id, own.item(sequence), words, own.shared),
            // It came in the turn in which a script has run for too long; otherwise every reply has a place of its own.
            None => {
                let error = busy_error(&self.server.scripts.busy);
                self.shard.commands.rejected(Some(own.id), error.code());
                if !own.discard {
                    Reply::new(self.sessions.direct_buffer(own.conn), own.protocol).error(&error.text());
                }
            }
        }
        true
    }

    /// What there is to note of commands of a client of this shard, that ran here.
    pub(super) fn take_notes(&mut self, conn: ConnKey) {
        if self.shard.ctx.timing.has_notes() {
            let mut notes = self.shard.ctx.timing.take_notes();
            notes.drain(..).for_each(|note| self.note(conn, note));
            self.shard.ctx.timing.give_notes(notes);
        }
    }

    /// The same of one that ran anywhere.
    pub(super) fn note(&mut self, conn: ConnKey, note: Note) {
        match note {
            Note::Slow(command) => self.log_slow_command(conn, command),
            Note::Called(commands) => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.commands += commands;
                }
            }
        }
    }

    #[cold]
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

    pub(super) fn batch_done(&mut self, shard: ShardId, mut batch: Box<RunBatch>) {
        for (index, note) in batch.notes.drain(..) {
            self.note(batch.items[index].session, note);
        }
        let (mut from, mut index) = (0, 0);
        while index < batch.items.len() {
            let item = &batch.items[index];
            let end = index + 1 + item.followers as usize;
            if !item.deferred {
                let replies = batch.reply_ends[index..end].iter().map(|&end| {
                    let reply = &batch.replies[from..end];
                    from = end;
                    reply
                });
                match item.hop {
                    Some(hop) => self.part_done(shard, hop, replies),
                    None => replies.for_each(|reply| self.sessions.complete(item.session, item.sequence, reply)),
                }
                from = batch.reply_ends[end - 1];
            }
            index = end;
        }
        for item in batch.items.iter().filter(|item| item.hop.is_none()) {
            self.resume_behind_barrier(item.session);
        }
        batch.clear();
        self.idle_batches.push(batch);
    }

    pub(super) fn resume_behind_barrier(&mut self, conn: ConnKey) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.pause == Some(Pause::Barrier) && session.pipeline.is_empty() {
            self.resumed.push(conn);
            // Once; a second reply of the same batch finds it resumed.
            session.pause = Some(Pause::Turn);
        }
    }
}
