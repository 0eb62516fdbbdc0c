//! Makes the files say what counts and nothing else, so that the next start, and redis-server, read the same.
//!
//! What is torn is cut off. A part that does not count is overwritten with annotation lines of the same length, and the
//! checksum of its group is made to fit. As that takes several writes, of which a crash may leave some, all of it stands
//! first in a file of its own, which is put in its place whole: a start that finds it does it again, from the beginning.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::recover::Verdict;
use crate::base::crc::crc64;
use crate::codec::aof::{GROUP, LINE_BYTES_MAX, SKIPPED};
use crate::codec::rdb::{Form, Output, Reader, write_len, write_string};

/// What is to be done to one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    /// So many bytes stay.
    pub keep: u64,
    /// What is overwritten, and with what.
    pub patches: Vec<(u64, Vec<u8>)>,
}

/// What a verdict asks for, of a file of this length; nothing if it is all kept.
pub fn change_of(directory: &Path, name: &str, length: u64, verdict: &Verdict) -> io::Result<Option<Change>> {
    let mut change = Change { name: name.to_owned(), keep: verdict.keep, patches: Vec::new() };
    if verdict.keep == length && verdict.skipped.is_empty() {
        return Ok(None);
    }
    let file = if verdict.skipped.is_empty() { None } else { Some(File::open(directory.join(name))?) };
    // Parts of one group stand together, in their order.
    for parts in verdict.skipped.chunk_by(|a, b| a.group == b.group) {
        let group = parts[0].group.clone();
        let mut bytes = vec![0; (group.end - group.start) as usize];
        file.as_ref().expect("opened above").read_exact_at(&mut bytes, group.start)?;
        for part in parts {
            let range = (part.bytes.start - group.start) as usize..(part.bytes.end - group.start) as usize;
            let filling = padding(range.len());
            bytes[range].copy_from_slice(&filling);
            change.patches.push((part.bytes.start, filling));
        }
        let crc = format!("{:016x}", crc64(0, &bytes));
        let digits = itoa::Buffer::new().format(bytes.len()).len();
        change.patches.push((group.end + (GROUP.len() + digits + 1) as u64, crc.into_bytes()));
    }
    Ok(Some(change))
}

/// Annotation lines that are so long together.
fn padding(length: usize) -> Vec<u8> {
    let line_min = SKIPPED.len() + 2;
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let rest = length - out.len();
        let mut line = rest.min(LINE_BYTES_MAX - 1);
        if (1..line_min).contains(&(rest - line)) {
            line -= line_min;
        }
        out.extend_from_slice(SKIPPED.as_bytes());
        out.resize(out.len() + line - line_min, b'x');
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn journal_path(directory: &Path, append_file: &str) -> PathBuf {
    directory.join(format!("{append_file}.recovery"))
}

/// Does all of this, or what a crash leaves of it is done by the next [`finish`].
pub fn repair(directory: &Path, append_file: &str, changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let (path, temp) = (journal_path(directory, append_file), directory.join(format!("temp-{append_file}.recovery")));
    let mut file = File::create(&temp)?;
    file.write_all(&encode(changes))?;
    file.sync_all()?;
    fs::rename(&temp, &path)?;
    sync_directory(directory)?;
    apply(directory, changes)?;
    fs::remove_file(&path)?;
    sync_directory(directory)
}

/// Does again what a start that ended early had begun.
pub fn finish(directory: &Path, append_file: &str) -> io::Result<bool> {
    let path = journal_path(directory, append_file);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let changes = decode(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))?;
    apply(directory, &changes)?;
    fs::remove_file(&path)?;
    sync_directory(directory)?;
    Ok(true)
}

fn apply(directory: &Path, changes: &[Change]) -> io::Result<()> {
    for change in changes {
        let file = File::options().write(true).open(directory.join(&change.name))?;
        if file.metadata()?.len() > change.keep {
            file.set_len(change.keep)?;
        }
        for (at, bytes) in &change.patches {
            file.write_all_at(bytes, *at)?;
        }
        file.sync_all()?;
    }
    Ok(())
}

pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// In the pieces that RDB files are made of, with a checksum in front.
fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = Output::new(Form::File { compresses: false });
    write_len(changes.len() as u64, &mut out);
    for change in changes {
        write_string(change.name.as_bytes(), &mut out);
        write_len(change.keep, &mut out);
        write_len(change.patches.len() as u64, &mut out);
        for (at, bytes) in &change.patches {
            write_len(*at, &mut out);
            write_string(bytes, &mut out);
        }
    }
    let mut sealed = crc64(0, &out).to_le_bytes().to_vec();
    sealed.extend_from_slice(&out);
    sealed
}

