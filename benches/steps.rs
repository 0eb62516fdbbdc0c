//! Cores without ring, threads and sockets: what a command costs in the steppers alone, on one shard or on many.
//!
//! ```text
//! cargo bench --bench steps -- SHARDS CONNECTIONS PIPELINE ROUNDS 'COMMAND' ['COMMAND' ...]
//! valgrind --tool=callgrind target/release/deps/steps-... 1 50 16 400 'GET __key__'
//! ```
//!
//! Every connection sends PIPELINE times all of the commands, waits for its replies, and begins again; `__key__` is a
//! random key of 100,000, `__data__` 16 bytes. Shards take turns in one thread. Prints nanoseconds for each command, and
//! turns; callgrind counts instructions (`--toggle-collect='*Shard::turn'` leaves all else out).

use std::sync::Arc;
use std::time::Instant;

use peristyle::admin::ctx::Server;
use peristyle::base::clock::Now;
use peristyle::base::ids::{ConnKey, ShardId};
use peristyle::base::limits::MAILBOX_MESSAGES;
use peristyle::base::rng::Rng;
use peristyle::command::ctx::ShardCtx;
use peristyle::config::Config;
use peristyle::core::{Core, Input};
use peristyle::engine::msg::Envelope;
use peristyle::keyspace::slots::SlotMap;
use peristyle::keyspace::{HashSeeds, Keyspace};
use peristyle::runtime::mesh::{self, ShardMesh};
use peristyle::session::Peer;
use peristyle::sys::clock;
use peristyle::sys::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const KEYS: u64 = 100_000;
const REQUESTS_MADE: usize = 1000;

struct Conn {
    key: ConnKey,
    requests: Vec<u8>,
    sends: bool,
}

struct Shard {
    core: Core,
    mesh: ShardMesh,
    conns: Vec<Conn>,
    mail: Vec<(ShardId, Envelope)>,
}

impl Shard {
    fn run_mail(&mut self) {
        self.mesh.receive(&mut self.mail);
        for (from, Envelope { message, .. }) in self.mail.drain(..) {
            self.core.message(from, message, &mut self.mesh);
        }
    }

    /// Nobody sleeps here, so nobody has to be woken.
    #[inline(never)] // callgrind finds it by name.
    fn turn(&mut self, unix_ms: i64) {
        self.core.set_now(Now { unix_ms, mono_ns: clock::mono_ns() });
        self.run_mail();
        self.mesh.drain_overflow();
        let sending = self.conns.iter().filter(|conn| conn.sends);
        let inputs: Vec<Input> = sending.map(|conn| Input { conn: conn.key, bytes: &conn.requests }).collect();
        self.core.turn(&inputs, &mut self.mesh);
        self.conns.iter_mut().for_each(|conn| conn.sends = false);
        if self.mesh.has_own_mail() {
            self.run_mail();
        }
        self.core.run_background(|| false);
        self.core.end_turn(&mut self.mesh);
        while let Some(key) = self.core.sessions.next_dirty() {
            while self.core.sessions.at(key).output.is_pending() {
                let output = &mut self.core.sessions.at(key).output;
                let buffer = output.take();
                output.sent(buffer.len());
                assert!(!buffer.starts_with(b"-"), "{}", String::from_utf8_lossy(&buffer));
                self.core.sessions.pool.put(buffer);
            }
        }
        self.mesh.take_sleepers(|_, _| {});
    }

    fn is_done(&self) -> bool {
        self.conns
            .iter()
            .all(|conn| !conn.sends && self.core.sessions.get(conn.key).is_some_and(|session| session.is_answered()))
            && !self.core.has_work()
    }
}

fn start(shards: usize, connections: usize) -> Vec<Shard> {
    let config = Arc::new(Config::default());
    let server = Arc::new(Server::new("0".repeat(40), 0, shards, config.clone()));
    let begin = |mesh: ShardMesh| {
        let keyspace = Keyspace::new(config.databases as usize, HashSeeds([1, 2, 3, 4]), 0);
        let ctx = ShardCtx::new(keyspace, config.clone(), 1, mesh.id(), SlotMap::contiguous(shards));
        let mut core = Core::new(mesh.id(), ctx, server.clone(), clock::ticks_ns);
        let conns = (mesh.id()..connections).step_by(shards);
        let conns =
            conns.map(|at| Conn { key: core.connect(at as i32, Peer::Unix), requests: Vec::new(), sends: false });
        let conns = conns.collect();
        Shard { core, mesh, conns, mail: Vec::new() }
    };
    mesh::connect(shards, MAILBOX_MESSAGES, clock::mono_ns).into_iter().map(begin).collect()
}

fn append(requests: &mut Vec<u8>, command: &str, rng: &mut Rng) {
    let words: Vec<String> = command
        .split_whitespace()
        .map(|word| {
            word.replace("__key__", &format!("key:{:012}", rng.below(KEYS))).replace("__data__", &"x".repeat(16))
        })
        .collect();
    requests.extend(format!("*{}\r\n", words.len()).bytes());
    words.iter().for_each(|word| requests.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [shards, connections, pipeline, rounds, commands @ ..] = &arguments[..] else { return };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (pipeline, rounds) = (number(pipeline), number(rounds));
    let mut shards = start(number(shards), number(connections));
    let mut rng = Rng::new(1);
    // Requests are made beforehand: a few kinds of them, so that keys differ from round to round.
    let made: Vec<Vec<u8>> = (0..REQUESTS_MADE)
        .map(|_| {
            let mut requests = Vec::new();
            for command in (0..pipeline).flat_map(|_| commands) {
                append(&mut requests, command, &mut rng);
            }
            requests
        })
        .collect();
    let (mut turns, mut next) = (0, 0);
    let unix_ms = clock::unix_us() / 1000;
    let started = Instant::now();
    for _ in 0..rounds {
        for conn in shards.iter_mut().flat_map(|shard| &mut shard.conns) {
            conn.requests.clone_from(&made[next % made.len()]);
            next += 1;
            conn.sends = true;
        }
        loop {
            shards.iter_mut().for_each(|shard| shard.turn(unix_ms));
            turns += 1;
            if shards.iter().all(Shard::is_done) && shards.iter().all(|shard| shard.mesh.is_empty()) {
                break;
            }
        }
    }
    let ran = rounds * shards.iter().map(|shard| shard.conns.len()).sum::<usize>() * pipeline * commands.len();
    println!("{:.1} ns, {turns} turns for {ran} commands", started.elapsed().as_nanos() as f64 / ran as f64);
}
