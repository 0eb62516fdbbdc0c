//! A small sorted set: a listpack of members, each followed by its score, in order.
//!
//! A whole score is stored as an integer, another as the text that Redis prints; the sign of a zero is lost, as there.

use std::borrow::Cow;
use std::ops::Range;

use super::super::listpack::{At, Digits, Element, Listpack};
use super::tree::compare;
use crate::base::number::{format_double, parse_f64};

#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    listpack: Listpack,
}

impl Pairs {
    /// A listpack from outside: `None` unless it is what this file would have written, but for the spelling of scores.
    pub(super) fn from_listpack(listpack_given: Listpack) -> Option<Pairs> {
        let elements: Vec<Element<'_>> = listpack_given.iter().collect();
        let (pairs, []) = elements.as_chunks::<2>() else { return None };
        let mut sorted = Vec::with_capacity(pairs.len());
        for &[member, score] in pairs {
            let score = match score {
                Element::Int(n) => n as f64,
                Element::Text(text) => parse_f64(text)?,
            };
            sorted.push((score, text_of(member)));
        }
        let in_order =
            |pair: &[(f64, Cow<'_, [u8]>)]| compare((pair[0].0, &pair[0].1), (pair[1].0, &pair[1].1)).is_lt();
        if !sorted.windows(2).all(in_order) {
            return None;
        }
        let mut members: Vec<Cow<'_, [u8]>> = sorted.into_iter().map(|(_, member)| member).collect();
        members.sort_unstable();
        if members.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        // A foreign writer may have left integers as text, as which they would not be found.
        let is_canonical = elements.iter().all(|&element| Element::of(&text_of(element)) == element);
        let listpack =
            if is_canonical { None } else { Some(elements.iter().map(|&element| text_of(element)).collect()) };
        drop(members);
        Some(Pairs { listpack: listpack.unwrap_or(listpack_given) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.listpack.bytes()
    }

    pub(super) fn usable_bytes(&self) -> usize {
        self.listpack.usable_bytes()
    }

    pub(super) fn len(&self) -> usize {
        self.listpack.len() / 2
    }

    /// Where a member is, and its score.
    pub(super) fn find(&self, member: &[u8]) -> Option<(At, f64)> {
        let at = self.listpack.find(self.listpack.first(), member, 2)?;
        Some((at, self.score_behind(at)))
    }

    fn score_behind(&self, member: At) -> f64 {
        let at = self.listpack.next(member).expect("a member has a score");
        match self.listpack.get(at) {
            Element::Int(n) => n as f64,
            Element::Text(text) => parse_f64(text).expect("scores are looked at when they enter"),
        }
    }

    /// The rank of a member that is there.
    pub(super) fn rank(&self, member: &[u8]) -> usize {
        let wanted = Element::of(member);
        self.listpack.iter().step_by(2).position(|element| element == wanted).expect("the member is there")
    }

    pub(super) fn partition_point(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        let mut digits = Digits::new();
        self.range(0..self.len()).take_while(|(member, score)| is_before(*score, member.text(&mut digits))).count()
    }

    /// Members and scores with these ranks, which exist.
    pub(super) fn range(&self, ranks: Range<usize>) -> PairsRange<'_> {
        let at = |rank: usize| self.listpack.at_index(2 * rank as i64);
        let (front, back) = if ranks.is_empty() { (None, None) } else { (at(ranks.start), at(ranks.end - 1)) };
        PairsRange { pairs: self, front, back, left: ranks.len() }
    }

    /// Adds a member that is not there.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        let mut digits = Digits::new();
        let mut at = self.listpack.first();
        while let Some(place) = at {
            let (other, element) = (self.score_behind(place), self.listpack.get(place));
            if other > score || (other == score && element.text(&mut digits) > member) {
                break;
            }
            at = self.listpack.next(place).and_then(|score| self.listpack.next(score));
        }
        let score = stored_score(score);
        match at {
            Some(place) => {
                // The member takes the place; what was there is behind it.
                self.listpack.insert_before(place, member);
                self.listpack.insert_after(place, &score);
            }
            None => {
                self.listpack.push(member);
                self.listpack.push(&score);
            }
        }
    }

    /// Removes the member that `find` found.
    pub(super) fn remove_at(&mut self, member: At) {
        self.listpack.remove_some(member, 2);
    }

    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        if let Some(at) = self.listpack.at_index(2 * ranks.start as i64) {
            self.listpack.remove_some(at, 2 * ranks.len());
        }
    }

    pub(super) fn clear(&mut self) {
        self.listpack = Listpack::new();
    }
}

/// An element as bytes, borrowed if it is stored so.
pub(super) fn text_of(element: Element<'_>) -> Cow<'_, [u8]> {
    match element {
        Element::Text(text) => Cow::Borrowed(text),
        Element::Int(_) => Cow::Owned(element.to_vec()),
    }
}

/// As a listpack holds a score: Redis takes a double for an integer up to half the range of one.
fn stored_score(score: f64) -> Vec<u8> {
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    let mut text = Vec::new();
    if score.abs() <= WHOLE_MAX && score.trunc() == score {
        text.extend_from_slice(itoa::Buffer::new().format(score as i64).as_bytes());
    } else {
        format_double(score, &mut text);
    }
    text
}

/// Members and scores by rank, from both ends.
pub(super) struct PairsRange<'a> {
    pairs: &'a Pairs,
    front: Option<At>,
    back: Option<At>,
    left: usize,
}

impl<'a> PairsRange<'a> {
    fn pair(&self, at: At) -> (Element<'a>, f64) {
        (self.pairs.listpack.get(at), self.pairs.score_behind(at))
    }
}

impl<'a> Iterator for PairsRange<'a> {
    type Item = (Element<'a>, f64);

    fn next(&mut self) -> Option<(Element<'a>, f64)> {
        self.left = self.left.checked_sub(1)?;
        let at = self.front?;
        let listpack = &self.pairs.listpack;
        self.front = listpack.next(at).and_then(|score| listpack.next(score));
        Some(self.pair(at))
    }
}

impl<'a> DoubleEndedIterator for PairsRange<'a> {
    fn next_back(&mut self) -> Option<(Element<'a>, f64)> {
        self.left = self.left.checked_sub(1)?;
        let at = self.back?;
        let listpack = &self.pairs.listpack;
        self.back = listpack.previous(at).and_then(|score| listpack.previous(score));
        Some(self.pair(at))
    }
}
