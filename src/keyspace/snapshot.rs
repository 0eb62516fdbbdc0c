//! A point-in-time walk over the databases of one shard, in slices between which commands run.
//!
//! The tables themselves see to it that nothing is lost (`data/dict/snapshot.rs`): what a command changes is saved
//! before, a table that a flush detaches is saved while it is freed. So the walk has only to go on until no table has
//! anything left; SWAPDB may exchange tables under it, as each knows from `save` which database it was at the cut.
//!
//! A stepper: it knows no clock and no file. Who drives it says how many entries fit into a slice.

use super::Keyspace;
use crate::data::dict::{Dict, SaveFn};

impl Keyspace {
    /// Begins a snapshot of all databases, in the place of one that may be running: now is what `save` of each database
    /// will be given. It is dropped as soon as the database is saved whole.
    pub fn begin_snapshot(&mut self, mut save: impl FnMut(usize) -> SaveFn) {
        for (db, table) in self.dbs.iter_mut().enumerate() {
            table.abort_snapshot();
            if !table.is_empty() {
                table.begin_snapshot(save(db));
            }
        }
    }

    /// Saves about as much as `entries_max` usual entries; true if there is more.
    pub fn snapshot_slice(&mut self, entries_max: usize) -> bool {
        let mut left = entries_max;
        for table in self.dbs.iter_mut().filter(|table| table.is_in_snapshot()) {
            left = left.saturating_sub(table.snapshot_slice(left));
            if table.is_in_snapshot() {
                return true;
            }
        }
        false
    }

    /// How much work changes have done for the snapshot since the last call, in usual entries.
    pub fn take_saved_ahead(&mut self) -> usize {
        self.dbs.iter_mut().map(Dict::take_saved_ahead).sum()
    }

    /// Ends a snapshot that is not complete, but for tables that a flush detached.
    pub fn abort_snapshot(&mut self) {
        self.dbs.iter_mut().for_each(Dict::abort_snapshot);
    }

    /// See [`Dict::flip_snapshot_number`].
    pub fn flip_snapshot_numbers(&mut self) {
        self.dbs.iter_mut().for_each(Dict::flip_snapshot_number);
    }

    pub fn is_in_snapshot(&self) -> bool {
        self.dbs.iter().any(Dict::is_in_snapshot)
    }

    /// Whatever happens to this key, in any database, nothing has to be saved before.
    pub fn is_saved(&self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        self.dbs.iter().all(|table| table.is_saved(hash))
    }

    pub fn keeps_unsaved(&self) -> bool {
        self.unsaved_kept
    }

