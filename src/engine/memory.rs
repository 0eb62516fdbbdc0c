//! maxmemory: what a shard knows of the memory that the process uses, and what it may.
//!
//! The sum over all threads is read once for many commands; between two readings a shard sees what it allocates itself
//! at once, and what the others do not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::base::ids::ShardId;
use crate::config::Config;
use crate::config::value::{MemoryShare, Policy};
use crate::sys::memory;

/// This part of the limit may be used beyond it until all shards have removed what they should.
const SLACK_DIVISOR: u64 = 256;

/// What all shards know of each other's evictions.
#[derive(Debug)]
pub struct Evictions {
    evictable: Vec<Evictable>,
    /// Shards that have evicted keys and not told yet of which.
    untold: AtomicU32,
}

/// What a shard could evict.
#[derive(Debug, Default)]
struct Evictable {
    keys: AtomicU64,
    /// How gladly the next one would be removed, by the policy's score.
    score: AtomicU64,
    /// What is about to be given back without that.
    leaving: AtomicU64,
}

impl Evictions {
    pub fn new(shards: usize) -> Evictions {
        Evictions { evictable: (0..shards).map(|_| Evictable::default()).collect(), untold: AtomicU32::new(0) }
    }
}

/// How the best key to remove of a shard compares with those of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another shard has one that would rather go.
    Warmer,
    Even,
    Coldest,
}

/// Idle times that differ by less than this part of them say nothing: they are of samples.
const IDLE_MARGIN_DIVISOR: u64 = 8;
/// The same of logarithmic counters, and of expiry times in milliseconds.
const FREQUENCY_MARGIN: u64 = 1;
const EXPIRY_MARGIN_MS: u64 = 1000;

#[derive(Debug, Default)]
pub struct MemoryLimit {
    /// 0: there is none.
    limit: u64,
    policy: Option<Policy>,
    /// What the threads other than this one used at the last reading. One of them alone may seem to use less than
    /// nothing.
    others: i64,
    evictions: Option<(Arc<Evictions>, ShardId)>,
    /// Keys that the other shards could evict at the last look.
    others_evictable: u64,
    /// This shard is one of [`Evictions::untold`].
    is_untold: bool,
    /// What this thread is about to give back: no key has to go for it.
    leaving: i64,
    /// What this thread used when it made room last.
    settled: i64,
    /// Since when too much has been in use, on the monotonic clock, and for how long in all before that.
    exceeded_since_ns: Option<u64>,
    exceeded_ns: u64,
}

/// The bytes that `maxmemory` allows; 0 without a limit.
pub fn limit_of(config: &Config) -> u64 {
    match config.maxmemory {
        MemoryShare::Bytes(bytes) => bytes,
        MemoryShare::Percent(percent) => memory::granted_bytes() / 100 * u64::from(percent),
    }
}

impl MemoryLimit {
    pub fn configure(&mut self, config: &Config) {
        self.limit = limit_of(config);
        self.policy = Some(config.maxmemory_policy);
        self.refresh();
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        self.limit != 0
    }

    /// Reads anew what the whole process uses.
    #[inline]
    pub fn refresh(&mut self) {
        if self.is_set() {
            self.others = memory::used_bytes() as i64 - memory::used_by_thread() - self.others_leaving();
        }
    }

    fn others_leaving(&self) -> i64 {
        let Some((evictions, shard)) = &self.evictions else { return 0 };
        let others = evictions.evictable.iter().enumerate().filter(|(other, _)| other != shard);
        others.map(|(_, of)| of.leaving.load(Relaxed) as i64).sum()
    }

    /// A turn begins: of what was about to leave, this much has not left yet.
    pub fn set_leaving(&mut self, bytes: usize) {
        self.leaving = bytes as i64;
        self.tell_leaving();
    }

    /// This much more is about to leave: with this turn's messages, or with clients that have been ended. (What others
    /// have to be told of an evicted key can take more than the key: it must not evict others.)
    pub fn add_leaving(&mut self, bytes: i64) {
        self.leaving += bytes;
        self.tell_leaving();
    }

