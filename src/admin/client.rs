//! CLIENT: what clients tell of themselves, what is known of them, and their end.
//!
//! LIST and KILL run on every shard: the filters are read where the client is, for the errors, and once more on each
//! shard. The caller's id travels behind the words, as a connection's key means nothing elsewhere.

use super::connection::{DEFAULT_USER, checked_name, is_plain};
use super::ctx::{AdminCtx, AdminFn, AdminRow, Everywhere, MergeFn, Outcome, Part, PartFn, downcast};
use super::pause::{pause, unpause};
use super::{subcommand_syntax, tracking, write_help};
use crate::base::number;
use crate::command::args::Args;
use crate::command::error::{self, Error, Result};
use crate::command::spec::*;
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Close, Pause, Peer, ReplyMode, Session, Unblock};

/// What the rows of this family have in common.
const CONNECTION: Spec =
    Spec { group: Group::Connection, categories: category::CONNECTION, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: client as AdminFn,
    spec: Spec {
        name: "client",
        arity: AtLeast(2),
        categories: Categories::NONE,
        since: "2.4.0",
        complexity: "Depends on the subcommand.",
        summary: "Holds the commands about client connections.",
        subcommands: &[
            Spec {
                name: "client|caching",
                arity: Exactly(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Says whether to track the keys of the next command, where tracking is \
                        opt-in or opt-out.",
                args: &[one_of("mode", &[token("YES"), token("NO")])],
                ..CONNECTION
            },
            Spec {
                name: "client|capa",
                arity: AtLeast(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "8.0.0",
                complexity: "O(1)",
                summary: "Tells the server which optional abilities the client has.",
                args: &[string("capability").multiple()],
                ..CONNECTION
            },
            Spec {
                name: "client|getname",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "2.6.9",
                complexity: "O(1)",
                summary: "Returns the name of this connection.",
                ..CONNECTION
            },
            Spec {
                name: "client|getredir",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1)",
                summary: "Returns the id of the client that gets this connection's invalidation messages.",
                ..CONNECTION
            },
            Spec {
                name: "client|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..CONNECTION
            },
            Spec {
                name: "client|id",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Returns the id of this connection.",
                ..CONNECTION
            },
            Spec {
                name: "client|info",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Describes this connection, as CLIENT LIST does.",
                tips: &["nondeterministic_output"],
                ..CONNECTION
            },
            Spec {
                name: "client|kill",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.4.0",
                complexity: "O(N) where N is the number of connections.",
                summary: "Closes connections picked by filters.",
                args: &[one_of(
                    "filter",
                    &[
                        string("old-format").display("ip:port").deprecated_since("2.8.12"),
                        one_of(
                            "new-format",
                            &[
                                integer("client-id").after("ID").since("2.8.12").optional(),
                                one_of(
                                    "client-type",
                                    &[
                                        token("NORMAL"),
                                        token("MASTER").since("3.2.0"),
                                        token("PRIMARY").since("8.0.0"),
                                        token("SLAVE"),
                                        token("REPLICA").since("5.0.0"),
                                        token("PUBSUB"),
                                    ],
                                )
                                .after("TYPE")
                                .since("2.8.12")
                                .optional(),
                                string("username").after("USER").optional(),
                                string("addr").after("ADDR").display("ip:port").optional(),
                                string("laddr").after("LADDR").display("ip:port").since("6.2.0").optional(),
                                one_of("skipme", &[token("YES"), token("NO")]).after("SKIPME").optional(),
                                integer("maxage").after("MAXAGE").since("8.0.0").optional(),
                            ],
                        )
                        .multiple(),
                    ],
                )],
                history: &[
                    ("2.8.12", "Added new filter format."),
                    ("2.8.12", "`ID` option."),
                    ("3.2.0", "Added `master` type in for `TYPE` option."),
                    (
                        "5.0.0",
                        "Replaced `slave` `TYPE` with `replica`. `slave` still supported for \
                             backward compatibility.",
                    ),
                    ("6.2.0", "`LADDR` option."),
                    ("8.0.0", "`MAXAGE` option."),
                    (
                        "8.0.0",
                        "Replaced `master` `TYPE` with `primary`. `master` still supported for \
                             backward compatibility.",
                    ),
                    ("8.1.0", "Several ids may follow `ID`."),
                ],
                ..CONNECTION
            },
            Spec {
                name: "client|list",
                arity: AtLeast(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "2.4.0",
                complexity: "O(N) where N is the number of connections.",
                summary: "Describes the open connections, or those picked by filters.",
                args: &[
                    one_of("client-type", &[token("NORMAL"), token("MASTER"), token("REPLICA"), token("PUBSUB")])
                        .after("TYPE")
                        .since("5.0.0")
                        .optional(),
                    integer("client-id").after("ID").since("6.2.0").optional().multiple(),
                    string("username").after("USER").since("8.1.0").optional(),
                    string("addr").after("ADDR").display("ip:port").since("8.1.0").optional(),
                    string("laddr").after("LADDR").display("ip:port").since("8.1.0").optional(),
                    one_of("skipme", &[token("YES"), token("NO")]).after("SKIPME").since("8.1.0").optional(),
                    integer("maxage").after("MAXAGE").since("8.1.0").optional(),
                ],
                history: &[
                    ("2.8.12", "Added unique client `id` field."),
                    ("5.0.0", "Added optional `TYPE` filter."),
                    ("6.0.0", "Added `user` field."),
                    ("6.2.0", "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter."),
                    ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
                    ("7.0.3", "Added `ssub` field."),
                    (
                        "8.0.0",
                        "Replaced `master` `TYPE` with `primary`. `master` still supported for \
                             backward compatibility.",
                    ),
                    ("8.1.0", "Added the `USER`, `ADDR`, `LADDR`, `SKIPME` and `MAXAGE` filters."),
                ],
                tips: &["nondeterministic_output"],
                ..CONNECTION
            },
            Spec {
                name: "client|no-evict",
                arity: Exactly(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "7.0.0",
                complexity: "O(1)",
                summary: "Exempts this connection from being closed to save memory.",
                args: &[one_of("enabled", &[token("ON"), token("OFF")])],
                ..CONNECTION
            },
            Spec {
                name: "client|no-touch",
                arity: Exactly(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "7.2.0",
                complexity: "O(1)",
                summary: "Lets this connection read keys without marking them as used.",
                args: &[one_of("enabled", &[token("ON"), token("OFF")])],
                ..CONNECTION
            },
            Spec {
                name: "client|pause",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Makes commands of all clients wait for some time.",
                args: &[integer("timeout"), one_of("mode", &[token("WRITE"), token("ALL")]).since("6.2.0").optional()],
                history: &[("6.2.0", "`CLIENT PAUSE WRITE` mode added along with the `mode` option.")],
                ..CONNECTION
            },
            Spec {
                name: "client|reply",
                arity: Exactly(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "3.2.0",
                complexity: "O(1)",
                summary: "Turns replies to this connection on or off, or leaves out the next one.",
                args: &[one_of("action", &[token("ON"), token("OFF"), token("SKIP")])],
                ..CONNECTION
            },
            Spec {
                name: "client|setinfo",
                arity: Exactly(4),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "7.2.0",
                complexity: "O(1)",
                summary: "Stores the name or version of the client library.",
                args: &[one_of("attr", &[string("libname").after("LIB-NAME"), string("libver").after("LIB-VER")])],
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..CONNECTION
            },
            Spec {
                name: "client|setname",
                arity: Exactly(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "2.6.9",
                complexity: "O(1)",
                summary: "Names this connection.",
                args: &[string("connection-name")],
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..CONNECTION
            },
            Spec {
                name: "client|tracking",
                arity: AtLeast(3),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.0.0",
                complexity: "O(1), plus O(N) for N prefixes in broadcasting mode.",
                summary: "Turns on or off messages about keys that the client may have cached.",
                args: &[
                    one_of("status", &[token("ON"), token("OFF")]),
                    integer("client-id").after("REDIRECT").optional(),
                    string("prefix").after("PREFIX").optional().multiple().multiple_token(),
                    token("BCAST").optional(),
                    token("OPTIN").optional(),
                    token("OPTOUT").optional(),
                    token("NOLOOP").optional(),
                ],
                ..CONNECTION
            },
            Spec {
                name: "client|trackinginfo",
                arity: Exactly(2),
                flags: NOSCRIPT.and(LOADING).and(STALE),
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Returns the state of tracking for this connection.",
                ..CONNECTION
            },
            Spec {
                name: "client|unblock",
                arity: AtLeast(3),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "5.0.0",
                complexity: "O(log N) where N is the number of connections.",
                summary: "Ends the wait of a client inside a blocking command.",
                args: &[integer("client-id"), one_of("unblock-type", &[token("TIMEOUT"), token("ERROR")]).optional()],
                ..CONNECTION
            },
            Spec {
                name: "client|unpause",
                arity: Exactly(2),
                flags: ADMIN.and(NOSCRIPT).and(LOADING).and(STALE),
                since: "6.2.0",
                complexity: "O(N) Where N is the number of paused clients",
                summary: "Ends CLIENT PAUSE.",
                ..CONNECTION
            },
        ],
        ..CONNECTION
    },
}];

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "CAPA <option> [options...]",
    "    The client claims its some capability options. Options are:",
    "    * REDIRECT",
    "      The client can handle redirection during primary and replica failover in standalone mode.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id> [<client-id> ...]",
    "      Kill connections by client ids.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age.",
    "LIST [options ...]",
    "    Return information about client connections. Options are those of KILL,",
    "    and SKIPME is off by default.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
];

const NO_SUCH_CLIENT: Error = Error::Text("ERR No such client");

fn client(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"list" => return list(ctx, args),
        b"kill" => return kill(ctx, args),
        b"pause" => return pause(ctx, args),
        b"unpause" => return Ok(unpause(args)),
        b"caching" => tracking::caching(ctx, args.get(2), reply)?,
        b"capa" => {
            ctx.session().redirect_capable |= args.from(2).iter().any(|word| word.eq_ignore_ascii_case(b"REDIRECT"));
            reply.ok();
        }
        b"getname" => match &ctx.session().names {
            Some(names) if !names.name.is_empty() => reply.bulk(&names.name),
            _ => reply.null(),
        },
        b"getredir" => reply.integer(tracking::redirection(ctx.session().tracking())),
        b"help" => write_help("CLIENT", HELP, reply),
        b"id" => reply.integer(ctx.session().id as i64),
        b"info" => {
            let facts = Facts::of(ctx);
            let subscriptions = ctx.shard.pubsub.counts(ctx.conn);
            reply.verbatim(b"txt", facts.line_of(ctx.session(), subscriptions).as_slice());
        }
        b"no-evict" => {
            ctx.session().no_evict = on_or_off(args.get(2))?;
            reply.ok();
        }
        b"no-touch" => {
            ctx.session().no_touch = on_or_off(args.get(2))?;
            reply.ok();
        }
        b"reply" => reply_mode(ctx.session(), args.get(2), reply)?,
        b"setinfo" => setinfo(ctx.session(), args, reply)?,
        b"setname" => {
            let name = checked_name(args.get(2))?.to_vec();
            ctx.session().names_mut().name = name;
            reply.ok();
        }
        b"tracking" => return tracking::tracking(ctx, args, reply),
        b"trackinginfo" => tracking::info(ctx.session().tracking(), reply),
        b"unblock" => return unblock(ctx, args),
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(Outcome::Done)
}

fn on_or_off(word: &[u8]) -> Result<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(Error::Syntax),
    }
}

fn reply_mode(session: &mut Session, word: &[u8], reply: &mut Reply) -> Result {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => {
            session.reply_mode = ReplyMode::On;
            reply.ok();
        }
        b"off" => session.reply_mode = ReplyMode::Off,
        b"skip" if session.reply_mode == ReplyMode::Off => {}
        b"skip" => session.reply_mode = ReplyMode::SkipNext,
        _ => return Err(Error::Syntax),
    }
    Ok(())
}

fn setinfo(session: &mut Session, args: &Args, reply: &mut Reply) -> Result {
    let value = args.get(3);
    let checked = |name: &str| {
        let error = || Error::dynamic(format!("ERR {name} cannot contain spaces, newlines or special characters."));
        if is_plain(value) { Ok(value.to_vec()) } else { Err(error()) }
    };
    if args.is(2, "LIB-NAME") {
        session.names_mut().library_name = checked("lib-name")?;
    } else if args.is(2, "LIB-VER") {
        session.names_mut().library_version = checked("lib-ver")?;
    } else {
        let option = String::from_utf8_lossy(args.get(2));
        return Err(Error::dynamic(format!("ERR Unrecognized option '{option}'")));
    }
    reply.ok();
    Ok(())
}

/// CLIENT UNBLOCK client-id [TIMEOUT|ERROR]
fn unblock(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    if args.len() > 4 {
        return Err(subcommand_syntax(args));
    }
    if args.len() == 4 && !args.is(3, "TIMEOUT") && !args.is(3, "ERROR") {
        return Err(Error::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    args.integer(2)?;
    Ok(everywhere(ctx, args, unblock_part, unblock_merge))
}

fn unblock_part(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let (words, _) = split_caller(words);
    let id = number::parse_i64(words[2]).and_then(|id| u64::try_from(id).ok());
    let how = match words.get(3) {
        Some(word) if word.eq_ignore_ascii_case(b"ERROR") => Unblock::Error,
        _ => Unblock::Timeout,
    };
    let client = ctx.sessions.iter().find(|session| Some(session.id) == id).map(|session| session.key);
    Box::new(client.is_some_and(|client| ctx.sessions.unblock(client, how)))
}

fn unblock_merge(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    reply.integer(i64::from(downcast::<bool>(parts).any(|unblocked| unblocked)));
    Ok(())
}

fn list(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    Filter::parse(args.from(2), SkipMe(false))?;
    Ok(everywhere(ctx, args, list_part, list_merge))
}

fn list_part(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let (words, caller) = split_caller(words);
    let filter = Filter::parse(&words[2..], SkipMe(false)).expect("parsed before");
    let facts = Facts::of(ctx);
    let matching = ctx.sessions.iter().filter(|session| filter.matches(session, &facts, caller));
    let pubsub = &ctx.shard.pubsub;
    let line = |session: &Session| (session.id, facts.line_of(session, pubsub.counts(session.key)));
    Box::new(matching.map(line).collect::<Vec<_>>())
}

fn list_merge(_ctx: &mut AdminCtx, _words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let mut clients: Vec<(u64, Vec<u8>)> = downcast::<Vec<_>>(parts).flatten().collect();
    clients.sort_unstable_by_key(|(id, _)| *id);
    let lines: Vec<u8> = clients.into_iter().flat_map(|(_, line)| line).collect();
    reply.verbatim(b"txt", &lines);
    Ok(())
}

fn kill(ctx: &mut AdminCtx, args: &Args) -> Result<Outcome> {
    kill_filter(args.words())?;
    Ok(everywhere(ctx, args, kill_part, kill_merge))
}

/// KILL address, or KILL filter value [filter value ...].
fn kill_filter<'w>(words: &[&'w [u8]]) -> Result<Filter<'w>> {
    match words {
        [_, _, address] => Ok(Filter { address: Some(address), ..Filter::default() }),
        words => Filter::parse(&words[2..], SkipMe(true)),
    }
}

