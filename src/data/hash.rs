//! Hashes: texts by field, each field with a time of its own to expire, if it was given one.
//!
//! A small hash is a listpack of fields and values, or of fields, values and times (0: none) from the first field that
//! is given a time on; a large one is a table whose elements are entries. As in Redis a hash never becomes a listpack
//! again, nor does a listpack lose its column of times.
//!
//! A field lives through the millisecond of its time, like a key. One whose time has passed is not seen any more, by
//! reads that are told the time, but takes room until `reap` comes along. `earliest_ms` bounds the times from below, so
//! that a hash in which nothing is due costs one comparison. A hash knows no key, and no effects.

mod rdb;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::collection::{Collection, CollectionType, Env, SaveElement};
use super::dict::{Dict, Lookup};
use super::entry::{Entry, EntryRef, Kind, TextRef, Value};
use super::listpack::{At, Element, Listpack};
use super::size_class::allocation_size;
use crate::base::rng::Rng;
use crate::codec::rdb::{Form, Output, Reader};

/// The latest time that a field may be given, in Unix milliseconds: Redis keeps so many bits of it.
pub const FIELD_TIME_MS_MAX: i64 = (1 << 46) - 1;
/// No field expires.
const NEVER: i64 = i64::MAX;
/// A listpack beyond this many bytes becomes a table, whatever the thresholds are.
const LISTPACK_BYTES_MAX: usize = 1 << 30;
/// Up to this many fields, `reap` looks at all of them and finds exactly what is due; larger tables have an index that
/// is a tick late.
const EXACT_LEN_MAX: usize = 128;
/// That tick, rounded up to a whole one on either side.
const TICK_MS: i64 = 128;
/// So many draws of expired fields in a row make a random choice look at all fields.
const DRAWS_MAX: usize = 64;

/// A field and its value.
pub type Pair<'a> = (Element<'a>, Element<'a>);

/// What becomes of a field's time when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldTime {
    Clear,
    Keep,
}

#[derive(Clone)]
pub struct Hash {
    repr: Repr,
}

#[derive(Clone)]
enum Repr {
    Pairs(Listpack),
    Timed(Box<Timed>),
    Table(Box<Table>),
}

/// Field, value, time, field, value, time, ...
#[derive(Clone)]
struct Timed {
    listpack: Listpack,
    earliest_ms: i64,
}

#[derive(Clone)]
struct Table {
    dict: Dict,
    earliest_ms: i64,
}

