//! CLIENT PAUSE and UNPAUSE: on all shards before the reply, so that whoever has it finds nothing change any more.

use super::ctx::{AdminCtx, Everywhere, Outcome, Part};
use super::subcommand_syntax;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::wait::timeout_milliseconds;
use crate::engine::pause::Paused;
use crate::resp::reply::Reply;

/// CLIENT PAUSE timeout [WRITE|ALL]
pub fn pause(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    if args.len() > 4 {
        return Err(subcommand_syntax(args));
    }
    read_mode(args.words())?;
    let now = ctx.now;
    let timeout_ms = timeout_milliseconds(args.get(2), now.unix_ms)?.unwrap_or(0) as u64;
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
