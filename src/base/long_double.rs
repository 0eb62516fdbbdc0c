//! The x87 80-bit floating-point number, in software: INCRBYFLOAT and HINCRBYFLOAT are defined by it.
//!
//! Redis adds in C's `long double` and prints the sum with 17 decimals; on the platforms it is known on that type has a
//! 64-bit significand, which is why 0.1 + 0.2 answers 0.3 there, and answers kept in files and replicas depend on every
//! digit. Parsing, adding and printing round as the x87 unit and glibc do: to nearest, ties to even.

use std::cmp::Ordering;

use super::number::parse_exponent;

/// Longest text that is read as a number: Redis copies it to a buffer of 5 KiB.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// The exponent of the last bit of the smallest and of the largest finite value.
const EXPONENT_MIN: i32 = -16445;
const EXPONENT_MAX: i32 = 16320;
/// Decimals that are printed, before trailing zeros go.
const DECIMALS: u32 = 17;
/// The largest power of ten in a `u64`, and its exponent: the step of the slow conversions.
const CHUNK: u64 = 10_u64.pow(CHUNK_DIGITS as u32);
const CHUNK_DIGITS: usize = 19;

/// A number of C's `long double`; never NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongDouble {
    /// `significand * 2^exponent`. Unless the value is below the normal range, bit 63 of the significand is set;
    /// zero is a significand of 0.
    Finite {
        negative: bool,
        significand: u64,
        exponent: i32,
    },
    Infinite {
        negative: bool,
    },
}

use LongDouble::{Finite, Infinite};

impl LongDouble {
    pub const ZERO: LongDouble = Finite { negative: false, significand: 0, exponent: EXPONENT_MIN };

    /// Reads a whole text as `strtold` does; `None` for what Redis calls "not a valid float": leading space, anything
    /// behind the number, NaN, overflow, underflow to zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, magnitude) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
            return Some(Infinite { negative });
        }
        let value = match magnitude {
            [b'0', b'x' | b'X', digits @ ..] => from_hexadecimal(negative, Scanned::read(digits, 16)?),
            digits => from_decimal(negative, Scanned::read(digits, 10)?),
        };
        value.filter(LongDouble::is_finite)
    }

    pub fn is_finite(&self) -> bool {
        matches!(self, Finite { .. })
    }

    /// The rounded sum; `None` where it is not finite ("increment would produce NaN or Infinity").
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let (
            Finite { negative: a_negative, significand: a, exponent: a_exponent },
            Finite { negative: b_negative, significand: b, exponent: b_exponent },
        ) = (self, other)
        else {
            return None;
        };
        Some(add_finite((a_negative, a, a_exponent), (b_negative, b, b_exponent))).filter(LongDouble::is_finite)
    }

    /// The text Redis stores and replies: 17 decimals, without trailing zeros, never `-0`.
    pub fn to_text(self) -> String {
        let (negative, significand, exponent) = match self {
            Infinite { negative } => return if negative { "-inf" } else { "inf" }.to_owned(),
            Finite { negative, significand, exponent } => (negative, significand, exponent),
        };
        let mut text = if exponent >= 0 {
            Natural::from(u128::from(significand)).shifted_left(exponent as u32).into_text()
        } else {
            // Below 2^121: the 17 decimals cost 57 bits more than the significand.
            let scaled = u128::from(significand) * 10_u128.pow(DECIMALS);
            let digits = format!("{:018}", shift_right_to_nearest(scaled, exponent.unsigned_abs()));
            let (whole, decimals) = digits.split_at(digits.len() - DECIMALS as usize);
            let decimals = decimals.trim_end_matches('0');
            if decimals.is_empty() { whole.to_owned() } else { format!("{whole}.{decimals}") }
        };
        if negative && text != "0" {
            text.insert(0, '-');
        }
        text
    }
}

/// Digits and exponent of a text that is a number as a whole.
struct Scanned {
    /// Digit values without leading zeros; the number is `digits * base^-fraction_len * scale^exponent`.
    digits: Vec<u8>,
    fraction_len: i64,
    /// Power of ten, or of two in a hexadecimal text; clamped far outside the range.
    exponent: i64,
}

