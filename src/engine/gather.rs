//! Commands whose keys lie on several shards: which steps run where, in which rounds, and how they make one reply.
//!
//! A [`Job`] is a pure state machine: it names a round of steps, is handed their outcomes, and names the next round or
//! the reply; the core carries them. What works key by key (MGET, DEL) or on every shard (DBSIZE) has one round, whose
//! replies are merged. Everything else (RENAME, COPY, LCS, MSETNX) has two: the first fetches the entries of all keys
//! into a keyspace of the job's own, where the command runs unchanged, as if all keys lay on one shard; the second
//! stores what it changed. So no command has a second form for several shards.
//!
//! Some commands reach keys that the data names (SORT with BY or GET): there are rounds of fetching until a run finds
//! all that it looks for; what an earlier run did and answered is dropped. Each run finds out at least one key more, and
//! a handler whose keys come from keys it has read is through after as many runs as its reads are deep.
//!
//! The rounds are not isolated from other clients' commands yet: locks will be taken here before the first round and
//! released after the last.

use std::collections::HashSet;

use super::msg::{DbKey, Step, StepOutcome};
use super::route::SlotMap;
use crate::base::ids::ShardId;
use crate::base::limits::FETCH_KEYS_MAX;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::generic::copy_target_db;
use crate::command::keys::{self, keys_of};
use crate::command::spec::{Merge, Shape};
use crate::data::entry::Entry;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::skip;

/// Steps of one round: where each runs.
pub type Round = Vec<(ShardId, Step)>;

/// A command on its way through several shards.
pub struct Job {
    row: &'static KeyRow,
    db: usize,
    protocol: Protocol,
    words: Vec<Vec<u8>>,
    stage: Stage,
}

enum Stage {
    /// The replies merge: by shard of the round, which of the command's keys it has.
    Merging {
        merge: Merge,
        places: Vec<Vec<usize>>,
    },
    /// Entries arrive for these keys, by shard of the round.
    Fetching {
        keys: KeysByShard,
        copies: Box<Copies>,
    },
    Storing {
        reply: Vec<u8>,
    },
    /// RANDOMKEY: how many keys each shard has.
    Weighing,
    Drawing,
}

type KeysByShard = Vec<(ShardId, Vec<DbKey>)>;

/// What has been fetched for a command, and what is still wanted.
struct Copies {
    /// The job's own keyspace, from the first entries on.
    ctx: Option<ShardCtx>,
    /// Keys that the command may change.
    writes: Vec<DbKey>,
    /// Keys to be fetched in rounds to come.
    wanted: Vec<DbKey>,
    /// All keys asked for so far, if the command may look for more than its words name.
    known: Option<HashSet<DbKey>>,
}

/// What a key holds from now on.
type Change = (DbKey, Option<Entry>);

/// What a job wants next.
pub enum Next {
    Round(Round),
    Reply(Vec<u8>),
}

impl Job {
    /// The job of a command that cannot run on one shard, and its first round. `dbsize` is that command's row, by which
    /// RANDOMKEY weighs shards.
    pub fn start(
        row: &'static KeyRow,
        dbsize: &'static KeyRow,
        db: usize,
        protocol: Protocol,
        words: &[&[u8]],
        slots: &SlotMap,
    ) -> (Job, Round) {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let mut job = Job { row, db, protocol, words, stage: Stage::Drawing };
        let round = match row.spec.shape {
            Shape::EveryShard(Merge::OneByWeight) => {
                job.stage = Stage::Weighing;
                (0..slots.shards()).map(|shard| (shard, job.run(dbsize, vec![b"dbsize".to_vec()]))).collect()
            }
            Shape::EveryShard(merge) => {
                job.stage = Stage::Merging { merge, places: vec![Vec::new(); slots.shards()] };
                (0..slots.shards()).map(|shard| (shard, job.run(row, job.words.clone()))).collect()
            }
            Shape::PerKey(merge) if job.splits_evenly() => job.split(merge, slots),
            Shape::PerKey(_) | Shape::Here | Shape::OneShard | Shape::Gather | Shape::ByCursor => job.fetch(slots),
        };
        (job, round)
    }

    fn run(&self, row: &'static KeyRow, words: Vec<Vec<u8>>) -> Step {
        Step::Run { row, db: self.db, words, protocol: self.protocol }
    }

    pub fn words(&self) -> &[Vec<u8>] {
        &self.words
    }

    /// The indexes of the command's keys among its words.
    fn key_indexes(&self) -> Vec<(usize, keys::KeyFlags)> {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        keys_of(&self.row.spec, &words).iter().map(|key| (key.index as usize, key.flags)).collect()
    }

