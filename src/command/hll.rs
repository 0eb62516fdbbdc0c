//! HyperLogLog commands: the number of distinct elements of one or several keys, estimated.
//!
//! A HyperLogLog is a string that any string command may read and write, so each command looks at it before it trusts
//! it. What the value is made of, and how it changes, is `data::hll`'s business.

use super::KeyFn;
use super::args::Args;
use super::ctx::{Expiry, ShardCtx};
use super::error::{Error, Result};
use super::events::Class;
use super::spec::*;
use crate::data::entry::{TextRef, Value};
use crate::data::hll::{self, Corrupt, Encoding, Observation, REGISTERS};
use crate::resp::reply::Reply;

/// What the rows of this family have in common.
const HYPERLOGLOG: Spec =
    Spec { group: Group::Hyperloglog, categories: category::HYPERLOGLOG, shape: OneShard, ..Spec::DEFAULT };

const NOT_A_HYPERLOGLOG: Error = Error::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");

pub const ROWS: &[Row<KeyFn>] = &[
    Row {
        run: pfadd,
        spec: Spec {
            name: "pfadd",
            arity: AtLeast(2),
            flags: WRITE.and(DENYOOM).and(FAST),
            keys: &[key_at(1, RW.and(INSERT))],
            since: "2.8.9",
            complexity: "O(1) for each element.",
            summary: "Adds elements to a HyperLogLog, which is created if the key does not exist.",
            args: &[key("key"), string("element").optional().multiple()],
            ..HYPERLOGLOG
        },
    },
    Row {
        run: pfcount,
        spec: Spec {
            name: "pfcount",
            arity: AtLeast(2),
            flags: READONLY.and(MAY_REPLICATE),
            keys: &[keys_from(1, RW.and(ACCESS))
                .notes("RW because it may change the internal representation of the key, and propagate to replicas")],
            shape: Gather,
            since: "2.8.9",
            complexity: "O(1) for one key whose estimate is cached; O(N) where N is the number of keys, each of \
                which takes much longer, for several.",
            summary: "Estimates how many distinct elements one or several HyperLogLogs have seen.",
            args: &[key("key").multiple()],
            ..HYPERLOGLOG
        },
    },
    Row {
        run: pfdebug,
        spec: Spec {
            name: "pfdebug",
            arity: Exactly(3),
            flags: WRITE.and(DENYOOM).and(ADMIN),
            keys: &[key_at(2, RW.and(ACCESS))],
            since: "2.8.9",
            complexity: "O(N) where N is the number of registers.",
            summary: "Shows how a HyperLogLog is held, or makes it dense. For tests.",
            args: &[string("subcommand"), key("key")],
            system: true,
            ..HYPERLOGLOG
        },
    },
    Row {
        run: pfmerge,
        spec: Spec {
            name: "pfmerge",
            arity: AtLeast(2),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, RW.and(ACCESS).and(INSERT)), keys_from(2, RO.and(ACCESS))],
            shape: Gather,
            since: "2.8.9",
            complexity: "O(N) where N is the number of HyperLogLogs, each of which takes long.",
            summary: "Unites several HyperLogLogs in one key.",
            args: &[key("destkey"), key("sourcekey").key_spec(1).optional().multiple()],
            ..HYPERLOGLOG
        },
    },
    Row {
        run: pfselftest,
        spec: Spec {
            name: "pfselftest",
            arity: Exactly(1),
            flags: ADMIN,
            shape: Here,
            since: "2.8.9",
            complexity: "O(1), but long.",
            summary: "Checks the estimates of HyperLogLogs against known counts. For tests.",
            system: true,
            ..HYPERLOGLOG
        },
    },
];

