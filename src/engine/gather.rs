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
//! Commands that work key by key come here only where they cannot go in one hop (`super::hop`): inside scripts and EXECs.
//!
//! A job is a transaction. It opens with locks on all of its keys, shared or exclusive: its first round's steps travel with
//! the request for them, and read at most. What comes after the last lock is granted happens as far as everybody else can
//! tell: so a job that computes nothing from what several shards say (MSET, and what stores the copies it computed) does
//! not wait for its last round.

use std::collections::{BTreeMap, HashSet};

use super::block::{Blocked, Waiter};
use super::lock::{LockSet, Mode, locked_keys, whole_mode};
use super::msg::{DbKey, Step, StepOutcome};
use crate::base::ids::ShardId;
use crate::base::limits::FETCH_KEYS_MAX;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::effect;
use crate::command::events::Event;
use crate::command::generic::copy_target_db;
use crate::command::keys::{self, keys_of, without_keys};
use crate::command::spec::{Merge, Shape, WRITE};
use crate::command::wait::Wait;
use crate::data::entry::Entry;
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::skip;

/// Steps of one round, by ascending shard; their outcomes come in the same order.
pub type Round = Vec<(ShardId, Step)>;

/// One shard's part in the first round: what to lock there, and what to do then.
pub struct Part {
    pub shard: ShardId,
    pub locks: LockSet,
    pub step: Step,
}

/// All shards, each as a whole. `step` makes what to do then.
pub fn whole_shards(slots: &SlotMap, mode: Mode, step: fn() -> Step) -> Vec<Part> {
    (0..slots.shards()).map(|shard| Part { shard, locks: LockSet::whole(mode), step: step() }).collect()
}

/// A command on its way through several shards.
pub struct Job {
    row: &'static KeyRow,
    db: usize,
    protocol: Protocol,
    words: Vec<Vec<u8>>,
    /// The shard of all keys, for a command that is a job only because it may wait.
    home: Option<ShardId>,
    /// Who waits if it finds nothing.
    waiter: Option<Waiter>,
    stage: Stage,
}

enum Stage {
    Opening,
    /// Locks are taken before these steps run: what changes something cannot be undone.
    Locking {
        round: Round,
        then: Box<Stage>,
    },
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
    /// Which keys exist; by shard of the round, which of the command's keys it has.
    Probing {
        places: Vec<Vec<usize>>,
    },
    /// No key exists, but the command may have errors to report before it waits.
    Trying,
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

/// What a shard stores for a job, and tells of its keys.
struct StorePart {
    shard: ShardId,
    changes: Vec<Change>,
    events: Vec<(DbKey, &'static str)>,
}

/// What a job wants next.
pub enum Next {
    /// The locks stay.
    Round(Round),
    /// The locks end with these steps. A reply that is there is right as it is; without one, the outcomes make it.
    Last { round: Round, reply: Option<Vec<u8>> },
    /// The core runs this command for a script.
    Keyless { words: Vec<Vec<u8>>, protocol: Protocol },
    /// Nothing yet: it goes on in the next turn.
    Pause,
    /// The locks are no longer needed.
    Reply(Vec<u8>),
    /// The client waits at these shards; the locks end with the steps that tell them, if they do not know. Having waited in
    /// vain it gets this reply.
    Wait { round: Round, shards: Vec<ShardId>, timeout_ms: Option<i64>, reply: Vec<u8> },
}

impl Job {
    /// The job of a command that cannot run on one shard.
    pub fn new(row: &'static KeyRow, db: usize, protocol: Protocol, words: Vec<Vec<u8>>) -> Job {
        Job { row, db, protocol, words, home: None, waiter: None, stage: Stage::Opening }
    }

    /// The job of a command that may wait. `home`: the shard of all of its keys, if it is one.
    pub fn waiting(self, waiter: Waiter, home: Option<ShardId>) -> Job {
        Job { home, waiter: Some(waiter), ..self }
    }

