//! Keys of one shard that clients watch (WATCH), and whether one of them has changed since.
//!
//! The client may be anywhere; what it watches is noted where the key lives, and asked for when its EXEC holds its
//! locks there. A key that did not exist is noted so: flushing a database changes nothing about it (Redis:
//! `touchAllWatchedKeysInDb`).

use std::collections::HashMap;

use crate::base::ids::{ConnKey, ShardId};
use crate::command::effect::Change;

/// A client: its shard, and its connection there.
pub type Watcher = (ShardId, ConnKey);

#[derive(Debug, Default)]
pub struct WatchTable {
    /// By database and key.
    watchers: HashMap<(usize, Vec<u8>), Vec<Watcher>>,
    states: HashMap<Watcher, State>,
}

#[derive(Debug, Default)]
struct State {
    dirty: bool,
    keys: Vec<Watched>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub db: usize,
    pub key: Vec<u8>,
    /// It was there when it began to be watched.
    pub existed: bool,
}

impl WatchTable {
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Clients that watch keys here.
    pub fn clients(&self) -> usize {
        self.states.len()
    }

    /// Keys that somebody watches.
    pub fn watched_keys(&self) -> usize {
        self.watchers.len()
    }

    /// From now on a change of the key makes the client's next EXEC do nothing. Told twice, the first time counts: a WATCH
    /// that another shard refused comes again.
    pub fn watch(&mut self, watcher: Watcher, watched: Watched) {
        let state = self.states.entry(watcher).or_default();
        if state.keys.iter().any(|known| (known.db, &known.key) == (watched.db, &watched.key)) {
            return;
        }
        self.watchers.entry((watched.db, watched.key.clone())).or_default().push(watcher);
        state.keys.push(watched);
    }

    /// Whether a key that the client watches has changed.
    pub fn is_dirty(&self, watcher: Watcher) -> bool {
        self.states.get(&watcher).is_some_and(|state| state.dirty)
    }

    /// What a client watches here.
    pub fn watched(&self, watcher: Watcher) -> &[Watched] {
        self.states.get(&watcher).map_or(&[], |state| &state.keys)
    }

    /// Forgets a client: whether one of its keys has changed.
    pub fn forget(&mut self, watcher: Watcher) -> bool {
        let Some(state) = self.states.remove(&watcher) else { return false };
        for Watched { db, key, .. } in state.keys {
            let place = (db, key);
            let watchers = self.watchers.get_mut(&place).expect("a watched key is known by its watchers");
            watchers.retain(|other| *other != watcher);
            if watchers.is_empty() {
                self.watchers.remove(&place);
            }
        }
        state.dirty
    }

    /// Takes note of a change. `exists` tells of a key whether it is there now.
    pub fn changed(&mut self, change: &Change, mut exists: impl FnMut(usize, &[u8]) -> bool) {
        let WatchTable { watchers, states } = self;
        match change {
            Change::Key { db, key } => {
                // A borrowed pair would do, if tuples could be borrowed by parts.
                for watcher in watchers.get(&(*db, key.clone())).into_iter().flatten() {
                    states.get_mut(watcher).expect("a watcher has a state").dirty = true;
                }
            }
            Change::Flushed { db } => {
                for state in states.values_mut() {
                    state.dirty |= state.keys.iter().any(|watched| watched.db == *db && watched.existed);
                }
            }
            Change::Swapped { a, b } => {
                for state in states.values_mut() {
                    let mut swapped = state.keys.iter().filter(|watched| watched.db == *a || watched.db == *b);
                    state.dirty |= swapped.any(|watched| watched.existed || exists(watched.db, &watched.key));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Watcher = (0, ConnKey { index: 1, generation: 1 });
    const OTHER: Watcher = (1, ConnKey { index: 1, generation: 1 });

    fn table(watched: &[(Watcher, usize, &str, bool)]) -> WatchTable {
        let mut table = WatchTable::default();
        for &(watcher, db, key, existed) in watched {
            table.watch(watcher, Watched { db, key: key.into(), existed });
        }
        table
    }

    fn key(db: usize, key: &str) -> Change {
        Change::Key { db, key: key.into() }
    }

    #[test]
    fn a_change_is_seen_by_all_who_watch_the_key_and_by_nobody_else() {
        let mut table = table(&[(CLIENT, 0, "a", true), (OTHER, 0, "b", true), (OTHER, 1, "a", true)]);
        table.changed(&key(0, "a"), |_, _| true);
        assert!(!table.forget(OTHER), "another key, another database");
        assert!(table.forget(CLIENT));
        assert!(!table.forget(CLIENT) && table.is_empty());
    }

    #[test]
    fn a_key_that_is_watched_twice_is_forgotten_once() {
        let mut table = table(&[(CLIENT, 0, "a", true), (CLIENT, 0, "a", false), (OTHER, 0, "a", true)]);
        table.changed(&Change::Flushed { db: 0 }, |_, _| false);
        assert!(table.is_dirty(CLIENT) && table.is_dirty(OTHER), "what counts is how it was at first");
        assert_eq!((table.watched_keys(), table.clients()), (1, 2));
        assert!(table.forget(CLIENT) && table.forget(OTHER) && table.is_empty());
    }

    #[test]
    fn a_flush_changes_only_what_was_there() {
        let mut table = table(&[(CLIENT, 0, "absent", false), (OTHER, 0, "present", true)]);
        table.changed(&Change::Flushed { db: 1 }, |_, _| false);
        table.changed(&Change::Flushed { db: 0 }, |_, _| false);
        assert!(!table.forget(CLIENT) && table.forget(OTHER));
    }

    #[test]
    fn a_swap_changes_what_was_there_or_is_now() {
        let mut table = table(&[(CLIENT, 1, "nowhere", false), (OTHER, 1, "appears", false)]);
        table.changed(&Change::Swapped { a: 0, b: 1 }, |db, key| (db, key) == (1, b"appears"));
        assert!(!table.forget(CLIENT) && table.forget(OTHER));
    }
}
