//! Level 3: the databases of one shard.

pub mod access;
pub mod expire;
pub mod lazyfree;

use crate::data::dict::Dict;

/// The seeds of the keys' hash: random at start, fixed in a simulation.
#[derive(Clone, Copy, Debug)]
pub struct HashSeeds(pub [u64; 4]);

/// The databases of one shard, each a table of entries. An empty one costs nothing but its struct.
pub struct Keyspace {
    dbs: Vec<Dict>,
    seeds: HashSeeds,
}

impl Keyspace {
    pub fn new(databases: usize, seeds: HashSeeds, now_ms: i64) -> Keyspace {
        Keyspace { dbs: (0..databases).map(|_| Dict::new(seeds.0, now_ms)).collect(), seeds }
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
    }

    /// Keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Dict::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(|db| db.len() == 0)
    }
}
