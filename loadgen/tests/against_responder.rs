//! The program as a user runs it, against a server small enough to be certain of: it keeps strings, counts what it is
//! asked, and can be told to stall or to hang up.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

#[derive(Default)]
struct State {
    values: HashMap<Vec<u8>, Vec<u8>>,
    /// Requests by the name of the command.
    requests: BTreeMap<String, u64>,
    /// Writes per key.
    writes: HashMap<Vec<u8>, u64>,
    /// Words of requests that are neither GET nor SET.
    others: Vec<Vec<String>>,
    stall_once: Option<Duration>,
    hang_up_after: Option<u64>,
}

type Shared = Arc<Mutex<State>>;

fn responder(state: State) -> (String, Shared) {
    let shared = Arc::new(Mutex::new(state));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (shared, reader) = (accepted.clone(), stream.try_clone().unwrap());
            std::thread::spawn(move || serve(reader, stream, &shared));
        }
    });
    (address, shared)
}

fn serve(reader: impl Read, mut writer: impl Write, shared: &Shared) {
    let mut reader = BufReader::new(reader);
    while let Some(words) = read_request(&mut reader) {
        let (reply, stall) = {
            let mut state = shared.lock().unwrap();
            match answer(&mut state, &words) {
                Some(reply) => (reply, state.stall_once.take_if(|_| words[0] == b"PING")),
                None => return,
            }
        };
        if let Some(stall) = stall {
            std::thread::sleep(stall);
        }
        if writer.write_all(&reply).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let number = |kind: char, reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.strip_prefix(kind).expect("a well-formed request").trim_end().parse::<usize>().unwrap())
    };
    let count = number('*', reader)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number('$', reader)?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).ok()?;
        assert_eq!(word.split_off(length), b"\r\n");
        words.push(word);
    }
    Some(words)
}

fn answer(state: &mut State, words: &[Vec<u8>]) -> Option<Vec<u8>> {
    let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let name = String::from_utf8(words[0].clone()).unwrap();
    if name == "INFO" {
        let info = format!("# Server\r\nredis_version:0.1\r\nprocess_id:{}\r\n", std::process::id());
        return Some(bulk(info.as_bytes()));
    }
    *state.requests.entry(name.clone()).or_default() += 1;
    if state.hang_up_after.is_some_and(|limit| state.requests.values().sum::<u64>() > limit) {
        return None;
    }
    Some(match (name.as_str(), words) {
        ("GET", [_, key]) => state.values.get(key).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
        ("SET", [_, key, value, ..]) => {
            *state.writes.entry(key.clone()).or_default() += 1;
            state.values.insert(key.clone(), value.clone());
            if words.len() > 3 {
                state.others.push(words[3..].iter().map(|word| String::from_utf8_lossy(word).into()).collect());
            }
            b"+OK\r\n".to_vec()
        }
        ("PING", _) => b"+PONG\r\n".to_vec(),
        ("FAIL", _) => b"-ERR told to\r\n".to_vec(),
        _ => {
            state.others.push(words.iter().map(|word| String::from_utf8_lossy(word).into()).collect());
            if name == "HELLO" { b">1\r\n+hi\r\n%1\r\n+proto\r\n:3\r\n".to_vec() } else { b"+OK\r\n".to_vec() }
        }
    })
}

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peristyle-loadgen")).args(arguments).arg("--quiet").output().unwrap()
}

