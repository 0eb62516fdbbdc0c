//! A snapshot of a table that goes on changing: every entry is handed over as it was when the snapshot began.
//!
//! A walk saves group after group of entries, in the table's order, a slice at a time; and whatever is about to change an
//! entry, or to add one, saves the entry's group first. That happens in the few functions of the table through which all
//! changes go, so that no writer can forget it. Which groups are saved stands in the segments.
//!
//! The table that `take` detaches carries its snapshot along: what is freed of it is saved before.
//!
//! An entry that is a large collection is saved by a snapshot of its own table, begun when the walk or a change comes to it:
//! so a command that changes some elements saves these and their neighbours, not all of them, and nobody waits for a
//! million. The walk goes on with it before it takes the next group. An entry that leaves the table meanwhile goes on
//! saving as it is freed; only one that is moved into another table (MOVE) is finished at one go, as no walk would know of
//! it there.

use std::ops::Range;

use super::super::entry::Entry;
use super::Dict;
use super::bucket::Fingerprint;
use super::directory::{end_of, hash_of};
use super::segment::PREFIX_END;

/// Takes an entry of a snapshot, and says how much work that was, in usual entries. It may begin a snapshot of the table of
/// a collection instead, and change nothing else. Dropped when the table has no more to save.
pub type SaveFn = Box<dyn FnMut(&mut Entry, Cause) -> usize + Send>;

/// Why an entry is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its turn has come.
    Walk,
    /// Something is about to change it, or a neighbour, and waits.
    Change,
}

pub(super) struct Snapshot {
    /// Of the latest; zero: there was none yet.
    pub(super) number: u64,
    running: Option<Box<Running>>,
    unsaved_kept: bool,
    /// How much work changes have done for the snapshot since this was last asked for, in usual entries.
    saved_ahead: usize,
}

struct Running {
    save: SaveFn,
    /// Where the walk goes on.
    prefix: u32,
    /// Collections whose own snapshots have begun.
    begun: Vec<Vec<u8>>,
}

impl Snapshot {
    /// None is running.
    pub(super) fn idle(number: u64) -> Snapshot {
        Snapshot { number, running: None, unsaved_kept: false, saved_ahead: 0 }
    }

    #[inline]
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// How far a snapshot has come in a segment, for each of its 64 groups of fingerprints.
///
/// A number is compared, never flipped: the groups in `saved` are as new as `number`, all others are older. A group is a
/// range of fingerprints rather than a bucket, so that growing and shrinking cannot mix saved with unsaved entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotState {
    pub(super) number: u64,
    pub(super) saved: u64,
}

impl SnapshotState {
    const GROUP_SHIFT: u32 = Fingerprint::BITS - 6;

    pub(super) fn all_saved(number: u64) -> SnapshotState {
        SnapshotState { number, saved: u64::MAX }
    }

    pub(super) fn group(fingerprint: Fingerprint) -> u32 {
        u32::from(fingerprint.bits() >> SnapshotState::GROUP_SHIFT)
    }

    pub(super) fn group_range(group: u32) -> Range<u16> {
        (group << SnapshotState::GROUP_SHIFT) as u16..((group + 1) << SnapshotState::GROUP_SHIFT) as u16
    }

    pub(super) fn is_saved(self, group: u32, number: u64) -> bool {
        self.number == number && self.saved >> group & 1 != 0
    }

    pub(super) fn first_unsaved(self, number: u64) -> Option<u32> {
        let saved = if self.number == number { self.saved } else { 0 };
        (saved != u64::MAX).then(|| saved.trailing_ones())
    }

    pub(super) fn mark_saved(&mut self, group: u32, number: u64) {
        if self.number != number {
            *self = SnapshotState { number, saved: 0 };
        }
        self.saved |= 1 << group;
    }
}

impl Dict {
    /// Begins a snapshot in the place of one that may be running: all that is in the table is handed to `save`.
    pub fn begin_snapshot(&mut self, save: SaveFn) {
        self.abort_snapshot();
        let number = self.snapshot.number.wrapping_add(1);
        let running = (!self.is_empty()).then(|| Box::new(Running { save, prefix: 0, begun: Vec::new() }));
        self.snapshot = Snapshot { number, running, unsaved_kept: false, saved_ahead: 0 };
    }

    /// Ends a snapshot that is not complete.
    pub fn abort_snapshot(&mut self) {
        let Some(running) = self.snapshot.running.take() else { return };
        for key in &running.begun {
            self.with_elements(key, Dict::abort_snapshot);
        }
    }

    /// What it would be like if each snapshot flipped a bit: its number is that of the one before the last. A test shows
    /// what that loses.
    pub fn flip_snapshot_number(&mut self) {
        if self.snapshot.number == 1 && !self.is_in_snapshot() {
            self.snapshot.number = u64::MAX;
        }
    }

    /// There is something that the snapshot has yet to save.
    pub fn is_in_snapshot(&self) -> bool {
        self.snapshot.is_running()
    }

