//! Reads what an append-only file holds: annotation lines and commands, through a buffer that holds one of them whole.
//!
//! It takes Redis's files as well as segments. The buffer grows with the bytes that arrive, never with a length that a
//! file merely states: what is longer than the rest of the file is known to be cut short at once.

use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;

use super::{
    CLOSED, DECIDED, GROUP, GroupEnd, HEADER, Header, LINE_BYTES_MAX, PART, POSITIONS, Policy, TIMESTAMP, TransactionId,
};
use crate::base::ids::ShardId;

/// How much is asked for at once.
const READ_BYTES: usize = 256 * 1024;
/// The count of words, or the length of one, with its mark and its end: Redis reads no more.
const NUMBER_LINE_BYTES_MAX: usize = 128;

/// What stands in a file.
#[derive(Debug)]
pub enum Item<'a> {
    /// With its end.
    Line(&'a [u8]),
    Command(Command<'a>),
}

#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    bytes: &'a [u8],
    words: &'a [Range<usize>],
}

impl<'a> Command<'a> {
    pub fn len(self) -> usize {
        self.words.len()
    }

    /// A command has a word at least: never.
    pub fn is_empty(self) -> bool {
        self.words.is_empty()
    }

    pub fn word(self, index: usize) -> Option<&'a [u8]> {
        self.words.get(index).map(|range| &self.bytes[range.clone()])
    }

    pub fn words(self) -> impl Iterator<Item = &'a [u8]> {
        self.words.iter().map(move |range| &self.bytes[range.clone()])
    }

    /// The command's name, in any case.
    pub fn is(self, name: &str) -> bool {
        self.word(0).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Why reading ended early, and behind which byte everything is well.
#[derive(Debug)]
pub struct ReadError {
    pub offset: u64,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Io(io::Error),
    /// The file ends where more should follow.
    Truncated,
    /// Something else stands there.
    Malformed,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Io(error) => write!(f, "reading at offset {}: {error}", self.offset),
            What::Truncated => write!(f, "the file ends within what begins at offset {}", self.offset),
            What::Malformed => write!(f, "neither a command nor an annotation at offset {}", self.offset),
        }
    }
}

impl std::error::Error for ReadError {}

pub struct LogReader<R> {
    input: R,
    /// Bytes of the file from `offset` on.
    buffer: Vec<u8>,
    /// Of these, how many are taken, and how many were read.
    at: usize,
    filled: usize,
    /// Where the buffer begins in the file.
    offset: u64,
    /// How long the file is.
    length: u64,
    /// Lines so far, as redis-check-aof counts them.
    lines: u64,
    /// The words of the last command, as ranges of the item.
    words: Vec<Range<usize>>,
    /// How long the last item is, in bytes and in lines.
    taken: usize,
    taken_lines: u64,
    /// Items that were read together, and the words of all of them.
    batch: Vec<Batched>,
    batch_words: Vec<Range<usize>>,
}

/// One of several items that were read together.
struct Batched {
    /// In the buffer.
    bytes: Range<usize>,
    /// Among those of all; none of a line.
    words: Range<usize>,
}

/// What the buffer begins with.
enum Step {
    Line(usize),
    Command(usize),
    /// So many bytes are needed at least to tell.
    Needs(usize),
    Malformed,
}

impl<R: Read> LogReader<R> {
    /// Reads from the beginning of a file of this length, or from `offset`, where `input` already is.
    pub fn new(input: R, offset: u64, length: u64) -> LogReader<R> {
        LogReader {
            input,
            buffer: Vec::new(),
            at: 0,
            filled: 0,
            offset,
            length,
            lines: 0,
            words: Vec::new(),
            taken: 0,
            taken_lines: 0,
            batch: Vec::new(),
            batch_words: Vec::new(),
        }
    }

    pub fn into_inner(self) -> R {
        self.input
    }

