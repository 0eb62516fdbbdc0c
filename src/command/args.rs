//! The arguments of one command: byte strings, the command's own name first.

use bytes::Bytes;

use super::error::Error;
use crate::base::number;

/// Arguments as received. Copying is copying two slices.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    words: &'a [&'a [u8]],
    /// Large arguments in allocations of their own, by index (`resp::parse::Partial`).
    shared: &'a [(usize, Bytes)],
}

impl<'a> Args<'a> {
    pub fn new(words: &'a [&'a [u8]]) -> Args<'a> {
        Args { words, shared: &[] }
    }

    pub fn with_shared(words: &'a [&'a [u8]], shared: &'a [(usize, Bytes)]) -> Args<'a> {
        Args { words, shared }
    }

    #[allow(clippy::len_without_is_empty)] // A command has a name.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The argument at `index`; 0 is the command's name. Panics beyond the end: arity is checked before.
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.words[index]
    }

    pub fn words(&self) -> &'a [&'a [u8]] {
        self.words
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> &'a [&'a [u8]] {
        &self.words[index.min(self.words.len())..]
    }

    /// Is the argument this word, in any case?
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.words[index].eq_ignore_ascii_case(word.as_bytes())
    }

    /// The argument as an integer, or "value is not an integer or out of range".
    pub fn integer(&self, index: usize) -> Result<i64, Error> {
        number::parse_i64(self.words[index]).ok_or(Error::NotAnInteger)
    }

    /// The argument's allocation, if it has one of its own.
    pub fn shared(&self, index: usize) -> Option<&'a Bytes> {
        self.shared.iter().find(|(at, _)| *at == index).map(|(_, bytes)| bytes)
    }

    /// All allocations of single arguments: index and bytes.
    pub fn all_shared(&self) -> &'a [(usize, Bytes)] {
        self.shared
    }
}
