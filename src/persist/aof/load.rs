//! Loads the append-only directory into one shard: a stepper, like the loader of RDB files, which it uses for the base.
//!
//! Every shard reads for itself what may hold keys of its own: of segments written by as many shards, with the same `colocate-prefixes`, only its own one,
//! of others all of them, of whose commands it runs those that name its keys. As shards share no keys, none waits for
//! another: each goes through the files in the manifest's order at its own pace.
//!
//! What Redis has written may hold commands on keys of several shards. MSET and its like are split. At the first one that
//! is not, all shards stop at the same place, as each reads the same file: the others give their keys to the first, which
//! goes on alone, in a keyspace of the whole, to the end of what Redis wrote, and then deals it out.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use smallvec::SmallVec;

use super::open::{Plan, Source, SourceKind, bad_format};
use super::text_of;
use crate::base::ids::ShardId;
use crate::base::number::parse_i64;
use crate::codec::aof::read::{Command, Item, LogReader, ReadError, What};
use crate::command::args::Args;
use crate::command::ctx::{Found, ShardCtx};
use crate::command::error::Error;
use crate::command::keys::{has_keys, keys_of};
use crate::command::spec::{Group, Shape, Spec};
use crate::data::entry::Entry;
use crate::engine::script;
use crate::keyspace::slots::SlotMap;
use crate::persist::load::{Duplicates, LoadError, Loaded, Loader};
use crate::persist::rdb::MAGIC;
use crate::resp::reply::{Protocol, Reply};
use crate::script::shard::AskedCommand;

/// Keys that are dealt out between two looks at the clients.
const DEAL_KEYS: usize = 1024;
/// Commands of a file that are read together.
const AHEAD: usize = 16;
/// Commands that answered with an error, of each file, which are told one by one.
const ERRORS_TOLD: u64 = 3;

#[derive(Debug)]
pub enum AofError {
    Io(String, io::Error),
    Read(String, ReadError),
    Base(String, LoadError),
    /// It cannot be run: why.
    Command(String, Vec<u8>),
    /// Another shard could not load what was this one's, too.
    Forsaken,
}

impl fmt::Display for AofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AofError::Io(name, error) => {
                write!(f, "Unrecoverable error reading the append only file {name}: {}", text_of(error))
            }
            AofError::Read(name, ReadError { what: What::Io(error), .. }) => {
                write!(f, "Unrecoverable error reading the append only file {name}: {}", text_of(error))
            }
            AofError::Read(name, _) => f.write_str(&bad_format(name)),
            AofError::Base(name, error) => {
                write!(f, "Error reading the RDB preamble of the AOF file {name}, AOF loading aborted: {error}")
            }
            AofError::Command(name, reason) => {
                write!(f, "{} reading the append only file {name}", String::from_utf8_lossy(reason))
            }
            AofError::Forsaken => f.write_str("Another shard could not load its part"),
        }
    }
}

impl std::error::Error for AofError {}

/// What a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    More,
    /// Another shard has not come so far yet.
    Waiting,
    Done,
}

/// Keys with their databases; none: that was all.
type Dealt = Vec<(usize, Entry)>;

/// The ways by which keys go from shard to shard: the first has one to and from each other.
pub struct Deal {
    /// By shard, until it begins.
    links: Mutex<Vec<Vec<Link>>>,
}

struct Link {
    sender: Sender<Dealt>,
    receiver: Receiver<Dealt>,
}

impl Deal {
    pub fn new(shards: usize) -> Deal {
        let mut links = vec![Vec::new()];
        for _ in 1..shards {
            let ((down, from_first), (up, to_first)) = (channel(), channel());
            links[0].push(Link { sender: down, receiver: to_first });
            links.push(vec![Link { sender: up, receiver: from_first }]);
        }
        Deal { links: Mutex::new(links) }
    }

    fn links(&self, shard: ShardId) -> Vec<Link> {
        mem::take(&mut self.links.lock().expect("nothing panics while it holds the links")[shard])
    }
}

