//! Channels, patterns and shard channels over the wire: what subscribers get, in which order, and how many they are.

mod common;

use std::collections::HashMap;
use std::thread;

use common::{Client, Server, eventually, request, with_shards};
use redis::cmd;

/// A push, or what stands for it in RESP2.
fn push(kind: char, words: &[&str]) -> Vec<u8> {
    let mut bytes = request(words);
    bytes[0] = kind as u8;
    bytes
}

fn confirmation(kind: char, verb: &str, name: &str, count: usize) -> Vec<u8> {
    let words = format!("{kind}3\r\n${}\r\n{verb}\r\n${}\r\n{name}\r\n:{count}\r\n", verb.len(), name.len());
    words.into_bytes()
}

fn subscriber(server: &Server, resp3: bool, verb: &str, names: &[&str]) -> Client {
    let mut client = server.client();
    let kind = if resp3 {
        client.send("HELLO 3\r\n");
        // The last of HELLO's fields are the modules, of which there are none.
        while client.line() != "*0" {}
        '>'
    } else {
        '*'
    };
    client.send(request(&[&[verb], names].concat()));
    for (index, name) in names.iter().enumerate() {
        client.expect(confirmation(kind, verb, name, index + 1));
    }
    client
}

/// The parts of the next message, as text.
fn message(client: &mut Client) -> Vec<String> {
    let head = client.line();
    assert!(head.starts_with(['*', '>']), "{head}");
    let parts: usize = head[1..].parse().expect("a count");
    let mut part = || {
        client.line();
        client.line()
    };
    (0..parts).map(|_| part()).collect()
}

fn publish(client: &mut Client, verb: &str, channel: &str, message: &str) -> usize {
    client.send(request(&[verb, channel, message]));
    client.line()[1..].parse().expect("a number of receivers")
}

#[test]
fn confirmations_and_messages_have_redis_form() {
    with_shards(|server| {
        let mut publisher = server.client();
        for (resp3, kind) in [(false, '*'), (true, '>')] {
            let mut client = subscriber(server, resp3, "subscribe", &["news", "weather", "news:2"]);
            client.send(request(&["PSUBSCRIBE", "n*s"]));
            client.expect(confirmation(kind, "psubscribe", "n*s", 4));
            client.send(request(&["SSUBSCRIBE", "news"]));
            client.expect(confirmation(kind, "ssubscribe", "news", 1));
            assert_eq!(publish(&mut publisher, "PUBLISH", "news", "hi"), 2);
            client.expect(push(kind, &["message", "news", "hi"]));
            client.expect(push(kind, &["pmessage", "n*s", "news", "hi"]));
            assert_eq!(publish(&mut publisher, "SPUBLISH", "news", "ho"), 1);
            client.expect(push(kind, &["smessage", "news", "ho"]));
            client.send(request(&["UNSUBSCRIBE"]));
            for (left, name) in [(3, "news"), (2, "news:2"), (1, "weather")] {
                client.expect(confirmation(kind, "unsubscribe", name, left));
            }
            client.send(request(&["PUNSUBSCRIBE", "n*s", "other"]));
            client.expect(confirmation(kind, "punsubscribe", "n*s", 0));
            client.expect(confirmation(kind, "punsubscribe", "other", 0));
            client.send(request(&["SUNSUBSCRIBE"]));
            client.expect(confirmation(kind, "sunsubscribe", "news", 0));
            let null = if resp3 { "_" } else { "$-1" };
            client.check("UNSUBSCRIBE\r\n", format!("{kind}3\r\n$11\r\nunsubscribe\r\n{null}\r\n:0\r\n"));
            assert_eq!(publish(&mut publisher, "PUBLISH", "news", "hi"), 0);
        }
    });
}

