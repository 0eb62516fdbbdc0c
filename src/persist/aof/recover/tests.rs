use std::collections::BTreeSet;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::codec::aof::read::{Item, LogReader};
use crate::codec::aof::write::{self, Standing};
use crate::codec::aof::{CLOSED, Policy, TransactionId};
use crate::persist::aof::scan::scan;

const START: u64 = 0xabc;

/// A file as it would be if nothing were lost.
struct File {
    bytes: Vec<u8>,
    /// So much of it is on disk for good.
    synced: usize,
}

/// One write, in the order of all shards' writes.
struct Written {
    file: usize,
    from: usize,
    to: usize,
    /// What it does, each its number; of a transaction perhaps.
    effects: Vec<u64>,
    of: Option<TransactionId>,
    decides: Option<TransactionId>,
}

/// A server that logs, and what it has logged.
struct World {
    rng: Rng,
    policy: Policy,
    shards: usize,
    files: Vec<File>,
    history: Vec<Written>,
    /// By shard: the file being written, and the log's position.
    current: Vec<Option<usize>>,
    positions: Vec<u64>,
    generation: u64,
    next_effect: u64,
    rounds: u64,
    /// Transactions that are not decided yet.
    pending: Vec<TransactionId>,
    /// How much of the history the last synced round covers.
    covered: usize,
}

impl World {
    fn new(seed: u64, policy: Policy, shards: usize) -> World {
        World {
            rng: Rng::new(seed),
            policy,
            shards,
            files: Vec::new(),
            history: Vec::new(),
            current: vec![None; shards],
            positions: vec![0; shards],
            generation: 1,
            next_effect: 0,
            rounds: 0,
            pending: Vec::new(),
            covered: 0,
        }
    }

    fn new_file(&mut self, shard: Option<ShardId>) -> usize {
        let header = Header {
            generation: self.generation,
            shard,
            shards: self.shards,
            prefixes: 0,
            start: START,
            boot: "b".to_owned(),
            round: self.rounds,
            position: shard.map_or(0, |shard| self.positions[shard]),
        };
        let bytes = header.to_string().into_bytes();
        self.files.push(File { synced: bytes.len(), bytes });
        self.files.len() - 1
    }

    fn append(&mut self, shard: Option<ShardId>, mut group: Vec<u8>, round: Option<u64>) -> (usize, usize, usize) {
        let file = match shard {
            None => self.new_file(None),
            Some(shard) => match self.current[shard] {
                Some(file) => file,
                None => *self.current[shard].insert(self.files.len()),
            },
        };
        if file == self.files.len() {
            self.new_file(shard);
        }
        let position = shard.map_or(0, |shard| self.positions[shard]);
        let after = write::end_group(&mut group, Standing { position, durable: 0, policy: self.policy, round });
        if let Some(shard) = shard {
            self.positions[shard] = after;
        }
        let from = self.files[file].bytes.len();
        self.files[file].bytes.extend_from_slice(&group);
        (file, from, self.files[file].bytes.len())
    }

    fn write(&mut self, shard: Option<ShardId>, of: Option<TransactionId>, decides: Option<TransactionId>) {
        let mut group = Vec::new();
        let mut effects = Vec::new();
        if decides.is_none() {
            let count = 1 + self.rng.below(2);
            let mut part = Vec::new();
            for _ in 0..count {
                self.next_effect += 1;
                effects.push(self.next_effect);
                write::command(&mut part, &[b"SET", b"k", self.next_effect.to_string().as_bytes()]);
            }
            if let Some(id) = of {
                write::part(&mut group, id, effects.len());
            }
            group.extend_from_slice(&part);
        }
        if let Some(id) = decides {
            let parts = self.history.iter().filter(|written| written.of == Some(id)).count();
            write::decided(&mut group, id, parts as u64);
        }
        if shard.is_none() {
            write::positions(&mut group, &self.positions);
        }
        let (file, from, to) = self.append(shard, group, None);
        if self.policy == Policy::Always {
            self.files[file].synced = to;
        }
        self.history.push(Written { file, from, to, effects, of, decides });
        if shard.is_none() {
            // A record of the whole keyspace is listed when it is on disk, and all that is before it.
            self.files.iter_mut().for_each(|file| file.synced = file.bytes.len());
            self.covered = self.history.len();
        }
    }

    fn decide_all(&mut self) {
        for id in std::mem::take(&mut self.pending) {
            self.write(Some(id.coordinator), None, Some(id));
        }
    }

