//! The kinds of values directives have: how each is read from words, printed by CONFIG GET and written to a file.
//!
//! Error texts are Redis's: clients and its test suite match on them.

use crate::base::{number, quoting};

/// Why a value was refused; the text behind `CONFIG SET failed (possibly related to argument '…') - `.
pub type Reason = String;

/// A value of some directive. `directives.rs` holds one of these per row, each in a typed field of `Config`.
pub trait Setting {
    /// Takes the value from the words of one directive. On an error the value may be half set: callers work on a copy.
    fn assign(&mut self, rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason>;

    /// The text CONFIG GET shows, and CONFIG SET accepts.
    fn print(&self, rule: &Rule) -> Vec<u8>;

    /// What stands behind the directive's name in a file, one item per line; none for a value that is expressed by the
    /// directive's absence.
    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![self.print(rule)]
    }
}

/// What a row of the table demands of its value beyond the type.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// The type says all.
    Type,
    /// A number between two bounds.
    Number { min: i128, max: i128, unit: Unit },
    /// One word that passes the check.
    Text { check: Check, secret: bool },
    /// Any number of words; the type says which. CONFIG SET gives them as one text with blanks.
    Words,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Plain,
    Octal,
    /// With or without `k`, `kb`, `m`, `mb`, `g`, `gb`.
    Bytes,
    /// Bytes, or a percentage from 0 to 100.
    BytesOrPercent,
}

pub type Check = fn(&str) -> Result<(), &'static str>;

const INT_MAX: i128 = i32::MAX as i128;

pub const fn integer(min: i128, max: i128) -> Rule {
    Rule::Number { min, max, unit: Unit::Plain }
}

/// An integer from `min` up to the largest of C's `int`.
pub const fn int_from(min: i128) -> Rule {
    integer(min, INT_MAX)
}

/// An integer from `min` up to the largest of 64 bits.
pub const fn long_from(min: i128) -> Rule {
    integer(min, i64::MAX as i128)
}

pub const fn bytes(min: i128, max: i128) -> Rule {
    Rule::Number { min, max, unit: Unit::Bytes }
}

pub const fn bytes_from(min: i128) -> Rule {
    bytes(min, i64::MAX as i128)
}

pub const fn text() -> Rule {
    Rule::Text { check: |_| Ok(()), secret: false }
}

pub const fn checked(check: Check) -> Rule {
    Rule::Text { check, secret: false }
}

/// A text that logs and SLOWLOG must not show.
pub const fn secret() -> Rule {
    Rule::Text { check: |_| Ok(()), secret: true }
}

impl Setting for bool {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        *self = match single(words)? {
            word if word.eq_ignore_ascii_case(b"yes") => true,
            word if word.eq_ignore_ascii_case(b"no") => false,
            _ => return Err("argument must be 'yes' or 'no'".to_owned()),
        };
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        if *self { "yes" } else { "no" }.into()
    }
}

/// Numbers are checked against their rule in 128 bits; the rule's bounds lie within the field's type.
macro_rules! number_settings {
    ($($type:ty)*) => { $(
        impl Setting for $type {
            fn assign(&mut self, rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
                let value = read_number(rule, single(words)?)?;
                *self = <$type>::try_from(value).expect("the rule's bounds fit the type of the field");
                Ok(())
            }

            fn print(&self, rule: &Rule) -> Vec<u8> {
                print_number(rule, i128::from(*self))
            }

            fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
                vec![number_in_file(rule, i128::from(*self))]
            }
        }
    )* };
}

number_settings! { u16 u32 u64 i32 i64 }

/// Reads a number by its rule and checks its bounds.
fn read_number(rule: &Rule, word: &[u8]) -> Result<i128, Reason> {
    let Rule::Number { min, max, unit } = *rule else { unreachable!("a number's row has a number's rule") };
    let (value, failure) = match unit {
        Unit::Plain => (number::parse_i64(word).map(i128::from), "argument couldn't be parsed into an integer"),
        Unit::Octal => (parse_octal(word), "argument couldn't be parsed as an octal number"),
        Unit::Bytes => (parse_bytes(word).map(i128::from), "argument must be a memory value"),
        Unit::BytesOrPercent => (parse_bytes(word).map(i128::from), "argument must be a memory or percent value"),
    };
    let value = value.ok_or(failure)?;
    if !(min..=max).contains(&value) {
        return Err(match unit {
            Unit::Octal => format!("argument must be between {min:o} and {max:o} inclusive"),
            _ => format!("argument must be between {min} and {max} inclusive"),
        });
    }
    Ok(value)
}

