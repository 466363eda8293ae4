//! Mounting and unmounting below a pod's directory.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};

/// Mount points at or below `dir`, deepest first.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    Ok(found)
}

/// Octal escapes of the kernel's mount table.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

pub fn is_mount_point(dir: &Path) -> bool {
    below(dir).is_ok_and(|found| found.iter().any(|path| path == dir))
}

/// Mounts a tmpfs with `options` on `dir`, unless something is mounted there.
pub fn tmpfs(dir: &Path, options: &str) -> io::Result<()> {
    mount_fs("tmpfs", dir, options)
}

pub fn mount_fs(kind: &str, dir: &Path, options: &str) -> io::Result<()> {
    if is_mount_point(dir) {
        return Ok(());
    }
    let data = CString::new(options).map_err(io::Error::other)?;
    mount(kind, dir, kind, MountFlags::empty(), Some(data.as_c_str()))?;
    Ok(())
}

/// Makes `target` show `source` and what is mounted below it, apart from later mounts on either side.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount_bind_recursive(source, target)?;
    mount_change(target, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

/// Unmounts everything at or below `dir`.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    for path in below(dir)? {
        match unmount(&path, UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            // Still in use somewhere: taken out of sight now, gone when the last user is.
            Err(rustix::io::Errno::BUSY) => unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Unmounts and removes `dir`. Refuses to remove anything while a mount is left.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    unmount_below(dir)?;
    if let Some(left) = below(dir)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", left.display())));
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes() {
        assert_eq!(super::unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(super::unescape(r"/plain\"), r"/plain\");
    }
}
