//! Key to slot to shard (design, section 3).
//!
//! A hash tag co-locates keys on one shard, as on one node of a cluster. So does a prefix of `colocate-prefixes`, for
//! clients that know nothing of hash tags: with `bull` among them, all keys `bull:NAME:…` are where `bull:NAME` is. That
//! is a matter of shards alone: the slot of a key, which clients may ask for, is Redis's.

use std::sync::Arc;

use crate::base::crc::{crc64, hash_tag, key_slot};
use crate::base::ids::ShardId;

/// Slots of Redis Cluster.
pub const SLOTS: usize = 16384;

/// Which shard owns a slot: contiguous ranges, as even as they come. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SlotMap {
    shards: usize,
    owner: Arc<[u16]>,
    /// With their colons.
    prefixes: Arc<[Vec<u8>]>,
    prefix_sum: u64,
}

impl SlotMap {
    pub fn contiguous(shards: usize) -> SlotMap {
        assert!((1..=SLOTS).contains(&shards));
        let slots = if shards == 1 { 0 } else { SLOTS };
        let owner = (0..slots).map(|slot| (slot * shards / SLOTS) as u16).collect();
        SlotMap { shards, owner, prefixes: Arc::default(), prefix_sum: prefix_sum(&[]) }
    }

    /// Keys with one of these prefixes, a colon, and the same name up to the next colon stay together.
    pub fn colocating(self, prefixes: &[Vec<u8>]) -> SlotMap {
        let with_colon = |prefix: &Vec<u8>| [prefix, &b":"[..]].concat();
        SlotMap { prefixes: prefixes.iter().map(with_colon).collect(), prefix_sum: prefix_sum(prefixes), ..self }
    }

    /// See [`prefix_sum`].
    pub fn prefix_sum(&self) -> u64 {
        self.prefix_sum
    }

    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard of a key. With one shard there is nothing to compute.
    #[inline]
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        if self.shards == 1 {
            return 0;
        }
        let decisive = match self.prefixes.iter().find(|prefix| key.starts_with(prefix)) {
            None => key,
            Some(prefix) => with_its_name(key, prefix.len()),
        };
        usize::from(self.owner[usize::from(key_slot(decisive))])
    }
}

/// A checksum of prefixes: whether keys were dealt out by the same ones.
pub fn prefix_sum(prefixes: &[Vec<u8>]) -> u64 {
    crc64(0, &prefixes.join(&b' '))
}

/// The part of a key up to the colon behind the name that follows its prefix; all of it if it has a hash tag.
#[cold]
fn with_its_name(key: &[u8], prefix_len: usize) -> &[u8] {
    let has_hash_tag = hash_tag(key).len() < key.len();
    match memchr::memchr(b':', &key[prefix_len..]) {
        Some(name_len) if !has_hash_tag => &key[..prefix_len + name_len],
        _ => key,
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

    #[test]
    fn a_prefix_co_locates_what_has_the_same_name() {
        let map = SlotMap::contiguous(64).colocating(&[b"bull".to_vec(), b"jobs:v2".to_vec()]);
        let shard = |key: &str| map.shard_of(key.as_bytes());
        for keys in [["bull:a:1", "bull:a:wait"], ["bull:a", "bull:a:"], ["jobs:v2:x:1", "jobs:v2:x:2:3"]] {
            assert_eq!(shard(keys[0]), shard(keys[1]), "{keys:?}");
        }
        let spread: std::collections::BTreeSet<ShardId> =
            (0..100).map(|name| shard(&format!("bull:{name}:1"))).collect();
        assert!(spread.len() > 32, "names of one prefix are dealt out: {spread:?}");
        let plain = SlotMap::contiguous(64);
        for key in ["bull", "bull:", "bulls:a:1", "x:bull:a:1", "bull:{b}:1", "bull:a{b}:1"] {
            assert_eq!(shard(key), plain.shard_of(key.as_bytes()), "{key}");
        }
    }
}
