//! The mounts the runtime itself makes on the host: overlay roots, shared memory, pinned namespaces.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// Mounts an overlay at `target`; `lower` top layer first. Without `upper` it is read-only.
pub fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    let mut options = Vec::new();
    for (index, dir) in lower.iter().enumerate() {
        options.extend_from_slice(if index == 0 { b"lowerdir=" } else { b":" });
        options.extend_from_slice(dir.as_os_str().as_bytes());
    }
    if let Some((upper, work)) = upper {
        for (key, dir) in [(",upperdir=", upper), (",workdir=", work)] {
            options.extend_from_slice(key.as_bytes());
            options.extend_from_slice(dir.as_os_str().as_bytes());
        }
    }
    // A container's own layer does not outlive a reboot, so nothing is gained by syncing it.
    let mut volatile = options.clone();
    if upper.is_some() {
        volatile.extend_from_slice(b",volatile");
    }
    if volatile.len() < 4000 {
        return match mount_overlay(target, volatile) {
            Err(error) if error.raw_os_error() == Some(22) => mount_overlay(target, options),
            done => done,
        };
    }
    overlay_by_parts(lower, upper, target)
}

fn mount_overlay(target: &Path, options: Vec<u8>) -> io::Result<()> {
    let options =
        CString::new(options).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// Many layers do not fit into one option string.
fn overlay_by_parts(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> io::Result<()> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for dir in lower {
        rustix::mount::fsconfig_set_string(&fs, "lowerdir+", dir)?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_string(&fs, "upperdir", upper)?;
        rustix::mount::fsconfig_set_string(&fs, "workdir", work)?;
        rustix::mount::fsconfig_set_flag(&fs, "volatile")?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&mount, "", rustix::fs::CWD, target, flags)?)
}

/// A tmpfs for `/dev/shm`, shared by a pod's containers.
pub fn shared_memory(target: &Path, bytes: u64) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let options = CString::new(format!("mode=1777,size={bytes}")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("shm", target, "tmpfs", flags, options.as_c_str())?)
}

/// Keeps a namespace alive and reachable at `target`.
pub fn pin_namespace(pid: i32, kind: &str, target: &Path) -> io::Result<()> {
    std::fs::File::create(target)?;
    Ok(rustix::mount::mount_bind(format!("/proc/{pid}/ns/{kind}"), target)?)
}

/// Shows the program `source` at `target`, read-only. A container that gets hold of a process running it
/// (through `/proc/PID/exe`) must not be able to change it: CVE-2019-5736. A mount of an earlier run is
/// replaced, since `source` may be a newer version.
pub fn read_only_program(source: &Path, target: &Path) -> io::Result<()> {
    unmount(target)?;
    if source != target {
        std::fs::File::create(target)?;
    }
    rustix::mount::mount_bind(source, target)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
    Ok(rustix::mount::mount_remount(target, flags, c"")?)
}

/// Takes a mount away at once, also when it is in use. Not mounted is success.
pub fn unmount(target: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {} // there may be one below
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
