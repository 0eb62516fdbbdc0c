//! Which arguments of a command are keys, and what the command does to them.
//!
//! A command declares key specs: where the search begins (a position, or behind a keyword) and how keys follow from there
//! (a range, or as many as a number says). Routing, locks, the cluster's slot check, ACL key patterns and COMMAND GETKEYS
//! all find keys through them (Redis documentation, "Command key specifications").
//!
//! It does not judge syntax: what looks wrong is an error without a text, and the command's own parser has the word.

use std::iter::StepBy;
use std::ops::Range;

use smallvec::SmallVec;

use super::spec::{Spec, bit_set};
use crate::base::ids::ShardId;
use crate::base::number::parse_u64;
use crate::keyspace::slots::SlotMap;

/// One way to find keys among a command's words.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: BeginSearch,
    pub find: FindKeys,
    pub flags: KeyFlags,
    /// Shown by COMMAND INFO.
    pub notes: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum BeginSearch {
    Index(u8),
    /// Behind `keyword`, looked for from word `start_from` on; a negative one counts from the end, and backwards.
    Keyword {
        keyword: &'static str,
        start_from: i8,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub enum FindKeys {
    /// Each `step`-th word up to `last`, counted from the first key or, if negative, from the end; a `limit` of 2 leaves
    /// the second half of the words out.
    Range {
        last: i8,
        step: u8,
        limit: u8,
    },
    /// The word `number` holds the count of keys, which begin at `first`; both counted from where the search began.
    Counted {
        number: u8,
        first: u8,
        step: u8,
    },
    Unknown,
}

bit_set! {
    /// What a command does to a key, and what the key spec is worth.
    KeyFlags {
        RO = "RO",
        RW = "RW",
        OW = "OW",
        RM = "RM",
        ACCESS = "access",
        UPDATE = "update",
        INSERT = "insert",
        DELETE = "delete",
        NOT_KEY = "not_key",
        INCOMPLETE = "incomplete",
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// The key at word `index`.
pub const fn key_at(index: u8, flags: KeyFlags) -> KeySpec {
    let find = FindKeys::Range { last: 0, step: 1, limit: 0 };
    KeySpec { begin: BeginSearch::Index(index), find, flags, notes: "" }
}

/// All words from `index` on.
pub const fn keys_from(index: u8, flags: KeyFlags) -> KeySpec {
    key_at(index, flags).through(-1)
}

/// A count at word `index`, and that many keys behind it.
pub const fn keys_counted_at(index: u8, flags: KeyFlags) -> KeySpec {
    KeySpec { find: FindKeys::Counted { number: 0, first: 1, step: 1 }, ..key_at(index, flags) }
}

/// The key behind `keyword`.
pub const fn key_after(keyword: &'static str, start_from: i8, flags: KeyFlags) -> KeySpec {
    KeySpec { begin: BeginSearch::Keyword { keyword, start_from }, ..key_at(0, flags) }
}

/// Keys that no key spec can describe.
pub const fn keys_unknown(flags: KeyFlags) -> KeySpec {
    KeySpec { begin: BeginSearch::Unknown, find: FindKeys::Unknown, flags, notes: "" }
}

impl KeySpec {
    /// Up to the word `last`: see [`FindKeys::Range`].
    pub const fn through(self, last: i8) -> KeySpec {
        KeySpec { find: FindKeys::Range { last, step: 1, limit: 0 }, ..self }
    }

    /// The first of two equal halves: keys before as many values.
    pub const fn first_half(self) -> KeySpec {
        KeySpec { find: FindKeys::Range { last: -1, step: 1, limit: 2 }, ..self }
    }

    /// Every second word: keys, each followed by its value.
    pub const fn every_second(self) -> KeySpec {
        KeySpec { find: FindKeys::Range { last: -1, step: 2, limit: 0 }, ..self }
    }

    pub const fn notes(self, notes: &'static str) -> KeySpec {
        KeySpec { notes, ..self }
    }
}

/// A key of a concrete command: the word at `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    pub index: u32,
    pub flags: KeyFlags,
}

/// Four keys fit without an allocation.
pub type KeyRefs = SmallVec<[KeyRef; 4]>;

/// The words do not fit the key specs, so the command will fail; its own parser says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysError;

/// Finds keys that key specs cannot, or their flags where these depend on the arguments.
pub type Extract = fn(&[&[u8]]) -> KeyRefs;

/// Tells whether a command reads keys that its data names and its words do not.
pub type Reaches = fn(&[&[u8]]) -> bool;

/// Tells whether a command with these words may wait for data.
pub type Waits = fn(&[&[u8]]) -> bool;

/// See [`Spec::waits`].
pub fn always(_words: &[&[u8]]) -> bool {
    true
}

/// The shard on which all keys of a command lie, if it is one; `of_none`: that of a command without any.
pub fn shard_of_keys(spec: &Spec, words: &[&[u8]], slots: &SlotMap, of_none: Option<ShardId>) -> Option<ShardId> {
    let keys = keys_of(spec, words);
    let mut shards = keys.iter().map(|key| slots.shard_of(words[key.index as usize]));
    let Some(first) = shards.next() else { return of_none };
    shards.all(|shard| shard == first).then_some(first)
}

/// The keys a command is going to touch: for routing, locks and access checks.
///
/// An extractor has precedence, as it reads options the way the command does: of two STOREs the last counts. A key spec
/// that finds nothing hinders no other: PFMERGE may have a destination and no sources.
pub fn keys_of(spec: &Spec, words: &[&[u8]]) -> KeyRefs {
    match spec.extract {
        Some(extract) => extract(words),
        None => spec.keys.iter().flat_map(|keys| keys_by_specs(&[*keys], words).unwrap_or_default()).collect(),
    }
}

/// The keys as COMMAND GETKEYS reports them: Redis prefers key specs here, where their flags are sure.
pub fn keys_reported(spec: &Spec, words: &[&[u8]]) -> Result<KeyRefs, KeysError> {
    let sure = !spec.keys.iter().any(|keys| keys.flags.has(VARIABLE_FLAGS));
    match spec.extract {
        Some(extract) if sure => Ok(keys_by_specs(spec.keys, words).unwrap_or_else(|KeysError| extract(words))),
        Some(extract) => Ok(extract(words)),
        None => keys_by_specs(spec.keys, words),
    }
}

/// Whether any argument can be a key. (SPUBLISH's channel is found by a key spec, but is none.)
pub fn has_keys(spec: &Spec) -> bool {
    spec.extract.is_some() || spec.keys.iter().any(|keys| !keys.flags.has(NOT_KEY))
}

fn keys_by_specs(specs: &[KeySpec], words: &[&[u8]]) -> Result<KeyRefs, KeysError> {
    let mut found = KeyRefs::new();
    for spec in specs.iter().filter(|spec| !spec.flags.has(NOT_KEY)) {
        let begin = match spec.begin {
            BeginSearch::Index(index) => usize::from(index),
            BeginSearch::Keyword { keyword, start_from } => match position_behind(words, keyword, start_from) {
                Some(position) => position,
                None => continue,
            },
            BeginSearch::Unknown => return Err(KeysError),
        };
        let (first, last, step) = spec.find.range(begin, words)?;
        if first > last || last >= words.len() {
            return Err(KeysError);
        }
        let indexes = (first..=last).step_by(step);
        found.extend(indexes.map(|index| KeyRef { index: index as u32, flags: spec.flags }));
        if spec.flags.has(INCOMPLETE) {
            return Err(KeysError);
        }
    }
    Ok(found)
}

fn position_behind(words: &[&[u8]], keyword: &str, start_from: i8) -> Option<usize> {
    let is_keyword = |index: &usize| words[*index].eq_ignore_ascii_case(keyword.as_bytes());
    let from = usize::from(start_from.unsigned_abs());
    let found = if start_from > 0 {
        (from..words.len()).find(is_keyword)
    } else {
        // Never the command's own name.
        (1..=words.len().checked_sub(from)?).rev().find(is_keyword)
    };
    found.map(|index| index + 1)
}

impl FindKeys {
    /// First index, last index and step, from where the search began.
    fn range(self, begin: usize, words: &[&[u8]]) -> Result<(usize, usize, usize), KeysError> {
        match self {
            FindKeys::Range { last, step, limit } => {
                let last = match (last, limit) {
                    (0.., _) => begin + last as usize,
                    (_, 0) => words.len().checked_sub(usize::from(last.unsigned_abs())).ok_or(KeysError)?,
                    // `last` is -1 here, the only value Redis knows beside a limit.
                    (_, limit) => {
                        let part = words.len().saturating_sub(begin) / usize::from(limit);
                        (begin + part).checked_sub(1).ok_or(KeysError)?
                    }
                };
                Ok((begin, last, usize::from(step)))
            }
            FindKeys::Counted { number, first, step } => {
                let word = words.get(begin + usize::from(number)).ok_or(KeysError)?;
                let count = parse_u64(word).filter(|&count| count > 0).ok_or(KeysError)?;
                let first = begin + usize::from(first);
                let span = (count as usize - 1).checked_mul(usize::from(step)).ok_or(KeysError)?;
                Ok((first, first.checked_add(span).ok_or(KeysError)?, usize::from(step)))
            }
            FindKeys::Unknown => Err(KeysError),
        }
    }
}

/// First key, last key and step, as COMMAND INFO says them: all that older clients know of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub first: i64,
    pub last: i64,
    pub step: i64,
    /// The three numbers do not describe all keys.
    pub movable: bool,
}

impl KeyRange {
    /// One range is itself; several are one if each begins where the one before ends.
    pub const fn of(specs: &[KeySpec]) -> KeyRange {
        const NONE: KeyRange = KeyRange { first: 0, last: 0, step: 0, movable: false };
        let mut range = NONE;
        let mut at = 0;
        while at < specs.len() {
            let spec = &specs[at];
            at += 1;
            let (BeginSearch::Index(index), FindKeys::Range { last, step, .. }) = (spec.begin, spec.find) else {
                range.movable = true;
                continue;
            };
            let index = index as i64;
            if range.step != 0 && range.last != index - 1 {
                range.movable = true;
                continue;
            }
            let last = if last < 0 { last as i64 } else { index + last as i64 };
            let (first, step) = if range.step == 0 { (index, step as i64) } else { (range.first, 1) };
            range = KeyRange { first, last, step, movable: range.movable || spec.flags.has(INCOMPLETE) };
        }
        range
    }
}

/// The words of a command without some of its keys, given by their places among its keys, and without what belongs to
/// these: IDs behind STREAMS. A number of keys is put right.
pub fn without_keys(spec: &Spec, words: &[&[u8]], is_kept: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
    let keys = keys_of(spec, words);
    let of_key = |index: usize| keys.iter().position(|key| key.index as usize == index);
    let halves = spec.keys.iter().any(|keys| matches!(keys.find, FindKeys::Range { limit: 2, .. }));
    let count_at = spec.keys.iter().find_map(|keys| match (keys.begin, keys.find) {
        (BeginSearch::Index(begin), FindKeys::Counted { number, .. }) => Some(usize::from(begin + number)),
        _ => None,
    });
    let kept = (0..keys.len()).filter(|&place| is_kept(place)).count();
    let mut left = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        let place = of_key(index).or_else(|| if halves { of_key(index.checked_sub(keys.len())?) } else { None });
        if place.is_some_and(|place| !is_kept(place)) {
            continue;
        }
        left.push(if Some(index) == count_at { kept.to_string().into_bytes() } else { word.to_vec() });
    }
    left
}

/// What is known about the places of a command's keys before its words are: kept beside each command, so that a request
/// with one key needs no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLayout {
    None,
    One(u8),
    /// A negative `last` counts from the end.
    Range {
        first: u8,
        last: i8,
        step: u8,
    },
    /// Only [`keys_of`] can tell.
    Searched,
}

