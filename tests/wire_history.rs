//! Histories of the real server over sockets: is there one order of all that its clients called that explains each reply?
//!
//! Clients of four shards send what the simulation's transactors send (`tests/sim`: commands over shards, MULTI with EXEC,
//! WATCH, clients that wait for lists), in pipelines, and scripts besides; some go away without reading. When each call was
//! sent and answered is told by one counter for all, and the simulation's checker judges the history of each round.
//! `PERISTYLE_ROUNDS=10000 cargo test --release --test wire_history` makes more of them.

mod common;

// They belong to the simulation, and not all of them is of use here.
#[allow(dead_code)]
#[path = "sim/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "sim/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "sim/script.rs"]
mod script;
#[allow(dead_code)]
#[path = "sim/store.rs"]
mod store;
#[allow(dead_code)]
#[path = "sim/transact.rs"]
mod transact;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;

use common::{Server, request};
use history::Operation;
use peristyle::base::rng::Rng;
use store::{Call, Word};
use transact::{Answer, Focus, Standing, Vocabulary};

const SHARDS: usize = 4;
const CLIENTS: usize = 8;
/// Pipelines of each client in a round.
const PIPELINES: usize = 8;
const DEPTH_MAX: u64 = 3;
const STATES_MAX: usize = 200_000;
const NO_PANIC: &str = "nothing panics while it holds the vocabulary";

/// How a script is sent, which counts as one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scripts {
    Whole,
    /// Command by command: others come between, which the checker must not miss.
    Torn,
}

#[test]
fn whatever_clients_call_has_one_order() {
    let server = Server::start(SHARDS);
    let mut tangled = 0;
    let rounds = std::env::var("PERISTYLE_ROUNDS").map_or(400, |text| text.parse().expect("a number of rounds"));
    for round in 0..rounds {
        let focus = [Focus::Everything, Focus::Watches, Focus::Moves, Focus::Waits, Focus::Scripts][round % 5];
        match run(&server, focus, round as u64, Scripts::Whole) {
            Ok(()) => {}
            Err(text) if text.starts_with(history::TANGLED) => tangled += 1,
            Err(text) => panic!("round {round}, {focus:?}: {text}"),
        }
    }
    eprintln!("{rounds} histories, {tangled} of them too tangled to be judged");
    assert!(tangled < rounds / 10, "{tangled} of {rounds} histories were too tangled to be judged");
}

#[test]
fn scripts_that_are_torn_are_found() {
    let server = Server::start(SHARDS);
    let found = (0..400).any(|round| {
        let result = run(&server, Focus::Moves, round, Scripts::Torn);
        result.is_err_and(|text| !text.starts_with(history::TANGLED))
    });
    assert!(found, "commands of one script were seen by halves, and nobody noticed");
}

/// One history, and what the checker says of it.
fn run(server: &Server, focus: Focus, seed: u64, scripts: Scripts) -> Result<(), String> {
    let moment = AtomicU64::new(1);
    let begin = Barrier::new(CLIENTS);
    // What one writes nobody else does.
    let vocabulary = Mutex::new(Vocabulary::new(SHARDS, focus, 0));
    let mut operations: Vec<Operation> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let stream = server.client().stream;
                let (moment, begin, vocabulary) = (&moment, &begin, &vocabulary);
                scope.spawn(move || {
                    let mut client = Client {
                        number,
                        stream,
                        moment,
                        rng: Rng::new(seed * CLIENTS as u64 + number as u64),
                        vocabulary,
                        standing: Standing::default(),
                        operations: Vec::new(),
                        scripts,
                    };
                    begin.wait();
                    client.work();
                    client.operations
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("it was answered")).collect()
    });
    operations.sort_by_key(|operation| operation.sent);
    clean_up(server);
    history::serializable(&operations, STATES_MAX)
}

/// Who went away may still have something on its way: until nobody knows of it any more.
fn clean_up(server: &Server) {
    let mut admin = server.redis();
    common::eventually("the clients are gone", || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        list.lines().count() == 1
    });
    let () = redis::cmd("FLUSHALL").query(&mut admin).unwrap();
}

struct Client<'r> {
    number: usize,
    stream: TcpStream,
    /// Comes after all that it was read before.
    moment: &'r AtomicU64,
    rng: Rng,
    vocabulary: &'r Mutex<Vocabulary>,
    standing: Standing,
    operations: Vec<Operation>,
    scripts: Scripts,
}