pub struct AofLoader {
    plan: Arc<Plan>,
    slots: SlotMap,
    /// The next source, and the one being read.
    next: usize,
    current: Option<Current>,
    /// Sources before this one are for the keyspace of the whole, if there comes to be one.
    foreign: usize,
    stage: Stage,
    links: Vec<Link>,
    /// Bytes of sources that are done.
    done_bytes: u64,
    pub loaded: Loaded,
}

enum Stage {
    /// The sources are for this shard's own keyspace.
    Own,
    /// The others' keys come to this one's: from all but so many.
    Gathering(usize),
    /// The sources are for the keyspace of the whole, which is here, and then dealt out.
    Whole(Box<ShardCtx>),
    Dealing(Box<ShardCtx>),
    /// The first shard gathers, and then deals out.
    Giving,
    Taking,
}

struct Current {
    source: usize,
    began: Instant,
    input: Input,
}

enum Input {
    Rdb(Box<Loader<File>>),
    Log(Box<Replay>),
}

impl AofLoader {
    pub fn new(plan: Arc<Plan>, deal: &Deal, slots: SlotMap, ctx: &ShardCtx) -> AofLoader {
        let last_foreign = plan.sources.iter().rposition(|source| source.kind == SourceKind::Foreign);
        let foreign = last_foreign.map_or(0, |last| last + 1);
        let (links, loaded) = (deal.links(ctx.shard), Loaded::default());
        AofLoader { plan, slots, next: 0, current: None, foreign, stage: Stage::Own, links, done_bytes: 0, loaded }
    }

