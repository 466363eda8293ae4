//! The few libc calls the shim makes. Linux with glibc, 64 bit; std is linked with the same libc.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::io::{Error, Result};
use std::ptr::null_mut;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: c_int,
    pub events: i16,
    pub revents: i16,
}
pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
pub const POLLERR: i16 = 8;
pub const POLLHUP: i16 = 16;

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    len: usize,
}
#[repr(C)]
struct MsgHdr {
    name: *mut c_void,
    namelen: c_uint,
    iov: *mut IoVec,
    iovlen: usize,
    control: *mut c_void,
    controllen: usize,
    flags: c_int,
}
#[repr(C, align(8))]
struct Control([u8; 64]);
#[repr(C)]
struct TimeSpec {
    sec: i64,
    nsec: i64,
}
#[repr(C)]
struct SigSet([u64; 16]);
#[repr(C)]
pub struct WinSize {
    pub rows: u16,
    pub cols: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

unsafe extern "C" {
    fn poll(fds: *mut PollFd, n: c_ulong, timeout: c_int) -> c_int;
    fn fork() -> c_int;
    fn syscall(number: i64, ...) -> i64;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn _exit(code: c_int) -> !;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, n: usize) -> isize;
    fn write(fd: c_int, buffer: *const c_void, n: usize) -> isize;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn setsid() -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn sethostname(name: *const c_char, n: usize) -> c_int;
    fn sigemptyset(set: *mut SigSet) -> c_int;
    fn sigaddset(set: *mut SigSet, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SigSet, old: *mut SigSet) -> c_int;
    fn sigwaitinfo(set: *const SigSet, info: *mut c_void) -> c_int;
    fn signalfd(fd: c_int, set: *const SigSet, flags: c_int) -> c_int;
    fn recvmsg(fd: c_int, message: *mut MsgHdr, flags: c_int) -> isize;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int;
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
    fn malloc_trim(pad: usize) -> c_int;
    fn setresuid(r: c_uint, e: c_uint, s: c_uint) -> c_int;
    fn setresgid(r: c_uint, e: c_uint, s: c_uint) -> c_int;
}

pub const CLONE_NEWUTS: c_int = 0x0400_0000;
pub const CLONE_NEWIPC: c_int = 0x0800_0000;
pub const CLONE_NEWUSER: c_int = 0x1000_0000;
pub const CLONE_NEWPID: c_int = 0x2000_0000;
pub const CLONE_NEWNET: c_int = 0x4000_0000;
const O_NONBLOCK: c_int = 0o4000;
const O_CLOEXEC: c_int = 0o2_000_000;
const SIGCHLD: c_int = 17;

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Waits until one of `fds` has something, however long it takes.
pub fn wait(fds: &mut [PollFd]) {
    // SAFETY: pointer and length are of one slice; an error (EINTR) only means "look again".
    unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, -1) };
}

/// Makes the allocator give memory back and keep little.
pub fn small_heap() {
    // SAFETY: plain settings: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD.
    unsafe {
        mallopt(-1, 16 << 10);
        mallopt(-2, 4 << 10);
        mallopt(-3, 32 << 10);
    }
}

pub fn trim_heap() {
    // SAFETY: no arguments that could be wrong.
    unsafe { malloc_trim(0) };
}

/// `fork`. The shim has one thread, so the child may do anything.
pub fn fork_process() -> Result<c_int> {
    // SAFETY: single-threaded.
    check(unsafe { fork() })
}

/// `fork` into new namespaces.
pub fn fork_into(namespaces: c_int) -> Result<c_int> {
    #[cfg(target_arch = "x86_64")]
    const SYS_CLONE: i64 = 56;
    #[cfg(not(target_arch = "x86_64"))]
    const SYS_CLONE: i64 = 220;
    // SAFETY: clone without a new stack and without CLONE_VM is fork; the shim has one thread.
    let pid =
        unsafe { syscall(SYS_CLONE, (namespaces | SIGCHLD) as c_ulong, 0usize, 0usize, 0usize, 0usize) };
    if pid < 0 { Err(Error::last_os_error()) } else { Ok(pid as c_int) }
}

