//! Zset: to be filled.

use super::collection::{Collection, CollectionType, Env};
use super::entry::Kind;
use super::listpack::Listpack;
use crate::codec::rdb::Reader;

#[derive(Clone, Debug, Default)]
pub struct Zset {
    listpack: Listpack,
}

impl CollectionType for Zset {
    fn of(collection: &Collection) -> Option<&Zset> {
        if let Collection::Zset(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut Zset> {
        if let Collection::Zset(value) = collection { Some(value) } else { None }
    }

    fn empty() -> Zset {
        Zset::default()
    }

    fn is_empty(&self) -> bool {
        self.listpack.is_empty()
    }

    fn rdb_type(&self) -> u8 {
        0
    }

    fn save(&self, _out: &mut Vec<u8>) {}

    fn load(_rdb_type: u8, _reader: &mut Reader<'_>, _env: &mut Env<'_>) -> Option<Zset> {
        None
    }
}

impl Zset {
    pub fn kind(&self) -> Kind {
        Kind::ZsetListpack
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
