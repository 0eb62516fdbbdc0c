//! A disk that forgets. What was written and not synced may be there after a power loss, or not, or in part, or as zeros,
//! and so may names; a sync that failed tells nobody what it has lost. Any call may fail, and all may end within it.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peristyle::base::rng::Rng;
use peristyle::persist::aof::disk::{Disk, DiskFile};

/// What a directory holds.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Unwinds the shard in whose call everything ends.
pub struct Ended;

/// Calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// This one.
    Once(u64),
    /// What writes or creates, from this one on, so many times.
    Full(u64, u64),
}

/// What may go wrong in a life.
#[derive(Clone, Copy, Debug)]
pub struct Dangers {
    /// All ends within this call.
    pub end_at: Option<u64>,
    pub trouble: Trouble,
    /// A planted bug: a sync comes back at once, and is done before the next call.
    pub syncs_late: bool,
}

#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

type FileId = usize;

struct State {
    rng: Rng,
    dangers: Dangers,
    calls: u64,
    failures: u64,
    has_ended: bool,
    files: Vec<File>,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    unsynced_names: Vec<Naming>,
    late: Option<FileId>,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum Naming {
    Give(String, FileId),
    Rename(String, String, FileId),
    Take(String),
}

/// What a call does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Writes,
    Syncs,
    Names,
}

struct Handle {
    disk: SimDisk,
    file: FileId,
}

impl SimDisk {
    /// All of the image is on disk.
    pub fn new(image: Image, dangers: Dangers, seed: u64) -> SimDisk {
        let (mut files, mut names) = (Vec::new(), BTreeMap::new());
        for (name, bytes) in image {
            names.insert(name, files.len());
            files.push(File { durable: bytes.clone(), bytes, unsynced: Vec::new() });
        }
        SimDisk(Arc::new(Mutex::new(State {
            rng: Rng::new(seed ^ 0xd15c),
            dangers,
            calls: 0,
            failures: 0,
            has_ended: false,
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            late: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that have failed.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// The process has ended; the kernel goes on.
    pub fn left_by_process(&self) -> Image {
        let state = self.state();
        state.names.iter().map(|(name, &file)| (name.clone(), state.files[file].bytes.clone())).collect()
    }

    /// The machine has stopped.
    pub fn left_by_power_loss(&self) -> Image {
        let state = &mut *self.state();
        let (mut names, how) = (state.durable_names.clone(), state.rng.below(4));
        let kept = state.rng.below(state.unsynced_names.len() as u64 + 1);
        for (index, naming) in state.unsynced_names.iter().enumerate() {
            let happens = match how {
                0 => false,
                1 => true,
                2 => (index as u64) < kept,
                _ => state.rng.below(2) == 0,
            };
            if happens {
                naming.apply(&mut names);
            }
        }
        let rng = &mut state.rng;
        names.into_iter().map(|(name, file)| (name, state.files[file].after_power_loss(rng))).collect()
    }

    /// Does something, or fails, or all ends before, within or behind it.
    fn call<T>(
        &self,
        kind: Kind,
        whole: impl Fn(&mut State) -> io::Result<T>,
        part: impl Fn(&mut State),
    ) -> io::Result<T> {
        let mut guard = self.state();
        let state = &mut *guard;
        assert!(!state.has_ended, "nobody runs any more");
        state.calls += 1;
        if let Some(file) = state.late.take() {
            state.files[file].sync();
        }
        if state.dangers.end_at == Some(state.calls) {
            state.has_ended = true;
            match state.rng.below(3) {
                0 => {}
                1 => part(state),
                _ => drop(whole(state)),
            }
            drop(guard);
            resume_unwind(Box::new(Ended));
        }
        let fails = match state.dangers.trouble {
            Trouble::None => false,
            Trouble::Once(at) => state.calls == at,
            Trouble::Full(from, calls) => kind == Kind::Writes && (from..from + calls).contains(&state.calls),
        };
        if fails {
            state.failures += 1;
            part(state);
            let is_full = matches!(state.dangers.trouble, Trouble::Full(..));
            return Err(if is_full { io::ErrorKind::StorageFull.into() } else { io::Error::from_raw_os_error(5) });
        }
        whole(state)
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Naming::Give(name, file) => drop(names.insert(name.clone(), *file)),
            Naming::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Naming::Take(name) => drop(names.remove(name)),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let end = at + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(written);
            }
            Change::Truncate(length) => bytes.resize(*length, 0),
        }
    }

    /// What a power loss makes of it: all, nothing, its beginning, zeros, or pieces.
    fn apply_somehow(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        let Change::Write(at, written) = self else {
            if rng.below(2) == 0 {
                self.apply(bytes);
            }
            return;
        };
        match rng.below(6) {
            0 | 1 => self.apply(bytes),
            2 => {}
            3 => {
                let part = rng.below(written.len() as u64 + 1) as usize;
                Change::Write(*at, written[..part].to_vec()).apply(bytes);
            }
            4 => Change::Write(*at, vec![0; written.len()]).apply(bytes),
            _ => {
                for (index, piece) in written.chunks(PIECE_BYTES).enumerate() {
                    if rng.below(2) == 0 {
                        Change::Write(at + index * PIECE_BYTES, piece.to_vec()).apply(bytes);
                    }
                }
            }
        }
    }
}

/// Of a write, pieces of this length reach the disk each by itself: smaller than any sector, so that groups tear.
const PIECE_BYTES: usize = 24;

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Nobody will write again what was not written now.
    fn fail_to_sync(&mut self, rng: &mut Rng) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply_somehow(&mut self.durable, rng);
        }
    }

