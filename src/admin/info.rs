//! INFO: the table of its fields, and how their values are gathered from all shards.
//!
//! Each shard hands over its figures as a part; a field is a function of all of them together. Only what is true is
//! shown: a field of Redis's that has no counterpart here is left out, one whose subject does not exist here is 0.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, Server, downcast};
use crate::base::clock::Now;
use crate::base::metrics::{CommandStats, Rate, Traffic, Turns};
use crate::command::args::Args;
use crate::command::ctx::KeyStats;
use crate::command::error::Result;
use crate::command::spec::*;
use crate::config::Config;
use crate::config::value::percentile_text;
use crate::engine::lease::LeaseStats;
use crate::engine::lock::LockStats;
use crate::engine::memory::limit_of;
use crate::engine::pause::{ClientPause, Paused};
use crate::engine::pubsub::{KINDS, Kind};
use crate::keyspace::expire;
use crate::persist::status::{LastSaves, Progress};
use crate::resp::reply::Reply;
use crate::script::shard::ScriptMemory;
use crate::sys::memory::{self, AllocatorMemory};
use crate::sys::process::{self, CpuTime};

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: info as AdminFn,
    spec: Spec {
        name: "info",
        arity: AtLeast(1),
        flags: LOADING.and(STALE),
        categories: category::DANGEROUS,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns figures about the server, in sections.",
        args: &[string("section").optional().multiple()],
        history: &[("7.0.0", "Added support for taking multiple section arguments.")],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..SERVER
    },
}];

/// The version of the Redis whose behaviour this is: clients and libraries decide by it what they may send.
pub use crate::config::parse::REDIS_VERSION;

struct Section {
    /// As it is shown; asked for in any case.
    name: &'static str,
    /// Shown without being asked for.
    by_default: bool,
    content: &'static [Content],
}

