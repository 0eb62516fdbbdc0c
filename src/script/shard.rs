//! A shard's scripts: its states, made when the first script comes, and how they keep up with what all shards know.

use std::collections::HashMap;
use std::sync::Arc;

use super::coroutine::Stacks;
use super::host::Host;
use super::library::{FunctionVm, Library};
use super::store::{Libraries, Store};
use super::vm::{Digest, EvalVm, ScriptId};
use crate::base::clock::Now;
use crate::base::metrics::CommandStats;
use crate::resp::reply::Protocol;

/// States that are kept for scripts over several shards.
const SPARES_MAX: usize = 4;
/// Scripts of which is known what they touch; beyond so many all are forgotten.
const TOUCHES_MAX: usize = 10_000;

pub struct Scripts {
    pub store: Arc<Store>,
    /// Nanoseconds that pass.
    clock: fn() -> u64,
    eval: Option<Box<EvalVm>>,
    functions: Option<Box<FunctionVm>>,
    /// For scripts over several shards, of which some may wait for replies at the same time. The boxes go out and back.
    #[allow(clippy::vec_box)]
    spare_evals: Vec<Box<EvalVm>>,
    #[allow(clippy::vec_box)]
    spare_functions: Vec<Box<FunctionVm>>,
    /// For scripts that run.
    pub stacks: Stacks,
    /// A script pauses until this command, which is not the shard's alone, has been run for it.
    pub asked: Option<AskedCommand>,
    /// The reply to that.
    pub answer: Vec<u8>,
    /// The script that begins next may touch what it likes: the shard has the lease (`engine::lease`).
    pub is_leased: bool,
    /// What is known of scripts, by text or name: see [`Scripts::touches_others`].
    touches_others: HashMap<Box<[u8]>, bool, ahash::RandomState>,
    /// The flush that `eval` has followed.
    flushes: u64,
    /// The version of the libraries in `functions`.
    library_version: u64,
    /// Commands that scripts called.
    pub commands: Option<Box<CommandStats>>,
    /// How many the script that runs has called.
    pub calls: u64,
    /// Scripts that made way for others.
    pub evicted: u64,
    /// What scripts called since it was last asked for, with the database, while a client monitors.
    shown: Option<Vec<(usize, Vec<Vec<u8>>)>>,
    /// Clients track what they read: see `reads`.
    pub notes_reads: bool,
    /// Keys that the last script has read.
    reads: Vec<Vec<u8>>,
}

/// A command that a script calls, and that is not the shard's alone.
pub struct AskedCommand {
    pub words: Vec<Vec<u8>>,
    pub db: usize,
    /// When the script began.
    pub now: Now,
    pub protocol: Protocol,
}

/// Bytes and counts for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScriptMemory {
    pub eval_vm: usize,
    pub function_vm: usize,
    /// Texts, and what finds them.
    pub eval_cache: usize,
    pub function_cache: usize,
}

impl ScriptMemory {
    /// Each shard compiles for itself what all of them know.
    pub fn merge(&mut self, other: &ScriptMemory) {
        self.eval_vm += other.eval_vm;
        self.function_vm += other.function_vm;
        self.eval_cache += other.eval_cache;
        self.function_cache += other.function_cache;
    }

    pub fn vm_total(&self) -> usize {
        self.eval_vm + self.function_vm
    }

    pub fn cache_total(&self) -> usize {
        self.eval_cache + self.function_cache
    }
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            shown: None,
            notes_reads: false,
            reads: Vec::new(),
            store: Arc::default(),
            clock: || 0,
            eval: None,
            functions: None,
            spare_evals: Vec::new(),
            spare_functions: Vec::new(),
            stacks: Stacks::default(),
            asked: None,
            answer: Vec::new(),
            is_leased: false,
            touches_others: HashMap::default(),
            flushes: 0,
            library_version: 0,
            commands: None,
            calls: 0,
            evicted: 0,
        }
    }
}

