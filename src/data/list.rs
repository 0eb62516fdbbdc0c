//! List: to be filled.

use super::collection::{Collection, CollectionType, Env};
use super::entry::Kind;
use super::listpack::Listpack;
use crate::codec::rdb::Reader;

#[derive(Clone, Debug, Default)]
pub struct List {
    listpack: Listpack,
}

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
        self.listpack.is_empty()
    }

    fn rdb_type(&self) -> u8 {
        0
    }

    fn save(&self, _out: &mut Vec<u8>) {}

    fn load(_rdb_type: u8, _reader: &mut Reader<'_>, _env: &mut Env<'_>) -> Option<List> {
        None
    }
}

impl List {
    pub fn kind(&self) -> Kind {
        Kind::ListListpack
    }

    pub fn usable_bytes(&self, _samples: usize) -> usize {
        self.listpack.usable_bytes()
    }

    pub fn free_effort(&self) -> usize {
        1
    }

    pub fn free_slice(&mut self, _elements_max: usize) -> bool {
        self.listpack = Listpack::new();
        true
    }
}
