//! Level 9: what drives cores for real: mailboxes between threads, and the loop of each shard.

pub mod mesh;
pub mod shard_loop;
pub mod wake;