    /// While it is so, what the snapshot has yet to save does not expire by itself: it is only not seen any more.
    pub fn keep_unsaved(&mut self, kept: bool) {
        self.unsaved_kept = kept;
        self.dbs.iter_mut().for_each(|table| table.keep_unsaved(kept));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use super::*;
    use crate::base::rng::Rng;
    use crate::data::entry::{Entry, Value, ValueRef};
    use crate::keyspace::HashSeeds;

    const DATABASES: usize = 3;
    const KEYS: u64 = 3000;

    type Contents = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

    fn text(entry: crate::data::entry::EntryRef<'_>) -> Vec<u8> {
        let ValueRef::Text(text) = entry.value() else { panic!("tests store strings") };
        text.bytes(&mut itoa::Buffer::new()).to_vec()
    }

    fn contents(keyspace: &Keyspace) -> Contents {
        let of_db = |db: usize| keyspace.db(db).iter().map(move |entry| ((db, entry.key().to_vec()), text(entry)));
        (0..keyspace.databases()).flat_map(of_db).collect()
    }

    /// One random change, as commands make them.
    fn change(keyspace: &mut Keyspace, rng: &mut Rng, detached: &mut Vec<Dict>) {
        let (db, key) = (rng.below(DATABASES as u64) as usize, rng.below(KEYS).to_string().into_bytes());
        let (hash, value) = (keyspace.hash(&key), rng.next_u64().to_string().into_bytes());
        match rng.below(1000) {
            0 => keyspace.swap(db, rng.below(DATABASES as u64) as usize),
            1 => detached.extend(keyspace.take(db)),
            2 => drop(keyspace.take(db)),
            3..300 => drop(keyspace.db_mut(db).remove(hash, &key)),
            _ => match keyspace.db_mut(db).get_mut(hash, &key) {
                Some(mut occupied) => occupied.update(|entry| entry.set_value(Value::Text(&value))),
                None => keyspace.db_mut(db).insert(hash, Entry::new(&key, Value::Text(&value), None, 0)),
            },
        }
    }

    #[test]
    fn a_snapshot_is_what_there_was_at_the_cut_whatever_happens_meanwhile() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let mut keyspace = Keyspace::new(DATABASES, HashSeeds([1, 2, 3, seed]), 0);
            let mut detached = Vec::new();
            for round in 0..4 {
                (0..rng.below(4000)).for_each(|_| change(&mut keyspace, &mut rng, &mut detached));
                let cut = contents(&keyspace);
                let (save, saved) = mpsc::channel();
                keyspace.begin_snapshot(|db| {
                    let save = save.clone();
                    Box::new(move |entry, _| {
                        save.send((db, entry.key().to_vec(), text(entry.as_ref()))).expect("the test listens");
                        1
                    })
                });
                drop(save);
                // A later one takes the place of the first two.
                let completes = round > 1;
                let mut slices = rng.below(20);
                while keyspace.snapshot_slice(1 + rng.below(300) as usize) && (completes || slices > 0) {
                    slices = slices.saturating_sub(1);
                    (0..rng.below(100)).for_each(|_| change(&mut keyspace, &mut rng, &mut detached));
                    detached.retain_mut(|table| !table.clear_slice(50));
                }
                if !completes {
                    keyspace.abort_snapshot();
                }
                detached.clear();
                // Nobody can send any more: it is complete, and the end is known without being told.
                let mut seen = Contents::new();
                for (db, key, value) in &saved {
                    assert!(seen.insert((db, key), value).is_none(), "seed {seed}: saved twice");
                }
                assert!(!keyspace.is_in_snapshot());
                if completes {
                    assert!(seen == cut, "seed {seed}: {} keys of {}", seen.len(), cut.len());
                } else {
                    assert!(
                        seen.iter().all(|(key, value)| cut.get(key) == Some(value)),
                        "seed {seed}: newer than the cut"
                    );
                }
            }
        }
    }

    #[test]
    fn a_bit_in_place_of_a_number_would_lose_what_an_aborted_snapshot_has_left() {
        let mut keyspace = Keyspace::new(1, HashSeeds([1, 2, 3, 4]), 0);
        let hash = keyspace.hash(b"k");
        keyspace.db_mut(0).insert(hash, Entry::new(b"k", Value::Text(b"v"), None, 0));
        let mut saved = |flips: bool| {
            let (save, saved) = mpsc::channel();
            keyspace.begin_snapshot(|_| Box::new(|_, _| 1));
            keyspace.abort_snapshot();
            if flips {
                keyspace.flip_snapshot_numbers();
            }
            keyspace.begin_snapshot(|_| {
                let save = save.clone();
                Box::new(move |_, _| {
                    save.send(()).expect("the test listens");
                    1
                })
            });
            while keyspace.snapshot_slice(1) {}
            saved.try_iter().count()
        };
        assert_eq!((saved(true), saved(false)), (0, 1));
    }

    #[test]
    fn a_key_is_saved_by_the_walk_or_by_a_change_or_when_there_is_no_snapshot() {
        let mut keyspace = Keyspace::new(1, HashSeeds([1, 2, 3, 4]), 0);
        let keys: Vec<Vec<u8>> = (0..1000).map(|n: u32| n.to_string().into_bytes()).collect();
        for key in &keys {
            let hash = keyspace.hash(key);
            keyspace.db_mut(0).insert(hash, Entry::new(key, Value::Text(b"v"), None, 0));
        }
        let saved = |keyspace: &Keyspace| keys.iter().filter(|key| keyspace.db(0).is_saved(keyspace.hash(key))).count();
        assert_eq!(saved(&keyspace), 1000);
        keyspace.begin_snapshot(|_| Box::new(|_, _| 1));
        assert_eq!(saved(&keyspace), 0);
        let hash = keyspace.hash(&keys[7]);
        keyspace.db_mut(0).get_mut(hash, &keys[7]).expect("it is there").update(|entry| entry.set_expire(Some(1)));
        assert!(keyspace.db(0).is_saved(hash) && saved(&keyspace) < 100);
        keyspace.snapshot_slice(500);
        assert!((400..700).contains(&saved(&keyspace)), "{}", saved(&keyspace));
        keyspace.snapshot_slice(1000);
        assert_eq!(saved(&keyspace), 1000);
    }
}