enum Content {
    Fields(&'static [Field]),
    /// As many lines as there are things to tell of.
    Lines(fn(&Totals, &mut String)),
}

type Field = (&'static str, fn(&Totals) -> String);

/// THE table.
const SECTIONS: &[Section] = &[
    Section {
        name: "Server",
        by_default: true,
        content: &[Content::Fields(SERVER_FIELDS), Content::Lines(listener_lines)],
    },
    Section { name: "Clients", by_default: true, content: &[Content::Fields(CLIENTS)] },
    Section { name: "Memory", by_default: true, content: &[Content::Fields(MEMORY)] },
    Section {
        name: "Persistence",
        by_default: true,
        content: &[Content::Fields(PERSISTENCE), Content::Lines(aof_lines), Content::Lines(loading_lines)],
    },
    Section { name: "Stats", by_default: true, content: &[Content::Fields(STATS)] },
    Section { name: "Replication", by_default: true, content: &[Content::Fields(REPLICATION)] },
    Section { name: "CPU", by_default: true, content: &[Content::Fields(CPU)] },
    Section { name: "Modules", by_default: true, content: &[Content::Fields(&[])] },
    Section { name: "Commandstats", by_default: false, content: &[Content::Lines(command_lines)] },
    Section { name: "Errorstats", by_default: true, content: &[Content::Lines(error_lines)] },
    Section { name: "Latencystats", by_default: false, content: &[Content::Lines(latency_lines)] },
    Section { name: "Cluster", by_default: true, content: &[Content::Fields(CLUSTER)] },
    Section { name: "Keyspace", by_default: true, content: &[Content::Lines(keyspace_lines)] },
    Section { name: "Debug", by_default: false, content: &[Content::Fields(DEBUG)] },
    Section { name: "Shards", by_default: false, content: &[Content::Lines(shard_lines)] },
];

const SERVER_FIELDS: &[Field] = &[
    ("redis_version", |_| REDIS_VERSION.into()),
    ("server_name", |_| "peristyle".into()),
    ("peristyle_version", |_| env!("CARGO_PKG_VERSION").into()),
    // As Redis shows them where it was not built from a repository.
    ("redis_git_sha1", |_| "00000000".into()),
    ("redis_git_dirty", |_| "0".into()),
    ("redis_mode", |_| "standalone".into()),
    ("server_mode", |_| "standalone".into()),
    ("os", |_| process::system_name()),
    ("arch_bits", |_| usize::BITS.to_string()),
    ("monotonic_clock", |_| "POSIX clock_gettime".into()),
    ("multiplexing_api", |_| "io_uring".into()),
    ("process_id", |_| std::process::id().to_string()),
    ("process_supervised", |t| t.server.supervised.into()),
    ("run_id", |t| t.server.run_id.clone()),
    ("tcp_port", |t| t.config.port.to_string()),
    ("server_time_usec", |t| t.now.unix_us().to_string()),
    ("uptime_in_seconds", |t| t.uptime_s().to_string()),
    ("uptime_in_days", |t| (t.uptime_s() / 86_400).to_string()),
    ("hz", |t| t.config.hz.to_string()),
    ("configured_hz", |t| t.config.hz.to_string()),
    ("lru_clock", |t| (t.now.unix_s() & 0xff_ffff).to_string()),
    ("executable", |t| t.server.executable.display().to_string()),
    ("config_file", |t| t.server.config_file.as_ref().map_or(String::new(), |path| path.display().to_string())),
    ("io_threads_active", |_| "0".into()),
    ("shards", |t| t.server.shards.to_string()),
];

const CLIENTS: &[Field] = &[
    ("connected_clients", |t| t.sum(|shard| shard.clients.connected)),
    ("cluster_connections", |_| "0".into()),
    ("maxclients", |t| t.config.maxclients.to_string()),
    ("client_recent_max_input_buffer", |t| t.max(|shard| shard.clients.query_bytes_max)),
    ("client_recent_max_output_buffer", |t| t.max(|shard| shard.clients.output_bytes_max)),
    ("blocked_clients", |t| t.sum(|shard| shard.clients.blocked)),
    ("tracking_clients", |t| t.sum(|shard| shard.tracking.clients)),
    ("pubsub_clients", |t| t.sum(|shard| shard.clients.subscribed)),
    ("watching_clients", |t| t.sum(|shard| shard.clients.watching)),
    ("clients_in_timeout_table", |t| t.sum(|shard| shard.clients.in_timeout_table)),
    ("total_watched_keys", |t| t.sum(|shard| shard.watched_keys)),
    ("total_blocking_keys", |t| t.sum(|shard| shard.blocking_keys)),
    ("total_blocking_keys_on_nokey", |t| t.sum(|shard| shard.blocking_keys_minding_removal)),
    ("paused_reason", |t| if t.pause.paused().is_some() { "client_pause" } else { "none" }.into()),
    ("paused_actions", |t| {
        match t.pause.paused() {
            None => "none",
            Some(Paused::All) => "all",
            Some(Paused::Writes) => "write",
        }
        .into()
    }),
    ("paused_timeout_milliseconds", |t| t.pause.remaining_ms(t.now).to_string()),
];

const MEMORY: &[Field] = &[
    ("used_memory", |t| t.memory.used.to_string()),
    ("used_memory_human", |t| human(t.memory.used)),
    ("used_memory_rss", |t| t.memory.resident.to_string()),
    ("used_memory_rss_human", |t| human(t.memory.resident)),
    ("used_memory_peak", |t| t.memory.peak.to_string()),
    ("used_memory_peak_human", |t| human(t.memory.peak)),
    ("used_memory_peak_perc", |t| percent(t.memory.used, t.memory.peak)),
    ("used_memory_overhead", |t| t.memory.overhead().to_string()),
    ("used_memory_startup", |t| t.memory.startup.to_string()),
    ("used_memory_dataset", |t| t.memory.dataset().to_string()),
    ("used_memory_dataset_perc", |t| percent(t.memory.dataset(), t.memory.since_startup())),
    ("allocator_allocated", |t| t.memory.used.to_string()),
    ("allocator_active", |t| t.memory.allocator.committed.to_string()),
    ("total_system_memory", |_| process::physical_memory_bytes().to_string()),
    ("total_system_memory_human", |_| human(process::physical_memory_bytes())),
    ("used_memory_lua", |t| t.scripts().eval_vm.to_string()),
    ("used_memory_vm_eval", |t| t.scripts().eval_vm.to_string()),
    ("used_memory_lua_human", |t| human(t.scripts().eval_vm as u64)),
    ("used_memory_scripts_eval", |t| t.scripts().eval_cache.to_string()),
    ("number_of_cached_scripts", |t| t.server.scripts.scripts_len().to_string()),
    ("number_of_functions", |t| t.server.scripts.functions_len().to_string()),
    ("number_of_libraries", |t| t.server.scripts.libraries().1.len().to_string()),
    ("used_memory_vm_functions", |t| t.scripts().function_vm.to_string()),
    ("used_memory_vm_total", |t| t.scripts().vm_total().to_string()),
    ("used_memory_vm_total_human", |t| human(t.scripts().vm_total() as u64)),
    ("used_memory_functions", |t| t.scripts().function_cache.to_string()),
    ("used_memory_scripts", |t| t.scripts().cache_total().to_string()),
    ("used_memory_scripts_human", |t| human(t.scripts().cache_total() as u64)),
    ("maxmemory", |t| limit_of(&t.config).to_string()),
    ("maxmemory_human", |t| human(limit_of(&t.config))),
    ("maxmemory_policy", |t| policy(&t.config)),
    ("allocator_frag_ratio", |t| ratio(t.memory.allocator.committed, t.memory.used)),
    ("allocator_frag_bytes", |t| difference(t.memory.allocator.committed, t.memory.used)),
    ("mem_fragmentation_ratio", |t| ratio(t.memory.resident, t.memory.used)),
    ("mem_fragmentation_bytes", |t| difference(t.memory.resident, t.memory.used)),
    ("mem_not_counted_for_evict", |_| "0".into()),
    ("mem_replication_backlog", |_| "0".into()),
    ("mem_total_replication_buffers", |_| "0".into()),
    ("mem_clients_slaves", |_| "0".into()),
    ("mem_clients_normal", |t| t.memory.clients.to_string()),
    ("mem_cluster_links", |_| "0".into()),
    ("mem_aof_buffer", |_| "0".into()),
    ("mem_allocator", |_| memory::allocator_name()),
    ("active_defrag_running", |_| "0".into()),
    ("lazyfree_pending_objects", |t| t.sum(|shard| shard.lazyfree_pending)),
    ("lazyfreed_objects", |t| t.sum(|shard| shard.lazyfreed)),
];

const PERSISTENCE: &[Field] = &[
    ("loading", |t| flag(t.server.persistence.loading.is_under_way())),
    ("async_loading", |_| "0".into()),
    // Nothing here forks: nothing is copied on write.
    ("current_cow_peak", |_| "0".into()),
    ("current_cow_size", |_| "0".into()),
    ("current_cow_size_age", |_| "0".into()),
    ("current_fork_perc", |t| format!("{:.2}", t.saving.percent())),
    ("current_save_keys_processed", |t| t.saving.keys_saved.to_string()),
    ("current_save_keys_total", |t| t.saving.keys_total.to_string()),
    // Our own: `snapshot-buffer-max`.
    ("snapshot_buffer_bytes", |t| t.saving.buffer_bytes.to_string()),
    ("snapshot_buffer_bytes_max", |t| t.saving.buffer_bytes_max.to_string()),
    ("snapshot_holds_keys", |t| flag(t.shards.iter().any(|shard| shard.holds_keys))),
    ("snapshot_keys_held", |t| t.sum(|shard| shard.locks.held)),
    ("rdb_changes_since_last_save", |t| {
        t.shards.iter().map(|shard| shard.changes).sum::<u64>().saturating_sub(t.saves.changes).to_string()
    }),
    ("rdb_bgsave_in_progress", |t| flag(t.saving.in_background)),
    ("rdb_last_save_time", |t| t.saves.saved_unix_s.to_string()),
    ("rdb_last_bgsave_status", |t| if t.saves.background_ok { "ok".into() } else { "err".into() }),
    ("rdb_last_bgsave_time_sec", |t| t.saves.background_s.unwrap_or(-1).to_string()),
    (
        "rdb_current_bgsave_time_sec",
        |t| if t.saving.in_background { t.saving.seconds.to_string() } else { "-1".into() },
    ),
    ("rdb_saves", |t| t.saves.saves.to_string()),
    ("rdb_last_cow_size", |_| "0".into()),
    ("rdb_last_load_keys_expired", |t| t.saves.loaded.expired.to_string()),
    ("rdb_last_load_keys_loaded", |t| t.saves.loaded.keys.to_string()),
    ("aof_enabled", |t| flag(t.config.appendonly)),
    ("aof_rewrite_in_progress", |t| flag(t.saving.rewrites || t.is_aof_beginning() && !t.saving.in_background)),
    ("aof_rewrite_scheduled", |t| {
        flag(t.server.persistence.rewrites().scheduled || t.is_aof_beginning() && t.saving.in_background)
    }),
    ("aof_last_rewrite_time_sec", |t| t.server.persistence.rewrites().seconds.unwrap_or(-1).to_string()),
    ("aof_current_rewrite_time_sec", |t| if t.saving.rewrites { t.saving.seconds.to_string() } else { "-1".into() }),
    ("aof_last_bgrewrite_status", |t| status(t.server.persistence.rewrites().ok)),
    ("aof_rewrites", |t| t.server.persistence.rewrites().count.to_string()),
    ("aof_rewrites_consecutive_failures", |t| t.server.persistence.rewrites().failures.to_string()),
    ("aof_last_write_status", |t| status(!t.server.aof.is_failing())),
    ("aof_last_cow_size", |_| "0".into()),
    ("module_fork_in_progress", |_| "0".into()),
    ("module_fork_last_cow_size", |_| "0".into()),
];

fn status(is_ok: bool) -> String {
    if is_ok { "ok".into() } else { "err".into() }
}

/// Only while there is an append-only file.
fn aof_lines(totals: &Totals, text: &mut String) {
    let aof = &totals.server.aof;
    if !aof.is_on() {
        return;
    }
    line(text, format_args!("aof_current_size:{}", aof.size()));
    line(text, format_args!("aof_base_size:{}", aof.base_size()));
    line(text, format_args!("aof_pending_rewrite:0"));
    line(text, format_args!("aof_buffer_length:0"));
    line(text, format_args!("aof_pending_bio_fsync:{}", u8::from(aof.rounds.is_under_way())));
    line(text, format_args!("aof_delayed_fsync:{}", aof.rounds.delayed.load(Relaxed)));
}

fn loading_lines(totals: &Totals, text: &mut String) {
    let loading = &totals.server.persistence.loading;
    if !loading.is_under_way() {
        return;
    }
    let (total, loaded) = (loading.bytes_total.load(Relaxed), loading.bytes_loaded.load(Relaxed));
    let started = loading.started_unix_s.load(Relaxed);
    let elapsed_s = (totals.now.unix_s() - started).max(0) as u64;
    let eta_s = (elapsed_s * total.saturating_sub(loaded)).checked_div(loaded).unwrap_or(1);
    line(text, format_args!("loading_start_time:{started}"));
    line(text, format_args!("loading_total_bytes:{total}"));
    line(text, format_args!("loading_loaded_bytes:{loaded}"));
    line(text, format_args!("loading_loaded_perc:{:.2}", 100.0 * loaded as f64 / total.max(1) as f64));
    line(text, format_args!("loading_eta_seconds:{eta_s}"));
}

fn flag(is_so: bool) -> String {
    u8::from(is_so).to_string()
}

const STATS: &[Field] = &[
    ("total_connections_received", |t| t.server.connections_received.load(Relaxed).to_string()),
    ("total_commands_processed", |t| t.commands.total.to_string()),
    ("instantaneous_ops_per_sec", |t| format!("{:.0}", t.rate.commands)),
    ("total_net_input_bytes", |t| t.traffic.received_bytes.to_string()),
    ("total_net_output_bytes", |t| t.traffic.sent_bytes.to_string()),
    ("total_net_repl_input_bytes", |_| "0".into()),
    ("total_net_repl_output_bytes", |_| "0".into()),
    ("instantaneous_input_kbps", |t| format!("{:.2}", t.rate.received_bytes / 1024.0)),
    ("instantaneous_output_kbps", |t| format!("{:.2}", t.rate.sent_bytes / 1024.0)),
    ("instantaneous_input_repl_kbps", |_| "0.00".into()),
    ("instantaneous_output_repl_kbps", |_| "0.00".into()),
    ("eventloop_cycles", |t| t.turns.count.to_string()),
    ("eventloop_duration_sum", |t| (t.turns.total_ns / 1000).to_string()),
    ("eventloop_duration_cmd_sum", |t| (t.turns.commands_ns / 1000).to_string()),
    ("instantaneous_eventloop_cycles_per_sec", |t| format!("{:.0}", t.rate.turns)),
    ("instantaneous_eventloop_duration_usec", |t| format!("{:.0}", t.rate.turn_us)),
    ("rejected_connections", |t| t.server.connections_rejected.load(Relaxed).to_string()),
    ("sync_full", |_| "0".into()),
    ("sync_partial_ok", |_| "0".into()),
    ("sync_partial_err", |_| "0".into()),
    ("expired_keys", |t| t.keys.expired.to_string()),
    ("expired_stale_perc", |t| format!("{:.2}", t.stale_percent())),
    ("expired_time_cap_reached_count", |t| t.sum(|shard| shard.expire_cap_reached)),
    ("expire_cycle_cpu_milliseconds", |t| {
        (t.shards.iter().map(|shard| shard.expire_cpu_ns).sum::<u64>() / 1_000_000).to_string()
    }),
    ("evicted_keys", |t| t.keys.evicted.to_string()),
    ("evicted_clients", |t| t.traffic.evicted_clients.to_string()),
    ("evicted_scripts", |t| t.sum(|shard| shard.scripts_evicted)),
    ("total_eviction_exceeded_time", |t| t.max(|shard| shard.exceeded_ms[0])),
    ("current_eviction_exceeded_time", |t| t.max(|shard| shard.exceeded_ms[1])),
    ("keyspace_hits", |t| t.keys.hits.to_string()),
    ("keyspace_misses", |t| t.keys.misses.to_string()),
    ("pubsub_channels", |t| t.sum(|shard| shard.names(Kind::Channel))),
    // Every shard knows all patterns.
    ("pubsub_patterns", |t| t.max(|shard| shard.names(Kind::Pattern))),
    ("pubsubshard_channels", |t| t.sum(|shard| shard.names(Kind::ShardChannel))),
    // Nothing here forks, and nothing is sent to other servers.
    ("latest_fork_usec", |_| "0".into()),
    ("total_forks", |_| "0".into()),
    ("migrate_cached_sockets", |_| "0".into()),
    ("slave_expires_tracked_keys", |_| "0".into()),
    ("active_defrag_hits", |_| "0".into()),
    ("active_defrag_misses", |_| "0".into()),
    ("active_defrag_key_hits", |_| "0".into()),
    ("active_defrag_key_misses", |_| "0".into()),
    ("tracking_total_keys", |t| t.sum(|shard| shard.tracking.keys)),
    ("tracking_total_items", |t| t.sum(|shard| shard.tracking.items)),
    // Each shard knows all of them.
    ("tracking_total_prefixes", |t| t.max(|shard| shard.tracking.prefixes)),
    ("unexpected_error_replies", |_| "0".into()),
    ("total_error_replies", |t| t.commands.errors.values().sum::<u64>().to_string()),
    ("dump_payload_sanitizations", |_| "0".into()),
    ("total_reads_processed", |t| t.traffic.reads.to_string()),
    ("total_writes_processed", |t| t.traffic.writes.to_string()),
    ("io_threaded_reads_processed", |_| "0".into()),
    ("io_threaded_writes_processed", |_| "0".into()),
    ("client_query_buffer_limit_disconnections", |t| t.traffic.query_limit_disconnections.to_string()),
    ("client_output_buffer_limit_disconnections", |t| t.traffic.output_limit_disconnections.to_string()),
    ("transactions_single_hop", |t| t.sum(|shard| shard.locks.single_hop)),
    ("transactions_locked", |t| t.sum(|shard| shard.locks.locked)),
    ("transactions_waited", |t| t.sum(|shard| shard.locks.waited)),
    // How often a shard took all locks for scripts that may touch any key, and how many ran so.
    ("script_leases", |t| t.sum(|shard| shard.leases.leases)),
    ("scripts_leased", |t| t.sum(|shard| shard.leases.scripts)),
    ("acl_access_denied_auth", |t| t.errors("WRONGPASS")),
    ("acl_access_denied_cmd", |_| "0".into()),
    ("acl_access_denied_key", |_| "0".into()),
    ("acl_access_denied_channel", |_| "0".into()),
];

/// Shown to who names it.
const DEBUG: &[Field] = &[
    ("eventloop_duration_aof_sum", |t| (t.turns.log_ns / 1000).to_string()),
    ("eventloop_duration_cron_sum", |t| (t.turns.tick_ns / 1000).to_string()),
    ("eventloop_duration_max", |t| (t.turns.longest_ns / 1000).to_string()),
    ("eventloop_cmd_per_cycle_max", |t| t.turns.commands_max.to_string()),
];

const REPLICATION: &[Field] = &[
    ("role", |_| "master".into()),
    ("connected_slaves", |_| "0".into()),
    ("master_failover_state", |_| "no-failover".into()),
    ("master_repl_offset", |_| "0".into()),
    ("second_repl_offset", |_| "-1".into()),
    ("repl_backlog_active", |_| "0".into()),
    ("repl_backlog_size", |t| t.config.repl_backlog_size.to_string()),
    ("repl_backlog_first_byte_offset", |_| "0".into()),
    ("repl_backlog_histlen", |_| "0".into()),
];

const CPU: &[Field] = &[
    ("used_cpu_sys", |_| seconds(CpuTime::of_process().system_us)),
    ("used_cpu_user", |_| seconds(CpuTime::of_process().user_us)),
    ("used_cpu_sys_children", |_| seconds(CpuTime::of_children().system_us)),
    ("used_cpu_user_children", |_| seconds(CpuTime::of_children().user_us)),
];

const CLUSTER: &[Field] = &[("cluster_enabled", |_| "0".into())];

/// What one shard tells.
pub struct Figures {
    dbs: Vec<DbFigures>,
    keys: KeyStats,
    commands: CommandStats,
    traffic: Traffic,
    rate: Rate,
    turns: Turns,
    clients: ClientFigures,
    tracking: TrackingFigures,
    cpu: CpuTime,
    changes: u64,
    lazyfreed: u64,
    lazyfree_pending: u64,
    locks: LockStats,
    leases: LeaseStats,
    holds_keys: bool,
    watched_keys: u64,
    blocking_keys: u64,
    blocking_keys_minding_removal: u64,
    exceeded_ms: [u64; 2],
    expire_cpu_ns: u64,
    expire_cap_reached: u64,
    stale_percent: f64,
    scripts: ScriptMemory,
    scripts_evicted: u64,
    /// That somebody listens to, by kind.
    names: [u64; 3],
}

impl Figures {
    fn names(&self, kind: Kind) -> u64 {
        self.names[kind as usize]
    }
}

#[derive(Clone, Copy, Default)]
struct DbFigures {
    keys: u64,
    expires: u64,
    average_ttl_ms: i64,
    /// Of the table, without its entries.
    table_bytes: u64,
}

struct TrackingFigures {
    clients: u64,
    keys: u64,
    items: u64,
    prefixes: u64,
}

#[derive(Default)]
struct ClientFigures {
    connected: u64,
    blocked: u64,
    watching: u64,
    in_timeout_table: u64,
    subscribed: u64,
    query_bytes_max: u64,
    output_bytes_max: u64,
    /// Sessions and their buffers.
    bytes: u64,
}

/// What all shards tell together, and what concerns the process.
pub struct Totals<'a> {
    server: &'a Server,
    config: Arc<Config>,
    now: Now,
    names: &'static [&'static str],
    commands: CommandStats,
    keys: KeyStats,
    traffic: Traffic,
    rate: Rate,
    turns: Turns,
    /// The same on all shards.
    pause: ClientPause,
    pub memory: MemoryFigures,
    saves: LastSaves,
    saving: Progress,
    shards: Vec<Figures>,
}

