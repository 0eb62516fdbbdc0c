//! LZF (Marc Lehmann's LibLZF format): strings in RDB files and DUMP payloads, and the inner nodes of long lists.
//!
//! ```text
//! 000lllll                      l + 1 literal bytes follow
//! lllooooo oooooooo             l + 2 bytes again from o + 1 before, l from 1 to 6
//! 111ooooo llllllll oooooooo    l + 9 bytes again from o + 1 before
//! ```

/// Bytes of output that one byte of input can stand for at most: a reference of three bytes repeats 264.
const EXPANSION_MAX: usize = REFERENCE_LEN_MAX / 3;
const REFERENCE_LEN_MIN: usize = 3;
const REFERENCE_LEN_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;
const LITERALS_MAX: usize = 1 << 5;
const NOWHERE: u32 = u32::MAX;

/// The bytes in compressed form, if that takes at most `len_max` bytes.
pub fn compress(input: &[u8], len_max: usize) -> Option<Vec<u8>> {
    match input.len() {
        0..=256 => compress_with::<256>(input, len_max),
        257..=2048 => compress_with::<1024>(input, len_max),
        _ => compress_with::<4096>(input, len_max),
    }
}

/// The compressor remembers where it last saw three bytes, by their hash, in so many places: on the stack, and cleared for
/// each block, which for a short one costs more than all else if there are as many as a long one needs.
fn compress_with<const PLACES: usize>(input: &[u8], len_max: usize) -> Option<Vec<u8>> {
    if input.len() >= NOWHERE as usize {
        return None;
    }
    let hash_bits = const { PLACES.ilog2() };
    let mut seen_at = [NOWHERE; PLACES];
    let mut out = Vec::with_capacity(len_max.min(input.len()));
    let (mut at, mut literals_from) = (0, 0);
    while let Some(&[a, b, c]) = input[at..].first_chunk() {
        let hash = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9e37_79b1) >> (32 - hash_bits);
        let candidate = std::mem::replace(&mut seen_at[hash as usize], at as u32) as usize;
        if candidate < at && at - candidate <= DISTANCE_MAX && input[candidate..].starts_with(&[a, b, c]) {
            let len = common_len(&input[candidate..], &input[at..]);
            write_literals(&input[literals_from..at], &mut out);
            write_reference(at - candidate, len, &mut out);
            at += len;
            literals_from = at;
        } else {
            at += 1;
        }
        if out.len() + (at - literals_from) > len_max {
            return None;
        }
    }
    write_literals(&input[literals_from..], &mut out);
    (out.len() <= len_max).then_some(out)
}

/// How many bytes both begin with, as far as one reference goes. They may overlap: `earlier` has `later` in it.
fn common_len(earlier: &[u8], later: &[u8]) -> usize {
    earlier.iter().zip(later).take(REFERENCE_LEN_MAX).take_while(|(one, other)| one == other).count()
}

fn write_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn write_reference(distance: usize, len: usize, out: &mut Vec<u8>) {
    let [high, low] = ((distance - 1) as u16).to_be_bytes();
    match len - (REFERENCE_LEN_MIN - 1) {
        short @ 0..7 => out.extend_from_slice(&[(short as u8) << 5 | high, low]),
        long => out.extend_from_slice(&[7 << 5 | high, (long - 7) as u8, low]),
    }
}

/// The `len` bytes that `compressed` stands for; `None` unless it stands for exactly these.
pub fn decompress(compressed: &[u8], len: usize) -> Option<Vec<u8>> {
    // A forged length must not allocate what its bytes cannot fill.
    if len / EXPANSION_MAX > compressed.len() {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut input = compressed;
    while let Some((&control, rest)) = input.split_first() {
        let control = usize::from(control);
        if control < 1 << 5 {
            let (literal, rest) = rest.split_at_checked(control + 1)?;
            out.extend_from_slice(literal);
            input = rest;
        } else {
            let mut length = (control >> 5) + 2;
            let mut operands = rest;
            if control >> 5 == 7 {
                let (&more, rest) = rest.split_first()?;
                length += usize::from(more);
                operands = rest;
            }
            let (&low, rest) = operands.split_first()?;
            let distance = (control & 0x1f) << 8 | usize::from(low);
            let from = out.len().checked_sub(distance + 1)?;
            // Byte by byte: source and destination may overlap, which repeats the source.
            for at in from..from + length {
                out.push(out[at]);
            }
            input = rest;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_and_references() {
        assert_eq!(decompress(b"", 0).as_deref(), Some(&b""[..]));
        assert_eq!(decompress(b"\x02abc", 3).as_deref(), Some(&b"abc"[..]));
        // Three bytes, then four from three before.
        assert_eq!(decompress(b"\x02abc\x40\x02", 7).as_deref(), Some(&b"abcabca"[..]));
        // A long reference: 7 + 10 + 2 bytes from one before.
        assert_eq!(decompress(b"\x00a\xe0\x0a\x00", 20), Some(vec![b'a'; 20]));
    }

    #[test]
    fn what_repeats_takes_less() {
        let text = b"a line of text\n".repeat(100);
        let compressed = compress(&text, 50).expect("a reference takes three bytes");
        assert_eq!(decompress(&compressed, text.len()), Some(text.clone()));
        assert_eq!(compress(&text, compressed.len() - 1), None);
        assert_eq!(compress(b"", 0), Some(Vec::new()));
        assert_eq!(compress(b"abc", 3), None);
        assert_eq!(compress(b"abc", 4).as_deref(), Some(&b"\x02abc"[..]));
    }

    #[test]
    fn references_reach_as_far_as_the_format_goes() {
        for gap in [8_188, 8_189, 8_190, 20_000] {
            let noise = (0..gap).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
            let text: Vec<u8> = b"begin".iter().copied().chain(noise).chain(*b"begin").collect();
            let compressed = compress(&text, usize::MAX).unwrap();
            assert!(decompress(&compressed, text.len()) == Some(text), "{gap}");
        }
    }

    #[test]
    fn what_is_cut_off_or_reaches_too_far_is_refused() {
        for broken in [&b"\x02ab"[..], b"\x40", b"\x00a\x40", b"\x00a\xe0\x0a", b"\x00a\x40\x01"] {
            assert_eq!(decompress(broken, 7), None, "{broken:?}");
        }
        assert_eq!(decompress(b"\x02abc", 2), None, "longer than announced");
        assert_eq!(decompress(b"\x02abc", 4), None, "shorter than announced");
        assert_eq!(decompress(b"\x02abc", usize::MAX), None, "allocates nothing");
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(
            words in proptest::collection::vec(proptest::collection::vec(0..4u8, 1..20), 0..6),
            order in proptest::collection::vec(any::<usize>(), 0..400),
            noise: Vec<u8>,
        ) {
            let mut text: Vec<u8> = order.iter().filter_map(|&at| words.get(at % words.len().max(1))).flatten().copied().collect();
            text.extend_from_slice(&noise);
            let compressed = compress(&text, usize::MAX).unwrap();
            prop_assert!(compressed.len() <= text.len() + text.len().div_ceil(32));
            prop_assert_eq!(decompress(&compressed, text.len()), Some(text));
        }

        #[test]
        fn any_bytes_are_safe(compressed: Vec<u8>, len in 0..2000usize) {
            if let Some(out) = decompress(&compressed, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
