//! What the standard library does not have of files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Begins to write what the page cache has of the file between two places to the disk, and waits until what is before them
/// has been written. Nothing is safe by that.
pub fn write_out(file: &File, from: u64, to: u64) -> io::Result<()> {
    let range = |from: u64, to: u64, how: libc::c_uint| {
        // A length of zero would be all that follows.
        if from == to {
            return Ok(());
        }
        // SAFETY: no memory is involved, and the descriptor is open.
        match unsafe { libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, how) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    range(from, to, libc::SYNC_FILE_RANGE_WRITE)?;
    range(0, from, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_written_out_piece_by_piece_and_what_is_no_file_is_refused() {
        let path = std::env::temp_dir().join(format!("peristyle-write-out-{}", std::process::id()));
        let mut file = File::create(&path).expect("a new file");
        for piece in 0..3 {
            file.write_all(&[1; 100_000]).expect("there is room");
            write_out(&file, piece * 100_000, (piece + 1) * 100_000).expect("it is a file");
        }
        write_out(&file, 300_000, 300_000).expect("nothing is to be done");
        std::fs::remove_file(path).expect("it is there");
        let (pipe, _other) = std::io::pipe().expect("a pipe");
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        assert_eq!(write_out(&pipe, 0, 1).expect_err("a pipe has no places").raw_os_error(), Some(libc::ESPIPE));
    }
}
