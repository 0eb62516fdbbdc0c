//! EXEC: a transaction's commands, over any number of shards, as a state machine like [`super::gather::Job`].
//!
//! Most need none of this and go in one hop (`super::hop`): those without watched keys whose commands each lie on one shard.
//! The others open with the locks of all its commands and watched keys. Then the commands run in stages: a row of commands each
//! of which lies on one shard is one stage, in which every shard gets its part in one message, as no other client can see
//! in which order shards work; a command over several shards is a stage of its own, and so is one without keys, which
//! the core runs. Where everything is on one shard, locks, watched keys and commands go there in one message.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{Job, Next, Part, Round};
use super::lock::{LockSet, Mode};
use super::msg::{ExecCommand, Step, StepOutcome};
use super::script::job::ScriptJob;
use super::watch::Watcher;
use crate::base::ids::ShardId;
use crate::command::KeyRow;
use crate::command::ctx::ShardCtx;
use crate::command::spec::Group;
use crate::keyspace::slots::SlotMap;
use crate::resp::reply::{Protocol, Reply};

/// One queued command, as the registry understands it.
pub enum Queued {
    /// On keys; the shard of all of them, if it is one.
    Key { command: ExecCommand, shard: Option<ShardId> },
    /// Without keys: the core runs it.
    Keyless { words: Vec<Vec<u8>> },
}

pub struct Exec {
    watcher: Watcher,
    /// Shards with watched keys, and these.
    watched: Vec<(ShardId, Vec<u8>)>,
    commands: Vec<Option<Queued>>,
    replies: Vec<Option<Vec<u8>>>,
    /// Commands before this one have run, or are running.
    next: usize,
    stage: Stage,
}

enum Stage {
    Opening,
    /// All on one shard, in one step.
    AtOnce,
    /// Which commands each shard of the round runs.
    Parallel(Vec<Vec<usize>>),
    /// One command over several shards.
    Spread(Box<Job>, usize),
    /// A script that may touch any key.
    Script(Box<ScriptJob>, usize),
    /// The last steps of such a command, which has its reply: later commands must find what these leave.
    Storing,
    Keyless(usize),
}

/// What an EXEC wants next.
pub enum ExecNext {
    Job(Next),
    /// The core runs this command; `keyless_done` gets its reply.
    Keyless(Vec<Vec<u8>>),
}

impl Exec {
    pub fn new(watcher: Watcher, watched: Vec<(ShardId, Vec<u8>)>, commands: Vec<Queued>) -> Exec {
        let replies = commands.iter().map(|_| None).collect();
        let commands = commands.into_iter().map(Some).collect();
        Exec { watcher, watched, commands, replies, next: 0, stage: Stage::Opening }
    }