    /// Where the next item begins.
    pub fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What was read of the next item.
    pub fn ahead(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    /// The bytes of the last item.
    pub fn raw(&self) -> &[u8] {
        &self.buffer[self.at - self.taken..self.at]
    }

    /// The next item; nothing at the end.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let mut needed = 1;
        let step = loop {
            if self.filled - self.at < needed && !self.fill(needed)? {
                if self.filled == self.at {
                    return Ok(None);
                }
                return Err(self.error(What::Truncated));
            }
            self.words.clear();
            match step(&self.buffer[self.at..self.filled], &mut self.words) {
                Step::Needs(more) => needed = more,
                Step::Malformed => return Err(self.error(What::Malformed)),
                step => break step,
            }
        };
        let from = self.at;
        Ok(Some(match step {
            Step::Line(length) => {
                self.take(length, 1);
                Item::Line(&self.buffer[from..from + length])
            }
            Step::Command(length) => {
                self.take(length, 1 + 2 * self.words.len() as u64);
                Item::Command(Command { bytes: &self.buffer[from..from + length], words: &self.words })
            }
            Step::Needs(_) | Step::Malformed => unreachable!("the loop goes on, or has returned"),
        }))
    }

    /// The last item is the next one again.
    pub fn put_back(&mut self) {
        self.at -= mem::take(&mut self.taken);
        self.lines -= mem::take(&mut self.taken_lines);
    }

    /// Reads the next items together, so that what they need can be asked for before the first of them is run: one at least,
    /// and more, up to `max`, that are in the buffer already. How many there are; none at the end. They are still to come
    /// until [`Self::take_batch`].
    pub fn read_batch(&mut self, max: usize) -> Result<usize, ReadError> {
        self.batch.clear();
        self.batch_words.clear();
        if self.next_item()?.is_none() {
            return Ok(0);
        }
        self.put_back();
        let mut at = self.at;
        while self.batch.len() < max && at < self.filled {
            let first = self.batch_words.len();
            let length = match step(&self.buffer[at..self.filled], &mut self.batch_words) {
                Step::Line(length) | Step::Command(length) => length,
                // As the first of a batch it is read whole, or found to be none.
                Step::Needs(_) | Step::Malformed => {
                    self.batch_words.truncate(first);
                    break;
                }
            };
            self.batch.push(Batched { bytes: at..at + length, words: first..self.batch_words.len() });
            at += length;
        }
        Ok(self.batch.len())
    }

    /// An item of the batch.
    pub fn batched(&self, index: usize) -> Item<'_> {
        let Batched { bytes, words } = &self.batch[index];
        let (bytes, words) = (&self.buffer[bytes.clone()], &self.batch_words[words.clone()]);
        if words.is_empty() { Item::Line(bytes) } else { Item::Command(Command { bytes, words }) }
    }

    /// So many items of the batch are done with; the others are forgotten, and the next ones again.
    pub fn take_batch(&mut self, count: usize) {
        for index in 0..count {
            let Batched { bytes, words } = &self.batch[index];
            let (length, lines) = (bytes.len(), if words.is_empty() { 1 } else { 1 + 2 * words.len() as u64 });
            self.take(length, lines);
        }
        self.batch.clear();
    }

    fn take(&mut self, length: usize, lines: u64) {
        (self.taken, self.taken_lines) = (length, lines);
        self.at += length;
        self.lines += lines;
    }

    fn error(&self, what: What) -> ReadError {
        ReadError { offset: self.offset(), what }
    }

    /// Reads until so many bytes are there from the next item on; false if the file has no more.
    fn fill(&mut self, needed: usize) -> Result<bool, ReadError> {
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.filled -= self.at;
        (self.at, self.taken) = (0, 0);
        // Nothing is made room for that cannot come.
        if self.offset.saturating_add(needed as u64) > self.length {
            if self.filled == 0 && self.offset >= self.length {
                return Ok(false);
            }
            return if needed > 1 { Err(self.error(What::Truncated)) } else { Ok(false) };
        }
        let rest = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        while self.filled < needed {
            let wanted = (self.filled + READ_BYTES).max(needed.min(2 * self.filled)).min(rest);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(What::Io(error))),
            }
        }
        Ok(true)
    }
}

/// Looks at the beginning of `bytes`, of which there is at least one, and adds the words of a command to `words`.
fn step(bytes: &[u8], words: &mut Vec<Range<usize>>) -> Step {
    match bytes[0] {
        b'#' => match memchr::memchr(b'\n', bytes) {
            Some(end) if end < LINE_BYTES_MAX + 24 => Step::Line(end + 1),
            None if bytes.len() < LINE_BYTES_MAX + 24 => Step::Needs(bytes.len() + 1),
            _ => Step::Malformed,
        },
        b'*' => command(bytes, words),
        _ => Step::Malformed,
    }
}

