//! IDs and intervals as clients write them: `ms`, `ms-seq`, `-` and `+` for the ends, `(` before what is excluded.

use crate::base::number::parse_i64;
use crate::command::error::{Error, Result, quoted};
use crate::data::stream::{NewId, StreamId};

const INVALID_ID: Error = Error::Text("ERR Invalid stream ID specified as stream command argument");
/// Longer texts are no IDs.
const ID_LEN_MAX: usize = 127;

/// An ID; `missing_seq` stands for a number that is not given.
pub fn id(text: &[u8], missing_seq: u64) -> Result<StreamId> {
    match split(text)? {
        (b"-" | b"+", None) => Err(INVALID_ID),
        (ms, None) => Ok(StreamId::new(number(ms)?, missing_seq)),
        (ms, Some(seq)) => Ok(StreamId::new(number(ms)?, number(seq)?)),
    }
}

/// An ID, or `-` or `+` for the smallest and the largest one.
pub fn id_or_end(text: &[u8], missing_seq: u64) -> Result<StreamId> {
    match text {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        _ => id(text, missing_seq),
    }
}

/// The ID for a new entry: `*`, `ms-*` or an ID.
pub fn new_id(text: &[u8]) -> Result<NewId> {
    if text == b"*" {
        return Ok(NewId::Now);
    }
    match split(text)? {
        (ms, Some(b"*")) => number(ms).map(NewId::At),
        _ => id(text, 0).map(NewId::Exactly),
    }
}

/// Where an interval begins.
pub fn start(text: &[u8]) -> Result<StreamId> {
    match excluded(text) {
        Some(text) => id(text, 0)?.next().ok_or(Error::Text("ERR invalid start ID for the interval")),
        None => id_or_end(text, 0),
    }
}

/// Where an interval ends.
pub fn end(text: &[u8]) -> Result<StreamId> {
    match excluded(text) {
        Some(text) => id(text, u64::MAX)?.previous().ok_or(Error::Text("ERR invalid end ID for the interval")),
        None => id_or_end(text, u64::MAX),
    }
}

fn excluded(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"(").filter(|text| !text.is_empty())
}

/// What stands before the first dash, and behind it. Redis reads up to a zero byte.
fn split(text: &[u8]) -> Result<(&[u8], Option<&[u8]>)> {
    if text.len() > ID_LEN_MAX {
        return Err(INVALID_ID);
    }
    let text = quoted(text);
    Ok(match text.iter().position(|&byte| byte == b'-') {
        // Alone it is the end of an interval.
        Some(0) if text.len() == 1 => (text, None),
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    })
}

/// A number of 64 bits. What is no plain integer is read as C's `strtoull` does, which clients may rely on: leading
/// zeros, space and a sign are fine.
fn number(text: &[u8]) -> Result<u64> {
    if let Some(n) = parse_i64(text) {
        return u64::try_from(n).map_err(|_| INVALID_ID);
    }
    let text = &text[text.iter().take_while(|byte| b" \t\n\x0b\x0c\r".contains(byte)).count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(INVALID_ID);
    }
    let magnitude = digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    });
    let magnitude = magnitude.ok_or(INVALID_ID)?;
    Ok(if negative { magnitude.wrapping_neg() } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_clients_write_them() {
        let max = u64::MAX;
        for (text, ms, seq) in [
            ("5", 5, 9),
            ("5-6", 5, 6),
            ("18446744073709551615-18446744073709551615", max, max),
            ("007-08", 7, 8),
            (" +5- 6", 5, 6),
            ("5--06", 5, max - 5),
            ("5-6\0x", 5, 6),
        ] {
            assert_eq!(id(text.as_bytes(), 9), Ok(StreamId::new(ms, seq)), "{text:?}");
        }
        let long = "0".repeat(128);
        for text in
            ["", "-", "+", "-5", "5-", "a", "5-a", "5-6-7", "5--6", "5-*", "*", "18446744073709551616", "5 ", &long]
        {
            assert_eq!(id(text.as_bytes(), 9), Err(INVALID_ID), "{text:?}");
        }
        assert_eq!((id_or_end(b"-", 1), id_or_end(b"+", 1)), (Ok(StreamId::ZERO), Ok(StreamId::MAX)));
    }

    #[test]
    fn new_ids() {
        assert_eq!(new_id(b"*"), Ok(NewId::Now));
        assert_eq!(new_id(b"5-*"), Ok(NewId::At(5)));
        assert_eq!(new_id(b"5"), Ok(NewId::Exactly(StreamId::new(5, 0))));
        assert_eq!(
            (new_id(b"*-5"), new_id(b"-*"), new_id(b"5-**")),
            (Err(INVALID_ID), Err(INVALID_ID), Err(INVALID_ID))
        );
    }

    #[test]
    fn intervals_may_exclude_their_ends() {
        assert_eq!(start(b"(5"), Ok(StreamId::new(5, 1)));
        assert_eq!(end(b"(5"), Ok(StreamId::new(5, u64::MAX - 1)));
        assert_eq!(end(b"(5-0"), Ok(StreamId::new(4, u64::MAX)));
        assert_eq!((start(b"(-"), start(b"("), start(b"((5")), (Err(INVALID_ID), Err(INVALID_ID), Err(INVALID_ID)));
        assert!(start(b"(18446744073709551615-18446744073709551615").is_err() && end(b"(0-0").is_err());
    }
}
