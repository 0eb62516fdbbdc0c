//! The table of directives: one row each, from which `Config`'s fields, CONFIG GET and SET, the file's syntax, CONFIG
//! REWRITE and the lists in the README derive.
//!
//! Names, defaults and bounds are Redis 7.2's; what only Valkey 8 has is known too, so that a file made for either loads.
//! Every value is kept and shown as it was set. What happens to it is the row's `Status`.

use super::check::*;
use super::value::*;
use crate::base::glob;
use Access::{Fixed, Hidden, Immutable, Mutable, Protected as Guarded};
use Status::{Awaits, Honoured, Inert, Refused};
use Topic::*;

/// One row of the table.
pub struct Directive {
    pub name: &'static str,
    /// Older or newer names, under which the same value can be read and set.
    pub aliases: &'static [&'static str],
    pub access: Access,
    pub rule: Rule,
    pub status: Status,
    setting: fn(&Config) -> &dyn Setting,
    setting_mut: fn(&mut Config) -> &mut dyn Setting,
}

/// Who may change a directive while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// CONFIG SET may.
    Mutable,
    /// Nobody: it is read at start.
    Immutable,
    /// The same, but CONFIG SET takes the value that it has: clients write back all that CONFIG GET shows, and know the
    /// immutable ones of Redis at most.
    Fixed,
    /// CONFIG SET may if `enable-protected-configs` says so.
    Protected,
    /// CONFIG SET may, but only an exact name finds it: it is for tests of the server itself.
    Hidden,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The server does as it says.
    Honoured,
    /// It tunes something inside Redis that does not exist here; the text says what takes its place.
    Inert(&'static str),
    /// Kept, and without effect until its topic is there; what would switch the topic on is refused meanwhile, or the
    /// topic's commands do not exist.
    Awaits(Topic),
    /// No other value than the default is taken before its topic is there.
    Refused(Topic),
}

/// A part of the server that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    AccessControl,
    Cluster,
    Collections,
    Persistence,
    PubSub,
    Replication,
    Tls,
}

impl Topic {
    pub const fn name(self) -> &'static str {
        match self {
            Topic::AccessControl => "access control lists",
            Topic::Cluster => "cluster mode",
            Topic::Collections => "the collection types",
            Topic::Persistence => "persistence",
            Topic::PubSub => "publish/subscribe",
            Topic::Replication => "replication",
            Topic::Tls => "TLS",
        }
    }

    /// The reason a directive of this topic is refused with.
    pub fn refusal(self) -> Reason {
        format!("not supported yet, it comes with {}", self.name())
    }
}

/// Makes `Config`, its defaults and `DIRECTIVES` from the rows, so that no directive can be in one and not in another.
macro_rules! directives {
    ($( $field:ident: $type:ty = $default:expr, $name:literal $(| $alias:literal)*, $access:ident, $rule:expr, $status:expr; )*) => {
        /// Every directive's value. Cloned and replaced as a whole, never changed under a reader.
        #[derive(Clone, PartialEq)]
        pub struct Config { $(pub $field: $type,)* }

        impl Default for Config {
            fn default() -> Config {
                Config { $($field: $default,)* }
            }
        }

        pub static DIRECTIVES: &[Directive] = &[$(Directive {
            name: $name, aliases: &[$($alias),*], access: $access, rule: $rule, status: $status,
            setting: |config| &config.$field, setting_mut: |config| &mut config.$field,
        },)*];
    };
}

// What many rows share.
const TYPE: Rule = Rule::Type;
const WORDS: Rule = Rule::Words;
const TEXT: Rule = text();
const SECRET: Rule = secret();

const NO_ACCEPT_BUDGET: Status = Inert("the ring accepts connections as they arrive");
const NO_BATCH_SIZE: Status = Inert("every batch that is ready is prefetched");
const NO_CLOCK_TICK: Status = Inert("background work runs when there is some, in slices");
const NO_START_CHECKS: Status = Inert("no check at the start stops the server");
const NO_FAILING_EFFECTS: Status = Inert("effects are applied as they were recorded, or loading fails");
const NO_UNCHECKED_PAYLOADS: Status = Inert("files and payloads are always checked in full");
const NO_IO_THREADS: Status = Inert("every shard reads, runs and writes on its own core");
const NO_CPU_LISTS: Status = Inert("shards are pinned to the CPUs the process may use, and there are no other threads");
const NO_JEMALLOC: Status = Inert("mimalloc is the allocator");
const NO_PROCESS_TITLE: Status = Inert("the process keeps the name and arguments it was started with");
const NO_CRASH_HOOKS: Status = Inert("a crash always aborts with a report on stderr");

