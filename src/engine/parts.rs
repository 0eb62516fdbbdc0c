//! Who makes room: how shards share out among them what is too much, so that the parts of memory follow use.
//!
//! Were all keys in one place, some would be looked at and the best of them go: a shard would lose keys as it has them. So
//! what a shard takes is owed by all, each as many keys as it has. A part that grows loses more, one that shrinks less: it
//! goes back to what it should be by itself, and no shard is held to the part that it began with.
//!
//! Where keys of one shard have clearly been left longer than those of all others, they go first. That must say something
//! of the keys and not of the part: under LFU the one that was evicted last is a new one wherever a part is small, as what
//! comes in is most of what it holds, and if that counted as left alone, it would shrink to nothing (with four shards of
//! even use that cost 6.4 points of 76 in the hit rate). So counters say something only below that of a new key.
//!
//! Of memory itself, and how keys are chosen, this file knows nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::base::ids::ShardId;
use crate::config::value::Policy;
use crate::keyspace::evict::SCORE_OF_NEW_LFU;

/// What nobody has just taken (`maxmemory` was lowered) is shared out so often.
const SHARING_INTERVAL_NS: u64 = 1_000_000;
/// Debts are dealt out by this many bytes; what is less is one shard's, which one is drawn.
const DEBT_BYTES: u64 = 4096;

/// Idle times that differ by less than this part of them say nothing: they are of samples.
const IDLE_MARGIN_DIVISOR: u64 = 8;
/// The same of logarithmic counters, and of expiry times in milliseconds.
const FREQUENCY_MARGIN: u64 = 1;
const EXPIRY_MARGIN_MS: u64 = 1000;

/// What all shards know of each other's evictions.
#[derive(Debug)]
pub struct Evictions {
    shards: Vec<Evictable>,
    /// Shards that have evicted keys and not told yet of which.
    untold: AtomicU32,
}

/// What a shard could evict.
#[derive(Debug, Default)]
struct Evictable {
    keys: AtomicU64,
    /// How gladly the next one would be removed, by the policy's score.
    score: AtomicU64,
    /// Bytes for which it owes room to all.
    owed: AtomicU64,
    /// What is about to be given back without that.
    leaving: AtomicU64,
}

impl Evictions {
    pub fn new(shards: usize) -> Evictions {
        Evictions { shards: (0..shards).map(|_| Evictable::default()).collect(), untold: AtomicU32::new(0) }
    }

    fn keys(&self) -> u64 {
        self.shards.iter().map(|of| of.keys.load(Relaxed)).sum()
    }

