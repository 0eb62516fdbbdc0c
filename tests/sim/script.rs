//! Scripts that transactors call: each in Lua, and what it does to the model.
//!
//! Its keys come before its other arguments, and a client declares as many of them as it likes: so a script says in the same
//! words what it wants, whether the server knows its keys beforehand or not.

use peristyle::base::rng::Rng;

use crate::store::{Store, Word, array, bulk, integer};
use crate::transact::words;

pub struct Script {
    name: &'static str,
    /// `$1` is its first key, `%1` the first of its other arguments.
    source: &'static str,
    /// What its keys hold: a text, a list or a set.
    pub keys: &'static str,
    pub writes: bool,
    /// Its reply, given keys and arguments.
    run: fn(&mut Store, &[Word]) -> Vec<u8>,
}

/// Each gets one text that nobody else writes. Where another text is made, it begins with that one: the checker takes it
/// that what is gone never comes back.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "look",
        source: "return {redis.call('GET', $1), redis.call('LLEN', $2), redis.call('GET', $3)}",
        keys: "tlt",
        writes: false,
        run: |store, args| {
            let replies = [("GET", 0), ("LLEN", 1), ("GET", 2)];
            array(replies.map(|(command, key)| store.call(&[command.as_bytes(), &args[key]])))
        },
    },
    Script {
        name: "count",
        source: "return {redis.call('DBSIZE'), redis.call('EXISTS', $1, $2)}",
        keys: "tl",
        writes: false,
        run: |store, args| array([store.call(&[b"DBSIZE"]), store.call(&[b"EXISTS", &args[0], &args[1]])]),
    },
    Script {
        name: "swap",
        source: "local one, other = redis.call('GET', $1), redis.call('GET', $2)
            if other then redis.call('SET', $1, other) else redis.call('DEL', $1) end
            if one then redis.call('SET', $2, one) else redis.call('DEL', $2) end
            return {one, other}",
        keys: "tt",
        writes: true,
        run: |store, args| {
            let [one, other] = [0, 1].map(|key| store.text(&args[key]).cloned());
            let mut set = |key: &Word, text: &Option<Word>| match text {
                Some(text) => store.call(&[b"SET", key, text]),
                None => store.call(&[b"DEL", key]),
            };
            set(&args[0], &other);
            set(&args[1], &one);
            array([bulk(one.as_ref()), bulk(other.as_ref())])
        },
    },
    Script {
        name: "spread",
        source: "local text = redis.call('GET', $1) or ''
            redis.call('SET', $2, text .. ',' .. %1)
            redis.call('APPEND', $3, ',' .. %1)
            return text",
        keys: "ttt",
        writes: true,
        run: |store, args| {
            let text = store.text(&args[0]).cloned().unwrap_or_default();
            let token = [b",", &args[3][..]].concat();
            store.call(&[b"SET", &args[1], &[&text[..], &token].concat()]);
            store.call(&[b"APPEND", &args[2], &token]);
            bulk(Some(&text))
        },
    },
    Script {
        name: "claim",
        source: "if redis.call('EXISTS', $1) == 1 then
                redis.call('DEL', $1)
                redis.call('SET', $2, %1)
                return 1
            end
            redis.call('SET', $1, %1)
            return 0",
        keys: "tt",
        writes: true,
        run: |store, args| {
            let there = store.text(&args[0]).is_some();
            if there {
                store.call(&[b"DEL", &args[0]]);
            }
            store.call(&[b"SET", &args[usize::from(there)], &args[2]]);
            integer(usize::from(there))
        },
    },
    Script {
        name: "shift",
        source: "redis.call('MSET', $1, %1, $2, %1)
            local texts = redis.call('MGET', $1, $2, $3)
            redis.call('RENAME', $2, $3)
            return texts",
        keys: "ttt",
        writes: true,
        run: |store, args| {
            store.call(&[b"MSET", &args[0], &args[3], &args[1], &args[3]]);
            let texts = store.call(&[b"MGET", &args[0], &args[1], &args[2]]);
            store.call(&[b"RENAME", &args[1], &args[2]]);
            texts
        },
    },
    Script {
        name: "note",
        source: "local length = redis.call('RPUSH', $1, %1)
            redis.call('SET', $2, %1 .. '.' .. length)
            return length",
        keys: "lt",
        writes: true,
        run: |store, args| {
            let length = store.push(&args[0], false, args[2].clone());
            store.call(&[b"SET", &args[1], &[&args[2][..], format!(".{length}").as_bytes()].concat()]);
            integer(length)
        },
    },
    Script {
        name: "both",
        source: "return {redis.call('RPUSH', $1, %1), redis.call('LPUSH', $2, %1 .. 'b')}",
        keys: "ll",
        writes: true,
        run: |store, args| {
            let second = [&args[2][..], b"b"].concat();
            array([store.call(&[b"RPUSH", &args[0], &args[2]]), store.call(&[b"LPUSH", &args[1], &second])])
        },
    },
    // Nobody who waits for the first list sees what was there only meanwhile.
    Script {
        name: "pass",
        source: "redis.call('RPUSH', $1, %1)
            local text = redis.call('RPOP', $1)
            redis.call('RPUSH', $2, text)
            return redis.call('LLEN', $1)",
        keys: "ll",
        writes: true,
        run: |store, args| {
            store.call(&[b"RPUSH", &args[0], &args[2]]);
            let text = store.pop(&args[0], false).expect("it was pushed");
            store.call(&[b"RPUSH", &args[1], &text]);
            store.call(&[b"LLEN", &args[0]])
        },
    },
    // What would wait does not, in a script.
    Script {
        name: "carry",
        source: "local text = redis.call('BLMOVE', $1, $2, 'RIGHT', 'LEFT', 0)
            if text then redis.call('SET', $3, text) end
            return text",
        keys: "llt",
        writes: true,
        run: |store, args| {
            let text = store.pop(&args[0], false);
            if let Some(text) = &text {
                store.push(&args[1], true, text.clone());
                store.call(&[b"SET", &args[2], text]);
            }
            bulk(text.as_ref())
        },
    },
    Script {
        name: "join",
        source: "return {redis.call('SMOVE', $1, $2, 'x'), redis.call('SADD', $1, 'y'),
            redis.call('SUNIONSTORE', $2, $1, $2)}",
        keys: "ss",
        writes: true,
        run: |store, args| {
            let moved = store.call(&[b"SMOVE", &args[0], &args[1], b"x"]);
            let added = store.call(&[b"SADD", &args[0], b"y"]);
            array([moved, added, store.call(&[b"SUNIONSTORE", &args[1], &args[0], &args[1]])])
        },
    },
    // It ends in the middle: what it did before stays.
    Script {
        name: "fail",
        source: "redis.call('SET', $1, %1)
            redis.call('LPUSH', $1, %1)
            redis.call('SET', $2, %1)",
        keys: "tt",
        writes: true,
        run: |store, args| {
            store.call(&[b"SET", &args[0], &args[2]]);
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec()
        },
    },
    // No shard's keys have to do with a channel.
    Script {
        name: "tell",
        source: "redis.call('SET', $1, %1) return redis.call('PUBLISH', 'news', %1)",
        keys: "t",
        writes: true,
        run: |store, args| {
            store.call(&[b"SET", &args[0], &args[1]]);
            integer(0)
        },
    },
    Script {
        name: "empty",
        source: "local there = redis.call('DBSIZE')
            redis.call('FLUSHDB')
            redis.call('SET', $1, %1)
            return there",
        keys: "t",
        writes: true,
        run: |store, args| {
            let there = store.call(&[b"DBSIZE"]);
            store.call(&[b"FLUSHDB"]);
            store.call(&[b"SET", &args[0], &args[1]]);
            there
        },
    },
];

