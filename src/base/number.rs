//! Numbers as Redis reads them from clients and prints them for them.
//!
//! What a text must look like to count as a number decides whether INCR works on it, whether a value is stored as an
//! integer, and which error a client gets; so the rules here are Redis's to the byte, and not those of `str::parse`.

use super::grisu;

/// Longest text of a 64-bit integer: twenty bytes, `-9223372036854775808`.
const INTEGER_LEN_MAX: usize = 20;

/// A signed integer in its only canonical form: no space, no `+`, no leading zero, no `-0`. (Redis's `string2ll`.)
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => {
            let magnitude = parse_u64(digits)?;
            if magnitude == 0 || magnitude > 1 << 63 {
                return None;
            }
            Some((magnitude as i64).wrapping_neg())
        }
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// An unsigned integer in canonical form.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if text.len() <= INTEGER_LEN_MAX => text.iter().try_fold(0_u64, |sum, &byte| {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
        }),
        _ => None,
    }
}

/// A double as `strtod` reads it, the whole text long: decimal, hexadecimal, or an infinity by name. `None` also for
/// leading space, NaN, and for what overflows or becomes zero without being it. (Redis's `string2d`.)
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, magnitude) = match text.as_bytes() {
        [b'-', ..] => (-1.0, &text[1..]),
        [b'+', ..] => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let value = match magnitude.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(digits)?,
        // Named infinities are no overflow. (Without this a second sign, or "nan", would reach `parse`.)
        [b'i' | b'I', ..] => return magnitude.parse().ok().map(|infinity: f64| sign * infinity),
        [b'0'..=b'9' | b'.', ..] => {
            let value: f64 = magnitude.parse().ok()?;
            (value != 0.0 || !has_nonzero_digit(magnitude)).then_some(value)?
        }
        _ => return None,
    };
    value.is_finite().then_some(sign * value)
}

/// Is there a digit but 0 in front of the exponent?
fn has_nonzero_digit(text: &str) -> bool {
    text.bytes().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e')).any(|byte| matches!(byte, b'1'..=b'9'))
}

/// What follows `0x`: hexadecimal digits with an optional point, then an optional power of two in decimal.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut significand, mut exponent) = (0_u64, exponent);
    let (mut any_digit, mut in_fraction, mut sticky) = (false, false, false);
    for &byte in digits {
        if byte == b'.' && !in_fraction {
            in_fraction = true;
            continue;
        }
        let digit = u64::from(char::from(byte).to_digit(16)?);
        any_digit = true;
        exponent -= 4 * i64::from(in_fraction);
        if significand >> 60 == 0 {
            significand = significand << 4 | digit;
        } else {
            exponent += 4;
            sticky |= digit != 0;
        }
    }
    if !any_digit {
        return None;
    }
    if significand == 0 {
        return Some(0.0);
    }
    let value = scale(significand, exponent, sticky);
    (value != 0.0).then_some(value)
}

/// The exponent of a number, bounded: beyond that, no text is long enough to bring the number back.
pub(super) fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0, |sum: i64, byte| (sum * 10 + i64::from(byte - b'0')).min(1 << 40));
    Some(if negative { -magnitude } else { magnitude })
}

/// `significand * 2^exponent` to the nearest double; `sticky` stands for set bits below the significand's last, which
/// there can only be if it has more bits than a double.
fn scale(significand: u64, exponent: i64, sticky: bool) -> f64 {
    const LAST_BIT_MIN: i64 = -1074;
    let bits = 64 - i64::from(significand.leading_zeros());
    let drop = (bits - 53).max(LAST_BIT_MIN - exponent).max(0);
    if drop > 64 {
        return 0.0;
    }
    let wide = u128::from(significand);
    let (kept, rest) = ((wide >> drop) as u64, wide & ((1 << drop) - 1));
    let half = (1_u128 << drop) >> 1;
    let up = rest > half || (drop > 0 && rest == half && (sticky || kept & 1 == 1));
    let kept = kept + u64::from(up);
    // Exact from here on: at most 53 bits, and both factors are powers of two the result can bear.
    let exponent = exponent + drop;
    if exponent > 1023 {
        return f64::INFINITY;
    }
    let (first, second) = (exponent.max(-1022), exponent - exponent.max(-1022));
    kept as f64 * power_of_two(first) * power_of_two(second)
}

