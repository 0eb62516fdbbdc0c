//! COMMAND: what the server can do, told from the declarations of its commands.
//!
//! Plain functions from specs to a reply, in the forms and the field order of Redis, which clients rely on: flags, tips
//! and key specs are sets, arguments arrays, the rest maps. Arity and unknown subcommands are the gate's business.

use crate::base::glob;
use crate::command::spec::{Arg, ArgKind, BeginSearch, Categories, FindKeys, KeyFlags, KeyRange, KeyRefs, KeySpec};
use crate::command::spec::{NO_MANDATORY_KEYS, Spec, has_keys, keys_reported};
use crate::resp::reply::Reply;

const SYNTAX_ERROR: &str = "ERR syntax error";

/// COMMAND, and COMMAND INFO without names.
pub fn info_all(specs: &[&'static Spec], reply: &mut Reply) {
    reply.array(specs.len());
    for spec in specs {
        write_info(spec, reply);
    }
}

/// COMMAND INFO name [name ...]; `config|get` names a subcommand.
pub fn info(specs: &[&'static Spec], names: &[&[u8]], reply: &mut Reply) {
    reply.array(names.len());
    for name in names {
        match by_full_name(specs, name) {
            Some(spec) => write_info(spec, reply),
            None => reply.null(),
        }
    }
}

/// COMMAND COUNT
pub fn count(specs: &[&'static Spec], reply: &mut Reply) {
    reply.integer(specs.len() as i64);
}

/// COMMAND DOCS without names.
pub fn docs_all(specs: &[&'static Spec], reply: &mut Reply) {
    write_docs_map(specs.iter().copied(), reply);
}

/// COMMAND DOCS name [name ...]; unknown names are left out.
pub fn docs(specs: &[&'static Spec], names: &[&[u8]], reply: &mut Reply) {
    write_docs_map(names.iter().filter_map(|name| by_full_name(specs, name)), reply);
}

/// COMMAND LIST [FILTERBY MODULE module | ACLCAT category | PATTERN pattern]: commands and subcommands, by full name.
pub fn list(specs: &[&'static Spec], filter: &[&[u8]], reply: &mut Reply) -> Result<(), &'static str> {
    let all = || specs.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    match filter {
        [] => write_names(all(), reply),
        [filterby, kind, value] if filterby.eq_ignore_ascii_case(b"FILTERBY") => {
            if kind.eq_ignore_ascii_case(b"MODULE") {
                // No command comes from a module.
                write_names(std::iter::empty(), reply)
            } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
                let category = Categories::by_name(value);
                write_names(all().filter(|spec| category.is_some_and(|c| spec.all_categories().has(c))), reply)
            } else if kind.eq_ignore_ascii_case(b"PATTERN") {
                write_names(all().filter(|spec| glob::matches(value, spec.name.as_bytes(), true)), reply)
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        _ => return Err(SYNTAX_ERROR),
    }
    Ok(())
}

/// COMMAND GETKEYS command [argument ...]
pub fn getkeys(specs: &[&'static Spec], words: &[&[u8]], reply: &mut Reply) -> Result<(), &'static str> {
    let keys = keys_of_words(specs, words)?;
    reply.array(keys.len());
    for key in keys {
        reply.bulk(words[key.index as usize]);
    }
    Ok(())
}

/// COMMAND GETKEYSANDFLAGS command [argument ...]
pub fn getkeysandflags(specs: &[&'static Spec], words: &[&[u8]], reply: &mut Reply) -> Result<(), &'static str> {
    let keys = keys_of_words(specs, words)?;
    reply.array(keys.len());
    for key in keys {
        reply.array(2);
        reply.bulk(words[key.index as usize]);
        write_set(key.flags.names(), reply);
    }
    Ok(())
}

/// COMMAND HELP
pub const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full command.",
    "HELP",
    "    Print this help.",
];

/// Finds `get` or `config|get`.
fn by_full_name(specs: &[&'static Spec], name: &[u8]) -> Option<&'static Spec> {
    let mut parts = name.split(|&byte| byte == b'|');
    let command = command_named(specs, parts.next()?)?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(command),
        (Some(subcommand), None) => command.subcommand(subcommand),
        (Some(_), Some(_)) => None,
    }
}

/// Finds the command, or subcommand, that `words` call.
fn by_words(specs: &[&'static Spec], words: &[&[u8]]) -> Option<&'static Spec> {
    let command = command_named(specs, words.first()?)?;
    match words.get(1) {
        Some(subcommand) if !command.subcommands.is_empty() => command.subcommand(subcommand),
        _ => Some(command),
    }
}

fn command_named(specs: &[&'static Spec], name: &[u8]) -> Option<&'static Spec> {
    specs.iter().copied().find(|spec| spec.is_named(name))
}

fn keys_of_words(specs: &[&'static Spec], words: &[&[u8]]) -> Result<KeyRefs, &'static str> {
    let spec = by_words(specs, words).ok_or("ERR Invalid command specified")?;
    if !has_keys(spec) {
        return Err("ERR The command has no key arguments");
    }
    if !spec.arity.allows(words.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    let keys = keys_reported(spec, words).unwrap_or_default();
    if keys.is_empty() && !spec.flags.has(NO_MANDATORY_KEYS) {
        return Err("ERR Invalid arguments specified for command");
    }
    Ok(keys)
}

fn write_names(specs: impl Iterator<Item = &'static Spec> + Clone, reply: &mut Reply) {
    reply.array(specs.clone().count());
    for spec in specs {
        reply.bulk(spec.name.as_bytes());
    }
}

fn write_info(spec: &Spec, reply: &mut Reply) {
    let range = KeyRange::of(spec.keys);
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(spec.arity.number());
    write_set(spec.all_flags().names(), reply);
    reply.integer(range.first);
    reply.integer(range.last);
    reply.integer(range.step);
    let categories = spec.all_categories();
    reply.set(categories.names().count());
    for name in categories.names() {
        reply.simple_prefixed("@", name);
    }
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(spec.keys.len());
    for keys in spec.keys {
        write_key_spec(keys, reply);
    }
    if spec.subcommands.is_empty() {
        reply.set(0);
        return;
    }
    reply.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        write_info(subcommand, reply);
    }
}

/// A set of names, as status replies.
fn write_set(names: impl Iterator<Item = &'static str> + Clone, reply: &mut Reply) {
    reply.set(names.clone().count());
    for name in names {
        reply.simple(name);
    }
}

fn write_key_spec(keys: &KeySpec, reply: &mut Reply) {
    let fields = [
        text("notes", keys.notes),
        Some(("flags", Value::KeyFlags(keys.flags))),
        Some(("begin_search", Value::BeginSearch(keys.begin))),
        Some(("find_keys", Value::FindKeys(keys.find))),
    ];
    write_map(fields, reply);
}

fn write_docs(spec: &Spec, reply: &mut Reply) {
    let doc_flags = DocFlags { deprecated: spec.deprecated.is_some(), system: spec.system };
    let fields = [
        text("summary", spec.summary),
        text("since", spec.since),
        text("group", spec.group.name()),
        text("complexity", spec.complexity),
        doc_flags.names().next().map(|_| ("doc_flags", Value::DocFlags(doc_flags))),
        spec.deprecated.and_then(|deprecated| text("deprecated_since", deprecated.since)),
        spec.deprecated.and_then(|deprecated| text("replaced_by", deprecated.replaced_by)),
        (!spec.history.is_empty()).then_some(("history", Value::History(spec.history))),
        (!spec.args.is_empty()).then_some(("arguments", Value::Args(spec.args))),
        (!spec.subcommands.is_empty()).then_some(("subcommands", Value::Docs(spec.subcommands))),
    ];
    write_map(fields, reply);
}

fn write_arg(arg: &Arg, reply: &mut Reply) {
    let lower_token = arg.token.map(Value::LowerCase);
    let name = arg.name.map(Value::Text).or(lower_token);
    let display = arg.display.map(Value::Text).or(name);
    let leaf = !matches!(arg.kind, ArgKind::OneOf | ArgKind::Block);
    let flags = ArgFlags { optional: arg.optional, multiple: arg.multiple, multiple_token: arg.multiple_token };
    let fields = [
        name.map(|name| ("name", name)),
        text("type", arg.kind.name()),
        display.filter(|_| leaf).map(|display| ("display_text", display)),
        arg.key_spec.map(|index| ("key_spec_index", Value::Integer(index.into()))),
        // The empty string is a token too: MIGRATE's key, when KEYS follows.
        arg.token.map(|token| ("token", Value::Text(token))),
        text("since", arg.since),
        text("deprecated_since", arg.deprecated_since),
        flags.names().next().map(|_| ("flags", Value::ArgFlags(flags))),
        (!arg.args.is_empty()).then_some(("arguments", Value::Args(arg.args))),
    ];
    write_map(fields, reply);
}

/// What may stand in a field of a map.
#[derive(Clone, Copy)]
enum Value {
    Text(&'static str),
    LowerCase(&'static str),
    Integer(i64),
    KeyFlags(KeyFlags),
    BeginSearch(BeginSearch),
    FindKeys(FindKeys),
    DocFlags(DocFlags),
    History(&'static [(&'static str, &'static str)]),
    Args(&'static [Arg]),
    ArgFlags(ArgFlags),
    Docs(&'static [Spec]),
}

#[derive(Clone, Copy)]
struct DocFlags {
    deprecated: bool,
    system: bool,
}

impl DocFlags {
    fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        [self.deprecated.then_some("deprecated"), self.system.then_some("syscmd")].into_iter().flatten()
    }
}

#[derive(Clone, Copy)]
struct ArgFlags {
    optional: bool,
    multiple: bool,
    multiple_token: bool,
}

impl ArgFlags {
    fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        let multiple_token = self.multiple_token.then_some("multiple_token");
        [self.optional.then_some("optional"), self.multiple.then_some("multiple"), multiple_token].into_iter().flatten()
    }
}

type Field = Option<(&'static str, Value)>;

/// A field that is left out if empty.
fn text(name: &'static str, text: &'static str) -> Field {
    (!text.is_empty()).then_some((name, Value::Text(text)))
}

fn write_map<const N: usize>(fields: [Field; N], reply: &mut Reply) {
    reply.map(fields.iter().flatten().count());
    for (name, value) in fields.into_iter().flatten() {
        reply.bulk(name.as_bytes());
        write_value(value, reply);
    }
}

fn write_value(value: Value, reply: &mut Reply) {
    match value {
        Value::Text(text) => reply.bulk(text.as_bytes()),
        Value::LowerCase(text) => reply.bulk(text.to_ascii_lowercase().as_bytes()),
        Value::Integer(integer) => reply.integer(integer),
        Value::KeyFlags(flags) => write_set(flags.names(), reply),
        Value::DocFlags(flags) => write_set(flags.names(), reply),
        Value::ArgFlags(flags) => write_set(flags.names(), reply),
        Value::BeginSearch(BeginSearch::Index(index)) => write_search("index", [("index", index.into())], reply),
        Value::BeginSearch(BeginSearch::Keyword { keyword, start_from }) => {
            let spec = [text("keyword", keyword), Some(("startfrom", Value::Integer(start_from.into())))];
            write_search_head("keyword", reply);
            write_map(spec, reply);
        }
        Value::FindKeys(FindKeys::Range { last, step, limit }) => {
            let spec = [("lastkey", last.into()), ("keystep", step.into()), ("limit", limit.into())];
            write_search("range", spec, reply);
        }
        Value::FindKeys(FindKeys::Counted { number, first, step }) => {
            let spec = [("keynumidx", number.into()), ("firstkey", first.into()), ("keystep", step.into())];
            write_search("keynum", spec, reply);
        }
        Value::BeginSearch(BeginSearch::Unknown) | Value::FindKeys(FindKeys::Unknown) => {
            write_search("unknown", [], reply);
        }
        Value::History(history) => {
            reply.set(history.len());
            for (version, change) in history {
                reply.array(2);
                reply.bulk(version.as_bytes());
                reply.bulk(change.as_bytes());
            }
        }
        Value::Args(args) => {
            reply.array(args.len());
            for arg in args {
                write_arg(arg, reply);
            }
        }
        Value::Docs(specs) => write_docs_map(specs.iter(), reply),
    }
}

fn write_search<const N: usize>(kind: &str, spec: [(&'static str, i64); N], reply: &mut Reply) {
    write_search_head(kind, reply);
    write_map(spec.map(|(name, number)| Some((name, Value::Integer(number)))), reply);
}

/// Both halves of a key spec are a type and, next, what belongs to the type.
fn write_search_head(kind: &str, reply: &mut Reply) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
}

fn write_docs_map(specs: impl Iterator<Item = &'static Spec> + Clone, reply: &mut Reply) {
    reply.map(specs.clone().count());
    for spec in specs {
        reply.bulk(spec.name.as_bytes());
        write_docs(spec, reply);
    }
}