impl KeyLayout {
    pub const fn of(specs: &[KeySpec]) -> KeyLayout {
        let range = KeyRange::of(specs);
        let mut at = 0;
        let mut real = 0;
        while at < specs.len() {
            real += !specs[at].flags.has(NOT_KEY) as usize;
            at += 1;
        }
        if real == 0 {
            KeyLayout::None
        } else if range.movable || real < specs.len() {
            KeyLayout::Searched
        } else if range.first == range.last {
            KeyLayout::One(range.first as u8)
        } else {
            KeyLayout::Range { first: range.first as u8, last: range.last as i8, step: range.step as u8 }
        }
    }

    /// The indexes of the keys among as many `words`; `None` if they have to be searched.
    pub fn indexes(self, words: usize) -> Option<StepBy<Range<usize>>> {
        let (first, end, step) = match self {
            KeyLayout::None => (0, 0, 1),
            KeyLayout::One(index) => (index.into(), usize::from(index) + 1, 1),
            KeyLayout::Range { first, last: last @ 0.., step } => (first.into(), last as usize + 1, step.into()),
            KeyLayout::Range { first, last, step } => {
                (first.into(), (words + 1).saturating_add_signed(last.into()), step.into())
            }
            KeyLayout::Searched => return None,
        };
        Some((first..end.min(words)).step_by(step))
    }
}

