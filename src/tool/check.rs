//! `peristyle check FILE`: reads an RDB file to its end, decodes every value, and says what is wrong and where, in the
//! form of redis-check-rdb. What belongs to the append-only file is `check_aof`'s.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use super::Shown;
use super::check_aof::{self, Mode};
use crate::base::rng::Rng;
use crate::codec::rdb::Reader;
use crate::config::Config;
use crate::data::collection::Env;
use crate::data::dump::{self, NoValue};
use crate::persist::rdb::read::{Checksum, Doing, Item, RdbError, RdbReader, Record, Versions, What};
use crate::persist::rdb::{HEADER_LEN, MAGIC};
use crate::sys::clock;

/// Checks what is at a path; whether it is good. `answers` are those of who is asked whether to change it.
pub fn run(path: &Path, mode: Mode, answers: &mut impl BufRead, out: &mut impl Write) -> io::Result<bool> {
    let path = &match path.is_dir() {
        true => match check_aof::manifest_in(path)? {
            Some(manifest) => manifest,
            None => {
                eprintln!("There is no manifest in {}, or several", path.display());
                return Ok(false);
            }
        },
        false => path.to_owned(),
    };
    let mut begin = Vec::new();
    if let Ok(file) = File::open(path) {
        file.take(BEGIN_BYTES).read_to_end(&mut begin)?;
    }
    let is_rdb = begin.starts_with(MAGIC) || begin.starts_with(b"VALKEY");
    let is_log = matches!(begin.first(), Some(b'*' | b'#')) || path.extension().is_some_and(|name| name == "aof");
    if check_aof::is_manifest(path, &begin) {
        return check_aof::check_manifest(path, mode, answers, out);
    }
    if is_log || mode != Mode::Look && !is_rdb {
        return check_aof::check_single(path, mode, answers, out);
    }
    if mode != Mode::Look {
        eprintln!("Only append-only files can be changed");
        return Ok(false);
    }
    match Shown::open(path) {
        Ok(file) => check(file, &path.display().to_string(), clock::unix_us() / 1000, out),
        Err(error) => {
            eprintln!("Cannot open file {}: {error}", path.display());
            Ok(false)
        }
    }
}

/// What tells a file's kind.
const BEGIN_BYTES: u64 = 16;

#[derive(Default)]
struct Counts {
    keys: u64,
    expires: u64,
    expired: u64,
}

/// Why it is no good: what redis-check-rdb says, and where.
struct Wrong {
    offset: u64,
    text: String,
    doing: Doing,
    value: Option<(u8, Vec<u8>)>,
}

/// Checks a file of this name, `now_ms` being the time by which keys have expired.
pub fn check(file: impl Read, name: &str, now_ms: i64, out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "[offset 0] Checking RDB file {name}")?;
    let mut counts = Counts::default();
    let wrong = walk(file, now_ms, &mut counts, out)?;
    if let Some(wrong) = &wrong {
        writeln!(out, "--- RDB ERROR DETECTED ---")?;
        writeln!(out, "[offset {}] {}", wrong.offset, wrong.text)?;
        writeln!(out, "[additional info] While doing: {}", wrong.doing.name())?;
        if wrong.doing == Doing::Start {
            // Odd, but so it is there.
            writeln!(out, "[additional info] Reading type 0 (string)")?;
        }
        if let Some((rdb_type, key)) = &wrong.value {
            writeln!(out, "[additional info] Reading key '{}'", key.escape_ascii())?;
            writeln!(out, "[additional info] Reading type {rdb_type} ({})", type_name(*rdb_type))?;
        }
    }
    writeln!(out, "[info] {} keys read", counts.keys)?;
    writeln!(out, "[info] {} expires", counts.expires)?;
    writeln!(out, "[info] {} already expired", counts.expired)?;
    Ok(wrong.is_none())
}

