//! MONITOR: a client sees every command that the server runs.
//!
//! A shard counts its monitors where the others see it, and sends lines to those that have some. Which commands are shown,
//! and when, is `core::observe`'s part.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use crate::base::quoting::quote;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;
use crate::session::Peer;

pub const ROWS: &[AdminRow] = &[Row {
    run: monitor as AdminFn,
    spec: Spec {
        name: "monitor",
        arity: Exactly(1),
        flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
        group: Group::Server,
        since: "1.0.0",
        summary: "Sends this connection every command that the server runs.",
        ..Spec::DEFAULT
    },
}];

/// Says OK to the first only, as Redis does.
fn monitor(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    if ctx.deny_blocking {
        return Err(Error::Text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !ctx.session().monitors {
        set_monitoring(ctx, true);
        reply.ok();
    }
    Ok(Outcome::Done)
}

/// Makes the client a monitor, or no longer.
pub fn set_monitoring(ctx: &mut AdminCtx, monitors: bool) {
    ctx.sessions.set_monitoring(ctx.conn, monitors);
    ctx.server.set_monitors(ctx.id, ctx.sessions.monitors.len());
}

/// What stands before the words of a line.
pub struct Shown {
    pub unix_us: i64,
    pub db: usize,
    /// Who sent the command; a script, if nobody.
    pub by: Option<Peer>,
}

/// Appends the line of one command, as monitors get it.
pub fn write_line(shown: &Shown, unix_socket: &str, words: &[&[u8]], out: &mut Vec<u8>) {
    let (seconds, microseconds) = (shown.unix_us / 1_000_000, shown.unix_us % 1_000_000);
    let by = match shown.by {
        None => "lua".to_owned(),
        Some(Peer::Unix) => format!("unix:{unix_socket}"),
        Some(Peer::Tcp { remote, .. }) => remote.to_string(),
    };
    out.extend_from_slice(format!("+{seconds}.{microseconds:06} [{} {by}]", shown.db).as_bytes());
    for word in words {
        out.push(b' ');
        quote(word, out);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(by: Option<Peer>, words: &[&[u8]], expected: &str) {
        let mut line = Vec::new();
        write_line(&Shown { unix_us: 1_700_000_000_000_042, db: 3, by }, "/run/s", words, &mut line);
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn lines_are_those_of_valkey() {
        let peer = Peer::Tcp { remote: "[::1]:5000".parse().unwrap(), local: "[::1]:6379".parse().unwrap() };
        check(
            Some(peer),
            &[b"set", b"a \"b\"\n", b"\xff"],
            "+1700000000.000042 [3 [::1]:5000] \"set\" \"a \\\"b\\\"\\n\" \"\\xff\"\r\n",
        );
        check(Some(Peer::Unix), &[b"get", b"k"], "+1700000000.000042 [3 unix:/run/s] \"get\" \"k\"\r\n");
        check(None, &[b"get", b""], "+1700000000.000042 [3 lua] \"get\" \"\"\r\n");
    }
}
