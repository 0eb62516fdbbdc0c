//! Grisu2 (Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers", 2010): the digits of doubles.
//!
//! Redis prints scores with it, so we do, although newer algorithms exist: Grisu2's digits always read back as the same
//! double, but about one time in a thousand they are not the shortest or not the closest, and clients compare texts.

/// The digits of a positive finite double: `0.d1d2d3… * 10^(exponent + len)`, that is `d1d2d3… * 10^exponent`.
pub struct Digits {
    buffer: [u8; DIGITS_MAX],
    len: usize,
    pub exponent: i32,
}

/// 17 digits always suffice for a double.
const DIGITS_MAX: usize = 18;

impl Digits {
    /// ASCII digits, the first of which is not 0.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    fn push(&mut self, digit: u64) {
        if digit != 0 || self.len != 0 {
            self.buffer[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }
}

/// `fraction * 2^exponent`
#[derive(Clone, Copy)]
struct Float {
    fraction: u64,
    exponent: i32,
}

const HIDDEN_BIT: u64 = 1 << 52;

pub fn digits(value: f64) -> Digits {
    assert!(value.is_finite() && value > 0.0, "signs, zeros and infinities are the caller's");
    let float = Float::of(value);
    let (lower, upper) = float.boundaries();
    let (power, decimal_exponent) = cached_power(upper.exponent);
    let scaled = float.normalized().times(power);
    // One unit off each boundary makes up for the error of the multiplication.
    let mut upper = upper.times(power);
    upper.fraction -= 1;
    let lower = lower.times(power).fraction + 1;
    generate(scaled.fraction, upper, lower, -decimal_exponent)
}

impl Float {
    fn of(value: f64) -> Float {
        let bits = value.to_bits();
        let (fraction, biased) = (bits & (HIDDEN_BIT - 1), (bits >> 52) as i32);
        if biased == 0 {
            Float { fraction, exponent: -1074 }
        } else {
            Float { fraction: fraction | HIDDEN_BIT, exponent: biased - 1075 }
        }
    }

