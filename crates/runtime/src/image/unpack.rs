//! A layer's tar stream into a directory that overlayfs can use as a lower one.
//!
//! The stream is not trusted: all paths are resolved inside the directory by the kernel. Whiteouts become
//! overlayfs's (character device 0:0, `trusted.overlay.opaque`); owners, modes, times, xattrs, hard links,
//! devices are kept.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use kernel::rootdir::{RootDir, remove_all};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use sha2::{Digest, Sha256};
use tar::EntryType;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("read layer")]
    Read(#[source] io::Error),
    #[error("unpack {path:?}")]
    Entry { path: PathBuf, source: io::Error },
}

/// What came out of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// `sha256:…` of the uncompressed stream.
    pub diff_id: String,
    /// Bytes of file contents.
    pub size: u64,
    pub entries: u64,
}

/// A reader that hashes what passes.
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
    pub bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Hashing { inner, hash: Sha256::new(), bytes: 0 }
    }
    /// Reads to the end and tells the digest as `sha256:…`.
    pub fn finish(mut self) -> io::Result<(String, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((format!("sha256:{}", hex(&self.hash.finalize())), self.bytes))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `sha256:…` of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Undoes gzip or zstd, told by the first bytes; anything else passes as it is.
pub fn decompress<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(4);
    stream.by_ref().take(4).read_to_end(&mut magic)?;
    let is = |prefix: &[u8]| magic.starts_with(prefix);
    let (gzip, zstd) = (is(&[0x1f, 0x8b]), is(&[0x28, 0xb5, 0x2f, 0xfd]));
    let whole = io::Cursor::new(magic).chain(stream);
    Ok(match (gzip, zstd) {
        (true, _) => {
            Box::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::with_capacity(128 << 10, whole)))
        }
        (_, true) => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(io::BufReader::with_capacity(128 << 10, whole)),
    })
}

/// Unpacks the uncompressed tar `stream` into the empty directory `dir`. `lower` are the layers below, top
/// first: a directory that the stream only implies takes its owner and mode from them.
pub fn unpack(stream: impl Read, dir: &Path, lower: &[PathBuf]) -> Result<Unpacked, UnpackError> {
    let root = RootDir::open(dir).map_err(UnpackError::Read)?;
    let lower: Vec<RootDir> = lower.iter().filter_map(|dir| RootDir::open(dir).ok()).collect();
    let mut layer = Layer { root, lower, parent: None, times: Vec::new(), size: 0, entries: 0 };
    let mut archive = tar::Archive::new(Hashing::new(stream));
    for entry in archive.entries().map_err(UnpackError::Read)? {
        let mut entry = entry.map_err(UnpackError::Read)?;
        if matches!(entry.header().entry_type(), EntryType::XGlobalHeader) {
            continue;
        }
        let path = entry.path().map_err(UnpackError::Read)?.into_owned();
        layer.entry(&mut entry, &path).map_err(|source| UnpackError::Entry { path, source })?;
    }
    // Contents change a directory's time, so times come last, inner ones first.
    for (path, times) in layer.times.iter().rev() {
        if let Ok(fd) =
            layer.root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
        {
            let _ = rustix::fs::futimens(fd, times);
        }
    }
    let (diff_id, _) = archive.into_inner().finish().map_err(UnpackError::Read)?;
    Ok(Unpacked { diff_id, size: layer.size, entries: layer.entries })
}

struct Layer {
    root: RootDir,
    lower: Vec<RootDir>,
    /// The directory that the last entry was in: streams come directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    times: Vec<(PathBuf, Timestamps)>,
    size: u64,
    entries: u64,
}

/// What an entry's headers say of it.
struct Meta {
    mode: Mode,
    uid: u32,
    gid: u32,
    times: Timestamps,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Layer {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let clean: PathBuf = path
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .collect();
        if clean.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(invalid("a path with `..`"));
        }
        self.entries += 1;
        let meta = Meta::of(entry)?;
        let Some(name) = clean.file_name().map(OsStr::to_owned) else {
            // The root directory itself.
            return self.finish_dir(&clean, &meta);
        };
        let parent_path = clean.parent().unwrap_or(Path::new("")).to_owned();
        self.enter(&parent_path)?;
        let (_, parent) = self.parent.as_ref().ok_or_else(|| invalid("no parent"))?;
        let parent = parent.try_clone()?;
        let parent = parent.as_fd();

