//! The log of one shard: writes what the shard did, a group at a time, into the segment of the generation.
//!
//! A stepper but for the writes themselves, which it waits for, as Redis does: a write into the page cache takes less
//! than to have somebody else do it, and a reply must not leave before it.
//!
//! *Failures.* What could not be written stays in the group, which grows, and is written later at the same place; the
//! half that a full disk took is cut off. Under `always` a failed sync is a failed write: what the kernel makes of the
//! pages is unknown, so the segment is cut back to what is known to be on disk, and its successor gets the group.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Aof;
use super::disk::DiskFile;
use crate::base::clock::Now;
use crate::base::ids::ShardId;
use crate::codec::aof::write::{self, Standing};
use crate::codec::aof::{CLOSED, Policy, TransactionId};
use crate::command::group::Group;
use crate::config::Config;
use crate::config::value::AppendFsync;

pub struct Log {
    aof: Arc<Aof>,
    shard: ShardId,
    generation: u64,
    segment: Option<Segment>,
    segments: u64,
    /// Bytes logged since the start, in all segments, headers not counted.
    position: u64,
    /// The last round that it ended.
    round: u64,
    /// The last second that a timestamp told of.
    second: i64,
    /// Transactions that this shard has coordinated.
    transactions: u64,
    /// The disk does not take what there is to write.
    pub is_failing: bool,
}

struct Segment {
    file: Arc<dyn DiskFile>,
    /// To where it is written.
    bytes: u64,
    /// A sync failed: it is to be cut off here, and another one takes its place.
    broken: bool,
}

/// How a group is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub policy: Policy,
    /// The time, where `aof-timestamp-enabled` wants it in the log.
    pub unix_s: Option<i64>,
    pub round: Option<u64>,
}

impl Terms {
    /// `saves`: a snapshot is being written.
    pub fn of(config: &Config, now: Now, saves: bool) -> Terms {
        let policy = match config.appendfsync {
            AppendFsync::Always | AppendFsync::EverySecond if saves && config.no_appendfsync_on_rewrite => Policy::No,
            AppendFsync::Always => Policy::Always,
            AppendFsync::EverySecond => Policy::EverySecond,
            AppendFsync::No => Policy::No,
        };
        Terms { policy, unix_s: config.aof_timestamp_enabled.then(|| now.unix_s()), round: None }
    }
}

impl Log {
    /// The log of a shard from now on, in the current generation.
    pub fn new(aof: Arc<Aof>, shard: ShardId) -> Log {
        let generation = aof.generation();
        // It may have been on before: positions go on.
        let position = aof.positions[shard].load(Relaxed);
        let (segment, segments, round, second, transactions) = (None, 0, 0, 0, 0);
        Log { aof, shard, generation, segment, segments, position, round, second, transactions, is_failing: false }
    }

    /// As Redis does, which has its file before there is anything to write: the first shard's segment is made at once.
    pub fn begin(&mut self) {
        if self.shard == 0 {
            self.look_at_disk();
        }
    }

    /// Makes the segment, if there is none: what comes of it is what all are told of the disk.
    fn look_at_disk(&mut self) {
        let made = self.segment().map(drop);
        self.aof.tell_write(self.shard, &made);
    }

    /// There is nothing to write; but a segment, or a record of the whole keyspace, could not be made, and writes have been
    /// refused since. True: it has been tried again.
    pub fn mend(&mut self) -> bool {
        let fails = self.aof.failing[self.shard].load(Relaxed);
        if fails {
            self.look_at_disk();
        }
        fails
    }

