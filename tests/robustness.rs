//! Clients that misbehave: each harms itself alone, and what they cost comes back when they go.
//!
//! A bystander talks to the server all the while, and notices a wrong reply, a closed connection or a long wait.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Server, eventually, request, with_shards};
use peristyle::base::rng::Rng;

/// No reply may take longer, on a machine that is busy with other tests.
const REPLY_MAX: Duration = Duration::from_secs(5);

/// Each server gets as many bytes, over as many connections.
const RANDOM_BYTES: usize = 5_000_000;
const RANDOM_CONNECTIONS: usize = 5000;

#[test]
fn ten_million_random_bytes_hurt_nobody() {
    for (shards, seed) in [(1, 1), (4, 4)] {
        let server = Server::start(shards);
        beside_a_bystander(&server, || {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let server = &server;
                    scope.spawn(move || {
                        let mut rng = Rng::new(seed * 100 + thread);
                        for _ in 0..RANDOM_CONNECTIONS / 4 {
                            talk_nonsense(server, &mut rng, RANDOM_BYTES / RANDOM_CONNECTIONS);
                        }
                    });
                }
            });
        });
    }
}

/// One connection that sends so many bytes, stops sending, and reads what there is to read.
fn talk_nonsense(server: &Server, rng: &mut Rng, bytes: usize) {
    let mut nonsense = Vec::new();
    while nonsense.len() < bytes {
        nonsense.extend(random_piece(rng));
    }
    let mut client = server.client();
    // The server closes at the first protocol error, usually before it has read all.
    let sent = client.stream.write_all(&nonsense);
    if sent.is_ok() && client.stream.shutdown(std::net::Shutdown::Write).is_ok() {
        client.read_to_close();
    }
}

/// Bytes from harmless to hostile: whole commands, damaged ones, protocol characters, noise.
fn random_piece(rng: &mut Rng) -> Vec<u8> {
    let words = ["GET", "SET", "DEL", "EXISTS", "APPEND", "INCR", "MGET", "EXPIRE", "OBJECT", "SCAN", "TYPE", "PING"];
    let random_word = |rng: &mut Rng| match rng.below(4) {
        0 => format!("nonsense:{}", rng.below(50)).into_bytes(),
        1 => (0..rng.below(20)).map(|_| rng.next_u64() as u8).collect(),
        2 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
        _ => words[rng.below(words.len() as u64) as usize].as_bytes().to_vec(),
    };
    match rng.below(32) {
        0..28 => {
            let first = words[rng.below(words.len() as u64) as usize].as_bytes().to_vec();
            let rest = (0..rng.below(5)).map(|_| random_word(rng));
            request(&std::iter::once(first).chain(rest).collect::<Vec<_>>())
        }
        28 => {
            let mut damaged = request(&[random_word(rng), random_word(rng)]);
            let at = rng.below(damaged.len() as u64) as usize;
            damaged[at] = rng.next_u64() as u8;
            damaged
        }
        29 => {
            let mut inline = random_word(rng);
            inline.extend_from_slice([b"\r\n".as_slice(), b"\n", b" \"", b" ' x\n"][rng.below(4) as usize]);
            inline
        }
        30 => (0..rng.below(30)).map(|_| b"*$:+-0123456789\r\n\"' "[rng.below(20) as usize]).collect(),
        _ => (0..rng.below(100)).map(|_| rng.next_u64() as u8).collect(),
    }
}

#[test]
fn a_slow_reader_gets_everything_and_delays_nobody() {
    with_shards(|server| {
        let value = vec![b's'; 256 * 1024];
        let reply = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
        server.client().check(request(&[b"SET".as_slice(), b"slow", &value]), "+OK\r\n");
        beside_a_bystander(server, || {
            let mut slow = server.client();
            let replies = 64;
            slow.send(request(&["GET", "slow"]).repeat(replies));
            let mut read = 0;
            let mut piece = vec![0; 128 * 1024];
            while read < replies * reply.len() {
                let length = slow.stream.read(&mut piece).expect("the server still sends");
                for (at, &byte) in piece[..length].iter().enumerate() {
                    assert_eq!(byte, reply[(read + at) % reply.len()]);
                }
                read += length;
                std::thread::sleep(Duration::from_millis(1));
            }
            slow.check("PING\r\n", "+PONG\r\n");
        });
    });
}

