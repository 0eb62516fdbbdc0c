//! What Redis answers, with all keys in one place: the model of [`crate::history`]. Values are texts, lists and sets,
//! each under names of its own; connections watch keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model;
use crate::script;

pub type Word = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Text(Vec<u8>),
    List(VecDeque<Word>),
    Set(BTreeSet<Word>),
}

pub type Database = BTreeMap<Word, Value>;

pub const DATABASES: usize = 2;

/// Everything that replies can depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    databases: [Database; DATABASES],
    /// When keys of the first database go.
    deadlines: BTreeMap<Word, u64>,
    /// Of which keys these times have passed.
    passed: BTreeSet<(Word, u64)>,
    /// By connection.
    watches: BTreeMap<usize, Watch>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Watch {
    keys: BTreeSet<Word>,
    dirty: bool,
}

/// What a connection asks for.
#[derive(Clone, Debug)]
pub enum Call {
    Command(Vec<Word>),
    /// MULTI, these commands, EXEC.
    Exec(Vec<Vec<Word>>),
    /// DISCARD, UNWATCH, or the end of the connection: nothing is watched any more.
    Forget,
    /// What is there of all keys.
    Whole,
    /// Nobody's: where this key lies, this time passes.
    Expire(Word, u64),
}

impl Store {
    pub fn new(databases: [Database; DATABASES]) -> Store {
        Store { databases, ..Store::default() }
    }

    /// All keys and what they hold, to be compared.
    pub fn whole(&self) -> Vec<u8> {
        let mut text = String::new();
        for (db, database) in self.databases.iter().enumerate() {
            let shown = |word: &Word| String::from_utf8_lossy(word).into_owned();
            for (key, value) in database {
                let value: Vec<String> = match value {
                    Value::Text(text) => vec![shown(text)],
                    Value::List(list) => list.iter().map(shown).collect(),
                    Value::Set(set) => set.iter().map(shown).collect(),
                };
                text += &format!("{db}:{}={} ", shown(key), value.join("|"));
            }
        }
        text.into_bytes()
    }

    /// What tells which operation has written what.
    pub fn texts(&self) -> BTreeSet<Word> {
        let mut texts = BTreeSet::new();
        for value in self.databases.iter().flat_map(BTreeMap::values) {
            match value {
                Value::Text(text) => texts.extend(parts(text)),
                Value::List(list) => texts.extend(list.iter().cloned()),
                Value::Set(_) => {}
            }
        }
        texts
    }

    /// What a key has been given, in either database.
    pub fn texts_of(&self, key: &[u8]) -> BTreeSet<Word> {
        let values = self.databases.iter().filter_map(|database| database.get(key));
        values
            .flat_map(|value| match value {
                Value::Text(text) => parts(text).collect(),
                Value::List(_) | Value::Set(_) => Vec::new(),
            })
            .collect()
    }

    /// The encoded reply. Of several keys that have something, a client that has waited gets the one that had it first:
    /// the `answer` tells which.
    pub fn apply(&mut self, connection: usize, call: &Call, answer: Option<&[u8]>) -> Vec<u8> {
        match call {
            Call::Forget => {
                self.watches.remove(&connection);
                b"+OK\r\n".to_vec()
            }
            Call::Whole => self.whole(),
            Call::Expire(key, at) => {
                self.passed.insert((key.clone(), *at));
                self.expire(key);
                ok()
            }
            Call::Exec(commands) => {
                if self.watches.remove(&connection).is_some_and(|watch| watch.dirty) {
                    return b"*-1\r\n".to_vec();
                }
                let mut reply = format!("*{}\r\n", commands.len()).into_bytes();
                commands.iter().for_each(|words| reply.append(&mut self.command(words)));
                reply
            }
            Call::Command(words) if words[0] == b"WATCH" => {
                let watch = self.watches.entry(connection).or_default();
                watch.keys.extend(words[1..].iter().cloned());
                b"+OK\r\n".to_vec()
            }
            Call::Command(words) if is_blocking_pop(&words[0]) => {
                let keys = &words[1..words.len() - 1];
                let told = answer.and_then(|answer| keys.iter().find(|key| answer.starts_with(&pair_with(key))));
                let mut words = words.clone();
                if let Some(key) = told {
                    words = vec![words[0].clone(), key.clone(), b"0".to_vec()];
                }
                self.command(&words)
            }
            Call::Command(words) => self.command(words),
        }
    }

