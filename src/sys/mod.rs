//! Level 0: the operating system's clock, memory, processors, signals and log.

pub mod affinity;
pub mod clock;
pub mod memory;
pub mod process;
pub mod signal;
pub mod syslog;
