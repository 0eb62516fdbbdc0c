//! SAVE and its relatives: commands that write RDB files, and the parts of others that do (SHUTDOWN, DEBUG RELOAD).
//!
//! Every shard begins its share in a part of its own, between two transactions ([`Outcome::Cut`]). The parts of a command
//! are published at once, so that the cut is causal: who has seen a reply from behind it writes behind it, on whatever
//! shard.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, MergeFn, Outcome, Part, PartFn, Server, Then, downcast};
use crate::base::limits::BACKGROUND_STEP_KEYS;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::config::value::AppendFsync;
use crate::engine::script::function;
use crate::persist::aof::load::{AofLoader, Deal, Slice};
use crate::persist::aof::log::{Log, Terms};
use crate::persist::load::{Duplicates, LoadError, Loaded, Loader};
use crate::persist::save::Purpose;
use crate::persist::status::{Cancelled, InProgress, Refused, Shutdown};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[
    Row {
        run: bgrewriteaof as AdminFn,
        spec: Spec {
            name: "bgrewriteaof",
            arity: Exactly(1),
            flags: NO_ASYNC_LOADING.and(ADMIN).and(NOSCRIPT),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Rewrites the append-only file while the server goes on.",
            ..SERVER
        },
    },
    Row {
        run: bgsave,
        spec: Spec {
            name: "bgsave",
            arity: AtLeast(1),
            flags: NO_ASYNC_LOADING.and(ADMIN).and(NOSCRIPT),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Saves the databases to disk while the server goes on.",
            args: &[token("SCHEDULE").since("3.2.2").optional()],
            history: &[("3.2.2", "Added the `SCHEDULE` option.")],
            ..SERVER
        },
    },
    Row {
        run: lastsave,
        spec: Spec {
            name: "lastsave",
            arity: Exactly(1),
            flags: LOADING.and(STALE).and(FAST),
            categories: category::ADMIN.and(category::DANGEROUS),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the Unix time of the last successful save.",
            tips: &["nondeterministic_output"],
            ..SERVER
        },
    },
    Row {
        run: save,
        spec: Spec {
            name: "save",
            arity: Exactly(1),
            flags: ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI),
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys in all databases.",
            summary: "Saves the databases to disk while everybody waits.",
            ..SERVER
        },
    },
];

const IN_PROGRESS: Error = Error::Text("ERR Background save already in progress");

/// Starts the save, once: the handler of an [`Outcome::Everywhere`] may run again.
fn start(ctx: &mut AdminCtx, purpose: Purpose) -> Result {
    if !ctx.is_first_in_line() {
        return Ok(());
    }
    start_unasked(ctx, purpose)
}

fn start_unasked(ctx: &AdminCtx, purpose: Purpose) -> Result {
    let config = ctx.server.config().clone();
    ctx.server.persistence.start_save(ctx.now, &config, purpose).map_err(|InProgress| IN_PROGRESS)
}

fn cut(part: PartFn, args: &Args, merge: MergeFn) -> Outcome {
    let words = args.words().iter().map(|word| word.to_vec()).collect();
    Outcome::Cut(Everywhere { part, words, merge })
}

/// SAVE
fn save(ctx: &mut AdminCtx, args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    start(ctx, Purpose::Save)?;
    Ok(cut(save_here, args, |ctx, _, _, reply| {
        if !ctx.server.persistence.wait_for_save() {
            return Err(Error::Text("ERR"));
        }
        reply.ok();
        Ok(())
    }))
}

/// The same behind a command that has happened; `None` while there is another save, which is told of the command.
pub fn save_behind(ctx: &AdminCtx, words: Vec<Vec<u8>>) -> Option<Everywhere> {
    start_unasked(ctx, Purpose::Save).ok()?;
    let merge: MergeFn = |ctx, _, _, reply| {
        // The log tells what went wrong.
        ctx.server.persistence.wait_for_save();
        reply.ok();
        Ok(())
    };
    Some(Everywhere { part: save_here, words, merge })
}

