//! A disk that fails when a test says so, under a real server: the kernel asks us (seccomp's user notification) about
//! every call by which the server changes files, and we let it happen or answer with an error in its place. That takes
//! neither a privilege nor a file system of its own, and what a test breaks it can mend again.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A way to change files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    Sync,
    Rename,
}

/// What fails at present, and how.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    broken: Vec<(Call, i32)>,
    /// How many calls have failed.
    failed: u64,
}

impl Faults {
    /// Whoever this command starts asks about files in this directory.
    pub fn over(command: &mut Command, directory: &Path) -> Faults {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        let program = filter();
        // SAFETY: between fork and exec only system calls are made, with memory that was there before.
        unsafe {
            command.pre_exec(move || send_fd(theirs.as_raw_fd(), install(&program)?));
        }
        let faults = Faults::default();
        let (answering, directory) = (faults.clone(), directory.canonicalize().expect("the directory is there"));
        std::thread::spawn(move || answering.answer(receive_fd(ours.as_raw_fd()), &directory));
        faults
    }

    /// From now on these calls fail so, until the next word.
    pub fn set(&self, broken: &[(Call, i32)]) {
        self.state().broken = broken.to_vec();
    }

    pub fn failed(&self) -> u64 {
        self.state().failed
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the state")
    }

    /// Answers the kernel until the server has ended.
    fn answer(&self, listener: OwnedFd, directory: &Path) {
        let fd = listener.as_raw_fd();
        loop {
            let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, and memory for it.
            if unsafe { libc::poll(&raw mut ready, 1, -1) } < 0 || ready.revents & libc::POLLIN == 0 {
                return;
            }
            // SAFETY: the kernel wants the request's memory zeroed, and fills it.
            let mut request: Notification = unsafe { zeroed() };
            // SAFETY: the request is as large as the number of the call says.
            if unsafe { libc::ioctl(fd, RECEIVE as _, &raw mut request) } < 0 {
                // Who asked is gone.
                continue;
            }
            let errno = self.verdict(&request, directory);
            let flags = if errno == 0 { CONTINUE } else { 0 };
            let mut reply = Reply { id: request.id, value: 0, error: -errno, flags };
            // SAFETY: as above. It fails if who asked is gone meanwhile.
            unsafe { libc::ioctl(fd, SEND as _, &raw mut reply) };
        }
    }

    /// The error, or 0.
    fn verdict(&self, request: &Notification, directory: &Path) -> i32 {
        let call = CALLS.iter().find(|(number, _)| *number == libc::c_long::from(request.number));
        let Some(&(_, call)) = call else { return 0 };
        let mut state = self.state();
        let Some(&(_, errno)) = state.broken.iter().find(|(broken, _)| *broken == call) else { return 0 };
        if matches!(call, Call::Write | Call::Sync) {
            let link = PathBuf::from(format!("/proc/{}/fd/{}", request.thread, request.arguments[0]));
            if !std::fs::read_link(link).is_ok_and(|path| path.starts_with(directory)) {
                return 0;
            }
        }
        state.failed += 1;
        errno
    }
}

/// The calls that are asked about. Files are created by `openat`, which is looked at only if it may create.
const CALLS: &[(libc::c_long, Call)] = &[
    (libc::SYS_openat, Call::Create),
    (libc::SYS_write, Call::Write),
    (libc::SYS_writev, Call::Write),
    (libc::SYS_pwrite64, Call::Write),
    (libc::SYS_fsync, Call::Sync),
    (libc::SYS_fdatasync, Call::Sync),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, Call::Rename),
    (libc::SYS_renameat, Call::Rename),
    (libc::SYS_renameat2, Call::Rename),
];

const CONTINUE: u32 = 1;
/// `SECCOMP_IOCTL_NOTIF_RECV` and `_SEND`.
const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;

/// `struct seccomp_notif`
#[repr(C)]
struct Notification {
    id: u64,
    thread: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Reply {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Notification>() == 0x50 && size_of::<Reply>() == 0x18);

/// The program that chooses calls. It looks at `struct seccomp_data`: number (4), architecture (4), address (8), arguments.
fn filter() -> Vec<libc::sock_filter> {
    const NUMBER_AT: u32 = 0;
    /// The low half of the flags of `openat`, on a little-endian machine.
    const FLAGS_AT: u32 = 16 + 2 * 8;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let end = |verdict| statement(libc::BPF_RET | libc::BPF_K, verdict);
    let skip_unless = |code: u32, k: u32, skipped: u8| libc::sock_filter {
        code: (libc::BPF_JMP | code | libc::BPF_K) as u16,
        jt: 0,
        jf: skipped,
        k,
    };
    let mut program = vec![load(NUMBER_AT)];
    for (number, call) in CALLS {
        let number = *number as u32;
        if *call == Call::Create {
            program.extend([
                skip_unless(libc::BPF_JEQ, number, 4),
                load(FLAGS_AT),
                skip_unless(libc::BPF_JSET, libc::O_CREAT as u32, 1),
                end(libc::SECCOMP_RET_USER_NOTIF),
                end(libc::SECCOMP_RET_ALLOW),
            ]);
        } else {
            program.extend([skip_unless(libc::BPF_JEQ, number, 1), end(libc::SECCOMP_RET_USER_NOTIF)]);
        }
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

/// Puts the filter on this process and all that comes of it; where the kernel asks.
fn install(program: &[libc::sock_filter]) -> io::Result<RawFd> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program lives as long as the call, and the kernel copies it.
    let listener = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if listener < 0 { Err(io::Error::last_os_error()) } else { Ok(listener as RawFd) }
}

/// Room for a control message with one descriptor.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Calls `pass` with a message of one byte, with room for a descriptor beside it.
fn with_message<R>(control: &mut Control, pass: impl FnOnce(&mut libc::msghdr) -> R) -> R {
    let mut byte = [0u8; 1];
    let mut parts = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: a message header of zeros is one without anything.
    let mut message: libc::msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut parts, 1);
    (message.msg_control, message.msg_controllen) = (control.0.as_mut_ptr().cast(), size_of::<Control>() as _);
    pass(&mut message)
}

fn send_fd(socket: RawFd, fd: RawFd) -> io::Result<()> {
    let mut control = Control([0; 24]);
    let sent = with_message(&mut control, |message| {
        // SAFETY: the message has room for one header with one descriptor behind it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
            libc::sendmsg(socket, message, 0)
        }
    });
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_fd(socket: RawFd) -> OwnedFd {
    let mut control = Control([0; 24]);
    with_message(&mut control, |message| {
        // SAFETY: as above; a descriptor that was received is ours.
        unsafe {
            assert!(libc::recvmsg(socket, message, libc::MSG_CMSG_CLOEXEC) > 0, "the server sends its listener");
            let header = libc::CMSG_FIRSTHDR(message);
            assert!(!header.is_null(), "a descriptor came");
            OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
        }
    })
}
