//! The system's log, through libc: it alone knows how to reach it everywhere.

use std::ffi::CString;

/// A connection to the system's log. There is one, for the life of the process.
pub struct Syslog {
    /// libc keeps the pointer, not a copy.
    _ident: CString,
}

impl Syslog {
    /// `facility`: `LOG_USER`, `LOG_LOCAL0` …
    pub fn open(ident: &str, facility: libc::c_int) -> Syslog {
        let ident = CString::new(ident.replace('\0', "")).expect("no zero byte is left");
        // SAFETY: `ident` is a valid string, and its buffer lives as long as the log is used.
        unsafe { libc::openlog(ident.as_ptr(), libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT, facility) };
        Syslog { _ident: ident }
    }

    /// `priority`: `LOG_DEBUG`, `LOG_INFO`, `LOG_NOTICE`, `LOG_WARNING`.
    pub fn write(&self, priority: libc::c_int, message: &str) {
        let message = CString::new(message.replace('\0', "")).expect("no zero byte is left");
        // SAFETY: a constant format with one string, which is valid.
        unsafe { libc::syslog(priority, c"%s".as_ptr(), message.as_ptr()) };
    }
}
