//! Is there one order of all calls of all connections that explains every reply? (Strict serializability; Wing and Gong's
//! search, with memory.)
//!
//! A call takes effect, as a whole, at one moment between its sending and its reply. Of one connection, a call that may
//! span shards stands in order with everything before and behind it, and so do calls with a key in common; others of one
//! pipeline may pass each other (P3). A call without a reply, because its client went away, takes effect at any later
//! moment, or never.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::store::{Call, Store, Word, changes_nothing, deadlines_of, texts_in};

#[derive(Clone)]
pub struct Operation {
    pub connection: usize,
    pub call: Call,
    /// Its keys, if it is plain access to one shard, or to none.
    pub plain: Option<Vec<Word>>,
    pub sent: u64,
    /// It takes effect no earlier: it has waited till then.
    pub earliest: u64,
    /// Where it stands among those who wait for one and the same key: nobody is served before who came earlier.
    pub waits: Option<Wait>,
    pub answer: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub struct Wait {
    pub key: Word,
    /// Moments of quiet before it was sent, and before those that were sent before it were over: after the next one, it
    /// stands in the queue, or is over.
    pub sent: usize,
    pub begun: usize,
    /// Somebody else waited for the key who needs another shard, too: who comes while that one is on its way to what is
    /// there, takes it.
    may_overtake: bool,
}

impl Wait {
    pub fn new(key: Word, sent: usize, begun: usize) -> Wait {
        Wait { key, sent, begun, may_overtake: false }
    }
}

/// Notes who may overtake whom.
pub fn note_fetchers(operations: &mut [Operation]) {
    let fetches = |operation: &&Operation| matches!(&operation.call, Call::Command(words) if words[0] == b"BLMOVE");
    let fetchers: Vec<Operation> = operations.iter().filter(fetches).cloned().collect();
    for operation in operations {
        let (sent, end) = (operation.sent, operation.end());
        let Some(wait) = &mut operation.waits else { continue };
        wait.may_overtake = fetchers.iter().any(|fetcher| {
            matches!(&fetcher.call, Call::Command(words) if words[1] == wait.key)
                && fetcher.sent < end
                && sent < fetcher.end()
        });
    }
}

/// Neither right nor wrong.
pub const TANGLED: &str = "a history is too tangled to be judged";

impl Operation {
    fn end(&self) -> u64 {
        self.answer.as_ref().map_or(u64::MAX, |(end, _)| *end)
    }

    fn is_ordered_with(&self, later: &Operation) -> bool {
        match (&self.plain, &later.plain) {
            (Some(keys), Some(later)) => keys.iter().any(|key| later.contains(key)),
            _ => true,
        }
    }

    /// Both wait for one key, and this one came first for sure.
    fn is_served_before(&self, later: &Operation) -> bool {
        let has_reply = self.answer.is_some() && later.answer.as_ref().is_some_and(|(_, reply)| reply != b"*-1\r\n");
        match (&self.waits, &later.waits) {
            (Some(wait), Some(later)) => {
                has_reply && !later.may_overtake && wait.key == later.key && wait.begun < later.sent
            }
            _ => false,
        }
    }
}

/// Which operations have taken effect.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn with(&self, index: usize) -> Done {
        let mut done = self.clone();
        done.0[index / 64] |= 1 << (index % 64);
        done
    }
}

/// The operations in the order of their sending. When so many states have been looked at, the history counts as too
/// tangled to judge.
pub fn serializable(operations: &[Operation], states_max: usize) -> Result<(), String> {
    serializable_from(&Store::default(), operations, states_max)
}

