//! peristyle-loadgen: see `cli.rs` for what it does, `run.rs` for how a measurement goes.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod compare;
mod cpu;
mod driver;
mod keys;
mod plan;
mod report;
mod resp;
mod rng;
mod run;
mod schedule;
mod server;
mod stats;
mod template;
mod values;

use clap::Parser;

use crate::cli::{Cli, Command, CompareArgs, PopulateArgs, RunArgs};
use crate::report::{Measurement, Report};
use crate::run::Subject;
use crate::values::Payload;

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Compare(args) => compare(&args),
        Command::Populate(args) => populate(&args),
        Command::Tests => {
            template::PRESETS.iter().for_each(|(name, text)| println!("{name:<12} {text}"));
            Ok(())
        }
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peristyle-loadgen: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> Result<(), String> {
    let load = plan::load(&args.load, &args.workload)?;
    let cases = plan::cases(&args.workload, &args.load.pipeline)?;
    let subject = Subject::find(&args.server, &plan::login(&args.login), args.server_pid)?;
    let payload = Payload::new(load.value_sizes.max(), load.seed);
    let mut measurements = Vec::new();
    for case in &cases {
        let title = (!args.output.quiet).then(|| case.title());
        let measured = subject.measure(case, &load, &payload, title)?;
        measurements.push(Measurement::new(&subject, case, &load, 1, &measured));
    }
    Report { measurements, comparisons: Vec::new() }.write(&args.output)
}

fn compare(args: &CompareArgs) -> Result<(), String> {
    if args.server.len() < 2 {
        return Err("compare needs two servers at least".into());
    }
    if !args.server_pid.is_empty() && args.server_pid.len() != args.server.len() {
        return Err("give a --server-pid for every --server, or none".into());
    }
    let load = plan::load(&args.load, &args.workload)?;
    let cases = plan::cases(&args.workload, &args.load.pipeline)?;
    let login = plan::login(&args.login);
    let pids = args.server_pid.iter().copied().map(Some).chain(std::iter::repeat(None));
    let subjects = args.server.iter().zip(pids).map(|(server, pid)| Subject::find(server, &login, pid));
    let subjects = subjects.collect::<Result<Vec<Subject>, String>>()?;
    compare::compare(&subjects, &cases, &load, args.rounds, args.output.quiet)?.write(&args.output)
}

fn populate(args: &PopulateArgs) -> Result<(), String> {
    let (load, case) = plan::populate(args)?;
    let subject = Subject::find(&args.server, &plan::login(&args.login), None)?;
    let payload = Payload::new(load.value_sizes.max(), load.seed);
    let title = (!args.output.quiet).then(|| case.title());
    let measured = subject.measure(&case, &load, &payload, title)?;
    let measurements = vec![Measurement::new(&subject, &case, &load, 1, &measured)];
    Report { measurements, comparisons: Vec::new() }.write(&args.output)
}
