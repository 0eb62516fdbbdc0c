//! A core's part in eviction: its shard makes room once a turn, and the others are asked to, if that is not enough.
//!
//! They answer when they have, behind what they tell of the keys that went. Until then the commands of clients with copies
//! of keys wait here: as on one shard, which makes room before it runs a command, they learn before a reply what had to
//! go for it.

use super::Core;
use crate::base::ids::ShardId;
use crate::engine::evict::Room;
use crate::engine::msg::Message;
use crate::engine::parts::Standing;

/// They are left in peace for so long when they have answered; less long if a client waits for it.
const ASK_INTERVAL_NS: u64 = 1_000_000;
const WAITED_INTERVAL_NS: u64 = 100_000;

/// A shard that has not answered for so long is busy otherwise: nobody waits for it any more.
const ANSWER_NS_MAX: u64 = 10_000_000;

/// What a core asks of the others, and they of it.
#[derive(Default)]
pub(super) struct Asking {
    /// The last time's, so that a late answer is not taken for one to another question.
    number: u32,
    /// Answers that are to come.
    missing: usize,
    /// When the others were last asked, or the last of them answered, on the monotonic clock.
    since_ns: u64,
    /// Who has asked this shard since it last made room, and with what number.
    askers: Vec<(ShardId, u32)>,
}

impl Asking {
    /// Others are making room.
    pub(super) fn is_waiting(&self) -> bool {
        self.missing > 0
    }

    /// The next turn makes room for others.
    pub(super) fn has_askers(&self) -> bool {
        !self.askers.is_empty()
    }

    fn may_ask(&self, now_ns: u64, interval_ns: u64) -> bool {
        !self.is_waiting() && now_ns >= self.since_ns + interval_ns
    }
}

impl Core {
    /// Removes keys if the process uses more memory than it may.
    #[inline]
    pub(super) fn make_room(&mut self) {
        if self.shard.memory.is_set() {
            self.make_room_now();
        }
        if !self.asking.askers.is_empty() {
            self.answer_askers();
        }
    }

    /// What the turn before has sent is freed, if it has left. Clients that have been ended may still wait for their last
    /// completion.
    #[inline]
    pub fn sends_reaped(&mut self) {
        if self.shard.memory.is_set() {
            self.shard.memory.set_leaving(self.sessions.leaving_bytes());
        }
    }

    #[cold]
    fn make_room_now(&mut self) {
        if self.sessions.keeps_accounts() || self.shard.tracking.clients > 0 {
            self.spare_keys();
        }
        self.evicting = self.shard.make_room() == Room::Coming && self.shard.can_evict();
        self.tell_of_evicted();
        let (memory, now_ns) = (&self.shard.memory, self.shard.ctx.now.mono_ns);
        let excess = memory.excess();
        let others_should = excess > 0 && memory.parts.standing() == Standing::Warmer;
        let others_lag = memory.parts.others_can_evict() && (excess > memory.slack() || others_should);
        let someone_waits = self.shard.tracking.clients > 0;
        // What others have evicted makes the excess go before they have told of it.
        let is_due = others_lag || someone_waits && memory.parts.others_are_evicting();
        let interval_ns = if someone_waits { WAITED_INTERVAL_NS } else { ASK_INTERVAL_NS };
        if is_due && self.asking.may_ask(now_ns, interval_ns) {
            self.asking.number = self.asking.number.wrapping_add(1);
            self.asking.missing = self.server.shards - 1;
            self.asking.since_ns = now_ns;
            for shard in (0..self.server.shards).filter(|&shard| shard != self.id) {
                self.outgoing.push((shard, Message::MakeRoom(self.asking.number)));
            }
        }
    }

    /// Gives back what clients take, before any key goes for it.
    fn spare_keys(&mut self) {
        self.shard.memory.refresh();
        if self.shard.memory.excess() == 0 {
            return;
        }
        // The messages about keys that went before have left these behind.
        self.sessions.pool.clear();
        if self.sessions.keeps_accounts() {
            self.sessions.account_dirty();
            let leaving = self.sessions.leaving_bytes();
            self.evict_clients();
            self.shard.memory.add_leaving((self.sessions.leaving_bytes() - leaving) as i64);
        }
    }

    /// Another shard finds too much memory in use. The turn makes room.
    pub(super) fn asked_for_room(&mut self, from: ShardId, number: u32) {
        // Nothing is told any more behind the last save.
        if !self.stopped {
            // No key goes while the shard is locked.
            self.recall_lease(false);
            self.asking.askers.push((from, number));
        }
    }

    #[cold]
    fn answer_askers(&mut self) {
        let answers = self.asking.askers.drain(..).map(|(shard, number)| (shard, Message::RoomMade(number)));
        self.outgoing.extend(answers);
    }

    /// A shard has made what room it could at once.
    pub(super) fn room_made(&mut self, number: u32) {
        if number == self.asking.number && self.asking.is_waiting() {
            self.asking.missing -= 1;
            self.asking.since_ns = self.shard.ctx.now.mono_ns;
            self.resume_postponed();
        }
    }

    /// By the clock: nobody waits for long.
    pub(super) fn give_up_asking(&mut self) {
        if self.shard.ctx.now.mono_ns >= self.asking.since_ns + ANSWER_NS_MAX {
            self.asking.missing = 0;
        }
    }

    /// Keys may have been evicted: who watches them, waits for them or wants to hear of it learns so.
    pub(super) fn tell_of_evicted(&mut self) {
        let before = self.shard.used_and_freed();
        self.shard.after_commands();
        self.send_aftermath();
        self.shard.memory.add_leaving(self.shard.used_and_freed() - before);
    }
}
