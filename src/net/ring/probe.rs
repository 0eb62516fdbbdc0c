//! Is io_uring there, allowed, and new enough? Asked once at start, answered in one line.

use io_uring::{IoUring, Probe, opcode};

/// The kernel's answer in words: `Ok` lists what is used, `Err` says what is missing and how to allow it.
pub fn probe() -> Result<String, String> {
    let ring: IoUring = match IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8) {
        Ok(ring) => ring,
        Err(error) => return Err(explain(&error)),
    };
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
    let needed = [
        ("accept", opcode::AcceptMulti::CODE),
        ("recv", opcode::RecvMulti::CODE),
        ("send", opcode::Send::CODE),
        ("msg_ring", opcode::MsgRingData::CODE),
        ("async_cancel", opcode::AsyncCancel::CODE),
        ("poll_add", opcode::PollAdd::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            return Err(format!("io_uring here lacks the operation {name}: Linux 6.1 or newer is needed"));
        }
    }
    let bundles = if ring.params().is_feature_recvsend_bundle() { "yes" } else { "no" };
    Ok(format!("io_uring: single issuer, deferred task work, multishot receive, ring messages; bundles: {bundles}"))
}

fn explain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is blocked here: allow it with `sysctl kernel.io_uring_disabled=0`, and in containers with a \
             seccomp profile that permits io_uring_setup, io_uring_enter and io_uring_register \
             (docker run --security-opt seccomp=PROFILE)"
                .to_string()
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring: Linux 6.1 or newer is needed".to_string(),
        Some(libc::EINVAL) => {
            "io_uring is too old here (no deferred task work): Linux 6.1 or newer is needed".to_string()
        }
        Some(libc::ENOMEM) => {
            "io_uring has no memory to lock: raise `ulimit -l` (LimitMEMLOCK=, docker run --ulimit memlock=-1)"
                .to_string()
        }
        _ => format!("io_uring cannot be set up: {error}"),
    }
}