#[test]
fn a_client_that_never_reads_is_closed_at_its_output_limit() {
    for shards in [1, 2, 4] {
        let server = Server::start_with(shards, &["--client-output-buffer-limit", "normal", "4mb", "0", "0"]);
        let value = vec![b'n'; 1 << 20];
        for tag in 0..4 {
            server.client().check(request(&[b"SET".as_slice(), format!("never:{tag}").as_bytes(), &value]), "+OK\r\n");
        }
        let used = server.info("used_memory");
        beside_a_bystander(&server, || {
            let clients = (0..4).map(|tag| {
                let mut deaf = server.client();
                let get = request(&["GET", &format!("never:{tag}")]);
                // It may be closed before it has sent all.
                let _ = deaf.stream.write_all(&get.repeat(50_000));
                deaf
            });
            let _deaf: Vec<Client> = clients.collect();
            eventually("all are closed", || server.info("client_output_buffer_limit_disconnections") == 4);
        });
        returns_to(&server, used);
    }
}

#[test]
fn half_a_request_holds_up_nobody_and_ends_with_its_client() {
    with_shards(|server| {
        let used = server.info("used_memory");
        beside_a_bystander(server, || {
            let halves: [&[u8]; 5] =
                [b"*", b"*2\r\n$3\r\nGET\r\n$5\r\nha", b"PIN", b"*2\r\n", b"*2\r\n$3\r\nSET\r\n$500000000\r\nstart"];
            let clients: Vec<Client> = (0..500)
                .map(|index| {
                    let mut client = server.client();
                    client.send(halves[index % halves.len()]);
                    client
                })
                .collect();
            for (index, client) in clients.into_iter().enumerate() {
                // Half of them leave in order, half are reset.
                if index % 2 == 0 {
                    reset(&client.stream);
                }
            }
        });
        returns_to(server, used);
    });
}

#[test]
fn storms_of_connections_mix_up_no_replies() {
    with_shards(|server| {
        let used = server.info("used_memory");
        beside_a_bystander(server, || {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || {
                        for round in 0..500 {
                            let name = format!("storm:{thread}:{round}");
                            let mut client = server.client();
                            // Commands for other shards, whose replies come back when the slot has its next user.
                            let sent = [
                                request(&["SET", &name, &name]),
                                request(&["GET", &name]),
                                request(&["DEL", &name, "storm:a", "storm:b"]),
                            ]
                            .concat();
                            client.send(&sent);
                            match round % 4 {
                                0 => reset(&client.stream),
                                1 => {}
                                _ => client.expect(format!("+OK\r\n${}\r\n{name}\r\n:1\r\n", name.len())),
                            }
                        }
                    });
                }
            });
        });
        eventually("all connections are gone", || server.info("connected_clients") == 1);
        returns_to(server, used);
    });
}

#[test]
fn connections_beyond_maxclients_are_refused() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &["--maxclients", "10"]);
        let mut clients: Vec<Client> = (0..10).map(|_| admitted(&server)).collect();
        for _ in 0..20 {
            let mut refused = server.client();
            refused.expect("-ERR max number of clients reached\r\n");
            refused.expect_close();
        }
        for client in &mut clients {
            client.check("PING\r\n", "+PONG\r\n");
        }
        clients.pop();
        admitted(&server);
    }
}

/// A connection that the server has a place for, at once or as soon as it has seen another's end.
fn admitted(server: &Server) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = server.client();
        // A refused connection may be reset before this is written.
        let _ = client.stream.write_all(b"PING\r\n");
        if client.line() == "+PONG" {
            return client;
        }
        assert!(Instant::now() < deadline, "no place became free");
    }
}

