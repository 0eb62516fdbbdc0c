//! A sorted set: members with scores, ordered by score, members with equal scores by their bytes.
//!
//! A small one is a listpack (`pairs.rs`), a larger one a table and a tree (`ordered.rs`, `tree.rs`), which OBJECT
//! ENCODING calls a skiplist, as clients expect. It becomes the latter where Redis converts, and never goes back while
//! it lives; what a command stores as a whole begins small if it is.
//!
//! Everything about order is said in *ranks*, from 0 for the lowest: a range of scores or of members is translated into
//! a range of ranks (`ranks_of_scores`, `ranks_of_members`), which is then read, counted or removed. Scores are never
//! NaN; a caller sees to that.

mod member;
mod ordered;
mod pairs;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;
use std::ops::Range;

use super::collection::{Collection, CollectionType, Env, SaveElement};
use super::entry::Kind;
use super::listpack::{Element, Listpack};
use super::ziplist;
use crate::codec::rdb::{self, Output, Reader, rdb_type};
use ordered::Ordered;
use pairs::Pairs;

/// What a listpack may hold, as in Redis, whatever the thresholds.
const LISTPACK_BYTES_MAX: usize = 1 << 30;

#[derive(Clone)]
pub struct Zset {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Small(Pairs),
    Large(Box<Ordered>),
}

/// What became of a member that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    New,
    /// Its score is another one now.
    Changed,
    Same,
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    pub score: f64,
    /// Members with this very score are outside.
    pub excluded: bool,
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberBound<'a> {
    Lowest,
    Highest,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

impl ScoreBound {
    pub fn included(score: f64) -> ScoreBound {
        ScoreBound { score, excluded: false }
    }
}

impl MemberBound<'_> {
    /// Does the member lie in front of a range that begins here?
    fn begins_behind(self, member: &[u8]) -> bool {
        match self {
            MemberBound::Lowest => false,
            MemberBound::Highest => true,
            MemberBound::Included(bound) => member < bound,
            MemberBound::Excluded(bound) => member <= bound,
        }
    }

    /// Does the member lie in front of the end of a range that ends here?
    fn ends_behind(self, member: &[u8]) -> bool {
        match self {
            MemberBound::Lowest => false,
            MemberBound::Highest => true,
            MemberBound::Included(bound) => member <= bound,
            MemberBound::Excluded(bound) => member < bound,
        }
    }
}

