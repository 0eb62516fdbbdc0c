//! The stream type: a log of entries, each with an ID and pairs of fields and values, and its consumer groups.
//!
//! ```text
//! Stream -> Log:    ID of the first entry -> Node (a listpack of up to `stream-node-max-entries` entries), counters
//!        -> Groups: name -> Group (last ID delivered, consumers, entries delivered but not acknowledged)
//! ```
//!
//! The log never looks at groups, nor groups at the log: an entry may be deleted while it is still pending. A stream
//! lives on when it is empty. Time and thresholds are handed in; IDs are made by the log from the time it is told.

mod group;
mod id;
mod log;
mod node;
mod rdb;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::collection::{Collection, CollectionType, Env};
use super::entry::Kind;
use super::size_class::allocation_size;
use crate::codec::rdb::{Form, Output, Reader, rdb_type};
pub use group::{Consumer, ConsumerNumber, ENTRIES_READ_UNKNOWN, Group, Pending};
pub use id::StreamId;
pub use log::{Log, NewId, Trim, TrimTo};
pub use node::Entry;

/// Consumer groups by name.
pub type Groups = BTreeMap<Box<[u8]>, Group>;

#[derive(Clone, Debug, Default)]
pub struct Stream {
    parts: Box<Parts>,
}

#[derive(Clone, Debug, Default)]
struct Parts {
    log: Log,
    groups: Groups,
}

impl CollectionType for Stream {
    const LIVES_EMPTY: bool = true;

    fn of(collection: &Collection) -> Option<&Stream> {
        if let Collection::Stream(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut Stream> {
        if let Collection::Stream(value) = collection { Some(value) } else { None }
    }

    fn empty() -> Stream {
        Stream::default()
    }

    fn is_empty(&self) -> bool {
        self.log().len() == 0
    }

    fn rdb_type(&self, form: Form) -> u8 {
        match form {
            Form::Payload => rdb_type::STREAM_LISTPACKS_3,
            Form::File { .. } => rdb_type::STREAM_LISTPACKS_2,
        }
    }

    fn save(&self, out: &mut Output) {
        rdb::save(self.log(), self.groups(), out);
    }

    fn load(rdb_type: u8, reader: &mut Reader<'_>, _env: &mut Env<'_>) -> Option<Stream> {
        let (log, groups) = rdb::load(rdb_type, reader)?;
        Some(Stream { parts: Box::new(Parts { log, groups }) })
    }
}

impl Stream {
    pub fn log(&self) -> &Log {
        &self.parts.log
    }

    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.parts.log
    }

    pub fn groups(&self) -> &Groups {
        &self.parts.groups
    }

    pub fn groups_mut(&mut self) -> &mut Groups {
        &mut self.parts.groups
    }

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.parts.groups.get(name)
    }

    /// The log, to be read while a group of the stream's changes.
    pub fn log_and_group(&mut self, name: &[u8]) -> Option<(&Log, &mut Group)> {
        let Parts { log, groups } = &mut *self.parts;
        groups.get_mut(name).map(|group| (&*log, group))
    }

    pub fn kind(&self) -> Kind {
        Kind::Stream
    }

    pub fn usable_bytes(&self, samples: usize) -> usize {
        let groups = self.groups().iter().map(|(name, group)| allocation_size(name.len()) + group.usable_bytes());
        allocation_size(size_of::<Parts>()) + self.log().usable_bytes(samples) + groups.sum::<usize>()
    }

    pub fn free_effort(&self) -> usize {
        1 + self.log().nodes() + self.groups().values().map(Group::free_effort).sum::<usize>()
    }

    /// Nodes of the log count as one each, and so do pending entries.
    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        let mut left = elements_max;
        while left > 0 && self.parts.log.drop_node() {
            left -= 1;
        }
        while left > 0 {
            let Some(mut group) = self.parts.groups.first_entry() else { return true };
            left = group.get_mut().free_slice(left);
            if left > 0 {
                group.remove();
            }
        }
        false
    }
}
