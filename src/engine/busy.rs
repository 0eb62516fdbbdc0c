//! A script that runs for longer than `busy-reply-threshold` on a shard of its own keys, or waits there for what it calls
//! elsewhere.
//!
//! It pauses at every look at the time, and goes on in the shard's next turn, so that clients are told that the server is
//! busy, and can have the script ended. In between nothing happens to the shard's data: its locks are seized, so that
//! commands and new steps wait there; steps of jobs that hold locks already wait here; nothing expires, nothing is evicted.
//! When it ends, its command goes on as if it had never paused.

use std::any::Any;
use std::collections::VecDeque;

use bytes::Bytes;

use super::msg::{ExecCommand, RunBatch, RunItem, StepOutcome, StepRequest};
use super::script;
use super::shard::Shard;
use crate::base::ids::{CommandId, ConnKey, ShardId};
use crate::command::KeyRow;
use crate::resp::reply::{Protocol, Reply};

/// The script that the shard is busy with, and what waits for its end.
pub struct Busy {
    script: Option<Box<dyn Any + Send>>,
    of: Of,
    /// When its command began, by the shard's clock.
    started: u64,
    /// Steps of jobs that hold locks, in the order in which they came.
    held_back: Vec<(ShardId, StepRequest)>,
}

/// What the script is a part of.
enum Of {
    /// A command of a connection of this shard's; alone in its batch.
    Command(ShardId, Box<RunBatch>),
    Exec(Box<OfExec>),
}

/// An EXEC that is in the middle.
struct OfExec {
    command: ExecCommand,
    left: VecDeque<ExecCommand>,
    replies: Vec<Vec<u8>>,
    protocol: Protocol,
    /// Its step, once that is known.
    request: Option<(ShardId, StepRequest)>,
}

/// What a script that has ended leads to.
pub enum Ended {
    /// The batch is answered.
    Command(ShardId, Box<RunBatch>),
    Exec(ShardId, Box<(StepRequest, StepOutcome)>),
}

impl Shard {
    /// A script pauses in the middle of its work.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The client whose script pauses, and its shard.
    pub fn client_of_script(&self) -> (ShardId, ConnKey) {
        let nobody = (self.ctx.shard, ConnKey::NOBODY);
        match self.busy.as_deref().map(|busy| &busy.of) {
            Some(Of::Command(from, batch)) => (*from, batch.items[0].session),
            Some(Of::Exec(exec)) => exec.request.as_ref().map_or(nobody, |(from, request)| (*from, request.conn)),
            None => nobody,
        }
    }

    /// A command has run: has it paused?
    #[inline]
    pub fn has_suspended(&self) -> bool {
        self.ctx.suspended.is_some()
    }

    /// The command that has just run, of a connection of that shard's, goes on in later turns.
    #[cold]
    pub fn suspend_command(&mut self, from: ShardId, item: RunItem, words: &[&[u8]], shared: &[(usize, Bytes)]) {
        let mut batch = Box::<RunBatch>::default();
        batch.push(item, words, shared);
        self.suspend(Of::Command(from, batch));
    }

    /// Runs the commands of an EXEC. `None`: one of them goes on in later turns, and then the others follow.
    pub(super) fn run_exec(
        &mut self,
        mut left: VecDeque<ExecCommand>,
        mut replies: Vec<Vec<u8>>,
        protocol: Protocol,
    ) -> Option<StepOutcome> {
        while let Some(command) = left.pop_front() {
            let reply = self.run_queued(&command, protocol);
            if self.has_suspended() {
                self.suspend(Of::Exec(Box::new(OfExec { command, left, replies, protocol, request: None })));
                return None;
            }
            replies.push(reply);
        }
        Some(StepOutcome::Replies(replies))
    }

