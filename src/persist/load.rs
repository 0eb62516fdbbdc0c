//! Loads an RDB file into one shard: all of the file is read, and the shard's own keys are taken.
//!
//! A stepper: who drives it says how much to do in a slice, so that the shard answers its clients meanwhile. Every shard
//! reads the file by itself: passing over what belongs to others costs little beside taking a key in, and nothing has to
//! be handed from one shard to another. The checksum is one shard's to compute.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::time::Duration;

use super::rdb::read::{Checksum, Item, RdbError, RdbReader, Record, Versions, What};
use crate::base::ids::ShardId;
use crate::codec::rdb::{self, Reader, rdb_type};
use crate::command::ctx::ShardCtx;
use crate::config::value::RdbVersionCheck;
use crate::data::dump::{self, NoValue, Restored};
use crate::data::entry::{Entry, Value};
use crate::engine::script::function;
use crate::keyspace::access;
use crate::keyspace::slots::SlotMap;

/// Entries that are made before the first of them is put into its place: what they need of the table is on its way to the
/// cache meanwhile.
const AHEAD: usize = 16;
/// No key takes fewer bytes of a file: a type, a key and a value, each with its length.
const KEY_BYTES_MIN: u64 = 3;
/// Empty collections that are told of one by one; more are only counted.
const EMPTY_KEYS_TOLD: u64 = 10;

/// How the keys of the file and those of the shard go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// A key must not be there yet, be it from the file or not.
    Refused,
    /// The file's value replaces the one that is there.
    Replaced,
}

/// What was loaded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub keys: u64,
    /// Keys whose time had come.
    pub expired: u64,
    /// Collections without elements.
    pub empty: u64,
}

