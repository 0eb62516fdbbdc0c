//! `struct`: C structures in strings, after Roberto Ierusalimschy's library, whose formats these are.

use super::lua::{Lua, Raise, Returns, Type};
use super::sandbox::set_function;

const INTEGER_BYTES_MAX: usize = 32;
/// Of `!` without a number.
const ALIGN_DEFAULT: i32 = 8;

pub fn push_table(lua: Lua) {
    lua.push_table(0, 3);
    set_function(lua, "pack", pack);
    set_function(lua, "unpack", unpack);
    set_function(lua, "size", size);
}

/// A format being read.
struct Format<'a> {
    rest: &'a [u8],
    big: bool,
    align: usize,
}

/// An element of a format: its letter and its size.
struct Item {
    option: u8,
    size: usize,
}

impl<'a> Format<'a> {
    fn of(lua: Lua) -> Result<Format<'a>, Raise> {
        let rest = lua.c_bytes(1).ok_or(Raise::Type(1, c"string"))?;
        Ok(Format { rest, big: false, align: 1 })
    }

    fn next(&mut self) -> Result<Option<Item>, Raise> {
        let Some((&option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)? as usize,
            b'i' | b'I' => {
                let size = self.number(4)? as usize;
                if size > INTEGER_BYTES_MAX {
                    return Err(Raise::Text(format!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { option, size }))
    }

    fn number(&mut self, default: i32) -> Result<i32, Raise> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if digits == 0 {
            return Ok(default);
        }
        number
            .iter()
            .try_fold(0i32, |sum, digit| sum.checked_mul(10)?.checked_add(i32::from(digit - b'0')))
            .ok_or_else(|| Raise::Text("integral size overflow".into()))
    }

    /// Bytes of padding before an item at `at`.
    fn padding(&self, at: usize, item: &Item) -> usize {
        if item.size == 0 || item.option == b'c' {
            return 0;
        }
        let size = item.size.min(self.align);
        size.wrapping_sub(at & (size - 1)) & (size - 1)
    }

    fn control(&mut self, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(ALIGN_DEFAULT)?;
                if align <= 0 || align & (align - 1) != 0 {
                    return Err(Raise::Text(format!("alignment {align} is not a power of 2")));
                }
                self.align = align as usize;
            }
            _ => return Err(Raise::Argument(1, format!("invalid format option '{}'", char::from(option)))),
        }
        Ok(())
    }

    /// Turns bytes in this machine's order into the format's, or back.
    fn order(&self, bytes: &mut [u8]) {
        if self.big {
            bytes.reverse();
        }
    }
}

fn is_integer(option: u8) -> bool {
    b"bBhHlLTiI".contains(&option)
}

fn pack(lua: Lua) -> Returns {
    let mut format = Format::of(lua)?;
    // A missing argument is nil.
    lua.push_nil();
    let (mut packed, mut argument, mut total) = (Vec::new(), 2, 0usize);
    while let Some(mut item) = format.next()? {
        let padding = format.padding(total, &item);
        total += padding;
        packed.resize(packed.len() + padding, 0);
        let number = || lua.number(argument).ok_or(Raise::Type(argument, c"number"));
        match item.option {
            option if is_integer(option) => {
                let value = whole(number()?);
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                format.order(&mut bytes[..item.size]);
                packed.extend_from_slice(&bytes[..item.size]);
                argument += 1;
            }
            b'x' => packed.push(0),
            b'f' => {
                let mut bytes = (number()? as f32).to_le_bytes();
                format.order(&mut bytes);
                packed.extend_from_slice(&bytes);
                argument += 1;
            }
            b'd' => {
                let mut bytes = number()?.to_le_bytes();
                format.order(&mut bytes);
                packed.extend_from_slice(&bytes);
                argument += 1;
            }
            b'c' | b's' => {
                let text = lua.bytes(argument).ok_or(Raise::Type(argument, c"string"))?;
                argument += 1;
                if item.size == 0 {
                    item.size = text.len();
                }
                if text.len() < item.size {
                    return Err(Raise::Argument(argument, "string too short".into()));
                }
                packed.extend_from_slice(&text[..item.size]);
                if item.option == b's' {
                    packed.push(0);
                    item.size += 1;
                }
            }
            option => format.control(option)?,
        }
        total += item.size;
    }
    lua.push(&packed);
    Ok(1)
}

