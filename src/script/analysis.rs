//! Which keys a script can touch, decided before it runs: only what it declares, or perhaps others.
//!
//! Reads the script's tokens, not its meaning, and when in doubt says "others": that costs time, never correctness.
//! Declared is `KEYS[…]`, or a local that was set to such a thing once and to nothing else, or the elements that a loop
//! over KEYS visits, or `unpack(KEYS)` at the end. Every command must be called by its name, in a place where that name is
//! plain to see, and its keys must stand at places that [`KeyPlaces`] knows.

use std::collections::{HashMap, HashSet};

/// At which of a command's words its keys stand, given the number of words (with the name; `None`: not known, as the last
/// is `unpack`). `None`: not known, or any key may be touched.
pub type KeyPlaces<'a> = &'a dyn Fn(&[u8], Option<usize>) -> Option<Vec<usize>>;

/// Does the script touch no other keys than those it declares?
pub fn declares_all_keys(source: &[u8], places: KeyPlaces<'_>) -> bool {
    let Some(tokens) = tokenize(source) else { return false };
    Script { tokens: &tokens, places }.check().is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a [u8]),
    /// A string without escapes.
    Text(&'a [u8]),
    /// Any other string, or a number.
    Value,
    Symbol(u8),
    /// `==`, `~=`, `<=`, `>=`, `..`, `...`
    Operator,
}

fn tokenize(source: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = source.get(at) {
        let rest = &source[at..];
        at += match byte {
            b' ' | b'\t' | b'\r' | b'\n' => 1,
            b'#' if at == 0 && rest.starts_with(b"#!") => line_end(rest),
            b'-' if rest.starts_with(b"--") => match long_bracket(&rest[2..]) {
                Some(length) => 2 + length?,
                None => line_end(rest),
            },
            b'[' if matches!(rest.get(1), Some(b'[' | b'=')) => match long_bracket(rest) {
                Some(length) => {
                    tokens.push(Token::Value);
                    length?
                }
                None => {
                    tokens.push(Token::Symbol(byte));
                    1
                }
            },
            b'"' | b'\'' => {
                let (token, length) = quoted(rest)?;
                tokens.push(token);
                length
            }
            b'0'..=b'9' => {
                tokens.push(Token::Value);
                rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count()
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                tokens.push(Token::Name(&rest[..length]));
                length
            }
            b'=' | b'~' | b'<' | b'>' if rest.get(1) == Some(&b'=') => {
                tokens.push(Token::Operator);
                2
            }
            b'.' if rest.get(1) == Some(&b'.') => {
                tokens.push(Token::Operator);
                if rest.get(2) == Some(&b'.') { 3 } else { 2 }
            }
            _ => {
                tokens.push(Token::Symbol(byte));
                1
            }
        };
    }
    Some(tokens)
}

fn line_end(rest: &[u8]) -> usize {
    memchr::memchr(b'\n', rest).unwrap_or(rest.len())
}

/// The length of `[[…]]` or `[==[…]==]`; the inner `None`: it does not end. The outer: there is none.
fn long_bracket(rest: &[u8]) -> Option<Option<usize>> {
    let level = rest.get(1..)?.iter().take_while(|byte| **byte == b'=').count();
    if rest[0] != b'[' || rest.get(1 + level) != Some(&b'[') {
        return None;
    }
    let close = [&b"]"[..], &b"=".repeat(level), b"]"].concat();
    Some(memchr::memmem::find(rest, &close).map(|at| at + close.len()))
}

fn quoted(rest: &[u8]) -> Option<(Token<'_>, usize)> {
    let mut at = 1;
    let mut plain = true;
    loop {
        match rest.get(at)? {
            b'\\' => {
                plain = false;
                at += 2;
            }
            byte if *byte == rest[0] => break,
            _ => at += 1,
        }
    }
    Some((if plain { Token::Text(&rest[1..at]) } else { Token::Value }, at + 1))
}

