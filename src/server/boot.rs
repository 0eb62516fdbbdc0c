//! From a configuration to running shards, and to their end.
//!
//! The order matters where the operating system is involved: into the background and on with the log before there is a
//! second thread; addresses before shards, so that a server that cannot listen says so and exits; readiness last.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use tracing::{error, info, warn};

use super::shutdown::{self, Traces};
use super::supervisor::Supervisor;
use super::{append_only, listen, log, reconfigure};
use crate::admin::ctx::{Hooks, Server};
use crate::base::clock::Now;
use crate::base::limits::MAILBOX_MESSAGES;
use crate::base::rng::Rng;
use crate::command::ctx::ShardCtx;
use crate::config::Config;
use crate::core::Core;
use crate::engine::memory::limit_of;
use crate::keyspace::slots::SlotMap;
use crate::keyspace::{HashSeeds, Keyspace};
use crate::net::ring::probe;
use crate::persist::aof::load::Deal;
use crate::persist::status::LoadOf;
use crate::runtime::mesh::{self, ShardMesh};
use crate::runtime::shard_loop::{Listener, ShardLoop};
use crate::sys::{affinity, clock, memory, process, signal};
use crate::tool::check;

/// Memory of glommio's own registered buffers: its smallest, as the network does not go through it.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
const EXECUTOR_RING_ENTRIES: usize = 8;
/// The thread that takes signals does little.
const SIGNAL_STACK_BYTES: usize = 64 * 1024;
/// Where the pid goes if the server runs in the background and nothing else is said.
const DEFAULT_PID_FILE: &str = "/var/run/peristyle.pid";

/// Runs the server until it is told to stop. Whether it could; if not, the reason has been told: in the log, or on
/// standard error where there is no log yet.
pub fn run(config: Config, config_file: Option<PathBuf>) -> bool {
    signal::block();
    let supervisor = Supervisor::find(config.supervised);
    let prepared = check_log_file(&config).and_then(|()| match config.daemonize && supervisor == Supervisor::None {
        true => process::daemonize().map_err(|error| format!("Can't go to the background: {error}")),
        false => Ok(()),
    });
    if let Err(reason) = prepared {
        eprintln!("{reason}");
        return false;
    }
    log::start(&config);
    reconfigure::tell_crashes(&config);
    abort_on_panic();
    start(config, config_file, supervisor).inspect_err(|reason| warn!("{reason}")).is_ok()
}

/// The operating system's text of an error, as C programs print it.
pub fn text_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn check_log_file(config: &Config) -> Result<(), String> {
    if config.logfile.is_empty() {
        return Ok(());
    }
    match std::fs::OpenOptions::new().create(true).append(true).open(&config.logfile) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("Can't open the log file: {}", text_of(&error))),
    }
}

fn start(mut config: Config, config_file: Option<PathBuf>, supervisor: Supervisor) -> Result<(), String> {
    let shards = match config.shards {
        0 => affinity::allowed_cpus().len().min(affinity::quota_cpus().unwrap_or(usize::MAX)),
        shards => shards as usize,
    };
    let version = env!("CARGO_PKG_VERSION");
    info!("Peristyle {version} is starting, {shards} shards, PID: {}", std::process::id());
    match &config_file {
        Some(_) => info!("Configuration loaded"),
        None => warn!("Warning: no config file specified, using the default config."),
    }
    supervisor.begin();
    info!("{}", probe()?);
    if config.disable_thp
        && process::huge_pages_are_forced()
        && let Err(error) = process::disable_huge_pages()
    {
        warn!("Unable to disable transparent huge pages: {}", text_of(&error));
    }
    std::env::set_current_dir(&config.dir).map_err(|error| format!("Can't chdir to '{}': {error}", config.dir))?;
    config.maxclients = reconfigure::raise_descriptor_limit(config.maxclients, shards).max(1);
    if let Err(error) = reconfigure::adjust_oom_score(&config) {
        warn!("Unable to write oom_score_adj: {error}");
    }
    let maxmemory = limit_of(&config);
    if maxmemory > 0 && maxmemory < 1024 * 1024 {
        warn!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {maxmemory} bytes). Are \
             you sure this is what you really want?"
        );
    }
    warn_of_small_backlog(config.tcp_backlog);

    let sockets = listen::everywhere(&config, shards)?;
    let traces = Traces {
        unix_socket: (!config.unixsocket.is_empty()).then(|| PathBuf::from(&config.unixsocket)),
        pid_file: write_pid_file(&config, supervisor),
    };
    let outcome = serve(config, config_file, sockets, supervisor);
    traces.remove();
    if outcome.is_ok() {
        warn!("Peristyle is now ready to exit, bye bye...");
    }
    outcome
}

