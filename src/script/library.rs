//! Libraries of functions: FUNCTION LOAD runs a library's code once, which registers functions; FCALL calls them.
//!
//! While a library loads, its code sees little: `redis.register_function`, `redis.log` and the constants. What its
//! functions see when they run is as for scripts, but that keys and arguments are parameters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::api::{self, Api};
use super::context::Context;
use super::convert::{error_info, push_error_table};
use super::header::{self, is_name};
use super::host::{Host, ScriptFlags};
use super::lua::{Lua, REGISTRY, Raise, Returns, Type};
use super::sandbox;
use super::vm::{Arguments, Called, End, Machine, Place, Prepared};
use crate::resp::reply::Reply;

/// What a library's code has registered so far.
#[derive(Default)]
pub struct Draft {
    functions: Vec<DraftFunction>,
}

struct DraftFunction {
    name: Vec<u8>,
    description: Option<Vec<u8>>,
    flags: ScriptFlags,
}

/// Where the functions of a draft wait in the registry: a table, in their order.
static DRAFT_FUNCTIONS: u8 = 0;
/// The globals of code that loads.
static LOAD_GLOBALS: u8 = 0;

#[derive(Debug)]
pub struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
    /// Whether it may touch keys that its call does not declare, once somebody has asked.
    touches_others: Option<bool>,
    place: Place,
}

#[derive(Debug)]
pub struct Library {
    pub code: Arc<[u8]>,
    /// In the order in which they were registered.
    pub functions: Vec<Function>,
}

/// A function: its library, and which of its functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionId {
    library: Vec<u8>,
    index: usize,
}

/// All libraries of a shard, and the state they run in.
pub struct FunctionVm {
    machine: Machine,
    libraries: BTreeMap<Vec<u8>, Library>,
    /// By name in lower case: calls may be in any.
    by_name: HashMap<Vec<u8>, FunctionId, ahash::RandomState>,
    /// It is for calls over several shards.
    pub(super) spread: bool,
    /// The version of the libraries, if it is.
    pub(super) version: u64,
}

impl Default for FunctionVm {
    fn default() -> FunctionVm {
        let machine = Machine::new(Api::Function);
        let lua = machine.lua;
        lua.push_light((&raw const LOAD_GLOBALS).cast_mut().cast());
        lua.push_table(0, 2);
        api::push_table(lua, &machine.context, Api::Load);
        sandbox::shield_api(lua);
        lua.push_value(-1);
        lua.set_field(-3, "redis");
        lua.set_field(-2, "server");
        lua.raw_set(REGISTRY);
        FunctionVm { machine, libraries: BTreeMap::new(), by_name: HashMap::default(), spread: false, version: 0 }
    }
}

impl FunctionVm {
    pub fn libraries(&self) -> &BTreeMap<Vec<u8>, Library> {
        &self.libraries
    }

    pub fn functions(&self) -> usize {
        self.by_name.len()
    }

    pub fn find(&self, name: &[u8]) -> Option<&FunctionId> {
        self.by_name.get(&name.to_ascii_lowercase())
    }

    pub fn function(&self, id: &FunctionId) -> &Function {
        &self.libraries[&id.library].functions[id.index]
    }

    /// Whether a function may touch keys that its call does not declare; `look` finds out from its library's code and its name.
    pub fn touches_others(&mut self, id: &FunctionId, look: impl FnOnce(&[u8], &[u8]) -> bool) -> bool {
        let library = self.libraries.get_mut(&id.library).expect("a function has its library");
        let function = &mut library.functions[id.index];
        *function.touches_others.get_or_insert_with(|| look(&library.code, &function.name))
    }

