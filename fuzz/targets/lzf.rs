//! Compressed bytes stand for a text of one length or for none, and no length makes them allocate what they cannot fill.
//!
//! Input: the announced length in two bytes, then what is compressed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::base::lzf::decompress;

fuzz_target!(|input: &[u8]| {
    let [low, high, compressed @ ..] = input else { return };
    let announced = usize::from(u16::from_le_bytes([*low, *high]));
    assert!(decompress(compressed, usize::MAX).is_none());
    let Some(text) = decompress(compressed, announced) else { return };
    assert_eq!(text.len(), announced);
    assert!(decompress(compressed, announced + 1).is_none());
    assert!(announced == 0 || decompress(compressed, announced - 1).is_none());
});
