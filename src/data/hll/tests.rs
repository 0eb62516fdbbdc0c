//! Against a map of registers, and against bytes recorded from valkey-server 8.0.1.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const BYTES_MAX: usize = 3000;

fn registers_of(text: &[u8]) -> Registers {
    let mut registers = [0; REGISTERS];
    merge_into(&mut registers, text).expect("a value made here");
    registers
}

#[test]
fn an_element_s_register_is_redis_s() {
    let mut text = empty();
    for element in ["foo", "bar", "", "a longer element than one word", "12345678"] {
        add(&mut text, Observation::of(element.as_bytes()), BYTES_MAX).unwrap();
    }
    assert_eq!(describe(&text).unwrap(), "Z:5938 v:2,1 Z:1278 v:3,1 Z:130 v:5,1 Z:2658 v:1,1 Z:571 v:3,1 Z:5804");
}

#[test]
fn few_elements_are_counted_exactly() {
    let mut text = empty();
    assert_eq!(estimate(&text), Ok(0));
    for (count, element) in ["a", "b", "c", "d"].iter().enumerate() {
        assert_eq!(add(&mut text, Observation::of(element.as_bytes()), BYTES_MAX), Ok(true));
        assert_eq!(add(&mut text, Observation::of(element.as_bytes()), BYTES_MAX), Ok(false));
        assert_eq!(estimate(&text), Ok(count as u64 + 1));
    }
}

#[test]
fn a_value_becomes_dense_when_it_is_too_long_for_a_sparse_one() {
    let mut text = empty();
    let mut sparse_max = 0;
    for n in 0..3000_u32 {
        add(&mut text, Observation::of(&n.to_le_bytes()), BYTES_MAX).unwrap();
        if encoding(&text) == Some(Encoding::Sparse) {
            sparse_max = sparse_max.max(text.len());
        }
    }
    assert!(sparse_max <= BYTES_MAX && sparse_max > BYTES_MAX - 3);
    assert_eq!(encoding(&text), Some(Encoding::Dense));
}

#[test]
fn a_register_that_a_run_cannot_hold_makes_a_value_dense() {
    let mut text = empty();
    assert_eq!(add(&mut text, Observation { register: 5, value: 33 }, BYTES_MAX), Ok(true));
    assert_eq!(encoding(&text), Some(Encoding::Dense));
    assert_eq!(registers_of(&text)[5], 33);
}

#[test]
fn the_self_test_passes() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn registers_beyond_all_elements_do_no_harm() {
    let mut text = empty();
    to_dense(&mut text).unwrap();
    text[HEADER_BYTES..].fill(0xff);
    assert_eq!(estimate(&text), Ok(1 << 63));
}

/// Elements that are often near each other, so that runs meet and merge.
fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let near = (0..60_usize, 1..4_u8);
    let far = (0..REGISTERS, 1..=PATTERN_BITS as u8 + 1);
    let last = (REGISTERS - 8..REGISTERS, 1..33_u8);
    vec(prop_oneof![8 => near, 1 => far, 1 => last], 0..300)
        .prop_map(|pairs| pairs.into_iter().map(|(register, value)| Observation { register, value }).collect())
}

proptest! {
    #[test]
    fn registers_hold_the_largest_value(observations in observations(), bytes_max in prop_oneof![Just(40), Just(3000)]) {
        let mut text = empty();
        let mut expected = [0; REGISTERS];
        for Observation { register, value } in observations.iter().copied() {
            let raises = expected[register] < value;
            expected[register] = expected[register].max(value);
            let was_sparse = encoding(&text) == Some(Encoding::Sparse);
            prop_assert_eq!(add(&mut text, Observation { register, value }, bytes_max), Ok(raises));
            prop_assert_eq!(raises && was_sparse && encoding(&text) == Some(Encoding::Sparse), {
                let forgotten = cached_estimate(&text).is_none();
                cache_estimate(&mut text, 1);
                forgotten
            });
        }
        prop_assert!(registers_of(&text) == expected);
        prop_assert_eq!(estimate(&text), Ok(estimate_registers(&expected)));
        let mut dense = text.clone();
        if encoding(&text) == Some(Encoding::Sparse) {
            to_dense(&mut dense).unwrap();
        }
        prop_assert!(registers_of(&dense) == expected);
    }

    /// Raising all registers at once is a short cut that leaves the same bytes.
    #[test]
    fn raising_all_is_raising_one_by_one(first in observations(), second in observations()) {
        let (mut text, mut other) = (empty(), empty());
        for &observation in &first {
            add(&mut text, observation, BYTES_MAX).unwrap();
        }
        for &observation in &second {
            add(&mut other, observation, BYTES_MAX).unwrap();
        }
        let mut registers = registers_of(&text);
        merge_into(&mut registers, &other).unwrap();
        let mut one_by_one = text.clone();
        for (register, &value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
            add(&mut one_by_one, Observation { register, value }, BYTES_MAX).unwrap();
        }
        raise_all(&mut text, &registers, BYTES_MAX).unwrap();
        prop_assert!(text == one_by_one);
    }

    /// Whatever a client writes into the string.
    #[test]
    fn any_bytes_are_safe(bytes in vec(any::<u8>(), 0..60), observation in (0..REGISTERS, 1..52_u8), from_header: bool) {
        let mut text = if from_header { empty()[..HEADER_BYTES].to_vec() } else { Vec::new() };
        text.extend_from_slice(&bytes);
        if encoding(&text).is_none() {
            return Ok(());
        }
        let (register, value) = observation;
        cached_estimate(&text);
        let _ = (estimate(&text), describe(&text), merge_into(&mut [0; REGISTERS], &text));
        let _ = to_dense(&mut text.clone());
        let _ = add(&mut text, Observation { register, value }, BYTES_MAX);
    }
}