/// Where memory goes, in bytes: also MEMORY STATS' source.
pub struct MemoryFigures {
    pub used: u64,
    pub resident: u64,
    pub peak: u64,
    pub startup: u64,
    pub clients: u64,
    pub tables: u64,
    pub allocator: AllocatorMemory,
}

impl MemoryFigures {
    pub fn read(server: &Server, clients: u64, tables: u64) -> MemoryFigures {
        let used = memory::used_bytes() as u64;
        let peak = server.used_memory_peak.fetch_max(used, Relaxed).max(used);
        MemoryFigures {
            used,
            resident: memory::resident_bytes() as u64,
            peak,
            startup: server.used_memory_startup.load(Relaxed),
            clients,
            tables,
            allocator: memory::allocator_memory(),
        }
    }

    /// What is not keys and values.
    pub fn overhead(&self) -> u64 {
        (self.startup + self.clients + self.tables).min(self.used)
    }

    pub fn dataset(&self) -> u64 {
        self.used - self.overhead()
    }

    pub fn since_startup(&self) -> u64 {
        self.used.saturating_sub(self.startup)
    }
}

/// INFO [section [section ...]]
fn info(_ctx: &mut AdminCtx, args: &Args, _reply: &mut Reply) -> Result<Outcome> {
    Ok(Everywhere::outcome(figures, args, write_info))
}

