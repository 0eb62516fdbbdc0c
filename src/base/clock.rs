//! Time as a plain value: whoever drives a stepper reads the clocks and hands the reading in.
//!
//! Nothing below the drivers asks the OS for the time; that is what lets a simulation replay a schedule from its seed.

/// One reading of both clocks, taken together.
///
/// Deadlines that outlive the process (expiry, LASTSAVE) are in `unix_ms`, which an operator may step; intervals and
/// the order of batches (design, section 4) are in `mono_ns`, which never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970, UTC.
    pub unix_ms: i64,
    /// CLOCK_MONOTONIC in nanoseconds: the same epoch on every core of the machine.
    pub mono_ns: u64,
}

impl Now {
    /// Whole seconds since 1970, rounded down.
    pub const fn unix_s(self) -> i64 {
        self.unix_ms.div_euclid(1000)
    }

    /// Microseconds since 1970: the milliseconds, divided by the other clock, so that they never go back within one.
    pub const fn unix_us(self) -> i64 {
        self.unix_ms * 1000 + (self.mono_ns / 1000 % 1000) as i64
    }

    /// This reading, `ms` milliseconds later on both clocks: how tests and the simulator let time pass.
    pub const fn plus_ms(self, ms: u64) -> Now {
        Now { unix_ms: self.unix_ms + ms as i64, mono_ns: self.mono_ns + ms * 1_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_down_before_1970_too() {
        assert_eq!(Now { unix_ms: 1_999, mono_ns: 0 }.unix_s(), 1);
        assert_eq!(Now { unix_ms: -1, mono_ns: 0 }.unix_s(), -1);
    }

    #[test]
    fn both_clocks_advance_together() {
        let later = Now { unix_ms: 5, mono_ns: 7 }.plus_ms(20);
        assert_eq!(later, Now { unix_ms: 25, mono_ns: 20_000_007 });
    }
}
