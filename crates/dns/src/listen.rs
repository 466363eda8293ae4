//! UDP and TCP. Names of the zone are answered at once by the reading task; questions for upstream resolvers get a
//! task each.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, answer};
use crate::{Error, Forwarder, Zone};

/// What fits without fragments on every path (DNS flag day 2020), and without EDNS.
const LARGEST_UDP: u16 = 1232;
const PLAIN_UDP: u16 = 512;
const TCP_IDLE: Duration = Duration::from_secs(10);
const TCP_CONNECTIONS: usize = 256;

/// Opened sockets.
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Opens all of them, also on addresses that no interface has yet.
pub fn open(addresses: &[SocketAddr]) -> Result<Sockets, Error> {
    let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
    for &address in addresses {
        let failed = |transport| move |source| Error::Listen { address, transport, source };
        let udp = bind(address, SocketType::DGRAM).map_err(failed("UDP"))?;
        sockets.udp.push(UdpSocket::from_std(udp.into()).map_err(failed("UDP"))?);
        let tcp = bind(address, SocketType::STREAM).map_err(failed("TCP"))?;
        rustix::net::listen(&tcp, 128).map_err(|e| failed("TCP")(e.into()))?;
        sockets.tcp.push(TcpListener::from_std(tcp.into()).map_err(failed("TCP"))?);
    }
    Ok(sockets)
}

fn bind(address: SocketAddr, kind: SocketType) -> std::io::Result<rustix::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(&socket, true)?;
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Answers questions.
#[derive(Clone)]
pub struct Server {
    zone: Arc<RwLock<Zone>>,
    forwarder: Arc<Forwarder>,
}

impl Server {
    pub fn new(zone: Arc<RwLock<Zone>>, forwarder: Forwarder) -> Self {
        Self { zone, forwarder: Arc::new(forwarder) }
    }

    /// Until shutdown.
    pub async fn serve(self, sockets: Sockets, shutdown: CancellationToken) {
        let tasks = tokio_util::task::TaskTracker::new();
        for socket in sockets.udp {
            tasks.spawn(self.clone().serve_udp(Arc::new(socket), shutdown.clone()));
        }
        let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS));
        for listener in sockets.tcp {
            tasks.spawn(self.clone().serve_tcp(listener, connections.clone(), shutdown.clone()));
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>, shutdown: CancellationToken) {
        let mut buffer = vec![0; 4096];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = socket.recv_from(&mut buffer) => received,
            };
            // Errors are of earlier sends (ICMP), not of the socket.
            let Ok((length, peer)) = received else { continue };
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let limit = match &question.edns {
                Some(edns) => edns.max_payload().clamp(PLAIN_UDP, LARGEST_UDP),
                None => PLAIN_UDP,
            };
            match self.at_once(&question) {
                Step::Done(reply) => {
                    let _ = socket.send_to(&fit(&reply, limit), peer).await;
                }
                Step::Ask(pending) => {
                    let (socket, server) = (socket.clone(), self.clone());
                    tokio::spawn(async move {
                        let reply = server.ask(pending).await;
                        let _ = socket.send_to(&fit(&reply, limit), peer).await;
                    });
                }
                Step::Ignore => {}
            }
        }
    }

    async fn serve_tcp(
        self,
        listener: TcpListener,
        connections: Arc<Semaphore>,
        shutdown: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(slot) = connections.clone().try_acquire_owned() else { continue };
            let (server, shutdown) = (self.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _slot = slot;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    _ = server.converse(stream) => {}
                }
            });
        }
    }

    /// Questions on one TCP connection, until it is closed or idle.
    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??;
            let mut buffer = vec![0; length.into()];
            tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut buffer)).await??;
            let question = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
            let reply = match self.at_once(&question) {
                Step::Done(reply) => reply,
                Step::Ask(pending) => self.ask(pending).await,
                Step::Ignore => return Ok(()),
            };
            let bytes = fit(&reply, u16::MAX);
            let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
        }
    }

    /// What can be said without asking anybody.
    fn at_once(&self, question: &Message) -> Step {
        if question.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let mut reply = begin(question);
        let code = match (question.metadata.op_code, &question.queries[..]) {
            (OpCode::Query, [query]) if query.query_class() == DNSClass::IN => {
                let found = answer(query, &self.zone.read().unwrap_or_else(PoisonError::into_inner));
                return match found {
                    Some(Answer { code, answers, authorities, additionals, continue_at }) => {
                        reply.metadata.authoritative = true;
                        reply.metadata.response_code = code.unwrap_or(ResponseCode::NoError);
                        reply.add_answers(spread(answers));
                        reply.add_authorities(authorities);
                        reply.add_additionals(additionals);
                        match continue_at {
                            Some(name) if self.forwarder.can_ask() => {
                                Step::Ask(Pending { reply, query: Query::query(name, query.query_type()) })
                            }
                            _ => Step::Done(reply),
                        }
                    }
                    None if self.forwarder.can_ask() => Step::Ask(Pending { reply, query: query.clone() }),
                    None => Step::Done(with_code(reply, ResponseCode::Refused)),
                };
            }
            (OpCode::Query, [_]) => ResponseCode::Refused,
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        Step::Done(with_code(reply, code))
    }

    async fn ask(&self, pending: Pending) -> Message {
        let Pending { mut reply, query } = pending;
        match self.forwarder.ask(&query).await {
            Some(answer) => {
                if reply.answers.is_empty() {
                    reply.metadata.response_code = answer.metadata.response_code;
                    reply.add_authorities(answer.authorities);
                }
                reply.add_answers(answer.answers);
            }
            // The alias alone is still an answer.
            None if !reply.answers.is_empty() => {}
            None => reply.metadata.response_code = ResponseCode::ServFail,
        }
        reply
    }
}

enum Step {
    Done(Message),
    Ask(Pending),
    Ignore,
}

/// A reply that waits for an upstream's answer to `query`.
struct Pending {
    reply: Message,
    query: Query,
}

fn begin(question: &Message) -> Message {
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_UDP);
        reply.set_edns(edns);
    }
    reply
}

fn with_code(mut reply: Message, code: ResponseCode) -> Message {
    reply.metadata.response_code = code;
    reply
}

/// Several addresses start at another one each time, so that clients that take the first spread over all.
fn spread(mut records: Vec<Record>) -> Vec<Record> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if records.len() > 1 && records.iter().all(|r| r.record_type().is_ip_addr()) {
        let start = NEXT.fetch_add(1, Ordering::Relaxed) % records.len();
        records.rotate_left(start);
    }
    records
}

/// The reply's bytes; one that is too long is cut and says so, so that the client asks again over TCP.
fn fit(reply: &Message, limit: u16) -> Vec<u8> {
    let bytes = reply.to_vec().unwrap_or_default();
    if bytes.len() <= limit.into() {
        return bytes;
    }
    let mut short = reply.clone();
    short.answers.clear();
    short.authorities.clear();
    short.additionals.clear();
    short.metadata.truncation = true;
    short.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests;
