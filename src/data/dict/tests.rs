use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use proptest::prelude::*;

use super::super::entry::{TextRef, Value};
use super::expire::TICK_MS_LOG2;
use super::scan::below;
use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn dict() -> Dict {
    Dict::new([1, 2, 3, 4], NOW_MS)
}

fn key(n: u32) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

fn put(dict: &mut Dict, key: &[u8], n: i64, expire_at_ms: Option<i64>) {
    let hash = dict.hash(key);
    match dict.lookup(hash, key) {
        Lookup::Occupied(mut slot) => slot.update(|entry| entry.set_value_and_expire(Value::Int(n), expire_at_ms)),
        Lookup::Vacant(slot) => slot.insert(Entry::new(key, Value::Int(n), expire_at_ms, 0)),
    }
}

fn remove(dict: &mut Dict, key: &[u8]) -> Option<Entry> {
    dict.remove(dict.hash(key), key)
}

fn number(entry: EntryRef<'_>) -> i64 {
    let TextRef::Int(n) = entry.text() else { panic!("tests store integers") };
    n
}

/// A generator that is good enough for tests, and the same on every run.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[test]
fn a_table_that_must_not_shrink_does_so_afterwards() {
    let mut dict = dict();
    (0..10_000).for_each(|n| put(&mut dict, &key(n), n.into(), None));
    let places = dict.places();
    dict.set_shrinking(false);
    (10..10_000).for_each(|n| drop(remove(&mut dict, &key(n))));
    assert_eq!((dict.len(), dict.places()), (10, places));
    dict.set_shrinking(true);
    assert!(dict.places() < places / 100, "{} of {places}", dict.places());
    assert!((0..10).all(|n| dict.get(dict.hash(&key(n)), &key(n)).is_some()));
    dict.set_shrinking(false);
    (0..10).for_each(|n| drop(remove(&mut dict, &key(n))));
    dict.set_shrinking(true);
    assert_eq!((dict.len(), dict.places()), (0, 0));
}

/// Steps on ranges of keys, so that a short sequence grows, splits, shrinks and merges segments.
#[derive(Clone, Debug)]
enum Step {
    Put { from: u32, len: u32, value: i64, ttl_ms: Option<i64> },
    Remove { from: u32, len: u32 },
    Expire { from: u32, len: u32, ttl_ms: Option<i64> },
    Pass { ms: i64, slices_max: usize },
    Clear { entries: usize },
    Scan { calls: usize },
    BeginSnapshot,
    Save { entries: usize },
    AbortSnapshot,
}

const KEYS: u32 = 9_000;

fn step() -> impl Strategy<Value = Step> {
    let from = || 0..KEYS;
    let len = || prop_oneof![0..20u32, 0..5_000u32];
    let ttl_ms = || prop::option::of(prop_oneof![1..100i64, 1..20_000i64, Just(i64::MAX - NOW_MS)]);
    prop_oneof![
        6 => (from(), len(), any::<i64>(), ttl_ms())
            .prop_map(|(from, len, value, ttl_ms)| Step::Put { from, len, value, ttl_ms }),
        5 => (from(), len()).prop_map(|(from, len)| Step::Remove { from, len }),
        3 => (from(), len(), ttl_ms()).prop_map(|(from, len, ttl_ms)| Step::Expire { from, len, ttl_ms }),
        2 => (0..5_000i64, prop_oneof![1..5usize, Just(usize::MAX)])
            .prop_map(|(ms, slices_max)| Step::Pass { ms, slices_max }),
        1 => (0..3_000usize).prop_map(|entries| Step::Clear { entries }),
        3 => (0..60usize).prop_map(|calls| Step::Scan { calls }),
        2 => Just(Step::BeginSnapshot),
        3 => (0..2_000usize).prop_map(|entries| Step::Save { entries }),
        1 => Just(Step::AbortSnapshot),
    ]
}

/// The safe twin: the table as a map, with the scan and the snapshot that are under way.
struct Model {
    dict: Dict,
    now_ms: i64,
    map: BTreeMap<Vec<u8>, (i64, Option<i64>)>,
    scan: Option<ScanModel>,
    snapshot: Option<SnapshotModel>,
}

struct ScanModel {
    cursor: u64,
    /// What has been in the table since the scan began.
    owed: BTreeSet<Vec<u8>>,
}

