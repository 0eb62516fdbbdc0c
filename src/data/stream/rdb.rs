//! A stream as RDB files hold it, in Redis's second form, and DUMP payloads, in the third; and all three, as they are
//! read.
//!
//! ```text
//! nodes, each: key (string of 16 bytes) | listpack (string)
//! length | last ID | first ID*, largest deleted ID*, entries added*                           (an ID: ms | seq)
//! groups, each: name | last ID | entries read*
//!               pending, each: ID (16 bytes) | delivered at (8 bytes) | deliveries
//!               consumers, each: name | seen at (8 bytes) | active at** (8 bytes) | pending, each: ID (16 bytes)
//! ```
//!
//! Numbers without a size are lengths, each sequence begins with its own. * from the second form on, ** in the third.
//! Reading checks whatever other code relies on: what is wrong in itself, or with the rest, is refused.

use std::borrow::Cow;

use super::Groups;
use super::group::{Consumer, Group, Pending};
use super::id::StreamId;
use super::log::Log;
use super::node::Node;
use crate::codec::rdb::{Form, Output, Reader, rdb_type, write_len, write_shared, write_string};
use crate::data::listpack::Listpack;

const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

pub fn save(log: &Log, groups: &Groups, out: &mut Output) {
    write_len(log.nodes.len() as u64, out);
    for (key, node) in &log.nodes {
        write_string(&key.to_bytes(), out);
        write_shared(node.listpack(), out);
    }
    write_len(log.len, out);
    for id in [log.last_id, log.first_id, log.max_deleted_id] {
        write_id(id, out);
    }
    write_len(log.entries_added, out);
    write_len(groups.len() as u64, out);
    for (name, group) in groups {
        write_string(name, out);
        save_group(group, out);
    }
}

fn save_group(group: &Group, out: &mut Output) {
    write_id(group.last_id, out);
    write_len(group.entries_read as u64, out);
    write_len(group.pending().len() as u64, out);
    for (id, pending) in group.pending() {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(&pending.delivered_at_ms.to_le_bytes());
        write_len(pending.deliveries, out);
    }
    write_len(group.consumer_count() as u64, out);
    for consumer in group.consumers() {
        write_string(consumer.name(), out);
        out.extend_from_slice(&consumer.seen_at_ms.to_le_bytes());
        if out.form == Form::Payload {
            out.extend_from_slice(&consumer.active_at_ms.to_le_bytes());
        }
        write_len(consumer.pending().len() as u64, out);
        consumer.pending().iter().for_each(|id: &StreamId| out.extend_from_slice(&id.to_bytes()));
    }
}

fn write_id(id: StreamId, out: &mut Output) {
    write_len(id.ms, out);
    write_len(id.seq, out);
}

pub fn load(of: u8, reader: &mut Reader<'_>) -> Option<(Log, Groups)> {
    let has_counters = of != rdb_type::STREAM_LISTPACKS;
    let mut log = load_nodes(reader)?;
    let len = reader.plain_len()?;
    log.last_id = read_id(reader)?;
    log.find_first();
    if has_counters {
        // The first ID follows from the nodes.
        read_id(reader)?;
        log.max_deleted_id = read_id(reader)?;
        log.entries_added = reader.plain_len()?;
    } else {
        log.entries_added = len;
    }
    if len != log.len || log.last_live_id() > log.last_id {
        return None;
    }
    // Deleted entries may be behind the last ID (XSETID in streams older than their counters); new ones come after all.
    log.last_id = log.last_stored_id().max(log.last_id);
    let mut groups = Groups::new();
    for _ in 0..reader.count(1)? {
        let name = reader.string()?;
        let group = load_group(of, reader, &log)?;
        if groups.insert(Box::from(&*name), group).is_some() {
            return None;
        }
    }
    Some((log, groups))
}

fn load_nodes(reader: &mut Reader<'_>) -> Option<Log> {
    let mut log = Log::default();
    let mut last: Option<StreamId> = None;
    for _ in 0..reader.count(1 + ID_BYTES)? {
        let key = StreamId::from_bytes(reader.string()?.as_ref().try_into().ok()?);
        let node = Node::from_listpack(Listpack::from_bytes(reader.string().map(Cow::into_owned)?)?, key)?;
        if last.is_some_and(|last| key <= last) {
            return None;
        }
        last = Some(node.last_id(key));
        log.len = log.len.checked_add(node.live())?;
        log.nodes.insert(key, node);
    }
    Some(log)
}

fn load_group(of: u8, reader: &mut Reader<'_>, log: &Log) -> Option<Group> {
    let last_id = read_id(reader)?;
    let entries_read = match of {
        rdb_type::STREAM_LISTPACKS => log.entries_added_until(last_id),
        _ => reader.plain_len()? as i64,
    };
    let mut group = Group::new(last_id, entries_read);
    let mut unowned = std::collections::BTreeMap::new();
    for _ in 0..reader.count(ID_BYTES + TIME_BYTES + 1)? {
        let id = StreamId::from_bytes(reader.array()?);
        let delivered_at_ms = i64::from_le_bytes(reader.array()?);
        let deliveries = reader.plain_len()?;
        if unowned.insert(id, (delivered_at_ms, deliveries)).is_some() {
            return None;
        }
    }
    for _ in 0..reader.count(1 + TIME_BYTES)? {
        let name = reader.string()?;
        if group.consumer_number(&name).is_some() {
            reader.complaint = Some("Duplicate stream consumer detected");
            return None;
        }
        let seen_at_ms = i64::from_le_bytes(reader.array()?);
        let number = group.create_consumer(&name, seen_at_ms);
        let consumer: &mut Consumer = group.consumer_mut(number);
        consumer.active_at_ms = match of {
            rdb_type::STREAM_LISTPACKS_3 => i64::from_le_bytes(reader.array()?),
            // Nothing better is known.
            _ => seen_at_ms,
        };
        for _ in 0..reader.count(ID_BYTES)? {
            let id = StreamId::from_bytes(reader.array()?);
            let (delivered_at_ms, deliveries) = unowned.remove(&id)?;
            group.set_pending(id, Pending { consumer: number, delivered_at_ms, deliveries });
        }
    }
    unowned.is_empty().then_some(group)
}

fn read_id(reader: &mut Reader<'_>) -> Option<StreamId> {
    Some(StreamId::new(reader.plain_len()?, reader.plain_len()?))
}
