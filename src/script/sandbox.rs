//! The globals of scripts: which there are, and that nobody changes them.
//!
//! A script must leave nothing behind for the next one, so all tables that it can reach by a global name are readonly.
//! Lua 5.1 has no such thing: what scripts see are empty tables whose metatable finds fields in the real one and refuses
//! to store any (a "shield"). Functions that look at a table without its metatable (`next`, `pairs`, `rawget`,
//! `rawset`, `getmetatable`, `setmetatable`, `table.insert`, `table.foreach`) are replaced by some that know shields, so
//! that a script sees no difference to Redis, whose own Lua has a flag for it.
//!
//! Code is compiled from text only, as compiled code can be forged; `load` and `loadstring` are replaced for that.

use std::ffi::{CString, c_int};

use super::lua::{GLOBALS, Library, Lua, MULTIPLE, REGISTRY, Raise, Returns, Type, upvalue};

/// The error of a write to what is readonly.
const READONLY: &str = "Attempt to modify a readonly table";

/// Globals of Lua's own libraries that scripts have.
const ALLOWED: &[&str] = &[
    "_VERSION",
    "assert",
    "collectgarbage",
    "coroutine",
    "error",
    "gcinfo",
    "getfenv",
    "ipairs",
    "math",
    "newproxy",
    "rawequal",
    "select",
    "setfenv",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
];

/// Places in the registry, by number: what this module keeps there.
const SHIELDED_GLOBALS: usize = 1;
const REAL_GLOBALS: usize = 2;
const STRING_METATABLE: usize = 3;
const MISSING_METATABLE: usize = 4;
/// The first number that others may use.
pub const FREE_PLACES: usize = 5;

/// Keys in the metatable of a shield; no script has such values.
static REAL: u8 = 0;
static SHOWN_METATABLE: u8 = 0;

/// Prepares the globals of a fresh state. `add` stores further tables of functions into the table on top; they become
/// readonly like everything.
pub fn open(lua: Lua, add: impl FnOnce(Lua)) {
    for library in [Library::Base, Library::Table, Library::String, Library::Math, Library::Os] {
        lua.open_library(library);
        lua.set_top(0);
    }
    lua.push_table(0, 64);
    for name in ALLOWED {
        lua.push_value(GLOBALS);
        lua.raw_field(-1, name);
        lua.remove(-2);
        lua.set_field(-2, name);
    }
    lua.push_value(GLOBALS);
    lua.raw_field(-1, "os");
    lua.push_table(0, 1);
    lua.raw_field(-2, "clock");
    lua.set_field(-2, "clock");
    lua.set_field(1, "os");
    lua.set_top(1);

    set_function(lua, "getmetatable", get_metatable);
    set_function(lua, "setmetatable", set_metatable);
    set_function(lua, "next", next);
    lua.raw_field(1, "next");
    lua.push_function(pairs, 1);
    lua.set_field(1, "pairs");
    set_function(lua, "rawget", raw_get);
    set_function(lua, "rawset", raw_set);
    set_function(lua, "load", load);
    set_function(lua, "loadstring", load_string);
    set_function(lua, "pcall", protected_call);
    set_function(lua, "__redis__err__handler", error_handler);
    lua.raw_field(1, "table");
    set_function(lua, "insert", table_insert);
    set_function(lua, "foreach", table_for_each);
    lua.set_top(1);
    add(lua);
    assert!(lua.top() == 1, "whatever is added leaves the stack as it was");

    shield_tables(lua);
    shield_strings(lua);
    lua.push_table(0, 1);
    set_function(lua, "__index", no_such_global);
    lua.push_value(-1);
    lua.raw_set_index(REGISTRY, MISSING_METATABLE);
    lua.push_value(-1);
    lua.set_metatable(1);
    lua.push_value(1);
    shield(lua);
    // The metatable that scripts see of their globals is readonly too.
    lua.insert(-2);
    shield(lua);
    show_metatable(lua, -2);
    lua.push_value(-1);
    lua.set_field(1, "_G");
    lua.raw_set_index(REGISTRY, SHIELDED_GLOBALS);
    lua.raw_set_index(REGISTRY, REAL_GLOBALS);
    reset_globals(lua);
    assert!(lua.top() == 0, "the globals are in the registry");
}