fn decode(bytes: &[u8]) -> Option<Vec<Change>> {
    let (crc, bytes) = bytes.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*crc) != crc64(0, bytes) {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let mut changes = Vec::new();
    for _ in 0..reader.count(3)? {
        let name = String::from_utf8(reader.string()?.into_owned()).ok()?;
        let (keep, mut patches) = (reader.plain_len()?, Vec::new());
        for _ in 0..reader.count(2)? {
            patches.push((reader.plain_len()?, reader.string()?.into_owned()));
        }
        changes.push(Change { name, keep, patches });
    }
    reader.is_at_end().then_some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::aof::read::{Item, LogReader};
    use crate::codec::aof::write::{self, Standing};
    use crate::codec::aof::{Header, Policy, TransactionId};
    use crate::persist::aof::recover::{Crash, decide};
    use crate::persist::aof::scan::scan;

    #[test]
    fn padding_is_of_lines_that_redis_passes_over() {
        for length in (11..40).chain(980..1030).chain([5000, 100_000]) {
            let bytes = padding(length);
            assert_eq!(bytes.len(), length);
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            assert!(
                lines.iter().all(|line| line.starts_with(b"#skipped ") && line.ends_with(b"\r\n") && line.len() < 1000)
            );
        }
    }

    #[test]
    fn what_is_to_be_done_is_read_as_it_was_written() {
        let patches = vec![(7, vec![1, 2, 3]), (1 << 40, vec![b'5'])];
        let changes = vec![Change { name: "a b".to_owned(), keep: 99, patches }, Change::default()];
        let bytes = encode(&changes);
        assert_eq!(decode(&bytes), Some(changes));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert_eq!(decode(&changed), None);
            assert_eq!(decode(&bytes[..at]), None);
        }
    }

    /// A segment whose second group has a part that was never decided, and whose third is torn.
    fn torn_segment() -> Vec<u8> {
        let header = Header {
            generation: 1,
            shard: Some(0),
            shards: 2,
            prefixes: 0,
            start: 9,
            boot: "b".to_owned(),
            round: 0,
            position: 0,
        };
        let mut bytes = header.to_string().into_bytes();
        let mut position = 0;
        for n in 0..3 {
            let mut group = Vec::new();
            write::command(&mut group, &[b"SET", b"before", b"1"]);
            if n == 1 {
                write::part(&mut group, TransactionId { start: 9, coordinator: 1, counter: 5 }, 2);
                write::select(&mut group, 3);
                write::command(&mut group, &[b"SET", b"skipped", &[b'x'; 2000]]);
            }
            write::command(&mut group, &[b"SET", b"behind", b"1"]);
            let standing = Standing { position, durable: 0, policy: Policy::EverySecond, round: None };
            position = write::end_group(&mut group, standing);
            bytes.extend_from_slice(&group);
        }
        bytes.truncate(bytes.len() - 5);
        bytes
    }

    #[test]
    fn a_repaired_file_is_whole_and_says_only_what_counts() {
        let directory = std::env::temp_dir().join(format!("peristyle-repair-{}", std::process::id()));
        fs::create_dir(&directory).expect("a new directory");
        let bytes = torn_segment();
        let length = bytes.len() as u64;
        let path = directory.join("segment");
        let scan_now = || {
            let length = fs::metadata(&path).expect("it is there").len();
            scan(File::open(&path).expect("it is there"), length).expect("it is read")
        };
        // Whether all is done at once, or again by the next start.
        for is_interrupted in [false, true] {
            fs::write(&path, &bytes).expect("a new file");
            let scan = scan_now();
            let decision = decide(&[scan], Crash::Process).expect("no damage");
            let change = change_of(&directory, "segment", length, &decision.verdicts[0]).expect("it is read");
            let change = change.expect("there is something to be done");
            if is_interrupted {
                fs::write(journal_path(&directory, "aof"), encode(std::slice::from_ref(&change))).expect("a new file");
                apply(&directory, &[Change { patches: change.patches[..1].to_vec(), ..change }]).expect("written");
                assert!(finish(&directory, "aof").expect("written"));
            } else {
                repair(&directory, "aof", &[change]).expect("written");
            }
            assert!(!finish(&directory, "aof").expect("nothing is left to do"));
            let scan = scan_now();
            assert_eq!((scan.fault, scan.groups, scan.parts.len(), scan.intact), (None, 2, 0, scan.length));
            let kept = fs::read(&path).expect("it is there");
            let mut reader = LogReader::new(&kept[..], 0, scan.length);
            let mut commands = Vec::new();
            while let Some(item) = reader.next_item().expect("it is whole") {
                if let Item::Command(command) = item {
                    commands.push(String::from_utf8_lossy(command.word(1).expect("SET k v")).into_owned());
                }
            }
            assert_eq!(commands, ["before", "behind", "before", "behind"]);
        }
        fs::remove_dir_all(&directory).expect("it is there");
    }
}