struct Killed {
    count: i64,
    /// The caller is among them, and still open: its reply comes first.
    caller: bool,
}

fn kill_part(ctx: &mut AdminCtx, words: &[Vec<u8>]) -> Part {
    let (words, caller) = split_caller(words);
    let filter = kill_filter(&words).expect("parsed before");
    let facts = Facts::of(ctx);
    let matching = ctx.sessions.iter().filter(|session| filter.matches(session, &facts, caller));
    let victims: Vec<_> = matching.map(|session| (session.key, session.id == caller)).collect();
    for (key, _) in victims.iter().filter(|(_, is_caller)| !is_caller) {
        ctx.sessions.close(*key, Close::Now);
    }
    Box::new(Killed { count: victims.len() as i64, caller: victims.iter().any(|(_, is_caller)| *is_caller) })
}

fn kill_merge(ctx: &mut AdminCtx, words: &[Vec<u8>], parts: Vec<Part>, reply: &mut Reply) -> Result {
    let (words, _) = split_caller(words);
    let (mut count, mut caller) = (0, false);
    for killed in downcast::<Killed>(parts) {
        count += killed.count;
        caller |= killed.caller;
    }
    match words.len() {
        3 if count == 0 => return Err(NO_SUCH_CLIENT),
        3 => reply.ok(),
        _ => reply.integer(count),
    }
    if caller {
        ctx.sessions.close(ctx.conn, Close::AfterReplies);
    }
    Ok(())
}

