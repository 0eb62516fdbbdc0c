//! Reads the configuration as Redis does: a file, then standard input, then the command line's options, which become
//! lines of the same text. The last word on a directive wins.
//!
//! Files are reached through `Files` alone, so that tests and fuzzing read from memory.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::directives::{Config, Directive, FILE_ONLY, FileOnly};
use super::value::Reason;
use crate::base::{glob, quoting};

/// Files that include one another go no deeper; beyond it loading fails. (Redis recurses until it crashes.)
const INCLUDE_DEPTH_MAX: usize = 16;

/// The version in error texts: that of the Redis whose behaviour this is.
pub const REDIS_VERSION: &str = "7.2.4";

/// Where files come from.
pub trait Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;
}

/// The file system.
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
    }
}

/// What the command line asks for: `[file] [-] [--directive word…]…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    pub file: Option<PathBuf>,
    /// A `-`, first or last: standard input is read too.
    pub stdin: bool,
    /// The options as lines of a config file.
    pub options: Vec<u8>,
}

impl CommandLine {
    /// Takes the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> CommandLine {
        let mut arguments: VecDeque<Vec<u8>> = arguments.into_iter().map(OsString::into_vec).collect();
        let mut line = CommandLine::default();
        match arguments.front() {
            Some(first) if first == b"-" => {
                line.stdin = true;
                arguments.pop_front();
            }
            Some(first) if !first.starts_with(b"-") => {
                line.file = arguments.pop_front().map(|path| PathBuf::from(OsString::from_vec(path)));
            }
            Some(_) | None => {}
        }
        // A word that begins with `--` is an option's name only if the option before has a word: `--requirepass --x`.
        let mut name_may_follow = true;
        while let Some(argument) = arguments.pop_front() {
            if argument == b"-" && arguments.is_empty() {
                line.stdin = true;
            } else if let Some(name) = argument.strip_prefix(b"--").filter(|_| name_may_follow) {
                if !line.options.is_empty() {
                    line.options.push(b'\n');
                }
                line.options.extend_from_slice(name);
                line.options.push(b' ');
                // `"--port 6380"` brings its word along.
                name_may_follow = quoting::split(&argument).is_none_or(|words| words.len() != 1);
                // A script that builds `--save` from an empty list means that there are no save points.
                let empty_save = argument.eq_ignore_ascii_case(b"--save")
                    && arguments.front().is_none_or(|next| next.starts_with(b"--"));
                if empty_save {
                    line.options.extend_from_slice(b"\"\"");
                    name_may_follow = true;
                }
            } else {
                quoting::quote(&argument, &mut line.options);
                line.options.push(b' ');
                name_may_follow = true;
            }
        }
        line
    }
}

/// Why loading failed; `Display` is what Redis prints on stderr before it exits with 1.
#[derive(Debug)]
pub enum LoadError {
    Line { number: usize, line: Vec<u8>, reason: Reason },
    Open { path: PathBuf, error: io::Error },
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Line { number, line, reason } => {
                writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***")?;
                writeln!(f, "Reading the configuration file, at line {number}")?;
                writeln!(f, ">>> '{}'", String::from_utf8_lossy(line))?;
                write!(f, "{reason}")
            }
            LoadError::Open { path, error } => {
                let error = error.to_string();
                // C's text of the error has no number behind it.
                let error = error.split(" (os error").next().unwrap_or_default();
                write!(f, "Fatal error, can't open config file '{}': {error}", path.display())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The configuration that a command line asks for. `stdin` is what was read from there, if `command_line` wants it.
pub fn load(command_line: &CommandLine, stdin: &[u8], files: &dyn Files) -> Result<Config, LoadError> {
    let mut loader = Loader { config: Config::default(), files, save_seen: false };
    let mut text = match &command_line.file {
        Some(path) => loader.read(path)?,
        None => Vec::new(),
    };
    text.extend_from_slice(stdin);
    text.push(b'\n');
    text.extend_from_slice(&command_line.options);
    loader.load_text(&text, 0)?;
    Ok(loader.config)
}

struct Loader<'a> {
    config: Config,
    files: &'a dyn Files,
    /// The first `save` of a file replaces the default points, further ones add to it.
    save_seen: bool,
}

impl Loader<'_> {
    /// A file's text, or that of all files that match a pattern, in the order of their names; no match is no text.
    fn read(&self, path: &Path) -> Result<Vec<u8>, LoadError> {
        let open =
            |path: &Path| self.files.read(path).map_err(|error| LoadError::Open { path: path.to_owned(), error });
        if !is_pattern(path.as_os_str()) {
            return open(path);
        }
        let mut text = Vec::new();
        for path in self.expand(path) {
            text.extend(open(&path)?);
        }
        Ok(text)
    }

