//! Commands that need no key.

pub mod command;
