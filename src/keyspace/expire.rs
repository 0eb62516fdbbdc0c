//! Active expiry: removes keys whose time has come, though nobody asks for them.
//!
//! A stepper over the expiry indexes of all databases. It touches nothing but what is due, so that an idle call costs
//! one comparison a database; when much is due at once it goes on from slice to slice until it has caught up. It knows
//! no clock: who drives it hands in the time, says how many keys fit into a slice, and books the CPU that slices took.

use super::Keyspace;
use crate::base::clock::Now;
use crate::data::entry::{Entry, EntryRef};

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
    /// Turns that ended with more to do: INFO's `expired_time_cap_reached_count`.
    pub cap_reached: u64,
    /// Time spent in slices: INFO's `expire_cycle_cpu_milliseconds`.
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
        mut expired: impl FnMut(usize, Entry),
    ) -> Progress {
        let mut progress = Progress { expired: 0, more: false };
        if !self.enabled {
            return progress;
        }
        let databases = keyspace.databases();
        for _ in 0..databases {
            let db = self.db;
            let left = keys_max - progress.expired;
            let slice = keyspace.db_mut(db).expire_slice(now.unix_ms, left, |_| true, |entry| expired(db, entry));
            progress.expired += slice.expired;
            // Whether this one has caught up or not: the keys of the next must not wait.
            self.db = (db + 1) % databases;
            if slice.more {
                progress.more = true;
                break;
            }
        }
        progress
    }

    /// Books what the slices of a turn took, and whether they left anything.
    pub fn end_turn(&mut self, nanoseconds: u64, more: bool) {
        self.cpu_ns += nanoseconds;
        self.cap_reached += u64::from(more);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entry::{Entry, Value};
    use crate::keyspace::HashSeeds;

    const START: Now = Now { unix_ms: 1_700_000_000_000, mono_ns: 0 };

    /// Databases with so many keys each, all due a second from the start.
    fn keyspace(keys_by_db: &[usize]) -> Keyspace {
        let mut keyspace = Keyspace::new(keys_by_db.len(), HashSeeds([1, 2, 3, 4]), START.unix_ms);
        for (db, &keys) in keys_by_db.iter().enumerate() {
            for n in 0..keys {
                let key = n.to_string().into_bytes();
                let entry = Entry::new(&key, Value::Int(0), Some(START.unix_ms + 1000), 0);
                let hash = keyspace.hash(&key);
                keyspace.db_mut(db).insert(hash, entry);
            }
        }
        keyspace
    }

    fn run(expire: &mut ActiveExpire, keyspace: &mut Keyspace, now: Now, keys_max: usize) -> (Progress, Vec<usize>) {
        let mut by_db = vec![0; keyspace.databases()];
        let progress = expire.slice(keyspace, now, keys_max, |db, _| by_db[db] += 1);
        (progress, by_db)
    }

    #[test]
    fn a_key_lives_through_the_millisecond_of_its_expiry() {
        let entry = Entry::new(b"k", Value::Int(0), Some(START.unix_ms), 0);
        assert!(!is_expired(entry.as_ref(), START));
        assert!(is_expired(entry.as_ref(), START.plus_ms(1)));
    }

    #[test]
    fn removes_what_is_due_and_nothing_else() {
        let mut keyspace = keyspace(&[3, 0, 2]);
        let mut expire = ActiveExpire::default();
        assert_eq!(run(&mut expire, &mut keyspace, START.plus_ms(900), 100).1, [0, 0, 0]);
        let due = expire.next_ms(&keyspace).expect("keys have an expiry");
        assert!((1000..1200).contains(&(due - START.unix_ms)), "due after {} ms", due - START.unix_ms);
        let later = Now { unix_ms: due, ..START };
        assert_eq!(run(&mut expire, &mut keyspace, later, 100), (Progress { expired: 5, more: false }, vec![3, 0, 2]));
        assert_eq!(expire.next_ms(&keyspace), None);
    }

    #[test]
    fn a_large_database_does_not_delay_the_others() {
        let mut keyspace = keyspace(&[10_000, 10]);
        let mut expire = ActiveExpire::default();
        let later = START.plus_ms(2000);
        assert_eq!(run(&mut expire, &mut keyspace, later, 100), (Progress { expired: 100, more: true }, vec![100, 0]));
        let (_, by_db) = run(&mut expire, &mut keyspace, later, 100);
        assert_eq!(by_db[1], 10);
        let mut slices = 2;
        while run(&mut expire, &mut keyspace, later, 100).0.more {
            slices += 1;
        }
        assert!(keyspace.is_empty());
        assert!((100..=103).contains(&slices), "{slices} slices");
    }

    #[test]
    fn does_nothing_while_switched_off() {
        let mut keyspace = keyspace(&[5]);
        let mut expire = ActiveExpire { enabled: false, ..ActiveExpire::default() };
        assert_eq!(run(&mut expire, &mut keyspace, START.plus_ms(2000), 100).0, Progress { expired: 0, more: false });
        assert_eq!((keyspace.len(), expire.next_ms(&keyspace)), (5, None));
    }

    #[test]
    fn stale_percent_is_judged_by_keys_with_an_expiry() {
        let mut keyspace = keyspace(&[1000]);
        let hash = keyspace.hash(b"forever");
        keyspace.db_mut(0).insert(hash, Entry::new(b"forever", Value::Int(0), None, 0));
        let mut random = crate::base::rng::Rng::new(1);
        assert_eq!(stale_percent(&keyspace, START, || random.next_u64()), 0.0);
        assert_eq!(stale_percent(&keyspace, START.plus_ms(2000), || random.next_u64()), 100.0);
    }
}
