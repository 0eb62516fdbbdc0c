//! Set: distinct members, in no particular order.
//!
//! Three representations, as in Redis: an intset of integers while there are few, a listpack of short members while
//! there are fewer, else a table whose entries are members without a value. A set never goes back to a smaller one; only
//! where Redis builds a new set (`algebra`, `load`) does it choose anew.
//!
//! Members are handed out as [`Element`]s. Those of a table are texts even where they look like integers: whoever cares
//! asks [`Element::of`].

pub mod algebra;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::collection::{Collection, CollectionType, Env, SaveElement};
use super::dict::{Dict, Lookup};
use super::entry::{Entry, EntryRef, Kind, Value};
use super::intset::{self, Intset};
use super::listpack::{self, Digits, Element, Listpack};
use super::size_class::allocation_size;
use crate::base::rng::Rng;
use crate::codec::rdb::{self, Form, Output, Reader, rdb_type};

/// A listpack becomes a table before it has so many bytes, whatever the configuration allows. Redis draws the same line.
const LISTPACK_BYTES_MAX: usize = 1 << 30;
/// Nor does an intset ever have more integers.
const INTSET_LEN_MAX: u64 = 1 << 30;
/// Members of a table that are fetched together.
const BATCH: usize = 32;

#[derive(Clone)]
pub enum Set {
    Intset(Intset),
    Listpack(Listpack),
    Table(Box<Dict>),
}

