//! Keys.
use super::KeyRow;
use super::args::Args;
use super::spec::Spec;
pub const ROWS: &[KeyRow] = &[];
pub fn copy_target_db(_spec: &Spec, _args: &Args, db: usize) -> usize {
    db
}
