//! HyperLogLog: the number of distinct elements, estimated from 16384 registers inside a string.
//!
//! ```text
//! "HYLL" | encoding (0 dense, 1 sparse) | 3 unused | cached estimate (8, little endian; top bit: outdated) | registers
//! dense:  6 bits a register, the first in the lowest bits of the first byte
//! sparse: runs. 00llllll: l + 1 registers that are 0      01llllll llllllll: the same, up to 16384
//!               1vvvvvll: l + 1 registers that are v + 1
//! ```
//!
//! Format, hash and estimate are Redis's, and so is each step by which a sparse value changes, so that equal commands
//! leave equal bytes (Flajolet et al. 2007; Heule et al. 2013; the estimate is Ertl's, arXiv:1702.01284). A value is a
//! string that a client may have written: it is looked at as a whole before anything relies on it.

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const ESTIMATE_AT: usize = 8;
const HEADER_BYTES: usize = 16;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// In the last byte of the estimate: it is not that of the registers.
const OUTDATED: u8 = 0x80;

/// Bits of a hash that choose the register; the others are its pattern.
const INDEX_BITS: u32 = 14;
pub const REGISTERS: usize = 1 << INDEX_BITS;
const PATTERN_BITS: u32 = u64::BITS - INDEX_BITS;
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = (1 << REGISTER_BITS) - 1;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;
const HASH_SEED: u64 = 0xadc8_3b19;

const ZERO_RUN_MAX: usize = 64;
const VALUE_RUN_MAX: usize = 4;
/// The largest register of a sparse value.
const SPARSE_VALUE_MAX: u8 = 32;
/// Runs that are looked at for equal neighbours after a change.
const MERGE_RUNS: usize = 5;

/// Enough that registers of all kinds occur, and few enough that no other client waits for long.
const SELF_TEST_ELEMENTS: u64 = 100_000;

/// All registers, one a byte.
pub type Registers = [u8; REGISTERS];

/// A value whose registers make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// How the registers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Dense,
    Sparse,
}

/// The register that an element raises, and what to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub register: usize,
    pub value: u8,
}

impl Observation {
    pub fn of(element: &[u8]) -> Observation {
        let hash = murmur64(element, HASH_SEED);
        let pattern = hash >> INDEX_BITS | 1 << PATTERN_BITS;
        Observation { register: hash as usize % REGISTERS, value: pattern.trailing_zeros() as u8 + 1 }
    }
}

/// A sparse value without elements.
pub fn empty() -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    text.resize(HEADER_BYTES, 0);
    text[ENCODING_AT] = SPARSE;
    text.extend_from_slice(&zeros(REGISTERS));
    text
}

/// Is the string a HyperLogLog, as far as its header says?
pub fn encoding(text: &[u8]) -> Option<Encoding> {
    if text.len() < HEADER_BYTES || !text.starts_with(MAGIC) {
        return None;
    }
    match text[ENCODING_AT] {
        DENSE if text.len() == DENSE_BYTES => Some(Encoding::Dense),
        SPARSE => Some(Encoding::Sparse),
        _ => None,
    }
}

/// The estimate that was stored last, unless the registers have changed.
pub fn cached_estimate(text: &[u8]) -> Option<u64> {
    let estimate: [u8; 8] = *text[ESTIMATE_AT..].first_chunk().expect("the header is there");
    (estimate[7] & OUTDATED == 0).then(|| u64::from_le_bytes(estimate))
}

pub fn cache_estimate(text: &mut [u8], estimate: u64) {
    text[ESTIMATE_AT..HEADER_BYTES].copy_from_slice(&estimate.to_le_bytes());
}

pub fn forget_estimate(text: &mut [u8]) {
    text[HEADER_BYTES - 1] |= OUTDATED;
}

/// Would the observation change a dense value?
pub fn raises_dense(text: &[u8], observation: Observation) -> bool {
    dense_register(&text[HEADER_BYTES..], observation.register) < observation.value
}

/// Adds an observation to a dense value: whether that changed it. The estimate is not touched.
pub fn add_dense(text: &mut [u8], observation: Observation) -> bool {
    let raises = raises_dense(text, observation);
    if raises {
        set_dense_register(&mut text[HEADER_BYTES..], observation.register, observation.value);
    }
    raises
}

