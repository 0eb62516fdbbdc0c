//! Level 2: the pure data structures. They know bytes and time, and never a command, a session or the disk.

pub mod dict;
pub mod entry;
pub mod size_class;
