//! COMMAND: what the server can do, told from the declarations of its commands.
//!
//! Plain functions from specs to a reply, in the forms and the field order of Redis, which clients rely on: flags, tips
//! and key specs are sets, arguments arrays, the rest maps. Arity and unknown subcommands are the gate's business.

use super::ctx::{AdminCtx, AdminFn, AdminRow, Outcome};
use super::write_help;
use crate::base::glob;
use crate::command::args::Args;
use crate::command::error::{self, Error};
use crate::command::spec::*;
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const SERVER: Spec = Spec { group: Group::Server, shape: Shape::Here, ..Spec::DEFAULT };

pub const ROWS: &[AdminRow] = &[Row {
    run: command as AdminFn,
    spec: Spec {
        name: "command",
        arity: AtLeast(1),
        flags: LOADING.and(STALE),
        categories: category::CONNECTION,
        since: "2.8.13",
        complexity: "O(N) where N is the number of commands.",
        summary: "Describes all commands.",
        subcommands: &[
            Spec {
                name: "command|count",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "2.8.13",
                complexity: "O(1)",
                summary: "Counts the commands.",
                ..SERVER
            },
            Spec {
                name: "command|docs",
                arity: AtLeast(2),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "7.0.0",
                complexity: "O(N) where N is the number of commands asked for.",
                summary: "Documents commands.",
                args: &[string("command-name").optional().multiple()],
                tips: &["nondeterministic_output_order"],
                ..SERVER
            },
            Spec {
                name: "command|getkeys",
                arity: AtLeast(3),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "2.8.13",
                complexity: "O(N) where N is the number of its arguments.",
                summary: "Picks the keys out of a full command.",
                args: &[string("command"), string("arg").optional().multiple()],
                ..SERVER
            },
            Spec {
                name: "command|getkeysandflags",
                arity: AtLeast(3),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "7.0.0",
                complexity: "O(N) where N is the number of its arguments.",
                summary: "Picks the keys out of a full command, and says what it does to them.",
                args: &[string("command"), string("arg").optional().multiple()],
                ..SERVER
            },
            Spec {
                name: "command|help",
                arity: Exactly(2),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Explains the subcommands.",
                ..SERVER
            },
            Spec {
                name: "command|info",
                arity: AtLeast(2),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "2.8.13",
                complexity: "O(N) where N is the number of commands asked for.",
                summary: "Describes commands.",
                args: &[string("command-name").optional().multiple()],
                history: &[("7.0.0", "Allowed to be called with no argument to get info on all commands.")],
                tips: &["nondeterministic_output_order"],
                ..SERVER
            },
            Spec {
                name: "command|list",
                arity: AtLeast(2),
                flags: LOADING.and(STALE),
                categories: category::CONNECTION,
                since: "7.0.0",
                complexity: "O(N) where N is the number of commands.",
                summary: "Lists the names of commands.",
                args: &[one_of(
                    "filterby",
                    &[
                        string("module-name").after("MODULE"),
                        string("category").after("ACLCAT"),
                        pattern("pattern").after("PATTERN"),
                    ],
                )
                .after("FILTERBY")
                .optional()],
                tips: &["nondeterministic_output_order"],
                ..SERVER
            },
        ],
        tips: &["nondeterministic_output_order"],
        ..SERVER
    },
}];

const HELP: &[&str] = &[
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
];

