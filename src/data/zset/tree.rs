//! An order-statistic B+tree: items by score, then by member, each found by its rank, and the rank of each found.
//!
//! ```text
//! inner node  slots: first item below, how many items below, child
//! leaf        items: score, member
//! ```
//!
//! - Every search is for the rank where a predicate on items stops to hold: by member, score or lexicographic bound
//!   alike. A slot keeps a copy of the first item below it, so that a search reads one node a level.
//! - Nodes are vectors that fill their size class: a half-full leaf takes half the memory. A full one is split in the
//!   middle, but for the last leaf when an item is appended, so that ascending scores leave full leaves behind.
//! - A node that has become small merges with a neighbour if there is room; nothing is ever borrowed. Neighbours hence
//!   have more than a few items together, which bounds the depth well enough.
//!
//! What a member is, is left open: it can be copied, and read as bytes.

use std::cmp::Ordering;
use std::ops::Range;

use super::super::size_class::allocation_size;

/// A leaf of 1 KiB, with a pointer for a member.
const LEAF_LEN_MAX: usize = 64;
const INNER_LEN_MAX: usize = 32;
/// Below a quarter of its room a node looks for a neighbour to merge with.
const SMALL_PART: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Item<M> {
    pub score: f64,
    pub member: M,
}

impl<M: AsRef<[u8]>> Item<M> {
    /// Is it in front of an item with this score and member? Scores are never NaN.
    pub fn is_before(&self, score: f64, member: &[u8]) -> bool {
        compare((self.score, self.member.as_ref()), (score, member)).is_lt()
    }
}

/// The order of a sorted set: by score, members with equal scores by their bytes.
pub fn compare(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).expect("a score is a number").then_with(|| a.1.cmp(b.1))
}

pub struct Tree<M> {
    root: Node<M>,
    len: usize,
}

enum Node<M> {
    Leaf(Vec<Item<M>>),
    Inner(Vec<Slot<M>>),
}

struct Slot<M> {
    /// A copy of the first item below.
    first: Item<M>,
    /// How many items are below.
    len: usize,
    node: Node<M>,
}

impl<M: Copy + AsRef<[u8]>> Tree<M> {
    pub fn new() -> Tree<M> {
        Tree { root: Node::Leaf(Vec::new()), len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The rank of the first item for which `is_before` does not hold; it holds for all in front of that one.
    pub fn partition_point(&self, is_before: impl Fn(&Item<M>) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(&is_before),
                Node::Inner(slots) => {
                    let child = slots.partition_point(|slot| is_before(&slot.first)).saturating_sub(1);
                    rank += slots[..child].iter().map(|slot| slot.len).sum::<usize>();
                    node = &slots[child].node;
                }
            }
        }
    }

    /// The items with these ranks, which exist, in their order or from the back.
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_, M> {
        assert!(ranks.start <= ranks.end && ranks.end <= self.len, "ranks of items");
        Iter { tree: self, leaf: &[], leaf_rank: 0, ranks }
    }

    /// Adds an item that is not there.
    pub fn insert(&mut self, item: Item<M>) {
        if let Some(sibling) = self.root.insert(item, true) {
            let root = std::mem::replace(&mut self.root, Node::Inner(Vec::new()));
            let Node::Inner(slots) = &mut self.root else { unreachable!("written just now") };
            put(slots, 0, Slot::new(root, self.len + 1 - sibling.len));
            put(slots, 1, sibling);
        }
        self.len += 1;
    }

    /// Gives the item at `rank` another score, if that leaves it between its neighbours and all three are in one leaf:
    /// what a score that changes by little mostly does. False if it has to be moved.
    pub fn rescore(&mut self, rank: usize, score: f64) -> bool {
        let (mut node, mut rank) = (&mut self.root, rank);
        loop {
            match node {
                Node::Leaf(items) => {
                    let three = rank.checked_sub(1).and_then(|first| items.get_mut(first..first + 3));
                    let Some([before, item, behind]) = three else { return false };
                    let rescored = Item { score, member: item.member };
                    let stays = before.is_before(score, rescored.member.as_ref())
                        && rescored.is_before(behind.score, behind.member.as_ref());
                    if stays {
                        *item = rescored;
                    }
                    return stays;
                }
                Node::Inner(slots) => {
                    let (child, rank_below) = child_at(slots, rank);
                    (node, rank) = (&mut slots[child].node, rank_below);
                }
            }
        }
    }

    /// Removes the item at `rank` and those that follow it in its leaf, `count_max` in all; hands them to `removed`.
    /// Returns how many they were: one at least.
    pub fn remove_some(&mut self, rank: usize, count_max: usize, removed: impl FnMut(Item<M>)) -> usize {
        assert!(rank < self.len && count_max > 0, "the rank of an item");
        let mut removed = removed;
        let count = self.root.remove_some(rank, count_max, &mut removed);
        self.len -= count;
        while let Node::Inner(slots) = &mut self.root
            && slots.len() <= 1
        {
            self.root = slots.pop().map_or(Node::Leaf(Vec::new()), |slot| slot.node);
        }
        count
    }