impl CollectionType for Hash {
    fn of(collection: &Collection) -> Option<&Hash> {
        if let Collection::Hash(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut Hash> {
        if let Collection::Hash(value) = collection { Some(value) } else { None }
    }

    fn empty() -> Hash {
        Hash { repr: Repr::Pairs(Listpack::new()) }
    }

    fn is_empty(&self) -> bool {
        match &self.repr {
            Repr::Pairs(listpack) => listpack.is_empty(),
            Repr::Timed(timed) => timed.listpack.is_empty(),
            Repr::Table(table) => table.dict.is_empty(),
        }
    }

    fn rdb_type(&self, _form: Form) -> u8 {
        rdb::rdb_type(self)
    }

    fn save(&self, out: &mut Output) {
        rdb::save(self, out);
    }

    fn load(rdb_type: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Hash> {
        rdb::load(rdb_type, reader, env)
    }
}

impl Hash {
    pub fn kind(&self) -> Kind {
        match &self.repr {
            Repr::Pairs(_) => Kind::HashListpack,
            Repr::Timed(_) => Kind::HashListpackTimed,
            Repr::Table(table) if table.dict.expires_len() == 0 => Kind::HashHashtable,
            Repr::Table(_) => Kind::HashHashtableTimed,
        }
    }

    /// The table of a large one.
    pub fn table(&self) -> Option<&Dict> {
        if let Repr::Table(table) = &self.repr { Some(&table.dict) } else { None }
    }

    pub fn table_mut(&mut self) -> Option<&mut Dict> {
        if let Repr::Table(table) = &mut self.repr { Some(&mut table.dict) } else { None }
    }

    /// See [`Collection::save_head`].
    pub fn save_head(&self, out: &mut Output) -> SaveElement {
        // It need not be the time of a field: to find the first would take as long as to write all.
        rdb::save_head(self, self.earliest_ms().max(0), out)
    }

    pub fn usable_bytes(&self, samples: usize) -> usize {
        match &self.repr {
            Repr::Pairs(listpack) => listpack.usable_bytes(),
            Repr::Timed(timed) => allocation_size(size_of::<Timed>()) + timed.listpack.usable_bytes(),
            Repr::Table(table) => {
                let len = table.dict.len();
                let looked_at = if samples == 0 { len } else { samples.min(len) };
                let sum: usize = table.dict.iter().take(looked_at).map(|entry| entry.usable_bytes(0)).sum();
                let entries = (sum as u128 * len as u128 / looked_at.max(1) as u128) as usize;
                allocation_size(size_of::<Table>()) + table.dict.usable_bytes() + entries
            }
        }
    }

    pub fn free_effort(&self) -> usize {
        if let Repr::Table(table) = &self.repr { table.dict.len() } else { 1 }
    }

    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        match &mut self.repr {
            Repr::Table(table) => table.dict.clear_slice(elements_max),
            _ => {
                *self = Hash::empty();
                true
            }
        }
    }

    /// All fields, those included that have expired since the last `reap`.
    #[allow(clippy::len_without_is_empty)] // The trait has it.
    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Pairs(listpack) => listpack.len() / 2,
            Repr::Timed(timed) => timed.listpack.len() / 3,
            Repr::Table(table) => table.dict.len(),
        }
    }

    /// Fields that have not expired. O(n) if some may have.
    pub fn live_len(&self, now_ms: i64) -> usize {
        if self.may_be_due(now_ms) { self.iter(now_ms).count() } else { self.len() }
    }