/// `t[name] = function` of the table on top.
pub fn set_function<F: Fn(Lua) -> Returns + Copy>(lua: Lua, name: &str, function: F) {
    lua.push_function(function, 0);
    lua.set_field(-2, name);
}

/// What compiled code finds as its globals from now on, whatever scripts did to it.
pub fn reset_globals(lua: Lua) {
    lua.raw_get_index(REGISTRY, SHIELDED_GLOBALS);
    lua.replace(GLOBALS);
}

/// Pushes what scripts see as their globals.
pub fn push_globals(lua: Lua) {
    lua.raw_get_index(REGISTRY, SHIELDED_GLOBALS);
}

/// Pushes the real globals, which can be changed.
pub fn push_real_globals(lua: Lua) {
    lua.raw_get_index(REGISTRY, REAL_GLOBALS);
}

/// The table on top gives way to its shield, and what it lacks is an error.
pub fn shield_api(lua: Lua) {
    lua.raw_get_index(REGISTRY, MISSING_METATABLE);
    lua.set_metatable(-2);
    shield(lua);
}

/// From now on the table on top, which it takes, is what scripts find as their globals.
pub fn show_globals(lua: Lua) {
    let table = lua.top();
    lua.raw_get_index(REGISTRY, MISSING_METATABLE);
    lua.set_metatable(table);
    push_globals(lua);
    lua.push_metatable(-1);
    lua.push_value(table);
    lua.set_field(-2, "__index");
    lua.set_top(table - 1);
}

/// The usual globals again.
pub fn show_real_globals(lua: Lua) {
    push_real_globals(lua);
    show_globals(lua);
}

/// Every table in the table at 1 gives way to its shield.
fn shield_tables(lua: Lua) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    lua.push_nil();
    while lua.next(1) {
        if lua.type_of(-1) == Type::Table {
            names.extend(lua.bytes(-2).map(<[u8]>::to_vec));
        }
        lua.pop(1);
    }
    // `redis` and `server` are one table, and have one shield.
    let mut shields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in names {
        lua.push(&name);
        lua.raw_get(1);
        let twin = shields.iter().find(|(_, other)| {
            lua.push(other);
            lua.raw_get(REGISTRY);
            let same = lua.same(-1, -2);
            lua.pop(1);
            same
        });
        if let Some((other, _)) = twin {
            lua.pop(1);
            lua.push(&name);
            lua.push(other);
            lua.raw_get(1);
            lua.raw_set(1);
            continue;
        }
        let kept = [b"real ", &name[..]].concat();
        lua.push(&kept);
        lua.push_value(-2);
        lua.raw_set(REGISTRY);
        shield(lua);
        lua.push(&name);
        lua.insert(-2);
        lua.raw_set(1);
        shields.push((name, kept));
    }
}

/// Methods of strings are found in the real table; `getmetatable('')` shows the shield.
fn shield_strings(lua: Lua) {
    lua.push_table(0, 1);
    lua.raw_field(1, "string");
    lua.set_field(-2, "__index");
    shield(lua);
    lua.raw_set_index(REGISTRY, STRING_METATABLE);
}

/// The table on top gives way to its shield.
pub fn shield(lua: Lua) {
    lua.push_table(0, 0);
    lua.push_table(0, 3);
    lua.push_value(-3);
    lua.set_field(-2, "__index");
    set_function(lua, "__newindex", refuse_change);
    lua.push_light((&raw const REAL).cast_mut().cast());
    lua.push_value(-4);
    lua.raw_set(-3);
    lua.set_metatable(-2);
    lua.remove(-2);
}

/// The table on top is what `getmetatable` shows of the shield at `index`.
fn show_metatable(lua: Lua, index: c_int) {
    let shield = lua.absolute(index);
    lua.push_metatable(shield);
    lua.push_light((&raw const SHOWN_METATABLE).cast_mut().cast());
    lua.push_value(-3);
    lua.raw_set(-3);
    lua.pop(2);
}

/// If the value is a shield, pushes a field of its metatable.
fn push_behind_shield(lua: Lua, index: c_int, field: &'static u8) -> bool {
    if lua.type_of(index) != Type::Table || !lua.push_metatable(index) {
        return false;
    }
    lua.push_light((&raw const REAL).cast_mut().cast());
    lua.raw_get(-2);
    if lua.type_of(-1) == Type::Nil {
        lua.pop(2);
        return false;
    }
    if !std::ptr::eq(field, &raw const REAL) {
        lua.pop(1);
        lua.push_light((&raw const SHOWN_METATABLE).cast_mut().cast());
        lua.raw_get(-2);
    }
    lua.remove(-2);
    true
}