    /// What the nodes take: exactly, or by the first `leaves` of them.
    pub fn usable_bytes(&self, leaves: usize) -> usize {
        if leaves == 0 {
            return self.root.usable_bytes();
        }
        let (mut items, mut bytes) = (0, 0);
        for _ in 0..leaves {
            if items == self.len {
                return self.root.usable_bytes();
            }
            let (leaf, _) = self.leaf_at(items);
            items += leaf.len();
            bytes += allocation_size(leaf.capacity() * size_of::<Item<M>>()) + size_of::<Slot<M>>();
        }
        (bytes as u128 * self.len as u128 / items as u128) as usize
    }

    /// The leaf that holds the item at `rank`, and the rank of its first item.
    fn leaf_at(&self, rank: usize) -> (&Vec<Item<M>>, usize) {
        let (mut node, mut first) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return (items, first),
                Node::Inner(slots) => {
                    let (child, offset) = child_at(slots, rank - first);
                    first = rank - offset;
                    node = &slots[child].node;
                }
            }
        }
    }

    /// Panics if a count, a copy of an item or the order is wrong.
    #[cfg(test)]
    pub fn assert_consistent(&self) {
        let (len, _) = self.root.assert_consistent(true);
        assert_eq!(len, self.len);
        let items: Vec<&Item<M>> = self.range(0..self.len).collect();
        let in_order = |pair: &[&Item<M>]| pair[0].is_before(pair[1].score, pair[1].member.as_ref());
        assert!(items.windows(2).all(in_order));
    }
}

/// Which child holds the item at `rank`, and that item's rank within the child.
fn child_at<M>(slots: &[Slot<M>], rank: usize) -> (usize, usize) {
    let mut rank = rank;
    for (child, slot) in slots.iter().enumerate() {
        if rank < slot.len {
            return (child, rank);
        }
        rank -= slot.len;
    }
    unreachable!("the rank of an item")
}

impl<M: Copy + AsRef<[u8]>> Slot<M> {
    fn new(node: Node<M>, len: usize) -> Slot<M> {
        Slot { first: node.first(), len, node }
    }
}

impl<M: Copy + AsRef<[u8]>> Node<M> {
    /// The first item of a node that has one.
    fn first(&self) -> Item<M> {
        match self {
            Node::Leaf(items) => items[0],
            Node::Inner(slots) => slots[0].first,
        }
    }

    /// Adds an item; a node that was full gives its second part away. `is_last`: nothing is to the right of it.
    fn insert(&mut self, item: Item<M>, is_last: bool) -> Option<Slot<M>> {
        match self {
            Node::Leaf(items) => {
                let at = items.partition_point(|other| other.is_before(item.score, item.member.as_ref()));
                let right = put_or_split(items, at, item, LEAF_LEN_MAX, is_last)?;
                let len = right.len();
                Some(Slot::new(Node::Leaf(right), len))
            }
            Node::Inner(slots) => {
                let is_before = |slot: &Slot<M>| slot.first.is_before(item.score, item.member.as_ref());
                let child = slots.partition_point(is_before).saturating_sub(1);
                let child_is_last = is_last && child + 1 == slots.len();
                let slot = &mut slots[child];
                let sibling = slot.node.insert(item, child_is_last);
                slot.first = slot.node.first();
                slot.len += 1;
                let sibling = sibling?;
                slot.len -= sibling.len;
                let right = put_or_split(slots, child + 1, sibling, INNER_LEN_MAX, is_last)?;
                let len = right.iter().map(|slot| slot.len).sum();
                Some(Slot::new(Node::Inner(right), len))
            }
        }
    }

    fn remove_some(&mut self, rank: usize, count_max: usize, removed: &mut impl FnMut(Item<M>)) -> usize {
        match self {
            Node::Leaf(items) => {
                let end = items.len().min(rank.saturating_add(count_max));
                items.drain(rank..end).for_each(removed);
                give_back(items);
                end - rank
            }
            Node::Inner(slots) => {
                let (child, rank) = child_at(slots, rank);
                let slot = &mut slots[child];
                let count = slot.node.remove_some(rank, count_max, removed);
                slot.len -= count;
                if slot.len == 0 {
                    slots.remove(child);
                    give_back(slots);
                } else {
                    slot.first = slot.node.first();
                    if slot.node.width() < slot.node.width_max() / SMALL_PART {
                        merge_child(slots, child);
                    }
                }
                count
            }
        }
    }