    /// Is each key followed by as many words as the first? If not, the command refuses, and has to see all its words.
    fn splits_evenly(&self) -> bool {
        let indexes = self.key_indexes();
        match indexes[..] {
            [(first, _), (second, _), ..] => (self.words.len() - first).is_multiple_of(second - first),
            _ => true,
        }
    }

    /// One command a shard, with the keys that live there (and what follows each, up to the next key).
    fn split(&mut self, merge: Merge, slots: &SlotMap) -> Round {
        let indexes = self.key_indexes();
        let width = indexes.get(1).map_or(self.words.len() - indexes[0].0, |next| next.0 - indexes[0].0);
        let mut parts: Vec<(ShardId, Vec<Vec<u8>>, Vec<usize>)> = Vec::new();
        for (place, &(index, _)) in indexes.iter().enumerate() {
            let shard = slots.shard_of(&self.words[index]);
            let part = match parts.iter().position(|part| part.0 == shard) {
                Some(part) => part,
                None => {
                    parts.push((shard, vec![self.words[0].clone()], Vec::new()));
                    parts.len() - 1
                }
            };
            parts[part].1.extend_from_slice(&self.words[index..index + width]);
            parts[part].2.push(place);
        }
        let mut places = Vec::new();
        let mut round = Vec::new();
        for (shard, words, part_places) in parts {
            places.push(part_places);
            round.push((shard, self.run(self.row, words)));
        }
        self.stage = Stage::Merging { merge, places };
        round
    }

    fn fetch(&mut self, slots: &SlotMap) -> Round {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let target_db = copy_target_db(&self.row.spec, &Args::new(&words), self.db);
        let reaches = self.row.spec.reaches.is_some_and(|reaches| reaches(&words));
        let (mut keys, mut writes) = (Vec::new(), Vec::new());
        for (index, flags) in self.key_indexes() {
            let write = !flags.has(keys::RO);
            let db = if write { target_db } else { self.db };
            let key = DbKey { db, key: self.words[index].clone() };
            if write {
                writes.push(key.clone());
            }
            keys.push(key);
        }
        let known = reaches.then(|| keys.iter().cloned().collect());
        self.fetch_keys(keys, Box::new(Copies { ctx: None, writes, wanted: Vec::new(), known }), slots)
    }

    fn fetch_keys(&mut self, keys: Vec<DbKey>, copies: Box<Copies>, slots: &SlotMap) -> Round {
        let mut by_shard: KeysByShard = Vec::new();
        for key in keys {
            let shard = slots.shard_of(&key.key);
            match by_shard.iter_mut().find(|(of, _)| *of == shard) {
                Some((_, keys)) => keys.push(key),
                None => by_shard.push((shard, vec![key])),
            }
        }
        let round = by_shard.iter().map(|(shard, keys)| (*shard, Step::Fetch { keys: keys.clone() })).collect();
        self.stage = Stage::Fetching { keys: by_shard, copies };
        round
    }

