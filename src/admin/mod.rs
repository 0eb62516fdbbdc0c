//! Level 7: commands without keys.

pub mod acl;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod ctx;
pub mod debug;
pub mod function;
pub mod info;
pub mod latency;
pub mod memory;
pub mod module;
pub mod replication;
pub mod server;
pub mod slowlog;

use crate::resp::reply::Reply;
use ctx::AdminRow;

/// All of them, by topic.
#[rustfmt::skip]
pub const FAMILIES: &[&[AdminRow]] = &[
    connection::ROWS,
    client::ROWS,
    command::ROWS,
    config::ROWS,
    debug::ROWS,
    info::ROWS,
    latency::ROWS,
    memory::ROWS,
    server::ROWS,
    slowlog::ROWS,
    acl::ROWS,
    module::ROWS,
    function::ROWS,
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