impl Scanned {
    fn read(text: &[u8], base: u32) -> Option<Scanned> {
        let mark = if base == 16 { b'p' } else { b'e' };
        let (number, exponent) = match text.iter().position(|byte| byte.to_ascii_lowercase() == mark) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let mut scanned = Scanned { digits: Vec::with_capacity(number.len()), fraction_len: 0, exponent };
        let (mut any_digit, mut in_fraction) = (false, false);
        for &byte in number {
            if byte == b'.' && !in_fraction {
                in_fraction = true;
                continue;
            }
            let digit = char::from(byte).to_digit(base)? as u8;
            any_digit = true;
            scanned.fraction_len += i64::from(in_fraction);
            if digit != 0 || !scanned.digits.is_empty() {
                scanned.digits.push(digit);
            }
        }
        any_digit.then_some(scanned)
    }
}

/// `None`: not zero, but rounds to it.
fn from_hexadecimal(negative: bool, scanned: Scanned) -> Option<LongDouble> {
    if scanned.digits.is_empty() {
        return Some(zero(negative));
    }
    let exponent = (scanned.exponent - 4 * scanned.fraction_len).clamp(-100_000, 100_000) as i32;
    let mut number = Natural::default();
    for digit in scanned.digits {
        number.multiply_add(16, u64::from(digit));
    }
    let (top, dropped, sticky) = number.top_bits();
    nonzero(round(negative, top, exponent + dropped as i32, sticky))
}

/// `None`: not zero, but rounds to it.
fn from_decimal(negative: bool, scanned: Scanned) -> Option<LongDouble> {
    let Scanned { digits, fraction_len, exponent } = scanned;
    if digits.is_empty() {
        return Some(zero(negative));
    }
    let exponent = exponent - fraction_len;
    // The value lies in 10^(magnitude - 1) .. 10^magnitude; the finite numbers end near 10^4932 and 10^-4950.
    let magnitude = exponent + digits.len() as i64;
    if magnitude > 4_940 {
        return Some(Infinite { negative });
    }
    if magnitude < -4_960 {
        return None;
    }
    let exponent = exponent as i32;
    if digits.len() <= CHUNK_DIGITS && (-27..=27).contains(&exponent) {
        return nonzero(from_short_decimal(negative, &digits, exponent));
    }
    let mut number = Natural::default();
    for chunk in digits.chunks(CHUNK_DIGITS) {
        number.multiply_add(10_u64.pow(chunk.len() as u32), chunk.iter().fold(0, |sum, &d| sum * 10 + u64::from(d)));
    }
    for (len, times) in chunks_of(exponent.unsigned_abs()) {
        if exponent > 0 {
            (0..times).for_each(|_| number.multiply_add(10_u64.pow(len), 0));
        }
    }
    let mut shift = 0;
    let mut sticky = false;
    if exponent < 0 {
        // 10^n needs less than 3.33 n bits: this leaves more than 64 in the quotient. What division by parts drops is
        // below the quotient's last bit, so one flag keeps it.
        shift = exponent.unsigned_abs() * 10 / 3 + 70;
        number = number.shifted_left(shift);
        for (len, times) in chunks_of(exponent.unsigned_abs()) {
            (0..times).for_each(|_| sticky |= number.divide(10_u64.pow(len)) != 0);
        }
    }
    let (top, dropped, low) = number.top_bits();
    nonzero(round(negative, top, dropped as i32 - shift as i32, sticky | low))
}

/// `10^exponent` as factors: `(len, times)` stands for `times` factors of `10^len`.
fn chunks_of(exponent: u32) -> [(u32, u32); 2] {
    let len = CHUNK_DIGITS as u32;
    [(len, exponent / len), (exponent % len, 1)]
}

/// The common case without big numbers: 5^27 fits in 64 bits, so one multiplication or division is exact.
fn from_short_decimal(negative: bool, digits: &[u8], exponent: i32) -> LongDouble {
    let number = digits.iter().fold(0, |sum: u64, &digit| sum * 10 + u64::from(digit));
    let fives = 5_u128.pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return round(negative, u128::from(number) * fives, exponent, false);
    }
    // The quotient has at least 64 bits: 127 of the numerator against 63 of 5^27.
    let shift = 64 + number.leading_zeros() as i32;
    let numerator = u128::from(number) << shift;
    round(negative, numerator / fives, exponent - shift, !numerator.is_multiple_of(fives))
}

