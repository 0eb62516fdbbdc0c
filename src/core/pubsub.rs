//! Carries what is published: from the publisher over the home of the channel to the subscribers, and the number of
//! receivers back (`engine::pubsub` has the rules).
//!
//! A publication that leaves its shard is a barrier behind which its connection waits, but for further publications to
//! the same home: those keep their order there anyway.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Batch, Core, Fate};
use crate::base::ids::{CommandId, ConnKey, JobKey, ShardId};
use crate::command::error::Error;
use crate::command::events::{Class, Event};
use crate::command::spec::Spec;
use crate::config::value::PipelineOrder;
use crate::engine::mesh::Mesh;
use crate::engine::msg::{Message, StepOutcome};
use crate::engine::pubsub::publication::{Encoded, Notices, Publication, Publisher};
use crate::engine::pubsub::{Kind, Letter, Post};
use crate::resp::parse::{self, Parsed};
use crate::session::{Pause, Sessions};

/// What a subscriber that speaks RESP2 gets for any other command.
pub(super) fn not_while_subscribed(spec: &Spec) -> Error {
    Error::dynamic(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        spec.name
    ))
}

/// What PUBLISH and SPUBLISH do depends on no client: of a script or an EXEC, they do it though theirs has left.
pub(super) fn published_kind(spec: &Spec) -> Option<Kind> {
    match spec.name {
        "publish" => Some(Kind::Channel),
        "spublish" => Some(Kind::ShardChannel),
        _ => None,
    }
}

impl Core {
    /// PUBLISH and SPUBLISH: the channel is the first argument, the message the second.
    pub(super) fn publish_command(
        &mut self,
        conn: ConnKey,
        kind: Kind,
        spec: &'static Spec,
        id: CommandId,
        words: &[&[u8]],
    ) -> Fate {
        let (channel, message) = (words[1], words[2]);
        let stays_here = self.publishes_here(kind, channel);
        let home = self.slots.shard_of(channel);
        let session = self.sessions.at(conn);
        if session.pipeline.has_leased() {
            return Fate::NotYet(Pause::Barrier);
        }
        if !stays_here && !self.room {
            return Fate::NotYet(Pause::Mailbox);
        }
        if !stays_here && session.pipeline.is_full() {
            return Fate::NotYet(Pause::Barrier);
        }
        let discard = session.start_command(id);
        let is_listening = session.is_subscribed();
        // Its own message comes behind the reply.
        let sequence = (!stays_here || is_listening).then(|| session.pipeline.push_waiting(discard, home));
        let fate = match sequence {
            Some(sequence) if !stays_here => {
                self.publish_afar(Publisher::Client { conn, sequence }, kind, channel, message);
                Fate::Published(home)
            }
            Some(sequence) => {
                let receivers = self.publish_here(kind, channel, message);
                self.sessions.complete(conn, sequence, &receivers_reply(receivers));
                Fate::Taken
            }
            None => {
                let receivers = self.publish_here(kind, channel, message);
                if !discard {
                    self.sessions.reply_buffer(conn).extend_from_slice(&receivers_reply(receivers));
                }
                Fate::Taken
            }
        };
        let elapsed = self.shard.ran(id);
        if self.shard.ctx.timing.is_slow(elapsed) {
            self.was_slow(conn, spec, elapsed, words);
        }
        fate
    }

    /// Neither the channel's home nor any of its subscribers is on another shard.
    pub fn publishes_here(&self, kind: Kind, channel: &[u8]) -> bool {
        let is_here = |shard: &ShardId| *shard == self.id;
        self.server.shards == 1
            || is_here(&self.slots.shard_of(channel)) && self.shard.pubsub.targets(kind, channel).iter().all(is_here)
    }

