//! What shards say to each other: a closed set, small to move, with all bulk behind a box.
//!
//! Every message travels in an [`Envelope`] with a stamp of CLOCK_MONOTONIC and the sender's publication number. The
//! receiver runs messages in the order of stamps, and only those that are published and stamped before it last read
//! the time (design, section 4, "Causal order"): `runtime::mesh` and the simulator hold to that.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Blocked, Waiter};
use super::hop::HopKey;
use super::lock::LockSet;
use super::pubsub::Post;
use super::tracking;
use super::watch::Watcher;
use crate::base::clock::Now;
use crate::base::ids::{CommandId, ConnKey, JobKey, Sequence, ShardId};
use crate::base::slowlog::Note;
use crate::command::KeyRow;
use crate::command::wait::Wait;
use crate::data::entry::Entry;
use crate::resp::reply::Protocol;

#[derive(Debug)]
pub struct Envelope {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub stamp: u64,
    /// Not to be looked at before the sender's counter of publications has come this far.
    pub publication: u64,
    pub message: Message,
}

#[derive(Debug)]
pub enum Message {
    /// Run these commands; their keys are yours.
    Run(Box<RunBatch>),
    /// The same batch, with its replies.
    Ran(Box<RunBatch>),
    /// One step of a job that spans shards.
    Step(Box<StepRequest>),
    StepDone(Box<StepReply>),
    /// A client of the sender's no longer watches any key.
    Unwatch(ConnKey),
    /// A client of the receiver's that waited has been answered.
    Served {
        conn: ConnKey,
        reply: Vec<u8>,
    },
    /// There may be something for a client of the receiver's, which the sender cannot get for it alone.
    Wake(ConnKey),
    /// A client of the sender's no longer waits.
    Unblock(ConnKey),
    /// Channels, their subscribers and their messages.
    PubSub(Post),
    /// Commands that clients of the sender's gave, as lines for the monitors of yours.
    Shown(Arc<[u8]>),
    /// Of commands of a transaction of this client's.
    Notes(ConnKey, Vec<Note>),
    /// What clients may have cached.
    Tracking(Box<tracking::Post>),
    /// The sender finds too much memory in use, and you have keys that could go: the answer, with this number, is
    /// `RoomMade`.
    MakeRoom(u32),
    RoomMade(u32),
    /// The lease of this job of yours is needed back; `waits`: something waits for it here.
    Recall {
        job: JobKey,
        waits: bool,
    },
    /// A script of a client of yours, which runs here under the lease of this job, calls a command without keys.
    ScriptCalls {
        job: JobKey,
        conn: ConnKey,
        words: Vec<Vec<u8>>,
        protocol: Protocol,
    },
    /// A new connection for you: you have fewer.
    Adopt(Box<Adopted>),
}

/// Commands of one turn for one other shard, of any number of connections. The box goes there and back, and is then
/// used again: in the steady state a remote command allocates nothing.
#[derive(Debug, Default)]
pub struct RunBatch {
    pub items: Vec<RunItem>,
    /// The arguments, one after the other, but for shared ones.
    pub bytes: Vec<u8>,
    /// Lengths of all arguments of all items, in order; a shared one's is `SHARED`.
    pub lengths: Vec<u32>,
    pub shared: Vec<Bytes>,
    /// The replies, one after the other.
    pub replies: Vec<u8>,
    /// Where each item's reply ends.
    pub reply_ends: Vec<usize>,
    /// Of commands, by index of their items.
    pub notes: Vec<(usize, Note)>,
}

/// In `RunBatch::lengths`: the argument is the next of `RunBatch::shared`.
pub const SHARED: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub struct RunItem {
    pub session: ConnKey,
    pub sequence: Sequence,
    pub row: &'static KeyRow,
    pub id: CommandId,
    pub db: u16,
    pub arguments: u32,
    pub protocol: Protocol,
    pub no_touch: bool,
    /// What it reads is tracked (CLIENT TRACKING).
    pub tracks: bool,
    /// It waits for a lock: its reply comes later, in a batch of its own.
    pub deferred: bool,
    /// Commands that its connection sent before it may not have run yet on other shards, or it is a part of what they run.
    pub is_linked: bool,
    /// It is a script that may touch any key: it needs the shard's lease.
    pub leased: bool,
    /// The transaction that it is a part of, in place of a sequence. The part of a command counts at the coordinator.
    pub hop: Option<HopKey>,
    /// A command of an EXEC.
    pub is_queued: bool,
    /// So many commands behind it are of the same part: nothing comes between them.
    pub followers: u32,
}

impl RunBatch {
    /// Adds a command; how many words it has is seen here.
    pub fn push(&mut self, item: RunItem, words: &[&[u8]], shared: &[(usize, Bytes)]) {
        self.items.push(RunItem { arguments: 0, ..item });
        self.extend_last(words, shared, 0);
    }

