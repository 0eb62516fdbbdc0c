//! Rounds of `everysec`: once a second all logs are synced, by a thread of the process's own, up to one common moment.
//!
//! The shards place the line that ends a round (`admin/persistence.rs`), each into its own log, and leave what is to be
//! synced here; the thread does it. A round begins when the one before is over: how long that took is what INFO shows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::{Aof, text_of};
use crate::base::ids::ShardId;
use crate::base::limits::LOG_ROUND_NS;

#[derive(Default)]
pub struct Rounds {
    state: Mutex<State>,
    /// A round is complete in all logs, or has been synced.
    changed: Condvar,
    /// A round could not be synced; until a rewrite has saved all that is in memory.
    failed: AtomicBool,
    /// When the last round began.
    begun_ns: AtomicU64,
    /// When the round that is being made began, on the monotonic clock; 0 if there is none.
    since_ns: AtomicU64,
    /// Rounds that took so long that replies had to wait: INFO's `aof_delayed_fsync`.
    pub delayed: AtomicU64,
    /// The last one of these.
    delayed_since_ns: AtomicU64,
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
        self.failed.load(Relaxed)
    }

    /// What could not be synced is in a base by now.
    pub fn forget_failure(&self) {
        self.failed.store(false, Relaxed);
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

    /// How long the round that is being made takes already.
    #[inline]
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        match self.since_ns.load(Relaxed) {
            0 => 0,
            since => now_ns.saturating_sub(since),
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.since_ns.load(Relaxed) != 0
    }

    /// A shard has to wait for the round that is being made.
    pub fn tell_delay(&self) {
        let since = self.since_ns.load(Relaxed);
        if since != 0 && self.delayed_since_ns.swap(since, Relaxed) != since {
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

    /// Waits until the round that is being made is over.
    pub fn wait(&self) {
        let mut state = self.state();
        while self.is_under_way() {
            state = self.changed.wait(state).expect("nothing panics while it holds the round");
        }
    }
}

impl Aof {
    /// Syncs round after round until it is told to stop: what the thread does.
    pub fn run_rounds(&self) {
        let rounds = &self.rounds;
        let mut state = rounds.state();
        loop {
            if state.complete {
                let tails = std::mem::take(&mut state.tails);
                state.complete = false;
                drop(state);
                self.sync(&tails);
                state = rounds.state();
                rounds.since_ns.store(0, Relaxed);
                rounds.changed.notify_all();
            } else if state.stopping {
                return;
            } else {
                state = rounds.changed.wait(state).expect("nothing panics while it holds the round");
            }
        }
    }

    fn sync(&self, tails: &[Tail]) {
        let synced = self.sync_all();
        let had_failed = self.rounds.failed.fetch_or(synced.is_err(), Relaxed);
        match synced {
            // A sync that failed is not made good by one that succeeds: the kernel has forgotten what it could not write.
            Ok(()) if had_failed => {}
            Ok(()) => {
                for tail in tails {
                    self.durable[tail.shard].fetch_max(tail.position, Relaxed);
                }
            }
            Err(error) if !had_failed => {
                self.tell_reason(&error);
                tracing::warn!("Fail to fsync the AOF file: {}", text_of(&error));
            }
            Err(_) => {}
        }
    }
}
