//! Which keys a script or a function can touch, decided before it runs: only what it declares, or perhaps others.
//!
//! Reads the script's tokens, not its meaning, and when in doubt says "others": that costs time, never correctness.
//! Declared is `KEYS[…]`, or a local that was set to such a thing once and to nothing else, or the elements that a loop
//! over KEYS visits, or `unpack(KEYS)` at the end. Every command must be called by its name, in a place where that name is
//! plain to see, and its keys must stand at places that [`KeyPlaces`] knows.
//!
//! A function of a library is read together with the code outside all functions that are registered: that is what it can
//! call. Its first parameter is its KEYS. A library lives on between calls, which a script does not: so what calls commands
//! must not be a closure, which could come back in a later call with the keys of an earlier one.

use std::collections::{HashMap, HashSet};

/// At which of a command's words its keys stand, given the number of words (with the name; `None`: not known, as the last
/// is `unpack`). `None`: not known, or any key may be touched.
pub type KeyPlaces<'a> = &'a dyn Fn(&[u8], Option<usize>) -> Option<Vec<usize>>;

/// Does the script touch no other keys than those it declares?
pub fn declares_all_keys(source: &[u8], places: KeyPlaces<'_>) -> bool {
    let Some(tokens) = tokenize(source) else { return false };
    Script { tokens: &tokens, places, keys: b"KEYS", arguments: b"ARGV" }.check().is_some()
}

/// The same of a function that a library registers under this name.
pub fn function_declares_all_keys(library: &[u8], name: &[u8], places: KeyPlaces<'_>) -> bool {
    let Some(tokens) = tokenize(library) else { return false };
    function_is_plain(&tokens, name, places).is_some()
}

fn function_is_plain(tokens: &[Token], name: &[u8], places: KeyPlaces<'_>) -> Option<()> {
    let whole = Script { tokens, places, keys: b"", arguments: b"" };
    let functions = whole.registered_functions()?;
    let mut own = None;
    let mut read = Vec::new();
    let mut from = 0;
    for function in functions {
        // One inside another is nothing that a library can register.
        read.extend_from_slice(tokens.get(from..function.begin)?);
        read.push(Token::Value);
        from = function.end;
        if function.name == name && own.replace(function).is_some() {
            return None;
        }
    }
    read.extend_from_slice(&tokens[from..]);
    let own = own?;
    read.push(Token::Symbol(b';'));
    let body = read.len();
    read.extend_from_slice(&tokens[own.body..own.end - 1]);
    let script = Script { tokens: &read, places, keys: own.keys, arguments: own.arguments };
    script.calls_in_no_closure(body)?;
    // Nothing else in sight has the parameter's name.
    (script.definitions(own.keys) == 0).then_some(())?;
    script.check()
}

