//! The server's command: arguments to configuration to `server::boot`.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use peristyle::config::parse::{CommandLine, Disk, load};
use peristyle::sys::memory::CountingAllocator;
use peristyle::tool;
use peristyle::tool::check_aof::Mode;

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
  peristyle check --fix appendonlydir             what redis-check-aof does
  peristyle convert dump.rdb dump.jsonl           RDB file, append-only directory, lines of JSON: any into any other
  echo 'maxclients 500' | peristyle - --loglevel verbose";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| ["-v", "--version", "-h", "--help"].iter().any(|flag| first == flag)) {
        // As in Redis, `-v` is the version.
        let flag = if arguments[0] == "-v" { "-V".into() } else { arguments[0].clone() };
        Help::parse_from(["peristyle".into(), flag]);
    }
    if let [name, options @ .., file] = &arguments[..]
        && name == "check"
    {
        return check(options, file.as_ref());
    }
    if let [name, from, to] = &arguments[..]
        && name == "convert"
    {
        return match tool::convert::run(from.as_ref(), to.as_ref(), &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("Error {failed}");
                ExitCode::FAILURE
            }
        };
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

fn check(options: &[OsString], file: &Path) -> ExitCode {
    let options: Vec<&str> = options.iter().map(|option| option.to_str().unwrap_or_default()).collect();
    let mode = match options[..] {
        [] => Mode::Look,
        ["--fix"] => Mode::Fix,
        ["--truncate-to-timestamp", second] => match second.parse() {
            Ok(second) => Mode::TruncateTo(second),
            Err(_) => {
                eprintln!("Invalid timestamp, aborting...");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!(
                "Usage: peristyle check [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof|file.rdb>"
            );
            return ExitCode::FAILURE;
        }
    };
    match tool::check::run(file, mode, &mut std::io::stdin().lock(), &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Checking {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Where the file is whatever the working directory becomes (`dir`).
fn absolute(file: Option<PathBuf>) -> Option<PathBuf> {
    file.map(|path| std::path::absolute(&path).unwrap_or(path))
}