    fn touch(&mut self, key: &[u8]) {
        for watch in self.watches.values_mut().filter(|watch| watch.keys.contains(key)) {
            watch.dirty = true;
        }
    }

    pub fn text(&self, key: &[u8]) -> Option<&Word> {
        match self.databases[0].get(key) {
            Some(Value::Text(text)) => Some(text),
            None => None,
            Some(other) => unreachable!("a name of a text holds {other:?}"),
        }
    }

    fn put(&mut self, key: &[u8], value: Option<Value>) {
        match value {
            Some(value) => self.databases[0].insert(key.to_vec(), value),
            None => self.databases[0].remove(key),
        };
        self.deadlines.remove(key);
        self.touch(key);
    }

    /// The key is there, and goes then.
    fn limit(&mut self, key: &[u8], at: Option<u64>) {
        let Some(at) = at else { return };
        self.deadlines.insert(key.to_vec(), at);
        self.expire(key);
    }

    fn expire(&mut self, key: &[u8]) {
        if self.deadlines.get(key).is_some_and(|&at| self.has_passed(key, at)) {
            self.put(key, None);
        }
    }

    fn has_passed(&self, key: &[u8], at: u64) -> bool {
        self.passed.contains(&(key.to_vec(), at))
    }

    /// Some key goes then.
    pub fn has_deadline(&self, at: u64) -> bool {
        self.deadlines.values().any(|&deadline| deadline == at)
    }

    fn list(&mut self, key: &[u8]) -> &mut VecDeque<Word> {
        match self.databases[0].entry(key.to_vec()).or_insert_with(|| Value::List(VecDeque::new())) {
            Value::List(list) => list,
            other => unreachable!("a name of a list holds {other:?}"),
        }
    }

    fn set(&mut self, key: &[u8]) -> &mut BTreeSet<Word> {
        match self.databases[0].entry(key.to_vec()).or_insert_with(|| Value::Set(BTreeSet::new())) {
            Value::Set(set) => set,
            other => unreachable!("a name of a set holds {other:?}"),
        }
    }

