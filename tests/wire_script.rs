//! Scripts and functions through the public client library, on keys of one shard, of several, and of none declared.

mod common;

use std::thread;

use common::{Server, with_shards};
use redis::{Commands, Connection, RedisResult, cmd};

fn eval<T: redis::FromRedisValue>(client: &mut Connection, body: &str, keys: &[&str], args: &[&str]) -> RedisResult<T> {
    cmd("EVAL").arg(body).arg(keys.len()).arg(keys).arg(args).query(client)
}

/// The text of an error, with its code.
fn error(result: RedisResult<redis::Value>) -> String {
    let error = result.expect_err("an error");
    format!("{} {}", error.code().unwrap_or("ERR"), error.detail().unwrap_or_default())
}

#[test]
fn a_script_works_on_declared_keys_wherever_they_are() {
    with_shards(|server| {
        for mut client in [server.redis(), server.redis3()] {
            for n in 0..20 {
                let (a, b) = (format!("a:{n}"), format!("b:{n}"));
                let swap = "local a, b = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
                    redis.call('SET', KEYS[1], b) redis.call('SET', KEYS[2], a)
                    return redis.call('MGET', KEYS[1], KEYS[2])";
                let () = cmd("MSET").arg(&[&a, "1", &b, "2"]).query(&mut client).unwrap();
                assert_eq!(eval::<Vec<i32>>(&mut client, swap, &[&a, &b], &[]), Ok(vec![2, 1]));
                assert_eq!(client.get(&a), Ok(2));
            }
        }
    });
}

