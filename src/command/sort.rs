//! SORT and SORT_RO: the elements of a list, set or sorted set in order of themselves or of other keys' values.
//!
//! BY and GET patterns name keys by an element put in the place of the first `*`, and a field of a hash behind `->`.
//! Over several shards these keys are fetched first (`Spec::reaches`, `engine/gather.rs`); here all lie together.
//! Elements of equal weight are ordered by their bytes, so that the result depends on the data alone.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::KeyRow;
use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use super::events::Class;
use super::spec::*;
use crate::base::number::parse_f64;
use crate::data::collection::{Collection, CollectionType};
use crate::data::entry::{EntryRef, ValueRef};
use crate::data::hash::Hash;
use crate::data::list::{End, List};
use crate::data::listpack::Element;
use crate::resp::reply::Reply;

/// What both rows have in common.
const SORT: Spec = Spec {
    group: Group::Generic,
    categories: category::SET.and(category::SORTEDSET).and(category::LIST).and(category::DANGEROUS),
    shape: Gather,
    reaches: Some(sort_reaches),
    complexity: "O(N + M*log(M)) for N elements, M of which are returned; O(N) if they are not sorted.",
    ..Spec::DEFAULT
};

pub const ROWS: &[KeyRow] = &[
    Row {
        run: sort,
        spec: Spec {
            name: "sort",
            arity: AtLeast(2),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RO.and(ACCESS)), REACHED, STORED],
            extract: Some(keys_of_sort),
            since: "1.0.0",
            summary: "Sorts the elements of a list, set or sorted set, and returns them or stores them as a list.",
            args: &[key("key"), BY, LIMIT, GET, ORDER, ALPHA, key("destination").after("STORE").key_spec(2).optional()],
            ..SORT
        },
    },
    Row {
        run: sort_ro,
        spec: Spec {
            name: "sort_ro",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS)), REACHED],
            extract: Some(keys_of_sort_ro),
            since: "7.0.0",
            summary: "Sorts the elements of a list, set or sorted set, and returns them.",
            args: &[key("key"), BY, LIMIT, GET, ORDER, ALPHA],
            ..SORT
        },
    },
];

const REACHED: KeySpec = keys_unknown(RO.and(ACCESS)).notes(
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we \
     sort",
);
const STORED: KeySpec = keys_unknown(OW.and(UPDATE)).notes(
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
);
const BY: Arg = pattern("by-pattern").after("BY").key_spec(1).display("pattern").optional();
const LIMIT: Arg = block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional();
const GET: Arg =
    pattern("get-pattern").after("GET").key_spec(1).display("pattern").optional().multiple().multiple_token();
const ORDER: Arg = one_of("order", &[token("ASC"), token("DESC")]).optional();
const ALPHA: Arg = token("ALPHA").named("sorting").optional();

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE destination]
fn sort(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = Options::parse(args, true)?;
    let rows = sorted(ctx, args.get(1), &options)?;
    let Some(destination) = options.store else {
        write(&rows, reply);
        return Ok(());
    };
    let values: Vec<Vec<u8>> = rows.into_iter().map(Option::unwrap_or_default).collect();
    reply.integer(values.len() as i64);
    let existed = ctx.delete(destination);
    if values.is_empty() {
        if existed {
            ctx.effect(&[b"DEL", destination]);
            ctx.notify(Class::GENERIC, "del", destination);
        }
        return Ok(());
    }
    // The key is not new if it was there.
    let wanted = existed.then(|| ctx.events.mute());
    let stored = store(ctx, destination, &values);
    wanted.into_iter().for_each(|wanted| ctx.events.unmute(wanted));
    stored?;
    let entry = ctx.copy_entry(destination).expect("the list was stored");
    ctx.value_effect(destination, entry.as_ref());
    ctx.notify(Class::LIST, "sortstore", destination);
    Ok(())
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA]
fn sort_ro(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = Options::parse(args, false)?;
    write(&sorted(ctx, args.get(1), &options)?, reply);
    Ok(())
}