impl CollectionType for Set {
    fn of(collection: &Collection) -> Option<&Set> {
        if let Collection::Set(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut Set> {
        if let Collection::Set(value) = collection { Some(value) } else { None }
    }

    fn empty() -> Set {
        Set::Intset(Intset::new())
    }

    fn is_empty(&self) -> bool {
        match self {
            Set::Intset(intset) => intset.is_empty(),
            Set::Listpack(listpack) => listpack.is_empty(),
            Set::Table(dict) => dict.is_empty(),
        }
    }

    fn rdb_type(&self, form: Form) -> u8 {
        match self {
            Set::Intset(_) => rdb_type::SET_INTSET,
            // Files are of a version that has no listpacks of sets.
            Set::Listpack(_) if form == Form::Payload => rdb_type::SET_LISTPACK,
            Set::Listpack(_) => rdb_type::SET,
            Set::Table(_) => rdb_type::SET,
        }
    }

    fn save(&self, out: &mut Output) {
        match self {
            Set::Intset(intset) => {
                let mut block = Vec::new();
                intset.write_block(&mut block);
                rdb::write_string(&block, out);
            }
            Set::Listpack(listpack) if out.form == Form::Payload => rdb::write_string(listpack.bytes(), out),
            Set::Listpack(listpack) => {
                rdb::write_len(listpack.len() as u64, out);
                listpack.iter().for_each(|member| rdb::write_string(member.text(&mut Default::default()), out));
            }
            Set::Table(dict) => {
                let save_member = self.save_head(out);
                dict.iter().for_each(|entry| save_member(entry, out));
            }
        }
    }

    fn load(rdb_type: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Set> {
        match rdb_type {
            rdb_type::SET => Set::load_members(reader, env),
            rdb_type::SET_INTSET => {
                let intset = Intset::from_bytes(&reader.string()?)?;
                let mut set = Set::Intset(intset);
                if set.len() as u64 > env.config.set_max_intset_entries {
                    set.make_table(env);
                }
                Some(set)
            }
            rdb_type::SET_LISTPACK => Set::load_listpack(reader.string()?.into_owned(), env),
            _ => None,
        }
    }
}

impl Set {
    pub fn kind(&self) -> Kind {
        match self {
            Set::Intset(_) => Kind::SetIntset,
            Set::Listpack(_) => Kind::SetListpack,
            Set::Table(_) => Kind::SetHashtable,
        }
    }

    /// See [`Collection::save_head`].
    pub fn save_head(&self, out: &mut Output) -> SaveElement {
        rdb::write_len(self.len() as u64, out);
        Box::new(|entry, out| rdb::write_string(entry.key(), out))
    }

    #[allow(clippy::len_without_is_empty)] // `is_empty` is the trait's.
    pub fn len(&self) -> usize {
        match self {
            Set::Intset(intset) => intset.len(),
            Set::Listpack(listpack) => listpack.len(),
            Set::Table(dict) => dict.len(),
        }
    }

    /// All members.
    pub fn members(&self) -> Members<'_> {
        Members(match self {
            Set::Intset(intset) => Source::Intset(intset.iter()),
            Set::Listpack(listpack) => Source::Listpack(listpack.iter()),
            Set::Table(dict) => Source::Table(TableMembers { dict, cursor: Some(0), batch: Vec::new(), taken: 0 }),
        })
    }

    pub fn contains(&self, member: Element<'_>) -> bool {
        match self {
            Set::Intset(intset) => integer(member).is_some_and(|n| intset.contains(n)),
            Set::Listpack(listpack) => listpack.find(listpack.first(), member.text(&mut Digits::new()), 1).is_some(),
            Set::Table(dict) => {
                let mut digits = Digits::new();
                let text = member.text(&mut digits);
                dict.find(dict.hash(text), text).is_some()
            }
        }
    }

    /// Keeps those of `batch` that are members, or those that are not. The lookups wait for memory together.
    fn sift(&self, batch: &mut Vec<Element<'_>>, wanted: bool) {
        let Set::Table(dict) = self else {
            return batch.retain(|&member| self.contains(member) == wanted);
        };
        let mut hashes = [0; BATCH];
        for (hash, member) in hashes.iter_mut().zip(&*batch) {
            *hash = dict.hash(member.text(&mut Digits::new()));
            dict.prefetch_bucket(*hash);
        }
        hashes.iter().take(batch.len()).for_each(|&hash| dict.prefetch_entry(hash));
        let mut hashes = hashes.into_iter();
        batch.retain(|member| {
            let hash = hashes.next().expect("a batch is no longer than its hashes");
            dict.find(hash, member.text(&mut Digits::new())).is_some() == wanted
        });
    }

    /// Chooses the encoding before `count` members are added, of which this is the first: what may become too large for
    /// an encoding does not begin with it, even if these turn out to be in the set already.
    pub fn expect(&mut self, first: &[u8], count: usize, env: &Env<'_>) {
        let count = count as u64;
        let fits_listpack = count <= env.config.set_max_listpack_entries;
        let fits_intset = count <= env.config.set_max_intset_entries;
        match self {
            Set::Intset(intset) if intset.is_empty() => {
                let is_integer = matches!(Element::of(first), Element::Int(_));
                if is_integer && fits_intset {
                    return;
                }
                *self = if fits_listpack { Set::Listpack(Listpack::new()) } else { Set::new_table(env) };
            }
            Set::Intset(_) if !fits_intset => self.make_table(env),
            Set::Listpack(_) if !fits_listpack => self.make_table(env),
            _ => {}
        }
    }

    /// Whether the member is new.
    pub fn add(&mut self, member: Element<'_>, env: &Env<'_>) -> bool {
        match self {
            Set::Table(dict) => insert(dict, member.text(&mut Digits::new())),
            Set::Intset(intset) => match integer(member) {
                Some(n) => {
                    let is_new = intset.insert(n);
                    if is_new && intset.len() as u64 > env.config.set_max_intset_entries.min(INTSET_LEN_MAX) {
                        self.make_table(env);
                    }
                    is_new
                }
                None => {
                    self.make_room_for_text(member.len(), env);
                    self.add(member, env)
                }
            },
            Set::Listpack(listpack) => {
                let mut digits = Digits::new();
                let text = member.text(&mut digits);
                if listpack.find(listpack.first(), text, 1).is_some() {
                    return false;
                }
                if listpack_takes(listpack.len(), listpack.bytes().len(), text.len(), env) {
                    listpack.push(text);
                    return true;
                }
                self.make_table(env);
                self.add(member, env)
            }
        }
    }

    /// Whether the member was there.
    pub fn remove(&mut self, member: Element<'_>) -> bool {
        match self {
            Set::Intset(intset) => integer(member).is_some_and(|n| intset.remove(n)),
            Set::Listpack(listpack) => {
                let found = listpack.find(listpack.first(), member.text(&mut Digits::new()), 1);
                found.map(|at| listpack.remove(at)).is_some()
            }
            Set::Table(dict) => {
                let mut digits = Digits::new();
                let text = member.text(&mut digits);
                dict.remove(dict.hash(text), text).is_some()
            }
        }
    }

    /// A random member; all are equally likely.
    pub fn random(&self, rng: &mut Rng) -> Option<Element<'_>> {
        if self.is_empty() {
            return None;
        }
        match self {
            Set::Intset(intset) => Some(Element::Int(intset.get(rng.below(intset.len() as u64) as usize))),
            Set::Listpack(listpack) => {
                listpack.at_index(rng.below(listpack.len() as u64) as i64).map(|at| listpack.get(at))
            }
            Set::Table(dict) => dict.random(|| rng.next_u64()).map(|entry| Element::Text(entry.key())),
        }
    }

    /// Draws `count` times, so that a member may come more than once, or until `found` has enough. The set is not empty, or
    /// nothing is drawn.
    pub fn draw<'a>(&'a self, count: u64, rng: &mut Rng, found: impl FnMut(Element<'a>) -> ControlFlow<()>) {
        if let Set::Listpack(_) = self {
            // One walk, not one for each.
            let members: Vec<Element> = self.members().collect();
            let mut draws = (0..count).map(|_| members[rng.below(members.len() as u64) as usize]);
            let _ = draws.try_for_each(found);
        } else {
            let _ = (0..count).map_while(|_| self.random(rng)).try_for_each(found);
        }
    }

    /// Draws `count` different members, or all if there are no more; each choice is equally likely, their order is not.
    pub fn draw_distinct<'a>(&'a self, count: usize, rng: &mut Rng, mut found: impl FnMut(Element<'a>)) {
        /// Drawing again what was drawn before costs less than a walk over all if that happens this seldom.
        const WALK_BELOW: usize = 3;
        let len = self.len();
        match self {
            Set::Table(_) if count.saturating_mul(WALK_BELOW) < len => {
                let mut drawn = HashSet::with_capacity(count);
                while drawn.len() < count {
                    let Some(Element::Text(text)) = self.random(rng) else { return };
                    // Members stay where they are as long as the set is borrowed.
                    if drawn.insert(text.as_ptr()) {
                        found(Element::Text(text));
                    }
                }
            }
            _ => {
                let mut choice = Choice { count, of: len };
                self.members().filter(|_| choice.next(rng)).for_each(found);
            }
        }
    }

    /// Removes `count` random members, or all if there are no more, and hands them out.
    pub fn pop(&mut self, count: usize, rng: &mut Rng, mut popped: impl FnMut(Element<'_>)) {
        if self.is_empty() {
            return;
        }
        let mut choice = Choice { count, of: self.len() };
        match self {
            Set::Intset(intset) => intset.retain(|n| {
                let chosen = choice.next(rng);
                if chosen {
                    popped(Element::Int(n));
                }
                !chosen
            }),
            Set::Listpack(listpack) if count == 1 => {
                let index = rng.below(choice.of as u64) as i64;
                let at = listpack.at_index(index).expect("an index below the length");
                popped(listpack.get(at));
                listpack.remove(at);
            }
            Set::Listpack(listpack) => {
                let mut kept = Listpack::new();
                for member in listpack.iter() {
                    match (choice.next(rng), member) {
                        (true, _) => popped(member),
                        (false, Element::Int(n)) => kept.push_integer(n),
                        (false, Element::Text(text)) => kept.push(text),
                    }
                }
                *listpack = kept;
            }
            Set::Table(dict) => {
                for _ in 0..count {
                    let Some(entry) = dict.random(|| rng.next_u64()) else { return };
                    let hash = dict.hash(entry.key());
                    let key = entry.key().to_vec();
                    popped(Element::Text(&key));
                    dict.remove(hash, &key);
                }
            }
        }
    }

    /// Visits members from a cursor on, and returns the next one, 0 at the end: a table `count` at a time, all others
    /// at once.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'a>)) -> u64 {
        let Set::Table(dict) = self else {
            self.members().for_each(visit);
            return 0;
        };
        dict.scan(cursor, count, |entry| visit(Element::Text(entry.key())))
    }

    /// What the set takes of the allocator, but for its own struct; the members of a table by the average of `samples`
    /// of them, or exactly if that is 0.
    pub fn usable_bytes(&self, samples: usize) -> usize {
        match self {
            Set::Intset(intset) => intset.usable_bytes(),
            Set::Listpack(listpack) => listpack.usable_bytes(),
            Set::Table(dict) => {
                let looked_at = if samples == 0 { dict.len() } else { samples.min(dict.len()) };
                let members: usize = dict.iter().take(looked_at).map(|entry| entry.usable_bytes(0)).sum();
                let members = (members * dict.len()).checked_div(looked_at).unwrap_or(0);
                allocation_size(size_of::<Dict>()) + dict.usable_bytes() + members
            }
        }
    }

    pub fn free_effort(&self) -> usize {
        if let Set::Table(dict) = self { dict.len() } else { 1 }
    }

    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        match self {
            Set::Table(dict) => dict.clear_slice(elements_max),
            Set::Intset(_) | Set::Listpack(_) => {
                *self = Set::empty();
                true
            }
        }
    }