/// All of the shard's databases, at once: nobody is served meanwhile.
fn save_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    let Some(saving) = ctx.server.persistence.running() else { return Box::new(()) };
    let shard = &mut ctx.shard.ctx;
    saving.begin(ctx.id, shard);
    while shard.keyspace.snapshot_slice(BACKGROUND_STEP_KEYS) {
        while !saving.has_room() && !saving.is_given_up() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if saving.is_given_up() {
            shard.keyspace.abort_snapshot();
        }
    }
    Box::new(())
}

/// BGSAVE [SCHEDULE | CANCEL]
fn bgsave(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.from(1) {
        [] => {}
        // As long as nothing but a save runs in the background, there is nothing to wait for.
        [_] if args.is(1, "SCHEDULE") => {}
        [_] if args.is(1, "CANCEL") => {
            reply.simple(match ctx.server.persistence.cancel() {
                Cancelled::Running => "Background saving cancelled",
                Cancelled::Scheduled => "Scheduled background saving cancelled",
                Cancelled::Nothing => {
                    return Err(Error::Text("ERR Background saving is currently not in progress or scheduled"));
                }
            });
            return Ok(Outcome::Done);
        }
        _ => return Err(Error::Syntax),
    }
    if ctx.server.persistence.progress().rewrites {
        if args.len() == 1 {
            return Err(Error::Text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
                 schedule a BGSAVE whenever possible.",
            ));
        }
        ctx.server.persistence.schedule_save();
        reply.simple("Background saving scheduled");
        return Ok(Outcome::Done);
    }
    start(ctx, Purpose::Background)?;
    Ok(cut(begin_here, args, |_, _, _, reply| {
        reply.simple("Background saving started");
        Ok(())
    }))
}

/// The cut at this shard; its background work does the rest.
fn begin_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    if let Some(saving) = ctx.server.persistence.running() {
        saving.begin(ctx.id, &mut ctx.shard.ctx);
    }
    Box::new(())
}

/// A save in the background that nobody asked for: by the `save` rules.
pub fn due_save(ctx: &AdminCtx) -> Option<Everywhere> {
    start_unasked(ctx, Purpose::Background).ok()?;
    Some(Everywhere { part: begin_here, words: vec![b"BGSAVE".to_vec()], merge: |_, _, _, _| Ok(()) })
}

/// BGREWRITEAOF
fn bgrewriteaof(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let progress = ctx.server.persistence.progress();
    if progress.rewrites && ctx.is_first_in_line() {
        return Err(Error::Text("ERR Background append only file rewriting already in progress"));
    }
    if progress.in_background || ctx.deny_blocking {
        ctx.server.persistence.schedule_rewrite();
        reply.simple("Background append only file rewriting scheduled");
        return Ok(Outcome::Done);
    }
    if ctx.is_first_in_line() {
        start_rewrite(ctx).map_err(|reason| {
            tracing::warn!("{reason}");
            Error::Text(
                "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
            )
        })?;
    }
    Ok(cut(begin_rewrite_here, args, |_, _, _, reply| {
        reply.simple("Background append only file rewriting started");
        Ok(())
    }))
}

fn start_rewrite(ctx: &AdminCtx) -> std::result::Result<(), String> {
    let config = ctx.server.config().clone();
    let aof = &ctx.server.aof;
    if !aof.is_on() {
        (ctx.server.hooks.open_aof)(ctx.server, &config)?;
    }
    aof.prepare().map_err(|error| format!("Can't create or open the append-only directory: {error}"))?;
    if config.appendonly && !aof.is_on() {
        // There is no base for what is written from the cut on.
        aof.withhold();
    }
    ctx.server.persistence.start_rewrite(ctx.now, &config, aof).map_err(|refused| match refused {
        Refused::InProgress => "Background save already in progress".to_owned(),
        Refused::Io(error) => format!("Can't rewrite the append only file: {error}"),
    })
}

