//! What was measured: per command, and over the time of the run.
//!
//! Each worker fills a `Stats` of its own, and they are added up at the end; histograms make that exact for
//! percentiles, where averages of percentiles would be wrong.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// The finest step of the series over time; it doubles whenever the series reaches `SLOTS_MAX`, so that a run of any
/// length is a plot of some hundred points and takes bounded memory.
const SLOT_NS_MIN: u64 = 100_000_000;
const SLOTS_MAX: usize = 256;
/// Later replies are counted at this value; runs that see them show it as their maximum.
const LATENCY_NS_MAX: u64 = 1_000_000_000_000;
/// The series over time needs two digits only, and above a microsecond: 13 KiB a slot instead of 220.
const SLOT_LATENCY_NS_MIN: u64 = 1_000;
/// Distinct error texts kept; further ones are counted under one name.
const ERROR_KINDS_MAX: usize = 32;

#[derive(Clone, Debug)]
pub struct CommandStats {
    pub label: String,
    pub lookup: bool,
    /// Replies, errors among them.
    pub replies: u64,
    pub errors: u64,
    pub found: u64,
    pub missing: u64,
    pub latency_ns: Histogram<u64>,
}

/// One step of the series over time.
#[derive(Clone, Debug)]
pub struct Slot {
    pub replies: u64,
    pub latency_ns: Histogram<u32>,
}

#[derive(Clone, Debug)]
pub struct Stats {
    pub commands: Vec<CommandStats>,
    pub slots: Vec<Slot>,
    pub slot_ns: u64,
    pub errors_by_text: BTreeMap<String, u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub connections_lost: u64,
    /// Requests of the open loop's timetable that were due before the end and never sent.
    pub unsent: u64,
    /// Requests that were sent and had no reply when the run gave up waiting.
    pub unanswered: u64,
    /// From the start to the last reply.
    pub elapsed_ns: u64,
}

impl Stats {
    pub fn new(commands: impl Iterator<Item = (String, bool)>) -> Stats {
        let commands = commands.map(|(label, lookup)| CommandStats {
            label,
            lookup,
            replies: 0,
            errors: 0,
            found: 0,
            missing: 0,
            latency_ns: latency_histogram(),
        });
        Stats {
            commands: commands.collect(),
            slots: Vec::new(),
            slot_ns: SLOT_NS_MIN,
            errors_by_text: BTreeMap::new(),
            bytes_sent: 0,
            bytes_received: 0,
            connections_lost: 0,
            unsent: 0,
            unanswered: 0,
            elapsed_ns: 0,
        }
    }

    /// `count` replies to command `command` arrived at `now_ns`, each `latency_ns` after it should have been sent.
    pub fn record(&mut self, command: u16, now_ns: u64, latency_ns: u64, count: u32) {
        let stats = &mut self.commands[usize::from(command)];
        stats.replies += u64::from(count);
        stats.latency_ns.saturating_record_n(latency_ns, u64::from(count));
        let slot = self.slot_at(now_ns);
        slot.replies += u64::from(count);
        slot.latency_ns.saturating_record_n(latency_ns, count);
        self.elapsed_ns = self.elapsed_ns.max(now_ns);
    }

