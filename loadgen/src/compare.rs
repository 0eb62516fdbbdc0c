//! Several servers in turn: A B A B …, and what their ratios are worth.
//!
//! A machine's speed drifts over minutes by more than many differences that one wants to see. So each round measures
//! every server, a ratio is taken inside its round, and the result is the median over the rounds. What the first
//! server shows against itself, each round over the one before it, is how much of a ratio is noise.

use serde::Serialize;

use crate::plan::{Case, Load};
use crate::report::{Measurement, Report};
use crate::run::Subject;
use crate::values::Payload;

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub test: String,
    pub pipeline: u64,
    pub rounds: usize,
    pub servers: Vec<String>,
    pub metrics: Vec<MetricRow>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MetricRow {
    pub metric: String,
    /// Of each server over its rounds.
    pub medians: Vec<f64>,
    /// Of each server but the first.
    pub ratios_to_first: Vec<Range>,
    /// Of the first server's rounds to the round before.
    pub noise: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

pub fn compare(subjects: &[Subject], cases: &[Case], load: &Load, rounds: u64, quiet: bool) -> Result<Report, String> {
    let payload = Payload::new(load.value_sizes.max(), load.seed);
    let mut report = Report { measurements: Vec::new(), comparisons: Vec::new() };
    for case in cases {
        let mut by_round = Vec::new();
        for round in 1..=rounds {
            let mut measured = Vec::new();
            for subject in subjects {
                let title = format!("{} {} {round}/{rounds}", subject.server.name, case.title());
                let result = subject.measure(case, load, &payload, (!quiet).then_some(title))?;
                measured.push(Measurement::new(subject, case, load, round, &result));
            }
            by_round.push(measured);
        }
        report.comparisons.push(Comparison::new(&by_round));
        report.measurements.extend(by_round.into_iter().flatten());
    }
    Ok(report)
}

type Metric = (&'static str, fn(&Measurement) -> Option<f64>);

const METRICS: &[Metric] = &[
    ("ops/s", |measurement| Some(measurement.replies_per_second)),
    ("server ns/op", |measurement| measurement.server_cpu_ns_per_op),
    ("client ns/op", |measurement| Some(measurement.client_cpu_ns_per_op)),
    ("p50 µs", |measurement| Some(measurement.latency_us.at("p50"))),
    ("p90 µs", |measurement| Some(measurement.latency_us.at("p90"))),
    ("p99 µs", |measurement| Some(measurement.latency_us.at("p99"))),
    ("p99.9 µs", |measurement| Some(measurement.latency_us.at("p99.9"))),
    ("max µs", |measurement| Some(measurement.latency_us.at("max"))),
];

impl Comparison {
    /// `by_round[r][s]` is server s in round r.
    fn new(by_round: &[Vec<Measurement>]) -> Comparison {
        let first = &by_round[0];
        let metrics = METRICS.iter().filter_map(|(name, metric)| {
            // A metric that some server lacks, such as the CPU of a remote one, cannot be compared.
            let values = by_round.iter().map(|round| round.iter().map(metric).collect::<Option<Vec<f64>>>());
            Some(MetricRow::new(name, &values.collect::<Option<Vec<_>>>()?))
        });
        Comparison {
            test: first[0].test.clone(),
            pipeline: first[0].pipeline,
            rounds: by_round.len(),
            servers: first.iter().map(|measurement| measurement.server.clone()).collect(),
            metrics: metrics.collect(),
        }
    }
}

impl MetricRow {
    fn new(name: &str, by_round: &[Vec<f64>]) -> MetricRow {
        let servers = by_round[0].len();
        let of = |server: usize| by_round.iter().map(move |round| round[server]);
        MetricRow {
            metric: name.to_string(),
            medians: (0..servers).map(|server| Range::of(of(server)).median).collect(),
            ratios_to_first: (1..servers)
                .map(|server| Range::of(by_round.iter().map(|round| round[server] / round[0])))
                .collect(),
            noise: Range::of(by_round.windows(2).map(|pair| pair[1][0] / pair[0][0])),
        }
    }
}

impl Range {
    /// The median of an even number of values is the mean of the two in the middle.
    fn of(values: impl Iterator<Item = f64>) -> Range {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Range { low, median, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let median = |values: &[f64]| Range::of(values.iter().copied()).median;
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(Range::of([2.0, 9.0, 4.0].into_iter()), Range { low: 2.0, median: 4.0, high: 9.0 });
    }

    #[test]
    fn ratios_are_taken_inside_their_round_so_drift_cancels() {
        // The machine slows down to a half over the rounds; the second server is always 1.5 times the first.
        let by_round = [[100.0, 150.0], [80.0, 120.0], [50.0, 75.0]].map(Vec::from);
        let row = MetricRow::new("ops/s", &by_round);
        assert_eq!(row.medians, [80.0, 120.0]);
        assert_eq!(row.ratios_to_first, [Range { low: 1.5, median: 1.5, high: 1.5 }]);
        assert_eq!(row.noise, Range { low: 0.625, median: 0.7125, high: 0.8 });
    }
}
