//! Any block is an intset or is refused; one that is behaves like a set of integers, and is written as it came.
//!
//! Input: how long the block is, the block, then operations: one byte for what to do, eight for the integer.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use peristyle::data::intset::Intset;

fuzz_target!(|input: &[u8]| {
    let Some((&len, rest)) = input.split_first() else { return };
    let (block, operations) = rest.split_at(usize::from(len).min(rest.len()));
    let Some(mut intset) = Intset::from_bytes(block) else { return };
    let mut written = Vec::new();
    intset.write_block(&mut written);
    assert_eq!(written, block);
    let mut model: BTreeSet<i64> = intset.iter().collect();
    for operation in operations.chunks_exact(9) {
        let n = i64::from_le_bytes(operation[1..].try_into().expect("eight bytes"));
        match operation[0] % 4 {
            0 | 1 => assert_eq!(intset.insert(n), model.insert(n)),
            2 => assert_eq!(intset.remove(n), model.remove(&n)),
            _ => {
                intset.retain(|other| other > n);
                model.retain(|&other| other > n);
            }
        }
        assert_eq!(intset.contains(n), model.contains(&n));
    }
    assert!(intset.iter().eq(model.iter().copied()));
    assert_eq!((intset.first(), intset.last()), (model.first().copied(), model.last().copied()));
});