    /// Adds words to the last command. `shared` counts from before the first of them, by so many.
    pub fn extend_last(&mut self, words: &[&[u8]], shared: &[(usize, Bytes)], before: usize) {
        self.items.last_mut().expect("there is a command").arguments += words.len() as u32;
        for (index, word) in words.iter().enumerate() {
            if let Some((_, bytes)) = shared.iter().find(|(at, _)| *at == before + index) {
                self.lengths.push(SHARED);
                self.shared.push(bytes.clone());
            } else {
                self.lengths.push(word.len() as u32);
                self.bytes.extend_from_slice(word);
            }
        }
    }

    /// The words of the only item.
    pub fn words(&self) -> Vec<&[u8]> {
        debug_assert_eq!(self.items.len(), 1);
        let (mut at, mut shared) = (0, self.shared.iter());
        let word = |&length: &u32| match length {
            SHARED => &shared.next().expect("one for each such length")[..],
            length => {
                at += length as usize;
                &self.bytes[at - length as usize..at]
            }
        };
        self.lengths.iter().map(word).collect()
    }

    /// Empties it for the next use; buffers that grew large are given up.
    pub fn clear(&mut self) {
        self.items.clear();
        self.lengths.clear();
        self.shared.clear();
        self.reply_ends.clear();
        self.notes.clear();
        for buffer in [&mut self.bytes, &mut self.replies] {
            buffer.clear();
            buffer.shrink_to(64 * 1024);
        }
    }
}

#[derive(Debug)]
pub struct StepRequest {
    pub job: JobKey,
    /// Which of the job's steps: comes back with the reply.
    pub ordinal: u32,
    pub lock: Lock,
    pub step: Step,
    /// The job's hold on this shard ends with the step.
    pub releases: bool,
    /// The job waits for the outcome.
    pub answered: bool,
    /// Whose job it is, and whether what it reads is tracked.
    pub conn: ConnKey,
    pub tracks: bool,
    /// What it changes is logged as part of the transaction of this number at its coordinator; 0: of none.
    pub transaction: u64,
}

/// What a step needs before it runs.
#[derive(Debug)]
pub enum Lock {
    /// Nothing, or what the job holds already.
    Held,
    /// These locks, when it is their turn.
    Acquire(LockSet),
}

#[derive(Debug)]
pub struct StepReply {
    pub job: JobKey,
    pub ordinal: u32,
    pub outcome: StepOutcome,
    /// It has left a part in the shard's log.
    pub logged: bool,
}

/// What one shard does for a job.
#[derive(Debug)]
pub enum Step {
    /// Only locks are taken, or given back.
    Nothing,
    /// The same, of a lease (`engine::lease`): if others need them, it has to be told.
    Lease,
    /// Run a key command on keys of the shard (or on all of its keys).
    /// If it finds nothing and would wait, this client does.
    Run {
        row: &'static KeyRow,
        db: usize,
        words: Vec<Vec<u8>>,
        protocol: Protocol,
        waiter: Option<Waiter>,
        /// A script calls it, for which time stands still.
        script: Option<Now>,
    },
    /// Which of these keys exist?
    Probe { db: usize, keys: Vec<Vec<u8>> },
    /// A client waits for keys here.
    Block(Box<Blocked>),
    /// Copies of the entries of these keys.
    Fetch { keys: Vec<DbKey> },
    /// What these keys hold from now on: an entry, or nothing; and what is to be told of them.
    Store { changes: Vec<(DbKey, Option<Entry>)>, events: Vec<(DbKey, &'static str)> },
    /// Take note that the client watches these keys.
    Watch { watcher: Watcher, db: usize, keys: Vec<Vec<u8>> },
    /// Has any of the client's watched keys changed? Nothing is forgotten: another shard may say yes.
    Check { watcher: Watcher },
    /// Run these commands of an EXEC, one after the other; with a watcher, only if its keys have not changed.
    Exec { watcher: Option<Watcher>, commands: Vec<ExecCommand>, protocol: Protocol },
    /// Something of the shard's own, asked for by an admin command; only levels above look inside.
    Admin(Box<dyn Any + Send>),
}

/// A command on keys that EXEC runs.
#[derive(Clone, Debug)]
pub struct ExecCommand {
    pub row: &'static KeyRow,
    pub id: CommandId,
    pub db: usize,
    pub words: Vec<Vec<u8>>,
}

/// A key and its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DbKey {
    pub db: usize,
    pub key: Vec<u8>,
}

#[derive(Debug)]
pub enum StepOutcome {
    Reply(Vec<u8>),
    /// It found nothing and would wait; its reply if it may not, or has waited in vain.
    Waits {
        reply: Vec<u8>,
        wait: Wait,
    },
    /// In the order of the keys asked about.
    Present(Vec<bool>),
    /// In the order of the keys asked for, and the time at which they were there.
    Entries(Now, Vec<Option<Entry>>),
    Done,
    /// A watched key has changed; no command was run.
    Dirty,
    /// Of the commands of an EXEC.
    Replies(Vec<Vec<u8>>),
    /// A message has gone out to so many clients.
    Published(u32),
    Admin(Box<dyn Any + Send>),
}

/// A connection handed over.
#[derive(Debug)]
pub struct Adopted {
    pub socket: OwnedFd,
    pub listener: u32,
    pub from: ShardId,
}