    fn step(&mut self) {
        let shard = self.rng.below(self.shards as u64) as ShardId;
        match self.rng.below(12) {
            0 => {
                self.decide_all();
                self.rounds += 1;
                for shard in (0..self.shards).filter(|&shard| self.current[shard].is_some()).collect::<Vec<_>>() {
                    let (file, from, to) = self.append(Some(shard), Vec::new(), Some(self.rounds));
                    self.history.push(Written { file, from, to, effects: Vec::new(), of: None, decides: None });
                }
                let is_synced = self.policy == Policy::EverySecond && self.rng.below(3) > 0;
                if self.policy == Policy::Always || is_synced {
                    self.files.iter_mut().for_each(|file| file.synced = file.bytes.len());
                    self.covered = self.history.len();
                }
            }
            1 if self.rng.below(3) == 0 => {
                self.decide_all();
                self.generation += 1;
                self.write(None, None, None);
                self.current.fill(None);
            }
            2 | 3 if self.shards > 1 => {
                self.next_effect += 1;
                let id = TransactionId { start: START, coordinator: shard, counter: self.next_effect };
                for part in 0..self.shards {
                    if self.rng.below(2) == 0 {
                        self.write(Some(part), Some(id), None);
                    }
                }
                self.pending.push(id);
            }
            4 if !self.pending.is_empty() => {
                let which = self.rng.below(self.pending.len() as u64) as usize;
                let id = self.pending.swap_remove(which);
                self.write(Some(id.coordinator), None, Some(id));
            }
            _ => self.write(Some(shard), None, None),
        }
    }

    /// What is there when so much of the history has happened.
    fn state(&self, moment: usize) -> BTreeSet<u64> {
        let past = &self.history[..moment];
        let decided: HashSet<TransactionId> = past.iter().filter_map(|written| written.decides).collect();
        let counts = |written: &&Written| written.of.is_none_or(|id| decided.contains(&id));
        past.iter().filter(counts).flat_map(|written| written.effects.iter().copied()).collect()
    }

    /// The files when the process has ended within the write that follows `moment`.
    fn after_process_crash(&mut self, moment: usize) -> Vec<Vec<u8>> {
        let mut files: Vec<Vec<u8>> = self.files.iter().map(|file| file.bytes.clone()).collect();
        for written in self.history[moment..].iter().rev() {
            files[written.file].truncate(written.from);
        }
        if let Some(written) = self.history.get(moment) {
            let torn = self.rng.below((written.to - written.from) as u64) as usize;
            let bytes = &self.files[written.file].bytes[written.from..written.from + torn];
            files[written.file].truncate(written.from);
            files[written.file].extend_from_slice(bytes);
        }
        files
    }

    fn after_power_loss(&mut self) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for file in &self.files {
            let lost = self.rng.below((file.bytes.len() - file.synced) as u64 + 1) as usize;
            let mut bytes = file.bytes[..file.bytes.len() - lost].to_vec();
            if lost > 0 && self.rng.below(2) == 0 {
                bytes.resize(bytes.len() + self.rng.below(lost as u64 + 1) as usize, 0);
            }
            files.push(bytes);
        }
        files
    }
}

fn scanned(files: &[Vec<u8>]) -> Vec<Scan> {
    files.iter().map(|bytes| scan(Cursor::new(bytes), bytes.len() as u64).expect("memory is read")).collect()
}

/// The effects in what counts.
fn recovered(files: &[Vec<u8>], decision: &Decision) -> BTreeSet<u64> {
    let mut effects = BTreeSet::new();
    for (bytes, verdict) in files.iter().zip(&decision.verdicts) {
        let kept = &bytes[..verdict.keep as usize];
        let mut reader = LogReader::new(kept, 0, kept.len() as u64);
        loop {
            let from = reader.offset();
            match reader.next_item().expect("what counts is whole") {
                None => break,
                Some(Item::Command(command)) if !verdict.skipped.iter().any(|part| part.bytes.contains(&from)) => {
                    let number = std::str::from_utf8(command.word(2).expect("SET k n")).expect("a number");
                    assert!(effects.insert(number.parse().expect("a number")), "twice");
                }
                Some(_) => {}
            }
        }
    }
    effects
}

