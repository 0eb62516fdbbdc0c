//! The way to the end: signals ask for it, shards leave their loops, and what the process put into the file system goes.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use tracing::{info, warn};

use crate::admin::ctx::Server;
use crate::admin::persistence::is_beginning_aof;
use crate::net::ring::wake_by_eventfd;
use crate::persist::status::Shutdown;
use crate::runtime::mesh::Station;
use crate::sys::process;
use crate::sys::signal::{self, Signal};

/// Takes the process's signals until its end.
pub fn watch_signals(server: &Server, stations: &[Station]) -> ! {
    loop {
        let (name, options) = match signal::wait() {
            Signal::Ignored => continue,
            Signal::Alarm => {
                warn!("Received SIGALRM");
                process::threads().iter().for_each(|thread| warn!("thread {thread}"));
                continue;
            }
            Signal::Interrupt if server.stopping.load(Relaxed) || server.persistence.is_shutting_down() => {
                warn!("You insist... exiting now.");
                server.persistence.abandon_shutdown();
                std::process::exit(1);
            }
            Signal::Interrupt => ("SIGINT", server.config().shutdown_on_sigint),
            Signal::Terminate => ("SIGTERM", server.config().shutdown_on_sigterm),
        };
        warn!("Received {name} scheduling shutdown...");
        let how = Shutdown { save: options.save, nosave: options.nosave, force: options.force, signal: Some(name) };
        let waits = how.saves(&server.config()) || is_beginning_aof(server);
        if waits && !server.persistence.loading.is_under_way() {
            // The shards have what is to be saved; one of them looks here at its next tick.
            *server.persistence.shutdown.lock().expect("nothing panics while it holds it") = Some(how);
            continue;
        }
        warn!("User requested shutdown...");
        stop(server, stations);
    }
}

/// Makes every shard leave its loop.
pub fn stop(server: &Server, stations: &[Station]) {
    server.stopping.store(true, Relaxed);
    for station in stations.iter().filter(|station| station.wake_fd() >= 0) {
        wake_by_eventfd(station.wake_fd());
    }
}

/// Files that exist as long as the server runs.
#[derive(Debug, Default)]
pub struct Traces {
    pub pid_file: Option<PathBuf>,
    pub unix_socket: Option<PathBuf>,
}

impl Traces {
    pub fn remove(self) {
        if let Some(path) = self.pid_file {
            info!("Removing the pid file.");
            remove(&path, "pid file");
        }
        if let Some(path) = self.unix_socket {
            info!("Removing the unix socket file.");
            remove(&path, "unix socket file");
        }
    }
}

fn remove(path: &Path, what: &str) {
    if let Err(error) = std::fs::remove_file(path) {
        warn!("Error removing the {what}: {error}");
    }
}
