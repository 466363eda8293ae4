//! The links: the bridge of the node and the veth pair of each pod.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use kernel::net::rtnl::Route;
use kernel::net::{Cidr, Error, Rtnl, sysctl};

/// The interface's name inside every pod.
const INSIDE: &str = "eth0";

/// Makes the bridge or adopts the one that is there; gives its index.
pub(crate) fn ensure_bridge(rtnl: &mut Rtnl, name: &str, mtu: u32, cidrs: &[Cidr]) -> Result<u32, Error> {
    // An address of its own keeps the bridge from taking over that of a port, which pods would have to learn again.
    match rtnl.add_bridge(name, mtu, cidrs.first().map(|c| mac_of(gateway(c)))) {
        Err(e) if e.is_exists() => {}
        other => other?,
    }
    let Some(link) = rtnl.link(name)? else {
        let what = format!("find bridge {name}");
        return Err(Error::Refused { what, errno: 19, why: String::new() });
    };
    if link.mtu != mtu {
        rtnl.set_mtu(link.index, mtu)?;
    }
    let wanted: Vec<Cidr> = cidrs.iter().map(|c| Cidr::new(gateway(c), c.len)).collect();
    for (index, present) in rtnl.addresses()? {
        let link_local = matches!(present.addr, IpAddr::V6(a) if a.is_unicast_link_local());
        if index == link.index && !link_local && !wanted.contains(&present) {
            rtnl.delete_address(index, present)?;
        }
    }
    for cidr in wanted {
        rtnl.add_address(link.index, cidr)?;
    }
    // Until the bridge's link-local address is past duplicate detection the kernel resolves no neighbour for packets
    // it forwards: the first pods would wait a second or two. Nobody else can have the address. (A kernel without
    // IPv6 has no such setting.)
    let _ = sysctl::set(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
    rtnl.set_up(link.index)?;
    Ok(link.index)
}

/// Settings of the host's network without which nothing is routed.
pub(crate) fn ensure_forwarding(bridge: &str, cidrs: &[Cidr]) -> io::Result<()> {
    if cidrs.iter().any(Cidr::is_ipv4) {
        sysctl::set("net/ipv4/ip_forward", "1")?;
        // Packets between pods come and go by the bridge; that is meant, no reason to tell the pods.
        sysctl::set("net/ipv4/conf/all/send_redirects", "0")?;
        sysctl::set(&format!("net/ipv4/conf/{bridge}/send_redirects"), "0")?;
        // Host ports at 127.0.0.1; the packet rules keep pods out of it.
        sysctl::set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    }
    if cidrs.iter().any(|c| !c.is_ipv4()) {
        sysctl::set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// The name of the host's end of a sandbox's veth pair; the same after a restart.
pub(crate) fn veth_name(sandbox: &str) -> String {
    // FNV-1a: stable over versions, and 44 bits are plenty for the pods of one node.
    let hash = sandbox
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("veth{:011x}", hash >> 20)
}

/// Connects a network namespace: loopback up, a veth pair, addresses, routes.
pub(crate) fn connect(
    host: &mut Rtnl,
    bridge: u32,
    mtu: u32,
    sandbox: &str,
    netns: &Path,
    cidrs: &[Cidr],
    ips: &[IpAddr],
) -> Result<(), Error> {
    let ns =
        File::open(netns).map_err(|source| Error::Socket { what: "open the network namespace", source })?;
    let veth = veth_name(sandbox);
    let mac = ips.first().map(|ip| mac_of(*ip));
    match host.add_veth(&veth, Some(bridge), INSIDE, ns.as_fd(), mtu, mac) {
        Err(e) if e.is_exists() => {
            // Left over from a setup that was cut short.
            host.delete_link(&veth)?;
            host.add_veth(&veth, Some(bridge), INSIDE, ns.as_fd(), mtu, mac)?;
        }
        other => other?,
    }
    // With br_netfilter loaded (Docker does) the bridge itself sends a pod's Service traffic back to the same pod.
    if let Some(port) = host.link(&veth)? {
        host.set_hairpin(port.index)?;
    }
    let mut pod = Rtnl::open_in(netns)?;
    let (mut lo, mut eth) = (1, 0);
    for link in pod.links()? {
        match link.name.as_str() {
            "lo" => lo = link.index,
            INSIDE => eth = link.index,
            _ => {}
        }
    }
    pod.set_up(lo)?;
    for ip in ips {
        pod.add_address(eth, Cidr::host(*ip))?;
    }
    pod.set_up(eth)?;
    for ip in ips {
        let Some(cidr) = cidrs.iter().find(|c| c.contains(*ip)) else { continue };
        let gateway = gateway(cidr);
        let mut link = Route::new(Cidr::host(gateway));
        link.dev = Some(eth);
        pod.replace_route(&link)?;
        let any: IpAddr = if ip.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
        let mut default = Route::new(Cidr::new(any, 0));
        (default.gateway, default.dev) = (Some(gateway), Some(eth));
        pod.replace_route(&default)?;
    }
    Ok(())
}

/// Takes the pair away; fine when it is gone (it goes with the pod's namespace).
pub(crate) fn disconnect(host: &mut Rtnl, sandbox: &str) -> Result<(), Error> {
    match host.delete_link(&veth_name(sandbox)) {
        Err(e) if e.is_absent() => Ok(()),
        other => other,
    }
}

/// The bridge's address in a pod CIDR: the first.
pub(crate) fn gateway(cidr: &Cidr) -> IpAddr {
    cidr.nth(1).unwrap_or(cidr.addr)
}

/// A hardware address that follows from the IP address, so that a reused address needs no new resolution.
pub(crate) fn mac_of(ip: IpAddr) -> [u8; 6] {
    let tail = match ip {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(a) => {
            let o = a.octets();
            [o[12], o[13], o[14], o[15]]
        }
    };
    [0x0a, 0x58, tail[0], tail[1], tail[2], tail[3]]
}
