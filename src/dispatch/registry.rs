//! All commands under one lookup, whatever kind of function runs them.
//!
//! Names are looked up once a command, so the table is made for that: first and last bytes of the name, in lower case,
//! are the key of an open-addressed table of a few cache lines. A name that is written in one case, as clients do, is
//! known by these bytes alone.

use std::sync::OnceLock;

use crate::admin::ctx::{AdminFn, AdminRow};
use crate::base::ids::CommandId;
use crate::command::ctx::Found;
use crate::command::keys::KeyRange;
use crate::command::spec::{Flags, Shape, Spec};
use crate::command::{KeyRow, keys};
use crate::{admin, engine};

/// A command as the dispatcher sees it.
pub struct Command {
    pub spec: &'static Spec,
    pub run: Run,
    pub id: CommandId,
    pub flags: Flags,
    pub keys: KeyPlan,
}

#[derive(Clone, Copy)]
pub enum Run {
    Key(&'static KeyRow),
    Admin(AdminFn),
}

/// How to find the shard of a command, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlan {
    /// No key.
    None,
    /// One key, the first argument.
    First,
    /// Several, or elsewhere: `command::keys::keys_of` tells.
    Several,
}

pub struct Registry {
    commands: Vec<Command>,
    /// A power of two long.
    slots: Vec<Slot>,
    specs: &'static [&'static Spec],
    /// Names of all commands and subcommands by id: containers first, subcommands behind them.
    names: Vec<&'static str>,
}

/// What was looked for last: in a pipeline, nearly always what is looked for next.
#[derive(Clone, Copy, Default)]
pub struct Recent {
    ends: u128,
    /// Of the name, whose ends are all of it.
    length: usize,
    command: Option<&'static Command>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The name's ends as people write them.
    lower: u128,
    upper: u128,
    /// In any case.
    folded: u128,
    /// Length of the name, if its ends are all of it.
    whole: usize,
    /// Index of the command plus one; 0 is free.
    command: u16,
}

/// First and last bytes. Made of whole words, as a copy of byte after byte would have to be waited for.
#[inline]
fn ends(name: &[u8]) -> u128 {
    let word = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u64::from(u32::from_le_bytes(name[at..at + 4].try_into().expect("four bytes")));
    let byte = |at: usize| u64::from(name[at]);
    let length = name.len();
    let (low, high) = match length {
        0 => (0, 0),
        1..=3 => (byte(0) | byte(length / 2) << 8 | byte(length - 1) << 16, 0),
        4..=7 => (half(0) | half(length - 4) << 32, 0),
        _ => (word(0), word(length - 8)),
    };
    u128::from(high) << 64 | u128::from(low)
}

/// Sets the letter-case bit of every byte: equal for equal names in any case, and no two commands have the same (`new`
/// checks). What that does to other bytes than letters, the comparison with the full name finds out.
#[inline]
fn fold(ends: u128) -> u128 {
    ends | 0x2020_2020_2020_2020_2020_2020_2020_2020
}

