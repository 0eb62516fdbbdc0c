//! Tells the process that watches over this one that the server is ready, or about to stop.
//!
//! systemd listens on a datagram socket that the environment names (`sd_notify(3)`); upstart waits for the process to
//! stop itself once.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::{info, warn};

use crate::config::value::Supervised;
use crate::sys::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    None,
    Systemd,
    Upstart,
}

impl Supervisor {
    /// Who supervises, by configuration and environment.
    pub fn find(wanted: Supervised) -> Supervisor {
        let is_set = |name| std::env::var_os(name).is_some();
        match wanted {
            Supervised::No => Supervisor::None,
            Supervised::Systemd | Supervised::Auto if is_set("NOTIFY_SOCKET") => Supervisor::Systemd,
            Supervised::Upstart | Supervised::Auto if is_set("UPSTART_JOB") => Supervisor::Upstart,
            Supervised::Auto => Supervisor::None,
            Supervised::Systemd => {
                warn!("systemd supervision requested, but NOTIFY_SOCKET not found!");
                Supervisor::None
            }
            Supervised::Upstart => {
                warn!("upstart supervision requested, but UPSTART_JOB not found!");
                Supervisor::None
            }
        }
    }

    /// As INFO shows it.
    pub fn name(self) -> &'static str {
        match self {
            Supervisor::None => "no",
            Supervisor::Systemd => "systemd",
            Supervisor::Upstart => "upstart",
        }
    }

    pub fn begin(self) {
        match self {
            Supervisor::None => {}
            Supervisor::Systemd => {
                info!(
                    "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and \
                     TimeoutStopSec in your service unit."
                );
                self.notify("STATUS=Peristyle is starting...\n");
            }
            Supervisor::Upstart => {
                info!("supervised by upstart, will stop to signal readiness.");
                process::stop();
            }
        }
    }

    pub fn ready(self) {
        self.notify("STATUS=Ready to accept connections\nREADY=1\n");
    }

    pub fn stopping(self) {
        self.notify("STOPPING=1\n");
    }

    fn notify(self, state: &str) {
        if self != Supervisor::Systemd {
            return;
        }
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
        if let Err(error) = send(&path, state) {
            warn!("systemd supervision error: sd_notify: {error}");
        }
    }
}

fn send(path: &OsStr, state: &str) -> io::Result<()> {
    // A leading @ names a socket that is in no file system.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_on_a_path_and_on_an_abstract_name() {
        let directory = std::env::temp_dir().join(format!("peristyle-notify-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let name = format!("peristyle-notify-{}", std::process::id());
        let in_file = UnixDatagram::bind(&path).unwrap();
        let in_no_file = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, address) in [(in_file, path.into_os_string()), (in_no_file, format!("@{name}").into())] {
            send(&address, "READY=1\n").unwrap();
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1\n");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
