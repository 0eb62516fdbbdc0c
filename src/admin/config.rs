//! CONFIG: the directives, read and changed while the server runs.
//!
//! A change is made once, to the process's configuration, and then taken over by every shard before the client hears of
//! it. Shards may take it over with a later one at the same time, but never an earlier one: in the end all agree.

use std::sync::Arc;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part};
use super::persistence::end_log_here;
use super::write_help;
use crate::command::args::Args;
use crate::command::error::{Error, LOADING_DATA, Result};
use crate::command::spec::*;
use crate::config::Config;
use crate::config::rewrite::Missing;
use crate::engine::memory::limit_of;
use crate::resp::reply::Reply;
use crate::sys::memory;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: config as AdminFn,
    spec: Spec {
        name: "config",
        arity: AtLeast(2),
        since: "2.0.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about the configuration.",
        subcommands: &[
            Spec {
                name: "config|get",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.0.0",
                complexity: "O(N) where N is the number of patterns given.",
                summary: "Returns the parameters whose names match.",
                args: &[string("parameter").multiple()],
                history: &[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")],
                ..SERVER
            },
            Spec {
                name: "config|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "config|resetstat",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.0.0",
                complexity: "O(1)",
                summary: "Sets the statistics back to zero.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "config|rewrite",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.0",
                complexity: "O(1)",
                summary: "Writes the current parameters into the configuration file.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
            Spec {
                name: "config|set",
                arity: AtLeast(4),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.0.0",
                complexity: "O(N) where N is the number of parameters given.",
                summary: "Changes parameters while the server runs.",
                args: &[block("data", &[string("parameter"), string("value")]).multiple()],
                history: &[("7.0.0", "Added the ability to set multiple parameters in one call.")],
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

fn config(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"get" => get(ctx, args, reply),
        b"set" => return set(ctx, args),
        b"resetstat" => {
            return Ok(Everywhere::outcome(reset_stat, args, |_, _, _, reply| {
                reply.ok();
                Ok(())
            }));
        }
        b"rewrite" => rewrite(ctx, Missing::Changed, reply)?,
        _ => write_help("CONFIG", HELP, reply),
    }
    Ok(Outcome::Done)
}

/// CONFIG GET pattern [pattern ...]
fn get(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) {
    let found = ctx.shard.ctx.config.matching(args.from(2));
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(&name);
        reply.bulk(&value);
    }
}

/// CONFIG SET directive value [directive value ...]
fn set(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::arity("config|set"));
    }
    // Nothing is changed before the client's turn has come: then this runs again.
    if ctx.is_first_in_line() {
        let pairs: Vec<(&[u8], &[u8])> = args.from(2).chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let is_loading = ctx.server.persistence.loading.is_under_way();
        if is_loading && pairs.iter().any(|(name, _)| is_fixed_while_loading(name)) {
            return Err(LOADING_DATA);
        }
        let is_local = ctx.session().peer.is_local();
        let mut current = ctx.server.config();
        let mut new = (**current).clone();
        let refused = |error: crate::config::SetError| Error::dynamic(format!("ERR {error}"));
        new.set(&pairs, is_local).map_err(refused)?;
        let listens_anew = (new.port, &new.bind) != (current.port, &current.bind);
        let sockets = listens_anew.then(|| (ctx.server.hooks.listen)(&current, &new, ctx.server.shards)).transpose();
        let sockets = sockets.map_err(refused)?;
        (ctx.server.hooks.reconfigure)(&current, &new).map_err(refused)?;
        if let Some(sockets) = sockets {
            ctx.server.sockets.put(sockets);
        }
        if !new.appendonly {
            ctx.server.aof.set_on(false);
            if current.appendonly && ctx.server.persistence.cancel_rewrite() {
                tracing::info!("Killing running AOF rewrite child");
            }
        }
        let begins_log = new.appendonly && !current.appendonly;
        *current = Arc::new(new);
        drop(current);
        if begins_log && ctx.server.persistence.progress().in_background {
            tracing::info!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to \
                 start when possible."
            );
        } else if begins_log && ctx.deny_blocking {
            tracing::info!(
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
            );
        }
    }
    Ok(Everywhere::outcome(take_over, args, |_, _, _, reply| {
        reply.ok();
        Ok(())
    }))
}

/// What is loaded depends on it.
fn is_fixed_while_loading(name: &[u8]) -> bool {
    [&b"dir"[..], b"appendonly"].iter().any(|fixed| name.eq_ignore_ascii_case(fixed))
}

/// A shard begins to work by the newest configuration.
fn take_over(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    let config = ctx.server.config().clone();
    // Without a password everybody is who they say.
    if config.requirepass.is_empty() && !ctx.shard.ctx.config.requirepass.is_empty() {
        ctx.sessions.iter_mut().for_each(|session| session.set_authenticated(true));
    }
    ctx.shard.configure(config);
    if !ctx.shard.ctx.config.appendonly {
        end_log_here(ctx);
    }
    if ctx.id == 0 && !ctx.shard.ctx.config.aof_disable_auto_gc {
        ctx.server.aof.collect();
    }
    if ctx.id == 0 && ctx.shard.memory.excess() > 0 {
        warn_of_small_limit(&ctx.shard.ctx.config);
    }
    Box::new(())
}

fn warn_of_small_limit(config: &Config) {
    tracing::warn!(
        "WARNING: the new maxmemory value set via CONFIG SET ({}) is smaller than the current memory usage ({}). This \
         will result in key eviction and/or the inability to accept new write commands depending on the \
         maxmemory-policy.",
        limit_of(config),
        memory::used_bytes()
    );
}

fn reset_stat(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    ctx.shard.reset_stat();
    ctx.sessions.traffic = Default::default();
    if ctx.id == 0 {
        ctx.server.reset_stat();
    }
    Box::new(())
}

/// CONFIG REWRITE, or DEBUG CONFIG-REWRITE-FORCE-ALL.
pub fn rewrite(ctx: &mut AdminCtx, missing: Missing, reply: &mut Reply) -> Result {
    let Some(path) = &ctx.server.config_file else {
        return Err(Error::Text("ERR The server is running without a config file"));
    };
    match (ctx.server.hooks.rewrite_config)(path, &ctx.server.config(), missing) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            reply.ok();
            Ok(())
        }
        Err(reason) => {
            tracing::warn!("CONFIG REWRITE failed: {reason}");
            Err(Error::dynamic(format!("ERR Rewriting config file: {reason}")))
        }
    }
}

const HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];