impl Script {
    pub fn counts_keys(&self) -> bool {
        self.source.contains("DBSIZE")
    }

    /// A call with these keys, of which so many are declared.
    pub fn call(&self, keys: &[String], declared: usize, token: u64, rng: &mut Rng) -> Vec<Word> {
        let mut source = format!("--{}\n{}", self.name, self.source);
        for number in 1..=keys.len() {
            let name = match number <= declared {
                true => format!("KEYS[{number}]"),
                false => format!("ARGV[{}]", number - declared),
            };
            source = source.replace(&format!("${number}"), &name);
        }
        source = source.replace("%1", &format!("ARGV[{}]", keys.len() - declared + 1));
        let command = if self.writes || rng.below(2) == 0 { "EVAL" } else { "EVAL_RO" };
        let mut call = vec![command.into(), source.into_bytes()];
        call.extend(words(&format!("{declared} {} {token}", keys.join(" "))));
        call
    }
}

/// What EVAL calls.
fn called(call: &[Word]) -> &'static Script {
    let head = call[1].split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_called = |script: &&Script| head.strip_prefix(b"--") == Some(script.name.as_bytes());
    SCRIPTS.iter().find(is_called).expect("clients call what is known")
}

/// The reply to EVAL or EVAL_RO.
pub fn run(store: &mut Store, call: &[Word]) -> Vec<u8> {
    (called(call).run)(store, &call[3..])
}

pub fn is_script(call: &[Word]) -> bool {
    call[0].starts_with(b"EVAL")
}

pub fn only_reads(call: &[Word]) -> bool {
    !called(call).writes
}
