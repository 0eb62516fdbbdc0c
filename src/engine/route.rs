//! Key to slot to shard (design, section 3).

use crate::base::crc::key_slot;
use crate::base::ids::ShardId;

/// Slots of Redis Cluster.
pub const SLOTS: usize = 16384;

/// Which shard owns a slot: contiguous ranges, as even as they come.
#[derive(Debug, Clone)]
pub struct SlotMap {
    shards: usize,
    owner: Box<[u16]>,
}

impl SlotMap {
    pub fn contiguous(shards: usize) -> SlotMap {
        assert!((1..=SLOTS).contains(&shards));
        let owner =
            if shards == 1 { Box::default() } else { (0..SLOTS).map(|slot| (slot * shards / SLOTS) as u16).collect() };
        SlotMap { shards, owner }
    }

    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard of a key. With one shard there is nothing to compute.
    #[inline]
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        if self.shards == 1 { 0 } else { usize::from(self.owner[usize::from(key_slot(key))]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_contiguous_and_even() {
        for shards in [2, 3, 4, 64] {
            let map = SlotMap::contiguous(shards);
            assert!(map.owner.is_sorted());
            for shard in 0..shards {
                let slots = map.owner.iter().filter(|&&owner| usize::from(owner) == shard).count();
                assert!(slots.abs_diff(SLOTS / shards) <= 1, "{shards} shards, shard {shard}: {slots} slots");
            }
        }
    }

    #[test]
    fn a_hash_tag_co_locates() {
        let map = SlotMap::contiguous(64);
        assert_eq!(map.shard_of(b"{user:1}:name"), map.shard_of(b"{user:1}:mail"));
    }
}
