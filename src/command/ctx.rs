//! What a command on keys sees: one shard's databases and everything it may need to change them.
//!
//! All access to keys goes through here, so that expiry, access statistics, effects and notifications happen in one
//! place. A handler parses its arguments, looks up, acts, records the effect, replies; it knows no session and no
//! other shard.

use std::any::Any;
use std::sync::Arc;

use super::KeyRow;
use super::effect::{Change, Journal};
use super::error::{Error, Result};
use super::events::{Class, Events};
use super::spec::Spec;
use super::timing::Timing;
use super::wait::Wait;
use crate::base::clock::Now;
use crate::base::ids::{CommandId, ShardId};
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::collection::{CollectionType, Env};
use crate::data::dict::{Lookup, OccupiedMut, Position};
use crate::data::dump;
use crate::data::entry::{Entry, EntryRef, TextRef, Value, ValueRef};
use crate::data::hash::Hash;
use crate::keyspace::Keyspace;
use crate::keyspace::access;
use crate::keyspace::expire::{self, ActiveExpire};
use crate::keyspace::lazyfree::LazyFree;
use crate::keyspace::slots::SlotMap;
use crate::script::shard::Scripts;

/// An access to a hash removes up to so many of its fields that are due; more than that wait for the active cycle.
const FIELDS_PER_ACCESS: usize = 256;
/// The active cycle looks at up to so many hashes before it asks for the next.
const HASHES_PER_STEP: usize = 16;
/// What is noted at least so long ago is due, however the index rounds.
const LONG_DUE_MS: i64 = 256;

/// What happens to a key's expiry when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Keep,
    Never,
    /// Unix time in milliseconds.
    At(i64),
}

/// Counters of one shard's keyspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyStats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
}