impl Client<'_> {
    fn work(&mut self) {
        // Every other one watches nothing, and calls scripts: these leave alone what is watched, EXEC does not.
        let has_scripts = self.number % 2 == 1;
        let dies = self.number == 0 && self.rng.below(2) == 0;
        for pipeline in 0..PIPELINES {
            if has_scripts && self.rng.below(2) == 0 {
                self.call_script();
                continue;
            }
            let depth = 1 + self.rng.below(DEPTH_MAX);
            let sent: Vec<(Vec<Word>, Option<Call>)> =
                (0..depth).map(|_| if has_scripts { self.plain() } else { self.any() }).collect();
            let last = pipeline + 1 == PIPELINES;
            if last && dies {
                self.send(sent);
                return;
            }
            let begin = self.operations.len();
            let expected: VecDeque<Option<Call>> = sent.iter().map(|(_, call)| call.clone()).collect();
            self.send(sent);
            self.receive(expected, begin);
        }
    }

    /// What comes next, and what is recorded of it.
    fn any(&mut self) -> (Vec<Word>, Option<Call>) {
        let sent = self.vocabulary.lock().expect(NO_PANIC).next(&mut self.standing, &mut self.rng);
        match sent.answer {
            Answer::Exactly(_) | Answer::Any => (in_short(sent.words), None),
            Answer::Of(Call::Command(words)) => (in_short(sent.words), Some(Call::Command(in_short(words)))),
            Answer::Of(Call::Exec(commands)) => {
                (sent.words, Some(Call::Exec(commands.into_iter().map(in_short).collect())))
            }
            Answer::Of(call @ (Call::Forget | Call::Whole | Call::Expire(..))) => (sent.words, Some(call)),
        }
    }

    /// A command outside MULTI, of one that watches nothing.
    fn plain(&mut self) -> (Vec<Word>, Option<Call>) {
        loop {
            let sent = self.vocabulary.lock().expect(NO_PANIC).next(&mut Standing::default(), &mut self.rng);
            match sent.answer {
                Answer::Of(Call::Command(words)) if words[0] != b"WATCH" => {
                    return (in_short(sent.words), Some(Call::Command(in_short(words))));
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, commands: Vec<(Vec<Word>, Option<Call>)>) {
        let bytes: Vec<u8> = commands.iter().flat_map(|(words, _)| request(words)).collect();
        for call in commands.into_iter().filter_map(|(_, call)| call) {
            self.begin(call);
        }
        self.stream.write_all(&bytes).expect("the server reads");
    }

    fn begin(&mut self, call: Call) {
        let sent = self.moment.fetch_add(1, SeqCst);
        let plain = self.vocabulary.lock().expect(NO_PANIC).plain_keys(&call);
        let connection = self.number;
        self.operations.push(Operation { connection, call, plain, sent, earliest: sent, waits: None, answer: None });
    }

    /// The replies to a pipeline whose first operation is at `begin`.
    fn receive(&mut self, expected: VecDeque<Option<Call>>, begin: usize) {
        let mut place = begin;
        for call in expected {
            let reply = self.reply();
            let Some(call) = call else {
                assert!(reply == b"+OK\r\n" || reply == b"+QUEUED\r\n", "{}", reply.escape_ascii());
                continue;
            };
            let end = self.moment.fetch_add(1, SeqCst);
            self.operations[place].answer = Some((end, store::normal(&call, reply)));
            place += 1;
        }
    }

    /// A few commands, of keys that are declared or not, counted as one call.
    fn call_script(&mut self) {
        let commands: Vec<Vec<Word>> = (0..2 + self.rng.below(3))
            .map(|_| {
                loop {
                    let (words, _) = self.plain();
                    // What waits is answered with another kind of nothing in a script than in an EXEC. No script calls another.
                    if !words[0].starts_with(b"B") && !script::is_script(&words) {
                        break words;
                    }
                }
            })
            .collect();
        let call = Call::Exec(commands.clone());
        let place = self.operations.len();
        self.begin(call.clone());
        let reply = match self.scripts {
            Scripts::Whole => {
                let declares = self.rng.below(2) == 0;
                self.stream.write_all(&request(&script_of(&commands, declares))).expect("the server reads");
                self.reply()
            }
            Scripts::Torn => {
                let mut reply = format!("*{}\r\n", commands.len()).into_bytes();
                for words in &commands {
                    self.stream.write_all(&request(words)).expect("the server reads");
                    reply.extend(self.reply());
                }
                reply
            }
        };
        let end = self.moment.fetch_add(1, SeqCst);
        self.operations[place].answer = Some((end, store::normal(&call, reply)));
    }

    fn reply(&mut self) -> Vec<u8> {
        let mut reply = self.line();
        let length = || std::str::from_utf8(&reply[1..reply.len() - 2]).ok().and_then(|text| text.parse::<i64>().ok());
        match reply[0] {
            b'$' => {
                let length = length().expect("a length");
                if length >= 0 {
                    let from = reply.len();
                    reply.resize(from + length as usize + 2, 0);
                    self.stream.read_exact(&mut reply[from..]).expect("the server replies");
                }
            }
            b'*' => {
                for _ in 0..length().expect("a length") {
                    let element = self.reply();
                    reply.extend(element);
                }
            }
            _ => {}
        }
        reply
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).expect("the server replies");
            line.push(byte[0]);
        }
        line
    }
}

/// In the simulation, time passes as it likes.
fn in_short(mut words: Vec<Word>) -> Vec<Word> {
    if words[0].starts_with(b"BL") || words[0] == b"BRPOP" {
        let timeout = words.last_mut().expect("it has a timeout");
        if timeout == b"1000" {
            *timeout = b"0.02".to_vec();
        }
    }
    words
}

/// EVAL of a script that makes these calls and returns their replies.
fn script_of(commands: &[Vec<Word>], declares: bool) -> Vec<Word> {
    let is_key = |word: &Word| word.len() == 3 && b"tls".contains(&word[0]) && word[1..].iter().all(u8::is_ascii_digit);
    let mut keys: Vec<&Word> = Vec::new();
    let mut body = "local replies = {} ".to_string();
    for (number, words) in commands.iter().enumerate() {
        let arguments: Vec<String> = words
            .iter()
            .map(|word| match declares && is_key(word) {
                true => {
                    let place = keys.iter().position(|key| *key == word).unwrap_or(keys.len());
                    if place == keys.len() {
                        keys.push(word);
                    }
                    format!("KEYS[{}]", place + 1)
                }
                false => format!("'{}'", String::from_utf8_lossy(word)),
            })
            .collect();
        body += &format!("replies[{}] = redis.pcall({}) ", number + 1, arguments.join(", "));
    }
    body += "return replies";
    let head = ["EVAL".to_string(), body, keys.len().to_string()];
    head.iter().map(|word| word.as_bytes().to_vec()).chain(keys.into_iter().cloned()).collect()
}