fn everywhere(ctx: &mut AdminCtx, args: &Args, part: PartFn, merge: MergeFn) -> Outcome {
    let caller = ctx.session().id.to_string();
    let words = [args.words(), &[caller.as_bytes()]].concat();
    Everywhere::outcome(part, &Args::new(&words), merge)
}

/// The command's own words, and the id that `everywhere` put behind them.
fn split_caller(words: &[Vec<u8>]) -> (Vec<&[u8]>, u64) {
    let (caller, words) = words.split_last().expect("everywhere put the caller there");
    let id = number::parse_i64(caller).expect("everywhere wrote a number");
    (words.iter().map(Vec::as_slice).collect(), id as u64)
}

/// Which clients LIST and KILL mean: those that pass all that is given.
#[derive(Debug, Default, PartialEq)]
struct Filter<'w> {
    ids: Option<Vec<u64>>,
    kind: Option<Kind>,
    address: Option<&'w [u8]>,
    local_address: Option<&'w [u8]>,
    /// In seconds.
    age_min: Option<i64>,
    skip_caller: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    PubSub,
    /// Replicas and primaries: nobody is one.
    Other,
}

/// What SKIPME is where it is not given.
struct SkipMe(bool);

impl<'w> Filter<'w> {
    fn parse(mut words: &[&'w [u8]], skip_me: SkipMe) -> Result<Filter<'w>> {
        let mut filter = Filter { skip_caller: skip_me.0, ..Filter::default() };
        while let [option, values @ ..] = words {
            let [value, rest @ ..] = values else { return Err(Error::Syntax) };
            words = rest;
            match option.to_ascii_lowercase().as_slice() {
                b"id" => words = filter.take_ids(values)?,
                b"type" => filter.kind = Some(Kind::parse(value)?),
                b"addr" => filter.address = Some(value),
                b"laddr" => filter.local_address = Some(value),
                b"user" if *value == DEFAULT_USER => {}
                b"user" => return Err(quoting("ERR No such user '", value)),
                b"maxage" => filter.age_min = Some(age(value)?),
                b"skipme" => {
                    filter.skip_caller = match value.to_ascii_lowercase().as_slice() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(Error::Syntax),
                    }
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(filter)
    }

    /// Ids go on up to the first word that is not a number. What follows them.
    fn take_ids<'a>(&mut self, words: &'a [&'w [u8]]) -> Result<&'a [&'w [u8]]> {
        let numbers: Vec<i64> = words.iter().map_while(|word| number::parse_i64(word)).collect();
        if numbers.iter().any(|&id| id < 1) {
            return Err(Error::Text("ERR client-id should be greater than 0"));
        }
        self.ids.get_or_insert_default().extend(numbers.iter().map(|&id| id as u64));
        Ok(&words[numbers.len()..])
    }

    fn matches(&self, session: &Session, facts: &Facts, caller: u64) -> bool {
        // One that was killed is gone for everybody, though the ring may still hold its socket.
        session.close != Some(Close::Now)
            && !(self.skip_caller && session.id == caller)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.kind.is_none_or(|kind| kind == Kind::of(session))
            && self.address.is_none_or(|address| session.peer.address(&facts.unix_path).as_bytes() == address)
            && self.local_address.is_none_or(|address| facts.local_address_of(session).as_bytes() == address)
            && self.age_min.is_none_or(|age| facts.seconds_since(session.created_ms) >= age)
    }
}

impl Kind {
    fn of(session: &Session) -> Kind {
        if session.is_subscribed() { Kind::PubSub } else { Kind::Normal }
    }

    fn parse(word: &[u8]) -> Result<Kind> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Kind::Normal),
            b"pubsub" => Ok(Kind::PubSub),
            b"replica" | b"slave" | b"primary" | b"master" => Ok(Kind::Other),
            _ => Err(quoting("ERR Unknown client type '", word)),
        }
    }
}

fn age(word: &[u8]) -> Result<i64> {
    match number::parse_i64(word) {
        Some(age @ 1..) => Ok(age),
        Some(_) => Err(Error::Text("ERR maxage should be greater than 0")),
        None => Err(Error::Text("ERR maxage is not an integer or out of range")),
    }
}

fn quoting(text: &str, word: &[u8]) -> Error {
    Error::dynamic([text.as_bytes(), error::quoted(word), b"'"].concat())
}

/// What a client's line needs besides its session.
struct Facts<'a> {
    now_ms: i64,
    unix_path: String,
    names: &'a [&'static str],
}