    /// The first round is all there is to do.
    pub fn ends_with_opening(&self) -> bool {
        self.home.is_some()
    }

    /// The first round, by ascending shard, with its locks. Asked for again when some were refused. `dbsize` is that
    /// command's row, by which RANDOMKEY weighs shards.
    pub fn open(&mut self, dbsize: &'static KeyRow, slots: &SlotMap) -> Vec<Part> {
        if let Some(shard) = self.home {
            let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
            let locks = LockSet::of_command(&self.row.spec, &words);
            self.stage = Stage::Trying;
            let (row, db, words, protocol) = (self.row, self.db, self.words.clone(), self.protocol);
            let step = Step::Run { row, db, words, protocol, waiter: self.waiter.clone(), script: None };
            return vec![Part { shard, locks, step }];
        }
        let mut parts = self.locks(slots);
        for (shard, step) in self.first_round(dbsize, slots) {
            parts.iter_mut().find(|part| part.shard == shard).expect("locked where it runs").step = step;
        }
        parts
    }

    /// What to lock where, by ascending shard.
    pub fn locks(&self, slots: &SlotMap) -> Vec<Part> {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let part = |shard, locks| Part { shard, locks, step: Step::Nothing };
        if let Some(mode) = whole_mode(&self.row.spec, &words) {
            return whole_shards(slots, mode, || Step::Nothing);
        }
        let mut parts: Vec<Part> = Vec::new();
        for (key, mode) in locked_keys(&self.row.spec, &words) {
            let shard = slots.shard_of(key);
            let at = match parts.binary_search_by_key(&shard, |part| part.shard) {
                Ok(at) => at,
                Err(at) => {
                    parts.insert(at, part(shard, LockSet::default()));
                    at
                }
            };
            parts[at].locks.add(key, mode);
        }
        parts
    }

    /// The first round without locks: inside a transaction that has them.
    pub fn first_round(&mut self, dbsize: &'static KeyRow, slots: &SlotMap) -> Round {
        let round = match self.row.spec.shape {
            Shape::EveryShard(Merge::OneByWeight) => {
                self.stage = Stage::Weighing;
                (0..slots.shards()).map(|shard| (shard, self.run(dbsize, vec![b"dbsize".to_vec()]))).collect()
            }
            Shape::EveryShard(merge) => {
                self.stage = Stage::Merging { merge, places: vec![Vec::new(); slots.shards()] };
                (0..slots.shards()).map(|shard| (shard, self.run(self.row, self.words.clone()))).collect()
            }
            Shape::PerKey(merge) if self.splits_evenly() => self.split(merge, slots),
            Shape::FirstOf => return self.probe(slots),
            Shape::PerKey(_) | Shape::Here | Shape::OneShard | Shape::Gather | Shape::ByCursor => {
                return self.fetch(slots);
            }
        };
        if !self.row.spec.flags.has(WRITE) {
            return round;
        }
        let shards: Vec<ShardId> = round.iter().map(|(shard, _)| *shard).collect();
        let then = Box::new(std::mem::replace(&mut self.stage, Stage::Opening));
        self.stage = Stage::Locking { round, then };
        shards.into_iter().map(|shard| (shard, Step::Nothing)).collect()
    }

    fn run(&self, row: &'static KeyRow, words: Vec<Vec<u8>>) -> Step {
        Step::Run { row, db: self.db, words, protocol: self.protocol, waiter: None, script: None }
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
        parts.sort_unstable_by_key(|part| part.0);
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
        by_shard.sort_unstable_by_key(|(shard, _)| *shard);
        let round = by_shard.iter().map(|(shard, keys)| (*shard, Step::Fetch { keys: keys.clone() })).collect();
        self.stage = Stage::Fetching { keys: by_shard, copies };
        round
    }

