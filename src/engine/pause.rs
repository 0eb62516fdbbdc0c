//! CLIENT PAUSE, as one shard knows it: which commands wait, and until when.
//!
//! Every shard has its own copy, and looks at it where a command arrives, so that a paused command waits with its
//! connection and nothing of it has travelled yet. While clients are paused nothing expires either: the data stays what
//! it is.

use crate::base::clock::Now;
use crate::command::spec::{Flags, MAY_REPLICATE, WRITE};

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Those that change data, or may lead to a change.
    Writes,
    All,
}

/// The pause that is on, if one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientPause {
    /// What waits, and up to which time of the monotonic clock, in nanoseconds.
    on: Option<(Paused, u64)>,
}

impl ClientPause {
    /// A pause that is on is never made shorter or weaker by another.
    pub fn begin(&mut self, paused: Paused, until_ns: u64) {
        let (paused, until_ns) = match self.on {
            Some((Paused::All, before_ns)) => (Paused::All, until_ns.max(before_ns)),
            Some((Paused::Writes, before_ns)) => (paused, until_ns.max(before_ns)),
            None => (paused, until_ns),
        };
        self.on = Some((paused, until_ns));
    }

    pub fn end(&mut self) {
        self.on = None;
    }

    /// Ends it when its time is over; whether it has ended by that.
    pub fn end_if_due(&mut self, now: Now) -> bool {
        let is_due = self.on.is_some_and(|(_, until_ns)| until_ns <= now.mono_ns);
        if is_due {
            self.on = None;
        }
        is_due
    }

    pub fn paused(&self) -> Option<Paused> {
        self.on.map(|(paused, _)| paused)
    }

    pub fn remaining_ms(&self, now: Now) -> u64 {
        self.on.map_or(0, |(_, until_ns)| until_ns.saturating_sub(now.mono_ns) / 1_000_000)
    }

    /// Does a command with these flags wait?
    pub fn holds(&self, flags: Flags) -> bool {
        match self.paused() {
            None => false,
            Some(Paused::All) => true,
            Some(Paused::Writes) => flags.has(WRITE) || flags.has(MAY_REPLICATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec::READONLY;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_pause_holds_what_it_is_for_until_it_ends() {
        let mut pause = ClientPause::default();
        assert!(!pause.holds(WRITE));
        pause.begin(Paused::Writes, 50 * MS);
        assert!(pause.holds(WRITE) && pause.holds(MAY_REPLICATE) && !pause.holds(READONLY));
        let now = Now::default();
        assert_eq!(pause.remaining_ms(now.plus_ms(20)), 30);
        assert!(!pause.end_if_due(now.plus_ms(49)) && pause.end_if_due(now.plus_ms(50)));
        assert!(!pause.holds(WRITE) && !pause.end_if_due(now.plus_ms(50)));
    }

    #[test]
    fn a_pause_is_never_made_shorter_or_weaker() {
        let mut pause = ClientPause::default();
        pause.begin(Paused::All, 200 * MS);
        pause.begin(Paused::Writes, 20 * MS);
        assert_eq!(pause.on, Some((Paused::All, 200 * MS)));
        pause.end();
        pause.begin(Paused::Writes, 200 * MS);
        pause.begin(Paused::All, 20 * MS);
        assert_eq!(pause.on, Some((Paused::All, 200 * MS)));
    }
}
