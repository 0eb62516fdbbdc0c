//! `bit`: operations on 32-bit numbers, as LuaBitOp has them.

use std::ffi::c_int;

use super::lua::{Lua, Raise, Returns};
use super::sandbox::set_function;

pub fn push_table(lua: Lua) {
    lua.push_table(0, 12);
    set_function(lua, "tobit", |lua| result(lua, number(lua, 1)?));
    set_function(lua, "bnot", |lua| result(lua, !number(lua, 1)?));
    set_function(lua, "band", |lua| fold(lua, |one, other| one & other));
    set_function(lua, "bor", |lua| fold(lua, |one, other| one | other));
    set_function(lua, "bxor", |lua| fold(lua, |one, other| one ^ other));
    set_function(lua, "lshift", |lua| shift(lua, |bits, count| bits << count));
    set_function(lua, "rshift", |lua| shift(lua, |bits, count| bits >> count));
    set_function(lua, "arshift", |lua| shift(lua, |bits, count| (bits as i32 >> count) as u32));
    set_function(lua, "rol", |lua| shift(lua, u32::rotate_left));
    set_function(lua, "ror", |lua| shift(lua, u32::rotate_right));
    set_function(lua, "bswap", |lua| result(lua, number(lua, 1)?.swap_bytes()));
    set_function(lua, "tohex", to_hex);
}

/// The low 32 bits of a number, rounded to a whole one: added to 1.5 * 2^52 it has them at the end of its mantissa.
fn number(lua: Lua, index: c_int) -> Result<u32, Raise> {
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    let number = lua.number(index).ok_or(Raise::Type(index, c"number"))?;
    Ok((number + WHOLE).to_bits() as u32)
}

fn result(lua: Lua, bits: u32) -> Returns {
    lua.push_number(f64::from(bits as i32));
    Ok(1)
}

fn fold(lua: Lua, combine: fn(u32, u32) -> u32) -> Returns {
    let mut bits = number(lua, 1)?;
    for index in 2..=lua.top() {
        bits = combine(bits, number(lua, index)?);
    }
    result(lua, bits)
}

fn shift(lua: Lua, shift: fn(u32, u32) -> u32) -> Returns {
    result(lua, shift(number(lua, 1)?, number(lua, 2)? & 31))
}

fn to_hex(lua: Lua) -> Returns {
    let bits = number(lua, 1)?;
    let digits = if lua.top() < 2 { 8 } else { number(lua, 2)? as i32 };
    let text = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
    let count = (digits.unsigned_abs() as usize).min(8);
    lua.push(&text.as_bytes()[8 - count..]);
    Ok(1)
}
