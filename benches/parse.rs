//! Parsing requests, and writing replies: nanoseconds a command.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peristyle::resp::parse::{Parsed, Partial, RequestLimits, parse};
use peristyle::resp::reply::{Protocol, Reply};

const COMMANDS: u64 = 64;
const LIMITS: RequestLimits = RequestLimits { bulk_bytes_max: 512 << 20, authenticated: true };

fn pipeline(command: &str) -> Vec<u8> {
    command.repeat(COMMANDS as usize).into_bytes()
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(COMMANDS));
    let value = "x".repeat(64);
    for (name, command) in [
        ("get", "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n".to_string()),
        ("set", format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n{value}\r\n")),
        ("inline", "GET key:000000000001\r\n".to_string()),
    ] {
        let bytes = pipeline(&command);
        group.bench_function(name, |bencher| {
            let mut words = Vec::new();
            bencher.iter(|| {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let Ok(Parsed::Command(taken)) = parse(rest, LIMITS, &mut words) else { panic!("whole commands") };
                    black_box(&words);
                    words.clear();
                    rest = &rest[taken..];
                }
            });
        });
    }
    let bytes = pipeline("*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n");
    group.bench_function("get in pieces", |bencher| {
        bencher.iter(|| {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let mut partial = Partial::default();
                let (taken, complete) = partial.feed(rest, LIMITS).expect("no error");
                assert!(complete);
                black_box(&partial);
                rest = &rest[taken..];
            }
        });
    });
    group.finish();
}

fn replying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Elements(COMMANDS));
    let value = [b'x'; 64];
    let mut out = Vec::with_capacity(16 * 1024);
    type Write = fn(&mut Reply, &[u8]);
    let writes: [(&str, Write); 4] = [
        ("ok", |reply, _| reply.ok()),
        ("integer", |reply, _| reply.integer(black_box(1234))),
        ("bulk of 64", |reply, value| reply.bulk(value)),
        ("null", |reply, _| reply.null()),
    ];
    for (name, write) in writes {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut reply = Reply::new(&mut out, Protocol::Resp2);
                for _ in 0..COMMANDS {
                    write(&mut reply, black_box(&value));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, replying);
criterion_main!(benches);
