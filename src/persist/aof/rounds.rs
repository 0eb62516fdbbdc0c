//! Rounds of `everysec`: once a second all logs are synced, by a thread of the process's own, up to one common moment.
//!
//! The shards place the line that ends a round (`admin/persistence.rs`), each into its own log, and leave what is to be
//! synced here; the thread does it. A round begins when the one before is over: how long that took is what INFO shows.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::{Aof, Sweep, text_of};
use crate::base::ids::ShardId;
use crate::base::limits::{LOG_LAG_MAX_NS, LOG_ROUND_NS};

#[derive(Default)]
pub struct Rounds {
    state: Mutex<State>,
    /// A round is complete in all logs, or has been synced.
    changed: Condvar,
    /// The newest generation of which something could not be synced, until a base contains it; 0 if there is none.
    failed: AtomicU64,
    /// When the last round began.
    begun_ns: AtomicU64,
    /// When the round that is being made began, on the monotonic clock; 0 if there is none.
    since_ns: AtomicU64,
    /// All that was logged before this moment is on disk.
    covered_ns: AtomicU64,
    /// Rounds that took so long that replies had to wait: INFO's `aof_delayed_fsync`.
    pub delayed: AtomicU64,
    /// What was on disk when replies waited last.
    delayed_at_ns: AtomicU64,
}

#[derive(Default)]
struct State {
    number: u64,
    tails: Vec<Tail>,
    /// All shards have ended the round: the thread's turn.
    complete: bool,
    stopping: bool,
    /// The round that ends all logs, once the server stops.
    last: Option<u64>,
}

/// To where a shard's log is to be on disk.
struct Tail {
    shard: ShardId,
    position: u64,
}

impl Rounds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the round")
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed) != 0
    }

    /// A base contains all that was written before this generation.
    pub fn forget_failure(&self, generation: u64) {
        let contained = |failed: u64| (failed < generation).then_some(0);
        let _ = self.failed.fetch_update(Relaxed, Relaxed, contained);
    }

    /// The number of a new round, if it is time for one.
    pub fn begin(&self, now_ns: u64) -> Option<u64> {
        if self.since_ns.load(Relaxed) != 0 || now_ns.saturating_sub(self.begun_ns.load(Relaxed)) < LOG_ROUND_NS {
            return None;
        }
        self.begun_ns.store(now_ns, Relaxed);
        self.since_ns.store(now_ns.max(1), Relaxed);
        let mut state = self.state();
        state.number += 1;
        state.tails.clear();
        state.complete = false;
        Some(state.number)
    }

    /// Nothing that was logged before is not on disk.
    pub fn tell_idle(&self, now_ns: u64) {
        self.covered_ns.fetch_max(now_ns, Relaxed);
    }

    pub fn is_under_way(&self) -> bool {
        self.since_ns.load(Relaxed) != 0
    }

    /// Replies wait for a round.
    pub fn tell_delay(&self) {
        let covered_ns = self.covered_ns.load(Relaxed);
        if self.delayed_at_ns.swap(covered_ns, Relaxed) != covered_ns {
            self.delayed.fetch_add(1, Relaxed);
            tracing::info!("Asynchronous AOF fsync is taking too long (disk is busy?). Replies to writes wait for it.");
        }
    }

    /// A shard has ended the round in its log.
    pub fn tell(&self, shard: ShardId, position: u64) {
        self.state().tails.push(Tail { shard, position });
    }

    /// All shards have: now it is the thread's.
    pub fn complete(&self) {
        self.state().complete = true;
        self.changed.notify_all();
    }

    /// A shard could not end the round: there is none.
    pub fn give_up(&self) {
        let mut state = self.state();
        state.tails.clear();
        state.complete = false;
        self.since_ns.store(0, Relaxed);
        self.changed.notify_all();
    }

    /// The number of the round that ends all logs: the same for each shard that asks.
    pub fn last(&self) -> u64 {
        let mut state = self.state();
        let next = state.number + 1;
        *state.last.get_or_insert(next)
    }

    /// The thread ends.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// Waits until all shards have ended a round; false if there will be none.
    fn await_complete(&self) -> bool {
        let mut state = self.state();
        while !state.complete && !state.stopping {
            state = self.changed.wait(state).expect("nothing panics while it holds the round");
        }
        state.complete
    }

    /// The round that is being made is over.
    fn end(&self) {
        let state = self.state();
        self.since_ns.store(0, Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the round that is being made is over.
    pub fn wait(&self) {
        let mut state = self.state();
        while self.is_under_way() {
            state = self.changed.wait(state).expect("nothing panics while it holds the round");
        }
    }
}

/// A round that is being synced.
pub struct Syncing {
    tails: Vec<Tail>,
    sweep: Sweep,
}

impl Aof {
    /// A power loss would take more than it may. (After a sync that failed, writes are refused until there is a base of
    /// what is in memory, and what they answer waits for that.)
    #[inline]
    pub fn lags(&self, now_ns: u64) -> bool {
        let covered_ns = self.rounds.covered_ns.load(Relaxed);
        now_ns.saturating_sub(covered_ns) > LOG_LAG_MAX_NS && self.is_behind() && !self.rounds.has_failed()
    }

    /// Syncs round after round until it is told to stop: what the thread does.
    pub fn run_rounds(&self) {
        while self.rounds.await_complete() {
            while let Some(mut syncing) = self.begin_sync() {
                while !self.sync_step(&mut syncing) {}
            }
        }
    }

    /// The round that all shards have ended, if there is one that nobody syncs yet.
    pub fn begin_sync(&self) -> Option<Syncing> {
        let mut state = self.rounds.state();
        if !std::mem::take(&mut state.complete) {
            return None;
        }
        let tails = std::mem::take(&mut state.tails);
        drop(state);
        Some(Syncing { tails, sweep: self.begin_sweep() })
    }

    /// Syncs one file of a round; true if the round is over.
    pub fn sync_step(&self, syncing: &mut Syncing) -> bool {
        let synced = match syncing.sweep.step() {
            Ok(true) => return false,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        self.end_sync(syncing, synced);
        self.rounds.end();
        true
    }

    fn end_sync(&self, syncing: &Syncing, synced: io::Result<()>) {
        match synced {
            // A sync that failed is not made good by one that succeeds: the kernel has forgotten what it could not write.
            Ok(()) if self.rounds.has_failed() => {}
            Ok(()) => {
                self.end_sweep(&syncing.sweep);
                for tail in &syncing.tails {
                    self.durable[tail.shard].fetch_max(tail.position, Relaxed);
                }
                // Its line stands behind all that was logged before it began.
                self.rounds.tell_idle(self.rounds.begun_ns.load(Relaxed));
            }
            Err(error) => self.tell_sync_failure(syncing.sweep.generation_now(), &error),
        }
    }

    /// What was written before, and was not on disk, may be lost: up to this generation.
    pub(super) fn tell_sync_failure(&self, generation: u64, error: &io::Error) {
        if self.rounds.failed.fetch_max(generation, Relaxed) == 0 {
            self.tell_reason(error);
            tracing::warn!("Fail to fsync the AOF file: {}", text_of(error));
        }
    }
}
