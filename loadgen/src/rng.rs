//! The seeded random source of a worker: wyrand, one multiplication a draw.
//!
//! A load generator draws several numbers for each request, so the source is part of the hot path; nothing here needs
//! to be unpredictable, only well spread and the same for the same seed.

#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Workers get neighbouring seeds; one step of splitmix keeps their streams from being shifted copies of another.
    pub fn new(seed: u64) -> Rng {
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng(mixed ^ (mixed >> 31))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// Uniform in `0..limit`. The bias of the multiplication is below limit / 2^64.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "a draw from nothing");
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// Uniform in `[0, 1)` at 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Exponential with mean 1: the gap between two arrivals of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Standard normal, by Box and Muller; the second of the pair is dropped to keep the source free of other state.
    pub fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    #[test]
    fn equal_seeds_draw_equal_numbers_and_neighbours_do_not() {
        let draw = |seed| Rng::new(seed).next();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn below_is_uniform() {
        let mut rng = Rng::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..DRAWS {
            counts[rng.below(10) as usize] += 1;
        }
        for count in counts {
            assert!((19_300..20_700).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn exponential_has_mean_and_deviation_one() {
        let mut rng = Rng::new(2);
        let draws: Vec<f64> = (0..DRAWS).map(|_| rng.exponential()).collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn normal_holds_two_thirds_within_one_deviation() {
        let mut rng = Rng::new(3);
        let within = (0..DRAWS).filter(|_| rng.normal().abs() < 1.0).count() as f64 / DRAWS as f64;
        assert!((within - 0.6827).abs() < 0.01, "{within}");
    }
}
