use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::*;

const CONN: ConnKey = ConnKey { index: 3, generation: 1 };

/// Far above what a turn takes, far below `NEVER`.
const SOON: Duration = Duration::from_secs(10);
const NEVER: Wait = Wait::AtMost(Duration::from_secs(30));

fn only_sent(events: Vec<Event>) -> (io::Result<usize>, Vec<u8>) {
    match <[Event; 1]>::try_from(events) {
        Ok([Event::Sent { conn: CONN, result, buffer }]) => (result, buffer),
        other => panic!("one send was to be reported, not {other:?}"),
    }
}

#[test]
fn a_send_that_the_socket_takes_whole_is_reported_when_the_turn_ends() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut ring = Ring::new().unwrap();
    ring.send(CONN, ours.as_raw_fd(), b"..hello".to_vec(), 2);
    let mut events = Vec::new();
    ring.turn(Wait::Never, &mut events).unwrap();
    let (result, buffer) = only_sent(events);
    assert_eq!((result.unwrap(), &buffer[..]), (5, &b"..hello"[..]));
    let mut received = [0; 5];
    io::Read::read_exact(&mut theirs, &mut received).unwrap();
    assert_eq!(&received, b"hello");
}

/// Large replies waited for the next tick, once for each socket buffer's worth.
#[test]
fn a_send_that_the_socket_takes_in_part_ends_the_wait() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut ring = Ring::new().unwrap();
    let mut take = |buffer| {
        ring.send(CONN, ours.as_raw_fd(), buffer, 0);
        let (started, mut events) = (Instant::now(), Vec::new());
        ring.turn(NEVER, &mut events).unwrap();
        assert!(started.elapsed() < SOON, "the turn slept on a send that wants to go on");
        only_sent(events)
    };
    let (result, buffer) = take(vec![7; 64 << 20]);
    let taken = result.unwrap();
    assert!(taken > 0 && taken < buffer.len());
    let (result, buffer) = take(buffer);
    assert_eq!((result.unwrap_err().raw_os_error(), buffer.len()), (Some(libc::EAGAIN), 64 << 20));
}

#[test]
fn more_sends_than_the_queue_holds_are_all_reported() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut ring = Ring::new().unwrap();
    let sends = SUBMISSION_ENTRIES * 2 + 7;
    for index in 0..sends {
        ring.send(ConnKey { index, generation: 0 }, ours.as_raw_fd(), vec![1], 0);
    }
    let mut events = Vec::new();
    ring.turn(Wait::Never, &mut events).unwrap();
    // A unix socket counts every small send as a large one: some find it full.
    let (taken, refused): (Vec<&Event>, Vec<&Event>) =
        events.iter().partition(|event| matches!(event, Event::Sent { result: Ok(1), .. }));
    let is_refusal = |event: &&Event| matches!(event, Event::Sent { result: Err(_), .. });
    assert!(!taken.is_empty() && refused.iter().all(is_refusal));
    assert_eq!(taken.len() + refused.len(), sends as usize);
}

#[test]
fn a_flood_is_received_whatever_the_first_buffers_hold() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut ring = Ring::new().unwrap();
    let sent: Vec<u8> = (0..3 * RECEIVE_BUFFER_BYTES * usize::from(RECEIVE_BUFFERS_FIRST)).map(|at| at as u8).collect();
    let sender = std::thread::spawn({
        let sent = sent.clone();
        move || io::Write::write_all(&mut theirs, &sent).unwrap()
    });
    let (mut received, mut kept, mut ended) = (Vec::new(), Vec::new(), 0);
    ring.receive(CONN, ours.as_raw_fd());
    while received.len() < sent.len() {
        let mut events = Vec::new();
        ring.turn(Wait::AtMost(SOON), &mut events).unwrap();
        for event in events {
            match event {
                Event::Received { buffer, more: true, .. } => {
                    received.extend_from_slice(ring.buffer(&buffer));
                    // Held back, so that the kernel runs out.
                    kept.push(buffer);
                }
                Event::ReceiveEnded { result: Ok(()), .. } => {}
                Event::ReceiveEnded { result: Err(error), .. } => {
                    ended += 1;
                    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                    ring.receive(CONN, ours.as_raw_fd());
                }
                other => panic!("{other:?}"),
            }
        }
        if kept.len() >= usize::from(RECEIVE_BUFFERS) - 1 {
            kept.drain(..).for_each(|buffer| ring.recycle(buffer));
        }
    }
    sender.join().unwrap();
    assert!(received == sent, "bytes were lost or changed places");
    assert!(ended > 0, "it never ran out");
}
