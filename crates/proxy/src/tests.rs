//! Services as users write them, their rules as text, packets walked through, and the real kernel.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::net::{Rtnl, netns};
use kernel::nft::trace::{Outcome, Packet, World, walk};
use kernel::nft::{Batch, Family, HookPoint, Nft};
use serde_json::{Value, json};

use crate::run::{Kernel, Sync};
use crate::{Node, Rules, Service, render};

fn node() -> Node {
    Node {
        name: "n1".into(),
        zone: Some("z1".into()),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
    }
}

/// A Service `ns/NAME` with one port; `endpoints` are (address, node, conditions and hints merged in).
fn service(name: &str, spec: Value, status: Value, endpoints: &[(&str, &str, Value)]) -> Service {
    let mut full = json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
        "ports": [{"name": "p", "protocol": "TCP", "port": 80}]});
    merge(&mut full, spec);
    let protocol = full["ports"][0]["protocol"].clone();
    let object: core::Service = serde_json::from_value(
        json!({"metadata": {"namespace": "ns", "name": name}, "spec": full, "status": status}),
    )
    .unwrap();
    let slices = ["IPv4", "IPv6"].map(|family| {
        let list: Vec<Value> = endpoints
            .iter()
            .filter(|(ip, ..)| ip.contains(':') == (family == "IPv6"))
            .map(|(ip, node, more)| {
                let mut endpoint = json!({"addresses": [ip], "nodeName": node});
                merge(&mut endpoint, more.clone());
                endpoint
            })
            .collect();
        let slice = json!({"metadata": {"namespace": "ns", "name": name}, "addressType": family,
            "ports": [{"name": "p", "port": 8080, "protocol": protocol}], "endpoints": list});
        Arc::new(serde_json::from_value::<EndpointSlice>(slice).unwrap())
    });
    Service::read(&object, &slices).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn ready(ip: &'static str, node: &'static str) -> (&'static str, &'static str, Value) {
    (ip, node, json!({}))
}

const IN: [HookPoint; 3] = [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting];
const OUT: [HookPoint; 2] = [HookPoint::Output, HookPoint::Postrouting];

