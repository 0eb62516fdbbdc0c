//! Redis's glob patterns, bug for bug: KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, COMMAND LIST, ACL rules.
//!
//! `*` any run, `?` any byte, `[abc]`, `[^a]`, `[a-z]`, `\` takes the next byte as it is. Where a pattern is odd
//! (unclosed class, reversed range, `\` at the end, empty text) the answer is that of Redis's `stringmatchlen`.

/// Stars a pattern may hold, runs of them counted once, before it matches nothing: Redis's bound on its recursion.
const STARS_MAX: usize = 1000;

/// Does all of `text` match `pattern`? With `nocase`, ASCII letters match in either case.
///
/// Cost is at most `pattern.len() * text.len()`: when a part behind the last star fails, giving an earlier star more of
/// the text cannot help, as the last one can already skip anything. So there is one place to resume from, not a stack.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a byte does not match: behind the last star, one byte further into the text.
    let mut resume: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if t == text.len() {
            // Trailing stars match nothing; but an empty text has never entered the comparison in Redis, and there
            // not even `*` matches it.
            let rest = &pattern[p..];
            if rest.is_empty() || (!text.is_empty() && rest.iter().all(|&byte| byte == b'*')) {
                return true;
            }
        } else if pattern.get(p) == Some(&b'*') {
            p += pattern[p..].iter().take_while(|&&byte| byte == b'*').count();
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            resume = Some((p, t));
            continue;
        } else if let Some(next) = match_one(pattern, p, text[t], nocase) {
            (p, t) = (next, t + 1);
            continue;
        }
        match &mut resume {
            Some((after_star, from)) if *from + 1 < text.len() => {
                *from += 1;
                (p, t) = (*after_star, *from);
            }
            _ => return false,
        }
    }
}

/// Whether a pattern matches every key, so that callers need not look at them.
pub fn matches_all(pattern: &[u8]) -> bool {
    pattern == b"*"
}

/// Matches one byte against the element at `p` (no star); gives the index behind the element.
#[inline]
fn match_one(pattern: &[u8], p: usize, byte: u8, nocase: bool) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match_class(pattern, p + 1, byte, nocase),
        b'\\' if p + 1 < pattern.len() => equal(pattern[p + 1], byte, nocase).then_some(p + 2),
        literal => equal(literal, byte, nocase).then_some(p + 1),
    }
}

/// Matches one byte against the class whose `[` stands before `p`.
fn match_class(pattern: &[u8], mut p: usize, byte: u8, nocase: bool) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut found = false;
    loop {
        match pattern[p..] {
            // An escaped byte is compared exactly, even without case.
            [b'\\', literal, ..] => {
                found |= literal == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            // A class that is never closed ends with the pattern.
            [] => break,
            [start, b'-', end, ..] => {
                found |= in_range(start, end, byte, nocase);
                p += 3;
            }
            [literal, ..] => {
                found |= equal(literal, byte, nocase);
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

/// Ranges compare signed bytes, as `char` is on the platforms Redis is built for, and are put in order before letters
/// lose their case.
fn in_range(start: u8, end: u8, byte: u8, nocase: bool) -> bool {
    let (start, end) = if start as i8 > end as i8 { (end, start) } else { (start, end) };
    let fold = |byte: u8| if nocase { byte.to_ascii_lowercase() as i8 } else { byte as i8 };
    (fold(start)..=fold(end)).contains(&fold(byte))
}

#[inline]
fn equal(a: u8, b: u8, nocase: bool) -> bool {
    a == b || (nocase && a.eq_ignore_ascii_case(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for text in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} must match {text}");
        }
        for text in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn literals_and_question_marks() {
        check("", &[""], &["a"]);
        check("abc", &["abc"], &["ab", "abcd", "ABC"]);
        check("h?llo", &["hello", "hallo"], &["hllo", "heello"]);
    }

    #[test]
    fn stars() {
        check("*", &["a", "abc"], &[]);
        check("a*", &["a", "abc"], &["ba"]);
        check("*c", &["c", "abc", "cc"], &["cb"]);
        check("a**c", &["ac", "abc"], &["ab"]);
        check("a*b*c", &["abc", "axbxc", "abbcc"], &["acb", "ab"]);
        check("*a*", &["a", "bab"], &["b"]);
    }

    #[test]
    fn empty_text_matches_only_the_empty_pattern() {
        check("*", &[], &[""]);
        check("**", &[], &[""]);
        check("?", &[], &[""]);
    }

    #[test]
    fn classes() {
        check("h[ae]llo", &["hello", "hallo"], &["hillo"]);
        check("h[^e]llo", &["hallo"], &["hello"]);
        check("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]);
        check("[b-a]", &["a", "b"], &["c"]);
        check("[\\]]", &["]"], &["\\"]);
        check("[a\\-z]", &["a", "-", "z"], &["b"]);
        check("[]a", &[], &["a", "]a"]);
        check("[^]a", &["xa", "aa"], &["a"]);
    }

    #[test]
    fn unclosed_classes_end_with_the_pattern() {
        check("[ab", &["a", "b"], &["c", "ab"]);
        check("[", &[], &["a", "["]);
        check("[^", &["a", "["], &["ab"]);
        check("[a-", &["a", "-"], &["b"]);
        check("x[ab", &["xa"], &["x"]);
    }

    #[test]
    fn escapes() {
        check("h\\?llo", &["h?llo"], &["hello"]);
        check("\\*", &["*"], &["a"]);
        check("a\\", &["a\\"], &["a"]);
    }

    #[test]
    fn without_case() {
        assert!(matches(b"Ab[C]*", b"aBcX", true));
        assert!(matches(b"[a-c]", b"B", true));
        assert!(!matches(b"[\\B]", b"b", true), "an escaped byte in a class keeps its case");
        assert!(!matches(b"ab", b"AB", false));
    }

    #[test]
    fn bytes_above_127_are_negative_in_ranges() {
        assert!(matches(b"[a-\xff]", b"A", false), "the range runs from -1 to 97");
        assert!(!matches(b"[a-\xff]", b"b", false));
        assert!(matches(b"[\x80-\x90]", b"\x85", false));
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let text = vec![b'a'; 2000];
        let pattern = [b"a*".repeat(500), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &text, false));
    }

    #[test]
    fn more_than_a_thousand_stars_match_nothing() {
        let text = vec![b'a'; 2000];
        let stars = |n| [b"*a".repeat(n), b"*".to_vec()].concat();
        assert!(matches(&stars(1000), &text, false));
        assert!(!matches(&stars(1001), &text, false));
    }

    /// Redis's recursion, kept as the oracle: every star tries every rest of the text.
    fn matches_slow(p: &[u8], t: &[u8], nocase: bool) -> bool {
        if t.is_empty() {
            return p.iter().all(|&byte| byte == b'*');
        }
        if p.first() == Some(&b'*') {
            return p.iter().all(|&byte| byte == b'*')
                || (0..t.len()).any(|from| matches_slow(&p[1..], &t[from..], nocase));
        }
        match_one(p, 0, t[0], nocase).is_some_and(|next| matches_slow(&p[next..], &t[1..], nocase))
    }

    proptest! {
        #[test]
        fn agrees_with_full_backtracking(pattern in "[ab*?\\[\\]^\\-\\\\]{0,10}", text in "[abAB\\]^-]{1,8}", nocase: bool) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text, nocase), matches_slow(pattern, text, nocase));
        }

        #[test]
        fn any_bytes_are_safe(pattern: Vec<u8>, text: Vec<u8>, nocase: bool) {
            matches(&pattern, &text, nocase);
        }
    }
}
