//! Active expiry: collecting keys whose time is over, a slice at a time.
//!
//! A pass goes over the segments and looks into those whose earliest tick is due. Between passes the table knows the
//! earliest tick of all, so that nothing is done while nothing is due.

use super::super::entry::{Entry, EntryRef};
use super::bucket::prefetch;
use super::directory::{end_of, hash_of};
use super::expiries::{TICK_NEVER, Tick};
use super::segment::{PREFIX_END, Place};
use super::{Dict, REMOVE_BATCH};

/// The expiry index counts in units of 128 ms: a key is collected that much after its time at most (and is invisible
/// from its time on), and 32 bits last for 17 years. What expires later is collected on access only.
pub(super) const TICK_MS_LOG2: u32 = 7;
/// An expiry slice looks at this many segments for each entry that it may collect.
const SEGMENTS_PER_EXPIRED: usize = 4;

/// What `expire_slice` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireSlice {
    pub expired: usize,
    /// There may be more that is due.
    pub more: bool,
}

pub(super) struct ExpiryState {
    /// Tick zero.
    pub(super) base_ms: i64,
    pub(super) len: usize,
    pub(super) usable_bytes: usize,
    /// Sum of all ticks, for the average.
    pub(super) tick_sum: u64,
    /// No key is due earlier. Lowered by insertions, raised at the end of a pass over all segments.
    pub(super) tick_min: Tick,
    /// Where the pass goes on, and the earliest tick that it leaves behind.
    pub(super) pass_prefix: u32,
    pub(super) pass_tick_min: Tick,
    /// Something due was not admitted, so that another pass at once would be in vain.
    pass_refused: bool,
}

