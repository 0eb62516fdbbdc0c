//! `cjson`: JSON as lua-cjson 2.1 reads and writes it, with its options and its error texts.
//!
//! Every module table (`cjson` itself, and what `cjson.new()` returns) has options of its own, in a block that its
//! functions share.

use std::ffi::c_int;

use super::lua::{Lua, Raise, Returns, Type, read_c_number, upvalue};
use crate::base::limits::SCRIPT_NESTING_MAX;

#[derive(Clone, Copy)]
struct Options {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    precision: i32,
    keeps_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What becomes of numbers that JSON has no form for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refuse,
    Write,
    Null,
}

const OPTIONS: Options = Options {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth_max: 1000,
    decode_depth_max: 1000,
    precision: 14,
    keeps_buffer: true,
    encode_invalid: Invalid::Refuse,
    decode_invalid: true,
};

const PRECISION_MAX: i32 = 14;
/// Whatever the options allow.
const DEPTH_MAX: i32 = SCRIPT_NESTING_MAX as i32;

pub fn push_table(lua: Lua) {
    lua.push_table(0, 0);
    lua.push_data(OPTIONS);
    let function = |name: &str, push: fn(Lua)| {
        lua.push_value(-1);
        push(lua);
        lua.set_field(-3, name);
    };
    function("encode", |lua| lua.push_function(encode, 1));
    function("decode", |lua| lua.push_function(decode, 1));
    function("encode_sparse_array", |lua| lua.push_function(encode_sparse_array, 1));
    function("encode_max_depth", |lua| {
        lua.push_function(|lua| number_option(lua, i32::MAX, |options| &mut options.encode_depth_max), 1)
    });
    function("decode_max_depth", |lua| {
        lua.push_function(|lua| number_option(lua, i32::MAX, |options| &mut options.decode_depth_max), 1)
    });
    function("encode_number_precision", |lua| {
        lua.push_function(|lua| number_option(lua, PRECISION_MAX, |options| &mut options.precision), 1)
    });
    function("encode_keep_buffer", |lua| {
        lua.push_function(|lua| switch_option(lua, |options| &mut options.keeps_buffer), 1)
    });
    function("encode_invalid_numbers", |lua| lua.push_function(encode_invalid_numbers, 1));
    function("decode_invalid_numbers", |lua| {
        lua.push_function(|lua| switch_option(lua, |options| &mut options.decode_invalid), 1)
    });
    function("new", |lua| lua.push_function(new, 1));
    lua.pop(1);
    lua.push_light(std::ptr::null_mut());
    lua.set_field(-2, "null");
    for (name, text) in [("_NAME", "cjson"), ("_VERSION", "2.1.0")] {
        lua.push(text.as_bytes());
        lua.set_field(-2, name);
    }
}

fn new(lua: Lua) -> Returns {
    push_table(lua);
    Ok(1)
}

fn options(lua: Lua) -> Options {
    lua.data(upvalue(1))
}

/// Fills up with nil to so many arguments.
fn arguments(lua: Lua, count: c_int) -> Result<(), Raise> {
    if lua.top() > count {
        return Err(Raise::Argument(count + 1, "found too many arguments".into()));
    }
    lua.set_top(count);
    Ok(())
}

fn integer_argument(lua: Lua, index: c_int, least: i32, most: i32, setting: &mut i32) -> Result<(), Raise> {
    if lua.type_of(index) != Type::Nil {
        let value = lua.number(index).ok_or(Raise::Type(index, c"number"))? as i64 as i32;
        if value < least || value > most {
            return Err(Raise::Argument(1, format!("expected integer between {least} and {most}")));
        }
        *setting = value;
    }
    lua.push_number(f64::from(*setting));
    Ok(())
}

