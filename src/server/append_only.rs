//! The append-only file at the start of the process: its directory is opened, and begun if there is nothing in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use super::boot::text_of;
use crate::admin::ctx::Server;
use crate::base::clock::Now;
use crate::codec::rdb::Form;
use crate::config::Config;
use crate::config::parse::REDIS_VERSION;
use crate::keyspace::slots::prefix_sum;
use crate::persist::aof::Run;
use crate::persist::aof::disk::{Directory, Disk};
use crate::persist::aof::manifest::{Manifest, manifest_name};
use crate::persist::aof::open::{self, Place, Plan};
use crate::persist::rdb::write::{Header, Sum};
use crate::sys::{clock, memory, process};

/// The directory that the configuration names.
pub fn directory(config: &Config) -> Result<PathBuf, String> {
    let current = std::env::current_dir().map_err(|error| format!("Can't find the directory: {}", text_of(&error)))?;
    Ok(current.join(&config.appenddirname))
}

/// What there is to load, if anything, made whole.
pub fn find(config: &Config) -> Result<Option<Arc<Plan>>, String> {
    let current = std::env::current_dir().map_err(|error| format!("Can't find the directory: {}", text_of(&error)))?;
    let place = Place {
        server_directory: current,
        directory: config.appenddirname.clone(),
        append_file: config.appendfilename.clone(),
        truncates: config.aof_load_truncated,
        boot: boot_id(),
    };
    Ok(open::open(&place)?.map(Arc::new))
}

fn boot_id() -> String {
    process::boot_id().unwrap_or_else(|| "-".to_owned())
}

fn run_of(start: u64, config: &Config) -> Run {
    Run { start, boot: boot_id(), prefixes: prefix_sum(&config.colocate_prefixes) }
}

/// Takes the directory over as it was found.
pub fn open(server: &Server, config: &Config, found: Option<&Plan>) -> Result<(), String> {
    let path = directory(config)?;
    let failed = |what: &str, error: &io::Error| format!("Can't {what} the append-only directory: {}", text_of(error));
    let (manifest, generation) = found.map_or_else(Default::default, |plan| (plan.manifest.clone(), plan.generation));
    let aof = &server.aof;
    // However the clock was set meanwhile, this start is newer.
    let start = (clock::unix_us() as u64).max(found.map_or(0, |plan| plan.start + 1));
    let disk = Arc::new(Directory::new(path.clone()));
    let run = run_of(start, config);
    let opened = aof.open(disk, path, &config.appendfilename, manifest, generation, run);
    opened.map_err(|error| failed("open", &error))?;
    if aof.is_empty() {
        let name = match config.aof_use_rdb_preamble {
            true => aof.create_base(&empty_base(config), "rdb"),
            false => aof.create_base(&[], "aof"),
        };
        let name = name.map_err(|error| failed("begin", &error))?;
        info!("Creating AOF base file {name} on server start");
    }
    aof.begin().map_err(|error| failed("begin", &error))?;
    aof.set_on(true);
    Ok(())
}

/// Takes the directory over while the server runs, unless it has it: whatever is in it, the next base takes its place.
pub fn open_again(server: &Server, config: &Config) -> Result<(), String> {
    let failed = |error: io::Error| format!("Can't open the append-only directory: {}", text_of(&error));
    let path = directory(config)?;
    if server.aof.is_open_at(&path) && path.is_dir() {
        return Ok(());
    }
    let disk = Arc::new(Directory::new(path.clone()));
    let bytes = disk.read(&manifest_name(&config.appendfilename)).map_err(failed)?;
    let manifest = bytes.map(|bytes| Manifest::parse(&bytes).map_err(|error| error.reason.to_owned()));
    let manifest = manifest.transpose()?.unwrap_or_default();
    let start = clock::unix_us() as u64;
    let run = run_of(start, config);
    // No generation is older than this one: none that has a number by counting comes that far.
    server.aof.open(disk, path, &config.appendfilename, manifest, start, run).map_err(failed)
}

/// Syncs rounds of `appendfsync everysec` from now on.
pub fn start_rounds(server: &Server) -> Result<(), String> {
    let aof = Arc::clone(&server.aof);
    let thread = std::thread::Builder::new().name("aof".to_owned()).stack_size(SYNC_STACK_BYTES);
    let started = thread.spawn(move || aof.run_rounds());
    started.map(drop).map_err(|error| format!("Can't start the thread that syncs the AOF: {error}"))
}

/// The thread does little beside waiting.
const SYNC_STACK_BYTES: usize = 64 * 1024;

/// An RDB file without keys.
fn empty_base(config: &Config) -> Vec<u8> {
    let now = Now { unix_ms: clock::unix_us() / 1000, mono_ns: clock::mono_ns() };
    let header = Header {
        redis_version: REDIS_VERSION,
        unix_s: now.unix_s(),
        used_memory: memory::used_bytes() as u64,
        sizes: Vec::new(),
        functions: Vec::new(),
        form: Form::File { compresses: config.rdbcompression },
        is_aof_base: true,
    };
    let mut bytes = header.write(false);
    let end = Sum::default().end(&bytes, config.rdbchecksum);
    bytes.extend_from_slice(&end);
    bytes
}