    pub fn get(&self, field: &[u8], now_ms: i64) -> Option<Element<'_>> {
        match &self.repr {
            Repr::Pairs(listpack) => {
                let at = listpack.find(listpack.first(), field, 2)?;
                Some(listpack.get(value_at(listpack, at)))
            }
            Repr::Timed(timed) => {
                let at = timed.find(field)?;
                let value = timed.listpack.get(value_at(&timed.listpack, at));
                (!is_past(timed.time(at), now_ms)).then_some(value)
            }
            Repr::Table(table) => {
                let entry = table.dict.get(table.dict.hash(field), field)?;
                (!is_past(entry.expire_at_ms(), now_ms)).then(|| text_of(entry))
            }
        }
    }

    /// When a field expires, if it exists.
    pub fn field_time(&self, field: &[u8], now_ms: i64) -> Option<Option<i64>> {
        self.stored_time(field).filter(|&time| !is_past(time, now_ms))
    }

    /// Has any field a time?
    pub fn has_times(&self) -> bool {
        match &self.repr {
            Repr::Pairs(_) => false,
            Repr::Timed(timed) => timed.rows().any(|(_, _, _, time)| time.is_some()),
            Repr::Table(table) => table.dict.expires_len() > 0,
        }
    }

    /// Some field may be past its time: `reap` may find something.
    #[inline]
    pub fn may_be_due(&self, now_ms: i64) -> bool {
        self.earliest_ms() < now_ms
    }

    /// When to look for fields that are due; `None` if none ever will be, or so late that it does not matter.
    pub fn next_expire_ms(&self) -> Option<i64> {
        match &self.repr {
            Repr::Table(table) if table.dict.len() > EXACT_LEN_MAX => table.dict.next_expire_ms(),
            _ => Some(self.earliest_ms()).filter(|&at_ms| at_ms != NEVER).map(|at_ms| at_ms + 1),
        }
    }

    /// All pairs that have not expired.
    pub fn iter(&self, now_ms: i64) -> Box<dyn Iterator<Item = Pair<'_>> + '_> {
        match &self.repr {
            Repr::Pairs(listpack) => Box::new(pairs(listpack)),
            Repr::Timed(timed) => {
                let live = timed.rows().filter(move |&(_, _, _, time)| !is_past(time, now_ms));
                Box::new(live.map(|(_, field, value, _)| (field, value)))
            }
            Repr::Table(table) => {
                let live = table.dict.iter().filter(move |entry| !is_past(entry.expire_at_ms(), now_ms));
                Box::new(live.map(pair_of))
            }
        }
    }

    /// Visits about `count` pairs from `cursor` on, all of a listpack; the next cursor, 0 at the end. See `Dict::scan`.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, now_ms: i64, mut visit: impl FnMut(Pair<'a>)) -> u64 {
        let Repr::Table(table) = &self.repr else {
            self.iter(now_ms).for_each(visit);
            return 0;
        };
        table.dict.scan(cursor, count, |entry| {
            if !is_past(entry.expire_at_ms(), now_ms) {
                visit(pair_of(entry));
            }
        })
    }

    /// A random pair; all are about equally likely.
    pub fn random(&self, now_ms: i64, rng: &mut Rng) -> Option<Pair<'_>> {
        for _ in 0..DRAWS_MAX {
            let (pair, time) = match &self.repr {
                Repr::Pairs(listpack) => {
                    let at = listpack.at_index(2 * rng.below((listpack.len() / 2).max(1) as u64) as i64)?;
                    ((listpack.get(at), listpack.get(value_at(listpack, at))), None)
                }
                Repr::Timed(timed) => {
                    let listpack = &timed.listpack;
                    let at = listpack.at_index(3 * rng.below((listpack.len() / 3).max(1) as u64) as i64)?;
                    ((listpack.get(at), listpack.get(value_at(listpack, at))), timed.time(at))
                }
                Repr::Table(table) => {
                    let entry = table.dict.random(|| rng.next_u64())?;
                    (pair_of(entry), entry.expire_at_ms())
                }
            };
            if !is_past(time, now_ms) {
                return Some(pair);
            }
        }
        let live: Vec<Pair<'_>> = self.iter(now_ms).collect();
        (!live.is_empty()).then(|| live[rng.below(live.len() as u64) as usize])
    }

    /// Up to `count` different pairs, each choice equally likely.
    pub fn distinct(&self, count: usize, now_ms: i64, rng: &mut Rng) -> Vec<Pair<'_>> {
        /// From this share of all fields on, all are listed and some picked, as draws would repeat too often.
        const SHARE: usize = 3;
        let Repr::Table(table) = &self.repr else { return pick(self.iter(now_ms).collect(), count, rng) };
        if count.saturating_mul(SHARE) > table.dict.len() || self.may_be_due(now_ms) {
            return pick(self.iter(now_ms).collect(), count, rng);
        }
        let (mut drawn, mut seen) = (Vec::with_capacity(count), HashSet::with_capacity(count));
        while drawn.len() < count {
            let entry = table.dict.random(|| rng.next_u64()).expect("the table has more fields than are wanted");
            if seen.insert(entry.key().as_ptr().addr()) {
                drawn.push(pair_of(entry));
            }
        }
        drawn
    }

    /// Takes the form at once that these fields and values will need: HSET decides by what it was given, before it looks
    /// at what is there.
    pub fn make_room(&mut self, fields_and_values: &[&[u8]], env: &mut Env<'_>) {
        let Some(listpack) = self.listpack() else { return };
        let too_long = |word: &&[u8]| word.len() as u64 > env.config.hash_max_listpack_value;
        let too_many = fields_and_values.len() as u64 / 2 > env.config.hash_max_listpack_entries;
        let bytes: usize = fields_and_values.iter().map(|word| word.len()).sum();
        let too_large = listpack.bytes().len().saturating_add(bytes) > LISTPACK_BYTES_MAX;
        if too_many || too_large || fields_and_values.iter().any(too_long) {
            self.become_table(env);
        }
    }

    /// Sets a field, which may be expired only if `remove_expired` came before; true if it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], time: FieldTime, env: &mut Env<'_>) -> bool {
        self.make_room(&[field, value], env);
        let is_new = match &mut self.repr {
            Repr::Pairs(listpack) => match listpack.find(listpack.first(), field, 2) {
                Some(at) => {
                    listpack.replace(value_at(listpack, at), value);
                    false
                }
                None => {
                    listpack.push(field);
                    listpack.push(value);
                    true
                }
            },
            Repr::Timed(timed) => timed.set(field, value, time),
            Repr::Table(table) => table.set(field, value, time),
        };
        if is_new && self.len() as u64 > env.config.hash_max_listpack_entries {
            self.become_table(env);
        }
        is_new
    }

    /// Gives a field that exists a time, or takes it.
    pub fn set_field_time(&mut self, field: &[u8], at_ms: Option<i64>) {
        if let (Repr::Pairs(listpack), Some(_)) = (&self.repr, at_ms) {
            let mut triples = Listpack::new();
            for (field, value) in pairs(listpack) {
                push(&mut triples, field);
                push(&mut triples, value);
                triples.push_integer(0);
            }
            self.repr = Repr::Timed(Box::new(Timed { listpack: triples, earliest_ms: NEVER }));
        }
        match &mut self.repr {
            Repr::Pairs(_) => {}
            Repr::Timed(timed) => {
                let Some(at) = timed.find(field) else { return };
                timed.set_time(at, at_ms);
            }
            Repr::Table(table) => {
                let hash = table.dict.hash(field);
                let Some(mut slot) = table.dict.get_mut(hash, field) else { return };
                slot.update(|entry| entry.set_expire(at_ms));
                table.earliest_ms = table.earliest_ms.min(at_ms.unwrap_or(NEVER));
            }
        }
    }

    /// Removes a field: whether it was there, expired or not.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.repr {
            Repr::Pairs(listpack) => {
                let Some(at) = listpack.find(listpack.first(), field, 2) else { return false };
                listpack.remove_some(at, 2);
                true
            }
            Repr::Timed(timed) => {
                let Some(at) = timed.find(field) else { return false };
                timed.listpack.remove_some(at, 3);
                true
            }
            Repr::Table(table) => table.dict.remove(table.dict.hash(field), field).is_some(),
        }
    }

    /// Removes those of some fields that have expired: which these were.
    pub fn remove_expired<'f>(&mut self, fields: impl Iterator<Item = &'f [u8]>, now_ms: i64) -> Vec<&'f [u8]> {
        let mut removed = Vec::new();
        if self.may_be_due(now_ms) {
            for field in fields {
                if self.stored_time(field).is_some_and(|time| is_past(time, now_ms)) {
                    self.remove(field);
                    removed.push(field);
                }
            }
        }
        removed
    }

    /// Removes up to `fields_max` fields that are due, and returns them. Finds all of them, at once in a small hash, and
    /// in a large one by calls that go on until `next_expire_ms` is in the future.
    pub fn reap(&mut self, fields_max: usize, now_ms: i64) -> Vec<Vec<u8>> {
        let mut reaped = Vec::new();
        match &mut self.repr {
            Repr::Pairs(_) => {}
            Repr::Timed(timed) => timed.reap(now_ms, &mut reaped),
            Repr::Table(table) => table.reap(fields_max, now_ms, &mut reaped),
        }
        reaped
    }

    #[inline]
    fn earliest_ms(&self) -> i64 {
        match &self.repr {
            Repr::Pairs(_) => NEVER,
            Repr::Timed(timed) => timed.earliest_ms,
            Repr::Table(table) => table.earliest_ms,
        }
    }

    fn listpack(&self) -> Option<&Listpack> {
        match &self.repr {
            Repr::Pairs(listpack) => Some(listpack),
            Repr::Timed(timed) => Some(&timed.listpack),
            Repr::Table(_) => None,
        }
    }

    /// The time of a field that is there, expired or not.
    fn stored_time(&self, field: &[u8]) -> Option<Option<i64>> {
        match &self.repr {
            Repr::Pairs(listpack) => listpack.find(listpack.first(), field, 2).map(|_| None),
            Repr::Timed(timed) => timed.find(field).map(|at| timed.time(at)),
            Repr::Table(table) => table.dict.get(table.dict.hash(field), field).map(EntryRef::expire_at_ms),
        }
    }

    /// All fields, expired or not, with values and times.
    fn rows(&self) -> Box<dyn Iterator<Item = (Element<'_>, Element<'_>, Option<i64>)> + '_> {
        match &self.repr {
            Repr::Pairs(listpack) => Box::new(pairs(listpack).map(|(field, value)| (field, value, None))),
            Repr::Timed(timed) => Box::new(timed.rows().map(|(_, field, value, time)| (field, value, time))),
            Repr::Table(table) => {
                let row = |entry: EntryRef<'_>| entry.expire_at_ms();
                Box::new(table.dict.iter().map(move |entry| {
                    let (field, value) = pair_of(entry);
                    (field, value, row(entry))
                }))
            }
        }
    }

    fn become_table(&mut self, env: &Env<'_>) {
        if matches!(self.repr, Repr::Table(_)) {
            return;
        }
        let mut dict = Dict::new(env.seeds, env.now_ms);
        for (field, value, time) in self.rows() {
            let (mut field_digits, mut value_digits) = Default::default();
            let (field, value): (_, &[u8]) = (field.text(&mut field_digits), value.text(&mut value_digits));
            dict.insert(dict.hash(field), Entry::new(field, Value::Plain(value), time, 0));
        }
        let earliest_ms = self.earliest_ms();
        self.repr = Repr::Table(Box::new(Table { dict, earliest_ms }));
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |element: Element<'_>| element.to_vec().escape_ascii().to_string();
        f.debug_map().entries(self.rows().map(|(field, value, time)| (show(field), (show(value), time)))).finish()
    }
}

