//! What SCAN, SSCAN, HSCAN and ZSCAN have in common: cursor, options, and the walk over one collection.
//!
//! The order of checks is Redis's: the cursor first, then the key, and the options only if there is such a key.

use super::args::Args;
use super::ctx::ShardCtx;
use super::error::{Error, Result};
use crate::base::glob;
use crate::base::number::parse_i64;
use crate::data::collection::CollectionType;
use crate::resp::reply::{Protocol, Reply};

/// What a scan walks over: it decides which options exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// Takes TYPE.
    Keyspace,
    /// Takes NOVALUES.
    Hash,
    SetOrZset,
    /// Takes NOSCORES.
    Zset,
}

/// [MATCH pattern] [COUNT count] [TYPE type] [NOVALUES] [NOSCORES]
pub struct ScanOptions<'a> {
    pub pattern: Pattern<'a>,
    pub count: usize,
    pub type_name: Option<&'static str>,
    pub no_values: bool,
    pub no_scores: bool,
}

impl<'a> ScanOptions<'a> {
    /// The options from an argument on.
    pub fn parse(args: &Args<'a>, from: usize, of: Scanned) -> Result<ScanOptions<'a>> {
        let pattern = Pattern(None);
        let mut options = ScanOptions { pattern, count: 10, type_name: None, no_values: false, no_scores: false };
        let mut index = from;
        while index < args.len() {
            let has_value = index + 1 < args.len();
            match args.get(index).to_ascii_uppercase().as_slice() {
                b"COUNT" if has_value => match usize::try_from(args.integer(index + 1)?) {
                    Ok(count @ 1..) => options.count = count,
                    _ => return Err(Error::Syntax),
                },
                b"MATCH" if has_value => options.pattern = Pattern::new(args.get(index + 1)),
                b"TYPE" if has_value && of == Scanned::Keyspace => {
                    let value = args.get(index + 1);
                    let known = TYPE_NAMES.into_iter().find(|name| name.as_bytes().eq_ignore_ascii_case(value));
                    options.type_name = Some(known.ok_or_else(|| unknown_type(value))?);
                }
                b"NOVALUES" if of == Scanned::Hash => {
                    options.no_values = true;
                    index += 1;
                    continue;
                }
                b"NOSCORES" if of == Scanned::Zset => {
                    options.no_scores = true;
                    index += 1;
                    continue;
                }
                b"NOSCORES" => return Err(Error::Text("ERR NOSCORES option can only be used in ZSCAN")),
                b"NOVALUES" => return Err(Error::Text("ERR NOVALUES option can only be used in HSCAN")),
                _ => return Err(Error::Syntax),
            }
            index += 2;
        }
        Ok(options)
    }
}

/// The types that SCAN's TYPE knows.
const TYPE_NAMES: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];

fn unknown_type(name: &[u8]) -> Error {
    Error::Dynamic([b"ERR unknown type name '", name, b"'"].concat().into())
}

/// A glob pattern; the one that everything matches is not tried on each.
pub struct Pattern<'a>(Option<&'a [u8]>);

impl<'a> Pattern<'a> {
    pub fn new(pattern: &'a [u8]) -> Pattern<'a> {
        Pattern(Some(pattern).filter(|pattern| !glob::matches_all(pattern)))
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.is_none_or(|pattern| glob::matches(pattern, text, false))
    }
}

/// What a walk has found: the elements of the reply, as bulk strings.
#[derive(Default)]
pub struct Found {
    encoded: Vec<u8>,
    count: usize,
}

impl Found {
    pub fn push(&mut self, text: &[u8]) {
        // A bulk string is the same in both protocols.
        Reply::new(&mut self.encoded, Protocol::Resp2).bulk(text);
        self.count += 1;
    }
}

/// key cursor [MATCH pattern] [COUNT count] [NOVALUES|NOSCORES]: one call of SSCAN, HSCAN or ZSCAN.
///
/// `walk` puts what it finds from the cursor on into the last argument, matched already, and returns the next cursor, 0
/// at the end. A small encoding is walked in one go, whatever the cursor.
pub fn scan_collection<T: CollectionType>(
    ctx: &mut ShardCtx,
    args: &Args,
    reply: &mut Reply,
    of: Scanned,
    walk: impl FnOnce(&T, u64, &ScanOptions, &mut Found) -> u64,
) -> Result {
    let cursor = parse_cursor(args.get(2)).ok_or(INVALID_CURSOR)?;
    let (mut next, mut found) = (0, Found::default());
    if let Some(collection) = ctx.read_as::<T>(args.get(1))? {
        let options = ScanOptions::parse(args, 3, of)?;
        next = walk(collection, cursor, &options, &mut found);
    }
    reply_page(reply, next, &found);
    Ok(())
}

/// The next cursor, and what was found on the way to it.
pub fn reply_page(reply: &mut Reply, next: u64, found: &Found) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(found.count);
    reply.raw(&found.encoded);
}

pub const INVALID_CURSOR: Error = Error::Text("ERR invalid cursor");

/// Redis's reading of a cursor: what is not a signed number in canonical form is left to `strtoull`, which takes leading
/// space, zeros and signs, and reads a negative number modulo 2^64.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    if let Some(cursor) = parse_i64(text) {
        return u64::try_from(cursor).ok();
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let text = &text[text.iter().take_while(|byte| is_space(byte)).count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let cursor = digits.iter().try_fold(0u64, |cursor, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        cursor.checked_mul(10)?.checked_add(value)
    })?;
    Some(if negative { cursor.wrapping_neg() } else { cursor })
}