    fn new_table(env: &Env<'_>) -> Set {
        Set::Table(Box::new(Dict::new(env.seeds, env.now_ms)))
    }

    fn make_table(&mut self, env: &Env<'_>) {
        let mut dict = Dict::new(env.seeds, env.now_ms);
        for member in self.members() {
            insert(&mut dict, member.text(&mut Digits::new()));
        }
        *self = Set::Table(Box::new(dict));
    }

    /// Before a text of this length comes to integers.
    fn make_room_for_text(&mut self, len: usize, env: &Env<'_>) {
        let Set::Intset(intset) = self else { return };
        let digits = |n: Option<i64>| n.map_or(0, |n| Element::Int(n).len());
        let longest = digits(intset.first()).max(digits(intset.last()));
        let bytes = intset.len().saturating_mul(longest);
        if listpack_takes(intset.len(), bytes, len, env) && longest as u64 <= env.config.set_max_listpack_value {
            let mut listpack = Listpack::new();
            intset.iter().for_each(|n| listpack.push_integer(n));
            *self = Set::Listpack(listpack);
        } else {
            self.make_table(env);
        }
    }

    fn make_intset(&mut self) -> Option<()> {
        let integers: Option<Vec<i64>> = self.members().map(integer).collect();
        let mut integers = integers?;
        integers.sort_unstable();
        *self = Set::Intset(integers.into_iter().collect());
        Some(())
    }