impl Timed {
    fn find(&self, field: &[u8]) -> Option<At> {
        self.listpack.find(self.listpack.first(), field, 3)
    }

    fn time_at(&self, field: At) -> At {
        value_at(&self.listpack, value_at(&self.listpack, field))
    }

    /// The time of the field at this place.
    fn time(&self, field: At) -> Option<i64> {
        as_time(self.listpack.get(self.time_at(field)))
    }

    /// Place, field, value, time.
    fn rows(&self) -> impl Iterator<Item = (At, Element<'_>, Element<'_>, Option<i64>)> {
        let mut walk = self.listpack.walk(self.listpack.first());
        std::iter::from_fn(move || {
            let (at, field) = walk.next()?;
            let (_, value) = walk.next()?;
            let (_, time) = walk.next()?;
            Some((at, field, value, as_time(time)))
        })
    }

    fn set(&mut self, field: &[u8], value: &[u8], time: FieldTime) -> bool {
        match self.find(field) {
            Some(at) => {
                self.listpack.replace(value_at(&self.listpack, at), value);
                if time == FieldTime::Clear {
                    self.set_time(at, None);
                }
                false
            }
            None => {
                self.listpack.push(field);
                self.listpack.push(value);
                self.listpack.push_integer(0);
                true
            }
        }
    }