fn print_number(rule: &Rule, value: i128) -> Vec<u8> {
    match rule {
        Rule::Number { unit: Unit::Octal, .. } => format!("{value:o}").into(),
        _ => value.to_string().into(),
    }
}

/// Sizes are written with the largest unit that leaves a whole number.
fn number_in_file(rule: &Rule, value: i128) -> Vec<u8> {
    match rule {
        Rule::Number { unit: Unit::Bytes | Unit::BytesOrPercent, .. } => print_size(value).into(),
        _ => print_number(rule, value),
    }
}

fn print_size(bytes: i128) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A size as Redis reads it: digits and a unit, `1k` = 1000, `1kb` = 1024. No digits are zero, as there. (Unlike there,
/// what exceeds 64 bits is refused and not wrapped.)
pub fn parse_bytes(text: &[u8]) -> Option<u64> {
    let digits_len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits_len);
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number =
        digits.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    number.checked_mul(factor)
}

fn parse_octal(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    i64::from_str_radix(text, 8).ok().map(i128::from)
}

/// An integer as C's `strtoll` reads a whole word: leading zeros and `+` are fine, nothing is 0.
fn parse_lenient(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?;
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}

/// A share of memory or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShare {
    Bytes(u64),
    Percent(u8),
}

impl Setting for MemoryShare {
    fn assign(&mut self, rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let word = single(words)?;
        let percent = word.strip_suffix(b"%").and_then(number::parse_u64);
        *self = match percent {
            Some(percent @ 0..=100) => MemoryShare::Percent(percent as u8),
            Some(_) => return Err("percentage argument must be less or equal to 100".to_owned()),
            None => MemoryShare::Bytes(read_number(rule, word)?.try_into().expect("the rule's bounds fit 64 bits")),
        };
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        match self {
            MemoryShare::Bytes(bytes) => bytes.to_string().into(),
            MemoryShare::Percent(percent) => format!("{percent}%").into(),
        }
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        match self {
            MemoryShare::Bytes(bytes) => vec![number_in_file(rule, i128::from(*bytes))],
            MemoryShare::Percent(_) => vec![self.print(rule)],
        }
    }
}

/// Names and paths. Redis takes any bytes; here they are UTF-8, which spares every reader of a path the question.
impl Setting for String {
    fn assign(&mut self, rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let Rule::Text { check, .. } = rule else { unreachable!("a text's row has a text's rule") };
        let text = std::str::from_utf8(single(words)?).map_err(|_| "argument must be valid UTF-8")?;
        check(text)?;
        *self = text.to_owned();
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn in_file(&self, _rule: &Rule) -> Vec<Vec<u8>> {
        lines_of_text(self.as_bytes())
    }
}

/// Passwords: any bytes.
impl Setting for Vec<u8> {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        *self = single(words)?.to_vec();
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        self.clone()
    }

    fn in_file(&self, _rule: &Rule) -> Vec<Vec<u8>> {
        lines_of_text(self)
    }
}

/// No text is the absence of the directive.
fn lines_of_text(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut quoted = Vec::new();
    quoting::quote(text, &mut quoted);
    vec![quoted]
}

/// One of several names.
pub trait Choice: Copy + PartialEq + 'static {
    /// In the order the error text lists them. Of two names for one choice the first is printed.
    const NAMES: &'static [(&'static str, Self)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, choice)| *choice == self).expect("every choice has a name").0
    }
}

impl<T: Choice> Setting for T {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let word = single(words)?;
        let found = T::NAMES.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
        *self = found.ok_or_else(|| one_of(T::NAMES.iter().map(|(name, _)| *name)))?.1;
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        self.name().into()
    }
}

fn one_of(names: impl Iterator<Item = &'static str>) -> Reason {
    format!("argument(s) must be one of the following: {}", names.collect::<Vec<_>>().join(", "))
}