/// The sections that are asked for, in the table's order.
fn selected(words: &[Vec<u8>]) -> impl Iterator<Item = &'static Section> {
    let asked = |name: &str| words[1..].iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let all = asked("all") || asked("everything");
    let by_default = words.len() == 1 || asked("default");
    let is_in_all = |section: &&Section| all && section.name != "Debug";
    let wanted = |section: &&Section| is_in_all(section) || by_default && section.by_default || asked(section.name);
    SECTIONS.iter().filter(wanted).collect::<Vec<_>>().into_iter()
}

pub fn figures(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let shard = &mut ctx.shard;
    let now = ctx.now;
    let called = shard.ctx.scripts.commands.as_ref();
    let total = shard.commands.total + called.map_or(0, |called| called.total);
    let mut commands = CommandStats { total, ..CommandStats::new(0) };
    commands.errors = shard.commands.errors.clone();
    for (code, count) in called.iter().flat_map(|called| &called.errors) {
        *commands.errors.entry(code.clone()).or_default() += count;
    }
    // Only who asks for them pays for copying them.
    if selected(words).any(|section| matches!(section.name, "Commandstats" | "Latencystats")) {
        commands.counts = shard.command_stats().counts;
    }
    let (keyspace, rng) = (&shard.ctx.keyspace, &mut shard.ctx.rng);
    let stale_percent = expire::stale_percent(keyspace, now, || rng.next_u64());
    let db_figures = |db| {
        let db = keyspace.db(db);
        DbFigures {
            keys: db.len() as u64,
            expires: db.expires_len() as u64,
            average_ttl_ms: db.average_ttl_ms(now.unix_ms),
            table_bytes: db.usable_bytes() as u64,
        }
    };
    let mut clients = ClientFigures::default();
    for session in ctx.sessions.iter() {
        let (query, output) = (session.query_bytes() as u64, session.output.allocated_bytes() as u64);
        clients.connected += 1;
        clients.in_timeout_table += u64::from(session.waits.as_ref().is_some_and(|waits| waits.is_timed));
        let watched = session.transaction.as_ref().map_or(0, |transaction| transaction.watched().len());
        clients.watching += u64::from(watched > 0);
        clients.subscribed += u64::from(session.is_subscribed());
        clients.blocked += u64::from(session.is_blocked());
        clients.query_bytes_max = clients.query_bytes_max.max(query);
        clients.output_bytes_max = clients.output_bytes_max.max(output);
        clients.bytes += session.memory().total as u64;
    }
    Box::new(Figures {
        dbs: (0..keyspace.databases()).map(db_figures).collect(),
        keys: shard.ctx.stats,
        commands,
        tracking: TrackingFigures {
            clients: shard.tracking.clients as u64,
            keys: shard.tracking.len() as u64,
            items: shard.tracking.items() as u64,
            prefixes: shard.tracking.prefixes() as u64,
        },
        traffic: ctx.sessions.traffic,
        rate: ctx.rate,
        turns: shard.turns,
        clients,
        cpu: CpuTime::of_thread(),
        changes: shard.ctx.journal.dirty,
        lazyfreed: shard.ctx.lazyfree.freed,
        lazyfree_pending: shard.ctx.lazyfree.pending() as u64,
        locks: shard.locks.stats,
        leases: shard.lease.stats,
        holds_keys: shard.locks.is_holding(),
        watched_keys: shard.watching.watched_keys() as u64,
        blocking_keys: shard.blocked.keys() as u64,
        blocking_keys_minding_removal: shard.blocked.keys_minding_removal() as u64,
        exceeded_ms: shard.memory.exceeded_ms(ctx.now.mono_ns),
        expire_cpu_ns: shard.ctx.active_expire.cpu_ns,
        expire_cap_reached: shard.ctx.active_expire.cap_reached,
        stale_percent,
        names: KINDS.map(|kind| shard.pubsub.registered(kind) as u64),
        scripts: shard.ctx.scripts.memory(),
        scripts_evicted: shard.ctx.scripts.evicted,
    })
}

