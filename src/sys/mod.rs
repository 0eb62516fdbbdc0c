//! Level 0: the operating system's clock, memory, processors and signals.

pub mod affinity;
pub mod clock;
pub mod memory;
pub mod signal;
