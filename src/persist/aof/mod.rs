//! The append-only file: a directory of segments, one a shard and generation, behind a base (`codec::aof` has the
//! format).
//!
//! Each shard has a [`log::Log`], to which it hands what its commands did once a turn, before anything that could tell of
//! it leaves the shard. What they share is here: the manifest, and which generation is being written.
//!
//! *Generations.* Between two events that concern the whole keyspace the shards' segments are independent of each other,
//! as shards share no keys. Such an event (a start, a rewrite, and, with several shards, FLUSHALL, FLUSHDB, SWAPDB)
//! happens while no shard writes anything; the shards go on in new segments. FLUSHALL and its like stand in a segment of
//! their own between the two. Segments are listed in the manifest in the order in which they were made, so a reader that
//! knows nothing of generations reads them in their order.
//!
//! *Transactions over several shards* are committed in two phases, whose decision is logged: each shard logs its parts
//! under the transaction's id before it answers; the locks stay until the coordinator, who has all answers, has logged
//! that the transaction is decided. A part without a decision does not count, and nothing that stands behind it in
//! any log depends on it, as its keys were locked. So a crash needs no cut over all logs, and no reply waits for another
//! shard's log.
//!
//! *everysec.* Once a second, while a shared lock on all keys keeps every shard from writing, each ends a round in its
//! log; then a thread syncs them all. After a power loss the last round that is whole in all logs is one moment of the
//! whole server.

pub mod disk;
pub mod load;
pub mod log;
pub mod manifest;
pub mod open;
pub mod recover;
pub mod repair;
pub mod rounds;
pub mod scan;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use self::disk::{Disk, DiskFile};
use self::manifest::{Listed, Manifest, manifest_name, temp_manifest_name};
use self::rounds::Rounds;
use crate::base::ids::ShardId;
use crate::codec::aof::Header;
use crate::config::Config;

/// What all shards of the process share.
pub struct Aof {
    shards: usize,
    /// Set when the log begins for the first time.
    run: OnceLock<Run>,
    directory: Mutex<Option<Files>>,
    /// The generation of what is written now.
    generation: AtomicU64,
    /// The first shard's first segment, made at the start.
    first: Mutex<Option<(Arc<dyn DiskFile>, u64)>>,
    /// Shards write what they do: set when all that was there is loaded.
    is_on: AtomicBool,
    pub rounds: Rounds,
    /// By shard: how far its log goes, and to where it is known to be on disk.
    positions: Vec<AtomicU64>,
    durable: Vec<AtomicU64>,
    /// By shard: it could not write, and tries again.
    failing: Vec<AtomicBool>,
    /// What the disk said last.
    reason: Mutex<String>,
    /// Bytes of the files behind the last rewrite; and what to add to the logs' positions to have their bytes now.
    base_bytes: AtomicU64,
    sizes: AtomicU64,
    /// DEBUG AOF-FLUSH-SLEEP
    write_pause_us: AtomicU64,
}

/// Which start of the server this is.
pub struct Run {
    /// Unix time in microseconds.
    pub start: u64,
    /// The kernel's boot id.
    pub boot: String,
    /// `SlotMap::prefix_sum`.
    pub prefixes: u64,
}

/// The files and what the manifest says of them.
struct Files {
    disk: Arc<dyn Disk>,
    append_file: String,
    manifest: Manifest,
    /// Of the increments of the manifest.
    generations: Vec<u64>,
    /// Segments that may hold what is not on disk, and their generations.
    unsynced: Vec<(u64, Arc<dyn DiskFile>)>,
    path: PathBuf,
    /// What is written is of no use before there is a base: until then the manifest on disk stays as it is.
    withheld: bool,
}

impl Aof {
    pub fn new(shards: usize) -> Aof {
        let zeros = || (0..shards).map(|_| AtomicU64::new(0)).collect();
        Aof {
            shards,
            run: OnceLock::new(),
            directory: Mutex::new(None),
            generation: AtomicU64::new(0),
            first: Mutex::default(),
            is_on: AtomicBool::new(false),
            rounds: Rounds::default(),
            positions: zeros(),
            durable: zeros(),
            failing: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            reason: Mutex::default(),
            base_bytes: AtomicU64::new(0),
            sizes: AtomicU64::new(0),
            write_pause_us: AtomicU64::new(0),
        }
    }

