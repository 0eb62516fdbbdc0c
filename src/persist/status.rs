//! What the process knows of its files: the save under way and the last ones, and how far loading has come.
//!
//! Shards share it. What commands look at is atomic; the rest is behind a lock that only saves and questions about them
//! take.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::aof::disk::Directory;
use super::aof::load::Deal;
use super::aof::open::Plan;
use super::aof::{Aof, text_of};
use super::load::Loaded;
use super::rdb::write::Header;
use super::save::{Failure, Place, Purpose, Saving, Target};
use crate::base::clock::Now;
use crate::base::ids::ShardId;
use crate::config::Config;
use crate::config::parse::REDIS_VERSION;
use crate::sys::{affinity, memory, process};

/// After a save that failed the next one by the `save` rules waits so long, as in Redis.
const RETRY_S: i64 = 5;

/// One for the process.
pub struct Persistence {
    shards: usize,
    saves: Mutex<Saves>,
    /// Something is being saved: what shards look at in every turn.
    saving: AtomicBool,
    /// A save has ended.
    ended: Condvar,
    /// The last save in the background failed: `stop-writes-on-bgsave-error`.
    save_failed: AtomicBool,
    pub loading: Loading,
    /// By shard, as of its last tick: changes since the start.
    changes: Vec<AtomicU64>,
    /// A flush of everything wants to be seen in the file.
    flushed: AtomicBool,
    /// There is a disk, and a clock that belongs to it: `save` rules count.
    pub is_real: AtomicBool,
    /// What DEBUG LOADAOF loads.
    pub replay: Mutex<Option<(Arc<Plan>, Arc<Deal>)>>,
    /// What a signal asked for: a shutdown, how.
    pub shutdown: Mutex<Option<Shutdown>>,
    /// Who writes the files of saves.
    pub spawn: Spawn,
}

/// Lets work be done beside the shards.
pub type Spawn = fn(Box<dyn FnOnce() + Send>) -> io::Result<()>;

fn spawn_thread(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let behind_shards = || {
        affinity::follow_process();
        process::yield_to_others();
        work();
    };
    std::thread::Builder::new().name("save".to_owned()).spawn(behind_shards).map(drop)
}

/// How the server is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    pub save: bool,
    pub nosave: bool,
    pub force: bool,
    /// The signal that asked for it.
    pub signal: Option<&'static str>,
}

impl Shutdown {
    /// Whether the databases are saved before.
    pub fn saves(self, config: &Config) -> bool {
        self.save || !self.nosave && !config.save.is_empty()
    }
}

struct Saves {
    running: Option<Arc<Saving>>,
    /// The rewrite whose cut is not behind all shards, and behind how many it is.
    cut: Option<(Arc<Saving>, usize)>,
    /// Begin one in the background when none is running.
    scheduled: bool,
    last: LastSaves,
    rewrites: Rewrites,
}

/// BGREWRITEAOF: what INFO tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Rewrites {
    /// One is to begin when nothing else is being saved.
    pub scheduled: bool,
    pub ok: bool,
    pub count: u64,
    pub failures: u64,
    /// How long the last one took.
    pub seconds: Option<i64>,
    /// Unix time of the last attempt.
    tried_unix_s: i64,
}

/// What INFO tells.
#[derive(Clone, Debug)]
pub struct LastSaves {
    /// Unix time of the last success, or of the start.
    pub saved_unix_s: i64,
    /// How many were begun for their own sake.
    pub saves: u64,
    pub background_ok: bool,
    /// How long the last one in the background took.
    pub background_s: Option<i64>,
    /// Whether the last one of all succeeded.
    pub ok: bool,
    /// Unix time of the last attempt in the background.
    tried_unix_s: i64,
    /// Changes that are in the file.
    pub changes: u64,
    pub loaded: Loaded,
}

/// The save under way, as INFO shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub in_background: bool,
    /// It is the base of an append-only file.
    pub rewrites: bool,
    pub seconds: i64,
    pub keys_saved: u64,
    pub keys_total: u64,
    /// What waits to be written, and how much of it there may be.
    pub buffer_bytes: u64,
    pub buffer_bytes_max: u64,
}

impl Progress {
    pub fn percent(self) -> f64 {
        if self.keys_total == 0 { 0.0 } else { 100.0 * self.keys_saved as f64 / self.keys_total as f64 }
    }
}