    /// How many items or slots the node itself has.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(slots) => slots.len(),
        }
    }

    fn width_max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_LEN_MAX,
            Node::Inner(_) => INNER_LEN_MAX,
        }
    }

    fn usable_bytes(&self) -> usize {
        match self {
            Node::Leaf(items) if items.capacity() == 0 => 0,
            Node::Leaf(items) => allocation_size(items.capacity() * size_of::<Item<M>>()),
            Node::Inner(slots) => {
                let own = allocation_size(slots.capacity() * size_of::<Slot<M>>());
                own + slots.iter().map(|slot| slot.node.usable_bytes()).sum::<usize>()
            }
        }
    }

    /// The number of items below, and the depth.
    #[cfg(test)]
    fn assert_consistent(&self, is_root: bool) -> (usize, usize) {
        assert!(self.width() <= self.width_max());
        match self {
            Node::Leaf(items) => {
                assert!(is_root || !items.is_empty());
                (items.len(), 0)
            }
            Node::Inner(slots) => {
                assert!(slots.len() >= if is_root { 2 } else { 1 });
                let mut depths = Vec::new();
                for slot in slots {
                    let (len, depth) = slot.node.assert_consistent(false);
                    assert_eq!(len, slot.len);
                    let (copy, first) = (slot.first, slot.node.first());
                    assert!(copy.score.to_bits() == first.score.to_bits());
                    assert_eq!(copy.member.as_ref(), first.member.as_ref());
                    depths.push(depth);
                }
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                (slots.iter().map(|slot| slot.len).sum(), depths[0] + 1)
            }
        }
    }
}

/// Puts a child together with a neighbour, if that leaves some room in the node they make.
fn merge_child<M: Copy + AsRef<[u8]>>(slots: &mut Vec<Slot<M>>, child: usize) {
    let room = |left: usize| {
        let (left, right) = (&slots[left].node, &slots[left + 1].node);
        left.width() + right.width() <= left.width_max() * 3 / 4
    };
    let before = child.checked_sub(1).filter(|&left| room(left));
    let behind = Some(child).filter(|&left| left + 1 < slots.len() && room(left));
    let Some(left) = before.or(behind) else { return };
    let right = slots.remove(left + 1);
    let slot = &mut slots[left];
    slot.len += right.len;
    match (&mut slot.node, right.node) {
        (Node::Leaf(left), Node::Leaf(right)) => append(left, right),
        (Node::Inner(left), Node::Inner(right)) => append(left, right),
        _ => unreachable!("all leaves are equally deep"),
    }
    give_back(slots);
}

/// Puts an element where it belongs. If there is no room, the second part is split off and returned.
fn put_or_split<T>(all: &mut Vec<T>, at: usize, element: T, len_max: usize, is_last: bool) -> Option<Vec<T>> {
    if all.len() < len_max {
        put(all, at, element);
        return None;
    }
    let cut = if is_last && at == len_max { len_max } else { len_max / 2 };
    let mut right = Vec::with_capacity(fitting::<T>((len_max - cut).max(1)));
    right.extend(all.drain(cut..));
    if at < cut {
        put(all, at, element);
    } else {
        put(&mut right, at - cut, element);
    }
    give_back(all);
    Some(right)
}

/// Inserts; room grows by a size class.
fn put<T>(all: &mut Vec<T>, at: usize, element: T) {
    if all.len() == all.capacity() {
        all.reserve_exact(fitting::<T>(all.len() + 1) - all.len());
    }
    all.insert(at, element);
}

fn append<T>(left: &mut Vec<T>, right: Vec<T>) {
    let len = left.len() + right.len();
    if len > left.capacity() {
        left.reserve_exact(fitting::<T>(len) - left.len());
    }
    left.extend(right);
}

/// Frees room that more than a few insertions would have to fill.
fn give_back<T>(all: &mut Vec<T>) {
    let enough = fitting::<T>(all.len() + all.len() / 8 + 1);
    if all.capacity() > enough {
        all.shrink_to(enough);
    }
}

/// How many elements the size class has room for that holds `len`.
fn fitting<T>(len: usize) -> usize {
    allocation_size(len * size_of::<T>()) / size_of::<T>()
}

/// Items by rank, from both ends.
pub struct Iter<'a, M> {
    tree: &'a Tree<M>,
    /// The leaf of the last item, and the rank of its first.
    leaf: &'a [Item<M>],
    leaf_rank: usize,
    ranks: Range<usize>,
}

impl<'a, M: Copy + AsRef<[u8]>> Iter<'a, M> {
    fn item(&mut self, rank: usize) -> &'a Item<M> {
        if rank < self.leaf_rank || rank >= self.leaf_rank + self.leaf.len() {
            let (leaf, first) = self.tree.leaf_at(rank);
            (self.leaf, self.leaf_rank) = (leaf, first);
        }
        &self.leaf[rank - self.leaf_rank]
    }
}

