//! Mailboxes between the shards' threads: one wait-free queue for each ordered pair.
//!
//! *Publication.* Messages for several shards become visible together and have one stamp: the sender says that it
//! publishes (its counter `published` is odd), reads the time, puts all of them into their mailboxes, and raises the
//! counter once more. A receiver reads the time first, then each counter; where it is odd it waits those few instructions
//! for the next value. Then it takes all messages that are stamped before that time. What it misses was stamped later. So
//! every shard runs messages in one and the same order, that of their stamps, whoever sent them, and what a message caused
//! comes behind it everywhere (design, section 4, "Causal order"). A shard that is among the receivers of its own
//! publication gets its part in that order, too.
//!
//! *Waking.* The sender pushes, fences, and looks whether the receiver sleeps; the receiver says that it is going to
//! sleep, fences, and looks into its mailboxes once more. One of them sees the other (`loom` checks this in `wake.rs`).
//!
//! *Overflow.* What finds a mailbox full is queued at home and published later, before anything else; what belongs together
//! stays together. `has_room` is false meanwhile, so the core stops reading what would add to it; nothing waits for
//! anything, so there is no cycle.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use smallvec::{SmallVec, smallvec};

use super::wake::{self, Sleeper, Starved};
use crate::base::ids::ShardId;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Envelope, Message};

/// What all threads know of a shard.
#[derive(Default)]
#[repr(align(64))]
pub struct Station {
    /// Twice the number of its publications, less one while it is at one.
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

    /// Another shard is at a publication; this is the n-th look.
    fn wait(&mut self, looks: u32);
}

/// The pace of shards that are threads.
pub struct Threads;

impl Pace for Threads {
    #[inline(always)]
    fn step(&mut self) {}

    fn wait(&mut self, looks: u32) {
        match looks {
            0..LOOKS_BEFORE_YIELDING => std::hint::spin_loop(),
            // It may have lost its processor, perhaps to this very thread.
            _ => std::thread::yield_now(),
        }
    }
}

/// A publication takes a fraction of a microsecond; so does this.
const LOOKS_BEFORE_YIELDING: u32 = 64;

/// Messages of one publication: not more than one for each shard, if there are several.
type Group = SmallVec<[(ShardId, Message); 1]>;

