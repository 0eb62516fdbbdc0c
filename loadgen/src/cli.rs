//! The command line: what was typed. What it means, checked and combined, is in `plan.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::keys::KeyPattern;
use crate::server::Server;
use crate::values::ValueSizes;

/// Puts load on servers that speak RESP, and measures throughput, latency and CPU time per operation
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  SET and GET of 64-byte values on 50 connections, at three pipeline depths, five seconds each:
    peristyle-loadgen run -t set,get -P 1,16,64 --duration 5

  Fill one million keys, each once, with values of 8 to 256 bytes:
    peristyle-loadgen populate --keys 1000000 --value-size 8-256

  A cache's day: nine reads to one write, few hot keys, mostly small values, TTLs of one to two minutes:
    peristyle-loadgen run --mix get=9,set=1 --key-pattern zipf:0.99 --value-size 64:90,1k:9,64k:1 --ttl 60-120

  Latency at 40,000 requests a second, whatever the server does (open loop):
    peristyle-loadgen run -t get --rate 40000 --duration 30 --html latency.html

  Commands of one's own; __key__, __data__, __int__ and __ttl__ are filled in:
    peristyle-loadgen run --command 'HSET user:__key__ name __data__' --weight 1 \\
                          --command 'HGETALL user:__key__' --weight 4

  Several commands as one request, with the word ; between them:
    peristyle-loadgen run --command 'MULTI ; SET __key__ __data__ ; SET __key__ __data__ ; EXEC'

  Two servers in turn, seven rounds, with the ratio of the second to the first:
    peristyle-loadgen compare -s redis=127.0.0.1:6379 -s peristyle=127.0.0.1:6380 --rounds 7 -t get,set -P 1,16

Latency of the closed loop counts from the moment a batch is handed to the socket; that of the open loop from the
moment a request was due, so that a stalled server cannot hide requests that were never sent.";

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Measure one server
    Run(RunArgs),
    /// Measure several servers in turn, round after round, and print their ratios to the first
    Compare(CompareArgs),
    /// Fill a server: SET every key of the key space exactly once
    Populate(PopulateArgs),
    /// List the tests that have a name
    Tests,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// The server: HOST:PORT or the path of a unix socket, optionally after NAME=
    #[arg(short, long, default_value = "127.0.0.1:6379")]
    pub server: Server,
    /// The server's process, for CPU per operation; a local server that INFO knows is found without it
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    #[command(flatten)]
    pub login: LoginArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub struct CompareArgs {
    /// A server, as [NAME=]HOST:PORT or a socket's path; give two or more, the first is what the others are compared to
    #[arg(short, long, required = true)]
    pub server: Vec<Server>,
    /// The servers' processes in the same order, where INFO does not tell
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// How many times each server is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub rounds: u64,
    #[command(flatten)]
    pub login: LoginArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub struct PopulateArgs {
    /// The server: HOST:PORT or the path of a unix socket
    #[arg(short, long, default_value = "127.0.0.1:6379")]
    pub server: Server,
    #[command(flatten)]
    pub login: LoginArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub values: ValueArgs,
    /// Connections
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub clients: u64,
    /// Threads over which the connections are spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,
    /// Requests in flight on a connection
    #[arg(short = 'P', long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub pipeline: u64,
    /// Seed of the value sizes and contents
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// CPUs for the threads, such as 1 or 0,2-4, used in turn
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub struct LoginArgs {
    /// User to log in as
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Password to log in with
    #[arg(short = 'a', long)]
    pub password: Option<String>,
    /// Database to select
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub database: u32,
    /// Speak RESP3 (HELLO 3)
    #[arg(short = '3', long)]
    pub resp3: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Connections in all
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub clients: u64,
    /// Threads over which the connections are spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,
    /// Requests in flight on a connection; with several depths, each is measured
    #[arg(short = 'P', long, value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub pipeline: Vec<u64>,
    /// Stop after so many requests
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Stop after so many seconds [default: 5, unless --requests is given]
    #[arg(short, long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Seconds of the same load before the measurement, not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub warmup: f64,
    /// Open loop: requests a second in all, sent on time whether replies come or not
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How the open loop's requests are spread over time
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Fixed)]
    pub arrivals: ArrivalsArg,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// CPUs for the threads, such as 1 or 0,2-4, used in turn
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ArrivalsArg {
    /// evenly
    Fixed,
    /// independently, as from many users
    Poisson,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Requests")]
pub struct WorkloadArgs {
    /// Tests by name, each measured by itself; `tests` lists them [default: set,get]
    #[arg(short, long, value_delimiter = ',', conflicts_with_all = ["mix", "command"])]
    pub tests: Vec<String>,
    /// Tests in one mix by weight, such as get=9,set=1
    #[arg(long, value_delimiter = ',', value_name = "TEST=WEIGHT", conflicts_with = "command")]
    pub mix: Vec<String>,
    /// A command in one mix, or several with ; between them, with __key__, __data__, __int__ and __ttl__ filled in; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub command: Vec<String>,
    /// Weights of the commands, in their order
    #[arg(long, requires = "command")]
    pub weight: Vec<u64>,
    /// Which key comes next: uniform, zipf[:EXPONENT], gaussian[:DEVIATION as a share of the space] or sequential
    #[arg(long, default_value = "uniform", value_name = "PATTERN")]
    pub key_pattern: KeyPattern,
    #[command(flatten)]
    pub keys: KeyArgs,
    #[command(flatten)]
    pub values: ValueArgs,
}

#[derive(Args, Debug)]
pub struct KeyArgs {
    /// Size of the key space
    #[arg(short = 'r', long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// What stands before the digits of a key
    #[arg(long, default_value = "key:")]
    pub key_prefix: String,
    /// Digits of a key, with leading zeros; with the prefix `key:` the default makes keys of 16 bytes
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub key_width: u8,
}

#[derive(Args, Debug)]
pub struct ValueArgs {
    /// Bytes of a value: 64, 8-256 (uniform, both ends included), or 64:9,1k:1 (sizes by weight)
    #[arg(long, default_value = "64", value_name = "SIZES")]
    pub value_size: ValueSizes,
    /// Seconds that written values live, or a range such as 60-120, for `set` and `__ttl__`
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Results")]
pub struct OutputArgs {
    /// Write everything as JSON (- for standard output, in place of the table)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line a measurement as CSV (- for standard output, in place of the table)
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write one HTML page with plots of latency and throughput
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No live progress
    #[arg(short, long)]
    pub quiet: bool,
}
