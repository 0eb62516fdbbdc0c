//! Keys as lines of JSON: what `convert` writes and reads.
//!
//! ```text
//! {"function": "#!lua name=lib\n…"}
//! {"db": 0, "key": "k", "type": "string", "value": "v", "expire_at_ms": 1700000000000}
//! list    ["a", "b"]                       set     ["a", "b"]
//! hash    [["field", "value"], ["field", "value", expires at ms]]
//! zset    [["member", 1.5], ["member", "inf"]]
//! stream  {"entries": [["1-1", ["field", "value"]]], "last_id": "1-1", "max_deleted_id": "0-0", "entries_added": 1,
//!          "groups": [{"name": "g", "last_id": "1-1", "entries_read": 1,
//!                      "consumers": [{"name": "c", "seen_at_ms": 1, "active_at_ms": 1,
//!                                     "pending": [["1-1", delivered at ms, deliveries]]}]}]}
//! ```
//!
//! Any text that is not UTF-8 is `{"base64": "…"}` in its place. What has no expiry has no member for it.

use serde_json::{Map, Value as Json, json};

use crate::base::number::format_shortest;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::data::collection::{Collection, CollectionType, Env};
use crate::data::entry::{Entry, EntryRef, Value, ValueRef};
use crate::data::hash::{FIELD_TIME_MS_MAX, FieldTime, Hash};
use crate::data::list::List;
use crate::data::listpack::{Digits, Element};
use crate::data::quicklist::End;
use crate::data::set::Set;
use crate::data::stream::{ENTRIES_READ_UNKNOWN, Group, Log, NewId, Pending, Stream, StreamId};
use crate::data::zset::{Added, Zset};

/// What a line holds.
pub enum Line {
    Function(Vec<u8>),
    Key(usize, Entry),
}

/// The line of a library.
pub fn of_function(source: &[u8]) -> Json {
    json!({ "function": text(source) })
}

/// The line of a key.
pub fn of_key(db: usize, entry: EntryRef<'_>) -> Json {
    let value = match entry.value() {
        ValueRef::Text(value) => text(value.bytes(&mut itoa::Buffer::new())),
        ValueRef::Collection(Collection::List(list)) => {
            let mut elements = Vec::new();
            list.walk(End::Head, 0, |each| {
                elements.push(element(each));
                true
            });
            Json::Array(elements)
        }
        ValueRef::Collection(Collection::Set(set)) => set.members().map(element).collect(),
        ValueRef::Collection(Collection::Hash(hash)) => of_hash(hash),
        ValueRef::Collection(Collection::Zset(zset)) => {
            zset.iter().map(|(member, score)| json!([element(member), of_score(score)])).collect()
        }
        ValueRef::Collection(Collection::Stream(stream)) => of_stream(stream),
    };
    let mut line = json!({ "db": db, "key": text(entry.key()), "type": entry.kind().type_name(), "value": value });
    if let Some(at_ms) = entry.expire_at_ms() {
        line["expire_at_ms"] = at_ms.into();
    }
    line
}

fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::from(text),
        Err(_) => json!({ "base64": encode_base64(bytes) }),
    }
}

fn element(element: Element<'_>) -> Json {
    text(element.text(&mut Digits::new()))
}

fn of_hash(hash: &Hash) -> Json {
    // Expired or not: it is not for a converter to drop something.
    let pairs = hash.iter(i64::MIN).map(|(field, value)| {
        let at_ms = hash.field_time(field.text(&mut Digits::new()), i64::MIN).flatten();
        let mut pair = vec![element(field), element(value)];
        pair.extend(at_ms.map(Json::from));
        Json::Array(pair)
    });
    pairs.collect()
}

fn of_score(score: f64) -> Json {
    serde_json::Number::from_f64(score).map_or_else(
        || {
            let mut shown = Vec::new();
            format_shortest(score, &mut shown);
            Json::from(String::from_utf8_lossy(&shown))
        },
        Json::Number,
    )
}

