//! Reads a file of the append-only directory once, without running anything: how much of it is whole, and what recovery
//! has to know to decide how much of it counts.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::base::crc::crc64;
use crate::base::ids::ShardId;
use crate::codec::aof::read::{Item, Line, LogReader, ReadError, What, line};
use crate::codec::aof::{GroupEnd, HEADER, Header, Policy, TransactionId};
use crate::persist::rdb::MAGIC;
use crate::persist::rdb::read::{Item as RdbItem, RdbError, RdbReader, Versions, What as RdbWhat};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of ours.
    Segment(Header),
    /// Commands that Redis wrote, behind an RDB preamble perhaps.
    Foreign,
    /// A file that was never begun.
    Blank,
}

/// Why a file is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends where more should follow.
    Truncated,
    /// Something else stands there.
    Damaged,
}

/// A part of a transaction over several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub id: TransactionId,
    /// Its line and its commands.
    pub bytes: Range<u64>,
    /// What the group's checksum is of; the group's line follows.
    pub group: Range<u64>,
}

/// The end of an everysec round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    pub number: u64,
    /// Where the group ends that ends it.
    pub end: u64,
}

/// A transaction that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    pub id: TransactionId,
    /// How many it consists of.
    pub parts: u64,
    /// Where the group ends that says so.
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    pub kind: Kind,
    /// How long the file is.
    pub length: u64,
    /// Up to here all is whole: groups, or commands outside of an unfinished MULTI.
    pub intact: u64,
    /// What is behind that, if anything.
    pub fault: Option<Fault>,
    /// Redis has gone on in this segment.
    pub is_appended: bool,
    /// The file ends within MULTI.
    pub in_multi: bool,
    /// Where the first group begins.
    pub groups_from: u64,
    pub groups: u64,
    /// In these groups; the end of a round has none.
    pub commands: u64,
    /// The log's position before the first group, and behind the last.
    pub position: Range<u64>,
    /// The highest position that is told to be durable.
    pub durable: u64,
    pub rounds: Vec<Round>,
    /// Where the last group ends that was not written under `everysec`.
    pub lasting: u64,
    pub parts: Vec<Part>,
    /// Of a record of the whole keyspace: how far each shard's log was.
    pub positions: Vec<(ShardId, u64)>,
    pub decided: Vec<Decided>,
}

impl Scan {
    fn new(kind: Kind, length: u64) -> Scan {
        Scan {
            kind,
            length,
            intact: 0,
            fault: None,
            is_appended: false,
            in_multi: false,
            groups_from: 0,
            groups: 0,
            commands: 0,
            position: 0..0,
            durable: 0,
            rounds: Vec::new(),
            lasting: 0,
            parts: Vec::new(),
            positions: Vec::new(),
            decided: Vec::new(),
        }
    }

    pub fn header(&self) -> Option<&Header> {
        match &self.kind {
            Kind::Segment(header) => Some(header),
            Kind::Foreign | Kind::Blank => None,
        }
    }

    fn ended(mut self, error: ReadError) -> io::Result<Scan> {
        self.fault = Some(match error.what {
            What::Io(error) => return Err(error),
            What::Truncated => Fault::Truncated,
            What::Malformed => Fault::Damaged,
        });
        Ok(self)
    }
}

/// Scans a file of this length.
pub fn scan(mut input: impl Read + Seek, length: u64) -> io::Result<Scan> {
    let mut from = 0;
    if starts_with(&mut input, MAGIC)? {
        match preamble_end(&mut input)? {
            Ok(end) => from = end,
            Err(fault) => return Ok(Scan { fault: Some(fault), ..Scan::new(Kind::Foreign, length) }),
        }
    }
    input.seek(SeekFrom::Start(from))?;
    let mut reader = LogReader::new(input, from, length);
    if from > 0 {
        return scan_foreign(reader, Scan { intact: from, ..Scan::new(Kind::Foreign, length) });
    }
    let header = match reader.next_item() {
        Ok(Some(Item::Line(bytes))) => line(bytes),
        Ok(None) => return Ok(Scan::new(Kind::Blank, length)),
        Err(error) => {
            let ahead = reader.ahead();
            // The header is written first, and what a power loss leaves of a new file may be zeros.
            let is_header = HEADER.as_bytes().starts_with(ahead) || ahead.starts_with(HEADER.as_bytes());
            let kind = if is_header || ahead.first() == Some(&0) { Kind::Blank } else { Kind::Foreign };
            return Scan::new(kind, length).ended(error);
        }
        Ok(Some(Item::Command(_))) => Some(Line::Other),
    };
    match header {
        Some(Line::Header(header)) => scan_segment(reader, Scan::new(Kind::Segment(header), length)),
        Some(_) => {
            let mut input = reader.into_inner();
            input.seek(SeekFrom::Start(0))?;
            scan_foreign(LogReader::new(input, 0, length), Scan::new(Kind::Foreign, length))
        }
        None => Ok(Scan { fault: Some(Fault::Damaged), ..Scan::new(Kind::Blank, length) }),
    }
}

fn starts_with(input: &mut (impl Read + Seek), magic: &[u8]) -> io::Result<bool> {
    input.seek(SeekFrom::Start(0))?;
    let mut begin = Vec::new();
    input.take(magic.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == magic)
}

/// Where an RDB preamble ends.
fn preamble_end(input: &mut (impl Read + Seek)) -> io::Result<Result<u64, Fault>> {
    input.seek(SeekFrom::Start(0))?;
    let walk = || -> Result<u64, RdbError> {
        let mut reader = RdbReader::new(input, true, Versions::Any)?;
        while !matches!(reader.next_item()?, RdbItem::End(_)) {}
        Ok(reader.offset())
    };
    match walk() {
        Ok(end) => Ok(Ok(end)),
        Err(RdbError { what: RdbWhat::Io(error), .. }) => Err(error),
        Err(_) => Ok(Err(Fault::Damaged)),
    }
}

