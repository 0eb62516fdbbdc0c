//! Mailboxes between the shards' threads: one wait-free queue for each ordered pair.
//!
//! *Publication.* Messages for several shards become visible together: the sender puts all of them into their
//! mailboxes and then raises its counter `published`; a receiver looks at no message with a higher number. It reads
//! the time first, then each counter, then the mailbox, and takes what is stamped up to that time. A message that it
//! misses was published after it read the counter, hence later than that time; whatever such a message caused is
//! stamped later still, and waits as well (design, section 4, "Causal order").
//!
//! *Waking.* The sender pushes, fences, and looks whether the receiver sleeps; the receiver says that it is going to
//! sleep, fences, and looks into its mailboxes once more. One of them sees the other (`loom` checks this in `wake.rs`).
//!
//! *Overflow.* What finds a mailbox full is queued at home and goes first, later. `has_room` is false meanwhile, so the
//! core stops reading what would add to it; nothing waits for anything, so there is no cycle.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::wake::{self, Sleeper, Starved};
use crate::base::ids::ShardId;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Envelope, Message};

/// What all threads know of a shard.
#[derive(Default)]
#[repr(align(64))]
pub struct Station {
    published: AtomicU64,
    pub sleeper: Sleeper,
    /// Someone sleeps until a mailbox of this shard's has room: it wakes its senders when it has taken messages out.
    starved: Starved,
    ring_fd: AtomicI32,
    wake_fd: AtomicI32,
}

impl Station {
    /// Tells the others how to wake this shard.
    pub fn open(&self, ring_fd: RawFd, wake_fd: RawFd) {
        self.ring_fd.store(ring_fd, Ordering::Relaxed);
        self.wake_fd.store(wake_fd, Ordering::Release);
    }

    /// -1 before the shard has started.
    pub fn wake_fd(&self) -> RawFd {
        self.wake_fd.load(Ordering::Acquire)
    }

    pub fn ring_fd(&self) -> RawFd {
        self.ring_fd.load(Ordering::Relaxed)
    }
}

/// Called between any two steps that another shard can see apart. The simulator lets other shards run there; threads
/// need no help to get in each other's way.
pub trait Pace {
    fn step(&mut self);
}

/// The pace of shards that are threads.
pub struct Threads;

impl Pace for Threads {
    #[inline(always)]
    fn step(&mut self) {}
}

/// One shard's end of all its mailboxes.
pub struct ShardMesh<P = Threads> {
    id: ShardId,
    pace: P,
    stations: Arc<[Station]>,
    /// By shard; none to oneself.
    outboxes: Vec<Option<Producer<Envelope>>>,
    inboxes: Vec<Option<Consumer<Envelope>>>,
    overflow: Vec<VecDeque<Envelope>>,
    overflowing: usize,
    publications: u64,
    now_ns: fn() -> u64,
    /// Shards that may sleep on something we sent.
    to_wake: Vec<bool>,
    any_to_wake: bool,
}

/// The meshes of all shards, each mailbox with room for `capacity` messages.
pub fn connect(shards: usize, capacity: usize, now_ns: fn() -> u64) -> Vec<ShardMesh> {
    let stations: Arc<[Station]> = (0..shards).map(|_| Station::default()).collect();
    for station in stations.iter() {
        station.ring_fd.store(-1, Ordering::Relaxed);
        station.wake_fd.store(-1, Ordering::Relaxed);
    }
    let mut meshes: Vec<ShardMesh> = (0..shards)
        .map(|id| ShardMesh {
            id,
            pace: Threads,
            stations: stations.clone(),
            outboxes: (0..shards).map(|_| None).collect(),
            inboxes: (0..shards).map(|_| None).collect(),
            overflow: (0..shards).map(|_| VecDeque::new()).collect(),
            overflowing: 0,
            publications: 0,
            now_ns,
            to_wake: vec![false; shards],
            any_to_wake: false,
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(capacity);
            meshes[from].outboxes[to] = Some(producer);
            meshes[to].inboxes[from] = Some(consumer);
        }
    }
    meshes
}

impl ShardMesh {
    /// The same mesh, stopped between its steps.
    pub fn paced<P: Pace>(self, pace: P) -> ShardMesh<P> {
        let ShardMesh { id, pace: Threads, stations, outboxes, inboxes, overflow, .. } = self;
        let ShardMesh { overflowing, publications, now_ns, to_wake, any_to_wake, .. } = self;
        ShardMesh {
            id,
            pace,
            stations,
            outboxes,
            inboxes,
            overflow,
            overflowing,
            publications,
            now_ns,
            to_wake,
            any_to_wake,
        }
    }
}

impl<P: Pace> ShardMesh<P> {
    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn stations(&self) -> &Arc<[Station]> {
        &self.stations
    }