    /// A collection without elements is none.
    fn tidy(&mut self, key: &[u8]) {
        let empty = match self.databases[0].get(key) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Set(set)) => set.is_empty(),
            Some(Value::Text(_)) | None => false,
        };
        if empty {
            self.databases[0].remove(key);
        }
    }

    pub fn pop(&mut self, key: &[u8], left: bool) -> Option<Word> {
        let list = self.list(key);
        let element = if left { list.pop_front() } else { list.pop_back() };
        self.tidy(key);
        if element.is_some() {
            self.touch(key);
        }
        element
    }

    pub fn push(&mut self, key: &[u8], left: bool, element: Word) -> usize {
        let list = self.list(key);
        if left {
            list.push_front(element);
        } else {
            list.push_back(element);
        }
        let length = list.len();
        self.touch(key);
        length
    }

    /// What a script calls.
    pub fn call(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let words: Vec<Word> = words.iter().map(|word| word.to_vec()).collect();
        self.command(&words)
    }

    fn command(&mut self, words: &[Word]) -> Vec<u8> {
        let args = &words[1..];
        match words[0].as_slice() {
            b"GET" => bulk(self.text(&args[0])),
            b"MGET" => {
                let values: Vec<u8> = args.iter().flat_map(|key| bulk(self.text(key))).collect();
                [format!("*{}\r\n", args.len()).as_bytes(), &values].concat()
            }
            b"SET" => {
                let at = deadline_of(words);
                match at.is_some_and(|at| self.has_passed(&args[0], at)) {
                    false => {
                        self.put(&args[0], Some(Value::Text(args[1].clone())));
                        self.limit(&args[0], at);
                    }
                    // Valkey: the key is deleted, and nothing has happened to one that was not there.
                    true if self.databases[0].contains_key(&args[0]) => self.put(&args[0], None),
                    true => {}
                }
                ok()
            }
            b"PEXPIREAT" => {
                let there = self.databases[0].contains_key(&args[0]);
                if there {
                    self.touch(&args[0]);
                    self.limit(&args[0], deadline_of(words));
                }
                integer(usize::from(there))
            }
            b"PERSIST" => {
                let persists = self.deadlines.remove(&args[0]).is_some();
                if persists {
                    self.touch(&args[0]);
                }
                integer(usize::from(persists))
            }
            b"PEXPIRETIME" => match self.deadlines.get(&args[0]) {
                Some(at) => integer(*at as usize),
                None if self.databases[0].contains_key(&args[0]) => b":-1\r\n".to_vec(),
                None => b":-2\r\n".to_vec(),
            },
            b"APPEND" => {
                let mut text = self.text(&args[0]).cloned().unwrap_or_default();
                text.extend_from_slice(&args[1]);
                let (length, at) = (text.len(), self.deadlines.get(&args[0]).copied());
                self.put(&args[0], Some(Value::Text(text)));
                self.limit(&args[0], at);
                integer(length)
            }
            b"MSET" => {
                args.chunks(2).for_each(|pair| self.put(&pair[0], Some(Value::Text(pair[1].clone()))));
                ok()
            }
            b"MSETNX" => {
                let free = args.chunks(2).all(|pair| self.text(&pair[0]).is_none());
                if free {
                    args.chunks(2).for_each(|pair| self.put(&pair[0], Some(Value::Text(pair[1].clone()))));
                }
                integer(usize::from(free))
            }
            b"EXISTS" => integer(args.iter().filter(|&key| self.databases[0].contains_key(key)).count()),
            b"DEL" => {
                let mut deleted = 0;
                for key in args {
                    if self.databases[0].contains_key(key) {
                        self.put(key, None);
                        deleted += 1;
                    }
                }
                integer(deleted)
            }
            b"RENAME" => match self.databases[0].get(&args[0]).cloned() {
                None => b"-ERR no such key\r\n".to_vec(),
                // Redis: nothing happens, but that it exists.
                Some(_) if args[0] == args[1] => ok(),
                value => {
                    let at = self.deadlines.get(&args[0]).copied();
                    self.put(&args[0], None);
                    self.put(&args[1], value);
                    self.limit(&args[1], at);
                    ok()
                }
            },
            b"COPY" => {
                let value = self.databases[0].get(&args[0]).cloned();
                let copied = value.is_some() && !self.databases[0].contains_key(&args[1]);
                if copied {
                    let at = self.deadlines.get(&args[0]).copied();
                    self.put(&args[1], value);
                    self.limit(&args[1], at);
                }
                integer(usize::from(copied))
            }
            b"LPUSH" | b"RPUSH" => {
                let left = words[0][0] == b'L';
                integer(args[1..].iter().map(|element| self.push(&args[0], left, element.clone())).last().unwrap_or(0))
            }
            b"LPOP" | b"RPOP" => bulk(self.pop(&args[0], words[0][0] == b'L').as_ref()),
            b"BLPOP" | b"BRPOP" => {
                for key in &args[..args.len() - 1] {
                    if let Some(element) = self.pop(key, words[0][1] == b'L') {
                        return [pair_with(key), bulk(Some(&element))].concat();
                    }
                }
                b"*-1\r\n".to_vec()
            }
            b"LLEN" => {
                let length = self.list(&args[0]).len();
                self.tidy(&args[0]);
                integer(length)
            }
            b"LMOVE" | b"BLMOVE" => {
                let element = self.pop(&args[0], args[2] == b"LEFT");
                if let Some(element) = &element {
                    self.push(&args[1], args[3] == b"LEFT", element.clone());
                }
                bulk(element.as_ref())
            }
            b"SADD" => {
                let added = self.set(&args[0]).insert(args[1].clone());
                if added {
                    self.touch(&args[0]);
                }
                integer(usize::from(added))
            }
            b"SREM" => integer(usize::from(self.remove_member(&args[0], &args[1]))),
            b"SCARD" => {
                let members = self.set(&args[0]).len();
                self.tidy(&args[0]);
                integer(members)
            }
            b"SMOVE" => {
                if args[0] == args[1] {
                    let there = self.set(&args[0]).contains(&args[2]);
                    self.tidy(&args[0]);
                    return integer(usize::from(there));
                }
                let moved = self.remove_member(&args[0], &args[2]);
                if moved && self.set(&args[1]).insert(args[2].clone()) {
                    self.touch(&args[1]);
                }
                integer(usize::from(moved))
            }
            b"SINTERSTORE" | b"SUNIONSTORE" => {
                let mut result = self.set(&args[1]).clone();
                self.tidy(&args[1]);
                for key in &args[2..] {
                    let other = self.set(key).clone();
                    self.tidy(key);
                    match words[0][1] {
                        b'I' => result.retain(|member| other.contains(member)),
                        _ => result.extend(other),
                    }
                }
                let members = result.len();
                if members > 0 {
                    self.put(&args[0], Some(Value::Set(result)));
                } else if self.databases[0].contains_key(&args[0]) {
                    self.put(&args[0], None);
                }
                integer(members)
            }
            b"DBSIZE" => integer(self.databases[0].len()),
            b"KEYS" => array(self.databases[0].keys().map(|key| bulk(Some(key)))),
            b"FLUSHDB" | b"FLUSHALL" => {
                let Store { databases, watches, deadlines, .. } = self;
                for watch in watches.values_mut() {
                    watch.dirty |= watch.keys.iter().any(|key| databases[0].contains_key(key));
                }
                databases[0].clear();
                deadlines.clear();
                if words[0] == b"FLUSHALL" {
                    databases[1].clear();
                }
                ok()
            }
            b"SWAPDB" => {
                let Store { databases, watches, .. } = self;
                for watch in watches.values_mut() {
                    let there = |key| databases.iter().any(|database| database.contains_key(key));
                    watch.dirty |= watch.keys.iter().any(|key: &Word| there(key));
                }
                databases.swap(0, 1);
                ok()
            }
            b"EVAL" | b"EVAL_RO" => script::run(self, words),
            other => unreachable!("no client sends {}", String::from_utf8_lossy(other)),
        }
    }

    fn remove_member(&mut self, key: &[u8], member: &[u8]) -> bool {
        let removed = self.set(key).remove(member);
        self.tidy(key);
        if removed {
            self.touch(key);
        }
        removed
    }
}

