//! The packet rules of the pod network, as a pure function of what is set up.

use std::net::IpAddr;

use kernel::net::Cidr;
use kernel::nft::{
    Family, Field, Hook, HookKind, HookPoint, Key, Op, Set, SetKind, Stmt, Table, Type, Value, Verdict,
};

use crate::Entry;

pub(crate) const TABLE: &str = "r8s-pods";

const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const RAW: i32 = -300;

/// The table of one family. `own` are the node's pod CIDRs, `cluster` those of the whole cluster (traffic to them
/// keeps its source address); both may hold networks of either family.
pub(crate) fn render<'a>(
    family: Family,
    bridge: &str,
    own: &[Cidr],
    cluster: &[Cidr],
    entries: impl Iterator<Item = &'a Entry>,
) -> Table {
    let v4 = family == Family::Ip;
    let addr = family.address();
    let mut table = Table::new(family, TABLE);

    let nets = |list: &[Cidr]| {
        let mut set = Set::new(&[addr], SetKind::Plain);
        set.interval = true;
        // Networks are nested or apart: only the outermost go into the set, which takes no overlap.
        let mut seen: Vec<Cidr> = Vec::new();
        let mut sorted: Vec<Cidr> = list.iter().filter(|c| c.is_ipv4() == v4).map(Cidr::network).collect();
        sorted.sort_by_key(|c| c.len);
        for net in sorted {
            if !seen.iter().any(|s| s.contains(net.addr)) {
                seen.push(net);
                set.elements.insert(Key::new().net(net), Value::None);
            }
        }
        set
    };
    let multicast: Cidr = if v4 {
        Cidr::new([224, 0, 0, 0].into(), 4)
    } else {
        Cidr::new([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8)
    };
    table.set("own-pods", nets(own));
    table.set("cluster-nets", nets(&[own, cluster, &[multicast]].concat()));

    let data = SetKind::Data(vec![addr, Type::Port]);
    let mut ports = Set::new(&[Type::Proto, Type::Port], data.clone());
    let mut ip_ports = Set::new(&[addr, Type::Proto, Type::Port], data);
    let mut hairpin = Set::new(&[addr, addr], SetKind::Plain);
    for entry in entries {
        let Some(pod) = entry.ips.iter().find(|ip| ip.is_ipv4() == v4) else { continue };
        for port in &entry.ports {
            let to = Value::Data(Key::new().ip(*pod).port(port.pod_port));
            let key = |key: Key| key.proto(port.protocol).port(port.host_port);
            match port.host_ip {
                None => {
                    ports.elements.entry(key(Key::new())).or_insert(to);
                }
                Some(ip) if ip.is_ipv4() == v4 => {
                    ip_ports.elements.entry(key(Key::new().ip(ip))).or_insert(to);
                }
                Some(_) => continue,
            }
            hairpin.elements.insert(Key::new().ip(*pod).ip(*pod), Value::None);
        }
    }
    table.set("host-ports", ports);
    table.set("host-ip-ports", ip_ports);
    table.set("hairpin", hairpin);

    let dnat =
        |key: &[Field], map: &str| Stmt::DnatMap { key: key.to_vec(), map: map.into(), remember: None };
    table.chain(
        "host-ports",
        vec![
            vec![dnat(&[Field::Daddr, Field::L4Proto, Field::Dport], "host-ip-ports")],
            vec![dnat(&[Field::L4Proto, Field::Dport], "host-ports")],
        ],
    );
    let to_ports = vec![vec![Stmt::LocalDestination, Stmt::Verdict(Verdict::Goto("host-ports".into()))]];
    table.base_chain("prerouting", Hook::new(HookKind::Nat, HookPoint::Prerouting, DSTNAT), to_ports.clone());
    table.base_chain("output", Hook::new(HookKind::Nat, HookPoint::Output, DSTNAT), to_ports);

    let localhost: Cidr = if v4 {
        Cidr::new([127, 0, 0, 0].into(), 8)
    } else {
        Cidr::host(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))
    };
    let masquerade = Stmt::Masquerade { random: true };
    table.base_chain(
        "postrouting",
        Hook::new(HookKind::Nat, HookPoint::Postrouting, SRCNAT),
        vec![
            // A pod that reaches itself through a host port, and the host through its loopback address.
            vec![
                Stmt::CtDnat,
                Stmt::In { key: vec![Field::Saddr, Field::Daddr], op: Op::Is, set: "hairpin".into() },
                masquerade.clone(),
            ],
            vec![
                Stmt::Net { field: Field::Saddr, op: Op::Is, net: localhost },
                Stmt::OutInterface(Op::Is, bridge.into()),
                masquerade.clone(),
            ],
            // Out of the cluster pods speak with the node's address.
            vec![
                Stmt::In { key: vec![Field::Saddr], op: Op::Is, set: "own-pods".into() },
                Stmt::In { key: vec![Field::Daddr], op: Op::IsNot, set: "cluster-nets".into() },
                masquerade,
            ],
        ],
    );
    // The bridge routes loopback addresses for host ports; pods must not reach the host's loopback through it.
    table.base_chain(
        "guard-loopback",
        Hook::new(HookKind::Filter, HookPoint::Prerouting, RAW),
        vec![vec![
            Stmt::InInterface(Op::Is, bridge.into()),
            Stmt::Net { field: Field::Daddr, op: Op::Is, net: localhost },
            Stmt::Verdict(Verdict::Drop),
        ]],
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostPort;
    use kernel::nft::trace::{Outcome, Packet, World, walk};

    fn table() -> Table {
        let port = |host_ip: Option<&str>, host_port, pod_port| HostPort {
            protocol: 6,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            pod_port,
        };
        let entry = |n: u8, ports| Entry {
            sandbox: format!("s{n}"),
            pod: String::new(),
            netns: "/".into(),
            ips: vec![[10, 244, 0, n].into()],
            ports,
        };
        let entries = [
            entry(2, vec![port(None, 8080, 80)]),
            entry(3, vec![port(Some("127.0.0.1"), 9090, 90)]),
            entry(4, vec![port(Some("192.0.2.1"), 9090, 91)]),
        ];
        let own = ["10.244.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        render(Family::Ip, "r8s0", &own, &["10.244.0.0/16".parse().unwrap()], entries.iter())
    }

    /// (new destination, masqueraded)
    fn go(src: &str, dst: &str, dport: u16, hooks: &[HookPoint]) -> (String, bool) {
        let mut packet = Packet::new(src, dst, 6, dport);
        packet.oif = "r8s0".into();
        let mut world = World::default();
        world.local.insert("192.0.2.1".parse().unwrap());
        assert_eq!(walk(&table(), &mut packet, hooks, &mut world), Outcome::Accepted);
        (format!("{}:{}", packet.dst, packet.dport), packet.masqueraded)
    }

    #[test]
    fn host_ports() {
        use HookPoint::{Output, Postrouting, Prerouting};
        let from_out = [Prerouting, Postrouting];
        let from_host = [Output, Postrouting];
        assert_eq!(go("198.51.100.9", "192.0.2.1", 8080, &from_out), ("10.244.0.2:80".into(), false));
        assert_eq!(go("198.51.100.9", "192.0.2.1", 9090, &from_out), ("10.244.0.4:91".into(), false));
        assert_eq!(go("127.0.0.1", "127.0.0.1", 9090, &from_host), ("10.244.0.3:90".into(), true));
        assert_eq!(go("192.0.2.1", "127.0.0.1", 9090, &from_host), ("10.244.0.3:90".into(), false));
        assert_eq!(go("10.244.0.2", "192.0.2.1", 8080, &from_out), ("10.244.0.2:80".into(), true));
        // Not an address of the host: nobody's business.
        assert_eq!(go("10.244.0.2", "198.51.100.9", 8080, &from_out), ("198.51.100.9:8080".into(), true));
        assert_eq!(go("10.244.0.2", "10.244.9.9", 8080, &from_out), ("10.244.9.9:8080".into(), false));
    }

    #[test]
    fn pods_do_not_reach_the_hosts_loopback() {
        let mut packet = Packet::new("10.244.0.2", "127.0.0.1", 6, 6443);
        packet.iif = "r8s0".into();
        let end = walk(&table(), &mut packet, &[HookPoint::Prerouting], &mut World::default());
        assert_eq!(end, Outcome::Dropped);
    }
}
