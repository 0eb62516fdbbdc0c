//! A node of the log: up to a hundred or so entries in one listpack, whose first elements are the *master*.
//!
//! ```text
//! master  live entries | deleted entries | number of fields | field ... | 0
//! entry   flags | ms | seq | value ...                                | elements before this one   (SAME_FIELDS)
//! entry   flags | ms | seq | number of fields | field | value | ...   | elements before this one
//! ```
//!
//! This is Redis's layout, kept so that RDB files and DUMP payloads hold the block as it is. The master's fields are those
//! of the first entry; an entry that has the same ones does not repeat them. IDs are distances from the node's key, the
//! ID of its first entry. A deleted entry stays where it is, flagged, until the node goes. What closes each entry allows
//! walking back; the master's 0 ends that walk.
//!
//! Whatever comes in from outside passes `from_listpack`, which checks all that is relied on here.

use std::sync::Arc;

use smallvec::SmallVec;

use super::id::StreamId;
use crate::data::listpack::{At, Element, Listpack};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Flags, ms, seq.
const ENTRY_HEAD: usize = 3;

#[derive(Clone, Debug)]
pub struct Node {
    /// A file that is being written may share it; then it is copied before it changes.
    listpack: Arc<Listpack>,
}

/// Where the parts of a master are.
struct Master {
    fields: usize,
    /// The terminator, if there are none.
    first_field: At,
    first_entry: Option<At>,
}

/// An entry, where it is stored.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    node: &'a Node,
    pub id: StreamId,
    at: At,
    flags: i64,
    /// The number of fields, and of elements from `body` on before the closing one.
    fields: usize,
    elements: usize,
    body: At,
}

/// Pairs of field and value, see [`Entry::pairs`].
pub struct Pairs<'a> {
    listpack: &'a Listpack,
    /// Where the next field is, if that is in the master.
    field: Option<At>,
    next: At,
    left: usize,
}

impl<'a> Entry<'a> {
    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// The number of fields.
    pub fn fields(&self) -> usize {
        self.fields
    }

    pub fn pairs(&self) -> Pairs<'a> {
        let same = self.flags & SAME_FIELDS != 0;
        let field = same.then(|| self.node.master().first_field);
        Pairs { listpack: &self.node.listpack, field, next: self.body, left: self.fields }
    }

    /// Where it is, for [`Node::delete`].
    pub fn place(&self) -> At {
        self.at
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, Element<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field_at = match &mut self.field {
            Some(at) => step(self.listpack, at),
            None => step(self.listpack, &mut self.next),
        };
        let value_at = step(self.listpack, &mut self.next);
        Some((self.listpack.get(field_at), self.listpack.get(value_at)))
    }
}

/// Moves on, to an element that is there: where it was.
fn step(listpack: &Listpack, at: &mut At) -> At {
    let here = *at;
    *at = listpack.next(here).expect("an entry is closed");
    here
}

impl Node {
    /// A node of one entry, whose ID is its key. `words`: field, value, ...
    pub fn new(words: &[&[u8]]) -> Node {
        let mut listpack = Listpack::new();
        [1, 0, (words.len() / 2) as i64].into_iter().for_each(|n| listpack.push_integer(n));
        words.iter().step_by(2).for_each(|field| listpack.push(field));
        listpack.push_integer(0);
        let mut node = Node { listpack: Arc::new(listpack) };
        node.push_entry(StreamId::ZERO, words, true);
        node
    }

    pub fn append(&mut self, key: StreamId, id: StreamId, words: &[&[u8]]) {
        let master = self.master();
        let same = master.fields == words.len() / 2 && {
            let fields = self.listpack.walk(Some(master.first_field)).map(|(_, field)| field);
            words.iter().step_by(2).zip(fields).all(|(word, field)| Element::of(word) == field)
        };
        self.set_count(0, self.live() + 1);
        let distance = StreamId::new(id.ms.wrapping_sub(key.ms), id.seq.wrapping_sub(key.seq));
        self.push_entry(distance, words, same);
    }

