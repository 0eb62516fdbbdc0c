//! The post between shards, as a shard sees it. Two drivers implement it: `runtime::mesh` and the simulator.

use super::msg::Message;
use crate::base::ids::ShardId;

/// What a shard needs of its mailboxes to send. Receiving is the driver's part: it hands messages to the core in the
/// order of their stamps.
pub trait Mesh {
    /// Every mailbox has a free place and nothing queued in front of it: the condition under which commands may leave.
    fn has_room(&self) -> bool;

    /// Puts messages for several shards into their mailboxes and then makes all of them visible at once, with one
    /// stamp. What finds a mailbox full is queued at home, in order; nothing is ever lost or waited for.
    fn publish(&mut self, messages: &mut Vec<(ShardId, Message)>);
}
