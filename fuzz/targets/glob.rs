//! Any pattern comes to an end on any text, soon enough for the engine's time limit, and an escaped text matches itself.
//!
//! Input: how much of the rest is the pattern, in sixteenths, and in the highest bit whether case counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::base::glob::{matches, matches_all};

fuzz_target!(|input: &[u8]| {
    let [head, rest @ ..] = input else { return };
    let (pattern, text) = rest.split_at(rest.len() * usize::from(head & 0xf) / 0xf);
    let nocase = head & 0x80 != 0;
    let matched = matches(pattern, text, nocase);
    assert!(matched || text.is_empty() || !matches_all(pattern));

    let escaped: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
    assert!(matches(&escaped, text, nocase));
    if !text.is_empty() {
        assert!(matches(&[b"*", &escaped[..], b"*"].concat(), text, nocase));
    }
});