    fn owed(&self) -> u64 {
        self.shards.iter().map(|of| of.owed.load(Relaxed)).sum()
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

/// What a shard finds when it makes room.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    /// Bytes in use beyond what may be.
    pub bytes: u64,
    /// Those that it has taken itself since it made room last.
    pub grown: u64,
    /// So many may be used beyond the limit for a moment.
    pub slack: u64,
}

/// A shard's part in all this.
#[derive(Debug, Default)]
pub struct Parts {
    /// Nothing: it is alone.
    evictions: Option<(Arc<Evictions>, ShardId)>,
    policy: Option<Policy>,
    /// Keys that the other shards could evict at the last look.
    others_keys: u64,
    /// This shard is one of [`Evictions::untold`].
    is_untold: bool,
    /// When what nobody has just taken was shared out last, on the monotonic clock.
    shared_ns: u64,
}

impl Parts {
    pub fn configure(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    /// From now on the shards know of each other's evictions.
    pub fn share(&mut self, evictions: Arc<Evictions>, own: ShardId) {
        self.evictions = Some((evictions, own));
    }

    fn own(&self) -> Option<&Evictable> {
        self.evictions.as_ref().map(|(evictions, shard)| &evictions.shards[*shard])
    }

    fn others(&self) -> impl Iterator<Item = &Evictable> {
        let others = self.evictions.iter().flat_map(|(evictions, shard)| {
            let all = evictions.shards.iter().enumerate();
            all.filter(move |(other, _)| other != shard)
        });
        others.map(|(_, of)| of)
    }

    /// Tells the other shards how many keys this one may evict, and learns of theirs.
    pub fn tell_keys(&mut self, own: u64) {
        if let Some(shard) = self.own() {
            shard.keys.store(own, Relaxed);
        }
        self.others_keys = self.others().map(|of| of.keys.load(Relaxed)).sum();
    }

    pub fn others_can_evict(&self) -> bool {
        self.others_keys > 0
    }

    /// Tells the other shards how gladly the next key would be removed here.
    pub fn tell_score(&self, score: u64) {
        if let Some(own) = self.own() {
            own.score.store(score, Relaxed);
        }
    }

    /// Tells them how much this one is about to give back anyway.
    pub fn tell_leaving(&self, bytes: u64) {
        if let Some(own) = self.own() {
            own.leaving.store(bytes, Relaxed);
        }
    }

    pub fn others_leaving(&self) -> i64 {
        self.others().map(|of| of.leaving.load(Relaxed) as i64).sum()
    }

    /// Where the next key should go.
    pub fn standing(&self) -> Standing {
        let Some(own) = self.own() else { return Standing::Even };
        let is_lfu = self.policy.is_some_and(Policy::is_lfu);
        let least = if is_lfu { SCORE_OF_NEW_LFU } else { 0 };
        let score_of = |of: &Evictable| of.score.load(Relaxed).max(least);
        let own = score_of(own);
        let best = self.others().filter(|of| of.keys.load(Relaxed) > 0).map(score_of).max().unwrap_or(least);
        let margin = match self.policy {
            _ if is_lfu => FREQUENCY_MARGIN,
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

    /// How many bytes of what is too much this shard has to remove. `draw` is any number, equally likely.
    pub fn part_of(&mut self, excess: Excess, now_ns: u64, draw: u64) -> u64 {
        let owed = self.own().map_or(0, |own| own.owed.swap(0, Relaxed));
        let Excess { bytes, grown, slack } = excess;
        // What waits to be freed is to be freed, though there may be no keys.
        if bytes == 0 || !self.others_can_evict() {
            return bytes;
        }
        let grown = grown.min(bytes);
        match self.standing() {
            Standing::Coldest => bytes,
            Standing::Warmer if bytes <= slack => 0,
            Standing::Warmer => grown,
            Standing::Even => {
                let due = owed + self.deal_out(grown, draw);
                (due + self.part_of_rest(bytes.saturating_sub(due), now_ns, draw)).min(bytes)
            }
        }
    }

    /// Makes debts of so many bytes; how much of it is this shard's own.
    fn deal_out(&self, bytes: u64, draw: u64) -> u64 {
        let Some((evictions, own)) = &self.evictions else { return bytes };
        let all = evictions.keys();
        let part_of = |number: u64, keys: u64| (u128::from(number) * u128::from(keys) / u128::from(all.max(1))) as u64;
        // The key at this place among all is drawn.
        let mut place = ((u128::from(draw) * u128::from(all)) >> 64) as u64;
        let (mut left, mut drawn, mut kept) = (bytes, *own, 0);
        for (shard, of) in evictions.shards.iter().enumerate() {
            let keys = of.keys.load(Relaxed);
            if place < keys {
                drawn = shard;
            }
            // Beyond every number once it was drawn.
            place = place.checked_sub(keys).unwrap_or(u64::MAX);
            if bytes >= DEBT_BYTES {
                let debt = (part_of(bytes, keys) / DEBT_BYTES * DEBT_BYTES).min(left);
                left -= debt;
                if shard == *own {
                    kept += debt
                } else {
                    of.owed.fetch_add(debt, Relaxed);
                }
            }
        }
        if drawn == *own {
            return kept + left;
        }
        evictions.shards[drawn].owed.fetch_add(left, Relaxed);
        kept
    }

    /// This shard's part of what no shard owes, in steps of time. It pays by whole debts, or it is drawn for one: a key for
    /// every small part would be the same for a shard with few keys as for one with many.
    fn part_of_rest(&mut self, bytes: u64, now_ns: u64, draw: u64) -> u64 {
        let Some((evictions, own)) = &self.evictions else { return bytes };
        let rest = bytes.saturating_sub(evictions.owed());
        if rest == 0 || now_ns < self.shared_ns + SHARING_INTERVAL_NS {
            return 0;
        }
        self.shared_ns = now_ns;
        let (keys, all) = (evictions.shards[*own].keys.load(Relaxed), evictions.keys().max(1));
        let part = (u128::from(rest) * u128::from(keys) / u128::from(all)) as u64;
        let debt = rest.min(DEBT_BYTES);
        let drawn = ((u128::from(draw) * u128::from(debt)) >> 64) as u64;
        part / debt * debt + if drawn < part % debt { debt } else { 0 }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::base::rng::Rng;
    use crate::config::Config;
    use crate::data::entry::{Entry, Value};
    use crate::keyspace::evict::Pool;
    use crate::keyspace::{HashSeeds, Keyspace, access};

    fn parts(shards: usize, policy: Policy) -> Vec<Parts> {
        let evictions = Arc::new(Evictions::new(shards));
        let new = |shard| {
            let mut parts = Parts::default();
            parts.configure(policy);
            parts.share(evictions.clone(), shard);
            parts
        };
        (0..shards).map(new).collect()
    }

    #[test]
    fn shards_know_how_many_keys_the_others_may_evict() {
        let mut shards = parts(2, Policy::AllKeysLru);
        shards[0].tell_keys(5);
        assert!(!shards[0].others_can_evict());
        shards[1].tell_keys(0);
        assert!(shards[1].others_can_evict());
        shards[1].begin_eviction();
        shards[1].begin_eviction();
        assert_eq!([&shards[0], &shards[1]].map(Parts::others_are_evicting), [true, false]);
        shards[1].told_of_evicted();
        assert!(!shards[0].others_are_evicting());
        assert_eq!(Parts::default().standing(), Standing::Even);
    }

    #[test]
    fn the_shard_with_the_coldest_keys_is_known() {
        let told_by = |policy, scores: [u64; 3], keys: u64| {
            let mut shards = parts(3, policy);
            for (parts, score) in shards.iter_mut().zip(scores) {
                parts.tell_keys(keys);
                parts.tell_score(score);
            }
            [0, 1, 2].map(|shard: usize| shards[shard].standing())
        };
        use Standing::{Coldest, Even, Warmer};
        // Counters are logarithms; of those above a new key's none says that the others' keys are in use.
        assert_eq!(told_by(Policy::AllKeysLfu, [250, 249, 200], 1), [Even; 3]);
        assert_eq!(told_by(Policy::AllKeysLfu, [253, 252, 200], 1), [Even, Even, Warmer]);
        assert_eq!(told_by(Policy::AllKeysLfu, [252, 250, 0], 1), [Coldest, Warmer, Warmer]);
        // Times of expiry are counted from the end of all time.
        let soon = u64::MAX - 1_700_000_000_000;
        assert_eq!(told_by(Policy::VolatileTtl, [soon, soon - 500, soon - 60_000], 1), [Even, Even, Warmer]);
        let told = |scores, keys| told_by(Policy::AllKeysLru, scores, keys);
        assert_eq!(told([100, 50, 3], 1), [Coldest, Warmer, Warmer]);
        assert_eq!(told([100, 95, 3], 1), [Even, Even, Warmer]);
        assert_eq!(told([1, 0, 0], 1), [Even; 3]);
        assert_eq!(told([100, 50, 3], 0), [Coldest, Coldest, Coldest], "nobody else could");
    }

    #[test]
    fn what_one_takes_all_owe_as_they_have_keys() {
        let mut shards = parts(3, Policy::AllKeysLfu);
        shards.iter_mut().zip([100, 300, 0]).for_each(|(parts, keys)| parts.tell_keys(keys));
        shards.iter_mut().for_each(|parts| parts.tell_keys(parts.own().unwrap().keys.load(Relaxed)));
        let mut rng = Rng::new(1);
        let mut paid = [0; 3];
        for _ in 0..4000 {
            let excess = Excess { bytes: 1000, grown: 1000, slack: 0 };
            paid[2] += shards[2].part_of(excess, 0, rng.next_u64());
            for shard in [0, 1] {
                paid[shard] += shards[shard].part_of(Excess { grown: 0, ..excess }, 0, 0);
            }
        }
        assert_eq!((paid[2], paid[0] + paid[1]), (0, 4_000_000));
        assert!((900_000..1_100_000).contains(&paid[0]), "{paid:?}");
        // A large value is not owed by one of them.
        let excess = Excess { bytes: 40_000_000, grown: 40_000_000, slack: 0 };
        assert_eq!(shards[2].part_of(excess, 0, 0), 0);
        let debts = [0, 1].map(|shard: usize| shards[shard].part_of(Excess { grown: 0, ..excess }, 0, 0));
        assert!(debts[0].abs_diff(10_000_000) < 10_000 && debts[0] + debts[1] == 40_000_000, "{debts:?}");
        // When there is room, nothing is owed.
        assert_eq!(shards[2].part_of(excess, 0, 0), 0);
        assert_eq!(shards[1].part_of(Excess { bytes: 0, grown: 0, slack: 0 }, 0, 0), 0);
        assert_eq!(shards[1].part_of(Excess { grown: 0, ..excess }, 0, 0), 0);
    }

    #[test]
    fn what_nobody_has_taken_is_shared_out_in_steps_of_time() {
        let mut shards = parts(2, Policy::AllKeysRandom);
        for _ in 0..2 {
            shards.iter_mut().zip([100, 300]).for_each(|(parts, keys)| parts.tell_keys(keys));
        }
        let mut rng = Rng::new(1);
        let mut at = |bytes, now_ns| {
            let excess = Excess { bytes, grown: 0, slack: 0 };
            [0, 1].map(|shard: usize| shards[shard].part_of(excess, now_ns, rng.next_u64()))
        };
        assert_eq!(at(40_960_000, SHARING_INTERVAL_NS), [10_240_000, 30_720_000]);
        assert_eq!(at(1000, SHARING_INTERVAL_NS + 1), [0, 0]);
        // Of little, a shard takes all or nothing, as often as it should.
        let paid =
            (2..4002).map(|step| at(1000, step * SHARING_INTERVAL_NS)).fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
        assert!((900_000..1_100_000).contains(&paid[0]) && (2_900_000..3_100_000).contains(&paid[1]), "{paid:?}");
    }

    const KEYS_MAX: usize = 2000;
    const KEY_BYTES: u64 = 1000;

    /// A cache on several shards that are all as busy, one key a turn, whose memory is the number of its keys.
    struct Cache {
        shards: Vec<(Parts, Keyspace, Pool, u64)>,
        config: Config,
        rng: Rng,
    }

    impl Cache {
        fn new(shards: usize, policy: Policy) -> Cache {
            let new = |parts| (parts, Keyspace::new(1, HashSeeds([1, 2, 3, 4]), 0), Pool::default(), 0);
            let config = Config { maxmemory_policy: policy, ..Config::default() };
            Cache { shards: parts(shards, policy).into_iter().map(new).collect(), config, rng: Rng::new(1) }
        }

        fn lens(&self) -> Vec<usize> {
            self.shards.iter().map(|(_, keyspace, ..)| keyspace.len()).collect()
        }

        /// Asks for a key of a shard, which is there afterwards; whether it was.
        fn take(&mut self, shard: usize, key: u64, now: Now) -> bool {
            let (_, keyspace, _, settled) = &mut self.shards[shard];
            let key = key.to_string().into_bytes();
            let hash = keyspace.hash(&key);
            let found = keyspace.db(0).get(hash, &key);
            let hit = found.is_some();
            match found {
                Some(entry) => access::touch(entry, now, &self.config, &mut self.rng),
                None => {
                    *settled += 1;
                    let access = access::initial(now, &self.config);
                    keyspace.db_mut(0).insert(hash, Entry::new(&key, Value::Int(0), None, access));
                }
            }
            (0..self.shards.len()).for_each(|shard| self.make_room(shard, now));
            hit
        }

        fn make_room(&mut self, shard: usize, now: Now) {
            let keys: usize = self.lens().iter().sum();
            let (parts, keyspace, pool, grown) = &mut self.shards[shard];
            parts.tell_keys(keyspace.len() as u64);
            let bytes = keys.saturating_sub(KEYS_MAX) as u64 * KEY_BYTES;
            let excess = Excess { bytes, grown: std::mem::take(grown) * KEY_BYTES, slack: 20 * KEY_BYTES };
            let part = parts.part_of(excess, now.mono_ns, self.rng.next_u64());
            for _ in 0..part.div_ceil(KEY_BYTES) {
                let Some((_, key, score)) = pool.choose(keyspace, now, &self.config, &mut self.rng) else { return };
                parts.tell_score(score);
                let hash = keyspace.hash(&key);
                keyspace.db_mut(0).remove(hash, &key).expect("what is chosen is there");
            }
        }
    }

    /// The hit rate of so many shards under requests by Zipf's law, for some minutes: counters decay meanwhile.
    fn hit_rate(policy: Policy, shards: usize) -> (f64, Vec<usize>) {
        const KEYS: usize = 20_000;
        const REQUESTS: u64 = 100_000;
        let mut sums: Vec<f64> = (1..=KEYS).map(|rank| (rank as f64).powf(-0.99)).collect();
        (1..KEYS).for_each(|at| sums[at] += sums[at - 1]);
        let (mut cache, mut rng, mut hits) = (Cache::new(shards, policy), Rng::new(7), 0);
        for number in 0..REQUESTS {
            let drawn = rng.unit() * sums[KEYS - 1];
            let rank = sums.partition_point(|&sum| sum < drawn) as u64;
            let now = Now { unix_ms: 1_700_000_000_000 + 2 * number as i64, mono_ns: number * 2_000_000 };
            // Neighbours in rank lie on any shards.
            let shard = (rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % shards;
            hits += u64::from(cache.take(shard, rank, now) && number >= REQUESTS / 4);
        }
        (hits as f64 / (REQUESTS * 3 / 4) as f64, cache.lens())
    }

    #[track_caller]
    fn check_four_as_good_as_one(policy: Policy) {
        let ((one, _), (four, lens)) = (hit_rate(policy, 1), hit_rate(policy, 4));
        assert!((one - four).abs() < 0.01, "{policy:?}: {one} with one, {four} with {lens:?}");
        assert!(lens.iter().all(|&len| len > KEYS_MAX / 8), "{policy:?}: {lens:?}");
    }

    #[test]
    fn four_shards_keep_what_one_would() {
        for policy in [Policy::AllKeysLru, Policy::AllKeysLfu, Policy::AllKeysRandom] {
            check_four_as_good_as_one(policy);
        }
    }

    #[test]
    fn one_shard_comes_to_have_all_memory_if_it_needs_it() {
        for policy in [Policy::AllKeysLru, Policy::AllKeysLfu, Policy::AllKeysRandom] {
            let mut cache = Cache::new(4, policy);
            let now = |number: u64| Now { unix_ms: number as i64, mono_ns: number * 1_000_000 };
            for number in 0..2 * KEYS_MAX as u64 {
                cache.take(0, number, now(number));
            }
            assert_eq!(cache.lens(), [KEYS_MAX, 0, 0, 0], "{policy:?}");
            for number in 2 * KEYS_MAX as u64..8 * KEYS_MAX as u64 {
                cache.take(1, number, now(number));
            }
            let lens = cache.lens();
            assert!(lens[1] > KEYS_MAX * 9 / 10, "{policy:?}: {lens:?}");
        }
    }
}
