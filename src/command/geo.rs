//! Geo commands.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
