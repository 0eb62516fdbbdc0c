//! How long commands take: which of them are slow, and what the shard of their client is to be told of that.

use crate::base::slowlog::{LatencyEvents, LatencySample, Note, SlowCommand};
use crate::command::spec::{FAST, SKIP_SLOWLOG, Spec};
use crate::config::Config;

#[derive(Debug, Default)]
pub struct Timing {
    /// A command that takes this long is looked at: the smaller of the next two.
    slow_ns: u64,
    slowlog_ns: u64,
    pub latency_event_ns: u64,
    pub events: LatencyEvents,
    /// Of commands that ran here since they were last taken.
    notes: Vec<Note>,
}

impl Timing {
    pub fn configure(&mut self, config: &Config) {
        self.slowlog_ns = match u64::try_from(config.slowlog_log_slower_than) {
            Ok(microseconds) if config.slowlog_max_len > 0 => microseconds.saturating_mul(1000),
            _ => u64::MAX,
        };
        self.latency_event_ns = match config.latency_monitor_threshold {
            0 => u64::MAX,
            milliseconds => milliseconds.saturating_mul(1_000_000),
        };
        self.slow_ns = self.slowlog_ns.min(self.latency_event_ns);
    }

    #[inline]
    pub fn is_slow(&self, nanoseconds: u64) -> bool {
        nanoseconds >= self.slow_ns
    }

    /// Commands that take long are taken note of.
    pub fn notes_slow(&self) -> bool {
        self.slow_ns != u64::MAX
    }

    /// Takes note of a slow command.
    #[cold]
    pub fn was_slow(&mut self, spec: &Spec, nanoseconds: u64, unix_s: i64, words: &[&[u8]]) {
        if nanoseconds >= self.latency_event_ns {
            let event = if spec.flags.has(FAST) { "fast-command" } else { "command" };
            let sample = LatencySample { unix_s, milliseconds: nanoseconds / 1_000_000 };
            self.events.entry(event).or_default().add(sample);
        }
        if nanoseconds >= self.slowlog_ns && !spec.flags.has(SKIP_SLOWLOG) {
            self.notes.push(Note::Slow(SlowCommand::new(nanoseconds, words)));
        }
    }

    /// A script has called so many commands.
    pub fn called(&mut self, commands: u64) {
        if commands > 0 {
            self.notes.push(Note::Called(commands));
        }
    }

    /// For a script that runs while others do: what it calls is as slow here as there, and told when it is over.
    pub fn beside(&self) -> Timing {
        let Timing { slow_ns, slowlog_ns, latency_event_ns, .. } = *self;
        Timing { slow_ns, slowlog_ns, latency_event_ns, ..Timing::default() }
    }

    pub fn absorb(&mut self, other: Timing) {
        self.notes.extend(other.notes);
        for (name, event) in &other.events {
            self.events.entry(name).or_default().merge(event);
        }
    }

    #[inline]
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// The notes since the last call: usually of one command. To be given back, empty.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    pub fn give_notes(&mut self, mut notes: Vec<Note>) {
        notes.clear();
        self.notes = notes;
    }
}
