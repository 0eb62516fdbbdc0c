//! Which processors the process may use: affinity mask and cgroup quota.

use std::mem::MaybeUninit;

/// Processors in the affinity mask, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is valid for a write of `size` bytes.
    if unsafe { libc::sched_getaffinity(0, size, set.as_mut_ptr()) } != 0 {
        return vec![0];
    }
    // SAFETY: zeroed, then written by the call.
    let set = unsafe { set.assume_init() };
    // SAFETY: every index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// The calling thread may run where the process may, whatever thread has started it.
pub fn follow_process() {
    let size = size_of::<libc::cpu_set_t>();
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: valid for a write of `size` bytes, and for a read once that has succeeded. The first thread, whose id is that
    // of the process, is never pinned. A thread that cannot be moved stays.
    unsafe {
        if libc::sched_getaffinity(libc::getpid(), size, set.as_mut_ptr()) == 0 {
            libc::sched_setaffinity(0, size, set.as_ptr());
        }
    }
}

/// Whole processors that the cgroup's quota grants, rounded up; `None` without a quota.
pub fn quota_cpus() -> Option<usize> {
    let parse = |text: &str| {
        let mut fields = text.split_whitespace();
        let quota: u64 = fields.next()?.parse().ok()?;
        let period: u64 = fields.next()?.parse().ok()?;
        (period > 0).then(|| quota.div_ceil(period).max(1) as usize)
    };
    std::fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().as_deref().and_then(parse).or_else(|| {
        let quota = std::fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()?;
        let period = std::fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us").ok()?;
        parse(&format!("{} {}", quota.trim(), period.trim()))
    })
}

/// One processor for each of `shards` shards; more shards than processors share them in turn.
pub fn place(shards: usize) -> Vec<usize> {
    let cpus = allowed_cpus();
    (0..shards).map(|shard| cpus[shard % cpus.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_inherited_a_shards_processor_may_leave_it() {
        let of_process = allowed_cpus();
        let first = of_process[0];
        let thread = std::thread::spawn(move || {
            let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
            // SAFETY: zeros are an empty set; valid for a read of its size.
            unsafe {
                libc::CPU_SET(first, set.assume_init_mut());
                assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr()), 0);
            }
            assert_eq!(allowed_cpus(), [first]);
            std::thread::spawn(|| (allowed_cpus(), follow_process(), allowed_cpus())).join().expect("it ends")
        });
        let (inherited, (), after) = thread.join().expect("it ends");
        assert_eq!((inherited, after), (vec![first], of_process));
    }
}
