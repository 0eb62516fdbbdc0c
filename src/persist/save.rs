//! Writes what shards have at one moment into one RDB file, while they go on.
//!
//! ```text
//! shard 0: sizes at the cut, chunks of entries ... \
//! shard 1: sizes at the cut, chunks of entries ...  > channel -> the saver's thread -> temp file -> fsync -> rename
//! ```
//!
//! Each shard begins its snapshot (`keyspace/snapshot.rs`) and from then on fills chunks: a walk in slices, and writes
//! that save before they change. A chunk is whole in itself, so that chunks of all shards may follow each other in any
//! order. A large set, hash or sorted set is a chunk of its own, which is sent when its own table is saved whole, slice by
//! slice. The nodes of a list or a stream are not copied: the chunk shares them, and a command that changes one copies it
//! before. A thread of the save's own waits for the disk, never a shard: the walk pauses while too much is on its way.
//! What writes save ahead of the walk is not held back before it comes to `snapshot-buffer-max`; then these writers wait
//! (`engine/hold.rs`), and if they have waited for long, the save fails. Long strings are not copied: the chunk shares
//! them with the keyspace.
//!
//! A save is complete when as many keys have been written as there were at the cut, counted on both sides: so nothing
//! that ends a snapshot early can be taken for its end.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::aof::disk::{Disk, DiskFile};
use super::rdb::write::{Chunk, Header, Sum, Trials, Usage};
use crate::base::clock::Now;
use crate::base::ids::ShardId;
use crate::base::limits::SNAPSHOT_BUFFER_BYTES_MIN;
use crate::codec::aof::write;
use crate::codec::rdb::Form;
use crate::command::ctx::ShardCtx;
use crate::config::Config;
use crate::config::value::MemoryShare;
use crate::data::dict::Cause;
use crate::data::entry::Entry;
use crate::script::store::Libraries;
use crate::sys::memory;

/// A chunk leaves its shard when it is so large.
const CHUNK_BYTES: usize = 64 * 1024;
/// How much more than that one that was is usually takes.
const CHUNK_SLACK_BYTES: usize = 4 * 1024;
/// The walks pause while so much of their chunks is on its way to the file.
const IN_FLIGHT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// To save this much is as much work as a usual entry is.
const USUAL_ENTRY_BYTES: usize = 512;
/// A collection with no more elements is saved at once: that takes less than a slice.
const SAVED_AT_ONCE_MAX: usize = 512;
/// `rdb-save-incremental-fsync`, as often as Redis does it.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// How long the saver sleeps before it looks whether the save was given up.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a save is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// SAVE.
    Save,
    /// BGSAVE, and the `save` rules: the shards go on meanwhile.
    Background,
    /// DEBUG RELOAD.
    Reload,
    Shutdown,
    /// BGREWRITEAOF: the base of the append-only file.
    Rewrite,
}

impl Purpose {
    /// Nobody waits for it, and the shards go on.
    pub fn is_in_background(self) -> bool {
        matches!(self, Purpose::Background | Purpose::Rewrite)
    }
}

/// A save under way: what the shards and the saver's thread share.
pub struct Saving {
    pub started: Instant,
    pub started_unix_s: i64,
    pub purpose: Purpose,
    /// Of a rewrite: the generation that begins with it, and how much all shards had logged before.
    generation: OnceLock<u64>,
    pub logged: AtomicU64,
    config: Arc<Config>,
    form: Form,
    /// By shard, until it begins.
    senders: Mutex<Vec<Option<Sender<FromShard>>>>,
    /// Of all chunks that are not written yet.
    in_flight_bytes: AtomicU64,
    /// `snapshot-buffer-max`, as of the start.
    buffer_bytes_max: u64,
    /// Short strings do not become shorter by compression, mostly.
    compresses_in_vain: AtomicBool,
    given_up: AtomicBool,
    /// The file did not keep up.
    stalled: AtomicBool,
    pub keys_total: AtomicU64,
    pub keys_saved: AtomicU64,
    /// Changes that the file contains: all shards' counters at the cut.
    pub changes: AtomicU64,
}

enum FromShard {
    Begun {
        /// By database: keys, and those with an expiry.
        sizes: Vec<(u64, u64)>,
        /// All shards share libraries: one of them tells.
        functions: Libraries,
    },
    Chunk(Chunk),
}

/// Where a file belongs.
pub struct Place {
    pub disk: Arc<dyn Disk>,
    /// Which directory that is, for messages.
    pub directory: PathBuf,
    pub file_name: String,
    pub temp_name: String,
}