    /// How many bytes of all sources this shard is done with.
    pub fn offset(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| match &current.input {
            Input::Rdb(loader) => loader.offset(),
            Input::Log(replay) => replay.reader.offset(),
        });
        self.done_bytes + current
    }

    /// Loads at least so many bytes more, if there are.
    pub fn slice(&mut self, ctx: &mut ShardCtx, bytes: u64) -> Result<Slice, AofError> {
        let (db, dirty, flushed) = (ctx.db, ctx.journal.dirty, ctx.journal.flushed);
        ctx.replaying = true;
        let slice = self.slice_replaying(ctx, bytes);
        ctx.replaying = false;
        // Nothing has changed: it is as it was.
        (ctx.db, ctx.journal.dirty, ctx.journal.flushed) = (db, dirty, flushed);
        slice
    }

    fn slice_replaying(&mut self, ctx: &mut ShardCtx, bytes: u64) -> Result<Slice, AofError> {
        let sources = self.plan.sources.len();
        match mem::replace(&mut self.stage, Stage::Own) {
            Stage::Own => match self.read(ctx, sources, bytes)? {
                Progress::End => return Ok(Slice::Done),
                Progress::More => {}
                Progress::Spans => {
                    // All shards read this source, and stop here.
                    self.foreign = self.foreign.max(self.next);
                    self.stage = if ctx.shard == 0 { Stage::Gathering(self.links.len()) } else { Stage::Giving };
                }
            },
            Stage::Gathering(0) => {
                let mut whole = ctx.scratch();
                (whole.shard, whole.slots) = (0, SlotMap::contiguous(1));
                whole.scripts.store = ctx.scripts.store.clone();
                mem::swap(&mut whole.keyspace, &mut ctx.keyspace);
                if let Some(Current { input: Input::Log(replay), .. }) = &mut self.current {
                    replay.keys = Keys::All;
                }
                self.stage = Stage::Whole(Box::new(whole));
            }
            Stage::Gathering(left) => {
                let taken = take_in(&self.links[left - 1], ctx)?;
                self.stage = Stage::Gathering(if taken == Taken::All { left - 1 } else { left });
                if taken == Taken::Nothing {
                    return Ok(Slice::Waiting);
                }
            }
            Stage::Whole(mut whole) => {
                (whole.now, whole.replaying) = (ctx.now, true);
                let progress = self.read(&mut whole, self.foreign, bytes)?;
                self.stage = if progress == Progress::End { Stage::Dealing(whole) } else { Stage::Whole(whole) };
            }
            Stage::Dealing(mut whole) => {
                let shards = ctx.slots.shards();
                let dealt = some_of(&mut whole, shards, |key| self.slots.shard_of(key));
                let is_all = dealt.iter().all(Vec::is_empty);
                for (shard, dealt) in dealt.into_iter().enumerate() {
                    match shard.checked_sub(1) {
                        None => dealt.into_iter().for_each(|(db, entry)| put(ctx, db, entry)),
                        Some(link) if is_all || !dealt.is_empty() => self.links[link].send(dealt),
                        Some(_) => {}
                    }
                }
                if !is_all {
                    self.stage = Stage::Dealing(whole);
                }
            }
            Stage::Giving => {
                let given = some_of(ctx, 1, |_| 0).swap_remove(0);
                let is_all = given.is_empty();
                self.links[0].send(given);
                self.stage = Stage::Giving;
                if is_all {
                    // The first goes on with what is left of them.
                    self.current = None;
                    self.next = self.foreign;
                    self.done_bytes = self.plan.sources[..self.foreign].iter().map(|source| source.bytes).sum();
                    self.stage = Stage::Taking;
                }
            }
            Stage::Taking => match take_in(&self.links[0], ctx)? {
                Taken::All => {}
                taken => {
                    self.stage = Stage::Taking;
                    if taken == Taken::Nothing {
                        return Ok(Slice::Waiting);
                    }
                }
            },
        }
        Ok(Slice::More)
    }

    /// Reads sources up to `end` into `ctx`.
    fn read(&mut self, ctx: &mut ShardCtx, end: usize, bytes: u64) -> Result<Progress, AofError> {
        let until = self.offset() + bytes;
        while self.offset() < until {
            let Some(current) = &mut self.current else {
                if self.next >= end {
                    return Ok(Progress::End);
                }
                self.current = self.open(ctx, self.next)?;
                self.next += 1;
                continue;
            };
            let Source { name, path, bytes: length, .. } = &self.plan.sources[current.source];
            let left = until - self.done_bytes;
            match &mut current.input {
                Input::Rdb(loader) => {
                    let failed = |error| AofError::Base(name.clone(), error);
                    if !loader.slice(ctx, left.saturating_sub(loader.offset()).max(1)).map_err(failed)? {
                        continue;
                    }
                    self.loaded.keys += loader.loaded.keys;
                    self.loaded.empty += loader.loaded.empty;
                    if loader.offset() < *length {
                        let keys = keys_in(&self.plan.sources[current.source], ctx);
                        let replay = Replay::open(name, path, loader.offset(), *length, keys)?;
                        current.input = Input::Log(Box::new(replay));
                        continue;
                    }
                }
                Input::Log(replay) => match replay.slice(ctx, &self.slots, left)? {
                    Progress::End => {}
                    Progress::More => continue,
                    Progress::Spans => return Ok(Progress::Spans),
                },
            }
            self.end_source();
        }
        Ok(Progress::More)
    }

    /// Begins a source, if it is for this shard.
    fn open(&mut self, ctx: &mut ShardCtx, index: usize) -> Result<Option<Current>, AofError> {
        let source = &self.plan.sources[index];
        let keys = keys_in(source, ctx);
        if keys == Keys::None || source.bytes == 0 {
            self.done_bytes += source.bytes;
            return Ok(None);
        }
        let failed = |error| AofError::Io(source.name.clone(), error);
        let began = Instant::now();
        let is_preamble = source.kind == SourceKind::Foreign && begins_with_rdb(source).map_err(failed)?;
        let input = if source.kind == SourceKind::Rdb || is_preamble {
            if ctx.shard == 0 {
                tracing::info!(
                    "{}",
                    if is_preamble {
                        "Reading RDB preamble from AOF file..."
                    } else {
                        "Reading RDB base file on AOF loading..."
                    }
                );
            }
            let file = File::open(&source.path).map_err(failed)?;
            let slots = if ctx.slots.shards() == 1 { SlotMap::contiguous(1) } else { self.slots.clone() };
            let loader = Loader::new(file, source.bytes, ctx.shard, slots, Duplicates::Refused, ctx);
            Input::Rdb(Box::new(loader.map_err(|error| AofError::Base(source.name.clone(), error))?))
        } else {
            Input::Log(Box::new(Replay::open(&source.name, &source.path, 0, source.bytes, keys)?))
        };
        Ok(Some(Current { source: index, began, input }))
    }

    fn end_source(&mut self) {
        let Some(Current { source, began, input }) = self.current.take() else { return };
        let Source { name, bytes, is_base, kind, .. } = &self.plan.sources[source];
        self.done_bytes += bytes;
        let tells = match (kind, &input) {
            (SourceKind::Rdb, Input::Rdb(loader)) => loader.tells(),
            (_, Input::Log(replay)) => replay.tells,
            (_, Input::Rdb(loader)) => loader.tells(),
        };
        if tells {
            let what = if *is_base { "base" } else { "incr" };
            tracing::info!("DB loaded from {what} file {name}: {:.3} seconds", began.elapsed().as_secs_f64());
        }
    }
}

