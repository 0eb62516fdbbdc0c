//! Clients that wait for keys of one shard to have something (BLPOP, XREAD BLOCK), in the order in which they came.
//!
//! A client may wait at several shards, and each may find something for it at the same time as its timeout runs out or its
//! connection ends. Whoever turns its [`Ticket`] first has it: a shard pops nothing for a client before. What a shard can
//! do alone it does at once, as Redis does: the command runs again as soon as the one that brought data is over. A
//! command that also needs another shard (BLMOVE to a key elsewhere) is woken instead: its coordinator runs it again
//! through the ordinary locks, and it keeps its place meanwhile, nobody behind it being served.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::base::ids::{ConnKey, ShardId};
use crate::base::ticket::Ticket;
use crate::command::KeyRow;
use crate::command::effect::Change;
use crate::command::wait::IsReady;
use crate::resp::reply::Protocol;

/// A client that waits: where it is, and its ticket.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub shard: ShardId,
    pub conn: ConnKey,
    pub ticket: Arc<Ticket>,
    /// What its command reads is tracked.
    pub tracks: bool,
}

/// What a client waits for at one shard.
#[derive(Clone, Debug)]
pub struct Blocked {
    pub waiter: Waiter,
    pub row: &'static KeyRow,
    pub db: usize,
    /// The command, with only those of its keys that are waited for here, unless it has to be woken.
    pub words: Vec<Vec<u8>>,
    /// The keys that it waits for.
    pub keys: Vec<Vec<u8>>,
    pub protocol: Protocol,
    pub is_ready: IsReady,
    /// It also wants to know when a key is gone.
    pub minds_removal: bool,
    /// It cannot run here alone.
    pub is_woken: bool,
}

/// In the order of arrival.
pub type Place = u64;

#[derive(Debug, Default)]
pub struct BlockTable {
    by_place: BTreeMap<Place, Entry>,
    by_client: HashMap<(ShardId, ConnKey), Place>,
    by_key: HashMap<(usize, Vec<u8>), Queue>,
    next: Place,
    /// Keys that have changed and are waited for.
    ready: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct Entry {
    blocked: Blocked,
    /// It has been woken, and is running elsewhere.
    woken: bool,
}

#[derive(Debug, Default)]
struct Queue {
    places: VecDeque<Place>,
    /// How many of them mind a removal.
    minding: usize,
}

impl BlockTable {
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// Keys that are waited for.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Keys that are waited for by somebody who minds their removal.
    pub fn keys_minding_removal(&self) -> usize {
        self.by_key.values().filter(|queue| queue.minding > 0).count()
    }

    /// A client waits from now on. One that was woken in vain takes the place that it had.
    pub fn insert(&mut self, blocked: Blocked) {
        let client = (blocked.waiter.shard, blocked.waiter.conn);
        if let Some(entry) = self.by_client.get(&client).and_then(|place| self.by_place.get_mut(place)) {
            debug_assert_eq!(entry.blocked.keys, blocked.keys);
            let keys = blocked.keys.iter().map(|key| (blocked.db, key.clone()));
            // What came while it ran elsewhere may be for it.
            self.ready.extend(keys);
            *entry = Entry { blocked, woken: false };
            return;
        }
        let place = self.next;
        self.next += 1;
        for key in &blocked.keys {
            let queue = self.by_key.entry((blocked.db, key.clone())).or_default();
            // A key may be named twice.
            if queue.places.back() != Some(&place) {
                queue.places.push_back(place);
                queue.minding += usize::from(blocked.minds_removal);
            }
        }
        self.by_client.insert(client, place);
        self.by_place.insert(place, Entry { blocked, woken: false });
    }

    /// A client no longer waits. If others were held up behind it, their keys are looked at again.
    pub fn remove(&mut self, shard: ShardId, conn: ConnKey) {
        let Some(place) = self.by_client.remove(&(shard, conn)) else { return };
        let Entry { blocked, woken } = self.by_place.remove(&place).expect("a client that waits has a place");
        for key in blocked.keys {
            let key = (blocked.db, key);
            let Some(queue) = self.by_key.get_mut(&key) else { continue };
            if let Ok(at) = queue.places.binary_search(&place) {
                queue.places.remove(at);
                queue.minding -= usize::from(blocked.minds_removal);
            }
            if queue.places.is_empty() {
                self.by_key.remove(&key);
            } else if woken {
                self.ready.push(key);
            }
        }
    }

