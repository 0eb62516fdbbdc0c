//! Reads requests: RESP arrays of bulk strings, and inline commands (Redis documentation, "RESP protocol spec").
//!
//! Two readers of one grammar. [`parse`] takes a slice and, where it holds a whole command, returns its arguments as
//! slices of it: no copy, no allocation, no state; nearly all traffic goes this way. What it finds incomplete goes
//! to a [`Partial`], which takes bytes as they arrive, resumes where it stopped, and receives a large argument
//! straight into the allocation that the value will keep. A property test holds the two against each other.
//!
//! As Redis does, neither looks at the two bytes that end a bulk string, nor at the one behind a carriage return.

use bytes::Bytes;
use memchr::memchr;

use crate::base::limits::{
    ARGUMENTS_MAX, INLINE_BYTES_MAX, LARGE_ARGUMENT_BYTES, UNAUTHENTICATED_ARGUMENTS_MAX,
    UNAUTHENTICATED_BULK_BYTES_MAX,
};
use crate::base::quoting;

/// What a connection may send.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`
    pub bulk_bytes_max: i64,
    /// Before AUTH, where one is required, only small requests are read.
    pub authenticated: bool,
}

/// Closes the connection, after its text has been sent as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    InlineTooBig,
    UnbalancedQuotes,
    CountTooBig,
    InvalidCount,
    UnauthenticatedCount,
    LengthTooBig,
    ExpectedBulk(u8),
    InvalidLength,
    UnauthenticatedLength,
    OutOfMemory,
}

impl ProtocolError {
    /// The reply without its leading dash.
    pub fn text(self) -> String {
        let reason = match self {
            ProtocolError::InlineTooBig => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::CountTooBig => "too big mbulk count string",
            ProtocolError::InvalidCount => "invalid multibulk length",
            ProtocolError::UnauthenticatedCount => "unauthenticated multibulk length",
            ProtocolError::LengthTooBig => "too big bulk count string",
            ProtocolError::ExpectedBulk(got) => {
                return format!("ERR Protocol error: expected '$', got '{}'", got as char);
            }
            ProtocolError::InvalidLength => "invalid bulk length",
            ProtocolError::UnauthenticatedLength => "unauthenticated bulk length",
            ProtocolError::OutOfMemory => "out of memory for the request",
        };
        format!("ERR Protocol error: {reason}")
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many bytes were a command; its arguments were appended. No arguments: an empty request, nothing to answer.
    Command(usize),
    /// The slice ends within the command, or it is one for [`Partial`] to read: with a large argument, or an inline one
    /// with quotes or rare blanks. Nothing was appended.
    Incomplete,
}

/// The first command in `input`. O(length of the command).
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: RequestLimits, args: &mut Vec<&'a [u8]>) -> Result<Parsed, ProtocolError> {
    if input.first() != Some(&b'*') {
        return parse_inline(input, args);
    }
    let from = args.len();
    let result = parse_array(input, limits, args);
    if !matches!(result, Ok(Parsed::Command(_))) {
        args.truncate(from);
    }
    result
}

#[inline]
fn parse_array<'a>(input: &'a [u8], limits: RequestLimits, args: &mut Vec<&'a [u8]>) -> Result<Parsed, ProtocolError> {
    let Some((count, mut at)) =
        number_line(input, 1).or_else_slow(|| slow_line(input, 1, ProtocolError::CountTooBig))?
    else {
        return Ok(Parsed::Incomplete);
    };
    let count = check_count(count, limits)?;
    for _ in 0..count {
        if let Some((argument, length)) = short_bulk(&input[at..]) {
            args.push(argument);
            at += length;
            continue;
        }
        let Some((length, body)) =
            number_line(input, at + 1).or_else_slow(|| slow_line(input, at + 1, ProtocolError::LengthTooBig))?
        else {
            return Ok(Parsed::Incomplete);
        };
        // Only now, as in Redis: what is no bulk string is refused when its line is there.
        if input[at] != b'$' {
            return Err(ProtocolError::ExpectedBulk(input[at]));
        }
        let length = check_length(length, limits)?;
        let Some(argument) = input.get(body..body + length) else { return Ok(Parsed::Incomplete) };
        if input.len() < body + length + 2 || length >= LARGE_ARGUMENT_BYTES {
            return Ok(Parsed::Incomplete);
        }
        args.push(argument);
        at = body + length + 2;
    }
    Ok(Parsed::Command(at))
}

