//! The Lua 5.1 C API as the rest of `script` sees it: a copyable handle, byte slices for strings, functions in Rust.
//!
//! The API raises errors by `longjmp`, over all frames up to the nearest protected call. What that asks of us, and what
//! every `unsafe` below relies on:
//!
//! 1. A handle is made from a live state only (`create`, or a function that Lua calls), and used on one thread.
//! 2. A function in Rust never raises while it owns something that has to be dropped: it returns its error, and
//!    [`enter`], which owns nothing by then, raises. The methods here do not raise, but for running out of memory, at
//!    which the allocator ends the process, and for those that say so.
//! 3. A stack index names a value of the running function, and the stack has room: [`Lua::has_room`] before recursion,
//!    the 20 places that C functions have by themselves otherwise.
//! 4. A slice of a Lua string is used only while that string is on the stack (or reachable from what is).
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_int, c_void};

use mlua_sys as ffi;

pub use ffi::{LUA_GLOBALSINDEX as GLOBALS, LUA_REGISTRYINDEX as REGISTRY};

/// A Lua state, or a coroutine in one.
#[derive(Clone, Copy)]
pub struct Lua(*mut ffi::lua_State);

// SAFETY: a state goes to another thread as a whole, with the machine that owns it and all copies of the handle (1); Lua
// keeps nothing by thread.
unsafe impl Send for Lua {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

/// The error of a function in Rust.
pub enum Raise {
    /// A text, behind the place in the script that called the function: `luaL_error`.
    Text(String),
    /// The value on top of the stack: `lua_error`.
    Top,
    /// What is wrong with an argument: `luaL_argerror`.
    Argument(c_int, String),
    /// An argument is not of this type: `luaL_typerror`.
    Type(c_int, &'static CStr),
}

pub type Returns = Result<c_int, Raise>;

/// Why a protected call failed; the error is on top of the stack.
#[derive(Debug)]
pub struct Failed;

impl Lua {
    /// A new state, closed by [`Lua::close`].
    pub fn create() -> Lua {
        // SAFETY: the allocator keeps to its contract; it never returns null for a size above zero.
        let state = unsafe { ffi::lua_newstate(allocate, std::ptr::null_mut()) };
        assert!(!state.is_null(), "memory ends the process, not the call");
        Lua(state)
    }

    /// Ends the state; no copy of the handle is used afterwards.
    pub fn close(self) {
        // SAFETY: the state is live (1).
        unsafe { ffi::lua_close(self.0) }
    }

    /// Opens one of Lua's own libraries, as its table of globals.
    pub fn open_library(self, library: Library) {
        let open = match library {
            Library::Base => ffi::luaopen_base,
            Library::Table => ffi::luaopen_table,
            Library::String => ffi::luaopen_string,
            Library::Math => ffi::luaopen_math,
            Library::Os => ffi::luaopen_os,
        };
        // SAFETY: (1); opening a library in a fresh state raises nothing.
        unsafe {
            ffi::lua_pushcclosure(self.0, open, 0);
            ffi::lua_call(self.0, 0, 0);
        }
    }

    pub fn top(self) -> c_int {
        // SAFETY: (1).
        unsafe { ffi::lua_gettop(self.0) }
    }

    pub fn set_top(self, top: c_int) {
        // SAFETY: (1), (3).
        unsafe { ffi::lua_settop(self.0, top) }
    }

    pub fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    /// Room for so many values more, or no room at all.
    pub fn has_room(self, values: c_int) -> bool {
        // SAFETY: (1).
        unsafe { ffi::lua_checkstack(self.0, values) != 0 }
    }

    pub fn push_value(self, index: c_int) {
        // SAFETY: (3).
        unsafe { ffi::lua_pushvalue(self.0, index) }
    }

    pub fn insert(self, index: c_int) {
        // SAFETY: (3).
        unsafe { ffi::lua_insert(self.0, index) }
    }

    pub fn remove(self, index: c_int) {
        // SAFETY: (3).
        unsafe { ffi::lua_remove(self.0, index) }
    }

