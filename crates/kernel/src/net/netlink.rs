//! Netlink sockets and messages: build, send, wait for the answer.
//!
//! Source: RFC 3549, the kernel's `Documentation/userspace-api/netlink/intro.rst`.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::netns;

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const SOL_NETLINK: i32 = 270;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;
pub const HEADER: usize = 16;

/// What went wrong with a request to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused. `what` says what was asked, `why` is the kernel's own explanation (may be empty).
    #[error("{what}: {}{}{why}", io::Error::from_raw_os_error(*.errno), if .why.is_empty() { "" } else { ": " })]
    Refused { what: String, errno: i32, why: String },
    /// The socket itself failed.
    #[error("{what}: {source}")]
    Socket { what: &'static str, source: io::Error },
    /// An answer that can't be read.
    #[error("the kernel's answer to {0} can't be read")]
    Garbled(&'static str),
}

impl Error {
    /// The kernel's error number, for callers that treat some of them as fine.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::Socket { source, .. } => source.raw_os_error(),
            Error::Garbled(_) => None,
        }
    }

    /// The thing asked for is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The thing asked about is not there (any of the kernel's ways to say so).
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }
}

/// Appends messages and attributes to one buffer. Lengths are filled in when a message or nest ends.
#[derive(Default, Clone)]
pub struct Writer {
    pub buf: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    /// One whole message: header, fixed part, then what `body` writes.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, fixed: &[u8], body: impl FnOnce(&mut Writer)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.buf.extend_from_slice(&seq.to_ne_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(fixed);
        self.pad();
        body(self);
        let len = (self.buf.len() - start) as u32;
        self.buf[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        self.buf.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.pad();
    }

    /// A string with its closing NUL.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        self.buf.extend_from_slice(&((value.len() + 5) as u16).to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.pad();
    }

    pub fn attr_u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub fn attr_u16_be(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// nfnetlink's numbers are in network order.
    pub fn attr_u32_be(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u64_be(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 2]);
        self.buf.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        body(self);
        let len = (self.buf.len() - start) as u16;
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.buf.len().is_multiple_of(4) {
            self.buf.push(0);
        }
    }
}

/// The attributes of a message's body; stops at the first that does not fit.
pub fn attrs(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(body, 0)?);
        let kind = u16_at(body, 2)? & NLA_TYPE_MASK;
        let value = body.get(4..len)?;
        body = body.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of one kind.
pub fn attr_of(body: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(body).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// An attribute's bytes as text, up to the NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A netlink socket. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
}

