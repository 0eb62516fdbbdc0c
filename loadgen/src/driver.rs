//! The loop of one worker thread: epoll over its connections, one read per readiness, one write per batch.
//!
//! Closed loop: a connection sends a batch of `pipeline` requests and the next when the last reply is in. Open loop:
//! the timetable says when requests are due; they go to the connections in turn, each of which has at most `pipeline`
//! in flight, and those that must wait keep the time they were due at.
//!
//! Why not io_uring: the same closed loop, cut down to bare reads and writes of 50 connections, cost 2.9 µs of client
//! CPU a GET with either at depth 1, and at depths 16 and 64 epoll was 5 % cheaper (174 and 49 ns against 183 and 52).
//! Nearly all of it is the kernel's TCP, which both must run; epoll does without unsafe code.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::thread::set_current_timer_slack;

use crate::client::Connection;
use crate::cpu;
use crate::schedule::Schedule;
use crate::server::Socket;
use crate::stats::Stats;
use crate::template::{Mix, Source};

const READ_BYTES: usize = 64 << 10;
const EVENTS_MAX: usize = 512;
/// Requests that are due and wait for a free place, over all connections of a worker. Beyond it they stay in the
/// timetable, which remembers them just as well.
const OWED_MAX: usize = 1 << 20;
/// The default lateness of a timer, 50 µs, would be part of every latency of the open loop.
const TIMER_SLACK_NS: u64 = 1;
/// How long a worker waits for the last replies after the end of its time.
const DRAIN_NS: u64 = 3_000_000_000;

/// What one worker does.
pub struct Work {
    pub mix: Mix,
    pub source: Source,
    pub pipeline: u64,
    /// `None`: closed loop.
    pub schedule: Option<Schedule>,
    /// `u64::MAX`: no bound.
    pub requests: u64,
    /// `u64::MAX`: no bound.
    pub duration_ns: u64,
    pub cpu: Option<usize>,
}

pub struct Done {
    pub stats: Stats,
    pub cpu_ns: u64,
}

struct Worker<'a> {
    epoll: OwnedFd,
    links: Vec<Link>,
    /// Connections that are still there.
    alive: usize,
    mix: &'a Mix,
    source: Source,
    stats: Stats,
    buffer: Vec<u8>,
    pipeline: u64,
    schedule: Option<Schedule>,
    /// The connection whose turn it is in the open loop.
    turn: usize,
    owed: usize,
    remaining: u64,
    duration_ns: u64,
    in_flight: u64,
    start: Instant,
}

struct Link {
    /// `None` once the connection is lost.
    socket: Option<Socket>,
    connection: Connection,
    /// When the requests that wait for a place were due.
    owed: VecDeque<u64>,
    waits_to_write: bool,
}

/// Runs `work` over `sockets` once all workers have come to `ready`; `replies` is told how far it is.
pub fn work(work: Work, sockets: Vec<Socket>, ready: &Barrier, replies: &AtomicU64) -> io::Result<Done> {
    let prepared = prepare(&work, sockets);
    // A worker that fails before the start must not leave the others waiting for it.
    ready.wait();
    let (epoll, links) = prepared?;
    let mut worker = Worker {
        epoll,
        alive: links.len(),
        links,
        mix: &work.mix,
        source: work.source,
        stats: Stats::new(work.mix.templates.iter().map(|template| (template.label.clone(), template.lookup))),
        buffer: vec![0; READ_BYTES],
        pipeline: work.pipeline,
        schedule: work.schedule,
        turn: 0,
        owed: 0,
        remaining: work.requests,
        duration_ns: work.duration_ns,
        in_flight: 0,
        start: Instant::now(),
    };
    let cpu_before_ns = cpu::of_this_thread_ns();
    worker.run(replies)?;
    let cpu_ns = cpu::of_this_thread_ns() - cpu_before_ns;
    worker.count_what_is_left();
    Ok(Done { stats: worker.stats, cpu_ns })
}

fn prepare(work: &Work, sockets: Vec<Socket>) -> io::Result<(OwnedFd, Vec<Link>)> {
    if let Some(cpu) = work.cpu {
        cpu::pin_this_thread(cpu)?;
    }
    set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut links = Vec::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        epoll::add(&epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        let connection = Connection::default();
        links.push(Link { socket: Some(socket), connection, owed: VecDeque::new(), waits_to_write: false });
    }
    Ok((epoll, links))
}

