//! Which hashes have fields that expire, and when to look at each of them next.
//!
//! The active cycle must find such hashes without a walk through the keyspace. Beside the table of a database there is
//! one with an entry for each of them: the hash's key, and as its expiry the time at which something in it is due. It is
//! a [`Dict`] too, and so grows in small steps and knows what is due by the same index as keys do; a database without
//! such hashes pays nothing.
//!
//! Ruled out: the key's own expiry index, as INFO, volatile eviction and TTL would count keys that never expire; a heap,
//! which a deleted hash can only leave by a search.
//!
//! A time in it may be too early, when the field it stood for is gone: then the look finds nothing, and notes the next.
//! It is never too late. Who removes a hash says so, lest a note
//! for a time far away outlives it.

use crate::data::dict::Dict;
use crate::data::entry::{Entry, Value};

pub struct DueHashes {
    table: Dict,
}

impl DueHashes {
    pub fn new(seeds: [u64; 4], now_ms: i64) -> DueHashes {
        DueHashes { table: Dict::new(seeds, now_ms) }
    }

    /// Looks at the hash at `key` from this time on; never, if nothing in it expires.
    pub fn note(&mut self, key: &[u8], at_ms: Option<i64>) {
        let hash = self.table.hash(key);
        match (self.table.get_mut(hash, key), at_ms) {
            (None, None) => {}
            (None, Some(_)) => self.table.insert(hash, Entry::new(key, Value::Plain(b""), at_ms, 0)),
            (Some(noted), None) => drop(noted.remove()),
            (Some(mut noted), Some(at_ms)) => {
                if noted.as_ref().expire_at_ms().is_none_or(|noted_ms| at_ms < noted_ms) {
                    noted.update(|entry| entry.set_expire(Some(at_ms)));
                }
            }
        }
    }

    /// Takes out up to `max` hashes to look at now; who does notes when to look again.
    pub fn take_due(&mut self, now_ms: i64, max: usize) -> Vec<Entry> {
        let mut due = Vec::new();
        self.table.expire_slice(now_ms, max, |_| true, |entry| due.push(entry));
        due
    }

    /// The table of what was noted, leaving none.
    pub fn take(&mut self) -> Dict {
        self.table.take()
    }

    /// Hashes noted.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