    /// Publishes what concerns no other shard: how many times the message went out.
    pub fn publish_here(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> u32 {
        let Core { shard, sessions, encoded, .. } = self;
        let mut receivers = 0;
        let subscribers = shard.pubsub.subscribers(kind, channel);
        if !subscribers.is_empty() {
            encoded.write(kind, None, channel, message);
            receivers += push_to_each(sessions, subscribers, encoded);
        }
        if kind == Kind::Channel {
            for (pattern, subscribers) in shard.pubsub.matching(channel) {
                encoded.write(kind, Some(pattern), channel, message);
                receivers += push_to_each(sessions, subscribers, encoded);
            }
        }
        receivers
    }

    /// Publishes what other shards have a part in, once the caller settles. The publisher is told later how many times the
    /// message went out; when it is told, it has.
    pub fn publish_afar(&mut self, publisher: Publisher, kind: Kind, channel: &[u8], message: &[u8]) {
        let publication = Arc::new(Publication::new(kind, self.id, publisher, channel, message));
        let home = self.slots.shard_of(channel);
        if home == self.id {
            self.distribute(publication);
        } else {
            self.send_letter(home, Letter::Publish(publication));
        }
    }

    /// PUBLISH inside a job: the reply, unless it comes later as the outcome of the job's only step.
    pub(super) fn publish_in_job(
        &mut self,
        job: JobKey,
        kind: Kind,
        channel: &[u8],
        message: &[u8],
    ) -> Option<Vec<u8>> {
        if self.publishes_here(kind, channel) {
            return Some(receivers_reply(self.publish_here(kind, channel, message)).to_vec());
        }
        self.await_step(job);
        self.publish_afar(Publisher::Job(job), kind, channel, message);
        None
    }

    pub(super) fn pubsub_message(&mut self, from: ShardId, post: Post) {
        match post {
            Post::News(news) => self.shard.pubsub.hear(from, &news, &self.slots),
            Post::Letters(letters) => {
                for letter in *letters {
                    match letter {
                        Letter::Publish(publication) => self.distribute(publication),
                        Letter::Deliver(publication) => self.deliver(publication),
                        Letter::Delivered(publication) => self.delivered(&publication),
                    }
                }
            }
            Post::Notices(notices) => {
                for (channel, message) in notices.iter() {
                    self.publish_here(Kind::Channel, channel, message);
                }
            }
        }
    }

    /// Puts a letter with the others for that shard, unless something else was put behind them.
    fn send_letter(&mut self, to: ShardId, letter: Letter) {
        match self.outgoing.iter_mut().rev().find(|(shard, _)| *shard == to) {
            Some((_, Message::PubSub(Post::Letters(letters)))) => letters.push(letter),
            _ => self.outgoing.push((to, Message::PubSub(Post::Letters(Box::new(vec![letter]))))),
        }
    }

    /// At the home: sends a publication to all that listen. Its place in the channel's order is now.
    fn distribute(&mut self, publication: Arc<Publication>) {
        let targets = self.shard.pubsub.targets(publication.kind, publication.channel());
        if targets.is_empty() {
            return self.send_back(publication);
        }
        publication.expect(targets.len());
        let own = self.id;
        for &shard in targets.iter().filter(|shard| **shard != own) {
            self.send_letter(shard, Letter::Deliver(publication.clone()));
        }
        if targets.contains(&self.id) {
            self.deliver(publication);
        }
    }

    fn deliver(&mut self, publication: Arc<Publication>) {
        let receivers = self.publish_here(publication.kind, publication.channel(), publication.message());
        if publication.delivered(receivers) {
            self.send_back(publication);
        }
    }

    fn send_back(&mut self, publication: Arc<Publication>) {
        if publication.from == self.id {
            self.delivered(&publication);
        } else {
            self.send_letter(publication.from, Letter::Delivered(publication));
        }
    }

    /// At the publisher: all who listen have it.
    fn delivered(&mut self, publication: &Publication) {
        let receivers = publication.receivers();
        match publication.publisher {
            Publisher::Client { conn, sequence } => {
                self.sessions.complete(conn, sequence, &receivers_reply(receivers));
                self.resume_behind_barrier(conn);
            }
            Publisher::Job(job) => self.answer(self.id, job, 0, StepOutcome::Published(receivers), false),
        }
    }

    /// Whether the next command publishes to this home too, and may follow without waiting.
    pub(super) fn is_published_to<'t>(
        &self,
        home: ShardId,
        conn: ConnKey,
        bytes: &'t [u8],
        batch: &mut Batch<'t>,
    ) -> bool {
        if self.shard.ctx.config.pipeline_order == PipelineOrder::Strict {
            return false;
        }
        let first = batch.words.len();
        let parsed = parse::parse(bytes, self.limits_of(conn), &mut batch.words);
        let found = match (parsed, &batch.words[first..]) {
            (Ok(Parsed::Command(_)), [name, channel, _]) if self.slots.shard_of(channel) == home => {
                self.registry.find(name)
            }
            _ => None,
        };
        batch.words.truncate(first);
        found.is_some_and(|command| matches!(command.spec.name, "publish" | "spublish"))
    }