#[test]
fn a_subscriber_in_resp2_may_call_little_else() {
    with_shards(|server| {
        let mut client = subscriber(server, false, "subscribe", &["c"]);
        let refusal = |name: &str| {
            format!(
                "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
                 in this context\r\n"
            )
        };
        for (line, name) in
            [("GET k", "get"), ("mget a b c d", "mget"), ("CLIENT LIST", "client|list"), ("PUBLISH c x", "publish")]
        {
            client.check(format!("{line}\r\n"), refusal(name));
        }
        client.check("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n");
        client.check("NONSENSE\r\n", "-ERR unknown command 'NONSENSE', with args beginning with: \r\n");
        client.check("PING\r\n", push('*', &["pong", ""]));
        client.check("PING hello\r\n", push('*', &["pong", "hello"]));
        client.check("UNSUBSCRIBE c\r\n", confirmation('*', "unsubscribe", "c", 0));
        client.check("PING\r\nGET k\r\n", "+PONG\r\n$-1\r\n");
        client.check("SSUBSCRIBE s\r\n", confirmation('*', "ssubscribe", "s", 1));
        client.check("GET k\r\n", refusal("get"));
        client.check("RESET\r\nGET k\r\n", "+RESET\r\n$-1\r\n");
        let mut publisher = server.client();
        assert_eq!(publish(&mut publisher, "SPUBLISH", "s", "x"), 0, "RESET ends subscriptions");
        client.check("SUBSCRIBE c\r\nQUIT\r\n", [confirmation('*', "subscribe", "c", 1), b"+OK\r\n".to_vec()].concat());
        client.expect_close();
        // With RESP3, everything is allowed, until the client goes back to RESP2.
        let mut client = subscriber(server, true, "subscribe", &["c"]);
        client.check("PING\r\nGET k\r\n", "+PONG\r\n_\r\n");
        client.send("HELLO 2\r\n");
        assert_eq!(client.line(), "*14");
        while client.line() != "*0" {}
        client.check("GET k\r\n", refusal("get"));
    });
}

#[test]
fn every_receiver_is_counted_once() {
    with_shards(|server| {
        let mut publisher = server.client();
        let mut plain: Vec<Client> =
            (0..12).map(|_| subscriber(server, false, "subscribe", &["a", "b", "c"])).collect();
        let mut by_pattern: Vec<Client> =
            (0..9).map(|_| subscriber(server, true, "psubscribe", &["[ab]", "?"])).collect();
        for (channel, receivers) in [("a", 12 + 18), ("b", 12 + 18), ("c", 12 + 9), ("d", 9), ("dd", 0)] {
            assert_eq!(publish(&mut publisher, "PUBLISH", channel, "m"), receivers, "{channel}");
        }
        for client in &mut plain {
            for channel in ["a", "b", "c"] {
                assert_eq!(message(client), ["message", channel, "m"]);
            }
        }
        for client in &mut by_pattern {
            let mut got: Vec<Vec<String>> = (0..6).map(|_| message(client)).collect();
            got.sort();
            let pmessage =
                |pattern: &str, channel: &str| ["pmessage", pattern, channel, "m"].map(str::to_owned).to_vec();
            let of_any = ["a", "b", "c", "d"].map(|channel| pmessage("?", channel));
            assert_eq!(got, [&of_any[..], &[pmessage("[ab]", "a"), pmessage("[ab]", "b")]].concat());
        }
        let pubsub = |words: &[&str]| -> redis::Value { cmd("PUBSUB").arg(words).query(&mut server.redis()).unwrap() };
        let channels: Vec<String> = redis::from_redis_value(pubsub(&["CHANNELS"])).unwrap();
        assert_eq!(channels, ["a", "b", "c"]);
        let counts: Vec<(String, usize)> = redis::from_redis_value(pubsub(&["NUMSUB", "a", "x"])).unwrap();
        assert_eq!(counts, [("a".to_owned(), 12), ("x".to_owned(), 0)]);
        assert_eq!(pubsub(&["NUMPAT"]), redis::Value::Int(2));
        let mut resp3 = subscriber(server, true, "ssubscribe", &["s"]);
        resp3.check(request(&["PUBSUB", "SHARDNUMSUB", "s"]), "*2\r\n$1\r\ns\r\n:1\r\n");
        resp3.check(request(&["PUBSUB", "SHARDCHANNELS", "[r-t]"]), "*1\r\n$1\r\ns\r\n");
        assert_eq!(
            ["pubsub_clients", "pubsub_channels", "pubsub_patterns", "pubsubshard_channels"]
                .map(|field| server.info(field)),
            [22, 3, 2, 1]
        );
        plain.truncate(5);
        by_pattern.clear();
        eventually("those who have left are not counted", || publish(&mut publisher, "PUBLISH", "a", "m") == 5);
        eventually("nor known", || server.info("pubsub_patterns") == 0);
    });
}

