//! A sorted set of a million members against what the standard library offers for the same: an ordered set of scores and
//! members, and a map from member to score. Members are sixteen random bytes, scores uniform.
//!
//! `cargo bench --bench zset` prints nanoseconds for each operation, and bytes for each member in the allocator's usable
//! sizes. The peer has no ranks: what needs them is left out there.

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::time::Instant;

use ahash::RandomState;
use peristyle::base::rng::Rng;
use peristyle::config::Config;
use peristyle::data::collection::Env;
use peristyle::data::zset::{ScoreBound, Zset};
use peristyle::sys::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MEMBERS: usize = 1_000_000;
const LOOKUPS: usize = 500_000;
const RANGE_LEN: usize = 10;

type Member = [u8; 16];

/// A score whose order is that of its bits: not negative.
type Bits = u64;

#[derive(Default)]
struct Peer {
    order: BTreeSet<(Bits, Box<Member>)>,
    scores: HashMap<Box<Member>, Bits, RandomState>,
}

impl Peer {
    fn add(&mut self, member: &Member, score: f64) {
        if let Some(old) = self.scores.insert(Box::new(*member), score.to_bits()) {
            self.order.remove(&(old, Box::new(*member)));
        }
        self.order.insert((score.to_bits(), Box::new(*member)));
    }
}

fn time(what: &str, count: usize, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    println!("{what:<44} {:>7.0} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

fn main() {
    let (config, mut own_rng, mut rng) = (Config::default(), Rng::new(1), Rng::new(2));
    let env = Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut own_rng, packed_threshold: 0 };
    let members: Vec<Member> =
        (0..MEMBERS).map(|_| (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).to_le_bytes()).collect();
    let scores: Vec<f64> = (0..2 * MEMBERS).map(|_| rng.unit()).collect();
    let (first, second) = scores.split_at(MEMBERS);

    let mut zset = Zset::default();
    time("add a member", MEMBERS, || {
        for (member, &score) in members.iter().zip(first) {
            zset.add(member, score, &env);
        }
    });
    println!("{:<44} {:>7} bytes", "  memory of a member", zset.usable_bytes(0) / MEMBERS);
    let mut peer = Peer::default();
    time("  peer", MEMBERS, || members.iter().zip(first).for_each(|(member, &score)| peer.add(member, score)));

    time("give a member another score", MEMBERS, || {
        for (member, &score) in members.iter().zip(second) {
            zset.add(member, score, &env);
        }
    });
    println!("{:<44} {:>7} bytes", "  memory of a member", zset.usable_bytes(0) / MEMBERS);
    time("  peer", MEMBERS, || members.iter().zip(second).for_each(|(member, &score)| peer.add(member, score)));

    let drawn: Vec<usize> = (0..LOOKUPS).map(|_| rng.below(MEMBERS as u64) as usize).collect();
    time("score of a member", LOOKUPS, || {
        drawn.iter().for_each(|&n| assert!(black_box(zset.score(&members[n])).is_some()));
    });
    time("  peer", LOOKUPS, || {
        drawn.iter().for_each(|&n| assert!(black_box(peer.scores.get(&members[n])).is_some()));
    });
    time("rank of a member", LOOKUPS, || {
        drawn.iter().for_each(|&n| assert!(black_box(zset.rank(&members[n])).is_some()));
    });
    time("ten members by rank", LOOKUPS, || {
        for &n in &drawn {
            black_box(zset.range(n..MEMBERS.min(n + RANGE_LEN)).count());
        }
    });
    time("count of a range of scores", LOOKUPS, || {
        for &n in &drawn {
            let (min, max) = (ScoreBound::included(first[n]), ScoreBound::included(second[n]));
            black_box(zset.ranks_of_scores(min, max));
        }
    });
    time("ten members by score", LOOKUPS, || {
        for &n in &drawn {
            let ranks = zset.ranks_of_scores(ScoreBound::included(first[n]), ScoreBound::included(f64::INFINITY));
            black_box(zset.range(ranks.start..ranks.end.min(ranks.start + RANGE_LEN)).count());
        }
    });
    time("  peer", LOOKUPS, || {
        for &n in &drawn {
            let from = (first[n].to_bits(), Box::new([0; 16]));
            black_box(peer.order.range(from..).take(RANGE_LEN).count());
        }
    });
    time("take the lowest member", MEMBERS, || {
        while zset.len() > 0 {
            black_box(zset.range(0..1).next());
            zset.remove_ranks(0..1);
        }
    });
    time("  peer", MEMBERS, || {
        while let Some((_, member)) = peer.order.pop_first() {
            peer.scores.remove(&member);
        }
    });
    let mut ascending = Zset::default();
    time("add a member behind all others", MEMBERS, || {
        for (n, member) in members.iter().enumerate() {
            ascending.add(member, n as f64, &env);
        }
    });
    println!("{:<44} {:>7} bytes", "  memory of a member", ascending.usable_bytes(0) / MEMBERS);
}