/// Where and what to write.
pub struct Target {
    pub place: Place,
    /// But for its sizes and functions, which the shards tell.
    pub header: Header,
}

impl Saving {
    /// A save that no shard has begun yet; and what its thread listens to.
    pub(super) fn new(shards: usize, purpose: Purpose, now: Now, config: Arc<Config>) -> (Arc<Saving>, Feed) {
        let (sender, receiver) = channel();
        let buffer_bytes_max = match config.snapshot_buffer_max {
            MemoryShare::Bytes(bytes) => bytes,
            MemoryShare::Percent(percent) => {
                (memory::used_bytes() as u64 / 100 * u64::from(percent)).max(SNAPSHOT_BUFFER_BYTES_MIN)
            }
        };
        let saving = Arc::new(Saving {
            started: Instant::now(),
            started_unix_s: now.unix_s(),
            purpose,
            generation: OnceLock::new(),
            logged: AtomicU64::new(0),
            form: Form::File { compresses: config.rdbcompression },
            config,
            senders: Mutex::new(vec![Some(sender); shards]),
            in_flight_bytes: AtomicU64::new(0),
            buffer_bytes_max,
            compresses_in_vain: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            keys_total: AtomicU64::new(0),
            keys_saved: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        });
        let feed = Feed { saving: saving.clone(), receiver, shards };
        (saving, feed)
    }

    /// A base of commands instead of an RDB file: `aof-use-rdb-preamble no`.
    fn is_of_commands(&self) -> bool {
        self.purpose == Purpose::Rewrite && !self.config.aof_use_rdb_preamble
    }

    fn chunk(&self, db: usize) -> Chunk {
        if self.is_of_commands() { Chunk::of_commands(db, self.form) } else { Chunk::new(db, self.form) }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// The cut at one shard: from now on its databases are saved as they are.
    pub fn begin(self: &Arc<Saving>, shard: ShardId, ctx: &mut ShardCtx) {
        let sender = self.senders.lock().expect("nothing panics while it holds the senders")[shard].take();
        // Who asked for a save that ended before it began may find the next one, begun by another.
        let Some(sender) = sender else { return };
        let size = |db: usize| (ctx.keyspace.db(db).len() as u64, ctx.keyspace.db(db).expires_len() as u64);
        let sizes: Vec<_> = (0..ctx.keyspace.databases()).map(size).collect();
        self.keys_total.fetch_add(sizes.iter().map(|size| size.0).sum(), Relaxed);
        self.changes.fetch_add(ctx.journal.dirty, Relaxed);
        // What was flushed before is not in this file.
        ctx.journal.flushed = false;
        let functions = if shard == 0 { ctx.scripts.store.libraries().1 } else { Libraries::new() };
        // The thread is gone if the file could not be written; it has told why.
        let _ = sender.send(FromShard::Begun { sizes, functions });
        let usage = Usage::of(&self.config, ctx.now);
        // What a flush makes pointless is a file that would bring the keys back; behind a base stands the flush itself.
        ctx.snapshot_outlives_flush = self.purpose == Purpose::Rewrite;
        ctx.keyspace.begin_snapshot(|db| {
            let chunk = self.chunk(db);
            let mut sink = Sink { saving: self.clone(), sender: sender.clone(), db, usage, chunk };
            Box::new(move |entry, cause| sink.push(entry, cause))
        });
    }

    /// The generation behind the cut: the first shard that asks begins it.
    pub fn generation(&self, begin: impl FnOnce() -> u64) -> u64 {
        *self.generation.get_or_init(begin)
    }

    /// The cut is behind this shard.
    pub fn has_begun(&self, shard: ShardId) -> bool {
        self.senders.lock().expect("nothing panics while it holds the senders")[shard].is_none()
    }

    /// The walk may go on: the file keeps up.
    pub fn has_room(&self) -> bool {
        self.in_flight_bytes.load(Relaxed) < IN_FLIGHT_BYTES_MAX.min(self.buffer_bytes_max / 2).max(1)
    }

    /// Who writes the file is to compress short strings. Where it has no time for more than writing, the walks do that.
    fn leaves_compression(&self, cause: Cause) -> bool {
        cause == Cause::Change
            || self.in_flight_bytes.load(Relaxed) < IN_FLIGHT_BYTES_MAX / 2
            || self.compresses_in_vain.load(Relaxed)
    }

    /// How much waits to be written, and how much of it there may be before writers have to wait.
    pub fn buffer(&self) -> (u64, u64) {
        (self.in_flight_bytes.load(Relaxed), self.buffer_bytes_max)
    }

    /// Nearly: what was admitted before, and what is being compressed, comes on top.
    pub fn is_over_budget(&self) -> bool {
        self.in_flight_bytes.load(Relaxed) > self.buffer_bytes_max / 8 * 7
    }

    /// So far within it that those who waited may go on: not one by one.
    pub fn is_within_budget_again(&self) -> bool {
        self.in_flight_bytes.load(Relaxed) <= self.buffer_bytes_max / 8 * 6
    }

    /// Writers have waited for the file for too long: it fails.
    pub fn stall(&self) {
        self.stalled.store(true, Relaxed);
        self.give_up();
    }

    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// The file will not be finished; snapshots for it are to be aborted.
    pub fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }
}