#[test]
fn a_channel_has_one_order_for_all() {
    const PUBLISHERS: usize = 6;
    const MESSAGES: usize = 300;
    const CHANNELS: [&str; 4] = ["red", "green", "blue", "yellow"];
    with_shards(|server| {
        let subscribers: Vec<Client> = (0..8)
            .map(|index| match index % 2 {
                0 => subscriber(server, index % 4 == 0, "subscribe", &CHANNELS),
                _ => subscriber(server, index % 4 == 1, "psubscribe", &["*e*"]),
            })
            .collect();
        let orders: Vec<HashMap<String, Vec<String>>> = thread::scope(|scope| {
            let readers: Vec<_> = subscribers
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        let mut orders: HashMap<String, Vec<String>> = HashMap::new();
                        let mut last = [0; PUBLISHERS];
                        for _ in 0..PUBLISHERS * MESSAGES {
                            let mut parts = message(&mut client);
                            let text = parts.pop().expect("a message");
                            let (publisher, number) = text.split_once(' ').expect("two numbers");
                            let (publisher, number): (usize, usize) =
                                (publisher.parse().expect("a number"), number.parse().expect("a number"));
                            assert_eq!(number, last[publisher] + 1, "a publisher's order holds over channels");
                            last[publisher] = number;
                            orders.entry(parts.pop().expect("a channel")).or_default().push(text);
                        }
                        orders
                    })
                })
                .collect();
            for publisher in 0..PUBLISHERS {
                let mut client = server.client();
                scope.spawn(move || {
                    // In runs on one channel, and from one to the next, in one pipeline.
                    let channel = |number: usize| CHANNELS[(publisher + number / 3) % CHANNELS.len()];
                    for numbers in (1..=MESSAGES).collect::<Vec<_>>().chunks(50) {
                        let publish =
                            |number: &usize| request(&["PUBLISH", channel(*number), &format!("{publisher} {number}")]);
                        client.check(
                            numbers.iter().flat_map(publish).collect::<Vec<u8>>(),
                            ":8\r\n".repeat(numbers.len()),
                        );
                    }
                });
            }
            readers.into_iter().map(|reader| reader.join().expect("a reader")).collect()
        });
        for other in &orders[1..] {
            assert!(*other == orders[0], "two subscribers of a channel saw different orders");
        }
    });
}

#[test]
fn a_message_and_the_writes_around_it_are_seen_in_their_order() {
    with_shards(|server| {
        const ROUNDS: usize = 200;
        let mut listener = subscriber(server, true, "subscribe", &["jobs"]);
        let (mut worker, mut writer) = (server.client(), server.client());
        thread::scope(|scope| {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (before, after) = (format!("before:{round}"), format!("after:{round}"));
                    let sent = [
                        request(&["SET", &before, "1"]),
                        request(&["PUBLISH", "jobs", &round.to_string()]),
                        request(&["SET", &after, "1"]),
                    ];
                    writer.check(sent.concat(), "+OK\r\n:1\r\n+OK\r\n");
                }
            });
            let mut heard = 0;
            for round in 0..ROUNDS {
                // Who sees what was written behind a message: the message is in the listener's output by then.
                loop {
                    worker.send(request(&["GET", &format!("after:{round}")]));
                    if worker.line() == "$1" {
                        worker.expect("1\r\n");
                        break;
                    }
                }
                listener.send("PING\r\n");
                loop {
                    let line = listener.line();
                    if line == "+PONG" {
                        break;
                    }
                    assert_eq!(line, ">3");
                    listener.expect("$7\r\nmessage\r\n$4\r\njobs\r\n");
                    listener.line();
                    heard = listener.line().parse::<usize>().expect("a number") + 1;
                    // And who hears a message finds what was written before it.
                    worker.check(request(&["GET", &format!("before:{}", heard - 1)]), "$1\r\n1\r\n");
                }
                assert!(heard > round, "message {round} came after what was sent behind it");
            }
        });
    });
}

#[test]
fn a_message_to_oneself_comes_behind_the_reply() {
    with_shards(|server| {
        for channel in ["a", "b", "c", "d"] {
            let mut client = subscriber(server, true, "subscribe", &[channel]);
            let got = [b":1\r\n".to_vec(), push('>', &["message", channel, "x"])].concat();
            client.check(request(&["PUBLISH", channel, "x"]), &got);
            // Also behind commands that other shards answer, and several that are.
            let sent =
                [request(&["GET", "k"]), request(&["MGET", "a", "b", "c", "d"]), request(&["PUBLISH", channel, "y"])];
            let got =
                [b"_\r\n*4\r\n_\r\n_\r\n_\r\n_\r\n:1\r\n".to_vec(), push('>', &["message", channel, "y"])].concat();
            client.check(sent.concat(), &got);
        }
    });
}

