//! What a command *is*: one declaration, from which everything else derives.
//!
//! A family declares `pub const ROWS: &[Row<F>]`, each row a [`Spec`] and the function that runs it. Arity errors, gates,
//! ACL categories, routing, COMMAND INFO and COMMAND DOCS all read the `Spec`; nothing about a command is written twice.
//! Everything here is constructed at compile time and allocates nothing. Terms and wire names are those of
//! COMMAND INFO and COMMAND DOCS (Redis documentation).
//!
//! It does not know handlers (`Row` is generic over their kind), shards or sessions.

pub use self::{Arity::*, Merge::*, Shape::*};
pub use super::keys::*;

/// A command and the function that runs it; `F` is set by the folder that owns the rows.
pub struct Row<F> {
    pub spec: Spec,
    pub run: F,
}

impl<F> std::fmt::Debug for Row<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.spec.name)
    }
}

/// The declaration of a command, or of a subcommand.
///
/// A family keeps what its rows have in common in a const of its own, and a row ends with `..STRING`.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In lower case; a subcommand's holds its container's too: `config|get`.
    pub name: &'static str,
    pub arity: Arity,
    pub flags: Flags,
    /// The declared categories only; [`Spec::all_categories`] adds those that the flags imply.
    pub categories: Categories,
    pub group: Group,
    pub keys: &'static [KeySpec],
    /// Finds the keys where the key specs are incomplete, or their flags depend on the arguments.
    pub extract: Option<Extract>,
    /// Whether these words make it read keys that the data names and the words do not: these may lie on any shard.
    pub reaches: Option<Reaches>,
    /// Whether these words make it wait when there is nothing at its keys; only then is it more than a plain command.
    pub waits: Option<Waits>,
    pub shape: Shape,
    pub since: &'static str,
    /// Empty where Redis documents none.
    pub complexity: &'static str,
    pub summary: &'static str,
    pub args: &'static [Arg],
    pub subcommands: &'static [Spec],
    /// (version, what changed), in Redis's words: clients show them.
    pub history: &'static [(&'static str, &'static str)],
    pub tips: &'static [&'static str],
    pub deprecated: Option<Deprecated>,
    /// Called by servers and tests, not by clients.
    pub system: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Deprecated {
    pub since: &'static str,
    pub replaced_by: &'static str,
}

impl Spec {
    pub const DEFAULT: Spec = Spec {
        name: "",
        arity: Arity::Exactly(1),
        flags: Flags::NONE,
        categories: Categories::NONE,
        group: Group::Generic,
        keys: &[],
        extract: None,
        reaches: None,
        waits: None,
        shape: Shape::Here,
        since: "",
        complexity: "",
        summary: "",
        args: &[],
        subcommands: &[],
        history: &[],
        tips: &[],
        deprecated: None,
        system: false,
    };

    /// The name without its container: `get` of `config|get`.
    pub fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, own)| own)
    }

    /// Compares as clients write names: in any case.
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.own_name().as_bytes().eq_ignore_ascii_case(name)
    }

    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|subcommand| subcommand.is_named(name))
    }

    /// The subcommand that these words call, where there is one.
    pub fn called(&self, words: &[&[u8]]) -> &Spec {
        let subcommand = words.get(1).and_then(|name| self.subcommand(name));
        subcommand.unwrap_or(self)
    }

    /// Declared categories and those that follow from the flags, by Redis's rules.
    pub const fn all_categories(&self) -> Categories {
        let flags = self.flags;
        let mut all = self.categories;
        if flags.has(WRITE) {
            all = all.and(category::WRITE);
        }
        // EVAL_RO and its like are readonly, but what they may call is not theirs to grant with @read.
        if flags.has(READONLY) && !all.has(category::SCRIPTING) {
            all = all.and(category::READ);
        }
        if flags.has(ADMIN) {
            all = all.and(category::ADMIN).and(category::DANGEROUS);
        }
        if flags.has(PUBSUB) {
            all = all.and(category::PUBSUB);
        }
        if flags.has(BLOCKING) {
            all = all.and(category::BLOCKING);
        }
        all.and(if flags.has(FAST) { category::FAST } else { category::SLOW })
    }

    /// The flags COMMAND INFO shows: those declared, and `movablekeys` where first, last and step cannot say it all.
    pub const fn all_flags(&self) -> Flags {
        if KeyRange::of(self.keys).movable { self.flags.and(MOVABLEKEYS) } else { self.flags }
    }
}

