//! A core's part in eviction: its shard makes room once a turn, and the others are asked to, if that is not enough.

use super::Core;
use crate::engine::evict::Room;
use crate::engine::memory::Standing;
use crate::engine::msg::Message;

/// The others are asked no more often than this.
const ASK_INTERVAL_NS: u64 = 1_000_000;

impl Core {
    /// Removes keys if the process uses more memory than it may.
    #[inline]
    pub(super) fn make_room(&mut self) {
        if self.shard.memory.is_set() {
            self.make_room_now();
        }
    }

    #[cold]
    fn make_room_now(&mut self) {
        self.evicting = self.shard.make_room() == Room::Coming && self.shard.can_evict();
        self.tell_of_evicted();
        let (memory, now_ns) = (&self.shard.memory, self.shard.ctx.now.mono_ns);
        let excess = memory.excess();
        let others_should = excess > 0 && memory.standing() == Standing::Warmer;
        let others_lag = memory.others_can_evict() && (excess > memory.slack() || others_should);
        if others_lag && now_ns >= self.asked_for_room_ns + ASK_INTERVAL_NS {
            self.asked_for_room_ns = now_ns;
            for shard in (0..self.server.shards).filter(|&shard| shard != self.id) {
                self.outgoing.push((shard, Message::MakeRoom));
            }
        }
    }

    /// Keys may have been evicted: who watches them, waits for them or wants to hear of it learns so.
    pub(super) fn tell_of_evicted(&mut self) {
        self.shard.after_commands();
        self.send_aftermath();
    }
}
