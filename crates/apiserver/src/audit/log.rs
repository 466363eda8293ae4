//! Events as lines of JSON in a file that is rotated by size, or on standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use parking_lot::Mutex;

/// How much is kept; 0 is no limit, and for the size: no rotation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub days: u32,
    pub files: u32,
    pub mebibytes: u32,
    pub compress: bool,
}

pub struct Log(Mutex<Target>);

enum Target {
    Standard,
    File(Rotated),
}

struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    limits: Limits,
}

impl Log {
    /// Opens the file to append to it; its directory is made. `-` is standard output.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self(Mutex::new(Target::Standard)));
        }
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self(Mutex::new(Target::File(Rotated { path: path.to_owned(), file, size, limits }))))
    }

    /// Writes one line. It is in the file when this returns; false if it could not be written.
    pub fn write(&self, line: &[u8]) -> bool {
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        let written = match &mut *self.0.lock() {
            Target::Standard => io::stdout().lock().write_all(&whole),
            Target::File(file) => file.write(&whole),
        };
        if let Err(error) = written {
            tracing::error!(%error, "the audit log can't be written");
            return false;
        }
        true
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let most = u64::from(self.limits.mebibytes) << 20;
        if most > 0 && self.size > 0 && self.size + line.len() as u64 > most {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = self.backup_name(Timestamp::now());
        std::fs::rename(&self.path, &aside)?;
        self.file = append(&self.path)?;
        self.size = 0;
        let (dir, stem, tail) = self.parts();
        let limits = self.limits;
        // old files are nobody's hurry
        std::thread::spawn(move || {
            if limits.compress
                && let Err(error) = compress(&aside)
            {
                tracing::warn!(%error, "a rotated audit log can't be compressed");
            }
            for old in superfluous(&dir, &stem, &tail, limits, SystemTime::now()) {
                let _ = std::fs::remove_file(old);
            }
        });
        Ok(())
    }

    /// Directory, name before and after the time in rotated files' names.
    fn parts(&self) -> (PathBuf, String, String) {
        let dir = self.path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let tail = self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        (dir, format!("{stem}-"), tail)
    }

    fn backup_name(&self, now: Timestamp) -> PathBuf {
        let (dir, stem, tail) = self.parts();
        dir.join(format!("{stem}{}{tail}", now.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let mut packed = path.as_os_str().to_owned();
    packed.push(".gz");
    let out = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&packed)?;
    let mut encoder = GzEncoder::new(out, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(path)
}

/// Rotated files beyond the limits, the newest being kept.
fn superfluous(dir: &Path, stem: &str, tail: &str, limits: Limits, now: SystemTime) -> Vec<PathBuf> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let ours = |name: &str| {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        // a time of 23 characters stands between
        name.strip_prefix(stem).and_then(|r| r.strip_suffix(tail)).is_some_and(|time| time.len() == 23)
    };
    let mut found: Vec<(String, PathBuf, SystemTime)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|n| ours(n))?;
            Some((name, entry.path(), entry.metadata().ok()?.modified().ok()?))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0));
    let oldest = Duration::from_secs(u64::from(limits.days) * 24 * 3600);
    found
        .into_iter()
        .enumerate()
        .filter(|(n, (_, _, written))| {
            let too_many = limits.files > 0 && *n >= limits.files as usize;
            let age = now.duration_since(*written).unwrap_or_default();
            too_many || limits.days > 0 && age > oldest
        })
        .map(|(_, (_, path, _))| path)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("r8s-audit-{}-{:p}", std::process::id(), &0u8));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn rotates_and_keeps_what_it_should() {
        let dir = scratch();
        let path = dir.join("audit.log");
        let log = Log::open(&path, Limits { mebibytes: 1, ..Limits::default() }).unwrap();
        let line = vec![b'x'; 600 * 1024];
        log.write(&line);
        log.write(&line);
        let rotated = std::fs::read_dir(&dir).unwrap().flatten().count();
        assert_eq!(rotated, 2);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 600 * 1024 + 1);
        for n in 0..3 {
            std::fs::write(dir.join(format!("audit-2020-01-0{n}T00-00-00.000.log")), "").unwrap();
        }
        let limits = Limits { files: 2, ..Limits::default() };
        assert_eq!(superfluous(&dir, "audit-", ".log", limits, SystemTime::now()).len(), 2);
        assert_eq!(superfluous(&dir, "audit-", ".log", Limits::default(), SystemTime::now()).len(), 0);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
