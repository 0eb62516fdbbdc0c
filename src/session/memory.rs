//! What clients take of the server's memory: of each what CLIENT LIST tells, of all what `maxmemory-clients` limits.
//!
//! The sums are kept only while there is such a limit. Clients stand in classes by powers of two, as in Redis: who goes
//! first is one of those that take most, and a client changes its class seldom.

use std::collections::BTreeSet;

use super::{Close, Session, Sessions};
use crate::base::ids::ConnKey;
use crate::base::limits::OUTPUT_BUFFER_BYTES;

/// What an element of a tree, or of a table, takes beside the bytes of its name.
const NAME_OVERHEAD_BYTES: usize = 48;

/// Bytes that a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientMemory {
    /// What has been sent and was not parsed yet, and what is allocated beyond it.
    pub query: usize,
    pub query_free: usize,
    /// Of the arguments that have arrived of a command that has not.
    pub arguments: usize,
    /// Queued commands and watched keys.
    pub multi: usize,
    pub total: usize,
}

impl Session {
    pub fn memory(&self) -> ClientMemory {
        let held = self.query_bytes();
        let arriving = self.partial.as_ref().map_or((0, 0), |of| (of.arriving_bytes(), of.arriving_capacity()));
        let query = self.input.len() + arriving.0;
        let query_capacity = self.input.capacity() + arriving.1;
        let multi = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes());
        let names = self.names.as_ref().map_or(0, |names| names.bytes());
        let prefixes = self.tracking().and_then(|tracking| tracking.broadcast.as_ref());
        let prefix_bytes: usize =
            prefixes.into_iter().flatten().map(|prefix| prefix.capacity() + NAME_OVERHEAD_BYTES).sum();
        let replies = self.output.allocated_bytes() + self.held_pushes.as_ref().map_or(0, |pushes| pushes.capacity());
        ClientMemory {
            query,
            query_free: query_capacity - query,
            arguments: held - query_capacity,
            multi,
            total: size_of::<Session>() + held + multi + names + prefix_bytes + self.subscription_bytes + replies,
        }
    }

    /// It has subscribed to a name of so many bytes, or no longer.
    pub fn count_subscription(&mut self, begins: bool, name_bytes: usize) {
        let bytes = name_bytes + NAME_OVERHEAD_BYTES;
        if begins {
            self.subscription_bytes += bytes;
        } else {
            self.subscription_bytes -= bytes;
        }
    }
}

/// Sums over the clients of a shard.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    is_on: bool,
    bytes: usize,
    by_class: BTreeSet<(u32, u32)>,
}

/// The class of a client that takes so much.
fn class_of(bytes: usize) -> u32 {
    usize::BITS - bytes.leading_zeros()
}

impl Accounts {
    fn change(&mut self, index: u32, from: usize, to: usize) {
        self.bytes = self.bytes - from + to;
        let (former, class) = (class_of(from), class_of(to));
        if former != class {
            self.by_class.remove(&(former, index));
            if to > 0 {
                self.by_class.insert((class, index));
            }
        }
    }
}

impl Sessions {
    /// From now on the sums are kept, or no longer.
    pub fn keep_accounts(&mut self, wanted: bool) {
        if wanted == self.accounts.is_on {
            return;
        }
        self.accounts = Accounts { is_on: wanted, ..Accounts::default() };
        for (_, session) in &mut self.slots {
            session.counted_bytes = 0;
        }
        let keys: Vec<ConnKey> = self.iter().map(|session| session.key).collect();
        keys.into_iter().for_each(|key| self.account(key));
    }

    #[inline]
    pub fn keeps_accounts(&self) -> bool {
        self.accounts.is_on
    }

    /// Counts anew what a client takes, but for a buffer that is about to be sent: it goes back to the pool then.
    pub fn account(&mut self, key: ConnKey) {
        if let Some(session) = self.get(key) {
            if session.is_cut_off() {
                return self.count(key, 0);
            }
            let output = &session.output;
            let leaving = if output.is_sending() { 0 } else { output.allocated_bytes().min(OUTPUT_BUFFER_BYTES) };
            let bytes = session.memory().total - leaving;
            self.count(key, bytes);
        }
    }

    /// The client has gone, or is about to.
    pub(super) fn count(&mut self, key: ConnKey, bytes: usize) {
        if self.accounts.is_on {
            let session = &mut self.slots[key.index as usize];
            self.accounts.change(key.index, session.counted_bytes, bytes);
            session.counted_bytes = bytes;
        }
    }

    /// Counts anew what those take that have something to be sent, or have sent something.
    pub fn account_dirty(&mut self) {
        for place in 0..self.dirty.len() {
            let session = self.slots.get(self.dirty[place] as usize);
            if let Some(key) = session.map(|session| session.key) {
                self.account(key);
            }
        }
    }

    /// Ends a client for what it takes. What it has counted is about to be given back.
    pub fn evict(&mut self, key: ConnKey) {
        let session = &mut self.slots[key.index as usize];
        session.leaving_bytes = session.counted_bytes;
        self.leaving_bytes += session.leaving_bytes;
        self.close(key, Close::Now);
    }

    /// What evicted clients still take.
    pub fn leaving_bytes(&self) -> usize {
        self.leaving_bytes
    }

    /// Bytes of all clients, as they were counted last.
    pub fn bytes(&self) -> usize {
        self.accounts.bytes
    }

    /// One of those that take most, and may be evicted.
    pub fn largest(&self) -> Option<ConnKey> {
        let by_size = self.accounts.by_class.iter().rev().map(|&(_, index)| &self.slots[index as usize]);
        by_size.into_iter().find(|session| !session.no_evict).map(|session| session.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Close, Peer};

    fn insert(sessions: &mut Sessions, input_bytes: usize) -> ConnKey {
        let key = sessions.insert(1, 0, Peer::Unix, 0, true);
        sessions.at(key).input = Vec::with_capacity(input_bytes);
        sessions.account(key);
        key
    }

    #[test]
    fn the_largest_client_is_known_and_goes_first() {
        let mut sessions = Sessions::default();
        let small = insert(&mut sessions, 100);
        assert_eq!((sessions.bytes(), sessions.largest()), (0, None), "nobody wants to know");
        sessions.keep_accounts(true);
        let large = insert(&mut sessions, 100_000);
        let middle = insert(&mut sessions, 10_000);
        assert_eq!(sessions.largest(), Some(large));
        sessions.at(large).no_evict = true;
        assert_eq!(sessions.largest(), Some(middle));
        sessions.close(middle, Close::Now);
        assert_eq!(sessions.largest(), Some(small));
        sessions.remove(middle);
        sessions.remove(large);
        let left = sessions.at(small).memory().total;
        assert_eq!(sessions.bytes(), left);
        sessions.at(small).input = Vec::new();
        sessions.account(small);
        assert_eq!(sessions.bytes(), left - 100);
        sessions.keep_accounts(false);
        assert_eq!(sessions.bytes(), 0);
    }

    #[test]
    fn subscriptions_and_prefixes_count() {
        let mut sessions = Sessions::default();
        let key = insert(&mut sessions, 0);
        let session = sessions.at(key);
        let before = session.memory().total;
        session.count_subscription(true, 1000);
        assert!(session.memory().total > before + 1000);
        session.count_subscription(false, 1000);
        assert_eq!(session.memory().total, before);
    }
}