struct SnapshotModel {
    /// What was in the table when the snapshot began, and is not saved.
    owed: BTreeMap<Vec<u8>, i64>,
    saved: mpsc::Receiver<(Vec<u8>, i64)>,
}

impl Model {
    fn new() -> Model {
        Model { dict: dict(), now_ms: NOW_MS, map: BTreeMap::new(), scan: None, snapshot: None }
    }

    fn run(&mut self, step: &Step) {
        let range = |from: u32, len: u32| (from..(from + len).min(KEYS)).map(key);
        match *step {
            Step::Put { from, len, value, ttl_ms } => {
                for key in range(from, len) {
                    let expire_at_ms = ttl_ms.map(|ttl_ms| self.now_ms.saturating_add(ttl_ms));
                    put(&mut self.dict, &key, value, expire_at_ms);
                    self.map.insert(key, (value, expire_at_ms));
                }
            }
            Step::Remove { from, len } => {
                for key in range(from, len) {
                    let removed = remove(&mut self.dict, &key).map(|entry| number(entry.as_ref()));
                    assert_eq!(removed, self.map.remove(&key).map(|(value, _)| value));
                    self.forget(&key);
                }
            }
            Step::Expire { from, len, ttl_ms } => {
                for key in range(from, len) {
                    let at_ms = ttl_ms.map(|ttl_ms| self.now_ms.saturating_add(ttl_ms));
                    let slot = self.dict.get_mut(self.dict.hash(&key), &key);
                    assert_eq!(slot.is_some(), self.map.contains_key(&key));
                    if let Some(mut slot) = slot {
                        slot.update(|entry| entry.set_expire(at_ms));
                        self.map.get_mut(&key).expect("just compared").1 = at_ms;
                    }
                }
            }
            Step::Pass { ms, slices_max } => {
                self.now_ms += ms;
                self.expire(slices_max);
            }
            Step::Clear { entries } => {
                let len = self.dict.len();
                let done = self.dict.clear_slice(entries);
                assert_eq!(self.dict.len(), len - entries.min(len));
                assert_eq!(done, self.dict.is_empty());
                let left: BTreeSet<_> = self.dict.iter().map(|entry| entry.key().to_vec()).collect();
                let gone: Vec<_> = self.map.keys().filter(|&key| !left.contains(key)).cloned().collect();
                for key in gone {
                    self.map.remove(&key);
                    self.forget(&key);
                }
            }
            Step::Scan { calls } => self.scan(calls),
            Step::BeginSnapshot => {
                let (save, saved) = mpsc::channel();
                self.dict.begin_snapshot(Box::new(move |entry, _| {
                    save.send((entry.key().to_vec(), number(entry.as_ref()))).expect("the model listens");
                    1
                }));
                let owed = self.map.iter().map(|(key, &(value, _))| (key.clone(), value)).collect();
                self.snapshot = Some(SnapshotModel { owed, saved });
            }
            Step::Save { entries } => {
                self.dict.snapshot_slice(entries);
            }
            Step::AbortSnapshot => {
                self.dict.abort_snapshot();
                self.snapshot = None;
            }
        }
        self.check_snapshot();
        self.check();
    }

