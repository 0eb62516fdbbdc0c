//! Counters of one core: plain integers, merged when somebody asks (INFO).

use std::collections::BTreeMap;

use super::ids::CommandId;

/// What INFO commandstats tells of one command.
#[derive(Clone, Debug, Default)]
pub struct CommandCount {
    pub calls: u64,
    pub nanoseconds: u64,
    /// Refused before it ran: arity, authentication.
    pub rejected: u64,
    /// Ran, and answered with an error.
    pub failed: u64,
    /// Exists from the command's first call on.
    pub latencies: Option<Box<Histogram>>,
}

/// Counts by command, and errors by code.
#[derive(Clone, Debug)]
pub struct CommandStats {
    pub counts: Vec<CommandCount>,
    pub errors: BTreeMap<String, u64>,
    pub total: u64,
    /// Fill the histograms (`latency-tracking`).
    pub tracks_latency: bool,
}

impl CommandStats {
    pub fn new(commands: usize) -> CommandStats {
        CommandStats {
            counts: vec![CommandCount::default(); commands],
            errors: BTreeMap::new(),
            total: 0,
            tracks_latency: true,
        }
    }

    #[inline]
    pub fn ran(&mut self, id: CommandId, nanoseconds: u64) {
        let count = &mut self.counts[usize::from(id)];
        count.calls += 1;
        count.nanoseconds += nanoseconds;
        self.total += 1;
        if self.tracks_latency {
            count.latencies.get_or_insert_default().record(nanoseconds);
        }
    }

    pub fn failed(&mut self, id: CommandId, code: String) {
        self.counts[usize::from(id)].failed += 1;
        *self.errors.entry(code).or_default() += 1;
    }

    /// The same of an error whose code a script made up: once there are many codes, new ones share one count.
    pub fn failed_by_script(&mut self, id: CommandId, code: String) {
        let is_new = !self.errors.contains_key(&code);
        let is_one_too_many = is_new && self.errors.len() >= ERROR_CODES_MAX;
        self.failed(id, if is_one_too_many { ERRORS_OVERFLOW.to_owned() } else { code });
    }

    pub fn rejected(&mut self, id: Option<CommandId>, code: String) {
        if let Some(id) = id {
            self.counts[usize::from(id)].rejected += 1;
        }
        *self.errors.entry(code).or_default() += 1;
    }

    /// Begins anew (CONFIG RESETSTAT).
    pub fn reset(&mut self) {
        *self = CommandStats { tracks_latency: self.tracks_latency, ..CommandStats::new(self.counts.len()) };
    }

    /// Forgets the run times (`latency-tracking` was switched off).
    pub fn forget_latencies(&mut self) {
        self.counts.iter_mut().for_each(|count| count.latencies = None);
    }

    pub fn merge(&mut self, other: &CommandStats) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            into.calls += from.calls;
            into.nanoseconds += from.nanoseconds;
            into.rejected += from.rejected;
            into.failed += from.failed;
            if let Some(latencies) = &from.latencies {
                into.latencies.get_or_insert_default().merge(latencies);
            }
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        self.total += other.total;
    }
}

/// Codes that are counted one by one, and the name under which scripts' further ones are: Valkey's.
const ERROR_CODES_MAX: usize = 128;
const ERRORS_OVERFLOW: &str = "ERRORSTATS_OVERFLOW";

/// A shard's turns: how many, and what took how long. Waiting is no part of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    pub count: u64,
    pub total_ns: u64,
    /// Receiving, running commands, and what these cause on other shards.
    pub commands_ns: u64,
    pub log_ns: u64,
    pub tick_ns: u64,
    pub longest_ns: u64,
    /// Most commands in one turn.
    pub commands_max: u64,
}

impl Turns {
    #[inline]
    pub fn record(&mut self, total_ns: u64, commands_ns: u64, log_ns: u64, commands: u64) {
        self.count += 1;
        self.total_ns += total_ns;
        self.commands_ns += commands_ns;
        self.log_ns += log_ns;
        self.longest_ns = self.longest_ns.max(total_ns);
        self.commands_max = self.commands_max.max(commands);
    }