    /// Something with this hash can change without anything being saved before.
    pub fn is_saved(&self, hash: u64) -> bool {
        let Snapshot { number, running: Some(_), .. } = self.snapshot else { return true };
        let group = SnapshotState::group(Fingerprint::of(hash));
        self.directory.segment(hash).is_none_or(|segment| segment.snapshot.is_saved(group, number))
    }

    /// While it is so, nothing expires by itself that the snapshot has yet to save.
    pub fn keep_unsaved(&mut self, kept: bool) {
        self.snapshot.unsaved_kept = kept;
    }

    /// An entry with this hash is kept though its time is over.
    pub fn is_kept(&self, hash: u64) -> bool {
        self.snapshot.unsaved_kept && !self.is_saved(hash)
    }

    /// The same of an entry in the segment of `hash`.
    pub(super) fn keeps(&self, hash: u64, fingerprint: Fingerprint) -> bool {
        let Snapshot { number, running: Some(_), unsaved_kept: true, .. } = self.snapshot else { return false };
        let group = SnapshotState::group(fingerprint);
        self.directory.segment(hash).is_some_and(|segment| !segment.snapshot.is_saved(group, number))
    }

    /// Saves about as much as so many usual entries, in the table's order; how much it was. The last slice ends the
    /// snapshot.
    pub fn snapshot_slice(&mut self, entries_max: usize) -> usize {
        let mut saved = 0;
        while let Some(running) = &mut self.snapshot.running {
            if let Some(key) = running.begun.pop() {
                let left = entries_max.saturating_sub(saved);
                let go_on = |table: &mut Dict| (table.snapshot_slice(left), table.is_in_snapshot());
                let (work, is_more) = self.with_elements(&key, go_on).unwrap_or_default();
                saved += work;
                if is_more {
                    self.snapshot.running.as_mut().expect("it goes on").begun.push(key);
                    if saved >= entries_max {
                        break;
                    }
                }
                continue;
            }
            let prefix = running.prefix;
            let Some(segment) = self.directory.segment(hash_of(prefix)).filter(|_| prefix < PREFIX_END) else {
                self.snapshot.running = None;
                break;
            };
            let Some(group) = segment.snapshot.first_unsaved(self.snapshot.number) else {
                running.prefix = end_of(segment);
                self.directory.prefetch_header_behind(hash_of(running.prefix));
                continue;
            };
            if saved >= entries_max {
                break;
            }
            saved += self.save_group(hash_of(prefix), group, Cause::Walk);
        }
        saved
    }

    /// Does something to the table of the collection at a key, if there is one.
    fn with_elements<R>(&mut self, key: &[u8], act: impl FnOnce(&mut Dict) -> R) -> Option<R> {
        let hash = self.hash(key);
        let mut occupied = self.get_mut(hash, key)?;
        occupied.entry.table_mut().map(act)
    }

    /// What has to happen before anything with this hash changes.
    #[inline]
    pub(super) fn before_change(&mut self, hash: u64) {
        if self.snapshot.is_running() {
            self.save_before_change(hash, Fingerprint::of(hash));
        }
    }

    /// The same for an entry in the segment of `hash`.
    #[cold]
    pub(super) fn save_before_change(&mut self, hash: u64, fingerprint: Fingerprint) {
        let group = SnapshotState::group(fingerprint);
        let number = self.snapshot.number;
        if self.directory.segment(hash).is_some_and(|segment| !segment.snapshot.is_saved(group, number)) {
            self.snapshot.saved_ahead += self.save_group(hash, group, Cause::Change);
        }
    }

    /// How much work changes have done for the snapshot since the last call, in usual entries.
    pub fn take_saved_ahead(&mut self) -> usize {
        std::mem::take(&mut self.snapshot.saved_ahead)
    }

    /// Saves a group that is not saved, in the segment of a hash; how much work that was.
    fn save_group(&mut self, hash: u64, group: u32, cause: Cause) -> usize {
        let Snapshot { number, running: Some(running), .. } = &mut self.snapshot else { return 0 };
        let Running { save, begun, .. } = &mut **running;
        let segment = self.directory.segment_mut(hash).expect("what is not saved is in a segment");
        let range = SnapshotState::group_range(group);
        let homes = segment.home_of(range.start)..=segment.home_of(range.end - 1);
        segment.prefetch_entries(*homes.start());
        let mut saved = 0;
        for home in homes {
            segment.prefetch_entries(home + 1);
            segment.visit_home_mut(home, range.clone(), |entry| {
                entry.share_text();
                saved += save(entry, cause);
                if entry.table_mut().is_some_and(|table| table.is_in_snapshot()) {
                    begun.push(entry.key().to_vec());
                }
            });
        }
        segment.snapshot.mark_saved(group, *number);
        saved
    }
}

/// Ends the snapshot of a collection's table by saving the rest of it.
pub(super) fn finish_elements(entry: &mut Entry) {
    if let Some(table) = entry.table_mut().filter(|table| table.is_in_snapshot()) {
        table.snapshot_slice(usize::MAX);
    }
}
