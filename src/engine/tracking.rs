//! Which clients may hold copies of keys of this shard (CLIENT TRACKING), and what they have to be told.
//!
//! A client's read is noted where the key lives, as the read runs; the first change of the key, by whatever makes it, is
//! told to all who are noted, and they are forgotten with that. Clients in broadcasting mode are noted at every shard by
//! the beginnings of names. Names count in all databases alike, as in Redis.
//!
//! What clients have to be told is addressed to the shard of their connection. It leaves behind the replies that this
//! shard has sent there before, and is written behind all that the client has asked for until then: so it never
//! overtakes the value that it is about. Who has turned tracking off meanwhile, or has gone, is found out there, and
//! nothing has to be searched here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::base::ids::{ConnKey, ShardId};
use crate::command::effect::Change;
use crate::sys::memory;

/// A client: its shard, and its connection there.
pub type Tracker = (ShardId, ConnKey);

/// One client is to forget these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    pub conn: ConnKey,
    pub keys: Arc<[Vec<u8>]>,
    pub kind: Kind,
}

/// Why a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has read the key.
    Read,
    /// It has, and has changed it itself.
    ReadAndChanged,
    /// The name begins as it wants to be told of.
    Broadcast,
}

/// What other shards tell each other of tracking.
#[derive(Debug)]
pub enum Post {
    /// To the shard of the clients.
    Invalidate(Vec<Invalidation>),
    /// To itself: all of its clients are to forget all keys.
    Flushed,
    /// To the shard of the client to which another one's invalidations are redirected.
    Redirected { to: ConnKey, of: ConnKey, keys: Option<Arc<[Vec<u8>]>> },
    /// Back: there is no such client any more.
    RedirectionBroken(ConnKey),
    /// A client of the sender's is no longer in broadcasting mode.
    Forget(ConnKey),
}

pub struct TrackingTable {
    /// Each with the clients that may hold it; in no order.
    entries: Vec<Entry>,
    /// By key: its index among the entries.
    places: HashMap<Arc<[u8]>, usize, RandomState>,
    items: usize,
    /// What forgotten entries have given back.
    freed_bytes: i64,
    /// Beginnings of names that clients want to be told of.
    prefixes: BTreeMap<Vec<u8>, Prefix>,
    outbox: Vec<(ShardId, Invalidation)>,
    /// All keys of a database are gone, and the clients of this shard have not been told.
    flushed: bool,
    /// Clients of this shard that are no longer in broadcasting mode: the other shards have to be told.
    retracted: Vec<ConnKey>,
    /// Clients of this shard that track.
    pub clients: usize,
    /// Somebody tracks, or is noted: commands are looked at.
    is_on: bool,
}

struct Entry {
    key: Arc<[u8]>,
    trackers: SmallVec<[Tracker; 1]>,
}

#[derive(Default)]
struct Prefix {
    listeners: Vec<Listener>,
    /// Keys that changed since the last message, and who changed them.
    changed: Vec<(Vec<u8>, Option<Tracker>)>,
}

struct Listener {
    tracker: Tracker,
    /// It is not told of what it changes itself.
    noloop: bool,
}