/// Turns entries of one database into chunks.
struct Sink {
    saving: Arc<Saving>,
    sender: Sender<FromShard>,
    db: usize,
    usage: Usage,
    chunk: Chunk,
}

impl Sink {
    /// How much work it was, in usual entries.
    fn push(&mut self, entry: &mut Entry, cause: Cause) -> usize {
        let is_large = entry.table_mut().is_some_and(|table| table.len() > SAVED_AT_ONCE_MAX);
        if is_large && !self.saving.is_of_commands() {
            return self.begin_collection(entry);
        }
        let before = self.chunk.bytes();
        self.chunk.leave_compression(self.saving.leaves_compression(cause));
        self.chunk.push(entry.as_ref(), self.usage, &self.saving.config);
        let after = self.chunk.bytes();
        if after >= CHUNK_BYTES {
            self.send();
        }
        1 + (after - before) / USUAL_ENTRY_BYTES
    }

    /// A large collection has a chunk of its own, filled by a snapshot of its own: each slice takes some of its elements.
    fn begin_collection(&mut self, entry: &mut Entry) -> usize {
        let (saving, sender, db, usage) = (self.saving.clone(), self.sender.clone(), self.db, self.usage);
        let mut chunk = saving.chunk(db);
        chunk.leave_compression(true);
        let save = chunk.push_collection(entry.as_ref(), usage, &saving.config);
        let mut sink = Sink { saving, sender, db, usage, chunk };
        let table = entry.table_mut().expect("it is large");
        let mut left = table.len();
        table.begin_snapshot(Box::new(move |element, _| {
            let before = sink.chunk.bytes();
            sink.chunk.push_element(&save, element.as_ref());
            left -= 1;
            // Without all of them it is not sent.
            sink.chunk.keys = u64::from(left == 0);
            1 + (sink.chunk.bytes() - before) / USUAL_ENTRY_BYTES
        }));
        1
    }

    fn send(&mut self) {
        let mut next = self.saving.chunk(self.db);
        next.reserve(CHUNK_BYTES + CHUNK_SLACK_BYTES);
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.saving.in_flight_bytes.fetch_add(chunk.held_bytes() as u64, Relaxed);
        let _ = self.sender.send(FromShard::Chunk(chunk));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.chunk.keys > 0 {
            self.send();
        }
    }
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody wanted it so, or a flush made it pointless, or the file did not keep up.
    GivenUp,
    /// With what Redis says of it.
    Io(String),
}

/// The saver's end of the channel.
pub(super) struct Feed {
    saving: Arc<Saving>,
    receiver: Receiver<FromShard>,
    shards: usize,
}

impl Feed {
    /// Writes the file and puts it in its place.
    pub(super) fn write(self, target: Target) -> Result<(), Failure> {
        let Target { place: Place { disk, directory, file_name, temp_name }, header } = target;
        let shown_dir = directory.display();
        let file = disk.create(&temp_name).map_err(|error| {
            let error = os_text(&error);
            Failure::Io(format!(
                "Failed opening the temp RDB file {temp_name} (in server root dir {shown_dir}) for saving: {error}"
            ))
        })?;
        let written = self.fill(&*file, header).and_then(|()| {
            disk.rename(&temp_name, &file_name).map_err(|error| {
                let error = os_text(&error);
                Failure::Io(format!(
                    "Error moving temp DB file {temp_name} on the final destination {file_name} (in server root dir \
                     {shown_dir}): {error}"
                ))
            })?;
            disk.sync_names()
                .map_err(|error| Failure::Io(format!("Failed to fsync directory while saving DB: {}", os_text(&error))))
        });
        written.inspect_err(|_| drop(disk.remove(&temp_name)))
    }