#[test]
fn a_script_works_on_keys_that_it_does_not_declare() {
    with_shards(|server| {
        let mut client = server.redis();
        let fill = "for n = 1, 40 do redis.call('SET', 'u:' .. n, n) end
            local sum = 0 for n = 1, 40 do sum = sum + redis.call('GET', 'u:' .. n) end
            return {sum, redis.call('DBSIZE'), #redis.call('KEYS', 'u:*'), redis.call('EXISTS', 'u:1', 'u:2', 'no')}";
        assert_eq!(eval::<Vec<i32>>(&mut client, fill, &[], &[]), Ok(vec![820, 40, 40, 2]));
        let rename = "redis.call('RENAME', 'u:1', 'u:41') redis.call('DEL', 'u:2', 'u:3')
            redis.call('RPUSH', 'list', 'c', 'a', 'b') redis.call('SORT', 'list', 'ALPHA', 'STORE', 'sorted')
            return redis.call('LRANGE', 'sorted', 0, -1)";
        assert_eq!(eval::<Vec<String>>(&mut client, rename, &[], &[]).unwrap(), ["a", "b", "c"]);
        assert_eq!((client.get("u:41"), client.exists("u:1")), (Ok(1), Ok(false)));
        let scan = "local n, cursor = 0, '0' repeat local page = redis.call('SCAN', cursor, 'MATCH', 'u:*')
            cursor = page[1] n = n + #page[2] until cursor == '0' return n";
        assert_eq!(eval::<i32>(&mut client, scan, &[], &[]), Ok(38));
        assert_eq!(eval::<String>(&mut client, "return redis.call('FLUSHALL')", &[], &[]).unwrap(), "OK");
        assert_eq!(cmd("DBSIZE").query(&mut client), Ok(0));
    });
}

#[test]
fn a_script_calls_from_everywhere_in_lua() {
    with_shards(|server| {
        let mut client = server.redis();
        let body = "for n = 1, 9 do redis.call('SET', 'k' .. n, 10 - n) end
            local ok, wrong = pcall(redis.call, 'LPUSH', 'k1', 'x')
            local replaced = string.gsub('k1 k5 k9', '%w+', function(key) return redis.call('GET', key) end)
            local order = {'k1', 'k2', 'k3'}
            table.sort(order, function(a, b) return tonumber(redis.call('GET', a)) < tonumber(redis.call('GET', b)) end)
            local inner = coroutine.wrap(function() coroutine.yield(redis.call('GET', 'k4')) return redis.call('GET', 'k6') end)
            return {wrong, replaced, order[1], inner(), inner(), redis.pcall('LPUSH', 'k1', 'x').err}";
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let replies: Vec<String> = eval(&mut client, body, &[], &[]).unwrap();
        assert_eq!(replies, [wrong, "9 5 1", "k3", "6", "4", wrong]);
        let failing = "redis.call('SET', 'before', 1) return redis.call('LPUSH', 'before', 1)";
        assert!(error(eval(&mut client, failing, &[], &[])).starts_with(wrong));
        assert_eq!(client.get("before"), Ok(1), "what a script did stays");
    });
}

#[test]
fn scripts_and_libraries_are_known_on_all_shards() {
    with_shards(|server| {
        let mut client = server.redis();
        let body = "return redis.call('INCR', KEYS[1])";
        let sha: String = cmd("SCRIPT").arg("LOAD").arg(body).query(&mut client).unwrap();
        let library = "#!lua name=l
redis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)
redis.register_function{function_name='peek', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}";
        assert_eq!(cmd("FUNCTION").arg("LOAD").arg(library).query::<String>(&mut client).unwrap(), "l");
        for n in 0..20 {
            let key = format!("n:{n}");
            assert_eq!(cmd("EVALSHA").arg(&sha).arg(1).arg(&key).query(&mut client), Ok(1));
            assert_eq!(cmd("FCALL").arg("add").arg(1).arg(&key).arg(5).query(&mut client), Ok(6));
            assert_eq!(cmd("FCALL_RO").arg("peek").arg(1).arg(&key).query(&mut client), Ok(6));
            assert_eq!(eval::<i32>(&mut client, &format!("return {n}"), &[&key], &[]), Ok(n));
        }
        let dump: Vec<u8> = cmd("FUNCTION").arg("DUMP").query(&mut client).unwrap();
        let () = cmd("FUNCTION").arg("FLUSH").query(&mut client).unwrap();
        let () = cmd("SCRIPT").arg("FLUSH").query(&mut client).unwrap();
        for n in 0..20 {
            let key = format!("n:{n}");
            assert!(error(cmd("FCALL").arg("add").arg(1).arg(&key).arg(5).query(&mut client)).contains("not found"));
            assert!(error(cmd("EVALSHA").arg(&sha).arg(1).arg(&key).query(&mut client)).starts_with("NOSCRIPT"));
        }
        let () = cmd("FUNCTION").arg("RESTORE").arg(dump).query(&mut client).unwrap();
        assert_eq!(cmd("FCALL").arg("add").arg(1).arg("n:0").arg(1).query(&mut client), Ok(7));
    });
}

#[test]
fn a_function_locks_what_it_declares() {
    let server = Server::start(4);
    let mut client = server.redis();
    let library = "#!lua name=l
local function swap(keys)
  local a, b = redis.call('GET', keys[1]), redis.call('GET', keys[2])
  redis.call('MSET', keys[1], b, keys[2], a)
end
redis.register_function('swap', swap)
redis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)
redis.register_function('add_to_any', function(keys, args) return redis.call('INCRBY', args[1], 1) end)";
    let () = cmd("FUNCTION").arg("LOAD").arg(library).query(&mut client).unwrap();
    let before = server.info("transactions_locked");
    for n in 1..=20 {
        assert_eq!(cmd("FCALL").arg("Add").arg(1).arg(format!("n:{n}")).arg(n).query(&mut client), Ok(n));
    }
    assert_eq!(server.info("transactions_locked"), before, "one shard is enough");
    for n in 1..=20 {
        let any = format!("n:{n}");
        assert_eq!(cmd("FCALL").arg("add_to_any").arg(1).arg("declared").arg(&any).query(&mut client), Ok(n + 1));
    }
    assert_eq!(server.info("scripts_leased"), 20);
    assert!(server.info("transactions_locked") > before);
    for n in 1..=10 {
        let (a, b) = (format!("n:{n}"), format!("n:{}", 21 - n));
        let () = cmd("FCALL").arg("swap").arg(2).arg(&a).arg(&b).query(&mut client).unwrap();
        assert_eq!(client.mget(&[&a, &b]), Ok(vec![22 - n, n + 1]));
    }
}

