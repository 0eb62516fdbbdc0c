//! The append-only file as bytes: what segments consist of.
//!
//! The directory and its manifest are those of Redis 7 (`persist/aof/manifest.rs`). Every file but the base is a
//! *segment* of one shard: commands in RESP, and annotation lines, which begin with `#` and which Redis skips. (A line
//! stays below 1000 bytes, as Redis reads 1023 at a time and takes the rest for a command.) A segment is a header line
//! and then groups:
//!
//! ```text
//! #peristyle generation=<n> shard=<n|-> shards=<n> prefixes=<hex> start=<hex> boot=<boot id> round=<n> position=<n>\r\n
//!
//! #TS:<unix s>\r\n                             aof-timestamp-enabled, where the second has changed
//! *3\r\n$3\r\nSET\r\n ...                      commands, the first of a segment being a SELECT
//! #part <id> <commands>\r\n                    the next so many commands, SELECTs included, are part of a transaction
//! #decided <id> <parts>\r\n                    that transaction has happened, and has left so many parts
//! #positions <shard> <position> ...\r\n        how far the logs of this shard and the following ones were
//! #group <length> <crc> <position> <durable> <a|e|n>[ round <n>]\r\n
//!
//! #closed\r\n                                  behind the last group
//! ```
//!
//! *The header* says which shard of how many wrote the segment (`-`: a record of the whole keyspace, FLUSHALL and its
//! like), in which start of the server (`start`, Unix time in microseconds; `boot`, the kernel's boot id), and to which
//! generation it belongs: generations are loaded one after the other, the segments of one in any order. `round` is the
//! last round that the shard had ended when it began the segment: whose lines recovery looks for is told by that; and
//! `position` (see below) tells whether what stands before the segment is all there.
//!
//! *A group* is what one write brings. Its last line covers the `length` bytes in front of it, back to the group
//! before or the header, with their CRC-64 (that of RDB files). `position` is how much the shard has logged since the
//! start, this line included, in all its segments, headers not counted; `durable` is the position that was known to be
//! on disk when the line was written; then the policy of `appendfsync` at that time. `round n` ends the n-th of the
//! common rounds in which, once a second, all shards are synced: a group of nothing will do for that.
//!
//! *Transactions.* A transaction of one shard is never split over groups. One over several shards leaves tagged parts
//! on each, and counts if its coordinator has logged that it is decided, and all parts are there. Its id is
//! `<start hex>-<coordinator>-<counter>`. A SELECT in a part holds for the part only: what follows selects again.
//!
//! *A record of the whole keyspace* tells how far all logs were when it was made: after a power loss it counts if they
//! still are.
//!
//! *A log that was ended well* has `#closed` behind its last group. What is behind that redis-server has written, which
//! goes on in the last file that it finds; and so it is with what is behind the group of a record of the whole keyspace.
//!
//! Recovery overwrites what does not count with lines of `#skipped`.

pub mod read;
pub mod write;

use std::fmt;

use crate::base::ids::ShardId;

/// Annotation lines begin so.
pub const HEADER: &str = "#peristyle ";
pub const GROUP: &str = "#group ";
pub const PART: &str = "#part ";
pub const DECIDED: &str = "#decided ";
/// The last line of a log that was ended well.
pub const CLOSED: &str = "#closed\r\n";
pub const POSITIONS: &str = "#positions ";
pub const SKIPPED: &str = "#skipped ";
pub const TIMESTAMP: &str = "#TS:";
/// No annotation line is longer, its end included.
pub const LINE_BYTES_MAX: usize = 1000;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub generation: u64,
    /// `None`: records of the whole keyspace.
    pub shard: Option<ShardId>,
    pub shards: usize,
    /// `SlotMap::prefix_sum`: by it and the number of shards keys were dealt out.
    pub prefixes: u64,
    /// Which start of the server: Unix time in microseconds.
    pub start: u64,
    /// The kernel's boot id; `-` where it is not known.
    pub boot: String,
    /// The last round that the shard had ended when it began the segment.
    pub round: u64,
    /// How far its log was then.
    pub position: u64,
}

/// A transaction over several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId {
    pub start: u64,
    pub coordinator: ShardId,
    pub counter: u64,
}

/// `appendfsync` at the time of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    EverySecond,
    No,
}

impl Policy {
    pub fn letter(self) -> char {
        match self {
            Policy::Always => 'a',
            Policy::EverySecond => 'e',
            Policy::No => 'n',
        }
    }

    pub fn from_letter(letter: &str) -> Option<Policy> {
        match letter {
            "a" => Some(Policy::Always),
            "e" => Some(Policy::EverySecond),
            "n" => Some(Policy::No),
            _ => None,
        }
    }
}

/// The line that ends a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEnd {
    /// Bytes of the group in front of the line.
    pub length: u64,
    pub crc: u64,
    pub position: u64,
    pub durable: u64,
    pub policy: Policy,
    pub round: Option<u64>,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { generation, shard, shards, prefixes, start, boot, round, position } = self;
        write!(f, "{HEADER}generation={generation} shard=")?;
        match shard {
            Some(shard) => write!(f, "{shard}")?,
            None => f.write_str("-")?,
        }
        write!(
            f,
            " shards={shards} prefixes={prefixes:x} start={start:x} boot={boot} round={round} position={position}\r\n"
        )
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransactionId { start, coordinator, counter } = self;
        write!(f, "{start:x}-{coordinator}-{counter}")
    }
}

impl fmt::Display for GroupEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupEnd { length, crc, position, durable, policy, round } = self;
        write!(f, "{GROUP}{length} {crc:016x} {position} {durable} {}", policy.letter())?;
        if let Some(round) = round {
            write!(f, " round {round}")?;
        }
        f.write_str("\r\n")
    }
}
