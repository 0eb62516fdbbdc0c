//! What a client has asked for by CLIENT TRACKING.

use std::collections::BTreeSet;

use crate::base::ids::{ConnKey, ShardId};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// The beginnings of names to be told of, instead of the names that were read.
    pub broadcast: Option<BTreeSet<Vec<u8>>>,
    pub choice: Choice,
    /// CLIENT CACHING has said so for the next command.
    pub caching: bool,
    /// It is not told of what it changes itself.
    pub noloop: bool,
    pub redirect: Option<Redirect>,
    /// There is nobody any more at the redirection's end.
    pub is_broken: bool,
}

/// Which reads are tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    All,
    /// Those behind CLIENT CACHING YES.
    OptIn,
    /// All but those behind CLIENT CACHING NO.
    OptOut,
}

/// Who gets the messages instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// CLIENT ID.
    pub id: u64,
    pub shard: ShardId,
    pub conn: ConnKey,
}

impl Tracking {
    /// Is the next command tracked, if it reads?
    pub fn tracks_next(&self) -> bool {
        let chosen = match self.choice {
            Choice::All => true,
            Choice::OptIn => self.caching,
            Choice::OptOut => !self.caching,
        };
        chosen && self.broadcast.is_none()
    }
}
