//! What Redis answers, as plainly as it can be said: the commands that simulated clients send, on a map.

use std::collections::BTreeMap;

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs a command and returns its encoded reply.
pub fn apply(map: &mut Map, words: &[Vec<u8>]) -> Vec<u8> {
    let name = String::from_utf8_lossy(&words[0]).to_uppercase();
    let args = &words[1..];
    match name.as_str() {
        "PING" => b"+PONG\r\n".to_vec(),
        "GET" => bulk(map.get(&args[0])),
        "STRLEN" => integer(map.get(&args[0]).map_or(0, Vec::len) as i64),
        "SET" => {
            map.insert(args[0].clone(), args[1].clone());
            ok()
        }
        "GETSET" => bulk(map.insert(args[0].clone(), args[1].clone()).as_ref()),
        "GETDEL" => bulk(map.remove(&args[0]).as_ref()),
        "APPEND" => {
            let value = map.entry(args[0].clone()).or_default();
            value.extend_from_slice(&args[1]);
            integer(value.len() as i64)
        }
        "INCR" => {
            let value = map.get(&args[0]).map_or(Some(0), |value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
            let Some(value) = value else { return error("ERR value is not an integer or out of range") };
            map.insert(args[0].clone(), (value + 1).to_string().into_bytes());
            integer(value + 1)
        }
        "DEL" | "UNLINK" => integer(args.iter().filter(|&key| map.remove(key).is_some()).count() as i64),
        "EXISTS" => integer(args.iter().filter(|&key| map.contains_key(key)).count() as i64),
        "MGET" => {
            let values: Vec<u8> = args.iter().flat_map(|key| bulk(map.get(key))).collect();
            [format!("*{}\r\n", args.len()).as_bytes(), &values].concat()
        }
        "MSET" => {
            map.extend(args.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            ok()
        }
        "MSETNX" => {
            let free = args.chunks(2).all(|pair| !map.contains_key(&pair[0]));
            if free {
                map.extend(args.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            }
            integer(i64::from(free))
        }
        "RENAME" | "RENAMENX" => {
            if !map.contains_key(&args[0]) {
                return error("ERR no such key");
            }
            let free = name == "RENAME" || !map.contains_key(&args[1]);
            if free {
                let value = map.remove(&args[0]).expect("checked");
                map.insert(args[1].clone(), value);
            }
            if name == "RENAME" { ok() } else { integer(i64::from(free)) }
        }
        "COPY" => {
            let free = !map.contains_key(&args[1]);
            match map.get(&args[0]).filter(|_| free).cloned() {
                Some(value) => {
                    map.insert(args[1].clone(), value);
                    integer(1)
                }
                None => integer(0),
            }
        }
        other => unreachable!("no client sends {other}"),
    }
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

pub fn bulk(value: Option<&Vec<u8>>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

fn elements_end(bytes: &[u8], begin: usize, elements: i64) -> Option<usize> {
    (0..elements.max(0)).try_fold(begin, |at, _| Some(at + reply_length(bytes.get(at..)?)?))
}

/// How long the first reply is, if all of it is there.
pub fn reply_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let length = || std::str::from_utf8(&bytes[1..end - 2]).ok()?.parse::<i64>().ok();
    let total = match bytes[0] {
        b'$' => end + length().filter(|&length| length >= 0).map_or(0, |length| length as usize + 2),
        b'*' | b'>' => elements_end(bytes, end, length()?)?,
        b'%' => elements_end(bytes, end, 2 * length()?)?,
        _ => end,
    };
    (bytes.len() >= total).then_some(total)
}