    fn push_entry(&mut self, distance: StreamId, words: &[&[u8]], same_fields: bool) {
        let flags = if same_fields { SAME_FIELDS } else { 0 };
        let mut elements: SmallVec<[Element<'_>; 16]> =
            [flags, distance.ms as i64, distance.seq as i64].into_iter().map(Element::Int).collect();
        if same_fields {
            elements.extend(words.iter().skip(1).step_by(2).map(|value| Element::of(value)));
        } else {
            elements.push(Element::Int((words.len() / 2) as i64));
            elements.extend(words.iter().map(|word| Element::of(word)));
        }
        elements.push(Element::Int(elements.len() as i64));
        Arc::make_mut(&mut self.listpack).push_all(&elements);
    }

    /// Entries that are not deleted.
    pub fn live(&self) -> u64 {
        self.count(0)
    }

    pub fn deleted(&self) -> u64 {
        self.count(1)
    }

    fn count(&self, index: i64) -> u64 {
        self.integer(self.listpack.at_index(index).expect("a node has a master")) as u64
    }

    fn set_count(&mut self, index: i64, count: u64) {
        let at = self.listpack.at_index(index).expect("a node has a master");
        Arc::make_mut(&mut self.listpack).replace_integer(at, count as i64);
    }

    pub fn listpack(&self) -> &Arc<Listpack> {
        &self.listpack
    }

    pub fn usable_bytes(&self) -> usize {
        Listpack::SHARED_USABLE_BYTES + self.listpack.usable_bytes()
    }

    /// Flags an entry as deleted; other places stay valid. The counts are `count_deleted`'s.
    pub fn delete(&mut self, place: At) {
        let flags = self.integer(place) | DELETED;
        Arc::make_mut(&mut self.listpack).replace_integer(place, flags);
    }

    /// So many entries have been deleted. Places are not valid any more.
    pub fn count_deleted(&mut self, count: u64) {
        self.set_count(0, self.live() - count);
        self.set_count(1, self.deleted() + count);
    }

    /// All entries, deleted ones too.
    pub fn entries(&self, key: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let master = self.master();
        let mut next = master.first_entry;
        std::iter::from_fn(move || {
            let entry = self.entry(&master, key, next?);
            let mut at = entry.body;
            for _ in 0..entry.elements {
                step(&self.listpack, &mut at);
            }
            next = self.listpack.next(at);
            Some(entry)
        })
    }

    /// The same from the last one back.
    pub fn entries_back(&self, key: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let master = self.master();
        let mut closing = self.listpack.last();
        std::iter::from_fn(move || {
            let mut at = closing?;
            let elements = self.integer(at);
            if elements == 0 {
                return None;
            }
            for _ in 0..elements {
                at = self.listpack.previous(at).expect("the master is before all entries");
            }
            closing = self.listpack.previous(at);
            Some(self.entry(&master, key, at))
        })
    }

    /// The ID of the last entry, deleted or not.
    pub fn last_id(&self, key: StreamId) -> StreamId {
        self.entries_back(key).next().map_or(key, |entry| entry.id)
    }

    fn master(&self) -> Master {
        let listpack = &self.listpack;
        let mut at = listpack.at_index(2).expect("a node has a master");
        let fields = self.integer(step(listpack, &mut at)) as usize;
        let first_field = at;
        for _ in 0..fields {
            step(listpack, &mut at);
        }
        Master { fields, first_field, first_entry: listpack.next(at) }
    }

    fn entry(&self, master: &Master, key: StreamId, place: At) -> Entry<'_> {
        let mut at = place;
        let mut integer = || self.integer(step(&self.listpack, &mut at));
        let (flags, ms, seq) = (integer(), integer() as u64, integer() as u64);
        let id = StreamId::new(key.ms.wrapping_add(ms), key.seq.wrapping_add(seq));
        let (fields, elements) = if flags & SAME_FIELDS != 0 {
            (master.fields, master.fields)
        } else {
            let fields = integer() as usize;
            (fields, 2 * fields)
        };
        Entry { node: self, id, at: place, flags, fields, elements, body: at }
    }

    fn integer(&self, at: At) -> i64 {
        match self.listpack.get(at) {
            Element::Int(n) => n,
            Element::Text(_) => unreachable!("checked when the node came in"),
        }
    }

    /// Takes a listpack from outside; `None` unless it is laid out as a node, with IDs that ascend from the key's on.
    pub fn from_listpack(listpack: Listpack, key: StreamId) -> Option<Node> {
        let mut elements = listpack.iter();
        let mut integer = || match elements.next()? {
            Element::Int(n) => Some(n),
            Element::Text(_) => None,
        };
        let (live, deleted) = (u64::try_from(integer()?).ok()?, u64::try_from(integer()?).ok()?);
        let master_fields = usize::try_from(integer()?).ok()?;
        skip(&mut elements, master_fields)?;
        if elements.next()? != Element::Int(0) {
            return None;
        }
        let (mut found_live, mut found_deleted, mut last) = (0, 0, None);
        while let Some(flags) = elements.next() {
            let Element::Int(flags @ 0..=3) = flags else { return None };
            let mut integer = || match elements.next()? {
                Element::Int(n) => Some(n),
                Element::Text(_) => None,
            };
            let (ms, seq) = (integer()? as u64, integer()? as u64);
            let id = StreamId::new(key.ms.wrapping_add(ms), key.seq.wrapping_add(seq));
            if id < key || last.is_some_and(|last| id <= last) {
                return None;
            }
            last = Some(id);
            let (body, head) = if flags & SAME_FIELDS != 0 {
                (master_fields, ENTRY_HEAD)
            } else {
                (usize::try_from(integer()?).ok()?.checked_mul(2)?, ENTRY_HEAD + 1)
            };
            skip(&mut elements, body)?;
            if elements.next()? != Element::Int((head + body) as i64) {
                return None;
            }
            if flags & DELETED != 0 { found_deleted += 1 } else { found_live += 1 }
        }
        let counted = (live, deleted) == (found_live, found_deleted) && last.is_some();
        counted.then(|| Node { listpack: Arc::new(listpack) })
    }
}

fn skip<'a>(elements: &mut impl Iterator<Item = Element<'a>>, count: usize) -> Option<()> {
    count.checked_sub(1).map_or(Some(()), |last| elements.nth(last).map(|_| ()))
}
