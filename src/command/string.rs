//! Strings.

use super::args::Args;
use super::ctx::{Expiry, ShardCtx};
use super::error::Result;
use super::spec::*;
use super::{KeyFn, KeyRow};
use crate::data::entry::{Value, ValueRef};
use crate::resp::reply::Reply;

const STRING: Spec =
    Spec { group: Group::String, categories: category::STRING, shape: Shape::OneShard, ..Spec::DEFAULT };

pub const ROWS: &[KeyRow] = &[
    Row {
        run: get as KeyFn,
        spec: Spec {
            name: "get",
            arity: Exactly(2),
            flags: READONLY.and(FAST),
            keys: &[key_at(1, RO.and(ACCESS))],
            ..STRING
        },
    },
    Row {
        run: set,
        spec: Spec {
            name: "set",
            arity: AtLeast(3),
            flags: WRITE.and(DENYOOM),
            keys: &[key_at(1, OW.and(UPDATE))],
            ..STRING
        },
    },
];

fn get(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    match ctx.read_string(args.get(1))? {
        None => reply.null(),
        Some(ValueRef::Int(n)) => reply.bulk_integer(n),
        Some(ValueRef::Bytes(bytes)) => reply.bulk(bytes),
        Some(ValueRef::Shared(bytes)) => reply.bulk(bytes),
    }
    Ok(())
}

fn set(ctx: &mut ShardCtx, args: &Args, reply: &mut Reply) -> Result {
    let value = match args.shared(2) {
        Some(bytes) => Value::Shared(bytes.clone()),
        None => Value::Text(args.get(2)),
    };
    ctx.set(args.get(1), value, Expiry::Never);
    ctx.effect(&[b"SET", args.get(1), args.get(2)]);
    reply.ok();
    Ok(())
}
