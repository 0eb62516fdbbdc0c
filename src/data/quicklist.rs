//! A quicklist: a long list as a deque of nodes, each a listpack of many elements or one large element.
//!
//! How much a node holds is `list-max-listpack-size` ([`Fill`]), bytes or elements. Where nodes are split and merged
//! follows Redis, so that DUMP and DEBUG OBJECT show the same nodes. With `list-compress-depth` all nodes but that many
//! at each end are kept as LZF while nothing changes in them; a reader unpacks a copy.
//!
//! An index is found by skipping whole nodes from the nearer end, which reads 32 bytes for about 450 elements of 16
//! bytes. A quicklist keeps the fill and depth that it was made with, as in Redis.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::listpack::{At, Element, Listpack};
use super::size_class::{allocation_size, arc_size};
use crate::base::lzf;

/// Room that Redis reckons with for an element's own header, so as never to exceed a node's size.
const ELEMENT_OVERHEAD_MAX: usize = 8;
/// What a listpack has besides its elements: two become one with so much less.
const LISTPACK_OVERHEAD: usize = 7;
/// Elements are bounded by bytes even where the fill counts them.
const COUNTED_BYTES_MAX: usize = 8192;
/// No node becomes larger by LSET, and no element that is larger is packed with others, whatever the thresholds say.
const NODE_BYTES_MAX: usize = 1 << 30;
/// Smaller nodes are not worth compressing, nor larger ones that would shrink by less than so many bytes.
const COMPRESS_BYTES_MIN: usize = 48;
const COMPRESS_GAIN_MIN: usize = 8;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

/// How much a node may hold, as `list-max-listpack-size` says it: so many elements, or from -1 to -5 so many KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill(pub i32);

impl Fill {
    const NODE_BYTES_MAX: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

    /// Most bytes and most elements.
    pub fn limits(self) -> (usize, usize) {
        match usize::try_from(self.0) {
            Ok(elements) => (usize::MAX, elements.max(1)),
            Err(_) => (self.bytes_max(), usize::MAX),
        }
    }

    /// Is this more than a node may hold?
    pub fn is_exceeded(self, bytes: usize, elements: usize) -> bool {
        bytes > self.bytes_max() || elements > self.limits().1
    }

    /// Does an element of this length have a node of its own?
    fn is_large(self, len: usize, packed_threshold: usize) -> bool {
        match packed_threshold {
            0 => len > self.bytes_max(),
            threshold => len >= threshold.min(NODE_BYTES_MAX),
        }
    }

    fn bytes_max(self) -> usize {
        match self.0 {
            0.. => COUNTED_BYTES_MAX,
            -5..0 => Fill::NODE_BYTES_MAX[-(self.0 + 1) as usize],
            _ => Fill::NODE_BYTES_MAX[4],
        }
    }
}

/// What a node holds. A file that is being written may share it; then it is copied before it changes.
#[derive(Clone, Debug)]
enum Data {
    Packed(Arc<Listpack>),
    Plain(Arc<Box<[u8]>>),
    PackedLzf(Arc<Box<[u8]>>),
    PlainLzf(Arc<Box<[u8]>>),
}

#[derive(Clone, Debug)]
struct Node {
    data: Data,
    /// Number of elements, never 0.
    count: u32,
    /// Of a compressed node: its bytes otherwise.
    unpacked_bytes: u32,
}

const _: () = assert!(size_of::<Node>() == 24);

