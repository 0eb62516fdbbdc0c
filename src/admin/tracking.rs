//! CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO: what a client asks for to be told of the keys it caches.
//!
//! Reads are noted from the next command on, without a word to other shards. Broadcasting is known to all of them before
//! the reply, and a client to redirect to is looked for on all.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use super::ctx::{AdminCtx, Everywhere, Outcome, Part, downcast};
use crate::base::ids::ConnKey;
use crate::base::number::parse_i64;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::resp::reply::Reply;
use crate::session::tracking::{Choice, Redirect, Tracking};

/// Where those who speak RESP2 listen for what is redirected to them.
pub const CHANNEL: &[u8] = b"__redis__:invalidate";

const NO_SUCH_CLIENT: Error = Error::Text("ERR The client ID you want redirect to does not exist");
const NOT_TRACKING: Error = Error::Text(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
);

/// What CLIENT TRACKING asks for.
#[derive(Debug, Default, PartialEq)]
struct Options<'w> {
    on: bool,
    redirect: Option<u64>,
    broadcast: bool,
    prefixes: Vec<&'w [u8]>,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
}

impl<'w> Options<'w> {
    fn parse(words: &[&'w [u8]]) -> Result<Options<'w>> {
        let mut options = Options::default();
        let mut left = &words[3..];
        while let [option, rest @ ..] = left {
            left = rest;
            match (option.to_ascii_lowercase().as_slice(), rest) {
                (b"redirect", [id, rest @ ..]) => {
                    if options.redirect.is_some() {
                        return Err(Error::Text("ERR A client can only redirect to a single other client"));
                    }
                    let id = parse_i64(id).ok_or(Error::NotAnInteger)?;
                    options.redirect = Some(u64::try_from(id).map_err(|_| NO_SUCH_CLIENT)?);
                    left = rest;
                }
                (b"prefix", [prefix, rest @ ..]) => {
                    options.prefixes.push(prefix);
                    left = rest;
                }
                (b"bcast", _) => options.broadcast = true,
                (b"optin", _) => options.opt_in = true,
                (b"optout", _) => options.opt_out = true,
                (b"noloop", _) => options.noloop = true,
                _ => return Err(Error::Syntax),
            }
        }
        options.on = match words[2].to_ascii_lowercase().as_slice() {
            b"on" => true,
            b"off" => false,
            _ => return Err(Error::Syntax),
        };
        Ok(options)
    }

    /// Do these go together, and with what is on already?
    fn check(&self, before: Option<&Tracking>) -> Result {
        let refuse = |text| Err(Error::Text(text));
        if !self.broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before.is_some_and(|before| before.broadcast.is_some() != self.broadcast) {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
                 with a different mode.",
            );
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.opt_in && self.opt_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        let choice = before.map_or(Choice::All, |before| before.choice);
        if self.opt_in && choice == Choice::OptOut || self.opt_out && choice == Choice::OptIn {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
                 with a different mode.",
            );
        }
        self.check_prefixes(before)
    }

    /// No key may be told of twice.
    fn check_prefixes(&self, before: Option<&Tracking>) -> Result {
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refuse = |prefix: &[u8], with: &str, other: &[u8]| {
            let words: [&[u8]; 7] = [
                b"ERR Prefix '",
                prefix,
                b"' overlaps with ",
                with.as_bytes(),
                b" prefix '",
                other,
                b"'. Prefixes for a single client must not overlap.",
            ];
            Err(Error::dynamic(words.concat()))
        };
        let existing = before.and_then(|before| before.broadcast.as_ref());
        for (index, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = existing.into_iter().flatten().find(|other| overlap(prefix, other)) {
                return refuse(prefix, "an existing", other);
            }
            if let Some(other) = self.prefixes[index + 1..].iter().find(|other| overlap(prefix, other)) {
                return refuse(prefix, "another provided", other);
            }
        }
        Ok(())
    }

    fn choice(&self) -> Choice {
        match (self.opt_in, self.opt_out) {
            (true, _) => Choice::OptIn,
            (_, true) => Choice::OptOut,
            _ => Choice::All,
        }
    }
}

/// CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
pub fn tracking(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let options = Options::parse(args.words())?;
    if !options.on && options.redirect.is_none() {
        disable(ctx);
        reply.ok();
        return Ok(Outcome::Done);
    }
    if options.on {
        options.check(ctx.session().tracking())?;
    }
    if options.redirect.is_none() && !options.broadcast {
        enable(ctx, &options, None);
        reply.ok();
        return Ok(Outcome::Done);
    }
    let mut words: Vec<Vec<u8>> = args.words().iter().map(|word| word.to_vec()).collect();
    words.push(ctx.id.to_string().into_bytes());
    Ok(Outcome::Everywhere(Everywhere { part: register_here, words, merge: registered }))
}

/// The command's own words, and the shard of its client behind them.
fn split(words: &[Vec<u8>]) -> (Vec<&[u8]>, usize) {
    let (shard, words) = words.split_last().expect("`tracking` put it there");
    let shard = parse_i64(shard).expect("`tracking` wrote a number");
    (words.iter().map(Vec::as_slice).collect(), shard as usize)
}

/// Listens on this shard on behalf of the client; the client to redirect to, if it is one of this shard's.
fn register_here(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let (words, home) = split(words);
    let options = Options::parse(&words).expect("parsed before");
    if options.on && options.broadcast {
        let prefixes = if options.prefixes.is_empty() { vec![&b""[..]] } else { options.prefixes.clone() };
        ctx.shard.tracking.listen((home, ctx.conn), &prefixes, options.noloop);
        ctx.shard.observe();
    }
    let is_meant = |id: u64| move |session: &&crate::session::Session| session.id == id && !session.is_closing();
    let target = options.redirect.and_then(|id| ctx.sessions.iter().find(is_meant(id)));
    Box::new(target.map(|session| session.key))
}

fn registered(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let (words, _) = split(words);
    let options = Options::parse(&words).expect("parsed before");
    let mut targets = downcast::<Option<ConnKey>>(parts).enumerate();
    let target = targets.find_map(|(shard, conn)| Some((shard, conn?)));
    let redirect = match (options.redirect, target) {
        (None | Some(0), _) => None,
        (Some(id), Some((shard, conn))) => Some(Redirect { id, shard, conn }),
        (Some(_), None) => {
            let is_listening = ctx.session().tracking().is_some_and(|tracking| tracking.broadcast.is_some());
            if options.on && options.broadcast && !is_listening {
                ctx.shard.tracking.retract((ctx.id, ctx.conn));
                ctx.shard.observe();
            }
            return Err(NO_SUCH_CLIENT);
        }
    };
    if options.on {
        enable(ctx, &options, redirect);
    } else {
        disable(ctx);
    }
    reply.ok();
    Ok(())
}

fn enable(ctx: &mut AdminCtx, options: &Options, redirect: Option<Redirect>) {
    ctx.server.tracking_used.store(true, Relaxed);
    let session = ctx.session();
    let broadcast = options.broadcast.then(|| {
        let before = session.tracking().and_then(|before| before.broadcast.clone());
        let mut prefixes: BTreeSet<Vec<u8>> = before.unwrap_or_default();
        match options.prefixes.is_empty() {
            true => prefixes.extend([Vec::new()]),
            false => prefixes.extend(options.prefixes.iter().map(|prefix| prefix.to_vec())),
        }
        prefixes
    });
    let caching = session.is_caching();
    let tracking =
        Tracking { broadcast, choice: options.choice(), caching, noloop: options.noloop, redirect, is_broken: false };
    if session.set_tracking(Some(tracking)).is_none() {
        ctx.shard.tracking.clients += 1;
    }
    ctx.shard.observe();
}

/// CLIENT TRACKING OFF, and RESET. What other shards still have to tell finds that nobody wants it.
pub fn disable(ctx: &mut AdminCtx) {
    let Some(before) = ctx.session().set_tracking(None) else { return };
    ctx.shard.tracking.clients -= 1;
    if before.broadcast.is_some() {
        ctx.shard.tracking.retract((ctx.id, ctx.conn));
    }
    ctx.shard.observe();
}

/// CLIENT CACHING YES|NO
pub fn caching(ctx: &mut AdminCtx, word: &[u8], reply: &mut Reply) -> Result {
    let Some(choice) = ctx.session().tracking().map(|tracking| tracking.choice) else { return Err(NOT_TRACKING) };
    match word.to_ascii_lowercase().as_slice() {
        b"yes" if choice == Choice::OptIn => {}
        b"no" if choice == Choice::OptOut => {}
        b"yes" => {
            return Err(Error::Text("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."));
        }
        b"no" => {
            return Err(Error::Text("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."));
        }
        _ => return Err(Error::Syntax),
    }
    ctx.session().change_tracking(|tracking| tracking.caching = true);
    let conn = ctx.conn;
    ctx.sessions.caching.push(conn);
    reply.ok();
    Ok(())
}

/// CLIENT GETREDIR, and the field of CLIENT LIST: -1 if the client does not track, 0 if it is told itself.
pub fn redirection(tracking: Option<&Tracking>) -> i64 {
    match tracking {
        None => -1,
        Some(tracking) => tracking.redirect.map_or(0, |redirect| redirect.id as i64),
    }
}

/// CLIENT TRACKINGINFO
pub fn info(tracking: Option<&Tracking>, reply: &mut Reply) {
    let mut flags = Vec::new();
    match tracking {
        None => flags.push("off"),
        Some(tracking) => {
            let shown = [
                (true, "on"),
                (tracking.broadcast.is_some(), "bcast"),
                (tracking.choice == Choice::OptIn, "optin"),
                (tracking.choice == Choice::OptIn && tracking.caching, "caching-yes"),
                (tracking.choice == Choice::OptOut, "optout"),
                (tracking.choice == Choice::OptOut && tracking.caching, "caching-no"),
                (tracking.noloop, "noloop"),
                (tracking.is_broken, "broken_redirect"),
            ];
            flags.extend(shown.iter().filter(|(is_shown, _)| *is_shown).map(|(_, name)| *name));
        }
    }
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirection(tracking));
    reply.bulk(b"prefixes");
    let prefixes = tracking.and_then(|tracking| tracking.broadcast.as_ref());
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: Option<&Tracking>, line: &str, expected: &str) {
        let line = format!("client tracking {line}");
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let checked = Options::parse(&words).and_then(|options| options.check(before));
        let error = checked.err().map(|error| String::from_utf8_lossy(&error.text()).into_owned());
        assert_eq!(error.unwrap_or_default(), expected, "{line}");
    }

    #[test]
    fn options_are_refused_as_valkey_does() {
        check(None, "on REDIRECT 5 noloop OPTIN", "");
        check(None, "maybe", "ERR syntax error");
        check(None, "on redirect", "ERR syntax error");
        check(None, "on redirect x", "ERR value is not an integer or out of range");
        check(None, "on redirect 1 redirect 2", "ERR A client can only redirect to a single other client");
        check(None, "on prefix a", "ERR PREFIX option requires BCAST mode to be enabled");
        check(None, "on bcast optin", "ERR OPTIN and OPTOUT are not compatible with BCAST");
        check(None, "on optout optin", "ERR You can't specify both OPTIN mode and OPTOUT mode");
        let overlap = |with: &str| {
            format!(
                "ERR Prefix 'FOOBAR' overlaps with {with} prefix 'FOO'. Prefixes for a single client must not overlap."
            )
        };
        check(None, "on bcast prefix FOOBAR prefix FOO", &overlap("another provided"));
        let broadcast = Tracking { broadcast: Some([b"FOO".to_vec()].into()), ..Tracking::default() };
        check(Some(&broadcast), "on bcast prefix BAR", "");
        check(Some(&broadcast), "on bcast prefix FOOBAR", &overlap("an existing"));
        let switched = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                        re-enabling it with a different mode.";
        check(Some(&broadcast), "on", switched);
        let opted = Tracking { choice: Choice::OptIn, ..Tracking::default() };
        check(Some(&opted), "on bcast", switched);
        check(
            Some(&opted),
            "on optout",
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        );
    }
}
