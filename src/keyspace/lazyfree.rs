//! Frees detached tables and large collections a slice at a time, so that neither FLUSHALL ASYNC nor the end of a set of
//! a million members holds anybody up.
//!
//! A stepper: it knows no clock; who drives it chooses how many entries fit into a slice.

use std::collections::VecDeque;

use crate::data::collection::Collection;
use crate::data::dict::Dict;
use crate::data::entry::Entry;

/// A collection with no more allocations is freed at once: to queue it would cost as much. Redis draws the same line.
const FREE_EFFORT_MIN: usize = 64;

#[derive(Default)]
pub struct LazyFree {
    tables: VecDeque<Dict>,
    collections: VecDeque<Collection>,
    /// Values freed since the start: INFO's `lazyfreed_objects`.
    pub freed: u64,
}

impl LazyFree {
    /// Takes a table over.
    pub fn push(&mut self, table: Dict) {
        if !table.is_empty() {
            self.tables.push_back(table);
        }
    }

    /// Frees an entry that is in no table any more, later if it is large.
    #[inline]
    pub fn free(&mut self, entry: Entry) {
        if entry.free_effort() > FREE_EFFORT_MIN {
            self.collections.extend(entry.into_collection());
        }
    }

    /// Takes a large value out of an entry whose value is about to be replaced.
    #[inline]
    pub fn empty(&mut self, entry: &mut Entry) {
        if entry.free_effort() > FREE_EFFORT_MIN {
            self.collections.push_back(entry.change_collection(std::mem::take));
        }
    }

    /// Something waits to be freed.
    pub fn is_pending(&self) -> bool {
        !self.tables.is_empty() || !self.collections.is_empty()
    }

    /// Frees up to `entries_max` entries or elements; true if there are more.
    pub fn slice(&mut self, entries_max: usize) -> bool {
        if let Some(collection) = self.collections.front_mut() {
            if collection.free_slice(entries_max) {
                self.collections.pop_front();
                self.freed += 1;
            }
        } else if let Some(table) = self.tables.front_mut() {
            let before = table.len();
            let emptied = table.clear_slice(entries_max);
            self.freed += (before - table.len()) as u64;
            if emptied {
                self.tables.pop_front();
            }
        }
        self.is_pending()
    }

    /// Values waiting: INFO's `lazyfree_pending_objects`.
    pub fn pending(&self) -> usize {
        self.tables.iter().map(Dict::len).sum::<usize>() + self.collections.len()
    }

    /// Starts counting `freed` anew: CONFIG RESETSTAT.
    pub fn reset_stat(&mut self) {
        self.freed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entry::{Entry, Value};

    fn table(len: usize) -> Dict {
        let mut dict = Dict::new([1, 2, 3, 4], 0);
        for n in 0..len {
            let key = n.to_string();
            dict.insert(dict.hash(key.as_bytes()), Entry::new(key.as_bytes(), Value::Int(1), None, 0));
        }
        dict
    }

    #[test]
    fn frees_table_after_table_in_slices() {
        let mut lazyfree = LazyFree::default();
        assert!(!lazyfree.slice(10), "nothing to do");
        lazyfree.push(table(250));
        lazyfree.push(table(0));
        lazyfree.push(table(50));
        assert_eq!(lazyfree.pending(), 300);
        let mut slices = 1;
        while lazyfree.slice(100) {
            slices += 1;
        }
        assert_eq!((slices, lazyfree.pending(), lazyfree.freed), (4, 0, 300));
    }
}
