//! Level 7: commands without keys.

pub mod command;
pub mod connection;
pub mod ctx;

use ctx::AdminRow;

/// All of them, by topic.
pub const FAMILIES: &[&[AdminRow]] = &[connection::ROWS];
