//! The first line of a script or library: `#!lua name=… flags=…`.

use crate::base::quoting;

use super::host::ScriptFlags;

const MARK: &[u8] = b"#!";

/// A script's flags, and where its code begins: at the end of the header's line, so that lines count on from it.
pub fn of_script(body: &[u8]) -> Result<(ScriptFlags, &[u8]), Vec<u8>> {
    if !body.starts_with(MARK) {
        return Ok((ScriptFlags { compatible: true, ..ScriptFlags::default() }, body));
    }
    let Some((line, code)) = split(body) else { return Err(b"Invalid script shebang".to_vec()) };
    let words = quoting::split(line).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(b"Invalid engine in script shebang".to_vec());
    };
    if engine != b"#!lua" {
        return Err([b"Unexpected engine in script shebang: ", &engine[..]].concat());
    }
    let mut flags = ScriptFlags::default();
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err([b"Unknown lua shebang option: ", &option[..]].concat());
        };
        for name in names.split(|&byte| byte == b',').filter(|_| !names.is_empty()) {
            if !flags.set(name) {
                return Err([b"Unexpected flag in script shebang: ", name].concat());
            }
        }
    }
    Ok((flags, code))
}

/// What the header of a library says.
#[derive(Debug)]
pub struct LibraryHeader<'a> {
    pub engine: Vec<u8>,
    pub name: Vec<u8>,
    pub code: &'a [u8],
}

pub fn of_library(body: &[u8]) -> Result<LibraryHeader<'_>, Vec<u8>> {
    if !body.starts_with(MARK) {
        return Err(b"Missing library metadata".to_vec());
    }
    let invalid = || b"Invalid library metadata".to_vec();
    let (line, code) = split(body).ok_or_else(invalid)?;
    let words = quoting::split(line).ok_or_else(invalid)?;
    let (engine, options) = words.split_first().ok_or_else(invalid)?;
    let mut name: Option<Vec<u8>> = None;
    for option in options {
        match option.split_at_checked(5) {
            Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => {
                if name.replace(value.to_vec()).is_some() {
                    return Err(b"Invalid metadata value, name argument was given multiple times".to_vec());
                }
            }
            _ => return Err([b"Invalid metadata value given: ", &option[..]].concat()),
        }
    }
    let name = name.ok_or_else(|| b"Library name was not given".to_vec())?;
    Ok(LibraryHeader { engine: engine[MARK.len()..].to_vec(), name, code })
}

fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    Some(body.split_at(memchr::memchr(b'\n', body)?))
}

/// Names of libraries and functions: letters, digits, underscores.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub const NOT_A_NAME: &str =
    "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        String::from_utf8(of_script(body.as_bytes()).expect_err("refused")).expect("ASCII")
    }

    #[test]
    fn scripts_may_have_a_header() {
        let (flags, code) = of_script(b"return 1").unwrap();
        assert!(flags.compatible && code == b"return 1");
        let (flags, code) = of_script(b"#!lua  flags=no-writes,allow-oom \nreturn 1").unwrap();
        assert!(flags.no_writes && flags.allow_oom && !flags.compatible && code == b"\nreturn 1");
        assert!(!of_script(b"#!lua flags=\n").unwrap().0.no_writes);
        assert_eq!(refused("#!lua"), "Invalid script shebang");
        assert_eq!(refused("#!foo\n"), "Unexpected engine in script shebang: #!foo");
        assert_eq!(refused("#!lua flags=bad\n"), "Unexpected flag in script shebang: bad");
        assert_eq!(refused("#!lua name=x\n"), "Unknown lua shebang option: name=x");
    }

    #[test]
    fn libraries_must_have_one() {
        let library = of_library(b"#!lua NAME=l\nx").unwrap();
        assert_eq!((&library.name[..], &library.engine[..], library.code), (&b"l"[..], &b"lua"[..], &b"\nx"[..]));
        for (body, error) in [
            ("return 1", "Missing library metadata"),
            ("#!lua name=l", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            ("#!lua name=l name=k\n", "Invalid metadata value, name argument was given multiple times"),
            ("#!lua foo=l\n", "Invalid metadata value given: foo=l"),
        ] {
            assert_eq!(of_library(body.as_bytes()).expect_err("refused"), error.as_bytes());
        }
    }
}
