//! How the server ends: by signal or command, idle or busy, soon and with exit code 0; and where it must not start.

mod common;

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use common::{Client, Server, command, free_port, request};

/// Far more than it needs, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn signals_end_an_idle_server() {
    for shards in [1, 2, 4] {
        for signal in ["-TERM", "-INT"] {
            let mut server = Server::start(shards);
            let _idle_client = server.client();
            server.signal(signal);
            assert_ended_well(server.wait(SOON));
        }
    }
}

#[test]
fn signals_end_a_busy_server() {
    for shards in [1, 2, 4] {
        let mut server = Server::start(shards);
        let clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| keep_busy(client));
            }
            std::thread::sleep(Duration::from_millis(200));
            server.signal("-TERM");
            assert_ended_well(server.wait(SOON));
        });
    }
}

#[test]
fn the_command_ends_an_idle_server() {
    for shards in [1, 2, 4] {
        for words in [["SHUTDOWN"].as_slice(), &["SHUTDOWN", "NOSAVE"], &["SHUTDOWN", "NOW", "FORCE"]] {
            let mut server = Server::start_with(shards, &["--save", ""]);
            let mut client = server.client();
            client.send(request(words));
            client.expect_close();
            assert_ended_well(server.wait(SOON));
        }
    }
}

#[test]
fn the_command_ends_a_busy_server() {
    for shards in [1, 2, 4] {
        let mut server = Server::start_with(shards, &["--save", ""]);
        let clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        let mut last = server.client();
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| keep_busy(client));
            }
            std::thread::sleep(Duration::from_millis(200));
            last.send(request(&["SHUTDOWN", "NOSAVE"]));
            assert_ended_well(server.wait(SOON));
        });
    }
}

#[test]
fn signals_without_a_meaning_end_nothing() {
    let server = Server::start(1);
    server.signal("-HUP");
    server.signal("-USR1");
    server.signal("-PIPE");
    server.client().check("PING\r\n", "+PONG\r\n");
}

#[test]
fn a_second_server_on_the_port_fails() {
    for shards in [1, 4] {
        let server = Server::start(shards);
        let mut second = command(server.port, shards, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the server's binary");
        let mut said = String::new();
        let pipes = (second.stdout.take().expect("piped"), second.stderr.take().expect("piped"));
        // Read to the end: that is when the second server has ended.
        for mut pipe in [Box::new(pipes.0) as Box<dyn Read>, Box::new(pipes.1)] {
            pipe.read_to_string(&mut said).expect("a log is text");
        }
        let status = second.wait().expect("the second server ends");
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("Address already in use"), "{said}");
        server.client().check("PING\r\n", "+PONG\r\n");
    }
}

#[test]
fn the_port_is_free_at_once_after_the_end() {
    let port = free_port();
    for _ in 0..3 {
        let mut server = Server::run(port, command(port, 2, &[]));
        // A connection that the server closes leaves TIME_WAIT on its port.
        let mut client = server.client();
        client.check("PING\r\n", "+PONG\r\n");
        server.signal("-TERM");
        assert_ended_well(server.wait(SOON));
        client.read_to_close();
    }
}

fn assert_ended_well(status: ExitStatus) {
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

/// Writes and reads keys of all shards until the server is gone.
fn keep_busy(mut client: Client) {
    let sent: Vec<u8> = (0..100)
        .flat_map(|n| [request(&["SET", &format!("busy:{n}"), "v"]), request(&["GET", &format!("busy:{n}")])].concat())
        .collect();
    let mut replies = vec![0; ("+OK\r\n".len() + "$1\r\nv\r\n".len()) * 100];
    while client.stream.write_all(&sent).is_ok() && client.stream.read_exact(&mut replies).is_ok() {}
}
