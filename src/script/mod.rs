//! Scripts in Lua 5.1, in the sandbox that Redis gives them. Nothing here knows keys, shards or clients: a script's
//! calls go to the [`host::Host`] that is lent for its run.

pub mod analysis;
mod api;
mod bit;
mod cjson;
mod cmsgpack;
mod context;
mod convert;
pub mod coroutine;
pub mod header;
pub mod host;
pub mod library;
mod lua;
mod random;
mod sandbox;
pub mod shard;
pub mod store;
mod struct_;
pub mod vm;
