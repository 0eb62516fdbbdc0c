//! All commands on keys, by family: what scripts, replicas and recovery need, and nothing above it.

use super::script;
use crate::command::{KeyRow, acks, bits, generic, geo, hash, hll, keyspace, list, set, sort, stream, string, zset};

pub const FAMILIES: &[&[KeyRow]] = &[
    string::ROWS,
    bits::ROWS,
    hll::ROWS,
    list::ROWS,
    list::blocking::ROWS,
    set::ROWS,
    hash::ROWS,
    hash::times::ROWS,
    zset::ROWS,
    zset::blocking::ROWS,
    geo::ROWS,
    stream::ROWS,
    generic::ROWS,
    sort::ROWS,
    keyspace::ROWS,
    acks::ROWS,
    script::ROWS,
    script::function::ROWS,
];
