//! The floor under our own cost: the server's ring and parser, and nothing else. Every command but PING and INFO is
//! answered with one static value of 64 bytes; `benches/compare` measures the server against it in the same run.
//!
//! ```text
//! cargo bench --bench limit -- PORT
//! ```

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use peristyle::base::ids::ConnKey;
use peristyle::net::listener::{listen_tcp, prepare_connection};
use peristyle::net::ring::{Event, Ring, Wait};
use peristyle::resp::parse::{Parsed, RequestLimits, parse};
use peristyle::sys::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const VALUE_BYTES: usize = 64;
const LIMITS: RequestLimits = RequestLimits { bulk_bytes_max: 1 << 20, authenticated: true };

struct Conn {
    socket: OwnedFd,
    output: Vec<u8>,
    /// Bytes of a command that has not arrived whole.
    rest: Vec<u8>,
}

fn main() {
    // `cargo bench` passes `--bench`; without a port, there is nothing to measure.
    let Some(port) = std::env::args().skip(1).find_map(|argument| argument.parse::<u16>().ok()) else { return };
    let listener = listen_tcp(SocketAddr::from(([127, 0, 0, 1], port)), 511, false).expect("listen");
    let mut ring = Ring::new().expect("io_uring");
    ring.accept(0, listener.as_raw_fd());
    let reply = [format!("${VALUE_BYTES}\r\n").as_bytes(), &[b'x'; VALUE_BYTES], b"\r\n"].concat();
    let info = format!("process_id:{}\r\n", std::process::id());
    let info = format!("${}\r\n{info}\r\n", info.len());
    let (mut conns, mut events, mut ready) = (Vec::<Option<Conn>>::new(), Vec::new(), Vec::new());
    loop {
        ring.turn(Wait::AtMost(Duration::from_secs(1)), &mut events).expect("io_uring_enter");
        for event in events.drain(..) {
            match event {
                Event::Accepted { result, .. } => {
                    let Ok(socket) = result else { continue };
                    prepare_connection(&socket, 0).expect("socket options");
                    let key = ConnKey { index: conns.len() as u32, generation: 0 };
                    ring.receive(key, socket.as_raw_fd());
                    conns.push(Some(Conn { socket, output: Vec::new(), rest: Vec::new() }));
                }
                Event::Received { conn: key, buffer, .. } => {
                    let conn = conns[key.index as usize].as_mut().expect("open");
                    let kept = std::mem::take(&mut conn.rest);
                    let joined;
                    let mut bytes = ring.buffer(&buffer);
                    if !kept.is_empty() {
                        joined = [&kept, bytes].concat();
                        bytes = &joined;
                    }
                    if conn.output.is_empty() {
                        ready.push(key);
                    }
                    let mut words = Vec::with_capacity(8);
                    while let Ok(Parsed::Command(taken)) = parse(bytes, LIMITS, &mut words) {
                        bytes = &bytes[taken..];
                        match words.first().map(|word| word.len()) {
                            Some(4) if words[0].eq_ignore_ascii_case(b"INFO") => {
                                conn.output.extend_from_slice(info.as_bytes());
                            }
                            Some(4) => conn.output.extend_from_slice(b"+PONG\r\n"),
                            _ => conn.output.extend_from_slice(&reply),
                        }
                        words.clear();
                        if bytes.is_empty() {
                            break;
                        }
                    }
                    conn.rest = bytes.to_vec();
                    ring.recycle(buffer);
                }
                Event::Sent { conn: key, buffer, result } => {
                    let Some(conn) = conns[key.index as usize].as_mut() else { continue };
                    assert_eq!(result.ok(), Some(buffer.len()), "the client of a benchmark reads its replies");
                    if conn.output.is_empty() {
                        conn.output = buffer;
                        conn.output.clear();
                    }
                }
                Event::ReceiveEnded { conn: key, result } if result.is_err() => {
                    let conn = conns[key.index as usize].as_ref().expect("open");
                    ring.receive(key, conn.socket.as_raw_fd());
                }
                Event::ReceiveEnded { conn: key, .. } => conns[key.index as usize] = None,
                _ => {}
            }
        }
        for key in ready.drain(..) {
            let Some(conn) = conns[key.index as usize].as_mut() else { continue };
            if !conn.output.is_empty() {
                ring.send(key, conn.socket.as_raw_fd(), std::mem::take(&mut conn.output), 0);
            }
        }
    }
}