    fn fill(self, file: &dyn DiskFile, mut header: Header) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::Io(format!("Write error while saving DB to the disk({}): {error}", os_text(&error)))
        };
        let (mut begun, mut waiting) = (0, Vec::new());
        while begun < self.shards {
            match self.next()? {
                Some(FromShard::Begun { sizes, functions }) => {
                    begun += 1;
                    header.functions.extend(functions.into_values());
                    header.sizes.resize(header.sizes.len().max(sizes.len()), (0, 0));
                    for (sum, size) in header.sizes.iter_mut().zip(sizes) {
                        *sum = (sum.0 + size.0, sum.1 + size.1);
                    }
                }
                Some(FromShard::Chunk(chunk)) => waiting.push(chunk),
                None => return Err(Failure::GivenUp),
            }
        }
        let of_commands = self.saving.is_of_commands();
        let (old, new) = match of_commands {
            true => {
                let mut commands = Vec::new();
                if self.saving.config.aof_timestamp_enabled {
                    write::timestamp(&mut commands, self.saving.started_unix_s);
                }
                header.functions.iter().for_each(|code| write::command(&mut commands, &[b"FUNCTION", b"LOAD", code]));
                (commands, Vec::new())
            }
            false => (header.write(false), header.write(true)),
        };
        file.write_at(&old, 0).map_err(failed)?;
        let mut body = Body {
            saving: &self.saving,
            file,
            end: old.len() as u64,
            sum: Sum::default(),
            trials: Trials::default(),
            synced_to: 0,
            has_field_times: false,
        };
        for chunk in waiting {
            body.write(&chunk).map_err(failed)?;
        }
        while let Some(message) = self.next()? {
            if let FromShard::Chunk(chunk) = message {
                body.write(&chunk).map_err(failed)?;
            }
        }
        let Body { sum, has_field_times, end, .. } = body;
        if self.saving.keys_saved.load(Relaxed) != self.saving.keys_total.load(Relaxed) {
            return Err(Failure::GivenUp);
        }
        let header = if has_field_times { new } else { old };
        let finish = || {
            if of_commands {
                return file.sync();
            }
            file.write_at(&sum.end(&header, self.saving.config.rdbchecksum), end)?;
            if has_field_times {
                file.write_at(&header, 0)?;
            }
            file.sync()
        };
        finish().map_err(failed)
    }

    /// The next message; nothing at the end.
    fn next(&self) -> Result<Option<FromShard>, Failure> {
        loop {
            if self.saving.is_given_up() {
                return Err(Failure::GivenUp);
            }
            match self.receiver.recv_timeout(PATIENCE) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// The file behind its header.
struct Body<'a> {
    saving: &'a Saving,
    file: &'a dyn DiskFile,
    /// To where it is written.
    end: u64,
    sum: Sum,
    trials: Trials,
    /// To where it was handed to the disk.
    synced_to: u64,
    has_field_times: bool,
}

impl Body<'_> {
    fn write(&mut self, chunk: &Chunk) -> io::Result<()> {
        let config = &self.saving.config;
        delay(self.saving, chunk.keys, config.rdb_key_save_delay);
        chunk.write(&mut self.trials, |bytes| {
            self.file.write_at(bytes, self.end)?;
            self.end += bytes.len() as u64;
            if config.rdbchecksum {
                self.sum.add(bytes);
            }
            Ok(())
        })?;
        self.saving.compresses_in_vain.store(self.trials.are_in_vain(), Relaxed);
        self.has_field_times |= chunk.has_field_times;
        let syncs = match self.saving.purpose {
            Purpose::Rewrite => config.aof_rewrite_incremental_fsync,
            Purpose::Save | Purpose::Background | Purpose::Reload | Purpose::Shutdown => {
                config.rdb_save_incremental_fsync
            }
        };
        if syncs && self.end - self.synced_to >= SYNC_BYTES {
            self.file.write_out(self.synced_to, self.end)?;
            self.synced_to = self.end;
        }
        self.saving.keys_saved.fetch_add(chunk.keys, Relaxed);
        self.saving.in_flight_bytes.fetch_sub(chunk.held_bytes() as u64, Relaxed);
        Ok(())
    }
}

