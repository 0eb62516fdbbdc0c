//! One line a measurement, for spreadsheets and scripts.

use super::{Measurement, PERCENTILES};

const COLUMNS: &[&str] = &[
    "server",
    "version",
    "test",
    "pipeline",
    "round",
    "clients",
    "threads",
    "rate",
    "seconds",
    "replies",
    "replies_per_second",
    "errors",
    "connections_lost",
    "unsent",
    "unanswered",
    "bytes_sent",
    "bytes_received",
    "hit_ratio",
    "server_cpu_ns_per_op",
    "client_cpu_ns_per_op",
    "mean_us",
];

pub fn render(measurements: &[Measurement]) -> String {
    let mut header: Vec<String> = COLUMNS.iter().map(|name| name.to_string()).collect();
    header.extend(PERCENTILES.iter().map(|(name, _)| format!("{name}_us")));
    let mut text = header.join(",") + "\n";
    for measurement in measurements {
        let optional = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        let mut cells = vec![
            quote(&measurement.server),
            quote(&measurement.version),
            quote(&measurement.test),
            measurement.pipeline.to_string(),
            measurement.round.to_string(),
            measurement.clients.to_string(),
            measurement.threads.to_string(),
            optional(measurement.rate),
            measurement.seconds.to_string(),
            measurement.replies.to_string(),
            measurement.replies_per_second.to_string(),
            measurement.errors.to_string(),
            measurement.connections_lost.to_string(),
            measurement.unsent.to_string(),
            measurement.unanswered.to_string(),
            measurement.bytes_sent.to_string(),
            measurement.bytes_received.to_string(),
            optional(measurement.hit_ratio()),
            optional(measurement.server_cpu_ns_per_op),
            measurement.client_cpu_ns_per_op.to_string(),
            measurement.latency_us.mean.to_string(),
        ];
        assert!(cells.len() == COLUMNS.len(), "a cell for each column");
        cells.extend(PERCENTILES.iter().map(|(name, _)| measurement.latency_us.at(name).to_string()));
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measurement;

    #[test]
    fn every_line_has_the_columns_of_the_header() {
        let mut awkward = measurement("a", 1);
        awkward.test = "SET \"a,b\" c".into();
        let text = render(&[measurement("a", 1), awkward]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert!(lines[2].contains("\"SET \"\"a,b\"\" c\""), "{}", lines[2]);
    }
}