/// Loading of the file that there was at the start.
#[derive(Debug, Default)]
pub struct Loading {
    /// Shards that are not done.
    shards: AtomicUsize,
    pub started_unix_s: AtomicI64,
    pub bytes_total: AtomicU64,
    /// By the shard that tells.
    pub bytes_loaded: AtomicU64,
    /// Taken before the lock of the saves, never behind it.
    outcome: Mutex<LoadOutcome>,
    ended: Condvar,
}

/// What is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOf {
    /// dump.rdb
    Dump,
    /// The append-only files, behind an RDB file or not.
    Log { has_dump: bool },
}

#[derive(Debug, Default)]
struct LoadOutcome {
    started: Option<Instant>,
    of: Option<LoadOf>,
    loaded: Loaded,
    error: Option<String>,
}

/// What there was to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Running,
    Scheduled,
    Nothing,
}

/// Why there is no rewrite.
#[derive(Debug)]
pub enum Refused {
    InProgress,
    Io(io::Error),
}

/// There is a save already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InProgress;

impl Persistence {
    pub fn new(shards: usize, started_unix_s: i64) -> Persistence {
        let last = LastSaves {
            saved_unix_s: started_unix_s,
            saves: 0,
            background_ok: true,
            background_s: None,
            ok: true,
            tried_unix_s: 0,
            changes: 0,
            loaded: Loaded::default(),
        };
        let rewrites = Rewrites { scheduled: false, ok: true, count: 0, failures: 0, seconds: None, tried_unix_s: 0 };
        Persistence {
            shards,
            saves: Mutex::new(Saves { running: None, cut: None, scheduled: false, last, rewrites }),
            saving: AtomicBool::new(false),
            ended: Condvar::new(),
            save_failed: AtomicBool::new(false),
            loading: Loading::default(),
            changes: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            flushed: AtomicBool::new(false),
            is_real: AtomicBool::new(false),
            replay: Mutex::new(None),
            shutdown: Mutex::new(None),
            spawn: spawn_thread,
        }
    }