/// Runs the shards, which own the listening sockets, until all have ended.
fn serve(
    config: Config,
    config_file: Option<PathBuf>,
    mut sockets: Vec<Vec<Listener>>,
    supervisor: Supervisor,
) -> Result<(), String> {
    let shards = sockets.len();
    let mut seeds = seed_of_the_process();
    let run_id = (0..5).map(|_| format!("{:08x}", seeds.next_u64() as u32)).collect();
    let config = Arc::new(config);
    let mut server = Server::new(run_id, clock::unix_us() / 1000, shards, config.clone());
    server.config_file = config_file;
    server.supervised = supervisor.name();
    server.hooks = Hooks {
        reconfigure: reconfigure::apply,
        rewrite_config: reconfigure::rewrite,
        find_log: append_only::find,
        open_aof: append_only::open_again,
        listen: listen::again,
    };
    let server = Arc::new(server);
    info!("Running mode=standalone, port={}.", config.port);
    info!("Server initialized");
    server.persistence.is_real.store(true, Relaxed);
    let now = || Now { unix_ms: clock::unix_us() / 1000, mono_ns: clock::mono_ns() };
    let dump = if config.appendonly { None } else { find_dump(&config)? };
    let plan = if config.appendonly { append_only::find(&config)? } else { None };
    if let Some(bytes) = dump {
        server.persistence.start_load(bytes, LoadOf::Dump, now());
    } else if let Some(plan) = &plan {
        server.persistence.start_load(plan.bytes(), LoadOf::Log { has_dump: plan.has_dump() }, now());
    }
    if config.appendonly {
        append_only::open(&server, &config, plan.as_deref())?;
    }
    append_only::start_rounds(&server)?;
    let slots = SlotMap::contiguous(shards).colocating(&config.colocate_prefixes);
    let deal = Deal::new(shards);
    let hash_seeds = HashSeeds([seeds.next_u64(), seeds.next_u64(), seeds.next_u64(), seeds.next_u64()]);
    let meshes = mesh::connect(shards, MAILBOX_MESSAGES, clock::mono_ns);
    let stations = meshes[0].stations().clone();
    let (started, starts) = mpsc::channel();
    let mut threads = Vec::new();
    for (mesh, cpu) in meshes.into_iter().zip(affinity::place(shards)) {
        let (id, seed) = (mesh.id(), seeds.next_u64());
        let keyspace = Keyspace::new(config.databases as usize, hash_seeds, clock::unix_us() / 1000);
        let ctx = ShardCtx::new(keyspace, config.clone(), seed, id, slots.clone());
        let mut core = Core::new(id, ctx, server.clone(), clock::ticks_ns);
        if dump.is_some() {
            core.set_now(now());
            begin_load(&mut core, &config)?;
        } else if let Some(plan) = &plan {
            core.set_now(now());
            core.begin_load_log(plan.clone(), &deal);
        }
        threads.push(spawn(core, mesh, std::mem::take(&mut sockets[id]), cpu, started.clone())?);
    }
    for _ in 0..shards {
        starts.recv().expect("each shard tells how its start went")?;
    }
    server.used_memory_startup.store(memory::used_bytes() as u64, Relaxed);
    let watched = (server.clone(), stations.clone());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(SIGNAL_STACK_BYTES)
        .spawn(move || shutdown::watch_signals(&watched.0, &watched.1))
        .map_err(|error| format!("Can't start the thread that takes signals: {error}"))?;
    let loaded = server.persistence.wait_for_load(&server.stopping).map_err(|_| {
        if dump.is_some() {
            tell_damage(&config.dbfilename);
        }
        FATAL_LOAD.to_owned()
    });
    if loaded.is_err() {
        shutdown::stop(&server, &stations);
    } else if !server.stopping.load(Relaxed) {
        tell_ready(&config);
        supervisor.ready();
    }

    let mut outcome = loaded;
    for thread in threads {
        let ended = thread.join().map_err(|error| error.to_string()).and_then(|end| end);
        if let Err(reason) = ended {
            // One shard alone cannot go on: its keys would be missing.
            shutdown::stop(&server, &stations);
            outcome = Err(reason);
        }
    }
    supervisor.stopping();
    server.aof.rounds.stop();
    // Nobody fills the file of a save that may still be under way.
    server.persistence.cancel();
    server.persistence.wait_for_save();
    outcome
}

