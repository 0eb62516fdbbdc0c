//! Commands on the bits of strings.
//!
//! A string has as many bits as its bytes have, and reads as zeros behind them; what is written there makes it longer.
//! Bits are changed where they are: SETBIT on a large value copies none of it, once the value is its own.

use std::ops::Range;

use super::KeyFn;
use super::args::Args;
use super::ctx::{Expiry, ShardCtx};
use super::error::{Error, Result};
use super::events::Class;
use super::spec::*;
use crate::base::number::parse_i64;
use crate::data::bits::{self, FieldType, Operation, Overflow};
use crate::data::entry::{SHARED_LEN_MIN, Value};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const BITMAP: Spec = Spec { group: Group::Bitmap, categories: category::BITMAP, shape: OneShard, ..Spec::DEFAULT };

/// The end of a range, and what it counts.
const END_UNIT: &[Arg] = &[integer("end"), one_of("unit", &[token("BYTE"), token("BIT")]).since("7.0.0").optional()];
const RANGE: &[Arg] = &[integer("start"), block("end-unit-block", END_UNIT).optional()];

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: bitcount,
        spec: Spec {
            name: "bitcount",
            arity: AtLeast(2),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.6.0",
            complexity: "O(N) where N is the number of bytes looked at.",
            summary: "Counts the bits that are set in a value, or in part of it.",
            args: &[key("key"), block("range", RANGE).optional()],
            history: &[
                ("7.0.0", "Added the `BYTE|BIT` option."),
                ("8.0.0", "`end` made optional; when called without argument the command reports the last BYTE."),
            ],
            ..BITMAP
        },
    },
    Row {
        run: bitfield,
        spec: Spec {
            name: "bitfield",
            arity: AtLeast(2),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE).and(VARIABLE_FLAGS))
                .notes("This command allows both access and modification of the key")],
            extract: Some(keys_of_bitfield),
            since: "3.2.0",
            complexity: "O(1) for each operation.",
            summary: "Reads and changes integers of any width inside a value.",
            args: &[
                key("key"),
                one_of(
                    "operation",
                    &[
                        block("get-block", &[string("encoding"), integer("offset")]).after("GET"),
                        block(
                            "write",
                            &[
                                one_of("overflow-block", &[token("WRAP"), token("SAT"), token("FAIL")])
                                    .after("OVERFLOW")
                                    .optional(),
                                one_of(
                                    "write-operation",
                                    &[
                                        block("set-block", &[string("encoding"), integer("offset"), integer("value")])
                                            .after("SET"),
                                        block(
                                            "incrby-block",
                                            &[string("encoding"), integer("offset"), integer("increment")],
                                        )
                                        .after("INCRBY"),
                                    ],
                                ),
                            ],
                        ),
                    ],
                )
                .optional()
                .multiple(),
            ],
            ..BITMAP
        },
    },
    Row {
        run: bitfield_ro,
        spec: Spec {
            name: "bitfield_ro",
            arity: AtLeast(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "6.0.0",
            complexity: "O(1) for each operation.",
            summary: "Reads integers of any width inside a value.",
            args: &[
                key("key"),
                block("get-block", &[string("encoding"), integer("offset")])
                    .after("GET")
                    .optional()
                    .multiple()
                    .multiple_token(),
            ],
            ..BITMAP
        },
    },
    Row {
        run: bitop,
        spec: Spec {
            name: "bitop",
            arity: AtLeast(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(2, OW.and(UPDATE)), keys_from(3, RO.and(ACCESS))],
            shape: Gather,
            since: "2.6.0",
            complexity: "O(N) where N is the number of bytes of all sources.",
            summary: "Combines several values bit by bit and stores the result.",
            args: &[
                one_of("operation", &[token("AND"), token("OR"), token("XOR"), token("NOT")]),
                key("destkey"),
                key("key").key_spec(1).multiple(),
            ],
            ..BITMAP
        },
    },
    Row {
        run: bitpos,
        spec: Spec {
            name: "bitpos",
            arity: AtLeast(3),
            flags: READONLY,
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.8.7",
            complexity: "O(N) where N is the number of bytes looked at.",
            summary: "Finds the first bit of a value, or of part of it, that is set or clear.",
            args: &[key("key"), integer("bit"), block("range", RANGE).optional()],
            history: &[("7.0.0", "Added the `BYTE|BIT` option.")],
            ..BITMAP
        },
    },
    Row {
        run: getbit,
        spec: Spec {
            name: "getbit",
            arity: Exactly(3),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Reads one bit of a value.",
            args: &[key("key"), integer("offset")],
            ..BITMAP
        },
    },
    Row {
        run: setbit,
        spec: Spec {
            name: "setbit",
            arity: Exactly(4),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(UPDATE))],
            since: "2.2.0",
            complexity: "O(1), plus the length of the value if it has to grow.",
            summary: "Sets or clears one bit of a value, which is created or grows as needed.",
            args: &[key("key"), integer("offset"), integer("value")],
            ..BITMAP
        },
    },
];