directives! {
    // Our own.
    shards: u32 = 0, "shards", Fixed, integer(0, SHARDS_MAX), Honoured;
    pipeline_order: PipelineOrder = PipelineOrder::Causal, "pipeline-order", Mutable, TYPE, Honoured;
    snapshot_buffer_max: MemoryShare = MemoryShare::Percent(5), "snapshot-buffer-max", Mutable, BYTES_OR_PERCENT, Honoured;
    colocate_prefixes: Vec<Vec<u8>> = vec![b"bull".to_vec()], "colocate-prefixes", Fixed, WORDS, Honoured;
    shard_ports: bool = false, "shard-ports", Fixed, TYPE, Refused(Cluster);

    // Listening and connections.
    bind: Vec<Bind> = default_binds(), "bind", Mutable, WORDS, Honoured;
    port: u16 = 6379, "port", Mutable, PORT, Honoured;
    tcp_backlog: u32 = 511, "tcp-backlog", Immutable, int_from(0), Honoured;
    unixsocket: String = none(), "unixsocket", Immutable, TEXT, Honoured;
    unixsocketgroup: String = none(), "unixsocketgroup", Immutable, TEXT, Honoured;
    unixsocketperm: u32 = 0, "unixsocketperm", Immutable, FILE_MODE, Honoured;
    timeout: u32 = 0, "timeout", Mutable, int_from(0), Honoured;
    tcp_keepalive: u32 = 300, "tcp-keepalive", Mutable, int_from(0), Honoured;
    socket_mark_id: u32 = 0, "socket-mark-id", Immutable, integer(0, u32::MAX as i128), Honoured;
    protected_mode: bool = true, "protected-mode", Mutable, TYPE, Honoured;
    maxclients: u32 = 10_000, "maxclients", Mutable, integer(1, u32::MAX as i128), Honoured;
    proto_max_bulk_len: u64 = 512 << 20, "proto-max-bulk-len", Mutable, bytes_from(1 << 20), Honoured;
    client_query_buffer_limit: u64 = 1 << 30, "client-query-buffer-limit", Mutable, bytes_from(1 << 20), Honoured;
    client_output_buffer_limit: OutputLimits = OutputLimits::DEFAULT, "client-output-buffer-limit", Mutable, WORDS, Honoured;
    maxmemory_clients: MemoryShare = MemoryShare::Bytes(0), "maxmemory-clients", Mutable, BYTES_OR_PERCENT, Honoured;
    tracking_table_max_keys: u64 = 1_000_000, "tracking-table-max-keys", Mutable, long_from(0), Honoured;
    max_new_connections_per_cycle: u32 = 10, "max-new-connections-per-cycle", Mutable, integer(1, 1000), NO_ACCEPT_BUDGET;
    max_new_tls_connections_per_cycle: u32 = 1, "max-new-tls-connections-per-cycle", Mutable, integer(1, 1000), NO_ACCEPT_BUDGET;
    io_threads: u32 = 1, "io-threads", Immutable, integer(1, 128), NO_IO_THREADS;
    io_threads_do_reads: bool = false, "io-threads-do-reads", Fixed, TYPE, NO_IO_THREADS;
    events_per_io_thread: u32 = 2, "events-per-io-thread", Hidden, int_from(0), NO_IO_THREADS;
    prefetch_batch_max_size: u32 = 16, "prefetch-batch-max-size", Mutable, integer(0, 128), NO_BATCH_SIZE;

    // Process and logs.
    daemonize: bool = false, "daemonize", Immutable, TYPE, Honoured;
    supervised: Supervised = Supervised::No, "supervised", Immutable, TYPE, Honoured;
    pidfile: String = none(), "pidfile", Immutable, TEXT, Honoured;
    loglevel: LogLevel = LogLevel::Notice, "loglevel", Mutable, TYPE, Honoured;
    logfile: String = none(), "logfile", Immutable, TEXT, Honoured;
    syslog_enabled: bool = false, "syslog-enabled", Immutable, TYPE, Honoured;
    syslog_ident: String = "peristyle".to_owned(), "syslog-ident", Immutable, TEXT, Honoured;
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility", Immutable, TYPE, Honoured;
    hide_user_data_from_log: bool = true, "hide-user-data-from-log", Mutable, TYPE, Honoured;
    databases: u32 = 16, "databases", Immutable, int_from(1), Honoured;
    dir: String = ".".to_owned(), "dir", Guarded, checked(not_empty_dir), Honoured;
    shutdown_timeout: u32 = 10, "shutdown-timeout", Mutable, int_from(0), Awaits(Replication);
    shutdown_on_sigint: ShutdownOn = ShutdownOn::default(), "shutdown-on-sigint", Mutable, WORDS, Honoured;
    shutdown_on_sigterm: ShutdownOn = ShutdownOn::default(), "shutdown-on-sigterm", Mutable, WORDS, Honoured;
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj", Mutable, TYPE, Honoured;
    oom_score_adj_values: [i32; 3] = [0, 200, 800], "oom-score-adj-values", Mutable, WORDS, Honoured;
    always_show_logo: bool = false, "always-show-logo", Immutable, TYPE, Inert("there is no logo");
    set_proc_title: bool = true, "set-proc-title", Immutable, TYPE, NO_PROCESS_TITLE;
    proc_title_template: String = PROC_TITLE.to_owned(), "proc-title-template", Mutable, checked(proc_title), NO_PROCESS_TITLE;
    disable_thp: bool = true, "disable-thp", Immutable, TYPE, Honoured;
    server_cpulist: String = none(), "server-cpulist" | "server_cpulist", Immutable, TEXT, NO_CPU_LISTS;
    bio_cpulist: String = none(), "bio-cpulist" | "bio_cpulist", Immutable, TEXT, NO_CPU_LISTS;
    aof_rewrite_cpulist: String = none(), "aof-rewrite-cpulist" | "aof_rewrite_cpulist", Immutable, TEXT, NO_CPU_LISTS;
    bgsave_cpulist: String = none(), "bgsave-cpulist" | "bgsave_cpulist", Immutable, TEXT, NO_CPU_LISTS;
    ignore_warnings: String = none(), "ignore-warnings", Mutable, TEXT, NO_START_CHECKS;
    crash_log_enabled: bool = true, "crash-log-enabled", Mutable, TYPE, Honoured;
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled", Mutable, TYPE, NO_CRASH_HOOKS;
    use_exit_on_panic: bool = false, "use-exit-on-panic", Hidden, TYPE, NO_CRASH_HOOKS;
    watchdog_period: u32 = 0, "watchdog-period", Hidden, int_from(0), Inert("slices are bounded, and INFO shows the longest");
    locale_collate: String = none(), "locale-collate", Mutable, TEXT, Honoured;
    availability_zone: String = none(), "availability-zone", Mutable, TEXT, Honoured;
    extended_redis_compatibility: bool = false, "extended-redis-compatibility", Mutable, TYPE, Inert("Redis's names are the only ones");

    // Who may do what.
    requirepass: Vec<u8> = none(), "requirepass", Mutable, SECRET, Honoured;
    enable_protected_configs: Protected = Protected::No, "enable-protected-configs", Immutable, TYPE, Honoured;
    enable_debug_command: Protected = Protected::No, "enable-debug-command", Immutable, TYPE, Honoured;
    enable_debug_assert: bool = false, "enable-debug-assert", Hidden, TYPE, Inert("assertions are always checked");
    enable_module_command: Protected = Protected::No, "enable-module-command", Immutable, TYPE, Inert("no command loads modules");
    aclfile: String = none(), "aclfile", Immutable, TEXT, Refused(AccessControl);
    acllog_max_len: u64 = 128, "acllog-max-len", Mutable, long_from(0), Awaits(AccessControl);
    acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::ResetChannels, "acl-pubsub-default", Mutable, TYPE, Awaits(AccessControl);

    // Memory, expiry, freeing.
    maxmemory: MemoryShare = MemoryShare::Bytes(0), "maxmemory", Mutable, BYTES_OR_PERCENT, Honoured;
    maxmemory_policy: Policy = Policy::NoEviction, "maxmemory-policy", Mutable, TYPE, Honoured;
    maxmemory_samples: u32 = 5, "maxmemory-samples", Mutable, integer(1, 64), Honoured;
    maxmemory_eviction_tenacity: u32 = 10, "maxmemory-eviction-tenacity", Mutable, integer(0, 100), Honoured;
    lfu_log_factor: u32 = 10, "lfu-log-factor", Mutable, int_from(0), Honoured;
    lfu_decay_time: u32 = 1, "lfu-decay-time", Mutable, int_from(0), Honoured;
    active_expire_effort: u32 = 1, "active-expire-effort", Mutable, integer(1, 10), Inert("active expiry always catches up, in slices between requests");
    lazyfree_lazy_eviction: bool = true, "lazyfree-lazy-eviction", Mutable, TYPE, Honoured;
    lazyfree_lazy_expire: bool = true, "lazyfree-lazy-expire", Mutable, TYPE, Honoured;
    lazyfree_lazy_server_del: bool = true, "lazyfree-lazy-server-del", Mutable, TYPE, Honoured;
    lazyfree_lazy_user_del: bool = true, "lazyfree-lazy-user-del", Mutable, TYPE, Honoured;
    lazyfree_lazy_user_flush: bool = true, "lazyfree-lazy-user-flush", Mutable, TYPE, Honoured;
    hz: u32 = 10, "hz", Mutable, int_from(0), NO_CLOCK_TICK;
    dynamic_hz: bool = true, "dynamic-hz", Mutable, TYPE, NO_CLOCK_TICK;
    activerehashing: bool = true, "activerehashing", Mutable, TYPE, Inert("the table grows by single steps, and never as a whole");
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread", Mutable, TYPE, NO_JEMALLOC;
    activedefrag: ActiveDefrag = ActiveDefrag, "activedefrag", Mutable, TYPE, NO_JEMALLOC;
    active_defrag_ignore_bytes: u64 = 100 << 20, "active-defrag-ignore-bytes", Mutable, bytes_from(1), NO_JEMALLOC;
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower", Mutable, integer(0, 1000), NO_JEMALLOC;
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper", Mutable, integer(0, 1000), NO_JEMALLOC;
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min", Mutable, integer(1, 99), NO_JEMALLOC;
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max", Mutable, integer(1, 99), NO_JEMALLOC;
    active_defrag_max_scan_fields: u64 = 1000, "active-defrag-max-scan-fields", Mutable, long_from(1), NO_JEMALLOC;

    // Watching the server.
    slowlog_log_slower_than: i64 = 10_000, "slowlog-log-slower-than", Mutable, long_from(-1), Honoured;
    slowlog_max_len: u64 = 128, "slowlog-max-len", Mutable, long_from(0), Honoured;
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold", Mutable, long_from(0), Honoured;
    latency_tracking: bool = true, "latency-tracking", Mutable, TYPE, Honoured;
    latency_tracking_info_percentiles: Percentiles = Percentiles(vec![50.0, 99.0, 99.9]), "latency-tracking-info-percentiles", Mutable, WORDS, Honoured;
    notify_keyspace_events: NotifyFlags = NotifyFlags::default(), "notify-keyspace-events", Mutable, TYPE, Honoured;
    busy_reply_threshold: u64 = 5000, "busy-reply-threshold" | "lua-time-limit", Mutable, long_from(0), Honoured;
    propagation_error_behavior: PropagationError = PropagationError::Ignore, "propagation-error-behavior", Mutable, TYPE, NO_FAILING_EFFECTS;

    // Encodings of collections.
    hash_max_listpack_entries: u64 = 512, "hash-max-listpack-entries" | "hash-max-ziplist-entries", Mutable, long_from(0), Honoured;
    hash_max_listpack_value: u64 = 64, "hash-max-listpack-value" | "hash-max-ziplist-value", Mutable, bytes_from(0), Honoured;
    list_max_listpack_size: i32 = -2, "list-max-listpack-size" | "list-max-ziplist-size", Mutable, int_from(i32::MIN as i128), Honoured;
    list_compress_depth: u32 = 0, "list-compress-depth", Mutable, int_from(0), Honoured;
    set_max_intset_entries: u64 = 512, "set-max-intset-entries", Mutable, long_from(0), Honoured;
    set_max_listpack_entries: u64 = 128, "set-max-listpack-entries", Mutable, long_from(0), Honoured;
    set_max_listpack_value: u64 = 64, "set-max-listpack-value", Mutable, long_from(0), Honoured;
    zset_max_listpack_entries: u64 = 128, "zset-max-listpack-entries" | "zset-max-ziplist-entries", Mutable, long_from(0), Honoured;
    zset_max_listpack_value: u64 = 64, "zset-max-listpack-value" | "zset-max-ziplist-value", Mutable, bytes_from(0), Honoured;
    hll_sparse_max_bytes: u64 = 3000, "hll-sparse-max-bytes", Mutable, bytes_from(0), Honoured;
    stream_node_max_bytes: u64 = 4096, "stream-node-max-bytes", Mutable, bytes_from(0), Honoured;
    stream_node_max_entries: u64 = 100, "stream-node-max-entries", Mutable, long_from(0), Honoured;

    // Persistence.
    save: Vec<SavePoint> = default_save_points(), "save", Mutable, WORDS, Honoured;
    dbfilename: String = "dump.rdb".to_owned(), "dbfilename", Guarded, checked(db_file_name), Honoured;
    rdbcompression: bool = true, "rdbcompression", Mutable, TYPE, Honoured;
    rdbchecksum: bool = true, "rdbchecksum", Immutable, TYPE, Honoured;
    rdb_version_check: RdbVersionCheck = RdbVersionCheck::Strict, "rdb-version-check", Mutable, TYPE, Honoured;
    rdb_del_sync_files: bool = false, "rdb-del-sync-files", Mutable, TYPE, Awaits(Persistence);
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync", Mutable, TYPE, Honoured;
    rdb_key_save_delay: i32 = 0, "rdb-key-save-delay", Hidden, int_from(i32::MIN as i128), Honoured;
    key_load_delay: i32 = 0, "key-load-delay", Hidden, int_from(i32::MIN as i128), Honoured;
    loading_process_events_interval_bytes: u64 = 2 << 20, "loading-process-events-interval-bytes", Hidden, int_from(1024), Honoured;
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error", Mutable, TYPE, Honoured;
    sanitize_dump_payload: SanitizeDump = SanitizeDump::No, "sanitize-dump-payload", Mutable, TYPE, NO_UNCHECKED_PAYLOADS;
    appendonly: bool = false, "appendonly", Mutable, TYPE, Honoured;
    appendfilename: String = "appendonly.aof".to_owned(), "appendfilename", Immutable, checked(append_file_name), Honoured;
    appenddirname: String = "appendonlydir".to_owned(), "appenddirname", Immutable, checked(append_dir_name), Honoured;
    appendfsync: AppendFsync = AppendFsync::EverySecond, "appendfsync", Mutable, TYPE, Honoured;
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite", Mutable, TYPE, Honoured;
    auto_aof_rewrite_percentage: u32 = 100, "auto-aof-rewrite-percentage", Mutable, int_from(0), Honoured;
    auto_aof_rewrite_min_size: u64 = 64 << 20, "auto-aof-rewrite-min-size", Mutable, bytes_from(0), Honoured;
    aof_load_truncated: bool = true, "aof-load-truncated", Mutable, TYPE, Awaits(Persistence);
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble", Mutable, TYPE, Honoured;
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled", Mutable, TYPE, Honoured;
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync", Mutable, TYPE, Honoured;
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc", Hidden, TYPE, Honoured;

    // Replication.
    replicaof: Option<Primary> = None, "replicaof" | "slaveof", Immutable, WORDS, Refused(Replication);
    masterauth: Vec<u8> = none(), "masterauth" | "primaryauth", Mutable, SECRET, Awaits(Replication);
    masteruser: String = none(), "masteruser" | "primaryuser", Mutable, SECRET, Awaits(Replication);
    bind_source_addr: String = none(), "bind-source-addr", Mutable, TEXT, Awaits(Replication);
    replica_serve_stale_data: bool = true, "replica-serve-stale-data" | "slave-serve-stale-data", Mutable, TYPE, Awaits(Replication);
    replica_read_only: bool = true, "replica-read-only" | "slave-read-only", Mutable, TYPE, Awaits(Replication);
    replica_lazy_flush: bool = false, "replica-lazy-flush" | "slave-lazy-flush", Mutable, TYPE, Awaits(Replication);
    replica_ignore_maxmemory: bool = true, "replica-ignore-maxmemory" | "slave-ignore-maxmemory", Mutable, TYPE, Awaits(Replication);
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors", Mutable, TYPE, Awaits(Replication);
    replica_priority: u32 = 100, "replica-priority" | "slave-priority", Mutable, int_from(0), Awaits(Replication);
    replica_announced: bool = true, "replica-announced", Mutable, TYPE, Awaits(Replication);
    replica_announce_ip: String = none(), "replica-announce-ip" | "slave-announce-ip", Mutable, TEXT, Awaits(Replication);
    replica_announce_port: u16 = 0, "replica-announce-port" | "slave-announce-port", Mutable, PORT, Awaits(Replication);
    repl_diskless_sync: bool = true, "repl-diskless-sync", Mutable, TYPE, Awaits(Replication);
    repl_diskless_sync_delay: u32 = 5, "repl-diskless-sync-delay", Mutable, int_from(0), Awaits(Replication);
    repl_diskless_sync_max_replicas: u32 = 0, "repl-diskless-sync-max-replicas", Mutable, int_from(0), Awaits(Replication);
    repl_diskless_load: DisklessLoad = DisklessLoad::Disabled, "repl-diskless-load", Mutable, TYPE, Awaits(Replication);
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay", Mutable, TYPE, Awaits(Replication);
    repl_ping_replica_period: u32 = 10, "repl-ping-replica-period" | "repl-ping-slave-period", Mutable, int_from(1), Awaits(Replication);
    repl_timeout: u32 = 60, "repl-timeout", Mutable, int_from(1), Awaits(Replication);
    repl_backlog_size: u64 = 1 << 20, "repl-backlog-size", Mutable, bytes_from(1), Awaits(Replication);
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl", Mutable, long_from(0), Awaits(Replication);
    min_replicas_to_write: u32 = 0, "min-replicas-to-write" | "min-slaves-to-write", Mutable, int_from(0), Awaits(Replication);
    min_replicas_max_lag: u32 = 10, "min-replicas-max-lag" | "min-slaves-max-lag", Mutable, int_from(0), Awaits(Replication);
    dual_channel_replication_enabled: bool = false, "dual-channel-replication-enabled", Mutable, TYPE, Awaits(Replication);

    // Cluster.
    cluster_enabled: bool = false, "cluster-enabled", Immutable, TYPE, Refused(Cluster);
    cluster_config_file: String = "nodes.conf".to_owned(), "cluster-config-file", Immutable, checked(cluster_config_file), Awaits(Cluster);
    cluster_node_timeout: u64 = 15_000, "cluster-node-timeout", Mutable, long_from(0), Awaits(Cluster);
    cluster_ping_interval: u64 = 0, "cluster-ping-interval", Hidden, long_from(0), Awaits(Cluster);
    cluster_port: u16 = 0, "cluster-port", Immutable, PORT, Awaits(Cluster);
    cluster_replica_validity_factor: u32 = 10, "cluster-replica-validity-factor" | "cluster-slave-validity-factor", Mutable, int_from(0), Awaits(Cluster);
    cluster_replica_no_failover: bool = false, "cluster-replica-no-failover" | "cluster-slave-no-failover", Mutable, TYPE, Awaits(Cluster);
    cluster_migration_barrier: u32 = 1, "cluster-migration-barrier", Mutable, int_from(0), Awaits(Cluster);
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration", Mutable, TYPE, Awaits(Cluster);
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage", Mutable, TYPE, Awaits(Cluster);
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down", Mutable, TYPE, Awaits(Cluster);
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down", Mutable, TYPE, Awaits(Cluster);
    cluster_link_sendbuf_limit: u64 = 0, "cluster-link-sendbuf-limit", Mutable, bytes(0, u64::MAX as i128), Awaits(Cluster);
    cluster_blacklist_ttl: i64 = 60, "cluster-blacklist-ttl", Mutable, long_from(i64::MIN as i128), Awaits(Cluster);
    cluster_slot_stats_enabled: bool = false, "cluster-slot-stats-enabled", Mutable, TYPE, Awaits(Cluster);
    cluster_announce_ip: String = none(), "cluster-announce-ip", Mutable, TEXT, Awaits(Cluster);
    cluster_announce_client_ipv4: String = none(), "cluster-announce-client-ipv4", Mutable, checked(ipv4_address), Awaits(Cluster);
    cluster_announce_client_ipv6: String = none(), "cluster-announce-client-ipv6", Mutable, checked(ipv6_address), Awaits(Cluster);
    cluster_announce_hostname: String = none(), "cluster-announce-hostname", Mutable, checked(host_name), Awaits(Cluster);
    cluster_announce_human_nodename: String = none(), "cluster-announce-human-nodename", Mutable, checked(node_name), Awaits(Cluster);
    cluster_announce_port: u16 = 0, "cluster-announce-port", Mutable, PORT, Awaits(Cluster);
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port", Mutable, PORT, Awaits(Cluster);
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port", Mutable, PORT, Awaits(Cluster);
    cluster_preferred_endpoint_type: EndpointType = EndpointType::Ip, "cluster-preferred-endpoint-type", Mutable, TYPE, Awaits(Cluster);

    // TLS.
    tls_port: u16 = 0, "tls-port", Mutable, PORT, Refused(Tls);
    tls_replication: bool = false, "tls-replication", Mutable, TYPE, Refused(Tls);
    tls_cluster: bool = false, "tls-cluster", Mutable, TYPE, Refused(Tls);
    tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, "tls-auth-clients", Mutable, TYPE, Awaits(Tls);
    tls_cert_file: String = none(), "tls-cert-file", Mutable, TEXT, Awaits(Tls);
    tls_key_file: String = none(), "tls-key-file", Mutable, TEXT, Awaits(Tls);
    tls_key_file_pass: String = none(), "tls-key-file-pass", Mutable, SECRET, Awaits(Tls);
    tls_client_cert_file: String = none(), "tls-client-cert-file", Mutable, TEXT, Awaits(Tls);
    tls_client_key_file: String = none(), "tls-client-key-file", Mutable, TEXT, Awaits(Tls);
    tls_client_key_file_pass: String = none(), "tls-client-key-file-pass", Mutable, SECRET, Awaits(Tls);
    tls_dh_params_file: String = none(), "tls-dh-params-file", Mutable, TEXT, Awaits(Tls);
    tls_ca_cert_file: String = none(), "tls-ca-cert-file", Mutable, TEXT, Awaits(Tls);
    tls_ca_cert_dir: String = none(), "tls-ca-cert-dir", Mutable, TEXT, Awaits(Tls);
    tls_protocols: String = none(), "tls-protocols", Mutable, TEXT, Awaits(Tls);
    tls_ciphers: String = none(), "tls-ciphers", Mutable, TEXT, Awaits(Tls);
    tls_ciphersuites: String = none(), "tls-ciphersuites", Mutable, TEXT, Awaits(Tls);
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers", Mutable, TYPE, Awaits(Tls);
    tls_session_caching: bool = true, "tls-session-caching", Mutable, TYPE, Awaits(Tls);
    tls_session_cache_size: u32 = 20_480, "tls-session-cache-size", Mutable, int_from(0), Awaits(Tls);
    tls_session_cache_timeout: u32 = 300, "tls-session-cache-timeout", Mutable, int_from(0), Awaits(Tls);
}