    fn suspend(&mut self, of: Of) {
        assert!(self.busy.is_none(), "while a script pauses, no other runs");
        let script = self.ctx.suspended.take();
        self.locks.seize();
        self.ctx.journal.hold(true);
        self.busy = Some(Box::new(Busy { script, of, started: self.ended, held_back: Vec::new() }));
    }

    /// The step that has just run belongs to this job.
    pub fn suspend_step(&mut self, from: ShardId, request: StepRequest) {
        match self.busy.as_deref_mut() {
            Some(Busy { of: Of::Exec(exec), .. }) => exec.request = Some((from, request)),
            _ => unreachable!("only an EXEC has a script that pauses"),
        }
        self.caller = None;
    }

    /// A step that came while a script pauses.
    pub fn hold_back(&mut self, from: ShardId, request: StepRequest) {
        self.busy.as_mut().expect("the caller has looked").held_back.push((from, request));
    }

    /// Lets the script run up to its next pause. When it has ended: what that leads to, and the steps that waited.
    pub fn go_on(&mut self) -> Option<(Ended, Vec<(ShardId, StepRequest)>)> {
        let mut busy = self.busy.take()?;
        let script = busy.script.take().expect("it pauses");
        let protocol = match &mut busy.of {
            Of::Command(_, batch) => batch.items[0].protocol,
            Of::Exec(exec) => exec.protocol,
        };
        self.caller = match &busy.of {
            Of::Command(..) => None,
            Of::Exec(exec) => exec.request.as_ref().map(|(from, request)| ((*from, request.conn), request.tracks)),
        };
        let mut bytes = Vec::new();
        busy.script = script::go_on(&mut self.ctx, script, &mut Reply::new(&mut bytes, protocol));
        if busy.script.is_some() {
            self.caller = None;
            self.busy = Some(busy);
            return None;
        }
        let Busy { of, started, held_back, .. } = *busy;
        let ended = match of {
            Of::Command(from, mut batch) => {
                self.end_command(from, &mut batch, &bytes, started);
                Ended::Command(from, batch)
            }
            Of::Exec(exec) => match self.end_queued(*exec, bytes, started) {
                Some(ended) => ended,
                None => {
                    // The next script of the same EXEC pauses.
                    self.busy.as_mut().expect("it pauses").held_back = held_back;
                    return None;
                }
            },
        };
        Some((ended, held_back))
    }

    fn end_command(&mut self, from: ShardId, batch: &mut RunBatch, reply: &[u8], started: u64) {
        let item = batch.items[0].clone();
        let words = batch.words();
        self.ended = started;
        self.count(item.row, item.id, &words);
        if item.tracks | self.tracking.is_on() {
            self.track((from, item.session), item.tracks, &item.row.spec, &words);
        }
        drop(words);
        batch.notes.extend(self.ctx.timing.take_notes().into_iter().map(|note| (0, note)));
        batch.replies.extend_from_slice(reply);
        batch.reply_ends.push(batch.replies.len());
    }

    /// `None`: another script of the EXEC pauses.
    fn end_queued(&mut self, exec: OfExec, reply: Vec<u8>, started: u64) -> Option<Ended> {
        let OfExec { command, left, mut replies, protocol, request } = exec;
        let (from, request) = request.expect("told when its step had run");
        let words: Vec<&[u8]> = command.words.iter().map(Vec::as_slice).collect();
        self.ended = started;
        self.count(command.row, command.id, &words);
        self.track_queued(command.row, &words);
        replies.push(reply);
        match self.run_exec(left, replies, protocol) {
            Some(outcome) => Some(Ended::Exec(from, Box::new((request, outcome)))),
            None => {
                self.suspend_step(from, request);
                None
            }
        }
    }

    /// Counts a command whose script has paused, and is over now.
    fn count(&mut self, row: &KeyRow, id: CommandId, words: &[&[u8]]) {
        let elapsed = self.ran(id);
        if self.ctx.timing.is_slow(elapsed) {
            self.was_slow(&row.spec, elapsed, words);
        }
    }
}
