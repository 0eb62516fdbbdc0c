//! What clients of transactions send: commands whose keys lie on any shards, MULTI with EXEC or DISCARD, WATCH. They share
//! few keys, and record histories for [`crate::history`].

use std::collections::BTreeSet;

use peristyle::base::ids::ShardId;
use peristyle::base::rng::Rng;
use peristyle::keyspace::slots::SlotMap;

use crate::script::{SCRIPTS, is_script};
use crate::store::{Call, Word, is_blocking_pop};

/// Where a connection stands.
#[derive(Default)]
pub struct Standing {
    /// Commands since MULTI.
    queue: Option<Vec<Vec<Word>>>,
    watches: bool,
}

/// One command as it is sent, and what its reply is.
pub struct Sent {
    pub words: Vec<Word>,
    pub answer: Answer,
}

pub enum Answer {
    Exactly(&'static [u8]),
    /// The reply belongs into the history.
    Of(Call),
    /// Whatever it is.
    Any,
}

/// What transactors mostly do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Everything,
    /// WATCH one key, change another.
    Watches,
    /// Commands that compute from several shards, and writes that come between.
    Moves,
    /// Clients that wait for lists to have something.
    Waits,
    /// Scripts of all kinds, many of them in a row on keys of one shard.
    Scripts,
    /// Scripts that declare one of their keys, which is on one and the same shard, as the others are for the most part; and
    /// little else.
    Leases,
    /// Texts that expire.
    Expiries,
    /// What changes much, on several shards and everywhere; and the append-only file is written anew.
    Lasting,
}

pub struct Vocabulary {
    focus: Focus,
    slots: SlotMap,
    texts: Vec<String>,
    lists: Vec<String>,
    sets: Vec<String>,
    next_token: u64,
    streak: Streak,
    /// What time it is, for keys that expire.
    pub now_ms: u64,
    deadlines: BTreeSet<u64>,
}

/// What all clients together are at, by turns: mostly scripts, or mostly something else.
#[derive(Default)]
struct Streak {
    of_scripts: bool,
    /// Where most of the keys lie.
    home: ShardId,
    /// Commands until the next.
    left: u64,
}

const KEYS_OF_A_KIND: usize = 3;
const STREAK_MAX: u64 = 16;
/// How long keys live that expire, at most.
const LIFE_MS_MAX: u64 = 150;
/// Kinds of commands, as often as they are wanted.
const LASTING: [u64; 28] =
    [0, 4, 4, 4, 7, 7, 8, 13, 13, 13, 13, 18, 20, 22, 23, 25, 28, 28, 30, 31, 33, 33, 36, 36, 38, 40, 43, 54];
const EXPIRING: [u64; 22] = [0, 0, 4, 7, 8, 8, 13, 18, 20, 20, 22, 23, 27, 60, 60, 60, 60, 61, 61, 62, 63, 63];
/// The same beside scripts.
const SCRIPTED: [u64; 24] = [0, 0, 4, 4, 7, 8, 8, 13, 13, 18, 20, 23, 28, 30, 31, 33, 33, 36, 40, 44, 50, 51, 52, 45];

impl Vocabulary {
    pub fn new(shards: usize, focus: Focus, next_token: u64) -> Vocabulary {
        let slots = SlotMap::contiguous(shards);
        // Of each kind, the names lie on as many shards as there are.
        let count = if matches!(focus, Focus::Scripts | Focus::Leases) { 2 * shards } else { KEYS_OF_A_KIND };
        let names = |kind: char, first: usize| {
            let mut names: Vec<String> = Vec::new();
            for place in 0..count {
                let shard = (first + place) % shards;
                let mut candidates = (10..100).map(|number| format!("{kind}{number}"));
                let name = candidates.find(|name| slots.shard_of(name.as_bytes()) == shard && !names.contains(name));
                names.push(name.expect("ninety names reach every shard"));
            }
            names
        };
        let (texts, lists, sets) = (names('t', 0), names('l', 1), names('s', 2));
        let (streak, deadlines) = (Streak::default(), BTreeSet::new());
        Vocabulary { focus, slots, texts, lists, sets, next_token, streak, now_ms: 0, deadlines }
    }

    /// The next command of a connection.
    pub fn next(&mut self, standing: &mut Standing, rng: &mut Rng) -> Sent {
        if standing.queue.is_some() {
            return self.next_in_multi(standing, rng);
        }
        if self.focus == Focus::Lasting {
            return match rng.below(30) {
                0 => Sent { words: words("BGREWRITEAOF"), answer: Answer::Any },
                1..6 => {
                    standing.queue = Some(Vec::new());
                    Sent { words: words("MULTI"), answer: Answer::Exactly(b"+OK\r\n") }
                }
                _ => recorded(self.command(rng)),
            };
        }
        let draw = rng.below(match self.focus {
            Focus::Watches => 8,
            Focus::Scripts if self.streak.of_scripts => 60,
            Focus::Leases => 200,
            _ => 20,
        });
        match draw {
            0..3 => {
                standing.queue = Some(Vec::new());
                Sent { words: words("MULTI"), answer: Answer::Exactly(b"+OK\r\n") }
            }
            // What is watched wants an EXEC behind it.
            3..7 if standing.watches => {
                standing.queue = Some(Vec::new());
                Sent { words: words("MULTI"), answer: Answer::Exactly(b"+OK\r\n") }
            }
            3..6 => {
                standing.watches = true;
                let (a, b) = (self.any_key(rng), self.any_key(rng));
                recorded(words(&if rng.below(2) == 0 { format!("WATCH {a}") } else { format!("WATCH {a} {b}") }))
            }
            6 if rng.below(4) == 0 => {
                standing.watches = false;
                Sent { words: words("UNWATCH"), answer: Answer::Of(Call::Forget) }
            }
            _ => recorded(self.command(rng)),
        }
    }

