//! Commands on hashes.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
