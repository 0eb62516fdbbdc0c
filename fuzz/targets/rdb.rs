//! Any file is loaded or refused, and what was loaded is written and loaded again.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use peristyle::codec::rdb::Form;
use peristyle::command::ctx::ShardCtx;
use peristyle::config::Config;
use peristyle::keyspace::slots::SlotMap;
use peristyle::keyspace::{HashSeeds, Keyspace};
use peristyle::persist::load::{Duplicates, Loader};
use peristyle::persist::rdb::write::{Chunk, Header, Sum, Trials, Usage};

const DATABASES: usize = 16;

fn shard() -> ShardCtx {
    let keyspace = Keyspace::new(DATABASES, HashSeeds([1, 2, 3, 4]), 0);
    // No mutation hits a checksum.
    let config = Config { rdbchecksum: false, ..Config::default() };
    ShardCtx::new(keyspace, Arc::new(config), 1, 0, SlotMap::contiguous(1))
}

fn load(file: &[u8]) -> Option<ShardCtx> {
    let mut shard = shard();
    let mut loader = Loader::new(file, file.len() as u64, 0, SlotMap::contiguous(1), Duplicates::Replaced, &shard).ok()?;
    while !loader.slice(&mut shard, 1000).ok()? {}
    Some(shard)
}

fn write(shard: &ShardCtx) -> Vec<u8> {
    let form = Form::File { compresses: true };
    let (mut sum, mut body, mut has_field_times) = (Sum::default(), Vec::new(), false);
    for db in 0..DATABASES {
        let mut chunk = Chunk::new(db, form);
        shard.keyspace.db(db).iter().for_each(|entry| chunk.push(entry, Usage::None, &shard.config));
        has_field_times |= chunk.has_field_times;
        let written = chunk.write(&mut Trials::default(), |bytes| {
            sum.add(bytes);
            body.extend_from_slice(bytes);
            Ok(())
        });
        written.expect("memory");
    }
    let header = Header { redis_version: "7.2.4", unix_s: 0, used_memory: 0, sizes: Vec::new(), functions: Vec::new(), is_aof_base: false, form };
    let header = header.write(has_field_times);
    let end = sum.end(&header, true);
    [header, body, end.to_vec()].concat()
}

fuzz_target!(|file: &[u8]| {
    let Some(shard) = load(file) else { return };
    let again = load(&write(&shard)).expect("our own file");
    assert_eq!(again.keyspace.len(), shard.keyspace.len());
});