fn world(seed: u64, policy: Policy) -> World {
    let mut rng = Rng::new(seed);
    let mut world = World::new(seed, policy, 1 + rng.below(4) as usize);
    for _ in 0..10 + rng.below(60) {
        world.step();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_a_crash_of_the_process_there_is_what_was_written(seed: u64, policy in 0..3, at: usize) {
        let policy = [Policy::Always, Policy::EverySecond, Policy::No][policy as usize];
        let mut world = world(seed, policy);
        let moment = at % (world.history.len() + 1);
        let files = world.after_process_crash(moment);
        let decision = decide(&scanned(&files), Crash::Process).expect("no damage");
        prop_assert_eq!(recovered(&files, &decision), world.state(moment));
    }

    #[test]
    fn after_a_power_loss_there_is_one_moment_behind_the_last_round(seed: u64) {
        let mut world = world(seed, Policy::EverySecond);
        let files = world.after_power_loss();
        let decision = decide(&scanned(&files), Crash::Power).expect("no damage");
        let found = recovered(&files, &decision);
        let moments = world.covered..=world.history.len();
        prop_assert!(moments.into_iter().any(|moment| world.state(moment) == found), "{:?} {:?}", found, decision.round);
    }

    #[test]
    fn after_a_power_loss_all_that_was_synced_one_by_one_is_there(seed: u64) {
        let mut world = world(seed, Policy::Always);
        let files = world.after_power_loss();
        let decision = decide(&scanned(&files), Crash::Power).expect("no damage");
        prop_assert_eq!(recovered(&files, &decision), world.state(world.history.len()));
    }

    #[test]
    fn transactions_are_whole_or_absent_whatever_is_lost(seed: u64) {
        let mut world = world(seed, Policy::No);
        let files = world.after_power_loss();
        let decision = decide(&scanned(&files), Crash::Power).expect("no damage");
        let found = recovered(&files, &decision);
        let ids: BTreeSet<TransactionId> = world.history.iter().filter_map(|written| written.of).collect();
        for id in ids {
            let parts = || world.history.iter().filter(|written| written.of == Some(id));
            let is_there = |written: &Written| written.effects.iter().all(|effect| found.contains(effect));
            prop_assert!(parts().all(is_there) || !parts().any(is_there));
        }
    }
}

fn header(generation: u64, shard: ShardId, position: u64) -> String {
    let (shard, boot) = (Some(shard), "b".to_owned());
    Header { generation, shard, shards: 2, prefixes: 0, start: START, boot, round: 0, position }.to_string()
}

fn segment(generation: u64, shard: ShardId, groups: &[&str]) -> Vec<u8> {
    let mut bytes = header(generation, shard, 0).into_bytes();
    let mut position = 0;
    for value in groups {
        let mut group = Vec::new();
        write::command(&mut group, &[b"SET", b"k", value.as_bytes()]);
        position =
            write::end_group(&mut group, Standing { position, durable: position, policy: Policy::Always, round: None });
        bytes.extend_from_slice(&group);
    }
    bytes
}

#[test]
fn a_bad_group_in_front_of_good_ones_is_damage() {
    let whole = segment(1, 0, &["1", "2", "3"]);
    let second = whole.len() - 60;
    let mut changed = whole.clone();
    changed[second] ^= 1;
    for crash in [Crash::Process, Crash::Power] {
        assert!(decide(&scanned(std::slice::from_ref(&whole)), crash).is_ok());
    }
    assert_eq!(decide(&scanned(&[changed.clone()]), Crash::Process), Err(Damage { file: 0, fault: Fault::Damaged }));
    // The first group was known to be durable when the third was written, and so the file may end behind it.
    let decision = decide(&scanned(&[changed]), Crash::Power).expect("the last group was not known to be durable");
    assert!(decision.verdicts[0].keep < second as u64);
}

#[test]
fn a_group_that_is_missing_between_two_files_is_damage() {
    let whole = segment(1, 0, &["1", "2"]);
    let later = String::from_utf8(segment(2, 0, &["1", "2", "3"])).expect("text");
    let third = later.rfind("*3").expect("three groups");
    let before = third - later.find('\n').expect("a line") - 1;
    let later = [&header(2, 0, before as u64), &later[third..]].concat().into_bytes();
    assert!(decide(&scanned(&[whole.clone(), later.clone()]), Crash::Process).is_ok());
    let short = segment(1, 0, &["1"]);
    let damage = Err(Damage { file: 1, fault: Fault::Damaged });
    assert_eq!(decide(&scanned(&[short.clone(), later.clone()]), Crash::Process), damage);
    assert_eq!(decide(&scanned(&[short, later]), Crash::Power), damage, "it was known to be durable");
}

#[test]
fn a_segment_that_has_lost_all_leaves_a_gap() {
    let lost = segment(1, 0, &[]);
    let mut later = header(2, 0, 90).into_bytes();
    let kept = later.len() as u64;
    let mut group = Vec::new();
    write::command(&mut group, &[b"SET", b"k", b"v"]);
    write::end_group(&mut group, Standing { position: 90, durable: 0, policy: Policy::EverySecond, round: Some(1) });
    later.extend_from_slice(&group);
    let alone = decide(&scanned(std::slice::from_ref(&later)), Crash::Power).expect("what was before is in a base");
    assert_eq!(alone.verdicts[0].keep, later.len() as u64);
    let decision = decide(&scanned(&[lost, later]), Crash::Power).expect("it was not known to be durable");
    assert_eq!(decision.verdicts[1].keep, kept);
}

#[test]
fn a_log_that_ended_well_goes_back_with_one_that_did_not() {
    let log = |shard: ShardId, rounds: &[u64]| {
        let mut bytes = segment(1, shard, &[]);
        let mut position = 0;
        for &round in rounds {
            let mut group = Vec::new();
            write::command(&mut group, &[b"SET", b"k", b"v"]);
            let standing = Standing { position, durable: 0, policy: Policy::EverySecond, round: Some(round) };
            position = write::end_group(&mut group, standing);
            bytes.extend_from_slice(&group);
        }
        bytes
    };
    let ended = |shard: ShardId| [&log(shard, &[1, 2])[..], CLOSED.as_bytes()].concat();
    let kept = |files: &[Vec<u8>]| -> Vec<u64> {
        let decision = decide(&scanned(files), Crash::Power).expect("nothing is damaged");
        decision.verdicts.iter().map(|verdict| verdict.keep).collect()
    };
    let lengths = |files: &[Vec<u8>]| -> Vec<u64> { files.iter().map(|file| file.len() as u64).collect() };
    let well = [ended(0), ended(1)];
    assert_eq!(kept(&well), lengths(&well));
    let before = [log(0, &[1]), log(1, &[1])];
    assert_eq!(kept(&[ended(0), log(1, &[1])]), lengths(&before));
    let appended = [[&ended(0)[..], b"*1\r\n$4\r\nPING\r\n"].concat(), ended(1)];
    assert_eq!(kept(&appended), lengths(&appended));
}

#[test]
fn a_round_counts_if_all_logs_have_its_line_though_only_one_is_in_the_next_generation() {
    let ends_round = |mut bytes: Vec<u8>| {
        let standing = Standing { position: 0, durable: 0, policy: Policy::EverySecond, round: Some(1) };
        let mut group = Vec::new();
        write::end_group(&mut group, standing);
        bytes.extend_from_slice(&group);
        bytes
    };
    let round = |files: &[Vec<u8>]| decide(&scanned(files), Crash::Power).expect("nothing is damaged").round;
    let (switched, behind) = (ends_round(segment(2, 0, &[])), segment(1, 1, &[]));
    assert_eq!(round(&[behind.clone(), switched.clone()]), None, "its line was lost");
    assert_eq!(round(&[ends_round(behind), switched]), Some(1));
}

#[test]
fn what_redis_wrote_may_end_early_only_in_the_last_file() {
    let mut first = Vec::new();
    write::command(&mut first, &[b"SET", b"k", b"1"]);
    let kept = first.len() as u64;
    write::command(&mut first, &[b"MULTI"]);
    write::command(&mut first, &[b"SET", b"k", b"2"]);
    let decision = decide(&scanned(&[first.clone()]), Crash::Process).expect("it ends within MULTI");
    assert_eq!(decision.verdicts[0].keep, kept);
    let damage = Damage { file: 0, fault: Fault::Truncated };
    let other = first[..kept as usize].to_vec();
    assert_eq!(decide(&scanned(&[first.clone(), other]), Crash::Process), Err(damage));
    assert!(decide(&scanned(&[first.clone(), Vec::new()]), Crash::Process).is_ok(), "nothing follows");
    write::command(&mut first, &[b"EXEC"]);
    assert_eq!(
        decide(&scanned(&[first.clone(), Vec::new()]), Crash::Process).map(|found| found.verdicts[0].keep),
        Ok(first.len() as u64)
    );
    first.extend_from_slice(b"!!!");
    assert_eq!(decide(&scanned(&[first]), Crash::Process), Err(Damage { file: 0, fault: Fault::Damaged }));
}
