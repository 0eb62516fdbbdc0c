//! From what was typed to what will be run: cases, each a mix at a pipeline depth, under one load.

use crate::cli::{ArrivalsArg, KeyArgs, LoadArgs, LoginArgs, PopulateArgs, ValueArgs, WorkloadArgs};
use crate::cpu;
use crate::keys::KeyPattern;
use crate::schedule::Arrivals;
use crate::server::Login;
use crate::template::{KeyFormat, Mix, Template};
use crate::values::ValueSizes;

#[derive(Clone, Debug)]
pub struct Load {
    pub clients: u64,
    pub threads: u64,
    pub requests: Option<u64>,
    pub duration_ns: Option<u64>,
    pub warmup_ns: u64,
    /// Requests a second and their spread; `None` is the closed loop.
    pub rate: Option<(f64, Arrivals)>,
    pub seed: u64,
    pub cpus: Vec<usize>,
    pub key_pattern: KeyPattern,
    pub keys: u64,
    pub value_sizes: ValueSizes,
    pub ttl: (u64, u64),
}

#[derive(Clone, Debug)]
pub struct Case {
    pub mix: Mix,
    pub pipeline: u64,
}

impl Case {
    pub fn title(&self) -> String {
        format!("{} P={}", self.mix.label(), self.pipeline)
    }
}

pub fn login(args: &LoginArgs) -> Login {
    Login { user: args.user.clone(), password: args.password.clone(), database: args.database, resp3: args.resp3 }
}

pub fn load(args: &LoadArgs, workload: &WorkloadArgs) -> Result<Load, String> {
    let duration = match (args.duration, args.requests) {
        (None, None) => Some(5.0),
        (duration, _) => duration,
    };
    let rate = match (args.rate, args.arrivals) {
        (None, _) => None,
        (Some(rate), _) if !(rate > 0.0 && rate.is_finite()) => return Err(format!("a rate is above 0, not {rate}")),
        (Some(rate), ArrivalsArg::Fixed) => Some((rate, Arrivals::Fixed)),
        (Some(rate), ArrivalsArg::Poisson) => Some((rate, Arrivals::Poisson)),
    };
    let load = Load {
        clients: args.clients,
        threads: args.threads,
        requests: args.requests,
        duration_ns: duration.map(|seconds| nanoseconds(seconds, "--duration")).transpose()?,
        warmup_ns: nanoseconds(args.warmup, "--warmup")?,
        rate,
        seed: args.seed,
        cpus: args.cpus.as_deref().map(cpu::parse_cpus).transpose()?.unwrap_or_default(),
        key_pattern: workload.key_pattern,
        keys: workload.keys.keys,
        value_sizes: workload.values.value_size.clone(),
        ttl: ttl(&workload.values)?.unwrap_or((1, 1)),
    };
    if load.duration_ns == Some(0) {
        return Err("--duration is above 0".into());
    }
    check_spread(&load)?;
    Ok(load)
}

pub fn cases(args: &WorkloadArgs, pipelines: &[u64]) -> Result<Vec<Case>, String> {
    let keys = key_format(&args.keys)?;
    let with_ttl = args.values.ttl.is_some();
    let mixes = if !args.command.is_empty() {
        if !args.weight.is_empty() && args.weight.len() != args.command.len() {
            return Err("give a --weight for every --command, or none".into());
        }
        let weights = args.weight.iter().copied().chain(std::iter::repeat(1));
        let templates = args.command.iter().map(|text| Template::parse(text, &keys));
        let weighted = templates.zip(weights).map(|(template, weight)| Ok((template?, weight)));
        vec![Mix::new(weighted.collect::<Result<_, String>>()?)?]
    } else if !args.mix.is_empty() {
        let mut weighted = Vec::new();
        for item in &args.mix {
            let (name, weight) = item.split_once('=').unwrap_or((item, "1"));
            let weight = weight.parse().map_err(|error| format!("weight of {name}: {error}"))?;
            weighted.push((Template::preset(name, &keys, with_ttl)?, weight));
        }
        vec![Mix::new(weighted)?]
    } else {
        let default = ["set".to_string(), "get".to_string()];
        let names = if args.tests.is_empty() { &default[..] } else { &args.tests[..] };
        let mixes = names.iter().map(|name| Mix::new(vec![(Template::preset(name, &keys, with_ttl)?, 1)]));
        mixes.collect::<Result<_, String>>()?
    };
    let cases = mixes.iter().flat_map(|mix| pipelines.iter().map(|&pipeline| Case { mix: mix.clone(), pipeline }));
    Ok(cases.collect())
}

