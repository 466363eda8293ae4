//! One server per root directory: a lock file that the kernel frees when its holder dies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::paths::Paths;

/// Held for as long as this process owns the root directory.
pub struct Instance {
    _file: File,
}

impl Instance {
    /// Takes the lock; an error names the process that has it.
    pub fn acquire(paths: &Paths) -> Result<Self> {
        match Self::try_acquire(paths)? {
            Ok(instance) => Ok(instance),
            Err(pid) => bail!(
                "a server (process {pid}) already runs with the directory {}\nhint: stop it, or give this one a directory of its own with --root",
                paths.root().display()
            ),
        }
    }

    /// The lock, or who has it.
    pub fn try_acquire(paths: &Paths) -> Result<Result<Self, String>> {
        let path = paths.run().join("lock");
        pki::files::private_dir(&paths.run()).with_context(|| {
            format!(
                "hint: the root directory {} must be a directory that can be written",
                paths.root().display()
            )
        })?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Ok(Err(holder.trim().to_owned()));
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(dir.path().to_owned()));
        let first = Instance::acquire(&paths).unwrap();
        let error = Instance::acquire(&paths).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        Instance::acquire(&paths).unwrap();
    }
}
