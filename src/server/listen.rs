//! The sockets that the server listens on, one for each address and shard: at the start, and when CONFIG SET changes `port`
//! or `bind`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;

use tracing::warn;

use super::boot::text_of;
use crate::admin::ctx::ShardSockets;
use crate::config::{Config, SetError};
use crate::net::listener::{bind_tcp, listen_tcp, listen_unix, mark};
use crate::runtime::shard_loop::Listener;
use crate::sys::process;

/// The listening sockets of each shard.
pub fn everywhere(config: &Config, shards: usize) -> Result<Vec<Vec<Listener>>, String> {
    let tcp = listen_tcp_everywhere(config, false, shards)?.into_iter();
    let listener = |socket| Listener { socket, is_unix: false };
    let mut sockets: Vec<Vec<Listener>> = tcp.map(|shard| shard.into_iter().map(listener).collect()).collect();
    let backlog = config.tcp_backlog;
    if !config.unixsocket.is_empty() {
        let path = Path::new(&config.unixsocket);
        let socket = listen_unix(path, Some(config.unixsocketperm), backlog).and_then(|socket| {
            if !config.unixsocketgroup.is_empty() {
                process::set_group(path, &config.unixsocketgroup)?;
            }
            Ok(socket)
        });
        let socket = socket.map_err(|error| {
            warn!("Failed opening Unix socket: bind: {}", text_of(&error));
            format!("Failed listening on port {} (unix), aborting.", config.port)
        })?;
        sockets[0].push(Listener { socket, is_unix: true });
    }
    if sockets.iter().all(Vec::is_empty) {
        return Err("Configured to not listen anywhere, exiting.".to_owned());
    }
    Ok(sockets)
}

/// The TCP sockets of each shard by a new configuration. Those by the old one are still there.
pub fn again(old: &Config, new: &Config, shards: usize) -> Result<ShardSockets, SetError> {
    listen_tcp_everywhere(new, new.port == old.port, shards).map_err(|_| {
        let (name, reason) = match new.port == old.port {
            true => ("bind", "Failed to bind to specified addresses."),
            false => ("port", "Unable to listen on this port. Check server logs."),
        };
        SetError::Failed { name: name.into(), reason: reason.to_owned() }
    })
}

/// `own`: the port is this server's already.
fn listen_tcp_everywhere(config: &Config, own: bool, shards: usize) -> Result<ShardSockets, String> {
    let mut sockets: ShardSockets = (0..shards).map(|_| Vec::new()).collect();
    for bind in config.bind.iter().filter(|_| config.port != 0) {
        if let Err(error) = listen_on(&bind.address, config, own, &mut sockets) {
            warn!(
                "Warning: Could not create server TCP listening socket {}:{}: bind: {}",
                bind.address,
                config.port,
                text_of(&error)
            );
            let missing = error.kind() == io::ErrorKind::AddrNotAvailable && bind.optional;
            if !missing && !is_unsupported(&error) {
                return Err(format!("Failed listening on port {} (tcp), aborting.", config.port));
            }
        }
    }
    Ok(sockets)
}

/// One address of the configuration, for all shards.
fn listen_on(address: &str, config: &Config, own: bool, sockets: &mut [Vec<OwnedFd>]) -> io::Result<()> {
    for address in addresses(address, config.port)? {
        // First alone, so that a second server fails; the kernel would let it share the port.
        if !own {
            drop(bind_tcp(address, false)?);
        }
        for shard in &mut *sockets {
            // Even that of a single shard: CONFIG SET bind has both the old and the new one for a moment.
            let socket = listen_tcp(address, config.tcp_backlog, true)?;
            if config.socket_mark_id > 0
                && let Err(error) = mark(&socket, config.socket_mark_id)
            {
                warn!("Unable to set socket-mark-id on {address}: {}", text_of(&error));
            }
            shard.push(socket);
        }
    }
    Ok(())
}

fn addresses(bind: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = match bind {
        "*" => "0.0.0.0",
        "::*" => "::",
        host => host,
    };
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The machine does without this kind of address (IPv6, mostly).
fn is_unsupported(error: &io::Error) -> bool {
    use libc::{EAFNOSUPPORT, ENOPROTOOPT, EPFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT};
    let codes = [ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPFNOSUPPORT, EAFNOSUPPORT];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}