impl Facts<'_> {
    fn of(ctx: &AdminCtx) -> Facts<'static> {
        Facts { now_ms: ctx.now.unix_ms, unix_path: ctx.shard.ctx.config.unixsocket.clone(), names: ctx.names }
    }

    fn seconds_since(&self, ms: i64) -> i64 {
        (self.now_ms - ms) / 1000
    }

    fn local_address_of(&self, session: &Session) -> String {
        match session.peer {
            Peer::Tcp { local, .. } => local.to_string(),
            Peer::Unix => format!("{}:0", self.unix_path),
        }
    }

    /// One client, in the form of CLIENT LIST, its line end included.
    ///
    /// Arguments are never copied out of what was received unless they arrive in pieces (`argv-mem`), and an output
    /// buffer keeps its size, so that its peak is its size.
    fn line_of(&self, session: &Session, subscriptions: [usize; 3]) -> Vec<u8> {
        let (name, library_name, library_version) = match &session.names {
            Some(names) => (names.name.as_slice(), names.library_name.as_slice(), names.library_version.as_slice()),
            None => (&[][..], &[][..], &[][..]),
        };
        let text = String::from_utf8_lossy;
        let [channels, patterns, shard_channels] = subscriptions;
        let output = &session.output;
        let memory = session.memory();
        // A command that waits for other shards is not done yet.
        let waits = matches!(session.pause, Some(Pause::Job | Pause::Blocked));
        let running = session.pipeline.waiting() as u64 + u64::from(waits);
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} capa={} db={} sub={} psub={} ssub={} multi={} \
             watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} \
             events={} cmd={} user=default redir={} resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} \
             tot-cmds={}\n",
            session.id,
            session.peer.address(&self.unix_path),
            self.local_address_of(session),
            session.descriptor,
            text(name),
            self.seconds_since(session.created_ms),
            self.seconds_since(session.last_active_ms),
            flags_of(session),
            if session.redirect_capable { "r" } else { "" },
            session.db,
            channels,
            patterns,
            shard_channels,
            session.queue().map_or(-1, |queue| queue.len() as i64),
            session.transaction.as_ref().map_or(0, |transaction| transaction.watched().len()),
            memory.query,
            memory.query_free,
            memory.arguments,
            memory.multi,
            output.buffer_capacity(),
            output.buffer_capacity(),
            output.bytes() - output.bytes_beyond_first(),
            output.buffers_beyond_first(),
            output.bytes_beyond_first(),
            memory.total,
            if output.is_sending() { "rw" } else { "r" },
            session.last_command.map_or("NULL", |id| self.names[usize::from(id)]),
            tracking::redirection(session.tracking()),
            if session.protocol == Protocol::Resp3 { 3 } else { 2 },
            text(library_name),
            text(library_version),
            session.received_bytes,
            session.sent_bytes,
            session.commands - running,
        )
        .into_bytes()
    }
}

