//! What a running snapshot needs from the table: which entries it has yet to save, before a writer changes them.

use std::ops::Range;

use super::super::entry::EntryRef;
use super::Dict;
use super::bucket::Fingerprint;

#[derive(Clone, Copy)]
pub(super) struct Snapshot {
    pub(super) number: u64,
    pub(super) running: bool,
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

    pub(super) fn mark_saved(&mut self, group: u32, number: u64) {
        if self.number != number {
            *self = SnapshotState { number, saved: 0 };
        }
        self.saved |= 1 << group;
    }
}

impl Dict {
    /// Begins a snapshot: from now on all that is in the table counts as not saved. Numbers ascend.
    pub fn begin_snapshot(&mut self, number: u64) {
        assert!(number > self.snapshot.number, "numbers of snapshots ascend");
        self.snapshot = Snapshot { number, running: true };
    }

    /// Ends a snapshot, complete or not.
    pub fn end_snapshot(&mut self) {
        self.snapshot.running = false;
    }

    /// Whether a key may be written without saving first what the running snapshot has to contain.
    #[inline]
    pub fn is_saved(&self, hash: u64) -> bool {
        let Snapshot { number, running } = self.snapshot;
        let group = SnapshotState::group(Fingerprint::of(hash));
        !running || self.directory.segment(hash).is_none_or(|segment| segment.snapshot.is_saved(group, number))
    }

    /// Visits the entries that are saved together with a key, and marks them as saved. Those that are so already are not
    /// visited.
    pub fn save_group(&mut self, hash: u64, mut visit: impl FnMut(EntryRef<'_>)) {
        if self.is_saved(hash) {
            return;
        }
        let number = self.snapshot.number;
        let group = SnapshotState::group(Fingerprint::of(hash));
        let range = SnapshotState::group_range(group);
        let segment = self.directory.segment_mut(hash).expect("what is not saved is in a segment");
        for home in segment.home_of(range.start)..=segment.home_of(range.end - 1) {
            segment.visit_home(home, range.clone(), &mut visit);
        }
        segment.snapshot.mark_saved(group, number);
    }
}