/// An enum and its names in config files.
macro_rules! choice {
    ($(#[$doc:meta])* $type:ident { $($name:literal => $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($variant),* }

        impl Choice for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, $type::$variant)),*];
        }
    };
}

choice! {
    /// Which key makes room when memory is full.
    Policy {
        "volatile-lru" => VolatileLru,
        "volatile-lfu" => VolatileLfu,
        "volatile-random" => VolatileRandom,
        "volatile-ttl" => VolatileTtl,
        "allkeys-lru" => AllKeysLru,
        "allkeys-lfu" => AllKeysLfu,
        "allkeys-random" => AllKeysRandom,
        "noeviction" => NoEviction,
    }
}

impl Policy {
    /// Do the access bits of an entry hold a frequency (and not a time)?
    pub const fn is_lfu(self) -> bool {
        matches!(self, Policy::VolatileLfu | Policy::AllKeysLfu)
    }

    /// Do they hold a time by which keys are chosen?
    pub const fn is_lru(self) -> bool {
        matches!(self, Policy::VolatileLru | Policy::AllKeysLru)
    }

    /// Are only keys with a time to live evicted?
    pub const fn is_volatile(self) -> bool {
        matches!(self, Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl)
    }
}

choice! {
    /// Least level of a line that is logged.
    LogLevel { "debug" => Debug, "verbose" => Verbose, "notice" => Notice, "warning" => Warning, "nothing" => Nothing }
}

choice! {
    SyslogFacility {
        "user" => User, "local0" => Local0, "local1" => Local1, "local2" => Local2, "local3" => Local3,
        "local4" => Local4, "local5" => Local5, "local6" => Local6, "local7" => Local7,
    }
}

choice! {
    /// Which supervisor is told about start and stop.
    Supervised { "upstart" => Upstart, "systemd" => Systemd, "auto" => Auto, "no" => No }
}

choice! {
    AppendFsync { "everysec" => EverySecond, "always" => Always, "no" => No }
}

choice! {
    DisklessLoad { "disabled" => Disabled, "on-empty-db" => OnEmptyDb, "swapdb" => SwapDb }
}

choice! {
    TlsAuthClients { "no" => No, "yes" => Yes, "optional" => Optional }
}

/// Who sets the process's `oom_score_adj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScoreAdj {
    No,
    Relative,
    Absolute,
}

impl Choice for OomScoreAdj {
    /// Redis's `yes` is the older name of `relative`, and the one it prints.
    const NAMES: &'static [(&'static str, Self)] =
        &[("no", Self::No), ("yes", Self::Relative), ("relative", Self::Relative), ("absolute", Self::Absolute)];
}

choice! {
    /// Whether files and payloads of versions that are not known are read.
    RdbVersionCheck { "strict" => Strict, "relaxed" => Relaxed }
}

choice! {
    AclPubsubDefault { "allchannels" => AllChannels, "resetchannels" => ResetChannels }
}

choice! {
    SanitizeDump { "no" => No, "yes" => Yes, "clients" => Clients }
}

choice! {
    /// Who may use a command or directive that can harm the machine.
    Protected { "no" => No, "yes" => Yes, "local" => Local }
}

impl Protected {
    /// Is it allowed to a client that is, or is not, on this machine?
    pub const fn allows(self, is_local: bool) -> bool {
        match self {
            Protected::No => false,
            Protected::Yes => true,
            Protected::Local => is_local,
        }
    }
}

choice! {
    EndpointType { "ip" => Ip, "hostname" => Hostname, "unknown-endpoint" => UnknownEndpoint }
}

choice! {
    PropagationError { "ignore" => Ignore, "panic" => Panic, "panic-on-replicas" => PanicOnReplicas }
}

choice! {
    /// What the shards of one connection's pipeline may do in parallel (design, promise 3).
    PipelineOrder { "causal" => Causal, "strict" => Strict }
}

/// What SIGINT or SIGTERM asks of the shutdown; none of them: Redis's `default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownOn {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
}

