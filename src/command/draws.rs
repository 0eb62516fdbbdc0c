//! Elements that a command draws with repetition (a negative count): as many as it is asked for, each in the reply.
//!
//! As in Redis, that ends with what the client may be sent: where its output limits would end it for so long a reply, the
//! rest is not made. What there is of it ends with a byte that begins no reply: should the client's limit become another one
//! at this very moment, no reader takes what follows for an element. Without a limit the number is bounded instead.

use std::ops::ControlFlow;

use super::ctx::ShardCtx;
use super::error::{Error, Result};
use crate::base::limits::RANDOM_MEMBERS_MAX;
use crate::config::value::OutputLimits;
use crate::resp::reply::{Protocol, Reply};

pub const TOO_MANY: Error = Error::Text("ERR value is out of range");

pub struct Draws {
    count: u64,
    /// Where the reply need not go on.
    position_max: Option<usize>,
}

/// A reply of more bytes ends its client. Of those that speak RESP3 it may be a subscribed one.
fn reply_bytes_max(limits: &OutputLimits, protocol: Protocol) -> Option<usize> {
    let (normal, pubsub) = (limits.normal.hard_bytes, limits.pubsub.hard_bytes);
    let hard = match protocol {
        Protocol::Resp2 => normal,
        Protocol::Resp3 if pubsub == 0 => 0,
        Protocol::Resp3 => normal.max(pubsub),
    };
    (normal > 0 && hard > 0).then(|| usize::try_from(hard).unwrap_or(usize::MAX))
}

impl Draws {
    /// Of a command that has written nothing yet; `None` if its count asks for distinct elements.
    pub fn of(count: i64, ctx: &ShardCtx, reply: &Reply) -> Option<Result<Draws>> {
        (count < 0).then(|| Draws::new(count.unsigned_abs(), ctx, reply))
    }

    fn new(count: u64, ctx: &ShardCtx, reply: &Reply) -> Result<Draws> {
        // A script has no output.
        let limits = &ctx.config.client_output_buffer_limit;
        let bytes_max = reply_bytes_max(limits, reply.protocol()).filter(|_| !ctx.in_script);
        if bytes_max.is_none() && count > RANDOM_MEMBERS_MAX {
            return Err(TOO_MANY);
        }
        Ok(Draws { count, position_max: bytes_max.map(|bytes| bytes.saturating_add(reply.position())) })
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// An element is written: whether the next one is wanted.
    pub fn go_on(&self, reply: &mut Reply) -> ControlFlow<()> {
        if self.position_max.is_some_and(|max| reply.position() > max) {
            reply.raw(b"\0");
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::testing::TestShard;
    use crate::command::{hash, set, zset};
    use crate::config::value::OutputLimit;

    const KIB: u64 = 1024;

    fn shard(normal: u64, pubsub: u64) -> TestShard {
        let mut shard = TestShard::new(&[hash::ROWS, set::ROWS, zset::ROWS]);
        shard.run("HSET h f v | SADD s m | SADD n 1 | ZADD z 1 m");
        let limit = |hard_bytes| OutputLimit { hard_bytes, soft_bytes: 0, soft_seconds: 0 };
        let limits = &mut Arc::make_mut(&mut shard.ctx.config).client_output_buffer_limit;
        (limits.normal, limits.pubsub) = (limit(normal), limit(pubsub));
        shard
    }

    const HUGE: [&str; 6] = [
        "HRANDFIELD h -999999999",
        "HRANDFIELD h -999999999 WITHVALUES",
        "SRANDMEMBER s -999999999",
        "SRANDMEMBER n -999999999",
        "ZRANDMEMBER z -999999999",
        "ZRANDMEMBER z -999999999 WITHSCORES",
    ];

    fn reply(shard: &mut TestShard, script: &str) -> Vec<u8> {
        let words: Vec<Vec<u8>> = script.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        shard.command(&words)
    }

    #[test]
    fn more_than_the_client_may_be_sent_is_not_drawn() {
        for pubsub in [0, KIB, 128 * KIB] {
            let mut shard = shard(64 * KIB, pubsub);
            for script in HUGE {
                let reply = reply(&mut shard, script);
                let bytes = reply.len() as u64;
                assert!(bytes > 64 * KIB && bytes < 65 * KIB && reply.ends_with(b"\r\n\0"), "{script}: {bytes}");
            }
            assert_eq!(shard.run("HRANDFIELD h -2 | SRANDMEMBER s -2"), "[f f] | [m m]");
        }
    }

    #[test]
    fn the_limit_is_that_of_the_clients_class() {
        let max = |normal, pubsub, protocol| {
            let limits = shard(normal, pubsub).ctx.config.client_output_buffer_limit;
            reply_bytes_max(&limits, protocol)
        };
        use Protocol::{Resp2, Resp3};
        assert_eq!([max(5, 0, Resp2), max(5, 9, Resp2), max(0, 9, Resp2)], [Some(5), Some(5), None]);
        assert_eq!([max(5, 0, Resp3), max(0, 9, Resp3)], [None, None]);
        assert_eq!([max(5, 9, Resp3), max(9, 5, Resp3)], [Some(9), Some(9)]);
    }

    #[test]
    fn where_nothing_ends_the_client_the_number_is_bounded() {
        let mut shard = shard(0, KIB);
        let mut script = shard_of_a_script();
        for huge in HUGE {
            assert_eq!(reply(&mut shard, huge), b"-ERR value is out of range\r\n", "{huge}");
            assert_eq!(reply(&mut script, huge), b"-ERR value is out of range\r\n", "{huge}");
        }
    }

    fn shard_of_a_script() -> TestShard {
        let mut shard = shard(KIB, KIB);
        shard.ctx.in_script = true;
        shard
    }
}
