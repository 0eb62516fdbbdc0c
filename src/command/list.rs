//! Commands on lists; those that wait are in a file of their own.
//!
//! What pops stands in functions of its own ([`pop_one`], [`pop_some_of_first`], [`move_element`]), which tell whether
//! there was anything: a blocking command calls the same one, first at once and then when a key has something. Effects
//! name one key each: LMOVE is a pop and a push, as its two keys may live apart.

pub mod blocking;

use super::KeyFn;
use super::args::{Args, number_of, signed_count};
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use super::events::Class;
use super::spec::*;
use crate::data::list::{End, List};
use crate::data::listpack::{Digits, Element};
use crate::data::quicklist::is_equal;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const LIST: Spec = Spec { group: Group::List, categories: category::LIST, shape: OneShard, ..Spec::DEFAULT };

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: lindex,
        spec: Spec {
            name: "lindex",
            arity: Exactly(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of nodes between the index and the nearer end; O(1) at both ends.",
            summary: "Reads the element at an index.",
            args: &[key("key"), integer("index")],
            ..LIST
        },
    },
    Row {
        run: linsert,
        spec: Spec {
            name: "linsert",
            arity: Exactly(5),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.2.0",
            complexity: "O(N) where N is the number of elements before the pivot.",
            summary: "Puts an element in front of the first one of a certain value, or behind it.",
            args: &[
                key("key"),
                one_of("where", &[token("BEFORE"), token("AFTER")]),
                string("pivot"),
                string("element"),
            ],
            ..LIST
        },
    },
    Row {
        run: llen,
        spec: Spec {
            name: "llen",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO)],
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Counts the elements of a list.",
            args: &[key("key")],
            ..LIST
        },
    },
    Row {
        run: lmove,
        spec: Spec {
            name: "lmove",
            arity: Exactly(5),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, RW.and(INSERT))],
            shape: Gather,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Moves an element from an end of one list to an end of another, and returns it.",
            args: &[
                key("source"),
                key("destination").key_spec(1),
                one_of("wherefrom", &[token("LEFT"), token("RIGHT")]),
                one_of("whereto", &[token("LEFT"), token("RIGHT")]),
            ],
            ..LIST
        },
    },
    Row {
        run: lmpop,
        spec: Spec {
            name: "lmpop",
            arity: AtLeast(4),
            flags: WRITE,
            keys: &[keys_counted_at(1, RW.and(ACCESS).and(DELETE))],
            shape: FirstOf,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of keys and M is the number of elements returned.",
            summary: "Removes elements from an end of the first list that has any, and returns them.",
            args: &[
                integer("numkeys"),
                key("key").multiple(),
                one_of("where", &[token("LEFT"), token("RIGHT")]),
                integer("count").after("COUNT").optional(),
            ],
            ..LIST
        },
    },
    Row {
        run: lpop,
        spec: Spec {
            name: "lpop",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned.",
            summary: "Removes the first element of a list, or several, and returns them.",
            args: &[key("key"), integer("count").since("6.2.0").optional()],
            history: &[("6.2.0", "Added the `count` argument.")],
            ..LIST
        },
    },
    Row {
        run: lpos,
        spec: Spec {
            name: "lpos",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.0.6",
            complexity: "O(N) where N is the number of elements that are looked at, at most MAXLEN.",
            summary: "Finds the indexes of elements that equal a value.",
            args: &[
                key("key"),
                string("element"),
                integer("rank").after("RANK").optional(),
                integer("num-matches").after("COUNT").optional(),
                integer("len").after("MAXLEN").optional(),
            ],
            ..LIST
        },
    },
    Row {
        run: lpush,
        spec: Spec {
            name: "lpush",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements added.",
            summary: "Puts elements one by one at the head of a list, which it creates if need be.",
            args: &[key("key"), string("element").multiple()],
            history: &[("2.4.0", "Accepts multiple `element` arguments.")],
            ..LIST
        },
    },
    Row {
        run: lpushx,
        spec: Spec {
            name: "lpushx",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.2.0",
            complexity: "O(N) where N is the number of elements added.",
            summary: "Puts elements one by one at the head of a list that exists.",
            args: &[key("key"), string("element").multiple()],
            history: &[("4.0.0", "Accepts multiple `element` arguments.")],
            ..LIST
        },
    },
    Row {
        run: lrange,
        spec: Spec {
            name: "lrange",
            arity: Exactly(4),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "1.0.0",
            complexity: "O(S+N) where S is the number of nodes between the start and the nearer end, and N the number of \
                elements returned.",
            summary: "Reads the elements between two indexes.",
            args: &[key("key"), integer("start"), integer("stop")],
            ..LIST
        },
    },
    Row {
        run: lrem,
        spec: Spec {
            name: "lrem",
            arity: Exactly(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "1.0.0",
            complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
            summary: "Removes elements that equal a value, from either end on or all of them.",
            args: &[key("key"), integer("count"), string("element")],
            ..LIST
        },
    },
    Row {
        run: lset,
        spec: Spec {
            name: "lset",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(UPDATE))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of nodes between the index and the nearer end; O(1) at both ends.",
            summary: "Replaces the element at an index.",
            args: &[key("key"), integer("index"), string("element")],
            ..LIST
        },
    },
    Row {
        run: ltrim,
        spec: Spec {
            name: "ltrim",
            arity: Exactly(4),
            flags: WRITE,
            keys: &[key_at(1, RW.and(DELETE))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements removed.",
            summary: "Keeps the elements between two indexes and removes all others.",
            args: &[key("key"), integer("start"), integer("stop")],
            ..LIST
        },
    },
    Row {
        run: rpop,
        spec: Spec {
            name: "rpop",
            arity: AtLeast(2),
            flags: WRITE.and(FAST),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned.",
            summary: "Removes the last element of a list, or several, and returns them.",
            args: &[key("key"), integer("count").since("6.2.0").optional()],
            history: &[("6.2.0", "Added the `count` argument.")],
            ..LIST
        },
    },
    Row {
        run: rpoplpush,
        spec: Spec {
            name: "rpoplpush",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(DELETE)), key_at(2, RW.and(INSERT))],
            shape: Gather,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Moves the last element of one list to the head of another, and returns it.",
            args: &[key("source"), key("destination").key_spec(1)],
            deprecated: Some(Deprecated {
                since: "6.2.0",
                replaced_by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
            }),
            ..LIST
        },
    },
    Row {
        run: rpush,
        spec: Spec {
            name: "rpush",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements added.",
            summary: "Puts elements one by one at the tail of a list, which it creates if need be.",
            args: &[key("key"), string("element").multiple()],
            history: &[("2.4.0", "Accepts multiple `element` arguments.")],
            ..LIST
        },
    },
    Row {
        run: rpushx,
        spec: Spec {
            name: "rpushx",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.2.0",
            complexity: "O(N) where N is the number of elements added.",
            summary: "Puts elements one by one at the tail of a list that exists.",
            args: &[key("key"), string("element").multiple()],
            history: &[("4.0.0", "Accepts multiple `element` arguments.")],
            ..LIST
        },
    },
];

