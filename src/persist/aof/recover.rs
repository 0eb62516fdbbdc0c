//! Which part of the logs counts after the server has ended, however it has: a pure function over what scans have found.
//!
//! *A crash of the process* leaves what was written, and the kernel has all of it: each log counts up to its last whole
//! group. As nothing leaves a shard before its effects are written, whatever anybody has seen is there.
//!
//! *A power loss* (the boot id has changed) leaves what was synced, and anything of the rest. Under `always` that is all
//! that anybody has seen: again each log counts up to its last whole group. Under `everysec` the logs end at different
//! moments, and go back to the last common round that is whole in all of them, which is one moment of all shards: its
//! line was written while no transaction was under way. A log that was begun behind a round has no
//! line of it, and keeps nothing; what was synced one by one behind the round (the policy has changed) stays. A record of
//! the whole keyspace is a moment of its own, if the logs still are as far as they were when it was made.
//!
//! *Transactions over shards* count if they are decided: if the line that says so, which their coordinator writes when
//! all parts are logged, is among what counts, and all parts are, too. (They are, but for what nobody has synced: without
//! `appendfsync`, each log loses what it likes.) The parts of others are passed over, and nothing depends on them: the
//! locks were still held, so nobody has seen what they wrote, and no reply to the client has left. So no log is cut for
//! another's sake, and no reply ever waits for another shard's log.
//!
//! *Damage* is something else than an end: a bad group with whole ones behind it, or one in front of what was known to be
//! durable. Then nothing is cut, and the server does not start.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::scan::{Fault, Kind, Part, Scan};
use crate::base::ids::ShardId;
use crate::codec::aof::{Header, TransactionId};

/// How the server that wrote the newest segments has ended, at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The kernel went on: what was written is there.
    Process,
    /// The machine stopped, or nobody knows.
    Power,
}

/// What counts of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// So many bytes.
    pub keep: u64,
    /// Parts in these that do not count.
    pub skipped: Vec<Part>,
}

/// Why nothing can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file, in the order of the manifest.
    pub file: usize,
    pub fault: Fault,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// By file.
    pub verdicts: Vec<Verdict>,
    /// The round that the logs go back to.
    pub round: Option<u64>,
}

/// By the header of the newest start: whether the kernel is still the one that ran then.
pub fn crash_of(scans: &[Scan], boot: &str) -> Crash {
    let newest = scans.iter().filter_map(Scan::header).max_by_key(|header| header.start);
    // An id that is not known is no proof.
    match newest {
        Some(header) if header.boot != boot || boot == "-" => Crash::Power,
        _ => Crash::Process,
    }
}

/// Decides what counts of files that stand in this order in the manifest.
pub fn decide(scans: &[Scan], crash: Crash) -> Result<Decision, Damage> {
    let newest = scans.iter().filter_map(Scan::header).map(|header| header.start).max();
    let is_newest = |scan: &Scan| scan.header().map(|header| header.start) == newest;
    let mut keep: Vec<u64> = scans.iter().map(|scan| scan.intact).collect();
    let mut logs: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (file, scan) in scans.iter().enumerate() {
        // What follows was begun, and nothing came of it.
        let is_void =
            |scan: &Scan| scan.length == 0 || scan.kind != Kind::Foreign && scan.commands == 0 && !scan.is_appended;
        let is_last = scans[file + 1..].iter().all(is_void);
        match &scan.kind {
            Kind::Segment(Header { shard: Some(shard), .. }) if is_newest(scan) => {
                logs.entry(*shard).or_default().push(file);
            }
            // A record that was being written when all ended.
            Kind::Segment(Header { shard: None, .. }) if is_newest(scan) && may_end(scan, crash) => {}
            Kind::Blank if may_end(scan, crash) => {}
            Kind::Foreign if is_last && scan.fault == Some(Fault::Truncated) => {}
            // What older starts have left was recovered before.
            Kind::Segment(_) | Kind::Blank | Kind::Foreign => {
                if let Some(fault) = scan.fault {
                    return Err(Damage { file, fault });
                }
            }
        }
    }
    for log in logs.values() {
        cut_tail(log, scans, crash, &mut keep)?;
    }
    let mut round = None;
    if crash == Crash::Power {
        let (behind, end) = records(scans, &is_newest, &logs, &keep);
        for (file, scan) in scans.iter().enumerate().skip(end).filter(|(_, scan)| is_newest(scan)) {
            keep[file] = keep[file].min(scan.groups_from);
        }
        let range = |log: &[usize]| log.partition_point(|&file| file < behind)..log.partition_point(|&file| file < end);
        let logs: Vec<&[usize]> = logs.values().map(|log| &log[range(log)]).collect();
        round = cut_to_round(&logs, scans, &mut keep);
    }
    let mut parts: HashMap<TransactionId, u64> = HashMap::new();
    for (scan, &keep) in scans.iter().zip(&keep) {
        for part in scan.parts.iter().filter(|part| part.bytes.end <= keep) {
            *parts.entry(part.id).or_default() += 1;
        }
    }
    let decided: HashSet<TransactionId> = scans
        .iter()
        .zip(&keep)
        .flat_map(|(scan, &keep)| scan.decided.iter().filter(move |decided| decided.end <= keep))
        .filter(|decided| parts.get(&decided.id) == Some(&decided.parts))
        .map(|decided| decided.id)
        .collect();
    let verdict = |(scan, &keep): (&Scan, &u64)| {
        let is_skipped = |part: &&Part| part.bytes.end <= keep && !decided.contains(&part.id);
        Verdict { keep, skipped: scan.parts.iter().filter(is_skipped).cloned().collect() }
    };
    Ok(Decision { verdicts: scans.iter().zip(&keep).map(verdict).collect(), round })
}

