//! peristyle-loadgen: see `cli.rs` for what it does, `run.rs` for how a measurement goes.
#![forbid(unsafe_code)]

mod cli;
mod client;
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

use crate::cli::{Cli, Command};
use crate::report::Measurement;
use crate::run::Subject;
use crate::values::Payload;

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Populate(args) => populate(&args),
        Command::Compare(_) => Err("compare: not yet".into()),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peristyle-loadgen: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &cli::RunArgs) -> Result<(), String> {
    let load = plan::load(&args.load, &args.workload)?;
    let cases = plan::cases(&args.workload, &args.load.pipeline)?;
    let subject = Subject::find(&args.server, &plan::login(&args.login), args.server_pid)?;
    let payload = Payload::new(load.value_sizes.max(), load.seed);
    let mut measurements = Vec::new();
    for case in &cases {
        let measured = subject.measure(case, &load, &payload, args.output.quiet)?;
        measurements.push(Measurement::new(&subject, case, &load, &measured));
    }
    print!("{}", report::table::render(&measurements));
    Ok(())
}

fn populate(args: &cli::PopulateArgs) -> Result<(), String> {
    let (load, case) = plan::populate(args)?;
    let subject = Subject::find(&args.server, &plan::login(&args.login), None)?;
    let payload = Payload::new(load.value_sizes.max(), load.seed);
    let measured = subject.measure(&case, &load, &payload, args.output.quiet)?;
    print!("{}", report::table::render(&[Measurement::new(&subject, &case, &load, &measured)]));
    Ok(())
}
