//! Writes replies in RESP2 or RESP3 straight into an output buffer.
//!
//! Handlers call the same method for both protocols; the writer chooses the form, as Redis's `addReply*` family does
//! (Redis documentation, "RESP protocol spec"). It never looks at commands or sessions, and never fails: EXEC and
//! scripts capture a reply by handing in a buffer of their own.

/// Which protocol a connection speaks (HELLO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// A writer of replies, appending to `out`.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Reply<'a> {
        Reply { out, protocol }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From here on replies take this form (HELLO).
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    pub fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// Bytes in the buffer: with `truncate`, the way to take back a reply that turned into an error half-way.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// `+text`; `text` holds no line end.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.out.push(b'+');
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// `+` and any bytes; line ends become spaces.
    pub fn simple_bytes(&mut self, bytes: &[u8]) {
        self.out.push(b'+');
        self.out.extend(bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.raw(b"\r\n");
    }

    /// `+` and both parts in one: a name with its mark (`@read`).
    pub fn simple_prefixed(&mut self, prefix: &str, text: &str) {
        debug_assert!(!prefix.contains(['\r', '\n']) && !text.contains(['\r', '\n']));
        self.out.push(b'+');
        self.raw(prefix.as_bytes());
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// `-text`, where `text` begins with the error's code. Line ends become spaces, as in Redis.
    pub fn error(&mut self, text: &[u8]) {
        let is_line_end = |byte: &u8| matches!(*byte, b'\r' | b'\n');
        let begin = text.iter().position(|byte| !is_line_end(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_line_end(byte)).map_or(begin, |last| last + 1);
        self.out.push(b'-');
        let from = self.out.len();
        self.raw(&text[begin..end]);
        for byte in &mut self.out[from..] {
            if is_line_end(byte) {
                *byte = b' ';
            }
        }
        self.raw(b"\r\n");
    }

    /// `:n`
    pub fn integer(&mut self, n: i64) {
        self.number(b':', n);
    }

    /// `$len` and the bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len() as i64);
        self.out.reserve(bytes.len() + 2);
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// `$-1`, or `_` in RESP3.
    pub fn null(&mut self) {
        self.raw(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// `*-1`, or `_` in RESP3.
    pub fn null_array(&mut self) {
        self.raw(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array of `len` elements, which the caller writes next.
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// The head of `pairs` pairs: a map, or a flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        if self.is_resp3() { self.number(b'%', pairs as i64) } else { self.number(b'*', 2 * pairs as i64) }
    }

    /// The head of a set, or an array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// The head of an out-of-band message, or an array in RESP2.
    pub fn push(&mut self, len: usize) {
        self.number(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// The head of an attribute; RESP3 only.
    pub fn attribute(&mut self, pairs: usize) {
        assert!(self.is_resp3(), "attributes exist in RESP3 only");
        self.number(b'|', pairs as i64);
    }

    /// `#t` or `#f`; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        match (self.protocol, value) {
            (Protocol::Resp3, true) => self.raw(b"#t\r\n"),
            (Protocol::Resp3, false) => self.raw(b"#f\r\n"),
            (Protocol::Resp2, value) => self.integer(i64::from(value)),
        }
    }

    /// A big number given as its decimal digits: `(digits`, or a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() {
            self.out.push(b'(');
            self.raw(digits);
            self.raw(b"\r\n");
        } else {
            self.bulk(digits);
        }
    }

    /// Text with a three-letter format (`txt`, `mkd`); a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        if self.is_resp3() {
            self.number(b'=', text.len() as i64 + 4);
            self.raw(format);
            self.out.push(b':');
            self.raw(text);
            self.raw(b"\r\n");
        } else {
            self.bulk(text);
        }
    }

    /// A double from its text (see `base::number::format_double`): `,text`, or a bulk string in RESP2.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.is_resp3() {
            self.out.push(b',');
            self.raw(text);
            self.raw(b"\r\n");
        } else {
            self.bulk(text);
        }
    }

    /// Bytes that are RESP already: a captured reply.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    #[inline]
    fn number(&mut self, kind: u8, n: i64) {
        // One or two digits, nearly always.
        match n {
            0..=9 => self.out.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']),
            10..=99 => {
                self.out.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
            }
            _ => self.longer_number(kind, n),
        }
    }

    #[inline(never)]
    fn longer_number(&mut self, kind: u8, n: i64) {
        self.out.push(kind);
        self.raw(itoa::Buffer::new().format(n).as_bytes());
        self.raw(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Reply), resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, protocol));
            assert_eq!(String::from_utf8_lossy(&out), expected, "{protocol:?}");
        }
    }

    #[test]
    fn each_form_in_both_protocols() {
        check(|r| r.ok(), "+OK\r\n", "+OK\r\n");
        check(|r| r.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(|r| r.integer(-7), ":-7\r\n", ":-7\r\n");
        check(|r| r.bulk(b"ab"), "$2\r\nab\r\n", "$2\r\nab\r\n");
        check(|r| r.bulk_integer(10), "$2\r\n10\r\n", "$2\r\n10\r\n");
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.array(2), "*2\r\n", "*2\r\n");
        check(|r| r.map(2), "*4\r\n", "%2\r\n");
        check(|r| r.set(2), "*2\r\n", "~2\r\n");
        check(|r| r.push(2), "*2\r\n", ">2\r\n");
        check(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        check(|r| r.verbatim(b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|r| r.double_text(b"1.5"), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.big_number(b"12"), "$2\r\n12\r\n", "(12\r\n");
    }
}
