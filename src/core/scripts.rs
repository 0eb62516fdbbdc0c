//! Scripts that pause: as they run for too long, or wait for a command that only the core can run.

use super::Core;
use super::pubsub::{published_kind, receivers_reply};
use crate::admin::ctx::{Everywhere, Outcome, Then};
use crate::base::ids::ConnKey;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::dispatch::registry::Run;
use crate::engine::busy::Ended;
use crate::engine::mesh::Mesh;
use crate::engine::msg::Message;
use crate::engine::script::NOT_FROM_SCRIPT;
use crate::resp::reply::Reply;
use crate::script::shard::AskedCommand;

/// To a command that is about its client, of a script or an EXEC whose client has left meanwhile.
pub(super) const CLIENT_HAS_LEFT: &[u8] = b"-ERR The client of this command has left\r\n";

impl Core {
    /// Lets scripts that have run for too long go on, each up to its next pause. Once a turn.
    pub(super) fn go_on_with_scripts<M: Mesh>(&mut self, mesh: &mut M) {
        if self.paused_scripts.is_empty() && !self.shard.is_busy() {
            return;
        }
        for job in std::mem::take(&mut self.paused_scripts) {
            self.round_done(job);
        }
        self.go_on_with_script();
        self.settle(mesh);
    }

    /// The same of the script that this shard runs in one go.
    pub(super) fn go_on_with_script(&mut self) {
        if self.shard.lease.is_calling() {
            return;
        }
        if let Some(asked) = self.shard.ctx.scripts.asked.take() {
            if self.server.shards > 1 {
                return self.call_for_script(asked);
            }
            self.shard.ctx.scripts.answer = self.run_for_script(asked);
        }
        let Some((ended, held_back)) = self.shard.go_on() else { return };
        let mut ready = Vec::new();
        self.shard.locks.free(&mut ready);
        self.granted.extend(ready);
        match ended {
            Ended::Command(from, batch) => {
                self.log_leased();
                self.shard.after_commands();
                self.tell(from, Message::Ran(batch));
                self.send_aftermath();
            }
            Ended::Exec(from, step) => {
                let part = self.paused_part.take();
                self.end_request(from, step.0, step.1, part);
            }
        }
        // The next of them may hold back the rest.
        for (from, request) in held_back {
            self.take_step(from, request);
        }
    }

    /// A script pauses: if it has run for too long, clients are told so from now on.
    pub(super) fn became_busy(&mut self) {
        self.refresh_observing();
    }

    /// A command without keys that a script of the only shard calls: its reply. (Where there are several, such a script is
    /// a job.)
    fn run_for_script(&mut self, asked: AskedCommand) -> Vec<u8> {
        let AskedCommand { words, protocol, .. } = asked;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let command = self.registry.find(words[0]).expect("the script has found it");
        let Run::Admin(run) = command.run else { unreachable!("it has no keys") };
        let id = self.registry.called(command, &words).map_or(command.id, |(_, id)| id);
        let (_, conn) = self.shard.client_of_script();
        if self.sessions.get(conn).is_none() {
            // It has left while its script ran for too long.
            return match published_kind(command.spec) {
                Some(kind) => receivers_reply(self.publish_here(kind, words[1], words[2])).to_vec(),
                None => CLIENT_HAS_LEFT.to_vec(),
            };
        }
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, protocol);
        let mut ctx = self.admin(conn);
        ctx.deny_blocking = true;
        let outcome = run(&mut ctx, &Args::new(&words), &mut reply);
        let result = match outcome {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Publish(kind)) => {
                let receivers = self.publish_here(kind, words[1], words[2]);
                reply.raw(&receivers_reply(receivers));
                Ok(())
            }
            Ok(Outcome::Everywhere(everywhere) | Outcome::Cut(everywhere)) => {
                self.run_on_only_shard(conn, everywhere, &mut reply)
            }
            Ok(Outcome::Exec | Outcome::Watch | Outcome::Unwatch | Outcome::EndTransaction | Outcome::Shutdown) => {
                Err(NOT_FROM_SCRIPT)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            reply.truncate(0);
            reply.error(&error.text());
            self.shard.commands.failed(id, Error::code(&error));
        }
        let elapsed = self.shard.ran(id);
        if self.shard.ctx.timing.is_slow(elapsed) {
            self.was_slow(conn, self.called(&words).unwrap_or(command.spec), elapsed, &words);
        }
        self.collect_news();
        bytes
    }

    fn run_on_only_shard(&mut self, conn: ConnKey, mut everywhere: Everywhere, reply: &mut Reply) -> Result {
        loop {
            let part = (everywhere.part)(&mut self.admin(conn), &everywhere.words);
            self.run_unblocks();
            self.resume_postponed();
            let mut ctx = self.admin(conn);
            (everywhere.merge)(&mut ctx, &everywhere.words, vec![part], reply)?;
            match std::mem::take(&mut ctx.then) {
                Then::Reply => return Ok(()),
                Then::Everywhere(next) => everywhere = next,
                Then::Shutdown => {
                    self.stop_requested = true;
                    return Ok(());
                }
            }
        }
    }
}
