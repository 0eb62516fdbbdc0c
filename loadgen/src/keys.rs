//! Which key comes next: the patterns, as sequences of key numbers, and how a number becomes a key.
//!
//! A worker owns one sequence, shared by all of its connections, so that a sequential walk touches each key of the
//! worker's part exactly once whatever the connections' order of turns.

use crate::rng::Rng;

/// What the user asked for; `KeySequence` is what one worker draws from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyPattern {
    Uniform,
    /// Key 0 is the most frequent; key k is drawn in proportion to 1 / (k + 1)^exponent.
    Zipf {
        exponent: f64,
    },
    /// Around the middle of the key space; draws outside the space are drawn again.
    Gaussian {
        /// As a share of the key space.
        deviation: f64,
    },
    Sequential,
}

impl std::str::FromStr for KeyPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyPattern, String> {
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => {
                let number = parameter.parse::<f64>().map_err(|error| format!("{parameter}: {error}"))?;
                (name, Some(number))
            }
            None => (text, None),
        };
        match (name, parameter) {
            ("uniform", None) => Ok(KeyPattern::Uniform),
            ("sequential", None) => Ok(KeyPattern::Sequential),
            ("zipf", exponent) => match exponent.unwrap_or(0.99) {
                exponent if exponent > 0.0 && exponent.is_finite() => Ok(KeyPattern::Zipf { exponent }),
                exponent => Err(format!("a Zipf exponent is above 0, not {exponent}")),
            },
            ("gaussian", deviation) => match deviation.unwrap_or(1.0 / 6.0) {
                deviation if deviation > 0.0 && deviation <= 1.0 => Ok(KeyPattern::Gaussian { deviation }),
                deviation => Err(format!("a deviation is a share of the key space in 0..1, not {deviation}")),
            },
            _ => Err(format!("'{text}' is none of uniform, zipf[:EXPONENT], gaussian[:DEVIATION], sequential")),
        }
    }
}

#[derive(Clone, Debug)]
pub enum KeySequence {
    Uniform { count: u64 },
    Zipf(Zipf),
    Gaussian { count: u64, mean: f64, deviation: f64 },
    Sequential { first: u64, end: u64, next: u64 },
}

impl KeySequence {
    /// The sequence of worker `part` of `parts`. Random patterns draw from the whole space in every worker; the
    /// sequential one is cut into even parts.
    pub fn new(pattern: KeyPattern, count: u64, part: u64, parts: u64) -> KeySequence {
        assert!(count >= parts && part < parts, "each worker has at least one key");
        match pattern {
            KeyPattern::Uniform => KeySequence::Uniform { count },
            KeyPattern::Zipf { exponent } => KeySequence::Zipf(Zipf::new(count, exponent)),
            KeyPattern::Gaussian { deviation } => {
                KeySequence::Gaussian { count, mean: (count - 1) as f64 / 2.0, deviation: deviation * count as f64 }
            }
            KeyPattern::Sequential => {
                let first = share_start(count, part, parts);
                KeySequence::Sequential { first, end: share_start(count, part + 1, parts), next: first }
            }
        }
    }

    pub fn next(&mut self, rng: &mut Rng) -> u64 {
        match self {
            KeySequence::Uniform { count } => rng.below(*count),
            KeySequence::Zipf(zipf) => zipf.next(rng),
            KeySequence::Gaussian { count, mean, deviation } => loop {
                let drawn = (*mean + *deviation * rng.normal()).round();
                if drawn >= 0.0 && drawn < *count as f64 {
                    return drawn as u64;
                }
            },
            KeySequence::Sequential { first, end, next } => {
                let key = *next;
                *next = if key + 1 == *end { *first } else { key + 1 };
                key
            }
        }
    }
}

/// Where part `part` starts when `total` things are cut into `parts` even parts: parts differ by one at most.
pub fn share_start(total: u64, part: u64, parts: u64) -> u64 {
    (u128::from(total) * u128::from(part) / u128::from(parts)) as u64
}

/// Zipf's law by rejection-inversion (Hörmann and Derflinger, 1996): exact for every exponent above 0, no table, no
/// set-up that grows with the key space, and about one draw in ten is rejected.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: u64,
    exponent: f64,
    integral_low: f64,
    integral_high: f64,
    /// Draws this close below their rank are accepted without looking at the integral.
    shortcut: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { count, exponent, integral_low: 0.0, integral_high: 0.0, shortcut: 0.0 };
        zipf.integral_low = zipf.integral(1.5) - 1.0;
        zipf.integral_high = zipf.integral(count as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    fn next(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.integral_high + rng.unit() * (self.integral_low - self.integral_high);
            let point = self.integral_inverse(area);
            let rank = point.round().clamp(1.0, self.count as f64);
            if rank - point <= self.shortcut || area >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, rank: f64) -> f64 {
        (-self.exponent * rank.ln()).exp()
    }

    /// The integral of x^-exponent from 1, written so that it stays exact as the exponent nears 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over((1.0 - self.exponent) * log) * log
    }

    fn integral_inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(scaled) * area).exp()
    }
}