    /// Takes over a directory as it was loaded, or an empty one. `generation` is the last that it holds.
    pub fn open(
        &self,
        disk: Arc<dyn Disk>,
        path: PathBuf,
        append_file: &str,
        manifest: Manifest,
        generation: u64,
        run: Run,
    ) -> io::Result<()> {
        disk.prepare()?;
        let listed = manifest.base.iter().chain(&manifest.increments);
        let bytes = listed.filter_map(|file| disk.length(&file.name).ok()).sum();
        self.base_bytes.store(bytes, Relaxed);
        self.sizes.store(bytes, Relaxed);
        let generations = vec![generation; manifest.increments.len()];
        self.run.get_or_init(|| run);
        self.generation.store(generation + 1, Relaxed);
        let append_file = append_file.to_owned();
        *self.directory() =
            Some(Files { disk, append_file, manifest, generations, unsynced: Vec::new(), path, withheld: false });
        Ok(())
    }

    fn directory(&self) -> MutexGuard<'_, Option<Files>> {
        self.directory.lock().expect("nothing panics while it holds the directory")
    }

    fn with_files<T>(&self, change: impl FnOnce(&mut Files) -> io::Result<T>) -> io::Result<T> {
        change(self.directory().as_mut().ok_or(io::ErrorKind::NotFound)?)
    }

    /// Every write waits so long before it begins, for tests that look at what is sent before it.
    pub fn set_write_pause_us(&self, microseconds: u64) {
        self.write_pause_us.store(microseconds, Relaxed);
    }

    fn pause_before_write(&self) {
        let pause_us = self.write_pause_us.load(Relaxed);
        if pause_us > 0 {
            std::thread::sleep(Duration::from_micros(pause_us));
        }
    }

    /// There is something to write to.
    pub fn is_open(&self) -> bool {
        self.directory().is_some()
    }

    /// It is this directory that is written to.
    pub fn is_open_at(&self, path: &Path) -> bool {
        self.directory().as_ref().is_some_and(|files| files.path == path)
    }

    /// The directory is there: somebody may have removed it.
    pub fn prepare(&self) -> io::Result<()> {
        self.with_files(|files| files.disk.prepare())
    }

    /// From now on shards write, or no longer.
    pub fn set_on(&self, on: bool) {
        self.is_on.store(on, Relaxed);
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Of the transactions of this start.
    pub fn start(&self) -> u64 {
        self.run.get().map_or(0, |run| run.start)
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// No shard writes anything now: what they write from now on is another generation.
    pub fn begin_generation(&self) -> u64 {
        self.generation.fetch_add(1, Relaxed) + 1
    }

    /// There is no file at all yet.
    pub fn is_empty(&self) -> bool {
        let directory = self.directory();
        directory.as_ref().is_some_and(|files| files.manifest.base.is_none() && files.manifest.increments.is_empty())
    }

    /// A base of these bytes, before anything else is written. Its name.
    pub fn create_base(&self, bytes: &[u8], format: &str) -> io::Result<String> {
        self.with_files(|files| {
            let mut manifest = files.manifest.clone();
            let base = manifest.next_base(&files.append_file, format);
            manifest.set_base(base.clone(), |_| false);
            let file = files.disk.create(&base.name)?;
            file.write_at(bytes, 0)?;
            file.sync()?;
            files.replace_manifest(manifest)?;
            Ok(base.name)
        })
    }

    /// A start leaves its mark before anybody is served: as long as there is none, what recovery has left counts as written
    /// by the start before, and a power loss may take of that what clients have seen since.
    pub fn begin(&self) -> io::Result<()> {
        let made = self.create_segment(Some(0), self.generation(), 0, &[])?;
        *self.first() = Some(made);
        Ok(())
    }

    fn first(&self) -> MutexGuard<'_, Option<(Arc<dyn DiskFile>, u64)>> {
        self.first.lock().expect("nothing panics while it holds the segment")
    }

    /// Where the next base belongs, and what it will be listed as.
    pub fn next_base(&self, format: &str) -> io::Result<(Arc<dyn Disk>, PathBuf, Listed)> {
        self.with_files(|files| {
            let base = files.manifest.next_base(&files.append_file, format);
            Ok((files.disk.clone(), files.path.clone(), base))
        })
    }

    /// The next base is there, and contains all that was written before a generation. So many bytes had been logged at
    /// that moment, since the start.
    pub fn adopt_base(&self, base: &Listed, generation: u64, logged: u64) -> io::Result<()> {
        self.with_files(|files| {
            let mut manifest = files.manifest.clone();
            // A shard may have begun a segment of the generation before when another was in this one already.
            let is_contained = |of: u64| of < generation;
            manifest.set_base(base.clone(), |place| is_contained(files.generations[place]));
            let withheld = std::mem::take(&mut files.withheld);
            files.replace_manifest(manifest).inspect_err(|_| files.withheld = withheld)?;
            files.generations.retain(|&of| !is_contained(of));
            files.unsynced.retain(|(of, _)| !is_contained(*of));
            let bytes = files.disk.length(&base.name)?;
            self.sizes.store(bytes.wrapping_sub(logged), Relaxed);
            self.base_bytes.store(self.size(), Relaxed);
            self.rounds.forget_failure(generation);
            Ok(())
        })
    }

    /// Deletes what is no longer needed.
    pub fn collect(&self) {
        if !self.is_open() {
            return;
        }
        let collected = self.with_files(|files| {
            if files.withheld || files.manifest.history.is_empty() {
                return Ok(());
            }
            let mut manifest = files.manifest.clone();
            let history = std::mem::take(&mut manifest.history);
            files.replace_manifest(manifest)?;
            for file in history {
                if let Err(error) = files.disk.remove(&file.name) {
                    tracing::warn!("Can't delete the AOF file {}: {}", file.name, text_of(&error));
                }
            }
            Ok(())
        });
        if let Err(error) = collected {
            tracing::warn!("Can't delete old AOF files: {}", text_of(&error));
        }
    }

    /// What is written from now on waits for a base.
    pub fn withhold(&self) {
        if let Some(files) = self.directory().as_mut() {
            files.withheld = true;
        }
    }

    pub fn is_withheld(&self) -> bool {
        self.directory().as_ref().is_some_and(|files| files.withheld)
    }

    /// Bytes of all files: INFO's `aof_current_size`.
    pub fn size(&self) -> u64 {
        let logged: u64 = self.positions.iter().map(|position| position.load(Relaxed)).sum();
        self.sizes.load(Relaxed).wrapping_add(logged)
    }

    /// The same behind the last rewrite, or at the start.
    pub fn base_size(&self) -> u64 {
        self.base_bytes.load(Relaxed)
    }

    /// The files have grown so much since the last rewrite that it is time for one, by how many percent.
    pub fn growth(&self, config: &Config) -> Option<u64> {
        let (size, base) = (self.size(), self.base_size().max(1));
        let percent = (size * 100 / base).saturating_sub(100);
        let wanted = u64::from(config.auto_aof_rewrite_percentage);
        (wanted > 0 && size > config.auto_aof_rewrite_min_size && percent >= wanted).then_some(percent)
    }

    /// A new segment, listed in the manifest for good; and how long its header is. `round`: see there. A record of the
    /// whole keyspace is there with its segment, and listed when all that is before it is on disk: so it is a moment of
    /// the whole server, whatever rounds there were.
    fn create_segment(
        &self,
        shard: Option<ShardId>,
        generation: u64,
        round: u64,
        record: &[u8],
    ) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let run = self.run.get().expect("set when it was opened");
        let (start, boot, shards, prefixes) = (run.start, run.boot.clone(), self.shards, run.prefixes);
        let position = shard.map_or(0, |shard| self.positions[shard].load(Relaxed));
        let header = Header { generation, shard, shards, prefixes, start, boot, round, position }.to_string();
        self.with_files(|files| {
            let mut manifest = files.manifest.clone();
            let name = manifest.new_increment(&files.append_file);
            let file = files.disk.create(&name)?;
            file.write_at(header.as_bytes(), 0)?;
            file.write_at(record, header.len() as u64)?;
            // A segment without its header would be taken for Redis's.
            file.sync()?;
            if shard.is_none() {
                files
                    .unsynced
                    .iter()
                    .try_for_each(|(of, file)| file.sync().inspect_err(|error| self.tell_sync_failure(*of, error)))?;
                files.forget_synced(generation, |_| true);
            } else {
                files.unsynced.push((generation, file.clone()));
            }
            files.replace_manifest(manifest)?;
            files.generations.push(generation);
            Ok((file, header.len() as u64))
        })
    }

    /// Makes durable what was written to any segment before.
    fn sync_all(&self) -> io::Result<()> {
        let mut sweep = self.begin_sweep();
        while sweep.step().inspect_err(|error| self.tell_sync_failure(sweep.generation_now(), error))? {}
        self.end_sweep(&sweep);
        Ok(())
    }

    fn begin_sweep(&self) -> Sweep {
        let generation = self.generation();
        let files = self.directory().as_ref().map_or_else(Vec::new, |files| files.unsynced.clone());
        Sweep { generation, files, synced: 0 }
    }

    /// All of it is synced.
    fn end_sweep(&self, sweep: &Sweep) {
        if let Some(open) = self.directory().as_mut() {
            let is_done = |file: &Arc<dyn DiskFile>| sweep.files.iter().any(|(_, done)| Arc::ptr_eq(done, file));
            open.forget_synced(sweep.generation, is_done);
        }
    }

    /// A write of this shard's failed, or succeeds again. The first and the last of a row are told.
    pub fn tell_write(&self, shard: ShardId, outcome: &io::Result<()>) {
        let was_failing = self.failing[shard].swap(outcome.is_err(), Relaxed);
        match outcome {
            Err(error) if !was_failing => {
                self.tell_reason(error);
                tracing::warn!("Error writing to the AOF file: {}", text_of(error));
            }
            Ok(()) if was_failing => tracing::warn!("AOF write error looks solved. The server can write again."),
            _ => {}
        }
    }

    /// Some shard cannot write, or something could not be synced.
    #[inline]
    pub fn is_failing(&self) -> bool {
        !self.writes_succeed() || self.rounds.has_failed()
    }

    fn tell_reason(&self, error: &io::Error) {
        *self.reason.lock().expect("nothing panics while it holds the reason") = text_of(error);
    }

    /// Why the log cannot be written, if that is so.
    pub fn failure(&self) -> Option<String> {
        let reason = || self.reason.lock().expect("nothing panics while it holds the reason").clone();
        self.is_failing().then(reason)
    }

    /// The last write of every shard succeeded.
    pub fn writes_succeed(&self) -> bool {
        !self.failing.iter().any(|failing| failing.load(Relaxed))
    }

    /// Some shard has logged what is not known to be on disk.
    pub fn is_behind(&self) -> bool {
        self.positions
            .iter()
            .zip(&self.durable)
            .any(|(position, durable)| position.load(Relaxed) > durable.load(Relaxed))
    }

    pub fn durable(&self, shard: ShardId) -> u64 {
        self.durable[shard].load(Relaxed)
    }

    /// All logs are on disk up to these positions.
    pub fn has_synced(&self, positions: &[u64]) -> bool {
        self.durable.iter().zip(positions).all(|(durable, position)| durable.load(Relaxed) >= *position)
    }

    /// How far each shard's log goes.
    pub fn positions(&self) -> Vec<u64> {
        self.positions.iter().map(|position| position.load(Relaxed)).collect()
    }
}

