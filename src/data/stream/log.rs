//! The entries of a stream in the order of their IDs, and what Redis counts about them.
//!
//! New entries go to the end only. Nodes (see `node.rs`) are found by the ID of their first entry; one goes when its last
//! live entry is deleted or trimmed. `entries_added` and `max_deleted_id` are kept to tell how far a group is behind
//! without walking: that works unless something was deleted between the two ends looked at.

use std::collections::BTreeMap;

use super::group::ENTRIES_READ_UNKNOWN;
use super::id::StreamId;
use super::node::{Entry, Node};
use crate::config::Config;
use crate::data::listpack::Listpack;
use crate::data::size_class::allocation_size;

/// Fields and values of one entry may have this many bytes together; a node never has many more.
const NODE_BYTES_MAX: usize = 1 << 30;
/// What one entry takes in a node beside its words, and a node beside its entries, at most.
const OVERHEAD_BYTES: usize = 128;

/// The ID that a new entry is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: now.
    Now,
    /// `ms-*`: the next one of this millisecond.
    At(u64),
    Exactly(StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    Len(u64),
    /// Entries below this ID go.
    MinId(StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub to: TrimTo,
    /// Only whole nodes.
    pub approximately: bool,
    /// How many entries may go; 0: any number.
    pub limit: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub(super) nodes: BTreeMap<StreamId, Node>,
    pub(super) len: u64,
    /// In the whole life of the stream.
    pub(super) entries_added: u64,
    /// Of the first live entry, or zero.
    pub(super) first_id: StreamId,
    pub(super) last_id: StreamId,
    pub(super) max_deleted_id: StreamId,
}

impl Log {
    /// Live entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// The ID of the first live entry, or zero.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The largest ID given out.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The ID that a new entry gets; `None` if it would not be larger than all before.
    pub fn new_id(&self, wanted: NewId, now_ms: i64) -> Option<StreamId> {
        let now_ms = now_ms.max(0) as u64;
        let id = match wanted {
            NewId::Exactly(id) => id,
            NewId::Now if now_ms > self.last_id.ms => StreamId::new(now_ms, 0),
            NewId::Now => self.last_id.next()?,
            NewId::At(ms) if ms == self.last_id.ms => StreamId::new(ms, self.last_id.seq.checked_add(1)?),
            NewId::At(ms) => StreamId::new(ms, 0),
        };
        (id > self.last_id).then_some(id)
    }

    /// Can an entry of these words be stored at all?
    pub fn is_storable(words: &[&[u8]]) -> bool {
        let bytes = words.iter().map(|word| word.len()).sum::<usize>();
        // The second can only be more for billions of empty words.
        bytes <= NODE_BYTES_MAX && stored_bytes(words) <= NODE_BYTES_MAX + NODE_BYTES_MAX / 2
    }

    /// Appends an entry. Its ID is one that `new_id` gave, its words (field, value, ...) are storable.
    pub fn append(&mut self, id: StreamId, words: &[&[u8]], config: &Config) {
        assert!(id > self.last_id, "IDs ascend");
        match self.nodes.last_entry().filter(|node| has_room(node.get(), words, config)) {
            Some(mut node) => {
                let key = *node.key();
                node.get_mut().append(key, id, words);
            }
            None => {
                self.nodes.insert(id, Node::new(words));
            }
        }
        if self.len == 0 {
            self.first_id = id;
        }
        self.len += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
    }

    /// The live entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let from = self.nodes.range(..=start).next_back().map_or(start, |(&key, _)| key);
        self.nodes
            .range(from..)
            .flat_map(|(&key, node)| node.entries(key))
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
            .filter(|entry| !entry.is_deleted())
    }

    /// The same from `end` back.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        self.nodes
            .range(..=end)
            .rev()
            .flat_map(|(&key, node)| node.entries_back(key))
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
            .filter(|entry| !entry.is_deleted())
    }

    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// The ID of the last live entry, or zero.
    pub fn last_live_id(&self) -> StreamId {
        self.range_back(StreamId::ZERO, StreamId::MAX).next().map_or(StreamId::ZERO, |entry| entry.id)
    }

    /// Deletes an entry: whether it was there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((&key, node)) = self.nodes.range_mut(..=id).next_back() else { return false };
        let found = node.entries(key).find(|entry| entry.id >= id);
        let Some(entry) = found.filter(|entry| entry.id == id && !entry.is_deleted()) else { return false };
        let place = entry.place();
        if node.live() == 1 {
            self.nodes.remove(&key);
        } else {
            node.delete(place);
            node.count_deleted(1);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    /// Removes entries from the beginning: how many.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut removed = 0;
        while let Some(mut first) = self.nodes.first_entry() {
            let (key, live) = (*first.key(), first.get().live());
            if matches!(trim.to, TrimTo::Len(len) if self.len <= len) || (trim.limit > 0 && removed + live > trim.limit)
            {
                break;
            }
            let whole = match trim.to {
                TrimTo::Len(len) => self.len - live >= len,
                TrimTo::MinId(id) => first.get().last_id(key) < id,
            };
            if whole {
                first.remove();
                self.len -= live;
                removed += live;
                continue;
            }
            if !trim.approximately {
                let surplus = match trim.to {
                    TrimTo::Len(len) => self.len - len,
                    TrimTo::MinId(_) => u64::MAX,
                };
                let below = |entry: &Entry<'_>| !matches!(trim.to, TrimTo::MinId(id) if entry.id >= id);
                let live_entries = first.get().entries(key).take_while(below).filter(|entry| !entry.is_deleted());
                let places: Vec<_> = live_entries.take(surplus as usize).map(|entry| entry.place()).collect();
                let node = first.get_mut();
                places.iter().for_each(|&place| node.delete(place));
                node.count_deleted(places.len() as u64);
                self.len -= places.len() as u64;
                removed += places.len() as u64;
            }
            break;
        }
        self.find_first();
        removed
    }

    pub(super) fn find_first(&mut self) {
        let first = self.range(StreamId::ZERO, StreamId::MAX).next().map(|entry| entry.id);
        self.first_id = first.unwrap_or_default();
    }

    /// XSETID. The caller has seen to it that no live entry is behind `id`.
    pub fn set_last_id(&mut self, id: StreamId, entries_added: Option<u64>, max_deleted_id: Option<StreamId>) {
        // Deleted entries that a payload brought may be.
        self.last_id = self.last_stored_id().max(id);
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }

    /// The ID of the last entry, deleted or not, or zero.
    pub(super) fn last_stored_id(&self) -> StreamId {
        self.nodes.last_key_value().map_or(StreamId::ZERO, |(&key, node)| node.last_id(key))
    }

    /// May an entry between these two have been deleted?
    pub fn has_tombstones(&self, start: StreamId, end: StreamId) -> bool {
        let latest = self.max_deleted_id;
        // Deletions before the first live entry hide nothing.
        self.len > 0 && latest != StreamId::ZERO && self.first_id <= latest && start <= latest && latest <= end
    }

    /// How many entries had been added when that with this ID was, or `ENTRIES_READ_UNKNOWN`.
    pub fn entries_added_until(&self, id: StreamId) -> i64 {
        let added = self.entries_added as i64;
        if added == 0 {
            return 0;
        }
        if self.len == 0 && id <= self.last_id {
            return added;
        }
        if id >= self.last_id {
            return if id == self.last_id { added } else { ENTRIES_READ_UNKNOWN };
        }
        let is_whole = self.max_deleted_id == StreamId::ZERO || self.max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less if is_whole => added.wrapping_sub(self.len as i64),
            std::cmp::Ordering::Equal if is_whole => added.wrapping_sub(self.len as i64).wrapping_add(1),
            _ => ENTRIES_READ_UNKNOWN,
        }
    }

    /// How many nodes Redis's radix tree of these keys has: a leaf for each key, one for each byte on which keys part,
    /// and one for each run of bytes between such. O(nodes).
    pub fn radix_nodes(&self) -> usize {
        const KEY_BYTES: usize = size_of::<StreamId>();
        /// A byte on which keys part: its index, and the index behind the one on which it hangs.
        fn close(count: &mut usize, parent: Option<usize>, at: usize) {
            // The node itself, and the run before it.
            *count += 1 + usize::from(parent.map_or(at > 0, |parent| at > parent + 1));
        }
        let mut count = 0;
        let mut open: Vec<usize> = Vec::new();
        let mut keys = self.nodes.keys().map(|key| key.to_bytes()).peekable();
        if keys.peek().is_none() {
            return 1;
        }
        while let Some(key) = keys.next() {
            // How deep the next key has bytes in common.
            let common = keys.peek().map(|next| key.iter().zip(next).take_while(|(a, b)| a == b).count());
            let mut at = KEY_BYTES;
            while let Some(&parent) = open.last().filter(|&&parent| common.is_none_or(|common| parent > common)) {
                close(&mut count, Some(parent), at);
                at = parent;
                open.pop();
            }
            let Some(common) = common else {
                close(&mut count, None, at);
                continue;
            };
            close(&mut count, Some(common), at);
            if open.last() != Some(&common) {
                open.push(common);
            }
        }
        count
    }

    pub fn usable_bytes(&self, samples: usize) -> usize {
        const PLACES: usize = 11;
        /// Of the places of a leaf of the map; keys arrive in order.
        const PLACES_USED: usize = 7;
        const LEAF_BYTES: usize = PLACES * (size_of::<StreamId>() + size_of::<Node>()) + 2 * size_of::<usize>();
        let leaves = self.nodes.len().div_ceil(PLACES_USED) * allocation_size(LEAF_BYTES);
        let taken = if samples == 0 { self.nodes.len() } else { samples.min(self.nodes.len()) };
        let bytes: usize = self.nodes.values().take(taken).map(Node::usable_bytes).sum();
        match taken {
            0 => 0,
            _ => leaves + (bytes as u128 * self.nodes.len() as u128 / taken as u128) as usize,
        }
    }

    /// Frees one node: whether there was one. Nothing else is to be done with the log then.
    pub(super) fn drop_node(&mut self) -> bool {
        self.nodes.pop_first().is_some()
    }
}

fn stored_bytes(words: &[&[u8]]) -> usize {
    words.iter().map(|word| Listpack::size_of_element(word)).sum::<usize>() + OVERHEAD_BYTES
}

/// May an entry of these words still go into the node?
fn has_room(node: &Node, words: &[&[u8]], config: &Config) -> bool {
    let bytes_max = match config.stream_node_max_bytes as usize {
        0 => NODE_BYTES_MAX,
        bytes => bytes.min(NODE_BYTES_MAX),
    };
    let bytes = node.listpack().bytes().len();
    if bytes + words.iter().map(|word| word.len()).sum::<usize>() >= bytes_max {
        return false;
    }
    if bytes_max == NODE_BYTES_MAX && bytes + stored_bytes(words) > NODE_BYTES_MAX + NODE_BYTES_MAX / 2 {
        return false;
    }
    config.stream_node_max_entries == 0 || node.live() + node.deleted() < config.stream_node_max_entries
}
