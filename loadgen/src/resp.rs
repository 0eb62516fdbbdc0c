//! The two halves of RESP that a load generator needs: writing requests, and skipping replies.
//!
//! The scanner builds no value. It counts how many values a reply still lacks, jumps over payloads by their lengths,
//! and tells of each finished reply only whether it was an error and how many of its values were null. It can be
//! stopped at any byte: it consumes what it has understood, and the caller brings the rest again with what follows.

use memchr::memchr;

/// Longer headers and errors than any server sends; without a bound, a peer that never ends a line fills the memory.
pub const LINE_BYTES_MAX: usize = 64 << 10;

pub fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        encode_bulk(word, out);
    }
}

pub fn encode_bulk(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    push_decimal(word.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

pub fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[start..]);
        }
    }
}

/// A finished reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The text of an error, without its type byte.
    pub error: Option<&'a [u8]>,
    /// Scalars of the reply, at any depth, that are something and that are null.
    pub found: u32,
    pub missing: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ProtocolError {
    Type(u8),
    Length,
    Line,
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProtocolError::Type(byte) => write!(f, "a reply cannot start with {:?}", char::from(*byte)),
            ProtocolError::Length => write!(f, "a reply has an invalid length"),
            ProtocolError::Line => write!(f, "a reply line is longer than {LINE_BYTES_MAX} bytes"),
        }
    }
}

#[derive(Debug, Default)]
pub struct Scanner {
    /// Values that the reply under way still lacks; 0 between replies.
    wanted: u64,
    /// Bytes of the current payload, its line end included, that have not arrived.
    skip: usize,
    found: u32,
    missing: u32,
    /// The reply under way answers no request: RESP3 push data.
    push: bool,
}

impl Scanner {
    /// Calls `on_reply` for each reply that ends in `bytes` and returns how many bytes it is done with.
    pub fn scan(&mut self, bytes: &[u8], mut on_reply: impl FnMut(Reply)) -> Result<usize, ProtocolError> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() - at);
                at += skipped;
                self.skip -= skipped;
                if self.skip > 0 {
                    return Ok(at);
                }
                self.end_value(&mut on_reply);
            }
            let Some(&kind) = bytes.get(at) else { return Ok(at) };
            let start = self.wanted == 0;
            match kind {
                b'$' | b'=' | b'!' => {
                    let Some((length, next)) = header(bytes, at + 1)? else { return Ok(at) };
                    self.begin();
                    at = next;
                    if length < 0 {
                        self.missing += 1;
                        self.end_value(&mut on_reply);
                    } else {
                        self.found += 1;
                        self.skip = length as usize + 2;
                    }
                }
                b'*' | b'~' | b'%' | b'>' | b'|' => {
                    let Some((length, next)) = header(bytes, at + 1)? else { return Ok(at) };
                    self.begin();
                    at = next;
                    self.push |= start && kind == b'>';
                    if length < 0 {
                        self.missing += 1;
                        self.end_value(&mut on_reply);
                        continue;
                    }
                    let pair = u64::from(kind == b'%' || kind == b'|') + 1;
                    self.wanted = self.wanted.checked_add(length as u64 * pair).ok_or(ProtocolError::Length)?;
                    // An attribute stands before the value it describes, so it ends nothing.
                    if kind != b'|' {
                        self.end_value(&mut on_reply);
                    }
                }
                b'+' | b':' | b',' | b'#' | b'(' | b'_' | b'-' => {
                    let Some(length) = memchr(b'\n', &bytes[at..]) else {
                        return if bytes.len() - at > LINE_BYTES_MAX { Err(ProtocolError::Line) } else { Ok(at) };
                    };
                    self.begin();
                    let line = &bytes[at + 1..at + length];
                    at += length + 1;
                    if kind == b'-' && start {
                        self.wanted = 0;
                        on_reply(Reply { error: Some(line.trim_ascii_end()), found: 0, missing: 0 });
                        continue;
                    }
                    if kind == b'_' {
                        self.missing += 1
                    } else {
                        self.found += 1
                    }
                    self.end_value(&mut on_reply);
                }
                other => return Err(ProtocolError::Type(other)),
            }
        }
    }

    fn begin(&mut self) {
        if self.wanted == 0 {
            *self = Scanner { wanted: 1, ..Scanner::default() };
        }
    }

    fn end_value(&mut self, on_reply: &mut impl FnMut(Reply)) {
        self.wanted -= 1;
        if self.wanted == 0 && !self.push {
            on_reply(Reply { error: None, found: self.found, missing: self.missing });
        }
    }
}

/// The number from `at` up to its line end, and where the next line starts; `None` if the line end has not arrived.
/// Null is -1, the only negative length there is.
fn header(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    let mut number = 0i64;
    for (index, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'0'..=b'9' if index < 18 => number = number * 10 + i64::from(byte - b'0'),
            b'-' if index == 0 => return null_header(bytes, at),
            b'\r' if index > 0 => {
                return match bytes.get(at + index + 1) {
                    Some(b'\n') => Ok(Some((number, at + index + 2))),
                    Some(_) => Err(ProtocolError::Length),
                    None => Ok(None),
                };
            }
            _ => return Err(ProtocolError::Length),
        }
    }
    Ok(None)
}