/// What a script makes of its arguments is mostly where its declared keys are; sometimes it is not.
#[test]
fn scripts_on_keys_of_one_shard_follow_each_other_without_new_locks() {
    let server = Server::start(4);
    let mut client = server.redis();
    let body = "local id = redis.call('INCR', ARGV[1] .. 'id')
        redis.call('HSET', ARGV[1] .. id, 'parent', ARGV[2]) redis.call('LPUSH', KEYS[1], id)
        if ARGV[2] ~= '' then redis.call('RPUSH', ARGV[2], ARGV[1] .. id) redis.call('INCR', ARGV[1] .. 'children') end
        return redis.call('LLEN', KEYS[1])";
    let add = |client: &mut Connection, parent: &str| -> u64 {
        eval(client, body, &["bull:work:wait"], &["bull:work:", parent]).unwrap()
    };
    for n in 0..10 {
        let mut pipeline = redis::pipe();
        for _ in 0..10 {
            pipeline.cmd("EVAL").arg(body).arg(1).arg("bull:work:wait").arg("bull:work:").arg("");
        }
        assert_eq!(pipeline.query(&mut client), Ok((10 * n + 1..=10 * n + 10).collect::<Vec<u64>>()));
    }
    let leases = server.info("script_leases");
    assert!(leases <= 10, "on a slow machine one for each pipeline: {leases}");
    let mut waiting = server.redis();
    let waiter =
        thread::spawn(move || cmd("BLPOP").arg("bull:other:children").arg(0).query::<Vec<String>>(&mut waiting));
    for n in 1..=20 {
        assert_eq!(add(&mut client, &format!("parent:{n}")), 100 + n);
        assert_eq!(client.lrange(format!("parent:{n}"), 0, -1), Ok(vec![format!("bull:work:{}", 100 + n)]));
    }
    assert_eq!(client.get("bull:work:children"), Ok(20));
    add(&mut client, "bull:other:children");
    let served = waiter.join().expect("no panic").unwrap();
    assert_eq!(served, ["bull:other:children", "bull:work:121"]);
    assert_eq!(server.info("scripts_leased"), 121);
}

#[test]
fn a_function_may_be_replaced_by_one_that_touches_more() {
    let server = Server::start(4);
    let library = |body: &str| format!("#!lua name=l\nredis.register_function('f', function(keys, args) {body} end)");
    let declared = library("redis.call('INCR', keys[1]) return redis.call('INCR', keys[2])");
    let undeclared = library("redis.call('INCR', 'one') return redis.call('INCR', 'two')");
    let () = cmd("FUNCTION").arg("LOAD").arg(&declared).query(&mut server.redis()).unwrap();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.redis();
                scope.spawn(move || {
                    let calls = (0..400).map(|_| cmd("FCALL").arg("f").arg(2).arg("one").arg("two").query(&mut client));
                    let done = calls.filter(|call: &RedisResult<i64>| match call {
                        Ok(_) => true,
                        Err(refused) => {
                            let refused = refused.detail().unwrap_or_default();
                            assert_eq!(refused, "Function was replaced while it was being called");
                            false
                        }
                    });
                    done.count()
                })
            })
            .collect();
        let mut client = server.redis();
        for n in 0..100 {
            let code = if n % 2 == 0 { &undeclared } else { &declared };
            let () = cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(code).query(&mut client).unwrap();
        }
        let done: usize = callers.into_iter().map(|caller| caller.join().expect("it saw nothing else")).sum();
        assert_eq!(client.mget(&["one", "two"]), Ok(vec![done, done]), "each call did all of it, or nothing");
    });
}

#[test]
fn scripts_run_inside_transactions() {
    with_shards(|server| {
        let mut client = server.redis();
        let replies: Vec<i32> = redis::pipe()
            .atomic()
            .cmd("SET")
            .arg("x")
            .arg(1)
            .ignore()
            .cmd("EVAL")
            .arg("redis.call('INCR', 'x') redis.call('INCR', 'y') return redis.call('INCR', 'z')")
            .arg(0)
            .cmd("EVAL")
            .arg("return redis.call('INCR', KEYS[1])")
            .arg(1)
            .arg("x")
            .cmd("INCR")
            .arg("y")
            .query(&mut client)
            .unwrap();
        assert_eq!(replies, [1, 3, 2]);
    });
}

