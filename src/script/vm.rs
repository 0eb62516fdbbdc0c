//! A Lua state that runs scripts: compiled once, remembered by their text and by its SHA1, called with KEYS and ARGV.
//!
//! A shard has one for EVAL and one for functions (`library`), made when the first script comes. It knows no keys: what a
//! script does goes through the [`Host`] that is lent for the run.

use std::collections::HashMap;
use std::ffi::{CStr, c_int};
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use super::api::{self, Api};
use super::context::Owner;
pub use super::convert::ErrorInfo;
use super::convert::{error_info, write_value};
use super::header;
use super::host::{Host, ScriptFlags};
use super::lua::{Failed, Lua, REGISTRY};
use super::{bit, cjson, cmsgpack, sandbox, struct_};
use crate::resp::reply::Reply;

/// SHA1 of a script's text.
pub type Digest = [u8; 20];

/// So many runs make a step of the garbage collector.
const RUNS_PER_STEP: u32 = 50;
const STEP_SIZE: c_int = 50;
/// Scripts that only EVAL knows of: beyond so many the one that was not used for longest goes.
const EVAL_SCRIPTS_MAX: usize = 500;
/// INFO counts so much for every script besides its text: its place in two tables.
const SCRIPT_OVERHEAD_BYTES: usize = size_of::<Script>() + 2 * size_of::<(Arc<[u8]>, usize)>();

/// A place in the registry that holds a function.
pub type Place = usize;

/// A state with its sandbox, and places for functions in it.
pub struct Machine {
    pub(super) lua: Lua,
    pub(super) context: Owner,
    next_place: Place,
    free_places: Vec<Place>,
    runs: u32,
}

/// How a call of a script ended: the reply is written.
pub enum End {
    Done,
    /// With an error; it may be one that was counted when a command failed with it.
    Failed(ErrorInfo),
}

/// A function that is about to be called.
#[must_use]
pub struct Prepared {
    parameters: c_int,
}

/// A call that is over; its result is not looked at yet.
#[must_use]
pub struct Called(Result<(), Failed>);

/// How the arguments of a script reach it.
#[derive(Clone, Copy)]
pub enum Arguments {
    /// As the globals KEYS and ARGV.
    Globals,
    /// As the function's two parameters.
    Parameters,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.lua.close();
    }
}

/// Where the error handler stands in the registry.
const HANDLER: Place = sandbox::FREE_PLACES;

impl Machine {
    pub fn new(api: Api) -> Machine {
        let lua = Lua::create();
        let context = Owner::install(lua);
        sandbox::open(lua, |lua| {
            api::push_table(lua, &context, api);
            lua.push_value(-1);
            lua.set_field(1, "redis");
            lua.set_field(1, "server");
            lua.raw_field(1, "math");
            api::add_random(lua, &context);
            lua.pop(1);
            for (name, push) in [
                ("cjson", cjson::push_table as fn(Lua)),
                ("cmsgpack", cmsgpack::push_table),
                ("struct", struct_::push_table),
                ("bit", bit::push_table),
            ] {
                push(lua);
                lua.set_field(1, name);
            }
        });
        lua.push_function(sandbox::error_handler, 0);
        lua.raw_set_index(REGISTRY, HANDLER);
        Machine { lua, context, next_place: HANDLER + 1, free_places: Vec::new(), runs: 0 }
    }