/// Puts members in the order of a sorted set.
pub fn sort_members(members: &mut [(Cow<'_, [u8]>, f64)]) {
    members.sort_unstable_by(|a, b| tree::compare((a.1, &a.0), (b.1, &b.0)));
}

impl Default for Zset {
    fn default() -> Zset {
        Zset { form: Form::Small(Pairs::default()) }
    }
}

impl Zset {
    /// A sorted set of these members, each given once, in the encoding of its size.
    pub fn of_members<'a>(members: &[(Cow<'a, [u8]>, f64)], env: &Env<'_>) -> Zset {
        let value_len_max = members.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
        let bytes = members.iter().map(|(member, _)| member.len()).sum::<usize>();
        let mut zset = Zset::default();
        if !is_small(members.len(), value_len_max, env) || bytes > LISTPACK_BYTES_MAX {
            zset.form = Form::Large(Box::new(Ordered::new(env)));
        }
        for (member, score) in members {
            match &mut zset.form {
                Form::Small(pairs) => pairs.insert(member, *score),
                Form::Large(ordered) => {
                    ordered.add(member, *score);
                }
            }
        }
        zset
    }

    #[allow(clippy::len_without_is_empty)] // `CollectionType` has it.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(pairs) => pairs.len(),
            Form::Large(ordered) => ordered.len(),
        }
    }

    /// The score of a member; O(1) in a large set.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Small(pairs) => pairs.find(member).map(|(_, score)| score),
            Form::Large(ordered) => ordered.score(member),
        }
    }

    /// The rank of a member, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        let rank = match &self.form {
            Form::Small(pairs) => pairs.rank(member),
            Form::Large(ordered) => ordered.rank(member, score),
        };
        Some((rank, score))
    }

    /// Says that a command brings so many members, the longest of that length: a set that could not stay small with
    /// them is converted at once, even if no member will be added.
    pub fn expect(&mut self, members: usize, value_len_max: usize, env: &Env<'_>) {
        if !is_small(members, value_len_max, env) {
            self.enlarge(env);
        }
    }

    /// Gives a member a score, whether it is there or not.
    pub fn add(&mut self, member: &[u8], score: f64, env: &Env<'_>) -> Added {
        debug_assert!(!score.is_nan(), "a score is a number");
        if let Form::Small(pairs) = &mut self.form {
            match pairs.find(member) {
                Some((_, old)) if old == score => return Added::Same,
                Some((at, _)) => {
                    pairs.remove_at(at);
                    pairs.insert(member, score);
                    return Added::Changed;
                }
                None if is_small(pairs.len() + 1, member.len(), env)
                    && pairs.bytes().len() + member.len() <= LISTPACK_BYTES_MAX =>
                {
                    pairs.insert(member, score);
                    return Added::New;
                }
                None => self.enlarge(env),
            }
        }
        match &mut self.form {
            Form::Large(ordered) => ordered.add(member, score),
            Form::Small(_) => unreachable!("converted above"),
        }
    }

    /// Removes a member: the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.form {
            Form::Small(pairs) => {
                let (at, score) = pairs.find(member)?;
                pairs.remove_at(at);
                Some(score)
            }
            Form::Large(ordered) => ordered.remove(member),
        }
    }

    /// Removes the members with these ranks, which exist.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        if ranks.is_empty() {
            return;
        }
        match &mut self.form {
            Form::Small(pairs) => pairs.remove_ranks(ranks),
            Form::Large(ordered) => ordered.remove_ranks(ranks),
        }
    }

    /// Members and scores with these ranks, which exist, lowest first; `.rev()` reads from the highest.
    pub fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (Element<'_>, f64)> {
        let (small, large) = match &self.form {
            Form::Small(pairs) => (Some(pairs.range(ranks)), None),
            Form::Large(ordered) => (None, Some(ordered.range(ranks))),
        };
        let large = large.into_iter().flatten().map(|(member, score)| (Element::Text(member), score));
        small.into_iter().flatten().chain(large)
    }

    /// All members and scores, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Element<'_>, f64)> {
        self.range(0..self.len())
    }

    /// The ranks of the members whose scores lie between `min` and `max`; an empty range if there are none.
    pub fn ranks_of_scores(&self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let is_before = |score: f64| if min.excluded { score <= min.score } else { score < min.score };
        let start = self.partition_point(|score, _| is_before(score));
        let is_within = |score: f64| if max.excluded { score < max.score } else { score <= max.score };
        let end = self.partition_point(|score, _| is_within(score));
        start..end.max(start)
    }

    /// The ranks of the members between `min` and `max`, in a set whose scores are all equal.
    pub fn ranks_of_members(&self, min: MemberBound<'_>, max: MemberBound<'_>) -> Range<usize> {
        let start = self.partition_point(|_, member| min.begins_behind(member));
        let end = self.partition_point(|_, member| max.ends_behind(member));
        start..end.max(start)
    }

    /// The first rank for which `is_before` does not hold.
    fn partition_point(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        match &self.form {
            Form::Small(pairs) => pairs.partition_point(is_before),
            Form::Large(ordered) => ordered.partition_point(is_before),
        }
    }

    /// Visits about `count` members from `cursor` on, a small set as a whole; returns the next cursor, see `Dict::scan`.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'a>, f64)) -> u64 {
        match &self.form {
            Form::Small(pairs) => {
                pairs.range(0..pairs.len()).for_each(|(member, score)| visit(member, score));
                0
            }
            Form::Large(ordered) => ordered.scan(cursor, count, |member, score| visit(Element::Text(member), score)),
        }
    }

    pub fn kind(&self) -> Kind {
        match &self.form {
            Form::Small(_) => Kind::ZsetListpack,
            Form::Large(_) => Kind::ZsetSkiplist,
        }
    }

    /// The table of a large one.
    pub fn table(&self) -> Option<&super::dict::Dict> {
        if let Form::Large(ordered) = &self.form { Some(ordered.table()) } else { None }
    }

    pub fn table_mut(&mut self) -> Option<&mut super::dict::Dict> {
        if let Form::Large(ordered) = &mut self.form { Some(ordered.table_mut()) } else { None }
    }

    /// See [`Collection::save_head`].
    pub fn save_head(&self, out: &mut Output) -> SaveElement {
        rdb::write_len(self.len() as u64, out);
        Box::new(|entry, out| {
            rdb::write_string(entry.key(), out);
            out.extend_from_slice(&ordered::score_of(entry).to_le_bytes());
        })
    }

    pub fn usable_bytes(&self, samples: usize) -> usize {
        match &self.form {
            Form::Small(pairs) => pairs.usable_bytes(),
            Form::Large(ordered) => {
                super::size_class::allocation_size(size_of::<Ordered>()) + ordered.usable_bytes(samples)
            }
        }
    }

    pub fn free_effort(&self) -> usize {
        match &self.form {
            Form::Small(_) => 1,
            Form::Large(ordered) => ordered.len(),
        }
    }

    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        match &mut self.form {
            Form::Small(pairs) => {
                pairs.clear();
                true
            }
            Form::Large(ordered) => ordered.free_slice(elements_max),
        }
    }

    fn enlarge(&mut self, env: &Env<'_>) {
        if let Form::Small(pairs) = &self.form {
            let mut ordered = Box::new(Ordered::new(env));
            for (member, score) in pairs.range(0..pairs.len()) {
                ordered.add(&pairs::text_of(member), score);
            }
            self.form = Form::Large(ordered);
        }
    }

    fn from_pairs(listpack: Listpack, env: &Env<'_>) -> Option<Zset> {
        let mut zset = Zset { form: Form::Small(Pairs::from_listpack(listpack)?) };
        zset.expect(zset.len(), 0, env);
        Some(zset)
    }

    /// What follows the type byte of a set that is stored member by member; `read_score` reads one score.
    fn from_members(
        reader: &mut Reader<'_>,
        score_bytes_min: usize,
        read_score: impl Fn(&mut Reader<'_>) -> Option<f64>,
        env: &Env<'_>,
    ) -> Option<Zset> {
        let count = reader.count(1 + score_bytes_min)?;
        let mut ordered = Ordered::new(env);
        let (mut value_len_max, mut bytes) = (0, 0);
        for _ in 0..count {
            let member = reader.string()?;
            let score = read_score(reader).filter(|score| !score.is_nan())?;
            value_len_max = value_len_max.max(member.len());
            bytes += member.len();
            if ordered.add(&member, score) != Added::New {
                return None;
            }
        }
        if !is_small(count, value_len_max, env) || bytes > LISTPACK_BYTES_MAX {
            return Some(Zset { form: Form::Large(Box::new(ordered)) });
        }
        let mut pairs = Pairs::default();
        ordered.range(0..count).for_each(|(member, score)| pairs.insert(member, score));
        Some(Zset { form: Form::Small(pairs) })
    }
}

