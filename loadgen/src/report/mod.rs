//! Results as plain data, and the forms they are written in: each form reads this data and nothing else.

pub mod table;

use serde::Serialize;

use crate::plan::{Case, Load};
use crate::run::{Measured, Subject};

/// The points that tables and CSV show.
pub const PERCENTILES: &[(&str, f64)] =
    &[("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99), ("max", 100.0)];

#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub server: String,
    pub version: String,
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
    /// The points of `PERCENTILES`, in their order.
    pub percentiles: Vec<f64>,
    /// Percentile and latency, ever denser towards 100: the curve that is plotted.
    pub curve: Vec<(f64, f64)>,
}

/// One second of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub second: u64,
    pub replies_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Measurement {
    pub fn new(subject: &Subject, case: &Case, load: &Load, measured: &Measured) -> Measurement {
        let stats = &measured.stats;
        let replies = stats.replies();
        let seconds = stats.elapsed_ns as f64 / 1e9;
        let per_op = |total_ns: u64| if replies > 0 { total_ns as f64 / replies as f64 } else { 0.0 };
        let mut error_texts: Vec<(String, u64)> = stats.errors_by_text.clone().into_iter().collect();
        error_texts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Measurement {
            server: subject.server.name.clone(),
            version: subject.version.clone(),
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
            percentiles: PERCENTILES.iter().map(|(_, at)| us(histogram.value_at_percentile(*at))).collect(),
            curve,
        }
    }
}

fn series(stats: &crate::stats::Stats) -> Vec<Point> {
    let slot_ns = crate::stats::SLOT_NS;
    let points = stats.slots.iter().enumerate().map(|(index, slot)| {
        // The last second is usually not a whole one.
        let length_ns = (stats.elapsed_ns.saturating_sub(index as u64 * slot_ns)).clamp(1, slot_ns);
        Point {
            second: index as u64,
            replies_per_second: slot.replies as f64 * 1e9 / length_ns as f64,
            p50_us: slot.latency_ns.value_at_percentile(50.0) as f64 / 1e3,
            p99_us: slot.latency_ns.value_at_percentile(99.0) as f64 / 1e3,
        }
    });
    // A sliver of a second says nothing about a rate.
    let sliver = stats.elapsed_ns % slot_ns < slot_ns / 20 && stats.slots.len() > 1;
    points.take(stats.slots.len() - usize::from(sliver)).collect()
}