    pub fn merge(&mut self, other: &Turns) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.commands_ns += other.commands_ns;
        self.log_ns += other.log_ns;
        self.tick_ns += other.tick_ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.commands_max = self.commands_max.max(other.commands_max);
    }
}

/// Every power of two of nanoseconds is divided into this many buckets: the error is 6 % at most.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Longer times count as this long: 17 s.
const NANOSECONDS_MAX: u64 = (1 << 34) - 1;
const BUCKETS: usize = bucket_of(NANOSECONDS_MAX) + 1;

/// The distribution of run times: 4 KiB, and one addition for each.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [0; BUCKETS] }
    }
}

/// Times below `STEPS` have a bucket each; then come `STEPS` for every power of two.
const fn bucket_of(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS as u64 {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2();
    let step = (nanoseconds >> (power - STEP_BITS)) as usize & (STEPS - 1);
    (power - STEP_BITS + 1) as usize * STEPS + step
}

/// The longest time of a bucket.
fn longest_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    (((STEPS + bucket % STEPS + 1) as u64) << shift) - 1
}

impl Histogram {
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket_of(nanoseconds.min(NANOSECONDS_MAX))] += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(into, from)| *into += from);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time within which `percentile` percent of all stayed, in nanoseconds.
    pub fn at_percentile(&self, percentile: f64) -> u64 {
        let wanted = (percentile / 100.0 * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        self.buckets.iter().position(reached).map_or(0, longest_of)
    }

    /// Powers of two of 1024 nanoseconds that are the first above some of the times, in microseconds, and how many
    /// times are below each: LATENCY HISTOGRAM.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let (mut bound, mut seen, mut told) = (1024, 0, 0);
        for (bucket, count) in self.buckets.iter().enumerate() {
            while longest_of(bucket) >= bound {
                if seen > told {
                    steps.push(((bound - 1) / 1000, seen));
                    told = seen;
                }
                bound *= 2;
            }
            seen += count;
        }
        if seen > told {
            steps.push(((bound - 1) / 1000, seen));
        }
        steps
    }
}

/// What went over a shard's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub reads: u64,
    pub writes: u64,
    /// Clients closed for unparsed input, or for replies they did not read, beyond the limits.
    pub query_limit_disconnections: u64,
    pub output_limit_disconnections: u64,
    /// Clients closed as all together took more than `maxmemory-clients`.
    pub evicted_clients: u64,
}

impl Traffic {
    pub fn merge(&mut self, other: &Traffic) {
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.reads += other.reads;
        self.writes += other.writes;
        self.query_limit_disconnections += other.query_limit_disconnections;
        self.output_limit_disconnections += other.output_limit_disconnections;
        self.evicted_clients += other.evicted_clients;
    }
}

/// Samples that `Rate` takes the mean of.
const RATE_SAMPLES: usize = 16;
/// Distance of samples: Redis's, so that its tools see the same smoothness.
const RATE_PERIOD_NS: u64 = 100_000_000;

/// How fast counters grow at the moment: the `instantaneous_*` fields of INFO.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    commands: [f64; RATE_SAMPLES],
    received_bytes: [f64; RATE_SAMPLES],
    sent_bytes: [f64; RATE_SAMPLES],
    turns: [f64; RATE_SAMPLES],
    /// The mean length of a turn.
    turn_us: [f64; RATE_SAMPLES],
    next: usize,
    /// Time and counters of the sample before.
    before: Option<(u64, [u64; 5])>,
}

/// Mean growth in a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    pub commands: f64,
    pub received_bytes: f64,
    pub sent_bytes: f64,
    pub turns: f64,
    /// The mean length of a turn.
    pub turn_us: f64,
}

