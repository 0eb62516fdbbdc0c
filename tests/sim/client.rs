//! The clients of a run: what they send, and what they hold the server to.
//!
//! Every kind of client checks that it gets one reply for each command, in order (P1). Beyond that: a private client
//! uses keys of its own and knows each reply beforehand; clients of registers share keys, and record histories for
//! [`crate::check`]; writers and readers look for effects without their causes (P3).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use peristyle::base::rng::Rng;

use crate::check::{self, Operation};
use crate::history;
use crate::model::{self, Map};
use crate::news::{self, Bulletin, Publication, Wish};
use crate::store::{self, Call};
use crate::transact::{self, Answer, Sent, Standing, Vocabulary};
use crate::world::{Plan, WireId, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Private,
    Register,
    Writer,
    Reader,
    Transactor,
    Publisher,
    /// Subscribes to channels and patterns.
    Listener,
    /// Keeps what it reads, until it is told that it is old.
    Keeper,
    /// Comes last and looks at what is left of private keys.
    Auditor,
}

pub struct Clients {
    world: Rc<World>,
    rng: Rng,
    shards: usize,
    depth_max: u64,
    waiting_max: usize,
    states_max: usize,
    reset_one_in: u64,
    may_refuse: bool,
    /// Commands that transactors send at least.
    commands_min: usize,
    commands: usize,
    clients: Vec<Client>,
    /// Which client's connection a wire is.
    owners: HashMap<WireId, usize>,
    operations: Vec<Operation>,
    vocabulary: Vocabulary,
    /// What transactors have sent.
    history: Vec<Called>,
    items: Vec<Item>,
    bulletin: Bulletin,
    next_token: u64,
}

struct Client {
    kind: Kind,
    rounds: u32,
    lines: Vec<Line>,
    /// What its private keys hold, and their names' beginning.
    map: Map,
    prefix: String,
    resets: u32,
    /// It has sent CLIENT REPLY SKIP: the next command is not answered.
    skips: bool,
    /// Of a transactor's only connection.
    standing: Standing,
    /// By key: what a keeper has been answered.
    kept: BTreeMap<String, Vec<u8>>,
}

/// A connection of a client.
struct Line {
    wire: WireId,
    waiting: VecDeque<Expectation>,
    unread: Vec<u8>,
    finished: bool,
    sent_bytes: u64,
    read_bytes: u64,
}

/// What a transactor sent: its end among the bytes of its connection, and likewise its reply's.
struct Called {
    wire: WireId,
    call: Call,
    sent_bytes: u64,
    answer: Option<(u64, Vec<u8>)>,
    /// It has not happened.
    is_refused: bool,
}

/// What a reply has to be.
enum Expectation {
    Exactly(Vec<u8>),
    /// The answer to these operations: to the first, or one element of it to each.
    Recorded(Vec<usize>),
    /// The answer to this operation of the history over all keys.
    Called(usize),
    /// Whether the item's flag is set.
    Flag(usize),
    /// How many hear of the item.
    Receivers(usize),
    Confirmation(Wish),
    /// The values of these keys.
    Kept(Vec<String>),
    /// The value that all who keep this key should have.
    Truth(String),
    Any,
}

/// What a writer writes in one pipeline: data on any shards, then a flag.
struct Item {
    data: [String; 2],
    flag: String,
    /// Somebody has seen the flag.
    known: bool,
}

const REGISTERS: [&str; 3] = ["door", "lamp", "heater"];
/// They lie on any shards: names that differ in a digit would lie on few.
const KEYS: [&str; 7] = ["name", "mail", "visits", "cart", "seen", "theme", "zone"];
const LINES_MAX: u64 = 2;
/// Commands of one pipeline to registers: histories stay easy to judge.
const REGISTER_RESETS_MAX: u32 = 2;
const REGISTER_DEPTH_MAX: u64 = 4;
/// The same for transactors, all together.
const TRANSACTOR_RESETS_MAX: u32 = 3;
const TRANSACTOR_DEPTH_MAX: u64 = 3;
/// Commands of a client that wait for replies before it sends more.
const WAITING_MAX: usize = 64;
/// Items that no reader has seen yet, beyond which writers wait.
const UNKNOWN_MAX: usize = 2;
const READS_PER_WRITE: u32 = 8;

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// An invalidation of these keys, or of all.
fn is_invalidated(key: &str, push: &[Vec<u8>]) -> bool {
    match push {
        [_, keys] if keys == b"_\r\n" => true,
        [_, keys] => {
            let mut keys = peristyle::resp::skip::elements(keys).into_iter().flatten();
            keys.any(|told| news::text_of(told) == Some(key.as_bytes()))
        }
        _ => unreachable!("a keeper is told of nothing else"),
    }
}

