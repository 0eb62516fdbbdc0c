//! Any payload is restored or refused, and what was restored survives another DUMP and RESTORE.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::base::rng::Rng;
use peristyle::codec::rdb;
use peristyle::config::Config;
use peristyle::data::collection::Env;
use peristyle::data::dump::{Restored, dump, restore};
use peristyle::data::entry::{Entry, Value};

fuzz_target!(|body: &[u8]| {
    let (config, mut rng) = (Config::default(), Rng::new(1));
    let mut env = Env { config: &config, seeds: [1, 2, 3, 4], now_ms: 0, rng: &mut rng, packed_threshold: 0 };
    let _ = restore(body, &mut env);
    // No mutation hits a checksum, so that the body has to be signed here.
    let mut payload = body.to_vec();
    rdb::seal(&mut payload);
    let Ok(restored) = restore(&payload, &mut env) else { return };
    let value = match restored {
        Restored::Text(ref text) => Value::Text(text),
        Restored::Collection(collection) => Value::Collection(collection),
    };
    let again = dump(Entry::new(b"key", value, None, 0).as_ref());
    restore(&again, &mut env).expect("our own payload");
});