impl Rates {
    /// To be called now and then; takes a sample when it is time.
    pub fn sample(&mut self, mono_ns: u64, commands: u64, traffic: &Traffic, turns: &Turns) {
        let counters = [commands, traffic.received_bytes, traffic.sent_bytes, turns.count, turns.total_ns];
        let Some((then_ns, before)) = self.before else {
            self.before = Some((mono_ns, counters));
            return;
        };
        let elapsed_ns = mono_ns.saturating_sub(then_ns);
        if elapsed_ns < RATE_PERIOD_NS {
            return;
        }
        // Counters go back when statistics are reset.
        let grown = |at: usize| counters[at].saturating_sub(before[at]) as f64;
        let growth = |at: usize| grown(at) * 1e9 / elapsed_ns as f64;
        self.commands[self.next] = growth(0);
        self.received_bytes[self.next] = growth(1);
        self.sent_bytes[self.next] = growth(2);
        self.turns[self.next] = growth(3);
        self.turn_us[self.next] = grown(4) / 1000.0 / grown(3).max(1.0);
        self.next = (self.next + 1) % RATE_SAMPLES;
        self.before = Some((mono_ns, counters));
    }

    pub fn now(&self) -> Rate {
        let mean = |samples: &[f64; RATE_SAMPLES]| samples.iter().sum::<f64>() / RATE_SAMPLES as f64;
        Rate {
            commands: mean(&self.commands),
            received_bytes: mean(&self.received_bytes),
            sent_bytes: mean(&self.sent_bytes),
            turns: mean(&self.turns),
            turn_us: mean(&self.turn_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        assert_eq!(BUCKETS, 496);
        for bucket in 0..BUCKETS {
            let longest = longest_of(bucket);
            assert_eq!(bucket_of(longest), bucket);
            assert_eq!(bucket_of(longest + 1), bucket + 1);
        }
        for nanoseconds in [17, 1000, 123_456, 9_999_999_999] {
            let error = longest_of(bucket_of(nanoseconds)) - nanoseconds;
            assert!(error as f64 <= nanoseconds as f64 / STEPS as f64, "{nanoseconds}");
        }
    }

    #[test]
    fn percentiles_are_the_longest_times_of_their_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.at_percentile(50.0), 0);
        (1..=100).for_each(|microseconds| histogram.record(microseconds * 1000));
        assert_eq!(histogram.count(), 100);
        let close = |percentile: f64, expected: f64| {
            let ratio = histogram.at_percentile(percentile) as f64 / expected;
            assert!((1.0..1.0 + 1.0 / STEPS as f64).contains(&ratio), "p{percentile}: {ratio}");
        };
        close(50.0, 50_000.0);
        close(99.0, 99_000.0);
        close(100.0, 100_000.0);
        histogram.record(u64::MAX);
        assert_eq!(histogram.at_percentile(100.0), NANOSECONDS_MAX);
    }

    #[test]
    fn cumulative_counts_name_only_bounds_with_something_new_below() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.cumulative(), []);
        for nanoseconds in [1, 1000, 1023, 1024, 5000] {
            histogram.record(nanoseconds);
        }
        assert_eq!(histogram.cumulative(), [(1, 3), (2, 4), (8, 5)]);
    }

    #[test]
    fn rates_are_means_over_the_last_samples() {
        let mut rates = Rates::default();
        let traffic = |bytes| Traffic { received_bytes: bytes, sent_bytes: 2 * bytes, ..Traffic::default() };
        for tick in 0..=RATE_SAMPLES as u64 {
            let turns = Turns { count: tick * 10, total_ns: tick * 40_000, ..Turns::default() };
            rates.sample(tick * RATE_PERIOD_NS, tick * 50, &traffic(tick * 100), &turns);
            rates.sample(tick * RATE_PERIOD_NS + 1, u64::MAX, &traffic(0), &Turns::default());
        }
        let rate = rates.now();
        assert_eq!((rate.commands, rate.received_bytes, rate.sent_bytes), (500.0, 1000.0, 2000.0));
        assert_eq!((rate.turns, rate.turn_us), (100.0, 4.0));
    }

    #[test]
    fn codes_that_scripts_make_up_are_bounded() {
        let mut stats = CommandStats::new(1);
        (0..ERROR_CODES_MAX + 10).for_each(|code| stats.failed_by_script(0, format!("E{code}")));
        assert_eq!((stats.errors.len(), stats.errors[ERRORS_OVERFLOW]), (ERROR_CODES_MAX + 1, 10));
        stats.failed_by_script(0, "E0".to_owned());
        stats.failed(0, "ERR".to_owned());
        assert_eq!((stats.errors["E0"], stats.errors["ERR"], stats.errors[ERRORS_OVERFLOW]), (2, 1, 10));
    }
}