    fn saves(&self) -> MutexGuard<'_, Saves> {
        self.saves.lock().expect("nothing panics while it holds the saves")
    }

    /// Some commands may not run: the file is being loaded, or the last save failed.
    #[inline]
    pub fn restricts(&self) -> bool {
        self.loading.is_under_way() || self.save_failed.load(Relaxed)
    }

    /// Writes are refused: MISCONF.
    pub fn refuses_writes(&self, config: &Config) -> bool {
        self.save_failed.load(Relaxed) && config.stop_writes_on_bgsave_error && !config.save.is_empty()
    }

    /// Starts the thread of a new save, which waits for all shards to begin theirs.
    pub fn start_save(self: &Arc<Self>, now: Now, config: &Arc<Config>, purpose: Purpose) -> Result<(), InProgress> {
        let directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
        let place = Place {
            disk: Arc::new(Directory::new(directory.clone())),
            directory,
            file_name: config.dbfilename.clone(),
            temp_name: temp_name(purpose),
        };
        self.start(now, config, purpose, place, |_| Ok(()))
    }

    /// The same of a new base for the append-only file, which takes it over at the end.
    pub fn start_rewrite(self: &Arc<Self>, now: Now, config: &Arc<Config>, aof: &Arc<Aof>) -> Result<(), Refused> {
        let format = if config.aof_use_rdb_preamble { "rdb" } else { "aof" };
        let (disk, directory, base) = aof.next_base(format).map_err(Refused::Io)?;
        let temp_name = format!("temp-rewriteaof-bg-{}.aof", std::process::id());
        let (aof, file_name) = (aof.clone(), base.name.clone());
        let keeps_history = config.aof_disable_auto_gc;
        let adopt = move |saving: &Saving| {
            let generation = saving.generation(|| unreachable!("every shard has begun"));
            aof.adopt_base(&base, generation, saving.logged.load(Relaxed))
                .map_err(|error| Failure::Io(format!("Error installing the new AOF base file: {}", text_of(&error))))?;
            if !keeps_history {
                aof.collect();
            }
            Ok(())
        };
        let place = Place { disk, directory, file_name, temp_name };
        self.start(now, config, Purpose::Rewrite, place, adopt).map_err(|InProgress| Refused::InProgress)
    }

    fn start(
        self: &Arc<Self>,
        now: Now,
        config: &Arc<Config>,
        purpose: Purpose,
        place: Place,
        finish: impl FnOnce(&Saving) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), InProgress> {
        let in_background = purpose == Purpose::Background;
        let mut saves = self.saves();
        if saves.running.is_some() || saves.cut.is_some() {
            return Err(InProgress);
        }
        saves.last.saves += u64::from(matches!(purpose, Purpose::Save | Purpose::Background));
        if in_background {
            saves.scheduled = false;
            saves.last.tried_unix_s = now.unix_s();
        }
        if purpose == Purpose::Rewrite {
            saves.rewrites.scheduled = false;
            saves.rewrites.count += 1;
            saves.rewrites.tried_unix_s = now.unix_s();
        }
        let (saving, feed) = Saving::new(self.shards, purpose, now, config.clone());
        let header = Header {
            redis_version: REDIS_VERSION,
            unix_s: now.unix_s(),
            used_memory: memory::used_bytes() as u64,
            sizes: Vec::new(),
            functions: Vec::new(),
            form: saving.form(),
            is_aof_base: purpose == Purpose::Rewrite,
        };
        let pid = std::process::id();
        let target = Target { place, header };
        match purpose {
            Purpose::Background => tracing::info!("Background saving started by pid {pid}"),
            Purpose::Rewrite => tracing::info!("Background append only file rewriting started by pid {pid}"),
            Purpose::Save | Purpose::Reload | Purpose::Shutdown => {}
        }
        saves.running = Some(saving.clone());
        saves.cut = (purpose == Purpose::Rewrite).then(|| (saving.clone(), 0));
        self.saving.store(true, Relaxed);
        drop(saves);
        let this = self.clone();
        let spawned = (self.spawn)(Box::new(move || {
            let outcome = feed.write(target).and_then(|()| finish(&saving));
            this.save_ended(&saving, outcome);
        }));
        if let Err(error) = spawned {
            let saving = self.saves().running.clone().expect("it was put there");
            self.save_ended(&saving, Err(Failure::Io(format!("Can't save in background: {error}"))));
        }
        Ok(())
    }

    fn save_ended(&self, saving: &Arc<Saving>, outcome: Result<(), Failure>) {
        // Before anybody learns of the end: shards stop walking for nothing.
        saving.give_up();
        self.saving.store(false, Relaxed);
        let outcome = match outcome {
            Err(Failure::GivenUp) if saving.has_stalled() => {
                Err(Failure::Io("Write error while saving DB to the disk: it did not keep up with changes".to_owned()))
            }
            outcome => outcome,
        };
        let mut saves = self.saves();
        let took_s = saving.started.elapsed().as_secs() as i64;
        if saving.purpose == Purpose::Rewrite {
            tell_rewrite(&mut saves.rewrites, took_s, outcome);
            saves.running = None;
            return self.ended.notify_all();
        }
        let in_background = saving.purpose == Purpose::Background;
        let last = &mut saves.last;
        last.ok = outcome.is_ok();
        match &outcome {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                last.saved_unix_s = saving.started_unix_s + took_s;
                last.changes = saving.changes.load(Relaxed);
            }
            Err(Failure::Io(reason)) => tracing::warn!("{reason}"),
            Err(Failure::GivenUp) => {}
        }
        if in_background {
            last.background_s = Some(took_s);
        }
        match outcome {
            Ok(()) => {
                // A save in the foreground shows as well that it works again.
                last.background_ok = true;
                self.save_failed.store(false, Relaxed);
                if in_background {
                    tracing::info!("Background saving terminated with success");
                }
            }
            Err(Failure::Io(_)) if in_background => {
                last.background_ok = false;
                self.save_failed.store(true, Relaxed);
                tracing::warn!("Background saving error");
            }
            Err(Failure::GivenUp) if in_background => tracing::warn!("Background saving terminated"),
            Err(_) => {}
        }
        saves.running = None;
        self.ended.notify_all();
    }

    /// The rewrite whose cut the shard that asks is at. It may have ended before it began: still the logs of all shards go on
    /// in one generation.
    pub fn cut(&self) -> Option<Arc<Saving>> {
        let mut saves = self.saves();
        let (saving, shards) = saves.cut.take()?;
        if shards + 1 < self.shards {
            saves.cut = Some((saving.clone(), shards + 1));
        }
        Some(saving)
    }

    /// Something is being saved.
    #[inline]
    pub fn is_saving(&self) -> bool {
        self.saving.load(Relaxed)
    }

    /// The save under way.
    pub fn running(&self) -> Option<Arc<Saving>> {
        self.saves().running.clone()
    }

    /// Waits for the end of a save; whether it succeeded. Only who may keep a shard waiting calls this.
    pub fn wait_for_save(&self) -> bool {
        let mut saves = self.saves();
        while saves.running.is_some() {
            saves = self.ended.wait(saves).expect("nothing panics while it holds the saves");
        }
        saves.last.ok
    }

    /// What the last load brought, for INFO.
    pub fn tell_load(&self, loaded: Loaded) {
        tell_loaded(loaded);
        self.saves().last.loaded = loaded;
    }

    /// Gives up a save in the background, running or scheduled.
    pub fn cancel(&self) -> Cancelled {
        let mut saves = self.saves();
        let was_scheduled = std::mem::take(&mut saves.scheduled);
        let running = saves.running.as_ref().filter(|saving| saving.purpose == Purpose::Background);
        match running.inspect(|saving| saving.give_up()) {
            Some(_) => Cancelled::Running,
            None if was_scheduled => Cancelled::Scheduled,
            None => Cancelled::Nothing,
        }
    }

    /// Gives up a rewrite; whether there was one.
    pub fn cancel_rewrite(&self) -> bool {
        let mut saves = self.saves();
        saves.rewrites.scheduled = false;
        let running = saves.running.as_ref().filter(|saving| saving.purpose == Purpose::Rewrite);
        running.inspect(|saving| saving.give_up()).is_some()
    }

    /// The process ends although it is being saved: what there is of the file goes.
    pub fn abandon_shutdown(&self) {
        if self.saves().running.as_ref().is_some_and(|saving| saving.purpose == Purpose::Shutdown) {
            // It may not have been made yet.
            let _ = std::fs::remove_file(temp_name(Purpose::Shutdown));
        }
    }

    /// Whether a signal has asked for the end, or it has been saved for that already.
    pub fn is_shutting_down(&self) -> bool {
        let is_asked_for = self.shutdown.lock().expect("nothing panics while it holds it").is_some();
        is_asked_for || self.running().is_some_and(|saving| saving.purpose == Purpose::Shutdown)
    }

    /// A rewrite could not begin: the next is tried later.
    pub fn rewrite_refused(&self, now: Now) {
        let rewrites = &mut self.saves().rewrites;
        (rewrites.ok, rewrites.scheduled, rewrites.tried_unix_s) = (false, false, now.unix_s());
    }

    /// A rewrite is to begin as soon as it may.
    pub fn schedule_rewrite(&self) {
        self.saves().rewrites.scheduled = true;
    }

    /// A save in the background is to begin as soon as it may.
    pub fn schedule_save(&self) {
        self.saves().scheduled = true;
    }

    pub fn rewrites(&self) -> Rewrites {
        self.saves().rewrites
    }

    /// Whether it is time for a rewrite: one is scheduled, or wanted for another reason. After one that failed the next
    /// that nobody asked for waits.
    pub fn is_rewrite_due(&self, now: Now, is_wanted: impl FnOnce() -> bool) -> bool {
        let saves = self.saves();
        if saves.running.is_some() || self.loading.is_under_way() {
            return false;
        }
        let may_try = saves.rewrites.ok || now.unix_s() - saves.rewrites.tried_unix_s > RETRY_S;
        saves.rewrites.scheduled || may_try && is_wanted()
    }

    pub fn last_saves(&self) -> LastSaves {
        self.saves().last.clone()
    }

    pub fn progress(&self) -> Progress {
        self.saves().running.as_ref().map_or(Progress::default(), |saving| Progress {
            in_background: saving.purpose == Purpose::Background,
            rewrites: saving.purpose == Purpose::Rewrite,
            seconds: saving.started.elapsed().as_secs() as i64,
            keys_saved: saving.keys_saved.load(Relaxed),
            keys_total: saving.keys_total.load(Relaxed),
            buffer_bytes: saving.buffer().0,
            buffer_bytes_max: saving.buffer().1,
        })
    }

    /// A shard's counter of changes, now and then.
    pub fn tell_changes(&self, shard: ShardId, changes: u64) {
        self.changes[shard].store(changes, Relaxed);
    }

    /// All databases were emptied: with `save` rules the file is to follow, as in Redis, lest a restart brings them back.
    /// One that is under way would only bring them back, too.
    pub fn tell_flush(&self, shard: ShardId) {
        self.flushed.store(true, Relaxed);
        if let Some(saving) =
            self.running().filter(|saving| saving.purpose == Purpose::Background && saving.has_begun(shard))
        {
            saving.give_up();
        }
    }

    /// Whether it is time for a save in the background: one is scheduled, or a rule of `save` is met.
    pub fn is_save_due(&self, now: Now, config: &Config) -> bool {
        let mut saves = self.saves();
        if self.flushed.swap(false, Relaxed) && !config.save.is_empty() {
            saves.scheduled = true;
        }
        if saves.running.is_some() || self.loading.is_under_way() || !self.is_real.load(Relaxed) {
            return false;
        }
        if saves.scheduled {
            return true;
        }
        let total: u64 = self.changes.iter().map(|changes| changes.load(Relaxed)).sum();
        let (changes, elapsed_s) = (total.saturating_sub(saves.last.changes), now.unix_s() - saves.last.saved_unix_s);
        let may_try = saves.last.background_ok || now.unix_s() - saves.last.tried_unix_s > RETRY_S;
        let met = config.save.iter().find(|point| changes >= point.changes as u64 && elapsed_s > point.seconds);
        let Some(point) = met.filter(|_| may_try) else { return false };
        tracing::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
        true
    }

    /// All shards load a file of this length from now on, or the append-only files, among them an RDB file perhaps.
    pub fn start_load(&self, bytes: u64, what: LoadOf, now: Now) {
        let loading = &self.loading;
        loading.bytes_total.store(bytes, Relaxed);
        loading.started_unix_s.store(now.unix_s(), Relaxed);
        let mut outcome = loading.outcome();
        (outcome.started, outcome.of) = (Some(Instant::now()), Some(what));
        drop(outcome);
        loading.shards.store(self.shards, Relaxed);
    }

    /// A shard has loaded its part, or could not.
    pub fn load_ended(&self, outcome: Result<Loaded, String>) {
        let mut all = self.loading.outcome();
        match outcome {
            Ok(loaded) => {
                all.loaded.keys += loaded.keys;
                all.loaded.expired += loaded.expired;
                all.loaded.empty += loaded.empty;
            }
            Err(error) => {
                tracing::warn!("{error}");
                all.error.get_or_insert(error);
            }
        }
        let is_last = self.loading.shards.load(Relaxed) == 1;
        if is_last && all.error.is_none() {
            let seconds = all.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
            if all.of != Some(LoadOf::Log { has_dump: false }) {
                self.tell_load(all.loaded);
            }
            match all.of {
                Some(LoadOf::Log { .. }) => tracing::info!("DB loaded from append only file: {seconds:.3} seconds"),
                _ => tracing::info!("DB loaded from disk: {seconds:.3} seconds"),
            }
        }
        // Before the next one asks whether it is the last.
        self.loading.shards.fetch_sub(1, Relaxed);
        drop(all);
        self.loading.ended.notify_all();
    }

    /// Waits until all is loaded, or the server stops before.
    pub fn wait_for_load(&self, stopping: &AtomicBool) -> Result<(), String> {
        let mut outcome = self.loading.outcome();
        loop {
            if let Some(error) = outcome.error.take() {
                return Err(error);
            }
            if !self.loading.is_under_way() || stopping.load(Relaxed) {
                return Ok(());
            }
            let waited = self.loading.ended.wait_timeout(outcome, Duration::from_millis(100));
            outcome = waited.expect("nothing panics while it holds the outcome").0;
        }
    }
}