    /// The outcomes of the last round, in its order. `scratch` is a fresh shard of the job's own.
    pub fn advance(&mut self, outcomes: Vec<StepOutcome>, slots: &SlotMap, scratch: impl FnOnce() -> ShardCtx) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Opening) {
            Stage::Opening => unreachable!("a job is opened before it goes on"),
            Stage::Locking { round, then } => {
                let reply = match *then {
                    // Nothing that the shards could say would make another reply.
                    Stage::Merging { merge: Merge::AllOk, .. } if self.cannot_fail() => Some(b"+OK\r\n".to_vec()),
                    _ => None,
                };
                self.stage = *then;
                Next::Last { round, reply }
            }
            Stage::Merging { merge, places } => Next::Reply(self.merge(merge, &places, replies(outcomes))),
            Stage::Fetching { keys, copies } => self.run_here(keys, copies, outcomes, slots, scratch),
            Stage::Probing { places } => self.take_first(&places, outcomes, slots),
            Stage::Trying => match outcomes.into_iter().next() {
                Some(StepOutcome::Waits { reply, wait }) => self.wait(reply, wait, slots),
                outcome => Next::Reply(replies(outcome.into_iter().collect()).swap_remove(0)),
            },
            Stage::Weighing => self.draw(&replies(outcomes), scratch()),
            Stage::Drawing => Next::Reply(replies(outcomes).swap_remove(0)),
        }
    }

    /// The command has no options that could be wrong: those of FLUSHALL and SWAPDB are looked at where they run.
    fn cannot_fail(&self) -> bool {
        matches!(self.row.spec.shape, Shape::PerKey(_))
    }

    /// Asks which keys exist.
    fn probe(&mut self, slots: &SlotMap) -> Round {
        let mut by_shard: BTreeMap<ShardId, (Vec<usize>, Vec<Vec<u8>>)> = BTreeMap::new();
        for (place, (index, _)) in self.key_indexes().into_iter().enumerate() {
            let (places, keys) = by_shard.entry(slots.shard_of(&self.words[index])).or_default();
            places.push(place);
            keys.push(self.words[index].clone());
        }
        let (mut all_places, mut round) = (Vec::new(), Round::new());
        for (shard, (places, keys)) in by_shard {
            all_places.push(places);
            round.push((shard, Step::Probe { db: self.db, keys }));
        }
        self.stage = Stage::Probing { places: all_places };
        round
    }

    /// Runs the command on the first of its keys that exists, or on the first at all.
    fn take_first(&mut self, places: &[Vec<usize>], outcomes: Vec<StepOutcome>, slots: &SlotMap) -> Next {
        let mut first: Option<usize> = None;
        for (places, outcome) in places.iter().zip(outcomes) {
            let StepOutcome::Present(present) = outcome else { panic!("a probe tells which keys exist") };
            for (&place, _) in places.iter().zip(present).filter(|(_, is_there)| *is_there) {
                first = Some(first.map_or(place, |first| first.min(place)));
            }
        }
        let chosen = first.unwrap_or(0);
        let shard = slots.shard_of(&self.words[self.key_indexes()[chosen].0]);
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        let round = vec![(shard, self.run(self.row, without_keys(&self.row.spec, &words, |place| place == chosen)))];
        if first.is_some() {
            self.stage = Stage::Drawing;
            return Next::Last { round, reply: None };
        }
        self.stage = Stage::Trying;
        Next::Round(round)
    }