impl ShutdownOn {
    const NAMES: [&'static str; 5] = ["default", "save", "nosave", "now", "force"];
}

impl Setting for ShutdownOn {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let mut new = ShutdownOn::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => new.save = true,
                b"nosave" => new.nosave = true,
                b"now" => new.now = true,
                b"force" => new.force = true,
                _ => return Err(one_of(Self::NAMES.into_iter())),
            }
        }
        if words.is_empty() {
            return Err(one_of(Self::NAMES.into_iter()));
        }
        if new.save && new.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned());
        }
        *self = new;
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let set = [self.save, self.nosave, self.now, self.force];
        let names: Vec<&str> =
            Self::NAMES[1..].iter().zip(set).filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if names.is_empty() { "default".into() } else { names.join(" ").into() }
    }
}

/// `save seconds changes`: a snapshot is due after so many seconds if there were so many changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: i64,
    pub changes: i64,
}

impl Setting for Vec<SavePoint> {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let words = without_single_empty(words);
        let points: Option<Vec<SavePoint>> = words
            .chunks(2)
            .map(|pair| match pair {
                [seconds, changes] => {
                    let point = SavePoint { seconds: parse_lenient(seconds)?, changes: parse_lenient(changes)? };
                    (point.seconds >= 1 && point.changes >= 0).then_some(point)
                }
                _ => None,
            })
            .collect();
        *self = points.ok_or("Invalid save parameters")?;
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let points: Vec<String> = self.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect();
        points.join(" ").into()
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![if self.is_empty() { b"\"\"".to_vec() } else { self.print(rule) }]
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// `*` is every IPv4 address, `::*` every IPv6 address.
    pub address: String,
    /// Written with a `-` in front: no error if this machine does not have the address.
    pub optional: bool,
}

/// Addresses a server listens on at most.
const BIND_MAX: usize = 16;

impl Setting for Vec<Bind> {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        if words.len() > BIND_MAX {
            return Err("Too many bind addresses specified.".to_owned());
        }
        *self = without_single_empty(words)
            .iter()
            .map(|word| {
                let (address, optional) = word.strip_prefix(b"-").map_or((&word[..], false), |rest| (rest, true));
                // No address has these, so the answer is the one that Redis gives when listening fails. It also keeps
                // out what would need quotes in a file.
                let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
                if address.is_empty() || !address.iter().all(is_plain) {
                    return Err("Failed to bind to specified addresses.");
                }
                Ok(Bind { address: String::from_utf8_lossy(address).into_owned(), optional })
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let addresses: Vec<String> =
            self.iter().map(|bind| format!("{}{}", if bind.optional { "-" } else { "" }, bind.address)).collect();
        addresses.join(" ").into()
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        if *self == default_binds() {
            return Vec::new();
        }
        vec![if self.is_empty() { b"\"\"".to_vec() } else { self.print(rule) }]
    }
}

/// Prefixes of keys: words that need no quotes, and hold nothing that decides where a key is.
impl Setting for Vec<Vec<u8>> {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'{}".contains(byte);
        let prefixes = without_single_empty(words);
        if !prefixes.iter().all(|prefix| !prefix.is_empty() && prefix.iter().all(is_plain)) {
            return Err("argument must be prefixes of keys, without quotes or braces".to_owned());
        }
        *self = prefixes.to_vec();
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        self.join(&b' ')
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![if self.is_empty() { b"\"\"".to_vec() } else { self.print(rule) }]
    }
}

/// All addresses of both families; a machine without IPv6 is no error.
pub fn default_binds() -> Vec<Bind> {
    vec![Bind { address: "*".to_owned(), optional: false }, Bind { address: "::*".to_owned(), optional: true }]
}

/// When a client that does not read its replies is closed; 0 switches a limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closed at once beyond this.
    pub hard_bytes: u64,
    /// Closed when it has been beyond this for `soft_seconds`.
    pub soft_bytes: u64,
    pub soft_seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    pub replica: OutputLimit,
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    pub const DEFAULT: OutputLimits = OutputLimits {
        normal: OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
        replica: OutputLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 },
        pubsub: OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
    };
}