impl Scripts {
    /// From now on what scripts call is kept for those who monitor, or no longer.
    pub fn show(&mut self, wanted: bool) {
        match wanted {
            true => _ = self.shown.get_or_insert_default(),
            false => self.shown = None,
        }
    }

    /// A script calls a command.
    pub fn note_call(&mut self, db: usize, words: &[&[u8]]) {
        if let Some(shown) = &mut self.shown {
            shown.push((db, words.iter().map(|word| word.to_vec()).collect()));
        }
    }

    /// A script begins.
    pub fn begin_reads(&mut self) {
        self.reads.clear();
    }

    /// A script has read a key.
    pub fn note_read(&mut self, key: &[u8]) {
        self.reads.push(key.to_vec());
    }

    /// What the last script has read.
    pub fn take_reads(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.reads)
    }

    /// What scripts called since the last time.
    pub fn take_shown(&mut self) -> Vec<(usize, Vec<Vec<u8>>)> {
        self.shown.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// By this clock scripts are timed, and into these counts go the commands that they call.
    pub fn observe(&mut self, clock: fn() -> u64, commands: usize) {
        self.clock = clock;
        self.commands = Some(Box::new(CommandStats::new(commands)));
    }

    pub fn clock(&self) -> fn() -> u64 {
        self.clock
    }

    pub fn ticks(&self) -> u64 {
        (self.clock)()
    }

    /// The state of EVAL, to be given back. `spread`: for a script that runs beside others, and stops now and then.
    pub fn take_eval(&mut self, spread: bool) -> Box<EvalVm> {
        self.follow_flush();
        let mut vm = if spread { self.spare_evals.pop() } else { self.eval.take() }.unwrap_or_default();
        vm.spread = spread;
        vm.flushes = self.flushes;
        vm
    }

    /// Gives up what was made before the last SCRIPT FLUSH.
    pub fn follow_flush(&mut self) {
        let flushes = self.store.flushes();
        if flushes != self.flushes {
            self.flushes = flushes;
            self.eval = None;
            self.spare_evals.clear();
            self.touches_others.clear();
        }
    }

    pub fn give_eval(&mut self, vm: Box<EvalVm>) {
        if vm.flushes != self.flushes {
            return;
        }
        if !vm.spread {
            // While a script pauses, another may have been made.
            self.eval.get_or_insert(vm);
        } else if self.spare_evals.len() < SPARES_MAX {
            self.spare_evals.push(vm);
        }
    }

    /// The state of functions, with all libraries there are, to be given back; `spread` as above.
    pub fn take_functions(&mut self, spread: bool, host: &mut dyn Host) -> Box<FunctionVm> {
        let vm = if spread { self.spare_functions.pop() } else { self.functions.take() };
        let known = vm.as_ref().map_or(0, |vm| if spread { vm.version } else { self.library_version });
        let mut vm = vm.unwrap_or_default();
        vm.spread = spread;
        if self.store.library_version() != known {
            let (version, libraries) = self.store.libraries();
            follow(&mut vm, &libraries, host);
            vm.version = version;
            if !spread {
                self.library_version = version;
            }
        }
        vm
    }

    pub fn give_functions(&mut self, vm: Box<FunctionVm>) {
        if !vm.spread {
            // As above: what was made meanwhile is newer.
            self.functions.get_or_insert(vm);
        } else if self.spare_functions.len() < SPARES_MAX {
            self.spare_functions.push(vm);
        }
    }

    /// Whether a script, by its text or its name, may touch keys that it does not declare, if that is known.
    pub fn touches_others(&self, script: &[u8]) -> Option<bool> {
        self.touches_others.get(script).copied()
    }

    pub fn remember_touches_others(&mut self, script: &[u8], others: bool) {
        if self.touches_others.len() >= TOUCHES_MAX {
            self.touches_others.clear();
        }
        self.touches_others.insert(script.into(), others);
    }

    /// Tells all shards of the libraries that `vm` has now. False: somebody else was first, and `vm` has to be made anew.
    pub fn publish_libraries(&mut self, vm: &FunctionVm) -> bool {
        let codes = vm.libraries().iter().map(|(name, library)| (name.clone(), library.code.clone())).collect();
        match self.store.replace_libraries(self.library_version, codes, vm.functions()) {
            Some(version) => {
                self.library_version = version;
                true
            }
            None => {
                // What follows is loaded from nothing.
                self.library_version = u64::MAX;
                false
            }
        }
    }

    /// What `take_functions` gave may not be what all shards have: it is compared anew.
    pub fn distrust_libraries(&mut self) {
        self.library_version = u64::MAX;
    }

    pub fn memory(&self) -> ScriptMemory {
        let (eval, functions) = (self.eval.as_ref(), self.functions.as_ref());
        let spare_evals: usize = self.spare_evals.iter().map(|vm| vm.memory()).sum();
        let spare_functions: usize = self.spare_functions.iter().map(|vm| vm.memory()).sum();
        ScriptMemory {
            eval_vm: eval.map_or(0, |vm| vm.memory()) + spare_evals,
            function_vm: functions.map_or(0, |vm| vm.memory()) + spare_functions,
            eval_cache: eval.map_or(0, |vm| vm.cache_memory()),
            function_cache: functions.map_or(0, |vm| vm.cache_memory()),
        }
    }
}

