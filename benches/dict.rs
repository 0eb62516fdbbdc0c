//! The keyspace table against `hashbrown`: 16-byte keys in random order, values uniform in 8..256, a million of them, so
//! that nearly every lookup misses the caches.
//!
//! `cargo bench --bench dict` runs the timings; `cargo bench --bench dict -- report` prints instead memory per key and
//! the longest single insertion and removal while a table grows to ten million keys and empties again.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ahash::RandomState;
use criterion::{BatchSize, Criterion, Throughput};
use hashbrown::HashMap;
use peristyle::data::dict::{Dict, Lookup};
use peristyle::data::entry::{Entry, TextRef, Value};
use peristyle::sys::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const KEYS: u64 = 1_000_000;
const SLICE_KEYS: u64 = 10_000_000;
const SLICE_RUNS: usize = 3;
const EXPIRE_SLICE: u64 = 500;
const VALUE: [u8; 256] = [b'v'; 256];

type Peer = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

fn mix(n: u64) -> u64 {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Sixteen bytes, different for every `n`.
fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut rest = n;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn value(n: u64) -> &'static [u8] {
    &VALUE[..8 + (mix(n) % 249) as usize]
}

fn empty_dict() -> Dict {
    Dict::new([1, 2, 3, 4], 0)
}

fn empty_peer() -> Peer {
    Peer::with_hasher(RandomState::with_seeds(1, 2, 3, 4))
}

fn put(dict: &mut Dict, n: u64, expire_at_ms: Option<i64>) {
    let key = key(n);
    let hash = dict.hash(&key);
    match dict.lookup(hash, &key) {
        Lookup::Occupied(mut slot) => slot.update(|entry| entry.set_value(Value::Text(value(n)))),
        Lookup::Vacant(slot) => slot.insert(Entry::new(&key, Value::Text(value(n)), expire_at_ms, 0)),
    }
}

fn put_peer(peer: &mut Peer, n: u64) {
    peer.insert(Box::new(key(n)), Box::from(value(n)));
}

fn filled_dict() -> Dict {
    let mut dict = empty_dict();
    (0..KEYS).for_each(|n| put(&mut dict, n, None));
    dict
}

fn filled_peer() -> Peer {
    let mut peer = empty_peer();
    (0..KEYS).for_each(|n| put_peer(&mut peer, n));
    peer
}

/// Random keys, made beforehand: what is measured begins with a key in a buffer.
fn keys(range: std::ops::Range<u64>) -> Vec<[u8; 16]> {
    (0..KEYS).map(|n| key(range.start + mix(n) % (range.end - range.start))).collect()
}

/// A hit copies the value, as a reply does.
fn get(dict: &Dict, hash: u64, key: &[u8], reply: &mut [u8; 256]) -> usize {
    dict.get(hash, key).map_or(0, |entry| match entry.text() {
        TextRef::Bytes(bytes) => {
            reply[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        }
        TextRef::Int(_) | TextRef::Shared(_) => unreachable!("all values here are short strings"),
    })
}

fn get_peer(peer: &Peer, key: &[u8], reply: &mut [u8; 256]) -> usize {
    peer.get(key).map_or(0, |value| {
        reply[..value.len()].copy_from_slice(value);
        value.len()
    })
}

/// Two passes over a batch, as a turn of the reactor makes them, and then the lookups.
fn get_batch(dict: &Dict, batch: &[[u8; 16]], reply: &mut [u8; 256]) -> usize {
    let mut hashes = [0; 16];
    for (hash, key) in hashes.iter_mut().zip(batch) {
        *hash = dict.hash(key);
        dict.prefetch_bucket(*hash);
    }
    for &hash in &hashes[..batch.len()] {
        dict.prefetch_entry(hash);
    }
    batch.iter().zip(hashes).map(|(key, hash)| get(dict, hash, key, reply)).sum()
}

/// One criterion iteration is one key of `keys`, in turn.
fn each_key(b: &mut criterion::Bencher<'_>, keys: &[[u8; 16]], mut run: impl FnMut(&[u8; 16]) -> usize) {
    let mut next = keys.iter().cycle();
    b.iter(|| black_box(run(next.next().expect("a cycle has no end"))));
}

fn each_batch(b: &mut criterion::Bencher<'_>, keys: &[[u8; 16]], len: usize, dict: &Dict) {
    b.iter_custom(|iterations| {
        let mut reply = [0; 256];
        let start = Instant::now();
        let mut left = iterations as usize;
        for batch in keys.chunks_exact(len).cycle() {
            black_box(get_batch(dict, batch, &mut reply));
            black_box(&reply);
            left = left.saturating_sub(len);
            if left == 0 {
                return start.elapsed();
            }
        }
        unreachable!("a cycle has no end")
    });
}

fn lookups(c: &mut Criterion) {
    let (dict, peer) = (filled_dict(), filled_peer());
    let (present, absent) = (keys(0..KEYS), keys(KEYS..2 * KEYS));
    let mut reply = [0; 256];
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    group.bench_function("hash of 16 bytes", |b| each_key(b, &present, |key| dict.hash(key) as usize));
    group.bench_function("hit", |b| each_key(b, &present, |key| get(&dict, dict.hash(key), key, &mut reply)));
    group.bench_function("hit, hashbrown", |b| each_key(b, &present, |key| get_peer(&peer, key, &mut reply)));
    for len in [4, 16] {
        group.bench_function(format!("hit, batch of {len}"), |b| each_batch(b, &present, len, &dict));
    }
    group.bench_function("miss", |b| each_key(b, &absent, |key| get(&dict, dict.hash(key), key, &mut reply)));
    group.bench_function("miss, hashbrown", |b| each_key(b, &absent, |key| get_peer(&peer, key, &mut reply)));
    group.bench_function("miss, batch of 16", |b| each_batch(b, &absent, 16, &dict));
    group.finish();
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("a million");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10).measurement_time(Duration::from_secs(4));
    let fill = |mut dict: Dict, ttl: bool| {
        (0..KEYS).for_each(|n| put(&mut dict, n, ttl.then(|| 1 + (mix(n) % 3_600_000) as i64)));
        dict
    };
    group.bench_function("insert", |b| b.iter_batched(empty_dict, |dict| fill(dict, false), BatchSize::PerIteration));
    group.bench_function("insert with a TTL", |b| {
        b.iter_batched(empty_dict, |dict| fill(dict, true), BatchSize::PerIteration)
    });
    group.bench_function("insert, hashbrown", |b| {
        let fill = |mut peer: Peer| {
            (0..KEYS).for_each(|n| put_peer(&mut peer, n));
            peer
        };
        b.iter_batched(empty_peer, fill, BatchSize::PerIteration)
    });
    group.bench_function("set, of the same size", |b| {
        let mut dict = filled_dict();
        let order = keys(0..KEYS);
        b.iter(|| {
            for key in &order {
                let slot = dict.get_mut(dict.hash(key), key);
                slot.expect("present").update(|entry| {
                    let TextRef::Bytes(bytes) = entry.as_ref().text() else { unreachable!("a string") };
                    let len = bytes.len();
                    entry.set_value(Value::Text(&VALUE[..len]));
                });
            }
        });
    });
    group.bench_function("remove", |b| {
        let remove = |mut dict: Dict| {
            for n in 0..KEYS {
                let key = key(n);
                dict.remove(dict.hash(&key), &key);
            }
            dict
        };
        b.iter_batched(filled_dict, remove, BatchSize::PerIteration)
    });
    group.bench_function("remove, hashbrown", |b| {
        let remove = |mut peer: Peer| {
            for n in 0..KEYS {
                peer.remove(&key(n)[..]);
            }
            peer
        };
        b.iter_batched(filled_peer, remove, BatchSize::PerIteration)
    });
    group.bench_function("expire all at once", |b| {
        let expire = |mut dict: Dict| {
            while dict.expire_slice(10_000_000, 1_000, |_| true, drop).more {}
            assert!(dict.is_empty());
            dict
        };
        b.iter_batched(|| fill(empty_dict(), true), expire, BatchSize::PerIteration)
    });
    group.finish();
}