/// SET key value [option ...]: reads the key only with GET.
pub fn keys_of_set(words: &[&[u8]]) -> KeyRefs {
    let reads = words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"GET"));
    refs([(1, if reads { RW.and(ACCESS).and(UPDATE) } else { OW.and(UPDATE) })])
}

/// BITFIELD key [option ...]: reads only, if it has no other option than GET and OVERFLOW.
pub fn keys_of_bitfield(words: &[&[u8]]) -> KeyRefs {
    let mut rest = words.get(2..).unwrap_or_default();
    while let [option, after @ ..] = rest {
        let operands = match option.to_ascii_uppercase().as_slice() {
            b"GET" => 2,
            b"OVERFLOW" => 1,
            _ => break,
        };
        let Some(after) = after.get(operands..) else { break };
        rest = after;
    }
    refs([(1, if rest.is_empty() { RO.and(ACCESS) } else { RW.and(ACCESS).and(UPDATE) })])
}

/// SORT key [option ...] [STORE destination]. The keys that BY and GET reach come from the data, and are not listed.
pub fn keys_of_sort(words: &[&[u8]]) -> KeyRefs {
    let mut keys = refs([(1, RO.and(ACCESS))]);
    let mut index = 2;
    while index < words.len() {
        index += match words[index].to_ascii_uppercase().as_slice() {
            b"LIMIT" => 3,
            b"GET" | b"BY" => 2,
            b"STORE" if index + 1 < words.len() => {
                keys.truncate(1);
                keys.extend(refs([(index + 1, OW.and(UPDATE))]));
                1
            }
            _ => 1,
        };
    }
    keys
}

