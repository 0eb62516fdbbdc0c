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
//! swap makes one of several senders wake it.

use std::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Default)]
pub struct Sleeper {
    sleeping: AtomicBool,
}

impl Sleeper {
    /// Before looking into the mailboxes for the last time.
    pub fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
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
