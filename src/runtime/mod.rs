//! Level 9: what drives cores for real: mailboxes between threads, and the loop of each shard.

pub mod mesh;
pub mod shard_loop;
pub mod wake;

/// What the handshakes in `wake` are made of: `tests/loom.rs` puts its own in this place.
mod atomics {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}