/// What it touches is not known when the transaction is planned.
#[test]
fn a_transaction_may_call_a_script_that_it_brings_itself() {
    with_shards(|server| {
        let mut client = server.redis();
        let body = "return redis.call('INCR', ARGV[1])";
        let sha = redis::Script::new(body).get_hash().to_owned();
        for any in ["a", "b", "c", "d"] {
            let () = cmd("SCRIPT").arg("FLUSH").query(&mut client).unwrap();
            let mut transaction = redis::pipe();
            transaction.atomic().cmd("EVAL").arg(body).arg(1).arg("declared").arg(any);
            transaction.cmd("EVALSHA").arg(&sha).arg(1).arg("declared").arg(any);
            assert_eq!(transaction.query(&mut client), Ok([1, 2]));
        }
    });
}

#[test]
fn transfers_by_scripts_keep_the_sum() {
    let server = Server::start(4);
    const ACCOUNTS: usize = 16;
    let mut client = server.redis();
    for n in 0..ACCOUNTS {
        let () = client.set(format!("account:{n}"), 100).unwrap();
    }
    let declared = "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1])";
    let undeclared = "redis.call('DECRBY', 'account:' .. ARGV[2], ARGV[1])
        redis.call('INCRBY', 'account:' .. ARGV[3], ARGV[1])";
    let sum = "local sum = 0 for n = 0, 15 do sum = sum + redis.call('GET', 'account:' .. n) end return sum";
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("account:{n}")).collect();
    thread::scope(|scope| {
        for worker in 0..4 {
            let mut client = server.redis();
            scope.spawn(move || {
                for n in 0..100 {
                    let (a, b) = ((worker * 7 + n) % ACCOUNTS, (worker * 3 + n * 5 + 1) % ACCOUNTS);
                    let (from, to) = (format!("account:{a}"), format!("account:{b}"));
                    let () = match n % 2 {
                        0 => eval(&mut client, declared, &[&from, &to], &["3"]).unwrap(),
                        _ => eval(&mut client, undeclared, &[], &["3", &a.to_string(), &b.to_string()]).unwrap(),
                    };
                }
            });
        }
        for _ in 0..50 {
            assert_eq!(eval::<i32>(&mut client, sum, &[], &[]), Ok(100 * ACCOUNTS as i32));
            let all: Vec<i32> = client.mget(&names).unwrap();
            assert_eq!(all.iter().sum::<i32>(), 100 * ACCOUNTS as i32);
        }
    });
    let all: Vec<i32> = client.mget(&names).unwrap();
    assert_eq!(all.iter().sum::<i32>(), 100 * ACCOUNTS as i32);
}

#[test]
fn a_read_only_script_must_not_write() {
    with_shards(|server| {
        let mut client = server.redis();
        let body = "return redis.call('SET', KEYS[1], 1)";
        let refused = error(cmd("EVAL_RO").arg(body).arg(1).arg("k").query(&mut client));
        assert!(refused.contains("Write commands are not allowed from read-only scripts."), "{refused}");
        let undeclared = "return redis.call('SET', 'other', 1)";
        let refused = error(cmd("EVAL_RO").arg(undeclared).arg(0).query(&mut client));
        assert!(refused.contains("Write commands are not allowed from read-only scripts."), "{refused}");
        assert_eq!(cmd("DBSIZE").query(&mut client), Ok(0));
    });
}

#[test]
fn commands_in_scripts_are_counted() {
    with_shards(|server| {
        let mut client = server.redis();
        let () = cmd("CONFIG").arg("RESETSTAT").query(&mut client).unwrap();
        let _: RedisResult<redis::Value> = eval(&mut client, "return redis.pcall('LPUSH', KEYS[1])", &["k"], &[]);
        let () = eval(&mut client, "redis.call('SET', 'a', 1) redis.call('SET', 'b', 1)", &[], &[]).unwrap();
        let stats: String = cmd("INFO").arg("commandstats").query(&mut client).unwrap();
        assert!(stats.contains("cmdstat_set:calls=2,"), "{stats}");
        assert!(stats.contains("cmdstat_eval:calls=2,"), "{stats}");
    });
}

