//! Stream: to be filled.

use super::collection::{Collection, CollectionType, Env};
use super::entry::Kind;
use super::listpack::Listpack;
use crate::codec::rdb::Reader;

#[derive(Clone, Debug, Default)]
pub struct Stream {
    listpack: Listpack,
}

impl CollectionType for Stream {
    const LIVES_EMPTY: bool = true;
    fn of(collection: &Collection) -> Option<&Stream> {
        if let Collection::Stream(value) = collection { Some(value) } else { None }
    }

    fn of_mut(collection: &mut Collection) -> Option<&mut Stream> {
        if let Collection::Stream(value) = collection { Some(value) } else { None }
    }

    fn empty() -> Stream {
        Stream::default()
    }

    fn is_empty(&self) -> bool {
        self.listpack.is_empty()
    }

    fn rdb_type(&self) -> u8 {
        0
    }

    fn save(&self, _out: &mut Vec<u8>) {}

    fn load(_rdb_type: u8, _reader: &mut Reader<'_>, _env: &mut Env<'_>) -> Option<Stream> {
        None
    }
}

impl Stream {
    pub fn kind(&self) -> Kind {
        Kind::Stream
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
