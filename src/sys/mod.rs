//! Level 0: the operating system's clock, files, memory, processors, signals and log.

pub mod affinity;
pub mod clock;
pub mod file;
pub mod memory;
pub mod process;
pub mod signal;
pub mod syslog;