fn write(rows: &[Option<Vec<u8>>], reply: &mut Reply) {
    reply.array(rows.len());
    for row in rows {
        match row {
            Some(text) => reply.bulk(text),
            None => reply.null(),
        }
    }
}

struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    offset: i64,
    count: i64,
    descending: bool,
    alphabetic: bool,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, may_store: bool) -> Result<Options<'a>> {
        let mut options = Options {
            by: None,
            get: Vec::new(),
            offset: 0,
            count: -1,
            descending: false,
            alphabetic: false,
            store: None,
        };
        let mut index = 2;
        while index < args.len() {
            let operands = args.len() - index - 1;
            match args.get(index).to_ascii_uppercase().as_slice() {
                b"ASC" => options.descending = false,
                b"DESC" => options.descending = true,
                b"ALPHA" => options.alphabetic = true,
                b"LIMIT" if operands >= 2 => {
                    options.offset = args.integer(index + 1)?;
                    options.count = args.integer(index + 2)?;
                    index += 2;
                }
                b"STORE" if may_store && operands >= 1 => {
                    options.store = Some(args.get(index + 1));
                    index += 1;
                }
                b"BY" if operands >= 1 => {
                    options.by = Some(args.get(index + 1));
                    index += 1;
                }
                b"GET" if operands >= 1 => {
                    options.get.push(args.get(index + 1));
                    index += 1;
                }
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        Ok(options)
    }

    /// The part of `len` elements that LIMIT asks for.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(len)
    }
}

/// What is returned or stored: for each element in order itself, or what each GET makes of it.
fn sorted(ctx: &mut ShardCtx, key: &[u8], options: &Options) -> Result<Vec<Option<Vec<u8>>>> {
    let Some(entry) = ctx.read(key) else { return Ok(Vec::new()) };
    let Elements { is_set, mut elements } = Elements::of(entry)?;
    // A constant: the order stays as it is. The order of a set is anything, which must not be stored, nor decide what a
    // script does.
    let keeps_order = options.by.is_some_and(|by| !by.contains(&b'*'));
    let range = options.range(elements.len());
    if keeps_order && !(is_set && (options.store.is_some() || ctx.in_script)) {
        if options.descending && !is_set {
            elements.reverse();
        }
    } else if keeps_order {
        order(&mut elements, options, Vec::cmp);
    } else if options.alphabetic {
        elements = by_text(ctx, elements, options);
    } else {
        elements = by_number(ctx, elements, options)?;
    }
    let elements = elements.drain(range);
    if options.get.is_empty() {
        return Ok(elements.map(Some).collect());
    }
    let gets: Vec<Pattern> = options.get.iter().map(|pattern| Pattern::parse(pattern)).collect();
    Ok(elements.flat_map(|element| gets.iter().map(|get| get.value(ctx, &element)).collect::<Vec<_>>()).collect())
}

fn order<T>(items: &mut [T], options: &Options, compare: impl Fn(&T, &T) -> Ordering) {
    items.sort_by(|a, b| if options.descending { compare(b, a) } else { compare(a, b) });
}

fn by_text(ctx: &mut ShardCtx, mut elements: Vec<Vec<u8>>, options: &Options) -> Vec<Vec<u8>> {
    let Some(by) = options.by.map(Pattern::parse) else {
        order(&mut elements, options, Vec::cmp);
        return elements;
    };
    // What has no weight comes first.
    let weighted = elements.into_iter().map(|element| (by.value(ctx, &element), element));
    let mut weighted: Vec<(Option<Vec<u8>>, Vec<u8>)> = weighted.collect();
    order(&mut weighted, options, |a, b| a.0.cmp(&b.0));
    weighted.into_iter().map(|(_, element)| element).collect()
}

