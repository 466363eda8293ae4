//! Network namespaces: made and pinned by a bind mount, entered on a thread that is thrown away.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Makes a fresh network namespace and pins it at `path` (a file, made here; its directory must exist).
///
/// Fails with `AlreadyExists` when the file is there, and with `PermissionDenied` without CAP_SYS_ADMIN.
pub fn create(path: &Path) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path)?;
    let pinned = on_thread(|| {
        // SAFETY: only this thread's network namespace changes and the thread ends here.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        mount_bind("/proc/thread-self/ns/net", path)?;
        Ok(())
    });
    if pinned.is_err() {
        let _ = fs::remove_file(path);
    }
    pinned
}

/// Unpins a namespace made by [`create`]; the kernel frees it with its last user. Absent is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Runs `work` inside the network namespace at `path`, on a thread of its own, and gives its result.
///
/// A socket opened by `work` stays in that namespace wherever it is used later. `work` may borrow.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let ns = File::open(path)?;
    on_thread(move || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&ns), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Moves the calling thread into a fresh network namespace, for good. For tests and single-threaded programs.
pub fn unshare_this_thread() -> io::Result<()> {
    // SAFETY: only the calling thread's network namespace changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn made_entered_removed() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path).unwrap();
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let own = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let inside = within(&path, || fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap();
        assert_ne!(own, inside);
        assert_eq!(own, fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