impl TrackingTable {
    pub fn new(seeds: [u64; 4]) -> TrackingTable {
        TrackingTable {
            entries: Vec::new(),
            places: HashMap::with_hasher(RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3])),
            items: 0,
            freed_bytes: 0,
            prefixes: BTreeMap::new(),
            outbox: Vec::new(),
            flushed: false,
            retracted: Vec::new(),
            clients: 0,
            is_on: false,
        }
    }

    /// Changes have to be told to `changed`, and commands of tracking clients to be looked at.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Finds out anew whether it is on, after whatever may have changed it.
    pub fn refresh(&mut self) -> bool {
        let may_be_told = !self.entries.is_empty() || !self.prefixes.is_empty();
        self.is_on = self.clients > 0 || may_be_told || self.has_news();
        self.is_on
    }

    /// Keys that somebody may hold.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys, counted once for each client.
    pub fn items(&self) -> usize {
        self.items
    }

    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// A client has read a key.
    pub fn remember(&mut self, key: &[u8], tracker: Tracker) {
        let place = match self.places.get(key) {
            Some(&place) => place,
            None => {
                let key: Arc<[u8]> = key.into();
                self.entries.push(Entry { key: key.clone(), trackers: SmallVec::new() });
                self.places.insert(key, self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        let trackers = &mut self.entries[place].trackers;
        if !trackers.contains(&tracker) {
            trackers.push(tracker);
            self.items += 1;
        }
    }

    /// A client wants to be told of all keys whose names begin so, as well as of those it has named before.
    pub fn listen(&mut self, tracker: Tracker, prefixes: &[&[u8]], noloop: bool) {
        for prefix in self.prefixes.values_mut() {
            prefix.listeners.iter_mut().filter(|other| other.tracker == tracker).for_each(|own| own.noloop = noloop);
        }
        for prefix in prefixes {
            let listeners = &mut self.prefixes.entry(prefix.to_vec()).or_default().listeners;
            if !listeners.iter().any(|other| other.tracker == tracker) {
                listeners.push(Listener { tracker, noloop });
            }
        }
    }

    /// The client is no longer in broadcasting mode.
    pub fn forget(&mut self, tracker: Tracker) {
        self.prefixes.retain(|_, prefix| {
            prefix.listeners.retain(|listener| listener.tracker != tracker);
            !prefix.listeners.is_empty()
        });
    }

    /// A client of this shard is no longer in broadcasting mode; the other shards learn of it.
    pub fn retract(&mut self, tracker: Tracker) {
        self.forget(tracker);
        self.retracted.push(tracker.1);
    }

    /// Something has changed; by this client, if by one.
    pub fn changed(&mut self, change: &Change, by: Option<Tracker>) {
        match change {
            Change::Key { key, .. } => {
                self.invalidate(key, by);
                for prefix in self.prefixes.iter_mut().filter(|(prefix, _)| key.starts_with(prefix)).map(|(_, of)| of) {
                    match prefix.changed.iter_mut().find(|(known, _)| known == key) {
                        // Only what nobody else has changed too is no news for a client.
                        Some((_, before)) if *before != by => *before = None,
                        Some(_) => {}
                        None => prefix.changed.push((key.clone(), by)),
                    }
                }
            }
            Change::Flushed { .. } | Change::Swapped { .. } => {
                self.flushed = true;
                self.entries.clear();
                self.places.clear();
                self.items = 0;
            }
        }
    }

    fn invalidate(&mut self, key: &[u8], by: Option<Tracker>) {
        let Some(place) = self.places.remove(key) else { return };
        self.invalidate_entry(place, by);
    }

    /// Tells the clients of an entry, and removes it. Its place is gone already.
    fn invalidate_entry(&mut self, place: usize, by: Option<Tracker>) {
        let Entry { key, trackers } = self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            *self.places.get_mut(&moved.key).expect("every entry has a place") = place;
        }
        self.items -= trackers.len();
        let keys: Arc<[Vec<u8>]> = Arc::new([key.to_vec()]);
        for &tracker in &trackers {
            let kind = if Some(tracker) == by { Kind::ReadAndChanged } else { Kind::Read };
            self.outbox.push((tracker.0, Invalidation { conn: tracker.1, keys: keys.clone(), kind }));
        }
        let before = memory::used_by_thread();
        drop((key, trackers));
        self.freed_bytes += before - memory::used_by_thread();
    }

    /// What entries have given back so far.
    pub fn freed_bytes(&self) -> i64 {
        self.freed_bytes
    }

    /// Gives up one key, drawn at random: the clients that may hold it are told as if it had changed.
    pub fn evict(&mut self, random: u64) {
        let place = (random % self.entries.len() as u64) as usize;
        self.places.remove(&self.entries[place].key);
        self.invalidate_entry(place, None);
    }

    /// There is something to be told.
    pub fn has_news(&self) -> bool {
        !self.outbox.is_empty()
            || self.flushed
            || !self.retracted.is_empty()
            || self.prefixes.values().any(|prefix| !prefix.changed.is_empty())
    }

    /// What clients have to be told, with their shards; of each beginning of names one message, with all of its keys.
    pub fn take_outbox(&mut self) -> Vec<(ShardId, Invalidation)> {
        let mut outbox = std::mem::take(&mut self.outbox);
        for prefix in self.prefixes.values_mut() {
            if !prefix.changed.is_empty() {
                let changed = std::mem::take(&mut prefix.changed);
                prefix.tell(&changed, &mut outbox);
            }
        }
        outbox
    }

    /// Whether all clients of this shard have to be told that everything is gone.
    pub fn take_flushed(&mut self) -> bool {
        std::mem::take(&mut self.flushed)
    }

    pub fn take_retracted(&mut self) -> Vec<ConnKey> {
        std::mem::take(&mut self.retracted)
    }
}

impl Prefix {
    fn tell(&self, changed: &[(Vec<u8>, Option<Tracker>)], outbox: &mut Vec<(ShardId, Invalidation)>) {
        let all: Arc<[Vec<u8>]> = changed.iter().map(|(key, _)| key.clone()).collect();
        for Listener { tracker, noloop } in &self.listeners {
            let is_own = |by: &Option<Tracker>| *noloop && *by == Some(*tracker);
            let keys: Arc<[Vec<u8>]> = match changed.iter().any(|(_, by)| is_own(by)) {
                true => changed.iter().filter(|(_, by)| !is_own(by)).map(|(key, _)| key.clone()).collect(),
                false => all.clone(),
            };
            if !keys.is_empty() {
                outbox.push((tracker.0, Invalidation { conn: tracker.1, keys, kind: Kind::Broadcast }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Tracker = (0, ConnKey { index: 1, generation: 1 });
    const B: Tracker = (1, ConnKey { index: 2, generation: 1 });

    fn table() -> TrackingTable {
        TrackingTable::new([1, 2, 3, 4])
    }

    fn change(table: &mut TrackingTable, key: &str, by: Option<Tracker>) {
        table.changed(&Change::Key { db: 0, key: key.as_bytes().to_vec() }, by);
    }

    /// Who is told what, in a line each.
    fn told(table: &mut TrackingTable) -> Vec<String> {
        let text = |keys: &[Vec<u8>]| keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>().join(" ");
        let line = |(shard, Invalidation { conn, keys, kind }): (usize, Invalidation)| {
            format!("{}: {} ({kind:?})", if (shard, conn) == A { "A" } else { "B" }, text(&keys))
        };
        let mut lines: Vec<String> = table.take_outbox().into_iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_change_is_told_once_to_whoever_has_read_the_key() {
        let mut table = table();
        for (key, tracker) in [("k", A), ("k", B), ("k", A), ("l", A)] {
            table.remember(key.as_bytes(), tracker);
        }
        assert_eq!((table.len(), table.items()), (2, 3));
        change(&mut table, "k", Some(B));
        change(&mut table, "m", None);
        assert_eq!(told(&mut table), ["A: k (Read)", "B: k (ReadAndChanged)"]);
        change(&mut table, "k", None);
        assert!(told(&mut table).is_empty(), "it is not noted any more");
        assert_eq!((table.len(), table.items()), (1, 1));
        change(&mut table, "l", None);
        assert_eq!(told(&mut table), ["A: l (Read)"]);
    }

    #[test]
    fn listeners_are_told_of_all_keys_that_begin_as_they_wish_in_one_message() {
        let mut table = table();
        table.listen(A, &[b"a:"], false);
        table.listen(B, &[b""], true);
        for (key, by) in [("a:1", Some(A)), ("b:1", Some(B)), ("a:2", None), ("a:1", Some(A))] {
            change(&mut table, key, by);
        }
        assert!(table.has_news());
        assert_eq!(told(&mut table), ["A: a:1 a:2 (Broadcast)", "B: a:1 a:2 (Broadcast)"]);
        assert!(!table.has_news());
        change(&mut table, "b:2", Some(B));
        assert!(told(&mut table).is_empty(), "only its own");
        change(&mut table, "b:2", Some(B));
        change(&mut table, "b:2", None);
        assert_eq!(told(&mut table), ["B: b:2 (Broadcast)"], "it has expired since");
        table.listen(B, &[b"c:"], false);
        change(&mut table, "b:2", Some(B));
        assert_eq!(told(&mut table), ["B: b:2 (Broadcast)"]);
        table.retract(A);
        table.forget(B);
        assert_eq!((table.prefixes(), table.take_retracted()), (0, vec![A.1]));
    }

    #[test]
    fn a_flush_forgets_all_and_is_told_to_the_shards_own_clients() {
        let mut table = table();
        table.remember(b"k", B);
        assert!(table.refresh());
        table.changed(&Change::Flushed { db: 3 }, Some(A));
        assert!(table.take_flushed() && !table.take_flushed());
        assert!(told(&mut table).is_empty() && table.is_empty() && table.items() == 0);
        assert!(!table.refresh());
    }

    #[test]
    fn an_evicted_key_is_told_as_if_it_had_changed() {
        let mut table = table();
        for n in 0..10 {
            table.remember(format!("k{n}").as_bytes(), A);
        }
        for n in 0..9 {
            table.evict(n * 7919);
        }
        assert_eq!((table.len(), table.items(), told(&mut table).len()), (1, 1, 9));
        table.evict(5);
        assert_eq!((table.len(), table.items()), (0, 0));
    }
}