/// BITCOUNT key [start [end [BYTE | BIT]]]
fn bitcount(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let asked = AskedRange::parse(args, 2)?;
    let mut digits = itoa::Buffer::new();
    let count = match ctx.read_string(args.get(1))? {
        Some(text) => {
            let text = text.bytes(&mut digits);
            // What begins behind its end counts nothing even if both are moved to the front of the string.
            let reversed = asked.start < 0 && asked.end.is_some_and(|end| end < 0 && asked.start > end);
            if reversed { 0 } else { bits::count(text, asked.within(text.len())) }
        }
        None => 0,
    };
    reply.integer(count as i64);
    Ok(())
}

/// BITFIELD key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value |
/// INCRBY encoding offset increment ...]
fn bitfield(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let operations = parse_operations(ctx, args)?;
    if operations.iter().all(|operation| operation.change == Change::None) {
        return read_fields(ctx, args.get(1), &operations, reply);
    }
    let len_min = operations.iter().filter_map(FieldOperation::bytes_needed).max().unwrap_or(0);
    let (changed, replies) = change_text(ctx, args.get(1), len_min, |text| {
        let mut changed = false;
        let replies: Vec<Option<i64>> = operations
            .iter()
            .map(|operation| {
                let before = operation.field.get(text, operation.offset);
                let Some(after) = operation.result(before) else { return Some(before) };
                let after = after?;
                operation.field.set(text, operation.offset, after);
                changed |= before != after;
                Some(if matches!(operation.change, Change::Set(_)) { before } else { after })
            })
            .collect();
        (changed, replies)
    })?;
    if changed {
        ctx.effect(args.words());
        // Redis tells nobody of a string that was made or grew for operations that all overflowed.
        let mut written = operations.iter().zip(&replies).filter(|(operation, _)| operation.change != Change::None);
        if written.any(|(_, reply)| reply.is_some()) {
            ctx.notify(Class::STRING, "setbit", args.get(1));
        }
    }
    reply.array(replies.len());
    for value in replies {
        match value {
            Some(value) => reply.integer(value),
            None => reply.null(),
        }
    }
    Ok(())
}

