//! What all shards know of scripts: the texts that EVALSHA finds, the libraries of functions, and the script that runs too
//! long.
//!
//! A shard compiles for itself and asks here only for what it does not know yet, or when a number here says that
//! something is gone or new: one load a call. The locks are held for a lookup or an insertion, never while a script runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::vm::Digest;

#[derive(Debug, Default)]
pub struct Store {
    scripts: Mutex<HashMap<Digest, StoredScript>>,
    /// SCRIPT FLUSH so far.
    flushes: AtomicU64,
    libraries: Mutex<BTreeMap<Vec<u8>, Arc<[u8]>>>,
    /// Changes of libraries so far.
    library_version: AtomicU64,
    /// Functions of all libraries.
    functions: AtomicU64,
    pub busy: Busy,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may call what is not for scripts.
    allows_all: AtomicBool,
}

#[derive(Clone, Debug)]
pub struct StoredScript {
    pub body: Arc<[u8]>,
    /// SCRIPT LOAD was told of it.
    pub loaded: bool,
}

/// A script that has run for longer than `busy-reply-threshold`, and who wants it to end.
#[derive(Debug, Default)]
pub struct Busy {
    /// Scripts that run too long.
    scripts: AtomicU64,
    /// One of them has written: it must not end half-way.
    wrote: AtomicBool,
    /// It is a function.
    is_function: AtomicBool,
    /// SCRIPT KILL or FUNCTION KILL.
    kill: AtomicBool,
    call: Mutex<Option<BusyCall>>,
}

/// How a script that runs too long was called.
#[derive(Clone, Debug)]
pub struct BusyCall {
    pub words: Vec<Vec<u8>>,
    /// By the clock of scripts, in nanoseconds.
    pub since_ns: u64,
}

impl Busy {
    /// Clients are told to wait. Asked for once a turn.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.scripts.load(Ordering::Relaxed) > 0
    }

    pub fn is_function(&self) -> bool {
        self.is_function.load(Ordering::Relaxed)
    }

    /// A script runs too long.
    pub fn begin(&self, is_function: bool) {
        self.is_function.store(is_function, Ordering::Relaxed);
        self.scripts.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those has ended.
    pub fn end(&self) {
        if self.scripts.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.kill.store(false, Ordering::Relaxed);
            self.wrote.store(false, Ordering::Relaxed);
            *self.lock_call() = None;
        }
    }

    pub fn set_wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    pub fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    pub fn kill(&self) {
        self.kill.store(true, Ordering::Relaxed);
    }

    pub fn is_killed(&self) -> bool {
        self.kill.load(Ordering::Relaxed)
    }

    pub fn set_call(&self, call: BusyCall) {
        *self.lock_call() = Some(call);
    }

    pub fn call(&self) -> Option<BusyCall> {
        self.lock_call().clone()
    }

    fn lock_call(&self) -> MutexGuard<'_, Option<BusyCall>> {
        self.call.lock().expect("nothing panics while it holds the call")
    }
}

/// Texts of libraries, by name.
pub type Libraries = BTreeMap<Vec<u8>, Arc<[u8]>>;

impl Store {
    fn scripts(&self) -> MutexGuard<'_, HashMap<Digest, StoredScript>> {
        self.scripts.lock().expect("nothing panics while it holds the scripts")
    }

    pub fn script(&self, digest: &Digest) -> Option<StoredScript> {
        self.scripts().get(digest).cloned()
    }

    pub fn add_script(&self, digest: Digest, body: &[u8], loaded: bool) {
        let mut scripts = self.scripts();
        let script = scripts.entry(digest).or_insert_with(|| StoredScript { body: body.into(), loaded });
        script.loaded |= loaded;
    }

    /// A shard has not used it for long; unless it is to stay, it goes.
    pub fn evict_script(&self, digest: &Digest) {
        let mut scripts = self.scripts();
        if scripts.get(digest).is_some_and(|script| !script.loaded) {
            scripts.remove(digest);
        }
    }

    pub fn scripts_len(&self) -> usize {
        self.scripts().len()
    }

    pub fn flush_scripts(&self) {
        let mut scripts = self.scripts();
        scripts.clear();
        self.flushes.fetch_add(1, Ordering::Release);
    }

    /// How often scripts were flushed: who knows scripts of another number forgets them.
    #[inline]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    #[inline]
    pub fn library_version(&self) -> u64 {
        self.library_version.load(Ordering::Acquire)
    }

    /// The libraries, and their version.
    pub fn libraries(&self) -> (u64, Libraries) {
        let libraries = self.libraries.lock().expect("nothing panics while it holds the libraries");
        (self.library_version(), libraries.clone())
    }

    pub fn set_allows_all(&self, allows: bool) {
        self.allows_all.store(allows, Ordering::Relaxed);
    }

    pub fn allows_all(&self) -> bool {
        self.allows_all.load(Ordering::Relaxed)
    }

    pub fn functions_len(&self) -> u64 {
        self.functions.load(Ordering::Relaxed)
    }

    /// Replaces the libraries, if they are still of this version; the next one.
    pub fn replace_libraries(&self, version: u64, changed: Libraries, functions: usize) -> Option<u64> {
        let mut libraries = self.libraries.lock().expect("nothing panics while it holds the libraries");
        if self.library_version() != version {
            return None;
        }
        *libraries = changed;
        self.functions.store(functions as u64, Ordering::Relaxed);
        self.library_version.store(version + 1, Ordering::Release);
        Some(version + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_stay_that_were_loaded() {
        let store = Store::default();
        store.add_script([1; 20], b"a", false);
        store.add_script([2; 20], b"b", false);
        store.add_script([2; 20], b"b", true);
        store.evict_script(&[1; 20]);
        store.evict_script(&[2; 20]);
        assert!(store.script(&[1; 20]).is_none() && store.script(&[2; 20]).is_some());
        store.flush_scripts();
        assert_eq!((store.scripts_len(), store.flushes()), (0, 1));
    }

    #[test]
    fn who_changes_libraries_has_seen_the_latest() {
        let store = Store::default();
        let (version, mut libraries) = store.libraries();
        libraries.insert(b"l".to_vec(), b"code"[..].into());
        assert_eq!(store.replace_libraries(version, libraries.clone(), 1), Some(1));
        assert_eq!(store.replace_libraries(version, Libraries::new(), 0), None);
        assert_eq!(store.libraries(), (1, libraries));
    }
}
