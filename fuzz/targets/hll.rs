//! Any string is a HyperLogLog or none, and one that is can be counted, united and added to without a panic; what such
//! a step makes of a sound value is sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::data::hll::{self, Encoding, Observation, REGISTERS};

const SPARSE_BYTES_MAX: usize = 3000;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (registers, element) = input;
    // Few mutations hit the header.
    let mut text = hll::empty();
    text.splice(text.len() - 2.., registers.iter().copied());
    for text in [registers.to_vec(), text] {
        if hll::encoding(&text).is_some() {
            check(text, element);
        }
    }
});

fn check(mut text: Vec<u8>, element: &[u8]) {
    let mut registers = Box::new([0; REGISTERS]);
    let sound = hll::merge_into(&mut registers, &text);
    assert_eq!(hll::estimate(&text).map(drop), sound);
    let _ = (hll::cached_estimate(&text), hll::describe(&text));
    let mut dense = text.clone();
    assert!(hll::encoding(&text) == Some(Encoding::Dense) || hll::to_dense(&mut dense) == sound);
    let observation = Observation::of(element);
    let added = hll::add(&mut text, observation, SPARSE_BYTES_MAX);
    if sound.is_ok() {
        added.expect("sound values take elements");
        registers[observation.register] = registers[observation.register].max(observation.value);
        assert_eq!(hll::estimate(&text), Ok(hll::estimate_registers(&registers)));
        hll::raise_all(&mut dense, &registers, SPARSE_BYTES_MAX).expect("it is sound");
        assert_eq!(hll::estimate(&dense), hll::estimate(&text));
    }
}
