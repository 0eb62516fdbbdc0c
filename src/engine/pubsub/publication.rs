//! What is published, on its way from the publisher over the channel's home to the subscribers and back, and how
//! subscribers see it.
//!
//! All shards that deliver a message hold the same [`Publication`]: each adds its receivers to the count, and the last
//! one sends it back to the publisher. A message is encoded once a shard; RESP2 and RESP3 differ in the first byte only.

use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::Kind;
use crate::base::ids::{ConnKey, JobKey, Sequence, ShardId};
use crate::resp::reply::{Protocol, Reply};

/// Who waits for the number of receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// A command of a connection.
    Client { conn: ConnKey, sequence: Sequence },
    /// A job of which it is a part.
    Job(JobKey),
}

/// A channel and a message that are no longer than this together take no further allocation.
const INLINE_BYTES: usize = 96;

#[derive(Debug)]
pub struct Publication {
    /// Channel or shard channel.
    pub kind: Kind,
    pub from: ShardId,
    pub publisher: Publisher,
    /// The channel, then the message.
    bytes: SmallVec<[u8; INLINE_BYTES]>,
    channel_bytes: usize,
    /// Shards that have not delivered it yet.
    missing: AtomicU32,
    receivers: AtomicU32,
}

impl Publication {
    pub fn new(kind: Kind, from: ShardId, publisher: Publisher, channel: &[u8], message: &[u8]) -> Publication {
        debug_assert!(kind != Kind::Pattern, "nothing is published to a pattern");
        let mut bytes = SmallVec::with_capacity(channel.len() + message.len());
        bytes.extend_from_slice(channel);
        bytes.extend_from_slice(message);
        Publication {
            kind,
            from,
            publisher,
            bytes,
            channel_bytes: channel.len(),
            missing: AtomicU32::new(0),
            receivers: AtomicU32::new(0),
        }
    }

    pub fn channel(&self) -> &[u8] {
        &self.bytes[..self.channel_bytes]
    }

    pub fn message(&self) -> &[u8] {
        &self.bytes[self.channel_bytes..]
    }

    /// So many shards are going to deliver it. Before any of them hears of it.
    pub fn expect(&self, shards: usize) {
        self.missing.store(shards as u32, Ordering::Relaxed);
    }

    /// A shard has put it into the outputs of so many clients. True: it was the last.
    pub fn delivered(&self, receivers: u32) -> bool {
        self.receivers.fetch_add(receivers, Ordering::Relaxed);
        // Releases this shard's count, and acquires those of all before.
        self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// How many clients have it. Final when it has come back.
    pub fn receivers(&self) -> u32 {
        self.receivers.load(Ordering::Relaxed)
    }
}

/// Messages that one shard has for the subscribers of another, on channels whose messages pass through no home.
#[derive(Debug, Default)]
pub struct Notices {
    bytes: Vec<u8>,
    /// Lengths of channels and messages.
    lengths: Vec<(u32, u32)>,
}

impl Notices {
    pub fn push(&mut self, channel: &[u8], message: &[u8]) {
        self.lengths.push((channel.len() as u32, message.len() as u32));
        self.bytes.extend_from_slice(channel);
        self.bytes.extend_from_slice(message);
    }

    /// Channels and messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |&(channel_bytes, message_bytes)| {
            let (channel, behind) = rest.split_at(channel_bytes as usize);
            let (message, behind) = behind.split_at(message_bytes as usize);
            rest = behind;
            (channel, message)
        })
    }
}

/// A message as the subscribers of a name get it, but for the first byte.
#[derive(Debug, Default)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// For those who subscribed to the channel, or by a pattern.
    pub fn write(&mut self, kind: Kind, pattern: Option<&[u8]>, channel: &[u8], message: &[u8]) {
        self.0.clear();
        let mut writer = Reply::new(&mut self.0, Protocol::Resp3);
        match (pattern, kind) {
            (Some(pattern), _) => {
                writer.push(4);
                writer.bulk(b"pmessage");
                writer.bulk(pattern);
            }
            (None, Kind::ShardChannel) => {
                writer.push(3);
                writer.bulk(b"smessage");
            }
            (None, _) => {
                writer.push(3);
                writer.bulk(b"message");
            }
        }
        writer.bulk(channel);
        writer.bulk(message);
    }

    #[inline]
    pub fn append_to(&self, output: &mut Vec<u8>, protocol: Protocol) {
        let from = output.len();
        output.extend_from_slice(&self.0);
        if protocol == Protocol::Resp2 {
            output[from] = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHER: Publisher = Publisher::Job(JobKey { index: 0, generation: 0 });

    #[test]
    fn the_last_shard_knows_the_count() {
        let publication = Publication::new(Kind::Channel, 0, PUBLISHER, b"news", b"hi");
        assert_eq!((publication.channel(), publication.message()), (&b"news"[..], &b"hi"[..]));
        publication.expect(3);
        assert_eq!([2, 0, 5].map(|receivers| publication.delivered(receivers)), [false, false, true]);
        assert_eq!(publication.receivers(), 7);
    }

    #[test]
    fn notices_come_out_as_they_went_in() {
        let mut notices = Notices::default();
        let pairs: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"", b""), (b"channel", b"message")];
        pairs.iter().for_each(|(channel, message)| notices.push(channel, message));
        assert_eq!(notices.iter().collect::<Vec<_>>(), pairs);
    }

    fn encoded(kind: Kind, pattern: Option<&[u8]>, protocol: Protocol) -> String {
        let (mut encoded, mut output) = (Encoded::default(), b"+OK\r\n".to_vec());
        encoded.write(kind, pattern, b"c", b"hi");
        encoded.append_to(&mut output, protocol);
        String::from_utf8(output).expect("text").split_off(5)
    }

    #[test]
    fn subscribers_see_how_they_subscribed_in_their_protocol() {
        use Protocol::{Resp2, Resp3};
        let message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        assert_eq!(encoded(Kind::Channel, None, Resp2), message);
        assert_eq!(encoded(Kind::Channel, None, Resp3), message.replace('*', ">"));
        let shard_message = ">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        assert_eq!(encoded(Kind::ShardChannel, None, Resp3), shard_message);
        let by_pattern = "*4\r\n$8\r\npmessage\r\n$2\r\n?*\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        assert_eq!(encoded(Kind::Channel, Some(b"?*"), Resp2), by_pattern);
    }
}
