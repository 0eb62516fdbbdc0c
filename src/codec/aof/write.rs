//! Commands, annotation lines and groups, appended to a buffer.

use std::io::Write;

use super::{DECIDED, GroupEnd, PART, POSITIONS, Policy, TIMESTAMP, TransactionId};
use crate::base::crc::crc64;

/// A command in RESP.
#[inline]
pub fn command(output: &mut Vec<u8>, words: &[&[u8]]) {
    count(output, b'*', words.len());
    for word in words {
        count(output, b'$', word.len());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

#[inline]
fn count(output: &mut Vec<u8>, mark: u8, count: usize) {
    output.push(mark);
    output.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    output.extend_from_slice(b"\r\n");
}

pub fn select(output: &mut Vec<u8>, db: usize) {
    command(output, &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
}

pub fn timestamp(output: &mut Vec<u8>, unix_s: i64) {
    line(output, format_args!("{TIMESTAMP}{unix_s}\r\n"));
}

/// The line in front of a part, of which it is told how many commands it has.
pub fn part(output: &mut Vec<u8>, id: TransactionId, commands: usize) {
    line(output, format_args!("{PART}{id} {commands}\r\n"));
}

pub fn decided(output: &mut Vec<u8>, id: TransactionId, parts: u64) {
    line(output, format_args!("{DECIDED}{id} {parts}\r\n"));
}

/// Positions on one line: so many fit in any case.
const POSITIONS_PER_LINE: usize = 40;

/// How far the logs of all shards are.
pub fn positions(output: &mut Vec<u8>, positions: &[u64]) {
    for (index, some) in positions.chunks(POSITIONS_PER_LINE).enumerate() {
        output.extend_from_slice(POSITIONS.as_bytes());
        output.extend_from_slice((index * POSITIONS_PER_LINE).to_string().as_bytes());
        for position in some {
            output.push(b' ');
            output.extend_from_slice(itoa::Buffer::new().format(*position).as_bytes());
        }
        output.extend_from_slice(b"\r\n");
    }
}

/// What a group's last line says of the log as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The shard's position before the group.
    pub position: u64,
    pub durable: u64,
    pub policy: Policy,
    pub round: Option<u64>,
}

/// Ends the group that `output` holds alone; the shard's position behind it.
pub fn end_group(output: &mut Vec<u8>, standing: Standing) -> u64 {
    let Standing { position, durable, policy, round } = standing;
    let (length, crc) = (output.len() as u64, crc64(0, output));
    let mut end = GroupEnd { length, crc, position: position + length, durable, policy, round };
    // The position counts the line that it stands in.
    let mut line_bytes = 0;
    loop {
        let text = end.to_string();
        if text.len() as u64 == line_bytes {
            output.extend_from_slice(text.as_bytes());
            return end.position;
        }
        line_bytes = text.len() as u64;
        end.position = position + length + line_bytes;
    }
}

fn line(output: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    output.write_fmt(text).expect("a buffer takes everything");
}

#[cfg(test)]
mod tests {
    use super::super::Header;
    use super::*;

    fn standing(position: u64) -> Standing {
        Standing { position, durable: 7, policy: Policy::EverySecond, round: None }
    }

    #[test]
    fn a_position_counts_the_line_that_it_stands_in() {
        for before in (0..200).chain(900..1000).chain(99_800..100_000) {
            let mut group = b"#TS:1\r\n".to_vec();
            let after = end_group(&mut group, standing(before));
            assert_eq!(after, before + group.len() as u64);
            let text = String::from_utf8(group).expect("text");
            assert_eq!(text.split(' ').nth(3), Some(after.to_string().as_str()), "{text}");
        }
    }

    #[test]
    fn the_lines_of_a_segment() {
        let (boot, id) = ("b".to_owned(), TransactionId { start: 255, coordinator: 3, counter: 9 });
        let header =
            Header { generation: 2, shard: Some(1), shards: 4, prefixes: 10, start: 255, boot, round: 6, position: 7 };
        assert_eq!(
            header.to_string(),
            "#peristyle generation=2 shard=1 shards=4 prefixes=a start=ff boot=b round=6 position=7\r\n"
        );
        let whole = Header { shard: None, ..header };
        assert_eq!(
            whole.to_string(),
            "#peristyle generation=2 shard=- shards=4 prefixes=a start=ff boot=b round=6 position=7\r\n"
        );
        let mut bytes = Vec::new();
        part(&mut bytes, id, 2);
        select(&mut bytes, 12);
        command(&mut bytes, &[b"DEL", b""]);
        decided(&mut bytes, id, 2);
        timestamp(&mut bytes, 5);
        let text = "#part ff-3-9 2\r\n*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*2\r\n$3\r\nDEL\r\n$0\r\n\r\n#decided ff-3-9 2\r\n#TS:5\r\n";
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    #[test]
    fn an_empty_group_ends_a_round() {
        let mut group = Vec::new();
        let after = end_group(&mut group, Standing { round: Some(3), ..standing(0) });
        assert_eq!(String::from_utf8_lossy(&group), format!("#group 0 0000000000000000 {after} 7 e round 3\r\n"));
    }
}