struct Script<'t, 's> {
    tokens: &'t [Token<'s>],
    places: KeyPlaces<'t>,
}

/// What makes it impossible to see what is called.
const OPAQUE: &[&[u8]] = &[b"_G", b"getfenv", b"load", b"loadstring", b"rawget", b"rawset", b"setfenv"];

fn is_open(token: &Token) -> bool {
    matches!(token, Token::Symbol(b'(' | b'[' | b'{'))
}

fn is_close(token: &Token) -> bool {
    matches!(token, Token::Symbol(b')' | b']' | b'}'))
}

impl<'s> Script<'_, 's> {
    fn at(&self, index: usize) -> Option<Token<'s>> {
        self.tokens.get(index).copied()
    }

    fn is(&self, index: usize, symbol: u8) -> bool {
        self.at(index) == Some(Token::Symbol(symbol))
    }

    fn name(&self, index: usize) -> Option<&'s [u8]> {
        match self.at(index) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn is_name(&self, index: usize, names: &[&str]) -> bool {
        self.name(index).is_some_and(|name| names.iter().any(|other| other.as_bytes() == name))
    }

    /// `Some`, if all is plain to see.
    fn check(&self) -> Option<()> {
        let keys = self.declared_names()?;
        let aliases = self.aliases()?;
        let mut index = 0;
        while let Some(token) = self.at(index) {
            if let Token::Name(name) = token {
                let is_field = index > 0 && self.is(index - 1, b'.');
                if !is_field && OPAQUE.contains(&name) {
                    return None;
                }
                if !is_field && (name == b"redis" || name == b"server") {
                    self.check_api(index, &keys)?;
                } else if !is_field && aliases.contains(name) && !self.is_definition(index) {
                    self.check_call(index, &keys)?;
                } else if !is_field && name == b"KEYS" {
                    self.check_keys(index)?;
                }
            }
            index += 1;
        }
        Some(())
    }

    /// `redis.…` at `index`.
    fn check_api(&self, index: usize, keys: &HashSet<&[u8]>) -> Option<()> {
        if !self.is(index + 1, b'.') {
            return None;
        }
        let function = self.name(index + 2)?;
        if function != b"call" && function != b"pcall" {
            return Some(());
        }
        // `local call = redis.call`
        if index >= 3 && self.is(index - 1, b'=') && self.is_name(index - 3, &["local"]) && !self.is(index + 3, b'(') {
            return Some(());
        }
        self.check_call(index + 2, keys)
    }

    /// `call(…)`, or `call, …` as what `pcall` is to call; the function's name is at `index`.
    fn check_call(&self, index: usize, keys: &HashSet<&[u8]>) -> Option<()> {
        let first = index + 2;
        let through_pcall = self.is(index + 1, b',') && {
            let begin = if self.is(index.checked_sub(1)?, b'.') { index - 2 } else { index };
            begin >= 2 && self.is(begin - 1, b'(') && self.is_name(begin - 2, &["pcall"])
        };
        if !self.is(index + 1, b'(') && !through_pcall {
            return None;
        }
        let arguments = self.arguments(first)?;
        let (begin, end) = *arguments.first()?;
        let Token::Text(command) = self.at(begin).filter(|_| end == begin + 1)? else { return None };
        let spreads = arguments.last().is_some_and(|(begin, end)| self.spreads(*begin, *end));
        let count = (!spreads).then_some(arguments.len());
        for place in (self.places)(command, count)? {
            let (begin, end) = *arguments.get(place.min(arguments.len() - 1))?;
            let declared = self.is_declared(begin, end, keys) || self.is_unpack_of_keys(begin, end);
            if place == 0 || !declared {
                return None;
            }
        }
        // What `unpack` brings may be keys for a command that takes any number of them.
        if spreads {
            let last = arguments.len() - 1;
            let (begin, end) = arguments[last];
            let many = (self.places)(command, Some(last + 3))?;
            if many.iter().any(|place| *place >= last) && !self.is_unpack_of_keys(begin, end) {
                return None;
            }
        }
        Some(())
    }

    /// The ranges of arguments from `first` up to the closing parenthesis.
    fn arguments(&self, first: usize) -> Option<Vec<(usize, usize)>> {
        let (mut arguments, mut begin, mut depth, mut index) = (Vec::new(), first, 0, first);
        loop {
            let token = self.at(index)?;
            match token {
                Token::Symbol(b')') if depth == 0 => {
                    if index > begin {
                        arguments.push((begin, index));
                    }
                    return Some(arguments);
                }
                Token::Symbol(b',') if depth == 0 => {
                    arguments.push((begin, index));
                    begin = index + 1;
                }
                Token::Name(b"function") => return None,
                _ if is_open(&token) => depth += 1,
                _ if is_close(&token) => depth -= 1,
                _ => {}
            }
            index += 1;
        }
    }

    /// May bring any number of values: a call, or `...`.
    fn spreads(&self, begin: usize, end: usize) -> bool {
        let single = end == begin + 1;
        match self.at(end - 1) {
            Some(Token::Operator) => true,
            Some(Token::Symbol(b')')) => !single && !self.is_name(begin, &["tonumber", "tostring", "type"]),
            _ => false,
        }
    }

    fn is_unpack_of_keys(&self, begin: usize, end: usize) -> bool {
        end == begin + 4
            && self.is_name(begin, &["unpack"])
            && self.is(begin + 1, b'(')
            && self.is_name(begin + 2, &["KEYS"])
            && self.is(begin + 3, b')')
    }

    /// `KEYS[…]` and nothing more, or a name that stands for it.
    fn is_declared(&self, begin: usize, end: usize, keys: &HashSet<&[u8]>) -> bool {
        if end == begin + 1 {
            return self.name(begin).is_some_and(|name| keys.contains(name));
        }
        self.is_name(begin, &["KEYS"]) && self.is(begin + 1, b'[') && self.closing(begin + 1) == Some(end - 1)
    }

    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0;
        for index in open.. {
            let token = self.at(index)?;
            if is_open(&token) {
                depth += 1;
            } else if is_close(&token) {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
        }
        None
    }

    /// KEYS is only read: by index, as a whole by what cannot change it.
    fn check_keys(&self, index: usize) -> Option<()> {
        if self.is(index + 1, b'[') {
            let behind = self.closing(index + 1)? + 1;
            // An assignment would make it another key; so would one to several things at once.
            let assigned = self.is(behind, b'=') || (self.is(behind, b',') && self.ends_in_assignment(behind));
            return (!assigned).then_some(());
        }
        let counted = index > 0 && self.is(index - 1, b'#');
        let harmless = index >= 2
            && self.is(index - 1, b'(')
            && self.is(index + 1, b')')
            && self.is_name(index - 2, &["ipairs", "pairs", "unpack", "next"]);
        (counted || harmless).then_some(())
    }

    /// A list that begins before `index` is followed by `=`, at its own depth.
    fn ends_in_assignment(&self, mut index: usize) -> bool {
        let mut depth = 0;
        while let Some(token) = self.at(index) {
            match token {
                Token::Symbol(b'=') if depth == 0 => return true,
                _ if is_open(&token) => depth += 1,
                _ if is_close(&token) && depth == 0 => return false,
                _ if is_close(&token) => depth -= 1,
                _ => {}
            }
            index += 1;
        }
        false
    }

    /// The name at `index` is what `local` makes.
    fn is_definition(&self, index: usize) -> bool {
        index > 0 && self.is_name(index - 1, &["local"])
    }

    /// `local call = redis.call`, and nothing else is ever called that.
    fn aliases(&self) -> Option<HashSet<&'s [u8]>> {
        let mut aliases = HashSet::new();
        for index in 0..self.tokens.len() {
            let is_alias = self.is_name(index, &["local"])
                && self.is(index + 2, b'=')
                && self.is_name(index + 3, &["redis", "server"])
                && self.is(index + 4, b'.')
                && self.is_name(index + 5, &["call", "pcall"])
                && !self.is(index + 6, b'(');
            if is_alias {
                let name = self.name(index + 1)?;
                if self.definitions(name) != 1 || !aliases.insert(name) {
                    return None;
                }
            }
        }
        Some(aliases)
    }

    /// Names that stand for declared keys: `local a, b = KEYS[1], ARGV[1]`, and the second name of a loop over KEYS.
    fn declared_names(&self) -> Option<HashSet<&'s [u8]>> {
        let mut found: HashMap<&[u8], bool> = HashMap::new();
        for index in 0..self.tokens.len() {
            if self.is_name(index, &["local"]) {
                let (mut names, mut at) = (Vec::new(), index + 1);
                while let Some(name) = self.name(at) {
                    names.push(name);
                    at += 1;
                    if !self.is(at, b',') {
                        break;
                    }
                    at += 1;
                }
                if !self.is(at, b'=') {
                    continue;
                }
                at += 1;
                for name in names {
                    if !self.is_name(at, &["KEYS", "ARGV"]) || !self.is(at + 1, b'[') {
                        break;
                    }
                    let Some(end) = self.closing(at + 1) else { break };
                    let alone = self.ends_expression(end + 1);
                    if self.is_name(at, &["KEYS"]) && alone {
                        found.insert(name, self.definitions(name) == 1);
                    }
                    if !self.is(end + 1, b',') {
                        break;
                    }
                    at = end + 2;
                }
            } else if self.is_name(index, &["for"])
                && self.is(index + 2, b',')
                && self.is_name(index + 4, &["in"])
                && self.is_name(index + 5, &["ipairs", "pairs"])
                && self.is(index + 6, b'(')
                && self.is_name(index + 7, &["KEYS"])
                && self.is(index + 8, b')')
            {
                let name = self.name(index + 3)?;
                found.insert(name, self.definitions(name) == 1);
            }
        }
        Some(found.into_iter().filter_map(|(name, once)| once.then_some(name)).collect())
    }

    /// No operator goes on with the expression that ended before `index`.
    fn ends_expression(&self, index: usize) -> bool {
        match self.at(index) {
            None | Some(Token::Name(_)) => !self.is_name(index, &["and", "or"]),
            Some(token) => matches!(token, Token::Symbol(b',' | b';' | b')')),
        }
    }

    /// How often a name may get a value: as a local, a parameter, a loop's variable, by assignment.
    fn definitions(&self, name: &[u8]) -> usize {
        let mut count = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            if *token != Token::Name(name) || (index > 0 && self.is(index - 1, b'.')) {
                continue;
            }
            let assigned = self.is(index + 1, b'=') || (self.is(index + 1, b',') && self.ends_in_list(index + 1));
            let looped = self.is_name(index + 1, &["in"]);
            count += usize::from(assigned || looped || self.is_parameter(index) || self.is_definition(index));
        }
        count
    }

    /// Names and commas lead to `=` or `in`.
    fn ends_in_list(&self, mut index: usize) -> bool {
        while self.is(index, b',') && self.name(index + 1).is_some() {
            index += 2;
        }
        self.is(index, b'=') || self.is_name(index, &["in"])
    }

    /// Names and commas, back to the parenthesis behind `function`.
    fn is_parameter(&self, mut index: usize) -> bool {
        while index >= 2 && self.is(index - 1, b',') && self.name(index - 2).is_some() {
            index -= 2;
        }
        if index < 2 || !self.is(index - 1, b'(') {
            return false;
        }
        let mut before = index - 2;
        while before >= 1 && (self.name(before).is_some() || self.is(before, b'.') || self.is(before, b':')) {
            if self.is_name(before, &["function"]) {
                return true;
            }
            before -= 1;
        }
        self.is_name(before, &["function"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &[u8], words: Option<usize>) -> Option<Vec<usize>> {
        match name {
            b"get" | b"set" | b"incr" | b"hset" => Some(vec![1]),
            b"del" | b"mget" => Some((1..words.unwrap_or(2)).collect()),
            b"rename" => Some(vec![1, 2]),
            b"ping" | b"time" => Some(Vec::new()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(declared: bool, scripts: &[&str]) {
        for script in scripts {
            assert_eq!(declares_all_keys(script.as_bytes(), &places), declared, "{script}");
        }
    }

    #[test]
    fn what_is_plainly_declared() {
        check(
            true,
            &[
                "return 1",
                "return redis.call('get', KEYS[1])",
                "return server.pcall(\"get\", KEYS[ 2 ])",
                "redis.call('set', KEYS[1], ARGV[1] .. 'x') -- redis.call('get', 'other')",
                "local key = KEYS[1] return redis.call('get', key)",
                "local key, value = KEYS[1], ARGV[1]\nreturn redis.call('set', key, value)",
                "for i, key in ipairs(KEYS) do redis.call('incr', key) end",
                "for i = 1, #KEYS do redis.call('del', KEYS[i]) end",
                "return redis.call('mget', unpack(KEYS))",
                "return redis.call('set', KEYS[1], tostring(5))",
                "return redis.call('hset', KEYS[1], unpack(ARGV))",
                "local call = redis.call call('get', KEYS[1]) return call('ping')",
                "local ok, value = pcall(redis.call, 'get', KEYS[1]) return value",
                "redis.log(redis.LOG_WARNING, 'x') return redis.status_reply('y')",
                "return redis.call('rename', KEYS[1], KEYS[2])",
                "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])",
                "local text = [[ redis.call('get', 'x') ]] return text",
                "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
            ],
        );
    }

    #[test]
    fn everything_else_may_touch_any_key() {
        check(
            false,
            &[
                "return redis.call('get', 'literal')",
                "return redis.call('get', ARGV[1])",
                "return redis.call('get', KEYS[1] .. ':x')",
                "return redis.call(ARGV[1], KEYS[1])",
                "return redis.call('keys', '*')",
                "return redis.call('del', KEYS[1], 'other')",
                "return redis.call('del', KEYS[1], unpack(ARGV))",
                "return redis.call('rename', KEYS[1], ARGV[1])",
                "local key = KEYS[1] key = 'other' return redis.call('get', key)",
                "local key = KEYS[1] local function f(key) return redis.call('get', key) end return f('x')",
                "local key = KEYS[1] for a, key in pairs(ARGV) do redis.call('get', key) end",
                "local key = KEYS[1] .. ':x' return redis.call('get', key)",
                "local key = KEYS[1] or 'x' return redis.call('get', key)",
                "KEYS[1] = 'other' return redis.call('get', KEYS[1])",
                "KEYS[1], KEYS[2] = 'a', 'b' return redis.call('get', KEYS[1])",
                "local keys = KEYS keys[1] = 'x' return redis.call('get', KEYS[1])",
                "table.insert(KEYS, 'x') return redis.call('get', KEYS[2])",
                "KEYS = {'x'} return redis.call('get', KEYS[1])",
                "local r = redis return r.call('get', 'x')",
                "local f = redis['call'] return f('get', 'x')",
                "local call = redis.call call = nil return call('get', KEYS[1])",
                "local call = redis.call local t = {call} return t[1]('get', 'x')",
                "return loadstring('return redis.call(\"get\", \"x\")')()",
                "return _G.redis.call('get', 'x')",
                "return pcall(f, redis.call, 'get', 'x')",
                "return redis.call('get', f(KEYS[1]))",
                "return redis.call('get', (function() return 'x' end)())",
                "return redis.call('get', KEYS[1]",
                "return redis.call 'ping'",
                "return 'unfinished",
            ],
        );
    }
}