    fn set_time(&mut self, field: At, at_ms: Option<i64>) {
        let before = self.time(field);
        self.listpack.replace_integer(self.time_at(field), at_ms.unwrap_or(0));
        self.earliest_ms = self.earliest_ms.min(at_ms.unwrap_or(NEVER));
        if before == Some(self.earliest_ms) {
            self.earliest_ms = self.rows().filter_map(|(_, _, _, time)| time).min().unwrap_or(NEVER);
        }
    }

    fn reap(&mut self, now_ms: i64, reaped: &mut Vec<Vec<u8>>) {
        let mut earliest_ms = NEVER;
        let mut at = self.listpack.first();
        while let Some(field) = at {
            let time = self.time(field);
            if is_past(time, now_ms) {
                reaped.push(self.listpack.get(field).to_vec());
                at = self.listpack.remove_some(field, 3);
            } else {
                earliest_ms = earliest_ms.min(time.unwrap_or(NEVER));
                at = self.listpack.next(self.time_at(field));
            }
        }
        self.earliest_ms = earliest_ms;
    }
}

impl Table {
    fn set(&mut self, field: &[u8], value: &[u8], time: FieldTime) -> bool {
        let hash = self.dict.hash(field);
        match self.dict.lookup(hash, field) {
            Lookup::Vacant(vacant) => {
                vacant.insert(Entry::new(field, Value::Plain(value), None, 0));
                true
            }
            Lookup::Occupied(mut slot) => {
                slot.update(|entry| {
                    let kept = entry.expire_at_ms().filter(|_| time == FieldTime::Keep);
                    entry.set_value_and_expire(Value::Plain(value), kept);
                });
                false
            }
        }
    }