impl Link {
    fn send(&self, dealt: Dealt) {
        // Who is gone has failed, and the server ends.
        let _ = self.sender.send(dealt);
    }
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    /// A command follows that needs keys of several shards.
    Spans,
    End,
}

/// What came through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Some,
    All,
}

/// Takes in what has been sent, if anything.
fn take_in(link: &Link, ctx: &mut ShardCtx) -> Result<Taken, AofError> {
    match link.receiver.try_recv() {
        Ok(dealt) if dealt.is_empty() => Ok(Taken::All),
        Ok(dealt) => {
            dealt.into_iter().for_each(|(db, entry)| put(ctx, db, entry));
            Ok(Taken::Some)
        }
        Err(TryRecvError::Empty) => Ok(Taken::Nothing),
        Err(TryRecvError::Disconnected) => Err(AofError::Forsaken),
    }
}

/// Takes some keys out of a keyspace, by the shard that each is for; none when none are left.
fn some_of(ctx: &mut ShardCtx, shards: usize, shard_of: impl Fn(&[u8]) -> ShardId) -> Vec<Dealt> {
    let mut dealt: Vec<Dealt> = (0..shards).map(|_| Dealt::new()).collect();
    let is_filled = |db: &usize| !ctx.keyspace.db(*db).is_empty();
    let Some(db) = (0..ctx.keyspace.databases()).find(is_filled) else { return dealt };
    ctx.db = db;
    let keys: Vec<Vec<u8>> = ctx.keyspace.db(db).iter().take(DEAL_KEYS).map(|entry| entry.key().to_vec()).collect();
    for key in keys {
        let entry = ctx.take(&key).expect("nobody else takes it");
        dealt[shard_of(&key)].push((db, entry));
    }
    dealt
}

/// Which commands of a file a shard runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    None,
    /// Those with keys of its own, and those of the whole keyspace.
    Own,
    All,
}

fn keys_in(source: &Source, ctx: &ShardCtx) -> Keys {
    match source.kind {
        _ if ctx.slots.shards() == 1 => Keys::All,
        SourceKind::Segment { shard: Some(shard), shards, prefixes }
            if (shards, prefixes) == (ctx.slots.shards(), ctx.slots.prefix_sum()) =>
        {
            if shard == ctx.shard {
                Keys::All
            } else {
                Keys::None
            }
        }
        SourceKind::Segment { .. } | SourceKind::Rdb | SourceKind::Foreign => Keys::Own,
    }
}