/// The bulk string that the bytes begin with, and how many of them it takes, if its length has one or two digits: as
/// nearly all have. No limit is that low.
#[inline]
fn short_bulk(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let &[dollar, first, second, third, ..] = bytes.first_chunk::<8>()?;
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (length, body) = match (second, third) {
        (b'\r', _) => (digit(first), 4),
        // A leading zero is a number only alone.
        (_, b'\r') if first != b'0' && digit(second) < 10 => (digit(first) * 10 + digit(second), 5),
        _ => return None,
    };
    // As ever, nobody looks at the byte behind a carriage return.
    let end = body + length + 2;
    if dollar != b'$' || digit(first) >= 10 || end > bytes.len() {
        return None;
    }
    Some((&bytes[body..body + length], end))
}

/// The number of one or two digits that is the first line, and how many bytes that takes.
#[inline]
fn short_number(bytes: &[u8]) -> Option<(usize, usize)> {
    // As ever, nobody looks at the byte behind the carriage return.
    let &[first, second, third, _] = bytes.first_chunk()?;
    let (first, next) = (usize::from(first.wrapping_sub(b'0')), usize::from(second.wrapping_sub(b'0')));
    if second == b'\r' && first < 10 {
        return Some((first, 3));
    }
    // A leading zero is a number only alone.
    (third == b'\r' && (1..10).contains(&first) && next < 10).then_some((first * 10 + next, 4))
}

/// The number of a line that begins at `from`, and where the next line begins.
enum Line {
    Number(Option<i64>, usize),
    /// Not within the common case: at most three digits.
    Unclear,
}

impl Line {
    #[inline]
    fn or_else_slow(
        self,
        slow: impl FnOnce() -> Result<Option<(Option<i64>, usize)>, ProtocolError>,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        match self {
            Line::Number(number, next) => Ok(Some((number, next))),
            Line::Unclear => slow(),
        }
    }
}

#[inline]
fn number_line(input: &[u8], from: usize) -> Line {
    if let Some((number, length)) = input.get(from..).and_then(short_number) {
        return Line::Number(Some(number as i64), from + length);
    }
    longer_number_line(input, from)
}

#[inline(never)] // Out of the way of shorter ones.
fn longer_number_line(input: &[u8], from: usize) -> Line {
    let digit = |at: usize| input.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10);
    let Some(first) = digit(from) else { return Line::Unclear };
    let mut value = i64::from(first);
    let mut at = from + 1;
    while at < from + 3 && first != 0 {
        let Some(next) = digit(at) else { break };
        value = value * 10 + i64::from(next);
        at += 1;
    }
    if input.get(at) == Some(&b'\r') && at + 1 < input.len() {
        Line::Number(Some(value), at + 2)
    } else {
        Line::Unclear
    }
}

/// `Ok(None)`: the line is not complete.
#[cold]
fn slow_line(input: &[u8], from: usize, too_big: ProtocolError) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let rest = &input[from.min(input.len())..];
    match memchr(b'\r', rest) {
        // Redis counts from the line's first byte, the sign included.
        None if rest.len() + 1 > INLINE_BYTES_MAX => Err(too_big),
        None => Ok(None),
        Some(end) if from + end + 2 > input.len() => Ok(None),
        Some(end) => Ok(Some((crate::base::number::parse_i64(&rest[..end]), from + end + 2))),
    }
}

#[inline]
fn check_count(count: Option<i64>, limits: RequestLimits) -> Result<i64, ProtocolError> {
    match count {
        None => Err(ProtocolError::InvalidCount),
        Some(count) if count > ARGUMENTS_MAX => Err(ProtocolError::InvalidCount),
        Some(count) if count > UNAUTHENTICATED_ARGUMENTS_MAX && !limits.authenticated => {
            Err(ProtocolError::UnauthenticatedCount)
        }
        Some(count) => Ok(count),
    }
}

#[inline]
fn check_length(length: Option<i64>, limits: RequestLimits) -> Result<usize, ProtocolError> {
    match length {
        Some(length) if (0..=limits.bulk_bytes_max).contains(&length) => {
            if length > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
                return Err(ProtocolError::UnauthenticatedLength);
            }
            Ok(length as usize)
        }
        _ => Err(ProtocolError::InvalidLength),
    }
}

/// What separates unquoted words, in a line without the rare blanks that do so only at times (as `quoting::split`).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn parse_inline<'a>(input: &'a [u8], args: &mut Vec<&'a [u8]>) -> Result<Parsed, ProtocolError> {
    let Some(end) = memchr(b'\n', input) else {
        return if input.len() > INLINE_BYTES_MAX { Err(ProtocolError::InlineTooBig) } else { Ok(Parsed::Incomplete) };
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    if line.iter().any(|byte| matches!(byte, b'"' | b'\'' | 0 | b'\x0b' | b'\x0c')) {
        return Ok(Parsed::Incomplete);
    }
    args.extend(line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty()));
    Ok(Parsed::Command(end + 1))
}