    /// Members one by one, as every version of Redis writes a table.
    fn load_members(reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Set> {
        let count = reader.count(1)?;
        let small_max = env.config.set_max_intset_entries.max(env.config.set_max_listpack_entries);
        let mut set = if count as u64 > small_max { Set::new_table(env) } else { Set::empty() };
        for _ in 0..count {
            if !set.add(Element::Text(&reader.string()?), env) {
                return None;
            }
        }
        Some(set)
    }

    fn load_listpack(block: Vec<u8>, env: &mut Env<'_>) -> Option<Set> {
        let listpack = Listpack::from_bytes(block)?;
        let count = listpack.len();
        // Lookups take a text that is an integer's for that integer.
        let is_canonical = listpack.iter().all(|element| match element {
            Element::Int(_) => true,
            Element::Text(text) => matches!(Element::of(text), Element::Text(_)),
        });
        if !is_canonical || count as u64 > env.config.set_max_listpack_entries {
            let mut dict = Dict::new(env.seeds, env.now_ms);
            let distinct = listpack.iter().all(|element| insert(&mut dict, element.text(&mut Digits::new())));
            return distinct.then(|| Set::Table(Box::new(dict)));
        }
        // No more than a configured number, so that looking for each among the rest is no attack.
        let distinct = listpack.walk(listpack.first()).all(|(at, element)| {
            let text = element.text(&mut Digits::new()).to_vec();
            listpack.find(listpack.next(at), &text, 1).is_none()
        });
        distinct.then_some(Set::Listpack(listpack))
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.members().map(|member| member.to_vec().escape_ascii().to_string())).finish()
    }
}

