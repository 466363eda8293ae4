//! The I/O seam of the embedded engine: everything it does to a disk goes through [`Disk`] and [`DiskFile`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files.
pub trait Disk: Send + Sync {
    /// Makes the directory and keeps other processes out while the answer lives.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file of `size` zero bytes; one of that name is replaced. `written` says whether the zeros are to be
    /// written out, which makes later synced writes cheaper, or only reserved.
    fn create(&self, name: &str, size: u64, written: bool) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// For messages.
    fn path(&self, name: &str) -> PathBuf;
}

pub trait DiskFile: Send + Sync {
    /// It was opened on a file system that took no writes, and will not take any either when that does again.
    fn is_read_only(&self) -> bool;
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Data, and the length if it changed.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory of the file system.
pub struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

const LOCK: &str = "lock";

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        make_private(&self.dir)?;
        let path = self.dir.join(LOCK);
        let file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
            // Nobody else can write here either.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => return Ok(Box::new(())),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let text = format!("the data directory is in use by process {}", holder.trim());
                return Err(io::Error::new(ErrorKind::WouldBlock, text));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        // The pid only serves the message above: a full disk must not keep the store from opening.
        let _ =
            file.set_len(0).and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
        Ok(Box::new(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(|name| name.transpose()).filter(|name| !matches!(name, Ok(n) if n == LOCK)).collect()
    }

    fn create(&self, name: &str, size: u64, written: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = private().read(true).write(true).create(true).truncate(true).open(self.dir.join(name))?;
        if size > 0 {
            reserve(&file, size)?;
        }
        if written {
            let zeros = vec![0; PIECE.min(size as usize)];
            let mut at = 0;
            while at < size {
                let piece = &zeros[..zeros.len().min((size - at) as usize)];
                file.write_all_at(piece, at)?;
                file.sync_data()?;
                at += piece.len() as u64;
            }
            file.sync_all()?;
        }
        Ok(Arc::new(RealFile { file, read_only: false }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.dir.join(name);
        let (file, read_only) = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => (File::open(&path)?, true),
            other => (other?, false),
        };
        Ok(Arc::new(RealFile { file, read_only }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What is large is written and synced in pieces: a sync of the log that comes meanwhile waits for one of them, not for
/// all.
pub const PIECE: usize = 1 << 20;

/// Cluster state holds secrets: for the owner's eyes.
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn reserve(file: &File, size: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // Not every file system can; the space is then found out about write by write.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}

struct RealFile {
    file: File,
    read_only: bool,
}

impl DiskFile for RealFile {
    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
