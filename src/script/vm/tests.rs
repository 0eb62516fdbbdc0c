//! Scripts against a host of the test's own; expectations are what valkey-server 8.0.1 answers.

use super::*;
use crate::resp::reply::Protocol;
use crate::script::host::{Interrupt, LogLevel, Replication};
use crate::script::library::FunctionVm;

/// Answers what it was told to, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    calls: Vec<(Vec<String>, Protocol)>,
    logged: Vec<String>,
    interrupts: u32,
    kill_after: u32,
}

impl Host for Fake {
    fn call(&mut self, words: &[&[u8]], protocol: Protocol, reply: &mut Vec<u8>) {
        let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        // RAW answers its argument, so that a test can have any reply.
        match words[0].as_str() {
            "raw" => reply.extend_from_slice(words[1].as_bytes()),
            "fail" => reply.extend_from_slice(b"-WRONGTYPE Operation against a key\r\n"),
            _ => reply.extend_from_slice(b"+OK\r\n"),
        }
        self.calls.push((words, protocol));
    }

    fn may_run(&mut self, words: &[&[u8]]) -> Option<bool> {
        (words[0] != b"nope").then(|| words[0] != b"forbidden")
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.logged.push(format!("{level:?} {}", String::from_utf8_lossy(text)));
    }

    fn set_replication(&mut self, to: Replication) {
        self.logged.push(format!("{to:?}"));
    }

    fn interrupt(&mut self) -> Interrupt {
        self.interrupts += 1;
        if self.kill_after > 0 && self.interrupts >= self.kill_after {
            Interrupt::Kill("Error running script: Script killed by user with SCRIPT KILL.")
        } else {
            Interrupt::Continue
        }
    }
}

fn run_in(vm: &mut EvalVm, host: &mut Fake, body: &str, protocol: Protocol) -> String {
    let script = match vm.find(body.as_bytes()) {
        Some(script) => script,
        None => match vm.add(body.as_bytes(), false) {
            Ok((script, _)) => script,
            Err(text) => return String::from_utf8(text).unwrap(),
        },
    };
    let mut bytes = Vec::new();
    let prepared = vm.prepare(script, (&[b"k1", b"k2"], &[b"a1"]));
    let called = vm.call(prepared, host);
    vm.finish(script, called, &mut Reply::new(&mut bytes, protocol));
    String::from_utf8_lossy(&bytes).replace("\r\n", " ").trim_end().to_string()
}

fn run(body: &str) -> String {
    run_in(&mut EvalVm::default(), &mut Fake::default(), body, Protocol::Resp2)
}

/// An error loses the script's name, which is the digest of what stands there anyway.
#[track_caller]
fn check(body: &str, expected: &str) {
    let answer = run(body);
    let name = api::hex(Sha1::digest(body.as_bytes()).into());
    let suffix = format!(" script: {}, on @user_script:", String::from_utf8_lossy(&name));
    let answer = match answer.split_once(&suffix) {
        Some((text, line)) => format!("{text} @{}", line.trim_end_matches('.')),
        None => answer,
    };
    assert_eq!(answer, expected, "{body}");
}

#[test]
fn values_become_replies() {
    check("return 'a'", "$1 a");
    check("return 3.99", ":3");
    check("return -1.5", ":-1");
    check("return 1e300", ":-9223372036854775808");
    check("return true", ":1");
    check("return false", "$-1");
    check("return nil", "$-1");
    check("return", "$-1");
    check("return function() end", "$-1");
    check("return {1,'b',{3}}", "*3 :1 $1 b *1 :3");
    check("return {1,nil,3}", "*1 :1");
    check("return {ok='a\\nb'}", "+a b");
    check("return {err='a\\nb'}", "-a b");
    check("return {err='ab'}", "-ab");
    check("return {double=1.5}", "$3 1.5");
    check("return {map={a=1}}", "*2 $1 a :1");
    check("return {set={a=true}}", "*1 $1 a");
    check("return {big_number='12'}", "$2 12");
    check("return {verbatim_string={string='x',format='txt'}}", "$1 x");
    check("return {double=1, map={a=1}, ok='1'}", "+1");
    check("return '\\0a'", "$2 \0a");
    check("return {KEYS[1], KEYS[2], ARGV[1], #KEYS, #ARGV}", "*5 $2 k1 $2 k2 $2 a1 :2 :1");
}