/// CPU time of this thread: what the rest of the machine does is not our slice.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and `time` is writable.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "read the thread's CPU clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The CPU time of each step of a run, kept as the least over several equal runs: what a step costs, without what the
/// machine happened to do to it.
#[derive(Default)]
struct Slices {
    nanoseconds: Vec<u32>,
}

impl Slices {
    fn run(&mut self, steps: u64, mut step: impl FnMut(u64)) {
        self.nanoseconds.resize(steps as usize, u32::MAX);
        let mut before = cpu_time();
        for (n, least) in self.nanoseconds.iter_mut().enumerate() {
            step(n as u64);
            let after = cpu_time();
            *least = (*least).min((after - before).as_nanos() as u32);
            before = after;
        }
    }

    fn print(&mut self, what: &str) {
        let average = self.nanoseconds.iter().map(|&n| u64::from(n)).sum::<u64>() / self.nanoseconds.len() as u64;
        self.nanoseconds.sort_unstable_by(|a, b| b.cmp(a));
        let longest: Vec<_> = [0, 1, 2, 10, 100, 1_000, 10_000]
            .into_iter()
            .filter_map(|rank| self.nanoseconds.get(rank).map(|&n| format!("{:.1}", f64::from(n) / 1e3)))
            .collect();
        println!(
            "{what}: {average} ns on average with the clock; µs of the longest, 2nd, 3rd, 11th, 101st ...: {}",
            longest.join(", ")
        );
    }
}

fn report() {
    for keys in [1_000u64, 10_000, 100_000, 300_000, 700_000, 1_000_000] {
        let mut dict = empty_dict();
        let mut content = 0;
        for n in 0..keys {
            put(&mut dict, n, None);
            content += 16 + value(n).len();
        }
        let entries: usize = dict.iter().map(|entry| entry.usable_bytes(0)).sum();
        let each = |bytes: usize| bytes as f64 / keys as f64;
        let (table, overhead) = (each(dict.usable_bytes()), each(entries + dict.usable_bytes() - content));
        println!("{keys} keys: {overhead:.2} bytes of overhead each, {table:.2} of them in the table");
    }
    let [mut insert, mut remove, mut insert_expiring, mut expire] = [(); 4].map(|()| Slices::default());
    for _ in 0..SLICE_RUNS {
        let mut dict = empty_dict();
        insert.run(SLICE_KEYS, |n| put(&mut dict, n, None));
        remove.run(SLICE_KEYS, |n| {
            let key = key(n);
            dict.remove(dict.hash(&key), &key);
        });
        assert_eq!(dict.usable_bytes(), 0);
        insert_expiring.run(SLICE_KEYS, |n| put(&mut dict, n, Some(1 + (mix(n) % 1_000) as i64)));
        expire.run(SLICE_KEYS / EXPIRE_SLICE + 10, |_| {
            dict.expire_slice(2_000, EXPIRE_SLICE as usize, |_| true, drop);
        });
        assert!(dict.is_empty());
    }
    insert.print("insert to 10 M");
    remove.print("remove to nothing");
    insert_expiring.print("insert to 10 M, with a TTL");
    expire.print("expire in slices of 500");
}

fn main() {
    if std::env::args().any(|argument| argument == "report") {
        report();
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    lookups(&mut criterion);
    writes(&mut criterion);
    criterion.final_summary();
}
