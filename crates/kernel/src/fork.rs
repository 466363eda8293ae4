//! Forking without exec, for the one place that needs it: putting a process into a container.

use std::io;

/// Which side of the fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// With the other side's pid, as this side's pid namespace counts.
    Parent(i32),
    Child,
}

/// Proof that this process had one thread when it was asked.
#[derive(Debug)]
pub struct Alone(());

impl Alone {
    /// Looks, in this process's own `/proc`: do it before joining another mount namespace. Refused where
    /// there are more threads: a forked child would have whatever locks the others held.
    pub fn check() -> io::Result<Alone> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Alone(())),
            _ => Err(io::Error::other("a process with threads can't fork without exec")),
        }
    }

    /// Forks a process that is not this one's child but its parent's (`CLONE_PARENT`), inside the pid
    /// namespace that was joined before.
    pub fn fork_sibling(self) -> io::Result<Side> {
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        // SAFETY: there was one thread, and only threads make threads: ours has made none since, as the
        // caller holds by asking right before. Without CLONE_VM and without a stack this is fork.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            0 => Ok(Side::Child),
            pid => Ok(Side::Parent(i32::try_from(pid).map_err(io::Error::other)?)),
        }
    }
}

/// Marks all descriptors from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; none is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