/// The measurements of a run that must succeed.
fn measure(arguments: &[&str]) -> Vec<Value> {
    let output = loadgen(&[arguments, &["--json", "-"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["measurements"].as_array().unwrap().clone()
}

#[test]
fn populate_writes_every_key_exactly_once() {
    let (address, shared) = responder(State::default());
    let measured =
        measure(&["populate", "-s", &address, "--keys", "5003", "--threads", "3", "-c", "7", "--value-size", "3-9"]);
    assert_eq!(measured[0]["replies"], 5003);
    let state = shared.lock().unwrap();
    assert_eq!(state.writes.len(), 5003);
    assert!(state.writes.values().all(|writes| *writes == 1));
    assert!(state.writes.contains_key(&b"key:000000005002"[..]));
    assert!(state.values.values().all(|value| (3..=9).contains(&value.len())));
    let lengths: std::collections::BTreeSet<usize> = state.values.values().map(Vec::len).collect();
    assert_eq!(lengths.len(), 7, "all sizes of the range occur");
}

#[test]
fn a_bounded_run_sends_as_many_requests_as_it_says_at_every_depth() {
    for pipeline in ["1", "7", "100"] {
        let (address, shared) = responder(State::default());
        let measured =
            measure(&["run", "-s", &address, "-t", "set", "-n", "1003", "-P", pipeline, "-c", "5", "--threads", "2"]);
        assert_eq!((&measured[0]["replies"], &measured[0]["errors"]), (&1003.into(), &0.into()));
        assert_eq!(shared.lock().unwrap().requests["SET"], 1003, "depth {pipeline}");
    }
}

#[test]
fn hits_and_misses_make_a_ratio() {
    let (address, _) = responder(State::default());
    measure(&["populate", "-s", &address, "--keys", "100"]);
    let get = ["run", "-s", &address, "-t", "get", "-n", "400", "--key-pattern", "sequential", "--keys", "400"];
    let measured = measure(&get);
    assert_eq!(measured[0]["commands"][0]["hit_ratio"], 0.25);
}

#[test]
fn errors_are_counted_and_shown() {
    let (address, _) = responder(State::default());
    let arguments = ["run", "-s", &address, "--command", "FAIL __key__", "--command", "PING", "-n", "200"];
    let measured = measure(&arguments);
    let commands = measured[0]["commands"].as_array().unwrap();
    assert_eq!(commands[0]["errors"], commands[0]["replies"]);
    assert_eq!(commands[1]["errors"], 0);
    assert_eq!(measured[0]["error_texts"][0][0], "ERR told to");
    let table = String::from_utf8(loadgen(&arguments).stdout).unwrap();
    assert!(table.contains("x ERR told to"), "{table}");
}

#[test]
fn the_handshake_comes_first_on_every_connection() {
    let (address, shared) = responder(State::default());
    measure(&["run", "-s", &address, "-t", "ping", "-n", "10", "-c", "2", "-3", "-a", "pw", "--database", "5"]);
    let state = shared.lock().unwrap();
    let count = |words: &str| state.others.iter().filter(|other| other.join(" ") == words).count();
    assert_eq!(count("HELLO 3 AUTH default pw"), 2);
    assert_eq!(count("AUTH pw"), 1, "the connection that asks for INFO");
    assert_eq!(count("SELECT 5"), 3);
}

#[test]
fn a_ttl_goes_out_with_each_write() {
    let (address, shared) = responder(State::default());
    measure(&["run", "-s", &address, "-t", "set", "-n", "300", "--ttl", "8-12"]);
    let state = shared.lock().unwrap();
    assert_eq!(state.others.len(), 300);
    let seconds = state.others.iter().map(|options| {
        assert_eq!(options[0], "EX");
        options[1].parse::<u64>().unwrap()
    });
    let seconds: std::collections::BTreeSet<u64> = seconds.collect();
    assert_eq!(seconds, (8..=12).collect());
}

#[test]
fn a_stall_makes_all_requests_of_its_time_late_in_the_open_loop_only() {
    let stall = Duration::from_millis(500);
    let stalling = || responder(State { stall_once: Some(stall), ..State::default() }).0;
    let common = ["-t", "ping", "-c", "1", "--duration", "1"];
    let closed = measure(&[&["run", "-s", &stalling()], &common[..]].concat());
    let open = measure(&[&["run", "-s", &stalling(), "--rate", "1000", "-P", "64"], &common[..]].concat());
    let p50 = |measured: &[Value]| measured[0]["latency_us"]["percentiles"]["p50"].as_f64().unwrap();
    let p99 = |measured: &[Value]| measured[0]["latency_us"]["percentiles"]["p99"].as_f64().unwrap();
    assert!(p99(&closed) < 100_000.0, "one late request among thousands: {}", p99(&closed));
    assert!(p99(&open) > 400_000.0, "half of all were due during the stall: {}", p99(&open));
    assert!(p50(&open) < 400_000.0 && p50(&closed) < 100_000.0);
    let replies = open[0]["replies"].as_u64().unwrap();
    assert_eq!(replies, 1000, "the rate is kept");
}

#[test]
fn what_a_stuck_connection_could_not_send_is_told() {
    let (address, _) = responder(State { stall_once: Some(Duration::from_secs(60)), ..State::default() });
    let measured =
        measure(&["run", "-s", &address, "-t", "ping", "-c", "2", "-P", "10", "--rate", "1000", "--duration", "0.5"]);
    let count = |name: &str| measured[0][name].as_u64().unwrap();
    assert_eq!((count("replies"), count("unanswered"), count("unsent")), (250, 10, 240));
}

#[test]
fn lost_connections_are_reported_and_a_dead_server_is_a_failure() {
    let (address, _) = responder(State { hang_up_after: Some(50), ..State::default() });
    let measured = measure(&["run", "-s", &address, "-t", "ping", "-c", "4", "-n", "1000"]);
    assert_eq!((&measured[0]["connections_lost"], &measured[0]["replies"]), (&4.into(), &50.into()));
    assert_eq!(measured[0]["unanswered"], 4);
    let (address, _) = responder(State { hang_up_after: Some(0), ..State::default() });
    let output = loadgen(&["run", "-s", &address, "-t", "ping", "-c", "4", "-n", "1000"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the server closed the connection"));
}

#[test]
fn unix_sockets_and_large_values_pass() {
    let path = std::env::temp_dir().join(format!("peristyle-loadgen-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let shared = Shared::default();
    let accepted = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (shared, reader) = (accepted.clone(), stream.try_clone().unwrap());
            std::thread::spawn(move || serve(reader, stream, &shared));
        }
    });
    let address = path.to_str().unwrap();
    // More than a socket takes at once in both directions, so that writes are partial and replies come in pieces.
    let measured =
        measure(&["run", "-s", address, "-t", "set,get", "--value-size", "3m", "--keys", "1", "-c", "2", "-n", "20"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((&measured[0]["replies"], &measured[1]["replies"]), (&20.into(), &20.into()));
    assert_eq!(measured[1]["commands"][0]["hit_ratio"], 1.0);
    assert!(measured[1]["bytes_received"].as_u64().unwrap() > 20 * (3 << 20));
}

#[test]
fn compare_takes_turns_and_writes_all_forms() {
    let (first, _) = responder(State::default());
    let (second, _) = responder(State::default());
    let folder = std::env::temp_dir().join(format!("peristyle-loadgen-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (a, b) = (format!("a={first}"), format!("b={second}"));
    let (csv, html, json) = (file("r.csv"), file("r.html"), file("r.json"));
    let output = loadgen(&[
        "compare", "-s", &a, "-s", &b, "--rounds", "3", "-t", "ping", "-n", "300", "-P", "1,4", //
        "--csv", &csv, "--html", &html, "--json", &json,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("b / a") && table.contains("noise of a") && table.contains("server ns/op"), "{table}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let measurements = report["measurements"].as_array().unwrap();
    let order: String = measurements.iter().map(|each| each["server"].as_str().unwrap()).collect();
    assert_eq!(order, "abababababab");
    assert_eq!(report["comparisons"].as_array().unwrap().len(), 2);
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 13);
    assert!(std::fs::read_to_string(html).unwrap().contains("</svg>"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let check = |arguments: &[&str], expected: &str| {
        let output = loadgen(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(expected), "{arguments:?}: {message}");
    };
    check(&["run", "-t", "nothing"], "no test is named 'nothing'");
    check(&["run", "--keys", "1001", "--key-width", "3"], "--key-width");
    check(&["run", "-c", "2", "--threads", "3"], "3 threads");
    check(&["run", "--rate", "0"], "a rate is above 0");
    check(&["run", "--ttl", "9-3"], "--ttl");
    check(&["run", "--command", "GET x__data__"], "words of their own");
    check(&["run", "--duration", "0"], "--duration is above 0");
    let (address, _) = responder(State::default());
    check(&["run", "-s", &address, "--server-pid", "4194305"], "no process 4194305");
    check(&["compare", "-s", "localhost:1", "-t", "get"], "two servers");
    check(&["run", "-s", "127.0.0.1:1", "-t", "get"], "ask 127.0.0.1:1 for INFO");
}
