//! The whole path: pods of `podnet`, Services by `proxy`, names by `dns`, on a host that is a network namespace.

mod api;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::net::{Cidr, Rtnl, netns, rtnl::Route};
use runtime::network::PodNetworkRequest;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(20);

struct Pod {
    netns: PathBuf,
    ip: IpAddr,
}

impl Pod {
    fn start(network: &podnet::Network, dir: &Path, name: &str) -> Pod {
        let path = dir.join(name);
        netns::create(&path).unwrap();
        let request =
            PodNetworkRequest { sandbox_id: name.into(), netns: path.clone(), ..Default::default() };
        let ips = network.connect(&request).unwrap();
        let listener = netns::within(&path, || TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
        let name = name.to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(name.as_bytes());
            }
        });
        Pod { netns: path, ip: ips[0] }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = netns::remove(&self.netns);
    }
}

fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    TcpStream::connect_timeout(&to, Duration::from_secs(2))?.read_to_string(&mut text)?;
    Ok(text)
}

/// All who answer within forty tries.
fn answers(to: SocketAddr) -> Vec<String> {
    let mut seen: Vec<String> = (0..40).map(|_| ask(to).unwrap_or_else(|e| e.kind().to_string())).collect();
    seen.sort();
    seen.dedup();
    seen
}

/// The first address a name has, by the nameserver that pods use.
fn resolve(name: &str) -> Option<IpAddr> {
    let mut query = vec![0x77, 0x77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send_to(&query, "10.96.0.10:53").unwrap();
    let mut buf = [0; 512];
    let (len, from) = socket.recv_from(&mut buf).ok()?;
    assert_eq!(from, "10.96.0.10:53".parse().unwrap(), "answers come from where the question went");
    (buf[7] > 0).then(|| <[u8; 4]>::try_from(&buf[len - 4..len]).unwrap().into())
}

fn service(name: &str, ip: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name}, "spec":
        {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP", "nodePort": port}]}})
}

fn slice(name: &str, pods: &[&Pod]) -> Value {
    let endpoints: Vec<Value> = pods.iter().map(|p| json!({"addresses": [p.ip], "nodeName": "n1"})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": [{"port": 8080, "protocol": "TCP"}]})
}

/// A host with a way out, as machines have it.
fn host() {
    netns::unshare_this_thread().unwrap();
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.set_up(1).unwrap();
    rtnl.add_bridge("eth0", 1500, None).unwrap();
    let card = rtnl.link("eth0").unwrap().unwrap().index;
    rtnl.add_address(card, "192.0.2.10/24".parse().unwrap()).unwrap();
    rtnl.set_up(card).unwrap();
    let mut default = Route::new("0.0.0.0/0".parse().unwrap());
    default.dev = Some(card);
    rtnl.replace_route(&default).unwrap();
}

#[test]
fn names_services_and_pods() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            host();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(whole_path(dir.path()));
        });
    });
}

