//! The two checksums of Redis's formats: CRC-16/XMODEM maps keys to cluster slots, CRC-64/Jones seals RDB files.
//!
//! A slot is computed for every key of every command, over tables built at compile time, eight bytes a step ("slicing by
//! eight", Kounavis and Berry 2005). Files and logs are as long as a library that uses the whole processor pays for.

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

/// Slots of a cluster, and of our slot map (design, section 3).
pub const SLOTS: u16 = 16384;

/// The slot of a key: CRC-16 of its hash tag, if it has one, else of all of it.
///
/// The tag is what stands between the first `{` and the next `}`, unless that is nothing.
#[inline]
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// The part of a key that decides its slot.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        None | Some(0) => key,
        Some(len) => &rest[..len],
    }
}

/// CRC-16/XMODEM: polynomial 0x1021, most significant bit first, start value 0.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let t = &CRC16;
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let high = usize::from(chunk[0] ^ (crc >> 8) as u8);
        let low = usize::from(chunk[1] ^ crc as u8);
        crc = t[7][high] ^ t[6][low];
        for (table, &byte) in t[..6].iter().rev().zip(&chunk[2..]) {
            crc ^= table[usize::from(byte)];
        }
    }
    for &byte in chunks.remainder() {
        crc = (crc << 8) ^ t[0][usize::from(byte ^ (crc >> 8) as u8)];
    }
    crc
}

/// CRC-64/Jones as Redis has it: bits reflected, start value 0, nothing added at the end; so a checksum goes on where
/// `crc` ended, and that of nothing is 0.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, crc);
    digest.update(bytes);
    digest.finalize()
}

/// The checksum of A followed by B, from A's, B's (started at 0) and B's length: shards write their chunks of a dump
/// in parallel, and nobody reads them again to seal it.
pub fn crc64_combine(crc_a: u64, crc_b: u64, len_b: u64) -> u64 {
    checksum_combine(CrcAlgorithm::Crc64Redis, crc_a, crc_b, len_b)
}

const CRC16_POLYNOMIAL: u16 = 0x1021;

/// `TABLE[k][b]` is what byte `b` adds to the remainder when `k` more bytes follow it.
static CRC16: [[u16; 256]; 8] = crc16_tables();

const fn crc16_tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ CRC16_POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[table - 1][byte];
            tables[table][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Both algorithms bit by bit, from their definition.
    fn crc16_slow(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        })
    }

    fn crc64_slow(bytes: &[u8]) -> u64 {
        let polynomial = 0xad93_d235_94c9_35a9_u64.reverse_bits();
        let times_x = |crc: u64| if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
        bytes.iter().fold(0, |crc, &byte| (0..8).fold(crc ^ u64::from(byte), |crc, _| times_x(crc)))
    }

    #[test]
    fn check_values_of_the_standards() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(0, b""), 0);
    }

    #[test]
    fn key_slots_as_cluster_keyslot_answers() {
        for (key, slot) in [("", 0), ("foo", 12182), ("bar", 5061), ("somekey", 11058), ("{user1000}.following", 3443)]
        {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn hash_tag_is_between_the_first_braces_unless_empty() {
        for (key, tag) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo}bar{", "foo}bar{"),
            ("{}", "{}"),
            ("a{b", "a{b"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn fast_equals_bit_by_bit(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(crc16(&bytes), crc16_slow(&bytes));
            prop_assert_eq!(crc64(0, &bytes), crc64_slow(&bytes));
        }

        #[test]
        fn combined_equals_the_whole(
            a in proptest::collection::vec(any::<u8>(), 0..1000),
            b in proptest::collection::vec(any::<u8>(), 0..1000),
        ) {
            let whole = crc64(crc64(0, &a), &b);
            prop_assert_eq!(crc64_combine(crc64(0, &a), crc64(0, &b), b.len() as u64), whole);
            prop_assert_eq!(crc64(0, &[a, b].concat()), whole);
        }
    }
}
