//! What a command without keys sees: its client's session, the shard it is on, and the facts of the process.
//!
//! A handler that needs the other shards too (INFO, CLIENT LIST, CONFIG SET) answers with [`Outcome::Everywhere`]: a
//! part that runs on every shard, its own included, and a merge that writes the reply where the client is. So no
//! shard reads another's memory.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::clock::Now;
use crate::base::ids::{ConnKey, ShardId};
use crate::base::metrics::Rate;
use crate::command::args::Args;
use crate::command::error;
use crate::command::spec::{Row, Spec};
use crate::config::rewrite::Missing;
use crate::config::{Config, SetError};
use crate::engine::parts::Evictions;
use crate::engine::pubsub::Kind;
use crate::engine::shard::Shard;
use crate::keyspace::slots::SlotMap;
use crate::persist::aof::Aof;
use crate::persist::aof::log::Log;
use crate::persist::aof::open::Plan;
use crate::persist::status::Persistence;
use crate::resp::reply::Reply;
use crate::script::store::Store;
use crate::session::{Session, Sessions};

pub type AdminFn = fn(&mut AdminCtx, &Args, &mut Reply) -> error::Result<Outcome>;
pub type AdminRow = Row<AdminFn>;

pub struct AdminCtx<'a> {
    pub shard: &'a mut Shard,
    pub sessions: &'a mut Sessions,
    /// Of the append-only file, while that is on.
    pub log: &'a mut Option<Box<Log>>,
    pub server: &'a Server,
    pub id: ShardId,
    /// Where keys are.
    pub slots: &'a SlotMap,
    pub now: Now,
    /// The client; in a part, only a name, as the client may be on another shard.
    pub conn: ConnKey,
    /// All commands, by name.
    pub specs: &'static [&'static Spec],
    /// Names of commands and subcommands, by `CommandId`: statistics are kept by these.
    pub names: &'static [&'static str],
    /// How fast this shard's counters grow.
    pub rate: Rate,
    /// The command runs inside EXEC: it must not make the client wait, nor turn its connection into something else.
    pub deny_blocking: bool,
    /// What follows when a merge returns.
    pub then: Then,
}

/// How a command over all shards goes on when its merge has run.
#[derive(Default)]
pub enum Then {
    /// The merge has written the reply.
    #[default]
    Reply,
    /// It has written nothing: other parts follow, and another merge.
    Everywhere(Everywhere),
    /// The server stops; no reply.
    Shutdown,
}

impl AdminCtx<'_> {
    /// The client's session. Not in a part.
    pub fn session(&mut self) -> &mut Session {
        self.sessions.at(self.conn)
    }

    /// All earlier commands of the client are answered. If not, an [`Outcome::Everywhere`] is dropped, and the handler
    /// runs again when they are.
    pub fn is_first_in_line(&mut self) -> bool {
        self.session().pipeline.is_empty()
    }
}

/// How a command goes on when its handler returns.
pub enum Outcome {
    /// The reply is written.
    Done,
    /// The handler wrote nothing; the parts run on all shards, then the merge replies.
    Everywhere(Everywhere),
    /// The same, between two transactions: on every shard all of a transaction has happened, or nothing.
    Cut(Everywhere),
    /// The client's transaction runs; its reply is the command's.
    Exec,
    /// The arguments are keys to be watched.
    Watch,
    /// Watched keys are forgotten.
    Unwatch,
    /// So they are, and the transaction ends.
    EndTransaction,
    /// The handler wrote nothing; its second argument is a message for the channel that is its first.
    Publish(Kind),
    /// The server stops; no reply.
    Shutdown,
}

pub struct Everywhere {
    pub part: PartFn,
    /// For the parts and the merge; usually the command's own.
    pub words: Vec<Vec<u8>>,
    pub merge: MergeFn,
}

impl Everywhere {
    pub fn outcome(part: PartFn, args: &Args, merge: MergeFn) -> Outcome {
        let words = args.words().iter().map(|word| word.to_vec()).collect();
        Outcome::Everywhere(Everywhere { part, words, merge })
    }
}

/// What one shard has to say.
pub type Part = Box<dyn Any + Send>;
pub type PartFn = fn(&mut AdminCtx, &[Vec<u8>]) -> Part;
/// Gets the parts in the order of shards.
pub type MergeFn = fn(&mut AdminCtx, &[Vec<u8>], Vec<Part>, &mut Reply) -> error::Result;

/// The parts as what they are. Panics if a part function returned something else.
pub fn downcast<T: 'static>(parts: Vec<Part>) -> impl Iterator<Item = T> {
    parts.into_iter().map(|part| *part.downcast::<T>().expect("a part and its merge agree on the type"))
}

/// What only the level of the process can do.
pub struct Hooks {
    /// Puts a change into effect that concerns the whole process, before the shards see it: old, then new.
    pub reconfigure: fn(&Config, &Config) -> Result<(), SetError>,
    /// Brings a config file up to date.
    pub rewrite_config: fn(&Path, &Config, Missing) -> Result<(), String>,
    /// What there is to load of append-only files.
    pub find_log: fn(&Config) -> Result<Option<Arc<Plan>>, String>,
    /// Opens the directory of the append-only file, which was off until now.
    pub open_aof: fn(&Server, &Config) -> Result<(), String>,
    /// Listens as a configuration says that takes the place of another: the sockets of so many shards.
    pub listen: fn(&Config, &Config, usize) -> Result<ShardSockets, SetError>,
}