/// One of these words, or `true` and `false` for the second and the first.
fn word_argument(lua: Lua, index: c_int, words: &[&str], setting: &mut usize) -> Result<(), Raise> {
    match lua.type_of(index) {
        Type::Nil => {}
        Type::Boolean => *setting = usize::from(lua.boolean(index)),
        _ => {
            let given = lua.c_bytes(index).ok_or(Raise::Type(index, c"string"))?;
            *setting = words.iter().position(|word| word.as_bytes() == given).ok_or_else(|| {
                Raise::Argument(index, format!("invalid option '{}'", String::from_utf8_lossy(given)))
            })?;
        }
    }
    if *setting < 2 {
        lua.push_boolean(*setting == 1)
    } else {
        lua.push(words[*setting].as_bytes())
    }
    Ok(())
}

const SWITCH: &[&str] = &["off", "on"];

fn number_option(lua: Lua, most: i32, field: fn(&mut Options) -> &mut i32) -> Returns {
    arguments(lua, 1)?;
    let mut options = options(lua);
    integer_argument(lua, 1, 1, most, field(&mut options))?;
    lua.set_data(upvalue(1), options);
    Ok(1)
}

fn switch_option(lua: Lua, field: fn(&mut Options) -> &mut bool) -> Returns {
    arguments(lua, 1)?;
    let mut options = options(lua);
    let mut setting = usize::from(*field(&mut options));
    word_argument(lua, 1, SWITCH, &mut setting)?;
    *field(&mut options) = setting == 1;
    lua.set_data(upvalue(1), options);
    Ok(1)
}

fn encode_invalid_numbers(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    let mut options = options(lua);
    let mut setting = options.encode_invalid as usize;
    word_argument(lua, 1, &["off", "on", "null"], &mut setting)?;
    options.encode_invalid = [Invalid::Refuse, Invalid::Write, Invalid::Null][setting];
    lua.set_data(upvalue(1), options);
    Ok(1)
}

fn encode_sparse_array(lua: Lua) -> Returns {
    arguments(lua, 3)?;
    let mut options = options(lua);
    let mut setting = usize::from(options.sparse_convert);
    word_argument(lua, 1, SWITCH, &mut setting)?;
    options.sparse_convert = setting == 1;
    integer_argument(lua, 2, 0, i32::MAX, &mut options.sparse_ratio)?;
    integer_argument(lua, 3, 0, i32::MAX, &mut options.sparse_safe)?;
    lua.set_data(upvalue(1), options);
    Ok(3)
}

fn check_one_argument(lua: Lua) -> Result<(), Raise> {
    if lua.top() == 1 { Ok(()) } else { Err(Raise::Argument(1, "expected 1 argument".into())) }
}

fn encode(lua: Lua) -> Returns {
    check_one_argument(lua)?;
    let mut text = Vec::new();
    Encoder { lua, options: options(lua), text: &mut text }.value(0)?;
    lua.push(&text);
    Ok(1)
}

