//! Reads the operating system's clocks. Everything above takes time as an argument.

use std::mem::MaybeUninit;

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is valid for a write of one timespec, and the clocks used here exist on every Linux.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    assert!(result == 0, "clock_gettime failed for a clock that every Linux has");
    // SAFETY: the call succeeded, hence wrote it.
    unsafe { time.assume_init() }
}

fn nanoseconds(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Unix time in microseconds.
pub fn unix_us() -> i64 {
    let time = read(libc::CLOCK_REALTIME);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// Unix time less CLOCK_MONOTONIC, in nanoseconds. Unix time is read last: what is computed with the difference is at no
/// moment behind the clock that clients on this machine read before.
pub fn unix_less_mono_ns() -> i64 {
    let mono_ns = mono_ns() as i64;
    nanoseconds(read(libc::CLOCK_REALTIME)) as i64 - mono_ns
}

/// A moment as people write it where this machine stands: `21 Nov 2026 10:03:35.482`.
pub fn local_time_text(unix_us: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds: libc::time_t = unix_us.div_euclid(1_000_000);
    let mut time = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: valid for a read and a write; zeros are a valid `tm` should the call fail.
    let time = unsafe {
        libc::localtime_r(&seconds, time.as_mut_ptr());
        time.assume_init()
    };
    format!(
        "{:02} {} {} {:02}:{:02}:{:02}.{:03}",
        time.tm_mday,
        MONTHS[time.tm_mon as usize],
        1900 + time.tm_year,
        time.tm_hour,
        time.tm_min,
        time.tm_sec,
        unix_us.rem_euclid(1_000_000) / 1000
    )
}

/// CLOCK_MONOTONIC in nanoseconds: one order over all cores (design, section 4).
pub fn mono_ns() -> u64 {
    nanoseconds(read(libc::CLOCK_MONOTONIC))
}

/// Processor time of the calling thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// Nanoseconds that pass, from an arbitrary start; cheaper than `mono_ns` and not comparable between threads.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn ticks_ns() -> u64 {
    use std::sync::OnceLock;
    /// Nanoseconds a tick of the time stamp counter, times 2^32.
    static SCALE: OnceLock<u64> = OnceLock::new();
    // SAFETY: every x86_64 has the counter, and Linux lets user space read it.
    let now = || unsafe { std::arch::x86_64::_rdtsc() };
    let scale = *SCALE.get_or_init(|| {
        let (ticks, nanoseconds) = (now(), mono_ns());
        while mono_ns() - nanoseconds < 2_000_000 {}
        (u128::from(mono_ns() - nanoseconds) * (1 << 32) / u128::from((now() - ticks).max(1))) as u64
    });
    ((u128::from(now()) * u128::from(scale)) >> 32) as u64
}

#[cfg(not(target_arch = "x86_64"))]
pub fn ticks_ns() -> u64 {
    mono_ns()
}
