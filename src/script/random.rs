//! `math.random` and `math.randomseed` as Redis has them: the same numbers after the same seed on every machine, by the
//! generator of `drand48` (48 bits, linear congruential; POSIX gives its constants).

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

#[derive(Debug)]
pub struct Random {
    state: u64,
}

impl Default for Random {
    fn default() -> Random {
        Random { state: 0x1234_ABCD_330E }
    }
}

impl Random {
    pub fn seed(&mut self, seed: i32) {
        self.state = u64::from(seed as u32) << 16 | 0x330E;
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        self.state = (self.state.wrapping_mul(MULTIPLIER) + INCREMENT) & MASK;
        let bits = (self.state >> 17) as i32;
        f64::from(bits % i32::MAX) / f64::from(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_that_redis_gives() {
        let mut random = Random::default();
        random.seed(1);
        assert_eq!((random.unit() * 1000.0).floor() + 1.0, 42.0, "math.randomseed(1) math.random(1000)");
    }
}
