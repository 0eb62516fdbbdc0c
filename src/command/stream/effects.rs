//! What reading and claiming by a group did, as the commands that do it again: XCLAIM with everything given, XGROUP SETID,
//! XGROUP CREATECONSUMER. One command on a group may have many of them; they are gathered while the stream is being
//! changed, and recorded afterwards.

use crate::command::ctx::ShardCtx;
use crate::command::events::Class;
use crate::data::stream::{Group, Pending, StreamId};

/// Effects of one command on one group.
pub struct Effects<'a> {
    key: &'a [u8],
    group: &'a [u8],
    is_recording: bool,
    list: Vec<Vec<Vec<u8>>>,
    created_consumer: bool,
    /// Changes as Redis counts them, which is not by effect.
    pub dirty: u64,
}

impl<'a> Effects<'a> {
    pub fn new(ctx: &ShardCtx, key: &'a [u8], group: &'a [u8]) -> Effects<'a> {
        Effects {
            key,
            group,
            is_recording: ctx.journal.is_recording(),
            list: Vec::new(),
            created_consumer: false,
            dirty: 0,
        }
    }

    /// A consumer was made; counts.
    pub fn consumer_created(&mut self, name: &[u8]) {
        self.dirty += 1;
        self.created_consumer = true;
        self.push(|key, group| vec![b"XGROUP", b"CREATECONSUMER", key, group, name]);
    }

    /// This is what is pending now; or was, if the entry itself is gone: then claiming it ends that, too.
    pub fn pending(&mut self, group: &Group, id: StreamId, pending: &Pending) {
        if !self.is_recording {
            return;
        }
        let (id, last_id) = (id.to_string(), group.last_id.to_string());
        let (time, count) = (pending.delivered_at_ms.to_string(), pending.deliveries.to_string());
        let consumer = group.consumer(pending.consumer).name();
        self.push(|key, group| {
            let texts = [&b"XCLAIM"[..], key, group, consumer, b"0", id.as_bytes(), b"TIME", time.as_bytes()];
            let more = [&b"RETRYCOUNT"[..], count.as_bytes(), b"FORCE", b"JUSTID", b"LASTID", last_id.as_bytes()];
            texts.into_iter().chain(more).collect()
        });
    }

    /// How far the group has come.
    pub fn position(&mut self, group: &Group) {
        if !self.is_recording {
            return;
        }
        let (last_id, entries_read) = (group.last_id.to_string(), group.entries_read.to_string());
        self.push(|key, group| {
            let texts = [&b"XGROUP"[..], b"SETID", key, group, last_id.as_bytes()];
            texts.into_iter().chain([&b"ENTRIESREAD"[..], entries_read.as_bytes()]).collect()
        });
    }

    fn push<'b>(&mut self, words: impl FnOnce(&'b [u8], &'b [u8]) -> Vec<&'b [u8]>)
    where
        'a: 'b,
    {
        if self.is_recording {
            self.list.push(words(self.key, self.group).into_iter().map(<[u8]>::to_vec).collect());
        }
    }

    pub fn record(self, ctx: &mut ShardCtx) {
        for words in &self.list {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            ctx.journal.uncounted(ctx.db, &words);
        }
        ctx.journal.dirty += self.dirty;
        if self.created_consumer {
            ctx.notify(Class::STREAM, "xgroup-createconsumer", self.key);
        }
    }
}