        if name.as_bytes() == b".wh..wh..opq" {
            return make_opaque(&self.root, &parent_path);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            let hidden = OsStr::from_bytes(hidden);
            if hidden.as_bytes().is_empty() || hidden.as_bytes().starts_with(b".wh.") {
                return Ok(()); // aufs's own bookkeeping
            }
            return self.whiteout(parent, hidden, &parent_path);
        }
        let kind = entry.header().entry_type();
        let old = rustix::fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let old_kind = old.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
        let was_whiteout = old.as_ref().is_some_and(is_whiteout);
        if old_kind.is_some() && !(kind.is_dir() && old_kind == Some(FileType::Directory)) {
            remove_all(parent, &name)?;
        }
        match kind {
            EntryType::Directory => {
                if old_kind != Some(FileType::Directory) {
                    rustix::fs::mkdirat(parent, &name, Mode::from(0o700))?;
                }
                self.finish_dir(&clean, &meta)?;
                if was_whiteout {
                    make_opaque(&self.root, &clean)?;
                }
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(parent, &name, flags, Mode::from(0o600))?);
                self.size += io::copy(entry, &mut file)?;
                rustix::fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
                rustix::fs::fchmod(&file, meta.mode)?;
                for (name, value) in &meta.xattrs {
                    tolerate(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()))?;
                }
                rustix::fs::futimens(&file, &meta.times)?;
                return Ok(());
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| invalid("a link to nothing"))?.into_owned();
                let target: PathBuf = target
                    .components()
                    .filter(|p| !matches!(p, Component::RootDir | Component::CurDir))
                    .collect();
                let target_name = target.file_name().ok_or_else(|| invalid("a link to nothing"))?;
                let dir = self.root.open_dir(target.parent().unwrap_or(Path::new("")))?;
                rustix::fs::linkat(&dir, target_name, parent, &name, AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a symlink to nothing"))?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, &name)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let number = |n: io::Result<Option<u32>>| n.map(|n| n.unwrap_or(0));
                let device =
                    rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?);
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                rustix::fs::mknodat(parent, &name, file_type, Mode::from(0o600), device)?;
            }
            _ => return Ok(()),
        }
        self.finish_node(parent, &name, &meta, kind == EntryType::Symlink)
    }

    /// Makes `path` the current parent; what is missing of it is made as in the layers below.
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if self.parent.as_ref().is_some_and(|(at, _)| at == path) {
            return Ok(());
        }
        let lower = &self.lower;
        let fd = self.root.make_dirs(path, |dir, name, so_far| {
            rustix::fs::mkdirat(dir, name, Mode::from(0o755))?;
            if let Some(stat) = lower_directory(lower, so_far) {
                rustix::fs::chownat(
                    dir,
                    name,
                    Some(Uid::from_raw(stat.st_uid)),
                    Some(Gid::from_raw(stat.st_gid)),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
                rustix::fs::chmodat(dir, name, Mode::from(stat.st_mode & 0o7777), AtFlags::empty())?;
            }
            Ok(())
        })?;
        self.parent = Some((path.to_owned(), fd));
        Ok(())
    }

    fn whiteout(&self, parent: BorrowedFd<'_>, name: &OsStr, parent_path: &Path) -> io::Result<()> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // This layer has it anew: only what is below a directory must be hidden.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                make_opaque(&self.root, &parent_path.join(name))
            }
            Ok(_) => Ok(()),
            Err(_) => Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
        }
    }

    fn finish_dir(&mut self, path: &Path, meta: &Meta) -> io::Result<()> {
        let fd =
            self.root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        rustix::fs::fchown(&fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        rustix::fs::fchmod(&fd, meta.mode)?;
        for (name, value) in &meta.xattrs {
            tolerate(rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()))?;
        }
        self.times.push((path.to_owned(), meta.times.clone()));
        Ok(())
    }

    fn finish_node(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        meta: &Meta,
        symlink: bool,
    ) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(meta.uid)),
            Some(Gid::from_raw(meta.gid)),
            nofollow,
        )?;
        if !symlink {
            rustix::fs::chmodat(parent, name, meta.mode, AtFlags::empty())?;
        }
        let by_fd = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        for (key, value) in &meta.xattrs {
            tolerate(rustix::fs::lsetxattr(&by_fd, key, value, XattrFlags::empty()))?;
        }
        Ok(rustix::fs::utimensat(parent, name, &meta.times, nofollow)?)
    }
}

impl Meta {
    fn of(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Meta> {
        let mut pax: HashMap<String, Vec<u8>> = HashMap::new();
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                pax.insert(
                    String::from_utf8_lossy(extension.key_bytes()).into_owned(),
                    extension.value_bytes().to_vec(),
                );
            }
        }
        let text = |key: &str| pax.get(key).and_then(|value| std::str::from_utf8(value).ok());
        let header = entry.header();
        let old = header.as_old();
        let id = |key: &str, own: io::Result<u64>| match text(key).and_then(|text| text.parse().ok()) {
            Some(id) => Ok(id),
            None => own.and_then(|id| u32::try_from(id).map_err(|_| invalid("an owner above 2^32"))),
        };
        let time = match text("mtime").and_then(parse_time) {
            Some(time) => time,
            None => Timespec { tv_sec: blank_is_zero(&old.mtime, header.mtime())? as i64, tv_nsec: 0 },
        };
        let mut xattrs = Vec::new();
        for (key, value) in &pax {
            // What would change how overlayfs reads the layer is ours to set.
            if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                && !name.starts_with("trusted.overlay.")
            {
                xattrs.push((OsString::from(name), value.clone()));
            }
        }
        Ok(Meta {
            mode: Mode::from(blank_is_zero(&old.mode, header.mode())? & 0o7777),
            uid: id("uid", blank_is_zero(&old.uid, header.uid()))?,
            gid: id("gid", blank_is_zero(&old.gid, header.gid()))?,
            times: Timestamps { last_access: time, last_modification: time },
            xattrs,
        })
    }
}

/// Some writers leave numbers out; Go's reader, and so every other runtime, takes that as 0.
fn blank_is_zero<T: Default>(field: &[u8], parsed: io::Result<T>) -> io::Result<T> {
    match parsed {
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(T::default()),
        other => other,
    }
}

/// `SECONDS[.FRACTION]`.
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: digits.parse().ok()? })
}

fn lower_directory(lower: &[RootDir], path: &Path) -> Option<rustix::fs::Stat> {
    for layer in lower {
        let Ok(fd) = layer.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) else { continue };
        let stat = rustix::fs::fstat(fd).ok()?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        return is_dir.then_some(stat);
    }
    None
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn make_opaque(root: &RootDir, path: &Path) -> io::Result<()> {
    let fd = root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(fd, "trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}

/// A file system that does not know a kind of xattr loses it, as with every other runtime.
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::NOTSUP) => Ok(()),
        other => Ok(other?),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
