//! Any text loads or is refused; what has loaded is rewritten as a text that loads to the same configuration.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use peristyle::base::quoting;
use peristyle::config::parse::{CommandLine, Files, load};
use peristyle::config::rewrite::{Missing, rewrite};

/// The one file there is includes itself. More would not do: a rewritten file repeats the save points of files that it
/// includes, as Redis's does.
struct Endless;

impl Files for Endless {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == OsStr::new("endless") {
            Ok(b"include endless\n".to_vec())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<OsString>> {
        Ok(vec!["endless".into()])
    }
}

fuzz_target!(|text: &[u8]| {
    if let Some(words) = quoting::split(text) {
        let _ = load(&CommandLine::parse(words.into_iter().map(OsString::from_vec)), b"", &Endless);
    }
    let Ok(config) = load(&CommandLine::default(), text, &Endless) else { return };
    let rewritten = rewrite(text, &config, Missing::Changed);
    let shown = String::from_utf8_lossy(&rewritten);
    let reloaded =
        load(&CommandLine::default(), &rewritten, &Endless).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    for directive in peristyle::config::DIRECTIVES {
        assert_eq!(directive.lines(&reloaded), directive.lines(&config), "{}\n{shown}", directive.name);
    }
    assert!(reloaded == config, "{shown}");
    // The first time again brings the empty line behind the last line's end, as Redis has it.
    let again = rewrite(&rewritten, &reloaded, Missing::Changed);
    assert_eq!(String::from_utf8_lossy(&again).trim_end(), shown.trim_end());
    assert!(rewrite(&again, &reloaded, Missing::Changed) == again, "from then on nothing changes: {shown}");
});
