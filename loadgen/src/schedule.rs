//! The open loop's timetable: when each request ought to be sent, whatever the server does.
//!
//! Latency is counted from these times, not from the moment of sending: a server that stalls for a second makes every
//! request of that second late, and a generator that waits for it ("coordinated omission") would note only one.
//! The timetable therefore never looks at the clock or at replies; a worker that has fallen behind reads times of the past.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly spaced.
    Fixed,
    /// Independent of each other, as the requests of many users are.
    Poisson,
}

#[derive(Debug)]
pub struct Schedule {
    interval_ns: f64,
    arrivals: Arrivals,
    /// Kept as a fraction, so that the rate is exact over any length of time.
    due_ns: f64,
    rng: Rng,
}

impl Schedule {
    /// `phase` in 0..1 shifts the first arrival by a part of the interval, so that workers do not beat together.
    pub fn new(rate_per_s: f64, arrivals: Arrivals, phase: f64, rng: Rng) -> Schedule {
        assert!(rate_per_s > 0.0 && (0.0..1.0).contains(&phase), "a rate is above 0 and a phase a part of 1");
        let interval_ns = 1e9 / rate_per_s;
        Schedule { interval_ns, arrivals, due_ns: interval_ns * phase, rng }
    }

    /// When the next request is due, in nanoseconds since the start.
    pub fn due_ns(&self) -> u64 {
        self.due_ns as u64
    }

    pub fn advance(&mut self) {
        self.due_ns += match self.arrivals {
            Arrivals::Fixed => self.interval_ns,
            Arrivals::Poisson => self.interval_ns * self.rng.exponential(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate: f64, arrivals: Arrivals, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(rate, arrivals, 0.0, Rng::new(4));
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(schedule.due_ns());
            schedule.advance();
        }
        times
    }

    #[test]
    fn fixed_arrivals_are_evenly_spaced_without_drift() {
        let times = times(3.0, Arrivals::Fixed, 3001);
        assert!(times.windows(2).all(|pair| (333_333_333..=333_333_334).contains(&(pair[1] - pair[0]))));
        assert!(times[3000].abs_diff(1_000_000_000_000) <= 1, "{}", times[3000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_their_law() {
        let times = times(1000.0, Arrivals::Poisson, 100_001);
        let mean = times[100_000] as f64 / 100_000.0;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "{mean}");
        let beyond = times.windows(2).filter(|pair| pair[1] - pair[0] > 1_000_000).count() as f64 / 100_000.0;
        assert!((beyond - (-1.0f64).exp()).abs() < 0.01, "{beyond}");
    }

    #[test]
    fn a_phase_shifts_the_first_arrival() {
        assert_eq!(Schedule::new(10.0, Arrivals::Fixed, 0.5, Rng::new(1)).due_ns(), 50_000_000);
    }
}