#[inline]
fn slot_of(folded: u128, slots: usize) -> usize {
    let mixed = (folded as u64 ^ (folded >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as usize & (slots - 1)
}

impl Registry {
    /// The registry of all commands of the server.
    pub fn get() -> &'static Registry {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| {
            Registry::new(engine::table::FAMILIES.iter().copied().flatten(), admin::FAMILIES.iter().copied().flatten())
        })
    }

    fn new(
        key_rows: impl Iterator<Item = &'static KeyRow>,
        admin_rows: impl Iterator<Item = &'static AdminRow>,
    ) -> Registry {
        let mut commands: Vec<Command> = Vec::new();
        let mut names = Vec::new();
        for row in key_rows {
            commands.push(Command::new(&row.spec, Run::Key(row), commands.len()));
        }
        for row in admin_rows {
            commands.push(Command::new(&row.spec, Run::Admin(row.run), commands.len()));
        }
        names.extend(commands.iter().map(|command| command.spec.name));
        for command in &commands {
            names.extend(command.spec.subcommands.iter().map(|spec| spec.name));
        }
        let mut slots = vec![Slot::default(); (4 * commands.len()).next_power_of_two()];
        for command in &commands {
            let name = command.spec.name.as_bytes();
            let (lower, upper) = (ends(name), ends(&name.to_ascii_uppercase()));
            let folded = fold(lower);
            let mut at = slot_of(folded, slots.len());
            while slots[at].command != 0 {
                assert!(slots[at].folded != folded, "two commands are named {}", command.spec.name);
                at = (at + 1) & (slots.len() - 1);
            }
            let whole = if name.len() <= size_of::<u128>() { name.len() } else { 0 };
            slots[at] = Slot { lower, upper, folded, whole, command: command.id + 1 };
        }
        let specs: Vec<&'static Spec> = commands.iter().map(|command| command.spec).collect();
        Registry { commands, slots, specs: Vec::leak(specs), names }
    }

    /// The command of this name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        self.find_by(ends(name), name)
    }

    /// The same for a client's command, which may be the same as the one before.
    #[inline]
    pub fn find_after(&'static self, recent: &mut Recent, name: &[u8]) -> Option<&'static Command> {
        let ends = ends(name);
        if ends != recent.ends || name.len() != recent.length {
            let command = self.find_by(ends, name);
            if name.len() > size_of::<u128>() {
                return command;
            }
            *recent = Recent { ends, length: name.len(), command };
        }
        recent.command
    }

    fn find_by(&self, ends: u128, name: &[u8]) -> Option<&Command> {
        let folded = fold(ends);
        let mut at = slot_of(folded, self.slots.len());
        loop {
            let slot = &self.slots[at];
            let command = self.commands.get(usize::from(slot.command.checked_sub(1)?))?;
            let is_exact = (ends == slot.upper || ends == slot.lower) && name.len() == slot.whole;
            if is_exact || slot.folded == folded && command.spec.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The command or subcommand that these words call, and the id by which it is counted; `None` if the subcommand or
    /// the number of words is wrong.
    #[inline]
    pub fn called(&self, command: &Command, words: &[&[u8]]) -> Option<(&'static Spec, CommandId)> {
        let called = match command.spec.subcommands {
            [] => (command.spec, command.id),
            _ => self.called_subcommand(command, words)?,
        };
        called.0.arity.allows(words.len()).then_some(called)
    }

    #[cold]
    fn called_subcommand(&self, command: &Command, words: &[&[u8]]) -> Option<(&'static Spec, CommandId)> {
        let subcommand = command.spec.subcommand(words.get(1)?)?;
        Some((subcommand, self.subcommand_id(subcommand.name)))
    }

    /// The id by which a subcommand is counted.
    pub fn subcommand_id(&self, name: &str) -> CommandId {
        let position = self.names.iter().skip(self.commands.len()).position(|known| *known == name);
        (self.commands.len() + position.expect("a subcommand of the registry")) as CommandId
    }

    /// The same for a script, which may call less than a client.
    pub fn find_for_script(words: &[&[u8]]) -> Found {
        let registry = Registry::get();
        let Some(command) = words.first().and_then(|name| registry.find(name)) else { return Found::Unknown };
        if let (false, Some(name)) = (command.spec.subcommands.is_empty(), words.get(1))
            && command.spec.subcommand(name).is_none()
        {
            return Found::UnknownSubcommand(command.spec);
        }
        match (registry.called(command, words), command.run) {
            (None, _) => Found::WrongArity(command.spec.called(words)),
            (Some((spec, id)), Run::Key(row)) => Found::Key(row, spec, id),
            (Some((spec, id)), Run::Admin(_)) => Found::Other(spec, id),
        }
    }

    pub fn specs(&self) -> &'static [&'static Spec] {
        self.specs
    }

    /// Names of commands and subcommands, by id.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub fn key_row(&self, name: &str) -> (&'static KeyRow, CommandId) {
        match self.find(name.as_bytes()) {
            Some(Command { run: Run::Key(row), id, .. }) => (row, *id),
            _ => panic!("{name} is a command on keys"),
        }
    }
}

