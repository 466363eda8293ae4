//! Questions for upstream resolvers: over UDP from a fresh port each, over TCP where the answer did not fit; each
//! resolver in turn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::{Cache, Question};

/// For one resolver to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at once; more are refused.
const AT_ONCE: usize = 1000;
const PAYLOAD: u16 = 1232;

/// Asks upstream resolvers, with a cache before them.
pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    cache: Mutex<Cache>,
    slots: Semaphore,
}

impl Forwarder {
    pub fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, cache: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }

    /// Are there resolvers to ask?
    pub fn can_ask(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// An upstream's answer (its id is meaningless); `None` if no resolver gave one.
    pub async fn ask(&self, query: &Query) -> Option<Message> {
        let question = Question { name: query.name().to_lowercase(), kind: query.query_type() };
        let kept = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&question, Instant::now());
        if kept.is_some() {
            return kept;
        }
        let _slot = self.slots.try_acquire().ok()?;
        for upstream in &self.upstreams {
            match timeout(PATIENCE, exchange(*upstream, query)).await {
                Ok(Ok(answer)) => {
                    let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.put(question, answer.clone(), Instant::now());
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "a resolver did not answer"),
                Err(_) => tracing::debug!(%upstream, "a resolver did not answer in time"),
            }
        }
        None
    }
}

async fn exchange(upstream: SocketAddr, query: &Query) -> std::io::Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    let id = question.metadata.id;
    let bytes = question.to_vec().map_err(std::io::Error::other)?;

    let local: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    // Connected: the kernel drops what comes from elsewhere.
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        if !answers(&answer, id, query) {
            continue;
        }
        return if answer.metadata.truncation {
            over_tcp(upstream, &bytes, id, query).await
        } else {
            Ok(answer)
        };
    }
}

async fn over_tcp(upstream: SocketAddr, question: &[u8], id: u16, query: &Query) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let mut buffer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if answers(&answer, id, query) {
        Ok(answer)
    } else {
        Err(std::io::Error::other("an answer to something else"))
    }
}

/// Is this the answer to our question?
fn answers(answer: &Message, id: u16, query: &Query) -> bool {
    answer.metadata.id == id
        && answer
            .queries
            .first()
            .is_some_and(|q| q.name() == query.name() && q.query_type() == query.query_type())
}
