//! Counts what is allocated, in usable sizes, as Redis's `zmalloc` does: the source of `used_memory`.
//!
//! A global allocator over mimalloc. Each thread adds to a counter of its own with plain loads and stores; anyone may
//! sum them. A block freed by another thread than its allocator makes one counter too high and the other too low by
//! the same amount, so only the sum means something.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use mimalloc::MiMalloc;

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
pub struct CountingAllocator;

// SAFETY: every call is passed on unchanged to mimalloc; the counting touches no allocation.
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(usable_size(layout.size()) as i64);
        // SAFETY: the caller's contract.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(usable_size(layout.size()) as i64));
        // SAFETY: the caller's contract.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(usable_size(layout.size()) as i64);
        // SAFETY: the caller's contract.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(usable_size(new_size) as i64 - usable_size(layout.size()) as i64);
        // SAFETY: the caller's contract.
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
}
