//! Requests: from the text of a command with placeholders to bytes on the wire, and mixes of such commands by weight.
//!
//! A template is encoded once. Parts whose length is known (names, keys, numbers inside a word) become an image that
//! is copied whole and patched with digits; a word of varying length (`__data__`, `__ttl__`, a bare `__int__`) ends an
//! image and is encoded behind it. So a GET costs one copy and the digits of one key number.

use crate::keys::{KeySequence, write_digits};
use crate::resp::push_decimal;
use crate::rng::Rng;
use crate::values::{Payload, ValueSizes};

/// A number inside a word, such as in `user:__int__`, is padded to this width, as redis-benchmark's `__rand_int__`.
const INT_WIDTH: usize = 12;

/// The commands that go by a name, beside those that the user writes out; key names of the collections are
/// redis-benchmark's.
pub const PRESETS: &[(&str, &str)] = &[
    ("ping_inline", "PING"),
    ("ping", "PING"),
    ("set", "SET __key__ __data__"),
    ("get", "GET __key__"),
    ("getset", "SET __key__ __data__ GET"),
    ("incr", "INCR counter:__key__"),
    ("append", "APPEND __key__ __data__"),
    ("exists", "EXISTS __key__"),
    ("del", "DEL __key__"),
    (
        "mset",
        "MSET __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ \
              __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__",
    ),
    ("mget", "MGET __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__"),
    ("lpush", "LPUSH mylist __data__"),
    ("rpush", "RPUSH mylist __data__"),
    ("lpop", "LPOP mylist"),
    ("rpop", "RPOP mylist"),
    ("lrange_100", "LRANGE mylist 0 99"),
    ("lrange_300", "LRANGE mylist 0 299"),
    ("lrange_600", "LRANGE mylist 0 599"),
    ("sadd", "SADD myset element:__int__"),
    ("spop", "SPOP myset"),
    ("hset", "HSET myhash element:__int__ __data__"),
    ("hget", "HGET myhash element:__int__"),
    ("zadd", "ZADD myzset __int__ element:__int__"),
    ("zpopmin", "ZPOPMIN myzset"),
    ("xadd", "XADD mystream * myfield __data__"),
];

/// Commands whose null replies are misses.
const LOOKUPS: &[&str] =
    &["GET", "MGET", "GETEX", "GETDEL", "HGET", "HMGET", "LINDEX", "LPOP", "RPOP", "SPOP", "SRANDMEMBER", "ZSCORE"];

/// How a key number becomes a key: `prefix` and `width` digits.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    pub prefix: String,
    pub width: usize,
}

/// What a worker draws the variable parts of its requests from.
#[derive(Clone, Debug)]
pub struct Source {
    pub rng: Rng,
    pub keys: KeySequence,
    /// `__int__` is below this.
    pub int_limit: u64,
    pub values: ValueSizes,
    pub payload: Payload,
    /// Seconds, both ends included.
    pub ttl: (u64, u64),
}

#[derive(Clone, Debug)]
pub struct Template {
    pub label: String,
    /// Whether null replies count as misses.
    pub lookup: bool,
    /// Of one request: one for each of its commands.
    pub replies: u32,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Default)]
struct Piece {
    image: Vec<u8>,
    patches: Vec<Patch>,
    then: Option<Variable>,
}

#[derive(Clone, Copy, Debug)]
struct Patch {
    start: usize,
    end: usize,
    number: Number,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Key,
    Int,
}

#[derive(Clone, Copy, Debug)]
enum Variable {
    Data,
    Int,
    Ttl,
}

impl Template {
    /// `name` is a preset; a TTL is added where the command takes one.
    pub fn preset(name: &str, keys: &KeyFormat, with_ttl: bool) -> Result<Template, String> {
        let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) else {
            let names: Vec<&str> = PRESETS.iter().map(|(preset, _)| *preset).collect();
            return Err(format!("no test is named '{name}'; there are {}", names.join(", ")));
        };
        let mut template = match name {
            "ping_inline" => Template {
                label: String::new(),
                lookup: false,
                replies: 1,
                pieces: vec![Piece { image: b"PING\r\n".to_vec(), patches: Vec::new(), then: None }],
            },
            "set" | "getset" if with_ttl => Template::parse(&format!("{text} EX __ttl__"), keys)?,
            _ => Template::parse(text, keys)?,
        };
        template.label = name.to_string();
        Ok(template)
    }

    /// A request of one command, or of several that are sent together, with the word `;` between them.
    pub fn parse(text: &str, keys: &KeyFormat) -> Result<Template, String> {
        let words = split_words(text)?;
        let Some(name) = words.first() else { return Err("a command has at least a name".into()) };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let mut pieces = vec![Piece::default()];
        let mut replies = 0;
        for command in words.split(|word| word == b";") {
            if command.is_empty() {
                return Err(format!("a command is missing beside a ';' in: {text}"));
            }
            replies += 1;
            push_command(command, &mut pieces, keys)?;
        }
        pieces.retain(|piece| !piece.image.is_empty() || piece.then.is_some());
        Ok(Template { lookup: LOOKUPS.contains(&name.as_str()), label: text.to_string(), replies, pieces })
    }

    pub fn render(&self, source: &mut Source, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            let base = out.len();
            out.extend_from_slice(&piece.image);
            for patch in &piece.patches {
                let number = match patch.number {
                    Number::Key => source.keys.next(&mut source.rng),
                    Number::Int => source.rng.below(source.int_limit),
                };
                write_digits(&mut out[base + patch.start..base + patch.end], number);
            }
            match piece.then {
                None => {}
                Some(Variable::Data) => {
                    let size = source.values.next(&mut source.rng);
                    crate::resp::encode_bulk(source.payload.window(size, &mut source.rng), out);
                }
                Some(Variable::Int) => push_number_word(source.rng.below(source.int_limit), out),
                Some(Variable::Ttl) => {
                    let (low, high) = source.ttl;
                    push_number_word(low + source.rng.below(high - low + 1), out);
                }
            }
        }
    }
}