/// One child that has ended: pid and raw wait status.
pub fn reap() -> Option<(c_int, c_int)> {
    let mut status = 0;
    // SAFETY: status is a valid int. WNOHANG | __WALL.
    let pid = unsafe { waitpid(-1, &mut status, 1 | 0x4000_0000) };
    (pid > 0).then_some((pid, status))
}

pub fn exit(code: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { _exit(code) }
}

/// Replaces this process; returns only on failure.
pub fn exec(argv: &[CString]) -> Error {
    let mut pointers: Vec<*const c_char> = argv.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: argv holds pointers to live C strings and ends in null.
    unsafe { execv(pointers[0], pointers.as_ptr()) };
    Error::last_os_error()
}

/// Makes `fd` the descriptor `to`, kept over exec.
pub fn move_fd(fd: c_int, to: c_int) -> Result<()> {
    if fd == to {
        // SAFETY: F_SETFD with no flags clears close-on-exec.
        return check(unsafe { fcntl(fd, 2, 0) }).map(drop);
    }
    // SAFETY: dup2 of plain numbers.
    check(unsafe { dup2(fd, to) }).map(drop)
}

/// Moves `fd` out of the way of the standard descriptors.
pub fn dup_above(fd: c_int, least: c_int) -> Result<c_int> {
    // SAFETY: F_DUPFD_CLOEXEC.
    check(unsafe { fcntl(fd, 1030, least) })
}

/// An owned descriptor, closed when dropped.
#[derive(Debug)]
pub struct Fd(pub c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: owned, closed once.
        unsafe { close(self.0) };
    }
}

impl Fd {
    pub fn nonblocking(self) -> Fd {
        // SAFETY: F_GETFL, F_SETFL on an owned descriptor.
        unsafe {
            let flags = fcntl(self.0, 3);
            fcntl(self.0, 4, flags | O_NONBLOCK);
        }
        self
    }
    /// Bytes read; 0 at the end; None when it would block.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
        transferred(n)
    }
    pub fn write(&self, bytes: &[u8]) -> Result<Option<usize>> {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { write(self.0, bytes.as_ptr().cast(), bytes.len()) };
        transferred(n)
    }
}

fn transferred(n: isize) -> Result<Option<usize>> {
    if n >= 0 {
        return Ok(Some(n as usize));
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(4 | 11) => Ok(None), // EINTR, EAGAIN: the poll loop comes back
        _ => Err(error),
    }
}

/// A pipe, both ends close-on-exec: (read end, write end).
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { pipe2(fds.as_mut_ptr(), O_CLOEXEC) })?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

pub fn send_signal(pid: c_int, signal: c_int) -> Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { kill(pid, signal) }).map(drop)
}

/// Orphans of our descendants become our children; our own death is not tied to our parent's.
pub fn become_subreaper() -> Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER.
    check(unsafe { prctl(36, 1 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) }).map(drop)
}

pub fn set_name(name: &CStr) {
    // SAFETY: PR_SET_NAME with a C string.
    unsafe { prctl(15, name.as_ptr(), 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) };
}

/// The next signal the kernel sends when our parent dies (0: none).
pub fn parent_death_signal(signal: c_int) {
    // SAFETY: PR_SET_PDEATHSIG.
    unsafe { prctl(1, signal as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) };
}

pub fn new_session() {
    // SAFETY: no arguments.
    unsafe { setsid() };
}

pub fn leave_namespaces(flags: c_int) -> Result<()> {
    // SAFETY: plain flags; single-threaded.
    check(unsafe { unshare(flags) }).map(drop)
}