    /// The command found nothing: the client waits where the keys are that it accesses, if it may.
    fn wait(&mut self, reply: Vec<u8>, wait: Wait, slots: &SlotMap) -> Next {
        let Some(waiter) = self.waiter.clone() else { return Next::Reply(reply) };
        let timeout_ms = wait.timeout_ms;
        if let Some(home) = self.home {
            return Next::Wait { round: Round::new(), shards: vec![home], timeout_ms, reply };
        }
        let words = wait.words.as_ref().unwrap_or(&self.words);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let keys = self.key_indexes();
        let is_woken = keys.iter().any(|(_, flags)| !flags.has(keys::ACCESS));
        let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (place, (index, _)) in keys.iter().enumerate().filter(|(_, (_, flags))| flags.has(keys::ACCESS)) {
            by_shard.entry(slots.shard_of(words[*index])).or_default().push(place);
        }
        let block = |places: Vec<usize>| Blocked {
            waiter: waiter.clone(),
            row: self.row,
            db: self.db,
            words: without_keys(&self.row.spec, &words, |place| is_woken || places.contains(&place)),
            keys: places.iter().map(|&place| words[keys[place].0].to_vec()).collect(),
            protocol: self.protocol,
            is_ready: wait.is_ready,
            minds_removal: wait.minds_removal,
            is_woken,
        };
        let shards = by_shard.keys().copied().collect();
        let round = by_shard.into_iter().map(|(shard, places)| (shard, Step::Block(Box::new(block(places))))).collect();
        Next::Wait { round, shards, timeout_ms, reply }
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
        // A shard that only locked has nothing to say.
        let entries = outcomes.into_iter().filter_map(|outcome| match outcome {
            StepOutcome::Entries(now, entries) => Some((now, entries)),
            StepOutcome::Done => None,
            other => panic!("a fetch is answered with entries, not {other:?}"),
        });
        for ((_, keys), (now, entries)) in keys.into_iter().zip(entries) {
            // What was there has not expired since.
            if now.unix_ms < ctx.now.unix_ms {
                ctx.now = now;
            }
            for (DbKey { db, key }, entry) in keys.into_iter().zip(entries) {
                if entry.is_some() {
                    ctx.db = db;
                    ctx.store_entry(&key, entry);
                }
            }
        }
        if copies.wanted.is_empty() {
            match self.attempt(&mut copies) {
                Some(reply) => {
                    let waiting = copies.ctx.as_mut().and_then(|ctx| ctx.waiting.take());
                    return match waiting {
                        Some(wait) => self.wait(reply, wait, slots),
                        None => self.store(reply, *copies, slots),
                    };
                }
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
        ctx.journal.observe(true);
        ctx.journal.take_changes();
        ctx.events.clear();
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
        let changed = ctx.journal.take_changes();
        let is_changed = |written: &DbKey| {
            changed.iter().any(
                |change| matches!(change, effect::Change::Key { db, key } if (*db, key) == (written.db, &written.key)),
            )
        };
        let mut by_shard: Vec<StorePart> = Vec::new();
        // Each shard tells of its own keys, also of those that were only read.
        for Event { db, name, key } in ctx.events.iter() {
            part_of(&mut by_shard, slots.shard_of(key)).events.push((DbKey { db, key: key.to_vec() }, name));
        }
        for key in copies.writes.into_iter().filter(is_changed) {
            ctx.db = key.db;
            let entry = ctx.copy_entry(&key.key);
            part_of(&mut by_shard, slots.shard_of(&key.key)).changes.push((key, entry));
        }
        if by_shard.is_empty() {
            return Next::Reply(reply);
        }
        let step = |StorePart { shard, changes, events }| (shard, Step::Store { changes, events });
        Next::Last { round: by_shard.into_iter().map(step).collect(), reply: Some(reply) }
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
        Next::Last { round: vec![(shard, self.run(self.row, self.words.clone()))], reply: None }
    }
}

fn part_of(parts: &mut Vec<StorePart>, shard: ShardId) -> &mut StorePart {
    let known = parts.iter().position(|part| part.shard == shard);
    let at = known.unwrap_or(parts.len());
    if known.is_none() {
        parts.push(StorePart { shard, changes: Vec::new(), events: Vec::new() });
    }
    &mut parts[at]
}

fn replies(outcomes: Vec<StepOutcome>) -> Vec<Vec<u8>> {
    let reply = |outcome| match outcome {
        StepOutcome::Reply(reply) | StepOutcome::Waits { reply, .. } => reply,
        other => panic!("a command is answered with a reply, not {other:?}"),
    };
    outcomes.into_iter().map(reply).collect()
}
