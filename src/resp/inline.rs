//! Words of an inline command or a config line: blanks, quotes, escapes, as Redis's `sdssplitargs` reads them.

/// C's `isspace`.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// The words of a line; `None` if a quote is not closed, or closed in the middle of a word.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() || line[at] == 0 {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(&byte) = line.get(at).filter(|&&byte| byte != 0 && !is_space(byte)) {
            match byte {
                b'"' | b'\'' => {
                    at = quoted(line, at + 1, byte, &mut word)?;
                    if line.get(at).is_some_and(|&next| next != 0 && !is_space(next)) {
                        return None;
                    }
                }
                _ => {
                    word.push(byte);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing `quote`: the index behind it.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match (*line.get(at)?, quote) {
            (0, _) => return None,
            (b'\\', b'"') => {
                let next = *line.get(at + 1)?;
                let hex = |at: usize| line.get(at).and_then(|&byte| (byte as char).to_digit(16));
                if let (b'x', Some(high), Some(low)) = (next, hex(at + 2), hex(at + 3)) {
                    word.push((high * 16 + low) as u8);
                    at += 4;
                    continue;
                }
                word.push(match next {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            (b'\\', _) if line.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            (byte, _) if byte == quote => return Some(at + 1),
            (byte, _) => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|words| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(split_words(line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn words_quotes_and_escapes() {
        check("", Some(&[]));
        check("  a  b ", Some(&["a", "b"]));
        check(r#""a b" 'c d'"#, Some(&["a b", "c d"]));
        check(r#""\x41\n\"\q""#, Some(&["A\n\"q"]));
        check(r"'it\'s' 'a\n'", Some(&["it's", "a\\n"]));
        check(r#"a"b""#, Some(&["ab"]));
        check(r#""""#, Some(&[""]));
        check(r#""a"b"#, None);
        check(r#""a"#, None);
        check("'a", None);
    }
}
