//! A server of one's own for a test, and a raw client to talk to it byte by byte.
//!
//! Every test starts the real binary on a port that nobody else uses and ends it by its process id, also when it
//! fails. What several shards could change is run with one, two and four of them ([`with_shards`]).

// Each test binary is compiled with this file, and none uses all of it.
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// A test that waits this long for one event has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Below the range from which the kernel takes the ports of outgoing connections.
const FIRST_PORT: u16 = 28000;
const PORTS: u16 = 1000;

pub struct Server {
    process: Child,
    pub port: u16,
}

/// Runs a test on one shard, on two, and on four.
pub fn with_shards(test: impl Fn(&Server)) {
    for shards in [1, 2, 4] {
        eprintln!("with {shards} shards");
        test(&Server::start(shards));
    }
}

/// A port that no one listens on. Tests of one binary never share one; those of others begin elsewhere.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() as u16).wrapping_mul(37);
    loop {
        let port = FIRST_PORT + own.wrapping_add(NEXT.fetch_add(1, Relaxed)) % PORTS;
        if is_free(port) {
            return port;
        }
    }
}

/// Asks without listening: a process that another test forks just then holds a copy of the socket until it execs, and
/// would take, and reset, connections that are meant for the server to come.
fn is_free(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket");
    socket.set_reuse_address(true).expect("a TCP socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_ok()
}

/// The server's command, on a port of its own, not yet started. Its log goes nowhere, and it saves nothing by itself.
pub fn command(port: u16, shards: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
    command.args(["--port", &port.to_string(), "--shards", &shards.to_string()]);
    if !arguments.contains(&"--save") {
        command.args(["--save", ""]);
    }
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Server {
    pub fn start(shards: usize) -> Server {
        Server::start_with(shards, &[])
    }

    /// With further arguments, as on the command line.
    pub fn start_with(shards: usize, arguments: &[&str]) -> Server {
        let port = free_port();
        Server::run(port, command(port, shards, arguments))
    }

    /// Starts a prepared command, and waits until it answers.
    pub fn run(port: u16, command: Command) -> Server {
        let server = Server::run_without_greeting(port, command);
        server.client().check("PING\r\n", "+PONG\r\n");
        server
    }

    /// The same for one that answers only to those who know its password.
    pub fn run_without_greeting(port: u16, mut command: Command) -> Server {
        let process = command.spawn().expect("start the server's binary");
        let mut server = Server { process, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.process.try_wait().expect("ask for the state of a child") {
                panic!("the server ended at its start: {status}");
            }
            assert!(Instant::now() < deadline, "the server does not listen on {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A raw connection.
    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect to the server");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Client { stream }
    }

    /// A connection of the public client library, with RESP2.
    pub fn redis(&self) -> redis::Connection {
        self.redis_with("")
    }

    /// The same with RESP3.
    pub fn redis3(&self) -> redis::Connection {
        self.redis_with("?protocol=resp3")
    }

    fn redis_with(&self, parameters: &str) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/{parameters}", self.port)).expect("a valid URL");
        client.get_connection_with_timeout(PATIENCE).expect("connect to the server")
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.id().to_string()]).status().expect("run kill");
        assert!(sent.success(), "the server was there to be signalled");
    }

    /// Waits for the end of the process; panics if it does not come.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.try_wait().expect("ask for the state of a child") {
                return status;
            }
            if Instant::now() >= deadline {
                // Clients that are busy with it must end too, for the failure to be seen.
                let _ = self.process.kill();
                panic!("the server did not end in {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in bytes, of the process.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel reports VmRSS");
        line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") * 1024
    }

    /// One of INFO's figures.
    pub fn info(&self, field: &str) -> i64 {
        let text: String = redis::cmd("INFO").arg("everything").query(&mut self.redis()).expect("INFO");
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("INFO has no number {field}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a command, its words parted by blanks, is answered: a text, or the error.
pub fn call(redis: &mut redis::Connection, line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a name"));
    for word in words {
        command.arg(word);
    }
    let reply: Result<redis::Value, _> = command.query(redis);
    match reply {
        Ok(redis::Value::Nil) => Ok("nil".to_owned()),
        Ok(redis::Value::Okay) => Ok("OK".to_owned()),
        Ok(value) => Ok(redis::from_redis_value::<String>(value).expect("a text")),
        Err(error) => Err(format!("{} {}", error.code().unwrap_or(""), error.detail().unwrap_or(""))),
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A request as clients send it.
pub fn request<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.as_ref().len()).into_bytes());
        bytes.extend_from_slice(word.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A connection whose every byte the test decides.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Reads as many bytes as are expected, and compares.
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            let read = match self.stream.read(&mut got[filled..]) {
                Ok(0) => panic!("closed after {:?}", shown(&got[..filled])),
                Ok(read) => read,
                Err(error) => panic!("{error} after {:?}", shown(&got[..filled])),
            };
            // At the first difference, not after a wait for bytes that never come.
            let new = filled..filled + read;
            filled = new.end;
            let (got, expected) = (&got[new.clone()], &expected[new]);
            assert!(got == expected, "expected {:?}, got {:?}", shown(expected), shown(got));
        }
    }

    pub fn check(&mut self, sent: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
        self.send(sent);
        self.expect(expected);
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).expect("the server replies");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// The client has finished sending.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("an open socket");
    }

    /// The server closes the connection, with nothing more to say.
    pub fn expect_close(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "still to come: {:?}", shown(&rest)),
            // What the server had not read when it closed makes the kernel reset the connection.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// The server closes the connection; what it says before is not of interest.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {:?}", shown(&rest)),
        }
        rest
    }
}

/// Enough of it for a failure's report.
fn shown(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(400)].escape_ascii();
    if bytes.len() > 400 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown.to_string() }
}