    fn reap(&mut self, fields_max: usize, now_ms: i64, reaped: &mut Vec<Vec<u8>>) {
        if self.dict.expires_len() == 0 {
            self.earliest_ms = NEVER;
            return;
        }
        if self.dict.len() > EXACT_LEN_MAX {
            let slice = self.dict.expire_slice(now_ms, fields_max, |_| true, |entry| reaped.push(entry.key().to_vec()));
            if !slice.more {
                self.earliest_ms = self.dict.next_expire_ms().map_or(NEVER, |at_ms| at_ms - TICK_MS);
            }
            return;
        }
        let mut earliest_ms = NEVER;
        for entry in self.dict.iter() {
            match entry.expire_at_ms() {
                time if is_past(time, now_ms) => reaped.push(entry.key().to_vec()),
                time => earliest_ms = earliest_ms.min(time.unwrap_or(NEVER)),
            }
        }
        for field in &*reaped {
            self.dict.remove(self.dict.hash(field), field);
        }
        self.earliest_ms = earliest_ms;
    }
}

fn is_past(time: Option<i64>, now_ms: i64) -> bool {
    time.is_some_and(|at_ms| at_ms < now_ms)
}

/// The place behind, where a listpack of a hash always has an element.
fn value_at(listpack: &Listpack, at: At) -> At {
    listpack.next(at).expect("the listpack of a hash has whole rows")
}

fn pairs(listpack: &Listpack) -> impl Iterator<Item = Pair<'_>> {
    let mut elements = listpack.iter();
    std::iter::from_fn(move || Some((elements.next()?, elements.next()?)))
}

fn push(listpack: &mut Listpack, element: Element<'_>) {
    match element {
        Element::Int(n) => listpack.push_integer(n),
        Element::Text(text) => listpack.push(text),
    }
}

/// A column of times holds integers; 0 is none.
fn as_time(element: Element<'_>) -> Option<i64> {
    if let Element::Int(at_ms @ 1..) = element { Some(at_ms) } else { None }
}

fn pair_of(entry: EntryRef<'_>) -> Pair<'_> {
    (Element::Text(entry.key()), text_of(entry))
}

fn text_of(entry: EntryRef<'_>) -> Element<'_> {
    match entry.text() {
        TextRef::Int(n) => Element::Int(n),
        TextRef::Bytes(text) => Element::Text(text),
        TextRef::Shared(text) => Element::Text(text),
    }
}

/// Leaves `count` of all, each choice equally likely, in an order of chance.
fn pick<'a>(mut all: Vec<Pair<'a>>, count: usize, rng: &mut Rng) -> Vec<Pair<'a>> {
    let count = count.min(all.len());
    for index in 0..count {
        let other = index + rng.below((all.len() - index) as u64) as usize;
        all.swap(index, other);
    }
    all.truncate(count);
    all
}