/// PFADD key [element ...]
fn pfadd(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let key = args.get(1);
    let mut observations = args.from(2).iter().map(|element| Observation::of(element));
    let sparse_bytes_max = ctx.config.hll_sparse_max_bytes as usize;
    let changed = match ctx.string_mut(key)? {
        None => {
            let mut text = hll::empty();
            add_all(&mut text, observations, sparse_bytes_max)?;
            hll::forget_estimate(&mut text);
            ctx.set(key, Value::Raw(&text), Expiry::Never);
            true
        }
        Some(mut held) => {
            let (encoding, text) = hyperloglog_of(held.as_ref().text())?;
            match encoding {
                Encoding::Sparse => {
                    let mut text = text.to_vec();
                    let changed = add_all(&mut text, observations, sparse_bytes_max)?;
                    if changed {
                        hll::forget_estimate(&mut text);
                        held.update(|entry| entry.set_value(Value::Raw(&text)));
                    }
                    changed
                }
                Encoding::Dense => {
                    let first = observations.find(|&observation| hll::raises_dense(text, observation));
                    if let Some(first) = first {
                        held.update(|entry| {
                            entry.change_text(0, |text| {
                                std::iter::once(first).chain(observations).for_each(|observation| {
                                    hll::add_dense(text, observation);
                                });
                                hll::forget_estimate(text);
                            });
                        });
                    }
                    first.is_some()
                }
            }
        }
    };
    if changed {
        ctx.effect(args.words());
        ctx.notify(Class::STRING, "pfadd", key);
    }
    reply.integer(i64::from(changed));
    Ok(())
}

