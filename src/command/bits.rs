//! Commands on the bits of strings.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