/// LINDEX key index
fn lindex(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    // Redis looks at the index only when there is a list for it.
    let Some(list) = ctx.read_as::<List>(args.get(1))? else {
        reply.null();
        return Ok(());
    };
    match list.index(args.integer(2)?) {
        Some(index) => list.walk_some(End::Head, index, 1, |element| write(element, reply)),
        None => reply.null(),
    }
    Ok(())
}

/// LINSERT key BEFORE | AFTER pivot element
fn linsert(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (key, pivot, element) = (args.get(1), args.get(3), args.get(4));
    let after = match () {
        () if args.is(2, "AFTER") => true,
        () if args.is(2, "BEFORE") => false,
        () => return Err(Error::Syntax),
    };
    let inserted = ctx.change(
        key,
        |list: &mut List, env| {
            if list.insert(pivot, after, element, env) { list.len() as i64 } else { -1 }
        },
    )?;
    if inserted.is_some_and(|len| len > 0) {
        ctx.effect(args.words());
        ctx.notify(Class::LIST, "linsert", key);
    }
    reply.integer(inserted.unwrap_or(0));
    Ok(())
}

/// LLEN key
fn llen(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let len = ctx.read_as::<List>(args.get(1))?.map_or(0, List::len);
    reply.integer(len as i64);
    Ok(())
}

/// LMOVE source destination LEFT | RIGHT LEFT | RIGHT
fn lmove(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (from, to) = (end_of(args.get(3))?, end_of(args.get(4))?);
    if !move_element(ctx, (args.get(1), from), (args.get(2), to), reply)? {
        reply.null();
    }
    Ok(())
}

