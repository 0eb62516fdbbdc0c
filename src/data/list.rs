//! A list: one listpack while it is small, then a quicklist.
//!
//! It grows into a quicklist before what is about to be added would exceed `list-max-listpack-size`, and shrinks back
//! when all that is left is one node of half that size: the gap keeps a list at the border from going to and fro. Both
//! happen exactly where Redis 7.2 does it, even for an LINSERT that then finds no place, as OBJECT ENCODING shows them.

use super::collection::{Collection, CollectionType, Env};
use super::entry::Kind;
use super::listpack::{Element, Listpack};
use super::quicklist::{self, Fill, Quicklist, Saved};
use super::ziplist;
use crate::codec::rdb::{self, Form, Output, Reader, rdb_type};

pub use super::quicklist::End;

#[derive(Clone, Debug)]
pub enum List {
    Packed(Listpack),
    Quick(Box<Quicklist>),
}

impl Default for List {
    fn default() -> List {
        List::Packed(Listpack::new())
    }
}

/// How a node of a saved list is laid out.
const SAVED_PLAIN: u64 = 1;
const SAVED_PACKED: u64 = 2;

impl CollectionType for List {
    fn of(collection: &Collection) -> Option<&List> {
        if let Collection::List(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut List> {
        if let Collection::List(value) = collection { Some(value) } else { None }
    }

    fn empty() -> List {
        List::default()
    }

    fn is_empty(&self) -> bool {
        match self {
            List::Packed(listpack) => listpack.is_empty(),
            List::Quick(quicklist) => quicklist.len() == 0,
        }
    }

    fn rdb_type(&self, _form: Form) -> u8 {
        rdb_type::LIST_QUICKLIST_2
    }

    fn save(&self, out: &mut Output) {
        match self {
            List::Packed(listpack) => {
                rdb::write_len(1, out);
                rdb::write_len(SAVED_PACKED, out);
                rdb::write_string(listpack.bytes(), out);
            }
            List::Quick(quicklist) => {
                rdb::write_len(quicklist.nodes() as u64, out);
                for node in quicklist.saved() {
                    rdb::write_len(if node.is_plain() { SAVED_PLAIN } else { SAVED_PACKED }, out);
                    match node {
                        Saved::Packed(listpack) => rdb::write_shared(listpack, out),
                        Saved::Plain(text) => rdb::write_shared(text, out),
                        Saved::PackedLzf(lzf, len) | Saved::PlainLzf(lzf, len) => rdb::write_shared_lzf(lzf, len, out),
                    }
                }
            }
        }
    }

    fn load(rdb_type: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<List> {
        let mut quicklist = new_quicklist(env);
        match rdb_type {
            rdb_type::LIST => {
                for _ in 0..reader.count(1)? {
                    quicklist.push(End::Tail, &reader.string()?, env.packed_threshold);
                }
            }
            rdb_type::LIST_ZIPLIST => quicklist.push_listpack(unzipped(&reader.string()?)?),
            rdb_type::LIST_QUICKLIST => {
                for _ in 0..reader.count(1)? {
                    quicklist.push_listpack(unzipped(&reader.string()?)?);
                }
            }
            _ => {
                for _ in 0..reader.count(2)? {
                    match reader.plain_len()? {
                        // An element with a node of its own is a large one.
                        SAVED_PLAIN => quicklist.push_plain(&Some(reader.string()?).filter(|text| !text.is_empty())?),
                        SAVED_PACKED => quicklist.push_listpack(Listpack::from_bytes(reader.string()?.into_owned())?),
                        _ => return None,
                    }
                }
            }
        }
        let mut list = List::Quick(quicklist);
        list.convert_back(env, 1);
        Some(list)
    }
}

fn new_quicklist(env: &Env<'_>) -> Box<Quicklist> {
    Box::new(Quicklist::new(env.config.list_max_listpack_size, env.config.list_compress_depth))
}

fn unzipped(block: &[u8]) -> Option<Listpack> {
    let mut listpack = Listpack::new();
    let mut digits = super::listpack::Digits::new();
    for element in ziplist::elements(block)? {
        listpack.push(element.text(&mut digits));
    }
    listpack.shrink_to_fit();
    Some(listpack)
}

impl List {
    pub fn kind(&self) -> Kind {
        match self {
            List::Packed(_) => Kind::ListListpack,
            List::Quick(_) => Kind::ListQuicklist,
        }
    }

    pub fn usable_bytes(&self, samples: usize) -> usize {
        match self {
            List::Packed(listpack) => listpack.usable_bytes(),
            List::Quick(quicklist) => quicklist.usable_bytes(samples),
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            List::Packed(_) => 1,
            List::Quick(quicklist) => quicklist.nodes(),
        }
    }

    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        match self {
            List::Packed(_) => true,
            List::Quick(quicklist) => quicklist.free_slice(elements_max),
        }
    }

    #[allow(clippy::len_without_is_empty)] // The trait has it.
    pub fn len(&self) -> usize {
        match self {
            List::Packed(listpack) => listpack.len(),
            List::Quick(quicklist) => quicklist.len(),
        }
    }

    /// Visits all elements at or behind the `skip`-th from an end, away from that end, until `visit` returns false.
    #[inline]
    pub fn walk(&self, end: End, skip: usize, mut visit: impl FnMut(Element<'_>) -> bool) {
        match self {
            List::Packed(listpack) => {
                quicklist::walk(listpack, end, skip, &mut visit);
            }
            List::Quick(quicklist) => quicklist.walk(end, skip, visit),
        }
    }

    /// Visits up to `count` elements, likewise.
    #[inline]
    pub fn walk_some(&self, end: End, skip: usize, count: usize, mut visit: impl FnMut(Element<'_>)) {
        let mut left = count;
        if left == 0 {
            return;
        }
        self.walk(end, skip, |element| {
            visit(element);
            left -= 1;
            left > 0
        });
    }

    /// Pushes one element after another to an end.
    pub fn push(&mut self, end: End, texts: &[&[u8]], env: &Env<'_>) {
        self.grow(texts.iter().map(|text| text.len()).sum(), texts.len(), env);
        match self {
            List::Packed(listpack) => texts.iter().for_each(|text| quicklist::push(listpack, end, text)),
            List::Quick(quicklist) => texts.iter().for_each(|text| quicklist.push(end, text, env.packed_threshold)),
        }
    }

    /// Pushes an element that was popped from a list: as Redis moves it, a number counts for nothing when it decides
    /// whether the list has to become a quicklist.
    pub fn push_moved(&mut self, end: End, text: &[u8], env: &Env<'_>) {
        let bytes = if matches!(Element::of(text), Element::Int(_)) { 0 } else { text.len() };
        self.grow(bytes, 1, env);
        match self {
            List::Packed(listpack) => quicklist::push(listpack, end, text),
            List::Quick(quicklist) => quicklist.push(end, text, env.packed_threshold),
        }
    }

    /// Visits up to `count` elements from an end on, and removes them.
    pub fn pop(&mut self, end: End, count: usize, env: &Env<'_>, visit: impl FnMut(Element<'_>)) {
        self.walk_some(end, 0, count, visit);
        self.remove_from(end, count);
        self.shrink(env);
    }

    /// Moves an element from one end to an end, the other or the same, and visits it. The list is not empty.
    pub fn rotate(&mut self, from: End, to: End, env: &Env<'_>, visit: impl FnOnce(Element<'_>)) {
        let mut text = Vec::new();
        let mut visit = Some(visit);
        self.walk_some(from, 0, 1, |element| {
            text = element.to_vec();
            if let Some(visit) = visit.take() {
                visit(element);
            }
        });
        self.remove_from(from, 1);
        self.push_moved(to, &text, env);
        self.shrink(env);
    }

    /// Keeps `count` elements from the `skip`-th on; how many it removes.
    pub fn trim(&mut self, skip: usize, count: usize, env: &Env<'_>) -> usize {
        let len = self.len();
        let skip = skip.min(len);
        let kept = count.min(len - skip);
        self.remove_from(End::Head, skip);
        self.remove_from(End::Tail, len - skip - kept);
        self.shrink(env);
        len - kept
    }

    fn remove_from(&mut self, end: End, count: usize) {
        match self {
            List::Packed(listpack) => quicklist::remove_from(listpack, end, count),
            List::Quick(quicklist) => quicklist.remove_from(end, count),
        }
    }

    /// The index that a client means, from the end if it is negative; `None` beyond the list.
    pub fn index(&self, index: i64) -> Option<usize> {
        let len = self.len();
        let index = if index < 0 { index.checked_add(len as i64)? } else { index };
        usize::try_from(index).ok().filter(|&index| index < len)
    }

    /// Replaces the element at an index, from the end if it is negative; whether there is one.
    pub fn set(&mut self, index: i64, text: &[u8], env: &Env<'_>) -> bool {
        self.grow(text.len(), 1, env);
        let Some(index) = self.index(index) else { return false };
        match self {
            List::Packed(listpack) => {
                let at = listpack.at_index(index as i64).expect("the index is below the length");
                listpack.replace(at, text);
            }
            List::Quick(quicklist) => quicklist.set(index, text, env.packed_threshold),
        }
        self.shrink(env);
        true
    }

    /// Inserts before or behind the first element equal to `pivot`; whether there is one.
    pub fn insert(&mut self, pivot: &[u8], after: bool, text: &[u8], env: &Env<'_>) -> bool {
        self.grow(text.len(), 1, env);
        match self {
            List::Packed(listpack) => {
                let Some(at) = listpack.find(listpack.first(), pivot, 1) else { return false };
                if after {
                    listpack.insert_after(at, text);
                } else {
                    listpack.insert_before(at, text);
                }
            }
            List::Quick(quicklist) => {
                let as_element = Element::of(pivot);
                let (mut index, mut is_found) = (0, false);
                quicklist.walk(End::Head, 0, |element| {
                    is_found = quicklist::is_equal(element, pivot, as_element);
                    index += usize::from(!is_found);
                    !is_found
                });
                if !is_found {
                    return false;
                }
                quicklist.insert(index, after, text, env.packed_threshold);
            }
        }
        true
    }

    /// Removes up to `count_max` elements equal to `text`, beginning at an end; how many.
    pub fn remove_equal(&mut self, end: End, text: &[u8], count_max: usize, env: &Env<'_>) -> usize {
        let removed = match self {
            List::Packed(listpack) => quicklist::remove_equal(listpack, end, text, count_max),
            List::Quick(quicklist) => quicklist.remove_equal(end, text, count_max),
        };
        if removed > 0 {
            self.shrink(env);
        }
        removed
    }

    /// Becomes a quicklist if so many more bytes and elements would exceed a node.
    fn grow(&mut self, bytes: usize, elements: usize, env: &Env<'_>) {
        let List::Packed(listpack) = self else { return };
        let fill = Fill(env.config.list_max_listpack_size);
        if fill.is_exceeded(listpack.bytes().len() + bytes, listpack.len() + elements) {
            let mut quicklist = new_quicklist(env);
            quicklist.push_listpack(std::mem::take(listpack));
            *self = List::Quick(quicklist);
        }
    }

    /// Becomes a listpack again if all is in one node of half the size that a node may have.
    fn shrink(&mut self, env: &Env<'_>) {
        self.convert_back(env, 2);
    }

    fn convert_back(&mut self, env: &Env<'_>, divisor: usize) {
        let List::Quick(quicklist) = self else { return };
        let (bytes_max, elements_max) = Fill(env.config.list_max_listpack_size).limits();
        if let Some(listpack) = quicklist.take_only(bytes_max / divisor, elements_max / divisor) {
            *self = List::Packed(listpack);
        }
    }

    /// The listpack of a small list, for DEBUG LISTPACK.
    pub fn listpack(&self) -> Option<&Listpack> {
        if let List::Packed(listpack) = self { Some(listpack) } else { None }
    }

    /// The nodes of a large list, for DEBUG OBJECT.
    pub fn quicklist(&self) -> Option<&Quicklist> {
        if let List::Quick(quicklist) = self { Some(quicklist) } else { None }
    }
}

#[cfg(test)]
mod tests;