    /// The id of a transaction that is about to begin here.
    pub fn next_transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId { start: self.aof.start(), coordinator: self.shard, counter: self.transactions }
    }

    /// Everything up to now is written; what follows belongs to the current generation.
    pub fn switch(&mut self, group: &mut Group) {
        let generation = self.aof.generation();
        if self.generation != generation {
            assert!(!group.is_ready(), "a generation ends with all that belongs to it");
            self.generation = generation;
            self.segment = None;
            group.begin_segment();
            self.begin();
        }
    }

    /// Writes the group, and empties it. If that fails it keeps its bytes.
    pub fn commit(&mut self, group: &mut Group, terms: Terms) -> io::Result<()> {
        if !group.is_ready() && terms.round.is_none() {
            return Ok(());
        }
        let held = group.split_held();
        let outcome = self.write(group, terms);
        self.is_failing = outcome.is_err();
        self.aof.tell_write(self.shard, &outcome);
        if outcome.is_ok() {
            group.written(KEPT_BYTES);
            group.put_back(&held);
            self.aof.positions[self.shard].store(self.position, Relaxed);
            // A log that is on disk has no gaps.
            if terms.policy == Policy::Always && !self.aof.rounds.has_failed() {
                self.aof.durable[self.shard].store(self.position, Relaxed);
            }
        } else {
            group.put_back(&held);
        }
        outcome
    }

    /// A record of the whole keyspace, in a segment of its own between two generations. All shards are locked, and will
    /// switch when they run it.
    pub fn write_whole(
        &mut self,
        db: usize,
        words: &[&[u8]],
        id: Option<TransactionId>,
        terms: Terms,
    ) -> io::Result<()> {
        let mut record = Group::default();
        let begin = record.begin_step(true).expect("nothing pauses in it");
        record.push(db, words);
        record.end_step(begin, id);
        // All shards have written what they have done: they are locked.
        write::positions(&mut record.bytes, &self.aof.positions());
        let standing = Standing { position: 0, durable: 0, policy: terms.policy, round: None };
        write::end_group(&mut record.bytes, standing);
        let generation = self.aof.generation() + 1;
        let written = self.aof.create_segment(None, generation, self.round, &record.bytes).map(drop);
        self.aof.tell_write(self.shard, &written);
        if written.is_ok() {
            self.aof.begin_generation();
            self.aof.begin_generation();
        }
        written
    }

    fn write(&mut self, group: &mut Group, terms: Terms) -> io::Result<()> {
        self.aof.pause_before_write();
        let segments = self.segments;
        self.segment()?;
        if segments != self.segments {
            group.change_segment();
        }
        if terms.policy == Policy::Always && self.aof.durable(self.shard) < self.position {
            // What another policy left: a log that is on disk has no gaps.
            self.aof.sync_all()?;
        }
        if let Some(unix_s) = terms.unix_s.filter(|&unix_s| unix_s != self.second && !group.bytes.is_empty()) {
            let mut line = Vec::new();
            write::timestamp(&mut line, unix_s);
            group.bytes.splice(0..0, line);
            self.second = unix_s;
        }
        let Terms { policy, round, .. } = terms;
        let durable = self.aof.durable[self.shard].load(Relaxed);
        let content = group.bytes.len();
        let end = write::end_group(&mut group.bytes, Standing { position: self.position, durable, policy, round });
        let segment = self.segment.as_mut().expect("made above");
        let written = segment.file.write_at(&group.bytes, segment.bytes).and_then(|()| match policy {
            Policy::Always => segment.file.sync().inspect_err(|_| segment.broken = true),
            Policy::EverySecond | Policy::No => Ok(()),
        });
        if let Err(error) = written {
            group.bytes.truncate(content);
            // If it cannot be cut off now it is written over, or cut off later.
            let _ = segment.file.truncate(segment.bytes);
            return Err(error);
        }
        segment.bytes += group.bytes.len() as u64;
        self.position = end;
        self.round = round.unwrap_or(self.round);
        Ok(())
    }

    /// The segment to write to, made where there is none.
    fn segment(&mut self) -> io::Result<&mut Segment> {
        if let Some(Segment { file, bytes, broken: true }) = &self.segment {
            // Before its successor is listed: what could not be synced must not come back beside it.
            file.truncate(*bytes)?;
            file.sync()?;
            self.segment = None;
        }
        if self.segment.is_none() {
            let first = if self.shard == 0 { self.aof.first().take() } else { None };
            let made =
                first.map_or_else(|| self.aof.create_segment(Some(self.shard), self.generation, self.round, &[]), Ok);
            let (file, bytes) = made?;
            self.segment = Some(Segment { file, bytes, broken: false });
            self.segments += 1;
        }
        Ok(self.segment.as_mut().expect("made above"))
    }

    /// Writes all there is, ends the round that ends the log, and makes it durable.
    pub fn close(&mut self, group: &mut Group, terms: Terms) -> io::Result<()> {
        self.commit(group, terms)?;
        if let Some(segment) = &self.segment {
            segment.file.write_at(CLOSED.as_bytes(), segment.bytes)?;
        }
        self.aof.sync_all()?;
        if let Some(reason) = self.aof.failure() {
            return Err(io::Error::other(reason));
        }
        self.aof.durable[self.shard].store(self.position, Relaxed);
        Ok(())
    }

    /// The log is switched off: what it could not write or sync nobody waits for.
    pub fn forget_failure(&self) {
        self.aof.rounds.forget_failure(u64::MAX);
        self.aof.failing[self.shard].store(false, Relaxed);
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn aof(&self) -> &Arc<Aof> {
        &self.aof
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

/// A group's memory that is kept for the next one.
const KEPT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::super::Run;
    use super::super::disk::Disk;
    use super::super::disk::memory::MemoryDisk;
    use super::super::manifest::Manifest;
    use super::*;

    const EVERY_SECOND: Terms = Terms { policy: Policy::EverySecond, unix_s: None, round: None };
    const ALWAYS: Terms = Terms { policy: Policy::Always, ..EVERY_SECOND };
    const FIRST: &str = "a.1.incr.aof";

    fn opened(disk: &MemoryDisk, shards: usize) -> Aof {
        let aof = Aof::new(shards);
        let path = "/nonexistent".into();
        let run = Run { start: 10, boot: "b".to_owned(), prefixes: 0 };
        aof.open(Arc::new(disk.clone()), path, "a", Manifest::default(), 0, run).expect("memory");
        aof
    }

    fn log() -> (MemoryDisk, Log) {
        let disk = MemoryDisk::default();
        let aof = opened(&disk, 1);
        (disk, Log::new(Arc::new(aof), 0))
    }

    fn set(group: &mut Group, key: &[u8]) {
        group.push(0, &[b"DEL", key]);
    }

    /// What stands in a segment, without what does not matter here.
    fn shown(text: &str) -> String {
        let mut words = Vec::new();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["#peristyle", generation, ..] => words.push(generation.to_owned()),
                ["#group", length, _, position, durable, policy, ..] => {
                    words.push(format!("({length} {position} {durable} {policy})"));
                }
                [line] if line.starts_with(['*', '$']) => {}
                _ => words.push(line.to_owned()),
            }
        }
        words.join(" ")
    }

    #[test]
    fn a_group_is_written_whole() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        assert!(disk.names().is_empty(), "a segment is made for its first record");
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        set(&mut group, b"l");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        assert_eq!(disk.text("a.manifest"), "file a.1.incr.aof seq 1 type i\n");
        let text = disk.text(FIRST);
        assert_eq!(shown(&text), "generation=1 SELECT 0 DEL k (43 78 0 e) DEL l (20 134 0 e)");
        let header = text.find('\n').expect("the header's end") + 1;
        assert_eq!(text.len() - header, 134);
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_written_later() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        let before = disk.text(FIRST);
        disk.state().full.store(true, Relaxed);
        set(&mut group, b"l");
        assert!(log.commit(&mut group, EVERY_SECOND).is_err() && log.aof().is_failing());
        assert_eq!(disk.text(FIRST), before);
        disk.state().full.store(false, Relaxed);
        set(&mut group, b"m");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        assert_eq!(shown(&disk.text(FIRST)), "generation=1 SELECT 0 DEL k (43 78 0 e) DEL l DEL m (40 154 0 e)");
        assert!(!log.aof().is_failing());
    }

    #[test]
    fn a_segment_that_could_not_be_made_is_made_later_though_nothing_is_written() {
        let (disk, mut log) = log();
        disk.state().full.store(true, Relaxed);
        log.begin();
        assert!(log.mend() && log.aof().is_failing());
        disk.state().full.store(false, Relaxed);
        assert!(log.mend() && !log.aof().is_failing());
        assert!(!log.mend());
    }

    #[test]
    fn what_could_not_be_synced_goes_to_another_segment() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, ALWAYS).expect("memory");
        disk.state().sync_fails.store(true, Relaxed);
        set(&mut group, b"l");
        assert!(log.commit(&mut group, ALWAYS).is_err());
        assert!(log.commit(&mut group, ALWAYS).is_err(), "not even a new segment");
        disk.state().sync_fails.store(false, Relaxed);
        log.commit(&mut group, ALWAYS).expect("memory");
        assert_eq!(shown(&disk.text(FIRST)), "generation=1 SELECT 0 DEL k (43 78 0 a)");
        let successor = disk.text("a.manifest").lines().last().map(|line| line.split(' ').nth(1).map(str::to_owned));
        let successor = disk.text(&successor.flatten().expect("a name"));
        assert_eq!(shown(&successor), "generation=1 SELECT 0 DEL l (43 158 78 a)");
    }

    #[test]
    fn a_start_leaves_its_mark_before_anything_is_written() {
        let (disk, mut log) = log();
        log.aof().begin().expect("memory");
        assert_eq!(disk.names(), [FIRST, "a.manifest"]);
        let mut group = Group::default();
        set(&mut group, b"k");
        log.begin();
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        assert_eq!(disk.names(), [FIRST, "a.manifest"]);
        assert_eq!(shown(&disk.text(FIRST)), "generation=1 SELECT 0 DEL k (43 78 0 e)");
    }

    #[test]
    fn what_expires_behind_a_record_of_the_whole_keyspace_is_synced() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        log.write_whole(0, &[b"FLUSHALL"], None, EVERY_SECOND).expect("memory");
        set(&mut group, b"l");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        let before = disk.state().syncs.load(Relaxed);
        log.aof().sync_all().expect("memory");
        assert_eq!(disk.state().syncs.load(Relaxed), before + 1);
    }

    /// A round of one shard is synced.
    fn sync_round(log: &Log) {
        let aof = log.aof();
        aof.rounds.begin(u64::MAX).expect("it is time");
        aof.rounds.tell(0, log.position());
        aof.rounds.complete();
        let mut syncing = aof.begin_sync().expect("it is complete");
        while !aof.sync_step(&mut syncing) {}
    }

    #[test]
    fn what_could_not_be_synced_for_a_record_of_the_whole_keyspace_is_not_taken_for_synced() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        // The record's own file is synced first.
        disk.state().sync_fails_at.store(disk.state().syncs.load(Relaxed) + 2, Relaxed);
        assert!(log.write_whole(0, &[b"FLUSHALL"], None, EVERY_SECOND).is_err());
        log.write_whole(0, &[b"FLUSHALL"], None, EVERY_SECOND).expect("memory");
        sync_round(&log);
        assert!(log.aof().is_failing() && log.aof().durable(0) == 0);
    }

    #[test]
    fn a_base_makes_good_what_could_not_be_synced_before_it_and_nothing_else() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        let generation = log.aof().begin_generation();
        log.switch(&mut group);
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        disk.state().sync_fails.store(true, Relaxed);
        sync_round(&log);
        disk.state().sync_fails.store(false, Relaxed);
        let adopt = |generation| {
            let (_, _, base) = log.aof().next_base("rdb").expect("it is open");
            disk.create(&base.name).expect("memory");
            log.aof().adopt_base(&base, generation, 0).expect("memory");
        };
        adopt(generation);
        assert!(log.aof().is_failing(), "it was written behind the cut");
        adopt(generation + 1);
        assert!(!log.aof().is_failing());
    }

    #[test]
    fn a_log_does_not_end_well_that_could_not_be_synced() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        disk.state().sync_fails.store(true, Relaxed);
        sync_round(&log);
        disk.state().sync_fails.store(false, Relaxed);
        assert!(log.close(&mut group, EVERY_SECOND).is_err());
        assert_eq!(log.aof().durable(0), 0);
    }

    /// Two shards, which switch one after the other; meanwhile the other has something to write still.
    #[test]
    fn a_base_takes_the_place_of_all_that_it_contains() {
        let disk = MemoryDisk::default();
        let aof = Arc::new(opened(&disk, 2));
        let mut logs = [0, 1].map(|shard| (Log::new(aof.clone(), shard), Group::default()));
        aof.begin_generation();
        let [(first, first_group), (second, second_group)] = &mut logs;
        first.switch(first_group);
        set(second_group, b"k");
        second.commit(second_group, EVERY_SECOND).expect("memory");
        second.switch(second_group);
        let (_, _, base) = aof.next_base("rdb").expect("it is open");
        disk.create(&base.name).expect("memory");
        aof.adopt_base(&base, 2, 0).expect("memory");
        set(second_group, b"l");
        second.commit(second_group, EVERY_SECOND).expect("memory");
        aof.collect();
        let listed = disk.text("a.manifest");
        let listed: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(listed, ["a.1.base.rdb", "a.1.incr.aof", "a.3.incr.aof"]);
    }

    /// Until the next manifest is there, the one that may not be there for good is.
    #[test]
    fn a_base_that_may_be_listed_is_not_replaced() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        let generation = log.aof().begin_generation();
        log.switch(&mut group);
        let create = || {
            let (_, _, base) = log.aof().next_base("rdb").expect("it is open");
            disk.create(&base.name).expect("memory");
            base
        };
        let first = create();
        // The directory is synced before the manifest is renamed, and after.
        disk.state().name_syncs_until_failure.store(2, Relaxed);
        assert!(log.aof().adopt_base(&first, generation, 0).is_err());
        assert!(disk.text("a.manifest").starts_with("file a.1.base.rdb seq 1 type b\n"));
        let second = create();
        assert_eq!(second.name, "a.2.base.rdb");
        log.aof().adopt_base(&second, generation, 0).expect("memory");
        log.aof().collect();
        assert_eq!(disk.names(), ["a.2.base.rdb", "a.2.incr.aof", "a.manifest"]);
    }

    #[test]
    fn a_generation_has_a_segment_of_its_own() {
        let (disk, mut log) = log();
        let mut group = Group::default();
        set(&mut group, b"k");
        log.commit(&mut group, EVERY_SECOND).expect("memory");
        log.aof().begin_generation();
        log.switch(&mut group);
        assert_eq!(disk.names(), [FIRST, "a.2.incr.aof", "a.manifest"]);
        set(&mut group, b"l");
        let with_time = Terms { unix_s: Some(7), round: Some(3), ..EVERY_SECOND };
        log.commit(&mut group, with_time).expect("memory");
        assert_eq!(shown(&disk.text("a.2.incr.aof")), "generation=2 #TS:7 SELECT 0 DEL l (50 172 0 e)");
        assert!(disk.text("a.2.incr.aof").ends_with(" e round 3\r\n"));
    }
}
