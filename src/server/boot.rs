//! Starts the shards and waits for their end.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use glommio::{LocalExecutorBuilder, Placement};

use crate::admin::ctx::Server;
use crate::base::rng::Rng;
use crate::command::ctx::ShardCtx;
use crate::config::Config;
use crate::core::Core;
use crate::keyspace::{HashSeeds, Keyspace};
use crate::net::listener::{listen_tcp, listen_unix};
use crate::runtime::mesh;
use crate::runtime::shard_loop::{Listener, ShardLoop};
use crate::sys::{affinity, clock, signal};

/// Memory of glommio's own registered buffers: its smallest, as the network does not go through it.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
const EXECUTOR_RING_ENTRIES: usize = 8;

/// Runs the server until it is told to stop.
pub fn run(config: Config) -> io::Result<()> {
    signal::block();
    let shards = match config.shards {
        0 => affinity::allowed_cpus().len().min(affinity::quota_cpus().unwrap_or(usize::MAX)),
        shards => shards as usize,
    };
    let mut seeds = seed_of_the_process();
    let server = Arc::new(Server {
        run_id: (0..5).map(|_| format!("{:08x}", seeds.next_u64() as u32)).collect(),
        started_ms: clock::unix_us() / 1000,
        executable: std::env::current_exe().unwrap_or_default(),
        config_file: None,
        shards,
        tcp_port: config.port,
        next_client_id: AtomicU64::new(1),
        connections: (0..shards).map(|_| AtomicU32::new(0)).collect(),
        connections_received: AtomicU64::new(0),
        connections_rejected: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        used_memory_peak: AtomicU64::new(0),
        used_memory_startup: AtomicU64::new(0),
    });
    let mut sockets = listen(&config, shards)?;
    let hash_seeds = HashSeeds([seeds.next_u64(), seeds.next_u64(), seeds.next_u64(), seeds.next_u64()]);
    let config = Arc::new(config);
    let meshes = mesh::connect(shards, clock::mono_ns);
    let stations = meshes[0].stations().clone();
    let cpus = affinity::place(shards);
    let mut threads = Vec::new();
    for (mesh, cpu) in meshes.into_iter().zip(cpus) {
        let (server, config, seed) = (server.clone(), config.clone(), seeds.next_u64());
        let listeners = std::mem::take(&mut sockets[mesh.id()]);
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("shard-{}", mesh.id()))
            .io_memory(EXECUTOR_IO_BYTES)
            .ring_depth(EXECUTOR_RING_ENTRIES);
        let thread = executor.spawn(move || async move {
            let keyspace = Keyspace::new(config.databases as usize, hash_seeds, clock::unix_us() / 1000);
            let ctx = ShardCtx::new(keyspace, config, seed, mesh.id(), server.shards);
            let core = Core::new(mesh.id(), ctx, server, clock::ticks_ns);
            ShardLoop::new(core, mesh, listeners)?.run()
        });
        threads.push(thread.map_err(|error| io::Error::other(error.to_string()))?);
    }
    while !server.stopping.load(Relaxed) {
        if signal::wait() != signal::Signal::Ignored {
            server.stopping.store(true, Relaxed);
        }
    }
    for station in stations.iter().filter(|station| station.wake_fd() >= 0) {
        crate::net::ring::wake_by_eventfd(station.wake_fd());
    }
    for thread in threads {
        thread.join().map_err(|error| io::Error::other(error.to_string()))??;
    }
    Ok(())
}

fn seed_of_the_process() -> Rng {
    use std::hash::{BuildHasher, RandomState};
    Rng::new(RandomState::new().hash_one(clock::unix_us()))
}

/// The listening sockets of each shard.
fn listen(config: &Config, shards: usize) -> io::Result<Vec<Vec<Listener>>> {
    let mut sockets: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    if config.port != 0 {
        for bind in &config.bind {
            for address in addresses(&bind.address, config.port)? {
                // First alone, so that a second server fails; the kernel would let it share the port.
                match listen_tcp(address, config.tcp_backlog as u32, false) {
                    Ok(probe) => drop::<OwnedFd>(probe),
                    Err(_) if bind.optional => continue,
                    Err(error) => return Err(error),
                }
                for shard in &mut sockets {
                    let socket = listen_tcp(address, config.tcp_backlog as u32, shards > 1)?;
                    shard.push(Listener { socket, is_unix: false });
                }
            }
        }
    }
    if let Some(path) = (!config.unixsocket.is_empty()).then(|| std::path::Path::new(&config.unixsocket)) {
        let socket = listen_unix(path, Some(config.unixsocketperm as u32), config.tcp_backlog as u32)?;
        sockets[0].push(Listener { socket, is_unix: true });
    }
    Ok(sockets)
}

fn addresses(bind: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = match bind {
        "*" => "0.0.0.0",
        "::*" => "::",
        host => host,
    };
    Ok((host, port).to_socket_addrs()?.collect())
}
