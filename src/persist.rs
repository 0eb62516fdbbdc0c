//! Level 6: what is kept on disk: RDB files, written and loaded while the shards serve.

pub mod aof;
pub mod load;
pub mod rdb;
pub mod save;
pub mod status;
