//! One connection as a pure stepper: requests go into `output`, bytes of the server go into `on_bytes`.
//!
//! A connection remembers for the requests in flight which command each was and since when its latency counts, as
//! runs of equal ones, so that a batch of 64 GETs is one entry. A request of several commands is answered when the last
//! of them is. It knows neither sockets nor clocks.

use std::collections::VecDeque;

use crate::resp::{ProtocolError, Scanner};
use crate::stats::Stats;
use crate::template::{Mix, Source};

#[derive(Debug, Default)]
pub struct Connection {
    output: Vec<u8>,
    output_sent: usize,
    scanner: Scanner,
    /// The start of a reply line whose end has not arrived.
    tail: Vec<u8>,
    flight: VecDeque<Run>,
    in_flight: u64,
}

#[derive(Debug)]
struct Run {
    command: u16,
    since_ns: u64,
    count: u32,
    /// Replies of each, and those that are still to come of the first.
    replies: u32,
    awaited: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    Protocol(ProtocolError),
    /// A reply came that nobody asked for.
    Unrequested,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Protocol(error) => error.fmt(f),
            Violation::Unrequested => f.write_str("a reply came without a request"),
        }
    }
}

impl Connection {
    /// Appends one request whose latency counts from `since_ns`.
    pub fn request(&mut self, mix: &Mix, source: &mut Source, since_ns: u64) {
        let command = mix.render(source, &mut self.output);
        self.in_flight += 1;
        match self.flight.back_mut() {
            Some(run) if run.command == command && run.since_ns == since_ns => run.count += 1,
            _ => {
                let replies = mix.templates[usize::from(command)].replies;
                self.flight.push_back(Run { command, since_ns, count: 1, replies, awaited: replies });
            }
        }
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What has to be written to the server.
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    pub fn on_sent(&mut self, bytes: usize) {
        self.output_sent += bytes;
        assert!(self.output_sent <= self.output.len(), "more was sent than there was");
        if self.output_sent == self.output.len() {
            self.output.clear();
            self.output_sent = 0;
        }
    }

    /// Bytes arrived at `now_ns`: notes the replies that they complete.
    pub fn on_bytes(&mut self, now_ns: u64, bytes: &[u8], stats: &mut Stats) -> Result<(), Violation> {
        if self.tail.is_empty() {
            let done = self.scan(now_ns, bytes, stats)?;
            self.tail.extend_from_slice(&bytes[done..]);
        } else {
            let mut tail = std::mem::take(&mut self.tail);
            tail.extend_from_slice(bytes);
            let done = self.scan(now_ns, &tail, stats)?;
            tail.drain(..done);
            self.tail = tail;
        }
        Ok(())
    }

    fn scan(&mut self, now_ns: u64, bytes: &[u8], stats: &mut Stats) -> Result<usize, Violation> {
        let Connection { scanner, flight, .. } = self;
        let mut answered = 0u32;
        let mut total = 0u64;
        let mut unrequested = false;
        let done = scanner.scan(bytes, |reply| {
            let Some(run) = flight.front_mut() else {
                unrequested = true;
                return;
            };
            let command = &mut stats.commands[usize::from(run.command)];
            if command.lookup {
                command.found += u64::from(reply.found);
                command.missing += u64::from(reply.missing);
            }
            if let Some(text) = reply.error {
                stats.record_error(run.command, &String::from_utf8_lossy(text));
            }
            run.awaited -= 1;
            if run.awaited > 0 {
                return;
            }
            run.awaited = run.replies;
            answered += 1;
            total += 1;
            if answered == run.count {
                stats.record(run.command, now_ns, now_ns.saturating_sub(run.since_ns), answered);
                flight.pop_front();
                answered = 0;
            }
        });
        // Replies arrive together, so those of a run that is not complete share one moment as well.
        if let Some(run) = flight.front_mut()
            && answered > 0
        {
            stats.record(run.command, now_ns, now_ns.saturating_sub(run.since_ns), answered);
            run.count -= answered;
        }
        self.in_flight -= total;
        if unrequested { Err(Violation::Unrequested) } else { done.map_err(Violation::Protocol) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyPattern, KeySequence};
    use crate::rng::Rng;
    use crate::template::{KeyFormat, Template};
    use crate::values::{Payload, ValueSizes};

    struct Bench {
        connection: Connection,
        mix: Mix,
        source: Source,
        stats: Stats,
    }

    fn bench(commands: &[&str]) -> Bench {
        let keys = KeyFormat { prefix: "k".into(), width: 1 };
        let templates = commands.iter().map(|text| (Template::parse(text, &keys).unwrap(), 1));
        let mix = Mix::new(templates.collect()).unwrap();
        let stats = Stats::new(mix.templates.iter().map(|template| (template.label.clone(), template.lookup)));
        let source = Source {
            rng: Rng::new(1),
            keys: KeySequence::new(KeyPattern::Sequential, 10, 0, 1),
            int_limit: 10,
            values: ValueSizes::Fixed(3),
            payload: Payload::new(3, 1),
            ttl: (1, 1),
        };
        Bench { connection: Connection::default(), mix, source, stats }
    }

    impl Bench {
        fn request(&mut self, count: usize, since_ns: u64) {
            (0..count).for_each(|_| self.connection.request(&self.mix, &mut self.source, since_ns));
        }

        fn reply(&mut self, now_ns: u64, bytes: &[u8]) -> Result<(), Violation> {
            self.connection.on_bytes(now_ns, bytes, &mut self.stats)
        }
    }

    #[test]
    fn hits_misses_and_errors_are_told_apart() {
        let mut bench = bench(&["GET __key__"]);
        bench.request(4, 0);
        bench.reply(5, b"$1\r\na\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n").unwrap();
        let get = &bench.stats.commands[0];
        assert_eq!((get.replies, get.found, get.missing, get.errors), (4, 2, 1, 1));
        assert_eq!(bench.stats.errors_by_text["ERR no"], 1);
        assert_eq!(bench.connection.in_flight(), 0);
    }

    #[test]
    fn any_split_counts_each_reply_once() {
        let replies = b"$5\r\nhello\r\n+OK\r\n*2\r\n$-1\r\n:1\r\n-ERR x\r\n";
        for split in 0..=replies.len() {
            let mut bench = bench(&["PING"]);
            bench.request(4, 0);
            bench.reply(1, &replies[..split]).unwrap();
            bench.reply(2, &replies[split..]).unwrap();
            assert_eq!((bench.stats.replies(), bench.stats.errors()), (4, 1), "split at {split}");
            assert_eq!(bench.connection.in_flight(), 0);
        }
    }

    #[test]
    fn latency_counts_from_the_time_the_request_was_due() {
        let mut bench = bench(&["PING"]);
        // A server that stalls: four requests due 1 ms apart, all answered at 10 ms.
        (0..4).for_each(|step| bench.request(1, step * 1_000_000));
        bench.reply(10_000_000, b"+PONG\r\n+PONG\r\n+PONG\r\n+PONG\r\n").unwrap();
        let latency = bench.stats.latency_ns();
        assert_eq!(latency.len(), 4);
        for (quantile, expected_ms) in [(0.25, 7.0), (0.5, 8.0), (0.75, 9.0), (1.0, 10.0)] {
            let measured_ms = latency.value_at_quantile(quantile) as f64 / 1e6;
            assert!((measured_ms / expected_ms - 1.0).abs() < 0.001, "{quantile}: {measured_ms}");
        }
    }

    #[test]
    fn replies_are_matched_with_their_commands_in_order() {
        let mut bench = bench(&["GET __key__", "SET __key__ __data__"]);
        bench.request(1000, 0);
        let sent = String::from_utf8(bench.connection.output().to_vec()).unwrap();
        let gets = sent.matches("GET").count() as u64;
        let replies: String = sent
            .split("\r\n")
            .filter_map(|word| match word {
                "GET" => Some("$-1\r\n"),
                "SET" => Some("+OK\r\n"),
                _ => None,
            })
            .collect();
        bench.reply(1, replies.as_bytes()).unwrap();
        assert_eq!((bench.stats.commands[0].replies, bench.stats.commands[0].missing), (gets, gets));
        assert_eq!((bench.stats.commands[1].replies, bench.stats.commands[1].missing), (1000 - gets, 0));
    }

    #[test]
    fn a_request_of_several_commands_is_answered_when_all_of_them_are() {
        let mut bench = bench(&["MULTI ; SET __key__ __data__ ; EXEC"]);
        bench.request(2, 0);
        assert_eq!(bench.connection.output().iter().filter(|&&byte| byte == b'*').count(), 6);
        bench.reply(1, b"+OK\r\n+QUEUED\r\n").unwrap();
        assert_eq!((bench.stats.replies(), bench.connection.in_flight()), (0, 2));
        bench.reply(2, b"*1\r\n+OK\r\n+OK\r\n-ERR no\r\n").unwrap();
        assert_eq!((bench.stats.replies(), bench.stats.errors(), bench.connection.in_flight()), (1, 1, 1));
        bench.reply(3, b"-EXECABORT no\r\n").unwrap();
        assert_eq!((bench.stats.replies(), bench.stats.errors(), bench.connection.in_flight()), (2, 2, 0));
    }

    #[test]
    fn a_partial_write_leaves_the_rest() {
        let mut bench = bench(&["PING"]);
        bench.request(1, 0);
        bench.connection.on_sent(4);
        assert_eq!(bench.connection.output(), b"$4\r\nPING\r\n");
        bench.connection.on_sent(10);
        assert!(bench.connection.output().is_empty());
    }

    #[test]
    fn a_reply_without_a_request_is_a_violation() {
        let mut bench = bench(&["PING"]);
        bench.request(1, 0);
        assert_eq!(bench.reply(1, b"+PONG\r\n+PONG\r\n"), Err(Violation::Unrequested));
        assert!(matches!(bench.reply(1, b"what"), Err(Violation::Protocol(_))));
    }
}
