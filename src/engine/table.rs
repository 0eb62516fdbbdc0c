//! All commands on keys, by family: what scripts, replicas and recovery need, and nothing above it.

use crate::command::{KeyRow, generic, keyspace, string};

pub const FAMILIES: &[&[KeyRow]] = &[string::ROWS, generic::ROWS, keyspace::ROWS];
