//! The pod network with real namespaces. Every test runs on a thread moved into a namespace of its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use kernel::net::netns;
use podnet::{Cni, Config, Network, Overlay, Peer};
use runtime::cri::v1::PortMapping;
use runtime::network::{PodNetwork, PodNetworkRequest};

/// Runs `test` as root in a fresh network namespace with loopback up, and a directory for its state.
fn on_a_host(test: impl FnOnce(&Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            netns::unshare_this_thread().unwrap();
            kernel::net::Rtnl::open().unwrap().set_up(1).unwrap();
            test(dir.path());
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

struct Pod {
    request: PodNetworkRequest,
    ips: Vec<IpAddr>,
}

impl Pod {
    fn start(network: &Network, dir: &Path, name: &str, port_mappings: Vec<PortMapping>) -> Pod {
        let netns = dir.join(name);
        netns::create(&netns).unwrap();
        let request = PodNetworkRequest {
            sandbox_id: format!("sandbox-{name}"),
            name: name.into(),
            netns,
            port_mappings,
            ..Default::default()
        };
        let ips = network.connect(&request).unwrap();
        Pod { request, ips }
    }

    fn netns(&self) -> &PathBuf {
        &self.request.netns
    }

    /// Answers one connection on every address with its name and the caller's address.
    fn answer(&self, port: u16, times: usize) -> std::thread::JoinHandle<()> {
        let listener = netns::within(self.netns(), || TcpListener::bind(("::", port)).unwrap()).unwrap();
        let name = self.request.name.clone();
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, peer) = listener.accept().unwrap();
                write!(stream, "{name} {}", peer.ip().to_canonical()).unwrap();
            }
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        netns::remove(self.netns()).unwrap();
    }
}

