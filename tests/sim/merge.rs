//! Merges the logs of all shards into one stream, as replicas will want it: every transaction stands in one piece, and who
//! runs the stream in its order has what the shards have. This shows that the log carries what that needs.
//!
//! Of one log, the order is kept, but for parts of transactions: these are pulled ahead to where the first part of their
//! transaction is due, over what has no key in common with them. Some transaction can always go first: the one that had all
//! its locks before the others. What stands before its parts in any log, at that moment, came behind those locks.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use peristyle::base::ids::ShardId;
use peristyle::codec::aof::read::{self, Line, LogReader, line};
use peristyle::codec::aof::{Header, TransactionId};
use peristyle::command::ctx::{Found, ShardCtx};
use peristyle::command::keys::keys_of;

#[derive(Clone, Debug)]
pub struct Command {
    pub db: usize,
    pub words: Vec<Vec<u8>>,
}

/// What a replica gets at once.
#[derive(Debug)]
pub enum Entry {
    Command(Command),
    /// MULTI, these, EXEC.
    Transaction(Vec<Command>),
}

type Key = (usize, Vec<u8>);

struct Item {
    /// What it is a part of, if that is more than itself.
    of: Option<TransactionId>,
    commands: Vec<Command>,
    keys: HashSet<Key>,
}

/// The logs of one generation, or one record of the whole keyspace.
type Generation = BTreeMap<Option<ShardId>, VecDeque<Item>>;

/// Merges recovered segments, in the order of the manifest.
pub fn merge(segments: &[Vec<u8>], ctx: &ShardCtx) -> Result<Vec<Entry>, String> {
    let mut generations: BTreeMap<u64, Generation> = BTreeMap::new();
    for bytes in segments {
        let (header, items) = read_segment(bytes, ctx)?;
        generations.entry(header.generation).or_default().entry(header.shard).or_default().extend(items);
    }
    let mut generations: VecDeque<Generation> = generations.into_values().collect();
    let mut stream = Stream::default();
    while let Some(generation) = generations.pop_front() {
        let later: BTreeSet<TransactionId> =
            generations.iter().flat_map(BTreeMap::values).flatten().filter_map(|item| item.of).collect();
        stream.take(generation, &later)?;
    }
    Ok(stream.entries)
}

fn read_segment(bytes: &[u8], ctx: &ShardCtx) -> Result<(Header, Vec<Item>), String> {
    let failed = |error: read::ReadError| format!("a segment cannot be read: {error:?}");
    let mut reader = LogReader::new(bytes, 0, bytes.len() as u64);
    let Some(Line::Header(header)) = next_line(&mut reader).map_err(failed)? else {
        return Err("a segment has no header".to_owned());
    };
    let (mut items, mut db, mut awaited) = (Vec::<Item>::new(), 0, 0);
    loop {
        match reader.next_item().map_err(failed)? {
            None => return Ok((header, items)),
            Some(read::Item::Line(bytes)) => {
                if let Some(Line::Part(id, commands)) = line(bytes) {
                    items.push(Item { of: Some(id), commands: Vec::new(), keys: HashSet::new() });
                    awaited = commands;
                }
            }
            Some(read::Item::Command(command)) => {
                if awaited == 0 {
                    items.push(Item { of: None, commands: Vec::new(), keys: HashSet::new() });
                }
                awaited = awaited.saturating_sub(1);
                let words: Vec<Vec<u8>> = command.words().map(<[u8]>::to_vec).collect();
                if command.is("SELECT") {
                    db = std::str::from_utf8(&words[1]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                    continue;
                }
                let item = items.last_mut().expect("one was pushed");
                item.keys.extend(keys(&words, db, ctx)?);
                item.commands.push(Command { db, words });
            }
        }
    }
}

fn next_line(reader: &mut LogReader<&[u8]>) -> Result<Option<Line>, read::ReadError> {
    Ok(match reader.next_item()? {
        Some(read::Item::Line(bytes)) => line(bytes),
        Some(read::Item::Command(_)) | None => None,
    })
}

fn keys(words: &[Vec<u8>], db: usize, ctx: &ShardCtx) -> Result<Vec<Key>, String> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let Found::Key(_, spec, _) = ctx.find_command(&words) else {
        return Err(format!("a log has {}", words[0].escape_ascii()));
    };
    Ok(keys_of(spec, &words).iter().map(|key| (db, words[key.index as usize].to_vec())).collect())
}

#[derive(Default)]
struct Stream {
    entries: Vec<Entry>,
    /// A transaction that changes the whole keyspace, among other things: it spans generations.
    open: Option<(TransactionId, Vec<Command>)>,
}

impl Stream {
    /// All of a generation. `later`: what has parts in later ones.
    fn take(&mut self, mut logs: Generation, later: &BTreeSet<TransactionId>) -> Result<(), String> {
        if let Some((id, commands)) = self.open.take() {
            self.take_transaction(&mut logs, id, commands, later);
        }
        loop {
            for log in logs.values_mut() {
                let plain = log.iter().take_while(|item| item.of.is_none()).count();
                let commands = log.drain(..plain).flat_map(|item| item.commands);
                self.entries.extend(commands.map(Entry::Command));
            }
            let due: BTreeSet<TransactionId> = logs.values().filter_map(|log| log.front()?.of).collect();
            if due.is_empty() {
                return Ok(());
            }
            if let Some(&id) = due.iter().find(|id| !later.contains(id) && may_go_first(&logs, **id)) {
                self.take_transaction(&mut logs, id, Vec::new(), later);
                continue;
            }
            match due.first() {
                // Every shard is its own now.
                Some(&id) if later.contains(&id) && logs.values().flatten().all(|item| item.of == Some(id)) => {
                    self.take_transaction(&mut logs, id, Vec::new(), later);
                }
                _ => return Err(format!("none of the transactions {due:?} can go first")),
            }
        }
    }

    /// What there is of it, behind what there was before.
    fn take_transaction(
        &mut self,
        logs: &mut Generation,
        id: TransactionId,
        mut commands: Vec<Command>,
        later: &BTreeSet<TransactionId>,
    ) {
        for log in logs.values_mut() {
            let (parts, rest): (VecDeque<Item>, VecDeque<Item>) =
                std::mem::take(log).into_iter().partition(|item| item.of == Some(id));
            commands.extend(parts.into_iter().flat_map(|part| part.commands));
            *log = rest;
        }
        if later.contains(&id) {
            self.open = Some((id, commands));
        } else {
            self.entries.push(Entry::Transaction(commands));
        }
    }
}

/// Whether no part of it stands behind something that it has a key in common with.
fn may_go_first(logs: &Generation, id: TransactionId) -> bool {
    logs.values().all(|log| {
        let parts = log.iter().enumerate().filter(|(_, item)| item.of == Some(id));
        let mut over = parts.map(|(at, part)| (part, log.iter().take(at).filter(|item| item.of != Some(id))));
        over.all(|(part, mut over)| over.all(|item| item.keys.is_disjoint(&part.keys)))
    })
}
