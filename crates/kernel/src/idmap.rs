//! Mounts whose files belong to other users than on disk: what a user namespace's root needs of an image.
//!
//! Source: mount_setattr(2), "ID-mapped mounts".

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::mount::{MoveMountFlags, OpenTreeFlags};

/// Mounts the directory `source` at `target` with the ids of the user namespace `userns` (an open
/// `/proc/PID/ns/user`): what belongs to 0 on disk belongs to whom that namespace maps 0 to. The file
/// system must be able to (ext4, xfs, btrfs, tmpfs since 6.3, …); else EINVAL.
pub fn mount(source: &Path, target: &Path, userns: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, source, flags)?;
    let attributes = MountAttributes {
        set: 0x0010_0000, // MOUNT_ATTR_IDMAP
        clear: 0,
        propagation: 0,
        userns: u64::from(userns.as_fd().as_raw_fd().cast_unsigned()),
    };
    // SAFETY: the path is a C string, the attributes live through the call and their size is right.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            std::mem::size_of::<MountAttributes>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(rustix::mount::move_mount(
        &tree,
        "",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}
