//! Requests to a pod's shim over its socket.
//!
//! A message is its length (4 bytes, little endian) and fields separated by NUL; descriptors travel with a
//! request's first byte. Requests each take a connection of their own; a watch keeps one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim is not there: the sandbox is dead.
    #[error("the pod's shim does not answer")]
    Gone(#[source] io::Error),
    /// The shim says no, with its reason.
    #[error("{0}")]
    Refused(String),
}

/// Addresses a shim by its directory.
#[derive(Clone, Debug)]
pub struct ShimClient {
    dir: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit status, or 128 and the signal.
    pub code: i32,
    /// Nanoseconds since 1970.
    pub at: i64,
}

/// What a shim tells on a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Running {
        id: String,
        pid: i32,
    },
    Exited {
        id: String,
        exit: Exit,
    },
    /// All processes there were when the watch began have been told.
    Listed,
}

impl ShimClient {
    /// `dir` is the directory the shim was started with.
    pub fn new(dir: &Path) -> ShimClient {
        ShimClient { dir: dir.to_owned() }
    }

    fn connect(&self) -> io::Result<StdStream> {
        connect_to(&self.dir.join("shim.sock"))
    }

    async fn open(&self, fields: &[&str], fds: &[BorrowedFd<'_>]) -> io::Result<UnixStream> {
        let stream = self.connect()?;
        let payload = fields.join("\0");
        let mut message = Vec::with_capacity(payload.len() + 4);
        message.extend_from_slice(&u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes());
        message.extend_from_slice(payload.as_bytes());
        let sent = send_with(&stream, &message, fds)?;
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream)?;
        stream.write_all(&message[sent..]).await?;
        Ok(stream)
    }

    /// Sends one request and waits for its answer's fields after `ok`.
    pub async fn request(&self, fields: &[&str], fds: &[BorrowedFd<'_>]) -> Result<Vec<String>, ShimError> {
        let mut stream = self.open(fields, fds).await.map_err(ShimError::Gone)?;
        let mut answer = read_message(&mut stream).await.map_err(ShimError::Gone)?.into_iter();
        match answer.next().as_deref() {
            Some("ok") => Ok(answer.collect()),
            _ => Err(ShimError::Refused(answer.next().unwrap_or_default())),
        }
    }

    /// Has a helper run (`argv`) that makes a process known as `id`; answers its pid. `flags` as in
    /// `shim/process.rs`; a container's init logs to `log` (empty: nowhere).
    pub async fn run(
        &self,
        id: &str,
        init: bool,
        log: &str,
        flags: &str,
        argv: &[String],
        fds: &[OwnedFd],
    ) -> Result<i32, ShimError> {
        let mut fields = vec!["run", id, if init { "init" } else { "exec" }, log, flags];
        fields.extend(argv.iter().map(String::as_str));
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let answer = self.request(&fields, &fds).await?;
        let pid = answer.first().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| ShimError::Refused("no pid in the shim's answer".to_owned()))
    }

    pub async fn signal(&self, id: &str, signal: i32) -> Result<(), ShimError> {
        self.request(&["signal", id, &signal.to_string()], &[]).await.map(drop)
    }

    pub async fn reopen_log(&self, id: &str) -> Result<(), ShimError> {
        self.request(&["reopen", id], &[]).await.map(drop)
    }

    pub async fn resize(&self, id: &str, rows: u16, cols: u16) -> Result<(), ShimError> {
        self.request(&["resize", id, &rows.to_string(), &cols.to_string()], &[]).await.map(drop)
    }

    /// Connects descriptors to a process's stdio: stdin (flag `i`), stdout, stderr (flag `e`).
    pub async fn attach(&self, id: &str, flags: &str, fds: &[OwnedFd]) -> Result<(), ShimError> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.request(&["attach", id, flags], &fds).await.map(drop)
    }

    /// The process is removed: nothing of it is kept.
    pub async fn forget(&self, id: &str) -> Result<(), ShimError> {
        self.request(&["forget", id], &[]).await.map(drop)
    }

    /// Ends the shim, and with it the namespaces nobody else holds. It does not answer.
    pub async fn quit(&self) {
        if let Ok(mut stream) = self.open(&["quit"], &[]).await {
            let _ = stream.read_u8().await;
        }
    }

    pub async fn watch(&self) -> Result<Watch, ShimError> {
        let stream = self.open(&["watch"], &[]).await.map_err(ShimError::Gone)?;
        Ok(Watch { stream })
    }
}

/// Connects to a socket by way of its directory, because a socket's path may have 107 bytes only.
pub fn connect_to(path: &Path) -> io::Result<StdStream> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (dir, name) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    StdStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// A shim's running account of its processes.
#[derive(Debug)]
pub struct Watch {
    stream: UnixStream,
}

impl Watch {
    /// The next thing told; an error when the shim has gone.
    pub async fn next(&mut self) -> Result<Told, ShimError> {
        loop {
            let fields = read_message(&mut self.stream).await.map_err(ShimError::Gone)?;
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            match fields.as_slice() {
                ["ok"] => return Ok(Told::Listed),
                ["running", id, pid] => {
                    return Ok(Told::Running { id: (*id).to_owned(), pid: pid.parse().unwrap_or(0) });
                }
                ["exit", id, code, at] => {
                    let exit = Exit { code: code.parse().unwrap_or(255), at: at.parse().unwrap_or(0) };
                    return Ok(Told::Exited { id: (*id).to_owned(), exit });
                }
                _ => {}
            }
        }
    }
}

fn send_with(stream: &StdStream, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.is_empty() {
        return Ok(0);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    Ok(rustix::net::sendmsg(stream, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
}

async fn read_message(stream: &mut UnixStream) -> io::Result<Vec<String>> {
    let length = stream.read_u32_le().await? as usize;
    let mut payload = vec![0; length.min(1 << 20)];
    stream.read_exact(&mut payload).await?;
    Ok(String::from_utf8_lossy(&payload).split('\0').map(str::to_owned).collect())
}