impl Socket {
    /// Opens one in the calling thread's network namespace. `protocol`: `libc::NETLINK_ROUTE`, `NETLINK_NETFILTER`.
    pub fn open(protocol: i32) -> Result<Socket, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if raw < 0 {
            return Err(Error::Socket { what: "open a netlink socket", source: io::Error::last_os_error() });
        }
        // SAFETY: `raw` is a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let socket = Socket { fd, seq: 0, buf: Vec::new() };
        // Short acks with the kernel's own words; old kernels know neither, that is fine.
        let _ = socket.set(SOL_NETLINK, NETLINK_CAP_ACK, 1);
        let _ = socket.set(SOL_NETLINK, NETLINK_EXT_ACK, 1);
        Ok(socket)
    }

    /// Opens one in another network namespace, from a thread that is thrown away.
    pub fn open_in(netns: &Path, protocol: i32) -> Result<Socket, Error> {
        netns::within(netns, move || Socket::open(protocol))
            .map_err(|source| Error::Socket { what: "enter a network namespace", source })?
    }

    fn set(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Makes room to send one buffer of `bytes`: the kernel takes a batch only in one piece.
    fn make_room(&self, bytes: usize) -> Result<(), Error> {
        let want = i32::try_from(bytes + 65536).unwrap_or(i32::MAX);
        if want > 200_000 {
            self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, want)
                .map_err(|source| Error::Socket { what: "enlarge the netlink send buffer", source })?;
            // One error message per refused element may come back.
            let _ = self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, want);
        }
        Ok(())
    }

    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.make_room(bytes.len())?;
        loop {
            // SAFETY: the pointer and length describe `bytes`.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(Error::Socket { what: "send to netlink", source });
            }
        }
    }

    /// Receives one datagram; `wait` false answers `None` when there is none.
    fn receive(&mut self, wait: bool) -> Result<Option<&[u8]>, Error> {
        self.buf.resize(64 * 1024, 0);
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            // SAFETY: the pointer and length describe `buf`, which is initialised.
            let got = unsafe {
                libc::recv(self.fd.as_raw_fd(), self.buf.as_mut_ptr().cast(), self.buf.len(), flags)
            };
            if got >= 0 {
                return Ok(Some(&self.buf[..got as usize]));
            }
            let source = io::Error::last_os_error();
            match source.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if !wait => return Ok(None),
                _ => return Err(Error::Socket { what: "receive from netlink", source }),
            }
        }
    }

    /// Sends one message and waits for its acknowledgement. `what` names the request in errors.
    pub fn request(
        &mut self,
        what: impl Into<String>,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let seq = self.next_seq();
        let mut writer = Writer::new();
        writer.message(kind, flags | NLM_F_ACK, seq, fixed, body);
        self.send(&writer.buf)?;
        let what = what.into();
        loop {
            let Some(datagram) = self.receive(true)? else { continue };
            for message in messages(datagram) {
                if message.seq == seq
                    && let Some(answer) = message.ack()
                {
                    return answer.map_err(|(errno, why)| Error::Refused { what, errno, why });
                }
            }
        }
    }

    /// Sends a dump request and gives each answer's body (fixed part first) to `each`. A dump that the kernel
    /// marks as interrupted by a change is asked again, so `each` may see objects twice: `restart` is called first.
    pub fn dump(
        &mut self,
        what: &'static str,
        kind: u16,
        fixed: &[u8],
        body: impl Fn(&mut Writer),
        mut restart: impl FnMut(),
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Error> {
        for attempt in 0.. {
            restart();
            let seq = self.next_seq();
            let mut writer = Writer::new();
            writer.message(kind, NLM_F_DUMP, seq, fixed, &body);
            self.send(&writer.buf)?;
            let mut torn = false;
            'answers: loop {
                let Some(datagram) = self.receive(true)? else { continue };
                for message in messages(datagram) {
                    if message.seq != seq {
                        continue;
                    }
                    torn |= message.flags & NLM_F_DUMP_INTR != 0;
                    if message.kind == NLMSG_DONE {
                        break 'answers;
                    }
                    match message.ack() {
                        Some(Err((errno, why))) => {
                            return Err(Error::Refused { what: what.to_string(), errno, why });
                        }
                        Some(Ok(())) => break 'answers,
                        None => each(message.kind, message.body),
                    }
                }
            }
            if !torn || attempt == 9 {
                break;
            }
        }
        Ok(())
    }

    /// Sends a prepared buffer and reads every answer up to the acknowledgement of `last`, the sequence number
    /// of the last message that asked for one. Gives the first refusal with the sequence number it belongs to.
    pub fn batch(&mut self, bytes: &[u8], last: u32) -> Result<(), (u32, Error)> {
        self.send(bytes).map_err(|e| (0, e))?;
        let mut first = None;
        loop {
            // Answers are queued before `send` returns; after an error the last ack may never come.
            let datagram = match self.receive(false) {
                Ok(Some(datagram)) => datagram,
                Ok(None) if first.is_some() => break,
                Ok(None) => return Err((0, Error::Garbled("a batch: no acknowledgement"))),
                Err(e) => return Err((0, e)),
            };
            for message in messages(datagram) {
                match message.ack() {
                    Some(Err((errno, why))) if first.is_none() => {
                        let what = "batch".to_string();
                        first = Some((message.seq, Error::Refused { what, errno, why }));
                    }
                    Some(Ok(())) if message.seq == last && first.is_none() => return Ok(()),
                    _ => {}
                }
            }
        }
        match first {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// `Some` when this is an acknowledgement: fine, or the error number with the kernel's words.
    fn ack(&self) -> Option<Result<(), (i32, String)>> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let errno = -(u32_at(self.body, 0)? as i32);
        if errno == 0 {
            return Some(Ok(()));
        }
        let mut why = String::new();
        if self.flags & NLM_F_ACK_TLVS != 0 {
            // The refused message's header, and unless capped its body, stand before the attributes.
            let echoed = u32_at(self.body, 4).unwrap_or(0) as usize;
            let skip = 4 + if self.flags & NLM_F_CAPPED != 0 { HEADER } else { echoed.next_multiple_of(4) };
            if let Some(words) = self.body.get(skip..).and_then(|tail| attr_of(tail, NLMSGERR_ATTR_MSG)) {
                why = text(words);
            }
        }
        Some(Err((errno, why)))
    }
}

fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(datagram, 0)? as usize;
        let body = datagram.get(HEADER..len)?;
        let message = Message {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            seq: u32_at(datagram, 8)?,
            body,
        };
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::new();
        w.message(20, NLM_F_ACK, 7, &[1, 2, 3], |w| {
            w.attr_str(3, "eth0");
            w.nest(5, |w| w.attr_u32(1, 99));
        });
        let got: Vec<_> = messages(&w.buf).collect();
        assert_eq!((got.len(), got[0].kind, got[0].seq), (1, 20, 7));
        let body = &got[0].body[4..];
        assert_eq!(text(attr_of(body, 3).unwrap()), "eth0");
        assert_eq!(u32_at(attr_of(attr_of(body, 5).unwrap(), 1).unwrap(), 0), Some(99));
    }

    #[test]
    fn cut_answers_end_quietly() {
        let mut w = Writer::new();
        w.message(20, 0, 7, &[0; 4], |w| w.attr_str(3, "eth0"));
        for end in 0..w.buf.len() {
            assert_eq!(messages(&w.buf[..end]).count(), 0);
            let _ = attrs(&w.buf[..end]).count();
        }
    }
}