    /// The paths that match, component by component. Directories that cannot be listed hold no match.
    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for component in pattern.components() {
            let Component::Normal(name) = component else {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            };
            if !is_pattern(name) {
                found.iter_mut().for_each(|path| path.push(name));
                continue;
            }
            found = found.iter().flat_map(|path| self.list_matching(path, name)).collect();
        }
        found
    }

    fn list_matching(&self, directory: &Path, pattern: &OsStr) -> Vec<PathBuf> {
        let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut names = self.files.list(listed).unwrap_or_default();
        // As in a shell, a leading dot is matched by a dot alone.
        let hidden = |name: &[u8]| name.starts_with(b".") && !pattern.as_bytes().starts_with(b".");
        names.retain(|name| !hidden(name.as_bytes()) && glob::matches(pattern.as_bytes(), name.as_bytes(), false));
        names.sort_unstable();
        names.into_iter().map(|name| directory.join(name)).collect()
    }

    fn load_text(&mut self, text: &[u8], depth: usize) -> Result<(), LoadError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = trim(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.load_line(line, depth).map_err(|failure| match failure {
                Failure::Here(reason) => LoadError::Line { number: index + 1, line: line.to_vec(), reason },
                Failure::Included(error) => error,
            })?;
        }
        Ok(())
    }

    fn load_line(&mut self, line: &[u8], depth: usize) -> Result<(), Failure> {
        let words = quoting::split(line).ok_or("Unbalanced quotes in configuration line")?;
        let Some((name, words)) = words.split_first() else { return Ok(()) };
        match Directive::find(name) {
            Some(directive) => Ok(self.assign(directive, words)?),
            None => self.load_file_only(name, words, depth),
        }
    }

    fn assign(&mut self, directive: &Directive, words: &[Vec<u8>]) -> Result<(), Reason> {
        if !directive.takes_words() {
            return match words {
                [_] => self.config.assign(directive, words),
                _ => Err("wrong number of arguments".to_owned()),
            };
        }
        // `save "900 1"` is `save 900 1`.
        let split = match words {
            [word] if !word.is_empty() => quoting::split(word).ok_or("Unbalanced quotes in configuration line")?,
            words => words.to_vec(),
        };
        let mut earlier = Vec::new();
        if directive.name == "save" {
            let adds = self.save_seen && split.iter().any(|word| !word.is_empty());
            if adds {
                earlier = self.config.save.clone();
            }
            self.save_seen = true;
        }
        self.config.assign(directive, &split)?;
        self.config.save.splice(0..0, earlier);
        Ok(())
    }

    /// The lines that are no directives.
    fn load_file_only(&mut self, name: &[u8], words: &[Vec<u8>], depth: usize) -> Result<(), Failure> {
        let kind =
            FILE_ONLY.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
        match (kind, words) {
            (Some(FileOnly::Include), [path]) => {
                if depth == INCLUDE_DEPTH_MAX {
                    return Err(Failure::Here(format!("more than {INCLUDE_DEPTH_MAX} files include one another")));
                }
                let text = self.read(Path::new(OsStr::from_bytes(path)))?;
                Ok(self.load_text(&text, depth + 1)?)
            }
            (Some(FileOnly::Refused(topic)), [_, ..]) => Err(Failure::Here(topic.refusal())),
            (Some(FileOnly::NeverModules), [_, ..]) => Err(Failure::Here("modules are not supported".to_owned())),
            (Some(FileOnly::NotSentinel), [_, ..]) => {
                Err(Failure::Here("sentinel directive while not in sentinel mode".to_owned()))
            }
            (Some(FileOnly::Forgotten), [_]) => Ok(()),
            _ => Err(Failure::Here("Bad directive or wrong number of arguments".to_owned())),
        }
    }
}

