//! The arguments of one command: byte strings, the command's own name first.

use bytes::Bytes;

use super::error::{Error, Result};
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
    pub fn integer(&self, index: usize) -> Result<i64> {
        number::parse_i64(self.words[index]).ok_or(Error::NotAnInteger)
    }

    /// The argument as a count whose sign says something else, or Redis's words for what is none.
    pub fn signed_count(&self, index: usize) -> Result<i64> {
        signed_count(self.words[index])
    }

    /// The argument as how many elements to take, or "value is out of range, must be positive".
    pub fn elements(&self, index: usize) -> Result<usize> {
        number_of(self.words[index], 0, "ERR value is out of range, must be positive")
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

/// See [`Args::signed_count`].
pub fn signed_count(word: &[u8]) -> Result<i64> {
    const OUT_OF_RANGE: Error =
        Error::Text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");
    match number::parse_i64(word).ok_or(Error::NotAnInteger)? {
        // Nothing is its opposite.
        i64::MIN => Err(OUT_OF_RANGE),
        count => Ok(count),
    }
}

/// A word as a number of things, at least `min` of them, or this error: Redis has a text for each kind of thing.
pub fn number_of(word: &[u8], min: usize, error: &'static str) -> Result<usize> {
    let number = number::parse_i64(word).and_then(|number| usize::try_from(number).ok());
    number.filter(|&number| number >= min).ok_or(Error::Text(error))
}
