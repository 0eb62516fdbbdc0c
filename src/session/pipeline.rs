//! Keeps the replies of one connection in the order of its commands (promise P1), wherever they are computed.
//!
//! While every command so far is answered, there is no slot and replies go straight to the output. From the first
//! command that is answered elsewhere on, each reply has a slot, and the head of the queue leaves as it becomes ready.

use std::collections::VecDeque;

use crate::base::ids::{Sequence, ShardId};
use crate::base::limits::{PIPELINE_REMOTE_BYTES_MAX, PIPELINE_REMOTE_MAX, REPLY_BYTES_ASSUMED};

#[derive(Debug)]
pub struct Pipeline {
    slots: VecDeque<Slot>,
    /// The sequence of `slots[0]`.
    head: Sequence,
    waiting: usize,
    /// A transaction in one hop, or a script, is among those that wait.
    has_hop: bool,
    /// Something that leaves in a message is.
    has_departed: bool,
    /// A script that needs the lease of the shard is.
    has_leased: bool,
    /// The shard that runs all those in the queue, if it is one.
    place: Option<ShardId>,
    /// How large a reply from elsewhere may be: the largest of late, fading with each smaller one.
    reply_bytes: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting { discard: bool },
    Ready(Vec<u8>),
}

impl Default for Pipeline {
    fn default() -> Pipeline {
        Pipeline {
            slots: VecDeque::new(),
            head: 0,
            waiting: 0,
            has_hop: false,
            has_departed: false,
            has_leased: false,
            place: None,
            reply_bytes: REPLY_BYTES_ASSUMED,
        }
    }
}