fn command(bytes: &[u8], words: &mut Vec<Range<usize>>) -> Step {
    let (count, mut at) = match number(bytes, 1) {
        Ok(found) => found,
        Err(step) => return step,
    };
    if count == 0 {
        return Step::Malformed;
    }
    for _ in 0..count {
        match bytes.get(at) {
            Some(b'$') => {}
            Some(_) => return Step::Malformed,
            None => return Step::Needs(at + 1),
        }
        let (length, from) = match number(bytes, at + 1) {
            Ok(found) => found,
            Err(step) => return step,
        };
        let Some(end) = from.checked_add(length).filter(|end| end.checked_add(2).is_some()) else {
            return Step::Malformed;
        };
        at = end + 2;
        if at > bytes.len() {
            return Step::Needs(at);
        }
        if &bytes[end..at] != b"\r\n" {
            return Step::Malformed;
        }
        words.push(from..end);
    }
    Step::Command(at)
}

/// The number of a line, from `at` on, and where the next one begins.
fn number(bytes: &[u8], mut at: usize) -> Result<(usize, usize), Step> {
    let (from, mut value) = (at, 0usize);
    loop {
        match bytes.get(at) {
            Some(digit @ b'0'..=b'9') if at - from < NUMBER_LINE_BYTES_MAX => {
                let digit = usize::from(digit - b'0');
                value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(Step::Malformed)?;
            }
            Some(b'\r') if at > from => break,
            Some(_) => return Err(Step::Malformed),
            None => return Err(Step::Needs(at + 1)),
        }
        at += 1;
    }
    match bytes.get(at + 1) {
        Some(b'\n') => Ok((value, at + 2)),
        Some(_) => Err(Step::Malformed),
        None => Err(Step::Needs(at + 2)),
    }
}

/// An annotation line by what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Header(Header),
    Group(GroupEnd),
    /// The next so many commands belong to a transaction.
    Part(TransactionId, u64),
    /// It has happened, and consists of so many parts.
    Decided(TransactionId, u64),
    /// How far the logs of this shard and the following ones were.
    Positions(ShardId, Vec<u64>),
    Closed,
    /// Unix time in seconds.
    Timestamp(i64),
    /// Skipped bytes, or what others wrote.
    Other,
}

/// What a line says; nothing if it begins like one of ours and is none.
pub fn line(bytes: &[u8]) -> Option<Line> {
    if bytes == CLOSED.as_bytes() {
        return Some(Line::Closed);
    }
    let Some(text) = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix("\r\n")) else {
        let is_ours = [HEADER, GROUP, PART, DECIDED, POSITIONS].iter().any(|mark| bytes.starts_with(mark.as_bytes()));
        return (!is_ours).then_some(Line::Other);
    };
    if let Some(rest) = text.strip_prefix(GROUP) {
        return group(rest).map(Line::Group);
    }
    if let Some(rest) = text.strip_prefix(PART) {
        let (id, commands) = rest.split_once(' ')?;
        return Some(Line::Part(transaction(id)?, commands.parse().ok()?));
    }
    if let Some(rest) = text.strip_prefix(DECIDED) {
        let (id, parts) = rest.split_once(' ')?;
        return Some(Line::Decided(transaction(id)?, parts.parse().ok()?));
    }
    if let Some(rest) = text.strip_prefix(POSITIONS) {
        let (first, rest) = rest.split_once(' ')?;
        let positions: Option<Vec<u64>> = rest.split(' ').map(|word| word.parse().ok()).collect();
        return Some(Line::Positions(first.parse().ok()?, positions?));
    }
    if let Some(rest) = text.strip_prefix(HEADER) {
        return header(rest).map(Line::Header);
    }
    if let Some(rest) = text.strip_prefix(TIMESTAMP) {
        return Some(rest.parse().map_or(Line::Other, Line::Timestamp));
    }
    Some(Line::Other)
}

fn group(text: &str) -> Option<GroupEnd> {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let (length, crc) = (word()?.parse().ok()?, u64::from_str_radix(word()?, 16).ok()?);
    let (position, durable) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let policy = Policy::from_letter(word()?)?;
    let round = match (word(), word(), word()) {
        (None, ..) => None,
        (Some("round"), Some(round), None) => Some(round.parse().ok()?),
        _ => return None,
    };
    Some(GroupEnd { length, crc, position, durable, policy, round })
}

