//! Connections: how clients are known, asked for a password, listed, muted and closed, over TCP and a unix socket.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::{Client, Server, command, eventually, free_port, request, with_shards};
use redis::{Commands, Connection, cmd};

fn client_list(client: &mut Connection) -> Vec<String> {
    let list: String = cmd("CLIENT").arg("LIST").query(client).expect("CLIENT LIST");
    list.lines().map(str::to_owned).collect()
}

#[test]
fn clients_of_all_shards_are_listed_and_killed() {
    with_shards(|server| {
        let mut client = server.redis();
        let mut others: Vec<Connection> = (0..20)
            .map(|n| {
                let mut other = server.redis();
                let () = cmd("CLIENT").arg("SETNAME").arg(format!("other-{n}")).query(&mut other).unwrap();
                other
            })
            .collect();
        let named = |client: &mut Connection| -> usize {
            client_list(client).iter().filter(|line| line.contains(" name=other-")).count()
        };
        assert_eq!(named(&mut client), 20);
        let mut ids: Vec<u64> = others.iter_mut().map(|other| cmd("CLIENT").arg("ID").query(other).unwrap()).collect();
        let (killed, stay) = ids.split_at(10);
        for id in killed {
            assert_eq!(cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(&mut client), Ok(1));
        }
        for other in &mut others[..10] {
            assert!(cmd("PING").query::<String>(other).is_err(), "a killed client is closed");
        }
        eventually("killed clients are gone from the list", || named(&mut client) == 10);
        let listed: Vec<u64> = client_list(&mut client)
            .iter()
            .filter(|line| line.contains(" name=other-"))
            .map(|line| {
                line.split([' ', '=']).nth(1).and_then(|id| id.parse().ok()).expect("a line begins with the id")
            })
            .collect();
        assert!(stay.iter().all(|id| listed.contains(id)));
        ids.dedup();
        assert_eq!(ids.len(), 20, "ids are unique over shards");
    });
}