/// Words that may begin a line of a file, and are no directives: nothing is read or set under these names.
pub static FILE_ONLY: &[(&str, FileOnly)] = &[
    ("include", FileOnly::Include),
    ("user", FileOnly::Refused(Topic::AccessControl)),
    ("rename-command", FileOnly::Refused(Topic::AccessControl)),
    ("loadmodule", FileOnly::NeverModules),
    ("sentinel", FileOnly::NotSentinel),
    // Gone from Redis for years; old files may still hold them.
    ("list-max-ziplist-entries", FileOnly::Forgotten),
    ("list-max-ziplist-value", FileOnly::Forgotten),
    ("lua-replicate-commands", FileOnly::Forgotten),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOnly {
    Include,
    Refused(Topic),
    NeverModules,
    NotSentinel,
    Forgotten,
}

/// Most shards a server has.
const SHARDS_MAX: i128 = crate::base::limits::SHARDS_MAX as i128;
const PORT: Rule = integer(0, u16::MAX as i128);
const FILE_MODE: Rule = Rule::Number { min: 0, max: 0o777, unit: Unit::Octal };
const BYTES_OR_PERCENT: Rule = Rule::Number { min: 0, max: i64::MAX as i128, unit: Unit::BytesOrPercent };
const PROC_TITLE: &str = "{title} {listen-addr} {server-mode}";
/// Bounds that `hz` is silently brought into.
const HZ: (u32, u32) = (1, 500);
/// A smaller replication backlog is silently made this large.
const BACKLOG_BYTES_MIN: u64 = 16 * 1024;

/// The default of most texts.
fn none<T: Default>() -> T {
    T::default()
}

fn default_save_points() -> Vec<SavePoint> {
    [(3600, 1), (300, 100), (60, 10_000)].map(|(seconds, changes)| SavePoint { seconds, changes }).to_vec()
}

impl Directive {
    /// Looks a name or alias up, in either case.
    pub fn find(name: &[u8]) -> Option<&'static Directive> {
        DIRECTIVES.iter().find(|directive| directive.names().any(|known| known.as_bytes().eq_ignore_ascii_case(name)))
    }

    /// The name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Must SLOWLOG and logs hide its value?
    pub fn is_secret(&self) -> bool {
        matches!(self.rule, Rule::Text { secret: true, .. })
    }

    /// Does it take any number of words?
    pub fn takes_words(&self) -> bool {
        matches!(self.rule, Rule::Words)
    }

    /// The value as CONFIG GET shows it.
    pub fn print(&self, config: &Config) -> Vec<u8> {
        (self.setting)(config).print(&self.rule)
    }

    /// What stands behind the name in a file; see `Setting::in_file`.
    pub fn lines(&self, config: &Config) -> Vec<Vec<u8>> {
        (self.setting)(config).in_file(&self.rule)
    }
}

