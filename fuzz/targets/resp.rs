//! Both readers of requests agree on any bytes, however these are cut into pieces.
//!
//! Input: a byte each for the lengths of two alternating pieces, then the stream. The first byte's highest bit says
//! whether the connection is still to authenticate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::base::limits::INLINE_BYTES_MAX;
use peristyle::resp::parse::{Parsed, Partial, ProtocolError, RequestLimits, parse};

/// The commands that were read, and what ended the connection.
#[derive(Debug, PartialEq)]
struct Conversation {
    commands: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
}

fuzz_target!(|input: &[u8]| {
    let [first, second, stream @ ..] = input else { return };
    // Beyond this, whether a line is too long depends on where it was cut, as in Redis.
    if stream.len() > INLINE_BYTES_MAX {
        return;
    }
    let limits = RequestLimits { bulk_bytes_max: 1 << 20, authenticated: first & 0x80 == 0 };
    let whole = read(&[stream], limits, true);
    assert_eq!(read(&[stream], limits, false), whole, "without the reader of slices");
    let pieces = cut(stream, usize::from(first & 0x7f) + 1, usize::from(*second) + 1);
    assert_eq!(read(&pieces, limits, true), whole, "both readers, in pieces");
    assert_eq!(read(&pieces, limits, false), whole, "the resuming reader, in pieces");
});

fn cut(mut stream: &[u8], odd: usize, even: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for length in [odd, even].into_iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (piece, rest) = stream.split_at(length.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// Reads as a session does: whole commands from the slice, what is incomplete by a `Partial`.
fn read(pieces: &[&[u8]], limits: RequestLimits, slices: bool) -> Conversation {
    let mut commands = Vec::new();
    let mut partial: Option<Partial> = None;
    for piece in pieces {
        if let Err(error) = read_piece(piece, limits, slices, &mut partial, &mut commands) {
            return Conversation { commands, error: Some(error) };
        }
    }
    Conversation { commands, error: None }
}

fn read_piece(
    mut rest: &[u8],
    limits: RequestLimits,
    slices: bool,
    partial: &mut Option<Partial>,
    commands: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), ProtocolError> {
    while !rest.is_empty() {
        let mut args = Vec::new();
        let parsed = if slices && partial.is_none() { parse(rest, limits, &mut args)? } else { Parsed::Incomplete };
        let consumed = if let Parsed::Command(consumed) = parsed {
            commands.push(args.iter().map(|arg| arg.to_vec()).collect());
            consumed
        } else {
            assert!(args.is_empty(), "nothing is appended but whole commands");
            let reader = partial.get_or_insert_default();
            let (consumed, complete) = reader.feed(rest, limits)?;
            assert_eq!(complete, reader.is_complete());
            assert!(complete || consumed == rest.len(), "an incomplete command takes all there is");
            if complete {
                commands.push(reader.args().map(<[u8]>::to_vec).collect());
                *partial = None;
            }
            consumed
        };
        assert!(consumed > 0, "a command has bytes");
        rest = &rest[consumed..];
    }
    Ok(())
}
