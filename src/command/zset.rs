//! Commands on sorted sets.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
