//! What a script needs of the server: whoever runs scripts implements this, so that `script` knows no keys.

use crate::resp::reply::Protocol;

pub trait Host {
    /// Runs a command for the script and appends its reply. What the script may not call is an error reply like any
    /// other, and counted like one.
    fn call(&mut self, words: &[&[u8]], protocol: Protocol, reply: &mut Vec<u8>);

    /// Whether the script's user may run this command; `None`: there is no such command.
    fn may_run(&mut self, words: &[&[u8]]) -> Option<bool>;

    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Where effects of the commands to come go.
    fn set_replication(&mut self, to: Replication);

    /// Asked every hundred thousand instructions.
    fn interrupt(&mut self) -> Interrupt;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// `redis.set_repl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    pub to_aof: bool,
    pub to_replicas: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Continue,
    /// The script ends with this error.
    Kill(&'static str),
}

/// What a script declares behind `flags=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    pub no_writes: bool,
    pub allow_oom: bool,
    pub allow_stale: bool,
    pub no_cluster: bool,
    pub allow_cross_slot_keys: bool,
    /// A script without a `#!` line: it may do what scripts always might.
    pub compatible: bool,
}

impl ScriptFlags {
    /// In the order in which FUNCTION LIST shows them.
    pub const NAMES: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = [self.no_writes, self.allow_oom, self.allow_stale, self.no_cluster, self.allow_cross_slot_keys];
        Self::NAMES.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name))
    }

    /// Sets the flag of this name; false if there is none.
    pub fn set(&mut self, name: &[u8]) -> bool {
        match name {
            b"no-writes" => self.no_writes = true,
            b"allow-oom" => self.allow_oom = true,
            b"allow-stale" => self.allow_stale = true,
            b"no-cluster" => self.no_cluster = true,
            b"allow-cross-slot-keys" => self.allow_cross_slot_keys = true,
            _ => return false,
        }
        true
    }
}