    /// What was saved so far was as it had been at the cut; at the end all of that is saved.
    fn check_snapshot(&mut self) {
        let Some(snapshot) = &mut self.snapshot else { return };
        for (key, value) in snapshot.saved.try_iter() {
            assert_eq!(snapshot.owed.remove(&key), Some(value), "saved once, as it was at the cut");
        }
        if !self.dict.is_in_snapshot() {
            assert!(snapshot.owed.is_empty(), "the snapshot lacks {} keys", snapshot.owed.len());
            self.snapshot = None;
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(scan) = &mut self.scan {
            scan.owed.remove(key);
        }
    }

    fn expire(&mut self, slices_max: usize) {
        let mut expired = Vec::new();
        let mut complete = false;
        for _ in 0..slices_max {
            let slice = self.dict.expire_slice(
                self.now_ms,
                50,
                |entry| {
                    assert!(entry.expire_at_ms().is_some_and(|at_ms| at_ms < self.now_ms), "touched early");
                    true
                },
                |entry| expired.push(entry),
            );
            assert!(slice.expired <= 50);
            self.dict.assert_consistent();
            if !slice.more {
                complete = true;
                break;
            }
        }
        for entry in expired {
            let (_, expire_at_ms) = self.map.remove(entry.key()).expect("expired once");
            assert_eq!(entry.expire_at_ms(), expire_at_ms);
            self.forget(entry.key());
        }
        if !complete {
            return;
        }
        let due_ms = self.now_ms - (1 << TICK_MS_LOG2);
        for (key, (_, expire_at_ms)) in &self.map {
            assert!(expire_at_ms.is_none_or(|at_ms| at_ms >= due_ms), "{} was missed", key.escape_ascii());
        }
        if let Some(next_ms) = self.dict.next_expire_ms() {
            assert!(next_ms > self.now_ms, "nothing is due any more");
        }
    }

    fn scan(&mut self, calls: usize) {
        let map = &self.map;
        let scan = self.scan.get_or_insert_with(|| ScanModel { cursor: 0, owed: map.keys().cloned().collect() });
        for _ in 0..calls {
            scan.cursor = self.dict.scan(scan.cursor, 10, |entry| {
                assert!(map.contains_key(entry.key()));
                scan.owed.remove(entry.key());
            });
            assert!(scan.cursor < 1 << 42);
            if scan.cursor == 0 {
                assert!(scan.owed.is_empty(), "the scan missed {} keys", scan.owed.len());
                self.scan = None;
                return;
            }
        }
    }

    fn check(&self) {
        self.dict.assert_consistent();
        assert_eq!(self.dict.len(), self.map.len());
        let entries = self.dict.iter().map(|entry| (entry.key().to_vec(), (number(entry), entry.expire_at_ms())));
        assert!(entries.collect::<BTreeMap<_, _>>() == self.map);
        assert_eq!(
            self.dict.expires_len(),
            self.map.values().filter(|(_, expire_at_ms)| expire_at_ms.is_some()).count()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn table_behaves_like_a_map(steps in prop::collection::vec(step(), 0..40)) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
        }
        // Run scan and snapshot to their ends.
        while model.scan.is_some() {
            model.scan(100);
        }
        while model.snapshot.is_some() {
            model.run(&Step::Save { entries: 4_000 });
        }
    }
}

#[test]
fn an_empty_table_allocates_nothing_and_becomes_so_again() {
    let mut dict = dict();
    assert_eq!(dict.usable_bytes(), 0);
    for n in 0..20_000 {
        put(&mut dict, &key(n), 1, Some(NOW_MS + 1_000));
    }
    assert!(dict.usable_bytes() > 20_000 * 14);
    for n in 0..20_000 {
        assert!(remove(&mut dict, &key(n)).is_some());
    }
    assert_eq!((dict.len(), dict.usable_bytes()), (0, 0));
}

#[test]
fn memory_shrinks_with_the_number_of_keys() {
    let mut dict = dict();
    for n in 0..100_000 {
        put(&mut dict, &key(n), 1, None);
    }
    for n in 0..99_000 {
        remove(&mut dict, &key(n));
    }
    dict.assert_consistent();
    assert!(dict.usable_bytes() < 1_000 * 40, "{} bytes for 1000 keys", dict.usable_bytes());
}

/// P8: 16-byte keys, values uniform in 8..256.
#[test]
fn overhead_per_string_key_is_below_32_bytes() {
    let mut dict = dict();
    let mut random = random(8);
    let (mut entry_bytes, mut text_bytes, mut overheads) = (0, 0, Vec::new());
    let value = [b'v'; 256];
    for n in 0..1_000_000u32 {
        let key = key(n);
        let len = 8 + below(random(), 256 - 8);
        let entry = Entry::new(&key, Value::Text(&value[..len]), None, 0);
        entry_bytes += entry.usable_bytes();
        text_bytes += key.len() + len;
        dict.insert(dict.hash(&key), entry);
        let keys = n as usize + 1;
        if keys.is_multiple_of(10_000) {
            let per_key = |bytes: usize| bytes as f64 / keys as f64;
            let overhead = per_key(entry_bytes + dict.usable_bytes() - text_bytes);
            if matches!(keys, 100_000 | 300_000 | 700_000 | 1_000_000) {
                println!(
                    "{keys} keys: {overhead:.2} bytes of overhead each, {:.2} in the table",
                    per_key(dict.usable_bytes())
                );
                assert!(overhead <= 32.0);
            }
            overheads.push(overhead);
        }
    }
    assert!(dict.directory.words() <= 1_000_000 / 256, "{} words", dict.directory.words());
    let average = overheads.iter().sum::<f64>() / overheads.len() as f64;
    let worst = overheads.iter().copied().fold(0.0, f64::max);
    println!("average {average:.2}, at most {worst:.2}");
    assert!(average <= 32.0 && worst <= 33.0);
}

#[test]
fn a_ttl_costs_at_most_16_bytes() {
    let value = [b'v'; 100];
    for one_in in [1, 4, 32] {
        let bytes = |ttl: bool| {
            let mut dict = dict();
            let mut entries = 0;
            for n in 0..60_000u32 {
                let expire_at_ms = (ttl && n % one_in == 0).then_some(NOW_MS + i64::from(n));
                let entry = Entry::new(&key(n), Value::Text(&value[..8 + n as usize % 93]), expire_at_ms, 0);
                entries += entry.usable_bytes();
                dict.insert(dict.hash(&key(n)), entry);
            }
            entries + dict.usable_bytes()
        };
        let each = (bytes(true) - bytes(false)) as f64 / f64::from(60_000 / one_in);
        println!("a TTL on one key in {one_in}: {each:.2} bytes");
        assert!(each <= 16.0);
    }
}

#[test]
fn what_may_not_expire_now_stays_due_without_a_busy_loop() {
    let mut dict = dict();
    for n in 0..3_000 {
        put(&mut dict, &key(n), i64::from(n), Some(NOW_MS + 10));
    }
    let expire = |dict: &mut Dict, now_ms: i64, entries_max: usize| {
        dict.expire_slice(now_ms, entries_max, |entry| number(entry) != 7, drop)
    };
    assert_eq!(expire(&mut dict, NOW_MS + 10, 5_000), ExpireSlice { expired: 0, more: false });
    assert_eq!(dict.next_expire_ms(), Some(NOW_MS + 129));
    assert_eq!(expire(&mut dict, NOW_MS + 129, 1_000), ExpireSlice { expired: 1_000, more: true });
    let mut calls = 0;
    while expire(&mut dict, NOW_MS + 129, 1_000).more {
        calls += 1;
        assert!(calls < 10);
    }
    assert_eq!(dict.len(), 1);
    assert_eq!(dict.expire_slice(NOW_MS + 129, 1, |_| true, drop).expired, 1);
    assert_eq!(dict.usable_bytes(), 0);
}

#[test]
fn average_ttl_is_exact_to_a_tick() {
    let mut dict = dict();
    assert_eq!(dict.average_ttl_ms(NOW_MS), 0);
    for n in 0..100 {
        put(&mut dict, &key(n), 0, Some(NOW_MS + 1_000 * i64::from(n)));
        put(&mut dict, &key(1_000 + n), 0, None);
    }
    let average_ms = dict.average_ttl_ms(NOW_MS);
    assert!((49_500..49_500 + 2 * 128).contains(&average_ms), "{average_ms}");
}

#[test]
fn random_entries_are_about_equally_likely() {
    const LEN: u32 = 5_000;
    let mut dict = dict();
    for n in 0..LEN {
        put(&mut dict, &key(n), i64::from(n), (n % 3 == 0).then_some(NOW_MS + 1));
    }
    let mut random = random(5);
    let (mut any, mut expiring, mut sampled) = (vec![0u32; LEN as usize], vec![0u32; LEN as usize], BTreeSet::new());
    for _ in 0..LEN * 60 {
        any[number(dict.random(&mut random).expect("not empty")) as usize] += 1;
        expiring[number(dict.random_expiring(&mut random).expect("a third expires")) as usize] += 1;
        let mut visited = 0;
        dict.sample(5, &mut random, |entry| {
            sampled.insert(number(entry));
            visited += 1;
        });
        assert_eq!(visited, 5);
    }
    assert!(any.iter().all(|count| (15..150).contains(count)), "{:?}", (any.iter().min(), any.iter().max()));
    for (n, &count) in expiring.iter().enumerate() {
        assert!(if n % 3 == 0 { (60..400).contains(&count) } else { count == 0 }, "{n}: {count}");
    }
    assert_eq!(sampled.len(), LEN as usize);
}

#[test]
fn any_cursor_is_harmless() {
    let mut dict = dict();
    for n in 0..3_000 {
        put(&mut dict, &key(n), 0, None);
    }
    let mut random = random(6);
    for _ in 0..10_000 {
        let mut cursor = random();
        for _ in 0..3 {
            cursor = dict.scan(cursor, 3, |_| {});
        }
    }
}

#[test]
fn a_quiet_scan_visits_every_entry_once() {
    let mut dict = dict();
    for n in 0..30_000 {
        put(&mut dict, &key(n), i64::from(n), None);
    }
    let (mut cursor, mut visits) = (0, vec![0; 30_000]);
    loop {
        cursor = dict.scan(cursor, 10, |entry| visits[number(entry) as usize] += 1);
        if cursor == 0 {
            break;
        }
    }
    assert!(visits.iter().all(|&count| count == 1));
}

#[test]
fn a_taken_table_is_freed_in_slices() {
    let mut dict = dict();
    for n in 0..10_000 {
        put(&mut dict, &key(n), 0, None);
    }
    let mut taken = dict.take();
    assert_eq!((dict.len(), dict.usable_bytes(), taken.len()), (0, 0, 10_000));
    put(&mut dict, &key(1), 0, None);
    assert!(dict.get(dict.hash(&key(1)), &key(1)).is_some());
    let mut slices = 1;
    while !taken.clear_slice(100) {
        slices += 1;
    }
    assert_eq!((slices, taken.usable_bytes()), (100, 0));
}

#[test]
fn a_flood_of_equal_fingerprints_is_slow_and_right() {
    const LEN: u32 = 2_000;
    let fingerprint = Fingerprint::of(u64::MAX);
    let state = SnapshotState::all_saved(0);
    let mut segment = Segment::new(0, 0, 0, state);
    for n in 0..LEN {
        if segment.is_full() {
            let mut grown = Segment::new(0, 0, segment.len(), state);
            grown.absorb(&mut [&mut segment]);
            segment = grown;
        }
        segment.put(Slot::new(fingerprint, Entry::new(&key(n), Value::Int(0), None, 0).into_raw()));
    }
    assert!(segment.find(fingerprint, &key(LEN)).is_none());
    for n in 0..LEN {
        let at = segment.find(fingerprint, &key(n)).expect("it was put there");
        assert_eq!(segment.take(at).key(), key(n));
        assert!(segment.find(fingerprint, &key(n)).is_none());
    }
    assert_eq!(segment.len(), 0);
}

#[test]
fn churn_leaves_lookups_as_short_as_they_were() {
    const LEN: u32 = 20_000;
    let mut dict = dict();
    for n in 0..LEN {
        put(&mut dict, &key(n), 0, None);
    }
    let looked_at = |dict: &Dict, from: u32| {
        let buckets = (from..from + 10_000).map(|n| {
            let hash = dict.hash(&key(n));
            dict.directory.segment(hash).expect("not empty").probe_len(Fingerprint::of(hash))
        });
        buckets.sum::<usize>()
    };
    let fresh = looked_at(&dict, 10_000_000);
    for n in LEN..20 * LEN {
        remove(&mut dict, &key(n - LEN));
        put(&mut dict, &key(n), 0, None);
    }
    let churned = looked_at(&dict, 10_000_000);
    assert!(churned < fresh * 5 / 4, "10,000 misses look at {churned} buckets, at first {fresh}");
}

#[test]
fn a_table_with_room_for_what_comes_hardly_grows_and_gives_back_what_did_not_come() {
    for keys in [0, 500, 1023, 1024, 5000, 100_000] {
        let mut dict = dict();
        dict.reserve(keys as usize);
        let (places, count) = (dict.places(), keys as usize);
        (0..keys).for_each(|n| put(&mut dict, &key(n), n.into(), (n % 3 == 0).then_some(NOW_MS + 5000)));
        dict.assert_consistent();
        assert_eq!(dict.iter().count(), count);
        assert!(count < 1024 || dict.places() < places + places / 10, "{} of {places} for {keys}", dict.places());
        // It is no table without keys any more.
        let places = dict.places();
        dict.reserve(1_000_000);
        dict.give_back();
        assert!(keys == 0 || dict.places() == places);
        (100..keys).for_each(|n| drop(remove(&mut dict, &key(n))));
        dict.assert_consistent();
        let mut sparse = super::tests::dict();
        sparse.reserve(count);
        (0..keys.min(10)).for_each(|n| put(&mut sparse, &key(n), n.into(), None));
        sparse.give_back();
        sparse.assert_consistent();
        assert!(sparse.places() <= 40, "{} for {}", sparse.places(), sparse.len());
        assert!((0..keys.min(10)).all(|n| sparse.get(sparse.hash(&key(n)), &key(n)).is_some()));
    }
}
