//! Counters of one core: plain integers, merged when somebody asks (INFO).

use std::collections::BTreeMap;

use super::ids::CommandId;

/// What INFO commandstats tells of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandCount {
    pub calls: u64,
    pub nanoseconds: u64,
    /// Refused before it ran: arity, authentication.
    pub rejected: u64,
    /// Ran, and answered with an error.
    pub failed: u64,
}

/// Counts by command, and errors by code.
#[derive(Clone, Debug)]
pub struct CommandStats {
    pub counts: Vec<CommandCount>,
    pub errors: BTreeMap<String, u64>,
    pub total: u64,
}

impl CommandStats {
    pub fn new(commands: usize) -> CommandStats {
        CommandStats { counts: vec![CommandCount::default(); commands], errors: BTreeMap::new(), total: 0 }
    }

    #[inline]
    pub fn ran(&mut self, id: CommandId, nanoseconds: u64) {
        let count = &mut self.counts[usize::from(id)];
        count.calls += 1;
        count.nanoseconds += nanoseconds;
        self.total += 1;
    }

    pub fn failed(&mut self, id: CommandId, code: String) {
        self.counts[usize::from(id)].failed += 1;
        *self.errors.entry(code).or_default() += 1;
    }

    pub fn rejected(&mut self, id: Option<CommandId>, code: String) {
        if let Some(id) = id {
            self.counts[usize::from(id)].rejected += 1;
        }
        *self.errors.entry(code).or_default() += 1;
    }

    pub fn merge(&mut self, other: &CommandStats) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            into.calls += from.calls;
            into.nanoseconds += from.nanoseconds;
            into.rejected += from.rejected;
            into.failed += from.failed;
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        self.total += other.total;
    }
}
