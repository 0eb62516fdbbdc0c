//! Commands on streams.

use super::KeyRow;

pub const ROWS: &[KeyRow] = &[];