    /// Runs a library's code, and holds its functions from then on; its name. A library of the same name is replaced, if
    /// `replaces` says so; on an error nothing has changed. The host is asked whether loading takes too long.
    pub fn load(&mut self, body: &[u8], replaces: bool, host: &mut dyn Host) -> Result<Vec<u8>, Vec<u8>> {
        let with_code = |text: Vec<u8>| [b"ERR ", &text[..]].concat();
        let header = header::of_library(body).map_err(with_code)?;
        if !is_name(&header.name) {
            return Err(with_code(header::NOT_A_NAME.into()));
        }
        if !header.engine.eq_ignore_ascii_case(b"lua") {
            return Err([b"ERR Engine '", &header.engine[..], b"' not found"].concat());
        }
        if !replaces && self.libraries.contains_key(&header.name) {
            return Err([b"ERR Library '", &header.name[..], b"' already exists"].concat());
        }
        let draft = self.register(header.code, host)?;
        let lua = self.machine.lua;
        let taken = draft.functions.iter().find(|function| {
            self.by_name.get(&function.name.to_ascii_lowercase()).is_some_and(|id| id.library != header.name)
        });
        let error = match taken {
            _ if draft.functions.is_empty() => Some(b"ERR No functions registered".to_vec()),
            Some(function) => Some([b"ERR Function ", &function.name[..], b" already exists"].concat()),
            None => None,
        };
        if let Some(error) = error {
            lua.set_top(0);
            return Err(error);
        }
        self.delete(&header.name);
        let mut functions = Vec::new();
        for (index, DraftFunction { name, description, flags }) in draft.functions.into_iter().enumerate() {
            lua.raw_get_index(1, index + 1);
            let place = self.machine.keep();
            self.by_name.insert(name.to_ascii_lowercase(), FunctionId { library: header.name.clone(), index });
            functions.push(Function { name, description, flags, touches_others: None, place });
        }
        lua.set_top(0);
        self.libraries.insert(header.name.clone(), Library { code: body.into(), functions });
        Ok(header.name)
    }

    /// Runs the code; the functions it registers are in a table, the only value on the stack.
    fn register(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Draft, Vec<u8>> {
        let lua = self.machine.lua;
        lua.push_table(0, 0);
        lua.push_light((&raw const DRAFT_FUNCTIONS).cast_mut().cast());
        lua.push_value(1);
        lua.raw_set(REGISTRY);
        lua.push_function(sandbox::error_handler, 0);
        if self.machine.compile(code, c"@user_function").is_err() {
            let text = error_info(lua).text;
            lua.set_top(0);
            return Err([b"ERR Error compiling function: ", &text[..]].concat());
        }
        lua.push_light((&raw const LOAD_GLOBALS).cast_mut().cast());
        lua.raw_get(REGISTRY);
        sandbox::show_globals(lua);
        self.machine.context.get().draft = Some(Draft::default());
        let result = self.machine.context.with_host(host, || lua.call_protected(0, 0, 2));
        sandbox::show_real_globals(lua);
        let context = self.machine.context.get();
        context.revive(lua);
        let draft = context.draft.take().unwrap_or_default();
        if result.is_err() {
            let text = error_info(lua).text;
            lua.set_top(0);
            return Err([b"ERR Error registering functions: ", &text[..]].concat());
        }
        lua.set_top(1);
        Ok(draft)
    }

    /// Forgets a library; false if there is none of this name.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        for function in library.functions {
            self.by_name.remove(&function.name.to_ascii_lowercase());
            self.machine.release(function.place);
        }
        true
    }

    pub fn prepare(&mut self, id: &FunctionId, words: (&[&[u8]], &[&[u8]])) -> Prepared {
        let place = self.function(id).place;
        self.machine.prepare(place, Arguments::Parameters, words)
    }

    pub fn call(&mut self, prepared: Prepared, host: &mut dyn Host) -> Called {
        self.machine.call(prepared, host)
    }

    pub fn finish(&mut self, id: &FunctionId, called: Called, reply: &mut Reply) -> End {
        let name = &self.libraries[&id.library].functions[id.index].name;
        self.machine.finish(called, name, reply)
    }

    /// Bytes that Lua holds.
    pub fn memory(&self) -> usize {
        self.machine.memory()
    }

    /// Bytes of the libraries' texts and of what finds them.
    pub fn cache_memory(&self) -> usize {
        let function = |function: &Function| {
            let description = function.description.as_ref().map_or(0, Vec::len);
            2 * function.name.len() + description + size_of::<Function>() + size_of::<FunctionId>()
        };
        let library = |library: &Library| library.code.len() + library.functions.iter().map(function).sum::<usize>();
        self.libraries.values().map(library).sum()
    }
}

fn fail(lua: Lua, text: &str) -> Returns {
    push_error_table(lua, text.as_bytes());
    Err(Raise::Top)
}

