use super::*;
use crate::forward::Upstreams;
use crate::wire::{A, Foreign, NXDOMAIN, Record};

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A server on a free port that asks `upstream` for names that are not the cluster's.
async fn start(upstream: Vec<SocketAddr>) -> (SocketAddr, Arc<Server>) {
    let stats = Arc::new(Stats::default());
    let forwarder = Forwarder::new(Upstreams::Servers(upstream), vec![], vec![], stats.clone());
    let server = Arc::new(Server::new(crate::zone::tests::zone(), forwarder, Clients::new(vec![]), stats));
    let sockets = Sockets::bind(LOCALHOST, 0).await.unwrap();
    let at = sockets.tcp.local_addr().unwrap();
    tokio::spawn(serve(server.clone(), sockets, CancellationToken::new()));
    (at, server)
}

fn query(name: &str, edns: Option<u16>) -> (Query, Vec<u8>) {
    let bytes = crate::wire::tests::question(name, A, edns);
    (Query::parse(&bytes).unwrap(), bytes)
}

async fn ask_udp(at: SocketAddr, name: &str) -> Foreign {
    let (query, bytes) = query(name, None);
    let socket = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
    socket.send_to(&bytes, at).await.unwrap();
    let mut buf = [0; 2000];
    let len = timeout(Duration::from_secs(10), socket.recv(&mut buf)).await.unwrap().unwrap();
    Foreign::parse(&buf[..len], &query, query.id).unwrap()
}

async fn ask_tcp(stream: &mut TcpStream, name: &str) -> Foreign {
    let (query, bytes) = query(name, None);
    stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).await.unwrap();
    let mut buf = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buf).await.unwrap();
    Foreign::parse(&buf, &query, query.id).unwrap()
}

fn addresses(name: &str, answer: &Foreign) -> Vec<String> {
    let (query, _) = query(name, None);
    let text = |r: Record| match r.data {
        Data::A(ip) => ip.to_string(),
        Data::Cname(to) => to,
        other => format!("{other:?}"),
    };
    answer.records(&query).into_iter().map(text).collect()
}

#[tokio::test]
async fn both_transports_and_forwarding() {
    // The other server is one of us, with the same zone: it knows "cluster.local" names only.
    let (far, far_server) = start(vec![]).await;
    let (at, server) = start(vec![far]).await;
    let name = "kubernetes.default.svc.cluster.local";
    assert_eq!(addresses(name, &ask_udp(at, name).await), ["10.96.0.1"]);
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        assert_eq!(addresses(name, &ask_tcp(&mut stream, name).await), ["10.96.0.1"]);
    }
    assert_eq!(ask_udp(at, "no.default.svc.cluster.local").await.rcode, NXDOMAIN);
    // Nobody knows this one: the far server has no upstream and fails, so do we.
    assert_eq!(ask_udp(at, "example.org").await.rcode, SERVFAIL);
    let forwarded = far_server.stats.forwarded.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(forwarded, 1);
    // The alias itself is an answer even then.
    let out = "out.default.svc.cluster.local";
    assert_eq!(addresses(out, &ask_udp(at, out).await), ["example.org"]);
    assert!(server.stats.text().contains("coredns_dns_requests_total{proto=\"tcp\"} 2"));
}

#[tokio::test]
async fn answers_of_others_are_kept_and_silence_is_not_waited_for() {
    // A server that answers once, and one that never does.
    let silent = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
    let once = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
    let servers = vec![silent.local_addr().unwrap(), once.local_addr().unwrap()];
    tokio::spawn(async move {
        let mut buf = [0; 2000];
        let (len, from) = once.recv_from(&mut buf).await.unwrap();
        let query = Query::parse(&buf[..len]).unwrap();
        let record = Record { name: query.name.clone(), ttl: 60, data: Data::A([192, 0, 2, 9].into()) };
        let answer = query.write(&Response { answers: vec![record], ..Default::default() }, 512);
        // Wrong answers first: another id, another question.
        once.send_to(&[&[1, 2], &answer[2..]].concat(), from).await.unwrap();
        once.send_to(&answer, from).await.unwrap();
    });
    let (at, server) = start(servers).await;
    for _ in 0..3 {
        let answer = ask_udp(at, "www.example.org").await;
        assert_eq!(addresses("www.example.org", &answer), ["192.0.2.9"]);
        assert!(answer.keep <= 60);
    }
    assert_eq!(server.stats.hits.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn rubbish_is_survived() {
    let (at, _) = start(vec![]).await;
    let socket = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
    for n in 0..300usize {
        let bytes: Vec<u8> = (0..n % 60).map(|i| (i * 37 + n * 101) as u8).collect();
        socket.send_to(&bytes, at).await.unwrap();
    }
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0, "hung up");
    let name = "kubernetes.default.svc.cluster.local";
    assert_eq!(addresses(name, &ask_udp(at, name).await), ["10.96.0.1"]);
}
