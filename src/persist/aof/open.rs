//! Finds what there is to load in the append-only directory, as it was left, and makes it whole.
//!
//! An append-only file from before there were directories is moved into one, as Redis does. Everything that is kept is on
//! disk for good when this is done: what follows builds on it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{Listed, Manifest, ManifestError, manifest_name, temp_manifest_name};
use super::recover::{Crash, Damage, Decision, crash_of, decide};
use super::repair::{self, Change};
use super::scan::{Fault, Kind, Scan, scan};
use super::text_of;
use crate::base::ids::ShardId;
use crate::persist::rdb::MAGIC;

/// Where the files are, and what may be done to them.
#[derive(Clone, Debug)]
pub struct Place {
    /// `dir`
    pub server_directory: PathBuf,
    /// `appenddirname`
    pub directory: String,
    /// `appendfilename`
    pub append_file: String,
    /// `aof-load-truncated`
    pub truncates: bool,
    /// The kernel's id of this boot, `-` if it is not known.
    pub boot: String,
}

/// One file to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub is_base: bool,
    pub kind: SourceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// An RDB file and nothing behind it.
    Rdb,
    /// Commands of any keys, behind an RDB preamble perhaps.
    Foreign,
    /// What a shard of so many has written, or a record of the whole keyspace.
    Segment { shard: Option<ShardId>, shards: usize, prefixes: u64 },
}

/// All there is to load, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub manifest: Manifest,
    pub sources: Vec<Source>,
    /// The newest generation there is.
    pub generation: u64,
    /// The newest start that has written; those to come are newer, whatever the clock says.
    pub start: u64,
}

impl Plan {
    /// There is an RDB file among it.
    pub fn has_dump(&self) -> bool {
        self.sources.iter().any(|source| source.kind == SourceKind::Rdb)
    }

    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }
}

/// Finds what there is to load; nothing if there is no append-only file. An error is a text for the log.
pub fn open(place: &Place) -> Result<Option<Plan>, String> {
    let Place { server_directory, directory, append_file, .. } = place;
    let path = server_directory.join(directory);
    let manifest_path = path.join(manifest_name(append_file));
    let manifest = match fs::read(&manifest_path) {
        Ok(bytes) => {
            let manifest = Manifest::parse(&bytes).map_err(|error| tell_manifest_error(&error))?;
            if is_half_upgraded(&manifest, place) { upgrade(place)? } else { manifest }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !server_directory.join(append_file).is_file() {
                return Ok(None);
            }
            upgrade(place)?
        }
        Err(error) => {
            let (path, error) = (manifest_path.display(), text_of(&error));
            return Err(format!("Fatal error: can't open the AOF manifest file {path} for reading: {error}"));
        }
    };
    let failed = |error: io::Error| format!("Recovering the append-only file: {}", text_of(&error));
    if repair::finish(&path, append_file).map_err(failed)? {
        tracing::warn!("Finished the repair of the append-only file that an earlier start had begun");
    }
    let files: Vec<&Listed> = manifest.base.iter().chain(&manifest.increments).collect();
    let mut sources = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = path.join(&file.name);
        let opened = fs::metadata(&path).and_then(|found| Ok((found.len(), is_rdb(&path)?)));
        let (bytes, is_rdb) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("The append log file {} doesn't exist: {}", file.name, text_of(&error)),
            _ => format!("Fatal error: can't open the append log file {} for reading: {}", file.name, text_of(&error)),
        })?;
        let is_base = index == 0 && manifest.base.is_some();
        let kind = if is_base && is_rdb && file.name.ends_with(".rdb") { SourceKind::Rdb } else { SourceKind::Foreign };
        sources.push(Source { name: file.name.clone(), path, bytes, is_base, kind });
    }
    let logs: Vec<usize> = (0..sources.len()).filter(|&index| sources[index].kind != SourceKind::Rdb).collect();
    let scans = scan_all(&sources, &logs)?;
    let crash = crash_of(&scans, &place.boot);
    let decision = decide(&scans, crash).map_err(|Damage { file, fault }| {
        let name = &sources[logs[file]].name;
        tell_revert(&scans[file], name);
        match fault {
            Fault::Truncated => unexpected_end(name),
            Fault::Damaged => bad_format(name),
        }
    })?;
    let mut changes = Vec::new();
    for ((&index, scan), verdict) in logs.iter().zip(&scans).zip(&decision.verdicts) {
        let source = &sources[index];
        if verdict.keep < source.bytes && !place.truncates {
            return Err(unexpected_end(&source.name));
        }
        tell_revert(scan, &source.name);
        changes.extend(repair::change_of(&path, &source.name, source.bytes, verdict).map_err(failed)?);
    }
    tell(&sources, &logs, &scans, &decision, crash);
    repair::repair(&path, append_file, &changes).map_err(failed)?;
    settle(&path, &sources, &logs, &scans, &changes).map_err(failed)?;
    for ((&index, scan), verdict) in logs.iter().zip(&scans).zip(&decision.verdicts) {
        sources[index].bytes = verdict.keep;
        if let Kind::Segment(header) = &scan.kind
            && !scan.is_appended
        {
            sources[index].kind =
                SourceKind::Segment { shard: header.shard, shards: header.shards, prefixes: header.prefixes };
        }
    }
    let headers = || scans.iter().filter_map(Scan::header);
    let generation = headers().map(|header| header.generation).max().unwrap_or(0);
    let start = headers().map(|header| header.start).max().unwrap_or(0);
    Ok(Some(Plan { manifest, sources, generation, start }))
}

