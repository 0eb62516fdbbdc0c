//! Effects on their way into the append-only file: the group that grows until the turn ends. `codec::aof` has the format.

use crate::codec::aof::{TransactionId, write};

#[derive(Debug, Default)]
pub struct Group {
    pub bytes: Vec<u8>,
    /// The database that was selected last, if what follows may rely on that.
    db: Option<usize>,
    /// Commands since the step began.
    commands: usize,
    /// Segments begun.
    segments: u32,
    /// Where the step or the script began that runs, or ran last.
    unit_at: usize,
    /// What was selected there, and where the group began.
    unit_db: Option<usize>,
    begun_in: Option<usize>,
    in_step: bool,
    /// What stands behind this belongs to a script that pauses, and is not to be written before it ends.
    held_from: Option<usize>,
}

/// What was selected before a step.
#[derive(Clone, Copy, Debug)]
pub struct StepBegin {
    db: Option<usize>,
    segments: u32,
}

impl Group {
    #[inline]
    pub fn push(&mut self, db: usize, words: &[&[u8]]) {
        if self.db != Some(db) {
            write::select(&mut self.bytes, db);
            self.db = Some(db);
            self.commands += 1;
        }
        write::command(&mut self.bytes, words);
        self.commands += 1;
    }

    /// The group is written, and what follows begins a segment.
    pub fn begin_segment(&mut self) {
        self.db = None;
        self.segments += 1;
        self.unit_at = 0;
        self.begun_in = None;
    }

    /// The group, which was begun for one segment, is written into another.
    pub fn change_segment(&mut self) {
        if let Some(db) = self.begun_in.take() {
            let mut command = Vec::new();
            write::select(&mut command, db);
            self.bytes.splice(0..0, command);
        }
    }