fn of_stream(stream: &Stream) -> Json {
    let log = stream.log();
    let entries = log.range(StreamId::default(), StreamId::MAX).map(|entry| {
        let words = entry.pairs().flat_map(|(field, value)| [element(field), element(value)]);
        json!([of_id(entry.id), words.collect::<Json>()])
    });
    let groups = stream.groups().iter().map(|(name, group)| {
        let consumers = group.consumers().map(|consumer| {
            let pending = consumer.pending().iter().map(|id| {
                let of = group.pending()[id];
                json!([of_id(*id), of.delivered_at_ms, of.deliveries])
            });
            json!({
                "name": text(consumer.name()), "seen_at_ms": consumer.seen_at_ms, "active_at_ms": consumer.active_at_ms,
                "pending": pending.collect::<Json>(),
            })
        });
        json!({
            "name": text(name), "last_id": of_id(group.last_id), "entries_read": group.entries_read,
            "consumers": consumers.collect::<Json>(),
        })
    });
    json!({
        "entries": entries.collect::<Json>(), "last_id": of_id(log.last_id()),
        "max_deleted_id": of_id(log.max_deleted_id()), "entries_added": log.entries_added(),
        "groups": groups.collect::<Json>(),
    })
}

fn of_id(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// Why a line is none of ours.
pub type Wrong = String;

/// Reads a line.
pub fn parse(line: &[u8]) -> Result<Line, Wrong> {
    let line: Json = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Json::Object(line) = &line else { return Err("a line is an object".to_owned()) };
    if let Some(source) = line.get("function") {
        only(line, &["function"])?;
        return Ok(Line::Function(to_text(source)?));
    }
    only(line, &["db", "key", "type", "value", "expire_at_ms"])?;
    let db = to_number(member(line, "db")?)?;
    let key = to_text(member(line, "key")?)?;
    let expire_at_ms = line.get("expire_at_ms").map(to_number).transpose()?;
    let value = member(line, "value")?;
    // Thresholds are the defaults; who loads what becomes of it has its own.
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut env = Env { config: &config, seeds: [0; 4], now_ms: i64::MIN, rng: &mut rng, packed_threshold: 0 };
    let collection: Collection = match member(line, "type")?.as_str() {
        Some("string") => {
            let text = to_text(value)?;
            return Ok(Line::Key(db, Entry::new(&key, Value::Text(&text), expire_at_ms, 0)));
        }
        Some("list") => to_list(value, &env)?.into(),
        Some("set") => to_set(value, &env)?.into(),
        Some("hash") => to_hash(value, &mut env)?.into(),
        Some("zset") => to_zset(value, &env)?.into(),
        Some("stream") => to_stream(value, &config)?.into(),
        _ => return Err("`type` is string, list, set, hash, zset or stream".to_owned()),
    };
    Ok(Line::Key(db, Entry::new(&key, Value::Collection(collection), expire_at_ms, 0)))
}

fn only(object: &Map<String, Json>, names: &[&str]) -> Result<(), Wrong> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!("unknown member `{name}`")),
        None => Ok(()),
    }
}

fn member<'j>(object: &'j Map<String, Json>, name: &str) -> Result<&'j Json, Wrong> {
    object.get(name).ok_or_else(|| format!("`{name}` is missing"))
}

fn to_object<'j>(json: &'j Json, what: &str, names: &[&str]) -> Result<&'j Map<String, Json>, Wrong> {
    let object = json.as_object().ok_or_else(|| format!("{what} is an object"))?;
    only(object, names)?;
    Ok(object)
}

fn to_array<'j>(json: &'j Json, what: &str) -> Result<&'j Vec<Json>, Wrong> {
    json.as_array().ok_or_else(|| format!("{what} is an array"))
}

/// An array that is the value of a key, and so has something in it.
fn to_elements<'j>(json: &'j Json, what: &str) -> Result<&'j Vec<Json>, Wrong> {
    to_array(json, what)
        .and_then(|array| if array.is_empty() { Err(format!("{what} is not empty")) } else { Ok(array) })
}