/// Appends a command to the last piece, and pieces behind it.
fn push_command(words: &[Vec<u8>], pieces: &mut Vec<Piece>, keys: &KeyFormat) -> Result<(), String> {
    let first = pieces.last_mut().expect("there is a first piece");
    first.image.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let piece = pieces.last_mut().expect("there is a first piece");
        let variable = match word.as_slice() {
            b"__data__" => Some(Variable::Data),
            b"__int__" => Some(Variable::Int),
            b"__ttl__" => Some(Variable::Ttl),
            _ => None,
        };
        if variable.is_some() {
            piece.then = variable;
            pieces.push(Piece::default());
        } else {
            piece.push_word(word, keys)?;
        }
    }
    Ok(())
}

impl Piece {
    /// A word of fixed length: literal text, with any number of keys and padded numbers in it.
    fn push_word(&mut self, word: &[u8], keys: &KeyFormat) -> Result<(), String> {
        let mut body = Vec::new();
        let mut patches = Vec::new();
        let mut rest = word;
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(b"__key__") {
                body.extend_from_slice(keys.prefix.as_bytes());
                patches.push((body.len(), keys.width, Number::Key));
                body.resize(body.len() + keys.width, b'0');
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix(b"__int__") {
                patches.push((body.len(), INT_WIDTH, Number::Int));
                body.resize(body.len() + INT_WIDTH, b'0');
                rest = behind;
            } else if rest.starts_with(b"__data__") || rest.starts_with(b"__ttl__") {
                return Err(format!("in '{}': __data__ and __ttl__ are words of their own", word.escape_ascii()));
            } else {
                body.push(rest[0]);
                rest = &rest[1..];
            }
        }
        self.image.extend_from_slice(format!("${}\r\n", body.len()).as_bytes());
        let base = self.image.len();
        self.patches.extend(patches.into_iter().map(|(start, width, number)| Patch {
            start: base + start,
            end: base + start + width,
            number,
        }));
        self.image.extend_from_slice(&body);
        self.image.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// A number without leading zeros: servers refuse padded ones where they expect an integer.
fn push_number_word(number: u64, out: &mut Vec<u8>) {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    out.push(b'$');
    push_decimal(u64::from(digits), out);
    out.extend_from_slice(b"\r\n");
    push_decimal(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Words as redis-cli reads them: blanks part them, "..." takes backslash escapes, '...' is literal.
fn split_words(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let mut word = Vec::new();
        match bytes.next() {
            None => return Ok(words),
            Some(quote @ (b'"' | b'\'')) => loop {
                match bytes.next() {
                    None => return Err(format!("a quote is not closed in: {text}")),
                    Some(byte) if byte == quote => break,
                    Some(b'\\') if quote == b'"' => word.push(match bytes.next() {
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(other) => other,
                        None => return Err(format!("a quote is not closed in: {text}")),
                    }),
                    Some(byte) => word.push(byte),
                }
            },
            Some(byte) => {
                word.push(byte);
                while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                    word.push(byte);
                }
            }
        }
        words.push(word);
    }
}

/// Commands and how often each is drawn.
#[derive(Clone, Debug)]
pub struct Mix {
    pub templates: Vec<Template>,
    weight_sums: Vec<u64>,
}

impl Mix {
    pub fn new(weighted: Vec<(Template, u64)>) -> Result<Mix, String> {
        let mut sum = 0u64;
        let mut weight_sums = Vec::new();
        let mut templates = Vec::new();
        for (template, weight) in weighted {
            sum = sum.checked_add(weight).ok_or("the weights are too large")?;
            weight_sums.push(sum);
            templates.push(template);
        }
        if sum == 0 {
            return Err("a mix needs a command with a weight above 0".into());
        }
        if templates.len() > usize::from(u16::MAX) {
            return Err("a mix holds at most 65535 commands".into());
        }
        Ok(Mix { templates, weight_sums })
    }

    pub fn label(&self) -> String {
        let weight = |index: usize| self.weight_sums[index] - if index == 0 { 0 } else { self.weight_sums[index - 1] };
        match self.templates.as_slice() {
            [only] => only.label.clone(),
            several => {
                let parts: Vec<String> = several
                    .iter()
                    .enumerate()
                    .map(|(index, each)| format!("{}={}", each.label, weight(index)))
                    .collect();
                parts.join(",")
            }
        }
    }

    /// Draws a command and appends one request of it; says which.
    pub fn render(&self, source: &mut Source, out: &mut Vec<u8>) -> u16 {
        let index = match self.weight_sums.as_slice() {
            [_] => 0,
            sums => {
                let drawn = source.rng.below(sums[sums.len() - 1]);
                sums.iter().position(|sum| drawn < *sum).expect("a draw is below the total")
            }
        };
        self.templates[index].render(source, out);
        index as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPattern;

    fn keys() -> KeyFormat {
        KeyFormat { prefix: "key:".into(), width: 12 }
    }

    fn source() -> Source {
        Source {
            rng: Rng::new(1),
            keys: KeySequence::new(KeyPattern::Sequential, 1000, 0, 1),
            int_limit: 1,
            values: ValueSizes::Fixed(3),
            payload: Payload::new(3, 1),
            ttl: (60, 60),
        }
    }

    /// The words of one rendered request, data replaced by its length.
    fn render(template: &Template) -> String {
        let mut out = Vec::new();
        template.render(&mut source(), &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(render(&Template::parse(text, &keys()).unwrap()), expected, "{text}");
    }

    #[test]
    fn placeholders_are_filled_in() {
        check("GET __key__", "*2|$3|GET|$16|key:000000000000|");
        check("GET {__key__}.x", "*2|$3|GET|$20|{key:000000000000}.x|");
        check("MGET __key__ __key__", "*3|$4|MGET|$16|key:000000000000|$16|key:000000000001|");
        check("INCRBY n __int__", "*3|$6|INCRBY|$1|n|$1|0|");
        check("SADD s e:__int__", "*3|$4|SADD|$1|s|$14|e:000000000000|");
        check("EXPIRE __key__ __ttl__ NX", "*4|$6|EXPIRE|$16|key:000000000000|$2|60|$2|NX|");
        check(r#"ECHO "a \"b\"" 'c\'"#, r#"*3|$4|ECHO|$5|a "b"|$2|c\|"#);
    }

    #[test]
    fn data_has_its_length_before_it() {
        let rendered = render(&Template::parse("SET __key__ __data__ EX 5", &keys()).unwrap());
        assert!(rendered.starts_with("*5|$3|SET|$16|key:000000000000|$3|"), "{rendered}");
        assert!(rendered.ends_with("|$2|EX|$1|5|"), "{rendered}");
    }

    #[test]
    fn bad_commands_are_refused() {
        for text in ["", "  ", "SET k x__data__", "GET \"k", "GET k__ttl__"] {
            assert!(Template::parse(text, &keys()).is_err(), "{text}");
        }
        assert!(Template::preset("nothing", &keys(), false).is_err());
    }

    #[test]
    fn every_preset_renders_and_carries_its_own_name() {
        for (name, _) in PRESETS {
            let template = Template::preset(name, &keys(), true).unwrap();
            assert_eq!(template.label, *name);
            assert!(render(&template).ends_with('|'), "{name}");
        }
    }

    #[test]
    fn a_ttl_is_added_to_set() {
        let rendered = render(&Template::preset("set", &keys(), true).unwrap());
        assert!(rendered.ends_with("|$2|EX|$2|60|"), "{rendered}");
    }

    #[test]
    fn lookups_are_known_by_name() {
        let lookup = |text| Template::parse(text, &keys()).unwrap().lookup;
        assert!(lookup("get __key__") && lookup("MGET __key__") && !lookup("SET __key__ x"));
    }

    #[test]
    fn numbers_have_no_leading_zeros_and_the_right_length() {
        for (number, expected) in [(0, "$1\r\n0\r\n"), (9, "$1\r\n9\r\n"), (10, "$2\r\n10\r\n"), (999, "$3\r\n999\r\n")]
        {
            let mut out = Vec::new();
            push_number_word(number, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn a_mix_keeps_its_weights() {
        let template = |text| Template::parse(text, &keys()).unwrap();
        let mix = Mix::new(vec![(template("GET a"), 9), (template("SET a b"), 1), (template("DEL a"), 0)]).unwrap();
        let mut source = source();
        let mut out = Vec::new();
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            out.clear();
            counts[usize::from(mix.render(&mut source, &mut out))] += 1;
        }
        assert!((89_500..90_500).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        assert_eq!(mix.label(), "GET a=9,SET a b=1,DEL a=0");
        assert!(Mix::new(vec![(template("GET a"), 0)]).is_err());
    }
}