#[test]
fn messages_inside_a_transaction_come_behind_its_reply() {
    with_shards(|server| {
        let mut client = subscriber(server, true, "subscribe", &["a", "b", "c", "d"]);
        client.check("MULTI\r\nPING 1\r\n", "+OK\r\n+QUEUED\r\n");
        for channel in ["a", "b", "c", "d"] {
            client.check(request(&["PUBLISH", channel, "x"]), "+QUEUED\r\n");
        }
        client.check("UNSUBSCRIBE a\r\nPUBLISH a y\r\nSET k v\r\n", "+QUEUED\r\n".repeat(3));
        let mut got = b"*8\r\n$1\r\n1\r\n:1\r\n:1\r\n:1\r\n:1\r\n".to_vec();
        got.extend(confirmation('>', "unsubscribe", "a", 3));
        got.extend(b":0\r\n+OK\r\n");
        for channel in ["a", "b", "c", "d"] {
            got.extend(push('>', &["message", channel, "x"]));
        }
        client.check("EXEC\r\n", got);
    });
}

#[test]
fn a_muted_subscriber_hears() {
    with_shards(|server| {
        let mut client = subscriber(server, true, "subscribe", &["a"]);
        client.send("CLIENT REPLY OFF\r\nPUBLISH a 1\r\nPING\r\nSUBSCRIBE b\r\nUNSUBSCRIBE b\r\n");
        let got = [
            push('>', &["message", "a", "1"]),
            confirmation('>', "subscribe", "b", 2),
            confirmation('>', "unsubscribe", "b", 1),
        ];
        client.expect(got.concat());
        client.check("CLIENT REPLY ON\r\n", "+OK\r\n");
        client.send("CLIENT REPLY SKIP\r\nPUBLISH a 2\r\nPING\r\n");
        client.expect([push('>', &["message", "a", "2"]), b"+PONG\r\n".to_vec()].concat());
    });
}

#[test]
fn keyspace_events_reach_subscribers_of_all_shards() {
    with_shards(|server| {
        let mut client = server.client();
        client.check(request(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]), "+OK\r\n");
        let mut by_pattern: Vec<Client> =
            (0..6).map(|index| subscriber(server, index % 2 == 0, "psubscribe", &["__keyevent@0__:*"])).collect();
        let mut by_name: Vec<Client> =
            (0..6).map(|index| subscriber(server, index % 2 == 1, "subscribe", &["__keyspace@0__:k:7"])).collect();
        for n in 0..20 {
            client.check(request(&["SET", &format!("k:{n}"), "v"]), "+OK\r\n");
        }
        client.check(request(&["RENAME", "k:7", "k:8"]), "+OK\r\n");
        client.check(request(&["MSET", "k:7", "1", "k:9", "2", "k:11", "3", "k:12", "4"]), "+OK\r\n");
        client.check(request(&["DEL", "k:7", "k:12"]), ":2\r\n");
        for listener in &mut by_pattern {
            let mut last: HashMap<String, Vec<String>> = HashMap::new();
            for _ in 0..20 + 2 + 4 + 2 {
                let [_, pattern, channel, key] = message(listener).try_into().expect("four parts");
                assert_eq!(pattern, "__keyevent@0__:*");
                let event = channel.strip_prefix("__keyevent@0__:").expect("of a keyevent").to_owned();
                last.entry(key).or_default().push(event);
            }
            assert_eq!(last["k:7"], ["set", "rename_from", "set", "del"]);
            assert_eq!(last["k:8"], ["set", "rename_to"]);
            assert_eq!(last["k:9"], ["set", "set"]);
        }
        for listener in &mut by_name {
            for event in ["set", "rename_from", "set", "del"] {
                assert_eq!(message(listener), ["message", "__keyspace@0__:k:7", event]);
            }
        }
    });
}

#[test]
fn keys_that_expire_are_told_of() {
    with_shards(|server| {
        let mut client = server.client();
        client.check(request(&["CONFIG", "SET", "notify-keyspace-events", "Exh"]), "+OK\r\n");
        let mut listener = subscriber(server, false, "psubscribe", &["__keyevent@*"]);
        for n in 0..30 {
            client.check(request(&["SET", &format!("k:{n}"), "v", "PX", "30"]), "+OK\r\n");
        }
        client.check(request(&["HSET", "h", "f", "1", "g", "2"]), ":2\r\n");
        client.check(request(&["HPEXPIRE", "h", "30", "FIELDS", "1", "f"]), "*1\r\n:1\r\n");
        let mut heard: HashMap<String, Vec<String>> = HashMap::new();
        for _ in 0..33 {
            let [_, _, channel, key] = message(&mut listener).try_into().expect("four parts");
            heard.entry(key).or_default().push(channel.rsplit(':').next().expect("an event").to_owned());
        }
        assert_eq!(heard.remove("h"), Some(["hset", "hexpire", "hexpired"].map(str::to_owned).to_vec()));
        assert_eq!(heard.len(), 30);
        assert!(heard.values().all(|events| events[..] == ["expired"]));
    });
}