impl<'a, M: Copy + AsRef<[u8]>> Iterator for Iter<'a, M> {
    type Item = &'a Item<M>;

    fn next(&mut self) -> Option<&'a Item<M>> {
        let rank = self.ranks.next()?;
        Some(self.item(rank))
    }
}

impl<'a, M: Copy + AsRef<[u8]>> DoubleEndedIterator for Iter<'a, M> {
    fn next_back(&mut self) -> Option<&'a Item<M>> {
        let rank = self.ranks.next_back()?;
        Some(self.item(rank))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A safe member: its own bytes.
    type Member = [u8; 2];

    fn item((score, member): (i16, u16)) -> Item<Member> {
        Item { score: f64::from(score), member: member.to_be_bytes() }
    }

    fn compare_with(model: &BTreeSet<(i16, u16)>, tree: &Tree<Member>) {
        tree.assert_consistent();
        let found: Vec<_> = tree.range(0..tree.len()).map(|item| (item.score, item.member)).collect();
        let wanted: Vec<_> = model.iter().map(|&key| (item(key).score, item(key).member)).collect();
        assert_eq!(found, wanted);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(i16, u16),
        Rescore(usize, i16),
        Remove(usize, usize),
    }

    fn steps(insertions: u32) -> impl Strategy<Value = Vec<Step>> {
        let insert = (-20..20_i16, 0..500_u16).prop_map(|(score, member)| Step::Insert(score, member));
        let rescore = (any::<usize>(), -20..20_i16).prop_map(|(rank, score)| Step::Rescore(rank, score));
        let remove = (any::<usize>(), 1..100_usize).prop_map(|(rank, count)| Step::Remove(rank, count));
        proptest::collection::vec(prop_oneof![insertions => insert, insertions => rescore, 1 => remove], 0..3000)
    }

    fn run(steps: Vec<Step>) {
        let (mut model, mut tree) = (BTreeSet::new(), Tree::new());
        for step in steps {
            match step {
                Step::Insert(score, member) => {
                    if model.insert((score, member)) {
                        tree.insert(item((score, member)));
                    }
                }
                Step::Remove(rank, count) if tree.len() > 0 => {
                    let rank = rank % tree.len();
                    let mut removed = Vec::new();
                    let count = tree.remove_some(rank, count, |item| removed.push(item.member));
                    let keys: Vec<_> = model.iter().skip(rank).take(count).copied().collect();
                    assert_eq!(removed, keys.iter().map(|&key| item(key).member).collect::<Vec<_>>());
                    keys.iter().for_each(|key| assert!(model.remove(key)));
                }
                Step::Rescore(rank, score) if tree.len() > 0 => {
                    let rank = rank % tree.len();
                    let (old, member) = *model.iter().nth(rank).expect("as many as in the tree");
                    // The same member may stand there with several scores.
                    if !model.contains(&(score, member)) && tree.rescore(rank, f64::from(score)) {
                        model.remove(&(old, member));
                        model.insert((score, member));
                    }
                }
                Step::Remove(..) | Step::Rescore(..) => {}
            }
        }
        compare_with(&model, &tree);
        for (rank, &(score, member)) in model.iter().enumerate() {
            let wanted = item((score, member));
            assert_eq!(tree.partition_point(|item| item.is_before(wanted.score, &wanted.member)), rank);
        }
        for score in -21..=21 {
            let below = model.iter().filter(|key| key.0 < score).count();
            assert_eq!(tree.partition_point(|item| item.score < f64::from(score)), below);
        }
        let back: Vec<_> = tree.range(0..tree.len()).rev().map(|item| item.member).collect();
        assert_eq!(back, model.iter().rev().map(|&key| item(key).member).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn equals_an_ordered_set(steps in prop_oneof![steps(30), steps(3)]) {
            run(steps);
        }
    }

    #[test]
    fn grows_and_empties_in_any_order() {
        for descending in [false, true] {
            let (mut model, mut tree) = (BTreeSet::new(), Tree::new());
            for n in 0..20_000_u16 {
                let key = (0, if descending { u16::MAX - n } else { n });
                model.insert(key);
                tree.insert(item(key));
            }
            compare_with(&model, &tree);
            let bytes = tree.usable_bytes(0);
            assert!(bytes < 20_000 * 20, "{bytes} bytes");
            assert!(bytes.abs_diff(tree.usable_bytes(10)) < bytes / 4);
            while tree.len() > 0 {
                tree.remove_some(tree.len() / 2, 3, |_| {});
                if tree.len().is_multiple_of(997) {
                    tree.assert_consistent();
                }
            }
            assert_eq!(tree.usable_bytes(0), tree.usable_bytes(10));
        }
    }
}