/// `redis.register_function(name, callback)` or `redis.register_function{function_name=…, callback=…, …}`.
pub fn register_function(lua: Lua) -> Returns {
    if Context::of(lua).draft.is_none() {
        return fail(lua, "server.register_function can only be called on FUNCTION LOAD command");
    }
    let function = match lua.top() {
        1 => named_arguments(lua),
        2 => positional_arguments(lua),
        _ => Err("wrong number of arguments to server.register_function"),
    };
    let function = match function {
        Ok(function) => function,
        Err(text) => return fail(lua, text),
    };
    if !is_name(&function.name) {
        drop(function);
        return fail(lua, header::NOT_A_NAME);
    }
    let draft = Context::of(lua).draft.as_mut().expect("looked at above");
    if draft.functions.iter().any(|other| other.name == function.name) {
        drop(function);
        return fail(lua, "Function already exists in the library");
    }
    draft.functions.push(function);
    let index = draft.functions.len();
    // The callback is on top.
    lua.push_light((&raw const DRAFT_FUNCTIONS).cast_mut().cast());
    lua.raw_get(REGISTRY);
    lua.insert(-2);
    lua.raw_set_index(-2, index);
    Ok(0)
}

fn text_at(lua: Lua, index: i32) -> Option<Vec<u8>> {
    match lua.type_of(index) {
        Type::String | Type::Number => {
            // A copy: a number that is a key must stay one.
            lua.push_value(index);
            let text = lua.bytes(-1).map(<[u8]>::to_vec);
            lua.pop(1);
            text
        }
        _ => None,
    }
}

fn positional_arguments(lua: Lua) -> Result<DraftFunction, &'static str> {
    let name = text_at(lua, 1).ok_or("first argument to server.register_function must be a string")?;
    if lua.type_of(2) != Type::Function {
        return Err("second argument to server.register_function must be a function");
    }
    Ok(DraftFunction { name, description: None, flags: ScriptFlags::default() })
}

/// Leaves the callback on top.
fn named_arguments(lua: Lua) -> Result<DraftFunction, &'static str> {
    if lua.type_of(1) != Type::Table {
        return Err(
            "calling server.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        );
    }
    let (mut name, mut description, mut flags, mut has_callback) = (None, None, ScriptFlags::default(), false);
    // The callback's place, below what goes through the table.
    lua.push_nil();
    lua.push_nil();
    while lua.next(1) {
        let key = match lua.type_of(-2) {
            Type::String => lua.bytes(-2).unwrap_or_default(),
            Type::Number => return Err("unknown argument given to server.register_function"),
            _ => return Err("named argument key given to server.register_function is not a string"),
        };
        if key.eq_ignore_ascii_case(b"function_name") {
            let given = text_at(lua, -1);
            name = Some(given.ok_or("function_name argument given to server.register_function must be a string")?);
        } else if key.eq_ignore_ascii_case(b"description") {
            let given = text_at(lua, -1);
            description = Some(given.ok_or("description argument given to server.register_function must be a string")?);
        } else if key.eq_ignore_ascii_case(b"callback") {
            if lua.type_of(-1) != Type::Function {
                return Err("callback argument given to server.register_function must be a function");
            }
            lua.push_value(-1);
            lua.replace(2);
            has_callback = true;
        } else if key.eq_ignore_ascii_case(b"flags") {
            if lua.type_of(-1) != Type::Table {
                return Err("flags argument to server.register_function must be a table representing function flags");
            }
            flags = read_flags(lua)?;
        } else {
            return Err("unknown argument given to server.register_function");
        }
        lua.pop(1);
    }
    let name = name.ok_or("server.register_function must get a function name argument")?;
    if !has_callback {
        return Err("server.register_function must get a callback argument");
    }
    Ok(DraftFunction { name, description, flags })
}

/// Of the list on top.
fn read_flags(lua: Lua) -> Result<ScriptFlags, &'static str> {
    let mut flags = ScriptFlags::default();
    for index in 1.. {
        lua.raw_get_index(-1, index);
        let known = match lua.type_of(-1) {
            Type::Nil => {
                lua.pop(1);
                break;
            }
            Type::String => flags.set(lua.bytes(-1).unwrap_or_default()),
            _ => false,
        };
        lua.pop(1);
        if !known {
            return Err("unknown flag given");
        }
    }
    Ok(flags)
}
