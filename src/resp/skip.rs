//! Finds where an encoded reply ends: for replies of ours that are taken apart and put together anew.

use memchr::memchr;

/// Index behind the reply that begins at `at`. The bytes are a whole reply written by [`super::reply::Reply`].
pub fn end_of_reply(bytes: &[u8], at: usize) -> usize {
    let (line, mut end) = line_at(bytes, at);
    let length = || crate::base::number::parse_i64(&line[1..]).expect("a length of our own writing");
    let elements = match line[0] {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return end,
        b'$' | b'=' | b'!' => {
            let length = length();
            return if length < 0 { end } else { end + length as usize + 2 };
        }
        b'*' | b'~' | b'>' => length().max(0),
        b'%' => 2 * length(),
        // The attribute belongs to the reply behind it.
        b'|' => 2 * length() + 1,
        other => unreachable!("no reply begins with {other:#x}"),
    };
    for _ in 0..elements {
        end = end_of_reply(bytes, end);
    }
    end
}

/// The elements of an array, each as encoded; `None` if the reply is no array.
pub fn elements(bytes: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    if !matches!(bytes.first(), Some(b'*' | b'~')) {
        return None;
    }
    let (line, mut at) = line_at(bytes, 0);
    let count = crate::base::number::parse_i64(&line[1..])?.max(0);
    Some((0..count).map(move |_| {
        let from = at;
        at = end_of_reply(bytes, at);
        &bytes[from..at]
    }))
}

/// The integer of an integer reply.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    crate::base::number::parse_i64(bytes.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// The line without its end, and where the next one begins.
fn line_at(bytes: &[u8], at: usize) -> (&[u8], usize) {
    let length = memchr(b'\r', &bytes[at..]).expect("every reply has a line end");
    (&bytes[at..at + length], at + length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_elements() {
        for reply in
            ["+OK\r\n", "$-1\r\n", "$2\r\nab\r\n", "*2\r\n:1\r\n*1\r\n$0\r\n\r\n", "%1\r\n+a\r\n_\r\n", "*-1\r\n"]
        {
            let bytes = [reply.as_bytes(), b"+next\r\n"].concat();
            assert_eq!(end_of_reply(&bytes, 0), reply.len(), "{reply:?}");
        }
        let found: Vec<_> = elements(b"*2\r\n$1\r\na\r\n_\r\n").unwrap().collect();
        assert_eq!(found, [b"$1\r\na\r\n".as_slice(), b"_\r\n"]);
        assert!(elements(b"-ERR x\r\n").is_none());
        assert_eq!(integer(b":42\r\n"), Some(42));
        assert_eq!(integer(b"-ERR\r\n"), None);
    }
}