/// What the log says when there is a file that cannot be loaded.
const FATAL_LOAD: &str = "Fatal error loading the DB, check server logs. Exiting.";

/// The length of the file to load, if there is one.
fn find_dump(config: &Config) -> Result<Option<u64>, String> {
    match std::fs::metadata(&config.dbfilename) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("Fatal error loading the DB: {}. Exiting.", text_of(&error))),
    }
}

fn begin_load(core: &mut Core, config: &Config) -> Result<(), String> {
    let file = File::open(&config.dbfilename)
        .map_err(|error| format!("Fatal error loading the DB: {}. Exiting.", text_of(&error)))?;
    core.begin_load(file).map_err(|error| {
        warn!("{error}");
        FATAL_LOAD.to_owned()
    })
}

/// Says what `peristyle check` finds in a file that could not be loaded, as Redis does.
fn tell_damage(name: &str) {
    let mut said = Vec::new();
    let checked = File::open(name).and_then(|file| check::check(file, name, clock::unix_us() / 1000, &mut said));
    String::from_utf8_lossy(&said).lines().for_each(|line| warn!("{line}"));
    if let Err(error) = checked {
        warn!("{}", text_of(&error));
    }
    warn!("Terminating server after rdb file reading failure.");
}

fn tell_ready(config: &Config) {
    if config.port != 0 {
        info!("Ready to accept connections tcp");
    }
    if !config.unixsocket.is_empty() {
        info!("Ready to accept connections unix");
    }
}

type ShardThread = ExecutorJoinHandle<Result<(), String>>;

/// Starts the thread of a shard, which tells through `started` whether it runs.
fn spawn(
    core: Core,
    mesh: ShardMesh,
    listeners: Vec<Listener>,
    cpu: usize,
    started: mpsc::Sender<Result<(), String>>,
) -> Result<ShardThread, String> {
    let id = core.id;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{id}"))
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_ENTRIES);
    let run = move || async move {
        let reason = |error: io::Error| format!("Shard {id}: {error}");
        match ShardLoop::new(core, mesh, listeners) {
            Ok(shard) => {
                // The other end is gone if another shard has failed; then the process ends.
                let _ = started.send(Ok(()));
                shard.run().map_err(reason)
            }
            Err(error) => {
                let _ = started.send(Err(reason(error)));
                Ok(())
            }
        }
    };
    executor.spawn(run).map_err(|error| format!("Shard {id} cannot start: {error}"))
}

/// A broken invariant ends the process: losing it beats losing the data.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = std::thread::current();
        error!("=== PERISTYLE BUG REPORT: {} in thread {}", panic, thread.name().unwrap_or("?"));
        std::process::abort();
    }));
}

fn seed_of_the_process() -> Rng {
    use std::hash::{BuildHasher, RandomState};
    Rng::new(RandomState::new().hash_one(clock::unix_us()))
}

fn warn_of_small_backlog(backlog: u32) {
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
    if let Some(limit) = limit.filter(|&limit: &u32| limit < backlog) {
        warn!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because /proc/sys/net/core/somaxconn is \
             set to the lower value of {limit}."
        );
    }
}

/// The pid file's path, if there is one now.
fn write_pid_file(config: &Config, supervisor: Supervisor) -> Option<PathBuf> {
    let in_background = config.daemonize && supervisor == Supervisor::None;
    let path = match config.pidfile.as_str() {
        "" if in_background => DEFAULT_PID_FILE,
        "" => return None,
        path => path,
    };
    match std::fs::write(path, format!("{}\n", std::process::id())) {
        Ok(()) => Some(PathBuf::from(path)),
        Err(error) => {
            warn!("Failed to write PID file: {}", text_of(&error));
            None
        }
    }
}
