//! Runs commands on one shard without a server, for tests that tell a story in a line.
//!
//! A script is commands and pauses, ` | ` between them, words as in redis-cli: `SET k v PX 10 | +20ms | GET k`. Replies
//! are written the same way, in RESP2: status and error text as they are, `:1` for an integer, `nil`, `[a b]` for an
//! array; a bulk string as it is, or quoted if it could be taken for something else.

use std::sync::Arc;

use super::KeyRow;
use super::args::Args;
use super::ctx::ShardCtx;
use super::effect::Effect;
use super::error::Error;
use crate::base::clock::Now;
use crate::base::quoting;
use crate::config::Config;
use crate::keyspace::slots::SlotMap;
use crate::keyspace::{HashSeeds, Keyspace};
use crate::resp::reply::{Protocol, Reply};

/// When a test begins, in Unix time.
pub const START_MS: i64 = 1_000_000;
const DATABASES: usize = 16;
const SEED: u64 = 1;

/// The rows that a test may use.
pub type Families = &'static [&'static [KeyRow]];

/// One shard, the clock stopped.
pub struct TestShard {
    pub ctx: ShardCtx,
    families: Families,
}

/// Runs a script on a fresh shard and compares its replies.
#[track_caller]
pub fn check(families: Families, script: &str, replies: &str) {
    let mut shard = TestShard::new(families);
    assert_eq!(shard.run(script), replies, "{script}");
}

/// Runs a script on a fresh shard and compares the effects that its last command recorded.
#[track_caller]
pub fn check_effects(families: Families, script: &str, effects: &str) {
    let mut shard = TestShard::new(families);
    let (before, last) = script.rsplit_once(" | ").unwrap_or(("", script));
    shard.run(before);
    shard.ctx.journal.record();
    shard.run(last);
    let recorded: Vec<String> = shard.ctx.journal.take().iter().map(shown_effect).collect();
    assert_eq!(recorded.join(" | "), effects, "{script}");
}

/// Runs a script on a fresh shard and compares its last reply.
#[track_caller]
pub fn check_last(families: Families, script: &str, reply: &str) {
    let replies = TestShard::new(families).run(script);
    assert_eq!(replies.rsplit(" | ").next(), Some(reply), "{script}");
}

/// Defines those of the functions above that are named, for tests that all use the same rows.
macro_rules! stories {
    ($families:ident: $($name:ident),+) => {
        $($crate::command::testing::stories!(@ $name $families);)+
    };
    (@ check $families:ident) => {
        #[track_caller]
        fn check(script: &str, replies: &str) {
            $crate::command::testing::check($families, script, replies);
        }
    };
    (@ check_last $families:ident) => {
        #[track_caller]
        fn check_last(script: &str, reply: &str) {
            $crate::command::testing::check_last($families, script, reply);
        }
    };
    (@ effects $families:ident) => {
        #[track_caller]
        fn effects(script: &str, recorded: &str) {
            $crate::command::testing::check_effects($families, script, recorded);
        }
    };
}
pub(crate) use stories;

impl TestShard {
    pub fn new(families: Families) -> TestShard {
        let keyspace = Keyspace::new(DATABASES, HashSeeds([1, 2, 3, 4]), START_MS);
        // Whatever the default: scripts read better with one word for a key that is gone.
        let config = Config { lazyfree_lazy_expire: false, lazyfree_lazy_server_del: false, ..Config::default() };
        let mut ctx = ShardCtx::new(keyspace, Arc::new(config), SEED, 0, SlotMap::contiguous(1));
        ctx.now = Now { unix_ms: START_MS, mono_ns: 0 };
        TestShard { ctx, families }
    }

    /// The replies of a script.
    pub fn run(&mut self, script: &str) -> String {
        let mut replies = Vec::new();
        for step in script.split(" | ").filter(|step| !step.is_empty()) {
            if let Some(pause) = step.strip_prefix('+').and_then(|step| step.strip_suffix("ms")) {
                self.ctx.now = self.ctx.now.plus_ms(pause.parse().expect("a pause is a number of milliseconds"));
                continue;
            }
            let words = quoting::split(step.as_bytes()).expect("quotes are closed");
            replies.push(shown(&self.command(&words)));
        }
        replies.join(" | ")
    }

    /// The encoded reply of one command.
    pub fn command(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        self.run_args(&Args::new(&words))
    }

    /// The encoded reply of a command whose arguments may be shared buffers.
    pub fn run_args(&mut self, args: &Args) -> Vec<u8> {
        let mut encoded = Vec::new();
        let mut reply = Reply::new(&mut encoded, Protocol::Resp2);
        let row = self.families.iter().copied().flatten().find(|row| row.spec.is_named(args.get(0)));
        let row = row.unwrap_or_else(|| panic!("{} is in the rows", args.get(0).escape_ascii()));
        let result = match row.spec.arity.allows(args.len()) {
            true => (row.run)(&mut self.ctx, args, &mut reply),
            false => Err(Error::arity(row.spec.name)),
        };
        if let Err(error) = result {
            reply.truncate(0);
            reply.error(&error.text());
        }
        encoded
    }

    /// Applies recorded effects, as a replica or a recovery does.
    pub fn replay(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.ctx.db = effect.db;
            let reply = self.command(&effect.words);
            assert!(!reply.starts_with(b"-"), "{} answers {}", shown_effect(effect), shown(&reply));
        }
    }
}

fn shown_effect(effect: &Effect) -> String {
    let words: Vec<String> = effect.words.iter().map(|word| shown_bulk(word)).collect();
    words.join(" ")
}

/// An encoded reply as tests write it.
pub fn shown(encoded: &[u8]) -> String {
    let (text, rest) = shown_first(encoded);
    assert!(rest.is_empty(), "one reply a command");
    text
}

/// The first of several replies, and what is left.
fn shown_first(encoded: &[u8]) -> (String, &[u8]) {
    let end = encoded.windows(2).position(|pair| pair == b"\r\n").expect("a reply has a line end");
    let line = std::str::from_utf8(&encoded[1..end]).expect("lines are text");
    let mut rest = &encoded[end + 2..];
    let length = || line.parse::<usize>().expect("a length");
    match encoded[0] {
        b'+' | b'-' => (line.to_owned(), rest),
        b':' => (format!(":{line}"), rest),
        b'$' | b'*' if line == "-1" => ("nil".to_owned(), rest),
        b'$' => (shown_bulk(&rest[..length()]), &rest[length() + 2..]),
        b'*' => {
            let mut elements = Vec::new();
            for _ in 0..length() {
                let (element, after) = shown_first(rest);
                elements.push(element);
                rest = after;
            }
            (format!("[{}]", elements.join(" ")), rest)
        }
        other => panic!("{} is no type of RESP2", other.escape_ascii()),
    }
}

/// A bulk string as tests write it.
pub fn shown_bulk(text: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\[]:".contains(byte);
    if !text.is_empty() && text != b"nil" && text.iter().all(plain) {
        String::from_utf8_lossy(text).into_owned()
    } else {
        format!("\"{}\"", text.escape_ascii())
    }
}
