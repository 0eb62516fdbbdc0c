//! The handshakes between shards, in every order that the memory model allows: the product's file, loom's atomics.

mod atomics {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[allow(dead_code)]
#[path = "../src/runtime/wake.rs"]
mod wake;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use loom::thread;

use wake::{Sleeper, Starved, full_fence};

/// Two shards: one that may go to sleep and one that may have to wake it.
#[derive(Default)]
struct Pair {
    sleeper: Sleeper,
    starved: Starved,
    /// Messages in a mailbox, or free places in it.
    there: AtomicUsize,
    woken: AtomicBool,
}

impl Pair {
    fn wake(&self) {
        full_fence();
        if self.sleeper.take() {
            self.woken.store(true, Relaxed);
        }
    }

    /// It sleeps, there is something for it, and nobody tells it.
    fn is_stuck(&self, asleep: bool) -> bool {
        asleep && self.there.load(Relaxed) > 0 && !self.woken.load(Relaxed)
    }
}

fn check(other: fn(&Pair), may_sleep: fn(&Pair) -> bool) {
    loom::model(move || {
        let pair = Arc::new(Pair::default());
        let others = {
            let pair = pair.clone();
            thread::spawn(move || other(&pair))
        };
        let asleep = may_sleep(&pair);
        others.join().unwrap();
        assert!(!pair.is_stuck(asleep));
    });
}

fn send(pair: &Pair) {
    pair.there.store(1, Release);
    pair.wake();
}

#[test]
fn a_message_finds_its_receiver_awake_or_wakes_it() {
    check(send, |pair| {
        pair.sleeper.prepare();
        pair.there.load(Acquire) == 0
    });
}

#[test]
#[should_panic(expected = "is_stuck")]
fn a_receiver_that_looks_before_it_says_so_is_found() {
    check(send, |pair| {
        let empty = pair.there.load(Acquire) == 0;
        pair.sleeper.prepare();
        empty
    });
}

/// Takes a message out of another sender's mailbox first, then out of this one's.
fn make_room(pair: &Pair) {
    for there in [0, 1] {
        pair.there.store(there, Release);
        if pair.starved.take() {
            pair.wake();
        }
    }
}

#[test]
fn room_finds_its_sender_awake_or_wakes_it() {
    check(make_room, |pair| {
        pair.sleeper.prepare();
        pair.starved.ask();
        full_fence();
        pair.there.load(Acquire) == 0
    });
}

#[test]
#[should_panic(expected = "is_stuck")]
fn a_sender_that_asks_before_it_says_that_it_sleeps_is_found() {
    check(make_room, |pair| {
        pair.starved.ask();
        pair.sleeper.prepare();
        pair.there.load(Acquire) == 0
    });
}