/// Whether what ends a file may be what the crash has left.
fn may_end(scan: &Scan, crash: Crash) -> bool {
    match scan.fault {
        None | Some(Fault::Truncated) => true,
        Some(Fault::Damaged) => crash == Crash::Power,
    }
}

/// Cuts the log of a shard behind its last whole group, if that is its end.
fn cut_tail(log: &[usize], scans: &[Scan], crash: Crash, keep: &mut [u64]) -> Result<(), Damage> {
    let durable = log.iter().map(|&file| scans[file].durable).max().unwrap_or(0);
    let mut position = None;
    // Where it ends, and why.
    let mut end: Option<Damage> = None;
    for &file in log {
        let scan = &scans[file];
        let begin = scan.header().map_or(0, |header| header.position);
        let is_gap = scan.groups > 0 && begin != scan.position.start || position.is_some_and(|before| before != begin);
        if end.is_none() && is_gap {
            // What stood between was not written.
            end = Some(Damage { file, fault: Fault::Damaged });
        }
        match end {
            Some(damage) if scan.groups > 0 && crash == Crash::Process => return Err(damage),
            Some(_) => keep[file] = scan.groups_from,
            None => {
                position = Some(if scan.groups > 0 { scan.position.end } else { begin });
                end = scan.fault.map(|fault| Damage { file, fault });
                if let Some(damage) = end.filter(|_| !may_end(scan, crash)) {
                    return Err(damage);
                }
            }
        }
    }
    match end {
        Some(damage) if position.unwrap_or(0) < durable => Err(damage),
        _ => Ok(()),
    }
}

/// Records of the whole keyspace are moments of their own, if everything before them is still there: behind which file
/// the last of these is, and which is the first of which that is not true. Nothing counts from there on.
fn records(
    scans: &[Scan],
    is_newest: &impl Fn(&Scan) -> bool,
    logs: &BTreeMap<ShardId, Vec<usize>>,
    keep: &[u64],
) -> (usize, usize) {
    let mut behind = 0;
    for (file, scan) in scans.iter().enumerate().filter(|(_, scan)| is_newest(scan)) {
        if scan.header().is_none_or(|header| header.shard.is_some()) {
            continue;
        }
        let is_there = |&(shard, position): &(ShardId, u64)| {
            let before = logs.get(&shard).into_iter().flatten().filter(|&&other| other < file);
            let whole = before.filter(|&&other| scans[other].groups > 0 && keep[other] == scans[other].intact);
            // Of a log that has no group any more, or none yet, nothing is missing.
            whole.map(|&other| scans[other].position.end).max().is_none_or(|end| end >= position)
        };
        if scan.groups == 0 || !scan.positions.iter().all(is_there) {
            return (behind, file);
        }
        behind = file + 1;
    }
    (behind, scans.len())
}

/// How far a log is kept: a file of it, and where in that. What stands behind it in the log is dropped.
type Place = (usize, u64);

/// Takes the logs back to the last round that all of them have.
fn cut_to_round(logs: &[&[usize]], scans: &[Scan], keep: &mut [u64]) -> Option<u64> {
    let mut rounds: Vec<u64> = Vec::new();
    for &file in logs.iter().copied().flatten() {
        let kept = scans[file].rounds.iter().filter(|round| round.end <= keep[file]);
        rounds.extend(kept.map(|round| round.number));
    }
    rounds.sort_unstable();
    rounds.dedup();
    let places_of = |number: u64| -> Option<Vec<Option<Place>>> {
        logs.iter().map(|log| place_of_round(log, number, scans, keep)).collect()
    };
    let common = rounds.iter().rev().find_map(|&number| Some((number, places_of(number)?)));
    let (number, places) = match common {
        Some((number, places)) => (Some(number), places),
        None => (None, vec![None; logs.len()]),
    };
    for (log, at) in logs.iter().zip(places) {
        let synced = log.iter().filter(|&&file| scans[file].lasting > 0 && scans[file].lasting <= keep[file]);
        let end = at.max(synced.map(|&file| (file, scans[file].lasting)).max());
        for &file in *log {
            keep[file] = match end {
                Some((last, _)) if file < last => keep[file],
                Some((last, end)) if file == last => end,
                _ => scans[file].groups_from.min(keep[file]),
            };
        }
    }
    number
}

/// How far a log goes at the end of a round; `None` if it has lost that. (Each log ends each round with a line, though one
/// may be in the next generation by then and another not: a rewrite's cut shares its lock with the round.)
fn place_of_round(log: &[usize], number: u64, scans: &[Scan], keep: &[u64]) -> Option<Option<Place>> {
    for &file in log {
        if let Some(round) = scans[file].rounds.iter().find(|round| round.number == number && round.end <= keep[file]) {
            return Some(Some((file, round.end)));
        }
    }
    // What there is of it may have been begun behind the round.
    let begun = log.first().and_then(|&file| scans[file].header()).map_or(number, |header| header.round);
    (begun >= number).then_some(None)
}

#[cfg(test)]
mod tests;
