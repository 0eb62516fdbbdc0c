//! Level 0: values and algorithms that depend on nothing.

pub mod bytes;
pub mod clock;
pub mod crc;
pub mod glob;
mod grisu;
pub mod ids;
pub mod limits;
pub mod long_double;
pub mod lzf;
pub mod metrics;
pub mod number;
pub mod quoting;
pub mod rng;
pub mod slowlog;
pub mod ticket;