/// One shard's end of all its mailboxes.
pub struct ShardMesh<P = Threads> {
    id: ShardId,
    pace: P,
    stations: Arc<[Station]>,
    /// By shard; none to oneself.
    outboxes: Vec<Option<Producer<Envelope>>>,
    inboxes: Vec<Option<Consumer<Envelope>>>,
    /// Of this shard's publications, what is for itself.
    own: VecDeque<Envelope>,
    /// By shard: how many messages its mailbox takes at least.
    free: Vec<usize>,
    overflow: VecDeque<Group>,
    publications: u64,
    now_ns: fn() -> u64,
    /// Shards that may sleep on something we sent.
    to_wake: Vec<bool>,
    any_to_wake: bool,
    /// Something has gone to another shard, or come from one.
    has_traffic: bool,
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
            own: VecDeque::new(),
            free: vec![capacity; shards],
            overflow: VecDeque::new(),
            publications: 0,
            now_ns,
            to_wake: vec![false; shards],
            any_to_wake: false,
            has_traffic: false,
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
        let ShardMesh { id, pace: Threads, stations, outboxes, inboxes, own, free, .. } = self;
        let ShardMesh { overflow, publications, now_ns, to_wake, any_to_wake, has_traffic, .. } = self;
        ShardMesh {
            id,
            pace,
            stations,
            outboxes,
            inboxes,
            own,
            free,
            overflow,
            publications,
            now_ns,
            to_wake,
            any_to_wake,
            has_traffic,
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

    /// Takes all messages that are stamped before now, in the order of their stamps. O(shards) when there is none.
    pub fn receive(&mut self, messages: &mut Vec<(ShardId, Envelope)>) {
        if self.stations.len() == 1 && self.own.is_empty() {
            return;
        }
        let now = (self.now_ns)();
        // The time is read before any counter.
        wake::full_fence();
        let from = messages.len();
        let mut taken = 0;
        for sender in 0..self.inboxes.len() {
            if sender == self.id {
                while self.own.front().is_some_and(|envelope| envelope.stamp < now) {
                    messages.extend(self.own.pop_front().map(|envelope| (sender, envelope)));
                }
                continue;
            }
            self.pace.step();
            let published = self.publications_of(sender);
            self.pace.step();
            let inbox = self.inboxes[sender].as_mut().expect("from every other shard");
            while let Ok(envelope) = inbox.peek() {
                if envelope.publication > published || envelope.stamp >= now {
                    break;
                }
                messages.push((sender, inbox.pop().expect("peeked")));
                taken += 1;
            }
        }
        // Each mailbox is in order already; a stable sort merges them, equal stamps in the order of shards.
        messages[from..].sort_by_key(|(_, envelope)| envelope.stamp);
        if taken > 0 {
            self.has_traffic = true;
            self.pace.step();
            if self.stations[self.id].starved.take() {
                self.to_wake.fill(true);
                self.any_to_wake = true;
            }
        }
    }

    /// How many publications of a shard are whole. One that has begun is waited for: it may have its stamp already.
    fn publications_of(&mut self, sender: ShardId) -> u64 {
        let begun = self.stations[sender].published.load(Ordering::Acquire);
        let mut published = begun;
        let mut looks = 0;
        while published % 2 == 1 && published == begun {
            self.pace.wait(looks);
            looks = looks.saturating_add(1);
            published = self.stations[sender].published.load(Ordering::Acquire);
        }
        published / 2
    }

    /// Whether something has gone to another shard, or come from one, since the last call.
    pub fn take_traffic(&mut self) -> bool {
        std::mem::take(&mut self.has_traffic)
    }

    /// A part of this shard's own publications is for itself, and has not run.
    pub fn has_own_mail(&self) -> bool {
        !self.own.is_empty()
    }

    /// Says that the shard sleeps, then looks once more for a reason not to. `starved`: connections wait for room.
    pub fn may_sleep(&mut self, starved: bool) -> bool {
        self.stations[self.id].sleeper.prepare();
        self.pace.step();
        if starved || !self.overflow.is_empty() {
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
    pub fn has_mail(&mut self) -> bool {
        let pace = &mut self.pace;
        !self.own.is_empty()
            || self.inboxes.iter().flatten().any(|inbox| {
                pace.step();
                !inbox.is_empty()
            })
    }

    /// What is queued at home could go now.
    fn can_drain(&mut self) -> bool {
        let Some(group) = self.overflow.pop_front() else { return false };
        let fits = self.fits(&group);
        self.overflow.push_front(group);
        fits
    }

    /// Nothing is in a mailbox to this shard or queued at home.
    pub fn is_empty(&self) -> bool {
        self.overflow.is_empty() && self.own.is_empty() && self.inboxes.iter().flatten().all(|inbox| inbox.is_empty())
    }

    /// Sends on what did not fit before.
    pub fn drain_overflow(&mut self) {
        while self.can_drain() {
            let group = self.overflow.pop_front().expect("there is one that fits");
            self.publish_now(group.into_iter());
        }
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

    /// Mailboxes have room for all of these.
    fn fits(&mut self, messages: &[(ShardId, Message)]) -> bool {
        messages.iter().enumerate().all(|(index, (to, _))| {
            *to == self.id || {
                let others = messages[..index].iter().filter(|(other, _)| other == to).count();
                self.has_free(*to, others + 1)
            }
        })
    }

    fn has_free(&mut self, to: ShardId, wanted: usize) -> bool {
        if self.free[to] < wanted {
            self.free[to] = self.outboxes[to].as_ref().expect("to every other shard").slots();
        }
        self.free[to] >= wanted
    }

    /// Makes messages that fit visible at once, with one stamp.
    fn publish_now(&mut self, messages: impl Iterator<Item = (ShardId, Message)>) {
        self.publications += 1;
        let publication = self.publications;
        self.stations[self.id].published.store(2 * publication - 1, Ordering::Relaxed);
        // Who does not see that reads a time before this one.
        wake::full_fence();
        self.pace.step();
        let stamp = (self.now_ns)();
        for (to, message) in messages {
            let envelope = Envelope { stamp, publication, message };
            if to == self.id {
                self.own.push_back(envelope);
                continue;
            }
            self.pace.step();
            let outbox = self.outboxes[to].as_mut().expect("to every other shard");
            outbox.push(envelope).expect("the caller has seen that it fits");
            self.free[to] -= 1;
            self.to_wake[to] = true;
            self.any_to_wake = true;
            self.has_traffic = true;
        }
        self.pace.step();
        self.stations[self.id].published.store(2 * publication, Ordering::Release);
    }
}

impl<P: Pace> Mesh for ShardMesh<P> {
    fn has_room(&mut self) -> bool {
        self.overflow.is_empty() && (0..self.outboxes.len()).all(|to| to == self.id || self.has_free(to, 1))
    }

    fn publish(&mut self, together: &mut Vec<(ShardId, Message)>, messages: &mut Vec<(ShardId, Message)>) {
        if together.is_empty() && messages.is_empty() {
            return;
        }
        debug_assert!(
            together.iter().enumerate().all(|(index, (to, _))| together[..index].iter().all(|(other, _)| other != to)),
            "one message for each shard"
        );
        if self.overflow.is_empty() && self.fits(together) {
            // What has to leave together goes first, so that nothing takes its places.
            let rest = together.len();
            together.append(messages);
            if self.fits(together) {
                return self.publish_now(together.drain(..));
            }
            messages.extend(together.drain(rest..));
            if !together.is_empty() {
                self.publish_now(together.drain(..));
            }
        } else if !together.is_empty() {
            self.overflow.push_back(together.drain(..).collect());
        }
        self.overflow.extend(messages.drain(..).map(|message| -> Group { smallvec![message] }));
        self.drain_overflow();
    }
}
