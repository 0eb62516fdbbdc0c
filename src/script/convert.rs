//! Replies to Lua values, Lua values to replies: Redis's conversion rules, for both protocols.
//!
//! What a reply has no Lua type for becomes a table with one field that tells (`ok`, `err`, `double`, `map`, `set`,
//! `big_number`, `verbatim_string`), and back.

use super::lua::{Lua, Type};
use crate::base::limits::SCRIPT_NESTING_MAX;
use crate::base::number;
use crate::resp::reply::{Protocol, Reply};

/// Values that a reply nested so deep needs on the stack, one level each.
const LEVEL_VALUES: i32 = 5;
const STACK_LIMIT: &[u8] = b"ERR reached lua stack limit";

/// Pushes the Lua value of the encoded reply that begins at `at`; where it ends. The reply is one of the server's own.
pub fn push_reply(lua: Lua, bytes: &[u8], at: usize) -> usize {
    let (line, end) = line_at(bytes, at);
    let text = &line[1..];
    if !lua.has_room(LEVEL_VALUES) {
        lua.push_nil();
        return crate::resp::skip::end_of_reply(bytes, at);
    }
    match line[0] {
        b':' => lua.push_number(integer(text) as f64),
        b'$' | b'=' | b'!' => {
            let length = integer(text);
            if length < 0 {
                lua.push_boolean(false);
                return end;
            }
            let bulk = &bytes[end..end + length as usize];
            match line[0] {
                b'$' => lua.push(bulk),
                b'=' => push_verbatim(lua, bulk),
                _ => push_error(lua, bulk),
            }
            return end + length as usize + 2;
        }
        b'+' => push_field(lua, "ok", |lua| lua.push(text)),
        b'-' => push_error(lua, text),
        b'_' => lua.push_nil(),
        b'#' => lua.push_boolean(text == b"t"),
        b',' => push_field(lua, "double", |lua| lua.push_number(number::parse_f64(text).unwrap_or(f64::NAN))),
        b'(' => push_field(lua, "big_number", |lua| lua.push(text)),
        b'*' | b'>' if integer(text) < 0 => lua.push_boolean(false),
        b'*' | b'>' => return push_array(lua, bytes, end, integer(text) as usize),
        b'%' => return push_pairs(lua, "map", bytes, end, integer(text) as usize, true),
        b'~' => return push_pairs(lua, "set", bytes, end, integer(text) as usize, false),
        b'|' => {
            // The attribute is not for scripts; the reply behind it is.
            let mut end = end;
            for _ in 0..2 * integer(text) {
                end = crate::resp::skip::end_of_reply(bytes, end);
            }
            return push_reply(lua, bytes, end);
        }
        other => unreachable!("no reply begins with {other:#x}"),
    }
    end
}

fn integer(text: &[u8]) -> i64 {
    number::parse_i64(text).expect("a number of our own writing")
}

fn line_at(bytes: &[u8], at: usize) -> (&[u8], usize) {
    let length = memchr::memchr(b'\r', &bytes[at..]).expect("every reply has a line end");
    (&bytes[at..at + length], at + length + 2)
}

fn push_field(lua: Lua, name: &str, push: impl FnOnce(Lua)) {
    lua.push_table(0, 1);
    push(lua);
    lua.set_field(-2, name);
}

fn push_verbatim(lua: Lua, bulk: &[u8]) {
    let (format, text) = bulk.split_at_checked(4).unwrap_or((b"txt:", bulk));
    push_field(lua, "verbatim_string", |lua| {
        lua.push_table(0, 2);
        lua.push(text);
        lua.set_field(-2, "string");
        lua.push(&format[..3]);
        lua.set_field(-2, "format");
    });
}

/// An error that a command replied: it has been counted.
fn push_error(lua: Lua, text: &[u8]) {
    push_coded_error(lua, if text.contains(&b' ') { b"" } else { b"ERR " }, text);
    lua.push_boolean(true);
    lua.set_field(-2, "ignore_error_stats_update");
}

/// The table of an error with this text; `-` in front says that it begins with its code, otherwise that is `ERR`.
pub fn push_error_table(lua: Lua, text: &[u8]) {
    match text.strip_prefix(b"-") {
        Some(text) if text.contains(&b' ') => push_coded_error(lua, b"", text),
        Some(text) => push_coded_error(lua, b"ERR ", text),
        None => push_coded_error(lua, b"ERR ", text),
    }
}

fn push_coded_error(lua: Lua, code: &[u8], text: &[u8]) {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let from = text.iter().position(|byte| !is_end(byte)).unwrap_or(text.len());
    let to = text.iter().rposition(|byte| !is_end(byte)).map_or(from, |last| last + 1);
    lua.push_table(0, 2);
    lua.push(&[code, &text[from..to]].concat());
    lua.set_field(-2, "err");
}

fn push_array(lua: Lua, bytes: &[u8], mut at: usize, length: usize) -> usize {
    lua.push_table(length, 0);
    for index in 1..=length {
        at = push_reply(lua, bytes, at);
        lua.raw_set_index(-2, index);
    }
    at
}

/// A map, or a set as a map of its elements to `true`.
fn push_pairs(lua: Lua, name: &str, bytes: &[u8], mut at: usize, length: usize, has_values: bool) -> usize {
    // As small as Redis makes them: the order in which `pairs` goes through a table depends on it.
    lua.push_table(0, 0);
    lua.push_table(0, 0);
    for _ in 0..length {
        at = push_reply(lua, bytes, at);
        if has_values {
            at = push_reply(lua, bytes, at);
        } else {
            lua.push_boolean(true);
        }
        // Nil is no key.
        if lua.type_of(-2) == Type::Nil { lua.pop(2) } else { lua.raw_set(-3) }
    }
    lua.set_field(-2, name);
    at
}