impl Worker<'_> {
    fn run(&mut self, replies: &AtomicU64) -> io::Result<()> {
        if self.schedule.is_none() {
            for index in 0..self.links.len() {
                self.send(index, 0)?;
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now_ns = self.now_ns();
            if self.schedule.is_some() {
                self.send_due(now_ns)?;
            }
            replies.store(self.stats.replies(), Ordering::Relaxed);
            if self.alive == 0 || (self.in_flight == 0 && self.is_over(now_ns)) {
                return Ok(());
            }
            if now_ns >= self.duration_ns.saturating_add(DRAIN_NS) {
                return Ok(());
            }
            events.clear();
            let timeout = self.wake_ns(now_ns).map(|wake_ns| {
                let wait_ns = wake_ns.saturating_sub(now_ns);
                Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 }
            });
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.on_ready(event.data.u64() as usize, event.flags)?;
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Nothing more will be sent. What was due before the end is sent even after it, as its lateness is a result.
    fn is_over(&self, now_ns: u64) -> bool {
        match &self.schedule {
            None => self.remaining == 0 || now_ns >= self.duration_ns,
            Some(schedule) => self.owed == 0 && (self.remaining == 0 || schedule.due_ns() >= self.duration_ns),
        }
    }

    /// The next moment at which there is something to do without a reply.
    fn wake_ns(&self, now_ns: u64) -> Option<u64> {
        let end_ns = self.duration_ns.checked_add(if now_ns < self.duration_ns { 0 } else { DRAIN_NS });
        match &self.schedule {
            Some(schedule) if self.remaining > 0 && self.owed < OWED_MAX && schedule.due_ns() < self.duration_ns => {
                Some(schedule.due_ns())
            }
            _ => end_ns,
        }
    }

    fn on_ready(&mut self, index: usize, flags: EventFlags) -> io::Result<()> {
        let link = &mut self.links[index];
        let Some(socket) = &mut link.socket else { return Ok(()) };
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match socket.read(&mut self.buffer) {
                Ok(0) => return self.lose(index, "the server closed the connection"),
                Ok(length) => {
                    let now_ns = self.start.elapsed().as_nanos() as u64;
                    let before = link.connection.in_flight();
                    let outcome = link.connection.on_bytes(now_ns, &self.buffer[..length], &mut self.stats);
                    self.in_flight -= before - link.connection.in_flight();
                    self.stats.bytes_received += length as u64;
                    if let Err(violation) = outcome {
                        return self.lose(index, &violation.to_string());
                    }
                    return self.send(index, now_ns);
                }
                Err(error) if is_retry(&error) => {}
                Err(error) => return self.lose(index, &error.to_string()),
            }
        }
        if flags.contains(EventFlags::OUT) {
            self.write(index)?;
        }
        Ok(())
    }

    /// Sends what this connection may send at `now_ns`.
    fn send(&mut self, index: usize, now_ns: u64) -> io::Result<()> {
        let Link { connection, owed, .. } = &mut self.links[index];
        if self.schedule.is_some() {
            while connection.in_flight() < self.pipeline
                && let Some(due_ns) = owed.pop_front()
            {
                connection.request(self.mix, &mut self.source, due_ns);
                self.owed -= 1;
                self.in_flight += 1;
            }
        } else if connection.in_flight() == 0 && now_ns < self.duration_ns {
            let count = self.pipeline.min(self.remaining);
            for _ in 0..count {
                connection.request(self.mix, &mut self.source, now_ns);
            }
            self.remaining -= count;
            self.in_flight += count;
        }
        if connection.output().is_empty() { Ok(()) } else { self.write(index) }
    }

    /// Hands the requests that have become due to the connections, in turn.
    fn send_due(&mut self, now_ns: u64) -> io::Result<()> {
        let Some(schedule) = &mut self.schedule else { return Ok(()) };
        let first = self.turn;
        let mut handed = 0;
        while schedule.due_ns() <= now_ns.min(self.duration_ns - 1)
            && self.remaining > 0
            && self.owed < OWED_MAX
            && self.alive > 0
        {
            while self.links[self.turn].socket.is_none() {
                self.turn = (self.turn + 1) % self.links.len();
            }
            self.links[self.turn].owed.push_back(schedule.due_ns());
            self.turn = (self.turn + 1) % self.links.len();
            self.owed += 1;
            self.remaining -= 1;
            handed += 1;
            schedule.advance();
        }
        if handed == 0 {
            return Ok(());
        }
        // Every connection that was handed something lies between the first turn and the last.
        let count = self.links.len();
        let turns = if handed >= self.alive { count } else { (self.turn + count - first - 1) % count + 1 };
        for step in 0..turns {
            self.send((first + step) % count, now_ns)?;
        }
        Ok(())
    }

    fn write(&mut self, index: usize) -> io::Result<()> {
        let link = &mut self.links[index];
        let Some(socket) = &mut link.socket else { return Ok(()) };
        let mut failure = None;
        while !link.connection.output().is_empty() {
            match socket.write(link.connection.output()) {
                Ok(length) => {
                    link.connection.on_sent(length);
                    self.stats.bytes_sent += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        if let Some(text) = failure {
            return self.lose(index, &text);
        }
        // The interest in writing is changed only where the socket was full: never on the usual path.
        let waits = !link.connection.output().is_empty();
        if waits != link.waits_to_write {
            link.waits_to_write = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &*socket, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    /// Dropping the socket closes it and thereby takes it out of the epoll set.
    #[cold]
    fn lose(&mut self, index: usize, reason: &str) -> io::Result<()> {
        let link = &mut self.links[index];
        link.socket = None;
        self.alive -= 1;
        self.in_flight -= link.connection.in_flight();
        self.owed -= link.owed.len();
        self.stats.unsent += link.owed.len() as u64;
        link.owed.clear();
        self.stats.connections_lost += 1;
        self.stats.count_error_text(&format!("(connection) {reason}"));
        Ok(())
    }

    fn count_what_is_left(&mut self) {
        self.stats.unanswered = self.links.iter().map(|link| link.connection.in_flight()).sum();
        self.stats.unsent += self.owed as u64;
        if let Some(schedule) = &mut self.schedule
            && self.duration_ns != u64::MAX
        {
            while schedule.due_ns() < self.duration_ns && self.remaining > 0 {
                self.stats.unsent += 1;
                self.remaining -= 1;
                schedule.advance();
            }
        }
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