/// Does a SORT look up keys by a BY or GET pattern? Both name keys by an element in the place of the first `*`.
pub fn sort_reaches(words: &[&[u8]]) -> bool {
    let mut index = 2;
    while index + 1 < words.len() {
        index += match words[index].to_ascii_uppercase().as_slice() {
            b"LIMIT" => 3,
            b"GET" | b"BY" if words[index + 1].contains(&b'*') => return true,
            b"GET" | b"BY" | b"STORE" => 2,
            _ => 1,
        };
    }
    false
}

/// SORT_RO key [option ...]
pub fn keys_of_sort_ro(_words: &[&[u8]]) -> KeyRefs {
    refs([(1, RO.and(ACCESS))])
}

/// MIGRATE host port key|"" destination-db timeout [option ...] [KEYS key ...]
pub fn keys_of_migrate(words: &[&[u8]]) -> KeyRefs {
    let flags = RW.and(ACCESS).and(DELETE);
    let mut index = 6;
    while index < words.len() {
        index += match words[index].to_ascii_uppercase().as_slice() {
            // A key in both places is a syntax error.
            b"KEYS" if !words[3].is_empty() => return KeyRefs::new(),
            b"KEYS" => return (index + 1..words.len()).map(|index| KeyRef { index: index as u32, flags }).collect(),
            b"AUTH" => 2,
            b"AUTH2" => 3,
            _ => 1,
        };
    }
    refs([(3, flags)])
}

