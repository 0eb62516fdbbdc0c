//! LATENCY: how long commands take, and when something took too long.

use std::fmt::Write;

use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, Outcome, Part, downcast};
use super::write_help;
use crate::base::metrics::{CommandStats, Histogram};
use crate::base::slowlog::{LatencyEvent, LatencyEvents, LatencySample};
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: latency as AdminFn,
    spec: Spec {
        name: "latency",
        arity: AtLeast(2),
        since: "2.8.13",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about slow events.",
        subcommands: &[
            Spec {
                name: "latency|doctor",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Describes slow events and what may help, in plain words.",
                tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "latency|graph",
                arity: Exactly(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Draws the latest samples of an event.",
                args: &[string("event")],
                tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "latency|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "latency|histogram",
                arity: AtLeast(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "7.0.0",
                complexity: "O(N) where N is the number of commands that have a histogram.",
                summary: "Returns how the run times of commands are distributed.",
                args: &[string("command").optional().multiple()],
                tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "latency|history",
                arity: Exactly(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Returns the latest samples of an event, with their times.",
                args: &[string("event")],
                tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "latency|latest",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Returns the last and the worst sample of each event.",
                tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
                ..SERVER
            },
            Spec {
                name: "latency|reset",
                arity: AtLeast(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Forgets the samples of some or all events.",
                args: &[string("event").optional().multiple()],
                tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
                ..SERVER
            },
        ],
        ..SERVER
    },
}];

fn latency(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    Ok(match args.get(1).to_ascii_lowercase().as_slice() {
        b"histogram" => Everywhere::outcome(command_stats, args, histogram),
        b"latest" => Everywhere::outcome(events, args, latest),
        b"history" => Everywhere::outcome(events, args, history),
        b"graph" => Everywhere::outcome(events, args, graph),
        b"reset" => Everywhere::outcome(reset, args, count_reset),
        b"doctor" if ctx.shard.ctx.config.latency_monitor_threshold > 0 => Everywhere::outcome(events, args, doctor),
        b"doctor" => {
            reply.verbatim(b"txt", MONITOR_IS_OFF.as_bytes());
            Outcome::Done
        }
        _ => {
            write_help("LATENCY", HELP, reply);
            Outcome::Done
        }
    })
}

fn command_stats(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    Box::new(ctx.shard.command_stats())
}

/// LATENCY HISTOGRAM [command [command ...]]; a container stands for its subcommands.
fn histogram(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut stats = CommandStats::new(ctx.names.len());
    downcast::<CommandStats>(parts).for_each(|part| stats.merge(&part));
    let is_asked_for = |name: &str| {
        let container = name.split('|').next().unwrap_or(name);
        words.len() == 2
            || words[2..].iter().any(|word| {
                word.eq_ignore_ascii_case(name.as_bytes()) || word.eq_ignore_ascii_case(container.as_bytes())
            })
    };
    let shown: Vec<(&str, &Histogram)> = ctx
        .names
        .iter()
        .zip(&stats.counts)
        .filter_map(|(name, count)| Some((*name, count.latencies.as_deref()?)))
        .filter(|(name, _)| is_asked_for(name))
        .collect();
    reply.map(shown.len());
    for (name, histogram) in shown {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(histogram.count() as i64);
        reply.bulk(b"histogram_usec");
        let steps = histogram.cumulative();
        reply.map(steps.len());
        for (microseconds, count) in steps {
            reply.integer(microseconds as i64);
            reply.integer(count as i64);
        }
    }
    Ok(())
}

fn events(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    Box::new(ctx.shard.ctx.timing.events.clone())
}

fn merge(parts: Vec<Part>) -> LatencyEvents {
    let mut all = LatencyEvents::new();
    for (name, event) in downcast::<LatencyEvents>(parts).flatten() {
        all.entry(name).or_default().merge(&event);
    }
    all
}

/// The samples of an event that a client names, in any case of letters.
fn named<'a>(events: &'a LatencyEvents, name: &[u8]) -> Option<(&'static str, &'a LatencyEvent)> {
    events.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(name, event)| (*name, event))
}

fn latest(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let events = merge(parts);
    reply.array(events.len());
    for (name, event) in &events {
        let last = event.samples.back().expect("an event exists by its first sample");
        // The last two since Valkey 8.1.
        reply.array(6);
        reply.bulk(name.as_bytes());
        reply.integer(last.unix_s);
        reply.integer(last.milliseconds as i64);
        reply.integer(event.milliseconds_max as i64);
        reply.integer(event.milliseconds_sum as i64);
        reply.integer(event.count as i64);
    }
    Ok(())
}

fn history(_ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let events = merge(parts);
    let samples = named(&events, &words[2]).into_iter().flat_map(|(_, event)| &event.samples);
    reply.array(samples.clone().count());
    for sample in samples {
        reply.array(2);
        reply.integer(sample.unix_s);
        reply.integer(sample.milliseconds as i64);
    }
    Ok(())
}

/// Forgets the named events, or all: how many there were, by their names.
fn reset(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let is_named = |name: &str| words[2..].iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let mut forgotten = Vec::new();
    ctx.shard.ctx.timing.events.retain(|name, _| {
        let goes = words.len() == 2 || is_named(name);
        if goes {
            forgotten.push(*name);
        }
        !goes
    });
    Box::new(forgotten)
}

