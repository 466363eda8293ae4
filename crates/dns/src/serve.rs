//! The transports: UDP and TCP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::forward::Forwarder;
use crate::stats::{Stats, add};
use crate::wire::{Bad, Data, IN, NOERROR, Query, REFUSED, Response, SERVFAIL};
use crate::zone::{Answer, Zone, answer};

/// Questions to other servers and TCP connections at a time.
const MOST_FORWARDED: usize = 1024;
const MOST_CONNECTIONS: usize = 256;
/// A TCP client that says nothing is let go.
const IDLE: Duration = Duration::from_secs(10);
/// Aliases that are followed out of the cluster.
const MOST_ALIASES: usize = 8;

/// Everything needed to answer.
pub(crate) struct Server {
    pub zone: Zone,
    pub forwarder: Forwarder,
    pub clients: Clients,
    pub stats: Arc<Stats>,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Either the answer, or what has to be asked elsewhere first.
enum Step {
    Done(Vec<u8>),
    Elsewhere(Query, Option<(Response, String)>),
}

impl Server {
    pub(crate) fn new(zone: Zone, forwarder: Forwarder, clients: Clients, stats: Arc<Stats>) -> Server {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        let (forwards, connections) = (semaphore(MOST_FORWARDED), semaphore(MOST_CONNECTIONS));
        Server { zone, forwarder, clients, stats, forwards, connections }
    }

    /// What can be said at once, without waiting for anybody. None: nothing is to be said.
    fn step(&self, message: &[u8], tcp: bool) -> Option<Step> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Bad::Ignore) => return None,
            Err(Bad::Refuse(bytes)) => return Some(Step::Done(bytes)),
        };
        let limit = if tcp { usize::MAX } else { query.udp_limit() };
        if query.class != IN {
            return Some(Step::Done(query.write(&Response { rcode: REFUSED, ..Default::default() }, limit)));
        }
        Some(match answer(&query.name, query.kind, &self.zone) {
            Answer::Known(mut response) => {
                add(&self.stats.own);
                spread(&mut response, query.id);
                Step::Done(query.write(&response, limit))
            }
            Answer::Alias(response, to) => Step::Elsewhere(query, Some((response, to))),
            Answer::NotOurs => match self.forwarder.cached(&query) {
                Some((found, age)) => Step::Done(found.to_client(&query, age, limit)),
                None => Step::Elsewhere(query, None),
            },
        })
    }

    async fn elsewhere(&self, query: Query, alias: Option<(Response, String)>, tcp: bool) -> Vec<u8> {
        let limit = if tcp { usize::MAX } else { query.udp_limit() };
        let failure = |query: &Query| query.write(&Response { rcode: SERVFAIL, ..Default::default() }, limit);
        let Ok(_permit) = self.forwards.try_acquire() else { return failure(&query) };
        let Some((mut response, mut to)) = alias else {
            return match self.forwarder.ask(&query, tcp).await {
                Some(found) => found.to_client(&query, 0, limit),
                None => failure(&query),
            };
        };
        for _ in 0..MOST_ALIASES {
            let asked = question_for(&query, &to);
            let found = match self.forwarder.cached(&asked) {
                Some((found, _)) => Some(found),
                None => self.forwarder.ask(&asked, true).await,
            };
            // The alias itself is known, whatever the other servers say.
            let Some(found) = found else { break };
            let more = found.records(&asked);
            let next = more.last().and_then(|r| match &r.data {
                Data::Cname(next) if query.kind != crate::wire::CNAME => Some(next.clone()),
                _ => None,
            });
            if response.rcode == NOERROR {
                response.rcode = found.rcode;
            }
            response.answers.extend(more);
            match next {
                Some(next) => to = next,
                None => break,
            }
        }
        query.write(&response, limit)
    }
}

/// Several addresses come in changing order, so that simple clients spread their connections.
fn spread(response: &mut Response, by: u16) {
    let len = response.answers.len();
    if len > 1 && response.answers.iter().all(|r| matches!(r.data, Data::A(_) | Data::Aaaa(_))) {
        response.answers.rotate_left(usize::from(by) % len);
    }
}

fn question_for(query: &Query, name: &str) -> Query {
    let mut question = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        question.push(bytes.len() as u8);
        question.extend_from_slice(bytes);
    }
    question.push(0);
    question.extend_from_slice(&query.kind.to_be_bytes());
    question.extend_from_slice(&query.class.to_be_bytes());
    Query { name: name.to_string(), question, edns: None, ..query.clone() }
}

/// The sockets of one address: both on one port if possible.
pub(crate) struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Sockets {
    /// Binds the wanted port, or where that is taken any free one.
    pub(crate) async fn bind(ip: IpAddr, port: u16) -> io::Result<Sockets> {
        let wanted = async |port| {
            let tcp = TcpListener::bind((ip, port)).await?;
            let udp = UdpSocket::bind((ip, tcp.local_addr()?.port())).await?;
            io::Result::Ok(Sockets { udp, tcp })
        };
        match wanted(port).await {
            Err(e) if port != 0 && e.kind() == io::ErrorKind::AddrInUse => {
                tracing::info!(%ip, port, "the DNS port is taken; using another");
                wanted(0).await
            }
            other => other,
        }
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.tcp.local_addr()?.port())
    }
}

pub(crate) async fn serve(server: Arc<Server>, sockets: Sockets, shutdown: CancellationToken) {
    let Sockets { udp, tcp } = sockets;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve_udp(server.clone(), Arc::new(udp), shutdown.clone()) => {}
        () = serve_tcp(server, tcp, shutdown.clone()) => {}
    }
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>, shutdown: CancellationToken) {
    let mut buf = vec![0; 4096];
    loop {
        // An error is about an earlier datagram whose sender is gone.
        let Ok((len, from)) = socket.recv_from(&mut buf).await else {
            tokio::task::yield_now().await;
            continue;
        };
        add(&server.stats.udp);
        if !server.clients.allowed(from.ip()) {
            if let Some(bytes) = refusal(&buf[..len]) {
                send(&socket, &bytes, from).await;
            }
            continue;
        }
        match server.step(&buf[..len], false) {
            None => {}
            Some(Step::Done(bytes)) => send(&socket, &bytes, from).await,
            Some(Step::Elsewhere(query, alias)) => {
                let (server, socket, shutdown) = (server.clone(), socket.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        bytes = server.elsewhere(query, alias, false) => send(&socket, &bytes, from).await,
                    }
                });
            }
        }
    }
}

/// As long as the question, so that nobody gains by asking in another's name.
fn refusal(message: &[u8]) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    Some(query.write(&Response { rcode: REFUSED, ..Default::default() }, query.udp_limit()))
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        tracing::debug!(%to, %error, "cannot send a DNS answer");
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener, shutdown: CancellationToken) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = server.connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((_, from)) if !server.clients.allowed(from.ip()) => {}
            Ok((stream, _)) => {
                let (server, shutdown) = (server.clone(), shutdown.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        // The client went away; that is its right.
                        _ = converse(&server, stream) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept DNS connections for a moment");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let message = timeout(IDLE, async {
            let mut buf = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut buf).await?;
            io::Result::Ok(buf)
        });
        let Ok(message) = message.await else { return Ok(()) };
        add(&server.stats.tcp);
        let bytes = match server.step(&message?, true) {
            None => return Ok(()),
            Some(Step::Done(bytes)) => bytes,
            Some(Step::Elsewhere(query, alias)) => server.elsewhere(query, alias, true).await,
        };
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(IDLE, stream.write_all(&framed)).await.map_err(io::Error::other)??;
    }
}

#[cfg(test)]
mod tests;
