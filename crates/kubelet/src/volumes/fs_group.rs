//! Gives a volume to the pod's fsGroup.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Sets the group on everything below `dir`, lets it read and write, and lets new files inherit it. With `only_if_root_differs`
/// (`OnRootMismatch`) nothing is done where the top directory is already so.
pub fn apply(dir: &Path, group: u32, only_if_root_differs: bool) -> io::Result<()> {
    let top = fs::metadata(dir)?;
    let already = top.gid() == group && top.permissions().mode() & 0o2770 == 0o2770;
    if only_if_root_differs && already {
        return Ok(());
    }
    walk(dir, group)
}

/// Children first, the top last: an interrupted run is begun again.
fn walk(path: &Path, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group)?;
        }
    }
    if meta.gid() != group {
        lchown(path, None, Some(group))?;
    }
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o7777;
    let wanted = mode | 0o660 | if meta.is_dir() { 0o2110 } else { 0 };
    if wanted != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}