struct Encoder<'a> {
    lua: Lua,
    options: Options,
    text: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// The value on top, which stays.
    fn value(&mut self, depth: i32) -> Result<(), Raise> {
        let lua = self.lua;
        match lua.type_of(-1) {
            Type::String => self.string(lua.bytes(-1).unwrap_or_default()),
            Type::Number => self.number(-1)?,
            Type::Boolean => self.text.extend_from_slice(if lua.boolean(-1) { b"true" } else { b"false" }),
            Type::Table => {
                let depth = depth + 1;
                if depth > self.options.encode_depth_max.min(DEPTH_MAX) || !lua.has_room(3) {
                    return Err(Raise::Text(format!("Cannot serialise, excessive nesting ({depth})")));
                }
                match self.array_length()? {
                    length @ 1.. => self.array(depth, length as usize)?,
                    _ => self.object(depth)?,
                }
            }
            Type::Nil => self.text.extend_from_slice(b"null"),
            Type::LightUserdata if lua.pointer(-1).is_null() => self.text.extend_from_slice(b"null"),
            _ => return Err(self.refuse(-1, "type not supported")),
        }
        Ok(())
    }

    fn refuse(&self, index: c_int, reason: &str) -> Raise {
        Raise::Text(format!("Cannot serialise {}: {reason}", self.lua.type_name(index)))
    }

    /// The largest key, if all keys are whole numbers from 1 on and there are not too few of them.
    fn array_length(&self) -> Result<i32, Raise> {
        let lua = self.lua;
        let (mut largest, mut items) = (0i32, 0i32);
        lua.push_nil();
        while lua.next(-2) {
            let key = if lua.type_of(-2) == Type::Number { lua.number(-2).unwrap_or_default() } else { 0.0 };
            if key.floor() != key || key < 1.0 {
                lua.pop(2);
                return Ok(-1);
            }
            if key > f64::from(largest) {
                // What is out of range is the least number, as in C on x86-64.
                largest = if key <= f64::from(i32::MAX) { key as i32 } else { i32::MIN };
            }
            items += 1;
            lua.pop(1);
        }
        let Options { sparse_ratio, sparse_safe, sparse_convert, .. } = self.options;
        if sparse_ratio > 0 && largest > items.wrapping_mul(sparse_ratio) && largest > sparse_safe {
            return if sparse_convert { Ok(-1) } else { Err(self.refuse(-1, "excessively sparse array")) };
        }
        Ok(largest)
    }

    fn array(&mut self, depth: i32, length: usize) -> Result<(), Raise> {
        self.text.push(b'[');
        for index in 1..=length {
            if index > 1 {
                self.text.push(b',');
            }
            self.lua.raw_get_index(-1, index);
            self.value(depth)?;
            self.lua.pop(1);
        }
        self.text.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: i32) -> Result<(), Raise> {
        let lua = self.lua;
        self.text.push(b'{');
        lua.push_nil();
        let mut is_first = true;
        while lua.next(-2) {
            if !std::mem::take(&mut is_first) {
                self.text.push(b',');
            }
            match lua.type_of(-2) {
                Type::Number => {
                    self.text.push(b'"');
                    self.number(-2)?;
                    self.text.push(b'"');
                }
                Type::String => self.string(lua.bytes(-2).unwrap_or_default()),
                _ => return Err(self.refuse(-2, "table key must be a number or string")),
            }
            self.text.push(b':');
            self.value(depth)?;
            lua.pop(1);
        }
        self.text.push(b'}');
        Ok(())
    }

    fn number(&mut self, index: c_int) -> Result<(), Raise> {
        let number = self.lua.number(index).unwrap_or_default();
        if !number.is_finite() {
            match self.options.encode_invalid {
                Invalid::Refuse => return Err(self.refuse(index, "must not be NaN or Inf")),
                Invalid::Null => self.text.extend_from_slice(b"null"),
                Invalid::Write if number.is_nan() => self.text.extend_from_slice(b"nan"),
                Invalid::Write if number < 0.0 => self.text.extend_from_slice(b"-inf"),
                Invalid::Write => self.text.extend_from_slice(b"inf"),
            }
            return Ok(());
        }
        format_general(number, self.options.precision as usize, self.text);
        Ok(())
    }

    fn string(&mut self, bytes: &[u8]) {
        self.text.reserve(bytes.len() + 2);
        self.text.push(b'"');
        for &byte in bytes {
            let escape = match byte {
                b'"' | b'\\' | b'/' => byte,
                b'\n' => b'n',
                b'\t' => b't',
                b'\r' => b'r',
                8 => b'b',
                12 => b'f',
                0..32 | 127 => {
                    self.text.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => {
                    self.text.push(byte);
                    continue;
                }
            };
            self.text.extend([b'\\', escape]);
        }
        self.text.push(b'"');
    }
}

/// As C prints `%.*g`.
fn format_general(number: f64, precision: usize, out: &mut Vec<u8>) {
    if number.trunc() == number && number.abs() < 1e14_f64.min(10f64.powi(precision as i32)) {
        if number.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(number.abs() as u64).as_bytes());
        return;
    }
    let scientific = format!("{:.*e}", precision - 1, number);
    let (mantissa, exponent) = scientific.split_once('e').expect("the form asked for");
    let exponent: i32 = exponent.parse().expect("an exponent");
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').len() } else { text.len() }
    };
    if exponent < -4 || exponent >= precision as i32 {
        out.extend_from_slice(&mantissa.as_bytes()[..trimmed(mantissa)]);
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    } else {
        let fixed = format!("{:.*}", (precision as i32 - 1 - exponent) as usize, number);
        out.extend_from_slice(&fixed.as_bytes()[..trimmed(&fixed)]);
    }
}

