//! Commands on sets.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