/// A line's own fault, or that of a file it includes.
enum Failure {
    Here(Reason),
    Included(LoadError),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Failure {
        Failure::Here(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Failure {
        Failure::Here(reason.to_owned())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::Included(error)
    }
}

fn is_pattern(path: &OsStr) -> bool {
    path.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// A line without the blanks around it.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| b" \t\r\n".contains(byte);
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files in memory: path and text.
    struct Memory(&'static [(&'static str, &'static str)]);

    impl Files for Memory {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let file = self.0.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| text.as_bytes().to_vec()).ok_or(io::Error::from_raw_os_error(libc::ENOENT))
        }

        fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
            let children = self.0.iter().filter_map(|(name, _)| Path::new(name).strip_prefix(directory).ok());
            Ok(children.filter_map(|rest| rest.components().next()).map(|name| name.as_os_str().to_owned()).collect())
        }
    }

    const NO_FILES: Memory = Memory(&[]);

    fn command_line(arguments: &str) -> CommandLine {
        let words = quoting::split(arguments.as_bytes()).unwrap();
        CommandLine::parse(words.into_iter().map(OsString::from_vec))
    }

    fn load_text(text: &str) -> Result<Config, LoadError> {
        load(&CommandLine::default(), text.as_bytes(), &NO_FILES)
    }

