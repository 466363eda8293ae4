//! Asking other servers.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cache::Cache;
use crate::stats::{Stats, add};
use crate::wire::{Foreign, Query, forwarded};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How old our view of resolv.conf may be.
const FRESH: Duration = Duration::from_secs(5);

/// Names below `domain` are asked of these servers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubDomain {
    pub domain: String,
    pub servers: Vec<SocketAddr>,
}

/// Where other names are resolved.
#[derive(Clone, Debug)]
pub enum Upstreams {
    Servers(Vec<SocketAddr>),
    /// The `nameserver` lines of a file like `/etc/resolv.conf`, read again when it changes.
    ResolvConf(PathBuf),
}

struct Read {
    servers: Vec<SocketAddr>,
    modified: Option<SystemTime>,
    at: Instant,
}

pub(crate) struct Forwarder {
    upstreams: Upstreams,
    stubs: Vec<StubDomain>,
    /// Addresses that are ourselves: asking them would go in circles.
    own: Vec<IpAddr>,
    read: Mutex<Option<Read>>,
    cache: Mutex<Cache>,
    ids: RandomState,
    asked: AtomicU64,
    stats: Arc<Stats>,
}

impl Forwarder {
    pub(crate) fn new(
        upstreams: Upstreams,
        stubs: Vec<StubDomain>,
        own: Vec<IpAddr>,
        stats: Arc<Stats>,
    ) -> Forwarder {
        Forwarder {
            upstreams,
            stubs,
            own,
            read: Mutex::default(),
            cache: Mutex::default(),
            ids: RandomState::new(),
            asked: AtomicU64::new(0),
            stats,
        }
    }

    /// From the cache: the answer and its age in seconds.
    pub(crate) fn cached(&self, query: &Query) -> Option<(Arc<Foreign>, u32)> {
        let found = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(query, Instant::now());
        add(if found.is_some() { &self.stats.hits } else { &self.stats.misses });
        found
    }

    /// Asks the servers in turn; none when no server gave an answer in time. `tcp` when the client came that way:
    /// it wants all of a long answer.
    pub(crate) async fn ask(&self, query: &Query, tcp: bool) -> Option<Arc<Foreign>> {
        add(&self.stats.forwarded);
        for server in self.servers(&query.name) {
            let id = self.id();
            let bytes = forwarded(query, id);
            let asking = async {
                if tcp {
                    ask_tcp(server, &bytes, query, id).await
                } else {
                    ask_udp(server, &bytes, query, id).await
                }
            };
            match timeout(PATIENCE, asking).await {
                Ok(Ok(answer))
                    if answer.rcode != crate::wire::SERVFAIL && answer.rcode != crate::wire::REFUSED =>
                {
                    let answer = Arc::new(answer);
                    let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.put(query, answer.clone(), Instant::now());
                    return Some(answer);
                }
                Ok(Ok(answer)) => tracing::debug!(%server, rcode = answer.rcode, "another server fails"),
                Ok(Err(error)) => tracing::debug!(%server, %error, "cannot ask another server"),
                Err(_) => tracing::debug!(%server, "another server does not answer"),
            }
        }
        add(&self.stats.failed);
        None
    }

    /// Ids that can't be guessed: a keyed hash of a counter.
    fn id(&self) -> u16 {
        self.ids.hash_one(self.asked.fetch_add(1, Ordering::Relaxed)) as u16
    }

    fn servers(&self, name: &str) -> Vec<SocketAddr> {
        let below =
            |domain: &str| name == domain || name.strip_suffix(domain).is_some_and(|r| r.ends_with('.'));
        let stub = self.stubs.iter().filter(|s| below(&s.domain)).max_by_key(|s| s.domain.len());
        if let Some(stub) = stub {
            return stub.servers.clone();
        }
        match &self.upstreams {
            Upstreams::Servers(servers) => servers.clone(),
            Upstreams::ResolvConf(path) => self.listed_in(path),
        }
    }

    fn listed_in(&self, path: &Path) -> Vec<SocketAddr> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_mut().filter(|r| r.at.elapsed() < FRESH) {
            return read.servers.clone();
        }
        let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let servers = match read.as_ref() {
            Some(read) if read.modified == modified => read.servers.clone(),
            _ => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                nameservers(&text)
                    .into_iter()
                    .filter(|ip| !self.own.contains(ip))
                    .map(|ip| (ip, 53).into())
                    .collect()
            }
        };
        *read = Some(Read { servers: servers.clone(), modified, at: Instant::now() });
        servers
    }
}

/// The addresses of the `nameserver` lines (resolv.conf(5)).
fn nameservers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        // A zone after % only matters for link-local addresses.
        words.next()?.split('%').next()?.parse().ok()
    });
    lines.collect()
}

async fn ask_udp(server: SocketAddr, bytes: &[u8], query: &Query, id: u16) -> std::io::Result<Foreign> {
    // A fresh socket has a random port, which a forger would have to guess along with the id.
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buf = vec![0; 4096];
    loop {
        let len = socket.recv(&mut buf).await?;
        // Anything else is not for us: wait on.
        if let Some(answer) = Foreign::parse(&buf[..len], query, id) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, bytes: &[u8], query: &Query, id: u16) -> std::io::Result<Foreign> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buf = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buf).await?;
    Foreign::parse(&buf, query, id).ok_or_else(|| std::io::Error::other("an answer to something else"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_servers() {
        assert_eq!(
            nameservers("# x\nsearch a b\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver bad\n")
                .len(),
            2
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.96.0.10\nnameserver 192.0.2.1\n").unwrap();
        let stub = |domain: &str, n: u8| StubDomain {
            domain: domain.into(),
            servers: vec![SocketAddr::from(([192, 0, 2, n], 53))],
        };
        let forwarder = Forwarder::new(
            Upstreams::ResolvConf(path),
            vec![stub("corp.example", 7), stub("deep.corp.example", 8)],
            vec![[10, 96, 0, 10].into()],
            Arc::default(),
        );
        for (name, last) in
            [("a.org", 1), ("corp.example", 7), ("x.deep.corp.example", 8), ("xcorp.example", 1)]
        {
            assert_eq!(forwarder.servers(name), [SocketAddr::from(([192, 0, 2, last], 53))], "{name}");
        }
    }
}
