//! A core's part in files: slices of loading and saving, what the clock asks for, and which commands run meanwhile.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Core;
use crate::admin::persistence;
use crate::base::ids::ConnKey;
use crate::base::limits::{LOAD_STEP_BYTES, SNAPSHOT_STALL_NS_MAX, SNAPSHOT_STEP_KEYS};
use crate::command::ctx::ShardCtx;
use crate::command::error::{self, Error, LOADING_DATA};
use crate::command::spec::{LOADING, Spec, WRITE};
use crate::engine::mesh::Mesh;
use crate::engine::script;
use crate::persist::aof::load::{AofLoader, Deal, Slice};
use crate::persist::aof::open::Plan;
use crate::persist::load::{Duplicates, LoadError, Loaded, Loader};

/// What there was at the start, being loaded.
pub(super) enum Loading {
    Dump(Box<Loader<File>>),
    Log(Box<AofLoader>),
}

impl Loading {
    fn slice(&mut self, ctx: &mut ShardCtx, bytes: u64) -> Result<Slice, String> {
        match self {
            Loading::Dump(loader) => match loader.slice(ctx, bytes) {
                Ok(done) => Ok(if done { Slice::Done } else { Slice::More }),
                Err(error) => Err(error.to_string()),
            },
            Loading::Log(loader) => loader.slice(ctx, bytes).map_err(|error| error.to_string()),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Loading::Dump(loader) => loader.offset(),
            Loading::Log(loader) => loader.offset(),
        }
    }

    fn loaded(&self) -> Loaded {
        match self {
            Loading::Dump(loader) => loader.loaded,
            Loading::Log(loader) => loader.loaded,
        }
    }
}

impl Core {
    /// From now on the shard loads its keys from this file, a slice a turn.
    pub fn begin_load(&mut self, file: File) -> Result<(), LoadError> {
        let (slots, ctx) = (self.slots.clone(), &self.shard.ctx);
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let loader = Loader::new(file, bytes, self.id, slots, Duplicates::Refused, ctx)?;
        self.loader = Some(Loading::Dump(Box::new(loader)));
        Ok(())
    }

    /// The same from the append-only file.
    pub fn begin_load_log(&mut self, plan: Arc<Plan>, deal: &Deal) {
        let loader = AofLoader::new(plan, deal, self.slots.clone(), &self.shard.ctx);
        self.loader = Some(Loading::Log(Box::new(loader)));
    }

    pub(super) fn load_slice(&mut self) {
        let Some(loader) = &mut self.loader else { return };
        let loading = &self.server.persistence.loading;
        let step = self.shard.ctx.config.loading_process_events_interval_bytes.min(LOAD_STEP_BYTES);
        let outcome = loader.slice(&mut self.shard.ctx, step);
        if self.id == 0 {
            loading.bytes_loaded.store(loader.offset(), Relaxed);
        }
        self.waits_for_file = outcome == Ok(Slice::Waiting);
        if !matches!(outcome, Ok(Slice::More | Slice::Waiting)) {
            let outcome = outcome.map(|_| loader.loaded());
            self.loader = None;
            // Before the first command may run, here or on a shard that hears of the end first.
            self.follow_log();
            self.server.persistence.load_ended(outcome);
        }
    }

    /// A slice of the snapshot that is under way; true if another one can follow at once.
    pub(super) fn save_slice(&mut self) -> bool {
        self.waits_for_file = false;
        let keyspace = &mut self.shard.ctx.keyspace;
        if !keyspace.is_in_snapshot() {
            return false;
        }
        match self.server.persistence.running() {
            Some(saving) if saving.is_given_up() => keyspace.abort_snapshot(),
            None => keyspace.abort_snapshot(),
            Some(saving) if saving.has_room() => return keyspace.snapshot_slice(SNAPSHOT_STEP_KEYS),
            Some(_) => self.waits_for_file = true,
        }
        false
    }

