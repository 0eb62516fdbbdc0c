//! What the binary does besides being the server: `peristyle check` looks at files, `peristyle convert` makes one of
//! another.

pub mod check;
pub mod check_aof;
pub mod convert;
pub mod json;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use indicatif::{ProgressBar, ProgressStyle};

/// A file that shows on a terminal how far it was read.
struct Shown {
    file: File,
    bar: ProgressBar,
}

impl Shown {
    fn open(path: &std::path::Path) -> io::Result<Shown> {
        let file = File::open(path)?;
        let bar = progress_bar(file.metadata()?.len());
        Ok(Shown { file, bar })
    }
}

fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.set_style(style.expect("a template that is right"));
    bar
}

impl Read for Shown {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

impl Seek for Shown {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let at = self.file.seek(position)?;
        self.bar.set_position(at);
        Ok(at)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
