//! Level 2: the pure data structures. They know bytes and time, and never a command, a session or the disk.

pub mod bits;
pub mod collection;
pub mod dict;
pub mod digest;
pub mod dump;
pub mod entry;
pub mod geohash;
pub mod hash;
pub mod hll;
pub mod intset;
pub mod list;
pub mod listpack;
pub mod quicklist;
pub mod set;
pub mod size_class;
pub mod stream;
pub mod ziplist;
pub mod zset;