/// A directive that a CONFIG SET has given another value.
pub type Change = &'static Directive;

/// Why CONFIG SET failed; `Display` is the error without its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    Unknown {
        name: Vec<u8>,
    },
    /// Also what the server answers when it cannot put a new value into effect.
    Failed {
        name: Vec<u8>,
        reason: Reason,
    },
}

impl std::fmt::Display for SetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetError::Unknown { name } => {
                write!(f, "Unknown option or number of arguments for CONFIG SET - '{}'", String::from_utf8_lossy(name))
            }
            SetError::Failed { name, reason } => {
                let name = String::from_utf8_lossy(name);
                write!(f, "CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            }
        }
    }
}

impl Config {
    /// The value of one directive, hidden or not, as CONFIG GET shows it.
    pub fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        Directive::find(name).map(|directive| directive.print(self))
    }

    /// CONFIG GET: names and values for several names or patterns, each name once. A name is given back as it was asked
    /// for; hidden directives answer to no pattern.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], value: Vec<u8>| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), value));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some(value) = self.get(pattern) {
                    add(pattern, value);
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| directive.access != Hidden) {
                for name in directive.names().filter(|name| glob::matches(pattern, name.as_bytes(), true)) {
                    add(name.as_bytes(), directive.print(self));
                }
            }
        }
        found
    }

    /// CONFIG SET: all pairs or none. Gives the directives whose value is another now; `is_local` says whether the
    /// client is on this machine.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])], is_local: bool) -> Result<Vec<Change>, SetError> {
        let named = self.look_up(pairs, is_local)?;
        let mut new = self.clone();
        for (name, directive, value) in &named {
            let words = if directive.takes_words() { split_by_blanks(value) } else { vec![value.to_vec()] };
            let outcome = new.assign(directive, &words);
            let is_kept = || directive.access != Fixed || directive.print(self) == directive.print(&new);
            let outcome = outcome.and_then(|()| if is_kept() { Ok(()) } else { Err(IMMUTABLE.to_owned()) });
            outcome.map_err(|reason| SetError::Failed { name: name.as_bytes().to_vec(), reason })?;
        }
        let mut changes: Vec<Change> = Vec::new();
        for (_, directive, _) in named {
            let is_listed = changes.iter().any(|listed| listed.name == directive.name);
            if !is_listed && directive.print(self) != directive.print(&new) {
                changes.push(directive);
            }
        }
        *self = new;
        Ok(changes)
    }

    /// Finds what the pairs name, and refuses what must not be set; the first fault counts.
    fn look_up<'a>(&self, pairs: &[(&[u8], &'a [u8])], is_local: bool) -> Result<Vec<Named<'a>>, SetError> {
        let mut named: Vec<Named> = Vec::with_capacity(pairs.len());
        for (asked, value) in pairs {
            let directive = Directive::find(asked).ok_or_else(|| SetError::Unknown { name: asked.to_vec() })?;
            let name = directive.names().find(|name| name.as_bytes().eq_ignore_ascii_case(asked));
            let name = name.expect("a directive is found by one of its names");
            let reason = if directive.access == Immutable {
                IMMUTABLE
            } else if directive.access == Guarded && !self.enable_protected_configs.allows(is_local) {
                "can't set protected config"
            } else if named.iter().any(|(earlier, ..)| *earlier == name) {
                // Once by its name and once by an alias is no fault: the later one counts.
                "duplicate parameter"
            } else {
                named.push((name, directive, value));
                continue;
            };
            return Err(SetError::Failed { name: asked.to_vec(), reason: reason.to_owned() });
        }
        Ok(named)
    }

    /// Gives a directive the value that stands in these words, by whatever way they came.
    pub(super) fn assign(&mut self, directive: &Directive, words: &[Vec<u8>]) -> Result<(), Reason> {
        (directive.setting_mut)(self).assign(&directive.rule, words)?;
        self.hz = self.hz.clamp(HZ.0, HZ.1);
        self.repl_backlog_size = self.repl_backlog_size.max(BACKLOG_BYTES_MIN);
        match directive.status {
            Refused(topic) if directive.print(self) != directive.print(&Config::default()) => Err(topic.refusal()),
            Refused(_) | Honoured | Inert(_) | Awaits(_) => Ok(()),
        }
    }
}