    /// What `split_held` has left is written.
    pub fn written(&mut self, kept_bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept_bytes);
        self.begun_in = if self.held_from.is_some() { self.unit_db } else { self.db };
    }

    /// There is something to write.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.held_from.unwrap_or(self.bytes.len()) > 0
    }

    /// A step begins, which may be part of a transaction. (While a script pauses, a step changes nothing.)
    pub fn begin_step(&mut self, is_part: bool) -> Option<StepBegin> {
        if self.held_from.is_some() {
            return None;
        }
        let begin = StepBegin { db: self.db, segments: self.segments };
        self.commands = 0;
        (self.unit_at, self.unit_db) = (self.bytes.len(), self.db);
        self.in_step = true;
        if is_part {
            self.db = None;
        }
        Some(begin)
    }

    /// The step ends; whether it has left a part of this transaction.
    pub fn end_step(&mut self, begin: StepBegin, id: Option<TransactionId>) -> bool {
        let StepBegin { db, segments } = begin;
        self.in_step = false;
        let at = self.held_from.take().unwrap_or(self.unit_at);
        if self.commands == 0 {
            // FLUSHALL begins a segment, and leaves no part in it.
            self.db = db.filter(|_| segments == self.segments);
            return false;
        }
        let Some(id) = id else { return false };
        let mut line = Vec::new();
        write::part(&mut line, id, self.commands);
        self.bytes.splice(at..at, line);
        // A part may be skipped, and its SELECTs with it.
        self.db = None;
        true
    }

    /// A script begins: all that it does is in one group.
    pub fn begin_script(&mut self) {
        if !self.in_step && self.held_from.is_none() {
            (self.unit_at, self.unit_db) = (self.bytes.len(), self.db);
            self.commands = 0;
        }
    }

    /// The script pauses.
    pub fn hold(&mut self) {
        self.held_from.get_or_insert(self.unit_at);
    }

    /// A script pauses.
    pub fn is_holding(&self) -> bool {
        self.held_from.is_some()
    }

    /// The script that paused has ended.
    pub fn release(&mut self) {
        self.held_from = None;
    }

    /// What the script has done that paused is a part of this transaction. Whether there is any; what only time has changed
    /// is none.
    pub fn release_part(&mut self, id: TransactionId, has_changed: bool) -> bool {
        let Some(at) = self.held_from.take() else { return false };
        if self.commands == 0 || !has_changed {
            return false;
        }
        let mut begin = Vec::new();
        write::part(&mut begin, id, self.commands + usize::from(self.unit_db.is_some()));
        // It stands by itself, and so does what follows, as it may be skipped.
        if let Some(db) = self.unit_db {
            write::select(&mut begin, db);
        }
        self.bytes.splice(at..at, begin);
        self.db = None;
        true
    }

    /// Takes away what is not to be written yet, until `put_back`.
    pub fn split_held(&mut self) -> Vec<u8> {
        self.held_from.map(|from| self.bytes.split_off(from)).unwrap_or_default()
    }

    /// The rest has been written, and is gone, or is there still.
    pub fn put_back(&mut self, held: &[u8]) {
        if self.held_from.is_some() {
            self.held_from = Some(self.bytes.len());
            self.bytes.extend_from_slice(held);
        }
    }

    /// A transaction that this shard coordinates has happened.
    pub fn decide(&mut self, id: TransactionId, parts: u64) {
        write::decided(&mut self.bytes, id, parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId { start: 1, coordinator: 2, counter: 3 };

    fn text(group: &Group) -> String {
        String::from_utf8_lossy(&group.bytes).replace("\r\n", " ")
    }

    #[test]
    fn a_database_is_selected_where_it_changes() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        group.push(0, &[b"B"]);
        group.push(1, &[b"C"]);
        let expected = "*2 $6 SELECT $1 0 *1 $1 A *1 $1 B *2 $6 SELECT $1 1 *1 $1 C ";
        assert_eq!(text(&group), expected);
    }

    #[test]
    fn a_part_stands_by_itself() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        let begin = group.begin_step(true).expect("nothing pauses");
        group.push(0, &[b"B"]);
        assert!(group.end_step(begin, Some(ID)));
        group.push(0, &[b"C"]);
        let expected = "*2 $6 SELECT $1 0 *1 $1 A #part 1-2-3 2 *2 $6 SELECT $1 0 *1 $1 B *2 $6 SELECT $1 0 *1 $1 C ";
        assert_eq!(text(&group), expected);
    }

    #[test]
    fn what_a_paused_script_has_done_may_be_a_part() {
        for (db, select) in [(0, "*2 $6 SELECT $1 0 *1 $1 B"), (1, "*2 $6 SELECT $1 0 *2 $6 SELECT $1 1 *1 $1 B")] {
            let mut group = Group::default();
            group.push(0, &[b"A"]);
            group.begin_script();
            group.push(db, &[b"B"]);
            group.hold();
            assert!(group.release_part(ID, true) && !group.release_part(ID, true));
            group.push(db, &[b"C"]);
            let count = select.matches('*').count();
            let expected =
                format!("*2 $6 SELECT $1 0 *1 $1 A #part 1-2-3 {count} {select} *2 $6 SELECT $1 {db} *1 $1 C ");
            assert_eq!(text(&group), expected);
        }
        let mut group = Group::default();
        group.begin_script();
        group.push(0, &[b"DEL", b"k"]);
        group.hold();
        assert!(!group.release_part(ID, false), "it had expired");
        assert!(group.is_ready());
    }

    #[test]
    fn a_part_of_nothing_leaves_no_trace() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        let begin = group.begin_step(true).expect("nothing pauses");
        assert!(!group.end_step(begin, Some(ID)));
        group.push(0, &[b"B"]);
        assert_eq!(text(&group), "*2 $6 SELECT $1 0 *1 $1 A *1 $1 B ");
    }

    #[test]
    fn a_segment_that_begins_in_a_part_selects() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        let begin = group.begin_step(true).expect("nothing pauses");
        group.bytes.clear();
        group.begin_segment();
        assert!(!group.end_step(begin, Some(ID)));
        group.push(0, &[b"B"]);
        assert_eq!(text(&group), "*2 $6 SELECT $1 0 *1 $1 B ");
    }

    #[test]
    fn what_expired_in_a_transaction_is_no_part_of_it() {
        let mut group = Group::default();
        let begin = group.begin_step(true).expect("nothing pauses");
        group.push(0, &[b"DEL", b"k"]);
        assert!(!group.end_step(begin, None));
        assert_eq!(text(&group), "*2 $6 SELECT $1 0 *2 $3 DEL $1 k ");
    }

    #[test]
    fn what_a_paused_script_has_done_waits_for_the_rest() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        group.begin_script();
        group.push(0, &[b"B"]);
        group.hold();
        let held = group.split_held();
        assert_eq!(text(&group), "*2 $6 SELECT $1 0 *1 $1 A ");
        group.bytes.clear();
        group.put_back(&held);
        assert!(!group.is_ready());
        group.push(0, &[b"C"]);
        group.release();
        assert!(group.is_ready());
        assert_eq!(text(&group), "*1 $1 B *1 $1 C ");
    }

    #[test]
    fn a_part_may_pause() {
        let mut group = Group::default();
        group.push(0, &[b"A"]);
        let begin = group.begin_step(true).expect("nothing pauses");
        group.push(0, &[b"B"]);
        group.begin_script();
        group.hold();
        assert!(group.begin_step(false).is_none());
        let held = group.split_held();
        group.bytes.clear();
        group.put_back(&held);
        group.push(0, &[b"C"]);
        assert!(group.end_step(begin, Some(ID)));
        assert_eq!(text(&group), "#part 1-2-3 3 *2 $6 SELECT $1 0 *1 $1 B *1 $1 C ");
    }
}