fn command(ctx: &mut AdminCtx, args: &Args, reply: &mut Reply) -> error::Result<Outcome> {
    if args.len() == 1 {
        info_all(ctx.specs, reply);
        return Ok(Outcome::Done);
    }
    let rest = args.from(2);
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"count" => count(ctx.specs, reply),
        b"docs" if rest.is_empty() => docs_all(ctx.specs, reply),
        b"docs" => docs(ctx.specs, rest, reply),
        b"getkeys" => getkeys(ctx.specs, rest, reply).map_err(Error::Text)?,
        b"getkeysandflags" => getkeysandflags(ctx.specs, rest, reply).map_err(Error::Text)?,
        b"help" => write_help("COMMAND", HELP, reply),
        b"info" if rest.is_empty() => info_all(ctx.specs, reply),
        b"info" => info(ctx.specs, rest, reply),
        b"list" => list(ctx.specs, rest, reply).map_err(Error::Text)?,
        other => unreachable!("no such subcommand is declared: {other:?}"),
    }
    Ok(Outcome::Done)
}

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
pub fn by_words(specs: &[&'static Spec], words: &[&[u8]]) -> Option<&'static Spec> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::Protocol;

    const GET: Spec = Spec {
        name: "get",
        arity: Exactly(2),
        flags: READONLY.and(FAST),
        categories: category::STRING,
        group: Group::String,
        keys: &[key_at(1, RO.and(ACCESS))],
        shape: OneShard,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Reads.",
        args: &[key("key")],
        ..Spec::DEFAULT
    };
    const SET: Spec = Spec {
        name: "set",
        arity: AtLeast(3),
        flags: WRITE.and(DENYOOM),
        keys: &[key_at(1, RW.and(VARIABLE_FLAGS)).notes("n")],
        extract: Some(keys_of_set),
        args: &[
            key("key").display("k"),
            one_of("condition", &[token("NX"), token("").named("none").since("7.0.0")]).optional(),
            integer("seconds").after("EX").optional().multiple().multiple_token(),
        ],
        history: &[("2.6.12", "More.")],
        ..GET
    };
    const EVAL: Spec = Spec {
        name: "eval",
        arity: AtLeast(3),
        flags: NO_MANDATORY_KEYS,
        keys: &[keys_counted_at(2, RW)],
        extract: Some(keys_of_eval),
        ..Spec::DEFAULT
    };
    const CONFIG: Spec = Spec {
        name: "config",
        arity: AtLeast(2),
        subcommands: &[
            Spec { name: "config|get", arity: AtLeast(3), flags: ADMIN, tips: &["tip"], ..Spec::DEFAULT },
            Spec { name: "config|help", arity: Exactly(2), ..Spec::DEFAULT },
        ],
        deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "`X`" }),
        system: true,
        group: Group::Server,
        ..Spec::DEFAULT
    };
    const SPECS: &[&Spec] = &[&GET, &SET, &EVAL, &CONFIG];

    /// The reply with spaces for line ends, and without the lengths of bulk strings.
    fn shown(protocol: Protocol, write: impl FnOnce(&mut Reply) -> Result<(), &'static str>) -> String {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, protocol);
        if let Err(error) = write(&mut reply) {
            reply.error(error.as_bytes());
        }
        let text = String::from_utf8(out).expect("replies of these tests are text");
        let lines = text.trim_end().split("\r\n").filter(|line| !line.starts_with('$') || *line == "$-1");
        lines.collect::<Vec<_>>().join(" ")
    }

    fn words(command: &str) -> Vec<&[u8]> {
        command.split_ascii_whitespace().map(str::as_bytes).collect()
    }

    fn check_info(names: &str, resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let written = shown(protocol, |reply| {
                info(SPECS, &words(names), reply);
                Ok(())
            });
            assert_eq!(written, expected, "{names}");
        }
    }

    #[test]
    fn info_tells_what_a_command_is() {
        check_info(
            "GET",
            "*1 *10 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 \
             *1 *6 flags *2 +RO +access begin_search *4 type index spec *2 index :1 \
             find_keys *4 type range spec *6 lastkey :0 keystep :1 limit :0 *0",
            "*1 *10 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@read +@string +@fast ~0 \
             ~1 %3 flags ~2 +RO +access begin_search %2 type index spec %1 index :1 \
             find_keys %2 type range spec %3 lastkey :0 keystep :1 limit :0 ~0",
        );
    }

    #[test]
    fn info_nests_subcommands_and_finds_them_by_full_name() {
        let get = "*10 config|get :-3 *1 +admin :0 :0 :0 *3 +@admin +@slow +@dangerous *1 tip *0 *0";
        let help = "*10 config|help :2 *0 :0 :0 :0 *1 +@slow *0 *0 *0";
        let config = format!("*1 *10 config :-2 *0 :0 :0 :0 *1 +@slow *0 *0 *2 {get} {help}");
        let resp3 =
            config.replace("*0", "~0").replace("*1 +", "~1 +").replace("*3 +", "~3 +").replace("*1 tip", "~1 tip");
        check_info("config", &config, &resp3);
        check_info("CONFIG|HELP", &format!("*1 {help}"), "*1 *10 config|help :2 ~0 :0 :0 :0 ~1 +@slow ~0 ~0 ~0");
    }

    #[test]
    fn info_of_unknown_names_is_null() {
        check_info("nosuch get|key config|get|key", "*3 $-1 $-1 $-1", "*3 _ _ _");
    }

    fn docs_of(name: &str, protocol: Protocol) -> String {
        shown(protocol, |reply| {
            docs(SPECS, &words(name), reply);
            Ok(())
        })
    }

    #[test]
    fn docs_tell_how_a_command_is_written() {
        assert_eq!(
            docs_of("set nosuch", Protocol::Resp3),
            "%1 set %6 summary Reads. since 1.0.0 group string complexity O(1) history ~1 *2 2.6.12 More. arguments *3 \
             %4 name key type key display_text k key_spec_index :0 \
             %4 name condition type oneof flags ~1 +optional arguments *2 \
             %4 name nx type pure-token display_text nx token NX \
             %5 name none type pure-token display_text none token  since 7.0.0 \
             %5 name seconds type integer display_text seconds token EX flags ~3 +optional +multiple +multiple_token"
        );
        assert_eq!(
            docs_of("get", Protocol::Resp2),
            "*2 get *10 summary Reads. since 1.0.0 group string complexity O(1) \
             arguments *1 *8 name key type key display_text key key_spec_index :0"
        );
    }

    #[test]
    fn docs_of_a_deprecated_container() {
        assert_eq!(
            docs_of("config", Protocol::Resp3),
            "%1 config %5 group server doc_flags ~2 +deprecated +syscmd deprecated_since 7.2.0 replaced_by `X` \
             subcommands %2 config|get %1 group generic config|help %1 group generic"
        );
    }

    #[test]
    fn lists_are_filtered() {
        let listed = |filter: &str| shown(Protocol::Resp3, |reply| list(SPECS, &words(filter), reply));
        assert_eq!(listed(""), "*6 get set eval config config|get config|help");
        assert_eq!(listed("FILTERBY PATTERN C*G*T"), "*1 config|get");
        assert_eq!(listed("filterby aclcat WRITE"), "*1 set");
        assert_eq!(listed("FILTERBY ACLCAT dangerous"), "*1 config|get");
        assert_eq!(listed("FILTERBY ACLCAT @write"), "*0");
        assert_eq!(listed("FILTERBY MODULE m"), "*0");
        for wrong in ["x", "FILTERBY", "FILTERBY PATTERN", "FILTERBY PATTERN a b", "FILTERBY NAME a"] {
            assert_eq!(listed(wrong), "-ERR syntax error", "{wrong}");
        }
    }

    #[test]
    fn keys_and_flags_of_a_command() {
        let keys = |command: &str| shown(Protocol::Resp2, |reply| getkeys(SPECS, &words(command), reply));
        assert_eq!(keys("get a"), "*1 a");
        assert_eq!(keys("EVAL s 2 a b"), "*2 a b");
        assert_eq!(keys("EVAL s 0"), "*0");
        assert_eq!(keys("nosuch a"), "-ERR Invalid command specified");
        assert_eq!(keys("config nosuch"), "-ERR Invalid command specified");
        assert_eq!(keys("config|get a"), "-ERR Invalid command specified");
        assert_eq!(keys("config get a"), "-ERR The command has no key arguments");
        assert_eq!(keys("get a b"), "-ERR Invalid number of arguments specified for command");
        let flags = |command: &str| shown(Protocol::Resp3, |reply| getkeysandflags(SPECS, &words(command), reply));
        assert_eq!(flags("SET a 1"), "*1 *2 a ~2 +OW +update");
        assert_eq!(flags("SET a 1 GET"), "*1 *2 a ~3 +RW +access +update");
    }
}