/// BITFIELD_RO key [GET encoding offset ...]
fn bitfield_ro(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let operations = parse_operations(ctx, args)?;
    if operations.iter().any(|operation| operation.change != Change::None) {
        return Err(Error::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(ctx, args.get(1), &operations, reply)
}

/// BITOP AND | OR | XOR | NOT destkey key [key ...]
fn bitop(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    const NAMES: [(&str, Operation); 4] =
        [("AND", Operation::And), ("OR", Operation::Or), ("XOR", Operation::Xor), ("NOT", Operation::Not)];
    let named = NAMES.into_iter().find(|(name, _)| args.is(1, name));
    let (_, operation) = named.ok_or(Error::Syntax)?;
    let (target, sources) = (args.get(2), args.from(3));
    if operation == Operation::Not && sources.len() != 1 {
        return Err(Error::Text("ERR BITOP NOT must be called with a single source key."));
    }
    for source in sources {
        ctx.read_string(source)?;
    }
    // Borrowed side by side only now: each lookup may have removed a key that has expired.
    let mut digits = vec![itoa::Buffer::new(); sources.len()];
    let texts: Vec<&[u8]> =
        sources.iter().zip(&mut digits).map(|(source, digits)| text_of(ctx, source, digits)).collect();
    let result = bits::combine(operation, &texts);
    let len = result.len();
    store_result(ctx, target, result);
    reply.integer(len as i64);
    Ok(())
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
fn bitpos(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let bit = match args.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::Text("ERR The bit argument must be 1 or 0.")),
    };
    let asked = AskedRange::parse(args, 3)?;
    let mut digits = itoa::Buffer::new();
    let position = match ctx.read_string(args.get(1))? {
        Some(text) => {
            let text = text.bytes(&mut digits);
            let range = asked.within(text.len());
            match bits::find(text, bit, range.clone()) {
                // Behind its end a string reads as zeros, unless an end was asked for.
                None if !bit && asked.end.is_none() && !range.is_empty() => Some(range.end),
                found => found,
            }
        }
        None => (!bit).then_some(0),
    };
    reply.integer(position.map_or(-1, |position| position as i64));
    Ok(())
}

/// GETBIT key offset
fn getbit(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let offset = bit_offset(ctx, args.get(2), None)?;
    let mut digits = itoa::Buffer::new();
    let text = match ctx.read_string(args.get(1))? {
        Some(text) => text.bytes(&mut digits),
        None => b"",
    };
    reply.integer(i64::from(bits::get(text, offset)));
    Ok(())
}

/// SETBIT key offset value
fn setbit(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let offset = bit_offset(ctx, args.get(2), None)?;
    let bit = match parse_i64(args.get(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Error::Text("ERR bit is not an integer or out of range")),
    };
    let (changed, was) = change_text(ctx, args.get(1), offset / 8 + 1, |text| {
        let was = bits::set(text, offset, bit);
        (was != bit, was)
    })?;
    if changed {
        ctx.effect(args.words());
        ctx.notify(Class::STRING, "setbit", args.get(1));
    }
    reply.integer(i64::from(was));
    Ok(())
}

/// Lets `change` modify the string at a key, grown to `len_min` bytes, and made if there is none. `change` says whether
/// it did; so it is, too, if the string was made or grew.
fn change_text<R>(
    ctx: &mut ShardCtx,
    key: &[u8],
    len_min: usize,
    change: impl FnOnce(&mut [u8]) -> (bool, R),
) -> Result<(bool, R)> {
    if let Some(mut held) = ctx.string_mut(key)? {
        let grows = held.as_ref().text().len() < len_min;
        let (changed, result) = held.update(|entry| entry.change_text(len_min, change));
        return Ok((changed || grows, result));
    }
    ctx.set(key, Value::Raw(b""), Expiry::Never);
    let mut made = ctx.string_mut(key)?.expect("it has been set");
    let (_, result) = made.update(|entry| entry.change_text(len_min, change));
    Ok((true, result))
}

/// The string at a key that was looked up just now.
fn text_of<'a>(ctx: &'a ShardCtx, key: &[u8], digits: &'a mut itoa::Buffer) -> &'a [u8] {
    match ctx.keyspace.db(ctx.db).get(ctx.keyspace.hash(key), key) {
        Some(entry) => entry.text().bytes(digits),
        None => b"",
    }
}

/// Makes the target of BITOP hold its result; nothing, if there were no bytes.
fn store_result(ctx: &mut ShardCtx, target: &[u8], result: Vec<u8>) {
    if result.is_empty() {
        if ctx.delete(target) {
            ctx.effect(&[b"DEL", target]);
            ctx.notify(Class::GENERIC, "del", target);
        }
        return;
    }
    ctx.effect(&[b"SET", target, &result]);
    let value = if result.len() < SHARED_LEN_MIN { Value::Raw(&result) } else { Value::Shared(result.into()) };
    ctx.set(target, value, Expiry::Never);
    ctx.notify(Class::STRING, "set", target);
}

/// The offset of a bit, or with `#` of a field counted in fields; a string reaches as far as a request can.
fn bit_offset(ctx: &ShardCtx, word: &[u8], field: Option<FieldType>) -> Result<usize> {
    let (word, unit) = match (word, field) {
        ([b'#', index @ ..], Some(field)) => (index, field.bits() as i64),
        _ => (word, 1),
    };
    let offset = parse_i64(word).and_then(|offset| u64::try_from(offset.checked_mul(unit)?).ok());
    match offset {
        Some(offset) if offset >> 3 < ctx.config.proto_max_bulk_len => Ok(offset as usize),
        _ => Err(Error::Text("ERR bit offset is not an integer or out of range")),
    }
}

/// The part of a string that BITCOUNT and BITPOS look at.
struct AskedRange {
    start: i64,
    end: Option<i64>,
    unit_bits: i64,
}

impl AskedRange {
    /// Reads `[start [end [BYTE | BIT]]]` from `index` on.
    fn parse(args: &Args, index: usize) -> Result<AskedRange> {
        let words = args.from(index);
        if words.len() > 3 {
            return Err(Error::Syntax);
        }
        let start = if words.is_empty() { 0 } else { args.integer(index)? };
        let unit_bits = match words.get(2) {
            _ if args.len() == index + 3 && args.is(index + 2, "BIT") => 1,
            Some(unit) if !unit.eq_ignore_ascii_case(b"BYTE") => return Err(Error::Syntax),
            _ => 8,
        };
        let end = if words.len() > 1 { Some(args.integer(index + 1)?) } else { None };
        Ok(AskedRange { start, end, unit_bits })
    }

    /// The bits of a string of `len` bytes; negative ends count from behind.
    fn within(&self, len: usize) -> Range<usize> {
        let total = len as i64 * (8 / self.unit_bits);
        let from_front = |at: i64| if at < 0 { (total + at).max(0) } else { at };
        let start = from_front(self.start);
        let end = self.end.map_or(total - 1, |end| from_front(end).min(total - 1));
        if start > end {
            return 0..0;
        }
        (start * self.unit_bits) as usize..((end + 1) * self.unit_bits) as usize
    }
}

/// One of BITFIELD's operations.
struct FieldOperation {
    field: FieldType,
    offset: usize,
    change: Change,
    overflow: Overflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Set(i64),
    Increment(i64),
}

impl FieldOperation {
    /// The bytes that a string must have for it to be written.
    fn bytes_needed(&self) -> Option<usize> {
        (self.change != Change::None).then(|| (self.offset + self.field.bits()).div_ceil(8))
    }

    /// What the field holds afterwards; `None` if it is only read, `Some(None)` if that fails.
    fn result(&self, before: i64) -> Option<Option<i64>> {
        let value = match self.change {
            Change::None => return None,
            // An unsigned field takes a negative number for a large one.
            Change::Set(value) if !self.field.is_signed() => i128::from(value as u64),
            // Redis takes what is too far below such a field for what is above (`far_below_saturates_upwards`).
            Change::Set(value) if self.overflow == Overflow::Saturate && self.field.is_far_below(value) => i128::MAX,
            Change::Set(value) => i128::from(value),
            Change::Increment(by) => i128::from(before) + i128::from(by),
        };
        Some(self.field.fit(value, self.overflow))
    }
}

fn parse_operations(ctx: &ShardCtx, args: &Args) -> Result<Vec<FieldOperation>> {
    let mut words = args.from(2);
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let [name, rest @ ..] = words {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let (encoding, offset, value) = match rest {
            [encoding, offset, rest @ ..] if is("GET") => {
                words = rest;
                (encoding, offset, None)
            }
            [encoding, offset, value, rest @ ..] if is("SET") || is("INCRBY") => {
                words = rest;
                (encoding, offset, Some(value))
            }
            [behavior, rest @ ..] if is("OVERFLOW") => {
                overflow = parse_overflow(behavior)?;
                words = rest;
                continue;
            }
            _ => return Err(Error::Syntax),
        };
        let field = parse_field_type(encoding)?;
        let offset = bit_offset(ctx, offset, Some(field))?;
        let change = match value.map(|value| parse_i64(value).ok_or(Error::NotAnInteger)).transpose()? {
            None => Change::None,
            Some(value) if is("SET") => Change::Set(value),
            Some(by) => Change::Increment(by),
        };
        operations.push(FieldOperation { field, offset, change, overflow });
    }
    Ok(operations)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow> {
    const NAMES: [(&str, Overflow); 3] =
        [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let named = NAMES.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, overflow)| overflow).ok_or(Error::Text("ERR Invalid OVERFLOW type specified"))
}

fn parse_field_type(word: &[u8]) -> Result<FieldType> {
    let field = match word {
        [sign @ (b'i' | b'u'), bits @ ..] => parse_i64(bits)
            .and_then(|bits| u32::try_from(bits).ok())
            .and_then(|bits| FieldType::new(*sign == b'i', bits)),
        _ => None,
    };
    const UNKNOWN: &str =
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    field.ok_or(Error::Text(UNKNOWN))
}

/// Replies to operations that change nothing.
fn read_fields(ctx: &mut ShardCtx, key: &[u8], operations: &[FieldOperation], reply: &mut Reply) -> Result {
    let mut digits = itoa::Buffer::new();
    let text = match ctx.read_string(key)? {
        Some(text) => text.bytes(&mut digits),
        None => b"",
    };
    reply.array(operations.len());
    operations.iter().for_each(|operation| reply.integer(operation.field.get(text, operation.offset)));
    Ok(())
}

#[cfg(test)]
mod tests;
