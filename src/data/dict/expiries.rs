//! When the keys of one segment expire: a bag of (place, tick), six bytes each.
//!
//! It exists only for keys that have an expiry, so that a TTL costs the same however many keys have one. Nothing is
//! sorted: a record is appended, found by a scan over at most some thousand u16, and removed by putting the last one in
//! its place. What is asked often, the earliest tick, is kept.

use super::super::size_class::allocation_size;

/// A time in units of the table's expiry clock, rounded up.
pub(super) type Tick = u32;
/// Beyond the clock's range; such a key expires on access only.
pub(super) const TICK_NEVER: Tick = u32::MAX;

const RECORD_BYTES: usize = 6;

pub(super) struct Expiries {
    /// Three planes of equal length: places, low and high halves of ticks. A plane's length is the capacity.
    planes: Box<[u16]>,
    len: u32,
    /// No record is due earlier; it may be too early after a removal.
    tick_min: Tick,
}

impl Expiries {
    pub(super) fn new() -> Expiries {
        Expiries { planes: Box::default(), len: 0, tick_min: TICK_NEVER }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn tick_min(&self) -> Tick {
        self.tick_min
    }

    pub(super) fn usable_bytes(&self) -> usize {
        if self.planes.is_empty() { 0 } else { allocation_size(size_of_val(&*self.planes)) }
    }

    pub(super) fn reserve(&mut self, len: usize) {
        if len > self.capacity() {
            self.reallocate(len);
        }
    }

    pub(super) fn push(&mut self, place: u16, tick: Tick) {
        let at = self.len();
        if at == self.capacity() {
            self.reallocate(at + 1 + at / 16);
        }
        self.len += 1;
        self.write(at, place, tick);
    }

    /// Which record is that of `place`.
    pub(super) fn index_of(&self, place: u16) -> Option<usize> {
        const LANES: usize = 32;
        let places = &self.planes[..self.len()];
        // The inner loop has no early exit, and so compiles to vector instructions.
        let chunk = places
            .chunks(LANES)
            .position(|chunk| chunk.iter().fold(false, |found, &other| found | (other == place)))?;
        let from = chunk * LANES;
        places[from..].iter().position(|&other| other == place).map(|offset| from + offset)
    }

    pub(super) fn place(&self, index: usize) -> u16 {
        self.planes[..self.len()][index]
    }

    pub(super) fn tick(&self, index: usize) -> Tick {
        let capacity = self.capacity();
        u32::from(self.planes[capacity + index]) | u32::from(self.planes[2 * capacity + index]) << 16
    }

    pub(super) fn set_tick(&mut self, index: usize, tick: Tick) {
        self.write(index, self.place(index), tick);
    }

    pub(super) fn swap_remove(&mut self, index: usize) {
        let last = self.len() - 1;
        let (place, tick) = (self.place(last), self.tick(last));
        self.write(index, place, tick);
        self.len -= 1;
        if self.len == 0 {
            *self = Expiries::new();
        } else if self.len() < self.capacity() / 2 {
            self.reallocate(self.len());
        }
    }

    /// The last record before `end` that is due.
    pub(super) fn due_before(&self, end: usize, now: Tick) -> Option<usize> {
        (0..end).rev().find(|&index| self.tick(index) <= now)
    }

    pub(super) fn recompute_tick_min(&mut self) {
        self.tick_min = (0..self.len()).map(|index| self.tick(index)).min().unwrap_or(TICK_NEVER);
    }

    fn capacity(&self) -> usize {
        self.planes.len() / 3
    }

    fn write(&mut self, index: usize, place: u16, tick: Tick) {
        let capacity = self.capacity();
        self.planes[index] = place;
        self.planes[capacity + index] = tick as u16;
        self.planes[2 * capacity + index] = (tick >> 16) as u16;
        self.tick_min = self.tick_min.min(tick);
    }

    fn reallocate(&mut self, len: usize) {
        let capacity = allocation_size(len * RECORD_BYTES) / RECORD_BYTES;
        let mut planes = vec![0; 3 * capacity].into_boxed_slice();
        let kept = self.len();
        for (to, from) in planes.chunks_exact_mut(capacity).zip(self.planes.chunks_exact(self.capacity().max(1))) {
            to[..kept].copy_from_slice(&from[..kept]);
        }
        self.planes = planes;
    }
}