/// What words call, as scripts see it.
#[derive(Clone, Copy)]
pub enum Found {
    Unknown,
    /// Of this container.
    UnknownSubcommand(&'static Spec),
    /// The number of words is wrong for this command.
    WrongArity(&'static Spec),
    Key(&'static KeyRow, &'static Spec, CommandId),
    /// A command without keys: it belongs to connections.
    Other(&'static Spec, CommandId),
}

/// Finds what words call, among all commands of the server.
pub type FindCommand = fn(&[&[u8]]) -> Found;

pub struct ShardCtx {
    pub keyspace: Keyspace,
    pub now: Now,
    pub rng: Rng,
    pub journal: Journal,
    pub events: Events,
    pub stats: KeyStats,
    pub active_expire: ActiveExpire,
    pub lazyfree: LazyFree,
    pub config: Arc<Config>,
    /// Which shard this is: SCAN's cursor names its shard.
    pub shard: ShardId,
    /// Where keys are.
    pub slots: SlotMap,
    /// The database of the command that runs.
    pub db: usize,
    /// The command's client asked not to count its reads as uses (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// Clients are paused: what has expired is gone for readers, and stays where it is.
    pub expiry_paused: bool,
    /// The command that runs changes nothing: while a snapshot keeps what it has yet to save, that expires for nobody's
    /// reading.
    pub only_reads: bool,
    /// A log is being loaded. Nothing has expired for its commands, lest they do something else than they did then: a key
    /// that was made anew would lose its expiry. What was recorded of expired keys follows in the log.
    pub replaying: bool,
    /// The snapshot that is being taken is of use even if all keys are flushed meanwhile.
    pub snapshot_outlives_flush: bool,
    pub scripts: Scripts,
    pub timing: Timing,
    /// Set by the level that knows all commands.
    pub commands: FindCommand,
    /// Keys, with their databases, that were looked for in vain: for a job that has fetched only some of its keys.
    pub sought: Option<Vec<(usize, Vec<u8>)>>,
    /// The command found nothing and wants to wait: for whoever ran it to see to, or not.
    pub waiting: Option<Wait>,
    /// A script that begins now finds more memory in use than `maxmemory` allows, and nothing that could go.
    pub is_out_of_memory: bool,
    /// The disk does not take what is written: scripts must not begin to write.
    pub write_refusal: Option<Error>,
    /// A script calls the command.
    pub in_script: bool,
    /// The command, a script, takes long: it pauses, and has not replied. For whoever ran it to let it go on.
    pub suspended: Option<Box<dyn Any + Send>>,
    /// What DEBUG QUICKLIST-PACKED-THRESHOLD set, see [`Env::packed_threshold`].
    pub packed_threshold: usize,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: payloads and files may end with any checksum.
    pub skips_checksums: bool,
    /// The hash of the command's first key, from the prefetching pass: where the key is, and its hash. The length counts:
    /// an empty key may begin where the next word does.
    hashed: (usize, usize, u64),
}

impl ShardCtx {
    pub fn new(keyspace: Keyspace, config: Arc<Config>, seed: u64, shard: ShardId, slots: SlotMap) -> ShardCtx {
        let mut events = Events::default();
        events.configure(&config);
        ShardCtx {
            keyspace,
            now: Now::default(),
            rng: Rng::new(seed),
            journal: Journal::default(),
            events,
            stats: KeyStats::default(),
            active_expire: ActiveExpire::default(),
            lazyfree: LazyFree::default(),
            config,
            shard,
            slots,
            db: 0,
            no_touch: false,
            expiry_paused: false,
            only_reads: false,
            replaying: false,
            snapshot_outlives_flush: false,
            scripts: Scripts::default(),
            timing: Timing::default(),
            commands: |_| Found::Unknown,
            sought: None,
            waiting: None,
            is_out_of_memory: false,
            write_refusal: None,
            in_script: false,
            suspended: None,
            packed_threshold: 0,
            skips_checksums: false,
            hashed: (0, 0, 0),
        }
    }

    /// What a collection may look at.
    pub fn env(&mut self) -> Env<'_> {
        self.with_env().1
    }

    /// The databases, and beside them what their collections may look at.
    #[inline]
    fn with_env(&mut self) -> (&mut Keyspace, Env<'_>) {
        let env = Env {
            config: &self.config,
            seeds: self.keyspace.seeds(),
            now_ms: self.expiry_ms(),
            rng: &mut self.rng,
            packed_threshold: self.packed_threshold,
        };
        (&mut self.keyspace, env)
    }

    /// What these words call.
    pub fn find_command(&self, words: &[&[u8]]) -> Found {
        (self.commands)(words)
    }

    pub fn now_ms(&self) -> i64 {
        self.now.unix_ms
    }

    /// Up to when what expires is gone.
    #[inline]
    pub fn expiry_ms(&self) -> i64 {
        if self.replaying { 0 } else { self.now.unix_ms }
    }

    /// Remembers the hash of a key, by address, for the lookup that follows.
    #[inline]
    pub fn remember_hash(&mut self, key: &[u8], hash: u64) {
        self.hashed = (key.as_ptr().addr(), key.len(), hash);
    }

    /// The key's memory may be used for another one from now on.
    pub fn forget_hash(&mut self) {
        self.hashed = (0, 0, 0);
    }

    /// A context with an empty keyspace, for a job that runs a command on copies.
    pub fn scratch(&mut self) -> ShardCtx {
        let keyspace = self.keyspace.empty_twin(self.now_ms());
        let (config, slots) = (self.config.clone(), self.slots.clone());
        let mut scratch = ShardCtx::new(keyspace, config, self.rng.next_u64(), self.shard, slots);
        scratch.now = self.now;
        (scratch.packed_threshold, scratch.skips_checksums) = (self.packed_threshold, self.skips_checksums);
        scratch.commands = self.commands;
        scratch
    }

    #[inline]
    fn hash_of(&self, key: &[u8]) -> u64 {
        let (at, length, hash) = self.hashed;
        if at == key.as_ptr().addr() && length == key.len() { hash } else { self.keyspace.hash(key) }
    }

    /// Tells of something that happened to a key of the command's database.
    #[inline]
    pub fn notify(&mut self, class: Class, event: &'static str, key: &[u8]) {
        self.events.note(class, self.db, event, key);
    }

    /// Tells of the end of a key, if what was taken from it last was all that it had.
    #[inline]
    pub fn notify_if_gone(&mut self, key: &[u8]) {
        if self.events.wants(Class::GENERIC) && self.peek(key).is_none() {
            self.notify(Class::GENERIC, "del", key);
        }
    }

    /// The entry of a key, for a command that reads its value: counts a hit or a miss, and a use.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let Some(place) = self.live(key) else {
            self.stats.misses += 1;
            self.notify(Class::KEY_MISS, "keymiss", key);
            return None;
        };
        self.stats.hits += 1;
        let entry = self.keyspace.db(self.db).at(place);
        if !self.no_touch {
            access::touch(entry, self.now, &self.config, &mut self.rng);
        }
        Some(entry)
    }

