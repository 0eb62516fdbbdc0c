//! Listening sockets, and what is set on each connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::session::Peer;

/// A TCP address to listen on, as `bind` and `port` give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    pub address: SocketAddr,
    /// Not being able to listen there is no error (`-` in front of it).
    pub optional: bool,
}

/// Listens on a TCP address. `shared`: as one of several sockets, between which the kernel spreads connections.
pub fn listen_tcp(address: SocketAddr, backlog: u32, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    if address.is_ipv6() {
        // 0.0.0.0 and :: are two sockets, as in Redis.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Marks what a listening socket sends and accepts, for routing and filters (SO_MARK); needs CAP_NET_ADMIN.
pub fn mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    SockRef::from(socket).set_mark(mark)
}

/// Listens on a unix socket, replacing a stale one.
pub fn listen_unix(path: &Path, permissions: Option<u32>, backlog: u32) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    if let Some(mode) = permissions.filter(|&mode| mode != 0) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket.into())
}

/// What Redis sets on each connection. `keepalive_s` 0: none.
pub fn prepare_connection(socket: &impl AsFd, keepalive_s: u64) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.local_addr()?.as_socket().is_some() {
        socket.set_tcp_nodelay(true)?;
        if keepalive_s > 0 {
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(keepalive_s))
                .with_interval(Duration::from_secs((keepalive_s / 3).max(1)))
                .with_retries(3);
            socket.set_tcp_keepalive(&keepalive)?;
        }
    }
    Ok(())
}

/// Both ends of a connection; an error if it is gone already.
pub fn peer_of(socket: &impl AsFd) -> io::Result<Peer> {
    let socket = SockRef::from(socket);
    match (socket.peer_addr()?.as_socket(), socket.local_addr()?.as_socket()) {
        (Some(remote), Some(local)) => Ok(Peer::Tcp { remote, local }),
        _ => Ok(Peer::Unix),
    }
}