impl Setting for OutputLimits {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let (quads, []) = words.as_chunks::<4>() else {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        };
        for [class, hard, soft, seconds] in quads {
            let limit = match class.to_ascii_lowercase().as_slice() {
                b"normal" => &mut self.normal,
                b"slave" | b"replica" => &mut self.replica,
                b"pubsub" => &mut self.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let seconds = parse_lenient(seconds).filter(|seconds| *seconds >= 0);
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (parse_bytes(hard), parse_bytes(soft), seconds)
            else {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned());
            };
            *limit = OutputLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let class = |name, limit: OutputLimit| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        };
        [class("normal", self.normal), class("slave", self.replica), class("pubsub", self.pubsub)].join(" ").into()
    }

    /// One line per class; here Redis uses the newer name of the second.
    fn in_file(&self, _rule: &Rule) -> Vec<Vec<u8>> {
        let class = |name, limit: OutputLimit| {
            let (hard, soft) = (print_size(i128::from(limit.hard_bytes)), print_size(i128::from(limit.soft_bytes)));
            format!("{name} {hard} {soft} {}", limit.soft_seconds).into()
        };
        vec![class("normal", self.normal), class("replica", self.replica), class("pubsub", self.pubsub)]
    }
}

/// Which keyspace events are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifyFlags(u16);

impl NotifyFlags {
    pub const GENERIC: NotifyFlags = NotifyFlags(1);
    pub const STRING: NotifyFlags = NotifyFlags(1 << 1);
    pub const LIST: NotifyFlags = NotifyFlags(1 << 2);
    pub const SET: NotifyFlags = NotifyFlags(1 << 3);
    pub const HASH: NotifyFlags = NotifyFlags(1 << 4);
    pub const ZSET: NotifyFlags = NotifyFlags(1 << 5);
    pub const EXPIRED: NotifyFlags = NotifyFlags(1 << 6);
    pub const EVICTED: NotifyFlags = NotifyFlags(1 << 7);
    pub const STREAM: NotifyFlags = NotifyFlags(1 << 8);
    pub const MODULE: NotifyFlags = NotifyFlags(1 << 9);
    pub const NEW_KEY: NotifyFlags = NotifyFlags(1 << 10);
    pub const KEYSPACE: NotifyFlags = NotifyFlags(1 << 11);
    pub const KEYEVENT: NotifyFlags = NotifyFlags(1 << 12);
    pub const KEY_MISS: NotifyFlags = NotifyFlags(1 << 13);
    /// `A`: every class but misses and new keys.
    pub const ALL: NotifyFlags = NotifyFlags((1 << 10) - 1);

    /// Letters in the order CONFIG GET prints them. Those before `K` are covered by `A`, so `n` is printed only without
    /// it: Redis forgets it there, and so do we.
    const LETTERS: [(u8, NotifyFlags); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW_KEY),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];
    const COVERED_BY_ALL: usize = 11;

    pub const fn and(self, other: NotifyFlags) -> NotifyFlags {
        NotifyFlags(self.0 | other.0)
    }

    /// Is any of these on?
    #[inline]
    pub const fn intersects(self, other: NotifyFlags) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn contains(self, other: NotifyFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Setting for NotifyFlags {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let mut flags = 0;
        for letter in single(words)? {
            flags |= match Self::LETTERS.iter().find(|(known, _)| known == letter) {
                Some((_, flag)) => flag.0,
                None if *letter == b'A' => Self::ALL.0,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            };
        }
        *self = NotifyFlags(flags);
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let (classes, others) = Self::LETTERS.split_at(Self::COVERED_BY_ALL);
        let letters = |table: &[(u8, NotifyFlags)]| -> Vec<u8> {
            table.iter().filter(|(_, flag)| self.contains(*flag)).map(|(letter, _)| *letter).collect()
        };
        let classes = if self.contains(Self::ALL) { b"A".to_vec() } else { letters(classes) };
        [classes, letters(others)].concat()
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        let mut quoted = Vec::new();
        quoting::quote(&self.print(rule), &mut quoted);
        vec![quoted]
    }
}

/// Percentiles that INFO latencystats shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Setting for Percentiles {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        self.0 = without_single_empty(words)
            .iter()
            .map(|word| match number::parse_f64(word) {
                None => Err("Invalid latency-tracking-info-percentiles parameters"),
                Some(percentile) if (0.0..=100.0).contains(&percentile) => Ok(percentile),
                Some(_) => Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let texts: Vec<String> = self.0.iter().map(|percentile| percentile_text(*percentile)).collect();
        texts.join(" ").into()
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![if self.0.is_empty() { b"\"\"".to_vec() } else { self.print(rule) }]
    }
}