fn to_text(json: &Json) -> Result<Vec<u8>, Wrong> {
    match json {
        Json::String(text) => Ok(text.as_bytes().to_vec()),
        Json::Object(object) if object.len() == 1 => match object.get("base64") {
            Some(Json::String(text)) => decode_base64(text).ok_or_else(|| "not base64".to_owned()),
            _ => Err("a text is a string or {\"base64\": string}".to_owned()),
        },
        _ => Err("a text is a string or {\"base64\": string}".to_owned()),
    }
}

fn to_number<N: TryFrom<i128>>(json: &Json) -> Result<N, Wrong> {
    let number = json.as_i64().map(i128::from).or(json.as_u64().map(i128::from));
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| format!("{json} is no number for this place"))
}

fn to_list(json: &Json, env: &Env<'_>) -> Result<List, Wrong> {
    let mut list = List::empty();
    for element in to_elements(json, "a list")? {
        list.push(End::Tail, &[&to_text(element)?], env);
    }
    Ok(list)
}

fn to_set(json: &Json, env: &Env<'_>) -> Result<Set, Wrong> {
    let mut set = Set::empty();
    for member in to_elements(json, "a set")? {
        let member = to_text(member)?;
        if !set.add(Element::of(&member), env) {
            return Err(format!("'{}' is in the set twice", member.escape_ascii()));
        }
    }
    Ok(set)
}

fn to_hash(json: &Json, env: &mut Env<'_>) -> Result<Hash, Wrong> {
    let mut hash = Hash::empty();
    for pair in to_elements(json, "a hash")? {
        let (field, value, at_ms) = match &to_array(pair, "a field with its value")?[..] {
            [field, value] => (to_text(field)?, to_text(value)?, None),
            [field, value, at_ms] => (to_text(field)?, to_text(value)?, Some(to_number::<i64>(at_ms)?)),
            _ => return Err("a field has a value, and perhaps a time".to_owned()),
        };
        if !hash.set(&field, &value, FieldTime::Clear, env) {
            return Err(format!("'{}' is in the hash twice", field.escape_ascii()));
        }
        match at_ms {
            None => {}
            Some(0..=FIELD_TIME_MS_MAX) => hash.set_field_time(&field, at_ms),
            Some(at_ms) => return Err(format!("{at_ms} is no time for a field")),
        }
    }
    Ok(hash)
}

fn to_zset(json: &Json, env: &Env<'_>) -> Result<Zset, Wrong> {
    let mut zset = Zset::empty();
    for pair in to_elements(json, "a sorted set")? {
        let [member, score] = &to_array(pair, "a member with its score")?[..] else {
            return Err("a member has a score".to_owned());
        };
        let score = match score {
            Json::String(text) if text == "inf" => f64::INFINITY,
            Json::String(text) if text == "-inf" => f64::NEG_INFINITY,
            score => score.as_f64().ok_or_else(|| format!("{score} is no score"))?,
        };
        let member = to_text(member)?;
        if zset.add(&member, score, env) != Added::New {
            return Err(format!("'{}' is in the sorted set twice", member.escape_ascii()));
        }
    }
    Ok(zset)
}