fn encode(words: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}

impl Clients {
    pub fn new(world: Rc<World>, plan: &Plan, seed: u64) -> Clients {
        let mut clients = Clients {
            world,
            rng: Rng::new(seed ^ 0x5eed),
            shards: plan.shards,
            depth_max: plan.depth_max,
            waiting_max: plan.waiting_max,
            states_max: plan.states_max,
            reset_one_in: plan.reset_one_in,
            may_refuse: plan.may_refuse,
            commands_min: plan.commands_min,
            commands: 0,
            clients: Vec::new(),
            owners: HashMap::new(),
            operations: Vec::new(),
            vocabulary: Vocabulary::new(plan.shards, plan.focus, plan.first_token),
            history: Vec::new(),
            items: Vec::new(),
            bulletin: Bulletin::default(),
            next_token: 0,
        };
        for &kind in &plan.clients {
            let rounds = if kind == Kind::Reader { plan.rounds * READS_PER_WRITE } else { plan.rounds };
            clients.add(kind, rounds);
        }
        clients
    }

    fn add(&mut self, kind: Kind, rounds: u32) {
        let index = self.clients.len();
        let prefix = format!("private{index}");
        self.clients.push(Client {
            kind,
            rounds,
            lines: Vec::new(),
            map: Map::new(),
            prefix,
            resets: 0,
            skips: false,
            standing: Standing::default(),
            kept: BTreeMap::new(),
        });
        // Only where any order of its commands is right does a client have several connections.
        let lines = if matches!(kind, Kind::Register | Kind::Reader) { 1 + self.rng.below(LINES_MAX) } else { 1 };
        for _ in 0..lines {
            let line = self.open(index);
            self.clients[index].lines.push(line);
        }
    }

    fn open(&mut self, client: usize) -> Line {
        let shard = self.rng.below(self.shards as u64) as usize;
        let wire = self.world.connect(shard);
        self.owners.insert(wire, client);
        let mut bytes = Vec::new();
        for command in self.greeting(client) {
            encode(&words(command), &mut bytes);
        }
        self.world.write(wire, &bytes);
        let waiting = self.greeting(client).iter().map(|_| Expectation::Any).collect();
        let sent_bytes = bytes.len() as u64;
        Line { wire, waiting, unread: Vec::new(), finished: false, sent_bytes, read_bytes: 0 }
    }