/// Behind a shield stands the real table.
fn see_through(lua: Lua, index: c_int) {
    if push_behind_shield(lua, index, &REAL) {
        lua.replace(index);
    }
}

/// A value that a script must not change.
pub fn is_shield(lua: Lua, index: c_int) -> bool {
    let shielded = push_behind_shield(lua, index, &REAL);
    if shielded {
        lua.pop(1);
    }
    shielded
}

fn refuse_if_shield(lua: Lua, index: c_int) -> Result<(), Raise> {
    if !is_shield(lua, index) {
        return Ok(());
    }
    lua.push(READONLY.as_bytes());
    Err(Raise::Top)
}

fn check_table(lua: Lua, index: c_int) -> Result<(), Raise> {
    if lua.type_of(index) == Type::Table { Ok(()) } else { Err(Raise::Type(index, c"table")) }
}

fn refuse_change(_: Lua) -> Returns {
    Err(Raise::Text(READONLY.into()))
}

fn no_such_global(lua: Lua) -> Returns {
    let name = match lua.type_of(2) {
        Type::String | Type::Number => String::from_utf8_lossy(lua.c_bytes(2).unwrap_or_default()).into_owned(),
        _ => lua.type_name(2).into(),
    };
    Err(Raise::Text(format!("Script attempted to access nonexistent global variable '{name}'")))
}

fn get_metatable(lua: Lua) -> Returns {
    if lua.type_of(1) == Type::None {
        return Err(Raise::Argument(1, "value expected".into()));
    }
    if lua.type_of(1) == Type::String {
        lua.raw_get_index(REGISTRY, STRING_METATABLE);
    } else if !push_behind_shield(lua, 1, &SHOWN_METATABLE) && !push_metatable_field(lua) {
        lua.push_nil();
    }
    Ok(1)
}

/// The metatable of the value at 1, or what it shows instead.
fn push_metatable_field(lua: Lua) -> bool {
    if !lua.push_metatable(1) {
        return false;
    }
    if lua.raw_field(-1, "__metatable") == Type::Nil {
        lua.pop(1)
    } else {
        lua.remove(-2)
    }
    true
}

fn set_metatable(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    if !matches!(lua.type_of(2), Type::Nil | Type::Table) {
        return Err(Raise::Argument(2, "nil or table expected".into()));
    }
    refuse_if_shield(lua, 1)?;
    lua.set_top(2);
    if lua.push_metatable(1) && lua.raw_field(-1, "__metatable") != Type::Nil {
        return Err(Raise::Text("cannot change a protected metatable".into()));
    }
    lua.set_top(2);
    lua.set_metatable(1);
    Ok(1)
}

fn next(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    lua.set_top(2);
    see_through(lua, 1);
    if lua.next(1) {
        return Ok(2);
    }
    lua.push_nil();
    Ok(1)
}

fn pairs(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    lua.push_value(upvalue(1));
    lua.push_value(1);
    lua.push_nil();
    Ok(3)
}

fn raw_get(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    if lua.type_of(2) == Type::None {
        return Err(Raise::Argument(2, "value expected".into()));
    }
    lua.set_top(2);
    see_through(lua, 1);
    lua.raw_get(1);
    Ok(1)
}

fn raw_set(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    for index in 2..=3 {
        if lua.type_of(index) == Type::None {
            return Err(Raise::Argument(index, "value expected".into()));
        }
    }
    lua.set_top(3);
    refuse_if_shield(lua, 1)?;
    // Lua raises what is wrong with the key.
    lua.raw_set(1);
    Ok(1)
}

fn table_insert(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    refuse_if_shield(lua, 1)?;
    let end = lua.length(1) + 1;
    let at = match lua.top() {
        2 => end as i64,
        3 => {
            let Some(at) = lua.number(2) else { return Err(Raise::Type(2, c"number")) };
            let at = i64::from(at as i64 as i32);
            for index in ((at + 1)..=(end as i64).max(at)).rev() {
                lua.raw_get_index(1, (index - 1) as usize);
                lua.raw_set_index(1, index as usize);
            }
            at
        }
        _ => return Err(Raise::Text("wrong number of arguments to 'insert'".into())),
    };
    lua.raw_set_index(1, at as usize);
    Ok(0)
}

