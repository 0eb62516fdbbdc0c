//! Intersection, union and difference of sets, whatever their encodings.
//!
//! What becomes a set of its own gets the encoding that Redis's would: it begins small and grows as members are added,
//! or removed again.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use super::{BATCH, Set, integer};
use crate::data::collection::{CollectionType, Env};
use crate::data::listpack::{Element, Listpack};

/// Hands out the members that all sets have, until `found` has enough. Orders the sets by size: the members of the
/// smallest are looked up in the others.
pub fn intersect<'a>(sets: &mut [&'a Set], found: impl FnMut(Element<'a>) -> ControlFlow<()>) {
    sets.sort_by_key(|set| set.len());
    if let [smallest, others @ ..] = &*sets {
        select(smallest, others, true, found);
    }
}

/// The intersection as a set.
pub fn intersection(sets: &mut [&Set], env: &Env<'_>) -> Set {
    let begin_small =
        sets.iter().min_by_key(|set| set.len()).is_some_and(|smallest| matches!(smallest, Set::Intset(_)));
    let mut common = if begin_small { Set::empty() } else { Set::Listpack(Listpack::new()) };
    let mut integers_only = true;
    intersect(sets, |member| {
        integers_only = integers_only && integer(member).is_some();
        common.add(member, env);
        ControlFlow::Continue(())
    });
    if integers_only && common.len() as u64 <= env.config.set_max_intset_entries {
        common.make_intset();
    }
    common
}

/// All members of all sets.
pub fn union(sets: &[&Set], env: &Env<'_>) -> Set {
    let mut all = Set::empty();
    for member in sets.iter().flat_map(|set| set.members()) {
        all.add(member, env);
    }
    all
}

/// The members of the first set that no other has.
pub fn difference(first: &Set, others: &mut [&Set], env: &Env<'_>) -> Set {
    let mut left = Set::empty();
    if others.iter().any(|other| std::ptr::eq(first, *other)) {
        return left;
    }
    // Looking each member up in every set, or removing every set's members from a copy: Redis's estimate of either.
    let lookups = first.len() * (others.len() + 1) / 2;
    let removals = first.len() + others.iter().map(|other| other.len()).sum::<usize>();
    if lookups <= removals {
        // The largest are the likeliest to end a search.
        others.sort_by_key(|other| Reverse(other.len()));
        select(first, others, false, |member| {
            left.add(member, env);
            ControlFlow::Continue(())
        });
        return left;
    }
    for member in first.members() {
        left.add(member, env);
    }
    for other in others {
        for member in other.members() {
            if left.remove(member) && left.is_empty() {
                return left;
            }
        }
    }
    left
}

/// Hands out the members of a set that all others have, or that none has.
fn select<'a>(set: &'a Set, others: &[&Set], wanted: bool, mut found: impl FnMut(Element<'a>) -> ControlFlow<()>) {
    let mut members = set.members();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.extend(members.by_ref().take(BATCH));
        if batch.is_empty() {
            return;
        }
        for other in others.iter().filter(|other| !std::ptr::eq(set, **other)) {
            other.sift(&mut batch, wanted);
        }
        for member in batch.drain(..) {
            if found(member).is_break() {
                return;
            }
        }
    }
}