/// A rewrite that nobody waits for: scheduled, or the file has grown, or `appendonly` was switched on.
pub fn due_rewrite(ctx: &AdminCtx) -> Option<Everywhere> {
    let (server, config) = (ctx.server, &ctx.shard.ctx.config);
    // A cut has nothing of a script, or all of it.
    if ctx.shard.is_busy() {
        return None;
    }
    let is_wanted = || {
        if config.appendonly && (!server.aof.is_on() || server.aof.is_withheld()) {
            return true;
        }
        // What could not be synced is in memory still.
        if server.aof.is_on() && server.aof.rounds.has_failed() {
            return true;
        }
        let growth = server.aof.growth(config).filter(|_| server.aof.is_on());
        growth.inspect(|percent| tracing::info!("Starting automatic rewriting of AOF on {percent}% growth")).is_some()
    };
    if !server.persistence.is_rewrite_due(ctx.now, is_wanted) {
        return None;
    }
    if let Err(reason) = start_rewrite(ctx) {
        tracing::warn!("{reason}");
        server.persistence.rewrite_refused(ctx.now);
        return None;
    }
    Some(Everywhere { part: begin_rewrite_here, words: vec![b"BGREWRITEAOF".to_vec()], merge: |_, _, _, _| Ok(()) })
}

/// The cut at this shard: the log goes on in another generation, or begins.
fn begin_rewrite_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    let Some(saving) = ctx.server.persistence.cut() else { return Box::new(()) };
    let (aof, shard) = (&ctx.server.aof, &mut ctx.shard.ctx);
    saving.generation(|| aof.begin_generation());
    let terms = Terms::of(&shard.config, ctx.now, true);
    match (ctx.log.as_mut(), shard.journal.log.as_mut()) {
        (Some(log), Some(group)) => match log.commit(group, terms) {
            Ok(()) => log.switch(group),
            // The log waits for the disk, and with it the end of the generation.
            Err(_) => saving.give_up(),
        },
        (Some(_), None) => unreachable!("a log has a group"),
        (None, _) if shard.config.appendonly => {
            shard.journal.log(true);
            let mut log = Log::new(aof.clone(), ctx.id);
            log.begin();
            *ctx.log = Some(Box::new(log));
            // The others begin theirs at the same moment, as they are locked.
            aof.set_on(true);
        }
        (None, _) => {}
    }
    saving.logged.fetch_add(ctx.log.as_ref().map_or(0, |log| log.position()), Relaxed);
    saving.begin(ctx.id, shard);
    Box::new(())
}

/// `appendonly` was switched off: the shard's log ends.
pub fn end_log_here(ctx: &mut AdminCtx) {
    let Some(mut log) = ctx.log.take() else { return };
    let shard = &mut ctx.shard.ctx;
    let group = shard.journal.log.as_mut().expect("there is one with the log");
    let terms = Terms::of(&shard.config, ctx.now, false);
    if let Err(error) = log.close(group, terms) {
        tracing::warn!("Error writing the end of the AOF file: {error}");
    }
    log.forget_failure();
    shard.journal.log(false);
}

/// LASTSAVE
fn lastsave(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    reply.integer(ctx.server.persistence.last_saves().saved_unix_s);
    Ok(Outcome::Done)
}

/// The append-only file was switched on, and its first base is being written, or about to be.
pub fn is_beginning_aof(server: &Server) -> bool {
    let is_without_base = !server.aof.is_on() || server.aof.is_withheld();
    let goes_well = || server.persistence.progress().rewrites || server.persistence.rewrites().ok;
    server.config().appendonly && is_without_base && goes_well()
}

/// The end of the server, its databases saved before if they are to be; `None`: at once.
pub fn shutdown(ctx: &AdminCtx, how: Shutdown) -> Result<Option<Everywhere>> {
    let persistence = &ctx.server.persistence;
    if how.signal.is_some() {
        tracing::warn!("User requested shutdown...");
    }
    if persistence.progress().in_background {
        tracing::warn!("There is a child saving an .rdb. Killing it!");
    }
    persistence.cancel();
    if is_beginning_aof(ctx.server) {
        if !how.force {
            tracing::warn!("Writing initial AOF, can't exit");
            return Err(refused_shutdown(how.signal));
        }
        tracing::warn!("Writing initial AOF. Exit anyway.");
    }
    if persistence.cancel_rewrite() {
        tracing::warn!("There is a child rewriting the AOF. Killing it!");
    }
    persistence.wait_for_save();
    if !how.saves(&ctx.server.config()) {
        return Ok(None);
    }
    tracing::info!("Saving the final RDB snapshot before exiting.");
    // A save in the foreground would have kept this shard from running this.
    if start_unasked(ctx, Purpose::Shutdown).is_err() {
        return Ok(None);
    }
    let words = [if how.force { "FORCE" } else { "" }, how.signal.unwrap_or("")].map(|word| word.as_bytes().to_vec());
    Ok(Some(Everywhere { part: save_and_stop_here, words: words.to_vec(), merge: stop_or_not }))
}

