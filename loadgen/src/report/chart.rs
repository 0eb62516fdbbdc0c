//! Line charts as SVG text. Knows lines and scales, and nothing of what they mean.

use std::fmt::Write;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 24.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From zero.
    Linear,
    Log,
    /// Percentiles: 0, 90, 99, 99.9 … at even distances.
    Nines,
}

pub struct Chart {
    pub title: &'static str,
    pub x: Scale,
    pub y: Scale,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    /// Class `c0`, `c1` … of the page's style.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
}

/// A scale with the range of its values, after the scale's own mapping.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Chart {
    pub fn render(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::around(self.x, points().map(|point| point.0));
        let y = Axis::around(self.y, points().map(|point| point.1));
        let at_x = |value| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
        let at_y = |value| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM);
        let mut svg =
            format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
        let _ = write!(svg, "<text class=\"name\" x=\"{LEFT}\" y=\"16\">{}</text>", self.title);
        for tick in x.ticks() {
            let (at, label) = (at_x(tick), label(tick));
            let bottom = HEIGHT - BOTTOM;
            let _ = write!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
            let below = HEIGHT - BOTTOM + 15.0;
            let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>");
        }
        for tick in y.ticks() {
            let (at, label) = (at_y(tick), label(tick));
            let right = WIDTH - RIGHT;
            let _ = write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            let (before, baseline) = (LEFT - 6.0, at + 4.0);
            let _ = write!(svg, "<text x=\"{before}\" y=\"{baseline:.1}\" text-anchor=\"end\">{label}</text>");
        }
        for line in &self.lines {
            let mut path = String::new();
            for (value_x, value_y) in &line.points {
                let _ = write!(path, "{:.1},{:.1} ", at_x(*value_x), at_y(*value_y));
            }
            let name = super::html::escape(&line.name);
            let (colour, path) = (line.colour, path.trim_end());
            let _ = write!(svg, "<polyline class=\"c{colour}\" points=\"{path}\"><title>{name}</title></polyline>");
        }
        svg.push_str("</svg>");
        svg
    }
}

impl Axis {
    fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let mapped = values.map(|value| map(scale, value)).filter(|mapped| mapped.is_finite());
        let (mut low, mut high) = mapped.fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        match scale {
            // A rate that halves must look halved, so the axis starts at zero.
            Scale::Linear => (low, high) = (0.0, high * 1.05),
            // Out to round values, so that even a flat line lies between two ticks.
            Scale::Log => {
                low = -round_step(10f64.powf(-low)).log10();
                high = round_step(10f64.powf(high + 1e-9)).log10();
            }
            Scale::Nines => low = 0.0,
        }
        Axis { scale, low, high: high.max(low + 1e-9) }
    }

    fn share(&self, value: f64) -> f64 {
        ((map(self.scale, value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        let inside = |tick: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&map(self.scale, *tick));
        match self.scale {
            Scale::Linear => {
                let step = round_step(self.high / 5.0);
                (0..).map(|index| f64::from(index) * step).take_while(|tick| *tick <= self.high).collect()
            }
            Scale::Log => {
                // Few decades leave room for the steps between them.
                let factors: &[f64] = if self.high - self.low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let decades = self.low.floor() as i32..=self.high.ceil() as i32;
                let ticks = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
                ticks.filter(inside).collect()
            }
            Scale::Nines => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999].into_iter().filter(inside).collect(),
        }
    }
}

fn map(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.max(1e-3).log10(),
        Scale::Nines => -(1.0 - value / 100.0).log10(),
    }
}

/// The nearest 1, 2 or 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least).unwrap_or(10.0);
    factor * power
}

fn label(value: f64) -> String {
    let (scaled, unit) = match value {
        _ if value >= 1e6 => (value / 1e6, "M"),
        _ if value >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 1e4).round() / 1e4;
    format!("{rounded}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<String> {
        Axis::around(scale, values.iter().copied()).ticks().into_iter().map(label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(Scale::Linear, &[3.0, 870_000.0]), ["0", "200k", "400k", "600k", "800k"]);
        assert_eq!(ticks(Scale::Log, &[90.0, 1_100.0]), ["50", "100", "200", "500", "1k", "2k"]);
        assert_eq!(ticks(Scale::Log, &[330.0, 340.0]), ["200", "500"]);
        assert_eq!(ticks(Scale::Log, &[200.0]), ["200", "500"]);
        assert_eq!(ticks(Scale::Log, &[1.0, 1e6]), ["1", "10", "100", "1k", "10k", "100k", "1M"]);
        assert_eq!(ticks(Scale::Nines, &[0.0, 99.95]), ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn scales_map_their_ends_to_the_ends() {
        let axis = Axis::around(Scale::Nines, [0.0, 99.0].into_iter());
        for (percentile, share) in [(0.0, 0.0), (90.0, 0.5), (99.0, 1.0)] {
            assert!((axis.share(percentile) - share).abs() < 1e-9, "{percentile}");
        }
    }

    #[test]
    fn a_chart_without_points_is_still_a_chart() {
        let chart = Chart { title: "none", x: Scale::Linear, y: Scale::Log, lines: Vec::new() };
        let svg = chart.render();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
    }
}
