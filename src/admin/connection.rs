//! Commands about the client's own connection: PING, ECHO, QUIT, SELECT, AUTH, HELLO, RESET.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::monitor::set_monitoring;
use super::tracking::disable;
use crate::base::number;
use crate::command::args::Args;
use crate::command::error::{Error, Result};
use crate::command::spec::{Arity::AtLeast, *};
use crate::config::parse::REDIS_VERSION;
use crate::resp::reply::{Protocol, Reply};
use crate::session::{Close, ReplyMode};

/// What the rows of this family have in common.
const CONNECTION: Spec =
    Spec { group: Group::Connection, categories: category::CONNECTION, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[
    Row {
        run: auth as AdminFn,
        spec: Spec {
            name: "auth",
            arity: AtLeast(2),
            flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY),
            since: "1.0.0",
            complexity: "O(N) where N is the number of passwords of the user.",
            summary: "Logs the connection in.",
            args: &[string("username").since("6.0.0").optional(), string("password")],
            history: &[("6.0.0", "Added ACL style (username and password).")],
            ..CONNECTION
        },
    },
    Row {
        run: echo,
        spec: Spec {
            name: "echo",
            arity: Exactly(2),
            flags: LOADING.and(STALE).and(FAST),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns its argument.",
            args: &[string("message")],
            ..CONNECTION
        },
    },
    Row {
        run: hello,
        spec: Spec {
            name: "hello",
            arity: AtLeast(1),
            flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY),
            since: "6.0.0",
            complexity: "O(1)",
            summary: "Chooses the protocol version, and may log in and name the connection.",
            args: &[block(
                "arguments",
                &[
                    integer("protover"),
                    block("auth", &[string("username"), string("password")]).after("AUTH").optional(),
                    string("clientname").after("SETNAME").optional(),
                ],
            )
            .optional()],
            history: &[(
                "6.2.0",
                "`protover` made optional; when called without arguments the command \
                 reports the current connection's context.",
            )],
            ..CONNECTION
        },
    },
    Row {
        run: ping,
        spec: Spec {
            name: "ping",
            arity: AtLeast(1),
            flags: FAST.and(SUBSCRIBED),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Answers PONG, or its argument.",
            args: &[string("message").optional()],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..CONNECTION
        },
    },
    Row {
        run: quit,
        spec: Spec {
            name: "quit",
            arity: AtLeast(1),
            flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY).and(SUBSCRIBED),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Closes this connection.",
            deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "just closing the connection" }),
            ..CONNECTION
        },
    },
    Row {
        run: reset,
        spec: Spec {
            name: "reset",
            arity: Exactly(1),
            flags: NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY).and(SUBSCRIBED),
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Puts this connection back into the state in which it was opened.",
            ..CONNECTION
        },
    },
    Row {
        run: select,
        spec: Spec {
            name: "select",
            arity: Exactly(2),
            flags: LOADING.and(STALE).and(FAST),
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Chooses the database of this connection.",
            args: &[integer("index")],
            ..CONNECTION
        },
    },
];

/// The only user there is.
pub const DEFAULT_USER: &[u8] = b"default";

const WRONG_PASSWORD: Error = Error::Text("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Error = Error::Text(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration \
     is correct?",
);
const HELLO_WITHOUT_AUTH: Error = Error::Text(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
     option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const INVALID_NAME: Error = Error::Text("ERR Client names cannot contain spaces, newlines or special characters.");

fn ping(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.len() {
        // Whatever a subscriber reads in RESP2 looks like a message.
        1 | 2 if ctx.session().is_restricted() => {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(args.from(1).first().unwrap_or(&&b""[..]));
        }
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.get(1)),
        _ => return Err(Error::arity("ping")),
    }
    Ok(Outcome::Done)
}

fn echo(_ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    reply.bulk(args.get(1));
    Ok(Outcome::Done)
}

fn quit(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    reply.ok();
    ctx.sessions.close(ctx.conn, Close::AfterReplies);
    Ok(Outcome::Done)
}

fn select(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    ctx.session().db = selected_db(args, ctx.shard.ctx.config.databases as usize)?;
    reply.ok();
    Ok(Outcome::Done)
}

/// The database that SELECT names, of so many.
pub fn selected_db(args: &Args, databases: usize) -> Result<usize> {
    let index = i32::try_from(args.integer(1)?)
        .map_err(|_| Error::Text("ERR value is out of range, value must between -2147483648 and 2147483647"))?;
    let db = usize::try_from(index).ok().filter(|&db| db < databases);
    db.ok_or(Error::Text("ERR DB index is out of range"))
}

fn auth(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    match args.len() {
        2 if ctx.shard.ctx.config.requirepass.is_empty() => return Err(NO_PASSWORD),
        2 => authenticate(ctx, DEFAULT_USER, args.get(1))?,
        3 => authenticate(ctx, args.get(1), args.get(2))?,
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(Outcome::Done)
}

fn authenticate(ctx: &mut AdminCtx, user: &[u8], password: &[u8]) -> Result {
    let expected = &ctx.shard.ctx.config.requirepass;
    if user != DEFAULT_USER || !(expected.is_empty() || same_in_constant_time(expected, password)) {
        return Err(WRONG_PASSWORD);
    }
    ctx.session().set_authenticated(true);
    Ok(())
}

/// Takes as long for a wrong password as for the right one; only its length may be guessed from the time.
fn same_in_constant_time(expected: &[u8], given: &[u8]) -> bool {
    let difference = expected.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b));
    expected.len() == given.len() && std::hint::black_box(difference) == 0
}

