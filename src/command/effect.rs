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
    recorder: Option<Vec<Effect>>,
}

/// One recorded effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub db: usize,
    pub words: Vec<Vec<u8>>,
}

impl Journal {
    /// Keeps effects from now on, until `take`.
    pub fn record(&mut self) {
        self.recorder.get_or_insert_default();
    }

    /// Someone consumes effects: words that are costly to make are wanted.
    pub fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    pub fn take(&mut self) -> Vec<Effect> {
        self.recorder.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// One change. Costs a counter and a branch while nobody records.
    #[inline]
    pub fn effect(&mut self, db: usize, words: &[&[u8]]) {
        self.dirty += 1;
        self.uncounted(db, words);
    }

    /// What Redis does not count as a change: a key that expired.
    #[inline]
    pub fn uncounted(&mut self, db: usize, words: &[&[u8]]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.push(Effect { db, words: words.iter().map(|word| word.to_vec()).collect() });
        }
    }
}