/// The reply shows that nothing has changed but what the connection itself watches, at whatever moment it came about.
pub fn changes_nothing(call: &Call, reply: &[u8]) -> bool {
    match call {
        Call::Forget | Call::Expire(..) => false,
        Call::Whole => true,
        Call::Exec(commands) if reply != b"*-1\r\n" => {
            let replies = peristyle::resp::skip::elements(reply).expect("EXEC's reply is an array");
            commands.iter().zip(replies).all(|(words, reply)| is_read(words, reply))
        }
        Call::Exec(_) => true,
        Call::Command(words) => is_read(words, reply),
    }
}

fn is_read(words: &[Word], reply: &[u8]) -> bool {
    match words[0].as_slice() {
        b"GET" | b"MGET" | b"EXISTS" | b"LLEN" | b"SCARD" | b"DBSIZE" | b"KEYS" | b"PEXPIRETIME" => true,
        b"MSETNX" | b"DEL" | b"COPY" | b"SADD" | b"SREM" | b"SMOVE" | b"PEXPIREAT" | b"PERSIST" => reply == b":0\r\n",
        b"BLPOP" | b"BRPOP" => reply == b"*-1\r\n",
        b"LPOP" | b"RPOP" | b"LMOVE" | b"BLMOVE" => reply == b"$-1\r\n",
        b"RENAME" => reply.starts_with(b"-"),
        b"EVAL" | b"EVAL_RO" => script::only_reads(words),
        _ => false,
    }
}

