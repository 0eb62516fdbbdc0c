//! One shard: runs commands on its keys and keeps count of them.
//!
//! It knows neither connections nor the order of their replies: it is handed a command and a buffer, and leaves an
//! encoded reply in it. Batches run in two passes, so that the table's lines are on their way while the first
//! commands still run (design, section 4).

use bytes::Bytes;

use super::msg::{DbKey, RunBatch, SHARED, Step, StepOutcome};
use crate::base::ids::CommandId;
use crate::base::metrics::CommandStats;
use crate::command::KeyRow;
use crate::command::args::Args;
use crate::command::ctx::ShardCtx;
use crate::command::error::Error;
use crate::resp::reply::{Protocol, Reply};

pub struct Shard {
    pub ctx: ShardCtx,
    pub commands: CommandStats,
    /// Nanoseconds that pass, for the time that commands take.
    ticks: fn() -> u64,
    /// When the command before ended, hence this one began: one reading of the clock a command.
    ended: u64,
}

impl Shard {
    pub fn new(ctx: ShardCtx, commands: usize, ticks: fn() -> u64) -> Shard {
        Shard { ctx, commands: CommandStats::new(commands), ticks, ended: 0 }
    }

    /// The clock by which commands and slices are timed, in nanoseconds.
    pub fn ticks(&self) -> u64 {
        (self.ticks)()
    }

    /// From now on time counts for the next command.
    pub fn start_clock(&mut self) {
        self.ended = self.ticks();
    }

    /// First pass: the hash of the command's first key, and its bucket on the way to the cache.
    #[inline]
    pub fn prefetch(&self, db: usize, key: &[u8]) -> u64 {
        let hash = self.ctx.keyspace.hash(key);
        self.ctx.keyspace.db(db).prefetch_bucket(hash);
        hash
    }

    /// Between the passes: the entry on its way to the cache.
    #[inline]
    pub fn prefetch_entry(&self, db: usize, hash: u64) {
        self.ctx.keyspace.db(db).prefetch_entry(hash);
    }

    /// Runs one command and appends its reply.
    #[inline]
    pub fn execute(
        &mut self,
        row: &KeyRow,
        id: CommandId,
        db: usize,
        args: &Args,
        protocol: Protocol,
        output: &mut Vec<u8>,
    ) {
        self.ctx.db = db;
        let mut reply = Reply::new(output, protocol);
        let from = reply.position();
        let result = (row.run)(&mut self.ctx, args, &mut reply);
        if let Err(error) = result {
            reply.truncate(from);
            reply.error(&error.text());
            self.failed(id, &error);
        }
        let now = (self.ticks)();
        self.commands.ran(id, now - self.ended);
        self.ended = now;
    }

    #[cold]
    fn failed(&mut self, id: CommandId, error: &Error) {
        self.commands.failed(id, error.code());
    }

    /// Runs the commands of another shard's connections; their replies are left in the batch.
    pub fn run_batch(&mut self, batch: &mut RunBatch) {
        let RunBatch { items, bytes, lengths, shared, replies, reply_ends } = batch;
        let mut words: Vec<&[u8]> = Vec::with_capacity(lengths.len());
        let (mut at, mut next_shared) = (0, 0);
        for &length in lengths.iter() {
            if length == SHARED {
                words.push(&shared[next_shared]);
                next_shared += 1;
            } else {
                words.push(&bytes[at..at + length as usize]);
                at += length as usize;
            }
        }
        self.start_clock();
        let mut hashes = Vec::with_capacity(items.len());
        let mut first = 0;
        for item in items.iter() {
            let key = words.get(first + 1).filter(|_| item.arguments > 1);
            hashes.push(key.map_or(0, |key| self.prefetch(usize::from(item.db), key)));
            first += item.arguments as usize;
        }
        for (item, &hash) in items.iter().zip(&hashes) {
            self.prefetch_entry(usize::from(item.db), hash);
        }
        let (mut first, mut first_shared) = (0, 0);
        for (item, &hash) in items.iter().zip(&hashes) {
            let range = first..first + item.arguments as usize;
            first = range.end;
            let own: Vec<(usize, Bytes)> = lengths[range.clone()]
                .iter()
                .enumerate()
                .filter(|&(_, &length)| length == SHARED)
                .map(|(index, _)| {
                    first_shared += 1;
                    (index, shared[first_shared - 1].clone())
                })
                .collect();
            let words = &words[range];
            if let Some(key) = words.get(1) {
                self.ctx.remember_hash(key, hash);
            }
            self.ctx.no_touch = item.no_touch;
            let args = Args::with_shared(words, &own);
            self.execute(item.row, item.id, usize::from(item.db), &args, item.protocol, replies);
            reply_ends.push(replies.len());
        }
        self.ctx.no_touch = false;
        self.ctx.forget_hash();
    }

    /// What a job wants of this shard's keys. Admin steps belong to a higher level and are not seen here.
    pub fn run_step(&mut self, step: Step) -> StepOutcome {
        match step {
            Step::Run { row, id, db, words, protocol } => {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let mut reply = Vec::new();
                self.execute(row, id, db, &Args::new(&words), protocol, &mut reply);
                StepOutcome::Reply(reply)
            }
            Step::Fetch { keys } => StepOutcome::Entries(
                keys.iter()
                    .map(|DbKey { db, key }| {
                        // COPY may name a database that does not exist.
                        if *db >= self.ctx.keyspace.databases() {
                            return None;
                        }
                        self.ctx.db = *db;
                        self.ctx.copy_entry(key)
                    })
                    .collect(),
            ),
            Step::Store { changes } => {
                for (DbKey { db, key }, entry) in changes {
                    self.ctx.db = db;
                    self.ctx.store_entry(&key, entry);
                }
                StepOutcome::Stored
            }
            Step::Admin(_) => unreachable!("the core runs admin steps itself"),
        }
    }
}