/// The integer that a member is, however it is stored.
fn integer(member: Element<'_>) -> Option<i64> {
    match member {
        Element::Int(n) => Some(n),
        Element::Text(text) => match Element::of(text) {
            Element::Int(n) => Some(n),
            Element::Text(_) => None,
        },
    }
}

/// Whether a listpack of `count` members in `bytes` takes a text more.
fn listpack_takes(count: usize, bytes: usize, len: usize, env: &Env<'_>) -> bool {
    (count as u64) < env.config.set_max_listpack_entries
        && len as u64 <= env.config.set_max_listpack_value
        && bytes.saturating_add(len) <= LISTPACK_BYTES_MAX
}

fn insert(dict: &mut Dict, member: &[u8]) -> bool {
    match dict.lookup(dict.hash(member), member) {
        Lookup::Occupied(_) => false,
        Lookup::Vacant(vacant) => {
            // The empty value costs a byte, which the size class usually has.
            vacant.insert(Entry::new(member, Value::Text(b""), None, 0));
            true
        }
    }
}

/// Chooses `count` of `of` things that come one by one, each choice equally likely (Knuth, volume 2, algorithm S).
struct Choice {
    count: usize,
    of: usize,
}

impl Choice {
    fn next(&mut self, rng: &mut Rng) -> bool {
        let chosen = rng.below(self.of as u64) < self.count as u64;
        self.count -= usize::from(chosen);
        self.of -= 1;
        chosen
    }
}

/// The members of a set. It allocates once at most, for a table.
pub struct Members<'a>(Source<'a>);

enum Source<'a> {
    Intset(intset::Iter<'a>),
    Listpack(listpack::Iter<'a>),
    Table(TableMembers<'a>),
}

/// A scan in small steps: it asks for entries ahead of their turn.
struct TableMembers<'a> {
    dict: &'a Dict,
    /// `None` at the end.
    cursor: Option<u64>,
    batch: Vec<EntryRef<'a>>,
    taken: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match &mut self.0 {
            Source::Intset(iter) => iter.next().map(Element::Int),
            Source::Listpack(iter) => iter.next(),
            Source::Table(table) => table.next().map(|entry| Element::Text(entry.key())),
        }
    }
}

impl<'a> TableMembers<'a> {
    #[inline]
    fn next(&mut self) -> Option<EntryRef<'a>> {
        if self.taken == self.batch.len() {
            self.fill();
        }
        let entry = self.batch.get(self.taken).copied();
        self.taken += 1;
        entry
    }

    fn fill(&mut self) {
        self.batch.clear();
        self.taken = 0;
        while let Some(cursor) = self.cursor.filter(|_| self.batch.is_empty()) {
            let next = self.dict.scan(cursor, BATCH, |entry| self.batch.push(entry));
            self.cursor = Some(next).filter(|&next| next != 0);
        }
    }
}
