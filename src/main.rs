//! The server's command: arguments to configuration to `server::boot`.

use peristyle::config::parse::{CommandLine, Disk, load};
use peristyle::sys::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let command_line = CommandLine::parse(std::env::args_os().skip(1));
    let config = match load(&command_line, b"", &Disk) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    if let Err(error) = peristyle::server::boot::run(config) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