fn ask(to: impl std::net::ToSocketAddrs) -> String {
    let to = to.to_socket_addrs().unwrap().next().unwrap();
    let mut text = String::new();
    let mut stream = TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn network(dir: &Path) -> Network {
    let config = Config {
        overlay: Overlay::None,
        state_dir: dir.join("state"),
        bridge: "r8s0".into(),
        mtu: None,
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
    };
    let network = Network::new(config).unwrap();
    network.set_pod_cidrs(&["10.244.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()]).unwrap();
    network
}

#[test]
fn pods_talk_in_both_families() {
    on_a_host(|dir| {
        let network = network(dir);
        let a = Pod::start(&network, dir, "a", vec![]);
        let b = Pod::start(&network, dir, "b", vec![]);
        assert_eq!(a.ips, ["10.244.1.2".parse::<IpAddr>().unwrap(), "fd00:1::2".parse().unwrap()]);
        assert_eq!(network.connect(&a.request).unwrap(), a.ips, "again is the same");
        let served = b.answer(80, 4);
        for (to, from, host) in [(b.ips[0], a.ips[0], "10.244.1.1"), (b.ips[1], a.ips[1], "fd00:1::1")] {
            let from_pod = netns::within(a.netns(), || ask((to, 80))).unwrap();
            assert_eq!(from_pod, format!("b {from}"));
            assert_eq!(ask((to, 80)), format!("b {host}"));
        }
        served.join().unwrap();
    });
}

#[test]
fn host_ports_from_everywhere() {
    on_a_host(|dir| {
        let network = network(dir);
        let port = |host_ip: &str, host_port| PortMapping {
            protocol: 0,
            container_port: 80,
            host_port,
            host_ip: host_ip.into(),
        };
        let a = Pod::start(&network, dir, "a", vec![port("", 8080)]);
        let b = Pod::start(&network, dir, "b", vec![port("127.0.0.1", 9090)]);
        let c = Pod::start(&network, dir, "c", vec![port("10.244.1.1", 9090)]);
        let served = [a.answer(80, 4), b.answer(80, 1), c.answer(80, 1)];
        assert_eq!(ask("127.0.0.1:8080"), "a 10.244.1.1");
        assert_eq!(ask("10.244.1.1:8080"), "a 10.244.1.1");
        assert_eq!(netns::within(b.netns(), || ask("10.244.1.1:8080")).unwrap(), format!("a {}", b.ips[0]));
        assert_eq!(netns::within(a.netns(), || ask("10.244.1.1:8080")).unwrap(), "a 10.244.1.1", "hairpin");
        assert_eq!(ask("127.0.0.1:9090"), "b 10.244.1.1");
        assert_eq!(ask("10.244.1.1:9090"), "c 10.244.1.1");
        served.into_iter().for_each(|s| s.join().unwrap());
        network.disconnect(&a.request.sandbox_id).unwrap();
        assert!(TcpStream::connect("10.244.1.1:8080").is_err(), "the port is free again");
    });
}

#[test]
fn teardown_restart_and_leaks() {
    on_a_host(|dir| {
        let first = network(dir);
        let a = Pod::start(&first, dir, "a", vec![]);
        let b = Pod::start(&first, dir, "b", vec![]);
        let c = Pod::start(&first, dir, "c", vec![]);
        first.disconnect(&a.request.sandbox_id).unwrap();
        first.disconnect(&a.request.sandbox_id).unwrap();
        // A new process: pods stay, the one whose namespace went meanwhile is freed.
        netns::remove(c.netns()).unwrap();
        let second = network(dir);
        assert_eq!(second.connect(&b.request).unwrap(), b.ips);
        let files = || std::fs::read_dir(dir.join("state")).unwrap().count();
        assert_eq!(files(), 1);
        second.reclaim(&BTreeSet::new()).unwrap();
        assert_eq!(files(), 0);
        let links = kernel::net::Rtnl::open().unwrap().links().unwrap();
        assert!(!links.iter().any(|l| l.kind == "veth"), "{links:?}");
        second.remove().unwrap();
        second.remove().unwrap();
        assert!(kernel::net::Rtnl::open().unwrap().link("r8s0").unwrap().is_none());
    });
}

#[test]
fn failures_leave_nothing() {
    on_a_host(|dir| {
        let network = network(dir);
        let request =
            PodNetworkRequest { sandbox_id: "x".into(), netns: dir.join("absent"), ..Default::default() };
        let error = network.connect(&request).unwrap_err().to_string();
        assert!(error.contains("open the network namespace"), "{error}");
        assert_eq!(std::fs::read_dir(dir.join("state")).unwrap().count(), 0);
    });
}

/// Two hosts on one wire: pods reach each other by plain routes, and by the tunnel.
#[test]
fn pods_of_two_nodes() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    for tunnel in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let hosts = [1u8, 2].map(|n| dir.path().join(format!("host{n}")));
        hosts.iter().for_each(|path| netns::create(path).unwrap());
        let far = std::fs::File::open(&hosts[1]).unwrap();
        netns::within(&hosts[0], || {
            let mut rtnl = kernel::net::Rtnl::open().unwrap();
            rtnl.add_veth("wire", None, "wire", std::os::fd::AsFd::as_fd(&far), 1500, None).unwrap();
        })
        .unwrap();
        let node = |n: u8, path: &Path| {
            netns::within(path, || {
                let mut rtnl = kernel::net::Rtnl::open().unwrap();
                rtnl.set_up(1).unwrap();
                let wire = rtnl.link("wire").unwrap().unwrap().index;
                rtnl.add_address(wire, format!("192.0.2.{n}/24").parse().unwrap()).unwrap();
                rtnl.set_up(wire).unwrap();
                let local = IpAddr::from([192, 0, 2, n]);
                let overlay = Overlay::Vxlan { vni: 1, port: 8472, local, direct: false };
                let config = Config {
                    state_dir: dir.path().join(format!("state{n}")),
                    bridge: "r8s0".into(),
                    mtu: None,
                    cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
                    overlay: if tunnel { overlay } else { Overlay::None },
                };
                let network = Network::new(config).unwrap();
                network.set_pod_cidrs(&[format!("10.244.{n}.0/24").parse().unwrap()]).unwrap();
                let other = 3 - n;
                let peer = Peer {
                    node_ips: vec![[192, 0, 2, other].into()],
                    pod_cidrs: vec![format!("10.244.{other}.0/24").parse().unwrap()],
                };
                network.set_peers(std::slice::from_ref(&peer)).unwrap();
                network.set_peers(&[peer]).unwrap();
                let pod = Pod::start(&network, dir.path(), &format!("pod{n}"), vec![]);
                (network, pod)
            })
            .unwrap()
        };
        let (first, a) = node(1, &hosts[0]);
        let (_, b) = node(2, &hosts[1]);
        let served = b.answer(80, 2);
        let from_pod = netns::within(a.netns(), || ask((b.ips[0], 80))).unwrap();
        assert_eq!(from_pod, format!("pod2 {}", a.ips[0]), "the pod's own address, tunnel: {tunnel}");
        let from_host = netns::within(&hosts[0], || ask((b.ips[0], 80))).unwrap();
        assert_eq!(from_host, "pod2 10.244.1.1", "tunnel: {tunnel}");
        served.join().unwrap();
        netns::within(&hosts[0], || {
            first.set_peers(&[]).unwrap();
            let routes = kernel::net::Rtnl::open().unwrap().routes().unwrap();
            assert!(!routes.iter().any(|r| r.dst.to_string() == "10.244.2.0/24"), "{routes:?}");
        })
        .unwrap();
        hosts.iter().for_each(|path| netns::remove(path).unwrap());
    }
}

/// The real plugins of Debian's containernetworking-plugins.
#[test]
fn cni_plugins() {
    let bin = PathBuf::from("/usr/lib/cni");
    if !bin.join("bridge").exists() {
        return println!("skipped: no CNI plugins in {}", bin.display());
    }
    on_a_host(|dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cni = Cni { conf_dir: dir.join("net.d"), bin_dirs: vec![bin], state_dir: dir.join("cni") };
        let netns = dir.join("pod");
        netns::create(&netns).unwrap();
        let pod = PodNetworkRequest {
            sandbox_id: "s1".into(),
            name: "p".into(),
            netns: netns.clone(),
            ..Default::default()
        };
        let unready = runtime.block_on(cni.setup(&pod)).unwrap_err().to_string();
        assert!(unready.starts_with("no CNI configuration in "), "{unready}");
        assert!(!cni.is_configured());

        let leases = dir.join("leases");
        let list = serde_json::json!({"cniVersion": "1.0.0", "name": "t", "plugins": [{"type": "bridge", "bridge": "br0",
            "isGateway": true, "ipam": {"type": "host-local", "dataDir": leases,
                "ranges": [[{"subnet": "10.9.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]});
        std::fs::create_dir(&cni.conf_dir).unwrap();
        std::fs::write(cni.conf_dir.join("10-t.conflist"), list.to_string()).unwrap();
        runtime.block_on(cni.status()).unwrap();
        let status = runtime.block_on(cni.setup(&pod)).unwrap();
        assert_eq!(status.ips, ["10.9.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(runtime.block_on(cni.setup(&pod)).unwrap(), status, "again is the same");
        let listener = netns::within(&netns, || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
        let served = std::thread::spawn(move || write!(listener.accept().unwrap().0, "hello").unwrap());
        assert_eq!(ask("10.9.0.2:80"), "hello");
        served.join().unwrap();
        netns::remove(&netns).unwrap();
        runtime.block_on(cni.teardown(&pod)).unwrap();
        runtime.block_on(cni.teardown(&pod)).unwrap();
        assert!(!leases.join("t/10.9.0.2").exists(), "the address is free");

        std::fs::write(
            cni.conf_dir.join("05-bad.conflist"),
            r#"{"name": "x", "plugins": [{"type": "absent"}]}"#,
        )
        .unwrap();
        netns::create(&netns).unwrap();
        let error = runtime.block_on(cni.setup(&pod)).unwrap_err().to_string();
        assert!(error.starts_with("CNI plugin \"absent\" ADD: not found in"), "{error}");
        netns::remove(&netns).unwrap();
    });
}