/// Adds an observation to a value of any encoding: whether that changed it. A sparse value becomes dense when it would
/// grow beyond `sparse_bytes_max`, or has to hold what a run cannot.
pub fn add(text: &mut Vec<u8>, observation: Observation, sparse_bytes_max: usize) -> Result<bool, Corrupt> {
    add_near(text, observation, sparse_bytes_max, &mut Place::default())
}

/// Raises all registers to those given.
pub fn raise_all(text: &mut Vec<u8>, registers: &Registers, sparse_bytes_max: usize) -> Result<(), Corrupt> {
    let mut near = Place::default();
    for (register, &value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        add_near(text, Observation { register, value }, sparse_bytes_max, &mut near)?;
    }
    Ok(())
}

fn add_near(
    text: &mut Vec<u8>,
    observation: Observation,
    sparse_bytes_max: usize,
    near: &mut Place,
) -> Result<bool, Corrupt> {
    if text[ENCODING_AT] == DENSE {
        return Ok(add_dense(text, observation));
    }
    match add_sparse(text, observation, sparse_bytes_max, near)? {
        Sparse::Unchanged => Ok(false),
        Sparse::Changed => Ok(true),
        Sparse::Full => {
            to_dense(text)?;
            Ok(add_dense(text, observation))
        }
    }
}

/// Makes a sparse value dense; its estimate stays.
pub fn to_dense(text: &mut Vec<u8>) -> Result<(), Corrupt> {
    let mut registers = [0; REGISTERS];
    merge_into(&mut registers, text)?;
    text.truncate(HEADER_BYTES);
    text.reserve_exact(DENSE_BYTES - HEADER_BYTES);
    text[ENCODING_AT] = DENSE;
    for group in registers.chunks_exact(4) {
        let packed = group.iter().rev().fold(0_u32, |sum, &value| sum << REGISTER_BITS | u32::from(value));
        text.extend_from_slice(&packed.to_le_bytes()[..3]);
    }
    Ok(())
}

/// Raises `registers` to those of a value.
pub fn merge_into(registers: &mut Registers, text: &[u8]) -> Result<(), Corrupt> {
    let held = &text[HEADER_BYTES..];
    if text[ENCODING_AT] == DENSE {
        for (group, packed) in registers.chunks_exact_mut(4).zip(held.chunks_exact(3)) {
            let packed = u32::from_le_bytes([packed[0], packed[1], packed[2], 0]);
            for (index, register) in group.iter_mut().enumerate() {
                *register = (*register).max((packed >> (index * REGISTER_BITS)) as u8 & REGISTER_MAX);
            }
        }
        return Ok(());
    }
    let mut first = 0;
    for run in runs(held) {
        let run = run?;
        let covered = registers.get_mut(first..first + run.len).ok_or(Corrupt)?;
        if run.value > 0 {
            covered.iter_mut().for_each(|register| *register = (*register).max(run.value));
        }
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// The estimate of a value's registers.
pub fn estimate(text: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; REGISTER_MAX as usize + 1];
    let held = &text[HEADER_BYTES..];
    if text[ENCODING_AT] == DENSE {
        for packed in held.chunks_exact(3) {
            let packed = u32::from_le_bytes([packed[0], packed[1], packed[2], 0]);
            for index in 0..4 {
                histogram[(packed >> (index * REGISTER_BITS)) as usize & usize::from(REGISTER_MAX)] += 1;
            }
        }
        return Ok(estimate_of(&histogram));
    }
    let mut covered = 0;
    for run in runs(held) {
        let run = run?;
        histogram[usize::from(run.value)] += run.len;
        covered += run.len;
    }
    if covered == REGISTERS { Ok(estimate_of(&histogram)) } else { Err(Corrupt) }
}

/// The estimate of registers that stand in no value.
pub fn estimate_registers(registers: &Registers) -> u64 {
    let mut histogram = [0; REGISTER_MAX as usize + 1];
    registers.iter().for_each(|&value| histogram[usize::from(value & REGISTER_MAX)] += 1);
    estimate_of(&histogram)
}

/// The runs of a sparse value in words: `z:16000 v:3,1 Z:383`.
pub fn describe(text: &[u8]) -> Result<String, Corrupt> {
    let mut words = Vec::new();
    let mut at = HEADER_BYTES;
    while at < text.len() {
        let run = run_at(text, at)?;
        words.push(match (run.value, run.bytes) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (value, _) => format!("v:{value},{}", run.len),
        });
        at += run.bytes;
    }
    Ok(words.join(" "))
}

