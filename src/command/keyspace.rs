//! Whole keyspace.
use super::args::Args;
use super::ctx::ShardCtx;
use super::error::Result;
use super::spec::*;
use super::{KeyFn, KeyRow};
use crate::resp::reply::Reply;
pub const ROWS: &[KeyRow] = &[Row {
    run: dbsize as KeyFn,
    spec: Spec {
        name: "dbsize",
        arity: Exactly(1),
        flags: READONLY.and(FAST),
        shape: Shape::EveryShard(Merge::SumInteger),
        ..Spec::DEFAULT
    },
}];
fn dbsize(ctx: &mut ShardCtx, _args: &Args, reply: &mut Reply) -> Result {
    reply.integer(ctx.keyspace.db(ctx.db).len() as i64);
    Ok(())
}
pub fn cursor_shard(_cursor: &[u8]) -> Option<usize> {
    None
}