    /// Takes all messages that were published before now, in the order of their stamps. O(shards) when there is none.
    pub fn receive(&mut self, messages: &mut Vec<(ShardId, Envelope)>) {
        if self.stations.len() == 1 {
            return;
        }
        let now = (self.now_ns)();
        // The time is read before any mailbox.
        wake::full_fence();
        let from = messages.len();
        for (sender, inbox) in self.inboxes.iter_mut().enumerate() {
            let Some(inbox) = inbox else { continue };
            self.pace.step();
            let published = self.stations[sender].published.load(Ordering::Acquire);
            self.pace.step();
            while let Ok(envelope) = inbox.peek() {
                if envelope.publication > published || envelope.stamp > now {
                    break;
                }
                messages.push((sender, inbox.pop().expect("peeked")));
            }
        }
        let taken = messages.len() - from;
        // Each mailbox is in order already; a stable sort merges them.
        messages[from..].sort_by_key(|(_, envelope)| envelope.stamp);
        if taken > 0 {
            self.pace.step();
            if self.stations[self.id].starved.take() {
                self.to_wake.fill(true);
                self.any_to_wake = true;
            }
        }
    }

    /// Says that the shard sleeps, then looks once more for a reason not to. `starved`: connections wait for room.
    pub fn may_sleep(&mut self, starved: bool) -> bool {
        self.stations[self.id].sleeper.prepare();
        self.pace.step();
        if starved || self.overflowing > 0 {
            self.ask_for_room();
        }
        !(self.has_mail() || self.can_drain() || starved && self.has_room())
    }

    /// The shard is awake again, or did not sleep at all.
    pub fn awake(&self) {
        self.stations[self.id].sleeper.awake();
    }

    /// Has the owners of full mailboxes wake this shard, which says by now that it sleeps.
    #[cold]
    fn ask_for_room(&mut self) {
        for (to, outbox) in self.outboxes.iter().enumerate() {
            if outbox.as_ref().is_some_and(|outbox| outbox.slots() == 0) {
                self.pace.step();
                self.stations[to].starved.ask();
            }
        }
        self.pace.step();
        wake::full_fence();
    }

    /// Something can be received, or will be in a moment: stamps do not count here.
    fn has_mail(&mut self) -> bool {
        let pace = &mut self.pace;
        self.inboxes.iter().flatten().any(|inbox| {
            pace.step();
            !inbox.is_empty()
        })
    }

    /// What is queued at home could go now.
    fn can_drain(&self) -> bool {
        let has_room = |to: usize| self.outboxes[to].as_ref().is_some_and(|outbox| outbox.slots() > 0);
        self.overflowing > 0 && self.overflow.iter().enumerate().any(|(to, queue)| !queue.is_empty() && has_room(to))
    }

    /// Nothing is in a mailbox to this shard or queued at home.
    pub fn is_empty(&self) -> bool {
        self.overflowing == 0 && self.inboxes.iter().flatten().all(|inbox| inbox.is_empty())
    }

    /// Sends on what did not fit before.
    pub fn drain_overflow(&mut self) {
        if self.overflowing == 0 {
            return;
        }
        for to in 0..self.overflow.len() {
            while let Some(envelope) = self.overflow[to].pop_front() {
                if let Err(envelope) = self.push(to, envelope) {
                    self.overflow[to].push_front(envelope);
                    break;
                }
                self.overflowing -= 1;
            }
        }
        self.publish_pushed();
    }

    /// Shards to be woken for what was sent since the last call: those that sleep.
    pub fn take_sleepers(&mut self, mut wake: impl FnMut(ShardId, &Station)) {
        if !std::mem::take(&mut self.any_to_wake) {
            return;
        }
        self.pace.step();
        wake::full_fence();
        for (shard, pending) in self.to_wake.iter_mut().enumerate() {
            if std::mem::take(pending) && shard != self.id && self.stations[shard].sleeper.take() {
                wake(shard, &self.stations[shard]);
            }
        }
    }

    fn push(&mut self, to: ShardId, envelope: Envelope) -> Result<(), Envelope> {
        self.pace.step();
        let outbox = self.outboxes[to].as_mut().expect("a shard sends nothing to itself");
        outbox.push(envelope).map_err(|rtrb::PushError::Full(envelope)| envelope)?;
        self.to_wake[to] = true;
        self.any_to_wake = true;
        Ok(())
    }

    fn publish_pushed(&mut self) {
        self.pace.step();
        self.stations[self.id].published.store(self.publications, Ordering::Release);
    }
}

impl<P: Pace> Mesh for ShardMesh<P> {
    fn has_room(&self) -> bool {
        self.overflowing == 0 && self.outboxes.iter().flatten().all(|outbox| outbox.slots() > 0)
    }

    fn publish(&mut self, messages: &mut Vec<(ShardId, Message)>) {
        if messages.is_empty() {
            return;
        }
        self.publications += 1;
        let stamp = (self.now_ns)();
        for (to, message) in messages.drain(..) {
            let envelope = Envelope { stamp, publication: self.publications, message };
            if !self.overflow[to].is_empty() {
                self.overflow[to].push_back(envelope);
                self.overflowing += 1;
            } else if let Err(envelope) = self.push(to, envelope) {
                self.overflow[to].push_back(envelope);
                self.overflowing += 1;
            }
        }
        self.publish_pushed();
    }
}