#[test]
fn values_become_replies_of_resp3() {
    let check = |body: &str, expected: &str| {
        assert_eq!(run_in(&mut EvalVm::default(), &mut Fake::default(), body, Protocol::Resp3), expected, "{body}");
    };
    check("return nil", "_");
    check("return true", ":1");
    check("redis.setresp(3) return true", "#t");
    check("return {double=1.5}", ",1.5");
    check("return {map={a=1}}", "%1 $1 a :1");
    check("return {set={a=true}}", "~1 $1 a");
    check("return {big_number='12'}", "(12");
    check("return {verbatim_string={string='x',format='txt'}}", "=5 txt:x");
}

#[test]
fn replies_become_values() {
    let raw = |reply: &str, rest: &str| format!("local r = redis.call('raw', '{reply}') {rest}");
    check(&raw(":5\\r\\n", "return r + 1"), ":6");
    check(&raw("$-1\\r\\n", "return tostring(r)"), "$5 false");
    check(&raw("*-1\\r\\n", "return tostring(r)"), "$5 false");
    check(&raw("_\\r\\n", "return tostring(r)"), "$3 nil");
    check(&raw("#t\\r\\n", "return tostring(r)"), "$4 true");
    check(&raw("+OK\\r\\n", "return r.ok"), "$2 OK");
    check(&raw(",1.5\\r\\n", "return tostring(r.double)"), "$3 1.5");
    check(&raw("(12\\r\\n", "return r.big_number"), "$2 12");
    check(&raw("=5\\r\\ntxt:x\\r\\n", "return r.verbatim_string.format .. r.verbatim_string.string"), "$4 txtx");
    check(&raw("%1\\r\\n+a\\r\\n:1\\r\\n", "for k, v in pairs(r.map) do return {k.ok, v} end"), "*2 $1 a :1");
    check(&raw("~1\\r\\n$1\\r\\na\\r\\n", "return tostring(r.set.a)"), "$4 true");
    check(&raw("*2\\r\\n:1\\r\\n*1\\r\\n$0\\r\\n\\r\\n", "return r"), "*2 :1 *1 $0");
    check(&raw("|1\\r\\n+a\\r\\n:1\\r\\n:7\\r\\n", "return r"), ":7");
}

#[test]
fn errors_of_commands_are_raised_or_returned() {
    check("return redis.call('fail')", "-WRONGTYPE Operation against a key @1");
    check("return redis.pcall('fail')", "-WRONGTYPE Operation against a key");
    check("return redis.pcall('fail').err", "$33 WRONGTYPE Operation against a key");
    check("return tostring(redis.pcall('fail').ignore_error_stats_update)", "$4 true");
    check("local ok, e = pcall(redis.call, 'fail') return e", "$33 WRONGTYPE Operation against a key");
    check("\n\nreturn redis.call('fail')", "-WRONGTYPE Operation against a key @3");
    check("return {redis.pcall('fail'), 2}", "*2 -WRONGTYPE Operation against a key :2");
    check("return redis.call()", "-ERR Please specify at least one argument for this call @1");
    check("return redis.call({})", "-ERR Command arguments must be strings or integers @1");
    check("return redis.error_reply('ab')", "-ERR ab");
    check("return redis.error_reply('-ab c')", "-ab c");
    check("return redis.error_reply()", "-ERR wrong number or type of arguments");
    check("return redis.status_reply(1)", "-ERR wrong number or type of arguments");
}

#[test]
fn errors_of_scripts_tell_the_place() {
    check("error('boom')", "-ERR user_script:1: boom @1");
    check("error('x',0)", "-ERR x @1");
    check("error({err='X y'})", "-X y @1");
    check("error({a=1})", "-ERR unknown error @1");
    check("error()", "-ERR nil @1");
    check("return foo", "-ERR user_script:1: Script attempted to access nonexistent global variable 'foo' @1");
    check("return (nil)()", "-ERR user_script:1: attempt to call a nil value @1");
    check("local function f() return f()+1 end return f()", "-ERR user_script:1: stack overflow @1");
    check("x=", "ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'");
    check("goto x", "ERR Error compiling script (new function): user_script:1: '=' expected near 'x'");
    check("coroutine.yield()", "-ERR attempt to yield across metamethod/C-call boundary @1");
    check(
        "local ok, e = pcall(function() foo() end) return e",
        "$75 user_script:1: Script attempted to access nonexistent global variable 'foo'",
    );
}

#[test]
fn what_nests_without_end_ends_with_an_error() {
    // A frame of a debug build takes several times the stack of one of the server's.
    let deep = std::thread::Builder::new().stack_size(64 << 20).spawn(check_nesting).expect("a thread");
    deep.join().expect("it fails only with its assertions");
}

