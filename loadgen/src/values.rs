//! How long the next value is and what it holds.
//!
//! Values are windows into one block of random letters: different enough that neither a shared object nor compression
//! makes a server look better than it is, and drawn for the price of one random number.

use std::sync::Arc;

use crate::rng::Rng;

/// Redis's own limit of a string.
pub const VALUE_BYTES_MAX: u64 = 512 << 20;
/// How many different windows there are for a value of the largest size.
const WINDOWS: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq)]
pub enum ValueSizes {
    Fixed(u64),
    /// Both ends included.
    Range(u64, u64),
    /// Size and the running sum of weights, the last of which is the total.
    Weighted(Vec<(u64, u64)>),
}

impl ValueSizes {
    pub fn next(&self, rng: &mut Rng) -> u64 {
        match self {
            ValueSizes::Fixed(size) => *size,
            ValueSizes::Range(low, high) => low + rng.below(high - low + 1),
            ValueSizes::Weighted(sums) => {
                let total = sums.last().expect("parsing refuses an empty list").1;
                let drawn = rng.below(total);
                sums.iter().find(|(_, sum)| drawn < *sum).expect("a draw is below the total").0
            }
        }
    }

    pub fn max(&self) -> u64 {
        match self {
            ValueSizes::Fixed(size) | ValueSizes::Range(_, size) => *size,
            ValueSizes::Weighted(sums) => sums.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }
}

impl std::str::FromStr for ValueSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<ValueSizes, String> {
        if text.contains(':') || text.contains(',') {
            let mut sums = Vec::new();
            let mut sum = 0u64;
            for item in text.split(',') {
                let (size, weight) = item.split_once(':').unwrap_or((item, "1"));
                let weight: u64 = weight.parse().map_err(|error| format!("weight '{weight}': {error}"))?;
                sum = sum.checked_add(weight).ok_or("the weights are too large")?;
                sums.push((parse_size(size)?, sum));
            }
            return if sum > 0 { Ok(ValueSizes::Weighted(sums)) } else { Err("all weights are 0".into()) };
        }
        match text.split_once('-') {
            Some((low, high)) => {
                let (low, high) = (parse_size(low)?, parse_size(high)?);
                if low <= high { Ok(ValueSizes::Range(low, high)) } else { Err(format!("{low} is above {high}")) }
            }
            None => Ok(ValueSizes::Fixed(parse_size(text)?)),
        }
    }
}

/// Bytes, or with a suffix k or m KiB or MiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|error| format!("size '{text}': {error}"))?;
    match number.checked_mul(unit) {
        Some(size) if size <= VALUE_BYTES_MAX => Ok(size),
        _ => Err(format!("size '{text}' is above 512m, the most a string holds")),
    }
}

/// The block that all workers cut their values from.
#[derive(Clone, Debug)]
pub struct Payload(Arc<[u8]>);

impl Payload {
    pub fn new(value_bytes_max: u64, seed: u64) -> Payload {
        const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let mut rng = Rng::new(seed);
        let length = value_bytes_max as usize + WINDOWS;
        let mut block = Vec::with_capacity(length + 10);
        while block.len() < length {
            let bits = rng.next();
            block.extend((0..10).map(|letter| LETTERS[(bits >> (6 * letter)) as usize & 63]));
        }
        block.truncate(length);
        Payload(block.into())
    }

    pub fn window(&self, size: u64, rng: &mut Rng) -> &[u8] {
        let start = rng.below(WINDOWS as u64) as usize;
        &self.0[start..start + size as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> ValueSizes {
        text.parse().unwrap()
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(sizes("64"), ValueSizes::Fixed(64));
        assert_eq!(sizes("2k"), ValueSizes::Fixed(2048));
        assert_eq!(sizes("8-256"), ValueSizes::Range(8, 256));
        assert_eq!(sizes("64:9,1k:1"), ValueSizes::Weighted(vec![(64, 9), (1024, 10)]));
        assert_eq!(sizes("1,2"), ValueSizes::Weighted(vec![(1, 1), (2, 2)]));
        for text in ["", "x", "9-8", "1:0", "1:x", "513m", "-4", "k"] {
            assert!(text.parse::<ValueSizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_reaches_both_ends_and_averages_to_its_middle() {
        let mut rng = Rng::new(5);
        let drawn: Vec<u64> = (0..100_000).map(|_| sizes("8-256").next(&mut rng)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&8), Some(&256)));
        let mean = drawn.iter().sum::<u64>() as f64 / drawn.len() as f64;
        assert!((mean - 132.0).abs() < 1.0, "{mean}");
    }

    #[test]
    fn weights_are_kept_and_a_weight_of_zero_is_never_drawn() {
        let mut rng = Rng::new(6);
        let sizes = sizes("10:3,20:0,30:1");
        let drawn: Vec<u64> = (0..100_000).map(|_| sizes.next(&mut rng)).collect();
        let share = |size| drawn.iter().filter(|drawn| **drawn == size).count() as f64 / drawn.len() as f64;
        assert!((share(10) - 0.75).abs() < 0.01 && share(20) == 0.0 && (share(30) - 0.25).abs() < 0.01);
        assert_eq!(sizes.max(), 30);
    }

    #[test]
    fn windows_have_the_size_asked_for_and_differ() {
        let payload = Payload::new(100, 1);
        let mut rng = Rng::new(7);
        let first = payload.window(100, &mut rng).to_vec();
        assert_eq!(first.len(), 100);
        assert_ne!(first, payload.window(100, &mut rng));
        assert!(payload.window(0, &mut rng).is_empty());
    }
}
