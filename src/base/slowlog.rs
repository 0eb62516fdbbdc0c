//! SLOWLOG and LATENCY: what took longer than an operator wants, the newest first.

use std::collections::{BTreeMap, VecDeque};

/// Of a command in the log: arguments beyond these, and bytes of each, are only counted.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// A command that was slow, where it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    pub microseconds: u64,
    /// Shortened.
    pub words: Vec<Vec<u8>>,
}

impl SlowCommand {
    pub fn new(nanoseconds: u64, words: &[&[u8]]) -> SlowCommand {
        SlowCommand { microseconds: nanoseconds / 1000, words: shorten(words) }
    }
}

/// What the shard of a client is told of a command that it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was slow, or what it called as a script.
    Slow(SlowCommand),
    /// As a script it called so many commands.
    Called(u64),
}

fn shorten(words: &[&[u8]]) -> Vec<Vec<u8>> {
    let shown = if words.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { words.len() };
    let mut shortened: Vec<Vec<u8>> = words[..shown].iter().map(|word| shorten_word(word)).collect();
    if shown < words.len() {
        shortened.push(format!("... ({} more arguments)", words.len() - shown).into_bytes());
    }
    shortened
}

fn shorten_word(word: &[u8]) -> Vec<u8> {
    if word.len() <= ARGUMENT_BYTES_MAX {
        return word.to_vec();
    }
    let mut text = word[..ARGUMENT_BYTES_MAX].to_vec();
    text.extend_from_slice(format!("... ({} more bytes)", word.len() - ARGUMENT_BYTES_MAX).as_bytes());
    text
}

/// An entry of SLOWLOG GET.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Ascending over all shards.
    pub id: u64,
    pub unix_s: i64,
    pub command: SlowCommand,
    pub client_address: String,
    pub client_name: Vec<u8>,
}

/// The entries of one shard's clients.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
}

impl SlowLog {
    /// `length_max` is that of the whole server: all entries may be of one shard.
    pub fn push(&mut self, entry: SlowEntry, length_max: usize) {
        self.entries.push_front(entry);
        self.entries.truncate(length_max);
    }

    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Samples kept of one event.
const SAMPLES_MAX: usize = 160;

/// A slow moment: Unix time in seconds, and how long it took in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    pub unix_s: i64,
    pub milliseconds: u64,
}

/// The slow moments of one event.
#[derive(Clone, Debug, Default)]
pub struct LatencyEvent {
    /// Oldest first; one a second, the longest.
    pub samples: VecDeque<LatencySample>,
    /// The longest since it was reset, all together, and how many.
    pub milliseconds_max: u64,
    pub milliseconds_sum: u64,
    pub count: u64,
}

impl LatencyEvent {
    pub fn add(&mut self, sample: LatencySample) {
        self.milliseconds_max = self.milliseconds_max.max(sample.milliseconds);
        self.milliseconds_sum += sample.milliseconds;
        self.count += 1;
        self.keep(sample);
    }

    fn keep(&mut self, sample: LatencySample) {
        if let Some(last) = self.samples.back_mut().filter(|last| last.unix_s == sample.unix_s) {
            last.milliseconds = last.milliseconds.max(sample.milliseconds);
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// As if both had seen the events of both.
    pub fn merge(&mut self, other: &LatencyEvent) {
        let mut all: Vec<LatencySample> = self.samples.iter().chain(&other.samples).copied().collect();
        all.sort_by_key(|sample| sample.unix_s);
        self.milliseconds_max = self.milliseconds_max.max(other.milliseconds_max);
        self.milliseconds_sum += other.milliseconds_sum;
        self.count += other.count;
        self.samples.clear();
        all.into_iter().for_each(|sample| self.keep(sample));
    }
}

/// By name of the event: `command`, `fast-command` …
pub type LatencyEvents = BTreeMap<&'static str, LatencyEvent>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened() {
        let long = [b'x'; 200];
        let words: Vec<&[u8]> = std::iter::repeat_n(&long[..], 40).collect();
        let shortened = shorten(&words);
        assert_eq!(shortened.len(), 32);
        assert!(shortened[0].ends_with(b"xx... (72 more bytes)"));
        assert_eq!(shortened[31], b"... (9 more arguments)");
        assert_eq!(shorten(&words[..32]).len(), 32);
    }

    #[test]
    fn the_log_keeps_the_newest() {
        let mut log = SlowLog::default();
        for id in 0..5 {
            let command = SlowCommand::new(1_500_000, &[b"get"]);
            log.push(SlowEntry { id, unix_s: 1, command, client_address: String::new(), client_name: Vec::new() }, 3);
        }
        let ids: Vec<u64> = log.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [4, 3, 2]);
        assert_eq!(log.iter().next().unwrap().command.microseconds, 1500);
    }

    #[test]
    fn one_sample_a_second_is_kept_the_longest() {
        let mut event = LatencyEvent::default();
        let sample = |unix_s, milliseconds| LatencySample { unix_s, milliseconds };
        for sample in [sample(1, 5), sample(1, 9), sample(1, 7), sample(3, 2)] {
            event.add(sample);
        }
        let mut other = LatencyEvent::default();
        for sample in [sample(2, 4), sample(3, 8)] {
            other.add(sample);
        }
        event.merge(&other);
        assert_eq!(event.samples, [sample(1, 9), sample(2, 4), sample(3, 8)]);
        assert_eq!((event.milliseconds_max, event.milliseconds_sum, event.count), (9, 35, 6));
    }
}