    /// Tells those who listen what happened to keys of this shard, behind the replies that are on their way.
    #[inline]
    pub(super) fn send_events(&mut self) {
        if !self.shard.ctx.events.is_empty() {
            self.send_noted_events();
        }
    }

    #[cold]
    fn send_noted_events(&mut self) {
        let mut events = std::mem::take(&mut self.shard.ctx.events);
        if self.shard.pubsub.hears_events() {
            let shown = self.shard.ctx.config.notify_keyspace_events;
            let mut channel = Vec::new();
            let mut notices: Vec<(ShardId, Box<Notices>)> = Vec::new();
            for Event { db, name, key } in events.iter() {
                if shown.intersects(Class::KEYSPACE) {
                    channel_of("keyspace", db, key, &mut channel);
                    self.send_notice(&channel, name.as_bytes(), &mut notices);
                }
                if shown.intersects(Class::KEYEVENT) {
                    channel_of("keyevent", db, name.as_bytes(), &mut channel);
                    self.send_notice(&channel, key, &mut notices);
                }
            }
            for (shard, notices) in notices {
                self.tell(shard, Message::PubSub(Post::Notices(notices)));
            }
        }
        events.clear();
        self.shard.ctx.events = events;
    }

    fn send_notice(&mut self, channel: &[u8], message: &[u8], notices: &mut Vec<(ShardId, Box<Notices>)>) {
        for shard in self.shard.pubsub.targets(Kind::Channel, channel) {
            if shard == self.id && self.own_messages.is_empty() {
                self.publish_here(Kind::Channel, channel, message);
                continue;
            }
            match notices.iter_mut().find(|(to, _)| *to == shard) {
                Some((_, notices)) => notices.push(channel, message),
                None => {
                    let mut first = Box::<Notices>::default();
                    first.push(channel, message);
                    notices.push((shard, first));
                }
            }
        }
    }

    /// Tells homes of first and last subscribers.
    pub(super) fn spread_news<M: Mesh>(&mut self, mesh: &mut M) {
        if self.shard.pubsub.has_news() {
            self.collect_news();
            self.settle(mesh);
        }
    }

    /// Puts the news with what leaves next.
    pub(super) fn collect_news(&mut self) {
        let news = self.shard.pubsub.take_news().into_iter();
        self.outgoing.extend(news.map(|(shard, news)| (shard, Message::PubSub(Post::News(Box::new(news))))));
    }

    /// The connection is gone.
    pub(super) fn unsubscribe_all(&mut self, conn: ConnKey) {
        if self.sessions.get(conn).is_some_and(|session| session.is_subscribed()) {
            self.shard.pubsub.disconnect(conn, &self.slots);
            self.collect_news();
        }
    }

    /// What waited for the end of a job goes behind its reply.
    pub(super) fn release_pushes(&mut self, conn: ConnKey) {
        if let Some(held) = self.sessions.at(conn).held_pushes.take() {
            self.sessions.reply_buffer(conn).extend_from_slice(&held);
        }
    }
}

/// `__keyspace@0__:key` or `__keyevent@0__:event`
fn channel_of(prefix: &str, db: usize, rest: &[u8], channel: &mut Vec<u8>) {
    channel.clear();
    channel.extend_from_slice(b"__");
    channel.extend_from_slice(prefix.as_bytes());
    channel.push(b'@');
    channel.extend_from_slice(itoa::Buffer::new().format(db).as_bytes());
    channel.extend_from_slice(b"__:");
    channel.extend_from_slice(rest);
}

/// The number of receivers as a reply.
pub(super) fn receivers_reply(receivers: u32) -> SmallVec<[u8; 16]> {
    let mut reply = SmallVec::new();
    reply.push(b':');
    reply.extend_from_slice(itoa::Buffer::new().format(receivers).as_bytes());
    reply.extend_from_slice(b"\r\n");
    reply
}

fn push_to_each(sessions: &mut Sessions, subscribers: &[ConnKey], encoded: &Encoded) -> u32 {
    let mut receivers = 0;
    for &conn in subscribers {
        if let Some((output, protocol)) = sessions.push_buffer(conn) {
            encoded.append_to(output, protocol);
            receivers += 1;
        }
    }
    receivers
}