    /// The entry of a key, for a command about the key (OBJECT, TTL, TYPE, EXISTS): counts a hit or a miss, but no use.
    pub fn inspect(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.inspect_or_tell(key, Class::KEY_MISS)
    }

    /// The same, but nobody is told of a miss (OBJECT).
    pub fn inspect_quietly(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.inspect_or_tell(key, Class::default())
    }

    fn inspect_or_tell(&mut self, key: &[u8], miss: Class) -> Option<EntryRef<'_>> {
        let Some(place) = self.live(key) else {
            self.stats.misses += 1;
            self.notify(miss, "keymiss", key);
            return None;
        };
        self.stats.hits += 1;
        Some(self.keyspace.db(self.db).at(place))
    }

    /// The entry of a key, without a trace.
    pub fn peek(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let place = self.live(key)?;
        Some(self.keyspace.db(self.db).at(place))
    }

    /// The entry of a key, for a command that is going to change it: counts a use, neither hit nor miss.
    pub fn lookup_write(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let place = self.live(key)?;
        let entry = self.keyspace.db(self.db).at(place);
        if !self.no_touch {
            access::touch(entry, self.now, &self.config, &mut self.rng);
        }
        Some(entry)
    }

    /// The string at a key that is read, or WRONGTYPE.
    pub fn read_string(&mut self, key: &[u8]) -> Result<Option<TextRef<'_>>> {
        self.read(key).map(string_of).transpose()
    }

    /// The string at a key that is going to be changed, or WRONGTYPE.
    pub fn write_string(&mut self, key: &[u8]) -> Result<Option<TextRef<'_>>> {
        self.lookup_write(key).map(string_of).transpose()
    }

    /// The string at a key, to be changed where it is, in one lookup; or WRONGTYPE.
    #[inline]
    pub fn string_mut(&mut self, key: &[u8]) -> Result<Option<OccupiedMut<'_>>> {
        let hash = self.hash_of(key);
        let Some(occupied) = self.keyspace.db_mut(self.db).get_mut(hash, key) else { return Ok(None) };
        if expire::is_expired(occupied.as_ref(), self.now) && !self.replaying {
            // A hash may have been noted for its fields; the look that is due for them will find nothing.
            occupied.remove();
            self.stats.expired += 1;
            self.journal.uncounted(self.db, &[expired_word(&self.config), key]);
            self.events.note(Class::EXPIRED, self.db, "expired", key);
            return Ok(None);
        }
        if !self.no_touch {
            access::touch(occupied.as_ref(), self.now, &self.config, &mut self.rng);
        }
        if occupied.as_ref().is_string() { Ok(Some(occupied)) } else { Err(Error::WrongType) }
    }

    /// The collection at a key that is read, or WRONGTYPE.
    pub fn read_as<T: CollectionType>(&mut self, key: &[u8]) -> Result<Option<&T>> {
        self.read(key).map(collection_of).transpose()
    }

    /// The collections at several keys that are read, and what making another one of them takes; or WRONGTYPE.
    pub fn read_all_as<T: CollectionType>(&mut self, keys: &[&[u8]]) -> Result<(Vec<Option<&T>>, Env<'_>)> {
        for key in keys {
            self.read_as::<T>(key)?;
        }
        let db = self.db;
        let (keyspace, env) = self.with_env();
        let db = keyspace.db(db);
        let collection = |entry| collection_of(entry).expect("the type was looked at");
        let collections = keys.iter().map(|key| db.get(db.hash(key), key).map(collection)).collect();
        Ok((collections, env))
    }

    /// There is a collection of this type at the key; leaves no trace.
    pub fn holds<T: CollectionType>(&mut self, key: &[u8]) -> bool {
        self.peek_as::<T>(key).is_some()
    }

    /// The collection of this type at the key, without a trace.
    pub fn peek_as<T: CollectionType>(&mut self, key: &[u8]) -> Option<&T> {
        self.peek(key).and_then(|entry| collection_of(entry).ok())
    }

    /// The collection at a key that is going to be changed, or WRONGTYPE.
    pub fn write_as<T: CollectionType>(&mut self, key: &[u8]) -> Result<Option<&T>> {
        self.lookup_write(key).map(collection_of).transpose()
    }

    /// Lets `change` modify the collection at a key, in one lookup; the key is removed when that leaves it empty. `None`
    /// if there is no such key; WRONGTYPE if it holds something else.
    pub fn change<T: CollectionType, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<Option<R>> {
        self.change_at(key, false, false, change)
    }

    /// The same, beginning with an empty collection if there is no such key.
    pub fn change_or_create<T: CollectionType, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<R> {
        let result = self.change_at(key, true, false, change)?;
        Ok(result.expect("what is not there is created"))
    }

    #[inline]
    fn change_at<T: CollectionType, R>(
        &mut self,
        key: &[u8],
        creates: bool,
        is_settled: bool,
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<Option<R>> {
        let hash = self.hash_of(key);
        let (db, now, no_touch) = (self.db, self.now, self.no_touch);
        let (keyspace, mut env) = self.with_env();
        let (result, next_ms) = match keyspace.db_mut(db).lookup(hash, key) {
            Lookup::Occupied(found) if !is_settled && is_unsettled(found.as_ref(), now) => {
                return self.settle_and_change(key, creates, change);
            }
            Lookup::Occupied(mut found) => {
                if !no_touch {
                    access::touch(found.as_ref(), now, env.config, env.rng);
                }
                collection_of::<T>(found.as_ref())?;
                let (result, is_gone) = found.update(|entry| {
                    entry.change_collection(|collection| {
                        let value = T::of_mut(collection).expect("the type was looked at");
                        let result = change(value, &mut env);
                        (result, value.is_empty() && !T::LIVES_EMPTY)
                    })
                });
                let next_ms = if is_gone { None } else { next_field_ms(found.as_ref()) };
                if is_gone {
                    let entry = found.remove();
                    self.lazyfree.free(entry);
                }
                (result, next_ms)
            }
            Lookup::Vacant(_) if !creates => return Ok(None),
            Lookup::Vacant(vacant) => {
                let mut value = T::empty();
                let result = change(&mut value, &mut env);
                if value.is_empty() && !T::LIVES_EMPTY {
                    return Ok(Some(result));
                }
                let entry = Entry::new(key, Value::Collection(value.into()), None, access::initial(now, env.config));
                let next_ms = next_field_ms(entry.as_ref());
                vacant.insert(entry);
                self.notify(Class::NEW_KEY, "new", key);
                (result, next_ms)
            }
        };
        if is_settled || next_ms.is_some() {
            self.keyspace.note_fields(db, key, next_ms);
        }
        Ok(Some(result))
    }

    /// The same where the key's time, or that of some of its fields, may have passed: what is due goes first.
    #[cold]
    fn settle_and_change<T: CollectionType, R>(
        &mut self,
        key: &[u8],
        creates: bool,
        change: impl FnOnce(&mut T, &mut Env<'_>) -> R,
    ) -> Result<Option<R>> {
        self.live(key);
        self.change_at(key, creates, true, change)
    }

    /// Puts a value under a key that does not exist, without expiry; the command records the effect.
    pub fn put_value(&mut self, key: &[u8], value: Value<'_>) {
        let access = access::initial(self.now, &self.config);
        self.put_entry(key, Entry::new(key, value, None, access));
    }

    /// Sets a key, whatever it held, in one lookup. Allocates nothing if the new value fits where the old one was.
    pub fn set(&mut self, key: &[u8], value: Value<'_>, expiry: Expiry) {
        let hash = self.hash_of(key);
        let expire_at_ms = if let Expiry::At(at) = expiry { Some(at) } else { None };
        match self.keyspace.db_mut(self.db).lookup(hash, key) {
            Lookup::Vacant(vacant) => {
                vacant.insert(Entry::new(key, value, expire_at_ms, access::initial(self.now, &self.config)));
                self.notify(Class::NEW_KEY, "new", key);
            }
            Lookup::Occupied(mut occupied) => {
                let expired = expire::is_expired(occupied.as_ref(), self.now) && !self.replaying;
                if expired {
                    self.stats.expired += 1;
                    self.journal.uncounted(self.db, &[expired_word(&self.config), key]);
                    self.events.note(Class::EXPIRED, self.db, "expired", key);
                    self.events.note(Class::NEW_KEY, self.db, "new", key);
                    occupied.set_access(access::initial(self.now, &self.config));
                } else {
                    access::touch(occupied.as_ref(), self.now, &self.config, &mut self.rng);
                }
                let had_times = occupied.as_ref().has_field_times();
                let lazyfree = &mut self.lazyfree;
                occupied.update(|entry| {
                    let kept = if expiry == Expiry::Keep && !expired { entry.expire_at_ms() } else { expire_at_ms };
                    lazyfree.empty(entry);
                    entry.set_value_and_expire(value, kept);
                });
                if had_times {
                    self.keyspace.note_fields(self.db, key, None);
                }
            }
        }
    }

    /// Removes a key: whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.take(key) else { return false };
        self.lazyfree.free(entry);
        true
    }

    /// Takes the entry of a key out.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        self.live(key)?;
        let hash = self.hash_of(key);
        let entry = self.keyspace.db_mut(self.db).remove(hash, key)?;
        if entry.as_ref().has_field_times() {
            self.keyspace.note_fields(self.db, key, None);
        }
        Some(entry)
    }

    /// Frees an entry whose time is over.
    fn free(&mut self, entry: Entry) {
        if entry.as_ref().has_field_times() {
            self.keyspace.note_fields(self.db, entry.key(), None);
        }
        self.lazyfree.free(entry);
    }

    /// Changes the expiry of a key that exists.
    pub fn set_expire(&mut self, key: &[u8], at_ms: Option<i64>) {
        self.update(key, |entry| entry.set_expire(at_ms));
    }

    /// Appends to the string at a key that exists; it becomes `raw`.
    pub fn append(&mut self, key: &[u8], tail: &[u8]) {
        self.update(key, |entry| entry.append(tail));
    }

    /// Overwrites part of the string at a key that exists, padding with zeros; it becomes `raw`.
    pub fn set_range(&mut self, key: &[u8], offset: usize, patch: &[u8]) {
        self.update(key, |entry| entry.set_range(offset, patch));
    }

    /// Changes the entry of a key that was looked up just now.
    fn update(&mut self, key: &[u8], change: impl FnOnce(&mut Entry)) {
        let hash = self.hash_of(key);
        self.keyspace.db_mut(self.db).get_mut(hash, key).expect("the key was looked up").update(change);
    }

    /// A copy of a key's entry, for another key or shard; leaves no trace.
    pub fn copy_entry(&mut self, key: &[u8]) -> Option<Entry> {
        self.peek(key).map(|entry| entry.copy_as(key))
    }

    /// Makes a key hold this entry, or nothing, and records that as an effect: the second half of a command over
    /// several shards.
    pub fn store_entry(&mut self, key: &[u8], entry: Option<Entry>) {
        let existed = self.delete(key);
        match entry {
            Some(entry) => self.insert_entry(key, entry),
            None if existed => self.effect(&[b"DEL", key]),
            None => {}
        }
    }

    /// Puts an entry under a key that does not exist, and records it.
    pub fn insert_entry(&mut self, key: &[u8], entry: Entry) {
        self.value_effect(key, entry.as_ref());
        self.put_entry(key, entry);
    }

    /// Records what makes a key hold this entry, whatever it held.
    pub fn value_effect(&mut self, key: &[u8], entry: EntryRef<'_>) {
        if !self.journal.keeps_effects() {
            self.journal.dirty += 1;
            return self.changed(key);
        }
        with_value_words(key, entry, |words| self.effect(words));
    }

    /// Puts an entry under a key that does not exist; the command records the effect.
    pub fn put_entry(&mut self, key: &[u8], entry: Entry) {
        self.put_again(key, entry);
        self.notify(Class::NEW_KEY, "new", key);
    }

    /// The same for a key that was deleted just now to hold something else: it is not new.
    pub fn put_again(&mut self, key: &[u8], entry: Entry) {
        let hash = self.hash_of(key);
        if self.expiry_paused {
            self.replace_expired(hash, key);
        }
        let entry = if entry.key() == key { entry } else { entry.as_ref().copy_as(key) };
        self.put_by_hash(hash, entry);
    }

    /// Puts a key that is not there into its place, by its hash.
    pub fn put_by_hash(&mut self, hash: u64, entry: Entry) {
        if entry.as_ref().has_field_times() {
            self.keyspace.note_fields(self.db, entry.key(), next_field_ms(entry.as_ref()));
        }
        self.keyspace.db_mut(self.db).insert(hash, entry);
    }

    /// Removes what expired while clients were paused, and is about to be replaced.
    #[cold]
    fn replace_expired(&mut self, hash: u64, key: &[u8]) {
        if let Some(entry) = self.keyspace.db_mut(self.db).remove(hash, key) {
            self.free(entry);
        }
    }

    /// Has its time passed? A key lives through the millisecond of its expiry.
    #[inline]
    pub fn is_expired(&self, entry: EntryRef<'_>) -> bool {
        expire::is_expired(entry, self.now) && !self.replaying
    }

    /// What is recorded when a key expires.
    pub fn expired_word(&self) -> &'static [u8] {
        expired_word(&self.config)
    }

    /// A slice of active expiry: removes up to `keys_max` keys that are due by then.
    pub fn expire_slice(&mut self, until: Now, keys_max: usize) -> expire::Progress {
        if self.expiry_paused {
            return expire::Progress { expired: 0, more: false };
        }
        let word = self.expired_word();
        let mut hashes_gone = Vec::new();
        let ShardCtx { keyspace, active_expire, journal, events, stats, lazyfree, .. } = self;
        let mut progress = active_expire.slice(keyspace, until, keys_max, |db, entry| {
            stats.expired += 1;
            journal.uncounted(db, &[word, entry.key()]);
            events.note(Class::EXPIRED, db, "expired", entry.key());
            if entry.as_ref().has_field_times() {
                hashes_gone.push((db, entry.key().to_vec()));
            }
            lazyfree.free(entry);
        });
        for (db, key) in hashes_gone {
            self.keyspace.note_fields(db, &key, None);
        }
        if self.active_expire.enabled && !self.keyspace.keeps_unsaved() {
            progress.more |= self.expire_fields_slice(until, keys_max);
        }
        progress
    }

    /// Removes up to about `fields_max` fields that are due, from all hashes; true if there may be more.
    fn expire_fields_slice(&mut self, until: Now, fields_max: usize) -> bool {
        let mut left = fields_max;
        while left > 0 {
            let hashes = self.keyspace.take_due_hashes(until.unix_ms, HASHES_PER_STEP);
            if hashes.is_empty() {
                return false;
            }
            let of_each = (left / hashes.len()).max(1);
            for (db, noted) in hashes {
                let hash = self.keyspace.hash(noted.key());
                let removed = self.expire_fields(db, noted.key(), hash, until, of_each);
                left = left.saturating_sub(removed.max(1));
            }
        }
        true
    }

    /// Removes up to `fields_max` fields that are due from the hash at a key, if there is one, and the key with the last
    /// of them; how many these were.
    fn expire_fields(&mut self, db: usize, key: &[u8], hash: u64, until: Now, fields_max: usize) -> usize {
        let now_ms = until.unix_ms;
        let Some(mut occupied) = self.keyspace.db_mut(db).get_mut(hash, key) else { return 0 };
        if !occupied.as_ref().has_field_times() {
            return 0;
        }
        let (fields, is_gone) = occupied.update(|entry| {
            entry.change_collection(|collection| {
                let hash = Hash::of_mut(collection).expect("only hashes have fields with times");
                (hash.reap(fields_max, now_ms), hash.is_empty())
            })
        });
        let mut next_ms = if is_gone { None } else { next_field_ms(occupied.as_ref()) };
        if is_gone {
            self.lazyfree.free(occupied.remove());
        }
        if next_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            next_ms = Some(now_ms - LONG_DUE_MS);
        }
        self.keyspace.note_fields(db, key, next_ms);
        if !fields.is_empty() {
            let mut words: Vec<&[u8]> = vec![b"HDEL", key];
            words.extend(fields.iter().map(Vec::as_slice));
            self.journal.uncounted(db, &words);
            self.events.note(Class::HASH, db, "hexpired", key);
            if is_gone {
                self.events.note(Class::GENERIC, db, "del", key);
            }
        }
        fields.len()
    }

    /// Records what the command did, in deterministic form; counts one change.
    #[inline]
    pub fn effect(&mut self, words: &[&[u8]]) {
        self.journal.effect(self.db, words);
    }

    /// Tells those who watch it that a key of the database is different, where no effect does.
    pub fn changed(&mut self, key: &[u8]) {
        if self.journal.is_recording() {
            self.journal.changed(Change::Key { db: self.db, key: key.to_vec() });
        }
    }

    /// The place of a key that exists and has not expired; one that has is removed now.
    #[inline]
    fn live(&mut self, key: &[u8]) -> Option<Position> {
        let hash = self.hash_of(key);
        let db = self.keyspace.db(self.db);
        let Some(place) = db.find(hash, key) else {
            if let Some(sought) = &mut self.sought {
                sought.push((self.db, key.to_vec()));
            }
            return None;
        };
        if expire::is_expired(db.at(place), self.now) && !self.replaying {
            self.expire(key, hash);
            return None;
        }
        if db.at(place).has_field_times() {
            return self.live_fields(key, hash, place);
        }
        Some(place)
    }

    /// The place of a hash when fields that are due have gone; none is left perhaps.
    #[cold]
    fn live_fields(&mut self, key: &[u8], hash: u64, place: Position) -> Option<Position> {
        let entry = self.keyspace.db(self.db).at(place);
        let is_due = collection_of::<Hash>(entry).is_ok_and(|fields| fields.may_be_due(self.now.unix_ms));
        if !is_due || self.expiry_paused || self.replaying || self.is_kept(hash) {
            return Some(place);
        }
        self.expire_fields(self.db, key, hash, self.now, FIELDS_PER_ACCESS);
        self.keyspace.db(self.db).find(hash, key)
    }

    /// What a reader finds is not to be removed now. A writer goes on from what there is, and so removes it first.
    fn is_kept(&self, hash: u64) -> bool {
        self.only_reads && self.keyspace.db(self.db).is_kept(hash)
    }

    #[cold]
    fn expire(&mut self, key: &[u8], hash: u64) {
        if self.expiry_paused || self.is_kept(hash) {
            return;
        }
        if let Some(entry) = self.keyspace.db_mut(self.db).remove(hash, key) {
            self.free(entry);
        }
        self.stats.expired += 1;
        self.journal.uncounted(self.db, &[self.expired_word(), key]);
        self.notify(Class::EXPIRED, "expired", key);
    }
}