    fn tell_leaving(&self) {
        if let Some((evictions, shard)) = &self.evictions {
            evictions.evictable[*shard].leaving.store(self.leaving.max(0) as u64, Relaxed);
        }
    }

    /// Bytes in use beyond the limit.
    pub fn excess(&self) -> u64 {
        if !self.is_set() {
            return 0;
        }
        let used = self.others + memory::used_by_thread() - self.leaving.max(0);
        (used.max(0) as u64).saturating_sub(self.limit)
    }

    /// How much more this thread uses than when it made room last.
    pub fn grown(&self) -> u64 {
        (memory::used_by_thread() - self.settled).max(0) as u64
    }

    /// It has made what room it should.
    pub fn settle(&mut self) {
        self.settled = memory::used_by_thread();
    }

    /// From now on the shards know of each other's evictions.
    pub fn share(&mut self, evictions: Arc<Evictions>, own: ShardId) {
        self.evictions = Some((evictions, own));
    }

    /// Tells the other shards how many keys this one may evict, and learns of theirs: of how many there are in all.
    pub fn tell_evictable(&mut self, own: u64) -> u64 {
        if let Some((Evictions { evictable, .. }, shard)) = self.evictions.as_ref().map(|(all, shard)| (&**all, *shard))
        {
            evictable[shard].keys.store(own, Relaxed);
            let all: u64 = evictable.iter().map(|of| of.keys.load(Relaxed)).sum();
            self.others_evictable = all - own;
        }
        own + self.others_evictable
    }

    /// Tells the other shards how gladly the next key would be removed here.
    pub fn tell_score(&self, score: u64) {
        if let Some((evictions, shard)) = &self.evictions {
            evictions.evictable[*shard].score.store(score, Relaxed);
        }
    }

    /// Where the next key should go.
    pub fn standing(&self) -> Standing {
        let Some((evictions, shard)) = &self.evictions else { return Standing::Even };
        let evictable = &evictions.evictable;
        let own = evictable[*shard].score.load(Relaxed);
        let others = evictable.iter().enumerate().filter(|(other, of)| other != shard && of.keys.load(Relaxed) > 0);
        let best = others.map(|(_, of)| of.score.load(Relaxed)).max().unwrap_or(0);
        let margin = match self.policy {
            Some(policy) if policy.is_lfu() => FREQUENCY_MARGIN,
            Some(Policy::VolatileTtl) => EXPIRY_MARGIN_MS,
            _ => own.max(best) / IDLE_MARGIN_DIVISOR + 1,
        };
        if own.abs_diff(best) <= margin {
            Standing::Even
        } else if own > best {
            Standing::Coldest
        } else {
            Standing::Warmer
        }
    }

    pub fn others_can_evict(&self) -> bool {
        self.others_evictable > 0
    }

    /// A key is about to be evicted. The others know that before they can see the memory that this gives back.
    pub fn begin_eviction(&mut self) {
        if let Some((evictions, _)) = self.evictions.as_ref().filter(|_| !self.is_untold) {
            evictions.untold.fetch_add(1, SeqCst);
            self.is_untold = true;
        }
    }

    /// Who has copies of what was evicted has been told so.
    #[inline]
    pub fn told_of_evicted(&mut self) {
        if self.is_untold {
            self.end_eviction();
        }
    }

    #[cold]
    fn end_eviction(&mut self) {
        self.is_untold = false;
        if let Some((evictions, _)) = &self.evictions {
            evictions.untold.fetch_sub(1, SeqCst);
        }
    }

    /// Others have evicted keys and not told yet of which.
    pub fn others_are_evicting(&self) -> bool {
        let untold = self.evictions.as_ref().map_or(0, |(evictions, _)| evictions.untold.load(SeqCst));
        untold > u32::from(self.is_untold)
    }

    /// What may be used beyond the limit for a moment.
    pub fn slack(&self) -> u64 {
        self.limit / SLACK_DIVISOR
    }