impl Dict {
    /// Removes keys whose time is before `now_ms`: up to `entries_max` of those that `admit` lets go.
    ///
    /// The index names them; no other entry is touched. Call again at once if there is more, else not before
    /// `next_expire_ms`. What is not admitted stays due.
    pub fn expire_slice(
        &mut self,
        now_ms: i64,
        entries_max: usize,
        mut admit: impl FnMut(EntryRef<'_>) -> bool,
        mut on_expired: impl FnMut(Entry),
    ) -> ExpireSlice {
        let mut slice = ExpireSlice { expired: 0, more: false };
        let Some(now) = self.expiry.now(now_ms) else { return slice };
        if self.expiry.tick_min > now {
            return slice;
        }
        for _ in 0..=entries_max.saturating_mul(SEGMENTS_PER_EXPIRED) {
            let hash = hash_of(self.expiry.pass_prefix);
            self.directory.prefetch_header_behind(hash);
            let Some(segment) = self.directory.segment(hash) else { return slice };
            if segment.expiries.tick_min() <= now {
                let complete = self.expire_segment(hash, now, entries_max, &mut slice, &mut admit, &mut on_expired);
                if !complete {
                    slice.more = true;
                    return slice;
                }
            }
            // The segment may have been merged or freed.
            let Some(segment) = self.directory.segment(hash) else { return slice };
            self.expiry.pass_tick_min = self.expiry.pass_tick_min.min(segment.expiries.tick_min());
            self.expiry.pass_prefix = end_of(segment);
            if self.expiry.pass_prefix == PREFIX_END {
                slice.more = self.expiry.end_pass() <= now && !std::mem::take(&mut self.expiry.pass_refused);
                return slice;
            }
        }
        slice.more = true;
        slice
    }

    /// Collects what is due in one segment; false if `entries_max` came first.
    fn expire_segment(
        &mut self,
        hash: u64,
        now: Tick,
        entries_max: usize,
        slice: &mut ExpireSlice,
        admit: &mut impl FnMut(EntryRef<'_>) -> bool,
        on_expired: &mut impl FnMut(Entry),
    ) -> bool {
        let Some(segment) = self.directory.segment(hash) else { return true };
        let mut end = segment.expiries.len();
        loop {
            let Some(segment) = self.directory.segment(hash) else { return true };
            let mut batch = [None; REMOVE_BATCH];
            let mut batch_len = 0;
            while batch_len < REMOVE_BATCH.min(entries_max - slice.expired) {
                let Some(index) = segment.expiries.due_before(end, now) else {
                    end = 0;
                    break;
                };
                end = index;
                let at = segment.expiry_place(index);
                segment.prefetch_place(at);
                batch[batch_len] = Some(at);
                batch_len += 1;
            }
            let batch = batch.into_iter().flatten();
            for at in batch.clone() {
                prefetch(segment.entry_pointer(at).as_ptr());
            }
            // Records behind `end` are not due or were seen; removing from the back never moves an unseen one.
            for at in batch {
                let segment = self.directory.segment(hash).expect("nothing merges before after_removal");
                if !self.keeps(hash, segment.fingerprint(at)) && admit(segment.entry(at)) {
                    on_expired(self.take_at(hash, at));
                    slice.expired += 1;
                } else {
                    self.expiry.pass_refused = true;
                }
            }
            let exhausted = slice.expired == entries_max;
            if end == 0 || exhausted {
                if let Some(segment) = self.directory.segment_mut(hash) {
                    segment.expiries.recompute_tick_min();
                }
                self.after_removal(hash);
                return !exhausted;
            }
        }
    }

    /// No active expiry has anything to do before this time; nothing at all if no key has an expiry.
    pub fn next_expire_ms(&self) -> Option<i64> {
        (self.expiry.len > 0 && self.expiry.tick_min < TICK_NEVER).then(|| self.expiry.due_ms(self.expiry.tick_min))
    }

    /// The average of what is left to live of the keys that have an expiry, for INFO.
    pub fn average_ttl_ms(&self, now_ms: i64) -> i64 {
        let Some(average) = self.expiry.tick_sum.checked_div(self.expiry.len as u64) else { return 0 };
        (self.expiry.base_ms + ((average as i64) << TICK_MS_LOG2) - now_ms).max(0)
    }

    /// Brings the expiry index from one time of an entry to another.
    pub(super) fn update_expiry(&mut self, hash: u64, at: Place, from_ms: Option<i64>, to_ms: Option<i64>) {
        let segment = self.directory.segment_mut(hash).expect("an occupied place");
        let expiry = &mut self.expiry;
        let usable_before = segment.expiries.usable_bytes();
        let removed = match (from_ms, to_ms) {
            (None, None) => return,
            (None, Some(to_ms)) => {
                segment.add_expiry(at, expiry.tick(to_ms));
                None
            }
            (Some(_), Some(to_ms)) => Some(segment.set_expiry(at, expiry.tick(to_ms))),
            (Some(_), None) => Some(segment.remove_expiry(at)),
        };
        expiry.usable_bytes = expiry.usable_bytes + segment.expiries.usable_bytes() - usable_before;
        if let Some(tick) = removed {
            expiry.len -= 1;
            expiry.tick_sum -= u64::from(tick);
        }
        if let Some(to_ms) = to_ms {
            let tick = expiry.tick(to_ms);
            expiry.len += 1;
            expiry.tick_sum += u64::from(tick);
            expiry.tick_min = expiry.tick_min.min(tick);
            // The pass may be past this segment.
            expiry.pass_tick_min = expiry.pass_tick_min.min(tick);
        }
    }
}

impl ExpiryState {
    pub(super) fn new(base_ms: i64) -> ExpiryState {
        ExpiryState {
            base_ms,
            len: 0,
            usable_bytes: 0,
            tick_sum: 0,
            tick_min: TICK_NEVER,
            pass_prefix: 0,
            pass_tick_min: TICK_NEVER,
            pass_refused: false,
        }
    }

    /// Rounded up, so that what is due by its tick is due.
    pub(super) fn tick(&self, at_ms: i64) -> Tick {
        let after_base_ms = at_ms.saturating_sub(self.base_ms).max(0) as u64;
        after_base_ms.div_ceil(1 << TICK_MS_LOG2).min(u64::from(TICK_NEVER)) as Tick
    }

    /// The last tick that is due. As in Redis a key lives through the millisecond of its expiry.
    fn now(&self, now_ms: i64) -> Option<Tick> {
        let after_base_ms = now_ms.checked_sub(self.base_ms)?.checked_sub(1).filter(|&ms| ms >= 0)?;
        Some((after_base_ms as u64 >> TICK_MS_LOG2).min(u64::from(TICK_NEVER - 1)) as Tick)
    }

    fn due_ms(&self, tick: Tick) -> i64 {
        self.base_ms + (i64::from(tick) << TICK_MS_LOG2) + 1
    }

    /// All segments were visited since the pass began; returns the earliest tick that is left.
    fn end_pass(&mut self) -> Tick {
        self.tick_min = std::mem::replace(&mut self.pass_tick_min, TICK_NEVER);
        self.pass_prefix = 0;
        self.tick_min
    }
}
