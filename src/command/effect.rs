//! What writes did, in deterministic form: the stream that AOF, replicas and slot migration will consume.
//!
//! An effect is a command that, run in order on the same state, gives the same state without looking at a clock or a
//! random source: SPOP is recorded as SREM, EXPIRE as PEXPIREAT, a lazily expired key as DEL. It names one key, or keys
//! of one slot; whole-keyspace steps (FLUSHALL, SWAPDB) are effects of their own on every shard (design, section 7).

/// Collects effects of one shard, or only counts them while nobody consumes them.
#[derive(Debug, Default)]
pub struct Journal {
    /// Changes since the last save: INFO's `rdb_changes_since_last_save`.
    pub dirty: u64,
    /// Somebody takes effects, or the names of changed keys.
    listens: bool,
    /// All databases were emptied since somebody looked.
    pub flushed: bool,
    recorder: Option<Vec<Effect>>,
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
        self.listens = wanted || self.recorder.is_some();
    }

    /// Somebody consumes effects, or the names of changed keys: words that are costly to make are wanted.
    pub fn is_recording(&self) -> bool {
        self.listens
    }

    /// Somebody consumes whole effects.
    pub fn keeps_effects(&self) -> bool {
        self.recorder.is_some()
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
        self.note(db, words);
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
