//! Bytes on their way to one client: what is written, what is being sent, and how much that is.
//!
//! Replies are appended to one buffer, which the driver takes away whole to send it. A reader that is slower than its
//! replies gets a queue of such buffers, none of which is ever copied to grow (client-output-buffer-limit bounds it).

use std::collections::VecDeque;

use crate::base::limits::{OUTPUT_BUFFER_BYTES, OUTPUT_CHUNK_BYTES, OUTPUT_POOL_MAX};

#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Full buffers before it, oldest first; boxed, as hardly any connection has one.
    #[allow(clippy::box_collection)]
    full: Option<Box<VecDeque<Vec<u8>>>>,
    full_bytes: usize,
    /// Bytes that the driver has taken and not reported as sent.
    sending_bytes: usize,
    /// Memory of the full buffers, and of the one that the driver has.
    full_allocated: usize,
    sending_allocated: usize,
}

/// Drained buffers, for the next connection that replies.
#[derive(Debug, Default)]
pub struct OutputPool {
    free: Vec<Vec<u8>>,
}

impl OutputPool {
    fn get(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT_BUFFER_BYTES))
    }

    /// Takes a drained buffer back.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == OUTPUT_BUFFER_BYTES && self.free.len() < OUTPUT_POOL_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Frees all of it: memory is short.
    pub fn clear(&mut self) {
        self.free.clear();
    }

    /// Frees what has piled up; called now and then.
    pub fn trim(&mut self) {
        self.free.truncate(self.free.len() / 2);
    }
}

impl Output {
    /// Where the next reply goes.
    #[inline]
    pub fn writer(&mut self, pool: &mut OutputPool) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = pool.get();
        } else if self.buffer.len() >= OUTPUT_CHUNK_BYTES {
            self.start_next(pool);
        }
        &mut self.buffer
    }

    #[cold]
    fn start_next(&mut self, pool: &mut OutputPool) {
        let full = std::mem::replace(&mut self.buffer, pool.get());
        self.full_bytes += full.len();
        self.full_allocated += full.capacity();
        self.full.get_or_insert_default().push_back(full);
    }

    /// Written and not taken yet.
    pub fn is_pending(&self) -> bool {
        !self.buffer.is_empty() || self.full.is_some()
    }

    /// Bytes that the client has not been sent: what the output limits count.
    pub fn bytes(&self) -> usize {
        self.buffer.len() + self.full_bytes + self.sending_bytes
    }

    /// Memory behind those bytes, besides what is being sent.
    pub fn allocated_bytes(&self) -> usize {
        self.buffer.capacity() + self.full_allocated + self.sending_allocated
    }

    /// Memory of the buffer that replies are written to.
    pub fn buffer_capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The driver has taken bytes that the kernel has not.
    pub fn is_sending(&self) -> bool {
        self.sending_bytes > 0
    }

    /// What would not fit into the buffer that a connection begins with: CLIENT LIST's `omem`.
    pub fn bytes_beyond_first(&self) -> usize {
        self.bytes().saturating_sub(OUTPUT_BUFFER_BYTES)
    }

    /// Buffers that this is in.
    pub fn buffers_beyond_first(&self) -> usize {
        usize::from(self.bytes_beyond_first() > 0) + self.full.as_ref().map_or(0, |full| full.len())
    }

    pub fn is_drained(&self) -> bool {
        self.bytes() == 0
    }

    /// The oldest buffer, to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = match self.full.as_mut().and_then(|full| full.pop_front()) {
            Some(full) => {
                self.full_bytes -= full.len();
                self.full_allocated -= full.capacity();
                if self.full.as_ref().is_some_and(|queue| queue.is_empty()) {
                    self.full = None;
                }
                full
            }
            None => std::mem::take(&mut self.buffer),
        };
        self.sending_bytes += taken.len();
        self.sending_allocated += taken.capacity();
        taken
    }

    /// So many of the taken bytes have left.
    pub fn sent(&mut self, bytes: usize) {
        assert!(bytes <= self.sending_bytes, "more was sent than taken");
        self.sending_bytes -= bytes;
        if self.sending_bytes == 0 {
            self.sending_allocated = 0;
        }
    }

    /// Gives everything up: the connection is closing.
    pub fn clear(&mut self, pool: &mut OutputPool) {
        pool.put(std::mem::take(&mut self.buffer));
        self.full = None;
        self.full_bytes = 0;
        self.full_allocated = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_taken_in_order_and_counted() {
        let (mut output, mut pool) = (Output::default(), OutputPool::default());
        let mut written = Vec::new();
        for round in 0..5u8 {
            let piece = vec![round; OUTPUT_CHUNK_BYTES / 2 + 1];
            output.writer(&mut pool).extend_from_slice(&piece);
            written.extend(piece);
        }
        assert_eq!(output.bytes(), written.len());
        let mut sent = Vec::new();
        while output.is_pending() {
            let buffer = output.take();
            sent.extend_from_slice(&buffer);
            output.sent(buffer.len());
        }
        assert!(output.is_drained());
        assert_eq!(sent, written);
    }

    #[test]
    fn memory_that_grew_beyond_its_bytes_counts_until_it_is_sent() {
        let (mut output, mut pool) = (Output::default(), OutputPool::default());
        for _ in 0..3 {
            output.writer(&mut pool).extend_from_slice(&[0; 100_000]);
        }
        let allocated = output.buffer_capacity();
        let taken = output.take();
        assert!(allocated >= 400_000 && taken.capacity() == allocated);
        output.sent(200_000);
        assert_eq!((output.bytes(), output.allocated_bytes()), (100_000, allocated));
        output.sent(100_000);
        assert_eq!(output.allocated_bytes(), 0);
    }

    #[test]
    fn a_drained_connection_holds_no_buffer() {
        let (mut output, mut pool) = (Output::default(), OutputPool::default());
        output.writer(&mut pool).extend_from_slice(b"+OK\r\n");
        let buffer = output.take();
        output.sent(buffer.len());
        pool.put(buffer);
        assert_eq!(output.allocated_bytes(), 0);
    }
}
