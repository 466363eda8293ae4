//! Over real loopback sockets: cluster names, forwarding, truncation.

use std::str::FromStr;

use client::Key;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};

use super::*;
use crate::objects::{Endpoint, EndpointSlice, Metadata, Service, ServiceSpec};

/// A zone with one headless Service of many endpoints: too long for UDP.
fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local", "10.96.0.10".parse().unwrap()).unwrap();
    let metadata = Metadata { name: "big".into(), namespace: "a".into(), ..Metadata::default() };
    let spec = ServiceSpec { cluster_ip: "None".into(), ..ServiceSpec::default() };
    zone.set_service(&Key::new("a", "big"), Some(&Service { metadata: metadata.clone(), spec }));
    let mut slice = EndpointSlice { metadata, ..EndpointSlice::default() };
    slice.metadata.labels.insert("kubernetes.io/service-name".into(), "big".into());
    slice.endpoints = (0..200)
        .map(|i| Endpoint { addresses: vec![format!("10.244.0.{i}")], ..Endpoint::default() })
        .collect();
    zone.set_slice(&Key::new("a", "big-1"), Some(&slice));
    zone
}

async fn start(upstreams: Vec<SocketAddr>) -> (SocketAddr, CancellationToken) {
    let sockets = open(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let shutdown = CancellationToken::new();
    let address = sockets.udp[0].local_addr().unwrap();
    // UDP and TCP on one port: the port that UDP was given.
    let tcp = bind(address, SocketType::STREAM).unwrap();
    rustix::net::listen(&tcp, 16).unwrap();
    let sockets = Sockets { udp: sockets.udp, tcp: vec![TcpListener::from_std(tcp.into()).unwrap()] };
    let server = Server::new(Arc::new(RwLock::new(zone())), Forwarder::new(upstreams));
    tokio::spawn(server.serve(sockets, shutdown.clone()));
    (address, shutdown)
}

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    message
}

async fn ask_udp(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

async fn ask_tcp(server: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = question.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let (server, shutdown) = start(Vec::new()).await;
    let question = question("big.a.svc.cluster.local.");
    let cut = ask_udp(server, &question).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.metadata.id == question.metadata.id);
    let whole = ask_tcp(server, &question).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
    assert!(whole.metadata.authoritative);
    shutdown.cancel();
}

#[tokio::test]
async fn other_names_come_from_upstream_once_and_are_refused_without_one() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream_address = upstream.local_addr().unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = upstream.recv_from(&mut buffer).await {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = begin(&question);
            let name = question.queries[0].name().clone();
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7))));
            // A forged reply with another id comes first and must be passed over.
            let mut forged = reply.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers.clear();
            upstream.send_to(&forged.to_vec().unwrap(), peer).await.unwrap();
            upstream.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    let (server, shutdown) = start(vec![upstream_address]).await;
    for _ in 0..2 {
        let reply = ask_udp(server, &question("example.org.")).await;
        assert_eq!(reply.answers.len(), 1);
        assert!(!reply.metadata.authoritative);
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1, "the second answer comes from the cache");
    shutdown.cancel();

    let (server, shutdown) = start(Vec::new()).await;
    let reply = ask_udp(server, &question("example.org.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    shutdown.cancel();
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let (server, shutdown) = start(Vec::new()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for garbage in [&b""[..], b"x", &[0xff; 600]] {
        socket.send_to(garbage, server).await.unwrap();
    }
    let reply = ask_udp(server, &question("ns.dns.cluster.local.")).await;
    assert_eq!(reply.answers.len(), 1);
    shutdown.cancel();
}
