//! The error texts that clients match on: equal to Redis's, each in one place.

use std::borrow::Cow;

/// Why a command refused. A command that returns one has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    Syntax,
    WrongType,
    NotAnInteger,
    NotAFloat,
    OutOfRange,
    NoSuchKey,
    Overflow,
    /// A text used in one place only, with its code.
    Text(&'static str),
    /// A text that quotes what the client sent, with its code.
    Dynamic(Box<[u8]>),
}

pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// The reply without its leading dash: code first.
    pub fn text(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(match self {
            Error::Syntax => b"ERR syntax error",
            Error::WrongType => b"WRONGTYPE Operation against a key holding the wrong kind of value",
            Error::NotAnInteger => b"ERR value is not an integer or out of range",
            Error::NotAFloat => b"ERR value is not a valid float",
            Error::OutOfRange => b"ERR index out of range",
            Error::NoSuchKey => b"ERR no such key",
            Error::Overflow => b"ERR increment or decrement would overflow",
            Error::Text(text) => text.as_bytes(),
            Error::Dynamic(text) => text,
        })
    }

    /// The first word: what INFO errorstats counts by.
    pub fn code(&self) -> String {
        code_of(&self.text())
    }

    /// `ERR wrong number of arguments for 'name' command`; `name` may be `container|subcommand`.
    pub fn arity(name: &str) -> Error {
        Error::dynamic(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// `ERR invalid expire time in 'name' command`
    pub fn invalid_expire(name: &str) -> Error {
        Error::dynamic(format!("ERR invalid expire time in '{name}' command"))
    }

    /// `ERR unknown command 'name', with args beginning with: 'a' 'b' `, as much of each as Redis quotes.
    pub fn unknown_command(words: &[&[u8]]) -> Error {
        let mut args = Vec::new();
        for word in &words[1..] {
            if args.len() >= QUOTED_BYTES_MAX {
                break;
            }
            let shown = quoted(word);
            let room = QUOTED_BYTES_MAX - args.len();
            args.extend([b"'", &shown[..shown.len().min(room)], b"' "].concat());
        }
        Error::dynamic([b"ERR unknown command '", name(words[0]), b"', with args beginning with: ", &args].concat())
    }

    /// `ERR unknown subcommand 'name'. Try CONTAINER HELP.`
    pub fn unknown_subcommand(word: &[u8], container: &str) -> Error {
        let container = container.to_uppercase();
        Error::dynamic([b"ERR unknown subcommand '", name(word), b"'. Try ", container.as_bytes(), b" HELP."].concat())
    }

    /// `ERR unknown subcommand or wrong number of arguments for 'name'. Try CONTAINER HELP.`
    pub fn subcommand_syntax(container: &str, word: &[u8]) -> Error {
        let begin = b"ERR unknown subcommand or wrong number of arguments for '";
        Error::dynamic([begin, name(word), b"'. Try ", container.as_bytes(), b" HELP."].concat())
    }

    pub fn dynamic(text: impl Into<Vec<u8>>) -> Error {
        Error::Dynamic(text.into().into_boxed_slice())
    }
}

/// How much Redis quotes of a name, or of all arguments together.
const QUOTED_BYTES_MAX: usize = 128;

/// A name as Redis quotes it.
fn name(word: &[u8]) -> &[u8] {
    let shown = quoted(word);
    &shown[..shown.len().min(QUOTED_BYTES_MAX)]
}

/// A client's word as Redis quotes it in an error: a C string, so that it ends at the first zero byte.
pub fn quoted(word: &[u8]) -> &[u8] {
    word.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The first word of an error reply without its dash.
pub fn code_of(text: &[u8]) -> String {
    let end = text.iter().position(|byte| b" \r".contains(byte)).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

pub const LOADING_DATA: Error = Error::Text("LOADING Redis is loading the dataset in memory");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_quoted_up_to_a_zero_byte() {
        let text = |error: Error| error.text().escape_ascii().to_string();
        assert_eq!(
            text(Error::unknown_command(&[b"fo\0o", b"\xff\0", b"x", &[b'y'; 200], b"z"])),
            format!(
                "ERR unknown command \\'fo\\', with args beginning with: \\'\\xff\\' \\'x\\' \\'{}\\' ",
                "y".repeat(120)
            )
        );
        assert_eq!(
            text(Error::unknown_subcommand(b"\xff\0", "xinfo")),
            "ERR unknown subcommand \\'\\xff\\'. Try XINFO HELP."
        );
    }

    #[test]
    fn a_quoted_word_ends_at_a_zero_byte() {
        assert_eq!([quoted(b"a\0b"), quoted(b"ab"), quoted(b"\0")], [&b"a"[..], b"ab", b""]);
    }
}