/// Six decimals without trailing zeros, as in the field names of INFO latencystats.
pub fn percentile_text(percentile: f64) -> String {
    format!("{percentile:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Can only be off: Redis's defragmentation needs its own jemalloc, and says so without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveDefrag;

impl Setting for ActiveDefrag {
    fn assign(&mut self, rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let mut wanted = false;
        wanted.assign(rule, words)?;
        if wanted {
            return Err("Active defragmentation cannot be enabled: it requires a server compiled with a modified \
                        Jemalloc like the one shipped by default with the source distribution"
                .to_owned());
        }
        Ok(())
    }

    fn print(&self, rule: &Rule) -> Vec<u8> {
        false.print(rule)
    }
}

/// `oom-score-adj-values`: for a primary, a replica, a background process.
impl Setting for [i32; 3] {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let Ok(words) = <&[Vec<u8>; 3]>::try_from(words) else {
            return Err("wrong number of arguments".to_owned());
        };
        for (value, word) in self.iter_mut().zip(words) {
            let read = parse_lenient(word).filter(|read| (-2000..=2000).contains(read));
            *value = read.ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")? as i32;
        }
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        let [primary, replica, background] = self;
        format!("{primary} {replica} {background}").into()
    }
}

/// A primary to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    pub host: String,
    pub port: u16,
}

impl Setting for Option<Primary> {
    fn assign(&mut self, _rule: &Rule, words: &[Vec<u8>]) -> Result<(), Reason> {
        let [host, port] = words else { return Err("wrong number of arguments".to_owned()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let port = parse_lenient(port).and_then(|port| u16::try_from(port).ok()).ok_or("Invalid master port")?;
        let host = String::from_utf8(host.clone()).map_err(|_| "argument must be valid UTF-8")?;
        *self = Some(Primary { host, port });
        Ok(())
    }

    fn print(&self, _rule: &Rule) -> Vec<u8> {
        self.as_ref().map_or_else(Vec::new, |primary| format!("{} {}", primary.host, primary.port).into())
    }

    fn in_file(&self, rule: &Rule) -> Vec<Vec<u8>> {
        self.iter().map(|_| self.print(rule)).collect()
    }
}

/// The one word of a directive that has one.
fn single(words: &[Vec<u8>]) -> Result<&[u8], Reason> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".to_owned()),
    }
}

