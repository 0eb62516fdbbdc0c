//! When a key was last used, or how often: the 24 access bits of an entry, as Redis keeps them.
//!
//! LRU: seconds of the Unix clock, modulo 2^24. LFU: minutes modulo 2^16 above an eight-bit logarithmic counter
//! ("Using Redis as an LRU cache" in Redis's documentation, "The new LFU mode").

use crate::base::clock::Now;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::entry::EntryRef;

const LRU_MASK: u32 = 0xff_ffff;
/// A new key starts here, so that it is not evicted at once.
pub const LFU_INITIAL: u8 = 5;
/// A key may have been used so much later than now: to a transaction, time stands still.
const LATER_MINUTES_MAX: u32 = 2;

fn lru_clock(now: Now) -> u32 {
    now.unix_s() as u32 & LRU_MASK
}

fn minutes(now: Now) -> u32 {
    (now.unix_s() / 60) as u32 & 0xffff
}

/// The access bits of a key that is written now.
pub fn initial(now: Now, config: &Config) -> u32 {
    if config.maxmemory_policy.is_lfu() { minutes(now) << 8 | u32::from(LFU_INITIAL) } else { lru_clock(now) }
}

/// Counts a use.
#[inline]
pub fn touch(entry: EntryRef<'_>, now: Now, config: &Config, rng: &mut Rng) {
    let bits = if config.maxmemory_policy.is_lfu() {
        let counter = increment(decayed(entry.access(), now, config), config, rng);
        minutes(now) << 8 | u32::from(counter)
    } else {
        lru_clock(now)
    };
    // Most uses fall into the same second as the one before: then the line stays clean.
    if entry.access() != bits {
        entry.set_access(bits);
    }
}

/// Seconds since the last use, under an LRU policy.
pub fn idle_s(access: u32, now: Now) -> u32 {
    let idle_s = lru_clock(now).wrapping_sub(access) & LRU_MASK;
    if idle_s > LRU_MASK - 60 * LATER_MINUTES_MAX { 0 } else { idle_s }
}

/// The access bits of a key that was last used so long ago.
pub fn of_idle(idle_s: i64, now: Now) -> u32 {
    lru_clock(now).wrapping_sub(idle_s.min(i64::from(LRU_MASK)) as u32) & LRU_MASK
}

/// The access bits of a key with this counter.
pub fn of_frequency(frequency: u8, now: Now) -> u32 {
    minutes(now) << 8 | u32::from(frequency)
}

/// The counter of an entry, less what has decayed since its last use: OBJECT FREQ.
pub fn decayed(access: u32, now: Now, config: &Config) -> u8 {
    let elapsed = minutes(now).wrapping_sub(access >> 8) & 0xffff;
    let elapsed = if elapsed > 0xffff - LATER_MINUTES_MAX { 0 } else { elapsed };
    let periods = elapsed.checked_div(config.lfu_decay_time).unwrap_or(0);
    (access as u8).saturating_sub(periods.min(255) as u8)
}

fn increment(counter: u8, config: &Config, rng: &mut Rng) -> u8 {
    if counter == u8::MAX {
        return counter;
    }
    let above_initial = f64::from(counter.saturating_sub(LFU_INITIAL));
    let chance = 1.0 / (above_initial * config.lfu_log_factor as f64 + 1.0);
    counter + u8::from(rng.unit() < chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_used_a_little_later_than_now_is_not_idle() {
        let [now, later] = [600, 661].map(|unix_s: i64| Now { unix_ms: unix_s * 1000, mono_ns: 0 });
        let config = Config::default();
        assert_eq!((idle_s(lru_clock(later), now), idle_s(lru_clock(now), later)), (0, 61));
        let access = of_frequency(9, later);
        assert_eq!((decayed(access, now, &config), decayed(of_frequency(9, now), later, &config)), (9, 8));
    }
}