#[cold]
fn null_header(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    const NULL: &[u8] = b"-1\r\n";
    let arrived = &bytes[at..bytes.len().min(at + NULL.len())];
    match arrived {
        _ if arrived == NULL => Ok(Some((-1, at + NULL.len()))),
        _ if NULL.starts_with(arrived) => Ok(None),
        _ => Err(ProtocolError::Length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Scans chunk after chunk as a connection does, and writes each reply as found/missing or its error.
    fn scan_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, ProtocolError> {
        let mut scanner = Scanner::default();
        let mut tail = Vec::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            tail.extend_from_slice(chunk);
            let done = scanner.scan(&tail, |reply| {
                seen.push(match reply.error {
                    Some(text) => String::from_utf8_lossy(text).into_owned(),
                    None => format!("{}/{}", reply.found, reply.missing),
                });
            })?;
            tail.drain(..done);
        }
        assert!(tail.is_empty(), "bytes left over: {tail:?}");
        Ok(seen)
    }

    fn check(bytes: &[u8], expected: &[&str]) {
        assert_eq!(scan_chunks([bytes]).unwrap(), expected, "whole");
        for split in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(scan_chunks([head, tail]).unwrap(), expected, "split at {split}");
        }
    }

    #[test]
    fn scalars() {
        check(
            b"+OK\r\n:12\r\n$3\r\nabc\r\n$0\r\n\r\n$-1\r\n_\r\n,1.5\r\n#t\r\n(99\r\n=7\r\ntxt:abc\r\n",
            &["1/0", "1/0", "1/0", "1/0", "0/1", "0/1", "1/0", "1/0", "1/0", "1/0"],
        );
    }

    #[test]
    fn payloads_may_hold_anything() {
        check(b"$9\r\n\r\n$-1\r\n+\n\r\n+PONG\r\n", &["1/0", "1/0"]);
    }

    #[test]
    fn aggregates_count_their_leaves() {
        check(b"*3\r\n$1\r\na\r\n$-1\r\n*2\r\n:1\r\n_\r\n", &["2/2"]);
        check(b"*0\r\n*-1\r\n%1\r\n+k\r\n*1\r\n:1\r\n~1\r\n:5\r\n", &["0/0", "0/1", "2/0", "1/0"]);
    }

    #[test]
    fn pushes_answer_nothing_and_attributes_end_nothing() {
        check(b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n+OK\r\n", &["1/0"]);
        check(b"|1\r\n+ttl\r\n:3\r\n:7\r\n:8\r\n", &["3/0", "1/0"]);
    }

    #[test]
    fn errors_keep_their_text_and_only_at_the_top() {
        check(b"-ERR no\r\n*2\r\n-ERR inner\r\n:1\r\n", &["ERR no", "2/0"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in
            [&b"hello\r\n"[..], b"$x\r\n", b"$-2\r\n", b"$\r\n", b"$1\rx", b"*?\r\n", b"$1234567890123456789\r\n"]
        {
            assert!(scan_chunks([bytes]).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(scan_chunks([&[b'+'; LINE_BYTES_MAX + 2][..]]), Err(ProtocolError::Line));
    }

    #[test]
    fn requests_are_arrays_of_bulks() {
        let mut out = Vec::new();
        encode(&[b"SET", b"k", b""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }

    #[test]
    fn decimals() {
        for number in [0, 7, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    /// A reply in RESP together with what the scanner must say of it.
    fn any_reply() -> impl Strategy<Value = (Vec<u8>, u32, u32)> {
        let leaf = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|payload| {
                let mut bytes = Vec::new();
                encode_bulk(&payload, &mut bytes);
                (bytes, 1, 0)
            }),
            any::<i64>().prop_map(|number| (format!(":{number}\r\n").into_bytes(), 1, 0)),
            "[ -~]{0,20}".prop_map(|text| (format!("+{text}\r\n").into_bytes(), 1, 0)),
            Just((b"$-1\r\n".to_vec(), 0, 1)),
            Just((b"_\r\n".to_vec(), 0, 1)),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            proptest::collection::vec(inner, 0..5).prop_map(|items| {
                let mut all = (format!("*{}\r\n", items.len()).into_bytes(), 0, 0);
                for (bytes, found, missing) in items {
                    all.0.extend(bytes);
                    all.1 += found;
                    all.2 += missing;
                }
                all
            })
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_replies(
            replies in proptest::collection::vec(any_reply(), 1..6),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream: Vec<u8> = replies.iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
            let expected: Vec<String> = replies.iter().map(|(_, found, missing)| format!("{found}/{missing}")).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            prop_assert_eq!(scan_chunks(chunks).unwrap(), expected);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Scanner::default().scan(&bytes, |_| ());
        }
    }
}
