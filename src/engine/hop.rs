//! A transaction in one hop: a command that works key by key (MSET, MGET, DEL), or an EXEC each of whose commands lies on
//! one shard, as parts that need nothing from each other.
//!
//! Its parts leave together, with one stamp, and every shard runs what it is sent in the order of stamps: so all of them
//! have the same place in the order of everything, without a lock. A part that finds keys locked waits for them where it
//! is, and what comes later waits behind it. Nothing can refuse on the way: who might, is asked before.
//!
//! This module makes one reply of those of the parts.

use crate::base::ids::ShardId;
use crate::command::spec::Merge;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::skip;

/// The place of a transaction among those of its coordinator that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopKey(pub u32);

#[derive(Debug, Default)]
pub struct Hop {
    merging: Merging,
    /// By key of the command, or command of the EXEC: the shard that answers for it.
    places: Vec<u16>,
    /// By place, where in `replies` its reply stands.
    ranges: Vec<(usize, usize)>,
    replies: Vec<u8>,
    sum: i64,
    missing: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Merging {
    #[default]
    AllOk,
    Sum,
    /// Each part answers with an array of what it has.
    InKeyOrder,
    /// Each part has a reply for each of its commands.
    InCommandOrder,
}

impl Hop {
    /// For a command whose replies merge so, if they can.
    pub fn begin_command(&mut self, merge: Merge) -> bool {
        let merging = match merge {
            Merge::AllOk => Merging::AllOk,
            Merge::SumInteger => Merging::Sum,
            Merge::ArrayInKeyOrder => Merging::InKeyOrder,
            Merge::ArrayConcatenated | Merge::OneByWeight => return false,
        };
        self.begin(merging);
        true
    }

    pub fn begin_exec(&mut self) {
        self.begin(Merging::InCommandOrder);
    }

    fn begin(&mut self, merging: Merging) {
        self.merging = merging;
        self.places.clear();
        self.ranges.clear();
        self.replies.clear();
        (self.sum, self.missing) = (0, 0);
    }

    /// The next key or command is answered by this shard, in a part of its own if it is the shard's first.
    pub fn place(&mut self, shard: ShardId, is_first: bool) {
        if matches!(self.merging, Merging::InKeyOrder | Merging::InCommandOrder) {
            self.places.push(shard as u16);
        }
        self.missing += u32::from(is_first);
    }

    /// The replies of a part: of one command, or of all that the shard had of an EXEC. Whether it was the last.
    pub fn take<'r>(&mut self, shard: ShardId, mut replies: impl Iterator<Item = &'r [u8]>) -> bool {
        match self.merging {
            Merging::InCommandOrder => self.keep(shard, replies),
            Merging::AllOk | Merging::Sum | Merging::InKeyOrder => {
                let reply = replies.next().expect("a part of a command has a reply");
                match (self.merging, skip::elements(reply)) {
                    (Merging::InKeyOrder, Some(elements)) => self.keep(shard, elements),
                    _ => self.sum += skip::integer(reply).unwrap_or(0),
                }
            }
        }
        self.missing -= 1;
        self.missing == 0
    }

    fn keep<'r>(&mut self, shard: ShardId, replies: impl Iterator<Item = &'r [u8]>) {
        self.ranges.resize(self.places.len(), (0, 0));
        let places = self.places.iter().zip(&mut self.ranges).filter(|(place, _)| **place == shard as u16);
        for ((_, range), reply) in places.zip(replies) {
            let from = self.replies.len();
            self.replies.extend_from_slice(reply);
            *range = (from, self.replies.len());
        }
    }

    /// The reply to the client.
    pub fn write(&self, protocol: Protocol, output: &mut Vec<u8>) {
        let mut reply = Reply::new(output, protocol);
        match self.merging {
            Merging::AllOk => reply.ok(),
            Merging::Sum => reply.integer(self.sum),
            Merging::InKeyOrder | Merging::InCommandOrder => {
                reply.array(self.places.len());
                self.ranges.iter().for_each(|&(from, to)| reply.raw(&self.replies[from..to]));
            }
        }
    }

    /// Gives up buffers that grew large, before it is used again.
    pub fn trim(&mut self) {
        self.replies.clear();
        self.replies.shrink_to(16 * 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(hop: &Hop) -> String {
        let mut output = Vec::new();
        hop.write(Protocol::Resp2, &mut output);
        String::from_utf8(output).expect("text")
    }

    fn place(hop: &mut Hop, places: &[(ShardId, bool)]) {
        places.iter().for_each(|&(shard, is_first)| hop.place(shard, is_first));
    }

    #[test]
    fn a_command_is_answered_when_all_its_parts_are() {
        let mut hop = Hop::default();
        assert!(hop.begin_command(Merge::SumInteger));
        place(&mut hop, &[(2, true), (0, true), (2, false)]);
        assert!(!hop.take(0, [&b":1\r\n"[..]].into_iter()));
        assert!(hop.take(2, [&b":2\r\n"[..]].into_iter()));
        assert_eq!(written(&hop), ":3\r\n");
        assert!(!hop.begin_command(Merge::OneByWeight));
    }

    #[test]
    fn values_stand_in_the_order_of_keys() {
        let mut hop = Hop::default();
        hop.begin_command(Merge::ArrayInKeyOrder);
        place(&mut hop, &[(1, true), (0, true), (1, false)]);
        assert!(!hop.take(1, [&b"*2\r\n$1\r\na\r\n$-1\r\n"[..]].into_iter()));
        assert!(hop.take(0, [&b"*1\r\n$1\r\nb\r\n"[..]].into_iter()));
        assert_eq!(written(&hop), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
    }

    #[test]
    fn an_exec_is_answered_in_the_order_of_its_commands() {
        let mut hop = Hop::default();
        hop.begin_exec();
        place(&mut hop, &[(1, true), (0, true), (1, false)]);
        assert!(!hop.take(0, [&b"-ERR no\r\n"[..]].into_iter()));
        assert!(hop.take(1, [&b"+OK\r\n"[..], b":1\r\n"].into_iter()));
        assert_eq!(written(&hop), "*3\r\n+OK\r\n-ERR no\r\n:1\r\n");
        hop.begin_command(Merge::AllOk);
        hop.place(0, true);
        assert!(hop.take(0, [&b"+OK\r\n"[..]].into_iter()));
        assert_eq!(written(&hop), "+OK\r\n");
    }
}
