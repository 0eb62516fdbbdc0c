//! Results as plain data, and the forms they are written in: each form reads this data and nothing else.

mod chart;
mod csv;
mod html;
mod json;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cli::OutputArgs;
use crate::compare::Comparison;
use crate::plan::{Case, Load};
use crate::run::{Measured, Subject};
use crate::stats::Stats;

/// The points that tables and CSV show.
pub const PERCENTILES: &[(&str, f64)] =
    &[("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99), ("max", 100.0)];

#[derive(Debug, Serialize)]
pub struct Report {
    pub measurements: Vec<Measurement>,
    pub comparisons: Vec<Comparison>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub server: String,
    pub version: String,
    /// From 1; above it only in comparisons.
    pub round: u64,
    pub test: String,
    pub pipeline: u64,
    pub clients: u64,
    pub threads: u64,
    /// Requests a second asked for; none in the closed loop.
    pub rate: Option<f64>,
    pub seconds: f64,
    pub replies: u64,
    pub replies_per_second: f64,
    pub errors: u64,
    pub error_texts: Vec<(String, u64)>,
    pub connections_lost: u64,
    pub unsent: u64,
    pub unanswered: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub client_cpu_ns_per_op: f64,
    pub server_cpu_ns_per_op: Option<f64>,
    pub latency_us: Latency,
    pub commands: Vec<CommandResult>,
    pub series: Vec<Point>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CommandResult {
    pub command: String,
    pub replies: u64,
    pub errors: u64,
    /// Found of found and missing; none for commands that look nothing up.
    pub hit_ratio: Option<f64>,
    pub latency_us: Latency,
}

#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub mean: f64,
    /// By the names of `PERCENTILES`.
    pub percentiles: BTreeMap<&'static str, f64>,
    /// Percentile and latency, ever denser towards 100: the curve that is plotted.
    pub curve: Vec<(f64, f64)>,
}

/// One step of the series over time.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Since the start, at the end of the step.
    pub seconds: f64,
    pub replies_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Measurement {
    pub fn new(subject: &Subject, case: &Case, load: &Load, round: u64, measured: &Measured) -> Measurement {
        let stats = &measured.stats;
        let replies = stats.replies();
        let seconds = stats.elapsed_ns as f64 / 1e9;
        let per_op = |total_ns: u64| if replies > 0 { total_ns as f64 / replies as f64 } else { 0.0 };
        let mut error_texts: Vec<(String, u64)> = stats.errors_by_text.clone().into_iter().collect();
        error_texts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Measurement {
            server: subject.server.name.clone(),
            version: subject.version.clone(),
            round,
            test: case.mix.label(),
            pipeline: case.pipeline,
            clients: load.clients,
            threads: load.threads,
            rate: load.rate.map(|(rate, _)| rate),
            seconds,
            replies,
            replies_per_second: if seconds > 0.0 { replies as f64 / seconds } else { 0.0 },
            errors: stats.errors(),
            error_texts,
            connections_lost: stats.connections_lost,
            unsent: stats.unsent,
            unanswered: stats.unanswered,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            client_cpu_ns_per_op: per_op(measured.client_cpu_ns),
            server_cpu_ns_per_op: measured.server_cpu_ns.map(per_op),
            latency_us: Latency::new(&stats.latency_ns()),
            commands: stats
                .commands
                .iter()
                .map(|command| CommandResult {
                    command: command.label.clone(),
                    replies: command.replies,
                    errors: command.errors,
                    hit_ratio: (command.lookup && command.found + command.missing > 0)
                        .then(|| command.found as f64 / (command.found + command.missing) as f64),
                    latency_us: Latency::new(&command.latency_ns),
                })
                .collect(),
            series: series(stats),
        }
    }
}

impl Measurement {
    /// Of a measurement of one command only: a mix has a ratio for each of its commands.
    pub fn hit_ratio(&self) -> Option<f64> {
        match self.commands.as_slice() {
            [only] => only.hit_ratio,
            _ => None,
        }
    }
}

impl Latency {
    fn new(histogram: &hdrhistogram::Histogram<u64>) -> Latency {
        let us = |ns: u64| ns as f64 / 1e3;
        let mut curve = Vec::new();
        if !histogram.is_empty() {
            // Five steps to each halving of the distance to 100 %, down to the last reply.
            let mut distance = 1.0f64;
            while distance * histogram.len() as f64 >= 1.0 {
                let percentile = 100.0 * (1.0 - distance);
                curve.push((percentile, us(histogram.value_at_percentile(percentile))));
                distance /= 2f64.powf(0.2);
            }
        }
        Latency {
            mean: histogram.mean() / 1e3,
            percentiles: PERCENTILES.iter().map(|(name, at)| (*name, us(histogram.value_at_percentile(*at)))).collect(),
            curve,
        }
    }

    /// In microseconds, at one of the names of `PERCENTILES`.
    pub fn at(&self, name: &str) -> f64 {
        self.percentiles[name]
    }
}

fn series(stats: &Stats) -> Vec<Point> {
    let points = stats.slots.iter().enumerate().map(|(index, slot)| {
        // The last step is usually not a whole one.
        let start_ns = index as u64 * stats.slot_ns;
        let length_ns = stats.elapsed_ns.saturating_sub(start_ns).clamp(1, stats.slot_ns);
        Point {
            seconds: (start_ns + length_ns) as f64 / 1e9,
            replies_per_second: slot.replies as f64 * 1e9 / length_ns as f64,
            p50_us: slot.latency_ns.value_at_percentile(50.0) as f64 / 1e3,
            p99_us: slot.latency_ns.value_at_percentile(99.0) as f64 / 1e3,
        }
    });
    // The rate of a sliver is noise.
    let sliver = stats.elapsed_ns % stats.slot_ns < stats.slot_ns / 2 && stats.slots.len() > 1;
    points.take(stats.slots.len() - usize::from(sliver)).collect()
}

impl Report {
    /// Writes the files asked for, and the table unless standard output was asked for something else.
    pub fn write(&self, output: &OutputArgs) -> Result<(), String> {
        let mut printed = false;
        let mut put = |path: Option<&Path>, text: &dyn Fn() -> String| match path {
            None => Ok(()),
            Some(path) if path == Path::new("-") => {
                printed = true;
                print!("{}", text());
                Ok(())
            }
            Some(path) => std::fs::write(path, text()).map_err(|error| format!("write {}: {error}", path.display())),
        };
        put(output.json.as_deref(), &|| json::render(self))?;
        put(output.csv.as_deref(), &|| csv::render(&self.measurements))?;
        put(output.html.as_deref(), &|| html::render(self))?;
        let warnings: String = self.measurements.iter().map(table::warnings).collect();
        if printed {
            eprint!("{warnings}");
        } else {
            print!("{}{warnings}", table::render(self));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A measurement of a thousand replies in ten seconds.
    pub fn measurement(server: &str, round: u64) -> Measurement {
        let mut stats = Stats::new([("get".to_string(), true)].into_iter());
        (1..=1_000).for_each(|step| stats.record(0, step * 10_000_000, step * 1_000, 1));
        stats.commands[0].found = 750;
        stats.commands[0].missing = 250;
        let keys = crate::template::KeyFormat { prefix: String::new(), width: 1 };
        let template = crate::template::Template::preset("get", &keys, false).unwrap();
        let mix = crate::template::Mix::new(vec![(template, 1)]).unwrap();
        let load = Load {
            clients: 1,
            threads: 1,
            requests: Some(1_000),
            duration_ns: None,
            warmup_ns: 0,
            rate: None,
            seed: 1,
            cpus: Vec::new(),
            key_pattern: crate::keys::KeyPattern::Uniform,
            keys: 1,
            value_sizes: crate::values::ValueSizes::Fixed(1),
            ttl: (1, 1),
        };
        let subject = Subject {
            server: format!("{server}=localhost:1").parse().unwrap(),
            login: crate::server::Login::default(),
            pid: None,
            version: "test 1".into(),
        };
        let measured = Measured { stats, client_cpu_ns: 2_000_000, server_cpu_ns: Some(4_000_000) };
        Measurement::new(&subject, &Case { mix, pipeline: 1 }, &load, round, &measured)
    }

    #[test]
    fn rates_costs_and_ratios_follow_from_the_counts() {
        let measurement = measurement("a", 1);
        assert_eq!(measurement.replies_per_second, 100.0);
        assert_eq!((measurement.client_cpu_ns_per_op, measurement.server_cpu_ns_per_op), (2_000.0, Some(4_000.0)));
        assert_eq!(measurement.hit_ratio(), Some(0.75));
        assert!((measurement.latency_us.at("p99") - 990.0).abs() < 1.0);
        assert!(measurement.series.iter().all(|point| point.replies_per_second <= 100.0 + 1e-9));
    }

    #[test]
    fn the_curve_rises_to_the_last_reply() {
        let curve = measurement("a", 1).latency_us.curve;
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        assert!(curve.last().unwrap().0 > 99.8, "{curve:?}");
    }
}