fn begins_with_rdb(source: &Source) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(&source.path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

fn put(ctx: &mut ShardCtx, db: usize, entry: Entry) {
    ctx.db = db;
    let key = entry.key().to_vec();
    ctx.put_again(&key, entry);
}

/// Runs the commands of one file.
struct Replay {
    name: String,
    reader: LogReader<File>,
    keys: Keys,
    db: usize,
    /// Commands that answered with an error.
    errors: u64,
    /// Memory for replies, which nobody reads.
    output: Vec<u8>,
    /// This shard says that the file is loaded.
    tells: bool,
}

impl Replay {
    fn open(name: &str, path: &Path, from: u64, length: u64, keys: Keys) -> Result<Replay, AofError> {
        let open = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            Ok(LogReader::new(file, from, length))
        };
        let reader = open().map_err(|error| AofError::Io(name.to_owned(), error))?;
        let (name, output) = (name.to_owned(), Vec::new());
        Ok(Replay { name, reader, keys, db: 0, errors: 0, output, tells: false })
    }

    /// Runs what begins before this offset.
    fn slice(&mut self, ctx: &mut ShardCtx, slots: &SlotMap, until: u64) -> Result<Progress, AofError> {
        let Replay { name, reader, keys, db, errors, output, tells } = self;
        *tells = *keys == Keys::All || ctx.shard == 0;
        while reader.offset() < until {
            let count = reader.read_batch(AHEAD).map_err(|error| AofError::Read(name.clone(), error))?;
            if count == 0 {
                if *errors > ERRORS_TOLD {
                    tracing::warn!("AOF {name}: {errors} commands answered with an error");
                }
                return Ok(Progress::End);
            }
            let hashes = look_ahead(reader, count, ctx, *db);
            for (index, &hash) in hashes.iter().enumerate() {
                let Item::Command(command) = reader.batched(index) else { continue };
                if let Some(word) = command.word(1) {
                    ctx.remember_hash(word, hash);
                }
                output.clear();
                let failed = |reason: Vec<u8>| AofError::Command(name.clone(), reason);
                match run(command, ctx, slots, *keys, db, output).map_err(failed)? {
                    Outcome::Ran => {}
                    Outcome::Passed => continue,
                    Outcome::Spans => {
                        ctx.forget_hash();
                        reader.take_batch(index);
                        return Ok(Progress::Spans);
                    }
                }
                if output.first() == Some(&b'-') {
                    *errors += 1;
                    if *errors <= ERRORS_TOLD {
                        let (what, reply) = (command.word(0).unwrap_or_default(), output.trim_ascii_end());
                        tracing::warn!("AOF {name}: {}: {}", what.escape_ascii(), String::from_utf8_lossy(reply));
                    }
                }
            }
            ctx.forget_hash();
            reader.take_batch(count);
        }
        Ok(Progress::More)
    }
}

/// Hashes the first words of commands, keys most of them, and asks for what these need of the table: else each command
/// would wait for the memory of its own.
fn look_ahead(reader: &LogReader<File>, count: usize, ctx: &ShardCtx, db: usize) -> SmallVec<[u64; AHEAD]> {
    let dict = ctx.keyspace.db(db);
    let ask = |index| match reader.batched(index) {
        Item::Command(command) => command.word(1).map_or(0, |word| {
            let hash = ctx.keyspace.hash(word);
            dict.prefetch_bucket(hash);
            hash
        }),
        Item::Line(_) => 0,
    };
    let hashes: SmallVec<[u64; AHEAD]> = (0..count).map(ask).collect();
    hashes.iter().for_each(|&hash| dict.prefetch_entry(hash));
    hashes
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ran,
    /// It is not for this shard.
    Passed,
    /// It needs keys of several shards.
    Spans,
}

/// Runs a command, or its part on keys of this shard, if it is for it; an error says why that cannot be.
fn run(
    command: Command<'_>,
    ctx: &mut ShardCtx,
    slots: &SlotMap,
    keys: Keys,
    db: &mut usize,
    output: &mut Vec<u8>,
) -> Result<Outcome, Vec<u8>> {
    let mut words: Words<'_> = command.words().collect();
    if command.is("SELECT") {
        let number = words.get(1).and_then(|word| parse_i64(word)).and_then(|number| usize::try_from(number).ok());
        *db = number.filter(|&number| number < ctx.keyspace.databases()).ok_or(&b"DB index is out of range"[..])?;
        return Ok(Outcome::Passed);
    }
    // A transaction that has not ended was cut off before.
    if command.is("MULTI") || command.is("EXEC") {
        return Ok(Outcome::Passed);
    }
    let row = match ctx.find_command(&words) {
        Found::Key(row, spec, _) => match extent(spec, &words, slots, ctx.shard, keys) {
            Extent::Here => row,
            Extent::Elsewhere => return Ok(Outcome::Passed),
            Extent::Several { first, width } if width > 0 && matches!(spec.shape, Shape::PerKey(_)) => {
                words = part_of(&words, first, width, |key| slots.shard_of(key) == ctx.shard);
                if words.len() == first {
                    return Ok(Outcome::Passed);
                }
                row
            }
            Extent::Several { .. } => return Ok(Outcome::Spans),
        },
        Found::Other(..) => return Ok(Outcome::Passed),
        Found::Unknown => return Err(without_code(&Error::unknown_command(&words))),
        Found::UnknownSubcommand(container) => {
            return Err(without_code(&Error::unknown_subcommand(words[1], container.name)));
        }
        Found::WrongArity(spec) => return Err(without_code(&Error::arity(spec.name))),
    };
    ctx.db = *db;
    let mut reply = Reply::new(output, Protocol::Resp2);
    if let Err(error) = (row.run)(ctx, &Args::new(&words), &mut reply) {
        reply.truncate(0);
        reply.error(&error.text());
    }
    // A script that takes long pauses for others, and for what only a core can run: here is neither.
    while let Some(script) = ctx.suspended.take() {
        if let Some(asked) = ctx.scripts.asked.take() {
            ctx.scripts.answer = answer_without_core(&asked);
        }
        ctx.suspended = script::go_on(ctx, script, &mut reply);
    }
    // Nobody waits here for what is not there.
    ctx.waiting = None;
    ctx.forget_hash();
    Ok(Outcome::Ran)
}

