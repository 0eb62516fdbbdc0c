//! Level 10: the process: from its arguments to running shards, and to the end.

pub mod boot;
