//! maxmemory: what a shard knows of the memory that the process uses, and what it may.
//!
//! The sum over all threads is read once for many commands; between two readings a shard sees what it allocates itself
//! at once, and what the others do not at all.

use super::parts::Parts;
use crate::config::Config;
use crate::config::value::MemoryShare;
use crate::sys::memory;

/// This part of the limit may be used beyond it until all shards have removed what they should.
const SLACK_DIVISOR: u64 = 256;

#[derive(Debug, Default)]
pub struct MemoryLimit {
    /// 0: there is none.
    limit: u64,
    pub parts: Parts,
    /// What the threads other than this one used at the last reading. One of them alone may seem to use less than
    /// nothing.
    others: i64,
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
        self.parts.configure(config.maxmemory_policy);
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
            self.others = memory::used_bytes() as i64 - memory::used_by_thread() - self.parts.others_leaving();
        }
    }

    /// A turn begins: of what was about to leave, this much has not left yet.
    pub fn set_leaving(&mut self, bytes: usize) {
        self.leaving = bytes as i64;
        self.parts.tell_leaving(self.leaving.max(0) as u64);
    }

    /// This much more is about to leave: with this turn's messages, or with clients that have been ended. (What others
    /// have to be told of an evicted key can take more than the key: it must not evict others.)
    pub fn add_leaving(&mut self, bytes: i64) {
        self.leaving += bytes;
        self.parts.tell_leaving(self.leaving.max(0) as u64);
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
