//! What an allocation really occupies.
//!
//! The server counts memory in usable sizes, as Redis does with `malloc_usable_size`, and it lays its structures out so
//! that they fill a size class. Both need the classes of mimalloc (`mi_good_size`) as arithmetic that the compiler can
//! inline: multiples of 16 up to 128, four classes a doubling above, whole pages for what is no longer pooled.

/// Above this mimalloc hands out whole pages.
const POOLED_BYTES_MAX: usize = 512 * 1024;
const PAGE_BYTES: usize = 4096;

/// The bytes that an allocation of `bytes` takes.
pub const fn allocation_size(bytes: usize) -> usize {
    if bytes <= 8 {
        8
    } else if bytes <= 128 {
        bytes.next_multiple_of(16)
    } else if bytes <= POOLED_BYTES_MAX {
        bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2))
    } else {
        bytes.next_multiple_of(PAGE_BYTES)
    }
}

/// The usable size of the allocation behind an `Arc`: its two counters, and so many bytes that it holds.
pub const fn arc_size(held: usize) -> usize {
    allocation_size(2 * size_of::<usize>() + held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        let small = 1..40_000;
        let large = (40_000..40 << 20).step_by(9_973);
        for bytes in small.chain(large) {
            assert_eq!(allocation_size(bytes), good_size(bytes), "of {bytes}");
        }
    }

    #[allow(unsafe_code)]
    fn good_size(bytes: usize) -> usize {
        // SAFETY: a pure function of its argument.
        unsafe { libmimalloc_sys::mi_good_size(bytes) }
    }
}