/// (e^x - 1) / x, 1 at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, 1 at 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

/// Writes `number` in decimal with leading zeros over the whole of `digits`: keys of one length, as redis-benchmark's.
pub fn write_digits(digits: &mut [u8], mut number: u64) {
    let mut rest = digits;
    while let [head @ .., tens, ones] = rest {
        let pair = (number % 100) as u8;
        number /= 100;
        *tens = b'0' + pair / 10;
        *ones = b'0' + pair % 10;
        rest = head;
    }
    if let [last] = rest {
        *last = b'0' + (number % 10) as u8;
        number /= 10;
    }
    debug_assert!(number == 0, "the width holds every key number");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    fn counts(pattern: KeyPattern, space: u64) -> Vec<f64> {
        let mut sequence = KeySequence::new(pattern, space, 0, 1);
        let mut rng = Rng::new(11);
        let mut counts = vec![0.0; space as usize];
        for _ in 0..DRAWS {
            counts[sequence.next(&mut rng) as usize] += 1.0;
        }
        counts
    }

    /// The chi-squared statistic over its degrees of freedom: near 1 if the draws follow the law.
    fn misfit(counts: &[f64], weights: &[f64]) -> f64 {
        let total: f64 = weights.iter().sum();
        let expected = weights.iter().map(|weight| weight / total * DRAWS as f64);
        let sum: f64 = counts.iter().zip(expected).map(|(count, expected)| (count - expected).powi(2) / expected).sum();
        sum / (counts.len() - 1) as f64
    }

    #[test]
    fn uniform_draws_follow_the_law() {
        assert!(misfit(&counts(KeyPattern::Uniform, 500), &[1.0; 500]) < 1.3);
    }

    #[test]
    fn zipf_draws_follow_the_law_below_at_and_above_exponent_one() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let weights: Vec<f64> = (1..=200).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let misfit = misfit(&counts(KeyPattern::Zipf { exponent }, 200), &weights);
            assert!(misfit < 1.4, "exponent {exponent}: {misfit}");
        }
    }

    #[test]
    fn gaussian_draws_follow_the_law() {
        let weights: Vec<f64> = (0..300).map(|key| (-0.5 * ((f64::from(key) - 149.5) / 50.0).powi(2)).exp()).collect();
        assert!(misfit(&counts(KeyPattern::Gaussian { deviation: 1.0 / 6.0 }, 300), &weights) < 1.4);
    }

    #[test]
    fn sequential_parts_cover_the_space_once_and_wrap() {
        let mut rng = Rng::new(1);
        let mut seen = Vec::new();
        for part in 0..3 {
            let mut sequence = KeySequence::new(KeyPattern::Sequential, 10, part, 3);
            let length = share_start(10, part + 1, 3) - share_start(10, part, 3);
            let first = sequence.next(&mut rng);
            seen.push(first);
            seen.extend((1..length).map(|_| sequence.next(&mut rng)));
            assert_eq!(sequence.next(&mut rng), first, "the walk starts again");
        }
        assert_eq!(seen, (0..10).collect::<Vec<u64>>());
    }

    #[test]
    fn single_key_spaces_work_for_every_pattern() {
        for pattern in ["uniform", "zipf:1.2", "gaussian", "sequential"] {
            let mut sequence = KeySequence::new(pattern.parse().unwrap(), 1, 0, 1);
            assert_eq!(sequence.next(&mut Rng::new(3)), 0, "{pattern}");
        }
    }

    #[test]
    fn patterns_are_read() {
        let check = |text: &str, expected| assert_eq!(text.parse::<KeyPattern>().ok(), expected, "{text}");
        check("uniform", Some(KeyPattern::Uniform));
        check("zipf", Some(KeyPattern::Zipf { exponent: 0.99 }));
        check("zipf:1.2", Some(KeyPattern::Zipf { exponent: 1.2 }));
        check("gaussian:0.1", Some(KeyPattern::Gaussian { deviation: 0.1 }));
        check("sequential", Some(KeyPattern::Sequential));
        check("zipf:0", None);
        check("zipf:x", None);
        check("uniform:3", None);
        check("gaussian:2", None);
        check("random", None);
    }

    #[test]
    fn digits_fill_the_width() {
        let check = |width: usize, number, expected: &str| {
            let mut digits = vec![b'x'; width];
            write_digits(&mut digits, number);
            assert_eq!(std::str::from_utf8(&digits).unwrap(), expected);
        };
        check(12, 42, "000000000042");
        check(3, 907, "907");
        check(1, 0, "0");
        check(20, u64::MAX, "18446744073709551615");
    }
}
