//! The log, in Redis's format: `pid:M time mark message`, as operators and their tools read it (`M`: a primary).
//!
//! Redis's four levels are tracing's: `debug` is `TRACE`, `verbose` is `DEBUG`, `notice` is `INFO`, and `warning` is
//! `WARN` or `ERROR`. Lines go to the file or to standard output, and to the system's log if that is wanted. The file
//! is opened for each line, as in Redis, so that it can be moved away while the server runs.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::config::Config;
use crate::config::value::{LogLevel, SyslogFacility};
use crate::sys::clock;
use crate::sys::syslog::Syslog;

/// The lowest level that is logged: CONFIG SET changes it.
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Notice as u8);

/// Where lines go.
struct Log {
    file: Option<PathBuf>,
    syslog: Option<Syslog>,
}

/// Starts logging as configured. Once.
pub fn start(config: &Config) {
    set_level(config.loglevel);
    let log = Log {
        file: (!config.logfile.is_empty()).then(|| PathBuf::from(&config.logfile)),
        syslog: config.syslog_enabled.then(|| Syslog::open(&config.syslog_ident, facility(config.syslog_facility))),
    };
    tracing::subscriber::set_global_default(log).expect("the log is started once");
}

pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// How the line of a crash begins. Nobody could find out the time then.
pub fn crash_line() -> String {
    format!("\n=== PERISTYLE BUG REPORT START ===\n{}:M # Peristyle {} ", std::process::id(), env!("CARGO_PKG_VERSION"))
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::TRACE => LogLevel::Debug,
        Level::DEBUG => LogLevel::Verbose,
        Level::INFO => LogLevel::Notice,
        Level::WARN | Level::ERROR => LogLevel::Warning,
    }
}

fn is_logged(level: LogLevel) -> bool {
    level as u8 >= LEVEL.load(Relaxed)
}

fn facility(facility: SyslogFacility) -> libc::c_int {
    match facility {
        SyslogFacility::User => libc::LOG_USER,
        SyslogFacility::Local0 => libc::LOG_LOCAL0,
        SyslogFacility::Local1 => libc::LOG_LOCAL1,
        SyslogFacility::Local2 => libc::LOG_LOCAL2,
        SyslogFacility::Local3 => libc::LOG_LOCAL3,
        SyslogFacility::Local4 => libc::LOG_LOCAL4,
        SyslogFacility::Local5 => libc::LOG_LOCAL5,
        SyslogFacility::Local6 => libc::LOG_LOCAL6,
        SyslogFacility::Local7 => libc::LOG_LOCAL7,
    }
}

impl Log {
    fn write(&self, level: LogLevel, message: &str) {
        let (mark, priority) = match level {
            LogLevel::Debug => ('.', libc::LOG_DEBUG),
            LogLevel::Verbose => ('-', libc::LOG_INFO),
            LogLevel::Notice => ('*', libc::LOG_NOTICE),
            LogLevel::Warning | LogLevel::Nothing => ('#', libc::LOG_WARNING),
        };
        let time = clock::local_time_text(clock::unix_us());
        let line = format!("{}:M {time} {mark} {message}\n", std::process::id());
        // A log that cannot be written is no reason to stop, and there is nowhere to say so.
        let _ = match &self.file {
            None => std::io::stdout().lock().write_all(line.as_bytes()),
            Some(path) => std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes())),
        };
        if let Some(syslog) = &self.syslog {
            syslog.write(priority, message);
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && is_logged(level_of(metadata.level()))
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.write(level_of(event.metadata().level()), &line.0);
    }

    // Spans are not used: a line stands for itself.
    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let result = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        result.expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_in_order() {
        set_level(LogLevel::Notice);
        let logged = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        assert_eq!(logged.map(|level| is_logged(level_of(&level))), [false, false, true, true, true]);
        set_level(LogLevel::Nothing);
        assert!(!is_logged(LogLevel::Warning));
        set_level(LogLevel::Notice);
    }
}
