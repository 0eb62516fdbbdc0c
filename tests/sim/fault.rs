//! Bugs that are planted to show that the simulator finds them. They live in the simulator's driver alone: it alters
//! messages on their way from shard to shard.

use std::sync::Arc;

use peristyle::core::Core;
use peristyle::engine::lock::{LockSet, Mode};
use peristyle::engine::msg::{Lock, Message, Step, StepRequest};

/// A rule of the design that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A publication becomes visible one mailbox at a time.
    LatePublication,
    /// Mailboxes are read first, then the time up to which messages count.
    TimeReadLate,
    /// The shard runs its own part of a pipeline, and answers, before it publishes the others.
    OwnPartFirst,
    /// No look into the mailboxes between saying "I sleep" and sleeping.
    LostWakeUp,
    /// A late reply goes to whoever has the slot now.
    GenerationIgnored,
    /// Commands leave though a mailbox is full, and what did not fit is overtaken by what comes later.
    OverflowOvertaken,
    /// Commands leave though a mailbox is full: part of the publication comes later.
    TornPublication,
    /// Time goes on while a transaction is under way.
    TimeGoesOn,
    /// Locks end with the first step of a transaction.
    EarlyRelease,
    /// What a transaction changes is locked like what it reads.
    SharedForExclusive,
    /// EXEC locks the keys of its commands only.
    WatchedUnlocked,
    /// A shard goes on with what should wait for its locks.
    WaitingAsGranted,
    /// Who has to wait for locks takes its place a turn later, behind who came after it.
    WaiterOvertaken,
    /// What a transaction asks of shards leaves one by one, each with a stamp of its own.
    RequestsApart,
    /// The same of the parts of a transaction in one hop.
    PartsApart,
    /// A transaction leaves its locks at a shard.
    ReleaseLost,
    /// The last steps come after the locks have ended.
    CommitAfterRelease,
    /// EXEC does not ask whether watched keys have changed.
    CheckForgotten,
    /// Commands on one shard take no notice of locks.
    CommandsBesideLocks,
    /// What concerns all keys of a shard locks none.
    WholeUnlocked,
    /// A shard is not told that a client has given up its transaction.
    UnwatchLost,
    /// Nobody tells a client that there is something for it, which takes two shards to get.
    WakeLost,
    /// A client is served and never learns of it.
    ServedLost,
    /// A shard serves a client that is gone, or has been served elsewhere.
    UnblockLost,
    /// A shard serves a client without asking whether its wait is over.
    TicketForgotten,
    /// A script that may touch any key holds none of the shards.
    UndeclaredUnlocked,
    /// A lease is used though something has run that is linked with other shards.
    LinkForgotten,
    /// The locks of a script end with the first command that it calls.
    ScriptTorn,
    /// What is published is overtaken by what comes a turn later.
    MessageLate,
    /// A shard is not told that what its clients keep is old.
    InvalidationLost,
    /// What tells a client that it keeps something old comes before the reply that brings it.
    PushOvertakesReply,
    /// `appendfsync always`: replies leave before the disk has what they tell of.
    RepliesBeforeSync,
    /// FLUSHALL stands in the segment of each shard, too.
    FlushInSegment,
    /// Parts of a transaction count, decided or not.
    PartsUndecided,
    /// What a snapshot has saved is told by a bit, which the next one flips.
    SnapshotBitFlips,
    /// A round of `everysec`, and whatever else is a cut, takes no notice of what is under way.
    CutUnlocked,
}

impl Fault {
    /// What arrives in place of a message, now; and what comes later.
    pub fn alter(self, message: Message, core: &Core) -> (Message, Option<Message>) {
        let mut message = message;
        if let (Fault::LinkForgotten, Message::Run(batch)) = (self, &mut message) {
            batch.items.iter_mut().for_each(|item| item.is_linked = false);
        }
        let Message::Step(mut request) = message else { return (message, None) };
        let later = self.alter_step(&mut request, core);
        (Message::Step(request), later.map(|request| Message::Step(Box::new(request))))
    }

    fn alter_step(self, request: &mut StepRequest, core: &Core) -> Option<StepRequest> {
        if let (Fault::TicketForgotten, Step::Run { waiter: Some(waiter), .. }) = (self, &mut request.step) {
            waiter.ticket = Arc::default();
        }
        if let (Fault::TicketForgotten, Step::Block(blocked)) = (self, &mut request.step) {
            blocked.waiter.ticket = Arc::default();
        }
        if let (Fault::ScriptTorn, Step::Run { script: Some(_), .. }) = (self, &request.step) {
            request.releases = true;
        }
        let is_check = matches!(request.step, Step::Check { .. });
        match (self, &mut request.lock) {
            (Fault::EarlyRelease, Lock::Acquire(_)) => request.releases = true,
            (Fault::SharedForExclusive, Lock::Acquire(set)) => {
                set.keys.iter_mut().for_each(|(_, mode)| *mode = Mode::Shared);
            }
            (Fault::WatchedUnlocked, Lock::Acquire(set)) if is_check => {
                set.keys.retain(|(_, mode)| *mode == Mode::Exclusive);
            }
            (Fault::WaitingAsGranted, Lock::Acquire(set)) if !core.shard.locks.admits(set) => request.lock = Lock::Held,
            (Fault::ReleaseLost, Lock::Held) if matches!(request.step, Step::Nothing) => request.releases = false,
            (Fault::CommitAfterRelease, Lock::Held) if request.releases && !matches!(request.step, Step::Nothing) => {
                let released = StepRequest {
                    job: request.job,
                    conn: request.conn,
                    tracks: false,
                    ordinal: 0,
                    lock: Lock::Held,
                    step: Step::Nothing,
                    releases: true,
                    answered: false,
                    transaction: 0,
                };
                request.releases = false;
                return Some(std::mem::replace(request, released));
            }
            (Fault::PartsUndecided, _) => request.transaction = 0,
            (Fault::CutUnlocked, Lock::Acquire(set)) if set.whole == Some(Mode::Shared) => set.whole = None,
            (Fault::CheckForgotten, _) if is_check => request.step = Step::Nothing,
            (Fault::UndeclaredUnlocked, Lock::Acquire(set)) if matches!(request.step, Step::Nothing | Step::Lease) => {
                set.whole = None;
            }
            (Fault::WholeUnlocked, Lock::Acquire(set)) if set.whole.is_some() => {
                *set = LockSet { keys: std::mem::take(&mut set.keys), whole: None };
            }
            _ => {}
        }
        None
    }
}
