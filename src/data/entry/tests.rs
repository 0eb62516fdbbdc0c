use proptest::prelude::*;

use super::*;

/// The safe twin: what an entry means, with none of its layout.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    key: Vec<u8>,
    text: Vec<u8>,
    kind: Kind,
    expire_at_ms: Option<i64>,
    access: u32,
}

impl Model {
    fn of(entry: &Entry) -> Model {
        let text = match entry.as_ref().text() {
            TextRef::Int(n) => n.to_string().into_bytes(),
            TextRef::Bytes(bytes) => bytes.to_vec(),
            TextRef::Shared(bytes) => bytes.to_vec(),
        };
        Model {
            key: entry.key().to_vec(),
            text,
            kind: entry.kind(),
            expire_at_ms: entry.expire_at_ms(),
            access: entry.access(),
        }
    }

    fn set(&mut self, text: &[u8]) {
        let is_integer = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .is_some_and(|n| n.to_string().as_bytes() == text);
        self.kind = match text.len() {
            _ if is_integer => Kind::StringInt,
            ..=44 => Kind::StringEmbstr,
            _ => Kind::StringRaw,
        };
        self.text = text.to_vec();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(Vec<u8>),
    SetBoth(Vec<u8>, Option<i64>),
    SetShared(usize),
    SetInt(i64),
    Expire(Option<i64>),
    Append(Vec<u8>),
    SetRange(usize, Vec<u8>),
    Access(u32),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let long = prop_oneof![Just(239usize), Just(240), Just(1023), Just(1024), Just(1025), Just(32_768), 0..3_000usize];
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        2 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        1 => "-?0?[0-9]{1,21}".prop_map(String::into_bytes),
        2 => (long, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        text().prop_map(Step::Set),
        (text(), any::<Option<i64>>()).prop_map(|(text, expire)| Step::SetBoth(text, expire)),
        prop_oneof![Just(5usize), Just(100), Just(SHARED_LEN_MIN - 1), Just(SHARED_LEN_MIN)].prop_map(Step::SetShared),
        any::<i64>().prop_map(Step::SetInt),
        any::<Option<i64>>().prop_map(Step::Expire),
        text().prop_map(Step::Append),
        (0..3_000usize, text()).prop_map(|(offset, patch)| Step::SetRange(offset, patch)),
        (0..1u32 << ACCESS_BITS).prop_map(Step::Access),
    ]
}

proptest! {
    #[test]
    fn entry_behaves_like_a_struct(
        key_len in prop_oneof![0..40usize, Just(255), Just(256), Just(257), 0..2_000usize],
        first in text(),
        expire in any::<Option<i64>>(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let key = vec![b'k'; key_len];
        let mut entry = Entry::new(&key, Value::Text(&first), expire, 7);
        let mut model = Model { key, text: vec![], kind: Kind::StringInt, expire_at_ms: expire, access: 7 };
        model.set(&first);
        for step in steps {
            match step {
                Step::Set(text) => {
                    entry.set_value(Value::Text(&text));
                    model.set(&text);
                }
                Step::SetBoth(text, expire) => {
                    entry.set_value_and_expire(Value::Text(&text), expire);
                    model.set(&text);
                    model.expire_at_ms = expire;
                }
                Step::SetShared(len) => {
                    let bytes = Bytes::from(vec![b's'; len]);
                    entry.set_value(Value::Shared(bytes.clone()));
                    model.set(&bytes);
                    if len >= SHARED_LEN_MIN {
                        let TextRef::Shared(held) = entry.as_ref().text() else { panic!("copied") };
                        prop_assert_eq!(held.as_ptr(), bytes.as_ptr());
                    }
                }
                Step::SetInt(n) => {
                    entry.set_value(Value::Int(n));
                    model.set(n.to_string().as_bytes());
                }
                Step::Expire(expire) => {
                    entry.set_expire(expire);
                    model.expire_at_ms = expire;
                }
                Step::Append(tail) => {
                    entry.append(&tail);
                    model.text.extend(tail);
                    model.kind = Kind::StringRaw;
                }
                Step::SetRange(offset, patch) => {
                    entry.set_range(offset, &patch);
                    let len = model.text.len().max(offset + patch.len());
                    model.text.resize(len, 0);
                    model.text[offset..offset + patch.len()].copy_from_slice(&patch);
                    model.kind = Kind::StringRaw;
                }
                Step::Access(access) => {
                    entry.set_access(access);
                    model.access = access;
                }
            }
            prop_assert_eq!(&Model::of(&entry), &model);
            prop_assert_eq!(entry.as_ref().text().len(), model.text.len());
            prop_assert!(entry.usable_bytes() >= model.key.len() + 6);
        }
    }
}

/// Where the allocation is, to see whether it was replaced.
fn address(entry: &Entry) -> *const u8 {
    entry.key().as_ptr()
}

#[test]
fn a_value_of_the_same_size_class_is_replaced_in_place() {
    let mut entry = Entry::new(b"key", Value::Text(&[b'a'; 60]), None, 0);
    let before = address(&entry);
    entry.set_value(Value::Text(&[b'b'; 71]));
    entry.set_value_and_expire(Value::Text(&[b'c'; 58]), Some(1));
    assert_eq!(address(&entry), before);
    entry.set_value(Value::Int(1));
    assert_eq!(entry.usable_bytes(), 32, "a value of a smaller class gives memory back");
}

#[test]
fn an_integer_is_updated_in_place() {
    let mut entry = Entry::new(b"counter", Value::Text(b"9"), None, 0);
    let before = address(&entry);
    entry.set_value(Value::Int(i64::MIN));
    assert_eq!((entry.as_ref().text(), address(&entry)), (TextRef::Int(i64::MIN), before));
}

#[test]
fn six_bytes_of_header_for_a_short_string() {
    for (key_len, value_len, size) in [(16, 10, 32), (16, 11, 48), (16, 239, 320), (16, 234, 256), (3, 4000, 16)] {
        let entry = Entry::new(&vec![b'k'; key_len], Value::Text(&vec![b'v'; value_len]), None, 0);
        assert_eq!(entry.as_ref().allocated(), size, "{key_len} {value_len}");
    }
}

#[test]
fn an_append_to_a_shared_value_copies_it_first() {
    let bytes = Bytes::from(vec![b's'; SHARED_LEN_MIN]);
    let mut entry = Entry::new(b"key", Value::Shared(bytes.clone()), None, 0);
    entry.append(b"tail");
    assert_eq!(bytes, vec![b's'; SHARED_LEN_MIN]);
    assert_eq!(entry.as_ref().text().len(), SHARED_LEN_MIN + 4);
}

#[test]
fn encodings_are_those_of_redis() {
    let encoding = |value: Value<'_>| Entry::new(b"key", value, None, 0).kind().encoding_name();
    assert_eq!(encoding(Value::Text(b"-9223372036854775808")), "int");
    assert_eq!(encoding(Value::Text(b"9223372036854775808")), "embstr");
    for text in [&b""[..], b"-", b"-0", b"+1", b"01", b"1 ", b"1.0"] {
        assert_eq!(encoding(Value::Text(text)), "embstr", "{}", text.escape_ascii());
    }
    assert_eq!(encoding(Value::Text(&[b'x'; 44])), "embstr");
    assert_eq!(encoding(Value::Text(&[b'x'; 45])), "raw");
    assert_eq!(encoding(Value::Plain(b"10")), "embstr");
    assert_eq!(encoding(Value::Raw(b"10")), "raw");
    assert_eq!(encoding(Value::Shared(Bytes::from_static(b"10"))), "int");
}
