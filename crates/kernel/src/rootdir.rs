//! Work inside a directory tree that is not trusted: every path is resolved by the kernel as if the
//! directory were `/` (`openat2` with `RESOLVE_IN_ROOT`), so that no symlink or `..` leads out of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

/// A directory that paths are confined to.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    pub fn open(path: &Path) -> io::Result<RootDir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RootDir { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path below (leading `/` or not), following symlinks inside the tree.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = relative(path);
        loop {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.fd, &path, flags | OFlags::CLOEXEC, mode, resolve) {
                // A rename raced with the resolution of `..`: the kernel asks to try again.
                Err(rustix::io::Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the directory `path`; `make` is called for each part that is missing, with the parent, the
    /// name and the path so far, and must make it.
    pub fn make_dirs(
        &self,
        path: &Path,
        mut make: impl FnMut(BorrowedFd<'_>, &OsStr, &Path) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut so_far = PathBuf::new();
        let mut dir = self.fd.try_clone()?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            so_far.push(name);
            dir = match self.open_dir(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make(dir.as_fd(), name, &so_far)?;
                    self.open_dir(&so_far)?
                }
                done => done?,
            };
        }
        Ok(dir)
    }

    /// The file's text, if it is a regular file of at most `limit` bytes.
    pub fn read_to_string(&self, path: &Path, limit: u64) -> io::Result<String> {
        use std::io::Read;
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        let file = std::fs::File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut text = String::new();
        file.take(limit).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn relative(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from(".");
    clean.extend(path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)));
    clean
}

/// Removes `name` in `dir` and, if it is a directory, everything below, never following a symlink.
/// Nothing there is success.
pub fn remove_all(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let names: Vec<_> = rustix::fs::Dir::read_from(&inner)?.collect::<Result<_, _>>()?;
    for entry in names {
        let entry = entry.file_name().to_bytes();
        if entry != b"." && entry != b".." {
            remove_all(inner.as_fd(), std::os::unix::ffi::OsStrExt::from_bytes(entry))?;
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        let outer = std::env::temp_dir().join(format!("r8s-rootdir-{}", std::process::id()));
        let inner = outer.join("root");
        std::fs::create_dir_all(inner.join("etc")).unwrap();
        std::fs::write(outer.join("secret"), "out").unwrap();
        std::fs::write(inner.join("etc/passwd"), "in").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", inner.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../secret", inner.join("up")).unwrap();
        let root = RootDir::open(&inner).unwrap();
        assert_eq!(root.read_to_string(Path::new("absolute"), 100).unwrap(), "in");
        assert!(root.read_to_string(Path::new("up"), 100).is_err());
        assert!(root.read_to_string(Path::new("../secret"), 100).is_err());
        let made = root.make_dirs(Path::new("a/../b"), |dir, name, _| {
            Ok(rustix::fs::mkdirat(dir, name, Mode::from(0o755))?)
        });
        drop(made);
        remove_all(root.fd(), OsStr::new("etc")).unwrap();
        assert!(!inner.join("etc").exists());
        std::fs::remove_dir_all(&outer).unwrap();
    }
}