fn scan_foreign<R: Read>(mut reader: LogReader<R>, mut scan: Scan) -> io::Result<Scan> {
    loop {
        match reader.next_item() {
            Ok(Some(Item::Command(command))) => {
                let (begins, ends) = (command.is("MULTI"), command.is("EXEC"));
                scan.in_multi = (scan.in_multi || begins) && !ends;
            }
            Ok(Some(Item::Line(_))) => {}
            Ok(None) if scan.in_multi => return Ok(Scan { fault: Some(Fault::Truncated), ..scan }),
            Ok(None) => return Ok(scan),
            Err(error) => return scan.ended(error),
        }
        if !scan.in_multi {
            scan.intact = reader.offset();
        }
    }
}

/// What Redis has written behind the end of a segment. A torn end of that is not the log's.
fn scan_appended<R: Read>(reader: LogReader<R>, mut scan: Scan) -> io::Result<Scan> {
    if let Some(round) = scan.rounds.last_mut().filter(|round| round.end == scan.intact) {
        // The line that ends the log well belongs to the round that ends all logs.
        round.end = reader.offset();
    }
    (scan.intact, scan.is_appended) = (reader.offset(), reader.offset() < scan.length);
    let mut scan = scan_foreign(reader, scan)?;
    scan.fault = scan.fault.filter(|&fault| fault != Fault::Truncated);
    if scan.is_appended {
        // Redis begins when all logs have ended.
        scan.lasting = scan.intact;
    }
    Ok(scan)
}

/// What was read of the group that has not ended yet.
#[derive(Default)]
struct Open {
    crc: u64,
    length: u64,
    commands: u64,
    parts: Vec<(TransactionId, Range<u64>)>,
    decided: Vec<(TransactionId, u64)>,
    positions: Vec<(ShardId, u64)>,
    /// Commands that the last part still lacks.
    awaited: u64,
}

fn scan_segment<R: Read>(mut reader: LogReader<R>, mut scan: Scan) -> io::Result<Scan> {
    (scan.groups_from, scan.intact) = (reader.offset(), reader.offset());
    let mut open = Open::default();
    loop {
        let from = reader.offset();
        let end = match reader.next_item() {
            Ok(Some(Item::Command(_))) => {
                open.commands += 1;
                if open.awaited > 0 {
                    open.awaited -= 1;
                    open.parts.last_mut().expect("a part that lacks commands").1.end = reader.offset();
                }
                None
            }
            Ok(Some(Item::Line(bytes))) => match line(bytes) {
                Some(Line::Group(end)) => Some(end),
                Some(Line::Part(id, commands)) if open.awaited == 0 => {
                    open.parts.push((id, from..reader.offset()));
                    open.awaited = commands;
                    None
                }
                Some(Line::Decided(id, parts)) if open.awaited == 0 => {
                    open.decided.push((id, parts));
                    None
                }
                Some(Line::Positions(first, positions)) => {
                    open.positions.extend((first..).zip(positions));
                    None
                }
                Some(Line::Closed) if open.length == 0 => return scan_appended(reader, scan),
                Some(Line::Timestamp(_) | Line::Other) => None,
                Some(Line::Header(_) | Line::Part(..) | Line::Decided(..) | Line::Closed) | None => {
                    return Ok(Scan { fault: Some(Fault::Damaged), ..scan });
                }
            },
            Ok(None) if open.length == 0 => return Ok(scan),
            Ok(None) => return Ok(Scan { fault: Some(Fault::Truncated), ..scan }),
            Err(error) => return scan.ended(error),
        };
        match end {
            None => {
                let raw = reader.raw();
                open.crc = crc64(open.crc, raw);
                open.length += raw.len() as u64;
            }
            Some(end) => {
                let line_bytes = reader.raw().len() as u64;
                if !scan.close(std::mem::take(&mut open), end, from, line_bytes) {
                    return Ok(Scan { fault: Some(Fault::Damaged), ..scan });
                }
                // A record of the whole keyspace is alone.
                if scan.header().is_some_and(|header| header.shard.is_none()) && scan.intact < scan.length {
                    return scan_appended(reader, scan);
                }
            }
        }
    }
}

impl Scan {
    /// The line that ends a group stands at `at`: whether both fit what is before them.
    fn close(&mut self, open: Open, end: GroupEnd, at: u64, line_bytes: u64) -> bool {
        let before = end.position.checked_sub(open.length + line_bytes);
        let follows = self.groups == 0 || before == Some(self.position.end);
        let (Some(before), true) = (before, follows) else { return false };
        if end.length != open.length || end.crc != open.crc || open.awaited > 0 || end.durable > end.position {
            return false;
        }
        if self.groups == 0 {
            self.position.start = before;
        }
        self.groups += 1;
        self.commands += open.commands;
        self.position.end = end.position;
        self.intact = at + line_bytes;
        self.durable = self.durable.max(end.durable);
        if let Some(number) = end.round {
            self.rounds.push(Round { number, end: self.intact });
        }
        if end.policy != Policy::EverySecond {
            self.lasting = self.intact;
        }
        self.positions.extend(open.positions);
        let group = at - open.length..at;
        self.parts.extend(open.parts.into_iter().map(|(id, bytes)| Part { id, bytes, group: group.clone() }));
        let end = self.intact;
        self.decided.extend(open.decided.into_iter().map(|(id, parts)| Decided { id, parts, end }));
        true
    }
}
