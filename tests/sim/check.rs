//! Is there an order of all operations on a key that explains every reply? (Wing and Gong, with memory.)
//!
//! An operation takes effect at one moment between its sending and its reply; those of one connection in their order.
//! One without a reply, because its client went away, takes effect at any later moment, or never.

use std::collections::{BTreeMap, HashSet};

use crate::history::TANGLED;
use crate::model::{self, Map};

pub struct Operation {
    pub key: Vec<u8>,
    pub words: Vec<Vec<u8>>,
    pub connection: usize,
    pub sent: u64,
    pub answer: Option<(u64, Vec<u8>)>,
}

/// States that are looked at before a history counts as too tangled to judge.
const STATES_MAX: usize = 1_000_000;

pub fn linearizable(operations: &[Operation]) -> Result<(), String> {
    let mut by_key: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in by_key {
        if !is_linearizable(&operations)? {
            let mut text = format!("no order explains the replies for {}:", String::from_utf8_lossy(key));
            for operation in operations {
                let words: Vec<_> = operation.words.iter().map(|word| String::from_utf8_lossy(word)).collect();
                let (end, reply) = operation.answer.as_ref().map_or((0, b"".as_slice()), |(end, reply)| (*end, reply));
                let reply = String::from_utf8_lossy(reply);
                text += &format!(
                    "\n  {:>8}..{:<8} connection {}: {} -> {:?}",
                    operation.sent,
                    end,
                    operation.connection,
                    words.join(" "),
                    reply
                );
            }
            return Err(text);
        }
    }
    Ok(())
}

fn is_linearizable(operations: &[&Operation]) -> Result<bool, String> {
    let mut queues: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.answer.is_some() || writes(operation)) {
        queues.entry(operation.connection).or_default().push(operation);
    }
    let queues: Vec<Vec<&Operation>> = queues.into_values().collect();
    let mut seen: HashSet<(Vec<usize>, Map)> = HashSet::new();
    let mut open = vec![(vec![0; queues.len()], Map::new())];
    while let Some((done, map)) = open.pop() {
        let next = |queue: usize| queues[queue].get(done[queue]).copied();
        let answered = |queue: &usize| next(*queue).is_some_and(|operation| operation.answer.is_some());
        // Replies of a connection come in order, so what follows an unanswered operation is unanswered too.
        if !(0..queues.len()).any(|queue| answered(&queue)) {
            return Ok(true);
        }
        if !seen.insert((done.clone(), map.clone())) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return Err(TANGLED.to_string());
        }
        let end = |queue: usize| next(queue).and_then(|operation| Some(operation.answer.as_ref()?.0));
        let first_end = (0..queues.len()).filter_map(end).min().unwrap_or(u64::MAX);
        let mut branches = Vec::new();
        for queue in 0..queues.len() {
            let Some(operation) = next(queue).filter(|operation| operation.sent < first_end) else { continue };
            let mut after = map.clone();
            let reply = model::apply(&mut after, &operation.words);
            if operation.answer.as_ref().is_none_or(|(_, answer)| *answer == reply) {
                let mut done = done.clone();
                done[queue] += 1;
                if !writes(operation) {
                    // A read that may come now and is explained loses nothing by coming now.
                    branches.clear();
                    branches.push((done, after));
                    break;
                }
                branches.push((done, after));
            }
        }
        open.append(&mut branches);
    }
    Ok(false)
}

fn writes(operation: &Operation) -> bool {
    !matches!(operation.words[0].as_slice(), b"GET" | b"STRLEN")
}

#[test]
fn a_stale_read_is_not_linearizable() {
    let operation = |text: &str, connection, sent, end, reply: &str| Operation {
        key: b"k".to_vec(),
        words: text.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
        connection,
        sent,
        answer: Some((end, reply.as_bytes().to_vec())),
    };
    let write = || operation("SET k 1", 1, 1, 10, "+OK\r\n");
    let during = operation("GET k", 2, 2, 5, "$-1\r\n");
    assert!(linearizable(&[write(), during]).is_ok(), "the read may come first");
    let after = operation("GET k", 2, 11, 12, "$-1\r\n");
    assert!(linearizable(&[write(), after]).is_err(), "the write was over");
    let seen = operation("GET k", 2, 2, 5, "$1\r\n1\r\n");
    let unseen = operation("GET k", 3, 6, 7, "$-1\r\n");
    assert!(linearizable(&[write(), seen, unseen]).is_err(), "what one has seen, a later one sees");
}
