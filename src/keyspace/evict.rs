//! Eviction: which key makes room.
//!
//! As Redis does it: a few keys are looked at, the best of them are remembered in a small pool, and the best of that goes.
//! So the choice gets better from key to key, though each costs only a few looks.

use super::{Keyspace, access};
use crate::base::clock::Now;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::config::value::Policy;
use crate::data::entry::EntryRef;

/// As many as in Redis.
const POOL_MAX: usize = 16;

/// How gladly a key is removed that is new, under an LFU policy.
pub const SCORE_OF_NEW_LFU: u64 = (u8::MAX - access::LFU_INITIAL) as u64;

/// A key that may go, and how gladly.
#[derive(Debug)]
struct Candidate {
    db: usize,
    key: Vec<u8>,
    score: u64,
}

/// The best candidates so far.
#[derive(Debug, Default)]
pub struct Pool {
    /// The best last.
    candidates: Vec<Candidate>,
    /// By which they were chosen.
    policy: Option<Policy>,
    /// The database that a random key is taken from next.
    db: usize,
}

/// How gladly a key is removed; `None`: never.
fn score(entry: EntryRef<'_>, now: Now, config: &Config) -> Option<u64> {
    let policy = config.maxmemory_policy;
    let expire_at_ms = entry.expire_at_ms();
    if policy.is_volatile() && expire_at_ms.is_none() {
        return None;
    }
    if policy == Policy::VolatileTtl {
        return expire_at_ms.map(|at_ms| u64::MAX - at_ms.max(0) as u64);
    }
    Some(match policy.is_lfu() {
        true => u64::from(u8::MAX - access::decayed(entry.access(), now, config)),
        false => u64::from(access::idle_s(entry.access(), now)),
    })
}

/// How many keys the policy may remove, of one database.
fn evictable_of(keyspace: &Keyspace, db: usize, policy: Policy) -> usize {
    match policy {
        Policy::NoEviction => 0,
        policy if policy.is_volatile() => keyspace.db(db).expires_len(),
        _ => keyspace.db(db).len(),
    }
}

/// How many keys the policy may remove.
pub fn evictable(keyspace: &Keyspace, policy: Policy) -> usize {
    if policy == Policy::NoEviction {
        return 0;
    }
    (0..keyspace.databases()).map(|db| evictable_of(keyspace, db, policy)).sum()
}

impl Pool {
    /// How gladly the best key known would be removed; 0 if none would, or all alike.
    pub fn best(&mut self, keyspace: &Keyspace, now: Now, config: &Config, rng: &mut Rng) -> u64 {
        self.follow(config.maxmemory_policy);
        if matches!(config.maxmemory_policy, Policy::NoEviction | Policy::AllKeysRandom | Policy::VolatileRandom) {
            return 0;
        }
        self.fill(keyspace, now, config, rng);
        let scored = |candidate: &Candidate| {
            let entry = keyspace.db(candidate.db).get(keyspace.hash(&candidate.key), &candidate.key);
            entry.and_then(|entry| score(entry, now, config)).unwrap_or(0)
        };
        self.candidates.iter().map(scored).max().unwrap_or(0)
    }

    /// What was chosen by another policy counts for nothing.
    fn follow(&mut self, policy: Policy) {
        if self.policy != Some(policy) {
            self.candidates.clear();
            self.policy = Some(policy);
        }
    }

    /// The key to remove next, with its database and its score; `None` if the policy lets none go.
    pub fn choose(
        &mut self,
        keyspace: &Keyspace,
        now: Now,
        config: &Config,
        rng: &mut Rng,
    ) -> Option<(usize, Vec<u8>, u64)> {
        let policy = config.maxmemory_policy;
        self.follow(policy);
        if evictable(keyspace, policy) == 0 {
            return None;
        }
        if matches!(policy, Policy::AllKeysRandom | Policy::VolatileRandom) {
            return self.random(keyspace, policy, rng).map(|(db, key)| (db, key, 0));
        }
        loop {
            self.fill(keyspace, now, config, rng);
            while let Some(Candidate { db, key, score: noted }) = self.candidates.pop() {
                let entry = keyspace.db(db).get(keyspace.hash(&key), &key);
                // It may have gone, or been used, since.
                let score = entry.and_then(|entry| score(entry, now, config));
                if let Some(score) = score.filter(|&score| score >= noted) {
                    return Some((db, key, score));
                }
            }
        }
    }