fn to_stream(json: &Json, config: &Config) -> Result<Stream, Wrong> {
    let names = ["entries", "last_id", "max_deleted_id", "entries_added", "groups"];
    let object = to_object(json, "a stream", &names)?;
    let mut stream = Stream::empty();
    let log = stream.log_mut();
    for entry in to_array(member(object, "entries")?, "`entries`")? {
        let [id, words] = &to_array(entry, "an entry")?[..] else {
            return Err("an entry is an ID and an array of fields and values".to_owned());
        };
        let id = to_id(id)?;
        let words: Vec<Vec<u8>> =
            to_array(words, "the content of an entry")?.iter().map(to_text).collect::<Result<_, _>>()?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        if words.is_empty() || !words.len().is_multiple_of(2) || !Log::is_storable(&words) {
            return Err(format!("entry {} cannot be stored", of_id(id)));
        }
        let id =
            log.new_id(NewId::Exactly(id), 0).ok_or_else(|| format!("entry {} is not behind the last", of_id(id)))?;
        log.append(id, &words, config);
    }
    let last_id = to_id(member(object, "last_id")?)?;
    if last_id < log.last_id() {
        return Err("`last_id` is before the last entry".to_owned());
    }
    let (added, deleted) = (member(object, "entries_added")?, member(object, "max_deleted_id")?);
    log.set_last_id(last_id, Some(to_number(added)?), Some(to_id(deleted)?));
    for group in to_array(member(object, "groups")?, "`groups`")? {
        let (name, group) = to_group(group)?;
        if stream.groups_mut().insert(name.clone().into(), group).is_some() {
            return Err(format!("group '{}' is there twice", name.escape_ascii()));
        }
    }
    Ok(stream)
}

fn to_group(json: &Json) -> Result<(Vec<u8>, Group), Wrong> {
    let object = to_object(json, "a group", &["name", "last_id", "entries_read", "consumers"])?;
    let entries_read = to_number::<i64>(member(object, "entries_read")?)?;
    if entries_read < ENTRIES_READ_UNKNOWN {
        return Err(format!("{entries_read} is no number of entries"));
    }
    let mut group = Group::new(to_id(member(object, "last_id")?)?, entries_read);
    for consumer in to_array(member(object, "consumers")?, "`consumers`")? {
        let object = to_object(consumer, "a consumer", &["name", "seen_at_ms", "active_at_ms", "pending"])?;
        let name = to_text(member(object, "name")?)?;
        if group.consumer_number(&name).is_some() {
            return Err(format!("consumer '{}' is there twice", name.escape_ascii()));
        }
        let number = group.create_consumer(&name, to_number(member(object, "seen_at_ms")?)?);
        group.consumer_mut(number).active_at_ms = to_number(member(object, "active_at_ms")?)?;
        for pending in to_array(member(object, "pending")?, "`pending`")? {
            let [id, delivered_at_ms, deliveries] = &to_array(pending, "a pending entry")?[..] else {
                return Err("a pending entry is an ID, a time and a number".to_owned());
            };
            let (delivered_at_ms, deliveries) = (to_number(delivered_at_ms)?, to_number(deliveries)?);
            let id = to_id(id)?;
            if group.pending().contains_key(&id) {
                return Err(format!("{} is pending twice", of_id(id)));
            }
            group.set_pending(id, Pending { consumer: number, delivered_at_ms, deliveries });
        }
    }
    Ok((name_of(object)?, group))
}

fn name_of(object: &Map<String, Json>) -> Result<Vec<u8>, Wrong> {
    to_text(member(object, "name")?)
}

