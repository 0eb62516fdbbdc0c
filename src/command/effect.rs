//! What writes did, in deterministic form: the stream that AOF, replicas and slot migration will consume.
//!
//! An effect is a command that, run in order on the same state, gives the same state without looking at a clock or a
//! random source: SPOP is recorded as SREM, EXPIRE as PEXPIREAT, a lazily expired key as DEL. It names one key, or keys
//! of one slot; whole-keyspace steps (FLUSHALL, SWAPDB) are effects of their own on every shard (design, section 7).

use super::group::{Group, StepBegin};
use crate::codec::aof::TransactionId;

/// Collects effects of one shard, or only counts them while nobody consumes them.
#[derive(Debug, Default)]
pub struct Journal {
    /// The changes before the script that runs, or ran last.
    script_dirty: u64,
    /// Changes since the last save: INFO's `rdb_changes_since_last_save`.
    pub dirty: u64,
    /// Somebody takes effects, or the names of changed keys.
    listens: bool,
    /// All databases were emptied since somebody looked.
    pub flushed: bool,
    recorder: Option<Vec<Effect>>,
    /// What is to be written to the append-only file next, if there is one.
    pub log: Option<Box<Group>>,
    /// Records of the whole keyspace are not this shard's to log: there are others, too.
    pub is_shared: bool,
    changed: Option<Vec<Change>>,
    /// Of the changed keys, those that no command has changed.
    expired: Vec<Vec<u8>>,
}

/// One recorded effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub db: usize,
    pub words: Vec<Vec<u8>>,
}

/// What those who watch keys, wait for them or cache them learn of a command, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Key {
        db: usize,
        key: Vec<u8>,
    },
    /// All keys of a database are gone.
    Flushed {
        db: usize,
    },
    Swapped {
        a: usize,
        b: usize,
    },
}

/// Where a step begins.
#[derive(Clone, Copy, Debug)]
pub struct PartBegin {
    begin: StepBegin,
    /// The changes before.
    dirty: u64,
}

impl Journal {
    /// Keeps effects from now on, until `take`.
    pub fn record(&mut self) {
        self.recorder.get_or_insert_default();
        self.listens = true;
    }

    /// From now on changed keys are noted, or no longer.
    pub fn observe(&mut self, wanted: bool) {
        if wanted {
            self.changed.get_or_insert_default();
        } else {
            self.changed = None;
        }
        self.listens = wanted || self.keeps_effects();
    }

    /// From now on effects are logged, or no longer.
    pub fn log(&mut self, wanted: bool) {
        self.log = wanted.then(Box::default);
        self.listens = self.changed.is_some() || self.keeps_effects();
    }

    /// There are effects, or decisions, that the append-only file does not have yet.
    #[inline]
    pub fn is_unlogged(&self) -> bool {
        self.log.as_ref().is_some_and(|group| group.is_ready())
    }

    /// A step begins, which may be a part of a transaction over several shards.
    pub fn begin_step(&mut self, is_part: bool) -> Option<PartBegin> {
        let begin = self.log.as_mut()?.begin_step(is_part)?;
        Some(PartBegin { begin, dirty: self.dirty })
    }

    /// The step ends; whether it has left a part. What time alone has changed is none: it happens whatever becomes of the
    /// transaction.
    pub fn end_step(&mut self, part: PartBegin, id: Option<TransactionId>) -> bool {
        let PartBegin { begin, dirty } = part;
        let Some(group) = &mut self.log else { return false };
        group.end_step(begin, id.filter(|_| self.dirty != dirty))
    }

    pub fn begin_script(&mut self) {
        self.script_dirty = self.dirty;
        if let Some(group) = &mut self.log {
            group.begin_script();
        }
    }

    /// A script pauses, or ends that had paused.
    pub fn hold(&mut self, pauses: bool) {
        if let Some(group) = &mut self.log {
            if pauses { group.hold() } else { group.release() }
        }
    }

    /// A script that paused has ended, or comes to where another segment begins: what it has done since it began is a part
    /// of this transaction. Whether there is any.
    pub fn release_part(&mut self, id: TransactionId) -> bool {
        let has_changed = self.dirty != std::mem::replace(&mut self.script_dirty, self.dirty);
        self.log.as_mut().is_some_and(|group| group.release_part(id, has_changed))
    }

    /// A script that pauses, and of which a part has been released, goes on.
    pub fn go_on_holding(&mut self) {
        if self.log.as_ref().is_some_and(|group| !group.is_holding()) {
            self.begin_script();
            self.hold(true);
        }
    }

