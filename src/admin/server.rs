//! Commands about the server as a whole: its clock, its end, its art.

use std::fmt::Write;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome};
use super::info::REDIS_VERSION;
use super::persistence;
use crate::base::rng::Rng;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::engine::script::busy_error;
use crate::persist::status::Shutdown;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[
    Row {
        run: lolwut as AdminFn,
        spec: Spec {
            name: "lolwut",
            arity: AtLeast(1),
            flags: READONLY.and(FAST),
            since: "5.0.0",
            summary: "Shows a piece of generative art and the server's version.",
            args: &[integer("version").after("VERSION").optional()],
            ..SERVER
        },
    },
    Row {
        run: shutdown,
        spec: Spec {
            name: "shutdown",
            arity: AtLeast(1),
            flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE).and(NO_MULTI).and(ALLOW_BUSY),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys to save, otherwise O(1).",
            summary: "Stops the server, saving the databases first if so configured.",
            args: &[one_of(
                "abort-selector",
                &[
                    block(
                        "save-selector-block",
                        &[
                            one_of("save-selector", &[token("NOSAVE"), token("SAVE")]).optional(),
                            token("NOW").since("7.0.0").optional(),
                            token("FORCE").since("7.0.0").optional(),
                        ],
                    ),
                    token("ABORT").since("7.0.0"),
                ],
            )
            .optional()],
            history: &[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")],
            ..SERVER
        },
    },
    Row {
        run: time,
        spec: Spec {
            name: "time",
            arity: Exactly(1),
            flags: LOADING.and(STALE).and(FAST),
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Returns the server's time.",
            tips: &["nondeterministic_output"],
            ..SERVER
        },
    },
];

fn time(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let unix_us = ctx.now.unix_us();
    reply.array(2);
    reply.bulk_integer(unix_us.div_euclid(1_000_000));
    reply.bulk_integer(unix_us.rem_euclid(1_000_000));
    Ok(Outcome::Done)
}

/// SHUTDOWN [[NOSAVE | SAVE] [NOW] [FORCE] | ABORT]
fn shutdown(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let (mut save, mut nosave, mut force, mut others, mut abort) = (false, false, false, false, false);
    for word in args.from(1) {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" => nosave = true,
            b"save" => save = true,
            // Nothing here waits for replicas.
            b"now" => others = true,
            b"force" => force = true,
            b"abort" => abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if save && nosave || abort && (save || nosave || force || others) {
        return Err(Error::Syntax);
    }
    if abort {
        // One that has begun takes no further command; but one that a signal has asked for may not have begun yet.
        let asked = ctx.server.persistence.shutdown.lock().expect("nothing panics while it holds it").take();
        asked.ok_or(Error::Text("ERR No shutdown in progress."))?;
        tracing::info!("Shutdown manually aborted.");
        reply.ok();
        return Ok(Outcome::Done);
    }
    let busy = &ctx.server.scripts.busy;
    if busy.is_on() && !nosave {
        return Err(busy_error(busy));
    }
    if !ctx.is_first_in_line() && !nosave {
        // What it does before its parts run would be done twice.
        return Ok(Outcome::Everywhere(Everywhere {
            part: |_, _| Box::new(()),
            words: Vec::new(),
            merge: |_, _, _, _| Ok(()),
        }));
    }
    tracing::warn!("User requested shutdown... (user request from client id={})", ctx.session().id);
    let saving = persistence::shutdown(ctx, Shutdown { save, nosave, force, signal: None })?;
    Ok(saving.map_or(Outcome::Shutdown, Outcome::Cut))
}

/// LOLWUT [VERSION version] [argument ...]
fn lolwut(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    if args.len() > 2 && args.is(1, "VERSION") {
        args.integer(2)?;
    }
    let mut art = peristyle(ctx.server.shards.clamp(2, 16), &mut ctx.shard.ctx.rng);
    write!(art, "\nRedis ver. {REDIS_VERSION}\n").expect("a string takes everything");
    reply.verbatim(b"txt", art.as_bytes());
    Ok(Outcome::Done)
}

/// A row of columns, one for each shard; time has been kinder to some than to others.
fn peristyle(columns: usize, rng: &mut Rng) -> String {
    const HEIGHT: u64 = 6;
    let heights: Vec<u64> = (0..columns).map(|_| 1 + rng.below(HEIGHT * HEIGHT).isqrt()).collect();
    let is_whole = heights.iter().all(|&height| height == HEIGHT);
    let width = 6 * columns + 2;
    let mut art = String::new();
    if is_whole {
        art.push_str(&format!(" {}\n/{}\\\n", "_".repeat(width - 2), "_".repeat(width - 2)));
    }
    for level in (1..=HEIGHT).rev() {
        for &height in &heights {
            art.push_str(match level.cmp(&height) {
                std::cmp::Ordering::Less => "  |||",
                std::cmp::Ordering::Equal if height == HEIGHT => "  ===",
                std::cmp::Ordering::Equal => "  /\\.",
                std::cmp::Ordering::Greater => "     ",
            });
            art.push(' ');
        }
        art.truncate(art.trim_end_matches(' ').len());
        art.push('\n');
    }
    art + &"=".repeat(width) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_art_has_a_column_for_each_shard() {
        for seed in 0..50 {
            let art = peristyle(5, &mut Rng::new(seed));
            let lowest = art.lines().rev().nth(1).unwrap();
            assert_eq!(lowest.split_whitespace().count(), 5, "{art}");
        }
    }
}