fn table_for_each(lua: Lua) -> Returns {
    check_table(lua, 1)?;
    if lua.type_of(2) != Type::Function {
        return Err(Raise::Type(2, c"function"));
    }
    see_through(lua, 1);
    lua.push_nil();
    while lua.next(1) {
        lua.push_value(2);
        lua.push_value(-3);
        lua.push_value(-3);
        lua.call(2, 1);
        if lua.type_of(-1) != Type::Nil {
            return Ok(1);
        }
        lua.pop(2);
    }
    Ok(0)
}

fn load_string(lua: Lua) -> Returns {
    let Some(text) = lua.bytes(1) else { return Err(Raise::Type(1, c"string")) };
    let name = match lua.type_of(2) {
        Type::None | Type::Nil => lua.c_bytes(1),
        _ => lua.c_bytes(2),
    };
    let Some(name) = name else { return Err(Raise::Type(2, c"string")) };
    load_text(lua, text, name)
}

fn load(lua: Lua) -> Returns {
    if lua.type_of(1) != Type::Function {
        return Err(Raise::Type(1, c"function"));
    }
    lua.set_top(3);
    // The pieces are collected on the stack, as what the function raises must find nothing to drop.
    lua.push(b"");
    loop {
        lua.push_value(1);
        lua.call(0, 1);
        match lua.type_of(-1) {
            Type::Nil => break,
            Type::String | Type::Number => {}
            _ => return Err(Raise::Text("reader function must return a string".into())),
        }
        if lua.bytes(-1).is_some_and(<[u8]>::is_empty) {
            break;
        }
        let both = [lua.bytes(-2).unwrap_or_default(), lua.bytes(-1).unwrap_or_default()].concat();
        lua.set_top(3);
        lua.push(&both);
    }
    lua.set_top(4);
    let name = if lua.type_of(2) == Type::Nil { &b"=(load)"[..] } else { lua.c_bytes(2).unwrap_or(b"=(load)") };
    load_text(lua, lua.bytes(4).unwrap_or_default(), name)
}

fn load_text(lua: Lua, text: &[u8], name: &[u8]) -> Returns {
    let name = CString::new(name).unwrap_or_default();
    if lua.load(text, &name).is_ok() {
        return Ok(1);
    }
    lua.push_nil();
    lua.insert(-2);
    Ok(2)
}

/// `pcall`, but that an error table of ours comes out as its text, as in the days before there were such tables.
fn protected_call(lua: Lua) -> Returns {
    if lua.type_of(1) == Type::None {
        return Err(Raise::Argument(1, "value expected".into()));
    }
    lua.push_boolean(true);
    lua.insert(1);
    if lua.call_protected(lua.top() - 2, MULTIPLE, 0).is_ok() {
        return Ok(lua.top());
    }
    lua.push_boolean(false);
    lua.replace(1);
    if lua.type_of(-1) == Type::Table && !is_shield(lua, -1) {
        match lua.raw_field(-1, "err") {
            Type::String | Type::Number => lua.replace(-2),
            _ => lua.pop(1),
        }
    }
    lua.insert(2);
    lua.set_top(2);
    Ok(2)
}

/// Makes every error a table with the text, and the place in the script where it happened.
pub fn error_handler(lua: Lua) -> Returns {
    let mut place = lua.place(1);
    if place.as_ref().is_some_and(|place| place.is_native) {
        place = lua.place(2);
    }
    if lua.type_of(1) != Type::Table {
        let text = match lua.type_of(1) {
            Type::Nil | Type::None => b"nil".to_vec(),
            Type::Boolean => lua.boolean(1).to_string().into_bytes(),
            _ => match lua.bytes(1) {
                Some(bytes) => bytes.to_vec(),
                None => format!("{}: {:p}", lua.type_name(1), lua.pointer(1)).into_bytes(),
            },
        };
        lua.push_table(0, 3);
        lua.push(&[b"ERR ", &text[..]].concat());
        lua.set_field(-2, "err");
        lua.replace(1);
        lua.set_top(1);
    }
    if let Some(place) = place.filter(|_| !is_shield(lua, 1)) {
        lua.push(&place.source);
        lua.set_field(1, "source");
        lua.push_number(f64::from(place.line));
        lua.set_field(1, "line");
    }
    lua.set_top(1);
    Ok(1)
}
