//! Level 4: commands: what each is (`spec`, `keys`) and, by family, what it does to the keys of one shard.

pub mod acks;
pub mod args;
pub mod bits;
pub mod ctx;
mod draws;
pub mod effect;
pub mod error;
pub mod events;
pub mod generic;
pub mod geo;
pub mod group;
pub mod hash;
pub mod hll;
pub mod keys;
pub mod keyspace;
mod lcs;
pub mod list;
pub mod scan;
pub mod set;
pub mod sort;
pub mod spec;
pub mod stream;
pub mod string;
#[cfg(test)]
pub mod testing;
pub mod timing;
pub mod wait;
pub mod zset;

use crate::resp::reply::Reply;
use args::Args;
use ctx::ShardCtx;

/// A command on keys of one shard. On an error it has changed nothing, and what it wrote to the reply is dropped.
pub type KeyFn = fn(&mut ShardCtx, &Args, &mut Reply) -> error::Result;

/// The declaration of such a command.
pub type KeyRow = spec::Row<KeyFn>;