fn transaction(text: &str) -> Option<TransactionId> {
    let mut words = text.split('-');
    let mut word = || words.next();
    let start = u64::from_str_radix(word()?, 16).ok()?;
    let id = TransactionId { start, coordinator: word()?.parse().ok()?, counter: word()?.parse().ok()? };
    word().is_none().then_some(id)
}

fn header(text: &str) -> Option<Header> {
    let mut header = Header {
        generation: 0,
        shard: None,
        shards: 0,
        prefixes: 0,
        start: 0,
        boot: String::new(),
        round: 0,
        position: 0,
    };
    let mut known = 0;
    for pair in text.split(' ') {
        let (name, value) = pair.split_once('=')?;
        known += 1;
        match name {
            "generation" => header.generation = value.parse().ok()?,
            "shard" if value == "-" => {}
            "shard" => header.shard = Some(value.parse().ok()?),
            "shards" => header.shards = value.parse().ok()?,
            "prefixes" => header.prefixes = u64::from_str_radix(value, 16).ok()?,
            "start" => header.start = u64::from_str_radix(value, 16).ok()?,
            "boot" => header.boot = value.to_owned(),
            "round" => header.round = value.parse().ok()?,
            "position" => header.position = value.parse().ok()?,
            // Of a later version.
            _ => known -= 1,
        }
    }
    (known == 8 && header.shards > 0).then_some(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::write;
    use super::*;
    use crate::base::rng::Rng;

    /// Hands out as little at a time as a slow disk might.
    struct Trickle<'a>(&'a [u8], Rng);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = (1 + self.1.below(20) as usize).min(self.0.len()).min(buffer.len());
            let (now, rest) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = rest;
            Ok(length)
        }
    }

    fn read(bytes: &[u8]) -> (Vec<String>, Option<What>) {
        let mut reader = LogReader::new(Trickle(bytes, Rng::new(7)), 0, bytes.len() as u64);
        let mut seen = Vec::new();
        loop {
            match reader.next_item() {
                Ok(Some(Item::Line(line))) => seen.push(line.escape_ascii().to_string()),
                Ok(Some(Item::Command(command))) => {
                    seen.push(
                        command.words().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" "),
                    );
                }
                Ok(None) => return (seen, None),
                Err(error) => {
                    assert!(error.offset <= bytes.len() as u64);
                    return (seen, Some(error.what));
                }
            }
        }
    }

    #[test]
    fn commands_and_lines_are_read_and_what_is_cut_short_is_told() {
        let mut bytes = b"#TS:5\r\n".to_vec();
        write::command(&mut bytes, &[b"SET", b"k", &[b'x'; 300_000]]);
        write::command(&mut bytes, &[b"DEL", b"\r\n$"]);
        let long = "x".repeat(300_000);
        let all = ["#TS:5\\r\\n".to_owned(), format!("SET k {long}"), "DEL \\r\\n$".to_owned()];
        assert_eq!(read(&bytes).0, all);
        assert!(read(&bytes).1.is_none());
        for cut in (1..7).chain(8..40).chain([299_000]).chain(bytes.len() - 20..bytes.len()) {
            assert!(matches!(read(&bytes[..cut]).1, Some(What::Truncated)), "{cut}");
        }
    }

    /// The items as batches of up to `max` give them, of each of which only some are taken at first.
    fn read_in_batches(bytes: &[u8], max: usize, mut random: Rng) -> (Vec<String>, u64) {
        let mut reader = LogReader::new(Trickle(bytes, Rng::new(7)), 0, bytes.len() as u64);
        let mut seen = Vec::new();
        while let Ok(count @ 1..) = reader.read_batch(max) {
            let taken = random.below(count as u64 + 1) as usize;
            seen.extend((0..taken).map(|index| match reader.batched(index) {
                Item::Line(line) => line.escape_ascii().to_string(),
                Item::Command(command) => {
                    command.words().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
                }
            }));
            reader.take_batch(taken);
        }
        (seen, reader.lines())
    }

    #[test]
    fn batches_hold_what_is_read_one_by_one() {
        let mut bytes = Vec::new();
        for number in 0..500 {
            let key = number.to_string();
            match number % 5 {
                0 => bytes.extend_from_slice(b"#TS:5\r\n"),
                1 => write::command(&mut bytes, &[b"SET", key.as_bytes(), &[b'x'; 3000]]),
                _ => write::command(&mut bytes, &[b"DEL", key.as_bytes()]),
            }
        }
        for end in [bytes.len(), bytes.len() - 1] {
            let bytes = &bytes[..end];
            let (all, _) = read(bytes);
            for max in [1, 3, 16] {
                let (seen, lines) = read_in_batches(bytes, max, Rng::new(max as u64));
                assert!(seen == all, "{max}: {} of {}", seen.len(), all.len());
                let lines_of =
                    |item: &String| if item.starts_with('#') { 1 } else { 1 + 2 * item.split(' ').count() as u64 };
                assert_eq!(lines, all.iter().map(lines_of).sum::<u64>());
            }
        }
    }

    #[test]
    fn what_is_no_command_is_told_at_once() {
        for bytes in [&b"!!!"[..], b"*0\r\n", b"*1\r\n:1\r\n", b"*1\r\n$1\r\nabc", b"*-1\r\n", b"*1\n", b"*1\r\n$x\r\n"]
        {
            assert!(matches!(read(bytes).1, Some(What::Malformed)), "{}", bytes.escape_ascii());
        }
        // Lengths that nobody makes room for.
        assert!(matches!(read(b"*1\r\n$9000000000000000000\r\nabc").1, Some(What::Truncated)));
        assert!(matches!(read(b"*1\r\n$18446744073709551615\r\nabc").1, Some(What::Malformed)));
        assert!(matches!(read(b"*99999999999999999999999\r\n").1, Some(What::Malformed)));
        assert!(matches!(read(&[b'#'; 2000]).1, Some(What::Malformed)));
    }

    #[test]
    fn lines_are_counted_as_redis_counts_them() {
        let mut bytes = b"#TS:5\r\n".to_vec();
        write::command(&mut bytes, &[b"SET", b"k", b"v"]);
        let mut reader = LogReader::new(&bytes[..], 0, bytes.len() as u64);
        while reader.next_item().expect("right").is_some() {}
        assert_eq!((reader.lines(), reader.offset()), (8, bytes.len() as u64));
    }

    proptest! {
        #[test]
        fn lines_are_read_as_they_were_written(numbers: [u64; 6], shard: Option<u8>, round: Option<u64>, policy in 0..3) {
            let [generation, start, length, crc, position, durable] = numbers;
            let shard = shard.map(usize::from);
            let header = Header { generation, shard, shards: 4, prefixes: crc, start, boot: "a-b".to_owned(), round: position, position: length };
            prop_assert_eq!(line(header.to_string().as_bytes()), Some(Line::Header(header)));
            let policy = [Policy::Always, Policy::EverySecond, Policy::No][policy as usize];
            let end = GroupEnd { length, crc, position, durable, policy, round };
            prop_assert_eq!(line(end.to_string().as_bytes()), Some(Line::Group(end)));
            let id = TransactionId { start, coordinator: 3, counter: length };
            let mut bytes = Vec::new();
            write::part(&mut bytes, id, 7);
            prop_assert_eq!(line(&bytes), Some(Line::Part(id, 7)));
            bytes.clear();
            write::decided(&mut bytes, id, 2);
            prop_assert_eq!(line(&bytes), Some(Line::Decided(id, 2)));
            bytes.clear();
            write::positions(&mut bytes, &[numbers[0]; 50]);
            let lines: Vec<Line> = bytes.split_inclusive(|&byte| byte == b'\n').filter_map(line).collect();
            let expected = [Line::Positions(0, vec![numbers[0]; 40]), Line::Positions(40, vec![numbers[0]; 10])];
            prop_assert_eq!(lines, expected);
            prop_assert!(bytes.split(|&byte| byte == b'\n').all(|line| line.len() < LINE_BYTES_MAX - 1));
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in 0usize..4) {
            let mut bytes = bytes;
            let begin: &[u8] = [&b"*3\r\n$3\r\nSET\r\n"[..], b"#group ", b"*1\r\n$", b""][from];
            bytes.splice(0..0, begin.iter().copied());
            let _ = read(&bytes);
            let _ = line(&bytes);
        }
    }
}