/// Libraries come and go until `vm` has these. One that loaded elsewhere and does not here is not there.
fn follow(vm: &mut FunctionVm, libraries: &Libraries, host: &mut dyn Host) {
    let is_current = |name: &[u8], library: &Library| libraries.get(name).is_some_and(|code| **code == *library.code);
    let gone = vm.libraries().iter().filter(|(name, library)| !is_current(name, library));
    let gone: Vec<Vec<u8>> = gone.map(|(name, _)| name.clone()).collect();
    for name in gone {
        vm.delete(&name);
    }
    for (name, code) in libraries {
        if !vm.libraries().contains_key(name)
            && let Err(text) = vm.load(code, true, host)
        {
            let text = String::from_utf8_lossy(&text);
            tracing::warn!("Function library {} does not load: {text}", String::from_utf8_lossy(name));
        }
    }
}

/// The script with this text, compiled if need be; all shards know it then.
pub fn script_of_body(scripts: &mut Scripts, vm: &mut EvalVm, body: &[u8], loaded: bool) -> Result<ScriptId, Vec<u8>> {
    if let Some(script) = vm.find(body) {
        if loaded {
            vm.keep_loaded(script);
            scripts.store.add_script(vm.digest(script), body, true);
        }
        return Ok(script);
    }
    add(scripts, vm, body, loaded)
}

/// The script of this name, if any shard knows it.
pub fn script_of_digest(scripts: &mut Scripts, vm: &mut EvalVm, digest: &Digest) -> Option<ScriptId> {
    if let Some(script) = vm.find_digest(digest) {
        return Some(script);
    }
    let stored = scripts.store.script(digest)?;
    // It compiled before.
    add(scripts, vm, &stored.body, stored.loaded).ok()
}

#[cold]
fn add(scripts: &mut Scripts, vm: &mut EvalVm, body: &[u8], loaded: bool) -> Result<ScriptId, Vec<u8>> {
    let (script, evicted) = vm.add(body, loaded)?;
    if let Some(evicted) = evicted {
        scripts.evicted += 1;
        scripts.store.evict_script(&evicted);
    }
    scripts.store.add_script(vm.digest(script), body, loaded);
    Ok(script)
}

/// The digest that 40 digits in any case name.
pub fn parse_digest(name: &[u8]) -> Option<Digest> {
    let name: &[u8; 40] = name.try_into().ok()?;
    let mut digest = [0; 20];
    for (byte, pair) in digest.iter_mut().zip(name.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(digest)
}
