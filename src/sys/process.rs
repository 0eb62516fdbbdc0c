//! The process as the operating system sees it: descriptors, background, processor time, what it may be killed for.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Soft and hard limit on open descriptors.
pub fn descriptor_limit() -> io::Result<(u64, u64)> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: valid for a write of one rlimit.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, hence wrote it.
    let limit = unsafe { limit.assume_init() };
    Ok((limit.rlim_cur, limit.rlim_max))
}

pub fn set_descriptor_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: valid for a read of one rlimit.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// Goes on in a child without a terminal; the process that was started exits. Call while there is one thread.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: the process has one thread, so the child may go on as usual.
    if checked(unsafe { libc::fork() })? > 0 {
        std::process::exit(0);
    }
    // SAFETY: no arguments.
    checked(unsafe { libc::setsid() })?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for standard in 0..=2 {
        // SAFETY: both are descriptors of this process; nothing here owns the standard ones.
        checked(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), standard) })?;
    }
    Ok(())
}

/// The kernel gives huge pages to memory that did not ask for them. The allocator asks, and gains by them (measured:
/// a tenth less CPU per pipelined GET among 1 M keys); stacks and buffers only grow.
pub fn huge_pages_are_forced() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").is_ok_and(|modes| modes.contains("[always]"))
}

/// Has the kernel back memory with small pages alone: with huge ones a shard that has done nothing yet takes megabytes.
pub fn disable_huge_pages() -> io::Result<()> {
    // SAFETY: no memory is handed over.
    checked(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(drop)
}

/// Threads that want the calling one's processor get most of it from now on, and wait for it no longer than a tenth of a
/// millisecond at a time (since Linux 6.12; before, and by default, some milliseconds). What the system does not allow is
/// not done.
pub fn yield_to_others() {
    const NICER_BY: i32 = 10;
    const NICENESS_MAX: i32 = 19;
    const SLICE_NS: u64 = 100_000;
    /// `struct sched_attr`.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let size = size_of::<Attributes>() as u32;
    let mut inherited = Attributes::default();
    // SAFETY: valid for a write of `size` bytes. Thread 0 is the calling one.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut inherited, size, 0) } == 0;
    if !known || inherited.policy == libc::SCHED_IDLE as u32 {
        return;
    }
    let nice = (inherited.nice + NICER_BY).min(NICENESS_MAX);
    let policy = libc::SCHED_OTHER as u32;
    let attributes = Attributes { size, policy, nice, runtime_ns: SLICE_NS, ..Attributes::default() };
    // SAFETY: the structure is as large as it says.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Stops this process until somebody lets it go on: how upstart is told that a service is ready.
pub fn stop() {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Changes the group that a file belongs to.
pub fn set_group(path: &Path, group: &str) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("unknown group '{group}'"));
    let name = CString::new(group).map_err(|_| invalid())?;
    // SAFETY: a valid string; the result is read at once, and no other thread asks for groups.
    let id = unsafe {
        let entry = libc::getgrnam(name.as_ptr());
        if entry.is_null() {
            return Err(invalid());
        }
        (*entry).gr_gid
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a valid path; -1 leaves the owner as it is.
    checked(unsafe { libc::chown(path.as_ptr(), libc::uid_t::MAX, id) }).map(drop)
}

/// Processor time of the process, or of the calling thread, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    pub system_us: u64,
    pub user_us: u64,
}

impl CpuTime {
    pub fn of_process() -> CpuTime {
        CpuTime::read(libc::RUSAGE_SELF)
    }

    pub fn of_children() -> CpuTime {
        CpuTime::read(libc::RUSAGE_CHILDREN)
    }

    pub fn of_thread() -> CpuTime {
        CpuTime::read(libc::RUSAGE_THREAD)
    }

    fn read(whose: libc::c_int) -> CpuTime {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: valid for a write of one rusage, which is valid as zeros if the call fails.
        let usage = unsafe {
            libc::getrusage(whose, usage.as_mut_ptr());
            usage.assume_init()
        };
        let microseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        CpuTime { system_us: microseconds(usage.ru_stime), user_us: microseconds(usage.ru_utime) }
    }
}

/// `uname`: system name, release and machine.
pub fn system_name() -> String {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: valid for a write of one utsname; its fields are terminated strings.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let text = |field: &[libc::c_char]| -> String {
        field.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8 as char).collect()
    };
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

/// The kernel's id of the time since it was booted: what it held in memory has not outlived that.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Physical memory of the machine in bytes.
pub fn physical_memory_bytes() -> u64 {
    // SAFETY: no arguments but names.
    unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) as u64 * libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// How likely the kernel is to kill this process when memory runs out.
pub fn oom_score_adj() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

pub fn set_oom_score_adj(value: i32) -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", value.to_string())
}

/// What each thread is at: its name, its state, and where in the kernel it waits, one line each.
pub fn threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let told = tasks.filter_map(Result::ok).map(|task| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?").trim();
        let (id, name, waits_in) = (task.file_name(), read("comm"), read("wchan"));
        format!("{} {}: {state}, in {waits_in}", id.to_string_lossy(), name.trim())
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_yields_is_nicer_than_before_and_no_other_is() {
        // SAFETY: no memory is involved. Process 0 is the calling thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // SAFETY: as before.
        let is_idle = || unsafe { libc::sched_getscheduler(0) } == libc::SCHED_IDLE;
        let before = niceness();
        let thread = std::thread::spawn(move || {
            yield_to_others();
            (niceness(), is_idle())
        });
        let (after, yields_anyhow) = thread.join().expect("it ends");
        assert!(yields_anyhow || after == (before + 10).min(19), "{before} {after}");
        assert_eq!(niceness(), before);
    }
}