fn walk(file: impl Read, now_ms: i64, counts: &mut Counts, out: &mut impl Write) -> io::Result<Option<Wrong>> {
    let mut reader = match RdbReader::new(file, true, Versions::Known) {
        Ok(reader) => reader,
        Err(error) => {
            let offset = HEADER_LEN as u64;
            return Ok(Some(Wrong { offset, text: text_of(&error), doing: Doing::Start, value: None }));
        }
    };
    loop {
        let offset = reader.offset();
        let said = match reader.next_item() {
            Ok(Item::Entry(record)) => {
                counts.keys += 1;
                counts.expires += u64::from(record.expire_at_ms.is_some());
                counts.expired += u64::from(record.expire_at_ms.is_some_and(|at_ms| at_ms < now_ms));
                if let Some(text) = fault_of(&record) {
                    let value = Some((record.rdb_type, record.key.to_vec()));
                    return Ok(Some(Wrong { offset: record.offset, text, doing: Doing::Value, value }));
                }
                None
            }
            Ok(Item::Aux(name, value)) => {
                let (name, value) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(&value));
                Some(format!("AUX FIELD {name} = '{value}'"))
            }
            Ok(Item::SelectDb(db)) => Some(format!("Selecting DB ID {db}")),
            Ok(Item::ModuleAux(name)) => Some(format!("MODULE AUX for: {name}")),
            Ok(Item::ResizeDb { .. } | Item::SlotInfo | Item::Function(_)) => None,
            Ok(Item::End(checksum)) => {
                if checksum == Checksum::Right {
                    writeln!(out, "[offset {}] Checksum OK", reader.offset())?;
                } else if reader.version() >= 5 {
                    let offset = reader.offset();
                    writeln!(out, "[offset {offset}] RDB file was saved with checksum disabled: no check performed.")?;
                }
                writeln!(out, "[offset {}] \\o/ RDB looks OK! \\o/", reader.offset())?;
                return Ok(None);
            }
            Err(error) => {
                let value = reader.value().map(|(rdb_type, key)| (rdb_type, key.into_owned()));
                // The key counts, though its value is not whole.
                counts.keys += u64::from(value.is_some());
                let offset = error.offset.max(offset);
                return Ok(Some(Wrong { offset, text: text_of(&error), doing: reader.doing(), value }));
            }
        };
        if let Some(said) = said {
            writeln!(out, "[offset {}] {said}", reader.offset())?;
        }
    }
}

fn text_of(error: &RdbError) -> String {
    match &error.what {
        What::Signature(_) => "Wrong signature trying to load DB from file".to_owned(),
        What::Checksum { .. } => "RDB CRC error".to_owned(),
        what => what.to_string(),
    }
}

/// What is wrong with a value, if anything is.
fn fault_of(record: &Record<'_>) -> Option<String> {
    // The value is thrown away: neither thresholds nor hashes matter.
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut env = Env { config: &config, seeds: [0; 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 };
    let mut reader = Reader::new(record.value);
    match dump::load(record.rdb_type, &mut reader, &mut env) {
        Ok(_) if reader.is_at_end() => None,
        Err(NoValue::Empty) => Some("Empty key".to_owned()),
        // It was passed over whole, and nobody but its module could say more.
        _ if record.rdb_type == crate::codec::rdb::rdb_type::MODULE_2 => None,
        Ok(_) | Err(NoValue::Malformed) => Some(format!("{} integrity check failed.", type_name(record.rdb_type))),
    }
}

/// As redis-check-rdb calls types.
fn type_name(rdb_type: u8) -> &'static str {
    const NAMES: [&str; 26] = [
        "string",
        "list-linked",
        "set-hashtable",
        "zset-v1",
        "hash-hashtable",
        "zset-v2",
        "module-pre-release",
        "module-value",
        "unknown",
        "hash-zipmap",
        "list-ziplist",
        "set-intset",
        "zset-ziplist",
        "hash-ziplist",
        "quicklist",
        "stream",
        "hash-listpack",
        "zset-listpack",
        "quicklist-v2",
        "stream-v2",
        "set-listpack",
        "stream-v3",
        "hash-hashtable-md-pre-release",
        "hash-listpack-md-pre-release",
        "hash-hashtable-md",
        "hash-listpack-md",
    ];
    NAMES.get(usize::from(rdb_type)).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(file: &[u8]) -> (bool, String) {
        let mut out = Vec::new();
        let good = check(file, "dump.rdb", 0, &mut out).expect("memory takes everything");
        (good, String::from_utf8(out).expect("it says texts"))
    }

    #[test]
    fn says_what_redis_check_rdb_says() {
        let file = b"REDIS0004\xfa\x03ver\x011\xfe\x03\xfc\xff\0\0\0\0\0\0\xff\0\x01k\x01v\x00\x01j\x01v\xff";
        assert_eq!(
            said(file),
            (
                true,
                "[offset 0] Checking RDB file dump.rdb\n[offset 16] AUX FIELD ver = '1'\n\
                 [offset 18] Selecting DB ID 3\n[offset 38] \\o/ RDB looks OK! \\o/\n[info] 2 keys read\n\
                 [info] 1 expires\n[info] 1 already expired\n"
                    .to_owned()
            )
        );
        let (good, text) = said(&file[..file.len() - 3]);
        assert!(!good);
        assert!(
            text.contains(
                "--- RDB ERROR DETECTED ---\n[offset 35] Unexpected EOF reading RDB file\n\
             [additional info] While doing: read-object-value\n[additional info] Reading key 'j'\n\
             [additional info] Reading type 0 (string)\n[info] 2 keys read\n"
            ),
            "{text}"
        );
        let (good, text) = said(b"REDIS0004\x0b\x01k\x03abc\xff");
        assert!(!good && text.contains("[offset 12] set-intset integrity check failed.\n"), "{text}");
        let (good, text) = said(b"something else");
        assert!(!good && text.contains("[offset 9] Wrong signature trying to load DB from file\n"), "{text}");
    }
}