    /// Keys that the snapshot has yet to save are held for it, or not any more, by how much of it waits to be written. Once a
    /// turn, before any command.
    pub(super) fn hold_for_snapshot(&mut self) {
        if self.holds_since_ns.is_none() && !self.server.persistence.is_saving() {
            return;
        }
        let saving = self.server.persistence.running().filter(|saving| !saving.is_given_up());
        let saving = saving.filter(|_| self.shard.ctx.keyspace.is_in_snapshot());
        match (self.holds_since_ns, saving) {
            (None, Some(saving)) if saving.is_over_budget() => {
                self.shard.hold_unsaved();
                self.holds_since_ns = Some(self.shard.ctx.now.mono_ns);
            }
            (Some(since_ns), Some(saving)) if !saving.is_within_budget_again() => {
                if self.shard.ctx.now.mono_ns.saturating_sub(since_ns) > SNAPSHOT_STALL_NS_MAX {
                    saving.stall();
                }
            }
            (Some(_), _) => {
                self.holds_since_ns = None;
                let mut ready = Vec::new();
                self.shard.let_go(&mut ready);
                self.granted.extend(ready);
            }
            (None, _) => {}
        }
    }

    /// What the clock asks for: a save by the `save` rules, the end by a signal.
    pub(super) fn tick_persistence(&mut self) {
        self.retry_unlogged();
        let persistence = self.server.persistence.clone();
        persistence.tell_changes(self.id, self.shard.ctx.journal.dirty);
        if std::mem::take(&mut self.shard.ctx.journal.flushed) {
            persistence.tell_flush(self.id);
        }
        if self.id != 0 {
            return;
        }
        let asked = persistence.shutdown.lock().expect("nothing panics while it holds it").take();
        if let Some(how) = asked {
            match persistence::shutdown(&self.admin(ConnKey::NOBODY), how) {
                Ok(Some(everywhere)) => self.chores.push(everywhere),
                Ok(None) => self.stop_requested = true,
                // The log tells why not.
                Err(_) => {}
            }
        }
        let round = persistence::due_round(&self.admin(ConnKey::NOBODY));
        self.chores.extend(round);
        let rewrite = persistence::due_rewrite(&self.admin(ConnKey::NOBODY));
        self.chores.extend(rewrite);
        if persistence.is_save_due(self.shard.ctx.now, &self.shard.ctx.config) {
            let due = persistence::due_save(&self.admin(ConnKey::NOBODY));
            self.chores.extend(due);
        }
    }

    /// FLUSHALL under `save` rules: its client is answered when the file without keys is there, as in Redis.
    pub(super) fn is_saved_behind(&self, spec: &Spec) -> bool {
        spec.name == "flushall"
            && !self.shard.ctx.config.save.is_empty()
            && self.server.persistence.is_real.load(Relaxed)
    }

    /// Starts what no client asked for.
    pub(super) fn start_chores<M: Mesh>(&mut self, mesh: &mut M) {
        for everywhere in std::mem::take(&mut self.chores) {
            self.start_own_job(everywhere, mesh);
        }
    }

    /// Whether a command may run while a file is loaded, or after a save that failed.
    #[cold]
    pub(super) fn may_run(&mut self, spec: &Spec, words: &[&[u8]]) -> error::Result {
        if self.server.persistence.loading.is_under_way() && !spec.flags.has(LOADING) {
            return Err(LOADING_DATA);
        }
        let writes = script::flags_of(&mut self.shard.ctx, spec, words).has(WRITE) || spec.name == "ping";
        if writes { self.write_refusal().map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// Why nothing may be written, if the disk does not take it.
    #[cold]
    pub(super) fn write_refusal(&self) -> Option<Error> {
        if self.server.persistence.refuses_writes(&self.shard.ctx.config) {
            return Some(MISCONF);
        }
        let reason = self.server.aof.failure()?;
        Some(Error::dynamic(format!("MISCONF Errors writing to the AOF file: {reason}").into_bytes()))
    }
}

const MISCONF: Error = Error::Text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
     modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
     snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
     error.",
);