fn write_info(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let totals = Totals::new(ctx, downcast(parts).collect());
    let mut text = String::new();
    for section in selected(words) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        line(&mut text, format_args!("# {}", section.name));
        for content in section.content {
            match content {
                Content::Fields(fields) => {
                    fields.iter().for_each(|(name, value)| line(&mut text, format_args!("{name}:{}", value(&totals))));
                }
                Content::Lines(write) => write(&totals, &mut text),
            }
        }
    }
    reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn line(text: &mut String, line: std::fmt::Arguments) {
    write!(text, "{line}\r\n").expect("a string takes everything");
}

impl<'a> Totals<'a> {
    /// `appendonly` was switched on, and the first base is not there yet.
    fn is_aof_beginning(&self) -> bool {
        self.config.appendonly && (!self.server.aof.is_on() || self.server.aof.is_withheld())
    }

    pub fn new(ctx: &AdminCtx<'a>, shards: Vec<Figures>) -> Totals<'a> {
        let mut commands = CommandStats::new(shards.first().map_or(0, |shard| shard.commands.counts.len()));
        let (mut keys, mut traffic, mut rate) = (KeyStats::default(), Traffic::default(), Rate::default());
        let mut turns = Turns::default();
        for shard in &shards {
            commands.merge(&shard.commands);
            keys.hits += shard.keys.hits;
            keys.misses += shard.keys.misses;
            keys.expired += shard.keys.expired;
            keys.evicted += shard.keys.evicted;
            traffic.merge(&shard.traffic);
            rate.commands += shard.rate.commands;
            rate.received_bytes += shard.rate.received_bytes;
            rate.sent_bytes += shard.rate.sent_bytes;
            rate.turns += shard.rate.turns;
            rate.turn_us += shard.rate.turn_us / shards.len() as f64;
            turns.merge(&shard.turns);
        }
        let clients = shards.iter().map(|shard| shard.clients.bytes).sum();
        let tables = shards.iter().flat_map(|shard| &shard.dbs).map(|db| db.table_bytes).sum();
        Totals {
            server: ctx.server,
            config: ctx.shard.ctx.config.clone(),
            now: ctx.now,
            names: ctx.names,
            commands,
            keys,
            traffic,
            rate,
            turns,
            pause: ctx.shard.pause,
            memory: MemoryFigures::read(ctx.server, clients, tables),
            saves: ctx.server.persistence.last_saves(),
            saving: ctx.server.persistence.progress(),
            shards,
        }
    }

    pub fn keys_count(&self) -> u64 {
        self.shards.iter().flat_map(|shard| &shard.dbs).map(|db| db.keys).sum()
    }

    /// The databases that have keys, and the bytes of their tables.
    pub fn tables(&self) -> Vec<(usize, u64)> {
        let databases = self.config.databases as usize;
        let total =
            |db: usize, figure: fn(&DbFigures) -> u64| self.shards.iter().map(|s| figure(&s.dbs[db])).sum::<u64>();
        let used = (0..databases).filter(|&db| total(db, |figures| figures.keys) > 0);
        used.map(|db| (db, total(db, |figures| figures.table_bytes))).collect()
    }

    fn sum(&self, figure: fn(&Figures) -> u64) -> String {
        self.shards.iter().map(figure).sum::<u64>().to_string()
    }

    fn max(&self, figure: fn(&Figures) -> u64) -> String {
        self.shards.iter().map(figure).max().unwrap_or(0).to_string()
    }

    fn errors(&self, code: &str) -> String {
        self.commands.errors.get(code).copied().unwrap_or(0).to_string()
    }

    fn uptime_s(&self) -> i64 {
        (self.now.unix_ms - self.server.started_ms).max(0) / 1000
    }

    /// Each shard's counts as much as its keys with an expiry.
    fn scripts(&self) -> ScriptMemory {
        let mut memory = ScriptMemory::default();
        self.shards.iter().for_each(|shard| memory.merge(&shard.scripts));
        memory
    }

    fn stale_percent(&self) -> f64 {
        let weight = |shard: &Figures| shard.dbs.iter().map(|db| db.expires).sum::<u64>() as f64;
        let total: f64 = self.shards.iter().map(weight).sum();
        let stale: f64 = self.shards.iter().map(|shard| shard.stale_percent * weight(shard)).sum();
        if total == 0.0 { 0.0 } else { stale / total }
    }
}

fn listener_lines(totals: &Totals, text: &mut String) {
    let config = &totals.config;
    let mut listeners = Vec::new();
    if config.port != 0 {
        let mut binds = String::new();
        for bind in &config.bind {
            write!(binds, "bind={}{},", if bind.optional { "-" } else { "" }, bind.address).expect("into a string");
        }
        listeners.push(format!("name=tcp,{binds}port={}", config.port));
    }
    if !config.unixsocket.is_empty() {
        listeners.push(format!("name=unix,bind={}", config.unixsocket));
    }
    for (index, listener) in listeners.iter().enumerate() {
        line(text, format_args!("listener{index}:{listener}"));
    }
}

fn command_lines(totals: &Totals, text: &mut String) {
    for (name, count) in totals.names.iter().zip(&totals.commands.counts) {
        if count.calls == 0 && count.rejected == 0 && count.failed == 0 {
            continue;
        }
        let microseconds = count.nanoseconds as f64 / 1000.0;
        let per_call = if count.calls == 0 { 0.0 } else { microseconds / count.calls as f64 };
        line(
            text,
            format_args!(
                "cmdstat_{name}:calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                count.calls, microseconds as u64, count.rejected, count.failed
            ),
        );
    }
}

fn error_lines(totals: &Totals, text: &mut String) {
    for (code, count) in &totals.commands.errors {
        line(text, format_args!("errorstat_{code}:count={count}"));
    }
}

fn latency_lines(totals: &Totals, text: &mut String) {
    for (name, count) in totals.names.iter().zip(&totals.commands.counts) {
        let Some(latencies) = &count.latencies else { continue };
        let percentiles = totals.config.latency_tracking_info_percentiles.0.iter();
        let shown: Vec<String> = percentiles
            .map(|&p| format!("p{}={:.3}", percentile_text(p), latencies.at_percentile(p) as f64 / 1000.0))
            .collect();
        line(text, format_args!("latency_percentiles_usec_{name}:{}", shown.join(",")));
    }
}

fn keyspace_lines(totals: &Totals, text: &mut String) {
    for db in 0..totals.config.databases as usize {
        let parts = || totals.shards.iter().map(|shard| shard.dbs[db]);
        let keys: u64 = parts().map(|part| part.keys).sum();
        let expires: u64 = parts().map(|part| part.expires).sum();
        if keys == 0 {
            continue;
        }
        let ttl_sum: i64 = parts().map(|part| part.average_ttl_ms * part.expires as i64).sum();
        let average_ttl_ms = ttl_sum.checked_div(expires as i64).unwrap_or(0);
        line(text, format_args!("db{db}:keys={keys},expires={expires},avg_ttl={average_ttl_ms}"));
    }
}

fn shard_lines(totals: &Totals, text: &mut String) {
    for (id, shard) in totals.shards.iter().enumerate() {
        let keys: u64 = shard.dbs.iter().map(|db| db.keys).sum();
        let expires: u64 = shard.dbs.iter().map(|db| db.expires).sum();
        line(
            text,
            format_args!(
                "shard{id}:keys={keys},expires={expires},clients={},commands={},ops_per_sec={:.0},hits={},misses={},\
                 net_input_bytes={},net_output_bytes={},cpu_sys={},cpu_user={}",
                shard.clients.connected,
                shard.commands.total,
                shard.rate.commands,
                shard.keys.hits,
                shard.keys.misses,
                shard.traffic.received_bytes,
                shard.traffic.sent_bytes,
                seconds(shard.cpu.system_us),
                seconds(shard.cpu.user_us)
            ),
        );
    }
}

fn policy(config: &Config) -> String {
    crate::config::Directive::find(b"maxmemory-policy")
        .map(|directive| directive.print(config))
        .map_or(String::new(), |name| String::from_utf8_lossy(&name).into_owned())
}

/// A size as Redis shows it to people.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.2}{}", UNITS[unit])
}