    /// Keeps the function on top; the same place is never two functions'.
    pub(super) fn keep(&mut self) -> Place {
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.next_place += 1;
            self.next_place - 1
        });
        self.lua.raw_set_index(REGISTRY, place);
        place
    }

    pub(super) fn release(&mut self, place: Place) {
        self.lua.push_nil();
        self.lua.raw_set_index(REGISTRY, place);
        self.free_places.push(place);
    }

    /// Compiles a text; the function, or else the error, is on top.
    pub(super) fn compile(&mut self, code: &[u8], name: &CStr) -> Result<(), Failed> {
        sandbox::reset_globals(self.lua);
        self.lua.load(code, name)
    }

    /// Lays out the function at a place and what it is called with.
    pub fn prepare(&mut self, place: Place, arguments: Arguments, words: (&[&[u8]], &[&[u8]])) -> Prepared {
        let lua = self.lua;
        debug_assert!(lua.top() == 0, "between runs the stack is empty");
        sandbox::reset_globals(lua);
        lua.raw_get_index(REGISTRY, HANDLER);
        lua.raw_get_index(REGISTRY, place);
        let (keys, args) = words;
        match arguments {
            Arguments::Globals => {
                // A script may have changed its own environment: the next run begins with the usual one.
                sandbox::push_globals(lua);
                lua.set_environment(-2);
                sandbox::push_real_globals(lua);
                for (name, words) in [("KEYS", keys), ("ARGV", args)] {
                    push_list(lua, words);
                    lua.set_field(-2, name);
                }
                lua.pop(1);
                Prepared { parameters: 0 }
            }
            Arguments::Parameters => {
                push_list(lua, keys);
                push_list(lua, args);
                Prepared { parameters: 2 }
            }
        }
    }

    /// Calls what was prepared. Nothing that it was prepared from is needed any more.
    pub fn call(&mut self, prepared: Prepared, host: &mut dyn Host) -> Called {
        let lua = self.lua;
        Called(self.context.with_host(host, || lua.call_protected(prepared.parameters, 1, 1)))
    }

    /// Writes what the call has returned. `name` is what error messages call the script.
    pub fn finish(&mut self, called: Called, name: &[u8], reply: &mut Reply) -> End {
        let lua = self.lua;
        let context = self.context.get();
        context.revive(lua);
        let inner = context.protocol;
        let end = match called.0 {
            Ok(()) => match write_value(lua, inner, reply) {
                Some(info) => End::Failed(info),
                None => End::Done,
            },
            Err(Failed) => End::Failed(write_failure(lua, name, reply)),
        };
        lua.set_top(0);
        self.runs += 1;
        if self.runs == RUNS_PER_STEP {
            self.runs = 0;
            lua.collect_step(STEP_SIZE);
        }
        end
    }

    /// Bytes that Lua holds.
    pub fn memory(&self) -> usize {
        self.lua.memory()
    }
}

fn push_list(lua: Lua, words: &[&[u8]]) {
    lua.push_table(words.len(), 0);
    for (index, word) in words.iter().enumerate() {
        lua.push(word);
        lua.raw_set_index(-2, index + 1);
    }
}

/// The error on top, with the script and the place in it.
fn write_failure(lua: Lua, name: &[u8], reply: &mut Reply) -> ErrorInfo {
    let mut info = error_info(lua);
    if lua.type_of(-1) != super::lua::Type::Table {
        info.text.truncate(100);
        info.text = [b"ERR Error running script ", name, b", ", &info.text[..]].concat();
    } else if let (Some(source), Some(line)) = (&info.source, &info.line) {
        let place: [&[u8]; 6] = [b" script: ", name, b", on ", source, b":", line];
        info.text.extend_from_slice(&place.concat());
        info.text.push(b'.');
    }
    reply.error(&info.text);
    info
}

/// A compiled script.
struct Script {
    digest: Digest,
    name: [u8; 40],
    body: Arc<[u8]>,
    flags: ScriptFlags,
    place: Place,
    last_use: u64,
    /// SCRIPT LOAD was told of it: it stays.
    loaded: bool,
}

/// Which script to run; valid until the next change of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptId(usize);

/// The scripts of EVAL, compiled, and the state they run in.
pub struct EvalVm {
    machine: Machine,
    scripts: slab::Slab<Script>,
    by_body: HashMap<Arc<[u8]>, usize, ahash::RandomState>,
    by_digest: HashMap<Digest, usize, ahash::RandomState>,
    uses: u64,
    /// Scripts that EVAL alone knows of.
    unloaded: usize,
    /// It is for scripts over several shards.
    pub(super) spread: bool,
    /// The SCRIPT FLUSH that it has followed.
    pub(super) flushes: u64,
}