/// GEORADIUS key longitude latitude radius unit [option ...] [STORE|STOREDIST destination], and by member.
pub fn keys_of_georadius(words: &[&[u8]]) -> KeyRefs {
    let mut keys = refs([(1, RO.and(ACCESS))]);
    let mut index = 5;
    while index + 1 < words.len() {
        let stores = words[index].eq_ignore_ascii_case(b"STORE") || words[index].eq_ignore_ascii_case(b"STOREDIST");
        if stores {
            keys.truncate(1);
            keys.extend(refs([(index + 1, OW.and(UPDATE))]));
        }
        index += if stores { 2 } else { 1 };
    }
    keys
}

/// XREAD [option ...] STREAMS key ... id ..., and XREADGROUP, whose group or consumer may be named STREAMS too.
pub fn keys_of_xread(words: &[&[u8]]) -> KeyRefs {
    let mut index = 1;
    while index < words.len() {
        index += match words[index].to_ascii_uppercase().as_slice() {
            b"BLOCK" | b"COUNT" => 2,
            b"GROUP" => 3,
            b"NOACK" => 1,
            b"STREAMS" => {
                let keys_and_ids = words.len() - index - 1;
                let keys = if keys_and_ids.is_multiple_of(2) { keys_and_ids / 2 } else { 0 };
                let key = |index| KeyRef { index: index as u32, flags: RO.and(ACCESS) };
                return (index + 1..=index + keys).map(key).collect();
            }
            _ => break,
        };
    }
    KeyRefs::new()
}

/// EVAL script numkeys [key ...] and its like: none is fine, where a key spec would call it an error.
pub fn keys_of_eval(words: &[&[u8]]) -> KeyRefs {
    keys_by_specs(&[keys_counted_at(2, RW.and(ACCESS).and(UPDATE))], words).unwrap_or_default()
}

/// EVAL_RO script numkeys [key ...] and its like.
pub fn keys_of_eval_ro(words: &[&[u8]]) -> KeyRefs {
    keys_by_specs(&[keys_counted_at(2, RO.and(ACCESS))], words).unwrap_or_default()
}

