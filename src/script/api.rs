//! `redis.*`, also known as `server.*`: what scripts can ask of the server.

use sha1::{Digest, Sha1};
use smallvec::SmallVec;

use super::context::{Context, Owner};
use super::convert::{push_error_table, push_reply};
use super::host::{LogLevel, Replication};
use super::lua::{Lua, Raise, Returns, Type};
use crate::base::number;
use crate::resp::reply::Protocol;

/// A reply that needed more than this gives its memory back.
const REPLY_KEPT_BYTES: usize = 64 * 1024;

const NO_WORDS: &str = "Please specify at least one argument for this call";
const NOT_WORDS: &str = "Command arguments must be strings or integers";

const REPL_AOF: u32 = 1;
const REPL_REPLICA: u32 = 2;

/// The version that scripts see: whose behaviour the server has.
const REDIS_VERSION: &str = "7.2.4";
const REDIS_VERSION_NUMBER: f64 = 0x0007_0204 as f64;

/// Which functions a table of the API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Eval,
    /// In a function of a library that runs.
    Function,
    /// While a library is loaded.
    Load,
}

/// Pushes the table of the API.
pub fn push_table(lua: Lua, context: &Owner, api: Api) {
    lua.push_table(0, 32);
    let number = |name: &str, value: f64| {
        lua.push_number(value);
        lua.set_field(-2, name);
    };
    number("LOG_DEBUG", 0.0);
    number("LOG_VERBOSE", 1.0);
    number("LOG_NOTICE", 2.0);
    number("LOG_WARNING", 3.0);
    number("REDIS_VERSION_NUM", REDIS_VERSION_NUMBER);
    for (name, text) in [("REDIS_VERSION", REDIS_VERSION), ("SERVER_NAME", env!("CARGO_PKG_NAME"))] {
        lua.push(text.as_bytes());
        lua.set_field(-2, name);
    }
    let function = |name: &str, push: fn(Lua)| {
        context.push(lua);
        push(lua);
        lua.set_field(-2, name);
    };
    function("log", |lua| lua.push_function(log, 1));
    if api == Api::Load {
        function("register_function", |lua| lua.push_function(super::library::register_function, 1));
        return;
    }
    function("call", |lua| lua.push_function(call, 1));
    function("pcall", |lua| lua.push_function(protected_call, 1));
    function("setresp", |lua| lua.push_function(set_resp, 1));
    function("set_repl", |lua| lua.push_function(set_repl, 1));
    function("acl_check_cmd", |lua| lua.push_function(acl_check_cmd, 1));
    function("error_reply", |lua| lua.push_function(error_reply, 1));
    function("status_reply", |lua| lua.push_function(status_reply, 1));
    function("sha1hex", |lua| lua.push_function(sha1_hex, 1));
    if api == Api::Eval {
        function("replicate_commands", |lua| lua.push_function(replicate_commands, 1));
        function("breakpoint", |lua| lua.push_function(breakpoint, 1));
        function("debug", |lua| lua.push_function(debug, 1));
    }
    for (name, flags) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", REPL_AOF),
        ("REPL_SLAVE", REPL_REPLICA),
        ("REPL_REPLICA", REPL_REPLICA),
        ("REPL_ALL", REPL_AOF | REPL_REPLICA),
    ] {
        lua.push_number(f64::from(flags));
        lua.set_field(-2, name);
    }
}

/// Puts `random` and `randomseed` into the table of `math` on top.
pub fn add_random(lua: Lua, context: &Owner) {
    context.push(lua);
    lua.push_function(random, 1);
    lua.set_field(-2, "random");
    context.push(lua);
    lua.push_function(random_seed, 1);
    lua.set_field(-2, "randomseed");
}

/// An error of ours, raised or returned: it has a code and no place.
fn fail(lua: Lua, text: &str) -> Returns {
    push_error_table(lua, text.as_bytes());
    Err(Raise::Top)
}

fn call(lua: Lua) -> Returns {
    run_command(lua)
}

fn protected_call(lua: Lua) -> Returns {
    match run_command(lua) {
        Err(Raise::Top) => Ok(1),
        returns => returns,
    }
}

/// Pushes the reply; an error reply is raised.
fn run_command(lua: Lua) -> Returns {
    if let Err(text) = make_words(lua) {
        return fail(lua, text);
    }
    let context = Context::of(lua);
    let words: Words = words(lua);
    let mut reply = std::mem::take(&mut context.reply);
    reply.clear();
    let protocol = context.protocol;
    let Some(host) = context.host() else {
        return fail(lua, "commands can only be called inside a script invocation");
    };
    host.call(&words, protocol, &mut reply);
    let failed = reply.first() == Some(&b'-');
    // Some calls leave no room on the stack for anything else.
    lua.set_top(0);
    push_reply(lua, &reply, 0);
    reply.shrink_to(REPLY_KEPT_BYTES);
    context.reply = reply;
    if failed { Err(Raise::Top) } else { Ok(1) }
}

type Words<'a> = SmallVec<[&'a [u8]; 8]>;

