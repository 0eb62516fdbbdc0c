//! The post between shards, as a shard sees it. Two drivers implement it: `runtime::mesh` and the simulator.

use super::msg::Message;
use crate::base::ids::ShardId;

/// What a shard needs of its mailboxes to send. Receiving is the driver's part: it hands messages to the core in the
/// order of their stamps.
pub trait Mesh {
    /// Every mailbox has a free place and nothing queued in front of it: the condition under which commands may leave.
    fn has_room(&mut self) -> bool;

    /// Puts messages into their mailboxes and then makes all of them visible at once, with one stamp: all shards run
    /// what has been published in the order of stamps. What finds a mailbox full is queued at home, in order; nothing is
    /// ever lost or waited for. `together` has one message at most for each shard, this one included, and keeps one stamp
    /// even then.
    fn publish(&mut self, together: &mut Vec<(ShardId, Message)>, messages: &mut Vec<(ShardId, Message)>);
}
