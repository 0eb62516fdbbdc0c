//! Commands on lists.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
