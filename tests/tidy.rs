//! The walls of the house, read from the sources: which module may use which (README, "The map"), where `unsafe` may
//! stand and that it says why, how long a file may be, and that nothing is left to be done later.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, lowest level first; one may use all of lower levels.
const LEVELS: &[&[&str]] = &[
    &["base", "sys"],
    &["resp", "codec", "config"],
    &["data", "script"],
    &["keyspace"],
    &["command"],
    &["engine", "session"],
    &["persist"],
    &["admin"],
    &["dispatch"],
    &["core"],
    &["net", "runtime"],
    &["server", "tool"],
];

/// Uses within one level: user and used.
const SAME_LEVEL: &[(&str, &str)] = &[("runtime", "net"), ("server", "tool")];

/// Modules that may use less than their level gives: each with all that it may.
const NARROW: &[(&str, &[&str])] =
    &[("config", &["base"]), ("codec", &["base"]), ("session", &["base", "resp"]), ("script", &["base", "resp"])];

/// Where `unsafe` is allowed: paths, or beginnings of them.
const UNSAFE: &[&str] = &[
    "src/sys/",
    "src/net/ring/",
    "src/data/dict",
    "src/data/entry",
    "src/script/lua.rs",
    "src/script/context.rs",
    "src/script/coroutine.rs",
    "src/data/zset/member.rs",
    "src/data/zset/ordered.rs",
    // Only its test, which asks the allocator for what the module computes.
    "src/data/size_class.rs",
];

/// How far above an `unsafe` its reason may begin.
const SAFETY_LINES: usize = 6;

const FILE_LINES_MAX: usize = 1200;

/// Longer files, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "FIXME", "TODO"];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines without what stands in comments, numbered from one.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The module of the crate that the file belongs to.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").expect("a file of the library");
        path.split(['/', '.']).next().expect("a path has a first part")
    }
}

#[test]
fn modules_use_lower_levels_only() {
    let sources: Vec<Source> = sources("src")
        .into_iter()
        .filter(|source| !matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs"))
        .collect();
    let listed: BTreeSet<&str> = LEVELS.concat().into_iter().collect();
    let found: BTreeSet<&str> = sources.iter().map(Source::module).collect();
    assert_eq!(found, listed, "a new module gets its level here");

    let mut wrong = Vec::new();
    for source in &sources {
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        let used = modules_used(&code);
        let used = used.iter().filter(|used| !may_use(source.module(), used));
        wrong.extend(used.map(|used| format!("{} uses {used}", source.path)));
    }
    assert_none(&wrong);
}

fn may_use(user: &str, used: &str) -> bool {
    if user == used {
        return true;
    }
    if let Some((_, allowed)) = NARROW.iter().find(|(name, _)| *name == user) {
        return allowed.contains(&used);
    }
    let level = |module| LEVELS.iter().position(|level| level.contains(&module));
    let (Some(user_level), Some(used_level)) = (level(user), level(used)) else { return false };
    used_level < user_level || SAME_LEVEL.contains(&(user, used))
}

/// What follows `crate::`: one name, or the names at the top of a group in braces.
fn modules_used(code: &str) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    for (at, root) in code.match_indices("crate::") {
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(top_of_group(group)),
            None => modules.extend(name(rest)),
        }
    }
    modules
}

/// The first name of each path in a group, whose opening brace stands before `group`.
fn top_of_group(group: &str) -> Vec<&str> {
    let (mut names, mut depth, mut path_from) = (Vec::new(), 0, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                names.extend(name(group[path_from..at].trim()));
                path_from = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> Option<&str> {
    let end = path.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(path.len());
    (end > 0).then_some(&path[..end])
}

#[test]
fn paths_and_groups_are_found() {
    let used = |code| modules_used(code).into_iter().collect::<Vec<_>>();
    assert_eq!(used("use crate::base::glob;\nlet x = crate::resp::parse::parse(y);"), ["base", "resp"]);
    assert_eq!(used("use crate::{admin::{self, config}, base::{glob,\nrng}, engine};"), ["admin", "base", "engine"]);
    assert!(used("use std::fmt;").is_empty());
}

#[test]
fn levels_point_one_way() {
    assert!(may_use("admin", "engine") && may_use("engine", "engine") && may_use("runtime", "net"));
    assert!(!may_use("engine", "admin"), "upwards");
    assert!(!may_use("net", "runtime"), "within a level");
    assert!(!may_use("session", "command"), "below, but not its own");
}

#[test]
fn unsafe_stands_where_it_may_and_says_why() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources("src") {
        let is_allowed = UNSAFE.iter().any(|place| source.path.starts_with(place));
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code() {
            let is_lint = line.contains("allow(unsafe_code)");
            // In the list of modules the lint is lifted for all of `sys`.
            let is_sys = source.path == "src/lib.rs" && lines.get(number) == Some(&"pub mod sys;");
            if is_lint && !is_allowed && !is_sys {
                wrong.push(format!("{}:{number} lifts the lint against unsafe code", source.path));
            }
            if !line.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).any(|word| word == "unsafe") {
                continue;
            }
            seen += 1;
            let above = &lines[number.saturating_sub(SAFETY_LINES + 1)..number];
            if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                wrong.push(format!("{}:{number} has no SAFETY comment: {}", source.path, line.trim()));
            }
        }
    }
    assert!(seen > 0, "found no unsafe code at all");
    assert_none(&wrong);
}

#[test]
fn files_are_of_readable_length() {
    let mut wrong = Vec::new();
    for source in all_sources() {
        let lines = source.text.lines().count();
        let is_listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if (lines > FILE_LINES_MAX) != is_listed {
            wrong.push(format!("{}: {lines} lines, listed as long: {is_listed}", source.path));
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for source in all_sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (index, line) in source.text.lines().enumerate() {
            let marks = UNFINISHED.iter().filter(|mark| line.contains(*mark));
            wrong.extend(marks.map(|mark| format!("{}:{}: {mark}", source.path, index + 1)));
        }
    }
    assert_none(&wrong);
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn all_sources() -> Vec<Source> {
    ["src", "tests", "benches", "loadgen/src", "loadgen/tests", "fuzz/targets"].into_iter().flat_map(sources).collect()
}

/// The Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for path in children(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                let path = path.strip_prefix(root).expect("below the root").to_str().expect("ASCII names").to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty(), "no Rust file below {folder}");
    sources
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry can be read").path()).collect()
}