    /// Somebody consumes effects, or the names of changed keys: words that are costly to make are wanted.
    pub fn is_recording(&self) -> bool {
        self.listens
    }

    /// Somebody consumes whole effects.
    pub fn keeps_effects(&self) -> bool {
        self.recorder.is_some() || self.log.is_some()
    }

    pub fn take(&mut self) -> Vec<Effect> {
        self.recorder.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Of the changes since the last call, the keys that time has changed.
    pub fn take_expired(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.expired)
    }

    /// One change. Costs a counter and a branch while nobody records.
    #[inline]
    pub fn effect(&mut self, db: usize, words: &[&[u8]]) {
        self.dirty += 1;
        if self.listens {
            self.hear(db, words);
        }
    }

    /// A record of the whole keyspace. Redis counts what it changes, if anything.
    pub fn whole(&mut self, db: usize, words: &[&[u8]]) {
        if self.listens {
            self.note(db, words);
            if !self.is_shared
                && let Some(group) = &mut self.log
            {
                group.push(db, words);
            }
        }
    }

    fn hear(&mut self, db: usize, words: &[&[u8]]) {
        if let Some(group) = &mut self.log {
            group.push(db, words);
        }
        if self.changed.is_some() || self.recorder.is_some() {
            self.note(db, words);
        }
    }

    /// What Redis does not count as a change: a key that expired.
    #[inline]
    pub fn uncounted(&mut self, db: usize, words: &[&[u8]]) {
        if self.listens {
            self.note_expired(db, words);
        }
    }

    #[cold]
    fn note_expired(&mut self, db: usize, words: &[&[u8]]) {
        if self.changed.is_some() {
            self.expired.extend(keys_changed(words).iter().map(|key| key.to_vec()));
        }
        self.hear(db, words);
    }

    #[cold]
    fn note(&mut self, db: usize, words: &[&[u8]]) {
        if let Some(changed) = &mut self.changed {
            changed.extend(keys_changed(words).iter().map(|key| Change::Key { db, key: key.to_vec() }));
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.push(Effect { db, words: words.iter().map(|word| word.to_vec()).collect() });
        }
    }

    /// A change whose effect does not name it, or whose effect nobody wants.
    pub fn changed(&mut self, change: Change) {
        if let Some(changed) = &mut self.changed {
            changed.push(change);
        }
    }
}

/// The keys of an effect that are different now, by where effects name them.
fn keys_changed<'a>(words: &'a [&'a [u8]]) -> &'a [&'a [u8]] {
    let [name, rest @ ..] = words else { return &[] };
    let is = |names: &[&str]| names.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    match rest {
        _ if is(&["flushall", "flushdb", "swapdb", "function"]) => &[],
        [_, key, ..] if is(&["xgroup", "pfdebug"]) => std::slice::from_ref(key),
        [_, _, ..] if is(&["rename", "renamenx"]) => &rest[..2],
        [_, target, ..] if is(&["copy"]) => std::slice::from_ref(target),
        [key, ..] => std::slice::from_ref(key),
        [] => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(effect: &str) -> Vec<String> {
        let words: Vec<&[u8]> = effect.split(' ').map(str::as_bytes).collect();
        keys_changed(&words).iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    #[test]
    fn an_effect_tells_which_keys_are_different() {
        assert_eq!(changed("SET k v"), ["k"]);
        assert_eq!(changed("rename a b"), ["a", "b"]);
        assert_eq!(changed("XGROUP CREATE s g $"), ["s"]);
        assert_eq!(changed("COPY a b REPLACE"), ["b"]);
        assert!(changed("FLUSHALL ASYNC").is_empty());
        assert!(changed("SWAPDB 0 1").is_empty());
    }

    #[test]
    fn changes_are_noted_only_while_they_are_wanted() {
        let mut journal = Journal::default();
        journal.effect(0, &[b"SET", b"k", b"v"]);
        assert!(journal.take_changes().is_empty());
        journal.observe(true);
        journal.effect(3, &[b"SET", b"k", b"v"]);
        assert_eq!(journal.take_changes(), [Change::Key { db: 3, key: b"k".to_vec() }]);
        journal.uncounted(3, &[b"DEL", b"l"]);
        journal.effect(3, &[b"DEL", b"m"]);
        assert_eq!(journal.take_expired(), [b"l"]);
        assert_eq!(journal.take_changes().len(), 2);
        journal.observe(false);
        journal.effect(3, &[b"SET", b"k", b"v"]);
        assert!(journal.take_changes().is_empty() && !journal.is_recording());
    }
}