/// What commands without keys answer to a script that is replayed. They change nothing that is kept.
fn answer_without_core(asked: &AskedCommand) -> Vec<u8> {
    let words: Vec<&[u8]> = asked.words.iter().map(Vec::as_slice).collect();
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, asked.protocol);
    match (words[0].to_ascii_lowercase().as_slice(), &words[1..]) {
        (b"ping", []) => reply.simple("PONG"),
        (b"ping" | b"echo", [text]) => reply.bulk(text),
        // Nobody listens yet.
        (b"publish" | b"spublish", _) => reply.integer(0),
        _ => reply.error(&script::NOT_FROM_SCRIPT.text()),
    }
    bytes
}

/// The words of a command.
type Words<'a> = SmallVec<[&'a [u8]; 8]>;

/// On which shards a command does something, as seen from one of them.
enum Extent {
    Here,
    Elsewhere,
    Several {
        /// The first key, and how many words there are from each to the next; zero: they are not known.
        first: usize,
        width: usize,
    },
}

fn extent(spec: &Spec, words: &[&[u8]], slots: &SlotMap, shard: ShardId, keys: Keys) -> Extent {
    let at = |owner: ShardId| if owner == shard { Extent::Here } else { Extent::Elsewhere };
    match keys {
        Keys::All => return Extent::Here,
        Keys::None => return Extent::Elsewhere,
        Keys::Own => {}
    }
    let is_script = spec.group == Group::Scripting && has_keys(spec);
    if is_script || spec.reaches.is_some_and(|reaches| reaches(words)) {
        return Extent::Several { first: 0, width: 0 };
    }
    let keys = keys_of(spec, words);
    let owner = |index: u32| slots.shard_of(words[index as usize]);
    match keys[..] {
        // Libraries belong to all shards, databases are emptied and swapped by each.
        [] if spec.group == Group::Scripting => at(0),
        [] => Extent::Here,
        [first, ref others @ ..] if others.iter().all(|key| owner(key.index) == owner(first.index)) => {
            at(owner(first.index))
        }
        [first, second, ..] => {
            let (first, second) = (first.index as usize, second.index as usize);
            let width = second.saturating_sub(first);
            let is_even = width > 0 && (words.len() - first).is_multiple_of(width);
            Extent::Several { first, width: if is_even { width } else { 0 } }
        }
        [_] => unreachable!("one key has one owner"),
    }
}

/// A command with those of its keys that are wanted, and what follows each.
fn part_of<'a>(words: &[&'a [u8]], first: usize, width: usize, is_wanted: impl Fn(&[u8]) -> bool) -> Words<'a> {
    let wanted = words[first..].chunks(width).filter(|words| is_wanted(words[0])).flatten();
    words[..first].iter().chain(wanted).copied().collect()
}

fn without_code(error: &Error) -> Vec<u8> {
    let text = error.text();
    text.strip_prefix(b"ERR ").unwrap_or(&text).to_vec()
}

#[cfg(test)]
mod tests;