/// LMPOP numkeys key [key ...] LEFT | RIGHT [COUNT count]
fn lmpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let words = args.words();
    let several = KeysEndCount::parse(&words[1..])?;
    if !pop_some_of_first(ctx, several.keys, several.end, several.count, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// LPOP key [count]
fn lpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop(ctx, args, End::Head, reply)
}

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
fn lpos(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let options = Search::parse(args.from(3))?;
    let text = args.get(2);
    let Some(list) = ctx.read_as::<List>(args.get(1))? else {
        match options.count {
            Some(_) => reply.array(0),
            None => reply.null(),
        }
        return Ok(());
    };
    let found = options.run(list, text);
    match (options.count, found.first()) {
        (Some(_), _) => {
            reply.array(found.len());
            found.iter().for_each(|&index| reply.integer(index));
        }
        (None, Some(&index)) => reply.integer(index),
        (None, None) => reply.null(),
    }
    Ok(())
}

/// LPUSH key element [element ...]
fn lpush(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    push(ctx, args, End::Head, reply)
}

/// LPUSHX key element [element ...]
fn lpushx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    push_existing(ctx, args, End::Head, reply)
}

/// LRANGE key start stop
fn lrange(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (start, stop) = (args.integer(2)?, args.integer(3)?);
    let Some(list) = ctx.read_as::<List>(args.get(1))? else {
        reply.array(0);
        return Ok(());
    };
    let (skip, count) = range_of(start, stop, list.len());
    reply.array(count);
    list.walk_some(End::Head, skip, count, |element| write(element, reply));
    Ok(())
}

/// LREM key count element: from the tail on if the count is negative, all if it is zero.
fn lrem(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let count = args.signed_count(2)?;
    let end = if count < 0 { End::Tail } else { End::Head };
    let count_max = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let element = args.get(3);
    let removed = ctx.change(args.get(1), |list: &mut List, env| list.remove_equal(end, element, count_max, env))?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        ctx.effect(args.words());
        ctx.notify(Class::LIST, "lrem", args.get(1));
        ctx.notify_if_gone(args.get(1));
    }
    reply.integer(removed as i64);
    Ok(())
}

/// LSET key index element
fn lset(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let element = args.get(3);
    let set = ctx.change(args.get(1), |list: &mut List, env| Ok(list.set(args.integer(2)?, element, env)))?;
    match set.ok_or(Error::NoSuchKey)?? {
        true => ctx.effect(args.words()),
        false => return Err(Error::OutOfRange),
    }
    ctx.notify(Class::LIST, "lset", args.get(1));
    reply.ok();
    Ok(())
}

/// LTRIM key start stop
fn ltrim(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let (start, stop) = (args.integer(2)?, args.integer(3)?);
    let removed = ctx.change(args.get(1), |list: &mut List, env| {
        let (skip, count) = range_of(start, stop, list.len());
        list.trim(skip, count, env)
    })?;
    if removed.is_some_and(|removed| removed > 0) {
        ctx.effect(args.words());
    }
    if removed.is_some() {
        ctx.notify(Class::LIST, "ltrim", args.get(1));
        ctx.notify_if_gone(args.get(1));
    }
    reply.ok();
    Ok(())
}

/// RPOP key [count]
fn rpop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    pop(ctx, args, End::Tail, reply)
}

/// RPOPLPUSH source destination
fn rpoplpush(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if !move_element(ctx, (args.get(1), End::Tail), (args.get(2), End::Head), reply)? {
        reply.null();
    }
    Ok(())
}

/// RPUSH key element [element ...]
fn rpush(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    push(ctx, args, End::Tail, reply)
}

/// RPUSHX key element [element ...]
fn rpushx(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    push_existing(ctx, args, End::Tail, reply)
}

fn push(ctx: &mut ShardCtx, args: &Args, end: End, reply: &mut Reply) -> Result {
    let len = ctx.change_or_create(args.get(1), |list: &mut List, env| {
        list.push(end, args.from(2), env);
        list.len()
    })?;
    ctx.effect(args.words());
    ctx.notify(Class::LIST, push_event(end), args.get(1));
    reply.integer(len as i64);
    Ok(())
}

fn push_existing(ctx: &mut ShardCtx, args: &Args, end: End, reply: &mut Reply) -> Result {
    let len = ctx.change(args.get(1), |list: &mut List, env| {
        list.push(end, args.from(2), env);
        list.len()
    })?;
    if len.is_some() {
        ctx.effect(args.words());
        ctx.notify(Class::LIST, push_event(end), args.get(1));
    }
    reply.integer(len.unwrap_or(0) as i64);
    Ok(())
}

