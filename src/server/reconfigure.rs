//! What the process does at its start because of a directive, and again when CONFIG SET changes it.
//!
//! Most directives need nothing of the sort: whoever works by them reads them where it works.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::{info, warn};

use super::boot::text_of;
use crate::config::rewrite::{Missing, rewrite as rewritten};
use crate::config::value::OomScoreAdj;
use crate::config::{Config, SetError};
use crate::sys::{process, signal};

/// Descriptors that are no clients: files, listening sockets; and for each shard its rings and what wakes them.
const RESERVED_DESCRIPTORS: u64 = 32;
const RESERVED_DESCRIPTORS_BY_SHARD: u64 = 16;

/// CONFIG SET's part that concerns the whole process. On an error nothing has changed.
pub fn apply(old: &Config, new: &Config) -> Result<(), SetError> {
    let failed = |name: &str, reason: String| Err(SetError::Failed { name: name.into(), reason });
    if new.maxclients > old.maxclients {
        let allowed = raise_descriptor_limit(new.maxclients, new.shards as usize);
        if allowed < new.maxclients {
            let reason = format!(
                "The operating system is not able to handle the specified number of clients, try with {allowed}"
            );
            return failed("maxclients", reason);
        }
    }
    if new.dir != old.dir
        && let Err(error) = std::env::set_current_dir(&new.dir)
    {
        return failed("dir", text_of(&error));
    }
    let adjustment = |config: &Config| (config.oom_score_adj, config.oom_score_adj_values);
    if adjustment(new) != adjustment(old)
        && let Err(error) = adjust_oom_score(new)
    {
        warn!("Unable to write oom_score_adj: {error}");
        return failed("oom-score-adj", "Failed to set current oom_score_adj. Check server logs.".into());
    }
    super::log::set_level(new.loglevel);
    if new.crash_log_enabled != old.crash_log_enabled {
        tell_crashes(new);
    }
    Ok(())
}

/// Whether the log tells of a signal that ends the process.
pub fn tell_crashes(config: &Config) {
    if !config.crash_log_enabled {
        return signal::forget_crashes();
    }
    let file = Some(config.logfile.as_str()).filter(|file| !file.is_empty());
    signal::tell_crashes(file.and_then(|file| CString::new(file).ok()), super::log::crash_line());
}

/// CONFIG REWRITE: the file as it should be takes the place of the one that is there.
pub fn rewrite(path: &Path, config: &Config, missing: Missing) -> Result<(), String> {
    let replace = || {
        let old = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            old => old?,
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let new = path.with_file_name(name);
        let written = write_durably(&new, &rewritten(&old, config, missing)).and_then(|()| {
            if let Ok(metadata) = std::fs::metadata(path) {
                std::fs::set_permissions(&new, metadata.permissions())?;
            }
            std::fs::rename(&new, path)
        });
        written.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    replace().map_err(|error| text_of(&error))
}

fn write_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Allows as many open descriptors as `maxclients` needs, as far as the system lets; how many clients that serves.
pub fn raise_descriptor_limit(maxclients: u32, shards: usize) -> u32 {
    let reserved = RESERVED_DESCRIPTORS + RESERVED_DESCRIPTORS_BY_SHARD * shards as u64;
    let needed = u64::from(maxclients) + reserved;
    let (soft, hard) = match process::descriptor_limit() {
        Ok(limits) => limits,
        Err(error) => {
            warn!(
                "Unable to obtain the current NOFILE limit ({error}), assuming 1024 and setting the max clients \
                 configuration accordingly."
            );
            return 1024_u64.saturating_sub(reserved).max(1) as u32;
        }
    };
    if soft >= needed {
        return maxclients;
    }
    // A process without the privilege to go beyond the hard limit can still reach it.
    let outcome = process::set_descriptor_limit(needed, hard.max(needed));
    let reached = match &outcome {
        Ok(()) => needed,
        Err(_) if process::set_descriptor_limit(hard, hard).is_ok() => hard,
        Err(_) => soft,
    };
    if let Err(error) = outcome {
        warn!("You requested maxclients of {maxclients} requiring at least {needed} max file descriptors.");
        warn!("Server can't set maximum open files to {needed} because of OS error: {error}.");
    }
    if reached < needed {
        let clients = reached.saturating_sub(reserved) as u32;
        warn!(
            "Current maximum open files is {reached}. maxclients has been reduced to {clients} to compensate for low \
             ulimit. If you need higher maxclients increase 'ulimit -n'."
        );
        return clients;
    }
    info!("Increased maximum number of open files to {reached} (it was originally set to {soft}).");
    maxclients
}

/// The kernel's readiness to kill this process, as `oom-score-adj` says; `no` leaves it as it is, or as it was before it
/// was first touched.
pub fn adjust_oom_score(config: &Config) -> io::Result<()> {
    /// The value before it was touched: what `relative` is relative to.
    static BEFORE: Mutex<Option<i32>> = Mutex::new(None);
    let mut before = BEFORE.lock().expect("nothing panics while it holds it");
    // The first of the three is a primary's; there are no replicas and no forked children yet.
    let value = config.oom_score_adj_values[0];
    if config.oom_score_adj == OomScoreAdj::No {
        return before.take().map_or(Ok(()), process::set_oom_score_adj);
    }
    let base = *before.get_or_insert(process::oom_score_adj().unwrap_or(0));
    process::set_oom_score_adj(match config.oom_score_adj {
        OomScoreAdj::No | OomScoreAdj::Absolute => value,
        OomScoreAdj::Relative => (base + value).clamp(-1000, 1000),
    })
}