    /// The top value goes where `index` is.
    pub fn replace(self, index: c_int) {
        // SAFETY: (3); also sets the table of globals.
        unsafe { ffi::lua_replace(self.0, index) }
    }

    pub fn type_of(self, index: c_int) -> Type {
        // SAFETY: (1); an index beyond the top is `None`.
        match unsafe { ffi::lua_type(self.0, index) } {
            ffi::LUA_TNIL => Type::Nil,
            ffi::LUA_TBOOLEAN => Type::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Type::LightUserdata,
            ffi::LUA_TNUMBER => Type::Number,
            ffi::LUA_TSTRING => Type::String,
            ffi::LUA_TTABLE => Type::Table,
            ffi::LUA_TFUNCTION => Type::Function,
            ffi::LUA_TUSERDATA => Type::Userdata,
            ffi::LUA_TTHREAD => Type::Thread,
            _ => Type::None,
        }
    }

    /// What Lua calls the type of a value.
    pub fn type_name(self, index: c_int) -> &'static str {
        match self.type_of(index) {
            Type::None => "no value",
            Type::Nil => "nil",
            Type::Boolean => "boolean",
            Type::LightUserdata | Type::Userdata => "userdata",
            Type::Number => "number",
            Type::String => "string",
            Type::Table => "table",
            Type::Function => "function",
            Type::Thread => "thread",
        }
    }

    /// The number of a number, or of a string that reads like one.
    pub fn number(self, index: c_int) -> Option<f64> {
        // SAFETY: (1).
        unsafe { (ffi::lua_isnumber(self.0, index) != 0).then(|| ffi::lua_tonumber(self.0, index)) }
    }

    pub fn boolean(self, index: c_int) -> bool {
        // SAFETY: (1).
        unsafe { ffi::lua_toboolean(self.0, index) != 0 }
    }

    /// The bytes of a string, or of a number, which becomes a string where it is.
    pub fn bytes<'a>(self, index: c_int) -> Option<&'a [u8]> {
        let mut length = 0;
        // SAFETY: (1); what it returns has so many bytes, and lives as (4) says.
        unsafe {
            let bytes = ffi::lua_tolstring(self.0, index, &mut length);
            (!bytes.is_null()).then(|| std::slice::from_raw_parts(bytes.cast(), length))
        }
    }