    /// Loads `text` and shows one directive, or the error's last line.
    #[track_caller]
    fn check(text: &str, name: &str, expected: &str) {
        let shown = match load_text(text) {
            Ok(config) => String::from_utf8(config.get(name.as_bytes()).unwrap()).unwrap(),
            Err(error) => error.to_string().lines().last().unwrap().to_owned(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn lines_comments_quotes_and_case() {
        check("# port 1\n\n  PORT 6380  \r\n", "port", "6380");
        check("requirepass \"a b\\x41\"", "requirepass", "a bA");
        check("port 1\nport 2", "port", "2");
        check("slave-priority 7", "replica-priority", "7");
        check("auto-aof-rewrite-min-size 1gb", "auto-aof-rewrite-min-size", "1073741824");
    }

    #[test]
    fn directives_of_many_words() {
        check("bind 127.0.0.1 -::1", "bind", "127.0.0.1 -::1");
        check("bind \"127.0.0.1 -::1\"", "bind", "127.0.0.1 -::1");
        check("save 900 1\nsave 300 10", "save", "900 1 300 10");
        check("save \"900 1 300 10\"", "save", "900 1 300 10");
        check("save 900 1\nsave \"\"", "save", "");
        check("save \"\"\nsave 5 6", "save", "5 6");
        let limits = "normal 1024 0 0 slave 268435456 67108864 60 pubsub 1 1 1";
        check(
            "client-output-buffer-limit normal 1kb 0 0\nclient-output-buffer-limit pubsub 1 1 1",
            "client-output-buffer-limit",
            limits,
        );
    }

    #[test]
    fn bad_lines() {
        for (text, reason) in [
            ("foo bar", "Bad directive or wrong number of arguments"),
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("port abc", "argument couldn't be parsed into an integer"),
            ("port \"1", "Unbalanced quotes in configuration line"),
            ("save 900", "Invalid save parameters"),
            ("include", "Bad directive or wrong number of arguments"),
            ("sentinel monitor a b", "sentinel directive while not in sentinel mode"),
            ("user alice on", "not supported yet, it comes with access control lists"),
            ("loadmodule a.so", "modules are not supported"),
        ] {
            check(text, "port", reason);
        }
        check("lua-replicate-commands yes\nappendonly no", "port", "6379");
    }

    #[test]
    fn errors_show_the_line() {
        let error = load(&command_line("--port 6380 --save --foo x"), b"", &NO_FILES).err().unwrap();
        let expected = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n\
                        Reading the configuration file, at line 4\n\
                        >>> 'foo \"x\"'\n\
                        Bad directive or wrong number of arguments";
        assert_eq!(error.to_string(), expected);
        let error = load(&command_line("nosuch.conf"), b"", &NO_FILES).err().unwrap();
        assert_eq!(error.to_string(), "Fatal error, can't open config file 'nosuch.conf': No such file or directory");
    }

    #[test]
    fn command_lines() {
        let line = command_line("/etc/p.conf --port 6380 --save 900 1 --requirepass x");
        assert_eq!(line.file.as_deref(), Some(Path::new("/etc/p.conf")));
        assert_eq!(line.options, b"port \"6380\" \nsave \"900\" \"1\" \nrequirepass \"x\" ");
        for (arguments, options) in [
            ("--save --port 1", "save \"\"\nport \"1\" "),
            ("--port 1 --save", "port \"1\" \nsave \"\""),
            ("--save ''", "save \"\" "),
            ("--requirepass --port", "requirepass \"--port\" "),
            ("\"--port 1\" --hz 2", "port 1 \nhz \"2\" "),
        ] {
            assert_eq!(String::from_utf8(command_line(arguments).options).unwrap(), options, "{arguments}");
        }
        for (arguments, stdin, file) in
            [("-", true, false), ("- --port 1", true, false), ("a.conf -", true, true), ("a.conf", false, true)]
        {
            let line = command_line(arguments);
            assert_eq!((line.stdin, line.file.is_some()), (stdin, file), "{arguments}");
        }
    }

    #[test]
    fn file_then_stdin_then_options() {
        let files = Memory(&[("a.conf", "port 1\nhz 11\ntimeout 1\n")]);
        let config = load(&command_line("a.conf --timeout 3"), b"hz 12\ntimeout 2\n", &files).ok().unwrap();
        assert_eq!((config.port, config.hz, config.timeout), (1, 12, 3));
    }

    #[test]
    fn includes_and_their_patterns() {
        let files = Memory(&[
            ("main.conf", "include conf.d/*.conf\ninclude none*\ninclude /etc/*/x\ntimeout 9"),
            ("conf.d/2.conf", "port 2\n"),
            ("conf.d/1.conf", "port 1\nhz 20\n"),
            ("conf.d/.3.conf", "port 3\n"),
            ("conf.d/4.txt", "port 4\n"),
            ("/etc/a/x", "databases 3"),
            ("loop.conf", "include loop.conf"),
            ("bad.conf", "include worse.conf"),
            ("worse.conf", "\n\nfoo"),
        ]);
        let config = load(&command_line("main.conf"), b"", &files).ok().unwrap();
        assert_eq!((config.port, config.hz, config.timeout, config.databases), (2, 20, 9, 3));
        let failure = |path: &str| load(&command_line(path), b"", &files).err().unwrap().to_string();
        assert!(failure("loop.conf").ends_with("more than 16 files include one another"));
        assert!(failure("bad.conf").contains("at line 3\n>>> 'foo'\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text: Vec<u8>, arguments: Vec<Vec<u8>>) {
            let line = CommandLine::parse(arguments.into_iter().map(OsString::from_vec));
            let _ = load(&CommandLine { file: None, ..line }, &text, &NO_FILES);
        }

        #[test]
        fn any_words_are_safe(name in prop::sample::select(names()), words in "[a-z0-9 \"'\\\\-]{0,30}") {
            let _ = load_text(&format!("{name} {words}"));
        }
    }

    fn names() -> Vec<&'static str> {
        use super::super::directives::DIRECTIVES;
        DIRECTIVES.iter().flat_map(Directive::names).chain(FILE_ONLY.iter().map(|(name, _)| *name)).collect()
    }
}
