//! One page that needs nothing else: tables, and plots as inline SVG.
//!
//! For each case there are three plots: latency by percentile, with the axis stretched towards 100 % so that the tail
//! has room; throughput over time; and the 99th percentile over time. Every round is a line of its own, in the colour
//! of its server, so that the spread is seen and not only told.

use std::fmt::Write;

use super::chart::{Chart, Line, Scale};
use super::{Measurement, PERCENTILES, Report};
use crate::compare::Range;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1b1f24;--soft:#6a737d;--rule:#d8dee4;--page:#fff;\
--c0:#1f6feb;--c1:#d1242f;--c2:#1a7f37;--c3:#9a6700;--c4:#8250df;--c5:#0e7490}\
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--soft:#8b949e;--rule:#30363d;--page:#0d1117;\
--c0:#58a6ff;--c1:#ff7b72;--c2:#56d364;--c3:#e3b341;--c4:#bc8cff;--c5:#39c5cf}}\
body{font:14px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:1240px;margin:2em auto;\
padding:0 1em}h1{font-size:22px}h2{font-size:17px;margin-top:2em}.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:3px 10px;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}\
.plots{display:flex;margin-top:1em;flex-wrap:wrap;gap:12px}svg text{fill:var(--soft);font-size:11px}\
svg .name{fill:var(--text);font-size:13px;font-weight:600}svg .grid{stroke:var(--rule)}\
svg polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}.key{display:inline-block;width:14px;height:3px;\
margin:0 6px 4px 14px}.range{color:var(--soft)}\
.c0{stroke:var(--c0);background:var(--c0)}.c1{stroke:var(--c1);background:var(--c1)}\
.c2{stroke:var(--c2);background:var(--c2)}.c3{stroke:var(--c3);background:var(--c3)}\
.c4{stroke:var(--c4);background:var(--c4)}.c5{stroke:var(--c5);background:var(--c5)}";
/// Colours in `STYLE`; a seventh server shares the first one's.
const COLOURS: usize = 6;

pub fn render(report: &Report) -> String {
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\"><title>peristyle-loadgen</title>");
    let _ = write!(page, "<style>{STYLE}</style></head><body><h1>Load test</h1>");
    let servers = distinct(report.measurements.iter().map(|measurement| measurement.server.as_str()));
    page.push_str("<p>");
    for (index, server) in servers.iter().enumerate() {
        let version = report.measurements.iter().find(|each| each.server == *server).map_or("", |each| &each.version);
        let (name, version) = (escape(server), escape(version));
        let _ = write!(page, "<span class=\"key c{}\"></span>{name} ({version})", index % COLOURS);
    }
    page.push_str("</p>\n");
    for case in
        distinct(report.measurements.iter().map(|measurement| (measurement.test.as_str(), measurement.pipeline)))
    {
        let (test, pipeline) = case;
        let _ = writeln!(page, "<h2>{} at pipeline depth {pipeline}</h2>", escape(test));
        push_comparison(&mut page, report, case);
        let of_case = report.measurements.iter().filter(|each| (each.test.as_str(), each.pipeline) == case);
        push_plots(&mut page, &of_case.collect::<Vec<_>>(), &servers);
    }
    page.push_str("<h2>All measurements</h2>\n");
    push_measurements(&mut page, &report.measurements);
    page.push_str("</body></html>\n");
    page
}

fn push_comparison(page: &mut String, report: &Report, (test, pipeline): (&str, u64)) {
    let comparison = report.comparisons.iter().find(|each| each.test == test && each.pipeline == pipeline);
    let Some(comparison) = comparison else { return };
    let servers: Vec<String> = comparison.servers.iter().map(|server| escape(server)).collect();
    let mut header = vec!["median".to_string()];
    header.extend(servers.iter().cloned());
    header.extend(servers[1..].iter().map(|server| format!("{server} / {}", servers[0])));
    header.push(format!("noise of {}", servers[0]));
    let rows = comparison.metrics.iter().map(|metric| {
        let mut cells = vec![metric.metric.clone()];
        cells.extend(metric.medians.iter().map(|median| format!("{median:.1}")));
        cells.extend(metric.ratios_to_first.iter().chain([&metric.noise]).map(ratio));
        cells
    });
    push_table(page, &header, rows);
}