/// 2^exponent in the normal range.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Appends a double as Redis prints it in replies: whole numbers without a point, else digits that read back as the
/// same double, in the plain form or, where that would be long, with an exponent. (Redis's `d2string`.)
pub fn format_double(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    if magnitude <= WHOLE_MAX && magnitude.trunc() == magnitude {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(magnitude as u64).as_bytes());
    } else {
        format_shortest(value, out);
    }
}

/// The same without the exception for whole numbers. (Redis's `fpconv_dtoa`.)
pub fn format_shortest(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if magnitude == 0.0 {
        out.push(b'0');
    } else {
        let digits = grisu::digits(magnitude);
        format_digits(digits.as_bytes(), digits.exponent, value.is_sign_negative(), out);
    }
}

/// Half the range of 64-bit integers: up to here Redis prints all digits of a whole number.
const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;

/// Appends `digits * 10^exponent`, with Redis's choice between the plain and the scientific form.
fn format_digits(digits: &[u8], exponent: i32, negative: bool, out: &mut Vec<u8>) {
    let len = digits.len() as i32;
    let scientific = exponent + len - 1;
    if exponent >= 0 && scientific < len + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + exponent as usize, b'0');
    } else if exponent < 0 && (exponent > -7 || scientific.abs() < 4) {
        let whole = len + exponent;
        if whole <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + whole.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            let (whole, fraction) = digits.split_at(whole as usize);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        let digits = &digits[..digits.len().min(18 - usize::from(negative))];
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if scientific < 0 { b"e-" } else { b"e+" });
        out.extend_from_slice(itoa::Buffer::new().format(scientific.unsigned_abs()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        format_double(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_have_one_form() {
        for (text, value) in [("0", 0), ("-1", -1), ("42", 42)] {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        for text in ["", "-", "+1", " 1", "1 ", "01", "-0", "-01", "1.0", "0x1", "9223372036854775808", "1a"] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    #[test]
    fn doubles_as_strtod_reads_them() {
        for (text, value) in [
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e0005", 100_000.0),
            ("4e-324", 5e-324),
            ("-INF", f64::NEG_INFINITY),
            ("infinity", f64::INFINITY),
            ("0x1.8p3", 12.0),
            ("0x.8", 0.5),
            ("-0X10", -16.0),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000001p0", 1.0000000000000002),
            ("0x1p-1074", 5e-324),
            ("0x0p99999", 0.0),
            ("0e999", 0.0),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "1e",
            "e1",
            ".",
            "+",
            "--1",
            "+-1",
            "nan",
            "-nan",
            "nan(1)",
            "1_0",
            "0x",
            "0xp1",
            "0x1p",
            "1e400",
            "1e-400",
            "0x1p1024",
            "0x1p-1080",
            "inf1",
            "i",
            "1\0",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_as_redis_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
            (0.1, "0.1"),
            (-3.25, "-3.25"),
            (1e17, "100000000000000000"),
            (4.7e18, "4.7e+18"),
            (2f64.powi(63), "9223372036854776000"),
            (1e21, "1e+21"),
            (123456789012345680000.0, "123456789012345680000"),
            (0.000001, "0.000001"),
            (1.5e-6, "1.5e-6"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (94979856262189.88, "94979856262189.87"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    /// Recorded from valkey-server 8.0.1: bits of a score, ZSCORE's answer.
    #[test]
    fn recorded_doubles() {
        let mut count = 0;
        for line in include_str!("doubles_recorded.txt").lines() {
            let (bits, expected) = line.split_once(' ').unwrap();
            assert_eq!(text(f64::from_bits(u64::from_str_radix(bits, 16).unwrap())), expected);
            count += 1;
        }
        assert!(count >= 300, "the recording is there");
    }

    proptest! {
        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn what_is_parsed_prints_back(text in "-?[0-9]{1,20}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }

        #[test]
        fn doubles_round_trip(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_f64(text(value).as_bytes()).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn hexadecimal_is_exact(bits: u64) {
            let value = f64::from_bits(bits & !(1 << 63));
            prop_assume!(value.is_finite() && value != 0.0);
            let (fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff);
            let (lead, exponent) = if biased == 0 { (0, -1022) } else { (1, biased as i64 - 1023) };
            prop_assert_eq!(parse_f64(format!("0x{lead}.{fraction:013x}p{exponent}").as_bytes()), Some(value));
        }

        #[test]
        fn any_text_is_safe(text in "[0-9.eExXpPinfaN+-]{0,30}", bytes: Vec<u8>) {
            parse_f64(text.as_bytes());
            parse_f64(&bytes);
            parse_i64(&bytes);
        }
    }
}
