//! Signals as a queue: blocked in every thread, taken by one thread with `sigwait`.
//!
//! So no code of ours runs inside a signal handler, but for one that says in the log that the process crashes.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// What the server does on a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    /// SIGALRM: what the threads are at.
    Alarm,
    /// SIGHUP and SIGUSR1: nothing, as in Redis.
    Ignored,
}

fn handled() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGALRM, libc::SIGHUP, libc::SIGUSR1] {
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
        libc::SIGALRM => Signal::Alarm,
        _ => Signal::Ignored,
    }
}

/// How a crash is told of: the log file (standard output if there is none), and what stands in front of the signal.
struct CrashLog {
    file: Option<CString>,
    begin: String,
}

static CRASH_LOG: OnceLock<CrashLog> = OnceLock::new();

/// Has a crash by a signal told in the log before the process dies of it. What the first call names stays.
pub fn tell_crashes(file: Option<CString>, begin: String) {
    let _ = CRASH_LOG.set(CrashLog { file, begin });
    for signal in CRASHES {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeros are a valid action but for its handler, which is set; the handler does only what may be done in one.
        unsafe {
            (*action.as_mut_ptr()).sa_sigaction = crashed as *const () as libc::sighandler_t;
            // A stack that has overflowed is of no use to the handler; and the second signal is to kill.
            (*action.as_mut_ptr()).sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
            libc::sigaction(signal, action.as_ptr(), std::ptr::null_mut());
        }
    }
}

/// Crashes end the process without a word.
pub fn forget_crashes() {
    for signal in CRASHES {
        // SAFETY: a constant for the disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

const CRASHES: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

extern "C" fn crashed(signal: libc::c_int) {
    if let Some(log) = CRASH_LOG.get() {
        let text = [
            log.begin.as_bytes(),
            b"crashed by signal: ",
            &[b'0' + (signal / 10) as u8, b'0' + (signal % 10) as u8],
            b"\n",
        ];
        write_log(log.file.as_deref(), &text);
    }
    // SAFETY: the disposition is the default again: it ends the process, and leaves a core file where these are wanted.
    unsafe { libc::raise(signal) };
}

/// With nothing but system calls: whatever the thread was in the middle of.
fn write_log(file: Option<&CStr>, text: &[&[u8]]) {
    // SAFETY: a valid path, and bytes that are there.
    unsafe {
        let descriptor = file.map_or(1, |file| libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_APPEND));
        for part in text {
            libc::write(descriptor, part.as_ptr().cast(), part.len());
        }
    }
}

/// DEBUG SEGFAULT: dies as of a bad pointer.
pub fn crash() -> ! {
    // SAFETY: ends the process.
    unsafe {
        libc::raise(libc::SIGSEGV);
        libc::abort()
    }
}