/// A node as RDB files hold it.
pub enum Saved<'a> {
    Packed(&'a Arc<Listpack>),
    Plain(&'a Arc<Box<[u8]>>),
    PackedLzf(&'a Arc<Box<[u8]>>, usize),
    PlainLzf(&'a Arc<Box<[u8]>>, usize),
}

impl Saved<'_> {
    pub fn is_plain(&self) -> bool {
        matches!(self, Saved::Plain(_) | Saved::PlainLzf(..))
    }
}

/// What a reader finds in a node.
enum Unpacked<'a> {
    Packed(Cow<'a, Listpack>),
    Plain(Cow<'a, [u8]>),
}

impl Node {
    fn of(text: &[u8], is_large: bool) -> Node {
        if is_large {
            return Node { data: Data::Plain(Arc::new(text.into())), count: 1, unpacked_bytes: 0 };
        }
        let mut listpack = Listpack::new();
        listpack.push(text);
        Node { data: Data::Packed(Arc::new(listpack)), count: 1, unpacked_bytes: 0 }
    }

    fn of_listpack(listpack: Listpack) -> Node {
        let count = u32::try_from(listpack.len()).expect("a listpack is below 2 GiB");
        Node { data: Data::Packed(Arc::new(listpack)), count, unpacked_bytes: 0 }
    }

    fn len(&self) -> usize {
        self.count as usize
    }

    fn is_plain(&self) -> bool {
        matches!(self.data, Data::Plain(_) | Data::PlainLzf(_))
    }

    /// Without compression.
    fn bytes(&self) -> usize {
        match &self.data {
            Data::Packed(listpack) => listpack.bytes().len(),
            Data::Plain(text) => text.len(),
            Data::PackedLzf(_) | Data::PlainLzf(_) => self.unpacked_bytes as usize,
        }
    }

    fn usable_bytes(&self) -> usize {
        match &self.data {
            Data::Packed(listpack) => Listpack::SHARED_USABLE_BYTES + listpack.usable_bytes(),
            Data::Plain(bytes) | Data::PackedLzf(bytes) | Data::PlainLzf(bytes) => {
                arc_size(size_of::<Box<[u8]>>()) + allocation_size(bytes.len())
            }
        }
    }

    fn unpacked(&self) -> Unpacked<'_> {
        match &self.data {
            Data::Packed(listpack) => Unpacked::Packed(Cow::Borrowed(listpack)),
            Data::Plain(text) => Unpacked::Plain(Cow::Borrowed(text)),
            Data::PackedLzf(lzf) => Unpacked::Packed(Cow::Owned(Listpack::from_own_bytes(self.decompressed(lzf)))),
            Data::PlainLzf(lzf) => Unpacked::Plain(Cow::Owned(self.decompressed(lzf))),
        }
    }

    fn decompressed(&self, lzf: &[u8]) -> Vec<u8> {
        lzf::decompress(lzf, self.unpacked_bytes as usize).expect("compressed here")
    }

    fn compress(&mut self) {
        let (bytes, is_plain) = match &self.data {
            Data::Packed(listpack) => (listpack.bytes(), false),
            Data::Plain(text) => (&text[..], true),
            Data::PackedLzf(_) | Data::PlainLzf(_) => return,
        };
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        if bytes.len() < COMPRESS_BYTES_MIN {
            return;
        }
        if let Some(lzf) = lzf::compress(bytes, bytes.len() - COMPRESS_GAIN_MIN - 1) {
            let lzf = Arc::new(lzf.into_boxed_slice());
            self.data = if is_plain { Data::PlainLzf(lzf) } else { Data::PackedLzf(lzf) };
            self.unpacked_bytes = len;
        }
    }

    fn decompress(&mut self) {
        match &self.data {
            Data::Packed(_) | Data::Plain(_) => {}
            Data::PackedLzf(lzf) => {
                self.data = Data::Packed(Arc::new(Listpack::from_own_bytes(self.decompressed(lzf))))
            }
            Data::PlainLzf(lzf) => self.data = Data::Plain(Arc::new(self.decompressed(lzf).into_boxed_slice())),
        }
    }

    /// The listpack, to be changed: the caller keeps count.
    fn listpack_mut(&mut self) -> &mut Listpack {
        self.decompress();
        match &mut self.data {
            Data::Packed(listpack) => Arc::make_mut(listpack),
            _ => panic!("the node of one large element"),
        }
    }

    fn allows_insert(&self, len: usize, fill: Fill, packed_threshold: usize) -> bool {
        let fits = || !fill.is_exceeded(self.bytes() + len + ELEMENT_OVERHEAD_MAX, self.len() + 1);
        !self.is_plain() && !fill.is_large(len, packed_threshold) && fits()
    }

    fn push(&mut self, end: End, text: &[u8]) {
        self.count += 1;
        push(self.listpack_mut(), end, text);
    }

    /// Removes `count` elements, fewer than there are, from an end.
    fn remove_from(&mut self, end: End, count: usize) {
        self.count -= count as u32;
        remove_from(self.listpack_mut(), end, count);
    }

    /// Visits elements from `skip` steps before `end` on, until `visit` returns false; whether it never did.
    fn walk<F: FnMut(Element<'_>) -> bool>(&self, end: End, skip: usize, visit: &mut F) -> bool {
        match self.unpacked() {
            Unpacked::Packed(listpack) => walk(&listpack, end, skip, visit),
            Unpacked::Plain(text) => visit(Element::Text(&text)),
        }
    }
}

/// Adds an element at an end of a listpack.
pub fn push(listpack: &mut Listpack, end: End, text: &[u8]) {
    match end {
        End::Head => listpack.push_front(text),
        End::Tail => listpack.push(text),
    }
}

/// Removes up to `count` elements from an end of a listpack.
pub fn remove_from(listpack: &mut Listpack, end: End, count: usize) {
    let count = count.min(listpack.len());
    let from = match end {
        End::Head => listpack.first(),
        End::Tail => listpack.at_index(-(count as i64)),
    };
    if let Some(from) = from.filter(|_| count > 0) {
        listpack.remove_some(from, count);
    }
}

/// Visits the elements of a listpack from `skip` steps before `end` on, until `visit` returns false; whether it never
/// did.
pub fn walk<F: FnMut(Element<'_>) -> bool>(listpack: &Listpack, end: End, skip: usize, visit: &mut F) -> bool {
    let (mut at, next): (_, fn(&Listpack, At) -> Option<At>) = match end {
        End::Head => (listpack.at_index(skip as i64), Listpack::next),
        End::Tail => (listpack.at_index(-(skip as i64) - 1), Listpack::previous),
    };
    while let Some(here) = at {
        if !visit(listpack.get(here)) {
            return false;
        }
        at = next(listpack, here);
    }
    true
}

/// Does an element equal this text?
pub fn is_equal(element: Element<'_>, text: &[u8], as_element: Element<'_>) -> bool {
    match element {
        Element::Int(_) => element == as_element,
        Element::Text(held) => held == text,
    }
}

/// Removes up to `count_max` elements equal to `text` from a listpack, beginning at an end; how many.
pub fn remove_equal(listpack: &mut Listpack, end: End, text: &[u8], count_max: usize) -> usize {
    let as_element = Element::of(text);
    let mut removed = 0;
    let mut at = match end {
        End::Head => listpack.first(),
        End::Tail => listpack.last(),
    };
    while let Some(here) = at.filter(|_| removed < count_max) {
        let is_match = is_equal(listpack.get(here), text, as_element);
        let before = if end == End::Tail { listpack.previous(here) } else { None };
        let after = if is_match {
            removed += 1;
            listpack.remove(here)
        } else if end == End::Head {
            listpack.next(here)
        } else {
            None
        };
        at = if end == End::Head { after } else { before };
    }
    removed
}

#[derive(Clone, Debug)]
pub struct Quicklist {
    nodes: VecDeque<Node>,
    len: usize,
    fill: Fill,
    /// Nodes at each end that are never compressed; 0: none ever is.
    depth: usize,
}

impl Quicklist {
    pub fn new(fill: i32, depth: u32) -> Quicklist {
        let fill = Fill(fill.clamp(-5, i32::from(i16::MAX)));
        Quicklist { nodes: VecDeque::new(), len: 0, fill, depth: depth.min(u32::from(u16::MAX)) as usize }
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn fill(&self) -> Fill {
        self.fill
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The bytes of all nodes as they are without compression.
    pub fn unpacked_bytes(&self) -> usize {
        self.nodes.iter().map(Node::bytes).sum()
    }

    /// All elements at or behind the `skip`-th from an end, until `visit` returns false.
    pub fn walk<F: FnMut(Element<'_>) -> bool>(&self, end: End, skip: usize, mut visit: F) {
        if skip >= self.len {
            return;
        }
        // In the order of the walk.
        match end {
            End::Head => {
                let (node, offset) = self.locate(skip);
                let mut offset = Some(offset);
                let _ = self.nodes.range(node..).all(|node| node.walk(end, offset.take().unwrap_or(0), &mut visit));
            }
            End::Tail => {
                let (last, offset) = self.locate(self.len - 1 - skip);
                let mut skip = Some(self.nodes[last].len() - 1 - offset);
                let nodes = self.nodes.range(..=last).rev();
                let _ = { nodes }.all(|node| node.walk(end, skip.take().unwrap_or(0), &mut visit));
            }
        }
    }

    /// The node of an index below the length, and the place in it.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index < self.len / 2 {
            let mut offset = index;
            for (at, node) in self.nodes.iter().enumerate() {
                if offset < node.len() {
                    return (at, offset);
                }
                offset -= node.len();
            }
        } else {
            let mut before = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                before -= node.len();
                if index >= before {
                    return (at, index - before);
                }
            }
        }
        panic!("index {index} of {}", self.len)
    }

    pub fn push(&mut self, end: End, text: &[u8], packed_threshold: usize) {
        let (fill, len) = (self.fill, text.len());
        let node = match end {
            End::Head => self.nodes.front_mut(),
            End::Tail => self.nodes.back_mut(),
        };
        self.len += 1;
        match node {
            Some(node) if node.allows_insert(len, fill, packed_threshold) => node.push(end, text),
            _ => self.push_node(end, Node::of(text, fill.is_large(len, packed_threshold))),
        }
    }

    /// Adds all of a listpack, as a node of its own.
    pub fn push_listpack(&mut self, listpack: Listpack) {
        if !listpack.is_empty() {
            let node = Node::of_listpack(listpack);
            self.len += node.len();
            self.push_node(End::Tail, node);
        }
    }

    /// Adds an element as a node of its own.
    pub fn push_plain(&mut self, text: &[u8]) {
        self.len += 1;
        self.push_node(End::Tail, Node::of(text, true));
    }

    fn push_node(&mut self, end: End, node: Node) {
        match end {
            End::Head => self.nodes.push_front(node),
            End::Tail => self.nodes.push_back(node),
        }
        self.settle_ends(1);
    }

    /// Removes up to `count` elements from an end.
    pub fn remove_from(&mut self, end: End, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        let nodes = self.nodes.len();
        while left > 0 {
            let node = match end {
                End::Head => self.nodes.front_mut(),
                End::Tail => self.nodes.back_mut(),
            };
            let node = node.expect("the length counts the elements of all nodes");
            if left < node.len() {
                node.remove_from(end, left);
                break;
            }
            left -= node.len();
            match end {
                End::Head => self.nodes.pop_front(),
                End::Tail => self.nodes.pop_back(),
            };
        }
        if self.nodes.len() < nodes {
            self.after_removal();
        }
    }

    /// Replaces the element at an index below the length.
    pub fn set(&mut self, index: usize, text: &[u8], packed_threshold: usize) {
        let (mut at, offset) = self.locate(index);
        let is_large = self.fill.is_large(text.len(), packed_threshold);
        let node = &mut self.nodes[at];
        if node.is_plain() {
            if is_large {
                *node = Node::of(text, true);
                return self.settle(at);
            }
            self.insert_at(at, 0, true, text, packed_threshold);
            self.len -= 1;
            self.nodes.remove(at);
            return self.after_removal();
        }
        if !is_large && node.bytes() + text.len() + ELEMENT_OVERHEAD_MAX <= NODE_BYTES_MAX {
            let listpack = node.listpack_mut();
            let place = listpack.at_index(offset as i64).expect("the offset is below the node's length");
            listpack.replace(place, text);
            return self.settle(at);
        }
        // A node of its own, between what stood before and behind the old element.
        if offset + 1 < node.len() {
            self.split(at, offset + 1);
        }
        self.nodes.insert(at + 1, Node::of(text, is_large));
        let node = &mut self.nodes[at];
        if node.len() == 1 {
            self.nodes.remove(at);
        } else {
            node.remove_from(End::Tail, 1);
            at += 1;
            at = self.merge_around(at);
        }
        self.settle_around(at);
        self.settle_ends(2);
    }

    /// Inserts before or behind the element at an index below the length.
    pub fn insert(&mut self, index: usize, after: bool, text: &[u8], packed_threshold: usize) {
        let (at, offset) = self.locate(index);
        self.insert_at(at, offset, after, text, packed_threshold);
    }

    fn insert_at(&mut self, at: usize, offset: usize, after: bool, text: &[u8], packed_threshold: usize) {
        let (fill, len) = (self.fill, text.len());
        let node = &mut self.nodes[at];
        self.len += 1;
        let is_at_edge = if after { offset + 1 == node.len() } else { offset == 0 };
        let beside = if after { at + 1 } else { at };
        if node.allows_insert(len, fill, packed_threshold) {
            node.count += 1;
            let listpack = node.listpack_mut();
            let place = listpack.at_index(offset as i64).expect("the offset is below the node's length");
            if after {
                listpack.insert_after(place, text);
            } else {
                listpack.insert_before(place, text);
            }
            return self.settle(at);
        }
        if is_at_edge {
            let neighbour = if after { Some(at + 1).filter(|&at| at < self.nodes.len()) } else { at.checked_sub(1) };
            if let Some(neighbour) = neighbour
                && self.nodes[neighbour].allows_insert(len, fill, packed_threshold)
            {
                self.nodes[neighbour].push(if after { End::Head } else { End::Tail }, text);
                return self.settle(neighbour);
            }
            self.nodes.insert(beside, Node::of(text, fill.is_large(len, packed_threshold)));
            self.settle_around(beside);
            return self.settle_ends(1);
        }
        // In the middle of a full node, which is not a plain one: that has no middle.
        self.split(at, offset + usize::from(after));
        let centre = if fill.is_large(len, packed_threshold) {
            self.nodes.insert(at + 1, Node::of(text, true));
            at + 1
        } else if after {
            self.nodes[at + 1].push(End::Head, text);
            self.merge_around(at)
        } else {
            self.nodes[at].push(End::Tail, text);
            self.merge_around(at + 1)
        };
        self.settle_around(centre);
        self.settle_ends(2);
    }

    /// Removes up to `count_max` elements equal to `text`, beginning at an end; how many.
    pub fn remove_equal(&mut self, end: End, text: &[u8], count_max: usize) -> usize {
        let as_element = Element::of(text);
        let mut removed = 0;
        let mut any_gone = false;
        for step in 0..self.nodes.len() {
            if removed == count_max {
                break;
            }
            let at = if end == End::Head { step } else { self.nodes.len() - 1 - step };
            let node = &mut self.nodes[at];
            // A compressed node is unpacked for good only if it changes.
            let mut is_here = false;
            node.walk(End::Head, 0, &mut |element| {
                is_here = is_equal(element, text, as_element);
                !is_here
            });
            if !is_here {
                continue;
            }
            let count = match node.is_plain() {
                true => 1,
                false => remove_equal(node.listpack_mut(), end, text, count_max - removed),
            };
            node.count -= count as u32;
            any_gone |= node.count == 0;
            removed += count;
            self.settle(at);
        }
        self.len -= removed;
        if any_gone {
            self.nodes.retain(|node| node.count > 0);
            self.after_removal();
        }
        removed
    }

    /// Makes two nodes of one: the first keeps `keep` elements, fewer than there are.
    fn split(&mut self, at: usize, keep: usize) {
        let node = &mut self.nodes[at];
        let count = node.len() - keep;
        let listpack = node.listpack_mut();
        let from = listpack.at_index(keep as i64);
        let tail: Listpack = {
            let mut digits = super::listpack::Digits::new();
            let mut tail = Listpack::new();
            listpack.walk(from).for_each(|(_, element)| tail.push(element.text(&mut digits)));
            tail
        };
        node.remove_from(End::Tail, count);
        self.nodes.insert(at + 1, Node::of_listpack(tail));
    }

    /// Joins nodes around one with which something happened, where their contents fit into one; where it is then.
    fn merge_around(&mut self, centre: usize) -> usize {
        let mut centre = centre;
        if centre >= 2 && self.merge(centre - 2) {
            centre -= 1;
        }
        self.merge(centre + 1);
        if centre >= 1 && self.merge(centre - 1) {
            centre -= 1;
        }
        self.merge(centre);
        centre
    }

    /// Joins a node and the next one, if there are such and their contents fit into one.
    fn merge(&mut self, at: usize) -> bool {
        let (Some(one), Some(other)) = (self.nodes.get(at), self.nodes.get(at + 1)) else { return false };
        if one.is_plain() || other.is_plain() {
            return false;
        }
        let bytes = one.bytes() + other.bytes() - LISTPACK_OVERHEAD;
        if self.fill.is_exceeded(bytes, one.len() + other.len()) {
            return false;
        }
        let other = self.nodes.remove(at + 1).expect("it was looked at");
        let one = &mut self.nodes[at];
        let mut digits = super::listpack::Digits::new();
        other.walk(End::Head, 0, &mut |element| {
            one.push(End::Tail, element.text(&mut digits));
            true
        });
        true
    }

    fn after_removal(&mut self) {
        /// A deque that was much longer gives its room back.
        const SPARE_NODES_MAX: usize = 64;
        if self.nodes.capacity() > SPARE_NODES_MAX && self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to(2 * self.nodes.len());
        }
        self.settle_ends(0);
    }

    /// Unpacks the nodes that have come near the ends, and compresses those that have left them because up to `added`
    /// nodes were put in.
    fn settle_ends(&mut self, added: usize) {
        if self.depth == 0 {
            return;
        }
        let len = self.nodes.len();
        for step in 0..self.depth.min(len) {
            self.nodes[step].decompress();
            self.nodes[len - 1 - step].decompress();
        }
        for step in self.depth..(self.depth + added).min(len.saturating_sub(self.depth)) {
            self.nodes[step].compress();
            self.nodes[len - 1 - step].compress();
        }
    }

    fn settle_around(&mut self, at: usize) {
        for at in at.saturating_sub(1)..(at + 2).min(self.nodes.len()) {
            self.settle(at);
        }
    }

    /// Compresses a node, unless it is near an end.
    fn settle(&mut self, at: usize) {
        if self.depth > 0 && at >= self.depth && at + self.depth < self.nodes.len() {
            self.nodes[at].compress();
        }
    }

    /// The only node, if it is a listpack within these limits.
    pub fn take_only(&mut self, bytes_max: usize, elements_max: usize) -> Option<Listpack> {
        let [node] = self.nodes.make_contiguous() else { return None };
        if node.is_plain() || node.bytes() > bytes_max || node.len() > elements_max {
            return None;
        }
        self.len = 0;
        Some(std::mem::take(node.listpack_mut()))
    }

    pub fn saved(&self) -> impl Iterator<Item = Saved<'_>> {
        self.nodes.iter().map(|node| match &node.data {
            Data::Packed(listpack) => Saved::Packed(listpack),
            Data::Plain(text) => Saved::Plain(text),
            Data::PackedLzf(lzf) => Saved::PackedLzf(lzf, node.bytes()),
            Data::PlainLzf(lzf) => Saved::PlainLzf(lzf, node.bytes()),
        })
    }

    /// What it takes of the allocator with its own struct; nodes by the average of `samples`, or all if that is 0.
    pub fn usable_bytes(&self, samples: usize) -> usize {
        let nodes = self.nodes.len();
        let of_nodes = match samples {
            0 => self.nodes.iter().map(Node::usable_bytes).sum(),
            _ if nodes == 0 => 0,
            _ => {
                let samples = samples.min(nodes);
                self.nodes.range(..samples).map(Node::usable_bytes).sum::<usize>() * nodes / samples
            }
        };
        allocation_size(size_of::<Quicklist>()) + allocation_size(self.nodes.capacity() * size_of::<Node>()) + of_nodes
    }

    /// Frees up to `nodes_max` nodes; true when none is left.
    pub fn free_slice(&mut self, nodes_max: usize) -> bool {
        self.nodes.truncate(self.nodes.len().saturating_sub(nodes_max));
        self.nodes.is_empty()
    }

    /// What holds between changes.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.len, self.nodes.iter().map(Node::len).sum::<usize>());
        for (at, node) in self.nodes.iter().enumerate() {
            let is_inner = self.depth > 0 && at >= self.depth && at + self.depth < self.nodes.len();
            let is_compressed = matches!(node.data, Data::PackedLzf(_) | Data::PlainLzf(_));
            let mut twin = node.clone();
            twin.compress();
            let can_be = matches!(twin.data, Data::PackedLzf(_) | Data::PlainLzf(_));
            assert_eq!(is_compressed, is_inner && can_be, "node {at} of {}", self.nodes.len());
            let mut count = 0;
            node.walk(End::Head, 0, &mut |_| {
                count += 1;
                true
            });
            assert!(count > 0 && count == node.len());
        }
    }
}
