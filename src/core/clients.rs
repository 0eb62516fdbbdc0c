//! `maxmemory-clients`: connections that take the most memory end when all together take too much.
//!
//! Each shard counts its own clients, at the end of the turns in which it hears of them, and tells the others the sum. Of
//! shards that find the limit reached, those whose clients take more than an equal part of it let some go: there is one
//! at least, and where there is one shard it is Redis's rule.

use std::sync::atomic::Ordering::Relaxed;

use super::Core;
use crate::config::Config;
use crate::config::value::MemoryShare;
use crate::engine::memory::limit_of;

/// The bytes that clients may take; 0 without a limit.
fn client_limit(config: &Config) -> u64 {
    match config.maxmemory_clients {
        MemoryShare::Bytes(bytes) => bytes,
        // Of `maxmemory`: without that there is none.
        MemoryShare::Percent(percent) => limit_of(config) / 100 * u64::from(percent),
    }
}

impl Core {
    /// The limit may have been changed.
    #[inline]
    pub(super) fn refresh_client_limit(&mut self) {
        let is_set = self.shard.ctx.config.maxmemory_clients != MemoryShare::Bytes(0);
        if is_set | self.sessions.keeps_accounts() {
            self.change_client_limit();
        }
    }

    #[cold]
    fn change_client_limit(&mut self) {
        self.sessions.keep_accounts(client_limit(&self.shard.ctx.config) > 0);
        self.server.client_bytes[self.id].store(self.sessions.bytes() as u64, Relaxed);
        self.evict_clients();
    }

    /// Ends connections if clients take too much. Called when those over their output limits have been ended.
    pub fn evict_clients(&mut self) {
        if !self.sessions.keeps_accounts() {
            return;
        }
        let limit = client_limit(&self.shard.ctx.config);
        loop {
            let own = self.sessions.bytes() as u64;
            let sums = &self.server.client_bytes;
            sums[self.id].store(own, Relaxed);
            let all: u64 = sums.iter().map(|sum| sum.load(Relaxed)).sum();
            if limit == 0 || all <= limit || own < limit / sums.len() as u64 {
                return;
            }
            let Some(conn) = self.sessions.largest() else { return };
            let session = self.sessions.at(conn);
            tracing::info!("Evicting client: id={} tot-mem={}", session.id, session.memory().total);
            self.sessions.evict(conn);
            self.sessions.traffic.evicted_clients += 1;
        }
    }
}
