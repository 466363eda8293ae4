//! A container's log as a client asks for it: from a point, up to a limit, with times, and on as it grows.
//!
//! Waiting is on the kernel's notice that the file grew, or on the container's end; nothing is polled.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::line::{Stream, parse};
use super::tail::tail_offset;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    pub timestamps: bool,
    /// Only this stream.
    pub stream: Option<Stream>,
}

/// Bytes handed out at once, about.
const CHUNK: usize = 64 * 1024;

/// A log being read.
pub struct LogReader {
    path: PathBuf,
    file: File,
    options: LogOptions,
    /// Read but not a whole line yet.
    rest: Vec<u8>,
    /// The line before was cut: this one goes on without a time of its own.
    in_line: bool,
    left: Option<u64>,
    watch: Option<AsyncFd<OwnedFd>>,
}

impl LogReader {
    /// Opens the log; fails where there is none.
    pub fn open(path: &Path, options: LogOptions) -> io::Result<Self> {
        let mut file = File::open(path)?;
        // Watched before it is read, so that nothing falls between.
        let watch = if options.follow { Some(watch(path)?) } else { None };
        let from = match options.tail {
            Some(lines) => tail_offset(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(from))?;
        let left = options.limit_bytes;
        Ok(LogReader { path: path.to_owned(), file, options, rest: vec![], in_line: false, left, watch })
    }

    /// The next piece of output; empty at the present end of the file, `None` once the limit is reached. Blocks on the
    /// disk only.
    pub fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = vec![];
        let mut block = vec![0; CHUNK];
        while out.is_empty() {
            if self.left == Some(0) {
                return Ok(None);
            }
            let n = self.file.read(&mut block)?;
            if n == 0 {
                break;
            }
            self.rest.extend_from_slice(&block[..n]);
            let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = self.rest.drain(..whole).collect();
            for line in lines.split_inclusive(|b| *b == b'\n') {
                self.write(line, &mut out);
            }
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Ok(Some(out.into()))
    }

    fn write(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        if self.options.stream.is_some_and(|wanted| wanted != line.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && line.timestamp().is_some_and(|t| t < since)
        {
            return;
        }
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        out.extend_from_slice(line.content);
        if !line.partial {
            out.push(b'\n');
        }
        self.in_line = line.partial;
    }

    /// Waits until there may be more to read.
    pub async fn changed(&mut self) -> io::Result<()> {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let mut ready = watch.readable().await?;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
        loop {
            let next = events.next().map(|_| ());
            match next {
                Ok(()) if events.is_buffer_empty() => return Ok(()),
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(e) => return Err(e.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }

    /// At the end of the file: goes over to the file that took its place, if one did.
    pub fn reopen(&mut self) -> io::Result<bool> {
        let Ok(new) = File::open(&self.path) else { return Ok(false) };
        if new.metadata()?.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        self.file = new;
        self.rest.clear();
        Ok(true)
    }
}

/// Notices of the file's growth (through its directory, so that a file that takes its place is noticed too).
fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    // The log may be a link to where it really is.
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, dir, flags)?;
    inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)?;
    // Its replacement is unsafe for what types may do with their descriptor; `OwnedFd` keeps its one to the end.
    #[allow(deprecated)]
    AsyncFd::new(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(lines: &[&str]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (i, line) in lines.iter().enumerate() {
            writeln!(file, "2024-01-02T03:04:0{i}Z {line}").unwrap();
        }
        file
    }

    fn all(file: &tempfile::NamedTempFile, options: LogOptions) -> String {
        let mut reader = LogReader::open(file.path(), options).unwrap();
        let mut out = vec![];
        while let Some(piece) = reader.read().unwrap() {
            if piece.is_empty() {
                break;
            }
            out.extend_from_slice(&piece);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn options() {
        let file = log(&["stdout F a", "stderr P b", "stderr F c", "stdout F d"]);
        let base = LogOptions::default();
        assert_eq!(all(&file, base.clone()), "a\nbc\nd\n");
        assert_eq!(all(&file, LogOptions { tail: Some(1), ..base.clone() }), "d\n");
        assert_eq!(all(&file, LogOptions { tail: Some(0), ..base.clone() }), "");
        assert_eq!(all(&file, LogOptions { limit_bytes: Some(3), ..base.clone() }), "a\nb");
        assert_eq!(all(&file, LogOptions { stream: Some(Stream::Stdout), ..base.clone() }), "a\nd\n");
        let since = Some("2024-01-02T03:04:03Z".parse().unwrap());
        assert_eq!(all(&file, LogOptions { since, ..base.clone() }), "d\n");
        assert_eq!(
            all(&file, LogOptions { timestamps: true, ..base }),
            "2024-01-02T03:04:00Z a\n2024-01-02T03:04:01Z bc\n2024-01-02T03:04:03Z d\n"
        );
    }

    #[tokio::test]
    async fn follows_growth_and_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2024-01-02T03:04:05Z stdout F a\n").unwrap();
        let mut reader =
            LogReader::open(&path, LogOptions { follow: true, ..LogOptions::default() }).unwrap();
        assert_eq!(reader.read().unwrap().unwrap(), "a\n");
        assert_eq!(reader.read().unwrap().unwrap(), "");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("2024-01-02T03:04:05Z stdout F b\n");
        reader.changed().await.unwrap();
        assert_eq!(reader.read().unwrap().unwrap(), "b\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2024-01-02T03:04:05Z stdout F c\n").unwrap();
        reader.changed().await.unwrap();
        assert_eq!(reader.read().unwrap().unwrap(), "");
        assert!(reader.reopen().unwrap());
        assert_eq!(reader.read().unwrap().unwrap(), "c\n");
    }
}