pub fn set_hostname(name: &str) -> Result<()> {
    // SAFETY: pointer and length of one string.
    check(unsafe { sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

pub fn become_root() -> Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { setresgid(0, 0, 0) })?;
    // SAFETY: plain numbers.
    check(unsafe { setresuid(0, 0, 0) })?;
    // The change of ids hid our namespaces in /proc; helpers inside the user namespace must reach them.
    // SAFETY: PR_SET_DUMPABLE.
    check(unsafe { prctl(4, 1 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) }).map(drop)
}

fn signal_set(signals: &[c_int]) -> SigSet {
    let mut set = SigSet([0; 16]);
    // SAFETY: set is a whole sigset_t.
    unsafe {
        sigemptyset(&mut set);
        for signal in signals {
            sigaddset(&mut set, *signal);
        }
    }
    set
}

/// Blocks the signals that must not end the shim, and SIGCHLD, which the returned descriptor shows.
pub fn block_signals() -> Result<Fd> {
    // HUP, INT, QUIT, PIPE, TERM and CHLD blocked; the first five are left pending for ever.
    let blocked = signal_set(&[1, 2, 3, 13, 15, SIGCHLD]);
    let child = signal_set(&[SIGCHLD]);
    // SAFETY: valid sets; SIG_SETMASK; SFD_NONBLOCK | SFD_CLOEXEC.
    unsafe {
        check(sigprocmask(2, &blocked, null_mut()))?;
        check(signalfd(-1, &child, O_NONBLOCK | O_CLOEXEC)).map(Fd)
    }
}

pub fn unblock_signals() {
    let none = signal_set(&[]);
    // SAFETY: valid set; SIG_SETMASK.
    unsafe { sigprocmask(2, &none, null_mut()) };
}

/// Reaps children for ever: what PID 1 of a pod does.
pub fn reap_for_ever() -> ! {
    let child = signal_set(&[SIGCHLD]);
    loop {
        while reap().is_some() {}
        // SAFETY: valid set; SIGCHLD is blocked.
        unsafe { sigwaitinfo(&child, null_mut()) };
    }
}

pub fn drain(fd: &Fd) {
    let mut buffer = [0u8; 512];
    while matches!(fd.read(&mut buffer), Ok(Some(n)) if n > 0) {}
}

/// Receives bytes and up to three descriptors. 0 bytes: closed. None: would block.
pub fn receive(fd: c_int, buffer: &mut [u8], fds: &mut Vec<Fd>) -> Result<Option<usize>> {
    let mut iov = IoVec { base: buffer.as_mut_ptr().cast(), len: buffer.len() };
    let mut control = Control([0; 64]);
    let mut message = MsgHdr {
        name: null_mut(),
        namelen: 0,
        iov: &mut iov,
        iovlen: 1,
        control: control.0.as_mut_ptr().cast(),
        controllen: 64,
        flags: 0,
    };
    // SAFETY: all pointers are to live locals; MSG_CMSG_CLOEXEC.
    let n = unsafe { recvmsg(fd, &mut message, 0x4000_0000) };
    let got = transferred(n)?;
    if got.is_some() && message.controllen >= 20 {
        let word = |at: usize| i32::from_ne_bytes(control.0[at..at + 4].try_into().unwrap_or([0; 4]));
        let length = (word(0) as usize).min(64);
        // SOL_SOCKET, SCM_RIGHTS: the only control message a unix socket without options gets.
        if word(8) == 1 && word(12) == 1 {
            let mut at = 16;
            while at + 4 <= length {
                fds.push(Fd(word(at)));
                at += 4;
            }
        }
    }
    Ok(got)
}

pub fn resize(fd: &Fd, rows: u16, cols: u16) {
    let size = WinSize { rows, cols, xpixel: 0, ypixel: 0 };
    // SAFETY: TIOCSWINSZ takes a winsize.
    unsafe { ioctl(fd.0, 0x5414, &size as *const WinSize) };
}

/// Sets the loopback interface up in the current network namespace.
pub fn loopback_up() -> Result<()> {
    // SAFETY: AF_INET, SOCK_DGRAM | SOCK_CLOEXEC.
    let socket = Fd(check(unsafe { socket(2, 2 | O_CLOEXEC, 0) })?);
    let mut request = IfReq { name: [0; 16], flags: 1 | 0x40, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: SIOCSIFFLAGS takes an ifreq.
    check(unsafe { ioctl(socket.0, 0x8914, &request as *const IfReq) }).map(drop)
}

/// Seconds and nanoseconds since 1970.
pub fn now() -> (i64, i64) {
    let mut time = TimeSpec { sec: 0, nsec: 0 };
    // SAFETY: CLOCK_REALTIME into a valid timespec.
    unsafe { clock_gettime(0, &mut time) };
    (time.sec, time.nsec)
}