/// What an error table of a script says.
pub struct ErrorInfo {
    pub text: Vec<u8>,
    pub source: Option<Vec<u8>>,
    pub line: Option<Vec<u8>>,
    /// It was counted when the command failed.
    pub is_counted: bool,
}

/// Reads the error table on top, or the text of an error without one.
pub fn error_info(lua: Lua) -> ErrorInfo {
    let mut info = ErrorInfo { text: b"ERR unknown error".to_vec(), source: None, line: None, is_counted: false };
    if lua.type_of(-1) != Type::Table {
        if let Some(text) = lua.c_bytes(-1) {
            info.text = text.to_vec();
        }
        return info;
    }
    let field = |name| {
        let text = match lua.raw_field(-1, name) {
            Type::String | Type::Number => lua.c_bytes(-1).map(<[u8]>::to_vec),
            _ => None,
        };
        lua.pop(1);
        text
    };
    if let Some(text) = field("err") {
        info.text = text;
    }
    info.source = field("source");
    info.line = field("line");
    lua.raw_field(-1, "ignore_error_stats_update");
    info.is_counted = lua.boolean(-1);
    lua.pop(1);
    info
}

/// Writes the value on top and takes it off. `inner` is the protocol that the script asked for with `redis.setresp`.
/// The result: an error was written, that has been counted before or not.
pub fn write_value(lua: Lua, inner: Protocol, reply: &mut Reply) -> Option<ErrorInfo> {
    write_nested(lua, inner, reply, 0)
}

fn write_nested(lua: Lua, inner: Protocol, reply: &mut Reply, depth: usize) -> Option<ErrorInfo> {
    if depth > SCRIPT_NESTING_MAX || !lua.has_room(LEVEL_VALUES) {
        reply.error(STACK_LIMIT);
        lua.pop(1);
        return None;
    }
    match lua.type_of(-1) {
        Type::String => reply.bulk(lua.bytes(-1).unwrap_or_default()),
        Type::Number => reply.integer(whole(lua.number(-1).unwrap_or_default())),
        Type::Boolean => match (inner, lua.boolean(-1)) {
            (Protocol::Resp3, value) => reply.boolean(value),
            (Protocol::Resp2, true) => reply.integer(1),
            (Protocol::Resp2, false) => reply.null(),
        },
        Type::Table => return write_table(lua, inner, reply, depth + 1),
        _ => reply.null(),
    }
    lua.pop(1);
    None
}

/// As a C program on x86-64 does it: what is out of range is the least number.
fn whole(number: f64) -> i64 {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if fits { number as i64 } else { i64::MIN }
}

fn write_table(lua: Lua, inner: Protocol, reply: &mut Reply, depth: usize) -> Option<ErrorInfo> {
    // The usual result is a plain array: it has an element, hence no need to look for the fields of the others unless
    // they are there.
    if lua.raw_field(-1, "err") == Type::String {
        lua.pop(1);
        let info = error_info(lua);
        reply.error(&info.text);
        lua.pop(1);
        return Some(info);
    }
    lua.pop(1);
    if lua.raw_field(-1, "ok") == Type::String {
        reply.simple_bytes(lua.c_bytes(-1).unwrap_or_default());
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    if lua.raw_field(-1, "double") == Type::Number {
        let mut text = Vec::new();
        number::format_double(lua.number(-1).unwrap_or_default(), &mut text);
        reply.double_text(&text);
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    if lua.raw_field(-1, "big_number") == Type::String {
        let digits: Vec<u8> = lua.bytes(-1).unwrap_or_default().iter().map(|&byte| one_line(byte)).collect();
        reply.big_number(&digits);
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    if lua.raw_field(-1, "verbatim_string") == Type::Table {
        let has_format = lua.raw_field(-1, "format") == Type::String;
        let has_text = lua.raw_field(-2, "string") == Type::String;
        if has_format && has_text {
            let mut format = [b' '; 3];
            let given = lua.c_bytes(-2).unwrap_or_default();
            let length = given.len().min(3);
            format[..length].copy_from_slice(&given[..length]);
            reply.verbatim(&format, lua.bytes(-1).unwrap_or_default());
            lua.pop(4);
            return None;
        }
        lua.pop(2);
    }
    lua.pop(1);
    for (name, has_values) in [("map", true), ("set", false)] {
        if lua.raw_field(-1, name) == Type::Table {
            write_pairs(lua, inner, reply, has_values, depth);
            lua.pop(2);
            return None;
        }
        lua.pop(1);
    }
    write_array(lua, inner, reply, depth);
    lua.pop(1);
    None
}

fn one_line(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }
}

fn write_array(lua: Lua, inner: Protocol, reply: &mut Reply, depth: usize) {
    let mut length = 0;
    loop {
        lua.raw_get_index(-1, length + 1);
        let ends = lua.type_of(-1) == Type::Nil;
        lua.pop(1);
        if ends {
            break;
        }
        length += 1;
    }
    reply.array(length);
    for index in 1..=length {
        lua.raw_get_index(-1, index);
        write_nested(lua, inner, reply, depth);
    }
}

fn write_pairs(lua: Lua, inner: Protocol, reply: &mut Reply, has_values: bool, depth: usize) {
    let mut length = 0;
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        length += 1;
    }
    if has_values {
        reply.map(length)
    } else {
        reply.set(length)
    }
    lua.push_nil();
    while lua.next(-2) {
        if !has_values {
            lua.pop(1);
            lua.push_value(-1);
            write_nested(lua, inner, reply, depth);
            continue;
        }
        lua.push_value(-2);
        write_nested(lua, inner, reply, depth);
        write_nested(lua, inner, reply, depth);
    }
}