/// A command that arrives in pieces.
#[derive(Debug)]
pub struct Partial {
    /// All bytes but those of large arguments.
    bytes: Vec<u8>,
    args: Vec<Argument>,
    state: State,
    /// Arguments not begun yet.
    remaining: i64,
}

#[derive(Debug)]
enum Argument {
    Small { from: usize, length: usize },
    Large(Bytes),
}

#[derive(Debug)]
enum State {
    /// Within the first line, whose start is the first byte.
    First,
    /// Within the line of a bulk string's length.
    Length {
        line: usize,
    },
    /// Within a bulk string or its line end: so many bytes are missing.
    Body {
        missing: usize,
    },
    Large {
        body: Vec<u8>,
        length: usize,
    },
    /// Behind a large argument: so many bytes of the line end are missing.
    LargeEnd {
        missing: usize,
    },
    Complete,
}

impl Default for Partial {
    fn default() -> Partial {
        Partial { bytes: Vec::new(), args: Vec::new(), state: State::First, remaining: 0 }
    }
}

impl Partial {
    /// Takes bytes up to the end of the command: how many, and whether it is complete now.
    pub fn feed(&mut self, input: &[u8], limits: RequestLimits) -> Result<(usize, bool), ProtocolError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match &mut self.state {
                State::Complete => return Ok((at, true)),
                _ if rest.is_empty() => return Ok((at, false)),
                State::First => {
                    let array = *self.bytes.first().unwrap_or(&rest[0]) == b'*';
                    let (taken, line) = if array {
                        self.take_count_line(rest, 0, ProtocolError::CountTooBig)?
                    } else {
                        self.take_inline(rest)?
                    };
                    at += taken;
                    if let Some(line) = line {
                        if array {
                            self.remaining = check_count(crate::base::number::parse_i64(&self.bytes[1..line]), limits)?;
                            self.next_argument();
                        } else {
                            self.finish_inline(line)?;
                        }
                    }
                }
                State::Length { line } => {
                    let line = *line;
                    let (taken, end) = self.take_count_line(rest, line, ProtocolError::LengthTooBig)?;
                    at += taken;
                    if let Some(end) = end {
                        if self.bytes[line] != b'$' {
                            return Err(ProtocolError::ExpectedBulk(self.bytes[line]));
                        }
                        let length = crate::base::number::parse_i64(&self.bytes[line + 1..end]);
                        self.begin_argument(check_length(length, limits)?)?;
                    }
                }
                State::Body { missing } => {
                    let taken = rest.len().min(*missing);
                    self.bytes.extend_from_slice(&rest[..taken]);
                    *missing -= taken;
                    at += taken;
                    if *missing == 0 {
                        self.next_argument();
                    }
                }
                State::Large { body, length } => {
                    let taken = rest.len().min(*length - body.len());
                    body.extend_from_slice(&rest[..taken]);
                    at += taken;
                    if body.len() == *length {
                        self.args.push(Argument::Large(Bytes::from(std::mem::take(body))));
                        self.state = State::LargeEnd { missing: 2 };
                    }
                }
                State::LargeEnd { missing } => {
                    let taken = rest.len().min(*missing);
                    *missing -= taken;
                    at += taken;
                    if *missing == 0 {
                        self.next_argument();
                    }
                }
            }
        }
    }

    /// The arguments of a complete command.
    pub fn args(&self) -> impl Iterator<Item = &[u8]> {
        debug_assert!(matches!(self.state, State::Complete));
        self.args.iter().map(|argument| match argument {
            Argument::Small { from, length } => &self.bytes[*from..from + length],
            Argument::Large(bytes) => &bytes[..],
        })
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// The large arguments, which a value can take over: index and bytes.
    pub fn shared(&self) -> impl Iterator<Item = (usize, &Bytes)> {
        self.args.iter().enumerate().filter_map(|(index, argument)| match argument {
            Argument::Small { .. } => None,
            Argument::Large(bytes) => Some((index, bytes)),
        })
    }

    /// Bytes held: counted against the query buffer limit.
    pub fn buffered_bytes(&self) -> usize {
        let large: usize =
            self.args.iter().map(|arg| if let Argument::Large(bytes) = arg { bytes.len() } else { 0 }).sum();
        let growing = if let State::Large { body, .. } = &self.state { body.capacity() } else { 0 };
        self.bytes.capacity() + large + growing
    }

    /// Bytes held of the large argument that is arriving: what Redis would hold of it in its query buffer.
    pub fn arriving_bytes(&self) -> usize {
        match (&self.state, self.args.last()) {
            (State::Large { body, .. }, _) => body.len(),
            (State::LargeEnd { .. }, Some(Argument::Large(body))) => body.len(),
            _ => 0,
        }
    }

    /// Bytes allocated for that argument.
    pub fn arriving_capacity(&self) -> usize {
        if let State::Large { body, .. } = &self.state { body.capacity() } else { self.arriving_bytes() }
    }

    fn next_argument(&mut self) {
        if self.remaining <= 0 {
            self.state = State::Complete;
        } else {
            self.remaining -= 1;
            self.state = State::Length { line: self.bytes.len() };
        }
    }

    fn begin_argument(&mut self, length: usize) -> Result<(), ProtocolError> {
        if length >= LARGE_ARGUMENT_BYTES {
            let mut body = Vec::new();
            body.try_reserve_exact(length).map_err(|_| ProtocolError::OutOfMemory)?;
            self.state = State::Large { body, length };
        } else {
            self.args.push(Argument::Small { from: self.bytes.len(), length });
            self.state = State::Body { missing: length + 2 };
        }
        Ok(())
    }

    /// Takes bytes of a line that ends with a carriage return and any one byte: how many were taken, and, once it is
    /// whole, where its text ends. `line` is where it began.
    fn take_count_line(
        &mut self,
        rest: &[u8],
        line: usize,
        too_big: ProtocolError,
    ) -> Result<(usize, Option<usize>), ProtocolError> {
        if self.bytes.len() > line && self.bytes.last() == Some(&b'\r') {
            self.bytes.push(rest[0]);
            return Ok((1, Some(self.bytes.len() - 2)));
        }
        let taken = memchr(b'\r', rest).map_or(rest.len(), |end| (end + 2).min(rest.len()));
        self.bytes.extend_from_slice(&rest[..taken]);
        match memchr(b'\r', &rest[..taken]) {
            Some(end) if end + 2 == taken => Ok((taken, Some(self.bytes.len() - 2))),
            Some(_) => Ok((taken, None)),
            None if self.bytes.len() - line > INLINE_BYTES_MAX => Err(too_big),
            None => Ok((taken, None)),
        }
    }

    fn take_inline(&mut self, rest: &[u8]) -> Result<(usize, Option<usize>), ProtocolError> {
        match memchr(b'\n', rest) {
            Some(end) => {
                self.bytes.extend_from_slice(&rest[..=end]);
                Ok((end + 1, Some(self.bytes.len() - 1)))
            }
            None => {
                self.bytes.extend_from_slice(rest);
                if self.bytes.len() > INLINE_BYTES_MAX {
                    Err(ProtocolError::InlineTooBig)
                } else {
                    Ok((rest.len(), None))
                }
            }
        }
    }

    fn finish_inline(&mut self, line: usize) -> Result<(), ProtocolError> {
        let line = self.bytes[..line].strip_suffix(b"\r").unwrap_or(&self.bytes[..line]);
        let words = quoting::split(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.bytes.clear();
        for word in words {
            self.args.push(Argument::Small { from: self.bytes.len(), length: word.len() });
            self.bytes.extend_from_slice(&word);
        }
        self.state = State::Complete;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: RequestLimits = RequestLimits { bulk_bytes_max: 512 << 20, authenticated: true };

    type Outcome = Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError>;

    fn whole(input: &[u8]) -> Outcome {
        let mut args = Vec::new();
        Ok(match parse(input, LIMITS, &mut args)? {
            Parsed::Command(consumed) => Some((args.iter().map(|arg| arg.to_vec()).collect(), consumed)),
            Parsed::Incomplete => return in_pieces(input, input.len().max(1)),
        })
    }

    fn in_pieces(input: &[u8], piece: usize) -> Outcome {
        let mut partial = Partial::default();
        let mut consumed = 0;
        for chunk in input.chunks(piece) {
            let (taken, complete) = partial.feed(chunk, LIMITS)?;
            consumed += taken;
            if complete {
                return Ok(Some((partial.args().map(<[u8]>::to_vec).collect(), consumed)));
            }
            assert_eq!(taken, chunk.len(), "an incomplete command takes all there is");
        }
        Ok(None)
    }

    fn check(input: &[u8], expected: Result<Option<&[&str]>, ProtocolError>) {
        let expected =
            expected.map(|args| args.map(|args| args.iter().map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>()));
        assert_eq!(whole(input).map(|found| found.map(|(args, _)| args)), expected, "whole");
        for piece in [1, 2, 3, 7, 1 << 20] {
            assert_eq!(in_pieces(input, piece).map(|found| found.map(|(args, _)| args)), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn commands() {
        check(b"*1\r\n$4\r\nPING\r\n", Ok(Some(&["PING"])));
        check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", Ok(Some(&["GET", ""])));
        check(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nvalue\r\nvalue\r\n", Ok(Some(&["SET", "k", "value\r\nvalue"])));
        check(b"*0\r\n", Ok(Some(&[])));
        check(b"*-10\r\n", Ok(Some(&[])));
        check(b"\r\n", Ok(Some(&[])));
        check(b"PING  a\tb\r\n", Ok(Some(&["PING", "a", "b"])));
        check(b"set 'a b' \"\\x41\"\n", Ok(Some(&["set", "a b", "A"])));
        // Vertical tab and form feed are skipped before a word, and part of it behind its first byte.
        check(b"\x0bget \x0c a\x0bb\n", Ok(Some(&["get", "a\x0bb"])));
        check(b"*2\r\n$3\r\nGET\r\n$4\r\nab", Ok(None));
    }

    #[test]
    fn protocol_errors() {
        check(b"*x\r\n", Err(ProtocolError::InvalidCount));
        check(b"*3000000000\r\n", Err(ProtocolError::InvalidCount));
        check(b"*1\r\n:4\r\n", Err(ProtocolError::ExpectedBulk(b':')));
        check(b"*1\r\n:4", Ok(None));
        check(b"*1\r\n\r\n", Err(ProtocolError::ExpectedBulk(b'\r')));
        check(b"*1\r\r\n$", Ok(None));
        check(b"*1\r\r\n$4\r\n", Err(ProtocolError::ExpectedBulk(b'\n')));
        check(&[b"*1\r\nx".as_slice(), &[b'1'; 70_000]].concat(), Err(ProtocolError::LengthTooBig));
        check(b"*1\r\n$-1\r\n", Err(ProtocolError::InvalidLength));
        check(b"*1\r\n$2000000000\r\n", Err(ProtocolError::InvalidLength));
        check(b"*1\r\n$01\r\n", Err(ProtocolError::InvalidLength));
        check(b"*1\r\n$x\r\n", Err(ProtocolError::InvalidLength));
        check(b"set \"a\r\n", Err(ProtocolError::UnbalancedQuotes));
        check(&[b'a'; 70_000], Err(ProtocolError::InlineTooBig));
        check(&[b"*".as_slice(), &[b'1'; 70_000]].concat(), Err(ProtocolError::CountTooBig));
        check(&[b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat(), Err(ProtocolError::LengthTooBig));
        assert_eq!(ProtocolError::ExpectedBulk(b'x').text(), "ERR Protocol error: expected '$', got 'x'");
    }

    #[test]
    fn unauthenticated_connections_send_small_requests_only() {
        let limits = RequestLimits { authenticated: false, ..LIMITS };
        assert_eq!(parse(b"*11\r\n", limits, &mut Vec::new()), Err(ProtocolError::UnauthenticatedCount));
        assert_eq!(parse(b"*1\r\n$16385\r\n", limits, &mut Vec::new()), Err(ProtocolError::UnauthenticatedLength));
    }

    #[test]
    fn a_large_argument_is_received_into_an_allocation_of_its_own() {
        let body = vec![b'x'; LARGE_ARGUMENT_BYTES];
        let request =
            [format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", body.len()).as_bytes(), &body, b"\r\n+"].concat();
        assert_eq!(parse(&request, LIMITS, &mut Vec::new()), Ok(Parsed::Incomplete));
        let mut partial = Partial::default();
        let (consumed, complete) = partial.feed(&request, LIMITS).unwrap();
        assert!(complete && consumed == request.len() - 1);
        let shared: Vec<_> = partial.shared().collect();
        assert_eq!(shared.len(), 1);
        assert_eq!((shared[0].0, shared[0].1.len()), (2, body.len()));
    }

    proptest! {
        #[test]
        fn both_readers_agree(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            piece in 1usize..20,
        ) {
            let mut request = format!("*{}\r\n", args.len()).into_bytes();
            for arg in &args {
                request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                request.extend_from_slice(arg);
                request.extend_from_slice(b"\r\n");
            }
            if let Some((at, byte)) = damage {
                let at = at.index(request.len());
                request[at] = byte;
            } else {
                prop_assert_eq!(whole(&request), Ok(Some((args.clone(), request.len()))));
            }
            prop_assert_eq!(in_pieces(&request, piece), whole(&request));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
            let _ = whole(&bytes);
            let _ = in_pieces(&bytes, piece);
        }
    }
}
