//! Whatever stands in a file of the append-only directory, a scan finds where it is whole up to; and what is whole is
//! found whole again, with the same in it.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use peristyle::persist::aof::recover::{Crash, decide};
use peristyle::persist::aof::scan::{Scan, scan};

fn scanned(file: &[u8]) -> Scan {
    scan(Cursor::new(file), file.len() as u64).expect("memory is read")
}

fuzz_target!(|file: &[u8]| {
    let found = scanned(file);
    assert!(found.intact <= found.length && found.groups_from <= found.intact);
    // What somebody else has written behind the end of a log may be torn: that is no fault of the log's.
    assert!(found.fault.is_some() || found.is_appended || found.intact == found.length);
    let again = scanned(&file[..found.intact as usize]);
    if found.intact > 0 {
        assert_eq!((again.fault, again.intact, again.groups), (None, found.intact, found.groups));
        assert_eq!((&again.parts, &again.decided), (&found.parts, &found.decided));
    }
    for crash in [Crash::Process, Crash::Power] {
        if let Ok(decision) = decide(&[found.clone(), again.clone()], crash) {
            assert!(decision.verdicts[0].keep <= found.intact);
        }
    }
});
