//! `cmsgpack`: MessagePack, with the choices of the library that Redis has: numbers as small as they fit, tables as arrays
//! where their keys are 1 to n, nothing deeper than sixteen tables.

use std::ffi::c_int;

use super::lua::{Lua, Raise, Returns, Type};
use super::sandbox::set_function;
use crate::base::limits::SCRIPT_NESTING_MAX;

/// A table below so many others is encoded as nil, so that a table in itself ends.
const NESTING_MAX: usize = 16;

pub fn push_table(lua: Lua) {
    lua.push_table(0, 8);
    set_function(lua, "pack", pack);
    set_function(lua, "unpack", |lua| unpack_some(lua, 0, 0));
    set_function(lua, "unpack_one", unpack_one);
    set_function(lua, "unpack_limit", unpack_limit);
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Redis Ltd."),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        lua.push(text.as_bytes());
        lua.set_field(-2, name);
    }
}

fn pack(lua: Lua) -> Returns {
    let count = lua.top();
    if count == 0 {
        return Err(Raise::Argument(0, "MessagePack pack needs input.".into()));
    }
    let mut packed = Vec::new();
    for index in 1..=count {
        check_room(lua, 1, "in function mp_check")?;
        lua.push_value(index);
        encode(lua, 0, &mut packed)?;
    }
    lua.push(&packed);
    Ok(1)
}

fn check_room(lua: Lua, values: c_int, place: &str) -> Result<(), Raise> {
    if lua.has_room(values) { Ok(()) } else { Err(Raise::Text(format!("stack overflow ({place})"))) }
}

/// Encodes the value on top and takes it off.
fn encode(lua: Lua, level: usize, out: &mut Vec<u8>) -> Result<(), Raise> {
    match lua.type_of(-1) {
        Type::String => {
            let bytes = lua.bytes(-1).unwrap_or_default();
            match bytes.len() {
                length @ 0..32 => out.push(0xa0 | length as u8),
                length => head(out, [0xd9, 0xda, 0xdb], length),
            }
            out.extend_from_slice(bytes);
        }
        Type::Boolean => out.push(if lua.boolean(-1) { 0xc3 } else { 0xc2 }),
        Type::Number => encode_number(lua.number(-1).unwrap_or_default(), out),
        Type::Table if level < NESTING_MAX => encode_table(lua, level, out)?,
        _ => out.push(0xc0),
    }
    lua.pop(1);
    Ok(())
}

/// A marker for the smallest of one, two or four bytes that the length fits into, and the length.
fn head(out: &mut Vec<u8>, markers: [u8; 3], length: usize) {
    match length {
        0..=0xff => out.extend([markers[0], length as u8]),
        0x100..=0xffff => {
            out.push(markers[1]);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(markers[2]);
            out.extend((length as u32).to_be_bytes());
        }
    }
}