    /// Takes note of how it stands, for [`Self::exceeded_ms`].
    pub fn note_excess(&mut self, excess: u64, now_ns: u64) {
        match self.exceeded_since_ns {
            None if excess > 0 => self.exceeded_since_ns = Some(now_ns),
            Some(since_ns) if excess == 0 => {
                self.exceeded_ns += now_ns.saturating_sub(since_ns);
                self.exceeded_since_ns = None;
            }
            _ => {}
        }
    }

    /// How long too much has been in use: in all, and without a break until now. INFO's `total_eviction_exceeded_time` and
    /// `current_eviction_exceeded_time`.
    pub fn exceeded_ms(&self, now_ns: u64) -> [u64; 2] {
        let current_ns = self.exceeded_since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        [(self.exceeded_ns + current_ns) / 1_000_000, current_ns / 1_000_000]
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stat(&mut self) {
        self.exceeded_ns = 0;
        self.exceeded_since_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_know_how_many_keys_the_others_may_evict() {
        let evictions = Arc::new(Evictions::new(2));
        let mut limits = [0, 1].map(|shard| {
            let mut limit = MemoryLimit::default();
            limit.share(evictions.clone(), shard);
            limit
        });
        assert_eq!(limits[0].tell_evictable(5), 5);
        assert!(!limits[0].others_can_evict());
        assert_eq!(limits[1].tell_evictable(0), 5);
        assert!(limits[1].others_can_evict());
        assert_eq!(MemoryLimit::default().tell_evictable(7), 7);
        limits[1].begin_eviction();
        limits[1].begin_eviction();
        assert_eq!([&limits[0], &limits[1]].map(MemoryLimit::others_are_evicting), [true, false]);
        limits[1].told_of_evicted();
        assert!(!limits[0].others_are_evicting());
        assert_eq!(MemoryLimit::default().standing(), Standing::Even);
    }

    #[test]
    fn the_shard_with_the_coldest_keys_is_known() {
        let evictions = Arc::new(Evictions::new(3));
        let mut limits = [0, 1, 2].map(|shard| {
            let mut limit = MemoryLimit::default();
            limit.share(evictions.clone(), shard);
            limit
        });
        let mut told_by = |policy, scores: [u64; 3], keys: u64| {
            for (limit, score) in limits.iter_mut().zip(scores) {
                limit.policy = Some(policy);
                limit.tell_evictable(keys);
                limit.tell_score(score);
            }
            [0, 1, 2].map(|shard: usize| limits[shard].standing())
        };
        use Standing::{Coldest, Even, Warmer};
        // Counters are logarithms, and times of expiry are counted from the end of all time.
        assert_eq!(told_by(Policy::AllKeysLfu, [250, 249, 245], 1), [Even, Even, Warmer]);
        let soon = u64::MAX - 1_700_000_000_000;
        assert_eq!(told_by(Policy::VolatileTtl, [soon, soon - 500, soon - 60_000], 1), [Even, Even, Warmer]);
        let mut told = |scores, keys| told_by(Policy::AllKeysLru, scores, keys);
        assert_eq!(told([100, 50, 3], 1), [Coldest, Warmer, Warmer]);
        assert_eq!(told([100, 95, 3], 1), [Even, Even, Warmer]);
        assert_eq!(told([1, 0, 0], 1), [Even; 3]);
        assert_eq!(told([100, 50, 3], 0), [Coldest, Coldest, Coldest], "nobody else could");
    }

    #[test]
    fn time_beyond_the_limit_adds_up() {
        let mut limit = MemoryLimit::default();
        let mut told = |excess, at_ms: u64| {
            limit.note_excess(excess, at_ms * 1_000_000);
            limit.exceeded_ms(at_ms * 1_000_000)
        };
        assert_eq!([told(0, 100), told(1, 200), told(9, 250)], [[0, 0], [0, 0], [50, 50]]);
        assert_eq!([told(0, 300), told(0, 400), told(1, 500)], [[100, 0], [100, 0], [100, 0]]);
        assert_eq!(told(1, 520), [120, 20]);
    }
}
