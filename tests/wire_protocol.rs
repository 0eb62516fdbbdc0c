//! The protocol over real sockets: requests in any pieces, inline commands, errors and how they end a connection,
//! the end of a client's sending, large values, and the order of replies in pipelines over all shards.

mod common;

use common::{Client, Server, request, with_shards};

const SHARD_TAGS: usize = 64;

#[test]
fn a_request_may_arrive_in_any_two_pieces() {
    with_shards(|server| {
        let mut client = server.client();
        let sent = [
            request(&["SET", "in pieces", "one\r\ntwo"]),
            request(&["GET", "in pieces"]),
            b"GET \"in pieces\"\r\nPING\r\n\r\n".to_vec(),
            request(&["GET", "absent"]),
        ]
        .concat();
        let expected = "+OK\r\n$8\r\none\r\ntwo\r\n$8\r\none\r\ntwo\r\n+PONG\r\n$-1\r\n";
        for split in 0..sent.len() {
            client.send(&sent[..split]);
            std::thread::sleep(std::time::Duration::from_micros(300));
            client.check(&sent[split..], expected);
        }
    });
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    with_shards(|server| {
        let mut client = server.client();
        for byte in [request(&["SET", "drip", "v"]), request(&["GET", "drip"]), b"PING\r\n".to_vec()].concat() {
            client.send([byte]);
        }
        client.expect("+OK\r\n$1\r\nv\r\n+PONG\r\n");
    });
}

#[test]
fn inline_commands() {
    let server = Server::start(1);
    let mut client = server.client();
    client.check("PING\n", "+PONG\r\n");
    client.check("\r\n\n  \r\nPING\r\n", "+PONG\r\n");
    client.check("SET k \"a\\x00\\n b\"\r\nGET k\r\n", "+OK\r\n$5\r\na\0\n b\r\n");
    client.check("SET k 'it\\'s'\r\nGET k\r\n", "+OK\r\n$4\r\nit's\r\n");
    client.check("  ping   hello \r\n", "$5\r\nhello\r\n");
}

#[test]
fn empty_requests_are_skipped() {
    let server = Server::start(1);
    server.client().check("*0\r\n*-1\r\n\r\nPING\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n+PONG\r\n");
}

#[test]
fn a_protocol_error_is_reported_and_ends_the_connection() {
    let cases: &[(&[u8], &str)] = &[
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfoo\r\n", "expected '$', got 'f'"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*abc\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1\r\n$-10\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
        (b"*1\r\n$blabla\r\n", "invalid bulk length"),
        (b"SET \"unbalanced\r\n", "unbalanced quotes in request"),
        (b"SET 'a'b x\r\n", "unbalanced quotes in request"),
    ];
    let server = Server::start(1);
    for (sent, text) in cases {
        let mut client = server.client();
        client.check(sent, format!("-ERR Protocol error: {text}\r\n"));
        client.expect_close();
    }
    for (start, text) in
        [("", "too big inline request"), ("*", "too big mbulk count string"), ("*1\r\n$", "too big bulk count string")]
    {
        let mut client = server.client();
        client.check([start.as_bytes(), &[b'1'; 65537]].concat(), format!("-ERR Protocol error: {text}\r\n"));
        client.expect_close();
    }
    server.client().check("PING\r\n", "+PONG\r\n");
}

#[test]
fn replies_before_a_protocol_error_arrive_and_nothing_behind_it_is_run() {
    with_shards(|server| {
        for tag in 0..8 {
            let (key, mut client) = (format!("before:{tag}"), server.client());
            let after = request(&["SET", &key, "changed"]);
            let sent = [request(&["SET", &key, "1"]), request(&["GET", &key]), b"*1\r\n!\r\n".to_vec(), after].concat();
            client.check(sent, "+OK\r\n$1\r\n1\r\n-ERR Protocol error: expected '$', got '!'\r\n");
            client.expect_close();
            server.client().check(request(&["GET", &key]), "$1\r\n1\r\n");
        }
    });
}

#[test]
fn a_client_that_has_finished_sending_gets_all_its_replies() {
    with_shards(|server| {
        let mut client = server.client();
        let commands = 5000;
        let sent: Vec<u8> = (0..commands).flat_map(|n| request(&["SET", &format!("half:{n}"), "v"])).collect();
        client.send(&sent);
        client.finish_sending();
        client.expect("+OK\r\n".repeat(commands));
        client.expect_close();
        // Half a request behind whole ones is dropped.
        let mut client = server.client();
        client.send([request(&["GET", "half:7"]), b"*2\r\n$3\r\nGE".to_vec()].concat());
        client.finish_sending();
        client.expect("$1\r\nv\r\n");
        client.expect_close();
        // Nothing at all.
        let mut client = server.client();
        client.finish_sending();
        client.expect_close();
    });
}