fn ratio(range: &Range) -> String {
    format!("{:.3} <span class=\"range\">{:.3}..{:.3}</span>", range.median, range.low, range.high)
}

fn push_plots(page: &mut String, measurements: &[&Measurement], servers: &[&str]) {
    let lines = |points: fn(&Measurement) -> Vec<(f64, f64)>| -> Vec<Line> {
        let line = |measurement: &&Measurement| Line {
            name: format!("{} {}", measurement.server, measurement.round),
            colour: servers.iter().position(|server| *server == measurement.server).unwrap_or(0) % COLOURS,
            points: points(measurement),
        };
        measurements.iter().map(line).collect()
    };
    let charts = [
        Chart {
            title: "Latency by percentile, µs",
            x: Scale::Nines,
            y: Scale::Log,
            lines: lines(|measurement| measurement.latency_us.curve.clone()),
        },
        Chart {
            title: "Replies per second, over seconds",
            x: Scale::Linear,
            y: Scale::Linear,
            lines: lines(|each| each.series.iter().map(|point| (point.seconds, point.replies_per_second)).collect()),
        },
        Chart {
            title: "99th percentile in µs, over seconds",
            x: Scale::Linear,
            y: Scale::Log,
            lines: lines(|each| each.series.iter().map(|point| (point.seconds, point.p99_us)).collect()),
        },
    ];
    page.push_str("<div class=\"plots\">");
    charts.iter().for_each(|chart| page.push_str(&chart.render()));
    page.push_str("</div>\n");
}

fn push_measurements(page: &mut String, measurements: &[Measurement]) {
    let mut header: Vec<String> =
        ["test", "P", "server", "round", "ops/s", "server ns/op", "client ns/op", "hits", "errors"]
            .map(String::from)
            .into();
    header.extend(PERCENTILES.iter().map(|(name, _)| format!("{name} µs")));
    let rows = measurements.iter().map(|measurement| {
        let mut cells = vec![
            escape(&measurement.test),
            measurement.pipeline.to_string(),
            escape(&measurement.server),
            measurement.round.to_string(),
            format!("{:.0}", measurement.replies_per_second),
            measurement.server_cpu_ns_per_op.map_or("–".into(), |ns| format!("{ns:.0}")),
            format!("{:.0}", measurement.client_cpu_ns_per_op),
            measurement.hit_ratio().map_or("–".into(), |ratio| format!("{:.2} %", ratio * 100.0)),
            measurement.errors.to_string(),
        ];
        cells.extend(PERCENTILES.iter().map(|(name, _)| format!("{:.1}", measurement.latency_us.at(name))));
        cells
    });
    push_table(page, &header, rows);
}

/// Cells are HTML already.
fn push_table(page: &mut String, header: &[String], rows: impl Iterator<Item = Vec<String>>) {
    let _ = write!(page, "<div class=\"wide\"><table><tr><th>{}</th></tr>", header.join("</th><th>"));
    for row in rows {
        let _ = write!(page, "\n<tr><td>{}</td></tr>", row.join("</td><td>"));
    }
    page.push_str("</table></div>\n");
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measurement;

    #[test]
    fn a_page_is_whole_refers_to_nothing_outside_and_escapes_names() {
        let mut odd = measurement("a<b", 1);
        odd.test = "SET & \"x\"".into();
        let page = render(&Report { measurements: vec![odd, measurement("second", 1)], comparisons: Vec::new() });
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("http") && !page.contains("src=") && !page.contains("a<b"));
        assert!(page.contains("a&lt;b") && page.contains("SET &amp; &quot;x&quot;"));
        assert_eq!(page.matches("<svg").count(), 6, "three plots for each of two cases");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