/// How many words a command takes, its own name (and its container's) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    Exactly(u8),
    AtLeast(u8),
}

impl Arity {
    pub const fn allows(self, words: usize) -> bool {
        match self {
            Arity::Exactly(n) => words == n as usize,
            Arity::AtLeast(n) => words >= n as usize,
        }
    }

    /// As COMMAND INFO writes it: negative for a minimum.
    pub const fn number(self) -> i64 {
        match self {
            Arity::Exactly(n) => n as i64,
            Arity::AtLeast(n) => -(n as i64),
        }
    }
}

/// How a command spreads over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No key: the connection's shard runs it.
    Here,
    /// Runs where its keys live; if that is more than one shard, as a transaction over them.
    OneShard,
    /// Splits into one command a key (or key and value), whose replies are merged.
    PerKey(Merge),
    /// Takes something from the first of its keys that exists.
    FirstOf,
    /// Reads on some shards what it computes with, or writes, on others: two hops.
    Gather,
    /// Runs on every shard.
    EveryShard(Merge),
    /// Runs on the shard that its cursor names, one after the other.
    ByCursor,
}

/// How the replies of several shards become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    SumInteger,
    /// One element a key, in the order of the command's keys.
    ArrayInKeyOrder,
    /// All elements, in any order.
    ArrayConcatenated,
    /// OK if all say so.
    AllOk,
    /// The reply of one shard, drawn in proportion to the number of keys.
    OneByWeight,
}

/// The `group` of COMMAND DOCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    Hyperloglog,
    List,
    Pubsub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    pub const fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::Hyperloglog => "hyperloglog",
            Group::List => "list",
            Group::Pubsub => "pubsub",
            Group::Scripting => "scripting",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// A set of named bits, and a const for each; names are listed in the order in which Redis writes them. A bit whose wire
/// name is empty is the server's own business and never shown.
macro_rules! bit_set {
    ($(#[$doc:meta])* $set:ident { $($bit:ident = $wire:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set(u32);
        impl $set {
            pub const NONE: $set = $set(0);
            pub const NAMES: &[&str] = &[$($wire),*];
            pub const fn and(self, other: $set) -> $set { $set(self.0 | other.0) }
            pub const fn has(self, other: $set) -> bool { self.0 & other.0 == other.0 }
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                let set = move |&(bit, name): &(usize, &&str)| self.0 >> bit & 1 == 1 && !name.is_empty();
                Self::NAMES.iter().enumerate().filter(set).map(|(_, name)| *name)
            }
            pub fn by_name(name: &[u8]) -> Option<$set> {
                let same = |known: &&str| !known.is_empty() && known.as_bytes().eq_ignore_ascii_case(name);
                Self::NAMES.iter().position(same).map(|bit| $set(1 << bit))
            }
        }
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Bit { $($bit),* }
        $(pub const $bit: $set = $set(1 << Bit::$bit as u32);)*
    };
}
pub(super) use bit_set;

bit_set! {
    /// What a command may do, and when it may run.
    Flags {
        WRITE = "write",
        READONLY = "readonly",
        DENYOOM = "denyoom",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        NOSCRIPT = "noscript",
        BLOCKING = "blocking",
        LOADING = "loading",
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        ASKING = "asking",
        FAST = "fast",
        NO_AUTH = "no_auth",
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        NO_ASYNC_LOADING = "no_async_loading",
        NO_MULTI = "no_multi",
        MOVABLEKEYS = "movablekeys",
        ALLOW_BUSY = "allow_busy",
        // Not a write by itself, but what it leads to may be: held by CLIENT PAUSE WRITE.
        MAY_REPLICATE = "",
        // Gated by `enable-debug-command` or `enable-module-command`.
        PROTECTED = "",
        // Its replies are pushes, which CLIENT REPLY does not silence.
        PUSH_REPLY = "",
        // Allowed to a subscriber that speaks RESP2.
        SUBSCRIBED = "",
    }
}

pub use category::Categories;

