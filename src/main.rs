//! The server's command: arguments to configuration to `server::boot`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use peristyle::config::parse::{CommandLine, Disk, load};
use peristyle::sys::memory::CountingAllocator;
use peristyle::tool;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What `--help` shows. Directives are read as Redis reads them: clap sees a command line only if it asks for this.
#[derive(Parser)]
#[command(name = "peristyle", version = VERSION, about, after_help = EXAMPLES)]
struct Help {
    /// Configuration file; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Any directive of the configuration file, with its words: `--port 6380`
    #[arg(value_name = "--DIRECTIVE WORD...")]
    directives: Vec<String>,
}

const VERSION: &str = concat!("server v=", env!("CARGO_PKG_VERSION"), " redis=7.2.4 malloc=mimalloc bits=64");

const EXAMPLES: &str = "Examples:
  peristyle                                       all defaults: port 6379, one shard on every CPU
  peristyle /etc/peristyle.conf --port 6380       a file, and what differs from it
  peristyle --shards 2 --save 900 1 --requirepass secret
  peristyle check dump.rdb                        what redis-check-rdb does
  echo 'maxclients 500' | peristyle - --loglevel verbose";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| ["-v", "--version", "-h", "--help"].iter().any(|flag| first == flag)) {
        // As in Redis, `-v` is the version.
        let flag = if arguments[0] == "-v" { "-V".into() } else { arguments[0].clone() };
        Help::parse_from(["peristyle".into(), flag]);
    }
    if let [name, file] = &arguments[..]
        && name == "check"
    {
        return check(file.as_ref());
    }
    let command_line = CommandLine::parse(arguments);
    let mut stdin = Vec::new();
    if command_line.stdin
        && let Err(error) = std::io::stdin().read_to_end(&mut stdin)
    {
        eprintln!("Reading standard input: {error}");
        return ExitCode::FAILURE;
    }
    let config = match load(&command_line, &stdin, &Disk) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if peristyle::server::boot::run(config, absolute(command_line.file)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(file: &Path) -> ExitCode {
    match tool::check::run(file, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Writing to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the file is whatever the working directory becomes (`dir`).
fn absolute(file: Option<PathBuf>) -> Option<PathBuf> {
    file.map(|path| std::path::absolute(&path).unwrap_or(path))
}