#[test]
fn a_client_can_kill_itself_and_read_the_reply() {
    with_shards(|server| {
        for _ in 0..8 {
            let mut client = server.client();
            client.send(request(&["CLIENT", "ID"]));
            let id = client.line()[1..].to_owned();
            client.check(request(&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"]), ":1\r\n");
            client.expect_close();
        }
    });
}

#[test]
fn a_muted_client_gets_only_what_it_asked_for() {
    with_shards(|server| {
        let mut client = server.client();
        let key = |n: usize| format!("muted:{n}");
        let mut sent = request(&["CLIENT", "REPLY", "OFF"]);
        for n in 0..100 {
            sent.extend(request(&["SET", &key(n), "v"]));
            sent.extend(request(&["GET", &key(n)]));
        }
        sent.extend(request(&["CLIENT", "REPLY", "ON"]));
        for n in 0..100 {
            sent.extend(request(&["CLIENT", "REPLY", "SKIP"]));
            sent.extend(request(&["GET", &key(n)]));
            sent.extend(request(&["STRLEN", &key(n)]));
        }
        client.check(sent, format!("+OK\r\n{}", ":1\r\n".repeat(100)));
    });
}

#[test]
fn databases_belong_to_connections() {
    with_shards(|server| {
        let (mut first, mut second) = (server.redis(), server.redis());
        let () = cmd("SELECT").arg(9).query(&mut second).unwrap();
        for n in 0..20 {
            let () = first.set(format!("db:{n}"), "zero").unwrap();
            assert_eq!(second.get::<_, Option<String>>(format!("db:{n}")), Ok(None));
            let () = second.set(format!("db:{n}"), "nine").unwrap();
            assert_eq!(first.get::<_, Option<String>>(format!("db:{n}")), Ok(Some("zero".to_owned())));
        }
        let outside = cmd("SELECT").arg(16).query::<()>(&mut second).unwrap_err();
        assert_eq!(outside.detail(), Some("DB index is out of range"));
        let () = cmd("RESET").query(&mut second).unwrap();
        assert_eq!(second.get::<_, Option<String>>("db:1"), Ok(Some("zero".to_owned())));
    });
}

#[test]
fn a_password_is_asked_for() {
    for shards in [1, 4] {
        let port = free_port();
        let server = Server::run_without_greeting(port, command(port, shards, &["--requirepass", "open sesame"]));
        let mut client = server.client();
        client.check("GET k\r\n", "-NOAUTH Authentication required.\r\n");
        client.check(request(&["AUTH", "wrong"]), "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        client.check("PING\r\n", "-NOAUTH Authentication required.\r\n");
        // In one pipeline, with commands on keys of all shards.
        client.send(request(&["AUTH", "open sesame"]));
        client.send((0..20).flat_map(|n| request(&["GET", &format!("k:{n}")])).collect::<Vec<u8>>());
        client.expect(format!("+OK\r\n{}", "$-1\r\n".repeat(20)));
        // Before it has said who it is, a client cannot make the server hold much.
        let mut stranger = server.client();
        stranger.check("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n");
        stranger.expect_close();
        let mut stranger = server.client();
        stranger.check("*2\r\n$3\r\nGET\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n");
        stranger.expect_close();
        let mut stranger = server.client();
        stranger.send(request(&["HELLO", "2", "AUTH", "default", "open sesame"]));
        assert_eq!(stranger.line(), "*14");
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    for shards in [1, 4] {
        let port = free_port();
        let path = std::env::temp_dir().join(format!("peristyle-test-{port}.sock"));
        let path_text = path.to_str().expect("a temporary path is text");
        let mut server =
            Server::run(port, command(port, shards, &["--unixsocket", path_text, "--unixsocketperm", "700"]));
        let mut streams: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&path).expect("connect")).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            let key = format!("unix:{index}");
            stream.write_all(&[request(&["SET", &key, "v"]), request(&["GET", &key])].concat()).expect("write");
            let mut reply = [0; "+OK\r\n$1\r\nv\r\n".len()];
            stream.read_exact(&mut reply).expect("read");
            assert_eq!(&reply, b"+OK\r\n$1\r\nv\r\n");
        }
        let listed = client_list(&mut server.redis());
        assert_eq!(listed.iter().filter(|line| line.contains(&format!("addr={path_text}:0"))).count(), 8, "{listed:?}");
        server.signal("-TERM");
        server.wait(common::PATIENCE);
        assert!(!path.exists(), "the socket's file goes with the server");
    }
}

#[test]
fn both_protocols_on_one_server() {
    with_shards(|server| {
        let (mut resp2, mut resp3) = (server.redis(), server.redis3());
        let () = resp3.set("k", "v").unwrap();
        assert_eq!(resp2.get::<_, String>("k").unwrap(), "v");
        for (client, version) in [(&mut resp2, "resp=2"), (&mut resp3, "resp=3")] {
            let info: String = cmd("CLIENT").arg("INFO").query(client).unwrap();
            assert!(info.contains(version), "{info}");
        }
        let maps: redis::Value = cmd("CONFIG").arg("GET").arg("maxclients").query(&mut resp3).unwrap();
        assert!(matches!(maps, redis::Value::Map(_)), "{maps:?}");
    });
}

#[test]
fn connections_are_spread_over_shards() {
    let server = Server::start(4);
    let _clients: Vec<_> = (0..40)
        .map(|_| {
            let mut client = server.client();
            client.check("PING\r\n", "+PONG\r\n");
            client
        })
        .collect();
    let text: String = cmd("INFO").arg("everything").query(&mut server.redis()).expect("INFO");
    let shards: Vec<&str> = text.lines().filter(|line| line.contains(",clients=")).collect();
    assert_eq!(shards.len(), 4, "{text}");
    for shard in shards {
        let field = shard.split([':', ',']).find_map(|field| field.strip_prefix("clients=")).expect("a count");
        let count: usize = field.parse().expect("a number");
        assert!((9..=13).contains(&count), "{shard}");
    }
}

#[test]
fn a_new_port_is_listened_on_at_once_and_the_old_one_is_not() {
    with_shards(|server| {
        let mut client = server.client();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken_port = taken.local_addr().expect("it has one").port();
        client.check(
            format!("CONFIG SET port {taken_port}\r\n"),
            "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server \
             logs.\r\n",
        );
        server.client().check("PING\r\n", "+PONG\r\n");
        let port = free_port();
        client.check(format!("CONFIG SET port {port}\r\n"), "+OK\r\n");
        let connect = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port));
        assert_eq!(connect(server.port).expect_err("it is closed").kind(), std::io::ErrorKind::ConnectionRefused);
        let mut others: Vec<Client> =
            (0..8).map(|_| Client { stream: connect(port).expect("it is listened on") }).collect();
        others.iter_mut().for_each(|other| other.check("PING\r\n", "+PONG\r\n"));
        client.check("CONFIG SET bind \"\"\r\n", "+OK\r\n");
        assert_eq!(connect(port).expect_err("it is closed").kind(), std::io::ErrorKind::ConnectionRefused);
        client.check("CONFIG SET bind 127.0.0.1\r\n", "+OK\r\n");
        Client { stream: connect(port).expect("it is listened on") }.check("PING\r\n", "+PONG\r\n");
        others.iter_mut().for_each(|other| other.check("PING\r\n", "+PONG\r\n"));
        client.check(
            "CONFIG SET bind 999.999.999.999\r\n",
            "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.\r\n",
        );
    });
}

#[test]
fn a_soft_limit_ends_a_client_to_which_nothing_more_is_written() {
    let limit = ["--client-output-buffer-limit", "pubsub 0 100000 1"];
    for shards in [1, 4] {
        let server = Server::start_with(shards, &limit);
        let (mut slow, mut client) = (server.client(), server.client());
        slow.check("SUBSCRIBE c\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
        let message = "x".repeat(1_000_000);
        // More than the sockets on the way hold.
        (0..12).for_each(|_| client.check(request(&["PUBLISH", "c", &message]), ":1\r\n"));
        eventually("it is gone", || server.info("client_output_buffer_limit_disconnections") == 1);
    }
}

#[test]
fn who_has_never_known_the_password_gets_little_output() {
    for shards in [1, 4] {
        let port = free_port();
        let server = Server::run_without_greeting(port, command(port, shards, &["--requirepass", "secret"]));
        let mut known = server.client();
        known.check("AUTH secret\r\nRESET\r\n", "+OK\r\n+RESET\r\n");
        let mut unknown = server.client();
        // Each is refused by 33 bytes; more than the sockets on the way hold is not needed, as one turn answers them all.
        let requests = "GET k\r\n".repeat(2000);
        let refusal = "-NOAUTH Authentication required.\r\n";
        known.check(&requests, refusal.repeat(2000));
        unknown.send(&requests);
        assert!(unknown.read_to_close().len() < refusal.len() * 2000);
    }
}