/// What HELLO asks for.
#[derive(Debug, Default, PartialEq)]
struct Greeting<'a> {
    protocol: Option<Protocol>,
    user_and_password: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Greeting<'a> {
    fn parse(args: &Args<'a>) -> Result<Greeting<'a>> {
        let mut greeting = Greeting::default();
        if args.len() == 1 {
            return Ok(greeting);
        }
        greeting.protocol = Some(match number::parse_i64(args.get(1)) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Error::Text("NOPROTO unsupported protocol version")),
            None => return Err(Error::Text("ERR Protocol version is not an integer or out of range")),
        });
        let mut options = args.from(2);
        loop {
            options = match options {
                [] => return Ok(greeting),
                [option, user, password, rest @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                    greeting.user_and_password = Some((user, password));
                    rest
                }
                [option, name, rest @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                    greeting.name = Some(checked_name(name)?);
                    rest
                }
                [option, ..] => {
                    let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                    text.extend_from_slice(option);
                    text.push(b'\'');
                    return Err(Error::dynamic(text));
                }
            };
        }
    }
}

fn hello(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let greeting = Greeting::parse(args)?;
    if let Some((user, password)) = greeting.user_and_password {
        authenticate(ctx, user, password)?;
    }
    let zone = ctx.shard.ctx.config.availability_zone.clone();
    let session = ctx.session();
    if !session.is_authenticated() {
        return Err(HELLO_WITHOUT_AUTH);
    }
    if let Some(name) = greeting.name {
        session.names_mut().name = name.to_vec();
    }
    if let Some(protocol) = greeting.protocol {
        session.set_protocol(protocol);
        reply.set_protocol(protocol);
    }
    reply.map(if zone.is_empty() { 7 } else { 8 });
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if session.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    if !zone.is_empty() {
        reply.bulk(b"availability_zone");
        reply.bulk(zone.as_bytes());
    }
    Ok(Outcome::Done)
}

/// A client's name, or the error about what is in it. The characters are those that keep CLIENT LIST one line a client.
pub fn checked_name(name: &[u8]) -> Result<&[u8]> {
    if is_plain(name) { Ok(name) } else { Err(INVALID_NAME) }
}

pub fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Everything as it was when the client connected, but what it said of its library.
fn reset(ctx: &mut AdminCtx, _args: &Args, reply: &mut Reply) -> Result<Outcome> {
    let authenticated = ctx.shard.ctx.config.requirepass.is_empty();
    ctx.shard.pubsub.disconnect(ctx.conn, ctx.slots);
    let session = ctx.session();
    session.db = 0;
    session.set_subscribed(false);
    session.set_protocol(Protocol::Resp2);
    session.set_authenticated(authenticated);
    session.reply_mode = ReplyMode::On;
    session.no_evict = false;
    session.no_touch = false;
    let monitors = session.monitors;
    if let Some(names) = &mut session.names {
        names.name = Vec::new();
    }
    disable(ctx);
    if monitors {
        set_monitoring(ctx, false);
    }
    reply.simple("RESET");
    Ok(Outcome::EndTransaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(line: &str) -> std::result::Result<String, String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match Greeting::parse(&Args::new(&words)) {
            Err(error) => Err(text(&error.text())),
            Ok(Greeting { protocol, user_and_password, name }) => {
                let login = user_and_password.map(|(user, password)| text(user) + ":" + &text(password));
                Ok(format!("{protocol:?} {login:?} {:?}", name.map(text)))
            }
        }
    }

    #[test]
    fn hello_takes_a_protocol_then_options_in_any_order() {
        assert_eq!(greeting("hello").unwrap(), "None None None");
        assert_eq!(greeting("HELLO 3").unwrap(), "Some(Resp3) None None");
        assert_eq!(greeting("hello 2 setname a auth u p").unwrap(), r#"Some(Resp2) Some("u:p") Some("a")"#);
        assert_eq!(greeting("hello 4").unwrap_err(), "NOPROTO unsupported protocol version");
        assert_eq!(greeting("hello x").unwrap_err(), "ERR Protocol version is not an integer or out of range");
        assert_eq!(greeting("hello 3 auth u").unwrap_err(), "ERR Syntax error in HELLO option 'auth'");
        assert!(greeting("hello 3 setname a\nb").unwrap_err().starts_with("ERR Client names cannot"));
    }

    #[test]
    fn passwords_are_compared_whole() {
        for (given, same) in [("foo", true), ("fo", false), ("fooo", false), ("fop", false), ("", false)] {
            assert_eq!(same_in_constant_time(b"foo", given.as_bytes()), same, "{given}");
        }
    }
}