    fn after_power_loss(&self, rng: &mut Rng) -> Vec<u8> {
        let (mut bytes, how) = (self.durable.clone(), rng.below(4));
        for change in &self.unsynced {
            match how {
                0 => {}
                1 => change.apply(&mut bytes),
                _ => change.apply_somehow(&mut bytes, rng),
            }
        }
        bytes
    }
}

impl State {
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
    }
}

impl Disk for SimDisk {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        Ok(state.names.get(name).map(|&file| state.files[file].bytes.clone()))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.read(name)?.map(|bytes| bytes.len() as u64).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let create = |state: &mut State| {
            let file = state.files.len();
            state.files.push(File::default());
            state.name(Naming::Give(name.to_owned(), file));
            Ok(file)
        };
        let file = self.call(Kind::Writes, create, |_| {})?;
        Ok(Arc::new(Handle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = |state: &mut State| {
            let &file = state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            state.name(Naming::Rename(from.to_owned(), to.to_owned(), file));
            Ok(())
        };
        self.call(Kind::Names, rename, |_| {})
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let remove = |state: &mut State| {
            state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            state.name(Naming::Take(name.to_owned()));
            Ok(())
        };
        self.call(Kind::Names, remove, |_| {})
    }

    fn sync_names(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            for naming in std::mem::take(&mut state.unsynced_names) {
                naming.apply(&mut state.durable_names);
            }
            Ok(())
        };
        self.call(Kind::Syncs, sync, |_| {})
    }
}

impl DiskFile for Handle {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let write = |state: &mut State, length: usize| {
            state.files[self.file].change(Change::Write(at as usize, bytes[..length].to_vec()));
        };
        let whole = |state: &mut State| {
            write(state, bytes.len());
            Ok(())
        };
        let part = |state: &mut State| {
            let length = state.rng.below(bytes.len() as u64 + 1) as usize;
            write(state, length);
        };
        self.disk.call(Kind::Writes, whole, part)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let truncate = |state: &mut State| {
            state.files[self.file].change(Change::Truncate(length as usize));
            Ok(())
        };
        self.disk.call(Kind::Names, truncate, |_| {})
    }

    fn sync(&self) -> io::Result<()> {
        let whole = |state: &mut State| {
            if state.dangers.syncs_late {
                state.late = Some(self.file);
            } else {
                state.files[self.file].sync();
            }
            Ok(())
        };
        let part = |state: &mut State| {
            let State { files, rng, .. } = state;
            files[self.file].fail_to_sync(rng);
        };
        self.disk.call(Kind::Syncs, whole, part)
    }
}
