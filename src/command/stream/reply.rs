//! Entries and IDs as clients see them.

use crate::data::listpack::Digits;
use crate::data::stream::{ENTRIES_READ_UNKNOWN, Entry, Group, Log, StreamId};
use crate::resp::reply::Reply;

pub fn id(id: StreamId, reply: &mut Reply) {
    let (mut ms, mut seq) = (Digits::new(), Digits::new());
    let (ms, seq) = (ms.format(id.ms), seq.format(id.seq));
    // Two numbers of up to twenty digits and a dash.
    let mut text = [0; 48];
    let len = ms.len() + 1 + seq.len();
    text[..ms.len()].copy_from_slice(ms.as_bytes());
    text[ms.len()] = b'-';
    text[ms.len() + 1..len].copy_from_slice(seq.as_bytes());
    reply.bulk(&text[..len]);
}

/// ID, and fields and values.
pub fn entry(entry: &Entry<'_>, reply: &mut Reply) {
    reply.array(2);
    id(entry.id, reply);
    reply.array(2 * entry.fields());
    let mut digits = Digits::new();
    for (field, value) in entry.pairs() {
        reply.bulk(field.text(&mut digits));
        reply.bulk(value.text(&mut digits));
    }
}

/// An array of up to `count` entries; 0: of all.
pub fn entries<'a>(entries: impl Iterator<Item = Entry<'a>>, count: usize, reply: &mut Reply) {
    let entries: Vec<Entry<'_>> = entries.take(if count == 0 { usize::MAX } else { count }).collect();
    reply.array(entries.len());
    entries.iter().for_each(|each| entry(each, reply));
}

/// How many entries a group has read, if that is known.
pub fn entries_read(group: &Group, reply: &mut Reply) {
    match group.entries_read {
        ENTRIES_READ_UNKNOWN => reply.null(),
        read => reply.integer(read),
    }
}

/// How many entries a group has still to read, if that is known.
pub fn lag(log: &Log, group: &Group, reply: &mut Reply) {
    let read = if log.entries_added() == 0 {
        0
    } else if group.entries_read != ENTRIES_READ_UNKNOWN && !log.has_tombstones(group.last_id, StreamId::MAX) {
        group.entries_read
    } else {
        match log.entries_added_until(group.last_id) {
            ENTRIES_READ_UNKNOWN => return reply.null(),
            read => read,
        }
    };
    reply.integer((log.entries_added() as i64).wrapping_sub(read));
}