/// The times at which a call lets keys go: no two calls name the same.
pub fn deadlines_of(call: &Call) -> Vec<u64> {
    match call {
        Call::Command(words) => deadline_of(words).into_iter().collect(),
        Call::Exec(commands) => commands.iter().filter_map(|words| deadline_of(words)).collect(),
        Call::Forget | Call::Whole | Call::Expire(..) => Vec::new(),
    }
}

fn deadline_of(words: &[Word]) -> Option<u64> {
    match (words[0].as_slice(), words) {
        (b"SET", [_, _, _, _, at]) | (b"PEXPIREAT", [_, _, at]) => std::str::from_utf8(at).ok()?.parse().ok(),
        _ => None,
    }
}

/// The reply as the model gives it, where Redis promises no order, or says more.
pub fn normal(call: &Call, reply: Vec<u8>) -> Vec<u8> {
    match call {
        // Redis: one that has waited in vain gets another kind of nothing than one that must not wait.
        Call::Command(words) if words[0] == b"BLMOVE" && reply == b"*-1\r\n" => b"$-1\r\n".to_vec(),
        Call::Command(words) => normal_of(words, &reply),
        Call::Exec(commands) if reply != b"*-1\r\n" => {
            let Some(elements) = peristyle::resp::skip::elements(&reply) else { return reply };
            array(commands.iter().zip(elements).map(|(words, reply)| normal_of(words, reply)))
        }
        _ => reply,
    }
}

fn normal_of(words: &[Word], reply: &[u8]) -> Vec<u8> {
    if words[0] == b"KEYS" {
        return sorted(reply);
    }
    // The line where a script failed is not the model's to know.
    let place = if reply.starts_with(b"-") { memchr::memmem::find(reply, b" script: ") } else { None };
    place.map_or(reply.to_vec(), |place| [&reply[..place], b"\r\n"].concat())
}

/// The texts that a reply shows.
pub fn texts_in(call: &Call, reply: &[u8]) -> BTreeSet<Word> {
    if matches!(call, Call::Whole) {
        return reply.split(|byte| b" =|".contains(byte)).flat_map(parts).collect();
    }
    match reply.first() {
        Some(b'*') => {
            let elements = peristyle::resp::skip::elements(reply).into_iter().flatten();
            elements.flat_map(|element| texts_in(call, element)).collect()
        }
        Some(b'$') => {
            let line = reply.iter().position(|&byte| byte == b'\n').map_or(reply.len(), |at| at + 1);
            parts(reply[line..].strip_suffix(b"\r\n").unwrap_or_default()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// What was appended, one behind the other.
fn parts(text: &[u8]) -> impl Iterator<Item = Word> {
    text.split(|&byte| byte == b',').filter(|part| !part.is_empty()).map(<[u8]>::to_vec)
}

pub fn is_blocking_pop(name: &[u8]) -> bool {
    matches!(name, b"BLPOP" | b"BRPOP")
}

fn pair_with(key: &[u8]) -> Vec<u8> {
    [b"*2\r\n".to_vec(), bulk(Some(&key.to_vec()))].concat()
}

fn sorted(reply: &[u8]) -> Vec<u8> {
    let Some(elements) = peristyle::resp::skip::elements(reply) else { return reply.to_vec() };
    let mut elements: Vec<&[u8]> = elements.into_iter().collect();
    // Of names of equal length, as all are here, the encoding has the order of the names.
    elements.sort_unstable();
    [format!("*{}\r\n", elements.len()).as_bytes(), &elements.concat()].concat()
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

pub fn integer(value: usize) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

pub fn bulk(value: Option<&Word>) -> Vec<u8> {
    model::bulk(value)
}

pub fn array(elements: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let elements: Vec<Vec<u8>> = elements.into_iter().collect();
    [format!("*{}\r\n", elements.len()).into_bytes(), elements.concat()].concat()
}