fn to_id(json: &Json) -> Result<StreamId, Wrong> {
    let id = json.as_str().and_then(|text| {
        let (ms, seq) = text.split_once('-')?;
        Some(StreamId::new(ms.parse().ok()?, seq.parse().ok()?))
    });
    id.ok_or_else(|| format!("{json} is no ID"))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * at) & 0x3f) as usize];
            text.push(if at <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let fours = text.as_bytes().chunks(4);
    let last = fours.len().checked_sub(1);
    for (index, four) in fours.enumerate() {
        let padding = four.iter().rev().take_while(|&&digit| digit == b'=').count();
        if four.len() < 4 || padding > 2 || padding > 0 && Some(index) != last {
            return None;
        }
        let mut bits = 0;
        for digit in &four[..4 - padding] {
            bits = bits << 6 | BASE64.iter().position(|of| of == digit)? as u32;
        }
        bits <<= 6 * padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_everybody() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode_base64(bytes.as_bytes()), text);
            assert_eq!(decode_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for text in ["Z", "Zg=", "Zg==Zg==", "Z===", "Zm9*", "===="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode_base64(&encode_base64(&all)), Some(all));
    }

    fn check(line: &str, outcome: Result<&str, &str>) {
        let parsed = match parse(line.as_bytes()) {
            Ok(Line::Key(db, entry)) => Ok(of_key(db, entry.as_ref()).to_string()),
            Ok(Line::Function(source)) => Ok(of_function(&source).to_string()),
            Err(wrong) => Err(wrong),
        };
        assert_eq!(parsed.as_deref().map_err(String::as_str), outcome, "{line}");
    }

    #[test]
    fn a_line_is_what_it_was_made_of() {
        for line in [
            r##"{"function":"#!lua name=x\n"}"##,
            r#"{"db":3,"key":"k","type":"string","value":"é\u0000"}"#,
            r#"{"db":0,"expire_at_ms":-5,"key":{"base64":"/w=="},"type":"string","value":"12"}"#,
            r#"{"db":0,"key":"k","type":"list","value":["a","1",{"base64":"gA=="}]}"#,
            r#"{"db":0,"key":"k","type":"set","value":["1","2"]}"#,
            r#"{"db":0,"key":"k","type":"hash","value":[["f","v"],["g","w",1700000000000]]}"#,
            r#"{"db":0,"key":"k","type":"zset","value":[["a","-inf"],["b",-0.1],["c",3.0],["d",1e300],["e","inf"]]}"#,
        ] {
            let line: Json = serde_json::from_str(line).expect("JSON");
            check(&line.to_string(), Ok(&line.to_string()));
        }
    }

    #[test]
    fn a_stream_keeps_its_groups() {
        let line = json!({"db": 0, "key": "s", "type": "stream", "value": {
            "entries": [["1-1", ["f", "v"]], ["2-0", ["f", "w", "g", "x"]]], "last_id": "9-9", "max_deleted_id": "3-0",
            "entries_added": 7, "groups": [{"name": "g", "last_id": "1-1", "entries_read": -1, "consumers": [
                {"name": "c", "seen_at_ms": 5, "active_at_ms": -1, "pending": [["1-1", 4, 2]]}]}]}});
        check(&line.to_string(), Ok(&line.to_string()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, wrong) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("[]", "a line is an object"),
            (r#"{"db":0,"key":"k","type":"string"}"#, "`value` is missing"),
            (r#"{"db":-1,"key":"k","type":"string","value":"v"}"#, "-1 is no number for this place"),
            (r#"{"db":0,"key":"k","type":"string","value":"v","ttl":1}"#, "unknown member `ttl`"),
            (r#"{"db":0,"key":"k","type":"array","value":[]}"#, "`type` is string, list, set, hash, zset or stream"),
            (r#"{"db":0,"key":"k","type":"string","value":{"base64":"?"}}"#, "not base64"),
            (r#"{"db":0,"key":"k","type":"list","value":[]}"#, "a list is not empty"),
            (r#"{"db":0,"key":"k","type":"set","value":["a","a"]}"#, "'a' is in the set twice"),
            (r#"{"db":0,"key":"k","type":"hash","value":[["f","v",-1]]}"#, "-1 is no time for a field"),
            (r#"{"db":0,"key":"k","type":"zset","value":[["f","nan"]]}"#, r#""nan" is no score"#),
        ] {
            check(line, Err(wrong));
        }
        let stream = |entries: Json, last_id: &str| {
            let value = json!({"entries": entries, "last_id": last_id, "max_deleted_id": "0-0", "entries_added": 1,
                               "groups": []});
            json!({"db": 0, "key": "s", "type": "stream", "value": value}).to_string()
        };
        check(&stream(json!([["1-1", ["f"]]]), "1-1"), Err("entry 1-1 cannot be stored"));
        check(&stream(json!([["0-0", ["f", "v"]]]), "1-1"), Err("entry 0-0 is not behind the last"));
        check(&stream(json!([["2-1", ["f", "v"]]]), "1-1"), Err("`last_id` is before the last entry"));
        check(&stream(json!([]), "x"), Err(r#""x" is no ID"#));
    }
}
