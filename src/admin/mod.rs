//! Level 7: commands without keys.

pub mod acl;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod ctx;
pub mod debug;
pub mod info;
pub mod latency;
pub mod memory;
pub mod module;
pub mod monitor;
pub mod multi;
pub mod pause;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod server;
pub mod slowlog;
pub mod tracking;

use crate::command::args::Args;
use crate::command::error::Error;
use crate::resp::reply::Reply;
use ctx::AdminRow;

/// All of them, by topic.
#[rustfmt::skip]
pub const FAMILIES: &[&[AdminRow]] = &[
    connection::ROWS,
    pubsub::ROWS,
    client::ROWS,
    command::ROWS,
    config::ROWS,
    multi::ROWS,
    debug::ROWS,
    info::ROWS,
    latency::ROWS,
    memory::ROWS,
    server::ROWS,
    persistence::ROWS,
    slowlog::ROWS,
    acl::ROWS,
    module::ROWS,
    monitor::ROWS,
    cluster::ROWS,
    replication::ROWS,
];

/// The reply to `COMMAND HELP`; `lines` describe the other subcommands.
pub fn write_help(command: &str, lines: &[&str], reply: &mut Reply) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

/// A subcommand takes fewer arguments than its arity lets through.
pub fn subcommand_syntax(args: &Args) -> Error {
    let container = String::from_utf8_lossy(args.get(0)).to_uppercase();
    Error::subcommand_syntax(&container, args.get(1))
}