fn refs<const N: usize>(keys: [(usize, KeyFlags); N]) -> KeyRefs {
    keys.into_iter().map(|(index, flags)| KeyRef { index: index as u32, flags }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: KeyFlags = RO.and(ACCESS);
    const WRITE: KeyFlags = OW.and(UPDATE);
    const CHANGE: KeyFlags = RW.and(ACCESS).and(UPDATE);

    fn reported(keys: &'static [KeySpec], extract: Option<Extract>, command: &str) -> String {
        shown(keys_reported(&Spec { keys, extract, ..Spec::DEFAULT }, &words(command)), command)
    }

    fn routed(keys: &'static [KeySpec], extract: Option<Extract>, command: &str) -> String {
        shown(Ok(keys_of(&Spec { keys, extract, ..Spec::DEFAULT }, &words(command))), command)
    }

    /// An empty word is written as `""`.
    fn words(command: &str) -> Vec<&[u8]> {
        command.split(' ').map(|word| if word == "\"\"" { b"" } else { word.as_bytes() }).collect()
    }

    /// `a:RO,access b:OW,update`
    fn shown(keys: Result<KeyRefs, KeysError>, command: &str) -> String {
        let Ok(keys) = keys else { return "error".to_owned() };
        let words = words(command);
        let key = |key: &KeyRef| {
            let flags: Vec<_> = key.flags.names().collect();
            format!("{}:{}", String::from_utf8_lossy(words[key.index as usize]), flags.join(","))
        };
        keys.iter().map(key).collect::<Vec<_>>().join(" ")
    }

    fn names(specs: &[KeySpec], command: &str) -> String {
        let keys = shown(keys_by_specs(specs, &words(command)), command);
        keys.split(' ').map(|key| key.split(':').next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ranges() {
        assert_eq!(names(&[key_at(1, READ)], "GET a"), "a");
        assert_eq!(names(&[keys_from(1, READ)], "MGET a b a"), "a b a");
        assert_eq!(names(&[key_at(1, WRITE).every_second()], "MSET a 1 b 2"), "a b");
        assert_eq!(names(&[key_at(1, WRITE).every_second()], "MSET a 1 b"), "a b");
        assert_eq!(names(&[key_at(1, READ).through(-2)], "BLPOP a b 0"), "a b");
        assert_eq!(names(&[key_at(1, READ).through(1)], "LCS a b IDX"), "a b");
        assert_eq!(names(&[key_at(1, READ), key_at(2, WRITE)], "RENAME a b"), "a b");
        assert_eq!(names(&[key_at(2, READ)], "OBJECT ENCODING a"), "a");
    }

    #[test]
    fn a_range_beyond_the_words_is_an_error() {
        assert_eq!(names(&[key_at(1, READ)], "GET"), "error");
        assert_eq!(names(&[keys_from(1, READ)], "MGET"), "error");
        assert_eq!(names(&[key_at(1, READ).through(-2)], "BLPOP 0"), "error");
    }

    const STREAMS: &[KeySpec] = &[key_after("STREAMS", 1, READ).first_half()];

    #[test]
    fn keys_behind_a_keyword() {
        assert_eq!(names(STREAMS, "XREAD STREAMS a 0"), "a");
        assert_eq!(names(STREAMS, "XREAD COUNT 1 streams a b 0 0"), "a b");
        assert_eq!(names(STREAMS, "XREAD STREAMS STREAMS 0"), "STREAMS");
        assert_eq!(names(STREAMS, "XREAD STREAMS a b 0"), "a");
        assert_eq!(names(STREAMS, "XREAD COUNT 1"), "");
        assert_eq!(names(STREAMS, "XREAD COUNT 1 STREAMS"), "error");
        let group = &[key_after("STREAMS", 4, READ).first_half()];
        assert_eq!(names(group, "XREADGROUP GROUP STREAMS c STREAMS a >"), "a");
    }

    #[test]
    fn a_negative_start_searches_backwards_and_leaves_the_name_out() {
        let specs = &[key_after("KEYS", -2, READ).through(-1)];
        assert_eq!(names(specs, "MIGRATE KEYS KEYS a b"), "a b");
        assert_eq!(names(specs, "MIGRATE KEYS a"), "a");
        assert_eq!(names(specs, "KEYS a"), "");
        assert_eq!(names(specs, "MIGRATE a KEYS"), "");
        assert_eq!(names(specs, "KEYS"), "");
    }

    const COUNTED: &[KeySpec] = &[key_at(1, WRITE), keys_counted_at(2, READ)];

    #[test]
    fn counted_keys() {
        assert_eq!(names(COUNTED, "ZUNIONSTORE d 2 a b"), "d a b");
        assert_eq!(names(COUNTED, "ZUNIONSTORE d 2 a b WEIGHTS 1 2"), "d a b");
        let many = (0..260).map(|n| format!(" k{n}")).collect::<String>();
        assert_eq!(names(COUNTED, &format!("ZUNIONSTORE d 260{many}")), format!("d{many}"));
    }

    #[test]
    fn a_bad_count_is_an_error() {
        for count in ["0", "3", "-1", "x", "01", "9223372036854775807", "18446744073709551615", "99999999999999999999"]
        {
            assert_eq!(names(COUNTED, &format!("ZUNIONSTORE d {count} a b")), "error", "{count}");
        }
        assert_eq!(names(COUNTED, "ZUNIONSTORE d"), "error");
    }

    #[test]
    fn what_is_found_by_a_spec_but_no_key_is_left_out() {
        const CHANNEL: &[KeySpec] = &[key_at(1, NOT_KEY)];
        assert_eq!(names(CHANNEL, "SPUBLISH c m"), "");
        assert!(!has_keys(&Spec { keys: CHANNEL, ..Spec::DEFAULT }));
        assert_eq!(KeyLayout::of(CHANNEL), KeyLayout::None);
    }

    #[test]
    fn set_reads_only_with_get() {
        const SPECS: &[KeySpec] = &[key_at(1, CHANGE.and(VARIABLE_FLAGS))];
        let keys = |command| reported(SPECS, Some(keys_of_set), command);
        assert_eq!(keys("SET k v"), "k:OW,update");
        assert_eq!(keys("SET get get"), "get:OW,update");
        assert_eq!(keys("SET k v EX 10 get"), "k:RW,access,update");
    }

    #[test]
    fn bitfield_writes_unless_all_is_get() {
        const SPECS: &[KeySpec] = &[key_at(1, CHANGE.and(VARIABLE_FLAGS))];
        let keys = |command| reported(SPECS, Some(keys_of_bitfield), command);
        assert_eq!(keys("BITFIELD k"), "k:RO,access");
        assert_eq!(keys("BITFIELD k GET u8 0 OVERFLOW sat get u8 8"), "k:RO,access");
        assert_eq!(keys("BITFIELD k GET u8 0 SET u8 0 1"), "k:RW,access,update");
        assert_eq!(keys("BITFIELD k GET u8"), "k:RW,access,update");
        assert_eq!(keys("BITFIELD k nonsense"), "k:RW,access,update");
    }

    const SORT: &[KeySpec] = &[key_at(1, READ), keys_unknown(READ), keys_unknown(WRITE)];

    #[test]
    fn sort_stores_behind_its_last_store() {
        let keys = |command| reported(SORT, Some(keys_of_sort), command);
        assert_eq!(keys("SORT k"), "k:RO,access");
        assert_eq!(keys("SORT k STORE d"), "k:RO,access d:OW,update");
        assert_eq!(keys("SORT k BY store GET store LIMIT 0 store store d"), "k:RO,access d:OW,update");
        assert_eq!(keys("SORT k STORE a STORE b"), "k:RO,access b:OW,update");
        assert_eq!(keys("SORT k STORE"), "k:RO,access");
        assert_eq!(keys("SORT k BY"), "k:RO,access");
        assert_eq!(reported(&SORT[..2], Some(keys_of_sort_ro), "SORT_RO k BY a GET b"), "k:RO,access");
    }

    #[test]
    fn migrate_has_one_key_or_a_list() {
        const MIGRATE: KeyFlags = RW.and(ACCESS).and(DELETE);
        const SPECS: &[KeySpec] = &[key_at(3, MIGRATE), key_after("KEYS", -2, MIGRATE.and(INCOMPLETE)).through(-1)];
        let keys = |command| reported(SPECS, Some(keys_of_migrate), command).replace(":RW,access,delete", "");
        assert_eq!(keys("MIGRATE h 1 k 0 5"), "k");
        assert_eq!(keys("MIGRATE h 1 k 0 5 COPY REPLACE"), "k");
        assert_eq!(keys("MIGRATE h 1 \"\" 0 5 COPY KEYS a b"), "a b");
        assert_eq!(keys("MIGRATE h 1 \"\" 0 5 AUTH keys KEYS a b"), "a b");
        assert_eq!(keys("MIGRATE h 1 \"\" 0 5 AUTH2 keys keys KEYS a"), "a");
        assert_eq!(keys("MIGRATE h 1 k 0 5 KEYS a b"), "");
    }

    #[test]
    fn georadius_is_routed_by_its_last_store_and_reported_by_its_specs() {
        const SPECS: &[KeySpec] = &[key_at(1, READ), key_after("STORE", 6, WRITE), key_after("STOREDIST", 6, WRITE)];
        let command = "GEORADIUS k 1 2 3 m STORE a STOREDIST b";
        assert_eq!(reported(SPECS, Some(keys_of_georadius), command), "k:RO,access a:OW,update b:OW,update");
        assert_eq!(routed(SPECS, Some(keys_of_georadius), command), "k:RO,access b:OW,update");
        assert_eq!(routed(SPECS, Some(keys_of_georadius), "GEORADIUS k 1 2 3 m STORE"), "k:RO,access");
        assert_eq!(
            routed(SPECS, Some(keys_of_georadius), "GEORADIUSBYMEMBER k m 3 m STORE STORE"),
            "k:RO,access STORE:OW,update"
        );
    }

    #[test]
    fn a_destination_is_routed_by_without_sources() {
        const SPECS: &[KeySpec] = &[key_at(1, CHANGE), keys_from(2, READ)];
        assert_eq!(routed(SPECS, None, "PFMERGE d"), "d:RW,access,update");
        assert_eq!(reported(SPECS, None, "PFMERGE d"), "error");
        assert_eq!(routed(SPECS, None, "PFMERGE d s"), "d:RW,access,update s:RO,access");
    }

    #[test]
    fn streams_are_found_as_the_command_finds_them() {
        let keys = |command| routed(STREAMS, Some(keys_of_xread), command).replace(":RO,access", "");
        assert_eq!(keys("XREAD STREAMS a 0"), "a");
        assert_eq!(keys("XREAD COUNT STREAMS BLOCK 1 STREAMS a b 0 0"), "a b");
        assert_eq!(keys("XREADGROUP COUNT 1 GROUP STREAMS STREAMS NOACK STREAMS a >"), "a");
        assert_eq!(keys("XREAD STREAMS a b 0"), "");
        assert_eq!(keys("XREAD STREAMS"), "");
        assert_eq!(keys("XREAD nonsense STREAMS a 0"), "");
        assert_eq!(keys("XREAD COUNT"), "");
    }

    #[test]
    fn a_script_may_have_no_key() {
        const SPECS: &[KeySpec] = &[keys_counted_at(2, CHANGE)];
        let keys = |command| reported(SPECS, Some(keys_of_eval), command);
        assert_eq!(keys("EVAL s 0"), "");
        assert_eq!(keys("EVAL s 0 argument"), "");
        assert_eq!(keys("EVAL s 1 a argument"), "a:RW,access,update");
        assert_eq!(keys("EVAL s 3 a b"), "");
        assert_eq!(routed(SPECS, Some(keys_of_eval_ro), "EVAL_RO s 1 a"), "a:RO,access");
    }

    fn range(specs: &[KeySpec]) -> (i64, i64, i64, bool) {
        let KeyRange { first, last, step, movable } = KeyRange::of(specs);
        (first, last, step, movable)
    }

    #[test]
    fn first_last_and_step_as_older_clients_know_them() {
        assert_eq!(range(&[]), (0, 0, 0, false));
        assert_eq!(range(&[key_at(1, READ)]), (1, 1, 1, false));
        assert_eq!(range(&[key_at(1, READ).every_second()]), (1, -1, 2, false));
        assert_eq!(range(&[key_at(1, READ).through(-2)]), (1, -2, 1, false));
        assert_eq!(range(&[key_at(1, READ), key_at(2, WRITE)]), (1, 2, 1, false));
        assert_eq!(range(&[key_at(1, WRITE), keys_from(2, READ)]), (1, -1, 1, false));
        assert_eq!(range(SORT), (1, 1, 1, true));
        assert_eq!(range(COUNTED), (1, 1, 1, true));
        assert_eq!(range(STREAMS), (0, 0, 0, true));
        assert_eq!(range(&[key_at(2, WRITE), keys_from(3, READ)]), (2, -1, 1, false));
        assert_eq!(range(&[key_at(1, READ), key_at(3, WRITE)]), (1, 1, 1, true));
    }

    #[test]
    fn layouts_find_the_keys_of_plain_commands_without_a_search() {
        fn indexes(specs: &[KeySpec], words: usize) -> Option<Vec<usize>> {
            KeyLayout::of(specs).indexes(words).map(|indexes| indexes.collect())
        }
        assert_eq!(indexes(&[], 3), Some(vec![]));
        assert_eq!(indexes(&[key_at(1, READ)], 2), Some(vec![1]));
        assert_eq!(indexes(&[key_at(1, READ)], 1), Some(vec![]));
        assert_eq!(indexes(&[keys_from(1, READ)], 4), Some(vec![1, 2, 3]));
        assert_eq!(indexes(&[key_at(1, READ).every_second()], 5), Some(vec![1, 3]));
        assert_eq!(indexes(&[key_at(1, READ).through(-2)], 4), Some(vec![1, 2]));
        assert_eq!(indexes(&[key_at(1, READ), key_at(2, WRITE)], 3), Some(vec![1, 2]));
        assert_eq!(indexes(COUNTED, 5), None);
        assert_eq!(indexes(STREAMS, 5), None);
    }
}
