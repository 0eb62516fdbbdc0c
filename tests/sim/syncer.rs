//! The threads beside the shards, which wait for the disk: rounds of `everysec` are synced, and saves written. Here they
//! go on a step at a time, whenever the scheduler likes. A save may be given up at any moment.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use peristyle::admin::ctx::Server;
use peristyle::base::rng::Rng;
use peristyle::persist::aof::rounds::Syncing;

use crate::disk::SimDisk;

type Work = Box<dyn FnOnce() + Send>;

thread_local! {
    static SAVES: RefCell<VecDeque<Work>> = const { RefCell::new(VecDeque::new()) };
}

/// In place of a thread.
pub fn spawn(work: Work) -> io::Result<()> {
    SAVES.with_borrow_mut(|saves| saves.push_back(work));
    Ok(())
}

pub struct Syncer {
    server: Arc<Server>,
    disk: SimDisk,
    syncing: Option<Syncing>,
    /// One time in so many that it could go on, a save is given up.
    gives_up_one_in: u64,
    given_up: u64,
    rng: Rng,
}

/// What waits for a new base, as a sync has failed, does not wait for ever.
const GIVEN_UP_MAX: u64 = 3;

/// Who knows of a save that no shard feeds any more: its thread, twice, the process, and who asks.
const HOLDERS_AT_THE_END: usize = 4;

impl Syncer {
    pub fn new(server: Arc<Server>, disk: SimDisk, gives_up_one_in: u64, seed: u64) -> Syncer {
        SAVES.take();
        Syncer { server, disk, syncing: None, gives_up_one_in, given_up: 0, rng: Rng::new(seed) }
    }

    pub fn can_act(&self) -> bool {
        self.syncing.is_some() || self.server.aof.rounds.is_under_way() || self.can_save() || self.may_give_up()
    }

    fn may_give_up(&self) -> bool {
        let gives_up = self.gives_up_one_in > 0 && self.given_up < GIVEN_UP_MAX;
        gives_up && self.server.persistence.running().is_some_and(|saving| !saving.is_given_up())
    }

    /// What a thread would wait for has come: all that the shards have for the file, or that nobody wants it any more.
    fn can_save(&self) -> bool {
        SAVES.with_borrow(|saves| !saves.is_empty())
            && self.server.persistence.running().is_some_and(|saving| {
                let all_begun = (0..self.server.shards).all(|shard| saving.has_begun(shard));
                saving.is_given_up() || all_begun && Arc::strong_count(&saving) == HOLDERS_AT_THE_END
            })
    }

    pub fn act(&mut self) {
        if self.may_give_up() && self.rng.below(self.gives_up_one_in) == 0 {
            self.server.persistence.cancel_rewrite();
            self.given_up += 1;
            return;
        }
        if self.can_save() {
            return self.save();
        }
        let aof = &self.server.aof;
        // A round that the shards have not ended yet is none.
        let syncing = self.syncing.take().or_else(|| aof.begin_sync());
        self.syncing = syncing.and_then(|mut syncing| (!aof.sync_step(&mut syncing)).then_some(syncing));
    }

    /// Nothing but the disk, or who gives it up, keeps a save from being complete.
    fn save(&self) {
        let saving = self.server.persistence.running().expect("looked at by the caller");
        let (is_given_up, failures) = (saving.is_given_up(), self.disk.failures());
        let work = SAVES.with_borrow_mut(VecDeque::pop_front).expect("looked at by the caller");
        work();
        if !is_given_up && self.disk.failures() == failures {
            let [saved, total] = [&saving.keys_saved, &saving.keys_total].map(|keys| keys.load(Relaxed));
            assert!(saved == total, "a save has {saved} keys of {total}");
        }
    }
}
