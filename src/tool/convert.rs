//! `peristyle convert FROM TO`: the same keys and libraries as an RDB file, as an append-only directory, or as lines of
//! JSON (`json`). What FROM is, its content says; what TO is, its name.
//!
//! RDB files and JSON stream: one key at a time is in memory. A log has to be replayed first, so that all keys are in
//! memory. TO appears when it is whole, and never replaces anything. Keys whose time has passed are kept with it; when a
//! key was last used is not.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Shown, check_aof, json, progress_bar};
use crate::base::clock::Now;
use crate::base::ids::ShardId;
use crate::base::rng::Rng;
use crate::codec::rdb::{Form, Output, Reader, opcode, rdb_type, write_string};
use crate::command::ctx::ShardCtx;
use crate::config::Config;
use crate::config::parse::REDIS_VERSION;
use crate::data::collection::Env;
use crate::data::dump::{self, NoValue, Restored};
use crate::data::entry::{Entry, EntryRef, Value};
use crate::dispatch::registry::Registry;
use crate::keyspace::slots::SlotMap;
use crate::keyspace::{HashSeeds, Keyspace};
use crate::persist::aof::load::{AofLoader, Deal, Slice};
use crate::persist::aof::manifest::{Manifest, manifest_name, temp_manifest_name};
use crate::persist::aof::open::{self, Place};
use crate::persist::rdb::MAGIC;
use crate::persist::rdb::read::{Item, RdbReader, Record, Versions};
use crate::persist::rdb::write::{Chunk, Header, Sum, Trials, Usage};
use crate::sys::{clock, memory, process};

/// What a new directory's files are called.
const APPEND_FILE: &str = "appendonly.aof";
/// A log names databases below this one.
const DATABASES_OF_LOGS: usize = 1024;
/// How much of a log is replayed between two looks at how far it is.
const LOG_STEP_BYTES: u64 = 1 << 20;
/// A chunk of an RDB file is written when it is so large.
const CHUNK_BYTES: usize = 256 * 1024;
/// Nobody counts them, so that any seed will do.
const SHARD: ShardId = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rdb,
    Log,
    Json,
}

/// Where it failed, and why.
type Failed = String;