fn seconds(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}%", if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 })
}

fn ratio(a: u64, b: u64) -> String {
    format!("{:.2}", if b == 0 { 0.0 } else { a as f64 / b as f64 })
}

fn difference(a: u64, b: u64) -> String {
    (a as i64 - b as i64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_selected(line: &str, expected: &str) {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let names: Vec<&str> = selected(&words).map(|section| section.name).collect();
        assert_eq!(names.join(" "), expected, "{line}");
    }

    #[test]
    fn sections_are_selected_once_each_and_in_the_order_of_the_table() {
        let default = "Server Clients Memory Persistence Stats Replication CPU Modules Errorstats Cluster Keyspace";
        check_selected("info", default);
        check_selected("info default", default);
        check_selected("info CPU default", default);
        check_selected("info nosuch", "");
        check_selected("info keyspace CommandStats server", "Server Commandstats Keyspace");
        let names = SECTIONS.iter().map(|section| section.name).filter(|&name| name != "Debug");
        let all = names.collect::<Vec<_>>().join(" ");
        check_selected("info all cpu", &all);
        check_selected("info everything", &all);
    }

    #[test]
    fn field_names_are_unique() {
        let mut names: Vec<&str> = Vec::new();
        for section in SECTIONS {
            for content in section.content {
                if let Content::Fields(fields) = content {
                    names.extend(fields.iter().map(|field| field.0));
                }
            }
        }
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn sizes_for_people() {
        let sizes = [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (949_248, "927.00K"), (25_276_514_304, "23.54G")];
        for (bytes, text) in sizes {
            assert_eq!(human(bytes), text);
        }
    }
}
