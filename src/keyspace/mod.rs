//! Level 3: the databases of one shard.

pub mod access;
pub mod due;
pub mod evict;
pub mod expire;
pub mod lazyfree;
pub mod slots;
pub mod snapshot;

use crate::data::dict::Dict;
use crate::data::entry::Entry;
use due::DueHashes;

/// The seeds of the keys' hash: random at start, fixed in a simulation.
#[derive(Clone, Copy, Debug)]
pub struct HashSeeds(pub [u64; 4]);

/// The databases of one shard, each a table of entries. An empty one costs nothing but its struct.
pub struct Keyspace {
    dbs: Vec<Dict>,
    /// By database, up to the last that ever had a hash whose fields expire.
    due_hashes: Vec<DueHashes>,
    start_ms: i64,
    seeds: HashSeeds,
    unsaved_kept: bool,
}

impl Keyspace {
    pub fn new(databases: usize, seeds: HashSeeds, now_ms: i64) -> Keyspace {
        let dbs = (0..databases).map(|_| Dict::new(seeds.0, now_ms)).collect();
        Keyspace { dbs, due_hashes: Vec::new(), start_ms: now_ms, seeds, unsaved_kept: false }
    }

    /// As many databases, empty.
    pub fn empty_twin(&self, now_ms: i64) -> Keyspace {
        Keyspace::new(self.dbs.len(), self.seeds, now_ms)
    }

    /// Of the hash of keys, and of elements.
    pub fn seeds(&self) -> [u64; 4] {
        self.seeds.0
    }

    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.dbs[0].hash(key)
    }

    #[inline]
    pub fn db(&self, index: usize) -> &Dict {
        &self.dbs[index]
    }

    #[inline]
    pub fn db_mut(&mut self, index: usize) -> &mut Dict {
        &mut self.dbs[index]
    }

    /// SWAPDB.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        if !self.due_hashes.is_empty() {
            self.grow_due_hashes(a.max(b));
            self.due_hashes.swap(a, b);
        }
    }

    /// Takes all of a database: its keys, and what was noted of hashes.
    pub fn take(&mut self, db: usize) -> [Dict; 2] {
        let noted = self.due_hashes.get_mut(db).map(DueHashes::take);
        [self.dbs[db].take(), noted.unwrap_or_else(|| Dict::new(self.seeds.0, self.start_ms))]
    }

    /// When to look at the hash at a key for fields that are due; `None`: never.
    pub fn note_fields(&mut self, db: usize, key: &[u8], at_ms: Option<i64>) {
        if at_ms.is_some() {
            self.grow_due_hashes(db);
        }
        if let Some(due) = self.due_hashes.get_mut(db) {
            due.note(key, at_ms);
        }
    }

    /// Up to `max` keys of hashes in which fields are due, each with its database; see [`DueHashes::take_due`].
    pub fn take_due_hashes(&mut self, now_ms: i64, max: usize) -> Vec<(usize, Entry)> {
        let mut taken = Vec::new();
        for (db, due) in self.due_hashes.iter_mut().enumerate() {
            let left = max - taken.len();
            taken.extend(due.take_due(now_ms, left).into_iter().map(|entry| (db, entry)));
            if taken.len() == max {
                break;
            }
        }
        taken
    }

    /// Hashes with fields that expire.
    pub fn hashes_noted(&self, db: usize) -> usize {
        self.due_hashes.get(db).map_or(0, DueHashes::len)
    }

    fn grow_due_hashes(&mut self, db: usize) {
        while self.due_hashes.len() <= db {
            self.due_hashes.push(DueHashes::new(self.seeds.0, self.start_ms));
        }
    }

    /// Keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Dict::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(|db| db.len() == 0)
    }
}