/// Checks the parts against each other and the estimates against the error that theory promises (PFSELFTEST).
pub fn self_test() -> Result<(), String> {
    let mut registers = [0; REGISTERS];
    let mut packed = vec![0; DENSE_BYTES - HEADER_BYTES];
    for round in 0..8_u64 {
        for (index, register) in registers.iter_mut().enumerate() {
            *register = murmur64(&(index as u64).to_le_bytes(), round) as u8 & REGISTER_MAX;
            set_dense_register(&mut packed, index, *register);
        }
        if let Some(index) = (0..REGISTERS).find(|&index| dense_register(&packed, index) != registers[index]) {
            return Err(format!("Register {index} should be {} but is not", registers[index]));
        }
    }
    let (mut sparse, mut dense) = (empty(), empty());
    let failed = |_| "A value that was made here is taken for corrupted".to_owned();
    to_dense(&mut dense).map_err(failed)?;
    for count in 1..=SELF_TEST_ELEMENTS {
        let observation = Observation::of(&murmur64(&count.to_le_bytes(), HASH_SEED + 1).to_le_bytes());
        add_dense(&mut dense, observation);
        add(&mut sparse, observation, DENSE_BYTES).map_err(failed)?;
        if count.is_power_of_two() || count == SELF_TEST_ELEMENTS {
            let estimates = (estimate(&sparse).map_err(failed)?, estimate(&dense).map_err(failed)?);
            if estimates.0 != estimates.1 {
                return Err(format!("dense/sparse disagree: {estimates:?} of {count} elements"));
            }
            // Four times the standard error, and a little for small counts.
            let error_max = 4.0 * 1.04 / (REGISTERS as f64).sqrt() * count as f64 + 1.0;
            if (estimates.0 as f64 - count as f64).abs() > error_max {
                return Err(format!("Too big error. card:{count} abserr:{}", estimates.0.abs_diff(count)));
            }
        }
    }
    Ok(())
}

/// How many registers have each value, in; how many elements that makes, out.
fn estimate_of(histogram: &[usize; REGISTER_MAX as usize + 1]) -> u64 {
    /// 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    const TOO_LARGE: u64 = 1 << 63;
    let registers = REGISTERS as f64;
    let largest = PATTERN_BITS as usize + 1;
    let mut z = registers * tau((registers - histogram[largest] as f64) / registers);
    for count in histogram[1..largest].iter().rev() {
        z += *count as f64;
        z *= 0.5;
    }
    z += registers * sigma(histogram[0] as f64 / registers);
    let estimate = (ALPHA * registers * registers / z).round();
    // No element makes all registers as large as this takes; it is what Redis's conversion gives on x86.
    if estimate < TOO_LARGE as f64 { estimate as u64 } else { TOO_LARGE }
}

/// Corrects for registers that can rise no further.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Corrects for registers that are still zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// A register among the packed ones: it lies in one byte, or in two.
fn dense_register(packed: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let low = u16::from(packed[byte]);
    let high = packed.get(byte + 1).map_or(0, |&byte| u16::from(byte));
    ((low | high << 8) >> shift) as u8 & REGISTER_MAX
}

fn set_dense_register(packed: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let mask = u16::from(REGISTER_MAX) << shift;
    let value = u16::from(value) << shift;
    packed[byte] = packed[byte] & !(mask as u8) | value as u8;
    if mask >> 8 != 0 {
        packed[byte + 1] = packed[byte + 1] & !((mask >> 8) as u8) | (value >> 8) as u8;
    }
}

/// Registers in a row that are equal, and how many bytes say so.
#[derive(Clone, Copy)]
struct Run {
    len: usize,
    value: u8,
    bytes: usize,
}

/// A run in a value, and the first register that it covers.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    first: usize,
}

impl Default for Place {
    /// The first one.
    fn default() -> Place {
        Place { at: HEADER_BYTES, first: 0 }
    }
}

