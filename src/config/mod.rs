//! The configuration: what an operator may set, how it is written, and the values that the server runs with.
//!
//! `Config` is a plain value: built once from file and command line, read through its typed fields, and replaced as a
//! whole by CONFIG SET, which hands a new `Arc<Config>` to every shard. What a change must *do* (listen elsewhere, resize
//! a log) is the server's; nothing here knows sockets, files or shards.

mod check;
pub mod directives;
pub mod parse;
pub mod rewrite;
pub mod value;

pub use directives::{Access, Change, Config, DIRECTIVES, Directive, SetError, Status, Topic};