#[test]
fn a_client_that_has_finished_sending_what_brings_no_reply_is_closed() {
    with_shards(|server| {
        // More than one turn's share, so that the end is seen while commands wait.
        let commands = 20_000;
        for sent in ["\0\r\n".repeat(commands), "PING\r\n".repeat(commands)] {
            let mut client = server.client();
            client.send([request(&["CLIENT", "REPLY", "OFF"]), sent.into_bytes()].concat());
            client.finish_sending();
            client.expect_close();
        }
        for _ in 0..100 {
            let mut client = server.client();
            client.send("PING\r\n\0\r\n");
            client.finish_sending();
            client.expect("+PONG\r\n");
            client.expect_close();
        }
    });
}

#[test]
fn large_values_come_back_as_they_were() {
    with_shards(|server| {
        for (name, mib) in [("a", 1), ("b", 4), ("c", 16), ("d", 64)] {
            // A pattern with a period that is no power of two: a shifted or repeated piece shows.
            let value: Vec<u8> = (0..mib << 20).map(|at: usize| (at % 251) as u8).collect();
            let mut client = server.client();
            let key = format!("large:{name}");
            client.check(request(&[b"SET", key.as_bytes(), &value]), "+OK\r\n");
            client
                .check(request(&["GET", &key]), [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat());
            client.check(request(&["DEL", &key]), ":1\r\n");
        }
    });
}

#[test]
fn large_values_may_be_pipelined_with_small_ones() {
    with_shards(|server| {
        let mut client = server.client();
        let sizes = [32 * 1024 - 1, 32 * 1024, 1, 16 * 1024, 1 << 20, 0, 100_000];
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (index, &size) in sizes.iter().cycle().take(sizes.len() * 6).enumerate() {
            let (key, value) = (format!("mixed:{index}"), vec![b'a' + (index % 26) as u8; size]);
            sent.extend(request(&[b"SET", key.as_bytes(), &value]));
            sent.extend(request(&["GET", &key]));
            expected.extend(format!("+OK\r\n${size}\r\n").into_bytes());
            expected.extend_from_slice(&value);
            expected.extend_from_slice(b"\r\n");
        }
        send_while_reading(&mut client, &sent, &expected);
    });
}

#[test]
fn three_hundred_thousand_gets_may_be_sent_before_a_byte_is_read() {
    with_shards(|server| {
        let mut client = server.client();
        let value = "v".repeat(64);
        for tag in 0..SHARD_TAGS {
            client.check(request(&["SET", &format!("hot:{tag:02}"), &value]), "+OK\r\n");
        }
        let one: Vec<u8> = (0..SHARD_TAGS).flat_map(|tag| request(&["GET", &format!("hot:{tag:02}")])).collect();
        let rounds = 300_000 / SHARD_TAGS + 1;
        client.send(one.repeat(rounds));
        client.expect(format!("$64\r\n{value}\r\n").repeat(rounds * SHARD_TAGS));
    });
}

#[test]
fn a_pipeline_over_all_shards_is_answered_in_its_order() {
    with_shards(|server| {
        let mut client = server.client();
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for n in 0..20_000usize {
            let key = format!("order:{}", n % 1000);
            match n % 7 {
                0 => {
                    sent.extend(request(&["PING", &n.to_string()]));
                    expected.extend(format!("${}\r\n{n}\r\n", n.to_string().len()).into_bytes());
                }
                1 => {
                    // Keys of several shards: a barrier.
                    let keys = ["none:1", "none:2", "none:3", "none:4"];
                    sent.extend(request(&[["EXISTS"].as_slice(), &keys].concat()));
                    expected.extend_from_slice(b":0\r\n");
                }
                2 => {
                    sent.extend(request(&["NOSUCH"]));
                    expected.extend_from_slice(b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
                }
                _ => {
                    let value = n.to_string();
                    sent.extend(request(&["SET", &key, &value]));
                    sent.extend(request(&["GET", &key]));
                    expected.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).into_bytes());
                }
            }
        }
        send_while_reading(&mut client, &sent, &expected);
    });
}

#[test]
fn quit_answers_and_closes() {
    with_shards(|server| {
        let mut client = server.client();
        client.check(
            [request(&["SET", "quit", "1"]), request(&["QUIT"]), request(&["SET", "quit", "2"])].concat(),
            "+OK\r\n+OK\r\n",
        );
        client.expect_close();
        server.client().check(request(&["GET", "quit"]), "$1\r\n1\r\n");
    });
}

#[test]
fn hello_changes_the_protocol_from_the_next_reply_on() {
    with_shards(|server| {
        let mut client = server.client();
        client.check(request(&["GET", "absent"]), "$-1\r\n");
        client.send([request(&["HELLO", "3"]), request(&["GET", "absent"])].concat());
        client.expect(
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:",
        );
        client.line();
        client.expect("$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n_\r\n");
        client.check(request(&["HELLO", "4"]), "-NOPROTO unsupported protocol version\r\n");
        client.send([request(&["HELLO", "2"]), request(&["GET", "absent"])].concat());
        client.expect("*14\r\n");
        while client.line() != "$-1" {}
    });
}

/// Sends from a second thread, as a client that only writes until all is sent would fill both sockets.
fn send_while_reading(client: &mut Client, sent: &[u8], expected: &[u8]) {
    let writer = Client { stream: client.stream.try_clone().expect("an open socket") };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut writer = writer;
            writer.send(sent);
        });
        client.expect(expected);
    });
}
