//! Commands: what each is (`spec`, `keys`), and, by family, what it does.

pub mod keys;
pub mod spec;