async fn whole_path(dir: &Path) {
    let cidr = |text: &str| -> Cidr { text.parse().unwrap() };
    let api = api::Api::default();
    api.put(json!({"kind": "Node", "metadata": {"name": "n1"}}));
    api.put(json!({"kind": "Namespace", "metadata": {"name": "default"}}));
    let network = podnet::Network::new(podnet::Config {
        state_dir: dir.join("state"),
        bridge: "r8s0".into(),
        mtu: None,
        cluster_cidrs: vec![cidr("10.244.0.0/16")],
        overlay: podnet::Overlay::None,
    })
    .unwrap();
    network.set_pod_cidrs(&[cidr("10.244.0.0/24")]).unwrap();

    let shutdown = CancellationToken::new();
    let (proxy_ready, proxy_up) = oneshot::channel();
    let (dns_ready, dns_up) = oneshot::channel();
    let proxy_config = proxy::Config {
        node_name: "n1".into(),
        cluster_cidrs: vec![cidr("10.244.0.0/16")],
        service_cidrs: vec![cidr("10.96.0.0/16")],
    };
    let dns_config = dns::Config {
        node_name: "n1".into(),
        domain: "cluster.local".into(),
        listen: network.gateways(),
        port: 53,
        clients: vec![("10.244.0.0".parse().unwrap(), 16)],
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        upstreams: dns::Upstreams::Servers(vec![]),
        stub_domains: vec![],
        stats: Default::default(),
    };
    let proxy = tokio::spawn(proxy::run(proxy_config, api.client(), proxy_ready, shutdown.clone()));
    let dns = tokio::spawn(dns::run(dns_config, api.client(), dns_ready, shutdown.clone()));
    tokio::time::timeout(BOUND, async { (proxy_up.await.unwrap(), dns_up.await.unwrap()) }).await.unwrap();

    let (a, b) = (Pod::start(&network, dir, "a"), Pod::start(&network, dir, "b"));
    api.put(service("web", "10.96.0.80", 30080));
    api.put(slice("web", &[&a, &b]));

    // The kernel follows by itself; the name and the Service come up within the bound.
    let web: SocketAddr = "10.96.0.80:80".parse().unwrap();
    let node_port: SocketAddr = "192.0.2.10:30080".parse().unwrap();
    until("the Service answers", move || ask(web).is_ok()).await;
    let loopback: SocketAddr = "127.0.0.1:30080".parse().unwrap();
    for (from, to) in [("host", web), ("host", node_port), ("host", loopback)] {
        assert_eq!(blocking(move || answers(to)).await, ["a", "b"], "{from} to {to}");
    }
    let netns_a = a.netns.clone();
    let seen = blocking(move || netns::within(&netns_a, || answers(web)).unwrap()).await;
    assert_eq!(seen, ["a", "b"], "a pod, itself included");
    let netns_b = b.netns.clone();
    let by_name = blocking(move || {
        netns::within(&netns_b, || {
            resolve("web.default.svc.cluster.local").map(|ip| answers((ip, 80).into()))
        })
        .unwrap()
    });
    assert_eq!(by_name.await, Some(vec!["a".to_string(), "b".to_string()]));
    assert_eq!(blocking(|| resolve("nothing.default.svc.cluster.local")).await, None, "host asks too");
    assert!(api.get("services", "kube-system/kube-dns").is_some());

    // A Service whose endpoint is the host itself, as that of the API server.
    let listener = TcpListener::bind("192.0.2.10:8080").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"host");
        }
    });
    api.put(service("kubernetes", "10.96.0.1", 30081));
    api.put(slice("kubernetes", &[&Pod { netns: PathBuf::new(), ip: "192.0.2.10".parse().unwrap() }]));
    let own: SocketAddr = "10.96.0.1:80".parse().unwrap();
    until("the host reaches itself", move || ask(own).is_ok_and(|who| who == "host")).await;
    let netns_a = a.netns.clone();
    assert_eq!(blocking(move || netns::within(&netns_a, || answers(own)).unwrap()).await, ["host"]);

    // Endpoints go one by one, then the Service.
    api.put(slice("web", &[&b]));
    until("only b is left", move || (0..8).all(|_| ask(web).is_ok_and(|who| who == "b"))).await;
    api.put(slice("web", &[]));
    let refused = |to| ask(to).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
    until("refused without endpoints", move || refused(web) && refused(node_port)).await;
    api.delete("services", "default/web");
    let netns_a = a.netns.clone();
    let gone =
        move || netns::within(&netns_a, || resolve("web.default.svc.cluster.local")).unwrap().is_none();
    until("the name is gone", gone).await;

    // The rules outlive the process; one that comes after finds and keeps them true.
    api.put(service("web", "10.96.0.80", 30080));
    api.put(slice("web", &[&a]));
    until("a answers", move || ask(web).is_ok_and(|who| who == "a")).await;
    shutdown.cancel();
    proxy.await.unwrap().unwrap();
    dns.await.unwrap().unwrap();
    assert_eq!(ask(web).unwrap(), "a");
    network.remove().unwrap();
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits for the state. The question is asked on another thread: what is tested runs on this one.
async fn until(what: &str, test: impl Fn() -> bool + Clone + Send + 'static) {
    let start = std::time::Instant::now();
    while !blocking(test.clone()).await {
        assert!(start.elapsed() < BOUND, "{what}");
    }
}
