//! What a snapshot has yet to save, held for it: writers that would change it wait while the snapshot has more in memory
//! than `snapshot-buffer-max`, as its file does not keep up.
//!
//! It is looked at where a command, a script or a request for locks is admitted, nowhere else: what was admitted before
//! changes what it will, and what it changes is saved before. A key is held only when somebody wants to change it, and
//! all are let go together, when the file has caught up. Requests for a whole shard name no keys and are not held.
//!
//! Who only reads never waits for the snapshot, but behind a writer that came earlier and wants the same key, as it does
//! behind any other lock: to let it pass would show a client that has seen what came behind the writer in its pipeline
//! what was there before it.

use super::lock::{LockSet, Mode, locked_keys};
use super::shard::{Shard, Waiting};
use crate::command::spec::Spec;

impl Shard {
    /// From now on, what the snapshot has yet to save does not change.
    pub fn hold_unsaved(&mut self) {
        self.locks.begin_holding();
        self.ctx.keyspace.keep_unsaved(true);
    }

    pub fn let_go(&mut self, ready: &mut Vec<Waiting>) {
        self.ctx.keyspace.keep_unsaved(false);
        self.locks.end_holding(ready);
    }

    /// A command of a client asks for admission.
    pub fn hold_for_command(&mut self, spec: &Spec, words: &[&[u8]]) {
        if self.locks.is_holding() {
            for (key, mode) in locked_keys(spec, words) {
                self.hold_for(key, mode);
            }
        }
    }

    /// A request for locks.
    pub fn hold_for_locks(&mut self, set: &LockSet) {
        if self.locks.is_holding() {
            for (key, mode) in &set.keys {
                self.hold_for(key, *mode);
            }
        }
    }

    fn hold_for(&mut self, key: &[u8], mode: Mode) {
        if mode == Mode::Exclusive && !self.ctx.keyspace.is_saved(key) {
            self.locks.hold(key);
        }
    }
}
