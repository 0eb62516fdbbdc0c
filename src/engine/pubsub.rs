//! Who listens to what (design, section 5, "Pub/Sub"): a shard's own subscribers, and, of the names that have their
//! home here, the shards that have some.
//!
//! A subscriber belongs to the shard of its connection, a channel to its home: the shard of the channel's slot. Messages
//! go there first, which gives the channel one order, and from there to each shard that has registered; that shard alone
//! knows its subscribers and counts them. Patterns have their home everywhere, and so have the channels of keyspace
//! events, whose messages come from the shards of the keys.
//!
//! Homes are told of a shard's first and last subscriber of a name, and nobody waits for them: a message that is caused
//! by a confirmed subscription carries a later stamp, so that its home has read the news before (design, section 4,
//! "Causal order"). For this the news must enter the mailbox at once: the core lets nobody subscribe while one is full.
//!
//! Pure state: the core carries the messages and writes to the clients.

pub mod publication;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use smallvec::SmallVec;

use self::publication::{Notices, Publication};
use crate::base::glob;
use crate::base::ids::{ConnKey, ShardId};
use crate::keyspace::slots::SlotMap;

/// A channel or a pattern.
pub type Name = Arc<[u8]>;

/// What is subscribed to; each kind has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    /// SSUBSCRIBE.
    ShardChannel,
}

pub const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::ShardChannel];

/// What shards say to each other.
#[derive(Debug)]
pub enum Post {
    /// To the home of a name.
    News(Box<News>),
    /// Publications on their ways: all of a turn together.
    Letters(Box<Vec<Letter>>),
    /// To a shard that has registered: keyspace events of the sender's keys.
    Notices(Box<Notices>),
}

/// A publication on its way.
#[derive(Debug)]
pub enum Letter {
    /// To the home of its channel: it is to take its place in the channel's order.
    Publish(Arc<Publication>),
    /// From there to the shards that have registered.
    Deliver(Arc<Publication>),
    /// Back to the publisher, with the number of receivers.
    Delivered(Arc<Publication>),
}

/// A shard has its first subscribers of these names, or no subscribers any more.
#[derive(Debug)]
pub struct News {
    pub begins: bool,
    pub kind: Kind,
    pub names: Vec<Name>,
}

type ByName<T> = HashMap<Name, T, RandomState>;
pub type Shards = SmallVec<[ShardId; 6]>;

pub struct PubSub {
    id: ShardId,
    /// By kind: names with subscribers of this shard.
    topics: [ByName<Vec<ConnKey>>; 3],
    /// By kind: names that have their home here, and the shards that have subscribers.
    homes: [ByName<Shards>; 3],
    /// Channels of events in `homes`, and those of them that are here only because they are everywhere.
    event_channels: usize,
    guests: usize,
    clients: HashMap<ConnKey, Places, RandomState>,
    /// For other shards.
    outbox: Vec<(ShardId, News)>,
}

/// By kind: the names that a client has subscribed to, and its place among their subscribers.
type Places = [BTreeMap<Name, u32>; 3];

/// Messages on a channel of keyspace events do not pass through its home.
fn is_of_events(channel: &[u8]) -> bool {
    channel.starts_with(b"__keyspace@") || channel.starts_with(b"__keyevent@")
}

fn is_everywhere(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Pattern => true,
        Kind::Channel => is_of_events(name),
        Kind::ShardChannel => false,
    }
}

impl PubSub {
    pub fn new(id: ShardId, seeds: [u64; 4]) -> PubSub {
        let hasher = RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        PubSub {
            id,
            topics: std::array::from_fn(|_| HashMap::with_hasher(hasher.clone())),
            homes: std::array::from_fn(|_| HashMap::with_hasher(hasher.clone())),
            event_channels: 0,
            guests: 0,
            clients: HashMap::with_hasher(hasher),
            outbox: Vec::new(),
        }
    }

    // What clients of this shard do.

    /// A client subscribes to a name: false if it had already.
    pub fn subscribe(&mut self, conn: ConnKey, kind: Kind, name: &[u8], slots: &SlotMap) -> bool {
        let places = &mut self.clients.entry(conn).or_default()[kind as usize];
        if places.contains_key(name) {
            return false;
        }
        let topics = &mut self.topics[kind as usize];
        let known = topics.get_key_value(name).map(|(known, _)| known.clone());
        let is_first = known.is_none();
        let name = known.unwrap_or_else(|| name.into());
        let subscribers = topics.entry(name.clone()).or_default();
        places.insert(name.clone(), subscribers.len() as u32);
        subscribers.push(conn);
        if is_first {
            self.tell_homes(true, kind, &name, slots);
        }
        true
    }

    /// A client gives up a name: false if it had not subscribed to it.
    pub fn unsubscribe(&mut self, conn: ConnKey, kind: Kind, name: &[u8], slots: &SlotMap) -> bool {
        let Some(places) = self.clients.get_mut(&conn) else { return false };
        let Some((name, place)) = places[kind as usize].remove_entry(name) else { return false };
        if places.iter().all(BTreeMap::is_empty) {
            self.clients.remove(&conn);
        }
        let topics = &mut self.topics[kind as usize];
        let subscribers = topics.get_mut(&name).expect("it has a subscriber");
        subscribers.swap_remove(place as usize);
        if let Some(moved) = subscribers.get(place as usize) {
            let moved = self.clients.get_mut(moved).expect("a subscriber is a client");
            *moved[kind as usize].get_mut(&name).expect("it has subscribed") = place;
        }
        if subscribers.is_empty() {
            topics.remove(&name);
            self.tell_homes(false, kind, &name, slots);
        }
        true
    }

