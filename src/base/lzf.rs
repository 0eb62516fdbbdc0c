//! LZF decompression (Marc Lehmann's LibLZF format): strings in RDB files and DUMP payloads.

/// Bytes of output that one byte of input can stand for at most: a reference of three bytes repeats 264.
const EXPANSION_MAX: usize = 264 / 3;

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
        fn any_bytes_are_safe(compressed: Vec<u8>, len in 0..2000usize) {
            if let Some(out) = decompress(&compressed, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
