//! Everything that was measured, as one JSON object.

use super::Report;

pub fn render(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report has only keys that are strings");
    text.push('\n');
    text
}