/// Segments that are being synced, one after the other.
struct Sweep {
    generation: u64,
    files: Vec<(u64, Arc<dyn DiskFile>)>,
    synced: usize,
}

impl Sweep {
    /// One of them; false when there are none left.
    fn step(&mut self) -> io::Result<bool> {
        let Some((_, file)) = self.files.get(self.synced) else { return Ok(false) };
        file.sync()?;
        self.synced += 1;
        Ok(true)
    }

    /// Of the one that is next, or that has failed.
    fn generation_now(&self) -> u64 {
        self.files.get(self.synced).map_or(self.generation, |(of, _)| *of)
    }
}

impl Files {
    /// Segments of this generation are written to still, and so are those before the record in front of it: by shards
    /// that have not switched yet, and let keys expire meanwhile.
    fn forget_synced(&mut self, generation: u64, is_synced: impl Fn(&Arc<dyn DiskFile>) -> bool) {
        self.unsynced.retain(|(of, file)| *of + 2 >= generation || !is_synced(file));
    }

    /// Puts another manifest in the place of the one there is, for good. What it lists is on disk.
    fn replace_manifest(&mut self, manifest: Manifest) -> io::Result<()> {
        if self.withheld {
            self.manifest = manifest;
            return Ok(());
        }
        let (temp, name) = (temp_manifest_name(&self.append_file), manifest_name(&self.append_file));
        let file = self.disk.create(&temp)?;
        file.write_at(manifest.print().as_bytes(), 0)?;
        file.sync()?;
        // That it lists a file must not outlive the file's name.
        self.disk.sync_names()?;
        if let Err(error) = self.disk.rename(&temp, &name).and_then(|()| self.disk.sync_names()) {
            // Either of the two may be the one there is. Both are true as long as no other file takes the place of one
            // that they list: segments that are begun anew have nothing in them that counts, but a base has.
            if let Some(base) = manifest.base.filter(|base| self.manifest.base.as_ref() != Some(base)) {
                self.manifest.give_up_base(&base);
            }
            return Err(error);
        }
        self.manifest = manifest;
        Ok(())
    }
}

/// The operating system's text of an error, as C programs print it.
pub fn text_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