/// Makes the arguments strings, if they are strings or numbers.
fn make_words(lua: Lua) -> Result<(), &'static str> {
    let count = lua.top();
    if count == 0 {
        return Err(NO_WORDS);
    }
    for index in 1..=count {
        match lua.type_of(index) {
            Type::String => {}
            Type::Number => {
                push_number_text(lua, lua.number(index).unwrap_or_default());
                lua.replace(index);
            }
            _ => return Err(NOT_WORDS),
        }
    }
    Ok(())
}

fn words<'a>(lua: Lua) -> Words<'a> {
    (1..=lua.top()).map(|index| lua.bytes(index).unwrap_or_default()).collect()
}

/// All digits of a whole number, which Lua itself would round.
fn push_number_text(lua: Lua, value: f64) {
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    if value.abs() <= WHOLE_MAX && value.trunc() == value {
        return lua.push(itoa::Buffer::new().format(value as i64).as_bytes());
    }
    let mut text = Vec::new();
    if value.is_nan() && value.is_sign_negative() {
        text.push(b'-');
    }
    number::format_shortest(value, &mut text);
    lua.push(&text);
}

fn acl_check_cmd(lua: Lua) -> Returns {
    if let Err(text) = make_words(lua) {
        return fail(lua, text);
    }
    let words = words(lua);
    match Context::of(lua).host().and_then(|host| host.may_run(&words)) {
        Some(may) => lua.push_boolean(may),
        None => return fail(lua, "Invalid command passed to server.acl_check_cmd()"),
    }
    Ok(1)
}

fn log(lua: Lua) -> Returns {
    let count = lua.top();
    if count < 2 {
        return fail(lua, "server.log() requires two arguments or more.");
    }
    let Some(level) = lua.number(1) else {
        return fail(lua, "First argument must be a number (log level).");
    };
    let level = match level as i64 {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return fail(lua, "Invalid log level."),
    };
    let mut text = Vec::new();
    for index in 2..=count {
        let Some(part) = lua.bytes(index) else { continue };
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(part);
    }
    if let Some(host) = Context::of(lua).host() {
        host.log(level, &text);
    }
    Ok(0)
}

fn set_resp(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return fail(lua, "server.setresp() requires one argument.");
    }
    let protocol = match lua.number(1).unwrap_or_default() as i64 {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return fail(lua, "RESP version must be 2 or 3."),
    };
    Context::of(lua).protocol = protocol;
    Ok(0)
}

fn set_repl(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return fail(lua, "server.set_repl() requires one argument.");
    }
    let flags = lua.number(1).unwrap_or_default() as i64;
    if flags & !i64::from(REPL_AOF | REPL_REPLICA) != 0 {
        return fail(lua, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.");
    }
    let has = |flag: u32| flags & i64::from(flag) != 0;
    if let Some(host) = Context::of(lua).host() {
        host.set_replication(Replication { to_aof: has(REPL_AOF), to_replicas: has(REPL_REPLICA) });
    }
    Ok(0)
}

fn error_reply(lua: Lua) -> Returns {
    let text = match lua.type_of(1) {
        Type::String if lua.top() == 1 => lua.c_bytes(1).unwrap_or_default(),
        _ => {
            push_error_table(lua, b"wrong number or type of arguments");
            return Ok(1);
        }
    };
    let text = if text.starts_with(b"-") { text.to_vec() } else { [b"-", text].concat() };
    push_error_table(lua, &text);
    Ok(1)
}

fn status_reply(lua: Lua) -> Returns {
    if lua.top() != 1 || lua.type_of(1) != Type::String {
        push_error_table(lua, b"wrong number or type of arguments");
        return Ok(1);
    }
    lua.push_table(0, 1);
    lua.push_value(1);
    lua.set_field(-2, "ok");
    Ok(1)
}

fn sha1_hex(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return fail(lua, "wrong number of arguments");
    }
    lua.push(&hex(Sha1::digest(lua.bytes(1).unwrap_or_default()).into()));
    Ok(1)
}

/// The name of a script: 40 digits.
pub fn hex(digest: [u8; 20]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Scripts have replicated their effects for long; there is nothing else to switch on.
fn replicate_commands(lua: Lua) -> Returns {
    lua.push_boolean(true);
    Ok(1)
}

/// There is no debugger to stop in.
fn breakpoint(lua: Lua) -> Returns {
    lua.push_boolean(false);
    Ok(1)
}

fn debug(_: Lua) -> Returns {
    Ok(0)
}

fn random(lua: Lua) -> Returns {
    let unit = Context::of(lua).random.unit();
    let bound = |index| match lua.number(index) {
        Some(number) => Ok(f64::from(number as i64 as i32)),
        None => Err(Raise::Type(index, c"number")),
    };
    let (from, to, last) = match lua.top() {
        0 => {
            lua.push_number(unit);
            return Ok(1);
        }
        1 => (1.0, bound(1)?, 1),
        2 => (bound(1)?, bound(2)?, 2),
        _ => return Err(Raise::Text("wrong number of arguments".into())),
    };
    if from > to {
        return Err(Raise::Argument(last, "interval is empty".into()));
    }
    lua.push_number((unit * (to - from + 1.0)).floor() + from);
    Ok(1)
}

fn random_seed(lua: Lua) -> Returns {
    let Some(seed) = lua.number(1) else { return Err(Raise::Type(1, c"number")) };
    Context::of(lua).random.seed(seed as i64 as i32);
    Ok(0)
}