/// Where a new TCP connection ends: the set of destinations over all random numbers, with "masq" where the source
/// is rewritten, or how it is refused.
fn reach(services: &[Service], src: &str, dst: &str, port: u16) -> Vec<String> {
    let table = render(if dst.contains(':') { Family::Ip6 } else { Family::Ip }, services, &node());
    let local = ["192.0.2.1", "10.244.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let from_host = local.contains(&src.parse().unwrap());
    let to_host = local.contains(&dst.parse().unwrap());
    let mut seen: Vec<String> = (0..12)
        .map(|random| {
            let mut packet = Packet::new(src, dst, 6, port);
            let mut world = World { local: local.into(), random, ..Default::default() };
            let pre: &[HookPoint] = if from_host { &OUT[..1] } else { &IN[..1] };
            let mut end = walk(&table, &mut packet, pre, &mut world);
            if end == Outcome::Accepted {
                let post: &[HookPoint] = if from_host {
                    &OUT[1..]
                } else if to_host && !packet.dnat {
                    &[HookPoint::Input]
                } else {
                    &IN[1..]
                };
                end = walk(&table, &mut packet, post, &mut world);
            }
            match end {
                Outcome::Accepted if packet.masqueraded => {
                    format!("{} masq", SocketAddr::new(packet.dst, packet.dport))
                }
                Outcome::Accepted => SocketAddr::new(packet.dst, packet.dport).to_string(),
                Outcome::Dropped => "dropped".into(),
                Outcome::Rejected => "rejected".into(),
            }
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn cluster_ip() {
    let web = service("web", json!({}), json!({}), &[ready("10.244.0.5", "n1"), ready("10.244.1.5", "n2")]);
    let all = [web];
    let both = ["10.244.0.5:8080", "10.244.1.5:8080"];
    let both_masq = ["10.244.0.5:8080 masq", "10.244.1.5:8080 masq"];
    assert_eq!(reach(&all, "10.244.0.9", "10.96.0.10", 80), both);
    assert_eq!(reach(&all, "192.0.2.1", "10.96.0.10", 80), both_masq, "host");
    assert_eq!(reach(&all, "198.51.100.7", "10.96.0.10", 80), both_masq, "outside");
    assert_eq!(
        reach(&all, "10.244.0.5", "10.96.0.10", 80),
        ["10.244.0.5:8080 masq", "10.244.1.5:8080"],
        "hairpin"
    );
    assert_eq!(reach(&all, "10.244.0.9", "10.96.0.10", 81), ["rejected"], "no such port");
    assert_eq!(reach(&all, "10.244.0.9", "10.96.9.9", 80), ["dropped"], "no such Service");
    assert_eq!(reach(&all, "10.244.0.9", "203.0.113.1", 80), ["203.0.113.1:80"], "not ours");
}

#[test]
fn without_endpoints() {
    let none = service("none", json!({}), json!({}), &[]);
    assert_eq!(reach(&[none], "10.244.0.9", "10.96.0.10", 80), ["rejected"]);
    let not_ready = json!({"conditions": {"ready": false, "serving": false}});
    let unready = service("none", json!({}), json!({}), &[("10.244.0.5", "n1", not_ready)]);
    assert_eq!(reach(&[unready], "192.0.2.1", "10.96.0.10", 80), ["rejected"]);
    let leaving = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    let last = service("last", json!({}), json!({}), &[("10.244.0.5", "n1", leaving.clone())]);
    assert_eq!(reach(&[last], "10.244.0.9", "10.96.0.10", 80), ["10.244.0.5:8080"], "still serving");
    let one =
        service("one", json!({}), json!({}), &[("10.244.0.5", "n1", leaving), ready("10.244.1.5", "n2")]);
    assert_eq!(reach(&[one], "10.244.0.9", "10.96.0.10", 80), ["10.244.1.5:8080"]);
}

#[test]
fn node_ports_and_external_addresses() {
    let spec = json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.1"],
        "ports": [{"name": "p", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}, {"ip": "198.51.100.3", "ipMode": "Proxy"}]}});
    let ends = [ready("10.244.0.5", "n1"), ready("10.244.1.5", "n2")];
    let cluster = [service("web", spec.clone(), status.clone(), &ends)];
    let masq = ["10.244.0.5:8080 masq", "10.244.1.5:8080 masq"];
    for (dst, port) in [("192.0.2.1", 30080), ("198.51.100.1", 80), ("198.51.100.2", 80)] {
        for src in ["203.0.113.9", "192.0.2.1", "10.244.0.9"] {
            assert_eq!(reach(&cluster, src, dst, port), masq, "{src} to {dst}");
        }
    }
    assert_eq!(reach(&cluster, "203.0.113.9", "198.51.100.3", 80), ["198.51.100.3:80"], "the balancer's own");

    let mut local_spec = spec.clone();
    merge(&mut local_spec, json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}));
    let local = [service("web", local_spec.clone(), status.clone(), &ends)];
    for (dst, port) in [("192.0.2.1", 30080), ("198.51.100.1", 80), ("198.51.100.2", 80)] {
        assert_eq!(reach(&local, "203.0.113.9", dst, port), ["10.244.0.5:8080"], "source kept");
        assert_eq!(
            reach(&local, "10.244.0.9", dst, port),
            ["10.244.0.5:8080", "10.244.1.5:8080"],
            "pods: any"
        );
        assert_eq!(reach(&local, "192.0.2.1", dst, port), masq, "host: any");
    }
    let elsewhere = [service("web", local_spec, status, &ends[1..])];
    assert_eq!(reach(&elsewhere, "203.0.113.9", "192.0.2.1", 30080), ["dropped"]);
    assert_eq!(reach(&elsewhere, "203.0.113.9", "198.51.100.2", 80), ["dropped"]);
    assert_eq!(reach(&elsewhere, "10.244.0.9", "192.0.2.1", 30080), ["10.244.1.5:8080"]);
    let nobody = [service("web", spec, json!({}), &[])];
    assert_eq!(reach(&nobody, "203.0.113.9", "192.0.2.1", 30080), ["rejected"]);
}