#[derive(Debug)]
pub enum LoadError {
    File(RdbError),
    /// The value of this key is malformed.
    Value {
        offset: u64,
        flaw: &'static str,
        key: Vec<u8>,
    },
    Duplicate {
        db: u64,
        key: Vec<u8>,
    },
    /// A database beyond those there are.
    Databases(usize),
    /// A value of a module, which there is not.
    Module {
        key: Vec<u8>,
    },
    /// A library of functions does not load: why.
    Function(Vec<u8>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(error @ RdbError { what: What::Truncated, .. }) => {
                write!(f, "Short read or OOM loading DB. Unrecoverable error, aborting now. {error}")
            }
            LoadError::File(error @ RdbError { what: What::Checksum { .. }, .. }) => {
                write!(f, "RDB CRC error. {error}")
            }
            LoadError::File(error) => write!(f, "{error}"),
            LoadError::Value { offset, flaw, key } => {
                let key = key.escape_ascii();
                write!(f, "Internal error in RDB reading offset {offset}, key '{key}' -> {flaw}")
            }
            LoadError::Duplicate { db, key } => {
                write!(f, "RDB has duplicated key '{}' in DB {db}", key.escape_ascii())
            }
            LoadError::Databases(databases) => write!(
                f,
                "FATAL: Data file was created with a server configured to handle more than {databases} databases. \
                 Exiting"
            ),
            LoadError::Module { key } => {
                write!(f, "The RDB file contains module data I can't load: key '{}'", key.escape_ascii())
            }
            LoadError::Function(reason) => write!(f, "Failed loading library, {}", String::from_utf8_lossy(reason)),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<RdbError> for LoadError {
    fn from(error: RdbError) -> LoadError {
        LoadError::File(error)
    }
}

pub struct Loader<R> {
    reader: RdbReader<R>,
    slots: SlotMap,
    shard: ShardId,
    duplicates: Duplicates,
    /// What had expired before the load began is not taken in.
    began_ms: i64,
    /// This shard tells what concerns the file as a whole.
    tells: bool,
    /// More keys are not in the file, whatever it says.
    keys_max: u64,
    /// Not in their places yet; none between slices.
    ready: Vec<Ready>,
    pub loaded: Loaded,
}

struct Ready {
    db: usize,
    hash: u64,
    entry: Entry,
}

impl<R: Read> Loader<R> {
    /// `bytes`: how long the file is.
    pub fn new(
        input: R,
        bytes: u64,
        shard: ShardId,
        slots: SlotMap,
        duplicates: Duplicates,
        ctx: &ShardCtx,
    ) -> Result<Loader<R>, LoadError> {
        let tells = shard == 0;
        let versions = match ctx.config.rdb_version_check {
            RdbVersionCheck::Strict => Versions::Known,
            RdbVersionCheck::Relaxed => Versions::Any,
        };
        let computes_crc = tells && ctx.config.rdbchecksum && !ctx.skips_checksums;
        let reader = RdbReader::new(input, computes_crc, versions)?;
        // As the base of a log, a file holds what was there then: what follows says what became of it.
        let (began_ms, loaded) = (ctx.expiry_ms(), Loaded::default());
        let (keys_max, ready) = (bytes / KEY_BYTES_MIN, Vec::with_capacity(AHEAD));
        Ok(Loader { reader, slots, shard, duplicates, began_ms, tells, keys_max, ready, loaded })
    }

    /// This shard tells what concerns the file as a whole.
    pub fn tells(&self) -> bool {
        self.tells
    }

    /// How far the file was read.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Reads at least up to so many bytes further, if there are; true at the end of the file.
    pub fn slice(&mut self, ctx: &mut ShardCtx, bytes: u64) -> Result<bool, LoadError> {
        let until = self.reader.offset() + bytes;
        while self.reader.offset() < until {
            match self.reader.next_item()? {
                Item::Aux(name, value) if self.tells => tell_aux(&name, &value, ctx.now_ms()),
                Item::ModuleAux(name) if self.tells => {
                    tracing::warn!("The RDB file contains AUX module data I can't load: no matching module '{name}'");
                }
                // All shards share libraries: one of them loads those of the file.
                Item::Function(source) if self.tells => {
                    let replaces = self.duplicates == Duplicates::Replaced;
                    function::load_from_file(ctx, &source, replaces).map_err(LoadError::Function)?;
                }
                Item::SelectDb(db) if db >= ctx.keyspace.databases() as u64 => {
                    return Err(LoadError::Databases(ctx.keyspace.databases()));
                }
                Item::Entry(record) if self.slots.shard_of(&record.key) == self.shard => {
                    self.ready.extend(decode(record, ctx, self.began_ms, &mut self.loaded)?);
                    if self.ready.len() == AHEAD {
                        put(&mut self.ready, ctx, self.duplicates, &mut self.loaded)?;
                    }
                }
                Item::ResizeDb { db, keys, .. } if db < ctx.keyspace.databases() as u64 => {
                    let own = keys.min(self.keys_max) / self.slots.shards() as u64;
                    ctx.keyspace.db_mut(db as usize).reserve(own as usize);
                }
                Item::End(checksum) => {
                    put(&mut self.ready, ctx, self.duplicates, &mut self.loaded)?;
                    (0..ctx.keyspace.databases()).for_each(|db| ctx.keyspace.db_mut(db).give_back());
                    if self.tells
                        && checksum == Checksum::Unchecked
                        && ctx.config.rdbchecksum
                        && !ctx.skips_checksums
                        && self.reader.version() >= 5
                    {
                        tracing::info!("RDB file was saved with checksum disabled: no check performed.");
                    }
                    return Ok(true);
                }
                Item::Aux(..) | Item::ModuleAux(_) | Item::Function(_) | Item::Entry(_) => {}
                Item::SelectDb(_) | Item::ResizeDb { .. } | Item::SlotInfo => {}
            }
        }
        put(&mut self.ready, ctx, self.duplicates, &mut self.loaded)?;
        Ok(false)
    }
}

/// Puts entries into their places.
fn put(
    ready: &mut Vec<Ready>,
    ctx: &mut ShardCtx,
    duplicates: Duplicates,
    loaded: &mut Loaded,
) -> Result<(), LoadError> {
    for Ready { db, hash, entry } in ready.drain(..) {
        ctx.db = db;
        if duplicates == Duplicates::Replaced {
            ctx.delete(entry.key());
        } else if ctx.keyspace.db(db).get(hash, entry.key()).is_some() {
            return Err(LoadError::Duplicate { db: db as u64, key: entry.key().to_vec() });
        }
        // Nobody is told of it: the key is not new.
        ctx.put_by_hash(hash, entry);
        loaded.keys += 1;
        if ctx.config.key_load_delay != 0 {
            delay(ctx);
        }
    }
    Ok(())
}

fn tell_aux(name: &[u8], value: &[u8], now_ms: i64) {
    let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
    match name {
        b"redis-ver" | b"valkey-ver" => tracing::info!("Loading RDB produced by version {}", value.escape_ascii()),
        b"ctime" => {
            let age_s = number().map_or(0, |unix_s| (now_ms / 1000).saturating_sub(unix_s).max(0));
            tracing::info!("RDB age {age_s} seconds");
        }
        b"used-mem" => {
            let megabytes = number().unwrap_or(0) as f64 / 1_048_576.0;
            tracing::info!("RDB memory usage when created {megabytes:.2} Mb");
        }
        _ => {}
    }
}

/// The entry of a key of this shard's, if there is to be one.
fn decode(
    record: Record<'_>,
    ctx: &mut ShardCtx,
    began_ms: i64,
    loaded: &mut Loaded,
) -> Result<Option<Ready>, LoadError> {
    if record.rdb_type == rdb_type::MODULE_2 {
        return Err(LoadError::Module { key: record.key.into_owned() });
    }
    if record.expire_at_ms.is_some_and(|at_ms| at_ms < began_ms) {
        loaded.expired += 1;
        return Ok(None);
    }
    let db = record.db as usize;
    let hash = ctx.keyspace.hash(&record.key);
    ctx.keyspace.db(db).prefetch_bucket(hash);
    let mut reader = Reader::new(record.value);
    let restored = match dump::load(record.rdb_type, &mut reader, &mut ctx.env()) {
        Ok(restored) if reader.is_at_end() => restored,
        Err(NoValue::Empty) => {
            loaded.empty += 1;
            if loaded.empty <= EMPTY_KEYS_TOLD {
                tracing::info!("rdbLoadObject loading skipping empty key: {}", record.key.escape_ascii());
            }
            return Ok(None);
        }
        Ok(_) | Err(NoValue::Malformed) => {
            let flaw = rdb::flaw(record.rdb_type, &reader);
            return Err(LoadError::Value { offset: record.offset, flaw, key: record.key.into_owned() });
        }
    };
    let value = match restored {
        Restored::Text(Cow::Borrowed(text)) => Value::Text(text),
        Restored::Text(Cow::Owned(ref text)) => Value::Text(text),
        Restored::Collection(collection) => Value::Collection(collection),
    };
    let access = used(&record, ctx);
    let entry = Entry::new(&record.key, value, record.expire_at_ms, access);
    Ok(Some(Ready { db, hash, entry }))
}

/// `key-load-delay`: so many microseconds a key, or one in so many keys; for tests that need a slow load.
#[cold]
fn delay(ctx: &mut ShardCtx) {
    let delay = ctx.config.key_load_delay;
    if delay > 0 || ctx.rng.below(u64::from(delay.unsigned_abs())) == 0 {
        std::thread::sleep(Duration::from_micros(delay.max(1) as u64));
    }
}

/// The access bits of a key, as the file has them where they suit the eviction policy.
fn used(record: &Record<'_>, ctx: &ShardCtx) -> u32 {
    let policy = ctx.config.maxmemory_policy;
    match *record {
        Record { frequency: Some(frequency), .. } if policy.is_lfu() => access::of_frequency(frequency, ctx.now),
        Record { idle_s: Some(idle_s), .. } if !policy.is_lfu() => {
            access::of_idle(i64::try_from(idle_s).unwrap_or(i64::MAX), ctx.now)
        }
        _ => access::initial(ctx.now, &ctx.config),
    }
}