fn decode(lua: Lua) -> Returns {
    check_one_argument(lua)?;
    let text = lua.bytes(1).ok_or(Raise::Type(1, c"string"))?;
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raise::Text("JSON parser does not support UTF-16 or UTF-32".into()));
    }
    let mut decoder = Decoder { lua, options: options(lua), text, at: 0, depth: 0, string: Vec::new() };
    let token = decoder.token();
    decoder.value(&token)?;
    let token = decoder.token();
    match token.kind {
        Kind::End => Ok(1),
        _ => Err(unexpected("the end", &token)),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its bytes are in `Decoder::string`.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

struct Token {
    kind: Kind,
    at: usize,
}

fn unexpected(expected: &str, token: &Token) -> Raise {
    let found = match token.kind {
        Kind::ObjectBegin => "T_OBJ_BEGIN",
        Kind::ObjectEnd => "T_OBJ_END",
        Kind::ArrayBegin => "T_ARR_BEGIN",
        Kind::ArrayEnd => "T_ARR_END",
        Kind::String => "T_STRING",
        Kind::Number(_) => "T_NUMBER",
        Kind::Boolean(_) => "T_BOOLEAN",
        Kind::Null => "T_NULL",
        Kind::Colon => "T_COLON",
        Kind::Comma => "T_COMMA",
        Kind::End => "T_END",
        Kind::Error(text) => text,
    };
    Raise::Text(format!("Expected {expected} but found {found} at character {}", token.at + 1))
}

struct Decoder<'a> {
    lua: Lua,
    options: Options,
    text: &'a [u8],
    at: usize,
    depth: i32,
    string: Vec<u8>,
}

