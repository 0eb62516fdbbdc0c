//! Any payload is restored or refused, and what was restored survives another DUMP and RESTORE.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::base::crc::crc64;
use peristyle::codec::dump::{dump_string, restore_string};

/// An old version, which every later one reads.
const RDB_VERSION: u16 = 9;

fuzz_target!(|body: &[u8]| {
    let _ = restore_string(body);
    // No mutation hits a checksum, so that the body has to be signed here.
    let signed = [body, &RDB_VERSION.to_le_bytes()].concat();
    let payload = [&signed[..], &crc64(0, &signed).to_le_bytes()].concat();
    let Ok(text) = restore_string(&payload) else { return };
    let again = dump_string(&text);
    assert_eq!(restore_string(&again).expect("our own payload"), text);
});
