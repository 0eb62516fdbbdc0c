//! Every named limit that no operator sets, with what happens at it.

/// Commands of all connections that are parsed, prefetched and run as one batch. A longer pipeline makes several
/// batches in a turn; the bound keeps the batch's arguments and table lines in the first-level cache.
pub const BATCH_COMMANDS_MAX: usize = 64;

/// Arguments of a batch whose room is kept for the next one. A command may have a million of them; that room is freed.
pub const BATCH_WORDS_KEPT_MAX: usize = 16 * 1024;

/// Commands one connection may run in a turn before the others get theirs; the rest waits for the next turn.
pub const TURN_COMMANDS_MAX: usize = 1024;

/// Replies that one connection may cause in a turn, in bytes and but for the last batch, before the others get theirs and
/// the output limits are looked at.
pub const TURN_OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Commands of one connection that are sent to other shards and not answered yet; beyond it the connection's next
/// commands wait, unparsed.
pub const PIPELINE_REMOTE_MAX: usize = 16 * 1024;

/// The same in bytes of the replies to come, as far as those of late foretell them.
pub const PIPELINE_REMOTE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Memory of a transaction's queue, and how many of them, that a shard keeps for the next ones; beyond it they are freed.
pub const QUEUE_KEPT_BYTES_MAX: usize = 4 * 1024;
pub const TRANSACTIONS_KEPT_MAX: usize = 64;

/// How large the first reply from another shard is assumed to be.
pub const REPLY_BYTES_ASSUMED: usize = 1024 * 1024;

/// An argument of at least this many bytes is received straight into an allocation of its own, which the value then
/// takes over (design, part 3: at most one copy in, one out).
pub const LARGE_ARGUMENT_BYTES: usize = 32 * 1024;

/// An inline request without a line end, or the count line of a request, may be this long; then: protocol error.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Arguments in one request; beyond it: protocol error (Redis: `INT_MAX`).
pub const ARGUMENTS_MAX: i64 = i32::MAX as i64;

/// Before AUTH, a request has at most this many arguments, each of at most this many bytes (Redis 6.0.16).
pub const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;
pub const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

/// Capacity of an output buffer that goes back to the shard's pool when drained; larger ones are freed.
pub const OUTPUT_BUFFER_BYTES: usize = 16 * 1024;

/// Output buffers a shard keeps for the next replies; beyond it they are freed.
pub const OUTPUT_POOL_MAX: usize = 128;

/// A pending output grows in pieces of this size, so that a slow reader's backlog is never copied to grow.
pub const OUTPUT_CHUNK_BYTES: usize = 1024 * 1024;

/// Unparsed input of a waiting connection beyond which it is not read any more, until it goes on.
pub const PAUSED_INPUT_BYTES_MAX: usize = 1024 * 1024;

/// Messages in one mailbox; a full one makes the sender queue at home and stop reading what feeds it.
pub const MAILBOX_MESSAGES: usize = 1024;

/// Shards of one server: SCAN's cursor has ten bits for the shard.
pub const SHARDS_MAX: usize = 1024;

/// A slice of background work ends when it has taken so long (of the shard's own clock), and the next waits for a turn
/// of requests.
pub const BACKGROUND_SLICE_NS: u64 = 500_000;
/// It ends before when somebody comes, but for this part of the time that the turn has served clients, and so long in any
/// case: a shard that has little to spare goes on serving, and background work goes on, too.
pub const BACKGROUND_SHARE_DIVISOR: u64 = 2;
pub const BACKGROUND_SLICE_NS_MIN: u64 = 20_000;

/// Entries that a flush in the background frees before it answers, about what a slice would: who has little learns at once
/// from INFO that it is gone.
pub const FLUSHED_AT_ONCE_MAX: usize = 4096;

/// `appendfsync everysec`: what a power loss takes at most. Replies to writes wait where it would be more.
pub const LOG_LAG_MAX_NS: u64 = 2_000_000_000;

/// From the beginning of one round of `everysec` to that of the next, at least.
pub const LOG_ROUND_NS: u64 = 1_000_000_000;

/// A log that could not be written is tried again so much later.
pub const LOG_RETRY_NS: u64 = 100_000_000;

/// Keys that background work expires or frees between two looks at the clock.
pub const BACKGROUND_STEP_KEYS: usize = 128;

/// Keys that a snapshot saves between two looks: each may be far from the last in memory, and takes four times as long.
pub const SNAPSHOT_STEP_KEYS: usize = 32;

/// A snapshot whose file does not keep up holds writers back so long at a stretch; then it fails, and they go on.
pub const SNAPSHOT_STALL_NS_MAX: u64 = 10_000_000_000;

/// A part of `used_memory` is never a smaller budget for what snapshots hold: see `snapshot-buffer-max`.
pub const SNAPSHOT_BUFFER_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Bytes of a file that are loaded between two looks at the clients, who are told to wait.
pub const LOAD_STEP_BYTES: u64 = 64 * 1024;

/// Elements that one command may draw with repetition (a negative count) where no output limit ends its client: each is in
/// the reply. Beyond it: "value is out of range".
pub const RANDOM_MEMBERS_MAX: u64 = 1 << 26;

/// Keys that a shard gives up at one go, where `tracking-table-max-keys` is exceeded; the next follow with its next turn.
pub const TRACKED_KEYS_EVICTED_MAX: usize = 1000;

/// Keys that one round of a job fetches, of those that the data names: what a shard copies at one go.
pub const FETCH_KEYS_MAX: usize = 1024;

/// Tables in tables that a script may return or encode, and arrays in arrays that it may decode: each takes a few hundred
/// bytes of the shard's stack. Beyond, the reply or the script ends with an error.
pub const SCRIPT_NESTING_MAX: usize = 1000;

/// So much of what is no command is shown in the log.
pub const PROTOCOL_DUMP_BYTES: usize = 128;

/// Output of a client that is not authenticated, beyond the buffer that a connection begins with: such a client is closed.
pub const UNAUTHENTICATED_OUTPUT_BYTES_MAX: usize = 1024;

/// A shard whose lease another one needed keeps none for so long: what else there is to do is not held up again and again.
pub const LEASE_REST_NS: u64 = 10_000_000;
