//! Level 10: the process: from its configuration to running shards, and to the end.

mod append_only;
pub mod boot;
mod listen;
pub mod log;
pub mod reconfigure;
pub mod shutdown;
pub mod supervisor;