/// `rdb-key-save-delay`: so many microseconds a key, for tests that need a slow save.
fn delay(saving: &Saving, keys: u64, microseconds: i32) {
    let until = Instant::now() + Duration::from_micros(keys * u64::try_from(microseconds).unwrap_or(0));
    while !saving.is_given_up() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(PATIENCE));
    }
}

/// The operating system's text of an error, as C programs print it.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::aof::disk::Directory;
    use super::*;
    use crate::base::rng::Rng;
    use crate::command::testing::{START_MS, TestShard};
    use crate::data::digest::{self, Digest};
    use crate::engine::table::FAMILIES;
    use crate::keyspace::slots::SlotMap;
    use crate::persist::load::{Duplicates, Loader};

    const SHARDS: usize = 2;

    /// Begins a save of two shards, one key each; the second asks twice.
    fn begun() -> (Arc<Saving>, Feed, [TestShard; SHARDS]) {
        let (saving, feed) = Saving::new(SHARDS, Purpose::Background, Now::default(), Arc::new(Config::default()));
        let mut shards = [TestShard::new(FAMILIES), TestShard::new(FAMILIES)];
        shards[0].run("SET a 1");
        shards[1].run("SET b 1");
        for id in [0, 1, 1] {
            saving.begin(id, &mut shards[id].ctx);
        }
        (saving, feed, shards)
    }

    fn target(name: &str, saving: &Saving) -> Target {
        let directory = std::env::temp_dir().join(format!("peristyle-save-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a new directory");
        let (sizes, functions) = (Vec::new(), Vec::new());
        let header = Header {
            redis_version: "7.2.4",
            unix_s: 0,
            used_memory: 0,
            sizes,
            functions,
            form: saving.form(),
            is_aof_base: false,
        };
        let disk = Arc::new(Directory::new(directory.clone()));
        let place = Place { disk, directory, file_name: "dump.rdb".to_owned(), temp_name: "temp.rdb".to_owned() };
        Target { place, header }
    }

    #[test]
    fn the_file_has_what_all_shards_had_at_the_cut() {
        let (saving, feed, mut shards) = begun();
        shards[0].run("SET a 2 | SET c 3");
        shards[1].run("FLUSHDB");
        for shard in &mut shards {
            while shard.ctx.keyspace.snapshot_slice(1) {}
        }
        let target = target("whole", &saving);
        let directory = target.place.directory.clone();
        assert!(feed.write(target).is_ok());
        let file = File::open(directory.join("dump.rdb")).expect("the file");
        let mut loaded = TestShard::new(FAMILIES);
        let slots = SlotMap::contiguous(1);
        let mut loader = Loader::new(file, 100, 0, slots, Duplicates::Refused, &loaded.ctx).expect("ours");
        while !loader.slice(&mut loaded.ctx, 1000).expect("ours") {}
        assert_eq!(loaded.run("GET a | GET b | GET c"), "1 | 1 | nil");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    /// Elements of each large collection.
    const ELEMENTS: u64 = 3000;

    fn with_large_collections() -> TestShard {
        let mut shard = TestShard::new(FAMILIES);
        for first in (0..ELEMENTS).step_by(100) {
            let words = |word: &dyn Fn(u64) -> String| (first..first + 100).map(word).collect::<String>();
            shard.run(&format!("SADD s{}", words(&|n| format!(" m{n}"))));
            shard.run(&format!("SADD gone{}", words(&|n| format!(" m{n}"))));
            shard.run(&format!("HSET h{}", words(&|n| format!(" f{n} v{n}"))));
            shard.run(&format!("HSET t{}", words(&|n| format!(" f{n} v{n}"))));
            shard.run(&format!("ZADD z{}", words(&|n| format!(" {n}.5 m{n}"))));
            shard.run(&format!("RPUSH l{}", words(&|n| format!(" e{n}"))));
            (first..first + 100).for_each(|n| drop(shard.run(&format!("XADD x {}-1 f v{n}", n + 1))));
            let at_ms = START_MS + 1_000_000 + first as i64;
            shard.run(&format!("HPEXPIREAT t {at_ms} FIELDS 3 f{} f{} f{}", first, first + 7, first + 50));
        }
        (0..500).for_each(|n| drop(shard.run(&format!("SET k{n} v"))));
        shard
    }

    fn digests(shard: &TestShard) -> Vec<Option<Digest>> {
        let keyspace = &shard.ctx.keyspace;
        (0..keyspace.databases()).map(|db| digest::of_table(keyspace.db(db))).collect()
    }

    #[test]
    fn large_collections_are_saved_as_they_were_whatever_happens_to_them_meanwhile() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let mut shard = with_large_collections();
            let (saving, feed) = Saving::new(1, Purpose::Background, Now::default(), Arc::new(Config::default()));
            let cut = digests(&shard);
            saving.begin(0, &mut shard.ctx);
            while shard.ctx.keyspace.snapshot_slice(100) || shard.ctx.lazyfree.is_pending() {
                for _ in 0..rng.below(4) {
                    let n = rng.below(ELEMENTS + 500);
                    let command = match rng.below(100) {
                        0 => "DEL gone | RENAME h other | MOVE z 3".to_owned(),
                        1 => "SET gone now | HSET h f1 new | ZADD z 1 new".to_owned(),
                        2 => "SWAPDB 0 2 | SWAPDB 2 0 | COPY s s2".to_owned(),
                        3 => "ZREMRANGEBYRANK z 10 300 | SPOP s 40 | SPOP s2 5 | UNLINK k1".to_owned(),
                        4 if seed % 4 == 3 => "FLUSHDB ASYNC | SADD s x".to_owned(),
                        5..25 => format!("SADD s m{n} | SADD gone m{n}"),
                        25..45 => format!("SREM s m{n} | DEL k{n}"),
                        45..65 => format!("HSET h f{n} new | HSET t f{n} new | HDEL t f{}", n / 2),
                        65..75 => format!("HPEXPIREAT t {} FIELDS 1 f{n}", START_MS + 500_000),
                        75..80 => format!("LSET l {} new | LPUSH l a | RPOP l | LREM l 1 e{n}", n / 2),
                        80..85 => format!("XADD x * f new | XDEL x {n}-1 | LTRIM l 1 -2"),
                        _ => format!("ZADD z 7 m{n} | ZREM z m{} | SET k{n} new", n / 2),
                    };
                    shard.run(&command);
                }
                shard.ctx.lazyfree.slice(100);
            }
            let target = target(&format!("large{seed}"), &saving);
            let directory = target.place.directory.clone();
            assert!(feed.write(target).is_ok(), "seed {seed}");
            let file = File::open(directory.join("dump.rdb")).expect("the file");
            let bytes = file.metadata().expect("it is open").len();
            let mut loaded = TestShard::new(FAMILIES);
            let slots = SlotMap::contiguous(1);
            let mut loader = Loader::new(file, bytes, 0, slots, Duplicates::Refused, &loaded.ctx).expect("ours");
            while !loader.slice(&mut loaded.ctx, 1000).expect("ours") {}
            assert_eq!(digests(&loaded), cut, "seed {seed}");
            std::fs::remove_dir_all(directory).expect("it is there");
        }
    }

    #[test]
    fn a_large_collection_that_is_half_saved_makes_no_file() {
        let mut shard = with_large_collections();
        let (saving, feed) = Saving::new(1, Purpose::Background, Now::default(), Arc::new(Config::default()));
        saving.begin(0, &mut shard.ctx);
        (0..20).for_each(|_| assert!(shard.ctx.keyspace.snapshot_slice(100)));
        shard.ctx.keyspace.abort_snapshot();
        let target = target("half", &saving);
        let directory = target.place.directory.clone();
        assert!(matches!(feed.write(target), Err(Failure::GivenUp)));
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[test]
    fn a_walk_compresses_where_the_file_falls_behind_and_it_helps_but_a_change_never_waits_for_that() {
        let (saving, _feed, _shards) = begun();
        let leaves = || (saving.leaves_compression(Cause::Walk), saving.leaves_compression(Cause::Change));
        assert_eq!(leaves(), (true, true));
        saving.in_flight_bytes.store(IN_FLIGHT_BYTES_MAX / 2, Relaxed);
        assert_eq!(leaves(), (false, true));
        saving.compresses_in_vain.store(true, Relaxed);
        assert_eq!(leaves(), (true, true));
    }

    #[test]
    fn a_snapshot_that_ended_early_makes_no_file() {
        let (saving, feed, mut shards) = begun();
        shards[0].ctx.keyspace.abort_snapshot();
        while shards[1].ctx.keyspace.snapshot_slice(1) {}
        let target = target("part", &saving);
        let directory = target.place.directory.clone();
        assert!(matches!(feed.write(target), Err(Failure::GivenUp)));
        assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 0);
        std::fs::remove_dir_all(directory).expect("it is there");
    }
}