/// PFCOUNT key [key ...]: of one key, its estimate is kept in the value.
fn pfcount(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let keys = args.from(1);
    if keys.len() > 1 {
        let merged = merge(ctx, keys)?;
        reply.integer(hll::estimate_registers(&merged.registers) as i64);
        return Ok(());
    }
    let Some(held) = ctx.read_string(keys[0])? else {
        reply.integer(0);
        return Ok(());
    };
    let (_, text) = hyperloglog_of(held)?;
    if let Some(estimate) = hll::cached_estimate(text) {
        reply.integer(estimate as i64);
        return Ok(());
    }
    let estimate = hll::estimate(text).map_err(refused)?;
    if let Some(mut held) = ctx.string_mut(keys[0])? {
        held.update(|entry| entry.change_text(0, |text| hll::cache_estimate(text, estimate)));
        ctx.effect(args.words());
    }
    reply.integer(estimate as i64);
    Ok(())
}

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key, or PFDEBUG SIMD ON | OFF
fn pfdebug(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    if args.is(1, "SIMD") {
        return pfdebug_simd(args, reply);
    }
    let key = args.get(2);
    let held = ctx.write_string(key)?.ok_or(Error::Text("ERR The specified key does not exist"))?;
    let (encoding, text) = hyperloglog_of(held)?;
    if args.is(1, "GETREG") {
        let mut registers = [0; REGISTERS];
        hll::merge_into(&mut registers, text).map_err(refused)?;
        make_dense(ctx, args)?;
        reply.array(REGISTERS);
        registers.iter().for_each(|&register| reply.integer(i64::from(register)));
    } else if args.is(1, "DECODE") {
        if encoding != Encoding::Sparse {
            return Err(Error::Text("ERR HLL encoding is not sparse"));
        }
        reply.bulk(hll::describe(text).map_err(refused)?.as_bytes());
    } else if args.is(1, "ENCODING") {
        reply.simple(match encoding {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if args.is(1, "TODENSE") {
        let converted = make_dense(ctx, args)?;
        reply.integer(i64::from(converted));
    } else {
        let mut text = b"ERR Unknown PFDEBUG subcommand '".to_vec();
        text.extend_from_slice(args.get(1));
        text.push(b'\'');
        return Err(Error::dynamic(text));
    }
    Ok(())
}

/// Tests of other servers compare two ways of uniting registers by this. Here there is one, for which the compiler
/// chooses the instructions: nothing is left to be switched.
fn pfdebug_simd(args: &Args, reply: &mut Reply) -> Result {
    if args.is(2, "ON") {
        reply.simple("enabled");
    } else if args.is(2, "OFF") {
        reply.simple("disabled");
    } else {
        return Err(Error::Text("ERR Argument must be ON or OFF"));
    }
    Ok(())
}

/// PFMERGE destkey [sourcekey ...]: the target is one of the sources.
fn pfmerge(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let target = args.get(1);
    let merged = merge(ctx, args.from(1))?;
    let sparse_bytes_max = ctx.config.hll_sparse_max_bytes as usize;
    let mut text = match ctx.write_string(target)? {
        Some(held) => hyperloglog_of(held)?.1.to_vec(),
        None => hll::empty(),
    };
    if merged.any_dense && hll::encoding(&text) == Some(Encoding::Sparse) {
        hll::to_dense(&mut text).map_err(refused)?;
    }
    hll::raise_all(&mut text, &merged.registers, sparse_bytes_max).map_err(refused)?;
    hll::forget_estimate(&mut text);
    // In one key's words: the sources may have changed when this is applied.
    ctx.effect(&[b"SET", target, &text, b"KEEPTTL"]);
    ctx.set(target, Value::Raw(&text), Expiry::Keep);
    // So it is called there, too.
    ctx.notify(Class::STRING, "pfadd", target);
    reply.ok();
    Ok(())
}

/// PFSELFTEST
fn pfselftest(_ctx: &mut ShardCtx, _args: &Args, reply: &mut Reply) -> Result {
    hll::self_test().map_err(|failure| Error::dynamic(format!("TESTFAILED {failure}")))?;
    reply.ok();
    Ok(())
}

fn refused(_: Corrupt) -> Error {
    Error::Text("INVALIDOBJ Corrupted HLL object detected")
}

fn hyperloglog_of(text: TextRef<'_>) -> Result<(Encoding, &[u8])> {
    let text: &[u8] = match text {
        TextRef::Bytes(bytes) => bytes,
        TextRef::Shared(bytes) => bytes,
        TextRef::Int(_) => return Err(NOT_A_HYPERLOGLOG),
    };
    let encoding = hll::encoding(text).ok_or(NOT_A_HYPERLOGLOG)?;
    Ok((encoding, text))
}

/// Adds to a value of any encoding: whether that changed it.
fn add_all(
    text: &mut Vec<u8>,
    observations: impl Iterator<Item = Observation>,
    sparse_bytes_max: usize,
) -> Result<bool> {
    let mut changed = false;
    for observation in observations {
        changed |= hll::add(text, observation, sparse_bytes_max).map_err(refused)?;
    }
    Ok(changed)
}

/// Several values united.
struct Merged {
    registers: Box<hll::Registers>,
    any_dense: bool,
}

/// Keys that do not exist are without elements.
fn merge(ctx: &mut ShardCtx, keys: &[&[u8]]) -> Result<Merged> {
    let mut merged = Merged { registers: Box::new([0; REGISTERS]), any_dense: false };
    for key in keys {
        let Some(held) = ctx.read_string(key)? else { continue };
        let (encoding, text) = hyperloglog_of(held)?;
        merged.any_dense |= encoding == Encoding::Dense;
        hll::merge_into(&mut merged.registers, text).map_err(refused)?;
    }
    Ok(merged)
}

/// Makes the value at PFDEBUG's key dense: whether it was sparse.
fn make_dense(ctx: &mut ShardCtx, args: &Args) -> Result<bool> {
    let Some(mut held) = ctx.string_mut(args.get(2))? else { return Ok(false) };
    let (encoding, text) = hyperloglog_of(held.as_ref().text())?;
    if encoding == Encoding::Dense {
        return Ok(false);
    }
    let mut text = text.to_vec();
    hll::to_dense(&mut text).map_err(refused)?;
    held.update(|entry| entry.set_value(Value::Raw(&text)));
    ctx.effect(args.words());
    Ok(true)
}

#[cfg(test)]
mod tests;
