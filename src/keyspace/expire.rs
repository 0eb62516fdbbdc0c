//! Active expiry: removes keys whose time has come, though nobody asks for them.
//!
//! A stepper over the expiry indexes of all databases. It touches nothing but what is due, so that an idle call costs
//! one comparison a database; when much is due at once it goes on from slice to slice until it has caught up. It knows
//! no clock: who drives it hands in the time, says how many keys fit into a slice, and books the CPU that slices took.

use super::Keyspace;
use crate::base::clock::Now;
use crate::data::entry::EntryRef;

/// Has the time of an entry passed? It lives through the millisecond of its expiry.
#[inline]
pub fn is_expired(entry: EntryRef<'_>, now: Now) -> bool {
    entry.expire_at_ms().is_some_and(|at_ms| at_ms < now.unix_ms)
}

/// The cycle's place and figures.
#[derive(Debug)]
pub struct ActiveExpire {
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub enabled: bool,
    /// Slices that ended with more to do: INFO's `expired_time_cap_reached_count`.
    pub cap_reached: u64,
    /// CPU time spent in slices, booked by the driver: INFO's `expire_cycle_cpu_milliseconds`.
    pub cpu_ns: u64,
    /// The database that the next slice begins with.
    db: usize,
}

/// What a slice did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub expired: usize,
    /// There may be more that is due: call again soon.
    pub more: bool,
}

impl Default for ActiveExpire {
    fn default() -> ActiveExpire {
        ActiveExpire { enabled: true, cap_reached: 0, cpu_ns: 0, db: 0 }
    }
}

impl ActiveExpire {
    /// Removes up to `keys_max` keys that are due, each announced with its database.
    pub fn slice(
        &mut self,
        keyspace: &mut Keyspace,
        now: Now,
        keys_max: usize,
        mut expired: impl FnMut(usize, &[u8]),
    ) -> Progress {
        let mut progress = Progress { expired: 0, more: false };
        if !self.enabled {
            return progress;
        }
        let databases = keyspace.databases();
        for _ in 0..databases {
            let db = self.db;
            let left = keys_max - progress.expired;
            let slice = keyspace.db_mut(db).expire_slice(now.unix_ms, left, |_| true, |entry| expired(db, entry.key()));
            progress.expired += slice.expired;
            if slice.more {
                // Another database's keys must not wait until this one has caught up.
                progress.more = true;
                self.cap_reached += 1;
                self.db = (db + 1) % databases;
                break;
            }
            self.db = (db + 1) % databases;
        }
        progress
    }

    /// Nothing is due before this Unix time; nothing at all if no key has an expiry.
    pub fn next_ms(&self, keyspace: &Keyspace) -> Option<i64> {
        (0..keyspace.databases()).filter_map(|db| keyspace.db(db).next_expire_ms()).min().filter(|_| self.enabled)
    }

    /// Starts counting anew: CONFIG RESETSTAT.
    pub fn reset_stat(&mut self) {
        self.cap_reached = 0;
        self.cpu_ns = 0;
    }
}

/// How many of a hundred keys with an expiry are due and not removed yet, judged by a sample: INFO's
/// `expired_stale_perc`. `random` returns uniform 64-bit numbers.
pub fn stale_percent(keyspace: &Keyspace, now: Now, mut random: impl FnMut() -> u64) -> f64 {
    const SAMPLES: usize = 20;
    let (mut sampled, mut stale) = (0, 0);
    for db in 0..keyspace.databases() {
        let db = keyspace.db(db);
        for _ in 0..SAMPLES.min(db.expires_len()) {
            let entry = db.random_expiring(&mut random).expect("some key has an expiry");
            sampled += 1;
            stale += usize::from(is_expired(entry, now));
        }
    }
    if sampled == 0 { 0.0 } else { 100.0 * stale as f64 / sampled as f64 }
}