    /// Takes note of a change.
    pub fn changed(&mut self, change: &Change) {
        let is_concerned = |db: usize| match *change {
            Change::Flushed { db: flushed } => db == flushed,
            Change::Swapped { a, b } => db == a || db == b,
            Change::Key { .. } => unreachable!("looked up"),
        };
        match change {
            Change::Key { db, key } => {
                let key = (*db, key.clone());
                if self.by_key.contains_key(&key) {
                    self.ready.push(key);
                }
            }
            _ => self.ready.extend(self.by_key.keys().filter(|(db, _)| is_concerned(*db)).cloned()),
        }
    }

    /// Keys to look at, in the order in which they changed, each once.
    pub fn take_ready(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut ready: Vec<(usize, Vec<u8>)> = Vec::new();
        for key in self.ready.drain(..) {
            if !ready.contains(&key) {
                ready.push(key);
            }
        }
        ready
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The key has to be looked at another time: what it takes is locked now.
    pub fn postpone(&mut self, db: usize, key: Vec<u8>) {
        self.ready.push((db, key));
    }

    /// Who waits for a key behind this place; `None` if that is nobody, or somebody who is running elsewhere. Where the
    /// key is `gone`, only those count who mind that.
    pub fn behind(&self, db: usize, key: &[u8], place: Option<Place>, gone: bool) -> Option<(Place, &Blocked)> {
        let queue = self.by_key.get(&(db, key.to_vec()))?;
        if gone && queue.minding == 0 {
            return None;
        }
        let from = place.map_or(0, |place| queue.places.partition_point(|&other| other <= place));
        let place = *queue.places.get(from)?;
        let entry = &self.by_place[&place];
        (!entry.woken).then_some((place, &entry.blocked))
    }

    /// The client at this place runs elsewhere from now on; nobody behind it is served until it is done.
    pub fn wake(&mut self, place: Place) {
        self.by_place.get_mut(&place).expect("only who waits is woken").woken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::list;

    fn conn(index: u32) -> ConnKey {
        ConnKey { index, generation: 1 }
    }

    fn blocked(index: u32, keys: &[&str]) -> Blocked {
        Blocked {
            waiter: Waiter { shard: 0, conn: conn(index), ticket: Arc::default(), tracks: false },
            row: &list::blocking::ROWS[0],
            db: 0,
            words: Vec::new(),
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            protocol: Protocol::Resp2,
            is_ready: |_, _, _| true,
            minds_removal: false,
            is_woken: false,
        }
    }

    fn queue(table: &BlockTable, key: &str) -> Vec<u32> {
        let (mut clients, mut place) = (Vec::new(), None);
        while let Some((at, blocked)) = table.behind(0, key.as_bytes(), place, false) {
            clients.push(blocked.waiter.conn.index);
            place = Some(at);
        }
        clients
    }

    fn change(key: &str) -> Change {
        Change::Key { db: 0, key: key.into() }
    }

    #[test]
    fn clients_stand_in_the_order_in_which_they_came() {
        let mut table = BlockTable::default();
        table.insert(blocked(1, &["a", "b", "a"]));
        table.insert(blocked(2, &["b"]));
        assert_eq!((queue(&table, "a"), queue(&table, "b")), (vec![1], vec![1, 2]));
        table.remove(0, conn(1));
        assert_eq!((queue(&table, "a"), queue(&table, "b")), (vec![], vec![2]));
        table.remove(0, conn(2));
        assert!(table.is_empty() && table.keys() == 0);
    }

    #[test]
    fn only_keys_that_are_waited_for_become_ready() {
        let mut table = BlockTable::default();
        table.insert(blocked(1, &["a", "b"]));
        for key in ["c", "b", "a", "b"] {
            table.changed(&change(key));
        }
        assert_eq!(table.take_ready(), [(0, b"b".to_vec()), (0, b"a".to_vec())]);
        table.changed(&Change::Flushed { db: 1 });
        assert!(!table.has_ready());
        table.changed(&Change::Swapped { a: 0, b: 1 });
        assert_eq!(table.take_ready().len(), 2);
    }

    #[test]
    fn a_woken_client_keeps_its_place_and_holds_up_those_behind() {
        let mut table = BlockTable::default();
        table.insert(blocked(1, &["a"]));
        table.insert(blocked(2, &["a"]));
        let (place, _) = table.behind(0, b"a", None, false).expect("somebody waits");
        table.wake(place);
        assert!(queue(&table, "a").is_empty());
        table.insert(blocked(1, &["a"]));
        assert_eq!(queue(&table, "a"), [1, 2]);
        assert_eq!(table.take_ready().len(), 1, "data may have come meanwhile");
        table.wake(place);
        table.remove(0, conn(1));
        assert_eq!((table.take_ready().len(), queue(&table, "a")), (1, vec![2]));
    }
}