    /// The connection is gone.
    pub fn disconnect(&mut self, conn: ConnKey, slots: &SlotMap) {
        for kind in KINDS {
            for name in self.names(conn, kind) {
                self.unsubscribe(conn, kind, &name, slots);
            }
        }
    }

    fn tell_homes(&mut self, begins: bool, kind: Kind, name: &Name, slots: &SlotMap) {
        let homes = if is_everywhere(kind, name) {
            0..slots.shards()
        } else {
            let home = slots.shard_of(name);
            home..home + 1
        };
        for shard in homes {
            if shard == self.id {
                self.note(begins, kind, name, shard, slots);
                continue;
            }
            // A command may name many, and a client that leaves ends all of its own.
            match self.outbox.iter_mut().rev().find(|(to, _)| *to == shard) {
                Some((_, news)) if news.kind == kind && news.begins == begins => news.names.push(name.clone()),
                _ => self.outbox.push((shard, News { begins, kind, names: vec![name.clone()] })),
            }
        }
    }

    /// Other shards have to be told something.
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// What they have to be told, in order.
    pub fn take_news(&mut self) -> Vec<(ShardId, News)> {
        std::mem::take(&mut self.outbox)
    }

    /// The names that a client has subscribed to, in their order.
    pub fn names(&self, conn: ConnKey, kind: Kind) -> Vec<Name> {
        self.clients.get(&conn).map_or(Vec::new(), |places| places[kind as usize].keys().cloned().collect())
    }

    /// How many names a client has subscribed to, by kind.
    pub fn counts(&self, conn: ConnKey) -> [usize; 3] {
        self.clients.get(&conn).map_or([0; 3], |places| places.each_ref().map(BTreeMap::len))
    }

    // What is delivered on this shard.

    /// The clients of this shard that listen to a name itself.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> &[ConnKey] {
        self.topics[kind as usize].get(name).map_or(&[], Vec::as_slice)
    }

    /// The clients of this shard that listen to a pattern which matches the channel, by pattern.
    pub fn matching(&self, channel: &[u8]) -> impl Iterator<Item = (&Name, &[ConnKey])> {
        self.topics[Kind::Pattern as usize]
            .iter()
            .filter(move |(pattern, _)| glob::matches(pattern, channel, false))
            .map(|(pattern, subscribers)| (pattern, subscribers.as_slice()))
    }

    /// Names of a kind that have subscribers on this shard.
    pub fn active(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.topics[kind as usize].keys()
    }

    // What this shard is a home of.

    /// News of another shard.
    pub fn hear(&mut self, from: ShardId, news: &News, slots: &SlotMap) {
        news.names.iter().for_each(|name| self.note(news.begins, news.kind, name, from, slots));
    }

    fn note(&mut self, begins: bool, kind: Kind, name: &Name, shard: ShardId, slots: &SlotMap) {
        let is_own = slots.shard_of(name) == self.id;
        assert!(is_own || is_everywhere(kind, name), "only homes are told");
        let home = &mut self.homes[kind as usize];
        let known = home.len();
        let shards = home.entry(name.clone()).or_default();
        if begins {
            assert!(!shards.contains(&shard), "a shard has a first subscriber once");
            shards.push(shard);
        } else {
            shards.retain(|registered| *registered != shard);
        }
        if shards.is_empty() {
            home.remove(name);
        }
        if kind == Kind::Channel && is_of_events(name) {
            let change = home.len() as isize - known as isize;
            self.event_channels = self.event_channels.wrapping_add_signed(change);
            self.guests = self.guests.wrapping_add_signed(if is_own { 0 } else { change });
        }
    }

    /// The shards where somebody listens to a channel that has its home here, or whose messages come from here.
    pub fn targets(&self, kind: Kind, channel: &[u8]) -> Shards {
        let mut targets = self.homes[kind as usize].get(channel).cloned().unwrap_or_default();
        if kind == Kind::Channel {
            for (pattern, shards) in &self.homes[Kind::Pattern as usize] {
                let is_new = shards.iter().any(|shard| !targets.contains(shard));
                if is_new && glob::matches(pattern, channel, false) {
                    shards.iter().for_each(|shard| {
                        if !targets.contains(shard) {
                            targets.push(*shard);
                        }
                    });
                }
            }
        }
        targets
    }

    /// Somebody may listen to keyspace events.
    pub fn hears_events(&self) -> bool {
        self.event_channels > 0 || !self.homes[Kind::Pattern as usize].is_empty()
    }

    /// How many names of a kind have subscribers: of channels, those that belong to this shard; of patterns, all.
    pub fn registered(&self, kind: Kind) -> usize {
        let guests = if kind == Kind::Channel { self.guests } else { 0 };
        self.homes[kind as usize].len() - guests
    }
}

#[cfg(test)]
mod tests;
