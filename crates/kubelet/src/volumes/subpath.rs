//! A part of a volume mounted by itself, safe against links that the pod's own processes put there.
//!
//! The part is opened below the volume by the kernel (`openat2`, RESOLVE_BENEATH), and what was opened is bound, not a
//! path that could have changed since.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

use super::mounts;

#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    #[error("subPath {0:?} must be a relative path without '..'")]
    Invalid(String),
    #[error("failed to prepare subPath {path:?}: {source}")]
    Open { path: String, source: io::Error },
    #[error("failed to bind subPath {path:?}: {source}")]
    Bind { path: String, source: io::Error },
}

/// Opens `sub` below `volume`, making directories that are not there with `mode`.
fn open(volume: &Path, sub: &Path, mode: u32) -> io::Result<OwnedFd> {
    let root = openat(CWD, volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let beneath = |at: BorrowedFd<'_>, path: &Path| {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
    };
    match beneath(root.as_fd(), sub) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    // Step by step, each opened through the root so that links stay within the volume.
    let mut so_far = PathBuf::new();
    let mut parent = root.try_clone()?;
    for part in sub.components() {
        so_far.push(part);
        match beneath(root.as_fd(), &so_far) {
            Ok(found) => parent = found,
            Err(Errno::NOENT) => {
                match mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(mode & 0o7777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                parent = beneath(root.as_fd(), &so_far)?;
                // The umask may have taken bits away.
                let path = format!("/proc/self/fd/{}", parent.as_raw_fd());
                fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(parent)
}

/// Binds `sub` of `volume` on `target` and gives `target`. Directories are made as open as the volume's own.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> Result<PathBuf, SubPathError> {
    let relative = Path::new(sub);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || relative.is_absolute() {
        return Err(SubPathError::Invalid(sub.to_owned()));
    }
    let at_open = |source: io::Error| SubPathError::Open { path: sub.to_owned(), source };
    let at_bind = |source: io::Error| SubPathError::Bind { path: sub.to_owned(), source };
    let mode = fs::metadata(volume)
        .map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()))
        .unwrap_or(0o755);
    let opened = open(volume, relative, mode).map_err(at_open)?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_dir = fs::metadata(&link).map_err(at_open)?.is_dir();

    if mounts::is_mount_point(target) {
        // From an earlier attempt; what it shows may be stale.
        mounts::unmount_below(target).map_err(at_bind)?;
    }
    if let Some(parent) = target.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(at_bind)?;
    }
    if is_dir {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(target).map_err(at_bind)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target).map_err(at_bind)?;
    }
    mounts::bind(&link, target).map_err(at_bind)?;
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn stays_within_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        symlink("../outside", volume.join("up")).unwrap();
        symlink("/etc", volume.join("abs")).unwrap();
        fs::create_dir(volume.join("real")).unwrap();
        symlink("real", volume.join("inside")).unwrap();
        assert!(open(&volume, Path::new("up"), 0o755).is_err());
        assert!(open(&volume, Path::new("abs/passwd"), 0o755).is_err());
        assert!(open(&volume, Path::new("inside/new/deep"), 0o750).is_ok());
        assert!(volume.join("real/new/deep").is_dir());
        for bad in ["../x", "/etc", "a/../../b"] {
            assert!(
                matches!(bind(&volume, bad, &dir.path().join("t")), Err(SubPathError::Invalid(_))),
                "{bad}"
            );
        }
    }
}