impl Default for EvalVm {
    fn default() -> EvalVm {
        EvalVm {
            machine: Machine::new(Api::Eval),
            scripts: slab::Slab::new(),
            by_body: HashMap::default(),
            by_digest: HashMap::default(),
            uses: 0,
            unloaded: 0,
            spread: false,
            flushes: 0,
        }
    }
}

impl EvalVm {
    /// The script with this text, if it is compiled.
    #[inline]
    pub fn find(&mut self, body: &[u8]) -> Option<ScriptId> {
        let index = *self.by_body.get(body)?;
        self.used(index);
        Some(ScriptId(index))
    }

    pub fn find_digest(&mut self, digest: &Digest) -> Option<ScriptId> {
        let index = *self.by_digest.get(digest)?;
        self.used(index);
        Some(ScriptId(index))
    }

    fn used(&mut self, index: usize) {
        self.uses += 1;
        self.scripts[index].last_use = self.uses;
    }

    /// Compiles a text that is not known yet. The second result is the digest of a script that went for it.
    pub fn add(&mut self, body: &[u8], loaded: bool) -> Result<(ScriptId, Option<Digest>), Vec<u8>> {
        let (flags, code) = header::of_script(body).map_err(|text| [b"ERR ", &text[..]].concat())?;
        if self.machine.compile(code, c"@user_script").is_err() {
            let text = error_info(self.machine.lua).text;
            self.machine.lua.set_top(0);
            return Err([b"ERR Error compiling script (new function): ", &text[..]].concat());
        }
        let place = self.machine.keep();
        let evicted = if loaded || self.unloaded < EVAL_SCRIPTS_MAX { None } else { self.evict() };
        self.unloaded += usize::from(!loaded);
        let digest: Digest = Sha1::digest(body).into();
        let body: Arc<[u8]> = body.into();
        self.uses += 1;
        let script =
            Script { digest, name: api::hex(digest), body: body.clone(), flags, place, last_use: self.uses, loaded };
        let index = self.scripts.insert(script);
        self.by_body.insert(body, index);
        self.by_digest.insert(digest, index);
        Ok((ScriptId(index), evicted))
    }

    /// The script stays from now on.
    pub fn keep_loaded(&mut self, script: ScriptId) {
        let script = &mut self.scripts[script.0];
        self.unloaded -= usize::from(!script.loaded);
        script.loaded = true;
    }

    fn evict(&mut self) -> Option<Digest> {
        let oldest = self.scripts.iter().filter(|(_, script)| !script.loaded).min_by_key(|(_, script)| script.last_use);
        let (index, _) = oldest?;
        let script = self.scripts.remove(index);
        self.by_body.remove(&script.body);
        self.by_digest.remove(&script.digest);
        self.machine.release(script.place);
        self.unloaded -= 1;
        Some(script.digest)
    }

    pub fn flags(&self, script: ScriptId) -> ScriptFlags {
        self.scripts[script.0].flags
    }

    /// The 40 digits that name it.
    pub fn name(&self, script: ScriptId) -> [u8; 40] {
        self.scripts[script.0].name
    }

    pub fn digest(&self, script: ScriptId) -> Digest {
        self.scripts[script.0].digest
    }

    pub fn prepare(&mut self, script: ScriptId, words: (&[&[u8]], &[&[u8]])) -> Prepared {
        self.machine.prepare(self.scripts[script.0].place, Arguments::Globals, words)
    }

    pub fn call(&mut self, prepared: Prepared, host: &mut dyn Host) -> Called {
        self.machine.call(prepared, host)
    }

    pub fn finish(&mut self, script: ScriptId, called: Called, reply: &mut Reply) -> End {
        self.machine.finish(called, &self.scripts[script.0].name, reply)
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Bytes that Lua holds.
    pub fn memory(&self) -> usize {
        self.machine.memory()
    }

    /// Bytes of the texts and of what finds them.
    pub fn cache_memory(&self) -> usize {
        self.scripts.iter().map(|(_, script)| script.body.len() + SCRIPT_OVERHEAD_BYTES).sum()
    }
}

#[cfg(test)]
#[path = "vm/tests.rs"]
mod tests;