fn add_finite(a: (bool, u64, i32), b: (bool, u64, i32)) -> LongDouble {
    let ((negative, large, exponent), (b_negative, small, small_exponent)) =
        if (a.2, a.1).cmp(&(b.2, b.1)) == Ordering::Less { (b, a) } else { (a, b) };
    // Room for a carry above, 63 bits below the larger one's last. What the smaller one loses beyond them is folded
    // into its last bit: that makes it odd, which is all rounding to 64 bits can see of it.
    let distance = exponent.abs_diff(small_exponent);
    let large = u128::from(large) << 63;
    let small = shift_right_sticky(u128::from(small) << 63, distance);
    let (negative, sum) = if negative == b_negative {
        (negative, large + small)
    } else if large >= small {
        (negative, large - small)
    } else {
        (b_negative, small - large)
    };
    if sum == 0 {
        return LongDouble::ZERO;
    }
    round(negative, sum, exponent - 63, false)
}

/// The nearest number to `value * 2^exponent`, where `sticky` says that a little more belongs to `value`.
fn round(negative: bool, value: u128, exponent: i32, sticky: bool) -> LongDouble {
    debug_assert!(value != 0 && (!sticky || value >> 64 != 0), "a rest below the last bit must not be shifted up");
    let top_exponent = exponent + 128 - 64 - value.leading_zeros() as i32;
    let target = top_exponent.max(EXPONENT_MIN);
    let shift = target - exponent;
    let significand = if shift <= 0 {
        value << -shift
    } else {
        // The flag cannot be lost: there is at least one bit to shift out, and it goes below that.
        shift_right_to_nearest_sticky(value, shift as u32, sticky)
    };
    let (significand, exponent) =
        if significand >> 64 != 0 { (1 << 63, target + 1) } else { (significand as u64, target) };
    if exponent > EXPONENT_MAX { Infinite { negative } } else { Finite { negative, significand, exponent } }
}

fn zero(negative: bool) -> LongDouble {
    Finite { negative, significand: 0, exponent: EXPONENT_MIN }
}

fn nonzero(value: LongDouble) -> Option<LongDouble> {
    (!matches!(value, Finite { significand: 0, .. })).then_some(value)
}

fn shift_right_sticky(value: u128, by: u32) -> u128 {
    match value.checked_shr(by) {
        Some(kept) => kept | u128::from(kept << by != value),
        None => u128::from(value != 0),
    }
}

fn shift_right_to_nearest(value: u128, by: u32) -> u128 {
    shift_right_to_nearest_sticky(value, by, false)
}

fn shift_right_to_nearest_sticky(value: u128, by: u32, sticky: bool) -> u128 {
    debug_assert!(by > 0);
    let kept = value.checked_shr(by).unwrap_or(0);
    // Half a unit of what is kept; from 129 bits on everything is less than half.
    let Some(half) = 1_u128.checked_shl(by - 1) else { return 0 };
    let rest = value & (half | (half - 1));
    let up = match rest.cmp(&half) {
        Ordering::Less => false,
        Ordering::Equal => sticky || kept & 1 == 1,
        Ordering::Greater => true,
    };
    kept + u128::from(up)
}

/// An unsigned number of any size; words from the lowest, no zero word on top.
#[derive(Default)]
struct Natural {
    words: Vec<u64>,
}

impl From<u128> for Natural {
    fn from(value: u128) -> Natural {
        let mut number = Natural { words: vec![value as u64, (value >> 64) as u64] };
        number.trim();
        number
    }
}

impl Natural {
    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    fn multiply_add(&mut self, factor: u64, summand: u64) {
        let mut carry = summand;
        for word in &mut self.words {
            let wide = u128::from(*word) * u128::from(factor) + u128::from(carry);
            *word = wide as u64;
            carry = (wide >> 64) as u64;
        }
        if carry != 0 {
            self.words.push(carry);
        }
    }

