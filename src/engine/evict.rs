//! Making room: a shard removes keys while the process uses more memory than it may.
//!
//! Its part of what is too much is the one that `parts` tells. A command that takes memory waits for the others' parts only
//! while little is too much, and else makes all the room itself.

use super::lock::{LockSet, Mode};
use super::parts::Excess;
use super::shard::Shard;
use crate::base::slowlog::LatencySample;
use crate::command::events::Class;
use crate::keyspace::evict;
use crate::sys::memory;

/// Keys that go between two looks at the clock, as in Redis.
const KEYS_PER_LOOK: u32 = 16;

/// After so many keys that are in use others are not looked for any more: transactions, or a snapshot, must go on first.
const HELD_MAX: u32 = 16;

enum Evicted {
    Key,
    /// The one that was chosen is locked, or a snapshot has yet to save it; the next choice is another one, most likely.
    NotIt,
    Nothing,
}

/// What came of making room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Made,
    /// Not all yet, and more will follow.
    Coming,
    /// There is nothing to remove.
    Lacking,
}

/// How long a command may be held up by making room for it: `maxmemory-eviction-tenacity`, as in Redis.
fn time_max_ns(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50_000 * u64::from(tenacity),
        11..=99 => (500_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

impl Shard {
    /// Looks anew at how much memory is in use, and removes this shard's part of what is too much.
    pub fn make_room(&mut self) -> Room {
        self.tell_evictable();
        self.memory.refresh();
        let (excess, grown, slack) = (self.memory.excess(), self.memory.grown(), self.memory.slack());
        let (now_ns, draw) = (self.ctx.now.mono_ns, self.ctx.rng.next_u64());
        let part = self.memory.parts.part_of(Excess { bytes: excess, grown, slack }, now_ns, draw);
        let room = self.reduce_excess_to(excess - part);
        self.memory.settle();
        self.memory.note_excess(self.memory.excess(), now_ns);
        room
    }

    /// Now and then: tells the others how gladly a key of this shard's would go.
    pub fn look_for_cold_keys(&mut self) {
        if self.memory.is_set() {
            let ctx = &mut self.ctx;
            let score = self.pool.best(&ctx.keyspace, ctx.now, &ctx.config, &mut ctx.rng);
            self.memory.parts.tell_score(score);
        }
    }

    pub(super) fn tell_evictable(&mut self) {
        let own = evict::evictable(&self.ctx.keyspace, self.ctx.config.maxmemory_policy) as u64;
        self.memory.parts.tell_keys(own);
    }

    /// Makes room for a command that may take memory. What the others are going to remove need not be waited for, while it
    /// is little.
    pub fn make_room_at_once(&mut self) -> Room {
        let slack = if self.memory.parts.others_can_evict() { self.memory.slack() } else { 0 };
        self.reduce_excess_to(slack)
    }

    /// This shard has keys that may go.
    pub fn can_evict(&self) -> bool {
        evict::evictable(&self.ctx.keyspace, self.ctx.config.maxmemory_policy) > 0 || self.ctx.lazyfree.is_pending()
    }

    fn reduce_excess_to(&mut self, bytes: u64) -> Room {
        // While clients are paused nothing changes by itself.
        if self.memory.excess() <= bytes || self.ctx.expiry_paused {
            return Room::Made;
        }
        let (started, db) = (self.ticks(), self.ctx.db);
        let room = self.evict_down_to(bytes, started);
        self.ctx.db = db;
        let elapsed = self.ticks() - started;
        if elapsed >= self.ctx.timing.latency_event_ns {
            let sample = LatencySample { unix_s: self.ctx.now.unix_s(), milliseconds: elapsed / 1_000_000 };
            self.ctx.timing.events.entry("eviction-cycle").or_default().add(sample);
        }
        room
    }

    fn evict_down_to(&mut self, bytes: u64, started: u64) -> Room {
        let time_max_ns = time_max_ns(self.ctx.config.maxmemory_eviction_tenacity);
        let (mut steps, mut held) = (0, 0);
        while self.memory.excess() > bytes {
            // What is removed already, and only waits to be freed, comes first.
            let is_freeing = self.ctx.lazyfree.is_pending();
            if is_freeing {
                self.ctx.lazyfree.slice(KEYS_PER_LOOK as usize);
            } else {
                match self.evict_key() {
                    Evicted::Key => {}
                    Evicted::NotIt if held < HELD_MAX => held += 1,
                    Evicted::Nothing if !self.memory.parts.others_can_evict() => return Room::Lacking,
                    _ => return Room::Coming,
                }
            }
            steps += 1;
            if (is_freeing || steps % KEYS_PER_LOOK == 0) && self.ticks() - started > time_max_ns {
                return Room::Coming;
            }
        }
        Room::Made
    }

    /// Two of these differ by what was taken in between, whatever the noted readers of keys gave back.
    pub fn used_and_freed(&self) -> i64 {
        memory::used_by_thread() + self.tracking.freed_bytes()
    }

    /// Removes one key.
    fn evict_key(&mut self) -> Evicted {
        let ctx = &mut self.ctx;
        let Some((db, key, score)) = self.pool.choose(&ctx.keyspace, ctx.now, &ctx.config, &mut ctx.rng) else {
            return Evicted::Nothing;
        };
        self.memory.parts.tell_score(score);
        // To save it, and others with it, would take more memory than it leaves.
        if !ctx.keyspace.db(db).is_saved(ctx.keyspace.hash(&key)) {
            return Evicted::NotIt;
        }
        if !self.locks.is_empty() {
            let mut set = LockSet::default();
            set.add(&key, Mode::Exclusive);
            if !self.locks.admits(&set) {
                return Evicted::NotIt;
            }
        }
        self.memory.parts.begin_eviction();
        self.ctx.db = db;
        // If its time is over, it has expired instead.
        if self.ctx.delete(&key) {
            let before = self.used_and_freed();
            let ctx = &mut self.ctx;
            ctx.stats.evicted += 1;
            let word: &[u8] = if ctx.config.lazyfree_lazy_eviction { b"UNLINK" } else { b"DEL" };
            ctx.journal.uncounted(db, &[word, &key]);
            ctx.notify(Class::EVICTED, "evicted", &key);
            // Who has copies is noted at once, as what was noted of the key gives memory back, too.
            self.note_changes();
            self.memory.add_leaving(self.used_and_freed() - before);
        }
        Evicted::Key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_is_time() {
        assert_eq!([0, 1, 10].map(time_max_ns), [0, 50_000, 500_000]);
        assert_eq!([11, 50].map(|tenacity| time_max_ns(tenacity) / 1000), [575, 133_931]);
        assert!((110..130).contains(&(time_max_ns(99) / 1_000_000_000)), "{}", time_max_ns(99));
        assert_eq!(time_max_ns(100), u64::MAX);
    }
}