fn by_number(ctx: &mut ShardCtx, elements: Vec<Vec<u8>>, options: &Options) -> Result<Vec<Vec<u8>>> {
    const NOT_A_WEIGHT: Error = Error::Text("ERR One or more scores can't be converted into double");
    let by = options.by.map(Pattern::parse);
    let mut weighted: Vec<(f64, Vec<u8>)> = Vec::with_capacity(elements.len());
    let mut all_numbers = true;
    for element in elements {
        // What has no weight weighs nothing.
        let weight = match &by {
            Some(by) => by.value(ctx, &element).map_or(Some(0.0), |text| weight(&text)),
            None => weight(&element),
        };
        all_numbers &= weight.is_some();
        weighted.push((weight.unwrap_or(0.0), element));
    }
    if !all_numbers {
        return Err(NOT_A_WEIGHT);
    }
    let compare = |a: &(f64, Vec<u8>), b: &(f64, Vec<u8>)| {
        let by_weight = a.0.partial_cmp(&b.0).expect("a weight is a number");
        by_weight.then_with(|| a.1.cmp(&b.1))
    };
    order(&mut weighted, options, compare);
    Ok(weighted.into_iter().map(|(_, element)| element).collect())
}

/// A number as strtod takes it from a text that holds nothing else: an empty one is 0.
fn weight(text: &[u8]) -> Option<f64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    match text.iter().position(|byte| !is_space(byte)) {
        Some(begin) => parse_f64(&text[begin..]),
        None => text.is_empty().then_some(0.0),
    }
}

/// Of BY and GET.
enum Pattern<'a> {
    /// `#`
    Element,
    /// Without a `*`: there is no such key.
    Nothing,
    /// What stands before and behind the element, and the field of a hash.
    Key { before: &'a [u8], behind: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|&byte| byte == b'*') else { return Pattern::Nothing };
        let (before, behind) = (&text[..star], &text[star + 1..]);
        match behind.windows(2).position(|pair| pair == b"->") {
            Some(arrow) if arrow + 2 < behind.len() => {
                Pattern::Key { before, behind: &behind[..arrow], field: Some(&behind[arrow + 2..]) }
            }
            _ => Pattern::Key { before, behind, field: None },
        }
    }

    fn value(&self, ctx: &mut ShardCtx, element: &[u8]) -> Option<Vec<u8>> {
        let (before, behind, field) = match self {
            Pattern::Element => return Some(element.to_vec()),
            Pattern::Nothing => return None,
            Pattern::Key { before, behind, field } => (before, behind, field),
        };
        let key = [before, element, behind].concat();
        let now_ms = ctx.expiry_ms();
        let value = ctx.read(&key)?.value();
        match (value, field) {
            (ValueRef::Text(text), None) => Some(text.bytes(&mut itoa::Buffer::new()).to_vec()),
            (ValueRef::Collection(collection), Some(field)) => {
                Hash::of(collection)?.get(field, now_ms).map(Element::to_vec)
            }
            _ => None,
        }
    }
}

/// What there is to sort.
struct Elements {
    is_set: bool,
    elements: Vec<Vec<u8>>,
}

impl Elements {
    fn of(entry: EntryRef<'_>) -> Result<Elements> {
        let ValueRef::Collection(collection) = entry.value() else { return Err(Error::WrongType) };
        let elements = match collection {
            Collection::List(list) => {
                let mut elements = Vec::with_capacity(list.len());
                list.walk(End::Head, 0, |element| {
                    elements.push(element.to_vec());
                    true
                });
                elements
            }
            Collection::Set(set) => set.members().map(Element::to_vec).collect(),
            Collection::Zset(zset) => zset.iter().map(|(member, _)| member.to_vec()).collect(),
            Collection::Hash(_) | Collection::Stream(_) => return Err(Error::WrongType),
        };
        Ok(Elements { is_set: matches!(collection, Collection::Set(_)), elements })
    }
}

/// Makes a key that does not exist a list.
fn store(ctx: &mut ShardCtx, key: &[u8], values: &[Vec<u8>]) -> Result {
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    ctx.change_or_create::<List, _>(key, |list, env| list.push(End::Tail, &values, env))
}