fn encode_number(number: f64, out: &mut Vec<u8>) {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    if (-TOP..TOP).contains(&number) && number.trunc() == number {
        return encode_integer(number as i64, out);
    }
    if f64::from(number as f32) == number {
        out.push(0xca);
        out.extend((number as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend(number.to_be_bytes());
    }
}

fn encode_integer(integer: i64, out: &mut Vec<u8>) {
    match integer {
        -32..=0x7f => out.push(integer as u8),
        0x80..=0xff => out.extend([0xcc, integer as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend((integer as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend((integer as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend(integer.to_be_bytes());
        }
        -128..=-33 => out.extend([0xd0, integer as u8]),
        -32768..=-129 => {
            out.push(0xd1);
            out.extend((integer as i16).to_be_bytes());
        }
        -0x8000_0000..=-32769 => {
            out.push(0xd2);
            out.extend((integer as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend(integer.to_be_bytes());
        }
    }
}

fn encode_table(lua: Lua, level: usize, out: &mut Vec<u8>) -> Result<(), Raise> {
    check_room(lua, 4, "in function mp_encode_lua_table")?;
    let Some(pairs) = pairs_if_map(lua) else {
        let length = lua.length(-1);
        match length {
            0..16 => out.push(0x90 | length as u8),
            _ => wide_head(out, [0xdc, 0xdd], length),
        }
        for index in 1..=length {
            lua.raw_get_index(-1, index);
            encode(lua, level + 1, out)?;
        }
        return Ok(());
    };
    match pairs {
        0..16 => out.push(0x80 | pairs as u8),
        _ => wide_head(out, [0xde, 0xdf], pairs),
    }
    lua.push_nil();
    while lua.next(-2) {
        lua.push_value(-2);
        encode(lua, level + 1, out)?;
        encode(lua, level + 1, out)?;
    }
    Ok(())
}

fn wide_head(out: &mut Vec<u8>, markers: [u8; 2], length: usize) {
    match u16::try_from(length) {
        Ok(length) => {
            out.push(markers[0]);
            out.extend(length.to_be_bytes());
        }
        Err(_) => {
            out.push(markers[1]);
            out.extend((length as u32).to_be_bytes());
        }
    }
}

/// How many pairs the table on top has; `None` if its keys are 1 to n.
fn pairs_if_map(lua: Lua) -> Option<usize> {
    let (mut count, mut largest, mut is_array) = (0, 0.0f64, true);
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        count += 1;
        match lua.type_of(-1) {
            Type::Number => {
                let key = lua.number(-1).unwrap_or_default();
                is_array &= key > 0.0 && key.trunc() == key && key <= f64::from(i32::MAX);
                largest = largest.max(key);
            }
            _ => is_array = false,
        }
    }
    if is_array && largest == count as f64 { None } else { Some(count) }
}

fn unpack_one(lua: Lua) -> Returns {
    let offset = optional_integer(lua, 2)?;
    lua.set_top(1);
    unpack_some(lua, 1, offset)
}

fn unpack_limit(lua: Lua) -> Returns {
    let limit = lua.number(2).ok_or(Raise::Type(2, c"number"))? as i64 as i32;
    let offset = optional_integer(lua, 3)?;
    lua.set_top(1);
    unpack_some(lua, limit, offset)
}

fn optional_integer(lua: Lua, index: c_int) -> Result<i32, Raise> {
    match lua.type_of(index) {
        Type::None | Type::Nil => Ok(0),
        _ => Ok(lua.number(index).ok_or(Raise::Type(index, c"number"))? as i64 as i32),
    }
}

/// Decodes up to `limit` values from `offset` on and returns where the next begins, or all there are.
fn unpack_some(lua: Lua, limit: i32, offset: i32) -> Returns {
    let bytes = lua.bytes(1).ok_or(Raise::Type(1, c"string"))?;
    let decodes_all = limit == 0 && offset == 0;
    if offset < 0 || limit < 0 {
        let length = bytes.len();
        return Err(Raise::Text(format!("Invalid request to unpack with offset of {offset} and limit of {length}.")));
    }
    if offset as usize > bytes.len() {
        return Err(Raise::Text(format!("Start offset {offset} greater than input length {}.", bytes.len())));
    }
    let limit = if decodes_all { i32::MAX } else { limit };
    let mut input = &bytes[offset as usize..];
    let mut count = 0;
    while !input.is_empty() && count < limit {
        decode(lua, &mut input, 0)?;
        count += 1;
    }
    if decodes_all {
        return Ok(count);
    }
    check_room(lua, 1, "in function mp_unpack_full")?;
    lua.push_number(if input.is_empty() { -1.0 } else { (bytes.len() - input.len()) as f64 });
    lua.insert(2);
    Ok(count + 1)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Raise> {
    let Some((taken, rest)) = input.split_at_checked(length) else {
        return Err(Raise::Text("Missing bytes in input.".into()));
    };
    *input = rest;
    Ok(taken)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Raise> {
    Ok(take(input, N)?.try_into().expect("as many bytes as asked for"))
}

/// Pushes the value at the beginning of the input.
fn decode(lua: Lua, input: &mut &[u8], depth: usize) -> Result<(), Raise> {
    let [marker] = take_array(input)?;
    if depth > SCRIPT_NESTING_MAX {
        return Err(Raise::Text("Bad data format in input.".into()));
    }
    check_room(lua, 3, "too many return values at once; use unpack_one or unpack_limit instead.")?;
    let text = |input: &mut &[u8], length: usize| take(input, length).map(|bytes| lua.push(bytes));
    match marker {
        0x00..=0x7f | 0xe0..=0xff => lua.push_number(f64::from(marker as i8)),
        0x80..=0x8f => decode_map(lua, input, usize::from(marker & 15), depth)?,
        0x90..=0x9f => decode_array(lua, input, usize::from(marker & 15), depth)?,
        0xa0..=0xbf => text(input, usize::from(marker & 31))?,
        0xc0 => lua.push_nil(),
        0xc2 | 0xc3 => lua.push_boolean(marker == 0xc3),
        0xca => lua.push_number(f64::from(f32::from_be_bytes(take_array(input)?))),
        0xcb => lua.push_number(f64::from_be_bytes(take_array(input)?)),
        0xcc => lua.push_number(f64::from(u8::from_be_bytes(take_array(input)?))),
        0xcd => lua.push_number(f64::from(u16::from_be_bytes(take_array(input)?))),
        0xce => lua.push_number(f64::from(u32::from_be_bytes(take_array(input)?))),
        // Lua 5.1 has no unsigned integers: the top half comes out negative there.
        0xcf | 0xd3 => lua.push_number(i64::from_be_bytes(take_array(input)?) as f64),
        0xd0 => lua.push_number(f64::from(i8::from_be_bytes(take_array(input)?))),
        0xd1 => lua.push_number(f64::from(i16::from_be_bytes(take_array(input)?))),
        0xd2 => lua.push_number(f64::from(i32::from_be_bytes(take_array(input)?))),
        0xd9 => {
            let length = u8::from_be_bytes(take_array(input)?);
            text(input, usize::from(length))?;
        }
        0xda => {
            let length = u16::from_be_bytes(take_array(input)?);
            text(input, usize::from(length))?;
        }
        0xdb => {
            let length = u32::from_be_bytes(take_array(input)?);
            text(input, length as usize)?;
        }
        0xdc => {
            let length = u16::from_be_bytes(take_array(input)?);
            decode_array(lua, input, usize::from(length), depth)?;
        }
        0xdd => {
            let length = u32::from_be_bytes(take_array(input)?);
            decode_array(lua, input, length as usize, depth)?;
        }
        0xde => {
            let length = u16::from_be_bytes(take_array(input)?);
            decode_map(lua, input, usize::from(length), depth)?;
        }
        0xdf => {
            let length = u32::from_be_bytes(take_array(input)?);
            decode_map(lua, input, length as usize, depth)?;
        }
        _ => return Err(Raise::Text("Bad data format in input.".into())),
    }
    Ok(())
}

fn decode_array(lua: Lua, input: &mut &[u8], length: usize, depth: usize) -> Result<(), Raise> {
    lua.push_table(0, 0);
    for index in 1..=length {
        decode(lua, input, depth + 1)?;
        lua.push_number(index as f64);
        lua.insert(-2);
        lua.raw_set(-3);
    }
    Ok(())
}

fn decode_map(lua: Lua, input: &mut &[u8], length: usize, depth: usize) -> Result<(), Raise> {
    lua.push_table(0, 0);
    for _ in 0..length {
        decode(lua, input, depth + 1)?;
        decode(lua, input, depth + 1)?;
        let wrong = match lua.type_of(-2) {
            Type::Nil => Some("table index is nil"),
            Type::Number if lua.number(-2).is_some_and(f64::is_nan) => Some("table index is NaN"),
            _ => None,
        };
        if let Some(text) = wrong {
            lua.push(text.as_bytes());
            return Err(Raise::Top);
        }
        lua.raw_set(-3);
    }
    Ok(())
}