#[test]
fn idle_clients_are_closed_after_the_timeout_and_busy_ones_are_not() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &["--timeout", "1"]);
        let (mut idle, mut half, mut busy) = (server.client(), server.client(), server.client());
        half.send(b"*1\r\n$4\r\nPI");
        let begin = Instant::now();
        idle.stream.set_nonblocking(true).expect("a TCP socket");
        loop {
            busy.check("PING\r\n", "+PONG\r\n");
            match idle.stream.read(&mut [0]) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => panic!("an idle client is closed, and told nothing: {other:?}"),
            }
            assert!(begin.elapsed() < PATIENCE, "an idle client stays");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begin.elapsed() >= Duration::from_secs(1), "too early: {:?}", begin.elapsed());
        half.expect_close();
        busy.check("PING\r\n", "+PONG\r\n");
    }
}

#[test]
fn a_request_beyond_the_query_buffer_limit_closes_its_client() {
    for shards in [1, 4] {
        let server = Server::start_with(shards, &["--client-query-buffer-limit", "1mb"]);
        let used = server.info("used_memory");
        beside_a_bystander(&server, || {
            for tag in 0..4 {
                let key = format!("query:{tag}");
                let mut client = server.client();
                // The server may close while this is being written.
                let _ = client.stream.write_all(&request(&[b"SET".as_slice(), key.as_bytes(), &vec![b'q'; 8 << 20]]));
                client.expect_close();
                // Many requests, or one within the limit, are not concerned.
                let mut client = server.client();
                let (fits, small) = (vec![b'q'; 1_000_000], vec![b'q'; 30_000]);
                client.check(request(&[b"SET".as_slice(), key.as_bytes(), &fits]), "+OK\r\n");
                client.check(request(&[b"SET".as_slice(), key.as_bytes(), &small]).repeat(100), "+OK\r\n".repeat(100));
                client.check(request(&["DEL", &key]), ":1\r\n");
            }
        });
        returns_to(&server, used);
    }
}

#[test]
fn many_idle_connections_take_little_memory() {
    // With those of the server's end, below the usual limit of descriptors.
    let connections = 400;
    for shards in [1, 4] {
        let server = Server::start(shards);
        let used = server.info("used_memory");
        let mut clients: Vec<Client> = (0..connections).map(|_| server.client()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            let key = format!("idle:{}", index % 10);
            client.check([request(&["SET", &key, "v"]), request(&["GET", &key])].concat(), "+OK\r\n$1\r\nv\r\n");
        }
        let limit = used + connections * 1024 + 64 * 1024;
        eventually("buffers of idle connections are given back", || server.info("used_memory") <= limit);
        drop(clients);
        returns_to(&server, used);
    }
}

/// Runs `harm` while another client's commands have to be answered rightly and in time.
fn beside_a_bystander(server: &Server, harm: impl FnOnce()) {
    /// Ends the bystander also when the test has failed.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut client = server.client();
            let mut round = 0;
            while !over.load(Relaxed) || round == 0 {
                let (key, value) = (format!("bystander:{}", round % 16), round.to_string());
                let begin = Instant::now();
                let sent = [request(&["SET", &key, &value]), request(&["GET", &key])].concat();
                client.check(sent, format!("+OK\r\n${}\r\n{value}\r\n", value.len()));
                assert!(begin.elapsed() < REPLY_MAX, "a reply took {:?}", begin.elapsed());
                round += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let end = Over(&over);
        harm();
        drop(end);
        bystander.join().expect("the bystander was not hurt");
    });
}

/// Memory comes back to where it was, but for what tables and counters keep.
fn returns_to(server: &Server, used: i64) {
    let limit = used + 512 * 1024;
    eventually(&format!("used_memory is back at {used}"), || server.info("used_memory") <= limit);
}

/// Closes with a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
}
