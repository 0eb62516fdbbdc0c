//! CPU time of the server's process and of our own threads, and pinning.
//!
//! `/proc/PID/stat` counts in ticks of 10 ms; the scheduler's own account, per task in nanoseconds, is what makes a
//! cost per operation of a short run meaningful. The account of a task leaves with it, so the ticks stay the measure
//! for a server whose threads come and go.

use std::fs;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const TICK_NS: u64 = 10_000_000;
/// A process that may be this far off between its two accounts has lost tasks.
const LOST_NS_MAX: u64 = 100_000_000;

/// CPU time a process has used at one moment, by both accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    ticks_ns: u64,
    tasks_ns: u64,
}

impl CpuTime {
    /// `None` if there is no such process here.
    pub fn of_process(pid: u32) -> Option<CpuTime> {
        let ticks_ns = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)? * TICK_NS;
        let mut tasks_ns = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A task may end between the listing and the reading; it then counts in the ticks only.
            if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
                tasks_ns += text.split(' ').next()?.parse::<u64>().ok()?;
            }
        }
        Some(CpuTime { ticks_ns, tasks_ns })
    }

    pub fn since_ns(self, before: CpuTime) -> u64 {
        let by_ticks = self.ticks_ns.saturating_sub(before.ticks_ns);
        let by_tasks = self.tasks_ns.saturating_sub(before.tasks_ns);
        if by_tasks + LOST_NS_MAX < by_ticks || self.tasks_ns < before.tasks_ns { by_ticks } else { by_tasks }
    }
}

/// User and system time in ticks. The name before them is in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// CPU time of the calling thread.
pub fn of_this_thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn pin_this_thread(cpu: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// `0,2-4` as a list.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| match digits.parse::<usize>() {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
            _ => Err(format!("'{digits}' is not the number of a CPU")),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{first} is above {last}"));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 30 7 8 20 0 1 0 5 6 7\n";
        assert_eq!(parse_stat(stat), Some(280));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn our_own_process_uses_time_that_both_accounts_see() {
        let before = CpuTime::of_process(std::process::id()).unwrap();
        let spun_from = of_this_thread_ns();
        let mut sum = 0u64;
        while of_this_thread_ns() - spun_from < 120_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = CpuTime::of_process(std::process::id()).unwrap().since_ns(before);
        // What a running thread has used is accounted for with the clock's ticks only, on both sides.
        assert!(used >= 80_000_000, "{used}");
        assert_eq!(CpuTime::of_process(u32::MAX), None);
    }

    #[test]
    fn lost_tasks_leave_the_ticks() {
        let at = |ticks_ns, tasks_ns| CpuTime { ticks_ns, tasks_ns };
        assert_eq!(at(1_000_000_000, 1_003_000_000).since_ns(at(0, 0)), 1_003_000_000);
        assert_eq!(at(1_000_000_000, 400_000_000).since_ns(at(0, 0)), 1_000_000_000);
        assert_eq!(at(50_000_000, 1).since_ns(at(0, 9)), 50_000_000);
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(parse_cpus("1"), Ok(vec![1]));
        assert_eq!(parse_cpus("0,2-4"), Ok(vec![0, 2, 3, 4]));
        assert!(parse_cpus("3-1").is_err() && parse_cpus("").is_err() && parse_cpus("x").is_err());
    }
}