    fn normalized(self) -> Float {
        let shift = self.fraction.leading_zeros();
        Float { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The middle between this double and each of its neighbours, both with the exponent of the normalised upper one.
    fn boundaries(self) -> (Float, Float) {
        let upper = Float { fraction: (self.fraction << 1) + 1, exponent: self.exponent - 1 }.normalized();
        // Below a power of two the doubles are twice as dense.
        let shift = if self.fraction == HIDDEN_BIT { 2 } else { 1 };
        let fraction = ((self.fraction << shift) - 1) << (self.exponent - shift - upper.exponent);
        (Float { fraction, exponent: upper.exponent }, upper)
    }

    fn times(self, other: Float) -> Float {
        let product = u128::from(self.fraction) * u128::from(other.fraction);
        Float { fraction: ((product + (1 << 63)) >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

fn generate(value: u64, upper: Float, lower: u64, decimal_exponent: i32) -> Digits {
    let mut digits = Digits { buffer: [0; DIGITS_MAX], len: 0, exponent: decimal_exponent };
    let point = upper.exponent.unsigned_abs();
    let one = 1_u64 << point;
    let distance = upper.fraction - value;
    let mut delta = upper.fraction - lower;
    let mut whole = upper.fraction >> point;
    let mut fraction = upper.fraction & (one - 1);

    let mut unit = 1_000_000_000;
    for remaining in (0..10).rev() {
        digits.push(whole / unit);
        whole %= unit;
        let rest = (whole << point) + fraction;
        if rest <= delta {
            digits.exponent += remaining;
            round_last(&mut digits, delta, rest, unit << point, distance);
            return digits;
        }
        unit /= 10;
    }
    let mut scale = 1_u64;
    loop {
        fraction *= 10;
        delta *= 10;
        scale = scale.wrapping_mul(10);
        digits.exponent -= 1;
        digits.push(fraction >> point);
        fraction &= one - 1;
        if fraction < delta {
            round_last(&mut digits, delta, fraction, one, distance.wrapping_mul(scale));
            return digits;
        }
    }
}

/// Lowers the last digit while that brings the number nearer to the value and keeps it above the lower boundary.
fn round_last(digits: &mut Digits, delta: u64, mut rest: u64, unit: u64, distance: u64) {
    while rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        digits.buffer[digits.len - 1] -= 1;
        rest += unit;
    }
}

/// Powers of ten in steps of 10^8 over the range of doubles.
static POWERS: [Float; POWERS_LEN] = powers();
const POWERS_LEN: usize = 87;
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// A power whose product with a normalised number of this binary exponent has its point in the upper half, and its
/// decimal exponent.
fn cached_power(exponent: i32) -> (Float, i32) {
    const LOG10_OF_2: f64 = 0.30102999566398114;
    // More than one power may fit; digits depend on which is taken, so the search starts where Redis's starts.
    let estimate = (-f64::from(exponent + POWERS_LEN as i32) * LOG10_OF_2) as i32;
    let mut index = ((estimate - POWER_FIRST) / POWER_STEP) as usize;
    loop {
        let power = POWERS[index];
        match exponent + power.exponent + 64 {
            ..-60 => index += 1,
            -60..=-32 => return (power, POWER_FIRST + POWER_STEP * index as i32),
            -31.. => index -= 1,
        }
    }
}

/// Room for 10^340, and for 64 bits of a quotient by 10^348.
const WORDS: usize = 22;

/// All powers, each rounded once from an exact number: 10^n above one, a quotient of 2^1344 by 10^n below.
const fn powers() -> [Float; POWERS_LEN] {
    let mut powers = [Float { fraction: 0, exponent: 0 }; POWERS_LEN];
    // 10^-4 is the first below one, 10^4 the first above.
    const FIRST_ABOVE: usize = 44;
    let mut words = [0_u64; WORDS];
    words[0] = 10_000;
    let mut index = FIRST_ABOVE;
    while index < POWERS_LEN {
        powers[index] = rounded(&words, 0);
        multiply(&mut words, 100_000_000);
        index += 1;
    }
    let mut words = [0_u64; WORDS];
    words[WORDS - 1] = 1;
    divide(&mut words, 10_000);
    let mut index = FIRST_ABOVE;
    while index > 0 {
        index -= 1;
        powers[index] = rounded(&words, 64 * (WORDS as i32 - 1));
        divide(&mut words, 100_000_000);
    }
    powers
}

/// `words * 2^-scale`, to the nearest. (None of the powers that need rounding lies in the middle.)
const fn rounded(words: &[u64; WORDS], scale: i32) -> Float {
    let mut top = WORDS - 1;
    while words[top] == 0 {
        top -= 1;
    }
    let below = if top > 0 { words[top - 1] } else { 0 };
    let wide = ((words[top] as u128) << 64) | below as u128;
    let shift = wide.leading_zeros();
    // The third word supplies what the shift brings in from below.
    let third = if top > 1 { words[top - 2] as u128 } else { 0 };
    let wide = (wide << shift) | ((third << shift) >> 64);
    let fraction = (wide >> 64) as u64 + ((wide >> 63) & 1) as u64;
    Float { fraction, exponent: 64 * top as i32 - shift as i32 - scale }
}

const fn multiply(words: &mut [u64; WORDS], factor: u64) {
    let (mut carry, mut index) = (0, 0);
    while index < WORDS {
        let wide = words[index] as u128 * factor as u128 + carry;
        words[index] = wide as u64;
        carry = wide >> 64;
        index += 1;
    }
}

const fn divide(words: &mut [u64; WORDS], divisor: u64) {
    let (mut rest, mut index) = (0, WORDS);
    while index > 0 {
        index -= 1;
        let wide = (rest << 64) | words[index] as u128;
        words[index] = (wide / divisor as u128) as u64;
        rest = wide % divisor as u128;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_equal_those_of_the_paper() {
        let power = |n: i32| POWERS[((n - POWER_FIRST) / POWER_STEP) as usize];
        for (n, fraction, exponent) in [
            (-348, 0xfa8f_d5a0_081c_0288, -1220),
            (-340, 0xbaae_e17f_a23e_bf76, -1193),
            (-4, 0xd1b7_1758_e219_652c, -77),
            (4, 0x9c40_0000_0000_0000, -50),
            (340, 0xaf87_023b_9bf0_ee6b, 1066),
        ] {
            assert_eq!((power(n).fraction, power(n).exponent), (fraction, exponent), "10^{n}");
        }
    }

    proptest! {
        #[test]
        fn digits_read_back_as_the_same_double(bits in 1_u64..0x7ff0_0000_0000_0000) {
            let value = f64::from_bits(bits);
            let digits = digits(value);
            let text = format!("{}e{}", str::from_utf8(digits.as_bytes()).unwrap(), digits.exponent);
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
            prop_assert!(digits.as_bytes().len() <= 17 && digits.as_bytes()[0] != b'0');
        }
    }
}
