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

/// A save that takes a second a key.
fn slow_to_save(shards: usize, directory: &std::path::Path) -> Server {
    let dir = directory.to_str().expect("made of ASCII");
    let arguments =
        ["--save", "900 1", "--dir", dir, "--enable-debug-command", "yes", "--rdb-key-save-delay", "1000000"];
    let server = Server::start_with(shards, &arguments);
    (0..20).for_each(|key| server.client().check(format!("SET {key} v\r\n"), "+OK\r\n"));
    server
}

fn new_directory(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("peristyle-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).expect("a new directory");
    path
}

#[test]
fn who_insists_ends_the_save_and_leaves_no_file() {
    let directory = new_directory("insists");
    for shards in [1, 4] {
        let mut server = slow_to_save(shards, &directory);
        server.signal("-INT");
        let temp = directory.join(format!("temp-{}.rdb", server.id()));
        common::eventually("it saves", || temp.exists());
        server.signal("-INT");
        assert_eq!(server.wait(SOON).code(), Some(1));
        assert!(!temp.exists() && !directory.join("dump.rdb").exists());
    }
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn a_shutdown_that_has_not_begun_can_be_aborted() {
    let directory = new_directory("abort");
    for shards in [1, 4] {
        let server = slow_to_save(shards, &directory);
        let mut client = server.client();
        client.check("SHUTDOWN ABORT\r\n", "-ERR No shutdown in progress.\r\n");
        client.check("DEBUG PAUSE-CRON 1\r\n", "+OK\r\n");
        server.signal("-TERM");
        // The signal is taken by a thread of its own.
        std::thread::sleep(Duration::from_millis(300));
        client.check("SHUTDOWN ABORT\r\n", "+OK\r\n");
        client.check("DEBUG PAUSE-CRON 0\r\n", "+OK\r\n");
        std::thread::sleep(Duration::from_millis(300));
        client.check("PING\r\n", "+PONG\r\n");
    }
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn only_force_ends_a_server_whose_first_log_is_not_there_yet() {
    let directory = new_directory("first-log");
    for shards in [1, 4] {
        let mut server = slow_to_save(shards, &directory);
        let mut client = server.client();
        client.check("CONFIG SET save \"\"\r\n", "+OK\r\n");
        client.check("CONFIG SET appendonly yes\r\n", "+OK\r\n");
        client.check("SHUTDOWN\r\n", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
        server.signal("-TERM");
        std::thread::sleep(Duration::from_millis(500));
        client.check("PING\r\n", "+PONG\r\n");
        client.check("CONFIG SET shutdown-on-sigterm force\r\n", "+OK\r\n");
        server.signal("-TERM");
        assert_ended_well(server.wait(SOON));
    }
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn a_crash_and_what_threads_are_at_stand_in_the_log() {
    let directory = new_directory("crash");
    let log = directory.join("log");
    let arguments = ["--logfile", log.to_str().expect("made of ASCII"), "--enable-debug-command", "yes"];
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut server = Server::start_with(2, &arguments);
    server.signal("-ALRM");
    common::eventually("it is told", || said().contains("Received SIGALRM") && said().contains(" shard-1-"));
    server.client().send("DEBUG SEGFAULT\r\n");
    assert_eq!(server.wait(SOON).signal(), Some(11));
    assert!(said().contains("crashed by signal: 11"), "{}", said());
    let mut server = Server::start_with(2, &arguments);
    server.signal("-ABRT");
    assert_eq!(server.wait(SOON).signal(), Some(6));
    assert!(said().contains("crashed by signal: 06"), "{}", said());
    std::fs::remove_dir_all(directory).expect("it is there");
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
