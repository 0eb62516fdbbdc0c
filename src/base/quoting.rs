//! Lines of words with quotes, as config files, the inline protocol and command lines of Redis have them.
//!
//! Between blanks stands a word; `"…"` takes `\n \r \t \b \a \xHH` and `\` before any other byte, `'…'` only `\'`. A closing
//! quote ends the word: what follows must be a blank. (Redis's `sdssplitargs` and `sdscatrepr`.)

/// Splits a line into words; `None` if a quote is not closed, or not followed by a blank.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    // C strings end at a zero byte.
    let line = line.split(|&byte| byte == 0).next().unwrap_or(line);
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|&&byte| is_blank(byte)).count();
        if at == line.len() {
            return Some(words);
        }
        let (word, len) = read_word(&line[at..])?;
        words.push(word);
        at += len;
    }
}

/// Reads one word and tells how many bytes it took.
fn read_word(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' | b'\'' => {
                let len = if byte == b'"' {
                    read_double(&text[at..], &mut word)
                } else {
                    read_single(&text[at..], &mut word)
                }?;
                at += len;
                return text.get(at).is_none_or(|&next| is_blank(next)).then_some((word, at));
            }
            _ => {
                word.push(byte);
                at += 1;
            }
        }
    }
    Some((word, at))
}

/// Reads from one double quote behind the other; `None` if there is no other.
fn read_double(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        let (byte, len) = match text[at..] {
            [] => return None,
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_value(high) << 4 | hex_value(low), 4)
            }
            [b'\\', escaped, ..] => (unescape(escaped), 2),
            [plain, ..] => (plain, 1),
        };
        word.push(byte);
        at += len;
    }
}

fn read_single(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        let (byte, len) = match text[at..] {
            [] => return None,
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [plain, ..] => (plain, 1),
        };
        word.push(byte);
        at += len;
    }
}

/// Appends `text` as one word in double quotes that `split` reads back as it was.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).expect("only called on hexadecimal digits") as u8
}

/// What C's `isspace` says.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let words =
            split(line.as_bytes()).map(|words| words.into_iter().map(|w| String::from_utf8(w).unwrap()).collect());
        let expected: Option<Vec<String>> = expected.map(|words| words.iter().map(|&w| w.to_owned()).collect());
        assert_eq!(words, expected, "{line}");
    }

    #[test]
    fn words_and_quotes() {
        check("", Some(&[]));
        check("  a\tb  ", Some(&["a", "b"]));
        check(r#"save """#, Some(&["save", ""]));
        check(r#"a "b c" 'd "e'"#, Some(&["a", "b c", "d \"e"]));
        check(r#""\x41\n\"\q""#, Some(&["A\n\"q"]));
        check(r"'it\'s' '\n'", Some(&["it's", r"\n"]));
        check(r#"ab"cd""#, Some(&["abcd"]));
        check("a\0b", Some(&["a"]));
    }

    #[test]
    fn unbalanced_quotes() {
        for line in ["\"", "'", "\"a", "\"a\"b", "'a'b", "\"a\\\"", "x'"] {
            check(line, None);
        }
    }

    proptest! {
        #[test]
        fn quoted_reads_back(words: Vec<Vec<u8>>) {
            let mut line = Vec::new();
            for word in &words {
                quote(word, &mut line);
                line.push(b' ');
            }
            prop_assert_eq!(split(&line), Some(words));
        }

        #[test]
        fn any_line_is_safe(line: Vec<u8>, tricky in "[ \"'\\\\xa0]{0,12}") {
            split(&line);
            split(tricky.as_bytes());
        }
    }
}