#[test]
fn scripts_publish_and_ask_the_server() {
    with_shards(|server| {
        let mut subscribers: Vec<_> = (0..4).map(|_| server.client()).collect();
        for subscriber in &mut subscribers {
            subscriber.check("SUBSCRIBE ch\r\n", "*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n");
        }
        let mut client = server.redis();
        let publish = "redis.call('INCR', KEYS[1]) return redis.call('PUBLISH', ARGV[1], redis.call('GET', KEYS[1]))";
        for n in 1..10 {
            assert_eq!(eval::<i32>(&mut client, publish, &[&format!("k:{n}")], &["ch"]), Ok(4));
            assert_eq!(eval::<i32>(&mut client, publish, &["k"], &["nobody"]), Ok(0));
        }
        let replies: Vec<i32> = redis::pipe()
            .atomic()
            .cmd("EVAL")
            .arg(publish)
            .arg(1)
            .arg("last")
            .arg("ch")
            .cmd("INCR")
            .arg("last")
            .query(&mut client)
            .unwrap();
        assert_eq!(replies, [4, 2]);
        for subscriber in &mut subscribers {
            for _ in 0..10 {
                subscriber.expect("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\n1\r\n");
            }
        }
        let info: String = eval(&mut client, "return redis.call('INFO', 'server')", &[], &[]).unwrap();
        assert!(info.contains("redis_version"));
        let config = error(eval(&mut client, "return redis.call('CONFIG', 'GET', 'maxmemory')", &[], &[]));
        assert!(config.contains("This Redis command is not allowed from script"), "{config}");
        let reads = error(cmd("EVAL_RO").arg("return redis.call('PUBLISH', 'ch', 'm')").arg(0).query(&mut client));
        assert!(reads.contains("Write commands are not allowed from read-only scripts."), "{reads}");
    });
}

#[test]
fn a_script_lacks_memory_before_its_first_write_only() {
    with_shards(|server| {
        let mut client = server.redis();
        let () = cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).query(&mut client).unwrap();
        let oom = "OOM command not allowed when used memory > 'maxmemory'.";
        for keys in [&["k"][..], &["a", "b", "c"]] {
            let refused = error(eval(&mut client, "return redis.call('SET', KEYS[1], 1)", keys, &[]));
            assert!(refused.starts_with(oom), "{refused}");
            let write = "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 1) return redis.call('GET', KEYS[1])";
            assert_eq!(eval::<i32>(&mut client, write, keys, &[]), Ok(1));
            assert_eq!(eval::<i32>(&mut client, "return redis.call('GET', KEYS[1])", keys, &[]), Ok(1));
            assert_eq!(error(eval(&mut client, "#!lua\nreturn 1", keys, &[])), oom);
            assert_eq!(eval::<i32>(&mut client, "#!lua flags=no-writes\nreturn 1", keys, &[]), Ok(1));
            let allowed = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], 2) return 1";
            assert_eq!(eval::<i32>(&mut client, allowed, keys, &[]), Ok(1));
        }
        let () = cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).query(&mut client).unwrap();
        assert_eq!(eval::<i32>(&mut client, "#!lua\nreturn 1", &["k"], &[]), Ok(1));
    });
}

#[test]
fn a_call_may_have_as_many_words_as_the_stack_has_places() {
    with_shards(|server| {
        let mut client = server.redis();
        let push = "local a = {} for i = 1, 7990 do a[i] = i end return redis.call('RPUSH', KEYS[1], unpack(a))";
        assert_eq!(eval::<i32>(&mut client, push, &["l"], &[]), Ok(7990));
        assert_eq!(eval::<Option<i32>>(&mut client, "return redis.call('BLPOP', 'none', 0)", &[], &[]), Ok(None));
    });
}