fn refused_shutdown(signal: Option<&str>) -> Error {
    if let Some(signal) = signal {
        tracing::warn!(
            "{signal} received but errors trying to shut down the server, check the logs for more information"
        );
    }
    Error::Text("ERR Errors trying to SHUTDOWN. Check logs.")
}

/// Saves, and lets nobody write behind that: the shard waits for the file, and stops if it is whole.
fn save_and_stop_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    save_here(ctx, words);
    if ctx.server.persistence.wait_for_save() {
        ctx.server.stopping.store(true, Relaxed);
    }
    Box::new(())
}

fn stop_or_not(ctx: &mut AdminCtx, words: &[Vec<u8>], _parts: Vec<Part>, _reply: &mut Reply) -> Result {
    if !ctx.server.stopping.load(Relaxed) {
        if words[0].is_empty() {
            tracing::warn!("Error trying to save the DB, can't exit.");
            let signal = String::from_utf8_lossy(&words[1]);
            return Err(refused_shutdown(Some(&*signal).filter(|signal| !signal.is_empty())));
        }
        tracing::warn!("Error trying to save the DB. Exit anyway.");
    }
    ctx.then = Then::Shutdown;
    Ok(())
}

/// What DEBUG RELOAD does not do by default.
#[derive(Clone, Copy, Default)]
struct Reload {
    merges: bool,
    keeps: bool,
    loads_only: bool,
}

impl Reload {
    fn parse(words: &[&[u8]]) -> Result<Reload> {
        let mut reload = Reload::default();
        for word in words {
            match word.to_ascii_uppercase().as_slice() {
                b"MERGE" => reload.merges = true,
                b"NOFLUSH" => reload.keeps = true,
                b"NOSAVE" => reload.loads_only = true,
                _ => {
                    return Err(Error::Text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
                }
            }
        }
        Ok(reload)
    }
}

/// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]: to the file and back.
pub fn reload(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    let reload = Reload::parse(args.from(2))?;
    let words: Vec<Vec<u8>> = args.from(2).iter().map(|word| word.to_vec()).collect();
    if reload.loads_only {
        return Ok(Outcome::Everywhere(Everywhere { part: load_here, words, merge: tell_reload }));
    }
    start(ctx, Purpose::Reload)?;
    Ok(Outcome::Cut(Everywhere {
        part: save_here,
        words,
        merge: |ctx, words, _, _| {
            if !ctx.server.persistence.wait_for_save() {
                return Err(Error::Text("ERR"));
            }
            ctx.then = Then::Everywhere(Everywhere { part: load_here, words: words.to_vec(), merge: tell_reload });
            Ok(())
        },
    }))
}

fn load_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let reload = Reload::parse(&words).expect("`reload` looked at them");
    let (shard, slots, id) = (&mut ctx.shard.ctx, ctx.slots.clone(), ctx.id);
    if !reload.keeps {
        shard.keyspace.abort_snapshot();
        (0..shard.keyspace.databases()).for_each(|db| drop(shard.keyspace.take(db)));
        if id == 0 {
            function::forget_all(shard);
        }
    }
    let duplicates = if reload.merges { Duplicates::Replaced } else { Duplicates::Refused };
    let loaded = File::open(&shard.config.dbfilename).map_err(|error| error.to_string()).and_then(|file| {
        let load = || {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            let mut loader = Loader::new(file, bytes, id, slots, duplicates, shard)?;
            while !loader.slice(shard, u64::MAX / 2)? {}
            Ok(loader.loaded)
        };
        load().map_err(|error: LoadError| error.to_string())
    });
    Box::new(loaded)
}

fn tell_reload(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut all = Loaded::default();
    for part in downcast::<std::result::Result<Loaded, String>>(parts) {
        match part {
            Ok(loaded) => {
                all.keys += loaded.keys;
                all.expired += loaded.expired;
                all.empty += loaded.empty;
            }
            Err(reason) => {
                tracing::warn!("{reason}");
                return Err(Error::Text("ERR Error trying to load the RDB dump, check server logs."));
            }
        }
    }
    ctx.server.persistence.tell_load(all);
    tracing::warn!("DB reloaded by DEBUG RELOAD");
    reply.ok();
    Ok(())
}