/// `""` alone stands for nothing at all.
fn without_single_empty(words: &[Vec<u8>]) -> &[Vec<u8>] {
    match words {
        [word] if word.is_empty() => &[],
        words => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Assigns the words of `line` and prints the value, or the error.
    fn check(mut value: impl Setting, rule: Rule, line: &str, expected: &str) {
        let words = quoting::split(line.as_bytes()).unwrap();
        let outcome = value.assign(&rule, &words).map(|()| String::from_utf8(value.print(&rule)).unwrap());
        assert_eq!(outcome.unwrap_or_else(|reason| reason), expected, "{line}");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("", 0),
            ("kb", 0),
            ("1b", 1),
            ("1k", 1000),
            ("1kb", 1024),
            ("1K", 1000),
            ("100mb", 100 << 20),
            ("1m", 1_000_000),
            ("2g", 2_000_000_000),
            ("1GB", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text.as_bytes()), Some(bytes), "{text}");
        }
        for text in ["-1", "1.5gb", "1tb", "1 kb", "x", "18446744073709551616", "17179869184gb"] {
            assert_eq!(parse_bytes(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_and_their_errors() {
        check(0_u16, integer(0, 65535), "6380", "6380");
        check(0_u16, integer(0, 65535), "70000", "argument must be between 0 and 65535 inclusive");
        check(0_u16, integer(0, 65535), "07", "argument couldn't be parsed into an integer");
        check(0_u64, bytes_from(1 << 20), "1kb", "argument must be between 1048576 and 9223372036854775807 inclusive");
        check(0_u64, bytes_from(0), "-1", "argument must be a memory value");
        let octal = Rule::Number { min: 0, max: 0o777, unit: Unit::Octal };
        check(0_u32, octal, "0700", "700");
        check(0_u32, octal, "1000", "argument must be between 0 and 777 inclusive");
        check(0_u32, octal, "8", "argument couldn't be parsed as an octal number");
    }

    #[test]
    fn shares_of_memory() {
        let rule = Rule::Number { min: 0, max: i64::MAX as i128, unit: Unit::BytesOrPercent };
        let share = MemoryShare::Bytes(0);
        check(share, rule, "5%", "5%");
        check(share, rule, "1kb", "1024");
        check(share, rule, "101%", "percentage argument must be less or equal to 100");
        check(share, rule, "x", "argument must be a memory or percent value");
    }

    #[test]
    fn choices() {
        check(LogLevel::Notice, Rule::Type, "DEBUG", "debug");
        check(
            AppendFsync::No,
            Rule::Type,
            "sometimes",
            "argument(s) must be one of the following: everysec, always, no",
        );
        check(OomScoreAdj::No, Rule::Type, "relative", "yes");
        check(false, Rule::Type, "YES", "yes");
        check(false, Rule::Type, "1", "argument must be 'yes' or 'no'");
    }

    #[test]
    fn save_points() {
        check(Vec::<SavePoint>::new(), Rule::Words, "900 1 300 10", "900 1 300 10");
        check(vec![SavePoint { seconds: 1, changes: 1 }], Rule::Words, "\"\"", "");
        for line in ["900", "0 1", "900 x", "900 -1"] {
            check(Vec::<SavePoint>::new(), Rule::Words, line, "Invalid save parameters");
        }
    }

    #[test]
    fn output_limits_change_only_the_named_classes() {
        let limits = OutputLimits::DEFAULT;
        let printed = "normal 1024 2 3 slave 268435456 67108864 60 pubsub 1 1 1";
        check(limits, Rule::Words, "NORMAL 1kb 2 3 pubsub 1 1 1", printed);
        check(limits, Rule::Words, "normal 1", "Wrong number of arguments in buffer limit configuration.");
        check(limits, Rule::Words, "master 1 2 3", "Invalid client class specified in buffer limit configuration.");
        let error = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        check(limits, Rule::Words, "replica 1mb x 3", error);
    }

    #[test]
    fn notify_flags_print_in_canonical_order() {
        let none = NotifyFlags::default();
        for (text, printed) in
            [("KA", "AK"), ("mnKg$t", "g$tnKm"), ("KEAn", "AKE"), ("dg$lshzxetmnKE", "AKEm"), ("", "")]
        {
            check(none, Rule::Type, &format!("\"{text}\""), printed);
        }
        check(none, Rule::Type, "q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    }

    #[test]
    fn addresses() {
        check(default_binds(), Rule::Words, "127.0.0.1 -::1", "127.0.0.1 -::1");
        check(default_binds(), Rule::Words, "\"\"", "");
        check(default_binds(), Rule::Words, "a 'b c'", "Failed to bind to specified addresses.");
        check(default_binds(), Rule::Words, &"a ".repeat(17), "Too many bind addresses specified.");
    }

    #[test]
    fn percentiles() {
        let percentiles = Percentiles(vec![50.0]);
        check(percentiles.clone(), Rule::Words, "50 99.950 100", "50 99.95 100");
        check(percentiles.clone(), Rule::Words, "\"\"", "");
        check(percentiles.clone(), Rule::Words, "x", "Invalid latency-tracking-info-percentiles parameters");
        let error = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
        check(percentiles, Rule::Words, "101", error);
    }

    #[test]
    fn shutdown_options() {
        check(ShutdownOn::default(), Rule::Words, "now save force", "save now force");
        check(ShutdownOn::default(), Rule::Words, "default", "default");
        let error = "shutdown options SAVE and NOSAVE can't be used simultaneously";
        check(ShutdownOn::default(), Rule::Words, "save nosave", error);
        let error = "argument(s) must be one of the following: default, save, nosave, now, force";
        check(ShutdownOn::default(), Rule::Words, "later", error);
    }
}
