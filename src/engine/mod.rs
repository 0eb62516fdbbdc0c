//! Level 5: the shard machine: running commands on keys, and what shards say to each other.

pub mod block;
pub mod busy;
pub mod evict;
pub mod gather;
pub mod hold;
pub mod hop;
pub mod lease;
pub mod lock;
pub mod memory;
pub mod mesh;
pub mod msg;
pub mod multi;
pub mod parts;
pub mod pause;
pub mod pubsub;
pub mod script;
pub mod shard;
pub mod table;
pub mod tracking;
pub mod watch;
