//! Bugs that are planted to show that the simulator finds them. They live in the simulator's driver alone.

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
}