    /// What a connection begins with.
    fn greeting(&self, client: usize) -> &'static [&'static str] {
        match self.clients[client].kind {
            Kind::Listener => &["HELLO 3"],
            // Every other one is told of all that changes.
            Kind::Keeper if client.is_multiple_of(2) => &["HELLO 3", "CLIENT TRACKING ON BCAST"],
            Kind::Keeper => &["HELLO 3", "CLIENT TRACKING ON"],
            _ => &[],
        }
    }

    /// A last client, that knows what all private keys must hold.
    pub fn begin_audit(&mut self) {
        let auditor = self.clients.len();
        self.add(Kind::Auditor, 0);
        let mut bytes = Vec::new();
        let mut waiting = VecDeque::new();
        for client in self.clients.iter().filter(|client| client.kind == Kind::Private) {
            for key in KEYS {
                let command = words(&format!("GET {}:{key}", client.prefix));
                waiting.push_back(Expectation::Exactly(model::apply(&mut client.map.clone(), &command)));
                encode(&command, &mut bytes);
            }
        }
        if self.clients.iter().any(|client| client.kind == Kind::Keeper) {
            for key in self.vocabulary.texts() {
                waiting.push_back(Expectation::Truth(key.clone()));
                encode(&words(&format!("GET {key}")), &mut bytes);
            }
        }
        let line = &mut self.clients[auditor].lines[0];
        line.waiting = waiting;
        self.world.write(line.wire, &bytes);
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// `is_quiet`: nothing is on its way from one client to another.
    pub fn can_act(&self, client: usize, is_quiet: bool) -> bool {
        let client = &self.clients[client];
        if self.has_finished(client) {
            if matches!(client.kind, Kind::Listener | Kind::Keeper) && !(is_quiet && self.have_nothing_to_tell()) {
                return false;
            }
            // Who waits for data, and sends no more, counts as gone.
            let may_finish =
                |line: &Line| !line.finished && (client.kind != Kind::Transactor || line.waiting.is_empty());
            return client.lines.iter().any(may_finish);
        }
        // Writers and readers keep step: what nobody watches, and watching where nothing happens, finds no bug.
        let active = |kind: Kind| self.clients.iter().any(|client| client.kind == kind && client.rounds > 0);
        let unknown = self.unknown_items().len();
        match client.kind {
            Kind::Writer if unknown >= UNKNOWN_MAX && active(Kind::Reader) => return false,
            Kind::Reader if unknown == 0 && active(Kind::Writer) => return false,
            _ => {}
        }
        let waiting_max = if client.kind == Kind::Transactor { self.waiting_max } else { WAITING_MAX };
        client.lines.iter().map(|line| line.waiting.len()).sum::<usize>() < waiting_max
    }

    /// Nobody is there any more who could tell others of anything.
    fn have_nothing_to_tell(&self) -> bool {
        let tells = |client: &&Client| matches!(client.kind, Kind::Publisher | Kind::Transactor);
        self.clients.iter().filter(tells).all(|client| client.lines.is_empty())
    }

    fn has_finished(&self, client: &Client) -> bool {
        client.rounds == 0 && self.commands >= self.commands_min
    }

    pub fn are_done(&self) -> bool {
        self.clients.iter().all(|client| client.lines.is_empty())
    }

    pub fn describe_waiting(&self) -> String {
        let mut text = String::new();
        for (index, client) in self.clients.iter().enumerate() {
            for line in &client.lines {
                let (kind, missing, wire) = (client.kind, line.waiting.len(), line.wire);
                text += &format!("client {index} ({kind:?}) waits for {missing} replies on wire {wire}; ");
            }
        }
        text
    }

    /// The client sends a pipeline, goes away, or has finished.
    pub fn act(&mut self, index: usize, step: u64) {
        let has_finished = self.has_finished(&self.clients[index]);
        let client = &mut self.clients[index];
        if has_finished {
            let line = client.lines.iter_mut().find(|line| !line.finished).expect("it can act");
            line.finished = true;
            return self.world.finish(line.wire);
        }
        client.rounds = client.rounds.saturating_sub(1);
        let at = self.rng.below(client.lines.len() as u64) as usize;
        let depth = 1 + self.rng.below(self.depth_max);
        let mut bytes = Vec::new();
        match client.kind {
            Kind::Private => self.send_private(index, depth, &mut bytes),
            Kind::Register => self.send_registers(index, at, depth.min(REGISTER_DEPTH_MAX), step, &mut bytes),
            Kind::Writer => self.send_item(index, depth, &mut bytes),
            Kind::Reader => self.poll_flags(index, at, depth, &mut bytes),
            Kind::Transactor => self.send_transactions(index, depth.min(TRANSACTOR_DEPTH_MAX), &mut bytes),
            Kind::Publisher => self.publish(index, depth.min(TRANSACTOR_DEPTH_MAX), &mut bytes),
            Kind::Listener => self.subscribe(index, &mut bytes),
            Kind::Keeper => self.read_to_keep(index, depth.min(TRANSACTOR_DEPTH_MAX), &mut bytes),
            Kind::Auditor => unreachable!("it sends all at once"),
        }
        self.world.write(self.clients[index].lines[at].wire, &bytes);
        // Each unanswered write doubles the histories that have to be judged.
        let may_reset = match self.clients[index].kind {
            Kind::Register => self.clients[index].resets < REGISTER_RESETS_MAX,
            Kind::Transactor => self.clients.iter().map(|client| client.resets).sum::<u32>() < TRANSACTOR_RESETS_MAX,
            _ => true,
        };
        if may_reset && self.reset_one_in > 0 && self.rng.below(self.reset_one_in) == 0 {
            self.reset(index, at);
        }
    }

    /// The connection is cut; the client comes back with another one.
    fn reset(&mut self, index: usize, at: usize) {
        self.world.reset(self.clients[index].lines[at].wire);
        self.bulletin.was_reset(self.clients[index].lines[at].wire);
        let line = self.open(index);
        let client = &mut self.clients[index];
        self.owners.remove(&client.lines[at].wire);
        client.lines[at] = line;
        client.resets += 1;
        client.standing = Standing::default();
        client.kept.clear();
        if client.kind == Kind::Private {
            // Nobody knows how far the last pipeline came.
            client.prefix = format!("private{index}.{}", client.resets);
            client.map.clear();
            client.skips = false;
        }
    }

    fn send_private(&mut self, index: usize, depth: u64, bytes: &mut Vec<u8>) {
        for _ in 0..depth {
            let prefix = self.clients[index].prefix.clone();
            let mut key = || format!("{prefix}:{}", KEYS[self.rng.below(KEYS.len() as u64) as usize]);
            let (a, b, c) = (key(), key(), key());
            let value = match self.rng.below(3) {
                0 => self.rng.below(100).to_string(),
                1 => format!("{prefix}={}", self.rng.below(1000)),
                _ => "v".repeat(self.rng.below(200) as usize + 1),
            };
            if self.rng.below(24) == 0 && !self.clients[index].skips {
                self.clients[index].skips = true;
                encode(&words("CLIENT REPLY SKIP"), bytes);
            }
            let text = match self.rng.below(24) {
                0..5 => format!("GET {a}"),
                5..9 => format!("SET {a} {value}"),
                9 => format!("GETSET {a} {value}"),
                10 => format!("GETDEL {a}"),
                11 | 12 => format!("APPEND {a} x{value}"),
                13 => format!("INCR {a}"),
                14 => format!("DEL {a} {b}"),
                15 => format!("EXISTS {a} {b} {a}"),
                16 => format!("MGET {a} {b} {c}"),
                17 => format!("MSET {a} {value} {b} y{value}"),
                18 => format!("MSETNX {a} {value} {b} {value}"),
                19 => format!("RENAME {a} {b}"),
                20 => format!("RENAMENX {a} {b}"),
                21 if a != b => format!("COPY {a} {b}"),
                22 => "PING".to_string(),
                _ => format!("STRLEN {a}"),
            };
            let command = words(&text);
            let client = &mut self.clients[index];
            let reply = model::apply(&mut client.map, &command);
            if !std::mem::take(&mut client.skips) {
                client.lines[0].waiting.push_back(Expectation::Exactly(reply));
            }
            encode(&command, bytes);
        }
    }

    fn send_registers(&mut self, index: usize, at: usize, depth: u64, step: u64, bytes: &mut Vec<u8>) {
        for _ in 0..depth {
            self.next_token += 1;
            let token = self.next_token;
            let mut key = || REGISTERS[self.rng.below(REGISTERS.len() as u64) as usize];
            let (a, b) = (key(), key());
            let (text, parts) = match self.rng.below(12) {
                0..4 => (format!("GET {a}"), vec![]),
                4..7 => (format!("SET {a} {token}"), vec![]),
                7 => (format!("GETSET {a} {token}"), vec![]),
                8 => (format!("APPEND {a} ,{token}"), vec![]),
                9 => (format!("GETDEL {a}"), vec![]),
                // Over several shards these are not yet atomic, but each key's part is.
                10 if a != b => (format!("MGET {a} {b}"), vec![format!("GET {a}"), format!("GET {b}")]),
                11 if a != b => {
                    let parts = vec![format!("SET {a} {token}"), format!("SET {b} {token}")];
                    (format!("MSET {a} {token} {b} {token}"), parts)
                }
                _ => (format!("STRLEN {a}"), vec![]),
            };
            encode(&words(&text), bytes);
            let first = self.operations.len();
            let line = &mut self.clients[index].lines[at];
            for part in if parts.is_empty() { vec![text] } else { parts } {
                let words = words(&part);
                let key = words[1].clone();
                self.operations.push(Operation { key, words, connection: line.wire, sent: step, answer: None });
            }
            line.waiting.push_back(Expectation::Recorded((first..self.operations.len()).collect()));
        }
    }

    fn send_transactions(&mut self, index: usize, depth: u64, bytes: &mut Vec<u8>) {
        // One that only goes away, or waits for what it has sent.
        for _ in 0..self.rng.below(depth + 1) {
            self.vocabulary.now_ms = self.world.now_ms();
            let client = &mut self.clients[index];
            let Sent { words, answer } = self.vocabulary.next(&mut client.standing, &mut self.rng);
            self.commands += 1;
            let before = bytes.len();
            encode(&words, bytes);
            let line = &mut client.lines[0];
            line.sent_bytes += (bytes.len() - before) as u64;
            line.waiting.push_back(match answer {
                Answer::Exactly(reply) => Expectation::Exactly(reply.to_vec()),
                Answer::Of(call) => {
                    self.history.push(Called {
                        wire: line.wire,
                        call,
                        sent_bytes: line.sent_bytes,
                        answer: None,
                        is_refused: false,
                    });
                    Expectation::Called(self.history.len() - 1)
                }
                Answer::Any => Expectation::Any,
            });
        }
    }

    /// Data, then the flag that tells of it, in one write. Some reads before vary where in a batch they stand.
    fn send_item(&mut self, index: usize, depth: u64, bytes: &mut Vec<u8>) {
        // Names that differ in a digit lie on shards that differ in a pattern.
        let mut name = |kind: &str| format!("{kind}{:x}", self.rng.next_u64());
        let item = Item { data: [name("data"), name("data")], flag: name("flag"), known: false };
        let waiting = &mut self.clients[index].lines[0].waiting;
        for filler in 0..depth - 1 {
            encode(&words(&format!("GET absent{filler}")), bytes);
            waiting.push_back(Expectation::Exactly(b"$-1\r\n".to_vec()));
        }
        if self.rng.below(4) == 0 {
            encode(&words(&format!("MSET {} 1 {} 1", item.data[0], item.data[1])), bytes);
            waiting.push_back(Expectation::Exactly(b"+OK\r\n".to_vec()));
        } else {
            for key in &item.data {
                encode(&words(&format!("SET {key} 1")), bytes);
                waiting.push_back(Expectation::Exactly(b"+OK\r\n".to_vec()));
            }
        }
        encode(&words(&format!("SET {} 1", item.flag)), bytes);
        waiting.push_back(Expectation::Exactly(b"+OK\r\n".to_vec()));
        self.items.push(item);
    }

    fn unknown_items(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|&item| !self.items[item].known).collect()
    }

    fn poll_flags(&mut self, index: usize, at: usize, depth: u64, bytes: &mut Vec<u8>) {
        let unknown = self.unknown_items();
        let waiting = &mut self.clients[index].lines[at].waiting;
        for _ in 0..if unknown.is_empty() { 0 } else { depth } {
            let item = unknown[self.rng.below(unknown.len() as u64) as usize];
            encode(&words(&format!("GET {}", self.items[item].flag)), bytes);
            waiting.push_back(Expectation::Flag(item));
        }
    }

    /// Somebody has seen what tells of data, and tells all: it must be there for whoever asks from now on.
    fn look_for_data(&mut self, data: &[String; 2]) {
        let looks = |client: &&mut Client| matches!(client.kind, Kind::Reader | Kind::Listener);
        for reader in self.clients.iter_mut().filter(looks) {
            for line in reader.lines.iter_mut().filter(|line| !line.finished) {
                let mut bytes = Vec::new();
                for key in data {
                    encode(&words(&format!("GET {key}")), &mut bytes);
                    line.waiting.push_back(Expectation::Exactly(b"$1\r\n1\r\n".to_vec()));
                }
                line.sent_bytes += bytes.len() as u64;
                self.world.write(line.wire, &bytes);
            }
        }
    }

    /// Data, then messages that tell of it: in one pipeline, one transaction, one script.
    fn publish(&mut self, index: usize, depth: u64, bytes: &mut Vec<u8>) {
        for _ in 0..depth {
            let (number, channel) = (self.bulletin.publications.len(), news::channel(&mut self.rng));
            let mut name = || format!("data{:x}", self.rng.next_u64());
            let data = [name(), name()];
            let [a, b] = &data;
            let writes = [format!("SET {a} 1"), format!("SET {b} 1")];
            let publish = format!("PUBLISH {channel} {number}");
            let begin = bytes.len();
            let line = &mut self.clients[index].lines[0];
            let mut send = |command: &[Vec<u8>], expectation: Expectation| {
                encode(command, bytes);
                line.waiting.push_back(expectation);
            };
            match self.rng.below(4) {
                0 => {
                    send(&words("MULTI"), Expectation::Exactly(b"+OK\r\n".to_vec()));
                    for command in writes.iter().chain([&publish]) {
                        send(&words(command), Expectation::Exactly(b"+QUEUED\r\n".to_vec()));
                    }
                    send(&words("EXEC"), Expectation::Receivers(number));
                }
                1 => {
                    let script = b"redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1)
                        return redis.call('PUBLISH', ARGV[1], ARGV[2])";
                    let mut call = vec![b"EVAL".to_vec(), script.to_vec()];
                    call.extend(words(&format!("2 {a} {b} {channel} {number}")));
                    send(&call, Expectation::Receivers(number));
                }
                _ => {
                    for command in &writes {
                        send(&words(command), Expectation::Exactly(b"+OK\r\n".to_vec()));
                    }
                    send(&words(&publish), Expectation::Receivers(number));
                }
            }
            line.sent_bytes += (bytes.len() - begin) as u64;
            let (wire, sent_bytes) = (line.wire, line.sent_bytes);
            self.bulletin.publications.push(Publication { channel, data, wire, sent_bytes, answer: None });
        }
    }

    fn subscribe(&mut self, index: usize, bytes: &mut Vec<u8>) {
        let line = &mut self.clients[index].lines[0];
        let wish = self.bulletin.wish(line.wire, &mut self.rng);
        encode(&words(&wish.command()), bytes);
        line.sent_bytes += bytes.len() as u64;
        line.waiting.push_back(Expectation::Confirmation(wish));
        self.bulletin.sent(line.wire, wish, line.sent_bytes);
    }

    fn read_to_keep(&mut self, index: usize, depth: u64, bytes: &mut Vec<u8>) {
        for _ in 0..depth {
            let mut key = || self.vocabulary.any_text(&mut self.rng);
            let keys = vec![key(), key()];
            let (command, keys) = match self.rng.below(4) {
                0 => (words(&format!("MGET {} {}", keys[0], keys[1])), keys),
                1 => {
                    let script = b"return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}".to_vec();
                    let mut call = vec![b"EVAL".to_vec(), script];
                    call.extend(words(&format!("2 {} {}", keys[0], keys[1])));
                    (call, keys)
                }
                _ => (words(&format!("GET {}", keys[0])), keys[..1].to_vec()),
            };
            encode(&command, bytes);
            self.clients[index].lines[0].waiting.push_back(Expectation::Kept(keys));
        }
    }

    /// Bytes of the server's.
    pub fn receive(&mut self, wire: WireId, bytes: &[u8], step: u64) -> Result<(), String> {
        let Some(&index) = self.owners.get(&wire) else { return Ok(()) };
        let client = &mut self.clients[index];
        let kind = client.kind;
        let line = client.lines.iter_mut().find(|line| line.wire == wire).expect("its owner has it");
        line.unread.extend_from_slice(bytes);
        let (mut learned, mut truths) = (Vec::new(), Vec::new());
        while let Some(length) = model::reply_length(&line.unread) {
            let reply: Vec<u8> = line.unread.drain(..length).collect();
            line.read_bytes += length as u64;
            let text = String::from_utf8_lossy(&reply).into_owned();
            let push = reply.starts_with(b">").then(|| news::push_parts(&reply));
            if let (Some(parts), Kind::Keeper) = (&push, kind) {
                client.kept.retain(|key, _| !is_invalidated(key, parts));
                continue;
            }
            if let Some(parts) = &push {
                let next = line.waiting.front();
                let is_told = |expectation| match expectation {
                    &Expectation::Confirmation(wish) => !wish.is_confirmed_by(parts),
                    _ => true,
                };
                if next.is_none_or(is_told) {
                    let number = self.bulletin.hears(wire, parts)?;
                    learned.push(self.bulletin.publications[number].data.clone());
                    continue;
                }
            }
            let Some(expectation) = line.waiting.pop_front() else {
                return Err(format!("client {index} ({kind:?}) gets {text:?}, for which it did not ask"));
            };
            let is_refused = reply.starts_with(b"-MISCONF ") || reply.starts_with(b"-EXECABORT ");
            match expectation {
                Expectation::Any => {}
                Expectation::Exactly(wanted) if wanted == reply => {}
                // The disk did not take what was to be written.
                Expectation::Exactly(_) if is_refused && self.may_refuse => {}
                Expectation::Called(at) if is_refused && self.may_refuse => self.history[at].is_refused = true,
                Expectation::Exactly(wanted) => {
                    let wanted = String::from_utf8_lossy(&wanted);
                    return Err(format!("client {index} ({kind:?}) wants {wanted:?} and gets {text:?}"));
                }
                Expectation::Called(at) => {
                    let called = &mut self.history[at];
                    called.answer = Some((line.read_bytes, store::normal(&called.call, reply)));
                }
                Expectation::Flag(item) => {
                    if reply != b"$-1\r\n" && !std::mem::replace(&mut self.items[item].known, true) {
                        learned.push(self.items[item].data.clone());
                    }
                }
                Expectation::Receivers(number) => {
                    let last = reply.rsplit(|&byte| byte == b':').next().and_then(|last| last.strip_suffix(b"\r\n"));
                    let receivers = last.and_then(|last| std::str::from_utf8(last).ok()?.parse().ok());
                    let receivers = receivers.ok_or_else(|| format!("a publisher is answered {text:?}"))?;
                    self.bulletin.publications[number].answer = Some((line.read_bytes, receivers));
                }
                Expectation::Confirmation(wish) if push.is_some() => {
                    self.bulletin.confirmed(wire, wish, line.read_bytes)
                }
                Expectation::Confirmation(wish) => return Err(format!("instead of {wish:?} comes {text:?}")),
                Expectation::Kept(keys) => {
                    let elements = peristyle::resp::skip::elements(&reply);
                    let mut elements = elements.into_iter().flatten();
                    for key in keys {
                        client.kept.insert(key, elements.next().unwrap_or(&reply).to_vec());
                    }
                }
                Expectation::Truth(key) => truths.push((key, reply)),
                Expectation::Recorded(operations) => {
                    let elements = reply.starts_with(b"*").then(|| peristyle::resp::skip::elements(&reply)).flatten();
                    let mut elements = elements.into_iter().flatten();
                    for operation in operations {
                        let answer = elements.next().unwrap_or(&reply).to_vec();
                        self.operations[operation].answer = Some((step, answer));
                    }
                }
            }
        }
        learned.iter().for_each(|data| self.look_for_data(data));
        truths.iter().try_for_each(|(key, value)| self.check_kept(key, value))
    }

    /// Whoever keeps this key keeps what it holds, now that nothing happens any more.
    fn check_kept(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let value = if value == b"$-1\r\n" { b"_\r\n" } else { value };
        match self.clients.iter().position(|client| client.kept.get(key).is_some_and(|kept| kept != value)) {
            Some(client) => {
                let [kept, value] =
                    [&self.clients[client].kept[key], value].map(|text| text.escape_ascii().to_string());
                Err(format!("client {client} keeps {kept} for {key}, which holds {value}"))
            }
            None => Ok(()),
        }
    }

    /// The server has ended a connection.
    pub fn closed(&mut self, wire: WireId) -> Result<(), String> {
        let Some(index) = self.owners.remove(&wire) else { return Ok(()) };
        let client = &mut self.clients[index];
        let at = client.lines.iter().position(|line| line.wire == wire).expect("its owner has it");
        let line = client.lines.swap_remove(at);
        if !line.finished || !line.waiting.is_empty() || !line.unread.is_empty() {
            let missing = line.waiting.len();
            return Err(format!("client {index} ({:?}) loses its connection, {missing} replies missing", client.kind));
        }
        Ok(())
    }

    pub fn check_histories(&self) -> Result<(), String> {
        check::linearizable(&self.operations)?;
        self.bulletin.check(&self.world)?;
        history::serializable(&self.transactions(), self.states_max)
    }

    pub fn describe_history(&self) -> String {
        history::describe(&self.transactions(), u64::MAX)
    }

    /// What arrived of transactors' calls. No server knows how long bytes are under way: were that no time at all, the
    /// same would have happened. So a call begins when the server has it, and ends when the reply leaves.
    pub fn transactions(&self) -> Vec<history::Operation> {
        // When a connection's last call was over, so that the next could begin.
        let mut free: HashMap<WireId, u64> = HashMap::new();
        let operation = |called: &Called| {
            let sent = self.world.arrived_at(called.wire, called.sent_bytes)?;
            let answer = called.answer.as_ref().map(|(bytes, reply)| {
                let step = self.world.emitted_at(called.wire, *bytes).expect("it was received");
                (step, reply.clone())
            });
            let end = answer.as_ref().map_or(u64::MAX, |(end, _)| *end);
            let begun = free.insert(called.wire, end).map_or(sent, |before| before.max(sent));
            let (connection, call) = (called.wire, called.call.clone());
            let (mut earliest, mut waits) = (sent, None);
            if let (Some(timeout_ns), Call::Command(words)) = (transact::timeout_ns(&call), &call) {
                let in_vain = answer.as_ref().is_some_and(|(_, reply): &(u64, Vec<u8>)| reply[1..] == *b"-1\r\n");
                if in_vain {
                    earliest = self.world.quiet_step_after(sent, timeout_ns).unwrap_or(sent);
                }
                if let [name, key, _] = &words[..]
                    && store::is_blocking_pop(name)
                {
                    let [sent, begun] = [sent, begun].map(|step| self.world.quiet_before(step));
                    waits = Some(history::Wait::new(key.clone(), sent, begun));
                }
            }
            let plain = self.vocabulary.plain_keys(&call);
            Some(history::Operation { connection, plain, call, sent, earliest, waits, answer })
        };
        let mut operations: Vec<history::Operation> =
            self.history.iter().filter(|called| !called.is_refused).filter_map(operation).collect();
        operations.extend(self.expiries(&operations));
        operations.sort_by_key(|operation| operation.sent);
        history::note_fetchers(&mut operations);
        operations
    }

    /// Time passes, at each key by itself: no earlier than on the first shard, and no later than on the key's own.
    fn expiries(&self, operations: &[history::Operation]) -> Vec<history::Operation> {
        let deadlines = operations.iter().flat_map(|operation| store::deadlines_of(&operation.call));
        let pairs = deadlines.flat_map(|at| self.vocabulary.texts().iter().map(move |key| (key, at)));
        let expiry = |(connection, (key, at)): (usize, (&String, u64))| {
            let sent = self.world.passed_at(None, at)? - 1;
            let end = self.world.passed_at(Some(self.vocabulary.shard_of(key)), at);
            Some(history::Operation {
                connection,
                call: Call::Expire(key.as_bytes().to_vec(), at),
                plain: None,
                sent,
                earliest: sent,
                waits: None,
                answer: end.map(|end| (end, b"+OK\r\n".to_vec())),
            })
        };
        (usize::MAX / 2..).zip(pairs).filter_map(expiry).collect()
    }
}