/// A round of the append-only file (`persist/aof/rounds.rs`), if there is something to sync.
pub fn due_round(ctx: &AdminCtx) -> Option<Everywhere> {
    let (aof, config) = (&ctx.server.aof, &ctx.shard.ctx.config);
    if ctx.log.is_none() || config.appendfsync != AppendFsync::EverySecond {
        return None;
    }
    if !aof.is_behind() {
        aof.rounds.tell_idle(ctx.now.mono_ns);
        return None;
    }
    if config.no_appendfsync_on_rewrite && ctx.server.persistence.is_saving() {
        return None;
    }
    let number = aof.rounds.begin(ctx.now.mono_ns)?;
    let words = vec![number.to_string().into_bytes()];
    Some(Everywhere { part: end_round_here, words, merge: sync_round })
}

/// The shard's log ends the round; whether it could.
fn end_round_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let shard = &mut ctx.shard.ctx;
    let (Some(log), Some(group)) = (ctx.log.as_mut(), shard.journal.log.as_mut()) else { return Box::new(false) };
    let number = std::str::from_utf8(&words[0]).ok().and_then(|text| text.parse().ok());
    let round = Some(number.expect("it was printed by `due_round`"));
    let ended = log.commit(group, Terms { round, ..Terms::of(&shard.config, ctx.now, false) }).is_ok();
    if ended {
        ctx.server.aof.rounds.tell(ctx.id, log.position());
    }
    Box::new(ended)
}

fn sync_round(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, _reply: &mut Reply) -> Result {
    let rounds = &ctx.server.aof.rounds;
    if downcast::<bool>(parts).all(|ended| ended) {
        rounds.complete()
    } else {
        rounds.give_up()
    }
    Ok(())
}

/// DEBUG LOADAOF: forgets everything, and loads the append-only files.
pub fn load_log(args: &Args) -> Result<Outcome> {
    // When this has run everywhere, all that was done before is in the files.
    Ok(cut(
        |_, _| Box::new(()),
        args,
        |ctx, _, _, _| {
            let found = (ctx.server.hooks.find_log)(&ctx.server.config());
            let plan = found.map_err(|reason| {
                tracing::warn!("{reason}");
                NOT_LOADED
            })?;
            let plan = plan.ok_or(NOT_LOADED)?;
            let replay = (plan, Arc::new(Deal::new(ctx.server.shards)));
            *ctx.server.persistence.replay.lock().expect("nothing panics while it holds it") = Some(replay);
            ctx.then = Then::Everywhere(Everywhere { part: load_log_here, words: Vec::new(), merge: tell_load_log });
            Ok(())
        },
    ))
}

const NOT_LOADED: Error = Error::Text("ERR Error trying to load the AOF files, check server logs.");

/// All of it, while nobody is served.
fn load_log_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    let replay = ctx.server.persistence.replay.lock().expect("nothing panics while it holds it").clone();
    let Some((plan, deal)) = replay else { return Box::new(Err::<(), String>("nothing to load".to_owned())) };
    let (shard, slots, id) = (&mut ctx.shard.ctx, ctx.slots.clone(), ctx.id);
    shard.keyspace.abort_snapshot();
    (0..shard.keyspace.databases()).for_each(|db| drop(shard.keyspace.take(db)));
    if id == 0 {
        function::forget_all(shard);
    }
    let mut loader = AofLoader::new(plan, &deal, slots, shard);
    Box::new(loop {
        match loader.slice(shard, u64::MAX / 2) {
            Ok(Slice::Done) => break Ok(()),
            Ok(Slice::More) => {}
            Ok(Slice::Waiting) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => break Err(error.to_string()),
        }
    })
}

fn tell_load_log(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    *ctx.server.persistence.replay.lock().expect("nothing panics while it holds it") = None;
    for part in downcast::<std::result::Result<(), String>>(parts) {
        part.map_err(|reason| {
            tracing::warn!("{reason}");
            NOT_LOADED
        })?;
    }
    tracing::warn!("Append Only File loaded by DEBUG LOADAOF");
    reply.ok();
    Ok(())
}