/// As a C program on x86-64 makes a 64-bit integer of a number.
fn whole(number: f64) -> u64 {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    if number.is_nan() || number < -TOP {
        1 << 63
    } else if number < 0.0 {
        number as i64 as u64
    } else if number < 2.0 * TOP {
        number as u64
    } else {
        0
    }
}

fn unpack(lua: Lua) -> Returns {
    let mut format = Format::of(lua)?;
    let data = lua.bytes(2).ok_or(Raise::Type(2, c"string"))?;
    let from = match lua.type_of(3) {
        Type::None | Type::Nil => 1,
        _ => lua.number(3).ok_or(Raise::Type(3, c"number"))? as i64,
    };
    if from == 0 {
        return Err(Raise::Argument(3, "offset must be 1 or greater".into()));
    }
    let fits = |at: usize, size: usize| {
        let fits = size <= data.len() && at <= data.len() - size;
        if fits { Ok(()) } else { Err(Raise::Argument(2, "data string too short".into())) }
    };
    let mut at = (from as usize).wrapping_sub(1);
    let mut results = 0;
    while let Some(mut item) = format.next()? {
        at = at.wrapping_add(format.padding(at, &item));
        fits(at, item.size)?;
        if !lua.has_room(2) {
            return Err(Raise::Text("stack overflow (too many results)".into()));
        }
        match item.option {
            option if is_integer(option) => {
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..item.size].copy_from_slice(&data[at..at + item.size]);
                format.order(&mut bytes[..item.size]);
                lua.push_number(integer(&bytes, item.size, option.is_ascii_lowercase()));
                results += 1;
            }
            b'x' => {}
            b'f' => {
                let mut bytes: [u8; 4] = data[at..at + 4].try_into().expect("four bytes");
                format.order(&mut bytes);
                lua.push_number(f64::from(f32::from_le_bytes(bytes)));
                results += 1;
            }
            b'd' => {
                let mut bytes: [u8; 8] = data[at..at + 8].try_into().expect("eight bytes");
                format.order(&mut bytes);
                lua.push_number(f64::from_le_bytes(bytes));
                results += 1;
            }
            b'c' => {
                if item.size == 0 {
                    let size = if results == 0 { None } else { lua.number(-1) };
                    let Some(size) = size else {
                        return Err(Raise::Text("format 'c0' needs a previous size".into()));
                    };
                    item.size = whole(size) as usize;
                    lua.pop(1);
                    results -= 1;
                    fits(at, item.size)?;
                }
                lua.push(&data[at..at + item.size]);
                results += 1;
            }
            b's' => {
                let Some(length) = memchr::memchr(0, &data[at..]) else {
                    return Err(Raise::Text("unfinished string in data".into()));
                };
                lua.push(&data[at..at + length]);
                item.size = length + 1;
                results += 1;
            }
            option => format.control(option)?,
        }
        at += item.size;
    }
    lua.push_number((at + 1) as f64);
    Ok(results + 1)
}

/// An integer of so many bytes, of which the last eight count.
fn integer(bytes: &[u8], size: usize, is_signed: bool) -> f64 {
    let value = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    if !is_signed {
        return value as f64;
    }
    let mask = u64::MAX.wrapping_shl((size as u32 * 8).wrapping_sub(1));
    let extended = if value & mask == 0 { value } else { value | mask };
    extended as i64 as f64
}

fn size(lua: Lua) -> Returns {
    let mut format = Format::of(lua)?;
    let mut at = 0usize;
    while let Some(item) = format.next()? {
        at = at.wrapping_add(format.padding(at, &item));
        if item.option == b's' || (item.option == b'c' && item.size == 0) {
            let option = if item.option == b's' { "s" } else { "c0" };
            return Err(Raise::Argument(1, format!("option '{option}' has no fixed size")));
        }
        if !item.option.is_ascii_alphanumeric() {
            format.control(item.option)?;
        }
        at = at.wrapping_add(item.size);
    }
    lua.push_number(at as i64 as f64);
    Ok(1)
}