#[test]
fn source_ranges() {
    let spec = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.128/25"],
        "ports": [{"name": "p", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}});
    let all = [service("web", spec, status, &[ready("10.244.0.5", "n1")])];
    assert_eq!(reach(&all, "203.0.113.9", "198.51.100.2", 80), ["10.244.0.5:8080 masq"]);
    assert_eq!(reach(&all, "203.0.114.9", "198.51.100.2", 80), ["dropped"]);
    assert_eq!(
        reach(&all, "203.0.114.9", "192.0.2.1", 30080),
        ["10.244.0.5:8080 masq"],
        "node ports are open"
    );
}

#[test]
fn internal_policy_local_and_hints() {
    let spec = json!({"internalTrafficPolicy": "Local"});
    let ends = [ready("10.244.0.5", "n1"), ready("10.244.1.5", "n2")];
    let local = [service("web", spec.clone(), json!({}), &ends)];
    assert_eq!(reach(&local, "10.244.0.9", "10.96.0.10", 80), ["10.244.0.5:8080"]);
    let elsewhere = [service("web", spec.clone(), json!({}), &ends[1..])];
    assert_eq!(reach(&elsewhere, "10.244.0.9", "10.96.0.10", 80), ["dropped"]);
    assert_eq!(reach(&[service("web", spec, json!({}), &[])], "10.244.0.9", "10.96.0.10", 80), ["rejected"]);

    let hint = |zone: &str, node: &str| json!({"hints": {"forZones": [{"name": zone}], "forNodes": [{"name": node}]}});
    let zone = |zone: &str| json!({"hints": {"forZones": [{"name": zone}]}});
    for (hints, expected) in [
        ([zone("z1"), zone("z2")], &["10.244.0.5:8080"][..]),
        ([zone("z2"), zone("z2")], &["10.244.0.5:8080", "10.244.1.5:8080"]),
        ([json!({}), zone("z1")], &["10.244.0.5:8080", "10.244.1.5:8080"]),
        ([hint("z1", "n2"), hint("z1", "n1")], &["10.244.1.5:8080"]),
        ([hint("z1", "n2"), hint("z2", "n2")], &["10.244.0.5:8080"]),
    ] {
        let [a, b] = hints;
        let all = [service("web", json!({}), json!({}), &[("10.244.0.5", "n1", a), ("10.244.1.5", "n2", b)])];
        assert_eq!(reach(&all, "10.244.0.9", "10.96.0.10", 80), expected);
    }
}

#[test]
fn affinity_keeps_a_client() {
    let ends = [ready("10.244.0.5", "n1"), ready("10.244.1.5", "n2")];
    let all = [service("web", json!({"sessionAffinity": "ClientIP"}), json!({}), &ends)];
    let table = render(Family::Ip, &all, &node());
    let mut world = World::default();
    let mut ends = Vec::new();
    for random in [1, 0, 0, 1] {
        world.random = random;
        let mut packet = Packet::new("10.244.0.9", "10.96.0.10", 6, 80);
        walk(&table, &mut packet, &IN, &mut world);
        ends.push(packet.dst.to_string());
    }
    assert_eq!(ends, ["10.244.1.5"; 4]);
    assert!(table.to_string().contains("chain pick-2-sticky-10800"));
}

#[test]
fn ipv6() {
    let spec = json!({"clusterIPs": ["10.96.0.10", "fd00:96::10"]});
    let all = [service("web", spec, json!({}), &[ready("10.244.0.5", "n1"), ready("fd00:10::5", "n1")])];
    assert_eq!(reach(&all, "fd00:10::9", "fd00:96::10", 80), ["[fd00:10::5]:8080"]);
    assert_eq!(reach(&all, "10.244.0.9", "10.96.0.10", 80), ["10.244.0.5:8080"]);
}