fn pop(ctx: &mut ShardCtx, args: &Args, end: End, reply: &mut Reply) -> Result {
    let key = args.get(1);
    match args.len() {
        2 => {
            if !pop_one(ctx, key, end, reply)? {
                reply.null();
            }
        }
        3 => {
            let count = args.elements(2)?;
            if count == 0 {
                match ctx.write_as::<List>(key)? {
                    Some(_) => reply.array(0),
                    None => reply.null_array(),
                }
            } else if !pop_some(ctx, key, end, count, reply)? {
                reply.null_array();
            }
        }
        _ => return Err(Error::arity(if end == End::Head { "lpop" } else { "rpop" })),
    }
    Ok(())
}

/// Pops an element and replies with it; whether there was one. For BLPOP the caller writes its key before.
pub(super) fn pop_one(ctx: &mut ShardCtx, key: &[u8], end: End, reply: &mut Reply) -> Result<bool> {
    let popped = ctx.change(key, |list: &mut List, env| list.pop(end, 1, env, |element| write(element, reply)))?;
    if popped.is_some() {
        ctx.effect(&[pop_word(end), key]);
        notify_popped(ctx, key, end);
    }
    Ok(popped.is_some())
}

/// Pops up to `count` elements, at least one, and replies with an array of them; whether there was any.
fn pop_some(ctx: &mut ShardCtx, key: &[u8], end: End, count: usize, reply: &mut Reply) -> Result<bool> {
    let popped = ctx.change(key, |list: &mut List, env| {
        let count = count.min(list.len());
        reply.array(count);
        list.pop(end, count, env, |element| write(element, reply));
        count
    })?;
    if let Some(count) = popped {
        ctx.effect(&[pop_word(end), key, itoa::Buffer::new().format(count).as_bytes()]);
        notify_popped(ctx, key, end);
    }
    Ok(popped.is_some())
}

/// Pops up to `count` elements of the first list there is, and replies with its key and an array of them; whether there
/// was any.
pub(super) fn pop_some_of_first(
    ctx: &mut ShardCtx,
    keys: &[&[u8]],
    end: End,
    count: usize,
    reply: &mut Reply,
) -> Result<bool> {
    for key in keys {
        let position = reply.position();
        reply.array(2);
        reply.bulk(key);
        if pop_some(ctx, key, end, count, reply)? {
            return Ok(true);
        }
        reply.truncate(position);
    }
    Ok(false)
}

/// Moves an element from an end of one list to an end of another, or of the same, and replies with it; whether there
/// was one.
pub(super) fn move_element(
    ctx: &mut ShardCtx,
    (source, from): (&[u8], End),
    (destination, to): (&[u8], End),
    reply: &mut Reply,
) -> Result<bool> {
    let mut element = Vec::new();
    let keep = |popped: Element<'_>, element: &mut Vec<u8>| {
        element.extend_from_slice(popped.text(&mut Digits::new()));
    };
    if source == destination {
        // In one step: the key stays, even if this is its only element.
        let moved = ctx.change(source, |list: &mut List, env| {
            list.rotate(from, to, env, |popped| keep(popped, &mut element));
        })?;
        if moved.is_none() {
            return Ok(false);
        }
    } else {
        if ctx.write_as::<List>(source)?.is_none() {
            return Ok(false);
        }
        ctx.write_as::<List>(destination)?;
        ctx.change(source, |list: &mut List, env| list.pop(from, 1, env, |popped| keep(popped, &mut element)))?;
        ctx.change_or_create(destination, |list: &mut List, env| list.push_moved(to, &element, env))?;
    }
    if source == destination {
        ctx.effect(&[b"LMOVE", source, source, end_word(from), end_word(to)]);
    } else {
        ctx.effect(&[pop_word(from), source]);
        // Redis counts the move as one change.
        ctx.journal.uncounted(ctx.db, &[push_word(to), destination, &element]);
    }
    ctx.notify(Class::LIST, push_event(to), destination);
    notify_popped(ctx, source, from);
    reply.bulk(&element);
    Ok(true)
}

/// What LMPOP and its blocking form are told: `numkeys key [key ...] LEFT | RIGHT [COUNT count]`.
pub(super) struct KeysEndCount<'a> {
    pub keys: &'a [&'a [u8]],
    pub end: End,
    pub count: usize,
}