    fn next_in_multi(&mut self, standing: &mut Standing, rng: &mut Rng) -> Sent {
        let queue = standing.queue.as_mut().expect("checked by the caller");
        let length = queue.len() as u64;
        if length > rng.below(5) {
            let commands = std::mem::take(queue);
            *standing = Standing::default();
            if rng.below(8) == 0 {
                return Sent { words: words("DISCARD"), answer: Answer::Of(Call::Forget) };
            }
            return Sent { words: words("EXEC"), answer: Answer::Of(Call::Exec(commands)) };
        }
        let words = self.command(rng);
        queue.push(words.clone());
        Sent { words, answer: Answer::Exactly(b"+QUEUED\r\n") }
    }

    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    pub fn shard_of(&self, key: &str) -> ShardId {
        self.slots.shard_of(key.as_bytes())
    }

    pub fn any_text(&self, rng: &mut Rng) -> String {
        one_of(&self.texts, rng).to_string()
    }

    fn any_key(&self, rng: &mut Rng) -> &str {
        match rng.below(4) {
            0..2 => one_of(&self.texts, rng),
            2 => one_of(&self.lists, rng),
            _ => one_of(&self.sets, rng),
        }
    }

    fn script(&mut self, rng: &mut Rng) -> Vec<Word> {
        let mut script = &SCRIPTS[rng.below(SCRIPTS.len() as u64) as usize];
        // What counts keys counts those that are due, too.
        while self.focus == Focus::Expiries && script.counts_keys() {
            script = &SCRIPTS[rng.below(SCRIPTS.len() as u64) as usize];
        }
        let leases = self.focus == Focus::Leases;
        let (at_home, mut is_first) = (leases || rng.below(4) > 0, true);
        let mut key = |kind: char| {
            let names = match kind {
                't' => &self.texts,
                'l' => &self.lists,
                _ => &self.sets,
            };
            loop {
                let name = one_of(names, rng);
                let strays = rng.below(16) == 0 && !(leases && is_first);
                if !at_home || self.slots.shard_of(name.as_bytes()) == self.streak.home || strays {
                    is_first = false;
                    return name.to_string();
                }
            }
        };
        let keys: Vec<String> = script.keys.chars().map(&mut key).collect();
        let declared = match rng.below(8) {
            _ if leases => 1,
            0..3 => keys.len(),
            3 => 1,
            _ => 0,
        };
        script.call(&keys, declared, self.next_token, rng)
    }

    /// The next command is to be a script.
    fn goes_on_with_scripts(&mut self, rng: &mut Rng) -> bool {
        let streak = &mut self.streak;
        if streak.left == 0 {
            let home = rng.below(self.slots.shards() as u64) as usize;
            *streak = Streak { of_scripts: !streak.of_scripts, home, left: 1 + rng.below(STREAK_MAX) };
        }
        streak.left -= 1;
        rng.below(8) < if streak.of_scripts { 7 } else { 1 }
    }

    /// One that no other key has, in an odd millisecond.
    fn deadline(&mut self, rng: &mut Rng) -> u64 {
        if self.focus != Focus::Expiries {
            return 0;
        }
        let mut at = (self.now_ms + rng.below(LIFE_MS_MAX)) | 1;
        while !self.deadlines.insert(at) {
            at += 2;
        }
        at
    }