#[test]
fn the_table_as_text() {
    let spec = json!({"ports": [{"name": "p", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let ends = [ready("10.244.0.5", "n1"), ready("10.244.1.5", "n2")];
    let text = render(Family::Ip, &[service("web", spec, json!({}), &ends)], &node()).to_string();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testdata/one-service.nft");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "run with UPDATE=1 to accept");
}

/// Many small worlds, one after the other by single changes: the same table as from nothing, and the kernel takes
/// every step.
#[test]
fn changes_lead_where_a_fresh_start_leads() {
    let kernel = rustix::process::geteuid().is_root();
    if !kernel {
        println!("skipped in part: the kernel's share needs root");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if kernel {
                netns::unshare_this_thread().unwrap();
            }
            let mut nft = kernel.then(|| Nft::open().unwrap());
            let mut rules = Rules::new(Family::Ip, node());
            let mut batch = Batch::new();
            rules.replace(&mut batch);
            if let Some(nft) = &mut nft {
                nft.commit(batch).unwrap();
            }
            let mut world: BTreeMap<Arc<str>, Service> = BTreeMap::new();
            let mut seed = 7u64;
            let mut roll = |n: u64| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) % n
            };
            for step in 0..300 {
                let name = format!("s{}", roll(6));
                let key: Arc<str> = format!("ns/{name}").into();
                if roll(4) == 0 {
                    world.remove(&key);
                } else {
                    let ends: Vec<_> = ["10.244.0.2", "10.244.0.3", "10.244.1.2", "10.244.1.3"]
                        .into_iter()
                        .filter(|_| roll(2) == 0)
                        .map(|ip| ready(ip, if ip.starts_with("10.244.0") { "n1" } else { "n2" }))
                        .collect();
                    // Several Services claim the same external address: the first by name has it.
                    let spec = json!({
                        "clusterIPs": [format!("10.96.1.{}", &name[1..])],
                        "externalIPs": if roll(2) == 0 { json!(["198.51.100.1"]) } else { json!([]) },
                        "sessionAffinity": if roll(3) == 0 { "ClientIP" } else { "None" },
                        "externalTrafficPolicy": if roll(2) == 0 { "Local" } else { "Cluster" },
                        "loadBalancerSourceRanges": if roll(2) == 0 { json!(["203.0.113.0/24"]) } else { json!([]) },
                        "ports": [{"name": "p", "protocol": "TCP", "port": 80 + roll(2), "nodePort": 30000 + roll(2)}],
                    });
                    let status = json!({"loadBalancer": {"ingress": [{"ip": format!("198.51.100.{}", 10 + roll(2))}]}});
                    world.insert(key.clone(), service(&name, spec, status, &ends));
                }
                rules.set(&key, world.get(&key));
                assert_eq!(rules.table(), render(Family::Ip, world.values(), &node()), "step {step}");
                if roll(3) > 0 {
                    let mut batch = Batch::new();
                    rules.batch(&mut batch);
                    if let Some(nft) = &mut nft {
                        nft.commit(batch).unwrap_or_else(|e| panic!("step {step}: {e}"));
                        for (name, set) in rules.table().sets.iter().filter(|(_, s)| !s.dynamic && !s.interval) {
                            let there = nft.elements(Family::Ip, "kube-proxy", name).unwrap().len();
                            assert_eq!(there, set.elements.len(), "step {step}: {name}");
                        }
                    }
                }
            }
            let mut batch = Batch::new();
            rules.batch(&mut batch);
            let mut again = Batch::new();
            rules.batch(&mut again);
            assert!(again.is_empty(), "nothing changed");
        });
    });
}

/// A host with pods as bare namespaces, on a thread of its own.
struct Pods {
    dir: tempfile::TempDir,
}