    /// The bytes of a string up to its first zero: what C sees of it.
    pub fn c_bytes<'a>(self, index: c_int) -> Option<&'a [u8]> {
        self.bytes(index).map(|bytes| bytes.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// The length of a string, or the border of a table.
    pub fn length(self, index: c_int) -> usize {
        // SAFETY: (1).
        unsafe { ffi::lua_objlen(self.0, index) }
    }

    pub fn pointer(self, index: c_int) -> *mut c_void {
        // SAFETY: (1).
        unsafe { ffi::lua_touserdata(self.0, index) }
    }

    pub fn same(self, one: c_int, other: c_int) -> bool {
        // SAFETY: (1).
        unsafe { ffi::lua_rawequal(self.0, one, other) != 0 }
    }

    pub fn push_nil(self) {
        // SAFETY: (3).
        unsafe { ffi::lua_pushnil(self.0) }
    }

    pub fn push_boolean(self, value: bool) {
        // SAFETY: (3).
        unsafe { ffi::lua_pushboolean(self.0, c_int::from(value)) }
    }

    pub fn push_number(self, value: f64) {
        // SAFETY: (3).
        unsafe { ffi::lua_pushnumber(self.0, value) }
    }

    pub fn push(self, bytes: &[u8]) {
        // SAFETY: (3); Lua copies them.
        unsafe { ffi::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }

    pub fn push_light(self, pointer: *mut c_void) {
        // SAFETY: (3).
        unsafe { ffi::lua_pushlightuserdata(self.0, pointer) }
    }

    /// Pushes a value that Lua keeps: plain data, found again by [`Lua::data`].
    pub fn push_data<T: Copy>(self, value: T) {
        // SAFETY: (3); the block has room for a `T`, and Lua aligns blocks like any allocation.
        unsafe { ffi::lua_newuserdata(self.0, size_of::<T>()).cast::<T>().write_unaligned(value) }
    }

    /// A copy of the plain data at `index`.
    pub fn data<T: Copy>(self, index: c_int) -> T {
        assert!(self.type_of(index) == Type::Userdata && self.length(index) == size_of::<T>(), "made by `push_data`");
        // SAFETY: looked at above: a block of that size, which `push_data` filled.
        unsafe { self.pointer(index).cast::<T>().read_unaligned() }
    }

    pub fn set_data<T: Copy>(self, index: c_int, value: T) {
        assert!(self.type_of(index) == Type::Userdata && self.length(index) == size_of::<T>(), "made by `push_data`");
        // SAFETY: as in `data`.
        unsafe { self.pointer(index).cast::<T>().write_unaligned(value) }
    }

    /// A table with room for so many elements and fields.
    pub fn push_table(self, elements: usize, fields: usize) {
        let room = |count: usize| count.min(1 << 24) as c_int;
        // SAFETY: (3).
        unsafe { ffi::lua_createtable(self.0, room(elements), room(fields)) }
    }

    /// A function in Rust, with the `upvalues` values on top of the stack as its own. `function` is a function item, so
    /// that it takes no place.
    pub fn push_function<F: Fn(Lua) -> Returns + Copy>(self, _function: F, upvalues: c_int) {
        const { assert!(size_of::<F>() == 0, "a function item, or a closure that captures nothing") };
        // SAFETY: (3).
        unsafe { ffi::lua_pushcclosure(self.0, enter::<F>, upvalues) }
    }

    /// `t[k]` without metamethods: the key on top gives way to the value.
    pub fn raw_get(self, table: c_int) {
        // SAFETY: (3), and the caller has seen that it is a table.
        unsafe { ffi::lua_rawget_(self.0, table) }
    }

    pub fn raw_get_index(self, table: c_int, index: usize) {
        // SAFETY: as for `raw_get`.
        unsafe { ffi::lua_rawgeti_(self.0, table, index as c_int) }
    }

    /// Pushes a field, without metamethods.
    pub fn raw_field(self, table: c_int, name: &str) -> Type {
        let table = self.absolute(table);
        self.push(name.as_bytes());
        self.raw_get(table);
        self.type_of(-1)
    }

    /// `t[k] = v` without metamethods, of the key and the value on top; the key is neither nil nor NaN.
    pub fn raw_set(self, table: c_int) {
        // SAFETY: as for `raw_get`.
        unsafe { ffi::lua_rawset(self.0, table) }
    }

    pub fn raw_set_index(self, table: c_int, index: usize) {
        // SAFETY: as for `raw_get`.
        unsafe { ffi::lua_rawseti_(self.0, table, index as c_int) }
    }

    /// `t[name]` becomes the value on top.
    pub fn set_field(self, table: c_int, name: &str) {
        let table = self.absolute(table);
        self.push(name.as_bytes());
        self.insert(-2);
        self.raw_set(table);
    }

    /// Of the key on top, the next pair of the table takes its place; false, and nothing in its place, behind the last.
    /// Raises where the key is none of the table's.
    pub fn next(self, table: c_int) -> bool {
        // SAFETY: as for `raw_get`; a caller that owns something hands in keys of the table only.
        unsafe { ffi::lua_next(self.0, table) != 0 }
    }

    /// Pushes the metatable of a value, if it has one.
    pub fn push_metatable(self, index: c_int) -> bool {
        // SAFETY: (3).
        unsafe { ffi::lua_getmetatable(self.0, index) != 0 }
    }

    /// The table (or nil) on top becomes the metatable of a value.
    pub fn set_metatable(self, index: c_int) {
        // SAFETY: (3).
        unsafe { ffi::lua_setmetatable(self.0, index) };
    }

    /// The index, counted from the bottom.
    pub fn absolute(self, index: c_int) -> c_int {
        if index < 0 && index > REGISTRY { self.top() + 1 + index } else { index }
    }

    /// Compiles a text (and nothing but text) to a function, or leaves the error there.
    pub fn load(self, text: &[u8], name: &CStr) -> Result<(), Failed> {
        let mut rest = Chunk { space: text.first() == Some(&ffi::LUA_SIGNATURE[0]), text, done: false };
        // SAFETY: (3); the reader gets what it was made for, and the text outlives the call.
        let status = unsafe { ffi::lua_load(self.0, read, (&raw mut rest).cast(), name.as_ptr()) };
        if status == 0 { Ok(()) } else { Err(Failed) }
    }

    /// Calls the function below its `arguments`; `results` may be [`MULTIPLE`]. An error becomes the handler's result,
    /// if there is one at index `handler`.
    pub fn call_protected(self, arguments: c_int, results: c_int, handler: c_int) -> Result<(), Failed> {
        // SAFETY: (3).
        let status = unsafe { ffi::lua_pcall(self.0, arguments, results, handler) };
        if status == 0 { Ok(()) } else { Err(Failed) }
    }

    /// Calls the function below its `arguments`. Raises what it raises: the caller owns nothing.
    pub fn call(self, arguments: c_int, results: c_int) {
        // SAFETY: (2), (3).
        unsafe { ffi::lua_call(self.0, arguments, results) }
    }

    /// The table on top becomes the environment of the function at `index`.
    pub fn set_environment(self, index: c_int) {
        // SAFETY: (3).
        unsafe { ffi::lua_setfenv(self.0, index) };
    }

    /// Where the caller of the running function at `level` stands in its script: source and line. A function of ours
    /// has no line, and `is_native`.
    pub fn place(self, level: c_int) -> Option<Place> {
        // SAFETY: a zeroed record is what `lua_getstack` expects; the source lives as long as its function.
        unsafe {
            let mut debug: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.0, level, &mut debug) == 0 {
                return None;
            }
            ffi::lua_getinfo(self.0, c"Sl".as_ptr(), &mut debug);
            Some(Place {
                source: CStr::from_ptr(debug.source).to_bytes().to_vec(),
                line: debug.currentline,
                is_native: CStr::from_ptr(debug.what) == c"C",
            })
        }
    }

    /// Bytes that the state holds.
    pub fn memory(self) -> usize {
        // SAFETY: (1).
        unsafe {
            let kilobytes = ffi::lua_gc(self.0, ffi::LUA_GCCOUNT, 0) as usize;
            kilobytes * 1024 + ffi::lua_gc(self.0, ffi::LUA_GCCOUNTB, 0) as usize
        }
    }

    pub fn collect_step(self, size: c_int) {
        // SAFETY: (1).
        unsafe { ffi::lua_gc(self.0, ffi::LUA_GCSTEP, size) };
    }

    pub fn collect_all(self) {
        // SAFETY: (1).
        unsafe { ffi::lua_gc(self.0, ffi::LUA_GCCOLLECT, 0) };
    }

    /// From now on `hook` is called every so many instructions; `None`: no longer.
    pub fn set_hook(self, hook: Option<ffi::lua_Hook>, instructions: c_int) {
        let mask = if hook.is_some() { ffi::LUA_MASKCOUNT } else { 0 };
        // SAFETY: (1).
        unsafe { ffi::lua_sethook(self.0, hook, mask, instructions) };
    }

    /// The handle that a hook is called with.
    ///
    /// # Safety
    /// `state` is what Lua called the hook with.
    pub unsafe fn of_hook(state: *mut ffi::lua_State) -> Lua {
        Lua(state)
    }

    /// Raises the value on top. The caller owns nothing that has to be dropped.
    pub fn raise(self) -> ! {
        // SAFETY: (2).
        unsafe { ffi::lua_error(self.0) }
    }

    /// A text behind the place of the caller, as an error value on the stack.
    pub fn push_error_text(self, text: &[u8]) {
        // SAFETY: (3).
        unsafe { ffi::luaL_where(self.0, 1) };
        self.push(text);
        // SAFETY: both are strings.
        unsafe { ffi::lua_concat(self.0, 2) };
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Library {
    Base,
    Table,
    String,
    Math,
    Os,
}

/// As many results as there are.
pub const MULTIPLE: c_int = ffi::LUA_MULTRET;

/// The index of a function's own value.
pub const fn upvalue(number: c_int) -> c_int {
    ffi::lua_upvalueindex(number)
}

pub type RawState = ffi::lua_State;
pub type RawDebug = ffi::lua_Debug;

pub struct Place {
    pub source: Vec<u8>,
    pub line: c_int,
    pub is_native: bool,
}

/// The number at the beginning of a text as C reads it (hexadecimal ones and names of what is none included), and how
/// many bytes that took.
pub fn read_c_number(text: &[u8]) -> (f64, usize) {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-._()".contains(byte);
    let mut copy: smallvec::SmallVec<[u8; 64]> = text.iter().take_while(is_part).copied().collect();
    copy.push(0);
    let mut end = std::ptr::null_mut();
    // SAFETY: the copy ends with a zero, and `end` points into it afterwards.
    unsafe {
        let value = libc::strtod(copy.as_ptr().cast(), &mut end);
        (value, end.cast_const().offset_from(copy.as_ptr().cast()) as usize)
    }
}

/// A text on its way into the compiler.
struct Chunk<'a> {
    text: &'a [u8],
    /// A space goes first: what begins with the mark of compiled chunks is text all the same.
    space: bool,
    done: bool,
}

// SAFETY: called by `lua_load` with the `Chunk` that `load` hands in.
unsafe extern "C-unwind" fn read(_: *mut ffi::lua_State, data: *mut c_void, size: *mut usize) -> *const c_char {
    // SAFETY: as above; nobody else looks at the chunk meanwhile, and `size` is Lua's variable.
    let (chunk, size) = unsafe { (&mut *data.cast::<Chunk<'_>>(), &mut *size) };
    if std::mem::take(&mut chunk.space) {
        *size = 1;
        return c" ".as_ptr();
    }
    *size = if std::mem::replace(&mut chunk.done, true) { 0 } else { chunk.text.len() };
    chunk.text.as_ptr().cast()
}

/// What Lua calls for a function in Rust.
// SAFETY: called by Lua only, with a live state.
unsafe extern "C-unwind" fn enter<F: Fn(Lua) -> Returns + Copy>(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: `push_function` takes types without any bytes only, of which every value is the same.
    let function: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    let lua = Lua(state);
    match function(lua) {
        Ok(count) => return count,
        Err(Raise::Top) => {}
        Err(Raise::Text(text)) => {
            lua.push_error_text(text.as_bytes());
            drop(text);
        }
        Err(Raise::Argument(argument, text)) => {
            lua.push(text.as_bytes());
            drop(text);
            // SAFETY: the text is a string on the stack; nothing is owned here any more (2).
            unsafe { ffi::luaL_argerror(state, argument, ffi::lua_tostring(state, -1)) };
        }
        Err(Raise::Type(argument, name)) => {
            // SAFETY: nothing is owned here (2).
            unsafe { ffi::luaL_typerror(state, argument, name.as_ptr()) };
        }
    }
    lua.raise()
}

/// Lua's memory comes from the process's allocator, and is counted with everything else.
// SAFETY: Lua hands in what it got, and its size.
unsafe extern "C" fn allocate(_: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    const ALIGN: usize = 16;
    // SAFETY: sizes are below what Lua can address; `old` is what the block was asked for with.
    unsafe {
        let layout = |size| Layout::from_size_align_unchecked(size, ALIGN);
        let got = match (old, new) {
            (0, 0) => return std::ptr::null_mut(),
            (_, 0) => {
                std::alloc::dealloc(block.cast(), layout(old));
                return std::ptr::null_mut();
            }
            (0, _) => std::alloc::alloc(layout(new)),
            _ => std::alloc::realloc(block.cast(), layout(old), new),
        };
        if got.is_null() {
            std::alloc::handle_alloc_error(layout(new));
        }
        got.cast()
    }
}