    /// The outcomes of the last round, in its order. `scratch` is a fresh shard of the job's own.
    pub fn advance(&mut self, outcomes: Vec<StepOutcome>, slots: &SlotMap, scratch: impl FnOnce() -> ShardCtx) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Drawing) {
            Stage::Merging { merge, places } => Next::Reply(self.merge(merge, &places, replies(outcomes))),
            Stage::Fetching { keys, copies } => self.run_here(keys, copies, outcomes, slots, scratch),
            Stage::Storing { reply } => Next::Reply(reply),
            Stage::Weighing => self.draw(&replies(outcomes), scratch()),
            Stage::Drawing => Next::Reply(replies(outcomes).swap_remove(0)),
        }
    }

    fn merge(&self, merge: Merge, places: &[Vec<usize>], replies: Vec<Vec<u8>>) -> Vec<u8> {
        if let Some(error) = replies.iter().find(|reply| reply.starts_with(b"-")) {
            return error.clone();
        }
        let mut merged = Vec::new();
        let mut reply = Reply::new(&mut merged, self.protocol);
        match merge {
            Merge::AllOk => reply.ok(),
            Merge::SumInteger => reply.integer(replies.iter().filter_map(|reply| skip::integer(reply)).sum()),
            Merge::ArrayInKeyOrder => {
                let mut elements: Vec<&[u8]> = vec![b""; places.iter().map(Vec::len).sum()];
                for (reply, places) in replies.iter().zip(places) {
                    for (element, &place) in skip::elements(reply).into_iter().flatten().zip(places) {
                        elements[place] = element;
                    }
                }
                reply.array(elements.len());
                elements.iter().for_each(|element| reply.raw(element));
            }
            Merge::ArrayConcatenated => {
                let elements: Vec<&[u8]> = replies.iter().filter_map(|reply| skip::elements(reply)).flatten().collect();
                reply.array(elements.len());
                elements.iter().for_each(|element| reply.raw(element));
            }
            Merge::OneByWeight => unreachable!("drawn, not merged"),
        }
        merged
    }

    /// Runs the command on copies of all its entries, and stores what it changed.
    fn run_here(
        &mut self,
        keys: KeysByShard,
        mut copies: Box<Copies>,
        outcomes: Vec<StepOutcome>,
        slots: &SlotMap,
        scratch: impl FnOnce() -> ShardCtx,
    ) -> Next {
        let ctx = copies.ctx.get_or_insert_with(scratch);
        for ((_, keys), outcome) in keys.into_iter().zip(outcomes) {
            let StepOutcome::Entries(entries) = outcome else { panic!("a fetch is answered with entries") };
            for (DbKey { db, key }, entry) in keys.into_iter().zip(entries) {
                if entry.is_some() {
                    ctx.db = db;
                    ctx.store_entry(&key, entry);
                }
            }
        }
        if copies.wanted.is_empty() {
            match self.attempt(&mut copies) {
                Some(reply) => return self.store(reply, *copies, slots),
                None => copies.wanted.reverse(),
            }
        }
        let batch = copies.wanted.split_off(copies.wanted.len().saturating_sub(FETCH_KEYS_MAX));
        Next::Round(self.fetch_keys(batch, copies, slots))
    }

    /// Runs the command on what is there. `None` if it looked for keys that have not been fetched: these are wanted now,
    /// and nothing has changed.
    fn attempt(&self, copies: &mut Copies) -> Option<Vec<u8>> {
        let Copies { ctx, writes, wanted, known } = copies;
        let ctx = ctx.as_mut().expect("entries have arrived");
        let entry_of = |ctx: &mut ShardCtx, key: &DbKey| {
            ctx.db = key.db;
            ctx.copy_entry(&key.key)
        };
        let mut before: Vec<Change> = Vec::new();
        if known.is_some() {
            before.extend(writes.iter().map(|key| (key.clone(), entry_of(ctx, key))));
            ctx.sought = Some(Vec::new());
        }
        ctx.db = self.db;
        ctx.journal.dirty = 0;
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, self.protocol);
        if let Err(error) = (self.row.run)(ctx, &Args::new(&words), &mut reply) {
            reply.truncate(0);
            reply.error(&error.text());
        }
        let sought = ctx.sought.take().unwrap_or_default();
        if let Some(known) = known {
            for (db, key) in sought {
                let key = DbKey { db, key };
                if known.insert(key.clone()) {
                    wanted.push(key);
                }
            }
        }
        if wanted.is_empty() {
            return Some(bytes);
        }
        for (DbKey { db, key }, entry) in before {
            ctx.db = db;
            ctx.store_entry(&key, entry);
        }
        None
    }

    fn store(&mut self, reply: Vec<u8>, copies: Copies, slots: &SlotMap) -> Next {
        let mut ctx = copies.ctx.expect("the command ran");
        if ctx.journal.dirty == 0 {
            return Next::Reply(reply);
        }
        let mut by_shard: Vec<(ShardId, Vec<Change>)> = Vec::new();
        for key in copies.writes {
            ctx.db = key.db;
            let change = (key.clone(), ctx.copy_entry(&key.key));
            let shard = slots.shard_of(&key.key);
            match by_shard.iter_mut().find(|(of, _)| *of == shard) {
                Some((_, changes)) => changes.push(change),
                None => by_shard.push((shard, vec![change])),
            }
        }
        self.stage = Stage::Storing { reply };
        Next::Round(by_shard.into_iter().map(|(shard, changes)| (shard, Step::Store { changes })).collect())
    }

    /// Asks one shard, with a chance in proportion to its keys.
    fn draw(&mut self, sizes: &[Vec<u8>], mut ctx: ShardCtx) -> Next {
        let sizes: Vec<u64> = sizes.iter().map(|size| skip::integer(size).unwrap_or(0) as u64).collect();
        let total: u64 = sizes.iter().sum();
        let mut draw = if total == 0 { 0 } else { ctx.rng.below(total) };
        let mut shard = 0;
        for (candidate, &size) in sizes.iter().enumerate() {
            if draw < size {
                shard = candidate;
                break;
            }
            draw -= size;
        }
        self.stage = Stage::Drawing;
        Next::Round(vec![(shard, self.run(self.row, self.words.clone()))])
    }
}

fn replies(outcomes: Vec<StepOutcome>) -> Vec<Vec<u8>> {
    let reply = |outcome| match outcome {
        StepOutcome::Reply(reply) => reply,
        other => panic!("a command is answered with a reply, not {other:?}"),
    };
    outcomes.into_iter().map(reply).collect()
}
