//! Small identities that several levels pass along.

/// A shard's number, from 0.
pub type ShardId = usize;

/// A connection's slot at its shard, and which user of the slot is meant: a late completion or reply finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnKey {
    pub index: u32,
    /// 24 bits.
    pub generation: u32,
}

impl ConnKey {
    /// No connection: of what the server does by itself.
    pub const NOBODY: ConnKey = ConnKey { index: u32::MAX, generation: u32::MAX };
}

/// Which command of a connection a reply from elsewhere belongs to; wraps around.
pub type Sequence = u32;

/// A command's place in the registry: what statistics are kept by.
pub type CommandId = u16;

/// Which job, at its coordinator, a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobKey {
    pub index: u32,
    pub generation: u32,
}