/// The same, where there was something before.
pub fn serializable_from(store: &Store, operations: &[Operation], states_max: usize) -> Result<(), String> {
    let before: Vec<Vec<usize>> = (0..operations.len())
        .map(|later| {
            let (earlier, later) = (&operations[..later], &operations[later]);
            let is_first = |earlier: &Operation| match earlier.connection == later.connection {
                true => earlier.is_ordered_with(later),
                false => earlier.is_served_before(later),
            };
            earlier.iter().enumerate().filter(|(_, earlier)| is_first(earlier)).map(|(index, _)| index).collect()
        })
        .collect();
    // Each text is written by one operation: once it is gone, nobody sees it again.
    let mut seers: HashMap<Word, Vec<usize>> = HashMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let texts = operation.answer.iter().flat_map(|(_, answer)| texts_in(&operation.call, answer));
        texts.for_each(|text| seers.entry(text).or_default().push(index));
    }
    let mut limiters: HashMap<u64, usize> = HashMap::new();
    for (index, operation) in operations.iter().enumerate() {
        limiters.extend(deadlines_of(&operation.call).into_iter().map(|at| (at, index)));
    }
    // No key has it, and none will.
    let is_over = |call: &Call, done: &Done, store: &Store| match call {
        Call::Expire(_, at) => limiters.get(at).is_some_and(|&by| done.has(by)) && !store.has_deadline(*at),
        _ => false,
    };
    let mut seen: HashSet<[u64; 2]> = HashSet::new();
    let mut open = vec![(Done(vec![0; operations.len().div_ceil(64)]), 0, store.clone())];
    let (mut furthest, mut stuck) = (0, String::new());
    while let Some((done, mut from, store)) = open.pop() {
        while from < operations.len() && done.has(from) {
            from += 1;
        }
        if !seen.insert(digest(&done, &store)) {
            continue;
        }
        if seen.len() > states_max {
            return Err(format!("{TANGLED}; {}", describe(operations, furthest)));
        }
        // Nothing that was sent later comes before an end.
        let mut first_end = u64::MAX;
        let mut candidates = Vec::new();
        for (index, operation) in operations.iter().enumerate().skip(from).filter(|(index, _)| !done.has(*index)) {
            if operation.sent >= first_end {
                break;
            }
            first_end = first_end.min(operation.end());
            if before[index].iter().all(|&earlier| done.has(earlier)) {
                candidates.push(index);
            }
        }
        if first_end == u64::MAX {
            return Ok(());
        }
        let goes_further = first_end >= furthest;
        furthest = furthest.max(first_end);
        candidates.retain(|&index| operations[index].earliest < first_end);
        // What ends first is tried first: last onto the stack.
        candidates.sort_unstable_by_key(|&index| std::cmp::Reverse(operations[index].end()));
        let texts = store.texts();
        let mut branches = Vec::new();
        for index in candidates {
            let operation = &operations[index];
            let mut after = store.clone();
            let answer = operation.answer.as_ref().map(|(_, answer)| answer.as_slice());
            let reply = after.apply(operation.connection, &operation.call, answer);
            match &operation.answer {
                Some((_, answer)) if *answer != reply => continue,
                Some((_, answer))
                    if changes_nothing(&operation.call, answer) || is_over(&operation.call, &done, &store) =>
                {
                    // What may come now, and is nothing to anybody else, loses nothing by coming now.
                    branches.clear();
                    branches.push((done.with(index), from, after));
                    break;
                }
                _ => {
                    let done = done.with(index);
                    let left = after.texts();
                    let is_missed = |text: &Word| seers.get(text).is_some_and(|by| by.iter().any(|&by| !done.has(by)));
                    if !texts.difference(&left).any(is_missed) {
                        branches.push((done, from, after));
                    }
                }
            }
        }
        if goes_further && branches.is_empty() {
            stuck = describe_stuck(operations, &done, &store);
        }
        open.append(&mut branches);
    }
    let history = describe(operations, furthest);
    Err(format!("no order of all commands explains the replies up to {furthest}:{history}\n{stuck}"))
}

/// Where the search came furthest: what keys held, and what had yet to happen.
fn describe_stuck(operations: &[Operation], done: &Done, store: &Store) -> String {
    let sent_until =
        operations.iter().enumerate().filter(|(index, _)| !done.has(*index)).map(|(_, open)| open.end()).min();
    let is_open = |(index, operation): &(usize, &Operation)| {
        !done.has(*index) && sent_until.is_some_and(|until| operation.sent < until)
    };
    let open: Vec<Operation> = operations.iter().enumerate().filter(is_open).map(|(_, open)| open.clone()).collect();
    let whole = store.whole();
    format!("at last, with {}, there was left:{}", String::from_utf8_lossy(&whole), describe(&open, u64::MAX))
}

fn digest(done: &Done, store: &Store) -> [u64; 2] {
    [1, 2].map(|salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, done, store).hash(&mut hasher);
        hasher.finish()
    })
}