    /// A random key of the next database that has one.
    fn random(&mut self, keyspace: &Keyspace, policy: Policy, rng: &mut Rng) -> Option<(usize, Vec<u8>)> {
        let databases = keyspace.databases();
        let mut next = (0..databases).map(|offset| (self.db + offset) % databases);
        let db = next.find(|&db| evictable_of(keyspace, db, policy) > 0)?;
        self.db = (db + 1) % databases;
        let dict = keyspace.db(db);
        let entry = match policy.is_volatile() {
            true => dict.random_expiring(|| rng.next_u64()),
            false => dict.random(|| rng.next_u64()),
        };
        entry.map(|entry| (db, entry.key().to_vec()))
    }

    /// Looks at some more keys of every database.
    fn fill(&mut self, keyspace: &Keyspace, now: Now, config: &Config, rng: &mut Rng) {
        let (policy, samples) = (config.maxmemory_policy, config.maxmemory_samples as usize);
        for db in 0..keyspace.databases() {
            if evictable_of(keyspace, db, policy) == 0 {
                continue;
            }
            let dict = keyspace.db(db);
            let mut visit = |entry: EntryRef<'_>| {
                if let Some(score) = score(entry, now, config) {
                    self.offer(db, entry.key(), score);
                }
            };
            if policy.is_volatile() {
                for _ in 0..samples {
                    dict.random_expiring(|| rng.next_u64()).into_iter().for_each(&mut visit);
                }
            } else {
                dict.sample(samples, || rng.next_u64(), visit);
            }
        }
    }

    /// Takes a key in, if it is better than the worst, or there is room.
    fn offer(&mut self, db: usize, key: &[u8], score: u64) {
        let is_full = self.candidates.len() == POOL_MAX;
        if is_full && score <= self.candidates[0].score {
            return;
        }
        let at = self.candidates.partition_point(|candidate| candidate.score < score);
        let mut equal = self.candidates[at..].iter().take_while(|candidate| candidate.score == score);
        if equal.any(|candidate| candidate.db == db && candidate.key == key) {
            return;
        }
        self.candidates.insert(at, Candidate { db, key: key.to_vec(), score });
        if is_full {
            self.candidates.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entry::{Entry, Value};
    use crate::keyspace::HashSeeds;

    const NOW: Now = Now { unix_ms: 1_700_000_000_000, mono_ns: 0 };

    fn config(policy: Policy) -> Config {
        Config { maxmemory_policy: policy, ..Config::default() }
    }

    /// So many keys in each of two databases; `n` is number `n` by use, and every second one by expiry.
    fn keyspace(keys: u32, access_of: impl Fn(u32) -> u32) -> Keyspace {
        let mut keyspace = Keyspace::new(2, HashSeeds([1, 2, 3, 4]), NOW.unix_ms);
        for db in 0..2 {
            for n in 0..keys {
                let key = n.to_string().into_bytes();
                let expire = (n % 2 == 1).then_some(NOW.unix_ms + 1_000_000 - 1000 * i64::from(n));
                let hash = keyspace.hash(&key);
                keyspace.db_mut(db).insert(hash, Entry::new(&key, Value::Int(0), expire, access_of(n)));
            }
        }
        keyspace
    }

    fn by_idle(n: u32) -> u32 {
        access::of_idle(i64::from(n), NOW)
    }

    /// Removes so many keys as a policy wants: their numbers.
    fn evict(keyspace: &mut Keyspace, config: &Config, keys: usize) -> Vec<u32> {
        let (mut pool, mut rng) = (Pool::default(), Rng::new(1));
        (0..keys)
            .map_while(|_| {
                let (db, key, _) = pool.choose(keyspace, NOW, config, &mut rng)?;
                let hash = keyspace.hash(&key);
                keyspace.db_mut(db).remove(hash, &key).expect("what is chosen is there");
                std::str::from_utf8(&key).ok()?.parse().ok()
            })
            .collect()
    }

    /// The mean place of those that go among a thousand keys, from 0 for the best to 1 for the worst.
    #[track_caller]
    fn check_rank(policy: Policy, access_of: impl Fn(u32) -> u32, allowed: f64) {
        let mut keyspace = keyspace(1000, access_of);
        let evicted = evict(&mut keyspace, &config(policy), 200);
        assert_eq!(evicted.len(), 200);
        assert!(!policy.is_volatile() || evicted.iter().all(|n| n % 2 == 1), "{evicted:?}");
        let rank = evicted.iter().map(|&n| 1.0 - f64::from(n) / 1000.0).sum::<f64>() / 200.0;
        assert!(rank < allowed, "{rank}");
    }

    #[test]
    fn those_go_that_were_used_long_ago_or_seldom_or_expire_soon() {
        // A random choice would have 0.5, a perfect one 0.05 of all keys and 0.1 of the volatile ones.
        check_rank(Policy::AllKeysLru, by_idle, 0.13);
        check_rank(Policy::VolatileLru, by_idle, 0.2);
        check_rank(Policy::VolatileTtl, |_| 0, 0.2);
        let by_frequency = |n: u32| access::of_frequency(255 - (n / 4) as u8, NOW);
        check_rank(Policy::AllKeysLfu, by_frequency, 0.13);
        check_rank(Policy::VolatileLfu, by_frequency, 0.2);
    }

    #[test]
    fn more_samples_choose_better() {
        let rank = |samples| {
            let config = Config { maxmemory_samples: samples, ..config(Policy::AllKeysLru) };
            let evicted = evict(&mut keyspace(1000, by_idle), &config, 200);
            evicted.iter().map(|&n| 1000 - u64::from(n)).sum::<u64>()
        };
        let (one, five, thirty) = (rank(1), rank(5), rank(30));
        assert!(one > five && five > thirty, "{one} {five} {thirty}");
    }

    #[test]
    fn random_policies_take_from_all_databases_and_no_more_than_they_may() {
        for (policy, evictable_keys) in [(Policy::AllKeysRandom, 200), (Policy::VolatileRandom, 100)] {
            let mut keyspace = keyspace(100, by_idle);
            assert_eq!(evictable(&keyspace, policy), evictable_keys);
            evict(&mut keyspace, &config(policy), 50);
            assert_eq!([keyspace.db(0).len(), keyspace.db(1).len()], [75, 75]);
            assert_eq!(evict(&mut keyspace, &config(policy), 1000).len(), evictable_keys - 50);
        }
    }

    #[test]
    fn every_policy_ends_with_what_it_must_leave() {
        let left = |policy| {
            let mut keyspace = keyspace(100, by_idle);
            evict(&mut keyspace, &config(policy), 1000);
            keyspace.len()
        };
        assert_eq!([Policy::AllKeysLru, Policy::AllKeysLfu].map(left), [0, 0]);
        assert_eq!([Policy::VolatileLru, Policy::VolatileLfu, Policy::VolatileTtl].map(left), [100; 3]);
        assert_eq!(left(Policy::NoEviction), 200);
    }

    #[test]
    fn a_candidate_that_was_used_since_stays() {
        let keyspace = keyspace(10, by_idle);
        let (config, mut rng, mut pool) = (config(Policy::AllKeysLru), Rng::new(1), Pool::default());
        pool.offer(0, b"3", 1_000);
        pool.offer(0, b"gone", 2_000);
        let (_, key, _) = pool.choose(&keyspace, NOW, &config, &mut rng).expect("keys are there");
        assert!(key != b"gone");
        assert!(pool.candidates.iter().all(|candidate| candidate.score < 1000));
    }
}