impl Pipeline {
    /// No command waits for its reply.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Commands that are answered elsewhere and not answered yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// No further command may be sent elsewhere until some are answered. Replies take memory before the output's limit
    /// sees them, so the larger they are, the fewer commands are on their way.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.waiting >= PIPELINE_REMOTE_MAX || self.waiting * self.reply_bytes >= PIPELINE_REMOTE_BYTES_MAX
    }

    /// All commands that may not have run yet are this shard's.
    #[inline]
    pub fn is_all_at(&self, shard: ShardId) -> bool {
        self.is_empty() || self.place == Some(shard)
    }

    /// A command that this shard answers takes its place. `discard`: its reply is not wanted (CLIENT REPLY).
    pub fn push_waiting(&mut self, discard: bool, shard: ShardId) -> Sequence {
        self.place = self.is_all_at(shard).then_some(shard);
        self.push(discard)
    }

    fn push(&mut self, discard: bool) -> Sequence {
        self.slots.push_back(Slot::Waiting { discard });
        self.waiting += 1;
        self.head.wrapping_add(self.slots.len() as u32 - 1)
    }

    /// The same for one that comes before all that have a place.
    pub fn push_first(&mut self, discard: bool, shard: ShardId) -> Sequence {
        self.place = self.is_all_at(shard).then_some(shard);
        self.slots.push_front(Slot::Waiting { discard });
        self.waiting += 1;
        self.head = self.head.wrapping_sub(1);
        self.head
    }

    /// The same for one that leaves in a message.
    pub fn push_departing(&mut self, discard: bool, shard: ShardId) -> Sequence {
        self.has_departed = true;
        self.push_waiting(discard, shard)
    }

    /// The same for a script: nothing of this connection may overtake it. `leased`: it may have to wait for the lease, and
    /// until it is answered, only such scripts on the same shard may follow it.
    pub fn push_script(&mut self, discard: bool, shard: ShardId, leased: bool, departs: bool) -> Sequence {
        self.has_hop |= departs;
        self.has_departed |= departs;
        self.has_leased |= leased;
        self.push_waiting(discard, shard)
    }

    /// The same for a transaction in one hop.
    pub fn push_hop(&mut self, discard: bool) -> Sequence {
        (self.has_hop, self.has_departed, self.place) = (true, true, None);
        self.push(discard)
    }

    /// A script that may have to wait for the lease has not been answered.
    #[inline]
    pub fn has_leased(&self) -> bool {
        self.has_leased
    }

    /// What nothing of this connection may overtake may not have run yet, on whatever shard.
    #[inline]
    pub fn has_hop(&self) -> bool {
        self.has_hop
    }

    /// Something may not have run yet, on another shard or, as what leaves with it does, on the connection's own.
    pub fn has_departed(&self) -> bool {
        self.has_departed
    }

    /// Where a reply that is ready now goes while earlier ones are not. Only if not empty.
    pub fn ready_buffer(&mut self) -> &mut Vec<u8> {
        assert!(!self.slots.is_empty(), "with nothing waiting, replies go to the output");
        if !matches!(self.slots.back(), Some(Slot::Ready(_))) {
            self.slots.push_back(Slot::Ready(Vec::new()));
        }
        match self.slots.back_mut() {
            Some(Slot::Ready(buffer)) => buffer,
            _ => unreachable!("pushed above"),
        }
    }

    /// The reply of a waiting command; whatever may leave now is appended to `output`.
    pub fn complete(&mut self, sequence: Sequence, reply: &[u8], output: &mut Vec<u8>) {
        let index = sequence.wrapping_sub(self.head) as usize;
        let slot = self.slots.get_mut(index).expect("a reply belongs to a command that waits for it");
        let Slot::Waiting { discard } = *slot else { panic!("a command is answered once") };
        self.waiting -= 1;
        self.reply_bytes = reply.len().max(self.reply_bytes - self.reply_bytes / 8);
        let reply = if discard { &[] } else { reply };
        if index > 0 {
            *slot = Slot::Ready(reply.to_vec());
            return;
        }
        output.extend_from_slice(reply);
        self.pop();
        while let Some(Slot::Ready(reply)) = self.slots.front() {
            output.extend_from_slice(reply);
            self.pop();
        }
    }

    fn pop(&mut self) {
        self.slots.pop_front();
        self.head = self.head.wrapping_add(1);
        if self.slots.is_empty() {
            (self.has_hop, self.has_departed, self.has_leased) = (false, false, false);
            // An idle connection holds no memory here.
            self.slots = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_may_be_taken_before_all_others() {
        let (mut pipeline, mut output) = (Pipeline::default(), Vec::new());
        let third = pipeline.push_waiting(false, 0);
        let second = pipeline.push_first(false, 0);
        let first = pipeline.push_first(true, 0);
        pipeline.complete(third, b"3", &mut output);
        pipeline.complete(second, b"2", &mut output);
        assert!(output.is_empty());
        pipeline.complete(first, b"1", &mut output);
        assert!(pipeline.is_empty() && output == b"23", "nobody wants the first");
    }

    #[test]
    fn it_knows_whether_one_shard_runs_all_that_waits() {
        let (mut pipeline, mut output) = (Pipeline::default(), Vec::new());
        assert!(pipeline.is_all_at(1) && pipeline.is_all_at(2));
        let first = pipeline.push_waiting(false, 1);
        assert!(pipeline.is_all_at(1) && !pipeline.is_all_at(2));
        let second = pipeline.push_waiting(false, 2);
        assert!(!pipeline.is_all_at(1) && !pipeline.is_all_at(2));
        pipeline.complete(second, b"", &mut output);
        let third = pipeline.push_waiting(false, 1);
        assert!(!pipeline.is_all_at(1), "the second may be at the head still");
        pipeline.complete(first, b"", &mut output);
        pipeline.complete(third, b"", &mut output);
        assert!(pipeline.is_all_at(2));
        let hop = pipeline.push_hop(false);
        assert!(!pipeline.is_all_at(1) && !pipeline.is_all_at(2));
        pipeline.complete(hop, b"", &mut output);
        assert!(pipeline.is_all_at(1));
    }

    proptest! {
        /// Commands are answered here or elsewhere, and elsewhere in any order; the output keeps the commands' order.
        #[test]
        fn replies_leave_in_the_order_of_their_commands(
            elsewhere in prop::collection::vec(any::<bool>(), 1..40),
            order in any::<prop::sample::Index>(),
        ) {
            let mut pipeline = Pipeline { head: u32::MAX - 3, ..Pipeline::default() };
            let (mut output, mut waiting) = (Vec::new(), Vec::new());
            for (command, &elsewhere) in elsewhere.iter().enumerate() {
                if elsewhere {
                    waiting.push((pipeline.push_waiting(false, 0), command as u8));
                } else if pipeline.is_empty() {
                    output.push(command as u8);
                } else {
                    pipeline.ready_buffer().push(command as u8);
                }
            }
            while !waiting.is_empty() {
                let (sequence, command) = waiting.swap_remove(order.index(waiting.len()));
                pipeline.complete(sequence, &[command], &mut output);
            }
            prop_assert!(pipeline.is_empty() && pipeline.waiting() == 0);
            prop_assert_eq!(output, (0..elsewhere.len() as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_unwanted_reply_is_dropped_in_its_place() {
        let (mut pipeline, mut output) = (Pipeline::default(), Vec::new());
        let unwanted = pipeline.push_waiting(true, 0);
        let wanted = pipeline.push_waiting(false, 0);
        pipeline.complete(wanted, b"b", &mut output);
        pipeline.complete(unwanted, b"a", &mut output);
        assert_eq!(output, b"b");
    }
}