/// Has the entry's time passed, or may it hold fields whose time has?
#[inline]
fn is_unsettled(entry: EntryRef<'_>, now: Now) -> bool {
    expire::is_expired(entry, now) || entry.has_field_times()
}

/// When something in a hash is due.
#[inline]
fn next_field_ms(entry: EntryRef<'_>) -> Option<i64> {
    if !entry.has_field_times() {
        return None;
    }
    collection_of::<Hash>(entry).ok().and_then(Hash::next_expire_ms)
}

fn expired_word(config: &Config) -> &'static [u8] {
    if config.lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" }
}

#[inline]
fn string_of(entry: EntryRef<'_>) -> Result<TextRef<'_>> {
    match entry.value() {
        ValueRef::Text(text) => Ok(text),
        ValueRef::Collection(_) => Err(Error::WrongType),
    }
}

fn collection_of<T: CollectionType>(entry: EntryRef<'_>) -> Result<&T> {
    match entry.value() {
        ValueRef::Collection(collection) => T::of(collection).ok_or(Error::WrongType),
        ValueRef::Text(_) => Err(Error::WrongType),
    }
}
/// The command that makes a key hold an entry, whatever it held.
pub fn with_value_words(key: &[u8], entry: EntryRef<'_>, take: impl FnOnce(&[&[u8]])) {
    let mut digits = itoa::Buffer::new();
    let at_ms = entry.expire_at_ms();
    match entry.value() {
        ValueRef::Text(text) => {
            let mut text_digits = itoa::Buffer::new();
            let text = text.bytes(&mut text_digits);
            match at_ms {
                None => take(&[b"SET", key, text]),
                Some(at) => take(&[b"SET", key, text, b"PXAT", digits.format(at).as_bytes()]),
            }
        }
        ValueRef::Collection(_) => {
            let payload = dump::dump_for_files(entry);
            let at = digits.format(at_ms.unwrap_or(0)).as_bytes();
            // Other than SET, RESTORE minds what the key holds where the effect is applied.
            take(&[b"RESTORE", key, at, &payload, b"REPLACE", b"ABSTTL"]);
        }
    }
}
