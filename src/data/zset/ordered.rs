//! A large sorted set: a table from member to score, and a tree of the same in order.
//!
//! The score is the integer value of the member's entry, by its bits. The tree points to the entries, see `member.rs`:
//! every function here leaves it with exactly those that the table has.
#![allow(unsafe_code)]

use std::ops::Range;

use super::super::collection::Env;
use super::super::dict::{Dict, Lookup};
use super::super::entry::{Entry, EntryRef, TextRef, Value, ValueRef};
use super::Added;
use super::member::Member;
use super::tree::{Item, Tree};

pub(super) struct Ordered {
    // Before the table, which it points into.
    tree: Tree<Member>,
    table: Dict,
}

impl Ordered {
    pub(super) fn table(&self) -> &Dict {
        &self.table
    }

    pub(super) fn table_mut(&mut self) -> &mut Dict {
        &mut self.table
    }

    pub(super) fn new(env: &Env<'_>) -> Ordered {
        Ordered { tree: Tree::new(), table: Dict::new(env.seeds, env.now_ms) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.table.get(self.table.hash(member), member).map(score_of)
    }

    /// The rank of a member that has this score.
    pub(super) fn rank(&self, member: &[u8], score: f64) -> usize {
        self.tree.partition_point(|item| item.is_before(score, member))
    }

    pub(super) fn partition_point(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        self.tree.partition_point(|item| is_before(item.score, item.member.as_ref()))
    }

    /// Members and scores with these ranks, which exist.
    pub(super) fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.tree.range(ranks).map(|item| (item.member.as_ref(), item.score))
    }

    pub(super) fn add(&mut self, member: &[u8], score: f64) -> Added {
        let hash = self.table.hash(member);
        match self.table.lookup(hash, member) {
            Lookup::Vacant(vacant) => {
                let entry = Entry::new(member, Value::Int(bits_of(score)), None, 0);
                // SAFETY: the table keeps the entry until `remove_ranks` or `free_slice` have taken it from the tree.
                let member = unsafe { Member::of(&entry) };
                vacant.insert(entry);
                self.tree.insert(Item { score, member });
                Added::New
            }
            Lookup::Occupied(mut occupied) => {
                let old = score_of(occupied.as_ref());
                if old == score {
                    return Added::Same;
                }
                let place = occupied.as_raw();
                occupied.update(|entry| entry.set_value(Value::Int(bits_of(score))));
                assert!(occupied.as_raw() == place, "an integer takes the place of another");
                let rank = self.rank(member, old);
                if self.tree.rescore(rank, score) {
                    return Added::Changed;
                }
                let mut moved = None;
                self.tree.remove_some(rank, 1, |item| moved = Some(item.member));
                let member = moved.expect("what the table has is in the tree");
                self.tree.insert(Item { score, member });
                Added::Changed
            }
        }
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.score(member)?;
        let rank = self.rank(member, score);
        self.remove_ranks(rank..rank + 1);
        Some(score)
    }

    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        let mut left = ranks.len();
        while left > 0 {
            let table = &mut self.table;
            left -= self.tree.remove_some(ranks.start, left, |item| {
                // The item has left the tree, and its entry is alive until it leaves the table in the same breath.
                let hash = table.hash(item.member.as_ref());
                table.remove(hash, item.member.as_ref()).expect("what is in the tree is in the table");
            });
        }
    }

    pub(super) fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a [u8], f64)) -> u64 {
        self.table.scan(cursor, count, |entry| visit(entry.key(), score_of(entry)))
    }

    pub(super) fn usable_bytes(&self, samples: usize) -> usize {
        let entries: usize = match samples {
            0 => self.table.iter().map(|entry| entry.usable_bytes(0)).sum(),
            _ => {
                let sampled: Vec<usize> = self.table.iter().take(samples).map(|entry| entry.usable_bytes(0)).collect();
                let total = sampled.iter().sum::<usize>() as u128 * self.len() as u128;
                (total / sampled.len().max(1) as u128) as usize
            }
        };
        self.tree.usable_bytes(samples) + self.table.usable_bytes() + entries
    }

    /// First the tree, then the table: no pointer outlives what it points to.
    pub(super) fn free_slice(&mut self, elements_max: usize) -> bool {
        let mut budget = elements_max;
        while self.tree.len() > 0 && budget > 0 {
            budget -= self.tree.remove_some(self.tree.len().saturating_sub(budget), budget, |_| {});
        }
        self.tree.len() == 0 && budget > 0 && self.table.clear_slice(budget)
    }

    /// Panics if table and tree differ.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        self.tree.assert_consistent();
        self.table.assert_consistent();
        assert_eq!(self.tree.len(), self.table.len());
        for item in self.tree.range(0..self.tree.len()) {
            assert_eq!(self.score(item.member.as_ref()).map(f64::to_bits), Some(item.score.to_bits()));
        }
    }
}

impl Clone for Ordered {
    fn clone(&self) -> Ordered {
        let mut copy = Ordered { tree: Tree::new(), table: self.table.clone() };
        for item in self.tree.range(0..self.tree.len()) {
            let member = item.member.as_ref();
            let entry = copy.table.get_mut(copy.table.hash(member), member).expect("a copy of the table");
            // SAFETY: as in `add`.
            let member = unsafe { Member::of(&entry) };
            copy.tree.insert(Item { score: item.score, member });
        }
        copy
    }
}

fn bits_of(score: f64) -> i64 {
    score.to_bits() as i64
}

pub(super) fn score_of(entry: EntryRef<'_>) -> f64 {
    match entry.value() {
        ValueRef::Text(TextRef::Int(bits)) => f64::from_bits(bits as u64),
        _ => unreachable!("only scores are stored"),
    }
}