/// Every key once: a sequential walk of as many requests as there are keys.
pub fn populate(args: &PopulateArgs) -> Result<(Load, Case), String> {
    let ttl = ttl(&args.values)?;
    let template = Template::preset("set", &key_format(&args.keys)?, ttl.is_some())?;
    let load = Load {
        clients: args.clients.min(args.keys.keys),
        threads: args.threads.min(args.clients).min(args.keys.keys),
        requests: Some(args.keys.keys),
        duration_ns: None,
        warmup_ns: 0,
        rate: None,
        seed: args.seed,
        cpus: args.cpus.as_deref().map(cpu::parse_cpus).transpose()?.unwrap_or_default(),
        key_pattern: KeyPattern::Sequential,
        keys: args.keys.keys,
        value_sizes: args.values.value_size.clone(),
        ttl: ttl.unwrap_or((1, 1)),
    };
    Ok((load, Case { mix: Mix::new(vec![(template, 1)])?, pipeline: args.pipeline }))
}

fn key_format(args: &KeyArgs) -> Result<KeyFormat, String> {
    let width = usize::from(args.key_width);
    if (args.keys - 1).to_string().len() > width {
        return Err(format!("{} keys need more than the {width} digits of --key-width", args.keys));
    }
    Ok(KeyFormat { prefix: args.key_prefix.clone(), width })
}

fn ttl(args: &ValueArgs) -> Result<Option<(u64, u64)>, String> {
    let Some(text) = &args.ttl else { return Ok(None) };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let seconds = |digits: &str| digits.parse::<u64>().map_err(|error| format!("--ttl '{digits}': {error}"));
    match (seconds(low)?, seconds(high)?) {
        (low, high) if 0 < low && low <= high => Ok(Some((low, high))),
        (low, high) => Err(format!("--ttl {low}-{high} is no range of seconds above 0")),
    }
}

fn check_spread(load: &Load) -> Result<(), String> {
    if load.threads > load.clients {
        return Err(format!("{} threads have nothing to do with {} clients", load.threads, load.clients));
    }
    if load.keys < load.threads {
        return Err(format!("{} threads need as many keys at least", load.threads));
    }
    if load.requests.is_some_and(|requests| requests < load.threads) {
        return Err(format!("{} threads need as many requests at least", load.threads));
    }
    Ok(())
}

fn nanoseconds(seconds: f64, option: &str) -> Result<u64, String> {
    if (0.0..1e8).contains(&seconds) {
        Ok((seconds * 1e9) as u64)
    } else {
        Err(format!("{option} is a number of seconds, not {seconds}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(arguments: &str) -> Result<(Load, Vec<Case>), String> {
        match Cli::try_parse_from(format!("peristyle-loadgen run {arguments}").split_whitespace()).unwrap().command {
            Command::Run(args) => Ok((load(&args.load, &args.workload)?, cases(&args.workload, &args.load.pipeline)?)),
            other => panic!("not a run: {other:?}"),
        }
    }

    fn titles(arguments: &str) -> Vec<String> {
        run(arguments).unwrap().1.iter().map(Case::title).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_is_bounded_by_time_unless_it_is_bounded_by_requests() {
        let bounds = |arguments| run(arguments).map(|(load, _)| (load.requests, load.duration_ns)).unwrap();
        assert_eq!(bounds(""), (None, Some(5_000_000_000)));
        assert_eq!(bounds("-n 100"), (Some(100), None));
        assert_eq!(bounds("-n 100 -d 0.5"), (Some(100), Some(500_000_000)));
    }

    #[test]
    fn tests_are_crossed_with_depths_and_a_mix_is_one_test() {
        assert_eq!(titles(""), ["set P=1", "get P=1"]);
        assert_eq!(titles("-t get,incr -P 1,16"), ["get P=1", "get P=16", "incr P=1", "incr P=16"]);
        assert_eq!(titles("--mix get=9,set"), ["get=9,set=1 P=1"]);
        assert_eq!(titles("--command PING --weight 3 --command TIME --weight 1"), ["PING=3,TIME=1 P=1"]);
    }

    #[test]
    fn populate_walks_the_key_space_once() {
        let line = "peristyle-loadgen populate --keys 5 --threads 8 -c 8";
        let Command::Populate(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("{line}") };
        let (load, case) = populate(&args).unwrap();
        assert_eq!((load.requests, load.threads, load.clients), (Some(5), 5, 5));
        assert_eq!((load.key_pattern, case.title()), (KeyPattern::Sequential, "set P=64".to_string()));
    }

    #[test]
    fn contradictions_are_refused() {
        let arguments = [
            "--ttl 0",
            "--ttl 9-3",
            "--rate 0",
            "-d 0",
            "-c 1 --threads 2",
            "--mix get=0",
            "--keys 11 --key-width 1",
            "--command PING --command TIME --weight 1",
            "--mix get=x",
            "--cpus x",
        ];
        for arguments in arguments {
            assert!(run(arguments).is_err(), "{arguments}");
        }
    }
}
