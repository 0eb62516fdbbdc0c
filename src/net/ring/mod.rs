//! One shard's io_uring: sockets in and out, wake-ups between shards.
//!
//! Protocol: the owner queues operations (`receive`, `send`, …), then calls `turn`, the only system call: it submits
//! what is queued, waits if asked to, and lists what completed. Every operation carries a [`ConnKey`] whose
//! generation tells a late completion from one of the slot's next user. Memory that the kernel reads or writes is
//! owned here from submission to completion: receive buffers by [`buffers::BufferRing`], outgoing bytes by `sending`.
//!
//! A send is submitted with MSG_DONTWAIT, so it ends within the submitting call. One that the socket took whole posts
//! no completion (CQE_SKIP_SUCCESS): what `turn` waits for is news, and a turn is one system call, not two. One that
//! it did not take whole (MSG_WAITALL makes that a failure) or refused with EAGAIN does post one, so the owner hears
//! at once that it has to ask for `writable`.
//!
//! It knows nothing of RESP, sessions or shards' state.
#![allow(unsafe_code)]

mod buffers;
mod probe;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

pub use buffers::Buffer;
use buffers::BufferRing;

pub use probe::probe;

use crate::base::ids::ConnKey;

/// Receive buffers of one shard: up to `RECEIVE_BUFFERS` of `RECEIVE_BUFFER_BYTES`, `RECEIVE_BUFFERS_FIRST` to begin with;
/// untouched ones take no memory.
pub const RECEIVE_BUFFERS: u16 = 256;
const RECEIVE_BUFFERS_FIRST: u16 = 32;
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
const SUBMISSION_ENTRIES: u32 = 512;
const COMPLETION_ENTRIES: u32 = 4096;
const RECEIVE_GROUP: u16 = 0;

/// What completed.
#[derive(Debug)]
pub enum Event {
    /// A listener's new connection, or the error of accept. `more`: the listener is still armed.
    Accepted { listener: u32, result: io::Result<OwnedFd>, more: bool },
    /// Bytes arrived. `more`: the receive is still armed.
    Received { conn: ConnKey, buffer: Buffer, more: bool },
    /// The receive ended: `Ok` is the end of the stream. ENOBUFS means: arm it again.
    ReceiveEnded { conn: ConnKey, result: io::Result<()> },
    /// A send ended with so many bytes taken; its buffer comes back.
    Sent { conn: ConnKey, result: io::Result<usize>, buffer: Vec<u8> },
    /// The socket takes bytes again.
    Writable { conn: ConnKey },
    /// Another shard, or another thread, has work for us.
    Woken,
    /// A wake-up of that ring failed; wake its owner by `wake_by_eventfd`.
    WakeFailed { target: u32 },
}

/// How long `turn` may sleep.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    Never,
    AtMost(Duration),
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Op {
    Accept = 1,
    Receive,
    Send,
    Writable,
    /// Posted into our ring by another's MSG_RING.
    Peer,
    Wake,
    WakeEventfd,
    Cancel,
}

const OPS: [Op; 8] = [Op::Accept, Op::Receive, Op::Send, Op::Writable, Op::Peer, Op::Wake, Op::WakeEventfd, Op::Cancel];

fn user_data(op: Op, key: ConnKey) -> u64 {
    debug_assert!(key.generation < 1 << 24);
    (op as u64) << 56 | u64::from(key.generation) << 32 | u64::from(key.index)
}

fn plain(op: Op, index: u32) -> u64 {
    user_data(op, ConnKey { index, generation: 0 })
}

/// A send from its queueing to its report.
#[derive(Default)]
struct Sending {
    /// Empty: none.
    buffer: Vec<u8>,
    /// Of the buffer, what the send is about.
    bytes: u32,
}

pub struct Ring {
    ring: IoUring,
    buffers: BufferRing,
    /// Bytes being sent, by connection index: the kernel may read them until the completion is reaped.
    sending: Vec<Sending>,
    wake: OwnedFd,
    /// Where the armed read of `wake` puts its count.
    wake_count: Box<u64>,
    /// Connections whose sends are queued or submitted and have not been reported.
    unreported: Vec<ConnKey>,
}