impl Pods {
    /// Moves the calling thread to a fresh host with a bridge and `count` pods 10.244.0.2 and up.
    fn new(count: u8) -> Pods {
        netns::unshare_this_thread().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut host = Rtnl::open().unwrap();
        host.set_up(1).unwrap();
        host.add_bridge("br0", 1500, None).unwrap();
        let bridge = host.link("br0").unwrap().unwrap().index;
        host.add_address(bridge, "10.244.0.1/24".parse().unwrap()).unwrap();
        host.set_up(bridge).unwrap();
        kernel::net::sysctl::set("net/ipv4/ip_forward", "1").unwrap();
        // A way to the Services' addresses; other hosts have a default route.
        let mut route = kernel::net::rtnl::Route::new("10.96.0.0/16".parse().unwrap());
        route.dev = Some(bridge);
        host.replace_route(&route).unwrap();
        for n in 0..count {
            let path = dir.path().join(n.to_string());
            netns::create(&path).unwrap();
            let ns = std::fs::File::open(&path).unwrap();
            host.add_veth(&format!("v{n}"), Some(bridge), "eth0", std::os::fd::AsFd::as_fd(&ns), 1500, None)
                .unwrap();
            let port = host.link(&format!("v{n}")).unwrap().unwrap();
            host.set_hairpin(port.index).unwrap();
            let mut pod = Rtnl::open_in(&path).unwrap();
            let eth0 = pod.link("eth0").unwrap().unwrap().index;
            pod.set_up(1).unwrap();
            pod.add_address(eth0, format!("10.244.0.{}/32", n + 2).parse().unwrap()).unwrap();
            pod.set_up(eth0).unwrap();
            let mut link = kernel::net::rtnl::Route::new("10.244.0.1/32".parse().unwrap());
            link.dev = Some(eth0);
            pod.replace_route(&link).unwrap();
            let mut default = kernel::net::rtnl::Route::new("0.0.0.0/0".parse().unwrap());
            (default.dev, default.gateway) = (Some(eth0), Some("10.244.0.1".parse().unwrap()));
            pod.replace_route(&default).unwrap();
        }
        Pods { dir }
    }

    fn path(&self, n: u8) -> std::path::PathBuf {
        self.dir.path().join(n.to_string())
    }

    /// Answers TCP connections with the pod's number, and UDP datagrams too, until the process ends.
    fn serve(&self, n: u8) {
        let (tcp, udp) = netns::within(&self.path(n), || {
            (TcpListener::bind("0.0.0.0:8080").unwrap(), UdpSocket::bind("0.0.0.0:8080").unwrap())
        })
        .unwrap();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{n} {peer}");
            }
        });
        std::thread::spawn(move || {
            let mut buf = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buf) {
                let _ = udp.send_to(n.to_string().as_bytes(), peer);
            }
        });
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let _ = netns::remove(&entry.unwrap().path());
        }
    }
}

fn ask(to: &str) -> Result<String, std::io::ErrorKind> {
    let mut text = String::new();
    let mut stream =
        TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(5)).map_err(|e| e.kind())?;
    stream.read_to_string(&mut text).map_err(|e| e.kind())?;
    Ok(text)
}

fn on_pods(count: u8, test: impl FnOnce(&Pods, &mut Sync) + Send) {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pods = Pods::new(count);
            (0..count).for_each(|n| pods.serve(n));
            let mut sync = Sync::new(Kernel::open().unwrap(), vec![Family::Ip], node());
            test(&pods, &mut sync);
        });
    });
}

fn put(sync: &mut Sync, service: Service) {
    sync.apply(vec![(service.key.clone(), Some(service))]).unwrap();
}