fn check_nesting() {
    let recursive = run("local a = {} local b = {a} a[1] = b return a");
    assert!(recursive.starts_with("*1 *1 ") && recursive.ends_with(" -ERR reached lua stack limit"));
    let deep = "local c = cjson.new() c.encode_max_depth(1e6) c.decode_max_depth(1e6)";
    let answer = run(&format!("{deep} local t = {{}} t[1] = t return c.encode(t)"));
    assert!(answer.contains("excessive nesting (1001)"), "{answer}");
    let answer = run(&format!("{deep} return c.decode(string.rep('[', 1e5))"));
    assert!(answer.contains("too many nested data structures (1001)"), "{answer}");
    let answer = run("return cmsgpack.unpack(string.rep('\\145', 1e5))");
    assert!(answer.contains("Bad data format in input."), "{answer}");
}

#[test]
fn nobody_changes_what_is_shared() {
    let readonly = "-ERR user_script:1: Attempt to modify a readonly table @1";
    for body in ["foo=1", "redis.call=1", "_G.x=1", "string.len=1", "getmetatable(_G).__index={}", "cjson.encode=nil"] {
        check(body, readonly);
    }
    let plain = "-ERR Attempt to modify a readonly table @1";
    for body in ["rawset(redis,'a',1)", "setmetatable(_G,{})", "table.insert(redis,1)", "rawset(_G,'a',1)"] {
        check(body, plain);
    }
    check("getmetatable('').__index = nil", readonly);
    check("return getmetatable('').__index == string", ":1");
    check("return getfenv(0) == _G", ":1");
    check("return getfenv(tostring) == _G", ":1");
    check("setfenv(0, {}) return 1", ":1");
    check("return redis == server", ":1");
}

#[test]
fn what_a_script_did_to_its_environment_is_gone_with_it() {
    let (mut vm, mut host) = (EvalVm::default(), Fake::default());
    let body = "local set = setfenv set(1, {a=1}) set(0, {}) a = 2 return a";
    assert_eq!(run_in(&mut vm, &mut host, body, Protocol::Resp2), ":2");
    assert_eq!(run_in(&mut vm, &mut host, "local tostring = tostring return tostring(1)", Protocol::Resp2), "$1 1");
    assert_eq!(run_in(&mut vm, &mut host, body, Protocol::Resp2), ":2");
    let loaded = "return loadstring('return tostring(5)')()";
    assert_eq!(run_in(&mut vm, &mut host, loaded, Protocol::Resp2), "$1 5");
}

#[test]
fn shared_tables_look_like_tables() {
    check("local n = 0 for k, v in pairs(redis) do n = n + 1 end return n > 15", ":1");
    check("local s = '' for k in pairs(os) do s = s .. k end return s", "$5 clock");
    check("return type(next(bit))", "$6 string");
    check("return type(rawget(redis, 'call'))", "$8 function");
    check("return #redis", ":0");
    check("return type(table.foreach(bit, function(k) return k end))", "$6 string");
    check("return getmetatable(redis)", "$-1");
    check("return type(getmetatable(_G).__index)", "$8 function");
    check("local t = setmetatable({}, {__index = {a = 5}}) return t.a", ":5");
    check("return ('x'):rep(3)", "$3 xxx");
    check("local t = {1, 2} table.insert(t, 1, 0) table.insert(t, 9) return t", "*4 :0 :1 :2 :9");
    check("return pcall(table.insert, {})", "$-1");
}

#[test]
fn code_comes_as_text_only() {
    check("return loadstring('return 1')()", ":1");
    check(
        "local f, e = loadstring('\\27Lua') return e",
        "$52 [string \"\u{1b}Lua\"]:1: unexpected symbol near 'char(27)'",
    );
    check("return tostring(loadstring(string.dump(function() return 1 end)))", "$3 nil");
    check("local i = 0 return load(function() i = i + 1 return ({'return ', '4', '2'})[i] end)()", ":42");
    check(
        "return tostring(print)",
        "-ERR user_script:1: Script attempted to access nonexistent global variable 'print' @1",
    );
    check("return tostring(os.time)", "$3 nil");
}