const IMMUTABLE: &str = "can't set immutable config";

/// The name a directive was found by, and its new value.
type Named<'a> = (&'static str, &'static Directive, &'a [u8]);

/// Words as CONFIG SET has them: every single blank separates, and no text is no words.
fn split_by_blanks(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() { Vec::new() } else { text.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs `CONFIG SET` with the given pairs; the error text, or the names of what changed.
    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        match config.set(&pairs, false) {
            Ok(changes) => changes.iter().map(|directive| directive.name).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    fn get(config: &Config, name: &str) -> String {
        String::from_utf8(config.get(name.as_bytes()).unwrap()).unwrap()
    }

    /// One failing pair and the reason behind `… - `.
    fn check_refused(name: &str, value: &str, reason: &str) {
        let expected = format!("CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        assert_eq!(set(&mut Config::default(), &[(name, value)]), expected);
    }

    #[test]
    fn defaults_print_as_redis_prints_them() {
        let config = Config::default();
        for (name, value) in [
            ("port", "6379"),
            ("bind", "* -::*"),
            ("save", "3600 1 300 100 60 10000"),
            ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
            ("proto-max-bulk-len", "536870912"),
            ("latency-tracking-info-percentiles", "50 99 99.9"),
            ("oom-score-adj-values", "0 200 800"),
            ("unixsocketperm", "0"),
            ("maxmemory-clients", "0"),
            ("snapshot-buffer-max", "5%"),
            ("colocate-prefixes", "bull"),
            ("shutdown-on-sigint", "default"),
            ("notify-keyspace-events", ""),
            ("slaveof", ""),
            ("lua-time-limit", "5000"),
        ] {
            assert_eq!(get(&config, name), value, "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let mut names: Vec<&str> = DIRECTIVES.iter().flat_map(Directive::names).collect();
        assert!(
            names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_4 6".contains(&byte)))
        );
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn few_directives_are_refused() {
        let refused = DIRECTIVES.iter().filter(|directive| matches!(directive.status, Refused(_))).count();
        let in_files = FILE_ONLY.iter().filter(|(_, kind)| matches!(kind, FileOnly::Refused(_))).count();
        assert!(refused + in_files <= 15, "{refused} directives and {in_files} other lines");
    }

    #[test]
    fn set_changes_and_tells_what_changed() {
        let mut config = Config::default();
        assert_eq!(
            set(&mut config, &[("repl-backlog-size", "1gb"), ("TIMEOUT", "0"), ("hz", "50")]),
            "repl-backlog-size hz"
        );
        assert_eq!((config.repl_backlog_size, config.hz), (1 << 30, 50));
        assert_eq!(set(&mut config, &[("slave-priority", "1"), ("replica-priority", "2")]), "replica-priority");
        assert_eq!(config.replica_priority, 2);
        assert_eq!(set(&mut config, &[("hz", "100000")]), "hz");
        assert_eq!(config.hz, 500);
    }

    #[test]
    fn a_failing_pair_leaves_all_as_it_was() {
        let mut config = Config::default();
        let before = config.clone();
        let error = set(&mut config, &[("repl-backlog-size", "1"), ("client-output-buffer-limit", "normal 1 1 1 x")]);
        assert!(error.starts_with("CONFIG SET failed (possibly related to argument 'client-output-buffer-limit')"));
        assert!(config == before);
    }

    #[test]
    fn errors_of_the_command() {
        let mut config = Config::default();
        let unknown = "Unknown option or number of arguments for CONFIG SET - 'nosuch'";
        assert_eq!(set(&mut config, &[("port", "1"), ("nosuch", "2")]), unknown);
        assert!(set(&mut config, &[("databases", "1"), ("nosuch", "2")]).ends_with("can't set immutable config"));
        check_refused("databases", "3", "can't set immutable config");
        check_refused("shards", "3", "can't set immutable config");
        assert_eq!(set(&mut config, &[("shards", "0"), ("shard-ports", "no")]), "");
        check_refused("DIR", "/", "can't set protected config");
        let twice = "CONFIG SET failed (possibly related to argument 'repl-backlog-size') - duplicate parameter";
        assert_eq!(set(&mut config, &[("repl-backlog-size", "1"), ("repl-backlog-size", "2")]), twice);
    }

    #[test]
    fn protected_directives_need_leave() {
        let mut config = Config { enable_protected_configs: Protected::Local, ..Config::default() };
        let pair: [(&[u8], &[u8]); 1] = [(b"dbfilename", b"other.rdb")];
        assert!(config.set(&pair, false).is_err());
        assert!(config.set(&pair, true).is_ok());
        assert_eq!(config.dbfilename, "other.rdb");
    }

    #[test]
    fn refused_directives_name_their_topic_and_take_their_default() {
        check_refused("tls-port", "6380", "not supported yet, it comes with TLS");
        let mut config = Config::default();
        assert_eq!(set(&mut config, &[("tls-port", "0")]), "");
    }

    #[test]
    fn texts_are_checked() {
        check_refused(
            "cluster-announce-hostname",
            "a_b",
            "Hostnames may only contain alphanumeric characters, hyphens or dots",
        );
        check_refused("proc-title-template", "{x}", "template format is invalid or contains unknown variables");
        let mut config = Config::default();
        assert_eq!(set(&mut config, &[("proc-title-template", "{{ {title} {port}")]), "proc-title-template");
        let needs_jemalloc = "Active defragmentation cannot be enabled: it requires a server compiled with a modified \
                              Jemalloc like the one shipped by default with the source distribution";
        check_refused("activedefrag", "yes", needs_jemalloc);
        assert_eq!(set(&mut config, &[("activedefrag", "no")]), "");
    }

    #[test]
    fn get_takes_names_and_patterns() {
        let config = Config::default();
        let names = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
            config.matching(&patterns).into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names(&["MaxMemory"]), ["MaxMemory"]);
        assert_eq!(
            names(&["slave-priority", "replica-priority", "SLAVE-priority"]),
            ["slave-priority", "replica-priority"]
        );
        assert_eq!(names(&["MAXMEMORY-S*", "maxmemory-samples"]), ["maxmemory-samples"]);
        assert_eq!(names(&["*exit-on-panic*"]), [""; 0]);
        assert_eq!(names(&["use-exit-on-panic", "nosuch"]), ["use-exit-on-panic"]);
    }

    #[test]
    fn secrets_are_marked() {
        let secrets: Vec<&str> = DIRECTIVES.iter().filter(|d| d.is_secret()).map(|d| d.name).collect();
        let expected = ["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"];
        assert_eq!(secrets, expected);
    }

    proptest! {
        #[test]
        fn any_value_is_safe_and_prints_back(index in 0..DIRECTIVES.len(), value in arbitrary_value()) {
            let directive = &DIRECTIVES[index];
            let mut config = Config { enable_protected_configs: Protected::Yes, ..Config::default() };
            if config.set(&[(directive.name.as_bytes(), &value)], false).is_ok() {
                let printed = directive.print(&config);
                let mut again = Config { enable_protected_configs: Protected::Yes, ..Config::default() };
                again.set(&[(directive.name.as_bytes(), &printed)], false).expect("what is printed can be set");
                prop_assert!(again == config);
            }
        }
    }

    /// Bytes, and texts that some directive likes.
    fn arbitrary_value() -> impl Strategy<Value = Vec<u8>> {
        let likely = prop_oneof![
            "-?[0-9]{1,19}(kb|mb|k|%)?",
            "yes|no|local|now|save|nosave|default|optional",
            "([0-9]{1,4} ){1,3}[0-9]{1,4}",
            "(normal|replica|pubsub) [0-9]{1,3}(mb)? [0-9]{1,3} [0-9]",
            "[A$KEgxmn]{0,6}",
            "[a-z/. *:{}-]{0,12}",
        ];
        prop_oneof![any::<Vec<u8>>(), likely.prop_map(String::into_bytes)]
    }
}