#[test]
fn packets_really_go_there() {
    on_pods(2, |pods, sync| {
        let spec = json!({"ports": [{"name": "p", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
        let ends = [ready("10.244.0.2", "n1"), ready("10.244.0.3", "n1")];
        put(sync, service("web", spec.clone(), json!({}), &ends));
        for to in ["10.96.0.10:80", "10.244.0.1:30080"] {
            let mut seen: Vec<_> = (0..40).map(|_| ask(to).unwrap()).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen, ["0 10.244.0.1", "1 10.244.0.1"], "{to} from the host");
            let mut seen: Vec<_> =
                (0..40).map(|_| netns::within(&pods.path(0), || ask(to)).unwrap().unwrap()).collect();
            seen.sort();
            seen.dedup();
            let other = if to.starts_with("10.96") { "1 10.244.0.2" } else { "1 10.244.0.1" };
            assert_eq!(seen, ["0 10.244.0.1", other], "{to} from a pod, itself included");
        }
        put(sync, service("web", spec.clone(), json!({}), &[]));
        for to in ["10.96.0.10:80", "10.244.0.1:30080"] {
            assert_eq!(ask(to), Err(std::io::ErrorKind::ConnectionRefused), "{to}");
            assert_eq!(
                netns::within(&pods.path(0), || ask(to)).unwrap(),
                Err(std::io::ErrorKind::ConnectionRefused)
            );
        }
        put(sync, service("web", spec, json!({}), &ends[1..]));
        assert_eq!(ask("10.96.0.10:80").unwrap(), "1 10.244.0.1");
        // A firewall that restarts flushes everything.
        let mut batch = Batch::new();
        batch.delete_table(Family::Ip, "kube-proxy");
        Nft::open().unwrap().commit(batch).unwrap();
        sync.look();
        sync.apply(vec![]).unwrap();
        assert_eq!(ask("10.96.0.10:80").unwrap(), "1 10.244.0.1");
    });
}

#[test]
fn affinity_and_udp_follow_endpoints() {
    on_pods(2, |_, sync| {
        let ends = [ready("10.244.0.2", "n1"), ready("10.244.0.3", "n1")];
        let sticky = json!({"sessionAffinity": "ClientIP"});
        put(sync, service("web", sticky.clone(), json!({}), &ends));
        let mut seen: Vec<_> = (0..20).map(|_| ask("10.96.0.10:80").unwrap()).collect();
        seen.dedup();
        assert_eq!(seen.len(), 1);
        let other = if seen[0].starts_with('0') { 1 } else { 0 };
        put(sync, service("web", sticky, json!({}), &ends[other..=other]));
        assert_eq!(ask("10.96.0.10:80").unwrap(), format!("{other} 10.244.0.1"), "not bound to the dead");

        let udp =
            json!({"clusterIPs": ["10.96.0.53"], "ports": [{"name": "p", "protocol": "UDP", "port": 53}]});
        put(sync, service("dns", udp.clone(), json!({}), &ends[..1]));
        let client = UdpSocket::bind("10.244.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let ask = || {
            client.send_to(b"?", "10.96.0.53:53").unwrap();
            let mut buf = [0; 8];
            let (len, _) = client.recv_from(&mut buf).unwrap();
            buf[..len].to_vec()
        };
        assert_eq!(ask(), b"0");
        put(sync, service("dns", udp, json!({}), &ends[1..]));
        assert_eq!(ask(), b"1", "the same socket goes to the new endpoint");
    });
}

/// Figures, not a test: `cargo test -p proxy --release -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_services() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            netns::unshare_this_thread().unwrap();
            let mut sync = Sync::new(Kernel::open().unwrap(), vec![Family::Ip], node());
            let one = |n: u32, ends: &[(&str, &str, Value)]| {
                let ip = IpAddr::from((u32::from_be_bytes([10, 96, 0, 0]) + 256 + n).to_be_bytes());
                service(&format!("s{n}"), json!({"clusterIPs": [ip]}), json!({}), ends)
            };
            let ends = [ready("10.244.0.2", "n1"), ready("10.244.1.3", "n2"), ready("10.244.1.4", "n2")];
            let all: Vec<_> = (0..10_000).map(|n| one(n, &ends)).map(|s| (s.key.clone(), Some(s))).collect();
            let start = std::time::Instant::now();
            sync.apply(all).unwrap();
            println!("first sync of 10,000 Services with 3 endpoints: {:?}", start.elapsed());
            let mut times: Vec<_> = (0..50)
                .map(|n| {
                    let changed = one(n, &ends[..2]);
                    let start = std::time::Instant::now();
                    sync.apply(vec![(changed.key.clone(), Some(changed))]).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort();
            println!("one endpoint less: {:?} median", times[25]);
        });
    });
}