impl Command {
    fn new(spec: &'static Spec, run: Run, index: usize) -> Command {
        let range = KeyRange::of(spec.keys);
        let keys = if !keys::has_keys(spec) {
            KeyPlan::None
        } else if range.first == 1 && range.last == 1 && !range.movable && spec.shape == Shape::OneShard {
            KeyPlan::First
        } else {
            KeyPlan::Several
        };
        Command { spec, run, id: index as CommandId, flags: spec.flags, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else() {
        let registry = Registry::get();
        for spec in registry.specs() {
            for name in [spec.name.to_string(), spec.name.to_uppercase()] {
                assert_eq!(registry.find(name.as_bytes()).map(|found| found.spec.name), Some(spec.name));
            }
            assert!(registry.find(&spec.name.as_bytes()[1..]).is_none_or(|other| other.spec.name != spec.name));
        }
        for name in ["", "ge", "gett", "g\u{5}t", "GEt\0", "a-name-that-is-longer-than-sixteen-bytes"] {
            assert!(registry.find(name.as_bytes()).is_none(), "{name:?}");
        }
    }

    #[test]
    fn what_was_found_last_is_not_mistaken_for_another() {
        let (registry, mut recent) = (Registry::get(), Recent::default());
        let long = [["replconf"; 3].concat(), "replconfreplconf".to_owned()];
        for name in ["", "get", "get", "GET", "ge", "getex", "nothing", "g\0t", &long[0], &long[1], &long[0], "set", ""]
        {
            let found = registry.find_after(&mut recent, name.as_bytes());
            assert_eq!(found.map(|found| found.id), registry.find(name.as_bytes()).map(|found| found.id), "{name:?}");
        }
    }

    /// `script::analysis` goes by the places alone.
    #[test]
    fn who_extracts_keys_that_stand_still_finds_them_where_the_table_says() {
        let words: Vec<&[u8]> = std::iter::repeat_n(&b"0"[..], 8).collect();
        let still = |spec: &&&Spec| spec.extract.is_some() && !KeyRange::of(spec.keys).movable;
        let mut names = Vec::new();
        for spec in Registry::get().specs().iter().filter(still) {
            let range = KeyRange::of(spec.keys);
            assert_eq!((range.first, range.last, range.step), (1, 1, 1), "{}", spec.name);
            let found: Vec<u32> = keys::keys_of(spec, &words).iter().map(|key| key.index).collect();
            assert_eq!(found, [1], "{}", spec.name);
            names.push(spec.name);
        }
        names.sort_unstable();
        assert_eq!(names, ["bitfield", "set"]);
    }

    #[test]
    fn ids_name_commands_and_subcommands() {
        let registry = Registry::get();
        let id = registry.subcommand_id("config|get");
        assert_eq!(registry.names()[usize::from(id)], "config|get");
        assert_eq!(registry.find(b"get").map(|command| registry.names()[usize::from(command.id)]), Some("get"));
    }

    #[test]
    fn a_container_is_called_through_its_subcommands() {
        let registry = Registry::get();
        let called = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let command = registry.find(words[0]).expect("a command");
            registry.called(command, &words).map(|(spec, id)| (spec.name, registry.names()[usize::from(id)]))
        };
        assert_eq!(called("OBJECT Encoding k"), Some(("object|encoding", "object|encoding")));
        assert_eq!(called("get k"), Some(("get", "get")));
        for wrong in ["object", "object foo k", "object encoding", "object encoding k x", "get"] {
            assert_eq!(called(wrong), None, "{wrong}");
        }
    }
}