fn count_reset(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut names: Vec<&str> = downcast::<Vec<&'static str>>(parts).flatten().collect();
    names.sort_unstable();
    names.dedup();
    reply.integer(names.len() as i64);
    Ok(())
}

fn graph(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let events = merge(parts);
    let Some((name, event)) = named(&events, &words[2]) else {
        let name = String::from_utf8_lossy(&words[2]);
        return Err(Error::dynamic(format!("ERR No samples available for event '{name}'")));
    };
    reply.verbatim(b"txt", draw(name, event, ctx.now.unix_s()).as_bytes());
    Ok(())
}

/// Samples in a line of the graph, and the lines of its bars.
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;
/// A bar's end, by the thirds of its last line.
const BAR_ENDS: [char; 3] = ['_', 'o', '#'];

/// One bar a sample, with its age below, from top to bottom.
fn draw(name: &str, event: &LatencyEvent, now_s: i64) -> String {
    let latencies = || event.samples.iter().map(|sample| sample.milliseconds);
    let (low, high) = (latencies().min().unwrap_or(0), latencies().max().unwrap_or(0));
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", event.milliseconds_max);
    text.extend(std::iter::repeat_n('-', GRAPH_COLUMNS));
    text.push('\n');
    let samples: Vec<LatencySample> = event.samples.iter().copied().collect();
    for (index, samples) in samples.chunks(GRAPH_COLUMNS).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        draw_line(samples, low, high, now_s, &mut text);
    }
    text
}

fn draw_line(samples: &[LatencySample], low: u64, high: u64, now_s: i64, text: &mut String) {
    let steps = GRAPH_ROWS * BAR_ENDS.len();
    let heights: Vec<usize> = samples
        .iter()
        .map(|sample| ((sample.milliseconds - low) as usize * steps / (high - low).max(1) as usize).min(steps - 1))
        .collect();
    for row in (0..GRAPH_ROWS).rev() {
        let bottom = row * BAR_ENDS.len();
        text.extend(heights.iter().map(|&height| match height.checked_sub(bottom) {
            None => ' ',
            Some(above) => BAR_ENDS.get(above).copied().unwrap_or('|'),
        }));
        text.push('\n');
    }
    let ages: Vec<Vec<char>> = samples.iter().map(|sample| age(now_s - sample.unix_s).chars().collect()).collect();
    for row in 0..ages.iter().map(Vec::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.get(row).copied().unwrap_or(' ')));
        text.push('\n');
    }
}

fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn doctor(ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let config = &ctx.shard.ctx.config;
    let sees_all = u64::try_from(config.slowlog_log_slower_than)
        .is_ok_and(|microseconds| microseconds / 1000 <= config.latency_monitor_threshold);
    reply.verbatim(b"txt", diagnosis(&merge(parts), sees_all).as_bytes());
    Ok(())
}

const MONITOR_IS_OFF: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this instance. You \
    may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n";

/// What the events have in common; `slowlog_sees_all`: the slow log has every command among them.
fn diagnosis(events: &LatencyEvents, slowlog_sees_all: bool) -> String {
    if events.is_empty() {
        return "Dave, no latency spike was observed during the lifetime of this instance, not in the slightest bit.\n"
            .to_owned();
    }
    let mut text = "Dave, latency spikes were observed in this instance.\n\n".to_owned();
    for (index, (name, event)) in events.iter().enumerate() {
        let count = event.samples.len() as u64;
        let mean = event.samples.iter().map(|sample| sample.milliseconds).sum::<u64>() / count;
        let deviation = event.samples.iter().map(|sample| sample.milliseconds.abs_diff(mean)).sum::<u64>() / count;
        let first = event.samples.front().map_or(0, |sample| sample.unix_s);
        let last = event.samples.back().map_or(0, |sample| sample.unix_s);
        writeln!(
            text,
            "{}. {name}: {count} latency spikes (average {mean}ms, mean deviation {deviation}ms, period {:.2} sec). \
             Worst all time event {}ms.",
            index + 1,
            (last - first) as f64 / count as f64,
            event.milliseconds_max
        )
        .expect("a string takes everything");
    }
    text.push_str(match slowlog_sees_all {
        true => "\nSLOWLOG GET shows which commands these were.\n",
        false => "\nThe slow log does not have all of these commands: lower slowlog-log-slower-than to see which.\n",
    });
    text
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn event(samples: &[(i64, u64)]) -> LatencyEvent {
        let mut event = LatencyEvent::default();
        samples.iter().for_each(|&(unix_s, milliseconds)| event.add(LatencySample { unix_s, milliseconds }));
        event
    }

    #[test]
    fn graphs_have_a_bar_for_each_sample() {
        let graph = draw("command", &event(&[(10, 100), (50, 200), (70, 150)]), 110);
        let expected = format!(
            "command - high 200 ms, low 100 ms (all time high 200 ms)\n{}\n # \n |_\n ||\n_||\n114\nmm0\n  s\n",
            "-".repeat(80)
        );
        assert_eq!(graph, expected);
    }

    #[test]
    fn the_doctor_counts_spikes() {
        assert!(diagnosis(&LatencyEvents::new(), true).contains("no latency spike"));
        let text = diagnosis(&LatencyEvents::from([("command", event(&[(10, 100), (50, 200)]))]), true);
        let line = "1. command: 2 latency spikes (average 150ms, mean deviation 50ms, period 20.00 sec). Worst all \
                    time event 200ms.";
        assert!(text.contains(line), "{text}");
    }
}
