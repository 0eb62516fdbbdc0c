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
    let socket = bind_tcp(address, shared)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Takes a TCP address that no other server has, and does not listen yet: a client that came before those sockets that
/// stay would be turned away with the one that does not.
pub fn bind_tcp(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    if address.is_ipv6() {
        // 0.0.0.0 and :: are two sockets, as in Redis.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn any_port() -> SocketAddr {
        let socket = bind_tcp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// Clients of a server that was just starting were reset now and then.
    #[test]
    fn nobody_is_let_in_before_the_sockets_that_stay() {
        let address = any_port();
        let bound = bind_tcp(address, false).unwrap();
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(bound);
        let _listening = listen_tcp(address, 5, true).unwrap();
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn an_address_that_another_server_shares_among_its_shards_is_taken() {
        let address = any_port();
        let _listening = listen_tcp(address, 5, true).unwrap();
        assert_eq!(bind_tcp(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