fn flags_of(session: &Session) -> String {
    let flags = [
        (session.monitors, 'O'),
        (session.is_subscribed(), 'P'),
        (session.queue().is_some(), 'x'),
        (session.is_blocked(), 'b'),
        (session.tracking().is_some(), 't'),
        (session.tracking().is_some_and(|tracking| tracking.is_broken), 'R'),
        (session.tracking().is_some_and(|tracking| tracking.broadcast.is_some()), 'B'),
        (session.close == Some(Close::AfterReplies), 'c'),
        (session.close == Some(Close::Now), 'A'),
        (session.peer == Peer::Unix, 'U'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ];
    let set: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    if set.is_empty() { "N".to_string() } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Sessions;

    fn parse(line: &str) -> std::result::Result<Filter<'_>, String> {
        let words: Vec<&[u8]> = line.split_ascii_whitespace().map(str::as_bytes).collect();
        Filter::parse(&words, SkipMe(false)).map_err(|error| String::from_utf8_lossy(&error.text()).into_owned())
    }

    #[test]
    fn filters_are_read_as_valkey_does() {
        assert_eq!(parse("").unwrap(), Filter::default());
        assert_eq!(parse("ID 1 2 3 skipme yes").unwrap().ids, Some(vec![1, 2, 3]));
        assert!(parse("ID 1 skipme yes").unwrap().skip_caller);
        assert_eq!(parse("user default maxage 5 type PUBSUB").unwrap().kind, Some(Kind::PubSub));
        for (line, error) in [
            ("id", "ERR syntax error"),
            ("id x", "ERR syntax error"),
            ("id 10 wrong", "ERR syntax error"),
            ("id 10 0", "ERR client-id should be greater than 0"),
            ("type x", "ERR Unknown client type 'x'"),
            ("user x", "ERR No such user 'x'"),
            ("skipme x", "ERR syntax error"),
            ("maxage x", "ERR maxage is not an integer or out of range"),
            ("maxage 0", "ERR maxage should be greater than 0"),
            ("wrong x", "ERR syntax error"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }

    #[test]
    fn a_client_matches_by_what_it_is() {
        let mut sessions = Sessions::default();
        let peer = Peer::Tcp {
            remote: "127.0.0.1:5000".parse().expect("an address"),
            local: "[::1]:6379".parse().expect("an address"),
        };
        let key = sessions.insert(7, 9, peer, 1_000, true);
        let facts = Facts { now_ms: 6_500, unix_path: String::new(), names: &["ping"] };
        let matches = |sessions: &Sessions, line: &str| {
            let filter = parse(line).expect("a filter");
            filter.matches(sessions.get(key).expect("it is there"), &facts, 7)
        };
        for line in ["", "id 6 7", "addr 127.0.0.1:5000 laddr [::1]:6379", "type normal", "maxage 5", "skipme no"] {
            assert!(matches(&sessions, line), "{line}");
        }
        for line in ["id 6", "addr 127.0.0.1:5001", "type replica", "maxage 6", "skipme yes"] {
            assert!(!matches(&sessions, line), "{line}");
        }
        sessions.close(key, Close::Now);
        assert!(!matches(&sessions, ""));
    }

    #[test]
    fn a_line_has_valkeys_fields_in_their_order() {
        let mut sessions = Sessions::default();
        let key = sessions.insert(7, 9, Peer::Unix, 1_000, true);
        let session = sessions.at(key);
        session.last_command = Some(0);
        session.names_mut().name = b"me".to_vec();
        session.no_touch = true;
        session.set_subscribed(true);
        let facts = Facts { now_ms: 3_500, unix_path: "/run/s".to_string(), names: &["client|list"] };
        let line = String::from_utf8(facts.line_of(session, [1, 2, 3])).expect("text");
        let (line, memory) = (line.replace(&format!("tot-mem={}", session.memory().total), "tot-mem=*"), "tot-mem=*");
        assert!(line.contains(memory), "{line}");
        assert_eq!(
            line,
            "id=7 addr=/run/s:0 laddr=/run/s:0 fd=9 name=me age=2 idle=2 flags=PUT capa= db=0 sub=1 psub=2 ssub=3 \
             multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=* \
             events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver= tot-net-in=0 tot-net-out=0 \
             tot-cmds=0\n"
        );
    }
}