/// May a set with so many members, the longest so long, be a listpack?
fn is_small(members: usize, value_len_max: usize, env: &Env<'_>) -> bool {
    members as u64 <= env.config.zset_max_listpack_entries && value_len_max as u64 <= env.config.zset_max_listpack_value
}

/// A score in the oldest form: a length and its digits, or a length that stands for what has none.
fn read_score_text(reader: &mut Reader<'_>) -> Option<f64> {
    match reader.byte()? {
        0xff => Some(f64::NEG_INFINITY),
        0xfe => Some(f64::INFINITY),
        0xfd => None,
        len => crate::base::number::parse_f64(reader.bytes(u64::from(len))?),
    }
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
        self.len() == 0
    }

    fn rdb_type(&self, _form: rdb::Form) -> u8 {
        match &self.form {
            Form::Small(_) => rdb_type::ZSET_LISTPACK,
            Form::Large(_) => rdb_type::ZSET_2,
        }
    }

    fn save(&self, out: &mut Output) {
        match &self.form {
            Form::Small(pairs) => rdb::write_string(pairs.bytes(), out),
            // From the highest, as Redis writes it: for its list, each is then the new first one.
            Form::Large(ordered) => {
                rdb::write_len(ordered.len() as u64, out);
                for (member, score) in ordered.range(0..ordered.len()).rev() {
                    rdb::write_string(member, out);
                    out.extend_from_slice(&score.to_le_bytes());
                }
            }
        }
    }

    fn load(of: u8, reader: &mut Reader<'_>, env: &mut Env<'_>) -> Option<Zset> {
        match of {
            rdb_type::ZSET => Zset::from_members(reader, 1, read_score_text, env),
            rdb_type::ZSET_2 => Zset::from_members(reader, size_of::<f64>(), |reader| reader.double(), env),
            rdb_type::ZSET_ZIPLIST => {
                let bytes = reader.string()?;
                let elements = ziplist::elements(&bytes)?;
                Zset::from_pairs(elements.into_iter().map(pairs::text_of).collect(), env)
            }
            rdb_type::ZSET_LISTPACK => {
                let bytes = reader.string()?.into_owned();
                Zset::from_pairs(Listpack::from_bytes(bytes)?, env)
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for Zset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |(member, score): (Element<'_>, f64)| (member.to_vec().escape_ascii().to_string(), score);
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}
