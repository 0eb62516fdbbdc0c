//! One measurement: threads, their shares of the load, the clock of the server's CPU, and the live progress.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::cpu::CpuTime;
use crate::driver::{self, Done, Work};
use crate::keys::{KeySequence, share_start};
use crate::plan::{Case, Load};
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::server::{Login, Server};
use crate::stats::Stats;
use crate::template::Source;
use crate::values::Payload;

/// For the standard streams, epoll, and the files of results.
const DESCRIPTORS_SPARE: u64 = 64;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A server with all that measuring it needs.
#[derive(Clone, Debug)]
pub struct Subject {
    pub server: Server,
    pub login: Login,
    /// Known if the server is a process of this machine.
    pub pid: Option<u32>,
    pub version: String,
}

pub struct Measured {
    pub stats: Stats,
    pub client_cpu_ns: u64,
    pub server_cpu_ns: Option<u64>,
}

impl Subject {
    pub fn find(server: &Server, login: &Login, pid: Option<u32>) -> Result<Subject, String> {
        let identity = server.identify(login).map_err(|error| format!("ask {} for INFO: {error}", server.name))?;
        let is_here = |pid: &u32| CpuTime::of_process(*pid).is_some();
        if let Some(pid) = pid.filter(|pid| !is_here(pid)) {
            return Err(format!("there is no process {pid} here"));
        }
        let pid = pid.or(identity.process_id.filter(is_here));
        Ok(Subject { server: server.clone(), login: login.clone(), pid, version: identity.version })
    }

    /// Warms up as asked for, then measures; `title` heads the live progress, if there is to be any.
    pub fn measure(
        &self,
        case: &Case,
        load: &Load,
        payload: &Payload,
        title: Option<String>,
    ) -> Result<Measured, String> {
        if load.warmup_ns > 0 {
            let warmup = Load { requests: None, duration_ns: Some(load.warmup_ns), ..load.clone() };
            self.measure_once(case, &warmup, payload, None)?;
        }
        self.measure_once(case, load, payload, title)
    }

    fn measure_once(
        &self,
        case: &Case,
        load: &Load,
        payload: &Payload,
        title: Option<String>,
    ) -> Result<Measured, String> {
        allow_descriptors(load.clients);
        let mut sockets = Vec::new();
        for _ in 0..load.clients {
            let socket = self.server.connect(&self.login);
            sockets.push(socket.map_err(|error| format!("connect to {}: {error}", self.server.name))?);
        }
        let mut shares = Vec::new();
        for thread in (0..load.threads).rev() {
            let share = sockets.split_off(share_start(load.clients, thread, load.threads) as usize);
            shares.push((share_of(case, load, payload, thread), share));
        }
        let ready = Barrier::new(shares.len() + 1);
        let replies: Vec<AtomicU64> = shares.iter().map(|_| AtomicU64::new(0)).collect();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ready = &ready;
            let workers: Vec<_> = shares
                .into_iter()
                .zip(&replies)
                .map(|((work, sockets), replies)| scope.spawn(move || driver::work(work, sockets, ready, replies)))
                .collect();
            let cpu_before = self.pid.and_then(CpuTime::of_process);
            ready.wait();
            let (replies, over) = (&replies, &over);
            let progress = title.map(|title| scope.spawn(move || show_progress(title, load, replies, over)));
            let done: Vec<io::Result<Done>> =
                workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect();
            let cpu_after = self.pid.and_then(CpuTime::of_process);
            over.store(true, Ordering::Relaxed);
            if let Some(progress) = progress {
                progress.thread().unpark();
            }
            let mut all: Option<Measured> = None;
            for done in done {
                let Done { stats, cpu_ns } = done.map_err(|error| format!("drive connections: {error}"))?;
                match &mut all {
                    None => all = Some(Measured { stats, client_cpu_ns: cpu_ns, server_cpu_ns: None }),
                    Some(all) => {
                        all.stats.merge(stats);
                        all.client_cpu_ns += cpu_ns;
                    }
                }
            }
            let mut all = all.expect("there is at least one thread");
            all.server_cpu_ns = cpu_before.zip(cpu_after).map(|(before, after)| after.since_ns(before));
            if all.stats.replies() == 0 {
                let reasons: Vec<&str> = all.stats.errors_by_text.keys().map(String::as_str).collect();
                return Err(format!("{} answered nothing: {}", self.server.name, reasons.join("; ")));
            }
            Ok(all)
        })
    }
}

/// The usual limit of 1024 descriptors is one that a process may lift by itself. Where it may not lift it far enough,
/// connecting says so.
fn allow_descriptors(clients: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < clients + DESCRIPTORS_SPARE) {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn show_progress(title: String, load: &Load, replies: &[AtomicU64], over: &AtomicBool) {
    let length = match (load.duration_ns, load.requests) {
        (Some(duration_ns), _) => duration_ns / 1_000_000,
        (None, Some(requests)) => requests,
        (None, None) => unreachable!("a load is bounded by one of the two"),
    };
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3} % {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar.set_prefix(title);
    let start = Instant::now();
    let (mut total_before, mut at_before) = (0u64, start);
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(PROGRESS_INTERVAL);
        let now = Instant::now();
        let total: u64 = replies.iter().map(|replies| replies.load(Ordering::Relaxed)).sum();
        let per_second = (total - total_before) as f64 / now.duration_since(at_before).as_secs_f64().max(1e-3);
        bar.set_message(format!("{per_second:.0} /s, {total} replies"));
        bar.set_position(if load.duration_ns.is_some() { start.elapsed().as_millis() as u64 } else { total });
        (total_before, at_before) = (total, now);
    }
    bar.finish_and_clear();
}

/// What thread `thread` contributes to the load.
fn share_of(case: &Case, load: &Load, payload: &Payload, thread: u64) -> Work {
    // Cut as the key space is: as many sequential requests as keys are then every key once.
    let share = |total: u64| share_start(total, thread + 1, load.threads) - share_start(total, thread, load.threads);
    let requests = load.requests.map_or(u64::MAX, share);
    let mut rng = Rng::new(load.seed.wrapping_mul(0x9e37_79b9).wrapping_add(thread));
    let schedule = load.rate.map(|(rate, arrivals)| {
        let phase = thread as f64 / load.threads as f64;
        Schedule::new(rate / load.threads as f64, arrivals, phase, Rng::new(rng.next()))
    });
    Work {
        mix: case.mix.clone(),
        source: Source {
            rng,
            keys: KeySequence::new(load.key_pattern, load.keys, thread, load.threads),
            int_limit: load.keys,
            values: load.value_sizes.clone(),
            payload: payload.clone(),
            ttl: load.ttl,
        },
        pipeline: case.pipeline,
        schedule,
        requests,
        duration_ns: load.duration_ns.unwrap_or(u64::MAX),
        cpu: (!load.cpus.is_empty()).then(|| load.cpus[thread as usize % load.cpus.len()]),
    }
}