/// The history up to a step.
pub fn describe(operations: &[Operation], furthest: u64) -> String {
    let mut text = String::new();
    for operation in operations.iter().filter(|operation| operation.sent <= furthest) {
        let shown = |words: &[Word]| {
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
        };
        let call = match &operation.call {
            Call::Command(words) => shown(words),
            Call::Forget => "(watches nothing more)".to_string(),
            Call::Whole => "(all keys)".to_string(),
            Call::Expire(key, at) => format!("({} passes where {} is)", at, String::from_utf8_lossy(key)),
            Call::Exec(commands) => {
                format!("EXEC {{ {} }}", commands.iter().map(|words| shown(words)).collect::<Vec<_>>().join("; "))
            }
        };
        let (sent, connection) = (operation.sent, operation.connection);
        text += &match &operation.answer {
            Some((end, reply)) => {
                format!(
                    "\n  {sent:>8}..{end:<8} connection {connection}: {call} -> {:?}",
                    String::from_utf8_lossy(reply)
                )
            }
            None => format!("\n  {sent:>8}..         connection {connection}: {call}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Word> {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn operation(connection: usize, text: &str, sent: u64, end: u64, reply: &str) -> Operation {
        let call = match text.strip_prefix("EXEC ") {
            Some(commands) => Call::Exec(commands.split("; ").map(words).collect()),
            None => Call::Command(words(text)),
        };
        let answer = (end > 0).then(|| (end, reply.as_bytes().to_vec()));
        Operation { connection, call, plain: None, sent, earliest: sent, waits: None, answer }
    }

    #[test]
    fn half_a_write_is_not_seen() {
        let write = || operation(1, "MSET t1 1 t2 1", 1, 10, "+OK\r\n");
        let read = |reply| operation(2, "MGET t1 t2", 2, 5, reply);
        assert!(serializable(&[write(), read("*2\r\n$1\r\n1\r\n$1\r\n1\r\n")], 1000).is_ok());
        assert!(serializable(&[write(), read("*2\r\n$-1\r\n$-1\r\n")], 1000).is_ok());
        assert!(serializable(&[write(), read("*2\r\n$1\r\n1\r\n$-1\r\n")], 1000).is_err());
    }

    #[test]
    fn of_one_pipeline_plain_commands_pass_each_other_whatever_ends_a_transaction_between_them() {
        let forget = Operation { call: Call::Forget, ..operation(1, "", 2, 10, "+OK\r\n") };
        let plain = |keys: &[&str], operation| {
            let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
            Operation { plain: Some(keys), ..operation }
        };
        let history = |write| {
            [
                write,
                plain(&[], forget.clone()),
                plain(&["l1"], operation(1, "RPUSH l1 2", 3, 10, ":1\r\n")),
                operation(2, "EXEC GET t1; LLEN l1", 4, 9, "*2\r\n$-1\r\n:1\r\n"),
            ]
        };
        assert!(serializable(&history(plain(&["t1"], operation(1, "SET t1 1", 1, 10, "+OK\r\n"))), 1000).is_ok());
        assert!(serializable(&history(operation(1, "MSET t1 1 t2 1", 1, 10, "+OK\r\n")), 1000).is_err());
    }

    #[test]
    fn two_that_watch_each_other_do_not_both_commit() {
        let history = |second: &str| {
            [
                operation(1, "WATCH t1", 1, 2, "+OK\r\n"),
                operation(2, "WATCH t2", 3, 4, "+OK\r\n"),
                operation(1, "EXEC SET t2 1", 5, 10, "*1\r\n+OK\r\n"),
                operation(2, "EXEC SET t1 1", 6, 11, second),
            ]
        };
        assert!(serializable(&history("*-1\r\n"), 1000).is_ok());
        assert!(serializable(&history("*1\r\n+OK\r\n"), 1000).is_err());
    }

    #[test]
    fn what_is_over_comes_before_what_begins() {
        let history = |reply| [operation(1, "SET t1 1", 1, 2, "+OK\r\n"), operation(2, "GET t1", 3, 4, reply)];
        assert!(serializable(&history("$1\r\n1\r\n"), 1000).is_ok());
        assert!(serializable(&history("$-1\r\n"), 1000).is_err());
    }

    #[test]
    fn a_call_without_a_reply_may_have_happened() {
        let history = |reply| [operation(1, "SET t1 1", 1, 0, ""), operation(2, "GET t1", 3, 4, reply)];
        assert!(serializable(&history("$1\r\n1\r\n"), 1000).is_ok());
        assert!(serializable(&history("$-1\r\n"), 1000).is_ok());
    }
}