#[test]
fn an_event_comes_behind_the_reply_to_its_command() {
    with_shards(|server| {
        let mut client = subscriber(server, true, "psubscribe", &["__keyevent@0__:*"]);
        client.check(request(&["CONFIG", "SET", "notify-keyspace-events", "EA"]), "+OK\r\n");
        let event = |name: &str, key: &str| {
            push('>', &["pmessage", "__keyevent@0__:*", &format!("__keyevent@0__:{name}"), key])
        };
        for key in ["a", "b", "c", "d"] {
            client.check(request(&["SET", key, "v"]), [b"+OK\r\n".to_vec(), event("set", key)].concat());
            client.check(request(&["DEL", key]), [b":1\r\n".to_vec(), event("del", key)].concat());
        }
    });
}

#[test]
fn a_client_that_waits_for_data_hears() {
    with_shards(|server| {
        let (mut other, mut listener) = (server.client(), subscriber(server, true, "psubscribe", &["__keyevent@*"]));
        other.check(request(&["CONFIG", "SET", "notify-keyspace-events", "Elg"]), "+OK\r\n");
        for key in ["a", "b", "c", "d"] {
            let mut client = subscriber(server, true, "subscribe", &["news"]);
            client.send(request(&["BLPOP", key, "0"]));
            eventually("it waits", || server.info("blocked_clients") == 1);
            assert_eq!(publish(&mut other, "PUBLISH", "news", "hi"), 1);
            client.expect(push('>', &["message", "news", "hi"]));
            other.check(request(&["RPUSH", key, "x"]), ":1\r\n");
            client.expect(request(&[key, "x"]));
            for event in ["rpush", "lpop", "del"] {
                assert_eq!(message(&mut listener)[2..], [format!("__keyevent@0__:{event}"), key.to_owned()]);
            }
        }
    });
}

#[test]
fn subscribers_are_listed_and_killed_as_such() {
    with_shards(|server| {
        let mut subscribers: Vec<Client> =
            (0..6).map(|_| subscriber(server, false, "psubscribe", &["p1", "p2", "p3"])).collect();
        subscribers[0].send("SUBSCRIBE c\r\nSSUBSCRIBE s\r\n");
        subscribers[0].expect(confirmation('*', "subscribe", "c", 4));
        subscribers[0].expect(confirmation('*', "ssubscribe", "s", 1));
        let mut client = server.redis();
        let list: String = cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(&mut client).unwrap();
        assert_eq!(list.lines().filter(|line| line.contains(" flags=P ")).count(), 6, "{list}");
        assert_eq!(list.lines().filter(|line| line.contains(" sub=1 psub=3 ssub=1 ")).count(), 1, "{list}");
        let normal: usize = cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query(&mut client).unwrap();
        assert_eq!(normal, 0);
        let killed: usize = cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut client).unwrap();
        assert_eq!(killed, 6);
        subscribers.iter_mut().for_each(|subscriber| subscriber.expect_close());
        eventually("nobody listens", || server.info("pubsub_clients") + server.info("pubsubshard_channels") == 0);
    });
}

#[test]
fn a_slow_subscriber_is_closed() {
    for shards in [1, 4] {
        let limit = ["--client-output-buffer-limit", "pubsub 4mb 0 0"];
        let server = Server::start_with(shards, &limit);
        let mut slow = subscriber(&server, false, "subscribe", &["flood"]);
        let mut publisher = server.client();
        let text = "x".repeat(100_000);
        let mut published = 0;
        while publish(&mut publisher, "PUBLISH", "flood", &text) == 1 {
            published += 1;
            assert!(published < 1000, "nobody is closed");
        }
        assert!(published > 40, "closed after {published} messages");
        assert!(slow.read_to_close().len() < published * (text.len() + 100));
        assert_eq!(server.info("client_output_buffer_limit_disconnections"), 1);
    }
}
