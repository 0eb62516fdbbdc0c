//! The append-only file: a directory of segments, one a shard and generation, behind a base (`codec::aof` has the
//! format).

pub mod manifest;
pub mod recover;
pub mod scan;
