//! The table for a terminal.

use std::fmt::Write;

use super::{Measurement, PERCENTILES, Report};
use crate::compare::{Comparison, Range};

/// Rows of cells as aligned columns: the first to the left, numbers to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let gap = if column == 0 { "" } else { "  " };
            let padding = " ".repeat(width - cell.chars().count());
            match column {
                0 => line.extend([cell, padding.as_str()]),
                _ => line.extend([gap, padding.as_str(), cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub fn render(report: &Report) -> String {
    if report.comparisons.is_empty() { measurements(&report.measurements) } else { comparisons(&report.comparisons) }
}

fn measurements(measurements: &[Measurement]) -> String {
    let mut header: Vec<String> =
        ["test", "P", "ops/s", "server ns/op", "client ns/op", "hits"].map(String::from).into();
    header.extend(PERCENTILES.iter().map(|(name, _)| format!("{name} µs")));
    let mut rows = vec![header];
    for measurement in measurements {
        let mut row = vec![
            measurement.test.clone(),
            measurement.pipeline.to_string(),
            format!("{:.0}", measurement.replies_per_second),
            measurement.server_cpu_ns_per_op.map_or("-".into(), |ns| format!("{ns:.0}")),
            format!("{:.0}", measurement.client_cpu_ns_per_op),
            measurement.hit_ratio().map_or("-".into(), percent),
        ];
        row.extend(PERCENTILES.iter().map(|(name, _)| short(measurement.latency_us.at(name))));
        rows.push(row);
        if measurement.commands.len() > 1 {
            for command in &measurement.commands {
                let per_second = command.replies as f64 / measurement.seconds.max(1e-9);
                let mut row = vec![format!("  {}", command.command), String::new(), format!("{per_second:.0}")];
                row.extend([String::new(), String::new(), command.hit_ratio.map_or("-".into(), percent)]);
                row.extend(PERCENTILES.iter().map(|(name, _)| short(command.latency_us.at(name))));
                rows.push(row);
            }
        }
    }
    align(&rows)
}

/// For each case a block: a line per metric, a column per server, and ratios to the first server with their range over
/// the rounds; the last column is the range of the first server's own rounds, each over the one before it.
fn comparisons(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    for comparison in comparisons {
        let servers = &comparison.servers;
        let title = format!("{} P={}, {} rounds", comparison.test, comparison.pipeline, comparison.rounds);
        let mut header = vec![title];
        header.extend(servers.iter().cloned());
        header.extend(servers[1..].iter().map(|name| format!("{name} / {}", servers[0])));
        header.push(format!("noise of {}", servers[0]));
        let mut rows = vec![header];
        for row in &comparison.metrics {
            let mut cells = vec![row.metric.clone()];
            cells.extend(row.medians.iter().map(|median| short(*median)));
            cells.extend(row.ratios_to_first.iter().map(ratio));
            cells.push(ratio(&row.noise));
            rows.push(cells);
        }
        text.push_str(&align(&rows));
        text.push('\n');
    }
    text
}

fn ratio(range: &Range) -> String {
    format!("{:.3} ({:.3}..{:.3})", range.median, range.low, range.high)
}

/// What makes a measurement less than it seems.
pub fn warnings(measurement: &Measurement) -> String {
    let mut text = String::new();
    let name = format!("{} P={} on {}", measurement.test, measurement.pipeline, measurement.server);
    for (error, count) in &measurement.error_texts {
        let _ = writeln!(text, "! {name}: {count} x {error}");
    }
    for (count, what) in [
        (measurement.connections_lost, "connections were lost"),
        (measurement.unanswered, "requests have no reply"),
        (measurement.unsent, "requests were due and never sent: the rate is above what the server bears"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "! {name}: {count} {what}");
        }
    }
    text
}

fn percent(ratio: f64) -> String {
    format!("{:.2} %", ratio * 100.0)
}

fn short(number: f64) -> String {
    if number < 1_000.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "µ".into(), "x".into()]];
        assert_eq!(align(&rows), "a     10\nlong   µ  x\n");
    }
}
