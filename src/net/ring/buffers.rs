//! The provided-buffer ring of a shard: receive memory that the kernel picks from when bytes arrive.
//!
//! Invariants: a buffer id is either with the kernel or in exactly one [`Buffer`]; `Buffer` is not `Clone`, so its
//! bytes are read only while the kernel does not write them. The ring's page and the data stay mapped until the
//! io_uring is gone (`Ring` drops the ring first).
//!
//! The kernel takes buffers in turn, so all that it has are touched in the long run. It is given a few, and twice as
//! many whenever those did not do: a quiet shard's receive memory stays small, and in the cache.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering::Release};

use io_uring::{IoUring, types::BufRingEntry};

/// A filled receive buffer: id and length.
#[derive(Debug)]
pub struct Buffer {
    id: u16,
    length: u32,
}

pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    count: u16,
    /// Buffers that the kernel has been given, from the first.
    given: u16,
    buffer_bytes: usize,
    /// Where the next free buffer goes; published to the kernel by `publish`.
    tail: u16,
}

fn map(length: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping; no existing memory is touched.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(address.cast()).expect("mmap does not return null"))
}

impl BufferRing {
    /// `count` is a power of two; the kernel has `first` of them to begin with.
    pub fn register(ring: &IoUring, group: u16, first: u16, count: u16, buffer_bytes: usize) -> io::Result<BufferRing> {
        assert!(count.is_power_of_two() && 0 < first && first <= count);
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let data = map(usize::from(count) * buffer_bytes)?;
        // SAFETY: a page-aligned mapping of `count` entries that lives as long as the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)? };
        let mut this = BufferRing { entries, data, count, given: 0, buffer_bytes, tail: 0 };
        this.give(first);
        this.publish();
        Ok(this)
    }

    /// The kernel had no buffer left: from the next `publish` on it has twice as many, up to all.
    pub fn grow(&mut self) {
        self.give(self.given.min(self.count - self.given));
    }

    fn give(&mut self, more: u16) {
        for id in self.given..self.given + more {
            self.recycle(Buffer { id, length: 0 });
        }
        self.given += more;
    }

    /// The buffer that a completion names.
    pub fn take(&mut self, id: u16, length: usize) -> Buffer {
        assert!(id < self.given && length <= self.buffer_bytes, "the kernel named a buffer that is not ours");
        Buffer { id, length: length as u32 }
    }

    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        // SAFETY: the kernel handed this buffer out and does not write it before `recycle` consumes it; `take`
        // checked id and length.
        unsafe {
            let start = self.data.as_ptr().add(usize::from(buffer.id) * self.buffer_bytes);
            std::slice::from_raw_parts(start, buffer.length as usize)
        }
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`; the kernel does not read entries at or beyond the published tail. The
        // fields are set one by one, as the first entry's last field is the ring's tail itself.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.data.as_ptr().add(usize::from(buffer.id) * self.buffer_bytes) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer.id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was recycled.
    pub fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry, is aligned, and only we write it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Release);
        }
    }
}
