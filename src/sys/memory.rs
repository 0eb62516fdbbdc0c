//! Counts what is allocated, in usable sizes, as Redis's `zmalloc` does: the source of `used_memory`.
//!
//! A global allocator over mimalloc. Each thread adds to a counter of its own with plain loads and stores; anyone may
//! sum them. A block freed by another thread than its allocator makes one counter too high and the other too low by
//! the same amount, so only the sum means something.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// Threads beyond this many share the last counter (with an atomic add).
const COUNTERS: usize = 1100;

#[repr(align(64))]
struct Counter(AtomicI64);

static USED: [Counter; COUNTERS] = [const { Counter(AtomicI64::new(0)) }; COUNTERS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
fn add(bytes: i64) {
    let index = INDEX.with(Cell::get);
    if index < COUNTERS - 1 {
        let counter = &USED[index].0;
        counter.store(counter.load(Relaxed) + bytes, Relaxed);
    } else {
        add_slow(bytes);
    }
}

#[cold]
fn add_slow(bytes: i64) {
    let mut index = INDEX.with(Cell::get);
    if index == usize::MAX {
        index = NEXT.fetch_add(1, Relaxed).min(COUNTERS - 1);
        INDEX.with(|cell| cell.set(index));
    }
    USED[index].0.fetch_add(bytes, Relaxed);
}

/// Usable bytes of all live allocations of the process.
pub fn used_bytes() -> usize {
    let counters = NEXT.load(Relaxed).min(COUNTERS);
    USED[..counters].iter().map(|counter| counter.0.load(Relaxed)).sum::<i64>().max(0) as usize
}

/// The calling thread's part of it, which means something only beside an earlier one: less than nothing, if the thread
/// frees what others have allocated.
pub fn used_by_thread() -> i64 {
    let index = INDEX.with(Cell::get);
    USED.get(index).map_or(0, |counter| counter.0.load(Relaxed))
}

/// Memory that the process may take: the machine's, or less in a container with a limit, as it was at the first call.
pub fn granted_bytes() -> u64 {
    static GRANTED: OnceLock<u64> = OnceLock::new();
    *GRANTED.get_or_init(|| {
        let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limits = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
        limits.chain([super::process::physical_memory_bytes()]).min().expect("the machine's is there")
    })
}

/// What an allocation of `size` bytes really takes. O(1), arithmetic only.
pub fn usable_size(size: usize) -> usize {
    // SAFETY: a pure function of its argument.
    unsafe { libmimalloc_sys::mi_good_size(size) }
}

/// Resident set size of the process in bytes; 0 where /proc is missing.
pub fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1).and_then(|field| field.parse::<usize>().ok()))
        .unwrap_or(0);
    // SAFETY: no arguments but a name.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

/// What the allocator holds for the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocatorMemory {
    /// Bytes that it took from the system and may use.
    pub committed: u64,
}

pub fn allocator_memory() -> AllocatorMemory {
    let mut committed = 0;
    let mut unused = [0; 7];
    let [elapsed, user, system, resident, resident_peak, committed_peak, faults] = &mut unused;
    // SAFETY: all are valid for the write of one number.
    unsafe {
        libmimalloc_sys::mi_process_info(
            elapsed,
            user,
            system,
            resident,
            resident_peak,
            &mut committed,
            committed_peak,
            faults,
        );
    }
    AllocatorMemory { committed: committed as u64 }
}

/// Name and version: `mimalloc-2.2.4`.
pub fn allocator_name() -> String {
    // SAFETY: a pure function.
    let version = unsafe { libmimalloc_sys::mi_version() };
    format!("mimalloc-{}.{}.{}", version / 100, version / 10 % 10, version % 10)
}

/// The allocator's own report, in its words.
pub fn allocator_report() -> String {
    /// # Safety
    /// `text` is a C string and `report` points to a `String` that nothing else uses, both during the call.
    unsafe extern "C" fn append(text: *const libc::c_char, report: *mut libc::c_void) {
        // SAFETY: as the caller promises.
        let (text, report) = unsafe { (std::ffi::CStr::from_ptr(text), &mut *report.cast::<String>()) };
        report.push_str(&text.to_string_lossy());
    }
    let mut report = String::new();
    // SAFETY: mimalloc calls `append` during this call only, with C strings and the pointer to `report`.
    unsafe { libmimalloc_sys::mi_stats_print_out(Some(append), (&raw mut report).cast()) };
    report
}

/// Gives free pages back to the system.
pub fn purge() {
    // SAFETY: callable at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// mimalloc, counted.
///
/// Its aligned entry points are for alignments that it does not give anyway: to be sure of 16 bytes they take a block
/// of a larger class for most sizes that are no power of two, which costs a tenth of the memory of a million entries,
/// and is neither usable nor counted.
pub struct CountingAllocator;

/// What every block of at least this size is aligned to.
const NATURAL_ALIGNMENT: usize = 16;

#[inline]
fn is_aligned_anyway(size: usize, alignment: usize) -> bool {
    alignment <= size_of::<usize>() || alignment <= NATURAL_ALIGNMENT && size >= NATURAL_ALIGNMENT
}

// SAFETY: blocks come from mimalloc with the size and, by `is_aligned_anyway` or by its aligned entry points, the
// alignment that is asked for; `mi_free` takes them all. The counting touches no allocation.
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        add(usable_size(size) as i64);
        // SAFETY: any size and any power of two will do.
        unsafe {
            match is_aligned_anyway(size, alignment) {
                true => mi_malloc(size),
                false => mi_malloc_aligned(size, alignment),
            }
        }
        .cast()
    }

    // SAFETY: as for the whole `impl`.
    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(usable_size(layout.size()) as i64));
        // SAFETY: the caller's contract.
        unsafe { mi_free(pointer.cast()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        add(usable_size(size) as i64);
        // SAFETY: any size and any power of two will do.
        unsafe {
            match is_aligned_anyway(size, alignment) {
                true => mi_zalloc(size),
                false => mi_zalloc_aligned(size, alignment),
            }
        }
        .cast()
    }

    // SAFETY: as for the whole `impl`.
    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(usable_size(size) as i64 - usable_size(layout.size()) as i64);
        // SAFETY: the caller's contract.
        unsafe {
            match is_aligned_anyway(size, layout.align()) {
                true => mi_realloc(pointer.cast(), size),
                false => mi_realloc_aligned(pointer.cast(), size, layout.align()),
            }
        }
        .cast()
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_usable_size;

    use super::*;

    #[test]
    fn blocks_are_aligned_and_no_larger_than_counted() {
        for size in (1..600).chain([4096, 100_000, 3 << 20]) {
            for alignment in [1, 8, 16, 32, 64] {
                let layout = Layout::from_size_align(size, alignment).expect("a small layout");
                // SAFETY: every block is freed once, with its layout.
                let (address, usable) = unsafe {
                    let block = CountingAllocator.alloc(layout);
                    let facts = (block.addr(), mi_usable_size(block.cast()));
                    CountingAllocator.dealloc(block, layout);
                    facts
                };
                assert_eq!(address % alignment, 0, "{layout:?}");
                assert!(usable == usable_size(size) || !is_aligned_anyway(size, alignment), "{layout:?}: {usable}");
            }
        }
    }
}