    /// The first round, with its locks: see [`Job::open`]. Empty if no shard has to be asked.
    pub fn open(&mut self, slots: &SlotMap, protocol: Protocol) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let set_of = |parts: &mut Vec<Part>, shard| {
            parts.binary_search_by_key(&shard, |part| part.shard).unwrap_or_else(|at| {
                parts.insert(at, Part { shard, locks: LockSet::default(), step: Step::Nothing });
                at
            })
        };
        for (shard, key) in &self.watched {
            let at = set_of(&mut parts, *shard);
            parts[at].locks.add(key, Mode::Shared);
            parts[at].step = Step::Check { watcher: self.watcher };
        }
        for queued in self.commands.iter().flatten() {
            let Queued::Key { command, shard } = queued else { continue };
            let words: Vec<&[u8]> = command.words.iter().map(Vec::as_slice).collect();
            match shard {
                Some(shard) => {
                    let at = set_of(&mut parts, *shard);
                    parts[at].locks.merge(&LockSet::of_command(&command.row.spec, &words));
                }
                None => {
                    let locks = match is_script(command.row) {
                        true => ScriptJob::of_exec(command.clone(), protocol).open(slots),
                        false => Job::new(command.row, command.db, protocol, command.words.clone()).locks(slots),
                    };
                    for part in locks {
                        let at = set_of(&mut parts, part.shard);
                        parts[at].locks.merge(&part.locks);
                    }
                }
            }
        }
        let shard_alone = if let [part] = &parts[..] { Some(part.shard) } else { None };
        let on_it =
            |queued: &Option<Queued>| matches!(queued, Some(Queued::Key { shard, .. }) if *shard == shard_alone);
        self.stage = Stage::Opening;
        if shard_alone.is_some() && self.commands.iter().all(on_it) {
            let commands = self.commands.iter_mut().filter_map(|queued| Some(key_command(queued.take()?))).collect();
            // They are forgotten there and then.
            let watcher = (!std::mem::take(&mut self.watched).is_empty()).then_some(self.watcher);
            parts[0].step = Step::Exec { watcher, commands, protocol };
            self.stage = Stage::AtOnce;
            self.next = self.commands.len();
        }
        parts
    }

    /// Shards that know what the client watched, until they are told that it is over.
    pub fn watched_shards(&self) -> BTreeSet<ShardId> {
        self.watched.iter().map(|(shard, _)| *shard).collect()
    }

    /// The first round is all there is to do: the locks may end with it.
    pub fn is_at_once(&self) -> bool {
        matches!(self.stage, Stage::AtOnce)
    }

    /// The outcomes of the last round, in its order.
    pub fn advance(
        &mut self,
        outcomes: Vec<StepOutcome>,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        protocol: Protocol,
        ctx: &mut ShardCtx,
    ) -> ExecNext {
        match std::mem::replace(&mut self.stage, Stage::Opening) {
            Stage::Opening | Stage::AtOnce if outcomes.iter().any(|outcome| matches!(outcome, StepOutcome::Dirty)) => {
                let mut bytes = Vec::new();
                Reply::new(&mut bytes, protocol).null_array();
                return ExecNext::Job(Next::Reply(bytes));
            }
            Stage::Opening | Stage::Storing => {}
            Stage::AtOnce => self.replies = outcomes.into_iter().flat_map(replies_of).map(Some).collect(),
            Stage::Parallel(places) => {
                for (places, outcome) in places.into_iter().zip(outcomes) {
                    for (place, reply) in places.into_iter().zip(replies_of(outcome)) {
                        self.replies[place] = Some(reply);
                    }
                }
            }
            Stage::Spread(mut job, place) => match job.advance(outcomes, slots, || ctx.scratch()) {
                Next::Round(round) => return self.spread(job, place, round),
                Next::Last { round, reply: None } => return self.spread(job, place, round),
                Next::Last { round, reply: Some(reply) } => {
                    self.replies[place] = Some(reply);
                    self.stage = Stage::Storing;
                    return ExecNext::Job(Next::Round(round));
                }
                Next::Reply(reply) => self.replies[place] = Some(reply),
                Next::Wait { .. } | Next::Keyless { .. } | Next::Pause => {
                    unreachable!("nobody waits inside a transaction")
                }
            },
            Stage::Script(mut script, place) => {
                let next = script.advance(outcomes, slots, dbsize, ctx);
                if let Some(next) = self.script_next(script, place, next) {
                    return next;
                }
            }
            Stage::Keyless(place) => unreachable!("command {place} is run by the core"),
        }
        self.start_stage(slots, dbsize, protocol, ctx)
    }

    /// The reply of the command that the core has run.
    pub fn keyless_done(
        &mut self,
        reply: Vec<u8>,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        protocol: Protocol,
        ctx: &mut ShardCtx,
    ) -> ExecNext {
        match std::mem::replace(&mut self.stage, Stage::Opening) {
            Stage::Keyless(place) => self.replies[place] = Some(reply),
            Stage::Script(mut script, place) => {
                let next = script.keyless_done(reply, slots, dbsize, ctx);
                if let Some(next) = self.script_next(script, place, next) {
                    return next;
                }
            }
            _ => panic!("the core was asked to run a command"),
        }
        self.start_stage(slots, dbsize, protocol, ctx)
    }

    /// What a script wants; `None`: it is over.
    fn script_next(&mut self, script: Box<ScriptJob>, place: usize, next: Next) -> Option<ExecNext> {
        if let Next::Reply(reply) = next {
            self.replies[place] = Some(reply);
            return None;
        }
        self.stage = Stage::Script(script, place);
        Some(ExecNext::Job(next))
    }

    fn spread(&mut self, job: Box<Job>, place: usize, round: Round) -> ExecNext {
        self.stage = Stage::Spread(job, place);
        ExecNext::Job(Next::Round(round))
    }

    fn start_stage(
        &mut self,
        slots: &SlotMap,
        dbsize: &'static KeyRow,
        protocol: Protocol,
        ctx: &mut ShardCtx,
    ) -> ExecNext {
        let mut by_shard: Vec<(ShardId, Vec<usize>, Vec<ExecCommand>)> = Vec::new();
        while let Some(queued) = self.commands.get_mut(self.next) {
            match queued {
                Some(Queued::Key { shard: Some(shard), .. }) => {
                    let shard = *shard;
                    let command = key_command(queued.take().expect("matched"));
                    let at = by_shard.binary_search_by_key(&shard, |part| part.0).unwrap_or_else(|at| {
                        by_shard.insert(at, (shard, Vec::new(), Vec::new()));
                        at
                    });
                    by_shard[at].1.push(self.next);
                    by_shard[at].2.push(command);
                    self.next += 1;
                }
                _ if !by_shard.is_empty() => break,
                Some(Queued::Key { shard: None, .. }) => {
                    let command = key_command(queued.take().expect("matched"));
                    if is_script(command.row) {
                        let mut script = Box::new(ScriptJob::of_exec(command, protocol));
                        let place = self.next;
                        self.next += 1;
                        let next = script.advance(Vec::new(), slots, dbsize, ctx);
                        match self.script_next(script, place, next) {
                            None => continue,
                            Some(next) => return next,
                        }
                    }
                    let mut job = Box::new(Job::new(command.row, command.db, protocol, command.words));
                    let round = job.first_round(dbsize, slots);
                    let place = self.next;
                    self.next += 1;
                    return self.spread(job, place, round);
                }
                Some(Queued::Keyless { words }) => {
                    let words = std::mem::take(words);
                    self.stage = Stage::Keyless(self.next);
                    self.next += 1;
                    return ExecNext::Keyless(words);
                }
                None => unreachable!("a command runs once"),
            }
        }
        if by_shard.is_empty() {
            return ExecNext::Job(Next::Reply(self.reply()));
        }
        let (mut round, mut places) = (Round::new(), Vec::new());
        for (shard, of_shard, commands) in by_shard {
            round.push((shard, Step::Exec { watcher: None, commands, protocol }));
            places.push(of_shard);
        }
        self.stage = Stage::Parallel(places);
        ExecNext::Job(match self.next == self.commands.len() {
            true => Next::Last { round, reply: None },
            false => Next::Round(round),
        })
    }

    fn reply(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, Protocol::Resp2);
        reply.array(self.replies.len());
        self.replies.iter().flatten().for_each(|part| reply.raw(part));
        bytes
    }
}