impl Decoder<'_> {
    /// The byte so far ahead; zero behind the end.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.byte(0) {
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b':' => Kind::Colon,
            b',' => Kind::Comma,
            // A zero byte ends the text for a C program.
            0 => return Token { kind: Kind::End, at },
            _ => {
                let kind = self.long_token();
                // What is wrong with a string is told where it is.
                let at = if matches!(kind, Kind::Error(_)) { self.at } else { at };
                return Token { kind, at };
            }
        };
        self.at += 1;
        Token { kind: single, at }
    }

    fn long_token(&mut self) -> Kind {
        let rest = &self.text[self.at..];
        match rest[0] {
            b'"' => self.string_token(),
            b'-' | b'0'..=b'9' => {
                if !self.options.decode_invalid && is_invalid_number(rest) {
                    return Kind::Error("invalid number");
                }
                self.number_token()
            }
            b't' if rest.starts_with(b"true") => self.word(4, Kind::Boolean(true)),
            b'f' if rest.starts_with(b"false") => self.word(5, Kind::Boolean(false)),
            b'n' if rest.starts_with(b"null") => self.word(4, Kind::Null),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+'
                if self.options.decode_invalid && is_invalid_number(rest) =>
            {
                self.number_token()
            }
            _ => Kind::Error("invalid token"),
        }
    }

    fn word(&mut self, length: usize, kind: Kind) -> Kind {
        self.at += length;
        kind
    }

    fn number_token(&mut self) -> Kind {
        let rest = &self.text[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends = !matches!(rest.get(digits), Some(b'.' | b'e' | b'E' | b'x' | b'X'));
        if (1..=15).contains(&digits) && ends {
            let value = rest[..digits].iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            return self.word(digits, Kind::Number(value as f64));
        }
        match read_c_number(rest) {
            (_, 0) => Kind::Error("invalid number"),
            (value, length) => self.word(length, Kind::Number(value)),
        }
    }

    fn string_token(&mut self) -> Kind {
        self.string.clear();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = memchr::memchr3(b'"', b'\\', 0, rest).unwrap_or(rest.len());
            self.string.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(0) {
                b'"' => {
                    self.at += 1;
                    return Kind::String;
                }
                b'\\' => {}
                _ => return Kind::Error("unexpected end of string"),
            }
            let escaped = match self.byte(1) {
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 12,
                b'r' => b'\r',
                b'u' => {
                    let Some((code, length)) = self.code_point() else {
                        return Kind::Error("invalid unicode escape code");
                    };
                    let character = char::from_u32(code).expect("surrogates come in pairs or not at all");
                    self.string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at += length;
                    continue;
                }
                _ => return Kind::Error("invalid escape code"),
            };
            self.string.push(escaped);
            self.at += 2;
        }
    }

    /// Of `\uXXXX`, or two of them; and how long that is.
    fn code_point(&self) -> Option<(u32, usize)> {
        let unit = |ahead: usize| {
            let digits = self.text.get(self.at + ahead..self.at + ahead + 4)?;
            digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
        };
        let first = unit(2)?;
        if first & 0xF800 != 0xD800 {
            return Some((first, 6));
        }
        if first & 0x400 != 0 || self.byte(6) != b'\\' || self.byte(7) != b'u' {
            return None;
        }
        let second = unit(8).filter(|second| second & 0xFC00 == 0xDC00)?;
        Some((((first & 0x3FF) << 10 | second & 0x3FF) + 0x1_0000, 12))
    }

    /// Pushes the value that begins with this token.
    fn value(&mut self, token: &Token) -> Result<(), Raise> {
        let lua = self.lua;
        match token.kind {
            Kind::String => lua.push(&self.string),
            Kind::Number(number) => lua.push_number(number),
            Kind::Boolean(value) => lua.push_boolean(value),
            Kind::Null => lua.push_light(std::ptr::null_mut()),
            Kind::ObjectBegin => self.object()?,
            Kind::ArrayBegin => self.array()?,
            _ => return Err(unexpected("value", token)),
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth <= self.options.decode_depth_max.min(DEPTH_MAX) && self.lua.has_room(3) {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        Err(Raise::Text(format!("Found too many nested data structures ({depth}) at character {at}")))
    }

    fn object(&mut self) -> Result<(), Raise> {
        self.descend()?;
        self.lua.push_table(0, 0);
        let mut token = self.token();
        if matches!(token.kind, Kind::ObjectEnd) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            if !matches!(token.kind, Kind::String) {
                return Err(unexpected("object key string", &token));
            }
            self.lua.push(&self.string);
            token = self.token();
            if !matches!(token.kind, Kind::Colon) {
                return Err(unexpected("colon", &token));
            }
            token = self.token();
            self.value(&token)?;
            self.lua.raw_set(-3);
            token = self.token();
            match token.kind {
                Kind::ObjectEnd => break,
                Kind::Comma => token = self.token(),
                _ => return Err(unexpected("comma or object end", &token)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Raise> {
        self.descend()?;
        self.lua.push_table(0, 0);
        let mut token = self.token();
        if matches!(token.kind, Kind::ArrayEnd) {
            self.depth -= 1;
            return Ok(());
        }
        for index in 1.. {
            self.value(&token)?;
            self.lua.raw_set_index(-2, index);
            token = self.token();
            match token.kind {
                Kind::ArrayEnd => break,
                Kind::Comma => token = self.token(),
                _ => return Err(unexpected("comma or array end", &token)),
            }
        }
        self.depth -= 1;
        Ok(())
    }
}

/// Hexadecimal, with leading zeros, not finite: what C reads and JSON forbids.
fn is_invalid_number(text: &[u8]) -> bool {
    if text[0] == b'+' {
        return true;
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    match text {
        [b'0', next, ..] => next | 0x20 == b'x' || next.is_ascii_digit(),
        [b'0'..=b'9', ..] => false,
        [first, second, third, ..] => {
            let word = [*first, *second, *third].map(|byte| byte.to_ascii_lowercase());
            word == *b"inf" || word == *b"nan"
        }
        _ => false,
    }
}
