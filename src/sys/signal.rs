//! Signals as a queue: blocked in every thread, taken by one thread with `sigwait`.
//!
//! So no code of ours ever runs inside a signal handler.

use std::mem::MaybeUninit;

/// What the server does on a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    /// SIGHUP and SIGUSR1: nothing, as in Redis.
    Ignored,
}

fn handled() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks the handled signals in this thread and all it starts, and ignores SIGPIPE, and SIGXFSZ: a
/// file that may not grow is an error of who writes it (`ulimit -f`). Call before any thread starts.
pub fn block() {
    // SAFETY: valid set, and constants for the dispositions.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &handled(), std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Waits for the next signal.
pub fn wait() -> Signal {
    let mut signal = 0;
    // SAFETY: valid set and a valid place for the number.
    while unsafe { libc::sigwait(&handled(), &mut signal) } != 0 {}
    match signal {
        libc::SIGTERM => Signal::Terminate,
        libc::SIGINT => Signal::Interrupt,
        _ => Signal::Ignored,
    }
}