    /// Divides in place and returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0;
        for word in self.words.iter_mut().rev() {
            let wide = u128::from(rest) << 64 | u128::from(*word);
            *word = (wide / u128::from(divisor)) as u64;
            rest = (wide % u128::from(divisor)) as u64;
        }
        self.trim();
        rest
    }

    fn shifted_left(mut self, by: u32) -> Natural {
        self.multiply_add(1 << (by % 64), 0);
        if !self.words.is_empty() {
            self.words.splice(0..0, std::iter::repeat_n(0, (by / 64) as usize));
        }
        self
    }

    /// The number as `top * 2^dropped`, with `top` in 128 bits, and whether bits were lost.
    fn top_bits(&self) -> (u128, u32, bool) {
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        let len = self.words.len();
        if len <= 2 {
            return (u128::from(word(1)) << 64 | u128::from(word(0)), 0, false);
        }
        let top = u128::from(word(len - 1)) << 64 | u128::from(word(len - 2));
        // Two words can hold as little as 65 bits: one more than a significand, and the flag goes below that one.
        (top, 64 * (len as u32 - 2), self.words[..len - 2].iter().any(|&word| word != 0))
    }

    fn into_text(mut self) -> String {
        let mut chunks = Vec::new();
        while !self.words.is_empty() {
            chunks.push(self.divide(CHUNK));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.into_iter().rev() {
            text.push_str(&format!("{chunk:0CHUNK_DIGITS$}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> String {
        match (LongDouble::parse(a.as_bytes()), LongDouble::parse(b.as_bytes())) {
            (Some(a), Some(b)) => a.checked_add(b).map_or_else(|| "nan".to_owned(), LongDouble::to_text),
            _ => "invalid".to_owned(),
        }
    }

    #[test]
    fn sums_as_people_expect_them() {
        for (a, b, expected) in [
            ("3", "1.1", "4.1"),
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("-1e-20", "0", "0"),
            ("17179869184", "1.5", "17179869185.5"),
            ("inf", "-inf", "nan"),
            ("inf", "1", "nan"),
            ("1e4932", "1e4932", "nan"),
            ("0x1.8p1", "0", "3"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in
            ["", " 1", "1 ", "1e", "e1", ".", "+", "nan", "1e5000", "1e-5000", "0x", "0xg", "1.2.3", "--1", "1_0"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        let long = [b"1.".to_vec(), vec![b'0'; TEXT_LEN_MAX]].concat();
        assert_eq!(LongDouble::parse(&long), None);
        assert!(LongDouble::parse(&long[..TEXT_LEN_MAX]).is_some());
    }

    #[test]
    fn the_ends_of_the_range() {
        assert!(LongDouble::parse(b"1.18973149535723176502e+4932").is_some());
        assert_eq!(LongDouble::parse(b"1.18973149535723176509e+4932"), None);
        let smallest = LongDouble::parse(b"3.6451995318824746025e-4951");
        assert_eq!(smallest, Some(Finite { negative: false, significand: 1, exponent: EXPONENT_MIN }));
        assert_eq!(LongDouble::parse(b"1.8e-4951"), None);
    }

    /// Recorded from valkey-server 8.0.1 on x86-64: `SET k a`, `INCRBYFLOAT k b`.
    #[test]
    fn recorded_sums() {
        let mut count = 0;
        for line in include_str!("long_double_recorded.txt").lines() {
            let [a, b, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("three fields: {line}") };
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            count += 1;
        }
        assert!(count >= 300, "the recording is there");
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(text in "[0-9.eExXpPinfa+-]{0,40}") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                value.to_text();
            }
        }

        #[test]
        fn short_and_long_ways_agree(number: u64, exponent in -27i32..=27) {
            let number = number % CHUNK + 1;
            // The zeros in front of the fraction's end push the text past the short way.
            let short = LongDouble::parse(format!("{number}e{exponent}").as_bytes());
            let long = LongDouble::parse(format!("{number}{}e{}", "0".repeat(20), exponent - 20).as_bytes());
            prop_assert_eq!(short, long);
        }

        #[test]
        fn integers_are_exact(a: i64, b: i64) {
            // Sums of two 64-bit integers fit the significand, but for the sign's bit.
            let expected = i128::from(a) + i128::from(b);
            prop_assume!(expected.unsigned_abs() <= u128::from(u64::MAX));
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), expected.to_string());
        }

        #[test]
        fn addition_commutes(a: f64, b: f64) {
            let (a, b) = (format!("{a:e}"), format!("{b:e}"));
            prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        }
    }
}