/// A function, from its `function` to behind its `end`.
struct Function<'s> {
    /// The name that it is registered under.
    name: &'s [u8],
    begin: usize,
    /// Behind the parameters.
    body: usize,
    end: usize,
    /// What its first two parameters are called; empty: it has none.
    keys: &'s [u8],
    arguments: &'s [u8],
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
    /// What the keys are called, and the arguments. No name is empty.
    keys: &'t [u8],
    arguments: &'t [u8],
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

    fn is_keys(&self, index: usize) -> bool {
        self.name(index) == Some(self.keys)
    }

    /// The functions that a library registers, in the order of their code, if all are plain to see.
    fn registered_functions(&self) -> Option<Vec<Function<'s>>> {
        let mut found = Vec::new();
        for index in (0..self.tokens.len()).filter(|&index| self.is_name(index, &["register_function"])) {
            let (name, callback) = self.registration(index + 1)?;
            found.push(Function { name, ..self.callback(callback)? });
        }
        found.sort_by_key(|function| function.begin);
        Some(found)
    }

    /// `('name', callback)`, or `{function_name='name', callback=callback, …}`, perhaps in parentheses: the name, and where
    /// the callback stands.
    fn registration(&self, open: usize) -> Option<(&'s [u8], usize)> {
        if self.is(open, b'(')
            && let Some(Token::Text(name)) = self.at(open + 1)
            && self.is(open + 2, b',')
        {
            return Some((name, open + 3));
        }
        let open = if self.is(open, b'(') { open + 1 } else { open };
        if !self.is(open, b'{') {
            return None;
        }
        let (mut name, mut callback, mut depth, mut index) = (None, None, 0, open);
        loop {
            let token = self.at(index)?;
            if is_open(&token) {
                // `["callback"]` would be a field, too.
                if depth == 1 && self.is(index, b'[') {
                    return None;
                }
                depth += 1;
            } else if is_close(&token) {
                depth -= 1;
                if depth == 0 {
                    return Some((name?, callback?));
                }
            } else if self.is_name(index, &["function"]) {
                index = self.function_at(index)?.end;
                continue;
            } else if depth == 1 && self.is(index + 1, b'=') {
                match (self.name(index), self.at(index + 2)) {
                    (Some(b"function_name"), Some(Token::Text(text))) => name = Some(text),
                    (Some(b"callback"), Some(_)) => callback = Some(index + 2),
                    _ => {}
                }
            }
            index += 1;
        }
    }

    /// The function that a callback is: it stands there, or a local has it that is named there and nowhere else.
    fn callback(&self, callback: usize) -> Option<Function<'s>> {
        let is_last = |index: usize| matches!(self.at(index), Some(Token::Symbol(b')' | b'}' | b',' | b';')));
        let name = self.name(callback)?;
        if name == b"function" {
            return self.function_at(callback).filter(|function| is_last(function.end));
        }
        let mut places = (0..self.tokens.len()).filter(|&index| self.name(index) == Some(name));
        let (first, second) = (places.next()?, places.next()?);
        if second != callback || places.next().is_some() || first == 0 || !is_last(callback + 1) {
            return None;
        }
        if first >= 2 && self.is_name(first - 1, &["function"]) && self.is_name(first - 2, &["local"]) {
            return self.function_at(first - 1);
        }
        let is_local = self.is_name(first - 1, &["local"]) && self.is(first + 1, b'=');
        if is_local && self.is_name(first + 2, &["function"]) { self.function_at(first + 2) } else { None }
    }

    /// The function whose `function` is at `begin`.
    fn function_at(&self, begin: usize) -> Option<Function<'s>> {
        // `local function name(`
        let open = if self.is(begin + 1, b'(') { begin + 1 } else { begin + 2 };
        if !self.is(open, b'(') {
            return None;
        }
        let keys = self.name(open + 1).unwrap_or_default();
        let second = self.is(open + 2, b',').then(|| self.name(open + 3)).flatten();
        let mut depth = 0;
        for index in begin.. {
            self.at(index)?;
            if self.is_name(index, &["function", "do", "if", "repeat"]) {
                depth += 1;
            } else if self.is_name(index, &["end", "until"]) {
                depth -= 1;
                if depth == 0 {
                    let (name, body) = (&b""[..], self.closing(open)? + 1);
                    let arguments = second.unwrap_or_default();
                    return Some(Function { name, begin, body, end: index + 1, keys, arguments });
                }
            }
        }
        None
    }

    /// Functions inside the one whose body begins here call no commands.
    fn calls_in_no_closure(&self, body: usize) -> Option<()> {
        let aliases = self.aliases()?;
        let mut index = body;
        while index < self.tokens.len() {
            if !self.is_name(index, &["function"]) {
                index += 1;
                continue;
            }
            let end = self.function_at(index)?.end;
            let calls = |name: &[u8]| name == b"redis" || name == b"server" || aliases.contains(name);
            if (index..end).filter_map(|inside| self.name(inside)).any(calls) {
                return None;
            }
            index = end;
        }
        Some(())
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
                } else if !is_field && name == self.keys {
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
            && self.is_keys(begin + 2)
            && self.is(begin + 3, b')')
    }

    /// `KEYS[…]` and nothing more, or a name that stands for it.
    fn is_declared(&self, begin: usize, end: usize, keys: &HashSet<&[u8]>) -> bool {
        if end == begin + 1 {
            return self.name(begin).is_some_and(|name| keys.contains(name));
        }
        self.is_keys(begin) && self.is(begin + 1, b'[') && self.closing(begin + 1) == Some(end - 1)
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
                    let is_argument = self.name(at) == Some(self.arguments);
                    if !is_argument && !self.is_keys(at) || !self.is(at + 1, b'[') {
                        break;
                    }
                    let Some(end) = self.closing(at + 1) else { break };
                    let alone = self.ends_expression(end + 1);
                    if self.is_keys(at) && alone {
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
                && self.is_keys(index + 7)
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

    #[track_caller]
    fn check_function(declared: bool, libraries: &[&str]) {
        for library in libraries {
            assert_eq!(function_declares_all_keys(library.as_bytes(), b"f", &places), declared, "{library}");
        }
    }

    #[test]
    fn a_function_declares_by_its_first_parameter() {
        check_function(
            true,
            &[
                "#!lua name=l\nredis.register_function('f', function(keys, args) return redis.call('get', keys[1]) end)",
                "server.register_function('f', function() return 1 end)",
                "redis.register_function('f', function(k, a) local key, value = k[1], a[1] return redis.call('set', key, value) end)",
                "redis.register_function{function_name='f', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}",
                "redis.register_function({flags={'no-writes'}, callback=function(keys) if keys[1] then return 1 end end, function_name='f'})",
                "local function get(keys, args) for i, key in ipairs(keys) do redis.call('incr', key) end end redis.register_function('f', get)",
                "local get = function(keys) return redis.call('mget', unpack(keys)) end redis.register_function('f', get)",
                "local call = redis.call redis.register_function('f', function(keys) return call('get', keys[1]) end)",
                "local function now() return redis.call('time')[1] end redis.register_function('f', function(keys) return redis.call('set', keys[1], now()) end)",
                "redis.register_function('f', function(keys, args) table.sort(args, function(a, b) return a < b end) return redis.call('get', keys[1]) end)",
                // What others do is not what this one does.
                "redis.register_function('f', function(keys) return redis.call('get', keys[1]) end) redis.register_function('g', function(keys) return redis.call('get', 'x') end)",
                "redis.register_function('g', function(k) local key = 'x' return redis.call('get', key) end) redis.register_function('f', function(k) local key = k[1] repeat redis.call('get', key) until true end)",
            ],
        );
    }

    #[test]
    fn every_other_function_may_touch_any_key() {
        check_function(
            false,
            &[
                "redis.register_function('f', function(keys) return redis.call('get', 'x') end)",
                "redis.register_function('f', function(keys, args) return redis.call('get', args[1]) end)",
                "redis.register_function('f', function(keys) return redis.call('get', KEYS[1]) end)",
                "redis.register_function('f', function(...) return redis.call('get', keys[1]) end)",
                "redis.register_function('f', function(keys) keys[1] = 'x' return redis.call('get', keys[1]) end)",
                "redis.register_function('f', function(keys) local keys = {'x'} return redis.call('get', keys[1]) end)",
                "redis.register_function('f', function(keys) change(keys) return redis.call('get', keys[1]) end)",
                "redis.register_function('g', function(keys) return redis.call('get', keys[1]) end)",
                "redis.register_function('F', function(keys) return redis.call('get', keys[1]) end)",
                // A helper's keys are whatever it is called with.
                "local function get(key) return redis.call('get', key) end redis.register_function('f', function(keys) return get(keys[1]) end)",
                "local function get(keys) return redis.call('get', keys[1]) end redis.register_function('f', function(keys) return get({'x'}) end)",
                "local function get(keys) return redis.call('get', keys[1]) end get({'x'}) redis.register_function('f', get)",
                "local function get(keys) return redis.call('get', keys[1]) end redis.register_function('f', get) redis.register_function('g', function() return get({'x'}) end)",
                // Which function it is must be plain.
                "local function get(keys) return redis.call('get', keys[1]) end redis.register_function('f', get and other)",
                "redis.register_function('f', function(keys) return redis.call('get', keys[1]) end and other)",
                "redis.register_function(name, function(keys) return redis.call('get', keys[1]) end)",
                "redis.register_function('f', function(keys) return redis.call('get', keys[1]) end) local r = redis.register_function r('g', g)",
                "if x then redis.register_function('f', function(keys) return 1 end) else redis.register_function('f', function(keys) return redis.call('get', 'x') end) end",
                "redis.register_function{function_name='f', callback=function(keys) return 1 end, ['callback']=g}",
                "redis.register_function{function_name='f'}",
                // A later call may meet what an earlier one left.
                "local later redis.register_function('f', function(keys) local key = keys[1] if later then later() end later = function() redis.call('get', key) end end)",
                "local last redis.register_function('f', function(keys) if last then redis.call('get', last) end last = keys[1] end)",
                "local key = 'x' redis.register_function('f', function(keys) redis.call('get', key) local key = keys[1] end)",
                "return loadstring('x') redis.register_function('f', function(keys) return 1 end)",
                "redis.register_function('f', function(keys) return redis.call('get', keys[1])",
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
