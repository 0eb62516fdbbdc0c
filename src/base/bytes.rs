//! Strings of bytes, most of which are short.

/// Whether two strings are equal. Up to 32 bytes it compares their ends, which together are all of them: in less time
/// than calling `memcmp` takes.
#[inline]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && match a.len() {
            0 => true,
            1 => a[0] == b[0],
            2..=3 => have_equal_ends::<2>(a, b),
            4..=7 => have_equal_ends::<4>(a, b),
            8..=15 => have_equal_ends::<8>(a, b),
            16..=32 => have_equal_ends::<16>(a, b),
            _ => a == b,
        }
}

#[inline]
fn have_equal_ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_differs_anywhere_makes_them_differ() {
        for length in 0..=70 {
            let string: Vec<u8> = (0..length).collect();
            assert!(equal(&string, &string.clone()));
            assert!(!equal(&string, &[&string[..], b"x"].concat()));
            for at in 0..usize::from(length) {
                let mut other = string.clone();
                other[at] ^= 0x80;
                assert!(!equal(&string, &other), "{length} bytes that differ at {at}");
            }
        }
    }
}
