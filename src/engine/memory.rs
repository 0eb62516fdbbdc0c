//! maxmemory: what a shard knows of the memory that the process uses, and what it may.
//!
//! The sum over all threads is read once for many commands; between two readings a shard sees what it allocates itself
//! at once, and what the others do not at all.

use crate::config::Config;
use crate::config::value::MemoryShare;
use crate::sys::memory;

#[derive(Debug, Default)]
pub struct MemoryLimit {
    /// 0: there is none.
    limit: u64,
    /// What the threads other than this one used at the last reading. One of them alone may seem to use less than
    /// nothing.
    others: i64,
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
            self.others = memory::used_bytes() as i64 - memory::used_by_thread();
        }
    }

    /// Bytes in use beyond the limit.
    pub fn excess(&self) -> u64 {
        if !self.is_set() {
            return 0;
        }
        let used = (self.others + memory::used_by_thread()).max(0) as u64;
        used.saturating_sub(self.limit)
    }
}