/// One in the background may still be at its end while another begins.
fn temp_name(purpose: Purpose) -> String {
    let pid = std::process::id();
    if purpose.is_in_background() { format!("temp-{pid}-bg.rdb") } else { format!("temp-{pid}.rdb") }
}

/// A rewrite has ended.
fn tell_rewrite(rewrites: &mut Rewrites, took_s: i64, outcome: Result<(), Failure>) {
    rewrites.seconds = Some(took_s);
    rewrites.ok = outcome.is_ok();
    rewrites.failures = if outcome.is_ok() { 0 } else { rewrites.failures + 1 };
    match outcome {
        Ok(()) => {
            tracing::info!("Background AOF rewrite terminated with success");
            tracing::info!("Background AOF rewrite finished successfully");
        }
        Err(Failure::Io(reason)) => {
            tracing::warn!("{reason}");
            tracing::warn!("Background AOF rewrite terminated with error");
        }
        Err(Failure::GivenUp) => tracing::warn!("Background AOF rewrite terminated by signal"),
    }
}

/// How much was loaded, in the log.
fn tell_loaded(loaded: Loaded) {
    let Loaded { keys, expired, empty } = loaded;
    match empty {
        0 => tracing::info!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}."),
        _ => {
            tracing::info!(
                "Done loading RDB, keys loaded: {keys}, keys expired: {expired}, empty keys skipped: {empty}."
            );
        }
    }
}

impl Loading {
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.shards.load(Relaxed) > 0
    }

    fn outcome(&self) -> MutexGuard<'_, LoadOutcome> {
        self.outcome.lock().expect("nothing panics while it holds the outcome")
    }
}