/// Facts and counters of the process, the same for all shards.
pub struct Server {
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
    pub started_ms: i64,
    pub executable: PathBuf,
    pub config_file: Option<PathBuf>,
    pub shards: usize,
    pub tcp_port: u16,
    /// Who looks after the process: `no`, `systemd`, `upstart`.
    pub supervised: &'static str,
    /// The configuration as it is now. Shards hold it too, and get a new one by an [`Everywhere`]; this is where
    /// changes are made, one after the other.
    pub config: Mutex<Arc<Config>>,
    pub hooks: Hooks,
    pub next_client_id: AtomicU64,
    /// Connections by shard: a new one goes to the least loaded.
    pub connections: Vec<AtomicU32>,
    pub connections_received: AtomicU64,
    pub connections_rejected: AtomicU64,
    /// Set once; every shard leaves its loop when it sees it.
    pub stopping: AtomicBool,
    pub used_memory_peak: AtomicU64,
    pub used_memory_startup: AtomicU64,
    pub next_slowlog_id: AtomicU64,
    /// Clients that monitor, by shard.
    pub monitors: Vec<AtomicU32>,
    /// All of them.
    pub monitors_all: AtomicU32,
    pub persistence: Arc<Persistence>,
    pub aof: Arc<Aof>,
    /// Keys in the tracking tables of all shards.
    pub tracked_keys: AtomicU64,
    pub evictions: Arc<Evictions>,
    /// Bytes of the clients of each shard, while `maxmemory-clients` is set.
    pub client_bytes: Vec<AtomicU64>,
    /// A client has asked to have its reads tracked since the start.
    pub tracking_used: AtomicBool,
    /// Scripts and libraries that all shards know.
    pub scripts: Arc<Store>,
    pub sockets: NewSockets,
}

/// Listening sockets by shard.
pub type ShardSockets = Vec<Vec<OwnedFd>>;

/// What CONFIG SET has made to listen on, for the shards to take over.
#[derive(Default)]
pub struct NewSockets {
    changes: AtomicU64,
    by_shard: Mutex<ShardSockets>,
}

impl NewSockets {
    pub fn put(&self, sockets: ShardSockets) {
        *self.by_shard.lock().expect("nothing panics while it holds them") = sockets;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often there have been new ones.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub fn take(&self, shard: ShardId) -> Vec<OwnedFd> {
        let mut by_shard = self.by_shard.lock().expect("nothing panics while it holds them");
        by_shard.get_mut(shard).map(std::mem::take).unwrap_or_default()
    }
}

impl Server {
    /// Facts of a process that has not started a shard yet.
    pub fn new(run_id: String, started_ms: i64, shards: usize, config: Arc<Config>) -> Server {
        Server {
            run_id,
            started_ms,
            executable: std::env::current_exe().unwrap_or_default(),
            config_file: None,
            shards,
            tcp_port: config.port,
            supervised: "no",
            config: Mutex::new(config),
            hooks: Hooks {
                reconfigure: |_, _| Ok(()),
                rewrite_config: |_, _, _| Ok(()),
                find_log: |_| Ok(None),
                open_aof: |_, _| Ok(()),
                listen: |_, _, _| Ok(Vec::new()),
            },
            next_client_id: AtomicU64::new(1),
            connections: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            connections_received: AtomicU64::new(0),
            connections_rejected: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            used_memory_peak: AtomicU64::new(0),
            used_memory_startup: AtomicU64::new(0),
            next_slowlog_id: AtomicU64::new(0),
            monitors: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            monitors_all: AtomicU32::new(0),
            persistence: Arc::new(Persistence::new(shards, started_ms / 1000)),
            aof: Arc::new(Aof::new(shards)),
            tracked_keys: AtomicU64::new(0),
            evictions: Arc::new(Evictions::new(shards)),
            client_bytes: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            tracking_used: AtomicBool::new(false),
            scripts: Arc::default(),
            sockets: NewSockets::default(),
        }
    }

    /// The configuration, to look at or to replace.
    pub fn config(&self) -> MutexGuard<'_, Arc<Config>> {
        self.config.lock().expect("nothing panics while it holds the configuration")
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stat(&self) {
        self.connections_received.store(0, Relaxed);
        self.connections_rejected.store(0, Relaxed);
    }

    /// So many clients of a shard monitor: the others see whom to send lines to.
    pub fn set_monitors(&self, shard: ShardId, count: usize) {
        let count = count as u32;
        let before = self.monitors[shard].swap(count, Relaxed);
        if before != count {
            self.monitors_all.fetch_add(count.wrapping_sub(before), Relaxed);
        }
    }

    /// Some client wants to see every command.
    pub fn is_monitored(&self) -> bool {
        self.monitors_all.load(Relaxed) > 0
    }

    pub fn clients(&self) -> usize {
        self.connections.iter().map(|count| count.load(Relaxed) as usize).sum()
    }
}