fn is_script(row: &KeyRow) -> bool {
    row.spec.group == Group::Scripting
}

fn key_command(queued: Queued) -> ExecCommand {
    match queued {
        Queued::Key { command, .. } => command,
        Queued::Keyless { .. } => unreachable!("the caller knows that it has keys"),
    }
}

fn replies_of(outcome: StepOutcome) -> Vec<Vec<u8>> {
    match outcome {
        StepOutcome::Replies(replies) => replies,
        other => panic!("commands are answered with replies, not {other:?}"),
    }
}

/// WATCH: notes keys at their shards, behind whatever changes them already.
pub struct Watch {
    pub watcher: Watcher,
    pub db: usize,
    /// New ones only, with their shards.
    pub keys: Vec<(ShardId, Vec<u8>)>,
}

impl Watch {
    /// The only round, with its locks: see [`Job::open`].
    pub fn open(&self) -> Vec<Part> {
        let mut by_shard: BTreeMap<ShardId, (LockSet, Vec<Vec<u8>>)> = BTreeMap::new();
        for (shard, key) in &self.keys {
            let (locks, keys) = by_shard.entry(*shard).or_default();
            locks.add(key, Mode::Shared);
            keys.push(key.clone());
        }
        let part = |(shard, (locks, keys))| {
            let step = Step::Watch { watcher: self.watcher, db: self.db, keys };
            Part { shard, locks, step }
        };
        by_shard.into_iter().map(part).collect()
    }
    pub fn shards(&self) -> BTreeSet<ShardId> {
        self.keys.iter().map(|(shard, _)| *shard).collect()
    }
}