impl<'a> KeysEndCount<'a> {
    pub fn parse(words: &'a [&'a [u8]]) -> Result<KeysEndCount<'a>> {
        let (numkeys, rest) = words.split_first().ok_or(Error::Syntax)?;
        let numkeys = number_of(numkeys, 1, "ERR numkeys should be greater than 0")?;
        let (keys, rest) = rest.split_at_checked(numkeys).ok_or(Error::Syntax)?;
        let (end, options) = rest.split_first().ok_or(Error::Syntax)?;
        let end = end_of(end)?;
        let count = match options {
            [] => 1,
            [word, count, more @ ..] if word.eq_ignore_ascii_case(b"COUNT") => {
                let count = number_of(count, 1, "ERR count should be greater than 0")?;
                if !more.is_empty() {
                    return Err(Error::Syntax);
                }
                count
            }
            _ => return Err(Error::Syntax),
        };
        Ok(KeysEndCount { keys, end, count })
    }
}

/// What LPOS looks for.
struct Search {
    /// From which match on; from the tail if it is negative.
    rank: i64,
    /// How many matches; 0: all; `None`: one, and the reply is no array.
    count: Option<usize>,
    /// How many elements are looked at; 0: all.
    len_max: usize,
}

impl Search {
    fn parse(words: &[&[u8]]) -> Result<Search> {
        let mut search = Search { rank: 1, count: None, len_max: 0 };
        for pair in words.chunks(2) {
            let &[word, value] = pair else { return Err(Error::Syntax) };
            match word.to_ascii_uppercase().as_slice() {
                b"RANK" => {
                    search.rank = signed_count(value)?;
                    if search.rank == 0 {
                        return Err(ZERO_RANK);
                    }
                }
                b"COUNT" => {
                    search.count = Some(number_of(value, 0, "ERR COUNT can't be negative")?);
                }
                b"MAXLEN" => {
                    search.len_max = number_of(value, 0, "ERR MAXLEN can't be negative")?;
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(search)
    }

    /// The indexes of what matches, in the order of the search.
    fn run(&self, list: &List, text: &[u8]) -> Vec<i64> {
        let (as_element, len) = (Element::of(text), list.len() as i64);
        let end = if self.rank < 0 { End::Tail } else { End::Head };
        let found_max = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let (mut found, mut at, mut left_out) = (Vec::new(), 0, self.rank.unsigned_abs() - 1);
        let looked_at_max = if self.len_max == 0 { usize::MAX } else { self.len_max };
        let mut looked_at = 0;
        list.walk(end, 0, |element| {
            if is_equal(element, text, as_element) {
                if left_out > 0 {
                    left_out -= 1;
                } else {
                    found.push(if end == End::Head { at } else { len - 1 - at });
                }
            }
            at += 1;
            looked_at += 1;
            found.len() < found_max && looked_at < looked_at_max
        });
        found
    }
}

const ZERO_RANK: Error = Error::Text(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from \
     the end of the list",
);

fn end_of(word: &[u8]) -> Result<End> {
    match () {
        () if word.eq_ignore_ascii_case(b"LEFT") => Ok(End::Head),
        () if word.eq_ignore_ascii_case(b"RIGHT") => Ok(End::Tail),
        () => Err(Error::Syntax),
    }
}

fn end_word(end: End) -> &'static [u8] {
    if end == End::Head { b"LEFT" } else { b"RIGHT" }
}

fn pop_word(end: End) -> &'static [u8] {
    if end == End::Head { b"LPOP" } else { b"RPOP" }
}

fn pop_event(end: End) -> &'static str {
    if end == End::Head { "lpop" } else { "rpop" }
}

fn push_event(end: End) -> &'static str {
    if end == End::Head { "lpush" } else { "rpush" }
}

fn notify_popped(ctx: &mut ShardCtx, key: &[u8], end: End) {
    ctx.notify(Class::LIST, pop_event(end), key);
    ctx.notify_if_gone(key);
}

fn push_word(end: End) -> &'static [u8] {
    if end == End::Head { b"LPUSH" } else { b"RPUSH" }
}

/// From which index on how many elements lie between two indexes, both counted from the end if negative.
fn range_of(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let start = if start < 0 { (start + len).max(0) } else { start };
    let stop = if stop < 0 { stop + len } else { stop.min(len - 1) };
    if start > stop || start >= len {
        return (0, 0);
    }
    (start as usize, (stop - start + 1) as usize)
}

fn write(element: Element<'_>, reply: &mut Reply) {
    match element {
        Element::Int(n) => reply.bulk_integer(n),
        Element::Text(text) => reply.bulk(text),
    }
}

#[cfg(test)]
mod tests;