    fn command(&mut self, rng: &mut Rng) -> Vec<Word> {
        self.next_token += 1;
        if self.focus == Focus::Scripts && self.goes_on_with_scripts(rng) {
            return self.script(rng);
        }
        if self.focus == Focus::Leases && rng.below(8) < 6 {
            return self.script(rng);
        }
        if self.focus == Focus::Expiries && rng.below(6) == 0 {
            return self.script(rng);
        }
        let (token, deadline) = (self.next_token, self.deadline(rng));
        let (a, b, c) = (one_of(&self.texts, rng), one_of(&self.texts, rng), one_of(&self.texts, rng));
        let (from, to) = (one_of(&self.lists, rng), one_of(&self.lists, rng));
        let (s, t, u) = (one_of(&self.sets, rng), one_of(&self.sets, rng), one_of(&self.sets, rng));
        let side = |rng: &mut Rng| ["LEFT", "RIGHT"][rng.below(2) as usize];
        let member = ["x", "y", "z"][rng.below(3) as usize];
        let kind = match self.focus {
            Focus::Everything => rng.below(48),
            Focus::Scripts => SCRIPTED[rng.below(SCRIPTED.len() as u64) as usize],
            Focus::Leases => [0, 4, 4, 7, 13][rng.below(5) as usize],
            Focus::Expiries => EXPIRING[rng.below(EXPIRING.len() as u64) as usize],
            Focus::Lasting => LASTING[rng.below(LASTING.len() as u64) as usize],
            Focus::Watches => [0, 4, 7, 13, 22][rng.below(5) as usize],
            Focus::Waits => [28, 28, 30, 31, 33, 50, 50, 51, 51, 52, 53, 44, 25, 32][rng.below(14) as usize],
            Focus::Moves => [0, 0, 4, 7, 8, 8, 20, 20, 28, 32, 33, 33][rng.below(12) as usize],
        };
        let text = match kind {
            0..4 => format!("GET {a}"),
            4..7 => format!("SET {a} {token}"),
            7 => format!("APPEND {a} ,{token}"),
            8..13 => format!("MGET {a} {b} {c}"),
            13..18 => format!("MSET {a} {token} {b} {token}"),
            18 | 19 => format!("MSETNX {a} {token} {b} {token}"),
            20 | 21 => format!("RENAME {a} {b}"),
            22 if a != b => format!("COPY {a} {b}"),
            22..25 => format!("DEL {a} {b}"),
            25 => format!("DEL {a} {from}"),
            26 => format!("EXISTS {a} {from} {s}"),
            27 => format!("EXISTS {a} {b} {a}"),
            28 | 29 => format!("RPUSH {from} {token}"),
            30 => format!("LPUSH {from} {token}"),
            31 => format!("LPOP {from}"),
            32 => format!("LLEN {from}"),
            33..36 => format!("LMOVE {from} {to} {} {}", side(rng), side(rng)),
            36 | 37 => format!("SADD {s} {member}"),
            38 => format!("SREM {s} {member}"),
            39 => format!("SCARD {s}"),
            40..42 => format!("SMOVE {s} {t} {member}"),
            42 => format!("SINTERSTORE {s} {t} {u}"),
            43 => format!("SUNIONSTORE {s} {t} {u}"),
            50 => format!("BLPOP {from} {}", timeout(rng)),
            51 => format!("{} {from} {to} {}", ["BLPOP", "BRPOP"][rng.below(2) as usize], timeout(rng)),
            52 => format!("BLMOVE {from} {to} {} {} {}", side(rng), side(rng), timeout(rng)),
            60 => format!("SET {a} {token} PXAT {deadline}"),
            61 => format!("PEXPIREAT {a} {deadline}"),
            62 => format!("PERSIST {a}"),
            63 => format!("PEXPIRETIME {a}"),
            53 => format!("RPUSH {from} {token} {token}b"),
            54 => ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"][rng.below(3) as usize].to_string(),
            44 => "DBSIZE".to_string(),
            45 => "KEYS *".to_string(),
            46 if rng.below(3) == 0 => "FLUSHDB".to_string(),
            46 if rng.below(2) == 0 => "SWAPDB 0 1".to_string(),
            46 => format!("RENAME {from} {to}"),
            _ => format!("MGET {a} {b}"),
        };
        words(&text)
    }

    /// The keys of what is plain access to one shard, or to none.
    pub fn plain_keys(&self, call: &Call) -> Option<Vec<Word>> {
        let words = match call {
            Call::Command(words) => words,
            // What its connection alone knows of keeps nothing in order.
            Call::Forget => return Some(Vec::new()),
            Call::Exec(_) | Call::Whole | Call::Expire(..) => return None,
        };
        let named = |name: &String, word: &Word| name.as_bytes() == word;
        let is_key = |word: &&Word| {
            [&self.texts, &self.lists, &self.sets].iter().any(|names| names.iter().any(|name| named(name, word)))
        };
        let keys: Vec<Word> = words[1..].iter().filter(is_key).cloned().collect();
        let first = self.slots.shard_of(keys.first()?);
        let alone = words[0] != b"WATCH"
            && !is_script(words)
            && timeout_ns(call).is_none()
            && keys.iter().all(|key| self.slots.shard_of(key) == first);
        alone.then_some(keys)
    }
}

/// In seconds: one that may run out at any time, or only when nothing else is left to happen.
fn timeout(rng: &mut Rng) -> &'static str {
    ["0.001", "1000"][rng.below(2) as usize]
}

/// How long a call waits at most.
pub fn timeout_ns(call: &Call) -> Option<u64> {
    let Call::Command(words) = call else { return None };
    let waits = words[0] == b"BLMOVE" || is_blocking_pop(&words[0]);
    let seconds: f64 = std::str::from_utf8(words.last().filter(|_| waits)?).ok()?.parse().ok()?;
    Some((seconds * 1e9) as u64)
}

fn one_of<'n>(names: &'n [String], rng: &mut Rng) -> &'n str {
    &names[rng.below(names.len() as u64) as usize]
}

pub fn words(text: &str) -> Vec<Word> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn recorded(words: Vec<Word>) -> Sent {
    Sent { words: words.clone(), answer: Answer::Of(Call::Command(words)) }
}
