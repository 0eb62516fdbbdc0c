//! A consumer group: who reads, how far the group has come, and what has been delivered but not acknowledged.
//!
//! Each pending entry belongs to one consumer and stands in two places: in the group's `pending` with all that is known
//! about the delivery, and as an ID in the consumer's own set. A pending entry names its consumer by number; numbers are
//! never used twice in a group's life, names lead to them.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::id::StreamId;
use crate::data::size_class::arc_size;

/// In the place of the number of entries read: it cannot be known.
pub const ENTRIES_READ_UNKNOWN: i64 = -1;

pub type ConsumerNumber = u64;

/// A delivery that was not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub consumer: ConsumerNumber,
    pub delivered_at_ms: i64,
    pub deliveries: u64,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it last tried to read or claim.
    pub seen_at_ms: i64,
    /// When it last got something, or -1.
    pub active_at_ms: i64,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// IDs of the entries delivered to it and not acknowledged.
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    /// The last entry delivered to any consumer.
    pub last_id: StreamId,
    /// How many entries of the stream the group has read, or `ENTRIES_READ_UNKNOWN`.
    pub entries_read: i64,
    pending: BTreeMap<StreamId, Pending>,
    names: BTreeMap<Arc<[u8]>, ConsumerNumber>,
    consumers: BTreeMap<ConsumerNumber, Consumer>,
    consumers_made: ConsumerNumber,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: i64) -> Group {
        Group {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            names: BTreeMap::new(),
            consumers: BTreeMap::new(),
            consumers_made: 0,
        }
    }

    pub fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }

    /// What is pending from `start` on.
    pub fn pending_from(&self, start: StreamId) -> Range<'_, StreamId, Pending> {
        self.pending.range((Bound::Included(start), Bound::Unbounded))
    }

    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// In the order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.names.values().map(|number| &self.consumers[number])
    }

    pub fn consumer_number(&self, name: &[u8]) -> Option<ConsumerNumber> {
        self.names.get(name).copied()
    }

    /// A consumer whose number is known.
    pub fn consumer(&self, number: ConsumerNumber) -> &Consumer {
        &self.consumers[&number]
    }

    pub fn consumer_mut(&mut self, number: ConsumerNumber) -> &mut Consumer {
        self.consumers.get_mut(&number).expect("numbers of consumers that went are not kept")
    }

    /// Makes a consumer of a name that there is none of yet.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> ConsumerNumber {
        let number = self.consumers_made;
        self.consumers_made += 1;
        let name: Arc<[u8]> = name.into();
        let old = self.names.insert(name.clone(), number);
        assert!(old.is_none(), "a consumer's name is its own");
        let consumer = Consumer { name, seen_at_ms: now_ms, active_at_ms: -1, pending: BTreeSet::new() };
        self.consumers.insert(number, consumer);
        number
    }

    /// Removes a consumer with all that is pending for it.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<Consumer> {
        let number = self.names.remove(name)?;
        let consumer = self.consumers.remove(&number)?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer)
    }

    /// Makes an entry pending, or changes what is known about one that is; it may come from another consumer.
    pub fn set_pending(&mut self, id: StreamId, pending: Pending) {
        let old = self.pending.insert(id, pending);
        match old {
            Some(old) if old.consumer == pending.consumer => return,
            Some(old) => {
                self.consumer_mut(old.consumer).pending.remove(&id);
            }
            None => {}
        }
        self.consumer_mut(pending.consumer).pending.insert(id);
    }

    /// The entry is not pending any more: what it was.
    pub fn remove_pending(&mut self, id: StreamId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.consumer_mut(pending.consumer).pending.remove(&id);
        Some(pending)
    }

    pub fn usable_bytes(&self) -> usize {
        /// A B-tree's nodes are two thirds full, roughly.
        fn tree_bytes<T>(len: usize) -> usize {
            len * (size_of::<T>() * 3).div_ceil(2)
        }
        let consumers = self
            .consumers
            .values()
            .map(|consumer| arc_size(consumer.name.len()) + tree_bytes::<StreamId>(consumer.pending.len()));
        tree_bytes::<(Box<[u8]>, Group)>(1)
            + tree_bytes::<(StreamId, Pending)>(self.pending.len())
            + tree_bytes::<(Arc<[u8]>, ConsumerNumber)>(self.names.len())
            + tree_bytes::<(ConsumerNumber, Consumer)>(self.consumers.len())
            + consumers.sum::<usize>()
    }

    pub(super) fn free_effort(&self) -> usize {
        1 + self.pending.len() / 4 + self.consumers.len()
    }

    /// Frees up to `elements_max` pending entries or consumers: how many more it could have been. 0: not done.
    pub(super) fn free_slice(&mut self, elements_max: usize) -> usize {
        let mut left = elements_max;
        while left > 0 && self.pending.pop_first().is_some() {
            left -= 1;
        }
        while left > 0 {
            let Some(mut consumer) = self.consumers.first_entry() else { break };
            while left > 0 && consumer.get_mut().pending.pop_first().is_some() {
                left -= 1;
            }
            if left > 0 {
                consumer.remove();
                self.names.pop_first();
                left -= 1;
            }
        }
        left
    }
}
