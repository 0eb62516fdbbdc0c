//! `peristyle check` for append-only files: a file, a manifest, or the directory, in the form of redis-check-aof.
//!
//! Files of Redis's are walked by its rules. Of our segments, groups and their checksums are looked at, and the files of
//! a manifest together: whether a start would take them, and what it would leave out. `--fix` cuts off what is behind the
//! last thing that is whole, `--truncate-to-timestamp` what is behind a moment; both only in the last file.

use std::fs::{self, File};
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Shown, check};
use crate::codec::aof::TIMESTAMP;
use crate::codec::aof::read::{Item, Line, LogReader, What, line};
use crate::persist::aof::manifest::Manifest;
use crate::persist::aof::recover::{Crash, decide};
use crate::persist::aof::scan::{Fault, Kind, Scan, scan};
use crate::persist::rdb::MAGIC;
use crate::persist::rdb::read::{Item as RdbItem, RdbReader, Versions};
use crate::sys::clock;

/// What is to be done beside looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Look,
    /// Cut off what is not whole.
    Fix,
    /// Cut off what is newer than this, in seconds.
    TruncateTo(i64),
}

/// What was found in a file.
struct Found {
    size: u64,
    /// Up to here all is well, and how many lines were read.
    ok_up_to: u64,
    lines: u64,
    /// What is wrong behind that.
    wrong: Option<String>,
}

/// The file is the manifest of an append-only directory.
pub fn is_manifest(path: &Path, begin: &[u8]) -> bool {
    path.to_string_lossy().ends_with(".manifest") || begin.starts_with(b"file ")
}

/// The manifest in a directory, if there is one and no other.
pub fn manifest_in(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "manifest") {
            found.push(path);
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// Checks the files of a manifest; whether all are good.
pub fn check_manifest(path: &Path, mode: Mode, answers: &mut impl BufRead, out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "Start checking Multi Part AOF")?;
    let manifest = match Manifest::parse(&fs::read(path)?) {
        Ok(manifest) => manifest,
        Err(error) => {
            writeln!(out, "\n*** FATAL AOF MANIFEST FILE ERROR ***")?;
            if error.line > 0 {
                writeln!(out, "Reading the manifest file, at line {}\n>>> '{}'", error.line, error.text.trim_end())?;
            }
            writeln!(out, "{}", error.reason)?;
            return Ok(false);
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let last = manifest.increments.len() + usize::from(manifest.base.is_some());
    let mut checked = 0;
    let mut file = |name: &str, what: &str, out: &mut dyn Write| -> io::Result<bool> {
        checked += 1;
        check_one(&directory.join(name), what, checked == last, mode, answers, out)
    };
    if let Some(base) = &manifest.base {
        let format = if begins_with(&directory.join(&base.name), MAGIC)? { "RDB" } else { "RESP" };
        writeln!(out, "Start to check BASE AOF ({format} format).")?;
        if !file(&base.name, "BASE AOF", out)? {
            return Ok(false);
        }
    }
    if !manifest.increments.is_empty() {
        writeln!(out, "Start to check INCR files.")?;
    }
    for increment in &manifest.increments {
        if !file(&increment.name, "INCR AOF", out)? {
            return Ok(false);
        }
    }
    if !check_together(directory, &manifest, out)? {
        return Ok(false);
    }
    writeln!(out, "All AOF files and manifest are valid")?;
    Ok(true)
}

/// Whether segments fit each other, and what a start would leave out of them.
fn check_together(directory: &Path, manifest: &Manifest, out: &mut impl Write) -> io::Result<bool> {
    let mut scans = Vec::new();
    for file in &manifest.increments {
        let path = directory.join(&file.name);
        scans.push(scan(File::open(&path)?, fs::metadata(&path)?.len())?);
    }
    if scans.iter().all(|scan| scan.header().is_none()) {
        return Ok(true);
    }
    match decide(&scans, Crash::Process) {
        Ok(decision) => {
            let skipped: usize = decision.verdicts.iter().map(|verdict| verdict.skipped.len()).sum();
            if skipped > 0 {
                writeln!(out, "{skipped} parts of transactions that did not end will not be loaded")?;
            }
            Ok(true)
        }
        Err(damage) => {
            let name = &manifest.increments[damage.file].name;
            writeln!(out, "AOF {name} does not continue what was logged before it")?;
            Ok(false)
        }
    }
}

/// Checks a file on its own; whether it is good.
pub fn check_single(path: &Path, mode: Mode, answers: &mut impl BufRead, out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "Start checking Old-Style AOF")?;
    check_one(path, "AOF", true, mode, answers, out)
}

fn check_one(
    path: &Path,
    what: &str,
    is_last: bool,
    mode: Mode,
    answers: &mut impl BufRead,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) => {
            writeln!(out, "Cannot open file {}: {error}", path.display())?;
            return Ok(false);
        }
    };
    if size == 0 {
        writeln!(out, "{what} {name} is empty")?;
        return Ok(true);
    }
    if let Mode::TruncateTo(second) = mode {
        return truncate_to(path, &name, what, is_last, second, out);
    }
    let mut from = 0;
    if begins_with(path, MAGIC)? {
        let mut told = Vec::new();
        let is_good =
            check::check(Shown::open(path)?, &path.display().to_string(), clock::unix_us() / 1000, &mut told)?;
        out.write_all(&told)?;
        if !is_good {
            writeln!(out, "RDB preamble of AOF file is not sane, aborting.")?;
            return Ok(false);
        }
        writeln!(out, "RDB preamble is OK, proceeding with AOF tail...")?;
        from = preamble_end(path)?;
    }
    let found = walk(path, from, size, &name)?;
    if let Some(wrong) = &found.wrong {
        writeln!(out, "{wrong}")?;
    }
    let Found { size, ok_up_to, lines, .. } = found;
    let diff = size - ok_up_to;
    writeln!(
        out,
        "AOF analyzed: filename={name}, size={size}, ok_up_to={ok_up_to}, ok_up_to_line={lines}, diff={diff}"
    )?;
    if diff == 0 {
        writeln!(out, "{what} {name} is valid")?;
        return Ok(true);
    }
    if mode != Mode::Fix {
        writeln!(out, "AOF {name} is not valid. Use the --fix option to try fixing it.")?;
        return Ok(false);
    }
    if !is_last {
        writeln!(out, "Failed to truncate AOF {name} because it is not the last file")?;
        return Ok(false);
    }
    writeln!(out, "This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {ok_up_to} bytes")?;
    write!(out, "Continue? [y/N]: ")?;
    out.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    if !answer.trim_start().starts_with(['y', 'Y']) {
        writeln!(out, "Aborting...")?;
        return Ok(false);
    }
    truncate(path, ok_up_to)?;
    writeln!(out, "Successfully truncated AOF {name}")?;
    Ok(true)
}

fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

fn begins_with(path: &Path, magic: &[u8]) -> io::Result<bool> {
    use std::io::Read;
    let mut begin = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(magic.len() as u64).read_to_end(&mut begin)?,
        // Who opens it again says so.
        Err(_) => return Ok(false),
    };
    Ok(begin == magic)
}

fn preamble_end(path: &Path) -> io::Result<u64> {
    let wrong = |error| io::Error::other(format!("{error}"));
    let mut reader = RdbReader::new(File::open(path)?, false, Versions::Any).map_err(wrong)?;
    while !matches!(reader.next_item().map_err(wrong)?, RdbItem::End(_)) {}
    Ok(reader.offset())
}

fn walk(path: &Path, from: u64, size: u64, name: &str) -> io::Result<Found> {
    let found: Scan = scan(File::open(path)?, size)?;
    if let Kind::Segment(header) = &found.kind {
        let shard = header.shard.map_or("all shards".to_owned(), |shard| format!("shard {shard}"));
        let wrong = found.fault.map(|fault| {
            let what = match fault {
                Fault::Truncated => "ends within a group",
                Fault::Damaged => "has a group that is damaged",
            };
            format!("AOF {name} of {shard}, generation {}, {what} behind offset {}", header.generation, found.intact)
        });
        return Ok(Found { size, ok_up_to: found.intact, lines: found.groups, wrong });
    }
    let mut file = Shown::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = LogReader::new(file, from, size);
    let (mut ok_up_to, mut in_multi) = (from, false);
    let wrong = loop {
        let at = reader.offset();
        match reader.next_item() {
            Ok(Some(Item::Command(command))) => {
                let (begins, ends) = (command.is("MULTI"), command.is("EXEC"));
                if begins && in_multi || ends && !in_multi {
                    let what = if begins { "MULTI" } else { "EXEC" };
                    break Some(format!("0x{at:16x}: Unexpected {what} in AOF {name}"));
                }
                in_multi = (in_multi || begins) && !ends;
            }
            Ok(Some(Item::Line(_))) => {}
            Ok(None) if in_multi => break Some(format!("0x{at:16x}: Reached EOF before reading EXEC for MULTI")),
            Ok(None) => break None,
            Err(error) => match error.what {
                What::Io(error) => return Err(error),
                What::Truncated => break Some(format!("0x{at:16x}: Reached EOF within a command")),
                What::Malformed => break Some(format!("AOF {name} format error")),
            },
        }
        if !in_multi {
            ok_up_to = reader.offset();
        }
    };
    Ok(Found { size, ok_up_to, lines: reader.lines(), wrong })
}

