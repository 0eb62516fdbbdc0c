//! CLIENT PAUSE and UNPAUSE: on all shards before the reply, so that whoever has it finds nothing change any more.

use super::ctx::{AdminCtx, Everywhere, Outcome, Part};
use super::subcommand_syntax;
use crate::base::number;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::engine::pause::Paused;
use crate::resp::reply::Reply;

/// CLIENT PAUSE timeout [WRITE|ALL]
pub fn pause(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    if args.len() > 4 {
        return Err(subcommand_syntax(args));
    }
    read_mode(args.words())?;
    let now = ctx.now;
    let timeout_ms = timeout_ms(args.get(2), now.unix_ms)?;
    let until_ns = now.mono_ns.saturating_add(timeout_ms.saturating_mul(1_000_000));
    let mut words: Vec<Vec<u8>> = args.words().iter().map(|word| word.to_vec()).collect();
    words[2] = until_ns.to_string().into_bytes();
    Ok(Outcome::Everywhere(Everywhere { part: pause_here, words, merge: ok }))
}

/// CLIENT UNPAUSE
pub fn unpause(args: &Args) -> Outcome {
    Everywhere::outcome(unpause_here, args, ok)
}

fn read_mode(words: &[impl AsRef<[u8]>]) -> Result<Paused> {
    match words.get(3).map(|word| word.as_ref().to_ascii_lowercase()).as_deref() {
        None | Some(b"all") => Ok(Paused::All),
        Some(b"write") => Ok(Paused::Writes),
        Some(_) => Err(Error::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    }
}

/// A timeout as commands take it in whole milliseconds: its end must be a time, too.
pub fn timeout_ms(word: &[u8], now_unix_ms: i64) -> Result<u64> {
    let ms = number::parse_i64(word).ok_or(Error::Text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::Text("ERR timeout is negative"))?;
    if ms > (i64::MAX - now_unix_ms) as u64 {
        return Err(Error::Text("ERR timeout is out of range"));
    }
    Ok(ms)
}

fn pause_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let paused = read_mode(words).expect("read before");
    let until_ns =
        std::str::from_utf8(&words[2]).ok().and_then(|digits| digits.parse().ok()).expect("written by `pause`");
    ctx.shard.pause.begin(paused, until_ns);
    ctx.shard.ctx.expiry_paused = true;
    Box::new(())
}

fn unpause_here(ctx: &mut AdminCtx, _words: &[Vec<u8>]) -> Part {
    ctx.shard.pause.end();
    ctx.shard.ctx.expiry_paused = false;
    Box::new(())
}

fn ok(_ctx: &mut AdminCtx, _words: &[Vec<u8>], _parts: Vec<Part>, reply: &mut Reply) -> Result {
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_valkey_does() {
        let read = |word: &str| {
            timeout_ms(word.as_bytes(), 1_000).map_err(|error| String::from_utf8_lossy(&error.text()).into_owned())
        };
        assert_eq!(read("100"), Ok(100));
        for (word, error) in [
            ("abc", "ERR timeout is not an integer or out of range"),
            ("9999999999999999999", "ERR timeout is not an integer or out of range"),
            ("-1", "ERR timeout is negative"),
            ("9223372036854775807", "ERR timeout is out of range"),
        ] {
            assert_eq!(read(word), Err(error.to_owned()));
        }
    }
}
