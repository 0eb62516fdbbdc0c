//! SORT and SORT_RO.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