fn run_at(text: &[u8], at: usize) -> Result<Run, Corrupt> {
    let byte = *text.get(at).ok_or(Corrupt)?;
    Ok(match byte >> 6 {
        0 => Run { len: usize::from(byte) + 1, value: 0, bytes: 1 },
        1 => {
            let low = *text.get(at + 1).ok_or(Corrupt)?;
            Run { len: usize::from(byte & 0x3f) << 8 | usize::from(low), value: 0, bytes: 2 }.one_more()
        }
        _ => Run { len: usize::from(byte & 3) + 1, value: (byte >> 2 & 0x1f) + 1, bytes: 1 },
    })
}

impl Run {
    fn one_more(self) -> Run {
        Run { len: self.len + 1, ..self }
    }
}

fn runs(held: &[u8]) -> impl Iterator<Item = Result<Run, Corrupt>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= held.len() {
            return None;
        }
        let run = run_at(held, at);
        at = run.map_or(held.len(), |run| at + run.bytes);
        Some(run)
    })
}

/// Bytes of one to three runs: the longest that a change writes.
type Written = smallvec::SmallVec<[u8; 5]>;

fn zeros(len: usize) -> Written {
    debug_assert!((1..=REGISTERS).contains(&len));
    let mut written = Written::new();
    if len > ZERO_RUN_MAX {
        written.push(0x40 | ((len - 1) >> 8) as u8);
    }
    written.push((len - 1) as u8);
    written
}

fn values(value: u8, len: usize) -> u8 {
    debug_assert!((1..=SPARSE_VALUE_MAX).contains(&value) && (1..=VALUE_RUN_MAX).contains(&len));
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

enum Sparse {
    Unchanged,
    Changed,
    /// The observation does not fit; nothing has changed.
    Full,
}

/// Adds an observation to a sparse value. `near` is a run at or before the one that covers the register, from which to
/// look for it; afterwards it is one near by, for a register behind this one.
fn add_sparse(
    text: &mut Vec<u8>,
    observation: Observation,
    bytes_max: usize,
    near: &mut Place,
) -> Result<Sparse, Corrupt> {
    let Observation { register, value } = observation;
    if value > SPARSE_VALUE_MAX {
        return Ok(Sparse::Full);
    }
    let mut here = *near;
    let mut before = None;
    let run = loop {
        let run = run_at(text, here.at)?;
        if register < here.first + run.len {
            break run;
        }
        before = Some(here);
        here = Place { at: here.at + run.bytes, first: here.first + run.len };
    };
    if run.value >= value {
        return Ok(Sparse::Unchanged);
    }
    if before.is_none() && here.at > HEADER_BYTES {
        // The run before it is wanted below.
        *near = Place::default();
        return add_sparse(text, observation, bytes_max, near);
    }
    // The run's registers before this one, this one, and those behind it.
    let same = |len: usize| match (run.value, len) {
        (_, 0) => Written::new(),
        (0, len) => zeros(len),
        (value, len) => Written::from_slice(&[values(value, len)]),
    };
    let mut written = same(register - here.first);
    written.push(values(value, 1));
    written.extend_from_slice(&same(here.first + run.len - 1 - register));
    if written.len() > run.bytes && text.len() + written.len() - run.bytes > bytes_max {
        return Ok(Sparse::Full);
    }
    text.splice(here.at..here.at + run.bytes, written);
    *near = before.unwrap_or_default();
    merge_runs(text, near.at);
    forget_estimate(text);
    Ok(Sparse::Changed)
}

/// Makes one run of neighbours with the same value, among the next few.
fn merge_runs(text: &mut Vec<u8>, mut at: usize) {
    for _ in 0..MERGE_RUNS {
        let Ok(run) = run_at(text, at) else { return };
        match run_at(text, at + run.bytes) {
            Ok(next) if run.value > 0 && next.value == run.value && run.len + next.len <= VALUE_RUN_MAX => {
                text[at] = values(run.value, run.len + next.len);
                text.remove(at + 1);
            }
            _ => at += run.bytes,
        }
    }
}

/// MurmurHash64A (Appleby), reading words as little endian.
fn murmur64(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        let mut word = u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes")).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

#[cfg(test)]
mod tests;