    fn slot_at(&mut self, now_ns: u64) -> &mut Slot {
        while now_ns / self.slot_ns >= SLOTS_MAX as u64 {
            self.coarsen();
        }
        let index = (now_ns / self.slot_ns) as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::new);
        }
        &mut self.slots[index]
    }

    /// Joins slots in pairs.
    fn coarsen(&mut self) {
        let mut slots = std::mem::take(&mut self.slots).into_iter();
        while let Some(mut first) = slots.next() {
            if let Some(second) = slots.next() {
                first.merge(&second);
            }
            self.slots.push(first);
        }
        self.slot_ns *= 2;
    }

    #[cold]
    pub fn record_error(&mut self, command: u16, text: &str) {
        self.commands[usize::from(command)].errors += 1;
        self.count_error_text(text);
    }

    pub fn count_error_text(&mut self, text: &str) {
        let known = self.errors_by_text.contains_key(text) || self.errors_by_text.len() < ERROR_KINDS_MAX;
        let text = if known { text } else { "(further kinds of errors)" };
        *self.errors_by_text.entry(text.to_string()).or_default() += 1;
    }

    pub fn merge(&mut self, mut other: Stats) {
        assert!(self.commands.len() == other.commands.len(), "all workers run the same mix");
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.replies += theirs.replies;
            mine.errors += theirs.errors;
            mine.found += theirs.found;
            mine.missing += theirs.missing;
            mine.latency_ns.add(&theirs.latency_ns).expect("all latency histograms have the same bounds");
        }
        while self.slot_ns < other.slot_ns {
            self.coarsen();
        }
        while other.slot_ns < self.slot_ns {
            other.coarsen();
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize_with(other.slots.len(), Slot::new);
        }
        for (mine, theirs) in self.slots.iter_mut().zip(&other.slots) {
            mine.merge(theirs);
        }
        for (text, count) in &other.errors_by_text {
            *self.errors_by_text.entry(text.clone()).or_default() += count;
        }
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.connections_lost += other.connections_lost;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
    }

    pub fn replies(&self) -> u64 {
        self.commands.iter().map(|command| command.replies).sum()
    }

    pub fn errors(&self) -> u64 {
        self.commands.iter().map(|command| command.errors).sum()
    }

    /// Latency over all commands.
    pub fn latency_ns(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for command in &self.commands {
            all.add(&command.latency_ns).expect("all latency histograms have the same bounds");
        }
        all
    }
}

impl Slot {
    fn new() -> Slot {
        let latency_ns = Histogram::new_with_bounds(SLOT_LATENCY_NS_MIN, LATENCY_NS_MAX, 2);
        Slot { replies: 0, latency_ns: latency_ns.expect("the bounds are valid") }
    }

    fn merge(&mut self, other: &Slot) {
        self.replies += other.replies;
        self.latency_ns.add(&other.latency_ns).expect("all slot histograms have the same bounds");
    }
}

fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        Stats::new([("get".to_string(), true), ("set".to_string(), false)].into_iter())
    }

    #[test]
    fn merging_equals_recording_in_one_place() {
        let (mut one, mut two, mut both) = (stats(), stats(), stats());
        for step in 0..10_000u64 {
            let (part, latency) = (if step % 3 == 0 { &mut one } else { &mut two }, 1_000 + step * 37);
            part.record((step % 2) as u16, step * 400_000, latency, 2);
            both.record((step % 2) as u16, step * 400_000, latency, 2);
        }
        one.merge(two);
        assert_eq!(one.replies(), both.replies());
        assert_eq!(one.elapsed_ns, both.elapsed_ns);
        assert_eq!(one.latency_ns(), both.latency_ns());
        let slots = |stats: &Stats| stats.slots.iter().map(|slot| slot.replies).collect::<Vec<u64>>();
        assert_eq!(slots(&one), slots(&both));
        assert_eq!(slots(&one), vec![500; 40]);
    }

    #[test]
    fn a_long_series_gets_coarser_and_loses_nothing() {
        let (mut long, mut short) = (stats(), stats());
        (0..600).for_each(|tenth| long.record(0, tenth * SLOT_NS_MIN, 1_000, 1));
        (0..100).for_each(|tenth| short.record(0, tenth * SLOT_NS_MIN, 1_000, 1));
        assert_eq!((long.slot_ns, long.slots.len()), (4 * SLOT_NS_MIN, 150));
        short.merge(long);
        let replies: Vec<u64> = short.slots.iter().map(|slot| slot.replies).collect();
        assert_eq!(replies, [vec![8; 25], vec![4; 125]].concat());
    }

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut stats = stats();
        (1..=100_000).for_each(|latency| stats.record(0, 0, latency * 1_000, 1));
        for (percentile, expected) in [(50.0, 50e6), (99.0, 99e6), (99.9, 99.9e6)] {
            let measured = stats.latency_ns().value_at_percentile(percentile) as f64;
            assert!((measured / expected - 1.0).abs() < 0.001, "p{percentile} is {measured}");
        }
    }

    #[test]
    fn error_kinds_are_bounded() {
        let mut stats = stats();
        (0..100).for_each(|kind| stats.record_error(1, &format!("ERR {kind}")));
        assert_eq!(stats.errors(), 100);
        assert_eq!(stats.errors_by_text.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(stats.errors_by_text["(further kinds of errors)"], 100 - ERROR_KINDS_MAX as u64);
    }
}