#[test]
fn the_api_answers_as_redis() {
    check("return redis.log(1)", "-ERR server.log() requires two arguments or more. @1");
    check("return redis.log('a','b')", "-ERR First argument must be a number (log level). @1");
    check("return redis.log(9,'b')", "-ERR Invalid log level. @1");
    check("return redis.sha1hex()", "-ERR wrong number of arguments @1");
    check("return redis.sha1hex('')", "$40 da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check("return redis.setresp()", "-ERR server.setresp() requires one argument. @1");
    check("return redis.setresp(4)", "-ERR RESP version must be 2 or 3. @1");
    check("return redis.set_repl()", "-ERR server.set_repl() requires one argument. @1");
    check(
        "return redis.set_repl(99)",
        "-ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE. @1",
    );
    check("return redis.acl_check_cmd()", "-ERR Please specify at least one argument for this call @1");
    check("return redis.acl_check_cmd('nope')", "-ERR Invalid command passed to server.acl_check_cmd() @1");
    check("return redis.acl_check_cmd('forbidden')", "$-1");
    check("return redis.replicate_commands()", ":1");
    check("return redis.breakpoint()", "$-1");
    check("return redis.debug('x')", "$-1");
    check("return redis.REDIS_VERSION_NUM", ":459268");
    check("return redis.register_function", "$-1");
    check("return math.random(0)", "-ERR user_script:1: bad argument #1 to 'random' (interval is empty) @1");
    check("math.randomseed(1) return math.random(1000)", ":42");
}

#[test]
fn arguments_reach_the_host_as_text() {
    let (mut vm, mut host) = (EvalVm::default(), Fake::default());
    let body = "redis.call('set', 3.3, 1e20, 0/0, 1/0, 2^53, -1e18, 1e-7) redis.setresp(3) redis.call('get')
        redis.log(redis.LOG_WARNING, 'a', 1) redis.set_repl(redis.REPL_AOF)";
    run_in(&mut vm, &mut host, body, Protocol::Resp2);
    let expected = ["set", "3.3", "1e+20", "-nan", "inf", "9007199254740992", "-1000000000000000000", "1e-7"];
    assert_eq!(host.calls[0].0, expected);
    assert_eq!((host.calls[0].1, host.calls[1].1), (Protocol::Resp2, Protocol::Resp3));
    assert_eq!(host.logged, ["Warning a 1", "Replication { to_aof: true, to_replicas: false }"]);
}

#[test]
fn a_killed_script_ends_whatever_it_catches() {
    let (mut vm, mut host) = (EvalVm::default(), Fake { kill_after: 2, ..Fake::default() });
    let body = "while true do pcall(function() while true do end end) end";
    let answer = run_in(&mut vm, &mut host, body, Protocol::Resp2);
    assert!(answer.starts_with("-ERR Error running script: Script killed by user with SCRIPT KILL."), "{answer}");
    assert_eq!(run_in(&mut vm, &mut Fake::default(), "return 1", Protocol::Resp2), ":1", "the next one is not killed");
    let mut host = Fake { kill_after: 2, ..Fake::default() };
    let body = "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end";
    assert!(run_in(&mut vm, &mut host, body, Protocol::Resp2).starts_with("-ERR Error running script"));
}

#[test]
fn scripts_are_found_by_text_and_digest_and_the_oldest_goes() {
    let mut vm = EvalVm::default();
    let (first, _) = vm.add(b"return 1", false).unwrap();
    let digest = vm.digest(first);
    assert_eq!(vm.name(first), *b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    let (kept, _) = vm.add(b"return 'kept'", true).unwrap();
    for number in 2..=500 {
        assert_eq!(vm.add(format!("return {number}").as_bytes(), false).unwrap().1, None);
    }
    assert_eq!((vm.find_digest(&digest), vm.len()), (Some(first), 501));
    let evicted = vm.add(b"return 501", false).unwrap().1.expect("the second was not used since");
    assert_eq!(evicted, Digest::from(Sha1::digest(b"return 2")));
    assert_eq!((vm.find(b"return 2"), vm.find(b"return 1"), vm.len()), (None, Some(first), 501));
    assert_eq!(vm.find(b"return 'kept'"), Some(kept));
    assert!(vm.memory() > 0 && vm.cache_memory() > 501 * 8);
}

fn load(vm: &mut FunctionVm, code: &str) -> String {
    match vm.load(code.as_bytes(), true, &mut Fake::default()) {
        Ok(name) | Err(name) => String::from_utf8(name).unwrap(),
    }
}

#[test]
fn libraries_register_functions() {
    let refused = |code: &str, expected: &str| {
        let answer = load(&mut FunctionVm::default(), &format!("#!lua name=l\n{code}"));
        let answer = answer.strip_prefix("ERR Error registering functions: ").unwrap_or(&answer);
        assert_eq!(answer, expected, "{code}");
    };
    refused("return 1", "ERR No functions registered");
    refused("x=", "ERR Error compiling function: user_function:2: unexpected symbol near '<eof>'");
    for global in ["pairs", "error", "math"] {
        let text = format!("ERR user_function:2: Script attempted to access nonexistent global variable '{global}'");
        refused(global, "ERR Error compiling function: user_function:2: '=' expected near '<eof>'");
        refused(&format!("return {global}"), &text);
    }
    refused(
        "return redis.call('get', 'x')",
        "ERR user_function:2: Script attempted to access nonexistent global variable 'call'",
    );
    refused("foo = 1", "ERR user_function:2: Attempt to modify a readonly table");
    let table = |fields: &str| format!("redis.register_function{{{fields}}}");
    let single = "ERR calling server.register_function with a single argument is only applicable to Lua table (representing named arguments).";
    refused("redis.register_function('f')", single);
    refused("redis.register_function()", "ERR wrong number of arguments to server.register_function");
    refused("redis.register_function('f', 1)", "ERR second argument to server.register_function must be a function");
    refused(
        "redis.register_function('f-1', function() end)",
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
    );
    refused(
        "redis.register_function('f', function() end) redis.register_function('f', function() end)",
        "ERR Function already exists in the library",
    );
    let callback = "callback=function() end";
    refused(&table(&format!("function_name='f', {callback}, flags={{'bad'}}")), "ERR unknown flag given");
    refused(
        &table(&format!("function_name='f', {callback}, flags='x'")),
        "ERR flags argument to server.register_function must be a table representing function flags",
    );
    refused(&table("function_name='f', foo=1"), "ERR unknown argument given to server.register_function");
    refused(&table("function_name='f'"), "ERR server.register_function must get a callback argument");
    refused(&table(callback), "ERR server.register_function must get a function name argument");
    refused(
        &table("function_name='f', callback=1"),
        "ERR callback argument given to server.register_function must be a function",
    );
}

#[test]
fn functions_run_with_keys_and_arguments_as_parameters() {
    let mut vm = FunctionVm::default();
    let code = "#!lua name=l
redis.register_function('f', function(keys, args) return {keys, args, pairs and 1} end)
redis.register_function('globals', function() return KEYS end)
redis.register_function{function_name='late', description='d', flags={'no-writes', 'allow-stale'},
  callback=function() return redis.register_function end}";
    assert_eq!(load(&mut vm, code), "l");
    let run = |vm: &mut FunctionVm, name: &str| {
        let id = vm.find(name.as_bytes()).cloned().expect("registered");
        let mut bytes = Vec::new();
        let prepared = vm.prepare(&id, (&[b"k"], &[]));
        let called = vm.call(prepared, &mut Fake::default());
        vm.finish(&id, called, &mut Reply::new(&mut bytes, Protocol::Resp2));
        String::from_utf8(bytes).unwrap().replace("\r\n", " ")
    };
    assert_eq!(run(&mut vm, "f"), "*3 *1 $1 k *0 :1 ");
    let missing = "Script attempted to access nonexistent global variable 'KEYS'";
    let answer = run(&mut vm, "globals");
    assert_eq!(answer, format!("-ERR user_function:3: {missing} script: globals, on @user_function:3. "));
    assert_eq!(run(&mut vm, "late"), "$-1 ");
    let late = vm.function(vm.find(b"late").unwrap());
    assert_eq!(late.flags.names().collect::<Vec<_>>(), ["no-writes", "allow-stale"]);
    assert_eq!(late.description.as_deref(), Some(&b"d"[..]));

    let other = "#!lua name=m\nredis.register_function('f', function() end)";
    assert_eq!(load(&mut vm, other), "ERR Function f already exists");
    assert_eq!(load(&mut vm, "#!lua name=l\nredis.register_function('g', function() return 7 end)"), "l");
    assert!(vm.find(b"f").is_none() && vm.functions() == 1);
    assert_eq!(run(&mut vm, "g"), ":7 ");
    assert!(vm.delete(b"l") && !vm.delete(b"l") && vm.functions() == 0);
    let taken = vm.load(other.as_bytes(), false, &mut Fake::default());
    assert_eq!(taken, Ok(b"m".to_vec()));
    let again = vm.load(other.as_bytes(), false, &mut Fake::default());
    assert_eq!(again, Err(b"ERR Library 'm' already exists".to_vec()));
}
