//! A server as the user names it, connections to it, and what it says about itself.
//!
//! Connecting and the handshake block, on purpose: they happen before the clock starts. Only then does a socket
//! become non-blocking.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::resp;

/// A server that takes longer to accept or to shake hands is reported as not answering.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port as `ToSocketAddrs` takes them.
    Tcp(String),
    Unix(String),
}

/// `[NAME=]ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub address: Address,
}

#[derive(Clone, Debug, Default)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
    pub resp3: bool,
}

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `redis 7.0.15`.
    pub version: String,
    pub process_id: Option<u32>,
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Server, String> {
        let (name, address) = match text.split_once('=') {
            Some((name, address)) => (name, address),
            None => (text, text),
        };
        let parsed = if address.starts_with('/') || address.starts_with("./") {
            Address::Unix(address.to_string())
        } else {
            match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Address::Tcp(address.to_string())
                }
                _ => return Err(format!("'{address}' is neither HOST:PORT nor the path of a socket")),
            }
        };
        if name.is_empty() {
            return Err(format!("'{text}' has an empty name"));
        }
        Ok(Server { name: name.to_string(), address: parsed })
    }
}

impl Server {
    /// A connection that has logged in and is non-blocking.
    pub fn connect(&self, login: &Login) -> io::Result<Socket> {
        let mut socket = self.open()?;
        let commands = login.commands();
        if !commands.is_empty() {
            let mut request = Vec::new();
            for words in &commands {
                let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                resp::encode(&words, &mut request);
            }
            socket.write_all(&request)?;
            expect_replies(&mut socket, commands.len())?;
        }
        socket.set_nonblocking()?;
        Ok(socket)
    }

    /// Asks INFO what runs there and whether it is a process of this machine.
    pub fn identify(&self, login: &Login) -> io::Result<Identity> {
        let mut socket = self.open()?;
        let login = Login { resp3: false, ..login.clone() };
        let mut commands = login.commands();
        commands.push(vec!["INFO".into(), "server".into()]);
        for words in &commands {
            let mut request = Vec::new();
            resp::encode(&words.iter().map(|word| word.as_bytes()).collect::<Vec<&[u8]>>(), &mut request);
            socket.write_all(&request)?;
            if words[0] != "INFO" {
                expect_replies(&mut socket, 1)?;
            }
        }
        // A user who may not call INFO can still be measured.
        let info = match read_bulk(socket) {
            Err(refusal) if refusal.kind() == io::ErrorKind::Other => String::new(),
            info => info?,
        };
        Ok(parse_identity(&info, self.is_local()))
    }

    fn open(&self) -> io::Result<Socket> {
        match &self.address {
            Address::Tcp(address) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
                Ok(Socket::Unix(stream))
            }
        }
    }

    fn is_local(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Tcp(address) => address
                .to_socket_addrs()
                .is_ok_and(|mut addresses| addresses.all(|address| address.ip().to_canonical().is_loopback())),
        }
    }
}

impl Login {
    fn commands(&self) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        let user = self.user.clone().unwrap_or_else(|| "default".into());
        match (&self.password, self.resp3) {
            (Some(password), true) => {
                commands.push(vec!["HELLO".into(), "3".into(), "AUTH".into(), user, password.clone()]);
            }
            (None, true) => commands.push(vec!["HELLO".into(), "3".into()]),
            // The form with a user name is unknown to servers before ACLs; the short one means `default` everywhere.
            (Some(password), false) if self.user.is_none() => commands.push(vec!["AUTH".into(), password.clone()]),
            (Some(password), false) => commands.push(vec!["AUTH".into(), user, password.clone()]),
            (None, false) => {}
        }
        if self.database != 0 {
            commands.push(vec!["SELECT".into(), self.database.to_string()]);
        }
        commands
    }
}

impl Socket {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(true),
            Socket::Unix(stream) => stream.set_nonblocking(true),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

fn expect_replies(socket: &mut Socket, count: usize) -> io::Result<()> {
    let mut scanner = resp::Scanner::default();
    let mut pending = Vec::new();
    let mut replies = 0;
    let mut refusal = None;
    while replies < count {
        let mut chunk = [0u8; 4096];
        let length = socket.read(&mut chunk)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        pending.extend_from_slice(&chunk[..length]);
        let done = scanner.scan(&pending, |reply| {
            replies += 1;
            if let Some(text) = reply.error {
                refusal = Some(String::from_utf8_lossy(text).into_owned());
            }
        });
        pending.drain(..done.map_err(|error| io::Error::other(error.to_string()))?);
    }
    refusal.map_or(Ok(()), |text| Err(io::Error::other(text)))
}

fn read_bulk(socket: Socket) -> io::Result<String> {
    let mut reader = BufReader::new(socket);
    let mut header = String::new();
    reader.read_line(&mut header)?;
    let length = header.strip_prefix('$').and_then(|digits| digits.trim_end().parse::<u64>().ok());
    let length = length.ok_or_else(|| io::Error::other(header.trim_end().to_string()))?;
    let mut text = Vec::new();
    reader.take(length).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn parse_identity(info: &str, local: bool) -> Identity {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_string())
    };
    // Servers that stand in for Redis give its version for clients, and their own beside it.
    let own = ["peristyle", "valkey", "dragonfly", "redis"]
        .iter()
        .find_map(|name| field(&format!("{name}_version")).map(|version| format!("{name} {version}")));
    Identity {
        version: own.unwrap_or_else(|| "unknown".into()),
        process_id: if local { field("process_id").and_then(|pid| pid.parse().ok()) } else { None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let check = |text: &str, name: &str, address| {
            assert_eq!(text.parse::<Server>().unwrap(), Server { name: name.into(), address }, "{text}");
        };
        check("localhost:6379", "localhost:6379", Address::Tcp("localhost:6379".into()));
        check("redis=127.0.0.1:7000", "redis", Address::Tcp("127.0.0.1:7000".into()));
        check("[::1]:6379", "[::1]:6379", Address::Tcp("[::1]:6379".into()));
        check("a=/tmp/s.sock", "a", Address::Unix("/tmp/s.sock".into()));
        for text in ["", "localhost", "x=", "=127.0.0.1:1", ":6379", "h:99999"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_handshake_says_what_was_asked_for() {
        let check = |login: Login, expected: &[&str]| {
            let commands: Vec<String> = login.commands().iter().map(|words| words.join(" ")).collect();
            assert_eq!(commands, expected);
        };
        check(Login::default(), &[]);
        let password = Some("p".to_string());
        check(Login { password: password.clone(), ..Login::default() }, &["AUTH p"]);
        let user = Some("u".to_string());
        check(Login { password: password.clone(), user, database: 3, resp3: false }, &["AUTH u p", "SELECT 3"]);
        check(Login { password, resp3: true, ..Login::default() }, &["HELLO 3 AUTH default p"]);
        check(Login { resp3: true, ..Login::default() }, &["HELLO 3"]);
    }

    #[test]
    fn a_server_is_called_by_its_own_version_and_its_process_counts_only_here() {
        let info = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\nprocess_id:42\r\n";
        let identity = Identity { version: "valkey 8.0.1".into(), process_id: Some(42) };
        assert_eq!(parse_identity(info, true), identity);
        assert_eq!(parse_identity(info, false), Identity { process_id: None, ..identity });
    }
}