/// Converts what is at a path into what is not there yet, and says how much it was.
pub fn run(from: &Path, to: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let (source, target) = (kind_of(from)?, kind_by_name(to)?);
    let mut target = Target::create(to, target)?;
    match source {
        Kind::Rdb => read_rdb(from, &mut target)?,
        Kind::Log => read_log(from, &mut target)?,
        Kind::Json => read_json(from, &mut target)?,
    }
    let (keys, libraries) = target.finish()?;
    writeln!(out, "{keys} keys and {libraries} libraries").map_err(|error| failed("writing", to, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failed {
    let error = error.to_string();
    format!("{doing} {}: {}", path.display(), error.split(" (os error").next().unwrap_or_default())
}

fn kind_of(from: &Path) -> Result<Kind, Failed> {
    if from.is_dir() {
        return Ok(Kind::Log);
    }
    let mut begin = Vec::new();
    let file = File::open(from).map_err(|error| failed("opening", from, &error))?;
    file.take(BEGIN_BYTES).read_to_end(&mut begin).map_err(|error| failed("reading", from, &error))?;
    let first = begin.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        _ if begin.starts_with(MAGIC) || begin.starts_with(b"VALKEY") => Ok(Kind::Rdb),
        _ if check_aof::is_manifest(from, &begin) => Ok(Kind::Log),
        Some(b'{') => Ok(Kind::Json),
        None if kind_by_name(from) == Ok(Kind::Json) => Ok(Kind::Json),
        _ => Err(format!("{} is neither an RDB file nor an append-only directory nor lines of JSON", from.display())),
    }
}

/// What tells a file's kind.
const BEGIN_BYTES: u64 = 256;

fn kind_by_name(to: &Path) -> Result<Kind, Failed> {
    match to.extension().map(|extension| extension.to_string_lossy()).as_deref() {
        Some("rdb") => Ok(Kind::Rdb),
        Some("json" | "jsonl" | "ndjson") => Ok(Kind::Json),
        None => Ok(Kind::Log),
        Some(_) => {
            Err(format!("{} ends neither with .rdb nor with .jsonl, and a directory's name has no dot", to.display()))
        }
    }
}

fn read_rdb(from: &Path, target: &mut Target) -> Result<(), Failed> {
    let shown = Shown::open(from).map_err(|error| failed("opening", from, &error))?;
    let of_file = |error: &dyn std::fmt::Display| format!("reading {}: {error}", from.display());
    let mut reader = RdbReader::new(shown, true, Versions::Known).map_err(|error| of_file(&error))?;
    loop {
        match reader.next_item().map_err(|error| of_file(&error))? {
            Item::Function(source) => target.library(&source)?,
            Item::Entry(record) => {
                let offset = record.offset;
                let entry = entry_of(&record).map_err(|reason| {
                    of_file(&format!("{reason}, key '{}' (at offset {offset})", record.key.escape_ascii()))
                })?;
                if let Some(entry) = entry {
                    target.key(record.db as usize, entry.as_ref())?;
                }
            }
            Item::End(_) => return Ok(()),
            Item::Aux(..) | Item::SelectDb(_) | Item::ResizeDb { .. } | Item::SlotInfo | Item::ModuleAux(_) => {}
        }
    }
}

/// None for a collection without elements, which no key can hold.
fn entry_of(record: &Record<'_>) -> Result<Option<Entry>, &'static str> {
    if record.rdb_type == rdb_type::MODULE_2 {
        return Err("a value of a module");
    }
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut env = Env { config: &config, seeds: [0; 4], now_ms: i64::MIN, rng: &mut rng, packed_threshold: 0 };
    let mut reader = Reader::new(record.value);
    let restored = match dump::load(record.rdb_type, &mut reader, &mut env) {
        Ok(restored) if reader.is_at_end() => restored,
        Err(NoValue::Empty) => return Ok(None),
        Ok(_) | Err(NoValue::Malformed) => return Err("a malformed value"),
    };
    let value = match restored {
        Restored::Text(Cow::Borrowed(text)) => Value::Text(text),
        Restored::Text(Cow::Owned(ref text)) => Value::Text(text),
        Restored::Collection(collection) => Value::Collection(collection),
    };
    Ok(Some(Entry::new(&record.key, value, record.expire_at_ms, 0)))
}

fn read_json(from: &Path, target: &mut Target) -> Result<(), Failed> {
    let shown = Shown::open(from).map_err(|error| failed("opening", from, &error))?;
    let (mut lines, mut line, mut number) = (BufReader::new(shown), Vec::new(), 0u64);
    loop {
        line.clear();
        number += 1;
        if lines.read_until(b'\n', &mut line).map_err(|error| failed("reading", from, &error))? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match json::parse(&line).map_err(|wrong| format!("reading {}, line {number}: {wrong}", from.display()))? {
            json::Line::Function(source) => target.library(&source)?,
            json::Line::Key(db, entry) => target.key(db, entry.as_ref())?,
        }
    }
}

/// Replays a directory, which stays as it is: what would have to be cut off first is for `check --fix`.
fn read_log(from: &Path, target: &mut Target) -> Result<(), Failed> {
    let manifest = match from.is_dir() {
        false => from.to_owned(),
        true => check_aof::manifest_in(from)
            .map_err(|error| failed("reading", from, &error))?
            .ok_or_else(|| format!("there is no manifest in {}, or several", from.display()))?,
    };
    let manifest = std::path::absolute(&manifest).map_err(|error| failed("finding", &manifest, &error))?;
    let of_path = |path: Option<&std::ffi::OsStr>| path.map(|name| name.to_string_lossy().into_owned());
    let directory = manifest.parent().unwrap_or(Path::new("/"));
    let name = of_path(manifest.file_name()).unwrap_or_default();
    let place = Place {
        server_directory: directory.parent().unwrap_or(Path::new("/")).to_owned(),
        directory: of_path(directory.file_name()).unwrap_or_default(),
        append_file: name.strip_suffix(".manifest").unwrap_or(&name).to_owned(),
        truncates: false,
        boot: process::boot_id().unwrap_or_else(|| "-".to_owned()),
    };
    let of_log = |error: String| format!("reading {}: {error}", from.display());
    let plan = open::open(&place).map_err(of_log)?.map(Arc::new);
    let plan = plan.ok_or_else(|| format!("there is nothing in {}", from.display()))?;
    let bar = progress_bar(plan.bytes());
    let config = Config { databases: DATABASES_OF_LOGS as u32, ..Config::default() };
    let now = Now { unix_ms: clock::unix_us() / 1000, mono_ns: clock::mono_ns() };
    let keyspace = Keyspace::new(DATABASES_OF_LOGS, HashSeeds([0; 4]), now.unix_ms);
    let mut ctx = ShardCtx::new(keyspace, Arc::new(config), 0, SHARD, SlotMap::contiguous(1));
    (ctx.now, ctx.commands) = (now, Registry::find_for_script);
    let mut loader = AofLoader::new(plan, &Deal::new(1), SlotMap::contiguous(1), &ctx);
    while loader.slice(&mut ctx, LOG_STEP_BYTES).map_err(|error| of_log(error.to_string()))? != Slice::Done {
        bar.set_position(loader.offset());
    }
    bar.finish_and_clear();
    for source in ctx.scripts.store.libraries().1.values() {
        target.library(source)?;
    }
    for db in 0..ctx.keyspace.databases() {
        for entry in ctx.keyspace.db(db).iter() {
            target.key(db, entry)?;
        }
    }
    Ok(())
}

/// What is being written, under a name of its own until it is whole.
struct Target {
    writer: Writer,
    path: PathBuf,
    /// The directory of a log, which is there from the beginning.
    directory: Option<PathBuf>,
    temp: PathBuf,
    is_whole: bool,
    keys: u64,
    libraries: u64,
}

enum Writer {
    Rdb(Box<RdbWriter>),
    Json(BufWriter<File>),
}

impl Target {
    fn create(to: &Path, kind: Kind) -> Result<Target, Failed> {
        if to.exists() && (kind != Kind::Log || fs::read_dir(to).map_or(true, |mut entries| entries.next().is_some())) {
            return Err(format!("{} is there already", to.display()));
        }
        let directory = (kind == Kind::Log).then(|| to.to_owned());
        if let Some(directory) = &directory {
            fs::create_dir_all(directory).map_err(|error| failed("creating", directory, &error))?;
        }
        let path = match kind {
            Kind::Log => to.join(Manifest::default().next_base(APPEND_FILE, "rdb").name),
            Kind::Rdb | Kind::Json => to.to_owned(),
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".temp-{}", std::process::id()));
        let temp = path.with_file_name(name);
        let file = File::create_new(&temp).map_err(|error| failed("creating", &temp, &error))?;
        let writer = match kind {
            Kind::Json => Writer::Json(BufWriter::new(file)),
            Kind::Rdb | Kind::Log => {
                let writer = RdbWriter::new(file, kind == Kind::Log);
                Writer::Rdb(Box::new(writer.map_err(|error| failed("writing", &temp, &error))?))
            }
        };
        Ok(Target { writer, path, directory, temp, is_whole: false, keys: 0, libraries: 0 })
    }

    fn library(&mut self, source: &[u8]) -> Result<(), Failed> {
        self.libraries += 1;
        let written = match &mut self.writer {
            Writer::Rdb(writer) => writer.library(source),
            Writer::Json(writer) => writeln!(writer, "{}", json::of_function(source)),
        };
        written.map_err(|error| failed("writing", &self.temp, &error))
    }

    fn key(&mut self, db: usize, entry: EntryRef<'_>) -> Result<(), Failed> {
        self.keys += 1;
        let written = match &mut self.writer {
            Writer::Rdb(writer) => writer.key(db, entry),
            Writer::Json(writer) => writeln!(writer, "{}", json::of_key(db, entry)),
        };
        written.map_err(|error| failed("writing", &self.temp, &error))
    }

    /// Puts it into its place; how many keys and libraries it has.
    fn finish(mut self) -> Result<(u64, u64), Failed> {
        let written = match &mut self.writer {
            Writer::Rdb(writer) => writer.finish(),
            Writer::Json(writer) => writer.flush().and_then(|()| writer.get_ref().sync_all()),
        };
        written.map_err(|error| failed("writing", &self.temp, &error))?;
        fs::rename(&self.temp, &self.path).map_err(|error| failed("renaming", &self.temp, &error))?;
        self.is_whole = true;
        if let Some(directory) = &self.directory {
            let mut manifest = Manifest::default();
            manifest.set_base(manifest.next_base(APPEND_FILE, "rdb"), |_| false);
            let temp = directory.join(temp_manifest_name(APPEND_FILE));
            let in_place = directory.join(manifest_name(APPEND_FILE));
            let listed = File::create(&temp).and_then(|mut file| {
                file.write_all(manifest.print().as_bytes())?;
                file.sync_all()?;
                fs::rename(&temp, &in_place)
            });
            listed.map_err(|error| failed("writing", &in_place, &error))?;
        }
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(above).and_then(|above| above.sync_all()).map_err(|error| failed("syncing", above, &error))?;
        Ok((self.keys, self.libraries))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(&self.temp);
            if let Some(directory) = &self.directory {
                // Not if there is something else in it by now.
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

struct RdbWriter {
    file: File,
    header: Header,
    config: Config,
    chunk: Option<(usize, Chunk)>,
    sum: Sum,
    has_field_times: bool,
}

impl RdbWriter {
    fn new(mut file: File, is_aof_base: bool) -> io::Result<RdbWriter> {
        let header = Header {
            redis_version: REDIS_VERSION,
            unix_s: clock::unix_us() / 1_000_000,
            used_memory: memory::used_bytes() as u64,
            sizes: Vec::new(),
            functions: Vec::new(),
            form: FORM,
            is_aof_base,
        };
        file.write_all(&header.write(false))?;
        let (config, sum) = (Config::default(), Sum::default());
        Ok(RdbWriter { file, header, config, chunk: None, sum, has_field_times: false })
    }

    fn library(&mut self, source: &[u8]) -> io::Result<()> {
        self.write_chunk()?;
        let mut out = Output::new(FORM);
        out.push(opcode::FUNCTION2);
        write_string(source, &mut out);
        self.file.write_all(&out)?;
        self.sum.add(&out);
        Ok(())
    }

    fn key(&mut self, db: usize, entry: EntryRef<'_>) -> io::Result<()> {
        if self.chunk.as_ref().is_some_and(|(of, chunk)| *of != db || chunk.bytes() >= CHUNK_BYTES) {
            self.write_chunk()?;
        }
        let (_, chunk) = self.chunk.get_or_insert_with(|| (db, Chunk::new(db, FORM)));
        chunk.push(entry, Usage::None, &self.config);
        Ok(())
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let Some((_, chunk)) = self.chunk.take() else { return Ok(()) };
        self.has_field_times |= chunk.has_field_times;
        chunk.write(&mut Trials::default(), |bytes| {
            self.sum.add(bytes);
            self.file.write_all(bytes)
        })
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_chunk()?;
        let header = self.header.write(self.has_field_times);
        self.file.write_all(&self.sum.end(&header, true))?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.sync_all()
    }
}

const FORM: Form = Form::File { compresses: true };
