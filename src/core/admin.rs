//! Commands without keys, and those that are refused.

use super::{Core, Fate};
use crate::admin::ctx::{AdminCtx, AdminFn, Outcome};
use crate::admin::slowlog::redacted;
use crate::base::ids::{CommandId, ConnKey};
use crate::command::args::Args;
use crate::command::error::Error;
use crate::command::spec::{NO_AUTH, Spec};
use crate::dispatch::registry::{Command, Run};
use crate::engine::mesh::Mesh;
use crate::resp::reply::Reply;
use crate::session::Pause;

impl Core {
    /// Commands without keys, and those that are refused.
    pub(super) fn dispatch_other<M: Mesh>(
        &mut self,
        conn: ConnKey,
        found: Option<&'static Command>,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let Some(command) = found else {
            return self.reject(conn, None, &unknown_command(words));
        };
        let mut spec = command.spec;
        let mut id = command.id;
        if !spec.subcommands.is_empty() && words.len() > 1 {
            let Some(subcommand) = spec.subcommand(words[1]) else {
                let text = format!(
                    "ERR unknown subcommand '{}'. Try {} HELP.",
                    String::from_utf8_lossy(&words[1][..words[1].len().min(128)]),
                    spec.name.to_uppercase()
                );
                return self.reject(conn, Some(id), &Error::dynamic(text));
            };
            spec = subcommand;
            id = self.registry.subcommand_id(subcommand.name);
        }
        if !spec.arity.allows(words.len()) {
            return self.reject(conn, Some(id), &Error::arity(spec.name));
        }
        if !self.sessions.at(conn).authenticated && !spec.flags.has(NO_AUTH) {
            return self.reject(conn, Some(id), &Error::Text("NOAUTH Authentication required."));
        }
        match command.run {
            Run::Admin(run) => self.run_admin(conn, run, spec, id, words, mesh),
            Run::Key(_) => unreachable!("a command on keys that nothing refuses was taken before"),
        }
    }

    #[cold]
    pub(super) fn reject(&mut self, conn: ConnKey, id: Option<CommandId>, error: &Error) -> Fate {
        self.shard.commands.rejected(id, error.code());
        let session = self.sessions.at(conn);
        let (discard, protocol) = (session.take_reply_mode(), session.protocol);
        if !discard {
            Reply::new(self.sessions.reply_buffer(conn), protocol).error(&error.text());
        }
        Fate::Taken
    }

    pub(super) fn run_admin<M: Mesh>(
        &mut self,
        conn: ConnKey,
        run: AdminFn,
        spec: &'static Spec,
        id: CommandId,
        words: &[&[u8]],
        mesh: &mut M,
    ) -> Fate {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let session = self.sessions.at(conn);
        session.enter_command(id);
        let protocol = session.protocol;
        let mut reply = Reply::new(&mut scratch, protocol);
        self.shard.start_clock();
        let result = run(&mut self.admin(conn), &Args::new(words), &mut reply);
        if let Ok(Outcome::Everywhere(everywhere)) = result {
            self.scratch = scratch;
            // Nothing has happened yet: it is a barrier, and can come back.
            if !self.sessions.at(conn).pipeline.is_empty() {
                return Fate::NotYet(Pause::Barrier);
            }
            return self.start_everywhere(conn, spec, id, everywhere, mesh);
        }
        if let Err(error) = &result {
            reply.truncate(0);
            reply.error(&error.text());
            self.shard.commands.failed(id, error.code());
        }
        let elapsed = self.shard.ran(id);
        if self.shard.is_slow(elapsed) {
            self.was_slow(conn, spec, elapsed, words);
        }
        let discard = self.sessions.at(conn).leave_command();
        if !discard && !scratch.is_empty() {
            self.sessions.reply_buffer(conn).extend_from_slice(&scratch);
        }
        self.scratch = scratch;
        if matches!(result, Ok(Outcome::Shutdown)) {
            self.stop_requested = true;
        }
        if self.sessions.at(conn).is_closing() { Fate::Closed } else { Fate::Taken }
    }

    pub(super) fn admin(&mut self, conn: ConnKey) -> AdminCtx<'_> {
        AdminCtx {
            now: self.shard.ctx.now,
            shard: &mut self.shard,
            sessions: &mut self.sessions,
            server: &self.server,
            id: self.id,
            slots: &self.slots,
            conn,
            specs: self.registry.specs(),
            names: self.registry.names(),
            rate: self.rates.now(),
        }
    }

    #[cold]
    pub(super) fn was_slow(&mut self, conn: ConnKey, spec: &Spec, elapsed: u64, words: &[&[u8]]) {
        self.shard.was_slow(spec, elapsed, &redacted(spec, words));
        self.log_slow(conn);
    }
}

/// As Redis words it: the name and the first arguments, 128 bytes of each.
fn unknown_command(words: &[&[u8]]) -> Error {
    let name = &words[0][..words[0].len().min(128)];
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(name);
    text.extend_from_slice(b"', with args beginning with: ");
    let from = text.len();
    for word in &words[1..] {
        let room = 128usize.saturating_sub(text.len() - from);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(&word[..word.len().min(room)]);
        text.extend_from_slice(b"' ");
    }
    Error::dynamic(text)
}