pub fn bad_format(name: &str) -> String {
    format!(
        "Bad file format reading the append only file {name}: make a backup of your AOF file, then use peristyle check \
         --fix <filename.manifest>"
    )
}

fn unexpected_end(name: &str) -> String {
    format!(
        "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, then \
         use peristyle check --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' \
         configuration option to yes and restart the server."
    )
}

/// As Redis does; what is left to say.
fn tell_manifest_error(error: &ManifestError) -> String {
    tracing::warn!("*** FATAL AOF MANIFEST FILE ERROR ***");
    if error.line > 0 {
        tracing::warn!("Reading the manifest file, at line {}", error.line);
        tracing::warn!(">>> '{}'", error.text.trim_end());
    }
    error.reason.to_owned()
}

fn tell_revert(scan: &Scan, name: &str) {
    if scan.kind == Kind::Foreign && scan.in_multi {
        tracing::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {name}");
    }
}

fn is_rdb(path: &Path) -> io::Result<bool> {
    use std::io::Read;
    let mut begin = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

/// The manifest was written, and the old file not moved.
fn is_half_upgraded(manifest: &Manifest, place: &Place) -> bool {
    let Manifest { base: Some(base), increments, history, .. } = manifest else { return false };
    let in_directory = place.server_directory.join(&place.directory).join(&base.name);
    let is_old = base.name == place.append_file && increments.is_empty() && history.is_empty();
    is_old && !in_directory.exists() && place.server_directory.join(&base.name).is_file()
}

/// Moves an append-only file from before there were directories into one.
fn upgrade(place: &Place) -> Result<Manifest, String> {
    let Place { server_directory, directory, append_file, .. } = place;
    let path = server_directory.join(directory);
    let base = Some(Listed { name: append_file.clone(), seq: 1 });
    let manifest = Manifest { base, base_seq: 1, ..Manifest::default() };
    let prepare = || {
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let temp = path.join(temp_manifest_name(append_file));
        fs::write(&temp, manifest.print())?;
        File::open(&temp)?.sync_all()?;
        fs::rename(&temp, path.join(manifest_name(append_file)))?;
        repair::sync_directory(&path)
    };
    prepare().map_err(|error| format!("Can't open or create append-only dir {directory}: {}", text_of(&error)))?;
    let moved = fs::rename(server_directory.join(append_file), path.join(append_file));
    let synced =
        moved.and_then(|()| repair::sync_directory(&path)).and_then(|()| repair::sync_directory(server_directory));
    synced.map_err(|error| {
        format!("Error trying to move the old AOF file {append_file} into dir {directory}: {}", text_of(&error))
    })?;
    tracing::info!("Successfully migrated an old-style AOF file ({append_file}) into the AOF directory ({directory}).");
    Ok(manifest)
}

/// Scans these files, several at a time.
fn scan_all(sources: &[Source], logs: &[usize]) -> Result<Vec<Scan>, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(logs.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let scan_some = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(&index) = logs.get(at) else { return done };
            let source = &sources[index];
            let scanned = File::open(&source.path).and_then(|file| scan(file, source.bytes)).map_err(|error| {
                format!("Unrecoverable error reading the append only file {}: {}", source.name, text_of(&error))
            });
            done.push((at, scanned));
        }
    };
    let mut done: Vec<(usize, Result<Scan, String>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(scan_some)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a scan does not panic")).collect()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, scanned)| scanned).collect()
}

/// What the newest start has written may not be on disk yet, unless the repair has synced it.
fn settle(directory: &Path, sources: &[Source], logs: &[usize], scans: &[Scan], changes: &[Change]) -> io::Result<()> {
    let newest = scans.iter().filter_map(Scan::header).map(|header| header.start).max();
    for (&index, scan) in logs.iter().zip(scans) {
        let source = &sources[index];
        let is_newest = scan.header().is_none_or(|header| Some(header.start) == newest);
        if (is_newest || scan.is_appended) && !changes.iter().any(|change| change.name == source.name) {
            File::open(directory.join(&source.name))?.sync_all()?;
        }
    }
    Ok(())
}

/// Says what is cut and why.
fn tell(sources: &[Source], logs: &[usize], scans: &[Scan], decision: &Decision, crash: Crash) {
    for ((&index, scan), verdict) in logs.iter().zip(scans).zip(&decision.verdicts) {
        let Source { name, bytes, .. } = &sources[index];
        if verdict.keep < *bytes && (scan.kind == Kind::Foreign || scan.is_appended) {
            tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
            tracing::warn!("!!! Truncating the AOF {name} at offset {} !!!", verdict.keep);
            tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
        } else if verdict.keep < scan.intact {
            let lost = scan.intact - verdict.keep;
            tracing::warn!("AOF {name}: cut at {}: the last {lost} bytes are newer than the last round", verdict.keep);
        } else if verdict.keep < *bytes {
            let lost = bytes - verdict.keep;
            tracing::warn!("AOF {name}: cut at {}: the last {lost} bytes were still being written", verdict.keep);
        }
        if let [first, ..] = &verdict.skipped[..] {
            let parts = verdict.skipped.len();
            tracing::warn!(
                "AOF {name}: skipping {parts} parts of transactions that did not end, the first of {}",
                first.id
            );
        }
    }
    if crash == Crash::Power && scans.iter().any(|scan| scan.header().is_some()) {
        match decision.round {
            Some(round) => {
                tracing::warn!("The machine has stopped since: the append-only file goes back to round {round}")
            }
            None => tracing::warn!("The machine has stopped since: the append-only file has no round to go back to"),
        }
    }
}
