//! A value made of elements: what the keyspace has to know of the collection types, and nothing of what is in them.
//!
//! Each type chooses its own representation (a listpack while it is small, then a table or a tree) and changes it where
//! Redis does. A value of any type takes as much room as its smallest representation: what is large is behind a box.

use super::dict::Dict;
use super::entry::{EntryRef, Kind};
use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::stream::Stream;
use super::zset::Zset;
use crate::base::rng::Rng;
use crate::codec::rdb::{Form, Output, Reader};
use crate::config::Config;

#[derive(Clone, Debug)]
pub enum Collection {
    List(List),
    Set(Set),
    Hash(Hash),
    Zset(Zset),
    Stream(Stream),
}

const _: () = assert!(size_of::<Collection>() <= 40, "small collections pay for the largest type");

impl Default for Collection {
    /// Nothing, in the place of a collection that was taken out.
    fn default() -> Collection {
        Collection::List(List::default())
    }
}

/// What a collection may look at while it is changed.
pub struct Env<'a> {
    /// Thresholds of the encodings.
    pub config: &'a Config,
    /// Of the hash of its elements.
    pub seeds: [u64; 4],
    pub now_ms: i64,
    pub rng: &'a mut Rng,
    /// From this length on an element of a list has a node of its own; 0: as `list-max-listpack-size` says.
    pub packed_threshold: usize,
}

/// Appends an element of a collection's table, as it stands in an RDB file.
pub type SaveElement = Box<dyn Fn(EntryRef<'_>, &mut Output) + Send>;

/// One type of collection.
pub trait CollectionType: Sized + Into<Collection> {
    /// Redis removes a key whose collection has become empty, but for streams.
    const LIVES_EMPTY: bool = false;

    fn of(collection: &Collection) -> Option<&Self>;
    fn of_mut(collection: &mut Collection) -> Option<&mut Self>;
    /// An empty one, as the first write makes it.
    fn empty() -> Self;
    fn is_empty(&self) -> bool;

    /// The type byte of what `save` writes in this form.
    fn rdb_type(&self, form: Form) -> u8;
    /// Appends the value as an RDB file holds it, without its type byte.
    fn save(&self, out: &mut Output);
    /// Reads what follows a type byte of this type's; `None` if it is malformed, whatever it is: nothing that comes in
    /// this way may panic later.
    fn load(rdb_type: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Self>;
}

macro_rules! collection_types {
    ($($name:ident),*) => {
        $(impl From<$name> for Collection {
            fn from(value: $name) -> Collection {
                Collection::$name(value)
            }
        })*

        impl Collection {
            pub fn kind(&self) -> Kind {
                match self { $(Collection::$name(value) => value.kind(),)* }
            }

            /// What it takes of the allocator, but for its own struct; the elements of a large one by the average of
            /// `samples` of them, or exactly if that is 0.
            pub fn usable_bytes(&self, samples: usize) -> usize {
                match self { $(Collection::$name(value) => value.usable_bytes(samples),)* }
            }

            /// The type byte of what `save` writes in this form.
            pub fn rdb_type(&self, form: Form) -> u8 {
                match self { $(Collection::$name(value) => value.rdb_type(form),)* }
            }

            /// Appends the value as an RDB file holds it, without its type byte.
            pub fn save(&self, out: &mut Output) {
                match self { $(Collection::$name(value) => value.save(out),)* }
            }

            /// How many allocations its end frees, roughly.
            pub fn free_effort(&self) -> usize {
                match self { $(Collection::$name(value) => value.free_effort(),)* }
            }

            /// Frees up to `elements_max` elements; true when none is left. Nothing else is to be done with it then.
            pub fn free_slice(&mut self, elements_max: usize) -> bool {
                match self { $(Collection::$name(value) => value.free_slice(elements_max),)* }
            }
        }
    };
}

collection_types!(List, Set, Hash, Zset, Stream);

impl Collection {
    /// The table that holds its elements, if one does.
    pub fn table(&self) -> Option<&Dict> {
        match self {
            Collection::Set(Set::Table(table)) => Some(table),
            Collection::Hash(hash) => hash.table(),
            Collection::Zset(zset) => zset.table(),
            Collection::Set(_) | Collection::List(_) | Collection::Stream(_) => None,
        }
    }

    /// The same, for a snapshot of it: nothing else may change it in this way.
    pub fn table_mut(&mut self) -> Option<&mut Dict> {
        match self {
            Collection::Set(Set::Table(table)) => Some(table),
            Collection::Hash(hash) => hash.table_mut(),
            Collection::Zset(zset) => zset.table_mut(),
            Collection::Set(_) | Collection::List(_) | Collection::Stream(_) => None,
        }
    }

    /// Appends what `save` does of a collection with a table, up to its elements; how these are to follow, in any order.
    pub fn save_head(&self, out: &mut Output) -> SaveElement {
        match self {
            Collection::Hash(hash) => hash.save_head(out),
            Collection::Zset(zset) => zset.save_head(out),
            Collection::Set(set) => set.save_head(out),
            Collection::List(_) | Collection::Stream(_) => unreachable!("they have no table"),
        }
    }
}
