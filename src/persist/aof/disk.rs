//! A directory of files, as who writes snapshots and logs sees it: so little that a test can take the disk's place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::sys::file;

/// A directory of files. Nothing that was changed is safe before it was synced, names included.
pub trait Disk: Send + Sync {
    /// The directory is there.
    fn prepare(&self) -> io::Result<()>;
    /// What a file holds; nothing if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    fn length(&self, name: &str) -> io::Result<u64>;
    /// A new, empty file, in the place of one that may be there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Names that were given or taken away are so for good.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file. Its end is known to who writes it: a write that failed half-way is done again at the same place.
pub trait DiskFile: Send + Sync {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// What was written between two places is on its way to the disk from now on, and what is before them has arrived: so
    /// `sync` will have little left to do. Nothing is safe by that.
    fn write_out(&self, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A directory of the file system.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn new(path: PathBuf) -> Directory {
        Directory { path }
    }
}

impl Disk for Directory {
    fn prepare(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::create(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn write_out(&self, from: u64, to: u64) -> io::Result<()> {
        file::write_out(self, from, to)
    }
}

#[cfg(test)]
pub mod memory {
    //! A disk in memory, which fails when it is told to.

    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Clone, Default)]
    pub struct MemoryDisk(Arc<State>);

    #[derive(Default)]
    pub struct State {
        files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
        pub full: AtomicBool,
        pub sync_fails: AtomicBool,
        /// Of so many syncs, the last one fails.
        pub sync_fails_at: AtomicUsize,
        pub syncs: AtomicUsize,
        /// Of so many syncs of the directory, the last one fails; 0: none.
        pub name_syncs_until_failure: AtomicUsize,
    }

    pub struct MemoryFile {
        bytes: Mutex<Vec<u8>>,
        disk: Arc<State>,
    }

    impl MemoryDisk {
        pub fn state(&self) -> &State {
            &self.0
        }

        pub fn text(&self, name: &str) -> String {
            let files = self.0.files.lock().expect("one thread");
            let bytes = files.get(name).unwrap_or_else(|| panic!("{name}")).bytes.lock().expect("one thread");
            String::from_utf8_lossy(&bytes).into_owned()
        }

        pub fn names(&self) -> Vec<String> {
            self.0.files.lock().expect("one thread").keys().cloned().collect()
        }
    }

    impl Disk for MemoryDisk {
        fn prepare(&self) -> io::Result<()> {
            Ok(())
        }

        fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
            let files = self.0.files.lock().expect("one thread");
            Ok(files.get(name).map(|file| file.bytes.lock().expect("one thread").clone()))
        }

        fn length(&self, name: &str) -> io::Result<u64> {
            let bytes = self.read(name)?.ok_or(io::ErrorKind::NotFound)?;
            Ok(bytes.len() as u64)
        }

        fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
            let file = Arc::new(MemoryFile { bytes: Mutex::default(), disk: self.0.clone() });
            self.0.files.lock().expect("one thread").insert(name.to_owned(), file.clone());
            Ok(file)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            let mut files = self.0.files.lock().expect("one thread");
            let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            files.insert(to.to_owned(), file);
            Ok(())
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.files.lock().expect("one thread").remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
        }

        fn sync_names(&self) -> io::Result<()> {
            let until_failure = &self.0.name_syncs_until_failure;
            match until_failure.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                Ok(1) => Err(io::Error::from_raw_os_error(libc::EIO)),
                _ => Ok(()),
            }
        }
    }

    impl DiskFile for MemoryFile {
        /// A full disk takes half of what it is given.
        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            let full = self.disk.full.load(Relaxed);
            let taken = if full { bytes.len() / 2 } else { bytes.len() };
            let mut held = self.bytes.lock().expect("one thread");
            held.resize(at as usize, 0);
            held.extend_from_slice(&bytes[..taken]);
            if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn truncate(&self, length: u64) -> io::Result<()> {
            self.bytes.lock().expect("one thread").truncate(length as usize);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            let syncs = self.disk.syncs.fetch_add(1, Relaxed) + 1;
            if self.disk.sync_fails.load(Relaxed) || self.disk.sync_fails_at.load(Relaxed) == syncs {
                Err(io::Error::from_raw_os_error(libc::EIO))
            } else {
                Ok(())
            }
        }
    }
}