/// ACL categories; ACL CAT lists them in this order.
pub mod category {
    super::bit_set! {
        /// A set of ACL categories.
        Categories {
            KEYSPACE = "keyspace",
            READ = "read",
            WRITE = "write",
            SET = "set",
            SORTEDSET = "sortedset",
            LIST = "list",
            HASH = "hash",
            STRING = "string",
            BITMAP = "bitmap",
            HYPERLOGLOG = "hyperloglog",
            GEO = "geo",
            STREAM = "stream",
            PUBSUB = "pubsub",
            ADMIN = "admin",
            FAST = "fast",
            SLOW = "slow",
            BLOCKING = "blocking",
            DANGEROUS = "dangerous",
            CONNECTION = "connection",
            TRANSACTION = "transaction",
            SCRIPTING = "scripting",
        }
    }
}

/// A node of the argument tree that COMMAND DOCS shows.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// `None`: the token in lower case.
    pub name: Option<&'static str>,
    pub kind: ArgKind,
    /// The word that stands before the value, or is the argument (a pure token).
    pub token: Option<&'static str>,
    /// `None`: the name.
    pub display: Option<&'static str>,
    /// Which of the command's key specs finds this key.
    pub key_spec: Option<u8>,
    pub since: &'static str,
    pub deprecated_since: &'static str,
    pub optional: bool,
    pub multiple: bool,
    /// The token is repeated with each value.
    pub multiple_token: bool,
    pub args: &'static [Arg],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    Key,
    String,
    Integer,
    Double,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgKind {
    pub const fn name(self) -> &'static str {
        match self {
            ArgKind::Key => "key",
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf => "oneof",
            ArgKind::Block => "block",
        }
    }
}

/// A key found by the first key spec; `.key_spec(1)` names another.
pub const fn key(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::Key, &[]).key_spec(0)
}

pub const fn string(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::String, &[])
}

pub const fn integer(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::Integer, &[])
}

pub const fn double(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::Double, &[])
}

pub const fn pattern(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::Pattern, &[])
}

pub const fn unix_time(name: &'static str) -> Arg {
    Arg::new(name, ArgKind::UnixTime, &[])
}

/// A word that stands for itself, named like itself: `token("NX")`; `.named()` gives it another name.
pub const fn token(token: &'static str) -> Arg {
    Arg { name: None, ..Arg::new("", ArgKind::PureToken, &[]).after(token) }
}

pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Arg {
    Arg::new(name, ArgKind::OneOf, args)
}

pub const fn block(name: &'static str, args: &'static [Arg]) -> Arg {
    Arg::new(name, ArgKind::Block, args)
}

impl Arg {
    const fn new(name: &'static str, kind: ArgKind, args: &'static [Arg]) -> Arg {
        Arg {
            name: Some(name),
            kind,
            token: None,
            display: None,
            key_spec: None,
            since: "",
            deprecated_since: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            args,
        }
    }

    /// The word before the value: `integer("seconds").after("EX")`.
    pub const fn after(self, token: &'static str) -> Arg {
        Arg { token: Some(token), ..self }
    }

    pub const fn named(self, name: &'static str) -> Arg {
        Arg { name: Some(name), ..self }
    }

    pub const fn display(self, text: &'static str) -> Arg {
        Arg { display: Some(text), ..self }
    }

    pub const fn key_spec(self, index: u8) -> Arg {
        Arg { key_spec: Some(index), ..self }
    }

    pub const fn since(self, version: &'static str) -> Arg {
        Arg { since: version, ..self }
    }

    pub const fn deprecated_since(self, version: &'static str) -> Arg {
        Arg { deprecated_since: version, ..self }
    }

    pub const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }

    pub const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }

    pub const fn multiple_token(self) -> Arg {
        Arg { multiple_token: true, ..self }
    }
}

/// What must hold for every declaration; a family's tests call it for each of its rows.
#[cfg(test)]
pub(crate) fn assert_consistent(spec: &Spec) {
    let name = spec.name;
    assert!(!name.is_empty() && !name.contains(|c: char| c.is_ascii_uppercase()), "{name}: in lower case");
    assert!(!spec.since.is_empty() && !spec.summary.is_empty(), "{name}: documented");
    assert!(!(spec.flags.has(WRITE) && spec.flags.has(READONLY)), "{name}: writes or only reads");
    let has_key_shape = matches!(spec.shape, OneShard | PerKey(_) | Gather | FirstOf);
    assert_eq!(has_keys(spec), has_key_shape, "{name}: a shape that fits its keys");
    assert!(!has_keys(spec) || !spec.keys.is_empty(), "{name}: an extractor stands beside key specs, not for them");
    assert_args_consistent(spec, spec.args);
    for subcommand in spec.subcommands {
        let container = subcommand.name.split('|').next();
        assert!(container == Some(name) && subcommand.name != name, "{name}: holds {}", subcommand.name);
        assert!(subcommand.subcommands.is_empty(), "{name}: one level of subcommands");
        assert_consistent(subcommand);
    }
}

