//! The handshake between a shard that goes to sleep and one that has just sent it something.
//!
//! ```text
//! sender                     receiver
//! push                       sleeping = true
//! fence                      fence
//! sleeping.swap(false)?      mailboxes empty?
//!   then wake it               then sleep, else go on
//! ```
//!
//! With both fences sequentially consistent, either the sender sees the flag or the receiver sees the message. The
//! swap makes one of several senders wake it. A sender that sleeps until a full mailbox has room does the same with
//! the roles exchanged ([`Starved`]). `tests/loom.rs` runs this file in every order that the memory model allows.

use super::atomics::{AtomicBool, Ordering, fence};

/// Between what one has done and the look at what the other does.
pub fn full_fence() {
    fence(Ordering::SeqCst);
}

#[derive(Default)]
pub struct Sleeper {
    sleeping: AtomicBool,
}

impl Sleeper {
    /// Before looking into the mailboxes for the last time.
    pub fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        full_fence();
    }

    /// Awake again, or not asleep at all.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// It sleeps, or is about to, and it is the caller who wakes it. After a fence that follows the push.
    pub fn take(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }
}

/// At a receiver: someone sleeps until one of its mailboxes has room.
#[derive(Default)]
pub struct Starved {
    asked: AtomicBool,
}

impl Starved {
    /// By a sender that has said that it sleeps, before a full fence and a last look for room. Only then: a receiver
    /// that has made room for someone else forgets who asked, and wakes all who sleep by then.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// By the receiver, when it has taken messages out: whether it has to wake its senders.
    pub fn take(&self) -> bool {
        full_fence();
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::AcqRel)
    }
}