impl Ring {
    /// Sets up the ring and its buffers. Must be called on the thread that will own it (SINGLE_ISSUER).
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        let buffers =
            BufferRing::register(&ring, RECEIVE_GROUP, RECEIVE_BUFFERS_FIRST, RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES)?;
        // SAFETY: no pointers; the result is checked below.
        let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if wake < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let wake = unsafe { OwnedFd::from_raw_fd(wake) };
        let mut this =
            Ring { ring, buffers, sending: Vec::new(), wake, wake_count: Box::new(0), unreported: Vec::new() };
        this.arm_wake_eventfd();
        Ok(this)
    }

    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// The eventfd by which threads without a ring wake this one.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Arms a multishot accept; the event names `listener`.
    pub fn accept(&mut self, listener: u32, fd: RawFd) {
        let entry = opcode::AcceptMulti::new(types::Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(plain(Op::Accept, listener)));
    }

    /// Ends all that is armed; each completes, an accept without `more`.
    pub fn cancel_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build();
        self.push(entry.user_data(plain(Op::Cancel, 0)));
    }

    /// Arms a multishot receive.
    pub fn receive(&mut self, conn: ConnKey, fd: RawFd) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), RECEIVE_GROUP).build();
        self.push(entry.user_data(user_data(Op::Receive, conn)));
    }

    /// Ends an armed receive: it completes with ECANCELED.
    pub fn cancel_receive(&mut self, conn: ConnKey) {
        let entry = opcode::AsyncCancel::new(user_data(Op::Receive, conn)).build();
        self.push(entry.user_data(user_data(Op::Cancel, conn)));
    }

    /// Sends `buffer[from..]`. One send of a connection at a time; the buffer comes back with [`Event::Sent`].
    pub fn send(&mut self, conn: ConnKey, fd: RawFd, buffer: Vec<u8>, from: usize) {
        let index = conn.index as usize;
        if self.sending.len() <= index {
            self.sending.resize_with(index + 1, Sending::default);
        }
        assert!(self.sending[index].buffer.is_empty(), "a connection has one send in flight");
        let bytes = &buffer[from..];
        assert!(!bytes.is_empty(), "an empty send");
        let length = bytes.len().min(1 << 30) as u32;
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        // The heap block does not move when the Vec does.
        self.sending[index] = Sending { buffer, bytes: length };
        self.unreported.push(conn);
        self.push(entry.user_data(user_data(Op::Send, conn)));
    }

    /// Reports once when the socket takes bytes again.
    pub fn writable(&mut self, conn: ConnKey, fd: RawFd) {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLOUT as u32).build();
        self.push(entry.user_data(user_data(Op::Writable, conn)));
    }

    /// Ends an armed `writable`, which then reports at once.
    pub fn cancel_writable(&mut self, conn: ConnKey) {
        let entry = opcode::AsyncCancel::new(user_data(Op::Writable, conn)).build();
        self.push(entry.user_data(user_data(Op::Cancel, conn)));
    }

    /// Wakes the owner of another ring, at the next turn's submission. `target` is named in the event of a failure.
    pub fn wake_peer(&mut self, ring_fd: RawFd, target: u32) {
        let entry = opcode::MsgRingData::new(types::Fd(ring_fd), 0, plain(Op::Peer, 0), None).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(plain(Op::Wake, target));
        self.push(entry);
    }

    /// No connection has an index from `end` on, and none of them sends.
    pub fn forget_from(&mut self, end: usize) {
        if end < self.sending.len() {
            assert!(
                self.sending[end..].iter().all(|sending| sending.buffer.is_empty()),
                "a connection that is gone sends"
            );
            self.sending.truncate(end);
            self.sending.shrink_to_fit();
        }
    }

    pub fn buffer(&self, buffer: &Buffer) -> &[u8] {
        self.buffers.bytes(buffer)
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, buffer: Buffer) {
        self.buffers.recycle(buffer);
    }

    /// Submits all that is queued, sleeps as `wait` allows while nothing completes, and appends what completed.
    pub fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        self.enter(wait)?;
        loop {
            self.reap(events);
            if self.is_settled() {
                self.report_sent(events);
                return Ok(());
            }
            self.enter(Wait::Never)?;
        }
    }

    /// Submits all that is queued, and comes back at once: sends do not wait for what is done before the next turn.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.enter(Wait::Never) }
    }

    /// Something has completed, or will have when the kernel is asked: a look at memory, no system call.
    pub fn has_news(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    fn is_settled(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.is_empty() && !submission.cq_overflow()
    }

    /// All that was queued has been submitted, and all that completed is reaped: the sends that posted nothing were
    /// taken whole.
    fn report_sent(&mut self, events: &mut Vec<Event>) {
        for conn in self.unreported.drain(..) {
            let Sending { buffer, bytes } = std::mem::take(&mut self.sending[conn.index as usize]);
            if !buffer.is_empty() {
                events.push(Event::Sent { conn, result: Ok(bytes as usize), buffer });
            }
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let result = match wait {
            Wait::Never => {
                let queued = self.ring.submission().len() as u32;
                // SAFETY: no argument structure is passed; GETEVENTS runs deferred task work without waiting.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, 1, None) }
            }
            Wait::AtMost(limit) => {
                let limit = types::Timespec::from(limit);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit))
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        let mut rearm_wake = false;
        for completion in self.ring.completion() {
            let data = completion.user_data();
            let conn = ConnKey { index: data as u32, generation: (data >> 32) as u32 & 0xff_ffff };
            let result = completion.result();
            let outcome = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
            let more = cqueue::more(completion.flags());
            let op = OPS[(data >> 56) as usize - 1];
            events.push(match op {
                Op::Accept => Event::Accepted {
                    listener: conn.index,
                    // SAFETY: a successful accept returns a fresh descriptor that nobody else owns.
                    result: outcome.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
                    more,
                },
                Op::Receive => match (outcome, cqueue::buffer_select(completion.flags())) {
                    (Ok(length), Some(id)) if length > 0 => {
                        Event::Received { conn, buffer: self.buffers.take(id, length), more }
                    }
                    (outcome, id) => {
                        if let Some(id) = id {
                            let unused = self.buffers.take(id, 0);
                            self.buffers.recycle(unused);
                        }
                        if result == -libc::ENOBUFS {
                            self.buffers.grow();
                        }
                        debug_assert!(!more, "a receive that ended is not armed");
                        Event::ReceiveEnded { conn, result: outcome.map(|_| ()) }
                    }
                },
                Op::Send => {
                    let Sending { buffer, .. } = std::mem::take(&mut self.sending[conn.index as usize]);
                    Event::Sent { conn, result: outcome, buffer }
                }
                Op::Writable => Event::Writable { conn },
                Op::Peer => Event::Woken,
                Op::WakeEventfd => {
                    rearm_wake = true;
                    Event::Woken
                }
                Op::Wake => Event::WakeFailed { target: conn.index },
                Op::Cancel => continue,
            });
        }
        self.buffers.publish();
        if rearm_wake {
            self.arm_wake_eventfd();
        }
    }

    fn arm_wake_eventfd(&mut self) {
        let place = std::ptr::from_mut(&mut *self.wake_count).cast();
        let entry = opcode::Read::new(types::Fd(self.wake.as_raw_fd()), place, 8).build();
        self.push(entry.user_data(plain(Op::WakeEventfd, 0)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the memory that `entry` names is owned by `self` until its completion is reaped (`sending`,
        // `wake_count`, the buffer ring), and descriptors are closed only after their last completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit().expect("io_uring_enter takes a full submission queue");
        }
    }
}

/// Wakes the ring whose [`Ring::wake_fd`] this is; from any thread.
pub fn wake_by_eventfd(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes. A failure means the counter is full, hence the ring is about to wake.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

#[cfg(test)]
mod tests;