#[cfg(test)]
fn assert_args_consistent(spec: &Spec, args: &[Arg]) {
    for arg in args {
        let nests = matches!(arg.kind, ArgKind::OneOf | ArgKind::Block);
        assert_eq!(nests, !arg.args.is_empty(), "{}: {arg:?}", spec.name);
        assert!(arg.key_spec.is_none_or(|index| usize::from(index) < spec.keys.len()), "{}: {arg:?}", spec.name);
        assert!(!arg.multiple_token || (arg.multiple && arg.token.is_some()), "{}: {arg:?}", spec.name);
        assert_args_consistent(spec, arg.args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_consistent_with_itself() {
        const SET: Spec = Spec {
            name: "set",
            keys: &[key_at(1, OW)],
            shape: OneShard,
            since: "1.0.0",
            summary: "Stores.",
            args: &[key("key")],
            ..Spec::DEFAULT
        };
        assert_consistent(&SET);
        let wrong = [
            Spec { name: "SET", ..SET },
            Spec { shape: Here, ..SET },
            Spec { flags: WRITE.and(READONLY), ..SET },
            Spec { args: const { &[key("key").key_spec(1)] }, ..SET },
            Spec { subcommands: const { &[Spec { name: "get|x", ..SET }] }, ..SET },
        ];
        for spec in wrong {
            assert!(std::panic::catch_unwind(|| assert_consistent(&spec)).is_err(), "{spec:?}");
        }
    }

    fn categories(flags: Flags, declared: Categories) -> Vec<&'static str> {
        Spec { flags, categories: declared, ..Spec::DEFAULT }.all_categories().names().collect()
    }

    #[test]
    fn flags_imply_categories() {
        assert_eq!(categories(READONLY.and(FAST), category::STRING), ["read", "string", "fast"]);
        assert_eq!(categories(WRITE.and(DENYOOM), category::STRING), ["write", "string", "slow"]);
        assert_eq!(categories(ADMIN, Categories::NONE), ["admin", "slow", "dangerous"]);
        assert_eq!(categories(PUBSUB.and(FAST), Categories::NONE), ["pubsub", "fast"]);
        assert_eq!(categories(WRITE.and(BLOCKING), category::LIST), ["write", "list", "slow", "blocking"]);
    }

    #[test]
    fn a_readonly_script_command_is_not_in_the_read_category() {
        assert_eq!(categories(READONLY.and(NOSCRIPT), category::SCRIPTING), ["slow", "scripting"]);
    }

    #[test]
    fn movablekeys_follows_from_the_key_specs() {
        let flags = |keys| Spec { keys, flags: READONLY, ..Spec::DEFAULT }.all_flags().names().collect::<Vec<_>>();
        assert_eq!(flags(const { &[key_at(1, RO)] }), ["readonly"]);
        assert_eq!(flags(const { &[keys_counted_at(1, RO)] }), ["readonly", "movablekeys"]);
    }

    #[test]
    fn internal_flags_have_no_name() {
        assert_eq!(WRITE.and(MAY_REPLICATE).and(PROTECTED).names().collect::<Vec<_>>(), ["write"]);
        assert_eq!(Flags::by_name(b""), None);
    }

    #[test]
    fn names_compare_in_any_case_and_without_the_container() {
        const GET: Spec = Spec { name: "config|get", ..Spec::DEFAULT };
        const CONFIG: Spec = Spec { name: "config", subcommands: &[GET], ..Spec::DEFAULT };
        assert!(CONFIG.is_named(b"CoNfIg"));
        assert_eq!(CONFIG.subcommand(b"GET").map(|spec| spec.name), Some("config|get"));
        assert!(CONFIG.subcommand(b"config|get").is_none());
        assert_eq!(category::Categories::by_name(b"SortedSet"), Some(category::SORTEDSET));
    }

    #[test]
    fn arity_counts_the_name() {
        assert!(Arity::Exactly(2).allows(2) && !Arity::Exactly(2).allows(3));
        assert!(Arity::AtLeast(2).allows(3) && !Arity::AtLeast(2).allows(1));
        assert_eq!((Arity::Exactly(2).number(), Arity::AtLeast(3).number()), (2, -3));
    }
}
