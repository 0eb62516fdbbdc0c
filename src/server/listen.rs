//! The sockets that the server listens on, one for each address and shard: at the start, and when CONFIG SET changes `port`
//! or `bind`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing::warn;

use super::boot::text_of;
use crate::admin::ctx::ShardSockets;
use crate::config::{Config, SetError};
use crate::net::listener::{bind_tcp, listen_tcp, listen_unix, mark};
use crate::runtime::shard_loop::Listener;
use crate::sys::process;

/// A server that was killed is gone before its sockets are: the kernel takes its rings apart behind it. So long a start
/// waits for a port that is in use.
const PATIENCE: Duration = Duration::from_millis(200);
const PATIENCE_STEP: Duration = Duration::from_millis(5);

/// The listening sockets of each shard.
pub fn everywhere(config: &Config, shards: usize) -> Result<Vec<Vec<Listener>>, String> {
    let until = Instant::now() + PATIENCE;
    let tcp = listen_tcp_everywhere(config, Port::Foreign { until }, shards)?.into_iter();
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
    // Nobody waits: the shard has clients.
    let port = if new.port == old.port { Port::Own } else { Port::Foreign { until: Instant::now() } };
    listen_tcp_everywhere(new, port, shards).map_err(|_| {
        let (name, reason) = match new.port == old.port {
            true => ("bind", "Failed to bind to specified addresses."),
            false => ("port", "Unable to listen on this port. Check server logs."),
        };
        SetError::Failed { name: name.into(), reason: reason.to_owned() }
    })
}

/// Whose the port is.
#[derive(Clone, Copy)]
enum Port {
    /// This server's already.
    Own,
    /// Perhaps another one's, of whom it is waited for until then.
    Foreign { until: Instant },
}

fn listen_tcp_everywhere(config: &Config, port: Port, shards: usize) -> Result<ShardSockets, String> {
    let mut sockets: ShardSockets = (0..shards).map(|_| Vec::new()).collect();
    for bind in config.bind.iter().filter(|_| config.port != 0) {
        if let Err(error) = listen_on(&bind.address, config, port, &mut sockets) {
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
fn listen_on(address: &str, config: &Config, port: Port, sockets: &mut [Vec<OwnedFd>]) -> io::Result<()> {
    for address in addresses(address, config.port)? {
        // First alone, so that a second server fails; the kernel would let it share the port.
        if let Port::Foreign { until } = port {
            take(address, until)?;
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

/// Makes sure that no other server has the address.
fn take(address: SocketAddr, until: Instant) -> io::Result<()> {
    loop {
        match bind_tcp(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(PATIENCE_STEP);
            }
            outcome => return outcome.map(drop),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_about_to_be_given_up_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let in_use = |until| take(address, until).map_err(|error| error.kind());
        assert_eq!(in_use(Instant::now()), Err(io::ErrorKind::AddrInUse));
        let began = Instant::now();
        assert_eq!(in_use(began + Duration::from_millis(20)), Err(io::ErrorKind::AddrInUse));
        assert!(began.elapsed() >= Duration::from_millis(20));
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(listener);
        });
        assert_eq!(in_use(Instant::now() + Duration::from_secs(60)), Ok(()));
        dying.join().unwrap();
    }
}