/// Cuts off what stands behind the first timestamp that is later.
fn truncate_to(
    path: &Path,
    name: &str,
    what: &str,
    is_last: bool,
    second: i64,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let size = fs::metadata(path)?.len();
    let from = if begins_with(path, MAGIC)? { preamble_end(path)? } else { 0 };
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = LogReader::new(file, from, size);
    loop {
        let at = reader.offset();
        let later = match reader.next_item() {
            Ok(Some(Item::Line(bytes))) if bytes.starts_with(TIMESTAMP.as_bytes()) => {
                matches!(line(bytes), Some(Line::Timestamp(told)) if told > second)
            }
            Ok(Some(_)) => false,
            Ok(None) => {
                writeln!(out, "Truncate nothing in AOF {name} to timestamp {second}")?;
                writeln!(out, "{what} {name} is valid")?;
                return Ok(true);
            }
            Err(error) => {
                writeln!(out, "AOF {name}: {error}, aborting...")?;
                return Ok(false);
            }
        };
        if !later {
            continue;
        }
        if at == 0 {
            writeln!(out, "AOF {name} has nothing before timestamp {second}, aborting...")?;
            return Ok(false);
        }
        if !is_last {
            writeln!(
                out,
                "Failed to truncate AOF {name} to timestamp {second} to offset {at} because it is not the last file.\n\
                 If you insist, please delete all files after this file according to the manifest file and delete the \
                 corresponding records in manifest file manually. Then re-run peristyle check."
            )?;
            return Ok(false);
        }
        // The group that it stands in is cut whole.
        let found = scan(File::open(path)?, at)?;
        let keep = if found.header().is_some() { found.intact } else { at };
        truncate(path, keep)?;
        writeln!(out, "Successfully truncated AOF {name} to timestamp {second}")?;
        return Ok(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::aof::write;

    /// A file that goes with the test.
    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str, bytes: &[u8]) -> Temp {
            let path = std::env::temp_dir().join(format!("peristyle-check-{}-{name}", std::process::id()));
            fs::write(&path, bytes).expect("a new file");
            Temp(path)
        }

        fn said(&self, mode: Mode, answer: &str) -> (bool, String) {
            let mut out = Vec::new();
            let good = check::run(&self.0, mode, &mut answer.as_bytes(), &mut out).expect("memory takes everything");
            let name = self.0.file_name().expect("a name").to_string_lossy().into_owned();
            (good, String::from_utf8(out).expect("it says texts").replace(&name, "a.aof"))
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn command(words: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write::command(&mut bytes, &words.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        bytes
    }

    #[test]
    fn says_what_redis_check_aof_says_and_cuts_off_what_is_not_whole() {
        let file = Temp::new("torn.aof", &[command("SET a b"), b"!!!".to_vec()].concat());
        let wrong = "Start checking Old-Style AOF\nAOF a.aof format error\n\
                     AOF analyzed: filename=a.aof, size=30, ok_up_to=27, ok_up_to_line=7, diff=3\n";
        let look = format!("{wrong}AOF a.aof is not valid. Use the --fix option to try fixing it.\n");
        assert_eq!(file.said(Mode::Look, ""), (false, look));
        let asked = "This will shrink the AOF a.aof from 30 bytes, with 3 bytes, to 27 bytes\nContinue? [y/N]: ";
        assert_eq!(file.said(Mode::Fix, "n\n"), (false, format!("{wrong}{asked}Aborting...\n")));
        assert_eq!(file.said(Mode::Fix, "y\n"), (true, format!("{wrong}{asked}Successfully truncated AOF a.aof\n")));
        let good = "Start checking Old-Style AOF\n\
                    AOF analyzed: filename=a.aof, size=27, ok_up_to=27, ok_up_to_line=7, diff=0\nAOF a.aof is valid\n";
        assert_eq!(file.said(Mode::Fix, ""), (true, good.to_owned()));
    }

    #[test]
    fn a_transaction_that_does_not_end_is_not_valid() {
        let file = Temp::new("multi.aof", &[command("SET a b"), command("MULTI"), command("SET c d")].concat());
        let (good, text) = file.said(Mode::Look, "");
        assert!(!good && text.contains(": Reached EOF before reading EXEC for MULTI\n"), "{text}");
        assert!(text.contains("size=69, ok_up_to=27"), "{text}");
        let (good, text) = Temp::new("exec.aof", &command("EXEC")).said(Mode::Look, "");
        assert!(!good && text.contains("0x               0: Unexpected EXEC in AOF a.aof\n"), "{text}");
    }

    #[test]
    fn truncates_to_a_timestamp() {
        let bytes = [b"#TS:100\r\n".to_vec(), command("PING"), b"#TS:105\r\n".to_vec(), command("PING")].concat();
        let file = Temp::new("times.aof", &bytes);
        let (good, text) = file.said(Mode::TruncateTo(1), "");
        assert!(!good && text.ends_with("AOF a.aof has nothing before timestamp 1, aborting...\n"), "{text}");
        let (good, text) = file.said(Mode::TruncateTo(102), "");
        assert!(good && text.ends_with("Successfully truncated AOF a.aof to timestamp 102\n"), "{text}");
        assert_eq!(fs::metadata(&file.0).expect("it is there").len(), 23);
        let (good, text) = file.said(Mode::TruncateTo(102), "");
        assert!(good && text.contains("Truncate nothing in AOF a.aof to timestamp 102\n"), "{text}");
    }
}
